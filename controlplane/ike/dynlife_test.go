package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// TestDynamicRekey: phase 1 rekeys of a known subscriber leave the user alone and
// the address in place, unless the profile wants otherwise; then quick modes on
// the new SA wait for the decision. Hybrid clients are always asked.
func TestDynamicRekey(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(client, server *node)
		asked bool
	}{
		{"left alone", func(_, _ *node) {}, false},
		{"asked again", func(_, s *node) { s.e.cfg.Tunnels[0].Reauthenticate = true }, true},
		{"no XAuth at all", func(_, s *node) {
			s.e.cfg.Tunnels[0].Reauthenticate, s.e.cfg.Tunnels[0].XAuth, s.decide.noUser = true, XAuthNone, true
		}, false},
	} {
		for _, nat := range []bool{false, true} {
			w, client, server := dynPair(t)
			if nat {
				w.nat("203.0.113.9", false, client)
			}
			c.setup(client, server)
			client.subscribe()
			w.run(5 * time.Second)
			mustUp(t, client, server)
			for range 3 {
				client.step(Rekey{Conn: client.up[0].ID, Phase1: true})
				w.run(200 * time.Millisecond)
				client.step(Rekey{Conn: client.up[0].ID})
				w.run(2 * time.Minute)
				agree(t, client, server)
				if n := len(server.only(t).Phase1); n != 1 {
					t.Errorf("%s: %d phase 1 SAs", c.name, n)
				}
			}
			asked := len(server.decide.ups) == 4
			if len(server.up) != 1 || len(server.down)+len(client.down) != 0 || asked != c.asked || !asked && len(server.decide.ups) != 1 {
				t.Errorf("%s: up %d, down %v %v, asked %+v\n%s", c.name, len(server.up), server.down, client.down, server.decide.ups, words(server.reports, client.reports))
			}
			for _, u := range server.decide.ups[1:] {
				if !u.Rekey || u.Conn.ID != server.up[0].ID {
					t.Errorf("%s: %+v", c.name, u)
				}
			}
			if n := server.only(t).tunnels(); n != 1 {
				t.Errorf("%s: %d tunnels", c.name, n)
			}
			if len(client.configured) != 1 {
				t.Errorf("%s: configured %d times", c.name, len(client.configured))
			}
		}
	}
}

// TestReauthenticationFails: a user who is asked again and fails loses everything.
func TestReauthenticationFails(t *testing.T) {
	w, client, server := dynPair(t)
	server.e.cfg.Tunnels[0].Reauthenticate = true
	client.subscribe()
	w.run(5 * time.Second)
	mustUp(t, client, server)
	server.decide.passwords["joe"] = "another"
	client.step(Rekey{Conn: client.up[0].ID, Phase1: true})
	w.run(5 * time.Second)
	if len(server.down) != 1 || server.down[0].Reason != "bad-password" || len(server.kernel) != 0 {
		t.Errorf("down %+v, %d SAs", server.down, len(server.kernel))
	}
	w.run(2 * time.Minute)
	empty(t, client, server)
}

// TestAppleIsNotAskedAgain: clients.md 3.4, whatever the profile says; and the
// bare STATUS=OK comes without a question.
func TestAppleIsNotAskedAgain(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	r.e.cfg.Tunnels[0].Reauthenticate = true
	offer := offers.AppleCisco()
	s := newSubscriber(r, offer)
	s.in()
	if !s.tunnel(offer, "10.9.0.7", "0.0.0.0/0").run() {
		t.Fatal("not up")
	}
	again := newSubscriber(r, offer)
	if !again.phase1() {
		t.Fatal("no rekey")
	}
	n := len(r.dynamic)
	before := len(r.sends)
	r.pass(time.Second)
	v := again.only1(r.sends[before:], isakmp.ConfigSet)
	if a, ok := v.set.Find(isakmp.XAuthStatus); !ok || !slices.Equal(a.Value, []byte{0, 1}) {
		t.Errorf("verdict %v", v)
	}
	// Quick mode does not wait for the ACK, which older clients leave out.
	if !again.tunnel(offer, "10.9.0.7", "0.0.0.0/0").run() {
		t.Error("no tunnel under the new SA")
	}
	r.pass(5 * time.Minute)
	if len(r.dynamic) != n || len(r.down) != 0 || len(r.up) != 1 {
		t.Errorf("%d events, down %+v", len(r.dynamic)-n, r.down)
	}
}

