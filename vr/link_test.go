package vr

import (
	"errors"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// goodLinks has one of each kind.
func goodLinks() []Link {
	near, far := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	return []Link{
		{Name: "lan", Kind: LinkInterface, Device: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, Routes: []LinkRoute{{Network: netip.MustParsePrefix("10.9.0.0/16"), Via: far}}},
		{Name: "v1", Kind: LinkVLAN, Device: "eth2", VLAN: 1},
		{Name: "v2", Kind: LinkVLAN, Device: "lan", Inside: true, VLAN: MaxVLAN},
		{Name: "pair", Kind: LinkVeth, Router: "b", Peer: "other"},
		{Name: "tun", Kind: LinkIPIP, Local: near, Remote: far, TTL: 64},
		{Name: "gre", Kind: LinkGRE, Local: near, Remote: far, Key: 1<<32 - 1, TTL: 255},
	}
}

func TestLinksCheck(t *testing.T) {
	spec := func(links ...Link) Spec {
		return Spec{Name: "a", VRF: "red", Table: 7, Links: links, Find: func(string) *Router { return nil }}
	}
	if err := spec(goodLinks()...).clone().check(); err != nil {
		t.Error(err)
	}
	without := spec(goodLinks()...)
	without.Find = nil
	if err := without.clone().check(); err == nil {
		t.Error("a pair with nobody who finds the other router")
	}
	for _, c := range []struct {
		name   string
		of     int // which good link
		change func(*Link)
		says   string
	}{
		{"no name", 0, func(l *Link) { l.Name = "" }, "name"},
		{"long name", 0, func(l *Link) { l.Name = "sixteen-letters-" }, "name"},
		{"blank in a name", 0, func(l *Link) { l.Name = "a b" }, "name"},
		{"the VRF's name", 0, func(l *Link) { l.Name = "red" }, "twice"},
		{"no kind", 0, func(l *Link) { l.Kind = 0 }, "LinkKind(0)"},
		{"unknown kind", 0, func(l *Link) { l.Kind = 6 }, "LinkKind(6)"},
		{"device", 0, func(l *Link) { l.Device = "../x" }, "name of an interface"},
		{"parent", 1, func(l *Link) { l.Device = "" }, "name of an interface"},
		{"VLAN 0", 1, func(l *Link) { l.VLAN = 0 }, "VLAN"},
		{"VLAN 4095", 1, func(l *Link) { l.VLAN = 4095 }, "VLAN"},
		{"no other router", 3, func(l *Link) { l.Router = "" }, "other end"},
		{"no other end", 3, func(l *Link) { l.Peer = "" }, "other end"},
		{"tunnel of IPv6", 4, func(l *Link) { l.Remote = netip.MustParseAddr("2001:db8::1") }, "tunnel"},
		{"tunnel to nowhere", 5, func(l *Link) { l.Remote = netip.Addr{} }, "tunnel"},
		{"small MTU", 0, func(l *Link) { l.MTU = MinLinkMTU - 1 }, "MTU"},
		{"large MTU", 0, func(l *Link) { l.MTU = MaxLinkMTU + 1 }, "MTU"},
		{"address of IPv6", 0, func(l *Link) { l.Addresses = []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")} }, "IPv4"},
		{"no address", 0, func(l *Link) { l.Addresses = []netip.Prefix{{}} }, "IPv4"},
		{"host bits in a route", 0, func(l *Link) { l.Routes[0].Network = netip.MustParsePrefix("10.9.0.1/16") }, "route"},
		{"next hop of IPv6", 0, func(l *Link) { l.Routes[0].Via = netip.MustParseAddr("2001:db8::1") }, "route"},
	} {
		l := goodLinks()[c.of]
		c.change(&l)
		err := spec(l).clone().check()
		var bad *BadSpec
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want something about %q", c.name, err, c.says)
		}
	}
	if err := spec(goodLinks()[0], goodLinks()[0]).clone().check(); err == nil {
		t.Error("a link twice")
	}
	if err := spec(make([]Link, MaxLinks+1)...).clone().check(); err == nil || !strings.Contains(err.Error(), "may have 256") {
		t.Errorf("too many links: %v", err)
	}
}

// TestLinkAliases: what a link is can be read from its alias, and differs when it has to be made anew.
func TestLinkAliases(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range goodLinks() {
		alias := l.alias("a")
		was := former{}
		if l.Kind == LinkInterface {
			was = former{mtu: 1500, up: true, alias: "to the rack was 4 up", addresses: []netip.Prefix{
				netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64"),
			}}
			alias = l.borrowed("a", was)
			was.device = "eth1"
		}
		own, ours := parseOwnLink(alias)
		if !ours || own.router != "a" || own.name != l.Name || own.identity != l.identity() || (own.was != nil) != (l.Kind == LinkInterface) {
			t.Errorf("%q is %+v", alias, own)
		}
		if own.was != nil && !reflect.DeepEqual(*own.was, was) {
			t.Errorf("%q was %+v", alias, *own.was)
		}
		if seen[alias] {
			t.Errorf("%q is that of two links", alias)
		}
		seen[alias] = true
	}
	long := goodLinks()[0].borrowed("a", former{mtu: 9000, alias: strings.Repeat("ü", 200)})
	own, ours := parseOwnLink(long)
	if len(long) > maxAlias || !ours || own.was.mtu != 9000 || own.was.up || !strings.HasPrefix(own.was.alias, "üüü") {
		t.Errorf("a long alias: %q", long)
	}
	// Addresses before the alias, as many as have room; those of a former version are none.
	many := former{mtu: 1500, alias: "uplink"}
	for i := range 100 {
		many.addresses = append(many.addresses, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, 100, byte(i)}), 24))
	}
	long = goodLinks()[0].borrowed("a", many)
	own, ours = parseOwnLink(long)
	if n := len(own.was.addresses); len(long) > maxAlias || !ours || n < 12 || !slices.Equal(own.was.addresses, many.addresses[:n]) || own.was.up {
		t.Errorf("many addresses: %q", long)
	}
	if own, ours := parseOwnLink("vrgate a link lan interface eth1 was 1500 up 10.0.0.1/8"); !ours || !own.was.up || own.was.addresses != nil || own.was.alias != "10.0.0.1/8" {
		t.Errorf("without addresses: %+v", own)
	}
	for _, alias := range []string{
		"", "vrgate", "vrgate a", gatewayAlias("a"), accessAlias("a", "b", ""), "vrgate a link ", "vrgate a link x", "vrgate  link x vlan e 1", "vrgate a b link x vlan e 1",
		"vrgate a link x interface e", "vrgate a link x interface e was", "vrgate a link x interface e was y up", "uplink to vrgate a link x vlan e 1",
	} {
		if own, ours := parseOwnLink(alias); ours {
			t.Errorf("%q is taken for ours: %+v", alias, own)
		}
	}
	if a, b := passing("a", "bc"), passing("ab", "c"); a == b || len(a) > maxLinkName {
		t.Errorf("names on the way: %s, %s", a, b)
	}
}

// FuzzOwnLink: an alias that anybody can write is read without harm, and ours are read as they were written.
func FuzzOwnLink(f *testing.F) {
	f.Add("vrgate a link x interface e was 1500 up alias")
	f.Add("vrgate a link x interface e was 1500 down,192.0.2.1/24,2001:db8::1/64 alias")
	f.Add("vrgate a link x veth b y")
	f.Fuzz(func(t *testing.T, alias string) {
		own, ours := parseOwnLink(alias)
		if !ours {
			return
		}
		again := ownAlias + " " + own.router + linkAlias + own.name + " " + own.identity
		if own.was != nil {
			again += own.was.text(math.MaxInt)
		}
		second, still := parseOwnLink(again)
		if !still || second.router != own.router || second.name != own.name || second.identity != own.identity || (second.was == nil) != (own.was == nil) {
			t.Fatalf("%q is %+v, then %+v", alias, own, second)
		}
		if own.was != nil && (second.was.mtu != own.was.mtu || second.was.up != own.was.up || second.was.device != own.was.device || !slices.Equal(second.was.addresses, own.was.addresses)) {
			t.Fatalf("%q was %+v, then %+v", alias, *own.was, *second.was)
		}
	})
}
