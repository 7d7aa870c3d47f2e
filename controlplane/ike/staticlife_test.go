package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
)

// TestStaticDay: K7. A day of rekeys by either side, by both and by the peer's NAT, under loss: nothing comes down, and at
// each minute both sides can send on each pair of networks.
func TestStaticDay(t *testing.T) {
	for _, c := range []struct {
		name       string
		at         placement
		loss       float64
		west, east int // RekeyMargin; 1000: never
		rsa        bool
		aggressive bool
	}{
		{"both", placement{}, 0, 0, 0, false, false},
		{"both, loss", placement{}, 0.2, 0, 0, true, false},
		{"dialler", placement{west: true}, 0.1, 0, 1000, false, true},
		{"dialled", placement{west: true}, 0.1, 1000, 0, true, false},
		{"both behind NAT", placement{true, true}, 0.2, 0, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := twoSites(t, c.at, func(west, east *Config) {
				if c.rsa {
					byCertificate(west, east)
				}
				west.RekeyMargin, east.RekeyMargin = c.west, c.east
				for _, x := range []*Config{west, east} {
					x.Statics[0].PFS, x.Statics[0].Aggressive = 19, c.aggressive
					for i := range x.Rules {
						x.Rules[i].Lifetime = 3 * time.Hour
					}
				}
			})
			x.west.link(1)
			x.run(5 * time.Second)
			x.mustLink(t)
			x.loss, x.jitter = c.loss, 50*time.Millisecond
			for range 24 * 12 {
				x.run(5 * time.Minute)
				x.mustSend(t)
			}
			for _, n := range []*node{x.west, x.east} {
				if len(n.down) != 0 || len(n.children) != 2 || len(n.only(t).Phase1) > 3 || len(n.only(t).Children) > 6 {
					t.Errorf("%s: down %v, %v, %d phase 1 SAs, %d children", n.name, reasons(n.down), n.children, len(n.only(t).Phase1), len(n.only(t).Children))
				}
				if r := n.e.counters[CountChildRekey]; r < 48 || r > 120 {
					t.Errorf("%s: %d rekeys of two pairs in a day", n.name, r)
				}
				if r := n.e.counters[CountPhase1Rekey]; r < 7 || r > 20 {
					t.Errorf("%s: %d phase 1 rekeys in a day", n.name, r)
				}
			}
			x.end(t)
		})
	}
}

// mustSend checks that each side can reach the other on every pair of networks.
func (x *sites) mustSend(t testing.TB) {
	t.Helper()
	for _, pair := range [][2]*node{{x.west, x.east}, {x.east, x.west}} {
		from, to := pair[0], pair[1]
		for _, c := range from.e.cfg.static("link").Children {
			ok := false
			for _, out := range from.kernel {
				if out.Dir != Outbound || out.Child != c.Name {
					continue
				}
				found := false
				for _, in := range to.kernel {
					found = found || in.Dir == Inbound && in.SPI == out.SPI && in.EncKey.Equal(out.EncKey) && in.Child == c.Name
				}
				ok = ok || found
			}
			if !ok {
				t.Fatalf("%v: %s cannot send on %s\n%s\n%s", x.now, from.name, c.Name, words(from.reports), words(to.reports))
			}
		}
	}
}

