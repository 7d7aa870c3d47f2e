package l2tp

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// shots is a configuration with a single-shot profile for everybody but "std".
func shots() Config {
	return Config{HostName: "lns", Profiles: []DestinationProfile{{Name: "any", Hosts: []HostProfile{
		{Name: "shot", SingleShot: true}, {Name: "std", Host: "std"},
	}}}}
}

// order names the effects that tell how a tunnel ends.
func order(effects []Effect) string {
	var s []string
	for _, ef := range effects {
		switch ef := ef.(type) {
		case Send:
			if _, body, err := parseHeader(ef.Data); err == nil && len(body) > 0 {
				kind, _, _ := peekType(body)
				s = append(s, kind.String())
			}
		case Refuse:
			s = append(s, "Refuse")
		case SessionDown:
			s = append(s, "SessionDown")
		case TunnelDown:
			s = append(s, "TunnelDown")
		case CloseSocket:
			s = append(s, "CloseSocket")
		case ConnSpent:
			s = append(s, "ConnSpent")
		}
	}
	return fmt.Sprint(s)
}

// refused checks that an SCCRQ through a connection is refused (H3, H5), and that nothing else happens but what is named.
func (s *script) refused(conn ConnID, host string, also string) {
	s.t.Helper()
	before := s.e.Counters()[ReasonConnSpent]
	eff := s.peer(conn, "203.0.113.5:1701", 77).say(0, sccrq(77, host).b)
	if got := order(eff); got != "[Refuse"+also+"]" {
		s.t.Fatalf("SCCRQ gave %s", got)
	}
	_, body, _ := parseHeader(find[Refuse](eff)[0].Data)
	if m, failed := decode(body, nil); failed != nil || m.kind != msgStopCCN || m.result != StopNotAuthorized || m.text == "" {
		s.t.Errorf("refused with %+v", m)
	}
	s.counted(ReasonConnSpent, before+1)
}

