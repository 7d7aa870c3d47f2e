package controlplane

import (
	"fmt"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
)

// TestRekeysUnderLoad: for half an hour everybody's SAs of both phases are replaced every minute
// or so, by the server, by the clients, and by whoever comes first, while packets pass in
// both directions all the time. On a network that loses nothing no packet is lost; on one
// that does, nobody is; and no SA piles up.
func TestRekeysUnderLoad(t *testing.T) {
	const clients = 20
	const long = 8 * time.Hour
	for _, tc := range []struct {
		name           string
		server, client time.Duration // lifetimes of phase 2; phase 1 has twice that
		network        simNetwork
	}{
		{"by the server", time.Minute, long, simNetwork{Delay: 30 * time.Millisecond}},
		{"by the clients", long, time.Minute, simNetwork{Delay: 30 * time.Millisecond}},
		{"by both at once", time.Minute, time.Minute, simNetwork{Delay: 30 * time.Millisecond}},
		{"by both at once, loss", 2 * time.Minute, 2 * time.Minute, simNetwork{Loss: 0.1, Duplicate: 0.1, Delay: 30 * time.Millisecond, Jitter: 100 * time.Millisecond}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newSimWorld(t, 11, tc.network, func(c *machineConfig) {
				shorten(&c.ike, tc.server)
				c.subs.Link.EchoFailures = 12 // four in a row do get lost within an hour
			})
			w.clientIKE = func(c *ike.Config) { shorten(c, tc.client) }
			for i := range clients {
				c := w.newClient(i)
				w.after(time.Duration(i)*37*time.Millisecond, c.connect)
			}
			if !w.run(time.Minute, func() bool { return w.settled() == clients }) || w.up() != clients {
				t.Fatalf("%d of %d clients are up", w.up(), clients)
			}
			sent, lost, most := 0, 0, 0
			const during = 30 * time.Minute
			end := w.now.Add(during)
			for _, c := range w.clients {
				w.probe(c, end, &sent, func(what string) {
					lost++
					if tc.network.Loss == 0 && lost < 10 {
						t.Errorf("%v: %s of %s lost", w.now.Sub(w.start), what, c.User)
					}
				})
			}
			w.run(during, func() bool { most = max(most, len(w.server.all)); return false })
			counts := w.server.m.ike.Counters()
			t.Logf("%d packets, %d lost; at most %d SAs; %d rekeys of phase 1, %d of phase 2", sent, lost, most,
				counts[ike.CountPhase1Rekey], counts[ike.CountChildRekey])
			if lost*1000 > sent {
				t.Errorf("%d of %d packets found no SA", lost, sent)
			}
			if w.up() != clients || len(w.server.ended) != 0 {
				t.Errorf("%d of %d clients are still up; ended: %v", w.up(), clients, w.server.reasons())
			}
			for _, c := range w.clients {
				if c.Failed != "" {
					t.Errorf("%s: %s", c.User, c.Failed)
				}
			}
			rounds := int(during / min(tc.server, tc.client))
			if n := int(counts[ike.CountChildRekey]); n < clients*rounds*8/10 {
				t.Errorf("%d rekeys of phase 2, want about %d", n, clients*rounds)
			}
			if n := int(counts[ike.CountPhase1Rekey]); n < clients*rounds/2*8/10 {
				t.Errorf("%d rekeys of phase 1, want about %d", n, clients*rounds/2)
			}
			// In and out, old and new; both ends at once may have one more of each for a moment.
			if most > clients*6 {
				t.Errorf("%d SAs at once for %d clients", most, clients)
			}
			for _, r := range w.server.m.subs.Records() {
				if r.State != subscriber.StateUp {
					t.Errorf("%s is %v", r.User, r.State)
				}
			}
			hangUpOrVanish(w)
		})
	}
}

func shorten(c *ike.Config, lifetime time.Duration) {
	for i := range c.Rules {
		c.Rules[i].Lifetime = 2 * lifetime
	}
	for i := range c.Transports {
		c.Transports[i].Lifetime = lifetime
	}
	for i := range c.Tunnels {
		c.Tunnels[i].Lifetime = lifetime
	}
}

