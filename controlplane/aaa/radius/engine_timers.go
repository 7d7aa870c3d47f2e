package radius

import (
	"container/heap"
	"time"
)

// timers is a heap of requests by when expired wants to be called.
type timers []*request

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].pos, t[j].pos = i+1, j+1
}

func (t *timers) Push(x any) {
	r := x.(*request)
	*t = append(*t, r)
	r.pos = len(*t)
}

func (t *timers) Pop() any {
	old := *t
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	r.pos = 0
	return r
}

// arm sets a request's timer.
func (e *engine) arm(r *request, at time.Time) {
	r.at = at
	if r.pos == 0 {
		heap.Push(&e.timers, r)
	} else {
		heap.Fix(&e.timers, r.pos-1)
	}
}

// disarm stops it.
func (e *engine) disarm(r *request) {
	if r.pos != 0 {
		heap.Remove(&e.timers, r.pos-1)
	}
}

// list is a queue of requests from which each can leave at once. A request is in one list at most.
type list struct {
	first, last *request
	n           int
}

func (l *list) push(r *request) {
	r.prev, r.next = l.last, nil
	if l.last != nil {
		l.last.next = r
	} else {
		l.first = r
	}
	l.last = r
	l.n++
}

func (l *list) remove(r *request) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		l.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		l.last = r.prev
	}
	r.prev, r.next = nil, nil
	l.n--
}
