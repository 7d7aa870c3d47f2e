//go:build kernel

package vr

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hq is the tunnel of the tests.
func hq() TunnelSpec {
	return TunnelSpec{
		Tunnel: "head quarters", Name: "hq0", MTU: 1400, Addresses: prefixes("10.1.255.1/32", "10.1.254.1/24"),
		Routes: []TunnelRoute{{Network: netip.MustParsePrefix("10.2.0.0/16")}, {Network: netip.MustParsePrefix("10.3.0.0/16"), Metric: 7}},
		Policy: LinkPolicy{ClampMSS: true},
	}
}

// tunnelText is what a router has of a tunnel's addresses and routes.
func tunnelText(t *testing.T, r *Router) (addresses, routes []string) {
	t.Helper()
	link, err := r.nl.LinkByName("hq0")
	check(t, err)
	list, err := r.addresses(link, unix.AF_INET)
	check(t, err)
	for _, a := range list {
		addresses = append(addresses, a.IPNet.String())
	}
	all, err := r.linkRoutes()
	check(t, err)
	for _, route := range all {
		if route.LinkIndex == link.Attrs().Index {
			routes = append(routes, fmt.Sprintf("%s metric %d", route.Dst, route.Priority))
		}
	}
	slices.Sort(addresses)
	slices.Sort(routes)
	return addresses, routes
}

