package ike

import (
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// upScript is a scripted client with a connection that is up.
func upScript(t *testing.T, o offers.Offer) (*rig, *script, *quickScript) {
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, o)
	if !s.phase1() {
		t.Fatal("no phase 1")
	}
	q := s.quick(o)
	if !q.run() {
		t.Fatal("no quick mode")
	}
	return r, s, q
}

// TestEarlyDelete: Windows deletes the old pair the moment the new one is up, and
// then once more. Sending moves over at once, stragglers are still received.
func TestEarlyDelete(t *testing.T) {
	o := offers.Windows(9)
	r, s, old := upScript(t, o)
	q := s.quick(o)
	if !q.run() {
		t.Fatal("no rekey")
	}
	old1 := saKey(Inbound, old.theirs, s.remote.Addr())
	oldOut := saKey(Outbound, old.spi, s.remote.Addr())
	s.info(isakmp.DeleteESP(old.spi).Payload())
	if _, ok := r.kernel[old1]; !ok {
		t.Error("the old inbound SA is gone at once")
	}
	if _, ok := r.kernel[oldOut]; ok {
		t.Error("the old outbound SA is still there")
	}
	s.info(isakmp.DeleteESP(old.spi).Payload())
	r.pass(10 * time.Second)
	if _, ok := r.kernel[old1]; ok || len(r.kernel) != 2 || len(r.down) != 0 {
		t.Errorf("after a while: %d SAs, down %+v", len(r.kernel), r.down)
	}
	s.info(isakmp.DeleteESP(old.spi).Payload())
	if len(r.kernel) != 2 || len(r.down) != 0 {
		t.Errorf("after the third delete: %d SAs, down %+v", len(r.kernel), r.down)
	}
}

// TestVeryEarlyDelete: the delete of the old SA comes before our kernel has the
// new outbound one: the old one stays until then.
func TestVeryEarlyDelete(t *testing.T) {
	w, client, server := pair(t)
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	old := server.only(t).Children[0]
	client.step(Rekey{Conn: client.up[0].ID})
	for range 1000 {
		w.run(100 * time.Microsecond)
		c := server.only(t)
		if len(c.Children) == 2 && c.Children[1].OutState == saPending {
			server.e.now = w.now
			server.e.peerDeleted(c, old)
			server.perform(server.e.out)
			server.e.out = nil
			if old.OutState != saUp {
				t.Fatal("nothing to send under")
			}
			w.run(time.Second)
			if old.OutState != saNone || old.InState != saUp || !c.Children[1].ready() {
				t.Fatalf("old outbound %d, inbound %d, new ready %v", old.OutState, old.InState, c.Children[1].ready())
			}
			return
		}
	}
	t.Fatal("the moment never came")
}

// TestFourthMessage: the commit bit and the CONNECTED of Windows servers change
// nothing.
func TestFourthMessage(t *testing.T) {
	r, s, q := upScript(t, offers.Windows(9))
	n := isakmp.Notify{DOI: 1, Protocol: isakmp.ProtocolESP, SPI: []byte{1, 2, 3, 4}, Type: isakmp.Connected}.Payload()
	full := hashed(func(rest []byte) []byte { return s.keys.HashInfo(q.mid, rest) }, n)
	if out := s.send(s.seal(isakmp.QuickMode, q.mid, s.iv, full...)); len(out) != 0 || len(r.kernel) != 2 || len(r.down) != 0 {
		t.Errorf("%d answers, %d SAs", len(out), len(r.kernel))
	}
	// Message 1 with the commit bit.
	q = s.quick(offers.Windows(9))
	msg := q.message1()
	msg[19] |= byte(isakmp.FlagCommit)
	if out := s.send(msg); len(out) != 1 || len(r.kernel) != 3 {
		t.Errorf("with the commit bit: %d answers, %d SAs", len(out), len(r.kernel))
	}
}

