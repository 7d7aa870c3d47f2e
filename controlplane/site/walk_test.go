package site

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRandomWalk does anything in any order: peers come, go, call and answer dials late, names change or cannot be
// resolved, hosts cannot be reached, operators say what they like, and the configuration and the process change. The bed
// judges every effect. At the end the world is well again for eight hours, and every tunnel must be where it belongs.
func TestRandomWalk(t *testing.T) {
	addrs := []netip.Addr{primary, backup, third}
	walkConfig := func() Config {
		cfg := fuzzConfig()
		cfg.MaxDials = 2
		cfg.Tunnels = append(cfg.Tunnels, Tunnel{Name: "plain", Start: NailedUp, Peers: []Peer{{Addr: backup}, {Name: "x.example"}}, DialTimeout: 20 * time.Second})
		return cfg
	}
	rapid.Check(t, func(t *rapid.T) {
		b := newBed(t, walkConfig())
		tunnels := []string{"hq", "name", "any", "off", "plain"}
		aTunnel, anAddr := rapid.SampledFrom(tunnels), rapid.SampledFrom(addrs)
		b.dns["hq.example"], b.dns["x.example"] = []netip.Addr{primary}, []netip.Addr{third, backup}
		b.step(Timer{})
		conn := func(t *rapid.T) uint32 {
			if len(b.conns) == 0 {
				t.Skip("nothing is up")
			}
			return rapid.SampledFrom(slices.Sorted(maps.Keys(b.conns))).Draw(t, "conn")
		}
		wait := func(t *rapid.T, n int) {
			if n == 0 {
				t.Skip("nothing waits")
			}
		}
		actions := map[string]func(*rapid.T){
			"world": func(*rapid.T) { b.world() },
			"dialled": func(t *rapid.T) {
				wait(t, len(b.dials))
				ref := rapid.SampledFrom(slices.Sorted(maps.Keys(b.dials))).Draw(t, "ref")
				b.answerDial(ref, rapid.Bool().Draw(t, "up"))
			},
			"meets": func(t *rapid.T) {
				wait(t, len(b.dials))
				ref := rapid.SampledFrom(slices.Sorted(maps.Keys(b.dials))).Draw(t, "ref")
				for _, id := range slices.Sorted(maps.Keys(b.conns)) {
					if c := b.conns[id]; c.Tunnel == b.dials[ref].Tunnel && c.Peer == b.dials[ref].Peer {
						b.meets(ref, id)
						return
					}
				}
			},
			"resolved": func(t *rapid.T) {
				wait(t, len(b.resolves))
				r := Resolved{Name: b.resolves[0], Addrs: rapid.SliceOfN(anAddr, 0, 3).Draw(t, "addrs")}
				if rapid.Bool().Draw(t, "fails") {
					r.Reason = "no-such-name"
				}
				b.resolves = b.resolves[1:]
				b.step(r)
			},
			"ends":  func(t *rapid.T) { b.ends(conn(t), rapid.Bool().Draw(t, "dead")) },
			"moves": func(t *rapid.T) { b.step(Moved{Conn: conn(t), Peer: anAddr.Draw(t, "to")}) },
			"lapses": func(t *rapid.T) {
				b.step(PairDown{Conn: conn(t), Pair: rapid.SampledFrom([]string{"lan", "dmz"}).Draw(t, "pair"), Reason: "peer-deleted"})
			},
			"refuses": func(t *rapid.T) { b.refuses = rapid.Bool().Draw(t, "refuses") },
			"calls":   func(t *rapid.T) { b.calls(aTunnel.Draw(t, "tunnel"), anAddr.Draw(t, "peer")) },
			"acquire": func(t *rapid.T) { b.step(Acquire{Tunnel: aTunnel.Draw(t, "tunnel")}) },
			"operator": func(t *rapid.T) {
				b.operator(aTunnel.Draw(t, "tunnel"), rapid.SampledFrom([]Command{CommandUp, CommandDown, CommandNow}).Draw(t, "word"))
			},
			"peers": func(t *rapid.T) {
				for _, a := range addrs {
					b.alive[a] = rapid.Bool().Draw(t, fmt.Sprint(a))
				}
			},
			"names": func(t *rapid.T) {
				b.dns["hq.example"] = rapid.SliceOfN(anAddr, 0, 2).Draw(t, "hq")
				if len(b.dns["hq.example"]) == 0 {
					delete(b.dns, "hq.example")
				}
			},
			"deaf": func(t *rapid.T) { b.deaf = rapid.Bool().Draw(t, "deaf") },
			"mute": func(t *rapid.T) { b.mute = rapid.Bool().Draw(t, "mute") },
			"flow": func(t *rapid.T) {
				b.flow[0] += rapid.Uint64Range(0, 1).Draw(t, "in")
				b.flow[1] += rapid.Uint64Range(0, 1).Draw(t, "out")
			},
			"reload": func(t *rapid.T) {
				cfg := walkConfig()
				n := rapid.IntRange(0, len(cfg.Tunnels)-1).Draw(t, "tunnel")
				c := &cfg.Tunnels[n]
				switch rapid.SampledFrom([]string{"removed", "revision", "peers", "order", "start", "disabled", "check", "none"}).Draw(t, "change") {
				case "removed":
					cfg.Tunnels = slices.Delete(cfg.Tunnels, n, n+1)
				case "revision":
					c.Revision = rapid.StringMatching("[a-c]").Draw(t, "revision")
				case "order":
					slices.Reverse(c.Peers)
				case "peers":
					c.Peers = []Peer{{Addr: anAddr.Draw(t, "peer")}, {Name: rapid.SampledFrom([]string{"x.example", "y.example"}).Draw(t, "name")}}
				case "start":
					if c.Start = Start(rapid.IntRange(0, 2).Draw(t, "start")); len(c.Peers) == 0 {
						c.Start = Respond
					}
				case "disabled":
					c.Disabled = !c.Disabled
				case "check":
					c.Check = Check{}
				}
				b.step(Reconfigure{Config: cfg})
			},
			"restart": func(t *rapid.T) { b.restart(b.e.cfg) },
			"pass":    func(t *rapid.T) { b.pass(time.Duration(rapid.IntRange(0, 900).Draw(t, "seconds")) * time.Second) },
			"": func(t *rapid.T) {
				if n := len(b.e.timers); n > len(b.e.tunnels)+len(b.e.names) || len(b.e.queue) > len(b.e.tunnels)+1 {
					t.Fatalf("%d timers and %d in the queue of %d tunnels", n, len(b.e.queue), len(b.e.tunnels))
				}
			},
		}
		t.Repeat(actions)

		for _, a := range addrs {
			b.alive[a] = true
		}
		b.deaf, b.mute = false, false
		for _, id := range slices.Sorted(maps.Keys(b.conns)) {
			if c, there := b.conns[id]; there { // where it has come up
				b.step(Moved{Conn: id, Peer: c.Peer})
			}
		}
		b.dns = map[string][]netip.Addr{"hq.example": {primary}, "x.example": {third}, "y.example": {third}}
		b.step(Reconfigure{Config: walkConfig()})
		for range 8 * 30 {
			b.flow[0]++
			b.pass(2 * time.Minute)
		}
		for name, want := range map[string]netip.Addr{"hq": primary, "plain": none} {
			if b.e.tunnels[name].Admin {
				b.operator(name, CommandUp)
				b.pass(time.Minute)
			}
			b.is(name, StateUp, want)
		}
		b.step(CloseAll{})
		b.world()
		if len(b.conns)+len(b.dials)+len(b.e.byConn) != 0 {
			t.Fatalf("left: %v, %v", b.conns, b.dials)
		}
	})
}

// Thousands of tunnels cost what happens to them and no more.
func TestManyTunnels(t *testing.T) {
	cfg := Config{}
	for _, n := range names(5000) {
		cfg.Tunnels = append(cfg.Tunnels, Tunnel{Name: n, Start: NailedUp, Peers: []Peer{{Addr: primary}}})
	}
	e := New(began, cfg, constant{})
	dials := e.Step(began, Timer{})
	for n, ref := uint64(0), uint64(1); n < 5000; n, ref = n+1, ref+1 {
		e.Step(began, Up{Ref: ref, Conn: uint32(ref), Peer: primary})
	}
	if len(e.timers) != 5000 || len(e.dials) != 0 || len(e.byConn) != 5000 {
		t.Fatalf("%d timers, %d dials, %d connections of %d first effects", len(e.timers), len(e.dials), len(e.byConn), len(dials))
	}
	allocs := testing.AllocsPerRun(100, func() { e.Step(began, Timer{}) })
	if allocs > 1 {
		t.Fatalf("a step in which nothing happens allocates %v times", allocs)
	}
}

// constant is a source without randomness.
type constant struct{}

func (constant) Read(b []byte) (int, error) { clear(b); return len(b), nil }
