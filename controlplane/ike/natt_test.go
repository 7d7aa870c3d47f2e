package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// vids makes vendor ID payloads.
func vids(vs ...isakmp.Vendor) []isakmp.Payload {
	var ps []isakmp.Payload
	for _, v := range vs {
		ps = append(ps, isakmp.VendorPayload(v, 0))
	}
	return ps
}

// TestNATTVersions has clients that speak one version of NAT-T each, with and
// without a NAT, and checks payload numbers, encapsulation modes and ports.
func TestNATTVersions(t *testing.T) {
	for _, c := range []struct {
		name   string
		vids   []isakmp.Vendor
		natt   isakmp.NATT
		natd   isakmp.PayloadType // in the engine's message 4
		mode   isakmp.Mode        // chosen behind a NAT; 0: refused
		natoas int
	}{
		{"none", nil, isakmp.NATTNone, 0, isakmp.ModeTransport, 0},
		{"draft 00", []isakmp.Vendor{isakmp.VendorNATT00}, isakmp.NATTDraft00, 130, 0, 0},
		{"draft 02", []isakmp.Vendor{isakmp.VendorNATT02}, isakmp.NATTDraft02, 130, 61444, 2},
		{"draft 02 with newline", []isakmp.Vendor{isakmp.VendorNATT02n}, isakmp.NATTDraft02n, 130, 61444, 2},
		{"draft 03", []isakmp.Vendor{isakmp.VendorNATT03}, isakmp.NATTDraft03, 130, 61444, 2},
		{"drafts 02 and 00", []isakmp.Vendor{isakmp.VendorNATT00, isakmp.VendorNATT02n}, isakmp.NATTDraft02n, 130, 61444, 2},
		{"Apple", []isakmp.Vendor{isakmp.VendorNATTApple, isakmp.VendorNATT08}, isakmp.NATTApple, 15, 4, 0},
		{"RFC 3947", []isakmp.Vendor{isakmp.VendorRFC3947}, isakmp.NATTRFC3947, 20, 4, 2},
		{"RFC 3947 behind drafts", []isakmp.Vendor{isakmp.VendorNATT02, isakmp.VendorNATTApple, isakmp.VendorRFC3947}, isakmp.NATTRFC3947, 20, 4, 2},
	} {
		for _, nat := range []bool{false, true} {
			r := serverRig(t, ProfileCompatible)
			o := offers.NetworkManager()
			o.Vendors, o.NATT = vids(c.vids...), c.natt
			s := newScript(r, o)
			if nat {
				s.behindNAT()
			}
			if !s.main1() || !s.main3() {
				t.Fatalf("%s: no message 4", c.name)
			}
			m, _ := isakmp.Parse(r.sends[len(r.sends)-1].Data)
			got := 0
			for _, p := range m.Payloads {
				if p.Type.IsNATD() {
					if p.Type != c.natd {
						t.Errorf("%s: NAT-D of type %d, want %d", c.name, p.Type, c.natd)
					}
					got++
				}
			}
			if want := map[bool]int{true: 2}[c.natd != 0]; got != want {
				t.Errorf("%s: %d NAT-D payloads, want %d", c.name, got, want)
			}
			if nat && c.natt != isakmp.NATTNone && c.natt != isakmp.NATTDraft00 {
				s.float()
			}
			if !s.main5() {
				t.Fatalf("%s: no message 6", c.name)
			}
			if last := r.sends[len(r.sends)-1]; last.Remote != s.remote || last.Marker != s.marker || last.Local != s.local {
				t.Errorf("%s: message 6 from %v to %v with marker %v", c.name, last.Local, last.Remote, last.Marker)
			}
			q := s.quick(o)
			if nat && c.natt == isakmp.NATTNone {
				// Without NAT-T nothing is detected (C4r): the selectors have to
				// be those of plain IPsec, which such a client behind a NAT cannot
				// make, so it is in the open.
				q.idi = isakmp.AddrID(s.remote.Addr(), udp, 1701)
			}
			ok := q.run()
			switch {
			case nat && c.mode == 0:
				if ok || q.notify != isakmp.NoProposalChosen || r.e.Counters()[ReasonEncapsulation] != 1 {
					t.Errorf("%s: quick mode %v with %v, %v", c.name, ok, q.notify, r.e.Counters())
				}
			case !ok:
				t.Errorf("%s nat=%v: quick mode refused with %v\n%s", c.name, nat, q.notify, words(r.reports))
			case nat && q.chosen.Mode != c.mode, !nat && q.chosen.Mode != isakmp.ModeTransport:
				t.Errorf("%s nat=%v: mode %v", c.name, nat, q.chosen.Mode)
			default:
				oas := 0
				for _, p := range q.answer {
					if p.Type.IsNATOA() {
						oas++
					}
				}
				if want := map[bool]int{true: c.natoas}[nat]; oas != want {
					t.Errorf("%s nat=%v: %d NAT-OA payloads, want %d", c.name, nat, oas, want)
				}
				if encap := nat && c.natt != isakmp.NATTNone; len(r.up) != 1 || r.up[0].Encap != encap {
					t.Errorf("%s nat=%v: up %+v", c.name, nat, r.up)
				}
			}
		}
	}
}

