package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// TestStaticRefusals: what is wrong between two sites has a reason of its own at each that can know it, and nothing is
// left of the attempt.
func TestStaticRefusals(t *testing.T) {
	net := netip.MustParsePrefix
	west := func(f func(*StaticTunnel)) func(*Config, *Config) {
		return func(w, _ *Config) { f(&w.Statics[0]) }
	}
	for _, c := range []struct {
		name       string
		change     func(west, east *Config)
		west, east Reason
		text       string // in west's sentence
	}{
		{"west's identity", west(func(s *StaticTunnel) { s.LocalID = "@south.example.net" }), ReasonAuthFailed, ReasonIdentity, ""},
		{"west's identity, aggressive", west(func(s *StaticTunnel) { s.LocalID, s.Aggressive = "@south.example.net", true }), ReasonAuthFailed, ReasonUnknownGroup, ""},
		{"west's identity, certificate", func(w, e *Config) {
			byCertificate(w, e)
			w.Statics[0].LocalID = "@south.example.net"
		}, ReasonAuthFailed, ReasonIdentity, "message 5"},
		{"west's identity, certificate, aggressive", func(w, e *Config) {
			byCertificate(w, e)
			w.Statics[0].LocalID, w.Statics[0].Aggressive = "@south.example.net", true
		}, ReasonPeerDelete, ReasonIdentity, "who we are"},
		{"east's identity", west(func(s *StaticTunnel) { s.PeerID = "@south.example.net" }), ReasonIdentity, "", "east.example.net"},
		{"east's identity, aggressive", west(func(s *StaticTunnel) { s.PeerID, s.Aggressive = "@south.example.net", true }), ReasonIdentity, "", "east.example.net"},
		{"key", func(w, _ *Config) { w.Keys[0].Key = keymat.Secret("another") }, ReasonPSKMismatch, ReasonPSKMismatch, "message 5"},
		{"key, aggressive", func(w, _ *Config) { w.Keys[0].Key, w.Statics[0].Aggressive = keymat.Secret("another"), true }, ReasonPSKMismatch, ReasonPSKMismatch, ""},
		{"no certificate here", func(w, e *Config) { byCertificate(w, e); w.Credentials = nil }, ReasonConfig, "", `"west"`},
		{"no certificate there", func(w, e *Config) { byCertificate(w, e); e.Credentials = nil }, ReasonNoProposal, ReasonNoKey, ""},
		{"another method", func(w, _ *Config) { w.Statics[0].Method = AuthRSA }, ReasonNoProposal, ReasonNoProposal, ""},
		{"no proposal", func(w, _ *Config) {
			w.Rules = []PolicyRule{{Name: "old", Encryption: []Encryption{{Cipher: keymat.DES3}}, Hash: []keymat.Hash{keymat.MD5}, Group: []keymat.Group{keymat.MODP1024}, Auth: AuthPSK}}
		}, ReasonNoProposal, ReasonNoProposal, "message 1"},
		{"nothing to offer", func(w, _ *Config) { w.Rules = nil }, ReasonConfig, "", ""},
		{"no aggressive mode", func(w, e *Config) {
			w.Statics[0].Aggressive = true
			for i := range e.Rules {
				e.Rules[i].Aggressive = AggressiveNotAllowed
			}
		}, ReasonPeerRefused, ReasonAggressiveMode, "INVALID-EXCHANGE-TYPE"},
		{"nothing configured there", func(_, e *Config) { e.Statics, e.Keys = nil, nil }, ReasonNoProposal, ReasonNoKey, ""},
		{"another address there", func(_, e *Config) { e.Statics[0].Peers[0] = netip.MustParseAddr("198.51.100.99") }, ReasonNoProposal, ReasonNoKey, ""},
		{"no ESP proposal", west(func(s *StaticTunnel) {
			s.ESP, s.Children = []ESPProposal{{Cipher: ESPDES, Auth: ESPAuthMD5}}, s.Children[:1]
		}), ReasonPeerRefused, ReasonNoProposal2, "10.1.0.0/24 here and 10.2.0.0/24 there"},
		{"PFS", func(w, e *Config) {
			e.Statics[0].PFS, w.Statics[0].Children = keymat.MODP2048, w.Statics[0].Children[:1]
		}, ReasonPeerRefused, ReasonPFS, ""},
		{"weaker PFS", func(w, e *Config) {
			e.Statics[0].PFS, w.Statics[0].PFS, w.Statics[0].Children = keymat.MODP3072, keymat.MODP2048, w.Statics[0].Children[:1]
		}, ReasonPeerRefused, ReasonPFS, ""},
		{"wider networks", west(func(s *StaticTunnel) { s.Children = s.Children[:1]; s.Children[0].LocalNet = net("10.1.0.0/16") }), ReasonPeerRefused, ReasonSelectors, "INVALID-ID-INFORMATION"},
		{"narrower networks", west(func(s *StaticTunnel) { s.Children = s.Children[:1]; s.Children[0].RemoteNet = net("10.2.0.0/25") }), ReasonPeerRefused, ReasonSelectors, "10.2.0.0/25"},
		{"other networks", west(func(s *StaticTunnel) { s.Children = s.Children[:1]; s.Children[0].RemoteNet = net("172.16.0.0/12") }), ReasonPeerRefused, ReasonSelectors, ""},
		{"any network", west(func(s *StaticTunnel) { s.Children = s.Children[:1]; s.Children[0].RemoteNet = net("0.0.0.0/0") }), ReasonPeerRefused, ReasonSelectors, ""},
		{"transport mode", func(w, e *Config) {
			host := func(a string) netip.Prefix { return net(a + "/32") }
			w.Statics[0].Children = []StaticChild{{Name: "hosts"}}
			e.Statics[0].Children = []StaticChild{{Name: "hosts", Tunnel: true, LocalNet: host(eastAddr), RemoteNet: host(westAddr)}}
		}, ReasonPeerRefused, ReasonTransportMode, ""},
		{"tunnel mode", func(w, e *Config) {
			host := func(a string) netip.Prefix { return net(a + "/32") }
			w.Statics[0].Children = []StaticChild{{Name: "hosts", Tunnel: true, LocalNet: host(westAddr), RemoteNet: host(eastAddr)}}
			e.Statics[0].Children = []StaticChild{{Name: "hosts"}}
		}, ReasonPeerRefused, ReasonTunnelMode, ""},
		{"no XAuth", func(_, e *Config) { e.Statics[0].XAuth = StaticXAuthServer }, ReasonNoProposal, ReasonNoProposal, ""},
		{"no answer", func(w, e *Config) { e.HalfOpen.Total = -1 }, ReasonTimeout, DropHalfOpenTotal, "message 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := twoSites(t, placement{}, c.change)
			x.west.link(5)
			x.run(3 * time.Minute)
			if len(x.west.up)+len(x.east.up) != 0 || len(x.west.down) != 1 {
				t.Fatalf("up %v %v, down %+v", x.west.up, x.east.up, x.west.down)
			}
			d := x.west.down[0]
			if d.Reason != c.west || d.Conn.Ref != 5 || d.Conn.Static != "link" || d.Conn.ID != 0 || !strings.Contains(d.Text, c.text) {
				t.Errorf("west: %v: %q", d.Reason, d.Text)
			}
			if c.east != "" && x.east.e.counters[c.east] == 0 {
				t.Errorf("east: %v\n%s", x.east.e.counters, words(x.east.reports))
			}
			if len(x.west.kernel)+len(x.east.kernel) != 0 {
				t.Error("SAs are left")
			}
			x.end(t)
		})
	}
}

