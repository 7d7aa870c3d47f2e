package ike

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// byCertificate has both sites prove themselves by RSA signatures.
func byCertificate(west, east *Config) {
	west.Statics[0].Method, east.Statics[0].Method = AuthRSA, AuthRSA
}

// TestStaticLink: Z-1, Z-3, Z-4, K1. Each method, mode, role and placement of NATs, with two pairs of
// networks; who did not dial comes up the same.
func TestStaticLink(t *testing.T) {
	for _, at := range placements {
		for _, rsa := range []bool{false, true} {
			for _, aggressive := range []bool{false, true} {
				for _, role := range []string{"west dials", "east dials", "both dial"} {
					if role != "west dials" && at != (placement{}) && at != (placement{east: true}) || role == "both dial" && at.east {
						continue // west's NAT forwards nothing
					}
					t.Run(fmt.Sprintf("%v/rsa=%v/aggressive=%v/%s", at, rsa, aggressive, role), func(t *testing.T) {
						x := twoSites(t, at, func(west, east *Config) {
							if rsa {
								byCertificate(west, east)
							}
							west.Statics[0].Aggressive, east.Statics[0].Aggressive = aggressive, aggressive
						})
						if role != "east dials" {
							x.west.link(1)
						}
						if role != "west dials" {
							x.east.link(2)
						}
						x.run(5 * time.Second)
						x.mustLink(t)
						i := x.west.e.Conns()[0]
						if i.Encap != (at.west || at.east) || i.NATLocal != at.west || i.NATPeer != at.east || i.Aggressive != aggressive || i.Profile != "link" {
							t.Errorf("west: %+v", i)
						}
						x.run(5 * time.Minute)
						x.mustLink(t)
						if len(x.west.kernel) != 4 || len(x.east.kernel) != 4 {
							t.Errorf("%d and %d SAs", len(x.west.kernel), len(x.east.kernel))
						}
						if role != "east dials" && (len(x.west.up) == 0 || !slices.ContainsFunc(x.west.up, func(i ConnInfo) bool { return i.Ref == 1 })) {
							t.Errorf("the dial is not answered: %+v", x.west.up)
						}
						for _, sa := range x.east.kernel {
							if sa.Static != "link" || sa.Child == "" || !sa.Tunnel || sa.LocalNet != netip.MustParsePrefix("10.2.0.0/24") {
								t.Errorf("SA %+v", sa)
							}
						}
						x.end(t)
					})
				}
			}
		}
	}
}

// TestStaticBothAtOnce: both sides dial within each other's exchange, at every offset of a few messages, and end
// with one connection that lasts.
func TestStaticBothAtOnce(t *testing.T) {
	for late := range 40 {
		for _, aggressive := range []bool{false, true} {
			x := twoSites(t, placement{}, func(west, east *Config) {
				west.Statics[0].Aggressive, east.Statics[0].Aggressive = aggressive, aggressive
			})
			x.west.link(1)
			x.run(time.Duration(late) * 2 * time.Millisecond)
			x.east.link(2)
			for range 20 {
				x.run(10 * time.Second)
				x.mustLink(t)
			}
			for _, n := range []*node{x.west, x.east} {
				if len(n.down) != 0 || len(n.kernel) != 4 || len(n.e.conns) != 1 || len(n.only(t).Phase1) != 1 {
					t.Fatalf("%d ms late, aggressive %v: %s: down %v, %d SAs, %d phase 1 SAs\n%s", late*2, aggressive, n.name, reasons(n.down), len(n.kernel), len(n.only(t).Phase1), words(n.reports))
				}
			}
			x.end(t)
		}
	}
}

