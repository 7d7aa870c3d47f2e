package l2tp

import (
	"net/netip"
	"testing"
	"time"
)

// Android's mtpd has window 1, sends ICRQ only after SCCCN has been acknowledged, and starts PPP only after ICCN has been.
func TestMtpd(t *testing.T) {
	s := newScript(t, profiles("geheim"))
	p := s.peer(1, "203.0.113.5:40000", 0x3a7f)
	p.ns = 1
	got := p.hear(p.raw(unhex(t, mtpdSCCRQ)))
	if kinds(got) != "[SCCRP]" || got[0].challenge == nil {
		t.Fatalf("%+v", got)
	}
	zlb := func(eff []Effect) {
		t.Helper()
		b := sends(eff)
		if len(b) != 1 || len(b[0]) != controlHeaderLen {
			t.Fatalf("no ZLB at once: %v", eff)
		}
		if h, _, _ := parseHeader(b[0]); h.nr != p.ns {
			t.Fatalf("ZLB acknowledges %d, want %d", h.nr, p.ns)
		}
	}
	zlb(p.say(0, build(msgSCCCN).bytes(attrChallengeResponse, challengeResponse(msgSCCCN, []byte("geheim"), got[0].challenge)).b))
	got = p.hear(p.say(0, icrq(1)))
	zlb(p.say(got[0].session, iccn().b))
	one := got[0].session
	got = p.hear(p.say(0, icrq(2))) // mtpd never does, but the window is easier to see
	zlb(p.say(got[0].session, iccn().b))
	p.ack()
	// Two CDN: the second waits for the acknowledgement of the first.
	if b := sends(s.step(CloseSession{Tunnel: p.lns, Session: one})); len(b) != 1 {
		t.Errorf("%d packets", len(b))
	}
	if b := sends(s.step(CloseSession{Tunnel: p.lns, Session: got[0].session})); len(b) != 0 {
		t.Errorf("%d packets in flight beyond the window of 1", len(b)+1)
	}
	// While it waits, what the peer sends is still acknowledged at once.
	b := sends(p.say(0, build(msgHello).b))
	if len(b) != 1 || len(b[0]) != controlHeaderLen {
		t.Errorf("HELLO answered with %x", b)
	}
	p.nr++
	if b := sends(p.ack()); len(b) != 1 {
		t.Errorf("the second CDN did not follow: %x", b)
	}
}

func TestBeforeEstablished(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.hear(p.say(0, sccrq(5, "pc").b))
	eff := p.say(0, icrq(1))
	if got := p.hear(eff); kinds(got) != "[StopCCN]" || got[0].result != StopStateMachine {
		t.Errorf("ICRQ before SCCCN: %+v", got)
	}
	if d := find[TunnelDown](eff); len(d) != 1 || d[0].Reason != ReasonProtocol {
		t.Errorf("%+v", d)
	}
}

// The acknowledgement of the peer's StopCCN may be lost: it is repeated for one retransmission cycle.
func TestPeerStop(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	p.call(1)
	stop := appendControl(nil, p.lns, 0, p.ns, p.nr, build(msgStopCCN).u16(attrTunnelID, 5).result(6, 0, "bye").b)
	eff := p.raw(stop)
	if d := find[TunnelDown](eff); len(d) != 1 || !d[0].ByPeer || d[0].Reason != ReasonPeerStop || d[0].Tunnel.LastResult != 6 || d[0].Tunnel.LastMessage != "bye" {
		t.Errorf("%v", eff)
	}
	if len(find[SessionDown](eff)) != 1 || len(sends(eff)) != 1 || len(find[CloseSocket](eff)) != 0 {
		t.Errorf("%v", eff)
	}
	for range 5 {
		s.wait(5 * time.Second)
		if eff := p.raw(stop); len(eff) != 1 || len(sends(eff)) != 1 {
			t.Errorf("repeated StopCCN: %v", eff)
		}
	}
	// The same id may be used for a new tunnel meanwhile.
	q := s.peer(1, "203.0.113.5:1701", 5)
	q.up()
	if q.lns == p.lns {
		t.Error("same tunnel")
	}
	eff = s.wait(10 * time.Second)
	if c := find[CloseSocket](eff); len(c) != 1 || c[0].Tunnel != p.lns {
		t.Errorf("%v", eff)
	}
	// When IPsec goes, so does the wait.
	q.say(0, build(msgStopCCN).u16(attrTunnelID, 5).result(6, 0, "bye").b)
	eff = s.step(ConnLost{Conn: 1})
	if c := find[CloseSocket](eff); len(eff) != 1 || len(c) != 1 || c[0].Tunnel != q.lns {
		t.Errorf("%v", eff)
	}
}

// A HELLO that is under way is not followed by another.
func TestOneHello(t *testing.T) {
	cfg := profiles("")
	cfg.Hello, cfg.IdleTimeout = time.Second, -1
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	s.wait(40 * time.Second)
	if n := len(s.e.tunnels[p.lns].Channel.Queue); n != 1 {
		t.Errorf("%d messages wait for a silent peer", n)
	}
	if d := find[TunnelDown](s.wait(20 * time.Second)); len(d) != 1 || d[0].Reason != ReasonNoAnswer {
		t.Errorf("%+v", d)
	}
}