// TestStaticOnePairRefused: one pair of networks that the peer does not have does not keep the others out.
func TestStaticOnePairRefused(t *testing.T) {
	for _, bad := range []int{0, 1} {
		x := twoSites(t, placement{}, func(west, _ *Config) {
			west.Statics[0].Children[bad].LocalNet = netip.MustParsePrefix("10.1.0.0/16")
		})
		x.west.link(1)
		x.run(10 * time.Second)
		good := []string{"pair 2", "pair 1"}[bad]
		if got := x.west.alive(); len(x.west.up) != 1 || !slices.Equal(got, []string{good}) || len(x.west.kernel) != 2 || len(x.west.down) != 0 {
			t.Fatalf("up are %v, down %v", got, x.west.down)
		}
		i := slices.IndexFunc(x.west.children, func(f Effect) bool { _, is := f.(ChildDown); return is })
		if i < 0 {
			t.Fatal("nothing is said of the other pair")
		}
		if d := x.west.children[i].(ChildDown); d.Reason != ReasonPeerRefused || d.Child == good || !strings.Contains(d.Text, "10.1.0.0/16 here and 10.2.0.0/24 there") {
			t.Errorf("%+v", d)
		}
		x.end(t)
	}
}

// TestStaticSentence: a refusal names both sides' networks, and in which way they differ.
func TestStaticSentence(t *testing.T) {
	net := netip.MustParsePrefix
	s := StaticTunnel{Name: "link", Children: []StaticChild{{Name: "a", LocalNet: net("10.1.0.0/24"), RemoteNet: net("10.2.0.0/24"), Tunnel: true}}}
	p := &phase1{Local: netip.MustParseAddrPort(westAddr + ":500"), Remote: netip.MustParseAddrPort(eastAddr + ":500")}
	const has = `; static tunnel "link" has 10.1.0.0/24 here and 10.2.0.0/24 there`
	for _, c := range []struct {
		got  selector
		want string
	}{
		{selector{local: net("10.1.0.0/16"), remote: net("10.2.0.0/24")}, "the peer proposes 10.1.0.0/16 here and 10.2.0.0/24 there" + has + ": the peer's is wider on our side"},
		{selector{local: net("10.1.0.0/24"), remote: net("10.2.0.128/25")}, "the peer proposes 10.1.0.0/24 here and 10.2.0.128/25 there" + has + ": the peer's is narrower on the peer's"},
		{selector{local: net("10.1.0.7/32"), remote: net("0.0.0.0/0")}, "the peer proposes 10.1.0.7/32 here and 0.0.0.0/0 there" + has + ": the peer's is narrower on our side, the peer's is wider on the peer's"},
		{selector{local: net("10.1.0.0/24"), remote: net("10.2.0.0/24"), protocol: gre}, "the peer proposes 10.1.0.0/24 here and 10.2.0.0/24 there, GRE only" + has + ": protocol or ports differ"},
		{selector{local: net("10.1.0.0/24"), remote: net("10.2.0.0/24"), protocol: 6, localPort: 22}, "the peer proposes 10.1.0.0/24 port 22 here and 10.2.0.0/24 there, protocol 6 only" + has + ": protocol or ports differ"},
		{selector{local: net("172.16.0.0/24"), remote: net("10.2.0.0/24")}, "the peer proposes 172.16.0.0/24 here and 10.2.0.0/24 there" + has},
		{selector{local: net("2001:db8::/64"), remote: net("10.2.0.0/24")}, "the peer proposes 2001:db8::/64 here and 10.2.0.0/24 there" + has},
	} {
		if got := s.differs(c.got, p); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for len(s.Children) < 7 {
		s.Children = append(s.Children, s.Children[0])
	}
	if got := s.differs(selector{local: net("1.0.0.0/8"), remote: net("2.0.0.0/8")}, p); !strings.HasSuffix(got, "and 3 more") || strings.Count(got, "10.1.0.0/24") != maxNamedNets {
		t.Errorf("%q", got)
	}
	s.Children = nil
	if got := s.differs(selector{local: net("1.0.0.0/8"), remote: net("2.0.0.0/8")}, p); !strings.HasSuffix(got, "has none") {
		t.Errorf("%q", got)
	}
}

// TestStaticDialRefused: a dial that cannot be is answered at once.
func TestStaticDialRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		dial   func(*Initiate)
		reason Reason
	}{
		{"no such tunnel", func(*Config) {}, func(i *Initiate) { i.Static = "other" }, ReasonConfig},
		{"not a peer", func(*Config) {}, func(i *Initiate) { i.Remote = netip.MustParseAddrPort("192.0.2.99:0") }, ReasonConfig},
		{"no peer", func(c *Config) { c.Statics[0].Peers = nil }, func(i *Initiate) { i.Remote = netip.AddrPort{} }, ReasonConfig},
		{"no address of ours", func(c *Config) { c.Statics[0].Local = netip.Addr{} }, func(*Initiate) {}, ReasonConfig},
		{"the peer has to dial", func(c *Config) { c.Statics[0].XAuth = StaticXAuthServer }, func(*Initiate) {}, ReasonConfig},
		{"no key", func(c *Config) { c.Keys = nil }, func(*Initiate) {}, ReasonNoKey},
		{"key to come", func(c *Config) { c.Keys[0].From = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }, func(*Initiate) {}, ReasonKeyEarly},
		{"no rule", func(c *Config) { c.Rules = nil }, func(*Initiate) {}, ReasonConfig},
	} {
		x := twoSites(t, placement{}, func(west, _ *Config) { c.change(west) })
		ev := Initiate{Ref: 3, Static: "link", Remote: netip.MustParseAddrPort(eastAddr + ":0")}
		c.dial(&ev)
		x.west.step(ev)
		if len(x.west.down) != 1 || x.west.down[0].Reason != c.reason || x.west.down[0].Conn.Ref != 3 || x.west.down[0].Text == "" || x.packets != 0 {
			t.Errorf("%s: %+v", c.name, x.west.down)
		}
		empty(t, x.west)
	}
}