// TestStaticDialedAgain: a dial of what is up is answered, opens what is missing, and changes nothing else.
func TestStaticDialedAgain(t *testing.T) {
	x := twoSites(t, placement{})
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	x.east.link(7)
	x.run(5 * time.Second)
	x.mustLink(t)
	if last := x.east.up[len(x.east.up)-1]; len(x.east.up) != 2 || last.Ref != 7 || last.ID != x.east.up[0].ID || x.east.e.counters[CountPhase1Up] != 1 {
		t.Errorf("up %+v", x.east.up)
	}
	// One pair of networks goes, and comes again by a dial.
	c := x.east.only(t)
	x.east.step(SAExpired{SPI: c.named("pair 2").In.SPI, Dir: Inbound, Hard: true})
	x.run(time.Second)
	for _, n := range []*node{x.west, x.east} {
		if got := n.alive(); !slices.Equal(got, []string{"pair 1"}) || len(n.kernel) != 2 {
			t.Fatalf("%s: up are %v, %v", n.name, got, n.children)
		}
	}
	if d, ok := x.west.children[len(x.west.children)-1].(ChildDown); !ok || d.Reason != ReasonPeerDelete || !d.ByPeer || d.Child != "pair 2" || d.Static != "link" {
		t.Errorf("west: %+v", x.west.children)
	}
	x.west.link(8)
	x.run(5 * time.Second)
	x.mustLink(t)
	if len(x.west.down)+len(x.east.down) != 0 {
		t.Errorf("down %v %v", x.west.down, x.east.down)
	}
	x.end(t)
}

// TestStaticTransport: GRE and IP in IP travel in transport mode, with a NAT at either side too.
func TestStaticTransport(t *testing.T) {
	for _, proto := range []uint8{gre, ipip, 0} {
		for _, at := range placements {
			x := twoSites(t, at, func(west, east *Config) {
				for _, c := range []*Config{west, east} {
					c.Statics[0].Children = []StaticChild{{Name: "hosts", Protocol: proto}}
				}
			})
			x.west.link(1)
			x.run(5 * time.Second)
			x.mustLink(t)
			for _, n := range []*node{x.west, x.east} {
				for _, sa := range n.kernel {
					if sa.Tunnel || sa.Protocol != proto || sa.LocalPort != 0 || sa.SkipChecksum || !sa.LocalNet.IsSingleIP() || !sa.RemoteNet.IsSingleIP() {
						t.Errorf("%v, protocol %d, %s: %+v", at, proto, n.name, sa)
					}
				}
				n.step(Rekey{Conn: n.only(t).Info.ID})
				x.run(5 * time.Minute)
				x.mustLink(t)
			}
			x.end(t)
		}
	}
}

// TestStaticAnyNetwork: 0.0.0.0/0 on either side, and a pair with protocol and ports.
func TestStaticAnyNetwork(t *testing.T) {
	any, net := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.1.0.0/24")
	x := twoSites(t, placement{}, func(west, east *Config) {
		west.Statics[0].Children = []StaticChild{{Name: "all", LocalNet: net, RemoteNet: any, Tunnel: true}, {Name: "web", LocalNet: any, RemoteNet: any, Protocol: 6, RemotePort: 443, Tunnel: true}}
		east.Statics[0].Children = []StaticChild{{Name: "web", LocalNet: any, RemoteNet: any, Protocol: 6, LocalPort: 443, Tunnel: true}, {Name: "all", LocalNet: any, RemoteNet: net, Tunnel: true}}
	})
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	for _, sa := range x.east.kernel {
		if web := sa.Child == "web"; web != (sa.Protocol == 6) || web != (sa.LocalPort == 443) || sa.RemotePort != 0 || sa.LocalNet != any {
			t.Errorf("%+v", sa)
		}
	}
	x.end(t)
}

