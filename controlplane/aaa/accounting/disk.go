package accounting

import (
	"time"

	"vrgate/controlplane/deadline"
)

// maxUndeleted bounds how many acknowledged records may wait for the disk to delete them before
// no more are read: they would fill the memory.
const maxUndeleted = 65_536

// work gives the writer what there is to do, if it is idle, and returns when there will be more.
func (c *core) work(now time.Time) (wake time.Time) {
	if c.writing != nil {
		if c.disk.failing {
			return time.Time{}
		}
		return c.since.Add(c.limits.disk)
	}
	var w write
	readable := !now.Before(c.readAt)
	for _, q := range c.queues {
		if readable && q.more() && !q.loading && len(q.window) <= maxWindow-loadPage && len(c.pending.deleted) < maxUndeleted {
			q.loading = true
			w.loads = append(w.loads, load{queue: q, after: q.loadedTo, upTo: q.savedTo})
		}
	}
	due, wake := c.due(now)
	if due {
		out := c.pending
		c.pending = newChanges()
		out.records = live(out.records)
		w.changes = &out
		w.trim = c.trimmable()
	}
	if w.changes == nil && len(w.loads) == 0 {
		if !readable {
			wake = deadline.Earliest(wake, c.readAt)
		}
		return wake
	}
	c.writing = w.changes
	if c.writing == nil {
		c.writing = &changes{}
	}
	c.since = now
	c.emit(w)
	return now.Add(c.limits.disk)
}

// due tells whether it is time to write, and otherwise when it will be.
func (c *core) due(now time.Time) (bool, time.Time) {
	p := &c.pending
	switch {
	case c.disk.failing:
		// Also when there is nothing to write: to know when it takes records again.
		return !now.Before(c.disk.retry), c.disk.retry
	case p.empty() && c.total <= c.maxRecords:
		return false, time.Time{}
	case len(p.records)+len(p.opens)+len(p.figures)+len(p.queues) > 0:
		return true, time.Time{}
	case len(p.deleted) > 0:
		at := c.deletedAt.Add(deleteDelay)
		return !now.Before(at), at
	}
	return c.trimmable() != nil, time.Time{}
}

// trimmable returns where interims are to be dropped because there are too many records: in the
// queue that has most of them.
func (c *core) trimmable() *trim {
	over := c.total - c.maxRecords
	if over <= 0 {
		return nil
	}
	var longest *queue
	for _, q := range c.queues {
		if q.interim > 0 && (longest == nil || q.interim > longest.interim) {
			longest = q
		}
	}
	if longest == nil {
		return nil // starts and stops are never dropped
	}
	// A hundredth more, so that not every record needs it.
	return &trim{
		queue: longest, from: max(longest.trimFrom, longest.loadedTo+1), upTo: longest.savedTo,
		most: min(over+c.maxRecords/100, trimMost),
	}
}

// live leaves out what is of no interest any more.
func live(in []*entry) []*entry {
	out := in[:0]
	for _, e := range in {
		if !e.gone {
			out = append(out, e)
		}
	}
	return out
}

// wrote takes the writer's answer.
func (c *core) wrote(now time.Time, w write, err error) {
	c.writing = nil
	if w.changes != nil {
		if err == nil {
			c.trimmed(w.trim) // it did not look at what was written with it
			c.written(now, w.changes)
		} else {
			c.refused(now, w.changes, err)
		}
	}
	for _, l := range w.loads {
		if l.failed {
			c.readAt = now.Add(diskRetry)
		}
		c.loaded(l)
	}
}

// written: the changes are on disk.
func (c *core) written(now time.Time, w *changes) {
	if c.disk.failing {
		c.emit(note{what: noteDiskBack, n: len(w.records)})
	}
	c.disk = diskState{}
	for _, q := range w.queues {
		q.known = true
	}
	for key, v := range w.opens {
		if s := c.open[key]; s != nil && v != nil {
			s.saved = true
		}
	}
	for _, e := range w.records {
		e.saved = true
		if e.promised != nil {
			c.emit(answer{e.promised, nil})
			e.promised = nil
		}
		q := e.queue
		for len(q.unsaved) > 0 && (q.unsaved[0].gone || q.unsaved[0] == e) {
			q.unsaved = q.unsaved[1:]
		}
		switch {
		case e.gone:
			c.unwrite(now, e)
		case e.shown:
		case !q.more() && !q.loading && q.room():
			q.show(e)
		default:
			q.savedTo = e.seq
			q.beyond++
			if e.kind == KindInterim {
				q.interim++
			}
		}
	}
}

