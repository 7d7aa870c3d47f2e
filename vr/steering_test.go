package vr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// packet is what a hook of the kernel sees.
type packet struct {
	ip      []byte // from the IP header on
	mark    uint32
	iif     uint32
	group   uint32 // of the incoming and outgoing link
	ipsec   bool   // received through an SA, or about to be sent through one
	socket  uint32 // mark of the socket that would receive it; 0: there is none
	routed  bool   // the source is routed back to the incoming link
	counter string
}

// transport is where the transport header begins.
func (p *packet) transport() int {
	if p.ip[0]>>4 == 6 {
		return 40
	}
	return int(p.ip[0]&15) * 4
}

// udpDatagram6 builds an IPv6 packet.
func udpDatagram6(src, dst netip.Addr, sport, dport uint16, payload []byte) []byte {
	th := append(append(be16(sport), be16(dport)...), be16(uint16(8+len(payload)))...)
	th = append(append(th, 0, 0), payload...)
	b := make([]byte, 40, 40+len(th))
	b[0], b[6] = 0x60, unix.IPPROTO_UDP
	copy(b[8:], src.AsSlice())
	copy(b[ip6Destination:], dst.AsSlice())
	binary.BigEndian.PutUint16(th[udpChecksum:], ^sum(b, th))
	return append(b, th...)
}

// udpDatagram builds an IPv4 packet with n bytes of options.
func udpDatagram(src, dst netip.Addr, sport, dport uint16, options int, payload []byte, checksum bool) []byte {
	b := make([]byte, 20+options, 28+options+len(payload))
	b[0] = 0x40 | byte(5+options/4)
	b[9] = unix.IPPROTO_UDP
	copy(b[ipSource:], src.AsSlice())
	copy(b[ipDestination:], dst.AsSlice())
	b = append(b, be16(sport)...)
	b = append(b, be16(dport)...)
	b = append(b, be16(uint16(8+len(payload)))...)
	b = append(b, 0, 0)
	b = append(b, payload...)
	if checksum {
		th := b[20+options:]
		binary.BigEndian.PutUint16(th[udpChecksum:], ^sum(b, th))
	}
	return b
}

