package ike

import (
	"time"

	"vrgate/controlplane/deadline"
)

// timed is an object with deadlines of its own, the earliest of which is in the
// engine's heap.
type timed interface {
	deadline.Owner
	// deadline is when the object next wants expire called, zero if never.
	deadline() time.Time
	// expire is called at or after the deadline and must move it.
	expire(e *Engine)
}

// arm brings the heap in line with the object's deadline.
func (e *Engine) arm(o timed) { e.timers.Set(o, o.deadline()) }

// disarm takes the object out of the heap.
func (e *Engine) disarm(o timed) { e.timers.Remove(o) }

// due runs everything whose deadline has passed. A deadline that expire does not
// move would spin, so it is out of the heap before.
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
	var sweep time.Time
	if len(e.guard.Sources) > 0 {
		sweep = e.guard.sweepAt
	}
	return deadline.Earliest(e.timers.Next(), sweep)
}