// TestStaticHangUpDialling: what is being dialled is given up, and answered.
func TestStaticHangUpDialling(t *testing.T) {
	x := twoSites(t, placement{})
	x.tap = func(netip.AddrPort, netip.AddrPort, bool, []byte) bool { return false }
	x.west.link(1)
	x.west.link(2) // takes its place
	x.run(time.Second)
	x.west.step(HangUp{Static: "other", Reason: ReasonOperator})
	x.west.step(HangUp{Static: "link", Reason: ReasonOperator, Text: "by hand"})
	if d := x.west.superseded; len(d) != 1 || d[0].Conn.Ref != 1 || d[0].Conn.Static != "link" {
		t.Errorf("%+v", d)
	}
	if d := x.west.down; len(d) != 1 || d[0].Conn.Ref != 2 || d[0].Reason != ReasonOperator || d[0].Text != "by hand" {
		t.Errorf("%+v", d)
	}
	empty(t, x.west)
}

// TestStaticXAuth: Z-8. A peer that is asked for its user, by name and password, and one that is not let in; phase 1
// rekeys ask nobody again.
func TestStaticXAuth(t *testing.T) {
	for _, rsa := range []bool{false, true} {
		for _, aggressive := range []bool{false, true} {
			for _, good := range []bool{true, false} {
				x := twoSites(t, placement{west: rsa}, func(west, east *Config) {
					if rsa {
						byCertificate(west, east)
					}
					w := &west.Statics[0]
					w.Aggressive, w.XAuth, w.User, w.Password = aggressive, StaticXAuthClient, "joe", keymat.Secret("secret of joe")
					if !good {
						w.Password = keymat.Secret("wrong")
					}
					east.Statics[0].XAuth = StaticXAuthServer
				})
				x.east.decide = newDecider()
				x.west.link(1)
				x.run(10 * time.Second)
				if len(x.east.decide.ups) != 0 || len(x.east.decide.answers) != 1 || x.east.decide.answers[0].Static != "link" || x.east.decide.answers[0].Answer.User != "joe" {
					t.Fatalf("asked: %+v, answered: %+v\n%s", x.east.decide.ups, x.east.decide.answers, words(x.west.reports, x.east.reports))
				}
				if !good {
					if len(x.west.up)+len(x.east.up) != 0 || !slices.Equal(reasons(x.west.down), []Reason{ReasonXAuthFailed}) || !slices.Equal(reasons(x.east.down), []Reason{"bad-password"}) {
						t.Errorf("up %v %v, down %+v %+v", x.west.up, x.east.up, x.west.down, x.east.down)
					}
					x.end(t)
					continue
				}
				x.mustLink(t)
				for range 24 {
					x.run(time.Hour)
					x.mustSend(t)
				}
				x.mustLink(t)
				if n := x.east.e.counters[CountPhase1Rekey]; n < 3 || len(x.east.decide.answers) != 1 || len(x.west.down)+len(x.east.down) != 0 {
					t.Errorf("%d phase 1 rekeys, %d answers, down %v %v", n, len(x.east.decide.answers), reasons(x.west.down), reasons(x.east.down))
				}
				x.east.restart(t)
				x.run(time.Hour)
				x.mustSend(t)
				x.end(t)
			}
		}
	}
}

