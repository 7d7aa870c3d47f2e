package subscriber

import (
	"time"

	"vrgate/pppd"
)

// note keeps the first reason of a session's end: what follows is its consequence.
func (e *Engine) note(s *session, r Reason, text string, byPeer bool) {
	if s.Reason != "" || r == "" {
		return
	}
	s.Reason, s.Text, s.ByPeer = r, text, byPeer
	e.counts[r]++
}

// noteLost notes that what carried the link has gone, unless the link was ending already: a
// client that hangs up closes everything at once, and the link's own Down, which follows, knows
// why.
func (e *Engine) noteLost(s *session, r Reason, text string, byPeer bool) {
	if s.link == nil || s.linkDone || s.link.Info().Phase != pppd.PhaseTerminate {
		e.note(s, r, text, byPeer)
	}
}

// end closes a session politely: PPP terminates first, the rest follows from its Down.
func (e *Engine) end(now time.Time, s *session, r Reason, text string, byPeer bool) {
	e.note(s, r, text, byPeer)
	if s.link == nil || s.linkDone {
		s.linkDone = true
		e.settle(now, s)
		return
	}
	e.run(now, s, pppd.Close{Reason: pppd.Reason(r)})
}

// fail ends a session that has no link yet.
func (e *Engine) fail(now time.Time, s *session, r Reason, text string) {
	e.note(s, r, text, false)
	s.linkDone = true
	e.settle(now, s)
}

// settle moves a session whose link is over towards its end; it is called whenever one of
// the things it waits for has happened.
func (e *Engine) settle(now time.Time, s *session) {
	if !s.linkDone && !s.callGone {
		return
	}
	s.State = StateEnding
	s.linkDone = true
	e.timers.drop(&s.timer)
	if !s.callGone {
		e.dropCall(s)
		e.emit(CloseCall{Call: s.Call, Reason: s.Reason, Cause: s.cause, Text: s.Text})
	}
	switch s.kernel {
	case kernelOpening, kernelClosing:
		return // SessionOpened or SessionClosed comes
	case kernelOpen:
		s.kernel = kernelClosing
		s.active = false
		e.emit(CloseSession{ID: s.ID, Call: s.Call})
		return
	}
	if _, alive := e.byID[s.ID]; !alive || s.asked {
		return // Decided comes, and may bring an address to give back
	}
	delete(e.byID, s.ID)
	if s.leased {
		e.emit(ReleaseAddress{ID: s.ID, Terminating: s.Terminating, Pool: s.profile.Pool, User: s.User, Address: s.Address})
	}
	s.Ended = now
	e.emit(Ended{Record: s.Record})
}

func (e *Engine) sessionClosed(now time.Time, ev SessionClosed) {
	s := e.byID[ev.ID]
	if s == nil || s.kernel != kernelClosing {
		return
	}
	s.kernel, s.Counters = kernelNone, ev.Counters
	e.settle(now, s)
}

func (e *Engine) dropCall(s *session) {
	s.callGone = true
	delete(e.byCall, s.Call)
	if c := e.conns[s.Conn]; c != nil {
		delete(c.calls, s.Call)
	}
}
