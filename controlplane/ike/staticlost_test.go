package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// probing has both sites watch each other.
func probing(west, east *Config) {
	for _, c := range []*Config{west, east} {
		c.StaticDPD, c.Statics[0].DPD = junos, true
	}
}

// lasting has the pairs live for a day, and phase 1 for so long.
func lasting(phase1 time.Duration) func(west, east *Config) {
	return func(west, east *Config) {
		for _, c := range []*Config{west, east} {
			c.Statics[0].Lifetime = 24 * time.Hour
			for i := range c.Rules {
				c.Rules[i].Lifetime = phase1
			}
		}
	}
}

// busy has a node's traffic flow both ways, so that DPD has nothing to ask.
func (n *node) busy() {
	n.traffic = func(ConnID) (in, out uint64) { return uint64(n.w.now.Unix()), uint64(n.w.now.Unix()) }
}

// infos counts the informational messages that pass from now on.
func (x *sites) infos() *int {
	n := 0
	x.tap = func(_, _ netip.AddrPort, _ bool, data []byte) bool {
		if len(data) > 18 && data[18] == 5 {
			n++
		}
		return true
	}
	return &n
}

// mute loses all informational messages, which are the deletes and probes.
func (x *sites) mute() {
	x.tap = func(_, _ netip.AddrPort, _ bool, data []byte) bool { return len(data) <= 18 || data[18] != 5 }
}

// TestStaticPhase1Crossing: both sides replace the phase 1 SA at once, or nearly so, and no delete arrives: both have kept the same all
// the same.
func TestStaticPhase1Crossing(t *testing.T) {
	for seed := range 6 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			x := twoSites(t, placements[seed%4], func(west, east *Config) {
				if seed%3 == 0 {
					west.Statics[0].Aggressive, east.Statics[0].Aggressive = true, true
				}
			})
			x.seed(seed, 4)
			x.west.link(1)
			x.run(5 * time.Second)
			x.mustLink(t)
			x.dup, x.jitter = 0.1, 20*time.Millisecond
			crossed := 0
			for round := range 20 {
				x.mute()
				nodes := []*node{x.west, x.east}
				if x.rng.IntN(2) == 0 {
					slices.Reverse(nodes)
				}
				up := x.west.e.counters[CountPhase1Rekey]
				for _, n := range nodes {
					n.step(Rekey{Conn: n.only(t).Info.ID, Phase1: true})
					x.run(time.Duration(x.rng.Int64N(int64(60 * time.Millisecond))))
				}
				x.run(3*time.Minute + time.Second)
				if x.west.e.counters[CountPhase1Rekey] == up+2 {
					crossed++
				}
				w, e := x.west.only(t), x.east.only(t)
				if len(w.Phase1) != 1 || len(e.Phase1) != 1 || w.Phase1[0].Cookies != e.Phase1[0].Cookies {
					t.Fatalf("round %d: %d and %d phase 1 SAs\nwest\n%seast\n%s", round, len(w.Phase1), len(e.Phase1), words(x.west.reports), words(x.east.reports))
				}
				x.tap = nil
			}
			if crossed < 5 || len(x.west.down)+len(x.east.down) != 0 {
				t.Errorf("crossed %d times, down %v %v", crossed, reasons(x.west.down), reasons(x.east.down))
			}
			x.end(t)
		})
	}
}

// TestStaticPhase1Needless: a side whose first message of a phase 1 rekey is not answered gives it up when the peer's own has come up.
func TestStaticPhase1Needless(t *testing.T) {
	x := twoSites(t, placement{})
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	x.tap = func(from, _ netip.AddrPort, _ bool, _ []byte) bool { return from.Addr() != x.east.addr }
	x.east.step(Rekey{Conn: x.east.only(t).Info.ID, Phase1: true})
	x.tap = nil
	x.west.step(Rekey{Conn: x.west.only(t).Info.ID, Phase1: true})
	x.run(5 * time.Minute)
	for _, n := range []*node{x.west, x.east} {
		if got := n.e.counters[CountPhase1Rekey]; got != 1 || len(n.only(t).Phase1) != 1 || n.only(t).opening != nil {
			t.Errorf("%s: %d phase 1 rekeys, %d phase 1 SAs", n.name, got, len(n.only(t).Phase1))
		}
	}
	x.mustLink(t)
	x.end(t)
}

// lose has a node's only phase 1 SA end without a word to the peer.
func (x *sites) lose(t testing.TB, n *node) {
	t.Helper()
	x.mute()
	p := n.only(t).newest()
	p.Expires = x.now
	n.e.arm(p)
	n.step(Timer{})
	x.tap = nil
	if n.only(t).newest() != nil {
		t.Fatalf("%s has another phase 1 SA", n.name)
	}
}