// Each way in which a single-shot tunnel or its session ends or fails: the tunnel disconnects at once whatever the idle timeout (H2),
// IPsec is told at the beginning of the destruct period (H4), and the connection carries nothing any more (H5).
func TestSingleShotEnds(t *testing.T) {
	up := func(p *peer) { p.up() }
	called := func(p *peer) { p.up(); p.call(9); p.ack() }
	asked := func(p *peer) { p.up(); p.hear(p.say(0, icrq(9))); p.ack() }
	opening := func(p *peer) { p.hear(p.say(0, sccrq(p.id, "pc").b)) }
	only := func(p *peer) SessionID {
		for id := range p.s.e.tunnels[p.lns].Sessions {
			return id
		}
		return 0
	}
	for _, c := range []struct {
		name   string
		cfg    func(*Config)
		before func(p *peer)
		end    func(p *peer) []Effect
		order  string
		reason Reason
		wait   time.Duration // until ConnSpent
	}{
		{"peer hangs up", nil, called, func(p *peer) []Effect {
			return p.say(only(p), build(msgCDN).result(3, 0, "").u16(attrSessionID, 9).b)
		}, "[SessionDown TunnelDown StopCCN]", ReasonPeerCall, 2 * time.Second},
		{"we hang up", nil, called, func(p *peer) []Effect {
			return p.s.step(CloseSession{Tunnel: p.lns, Session: only(p), Reason: "ppp-authentication"})
		}, "[SessionDown TunnelDown CDN StopCCN]", "ppp-authentication", 2 * time.Second},
		{"peer closes the tunnel", nil, called, func(p *peer) []Effect {
			return p.say(0, build(msgStopCCN).u16(attrTunnelID, uint16(p.id)).result(1, 0, "").b)
		}, "[SessionDown TunnelDown]", ReasonPeerStop, 2 * time.Second},
		{"we close the tunnel", nil, called, func(p *peer) []Effect {
			return p.s.step(CloseTunnel{Tunnel: p.lns})
		}, "[SessionDown TunnelDown StopCCN]", ReasonAdministrative, 2 * time.Second},
		{"session not connected in time", nil, asked, func(p *peer) []Effect {
			return p.s.wait(60 * time.Second)
		}, "[TunnelDown CDN StopCCN]", ReasonSetupTimeout, 2 * time.Second},
		{"session refused by a limit", func(c *Config) { c.Hello, c.Profiles[0].MaxSessions = -1, 1 }, func(p *peer) {
			other := p.s.peer(8, "203.0.113.8:1701", 8)
			other.up()
			other.call(1)
			p.up()
		}, func(p *peer) []Effect { return p.say(0, icrq(9)) }, "[TunnelDown CDN StopCCN]", ReasonProfileLimit, 2 * time.Second},
		{"session refused for its form", nil, up, func(p *peer) []Effect {
			return p.say(0, build(msgICRQ).u16(attrSessionID, 9).b)
		}, "[TunnelDown CDN StopCCN]", ReasonMissingAVP, 2 * time.Second},
		{"session id used twice", nil, called, func(p *peer) []Effect {
			return p.say(0, icrq(9))
		}, "[SessionDown TunnelDown CDN StopCCN]", ReasonDuplicateCall, 2 * time.Second},
		{"no session at all", func(c *Config) { c.IdleTimeout = 5 * time.Second }, up, func(p *peer) []Effect {
			return p.s.wait(60 * time.Second)
		}, "[TunnelDown StopCCN]", ReasonSetupTimeout, 2 * time.Second},
		{"tunnel not established in time", func(c *Config) { c.RetransmitMaxOpening, c.SetupTimeout = 7, 2500*time.Millisecond }, opening, func(p *peer) []Effect {
			return p.s.wait(2500 * time.Millisecond)
		}, "[SCCRP TunnelDown StopCCN]", ReasonSetupTimeout, 2 * time.Second},
		{"peer silent during set-up", func(c *Config) { c.RetransmitMaxOpening = 2 }, opening, func(p *peer) []Effect {
			return p.s.wait(10 * time.Second)
		}, "[SCCRP SCCRP TunnelDown CloseSocket ConnSpent]", ReasonNoAnswer, 0},
		{"peer gives up during set-up", nil, opening, func(p *peer) []Effect {
			return p.say(0, build(msgStopCCN).u16(attrTunnelID, uint16(p.id)).result(1, 0, "").b)
		}, "[TunnelDown]", ReasonPeerStop, 2 * time.Second},
		{"peer silent", func(c *Config) { c.RetransmitMax = 2 }, called, func(p *peer) []Effect {
			p.s.wait(60 * time.Second) // HELLO
			return p.s.wait(7 * time.Second)
		}, "[HELLO HELLO SessionDown TunnelDown CloseSocket ConnSpent]", ReasonNoAnswer, 0},
		{"no socket", nil, func(p *peer) { p.s.manual = true }, func(p *peer) []Effect {
			open := find[OpenSocket](p.say(0, sccrq(p.id, "pc").b))
			return p.s.step(SocketOpened{Tunnel: open[0].Tunnel, Err: "no"})
		}, "[TunnelDown ConnSpent]", ReasonSocket, 0},
		{"drain", nil, up, func(p *peer) []Effect {
			p.s.step(SetAdmin{State: AdminDrain})
			return p.say(0, icrq(9))
		}, "[TunnelDown CDN StopCCN]", ReasonDrain, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := shots()
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			s := newScript(t, cfg)
			p := s.peer(1, "203.0.113.5:1701", 5)
			c.before(p)
			eff := c.end(p)
			if got := order(eff); got != c.order {
				t.Fatalf("effects %s, want %s", got, c.order)
			}
			if d := find[TunnelDown](eff); d[0].Reason != c.reason || !d[0].Tunnel.SingleShot {
				t.Errorf("%+v", d)
			}
			s.manual = false
			if c.wait > 0 { // the StopCCN, or our acknowledgement of theirs, may be lost
				s.refused(1, "pc", "")
				s.refused(1, "std", "")
				eff = s.wait(c.wait)
				want := "CloseSocket ConnSpent]"
				if got := order(eff); got != "["+want && got != "[StopCCN "+want && got != "[CDN StopCCN "+want && got != "[SCCRP StopCCN "+want {
					t.Fatalf("after the short drain: %s", got)
				}
			}
			spent := find[ConnSpent](eff)
			if len(spent) != 1 || spent[0].Conn != 1 || spent[0].Reason != c.reason || spent[0].Tunnel == 0 {
				t.Errorf("%+v", spent)
			}
			s.refused(1, "pc", "")
			if got := find[ConnSpent](s.wait(time.Hour)); len(got) != 0 {
				t.Errorf("told again: %+v", got)
			}
			s.refused(1, "std", "")
			s.step(SetAdmin{State: AdminEnabled})
			s.step(ConnLost{Conn: 1})
			if len(s.e.uses) > 1 { // of the connection that filled the limit
				t.Errorf("remembered: %v", s.e.uses)
			}
			if c.name != "session refused by a limit" {
				q := s.peer(2, "203.0.113.5:1701", 5) // a new IPsec connection
				q.up()
				q.call(9)
			}
		})
	}
}

