package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// TestStaticExchange: K5. Which kind of exchange a dial uses is for the tunnel and the highest rule to say, what is answered
// for the peer's rules; aggressive mode offers the group of the highest rule that allows it, and rekeys of either side follow
// the first exchange.
func TestStaticExchange(t *testing.T) {
	rule := func(name string, a Aggressive, g keymat.Group) PolicyRule {
		return PolicyRule{Name: name, Encryption: []Encryption{{keymat.AES, 256}}, Hash: []keymat.Hash{keymat.SHA256}, Group: []keymat.Group{g}, Auth: AuthAny, Aggressive: a, Lifetime: time.Hour}
	}
	for _, c := range []struct {
		name       string
		tunnel     bool // wants aggressive mode
		first      Aggressive
		second     Aggressive
		peer       Aggressive
		aggressive bool
		rule       string // "": it does not come up
	}{
		{"not allowed", false, AggressiveNotAllowed, AggressiveNotAllowed, AggressiveNotAllowed, false, "first"},
		{"accepted", false, AggressiveAccepted, AggressiveAccepted, AggressiveAccepted, false, "first"},
		{"requested", false, AggressiveRequested, AggressiveNotAllowed, AggressiveAccepted, true, "first"},
		{"required", false, AggressiveRequired, AggressiveNotAllowed, AggressiveAccepted, true, "first"},
		{"requested, but lower", false, AggressiveAccepted, AggressiveRequested, AggressiveAccepted, false, "first"},
		{"required, but lower", false, AggressiveNotAllowed, AggressiveRequired, AggressiveAccepted, false, "first"},
		{"the tunnel's", true, AggressiveAccepted, AggressiveNotAllowed, AggressiveAccepted, true, "first"},
		{"the tunnel's, by the second rule", true, AggressiveNotAllowed, AggressiveAccepted, AggressiveAccepted, true, "second"},
		{"the tunnel's, which nothing allows", true, AggressiveNotAllowed, AggressiveNotAllowed, AggressiveAccepted, true, ""},
		{"refused", false, AggressiveRequested, AggressiveNotAllowed, AggressiveNotAllowed, true, ""},
		{"main mode refused", false, AggressiveNotAllowed, AggressiveNotAllowed, AggressiveRequired, false, ""},
		{"taken by who requests it", false, AggressiveNotAllowed, AggressiveNotAllowed, AggressiveRequested, false, "first"},
	} {
		for _, margins := range [][2]int{{0, 1000}, {1000, 0}} { // who rekeys
			x := twoSites(t, placement{}, func(west, east *Config) {
				west.Statics[0].Aggressive = c.tunnel
				west.Rules = []PolicyRule{rule("first", c.first, keymat.MODP2048), rule("second", c.second, keymat.MODP3072)}
				east.Rules = []PolicyRule{rule("first", c.peer, keymat.MODP2048), rule("second", c.peer, keymat.MODP3072)}
				if c.rule == "second" { // in aggressive mode a rekey by east offers one group too
					slices.Reverse(east.Rules)
				}
				west.RekeyMargin, east.RekeyMargin = margins[0], margins[1]
				for _, n := range []*Config{west, east} {
					n.Statics[0].Children = n.Statics[0].Children[:1]
				}
			})
			x.west.link(1)
			x.run(2 * time.Minute)
			if c.rule == "" {
				if len(x.west.up)+len(x.east.up) != 0 || len(x.west.down) != 1 {
					t.Errorf("%s: up %+v", c.name, x.west.up)
				}
				x.end(t)
				continue
			}
			x.mustLink(t)
			for range 2 {
				for _, n := range []*node{x.west, x.east} {
					if i := n.only(t).Info; i.Aggressive != c.aggressive || n == x.west && i.Rule != c.rule {
						t.Errorf("%s: %s: aggressive %v by rule %q (%s)", c.name, n.name, i.Aggressive, i.Rule, i.Proposal)
					}
				}
				x.run(3 * time.Hour)
			}
			if n := x.east.e.counters[CountPhase1Rekey]; n < 4 || len(x.west.down)+len(x.east.down) != 0 || c.rule == "second" && x.west.only(t).Info.Proposal != "AES-256/SHA2-256/MODP3072" {
				t.Errorf("%s: %d rekeys, down %v %v", c.name, n, reasons(x.west.down), reasons(x.east.down))
			}
			x.end(t)
		}
	}
}

// TestStaticPFS: K9. A group that is configured is asked for, and is the least that is accepted; without one what the peer asks
// for is taken. Rekeys by either side have the same.
func TestStaticPFS(t *testing.T) {
	for _, c := range []struct {
		west, east, got keymat.Group
		ok              bool
	}{
		{0, 0, 0, true},
		{keymat.MODP2048, 0, keymat.MODP2048, true},
		{0, keymat.MODP2048, 0, false},
		{keymat.MODP2048, keymat.MODP2048, keymat.MODP2048, true},
		{keymat.MODP3072, keymat.MODP2048, keymat.MODP3072, true},
		{keymat.Curve25519, keymat.MODP2048, keymat.Curve25519, true},
		{keymat.MODP2048, keymat.MODP3072, 0, false},
	} {
		x := twoSites(t, placement{}, func(west, east *Config) {
			west.Statics[0].PFS, east.Statics[0].PFS = c.west, c.east
		})
		x.west.link(1)
		x.run(5 * time.Second)
		if !c.ok {
			if len(x.west.up) != 0 || x.east.e.counters[ReasonPFS] == 0 {
				t.Errorf("%v to %v: %v", c.west, c.east, x.east.e.counters)
			}
			x.end(t)
			continue
		}
		x.mustLink(t)
		for _, n := range []*node{x.west, x.east} {
			n.step(Rekey{Conn: n.only(t).Info.ID})
			x.run(5 * time.Minute)
			x.mustLink(t)
			for _, ch := range n.e.Children() {
				if ch.PFS != c.got {
					t.Errorf("%v to %v: %s has %v", c.west, c.east, n.name, ch.PFS)
				}
			}
		}
		x.end(t)
	}
}

