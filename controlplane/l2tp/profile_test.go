package l2tp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestProfiles(t *testing.T) {
	lan := netip.MustParseAddr("10.0.0.9")
	cfg := Config{Profiles: []DestinationProfile{
		{Name: "any", LAC: netip.IPv4Unspecified(), Hosts: []HostProfile{
			{Name: "default", RequireIPsec: true},
			{Name: "office", Host: "office", Local: netip.MustParseAddr("192.0.2.1")},
			{Name: "office2", Host: "office", Local: netip.MustParseAddr("192.0.2.2")},
		}},
		{Name: "lan", LAC: lan, Hosts: []HostProfile{{Host: "router"}}},
	}}
	for _, c := range []struct {
		name, remote, local, host string
		conn                      ConnID
		profile, hostProfile      string
		reason                    Reason
	}{
		{"default through IPsec", "203.0.113.5", "192.0.2.1", "pc", 1, "any", "default", ""},
		{"default in clear", "203.0.113.5", "192.0.2.1", "pc", 0, "", "", ReasonClearText},
		{"named host in clear", "203.0.113.5", "192.0.2.1", "office", 0, "any", "office", ""},
		{"named host by called address", "203.0.113.5", "192.0.2.2", "office", 0, "any", "office2", ""},
		{"named host at another address gets no default", "203.0.113.5", "192.0.2.3", "office", 1, "", "", ReasonNoHostProfile},
		{"exact address", "10.0.0.9", "192.0.2.1", "router", 0, "lan", "router", ""},
		{"exact address decides alone", "10.0.0.9", "192.0.2.1", "pc", 1, "", "", ReasonNoHostProfile},
		{"mapped address", "::ffff:10.0.0.9", "::ffff:192.0.2.1", "router", 0, "lan", "router", ""},
		{"IPv6 matches any", "2001:db8::5", "2001:db8::1", "pc", 1, "any", "default", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, cfg)
			s.local = netip.AddrPortFrom(netip.MustParseAddr(c.local), 1701)
			p := s.peer(c.conn, netip.AddrPortFrom(netip.MustParseAddr(c.remote), 1701).String(), 1)
			eff := p.say(0, sccrq(1, c.host).b)
			if c.reason != "" {
				s.counted(c.reason, 1)
				level := LevelDebug
				if c.conn != 0 { // the operator knows the client
					level = LevelInfo
				}
				if r := find[Report](eff); len(eff) != 1 || len(r) != 1 || r[0].Level != level || r[0].Reason != c.reason {
					t.Errorf("%v", eff)
				}
				return
			}
			list := s.e.Tunnels()
			if len(list) != 1 || list[0].Profile != c.profile || list[0].HostProfile != c.hostProfile {
				t.Errorf("%+v", list)
			}
		})
	}
	s := newScript(t, Config{Profiles: []DestinationProfile{{Name: "lan", LAC: lan}}})
	if eff := s.peer(0, "203.0.113.5:1701", 1).say(0, sccrq(1, "pc").b); len(find[OpenSocket](eff)) != 0 {
		t.Errorf("%v", eff)
	}
	s.counted(ReasonNoProfile, 1)
}