// TestStaticVolume: K7. The kernel's soft limit of volume replaces the pair that has reached it, at both sides at once or
// at one, and the other pair is left alone.
func TestStaticVolume(t *testing.T) {
	x := twoSites(t, placement{}, func(west, east *Config) {
		west.Statics[0].LifeKB, east.Statics[0].LifeKB = 100000, 80000
		west.Statics[0].Lifetime, east.Statics[0].Lifetime = 8*time.Hour, 8*time.Hour // nothing is replaced for its time
	})
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	for _, sa := range x.west.kernel {
		if sa.HardKB != 80000 || sa.SoftKB != 64000 {
			t.Errorf("west: soft %d hard %d", sa.SoftKB, sa.HardKB)
		}
	}
	for _, sa := range x.east.kernel {
		if sa.HardKB != 80000 || sa.SoftKB != 72000 {
			t.Errorf("east: soft %d hard %d", sa.SoftKB, sa.HardKB)
		}
	}
	for round := range 20 {
		other := x.west.only(t).named("pair 2").In.SPI
		old := x.west.only(t).named("pair 1")
		x.west.step(SAExpired{SPI: old.Out.SPI, Dir: Outbound})
		if round%2 == 0 {
			x.east.step(SAExpired{SPI: old.Out.SPI, Dir: Inbound})
		}
		x.run(5 * time.Second)
		x.mustSend(t)
		x.run(5 * time.Minute)
		x.mustLink(t)
		for _, n := range []*node{x.west, x.east} {
			if len(n.kernel) != 4 {
				t.Fatalf("round %d: %s has %d SAs", round, n.name, len(n.kernel))
			}
		}
		if now := x.west.only(t); now.named("pair 1").In.SPI == old.In.SPI || now.named("pair 2").In.SPI != other {
			t.Fatalf("round %d: replaced is the wrong one", round)
		}
	}
	x.end(t)
}

// TestStaticSimultaneousRekey: both sides replace everything in the same instant, and keep the same.
func TestStaticSimultaneousRekey(t *testing.T) {
	x := twoSites(t, placement{})
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	for round := range 50 {
		for _, n := range []*node{x.west, x.east} {
			c := n.only(t)
			for _, name := range []string{"pair 1", "pair 2"} {
				n.step(SAExpired{SPI: c.named(name).In.SPI, Dir: Inbound})
			}
			if round%3 == 0 {
				n.step(Rekey{Conn: c.Info.ID, Phase1: true})
			}
		}
		x.run(3 * time.Second)
		x.mustSend(t)
		x.run(4 * time.Minute)
		x.mustLink(t)
		w, e := x.west.only(t), x.east.only(t)
		if len(w.Children) != 2 || len(e.Children) != 2 || len(w.Phase1) != 1 || len(e.Phase1) != 1 || w.Phase1[0].Cookies != e.Phase1[0].Cookies {
			t.Fatalf("round %d: %d and %d children, %d and %d phase 1 SAs", round, len(w.Children), len(e.Children), len(w.Phase1), len(e.Phase1))
		}
	}
	x.end(t)
}

// TestStaticPeerRestarts: a peer that has lost everything says so, and the connection that it does not know ends
// at once; the tunnel is that of the new one.
func TestStaticPeerRestarts(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		x := twoSites(t, placement{}, func(west, east *Config) { west.Statics[0].Aggressive = aggressive })
		x.west.link(1)
		x.run(5 * time.Second)
		x.mustLink(t)
		x.west.e, x.west.kernel, x.west.children = New(x.west.e.cfg, x.west.e.random), map[string]SA{}, nil
		x.run(10 * time.Second)
		x.west.link(2)
		x.run(5 * time.Second)
		x.mustLink(t)
		if !slices.Equal(reasons(x.east.down), []Reason{ReasonInitialContact}) || len(x.east.kernel) != 4 || !slices.Equal(x.east.alive(), nil) && len(x.east.up) != 2 {
			t.Errorf("east: down %v, %d SAs, up %+v", reasons(x.east.down), len(x.east.kernel), x.east.up)
		}
		x.end(t)
	}
}

