package accounting

import (
	"errors"
	"slices"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/store"
	"vrgate/controlplane/subscriber"
)

const (
	// deleteDelay is how long what was acknowledged may stay on disk for company: a transaction
	// of its own for each would double the work. After a crash it is sent again.
	deleteDelay = 100 * time.Millisecond
	// diskRetry is the pause after the disk has refused. It doubles up to maxDiskRetry.
	diskRetry    = time.Second
	maxDiskRetry = 30 * time.Second
	// trimMost bounds the interims that one transaction drops.
	trimMost = 10_000
	// loadPage is how many records are read at once.
	loadPage = maxWindow / 2
)

// limits are the numbers of Config.
type limits struct {
	parallel, inFlight     int
	maxRecords, maxUnsaved int
	disk, acknowledgement  time.Duration
}

// core is what the journal knows and decides: a plain value that one goroutine owns.
type core struct {
	limits
	queues []*queue
	byName map[queueName]*queue
	open   map[sessionKey]*owed
	seq    uint64 // of the last record

	pending   changes
	writing   *changes // with the writer; nil: it is idle
	since     time.Time
	deletedAt time.Time // when the oldest of pending.deleted was acknowledged
	disk      diskState
	readAt    time.Time // not before, after the store could not be read

	waiters  []*waiter // in the order of their deadlines
	inflight int       // records on their way, without the first of each queue
	total    int       // records that no server has acknowledged
	starved  bool      // a queue could not send because of limits.inFlight
	turn     int       // the queue that is served first
	// whenIdle is closed when everything is delivered and written; nil: nobody waits for it.
	whenIdle chan struct{}

	stats   Stats // counters only
	effects []effect
}

// owed is a session whose stop is owed.
type owed struct {
	queue *queue
	saved bool // it is, or may be, among the open sessions on disk
}

// waiter is a start that must have been acknowledged.
type waiter struct {
	entry    *entry
	rec      subscriber.Record
	deadline time.Time
	done     func(error)
	over     bool
}

// diskState is how the store is.
type diskState struct {
	failing bool
	err     error // why; errDiskSlow while it does not answer
	delay   time.Duration
	retry   time.Time
}

// errDiskSlow: the store has not answered for Config.DiskTimeout.
var errDiskSlow = errors.New("accounting: the disk does not answer")

// changes are what the store is to be told, in one transaction. All of it may be done twice.
type changes struct {
	records []*entry
	deleted []recordID
	opens   map[sessionKey][]byte // nil: closed
	figures map[sessionKey]figures
	queues  []*queue
}

func (c *changes) empty() bool {
	return len(c.records)+len(c.deleted)+len(c.opens)+len(c.figures)+len(c.queues) == 0
}

// effect is what the core wants done.
type effect interface{ accountingEffect() }

type (
	// write is for the writer, which answers with wrote.
	write struct {
		changes *changes // nil: only read
		trim    *trim
		loads   []load
	}
	// load reads records of a queue that follow one, at most loadPage.
	load struct {
		queue *queue
		after uint64
		upTo  uint64
		found []*entry
		bad   []recordID // what cannot be read, and was deleted
		end   bool       // there are no more up to upTo
		// failed: the store could not be read at all.
		failed bool
	}
	// trim drops the oldest interims of a queue.
	trim struct {
		queue   *queue
		from    uint64
		upTo    uint64
		most    int
		dropped int
		last    uint64 // how far it looked
		end     bool   // that was all
	}
	// deliver sends a record; the answer is delivered.
	deliver struct{ entry *entry }
	// answer calls back.
	answer struct {
		done func(error)
		err  error
	}
	// giveUp: nobody has acknowledged a start in time, so the session must not be. A stop is
	// owed, for the start may have arrived.
	giveUp struct{ rec subscriber.Record }
	// note is for the log.
	note struct {
		what  notice
		queue *queue
		err   error
		entry *entry
		n     int
	}
)

func (write) accountingEffect()   {}
func (deliver) accountingEffect() {}
func (answer) accountingEffect()  {}
func (giveUp) accountingEffect()  {}
func (note) accountingEffect()    {}

// notice is what a note says.
type notice uint8

const (
	noteDiskFailed notice = iota
	noteDiskBack
	noteDown
	noteRevived
	noteDropped
	noteLost
	noteStuck
	noteDamaged
)