// TestStaticInvalidCookie: K11. A peer that has lost everything says so of what it does not know, if that is switched on, at a
// bounded rate; who is told ends nothing by it, since anybody could have said so.
func TestStaticInvalidCookie(t *testing.T) {
	for _, on := range []bool{true, false} {
		x := twoSites(t, placement{}, func(west, _ *Config) { west.InvalidCookie = on })
		x.west.link(1)
		x.run(5 * time.Second)
		x.mustLink(t)
		x.west.e, x.west.kernel = New(x.west.e.cfg, x.west.e.random), map[string]SA{}
		said := 0
		x.tap = func(from, _ netip.AddrPort, _ bool, data []byte) bool {
			if from.Addr() == x.west.addr {
				said++
			}
			return len(data) > 0
		}
		for _, ch := range x.east.e.Children() {
			x.east.step(SAExpired{SPI: ch.InboundSPI, Dir: Inbound})
		}
		x.run(20 * time.Second)
		if (said > 0) != on || said > 20*repliesPerSource || len(x.east.down) != 0 || len(x.east.kernel) != 4 {
			t.Errorf("switched on %v: %d answers, down %v, %d SAs", on, said, reasons(x.east.down), len(x.east.kernel))
		}
		if got := x.east.e.counters[DropClear] > 0; got != on {
			t.Errorf("switched on %v: %v", on, x.east.e.counters)
		}
		x.tap = nil
		x.end(t)
	}
}

// TestStaticShown: section 3, `show ipsec tunnel`. What an operator sees of a connection, its phase 1 SA and its pairs.
func TestStaticShown(t *testing.T) {
	x := twoSites(t, placement{west: true}, func(west, east *Config) {
		w := &west.Statics[0]
		w.XAuth, w.User, w.Password = StaticXAuthClient, "joe", keymat.Secret("secret of joe")
		east.Statics[0].XAuth = StaticXAuthServer
		for _, c := range []*Config{west, east} {
			c.Statics[0].LifeKB, c.Statics[0].PFS = 100000, keymat.MODP2048
		}
	})
	x.east.decide = newDecider()
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	for _, n := range []*node{x.west, x.east} {
		own, peer := isakmp.TextID(isakmp.IDFQDN, "west.example.net").String(), isakmp.TextID(isakmp.IDFQDN, "east.example.net").String()
		if n == x.east {
			own, peer = peer, own
		}
		i := n.e.Conns()[0]
		if i.LocalID != own || i.PeerID != peer || i.User != "joe" || i.Rule == "" || i.Proposal == "" || !i.DPD || i.NATLocal != (n == x.west) || i.NATPeer != (n == x.east) {
			t.Errorf("%s: %+v", n.name, i)
		}
		cs := n.e.Children()
		if len(cs) != 2 {
			t.Fatalf("%s: %+v", n.name, cs)
		}
		for _, ch := range cs {
			if ch.Static != "link" || ch.Child == "" || ch.Transform == "" || ch.PFS != keymat.MODP2048 || ch.LifeKB != 100000 || ch.RekeyKB == 0 || ch.RekeyKB >= ch.LifeKB ||
				ch.Lifetime != time.Hour || !ch.Expires.Equal(ch.Since.Add(time.Hour)) || !ch.Rekey.Before(ch.Expires) || !ch.Tunnel || !ch.Encap || ch.InboundSPI == 0 || ch.OutboundSPI == 0 {
				t.Errorf("%s: %+v", n.name, ch)
			}
		}
	}
	x.west.step(Rekey{Conn: x.west.only(t).Info.ID})
	x.run(10 * time.Second)
	if n := len(x.west.e.Children()); n != 3 { // the one that is replaced is shown too (K8)
		t.Errorf("%d pairs of SAs while one is replaced", n)
	}
	x.west.restart(t)
	if i := x.west.e.Conns()[0]; i.User != "joe" || i.LocalID == "" {
		t.Errorf("after a restart: %+v", i)
	}
	x.end(t)
}

// TestStaticOwnKeyFirst: in aggressive mode the key of a tunnel whose peer is known by identity alone goes before a common one for
// the addresses that the peer comes from, with which the tunnel could not come up; who calls himself otherwise gets the common one.
func TestStaticOwnKeyFirst(t *testing.T) {
	cfg := Config{
		Statics: []StaticTunnel{{Name: "branch", PeerID: "@branch.example.net", Aggressive: true}},
		Keys: []PresharedKey{
			{Name: "common", Key: keymat.Secret("of many"), Peer: netip.MustParsePrefix("203.0.113.9/32")},
			{Name: "own", Key: keymat.Secret("of the branch"), Static: "branch"},
		},
	}.withDefaults()
	local, peer := netip.MustParseAddr(eastAddr), netip.MustParseAddr(westPublic)
	for id, want := range map[string]string{"@branch.example.net": "own", "@other.example.net": "common"} {
		if k := cfg.keyFor(local, peer, AuthPSK, parseID(id), time.Now()); k == nil || k.Name != want {
			t.Errorf("%s: %+v, want %s", id, k, want)
		}
	}
}
