package store

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// killedEnv names the state file of the child that TestKilled kills.
const killedEnv = "VRGATE_TEST_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(killedEnv); path != "" {
		if err := writeForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeForEver appends to several rows at once and says what it was promised. Each row is two
// tables and a counter that are changed together.
func writeForEver(path string) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var out sync.Mutex
	for row := range uint32(4) {
		wg.Go(func() {
			for i := rowLength(s, row); ; i++ {
				key := rowKey(row, i)
				err := s.Update(func(tx *Tx) error {
					for _, table := range []string{"a", "b"} {
						if err := tx.Put(table, key, make([]byte, i%2000)); err != nil {
							return err
						}
					}
					if i >= 50 {
						if err := tx.Delete("b", rowKey(row, i-50)); err != nil {
							return err
						}
					}
					return tx.Put("length", rowKey(row, 0), binary.BigEndian.AppendUint32(nil, i+1))
				})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Printf("%d %d\n", row, i+1)
				out.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

func rowKey(row, i uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, row), i)
}

func rowLength(s *Store, row uint32) (n uint32) {
	_ = s.View(func(tx *Tx) error {
		if v := tx.Get("length", rowKey(row, 0)); v != nil {
			n = binary.BigEndian.Uint32(v)
		}
		return nil
	})
	return n
}

// A process that is killed at any moment leaves all that it was promised, and of what it was not
// promised a transaction or nothing.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	total := uint32(0)
	for range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedEnv+"="+path)
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(15*time.Millisecond+rand.N(60*time.Millisecond), func() { _ = cmd.Process.Kill() })
		promised := map[uint32]uint32{}
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			row, n, ok := strings.Cut(lines.Text(), " ")
			r, err1 := strconv.Atoi(row)
			l, err2 := strconv.Atoi(n)
			if ok && err1 == nil && err2 == nil {
				promised[uint32(r)] = uint32(l)
			}
		}
		_ = cmd.Wait()
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if s.MovedAside() != "" {
			t.Fatal("the kill damaged the file")
		}
		total = 0
		for row := range uint32(4) {
			n := rowLength(s, row)
			total += n
			if n < promised[row] || n > promised[row]+uint32(maxBatch) {
				t.Errorf("row %d has %d entries, promised were %d", row, n, promised[row])
			}
			for table, first := range map[string]uint32{"a": 0, "b": max(n, 50) - 50} {
				next := first
				_ = s.View(func(tx *Tx) error {
					tx.RangePrefix(table, binary.BigEndian.AppendUint32(nil, row), func(k, v []byte) bool {
						if i := binary.BigEndian.Uint32(k[4:]); i != next || len(v) != int(i%2000) {
							t.Errorf("row %d table %s: entry %d with %d bytes where %d should be", row, table, i, len(v), next)
							return false
						}
						next++
						return true
					})
					return nil
				})
				if next != n {
					t.Errorf("row %d table %s ends at %d of %d", row, table, next, n)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if total < 20 {
		t.Errorf("the children wrote %d entries: too few to have been killed at work", total)
	}
}