// TestStaticDPD: K10. A dead peer is found by its silence where the tunnel wants that, its SAs go, and it can be dialled
// again.
func TestStaticDPD(t *testing.T) {
	for _, on := range []bool{true, false} {
		x := twoSites(t, placement{}, func(west, east *Config) {
			west.StaticDPD, east.DPD = junos, junos // of east, those that subscribers have too
			west.Statics[0].DPD = on
		})
		x.west.traffic = func(ConnID) (in, out uint64) { return 5, uint64(x.now.Unix()) }
		x.west.link(1)
		x.run(5 * time.Second)
		x.mustLink(t)
		x.run(20 * time.Minute)
		if len(x.west.down)+len(x.east.down) != 0 || len(x.east.only(t).Info.Static) == 0 || x.east.reads != 0 || on != (x.west.reads > 0) {
			t.Fatalf("DPD %v: down %v, reads %d %d", on, x.west.down, x.west.reads, x.east.reads)
		}
		x.tap = func(netip.AddrPort, netip.AddrPort, bool, []byte) bool { return false }
		x.run(5 * time.Minute)
		if !on {
			if len(x.west.down) != 0 {
				t.Errorf("down without DPD: %+v", x.west.down)
			}
			next := x.west.e.cfg
			next.Statics = slices.Clone(next.Statics)
			next.Statics[0].DPD = true
			x.west.step(Reconfigure{Config: next})
			x.run(5 * time.Minute)
			if !slices.Equal(reasons(x.west.down), []Reason{ReasonPeerDead}) {
				t.Errorf("down %+v after DPD was switched on", x.west.down)
			}
			continue
		}
		if !slices.Equal(reasons(x.west.down), []Reason{ReasonPeerDead}) || len(x.west.kernel) != 0 || len(x.west.e.conns) != 0 {
			t.Errorf("down %+v, %d SAs", x.west.down, len(x.west.kernel))
		}
		x.tap = nil
		x.west.children = nil
		x.west.link(2)
		x.run(10 * time.Second)
		x.mustLink(t)
		x.end(t)
	}
}

// TestStaticBackupPeer: connections with several addresses of the peer are up beside each other, until whoever decides about
// them ends one; nothing carries traffic less meanwhile.
func TestStaticBackupPeer(t *testing.T) {
	x := twoSites(t, placement{})
	cfg := x.east.e.cfg
	cfg.Statics = slices.Clone(cfg.Statics)
	cfg.Statics[0].Local = netip.MustParseAddr("192.0.2.2")
	backup := x.add("backup", "192.0.2.2", cfg)
	both := x.west.e.cfg
	both.Statics = slices.Clone(both.Statics)
	both.Statics[0].Peers = append(slices.Clone(both.Statics[0].Peers), backup.addr)
	x.west.step(Reconfigure{Config: both}) // peers may change without the tunnel's end
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	first := x.west.up[0].ID
	dial := func(ref uint64, to *node) {
		x.west.step(Initiate{Ref: ref, Static: "link", Remote: netip.AddrPortFrom(to.addr, 0)})
	}
	dial(2, backup)
	for range 100 {
		x.run(20 * time.Millisecond)
		if len(x.west.kernel) < 4 {
			t.Fatal("a gap")
		}
	}
	x.run(10 * time.Second)
	if len(x.west.up) != 2 || x.west.up[1].Ref != 2 || x.west.up[1].Remote.Addr() != backup.addr || len(x.west.down)+len(x.east.down) != 0 ||
		len(x.east.kernel) != 4 || len(x.west.kernel) != 8 {
		t.Fatalf("up %+v, down %+v", x.west.up, x.west.down)
	}
	// Both live on, over their rekeys, until somebody decides which is superfluous.
	x.run(6 * time.Hour)
	if len(x.west.down)+len(x.east.down)+len(backup.down) != 0 || len(x.west.e.conns) != 2 {
		t.Fatalf("down %v %v %v", reasons(x.west.down), reasons(x.east.down), reasons(backup.down))
	}
	x.west.step(CloseConn{Conn: first, Reason: ReasonReplaced})
	x.run(time.Minute)
	if len(x.east.kernel) != 0 || len(x.west.kernel) < 4 || len(backup.kernel) < 4 || len(x.west.down) != 1 || x.west.down[0].Conn.ID != first || x.west.down[0].Conn.Ref != 1 {
		t.Fatalf("down %+v, %d SAs", x.west.down, len(x.west.kernel))
	}
	dial(3, x.east)
	x.run(10 * time.Second)
	x.west.step(CloseConn{Conn: x.west.up[1].ID, Reason: ReasonReplaced})
	x.run(time.Minute)
	if len(backup.kernel) != 0 || len(x.west.up) != 3 || x.west.up[2].Remote.Addr() != x.east.addr || len(x.west.kernel) != 4 {
		t.Errorf("not given back: %+v", x.west.up)
	}
	// A backup that does not answer costs nothing.
	x.tap = func(_, to netip.AddrPort, _ bool, _ []byte) bool { return to.Addr() != backup.addr }
	dial(4, backup)
	x.run(3 * time.Minute)
	if last := x.west.down[len(x.west.down)-1]; last.Conn.ID != 0 || last.Conn.Ref != 4 || last.Reason != ReasonTimeout || len(x.west.kernel) != 4 {
		t.Errorf("down %+v", last)
	}
	x.tap = nil
	x.end(t)
	empty(t, backup)
}

