package l2tp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// What holds for an object is the strictest state of its own and those above it; acting on a level acts on all below (A8).
func TestAdminStates(t *testing.T) {
	lac := netip.MustParseAddr("203.0.113.5")
	for _, c := range []struct {
		name            string
		level           func(p *peer, s SessionID) SetAdmin
		tunnels, calls  bool // new ones from this LAC with drain
		others          bool // new ones from another LAC with drain
		effects, reason string
	}{
		{"service", func(*peer, SessionID) SetAdmin { return SetAdmin{} }, false, false, false, "tunnel", ""},
		{"destination", func(*peer, SessionID) SetAdmin { return SetAdmin{Destination: lac} }, false, false, true, "tunnel", ""},
		{"mapped destination", func(*peer, SessionID) SetAdmin {
			return SetAdmin{Destination: netip.AddrFrom16(lac.As16())}
		}, false, false, true, "tunnel", ""},
		{"tunnel", func(p *peer, _ SessionID) SetAdmin { return SetAdmin{Destination: lac, Tunnel: p.lns} }, true, false, true, "tunnel", ""},
		{"session", func(p *peer, id SessionID) SetAdmin { return SetAdmin{Tunnel: p.lns, Session: id} }, true, true, true, "session", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := profiles("")
			cfg.Hello = -1
			s := newScript(t, cfg)
			p, q := s.peer(1, "203.0.113.5:1701", 5), s.peer(2, "203.0.113.6:1701", 5)
			p.up()
			q.up()
			q.call(3)
			id := p.call(9)
			set := c.level(p, id)
			next := ConnID(10)
			accepts := func(remote string, want bool, reason Reason) {
				t.Helper()
				next++
				for _, conn := range []ConnID{next, 0} { // clear text gets no less and no more
					n := s.peer(conn, remote, 100+TunnelID(next))
					before := s.e.Counters()[reason]
					eff := n.say(0, sccrq(n.id, "pc").b)
					if want {
						if got := n.hear(eff); kinds(got) != "[SCCRP]" {
							t.Errorf("SCCRQ answered with %v", kinds(got))
						}
						continue
					}
					if order(eff) != "[Refuse]" {
						t.Fatalf("SCCRQ gave %s", order(eff))
					}
					_, body, _ := parseHeader(find[Refuse](eff)[0].Data)
					if m, _ := decode(body, nil); m.result != StopShutdown {
						t.Errorf("refused with %+v", m)
					}
					s.counted(reason, before+1)
				}
			}
			calls := func(p *peer, peers SessionID, want bool) {
				t.Helper()
				got := p.hear(p.say(0, icrq(peers)))
				p.ack()
				if want && kinds(got) != "[ICRP]" || !want && (kinds(got) != "[CDN]" || got[0].result != CallNoFacilities) {
					t.Errorf("ICRQ answered with %+v", got)
				}
			}
			effective := func(want Admin) {
				t.Helper()
				for _, info := range s.e.Sessions() {
					if info.Tunnel == p.lns && info.ID == id && info.EffectiveAdmin != want {
						t.Errorf("session: %v, want %v", info.EffectiveAdmin, want)
					}
				}
				for _, info := range s.e.Tunnels() {
					if info.ID == p.lns && c.name != "session" && info.EffectiveAdmin != want {
						t.Errorf("tunnel: %v, want %v", info.EffectiveAdmin, want)
					}
				}
			}
			effective(AdminEnabled)
			set.State = AdminDrain
			if eff := s.step(set); len(eff) != 0 {
				t.Errorf("drain ends nothing: %v", eff)
			}
			effective(AdminDrain)
			s.restart(cfg)
			accepts("203.0.113.5:1701", c.tunnels, ReasonDrain)
			accepts("203.0.113.6:1701", c.others, ReasonDrain)
			calls(p, 10, c.calls)
			calls(q, 10, c.others)
			if f := find[FrameReceived](p.raw(appendData(nil, p.lns, id, false, 0, []byte{0xc0, 0x21}))); len(f) != 1 {
				t.Error("what lives does not go on")
			}
			set.State = AdminEnabled
			s.step(set)
			effective(AdminEnabled)
			accepts("203.0.113.5:1701", true, "")
			calls(p, 11, true)

			set.State = AdminDisabled
			eff := s.step(set)
			var tunnels, sessions int
			for _, d := range find[TunnelDown](eff) {
				if d.Tunnel.Conn == 1 || d.Tunnel.Conn == 2 {
					tunnels++
				}
				if d.Reason != ReasonDisabled || d.ByPeer {
					t.Errorf("%+v", d)
				}
			}
			for _, d := range find[SessionDown](eff) {
				sessions++
				if d.Reason != ReasonDisabled {
					t.Errorf("%+v", d)
				}
			}
			want := map[string][2]int{"service": {2, 2}, "session": {0, 1}}[c.name]
			if want == [2]int{} {
				want = [2]int{1, 1}
			}
			if got := [2]int{tunnels, sessions}; got != want {
				t.Errorf("tunnels and sessions ended: %v, want %v", got, want)
			}
			for _, ef := range find[Send](eff) {
				if ef.Tunnel != p.lns {
					continue
				}
				_, body, _ := parseHeader(ef.Data)
				m, _ := decode(body, nil)
				if c.name == "session" && (m.kind != msgCDN || m.result != CallAdministrative) || c.name != "session" && (m.kind != msgStopCCN || m.result != StopShutdown) {
					t.Errorf("the peer was told %+v", m)
				}
			}
			accepts("203.0.113.5:1701", c.tunnels, ReasonDisabled)
			accepts("203.0.113.6:1701", c.others, ReasonDisabled)
			if c.name == "destination" {
				s.step(ConnLost{Conn: 1})
				s.wait(2 * time.Hour)
				if list := s.e.Destinations(); len(list) != 1 || list[0].Remote != lac || list[0].Admin != AdminDisabled {
					t.Errorf("the state of a destination without a tunnel is gone: %+v", list)
				}
				set.State = AdminEnabled
				s.step(set)
				if list := s.e.Destinations(); len(list) != 0 {
					t.Errorf("%+v", list)
				}
			}
		})
	}
}

