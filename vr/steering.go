package vr

import (
	"encoding/binary"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The steering rules (the package comment says what for). In the order in which a datagram meets them:
//
//	prerouting   a datagram from a client behind a NAT with IPsec passthrough: no UDP checksum, and the client's mark.
//	             A datagram to a server address, port 1701, that names a tunnel of ours in its L2TP header:
//	             destination port := tunnel id, mark := MarkSteered.
//	             For ESP in transport mode the kernel runs prerouting a second time on the decrypted datagram.
//	input        a datagram to a tunnel's port that was not steered: drop. On 6.11 and later it could
//	             otherwise inject into any session of the namespace.
//	             Clear text where only IPsec is offered: drop, also when steered, unless it is for a socket that we have
//	             opened without IPsec, for a tunnel to another LNS. So is what came through an
//	             SA that is not a client's. And what a client sends through its SA to anything but L2TP: the
//	             SA's selector cannot say it, because the kernel compares it after the port is rewritten.
//	             Then the mark is cleared, or it would stay on the packets inside the tunnel.
//	output       a datagram of a tunnel's socket: source port := 1701, mark := MarkEncrypt if IPsec is due.
//	             The IPsec bundle is chosen before and the ESP header made after this hook.
//	             An ICMP error that quotes a decrypted L2TP datagram: drop, it would leave in clear.
//	postrouting  a datagram with MarkEncrypt that has lost its IPsec bundle: drop. A queueing discipline on a
//	             VRF device makes the kernel route once more and forget it.
//	output       an ICMP redirect to a subscriber: drop.
//	prerouting   a packet from a subscriber's link whose source is routed elsewhere: drop, where the link's policy says so.
//	forward      the MSS option of a TCP SYN of a subscriber: lower it to what the routes' MTU allows, and to the bound of
//	             the link's policy. From subscribers of a VRF in prerouting.
//
// All rules are static. They contain no client, tunnel, session or link.

// Offsets within the transport header. th+8 is the first octet of the L2TP header:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|T|L|x|x|S|x|O|P|x|x|x|x|  Ver  |          Length (opt)         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           Tunnel ID           |           Session ID          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
const (
	udpSource      = 0
	udpDestination = 2
	udpChecksum    = 6
	l2tpFlags      = 8
	l2tpTunnelLong = 12 // with Length
	l2tpTunnel     = 10 // without

	l2tpLengthBit   = 0x4000
	l2tpVersionMask = 0x000f
	l2tpVersion2    = 0x0002

	ipHeaderLength = 0x45 // version 4, no options
	ipSource       = 12
	ipDestination  = 16
	ip6Destination = 24

	// What an ICMP error quotes: an IP header without options, then the beginning of a UDP header.
	icmpType             = 0
	icmpUnreachable      = 3
	icmpRedirect         = 5
	quotedProtocol       = 8 + 9
	quotedDestination    = 8 + ipDestination
	quotedUDPDestination = 8 + 20 + udpDestination

	tcpHeaders   = 40               // IPv4 and TCP, without options
	tcpOptionMSS = 2                // TCP option kind, and the offset of its value
	rtIPsec      = expr.RtKey(4)    // NFT_RT_XFRM, which x/sys lacks: has the route an IPsec bundle
	metaIPsec    = expr.MetaKey(25) // NFT_META_SECPATH, likewise: has the packet come through an IPsec SA

	// register is the one register that most rules get along with.
	register = 1
)

// Names of the drop counters, see Router.Drops.
const (
	dropDirect    = "direct"    // straight to a tunnel's port
	dropClear     = "cleartext" // without IPsec where it is demanded
	dropForeign   = "foreign"   // through an IPsec SA that is not a client's
	dropSelector  = "selector"  // from a client through its SA, but not L2TP
	dropUnproven  = "unproven"  // ICMP error with decrypted contents
	dropLeak      = "leak"      // would have left unencrypted
	dropSpoofed   = "spoofed"   // subscriber with another's source address
	dropChecksum  = "checksum"  // by the kernel itself
	serverSetName = "server"
	mssMapName    = "mss"
)

var counters = []string{dropDirect, dropClear, dropForeign, dropSelector, dropUnproven, dropLeak, dropSpoofed}

// tableName of a router's nftables table in family ip.
func tableName(router string) string { return "vrgate-" + router }

// ruleset is the content of the table as data.
type ruleset struct {
	family   nftables.TableFamily
	address  nftables.SetDatatype
	server   []nftables.SetElement
	mss      []nftables.SetElement
	counters []string
	chains   []chain
}

// chain is one base chain of type filter; it accepts what its rules let pass.
type chain struct {
	name     string
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    []rule
}

type rule []expr.Any

// steering builds the rules of spec. vrf is the index of the VRF device, 0 for none.
func steering(spec Spec, vrf int) ruleset {
	b := builder{vrf: uint32(vrf), group: groupOf(spec.Name)}
	set := ruleset{family: nftables.TableFamilyIPv4, address: nftables.TypeIPAddr, counters: counters}
	for _, a := range spec.Server {
		if a.Is4() {
			set.server = append(set.server, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	prerouting := chain{name: "prerouting", hook: nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityRaw}
	input := chain{name: "input", hook: nftables.ChainHookInput, priority: *nftables.ChainPriorityRaw}
	output := chain{name: "output", hook: nftables.ChainHookOutput, priority: *nftables.ChainPriorityFilter}
	postrouting := chain{name: "postrouting", hook: nftables.ChainHookPostrouting, priority: *nftables.ChainPriorityFilter}
	forward := chain{name: "forward", hook: nftables.ChainHookForward, priority: *nftables.ChainPriorityMangle}

	if len(set.server) > 0 {
		prerouting.rules = append(prerouting.rules, b.withoutChecksum(), b.unchecked())
		for _, long := range []bool{true, false} {
			for _, sum := range []bool{true, false} {
				prerouting.rules = append(prerouting.rules, b.steer(long, sum))
			}
		}
		input.rules = append(input.rules, b.direct())
		if !spec.PlainL2TP {
			input.rules = append(input.rules, b.clearListener(), b.dialled(), b.clearSteered(), b.foreign())
		}
		input.rules = append(input.rules, b.selectorProtocol(), b.selectorPort(), b.unmark())
		for _, mark := range []uint32{MarkTunnel, MarkTunnelPlain} {
			for _, sum := range []bool{true, false} {
				output.rules = append(output.rules, b.restore(mark, sum))
			}
		}
		output.rules = append(output.rules,
			b.quoted(compare(PortL2TP)...), b.quoted(inRange(MinTunnelPort, MaxTunnelPort)))
		postrouting.rules = append(postrouting.rules, b.guard())
	}
	output.rules = append(output.rules, b.redirect())
	prerouting.rules = append(prerouting.rules, b.spoofed())
	// In a VRF forwarded packets have lost the link they came by; there it is known before they are routed, and what
	// the routes' MTU allows is not.
	first := &forward
	if b.vrf != 0 {
		first = &prerouting
	}
	first.rules = append(first.rules, b.clamp(true, spec.SubscriberMTU), b.bound(expr.MetaKeyIIFGROUP))
	forward.rules = append(forward.rules, b.clamp(false, spec.SubscriberMTU), b.bound(expr.MetaKeyOIFGROUP))
	set.chains = []chain{prerouting, input, output, postrouting, forward}
	return set
}

// builder builds rules. Those for received packets match the router's VRF, those for subscribers their links.
type builder struct {
	vrf, group uint32
	six        bool // IPv6
}

// in matches what a router without VRF receives anywhere and a router with VRF receives by it. On the way in
// a packet to a VRF passes the hooks first with its link as interface, then with the VRF device.
func (b builder) in() rule {
	if b.vrf == 0 {
		return nil
	}
	return rule{meta(expr.MetaKeyIIF), &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(b.vrf)}}
}

// toServer matches UDP to a server address.
func (b builder) toServer() rule {
	r := append(b.in(), protocol(unix.IPPROTO_UDP)...)
	return append(r, b.destination(), serverSet())
}

// destination loads the address that a packet is for.
func (b builder) destination() expr.Any {
	if b.six {
		return load(expr.PayloadBaseNetworkHeader, ip6Destination, net.IPv6len)
	}
	return network32(ipDestination)
}

func (b builder) steer(long, sum bool) rule {
	tunnel, flags := uint32(l2tpTunnel), uint16(l2tpVersion2)
	if long {
		tunnel, flags = l2tpTunnelLong, l2tpVersion2|l2tpLengthBit
	}
	r := b.toServer()
	if !b.six {
		// With IP options an ICMP error would quote the datagram at another offset: leave it to the listener.
		r = append(r, load(expr.PayloadBaseNetworkHeader, 0, 1), equal([]byte{ipHeaderLength}))
	}
	r = append(r, transport16(udpDestination))
	r = append(r, compare(PortL2TP)...)
	r = append(r, transport16(l2tpFlags), &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 2,
		Mask: be16(l2tpLengthBit | l2tpVersionMask), Xor: be16(0)}, equal(be16(flags)))
	r = append(r, b.checksum(sum)...)
	r = append(r, transport16(tunnel), inRange(MinTunnelPort, MaxTunnelPort), write(udpDestination, sum))
	return append(append(r, setMark(MarkSteered)...), &expr.Verdict{Kind: expr.VerdictAccept})
}

func (b builder) direct() rule {
	r := append(b.toServer(), transport16(udpDestination), inRange(MinTunnelPort, MaxTunnelPort))
	r = append(r, meta(expr.MetaKeyMARK), unequal(binaryutil.NativeEndian.PutUint32(MarkSteered)))
	return append(r, drop(dropDirect)...)
}

func (b builder) clearListener() rule {
	r := append(b.toServer(), transport16(udpDestination))
	r = append(r, compare(PortL2TP)...)
	r = append(r, meta(metaIPsec), equal([]byte{0}))
	return append(r, drop(dropClear)...)
}

func (b builder) clearSteered() rule {
	r := append(b.toServer(), markIs(MarkSteered)...)
	r = append(r, meta(metaIPsec), equal([]byte{0}))
	return append(r, drop(dropClear)...)
}

// dialled accepts clear text for a tunnel without IPsec where clients may not have one. Only the socket knows: its
// mark says that we have opened it so, and it is connected, so nobody else reaches it.
func (b builder) dialled() rule {
	r := append(b.toServer(), markIs(MarkSteered)...)
	r = append(r, meta(metaIPsec), equal([]byte{0}))
	r = append(r, &expr.Socket{Key: expr.NFT_SOCKET_MARK, Register: register}, equal(binaryutil.NativeEndian.PutUint32(MarkTunnelPlain)))
	return append(append(r, setMark(0)...), &expr.Verdict{Kind: expr.VerdictAccept})
}

// withoutChecksum is for UDP and unchecked for whatever else such a client sends, which is then dropped as any client's.
func (b builder) withoutChecksum() rule {
	r := append(b.fromUnchecked(), protocol(unix.IPPROTO_UDP)...)
	return append(r, &expr.Immediate{Register: register, Data: be16(0)}, write(udpChecksum, false))
}

func (b builder) unchecked() rule {
	r := append(b.fromUnchecked(), meta(expr.MetaKeyMARK), &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(^ClientMarkMask), Xor: binaryutil.NativeEndian.PutUint32(ClientMark)})
	return append(r, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register})
}

