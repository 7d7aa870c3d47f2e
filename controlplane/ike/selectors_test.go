package ike

import (
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// TestSelectors: D2r, what a peer may ask for.
func TestSelectors(t *testing.T) {
	server, peer, private := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("10.0.0.5")
	host := func(a netip.Addr, proto uint8, port uint16) isakmp.ID { return isakmp.AddrID(a, proto, port) }
	net := func(p string, port uint16) isakmp.ID { return isakmp.PrefixID(netip.MustParsePrefix(p), udp, port) }
	for _, c := range []struct {
		name     string
		nat      bool
		idi, idr isakmp.ID
		ok       bool
	}{
		{"Windows", false, host(peer, udp, 1701), host(server, udp, 1701), true},
		{"any port of the peer", false, host(peer, udp, 0), host(server, udp, 1701), true},
		{"ephemeral port", false, host(peer, udp, 56322), host(server, udp, 1701), true},
		{"private address behind NAT", true, host(private, udp, 1701), host(server, udp, 1701), true},
		{"public address behind NAT", true, host(peer, udp, 1701), host(server, udp, 1701), true},
		{"host name behind NAT (Windows XP)", true, isakmp.ID{Type: isakmp.IDFQDN, Protocol: udp, Port: 1701, Data: []byte("pc")}, host(server, udp, 1701), true},
		{"/32", false, net("198.51.100.7/32", 1701), net("192.0.2.1/32", 1701), true},
		{"private address without NAT", false, host(private, udp, 1701), host(server, udp, 1701), false},
		{"host name without NAT", false, isakmp.ID{Type: isakmp.IDFQDN, Protocol: udp, Port: 1701, Data: []byte("pc")}, host(server, udp, 1701), false},
		{"other port of ours", false, host(peer, udp, 1701), host(server, udp, 53), false},
		{"any port of ours", false, host(peer, udp, 1701), host(server, udp, 0), false},
		{"TCP", false, host(peer, 6, 1701), host(server, 6, 1701), false},
		{"any protocol of the peer", false, host(peer, 0, 0), host(server, udp, 1701), false},
		{"any protocol", false, host(peer, 0, 0), host(server, 0, 0), false},
		{"another server", false, host(peer, udp, 1701), host(netip.MustParseAddr("192.0.2.2"), udp, 1701), false},
		{"a net behind the peer", true, net("10.0.0.0/24", 1701), host(server, udp, 1701), false},
		{"the world", false, net("0.0.0.0/0", 0), host(server, udp, 1701), false},
		{"a net of ours", false, host(peer, udp, 1701), net("192.0.2.0/24", 1701), false},
		{"IPv6 peer", true, host(netip.MustParseAddr("2001:db8::1"), udp, 1701), host(netip.MustParseAddr("2001:db8::2"), udp, 1701), false},
	} {
		r := serverRig(t, ProfileCompatible)
		o := offers.AppleL2TP()
		s := newScript(r, o)
		if c.nat {
			s.behindNAT()
		}
		if !s.phase1() {
			t.Fatal("no phase 1")
		}
		q := s.quick(o)
		q.idi, q.idr = c.idi, c.idr
		if ok := q.run(); ok != c.ok || !ok && (q.notify != isakmp.InvalidIDInformation || r.e.Counters()[ReasonSelectors] != 1 || len(r.kernel) != 0) {
			t.Errorf("%s: %v with %v\n%s", c.name, ok, q.notify, words(r.reports))
		}
		if c.ok {
			for _, sa := range r.kernel {
				if sa.Protocol != udp || sa.LocalPort != 1701 || sa.RemotePort != c.idi.Port {
					t.Errorf("%s: SA for %d/%d-%d", c.name, sa.Protocol, sa.LocalPort, sa.RemotePort)
				}
			}
		}
	}
	// No selectors at all means all traffic between the two hosts.
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, offers.AppleL2TP())
	s.phase1()
	q := s.quick(offers.AppleL2TP())
	q.noIDs = true
	if q.run() || q.notify != isakmp.InvalidIDInformation {
		t.Errorf("without selectors: notify %v", q.notify)
	}
}