// TestStaticInUse: the tunnel of a peer that may be anywhere is the first one's as long as it is up; the same peer may come
// from elsewhere.
func TestStaticInUse(t *testing.T) {
	x := twoSites(t, placement{}, func(west, east *Config) {
		east.Statics[0].Peers, east.Statics[0].PeerID = nil, "@*.example.net"
	})
	cfg := x.west.e.cfg
	cfg.Statics = slices.Clone(cfg.Statics)
	cfg.Statics[0].Local, cfg.Statics[0].LocalID = netip.MustParseAddr("198.51.100.8"), "@north.example.net"
	north := x.add("north", "198.51.100.8", cfg)
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	north.link(2)
	x.run(2 * time.Minute)
	x.mustLink(t)
	if len(north.up) != 0 || len(north.down) != 1 || x.east.e.counters[ReasonTunnelInUse] == 0 {
		t.Errorf("north: up %v, down %+v, %v", north.up, north.down, x.east.e.counters)
	}
	x.west.step(HangUp{Static: "link", Reason: ReasonOperator})
	x.run(time.Second)
	north.link(3)
	x.run(10 * time.Second)
	if len(north.up) != 1 {
		t.Errorf("north is not let in when west has gone: %+v", north.down)
	}
	north.step(CloseAll{Reason: ReasonShutdown})
	x.end(t)
	empty(t, north)
}

// TestStaticSnapshot: restarts of both sides in the middle of everything, also of opening, change nothing.
func TestStaticSnapshot(t *testing.T) {
	x := twoSites(t, placement{west: true})
	x.west.link(1)
	for range 200 {
		x.run(2 * time.Millisecond)
		if len(x.west.e.conns) == 1 && len(x.west.kernel) < 4 {
			x.west.restart(t)
		}
	}
	x.run(10 * time.Second)
	if len(x.west.up) == 0 {
		x.west.link(2) // phase 1 under way is in no snapshot
		x.run(10 * time.Second)
	}
	x.run(3 * time.Minute)
	if len(x.west.alive()) != 2 || len(x.west.kernel) != 4 {
		x.west.link(3)
		x.run(10 * time.Second)
	}
	x.mustLink(t)
	for i := range 30 {
		x.run(20 * time.Minute)
		[]*node{x.west, x.east}[i%2].restart(t)
		x.mustSend(t)
		x.mustLink(t)
	}
	if len(x.west.down)+len(x.east.down) != 0 {
		t.Errorf("down %v %v", x.west.down, x.east.down)
	}
	x.end(t)
}

