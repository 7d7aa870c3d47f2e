//go:build kernel

package vr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vrgate/test/netspace"
)

// The private network of the tests of links. The interfaces lan0 and trunk0 are in the namespace of the test itself, from
// which the router takes them; the VLAN is 100.
//
//	router  10.20.0.1 -- lan0 -------- host  10.20.0.2, behind it 10.30.0.1, tunnels 10.23.0.2 and 10.24.0.2
//	        10.21.0.1 -- trunk0.100 -- host  10.21.0.2
//	        10.22.0.1 -- veth -------- other router  10.22.0.2
type intranet struct {
	t             *testing.T
	vrf           bool
	own           *namespace // in which the test runs
	space, beyond *namespace // of the router and the other
	host          *namespace
	r, other      *Router
}

func newIntranet(t *testing.T, vrf bool) *intranet {
	t.Helper()
	own, err := openNamespace("", false)
	check(t, err)
	t.Cleanup(func() { check(t, own.close()) })
	n := &intranet{t: t, vrf: vrf, own: own, space: testNamespace(t, "lr"), beyond: testNamespace(t, "lo"), host: testNamespace(t, "lh")}
	for _, s := range []*namespace{n.space, n.beyond, n.host} {
		check(t, netspace.Up(s.fd, "lo"))
	}
	if vrf {
		check(t, netspace.AddVRF(n.space.fd, "red", vrfTable))
	}
	n.plug("lan0")
	n.plug("trunk0")
	t.Cleanup(func() { n.unplug("lan0"); n.unplug("trunk0") })
	// The first tunnel brings devices into every namespace that stay there.
	for _, s := range []*namespace{own, n.space} {
		s.batch(t, "tunnel add probe mode gre local 127.0.0.9 remote 127.0.0.8\ntunnel del probe\ntunnel add probe mode ipip local 127.0.0.9 remote 127.0.0.8\ntunnel del probe\n")
	}
	return n
}

// plug makes an interface outside whose other end is the host's.
func (n *intranet) plug(device string) {
	n.t.Helper()
	n.own.batch(n.t, fmt.Sprintf("link add %s type veth peer name %s netns %s\nlink set %s mtu 1480 alias uplink\naddr add 10.98.0.1/24 dev %[1]s\n", device, device, n.host.name, device))
	n.host.batch(n.t, fmt.Sprintf("link set %s up\n", device))
	if device == "trunk0" {
		n.own.batch(n.t, "link set trunk0 up\n")
		n.host.batch(n.t, "link add link trunk0 name v100 type vlan id 100\naddr add 10.21.0.2/24 dev v100\nlink set v100 up\n")
		return
	}
	n.host.batch(n.t, `addr add 10.20.0.2/24 dev lan0
addr replace 10.30.0.1/32 dev lo
tunnel add ipip1 mode ipip local 10.20.0.2 remote 10.20.0.1
addr add 10.23.0.2/24 dev ipip1
link set ipip1 up
tunnel add gre1 mode gre local 10.20.0.2 remote 10.20.0.1 key 7
addr add 10.24.0.2/24 dev gre1
link set gre1 up
`)
}

