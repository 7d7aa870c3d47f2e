package accounting

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"vrgate/controlplane/store"
	"vrgate/controlplane/subscriber"
)

// kinds are the kinds and sessions of records, in order.
func kinds(texts []string) string {
	var out []string
	for _, t := range texts {
		out = append(out, kindOf(t)+word(t, "session"))
	}
	return strings.Join(out, " ")
}

func silent(string, string) (bool, time.Duration, error) { return false, 3 * time.Second, errSilent }

func run(t *testing.T, fn func(*testing.T)) { synctest.Test(t, fn) }

func TestLifeOfASession(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, nil)
		j := b.open()
		j.RouterUp("a", "acct")
		r := rec(1)
		up := r.Up
		time.Sleep(3 * time.Second)
		if err := b.started(r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.Counters.InBytes = 5
		j.Interim(r)
		time.Sleep(time.Minute)
		r.Counters.InBytes = 9
		b.stop(r, "idle-timeout")
		b.drained()
		j.RouterDown("a", "acct")
		if err := b.close(time.Second); err != nil {
			t.Fatal(err)
		}
		got := b.servers.texts("acct")
		if kinds(got) != "on0 start1 interim1 stop1 off0" {
			t.Fatalf("%q", got)
		}
		if number(got[1], "at") != int(up.UnixNano()) || number(got[2], "at") != int(up.Add(63*time.Second).UnixNano()) || number(got[2], "in") != 5 {
			t.Errorf("%q", got)
		}
		if stop := got[3]; number(stop, "cause") != 4 || number(stop, "in") != 9 || word(stop, "user") != "u\xff1" {
			t.Errorf("%q", stop)
		}
		if number(got[4], "cause") != int(CauseAdminReboot) {
			t.Errorf("%q", got[4])
		}
	})
}

// The start is on disk before anybody is told, and nothing leaves before.
func TestDiskFirst(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, nil)
		j := b.open()
		defer b.close(time.Minute)
		synctest.Wait()
		b.disk.change(func(d *testDisk) { d.delay = time.Second })
		done := b.start(rec(1))
		time.Sleep(990 * time.Millisecond)
		synctest.Wait()
		if len(done) > 0 || len(b.servers.texts("acct")) > 0 {
			t.Error("it is not on disk yet")
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if len(done) != 1 || kinds(b.servers.texts("acct")) != "start1" {
			t.Errorf("%d, %q", len(done), b.servers.texts("acct"))
		}
		if s := j.Stats(); s.Open != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Sessions without a group have no accounting; what nobody has started is counted and no more.
func TestWithoutAccounting(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, nil)
		j := b.open()
		r := rec(1)
		r.By.Accounting = ""
		if err := b.started(r); err != nil {
			t.Error(err)
		}
		stopped := make(chan bool, 1)
		j.Stop(r, func() { stopped <- true })
		<-stopped
		j.Interim(rec(2))
		j.Checkpoint([]subscriber.Record{rec(3)})
		b.drained()
		if s := j.Stats(); s.Unknown != 2 || s.Delivered != 0 || s.Open != 0 {
			t.Errorf("%+v", s)
		}
		if err := b.close(time.Second); err != nil {
			t.Error(err)
		}
		if err := b.started(rec(4)); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		j.Stop(rec(4), func() { stopped <- true })
		<-stopped
		if err := j.Close(context.Background()); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	})
}

// A daemon that dies owes its sessions stops, with what was known last (subscriber.ReasonRestarted),
// before it says that the router is up again.
func TestOwedStops(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, nil)
		j := b.open()
		r1, r2, r3 := rec(1), rec(2), rec(3)
		for _, r := range []subscriber.Record{r1, r2, r3} {
			if err := b.started(r); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		time.Sleep(time.Minute)
		r1.Counters.InBytes, r2.Counters.InBytes = 10, 20
		j.Interim(r1)
		j.Checkpoint([]subscriber.Record{r1, r2})
		time.Sleep(time.Minute)
		r1.Counters.InBytes = 11
		j.Checkpoint([]subscriber.Record{r1})
		synctest.Wait()
		b.kill()
		time.Sleep(time.Hour)
		j = b.open()
		j.RouterUp("a", "acct")
		if s := j.Stats(); s.Recovered != 3 {
			t.Errorf("%+v", s)
		}
		b.drained()
		got := b.servers.texts("acct")
		if len(got) != 8 || kindOf(got[7]) != "on" {
			t.Fatalf("%q", got)
		}
		for id, want := range map[int]struct {
			in int
			at time.Time
		}{1: {11, begun.Add(2 * time.Minute)}, 2: {20, begun.Add(time.Minute)}, 3: {0, begun}} {
			i := slices.IndexFunc(got, func(s string) bool { return kindOf(s) == "stop" && number(s, "session") == id })
			if i < 0 {
				t.Fatalf("no stop of %d", id)
			}
			if s := got[i]; number(s, "in") != want.in || number(s, "at") != int(want.at.UnixNano()) || word(s, "reason") != "daemon-restarted" || number(s, "cause") != 11 {
				t.Errorf("session %d: %q", id, s)
			}
		}
		// Once is enough.
		if err := b.close(time.Second); err != nil {
			t.Error(err)
		}
		if s := b.open().Stats(); s.Recovered != 0 || s.Queued != 0 {
			t.Errorf("%+v", s)
		}
		_ = b.close(time.Second)
	})
}