func TestAdminElsewhere(t *testing.T) {
	s := newScript(t, profiles(""))
	// Nobody's: nothing happens, and enabling what is enabled leaves no entry.
	for _, ev := range []SetAdmin{
		{Tunnel: 20000, State: AdminDisabled}, {Session: 5, State: AdminDisabled}, {Destination: netip.MustParseAddr("10.0.0.1")},
		{Tunnel: 20000, Session: 5, State: AdminDrain}, {Destination: netip.MustParseAddr("10.0.0.1"), Session: 3, State: AdminDisabled},
	} {
		if eff := s.step(ev); len(eff) != 0 || len(s.e.destinations) != 0 || s.e.admin != AdminEnabled {
			t.Errorf("%+v: %v", ev, eff)
		}
	}
	// We call nobody out of a drained service or at a drained destination.
	dial := Dial{Ref: 7, Local: s.local, Remote: netip.MustParseAddrPort("10.0.0.1:1701")}
	for _, ev := range []SetAdmin{{State: AdminDrain}, {Destination: dial.Remote.Addr(), State: AdminDrain}} {
		s.step(ev)
		if d := find[TunnelDown](s.step(dial)); len(d) != 1 || d[0].Reason != ReasonDrain || d[0].Tunnel.Ref != 7 {
			t.Errorf("%+v", d)
		}
		ev.State = AdminEnabled
		s.step(ev)
	}
	// States of their own are bounded.
	for i := range maxDestinationStates {
		s.e.setDestination(s.now, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), AdminDrain)
	}
	if r := find[Report](s.step(SetAdmin{Destination: netip.MustParseAddr("10.2.0.1"), State: AdminDrain})); len(r) != 1 || r[0].Reason != ReasonDestinations {
		t.Errorf("%+v", r)
	}
}

