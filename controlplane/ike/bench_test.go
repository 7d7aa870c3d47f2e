package ike

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// BenchmarkHandshake measures the responder alone: main mode, quick mode without
// PFS and its own Diffie-Hellman, run inline. What the scripted peer costs is
// left out. Processor time is counted and not the clock's, so that a busy
// machine gives the figures of an idle one; all garbage collection, the peer's
// too, is charged to the responder. The figure to compare with targets.md
// section 3 is handshakes/cpu-s.
func BenchmarkHandshake(b *testing.B) {
	for _, g := range []keymat.Group{keymat.MODP1024, keymat.MODP2048, keymat.ECP256, keymat.Curve25519} {
		b.Run(g.String(), func(b *testing.B) {
			// A thread's time can only be read on that thread.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			r := serverRig(b, ProfileLegacy)
			o := offers.NetworkManager()
			o.Phase1 = offerOf(g)
			r.e.cfg.HalfOpen.PerSource = 1 << 30
			b.ReportAllocs()
			clock, handshakes := &cpuClock{tb: b}, 0
			gc := gcTime()
			for b.Loop() {
				s := newScript(r, o)
				s.clock = clock
				if !s.phase1() || !s.quick(o).run() {
					b.Fatal("handshake failed: ", words(r.reports))
				}
				handshakes++
				s.clock = nil
				c := r.e.conns[r.e.Phase1SAs()[0].Conn]
				r.e.closeConn(c, ReasonOperator, "", false)
				r.e.out = nil
				clear(r.kernel)
				r.sends, r.reports, r.jobs, r.up = r.sends[:0], r.reports[:0], r.jobs[:0], r.up[:0]
			}
			spent := clock.total + gcTime() - gc
			b.ReportMetric(float64(handshakes)/spent.Seconds(), "handshakes/cpu-s")
			b.ReportMetric(float64(spent.Microseconds())/float64(handshakes), "cpu-µs/handshake")
		})
	}
}

// cpuClock adds up the processor time of the calling thread between start and
// stop.
type cpuClock struct {
	tb          testing.TB
	from, total time.Duration
}

func (c *cpuClock) start() { c.from = c.read() }
func (c *cpuClock) stop()  { c.total += c.read() - c.from }

func (c *cpuClock) read() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		c.tb.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// gcTime is the processor time that the garbage collector has taken so far, as
// of the last collection, without what idle processors gave it.
func gcTime() time.Duration {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
	metrics.Read(s)
	return time.Duration((s[0].Value.Float64() - s[1].Value.Float64()) * float64(time.Second))
}

// offerOf is an offer of AES-256, SHA-1 and one group.
func offerOf(g keymat.Group) isakmp.SA {
	t := isakmp.Phase1Transform{Number: 1, Enc: isakmp.EncAES, KeyBits: 256, Hash: isakmp.HashSHA1, Auth: isakmp.AuthPSK, Group: isakmp.GroupID(g), Life: isakmp.Life{Seconds: 28800}}
	return isakmp.SA{DOI: 1, Situation: 1, Proposals: []isakmp.Proposal{{Number: 1, Protocol: 1, Transforms: []isakmp.Transform{t.Transform()}}}}
}