// Where accounting is required a session waits for a server, and not for ever.
func TestRequired(t *testing.T) {
	required := func(c *Config) {
		c.Required = func(router string) bool { return router == "a" }
		c.AcknowledgeTimeout = 5 * time.Second
	}
	t.Run("acknowledged", func(t *testing.T) {
		run(t, func(t *testing.T) {
			b := newBed(t, required)
			b.open()
			b.servers.set(func(string, string) (bool, time.Duration, error) { return true, 4 * time.Second, nil })
			begun := time.Now()
			if err := b.started(rec(1)); err != nil || time.Since(begun) < 4*time.Second {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			b.stop(rec(1), "idle-timeout")
			b.drained()
			_ = b.close(time.Second)
			if got := kinds(b.servers.texts("acct")); got != "start1 stop1" {
				t.Error(got)
			}
		})
	})
	t.Run("silence", func(t *testing.T) {
		run(t, func(t *testing.T) {
			b := newBed(t, required)
			j := b.open()
			b.servers.set(silent)
			begun := time.Now()
			if err := b.started(rec(1)); !errors.Is(err, ErrNotAcknowledged) || time.Since(begun) != 5*time.Second {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			other := rec(2)
			other.By.Router = "b"
			if err := b.started(other); err != nil || time.Since(begun) != 5*time.Second {
				t.Errorf("another virtual router's: %v", err)
			}
			// The start may arrive yet, so a stop follows it.
			b.servers.set(nil)
			b.stop(other, "idle-timeout")
			b.drained()
			got := b.servers.texts("acct")
			slices.Sort(got)
			if kinds(got) != "start1 start2 stop1 stop2" || word(got[2], "reason") != "accounting-failed" || j.Stats().Open != 0 {
				t.Errorf("%q", got)
			}
			_ = b.close(time.Second)
		})
	})
	t.Run("closed", func(t *testing.T) {
		run(t, func(t *testing.T) {
			b := newBed(t, required)
			b.open()
			b.servers.set(silent)
			done := b.start(rec(1))
			if err := b.close(time.Second); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			b.servers.set(nil)
			b.open()
			b.drained()
			_ = b.close(time.Second)
			if got := kinds(b.servers.texts("acct")); got != "start1 stop1" {
				t.Error(got)
			}
		})
	})
	t.Run("full disk", func(t *testing.T) {
		run(t, func(t *testing.T) {
			b := newBed(t, required)
			j := b.open()
			synctest.Wait()
			b.disk.set(store.ErrFull)
			for i := range 3 {
				if err := b.started(rec(i + 1)); !errors.Is(err, store.ErrFull) {
					t.Error(err)
				}
			}
			b.disk.set(nil)
			time.Sleep(maxDiskRetry)
			synctest.Wait()
			if s := j.Stats(); s.DiskError != nil || s.Open != 0 || s.Queued != 0 {
				t.Errorf("%+v", s)
			}
			if err := b.started(rec(9)); err != nil {
				t.Error(err)
			}
			b.stop(rec(9), "idle-timeout")
			b.drained()
			_ = b.close(time.Second)
			if got := kinds(b.servers.texts("acct")); got != "start9 stop9" {
				t.Error(got)
			}
		})
	})
}

// A full disk is reported once and blocks nobody; records go to the servers from memory.
func TestFullDisk(t *testing.T) {
	run(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		b := newBed(t, nil)
		b.log = zap.New(core)
		j := b.open()
		synctest.Wait()
		b.disk.set(store.ErrFull)
		begun := time.Now()
		for i := range 100 {
			if err := b.started(rec(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(begun) > 0 {
			t.Errorf("sessions waited %v", time.Since(begun))
		}
		time.Sleep(time.Minute)
		if got := b.servers.texts("acct"); len(got) != 100 {
			t.Errorf("%d records were delivered", len(got))
		}
		if s := j.Stats(); !errors.Is(s.DiskError, store.ErrFull) || s.Queued != 0 || s.Open != 100 {
			t.Errorf("%+v", s)
		}
		b.servers.set(silent)
		for i := range 50 {
			b.stop(rec(i+1), "idle-timeout")
		}
		time.Sleep(time.Hour)
		if s := j.Stats(); s.Unsaved != 50 || s.Queued != 50 {
			t.Errorf("%+v", s)
		}
		if n := logs.FilterMessageSnippet("the disk refuses").Len(); n != 1 {
			t.Errorf("reported %d times", n)
		}
		b.disk.set(nil)
		time.Sleep(maxDiskRetry)
		synctest.Wait()
		if s := j.Stats(); s.Unsaved != 0 || s.DiskError != nil || s.Queued != 50 || s.Lost != 0 {
			t.Errorf("%+v", s)
		}
		if n := logs.FilterMessageSnippet("takes accounting records again").Len(); n != 1 {
			t.Errorf("%d reports of the end", n)
		}
		b.kill() // all is on disk now
		b.servers.set(nil)
		b.open()
		b.drained()
		_ = b.close(time.Second)
		stops := map[string]int{}
		for _, s := range b.servers.texts("acct") {
			if kindOf(s) == "stop" {
				stops[word(s, "reason")]++
			}
		}
		if stops["idle-timeout"] != 50 || stops["daemon-restarted"] != 50 {
			t.Errorf("%v", stops)
		}
	})
}

// A disk that does not answer holds nobody up for longer than DiskTimeout.
func TestHangingDisk(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.DiskTimeout = 2 * time.Second })
		j := b.open()
		synctest.Wait()
		hang := make(chan struct{})
		b.disk.change(func(d *testDisk) { d.hang = hang })
		begun := time.Now()
		if err := b.started(rec(1)); err != nil || time.Since(begun) != 2*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		if err := b.started(rec(2)); err != nil || time.Since(begun) != 2*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		b.stop(rec(1), "idle-timeout")
		synctest.Wait()
		got := b.servers.texts("acct")
		slices.Sort(got)
		if kinds(got) != "start1 start2 stop1" {
			t.Errorf("%q", got)
		}
		if s := j.Stats(); !errors.Is(s.DiskError, errDiskSlow) {
			t.Errorf("%+v", s)
		}
		b.disk.change(func(d *testDisk) { d.hang = nil })
		close(hang)
		time.Sleep(time.Second)
		b.stop(rec(2), "idle-timeout")
		b.drained()
		if err := b.close(time.Second); err != nil {
			t.Error(err)
		}
		if s := b.open().Stats(); s.Recovered != 0 || s.Queued != 0 {
			t.Errorf("left on disk: %+v", s)
		}
		_ = b.close(time.Second)
	})
}

