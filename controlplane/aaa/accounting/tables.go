package accounting

import (
	"encoding/binary"
	"errors"
	"fmt"

	"vrgate/controlplane/store"
)

// The journal's tables.
const (
	// tableRecords: queue and number of the record -> record.
	tableRecords = "accounting-records"
	// tableOpen: session -> openSession, of each session whose stop is owed.
	tableOpen = "accounting-open"
	// tableFigures: session -> figures, where they are newer than the open session's.
	tableFigures = "accounting-figures"
	// tableQueues: number of a queue -> length of the virtual router's name, name, name of the group.
	tableQueues = "accounting-queues"
)

// scanMost bounds how many records one transaction looks at for interims to drop.
const scanMost = 5 * trimMost

// Disk is the store, or what a test puts between.
type Disk interface {
	Update(func(*store.Tx) error) error
	View(func(*store.Tx) error) error
}

// perform does what the core wants from the store, and fills in the results. The error is that of
// the changes; loads that failed say so.
func (w *write) perform(st Disk) error {
	var err error
	if w.changes != nil {
		err = st.Update(func(tx *store.Tx) error {
			if w.trim != nil {
				if err := w.trim.perform(tx); err != nil {
					return err
				}
			}
			return w.changes.perform(tx)
		})
	}
	if len(w.loads) > 0 && st.View(w.read) != nil {
		for i := range w.loads {
			w.loads[i] = load{queue: w.loads[i].queue, after: w.loads[i].after, failed: true}
		}
	}
	return err
}

func (w *write) read(tx *store.Tx) error {
	for i := range w.loads {
		w.loads[i].perform(tx)
	}
	return nil
}

func (c *changes) perform(tx *store.Tx) error {
	for _, q := range c.queues {
		name := append([]byte{byte(len(q.router))}, q.router...)
		if err := tx.Put(tableQueues, binary.BigEndian.AppendUint32(nil, q.number), append(name, q.group...)); err != nil {
			return err
		}
	}
	for _, e := range c.records {
		if err := tx.Put(tableRecords, recordID{e.queue.number, e.seq}.key(), e.append(nil)); err != nil {
			return err
		}
	}
	for _, id := range c.deleted {
		if err := tx.Delete(tableRecords, id.key()); err != nil {
			return err
		}
	}
	for key, f := range c.figures {
		if err := tx.Put(tableFigures, key.appendTo(nil), f.append(nil)); err != nil {
			return err
		}
	}
	for key, v := range c.opens {
		k := key.appendTo(nil)
		if v != nil {
			if err := tx.Put(tableOpen, k, v); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(tx.Delete(tableOpen, k), tx.Delete(tableFigures, k)); err != nil {
			return err
		}
	}
	return nil
}

// perform reads a page. What cannot be read is counted, and passed over until the next start
// of the daemon, which deletes it.
func (l *load) perform(tx *store.Tx) {
	l.found, l.bad, l.end = nil, nil, true
	l.each(tx, func(id recordID, v []byte) bool {
		if len(l.found)+len(l.bad) == loadPage {
			l.end = false
			return false
		}
		r, err := parseRecord(v)
		if err != nil {
			l.bad = append(l.bad, id)
			return true
		}
		r.attributes = append([]byte(nil), r.attributes...)
		l.found = append(l.found, &entry{record: r, queue: l.queue, seq: id.seq, saved: true})
		return true
	})
}

func (l *load) each(tx *store.Tx, fn func(recordID, []byte) bool) {
	eachRecord(tx, l.queue.number, l.after+1, l.upTo, fn)
}

func eachRecord(tx *store.Tx, queue uint32, from, upTo uint64, fn func(recordID, []byte) bool) {
	tx.Range(tableRecords, recordID{queue, from}.key(), func(k, v []byte) bool {
		id, err := parseRecordID(k)
		return err == nil && id.queue == queue && id.seq <= upTo && fn(id, v)
	})
}

func (t *trim) perform(tx *store.Tx) error {
	t.dropped, t.last, t.end = 0, t.from-1, true
	var doomed []recordID
	scanned := 0
	eachRecord(tx, t.queue.number, t.from, t.upTo, func(id recordID, v []byte) bool {
		if len(doomed) == t.most || scanned == scanMost {
			t.end = false
			return false
		}
		scanned++
		t.last = id.seq
		if r, err := parseRecord(v); err == nil && r.kind == KindInterim {
			doomed = append(doomed, id)
		}
		return true
	})
	for _, id := range doomed {
		if err := tx.Delete(tableRecords, id.key()); err != nil {
			return err
		}
	}
	t.dropped = len(doomed)
	return nil
}

// survivor is an open session that the daemon's death has ended.
type survivor struct {
	key sessionKey
	openSession
}

// recall reads what an earlier daemon has left: the queues and their lengths, and who was open.
// What cannot be read is counted in damaged; records among it are deleted.
func (c *core) recall(st Disk) (survivors []survivor, damaged int, err error) {
	byNumber := map[uint32]*queue{}
	var bad []recordID
	err = st.View(func(tx *store.Tx) error {
		tx.Range(tableQueues, nil, func(k, v []byte) bool {
			if len(k) != 4 || len(v) < 1 || len(v)-1 < int(v[0]) {
				damaged++
				return true
			}
			n := int(v[0])
			q := newQueue(queueName{string(v[1 : 1+n]), string(v[1+n:])}, binary.BigEndian.Uint32(k))
			q.known = true
			byNumber[q.number] = q
			c.addQueue(q)
			return true
		})
		tx.Range(tableRecords, nil, func(k, v []byte) bool {
			id, err := parseRecordID(k)
			if err != nil {
				damaged++
				return true
			}
			c.seq = max(c.seq, id.seq)
			r, err := parseRecord(v)
			q := byNumber[id.queue]
			if err != nil || q == nil {
				damaged++
				bad = append(bad, id)
				return true
			}
			q.savedTo = id.seq
			q.beyond++
			c.total++
			if r.kind == KindInterim {
				q.interim++
			}
			return true
		})
		tx.Range(tableOpen, nil, func(k, v []byte) bool {
			key, err := parseSessionKey(k)
			if err != nil {
				damaged++
				return true
			}
			o, err := parseSession(v)
			if err != nil {
				damaged++
				c.pending.opens[key] = nil
				return true
			}
			if f, err := parseFigures(tx.Get(tableFigures, k)); err == nil && f.at.After(o.At) {
				o.At, o.Record.Counters = f.at, f.counters
			}
			survivors = append(survivors, survivor{key, o})
			return true
		})
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("accounting: reading the journal: %w", err)
	}
	c.pending.deleted = append(c.pending.deleted, bad...)
	return survivors, damaged, nil
}
