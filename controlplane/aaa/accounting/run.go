package accounting

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// warnEvery is how often a notice that may come often is logged.
const warnEvery = time.Minute

// job is something for the goroutine that owns the core.
type job func(c *core, now time.Time)

// inbox is what waits for it. It is not bounded by itself: each job is a session's own start,
// interim or stop, or the end of something that the core has begun.
type inbox struct {
	wake chan struct{} // holds a token while something waits

	mu     sync.Mutex
	jobs   []job
	closed bool
}

func (b *inbox) put(f job) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.jobs = append(b.jobs, f)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

func (b *inbox) take() []job {
	b.mu.Lock()
	defer b.mu.Unlock()
	jobs := b.jobs
	b.jobs = nil
	return jobs
}

// close refuses what comes from now on and returns what has come.
func (b *inbox) close() []job {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	jobs := b.jobs
	b.jobs = nil
	return jobs
}

// post queues f; closed is called instead when the journal is closed.
func (j *Journal) post(f job, closed func()) {
	if !j.inbox.put(f) && closed != nil {
		closed()
	}
}

// run owns the core until ctx ends; then it writes what is not on disk yet.
func (j *Journal) run(ctx context.Context) error {
	defer close(j.writes)
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	var senders sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wake := j.step(sending, &senders, j.inbox.take())
		timer.Stop()
		var due <-chan time.Time
		if !wake.IsZero() {
			timer.Reset(max(0, time.Until(wake)))
			due = timer.C
		}
		select {
		case <-j.inbox.wake:
		case <-due:
		case <-ctx.Done():
			cancel()
			senders.Wait()
			j.finish()
			return nil
		}
	}
}

// step gives the core what has come and does what it wants. It returns when it wants to be called
// again.
func (j *Journal) step(ctx context.Context, senders *sync.WaitGroup, jobs []job) time.Time {
	now := time.Now()
	j.mu.Lock()
	for _, f := range jobs {
		f(j.core, now)
	}
	wake := j.core.tick(now)
	if j.core.whenIdle != nil && j.core.idle() {
		close(j.core.whenIdle)
		j.core.whenIdle = nil
	}
	effects := j.core.take()
	j.mu.Unlock()
	for _, e := range effects {
		switch e := e.(type) {
		case write:
			j.writes <- e // the writer is idle, and there is room for one
		case deliver:
			senders.Go(func() { j.deliver(ctx, e.entry) })
		case answer:
			if e.done != nil {
				e.done(e.err)
			}
		case giveUp:
			j.Stop(ended(e.rec, now), nil)
		case note:
			j.note(now, e)
		}
	}
	return wake
}

// deliver is the life of a goroutine that sends one record.
func (j *Journal) deliver(ctx context.Context, e *entry) {
	err := j.send(ctx, e.queue.router, e.queue.group, e.attributes, e.at)
	j.inbox.put(func(c *core, now time.Time) { c.delivered(now, e, err) })
}

// runWriter is the goroutine that reads and writes the store, until writes is closed.
func (j *Journal) runWriter() error {
	for w := range j.writes {
		err := w.perform(j.disk)
		j.inbox.put(func(c *core, now time.Time) { c.wrote(now, w, err) })
	}
	return nil
}

// note logs a notice. Those that may come often are logged at most once per warnEvery.
func (j *Journal) note(now time.Time, n note) {
	fields := []zap.Field{}
	if n.queue != nil {
		fields = append(fields, zap.String("vr", n.queue.router), zap.String("group", n.queue.group))
	}
	if n.err != nil {
		fields = append(fields, zap.Error(n.err))
	}
	if n.entry != nil {
		fields = append(fields, zap.Stringer("record", n.entry.kind), zap.Uint64("session", uint64(n.entry.session.id)))
	}
	if n.n > 0 {
		fields = append(fields, zap.Int("records", n.n))
	}
	switch n.what {
	case noteDown, noteStuck, noteRevived:
	default:
		if last, again := j.warned[n.what]; again && now.Sub(last) < warnEvery {
			return
		}
		j.warned[n.what] = now
	}
	switch n.what {
	case noteDiskFailed:
		j.log.Error("the disk refuses accounting records; they are kept in memory until it takes them", fields...)
	case noteDiskBack:
		j.log.Info("the disk takes accounting records again", fields...)
	case noteDown:
		j.log.Warn("no accounting server answers; records are kept", fields...)
	case noteRevived:
		j.log.Info("an accounting server answers again", fields...)
	case noteDropped:
		j.log.Warn("too many accounting records wait; the oldest interims are dropped", fields...)
	case noteLost:
		j.log.Error("accounting records are lost: neither the disk nor the memory has room", fields...)
	case noteStuck:
		j.log.Warn("an accounting record is not acknowledged though others are", fields...)
	case noteDamaged:
		j.log.Error("entries of the accounting journal cannot be read", fields...)
	}
}