func newCore(l limits) *core {
	return &core{limits: l, byName: map[queueName]*queue{}, open: map[sessionKey]*owed{}, pending: newChanges()}
}

func newChanges() changes {
	return changes{opens: map[sessionKey][]byte{}, figures: map[sessionKey]figures{}}
}

func (c *core) emit(e effect) { c.effects = append(c.effects, e) }

// take returns what is to be done and forgets it.
func (c *core) take() []effect {
	out := c.effects
	c.effects = nil
	return out
}

func (c *core) queue(name queueName) *queue {
	q := c.byName[name]
	if q == nil {
		number := uint32(1)
		if n := len(c.queues); n > 0 {
			number = c.queues[n-1].number + 1
		}
		q = newQueue(name, number)
		c.addQueue(q)
		c.pending.queues = append(c.pending.queues, q)
	}
	return q
}

func (c *core) addQueue(q *queue) {
	c.queues = append(c.queues, q)
	c.byName[q.queueName] = q
}

// start takes a start record with the stored form of its session.
func (c *core) start(now time.Time, name queueName, r record, session []byte, w *waiter, done func(error)) {
	if c.open[r.session] != nil {
		c.emit(answer{done, nil}) // it is known already
		return
	}
	switch {
	case w != nil && c.disk.failing:
		c.emit(answer{done, c.disk.err})
		return
	case c.crowded():
		c.lose(c.queue(name), r)
		c.emit(answer{done, nil})
		return
	}
	q := c.queue(name)
	e := c.add(q, r)
	c.open[r.session] = &owed{queue: q}
	c.pending.opens[r.session] = session
	if w == nil {
		c.promise(e, done)
		return
	}
	e.waiter = w
	w.entry, w.deadline, w.done = e, now.Add(c.acknowledgement), done
	c.waiters = append(c.waiters, w)
}

// interim takes an interim record with the stored form of its session as it is now.
func (c *core) interim(r record, session []byte, f figures) {
	s := c.open[r.session]
	if s == nil {
		c.stats.Unknown++
		return
	}
	c.pending.opens[r.session] = session
	c.pending.figures[r.session] = f
	if c.crowded() {
		s.queue.dropped++
		c.stats.DroppedInterims++
		return
	}
	c.add(s.queue, r)
}

// checkpoint takes a session's figures without a record.
func (c *core) checkpoint(key sessionKey, f figures) {
	if c.open[key] != nil {
		c.pending.figures[key] = f
	}
}

// stop takes a stop record; its session is owed none any more.
func (c *core) stop(r record, done func(error)) {
	s := c.open[r.session]
	if s == nil {
		c.stats.Unknown++
		c.emit(answer{done, nil})
		return
	}
	c.forget(r.session, s)
	c.promise(c.add(s.queue, r), done)
}

// recovered takes the stop of a session that was open when the daemon died.
func (c *core) recovered(name queueName, r record) {
	c.add(c.queue(name), r)
	c.pending.opens[r.session] = nil
	c.stats.Recovered++
}

// barrier takes an Accounting-On or -Off.
func (c *core) barrier(name queueName, r record) { c.add(c.queue(name), r) }

// forget has a session removed from the open ones.
func (c *core) forget(key sessionKey, s *owed) {
	delete(c.open, key)
	delete(c.pending.figures, key)
	if s.saved || c.writing != nil && c.writing.opens[key] != nil {
		c.pending.opens[key] = nil
		return
	}
	delete(c.pending.opens, key)
}

// add makes a record the last of its queue.
func (c *core) add(q *queue, r record) *entry {
	c.seq++
	e := &entry{record: r, queue: q, seq: c.seq}
	c.pending.records = append(c.pending.records, e)
	q.unsaved = append(q.unsaved, e)
	c.total++
	return e
}

// promise calls done when e is on disk, or at once where the disk refuses.
func (c *core) promise(e *entry, done func(error)) {
	if c.disk.failing {
		c.emit(answer{done, nil})
		return
	}
	e.promised = done
}

