package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// TestStaticPeerIDIsAddress: Z-9. By default a peer's identity is the address that it comes from or is dialled at. Who is
// behind a NAT, or calls itself by a name, is refused at whichever side wants that, and the sentence says what to configure.
func TestStaticPeerIDIsAddress(t *testing.T) {
	for _, c := range []struct {
		name       string
		at         placement
		rsa        bool
		west, east string // what each calls itself
		advice     string // that east, or west if it begins with "west: ", gives; "": it comes up
	}{
		{"both by address", placement{}, false, "", "", ""},
		{"by address given", placement{}, false, westAddr, eastAddr, ""},
		{"west behind NAT", placement{west: true}, false, "", "", `peer-id "198.51.100.7"`},
		{"west behind NAT, told", placement{west: true}, false, westPublic, "", ""},
		{"east behind NAT", placement{east: true}, false, "", "", `west: peer-id "192.0.2.1"`},
		{"east behind NAT, told", placement{east: true}, false, "", eastPublic, ""},
		{"west by name", placement{}, false, "@west.example.net", "", `peer-id "@west.example.net"`},
		{"west by a pattern", placement{}, false, "@*", "", "calls itself"},
		{"east by key id", placement{}, false, "", "keyid:hq", `west: peer-id "keyid:hq"`},
		{"certificates by name", placement{}, true, "@west.example.net", eastAddr, `peer-id "@west.example.net"`},
		{"certificates by address", placement{}, true, westAddr, eastAddr, ""},
	} {
		for _, aggressive := range []bool{false, true} {
			x := twoSites(t, c.at, func(west, east *Config) {
				if c.rsa {
					byCertificate(west, east)
				}
				for _, s := range []*StaticTunnel{&west.Statics[0], &east.Statics[0]} {
					s.PeerID, s.PeerIDIsAddress, s.Aggressive = "", true, aggressive
				}
				west.Statics[0].LocalID, east.Statics[0].LocalID = c.west, c.east
			})
			x.west.link(1)
			x.run(2 * time.Minute)
			if c.advice == "" {
				x.mustLink(t)
				if i := x.east.only(t).Info; i.PeerID == "" || i.LocalID == "" || x.west.only(t).Info.LocalID != i.PeerID || x.west.only(t).Info.PeerID != i.LocalID {
					t.Errorf("%s: identities %q and %q", c.name, i.PeerID, i.LocalID)
				}
				x.run(9 * time.Hour)
				x.mustSend(t)
				x.end(t)
				continue
			}
			said := words(x.east.reports)
			advice, west := strings.CutPrefix(c.advice, "west: ")
			if west {
				if d := x.west.down; len(d) == 1 && d[0].Reason == ReasonIdentity {
					said = d[0].Text
				}
			} else if x.east.e.counters[ReasonIdentity] == 0 {
				t.Errorf("%s, aggressive %v: %v", c.name, aggressive, x.east.e.counters)
			}
			if len(x.west.up)+len(x.east.up) != 0 || len(x.west.down) != 1 || !strings.Contains(said, advice) || strings.Contains(said, "peer-id") != strings.Contains(advice, "peer-id") {
				t.Errorf("%s, aggressive %v: up %v %v, down %+v, said\n%s", c.name, aggressive, x.west.up, x.east.up, x.west.down, said)
			}
			x.end(t)
		}
	}
}

// FuzzAdvice: what is written of a peer's identity for the operator to configure is that identity, and no pattern.
func FuzzAdvice(f *testing.F) {
	for _, id := range []string{"192.0.2.1", "2001:db8::1", "@a.example", "a@b", "keyid:x", "dn:CN=x,O=y"} {
		p := parseID(id)
		f.Add(uint8(p.Type), p.Data)
	}
	f.Fuzz(func(t *testing.T, typ uint8, data []byte) {
		id := isakmp.ID{Type: isakmp.IDType(typ), Data: data}
		text := configured(id)
		if text == "" {
			return
		}
		if p := newIDPattern(text); p.any || p.anyDN || strings.Contains(text, anyText) || !p.matches(newShownID(id)) || len(text) > 8*maxShown {
			t.Errorf("%v is written as %q", id, text)
		}
	})
}

