package l2tp

import (
	"encoding/binary"
	"errors"
)

// Bits of the first 16 bits of every L2TP header, RFC 2661 section 3.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|T|L|x|x|S|x|O|P|x|x|x|x|  Ver  |          Length (opt)         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           Tunnel ID           |           Session ID          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|             Ns (opt)          |             Nr (opt)          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|      Offset Size (opt)        |    Offset pad... (opt)
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
const (
	bitControl  = 0x8000
	bitLength   = 0x4000
	bitSequence = 0x0800
	bitOffset   = 0x0200
	bitPriority = 0x0100
	maskVersion = 0x000f

	version2 = 2
)

// controlHeaderLen is the size of every control header: the T, L and S bits are always set.
const controlHeaderLen = 12

// maxControlMessage bounds a control datagram that is taken in, in bytes. The largest real ones (ICCN with proxied
// LCP and CHAP) stay below 1 KiB; the bound limits what out-of-order messages can hold in memory.
const maxControlMessage = 4096

// header is a parsed L2TP header.
type header struct {
	control   bool
	sequenced bool // ns and nr are present
	priority  bool
	tunnel    TunnelID
	session   SessionID
	ns, nr    uint16
}

// Errors of parseHeader. The peer gets no answer to any of them: RFC 2661 section 3.1 has such packets discarded.
var (
	errShortHeader = errors.New("l2tp: datagram shorter than its header")
	errVersion     = errors.New("l2tp: not version 2")
	errLength      = errors.New("l2tp: length field smaller than the header or larger than the datagram")
	errControlBits = errors.New("l2tp: control header without length or sequence, or with offset or priority")
	errOffset      = errors.New("l2tp: offset points behind the end")
)

// parseHeader splits a datagram into its header and what follows, which aliases b. Bytes behind the length field's end
// are cut off: some peers pad.
func parseHeader(b []byte) (h header, body []byte, err error) {
	if len(b) < 6 {
		return h, nil, errShortHeader
	}
	bits := binary.BigEndian.Uint16(b)
	if bits&maskVersion != version2 {
		return h, nil, errVersion
	}
	h.control = bits&bitControl != 0
	h.sequenced = bits&bitSequence != 0
	h.priority = bits&bitPriority != 0
	if h.control && (bits&bitLength == 0 || !h.sequenced || bits&(bitOffset|bitPriority) != 0) {
		return h, nil, errControlBits
	}
	at := 2
	if bits&bitLength != 0 {
		n := int(binary.BigEndian.Uint16(b[at:]))
		at += 2
		if n > len(b) || n < at+4 {
			return h, nil, errLength
		}
		b = b[:n]
	}
	if len(b) < at+4 {
		return h, nil, errShortHeader
	}
	h.tunnel = TunnelID(binary.BigEndian.Uint16(b[at:]))
	h.session = SessionID(binary.BigEndian.Uint16(b[at+2:]))
	at += 4
	if h.sequenced {
		if len(b) < at+4 {
			return h, nil, errShortHeader
		}
		h.ns = binary.BigEndian.Uint16(b[at:])
		h.nr = binary.BigEndian.Uint16(b[at+2:])
		at += 4
	}
	if bits&bitOffset != 0 {
		if len(b) < at+2 {
			return h, nil, errShortHeader
		}
		at += 2 + int(binary.BigEndian.Uint16(b[at:]))
		if at > len(b) {
			return h, nil, errOffset
		}
	}
	return h, b[at:], nil
}

// appendControl appends a control packet: header and AVPs. Clients such as Android's mtpd drop a packet whose length
// field differs from the datagram's or that has any other bit set, so there is exactly one form.
func appendControl(b []byte, tunnel TunnelID, session SessionID, ns, nr uint16, avps []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, bitControl|bitLength|bitSequence|version2)
	b = binary.BigEndian.AppendUint16(b, uint16(controlHeaderLen+len(avps)))
	b = binary.BigEndian.AppendUint16(b, uint16(tunnel))
	b = binary.BigEndian.AppendUint16(b, uint16(session))
	b = binary.BigEndian.AppendUint16(b, ns)
	b = binary.BigEndian.AppendUint16(b, nr)
	return append(b, avps...)
}

// appendData appends a data packet with a PPP frame: no length field, because Linux sends none either, and the address
// and control bytes FF 03, because Windows expects them until it has negotiated their compression.
// Sequence numbers are sent only when the LAC demanded them (RFC 2661 section 5.4).
func appendData(b []byte, tunnel TunnelID, session SessionID, sequenced bool, ns uint16, frame []byte) []byte {
	bits := uint16(version2)
	if sequenced {
		bits |= bitSequence
	}
	b = binary.BigEndian.AppendUint16(b, bits)
	b = binary.BigEndian.AppendUint16(b, uint16(tunnel))
	b = binary.BigEndian.AppendUint16(b, uint16(session))
	if sequenced {
		b = binary.BigEndian.AppendUint16(b, ns)
		b = binary.BigEndian.AppendUint16(b, 0) // reserved in data messages
	}
	b = append(b, 0xff, 0x03)
	return append(b, frame...)
}

// pppFrame returns a copy of a received PPP frame with its two-byte protocol first: address and control bytes removed,
// a compressed protocol field (RFC 1661 section 6.5: a first byte that is odd) expanded. It is false for a frame
// without a whole protocol field.
func pppFrame(b []byte) ([]byte, bool) {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 0x03 {
		b = b[2:]
	}
	switch {
	case len(b) >= 1 && b[0]&1 == 1:
		return append([]byte{0}, b...), true
	case len(b) >= 2:
		return append([]byte(nil), b...), true
	}
	return nil, false
}
