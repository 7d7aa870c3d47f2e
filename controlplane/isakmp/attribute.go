package isakmp

import (
	"encoding/binary"
	"fmt"
)

// Attribute is a data attribute (RFC 2408 section 3.3).
//
//	+-+-------------------------------------------------------------+
//	|A|       Attribute Type        |    AF=0  Attribute Length     |
//	|F|                             |    AF=1  Attribute Value      |
//	+-+-------------------------------------------------------------+
//	|                   AF=0  Attribute Value                       |
//
// Which form a number has is the sender's choice: Windows sends every lifetime
// in the long form, racoon short ones in the short form.
type Attribute struct {
	Type  uint16 // without the format bit, at most 32767
	Short bool   // short form: Value has two bytes
	Value []byte
}

const attributeFormat = 0x8000

// ShortAttribute makes an attribute in the short form.
func ShortAttribute(typ, value uint16) Attribute {
	return Attribute{Type: typ, Short: true, Value: binary.BigEndian.AppendUint16(nil, value)}
}

// LongAttribute makes an attribute of four bytes in the long form, as lifetimes
// are sent.
func LongAttribute(typ uint16, value uint32) Attribute {
	return Attribute{Type: typ, Value: binary.BigEndian.AppendUint32(nil, value)}
}

// NumberAttribute makes an attribute in the short form if the value fits, else
// in the long form.
func NumberAttribute(typ uint16, value uint32) Attribute {
	if value <= 0xffff {
		return ShortAttribute(typ, uint16(value))
	}
	return LongAttribute(typ, value)
}

// Uint returns the value as a number, whichever form and length it has. ok is
// false if it is empty or needs more than 64 bits.
func (a Attribute) Uint() (v uint64, ok bool) {
	b := a.Value
	for len(b) > 8 {
		if b[0] != 0 {
			return 0, false
		}
		b = b[1:]
	}
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v, len(b) > 0
}

// Uint16 returns the value as a number of 16 bits; ok is false if it is none.
func (a Attribute) Uint16() (v uint16, ok bool) {
	n, ok := a.Uint()
	if !ok || n > 0xffff {
		return 0, false
	}
	return uint16(n), true
}

// String shows type and value, for the log of an offer. Values of mode config
// attributes may be passwords: AttributeSet does not use it.
func (a Attribute) String() string {
	if v, ok := a.Uint(); ok {
		return fmt.Sprintf("%d=%d", a.Type, v)
	}
	return fmt.Sprintf("%d=(%d bytes)", a.Type, len(a.Value))
}

// parseAttributes reads attributes up to the end of b, aliasing it.
func parseAttributes(b []byte) ([]Attribute, error) {
	n := 0
	for rest := b; len(rest) > 0; n++ {
		if n == MaxAttributes {
			return nil, tooMany(BadProposalSyntax, "attributes", MaxAttributes)
		}
		if len(rest) < 4 {
			return nil, malformed(BadProposalSyntax, "attribute", "%d bytes left for it", len(rest))
		}
		l := 4
		if rest[0]&0x80 == 0 {
			l += int(binary.BigEndian.Uint16(rest[2:]))
		}
		if l > len(rest) {
			return nil, malformed(BadProposalSyntax, "attribute", "length %d of %d bytes left", l, len(rest))
		}
		rest = rest[l:]
	}
	if n == 0 {
		return nil, nil
	}
	as := make([]Attribute, n)
	for i := range as {
		t := binary.BigEndian.Uint16(b)
		a := Attribute{Type: t &^ attributeFormat, Short: t&attributeFormat != 0, Value: b[2:4:4]}
		l := 4
		if !a.Short {
			l += int(binary.BigEndian.Uint16(b[2:]))
			a.Value = b[4:l:l]
		}
		as[i], b = a, b[l:]
	}
	return as, nil
}

// appendAttributes appends attributes. It panics if a type has the format bit,
// a short value not two bytes or a long one more than 65535.
func appendAttributes(dst []byte, as []Attribute) []byte {
	if len(as) > MaxAttributes {
		panic("isakmp: too many attributes")
	}
	for _, a := range as {
		if a.Type&attributeFormat != 0 || a.Short && len(a.Value) != 2 || len(a.Value) > 0xffff {
			panic(fmt.Sprintf("isakmp: attribute %d cannot be encoded", a.Type))
		}
		if a.Short {
			dst = binary.BigEndian.AppendUint16(dst, a.Type|attributeFormat)
		} else {
			dst = binary.BigEndian.AppendUint16(dst, a.Type)
			dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Value)))
		}
		dst = append(dst, a.Value...)
	}
	return dst
}
