package ike

import (
	"strings"
	"testing"
	"time"
)

// TestRekeyByTime lets two hours pass: phase 2 is replaced each hour and nothing
// is lost, whoever starts.
func TestRekeyByTime(t *testing.T) {
	for _, side := range []string{"initiator", "responder", "initiator behind NAT", "responder, initiator behind NAT"} {
		t.Run(side, func(t *testing.T) {
			w, client, server := pair(t)
			if strings.HasSuffix(side, "NAT") {
				w.nat("203.0.113.9", false, client)
			}
			if strings.HasPrefix(side, "responder") {
				client.e.cfg.RekeyMargin = 1000 // never
			} else {
				server.e.cfg.RekeyMargin = 1000
			}
			client.dial("192.0.2.1", 1, 1701)
			w.run(5 * time.Second)
			mustUp(t, client, server)
			id := server.up[0].ID
			for range 24 * 60 {
				w.run(time.Minute)
				agree(t, client, server)
				if c := server.only(t); c.Info.ID != id || c.current() == nil {
					t.Fatalf("after %v: %+v\n%s", w.now, c.Info, words(server.reports))
				}
			}
			if n := server.e.counters[CountChildRekey]; n < 24 || n > 32 {
				t.Errorf("%d phase 2 rekeys in a day", n)
			}
			if n := server.e.counters[CountPhase1Rekey]; n < 3 || n > 4 {
				t.Errorf("%d phase 1 rekeys in a day", n)
			}
			if c := server.only(t); len(c.Children) > 2 || len(c.Phase1) > 2 {
				t.Errorf("%d children, %d phase 1 SAs at the end", len(c.Children), len(c.Phase1))
			}
			if len(client.up) != 1 || len(client.down) != 0 || len(server.up) != 1 || len(server.down) != 0 {
				t.Errorf("connections came and went: %v %v", client.down, server.down)
			}
			server.step(CloseAll{Reason: ReasonShutdown})
			w.run(time.Minute)
			empty(t, client, server)
		})
	}
}