// TestNoRekeyTowardsSubscribers: J3, phase 1 is never begun by us; the children
// are replaced by us if the peer does not.
func TestNoRekeyTowardsSubscribers(t *testing.T) {
	w, client, server := dynPair(t)
	client.e.cfg.RekeyMargin = 1000
	client.subscribe()
	w.run(5 * time.Second)
	mustUp(t, client, server)
	server.step(Rekey{Conn: server.up[0].ID, Phase1: true})
	w.run(5 * time.Hour)
	if n := client.e.counters[CountPhase1Up]; n != 1 {
		t.Errorf("%d phase 1 SAs", n)
	}
	if n := server.e.counters[CountChildRekey]; n < 4 {
		t.Errorf("%d rekeys of phase 2 in five hours", n)
	}
	agree(t, client, server)
	w.run(24 * time.Hour)
	if len(server.down) != 1 || len(server.kernel) != 0 {
		t.Errorf("down %+v, %d SAs long after phase 1 has expired", server.down, len(server.kernel))
	}
}

// TestTunnels: each network has its own child, none replaces another's, and their
// number is bounded (J11).
func TestTunnels(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	offer := offers.AppleCisco()
	s := newSubscriber(r, offer)
	s.in()
	for i := range maxTunnels {
		if !s.tunnel(offer, "10.9.0.7", fmt.Sprintf("10.%d.0.0/16", i)).run() {
			t.Fatalf("tunnel %d refused\n%v", i, words(r.reports))
		}
	}
	if q := s.tunnel(offer, "10.9.0.7", "172.16.0.0/16"); q.run() || q.notify != isakmp.NoProposalChosen || r.e.counters[ReasonTooMany] != 1 {
		t.Errorf("one more: %v", q.notify)
	}
	r.pass(2 * time.Minute)
	if len(r.kernel) != 2*maxTunnels || len(r.up) != 1 {
		t.Errorf("%d SAs, %d up", len(r.kernel), len(r.up))
	}
	// A rekey, with the address as a subnet now, replaces its own network's.
	q := s.tunnel(offer, "10.9.0.7/32", "10.3.0.0/16")
	if !q.run() {
		t.Fatal("rekey refused")
	}
	r.pass(2 * time.Minute)
	if len(r.kernel) != 2*maxTunnels {
		t.Errorf("%d SAs after a rekey", len(r.kernel))
	}
	c := r.e.conns[s.id()]
	if c.tunnels() != maxTunnels {
		t.Errorf("%d tunnels after a rekey", c.tunnels())
	}
	// Deleting one leaves the others.
	s.info(isakmp.DeleteESP(q.spi).Payload())
	if len(r.kernel) != 2*maxTunnels-2 || len(r.down) != 0 {
		t.Errorf("%d SAs after a delete, down %+v", len(r.kernel), r.down)
	}
	// Our own rekeys keep the networks apart.
	nets := map[netip.Prefix]int{}
	for _, ch := range slices.Clone(c.Children) {
		nets[ch.In.LocalNet]++
		r.give(SAExpired{SPI: ch.In.SPI, Dir: Inbound})
	}
	p := c.newest()
	mine := 0
	for _, q := range p.quicks {
		if q.Initiator {
			mine++
			nets[q.local]--
		}
	}
	if mine != maxQuicks {
		t.Errorf("%d rekeys at once, want %d", mine, maxQuicks)
	}
	for n, left := range nets {
		if left < 0 {
			t.Errorf("%v is rekeyed twice", n)
		}
	}
}

