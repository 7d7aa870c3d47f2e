package controlplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// askBed is an admission queue with a server that takes a while for each answer. It lives in a
// synctest bubble.
type askBed struct {
	t    *testing.T
	a    *admission
	took time.Duration

	mu               sync.Mutex
	running, most    int
	mostWaiting      int
	served           []string // names, in the order of their turns
	refused, reasons []string
	at               map[string]time.Duration // since the beginning, when a name was served
	began            time.Time
}

func newAskBed(t *testing.T, c config.Admission, took time.Duration) *askBed {
	return &askBed{t: t, a: newAdmission(c), took: took, at: map[string]time.Duration{}, began: time.Now()}
}

// ask lets one come to the virtual router red; its name is its key.
func (b *askBed) ask(c class, source, name string) { b.askIn("red", c, source, name) }

func (b *askBed) askIn(router string, c class, source, name string) {
	b.a.do(&askingWork{
		key: name, source: sourceOf(router, netip.MustParseAddr(source)), class: c,
		run: func() func() {
			b.mu.Lock()
			b.served = append(b.served, name)
			b.running++
			b.most = max(b.most, b.running)
			b.mu.Unlock()
			time.Sleep(b.took)
			b.mu.Lock()
			b.running--
			b.at[name] = time.Since(b.began)
			b.mu.Unlock()
			return nil
		},
		refuse: func(d aaa.Decision) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if d.Accept || d.Text == "" {
				b.t.Errorf("%s is refused with %+v", name, d)
			}
			b.refused, b.reasons = append(b.refused, name), append(b.reasons, string(d.Reason))
		},
	})
	b.mostWaiting = max(b.mostWaiting, b.a.counts().Waiting)
}

// pass lets time pass.
func (b *askBed) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// assertIdle checks that nothing is left on the books.
func (b *askBed) assertIdle() {
	b.t.Helper()
	b.a.close()
	a := b.a
	if c := a.counts(); c.Running != 0 || c.Waiting != 0 || len(a.sources) != 0 || len(a.keys) != 0 || len(a.longest) != 0 {
		b.t.Errorf("left: %+v, %d sources, %d keys, %d in the heap", c, len(a.sources), len(a.keys), len(a.longest))
	}
	for c := range a.turns {
		if n := len(a.turns[c].routers) + len(a.turns[c].sources); n != 0 {
			b.t.Errorf("left: %d turns of class %d", n, c)
		}
	}
}

// TestTenantsTakeTurns: hundreds of one virtual router, each from an address of its own, whose server is slow, delay
// one of another by one turn.
func TestTenantsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAskBed(t, config.Admission{Concurrent: 2, Waiting: 1000, PerSource: 10}, 30*time.Second)
		for i := range 300 {
			b.ask(classNew, fmt.Sprintf("198.51.%d.%d", i/100, i%100), fmt.Sprint("red", i))
		}
		b.askIn("blue", classNew, "198.51.100.1", "blue")
		b.pass(2 * time.Hour)
		if got := b.at["blue"]; got != time.Minute {
			t.Errorf("blue's user is served after %v, want a minute", got)
		}
		if len(b.served) != 301 || len(b.refused) != 0 {
			t.Errorf("%d served, %d refused", len(b.served), len(b.refused))
		}
		b.assertIdle()
	})
}

// TestStorm: 10,000 come within two seconds to a server that answers 50 a second. Everybody is
// served or refused at once, never more are asked about or wait than allowed, and one among
// thousands is served as soon as anybody.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := config.Admission{Concurrent: 50, Waiting: 2000, PerSource: 1500}
		b := newAskBed(t, limits, time.Second)
		for n := range 4000 { // one office whose line has come back
			b.ask(classNew, "203.0.113.1", fmt.Sprint("office", n))
		}
		if len(b.refused) != 4000-1500 {
			t.Errorf("of the office %d are refused, want what is beyond 1500", len(b.refused))
		}
		b.pass(time.Second)
		for n := range 5990 { // everybody else
			b.ask(classNew, fmt.Sprintf("198.51.%d.%d", 100+n/256, n%256), fmt.Sprint("home", n))
		}
		for n := range 10 {
			b.ask(classNew, fmt.Sprintf("192.0.2.%d", n), fmt.Sprint("late", n))
		}
		if b.mostWaiting > limits.Waiting {
			t.Errorf("%d waited", b.mostWaiting)
		}
		refusedAt := len(b.refused)
		b.pass(10 * time.Minute)
		if len(b.served)+len(b.refused) != 10000 || len(b.refused) != refusedAt {
			t.Errorf("%d served, %d refused, of them %d later than at once", len(b.served), len(b.refused), len(b.refused)-refusedAt)
		}
		if b.most != 50 {
			t.Errorf("%d at once, want 50", b.most)
		}
		office := 0
		for _, name := range b.served {
			if name[0] == 'o' {
				office++
			}
		}
		// What the office had beyond one turn has made room for others.
		if office < 50 || office > 200 {
			t.Errorf("the office was served %d times", office)
		}
		if c := b.a.counts(); c.Admitted != uint64(len(b.served)) || c.Refused != uint64(len(b.refused)) {
			t.Errorf("counted %+v, %d and %d", c, len(b.served), len(b.refused))
		}
		for _, r := range b.reasons {
			if r != string(aaa.ReasonOverload) {
				t.Errorf("refused by %q", r)
			}
		}
		b.assertIdle()
	})
}

