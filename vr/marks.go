package vr

// Packet marks. They are fixed for every namespace, because sockets, SAs and rules of several packages have
// to agree on them. A mark never leaves the machine.
const (
	// MarkSteered is on a datagram whose destination port the prerouting rules have rewritten to a tunnel's
	// port. Without it nothing reaches a tunnel's port.
	MarkSteered uint32 = 0x12000001
	// MarkTunnel is the SO_MARK of tunnel sockets whose traffic has to be encrypted.
	MarkTunnel uint32 = 0x12000002
	// MarkTunnelPlain is the SO_MARK of tunnel sockets of L2TP without IPsec.
	MarkTunnelPlain uint32 = 0x12000003
	// MarkEncrypt is on an outgoing L2TP datagram that must not leave the machine in clear.
	MarkEncrypt uint32 = 0x12000004
)

// The number of an IPsec client is ClientMark | connection (24 bits, never 0). It is the mark that the
// client's inbound SA sets (XFRMA_SET_MARK) and the reqid of both its SAs and of its tunnels' socket
// policies. Everything in the kernel's IPsec tables whose reqid has ClientMark in its top byte is ours.
const (
	ClientMark     uint32 = 0x11000000
	ClientMarkMask uint32 = 0xff000000
)

// clientUnchecked stands in the place of ClientMark in the mark that the inbound SA of a client behind a NAT with IPsec
// passthrough sets: the NAT has changed the address that the UDP checksum of what is inside covers (B2r). The rules take
// the checksum away and put ClientMark in its place; no socket sees it.
const clientUnchecked uint32 = 0x13000000

// Unchecked is the mark that an inbound SA sets for the client with the given number when the UDP checksum of what it
// has decrypted is not to be verified.
func Unchecked(number uint32) uint32 { return number&^ClientMarkMask | clientUnchecked }

// Tunnel ids are local UDP ports of this range, which keeps them clear of well-known ports and of the
// ephemeral ports of other programs in the namespace.
const (
	MinTunnelPort uint16 = 16384
	MaxTunnelPort uint16 = 65535
)

// UDP ports of the protocols.
const (
	PortIKE  uint16 = 500
	PortNATT uint16 = 4500
	PortL2TP uint16 = 1701
)

// RouteProtocol marks routes of ours (rtm_protocol), so that those of a crashed predecessor are recognised.
const RouteProtocol = 117

// IsClient says whether a mark or reqid is the number of one of our IPsec clients.
func IsClient(n uint32) bool { return n&ClientMarkMask == ClientMark && n&^ClientMarkMask != 0 }