func TestLimitsOnTunnels(t *testing.T) {
	cfg := profiles("")
	cfg.MaxHalfOpen, cfg.MaxHalfOpenPerPeer, cfg.MaxTunnels = 5, 2, 6
	s := newScript(t, cfg)
	ask := func(conn ConnID, remote string, id TunnelID) []Effect {
		return s.peer(conn, remote, id).say(0, sccrq(id, "pc").b)
	}
	// In clear text the address counts, whatever the port; through IPsec the connection.
	for id := range TunnelID(3) {
		ask(0, fmt.Sprintf("203.0.113.5:%d", 2000+id), id+1)
		ask(7, "203.0.113.5:1701", id+1)
	}
	s.counted(ReasonHalfOpenPeer, 2)
	ask(0, "203.0.113.6:1701", 1)
	if eff := ask(0, "203.0.113.7:1701", 1); len(eff) != 0 {
		t.Errorf("%v", eff)
	}
	s.counted(ReasonHalfOpen, 1)
	if got := len(s.e.tunnels); got != 5 {
		t.Errorf("%d tunnels", got)
	}
	s.wait(2 * time.Minute)
	if s.e.halfOpen != 0 || len(s.e.halfOpenBy) != 0 {
		t.Errorf("half-open %d, %v", s.e.halfOpen, s.e.halfOpenBy)
	}
	// Established tunnels are not half-open, but count towards the total.
	for i := range 6 {
		s.peer(ConnID(20+i), "203.0.113.5:1701", 1).up()
	}
	eff := ask(30, "203.0.113.5:1701", 1)
	refused := find[Refuse](eff)
	if len(refused) != 1 || refused[0].Conn != 30 {
		t.Fatalf("%v", eff)
	}
	h, body, err := parseHeader(refused[0].Data)
	m, failed := decode(body, nil)
	if err != nil || failed != nil || h.tunnel != 1 || h.nr != 1 || m.kind != msgStopCCN || m.result != StopError || m.err != ErrorResources || m.tunnel == 0 || m.tunnel >= TunnelIDMin {
		t.Errorf("refusal %+v %+v", h, m)
	}
	for range 100 {
		ask(30, "203.0.113.5:1701", 1)
	}
	s.counted(ReasonRefusalRate, 101-refusalsPerSec)
	if eff := ask(0, "203.0.113.5:1701", 1); len(eff) != 0 {
		t.Errorf("clear text: %v", eff)
	}
}

func TestLimitsOnSessions(t *testing.T) {
	cfg := Config{MaxSessions: 3, Profiles: []DestinationProfile{
		{Name: "p", MaxSessions: 2, Hosts: []HostProfile{{Name: "h", Host: "pc", MaxSessions: 1}, {Name: "d"}}},
		{Name: "q", LAC: netip.MustParseAddr("10.0.0.1"), Hosts: []HostProfile{{Name: "d"}}},
	}}
	s := newScript(t, cfg)
	named, other, third := s.peer(1, "203.0.113.5:1701", 1), s.peer(2, "203.0.113.6:1701", 1), s.peer(3, "10.0.0.1:1701", 1)
	named.up()
	refusal := func(p *peer, reason Reason, count uint64) {
		t.Helper()
		got := p.hear(p.say(0, icrq(77)))
		if kinds(got) != "[CDN]" || got[0].result != CallNoFacilities || got[0].err != ErrorResources || got[0].session == 0 {
			t.Errorf("%+v", got)
		}
		s.counted(reason, count)
	}
	first := named.call(10)
	refusal(named, ReasonHostLimit, 1)
	other.hear(other.say(0, sccrq(1, "mac").b))
	other.say(0, build(msgSCCCN).b)
	other.call(10)
	refusal(other, ReasonProfileLimit, 1)
	refusal(named, ReasonProfileLimit, 2) // the destination profile is asked first (G11)
	third.up()
	third.call(10)
	refusal(third, ReasonSessionLimit, 1)
	s.step(CloseSession{Tunnel: named.lns, Session: first})
	if id := third.call(11); id == 0 {
		t.Error("no session after another has gone")
	}
}

// TestResourceError: a LAC that needs it hears of a general error where there is no room (G10), and of nothing else in its place.
func TestResourceError(t *testing.T) {
	s := newScript(t, Config{Profiles: []DestinationProfile{{Name: "p", MaxSessions: 1, Hosts: []HostProfile{{Name: "d", ResourceError: true}}}}})
	one := s.peer(1, "203.0.113.5:1701", 1)
	one.up()
	id := one.call(10)
	got := one.hear(one.say(0, icrq(77)))
	if len(got) == 0 || got[0].kind != msgCDN || got[0].result != CallError || got[0].err != ErrorResources {
		t.Errorf("no room: %+v", got)
	}
	s.counted(ReasonProfileLimit, 1)
	got = one.hear(s.step(CloseSession{Tunnel: one.lns, Session: id}))
	if len(got) == 0 || got[0].kind != msgCDN || got[0].result != CallAdministrative {
		t.Errorf("the end of a session: %+v", got)
	}
}

