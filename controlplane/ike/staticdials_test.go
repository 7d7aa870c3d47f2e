package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// threeSites is a world of two sites of which east has a second router, with an address and an engine of its own, that west takes
// for the same peer.
func threeSites(t testing.TB, change ...func(west, east *Config)) (x *sites, backup *node) {
	x = twoSites(t, placement{}, change...)
	cfg := x.east.e.cfg
	cfg.Statics = slices.Clone(cfg.Statics)
	cfg.Statics[0].Local = netip.MustParseAddr("192.0.2.2")
	backup = x.add("backup", "192.0.2.2", cfg)
	both := x.west.e.cfg
	both.Statics = slices.Clone(both.Statics)
	both.Statics[0].Peers = append(slices.Clone(both.Statics[0].Peers), backup.addr)
	x.west.step(Reconfigure{Config: both})
	return x, backup
}

// dialAt has a node dial the tunnel at an address.
func (n *node) dialAt(ref uint64, to *node) {
	n.step(Initiate{Ref: ref, Static: "link", Remote: netip.AddrPortFrom(to.addr, 0)})
}

// TestStaticDialsEnd: each dial ends in exactly one ConnDown, whatever happens: both ends dial, also what is dialled or up, at two
// addresses at once; hang up everything, a connection or a dial; lose datagrams, restart with their state and without.
func TestStaticDialsEnd(t *testing.T) {
	for seed := range 10 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			x, backup := threeSites(t, func(west, east *Config) {
				for _, c := range []*Config{west, east} {
					c.Statics[0].Aggressive = seed%3 == 0
					c.StaticDPD, c.Statics[0].DPD = junos, true
				}
				if seed%4 == 0 {
					byCertificate(west, east)
				}
				if seed%5 == 0 {
					west.Statics[0].XAuth, west.Statics[0].User, west.Statics[0].Password = StaticXAuthClient, "joe", []byte("secret of joe")
					east.Statics[0].XAuth = StaticXAuthServer
				}
			})
			nodes := []*node{x.west, x.east, backup}
			for _, n := range nodes {
				n.decide = newDecider()
				n.traffic = func(ConnID) (in, out uint64) { return 0, uint64(x.now.Unix()) }
			}
			for range seed {
				x.rng.Uint64()
			}
			x.jitter, x.dup = 100*time.Millisecond, 0.1
			ref := uint64(0)
			made := map[*node][]uint64{}
			forgotten := map[uint64]bool{}
			for range 250 {
				n := nodes[x.rng.IntN(len(nodes))]
				switch k := x.rng.IntN(14); {
				case k < 6:
					to := x.west
					if n == x.west {
						to = nodes[1+x.rng.IntN(2)]
					}
					ref++
					made[n] = append(made[n], ref)
					n.dialAt(ref, to)
				case k < 8 && len(made[n]) > 0:
					which := made[n][len(made[n])-1-x.rng.IntN(min(3, len(made[n])))]
					up := slices.ContainsFunc(n.e.Conns(), func(i ConnInfo) bool { return i.Ref == which && n.e.conns[i.ID].Announced })
					before := n.fates[which]
					n.step(HangUp{Static: "link", Ref: which, Reason: ReasonOperator})
					if over := n.fates[which] == 1; over == up && !forgotten[which] || before == 1 && !over {
						t.Fatalf("dial %d: up %v, over %v", which, up, over)
					}
				case k == 8:
					n.step(HangUp{Static: "link", Reason: ReasonOperator})
				case k == 9:
					for _, i := range n.e.Conns()[:min(1, len(n.e.Conns()))] {
						n.step(CloseConn{Conn: i.ID, Reason: ReasonOperator})
					}
				case k == 10:
					// What is in no connection is in no snapshot.
					kept := map[uint64]bool{}
					for _, i := range n.e.Conns() {
						kept[i.Ref] = true
					}
					for _, r := range made[n] {
						forgotten[r] = forgotten[r] || n.fates[r] == 0 && !kept[r]
					}
					n.restart(t)
				case k == 11:
					x.loss = []float64{0, 0.2, 0.6}[x.rng.IntN(3)]
				case k == 12 && len(n.e.conns) > 0:
					n.step(Rekey{Conn: n.e.sortedConns()[0].Info.ID, Phase1: true})
				}
				x.run([]time.Duration{time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond, 30 * time.Second}[x.rng.IntN(4)])
			}
			for _, n := range nodes {
				n.step(CloseAll{Reason: ReasonShutdown})
			}
			x.loss = 0
			x.run(3 * time.Minute)
			empty(t, nodes...)
			came := 0
			for _, n := range nodes {
				for _, r := range made[n] {
					if got := n.fates[r]; got != 1 && !forgotten[r] || got != 0 && forgotten[r] {
						t.Errorf("%s: dial %d ended %d times, forgotten %v", n.name, r, got, forgotten[r])
					}
				}
				for _, i := range n.up {
					if i.Ref != 0 {
						came++
					}
				}
			}
			if came < 10 {
				t.Errorf("%d dials have come up: the walk shows nothing", came)
			}
		})
	}
}
