package vr

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// machine runs programs of the classic packet filter as the kernel does: data from where the classifier
// begins, the network header at net.
type machine struct {
	data     []byte
	net      int
	protocol uint16
}

var errProgram = errors.New("not a program that ends")

func (m machine) run(p []unix.SockFilter) (uint32, error) {
	var a, x uint32
	var mem [16]uint32
	load := func(at int64, size int) (uint32, bool) {
		if at >= skfNetwork && at < 0 {
			at += int64(m.net) - skfNetwork
		}
		if at < 0 || at+int64(size) > int64(len(m.data)) {
			return 0, false
		}
		var v uint32
		for _, b := range m.data[at : at+int64(size)] {
			v = v<<8 | uint32(b)
		}
		return v, true
	}
	sizes := map[uint16]int{unix.BPF_W: 4, unix.BPF_H: 2, unix.BPF_B: 1}
	for pc := 0; pc < len(p); pc++ {
		i := p[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		ok := true
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if int64(int32(i.K)) == skfProtocol {
				a = uint32(m.protocol)
			} else {
				a, ok = load(int64(int32(i.K)), 4)
			}
		case unix.BPF_LD | unix.BPF_W | unix.BPF_IND, unix.BPF_LD | unix.BPF_H | unix.BPF_IND, unix.BPF_LD | unix.BPF_B | unix.BPF_IND:
			a, ok = load(int64(x)+int64(i.K), sizes[i.Code&0x18])
		case unix.BPF_LDX | unix.BPF_IMM:
			x = i.K
		case unix.BPF_LDX | unix.BPF_MEM:
			x = mem[i.K]
		case unix.BPF_STX:
			mem[i.K] = x
		case unix.BPF_MISC | unix.BPF_TAX:
			x = a
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
		case unix.BPF_ALU | unix.BPF_LSH | unix.BPF_K:
			a <<= i.K
		case unix.BPF_ALU | unix.BPF_ADD | unix.BPF_X:
			a += x
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X:
			jump(a == x)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&i.K != 0)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= i.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(a > i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K, nil
		default:
			return 0, errProgram
		}
		if !ok {
			return verdictDrop, nil
		}
	}
	return 0, errProgram
}

// sample is a packet as the rules see it.
type sample struct {
	src, dst         netip.Addr
	protocol         uint8
	sport, dport     uint16
	options          int // words
	later, truncated bool
}

func (s sample) bytes() []byte {
	b := make([]byte, 20+4*s.options)
	b[0] = byte(0x45 + s.options)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+8))
	if s.later {
		binary.BigEndian.PutUint16(b[6:], 7)
	}
	b[9] = s.protocol
	copy(b[12:], s.src.AsSlice())
	copy(b[16:], s.dst.AsSlice())
	if s.truncated {
		return append(b, 0)
	}
	b = binary.BigEndian.AppendUint16(b, s.sport)
	b = binary.BigEndian.AppendUint16(b, s.dport)
	return append(b, 0, 0, 0, 0)
}

// decide is what the rules mean.
func decide(rules []Rule, s sample, from bool) bool {
	far, port := s.dst, s.dport
	if !from {
		far, port = s.src, s.sport
	}
	for _, r := range rules {
		switch {
		case r.Network.IsValid() && !r.Network.Contains(far):
		case r.Protocol != 0 && r.Protocol != s.protocol:
		case r.LastPort == 0:
			return r.Permit
		case s.later:
			if r.Permit {
				return true
			}
		case s.truncated:
			return false
		case r.FirstPort <= port && port <= r.LastPort:
			return r.Permit
		}
	}
	return true
}