// TestStaticPhase1Lapsed: Z-6. A side that has IPsec SAs and no phase 1 SA makes one soon, whichever has dialled, and replaces the IPsec
// SAs under it, without a gap. The other side, which still has the old SA, takes the new one too.
func TestStaticPhase1Lapsed(t *testing.T) {
	for _, dialler := range []string{"west", "east"} {
		for _, at := range placements {
			x := twoSites(t, at, probing)
			x.west.busy()
			x.east.busy()
			within := lapseWait
			if dialler == "west" {
				x.west.link(1)
			} else if !at.west {
				x.east.link(1)
				within *= responderLag
			} else {
				continue // nobody can be dialled behind that NAT
			}
			x.run(5 * time.Second)
			x.mustLink(t)
			old := x.west.only(t).named("pair 2").In.SPI
			x.lose(t, x.west)
			x.watch(t, within-time.Second, 100*time.Millisecond)
			if x.west.only(t).newest() != nil {
				t.Errorf("%s dialled, %v: phase 1 at once", dialler, at)
			}
			x.watch(t, 2*time.Second, 50*time.Millisecond)
			w, e := x.west.only(t), x.east.only(t)
			if p, q := w.newest(), e.newest(); p == nil || q == nil || p.Cookies != q.Cookies || !p.Initiator {
				t.Fatalf("%s dialled, %v: phase 1 SAs %+v and %+v", dialler, at, p, q)
			}
			x.watch(t, 5*time.Minute, time.Second)
			x.mustLink(t)
			if w.named("pair 2").In.SPI == old || len(x.west.down)+len(x.east.down) != 0 || len(x.west.kernel) != 4 || len(e.Phase1) != 1 {
				t.Errorf("%s dialled, %v: down %v %v, %d SAs", dialler, at, reasons(x.west.down), reasons(x.east.down), len(x.west.kernel))
			}
			x.end(t)
		}
	}
}

// TestStaticPhase1LapsesOften: a peer that deletes each phase 1 SA when it is up, as its habit is, is not asked for another one again
// and again; one that has kept an SA for long is asked soon again.
func TestStaticPhase1LapsesOften(t *testing.T) {
	x := twoSites(t, placement{}, probing, lasting(24*time.Hour))
	x.west.busy()
	x.east.busy()
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	deletes := func() {
		for _, p := range slices.Clone(x.east.only(t).Phase1) {
			if p.done() && p.Up.Before(x.now.Add(-10*time.Second)) {
				p.Expires = x.now
				x.east.e.arm(p)
				x.east.step(Timer{})
			}
		}
	}
	for range 12 * 60 {
		deletes()
		x.run(5 * time.Second)
	}
	if n := x.west.e.counters[CountPhase1Up]; n < 5 || n > 10 {
		t.Errorf("%d phase 1 SAs in an hour", n)
	}
	if len(x.west.down)+len(x.east.down) != 0 {
		t.Errorf("down %v %v", reasons(x.west.down), reasons(x.east.down))
	}
	for x.west.only(t).newest() == nil {
		x.run(time.Minute)
	}
	x.run(13 * time.Hour) // of a day
	before := x.west.e.counters[CountPhase1Up]
	deletes()
	x.run(lapseWait + lateInbound + 2*time.Second)
	if x.west.only(t).newest() == nil || x.west.e.counters[CountPhase1Up] == before {
		t.Errorf("no phase 1 SA after one that had lasted")
	}
	x.end(t)
}

// TestStaticHangUpLost: a peer hangs up, and of its deletes only that of phase 1 arrives: the side that has dialled dials again within
// seconds, since it is that to which the tunnel matters, and is not left with IPsec SAs that the peer does not have.
func TestStaticHangUpLost(t *testing.T) {
	x := twoSites(t, placement{}, probing)
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	first := true
	x.tap = func(from, _ netip.AddrPort, _ bool, data []byte) bool {
		lost := first && from.Addr() == x.east.addr && data[18] == 5
		first = first && !lost
		return !lost
	}
	x.east.step(HangUp{Static: "link", Reason: ReasonOperator})
	if first {
		t.Fatal("no delete was sent")
	}
	x.east.children = nil
	x.run(lateInbound + lapseWait + switchDelay + time.Second)
	x.mustSend(t)
	x.run(5 * time.Minute)
	x.mustLink(t)
	if len(x.west.down) != 0 {
		t.Errorf("down %v", reasons(x.west.down))
	}
	x.end(t)
}

// forgets has west restart without INITIAL-CONTACT, open phase 1 anew and one of its pairs of networks, and no other.
func (x *sites) forgets(t testing.TB) {
	t.Helper()
	west := New(x.west.e.cfg, x.west.e.random)
	x.west.e, x.west.kernel, x.west.children = west, map[string]SA{}, nil
	west.conns[maxConnID] = &conn{Info: ConnInfo{ID: maxConnID, Local: netip.AddrPortFrom(x.west.addr, ikePort), Remote: netip.AddrPortFrom(x.east.addr, ikePort)}} // see knows
	x.west.link(9)
	for len(x.west.e.conns) < 2 {
		x.run(time.Millisecond)
	}
	delete(west.conns, maxConnID)
	c := x.west.only(t)
	c.Wanted = slices.DeleteFunc(c.Wanted, func(n string) bool { return n != "pair 1" })
	x.run(time.Second)
	if got := x.west.alive(); !slices.Equal(got, []string{"pair 1"}) {
		t.Fatalf("up are %v", got)
	}
}