// TestNATDOrder: old Apple builds send the two NAT-D payloads in the wrong order.
func TestNATDOrder(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.AppleL2TP()
	s := newScript(r, o)
	if !s.main1() {
		t.Fatal("no message 2")
	}
	m, _ := isakmp.Parse(s.message3())
	n := len(m.Payloads)
	m.Payloads[n-1], m.Payloads[n-2] = m.Payloads[n-2], m.Payloads[n-1]
	s.send(m.Append(nil))
	if i := r.e.Phase1SAs()[0]; i.NATPeer || i.NATLocal {
		t.Errorf("a NAT is seen where there is none: %+v", i)
	}
}

// TestNATTOff: C1r, C2r, C4r. The option decides about new SAs only.
func TestNATTOff(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.AppleL2TP()
	old := newScript(r, o).behindNAT()
	if !old.phase1() {
		t.Fatal("no phase 1")
	}
	cfg := r.e.cfg
	cfg.NATT = false
	r.give(Reconfigure{Config: cfg})
	s := newScript(r, o).behindNAT()
	s.remote = netip.MustParseAddrPort("198.51.100.8:500")
	if !s.main1() {
		t.Fatal("no message 2")
	}
	m, _ := isakmp.Parse(r.sends[len(r.sends)-1].Data)
	for _, v := range isakmp.Identities(m.Payloads) {
		if v.Vendor.NATT() != isakmp.NATTNone {
			t.Errorf("the answer announces %v", v)
		}
	}
	s.natt = isakmp.NATTNone
	if !s.main3() || !s.main5() {
		t.Fatal("no phase 1 without NAT-T")
	}
	for _, i := range r.e.Phase1SAs() {
		if new := i.Remote == s.remote; new == i.NATPeer {
			t.Errorf("NAT seen %v at %v", i.NATPeer, i.Remote)
		}
	}
	if !old.quick(o).run() || !r.up[0].Encap {
		t.Error("the SA from before the change has lost NAT-T")
	}
}

// TestKeepalive: C10r, the single byte is dropped, and is no sign of life.
func TestKeepalive(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	r.e.cfg.DPDInterval = 30 * time.Second
	s := newScript(r, offers.AppleL2TP()).behindNAT()
	if !s.phase1() || !s.quick(offers.AppleL2TP()).run() {
		t.Fatal("not up")
	}
	heard := r.e.sas[s.cookies].DPD.Heard
	r.now = r.now.Add(10 * time.Second)
	if out := r.give(Packet{Local: s.local, Remote: s.remote, Data: []byte{0xff}}); len(out) != 0 {
		t.Error("a keepalive is answered")
	}
	if r.e.Counters()[DropKeepalive] != 1 || r.e.sas[s.cookies].DPD.Heard != heard {
		t.Error("a keepalive counts as something")
	}
}

// TestServerBehindNAT: the quick mode of a client that sees the server behind a
// NAT names the server's public address.
func TestServerBehindNAT(t *testing.T) {
	for _, both := range []bool{false, true} {
		r := serverRig(t, ProfileCompatible)
		o := offers.Windows(9)
		s := newScript(r, o)
		s.outer = netip.MustParseAddr("203.0.113.77")
		if both {
			s.behindNAT()
		}
		if !s.phase1() || !s.quick(o).run() {
			t.Fatalf("both=%v: %s", both, words(r.reports))
		}
		if c := r.up[0]; !c.NATLocal || c.NATPeer != both || !c.Encap {
			t.Errorf("up %+v", c)
		}
	}
}

