package controlplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
)

// Client and server can not agree at every moment: the last message of an exchange is on its
// way, and of an end that got lost the other side learns by its own keepalives. What is
// promised is that they agree again after a while, whatever the network does.

// heals is how long client and server may disagree about whether a session is there.
//
// Where nothing gets lost nobody has to notice anything: what takes time is PPP, which a late
// duplicate has negotiate once more (RFC 1661 section 4.3), by its restart timer of 3 seconds.
// The bound is below every keepalive's interval, so that none of them can hide a fault.
//
// Where datagrams get lost the slowest chains are these, with the defaults of the engines:
//   - dynamic subscriber, server only: silent for 150 s, then unanswered DPD (K10) of 30 s;
//   - dynamic subscriber, client only: message 3 of quick mode is lost and the server gives up
//     after its 60 s without phase 2 SA, then the client's 60 s of silence and its DPD;
//   - L2TP, server only: 4 echo requests unanswered, 150 s;
//   - L2TP, client only: PPP's negotiation of 30 s fails and Terminate-Requests and CDN are
//     lost for 40 s, then the client's HELLO after 60 s of silence and 31 s of retransmission.
func (w *simWorld) heals() time.Duration {
	if w.network.Loss == 0 && !w.wasCut {
		return 15 * time.Second
	}
	return 4 * time.Minute
}

// disagreements tells, by user, what one side believes and the other does not. A client that
// is up has an address, and the server has its session up with the same address, and each side
// has the SA that the other sends by; of a client that is not up the server has no session that
// is up. That no two sessions have an address is true at every moment.
func (w *simWorld) disagreements() map[string]string {
	w.t.Helper()
	live := map[netip.Addr][]subscriber.Record{}
	holders := map[netip.Addr]string{}
	for _, r := range w.server.m.subs.Records() {
		if r.State != subscriber.StateUp {
			continue
		}
		if other, taken := holders[r.Address]; taken {
			w.t.Errorf("%v: %s and %s both have %v", w.now.Sub(w.start), r.User, other, r.Address)
		}
		holders[r.Address] = r.User
		live[r.Remote.Addr()] = append(live[r.Remote.Addr()], r)
	}
	out := map[string]string{}
	for _, c := range w.clients {
		sessions := live[c.Addr]
		mine := slices.IndexFunc(sessions, func(r subscriber.Record) bool { return r.User == c.User && r.Address == c.Address })
		switch {
		case c.gone:
		case !c.Address.IsValid() && len(sessions) > 0:
			out[c.User] = fmt.Sprintf("is not up (%q), the server has it up with %v", c.Failed, sessions[0].Address)
		case !c.Address.IsValid():
		case mine < 0 || len(sessions) > 1:
			out[c.User] = fmt.Sprintf("is up with %v, the server has %d sessions of it up", c.Address, len(sessions))
		default:
			down, _ := w.server.outbound[ike.ConnID(sessions[mine].Conn)].newest()
			if _, ok := w.server.inbound[c.OutboundSA()]; !ok || !c.HasSA(down.SPI) {
				out[c.User] = fmt.Sprintf("sends by %08x and the server by %08x, and not both are known to the other", c.OutboundSA(), down.SPI)
			}
		}
	}
	return out
}

// assertAgree waits until client and server have agreed about everybody, each at its moment.
func (w *simWorld) assertAgree(within time.Duration) {
	w.t.Helper()
	open := w.disagreements()
	for end := w.now.Add(within); len(open) > 0 && w.now.Before(end); {
		w.pass(time.Second)
		still := w.disagreements()
		for user := range open {
			if _, ok := still[user]; !ok {
				delete(open, user)
			}
		}
	}
	for user, what := range open {
		w.t.Errorf("for %v %s %s", within, user, what)
	}
}

// assertHeals goes on for a while and has no disagreement last longer than it may.
func (w *simWorld) assertHeals(d time.Duration) {
	w.t.Helper()
	since := map[string]time.Time{}
	for end := w.now.Add(d); w.now.Before(end); {
		w.pass(5 * time.Second)
		now := w.disagreements()
		for user := range since {
			if _, ok := now[user]; !ok {
				delete(since, user)
			}
		}
		for user, what := range now {
			if _, ok := since[user]; !ok {
				since[user] = w.now
			}
			if age := w.now.Sub(since[user]); age > w.heals() && age <= w.heals()+5*time.Second {
				w.t.Errorf("since %v %s %s", since[user].Sub(w.start), user, what)
			}
		}
	}
}

// pass lets the time pass, also where nothing happens.
func (w *simWorld) pass(d time.Duration) {
	end := w.now.Add(d)
	w.run(d, func() bool { return false })
	w.now = end
}

// TestOutages: the network carries nothing for a while, in both directions or in one. An outage
// of 20 seconds costs nobody the session; after a longer one, of whatever length, client and
// server agree again, also where one side has given up and the other has not noticed anything.
func TestOutages(t *testing.T) {
	for name, cut := range map[string][2]bool{
		"both directions": {toServer: true, toClient: true},
		"to the server":   {toServer: true},
		"to the client":   {toClient: true},
	} {
		t.Run(name, func(t *testing.T) {
			for i, outage := range []time.Duration{20, 35, 60, 90, 110, 150, 200, 400} {
				const n = 12
				outage *= time.Second
				w := newSimWorld(t, uint64(i), simNetwork{Delay: 20 * time.Millisecond}, nil)
				connectEach(w, n, time.Second, w.newMixed)
				w.pass(2 * time.Minute)
				w.cut, w.wasCut = cut, true
				w.after(outage, func() { w.cut = [2]bool{} })
				w.assertHeals(outage + 5*time.Minute)
				t.Logf("%v: %d of %d are up", outage, w.up(), n)
				if outage <= 20*time.Second && w.up() < n {
					t.Errorf("%d of %d clients are up after an outage of %v", w.up(), n, outage)
				}
				hangUpOrVanish(w)
			}
		})
	}
}