// TestRepeats: the answer to a repeated message is the same datagram, and only
// while the exchange lasts.
func TestRepeats(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	l := newLadder(r, quickOffer())
	for i := range 5 {
		msg := l.message(i)
		out := l.s.send(msg)
		again := l.s.send(msg)
		switch {
		case i == 4:
			if len(out)+len(again) != 0 {
				t.Errorf("message 3 of quick mode is answered")
			}
		case len(out) != 1 || len(again) != 1 || string(out[0].Data) != string(again[0].Data):
			t.Errorf("message %d: %d answers, then %d, or they differ", i, len(out), len(again))
		}
		if err := l.read(i, out); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.kernel) != 2 {
		t.Errorf("%d SAs", len(r.kernel))
	}
}

// TestQuick2Repeated: the peer is authenticated, so a lost message 2 is repeated,
// at most as often as configured, and everything is undone then.
func TestQuick2Repeated(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, quickOffer())
	if !s.phase1() || !s.quick(quickOffer()).send1() {
		t.Fatal("no message 2")
	}
	before := len(r.sends)
	if len(r.kernel) != 1 {
		t.Fatalf("%d SAs", len(r.kernel))
	}
	r.pass(50 * time.Second)
	if n := len(r.sends) - before; n != defaultRetryTries-1 {
		t.Errorf("%d repeats, want %d", n, defaultRetryTries-1)
	}
	if len(r.kernel) != 0 || len(r.up) != 0 {
		t.Errorf("%d SAs left", len(r.kernel))
	}
	// Without a child the connection ends after the grace period (J9).
	r.pass(2 * time.Minute)
	if len(r.e.conns)+len(r.e.sas) != 0 || r.e.Counters()[ReasonNoChild] != 1 {
		t.Errorf("%d connections, %v", len(r.e.conns), r.e.Counters())
	}
}

// TestKernelRefuses: an SA that the kernel does not take undoes its attempt with
// a notify and a reason, and nobody else notices.
func TestKernelRefuses(t *testing.T) {
	for _, dir := range []Direction{Inbound, Outbound} {
		w, client, server := pair(t)
		server.refuse = func(sa SA) string {
			if sa.Dir == dir {
				return "exists"
			}
			return ""
		}
		client.dial("192.0.2.1", 7, 1701)
		w.run(3 * time.Minute)
		if len(client.up) > 0 && len(client.down) == 0 || len(server.up) != 0 {
			t.Errorf("direction %d: client up %v down %v, server up %v", dir, client.up, client.down, server.up)
		}
		if len(client.down) == 0 || client.down[0].Conn.Ref != 7 {
			t.Errorf("direction %d: client is not told: %+v", dir, client.down)
		}
		if server.e.Counters()[ReasonInstall] == 0 {
			t.Errorf("direction %d: %v", dir, server.e.Counters())
		}
		empty(t, client, server)
	}
	// At a rekey the old SAs live on.
	w, client, server := pair(t)
	client.dial("192.0.2.1", 7, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	server.refuse = func(SA) string { return "no memory" }
	client.step(Rekey{Conn: client.up[0].ID})
	w.run(10 * time.Second)
	agree(t, client, server)
	server.refuse = nil
	w.run(2 * time.Hour)
	agree(t, client, server)
	if len(client.down)+len(server.down) != 0 {
		t.Errorf("down %v %v", client.down, server.down)
	}
}

// TestInitiateFails: every way not to come up is told with a reason.
func TestInitiateFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		setup  func(w *world, client, server *node)
		reason Reason
		text   string
	}{
		{"nobody there", func(w *world, c, s *node) { delete(w.nodes, s.addr) }, ReasonTimeout, "no answer to message 1"},
		{"no common proposal", func(w *world, c, s *node) { s.e.cfg.Rules = s.e.cfg.Rules[:0] }, ReasonTimeout, "NO-PROPOSAL-CHOSEN"},
		{"wrong key", func(w *world, c, s *node) { s.e.cfg.Keys[0].Key = secret("other") }, ReasonTimeout, "the pre-shared keys may differ"},
		{"no profile at the server", func(w *world, c, s *node) { s.e.cfg.Transports = nil }, ReasonPeerRefused, ""},
		{"no rules", func(w *world, c, s *node) { c.e.cfg.Rules = nil }, ReasonConfig, "no IKE policy rule"},
		{"no profile", func(w *world, c, s *node) { c.e.cfg.Transports = nil }, ReasonConfig, `no transport profile "l2tp"`},
		{"worker fails", func(w *world, c, s *node) {
			c.dh = func(j ComputeDH) DHDone { return DHDone{Job: j.Job, Err: "out of order"} }
		}, ReasonDHFailed, "out of order"},
		{"worker silent", func(w *world, c, s *node) {
			c.dh = func(j ComputeDH) DHDone { return DHDone{Job: j.Job + 1000} }
		}, ReasonTimeout, "no answer from the worker"},
	} {
		w, client, server := pair(t)
		c.setup(w, client, server)
		client.dial("192.0.2.1", 3, 1701)
		w.run(3 * time.Minute)
		if len(client.up) != 0 || len(client.down) != 1 {
			t.Errorf("%s: up %v down %v", c.name, client.up, client.down)
			continue
		}
		if d := client.down[0]; d.Reason != c.reason || !contains(d.Text, c.text) || d.Conn.ID != 0 || d.Conn.Ref != 3 {
			t.Errorf("%s: %+v", c.name, d)
		}
		empty(t, client, server)
	}
}