func (n *intranet) unplug(device string) {
	n.host.run(n.t, "", "sh", "-c", "ip link del "+device+"; ip tunnel del ipip1; ip tunnel del gre1; true")
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func (n *intranet) spec() Spec {
	near, far := netip.MustParseAddr("10.20.0.1"), netip.MustParseAddr("10.20.0.2")
	s := Spec{
		Name: "test", Namespace: n.space.name, Find: func(name string) *Router { return map[string]*Router{"other": n.other}[name] },
		Links: []Link{
			{Name: "v100", Kind: LinkVLAN, Device: "trunk0", VLAN: 100, Addresses: prefixes("10.21.0.1/24")},
			{
				Name: "lan", Kind: LinkInterface, Device: "lan0", Addresses: prefixes("10.20.0.1/24"), MTU: 1400,
				Routes: []LinkRoute{{Network: netip.MustParsePrefix("10.30.0.0/16"), Via: far, Metric: 5}},
			},
			{Name: "to-other", Kind: LinkVeth, Router: "other", Peer: "to-test", Addresses: prefixes("10.22.0.1/24")},
			{Name: "tun", Kind: LinkIPIP, Local: near, Remote: far, TTL: 64, Addresses: prefixes("10.23.0.1/24")},
			{Name: "gre", Kind: LinkGRE, Local: near, Remote: far, Key: 7, Addresses: prefixes("10.24.0.1/24"), Routes: []LinkRoute{{Network: netip.MustParsePrefix("10.31.0.0/16")}}},
		},
	}
	if n.vrf {
		s.VRF, s.Table = "red", vrfTable
	}
	return s
}

func (n *intranet) beyondSpec() Spec {
	return Spec{
		Name: "other", Namespace: n.beyond.name, Find: func(name string) *Router { return map[string]*Router{"test": n.r}[name] },
		Links: []Link{{Name: "to-test", Kind: LinkVeth, Router: "test", Peer: "to-other", Far: true, Addresses: prefixes("10.22.0.2/24")}},
	}
}

// open opens both routers and mends the one that was first.
func (n *intranet) open() {
	n.t.Helper()
	var err error
	n.r, err = Open(n.spec())
	check(n.t, err)
	n.other, err = Open(n.beyondSpec())
	check(n.t, err)
	check(n.t, n.r.Mend())
	check(n.t, n.other.Mend())
}

func (n *intranet) close() {
	n.t.Helper()
	r, other := n.r, n.other
	n.r, n.other = nil, nil
	check(n.t, r.Close())
	check(n.t, other.Close())
}

func (n *intranet) ping(to string, more ...string) string {
	n.t.Helper()
	command := []string{"ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "2"}
	if n.vrf {
		command = append(command, "-I", "red")
	}
	return n.space.run(n.t, "", append(append(command, more...), to)...)
}

// works pings through every link.
func (n *intranet) works() {
	n.t.Helper()
	for _, to := range []string{"10.20.0.2", "10.30.0.1", "10.21.0.2", "10.22.0.2", "10.23.0.2", "10.24.0.2"} {
		n.ping(to)
	}
}

// states are the links' states as text.
func states(t *testing.T, r *Router) string {
	t.Helper()
	list, err := r.Links()
	check(t, err)
	var out []string
	for _, s := range list {
		state := "down"
		switch {
		case s.Missing:
			state = "missing"
		case s.Up:
			state = "up"
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", s.Name, s.Kind, state, s.Reason)))
	}
	return strings.Join(out, ", ")
}

const allUp = "v100 vlan up, lan interface up, to-other veth up, tun ipip up, gre gre up"

func (n *intranet) upAll() {
	n.t.Helper()
	if got := states(n.t, n.r); got != allUp {
		n.t.Fatalf("links: %s", got)
	}
}

// crash leaves everything, as a process that is killed does.
func (r *Router) crash(t *testing.T) {
	t.Helper()
	r.closed = true
	check(t, errors.Join(r.release(), r.space.close()))
}

// lent is an interface outside, as text.
func (n *intranet) lent(device string) string {
	n.t.Helper()
	h, err := netlink.NewHandleAt(n.own.handle())
	check(n.t, err)
	defer h.Close()
	link, err := h.LinkByName(device)
	if err != nil {
		return err.Error()
	}
	list, err := listAddresses(h, link, unix.AF_UNSPEC)
	check(n.t, err)
	var addresses []netip.Prefix
	for _, x := range list {
		if p, ok := prefixOf(x.IPNet); ok && !p.Addr().IsLinkLocalUnicast() {
			addresses = append(addresses, p)
		}
	}
	a := link.Attrs()
	return fmt.Sprintf("%s mtu %d up %t addresses %v alias %s", a.Name, a.MTU, a.Flags&net.FlagUp != 0, addresses, a.Alias)
}

// TestLinks: every kind carries packets, what somebody destroys is put back, changes touch what has changed alone, and at
// the end everything is as it was.
func TestLinks(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		n := newIntranet(t, vrf)
		n.own.batch(t, "link set lan0 up\naddr add 2001:db8::1/64 dev lan0 nodad\n")
		before, was := state(t, n.space), n.lent("lan0")
		n.open()
		n.upAll()
		n.works()
		list, err := n.r.Links()
		check(t, err)
		for _, s := range list {
			if s.Traffic.InPackets == 0 || s.Traffic.OutBytes == 0 || s.Index == 0 || len(s.Addresses) != 1 {
				t.Errorf("%+v", s)
			}
		}
		if lan := list[1]; lan.MTU != 1400 {
			t.Errorf("MTU of %d", lan.MTU)
		}

		// Somebody destroys it all.
		n.space.batch(t, "link del tun\nlink del to-other\nlink set gre down\naddr flush dev lan\nlink del v100\n")
		if got := states(t, n.r); got != "v100 vlan missing no-parent, lan interface up, to-other veth missing no-other-router, tun ipip missing kernel-refused, gre gre down no-carrier" {
			t.Errorf("destroyed: %s", got)
		}
		check(t, n.r.Mend())
		check(t, n.other.Mend())
		n.upAll()
		n.works()
		n.space.batch(t, "link del tun\naddr flush dev gre\n")
		check(t, n.r.Set(n.spec())) // Repair
		n.upAll()
		n.works()

		// Under traffic links go, come and change; those that stay lose nothing.
		index := func(name string) int { return linkIndex(t, n.space, name) }
		stay := []int{index("lan"), index("v100")}
		cmd := exec.Command("ping", "-n", "-q", "-c", "100", "-i", "0.02", "-W", "2", "10.30.0.1")
		if vrf {
			cmd = exec.Command("ping", "-n", "-q", "-c", "100", "-i", "0.02", "-W", "2", "-I", "red", "10.30.0.1")
		}
		var out strings.Builder
		cmd.Stdout = &out
		check(t, n.space.do(cmd.Start))
		changed := n.spec()
		changed.Links = slices.Delete(changed.Links, 3, 4)                    // the IP-in-IP tunnel
		changed.Links[3].Key = 8                                              // GRE is made anew
		changed.Links[0].Addresses = prefixes("10.21.0.3/24", "10.21.0.1/24") // the VLAN gets an address
		changed.Links[1].Routes[0].Metric = 6                                 // and the route another metric
		changed.Links = append(changed.Links, Link{Name: "v101", Kind: LinkVLAN, Device: "trunk0", VLAN: 101, Down: true, Addresses: prefixes("10.25.0.1/24")})
		changed.Links = append(changed.Links, Link{Name: "qinq", Kind: LinkVLAN, Device: "lan", Inside: true, VLAN: 5})
		for i := range 2 {
			spec := changed
			if i%2 == 1 {
				spec = n.spec()
			}
			check(t, n.r.Set(spec))
		}
		check(t, n.r.Set(changed))
		if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), " 0% packet loss") {
			t.Errorf("ping under changes: %v\n%s", err, &out)
		}
		if now := []int{index("lan"), index("v100")}; !slices.Equal(now, stay) {
			t.Errorf("links that have not changed have other numbers: %v, they had %v", now, stay)
		}
		if got := states(t, n.r); got != "v100 vlan up, lan interface up, to-other veth up, gre gre up, v101 vlan down switched-off, qinq vlan up" {
			t.Errorf("changed: %s", got)
		}
		table := "main"
		if vrf {
			table = fmt.Sprint(vrfTable)
		}
		if routes := n.space.run(t, "", "ip", "route", "show", "table", table, "proto", fmt.Sprint(RouteProtocol)); strings.Contains(routes, "metric 5") || !strings.Contains(routes, "10.30.0.0/16 via 10.20.0.2 dev lan metric 6") {
			t.Errorf("routes: %s", routes)
		}
		check(t, n.r.Set(n.spec()))
		check(t, n.r.Mend())
		check(t, n.other.Mend())
		if addrs := n.space.run(t, "", "ip", "-o", "addr", "show", "dev", "v100"); strings.Contains(addrs, "10.21.0.3") {
			t.Errorf("an address that has gone from the configuration: %s", addrs)
		}
		n.upAll()
		n.works()

		n.close()
		if after := state(t, n.space); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if now := n.lent("lan0"); now != was {
			t.Errorf("given back: %s, it was %s", now, was)
		}
	})
}

