package subscriber

import (
	"fmt"
	"time"

	"vrgate/controlplane/deadline"
)

// timeouts are what is due for a session that is up: AAA's bounds on it (J9), how long it may
// last and how long it may be without traffic, and its interim accounting records. Its fields
// are those of the snapshot.
type timeouts struct {
	Limit   time.Time // end of the session; zero: none
	Sample  time.Time // when the traffic is read next for the idle timeout
	Traffic time.Time // when traffic was last seen
	Seen    Counters  // and the reading that showed it
	Report  time.Time // when the traffic is read next for an interim record
	// Reporting: the next reading is for an interim record.
	Reporting bool
}

const (
	// idleSamples is how often the counters are read per idle timeout: a session ends when it
	// had no traffic for the timeout, and at most one part of it later.
	idleSamples = 4
	// longestPPP ends a PPP session for which AAA names no session timeout (R3).
	longestPPP = 366 * 24 * time.Hour
)

// longest is how long a session may last for which AAA says d; 0: for ever.
func (s *session) longest(d time.Duration) time.Duration {
	if d <= 0 && s.dyn == nil {
		return longestPPP
	}
	return max(d, 0)
}

// startTimeouts begins to watch a session that has come up.
func (e *Engine) startTimeouts(now time.Time, s *session) {
	if s.SessionTimeout > 0 {
		e.limitSession(s, s.Up.Add(s.SessionTimeout))
	}
	e.watchTraffic(now, s)
	e.reportEvery(now, s, s.Interim)
	e.arm(s)
}

// limitSession fixes the end of a session that is up; the zero time: none.
func (e *Engine) limitSession(s *session, end time.Time) {
	s.timeouts.Limit, s.SessionTimeout = end, 0
	if !end.IsZero() {
		s.SessionTimeout = end.Sub(s.Up)
	}
}

// watchTraffic applies the session's idle timeout, which may have changed.
func (e *Engine) watchTraffic(now time.Time, s *session) {
	t := &s.timeouts
	switch next := now.Add(s.sampling()); {
	case s.IdleTimeout <= 0:
		t.Sample = time.Time{}
	case t.Sample.IsZero():
		t.Traffic, t.Seen, t.Sample = now, s.Counters, next
	default:
		t.Sample = deadline.Earliest(t.Sample, next)
	}
}

// LastTraffic returns when traffic of a session was last seen for its idle timeout, which starts
// then; the zero time if it has none.
func (e *Engine) LastTraffic(id ID) time.Time {
	if s := e.byID[id]; s != nil && !s.timeouts.Sample.IsZero() {
		return s.timeouts.Traffic
	}
	return time.Time{}
}

func (s *session) sampling() time.Duration { return max(s.IdleTimeout/idleSamples, time.Second) }

func (e *Engine) sessionTimeout(now time.Time, s *session) {
	e.end(now, s, ReasonSessionTimeout, fmt.Sprintf("the session has lasted the %v that it may", now.Sub(s.Up)), false)
}

func (e *Engine) sampleTraffic(now time.Time, s *session) {
	s.timeouts.Sample = now.Add(s.sampling())
	e.emit(ReadCounters{ID: s.ID})
}

// countersRead compares a reading with the one before, and reports it if a report is due. An
// answer that never comes ends nothing: the next reading is under way anyway.
func (e *Engine) countersRead(now time.Time, ev CountersRead) {
	s := e.byID[ev.ID]
	if s == nil || s.over || s.timeouts.Sample.IsZero() && !s.timeouts.Reporting {
		return // it has ended meanwhile, or nobody wants to know any more
	}
	t := &s.timeouts
	if ev.Gone {
		e.end(now, s, ReasonInterface, "the kernel knows nothing of the session any more", false)
		return
	}
	s.Counters = s.Counters.atLeast(ev.Counters)
	if t.Reporting {
		t.Reporting = false
		e.emit(AccountInterim{Record: s.Record})
	}
	switch {
	case t.Sample.IsZero():
	case s.watched(ev.Counters) != s.watched(t.Seen):
		t.Seen, t.Traffic = ev.Counters, now
	case now.Sub(t.Traffic) >= s.IdleTimeout:
		where := "in either direction"
		if s.IdleIngress {
			where = "from the subscriber"
		}
		e.end(now, s, ReasonIdleTimeout, fmt.Sprintf("no traffic %s for %v", where, now.Sub(t.Traffic)), false)
	}
}

// watched are the packets that keep a session from being idle (R3: ingress-only).
func (s *session) watched(c Counters) uint64 {
	if s.IdleIngress {
		return c.InPackets
	}
	return c.InPackets + c.OutPackets
}

// Plus is the sum of both.
func (c Counters) Plus(o Counters) Counters {
	return Counters{
		InBytes: c.InBytes + o.InBytes, OutBytes: c.OutBytes + o.OutBytes, InPackets: c.InPackets + o.InPackets, OutPackets: c.OutPackets + o.OutPackets,
	}
}

// atLeast are the larger of each two counters: what accounting has been told is never taken
// back, whatever a failed reading says.
func (c Counters) atLeast(o Counters) Counters {
	return Counters{
		InBytes: max(c.InBytes, o.InBytes), OutBytes: max(c.OutBytes, o.OutBytes),
		InPackets: max(c.InPackets, o.InPackets), OutPackets: max(c.OutPackets, o.OutPackets),
	}
}