// TestDPD: K10.
func TestDPD(t *testing.T) {
	// Always answered, also without being on.
	r, s, _ := upScript(t, offers.AppleL2TP())
	out := s.info(isakmp.DPDNotify(isakmp.RUThere, s.cookies.I, s.cookies.R, 1000).Payload())
	if len(out) != 1 {
		t.Fatal("R-U-THERE is not answered")
	}
	h, _, _ := isakmp.ParseHeader(out[0].Data)
	_, ps, _ := s.unseal(out[0].Data, s.suite.MessageIV(s.last, h.MessageID))
	n, err := ps[1].Notify()
	if seq, ok := n.DPD(s.cookies.I, s.cookies.R); err != nil || !ok || seq != 1000 || n.Type != isakmp.RUThereAck {
		t.Errorf("answer %+v", n)
	}
	if out = s.info(isakmp.DPDNotify(isakmp.RUThere, s.cookies.I, s.cookies.R, 999).Payload()); len(out) != 0 {
		t.Error("an old sequence number is answered")
	}
	if out = s.info(isakmp.DPDNotify(isakmp.RUThere, s.cookies.I, s.cookies.R, 1000).Payload()); len(out) != 1 {
		t.Error("a repeated sequence number is not answered")
	}
	// Never asked by default.
	sent := len(r.sends)
	r.pass(30 * time.Minute)
	if len(r.sends) != sent {
		t.Error("a peer is probed without being told to")
	}

	// Asked when on: a peer that lives is kept …
	w, client, server := pair(t)
	server.e.cfg.DPDInterval = 30 * time.Second
	client.dial("192.0.2.1", 1, 1701)
	w.run(10 * time.Minute)
	mustUp(t, client, server)
	if w.packets < 20 {
		t.Errorf("%d datagrams: nobody was probed", w.packets)
	}
	// … one whose ESP is heard is left alone …
	quiet := w.packets
	for range 20 {
		server.step(PeerAlive{Conn: server.up[0].ID})
		w.run(20 * time.Second)
	}
	if n := w.packets - quiet; n > 4 {
		t.Errorf("%d datagrams although ESP is heard", n)
	}
	// … one that is dead is gone in time.
	delete(w.nodes, client.addr)
	w.run(30*time.Second + 80*time.Second)
	if len(server.down) != 1 || server.down[0].Reason != ReasonPeerDead {
		t.Errorf("down %+v", server.down)
	}
	empty(t, server)
	// A peer that has not announced DPD (Windows) is not probed.
	r = serverRig(t, ProfileCompatible)
	r.e.cfg.DPDInterval = 30 * time.Second
	o := offers.Windows(9)
	s = newScript(r, o)
	s.phase1()
	s.quick(o).run()
	sent = len(r.sends)
	r.pass(20 * time.Minute)
	if len(r.sends) != sent || len(r.down) != 0 {
		t.Errorf("Windows is probed: %d datagrams", len(r.sends)-sent)
	}
}

