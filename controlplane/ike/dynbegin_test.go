package ike

import (
	"fmt"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// TestAggressiveSubscribers: the same with groups that are named in aggressive
// mode, and with signatures, over bad links (J18).
func TestAggressiveSubscribers(t *testing.T) {
	for _, m := range []mode{{true, AuthXAuthPSK}, {true, AuthXAuthRSA}, {false, AuthXAuthRSA},
		{false, AuthHybridRSA}, {true, AuthHybridRSA}} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			w, server, clients := dynCrowd(t, 40)
			w.loss, w.dup, w.jitter = 0.2, 0.2, 300*time.Millisecond
			for i, x := range append(clients, server) {
				c := &x.e.cfg
				for j := range c.Rules {
					c.Rules[j].Aggressive = AggressiveAccepted
				}
				name := "server"
				if x != server {
					name = fmt.Sprint("client ", i%2)
					c.Keys[0].LocalID = "keyid:staff"
				} else {
					c.Keys[0].ID = "keyid:staff"
				}
				c.Credentials = []Credential{credential(name, "authority")}
				c.Authorities = [][]byte{nameDER("authority")}
				c.Tunnels[0].Credential = name
			}
			subscribe := func(x *node) {
				x.subscribe(func(i *Initiate) {
					i.Method, i.Aggressive, i.Credential = m.method, m.aggressive, x.e.cfg.Credentials[0].Name
				})
			}
			for _, x := range clients {
				subscribe(x)
			}
			w.run(3 * time.Minute)
			w.loss, w.dup, w.jitter = 0, 0, 0
			w.run(6 * time.Minute)
			up := ups(clients)
			if up < 37 {
				t.Errorf("%d of 40 up\n%v", up, server.e.Counters())
			}
			for _, x := range clients {
				if len(x.up) == 0 && len(x.down) == 0 {
					t.Errorf("%s is neither up nor down\n%v", x.name, words(x.reports))
				}
				if len(x.up) == 1 && len(x.down) == 0 {
					agree(t, x, serverPart(server, x))
				}
			}
			for _, u := range server.up {
				if u.Auth != m.method || u.Aggressive != m.aggressive || !u.Dynamic {
					t.Fatalf("%+v", u)
				}
			}
			for _, x := range clients {
				x.step(CloseAll{Reason: ReasonShutdown})
			}
			w.run(5 * time.Minute)
			empty(t, server)
			empty(t, clients...)
		})
	}
}

// TestDynamicSnapshot restarts both ends at every moment of a connection's
// beginning and at each stage of its life: it comes up and goes on all the same.
func TestDynamicSnapshot(t *testing.T) {
	midway := 0
	for ms := 30; ms < 400; ms += 7 {
		w, client, server := dynPair(t)
		client.subscribe()
		w.run(time.Duration(ms) * time.Millisecond)
		if len(server.e.conns) == 0 || len(client.e.conns) == 0 {
			continue // a half-open phase 1 is not kept
		}
		server.restart(t)
		client.restart(t)
		w.run(2 * time.Minute)
		if len(server.down) == 1 && len(client.down) == 1 {
			// Both were in the middle of quick mode, of which nothing is kept.
			midway++
			empty(t, client, server)
			continue
		}
		if len(server.down) != 0 || len(client.down) != 0 {
			t.Errorf("after %d ms: server down %+v, client down %+v\n%s", ms, server.down, client.down, words(server.reports, client.reports))
			continue
		}
		agree(t, client, server)
		client.step(Rekey{Conn: client.only(t).Info.ID, Phase1: true})
		w.run(10 * time.Second)
		server.restart(t)
		server.step(SAExpired{SPI: server.only(t).current().In.SPI, Dir: Inbound})
		w.run(3 * time.Minute)
		agree(t, client, server)
		client.step(CloseAll{Reason: ReasonShutdown})
		w.run(30 * time.Second)
		server.restart(t) // within the minute of J9
		w.run(time.Minute)
		empty(t, client, server)
		if len(server.down) != 1 || server.down[0].Reason != ReasonPeerDelete {
			t.Errorf("after %d ms: down %+v", ms, server.down)
		}
	}
	if midway > 4 {
		t.Errorf("%d connections were lost midway", midway)
	}
}

