package l2tp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// L2TP over IPv6, with profiles for one LAC and for any (G2), clear text and IPsec, dialled and taken.
func TestIPv6(t *testing.T) {
	for _, c := range []struct {
		profiles []string
		want     string // empty: refused
	}{
		{[]string{"0.0.0.0"}, "0.0.0.0"},
		{[]string{"::", "0.0.0.0"}, "::"},
		{[]string{"2001:db8::7", "::", "0.0.0.0"}, "2001:db8::7"},
		{[]string{"2001:db8::8", "::"}, "::"},
		{[]string{"2001:db8::8", "198.51.100.7"}, ""},
	} {
		w := newWorld(t, 7)
		cfg := Config{HostName: "lns"}
		for _, p := range c.profiles {
			cfg.Profiles = append(cfg.Profiles, DestinationProfile{
				Name: p, LAC: netip.MustParseAddr(p), Hosts: []HostProfile{{Name: "default", Local: netip.MustParseAddr("2001:db8::1")}},
			})
		}
		lns, lac := w.node("2001:db8::1", cfg), w.node("2001:db8::7", Config{})
		lac.step(lac.sharedDial(1, "2001:db8::1", ""))
		w.run(time.Second)
		if c.want == "" {
			if got := lns.tally(); got.tunnelUp != 0 || lns.e.Counters()[ReasonNoProfile] == 0 {
				t.Errorf("%v: %+v", c.profiles, got)
			}
			continue
		}
		s := last[SessionUp](lns).Session
		if s.Profile != c.want || s.Remote != addrPort("[2001:db8::7]:1701") || s.Local != addrPort("[2001:db8::1]:1701") {
			t.Errorf("%v: %+v", c.profiles, s)
		}
		if open := lns.sockets[s.Tunnel]; open.Local != s.Local || open.Remote != s.Remote {
			t.Errorf("%+v", open)
		}
		lns.consistent()
	}
}

// An IPv4 address in IPv6 is the IPv4 address, in packets and in profiles.
func TestIPv4InIPv6(t *testing.T) {
	cfg := Config{Profiles: []DestinationProfile{
		{Name: "lac", LAC: netip.MustParseAddr("::ffff:203.0.113.5"), Hosts: []HostProfile{{Name: "default", Local: netip.MustParseAddr("::ffff:192.0.2.1")}}},
		{Name: "v6", LAC: netip.IPv6Unspecified(), Hosts: []HostProfile{{Name: "default"}}},
	}}
	s := newScript(t, cfg)
	p := s.peer(0, "[::ffff:203.0.113.5]:1701", 5)
	s.local = addrPort("[::ffff:192.0.2.1]:1701")
	p.up()
	// The second packet comes through another kind of socket.
	p.remote, s.local = addrPort("203.0.113.5:1701"), addrPort("192.0.2.1:1701")
	p.call(3)
	if got := s.e.Tunnels(); len(got) != 1 || got[0].Profile != "lac" || got[0].Remote != p.remote {
		t.Errorf("%+v", got)
	}
}

// Half-open tunnels of an IPv6 host are counted for its /64, from which it can send with any address.
func TestHalfOpenIPv6(t *testing.T) {
	s := newScript(t, profiles(""))
	for i := range 40 {
		s.peer(0, fmt.Sprintf("[2001:db8::%x]:1701", i+1), 5).say(0, sccrq(5, "pc").b)
	}
	if s.e.halfOpen != 16 {
		t.Errorf("%d half-open tunnels from one /64", s.e.halfOpen)
	}
	s.peer(0, "[2001:db8:0:1::1]:1701", 5).say(0, sccrq(5, "pc").b)
	if s.e.halfOpen != 17 {
		t.Errorf("%d: the next /64 is another host", s.e.halfOpen)
	}
	s.wait(2 * time.Minute)
	if s.e.halfOpen != 0 || len(s.e.halfOpenBy) != 0 {
		t.Errorf("%d left: %v", s.e.halfOpen, s.e.halfOpenBy)
	}
}

