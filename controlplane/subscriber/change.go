package subscriber

import (
	"fmt"
	"time"

	"vrgate/controlplane/aaa"
)

// maxChanges bounds the changes of one session that wait for the kernel.
const maxChanges = 8

// change queues a change of a session. They are done one after the other, because the kernel
// takes its time with traffic and the last one shall hold.
func (e *Engine) change(now time.Time, ev Change) {
	s := e.byID[ev.ID]
	if s == nil || !s.changeable() {
		e.refuseChange(ev)
		return
	}
	if r, text := s.checkChange(ev.Change); r != "" {
		e.emit(Changed{ID: ev.ID, Token: ev.Token, Reason: r, Text: text})
		return
	}
	if len(s.changes) >= maxChanges {
		e.emit(Changed{ID: ev.ID, Token: ev.Token, Reason: ReasonBusy, Text: fmt.Sprintf("%d changes of the session wait already", len(s.changes))})
		return
	}
	s.changes = append(s.changes, ev)
	e.nextChange(now, s)
}

// changeable says whether there is a session to change: it has come up and is not ending.
func (s *session) changeable() bool { return s.started && !s.over && s.Reason == "" }

func (e *Engine) refuseChange(c Change) {
	e.emit(Changed{ID: c.ID, Token: c.Token, Reason: ReasonNotUp, Text: "the session is not up, or not any more"})
}

// checkChange refuses what makes no sense; whoever has read the packet has checked the ranges.
func (s *session) checkChange(c aaa.Change) (r Reason, text string) {
	if s.far != nil && c.Traffic != nil {
		return ReasonBadChange, fmt.Sprintf("the session was handed on to LNS %v, which alone can shape its traffic", s.Server)
	}
	for _, d := range []*time.Duration{c.SessionTimeout, c.IdleTimeout, c.Interim} {
		if d != nil && *d < 0 {
			return ReasonBadChange, fmt.Sprintf("a time of %v", *d)
		}
	}
	if n := len(c.Class); n > aaa.MaxClasses {
		return ReasonBadChange, fmt.Sprintf("%d classes, at most %d are possible", n, aaa.MaxClasses)
	}
	return "", ""
}

// nextChange does the changes that wait, until one needs the kernel.
func (e *Engine) nextChange(now time.Time, s *session) {
	for len(s.changes) > 0 && !s.changing && s.changeable() {
		c := s.changes[0]
		if t := c.Change.Over(s.Traffic); t != s.Traffic {
			s.changing = true
			e.emit(SetTraffic{
				ID: s.ID, Call: s.Call, Conn: s.Conn, Terminating: s.Terminating, Address: s.Address, Interface: s.Interface, Traffic: t,
			})
			return
		}
		s.changes = s.changes[1:]
		e.apply(now, s, c)
	}
	if len(s.changes) == 0 {
		s.changes = nil
	}
}

// trafficSet goes on with a change: the rest of it holds only if the kernel could be told.
func (e *Engine) trafficSet(now time.Time, ev TrafficSet) {
	s := e.byID[ev.ID]
	if s == nil || !s.changing {
		e.counts[CountUnasked]++
		return
	}
	c := s.changes[0]
	s.changes, s.changing = s.changes[1:], false
	switch {
	case !s.changeable():
		e.refuseChange(c)
		e.dropChanges(s)
		e.settle(now, s)
		return
	case ev.Reason != "":
		e.emit(Changed{ID: s.ID, Token: c.Token, Reason: ev.Reason, Text: ev.Text})
	default:
		s.Traffic = c.Change.Over(s.Traffic)
		e.apply(now, s, c)
	}
	e.nextChange(now, s)
}

// apply does what a change wants beside traffic, and answers it. A session timeout that has
// passed already ends the session next.
func (e *Engine) apply(now time.Time, s *session, c Change) {
	if d := c.Change.SessionTimeout; d != nil {
		var end time.Time
		if longest := s.longest(*d); longest > 0 {
			end = s.Up.Add(longest)
		}
		e.limitSession(s, end)
	}
	if d := c.Change.IdleTimeout; d != nil {
		s.IdleTimeout = *d
		e.watchTraffic(now, s)
	}
	if d := c.Change.Interim; d != nil {
		e.reportEvery(now, s, e.interim(*d))
	}
	if len(c.Change.Class) > 0 {
		s.Class = c.Change.Class
	}
	e.arm(s)
	e.emit(Changed{ID: s.ID, Token: c.Token})
}

// dropChanges answers the changes of a session that is over. The one that the kernel works on is
// answered when it is done.
func (e *Engine) dropChanges(s *session) {
	keep := 0
	if s.changing {
		keep = 1
	}
	for _, c := range s.changes[keep:] {
		e.refuseChange(c)
	}
	if s.changes = s.changes[:keep]; keep == 0 {
		s.changes = nil
	}
}