// Neither disk nor server: memory is bounded. Interims go first, then new sessions are not
// accounted; stops are kept.
func TestFullMemory(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.MaxUnsaved = 1000 })
		j := b.open()
		b.servers.set(silent)
		synctest.Wait()
		b.disk.set(store.ErrFull)
		for i := range 600 {
			b.start(rec(i + 1))
		}
		for i := range 700 {
			j.Interim(rec(i%600 + 1))
		}
		synctest.Wait()
		if s := j.Stats(); s.DroppedInterims == 0 || s.Lost != 0 || s.Unsaved > 1000 {
			t.Fatalf("%+v", s)
		}
		for i := range 900 {
			if err := b.started(rec(i + 601)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		s := j.Stats()
		if s.Lost == 0 || s.Unsaved != 1000 || s.DroppedInterims+uint64(s.Queued) != 700+1500-s.Lost {
			t.Fatalf("%+v", s)
		}
		for i := range 600 {
			b.stop(rec(i+1), "idle-timeout")
		}
		b.servers.set(nil)
		b.disk.set(nil)
		time.Sleep(time.Minute)
		for i := range 900 {
			b.stop(rec(i+601), "idle-timeout")
		}
		b.drained()
		_ = b.close(time.Second)
		n := map[string]uint64{}
		for _, s := range b.servers.texts("acct") {
			n[kindOf(s)]++
		}
		if n["start"] != 1500-s.Lost || n["stop"] != 1500-s.Lost {
			t.Errorf("%v, %d lost", n, s.Lost)
		}
	})
}

