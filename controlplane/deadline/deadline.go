// Package deadline keeps the owners of deadlines in the order in which they come up. It is what an engine with many objects,
// each with several timers, asks which of them is next: an object has one place in the heap, however many timers it runs, so
// that no peer can make the heap grow by making us move a timer.
package deadline

import (
	"container/heap"
	"time"
)

// Place is where an owner stands in a [Heap]; the zero Place: nowhere.
type Place struct {
	at  time.Time
	pos int // index plus one
}

// At returns when the owner comes up, zero if it is in no heap.
func (p *Place) At() time.Time {
	if p.pos == 0 {
		return time.Time{}
	}
	return p.at
}

// Owner has deadlines, the earliest of which is in a heap. Its Place is a part of it, the same each time.
type Owner interface{ Place() *Place }

// Heap has one entry for each owner that has a deadline: adding, moving and removing are O(log n), the earliest is O(1).
// The zero Heap is empty; its length is that of the slice.
type Heap[O Owner] []O

// Set has the owner come up at a time, in the place of any earlier or later one; zero: not at all.
func (h *Heap[O]) Set(o O, at time.Time) {
	p := o.Place()
	switch {
	case at.IsZero():
		h.Remove(o)
	case p.pos == 0:
		p.at = at
		heap.Push((*order[O])(h), o)
	case !p.at.Equal(at):
		p.at = at
		heap.Fix((*order[O])(h), p.pos-1)
	}
}

// Remove takes an owner out; one that is not in is fine.
func (h *Heap[O]) Remove(o O) {
	if p := o.Place(); p.pos != 0 {
		heap.Remove((*order[O])(h), p.pos-1)
	}
}

// Next returns when the first owner comes up, zero if there is none.
func (h Heap[O]) Next() time.Time {
	if len(h) == 0 {
		return time.Time{}
	}
	return h[0].Place().At()
}

// Due takes out the first owner if its time has come.
func (h *Heap[O]) Due(now time.Time) (o O, ok bool) {
	if len(*h) == 0 || h.Next().After(now) {
		return o, false
	}
	return heap.Pop((*order[O])(h)).(O), true
}

// order is the heap as package heap wants it.
type order[O Owner] []O

func (h order[O]) Len() int           { return len(h) }
func (h order[O]) Less(i, j int) bool { return h[i].Place().at.Before(h[j].Place().at) }
func (h order[O]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].Place().pos, h[j].Place().pos = i+1, j+1
}

func (h *order[O]) Push(x any) {
	o := x.(O)
	*h = append(*h, o)
	o.Place().pos = len(*h)
}

func (h *order[O]) Pop() any {
	old := *h
	o := old[len(old)-1]
	var none O
	old[len(old)-1] = none
	*h = old[:len(old)-1]
	o.Place().pos = 0
	return o
}

// Earliest returns the earliest of the times that are not zero.
func Earliest(times ...time.Time) time.Time {
	var out time.Time
	for _, t := range times {
		if !t.IsZero() && (out.IsZero() || t.Before(out)) {
			out = t
		}
	}
	return out
}

// Reached tells whether a time that is not zero has come.
func Reached(now, t time.Time) bool { return !t.IsZero() && !t.After(now) }