// TestRekeySimultaneous has both sides rekey in the same instant, again and
// again: afterwards both have kept the same SAs.
func TestRekeySimultaneous(t *testing.T) {
	for _, phase1 := range []bool{false, true} {
		w, client, server := pair(t)
		for _, n := range []*node{client, server} {
			n.e.cfg.Transports[0].Lifetime = 1000 * time.Hour // no rekey but ours
			for i := range n.e.cfg.Rules {
				n.e.cfg.Rules[i].Lifetime = 1000 * time.Hour
			}
		}
		client.dial("192.0.2.1", 1, 1701)
		w.run(5 * time.Second)
		mustUp(t, client, server)
		for i := range 100 {
			client.step(Rekey{Conn: client.up[0].ID, Phase1: phase1})
			server.step(Rekey{Conn: server.up[0].ID, Phase1: phase1})
			for range 40 {
				w.run(5 * time.Second)
				agree(t, client, server)
			}
			cc, sc := client.only(t), server.only(t)
			if len(cc.Children) != 1 || len(sc.Children) != 1 || cc.Children[0].In.SPI != sc.Children[0].Out.SPI {
				t.Fatalf("round %d phase1=%v: children %d and %d\n%s", i, phase1, len(cc.Children), len(sc.Children), words(client.reports, server.reports))
			}
			if len(cc.Phase1) != 1 || len(sc.Phase1) != 1 || cc.Phase1[0].Cookies != sc.Phase1[0].Cookies {
				t.Fatalf("round %d phase1=%v: phase 1 SAs %d and %d", i, phase1, len(cc.Phase1), len(sc.Phase1))
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// TestRekeyAfterOutage: the network is down when phase 1 is to be replaced, and the attempt fails.
// It is tried again before the SA ends, by whoever does it, and the connection lives on; a peer
// that stays away is asked a few times, not every minute (48 of them are left of 8 hours).
func TestRekeyAfterOutage(t *testing.T) {
	for _, tc := range []struct {
		server bool
		outage time.Duration
		rekeys uint64
	}{
		{false, 3 * time.Minute, 1},
		{true, 3 * time.Minute, 1},
		{true, 7 * time.Hour, 0},
	} {
		w, client, server := pair(t)
		other, by := server, client
		if tc.server {
			other, by = client, server
		}
		other.e.cfg.RekeyMargin = 1000
		for _, n := range []*node{client, server} {
			n.e.cfg.Transports[0].Lifetime = 1000 * time.Hour // phase 2 does not call for another
		}
		client.dial("192.0.2.1", 1, 1701)
		w.run(5 * time.Second)
		mustUp(t, client, server)
		due := by.only(t).Phase1[0].RekeyAt
		end := by.only(t).Phase1[0].Expires
		w.run(due.Add(-time.Second).Sub(w.now))
		w.loss = 1
		down := w.packets
		w.run(tc.outage)
		if n := w.packets - down; n < by.e.cfg.Retransmit.Tries || n > 12*by.e.cfg.Retransmit.Tries {
			t.Errorf("%+v: %d datagrams into the dead network", tc, n)
		}
		w.loss = 0
		w.run(end.Add(time.Minute).Sub(w.now))
		if n := by.e.counters[CountPhase1Rekey]; n != tc.rekeys {
			t.Errorf("%+v: %d phase 1 rekeys, want %d: %s", tc, n, tc.rekeys, words(by.reports))
		}
		if tc.rekeys > 0 {
			agree(t, client, server)
			if c := by.only(t); c.newest() == nil || len(client.down)+len(server.down) != 0 {
				t.Errorf("%+v: no phase 1 SA is left; down %v %v", tc, client.down, server.down)
			}
		}
	}
}

// TestRekeyRace has both sides rekey at about the same time over a bad link: in the
// end both have kept the same SAs, and there was always one to use.
func TestRekeyRace(t *testing.T) {
	w, client, server := pair(t)
	for _, n := range []*node{client, server} {
		n.e.cfg.Transports[0].Lifetime = 1000 * time.Hour
		for i := range n.e.cfg.Rules {
			n.e.cfg.Rules[i].Lifetime = 1000 * time.Hour
		}
	}
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	w.jitter, w.dup = 300*time.Millisecond, 0.1
	for i := range 300 {
		w.loss = 0.2
		phase1 := i%3 == 0
		client.step(Rekey{Conn: client.up[0].ID, Phase1: phase1})
		w.run(time.Duration(w.rng.Int64N(int64(time.Second))))
		server.step(Rekey{Conn: server.up[0].ID, Phase1: phase1})
		w.run(55 * time.Second)
		w.loss = 0 // nothing confirms a delete
		for range 10 {
			w.run(20 * time.Second)
			agreeWithin(t, client, server)
		}
		cc, sc := client.only(t), server.only(t)
		if len(client.down)+len(server.down) != 0 || cc.current() == nil || sc.current() == nil ||
			cc.current().In.SPI != sc.current().Out.SPI || cc.current().Out.SPI != sc.current().In.SPI {
			t.Fatalf("round %d phase1=%v: down %v %v, children %d and %d", i, phase1, client.down, server.down, len(cc.Children), len(sc.Children))
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// TestRekeySwitch: after a rekeying of ours we go on sending by the old SA for a moment, because
// the peer takes the new one only when it has read message 3. A peer that deletes the old one at
// once, as Windows does, has switched.
func TestRekeySwitch(t *testing.T) {
	for _, c := range []struct {
		name   string
		during func(w *world, client, server *node, old *child)
		after  time.Duration // from message 3
	}{
		{"undisturbed", func(*world, *node, *node, *child) {}, switchDelay},
		{"the peer deletes the old pair", func(_ *world, client, _ *node, old *child) {
			cc := client.only(t)
			for _, ch := range cc.Children {
				if ch.In.SPI == old.Out.SPI {
					client.e.prune(cc, ch)
				}
			}
			fs := client.e.out
			client.e.out = nil
			client.perform(fs)
			client.alarm()
		}, 500 * time.Millisecond},
		{"the daemon is replaced", func(_ *world, _, server *node, _ *child) {
			server.restart(t)
		}, switchDelay},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, client, server := pair(t)
			client.dial("192.0.2.1", 1, 1701)
			w.run(5 * time.Second)
			mustUp(t, client, server)
			old := server.only(t).Children[0]
			server.step(Rekey{Conn: server.up[0].ID})
			w.run(400 * time.Millisecond)
			sc := server.only(t)
			if len(sc.Children) != 2 {
				t.Fatalf("%d children", len(sc.Children))
			}
			next := sc.Children[1]
			has := func(sa SA) bool { _, ok := server.kernel[saKey(sa.Dir, sa.SPI, client.addr)]; return ok }
			if !has(next.In) || has(next.Out) || !has(old.In) || !has(old.Out) {
				t.Fatalf("right after message 3: new in %v out %v, old in %v out %v; want all but new out", has(next.In), has(next.Out), has(old.In), has(old.Out))
			}
			in, out := next.In, next.Out
			c.during(w, client, server, old)
			w.run(c.after)
			if !has(in) || !has(out) {
				t.Errorf("after %v: new in %v out %v", c.after, has(in), has(out))
			}
			w.run(2 * time.Minute)
			agree(t, client, server)
			if len(server.down)+len(client.down) != 0 || len(server.only(t).Children) != 1 {
				t.Errorf("in the end: down %v %v, %d children", server.down, client.down, len(server.only(t).Children))
			}
		})
	}
}

// TestRekeySwitchLate: of an old SA that is almost over half the time that is left is used.
func TestRekeySwitchLate(t *testing.T) {
	w, client, server := pair(t)
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	old := server.only(t).Children[0]
	old.Hard = w.now.Add(switchDelay)
	server.step(Rekey{Conn: server.up[0].ID})
	w.run(400 * time.Millisecond)
	next := server.only(t).Children[1]
	has := func(sa SA) bool { _, ok := server.kernel[saKey(sa.Dir, sa.SPI, client.addr)]; return ok }
	if !has(next.In) || has(next.Out) || !has(old.Out) {
		t.Errorf("right after message 3: new in %v out %v, old out %v; want all but new out", has(next.In), has(next.Out), has(old.Out))
	}
	w.run(switchDelay / 2)
	if !has(next.Out) {
		t.Error("the new SA is not used when half the time of the old one is over")
	}
	w.run(time.Minute)
	agree(t, client, server)
}

// TestRekeyKeepsLife: what a peer wanted less of than we do it does not have to want again when we rekey. One that is asked for more
// and says nothing, as strongSwan does, would drop the SAs when its own time is over.
func TestRekeyKeepsLife(t *testing.T) {
	w, client, server := pair(t)
	wants := client.e.cfg.Transports[0]
	client.e.cfg.Transports[0].Lifetime, client.e.cfg.Transports[0].LifeKB = 10*time.Minute, 100000
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	client.e.cfg.Transports[0] = wants // takes all that it is offered
	for i := range 2 {
		server.step(Rekey{Conn: server.up[0].ID})
		w.run(5 * time.Second)
		if ch := server.only(t).current(); ch.In.HardLife != 10*time.Minute || ch.In.HardKB != 100000 || ch.Hard.Sub(ch.Since) != 10*time.Minute {
			t.Errorf("SAs of rekey %d are for %v and %d kB", i, ch.In.HardLife, ch.In.HardKB)
		}
	}
	agree(t, client, server)
}

// TestRekeyVolume has the kernel report the soft limit of kilobytes.
func TestRekeyVolume(t *testing.T) {
	w, client, server := pair(t)
	server.e.cfg.Transports[0].LifeKB = 250000
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	ch := server.only(t).Children[0]
	if ch.In.SoftKB != 225000 || ch.In.HardKB != 250000 {
		t.Errorf("limits of the SA: %d and %d kB", ch.In.SoftKB, ch.In.HardKB)
	}
	server.step(SAExpired{SPI: ch.In.SPI, Dir: Inbound})
	server.step(SAExpired{SPI: ch.Out.SPI, Dir: Outbound})
	w.run(10 * time.Second)
	agree(t, client, server)
	if n := server.e.counters[CountChildRekey]; n != 1 {
		t.Errorf("%d rekeys after the soft limit in both directions", n)
	}
	// The hard limit of the old one finds it replaced and harms nothing.
	delete(server.kernel, saKey(Inbound, ch.In.SPI, client.addr))
	server.kernel[saKey(Inbound, ch.In.SPI, client.addr)] = ch.In
	server.step(SAExpired{SPI: ch.In.SPI, Dir: Inbound, Hard: true})
	w.run(10 * time.Second)
	agree(t, client, server)
	if len(server.down) != 0 {
		t.Errorf("connection ended: %+v", server.down)
	}
}

// TestPhase1Expires: Z-6, the phase 2 SAs outlive phase 1, and the next rekey
// makes a new one.
func TestPhase1Expires(t *testing.T) {
	w, client, server := pair(t)
	client.e.cfg.RekeyMargin, server.e.cfg.RekeyMargin = 1000, 1000
	for _, n := range []*node{client, server} {
		for i := range n.e.cfg.Rules {
			n.e.cfg.Rules[i].Lifetime = 10 * time.Minute
		}
	}
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	w.run(20 * time.Minute)
	agree(t, client, server)
	if c := server.only(t); len(c.Phase1) != 0 || len(c.Children) != 1 {
		t.Fatalf("%d phase 1 SAs, %d children", len(c.Phase1), len(c.Children))
	}
	server.step(Rekey{Conn: server.up[0].ID})
	w.run(5 * time.Second)
	agree(t, client, server)
	if c := server.only(t); len(c.Phase1) != 1 || len(c.Children) != 2 {
		t.Errorf("after the rekey: %d phase 1 SAs, %d children\n%s", len(c.Phase1), len(c.Children), words(server.reports, client.reports))
	}
}