// TestTransportProfile: profiles are found by server address and peer, and a peer
// without one is refused.
func TestTransportProfile(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	any := r.e.cfg.Transports[0]
	named := any
	named.Name, named.Remote = "named", netip.MustParseAddr("198.51.100.7")
	other := any
	other.Name, other.Local = "other", netip.MustParseAddr("192.0.2.2")
	r.e.cfg.Transports = []TransportProfile{other, any, named}
	o := offers.AppleL2TP()
	s := newScript(r, o)
	if !s.phase1() || !s.quick(o).run() || r.e.Children()[0].Profile != "named" || r.up[0].Profile != "named" {
		t.Errorf("children %+v", r.e.Children())
	}
	r.e.cfg.Transports = []TransportProfile{other}
	q := s.quick(o)
	if q.run() || r.e.Counters()[ReasonNoProfile] != 1 || q.notify != isakmp.NoProposalChosen {
		t.Errorf("without a profile: %v", q.notify)
	}
}

// TestESPChoice: tunnel mode, bundles, foreign transforms and the PFS rules of
// K9.
func TestESPChoice(t *testing.T) {
	spi := []byte{1, 2, 3, 4}
	esp := func(t isakmp.ESPTransform) isakmp.Proposal {
		return isakmp.Proposal{Number: 1, Protocol: isakmp.ProtocolESP, SPI: spi, Transforms: []isakmp.Transform{t.Transform()}}
	}
	good := isakmp.ESPTransform{ID: isakmp.ESPAES, KeyBits: 128, Auth: isakmp.ESPAuthSHA1, Mode: isakmp.ModeTransport}
	with := func(f func(*isakmp.ESPTransform)) isakmp.Proposal {
		x := good
		f(&x)
		return esp(x)
	}
	ah := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtocolAH, SPI: spi, Transforms: []isakmp.Transform{{Number: 1, ID: 2}}}
	badSPI := esp(good)
	badSPI.SPI = []byte{0, 0, 0, 255}
	longSPI := esp(good)
	longSPI.SPI = []byte{0, 0, 0, 1, 2}
	for _, c := range []struct {
		name   string
		offer  []isakmp.Proposal
		pfs    keymat.Group // of the profile
		ke     bool
		nat    bool
		reason Reason
	}{
		{"good", []isakmp.Proposal{esp(good)}, 0, false, false, ""},
		{"no key length", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.KeyBits = 0 })}, 0, false, false, ""},
		{"second proposal", []isakmp.Proposal{{Number: 0, Protocol: isakmp.ProtocolAH, SPI: spi, Transforms: ah.Transforms}, esp(good)}, 0, false, false, ""},
		{"AH and ESP", []isakmp.Proposal{ah, esp(good)}, 0, false, false, ReasonNoProposal2},
		{"AH", []isakmp.Proposal{ah}, 0, false, false, ReasonAH},
		{"AH twice", []isakmp.Proposal{ah, {Number: 2, Protocol: isakmp.ProtocolAH, SPI: spi, Transforms: ah.Transforms}}, 0, false, true, ReasonAH},
		{"nothing", nil, 0, false, false, ReasonNoProposal2},
		{"no transforms", []isakmp.Proposal{{Number: 1, Protocol: isakmp.ProtocolESP, SPI: spi}}, 0, false, false, ReasonNoProposal2},
		{"reserved SPI", []isakmp.Proposal{badSPI}, 0, false, false, ReasonNoProposal2},
		{"long SPI", []isakmp.Proposal{longSPI}, 0, false, false, ReasonNoProposal2},
		{"tunnel mode", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Mode = isakmp.ModeTunnel })}, 0, false, false, ReasonTunnelMode},
		{"UDP tunnel mode", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Mode = isakmp.ModeUDPTunnel })}, 0, false, true, ReasonTunnelMode},
		{"encapsulation without NAT", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Mode = isakmp.ModeUDPTransport })}, 0, false, false, ReasonEncapsulation},
		{"no encapsulation", []isakmp.Proposal{esp(good)}, 0, false, true, ReasonEncapsulation},
		{"encapsulation", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Mode = isakmp.ModeUDPTransport })}, 0, false, true, ""},
		{"ESN", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.ESN = true })}, 0, false, false, ReasonNoProposal2},
		{"unknown attribute", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Unknown = []isakmp.Attribute{isakmp.ShortAttribute(99, 1)} })}, 0, false, false, ReasonNoProposal2},
		{"no authentication", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Auth = 0 })}, 0, false, false, ReasonNoProposal2},
		{"GCM with HMAC", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.ID = isakmp.ESPAESGCM16 })}, 0, false, false, ReasonNoProposal2},
		{"GMAC (CVE-2024-3652)", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.ID, x.Auth = isakmp.ESPNullAESGMAC, 0 })}, 0, false, false, ReasonNoProposal2},
		{"PFS though not demanded", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Group = 2 })}, 0, true, false, ""},
		{"PFS group without value", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Group = 2 })}, 0, false, false, ReasonPFS},
		{"PFS value without group", []isakmp.Proposal{esp(good)}, 0, true, false, ReasonPFS},
		{"PFS demanded, none", []isakmp.Proposal{esp(good)}, keymat.MODP1024, false, false, ReasonPFS},
		{"PFS 2 demanded, 5 asked", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Group = 5 })}, keymat.MODP1024, true, false, ""},
		{"PFS 5 demanded, 2 asked", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Group = 2 })}, keymat.MODP1536, true, false, ReasonPFS},
		{"PFS with a group unknown", []isakmp.Proposal{with(func(x *isakmp.ESPTransform) { x.Group = 17 })}, 0, true, false, ReasonPFS},
	} {
		_, esps, _ := ProposalProfile(ProfileCompatible)
		sa := isakmp.SA{DOI: 1, Situation: 1, Proposals: c.offer}
		_, reason, text := chooseESP(sa, espRules{profile: &TransportProfile{ESP: esps, PFS: c.pfs}, encap: c.nat, udpOK: c.nat, ke: c.ke})
		if reason != c.reason {
			t.Errorf("%s: %q (%s), want %q", c.name, reason, text, c.reason)
		}
	}
}

