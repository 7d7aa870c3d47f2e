package subscriber

import (
	"container/heap"
	"time"
)

// timer is the one entry that a session or a connection may have among the timers. Its at is
// when it comes up, which may be before the owner's deadline: see timers.arm.
type timer struct {
	at      time.Time
	queued  bool
	index   int // in the heap, while queued
	session ID
	conn    uint32 // 0: the session's
}

// timers is a heap of deadlines with at most one entry per owner, so that no peer can make
// it grow by making us move a deadline often.
type timers struct{ heap timerHeap }

// arm makes sure that t comes up when at has come. A deadline that moves to an earlier time
// moves the entry; one that moves to a later time leaves it where it is, because that
// happens with every frame: the owner notices when the entry comes up, and arms it again.
func (t *timers) arm(e *timer, at time.Time) {
	switch {
	case at.IsZero():
	case !e.queued:
		e.at = at
		heap.Push(&t.heap, e)
	case at.Before(e.at):
		e.at = at
		heap.Fix(&t.heap, e.index)
	}
}

// drop takes the entry of an owner that has gone away.
func (t *timers) drop(e *timer) {
	if e.queued {
		heap.Remove(&t.heap, e.index)
	}
}

// next returns when the first entry comes up; zero: there is none.
func (t *timers) next() time.Time {
	if len(t.heap) == 0 {
		return time.Time{}
	}
	return t.heap[0].at
}

// due takes out an entry that has come up; nil when there is none.
func (t *timers) due(now time.Time) *timer {
	if len(t.heap) == 0 || now.Before(t.heap[0].at) {
		return nil
	}
	return heap.Pop(&t.heap).(*timer)
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	e := x.(*timer)
	e.index, e.queued = len(*h), true
	*h = append(*h, e)
}
func (h *timerHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.queued = false
	return e
}