// refused: nothing has happened, or nobody knows. Everything is tried again, together with what
// has come since; later changes of a session replace earlier ones.
func (c *core) refused(now time.Time, w *changes, err error) {
	c.degrade(err, w)
	p := &c.pending
	if !definite(err) {
		for _, e := range w.records {
			if e.gone {
				c.unwrite(now, e)
			}
		}
	}
	p.records = append(live(w.records), p.records...)
	p.deleted = append(w.deleted, p.deleted...)
	p.queues = append(w.queues, p.queues...)
	for key, v := range w.opens {
		if _, later := p.opens[key]; !later {
			p.opens[key] = v
		}
		if s := c.open[key]; s != nil && !definite(err) {
			s.saved = true
		}
	}
	for key, f := range w.figures {
		if _, known := p.figures[key]; !known && c.open[key] != nil {
			p.figures[key] = f
		}
	}
	c.disk.delay = min(max(2*c.disk.delay, diskRetry), maxDiskRetry)
	c.disk.retry = now.Add(c.disk.delay)
}

// watch notices that the disk does not answer.
func (c *core) watch(now time.Time) {
	if c.writing != nil && !c.disk.failing && !now.Before(c.since.Add(c.limits.disk)) {
		c.degrade(errDiskSlow, c.writing)
		c.disk.retry = now
	}
}

// degrade begins to work without the disk: nobody waits for it any more, and those who must not
// be without it are told so. It has refused w, or does not answer.
func (c *core) degrade(err error, w *changes) {
	if !c.disk.failing {
		c.emit(note{what: noteDiskFailed, err: err})
	}
	c.disk.failing, c.disk.err = true, err
	for _, l := range [][]*entry{w.records, c.pending.records} {
		for _, e := range l {
			c.release(e, err)
		}
	}
}

// release answers who waits for an entry that the disk does not take.
func (c *core) release(e *entry, err error) {
	if e.promised != nil {
		c.emit(answer{e.promised, nil})
		e.promised = nil
	}
	if w := e.waiter; w != nil && !w.over && !e.saved {
		// It cannot be on its way yet: it would have to be on disk first.
		w.over = true
		c.emit(answer{w.done, err})
		e.gone = true
		c.total--
		if s := c.open[e.session]; s != nil {
			s.saved = true // who knows
			c.forget(e.session, s)
		}
	}
}

// loaded takes records that were read.
func (c *core) loaded(l load) {
	q := l.queue
	q.loading = false
	undeleted := map[uint64]bool{}
	for _, d := range c.pending.deleted {
		if d.queue == q.number && d.seq > l.after {
			undeleted[d.seq] = true
		}
	}
	for _, e := range l.found {
		if undeleted[e.seq] {
			q.loadedTo = max(q.loadedTo, e.seq)
			continue
		}
		q.beyond--
		if e.kind == KindInterim {
			q.interim--
		}
		q.show(e)
	}
	if len(l.bad) > 0 {
		q.beyond -= len(l.bad)
		c.total -= len(l.bad)
		c.stats.Lost += uint64(len(l.bad))
		c.emit(note{what: noteDamaged, queue: q, n: len(l.bad)})
	}
	if l.end {
		q.loadedTo = max(q.loadedTo, l.upTo)
	}
	if !q.more() {
		c.total -= q.beyond // nothing, unless somebody else has changed the file
		q.beyond, q.interim = 0, 0
	}
}

// trimmed takes how many interims were dropped.
func (c *core) trimmed(t *trim) {
	if t == nil {
		return
	}
	q := t.queue
	q.trimFrom = t.last + 1
	q.interim -= t.dropped
	if t.end && t.dropped < t.most {
		q.interim = 0 // what was written since is counted when the next transaction has ended
	}
	q.beyond -= t.dropped
	c.total -= t.dropped
	q.dropped += uint64(t.dropped)
	c.stats.DroppedInterims += uint64(t.dropped)
	if t.dropped > 0 {
		c.emit(note{what: noteDropped, queue: q, n: t.dropped})
	}
}