// TestFairTurns: a source with a thousand waiting does not delay one with a single client.
func TestFairTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAskBed(t, config.Admission{Concurrent: 10, Waiting: 5000, PerSource: 5000}, time.Second)
		for n := range 1000 {
			b.ask(classNew, "203.0.113.1", fmt.Sprint("many", n))
		}
		b.ask(classNew, "192.0.2.1", "one")
		b.ask(classNew, "2001:db8:1:2::1", "six")
		b.ask(classNew, "2001:db8:1:2::2", "six too") // the same customer
		b.pass(time.Hour)
		if b.at["one"] > 2*time.Second || b.at["six"] > 2*time.Second || b.at["six too"] > 3*time.Second || b.at["many999"] < time.Minute {
			t.Errorf("one after %v, six after %v and %v, the last of many after %v", b.at["one"], b.at["six"], b.at["six too"], b.at["many999"])
		}
		b.assertIdle()
	})
}

// TestPushedOut: where there is no more room, the newest of who has most waiting makes it, and a
// source cannot push out its equals.
func TestPushedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAskBed(t, config.Admission{Concurrent: 1, Waiting: 4, PerSource: 100}, time.Second)
		b.ask(classNew, "192.0.2.9", "running")
		for n := range 3 {
			b.ask(classNew, "192.0.2.1", fmt.Sprint("a", n))
		}
		b.ask(classNew, "192.0.2.2", "b0")
		b.ask(classNew, "192.0.2.1", "a3")
		b.ask(classNew, "192.0.2.3", "c0") // in the place of a2
		b.ask(classNew, "192.0.2.3", "c1")
		b.ask(classNew, "192.0.2.4", "d0") // of a1
		b.ask(classNew, "192.0.2.5", "e0")
		if want := []string{"a3", "a2", "c1", "a1", "e0"}; !slices.Equal(b.refused, want) {
			t.Errorf("refused %v, want %v", b.refused, want)
		}
		b.pass(time.Minute)
		if want := []string{"running", "a0", "b0", "c0", "d0"}; !slices.Equal(b.served, want) {
			t.Errorf("served %v, want %v", b.served, want)
		}
		b.assertIdle()
	})
}

// TestPrecedence: who is up goes first; what has been begun and what is new take turns; neither
// of the first two is refused.
func TestPrecedence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAskBed(t, config.Admission{Concurrent: 1, Waiting: 2, PerSource: 3}, time.Second)
		b.ask(classNew, "192.0.2.1", "first")
		synctest.Wait()
		b.ask(classNew, "192.0.2.1", "new1")
		b.ask(classNew, "192.0.2.1", "new2")
		b.ask(classNew, "192.0.2.1", "new3") // its source is full
		for n := range 3 {
			b.ask(classRound, "192.0.2.1", fmt.Sprint("round", n+1))
			b.ask(classAgain, "192.0.2.1", fmt.Sprint("again", n+1))
		}
		b.pass(time.Minute)
		want := []string{"first", "again1", "again2", "again3", "round1", "new1", "round2", "new2", "round3"}
		if !slices.Equal(b.served, want) || !slices.Equal(b.refused, []string{"new3"}) {
			t.Errorf("served %v, want %v; refused %v", b.served, want, b.refused)
		}
		b.assertIdle()
		b.ask(classAgain, "192.0.2.1", "closed")
		if b.refused[len(b.refused)-1] != "closed" {
			t.Error("work is taken after the end")
		}
	})
}

// TestPlaceIsFree: who waits for something else than AAA keeps no place from others, and the
// next question with its key waits for it.
func TestPlaceIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAskBed(t, config.Admission{Concurrent: 1, Waiting: 10, PerSource: 10}, time.Second)
		b.a.do(&askingWork{
			key: "slow", source: sourceOf("red", netip.MustParseAddr("192.0.2.1")), class: classNew,
			run: func() func() { return func() { time.Sleep(10 * time.Second) } }, refuse: func(aaa.Decision) { t.Error("refused") },
		})
		b.ask(classNew, "192.0.2.1", "slow")
		b.ask(classNew, "192.0.2.1", "next")
		b.pass(time.Minute)
		if b.at["next"] != time.Second || b.at["slow"] != 11*time.Second {
			t.Errorf("the next after %v, the second with the same key after %v", b.at["next"], b.at["slow"])
		}
		b.assertIdle()
	})
}