func TestReconfigure(t *testing.T) {
	a := DestinationProfile{Name: "a", LAC: netip.MustParseAddr("10.0.0.1"), Hosts: []HostProfile{{Name: "h"}}}
	b := DestinationProfile{Name: "b", LAC: netip.MustParseAddr("10.0.0.2"), Hosts: []HostProfile{{Name: "h"}, {Name: "x", Host: "x"}}}
	s := newScript(t, Config{Profiles: []DestinationProfile{a, b}})
	pa, pb, px := s.peer(1, "10.0.0.1:1701", 1), s.peer(2, "10.0.0.2:1701", 1), s.peer(3, "10.0.0.2:1702", 1)
	pa.up()
	pb.up()
	px.hear(px.say(0, sccrq(1, "x").b))
	px.say(0, build(msgSCCCN).b)
	b.Hosts = b.Hosts[:1:1]
	b.MaxSessions = 1
	eff := s.step(Reconfigure{Config{Hello: time.Second, Profiles: []DestinationProfile{b}}})
	var gone []ConnID
	for _, d := range find[TunnelDown](eff) {
		if d.Reason != ReasonProfileRemoved {
			t.Errorf("%+v", d)
		}
		gone = append(gone, d.Tunnel.Conn)
	}
	slices.Sort(gone)
	if !slices.Equal(gone, []ConnID{1, 3}) {
		t.Errorf("tunnels of connections %v ended, want 1 and 3 (G4)", gone)
	}
	pb.call(1)
	if got := pb.hear(pb.say(0, icrq(2))); kinds(got) != "[CDN]" {
		t.Errorf("the new limit does not hold: %v", kinds(got))
	}
	pb.ack()
	for _, x := range find[Send](s.wait(30 * time.Second)) {
		if x.Tunnel == pb.lns {
			t.Errorf("the old tunnel has the new HELLO interval: %x", x.Data)
		}
	}
}

// Clients that have come through IPsec are reported, but none can fill the log: neither with tunnels nor with calls.
func TestReportsBounded(t *testing.T) {
	cfg := profiles("")
	cfg.MaxSessions = 1
	cfg.Profiles = append(cfg.Profiles, DestinationProfile{Name: "lan", LAC: netip.MustParseAddr("10.0.0.9"), Hosts: []HostProfile{{Host: "router"}}})
	s := newScript(t, cfg)
	lac := s.peer(1, "203.0.113.5:1701", 5)
	lac.up()
	lac.call(9)
	for name, flood := range map[string]func(i int) []Effect{
		"tunnels without a host profile": func(i int) []Effect {
			return s.peer(ConnID(2+i), "10.0.0.9:1701", 1).say(0, sccrq(1, "pc").b)
		},
		"tunnels that are refused": func(i int) []Effect {
			return s.peer(ConnID(2+i), "203.0.113.6:1701", 1).say(0, sccrq(1, "pc").bytes(attrChallenge, []byte("0123456789")).b)
		},
		"calls": func(i int) []Effect {
			lac.hear(lac.ack())
			eff := lac.say(0, icrq(SessionID(100+i)))
			lac.hear(eff)
			return eff
		},
	} {
		s.wait(2 * time.Second)
		told := map[Level]int{}
		for i := range 10 * reportsPerSec {
			for _, r := range find[Report](flood(i)) {
				told[r.Level]++
			}
		}
		if told[LevelInfo] != reportsPerSec || told[LevelDebug] != 9*reportsPerSec {
			t.Errorf("%s: %v", name, told)
		}
	}
}