// fromUnchecked matches what the SA of a client behind a NAT with IPsec passthrough has decrypted.
func (b builder) fromUnchecked() rule {
	r := append(b.in(), meta(metaIPsec), equal([]byte{1}))
	r = append(r, clientBits()...)
	return append(r, equal(binaryutil.NativeEndian.PutUint32(clientUnchecked)), b.destination(), serverSet())
}

func (b builder) foreign() rule {
	r := append(b.toServer(), transport16(udpDestination))
	r = append(r, compare(PortL2TP)...)
	r = append(r, clientBits()...)
	r = append(r, unequal(binaryutil.NativeEndian.PutUint32(ClientMark)))
	return append(r, drop(dropForeign)...)
}

// fromClient matches what a client's SA has decrypted and the prerouting rules have not steered.
func (b builder) fromClient() rule {
	r := append(b.in(), meta(metaIPsec), equal([]byte{1}))
	r = append(r, clientBits()...)
	return append(r, equal(binaryutil.NativeEndian.PutUint32(ClientMark)))
}

func (b builder) selectorProtocol() rule {
	r := append(b.fromClient(), meta(expr.MetaKeyL4PROTO), unequal([]byte{unix.IPPROTO_UDP}))
	return append(r, drop(dropSelector)...)
}

func (b builder) selectorPort() rule {
	r := append(b.fromClient(), protocol(unix.IPPROTO_UDP)...)
	r = append(r, transport16(udpDestination), unequal(be16(PortL2TP)))
	return append(r, drop(dropSelector)...)
}

