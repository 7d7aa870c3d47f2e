package pppd

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

// network brings a server to the network phase with this answer of AAA.
func (s *script) network(n Network) {
	s.t.Helper()
	s.openLCP(peerMagic)
	s.frame(ProtocolPAP, papRequest, 1, []byte("\x01u\x01p")...)
	s.step(AuthDecision{Accept: true, Network: n})
}

func opt(kind uint8, a string) []byte {
	v := netip.MustParseAddr(a).As4()
	return option{kind, v[:]}.append(nil)
}

func opts(o ...[]byte) []byte { return bytes.Join(o, nil) }

func TestIPCPAnswersToTheOptionsOfAPeer(t *testing.T) {
	full := Network{Local: localAddr, Peer: peerAddr, DNS: [2]netip.Addr{dns1, dns2}, NBNS: [2]netip.Addr{wins, dns1}}
	bare := Network{Local: localAddr, Peer: peerAddr}
	one := Network{Local: localAddr, Peer: peerAddr, DNS: [2]netip.Addr{dns1}}
	const zero = "0.0.0.0"
	vj := []byte{2, 6, 0, 0x2d, 15, 1}
	tests := []struct {
		name    string
		network Network
		options []byte
		code    uint8
		answer  []byte // nil for Ack: the same
	}{
		{"its address", full, opt(3, "10.0.0.77"), codeConfigureAck, nil},
		{"no address yet", full, opt(3, zero), codeConfigureNak, opt(3, "10.0.0.77")},
		{"an address of its own", full, opt(3, "192.168.1.2"), codeConfigureNak, opt(3, "10.0.0.77")},
		{"our address", full, opt(3, "10.0.0.1"), codeConfigureNak, opt(3, "10.0.0.77")},
		{"address not named", full, nil, codeConfigureNak, opt(3, "10.0.0.77")},
		{"address not named but DNS", full, opt(129, zero), codeConfigureNak, opts(opt(129, "10.0.0.53"), opt(3, "10.0.0.77"))},
		{"Windows, first", full, opts(opt(3, zero), opt(129, zero), opt(130, zero), opt(131, zero), opt(132, zero)), codeConfigureNak,
			opts(opt(3, "10.0.0.77"), opt(129, "10.0.0.53"), opt(130, "10.0.0.42"), opt(131, "10.0.1.53"), opt(132, "10.0.0.53"))},
		{"Windows, second", full, opts(opt(3, "10.0.0.77"), opt(129, "10.0.0.53"), opt(130, "10.0.0.42"), opt(131, "10.0.1.53"), opt(132, "10.0.0.53")), codeConfigureAck, nil},
		{"Windows where no name server is configured", bare, opts(opt(3, zero), opt(129, zero), opt(130, zero), opt(131, zero), opt(132, zero)), codeConfigureReject,
			opts(opt(129, zero), opt(130, zero), opt(131, zero), opt(132, zero))},
		{"macOS with one DNS server", one, opts(opt(3, "10.0.0.77"), opt(129, "10.0.0.53"), opt(131, zero)), codeConfigureReject, opt(131, zero)},
		{"pppd with VJ", full, opts(opt(3, zero), vj), codeConfigureReject, vj},
		{"IP-Addresses", full, []byte{1, 10, 0, 0, 0, 0, 0, 0, 0, 0}, codeConfigureReject, []byte{1, 10, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"short address", full, []byte{3, 5, 1, 2, 3}, codeConfigureReject, []byte{3, 5, 1, 2, 3}},
		{"address of 16 octets", full, append([]byte{3, 18}, make([]byte, 16)...), codeConfigureReject, append([]byte{3, 18}, make([]byte, 16)...)},
		{"two addresses", full, opts(opt(3, "10.0.0.77"), opt(3, "10.0.0.78")), codeConfigureNak, opt(3, "10.0.0.77")},
		{"unknown", full, []byte{200, 2}, codeConfigureReject, []byte{200, 2}},
	}
	for _, tt := range tests {
		s := newScript(t, pap())
		s.network(tt.network)
		if p := s.sent(ProtocolIPCP, codeConfigureRequest); !bytes.Equal(p.data, opt(3, "10.0.0.1")) {
			t.Errorf("%s: we ask %x", tt.name, p.data)
		}
		s.frame(ProtocolIPCP, codeConfigureRequest, 4, tt.options...)
		want := tt.answer
		if want == nil {
			want = tt.options
		}
		if s.frames() != 1 {
			t.Errorf("%s: %v", tt.name, s.out)
			continue
		}
		if p, _ := parsePacket(s.out[0].(Send).Data); p.code != tt.code || p.id != 4 || !bytes.Equal(p.data, want) {
			t.Errorf("%s: answer %d/%d %x, want %d/4 %x", tt.name, p.code, p.id, p.data, tt.code, want)
		}
	}
}

func TestStubbornAddressEndsTheLink(t *testing.T) {
	for _, options := range [][]byte{opt(3, "192.168.1.2"), nil, opt(3, "0.0.0.0")} {
		s := newScript(t, pap())
		s.network(Network{Local: localAddr, Peer: peerAddr})
		s.ack(ProtocolIPCP)
		for n := range 8 {
			s.frame(ProtocolIPCP, codeConfigureRequest, uint8(n), options...)
			for _, e := range s.out {
				if _, ok := e.(NetworkUp); ok {
					t.Fatalf("%x: the peer got through with its own address", options)
				}
			}
		}
		s.wait(time.Minute)
		if d := s.down(); d == nil || d.Reason != ReasonNetwork || d.Cause != (DisconnectCause{19, ProtocolIPCP, 1}) {
			t.Errorf("%x: %+v", options, d)
		}
	}
}

func TestPeerDisputesOurAddress(t *testing.T) {
	s := newScript(t, pap())
	s.network(Network{Local: localAddr, Peer: peerAddr})
	s.frame(ProtocolIPCP, codeConfigureNak, s.link.s.IPCP.FSM.ID, opt(3, "10.9.9.9")...)
	if p := s.sent(ProtocolIPCP, codeConfigureRequest); !bytes.Equal(p.data, opt(3, "10.0.0.1")) {
		t.Errorf("after a Nak we ask %x", p.data)
	}
	s.frame(ProtocolIPCP, codeConfigureReject, s.link.s.IPCP.FSM.ID, opt(3, "10.0.0.1")...)
	if p := s.sent(ProtocolIPCP, codeConfigureRequest); len(p.data) != 0 {
		t.Errorf("after a Reject we ask %x", p.data)
	}
	s.openIPCP()
	for range 2 * maxRounds { // a peer that never stops is not endured
		s = newScript(t, pap())
		s.network(Network{Local: localAddr, Peer: peerAddr})
		for range 2 * maxRounds {
			s.frame(ProtocolIPCP, codeConfigureNak, s.link.s.IPCP.FSM.ID, opt(3, "10.9.9.9")...)
		}
		if got := s.link.Info().Phase; got != PhaseTerminate {
			t.Fatalf("phase %v", got)
		}
	}
}

func TestNoAddressNoNetwork(t *testing.T) {
	for _, n := range []Network{{}, {Local: localAddr}, {Local: localAddr, Peer: netip.MustParseAddr("2001:db8::1")}} {
		s := newScript(t, pap())
		s.network(n)
		s.sent(ProtocolLCP, codeTerminateRequest)
		s.wait(time.Minute)
		if d := s.down(); d == nil || d.Reason != ReasonNetwork || d.Cause.Code != 20 {
			t.Errorf("%+v: %+v", n, d)
		}
	}
	// Our own address may be missing: unnumbered.
	s := newScript(t, pap())
	s.network(Network{Peer: peerAddr})
	s.openIPCP()
}

func TestNobodyNegotiatesIP(t *testing.T) {
	s := newScript(t, pap())
	s.network(Network{Local: localAddr, Peer: peerAddr})
	s.wait(29 * time.Second)
	if s.down() != nil || s.frames() != 9 {
		t.Errorf("after 29 s: %v", s.out)
	}
	s.wait(10 * time.Second)
	if d := s.down(); d == nil || d.Reason != ReasonNetwork || d.Cause.Code != 17 {
		t.Errorf("%+v", d)
	}
}

func TestIPCPClosedAndOpenedAgain(t *testing.T) {
	s := newScript(t, pap())
	s.network(Network{Local: localAddr, Peer: peerAddr})
	s.openIPCP()
	s.frame(ProtocolIPCP, codeTerminateRequest, 9)
	if _, ok := s.out[0].(NetworkDown); !ok || len(s.out) != 2 {
		t.Fatalf("%v", s.out)
	}
	s.wait(5 * time.Second)
	if len(s.out) != 0 {
		t.Fatalf("%v", s.out)
	}
	s.frame(ProtocolIPCP, codeConfigureRequest, 1, opt(3, "10.0.0.77")...)
	s.ack(ProtocolIPCP)
	if len(s.out) != 1 || s.out[0] != (NetworkUp{Local: localAddr, Peer: peerAddr, MTU: 1500}) {
		t.Fatalf("%v", s.out)
	}
	s.wait(time.Hour)
	if len(s.out) != 0 {
		t.Fatalf("%v", s.out)
	}
	s.frame(ProtocolIPCP, codeTerminateRequest, 9)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonNetwork {
		t.Errorf("closed for good: %+v", d)
	}
	s = newScript(t, pap())
	s.network(Network{Local: localAddr, Peer: peerAddr})
	s.frame(ProtocolIPCP, codeCodeReject, 1, codeConfigureRequest, 1, 0, 4)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonNetwork || d.Cause.Code != 18 {
		t.Errorf("%+v", d)
	}
	s = newScript(t, pap())
	s.network(Network{Local: localAddr, Peer: peerAddr})
	s.frame(ProtocolIPCP, codeEchoRequest, 1, 0, 0, 0, 0) // not a code of IPCP
	s.sent(ProtocolIPCP, codeCodeReject)
}

func TestDialerAndItsServer(t *testing.T) {
	start := func() *script {
		s := newScript(t, dialer())
		s.openLCP(peerMagic)
		if p := s.link.s.IPCP.FSM.State; p != ReqSent {
			t.Fatalf("IPCP in %v", p)
		}
		return s
	}
	s := start()
	s.frame(ProtocolIPCP, codeConfigureReject, s.link.s.IPCP.FSM.ID, opts(opt(129, "0.0.0.0"), opt(131, "0.0.0.0"))...)
	if p := s.sent(ProtocolIPCP, codeConfigureRequest); !bytes.Equal(p.data, opt(3, "0.0.0.0")) {
		t.Errorf("asks %x", p.data)
	}
	s.frame(ProtocolIPCP, codeConfigureNak, s.link.s.IPCP.FSM.ID, opt(3, "10.0.0.77")...)
	s.frame(ProtocolIPCP, codeConfigureRequest, 1, opts(opt(3, "10.0.0.1"), []byte{2, 6, 0, 0x2d, 15, 1})...)
	s.sent(ProtocolIPCP, codeConfigureReject)
	s.frame(ProtocolIPCP, codeConfigureRequest, 2, opt(3, "10.0.0.1")...)
	s.ack(ProtocolIPCP)
	if want := (NetworkUp{Local: peerAddr, Peer: localAddr, MTU: 1500}); len(s.out) != 1 || s.out[0] != want {
		t.Errorf("%v, want %v", s.out, want)
	}

	s = start()
	s.frame(ProtocolIPCP, codeConfigureReject, s.link.s.IPCP.FSM.ID, opt(3, "0.0.0.0")...)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonNetwork || d.Cause != (DisconnectCause{20, ProtocolIPCP, 2}) {
		t.Errorf("%+v", d)
	}
	s = start()
	s.frame(ProtocolIPCP, codeConfigureRequest, 1, opts(opt(3, "0.0.0.0"), opt(129, "0.0.0.0"))...)
	if p := s.sent(ProtocolIPCP, codeConfigureReject); len(p.data) != 12 {
		t.Errorf("a server that wants an address of us: %x", p.data)
	}
}
