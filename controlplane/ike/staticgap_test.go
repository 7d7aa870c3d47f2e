package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// gap says on which pair of networks what a node sends now is lost: the kernel takes the SA that was installed last, and the
// other side no longer, or not yet, has its counterpart. "" if there is none.
func (x *sites) gap() string {
	for _, pair := range [][2]*node{{x.west, x.east}, {x.east, x.west}} {
		from, to := pair[0], pair[1]
		for _, c := range from.e.cfg.static("link").Children {
			var last SA
			order := 0
			for k, sa := range from.kernel {
				if sa.Dir == Outbound && sa.Child == c.Name && from.order[k] > order {
					last, order = sa, from.order[k]
				}
			}
			if order == 0 {
				return fmt.Sprintf("%s has no SA for %s", from.name, c.Name)
			}
			found := false
			for _, in := range to.kernel {
				found = found || in.Dir == Inbound && in.SPI == last.SPI && in.EncKey.Equal(last.EncKey) && in.Child == c.Name
			}
			if !found {
				return fmt.Sprintf("%s sends on %s by %08x, which %s does not have", from.name, c.Name, last.SPI, to.name)
			}
		}
	}
	return ""
}

// watch lets time pass and looks for gaps all the while.
func (x *sites) watch(t testing.TB, d, step time.Duration) {
	t.Helper()
	for end := x.now.Add(d); x.now.Before(end); {
		x.run(step)
		if text := x.gap(); text != "" {
			t.Fatalf("%v: %s\nwest\n%seast\n%s", x.now, text, words(x.west.reports), words(x.east.reports))
		}
	}
}

// TestStaticNoGap: K7. Both sides replace SAs of either phase at once, or nearly so, while datagrams are lost, doubled and
// overtake each other: at no moment does one of them send by an SA that the other does not have.
func TestStaticNoGap(t *testing.T) {
	for seed := range 8 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			x := twoSites(t, placements[seed%4], func(west, east *Config) {
				for _, c := range []*Config{west, east} {
					c.Statics[0].Aggressive = seed%3 == 0
					if seed%2 == 0 {
						c.Statics[0].PFS = 31
					}
				}
			})
			x.seed(seed, 3)
			x.west.link(1)
			x.run(5 * time.Second)
			x.mustLink(t)
			x.loss, x.dup, x.jitter = []float64{0, 0.1, 0.2}[seed%3], 0.1, 20*time.Millisecond
			for range 30 {
				for _, n := range []*node{x.west, x.east} {
					for _, c := range n.e.sortedConns() {
						if x.rng.IntN(2) == 0 {
							n.step(Rekey{Conn: c.Info.ID, Phase1: true})
						}
						for _, ch := range slices.Clone(c.Children) {
							if x.rng.IntN(4) != 0 {
								n.step(SAExpired{SPI: ch.In.SPI, Dir: Inbound})
							}
						}
					}
					x.watch(t, time.Duration(x.rng.Int64N(int64(100*time.Millisecond))), 10*time.Millisecond)
				}
				x.watch(t, 4*time.Second, 50*time.Millisecond)
				x.watch(t, time.Minute+time.Duration(x.rng.Int64N(int64(time.Minute))), 500*time.Millisecond)
			}
			x.loss, x.dup, x.jitter = 0, 0, 0
			x.watch(t, 4*time.Minute, time.Second)
			for _, n := range []*node{x.west, x.east} {
				if c := n.only(t); len(n.down) != 0 || len(c.Phase1) > 1 || len(n.kernel) != 4 || len(n.children) != 2 {
					t.Errorf("%s: down %v, %d phase 1 SAs, %d SAs, %v", n.name, reasons(n.down), len(c.Phase1), len(n.kernel), n.children)
				}
			}
			x.end(t)
		})
	}
}

// TestStaticPeerKilled: a peer that has lost everything and does not say so (strongSwan with uniqueids=never, or when
// the notify is not its habit) dials again while we think that it is up: it is served at once, and what it has
// forgotten goes, however often.
func TestStaticPeerKilled(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		for _, pause := range []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute} {
			x := twoSites(t, placement{}, func(west, east *Config) { west.Statics[0].Aggressive = aggressive })
			for ref := range uint64(15) {
				west := New(x.west.e.cfg, x.west.e.random)
				x.west.e, x.west.kernel, x.west.children = west, map[string]SA{}, nil
				before := x.east.e.counters[CountPhase1Up]
				silent := &conn{Info: ConnInfo{ID: 0xffffff, Local: netip.MustParseAddrPort(westAddr + ":500"), Remote: netip.MustParseAddrPort(eastAddr + ":500")}} // keeps it from INITIAL-CONTACT
				west.conns[0xffffff] = silent
				x.west.link(ref + 1)
				x.run(200 * time.Millisecond)
				delete(west.conns, 0xffffff)
				x.run(800 * time.Millisecond)
				if got := x.west.alive(); len(got) != 2 || x.east.e.counters[CountPhase1Up] == before {
					t.Fatalf("dial %d: up are %v, east down %v", ref, got, reasons(x.east.down))
				}
				x.mustSend(t)
				if len(x.east.e.conns) != 1 || len(x.east.only(t).Phase1) > maxPhase1PerConn || len(x.east.kernel) > 2*2*maxChildren {
					t.Fatalf("%d connections, %d SAs", len(x.east.e.conns), len(x.east.kernel))
				}
				x.run(pause)
			}
			x.run(5 * time.Minute)
			x.mustLink(t)
			if len(x.east.down) != 0 || len(x.east.kernel) != 4 || len(x.east.only(t).Phase1) != 1 || x.east.e.counters[ReasonInitialContact] != 0 {
				t.Errorf("aggressive %v, pause %v: down %v, %d SAs, %d phase 1 SAs", aggressive, pause, reasons(x.east.down), len(x.east.kernel), len(x.east.only(t).Phase1))
			}
			x.end(t)
		}
	}
}
