package ike

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// passing lets the profile of a configuration pass NATs.
func passing(c Config) Config {
	c.Transports[0].NATPassthrough = true
	return c
}

// passRig is a responder with NAT passthrough.
func passRig(t testing.TB, keys ...PresharedKey) *rig {
	if len(keys) == 0 {
		keys = []PresharedKey{groupKey}
	}
	return newRig(t, passing(at(testConfig(t, ProfileCompatible, keys...), "192.0.2.1")))
}

// oldClient is a peer at a private address behind the NAT at 198.51.100.7, and knows nothing of NAT-T.
func oldClient(r *rig, private string) (*script, offers.Offer) {
	o := offers.AppleL2TP()
	o.NATT, o.Vendors = isakmp.NATTNone, nil
	s := newScript(r, o)
	s.inner = netip.MustParseAddr(private)
	s.id = isakmp.AddrID(s.inner, 0, 0)
	return s, o
}

// TestPassthroughSelectors: B1r, B2r. Who the SA is for and whether the checksum under it is looked
// at, by what the profile allows, what the peer knows of NAT-T and what it calls itself.
func TestPassthroughSelectors(t *testing.T) {
	private, public := isakmp.AddrID(netip.MustParseAddr("10.0.0.5"), udp, 1701), isakmp.AddrID(netip.MustParseAddr("198.51.100.7"), udp, 1701)
	name := isakmp.ID{Type: isakmp.IDFQDN, Protocol: udp, Port: 1701, Data: []byte("pc")}
	for _, c := range []struct {
		name     string
		passes   bool // the profile
		natt     bool // ours
		client   bool // NAT-T, the client's
		idi      isakmp.ID
		ok, skip bool
	}{
		{"private address", true, true, false, private, true, true},
		{"private address, NAT-T off", true, false, true, private, true, true},
		{"address of the NAT", true, true, false, public, true, true},
		{"name (Windows 2000)", true, true, false, name, true, true},
		{"a net", true, true, false, isakmp.PrefixID(netip.MustParsePrefix("10.0.0.0/24"), udp, 1701), false, false},
		{"NAT-T", true, true, true, private, true, false},
		{"without it: private address", false, true, false, private, false, false},
		{"without it: private address, NAT-T off", false, false, true, private, false, false},
		{"without it: name", false, true, false, name, false, false},
		{"without it: address of the NAT (B4r)", false, true, false, public, true, false},
		{"without it: NAT-T", false, true, true, private, true, false},
	} {
		cfg := at(testConfig(t, ProfileCompatible, groupKey), "192.0.2.1")
		cfg.NATT = c.natt
		if c.passes {
			cfg = passing(cfg)
		}
		r := newRig(t, cfg)
		s, o := oldClient(r, "10.0.0.5")
		if c.client {
			o = offers.AppleL2TP()
			s = newScript(r, o).behindNAT()
		}
		if !c.natt {
			s.natt = isakmp.NATTNone // as the answer says
		}
		if !s.phase1() {
			t.Fatalf("%s: no phase 1\n%s", c.name, words(r.reports))
		}
		q := s.quick(o)
		q.idi = c.idi
		if ok := q.run(); ok != c.ok {
			t.Errorf("%s: up %v\n%s", c.name, ok, words(r.reports))
			continue
		}
		if !c.ok {
			if q.notify != isakmp.InvalidIDInformation || r.e.Counters()[ReasonSelectors] != 1 || len(r.kernel) != 0 {
				t.Errorf("%s: notify %v, %v", c.name, q.notify, r.e.Counters())
			}
			if last := r.reports[len(r.reports)-1].Text; !c.passes && !contains(last, "nat-passthrough") {
				t.Errorf("%s: %q does not say what would help", c.name, last)
			}
			continue
		}
		for _, sa := range r.kernel {
			if sa.SkipChecksum != c.skip || sa.Encap != (c.natt && c.client) || sa.Remote.Addr() != s.remote.Addr() {
				t.Errorf("%s: SA %+v", c.name, sa)
			}
		}
		if i := r.up[0]; i.NATPassthrough != c.skip {
			t.Errorf("%s: %+v", c.name, i)
		}
	}
}

