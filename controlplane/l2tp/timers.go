package l2tp

import (
	"container/heap"
	"time"

	"vrgate/controlplane/deadline"
)

// timerHeap orders tunnels by their next deadline; tunnels without one are not in it. A tunnel has one entry however
// many timers it runs, so that 10,000 tunnels cost 14 comparisons per packet.
type timerHeap []*tunnel

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*tunnel)
	t.heapIndex = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	last := len(old) - 1
	t := old[last]
	old[last] = nil
	*h = old[:last]
	t.heapIndex = -1
	return t
}

// schedule puts the tunnel at its next deadline.
func (e *Engine) schedule(t *tunnel) {
	due := t.next()
	switch {
	case due.IsZero() && t.heapIndex >= 0:
		heap.Remove(&e.timers, t.heapIndex)
	case due.IsZero():
	case t.heapIndex < 0:
		t.due = due
		heap.Push(&e.timers, t)
	case !due.Equal(t.due):
		t.due = due
		heap.Fix(&e.timers, t.heapIndex)
	}
}

func (e *Engine) unschedule(t *tunnel) {
	if t.heapIndex >= 0 {
		heap.Remove(&e.timers, t.heapIndex)
	}
}

// Deadline is the time at which the next [Timer] event is wanted, zero when nothing runs. An earlier or later Timer does
// no harm.
func (e *Engine) Deadline() time.Time {
	var due time.Time
	if len(e.timers) > 0 {
		due = e.timers[0].due
	}
	if len(e.ended) > 0 {
		due = deadline.Earliest(due, e.ended[0].Until)
	}
	if len(e.endedSessions) > 0 {
		due = deadline.Earliest(due, e.endedSessions[0].Until)
	}
	return due
}

// expired runs everything that is due.
func (e *Engine) expired(now time.Time) {
	for len(e.timers) > 0 && !e.timers[0].due.After(now) {
		t := e.timers[0]
		e.timeout(now, t)
		e.settle(now, t)
		if t.heapIndex == 0 && !t.due.After(now) {
			// timeout handles everything due at once, so the deadline must have moved; were it ever not so,
			// leaving is better than spinning: the next Timer tries again.
			break
		}
	}
	e.expiredRecords(now)
}