// TestStaticIDs: Z-9. Identities by type and content, crosswise equal, "any" on either side.
func TestStaticIDs(t *testing.T) {
	for _, c := range []struct {
		west, east   string // what each calls itself
		atEast, want string // what east wants, what west wants
		ok           bool
	}{
		{"@west.example.net", "@east.example.net", "@west.example.net", "@east.example.net", true},
		{"@WEST.example.net", "@east.example.net", "@west.example.net", "@EAST.example.net", true},
		{"west@example.net", "keyid:east", "west@example.net", "keyid:east", true},
		{"", "", westAddr, eastAddr, true},
		{"", "", "", "*", true},
		{"192.168.1.1", "10.0.0.1", "192.168.1.1", "10.0.0.1", true},
		{"@west.example.net", "@east.example.net", "west.example.net", "@east.example.net", false},
		{"@west.example.net", "@east.example.net", "@west.example.net", "@other.example.net", false},
		{"", "@east.example.net", "@west.example.net", "@east.example.net", false},
	} {
		for _, aggressive := range []bool{false, true} {
			x := twoSites(t, placement{}, func(west, east *Config) {
				w, e := &west.Statics[0], &east.Statics[0]
				w.Aggressive, w.LocalID, e.LocalID, e.PeerID, w.PeerID = aggressive, c.west, c.east, c.atEast, c.want
			})
			x.west.link(1)
			x.run(2 * time.Minute)
			if c.ok {
				x.mustLink(t)
				x.end(t)
				continue
			}
			if len(x.west.up)+len(x.east.up) != 0 || len(x.west.down) != 1 || x.west.down[0].Conn.Static != "link" || x.west.down[0].Conn.Ref != 1 {
				t.Errorf("%+v, aggressive %v: west up %v, down %+v", c, aggressive, x.west.up, x.west.down)
			}
			x.end(t)
		}
	}
}

// TestStaticKeys: which pre-shared key serves a tunnel, on either side.
func TestStaticKeys(t *testing.T) {
	secret := func(k PresharedKey) PresharedKey {
		k.Key = keymat.Secret("the secret of the link")
		return k
	}
	other := PresharedKey{Name: "another", Key: keymat.Secret("another secret")}
	both := func(keys ...PresharedKey) func(*Config) { return func(c *Config) { c.Keys = keys } }
	for _, c := range []struct {
		name       string
		west, east func(*Config)
		ok         bool
	}{
		{"its own", both(other, secret(PresharedKey{Name: "own", Static: "link"})), both(secret(PresharedKey{Name: "own", Static: "link"}), other), true},
		{"by address", both(secret(PresharedKey{Name: "east", Peer: netip.MustParsePrefix(eastAddr + "/32")})), both(secret(PresharedKey{Name: "west", Peer: netip.MustParsePrefix(westAddr + "/32")})), true},
		{"by identity", both(secret(PresharedKey{Name: "east", ID: "@east.example.net"})), both(secret(PresharedKey{Name: "west", ID: "@west.example.net"})), true},
		{"another's", both(secret(PresharedKey{Name: "own", Static: "link"})), both(PresharedKey{Name: "own", Static: "link", Key: other.Key}), false},
		{"a common one beside its own", both(secret(PresharedKey{Name: "own", Static: "link"})), both(PresharedKey{Name: "own", Static: "link", Key: other.Key}, secret(PresharedKey{Name: "west", Peer: netip.MustParsePrefix(westAddr + "/32")})), false},
		{"a group's", both(secret(PresharedKey{Name: "own", Static: "link"})), both(secret(PresharedKey{Name: "group", Group: true})), false},
		{"of another tunnel", both(secret(PresharedKey{Name: "own", Static: "link"})), both(secret(PresharedKey{Name: "own", Static: "removed"})), false},
		{"none", both(), both(), false},
		{"expired", both(secret(PresharedKey{Name: "own", Static: "link"})), both(secret(PresharedKey{Name: "own", Static: "link", Until: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)})), false},
		{"expired here", both(secret(PresharedKey{Name: "own", Static: "link", Until: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)})), both(secret(PresharedKey{Name: "own", Static: "link"})), false},
		{"rotated", both(PresharedKey{Name: "old", Static: "link", Key: other.Key, Until: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}, secret(PresharedKey{Name: "new", Static: "link"})), both(secret(PresharedKey{Name: "own", Static: "link"})), true},
	} {
		for _, aggressive := range []bool{false, true} {
			x := twoSites(t, placement{}, func(west, east *Config) {
				c.west(west)
				c.east(east)
				west.Statics[0].Aggressive = aggressive
			})
			x.west.link(1)
			x.run(2 * time.Minute)
			if c.ok {
				x.mustLink(t)
			} else if len(x.west.up)+len(x.east.up) != 0 || len(x.west.down) != 1 {
				t.Errorf("%s, aggressive %v: up %v %v, down %+v", c.name, aggressive, x.west.up, x.east.up, x.west.down)
			}
			x.end(t)
		}
	}
}