// clientBits loads the part of the mark that says that it is a client's number.
func clientBits() rule {
	return rule{meta(expr.MetaKeyMARK), &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(ClientMarkMask), Xor: make([]byte, 4)}}
}

func (b builder) unmark() rule { return append(append(b.in(), markIs(MarkSteered)...), setMark(0)...) }

// restore gives a tunnel's datagram the source port that the peer knows. No VRF match: the mark is ours alone,
// and in a VRF the first of the two passes is the one that has to do it.
func (b builder) restore(mark uint32, sum bool) rule {
	r := append(protocol(unix.IPPROTO_UDP), markIs(mark)...)
	r = append(r, b.checksum(sum)...)
	r = append(r, &expr.Immediate{Register: register, Data: be16(PortL2TP)}, write(udpSource, sum))
	after := uint32(0)
	if mark == MarkTunnel {
		after = MarkEncrypt
	}
	return append(r, setMark(after)...)
}

// quoted drops ICMP errors about a datagram to a server address and to a port that the last match accepts.
func (b builder) quoted(port ...expr.Any) rule {
	r := append(protocol(unix.IPPROTO_ICMP), load(expr.PayloadBaseTransportHeader, icmpType, 1), equal([]byte{icmpUnreachable}))
	r = append(r, load(expr.PayloadBaseTransportHeader, quotedProtocol, 1), equal([]byte{unix.IPPROTO_UDP}))
	r = append(r, load(expr.PayloadBaseTransportHeader, quotedDestination, 4), serverSet(), transport16(quotedUDPDestination))
	return append(append(r, port...), drop(dropUnproven)...)
}

