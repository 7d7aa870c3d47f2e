package ike

import (
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
)

// Where the two sites of a test are.
const (
	westAddr, eastAddr     = "198.51.100.7", "192.0.2.1"
	westPublic, eastPublic = "203.0.113.9", "203.0.113.66"
)

// placement says which sites are behind a NAT. East's NAT forwards its ports, so that west can dial it.
type placement struct{ west, east bool }

func (x placement) String() string {
	return map[placement]string{{}: "no NAT", {west: true}: "west behind NAT", {east: true}: "east behind NAT", {true, true}: "both behind NAT"}[x]
}

var placements = []placement{{}, {west: true}, {east: true}, {true, true}}

// sites is a world of two sites with a static tunnel "link" between them, which west calls
// 10.1.0.0/24 and 10.1.1.0/24 and east 10.2.0.0/24.
type sites struct {
	*world
	west, east *node
}

// twoSites makes both sites, which change may change before they begin. The key is the tunnel's own.
func twoSites(t testing.TB, at placement, change ...func(west, east *Config)) *sites {
	w := newWorld(t)
	x := &sites{world: w}
	seen := func(own, public string, nat bool) netip.Addr {
		if nat {
			own = public
		}
		return netip.MustParseAddr(own)
	}
	atWest, atEast := seen(westAddr, westPublic, at.west), seen(eastAddr, eastPublic, at.east)
	wide := netip.MustParsePrefix
	west := siteConfig(t, westAddr, "west", "east", atEast, wide("10.1.0.0/24"), wide("10.2.0.0/24"), wide("10.1.1.0/24"), wide("10.2.0.0/24"))
	east := siteConfig(t, eastAddr, "east", "west", atWest, wide("10.2.0.0/24"), wide("10.1.0.0/24"), wide("10.2.0.0/24"), wide("10.1.1.0/24"))
	for _, c := range change {
		c(&west, &east)
	}
	x.west, x.east = w.add("west", westAddr, west), w.add("server", eastAddr, east)
	if at.west {
		w.nat(westPublic, false, x.west)
	}
	if at.east {
		w.nat(eastPublic, true, x.east)
	}
	return x
}

// siteConfig is the configuration of one site: its address, identity and certificate, the peer's
// and its address, and pairs of networks.
func siteConfig(t testing.TB, local, own, peer string, remote netip.Addr, nets ...netip.Prefix) Config {
	cfg := testConfig(t, ProfileCompatible, PresharedKey{Name: "key of link", Key: keymat.Secret("the secret of the link"), Static: "link"})
	esp := cfg.Transports[0].ESP
	cfg.Transports = nil
	for i := range cfg.Rules {
		cfg.Rules[i].Aggressive = AggressiveAccepted
	}
	cfg.Credentials = []Credential{credential("other", "nobody"), credential(own, "authority")}
	cfg.Authorities = [][]byte{nameDER("authority")}
	cfg.Retransmit = eager
	s := StaticTunnel{Name: "link", Local: netip.MustParseAddr(local), Peers: []netip.Addr{remote}, PeerID: "@" + peer + ".example.net",
		LocalID: "@" + own + ".example.net", Credential: own, ESP: esp, Lifetime: time.Hour, Revision: "1"}
	for i := 0; i < len(nets); i += 2 {
		s.Children = append(s.Children, StaticChild{Name: fmt.Sprint("pair ", i/2+1), LocalNet: nets[i], RemoteNet: nets[i+1], Tunnel: true})
	}
	cfg.Statics = []StaticTunnel{s}
	return cfg
}

// link has a node dial the tunnel.
func (n *node) link(ref uint64) {
	t := n.e.cfg.static("link")
	n.step(Initiate{Ref: ref, Static: "link", Remote: netip.AddrPortFrom(t.Peers[0], 0)})
}

// seed has what is random be the same in each run.
func (x *sites) seed(seed int, test uint64) {
	x.rng = mrand.New(mrand.NewPCG(uint64(seed), test))
	for i, n := range []*node{x.west, x.east} {
		n.e.random = mrand.NewChaCha8([32]byte{byte(seed), byte(i)})
	}
}

// mustLink checks that each side has the one connection of the tunnel, with all pairs of networks and
// nothing else, and that the kernels agree.
func (x *sites) mustLink(t testing.TB) {
	t.Helper()
	for _, n := range []*node{x.west, x.east} {
		cs := n.e.sortedConns()
		if len(cs) != 1 || !cs[0].Announced || cs[0].Info.Static != "link" {
			t.Fatalf("%s: %d connections, up %d, down %v, children %v\nwest\n%s east\n%s", n.name, len(cs), len(n.up), reasons(n.down), n.children, words(x.west.reports), words(x.east.reports))
		}
		want := n.e.cfg.static("link").Children
		for _, c := range want {
			if cs[0].named(c.Name) == nil {
				t.Fatalf("%s: %s is not up: %v\nwest\n%s east\n%s", n.name, c.Name, n.children, words(x.west.reports), words(x.east.reports))
			}
		}
		if len(n.alive()) != len(want) {
			t.Fatalf("%s: up are %v", n.name, n.alive())
		}
	}
	agree(t, x.west, x.east)
}

// alive are the pairs of networks that are up by what the engine has told.
func (n *node) alive() []string {
	var up []ChildUp
	for _, f := range n.children {
		switch f := f.(type) {
		case ChildUp:
			up = append(up, f)
		case ChildDown:
			up = slices.DeleteFunc(up, func(u ChildUp) bool { return u == ChildUp{f.Conn, f.Static, f.Child} })
		case ConnDown:
			up = slices.DeleteFunc(up, func(u ChildUp) bool { return u.Conn == f.Conn.ID })
		}
	}
	var names []string
	for _, u := range up {
		names = append(names, u.Child)
	}
	return names
}

func reasons(ds []ConnDown) (out []Reason) {
	for _, d := range ds {
		out = append(out, d.Reason)
	}
	return out
}

// end hangs up at both sides and checks that nothing is left.
func (x *sites) end(t testing.TB) {
	t.Helper()
	x.loss, x.dup, x.jitter = 0, 0, 0
	x.west.step(HangUp{Static: "link", Reason: ReasonOperator})
	x.run(3 * time.Minute)
	x.east.step(CloseAll{Reason: ReasonShutdown})
	x.west.step(CloseAll{Reason: ReasonShutdown})
	x.run(3 * time.Minute)
	empty(t, x.west, x.east)
}
