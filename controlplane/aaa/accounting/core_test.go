package accounting

import (
	"testing"
	"time"

	"vrgate/controlplane/store"
)

func testCore() *core {
	return newCore(limits{parallel: 4, inFlight: 32, maxRecords: 1000, maxUnsaved: 1000, disk: time.Second, acknowledgement: time.Minute})
}

// step ticks and returns what goes to the writer and to the servers.
func (c *core) step(now time.Time) (writes []write, sent []uint64) {
	c.tick(now)
	for _, e := range c.take() {
		switch e := e.(type) {
		case write:
			writes = append(writes, e)
		case deliver:
			sent = append(sent, e.entry.seq)
		}
	}
	return writes, sent
}

// A start that was withdrawn while the disk hung is written when it goes on, and must not be
// read again as if it counted, nor stand in the way of what follows.
func TestWithdrawnButWritten(t *testing.T) {
	now := time.Unix(1000, 0)
	c := testCore()
	name := queueName{"a", "g"}
	q := c.queue(name)
	q.savedTo, q.loadedTo, q.beyond, c.total, c.seq = 20, 10, 10, 10, 20 // an outage has left records on disk
	q.loading = true
	var told error
	c.start(now, name, of(KindStart, 1), []byte("{}"), &waiter{}, func(err error) { told = err })
	c.start(now, name, of(KindStart, 2), []byte("{}"), nil, func(error) {})
	w, _ := c.step(now)
	if len(w) != 1 || len(w[0].changes.records) != 2 {
		t.Fatalf("%+v", w)
	}
	now = now.Add(time.Second)
	c.tick(now) // the disk hangs
	for _, e := range c.take() {
		if a, ok := e.(answer); ok {
			a.done(a.err)
		}
	}
	if told != errDiskSlow || c.open[of(KindStart, 1).session] != nil {
		t.Fatalf("told %v", told)
	}
	c.wrote(now, w[0], nil)
	if len(q.unsaved) != 0 || q.savedTo != 22 || len(c.pending.deleted) != 1 {
		t.Fatalf("%d unsaved, saved to %d, %d to delete", len(q.unsaved), q.savedTo, len(c.pending.deleted))
	}
	found := []*entry{}
	for seq := uint64(11); seq <= 22; seq++ {
		found = append(found, &entry{record: of(KindStart, int(seq)), queue: q, seq: seq, saved: true})
	}
	c.loaded(load{queue: q, after: 10, upTo: 22, found: found, end: true})
	for _, e := range q.window {
		if e.seq == 21 {
			t.Error("the withdrawn start will be sent")
		}
	}
	if len(q.window) != 11 || c.total != 11 || q.beyond != 0 || q.more() {
		t.Errorf("%d shown, %d in all, %d beyond", len(q.window), c.total, q.beyond)
	}
	// Its session is removed with the next transaction.
	now = now.Add(deleteDelay)
	w, _ = c.step(now)
	if v, closed := w[0].changes.opens[of(KindStart, 1).session]; !closed || v != nil || len(w[0].changes.deleted) != 1 {
		t.Errorf("%+v", w[0].changes)
	}
}

// A withdrawn start in front of what waits for the disk is passed over when the disk takes the rest.
func TestWithdrawnFirst(t *testing.T) {
	now := time.Unix(1000, 0)
	c := testCore()
	name := queueName{"a", "g"}
	q := c.queue(name)
	q.savedTo, q.loading = 5, true
	c.seq = 5
	c.start(now, name, of(KindStart, 1), []byte("{}"), &waiter{}, func(error) {})
	c.start(now, name, of(KindStart, 2), []byte("{}"), nil, func(error) {})
	w, _ := c.step(now)
	c.wrote(now, w[0], store.ErrFull)
	now = now.Add(diskRetry)
	w, sent := c.step(now)
	if len(sent) != 0 || len(w) != 1 || len(w[0].changes.records) != 1 {
		t.Fatalf("%v, %+v", sent, w)
	}
	c.wrote(now, w[0], nil)
	if len(q.unsaved) != 0 || q.savedTo != 7 || q.beyond != 1 {
		t.Errorf("%d unsaved, saved to %d, %d beyond", len(q.unsaved), q.savedTo, q.beyond)
	}
}

// While the disk cannot delete what was acknowledged, no more is read than memory holds.
func TestUndeletedAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	c := testCore()
	q := c.queue(queueName{"a", "g"})
	q.savedTo, q.beyond = 10, 10
	c.disk = diskState{failing: true, err: store.ErrFull, retry: now.Add(time.Hour)}
	c.pending.deleted = make([]recordID, maxUndeleted)
	if w, _ := c.step(now); len(w) != 0 {
		t.Errorf("%+v", w)
	}
	c.pending.deleted = c.pending.deleted[1:]
	if w, _ := c.step(now); len(w) != 1 || len(w[0].loads) != 1 || w[0].changes != nil {
		t.Errorf("%+v", w)
	}
}

// A store that cannot be read is not asked again at once.
func TestReadFails(t *testing.T) {
	now := time.Unix(1000, 0)
	c := testCore()
	q := c.queue(queueName{"a", "g"})
	c.pending = newChanges()
	q.savedTo, q.beyond, c.total = 10, 10, 10
	w, _ := c.step(now)
	if len(w) != 1 || len(w[0].loads) != 1 {
		t.Fatalf("%+v", w)
	}
	w[0].loads[0].failed = true
	c.wrote(now, w[0], nil)
	if wake := c.tick(now); len(c.take()) != 0 || !wake.Equal(now.Add(diskRetry)) {
		t.Errorf("next at %v", wake)
	}
	if w, _ := c.step(now.Add(diskRetry)); len(w) != 1 {
		t.Errorf("%+v", w)
	}
}
