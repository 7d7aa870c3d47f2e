package accounting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/store"
	"vrgate/controlplane/subscriber"
)

var errSilent = errors.New("no server answers")

// testDisk is a store that can be full, slow or, after a kill, out of reach.
type testDisk struct {
	*store.Store
	mu    sync.Mutex
	err   error
	delay time.Duration
	hang  chan struct{} // closed: go on
	// after is said of transactions that have happened all the same: a failing disk may do so.
	after error
	// updates counts transactions that were made.
	updates int
}

func (d *testDisk) transactions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.updates
}

func (d *testDisk) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// change sets what set does not.
func (d *testDisk) change(fn func(*testDisk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(d)
}

func (d *testDisk) Update(fn func(*store.Tx) error) error {
	d.mu.Lock()
	err, after, hang, delay := d.err, d.after, d.hang, d.delay
	d.updates++
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if delay > 0 {
		time.Sleep(delay)
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Store.Update(fn), after)
}

// arrival is a record that a server has received.
type arrival struct {
	text string
	at   time.Time
	n    int // among all of its group
}

// servers are the fake RADIUS servers of all groups.
type servers struct {
	mu sync.Mutex
	// answer decides what becomes of a record: whether the server gets it, after how long, and
	// the client's error. Nil: everything works at once.
	answer  func(group, text string) (got bool, delay time.Duration, err error)
	dead    bool // the daemon was killed: nothing leaves it any more
	all     map[string][]arrival
	first   map[string]map[string]arrival
	twice   int
	flying  map[string]int
	highest map[string]int
	tries   map[string]int
}

func newServers() *servers {
	return &servers{
		all: map[string][]arrival{}, first: map[string]map[string]arrival{}, flying: map[string]int{}, highest: map[string]int{}, tries: map[string]int{},
	}
}

func (s *servers) deliver(ctx context.Context, router, group string, attributes []byte, at time.Time) error {
	text := string(attributes)
	s.mu.Lock()
	s.flying[group]++
	s.highest[group] = max(s.highest[group], s.flying[group])
	s.tries[group]++
	got, delay, err := true, time.Duration(0), error(nil)
	if s.answer != nil {
		got, delay, err = s.answer(group, text)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flying[group]--
	}()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errSilent
	}
	if got {
		s.receive(group, text, at)
	}
	return err
}

func (s *servers) receive(group, text string, at time.Time) {
	a := arrival{text, at, len(s.all[group])}
	s.all[group] = append(s.all[group], a)
	if s.first[group] == nil {
		s.first[group] = map[string]arrival{}
	}
	if _, again := s.first[group][text]; again {
		s.twice++
		return
	}
	s.first[group][text] = a
}

// texts are what a group has received, each once, in the order of arrival.
func (s *servers) texts(group string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	seen := map[string]bool{}
	for _, a := range s.all[group] {
		if !seen[a.text] {
			seen[a.text] = true
			out = append(out, a.text)
		}
	}
	return out
}

// load returns how many records of a group were on their way at once at most, and how many
// attempts there were.
func (s *servers) load(group string) (highest, tries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.highest[group], s.tries[group]
}

func (s *servers) set(fn func(group, text string) (bool, time.Duration, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = fn
}

// bed is a journal on a store in a file, with servers.
type bed struct {
	*testing.T
	path    string
	disk    *testDisk
	servers *servers
	journal *Journal
	cfg     Config
	log     *zap.Logger
	// epoch is a group's number of barriers so far; it is in each record.
	mu    sync.Mutex
	epoch map[string]int
}

func newBed(t *testing.T, change func(*Config)) *bed {
	t.Helper()
	b := &bed{T: t, path: filepath.Join(t.TempDir(), "state.db"), servers: newServers(), epoch: map[string]int{}, log: zap.NewNop()}
	b.cfg = Config{Encode: b.encode}
	if change != nil {
		change(&b.cfg)
	}
	return b
}

// encode writes records as words, all of which say something.
func (b *bed) encode(kind Kind, rec subscriber.Record, x Extra) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	group := x.Router + "/" + x.Group
	if kind.barrier() {
		b.epoch[group]++
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v session=%d epoch=%d at=%d cause=%d in=%d user=%s reason=%s", kind, rec.ID, b.epoch[group], x.At.UnixNano(), x.Cause, rec.Counters.InBytes, rec.User, rec.Reason)
	return out.Bytes(), nil
}

// word returns what a record's text has for a name.
func word(text, name string) string {
	for w := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			return v
		}
	}
	return ""
}

func number(text, name string) int {
	n, _ := strconv.Atoi(word(text, name))
	return n
}

func kindOf(text string) string {
	k, _, _ := strings.Cut(text, " ")
	return k
}

func (b *bed) open() *Journal { return b.openTo(b.servers.deliver) }

func (b *bed) openTo(deliver Deliver) *Journal {
	b.Helper()
	st, err := store.Open(b.path)
	if err != nil {
		b.Fatal(err)
	}
	if st.MovedAside() != "" {
		b.Fatal("the state file was damaged")
	}
	b.disk = &testDisk{Store: st}
	b.servers.mu.Lock()
	b.servers.dead = false
	b.servers.mu.Unlock()
	b.journal, err = Open(b.disk, b.cfg, deliver, b.log)
	if err != nil {
		b.Fatal(err)
	}
	return b.journal
}

// close ends the journal in order, within d.
func (b *bed) close(d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	err := b.journal.Close(ctx)
	if err := b.disk.Close(); err != nil {
		b.Error(err)
	}
	return err
}

// kill ends it as kill -9 would: from now on nothing reaches the disk or a server.
func (b *bed) kill() {
	b.servers.mu.Lock()
	b.servers.dead = true
	b.servers.mu.Unlock()
	b.disk.set(errors.New("killed"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.journal.Close(ctx)
	_ = b.disk.Close()
}

// rec is a session of the group "acct" of the virtual router "a".
func rec(id int) subscriber.Record {
	return subscriber.Record{
		ID: subscriber.ID(id), Router: "a", User: "u\xff" + strconv.Itoa(id), Up: time.Now(),
		By: aaa.Authority{Router: "a", Accounting: "acct"},
	}
}

func (b *bed) start(r subscriber.Record) (done chan error) {
	done = make(chan error, 1)
	b.journal.Start(r, func(err error) { done <- err })
	return done
}

// started waits for a start and returns what it was told.
func (b *bed) started(r subscriber.Record) error { return <-b.start(r) }

func (b *bed) stop(r subscriber.Record, reason subscriber.Reason) {
	r.Ended, r.Reason = time.Now(), reason
	b.journal.Stop(r, nil)
}

// drained waits until everything is delivered and off the disk.
func (b *bed) drained() {
	b.Helper()
	for range 100_000 {
		synctest.Wait()
		b.journal.mu.Lock()
		idle := b.journal.core.idle()
		b.journal.mu.Unlock()
		if idle {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.Fatalf("not drained: %+v", b.journal.Stats())
}