// TestDynamicSelectors: what a subscriber may ask for (J11).
func TestDynamicSelectors(t *testing.T) {
	offer := offers.AppleCisco()
	for _, c := range []struct {
		name      string
		setup     func(*TunnelProfile)
		own, net  string
		change    func(*quickScript)
		notify    isakmp.NotifyType // 0: accepted
		reason    Reason
		transport bool
	}{
		{name: "everything", own: "10.9.0.7", net: "0.0.0.0/0"},
		{name: "a subnet of one", own: "10.9.0.7/32", net: "10.0.0.0/8"},
		{name: "a range of one", own: "10.9.0.7", net: "0.0.0.0/0", change: func(q *quickScript) {
			q.idi = isakmp.ID{Type: isakmp.IDIPv4Range, Data: []byte{10, 9, 0, 7, 10, 9, 0, 7}}
			q.idr = isakmp.ID{Type: isakmp.IDIPv4Range, Data: []byte{0, 0, 0, 0, 255, 255, 255, 255}}
		}},
		{name: "a range that is no network", own: "10.9.0.7", net: "0.0.0.0/0", change: func(q *quickScript) {
			q.idr = isakmp.ID{Type: isakmp.IDIPv4Range, Data: []byte{10, 0, 0, 1, 10, 0, 0, 9}}
		}, notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "another's address", own: "10.9.0.8", net: "0.0.0.0/0", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "more than its address", own: "10.9.0.0/24", net: "0.0.0.0/0", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "its outer address", own: "198.51.100.7", net: "0.0.0.0/0", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "inside our networks", setup: ourNets, own: "10.9.0.7", net: "172.16.5.0/24"},
		{name: "everything, with networks", setup: ourNets, own: "10.9.0.7", net: "0.0.0.0/0"},
		{name: "outside our networks", setup: ourNets, own: "10.9.0.7", net: "172.16.0.0/8", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "a network around its address", setup: theirNets, own: "10.9.0.0/24", net: "0.0.0.0/0"},
		{name: "a part of it", setup: theirNets, own: "10.9.0.0/28", net: "0.0.0.0/0"},
		{name: "a part that its address is not in", setup: theirNets, own: "10.9.0.16/28", net: "0.0.0.0/0", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "more than the network", setup: theirNets, own: "10.9.0.0/16", net: "0.0.0.0/0", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "another's address in the network", setup: theirNets, own: "10.9.0.8", net: "0.0.0.0/0", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "a network behind it", setup: theirNets, own: "192.168.50.0/24", net: "0.0.0.0/0", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "no selectors", own: "10.9.0.7", net: "0.0.0.0/0", change: func(q *quickScript) { q.noIDs = true }, notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "L2TP", own: "10.9.0.7", net: "0.0.0.0/0", change: func(q *quickScript) {
			q.idi, q.idr = isakmp.AddrID(q.s.inner, udp, 0), isakmp.AddrID(q.s.outer, udp, 1701)
		}, notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "a protocol", own: "10.9.0.7", net: "0.0.0.0/0", change: func(q *quickScript) { q.idr.Protocol = 6 }, notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
		{name: "transport mode", own: "10.9.0.7", net: "0.0.0.0/0", transport: true, notify: isakmp.NoProposalChosen, reason: ReasonTransportMode},
		{name: "IPv6", own: "2001:db8::7", net: "::/0", notify: isakmp.InvalidIDInformation, reason: ReasonSelectors},
	} {
		r := dynRig(t, ProfileCompatible)
		if c.setup != nil {
			c.setup(&r.e.cfg.Tunnels[0])
		}
		s := newSubscriber(r, offer)
		s.in()
		q := s.tunnel(offer, c.own, c.net)
		if c.transport {
			q.sa = offers.AppleL2TP().QuickSA(q.spi, isakmp.NATTNone)
		}
		if c.change != nil {
			c.change(q)
		}
		ok := q.run()
		if ok != (c.notify == 0) || q.notify != c.notify || c.reason != "" && r.e.counters[c.reason] != 1 {
			t.Errorf("%s: accepted %v, notify %v, want %v\n%s", c.name, ok, q.notify, c.notify, words(r.reports))
		}
		if !ok && len(r.kernel) != 0 {
			t.Errorf("%s: %d SAs", c.name, len(r.kernel))
		}
	}
}

func ourNets(t *TunnelProfile) { t.LocalNets = []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")} }

func theirNets(t *TunnelProfile) {
	t.PeerNets = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("192.168.50.0/24")}
}

// TestPFSOfTunnels: K9 with a tunnel profile, either demanded or only accepted.
func TestPFSOfTunnels(t *testing.T) {
	for _, c := range []struct{ client, server keymat.Group }{{0, 0}, {keymat.MODP2048, keymat.MODP2048}, {keymat.ECP256, 0}, {keymat.ECP384, keymat.MODP2048}} {
		w, client, server := dynPair(t)
		client.e.cfg.Tunnels[0].PFS, server.e.cfg.Tunnels[0].PFS = c.client, c.server
		client.subscribe()
		w.run(5 * time.Second)
		mustUp(t, client, server)
	}
	w, client, server := dynPair(t)
	server.e.cfg.Tunnels[0].PFS = keymat.MODP2048
	client.subscribe()
	w.run(2 * time.Minute)
	if len(server.up) != 0 || server.e.counters[ReasonPFS] == 0 {
		t.Errorf("up without PFS: %v", server.e.Counters())
	}
}

// TestLeftAlone: J9, one minute after the peer has deleted all of its SAs the
// connection is over, and not before. Within it a group's member begins another
// connection.
func TestLeftAlone(t *testing.T) {
	for _, order := range []string{"phase 2 first", "phase 1 first"} {
		r := dynRig(t, ProfileCompatible)
		offer := offers.AppleCisco()
		s := newSubscriber(r, offer)
		s.in()
		q := s.tunnel(offer, "10.9.0.7", "0.0.0.0/0")
		if !q.run() {
			t.Fatal("not up")
		}
		esp, ike := isakmp.DeleteESP(q.spi).Payload(), isakmp.DeleteISAKMP(s.cookies.I, s.cookies.R).Payload()
		if order == "phase 2 first" {
			s.info(esp)
			s.info(ike)
		} else {
			s.info(ike)
			s.info(esp)
		}
		r.pass(50 * time.Second)
		if len(r.down) != 0 || len(r.kernel) != 0 || len(r.e.conns) != 1 {
			t.Fatalf("%s: down %+v, %d SAs, %d connections", order, r.down, len(r.kernel), len(r.e.conns))
		}
		r.pass(20 * time.Second)
		if len(r.down) != 1 || r.down[0].Reason != ReasonPeerDelete || !r.down[0].ByPeer || len(r.e.conns)+len(r.e.sas)+len(r.e.timers) != 0 {
			t.Errorf("%s: down %+v, %d connections, %d timers", order, r.down, len(r.e.conns), len(r.e.timers))
		}
	}

	r := dynRig(t, ProfileCompatible)
	offer := offers.AppleCisco()
	s := newSubscriber(r, offer)
	s.in()
	q := s.tunnel(offer, "10.9.0.7", "0.0.0.0/0")
	q.run()
	first := s.id()
	s.info(isakmp.DeleteESP(q.spi).Payload())
	s.info(isakmp.DeleteISAKMP(s.cookies.I, s.cookies.R).Payload())
	r.pass(30 * time.Second)
	again := newSubscriber(r, offer)
	again.phase1()
	if len(r.down) != 1 || r.down[0].Conn.ID != first || again.id() == first {
		t.Errorf("a member of the group inherits: down %+v", r.down)
	}
}

// TestLeftWithCertificate: within the minute of J9 a peer whose certificate has
// proven its identity goes on with its connection.
func TestLeftWithCertificate(t *testing.T) {
	w, client, server := dynPair(t)
	rsaOnly := func(c *Config, name string) {
		c.Credentials = []Credential{credential(name, "authority")}
		c.Authorities = [][]byte{nameDER("authority")}
		c.Tunnels[0].Credential = name
	}
	rsaOnly(&server.e.cfg, "server")
	rsaOnly(&client.e.cfg, "client")
	open := func(i *Initiate) { i.Method, i.Key, i.Credential = AuthXAuthRSA, "", "client" }
	client.subscribe(open)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	first := server.up[0]
	if first.Subject != "CN=client" {
		t.Errorf("subject %q", first.Subject)
	}
	client.step(CloseAll{Reason: ReasonOperator})
	w.run(30 * time.Second)
	if len(server.down) != 0 || len(server.kernel) != 0 {
		t.Fatalf("down %+v", server.down)
	}
	// With another connection to the server a client sends no INITIAL-CONTACT.
	client.e.conns[1] = &conn{Info: ConnInfo{ID: 1, Local: first.Remote, Remote: first.Local}}
	client.subscribe(open)
	w.run(2 * time.Minute)
	delete(client.e.conns, 1)
	if len(server.down) != 0 || len(server.up) != 1 || server.only(t).Info.ID != first.ID || len(server.decide.ups) != 1 {
		t.Errorf("down %+v, up %d, asked %d times\n%s", server.down, len(server.up), len(server.decide.ups), words(server.reports, client.reports))
	}
	agree(t, client, server)
}

// TestNoIsNo: who has been denied, or is being asked again, does not get in by
// another phase 1, as an Apple client or otherwise.
func TestNoIsNo(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	r.e.cfg.Tunnels[0].Reauthenticate = true
	offer := offers.AppleCisco()
	plain := offer // the same without what makes it Apple's
	plain.Vendors = []isakmp.Payload{isakmp.VendorPayload(isakmp.VendorXAuth, 0), isakmp.VendorPayload(isakmp.VendorRFC3947, 0)}
	s := newSubscriber(r, plain)
	s.in()
	if !s.tunnel(offer, "10.9.0.7", "0.0.0.0/0").run() {
		t.Fatal("not up")
	}
	id := s.id()
	asked := newSubscriber(r, plain)
	asked.asked()
	apple := newSubscriber(r, offer)
	apple.asked() // not left alone
	if u := r.dynamic[len(r.dynamic)-1].(DynamicUp); !u.Rekey || u.Conn.ID != id {
		t.Errorf("%+v", u)
	}
	r.give(Deny{Conn: id, Reason: "bad-password"})
	again := newSubscriber(r, offer)
	if !again.phase1() || len(r.down) != 1 || r.down[0].Reason != "bad-password" || again.id() == id {
		t.Fatalf("down %+v", r.down)
	}
	if again.tunnel(offer, "10.9.0.7", "0.0.0.0/0").run() {
		t.Error("the denied subscriber is in")
	}
}

// TestSubscribersForADay keeps subscribers through a day of rekeys of both phases
// on a network that loses, duplicates and reorders.
func TestSubscribersForADay(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	w, server, clients := dynCrowd(t, 60)
	server.e.cfg.DPD = junos
	server.traffic = func(ConnID) (in, out uint64) { return uint64(w.now.Unix()), uint64(w.now.Unix()) }
	for _, x := range clients {
		x.subscribe()
	}
	w.run(time.Minute)
	w.loss, w.dup, w.jitter = 0.1, 0.1, time.Second
	w.run(24 * time.Hour)
	w.loss, w.dup, w.jitter = 0, 0, 0
	w.run(10 * time.Minute)
	alive := 0
	for _, x := range clients {
		if len(x.up) == 1 && len(x.down) == 0 {
			alive++
			agreeWithin(t, x, serverPart(server, x))
		}
	}
	if alive < 58 || len(server.decide.ups) > 62 {
		t.Errorf("%d of 60 left, %d were asked\n%v", alive, len(server.decide.ups), server.e.Counters())
	}
	for _, d := range server.down {
		t.Logf("%v: %s %s", d.Conn.Remote, d.Reason, d.Text)
	}
	for _, x := range clients {
		x.step(CloseAll{Reason: ReasonShutdown})
		x.step(Reconfigure{})
	}
	w.run(12 * time.Hour)
	empty(t, server)
	empty(t, clients...)
}