// sum is the ones' complement sum of pseudo header and UDP datagram (RFC 768).
func sum(ip, th []byte) uint16 {
	var s uint32
	add := func(b []byte) {
		for i := 0; i < len(b); i += 2 {
			v := uint32(b[i]) << 8
			if i+1 < len(b) {
				v |= uint32(b[i+1])
			}
			s += v
		}
	}
	if ip[0]>>4 == 6 {
		add(ip[8:40])
	} else {
		add(ip[ipSource : ipSource+8])
	}
	add([]byte{0, unix.IPPROTO_UDP})
	add(be16(uint16(len(th))))
	add(th)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// hook runs the rules of a chain on a packet as the kernel does; false is drop. It knows the expressions that
// the package uses and fails the test on others.
func hook(t interface{ Fatalf(string, ...any) }, set ruleset, name string, p *packet) bool {
	for _, c := range set.chains {
		if c.name != name {
			continue
		}
		for _, r := range c.rules {
			switch verdict(t, set, r, p) {
			case expr.VerdictDrop:
				return false
			case expr.VerdictAccept:
				return true
			}
		}
	}
	return true
}

// verdict of one rule; VerdictContinue when it ends or does not match.
func verdict(t interface{ Fatalf(string, ...any) }, set ruleset, r rule, p *packet) expr.VerdictKind {
	var reg []byte
	flag := func(b bool) []byte {
		if b {
			return []byte{1}
		}
		return []byte{0}
	}
	for _, e := range r {
		switch e := e.(type) {
		case *expr.Meta:
			switch {
			case e.SourceRegister && e.Key == expr.MetaKeyMARK:
				p.mark = binaryutil.NativeEndian.Uint32(reg)
			case e.Key == expr.MetaKeyMARK:
				reg = binaryutil.NativeEndian.PutUint32(p.mark)
			case e.Key == expr.MetaKeyIIF:
				reg = binaryutil.NativeEndian.PutUint32(p.iif)
			case e.Key == expr.MetaKeyIIFGROUP, e.Key == expr.MetaKeyOIFGROUP:
				reg = binaryutil.NativeEndian.PutUint32(p.group)
			case e.Key == expr.MetaKeyL4PROTO:
				reg = p.ip[9:10]
				if p.ip[0]>>4 == 6 {
					reg = p.ip[6:7]
				}
			case e.Key == metaIPsec:
				reg = flag(p.ipsec)
			default:
				t.Fatalf("meta %d", e.Key)
			}
		case *expr.Cmp:
			if bytes.Equal(reg, e.Data) != (e.Op == expr.CmpOpEq) {
				return expr.VerdictContinue
			}
		case *expr.Range:
			if bytes.Compare(reg, e.FromData) < 0 || bytes.Compare(reg, e.ToData) > 0 {
				return expr.VerdictContinue
			}
		case *expr.Bitwise:
			out := make([]byte, e.Len)
			for i := range out {
				out[i] = reg[i]&e.Mask[i] ^ e.Xor[i]
			}
			reg = out
		case *expr.Immediate:
			reg = e.Data
		case *expr.Payload:
			base := 0
			if e.Base == expr.PayloadBaseTransportHeader {
				base = p.transport()
			}
			from, to := base+int(e.Offset), base+int(e.Offset+e.Len)
			if to > len(p.ip) {
				return expr.VerdictContinue
			}
			if e.OperationType == expr.PayloadLoad {
				reg = bytes.Clone(p.ip[from:to])
				continue
			}
			if e.CsumType == expr.CsumTypeInet {
				// RFC 1624: HC' = ~(~HC + ~m + m')
				c := p.ip[base+int(e.CsumOffset):]
				s := uint32(^binary.BigEndian.Uint16(c)) + uint32(^binary.BigEndian.Uint16(p.ip[from:])) + uint32(binary.BigEndian.Uint16(reg))
				for s>>16 != 0 {
					s = s&0xffff + s>>16
				}
				binary.BigEndian.PutUint16(c, ^uint16(s))
			}
			copy(p.ip[from:to], reg)
		case *expr.Lookup:
			found := false
			elements := map[string][]nftables.SetElement{serverSetName: set.server, mssMapName: set.mss}[e.SetName]
			for _, s := range elements {
				if bytes.Equal(s.Key, reg) {
					found = true
					if e.IsDestRegSet {
						reg = s.Val
					}
					break
				}
			}
			if !found {
				return expr.VerdictContinue
			}
		case *expr.Rt:
			if e.Key != rtIPsec {
				t.Fatalf("rt %d", e.Key)
			}
			reg = flag(p.ipsec)
		case *expr.Socket:
			if p.socket == 0 {
				return expr.VerdictContinue
			}
			reg = binaryutil.NativeEndian.PutUint32(p.socket)
		case *expr.Fib:
			reg = make([]byte, 4)
			if p.routed {
				reg = binaryutil.NativeEndian.PutUint32(p.iif)
			}
		case *expr.Objref:
			p.counter = e.Name
		case *expr.Verdict:
			return e.Kind
		default:
			t.Fatalf("expression %T", e)
		}
	}
	return expr.VerdictContinue
}

var (
	testServer = netip.MustParseAddr("203.0.113.1")
	testPeer   = netip.MustParseAddr("198.51.100.7")
	testVRF    = 9
)

func testSpec(plain bool) Spec {
	return Spec{Name: "t", Server: []netip.Addr{testServer, netip.MustParseAddr("203.0.113.9")}, PlainL2TP: plain, SubscriberMTU: defaultMTU}
}

// TestRulesReceive: for any datagram, what the rules do on the way in is what the package promises.
func TestRulesReceive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain, vrf := rapid.Bool().Draw(t, "plain"), rapid.Bool().Draw(t, "vrf")
		index := 0
		if vrf {
			index = testVRF
		}
		set := steering(testSpec(plain), index)
		tunnel := rapid.OneOf(rapid.Uint16(), rapid.SampledFrom([]uint16{0, 16383, 16384, 65535})).Draw(t, "tunnel")
		dport := rapid.OneOf(rapid.Just(PortL2TP), rapid.Just(PortL2TP), rapid.Just(PortL2TP), rapid.Uint16(), rapid.Just(tunnel)).Draw(t, "dport")
		flags := rapid.OneOf(rapid.SampledFrom([]uint16{0xc802, 0x4002, 0x0002, 0x0003, 0x4003, 0x0202, 0x4902}), rapid.Uint16()).Draw(t, "flags")
		options := rapid.SampledFrom([]int{0, 0, 0, 0, 4, 40}).Draw(t, "options")
		to := rapid.SampledFrom([]netip.Addr{testServer, testServer, testServer, testPeer}).Draw(t, "to")
		checksum := rapid.Bool().Draw(t, "checksum")
		payload := be16(flags)
		if flags&l2tpLengthBit != 0 {
			payload = append(payload, 0, 12)
		}
		payload = append(append(payload, be16(tunnel)...), 1, 2, 3, 4)
		if rapid.IntRange(0, 3).Draw(t, "short") == 0 {
			payload = payload[:rapid.IntRange(0, len(payload)).Draw(t, "size")]
		}
		p := &packet{
			ip:    udpDatagram(testPeer, to, 1701, dport, options, payload, checksum),
			iif:   rapid.SampledFrom([]uint32{uint32(testVRF), 3}).Draw(t, "iif"),
			ipsec: rapid.Bool().Draw(t, "ipsec"),
			mark:  rapid.SampledFrom([]uint32{0, ClientMark | 5, 0x33}).Draw(t, "mark"),
		}
		original := *p
		inside := !vrf || p.iif == uint32(testVRF)
		ours := to == testServer && inside
		named := len(payload) >= 4 && flags&l2tpLengthBit == 0 || len(payload) >= 6
		steer := ours && dport == PortL2TP && options == 0 && flags&l2tpVersionMask == 2 && named && tunnel >= MinTunnelPort
		var drop string
		switch {
		case !ours:
		case dport >= MinTunnelPort:
			drop = dropDirect
		case (steer || dport == PortL2TP) && !plain && !original.ipsec:
			drop = dropClear
		case dport == PortL2TP && !steer && !plain && !IsClient(original.mark):
			drop = dropForeign
		}
		if drop == "" && !steer && inside && original.ipsec && IsClient(original.mark) && dport != PortL2TP {
			drop = dropSelector
		}

		passed := hook(t, set, "prerouting", p) && hook(t, set, "input", p)
		if passed != (drop == "") || !passed && p.counter != drop {
			t.Fatalf("passed %t, counted as %q, want %q", passed, p.counter, drop)
		}
		th := p.ip[20+options:]
		want := dport
		if steer {
			want = tunnel
		}
		if got := binary.BigEndian.Uint16(th[udpDestination:]); got != want {
			t.Fatalf("destination port %d, want %d", got, want)
		}
		if checksum && sum(p.ip, th) != 0xffff || !checksum && binary.BigEndian.Uint16(th[udpChecksum:]) != 0 {
			t.Fatalf("checksum %x is wrong", th[udpChecksum:udpChecksum+2])
		}
		wantMark := original.mark
		if steer {
			wantMark = 0
		}
		if passed && p.mark != wantMark {
			t.Fatalf("mark %#x, want %#x", p.mark, wantMark)
		}
	})
}