// Of too many records the oldest interims go, and nothing else. What is in memory does not grow
// with the journal.
func TestTooManyRecords(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.MaxRecords = 2000 })
		j := b.open()
		b.servers.set(silent)
		const sessions = 300
		recs := make([]subscriber.Record, sessions)
		for i := range recs {
			recs[i] = rec(i + 1)
			b.start(recs[i])
		}
		for round := range 10 {
			for i := range recs {
				recs[i].Counters.InBytes = uint64(round + 1)
				j.Interim(recs[i])
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			j.mu.Lock()
			shown, unsaved := len(j.core.queues[0].window), len(j.core.queues[0].unsaved)
			j.mu.Unlock()
			if s := j.Stats(); s.Queued > 2000 || shown > maxWindow || unsaved > 0 {
				t.Fatalf("round %d: %d queued, %d and %d in memory", round, s.Queued, shown, unsaved)
			}
		}
		for _, r := range recs {
			b.stop(r, "idle-timeout")
		}
		synctest.Wait()
		dropped := j.Stats().DroppedInterims
		if dropped < 1300 || dropped > 2000 {
			t.Errorf("%d dropped", dropped)
		}
		if _, tries := b.servers.load("acct"); tries > 140 {
			t.Errorf("%d attempts in 100 minutes of silence", tries)
		}
		b.servers.set(nil)
		begun := time.Now()
		b.drained()
		if time.Since(begun) > 2*time.Minute {
			t.Errorf("it took %v", time.Since(begun))
		}
		n := map[string]int{}
		perSession := map[string][]int{}
		for _, s := range b.servers.texts("acct") {
			n[kindOf(s)]++
			if kindOf(s) == "interim" {
				perSession[word(s, "session")] = append(perSession[word(s, "session")], number(s, "in"))
			}
		}
		if n["start"] != sessions || n["stop"] != sessions || n["interim"] != 10*sessions-int(dropped) {
			t.Errorf("%v, %d dropped", n, dropped)
		}
		for id, l := range perSession {
			if !slices.IsSorted(l) || l[len(l)-1] != 10 {
				t.Errorf("session %s has the interims %v", id, l)
			}
		}
		if err := b.close(time.Second); err != nil {
			t.Error(err)
		}
	})
}

// One dead group delays no other, and no more than Parallel records of a group are on their way.
func TestGroupsAreIndependent(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.Parallel = 8 })
		j := b.open()
		b.servers.set(func(group, _ string) (bool, time.Duration, error) {
			if strings.HasPrefix(group, "dead") {
				return false, 30 * time.Second, errSilent
			}
			return true, 10 * time.Millisecond, nil
		})
		in := func(id int, group string) subscriber.Record {
			r := rec(id)
			r.By.Accounting = group
			return r
		}
		for i := range 200 { // many more dead groups than may be in flight
			for k := range 3 {
				b.start(in(1000+3*i+k, fmt.Sprintf("dead%d", i)))
			}
		}
		time.Sleep(10 * time.Minute)
		begun := time.Now()
		for i := range 500 {
			b.start(in(i+1, "alive"))
		}
		for len(b.servers.texts("alive")) < 500 && time.Since(begun) < time.Minute {
			time.Sleep(50 * time.Millisecond)
		}
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("500 records took %v", d)
		}
		if highest, _ := b.servers.load("alive"); highest != 8 {
			t.Errorf("%d at once", highest)
		}
		if s := j.Stats(); len(s.Queues) != 201 || !s.Queues[0].Silent || s.Queues[200].Silent || s.Queues[0].Queued != 3 ||
			s.Queues[0].Failing || s.Queues[0].InFlight == 0 && !s.Queues[0].NextAttempt.After(time.Now()) || !s.Queues[200].NextAttempt.IsZero() {
			t.Errorf("%+v", s.Queues[0])
		}
		b.servers.set(nil)
		b.drained()
		_ = b.close(time.Second)
		if got := kinds(b.servers.texts("dead199")); len(got) == 0 {
			t.Error("nothing came when it was back")
		}
	})
}

