package radius

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	rad "layeh.com/radius"

	"vrgate/controlplane/keymat"
)

// MaxPacket is the most that a RADIUS packet may have, in bytes (RFC 2865 section 3).
const MaxPacket = rad.MaxPacketLength

// MaxPassword is the most that User-Password can hide, in bytes (RFC 2865 section 5.2).
const MaxPassword = 128

const (
	headerLen        = 20
	authenticatorAt  = 4
	authenticatorLen = 16

	attrUserPassword         rad.Type = 2
	attrNASIPAddress         rad.Type = 4
	attrNASIdentifier        rad.Type = 32
	attrAcctDelayTime        rad.Type = 41
	attrMessageAuthenticator rad.Type = 80
	attrNASIPv6Address       rad.Type = 95
)

// Authenticator is the 16 bytes in a packet's header.
type Authenticator = [authenticatorLen]byte

// Why a packet is refused. Nothing of a refused packet is used.
var (
	ErrBadAuthenticator       = errors.New("RADIUS packet: the authenticator is wrong")
	ErrBadMessageAuth         = errors.New("RADIUS packet: Message-Authenticator is wrong")
	ErrNoMessageAuthenticator = errors.New("RADIUS packet: Message-Authenticator is missing")
	// ErrCode: the packet is not of a kind that is expected here.
	ErrCode = errors.New("RADIUS packet: unexpected code")
)

// MalformedError says what is wrong with a packet's lengths.
type MalformedError struct{ Text string }

// Error returns the sentence.
func (e *MalformedError) Error() string { return "RADIUS packet: " + e.Text }

func malformed(format string, args ...any) error {
	return &MalformedError{fmt.Sprintf(format, args...)}
}