// TestRulesSteer: each form of a tunnel's datagram goes to the tunnel's port and keeps no mark.
func TestRulesSteer(t *testing.T) {
	for _, vrf := range []int{0, testVRF} {
		set := steering(testSpec(false), vrf)
		for _, c := range []struct {
			name    string
			payload []byte
		}{
			{"control", []byte{0xc8, 2, 0, 12, 0x75, 0x31, 0, 1, 0, 2, 0, 3}},
			{"data with length", []byte{0x40, 2, 0, 8, 0x75, 0x31, 0, 1}},
			{"data", []byte{0, 2, 0x75, 0x31, 0, 1}},
			{"data with sequence numbers and offset", []byte{0x0a, 2, 0x75, 0x31, 0, 1, 0, 0, 0, 0, 0, 0}},
		} {
			for _, checksum := range []bool{true, false} {
				p := &packet{ip: udpDatagram(testPeer, testServer, 1701, PortL2TP, 0, c.payload, checksum),
					mark: ClientMark | 5, ipsec: true, iif: uint32(testVRF)}
				if !hook(t, set, "prerouting", p) || p.mark != MarkSteered {
					t.Errorf("%s: mark %#x after prerouting", c.name, p.mark)
				}
				if !hook(t, set, "input", p) || p.mark != 0 {
					t.Errorf("%s: mark %#x after input, counter %q", c.name, p.mark, p.counter)
				}
				if port := binary.BigEndian.Uint16(p.ip[22:]); port != 0x7531 {
					t.Errorf("%s: port %d", c.name, port)
				}
			}
		}
	}
}