// Calls of ours go into no tunnel, old or new, at a drained destination; beside a drained tunnel they open another. What is there
// goes on.
func TestAdminShared(t *testing.T) {
	s := newScript(t, Config{})
	s.step(s.dialTo(1))
	p := s.answering()
	p.say(0, sccrp().u16(attrReceiveWindow, 8).b)
	p.nr++ // SCCCN
	p.take(1, p.hear(p.ack())[0], 91)
	lac := p.remote.Addr()
	for i, ev := range []SetAdmin{{Destination: lac, State: AdminDrain}, {State: AdminDrain}} {
		s.step(ev)
		want := fmt.Sprintf("[%d %s]", i+2, ReasonDrain)
		if eff := s.step(s.dialTo(uint64(i + 2))); len(eff) != 1 || fmt.Sprint(failures(eff)) != want {
			t.Errorf("%v, want %s", eff, want)
		}
		ev.State = AdminEnabled
		s.step(ev)
	}
	s.step(SetAdmin{Tunnel: p.lns, State: AdminDrain})
	if open := find[OpenSocket](s.step(s.dialTo(4))); len(open) != 1 || open[0].Tunnel == p.lns {
		t.Errorf("%+v", open)
	}
	eff := s.step(SetAdmin{Destination: lac, State: AdminDisabled})
	if d := find[SessionDown](eff); len(d) != 1 || d[0].Session.Ref != 1 || d[0].Reason != ReasonDisabled {
		t.Errorf("%+v", d)
	}
	if got := fmt.Sprint(failures(eff)); got != fmt.Sprintf("[4 %s]", ReasonDisabled) {
		t.Errorf("%s", got)
	}
}

// The configured state counts when it changes; what an operator has set since lives over a reload that does not concern it.
func TestAdminConfigured(t *testing.T) {
	cfg := profiles("")
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	want := func(a Admin) {
		t.Helper()
		if got := s.e.Service().Admin; got != a {
			t.Errorf("%v, want %v", got, a)
		}
	}
	s.step(SetAdmin{State: AdminDrain})
	s.step(Reconfigure{cfg})
	want(AdminDrain)
	s.restart(cfg)
	want(AdminDrain)
	cfg.Admin = AdminDisabled
	if tunnels, _ := s.e.Affected(cfg); len(tunnels) != 1 || tunnels[0].Reason != ReasonDisabled {
		t.Errorf("%+v", tunnels)
	}
	if d := find[TunnelDown](s.step(Reconfigure{cfg})); len(d) != 1 || d[0].Reason != ReasonDisabled {
		t.Errorf("%+v", d)
	}
	want(AdminDisabled)
	s.step(SetAdmin{State: AdminEnabled})
	s.peer(2, "203.0.113.6:1701", 5).up()
	s.step(Reconfigure{cfg})
	want(AdminEnabled)
	// A restart with another configuration is a reload.
	cfg.Admin = AdminDrain
	s.restart(cfg)
	want(AdminDrain)
	cfg.Admin = AdminDisabled
	s.restart(cfg)
	if d := find[TunnelDown](s.step(Timer{})); len(d) != 1 || d[0].Reason != ReasonDisabled {
		t.Errorf("%+v", d)
	}
}