// TestStaticDynamicPeer: Z-3. A peer that may be anywhere is known by its key, in aggressive mode or by trial, or by its
// certificate, and may come back from another address.
func TestStaticDynamicPeer(t *testing.T) {
	for _, rsa := range []bool{false, true} {
		for _, aggressive := range []bool{false, true} {
			x := twoSites(t, placement{west: true}, func(west, east *Config) {
				if rsa {
					byCertificate(west, east)
				}
				west.Statics[0].Aggressive, east.Statics[0].Peers = aggressive, nil
			})
			x.west.link(1)
			x.run(5 * time.Second)
			x.mustLink(t)
			// Its line has got another address, and the router has begun anew.
			x.world.nat("203.0.113.10", false, x.west)
			x.west.step(HangUp{Static: "link", Reason: ReasonOperator})
			x.run(time.Second)
			x.west.children = nil
			x.west.link(2)
			x.run(10 * time.Second)
			x.mustLink(t)
			if i := x.east.only(t).Info; i.Remote.Addr() != netip.MustParseAddr("203.0.113.10") || len(x.east.kernel) != 4 {
				t.Errorf("%+v, %d SAs", i, len(x.east.kernel))
			}
			x.end(t)
		}
	}
}

// TestStaticLoss: a fifth of all datagrams lost each way, and some twice or out of order: each dial of either side or of
// both brings everything up within a minute.
func TestStaticLoss(t *testing.T) {
	for seed := range 30 {
		x := twoSites(t, placements[seed%2], func(west, east *Config) {
			if seed%3 == 0 {
				byCertificate(west, east)
			}
			west.Statics[0].Aggressive = seed%5 == 0
		})
		for range seed {
			x.rng.Uint64()
		}
		x.loss, x.dup, x.jitter = 0.2, 0.1, 300*time.Millisecond
		x.west.link(1)
		if seed%4 == 0 && seed%2 == 0 {
			x.east.link(2)
		}
		x.run(time.Minute)
		x.mustSend(t)
		x.loss = 0
		x.run(5 * time.Minute)
		x.mustLink(t)
		x.end(t)
	}
}

// TestStaticFragments: certificates that do not fit into a datagram pass in fragments, in either role.
func TestStaticFragments(t *testing.T) {
	for _, dialler := range []string{"west", "east"} {
		x := twoSites(t, placement{}, func(west, east *Config) {
			byCertificate(west, east)
			for _, c := range []*Config{west, east} {
				c.MaxFragment = 576
				c.Credentials[1].Chain = append(c.Credentials[1].Chain, make([]byte, 3000))
			}
		})
		largest := 0
		x.tap = func(_, _ netip.AddrPort, _ bool, data []byte) bool {
			if data[16] == 132 || data[18] != 2 { // fragments, and all but main mode, whose first message goes before they are agreed on
				largest = max(largest, len(data))
			}
			return true
		}
		if dialler == "west" {
			x.west.link(1)
		} else {
			x.east.link(1)
		}
		x.run(5 * time.Second)
		x.mustLink(t)
		if largest == 0 || largest > 576 {
			t.Errorf("%s dials: the largest of the fragments has %d bytes", dialler, largest)
		}
		x.end(t)
	}
}

// TestStaticLargeLost: on a way that loses IP fragments, a peer that does not take those of IKE is not reached, and the operator reads why.
func TestStaticLargeLost(t *testing.T) {
	for _, takes := range []bool{true, false} {
		x := twoSites(t, placement{}, func(west, east *Config) {
			byCertificate(west, east)
			east.Fragmentation = takes
			for _, c := range []*Config{west, east} {
				c.Credentials[1].Chain = append(c.Credentials[1].Chain, make([]byte, 3000))
			}
		})
		x.tap = func(_, _ netip.AddrPort, _ bool, data []byte) bool { return len(data) <= 1472 }
		x.west.link(1)
		x.run(2 * time.Minute)
		if takes {
			x.mustLink(t)
		} else if d := x.west.down; len(d) != 1 || d[0].Reason != ReasonTimeout || !strings.Contains(d[0].Text, "the peer does not take fragments of IKE") {
			t.Errorf("why the tunnel is down: %+v", d)
		}
		x.end(t)
	}
}