// TestStaticReconfigure: G4. What a reload ends and what it leaves.
func TestStaticReconfigure(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		reason Reason
	}{
		{"nothing", func(*Config) {}, ""},
		{"removed", func(c *Config) { c.Statics = nil }, ReasonProfileRemoved},
		{"renamed", func(c *Config) { c.Statics[0].Name = "other" }, ReasonProfileRemoved},
		{"changed", func(c *Config) { c.Statics[0].Revision = "2" }, ReasonProfileChanged},
		{"peers", func(c *Config) { c.Statics[0].Peers = []netip.Addr{netip.MustParseAddr("192.0.2.77")} }, ""},
		{"DPD", func(c *Config) { c.Statics[0].DPD, c.DPD = true, junos }, ""},
		{"keys", func(c *Config) { c.Keys = nil }, ""},
		{"another one", func(c *Config) {
			s := c.Statics[0]
			s.Name = "another"
			c.Statics = append([]StaticTunnel{s}, c.Statics...)
		}, ""},
		{"a profile of the same name", func(c *Config) {
			c.Transports = []TransportProfile{{Name: "link", Local: c.Statics[0].Local, Revision: "9"}}
		}, ""},
	} {
		for _, up := range []bool{true, false} {
			x := twoSites(t, placement{})
			x.west.link(1)
			if up {
				x.run(5 * time.Second)
				x.mustLink(t)
			}
			cfg := x.west.e.cfg
			cfg.Statics = slices.Clone(cfg.Statics)
			c.change(&cfg)
			affected := x.west.e.Affected(cfg)
			if (len(affected) == 1) != (up && c.reason != "") || len(affected) == 1 && affected[0].Reason != c.reason {
				t.Errorf("%s: beforehand %+v", c.name, affected)
			}
			x.west.step(Reconfigure{Config: cfg})
			if (len(x.west.down) == 1) != (c.reason != "") || c.reason != "" && (x.west.down[0].Reason != c.reason || x.west.down[0].Conn.Static != "link") {
				t.Errorf("%s, up %v: %+v", c.name, up, x.west.down)
			}
			if up && c.name == "DPD" && !x.west.only(t).Probe {
				t.Error("DPD is not taken over")
			}
			x.run(time.Minute)
			if up && c.reason == "" && len(x.west.kernel) != 4 {
				t.Errorf("%s: %d SAs", c.name, len(x.west.kernel))
			}
			x.end(t)
		}
	}
}

// TestStaticChaos: two sites dial, rekey, hang up, restart and lose datagrams at random. When all is calm a dial brings
// the whole tunnel up, and nothing else is left.
func TestStaticChaos(t *testing.T) {
	for seed := range 12 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			at := placements[seed%2]
			x := twoSites(t, at, func(west, east *Config) {
				for _, c := range []*Config{west, east} {
					c.Statics[0].Aggressive = seed%3 == 0
					c.DPD, c.Statics[0].DPD = junos, true
				}
				if seed%4 == 0 {
					byCertificate(west, east)
				}
			})
			for _, n := range []*node{x.west, x.east} {
				n.traffic = func(ConnID) (in, out uint64) { return 0, uint64(x.now.Unix()) }
			}
			for range seed {
				x.rng.Uint64()
			}
			x.jitter, x.dup = 300*time.Millisecond, 0.1
			ref := uint64(0)
			for range 300 {
				n := []*node{x.west, x.east}[x.rng.IntN(2)]
				if n == x.east && at.west && x.rng.IntN(10) < 8 {
					n = x.west
				}
				var c *conn
				if cs := n.e.sortedConns(); len(cs) > 0 {
					c = cs[x.rng.IntN(len(cs))]
				}
				switch k := x.rng.IntN(12); {
				case k < 3:
					ref++
					n.link(ref)
				case k == 3:
					n.step(HangUp{Static: "link", Reason: ReasonOperator})
				case k == 4:
					n.restart(t)
				case k == 5:
					x.loss = []float64{0, 0.2, 0.5}[x.rng.IntN(3)]
				case k < 9 && c != nil:
					n.step(Rekey{Conn: c.Info.ID, Phase1: k == 6})
				case k == 9 && c != nil && len(c.Children) > 0:
					n.step(SAExpired{SPI: c.Children[0].In.SPI, Dir: Inbound, Hard: x.rng.IntN(2) == 0})
				}
				x.run(time.Duration(x.rng.Int64N(int64(20 * time.Second))))
				if len(n.e.conns) > 4 || len(n.kernel) > 40 {
					t.Fatalf("%s: %d connections, %d SAs", n.name, len(n.e.conns), len(n.kernel))
				}
			}
			x.loss, x.dup, x.jitter = 0, 0, 0
			x.run(10 * time.Minute)
			x.west.step(HangUp{Static: "link", Reason: ReasonOperator})
			x.east.step(HangUp{Static: "link", Reason: ReasonOperator})
			x.run(3 * time.Minute)
			x.west.children, x.east.children = nil, nil
			x.west.link(ref + 1)
			x.run(3 * time.Minute)
			x.mustLink(t)
			x.end(t)
		})
	}
}