// TestLinksOfPredecessor: after a crash links are taken over as they are, or given back when the router is not configured any more.
func TestLinksOfPredecessor(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		n := newIntranet(t, vrf)
		before, was := state(t, n.space), n.lent("lan0")
		n.open()
		numbers := func() (out []int) {
			for _, l := range n.spec().Links {
				out = append(out, linkIndex(t, n.space, l.Name))
			}
			return out
		}
		had := numbers()
		n.r.crash(t)
		n.other.crash(t)
		n.r, n.other = nil, nil
		n.open()
		n.upAll()
		n.works()
		if now := numbers(); !slices.Equal(now, had) {
			t.Errorf("links were made anew: %v, they were %v", now, had)
		}
		n.r.crash(t)
		n.other.crash(t)
		n.r, n.other = nil, nil
		// Another configuration: the interface has another name, the rest goes.
		spec := n.spec()
		spec.Links = spec.Links[1:2]
		spec.Links[0].Name = "inner"
		var err error
		n.r, err = Open(spec)
		check(t, err)
		if got := states(t, n.r); got != "inner interface up" {
			t.Errorf("links: %s", got)
		}
		n.ping("10.30.0.1")
		n.r.crash(t)
		// This time while the interface was on its way.
		n.space.batch(t, fmt.Sprintf("link set inner down\nlink set inner name %s\nlink set %[1]s nomaster netns 1\n", passing("test", "inner")))
		n.r, err = Open(spec)
		check(t, err)
		if got := states(t, n.r); got != "inner interface up" {
			t.Errorf("links after a crash on the way: %s", got)
		}
		n.r.crash(t)
		n.r = nil
		for _, space := range []*namespace{n.space, n.beyond} {
			if _, err := Sweep(space.name, nil); err != nil {
				t.Fatal(err)
			}
		}
		if after := state(t, n.space); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if now := n.lent("lan0"); now != was {
			t.Errorf("given back: %s, it was %s", now, was)
		}
	})
}

