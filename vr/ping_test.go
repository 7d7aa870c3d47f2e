package vr

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestChecksum: the example of RFC 1071 section 3, and messages that hold theirs.
func TestChecksum(t *testing.T) {
	b, _ := hex.DecodeString("0001f203f4f5f6f7")
	if got := internetChecksum(b); got != ^uint16(0xddf2) {
		t.Errorf("%#x", got)
	}
	if got := internetChecksum(append(b, 0x80)); got != ^uint16(0x5df3) { // an odd byte counts as if a zero followed
		t.Errorf("odd: %#x", got)
	}
	if got := internetChecksum(appendEcho(nil, 0x12345678, [sizeToken]byte{1, 2, 3})); got != 0 {
		t.Errorf("an echo's: %#x", got)
	}
}

// icmpPacket is IPv4 with an ICMP message whose checksum it completes.
func icmpPacket(options int, source, destination string, message []byte) []byte {
	b := make([]byte, sizeIPv4+options, sizeIPv4+options+len(message))
	b[0], b[ipProtocol] = byte(4<<4|(sizeIPv4+options)/4), unix.IPPROTO_ICMP
	from, to := netip.MustParseAddr(source).As4(), netip.MustParseAddr(destination).As4()
	copy(b[ipSource:], from[:])
	copy(b[ipDestination:], to[:])
	message = append([]byte(nil), message...)
	binary.BigEndian.PutUint16(message[icmpChecksum:], 0)
	binary.BigEndian.PutUint16(message[icmpChecksum:], internetChecksum(message))
	return append(b, message...)
}

// quoting is an ICMP error about a packet.
func quoting(typ, code byte, about []byte) []byte {
	return append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, about...)
}

// TestParseICMP: only what answers an echo is taken for one, by the address that was asked, wherever it comes from (RFC 792).
func TestParseICMP(t *testing.T) {
	const us, target, hop = "10.1.255.1", "10.2.0.1", "10.2.0.254"
	token := [sizeToken]byte{0: 7, 15: 9}
	request := appendEcho(nil, 0xabcd0123, token)
	reply := append([]byte{icmpEchoReply}, request[1:]...)
	asked := netip.MustParseAddr(target)
	wrong := icmpPacket(0, target, us, reply)
	wrong[len(wrong)-1] ^= 1
	other := icmpPacket(0, us, target, request)
	other[ipProtocol] = unix.IPPROTO_UDP
	tcp := append(icmpPacket(0, us, target, make([]byte, sizeICMP))[:sizeIPv4], 0x30, 0x39, 0, 80, 0, 0, 0, 0)
	tcp[ipProtocol] = unix.IPPROTO_TCP
	six := icmpPacket(0, target, us, reply)
	six[0] = 0x65
	for _, tc := range []struct {
		what string
		b    []byte
		want icmpAnswer
		ok   bool
	}{
		{"reply", icmpPacket(0, target, us, reply), icmpAnswer{id: 0xabcd0123, target: asked, token: token}, true},
		{"reply with options", icmpPacket(8, target, us, reply), icmpAnswer{id: 0xabcd0123, target: asked, token: token}, true},
		{"host unreachable", icmpPacket(0, hop, us, quoting(3, 1, icmpPacket(0, us, target, request))), icmpAnswer{id: 0xabcd0123, target: asked, typ: 3, code: 1}, true},
		{"prohibited, all of it quoted", icmpPacket(4, hop, us, quoting(3, 13, icmpPacket(4, us, target, request))), icmpAnswer{id: 0xabcd0123, target: asked, typ: 3, code: 13}, true},
		{"time exceeded, the least quoted", icmpPacket(0, hop, us, quoting(11, 0, icmpPacket(0, us, target, request)[:sizeIPv4+sizeICMP])), icmpAnswer{id: 0xabcd0123, target: asked, typ: 11}, true},
		{"too little quoted", icmpPacket(0, hop, us, quoting(3, 1, icmpPacket(0, us, target, request)[:sizeIPv4+sizeICMP-1])), icmpAnswer{}, false},
		{"about TCP", icmpPacket(0, hop, us, quoting(3, 13, tcp)), icmpAnswer{flow: flow{target: asked, local: 12345, port: 80}, target: asked, typ: 3, code: 13}, true},
		{"about TCP, too little quoted", icmpPacket(0, hop, us, quoting(3, 13, tcp[:sizeIPv4+sizeICMP-1])), icmpAnswer{}, false},
		{"about UDP", icmpPacket(0, hop, us, quoting(3, 3, other)), icmpAnswer{}, false},
		{"about a reply", icmpPacket(0, hop, us, quoting(3, 1, icmpPacket(0, us, target, reply))), icmpAnswer{}, false},
		{"a request", icmpPacket(0, target, us, request), icmpAnswer{}, false},
		{"wrong checksum", wrong, icmpAnswer{}, false},
		{"reply of another size", icmpPacket(0, target, us, append(append([]byte(nil), reply...), 0)), icmpAnswer{}, false},
		{"header of 4 bytes", append([]byte{0x41}, icmpPacket(0, target, us, reply)[1:]...), icmpAnswer{}, false},
		{"header beyond the end", append([]byte{0x4f}, icmpPacket(0, target, us, reply)[1:]...)[:40], icmpAnswer{}, false},
		{"IPv6", six, icmpAnswer{}, false},
		{"nothing", nil, icmpAnswer{}, false},
	} {
		if got, ok := parseICMP(tc.b); ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: %+v, %t", tc.what, got, ok)
		}
	}
}