// TestRulesClear: what is dropped where only IPsec is offered, and why.
func TestRulesClear(t *testing.T) {
	control := func(tunnel uint16) []byte { return l2tpDatagram(0xc802, tunnel) }
	for _, c := range []struct {
		name    string
		ipsec   bool
		mark    uint32
		tunnel  uint16
		counter string
	}{
		{"a client's request", true, ClientMark | 5, 0, ""},
		{"a client's tunnel", true, ClientMark | 5, 30000, ""},
		{"clear request", false, 0, 0, dropClear},
		{"clear tunnel", false, 0, 30000, dropClear},
		{"clear request with a forged mark", false, ClientMark | 5, 0, dropClear},
		{"request through another SA", true, 0, 0, dropForeign},
	} {
		set := steering(testSpec(false), 0)
		p := &packet{ip: udpDatagram(testPeer, testServer, 1701, PortL2TP, 0, control(c.tunnel), true), mark: c.mark, ipsec: c.ipsec}
		passed := hook(t, set, "prerouting", p) && hook(t, set, "input", p)
		if passed != (c.counter == "") || p.counter != c.counter {
			t.Errorf("%s: passed %t, counted as %q, want %q", c.name, passed, p.counter, c.counter)
		}
		set = steering(testSpec(true), 0)
		p = &packet{ip: udpDatagram(testPeer, testServer, 1701, PortL2TP, 0, control(c.tunnel), true), mark: c.mark, ipsec: c.ipsec}
		if !hook(t, set, "prerouting", p) || !hook(t, set, "input", p) {
			t.Errorf("%s: dropped as %q where plain L2TP is offered", c.name, p.counter)
		}
	}
}

// TestRulesDialled: where only IPsec is offered, clear text reaches a tunnel that we have opened without, and no other.
func TestRulesDialled(t *testing.T) {
	lns, served := netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		name    string
		tunnel  uint16
		socket  uint32
		ipsec   bool
		counter string
	}{
		{"ours", 30000, MarkTunnelPlain, false, ""},
		{"a client's", 30000, MarkTunnel, false, dropClear},
		{"nobody's", 30000, 0, false, dropClear},
		{"the listener's", 0, MarkTunnelPlain, false, dropClear},
	} {
		for name, p := range map[string]*packet{
			"IPv4": {ip: udpDatagram(testPeer, testServer, 1701, PortL2TP, 0, l2tpDatagram(0xc802, c.tunnel), true)},
			"IPv6": {ip: udpDatagram6(lns, served, 1701, PortL2TP, l2tpDatagram(0xc802, c.tunnel))},
		} {
			p.socket, p.ipsec = c.socket, c.ipsec
			spec := testSpec(false)
			spec.Server = append(spec.Server, served)
			set := steering(spec, 0)
			if name == "IPv6" {
				set = steering6(spec, 0)
			}
			passed := hook(t, set, "prerouting", p) && hook(t, set, "input", p)
			if passed != (c.counter == "") || p.counter != c.counter || passed && p.mark != 0 {
				t.Errorf("%s over %s: passed %t with mark %#x, counted as %q, want %q", c.name, name, passed, p.mark, p.counter, c.counter)
			}
		}
	}
}

