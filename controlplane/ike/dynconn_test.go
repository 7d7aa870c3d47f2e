package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestSubscriber connects one dynamic subscriber, with and without NAT, and ends
// it from either side (J3, J4, J7, J8).
func TestSubscriber(t *testing.T) {
	for _, nat := range []bool{false, true} {
		for _, clientEnds := range []bool{false, true} {
			w, client, server := dynPair(t)
			if nat {
				w.nat("203.0.113.9", false, client)
			}
			client.subscribe()
			w.run(5 * time.Second)
			mustUp(t, client, server)
			u := server.decide.ups
			if len(u) != 1 || !u[0].Conn.Dynamic || u[0].Conn.Profile != "staff" || u[0].Rekey || u[0].Conn.Auth != AuthXAuthPSK {
				t.Fatalf("DynamicUp %+v", u)
			}
			up := server.up[0]
			if up.ID != u[0].Conn.ID || up.Address.String() != "10.9.0.1" || !up.Dynamic || up.Encap != nat {
				t.Errorf("ConnUp %+v", up)
			}
			if len(client.configured) != 1 || client.configured[0].Lease.Address != up.Address || client.configured[0].Lease.DNS[0].String() != "10.0.0.53" {
				t.Errorf("the client is configured with %+v", client.configured)
			}
			if got := server.tunnelSAs(Inbound); !slices.Equal(got, []string{"0.0.0.0/0<-10.9.0.1/32"}) {
				t.Errorf("SAs %v", got)
			}
			for _, sa := range server.kernel {
				if sa.Encap != nat || sa.Protocol != 0 || sa.LocalPort != 0 {
					t.Errorf("SA %+v", sa)
				}
			}
			if clientEnds {
				client.step(CloseAll{Reason: ReasonShutdown})
			} else {
				server.step(CloseConn{Conn: up.ID, Reason: ReasonOperator})
			}
			w.run(2 * time.Minute)
			if len(server.down) != 1 || server.down[0].Conn.ID != up.ID || server.down[0].ByPeer != clientEnds {
				t.Errorf("down %+v", server.down)
			}
			empty(t, client, server)
		}
	}
}

// TestSubscribersUnderLoss connects 200 subscribers at once over bad links: all
// come up, or fail with a reason, and nothing is left when they go.
func TestSubscribersUnderLoss(t *testing.T) {
	for _, c := range []struct {
		name      string
		loss, dup float64
		jitter    time.Duration
		least     int
	}{
		{"clean", 0, 0, 0, 200}, {"loss", 0.2, 0, 20 * time.Millisecond, 194}, {"late", 0, 0.2, 2 * time.Second, 200},
		{"all of it", 0.2, 0.2, time.Second, 194},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, server, clients := dynCrowd(t, 200)
			w.loss, w.dup, w.jitter = c.loss, c.dup, c.jitter
			for _, x := range clients {
				x.subscribe()
			}
			w.run(90 * time.Second)
			if up := ups(clients); up < c.least {
				t.Errorf("%d of 200 up\n%v", up, server.e.Counters())
			}
			w.loss, w.dup, w.jitter = 0, 0, 0
			w.run(3 * time.Minute)
			seen := map[string]bool{}
			for _, x := range clients {
				if len(x.up) == 0 && len(x.down) == 0 {
					t.Errorf("%s is neither up nor down", x.name)
				}
				if len(x.up) == 1 && len(x.down) == 0 {
					agree(t, x, serverPart(server, x))
					if a := x.up[0].Address.String(); seen[a] {
						t.Errorf("%s is %s too", x.name, a)
					} else {
						seen[a] = true
					}
				}
			}
			ended := func() {
				t.Helper()
				// Each DynamicUp has its ConnDown or its connection.
				for _, u := range server.decide.ups {
					downs := 0
					for _, d := range server.down {
						if d.Conn.ID == u.Conn.ID {
							downs++
						}
					}
					alive := 0
					if server.e.conns[u.Conn.ID] != nil {
						alive = 1
					}
					if downs+alive != 1 && !u.Rekey {
						t.Errorf("connection %d: %d times down, alive %d", u.Conn.ID, downs, alive)
					}
				}
			}
			ended()
			for _, x := range clients {
				x.step(CloseAll{Reason: ReasonShutdown})
			}
			w.run(3 * time.Minute)
			ended()
			empty(t, server)
			empty(t, clients...)
		})
	}
}

