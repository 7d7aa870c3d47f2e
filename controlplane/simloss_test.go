package controlplane

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"vrgate/controlplane/subscriber"
)

// typed is what every reason looks like, with the protocol that a client puts before its own.
var typed = regexp.MustCompile(`^((ike|l2tp|ppp): )?[a-z0-9]+(-[a-z0-9]+)*$`)

// TestThousandClients has 1,000 clients connect over a network that loses every fifth
// datagram and duplicates and reorders others. Everybody is up or has a typed reason; then
// half hang up and half vanish, and nothing is left of anybody.
func TestThousandClients(t *testing.T) {
	w := newSimWorld(t, 7, simNetwork{Loss: 0.2, Duplicate: 0.1, Delay: 20 * time.Millisecond, Jitter: 300 * time.Millisecond}, nil)
	connectAll(w, 1000, 10*time.Millisecond)
	// A request or its answer is lost in 36 of 100 cases, five times in a row in 0.6 of 100, and a
	// client makes five exchanges that it gives up after as many tries.
	if up := w.up(); up < 950 {
		t.Errorf("%d of 1000 clients are up, want 970 or so", up)
	}
	hangUpOrVanish(w)
}

// TestBadNetworks is the same with fewer clients and worse networks. While the sessions live no
// end goes unnoticed by the other side.
func TestBadNetworks(t *testing.T) {
	overNetworks(t, 40, (*simWorld).newClient, []simNetwork{
		{Delay: time.Second},
		{Loss: 0.1, Delay: 300 * time.Millisecond, Jitter: time.Second},
		{Loss: 0.3, Duplicate: 0.3, Jitter: 2 * time.Second},
		{Loss: 0.5, Delay: 10 * time.Millisecond},
		{Duplicate: 1, Jitter: 500 * time.Millisecond},
		{Loss: 0.95},
	})
}

// overNetworks has n clients connect, live and go over each of the networks, several times with
// other random numbers. On a network that loses nothing all of them are up, and stay it until
// somebody ends them. Whose end it is the other side hears.
func overNetworks(t *testing.T, n int, newClient func(*simWorld, int) *simClient, networks []simNetwork) {
	for i, network := range networks {
		t.Run(fmt.Sprintf("%+v", network), func(t *testing.T) {
			for seed := range uint64(3) {
				w := newSimWorld(t, seed*100+uint64(i), network, nil)
				connectEach(w, n, 10*time.Millisecond, func(i int) *simClient { return newClient(w, i) })
				w.assertHeals(6 * time.Minute)
				t.Logf("%d of %d are up", w.up(), n)
				if network.Loss == 0 && w.up() < n {
					t.Errorf("%d of %d clients are up without any loss", w.up(), n)
				}
				disconnectSome(w)
				hangUpOrVanish(w)
			}
		})
	}
}

// connectAll lets n clients connect, one every pause, until each is up or has given up, and
// checks that client and server agree about what came of it.
func connectAll(w *simWorld, n int, pause time.Duration) {
	w.t.Helper()
	connectEach(w, n, pause, w.newClient)
}

// connectEach is connectAll with clients of any kind.
func connectEach(w *simWorld, n int, pause time.Duration, newClient func(i int) *simClient) {
	w.t.Helper()
	for i := range n {
		c := newClient(i)
		w.after(time.Duration(i)*pause, c.connect)
	}
	if !w.run(10*time.Minute, func() bool { return w.settled() == n }) {
		w.t.Fatalf("%d of %d clients are neither up nor have they given up; server has%s", n-w.settled(), n, w.server.left())
	}
	for _, c := range w.clients {
		if c.Failed != "" && !typed.MatchString(c.Failed) {
			w.t.Errorf("%s failed without a typed reason: %q", c.User, c.Failed)
		}
	}
	w.assertAgree(w.heals())
	w.assertEnds()
}

// assertEnds checks what the server said about sessions that ended: once each, with a reason.
func (w *simWorld) assertEnds() {
	w.t.Helper()
	seen := map[subscriber.ID]bool{}
	for _, r := range w.server.ended {
		if seen[r.ID] {
			w.t.Errorf("session %d ended twice", r.ID)
		}
		seen[r.ID] = true
		if !typed.MatchString(string(r.Reason)) || r.Text == "" {
			w.t.Errorf("session %d of %q ended with reason %q, text %q", r.ID, r.User, r.Reason, r.Text)
		}
	}
	for id, n := range w.server.started {
		if n != 1 {
			w.t.Errorf("session %d started %d times", id, n)
		}
	}
}

// disconnectSome has the server end every third session: their clients hear of it.
func disconnectSome(w *simWorld) {
	w.t.Helper()
	var ids []subscriber.ID
	for i, r := range w.server.m.subs.Records() {
		if i%3 == 0 && r.State == subscriber.StateUp {
			ids = append(ids, r.ID)
		}
	}
	before := w.up()
	w.server.step(subscriber.Disconnect{IDs: ids, Reason: subscriber.ReasonAdmin})
	w.assertAgree(w.heals())
	if w.network.Loss == 0 && w.up() != before-len(ids) {
		w.t.Errorf("%d clients were up, %d were disconnected, %d are up", before, len(ids), w.up())
	}
}

// hangUpOrVanish lets every second client hang up, of which the server hears, and the others
// fall silent. Within the time that DPD, echo requests, retransmissions and the destruct period add up to, the
// server has noticed, and nothing is left.
func hangUpOrVanish(w *simWorld) {
	w.t.Helper()
	for i, c := range w.clients {
		if i%2 == 0 {
			c.disconnect()
		} else {
			c.gone = true
		}
	}
	// J9: a dynamic subscriber that has deleted everything may come back for a minute.
	w.assertAgree(w.heals() + time.Minute)
	w.assertNothingLeft(time.Hour)
	w.assertEnds()
}

// assertNothingLeft waits until the server has no state left, at most for limit.
func (w *simWorld) assertNothingLeft(limit time.Duration) {
	w.t.Helper()
	next := w.now
	gone := w.run(limit, func() bool {
		if w.now.Before(next) {
			return false // looking costs more than an event
		}
		next = w.now.Add(time.Second)
		return w.server.left() == ""
	})
	if left := w.server.left(); !gone && left != "" {
		w.t.Errorf("left behind:%s; ended: %v", left, w.server.reasons())
	}
}

// up counts the clients that have an address.
func (w *simWorld) up() int {
	n := 0
	for _, c := range w.clients {
		if c.Address.IsValid() {
			n++
		}
	}
	return n
}