// TestRulesUnchecked: the checksum of a client behind a NAT with IPsec passthrough is taken away (B2r), that of any other is
// left for the kernel to verify (B4r); what such a client sends beside L2TP is dropped like any client's.
func TestRulesUnchecked(t *testing.T) {
	for _, vrf := range []int{0, testVRF} {
		for _, c := range []struct {
			name     string
			mark     uint32
			ipsec    bool
			tunnel   uint16
			protocol byte
			checksum bool // is there afterwards
			after    uint32
			counter  string
		}{
			{"request", Unchecked(ClientMark | 5), true, 0, unix.IPPROTO_UDP, false, ClientMark | 5, ""},
			{"tunnel", Unchecked(ClientMark | 5), true, 30000, unix.IPPROTO_UDP, false, 0, ""},
			{"another client's", ClientMark | 5, true, 30000, unix.IPPROTO_UDP, true, 0, ""},
			{"forged mark in clear", Unchecked(ClientMark | 5), false, 0, unix.IPPROTO_UDP, true, Unchecked(ClientMark | 5), dropClear},
			{"not UDP", Unchecked(ClientMark | 5), true, 0, unix.IPPROTO_TCP, true, ClientMark | 5, dropSelector},
		} {
			set := steering(testSpec(false), vrf)
			b := udpDatagram(testPeer, testServer, 1701, PortL2TP, 0, l2tpDatagram(0xc802, c.tunnel), true)
			binary.BigEndian.PutUint16(b[20+udpChecksum:], 0x1234) // of the address before NAT
			b[9] = c.protocol
			p := &packet{ip: b, mark: c.mark, ipsec: c.ipsec, iif: uint32(testVRF)}
			passed := hook(t, set, "prerouting", p) && hook(t, set, "input", p)
			if passed != (c.counter == "") || p.counter != c.counter || p.mark != c.after {
				t.Errorf("%s: passed %t with mark %#x, counted as %q", c.name, passed, p.mark, p.counter)
			}
			if got := binary.BigEndian.Uint16(p.ip[20+udpChecksum:]) != 0; got != c.checksum {
				t.Errorf("%s: checksum %t", c.name, got)
			}
		}
	}
}

// TestRules6: L2TP over IPv6 is steered, its checksums stay right, and only IPsec's absence is its difference.
func TestRules6(t *testing.T) {
	lns, served := netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8::1")
	rapid.Check(t, func(t *rapid.T) {
		spec := testSpec(true)
		if len(steering6(spec, 0).chains) != 0 {
			t.Fatalf("rules for IPv6 without an address of it")
		}
		spec.Server = append(spec.Server, served)
		set := steering6(spec, rapid.SampledFrom([]int{0, testVRF}).Draw(t, "vrf"))
		flags := rapid.SampledFrom([]uint16{0xc802, 0x4002, 0x0002, 0x0003}).Draw(t, "flags")
		tunnel := rapid.SampledFrom([]uint16{0, MinTunnelPort - 1, MinTunnelPort, MaxTunnelPort}).Draw(t, "tunnel")
		dport := rapid.SampledFrom([]uint16{PortL2TP, PortL2TP, 53, MinTunnelPort}).Draw(t, "dport")
		payload := be16(flags)
		if flags&l2tpLengthBit != 0 {
			payload = append(payload, 0, 12)
		}
		payload = append(append(payload, be16(tunnel)...), 1, 2, 3, 4)
		p := &packet{ip: udpDatagram6(lns, served, 1701, dport, payload), iif: uint32(testVRF)}
		passed := hook(t, set, "prerouting", p) && hook(t, set, "input", p)
		want := dport
		if dport == PortL2TP && flags&l2tpVersionMask == 2 && tunnel >= MinTunnelPort {
			want = tunnel
		}
		if passed == (dport == MinTunnelPort) || binary.BigEndian.Uint16(p.ip[40+udpDestination:]) != want || p.mark != 0 || sum(p.ip, p.ip[40:]) != 0xffff {
			t.Fatalf("passed %t with mark %#x: %x", passed, p.mark, p.ip)
		}
		p = &packet{ip: udpDatagram6(served, lns, MinTunnelPort, 1701, payload), mark: MarkTunnelPlain}
		if !hook(t, set, "output", p) || binary.BigEndian.Uint16(p.ip[40:]) != PortL2TP || p.mark != 0 || sum(p.ip, p.ip[40:]) != 0xffff {
			t.Fatalf("sent with mark %#x: %x", p.mark, p.ip)
		}
	})
}

// l2tpDatagram is the beginning of an L2TP message with length field.
func l2tpDatagram(flags, tunnel uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, flags)
	b = append(b, 0, 12)
	b = binary.BigEndian.AppendUint16(b, tunnel)
	return append(b, 0, 0, 0, 0, 0, 0)
}

