package vr

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Rule lets packets of one direction of a subscriber's traffic pass, or drops them. All its conditions must hold.
type Rule struct {
	Permit bool
	// Network is the far side: where a packet from the subscriber goes to, where one to it comes from. The zero
	// Prefix is any. A network of IPv6 matches nothing, because subscribers have IPv4 only.
	Network netip.Prefix
	// Protocol is the IP protocol's number; 0 for any.
	Protocol uint8
	// FirstPort and LastPort are the far side's ports, with Protocol 6 (TCP), 17 (UDP) or 132 (SCTP); both 0 for any.
	FirstPort, LastPort uint16
}

// MaxRules bounds the rules of one direction.
const MaxRules = 128

// check says what is wrong with the rule, "" when nothing is.
func (r Rule) check() string {
	switch {
	case r.FirstPort > r.LastPort:
		return fmt.Sprintf("ports %d to %d", r.FirstPort, r.LastPort)
	case r.ports() && r.Protocol != unix.IPPROTO_TCP && r.Protocol != unix.IPPROTO_UDP && r.Protocol != unix.IPPROTO_SCTP:
		return fmt.Sprintf("ports of IP protocol %d", r.Protocol)
	}
	return ""
}

func (r Rule) ports() bool { return r.LastPort != 0 }

// everything says that the rule has no condition.
func (r Rule) everything() bool {
	return r.Protocol == 0 && (!r.Network.IsValid() || r.Network.Bits() == 0)
}

// The rules of one direction become one program of the classic packet filter (the kernel's filter.rst), whatever
// their number: a classifier for each rule would parse every packet once more for each, and cost each subscriber
// kilobytes for each.
//
// Loads count from where the kernel's classifier says a packet begins. Those that count from the network header
// (SKF_NET_OFF) do not see what a driver has put into fragments, which may be all of an IP packet that a PPP
// interface receives, and the ports of one that an XFRM interface does. So the program looks where the network header
// is.

// verdict is what a program returns. A load beyond the packet's end ends the program with verdictDrop as well.
const (
	verdictDrop uint32 = 0
	verdictPass uint32 = ^uint32(0)
)

// start is where the network header of packets of a direction and an interface is.
type start uint8

const (
	// startAtOnce: PPP interfaces, and what leaves by XFRM interfaces, have no link header.
	startAtOnce start = iota
	// startLooked for: what comes out of an XFRM interface may have the Ethernet header of the packet that carried
	// it in front. The IP header itself is never in fragments there.
	startLooked
)

// Offsets and masks of the IPv4 and of the transport header.
const (
	ipVersion      = 0
	ipFragment     = 6
	ipProtocol     = 9
	ipLengthMask   = 0x0f
	ipLengthShift  = 2
	ipOffsetMask   = 0x1fff // of ipFragment: not the first fragment
	portSource     = 0
	portTarget     = 2
	etherHeader    = 14
	etherIPv4      = 0x0800
	memoryStart    = 0 // M[0]: where the network header is
	maxRuleProgram = 17

	// Offsets of loads of what is not in the packet (linux/filter.h), which x/sys lacks.
	skfProtocol int64 = -0x1000 + 0 // SKF_AD_OFF + SKF_AD_PROTOCOL
	skfNetwork  int64 = -0x100000   // SKF_NET_OFF
)

// program compiles the rules of one direction. The first rule that matches decides, and what none matches passes.
//
// The ports of a fragment that is not the first are not known: a rule with ports that permits matches it, and one that
// drops does not, as routers do it. Without its first fragment it is of no use.
func program(rules []Rule, from bool, at start) []unix.SockFilter {
	p := assembler{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(skfProtocol & math.MaxUint32)},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: etherIPv4, Jt: 1},
		ret(notIPv4(rules)),
	}
	if at == startLooked {
		p = append(p, look...)
	} else {
		p = append(p, unix.SockFilter{Code: unix.BPF_LDX | unix.BPF_IMM})
	}
	p = append(p, unix.SockFilter{Code: unix.BPF_STX, K: memoryStart})
	for _, r := range rules {
		p = append(p, r.compile(from)...)
	}
	return append(p, ret(verdictPass))
}