// TestStaticXAuthSameName: a tunnel profile of dynamic subscribers that has the name of a static tunnel does not count for it: its
// pairs of networks are replaced by the side that asks for a user too.
func TestStaticXAuthSameName(t *testing.T) {
	x := twoSites(t, placement{}, func(west, east *Config) {
		west.RekeyMargin = 1000 // it never begins a rekey itself
		w := &west.Statics[0]
		w.XAuth, w.User, w.Password = StaticXAuthClient, "joe", keymat.Secret("secret of joe")
		east.Statics[0].XAuth = StaticXAuthServer
		east.Tunnels = []TunnelProfile{{Name: "link", PeerIDs: []string{"staff"}, ESP: east.Statics[0].ESP}}
	})
	x.east.decide = newDecider()
	x.west.link(1)
	x.run(10 * time.Second)
	x.mustLink(t)
	for range 5 {
		x.run(time.Hour)
		x.mustSend(t)
	}
	if n := x.east.e.counters[CountChildRekey]; n < 2*5 || len(x.west.down)+len(x.east.down) != 0 {
		t.Errorf("%d rekeys of two pairs in five hours, down %v %v", n, reasons(x.west.down), reasons(x.east.down))
	}
	x.end(t)
}

// TestStaticXAuthTooEarly: J8. A peer that is to be asked gets no pair of networks before it has answered.
func TestStaticXAuthTooEarly(t *testing.T) {
	x := twoSites(t, placement{}, func(west, east *Config) {
		west.Statics[0].XAuth, west.Statics[0].User = StaticXAuthClient, "joe"
		east.Statics[0].XAuth = StaticXAuthServer
	})
	x.east.decide = newDecider()
	x.east.decide.silent = true
	x.west.link(1)
	x.run(10 * time.Second)
	c := x.west.only(t)
	c.Client.Passed = true // it does not wait
	x.west.link(2)
	x.run(10 * time.Second)
	if len(x.west.up)+len(x.east.up)+len(x.east.kernel) != 0 || x.east.e.counters[ReasonTooEarly] == 0 {
		t.Errorf("up %v, %v", x.east.up, x.east.e.counters)
	}
	x.run(5 * time.Minute)
	if len(x.east.e.conns) != 0 {
		t.Error("an undecided connection stays")
	}
	x.end(t)
}

