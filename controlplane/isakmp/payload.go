package isakmp

import (
	"encoding/binary"
	"fmt"
)

// MaxPayloads is how many payloads one message may have. The largest seen is an
// Apple client with 12 vendor IDs; a Windows client asks for every root
// certificate it knows.
const MaxPayloads = 128

// payloadHeaderLen is the length of the generic payload header.
const payloadHeaderLen = 4

// PayloadType is the type of a payload (RFC 2408 section 3.1).
type PayloadType uint8

// Payload types.
const (
	TypeNone        PayloadType = 0
	TypeSA          PayloadType = 1
	TypeProposal    PayloadType = 2 // inside SA only
	TypeTransform   PayloadType = 3 // inside a proposal only
	TypeKE          PayloadType = 4
	TypeID          PayloadType = 5
	TypeCert        PayloadType = 6
	TypeCertRequest PayloadType = 7
	TypeHash        PayloadType = 8
	TypeSignature   PayloadType = 9
	TypeNonce       PayloadType = 10
	TypeNotify      PayloadType = 11
	TypeDelete      PayloadType = 12
	TypeVendorID    PayloadType = 13
	TypeAttributes  PayloadType = 14 // mode config and XAuth
	TypeNATDApple   PayloadType = 15 // NAT-D of the NAT-T drafts 04 to 08 and of Apple's "nat-t-ike"
	TypeNATOAApple  PayloadType = 16 // NAT-OA of those drafts
	TypeNATD        PayloadType = 20 // RFC 3947
	TypeNATOA       PayloadType = 21 // RFC 3947
	TypeNATDDraft   PayloadType = 130
	TypeNATOADraft  PayloadType = 131
	TypeFragment    PayloadType = 132
)

// String names the payload as RFC 2408 does.
func (t PayloadType) String() string {
	switch t {
	case TypeNone:
		return "none"
	case TypeSA:
		return "SA"
	case TypeProposal:
		return "proposal"
	case TypeTransform:
		return "transform"
	case TypeKE:
		return "KE"
	case TypeID:
		return "ID"
	case TypeCert:
		return "CERT"
	case TypeCertRequest:
		return "CERTREQ"
	case TypeHash:
		return "HASH"
	case TypeSignature:
		return "SIG"
	case TypeNonce:
		return "NONCE"
	case TypeNotify:
		return "NOTIFY"
	case TypeDelete:
		return "DELETE"
	case TypeVendorID:
		return "VID"
	case TypeAttributes:
		return "ATTR"
	case TypeNATDApple:
		return "NAT-D(15)"
	case TypeNATOAApple:
		return "NAT-OA(16)"
	case TypeNATD:
		return "NAT-D"
	case TypeNATOA:
		return "NAT-OA"
	case TypeNATDDraft:
		return "NAT-D(130)"
	case TypeNATOADraft:
		return "NAT-OA(131)"
	case TypeFragment:
		return "FRAGMENT"
	}
	return fmt.Sprintf("payload(%d)", uint8(t))
}

// known tells whether the number has a meaning to this package. Others are
// carried along and never refused (RFC 2408 leaves 128 to 255 to vendors).
func (t PayloadType) known() bool {
	switch t {
	case TypeProposal, TypeTransform, TypeNATDApple, TypeNATOAApple, TypeNATD, TypeNATOA,
		TypeNATDDraft, TypeNATOADraft, TypeFragment:
		return true
	}
	return t >= TypeSA && t <= TypeAttributes
}

// IsNATD tells whether the payload is a NAT-D payload of any draft.
func (t PayloadType) IsNATD() bool {
	return t == TypeNATD || t == TypeNATDDraft || t == TypeNATDApple
}

// IsNATOA tells whether the payload is a NAT-OA payload of any draft.
func (t PayloadType) IsNATOA() bool {
	return t == TypeNATOA || t == TypeNATOADraft || t == TypeNATOAApple
}