// crowded tells whether memory has no room for another record that the disk refuses, after
// interims have been dropped.
func (c *core) crowded() bool {
	if !c.disk.failing || len(c.pending.records) < c.maxUnsaved {
		return false
	}
	c.pending.records = slices.DeleteFunc(c.pending.records, func(e *entry) bool {
		if e.gone {
			return true
		}
		if e.kind != KindInterim || e.shown {
			return false
		}
		c.drop(e)
		return true
	})
	for _, q := range c.queues {
		q.unsaved = slices.DeleteFunc(q.unsaved, func(e *entry) bool { return e.gone })
	}
	return len(c.pending.records) >= c.maxUnsaved
}

// drop forgets an interim that is in memory only.
func (c *core) drop(e *entry) {
	e.gone = true
	e.queue.dropped++
	c.stats.DroppedInterims++
	c.total--
}

// lose counts what neither the disk nor the memory had room for.
func (c *core) lose(q *queue, r record) {
	c.stats.Lost++
	c.emit(note{what: noteLost, queue: q, entry: &entry{record: r}, err: c.disk.err})
}

// delivered takes the answer to deliver.
func (c *core) delivered(now time.Time, e *entry, err error) {
	q := e.queue
	if e.counted {
		c.inflight--
	}
	if err == nil {
		if q.acknowledged(e, c.parallel) {
			c.emit(note{what: noteRevived, queue: q, n: q.length()})
		}
		c.total--
		c.stats.Delivered++
		if e.saved {
			c.unwrite(now, e)
		}
		if w := e.waiter; w != nil && !w.over {
			w.over = true
			c.emit(answer{w.done, nil})
		}
		return
	}
	c.stats.Retried++
	if q.failed(now, e) {
		c.emit(note{what: noteDown, queue: q, err: err, n: q.length()})
	}
	if e.tries == stuckTries && !q.down {
		c.emit(note{what: noteStuck, queue: q, entry: e, err: err})
	}
}

// unwrite has a record deleted from the disk.
func (c *core) unwrite(now time.Time, e *entry) {
	if len(c.pending.deleted) == 0 {
		c.deletedAt = now
	}
	c.pending.deleted = append(c.pending.deleted, recordID{e.queue.number, e.seq})
}

// tick does what is due, and returns when to call it again; zero: when something happens.
func (c *core) tick(now time.Time) time.Time {
	c.expire(now)
	c.watch(now)
	if c.disk.failing {
		for _, q := range c.queues {
			q.fill()
		}
	}
	wake := c.pump(now)
	wake = deadline.Earliest(wake, c.work(now))
	for len(c.waiters) > 0 && c.waiters[0].over {
		c.waiters = c.waiters[1:]
	}
	if len(c.waiters) > 0 {
		wake = deadline.Earliest(wake, c.waiters[0].deadline)
	}
	return wake
}

// pump sends what may be sent.
func (c *core) pump(now time.Time) (wake time.Time) {
	c.starved = false
	for i := range c.queues {
		q := c.queues[(c.turn+i)%len(c.queues)]
		for len(q.window) > 0 {
			// Each queue may have one record on its way, whatever the others have: many groups that
			// do not answer must not delay one that does.
			counted := q.inflight > 0
			if counted && c.inflight >= c.limits.inFlight {
				c.starved = true
				break
			}
			e, at := q.next(now, c.parallel)
			if e == nil {
				wake = deadline.Earliest(wake, at)
				break
			}
			q.send(e)
			if e.counted = counted; counted {
				c.inflight++
			}
			c.emit(deliver{e})
		}
	}
	if c.starved {
		c.turn++
	}
	return wake
}

// expire answers those who have waited too long for a server.
func (c *core) expire(now time.Time) {
	for len(c.waiters) > 0 && (c.waiters[0].over || !now.Before(c.waiters[0].deadline)) {
		w := c.waiters[0]
		c.waiters = c.waiters[1:]
		if !w.over {
			w.over = true
			c.emit(answer{w.done, ErrNotAcknowledged})
			c.emit(giveUp{w.rec})
		}
	}
}

// idle tells whether everything is delivered and written.
func (c *core) idle() bool {
	return c.total == 0 && c.writing == nil && c.pending.empty()
}

// hurry has every queue try at once what it has.
func (c *core) hurry() {
	for _, q := range c.queues {
		q.retry = time.Time{}
		for _, e := range q.window {
			e.retryAt = time.Time{}
		}
	}
}

// definite tells whether nothing at all of a failed transaction has happened.
func definite(err error) bool { return errors.Is(err, store.ErrFull) }
