package site

import (
	"testing"
	"time"
)

func checkedTunnel(change func(*Tunnel)) Config {
	return with(two(), func(t *Tunnel) {
		t.Check = Check{Target: host, Period: 10 * time.Second, Timeout: 3 * time.Second, Tolerance: 3}
		if change != nil {
			change(t)
		}
	})
}

// A tunnel is being checked until its first check has passed, and stays up as long as fewer checks fail in a row than
// tolerated (Z-11).
func TestCheck(t *testing.T) {
	b := newBed(t, checkedTunnel(nil)).start()
	b.is("hq", StateChecking, primary)
	b.pass(firstProbe)
	b.is("hq", StateUp, primary)
	for range 5 {
		b.deaf = true
		b.pass(20 * time.Second)
		b.deaf = false
		b.pass(10 * time.Second)
	}
	b.is("hq", StateUp, primary)
	i := b.info("hq").Check
	if !i.OK || i.Failed != 0 || i.Sent != 16 || i.Lost != 10 || i.RTT != time.Millisecond || i.At != b.e.tunnels["hq"].Check.NextAt.Add(-10*time.Second) {
		t.Fatalf("%+v", i)
	}
	b.hungUp()
}

// A check that fails too often takes the tunnel to the backup, or down when there is none or that fails too (Z-11).
func TestCheckFails(t *testing.T) {
	b := newBed(t, checkedTunnel(func(t *Tunnel) { t.FallBack = 0 })).start()
	b.pass(time.Hour)
	b.alive[primary] = false
	b.pass(22 * time.Second) // probes are two seconds off the full ten
	b.is("hq", StateChecking, backup)
	b.hungUp(ReasonCheck)
	b.pass(firstProbe)
	b.is("hq", StateUp, backup)
	if i := b.info("hq"); i.Failures[ReasonCheck] != 1 || i.FallOvers != 1 || i.Failure.Peer != primary.String() {
		t.Fatalf("%+v", i)
	}
	b.deaf = true
	b.pass(40 * time.Second)
	b.is("hq", StateWaiting, none) // the primary does not answer, the backup carries nothing
	if i := b.info("hq"); i.Failures[ReasonCheck] != 2 {
		t.Fatalf("%+v", i)
	}
}

// No answer is a failure, a late one changes nothing, and neither does one of a check before.
func TestCheckUnanswered(t *testing.T) {
	b := newBed(t, checkedTunnel(nil)).start()
	b.mute = true
	b.pass(firstProbe + 2*time.Second)
	if i := b.info("hq").Check; i.Sent != 1 || i.Lost != 0 {
		t.Fatalf("%+v", i)
	}
	b.pass(time.Second)
	if i := b.info("hq").Check; i.Lost != 1 || i.Failed != 1 || i.OK || i.Text == "" {
		t.Fatalf("%+v", i)
	}
	b.step(CheckResult{Tunnel: "hq", Seq: 1, OK: true})
	b.pass(8 * time.Second)
	b.step(CheckResult{Tunnel: "hq", Seq: 1, OK: true})
	b.step(CheckResult{Tunnel: "nobody's", Seq: 2, OK: true})
	b.is("hq", StateChecking, primary)
	b.step(CheckResult{Tunnel: "hq", Seq: 2, OK: true})
	b.is("hq", StateUp, primary)
	b.step(CheckResult{Tunnel: "hq", Seq: 2})
	if i := b.info("hq").Check; i.Lost != 1 || i.Failed != 0 {
		t.Fatalf("%+v", i)
	}
}

// A failed check condemns all connections to its peer, and a call of another peer takes over.
func TestCheckFailsWithCallOfAnother(t *testing.T) {
	b := newBed(t, checkedTunnel(func(t *Tunnel) { t.Start = Respond })).start()
	b.calls("hq", primary)
	b.calls("hq", primary)
	ready := b.calls("hq", backup)
	b.alive[primary] = false
	b.pass(30 * time.Second)
	b.hungUp(ReasonCheck, ReasonCheck)
	b.is("hq", StateUp, backup)
	if c := b.info("hq").Conn; c != ready {
		t.Fatalf("carried by %d", c)
	}
}

// An on-demand tunnel that carries nothing is hung up; a nailed-up one is not.
func TestIdle(t *testing.T) {
	for _, start := range []Start{OnDemand, NailedUp} {
		b := newBed(t, with(one(primary), func(t *Tunnel) { t.Start, t.Idle = start, 4*time.Minute })).start()
		b.step(Acquire{Tunnel: "hq"})
		b.world()
		for range 20 {
			b.flow[1]++
			b.pass(2 * time.Minute)
		}
		b.is("hq", StateUp, primary)
		b.pass(5 * time.Minute)
		if start == NailedUp {
			b.is("hq", StateUp, primary)
			b.hungUp()
			continue
		}
		b.is("hq", StateDown, none)
		b.hungUp(ReasonIdle)
		if i := b.info("hq"); i.Failed != 0 {
			t.Fatalf("%+v", i)
		}
		b.step(Acquire{Tunnel: "hq"})
		b.is("hq", StateDialling, primary) // no pause
	}
}

// A tunnel through which packets go out and none come in for two minutes is ended, and others are not (Z-6).
func TestNoReturnTraffic(t *testing.T) {
	for name, c := range map[string]struct {
		in, out uint64 // packets every 30 s
		pause   int    // and of every so many readings one without
		ends    bool
	}{
		"nothing":            {0, 0, 100, false},
		"in only":            {9, 0, 100, false},
		"both ways":          {1, 9, 100, false},
		"out only":           {0, 1, 100, true},
		"out with pauses":    {0, 1, 2, true},
		"out now and then":   {0, 1, -6, false},
		"in now and then":    {0, 1, -1, false},
		"both, then nothing": {1, 1, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, with(one(primary), func(t *Tunnel) { t.NoReturn = 2 * time.Minute })).start()
			b.pass(time.Second)
			for n := range 12 {
				switch {
				case c.pause > 0 && n%c.pause == c.pause-1, c.pause < -1 && n%-c.pause != 0:
				case c.pause == -1 && n%3 == 2:
					b.flow[0]++
				default:
					b.flow[0] += c.in
					b.flow[1] += c.out
				}
				b.pass(30 * time.Second)
				if len(b.hangUps) > 0 {
					break
				}
			}
			if c.ends {
				b.hungUp(ReasonNoReturn)
			} else {
				b.hungUp()
			}
			b.is("hq", StateUp, primary)
		})
	}
}

// Readings of connections that do not carry, and answers that nobody asked for, change nothing.
func TestStrayReadings(t *testing.T) {
	b := newBed(t, one(primary)).start()
	before := b.e.tunnels["hq"].Flow
	b.step(Traffic{Conn: 1, InPackets: 9})
	b.step(Traffic{Conn: 77, InPackets: 9})
	if after := b.e.tunnels["hq"].Flow; after != before {
		t.Fatalf("%+v, then %+v", before, after)
	}
}