// TestStaticNoSelectors: a peer that names no selectors means the two hosts, which only a pair in transport mode for any
// protocol is; it gets none back.
func TestStaticNoSelectors(t *testing.T) {
	for _, c := range []struct {
		pair StaticChild
		ok   bool
	}{
		{StaticChild{Name: "hosts"}, true},
		{StaticChild{Name: "gre", Protocol: gre}, false},
		{StaticChild{Name: "nets", LocalNet: netip.MustParsePrefix("10.2.0.0/24"), RemoteNet: netip.MustParsePrefix("10.1.0.0/24"), Tunnel: true}, false},
	} {
		r := crossRig(t, func(cfg *Config) { cfg.Statics[0].Children = []StaticChild{c.pair} })
		s := newScript(r, quickOffer())
		s.psk = keymat.Secret("the secret of the link")
		if !s.phase1() {
			t.Fatal("no phase 1")
		}
		q := s.quick(quickOffer())
		q.noIDs = true
		out := s.send(q.message1())
		if c.ok != (len(r.kernel) == 1) || c.ok == (r.e.counters[ReasonSelectors] == 1) {
			t.Fatalf("%s: %d SAs, %v", c.pair.Name, len(r.kernel), r.e.counters)
		}
		if !c.ok {
			continue
		}
		_, ps, _ := s.unseal(out[0].Data, q.iv)
		for _, p := range ps {
			if p.Type == isakmp.TypeID {
				t.Error("selectors come back")
			}
		}
	}
}

// TestStaticBehindOneNAT: J11. Two routers and an L2TP client behind one address, each with a key of its own, are told
// apart and live on side by side over their rekeys.
func TestStaticBehindOneNAT(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		x := twoSites(t, placement{west: true}, func(west, east *Config) {
			west.Statics[0].Aggressive = aggressive
			second := east.Statics[0]
			second.Name, second.PeerID = "second", "@north.example.net"
			east.Statics = append(east.Statics, second)
			east.Keys = append(east.Keys, groupKey, PresharedKey{Name: "key of second", Key: keymat.Secret("the secret of the second"), Static: "second"})
			east.Transports = at(testConfig(t, ProfileCompatible), eastAddr).Transports
		})
		cfg := x.west.e.cfg
		cfg.Statics, cfg.Keys = slices.Clone(cfg.Statics), slices.Clone(cfg.Keys)
		cfg.Statics[0].Local, cfg.Statics[0].LocalID = netip.MustParseAddr("198.51.100.8"), "@north.example.net"
		cfg.Keys[0].Key = keymat.Secret("the secret of the second")
		north := x.add("north", "198.51.100.8", cfg)
		client := x.add("client", "198.51.100.9", at(testConfig(t, ProfileCompatible, groupKey), "198.51.100.9"))
		north.behind, client.behind = x.west.behind, x.west.behind
		x.west.link(1)
		north.link(2)
		client.dial(eastAddr, 3, 1701)
		x.run(10 * time.Second)
		for range 48 {
			if len(x.west.alive()) != 2 || len(north.alive()) != 2 || len(client.up) != 1 || len(x.east.e.conns) != 3 || len(x.east.alive()) != 4 {
				t.Fatalf("west %v, north %v, client %v; %d connections\n%s", x.west.alive(), north.alive(), client.up, len(x.east.e.conns), words(x.east.reports))
			}
			x.run(30 * time.Minute)
		}
		kinds := map[string]string{}
		for _, i := range x.east.e.Conns() {
			kinds[i.PeerID] = i.Static + "/" + i.Key
		}
		want := map[string]string{"FQDN \"west.example.net\"": "link/key of link", "FQDN \"north.example.net\"": "second/key of second", "198.51.100.9": "/group"}
		if len(x.east.down)+len(x.west.down)+len(north.down)+len(client.down) != 0 || !maps.Equal(kinds, want) {
			t.Errorf("%v, down %v", kinds, reasons(x.east.down))
		}
		client.step(CloseAll{Reason: ReasonShutdown})
		north.step(CloseAll{Reason: ReasonShutdown})
		x.end(t)
		empty(t, north, client)
	}
}
