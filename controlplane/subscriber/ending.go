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
	if s.link == nil || s.over || s.link.Info().Phase != pppd.PhaseTerminate {
		e.note(s, r, text, byPeer)
	}
}

// end closes a session politely: a PPP link terminates first, the rest follows from its Down.
func (e *Engine) end(now time.Time, s *session, r Reason, text string, byPeer bool) {
	e.note(s, r, text, byPeer)
	s.timeouts = timeouts{}
	if s.link == nil || s.over {
		s.over = true
		e.settle(now, s)
		return
	}
	e.run(now, s, pppd.Close{Reason: pppd.Reason(r)})
}

// settle moves a session that is over towards its end; it is called whenever one of the
// things it waits for has happened.
func (e *Engine) settle(now time.Time, s *session) {
	if !s.over && !s.carrierGone {
		return
	}
	s.State = StateEnding
	s.over = true
	e.timers.drop(&s.timer)
	e.uncount(s)
	e.dropChanges(s)
	if c, ours := causeOf(s.Reason); ours && s.far != nil {
		s.Cause = c // nothing else says so
	}
	if !s.carrierGone && !e.leave(s) {
		return // ConnDown comes
	}
	if s.far != nil {
		e.leaveFar(s)
	}
	switch s.kernel {
	case kernelOpening, kernelClosing:
		return // the kernel's answer comes
	case kernelOpen:
		s.kernel = kernelClosing
		s.active = false
		e.emit(s.closing())
		return
	}
	if _, alive := e.byID[s.ID]; !alive || s.asked || s.accounting == accountAsked || s.changing || s.far != nil && s.far.Dialling {
		return // Decided comes, and may bring an address to give back; or AccountStarted, TrafficSet, or FarFailed
	}
	delete(e.byID, s.ID)
	if s.leased {
		e.emit(ReleaseAddress{ID: s.ID, Terminating: s.Terminating, Pool: s.Pool, User: s.User, Address: s.Address})
	}
	s.Ended = now
	e.emit(Ended{Record: s.Record})
}

// leave tells the peer that it is over, once, and returns whether the carrier counts as gone. An
// L2TP session does at once; an IKE connection only with its ConnDown, because the kernel's
// policies and counters are wanted until its last SA has been removed.
func (e *Engine) leave(s *session) bool {
	if s.dyn != nil {
		e.leaveConn(s)
		return false
	}
	e.dropCall(s)
	e.emit(CloseCall{Call: s.Call, Reason: s.Reason, Cause: s.Cause, Text: s.Text})
	return true
}

// closing is the effect that removes the session's kernel objects.
func (s *session) closing() Effect {
	switch {
	case s.dyn != nil:
		return CloseAccess{ID: s.ID, Conn: s.Conn}
	case s.far != nil:
		return CloseBridge{ID: s.ID, Near: s.Call, Far: s.Far}
	}
	return CloseSession{ID: s.ID, Call: s.Call}
}

func (e *Engine) kernelClosed(now time.Time, id ID, c Counters) {
	s := e.byID[id]
	if s == nil || s.kernel != kernelClosing {
		return
	}
	s.kernel, s.Counters = kernelNone, s.Counters.atLeast(c)
	e.settle(now, s)
}

func (e *Engine) dropCall(s *session) {
	s.carrierGone = true
	delete(e.byCall, s.Call)
	if c := e.conns[s.Conn]; c != nil {
		delete(c.calls, s.Call)
	}
}
