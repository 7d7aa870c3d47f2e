package subscriber

import (
	"fmt"
	"time"
)

// timeouts are AAA's bounds on a session that is up (J9): how long it may last, and how long
// it may be without traffic. Its fields are those of the snapshot.
type timeouts struct {
	Limit   time.Time     // end of the session; zero: none
	Idle    time.Duration // zero: none
	Sample  time.Time     // when the traffic is read next
	Traffic time.Time     // when traffic was last seen
}

// idleSamples is how often the counters are read per idle timeout: a session ends when it
// had no traffic for the timeout, and at most one part of it later.
const idleSamples = 4

// limitSession applies the timeouts of AAA's last accept. A subscriber that authenticates again
// during its session cannot prolong it by that, or the limit would mean nothing to those that
// have to at every rekey; AAA may cut it short.
func (e *Engine) limitSession(now time.Time, s *session) {
	t := &s.timeouts
	if d := s.decision.SessionTimeout; d > 0 {
		t.Limit = earlier(t.Limit, now.Add(d))
	}
	t.Idle = s.decision.IdleTimeout
	switch {
	case t.Idle <= 0:
		t.Sample = time.Time{}
	case t.Sample.IsZero():
		t.Traffic = now
		t.Sample = now.Add(t.interval())
	}
	e.arm(s)
}

func (t *timeouts) interval() time.Duration { return max(t.Idle/idleSamples, time.Second) }

func (e *Engine) sessionTimeout(now time.Time, s *session) {
	e.end(now, s, ReasonSessionTimeout, fmt.Sprintf("the session has lasted the %v that AAA allows", now.Sub(s.Up)), false)
}

func (e *Engine) sampleTraffic(now time.Time, s *session) {
	s.timeouts.Sample = now.Add(s.timeouts.interval())
	e.emit(ReadCounters{ID: s.ID})
}

// countersRead compares a reading with the one before. An answer that never comes ends
// nothing: the next reading is under way anyway.
func (e *Engine) countersRead(now time.Time, ev CountersRead) {
	s := e.byID[ev.ID]
	if s == nil || s.over || s.timeouts.Sample.IsZero() {
		return // it has ended meanwhile, or has no idle timeout any more
	}
	t := &s.timeouts
	switch {
	case ev.Gone:
		e.end(now, s, ReasonInterface, "the kernel knows nothing of the session any more", false)
	case ev.Counters.packets() != s.Counters.packets():
		s.Counters, t.Traffic = ev.Counters, now
	case now.Sub(t.Traffic) >= t.Idle:
		e.end(now, s, ReasonIdleTimeout, fmt.Sprintf("no traffic in either direction for %v", now.Sub(t.Traffic)), false)
	}
}

// packets are those of both directions.
func (c Counters) packets() uint64 { return c.InPackets + c.OutPackets }