// D-Link's DIR-300 sends every control message to tunnel id 0. accel-ppp takes them with its dir300_quirk, as control messages of the
// tunnel whose socket they come to; here the LAC's address and port, or its connection, say which tunnel that is.
func TestZeroTunnelID(t *testing.T) {
	for _, c := range []struct {
		name   string
		quirk  bool
		conn   ConnID
		secret string
	}{{"clear text", true, 0, ""}, {"with a challenge", true, 0, "geheim"}, {"IPsec", true, 2, ""}, {"not allowed", false, 0, ""}, {"not allowed, IPsec", false, 2, ""}} {
		t.Run(c.name, func(t *testing.T) {
			cfg := profiles(c.secret)
			cfg.Profiles[0].Hosts[0].ZeroTunnelID = c.quirk
			s := newScript(t, cfg)
			p := s.peer(c.conn, "203.0.113.5:1701", 5)
			say := func(session SessionID, avps []byte) []Effect {
				ours := p.lns
				p.lns = 0
				defer func() { p.lns = ours }()
				return p.say(session, avps)
			}
			got := p.hear(say(0, sccrq(5, "dir-300").b))
			if kinds(got) != "[SCCRP]" {
				t.Fatalf("%s", kinds(got))
			}
			scccn := build(msgSCCCN)
			if c.secret != "" {
				scccn.bytes(attrChallengeResponse, challengeResponse(msgSCCCN, []byte(c.secret), got[0].challenge))
			}
			up := find[TunnelUp](say(0, scccn.b))
			if len(up) != 0 != c.quirk {
				t.Fatalf("%+v", up)
			}
			if !c.quirk {
				s.counted(ReasonUnknownTunnel, 1)
				return
			}
			// Somebody else's messages for tunnel 0 are nobody's.
			for _, other := range []*peer{s.peer(c.conn, "203.0.113.5:1702", 5), s.peer(c.conn+1, "203.0.113.5:1701", 5), s.peer(c.conn, "203.0.113.6:1701", 5)} {
				other.ns, other.nr = p.ns, p.nr
				if eff := other.say(0, build(msgStopCCN).u16(attrTunnelID, 5).result(1, 0, "").b); len(eff) != 0 {
					t.Errorf("%v", eff)
				}
			}
			if got = p.hear(say(0, icrq(7))); kinds(got) != "[ICRP]" {
				t.Fatalf("%s", kinds(got))
			}
			session := got[0].session
			if up := find[SessionUp](say(session, iccn().b)); len(up) != 1 {
				t.Fatalf("%+v", up)
			}
			ours := p.lns
			p.lns = 0
			if p.ack(); s.e.tunnels[ours].Channel.idle() != true {
				t.Error("its acknowledgements do not count")
			}
			p.lns = ours
			// Data for tunnel 0 the kernel does not steer to any tunnel's socket (kernel.md section 2.5): it is dropped, so that
			// PPP does not come up by the process while the kernel can carry nothing.
			if eff := p.raw(appendData(nil, 0, session, false, 0, []byte{0xc0, 0x21, 1})); len(eff) != 0 {
				t.Errorf("%v", eff)
			}
			data, err := s.e.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if s.e, err = Restore(cfg, chacha(3), data); err != nil {
				t.Fatal(err)
			}
			// A router that has been switched off and on opens another tunnel; its messages are for the newest. (The SCCRQ comes late
			// enough not to be a copy.)
			s.now = s.now.Add(40 * time.Second)
			again := s.peer(c.conn, "203.0.113.5:1701", 6)
			got = again.hear(again.say(0, sccrq(6, "dir-300").b))
			if kinds(got) != "[SCCRP]" || again.lns == ours {
				t.Fatalf("%s", kinds(got))
			}
			p = again
			if eff := say(0, build(msgStopCCN).u16(attrTunnelID, 6).result(1, 0, "").b); len(find[TunnelDown](eff)) != 1 || find[TunnelDown](eff)[0].Tunnel.ID != again.lns {
				t.Errorf("%v", eff)
			}
		})
	}
}
