package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vrgate/controlplane/config"
	"vrgate/controlplane/pool"
	"vrgate/controlplane/store"
	"vrgate/controlplane/subscriber"
)

// openBook opens the leases of one virtual router with what path has of them.
func openBook(t *testing.T, path string, ranges ...config.AddrRange) (*leases, *leaseBook, *store.Store) {
	t.Helper()
	l, err := newLeases(&config.Config{Routers: []*config.Router{{Name: "red", Pools: []config.Pool{{Name: "main", Ranges: ranges}}}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b := newLeaseBook(l, s, zap.NewNop())
	if err := b.restore(); err != nil {
		t.Fatal(err)
	}
	return l, b, s
}

func addrRange(first, last string) config.AddrRange {
	return config.AddrRange{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}
}

// mustLease lets a user in.
func mustLease(t *testing.T, l *leases, id subscriber.ID, user string) netip.Addr {
	t.Helper()
	d, a, _ := l.lease(holder{"red", id}, testDecide, accepted(user))
	if !d.Accept {
		t.Fatalf("%s: %+v", user, d)
	}
	return a
}

// TestLeasesSurvive: users get the addresses that they had before a restart, also after one
// without warning while they were connected, and nobody else gets them while others are free.
func TestLeasesSurvive(t *testing.T) {
	dir := t.TempDir()
	l, b, s := openBook(t, filepath.Join(dir, "state"), addrRange("10.0.0.1", "10.0.0.20"))
	had := map[string]netip.Addr{}
	for n := range 10 {
		user := fmt.Sprint("user", n)
		had[user] = mustLease(t, l, subscriber.ID(n+1), user)
		if n%2 == 0 {
			l.release("red", subscriber.ReleaseAddress{ID: subscriber.ID(n + 1), Terminating: "red", Address: had[user]})
		}
	}
	if !b.write() {
		t.Fatal("not written")
	}
	mustLease(t, l, 99, "too late for the disk")
	// What is on the disk at this moment is what a kill would leave.
	var killed bytes.Buffer
	if err := s.Copy(&killed); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "after")
	if err := os.WriteFile(path, killed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	l, _, s = openBook(t, path, addrRange("10.0.0.1", "10.0.0.20"))
	for n := range 10 {
		a := mustLease(t, l, subscriber.ID(100+n), fmt.Sprint("stranger", n))
		for user, b := range had {
			if a == b {
				t.Errorf("a stranger got %v of %s", a, user)
			}
		}
	}
	for n := range 10 {
		user := fmt.Sprint("user", n)
		if a := mustLease(t, l, subscriber.ID(200+n), user); a != had[user] {
			t.Errorf("%s has %v, had %v", user, a, had[user])
		}
	}

	// The ranges have shrunk: what is outside is dropped from the disk, too.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l, _, s = openBook(t, path, addrRange("10.0.0.4", "10.0.0.8"))
	for n := 3; n < 8; n++ {
		user := fmt.Sprint("user", n)
		if a := mustLease(t, l, subscriber.ID(300+n), user); a != had[user] {
			t.Errorf("%s has %v, had %v", user, a, had[user])
		}
	}
	kept := 0
	if err := s.View(func(tx *store.Tx) error {
		tx.Range(leaseTable, nil, func(key, value []byte) bool { kept++; return true })
		return nil
	}); err != nil || kept != 5 {
		t.Errorf("%d entries are kept, want 5: %v", kept, err)
	}
}

// TestRestoreOfRubbish: what is in the table and nobody can read is dropped, and nothing else.
func TestRestoreOfRubbish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	l, b, s := openBook(t, path, addrRange("10.0.0.1", "10.0.0.20"))
	a := mustLease(t, l, 1, "ann")
	b.write()
	value := bookValue(pool.Entry{Key: "x"})
	if err := s.Update(func(tx *store.Tx) error {
		for _, key := range []string{"\x00", "red", "red\x00main", "red\x00main\x00\x0a\x00\x00", "blue\x00main\x00\x0a\x00\x00\x01", "red\x00other\x00\x0a\x00\x00\x01", "red\x00mainx\x0a\x00\x00\x01"} {
			if err := tx.Put(leaseTable, []byte(key), value); err != nil {
				return err
			}
		}
		if err := tx.Put(leaseTable, bookKey(poolKey{"red", "main"}, netip.MustParseAddr("10.0.0.3")), value[:5]); err != nil {
			return err
		}
		return tx.Put(leaseTable, bookKey(poolKey{"red", "main"}, netip.MustParseAddr("10.0.0.4")), make([]byte, 10000))
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l, _, s = openBook(t, path, addrRange("10.0.0.1", "10.0.0.20"))
	kept := 0
	if err := s.View(func(tx *store.Tx) error {
		tx.Range(leaseTable, nil, func(key, value []byte) bool { kept++; return true })
		return nil
	}); err != nil || kept != 1 {
		t.Errorf("%d entries are kept, want 1: %v", kept, err)
	}
	mustLease(t, l, 1, "bob")
	if again := mustLease(t, l, 2, "ann"); again != a {
		t.Errorf("ann has %v, had %v", again, a)
	}
}

// brokenDisk is full as long as full is set.
type brokenDisk struct {
	leaseStore
	full  atomic.Bool
	tried atomic.Int32
}

func (d *brokenDisk) Update(fn func(*store.Tx) error) error {
	d.tried.Add(1)
	if d.full.Load() {
		return store.ErrFull
	}
	return d.leaseStore.Update(fn)
}

// TestBrokenDisk: a disk that is full is reported once and tried again now and then; nobody waits
// for it, and what could not be written is when it works again.
func TestBrokenDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, b, s := openBook(t, filepath.Join(dir, "state"), addrRange("10.0.0.1", "10.0.0.20"))
		core, logs := observer.New(zapcore.DebugLevel)
		disk := &brokenDisk{leaseStore: s}
		disk.full.Store(true)
		b.store, b.log = disk, zap.New(core)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ended := make(chan struct{})
		go func() { defer close(ended); b.run(ctx) }()
		first := mustLease(t, l, 1, "ann")
		time.Sleep(5 * time.Minute)
		mustLease(t, l, 2, "bob")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := logs.Len(); n != 1 || logs.All()[0].Level != zapcore.WarnLevel || disk.tried.Load() < 10 || disk.tried.Load() > 30 {
			t.Errorf("%d lines: %v; tried %d times in ten minutes", n, logs.All(), disk.tried.Load())
		}
		disk.full.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if logs.Len() != 2 || logs.All()[1].Message != "leases are kept again" {
			t.Errorf("%v", logs.All())
		}
		tried := disk.tried.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := disk.tried.Load() - tried; n != 0 {
			t.Errorf("%d transactions in which there is nothing to write", n)
		}
		mustLease(t, l, 3, "carl")
		stop() // within the second in which changes are gathered
		<-ended
		var got []string
		if err := s.View(func(tx *store.Tx) error {
			tx.Range(leaseTable, nil, func(key, value []byte) bool {
				k, e, ok := parseBook(key, value)
				if !ok || k != (poolKey{"red", "main"}) {
					t.Errorf("%q: %v, %v", key, k, ok)
				}
				got = append(got, fmt.Sprintf("%v %q", e.Address, e.Key))
				return true
			})
			return nil
		}); err != nil || len(got) != 3 || got[0] != fmt.Sprintf("%v %q", first, "red\x00ann\x00") {
			t.Errorf("kept: %v, %v", got, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if b.restore() == nil {
			t.Error("a store that cannot be read is no error")
		}
	})
}

// FuzzParseBook: what is read from the table is what was written, and nothing else is read.
func FuzzParseBook(f *testing.F) {
	f.Add(bookKey(poolKey{"red", "main"}, netip.MustParseAddr("10.0.0.3")), bookValue(pool.Entry{Seq: 7, Key: "red\x00ann\x00"}))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00"), make([]byte, 8))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		k, e, ok := parseBook(key, value)
		if ok && (!bytes.Equal(bookKey(k, e.Address), key) || !bytes.Equal(bookValue(e), value)) {
			t.Errorf("%q and %q are read as %v, %+v", key, value, k, e)
		}
		if !ok && len(key) > 8 && bytes.IndexByte(key, 0) == 3 && key[len(key)-5] == 0 && len(value) >= 8 && len(value) < 100 {
			t.Errorf("%q and %q are not read", key, value)
		}
	})
}