// A record that a server never takes is reported, and its session waits; others do not.
func TestPoison(t *testing.T) {
	run(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		b := newBed(t, nil)
		b.log = zap.New(core)
		j := b.open()
		b.servers.set(func(_, text string) (bool, time.Duration, error) {
			if strings.HasPrefix(text, "start session=1 ") {
				return false, 10 * time.Second, errSilent
			}
			return true, 5 * time.Millisecond, nil
		})
		b.start(rec(1))
		b.stop(rec(1), "idle-timeout")
		time.Sleep(time.Hour)
		if q := j.Stats().Queues[0]; !q.Failing || q.Silent || q.InFlight == 0 && !q.NextAttempt.After(time.Now()) {
			t.Errorf("alone: %+v", q)
		}
		for i := range 50 {
			begun := time.Now()
			b.start(rec(i + 2))
			time.Sleep(time.Second)
			if got := b.servers.texts("acct"); len(got) != i+1 {
				t.Fatalf("%d records after %v", len(got), time.Since(begun))
			}
			if q := j.Stats().Queues[0]; q.Failing || q.Silent {
				t.Fatalf("after an acknowledgement: %+v", q)
			}
			time.Sleep(time.Minute)
		}
		if n := logs.FilterMessageSnippet("not acknowledged though").Len(); n != 1 {
			t.Errorf("reported %d times", n)
		}
		if err := b.close(time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// What is in the journal and cannot be read is counted, reported and in nobody's way.
func TestDamagedEntries(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.open()
		b.servers.set(silent)
		for i := range 3 {
			if err := b.started(rec(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		b.kill()
		st, err := store.Open(b.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Update(func(tx *store.Tx) error {
			return errors.Join(
				tx.Put(tableRecords, recordID{1, 2}.key(), []byte("nonsense")),
				tx.Put(tableRecords, recordID{7, 9}.key(), record{kind: KindStart}.append(nil)),
				tx.Put(tableRecords, []byte("short"), nil),
				tx.Put(tableOpen, sessionKey{"a", 3}.appendTo(nil), []byte("{")),
				tx.Put(tableOpen, []byte("x"), nil),
				tx.Put(tableQueues, []byte{0, 0, 0, 9}, []byte{200, 1}),
			)
		}); err != nil {
			t.Fatal(err)
		}
		_ = st.Close()
		b.servers.set(nil)
		j := b.open()
		b.drained()
		if s := j.Stats(); s.Lost != 6 || s.Recovered != 2 {
			t.Errorf("%+v", s)
		}
		got := b.servers.texts("acct")
		slices.Sort(got)
		if kinds(got) != "start1 start3 stop1 stop2" {
			t.Errorf("%q", got)
		}
		_ = b.close(time.Second)
	})
}

// What cannot be encoded is reported, and holds nobody up.
func TestUnencodable(t *testing.T) {
	run(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.cfg.Encode = func(kind Kind, r subscriber.Record, x Extra) ([]byte, error) {
			if r.ID == 1 {
				return make([]byte, MaxAttributes+1), nil
			}
			return b.encode(kind, r, x)
		}
		b.cfg.Required = func(router string) bool { return router == "b" }
		j := b.open()
		if err := b.started(rec(1)); err != nil {
			t.Error(err)
		}
		r := rec(1)
		r.By.Router = "b"
		if err := b.started(r); err == nil {
			t.Error("accounting is required, and there is none")
		}
		b.stop(rec(1), "idle-timeout")
		if err := b.started(rec(2)); err != nil {
			t.Error(err)
		}
		b.drained()
		if s := j.Stats(); s.Lost != 2 || s.Open != 1 {
			t.Errorf("%+v", s)
		}
		_ = b.close(time.Second)
	})
}

// Starts and stops through the journal and a store on disk, to servers that answer at once.
func BenchmarkJournal(b *testing.B) {
	st, err := store.Open(filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	attributes := make([]byte, 400)
	var delivered atomic.Int64
	j, err := Open(st, Config{Encode: func(Kind, subscriber.Record, Extra) ([]byte, error) { return attributes, nil }},
		func(context.Context, string, string, []byte, time.Time) error { delivered.Add(1); return nil }, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	room := make(chan struct{}, 1000) // sessions at once
	b.ResetTimer()
	for i := range b.N {
		room <- struct{}{}
		r := rec(i + 1)
		j.Start(r, func(error) { j.Stop(r, func() { <-room }) })
	}
	for range cap(room) {
		room <- struct{}{}
	}
	if err := j.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if delivered.Load() != int64(2*b.N) {
		b.Errorf("%d records of %d", delivered.Load(), 2*b.N)
	}
	b.ReportMetric(float64(2*b.N)/b.Elapsed().Seconds(), "records/s")
}