// crossRig is a router that has a static tunnel with 198.51.100.7, L2TP clients and dynamic subscribers, each with a key.
func crossRig(t testing.TB, change ...func(*Config)) *rig {
	cfg := at(testConfig(t, ProfileCompatible, groupKey, xauthKey,
		PresharedKey{Name: "key of link", Key: keymat.Secret("the secret of the link"), Static: "link"}), "192.0.2.1")
	cfg.Tunnels = []TunnelProfile{staff(cfg.Transports[0].ESP)}
	net := netip.MustParsePrefix
	cfg.Statics = []StaticTunnel{{Name: "link", Local: netip.MustParseAddr("192.0.2.1"), Peers: []netip.Addr{netip.MustParseAddr("198.51.100.7")}, ESP: cfg.Transports[0].ESP,
		Children: []StaticChild{{Name: "nets", LocalNet: net("10.2.0.0/24"), RemoteNet: net("10.1.0.0/24"), Tunnel: true}, {Name: "gre", Protocol: gre}}}}
	for _, f := range change {
		f(&cfg)
	}
	return newRig(t, cfg)
}

// nets changes a quick mode into one for a static tunnel's networks.
func (q *quickScript) nets(local, remote string, protocol uint8) *quickScript {
	q.idi, q.idr = isakmp.PrefixID(netip.MustParsePrefix(local), protocol, 0), isakmp.PrefixID(netip.MustParsePrefix(remote), protocol, 0)
	q.more = nil
	q.sa.Proposals = slices.Clone(q.sa.Proposals) // those of the offer
	for i := range q.sa.Proposals {
		q.sa.Proposals[i].Transforms = slices.Clone(q.sa.Proposals[i].Transforms)
		for j, x := range q.sa.Proposals[i].Transforms {
			e := x.ESP()
			e.Mode = isakmp.ModeTunnel
			q.sa.Proposals[i].Transforms[j] = e.Transform()
		}
	}
	return q
}