// A tunnel that is refused before it exists is a failed set-up too, and its connection is told at once.
func TestSingleShotRefused(t *testing.T) {
	for name, c := range map[string]struct {
		cfg     func(*Config)
		request []byte
	}{
		"version":       {nil, build(msgSCCRQ).u16(attrProtocolVersion, 0x0200).str(attrHostName, "pc").u32(attrFramingCapabilities, 3).u16(attrTunnelID, 5).b},
		"challenge":     {nil, sccrq(5, "pc").bytes(attrChallenge, []byte("who")).b},
		"unknown AVP":   {nil, avp{mandatory: true, typ: 999}.append(sccrq(5, "pc").b)},
		"too many":      {func(c *Config) { c.MaxTunnels = 1 }, sccrq(5, "pc").b},
		"service drain": {func(c *Config) { c.Admin = AdminDrain }, sccrq(5, "pc").b},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := shots()
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			s := newScript(t, cfg)
			if cfg.MaxTunnels > 0 {
				s.peer(8, "203.0.113.8:1701", 8).up()
			}
			eff := s.peer(1, "203.0.113.5:1701", 5).say(0, c.request)
			if got := order(eff); got != "[Refuse ConnSpent]" {
				t.Fatalf("%s", got)
			}
			s.refused(1, "pc", "")
			if service := s.e.Service(); service.TunnelsFailed != 2 {
				t.Errorf("%+v", service)
			}
			// In clear text there is no connection to spend (H8).
			if eff := s.peer(0, "203.0.113.5:1701", 5).say(0, c.request); len(find[ConnSpent](eff)) != 0 {
				t.Errorf("%v", eff)
			}
		})
	}
	// What is dropped without an answer spends nothing: the client repeats it.
	cfg := shots()
	cfg.MaxHalfOpen = 1
	s := newScript(t, cfg)
	s.peer(8, "203.0.113.8:1701", 8).say(0, sccrq(8, "pc").b)
	p := s.peer(1, "203.0.113.5:1701", 5)
	if eff := p.say(0, sccrq(5, "pc").b); len(eff) != 0 {
		t.Fatalf("%v", eff)
	}
	s.wait(2 * time.Minute)
	p.ns = 0
	p.up()
}

// One session ever: a second is refused while the first lives, and lets it live (H1).
func TestSingleShotOneSession(t *testing.T) {
	for _, conn := range []ConnID{0, 1} {
		s := newScript(t, shots())
		p := s.peer(conn, "203.0.113.5:1701", 5)
		p.up()
		first := p.call(9)
		for range 3 {
			eff := p.say(0, icrq(10))
			got := p.hear(eff)
			if kinds(got) != "[CDN]" || got[0].result != CallNeverFacilities || len(find[TunnelDown](eff)) != 0 {
				t.Fatalf("second call: %+v", got)
			}
			p.ack()
		}
		s.counted(ReasonSingleShotUsed, 3)
		info := s.e.Tunnels()[0]
		if !info.SingleShot || info.SessionsTotal != 4 || info.SessionsFailed != 3 || info.Sessions != 1 || !s.e.Sessions()[0].SingleShot {
			t.Errorf("%+v", info)
		}
		// The idle timeout does not count, and no set-up timeout while the session lives.
		s.e.tunnels[p.lns].Params.Hello = 0
		if d := find[TunnelDown](s.wait(time.Hour)); len(d) != 0 {
			t.Fatalf("%+v", d)
		}
		// A second ICRQ right behind the CDN of the first comes too late as well.
		p.say(first, build(msgCDN).result(3, 0, "").u16(attrSessionID, 9).b)
		if eff := p.say(0, icrq(11)); len(find[SessionUp](eff)) != 0 || len(p.hear(eff)) != 0 {
			t.Errorf("%v", eff)
		}
		s.wait(2 * time.Second)
		// Through plain L2TP only H1 and H2 apply (H8): the next tunnel is welcome.
		if conn == 0 {
			q := s.peer(0, "203.0.113.5:1701", 5)
			q.up()
			q.call(9)
		} else {
			s.refused(1, "pc", "")
		}
	}
}