// TestNoEncapsulationOffered: Windows without its registry value, when the server
// is behind a NAT, asks for plain transport mode.
func TestNoEncapsulationOffered(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.Windows(9)
	s := newScript(r, o)
	s.outer = netip.MustParseAddr("203.0.113.77")
	if !s.phase1() {
		t.Fatal("no phase 1")
	}
	q := s.quick(o)
	q.sa = o.QuickSA(q.spi, isakmp.NATTNone)
	if q.run() || q.notify != isakmp.NoProposalChosen || r.e.Counters()[ReasonEncapsulation] != 1 {
		t.Errorf("notify %v", q.notify)
	}
	if last := r.reports[len(r.reports)-1]; !contains(last.Text, "AssumeUDPEncapsulationContextOnSendRule") {
		t.Errorf("diagnosis %q", last.Text)
	}
}

// TestPeerMoves: the address follows authenticated messages that cannot be
// replays, and the kernel's mapping events, and nothing else.
func TestPeerMoves(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.AppleL2TP()
	s := newScript(r, o).behindNAT()
	if !s.phase1() || !s.quick(o).run() {
		t.Fatal("not up")
	}
	dpd := func(seq uint32) []byte {
		return s.infoMessage(isakmp.DPDNotify(isakmp.RUThere, s.cookies.I, s.cookies.R, seq).Payload())
	}
	first := dpd(7)
	s.send(first)
	moved := netip.MustParseAddrPort("203.0.113.200:40000")
	home := s.remote

	// A recorded message from elsewhere, a delete for nothing, garbage.
	s.remote = moved
	s.send(first)
	s.info(isakmp.DeleteESP(0x12345678).Payload())
	s.send(dpd(6))
	bad := dpd(8)
	bad[40] ^= 1
	s.send(bad)
	if len(r.moved) != 0 || r.e.Conns()[0].Remote != home {
		t.Fatalf("moved by %+v", r.moved)
	}
	// A fresh probe.
	out := s.send(dpd(9))
	if len(r.moved) != 1 || len(out) != 1 || out[0].Remote != moved {
		t.Fatalf("not moved: %+v, answer %+v", r.moved, out)
	}
	m := r.moved[0]
	if m.Old != home || m.New != moved || len(m.SAs) != 2 {
		t.Errorf("%+v", m)
	}
	for _, sa := range m.SAs {
		if sa.Remote != moved || len(sa.EncKey) == 0 || sa.HardLife <= 0 || sa.HardLife > time.Hour {
			t.Errorf("SA of the move: %+v", sa)
		}
	}
	// The kernel saw ESP from a third place.
	third := netip.MustParseAddrPort("203.0.113.200:40001")
	r.give(PeerMoved{SPI: r.e.Children()[0].InboundSPI, Remote: third})
	if len(r.moved) != 2 || r.e.Conns()[0].Remote != third || r.e.Phase1SAs()[0].Remote != third {
		t.Errorf("after the mapping event: %+v", r.e.Conns())
	}
	// A new phase 1 from there still belongs to the connection.
	n := newScript(r, o).behindNAT()
	n.remote, n.local, n.marker = third, s.local, true
	if !n.main1() || !n.main3() || !n.main5() || len(r.e.Conns()) != 1 {
		t.Errorf("%d connections after a phase 1 rekey from the new place", len(r.e.Conns()))
	}
}

// TestUnmovable: without a NAT the peer's address does not change.
func TestUnmovable(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.AppleL2TP()
	s := newScript(r, o)
	if !s.phase1() || !s.quick(o).run() {
		t.Fatal("not up")
	}
	home := s.remote
	s.remote = netip.MustParseAddrPort("203.0.113.200:500")
	s.info(isakmp.DPDNotify(isakmp.RUThere, s.cookies.I, s.cookies.R, 1).Payload())
	r.give(PeerMoved{SPI: r.e.Children()[0].InboundSPI, Remote: s.remote})
	if len(r.moved) != 0 || r.e.Conns()[0].Remote != home {
		t.Errorf("moved to %v", r.e.Conns()[0].Remote)
	}
}

