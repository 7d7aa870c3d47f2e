package subscriber

import (
	"cmp"
	"time"
)

// accountState is how far a session's accounting has got: it starts once, whatever is
// negotiated anew afterwards.
type accountState uint8

const (
	accountNone  accountState = iota
	accountAsked              // AccountStart is without its AccountStarted
	accountDone
)

// account says whether the session's accounting has started, and starts it when it has not.
func (e *Engine) account(s *session) (started bool) {
	if s.accounting == accountNone {
		s.accounting = accountAsked
		e.emit(AccountStart{Record: s.Record})
	}
	return s.accounting == accountDone
}

func (e *Engine) accountStarted(now time.Time, ev AccountStarted) {
	s := e.byID[ev.ID]
	if s == nil || s.accounting != accountAsked {
		e.counts[CountUnasked]++
		return
	}
	s.accounting, s.Accounted = accountDone, ev.Reason == ""
	switch {
	case s.over:
		e.settle(now, s)
	case ev.Reason != "":
		e.end(now, s, ev.Reason, cmp.Or(ev.Text, "the session must have accounting and has none"), false)
	case s.dyn != nil:
		e.connected(now, s)
	case s.far != nil:
		e.bridge(s)
	case s.network:
		e.activate(s)
	}
}

// interim brings an interval into its range; 0: no interim records.
func (e *Engine) interim(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return max(d, e.cfg.InterimFloor)
}

// reportEvery sets the time between a session's interim records. The first comes when between
// half of it and all of it has passed, by the session's number: ten thousand that came up at
// once, after an outage, report one after the other and go on so.
func (e *Engine) reportEvery(now time.Time, s *session, d time.Duration) {
	s.Interim, s.timeouts.Report = d, time.Time{}
	if d <= 0 {
		s.timeouts.Reporting = false // nobody wants the reading any more that is on its way
	} else {
		s.timeouts.Report = now.Add(d - time.Duration(float64(d/2)*spread(s.ID)))
	}
}

// spread maps numbers that follow each other evenly to 0 up to 1: the multiples of the golden
// ratio never come close to each other.
func spread(id ID) float64 {
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by it
	return float64(uint64(id)*golden>>11) / (1 << 53)
}

// reportTraffic has the counters read for an interim record. The next follows in step, also when
// the engine was away for a while.
func (e *Engine) reportTraffic(now time.Time, s *session) {
	t := &s.timeouts
	if s.Interim <= 0 {
		t.Report = time.Time{}
		return
	}
	t.Reporting = true
	t.Report = now.Add(s.Interim - now.Sub(t.Report)%s.Interim)
	e.emit(ReadCounters{ID: s.ID})
}
