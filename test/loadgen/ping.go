package loadgen

import (
	"encoding/binary"
	"net/netip"
)

// Sizes and numbers of IPv4 (RFC 791) and ICMP (RFC 792).
const (
	ipv4Header  = 20
	icmpHeader  = 8
	protoICMP   = 1
	echoRequest = 8
	echoReply   = 0
	pppIPv4     = 0x0021
)

// Protocols of PPP (RFC 1661, RFC 1994), and the code of Configure-Request in the first and of Challenge in the other.
const (
	pppLCP  = 0xc021
	pppCHAP = 0xc223
	pppAsk  = 1
)

// echo makes an IPv4 packet with an ICMP echo request.
func echo(from, to netip.Addr, id, seq uint16) []byte {
	b := make([]byte, ipv4Header+icmpHeader+56)
	b[0], b[8], b[9] = 4<<4|ipv4Header/4, 64, protoICMP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b[:ipv4Header]))
	icmp := b[ipv4Header:]
	icmp[0] = echoRequest
	binary.BigEndian.PutUint16(icmp[4:], id)
	binary.BigEndian.PutUint16(icmp[6:], seq)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	return b
}

// reply returns the sequence number of an IPv4 packet that is the answer to an echo(local, …, id, …).
func reply(b []byte, local netip.Addr, id uint16) (seq uint16, ok bool) {
	if len(b) < ipv4Header || b[0] != 4<<4|ipv4Header/4 || b[9] != protoICMP || netip.AddrFrom4([4]byte(b[16:20])) != local {
		return 0, false
	}
	icmp := b[ipv4Header:]
	if len(icmp) < icmpHeader || icmp[0] != echoReply || binary.BigEndian.Uint16(icmp[4:]) != id {
		return 0, false
	}
	return binary.BigEndian.Uint16(icmp[6:]), true
}

// checksum is the Internet checksum (RFC 1071) of b, whose own field is zero.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
