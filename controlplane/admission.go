package controlplane

import (
	"container/heap"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
)

// admission stands before AAA. When everybody reconnects at once, so many are decided about at
// once as servers can bear, others wait, and the rest is refused early and cheaply, so that they
// come again later.
//
// Those who wait are served in turns, one of each virtual router and of each of its sources, so that
// a source with thousands does not keep out one with a single client; when there is no more room the newest of the source
// that has most waiting makes it. Subscribers that are up and authenticate once more go first.
// Further rounds of a dialogue and new subscribers take turns: what has been begun is finished
// even in a storm, and dialogues without end keep nobody out. Neither of the former is refused:
// each belongs to a session, which has one question open at a time, and their number is bounded
// elsewhere.
//
// Work with the same key runs one at a time in the order it was given.
type admission struct {
	limits config.Admission

	mu      sync.Mutex
	running int // that have a place
	waiting int // of classNew
	sources map[source]*sourceQueue
	turns   [classes]turns
	newNext bool     // a new subscriber's turn comes before a further round's
	longest byLength // sources with new subscribers waiting
	keys    map[any][]*askingWork
	closed  bool
	done    sync.WaitGroup
	stats   admissionStats
}

// admissionStats count what became of work, and what there is now.
type admissionStats struct {
	Limits           config.Admission // in force
	Admitted         uint64           // has had its turn
	Refused          uint64           // had none; by [aaa.ReasonOverload]
	Running, Waiting int
}

// class orders what waits.
type class uint8

const (
	classAgain class = iota // is up and authenticates once more
	classRound              // a further round of a dialogue
	classNew                // a new subscriber
	classes    = iota
)

// source is whose turns are counted: an address of one virtual router's outside.
type source struct {
	router string
	addr   netip.Addr
}

// sourceOf makes the addresses of one IPv6 customer one source.
func sourceOf(router string, a netip.Addr) source {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return source{router, a}
}

// askingWork is one question to AAA.
type askingWork struct {
	key    any
	source source
	class  class
	// run asks. What it returns is run, unless it is nil, after the place has gone to the next.
	run func() (after func())
	// refuse is called in the place of run.
	refuse func(aaa.Decision)
}

// sourceQueue is what one source has. It exists as long as it has anything.
type sourceQueue struct {
	source source
	queued [classes][]*askingWork
	// inTurn says whether the source is in the turns of a class.
	inTurn [classes]bool
	all    int // pieces of work, waiting or not
	fresh  int // of them those of classNew
	index  int // in longest; -1: it is not there
}

// turns are the sources that have something waiting. Virtual routers take turns and, within each, its
// sources: the crowd of one tenant whose servers are silent does not keep another's users waiting.
type turns struct {
	routers []string // the next first
	sources map[string][]*sourceQueue
}

func (t *turns) push(q *sourceQueue) {
	r := q.source.router
	if t.sources == nil {
		t.sources = map[string][]*sourceQueue{}
	}
	if len(t.sources[r]) == 0 {
		t.routers = append(t.routers, r)
	}
	t.sources[r] = append(t.sources[r], q)
}

// pop takes out the source whose turn it is; nil: there is none.
func (t *turns) pop() *sourceQueue {
	if len(t.routers) == 0 {
		return nil
	}
	r := t.routers[0]
	t.routers = t.routers[1:]
	list := t.sources[r]
	q := list[0]
	list[0] = nil
	if list = list[1:]; len(list) > 0 {
		t.sources[r] = list
		t.routers = append(t.routers, r)
	} else {
		delete(t.sources, r)
	}
	return q
}

func newAdmission(limits config.Admission) *admission {
	limits.Concurrent, limits.PerSource = max(limits.Concurrent, 1), max(limits.PerSource, 1)
	return &admission{limits: limits, sources: map[source]*sourceQueue{}, keys: map[any][]*askingWork{}}
}

// do has work done when its turn comes, or refused.
func (a *admission) do(w *askingWork) {
	refused, text := a.take(w)
	if refused == nil {
		return
	}
	refused.refuse(aaa.Decision{Reason: aaa.ReasonOverload, Text: text})
}

// take takes work in. It returns which is refused instead, the same or another, and why.
func (a *admission) take(w *askingWork) (refused *askingWork, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.sources[w.source]
	switch {
	case a.closed:
		return a.refused(w), "vrgate stops"
	case w.class == classNew && q != nil && q.fresh >= a.limits.PerSource:
		return a.refused(w), fmt.Sprintf("%d subscribers from %v wait for AAA already", q.fresh, w.source.addr)
	case w.class == classNew && a.running >= a.limits.Concurrent && a.waiting >= a.limits.Waiting:
		text = fmt.Sprintf("%d subscribers wait for AAA already", a.waiting)
		if refused = a.pushOut(q); refused == nil {
			return a.refused(w), text
		}
		a.refused(refused)
	}
	if q == nil {
		q = &sourceQueue{source: w.source, index: -1}
		a.sources[w.source] = q
	}
	q.all++
	if w.class == classNew {
		q.fresh++
	}
	if before, busy := a.keys[w.key]; busy {
		a.keys[w.key] = append(before, w) // not counted as waiting: there is one question at a time
		return refused, text
	}
	a.keys[w.key] = nil
	a.enqueue(q, w)
	a.start()
	return refused, text
}

