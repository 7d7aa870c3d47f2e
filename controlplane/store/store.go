// Package store keeps what has to survive the daemon in one file: leases and the accounting
// journal. It is a small front to bbolt, which nobody else imports.
//
// A transaction is durable when Update returns, and whole or absent after a crash at any
// moment. Callers that come at once share one transaction and its one fsync, without waiting
// for each other's arrival: whoever comes while the disk is busy goes with the next.
//
// A store belongs to one process at a time. It starts no goroutine.
package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"go.etcd.io/bbolt"
)

// Errors of Open, Update and View; what the system said is wrapped beside them.
var (
	// ErrFull: the disk, the quota or the largest size of the file is reached. Nothing of the
	// transaction has happened; it may succeed later.
	ErrFull = errors.New("store: no space left for the state")
	// ErrDisk: the disk failed otherwise. Whether the transaction has happened shows when the
	// file is opened again; doing it once more must do no harm.
	ErrDisk = errors.New("store: the disk failed")
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("store: another process uses the state file")
	// ErrNewer: a newer vrgate has written the file.
	ErrNewer = errors.New("store: the state file has a newer format")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("store: closed")
)

// maxBatch bounds how many callers share one transaction.
const maxBatch = 1024

// Store is open durable state. All methods may be called from several goroutines at once.
type Store struct {
	// Constant after Open.
	db         *bbolt.DB
	movedAside string

	mu      sync.Mutex
	pending []*call
	leading bool // somebody commits, and wakes the next leader
	closed  bool
}

// call is one caller of Update who waits for its transaction.
type call struct {
	fn   func(*Tx) error
	wake chan bool // false: it is done; true: lead
	err  error
	// panicked is what fn panicked with, to be raised where it belongs.
	panicked any
}

// MovedAside returns where Open has put a file that it could not read; empty: nowhere.
func (s *Store) MovedAside() string { return s.movedAside }

// Size returns the size of the file in bytes. It does not shrink while the store is open: what
// is freed is used again.
func (s *Store) Size() int64 {
	var n int64
	_ = s.db.View(func(tx *bbolt.Tx) error {
		n = tx.Size()
		return nil
	})
	return n
}

// Close waits for running transactions and gives the file free. It may be called again.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.db.Close()
}

// Update runs fn in a transaction that is durable when it returns nil. When fn returns an error
// nothing of it has happened, and Update returns that error as it is. fn may be called more than
// once, at any time in any goroutine until Update returns: all it may change is the transaction,
// and what it overwrites when it is called again. It must not use the store.
func (s *Store) Update(fn func(*Tx) error) error {
	c := &call{fn: fn, wake: make(chan bool, 1)}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.pending = append(s.pending, c)
	lead := !s.leading
	s.leading = true
	s.mu.Unlock()
	if lead || <-c.wake {
		s.lead(c)
	}
	if c.panicked != nil {
		panic(c.panicked)
	}
	return c.err
}

// lead commits the oldest calls, the leader's own among them, and makes the next one leader.
func (s *Store) lead(own *call) {
	s.mu.Lock()
	n := min(len(s.pending), maxBatch)
	batch := s.pending[:n:n]
	s.pending = s.pending[n:]
	s.mu.Unlock()
	s.commit(batch)
	for _, c := range batch {
		if c != own {
			c.wake <- false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		s.pending, s.leading = nil, false
		return
	}
	s.pending[0].wake <- true
}

// commit makes one transaction of calls. A call that fails leaves it, and the others are run
// again: bbolt cannot undo a part.
func (s *Store) commit(calls []*call) {
	for len(calls) > 0 {
		failed := -1
		err := s.db.Update(func(tx *bbolt.Tx) error {
			failed = -1
			for i, c := range calls {
				if err := c.run(&Tx{tx: tx}); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed < 0 {
			for _, c := range calls {
				c.err = classify(err)
			}
			return
		}
		calls[failed].err = err
		rest := make([]*call, 0, len(calls)-1)
		calls = append(append(rest, calls[:failed]...), calls[failed+1:]...)
	}
}

func (c *call) run(tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked, err = p, errors.New("store: a transaction panicked")
		}
	}()
	return c.fn(tx)
}

// View runs fn in a transaction that sees one state and changes nothing. A long one keeps space
// in the file from being used again.
func (s *Store) View(fn func(*Tx) error) error {
	var own error
	err := s.db.View(func(tx *bbolt.Tx) error {
		own = fn(&Tx{tx: tx})
		return own
	})
	if own != nil {
		return own
	}
	return classify(err)
}

// Copy writes the file as the last transaction has left it: a backup that Open can read.
func (s *Store) Copy(w io.Writer) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// Tx is a transaction. It must not be used after the function that got it has returned.
type Tx struct{ tx *bbolt.Tx }

// Get returns what key has in the table, nil if it has nothing. The bytes are only read, and
// only during the transaction.
func (t *Tx) Get(table string, key []byte) []byte {
	b := t.tx.Bucket([]byte(table))
	if b == nil {
		return nil
	}
	return b.Get(key)
}

// Put sets key, 1 to 32768 bytes, to a value in the table, which is made when it is not there. A
// table's name must not be empty. Key and value must stay unchanged until Update returns.
func (t *Tx) Put(table string, key, value []byte) error {
	b, err := t.tx.CreateBucketIfNotExists([]byte(table))
	if err != nil {
		return fmt.Errorf("store: table %q: %w", table, err)
	}
	if err := b.Put(key, value); err != nil {
		return fmt.Errorf("store: table %q: %w", table, err)
	}
	return nil
}

// Delete removes key from the table; that there is none is no error.
func (t *Tx) Delete(table string, key []byte) error {
	b := t.tx.Bucket([]byte(table))
	if b == nil {
		return nil
	}
	if err := b.Delete(key); err != nil {
		return fmt.Errorf("store: table %q: %w", table, err)
	}
	return nil
}

// Range calls fn for the keys of the table in their order, beginning with the first that is not
// before from (nil: with the first of all), until fn returns false. The bytes are only read, and
// only during the transaction; fn must not change the table.
func (t *Tx) Range(table string, from []byte, fn func(key, value []byte) bool) {
	b := t.tx.Bucket([]byte(table))
	if b == nil {
		return
	}
	c := b.Cursor()
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if !fn(k, v) {
			return
		}
	}
}

// RangePrefix is Range over the keys that begin with prefix.
func (t *Tx) RangePrefix(table string, prefix []byte, fn func(key, value []byte) bool) {
	t.Range(table, prefix, func(k, v []byte) bool { return bytes.HasPrefix(k, prefix) && fn(k, v) })
}