// One tunnel ever (H3): a second is refused while the first lives, which it does not disturb; a repeated SCCRQ is no second one.
func TestSingleShotOneTunnel(t *testing.T) {
	s := newScript(t, shots())
	p := s.peer(1, "203.0.113.5:1701", 1)
	request := appendControl(nil, 0, 0, 0, 0, sccrq(1, "pc").b)
	p.hear(p.raw(request))
	s.refused(1, "pc", "")
	if eff := p.raw(request); order(eff) != "[SCCRP]" {
		t.Fatalf("repeated SCCRQ: %v", eff)
	}
	p.ns = 1
	p.say(0, build(msgSCCCN).b)
	s.refused(1, "std", "")
	p.call(9)
	s.refused(1, "pc", "")
	// A broken SCCRQ of the same connection is refused and does no harm either.
	if eff := s.peer(1, "203.0.113.5:1701", 6).say(0, build(msgSCCRQ).str(attrHostName, "pc").u16(attrTunnelID, 6).b); order(eff) != "[Refuse]" {
		t.Errorf("%v", eff)
	}
	// A PC that has forgotten the tunnel has to make a new connection.
	s.wait(40 * time.Second)
	eff := p.raw(request)
	if got := order(eff); got != "[Refuse SessionDown TunnelDown CloseSocket ConnSpent]" {
		t.Errorf("%s", got)
	}
	if sp := find[ConnSpent](eff); len(sp) != 1 || sp[0].Reason != ReasonPeerRestart {
		t.Errorf("%+v", sp)
	}
	s.refused(1, "pc", "")
}

// A single-shot tunnel needs a connection that has carried no other; one that carries a live one is not given up for that.
func TestSingleShotAfterStandard(t *testing.T) {
	s := newScript(t, shots())
	std := s.peer(1, "203.0.113.5:1701", 5)
	std.hear(std.say(0, sccrq(5, "std").b))
	std.say(0, build(msgSCCCN).b)
	s.refused(1, "pc", "")
	std.call(1)
	other := s.peer(1, "203.0.113.5:1701", 6)
	if got := other.hear(other.say(0, sccrq(6, "std").b)); kinds(got) != "[SCCRP]" {
		t.Errorf("a second standard tunnel: %v", kinds(got))
	}
	s.step(CloseAll{})
	if got := find[ConnSpent](s.wait(time.Minute)); len(got) != 0 {
		t.Errorf("a standard tunnel spends nothing: %+v", got)
	}
	s.refused(1, "pc", " ConnSpent")
	s.refused(1, "std", "")
}

// With IPsec gone there is nothing to end any more, whatever the tunnel was doing.
func TestSingleShotIPsecLost(t *testing.T) {
	for name, before := range map[string]func(p *peer){
		"opening":  func(p *peer) { p.hear(p.say(0, sccrq(p.id, "pc").b)) },
		"called":   func(p *peer) { p.up(); p.call(1) },
		"draining": func(p *peer) { p.up(); p.s.step(CloseTunnel{Tunnel: p.lns}) },
		"lingering": func(p *peer) {
			p.up()
			p.say(0, build(msgStopCCN).u16(attrTunnelID, 5).result(1, 0, "").b)
		},
		"no socket yet": func(p *peer) { p.s.manual = true; p.say(0, sccrq(p.id, "pc").b) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, shots())
			p := s.peer(1, "203.0.113.5:1701", 5)
			before(p)
			var id TunnelID
			for id = range s.e.tunnels {
			}
			eff := s.step(ConnLost{Conn: 1})
			if s.manual {
				s.open[id] = true
				eff = append(eff, s.step(SocketOpened{Tunnel: id})...)
			}
			if got := find[ConnSpent](eff); len(got) != 0 || len(find[CloseSocket](eff)) != 1 || len(s.e.tunnels) != 0 {
				t.Errorf("%v", eff)
			}
			if len(s.e.uses) != 0 {
				t.Errorf("%v", s.e.uses)
			}
		})
	}
}