// look puts into X where the network header is: behind an Ethernet header, or at once. What is neither is dropped.
var look = assembler{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(skfNetwork & math.MaxUint32)},
	{Code: unix.BPF_MISC | unix.BPF_TAX},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: etherHeader},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X, Jf: 2},
	{Code: unix.BPF_LDX | unix.BPF_IMM, K: etherHeader},
	{Code: unix.BPF_JMP | unix.BPF_JA, K: 4},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X, Jt: 1},
	ret(verdictDrop),
	{Code: unix.BPF_LDX | unix.BPF_IMM, K: 0},
}

// notIPv4 is the verdict on packets that are not IPv4: only a rule without conditions is about them.
func notIPv4(rules []Rule) uint32 {
	for _, r := range rules {
		if r.everything() {
			return r.verdict()
		}
	}
	return verdictPass
}

func (r Rule) verdict() uint32 {
	if r.Permit {
		return verdictPass
	}
	return verdictDrop
}

func ret(v uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v} }

// assembler is a program under construction.
type assembler []unix.SockFilter

// Targets of jumps within a rule, replaced when its length is known.
const (
	jumpMatch = 0xfe // to its verdict
	jumpNext  = 0xff // to the next rule
)

// compile is the part of a program that is one rule: at most maxRuleProgram instructions, which fall through to the next
// rule where the rule does not match.
func (r Rule) compile(from bool) assembler {
	address, port := uint32(ipDestination), uint32(portTarget)
	if !from {
		address, port = ipSource, portSource
	}
	p := assembler{{Code: unix.BPF_LDX | unix.BPF_MEM, K: memoryStart}}
	if r.Network.IsValid() && r.Network.Bits() > 0 || r.Network.Addr().Is6() {
		if !r.Network.Addr().Is4() {
			return nil
		}
		p = append(p, loadAt(unix.BPF_W, address))
		if bits := r.Network.Bits(); bits < 32 {
			p = append(p, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: ^uint32(0) << (32 - bits)})
		}
		network := r.Network.Masked().Addr().As4()
		p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(network[:]), Jf: jumpNext})
	}
	if r.Protocol != 0 {
		p = append(p, loadAt(unix.BPF_B, ipProtocol), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(r.Protocol), Jf: jumpNext})
	}
	if r.ports() {
		later := uint8(jumpNext)
		if r.Permit {
			later = jumpMatch
		}
		p = append(p,
			loadAt(unix.BPF_H, ipFragment),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: ipOffsetMask, Jt: later},
			loadAt(unix.BPF_B, ipVersion),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: ipLengthMask},
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_LSH | unix.BPF_K, K: ipLengthShift},
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_ADD | unix.BPF_X},
			unix.SockFilter{Code: unix.BPF_MISC | unix.BPF_TAX},
			loadAt(unix.BPF_H, port),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: uint32(r.FirstPort), Jf: jumpNext},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: uint32(r.LastPort), Jt: jumpNext},
		)
	}
	match := len(p)
	p = append(p, ret(r.verdict()))
	for i := range p {
		p[i].Jt, p[i].Jf = resolve(p[i].Jt, i, match), resolve(p[i].Jf, i, match)
	}
	return p
}

// resolve turns a target into the number of instructions to skip behind instruction at.
func resolve(target uint8, at, match int) uint8 {
	switch target {
	case jumpMatch:
		return uint8(match - at - 1)
	case jumpNext:
		return uint8(match - at)
	}
	return target
}

// loadAt loads from behind X.
func loadAt(size uint16, offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_IND, K: offset}
}

// sizeInstruction is that of struct sock_filter: code u16, jt u8, jf u8, k u32.
const sizeInstruction = 8

func encodeProgram(p []unix.SockFilter) []byte {
	b := make([]byte, 0, len(p)*sizeInstruction)
	for _, i := range p {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}
