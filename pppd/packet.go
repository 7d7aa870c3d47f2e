package pppd

import (
	"encoding/binary"
	"errors"
)

// PPP protocol numbers (RFC 1661 section 2 and the IANA registry) that this package answers or names.
const (
	ProtocolIPv4   = 0x0021
	ProtocolIPv6   = 0x0057
	ProtocolIPCP   = 0x8021
	ProtocolECP    = 0x8053
	ProtocolECPOne = 0x8055 // ECP for individual links, RFC 1968 section 2
	ProtocolIPv6CP = 0x8057
	ProtocolCCPOne = 0x80fb // CCP for individual links, RFC 1962 section 2
	ProtocolCCP    = 0x80fd
	ProtocolLCP    = 0xc021
	ProtocolPAP    = 0xc023
	ProtocolCHAP   = 0xc223
	ProtocolEAP    = 0xc227
)

// Codes of control packets. 1 to 7 are common to LCP and the NCPs, the rest is LCP's (RFC 1661 section 5, RFC 1570).
const (
	codeConfigureRequest = 1
	codeConfigureAck     = 2
	codeConfigureNak     = 3
	codeConfigureReject  = 4
	codeTerminateRequest = 5
	codeTerminateAck     = 6
	codeCodeReject       = 7
	codeProtocolReject   = 8
	codeEchoRequest      = 9
	codeEchoReply        = 10
	codeDiscardRequest   = 11
	codeIdentification   = 12
	codeTimeRemaining    = 13
)

const (
	packetHeader = 4 // code, identifier, length
	optionHeader = 2 // type, length
	// maxPacket bounds the control packets that are read and written, in bytes: RFC 1661 section 6.1 lets a peer
	// assume that 1500 can always be received, and nobody has reason for more.
	maxPacket = 1500
	// maxOptions bounds the options of one configuration packet. Windows, the most talkative client, sends eight.
	maxOptions = 64
)

// Errors of the decoders. Frames that cause them are dropped and counted, never answered (RFC 1661 section 5).
var (
	errShort   = errors.New("packet shorter than its header")
	errLength  = errors.New("length field does not fit the frame")
	errOptions = errors.New("option length does not fit the packet")
	errEAPCode = errors.New("EAP code out of range")
	errEAPType = errors.New("EAP packet without a type")
)

// packet is a control packet of LCP, an NCP, PAP, CHAP or EAP (RFC 1661 section 5, RFC 3748 section 4):
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Code      |  Identifier   |            Length             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Data ...
//	+-+-+-+-+
type packet struct {
	code uint8
	id   uint8
	data []byte // aliases the frame it was parsed from
}

// parsePacket reads a control packet; octets after its length are padding and ignored.
func parsePacket(b []byte) (packet, error) {
	if len(b) < packetHeader {
		return packet{}, errShort
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < packetHeader || n > len(b) || n > maxPacket {
		return packet{}, errLength
	}
	return packet{code: b[0], id: b[1], data: b[packetHeader:n:n]}, nil
}

// append adds the packet to b. Data beyond maxPacket is cut: only the rejects, which may cut (RFC 1661 sections 5.6 and
// 5.7), and echoes, whose length the caller has checked, can be that long.
func (p packet) append(b []byte) []byte {
	data := p.data[:min(len(p.data), maxPacket-packetHeader)]
	b = append(b, p.code, p.id)
	b = binary.BigEndian.AppendUint16(b, uint16(packetHeader+len(data)))
	return append(b, data...)
}

// option is one configuration option (RFC 1661 section 6): type, length, data.
type option struct {
	kind uint8
	data []byte // aliases the packet
}

// checkOptions says whether b is a sequence of at most maxOptions well-formed options, so that nextOption cannot fail.
func checkOptions(b []byte) error {
	for n := 0; len(b) > 0; n++ {
		if n == maxOptions || len(b) < optionHeader || int(b[1]) < optionHeader || int(b[1]) > len(b) {
			return errOptions
		}
		b = b[b[1]:]
	}
	return nil
}

// nextOption splits the first option off b, which checkOptions has accepted and which is not empty.
func nextOption(b []byte) (option, []byte) {
	n := int(b[1])
	return option{kind: b[0], data: b[optionHeader:n:n]}, b[n:]
}

// append adds the option to b. The caller keeps data within 253 octets.
func (o option) append(b []byte) []byte {
	b = append(b, o.kind, uint8(optionHeader+len(o.data)))
	return append(b, o.data...)
}

// uint16 and uint32 read a fixed-size option; ok is false when the size is another.
func (o option) uint16() (v uint16, ok bool) {
	if len(o.data) != 2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(o.data), true
}

func (o option) uint32() (v uint32, ok bool) {
	if len(o.data) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(o.data), true
}

func appendOption16(b []byte, kind uint8, v uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, kind, optionHeader+2), v)
}

func appendOption32(b []byte, kind uint8, v uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind, optionHeader+4), v)
}

// takeString splits a string with a length octet (PAP fields, CHAP values) off b.
func takeString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n:n], b[n:], true
}
