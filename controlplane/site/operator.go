package site

import "time"

// Command is what an operator says about a tunnel.
type Command uint8

// The words of `vrgate tunnel`.
const (
	// CommandUp lifts CommandDown and dials, an on-demand tunnel too. Of a tunnel that is not down it is CommandNow.
	CommandUp Command = iota + 1
	// CommandDown hangs up, and neither dials nor answers until CommandUp, or until a reload changes the tunnel.
	CommandDown
	// CommandNow ends a pause and forgets the failures before it (D23). Of a tunnel that is up it opens the pairs of networks that
	// are missing.
	CommandNow
)

// String is the word.
func (c Command) String() string {
	switch c {
	case CommandUp:
		return "up"
	case CommandDown:
		return "down"
	case CommandNow:
		return "now"
	}
	return "unknown"
}

// operator does what it is told, or says why not.
func (e *Engine) operator(ev Operator) {
	r, text := e.obey(ev)
	e.emit(Answer{Ref: ev.Ref, Reason: r, Text: text})
}

func (e *Engine) obey(ev Operator) (Reason, string) {
	t := e.tunnels[ev.Tunnel]
	switch {
	case t == nil:
		return ReasonUnknown, "no tunnel of that name"
	case e.closed:
		return ReasonShutdown, ""
	case ev.Command == CommandDown:
		e.shut(t, ReasonAdminDown, ReasonOperator)
		return "", ""
	case ev.Command != CommandUp && ev.Command != CommandNow:
		return ReasonCommand, ""
	case ev.Command == CommandNow && t.Admin:
		return t.AdminWhy, "say up first"
	case ev.Command == CommandNow && !t.cfg.dials():
		return ReasonRespondOnly, "its peer has to call"
	}
	t.Admin, t.AdminWhy = false, ""
	t.Mends = 0
	e.mend(t)
	e.admission(t)
	e.touch(t)
	if t.active == nil && t.cfg.dials() {
		t.Wanted = true
		if !t.RetryAt.IsZero() {
			t.RetryAt, t.Failures = time.Time{}, 0
		}
		e.drive(t)
	}
	return "", ""
}

// shut takes a tunnel down for good.
func (e *Engine) shut(t *tunnel, state, why Reason) {
	t.Admin, t.AdminWhy = true, state
	e.admission(t)
	e.hangUp(t, why)
}