// TestStaticShared: J11. Each kind of phase 1 SA serves its own kind of phase 2, whoever the peer is and from the same
// address, and says so.
func TestStaticShared(t *testing.T) {
	o := quickOffer()
	link := func(s *script) { s.psk = keymat.Secret("the secret of the link") }
	group := func(s *script) { s.psk = groupKey.Key }
	nets := func(s *script) *quickScript { return s.quick(o).nets("10.1.0.0/24", "10.2.0.0/24", 0) }
	l2tp := func(s *script) *quickScript { return s.quick(o) }
	greOnly := func(s *script) *quickScript {
		q := s.quick(o)
		q.idi, q.idr = isakmp.AddrID(s.inner, gre, 0), isakmp.AddrID(s.outer, gre, 0)
		return q
	}
	for _, c := range []struct {
		name   string
		who    func(*script)
		quick  func(*script) *quickScript
		static bool
		reason Reason
	}{
		{"the tunnel's networks in its SA", link, nets, true, ""},
		{"its GRE", link, greOnly, true, ""},
		{"L2TP in it", link, l2tp, true, ReasonNotShared},
		{"L2TP in an L2TP client's", group, l2tp, false, ""},
		{"the tunnel's networks in that", group, nets, false, ReasonNotShared},
		{"its GRE in that", group, greOnly, false, ReasonNotShared},
		{"other networks in the tunnel's", link, func(s *script) *quickScript { return s.quick(o).nets("10.1.0.0/24", "10.3.0.0/24", 0) }, true, ReasonSelectors},
		{"one host of them", link, func(s *script) *quickScript { return s.quick(o).nets("10.1.0.7/32", "10.2.0.0/24", 0) }, true, ReasonSelectors},
		{"all of them and more", link, func(s *script) *quickScript { return s.quick(o).nets("0.0.0.0/0", "10.2.0.0/24", 0) }, true, ReasonSelectors},
		{"the other way round", link, func(s *script) *quickScript { return s.quick(o).nets("10.2.0.0/24", "10.1.0.0/24", 0) }, true, ReasonSelectors},
		{"one protocol of them", link, func(s *script) *quickScript { return s.quick(o).nets("10.1.0.0/24", "10.2.0.0/24", 6) }, true, ReasonSelectors},
		{"AH", link, func(s *script) *quickScript {
			q := nets(s)
			q.sa.Proposals[0].Protocol = isakmp.ProtocolAH
			q.sa.Proposals = q.sa.Proposals[:1]
			return q
		}, true, ReasonAH},
	} {
		r := crossRig(t)
		s := newScript(r, o)
		c.who(s)
		if !s.phase1() {
			t.Fatalf("%s: no phase 1: %s", c.name, words(r.reports))
		}
		if got := r.e.sortedConns()[0].Static != ""; got != c.static {
			t.Errorf("%s: static %v", c.name, got)
		}
		q := c.quick(s)
		ok := q.run()
		if ok != (c.reason == "") || !ok && r.e.counters[c.reason] != 1 || len(r.kernel) != map[bool]int{true: 2}[ok] {
			t.Errorf("%s: %v, %v, %d SAs\n%s", c.name, ok, r.e.counters, len(r.kernel), words(r.reports))
		}
		if last := r.reports[len(r.reports)-1]; !ok && (last.Reason != c.reason || last.Level != LevelInfo || c.reason != ReasonAH && !strings.Contains(last.Text, `static tunnel "link"`)) {
			t.Errorf("%s: %+v", c.name, last)
		}
		r.give(CloseAll{Reason: ReasonShutdown})
	}
}

// TestStaticAndSubscriber: J11. A dynamic subscriber is not let into the tunnel's networks, and the peer of the tunnel not into
// mode config.
func TestStaticAndSubscriber(t *testing.T) {
	r := crossRig(t, func(c *Config) { c.Tunnels[0].XAuth = XAuthNone })
	s := newSubscriber(r, offers.AppleCisco())
	s.in()
	q := s.quick(offers.AppleCisco()).nets("10.1.0.0/24", "10.2.0.0/24", 0)
	if q.run() || r.e.counters[ReasonNotShared] != 1 {
		t.Errorf("a subscriber gets the tunnel's networks: %v\n%s", r.e.counters, words(r.reports))
	}
	r = crossRig(t)
	p := newSubscriber(r, quickOffer())
	p.psk = keymat.Secret("the secret of the link")
	if !p.phase1() {
		t.Fatal("no phase 1")
	}
	before := len(r.sends)
	for _, typ := range []isakmp.ConfigType{isakmp.ConfigRequest, isakmp.ConfigSet} {
		_, m := p.transaction(0, isakmp.AttributeSet{Type: typ, Identifier: 7, Attributes: []isakmp.Attribute{{Type: isakmp.ConfigIP4Address}, {Type: isakmp.XAuthUserName}}})
		p.send(m)
	}
	if len(r.sends) != before || r.e.counters[DropUnexpected] != 2 || len(r.dynamic) != 0 {
		t.Errorf("%d answers, %v", len(r.sends)-before, r.e.counters)
	}
}