// TestESPTransformIDs offers every transform and authentication number: no panic,
// and nothing is taken that the profile does not name.
func TestESPTransformIDs(t *testing.T) {
	_, esps, _ := ProposalProfile(ProfileLegacy)
	taken := 0
	for id := range 256 {
		for auth := range 20 {
			for _, bits := range []uint16{0, 1, 64, 128, 192, 256, 65535} {
				x := isakmp.ESPTransform{ID: isakmp.ESPTransformID(id), KeyBits: bits, Auth: isakmp.ESPAuth(auth), Mode: isakmp.ModeTransport}
				sa := isakmp.SA{Proposals: []isakmp.Proposal{{Protocol: isakmp.ProtocolESP, SPI: []byte{1, 2, 3, 4}, Transforms: []isakmp.Transform{x.Transform()}}}}
				c, reason, _ := chooseESP(sa, espRules{profile: &TransportProfile{ESP: esps}})
				if reason != "" {
					continue
				}
				taken++
				if _, _, _, err := espAlgorithm(c.Proposal).KeyLens(); err != nil {
					t.Errorf("%v is chosen: %v", x, err)
				}
			}
		}
	}
	if taken == 0 {
		t.Error("nothing is taken")
	}
}

// TestPFS runs quick modes with PFS from either side.
func TestPFS(t *testing.T) {
	for _, g := range []keymat.Group{keymat.MODP2048, keymat.ECP256, keymat.Curve25519} {
		w, client, server := pair(t)
		client.e.cfg.Transports[0].PFS, server.e.cfg.Transports[0].PFS = g, g
		client.dial("192.0.2.1", 1, 1701)
		w.run(3 * time.Second)
		mustUp(t, client, server)
		if c := server.up[0]; !contains(c.ESP, g.String()) {
			t.Errorf("ESP %q without %v", c.ESP, g)
		}
		server.step(Rekey{Conn: server.up[0].ID})
		w.run(3 * time.Second)
		agree(t, client, server)
		if n := server.e.Counters()[CountChildRekey]; n != 1 {
			t.Errorf("%d rekeys", n)
		}
	}
}

// TestNetOf: every way of naming a network.
func TestNetOf(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     string
	}{
		{"10.0.0.0", "10.255.255.255", "10.0.0.0/8"}, {"10.0.0.0", "10.0.0.1", "10.0.0.0/31"}, {"10.0.0.1", "10.0.0.1", "10.0.0.1/32"},
		{"0.0.0.0", "255.255.255.255", "0.0.0.0/0"}, {"10.0.0.1", "10.0.0.2", ""}, {"10.0.0.0", "10.0.0.2", ""},
	} {
		data := append(netip.MustParseAddr(c.from).AsSlice(), netip.MustParseAddr(c.to).AsSlice()...)
		n, ok := netOf(isakmp.ID{Type: isakmp.IDIPv4Range, Data: data})
		if ok != (c.want != "") || ok && n.String() != c.want {
			t.Errorf("%s-%s: %v %v, want %s", c.from, c.to, n, ok, c.want)
		}
	}
	if _, ok := netOf(isakmp.TextID(isakmp.IDFQDN, "x")); ok {
		t.Error("a name is a network")
	}
}