// What is known about connections survives a restart, and is bounded though nobody reports their end.
func TestSpentConnections(t *testing.T) {
	s := newScript(t, shots())
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	live := s.peer(2, "203.0.113.5:1701", 5)
	live.up()
	s.step(CloseTunnel{Tunnel: p.lns})
	s.restart(shots())
	s.refused(1, "pc", "")
	s.refused(2, "pc", "")
	if got := find[ConnSpent](s.wait(3 * time.Second)); len(got) != 1 || got[0].Conn != 1 {
		t.Fatalf("%+v", got)
	}
	s.restart(shots())
	s.refused(1, "pc", "")
	if got := find[ConnSpent](s.wait(time.Minute)); !slices.ContainsFunc(got, func(c ConnSpent) bool { return c.Conn == 2 }) || len(got) != 1 {
		t.Errorf("told %+v; the live tunnel had no call", got)
	}
	for conn := range ConnID(maxConnUses) {
		s.e.use(s.now, 100+conn)
	}
	s.e.use(s.now.Add(time.Second), 99)
	if len(s.e.uses) != maxConnUses || s.e.uses[1] != nil || s.e.uses[99] == nil {
		t.Errorf("%d connections remembered", len(s.e.uses))
	}
}

// Through loss, copies and disorder: no single-shot tunnel ever has a second session and no connection a second tunnel, though the LACs
// try; each connection that had one is told to end, once, after its socket was closed.
func TestSingleShotLossyNetwork(t *testing.T) {
	const clients = 60
	w := newWorld(t, 17)
	w.loss, w.dup, w.delay = 0.2, 0.2, 500*time.Millisecond
	lns := w.node("192.0.2.1", shots())
	conns := map[netip.Addr]ConnID{}
	lns.conn = func(a netip.Addr) ConnID { return conns[a] }
	for i := range clients {
		lac := w.node(fmt.Sprintf("10.1.0.%d", i+1), Config{})
		conns[lac.addr] = ConnID(i + 1)
		for again := range 4 { // the second call in the same tunnel, the others later in tunnels of their own
			w.after(time.Duration(again/2)*time.Minute+time.Duration(10*i)*time.Millisecond, func() {
				lac.step(Dial{
					Ref: uint64(again + 1), Local: netip.AddrPortFrom(lac.addr, 1701), Remote: netip.AddrPortFrom(lns.addr, 1701), HostName: "lac", Share: true,
				})
			})
		}
		if i%2 == 0 {
			w.after(30*time.Second, func() { lac.step(CloseAll{}) })
		}
	}
	w.run(10 * time.Minute)
	lns.consistent()
	tunnels, sessions, spent := map[ConnID]int{}, map[ConnID]int{}, map[ConnID]int{}
	for _, x := range lns.ups {
		switch x := x.(type) {
		case TunnelUp:
			tunnels[x.Tunnel.Conn]++
		case SessionUp:
			sessions[x.Session.Conn]++
		case ConnSpent:
			spent[x.Conn]++
			if _, open := lns.sockets[x.Tunnel]; open {
				t.Errorf("connection %d told before its tunnel's socket was closed", x.Conn)
			}
		}
	}
	up := 0
	for conn := range ConnID(clients + 1) {
		if tunnels[conn] > 1 || sessions[conn] > 1 || spent[conn] > 1 {
			t.Errorf("connection %d: %d tunnels, %d sessions, told %d times", conn, tunnels[conn], sessions[conn], spent[conn])
		}
		up += sessions[conn]
		if conn%2 == 1 && sessions[conn] == 1 && tunnels[conn] == 1 && spent[conn] != 1 {
			t.Errorf("connection %d: its tunnel is over and it was not told", conn)
		}
	}
	t.Logf("%d of %d sessions came up; %d refused for H1, %d for H3 and H5", up, clients, lns.e.Counters()[ReasonSingleShotUsed], lns.e.Counters()[ReasonConnSpent])
	if up < clients/2 || lns.e.Counters()[ReasonSingleShotUsed] == 0 || lns.e.Counters()[ReasonConnSpent] == 0 {
		t.Error("too little happened")
	}
	lns.step(CloseAll{})
	w.run(time.Minute)
	if told := len(slices.DeleteFunc(slices.Clone(lns.ups), func(x any) bool { _, is := x.(ConnSpent); return !is })); told != len(lns.e.uses) {
		t.Errorf("%d connections told of %d used", told, len(lns.e.uses))
	}
}

// restart writes the engine out and takes it up again with a configuration.
func (s *script) restart(cfg Config) {
	s.t.Helper()
	data, err := s.e.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := Restore(cfg, chacha(9), data)
	if err != nil {
		s.t.Fatal(err)
	}
	again, err := e.Snapshot()
	if err != nil || e.cfg.Admin == s.e.cfg.Admin && !bytes.Equal(again, data) {
		s.t.Fatalf("a second snapshot differs (%v):\n%s\n%s", err, data.Reveal(), again.Reveal())
	}
	s.e = e
	if err := e.check(); err != nil {
		s.t.Fatal(err)
	}
}