// TestStaticKeysApart: J11. The key of a tunnel lets nobody in but its peer: from no other address, by no other name and with
// no other method; and a peer with the key of another kind is of that kind.
func TestStaticKeysApart(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		peer   func(*script)
		reason Reason // of the refusal, "": it is up
	}{
		{"from elsewhere", func(*Config) {}, func(s *script) { s.remote = netip.MustParseAddrPort("198.51.100.9:500"); s.inner = s.remote.Addr() }, ReasonPSKMismatch},
		{"to another address of ours", func(c *Config) {
			c.Statics[0].Local = netip.MustParseAddr("192.0.2.9")
		}, func(*script) {}, ReasonPSKMismatch},
		{"by another name", func(c *Config) { c.Statics[0].PeerID = "@west.example.net" }, func(*script) {}, ReasonIdentity},
		{"by its name", func(c *Config) { c.Statics[0].PeerID = "@west.example.net" }, func(s *script) { s.id = isakmp.TextID(isakmp.IDFQDN, "west.example.net") }, ""},
		{"of a tunnel that has gone", func(c *Config) { c.Statics = nil }, func(*script) {}, ReasonPSKMismatch},
		{"of a tunnel by certificates", func(c *Config) { c.Statics[0].Method = AuthRSA }, func(*script) {}, ReasonPSKMismatch},
	} {
		r := crossRig(t, c.change)
		s := newScript(r, quickOffer())
		s.psk = keymat.Secret("the secret of the link")
		c.peer(s)
		up := s.phase1()
		if up != (c.reason == "") || c.reason != "" && r.e.counters[c.reason] == 0 || len(r.e.conns) != map[bool]int{true: 1}[up] {
			t.Errorf("%s: up %v, %v", c.name, up, r.e.counters)
		}
	}
	// A key that is for everybody at the address of a tunnel by identity: who is not its peer is told so.
	r := crossRig(t, func(c *Config) {
		c.Keys, c.Transports, c.Tunnels = []PresharedKey{{Name: "common", Key: groupKey.Key, Peer: netip.MustParsePrefix("198.51.100.7/32")}}, nil, nil
		c.Statics[0].PeerID = "@west.example.net"
	})
	s := newScript(r, quickOffer())
	if s.phase1() || len(r.e.conns) != 0 || r.e.counters[ReasonIdentity] != 1 || !strings.Contains(words(r.reports), `static tunnel "link" is for @west.example.net`) {
		t.Errorf("%d connections, %v\n%s", len(r.e.conns), r.e.counters, words(r.reports))
	}
}

// TestStaticCertificateForL2TP: D4r, J11. The certificate of a static tunnel opens no way in for L2TP where its transport
// profile takes pre-shared keys only.
func TestStaticCertificateForL2TP(t *testing.T) {
	for _, cred := range []string{"", "server"} {
		m := mode{false, AuthRSA}
		w, client, server, open := modePair(t, m)
		cfg := server.e.cfg
		cfg.Transports = slices.Clone(cfg.Transports)
		cfg.Transports[0].Credential = cred
		cfg.Statics = []StaticTunnel{{Name: "link", PeerID: "@west.example.net", Method: AuthRSA, Credential: "server", ESP: cfg.Transports[0].ESP,
			Children: []StaticChild{{Name: "gre", Protocol: gre}}}}
		server.step(Reconfigure{Config: cfg})
		client.step(open)
		w.run(10 * time.Second)
		if up := cred != ""; up != (len(server.up) == 1) || up == (server.e.counters[ReasonIdentity] > 0) || !up && len(server.e.conns) != 0 {
			t.Errorf("certificate %q: up %v, %v\n%s", cred, server.up, server.e.counters, words(server.reports))
		}
	}
}