// TestStaticKeepalive: RFC 3948 section 4. Who is behind a NAT keeps its mapping alive, and nobody else sends a
// keepalive (C9r); it counts for nothing at the peer (C10r).
func TestStaticKeepalive(t *testing.T) {
	for _, at := range placements {
		x := twoSites(t, at)
		x.west.link(1)
		x.run(5 * time.Second)
		x.mustLink(t)
		for _, n := range []*node{x.west, x.east} {
			n.kept = nil
		}
		before := x.packets
		x.run(10 * time.Minute)
		for n, behind := range map[*node]bool{x.west: at.west, x.east: at.east} {
			if got := len(n.kept); got != map[bool]int{true: 30}[behind] {
				t.Errorf("%v: %s sends %d keepalives", at, n.name, got)
			}
			for _, k := range n.kept {
				if i := n.only(t).Info; k.Local != i.Local || k.Remote != i.Remote || k.Local.Port() != nattPort || k.Conn != i.ID {
					t.Errorf("%+v", k)
				}
			}
		}
		if x.packets != before+len(x.west.kept)+len(x.east.kept) || at.west && x.east.e.counters[DropKeepalive] == 0 {
			t.Errorf("%v: %d datagrams", at, x.packets-before)
		}
		x.west.restart(t)
		n := len(x.west.kept)
		x.run(time.Minute)
		if at.west != (len(x.west.kept) > n) {
			t.Errorf("%v: after a restart %d", at, len(x.west.kept)-n)
		}
		x.end(t)
	}
}

// TestStaticPhase1Gone: a pair of networks whose quick mode is under way when its phase 1 SA ends is opened under another
// one, while what is up stays (Z-6).
func TestStaticPhase1Gone(t *testing.T) {
	x := twoSites(t, placement{})
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	x.east.step(SAExpired{SPI: x.east.only(t).named("pair 2").In.SPI, Dir: Inbound, Hard: true})
	x.run(time.Second)
	x.tap = func(_, to netip.AddrPort, _ bool, _ []byte) bool { return to.Addr() != x.east.addr }
	x.west.link(2)
	x.run(100 * time.Millisecond)
	x.tap = nil
	p := x.east.only(t).newest()
	p.Expires = x.now
	x.east.e.arm(p)
	x.east.step(Timer{})
	x.run(10 * time.Second)
	x.mustLink(t)
	if len(x.west.down)+len(x.east.down) != 0 || x.west.e.counters[CountPhase1Up] != 2 {
		t.Errorf("down %v %v, %v", reasons(x.west.down), reasons(x.east.down), x.west.e.counters)
	}
	x.end(t)
}