// TestSubscriberRefused: a wrong password, a user that cancels, a decision that
// never comes and a question that nobody answers end in a typed reason at both
// ends, and phase 1 is deleted at once.
func TestSubscriberRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		setup   func(c, s *node)
		open    func(*Initiate)
		reason  Reason
		client  Reason
		within  time.Duration
		answers int
	}{
		{"wrong password", nil, func(i *Initiate) { i.Password = secret("no") }, "bad-password", ReasonXAuthFailed, time.Second, 1},
		{"unknown user", nil, func(i *Initiate) { i.User = "nobody" }, "bad-password", ReasonXAuthFailed, time.Second, 1},
		{"no user at all", nil, func(i *Initiate) { i.User = "" }, "user-refused", ReasonPeerDelete, time.Second, 1},
		{"an answer is asked for", func(_, s *node) { s.decide.ask = AskUser{Answer: true, Message: "y/n?"} }, nil, "user-refused", ReasonPeerDelete, time.Second, 1},
		{"a PIN is asked for", func(_, s *node) { s.decide.ask = AskUser{NextPIN: true} }, nil, "user-refused", ReasonPeerDelete, time.Second, 1},
		{"no decision", func(_, s *node) { s.decide.silent = true }, nil, ReasonUndecided, ReasonPeerDelete, 125 * time.Second, 0},
		{"CHAP, wrong password", func(_, s *node) { s.e.cfg.Tunnels[0].XAuth = XAuthRADIUSCHAP }, func(i *Initiate) { i.Password = secret("no") },
			"bad-password", ReasonXAuthFailed, time.Second, 1},
	} {
		w, client, server := dynPair(t)
		if c.setup != nil {
			c.setup(client, server)
		}
		change := []func(*Initiate){}
		if c.open != nil {
			change = append(change, c.open)
		}
		client.subscribe(change...)
		w.run(c.within)
		if len(server.down) != 1 || server.down[0].Reason != c.reason || len(server.up) != 0 || len(server.decide.ups) != 1 ||
			server.down[0].Conn.ID != server.decide.ups[0].Conn.ID || len(server.decide.answers) != c.answers {
			t.Errorf("%s: server down %+v, answers %+v\n%s", c.name, server.down, server.decide.answers, words(server.reports, client.reports))
		}
		w.run(2 * time.Minute)
		if len(client.down) != 1 || client.down[0].Reason != c.client || len(client.up) != 0 {
			t.Errorf("%s: client down %+v\n%s", c.name, client.down, words(client.reports))
		}
		empty(t, client, server)
	}
}

// TestSubscriberAnswers: what reaches whoever decides is what the user typed,
// with each kind of question, over several rounds of one transaction.
func TestSubscriberAnswers(t *testing.T) {
	w, client, server := dynPair(t)
	server.decide.asks = 3
	client.subscribe()
	w.run(5 * time.Second)
	mustUp(t, client, server)
	if a := server.decide.answers; len(a) != 3 || a[2].Answer.User != "joe" || !a[2].Answer.Password.Equal(secret("secret of joe")) {
		t.Errorf("answers %+v", a)
	}
	w, client, server = dynPair(t)
	server.e.cfg.Tunnels[0].XAuth = XAuthRADIUSCHAP
	client.subscribe()
	w.run(5 * time.Second)
	mustUp(t, client, server)
	if a := server.decide.answers[0].Answer; len(a.Response) != 16 || len(a.Challenge) != challengeLen || a.Password != nil {
		t.Errorf("answer %+v", a)
	}
	w, client, server = dynPair(t)
	server.decide.ask = AskUser{Passcode: true}
	client.subscribe()
	w.run(5 * time.Second)
	if a := server.decide.answers[0].Answer; !a.Passcode.Equal(secret("secret of joe")) || a.Password != nil {
		t.Errorf("answer %+v", a)
	}
}

// TestSubscriberTypesSlowly: the question is repeated until the user has answered
// (Apple's client waits 300 s), and given up behind that.
func TestSubscriberTypesSlowly(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		up    bool
	}{{290 * time.Second, true}, {400 * time.Second, false}} {
		w, client, server := dynPair(t)
		start := w.now
		typed := false
		w.tap = func(from, to netip.AddrPort, marker bool, data []byte) bool {
			// The client's answers are lost until then: it has none.
			if from.Addr() == client.addr && data[18] == 6 && w.now.Sub(start) < c.after {
				return false
			}
			typed = true
			return true
		}
		client.subscribe()
		w.run(c.after + 40*time.Second)
		if up := len(server.up) == 1; up != c.up || !typed {
			t.Errorf("after %v: up %v, down %+v\n%v", c.after, up, server.down, server.e.Counters())
		}
		if !c.up && (len(server.down) != 1 || server.down[0].Reason != ReasonXAuthTimeout) {
			t.Errorf("after %v: down %+v", c.after, server.down)
		}
		if n := server.e.counters[CountRetransmit]; n > 20 {
			t.Errorf("the question was repeated %d times", n)
		}
	}
}

// TestSubscribersBehindOneNAT: users of one group behind one address stay apart,
// over rekeys and when one of them leaves.
func TestSubscribersBehindOneNAT(t *testing.T) {
	w, server, clients := dynCrowd(t, 10)
	for _, x := range clients {
		x.e.cfg.Keys[0].LocalID = "keyid:staff"
	}
	w.nats = map[netip.Addr]*nat{}
	w.nat("203.0.113.9", true, clients...)
	for _, x := range clients {
		x.subscribe()
	}
	w.run(10 * time.Second)
	if len(server.up) != 10 || len(server.e.conns) != 10 {
		t.Fatalf("%d up, %d connections", len(server.up), len(server.e.conns))
	}
	for _, x := range clients {
		x.step(Rekey{Conn: x.up[0].ID, Phase1: true})
	}
	w.run(3 * time.Minute)
	if len(server.decide.ups) != 10 || len(server.down) != 0 {
		t.Errorf("asked %d times, down %+v", len(server.decide.ups), server.down)
	}
	clients[3].step(CloseAll{Reason: ReasonOperator})
	w.run(2 * time.Minute)
	if len(server.down) != 1 || server.down[0].Conn.Address != clients[3].up[0].Address {
		t.Errorf("down %+v", server.down)
	}
	for i, x := range clients {
		if i != 3 && (len(x.down) != 0 || len(x.kernel) != 2) {
			t.Errorf("%s: down %+v, %d SAs", x.name, x.down, len(x.kernel))
		}
	}
}
