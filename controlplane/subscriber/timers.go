package subscriber

import (
	"container/heap"
	"time"
)

// timerKey names what a timer is for: a session or a connection.
type timerKey struct {
	session ID
	conn    uint32
}

type timer struct {
	at  time.Time
	key timerKey
}

// timers is a heap of deadlines. A deadline that moved to an earlier time is added again; one
// that moved to a later time is noticed when its entry comes up. So a peer cannot make the
// heap grow by making us move a deadline often.
type timers struct{ heap timerHeap }

func (t *timers) add(at time.Time, k timerKey) {
	if !at.IsZero() {
		heap.Push(&t.heap, timer{at, k})
	}
}

func (t *timers) next() time.Time {
	if len(t.heap) == 0 {
		return time.Time{}
	}
	return t.heap[0].at
}

func (t *timers) due(now time.Time) (timerKey, bool) {
	if len(t.heap) == 0 || now.Before(t.heap[0].at) {
		return timerKey{}, false
	}
	return heap.Pop(&t.heap).(timer).key, true
}

type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