// TestStaticManyKinds: J11. Two Windows L2TP clients with the group key, and routers with keys of their own whose tunnels take
// them from anywhere or from the address of the NAT, all behind that NAT and on one server address: each is what its key says, over
// all rekeys, whoever comes first.
func TestStaticManyKinds(t *testing.T) {
	public := netip.MustParseAddr(westPublic)
	for _, c := range []struct {
		name       string
		first      []netip.Addr // peers of tunnel "link"; nil: anywhere
		second     []netip.Addr
		any        bool // identities
		aggressive bool
	}{
		{"anywhere", nil, nil, false, false},
		{"anywhere, aggressive", nil, nil, false, true},
		{"anywhere, any identity", nil, nil, true, false},
		{"one at the NAT's address", []netip.Addr{public}, nil, false, false},
		{"one at the NAT's address, any identity", []netip.Addr{public}, nil, true, false},
		{"both there, aggressive", []netip.Addr{public}, []netip.Addr{public}, false, true},
		{"both there, any identity", []netip.Addr{public}, []netip.Addr{public}, true, false},
	} {
		for _, clientsFirst := range []bool{true, false} {
			x := twoSites(t, placement{west: true}, func(west, east *Config) {
				west.Statics[0].Aggressive = c.aggressive
				east.Statics[0].Peers = c.first
				second := east.Statics[0]
				second.Name, second.PeerID, second.Peers = "second", "@north.example.net", c.second
				if c.any {
					east.Statics[0].PeerID, second.PeerID = "", ""
				}
				east.Statics = append(east.Statics, second)
				east.Keys = append(east.Keys, groupKey, PresharedKey{Name: "key of second", Key: keymat.Secret("the secret of the second"), Static: "second"})
				east.Transports = at(testConfig(t, ProfileCompatible), eastAddr).Transports
			})
			cfg := x.west.e.cfg
			cfg.Statics, cfg.Keys = slices.Clone(cfg.Statics), slices.Clone(cfg.Keys)
			cfg.Statics[0].Local, cfg.Statics[0].LocalID = netip.MustParseAddr("198.51.100.8"), "@north.example.net"
			cfg.Keys[0].Key = keymat.Secret("the secret of the second")
			north := x.add("north", "198.51.100.8", cfg)
			var clients []*node
			for _, a := range []string{"198.51.100.9", "198.51.100.10"} {
				n := x.add("client "+a, a, at(testConfig(t, ProfileCompatible, groupKey), a))
				n.e.cfg.Retransmit = eager
				clients = append(clients, n)
			}
			dial := func() {
				for i, n := range clients {
					n.behind = x.west.behind
					n.dial(eastAddr, uint64(3+i), 1701)
				}
			}
			north.behind = x.west.behind
			if clientsFirst {
				dial()
				x.run(time.Second)
			}
			x.west.link(1)
			north.link(2)
			if !clientsFirst {
				x.run(time.Second)
				dial()
			}
			x.run(10 * time.Second)
			for range 4 {
				kinds := map[string]int{}
				for _, i := range x.east.e.Conns() {
					kinds[i.Static+"/"+i.Key]++
				}
				if len(kinds) != 3 || kinds["link/key of link"] != 1 || kinds["second/key of second"] != 1 || kinds["/group"] != 2 ||
					len(x.east.alive()) != 4 || len(x.west.alive()) != 2 || len(north.alive()) != 2 {
					t.Fatalf("%s, clients first %v: %v\n%s", c.name, clientsFirst, kinds, words(x.east.reports))
				}
				for i, n := range clients {
					if len(n.up) != 1 || len(n.down) != 0 {
						t.Fatalf("%s: client %d: up %d, down %+v", c.name, i, len(n.up), n.down)
					}
				}
				x.run(3 * time.Hour)
			}
			if len(x.east.down)+len(x.west.down)+len(north.down) != 0 || x.east.e.counters[ReasonNotShared] != 0 {
				t.Errorf("%s: down %v", c.name, reasons(x.east.down))
			}
			for _, n := range append(clients, north) {
				n.step(CloseAll{Reason: ReasonShutdown})
			}
			x.end(t)
			empty(t, append(clients, north)...)
		}
	}
}
