package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

func testStore(t *testing.T) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state", "state.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

func put(key, value string) func(*Tx) error {
	return func(tx *Tx) error { return tx.Put("t", []byte(key), []byte(value)) }
}

func dump(t *testing.T, s *Store) string {
	t.Helper()
	var out strings.Builder
	err := s.View(func(tx *Tx) error {
		tx.Range("t", nil, func(k, v []byte) bool {
			fmt.Fprintf(&out, "%s=%s ", k, v)
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWhatIsWrittenIsThereAgain(t *testing.T) {
	s, path := testStore(t)
	for _, kv := range []string{"b", "a", "c", "cc", "d"} {
		if err := s.Update(put(kv, "1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Update(func(tx *Tx) error { return errors.Join(tx.Delete("t", []byte("b")), tx.Delete("none", []byte("b"))) }); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	var saved bytes.Buffer
	if err := s.Copy(&saved); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(put("x", "")); !errors.Is(err, ErrClosed) {
		t.Errorf("update of a closed store: %v", err)
	}
	if err := s.View(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("view of a closed store: %v", err)
	}
	backup := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(backup, saved.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, backup} {
		s, err := Open(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := dump(t, s); got != "a=1 c=1 cc=1 d=1 " || s.MovedAside() != "" || s.Size() == 0 {
			t.Errorf("%s holds %q, moved aside %q", p, got, s.MovedAside())
		}
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v: names and addresses are nobody else's", info.Mode(), err)
		}
		_ = s.View(func(tx *Tx) error {
			var got []string
			tx.RangePrefix("t", []byte("c"), func(k, _ []byte) bool {
				got = append(got, string(k))
				return true
			})
			tx.Range("t", []byte("bb"), func(k, _ []byte) bool {
				got = append(got, string(k))
				return false
			})
			if strings.Join(got, " ") != "c cc c" || tx.Get("t", []byte("b")) != nil || tx.Get("none", []byte("b")) != nil || string(tx.Get("t", []byte("d"))) != "1" {
				t.Errorf("ranges %q", got)
			}
			return nil
		})
		_ = s.Close()
	}
}

// A caller that fails takes nothing of the others with it, and leaves nothing.
func TestCallersAtOnce(t *testing.T) {
	s, _ := testStore(t)
	mine := errors.New("mine")
	var wg sync.WaitGroup
	writes := func() int64 {
		st := s.db.Stats().TxStats
		return st.GetWrite()
	}
	before := writes()
	const callers = 400
	for i := range callers {
		wg.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != (i%10 == 7) {
					t.Errorf("caller %d: panic %v", i, p)
				}
			}()
			err := s.Update(func(tx *Tx) error {
				if err := tx.Put("t", binary.BigEndian.AppendUint32(nil, uint32(i)), []byte("x")); err != nil {
					return err
				}
				switch i % 10 {
				case 3:
					return mine
				case 7:
					panic("mine too")
				}
				return nil
			})
			if want := i%10 == 3; errors.Is(err, mine) != want || !want && err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	_ = s.View(func(tx *Tx) error {
		for i := range callers {
			want := i%10 != 3 && i%10 != 7
			if got := tx.Get("t", binary.BigEndian.AppendUint32(nil, uint32(i))) != nil; got != want {
				t.Errorf("caller %d: written %v", i, got)
			}
		}
		return nil
	})
	// Each transaction of its own would write its leaf, its root and the meta page.
	if n := writes() - before; n > callers*2 {
		t.Errorf("%d writes for %d callers: they do not share transactions", n, callers)
	}
}

// A full file refuses what it cannot hold, keeps what it has, and works on when there is space.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := open(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big := make([]byte, 100<<10)
	kept := 0
	for ; kept < 100; kept++ {
		if err = s.Update(func(tx *Tx) error { return tx.Put("t", []byte{byte(kept)}, big) }); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) || kept == 0 {
		t.Fatalf("after %d: %v", kept, err)
	}
	if err := s.Update(func(tx *Tx) error { return tx.Delete("t", []byte{0}) }); err != nil {
		t.Fatalf("nothing can be deleted: %v", err)
	}
	if err := s.Update(func(tx *Tx) error { return tx.Put("t", []byte{200}, big[:50<<10]) }); err != nil {
		t.Fatalf("the space is not used again: %v", err)
	}
	_ = s.View(func(tx *Tx) error {
		n := 0
		tx.Range("t", nil, func(_, _ []byte) bool { n++; return true })
		if n != kept {
			t.Errorf("%d entries, want %d", n, kept)
		}
		return nil
	})
}

func TestClassify(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{syscall.ENOSPC, ErrFull}, {syscall.EDQUOT, ErrFull}, {syscall.EFBIG, ErrFull},
		{&os.PathError{Op: "write", Err: syscall.ENOSPC}, ErrFull},
		{syscall.EIO, ErrDisk}, {syscall.EROFS, ErrDisk},
	} {
		got := classify(tt.err)
		if !errors.Is(got, tt.want) || !errors.Is(got, tt.err) {
			t.Errorf("%v becomes %v", tt.err, got)
		}
	}
	if err := classify(nil); err != nil {
		t.Error(err)
	}
}

func TestLocked(t *testing.T) {
	_, path := testStore(t)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 1})
	if err = openError(err); !errors.Is(err, ErrLocked) {
		t.Errorf("a second process: %v, %v", db, err)
	}
}

// What cannot be read is kept, out of the way; what a newer version wrote stays where it is.
func TestDamaged(t *testing.T) {
	good := func(t *testing.T) (string, []byte) {
		s, path := testStore(t)
		for i := range 2000 {
			if err := s.Update(func(tx *Tx) error {
				return tx.Put("t", binary.BigEndian.AppendUint32(nil, uint32(i)), bytes.Repeat([]byte{1}, 200))
			}); err != nil {
				t.Fatal(err)
			}
			if i == 20 {
				s.db.NoSync = true
			}
		}
		_ = s.Close()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return path, data
	}
	path, data := good(t)
	page := os.Getpagesize()
	ruin := func(from, to int) []byte {
		d := bytes.Clone(data)
		for i := from; i < to && i < len(d); i++ {
			d[i] ^= 0xa5
		}
		return d
	}
	for name, d := range map[string][]byte{
		"text":            []byte("this is not a database"),
		"long text":       bytes.Repeat([]byte("no database "), 10000),
		"zeros":           make([]byte, 1<<16),
		"both meta pages": ruin(0, 2*page),
		"all but meta":    ruin(2*page, len(data)),
		"cut":             data[:len(data)/8/page*page],
		"cut at a page":   data[:3*page],
		"one page":        data[:page],
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, d, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.MovedAside() == "" {
				t.Fatal("it was taken for a state file")
			}
			kept, err := os.ReadFile(s.MovedAside())
			if err != nil || !bytes.Equal(kept, d) {
				t.Errorf("the damaged file is not kept: %v", err)
			}
			if err := s.Update(put("a", "1")); err != nil {
				t.Error(err)
			}
		})
	}

	t.Run("another program's", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "other.db")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("foreign")); return err })
		_ = db.Close()
		s, err := Open(path)
		if err != nil || s.MovedAside() == "" {
			t.Fatalf("%v", err)
		}
		_ = s.Close()
	})
	t.Run("newer", func(t *testing.T) {
		s, path := testStore(t)
		if err := s.Update(func(tx *Tx) error {
			return tx.Put(formatTable, []byte(formatKey), binary.BigEndian.AppendUint32(nil, format+1))
		}); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		if _, err := Open(path); !errors.Is(err, ErrNewer) {
			t.Fatalf("a newer file: %v", err)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("it was touched: %v", entries)
		}
	})
	t.Run("a directory", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "d")
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || errors.Is(err, errUnreadable) {
			t.Errorf("%v", err)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s, err := Open(filepath.Join(b.TempDir(), "state.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			value := make([]byte, 400)
			b.SetParallelism(callers)
			var next sync.Mutex
			n := uint64(0)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					next.Lock()
					n++
					key := binary.BigEndian.AppendUint64(nil, n)
					next.Unlock()
					if err := s.Update(func(tx *Tx) error { return tx.Put("t", key, value) }); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
