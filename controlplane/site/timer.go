package site

import (
	"container/heap"
	"time"
)

// timed is a tunnel or a name: what has deadlines, the earliest of which is in the engine's heap.
type timed interface {
	alarm() *timer
	// deadline is when expire is wanted next, zero if never.
	deadline() time.Time
	// expire is called at or after the deadline and must move it.
	expire(e *Engine)
}

// timer is the place of its owner in the heap.
type timer struct {
	at  time.Time
	pos int // index plus one; 0: not in the heap
}

// timers is a heap with one entry for each owner.
type timers []timed

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].alarm().at.Before(t[j].alarm().at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].alarm().pos, t[j].alarm().pos = i+1, j+1
}

func (t *timers) Push(x any) {
	o := x.(timed)
	*t = append(*t, o)
	o.alarm().pos = len(*t)
}

func (t *timers) Pop() any {
	old := *t
	o := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	o.alarm().pos = 0
	return o
}

// arm brings the heap in line with the owner's deadline.
func (e *Engine) arm(o timed) {
	a, at := o.alarm(), o.deadline()
	switch {
	case at.IsZero():
		e.disarm(o)
	case a.pos == 0:
		a.at = at
		heap.Push(&e.timers, o)
	case !a.at.Equal(at):
		a.at = at
		heap.Fix(&e.timers, a.pos-1)
	}
}

func (e *Engine) disarm(o timed) {
	if a := o.alarm(); a.pos != 0 {
		heap.Remove(&e.timers, a.pos-1)
	}
}

// due runs everything whose deadline has passed, each owner once: those whose next deadline has passed too are armed when
// the step ends, and are due in the next one.
func (e *Engine) due() {
	for len(e.timers) > 0 && !e.timers[0].alarm().at.After(e.now) {
		o := heap.Pop(&e.timers).(timed)
		o.expire(e)
	}
}

// Deadline returns when Timer wants to be given to Step next, zero if never.
func (e *Engine) Deadline() time.Time {
	switch {
	case !e.begun:
		return e.now
	case len(e.timers) == 0:
		return time.Time{}
	}
	return e.timers[0].alarm().at
}

// earliest returns the earliest of the times that are not zero.
func earliest(ts ...time.Time) time.Time {
	var out time.Time
	for _, t := range ts {
		if !t.IsZero() && (out.IsZero() || t.Before(out)) {
			out = t
		}
	}
	return out
}

// reached tells whether a time that is set has come.
func (e *Engine) reached(t time.Time) bool { return !t.IsZero() && !t.After(e.now) }