// FuzzParseICMP: whatever comes, a reply that is taken for one holds the number and the token that it is taken to hold, and an error
// the packet that it is about.
func FuzzParseICMP(f *testing.F) {
	request := appendEcho(nil, 1, [sizeToken]byte{1})
	f.Add(icmpPacket(0, "10.2.0.1", "10.1.0.1", append([]byte{icmpEchoReply}, request[1:]...)))
	f.Add(icmpPacket(4, "10.2.0.1", "10.1.0.1", quoting(3, 1, icmpPacket(8, "10.1.0.1", "10.2.0.1", request))))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseICMP(b)
		if !ok {
			return
		}
		header := int(b[0]&15) * 4
		message := b[header:]
		switch a.typ {
		case icmpEchoReply:
			// What it answers, sent again and answered, is it again: but for options and code.
			want := append([]byte{icmpEchoReply}, appendEcho(nil, a.id, a.token)[1:]...)
			binary.BigEndian.PutUint16(want[icmpChecksum:], 0)
			got := append([]byte(nil), message...)
			binary.BigEndian.PutUint16(got[icmpChecksum:], 0)
			got[icmpCode] = 0
			if string(got) != string(want) || a.target.As4() != [4]byte(b[ipSource:]) {
				t.Fatalf("%x is %+v", b, a)
			}
		case icmpUnreachable, icmpTimeExceeded:
			quoted := message[sizeICMP:]
			inner := quoted[int(quoted[0]&15)*4:]
			if a.flow.port != 0 {
				want := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, a.flow.local), a.flow.port)
				if quoted[ipProtocol] != unix.IPPROTO_TCP || string(inner[:4]) != string(want) || a.flow.target != a.target {
					t.Fatalf("%x is %+v", b, a)
				}
				return
			}
			if inner[0] != icmpEcho || echoID(binary.BigEndian.Uint32(inner[icmpEchoID:])) != a.id || a.target.As4() != [4]byte(quoted[ipDestination:]) {
				t.Fatalf("%x is %+v", b, a)
			}
		default:
			t.Fatalf("type %d", a.typ)
		}
	})
}

