package controlplane

import (
	"sync"
)

// workers runs blocking work in a bounded number of goroutines, shared by all virtual
// routers. Work with the same key runs one at a time in the order it was given; work with
// different keys runs side by side.
type workers struct {
	mu       sync.Mutex
	ready    *sync.Cond
	queues   map[any]*workQueue
	runnable []*workQueue // have work and nobody working on it
	closed   bool
	done     sync.WaitGroup
}

type workQueue struct {
	key  any
	todo []func()
}

func newWorkers(n int) *workers {
	w := &workers{queues: map[any]*workQueue{}}
	w.ready = sync.NewCond(&w.mu)
	for range n {
		w.done.Go(w.run)
	}
	return w
}

// do queues fn behind everything that was queued under key before.
func (w *workers) do(key any, fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	q := w.queues[key]
	if q == nil {
		q = &workQueue{key: key}
		w.queues[key] = q
		w.runnable = append(w.runnable, q)
		w.ready.Signal()
	}
	q.todo = append(q.todo, fn)
}

// run works until close. A queue is in runnable, or with one worker, or not at all.
func (w *workers) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.runnable) == 0 {
			if w.closed {
				return
			}
			w.ready.Wait()
		}
		q := w.runnable[0]
		w.runnable = w.runnable[1:]
		fn := q.todo[0]
		q.todo = q.todo[1:]
		w.mu.Unlock()
		fn()
		w.mu.Lock()
		if len(q.todo) > 0 {
			w.runnable = append(w.runnable, q)
			w.ready.Signal()
		} else {
			delete(w.queues, q.key)
		}
	}
}

// close lets what is queued finish and waits for it.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	w.ready.Broadcast()
	w.mu.Unlock()
	w.done.Wait()
}