// TestRebind has a NAT forget its mappings again and again: the connection
// survives, rekeys included.
func TestRebind(t *testing.T) {
	w, client, server := pair(t)
	x := w.nat("203.0.113.9", true, client)
	client.e.cfg.DPDInterval = 20 * time.Second
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	for range 50 {
		x.rebind()
		w.run(5 * time.Minute)
		agree(t, client, server)
	}
	if len(server.moved) < 45 || len(server.down)+len(client.down) != 0 {
		t.Errorf("%d moves, down %v %v", len(server.moved), server.down, client.down)
	}
	for _, sa := range server.kernel {
		if sa.Remote != server.only(t).Info.Remote {
			t.Errorf("SA for %v, the peer is at %v", sa.Remote, server.only(t).Info.Remote)
		}
	}
}

// TestSameNAT: two clients behind one NAT with the same private address and the
// same port, as behind a carrier's NAT, are two connections.
func TestSameNAT(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.Windows(9)
	a, b := newScript(r, o).behindNAT(), newScript(r, o).behindNAT()
	b.remote = netip.MustParseAddrPort("198.51.100.7:1025")
	if !a.phase1() || !a.quick(o).run() {
		t.Fatal("first is not up")
	}
	if !b.main1() || !b.main3() {
		t.Fatal("second gets no answer")
	}
	b.float()
	b.remote = netip.MustParseAddrPort("198.51.100.7:33334")
	contact := isakmp.InitialContactNotify(b.cookies.I, b.cookies.R).Payload()
	if !b.main5(contact) || !b.quick(o).run() {
		t.Fatal("second is not up")
	}
	if len(r.up) != 2 || len(r.down) != 0 || r.up[0].ID == r.up[1].ID {
		t.Errorf("up %+v, down %+v", r.up, r.down)
	}
	if ids := []ConnID{r.up[0].ID, r.up[1].ID}; slices.Contains(ids, 0) {
		t.Error("connection number 0")
	}
}

// TestNATDHash checks the payload against RFC 3947 section 3.2 by hand.
func TestNATDHash(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, offers.AppleL2TP())
	if !s.main1() || !s.main3() {
		t.Fatal("no message 4")
	}
	m, _ := isakmp.Parse(r.sends[len(r.sends)-1].Data)
	got := isakmp.All(m.Payloads, isakmp.TypeNATD)
	want := func(addr []byte) []byte {
		return s.suite.Hash.Sum(s.cookies.I[:], s.cookies.R[:], addr, []byte{1, 244})
	}
	if len(got) != 2 || !keymat.EqualProof(got[0].Body, want([]byte{198, 51, 100, 7})) || !keymat.EqualProof(got[1].Body, want([]byte{192, 0, 2, 1})) {
		t.Errorf("NAT-D payloads %x", got)
	}
}

// TestSameAddressBehindTwoNATs tells a peer whose private address is the same as ours, each behind a NAT of its own, from one that sends
// its NAT-D payloads the other way round, as old Apple builds do.
func TestSameAddressBehindTwoNATs(t *testing.T) {
	a := netip.MustParseAddrPort
	private, public, outside, server := a("192.168.1.10:500"), a("203.0.113.1:500"), a("198.51.100.1:1024"), a("192.0.2.1:500")
	for _, c := range []struct {
		name           string
		local, remote  netip.AddrPort // as we see them
		first, second  netip.AddrPort // that the peer's payloads are of
		before, behind bool           // a NAT before us, before the peer
	}{
		{"both have the same address", private, outside, public, private, true, true},
		{"only we are behind one", private, outside, public, outside, true, false},
		{"only the peer is", server, outside, server, private, false, true},
		{"only the peer is, the other way round", server, outside, private, server, false, true},
		{"nobody is", private, outside, private, outside, false, false},
		{"nobody is, the other way round", private, outside, outside, private, false, false},
	} {
		p := phase1{Local: c.local, Remote: c.remote, Suite: keymat.Suite{Hash: keymat.SHA256}}
		p.Vendor.NATT = isakmp.NATTRFC3947
		payload := func(x netip.AddrPort) isakmp.Payload {
			return isakmp.Payload{Type: p.Vendor.NATT.NATD(), Body: keymat.HashNATD(p.Suite.Hash, p.Cookies.I, p.Cookies.R, x)}
		}
		p.detectNAT([]isakmp.Payload{payload(c.first), payload(c.second)})
		if p.NATLocal != c.before || p.NATPeer != c.behind {
			t.Errorf("%s: NAT before us %v, before the peer %v", c.name, p.NATLocal, p.NATPeer)
		}
	}
}