func (a *admission) refused(w *askingWork) *askingWork {
	a.stats.Refused++
	return w
}

func (a *admission) enqueue(q *sourceQueue, w *askingWork) {
	q.queued[w.class] = append(q.queued[w.class], w)
	if !q.inTurn[w.class] {
		q.inTurn[w.class] = true
		a.turns[w.class].push(q)
	}
	if w.class == classNew {
		a.waiting++
		a.longest.fix(q)
	}
}

// pushOut makes room for work of a source, nil for one that has none: the newest of the source
// with most waiting gives way, unless the other would then have as much. It returns nil if nobody
// does.
func (a *admission) pushOut(q *sourceQueue) *askingWork {
	own := 0
	if q != nil {
		own = len(q.queued[classNew])
	}
	if len(a.longest) == 0 || len(a.longest[0].queued[classNew]) <= own+1 {
		return nil
	}
	long := a.longest[0]
	last := len(long.queued[classNew]) - 1
	w := long.queued[classNew][last]
	long.queued[classNew][last] = nil
	long.queued[classNew] = long.queued[classNew][:last]
	a.waiting--
	a.longest.fix(long)
	a.left(long, w)
	if next := a.nextOf(w.key); next != nil {
		a.enqueue(a.sources[next.source], next)
	}
	return w
}

// start gives free places to those whose turn it is.
func (a *admission) start() {
	for a.running < a.limits.Concurrent {
		w := a.next()
		if w == nil {
			return
		}
		a.running++
		a.done.Go(func() { a.work(w) })
	}
}

// next takes whose turn it is out of the queues.
func (a *admission) next() *askingWork {
	order := [...]class{classAgain, classRound, classNew}
	if a.newNext {
		order[1], order[2] = order[2], order[1]
	}
	for _, c := range order {
		for q := a.turns[c].pop(); q != nil; q = a.turns[c].pop() {
			if len(q.queued[c]) == 0 { // all pushed out
				q.inTurn[c] = false
				a.drop(q)
				continue
			}
			w := q.queued[c][0]
			q.queued[c][0] = nil
			if q.queued[c] = q.queued[c][1:]; len(q.queued[c]) > 0 {
				a.turns[c].push(q)
			} else {
				q.queued[c], q.inTurn[c] = nil, false
			}
			if c == classNew {
				a.waiting--
				a.longest.fix(q)
			}
			if c != classAgain {
				a.newNext = c == classRound
			}
			a.stats.Admitted++
			return w
		}
	}
	return nil
}

// work does one piece of work after the other until none waits.
func (a *admission) work(w *askingWork) {
	for w != nil {
		after := w.run()
		a.mu.Lock()
		if after != nil {
			a.running--
			a.start()
			a.mu.Unlock()
			after()
			a.mu.Lock()
			a.finished(w)
			a.start()
			a.mu.Unlock()
			return
		}
		a.finished(w)
		if w = a.next(); w == nil {
			a.running--
		}
		a.mu.Unlock()
	}
}

// finished lets the next with the same key queue up.
func (a *admission) finished(w *askingWork) {
	a.left(a.sources[w.source], w)
	if next := a.nextOf(w.key); next != nil {
		a.enqueue(a.sources[next.source], next)
	}
}

func (a *admission) nextOf(key any) *askingWork {
	behind := a.keys[key]
	if len(behind) == 0 {
		delete(a.keys, key)
		return nil
	}
	a.keys[key] = behind[1:]
	return behind[0]
}

// left takes work that has ended, one way or the other, off the books of its source.
func (a *admission) left(q *sourceQueue, w *askingWork) {
	q.all--
	if w.class == classNew {
		q.fresh--
	}
	a.drop(q)
}

// drop forgets a source that has nothing any more.
func (a *admission) drop(q *sourceQueue) {
	if q.all == 0 && q.inTurn == [classes]bool{} {
		delete(a.sources, q.source)
	}
}

// counts returns what became of work so far.
func (a *admission) counts() admissionStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.stats
	out.Running, out.Waiting, out.Limits = a.running, a.waiting, a.limits
	return out
}

// configure changes the limits. What waits goes on waiting.
func (a *admission) configure(c config.Admission) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limits = c
	a.start()
}

// close refuses what comes from now on, and waits for the rest.
func (a *admission) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.done.Wait()
}

// byLength is a heap of the sources with new subscribers waiting, most first.
type byLength []*sourceQueue

func (h byLength) Len() int { return len(h) }
func (h byLength) Less(i, j int) bool {
	return len(h[i].queued[classNew]) > len(h[j].queued[classNew])
}

func (h byLength) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push and Pop are for container/heap.
func (h *byLength) Push(x any) {
	q := x.(*sourceQueue)
	q.index = len(*h)
	*h = append(*h, q)
}

func (h *byLength) Pop() any {
	last := len(*h) - 1
	q := (*h)[last]
	q.index = -1
	*h = slices.Delete(*h, last, last+1)
	return q
}

// fix puts a source where it belongs after something was queued or taken.
func (h *byLength) fix(q *sourceQueue) {
	switch n := len(q.queued[classNew]); {
	case n == 0 && q.index >= 0:
		heap.Remove(h, q.index)
	case n > 0 && q.index < 0:
		heap.Push(h, q)
	case n > 0:
		heap.Fix(h, q.index)
	}
}
