package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestLinks: each kind of link, with its defaults, and the far end of a pair in the other router.
func TestLinks(t *testing.T) {
	c, warnings, errs := parseFiles(map[string]string{
		"a": `
links:
  - interface: {device: eth1}
    addresses: [10.0.0.1/24, 10.0.1.1/24]
    mtu: 9000
    routes:
      - {network: 10.9.0.0/16, via: 10.0.1.254, metric: 7}
      - network: 10.8.0.0/16
  - {name: on-eth1, vlan: {parent: eth1, id: 4094}}
  - {name: on-eth2, vlan: {parent: eth2, id: 1}, up: false}
  - name: to-b
    veth: {virtual-router: b, name: to-a, addresses: [10.1.0.2/31], routes: [{network: 10.0.0.0/24, via: 10.1.0.3}]}
    addresses: [10.1.0.3/31]
    mtu: 1400
  - {name: tun, ipip: {local: 10.0.0.1, remote: 192.0.2.9}}
  - {name: gre, gre: {local: 10.0.0.1, remote: 192.0.2.9, key: 4294967295, ttl: 0}}
pools: [{name: p, ranges: [10.0.1.100-10.0.1.200]}]
`,
		"b": "namespace: {name: b}\n",
	})
	if len(errs) > 0 {
		t.Fatal(lines(errs))
	}
	checkInvariants(t, c)
	p := netip.MustParsePrefix
	want := map[string][]Link{
		"a": {
			{
				Name: "eth1", Kind: LinkInterface, Interface: InterfaceLink{"eth1"}, MTU: 9000, Up: true, Addresses: []netip.Prefix{p("10.0.0.1/24"), p("10.0.1.1/24")},
				Routes: []LinkRoute{{Network: p("10.8.0.0/16")}, {p("10.9.0.0/16"), netip.MustParseAddr("10.0.1.254"), 7}},
			},
			{Name: "gre", Kind: LinkGRE, Up: true, GRE: GRELink{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.9"), 4294967295, 0}},
			{Name: "on-eth1", Kind: LinkVLAN, Up: true, VLAN: VLANLink{"eth1", true, 4094}},
			{Name: "on-eth2", Kind: LinkVLAN, VLAN: VLANLink{"eth2", false, 1}},
			{Name: "to-b", Kind: LinkVeth, Up: true, Veth: VethLink{"b", "to-a"}, MTU: 1400, Addresses: []netip.Prefix{p("10.1.0.3/31")}},
			{Name: "tun", Kind: LinkIPIP, Up: true, IPIP: TunnelLink{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.9"), 64}},
		},
		"b": {
			{
				Name: "to-a", Kind: LinkVeth, Far: true, Up: true, Veth: VethLink{"a", "to-b"}, MTU: 1400, Addresses: []netip.Prefix{p("10.1.0.2/31")},
				Routes: []LinkRoute{{p("10.0.0.0/24"), netip.MustParseAddr("10.1.0.3"), 0}},
			},
		},
	}
	for name, links := range want {
		if diff := cmp.Diff(links, c.Router(name).Links, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("links of %s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff([]string{`vr/a.yaml:4:30: the network of 10.0.1.1/24 overlaps the pool "p": hosts on the link cannot reach subscribers with those addresses`}, lines(warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestLinkErrors has every mistake that links can contain, each at its place.
func TestLinkErrors(t *testing.T) {
	for name, test := range map[string]struct {
		a, b string // what is below "links:"
		want []string
	}{
		"no kind":         {"- name: x", "", []string{`vr/a.yaml:2:5: the link needs one of "interface", "vlan", "veth", "ipip" and "gre"`}},
		"two kinds":       {"- {name: x, interface: {device: e}, vlan: {parent: f, id: 1}}", "", []string{`vr/a.yaml:2:5: the link is both interface and vlan; it can be one of them only`}},
		"no name":         {"- {vlan: {parent: e, id: 1}}", "", []string{`vr/a.yaml:2:5: key "name" is missing`}},
		"no device":       {"- {name: x, interface: {}}", "", []string{`vr/a.yaml:2:26: key "device" is missing`}},
		"not a section":   {"- x", "", []string{`vr/a.yaml:2:5: entry 1 of "links" must be a section of keys, not a single value`}},
		"slash in a name": {"- {name: a/b, interface: {device: e/1}}", "", []string{`vr/a.yaml:2:12: "name" is "a/b" but must be a name that an interface can have`, `vr/a.yaml:2:37: "device" is "e/1" but must be a name that an interface can have`}},
		"loopback":        {"- {interface: {device: lo}}", "", []string{`vr/a.yaml:2:26: "device" is "lo" but must be a name that an interface can have`}},
		"long name":       {"- {name: sixteen-letters-, interface: {device: e}}", "", []string{`vr/a.yaml:2:12: "name" is "sixteen-letters-" but must be 1 to 15 bytes long, not 16`}},
		"VLAN 0":          {"- {name: x, vlan: {parent: e, id: 0}}", "", []string{`vr/a.yaml:2:37: "id" is "0" but must be 1 to 4094`}},
		"VLAN 4095":       {"- {name: x, vlan: {parent: e, id: 4095}}", "", []string{`vr/a.yaml:2:37: "id" is "4095" but must be 1 to 4094`}},
		"VLAN on a tunnel": {"- {name: x, ipip: {local: 10.0.0.1, remote: 10.0.0.2}}\n  - {name: y, vlan: {parent: x, id: 1}}", "", []string{
			`vr/a.yaml:3:30: "parent" is the link "x", which is ipip and cannot carry a VLAN`,
		}},
		"a VLAN twice":           {"- {name: x, vlan: {parent: e, id: 1}}\n  - {name: y, vlan: {parent: e, id: 1}}", "", []string{`vr/a.yaml:3:37: VLAN 1 of "e" belongs to another link, at vr/a.yaml:2:37`}},
		"a VLAN of another's":    {"- {name: x, vlan: {parent: e, id: 1}}", "- {name: x, interface: {device: e}}", []string{`vr/a.yaml:2:30: "parent" is "e", which is moved into a virtual router, at vr/b.yaml:3:35; name a link of this one, or another interface`}},
		"VLANs of two":           {"- {name: x, vlan: {parent: e, id: 1}}", "- {name: x, vlan: {parent: e, id: 1}}", []string{`vr/b.yaml:3:37: VLAN 1 of "e" belongs to another link, at vr/a.yaml:2:37`}},
		"a device twice":         {"- {interface: {device: e}}", "- {name: x, interface: {device: e}}", []string{`vr/b.yaml:3:35: "device" is "e", which belongs to another link, at vr/a.yaml:2:26`}},
		"a name twice":           {"- {name: x, interface: {device: e}}\n  - {name: x, interface: {device: f}}", "", []string{`vr/a.yaml:3:12: an interface "x" is in this namespace twice; the first is at vr/a.yaml:2:12`}},
		"the far end's name":     {"- {name: x, veth: {virtual-router: b, name: x}}", "- {name: x, interface: {device: f}}", []string{`vr/b.yaml:3:12: an interface "x" is in this namespace twice; the first is at vr/a.yaml:2:47`}},
		"a pair in both files":   {"- {name: x, veth: {virtual-router: b, name: y}}", "- {name: y, veth: {virtual-router: a, name: x}}", []string{`vr/b.yaml:3:12: an interface "y" is in this namespace twice; the first is at vr/a.yaml:2:47`, `vr/b.yaml:3:47: an interface "x" is in this namespace twice; the first is at vr/a.yaml:2:12`}},
		"a pair with itself":     {"- {name: x, veth: {virtual-router: a, name: y}}", "", []string{`vr/a.yaml:2:38: "virtual-router" is this virtual router itself; a pair joins two`}},
		"a pair with nobody":     {"- {name: x, veth: {virtual-router: bb, name: y}}", "", []string{`vr/a.yaml:2:38: "virtual-router" is "bb" but there is no such virtual router; did you mean "b"?`}},
		"a pair without name":    {"- {name: x, veth: {virtual-router: b}}", "", []string{`vr/a.yaml:2:21: key "name" is missing`}},
		"tunnel to itself":       {"- {name: x, gre: {local: 10.0.0.1, remote: 10.0.0.1}}", "", []string{`vr/a.yaml:2:46: "remote" is 10.0.0.1, which is "local" too`}},
		"tunnel of IPv6":         {"- {name: x, ipip: {local: 2001:db8::1, remote: 10.0.0.1}}", "", []string{`vr/a.yaml:2:29: "local" is "2001:db8::1" but must be an IPv4 address; IPv6 is not possible here`}},
		"a tunnel twice":         {"- {name: x, gre: {local: 10.0.0.1, remote: 10.0.0.2, key: 1}}\n  - {name: y, gre: {local: 10.0.0.1, remote: 10.0.0.2, key: 1}}\n  - {name: z, gre: {local: 10.0.0.1, remote: 10.0.0.2, key: 2}}", "", []string{`vr/a.yaml:3:46: another tunnel of this kind has the same ends and key, at vr/a.yaml:2:46`}},
		"key too large":          {"- {name: x, gre: {local: 10.0.0.1, remote: 10.0.0.2, key: 4294967296}}", "", []string{`vr/a.yaml:2:61: "key" is "4294967296" but must be 1 to 4294967295 or 0 (none)`}},
		"address without length": {"- {interface: {device: e}, addresses: [10.0.0.1]}", "", []string{`vr/a.yaml:2:42: entry 1 of "addresses" is "10.0.0.1" but must be an IPv4 address with the length of its network, such as 10.0.0.1/24`}},
		"a network's address": {"- {interface: {device: e}, addresses: [10.0.0.0/24, 10.0.1.255/24, 224.0.0.1/24, 10.0.0.1/0]}", "", []string{
			`vr/a.yaml:2:42: entry 1 of "addresses" is "10.0.0.0/24" but must be the address of a host, not that of the network or its broadcast address`,
			`vr/a.yaml:2:55: entry 2 of "addresses" is "10.0.1.255/24" but must be the address of a host, not that of the network or its broadcast address`,
			`vr/a.yaml:2:70: entry 3 of "addresses" is "224.0.0.1/24" but must be the address of a host`,
			`vr/a.yaml:2:84: entry 4 of "addresses" is "10.0.0.1/0" but must be an IPv4 address with the length of its network, such as 10.0.0.1/24`,
		}},
		"an address twice": {"- {interface: {device: e}, addresses: [10.0.0.1/24]}", "- {name: x, veth: {virtual-router: a, name: y, addresses: [10.0.0.1/30]}}", []string{`vr/b.yaml:3:62: the address 10.0.0.1 is there twice in virtual router "a"; the first is at vr/a.yaml:2:42`}},
		"via elsewhere":    {"- {interface: {device: e}, addresses: [10.0.0.1/24], routes: [{network: 10.1.0.0/16, via: 10.0.1.1}]}", "", []string{`vr/a.yaml:2:93: "via" is 10.0.1.1 but must be in a network of the link's "addresses"`}},
		"via ourselves":    {"- {interface: {device: e}, addresses: [10.0.0.1/24], routes: [{network: 10.1.0.0/16, via: 10.0.0.1}]}", "", []string{`vr/a.yaml:2:93: "via" is 10.0.0.1, which is an address of the link itself`}},
		"a route twice":    {"- {interface: {device: e}, routes: [{network: 10.1.0.0/16}]}\n  - {interface: {device: f}, routes: [{network: 10.1.0.0/16}, {network: 10.1.0.0/16, metric: 1}]}", "", []string{`vr/a.yaml:3:49: virtual router "a" has another route to 10.1.0.0/16 with metric 0, at vr/a.yaml:2:49`}},
		"host bits":        {"- {interface: {device: e}, routes: [{network: 10.1.0.1/16}]}", "", []string{`vr/a.yaml:2:49: "network" is "10.1.0.1/16" but must be a network without host bits: 10.1.0.0/16`}},
		"MTU":              {"- {interface: {device: e}, mtu: 575}", "", []string{`vr/a.yaml:2:35: "mtu" is "575" but must be 576 to 65535 or 0 (as it is)`}},
	} {
		files := map[string]string{"a": "links:\n  " + test.a + "\n", "b": "namespace: {name: b}\nlinks:\n  " + test.b + "\n"}
		if test.b == "" {
			files["b"] = "namespace: {name: b}\n"
		}
		_, _, errs := parseFiles(files)
		if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestLinkOfVRF: two routers of a namespace share the names of interfaces, also with their VRF devices.
func TestLinkOfVRF(t *testing.T) {
	file := func(device, table, links string) string {
		return "vrf: {device: " + device + ", table: " + table + "}\nlinks:\n  " + links + "\n"
	}
	_, _, errs := parseFiles(map[string]string{
		"a": file("red", "7", "- {name: blue, veth: {virtual-router: b, name: x}}"),
		"b": file("blue", "8", "- {name: x, interface: {device: e}}"),
	})
	want := []string{
		`vr/a.yaml:3:12: an interface "blue" is in this namespace twice; the first is at vr/b.yaml:1:15`,
		`vr/b.yaml:3:12: an interface "x" is in this namespace twice; the first is at vr/a.yaml:3:50`,
	}
	if diff := cmp.Diff(want, lines(errs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTooManyLinks: far ends count.
func TestTooManyLinks(t *testing.T) {
	var a, b strings.Builder
	a.WriteString("links:\n")
	b.WriteString("namespace: {name: b}\nlinks:\n")
	for i := range 129 {
		n := string(rune('a'+i/26)) + string(rune('a'+i%26))
		a.WriteString("  - {name: v" + n + ", veth: {virtual-router: b, name: f" + n + "}}\n")
		b.WriteString("  - {name: i" + n + ", interface: {device: e" + n + "}}\n")
	}
	_, _, errs := parseFiles(map[string]string{"a": a.String(), "b": b.String()})
	if diff := cmp.Diff([]string{"vr/b.yaml:1:19: the virtual router has 258 links, far ends included, but may have 256"}, lines(errs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLinkDiff: a change of a pair is one of both routers.
func TestLinkDiff(t *testing.T) {
	parse := func(link string) *Config {
		t.Helper()
		c, _, errs := parseFiles(map[string]string{"a": "links:\n  - " + link + "\n", "b": "namespace: {name: b}\n"})
		if len(errs) > 0 {
			t.Fatal(lines(errs))
		}
		return c
	}
	before := parse("{name: x, veth: {virtual-router: b, name: y, addresses: [10.0.0.2/30]}, addresses: [10.0.0.1/30]}")
	for link, want := range map[string][]string{
		"{name: x, veth: {virtual-router: b, name: y, addresses: [10.0.0.2/30]}, addresses: [10.0.0.1/30], mtu: 1400}": {"virtual router a: link x changed: mtu", "virtual router b: link y changed: mtu"},
		"{name: x, veth: {virtual-router: b, name: z, addresses: [10.0.0.2/30]}, addresses: [10.0.0.1/30]}":            {"virtual router a: link x changed: veth.name", "virtual router b: link y removed", "virtual router b: link z added"},
		"{name: x, veth: {virtual-router: b, name: y, addresses: [10.0.0.2/29]}, addresses: [10.0.0.1/30]}":            {"virtual router b: link y changed: addresses"},
		"{name: x, interface: {device: e}, addresses: [10.0.0.1/30]}":                                                  {"virtual router a: link x changed: interface.device, veth.virtual-router, veth.name", "virtual router b: link y removed"},
	} {
		var got []string
		for _, c := range Diff(before, parse(link)) {
			got = append(got, c.String())
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", link, diff)
		}
	}
}

// checkLinks checks what intranet.go promises.
func checkLinks(t *testing.T, c *Config, r *Router) {
	t.Helper()
	type network struct {
		to     netip.Prefix
		metric uint32
	}
	addresses, networks := map[netip.Addr]bool{}, map[network]bool{}
	if len(r.Links) > 256 {
		t.Errorf("%d links", len(r.Links))
	}
	for i, l := range r.Links {
		if l.Name == "" || len(l.Name) > 15 || strings.ContainsAny(l.Name, " /:") || l.Name == r.VRF.Device || i > 0 && r.Links[i-1].Name >= l.Name {
			t.Errorf("name of link %+v", l)
		}
		if l.MTU != 0 && (l.MTU < 576 || l.MTU > 65535) || len(l.Addresses) > 64 || len(l.Routes) > 1000 {
			t.Errorf("bounds of link %+v", l)
		}
		rest := l
		rest.Name, rest.Kind, rest.Far, rest.Addresses, rest.Routes, rest.MTU, rest.Up = "", 0, false, nil, nil, 0, false
		ends, ttl := []netip.Addr{}, 64
		switch l.Kind {
		case LinkInterface:
			rest.Interface = InterfaceLink{}
		case LinkVLAN:
			parent := slices.ContainsFunc(r.Links, func(x Link) bool {
				return x.Name == l.VLAN.Parent && (x.Kind == LinkInterface || x.Kind == LinkVeth)
			})
			if l.VLAN.ID < 1 || l.VLAN.ID > 4094 || l.VLAN.Parent == "" || l.VLAN.Inside != parent {
				t.Errorf("VLAN %+v", l)
			}
			rest.VLAN = VLANLink{}
		case LinkVeth:
			other := c.Router(l.Veth.Router)
			if other == nil || other == r || !slices.ContainsFunc(other.Links, func(x Link) bool {
				return x.Kind == LinkVeth && x.Far != l.Far && x.Name == l.Veth.Name && x.Veth == VethLink{r.Name, l.Name} && x.MTU == l.MTU && x.Up == l.Up
			}) {
				t.Errorf("pair %+v", l)
			}
			rest.Veth = VethLink{}
		case LinkIPIP:
			ends, ttl, rest.IPIP = []netip.Addr{l.IPIP.Local, l.IPIP.Remote}, l.IPIP.TTL, TunnelLink{}
		case LinkGRE:
			ends, ttl, rest.GRE = []netip.Addr{l.GRE.Local, l.GRE.Remote}, l.GRE.TTL, GRELink{}
		default:
			t.Errorf("kind of link %+v", l)
		}
		if !reflect.DeepEqual(rest, Link{}) || len(ends) == 2 && (!ends[0].Is4() || !ends[1].Is4() || ends[0] == ends[1]) || ttl < 0 || ttl > 255 {
			t.Errorf("link %+v", l)
		}
		for _, a := range l.Addresses {
			if addresses[a.Addr()] || !a.Addr().Is4() || a.Bits() < 1 {
				t.Errorf("address %v of link %+v", a, l)
			}
			addresses[a.Addr()] = true
		}
		for _, x := range l.Routes {
			k := network{x.Network, x.Metric}
			if networks[k] || x.Network != x.Network.Masked() || x.Via.IsValid() && !slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Contains(x.Via) }) {
				t.Errorf("route %+v of link %+v", x, l)
			}
			networks[k] = true
		}
	}
}