// TestTunnel: the interface is born in one namespace and lives in the VRF of another; it changes, loses and regains what it
// has, and leaves nothing (Z-1).
func TestTunnel(t *testing.T) {
	from, to := testNamespace(t, "f"), testNamespace(t, "t")
	before := state(t, from) + state(t, to)
	red, err := Open(Spec{Name: "red", Namespace: from.name})
	check(t, err)
	blue, err := Open(Spec{Name: "blue", Namespace: to.name, VRF: "vrfb", Table: 1002})
	check(t, err)
	a, err := red.Access(blue, 1300, LinkPolicy{})
	check(t, err)
	tun, err := red.Tunnel(blue, hq())
	check(t, err)
	if as, rs := tunnelText(t, blue); as != nil || rs != nil {
		t.Errorf("before Mend: addresses %q, routes %q", as, rs)
	}
	check(t, tun.Mend())
	grouped := func(mtu int, more uint32) string { // in a VRF what comes out of it is bound by its MTU
		n, err := blue.mssNumber(mtu - tcpHeaders)
		check(t, err)
		return fmt.Sprintf("group %d ", groupOf("blue")|classClamp|more|n<<classMSSShift)
	}
	link := to.run(t, "", "ip", "-d", "link", "show", "hq0")
	for _, want := range []string{
		fmt.Sprintf("%d: hq0@", tun.Index()), "mtu 1400", "master vrfb", grouped(1400, 0), ",UP",
		"alias vrgate red to blue tunnel head quarters", fmt.Sprintf("if_id %#x", tun.IfID()),
	} {
		if !strings.Contains(link, want) {
			t.Errorf("no %q in\n%s", want, link)
		}
	}
	if tun.Name() != "hq0" || tun.Mark() != 0 || tun.IfID() == a.IfID() || tun.IfID()>>24 != 0x58 {
		t.Errorf("%s, mark %#x, number %#x", tun.Name(), tun.Mark(), tun.IfID())
	}
	if s := from.run(t, "", "ip", "link"); strings.Contains(s, "hq0") || strings.Contains(s, tunnelPrefix) {
		t.Errorf("still in the first namespace:\n%s", s)
	}
	expect := func(what string, addresses, routes []string) {
		t.Helper()
		as, rs := tunnelText(t, blue)
		if !slices.Equal(as, addresses) || !slices.Equal(rs, routes) {
			t.Errorf("%s: addresses %q, routes %q", what, as, rs)
		}
	}
	addresses := []string{"10.1.254.1/24", "10.1.255.1/32"}
	routes := []string{"10.2.0.0/16 metric 0", "10.3.0.0/16 metric 7"}
	expect("new", addresses, routes)

	// Routes go and come back, also when other things change meanwhile.
	check(t, tun.Rest(TunnelRest{Withdrawn: true}))
	expect("withdrawn", addresses, nil)
	check(t, tun.Mend())
	spec := hq()
	spec.Routes = spec.Routes[:1]
	check(t, tun.Set(spec))
	expect("withdrawn and set", addresses, nil)
	check(t, tun.Rest(TunnelRest{}))
	expect("back", addresses, routes[:1])

	// Silence comes back too, goes when it is over, and leaves what somebody else has there.
	to.run(t, "", "tc", "qdisc", "add", "dev", "hq0", "clsact")
	to.run(t, "", "tc", "filter", "add", "dev", "hq0", "egress", "prio", "7", "protocol", "ip", "flower", "action", "continue")
	silent := func(what string, want, others bool) {
		t.Helper()
		filters := to.run(t, "", "tc", "filter", "show", "dev", "hq0", "egress")
		if got := strings.Count(filters, "skbedit  ptype otherhost continue"); (got != 0) != want || got > 1 || strings.Contains(filters, "flower") != others {
			t.Errorf("%s:\n%s", what, filters)
		}
	}
	check(t, tun.Mend())
	silent("not wanted", false, true)
	for range 2 {
		check(t, tun.Rest(TunnelRest{Silent: true}))
		silent("wanted", true, true)
	}
	for _, harm := range []string{"filter del dev hq0 egress prio 1000", "qdisc del dev hq0 clsact"} {
		to.run(t, "", append([]string{"tc"}, strings.Fields(harm)...)...)
		check(t, tun.Mend())
		silent(harm, true, !strings.Contains(harm, "qdisc"))
	}
	to.run(t, "", "tc", "filter", "add", "dev", "hq0", "egress", "prio", "7", "protocol", "ip", "flower", "action", "continue")
	for range 2 {
		check(t, tun.Rest(TunnelRest{}))
		silent("over", false, true)
	}
	check(t, tun.Rest(TunnelRest{Silent: true}))
	to.run(t, "", "tc", "qdisc", "del", "dev", "hq0", "clsact")
	check(t, tun.Rest(TunnelRest{}))
	silent("over, and gone before", false, false)
	expect("silence", addresses, routes[:1])

	// Everything that can change does; nothing is made anew.
	index := tun.Index()
	spec = hq()
	spec.MTU, spec.Policy = 1300, LinkPolicy{SourceValidation: true, ClampMSS: true}
	spec.Addresses = prefixes("10.1.253.1/32")
	spec.Routes = []TunnelRoute{{Network: netip.MustParsePrefix("10.2.0.0/16")}, {Network: netip.MustParsePrefix("0.0.0.0/0"), Metric: 9}}
	check(t, tun.Set(spec))
	expect("set", []string{"10.1.253.1/32"}, []string{"0.0.0.0/0 metric 9", "10.2.0.0/16 metric 0"})
	group := grouped(1300, classValidate)
	if link := to.run(t, "", "ip", "link", "show", "hq0"); !strings.Contains(link, "mtu 1300") || !strings.Contains(link, group) || tun.Index() != index {
		t.Errorf("no %q in\n%s", group, link)
	}
	// With the last address the kernel forgets the routes.
	spec.Addresses = nil
	check(t, tun.Set(spec))
	expect("without addresses", nil, []string{"0.0.0.0/0 metric 9", "10.2.0.0/16 metric 0"})
	for _, change := range []func(*TunnelSpec){func(s *TunnelSpec) { s.Name = "hq1" }, func(s *TunnelSpec) { s.Tunnel = "other" }} {
		other := hq()
		change(&other)
		if err := tun.Set(other); !errors.Is(err, ErrOther) {
			t.Errorf("another interface: %v", err)
		}
	}
	other := hq()
	other.MTU = 1
	var bad *BadSpec
	if err := tun.Set(other); !errors.As(err, &bad) {
		t.Errorf("a bad one: %v", err)
	}
	check(t, tun.Set(hq()))
	expect("as before", addresses, routes)

	// Somebody takes something away.
	for _, harm := range []string{
		"link set hq0 down\n", "addr flush dev hq0\n", "route flush table 1002 dev hq0 proto 117\n", "link set hq0 nomaster\n", "link set hq0 mtu 900 group 0\n",
		"link set hq0 down\naddr del 10.1.255.1/32 dev hq0\nlink set hq0 up\n",
	} {
		to.batch(t, harm)
		if tun.Lost() {
			t.Fatalf("lost by %q", harm)
		}
		if err := tun.Mend(); err != nil {
			t.Errorf("%q: %v", harm, err)
		}
		expect(harm, addresses, routes)
		link, err := blue.nl.LinkByName("hq0")
		check(t, err)
		if a := link.Attrs(); a.MTU != 1400 || a.MasterIndex != blue.VRF() || grouped(1400, 0) != fmt.Sprintf("group %d ", a.Group) {
			t.Errorf("%q: %+v", harm, a)
		}
	}
	// A route of somebody else's stays, and is told until it goes.
	to.batch(t, "route del 10.2.0.0/16 table 1002 dev hq0\nlink set hq0 down\nroute add blackhole 10.2.0.0/16 table 1002\n")
	for range 2 {
		var e *LinkError
		if err := tun.Mend(); !errors.As(err, &e) || e.Reason != LinkRouteTaken || e.Router != "blue" || e.Link != "hq0" || !strings.Contains(e.Text, "10.2.0.0/16") {
			t.Errorf("a route that is taken: %v", err)
		}
		expect("one route", addresses, routes[1:])
	}
	to.batch(t, "route del blackhole 10.2.0.0/16 table 1002\n")
	check(t, tun.Mend())
	expect("mended", addresses, routes)

	// It goes, which is told; its successor is as good.
	to.batch(t, "link del hq0\n")
	readable := []unix.PollFd{{Fd: int32(tun.FD()), Events: unix.POLLIN}}
	if n, err := unix.Poll(readable, int((5 * time.Second).Milliseconds())); n != 1 || err != nil || !tun.Lost() {
		t.Errorf("nothing told that it had gone: %d, %v", n, err)
	}
	if err := tun.Mend(); !errors.Is(err, ErrNotFound) {
		t.Errorf("mended: %v", err)
	}
	if _, err := tun.Traffic(); !errors.Is(err, ErrNotFound) {
		t.Errorf("traffic: %v", err)
	}
	next, err := red.Tunnel(blue, hq())
	check(t, err)
	check(t, next.Mend())
	if next.IfID() != tun.IfID() {
		t.Errorf("number %#x, %#x before", next.IfID(), tun.IfID())
	}
	check(t, tun.Close())
	expect("the next", addresses, routes)
	// One that has another name is lost, and goes nevertheless.
	to.batch(t, "link set hq0 down\nlink set hq0 name else0\n")
	if !next.Lost() {
		t.Error("not lost, though it has another name")
	}
	for range 2 {
		check(t, next.Close())
	}
	if s := to.run(t, "", "ip", "link"); strings.Contains(s, "else0") {
		t.Errorf("left:\n%s", s)
	}
	for what, err := range map[string]error{"Set": next.Set(hq()), "Mend": next.Mend(), "Rest": next.Rest(TunnelRest{})} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	// What comes out of it is not dropped for its source, also where the namespace is to be strict.
	filter := func(link string) (value string) {
		check(t, to.do(func() (err error) { value, err = readSysctl("net/ipv4/conf/" + link + "/rp_filter"); return err }))
		return value
	}
	for all, want := range map[string]string{"1": "2", "0": "0"} {
		check(t, to.do(func() error { return writeSysctl("net/ipv4/conf/all/rp_filter", all) }))
		next, err = red.Tunnel(blue, hq())
		check(t, err)
		if got := filter("hq0"); got != want {
			t.Errorf("rp_filter %s of all, %s of the interface, want %s", all, got, want)
		}
		check(t, next.Close())
	}
	// The terminating router takes it along.
	next, err = red.Tunnel(blue, hq())
	check(t, err)
	check(t, blue.Close())
	if !next.Lost() {
		t.Error("not lost, though its router has closed")
	}
	check(t, next.Close())
	if _, err := red.Tunnel(blue, hq()); !errors.Is(err, ErrClosed) {
		t.Errorf("to a closed router: %v", err)
	}
	check(t, a.Close())
	check(t, red.Close())
	if after := state(t, from) + state(t, to); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestTunnelNameTaken: somebody else's link is left alone; what a predecessor has left of this tunnel is replaced, and what it has
// left of others goes when the router is opened, or swept when it is not any more.
func TestTunnelNameTaken(t *testing.T) {
	n := testNamespace(t, "n")
	red, err := Open(Spec{Name: "red", Namespace: n.name, VRF: "vrfr", Table: 1001})
	check(t, err)
	refused := func(what, text string) {
		t.Helper()
		var e *LinkError
		if _, err := red.Tunnel(red, hq()); !errors.As(err, &e) || e.Reason != LinkNameTaken || e.Link != "hq0" || !strings.Contains(e.Text, text) {
			t.Errorf("%s: %v", what, err)
		}
		if s := n.run(t, "", "ip", "link"); !strings.Contains(s, "hq0") || strings.Contains(s, tunnelPrefix) {
			t.Errorf("%s:\n%s", what, s)
		}
	}
	n.batch(t, "link add hq0 type dummy\n")
	refused("a dummy", "kind dummy")
	n.batch(t, "link del hq0\nlink add hq0 type xfrm if_id 5\n")
	refused("an XFRM interface of nobody", "kind xfrm")
	n.batch(t, "link del hq0\n")
	other := hq()
	other.Tunnel = "branch"
	tun, err := red.Tunnel(red, other)
	check(t, err)
	refused("another tunnel", "tunnel branch of virtual router red")
	check(t, tun.Close())

	leave := func(name, alias string, number int) {
		t.Helper()
		n.batch(t, fmt.Sprintf("link add %s type xfrm if_id %d\n", name, number))
		if alias != "" {
			n.run(t, "", "ip", "link", "set", name, "alias", alias)
		}
	}
	leave("hq0", tunnelAlias("gone", "red", "head quarters"), 5)
	if tun, err = red.Tunnel(red, hq()); err != nil {
		t.Fatal(err)
	}
	if link := n.run(t, "", "ip", "link", "show", "hq0"); !strings.Contains(link, "alias vrgate red to red tunnel head quarters") {
		t.Error(link)
	}
	check(t, tun.Close())
	check(t, red.Close())

	leave("old0", tunnelAlias("red", "red", "old"), 5)
	leave(tunnelPassing("red", "begun"), "", 6)
	leave(tunnelPassing("red", "marked"), tunnelAlias("red", "blue", "marked"), 7)
	leave("gone0", tunnelAlias("gone", "old", "x"), 8)
	leave("kept0", tunnelAlias("gone", "kept", "x"), 9)
	leave(tunnelPassing("else", "begun"), "", 10)
	has := func(what string, want map[string]bool) {
		t.Helper()
		links := n.run(t, "", "ip", "link")
		for name, stays := range want {
			if strings.Contains(links, name) != stays {
				t.Errorf("%s: %s stays: %t\n%s", what, name, !stays, links)
			}
		}
	}
	red, err = Open(Spec{Name: "red", Namespace: n.name})
	check(t, err)
	defer red.Close()
	has("opened", map[string]bool{
		"old0": false, tunnelPassing("red", "begun"): false, tunnelPassing("red", "marked"): false, "gone0": true, "kept0": true, tunnelPassing("else", "begun"): true,
	})
	tun, err = red.Tunnel(red, hq())
	check(t, err)
	defer tun.Close()
	// One that is just being made is where its transport router is.
	leave("moving0", tunnelAlias("red", "far", "x"), 11)
	_, err = Sweep(n.name, []string{"kept"})
	check(t, err)
	has("swept", map[string]bool{"gone0": false, "kept0": true, "hq0": true, "moving0": true})
	if tun.Lost() {
		t.Error("the running router's tunnel was touched")
	}
}

// TestTunnelGate: between a VRF and another namespace there is a policy for the interface's number, as for access interfaces; the
// next number is taken where somebody has it.
func TestTunnelGate(t *testing.T) {
	from, to := testNamespace(t, "f"), testNamespace(t, "t")
	red, err := Open(Spec{Name: "red", Namespace: from.name, VRF: "vrfr", Table: 1001})
	check(t, err)
	blue, err := Open(Spec{Name: "blue", Namespace: to.name})
	check(t, err)
	number := tunnelNumber("red", "blue", "head quarters")
	from.batch(t, fmt.Sprintf("link add taken type xfrm if_id %d\n", number))
	to.run(t, "", "ip", "xfrm", "policy", "add", "dir", "in", "src", "0.0.0.0/0", "dst", "0.0.0.0/0", "mark", fmt.Sprint(number+1))
	tun, err := red.Tunnel(blue, hq())
	check(t, err)
	gates := func() string { return to.run(t, "", "ip", "-o", "xfrm", "policy") }
	if s := gates(); strings.Count(s, "dir in") != 2 || !strings.Contains(s, fmt.Sprintf("mark %#x/0xffffffff", number+2)) || tun.Mark() != number+2 || tun.IfID() != number+2 {
		t.Errorf("mark %#x, number %#x: %q", tun.Mark(), tun.IfID(), s)
	}
	// A crash: its successor knows nothing of it.
	next, err := red.Tunnel(blue, hq())
	check(t, err)
	if s := gates(); strings.Count(s, "dir in") != 2 || next.Mark() != number+2 {
		t.Errorf("mark %#x: %q", next.Mark(), s)
	}
	check(t, errors.Join(next.Close(), tun.Close()))
	if s := gates(); strings.Count(s, "dir in") != 1 {
		t.Errorf("left: %q", s)
	}
	check(t, errors.Join(blue.Close(), red.Close()))
}

// TestManyTunnels: many tunnels are made and removed, have numbers of their own, and keep nothing open (Z-1).
func TestManyTunnels(t *testing.T) {
	const count = 60
	n := testNamespace(t, "m")
	r, err := Open(Spec{Name: "red", Namespace: n.name, VRF: "vrfr", Table: 1001})
	check(t, err)
	defer r.Close()
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		return len(entries)
	}
	before, began := descriptors(), time.Now()
	var list []*Tunnel
	numbers := map[uint32]bool{}
	for i := range count {
		spec := TunnelSpec{
			Tunnel: fmt.Sprint("branch ", i), Name: fmt.Sprint("br", i), MTU: 1400, Addresses: prefixes(fmt.Sprintf("10.1.%d.%d/32", i/250, i%250+1)),
			Routes: []TunnelRoute{{Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(2 + i/250), byte(i % 250), 0}), 24)}},
		}
		tun, err := r.Tunnel(r, spec)
		check(t, err)
		list, numbers[tun.IfID()] = append(list, tun), true
	}
	made := time.Since(began)
	if open := descriptors() - before; open > count+2 { // one each, and what they share
		t.Errorf("%d tunnels have %d descriptors", count, open)
	}
	for _, tun := range list {
		check(t, tun.Mend())
	}
	mended := time.Since(began) - made
	for _, tun := range list {
		check(t, tun.Close())
	}
	t.Logf("%d made in %s, mended in %s, all in %s", count, made, mended, time.Since(began))
	if len(numbers) != count {
		t.Errorf("%d numbers", len(numbers))
	}
	if after := descriptors(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