// Payload is one payload of a message: its type and the exact bytes behind the
// generic header. A received one aliases the message. Payloads that are mere
// bytes (KE, HASH, SIG, NONCE, VID, NAT-D) are used as they are; the others have
// a decoder: SA, ID, Notify, Delete, Cert, CertRequest, Attributes, NATOA,
// Fragment.
//
//	+---------------+---------------+-------------------------------+
//	| Next Payload  |   RESERVED    |         Payload Length        |
//	+---------------+---------------+-------------------------------+
type Payload struct {
	Type PayloadType
	Body []byte
}

// ParsePayloads cuts a body into its payloads. first is the type from the
// header. Bytes behind the last payload are padding and ignored whatever their
// value (RFC 2409 appendix B pads with zeros, racoon with random bytes). A
// reserved byte that is not zero is an error (RFC 2408 section 5.3), which after
// decryption usually means the wrong key. The result aliases body.
func ParsePayloads(first PayloadType, body []byte) ([]Payload, error) {
	n := 0
	for t, rest := first, body; t != TypeNone; n++ {
		if n == MaxPayloads {
			return nil, malformed(PayloadMalformed, "message", "more than %d payloads", MaxPayloads)
		}
		if len(rest) < payloadHeaderLen {
			return nil, malformed(PayloadMalformed, t.String(), "%d bytes left for its header", len(rest))
		}
		l := int(binary.BigEndian.Uint16(rest[2:]))
		switch {
		case rest[1] != 0:
			return nil, malformed(PayloadMalformed, t.String(), "reserved byte %d", rest[1])
		case l < payloadHeaderLen || l > len(rest):
			return nil, malformed(PayloadMalformed, t.String(), "length %d of %d bytes left", l, len(rest))
		}
		t, rest = PayloadType(rest[0]), rest[l:]
	}
	// The chain is sound: the second walk only cuts, into a slice of the right
	// size.
	if n == 0 {
		return nil, nil
	}
	ps := make([]Payload, n)
	t, rest := first, body
	for i := range ps {
		l := int(binary.BigEndian.Uint16(rest[2:]))
		ps[i] = Payload{Type: t, Body: rest[payloadHeaderLen:l:l]}
		t, rest = PayloadType(rest[0]), rest[l:]
	}
	return ps, nil
}

// AppendPayloads appends the chain of payloads with their generic headers, as
// it is hashed and encrypted. It panics if a body is longer than 65531 bytes,
// which no payload made of checked parts is.
func AppendPayloads(dst []byte, ps []Payload) []byte {
	for i, p := range ps {
		dst = appendGeneric(dst, First(ps[i+1:]), p.Body)
	}
	return dst
}

// appendGeneric appends one payload with its generic header.
func appendGeneric(dst []byte, next PayloadType, body []byte) []byte {
	n := payloadHeaderLen + len(body)
	if n > 0xffff {
		panic(fmt.Sprintf("isakmp: payload of %d bytes", n))
	}
	dst = append(dst, byte(next), 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	return append(dst, body...)
}

// chainLen is the length of the payloads with their headers.
func chainLen(ps []Payload) int {
	n := 0
	for _, p := range ps {
		n += payloadHeaderLen + len(p.Body)
	}
	return n
}

// First returns the type of the first payload, TypeNone if there is none.
func First(ps []Payload) PayloadType {
	if len(ps) == 0 {
		return TypeNone
	}
	return ps[0].Type
}

// Find returns the first payload of the type.
func Find(ps []Payload, t PayloadType) (Payload, bool) {
	for _, p := range ps {
		if p.Type == t {
			return p, true
		}
	}
	return Payload{}, false
}

// All returns every payload of the type, in order.
func All(ps []Payload, t PayloadType) []Payload {
	var out []Payload
	for _, p := range ps {
		if p.Type == t {
			out = append(out, p)
		}
	}
	return out
}

// expect guards the decoders against a payload of another type, which is a bug
// of the caller and reported as such.
func (p Payload) expect(t PayloadType) error {
	if p.Type != t {
		return &Error{Notify: InvalidPayloadType, Reason: ReasonPayload, Where: t.String(),
			Err: fmt.Errorf("payload is %v", p.Type)}
	}
	return nil
}