func TestDrain(t *testing.T) {
	t.Run("acknowledged", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		p.call(1)
		eff := s.step(CloseTunnel{Tunnel: p.lns, Message: "maintenance"})
		if got := p.hear(eff); kinds(got) != "[StopCCN]" || got[0].result != StopShutdown || got[0].text != "maintenance" || got[0].tunnel != p.lns {
			t.Errorf("%+v", got)
		}
		if len(find[SessionDown](eff)) != 1 || len(find[TunnelDown](eff)) != 1 || len(find[CloseSocket](eff)) != 0 {
			t.Errorf("%v", eff)
		}
		if eff := s.step(CloseTunnel{Tunnel: p.lns}); len(eff) != 0 {
			t.Errorf("closed twice: %v", eff)
		}
		if eff := p.ack(); len(find[CloseSocket](eff)) != 1 {
			t.Errorf("%v", eff)
		}
	})
	t.Run("not acknowledged", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		s.step(CloseTunnel{Tunnel: p.lns})
		eff := s.wait(2 * time.Second)
		if got := p.hear(eff); kinds(got) != "[StopCCN]" || len(find[CloseSocket](eff)) != 1 {
			t.Errorf("%v", eff)
		}
	})
	t.Run("both at once", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		s.step(CloseTunnel{Tunnel: p.lns})
		// It acknowledges ours; its own acknowledgement may be lost, so the socket stays a while.
		stop := appendControl(nil, p.lns, 0, p.ns, p.nr+1, build(msgStopCCN).u16(attrTunnelID, 5).result(6, 0, "").b)
		for range 2 {
			if eff := p.raw(stop); len(eff) != 1 || len(sends(eff)) != 1 {
				t.Errorf("%v", eff)
			}
		}
		if eff := s.wait(3 * time.Second); len(find[CloseSocket](eff)) != 1 || len(find[TunnelDown](eff)) != 0 {
			t.Errorf("%v", eff)
		}
	})
	t.Run("no waiting", func(t *testing.T) {
		cfg := profiles("")
		cfg.ShortDrain = -1
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		eff := s.step(CloseTunnel{Tunnel: p.lns})
		if got := p.hear(eff); kinds(got) != "[StopCCN]" || len(find[CloseSocket](eff)) != 1 {
			t.Errorf("%v", eff)
		}
	})
	// A StopCCN does not wait behind messages that a window of 1 holds back.
	t.Run("window full", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 0x3a7f)
		p.ns = 1
		p.hear(p.raw(unhex(t, mtpdSCCRQ)))
		p.say(0, build(msgSCCCN).b)
		p.say(0, icrq(1)) // ICRP is in flight and not acknowledged
		p.say(0, icrq(2)) // waits
		p.nr = 2
		if got := sends(s.step(CloseTunnel{Tunnel: p.lns})); len(got) != 1 {
			t.Errorf("%d packets", len(got))
		} else if h, body, _ := parseHeader(got[0]); h.ns != 2 {
			t.Errorf("ns %d, want 2: the message never sent is not left out", h.ns)
		} else if kind, _, _ := peekType(body); kind != msgStopCCN {
			t.Errorf("%v", kind)
		}
	})
}

func TestTieBreaker(t *testing.T) {
	for _, c := range []struct {
		name      string
		theirs    func(ours uint64) []byte // nil: no tie breaker
		oursLives bool
		theirsUp  bool
	}{
		{"none", nil, true, false},
		{"higher", func(n uint64) []byte { return be64(n + 1) }, true, false},
		{"lower", func(n uint64) []byte { return be64(n - 1) }, false, true},
		{"equal", be64, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, profiles(""))
			eff := s.step(Dial{Ref: 5, Local: s.local, Remote: netip.MustParseAddrPort("203.0.113.5:1701")})
			_, body, _ := parseHeader(sends(eff)[0])
			m, _ := decode(body, nil)
			request := sccrq(1, "pc")
			if c.theirs != nil {
				request.bytes(attrTieBreaker, c.theirs(m.tieBreaker))
			}
			eff = s.peer(0, "203.0.113.5:1701", 1).say(0, request.b)
			down := find[TunnelDown](eff)
			if (len(down) == 0) != c.oursLives || len(down) == 1 && (down[0].Reason != ReasonTieBreaker || down[0].Tunnel.Ref != 5) {
				t.Errorf("ours: %v", eff)
			}
			if (len(find[OpenSocket](eff)) == 1) != c.theirsUp {
				t.Errorf("theirs: %v", eff)
			}
		})
	}
}

func be64(n uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return b
}

// A peer that places call after call without acknowledging an answer does not fill memory.
func TestBackPressure(t *testing.T) {
	cfg := profiles("")
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	for i := range SessionID(500) {
		p.say(0, icrq(i+1))
	}
	tu := s.e.tunnels[p.lns]
	if n := len(tu.Channel.Queue); n > maxSendQueue+maxWindow {
		t.Errorf("%d messages wait", n)
	}
	if s.e.Counters()[ReasonBackPressure] == 0 {
		t.Error("nothing was held back")
	}
}
