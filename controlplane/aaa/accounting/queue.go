package accounting

import (
	"slices"
	"time"

	"vrgate/controlplane/deadline"
)

const (
	// maxWindow is how many records of a queue are in memory at once; the others are on disk.
	maxWindow = 256
	// firstLimit is how many records a queue sends at once before anything was acknowledged.
	firstLimit = 1
	// backOff is the pause after the first attempt that failed. It doubles up to maxBackOff.
	backOff    = time.Second
	maxBackOff = time.Minute
	// stuckTries is after how many attempts a record is reported that a server does not take
	// while it takes others.
	stuckTries = 10
)

// queueName is what records are ordered within.
type queueName struct{ router, group string }

// entry is a record that has not been acknowledged.
type entry struct {
	record
	queue *queue
	seq   uint64
	saved bool // on disk
	gone  bool // acknowledged, withdrawn or dropped: of no interest any more
	shown bool // in its queue's window

	// While in the window:
	sent    bool
	counted bool // among core.inflight
	tries   int
	retryAt time.Time
	ackSeen uint64 // its queue's acks when it was sent

	promised func(error) // wants to know when the record is on disk
	waiter   *waiter     // wants to know when a server has it
}

// queue is the records of one virtual router and group of servers, in their order: window, then
// beyond, then unsaved.
type queue struct {
	queueName
	number uint32
	known  bool // its number is on disk

	window  []*entry
	beyond  int // records on disk after the window
	interim int // how many of those are interims
	loading bool
	// loadedTo is the last record that was in the window, savedTo the last that is on disk and
	// was not, trimFrom where the next interim to drop may be.
	loadedTo, savedTo, trimFrom uint64
	unsaved                     []*entry

	inflight int
	// limit is how many may be in flight: it grows with each acknowledgement, so that a group of
	// which nothing is known is not sent much.
	limit int
	acks  uint64
	// lone is the only record that has failed since the last acknowledgement. One that fails again
	// and again while nothing else is there to be sent says nothing about the servers.
	lone  uint64
	down  bool // nobody answers
	delay time.Duration
	retry time.Time // of the next attempt while down

	delivered, retried, dropped uint64
}

func newQueue(name queueName, number uint32) *queue {
	return &queue{queueName: name, number: number, limit: firstLimit}
}

// length is how many records wait or are on their way.
func (q *queue) length() int { return len(q.window) + q.beyond + len(q.unsaved) }

// show moves an entry into the window, where it can be sent.
func (q *queue) show(e *entry) {
	e.shown = true
	q.window = append(q.window, e)
	q.loadedTo = max(q.loadedTo, e.seq)
}

// more tells whether there are records on disk that have to be read before others are shown.
func (q *queue) more() bool { return q.savedTo > q.loadedTo }

// room tells whether what comes next on disk or in memory may be shown.
func (q *queue) room() bool { return len(q.window) < maxWindow }

// fill shows records that the disk has refused.
func (q *queue) fill() {
	for len(q.unsaved) > 0 && !q.more() && !q.loading && q.room() {
		e := q.unsaved[0]
		q.unsaved = q.unsaved[1:]
		if !e.gone {
			q.show(e)
		}
	}
}

// oldest returns when the oldest record in memory happened.
func (q *queue) oldest() (time.Time, bool) {
	for _, l := range [][]*entry{q.window, q.unsaved} {
		for _, e := range l {
			if !e.gone {
				return e.at, true
			}
		}
	}
	return time.Time{}, false
}

// next returns the record to send now, nil for none, and when there may be one if nothing else
// happens; zero: never.
func (q *queue) next(now time.Time, parallel int) (*entry, time.Time) {
	limit := min(q.limit, parallel)
	if q.down {
		if q.inflight > 0 {
			return nil, time.Time{}
		}
		if now.Before(q.retry) {
			return nil, q.retry
		}
	} else if q.inflight >= limit {
		return nil, time.Time{}
	}
	var pick *entry
	var wake time.Time
	held := make(map[sessionKey]bool, q.inflight) // sessions with an earlier record in the window
	for i, e := range q.window {
		if e.kind.barrier() {
			if i == 0 && !e.sent {
				q.consider(now, e, &pick, &wake)
			}
			break
		}
		if held[e.session] {
			continue
		}
		held[e.session] = true
		if e.sent {
			continue
		}
		q.consider(now, e, &pick, &wake)
		if pick != nil && (!q.down || pick.tries == 0) {
			break
		}
	}
	return pick, wake
}

// consider takes e as the one to send if it is due. While nobody answers, due is the one that
// was tried least: what a server never takes must not hide that it is back.
func (q *queue) consider(now time.Time, e *entry, pick **entry, wake *time.Time) {
	if q.down {
		if *pick == nil || e.tries < (*pick).tries {
			*pick = e
		}
		return
	}
	if now.Before(e.retryAt) {
		*wake = deadline.Earliest(*wake, e.retryAt)
		return
	}
	*pick = e
}

// send notes that e is on its way.
func (q *queue) send(e *entry) {
	e.sent, e.ackSeen = true, q.acks
	q.inflight++
}

// acknowledged notes that a server has e, and returns whether the group had been down.
func (q *queue) acknowledged(e *entry, parallel int) (revived bool) {
	q.inflight--
	q.acks++
	q.delivered++
	q.lone, q.delay = 0, 0
	q.limit = min(parallel, q.limit+1)
	revived, q.down = q.down, false
	if revived {
		for _, w := range q.window {
			w.retryAt = time.Time{}
		}
	}
	q.remove(e)
	return revived
}

// failed notes that nobody has acknowledged e, and returns whether the group has gone down by it.
func (q *queue) failed(now time.Time, e *entry) (down bool) {
	q.inflight--
	q.retried++
	e.sent = false
	e.tries++
	switch {
	case q.acks != e.ackSeen, q.lone == 0 && !q.down, q.lone == e.seq && !q.down:
		// Others were acknowledged meanwhile, or there were no others: it is this record's.
		if q.acks == e.ackSeen {
			q.lone = e.seq
		}
		e.retryAt = now.Add(growing(e.tries))
		return false
	}
	down = !q.down
	q.down, q.limit = true, 1
	if q.inflight == 0 {
		q.delay = min(max(2*q.delay, backOff), maxBackOff)
		q.retry = now.Add(q.delay)
	}
	return down
}

func (q *queue) remove(e *entry) {
	e.gone = true
	if i := slices.Index(q.window, e); i >= 0 {
		q.window = slices.Delete(q.window, i, i+1)
	}
}

// growing is the pause after so many attempts.
func growing(tries int) time.Duration {
	if tries > 6 {
		return maxBackOff
	}
	return min(backOff<<(tries-1), maxBackOff)
}