// TestProbeSpec: what cannot be asked for is refused before anything is sent.
func TestProbeSpec(t *testing.T) {
	for _, tc := range []struct {
		what   string
		change func(*ProbeSpec)
		bad    bool
	}{
		{"good", func(*ProbeSpec) {}, false},
		{"all given", func(s *ProbeSpec) { s.Device, s.Source, s.Port = "hq0", netip.MustParseAddr("10.1.0.1"), 80 }, false},
		{"no target", func(s *ProbeSpec) { s.Target = netip.Addr{} }, true},
		{"IPv6", func(s *ProbeSpec) { s.Target = netip.MustParseAddr("2001:db8::1") }, true},
		{"multicast", func(s *ProbeSpec) { s.Target = netip.MustParseAddr("224.0.0.1") }, true},
		{"source of IPv6", func(s *ProbeSpec) { s.Source = netip.MustParseAddr("2001:db8::1") }, true},
		{"path", func(s *ProbeSpec) { s.Device = "a/b" }, true},
		{"no time", func(s *ProbeSpec) { s.Timeout = 0 }, true},
		{"long", func(s *ProbeSpec) { s.Timeout = MaxProbeTimeout + 1 }, true},
	} {
		s := ProbeSpec{Target: netip.MustParseAddr("10.2.0.1"), Timeout: MaxProbeTimeout}
		tc.change(&s)
		err := s.check("red")
		var bad *BadSpec
		if errors.As(err, &bad) != tc.bad || err != nil != tc.bad {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
}

// TestProbeError: each errno and each ICMP message has its reason and its words (Z-11).
func TestProbeError(t *testing.T) {
	p := &probe{spec: ProbeSpec{Target: netip.MustParseAddr("10.2.0.1"), Port: 80}}
	for _, tc := range []struct {
		err        error
		want       ProbeReason
		typ, code  uint8
		text, lack string
	}{
		{unix.ECONNREFUSED, ProbeRefused, 0, 0, "TCP connection to 10.2.0.1:80: the host is there", "errno"},
		{unix.ETIMEDOUT, ProbeTimeout, 0, 0, "no answer", "timed out"},
		{unix.EHOSTUNREACH, ProbeUnreachable, 3, 1, "host unreachable (ICMP type 3 code 1)", "is there"},
		{unix.ENETUNREACH, ProbeUnreachable, 3, 0, "network unreachable", "is there"},
		{unix.ENODEV, ProbeNoInterface, 0, 0, "interface", "is there"},
		{unix.EADDRNOTAVAIL, ProbeNoSource, 0, 0, "source", "is there"},
		{unix.EPERM, ProbeBusy, 0, 0, "the kernel refuses: operation not permitted", "is there"},
	} {
		e := p.kernel(tc.err)
		if e.Reason != tc.want || e.Type != tc.typ || e.Code != tc.code || !strings.Contains(e.Error(), tc.text) || strings.Contains(e.Error(), tc.lack) {
			t.Errorf("%v: %+v: %v", tc.err, e, e)
		}
	}
	for _, tc := range []struct {
		typ, code uint8
		want      string
	}{{3, 13, "administratively prohibited"}, {3, 7, "unreachable (ICMP type 3 code 7)"}, {3, 200, "code 200"}, {11, 0, "time to live"}} {
		if got := icmpText(tc.typ, tc.code); !strings.Contains(got, tc.want) {
			t.Errorf("type %d code %d: %q", tc.typ, tc.code, got)
		}
	}
}

// TestHeard: only the host that was asked, by the interface by which it was asked, and with what it was asked ends a probe well; only a router on
// the way, or we ourselves, ends it badly.
func TestHeard(t *testing.T) {
	const tunnel, lan, vrf = 7, 8, 9
	target, other := netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.2.0.2")
	reply := icmpAnswer{id: 5, target: target, token: [sizeToken]byte{1}}
	unreachable := icmpAnswer{id: 5, target: target, typ: icmpUnreachable, code: 1}
	for name, tc := range map[string]struct {
		answer icmpAnswer
		index  int // by which it comes
		device int // by which the probe has left, 0 for any
		ends   bool
	}{
		"reply":                          {reply, tunnel, tunnel, true},
		"reply by any":                   {reply, lan, 0, true},
		"reply by another interface":     {reply, lan, tunnel, false},
		"reply by the loopback":          {reply, loopbackIndex, tunnel, false},
		"reply by the VRF":               {reply, vrf, tunnel, false},
		"guessed":                        {icmpAnswer{id: 5, target: target}, tunnel, tunnel, false},
		"of another host":                {icmpAnswer{id: 5, target: other, token: reply.token}, tunnel, tunnel, false},
		"of another probe":               {icmpAnswer{id: 6, target: target, token: reply.token}, tunnel, tunnel, false},
		"unreachable":                    {unreachable, tunnel, tunnel, true},
		"unreachable by ourselves":       {unreachable, loopbackIndex, tunnel, true},
		"unreachable by us in the VRF":   {unreachable, vrf, tunnel, true},
		"unreachable by another":         {unreachable, lan, tunnel, false},
		"unreachable by another, by any": {unreachable, lan, 0, true},
	} {
		ended := 0
		p := &probe{spec: ProbeSpec{Target: target}, id: 5, token: reply.token, index: tc.device, dial: -1, timeout: time.NewTimer(time.Hour), answer: func(_ time.Duration, err error) {
			ended++
			if (err == nil) != (tc.answer.typ == icmpEchoReply) {
				t.Errorf("%s: %v", name, err)
			}
		}}
		b := &Prober{vrf: device{index: vrf}, echoes: map[echoID]*probe{5: p}}
		b.heard(tc.answer, tc.index)
		if (ended == 1) != tc.ends || len(b.echoes) != 1-ended {
			t.Errorf("%s: answered %d times", name, ended)
		}
	}
}
