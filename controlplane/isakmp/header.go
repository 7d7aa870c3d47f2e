package isakmp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Sizes and limits of whole messages.
const (
	HeaderLen  = 28    // of the ISAKMP header
	MaxMessage = 65535 // bytes of a message, reassembled ones included
	version1   = 0x10  // major 1, minor 0
)

// MarkerLen is the length of the non-ESP marker, four zero bytes in front of
// each IKE message on UDP port 4500 (RFC 3948 section 2.2). This package never
// sees it.
const MarkerLen = 4

// Cookie names one side of an ISAKMP SA.
type Cookie [8]byte

// IsZero tells whether the cookie is not set yet.
func (c Cookie) IsZero() bool { return c == Cookie{} }

// String returns the cookie as 16 hexadecimal digits.
func (c Cookie) String() string { return hex.EncodeToString(c[:]) }

// MarshalText returns String.
func (c Cookie) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads 16 hexadecimal digits.
func (c *Cookie) UnmarshalText(b []byte) error {
	if len(b) != 2*len(c) {
		return fmt.Errorf("isakmp: cookie of %d digits, want %d", len(b), 2*len(c))
	}
	_, err := hex.Decode(c[:], b)
	return err
}

// ExchangeType is the kind of an exchange (RFC 2408 section 3.1).
type ExchangeType uint8

// Exchange types.
const (
	IdentityProtection ExchangeType = 2 // main mode
	Aggressive         ExchangeType = 4
	Informational      ExchangeType = 5
	Transaction        ExchangeType = 6 // mode config, XAuth
	QuickMode          ExchangeType = 32
	NewGroupMode       ExchangeType = 33
)

// String names the exchange.
func (t ExchangeType) String() string {
	switch t {
	case 1:
		return "base"
	case IdentityProtection:
		return "main mode"
	case 3:
		return "authentication only"
	case Aggressive:
		return "aggressive mode"
	case Informational:
		return "informational"
	case Transaction:
		return "transaction"
	case QuickMode:
		return "quick mode"
	case NewGroupMode:
		return "new group mode"
	}
	return fmt.Sprintf("exchange(%d)", uint8(t))
}

// Flags of the header.
type Flags uint8

// Header flags (RFC 2408 section 3.1).
const (
	FlagEncrypted Flags = 1 << 0
	FlagCommit    Flags = 1 << 1
	FlagAuthOnly  Flags = 1 << 2
)

// String lists the flags by their RFC letters.
func (f Flags) String() string {
	s := ""
	for i, c := range "ECA" {
		if f&(1<<i) != 0 {
			s += string(c)
		}
	}
	if rest := f &^ 7; rest != 0 {
		s += fmt.Sprintf("+%#02x", uint8(rest))
	}
	if s == "" {
		return "-"
	}
	return s
}

// Header is the ISAKMP header.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                          Initiator Cookie                     |
//	|                                                               |
//	+---------------------------------------------------------------+
//	|                          Responder Cookie                     |
//	|                                                               |
//	+---------------+-------+-------+---------------+---------------+
//	|  Next Payload | MjVer | MnVer | Exchange Type |     Flags     |
//	+---------------+-------+-------+---------------+---------------+
//	|                          Message ID                           |
//	+---------------------------------------------------------------+
//	|                            Length                             |
//	+---------------------------------------------------------------+
//
// The length is not kept: it always is that of the message.
type Header struct {
	Initiator, Responder Cookie
	Next                 PayloadType // of the first payload; Message.Append sets it
	Version              uint8       // 0x10, which zero stands for when appended
	Exchange             ExchangeType
	Flags                Flags
	MessageID            uint32
}

// Encrypted tells whether the body is encrypted.
func (h Header) Encrypted() bool { return h.Flags&FlagEncrypted != 0 }

// ParseHeader reads the header of a datagram b and returns it and the body,
// which aliases b. The length field must be that of the datagram (RFC 2408
// section 5.1), the major version 1 and the initiator's cookie set. Unknown
// flags and exchange types pass.
func ParseHeader(b []byte) (Header, []byte, error) {
	if len(b) < HeaderLen {
		return Header{}, nil, malformed(UnequalPayloadLengths, "header", "message of %d bytes", len(b))
	}
	h := Header{
		Next:      PayloadType(b[16]),
		Version:   b[17],
		Exchange:  ExchangeType(b[18]),
		Flags:     Flags(b[19]),
		MessageID: binary.BigEndian.Uint32(b[20:]),
	}
	copy(h.Initiator[:], b)
	copy(h.Responder[:], b[8:])
	n := binary.BigEndian.Uint32(b[24:])
	switch {
	case h.Version>>4 != version1>>4:
		return h, nil, malformed(InvalidMajorVersion, "header", "version %d.%d", h.Version>>4, h.Version&15)
	case uint64(n) != uint64(len(b)) || n > MaxMessage:
		return h, nil, malformed(UnequalPayloadLengths, "header", "length field %d, datagram %d", n, len(b))
	case h.Initiator.IsZero():
		return h, nil, malformed(InvalidCookie, "header", "initiator cookie is zero")
	}
	return h, b[HeaderLen:], nil
}

// Append appends the header of a message with a body of bodyLen bytes.
func (h Header) Append(dst []byte, bodyLen int) []byte {
	if h.Version == 0 {
		h.Version = version1
	}
	dst = append(dst, h.Initiator[:]...)
	dst = append(dst, h.Responder[:]...)
	dst = append(dst, byte(h.Next), h.Version, byte(h.Exchange), byte(h.Flags))
	dst = binary.BigEndian.AppendUint32(dst, h.MessageID)
	return binary.BigEndian.AppendUint32(dst, uint32(HeaderLen+bodyLen))
}

// Message is one ISAKMP message that is not encrypted, or no longer.
type Message struct {
	Header   Header
	Payloads []Payload
}

// Parse reads a message in clear, header and payloads. An encrypted message is
// an error with the notify INVALID-FLAGS: use ParseHeader, decrypt the body and
// give it to ParsePayloads. Bytes behind the last payload are ignored, since
// libreswan pads every message to four bytes.
func Parse(b []byte) (Message, error) {
	h, body, err := ParseHeader(b)
	if err != nil {
		return Message{Header: h}, err
	}
	if h.Encrypted() {
		return Message{Header: h}, malformed(InvalidFlags, "header", "encrypted message")
	}
	ps, err := ParsePayloads(h.Next, body)
	return Message{Header: h, Payloads: ps}, err
}

// Append appends the message in clear; Header.Next is taken from the payloads.
func (m Message) Append(dst []byte) []byte {
	h := m.Header
	h.Next = First(m.Payloads)
	dst = h.Append(dst, chainLen(m.Payloads))
	return AppendPayloads(dst, m.Payloads)
}

// AppendEncrypted appends a message whose body is the ciphertext of payloads
// that start with one of type first. It sets the encryption flag.
func AppendEncrypted(dst []byte, h Header, first PayloadType, ciphertext []byte) []byte {
	h.Next = first
	h.Flags |= FlagEncrypted
	dst = h.Append(dst, len(ciphertext))
	return append(dst, ciphertext...)
}