// TestPassthroughAlone: B3r, one user behind each NAT. Another one is told, and is no harm to the
// first; when that has gone it gets in.
func TestPassthroughAlone(t *testing.T) {
	r := passRig(t)
	first, o := oldClient(r, "10.0.0.5")
	if !first.phase1() || !first.quick(o).run() {
		t.Fatalf("not up\n%s", words(r.reports))
	}
	second, _ := oldClient(r, "10.0.0.6")
	second.remote = netip.MustParseAddrPort("198.51.100.7:1024")
	second.phase1()
	if last := r.sends[len(r.sends)-1]; last.Remote != second.remote || last.Data[18] != byte(isakmp.Informational) {
		t.Error("the second user is not told")
	}
	if r.e.Counters()[ReasonPassthrough] != 1 || len(r.e.conns) != 1 || len(r.down) != 0 || len(r.e.sas) != 1 {
		t.Fatalf("%d connections, down %v, %v", len(r.e.conns), r.down, r.e.Counters())
	}
	if last := r.reports[len(r.reports)-1]; last.Reason != ReasonPassthrough || !contains(last.Text, "10.0.0.6") || !contains(last.Text, "10.0.0.5") {
		t.Errorf("report %+v", last)
	}
	// Who speaks NAT-T is none of them, and neither is who comes from elsewhere.
	modern := newScript(r, offers.AppleL2TP()).behindNAT()
	modern.inner = netip.MustParseAddr("10.0.0.7")
	modern.id = isakmp.AddrID(modern.inner, 0, 0)
	if !modern.phase1() || !modern.quick(offers.AppleL2TP()).run() {
		t.Errorf("NAT-T behind the same NAT\n%s", words(r.reports))
	}
	elsewhere, _ := oldClient(r, "10.0.0.6")
	elsewhere.remote = netip.MustParseAddrPort("198.51.100.8:500")
	if !elsewhere.phase1() || !elsewhere.quick(o).run() {
		t.Errorf("behind another NAT\n%s", words(r.reports))
	}
	first.info(isakmp.DeleteISAKMP(first.cookies.I, first.cookies.R).Payload())
	r.give(CloseConn{Conn: r.up[0].ID})
	again, _ := oldClient(r, "10.0.0.6")
	if !again.phase1() || !again.quick(o).run() {
		t.Errorf("not in when the place is free\n%s", words(r.reports))
	}
}

// TestPassthroughComesBack: B3r. The user who holds the place is known by its identity, wherever the
// NAT sends it from now: a rekey continues its connection, what follows a restart replaces
// it, and so does the same user with another key.
func TestPassthroughComesBack(t *testing.T) {
	two := PresharedKey{Name: "two", Key: secret("another secret"), ID: "10.0.0.5"}
	begin := func(t *testing.T) (*rig, offers.Offer, ConnID) {
		r := passRig(t, groupKey, two)
		s, o := oldClient(r, "10.0.0.5")
		if !s.phase1() || !s.quick(o).run() {
			t.Fatalf("not up\n%s", words(r.reports))
		}
		return r, o, r.up[0].ID
	}
	back := func(r *rig) *script {
		s, _ := oldClient(r, "10.0.0.5")
		s.remote = netip.MustParseAddrPort("198.51.100.7:61000")
		return s
	}
	t.Run("rekey from another port", func(t *testing.T) {
		r, o, id := begin(t)
		s := back(r)
		if !s.phase1() || !s.quick(o).run() {
			t.Fatalf("no rekey\n%s", words(r.reports))
		}
		c := r.e.sortedConns()[0]
		if len(r.e.conns) != 1 || c.Info.ID != id || c.Info.Remote != s.remote || len(r.down) != 0 {
			t.Errorf("connections %+v, down %v", r.e.Conns(), r.down)
		}
		if len(r.moved) != 0 {
			t.Errorf("SAs without ports are moved: %+v", r.moved)
		}
	})
	t.Run("restart", func(t *testing.T) {
		r, o, id := begin(t)
		s := back(r)
		if !s.main1() || !s.main3() || !s.main5(isakmp.InitialContactNotify(s.cookies.I, s.cookies.R).Payload()) || !s.quick(o).run() {
			t.Fatalf("not in\n%s", words(r.reports))
		}
		if len(r.down) != 1 || r.down[0].Conn.ID != id || r.down[0].Reason != ReasonInitialContact || len(r.e.conns) != 1 || len(r.kernel) != 2 {
			t.Errorf("down %v, %d SAs", r.down, len(r.kernel))
		}
	})
	t.Run("another key", func(t *testing.T) {
		r, o, id := begin(t)
		s := back(r)
		s.psk = two.Key
		if !s.phase1() || !s.quick(o).run() {
			t.Fatalf("not in\n%s", words(r.reports))
		}
		if len(r.down) != 1 || r.down[0].Conn.ID != id || r.down[0].Reason != ReasonReplaced || len(r.e.conns) != 1 || len(r.kernel) != 2 {
			t.Errorf("down %v, %d SAs", r.down, len(r.kernel))
		}
	})
}