// TestInitialContactBehindPhase1: racoon sends it in a message of its own; then
// what looked like a rekey was a new beginning, and the user is asked.
func TestInitialContactBehindPhase1(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	offer := offers.AppleCisco()
	s := newSubscriber(r, offer)
	s.in()
	if !s.tunnel(offer, "10.9.0.7", "0.0.0.0/0").run() {
		t.Fatal("not up")
	}
	first := s.id()
	again := newSubscriber(r, offer)
	if !again.phase1() {
		t.Fatal("no phase 1")
	}
	if again.id() != first {
		t.Fatal("the user is asked at a rekey")
	}
	before := len(r.sends)
	again.info(isakmp.InitialContactNotify(again.cookies.I, again.cookies.R).Payload())
	if len(r.down) != 1 || r.down[0].Conn.ID != first || again.id() == first || len(r.kernel) != 0 {
		t.Fatalf("down %+v, asked for %d, %d SAs", r.down, again.id(), len(r.kernel))
	}
	r.pass(5 * time.Second)
	if cs := again.read(r.sends[before:]); len(cs) != 0 {
		t.Errorf("it is told %v", cs)
	}
	q := again.tunnel(offer, "10.9.0.7", "0.0.0.0/0")
	if q.run() {
		t.Error("the old admission holds")
	}
	again.answerTo(again.only1(r.give(AskUser{Conn: again.id()}), isakmp.ConfigRequest), isakmp.ConfigReply, text(isakmp.XAuthUserName, "joe"))
	again.answerTo(again.only1(r.give(Admit{Conn: again.id(), Lease: testLease}), isakmp.ConfigSet), isakmp.ConfigAck)
	if !again.tunnel(offer, "10.9.0.7", "0.0.0.0/0").run() || len(r.up) != 2 {
		t.Errorf("not up\n%v", words(r.reports))
	}
}

// TestBeginsAgain: a client that gives up its question and begins again gets a new
// connection; the first one ends.
func TestBeginsAgain(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	s := newSubscriber(r, offers.AppleCisco())
	s.asked()
	first := s.id()
	again := newSubscriber(r, offers.AppleCisco())
	again.asked()
	if len(r.down) != 1 || r.down[0].Conn.ID != first || len(r.e.conns) != 1 {
		t.Errorf("down %+v, %d connections", r.down, len(r.e.conns))
	}
	// Late words about the first one are about nobody.
	r.give(Admit{Conn: first, Lease: testLease})
	r.give(Deny{Conn: first, Reason: "late"})
	r.give(AskUser{Conn: first})
	if len(r.down) != 1 {
		t.Errorf("down %+v", r.down)
	}
}

// TestWordsOutOfOrder: what the deciders say at the wrong time is ignored.
func TestWordsOutOfOrder(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	offer := offers.AppleCisco()
	s := newSubscriber(r, offer)
	s.asked()
	if out := r.give(Admit{Conn: s.id(), Lease: testLease}); len(out) != 0 {
		t.Errorf("admitted before the answer: %v", s.read(out))
	}
	if out := r.give(AskUser{Conn: s.id()}); len(out) != 0 {
		t.Errorf("asked twice at once: %v", s.read(out))
	}
	v := s.only1(r.give(Deny{Conn: s.id(), Reason: "full", Text: "no room"}), isakmp.ConfigSet)
	if out := r.give(Deny{Conn: s.id(), Reason: "twice"}); len(out) != 0 {
		t.Errorf("denied twice: %v", s.read(out))
	}
	s.answerTo(v, isakmp.ConfigAck)
	if len(r.down) != 1 || r.down[0].Reason != "full" || r.down[0].Text != "no room" || len(r.e.sas) != 0 {
		t.Errorf("down %+v", r.down)
	}

	// A denial that is not acknowledged: one repeat, then the SA goes.
	r = dynRig(t, ProfileCompatible)
	s = newSubscriber(r, offer)
	s.asked()
	before := len(r.sends)
	r.give(Deny{Conn: s.id(), Reason: "full"})
	r.pass(5 * time.Second)
	n := 0
	for _, x := range r.sends[before:] {
		if x.Data[18] == byte(isakmp.Transaction) {
			n++
		}
	}
	if n != 2 || len(r.down) != 1 || r.down[0].Reason != "full" || len(r.e.timers) != 0 {
		t.Errorf("%d verdicts, down %+v", n, r.down)
	}

	// STATUS=OK that is not acknowledged.
	r = dynRig(t, ProfileCompatible)
	s = newSubscriber(r, offer)
	s.answerTo(s.asked(), isakmp.ConfigReply, text(isakmp.XAuthUserName, "joe"))
	r.give(Admit{Conn: s.id(), Lease: testLease})
	r.pass(2 * time.Minute)
	if len(r.down) != 1 || r.down[0].Reason != ReasonTimeout {
		t.Errorf("down %+v", r.down)
	}

	// In, but without a tunnel.
	r = dynRig(t, ProfileCompatible)
	s = newSubscriber(r, offer)
	s.in()
	r.pass(2 * time.Minute)
	if len(r.down) != 1 || r.down[0].Reason != ReasonNoChild {
		t.Errorf("down %+v", r.down)
	}
}