// TestRulesSend: only datagrams of tunnels' sockets are changed, and none leaves in clear that should not.
func TestRulesSend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := steering(testSpec(false), rapid.SampledFrom([]int{0, testVRF}).Draw(t, "vrf"))
		mark := rapid.SampledFrom([]uint32{0, MarkTunnel, MarkTunnelPlain, MarkSteered, ClientMark | 5}).Draw(t, "mark")
		sport := rapid.SampledFrom([]uint16{PortIKE, PortNATT, PortL2TP, MinTunnelPort, 30000}).Draw(t, "sport")
		checksum, ipsec := rapid.Bool().Draw(t, "checksum"), rapid.Bool().Draw(t, "ipsec")
		p := &packet{ip: udpDatagram(testServer, testPeer, sport, 40000, 0, []byte("data"), checksum), mark: mark, ipsec: ipsec}
		// In a VRF the packet passes the output hook twice.
		for range 2 {
			if !hook(t, set, "output", p) {
				t.Fatalf("dropped on output")
			}
		}
		wantPort, wantMark := sport, mark
		switch mark {
		case MarkTunnel:
			wantPort, wantMark = PortL2TP, MarkEncrypt
		case MarkTunnelPlain:
			wantPort, wantMark = PortL2TP, 0
		}
		th := p.ip[20:]
		if got := binary.BigEndian.Uint16(th[udpSource:]); got != wantPort || p.mark != wantMark {
			t.Fatalf("source port %d, mark %#x, want %d, %#x", got, p.mark, wantPort, wantMark)
		}
		if checksum && sum(p.ip, th) != 0xffff || !checksum && binary.BigEndian.Uint16(th[udpChecksum:]) != 0 {
			t.Fatalf("checksum %x is wrong", th[udpChecksum:udpChecksum+2])
		}
		leak := mark == MarkTunnel && !ipsec
		if passed := hook(t, set, "postrouting", p); passed == leak {
			t.Fatalf("passed %t, leak %t", passed, leak)
		}
		// The encrypted datagram keeps the mark and has no bundle any more.
		outer := &packet{ip: udpDatagram(testServer, testPeer, PortNATT, 40000, 0, []byte("ESP"), false), mark: p.mark}
		if !hook(t, set, "output", outer) || !hook(t, set, "postrouting", outer) || binary.BigEndian.Uint16(outer.ip[20:]) != PortNATT {
			t.Fatalf("the encrypted datagram was dropped or changed")
		}
	})
}

// TestRulesSelector: a client's SA is for UDP only, whatever else comes is dropped; other SAs are not our affair.
func TestRulesSelector(t *testing.T) {
	set := steering(testSpec(false), 0)
	for _, c := range []struct {
		mark    uint32
		ipsec   bool
		dropped bool
	}{{ClientMark | 5, true, true}, {0, true, false}, {0x77, true, false}, {ClientMark | 5, false, false}} {
		for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_ICMP, unix.IPPROTO_IPIP} {
			b := udpDatagram(testPeer, testServer, 1, 2, 0, nil, false)
			b[9] = protocol
			p := &packet{ip: b, mark: c.mark, ipsec: c.ipsec}
			if passed := hook(t, set, "prerouting", p) && hook(t, set, "input", p); passed == c.dropped {
				t.Errorf("protocol %d, mark %#x, IPsec %t: passed %t", protocol, c.mark, c.ipsec, passed)
			}
		}
	}
}

// TestRulesICMP: an ICMP error that would quote a decrypted datagram is dropped, others are not.
func TestRulesICMP(t *testing.T) {
	set := steering(testSpec(true), 0)
	for _, c := range []struct {
		kind    byte
		to      netip.Addr
		port    uint16
		dropped bool
	}{
		{icmpUnreachable, testServer, PortL2TP, true},
		{icmpUnreachable, testServer, MinTunnelPort, true},
		{icmpUnreachable, testServer, MaxTunnelPort, true},
		{icmpUnreachable, testServer, MinTunnelPort - 1, false},
		{icmpUnreachable, testServer, 53, false},
		{icmpUnreachable, testPeer, PortL2TP, false},
		{0, testServer, PortL2TP, false},
	} {
		b := make([]byte, 20)
		b[0], b[9] = ipHeaderLength, unix.IPPROTO_ICMP
		b = append(b, c.kind, 3, 0, 0, 0, 0, 0, 0)
		b = append(b, udpDatagram(testPeer, c.to, 1701, c.port, 0, []byte("contents"), true)...)
		if passed := hook(t, set, "output", &packet{ip: b}); passed == c.dropped {
			t.Errorf("ICMP type %d about %s:%d: passed %t", c.kind, c.to, c.port, passed)
		}
	}
}