// G4: a reload ends exactly the tunnels whose host profile is gone or has another revision.
func TestRevisions(t *testing.T) {
	lac := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }
	base := func() Config {
		return Config{HostName: "lns", Profiles: []DestinationProfile{
			{Name: "a", LAC: lac(1), Hosts: []HostProfile{{Name: "h", Revision: "1"}}},
			{Name: "b", LAC: lac(2), Hosts: []HostProfile{{Name: "h", Revision: "1"}, {Name: "x", Host: "x", Revision: "1"}}},
			{Name: "any", LAC: netip.IPv4Unspecified(), Hosts: []HostProfile{{Name: "h", Revision: "1"}}},
		}}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		ends   map[ConnID]Reason // connections 1: a, 2: b/h, 3: b/x, 4: any
	}{
		"nothing":       {func(*Config) {}, nil},
		"limits":        {func(c *Config) { c.Profiles[0].MaxSessions, c.Profiles[1].Hosts[0].MaxSessions = 1, 7 }, nil},
		"cause":         {func(c *Config) { on := true; c.Profiles[0].Hosts[0].DisconnectCause = &on }, nil},
		"order":         {func(c *Config) { p := c.Profiles; p[0], p[2] = p[2], p[0] }, nil},
		"order of host": {func(c *Config) { h := c.Profiles[1].Hosts; h[0], h[1] = h[1], h[0] }, nil},
		"another": {func(c *Config) {
			c.Profiles = append([]DestinationProfile{{Name: "new", LAC: lac(9), Hosts: []HostProfile{{Name: "h"}}}}, c.Profiles...)
		}, nil},
		"a better one for a LAC of any": {func(c *Config) {
			c.Profiles = append(c.Profiles, DestinationProfile{Name: "new", LAC: lac(4), Hosts: []HostProfile{{Name: "h", Revision: "9"}}})
		}, nil},
		"a better host profile": {func(c *Config) {
			c.Profiles[0].Hosts = append(c.Profiles[0].Hosts, HostProfile{Name: "pc", Host: "pc", Revision: "1"})
		}, nil},
		"revision":           {func(c *Config) { c.Profiles[1].Hosts[0].Revision = "2" }, map[ConnID]Reason{2: ReasonProfileChanged}},
		"host removed":       {func(c *Config) { c.Profiles[1].Hosts = c.Profiles[1].Hosts[:1] }, map[ConnID]Reason{3: ReasonProfileRemoved}},
		"profile removed":    {func(c *Config) { c.Profiles = c.Profiles[1:] }, map[ConnID]Reason{1: ReasonProfileRemoved}},
		"any removed":        {func(c *Config) { c.Profiles = c.Profiles[:2] }, map[ConnID]Reason{4: ReasonProfileRemoved}},
		"renamed":            {func(c *Config) { c.Profiles[0].Name = "z" }, map[ConnID]Reason{1: ReasonProfileRemoved}},
		"all gone":           {func(c *Config) { c.Profiles = nil }, map[ConnID]Reason{1: ReasonProfileRemoved, 2: ReasonProfileRemoved, 3: ReasonProfileRemoved, 4: ReasonProfileRemoved}},
		"removed and change": {func(c *Config) { c.Profiles = c.Profiles[1:]; c.Profiles[0].Hosts[1].Revision = "" }, map[ConnID]Reason{1: ReasonProfileRemoved, 3: ReasonProfileChanged}},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,restart=%v", name, restart), func(t *testing.T) {
				s := newScript(t, base())
				peers := []*peer{s.peer(1, "10.0.0.1:1701", 1), s.peer(2, "10.0.0.2:1701", 1), s.peer(3, "10.0.0.2:1702", 1), s.peer(4, "10.0.0.4:1701", 1)}
				ids := map[ConnID]SessionID{}
				for i, p := range peers {
					host := "pc"
					if i == 2 {
						host = "x"
					}
					p.hear(p.say(0, sccrq(1, host).b))
					p.say(0, build(msgSCCCN).b)
					ids[p.conn] = p.call(7)
				}
				cfg := base()
				c.change(&cfg)
				before, _ := s.e.Snapshot()
				tunnels, sessions := s.e.Affected(cfg)
				if after, _ := s.e.Snapshot(); string(after) != string(before) {
					t.Error("Affected has changed something")
				}
				var eff []Effect
				if restart {
					s.restart(cfg)
					eff = s.step(Timer{})
				} else {
					eff = s.step(Reconfigure{cfg})
				}
				got, lost := map[ConnID]Reason{}, map[ConnID]Reason{}
				for _, d := range find[TunnelDown](eff) {
					got[d.Tunnel.Conn] = d.Reason
				}
				for _, d := range find[SessionDown](eff) {
					lost[d.Session.Conn] = d.Reason
				}
				want := fmt.Sprint(c.ends)
				if c.ends == nil {
					want = "map[]"
				}
				if fmt.Sprint(got) != want || fmt.Sprint(lost) != want {
					t.Errorf("tunnels %v and sessions %v ended, want %v", got, lost, want)
				}
				foreseen, foreseenCalls := map[ConnID]Reason{}, map[ConnID]Reason{}
				for _, i := range tunnels {
					foreseen[i.Conn] = i.Reason
				}
				for _, i := range sessions {
					foreseenCalls[i.Conn] = i.Reason
				}
				if fmt.Sprint(foreseen) != want || fmt.Sprint(foreseenCalls) != want {
					t.Errorf("Affected told %v and %v, want %v", foreseen, foreseenCalls, want)
				}
				for _, p := range peers {
					if c.ends[p.conn] != "" {
						if msgs := p.hear(only(eff, p.lns)); kinds(msgs) != "[StopCCN]" || msgs[0].result != StopShutdown {
							t.Errorf("told %+v", msgs)
						}
						continue
					}
					if f := find[FrameReceived](p.raw(appendData(nil, p.lns, ids[p.conn], false, 0, []byte{0xc0, 0x21}))); len(f) != 1 {
						t.Errorf("connection %d: the session does not go on", p.conn)
					}
				}
			})
		}
	}
}

