package controlplane

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
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
	if up := w.up(); up < 970 {
		t.Errorf("%d of 1000 clients are up, want 970", up)
	}
	hangUpOrVanish(w)
}

// TestBadNetworks is the same with fewer clients and worse networks.
func TestBadNetworks(t *testing.T) {
	for seed, n := range []simNetwork{
		{Delay: time.Second},
		{Loss: 0.1, Delay: 300 * time.Millisecond, Jitter: time.Second},
		{Loss: 0.3, Duplicate: 0.3, Jitter: 2 * time.Second},
		{Loss: 0.5, Delay: 10 * time.Millisecond},
		{Duplicate: 1, Jitter: 500 * time.Millisecond},
		{Loss: 0.95},
	} {
		t.Run(fmt.Sprintf("%+v", n), func(t *testing.T) {
			w := newSimWorld(t, uint64(seed), n, nil)
			connectAll(w, 100, 10*time.Millisecond)
			t.Logf("%d of 100 are up after %v", w.up(), w.now.Sub(w.start))
			if n.Loss == 0 && w.up() != 100 {
				t.Errorf("%d of 100 clients are up without any loss", w.up())
			}
			hangUpOrVanish(w)
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
	w.run(time.Second, func() bool { return false }) // what was on its way arrives
	// A late duplicate may have made PPP negotiate once more (RFC 1661 section 4.3): that heals.
	w.run(20*time.Second, func() bool { return w.settled() == n })
	if slices.ContainsFunc(w.clients, func(c *simClient) bool { return c.XAuth }) {
		// Of XAuth's clients some are up before the server has their last message; others never
		// heard that it has given them up, and notice by probing it (K10).
		w.run(5*time.Minute, func() bool { return false })
	}
	addresses := map[netip.Addr]string{}
	live := map[netip.Addr]subscriber.Record{}
	for _, r := range w.server.m.subs.Records() {
		if r.Address.IsValid() && r.State == subscriber.StateUp {
			live[r.Address] = r
		}
	}
	for _, c := range w.clients {
		if c.Failed != "" {
			if !typed.MatchString(c.Failed) {
				w.t.Errorf("%s failed without a typed reason: %q", c.User, c.Failed)
			}
			continue
		}
		if !c.Address.IsValid() {
			continue // it fell back to negotiating in the last second
		}
		if other, taken := addresses[c.Address]; taken {
			w.t.Errorf("%s and %s both have %v", c.User, other, c.Address)
		}
		addresses[c.Address] = c.User
		if r, ok := live[c.Address]; !ok || r.User != c.User {
			w.t.Errorf("%s is up with %v, the server has %q there", c.User, c.Address, r.User)
		}
	}
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

// hangUpOrVanish lets every second client hang up and the others fall silent. Within the
// time that DPD, echo requests, retransmissions and the destruct period add up to, the
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