// TestProgramMeansItsRules: on every packet a program says what its rules say, wherever the network header is (R7).
func TestProgramMeansItsRules(t *testing.T) {
	addresses := []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("10.1.128.1"), netip.MustParseAddr("192.0.2.255"), netip.MustParseAddr("8.0.69.0")}
	ports := []uint16{0, 1, 79, 80, 81, 65535}
	protocols := []uint8{unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}
	rapid.Check(t, func(rt *rapid.T) {
		rule := rapid.Custom(func(rt *rapid.T) Rule {
			r := Rule{Permit: rapid.Bool().Draw(rt, "permit")}
			switch rapid.IntRange(0, 5).Draw(rt, "network") {
			case 0:
			case 1:
				r.Network = netip.MustParsePrefix("2001:db8::/32")
			default:
				r.Network = netip.PrefixFrom(rapid.SampledFrom(addresses).Draw(rt, "address"), rapid.IntRange(0, 32).Draw(rt, "bits")).Masked()
			}
			if rapid.Bool().Draw(rt, "protocol?") {
				r.Protocol = rapid.SampledFrom(protocols).Draw(rt, "protocol")
			}
			if r.Protocol > unix.IPPROTO_ICMP && rapid.Bool().Draw(rt, "ports?") {
				a, b := rapid.SampledFrom(ports).Draw(rt, "first"), rapid.SampledFrom(ports).Draw(rt, "last")
				r.FirstPort, r.LastPort = min(a, b), max(a, b)
			}
			if s := r.check(); s != "" {
				rt.Fatal(s)
			}
			return r
		})
		rules := rapid.SliceOfN(rule, 0, 6).Draw(rt, "rules")
		from := rapid.Bool().Draw(rt, "from")
		s := sample{
			src: rapid.SampledFrom(addresses).Draw(rt, "src"), dst: rapid.SampledFrom(addresses).Draw(rt, "dst"), protocol: rapid.SampledFrom(protocols).Draw(rt, "protocol"),
			sport: rapid.SampledFrom(ports).Draw(rt, "sport"), dport: rapid.SampledFrom(ports).Draw(rt, "dport"), options: rapid.IntRange(0, 10).Draw(rt, "options"),
			later: rapid.Bool().Draw(rt, "later"), truncated: rapid.Bool().Draw(rt, "truncated"),
		}
		want := decide(rules, s, from)
		ethernet := append(make([]byte, 12), 8, 0)
		for _, tc := range []struct {
			name string
			at   start
			m    machine
		}{
			{"at once", startAtOnce, machine{s.bytes(), 0, etherIPv4}},
			{"looked for, at once", startLooked, machine{s.bytes(), 0, etherIPv4}},
			{"looked for, behind Ethernet", startLooked, machine{append(ethernet, s.bytes()...), etherHeader, etherIPv4}},
		} {
			got, err := tc.m.run(program(rules, from, tc.at))
			if err != nil || got != verdictPass && got != verdictDrop || (got == verdictPass) != want {
				rt.Fatalf("%s: %#x %v, want pass %v", tc.name, got, err, want)
			}
		}
	})
}

// TestProgramFailsClosed: a packet that is not IPv4 is judged by rules without conditions alone, and one whose
// header is not where it can be is dropped.
func TestProgramFailsClosed(t *testing.T) {
	deny, permit := Rule{}, Rule{Permit: true}
	web := Rule{Permit: true, Protocol: unix.IPPROTO_TCP, FirstPort: 80, LastPort: 80}
	v6 := machine{make([]byte, 60), 0, unix.ETH_P_IPV6}
	for _, tc := range []struct {
		rules []Rule
		want  uint32
	}{
		{nil, verdictPass}, {[]Rule{web}, verdictPass}, {[]Rule{web, deny}, verdictDrop}, {[]Rule{permit, deny}, verdictPass},
		{[]Rule{{Network: netip.MustParsePrefix("0.0.0.0/0")}}, verdictDrop},
	} {
		if got, err := v6.run(program(tc.rules, true, startAtOnce)); err != nil || got != tc.want {
			t.Errorf("IPv6 by %v: %#x, %v, want %#x", tc.rules, got, err, tc.want)
		}
	}
	packet := sample{src: netip.MustParseAddr("10.0.0.1"), dst: netip.MustParseAddr("10.0.0.2")}.bytes()
	odd := machine{append(make([]byte, 22), packet...), 22, etherIPv4}
	if got, err := odd.run(program([]Rule{permit}, true, startLooked)); err != nil || got != verdictDrop {
		t.Errorf("a header behind 22 bytes: %#x, %v", got, err)
	}
	for n := range packet[:20] {
		if got, err := (machine{packet[:n], 0, etherIPv4}).run(program([]Rule{web}, true, startAtOnce)); err != nil || n < 10 && got != verdictDrop {
			t.Errorf("%d bytes of a packet: %#x, %v", n, got, err)
		}
	}
}

// TestProgramIsSmall: the most rules fit into what the kernel takes, and every jump stays within its rule.
func TestProgramIsSmall(t *testing.T) {
	long := Rule{Network: netip.MustParsePrefix("10.0.0.0/8"), Protocol: unix.IPPROTO_UDP, FirstPort: 1, LastPort: 2}
	rules := make([]Rule, MaxRules)
	for i := range rules {
		rules[i] = long
	}
	if n := len(long.compile(true)); n > maxRuleProgram {
		t.Errorf("a rule has %d instructions", n)
	}
	if n := len(program(rules, true, startLooked)); n > unix.BPF_MAXINSNS {
		t.Errorf("%d instructions, the kernel takes %d", n, unix.BPF_MAXINSNS)
	}
	for _, bad := range []Rule{{FirstPort: 2, LastPort: 1, Protocol: unix.IPPROTO_TCP}, {LastPort: 1}, {LastPort: 1, Protocol: unix.IPPROTO_ICMP}} {
		if bad.check() == "" {
			t.Errorf("%+v passes", bad)
		}
	}
}
