package accounting

import (
	"time"

	"vrgate/controlplane/deadline"
)

// Stats is the state of the journal, for metrics and show.
type Stats struct {
	// Queued records wait for a server, of which Unsaved are in memory only; Open sessions are
	// owed a stop.
	Queued, Unsaved, Open int
	// Oldest is when the oldest record in memory happened, which is the oldest there is; zero: none.
	Oldest time.Time
	// Since the journal was opened: records acknowledged, attempts without acknowledgement, and
	// interims dropped for want of room.
	Delivered, Retried, DroppedInterims uint64
	// Recovered stops were owed by a daemon that died.
	Recovered uint64
	// Lost records were neither on disk nor in memory, could not be encoded or not be read again.
	Lost uint64
	// Unknown counts interims and stops of sessions that had no start.
	Unknown uint64
	// DiskError is why the disk does not take records; nil: it does.
	DiskError error
	Queues    []QueueStats
}

// QueueStats is the state of one virtual router's records for one group of servers.
type QueueStats struct {
	Router, Group    string
	Queued, InFlight int
	Oldest           time.Time // zero: none
	// Silent: nobody answers. Failing: so it may be; the one record that was sent since the last
	// acknowledgement has got none.
	Silent, Failing                     bool
	NextAttempt                         time.Time // while Silent or Failing; zero: one is under way
	Delivered, Retried, DroppedInterims uint64
}

// Stats returns the state of the journal.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.core.statistics()
}

func (c *core) statistics() Stats {
	s := c.stats
	s.Queued, s.Open, s.DiskError = c.total, len(c.open), c.disk.err
	for _, q := range c.queues {
		oldest, _ := q.oldest()
		s.Oldest = deadline.Earliest(s.Oldest, oldest)
		qs := QueueStats{
			Router: q.router, Group: q.group, Queued: q.length(), InFlight: q.inflight, Oldest: oldest, Silent: q.down,
			Delivered: q.delivered, Retried: q.retried, DroppedInterims: q.dropped,
		}
		qs.Failing = q.lone != 0 && !q.down
		qs.NextAttempt = q.nextAttempt()
		s.Queues = append(s.Queues, qs)
	}
	for _, e := range c.pending.records {
		if !e.gone {
			s.Unsaved++
		}
	}
	if c.writing != nil {
		s.Unsaved += len(c.writing.records)
	}
	return s
}

// nextAttempt is when a record that nobody has acknowledged is sent again; zero: there is none, or
// one is under way.
func (q *queue) nextAttempt() time.Time {
	switch {
	case q.down && q.inflight == 0:
		return q.retry
	case q.down:
		return time.Time{}
	}
	for _, e := range q.window {
		if e.seq == q.lone && !e.sent && !e.gone {
			return e.retryAt
		}
	}
	return time.Time{}
}