// only keeps what is sent through one tunnel.
func only(effects []Effect, id TunnelID) (out []Effect) {
	for _, ef := range find[Send](effects) {
		if ef.Tunnel == id {
			out = append(out, ef)
		}
	}
	return out
}

// What no revision covers holds for new tunnels and sessions from then on.
func TestReconfigureLive(t *testing.T) {
	cfg := profiles("")
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	first := p.call(1)
	on := true
	changed := profiles("")
	changed.Profiles[0].Hosts[0].MaxSessions, changed.Profiles[0].Hosts[0].DisconnectCause = 1, &on
	s.step(Reconfigure{changed})
	if got := p.hear(p.say(0, icrq(2))); kinds(got) != "[CDN]" {
		t.Errorf("the new limit does not hold: %v", kinds(got))
	}
	s.counted(ReasonHostLimit, 1)
	p.ack()
	cause := &DisconnectCause{Code: 3, Direction: 1}
	if got := p.hear(s.step(CloseSession{Tunnel: p.lns, Session: first, Cause: cause})); got[0].cause != nil {
		t.Errorf("the old tunnel sends causes: %+v", got)
	}
	q := s.peer(2, "203.0.113.6:1701", 5)
	q.up()
	id := q.call(1)
	if got := q.hear(s.step(CloseSession{Tunnel: q.lns, Session: id, Cause: cause})); got[0].cause == nil {
		t.Errorf("the new tunnel does not: %+v", got)
	}
}

// manyProfiles is n destination profiles for exact addresses and one for any.
func manyProfiles(n int) Config {
	cfg := Config{HostName: "lns"}
	for i := range n - 1 {
		cfg.Profiles = append(cfg.Profiles, DestinationProfile{
			Name: fmt.Sprintf("p%d", i), LAC: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
			Hosts: []HostProfile{{Name: "default", Revision: "1"}, {Name: "lac", Host: "lac", Revision: "1"}},
		})
	}
	cfg.Profiles = append(cfg.Profiles, DestinationProfile{Name: "any", Hosts: []HostProfile{{Name: "default", Revision: "1"}}})
	return cfg
}

// BenchmarkReconfigure4000 reloads 4,000 profiles (G3) while 500 sessions live.
func BenchmarkReconfigure4000(b *testing.B) {
	cfg := manyProfiles(4000)
	e := New(cfg, chacha(1))
	for i := range 500 {
		connect(b, e, ConnID(i+1), TunnelID(i+1))
	}
	b.ReportAllocs()
	now := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	for b.Loop() {
		for _, ef := range e.Step(now, Reconfigure{cfg}) {
			if d, ok := ef.(TunnelDown); ok {
				b.Fatalf("%+v", d)
			}
		}
	}
}

// BenchmarkDestination looks a LAC's profiles up, which must cost the same with 1 and with 4,000 of them (G3).
func BenchmarkDestination(b *testing.B) {
	for _, n := range []int{1, 4000} {
		d := newDirectory(manyProfiles(n).Profiles)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				p, ok := d.destination(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8 & 15), byte(i)}))
				if !ok {
					b.Fatal("no profile")
				}
				if _, ok := d.host(p, "lac", netip.Addr{}); !ok {
					b.Fatal("no host profile")
				}
			}
		})
	}
}