// TestFragments: message 5 and quick mode in pieces, in any order; what is never
// finished is forgotten.
func TestFragments(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.Windows(9)
	s := newScript(r, o)
	if !s.main1() || !s.main3() {
		t.Fatal("no message 4")
	}
	split := func(msg []byte, id uint16) [][]byte {
		parts, err := isakmp.Split(msg, 60, id)
		if err != nil || len(parts) < 2 {
			t.Fatalf("%d parts, %v", len(parts), err)
		}
		return parts
	}
	parts := split(s.message5(), 1)
	var out []Send
	for i := range parts {
		out = s.send(parts[len(parts)-1-i]) // last first
	}
	if len(out) != 1 {
		t.Fatal("message 5 in pieces is not answered")
	}
	s.unseal(out[0].Data, s.iv)
	s.last = s.iv
	q := s.quick(o)
	parts = split(q.message1(), 2)
	for i, p := range parts {
		out = s.send(p)
		s.send(parts[0])
		if i < len(parts)-1 && len(out) != 0 {
			t.Fatal("an answer to a piece")
		}
	}
	if len(r.kernel) != 1 {
		t.Errorf("%d SAs after quick mode in pieces", len(r.kernel))
	}
	// A piece that is alone.
	s.send(split(s.quick(o).message1(), 3)[1])
	if r.e.guard.FragBytes == 0 {
		t.Error("the piece is not held")
	}
	r.pass(40 * time.Second)
	if r.e.guard.FragBytes != 0 {
		t.Errorf("%d bytes are held for ever", r.e.guard.FragBytes)
	}
	// Fragments in fragments, and to who has not announced them.
	f := isakmp.Fragment{ID: 9, Number: 1, Last: true, Data: parts[0]}
	m := isakmp.Message{Header: s.header(isakmp.QuickMode, 5), Payloads: []isakmp.Payload{f.Payload()}}
	before := r.e.Counters()[DropFragment]
	if s.send(m.Append(nil)); r.e.Counters()[DropFragment] != before+1 {
		t.Error("a fragment in a fragment is looked at")
	}
	r.e.cfg.Fragmentation = false
	if s.send(parts[0]); r.e.Counters()[DropFragment] != before+2 {
		t.Error("a fragment is taken although fragmentation is off")
	}
}

// TestFragmentsSent: large messages are cut for peers that say they can.
func TestFragmentsSent(t *testing.T) {
	for _, able := range []bool{true, false} {
		w, client, server := pair(t)
		client.e.cfg.MaxFragment, server.e.cfg.MaxFragment = 150, 150
		client.e.cfg.Fragmentation = able
		largest := 0
		w.tap = func(_, _ netip.AddrPort, _ bool, data []byte) bool {
			if data[18] == byte(isakmp.QuickMode) {
				largest = max(largest, len(data))
			}
			return true
		}
		client.dial("192.0.2.1", 1, 1701)
		w.run(5 * time.Second)
		mustUp(t, client, server)
		if able != (largest <= 150) {
			t.Errorf("able %v: largest datagram %d", able, largest)
		}
	}
}

// TestFragmentBudget: many peers with half a message each cannot fill the memory.
func TestFragmentBudget(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.Windows(9)
	for i := range 600 {
		s := newScript(r, o)
		s.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 500)
		if !s.main1() {
			t.Fatal("no message 2")
		}
		for n := range 31 {
			f := isakmp.Fragment{ID: 1, Number: uint8(n + 2), Data: make([]byte, 1000)}
			s.send(isakmp.Message{Header: s.header(isakmp.IdentityProtection, 0), Payloads: []isakmp.Payload{f.Payload()}}.Append(nil))
		}
		if r.e.guard.FragBytes > maxFragBytes {
			t.Fatalf("%d bytes held", r.e.guard.FragBytes)
		}
		r.sends = nil
	}
	if r.e.Counters()[DropLimit] == 0 {
		t.Error("the limit was not reached")
	}
	r.pass(2 * time.Minute)
	if r.e.guard.FragBytes != 0 || len(r.e.sas) != 0 {
		t.Errorf("%d bytes, %d SAs left", r.e.guard.FragBytes, len(r.e.sas))
	}
}

