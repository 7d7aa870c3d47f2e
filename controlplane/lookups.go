package controlplane

import (
	"context"
	"sync"
	"time"
)

// lookups has names looked up for one virtual router, beside all other work: name servers may be silent, and that shall hold up
// neither calls into the kernel nor other virtual routers. What has not had its turn in time is given up, so that names which
// nobody answers for do not keep the others waiting.
type lookups struct {
	mu      sync.Mutex
	queue   []lookup
	running int
	closed  bool
	done    sync.WaitGroup
}

type lookup struct {
	since time.Time
	ask   func()
	late  func()
}

// Both together are below the 30 seconds for which the engine waits.
const (
	// maxLookups bounds the lookups of one virtual router at a time; each has a socket and a goroutine.
	maxLookups = 32
	// lookupWait is how long a lookup waits for its turn, lookupTimeout how long all name servers together may take.
	lookupWait    = 10 * time.Second
	lookupTimeout = 15 * time.Second
)

// do has ask run when its turn comes, or late if that takes too long. Both block nobody but other lookups. The engine asks for
// each name once at a time, which bounds the queue.
func (l *lookups) do(ask, late func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.queue = append(l.queue, lookup{time.Now(), ask, late})
	if l.running < maxLookups {
		l.running++
		l.done.Go(l.run)
	}
}

// run does one lookup after the other until none waits.
func (l *lookups) run() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 || l.closed {
			l.running--
			l.mu.Unlock()
			return
		}
		next := l.queue[0]
		l.queue[0] = lookup{}
		l.queue = l.queue[1:]
		l.mu.Unlock()
		if time.Since(next.since) > lookupWait {
			next.late()
			continue
		}
		next.ask()
	}
}

// close forgets what waits, and waits for what is being looked up, whose context the caller has ended.
func (l *lookups) close() {
	l.mu.Lock()
	l.closed, l.queue = true, nil
	l.mu.Unlock()
	l.done.Wait()
}

// lookupContext bounds one lookup.
func lookupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, lookupTimeout)
}