// TestStaticPeerForgets: a peer that has lost everything, does not say so and opens one of two pairs of networks is asked about the
// phase 1 SA from before. It knows nothing of that, and the other pair is opened again by us within seconds.
func TestStaticPeerForgets(t *testing.T) {
	for _, dpd := range []bool{true, false} {
		for _, dialler := range []string{"west", "east"} {
			x := twoSites(t, placement{}, probing, func(_, east *Config) { east.Statics[0].DPD = dpd })
			x.west.busy()
			x.east.busy()
			if dialler == "west" {
				x.west.link(1)
			} else {
				x.east.link(1)
			}
			x.run(10 * time.Minute)
			x.mustLink(t)
			x.forgets(t)
			x.run(doubtWait + 10*time.Second)
			if !dpd {
				if got := x.west.alive(); len(got) != 1 { // that is what the rest is against
					t.Errorf("up are %v though nobody is asked", got)
				}
				x.end(t)
				continue
			}
			x.mustSend(t)
			x.run(5 * time.Minute)
			x.mustLink(t)
			if len(x.east.down) != 0 || len(x.east.kernel) != 4 || len(x.east.only(t).Phase1) != 1 {
				t.Errorf("down %v, %d SAs", reasons(x.east.down), len(x.east.kernel))
			}
			x.end(t)
		}
	}
}

// TestStaticPeerForgetsForGood: a pair of networks that a peer which has forgotten it will not have again is down, and is said to be.
func TestStaticPeerForgetsForGood(t *testing.T) {
	x := twoSites(t, placement{}, probing)
	x.west.busy()
	x.east.busy()
	x.west.link(1)
	x.run(10 * time.Minute)
	x.mustLink(t)
	x.west.e.cfg.Statics[0].Children = x.west.e.cfg.Statics[0].Children[:1]
	x.forgets(t)
	x.run(doubtWait + 10*time.Second)
	last, _ := x.east.children[len(x.east.children)-1].(ChildDown)
	if last.Child != "pair 2" || last.Reason != ReasonPeerDead || last.ByPeer || !slices.Equal(x.east.alive(), []string{"pair 1"}) {
		t.Errorf("last %+v, up are %v", last, x.east.alive())
	}
	if len(x.east.down) != 0 || x.east.only(t).named("pair 1") == nil || x.east.only(t).named("pair 2") != nil {
		t.Errorf("down %v", reasons(x.east.down))
	}
	x.end(t)
}

// TestStaticPeerKnows: a peer that replaces its phase 1 SA early and still has the one before is asked once, and nothing is replaced;
// one that has deleted it is not asked, nor one that replaces it when it is due.
func TestStaticPeerKnows(t *testing.T) {
	for _, c := range []struct {
		name    string
		after   time.Duration // of a life of three hours
		deletes bool
		infos   int
	}{
		{"early", time.Hour, false, 2}, // R-U-THERE and its answer
		{"early, deleted", time.Hour, true, 1},
		{"due", 2 * time.Hour, false, 0},
	} {
		x := twoSites(t, placement{}, probing, lasting(3*time.Hour), func(west, east *Config) {
			west.RekeyMargin, east.RekeyMargin = 1000, 1000 // only what is said here
		})
		x.west.busy()
		x.east.busy()
		x.west.link(1)
		x.run(5 * time.Second)
		x.mustLink(t)
		x.run(c.after)
		old := x.west.only(t).newest()
		infos := x.infos()
		x.west.step(Rekey{Conn: x.west.only(t).Info.ID, Phase1: true})
		x.run(time.Second)
		if c.deletes {
			x.west.step(Timer{})
			old.Expires = x.now
			x.west.e.arm(old)
			x.west.step(Timer{})
		}
		x.run(50 * time.Second) // before the SA that has been replaced goes
		if *infos != c.infos {
			t.Errorf("%s: %d informational messages, want %d", c.name, *infos, c.infos)
		}
		x.run(5 * time.Minute)
		x.mustLink(t)
		for _, n := range []*node{x.west, x.east} {
			if got := n.e.counters[CountPhase1Rekey]; got != 1 || n.e.counters[CountChildRekey] != 0 || len(n.down) != 0 || len(n.only(t).Phase1) != 1 {
				t.Errorf("%s, %s: %d rekeys of phase 1, %d of IPsec SAs, down %v", c.name, n.name, got, n.e.counters[CountChildRekey], reasons(n.down))
			}
		}
		x.end(t)
	}
}