// TestLinksMissing: what is missing keeps nothing else from working, says what to do, and comes when it is plugged in.
func TestLinksMissing(t *testing.T) {
	n := newIntranet(t, false)
	n.unplug("lan0")
	n.unplug("trunk0")
	n.space.batch(t, "link add gre type dummy\n")
	n.open()
	if got := states(t, n.r); got != "v100 vlan missing no-parent, lan interface missing no-interface, to-other veth up, tun ipip up, gre gre missing name-taken" {
		t.Errorf("links: %s", got)
	}
	list, err := n.r.Links()
	check(t, err)
	if !strings.Contains(list[1].Text, "lan0") || !strings.Contains(list[1].Text, "plug it in") {
		t.Errorf("text: %s", list[1].Text)
	}
	n.plug("lan0")
	n.plug("trunk0")
	n.space.batch(t, "link del gre\n")
	check(t, n.r.Mend())
	n.upAll()
	n.works()

	// It is unplugged and plugged in again; the other router goes and comes back.
	n.unplug("trunk0")
	other := n.other
	n.other = nil
	check(t, other.Close())
	check(t, n.r.Mend())
	if got := states(t, n.r); got != "v100 vlan missing no-parent, lan interface up, to-other veth missing no-other-router, tun ipip up, gre gre up" {
		t.Errorf("links: %s", got)
	}
	n.unplug("lan0")
	n.plug("lan0")
	n.plug("trunk0")
	n.other, err = Open(n.beyondSpec())
	check(t, err)
	if got := states(t, n.other); got != "to-test veth missing no-other-router" {
		t.Errorf("far end: %s", got)
	}
	check(t, n.r.Mend())
	check(t, n.other.Mend())
	n.upAll()
	n.works()

	// Somebody has the network already.
	spec := n.spec()
	n.space.batch(t, "route add blackhole 10.33.0.0/16\n")
	spec.Links[4].Routes = []LinkRoute{
		{Network: netip.MustParsePrefix("10.31.0.0/16")}, {Network: netip.MustParsePrefix("10.30.0.0/16"), Metric: 5}, {Network: netip.MustParsePrefix("10.33.0.0/16")},
		{Network: netip.MustParsePrefix("10.34.0.0/16"), Via: netip.MustParseAddr("192.0.2.99")}, {Network: netip.MustParsePrefix("10.32.0.0/16")},
	}
	routed := func(what, suffix string, want ...string) {
		t.Helper()
		routes := n.space.run(t, "", "ip", "route", "show", "dev", "gre", "proto", fmt.Sprint(RouteProtocol))
		got := regexp.MustCompile(`10\.3\d`).FindAllString(routes, -1)
		if state := states(t, n.r); !strings.HasSuffix(state, suffix) || !slices.Equal(got, want) {
			t.Errorf("%s: %s, routes %q", what, state, got)
		}
	}
	check(t, n.r.Set(spec))
	check(t, n.r.Mend())
	routed("routes twice", "gre gre up route-taken", "10.31", "10.32")
	n.space.batch(t, "route del blackhole 10.33.0.0/16\n")
	check(t, n.r.Mend())
	routed("one has gone", "gre gre up route-taken", "10.31", "10.32", "10.33")
	spec.Links[1].Routes = nil
	check(t, n.r.Set(spec))
	check(t, n.r.Mend())
	routed("the other too", "gre gre up kernel-refused", "10.30", "10.31", "10.32", "10.33")
	n.space.batch(t, "link del gre\nroute add blackhole 10.33.0.0/16\n")
	check(t, n.r.Mend())
	routed("made anew", "gre gre up route-taken", "10.30", "10.31", "10.32")
	n.space.batch(t, "route del blackhole 10.33.0.0/16\n")
	n.close()

	// A server address on a link that is missing names the link.
	n.unplug("lan0")
	spec = n.spec()
	spec.Server = []netip.Addr{netip.MustParseAddr("10.20.0.1")}
	_, err = Open(spec)
	var trouble *LinkError
	var none *NoAddress
	if !errors.As(err, &trouble) || trouble.Reason != LinkNoInterface || trouble.Link != "lan" || !errors.As(err, &none) {
		t.Errorf("server address on a missing link: %v", err)
	}
	n.plug("lan0")
	r, err := Open(spec)
	check(t, err)
	check(t, r.Close())
}