// TestStaticRekeyRefused: a rekey of which the kernel of either side does not take the outbound SA is tried again, and the SAs that
// were to be replaced do not end for it, also when the other side learns of it only when it has already replaced them.
func TestStaticRekeyRefused(t *testing.T) {
	for _, c := range []struct {
		by   string
		lost int // deletes
	}{{"west", 0}, {"west", 1}, {"east", 0}, {"east", 1}} {
		x := twoSites(t, placement{}, func(_, east *Config) { east.RekeyMargin = 1000 }) // it never begins a rekey itself
		x.west.link(1)
		x.run(5 * time.Second)
		x.mustLink(t)
		refused := 0
		map[string]*node{"west": x.west, "east": x.east}[c.by].refuse = func(sa SA) string {
			if sa.Dir == Inbound || refused > 0 {
				return ""
			}
			refused++
			return "no memory"
		}
		lost := 0
		x.tap = func(_, _ netip.AddrPort, _ bool, data []byte) bool {
			if isakmp.ExchangeType(data[18]) != isakmp.Informational || lost == c.lost {
				return true
			}
			lost++
			return false
		}
		old := x.west.only(t).named("pair 2")
		x.west.step(SAExpired{SPI: old.In.SPI, Dir: Inbound})
		x.run(5 * time.Minute)
		if x.west.only(t).named("pair 2") == old {
			t.Errorf("%+v: not replaced after five minutes", c)
		}
		for range 24 {
			x.run(5 * time.Minute)
			x.mustSend(t)
		}
		if refused != 1 || len(x.west.down)+len(x.east.down) != 0 || len(x.west.children) != 2 {
			t.Errorf("%+v: refused %d times, down %v %v, %v", c, refused, reasons(x.west.down), reasons(x.east.down), x.west.children)
		}
		x.end(t)
	}
}

// TestStaticRefusedIsTold: the peer learns that a pair of networks is not there of which a kernel has refused the outbound SA, or
// whose last message was lost, also when it misses most of the deletes. What it sends until then is received.
func TestStaticRefusedIsTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		refuse bool // the kernel does, once
		third  bool // message 3 does not arrive
		lost   int  // deletes
	}{
		{"east", true, false, 0},
		{"east", true, false, staticDeletes - 1},
		{"west", true, false, 0},
		{"west", true, false, staticDeletes - 1},
		{"east", false, true, 0},
		{"east", false, true, staticDeletes - 1},
	} {
		x := twoSites(t, placement{})
		by, peer := x.east, x.west
		if c.name == "west" {
			by, peer = x.west, x.east
		}
		refused := 0
		by.refuse = func(sa SA) string {
			if !c.refuse || sa.Dir == Inbound || sa.Child != "pair 2" || refused > 0 {
				return ""
			}
			refused++
			return "no memory"
		}
		deletes, thirds := 0, 0
		x.tap = func(from, _ netip.AddrPort, _ bool, data []byte) bool {
			switch exchange := isakmp.ExchangeType(data[18]); {
			case from.Addr() == by.addr && exchange == isakmp.Informational:
				deletes++
				return deletes > c.lost
			case c.third && from.Addr() == x.west.addr && exchange == isakmp.QuickMode && len(x.west.only(t).Children) == 2:
				thirds++
				return false
			}
			return true
		}
		x.west.link(1)
		x.run(time.Second)
		for range 120 {
			x.run(time.Second)
			for _, out := range peer.kernel {
				if _, ok := by.kernel[saKey(Inbound, out.SPI, peer.addr)]; out.Dir == Outbound && !ok {
					t.Errorf("%+v: %v: %s sends by an SA of %s that %s does not have", c, x.now, peer.name, out.Child, by.name)
				}
			}
		}
		if len(by.kernel) != 2 || len(peer.kernel) != 2 || (refused > 0) != c.refuse || (thirds > 0) != c.third || deletes <= c.lost {
			t.Errorf("%+v: %d and %d SAs, refused %d times, %d messages 3 and %d deletes, down %v %v\nwest\n%seast\n%s", c, len(by.kernel), len(peer.kernel), refused, thirds, deletes,
				reasons(x.west.down), reasons(x.east.down), words(x.west.reports), words(x.east.reports))
		}
		x.tap = nil
		x.west.step(Complete{Conn: x.west.only(t).Info.ID})
		x.run(5 * time.Second)
		x.mustLink(t)
		x.end(t)
	}
}