// guard matches the source port because the encrypted datagram keeps the mark.
func (b builder) guard() rule {
	r := append(protocol(unix.IPPROTO_UDP), markIs(MarkEncrypt)...)
	r = append(r, transport16(udpSource))
	r = append(r, compare(PortL2TP)...)
	r = append(r, &expr.Rt{Register: register, Key: rtIPsec}, equal([]byte{0}))
	return append(r, drop(dropLeak)...)
}

// redirect drops ICMP redirects to subscribers. Two of them that talk to each other through one XFRM interface
// would be told to do it without us.
func (b builder) redirect() rule {
	r := append(b.subscriber(expr.MetaKeyOIFGROUP, 0), protocol(unix.IPPROTO_ICMP)...)
	return append(r, load(expr.PayloadBaseTransportHeader, icmpType, 1), equal([]byte{icmpRedirect}), &expr.Verdict{Kind: expr.VerdictDrop})
}

func (b builder) spoofed() rule {
	r := b.subscriber(expr.MetaKeyIIFGROUP, classValidate)
	r = append(r, &expr.Fib{Register: register, FlagSADDR: true, FlagIIF: true, ResultOIF: true}, equal(make([]byte, 4)))
	return append(r, drop(dropSpoofed)...)
}

// clamp is for one direction. The kernel computes what the MTUs of the routes to both ends allow, but looks the
// way back up in the main table. So what comes from subscribers of a VRF is clamped to a fixed MTU instead; nftables never
// raises an MSS.
func (b builder) clamp(from bool, mtu int) rule {
	key := expr.MetaKeyOIFGROUP
	if from {
		key = expr.MetaKeyIIFGROUP
	}
	r := append(connecting(), b.subscriber(key, classClamp)...)
	if from && b.vrf != 0 {
		r = append(r, &expr.Immediate{Register: register, Data: be16(uint16(mtu - tcpHeaders))})
	} else {
		r = append(r, &expr.Rt{Register: register, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: 2, Size: 2})
	}
	return append(r, lowerMSS())
}

