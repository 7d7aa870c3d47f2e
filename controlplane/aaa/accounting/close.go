package accounting

import (
	"context"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/subscriber"
)

// Close sends what it can until ctx ends, writes the rest for the next start and ends the
// journal's goroutines. What comes meanwhile is still taken; after it, Start's done gets
// ErrClosed. It may be called again. Error: that of ctx when something was left.
func (j *Journal) Close(ctx context.Context) error {
	idle := make(chan struct{})
	if j.inbox.put(func(c *core, _ time.Time) {
		c.hurry()
		c.whenIdle = idle
	}) {
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	j.stop()
	if err := j.group.Wait(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.core.total > 0 {
		return ctx.Err()
	}
	return nil
}

// finish writes what is only in memory, once, when nothing is on its way any more.
func (j *Journal) finish() {
	// The writer's answer comes through the inbox.
	for {
		j.settle(j.inbox.take())
		j.mu.Lock()
		writing := j.core.writing != nil
		j.mu.Unlock()
		if !writing {
			break
		}
		<-j.inbox.wake
	}
	j.settle(j.inbox.close())
	j.mu.Lock()
	last := j.core.last()
	j.mu.Unlock()
	err := last.perform(j.disk)
	j.mu.Lock()
	j.core.wrote(time.Now(), last, err)
	effects, total, unsaved := j.core.take(), j.core.total, len(j.core.pending.records)
	j.mu.Unlock()
	j.answers(effects)
	if err != nil {
		j.log.Error("the disk refuses accounting records at the end; they are lost", zap.Int("records", unsaved), zap.Error(err))
	} else if total > 0 {
		j.log.Info("accounting records wait for the next start", zap.Int("records", total))
	}
}

// last returns everything that is to be on disk when the journal ends. Starts that wait for a
// server are refused; their sessions get a stop at the next start.
func (c *core) last() write {
	for _, w := range c.waiters {
		if !w.over {
			w.over = true
			c.emit(answer{w.done, ErrClosed})
		}
	}
	out := c.pending
	c.pending = newChanges()
	out.records = live(out.records)
	return write{changes: &out}
}

// settle gives the core what has come at the end, and only calls back.
func (j *Journal) settle(jobs []job) {
	now := time.Now()
	j.mu.Lock()
	for _, f := range jobs {
		f(j.core, now)
	}
	effects := j.core.take()
	j.mu.Unlock()
	j.answers(effects)
}

// answers calls back; a start that was given up meanwhile gets its stop by the next daemon.
func (j *Journal) answers(effects []effect) {
	for _, e := range effects {
		if a, ok := e.(answer); ok && a.done != nil {
			a.done(a.err)
		}
	}
}

// ended is rec as it is when a session that was given up has ended.
func ended(rec subscriber.Record, now time.Time) subscriber.Record {
	rec.Ended, rec.Reason, rec.Text = now, subscriber.ReasonNoAccounting, ErrNotAcknowledged.Error()
	return rec
}