// TestLinksInPlace: an interface of the router's own namespace stays there, keeps what is not ours, also after a crash, and is given back.
func TestLinksInPlace(t *testing.T) {
	n := newIntranet(t, false)
	n.own.batch(t, "addr add 10.99.0.1/24 dev lan0\naddr add 10.99.1.1/24 dev lan0\nlink set lan0 up\n")
	was := n.lent("lan0")
	for _, name := range []string{"lan0", "lanx"} {
		spec := Spec{Name: "here", Links: []Link{{Name: name, Kind: LinkInterface, Device: "lan0", MTU: 1300, Addresses: prefixes("10.20.0.1/24", "10.99.0.1/24")}}}
		r, err := Open(spec)
		check(t, err)
		if got := states(t, r); got != name+" interface up" {
			t.Errorf("links: %s", got)
		}
		n.own.run(t, "", "ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "2", "10.20.0.2")
		// Another router cannot have it too.
		theirs := Spec{Name: "there", VRF: "vrft", Table: 1077, Links: []Link{{Name: name + "2", Kind: LinkInterface, Device: name}}}
		there, err := Open(theirs)
		check(t, err)
		if list, err := there.Links(); err != nil || list[0].Reason != LinkNoInterface || !strings.Contains(list[0].Text, "of virtual router here") {
			t.Errorf("another router: %+v, %v", list, err)
		}
		check(t, there.Close())
		// Its successor knows as well what is not ours.
		r.crash(t)
		r, err = Open(spec)
		check(t, err)
		spec.Links[0].Addresses = prefixes("10.20.0.9/24")
		check(t, r.Set(spec))
		addrs := n.own.run(t, "", "ip", "-o", "addr", "show", "dev", name)
		if strings.Contains(addrs, "10.20.0.1/") || !strings.Contains(addrs, "10.20.0.9/") || !strings.Contains(addrs, "10.99.0.1/") || !strings.Contains(addrs, "10.99.1.1/") {
			t.Errorf("addresses: %s", addrs)
		}
		check(t, r.Close())
		if now := n.lent("lan0"); now != was {
			t.Errorf("given back: %s, it was %s", now, was)
		}
		addrs = n.own.run(t, "", "ip", "-o", "addr", "show", "dev", "lan0", "up")
		if strings.Contains(addrs, "10.20.") || !strings.Contains(addrs, "10.99.0.1/") || !strings.Contains(addrs, "10.99.1.1/") {
			t.Errorf("addresses at the end: %s", addrs)
		}
	}
}

// TestAddressesStay: when the first address of a network goes from a link or a tunnel, the others are not touched.
func TestAddressesStay(t *testing.T) {
	n := testNamespace(t, "a")
	link := Link{
		Name: "tun", Kind: LinkIPIP, Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.2"), Addresses: prefixes("10.4.0.1/24", "10.4.0.2/24", "10.4.0.3/24"),
		Routes: []LinkRoute{{Network: netip.MustParsePrefix("10.5.0.0/16"), Via: netip.MustParseAddr("10.4.0.9")}},
	}
	r, err := Open(Spec{Name: "red", Namespace: n.name, Links: []Link{link}})
	check(t, err)
	spec := hq()
	spec.Addresses = prefixes("10.6.0.1/24", "10.6.0.2/24", "10.6.0.3/24")
	tun, err := r.Tunnel(r, spec)
	check(t, err)
	check(t, tun.Mend())
	news, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
	defer close(done)
	check(t, netlink.AddrSubscribeAt(n.handle(), news, done))
	link.Addresses, spec.Addresses = link.Addresses[1:], spec.Addresses[1:]
	check(t, r.Set(Spec{Name: "red", Namespace: n.name, Links: []Link{link}}))
	check(t, tun.Set(spec))
	n.batch(t, "addr add 10.7.0.1/32 dev lo\n")
	var gone []string
	for u := range news {
		if u.LinkAddress.IP.String() == "10.7.0.1" {
			break
		}
		if !u.NewAddr {
			gone = append(gone, u.LinkAddress.IP.String())
		}
	}
	if want := []string{"10.4.0.1", "10.6.0.1"}; !slices.Equal(gone, want) {
		t.Errorf("gone %q, want %q", gone, want)
	}
	if routes := n.run(t, "", "ip", "route"); !strings.Contains(routes, "10.5.0.0/16 via 10.4.0.9") || !strings.Contains(routes, "10.2.0.0/16 dev hq0") {
		t.Errorf("routes:\n%s", routes)
	}
	check(t, errors.Join(tun.Close(), r.Close()))
}