// TestPassthroughForADay: two engines, one behind a NAT that forgets, over all rekeys and restarts of
// the server's program.
func TestPassthroughForADay(t *testing.T) {
	w, client, server := pair(t)
	server.e.cfg = passing(server.e.cfg)
	client.e.cfg.NATT = false
	x := w.nat("203.0.113.9", false, client)
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	if i := server.up[0]; !i.NATPassthrough || i.NATPeer || i.Encap {
		t.Fatalf("%+v", i)
	}
	for range 72 {
		w.run(20 * time.Minute)
		x.rebind()
		b, err := server.e.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		e := New(server.e.cfg, rand.Reader)
		if _, err := e.Restore(w.now, b); err != nil {
			t.Fatal(err)
		}
		if len(e.behind) != 1 || e.natt[nattKey{}] != 0 {
			t.Fatalf("restored %v", e.behind)
		}
		server.e = e
		server.alarm()
		agree(t, client, server)
	}
	for _, sa := range server.kernel {
		if !sa.SkipChecksum {
			t.Errorf("a rekeyed SA has its checksum looked at: %+v", sa)
		}
	}
	if len(client.down)+len(server.down) != 0 || len(server.e.conns) != 1 {
		t.Errorf("down %v %v", client.down, server.down)
	}
	x.rebind()
	client.step(Rekey{Conn: client.up[0].ID, Phase1: true})
	w.run(time.Minute)
	if len(server.e.conns) != 1 || server.only(t).Info.ID != server.up[0].ID || len(server.up) != 1 {
		t.Errorf("a rekey from another port of the NAT begins another connection: %+v", server.e.Conns())
	}
	client.step(CloseAll{Reason: ReasonShutdown})
	w.run(3 * time.Minute)
	empty(t, client, server)
}

// TestNATTSwitched: C2r. A change of the option holds for the next call, and a call that is under way
// keeps what it has over both phases' rekeys, since it would lose its way otherwise.
func TestNATTSwitched(t *testing.T) {
	w := newWorld(t)
	server := w.add("server", "192.0.2.1", passing(at(testConfig(t, ProfileCompatible, groupKey), "192.0.2.1")))
	call := func(i int) *node {
		addr := fmt.Sprintf("10.0.0.%d", i)
		c := w.add(fmt.Sprint("client ", i), addr, at(testConfig(t, ProfileCompatible, groupKey), addr))
		w.nat(fmt.Sprintf("203.0.113.%d", i), true, c)
		c.dial("192.0.2.1", uint64(i), 1701)
		w.run(5 * time.Second)
		if len(c.up) != 1 {
			t.Fatalf("call %d is not up: %+v\n%s", i, c.down, words(server.reports))
		}
		return c
	}
	natt := func(on bool) {
		cfg := server.e.cfg
		cfg.NATT = on
		server.step(Reconfigure{Config: cfg})
	}
	with := call(1)
	natt(false)
	without := call(2)
	natt(true)
	after := call(3)
	natt(false)
	w.run(20 * time.Hour) // two rekeys of phase 1
	natt(true)
	w.run(20 * time.Hour)
	for _, c := range []struct {
		n     *node
		encap bool
	}{{with, true}, {without, false}, {after, true}} {
		if len(c.n.up) != 1 || len(c.n.down) != 0 || c.n.up[0].Encap != c.encap {
			t.Errorf("%s: up %+v down %+v", c.n.name, c.n.up, c.n.down)
		}
		agree(t, c.n, serverPart(server, c.n))
		for _, sa := range serverPart(server, c.n).kernel {
			if sa.Encap != c.encap || sa.SkipChecksum == c.encap {
				t.Errorf("%s: after the rekeys %+v", c.n.name, sa)
			}
		}
	}
	if len(server.up) != 3 || len(server.down) != 0 || server.e.Counters()[CountPhase1Rekey] < 6 {
		t.Errorf("server: %d came up, down %v, %v", len(server.up), server.down, server.e.Counters())
	}
	// Who calls again gets what the option says now.
	without.step(CloseAll{Reason: ReasonShutdown})
	w.run(time.Minute)
	without.dial("192.0.2.1", 9, 1701)
	w.run(5 * time.Second)
	if len(without.up) != 2 || !without.up[1].Encap {
		t.Errorf("the next call of client 2: %+v", without.up)
	}
	for _, n := range w.nodes {
		n.step(CloseAll{Reason: ReasonShutdown})
	}
	w.run(3 * time.Minute)
	for _, n := range w.nodes {
		empty(t, n)
	}
}

// TestGroupKeyLength: D4r, keys of 1 to 256 bytes, all of which count.
func TestGroupKeyLength(t *testing.T) {
	for _, n := range []int{1, 64, 65, 255, 256} {
		k := keymat.Secret(randomBytes(n))
		r := serverRig(t, ProfileCompatible, PresharedKey{Name: "long", Key: k, Group: true})
		s := newScript(r, offers.AppleL2TP())
		s.psk = append(keymat.Secret(nil), k...)
		s.psk[n-1] ^= 1
		if s.phase1() {
			t.Errorf("%d bytes: the last one does not count", n)
		}
		s = newScript(r, offers.AppleL2TP())
		s.psk = k
		if !s.phase1() {
			t.Errorf("%d bytes: no phase 1", n)
		}
	}
}