// TestPeerDeletesPhase1 lets phase 2 live on (Z-6), and a quick mode under the
// deleted SA is refused.
func TestPeerDeletesPhase1(t *testing.T) {
	o := quickOffer()
	r, s, _ := upScript(t, o)
	s.info(isakmp.DeleteISAKMP(s.cookies.I, s.cookies.R).Payload())
	if got := r.e.Phase1SAs(); len(got) != 1 || got[0].State != "DELETED" || len(r.down) != 0 || len(r.kernel) != 2 {
		t.Fatalf("%+v, down %+v", got, r.down)
	}
	if s.quick(o).run() || len(r.kernel) != 2 {
		t.Error("quick mode under a deleted SA")
	}
	r.pass(10 * time.Second)
	if len(r.e.Phase1SAs()) != 0 || len(r.kernel) != 2 {
		t.Errorf("%+v, %d SAs", r.e.Phase1SAs(), len(r.kernel))
	}
	// The peer comes back with a new phase 1 SA into the same connection.
	n := newScript(r, o)
	if !n.phase1() || !n.quick(o).run() || len(r.up) != 1 || len(r.e.Conns()) != 1 {
		t.Errorf("up %+v, %d connections", r.up, len(r.e.Conns()))
	}
}

// TestUnknownCookie: K11.
func TestUnknownCookie(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, quickOffer())
	s.cookies.R = isakmp.Cookie{9}
	msg := func(ex isakmp.ExchangeType) []byte {
		return isakmp.AppendEncrypted(nil, s.header(ex, 77), isakmp.TypeHash, make([]byte, 64))
	}
	if out := s.send(msg(isakmp.QuickMode)); len(out) != 0 {
		t.Error("answered by default")
	}
	r.e.cfg.InvalidCookie = true
	if out := s.send(msg(isakmp.Informational)); len(out) != 0 {
		t.Error("an informational message is answered")
	}
	n := 0
	for range 100 {
		n += len(s.send(msg(isakmp.QuickMode)))
	}
	if n == 0 || n > repliesPerSource {
		t.Errorf("%d answers in a second", n)
	}
}

// TestChildrenBounded: a peer cannot pile up ESP SAs or quick modes.
func TestChildrenBounded(t *testing.T) {
	o := quickOffer()
	r, s, _ := upScript(t, o)
	for i := range 50 {
		q := s.quick(o)
		q.idi.Port = uint16(2000 + i)
		q.run()
		if n := len(r.e.Children()); n > maxChildren {
			t.Fatalf("%d children", n)
		}
	}
	for range 50 {
		s.quick(o).send1()
	}
	p := r.e.sas[s.cookies]
	if len(p.quicks) > maxQuicks || len(r.e.Children()) > maxChildren || len(r.kernel) > 2*maxChildren {
		t.Errorf("%d quick modes, %d children, %d SAs", len(p.quicks), len(r.e.Children()), len(r.kernel))
	}
}

// TestDeleteOvertakes: a delete that overtakes message 3 of the quick mode whose SAs it deletes leaves nothing behind in
// the kernel.
func TestDeleteOvertakes(t *testing.T) {
	o := quickOffer()
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, o)
	if !s.phase1() {
		t.Fatal("no phase 1")
	}
	q := s.quick(o)
	if !q.send1() || len(r.kernel) != 1 {
		t.Fatal("no message 2")
	}
	s.info(isakmp.DeleteESP(q.spi).Payload())
	s.send(q.message3())
	if len(r.kernel)+len(r.e.outs)+len(r.e.spis) != 0 || len(r.up) != 0 {
		t.Errorf("%d SAs, %d and %d SPIs, up %+v", len(r.kernel), len(r.e.outs), len(r.e.spis), r.up)
	}
}