// bound lowers the MSS to the bound of a link's policy.
func (b builder) bound(key expr.MetaKey) rule {
	r := append(connecting(), meta(key), &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(groupMask | classMSS), Xor: make([]byte, 4)})
	return append(r, &expr.Lookup{SourceRegister: register, DestRegister: register, IsDestRegSet: true, SetName: mssMapName}, lowerMSS())
}

// connecting matches the packets that open TCP connections, of either side.
func connecting() rule {
	const flagsOffset, syn, rst = 13, 0x02, 0x04
	return append(protocol(unix.IPPROTO_TCP),
		load(expr.PayloadBaseTransportHeader, flagsOffset, 1),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{syn | rst}, Xor: []byte{0}},
		equal([]byte{syn}))
}

func lowerMSS() expr.Any {
	return &expr.Exthdr{SourceRegister: register, Type: tcpOptionMSS, Offset: tcpOptionMSS, Len: 2, Op: expr.ExthdrOpTcpopt}
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: register} }

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func unequal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: data}
}

func compare(port uint16) rule { return rule{equal(be16(port))} }

func inRange(from, to uint16) expr.Any {
	return &expr.Range{Op: expr.CmpOpEq, Register: register, FromData: be16(from), ToData: be16(to)}
}

func protocol(p byte) rule { return rule{meta(expr.MetaKeyL4PROTO), equal([]byte{p})} }

func load(base expr.PayloadBase, offset, length uint32) expr.Any {
	return &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: register, Base: base, Offset: offset, Len: length}
}

func transport16(offset uint32) expr.Any { return load(expr.PayloadBaseTransportHeader, offset, 2) }

func network32(offset uint32) expr.Any { return load(expr.PayloadBaseNetworkHeader, offset, 4) }

func serverSet() expr.Any { return &expr.Lookup{SourceRegister: register, SetName: serverSetName} }

// checksum matches datagrams with or without a UDP checksum. The kernel's incremental update does not know
// that 0 means none, and would make garbage of it. With IPv6 it does not mean that: what has none is dropped anyway, and
// what the field holds of a checksum that is yet to be completed may well be 0.
func (b builder) checksum(present bool) rule {
	if b.six {
		return nil
	}
	if present {
		return rule{transport16(udpChecksum), unequal(be16(0))}
	}
	return rule{transport16(udpChecksum), equal(be16(0))}
}

// write writes the register to a 16-bit field of the UDP header.
func write(offset uint32, sum bool) expr.Any {
	p := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
	if sum {
		p.CsumType, p.CsumOffset = expr.CsumTypeInet, udpChecksum
	}
	return p
}

func markIs(mark uint32) rule {
	return rule{meta(expr.MetaKeyMARK), equal(binaryutil.NativeEndian.PutUint32(mark))}
}

func setMark(mark uint32) rule {
	return rule{
		&expr.Immediate{Register: register, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register},
	}
}

// subscriber matches links of the router's subscribers whose policy has the given bits.
func (b builder) subscriber(key expr.MetaKey, class uint32) rule {
	return rule{meta(key), &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(groupMask | class), Xor: make([]byte, 4)},
		equal(binaryutil.NativeEndian.PutUint32(b.group | class))}
}

func drop(counter string) rule {
	return rule{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