// TestAdmissionAtRandom: whatever comes at once is run or refused exactly once, work with one key
// in its order and one at a time, and no more at once than allowed.
func TestAdmissionAtRandom(t *testing.T) {
	const askers, each = 8, 800
	limits := config.Admission{Concurrent: 5, Waiting: 40, PerSource: 25}
	a := newAdmission(limits)
	var mu sync.Mutex
	running, ran, refused := 0, 0, 0
	last, busy := map[int]int{}, map[int]bool{}
	var all sync.WaitGroup
	for asker := range askers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(asker), 1))
			for n := range each {
				key, number := asker*100+r.IntN(20), n+1
				c := class(r.IntN(classes))
				took := time.Duration(r.IntN(20)) * time.Microsecond
				a.do(&askingWork{
					key: key, source: source{"red", netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(6))})}, class: c,
					run: func() func() {
						mu.Lock()
						if running++; running > limits.Concurrent {
							t.Errorf("%d at once", running)
						}
						if busy[key] || last[key] >= number {
							t.Errorf("key %d: %d after %d, busy %v", key, number, last[key], busy[key])
						}
						busy[key], last[key] = true, number
						mu.Unlock()
						time.Sleep(took)
						end := func() {
							mu.Lock()
							defer mu.Unlock()
							ran++
							busy[key] = false
						}
						mu.Lock()
						running--
						mu.Unlock()
						if number%3 == 0 {
							return end
						}
						end()
						return nil
					},
					refuse: func(aaa.Decision) {
						mu.Lock()
						defer mu.Unlock()
						if refused++; c != classNew {
							t.Errorf("class %d is refused", c)
						}
					},
				})
			}
		})
	}
	all.Wait()
	for c := a.counts(); c.Running > 0 || c.Waiting > 0; c = a.counts() {
		if c.Waiting > limits.Waiting {
			t.Errorf("%d wait", c.Waiting)
		}
		time.Sleep(time.Millisecond)
	}
	(&askBed{t: t, a: a}).assertIdle()
	if ran+refused != askers*each || refused == 0 || ran == 0 {
		t.Errorf("%d ran and %d were refused of %d", ran, refused, askers*each)
	}
}

// slowMethod answers when it may.
type slowMethod chan struct{}

func (m slowMethod) Decide(ctx context.Context, r aaa.Request) aaa.Decision {
	select {
	case <-m:
	case <-ctx.Done():
	}
	return aaa.Decision{Accept: true, User: r.User}
}

// TestDecideInTurn: what a virtual router asks is answered exactly once: whom there is no room for
// at once, with overload, and the rest when AAA has answered; who authenticates again goes before
// who is new, and needs no room.
func TestDecideInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(slowMethod)
		s := &shared{admission: newAdmission(config.Admission{Concurrent: 1, Waiting: 1, PerSource: 100}), leases: testLeases(t)}
		r := newRouter(&config.Router{Name: "red"}, machineConfig{}, s, free, noCertificates(t), zap.NewNop(), nil)
		ask := func(id subscriber.ID, again bool) {
			f := testDecide
			f.ID, f.Again, f.Request.User = id, again, "ann"
			f.Request.Remote = netip.MustParseAddrPort("203.0.113.1:500")
			r.decide(t.Context(), f)
		}
		var got []string
		answers := func() string {
			synctest.Wait()
			got = got[:0]
			for _, ev := range r.inbox.take(nil) {
				d := ev.(workDone).event.(subscriber.Decided)
				got = append(got, fmt.Sprintf("%d %v %s %v", d.ID, d.Decision.Accept, d.Decision.Reason, d.Address.IsValid()))
			}
			return strings.Join(got, ", ")
		}
		assert := func(want string) {
			t.Helper()
			if got := answers(); got != want {
				t.Errorf("answers %q, want %q", got, want)
			}
		}
		ask(1, false)
		ask(2, false)
		assert("")
		ask(3, false)
		ask(4, true)
		assert("3 false aaa-overload false")
		free <- struct{}{}
		assert("1 true  true")
		free <- struct{}{}
		assert("4 true  false")
		free <- struct{}{}
		assert("2 true  true")
		s.admission.close()
		if r.pending != 4 {
			t.Errorf("%d answers are expected, want 4", r.pending)
		}
	})
}