// TestDynamicRekeys: for half an hour the SAs of dynamic subscribers are replaced every minute or so,
// those of phase 1 by the clients (J3), while packets pass in both directions. Nobody is asked again,
// addresses stay, without loss no packet is lost, and no SA piles up.
func TestDynamicRekeys(t *testing.T) {
	const clients = 20
	const during = 30 * time.Minute
	for _, tc := range []struct {
		name           string
		server, client time.Duration // lifetimes of phase 2; phase 1 has twice that
		network        simNetwork
	}{
		{"by the clients", 8 * time.Hour, time.Minute, simNetwork{Delay: 30 * time.Millisecond}},
		{"phase 2 by both", time.Minute, time.Minute, simNetwork{Delay: 30 * time.Millisecond}},
		{"loss", 2 * time.Minute, 2 * time.Minute, simNetwork{Loss: 0.1, Duplicate: 0.1, Delay: 30 * time.Millisecond, Jitter: 100 * time.Millisecond}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newSimWorld(t, 13, tc.network, func(c *machineConfig) { shorten(&c.ike, tc.server) })
			w.clientIKE = func(c *ike.Config) { shorten(c, tc.client) }
			for i := range clients {
				c := w.newRoadWarrior(i, i%2 == 0)
				w.after(time.Duration(i)*37*time.Millisecond, c.connect)
			}
			if !w.run(3*time.Minute, func() bool { return w.settled() == clients }) || w.up() != clients {
				t.Fatalf("%d of %d clients are up", w.up(), clients)
			}
			w.run(10*time.Second, func() bool { return false }) // the server follows
			had := map[string]string{}
			for _, c := range w.clients {
				had[c.User] = c.Address.String()
			}
			sent, lost, most := 0, 0, 0
			end := w.now.Add(during)
			for _, c := range w.clients {
				w.probe(c, end, &sent, func(what string) {
					lost++
					if tc.network.Loss == 0 && lost < 10 {
						t.Errorf("%v: %s of %s lost", w.now.Sub(w.start), what, c.User)
					}
				})
			}
			w.run(during, func() bool { most = max(most, len(w.server.all)); return false })
			counts := w.server.m.ike.Counters()
			t.Logf("%d packets, %d lost; at most %d SAs; %d rekeys of phase 1, %d of phase 2; AAA was asked %d times", sent, lost, most,
				counts[ike.CountPhase1Rekey], counts[ike.CountChildRekey], w.server.decides)
			if lost*1000 > sent {
				t.Errorf("%d of %d packets found no SA", lost, sent)
			}
			if w.server.decides != clients || len(w.server.ended) != 0 {
				t.Errorf("AAA was asked %d times for %d clients; ended: %v", w.server.decides, clients, w.server.reasons())
			}
			for _, c := range w.clients {
				if c.Failed != "" || c.Address.String() != had[c.User] {
					t.Errorf("%s has %v and had %s; failed: %q", c.User, c.Address, had[c.User], c.Failed)
				}
			}
			rounds := int(during / tc.client)
			if n := int(counts[ike.CountChildRekey]); n < clients*rounds*8/10 {
				t.Errorf("%d rekeys of phase 2, want about %d", n, clients*rounds)
			}
			if n := int(counts[ike.CountPhase1Rekey]); n < clients*rounds/2*8/10 {
				t.Errorf("%d rekeys of phase 1, want about %d", n, clients*rounds/2)
			}
			if most > clients*6 {
				t.Errorf("%d SAs at once for %d clients", most, clients)
			}
			hangUpOrVanish(w)
		})
	}
}

// probe sends a packet each way every 700 ms, as a user's traffic would go: through the SA
// that serves when it is sent, received if that SA is there when it arrives.
func (w *simWorld) probe(c *simClient, end time.Time, sent *int, lost func(what string)) {
	if w.now.After(end) {
		return
	}
	*sent += 2
	up := c.OutboundSA()
	w.send(toServer, func() {
		if _, ok := w.server.inbound[up]; !ok {
			lost(fmt.Sprintf("a packet to the server through %08x", up))
		}
	})
	var down ike.SA
	for _, o := range w.server.outbound { // a client has one connection
		if o[0].Remote.Addr() == c.Addr {
			down, _ = o.newest()
		}
	}
	w.send(toClient, func() {
		if !c.HasSA(down.SPI) {
			lost(fmt.Sprintf("a packet from the server through %08x", down.SPI))
		}
	})
	w.after(700*time.Millisecond, func() { w.probe(c, end, sent, lost) })
}

// TestReauthentication: where the tunnel profile wants it users are asked again with each new phase 1
// SA. They keep their address, and packets keep passing; a user that AAA no longer knows is out.
func TestReauthentication(t *testing.T) {
	w := newSimWorld(t, 17, simNetwork{Delay: 30 * time.Millisecond}, func(c *machineConfig) { c.ike.Tunnels[0].Reauthenticate = true })
	w.clientIKE = func(c *ike.Config) { shorten(c, 2*time.Minute) }
	connectEach(w, 4, time.Second, func(i int) *simClient { return w.newRoadWarrior(i, i%2 == 0) })
	had := w.clients[1].Address
	lost := 0
	for _, c := range w.clients {
		w.probe(c, w.now.Add(20*time.Minute), new(int), func(string) { lost++ })
	}
	w.run(20*time.Minute, func() bool { return false })
	if lost > 0 || w.server.decides < 4*5 || w.clients[1].Address != had || len(w.server.ended) > 0 {
		t.Errorf("%d packets lost, AAA asked %d times, address %v after %v, ended: %v", lost, w.server.decides, w.clients[1].Address, had, w.server.reasons())
	}
	if used := len(w.server.leases.grants); used != 4 {
		t.Errorf("%d leases for 4 users", used)
	}
	w.server.users = aaa.NewLocal(simUsers(3)) // without the last
	w.run(10*time.Minute, func() bool { return false })
	if len(w.server.ended) != 1 || w.server.ended[0].User != w.clients[3].User || w.server.ended[0].Reason != "aaa-unknown-user" {
		t.Errorf("ended: %+v", w.server.ended)
	}
	if c := w.clients[3]; c.Address.IsValid() || c.Failed == "" {
		t.Errorf("the user that is not one any more has %v, failed: %q", c.Address, c.Failed)
	}
	for _, c := range w.clients {
		c.disconnect()
	}
	w.assertNothingLeft(10 * time.Minute)
	w.assertEnds()
}
