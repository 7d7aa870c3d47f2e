package l2tp

import (
	"crypto/md5"
	"encoding/binary"
	"errors"

	"vrgate/controlplane/keymat"
)

// An AVP, RFC 2661 section 4.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|H| rsvd  |      Length       |           Vendor ID           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|         Attribute Type        |        Attribute Value...
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
const (
	avpHeaderLen = 6
	avpMaxLen    = 0x03ff                   // of the 10-bit length field, header included
	avpMaxValue  = avpMaxLen - avpHeaderLen // bytes of value that fit into one AVP

	avpBitMandatory = 0x8000
	avpBitHidden    = 0x4000
	avpMaskReserved = 0x3c00
)

// avp is one attribute as it stands on the wire. value aliases the datagram.
type avp struct {
	mandatory bool
	hidden    bool
	reserved  uint8 // the four reserved bits; when not zero the AVP counts as unrecognised (section 4.1)
	vendor    uint16
	typ       attribute
	value     []byte
}

var (
	errAVPShort  = errors.New("l2tp: AVP cut off")
	errAVPLength = errors.New("l2tp: AVP length smaller than its header or larger than the message")
	errHidden    = errors.New("l2tp: hidden AVP with an impossible length")
)

// parseAVP takes the first AVP off b.
func parseAVP(b []byte) (a avp, rest []byte, err error) {
	if len(b) < avpHeaderLen {
		return a, nil, errAVPShort
	}
	bits := binary.BigEndian.Uint16(b)
	n := int(bits & avpMaxLen)
	if n < avpHeaderLen || n > len(b) {
		return a, nil, errAVPLength
	}
	a.mandatory = bits&avpBitMandatory != 0
	a.hidden = bits&avpBitHidden != 0
	a.reserved = uint8(bits & avpMaskReserved >> 10)
	a.vendor = binary.BigEndian.Uint16(b[2:])
	a.typ = attribute(binary.BigEndian.Uint16(b[4:]))
	a.value = b[avpHeaderLen:n:n]
	return a, b[n:], nil
}

// append appends the AVP as it stands. A value longer than avpMaxValue is cut: every caller's values are bounded below
// it, and a cut text is better than a message that no peer can parse.
func (a avp) append(b []byte) []byte {
	value := a.value
	if len(value) > avpMaxValue {
		value = value[:avpMaxValue]
	}
	bits := uint16(avpHeaderLen+len(value)) | uint16(a.reserved)<<10&avpMaskReserved
	if a.mandatory {
		bits |= avpBitMandatory
	}
	if a.hidden {
		bits |= avpBitHidden
	}
	b = binary.BigEndian.AppendUint16(b, bits)
	b = binary.BigEndian.AppendUint16(b, a.vendor)
	b = binary.BigEndian.AppendUint16(b, uint16(a.typ))
	return append(b, value...)
}

// hide encrypts an attribute's value with the tunnel's secret and the random vector sent before it (RFC 2661 section
// 4.3). pad bytes are taken from padding, which may be empty: they hide the value's length.
func hide(secret keymat.Secret, vector []byte, typ attribute, value, padding []byte) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(value)+len(padding)), uint16(len(value)))
	b = append(b, value...)
	b = append(b, padding...)
	pad := firstPad(secret, vector, typ)
	for at := 0; at < len(b); at += md5.Size {
		block := b[at:min(at+md5.Size, len(b))]
		for i := range block {
			block[i] ^= pad[i]
		}
		pad = nextPad(secret, block)
	}
	return b
}

// vectorLen is the size of our random vectors, in bytes.
const vectorLen = md5.Size

// hideAll returns a message with everything hidden that may be (RFC 2661 section 4.3): a Random Vector AVP behind the Message
// Type, then the rest, each hidden with it. Values of variable length are padded to whole blocks.
func hideAll(secret keymat.Secret, vector, body []byte) []byte {
	out := make([]byte, 0, 2*len(body)+avpHeaderLen+len(vector))
	for first := true; len(body) > 0; first = false {
		a, rest, err := parseAVP(body)
		if err != nil {
			return append(out, body...)
		}
		body = rest
		r := attributeRules[a.typ]
		if n := 2 + len(a.value); r.hideable && n <= avpMaxValue {
			var padding []byte
			if whole := (n + md5.Size - 1) / md5.Size * md5.Size; r.min != r.max && whole <= avpMaxValue {
				padding = make([]byte, whole-n)
			}
			a.hidden, a.value = true, hide(secret, vector, a.typ, a.value, padding)
		}
		out = a.append(out)
		if first {
			out = avp{mandatory: attributeRules[attrRandomVector].mandatory, typ: attrRandomVector, value: vector}.append(out)
		}
	}
	return out
}

// unhide is the inverse of hide: it returns the original value without its padding.
func unhide(secret keymat.Secret, vector []byte, typ attribute, hidden []byte) ([]byte, error) {
	if len(hidden) < 2 {
		return nil, errHidden
	}
	b := make([]byte, len(hidden))
	pad := firstPad(secret, vector, typ)
	for at := 0; at < len(hidden); at += md5.Size {
		block := hidden[at:min(at+md5.Size, len(hidden))]
		for i := range block {
			b[at+i] = block[i] ^ pad[i]
		}
		pad = nextPad(secret, block)
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, errHidden // most often: the secrets differ
	}
	return b[2 : 2+n], nil
}

func firstPad(secret keymat.Secret, vector []byte, typ attribute) [md5.Size]byte {
	b := make([]byte, 0, 2+len(secret)+len(vector))
	b = binary.BigEndian.AppendUint16(b, uint16(typ))
	b = append(b, secret.Reveal()...)
	b = append(b, vector...)
	return md5.Sum(b)
}

func nextPad(secret keymat.Secret, cipher []byte) [md5.Size]byte {
	b := make([]byte, 0, len(secret)+len(cipher))
	b = append(b, secret.Reveal()...)
	return md5.Sum(append(b, cipher...))
}

// challengeResponse computes the Challenge Response AVP (RFC 2661 section 4.4.3): MD5 over the type of the message that
// carries it, the secret and the peer's challenge.
func challengeResponse(carrier messageType, secret keymat.Secret, challenge []byte) []byte {
	b := make([]byte, 0, 1+len(secret)+len(challenge))
	b = append(b, byte(carrier))
	b = append(b, secret.Reveal()...)
	sum := md5.Sum(append(b, challenge...))
	return sum[:]
}
