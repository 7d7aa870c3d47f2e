package controlplane

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/pool"
	"vrgate/controlplane/store"
)

// leaseBook keeps what pools remember over restarts, so that users get the addresses that they
// had, and nobody else gets them while others are free. It writes behind the leases: a crash
// loses the memory of the last second and nothing else, no connect ever waits for the disk, and
// a disk that is full or broken is reported and tried again.
//
// The table has at most one entry for each address of a pool: under the names of router and pool,
// each with a NUL behind it, and the address, the number that orders leases and the pool's key.
type leaseBook struct {
	leases *leases
	store  leaseStore
	log    *zap.Logger
	failed bool // reported, and not written since
}

// leaseStore is what a leaseBook needs of a [store.Store].
type leaseStore interface {
	Update(fn func(*store.Tx) error) error
	View(fn func(*store.Tx) error) error
}

const (
	leaseTable = "leases"
	// leasePause is how long changes are gathered, leaseRetry how long a disk that has failed is
	// left alone.
	leasePause = time.Second
	leaseRetry = 30 * time.Second
	// leaseBatch is how many entries are written in one transaction.
	leaseBatch = 2048
	// leaseKeyEnd and leaseValueHead are the sizes of an entry's fixed parts, in bytes.
	leaseKeyEnd    = 4
	leaseValueHead = 8
)

func newLeaseBook(l *leases, s leaseStore, log *zap.Logger) *leaseBook {
	return &leaseBook{leases: l, store: s, log: log}
}

// bookKey and bookValue are an entry as the store has it.
func bookKey(k poolKey, a netip.Addr) []byte {
	b := append([]byte(k.router+"\x00"+k.pool), 0)
	four := a.As4()
	return append(b, four[:]...)
}

func bookValue(e pool.Entry) []byte {
	return append(binary.BigEndian.AppendUint64(nil, e.Seq), e.Key...)
}

// parseBook reads an entry back; false if it is none.
func parseBook(key, value []byte) (k poolKey, e pool.Entry, ok bool) {
	router, rest, found := bytes.Cut(key, []byte{0})
	if !found || len(rest) <= leaseKeyEnd || len(value) < leaseValueHead || len(value) > leaseValueHead+maxLeaseKey {
		return poolKey{}, pool.Entry{}, false
	}
	name, end := rest[:len(rest)-leaseKeyEnd-1], rest[len(rest)-leaseKeyEnd-1:]
	if end[0] != 0 {
		return poolKey{}, pool.Entry{}, false
	}
	k = poolKey{string(router), string(name)}
	e = pool.Entry{Address: netip.AddrFrom4([4]byte(end[1:])), Seq: binary.BigEndian.Uint64(value), Key: string(value[leaseValueHead:])}
	return k, e, true
}

// restore gives the pools, before their first lease, the memory of the last time. Entries of
// addresses and pools that there are not any more are dropped. On an error the pools remember
// what could be read.
func (b *leaseBook) restore() error {
	var drop [][]byte
	entries := map[poolKey][]pool.Entry{}
	err := b.store.View(func(tx *store.Tx) error {
		tx.Range(leaseTable, nil, func(key, value []byte) bool {
			k, e, ok := parseBook(key, value)
			if !ok || b.leases.pools[k] == nil {
				drop = append(drop, bytes.Clone(key))
				return true
			}
			entries[k] = append(entries[k], e)
			return true
		})
		return nil
	})
	known := 0
	for k, list := range entries {
		known += len(list)
		for _, e := range b.leases.pools[k].Restore(list) {
			drop = append(drop, bookKey(k, e.Address))
			known--
		}
	}
	for len(drop) > 0 && err == nil {
		n := min(len(drop), leaseBatch)
		err = b.store.Update(func(tx *store.Tx) error {
			for _, key := range drop[:n] {
				if err := tx.Delete(leaseTable, key); err != nil {
					return err
				}
			}
			return nil
		})
		drop = drop[n:]
	}
	if err != nil {
		return fmt.Errorf("leases of the last time: %w", err)
	}
	b.log.Debug("leases are remembered", zap.Int("addresses", known))
	return nil
}

// run writes what changes until ctx ends, and then what is left.
func (b *leaseBook) run(ctx context.Context) {
	defer b.write()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.leases.changed:
		}
		pause := leasePause
		for {
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			if b.write() {
				break
			}
			pause = leaseRetry
		}
	}
}

// write writes everything that has changed, and says whether it could.
func (b *leaseBook) write() bool {
	for {
		batch, more := b.take()
		if len(batch) == 0 {
			return true
		}
		err := b.store.Update(func(tx *store.Tx) error {
			for _, c := range batch {
				if err := tx.Put(leaseTable, bookKey(c.pool, c.Address), bookValue(c.Entry)); err != nil {
					return err
				}
			}
			return nil
		})
		b.report(err)
		if err != nil {
			b.putBack(batch)
			return false
		}
		if !more {
			return true
		}
	}
}

// bookChange is one entry to be written.
type bookChange struct {
	pool poolKey
	pool.Entry
}

// take returns a batch of what has changed, and whether there is more.
func (b *leaseBook) take() (batch []bookChange, more bool) {
	l := b.leases
	l.mu.Lock()
	defer l.unlock()
	for k, p := range l.pools {
		entries, left := p.Changes(leaseBatch - len(batch))
		for _, e := range entries {
			batch = append(batch, bookChange{k, e})
		}
		more = more || left > 0
	}
	return batch, more
}

func (b *leaseBook) putBack(batch []bookChange) {
	l := b.leases
	l.mu.Lock()
	defer l.unlock()
	for _, c := range batch {
		if p := l.pools[c.pool]; p != nil { // it may have been removed meanwhile
			p.Changed(c.Address)
		}
	}
}

// report tells of a disk that fails, and of one that works again, once.
func (b *leaseBook) report(err error) {
	switch {
	case err != nil && !b.failed:
		b.log.Warn("leases cannot be kept: after a restart users may get other addresses than before", zap.Error(err))
	case err == nil && b.failed:
		b.log.Info("leases are kept again")
	}
	b.failed = err != nil
}
