package subscriber

import (
	"testing"
	"time"

	"vrgate/pppd"
)

// timed brings up a subscriber of each kind.
var timed = map[string]func(b *bed) ID{
	"L2TP": func(b *bed) ID {
		id := b.callUp(first, 0)
		b.speak(first, testUser)
		b.answerAll()
		return id
	},
	"dynamic": func(b *bed) ID { return b.connect(someone, "staff") },
}

// TestSessionTimeout: AAA's session timeout ends either kind of session, politely (J9).
func TestSessionTimeout(t *testing.T) {
	for name, connect := range timed {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.timeouts[0] = time.Hour
			id := connect(b)
			up := b.e.Records()[0].Up
			b.pass(up.Add(time.Hour - time.Second).Sub(b.now))
			b.restart() // the bound survives
			b.restart()
			if s := b.state(t); s != StateUp {
				t.Fatalf("state %v before the timeout", s)
			}
			b.pass(time.Second)
			if s := b.e.byID[id]; s.Reason != ReasonSessionTimeout {
				t.Errorf("reason %q after the timeout", s.Reason)
			}
			b.pass(time.Minute)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Reason != ReasonSessionTimeout || r.ByPeer {
				t.Errorf("ended %+v", r)
			}
			b.assertEmpty()
		})
	}
}

// TestSessionTimeoutTellsLAC: RFC 3145 calls it a normal disconnection.
func TestSessionTimeoutTellsLAC(t *testing.T) {
	b := newBed(t)
	b.timeouts[0] = time.Minute
	b.callUp(first, 0)
	b.speak(first, testUser)
	b.answerAll()
	b.pass(50 * time.Second)
	for range 20 { // the peer does not confirm that PPP is terminated
		b.now = b.now.Add(2 * time.Second)
		for _, f := range b.e.Step(b.now, Timer{}) {
			if f, ok := f.(CloseCall); ok {
				if f.Cause != pppd.NormalCause(false) || f.Reason != ReasonSessionTimeout {
					t.Errorf("%+v", f)
				}
				return
			}
		}
	}
	t.Error("the call was not closed")
}

// TestSessionTimeoutOfReauthentication: authenticating again does not prolong a session.
func TestSessionTimeoutOfReauthentication(t *testing.T) {
	for _, c := range []struct {
		again, want time.Duration // AAA's second timeout, after half an hour; when the session ends
	}{{time.Hour, time.Hour}, {0, time.Hour}, {10 * time.Minute, 40 * time.Minute}} {
		for name, connect := range timed {
			b := newBed(t)
			b.timeouts[0] = time.Hour
			id := connect(b)
			begin := b.e.Records()[0].Up
			b.pass(begin.Add(30 * time.Minute).Sub(b.now))
			b.timeouts[0] = c.again
			if name == "dynamic" {
				b.dynamicUp(someone, "staff")
			} else {
				b.speak(first, testUser) // takes some seconds, as does the polite end
			}
			b.answerAll()
			b.pass(begin.Add(c.want - time.Second).Sub(b.now))
			if s := b.state(t); s != StateUp {
				t.Errorf("%s, %v: state %v too early", name, c.again, s)
			}
			b.pass(20 * time.Second)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Reason != ReasonSessionTimeout {
				t.Errorf("%s, %v: ended %+v", name, c.again, r)
			}
		}
	}
}

// TestIdleTimeout: a session ends when no packet has passed for the idle timeout, and at the
// latest a quarter of it later; any packet prolongs it (J9).
func TestIdleTimeout(t *testing.T) {
	const idle = 20 * time.Minute
	for name, connect := range timed {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.timeouts[1] = idle
			id := connect(b)
			packets := uint64(0)
			// lives passes time, with readings, and says whether the session lives.
			lives := func(d time.Duration) bool {
				for end := b.now.Add(d); b.now.Before(end); {
					b.pass(time.Second)
					for len(b.reads) > 0 {
						b.read(packets)
					}
				}
				s := b.e.byID[id]
				return s != nil && s.Reason == ""
			}
			for range 5 {
				if !lives(idle - time.Minute) {
					t.Fatal("ended although there was traffic")
				}
				packets++
			}
			b.restart()
			if !lives(idle) {
				t.Fatal("ended within the idle timeout")
			}
			if lives(idle/idleSamples + time.Minute) {
				t.Fatal("lives on without traffic")
			}
			b.answerAll()
			b.pass(time.Minute)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Reason != ReasonIdleTimeout || r.ByPeer {
				t.Errorf("ended %+v", r)
			}
			b.assertEmpty()
		})
	}
}

// TestIdleTimeoutWithoutAnswers: a reading that never comes proves nothing, one that says that the
// kernel's objects have gone ends the session.
func TestIdleTimeoutWithoutAnswers(t *testing.T) {
	for name, connect := range timed {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.timeouts[1] = time.Minute
			id := connect(b)
			b.pass(time.Hour)
			if s := b.state(t); s != StateUp {
				t.Fatalf("state %v", s)
			}
			if n := len(b.reads); n < 200 || n > 241 {
				t.Errorf("%d readings in an hour, want 4 a minute", n)
			}
			b.reads = nil
			b.step(CountersRead{ID: id, Gone: true})
			b.pass(time.Minute)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Reason != ReasonInterface {
				t.Errorf("ended %+v", r)
			}
			b.assertEmpty()
		})
	}
}

// TestNoTimeouts: who has none is not asked about.
func TestNoTimeouts(t *testing.T) {
	for name, connect := range timed {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			connect(b)
			b.log = nil
			b.pass(4 * 24 * time.Hour)
			if s := b.state(t); s != StateUp || len(b.reads) != 0 || len(b.log) != 0 {
				t.Errorf("state %v, %d readings, %v", s, len(b.reads), b.log)
			}
		})
	}
}

// TestLongestPPP: a PPP session without a session timeout of AAA's ends after 366 days (R3); a
// dynamic subscriber may stay.
func TestLongestPPP(t *testing.T) {
	for name, connect := range timed {
		b := newBed(t)
		id := connect(b)
		e := b.e
		s := e.byID[id]
		want := time.Time{}
		if name == "L2TP" {
			want = s.Up.Add(366 * 24 * time.Hour)
		}
		if !s.timeouts.Limit.Equal(want) {
			t.Errorf("%s: ends at %v, want %v", name, s.timeouts.Limit, want)
		}
	}
}

// TestIdleIngress: traffic to the subscriber does not count where only that from it shall (R3).
func TestIdleIngress(t *testing.T) {
	for name, connect := range timed {
		for _, ingress := range []bool{false, true} {
			b := newBed(t)
			b.timeouts[1], b.grants.IdleIngress = 20*time.Minute, ingress
			id := connect(b)
			for n := range uint64(60) {
				b.pass(time.Minute)
				b.reads = nil
				b.step(CountersRead{ID: id, Counters: Counters{OutPackets: n, InPackets: n / 15}})
			}
			if s := b.e.byID[id]; s == nil || s.Reason != "" {
				t.Fatalf("%s: ended although there was traffic each quarter of an hour", name)
			}
			for n := range uint64(30) {
				b.pass(time.Minute)
				b.reads = nil
				if s := b.e.byID[id]; s == nil || s.Reason != "" {
					break
				}
				b.step(CountersRead{ID: id, Counters: Counters{OutPackets: 60 + n, InPackets: 4}})
			}
			if s := b.e.byID[id]; (s == nil || s.Reason == ReasonIdleTimeout) != ingress {
				t.Errorf("%s: ingress only %t: %+v", name, ingress, s.Record)
			}
		}
	}
}
