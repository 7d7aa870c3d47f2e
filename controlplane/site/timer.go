package site

import (
	"time"

	"vrgate/controlplane/deadline"
)

// timed is a tunnel or a name: what has deadlines, the earliest of which is in the engine's heap.
type timed interface {
	deadline.Owner
	// deadline is when expire is wanted next, zero if never.
	deadline() time.Time
	// expire is called at or after the deadline and must move it.
	expire(e *Engine)
}

// arm brings the heap in line with the owner's deadline.
func (e *Engine) arm(o timed) { e.timers.Set(o, o.deadline()) }

func (e *Engine) disarm(o timed) { e.timers.Remove(o) }

// due runs everything whose deadline has passed, each owner once: those whose next deadline has passed too are armed when
// the step ends, and are due in the next one.
func (e *Engine) due() {
	for {
		o, ok := e.timers.Due(e.now)
		if !ok {
			return
		}
		o.expire(e)
	}
}

// Deadline returns when Timer wants to be given to Step next, zero if never.
func (e *Engine) Deadline() time.Time {
	if !e.begun {
		return e.now
	}
	return e.timers.Next()
}

// reached tells whether a time that is set has come.
func (e *Engine) reached(t time.Time) bool { return deadline.Reached(e.now, t) }