// TestRulesSpoofed: only links of the router's own subscribers are checked.
func TestRulesSpoofed(t *testing.T) {
	set := steering(testSpec(true), 0)
	group, other := groupOf("t")|classValidate|classClamp, groupOf("other")|classValidate
	for _, c := range []struct {
		group  uint32
		routed bool
		passed bool
	}{
		{group, true, true}, {group, false, false}, {group | classMSS, false, false}, {groupOf("t") | classClamp, false, true},
		{0, false, true}, {other, false, true},
	} {
		p := &packet{ip: udpDatagram(testPeer, testPeer, 1, 2, 0, nil, false), group: c.group, routed: c.routed, iif: 4}
		if passed := hook(t, set, "prerouting", p); passed != c.passed {
			t.Errorf("group %#x, routed back %t: passed %t", c.group, c.routed, passed)
		}
	}
}

// TestRulesStatic: the number of rules does not depend on the number of addresses, and without servers there is nothing to
// steer: what is left is the rules for subscribers' links.
func TestRulesStatic(t *testing.T) {
	count := func(s Spec) (n int) {
		for _, c := range steering(s, 0).chains {
			n += len(c.rules)
		}
		return n
	}
	one, many := testSpec(false), testSpec(false)
	for i := range 200 {
		many.Server = append(many.Server, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}))
	}
	if a, b := count(one), count(many); a != b || a > 32 {
		t.Errorf("%d rules for 2 addresses, %d for 202", a, b)
	}
	if n := count(Spec{Name: "t"}); n != 6 {
		t.Errorf("%d rules for nothing but links", n)
	}
}

// TestMarks: the fixed marks are no client's, and different.
func TestMarks(t *testing.T) {
	seen := map[uint32]bool{}
	for _, m := range []uint32{MarkSteered, MarkTunnel, MarkTunnelPlain, MarkEncrypt} {
		if IsClient(m) || m == 0 || seen[m] {
			t.Errorf("mark %#x", m)
		}
		seen[m] = true
	}
	if m := Unchecked(ClientMark | 7); IsClient(m) || seen[m&ClientMarkMask] {
		t.Errorf("mark %#x", m)
	}
	for n, want := range map[uint32]bool{0: false, ClientMark: false, ClientMark | 1: true, ClientMark | 0xffffff: true, 0x12000000: false, 0x10ffffff: false} {
		if IsClient(n) != want {
			t.Errorf("IsClient(%#x) is %t", n, !want)
		}
	}
}

// TestLinkGroup: routers have different groups, all of them recognisable as ours.
func TestLinkGroup(t *testing.T) {
	seen := map[uint32]string{}
	for i := range 50 {
		r := &Router{name: fmt.Sprintf("tenant-%d", i)}
		g, err := r.LinkGroup(LinkPolicy{})
		if err != nil || g&0xff0000ff != linkGroup {
			t.Errorf("%s has group %#x", r.name, g)
		}
		if other, ok := seen[g]; ok {
			t.Errorf("%s and %s share group %#x", r.name, other, g)
		}
		seen[g] = r.name
		for p, class := range map[LinkPolicy]uint32{{SourceValidation: true}: 1, {ClampMSS: true}: 2, {SourceValidation: true, ClampMSS: true}: 3} {
			if with, err := r.LinkGroup(p); err != nil || with != g|class {
				t.Errorf("%+v has group %#x, %v", p, with, err)
			}
		}
		var bad *BadSpec
		for _, mss := range []int{-1, MinMSS - 1, MaxMSS + 1} {
			if _, err := r.LinkGroup(LinkPolicy{MSS: mss}); !errors.As(err, &bad) {
				t.Errorf("MSS %d: %v", mss, err)
			}
		}
		for range MaxMSSBounds {
			r.mss = append(r.mss, uint16(MinMSS+len(r.mss)))
		}
		if full, err := r.LinkGroup(LinkPolicy{MSS: MinMSS + int(MaxMSSBounds) - 1}); err != nil || full != g|classMSS {
			t.Errorf("the last bound has group %#x, %v", full, err)
		}
		if _, err := r.LinkGroup(LinkPolicy{MSS: MaxMSS}); !errors.As(err, &bad) {
			t.Errorf("one bound too many: %v", err)
		}
	}
}