// SignRequest encodes a request of ours. Access-Request and Status-Server go with p's authenticator, which must be
// random, and with Message-Authenticator as the first attribute (RFC 3579 section 3.2, RFC 5997 section 3); password,
// unless nil, is appended as User-Password. Accounting-Request (RFC 2866 section 3), CoA-Request and Disconnect-Request
// (RFC 5176 section 2.3) get the authenticator that follows from their content; those of RFC 5176 have
// Message-Authenticator too. A Message-Authenticator among p's attributes is left out. The error is a *MalformedError
// or ErrCode.
func SignRequest(p *rad.Packet, password keymat.Secret) ([]byte, error) {
	var signed, derived bool
	switch p.Code {
	case rad.CodeAccessRequest, rad.CodeStatusServer:
		signed = true
	case rad.CodeAccountingRequest:
		derived = true
	case rad.CodeCoARequest, rad.CodeDisconnectRequest:
		signed, derived = true, true
	default:
		return nil, ErrCode
	}
	b, err := encode(p, signed)
	if err != nil {
		return nil, err
	}
	if password != nil {
		hidden, err := hidePassword(password, p.Secret, p.Authenticator)
		if err != nil {
			return nil, err
		}
		b = append(b, byte(attrUserPassword), byte(2+len(hidden)))
		b = append(b, hidden...)
	}
	if len(b) > MaxPacket {
		return nil, malformed("%d bytes, at most %d", len(b), MaxPacket)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if !derived {
		copy(b[authenticatorAt:], p.Authenticator[:])
	}
	if signed { // over zeros where the authenticator is derived
		sum := messageAuthenticator(b, [authenticatorLen]byte(b[authenticatorAt:]), headerLen, p.Secret)
		copy(b[headerLen+2:], sum)
	}
	if derived {
		sum := authenticatorOf(b, Authenticator{}, p.Secret)
		copy(b[authenticatorAt:], sum[:])
	}
	return b, nil
}

// SignAnswer encodes an answer. p has the identifier and the authenticator of the request that it answers, as
// rad.Packet.Response makes it. Message-Authenticator is the first attribute; one among p's attributes is left out.
// The error is a *MalformedError.
func SignAnswer(p *rad.Packet) ([]byte, error) {
	b, err := encode(p, true)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxPacket {
		return nil, malformed("%d bytes, at most %d", len(b), MaxPacket)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[headerLen+2:], messageAuthenticator(b, p.Authenticator, headerLen, p.Secret))
	sum := authenticatorOf(b, p.Authenticator, p.Secret)
	copy(b[authenticatorAt:], sum[:])
	return b, nil
}

// encode lays out header and attributes, the authenticator and Message-Authenticator as zeros.
func encode(p *rad.Packet, signed bool) ([]byte, error) {
	b := make([]byte, headerLen, 512)
	b[0], b[1] = byte(p.Code), p.Identifier
	if signed {
		b = append(b, byte(attrMessageAuthenticator), 2+md5.Size)
		b = append(b, make([]byte, md5.Size)...)
	}
	for _, a := range p.Attributes {
		switch {
		case a.Type == attrMessageAuthenticator:
			continue
		case a.Type < 1 || a.Type > 255:
			return nil, malformed("there is no attribute %d", a.Type)
		case len(a.Attribute) > 253:
			return nil, malformed("attribute %d has %d bytes, at most 253", a.Type, len(a.Attribute))
		}
		b = append(b, byte(a.Type), byte(2+len(a.Attribute)))
		b = append(b, a.Attribute...)
	}
	return b, nil
}

// VerifyRequest parses and checks a request that came to us by RFC 5176 or RFC 2866: lengths, authenticator, and
// Message-Authenticator where it is present or needed. Access-Request and Status-Server are checked by
// Message-Authenticator alone, their authenticator is random. Bytes behind the packet's length are padding. The packet
// aliases secret but not data. The error is a *MalformedError, ErrCode, ErrBadAuthenticator, ErrBadMessageAuth or
// ErrNoMessageAuthenticator.
func VerifyRequest(data []byte, secret keymat.Secret, needMessageAuthenticator bool) (*rad.Packet, error) {
	data, at, err := frame(data)
	if err != nil {
		return nil, err
	}
	derived := false
	switch rad.Code(data[0]) {
	case rad.CodeAccessRequest, rad.CodeStatusServer:
	case rad.CodeAccountingRequest, rad.CodeCoARequest, rad.CodeDisconnectRequest:
		derived = true
		sum := authenticatorOf(data, Authenticator{}, secret)
		if subtle.ConstantTimeCompare(sum[:], data[authenticatorAt:headerLen]) != 1 {
			return nil, ErrBadAuthenticator
		}
	default:
		return nil, ErrCode
	}
	under := Authenticator{}
	if !derived {
		under = Authenticator(data[authenticatorAt:headerLen])
	}
	if err := checkMessageAuthenticator(data, under, at, secret, needMessageAuthenticator); err != nil {
		return nil, err
	}
	return parsed(data, secret)
}

// VerifyAnswer parses and checks an answer to the request that had the given identifier's authenticator: lengths,
// response authenticator, and Message-Authenticator where it is present or needed. The packet aliases secret but not
// data. The error is a *MalformedError, ErrBadAuthenticator, ErrBadMessageAuth or ErrNoMessageAuthenticator.
func VerifyAnswer(data []byte, request Authenticator, secret keymat.Secret, needMessageAuthenticator bool) (*rad.Packet, error) {
	data, at, err := frame(data)
	if err != nil {
		return nil, err
	}
	sum := authenticatorOf(data, request, secret)
	if subtle.ConstantTimeCompare(sum[:], data[authenticatorAt:headerLen]) != 1 {
		return nil, ErrBadAuthenticator
	}
	if err := checkMessageAuthenticator(data, request, at, secret, needMessageAuthenticator); err != nil {
		return nil, err
	}
	return parsed(data, secret)
}

// frame checks all lengths, cuts padding off and finds Message-Authenticator; at is 0 where there is none.
func frame(data []byte) (packet []byte, at int, err error) {
	if len(data) < headerLen {
		return nil, 0, malformed("%d bytes, at least %d", len(data), headerLen)
	}
	n := int(binary.BigEndian.Uint16(data[2:]))
	switch {
	case n < headerLen:
		return nil, 0, malformed("length %d, at least %d", n, headerLen)
	case n > MaxPacket, len(data) > MaxPacket:
		return nil, 0, malformed("length %d in %d bytes, at most %d", n, len(data), MaxPacket)
	case n > len(data):
		return nil, 0, malformed("length %d, but %d bytes came", n, len(data))
	}
	data = data[:n]
	for i := headerLen; i < n; {
		if n-i < 2 {
			return nil, 0, malformed("half an attribute at the end")
		}
		size := int(data[i+1])
		if size < 2 || size > n-i {
			return nil, 0, malformed("attribute %d of length %d, with %d bytes left", data[i], size, n-i)
		}
		if rad.Type(data[i]) == attrMessageAuthenticator {
			// Two of them would leave open which one counts.
			if at != 0 || size != 2+md5.Size {
				return nil, 0, malformed("Message-Authenticator is there twice, or not of %d bytes", 2+md5.Size)
			}
			at = i
		}
		i += size
	}
	return data, at, nil
}

// checkMessageAuthenticator checks the attribute at offset at, 0 if there is none.
func checkMessageAuthenticator(data []byte, under Authenticator, at int, secret keymat.Secret, needed bool) error {
	if at == 0 {
		if needed {
			return ErrNoMessageAuthenticator
		}
		return nil
	}
	sum := messageAuthenticator(data, under, at, secret)
	if subtle.ConstantTimeCompare(sum, data[at+2:at+2+md5.Size]) != 1 {
		return ErrBadMessageAuth
	}
	return nil
}

func parsed(data []byte, secret keymat.Secret) (*rad.Packet, error) {
	p, err := rad.Parse(data, secret)
	if err != nil {
		return nil, malformed("%v", err)
	}
	return p, nil
}

// messageAuthenticator is HMAC-MD5 over the packet with under as its authenticator and zeros for the attribute's own
// value at offset at (RFC 3579 section 3.2).
func messageAuthenticator(b []byte, under Authenticator, at int, secret keymat.Secret) []byte {
	var zeros [md5.Size]byte
	h := hmac.New(md5.New, secret)
	h.Write(b[:authenticatorAt])
	h.Write(under[:])
	h.Write(b[headerLen : at+2])
	h.Write(zeros[:])
	h.Write(b[at+2+md5.Size:])
	return h.Sum(nil)
}

// authenticatorOf is the response authenticator of RFC 2865 section 3 with the request's authenticator as under, and
// with zeros the request authenticator of RFC 2866 section 3.
func authenticatorOf(b []byte, under Authenticator, secret keymat.Secret) (sum Authenticator) {
	h := md5.New()
	h.Write(b[:authenticatorAt])
	h.Write(under[:])
	h.Write(b[headerLen:])
	h.Write(secret)
	h.Sum(sum[:0])
	return sum
}

// hidePassword is RFC 2865 section 5.2. An empty password hides as 16 bytes.
func hidePassword(password, secret keymat.Secret, under Authenticator) ([]byte, error) {
	if len(password) > MaxPassword {
		return nil, malformed("a password of %d bytes, at most %d", len(password), MaxPassword)
	}
	out := make([]byte, max(1, (len(password)+15)/16)*16)
	copy(out, password)
	last := under[:]
	for i := 0; i < len(out); i += 16 {
		h := md5.New()
		h.Write(secret)
		h.Write(last)
		subtle.XORBytes(out[i:], out[i:i+16], h.Sum(nil))
		last = out[i : i+16]
	}
	return out, nil
}
