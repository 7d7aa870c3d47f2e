package ike

import (
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp/offers"
)

// junos are the timers of K10.
var junos = DPDTimers{Sent: 30 * time.Second, Unanswered: 60 * time.Second, Silent: 150 * time.Second}

// TestDPDOfSubscribers: a peer is probed when we send and hear nothing, or when
// nothing goes either way; one that sends is left alone (K10).
func TestDPDOfSubscribers(t *testing.T) {
	for _, c := range []struct {
		name    string
		in, out bool // traffic in that direction
		timers  DPDTimers
		dead    time.Duration // at most after, 0: never
		probes  bool
	}{
		{"traffic both ways", true, true, junos, 0, false},
		{"only towards the peer", false, true, junos, 3 * time.Minute, true},
		{"silence", false, false, junos, 5 * time.Minute, true},
		{"only from the peer", true, false, junos, 0, false},
		{"switched off", false, false, DPDTimers{}, 0, false},
		{"only silence counts", false, true, DPDTimers{Silent: 150 * time.Second}, 0, false},
	} {
		for _, alive := range []bool{true, false} {
			w, client, server := dynPair(t)
			server.e.cfg.DPD = c.timers
			for _, n := range []*node{client, server} {
				n.e.cfg.RekeyMargin = 1000
				n.e.cfg.Tunnels[0].Lifetime = 8 * time.Hour
			}
			server.traffic = func(ConnID) (in, out uint64) {
				now := uint64(w.now.Unix())
				if c.in {
					in = now
				}
				if c.out {
					out = now
				}
				return in, out
			}
			client.subscribe()
			w.run(5 * time.Second)
			mustUp(t, client, server)
			if !alive {
				w.tap = func(netip.AddrPort, netip.AddrPort, bool, []byte) bool { return false }
			}
			if c.dead > 0 && !alive {
				w.run(c.dead)
				if len(server.down) != 1 || server.down[0].Reason != ReasonPeerDead || len(server.kernel)+len(server.e.conns)+len(server.e.timers) != 0 {
					t.Errorf("%s: down %+v, %d SAs", c.name, server.down, len(server.kernel))
				}
				continue
			}
			w.run(time.Hour)
			if len(server.down) != 0 {
				t.Errorf("%s, alive %v: down %+v", c.name, alive, server.down)
				continue
			}
			if probed := server.only(t).newest().DPD.Acked; probed != c.probes {
				t.Errorf("%s, alive %v: probed %v", c.name, alive, probed)
			}
			if server.reads > 130 || (server.reads == 0) != (c.timers == DPDTimers{}) {
				t.Errorf("%s: traffic was read %d times in an hour", c.name, server.reads)
			}
		}
	}
}

// TestDPDAfterConnecting: while the user is decided about, and until there is a tunnel, no probe goes
// out, however slow that is; vpnc would give up.
func TestDPDAfterConnecting(t *testing.T) {
	w, client, server := dynPair(t)
	server.e.cfg.DPD = DPDTimers{Sent: 5 * time.Second, Unanswered: 5 * time.Second, Silent: 10 * time.Second}
	server.traffic = func(ConnID) (in, out uint64) { return 0, 0 }
	server.decide.took = 50 * time.Second
	client.subscribe()
	w.run(100 * time.Second)
	if server.reads == 0 || len(server.up) != 0 {
		t.Fatalf("traffic read %d times, %d connections up", server.reads, len(server.up))
	}
	if server.only(t).newest().DPD.Acked {
		t.Error("probed while connecting")
	}
	w.run(time.Minute)
	mustUp(t, client, server)
	if !server.only(t).newest().DPD.Acked {
		t.Error("not probed once it was up")
	}
}

// TestDPDNeverTowardsL2TP: K10, whatever the timers are.
func TestDPDNeverTowardsL2TP(t *testing.T) {
	w, client, server := pair(t)
	server.e.cfg.DPD = junos
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	w.run(40 * time.Minute)
	if server.reads != 0 || server.only(t).newest().DPD.Acked {
		t.Errorf("%d reads", server.reads)
	}
}

// TestTrafficNotRead: without an answer to ReadTraffic nobody is probed, and the
// question is repeated.
func TestTrafficNotRead(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	r.e.cfg.DPD = junos
	s := newSubscriber(r, offers.AppleCisco())
	s.in()
	if !s.tunnel(offers.AppleCisco(), "10.9.0.7", "0.0.0.0/0").run() {
		t.Fatal("not up")
	}
	n, sent := len(r.dynamic), len(r.sends)
	r.pass(10 * time.Minute)
	if reads := len(r.dynamic) - n; reads < 10 || reads > 25 || len(r.down) != 0 || len(r.sends) != sent {
		t.Errorf("%d reads, %d datagrams, down %+v", reads, len(r.sends)-sent, r.down)
	}
	r.give(TrafficRead{Conn: s.id() + 1}) // of a connection that has gone
}
