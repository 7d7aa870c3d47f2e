//go:build kernel

package vr

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAccess: the interface is born in one namespace and lives in the other with the table, group and MTU of its
// subscribers; routes come and go; its end is told of; and nothing is left (J6, J9).
func TestAccess(t *testing.T) {
	from, to := testNamespace(t, "f"), testNamespace(t, "t")
	before := state(t, from) + state(t, to)
	gateway := netip.MustParseAddr("10.9.0.1")
	red, err := Open(Spec{Name: "red", Namespace: from.name})
	if err != nil {
		t.Fatal(err)
	}
	blue, err := Open(Spec{Name: "blue", Namespace: to.name, VRF: "vrfb", Table: 1002, Gateway: []netip.Addr{gateway}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := red.Access(blue, 100, LinkPolicy{}); err == nil {
		t.Error("an MTU of 100")
	}
	// Somebody has the number.
	from.batch(t, fmt.Sprintf("link add taken type xfrm if_id %d\n", accessNumber("red", "blue", "")))
	a, err := red.Access(blue, 1300, LinkPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	if a.IfID() == accessNumber("red", "blue", "") {
		t.Error("the number was taken")
	}
	from.batch(t, "link del taken\n")
	link := to.run(t, "", "ip", "-d", "link", "show", a.Name())
	for _, want := range []string{
		fmt.Sprintf("%d: %s@", a.Index(), a.Name()), "mtu 1300", "qdisc noqueue", "master vrfb", fmt.Sprintf("group %d", groupOf("blue")), ",UP", "alias vrgate red to blue", fmt.Sprintf("if_id %#x", a.IfID()),
	} {
		if !strings.Contains(link, want) {
			t.Errorf("no %q in\n%s", want, link)
		}
	}
	if s := from.run(t, "", "ip", "link"); strings.Contains(s, a.Name()) {
		t.Errorf("still in the first namespace:\n%s", s)
	}
	host := netip.MustParsePrefix("10.9.0.7/32")
	for _, mtu := range []int{1300, 1200, 1400} {
		if err := a.AddRoute(host, gateway, mtu); err != nil {
			t.Fatal(err)
		}
		if err := a.AddRoute(host, gateway, mtu); !errors.Is(err, ErrExists) {
			t.Errorf("the route twice: %v", err)
		}
		routes := to.run(t, "", "ip", "route", "show", "table", "1002")
		if want := fmt.Sprintf("10.9.0.7 dev %s proto %d scope link src 10.9.0.1 mtu %d", a.Name(), RouteProtocol, mtu); !strings.Contains(routes, want) {
			t.Errorf("no %q in\n%s", want, routes)
		}
		for range 2 {
			if err := a.DelRoute(host); err != nil {
				t.Error(err)
			}
		}
	}
	// The near end is an address of another router's.
	if err := a.AddRoute(host, netip.MustParseAddr("10.8.0.1"), 1400); err != nil {
		t.Fatal(err)
	}
	if routes, want := to.run(t, "", "ip", "route", "show", "table", "1002"), fmt.Sprintf("10.9.0.7 dev %s proto %d scope link mtu 1400", a.Name(), RouteProtocol); !strings.Contains(routes, want) {
		t.Errorf("no %q in\n%s", want, routes)
	}
	if err := a.DelRoute(host); err != nil {
		t.Error(err)
	}
	if link := to.run(t, "", "ip", "link", "show", a.Name()); !strings.Contains(link, "mtu 1400") {
		t.Errorf("the MTU has not grown:\n%s", link)
	}
	if a.Lost() {
		t.Error("lost, though it is up")
	}
	// The next one of the pair takes its place.
	b, err := red.Access(blue, 1300, LinkPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	readable := []unix.PollFd{{Fd: int32(a.FD()), Events: unix.POLLIN}}
	if n, err := unix.Poll(readable, int((5 * time.Second).Milliseconds())); n != 1 || err != nil || !a.Lost() {
		t.Errorf("nothing told that it had gone: %d, %v", n, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if b.Lost() {
		t.Error("closing what had gone has taken its successor")
	}
	// The terminating router takes it along.
	if err := blue.Close(); err != nil {
		t.Error(err)
	}
	if !b.Lost() {
		t.Error("not lost, though its router has closed")
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := b.AddRoute(host, gateway, 1300); !errors.Is(err, ErrClosed) {
		t.Errorf("a route by a closed interface: %v", err)
	}
	if err := b.DelRoute(host); err != nil {
		t.Error(err)
	}
	if _, err := red.Access(blue, 1300, LinkPolicy{}); !errors.Is(err, ErrClosed) {
		t.Errorf("an interface to a closed router: %v", err)
	}
	if err := red.Close(); err != nil {
		t.Error(err)
	}
	if after := state(t, from) + state(t, to); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestGate: between a VRF and another namespace there is a policy for the interface's number, which goes with the interface,
// whoever removes it; and one of somebody else with the number is left alone.
func TestGate(t *testing.T) {
	from, to := testNamespace(t, "f"), testNamespace(t, "t")
	before := state(t, from) + state(t, to)
	red, err := Open(Spec{Name: "red", Namespace: from.name, VRF: "vrfr", Table: 1001})
	if err != nil {
		t.Fatal(err)
	}
	open := func() (*Router, *Access) {
		t.Helper()
		blue, err := Open(Spec{Name: "blue", Namespace: to.name})
		if err != nil {
			t.Fatal(err)
		}
		a, err := red.Access(blue, 1300, LinkPolicy{})
		if err != nil {
			t.Fatal(err)
		}
		return blue, a
	}
	gates := func(n *namespace) string { return n.run(t, "", "ip", "-o", "xfrm", "policy") }
	number := accessNumber("red", "blue", "")
	blue, a := open()
	want := fmt.Sprintf("mark %#x/0xffffffff", number)
	if s := gates(to); strings.Count(s, "dir in") != 1 || !strings.Contains(s, want) || a.Mark() != a.IfID() || a.IfID() != number {
		t.Errorf("mark %#x, no %q in %q", a.Mark(), want, s)
	}
	// The next one of the pair, which a process makes that knows nothing of the first.
	b, err := red.Access(blue, 1300, LinkPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	if s := gates(to); strings.Count(s, "dir in") != 1 || b.Mark() != number {
		t.Errorf("mark %#x: %q", b.Mark(), s)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if s := gates(to); s != "" {
		t.Errorf("left: %q", s)
	}
	// The first has nothing to close any more.
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	// Somebody has a policy for the number.
	to.run(t, "", "ip", "xfrm", "policy", "add", "dir", "in", "src", "0.0.0.0/0", "dst", "0.0.0.0/0", "mark", fmt.Sprint(number))
	c, err := red.Access(blue, 1300, LinkPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Mark() != number+1 || c.IfID() != c.Mark() {
		t.Errorf("mark %#x, number %#x", c.Mark(), c.IfID())
	}
	// The terminating router takes interface and policy along.
	if err := blue.Close(); err != nil {
		t.Error(err)
	}
	if s := gates(to); strings.Count(s, "dir in") != 1 || !strings.Contains(s, want) {
		t.Errorf("somebody else's is to stay: %q", s)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	to.run(t, "", "ip", "xfrm", "policy", "del", "dir", "in", "src", "0.0.0.0/0", "dst", "0.0.0.0/0", "mark", fmt.Sprint(number))
	// What a crash has left goes when the router is swept.
	blue, a = open()
	link := a.Name()
	if err := blue.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	to.batch(t, fmt.Sprintf("link add %s type xfrm if_id %d\n", link, number))
	to.run(t, "", "ip", "link", "set", link, "alias", accessAlias("red", "blue", ""))
	to.run(t, "", "ip", "xfrm", "policy", "add", "dir", "in", "src", "0.0.0.0/0", "dst", "0.0.0.0/0", "mark", fmt.Sprint(number))
	if _, err := Sweep(to.name, nil); err != nil {
		t.Error(err)
	}
	if s := gates(to); s != "" {
		t.Errorf("left by the sweep: %q", s)
	}
	if err := red.Close(); err != nil {
		t.Error(err)
	}
	if after := state(t, from) + state(t, to); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestSweepAccess: an interface that nobody's router ends goes; one of a running router, and somebody else's, stays.
func TestSweepAccess(t *testing.T) {
	n := testNamespace(t, "s")
	live, err := Open(Spec{Name: "live", Namespace: n.name})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	a, err := live.Access(live, 1400, LinkPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	left, kept := accessLink("gone", "old", ""), accessLink("gone", "kept", "")
	n.batch(t, fmt.Sprintf("link add %s type xfrm if_id 1\nlink add %s type xfrm if_id 2\nlink add other type xfrm if_id 3\n", left, kept))
	n.run(t, "", "ip", "link", "set", left, "alias", accessAlias("gone", "old", ""))
	n.run(t, "", "ip", "link", "set", kept, "alias", accessAlias("gone", "kept", ""))
	n.run(t, "", "ip", "link", "set", "other", "alias", accessAlias("gone", "old", ""))
	if _, err := Sweep(n.name, []string{"kept"}); err != nil {
		t.Fatal(err)
	}
	links := n.run(t, "", "ip", "link")
	for name, stays := range map[string]bool{left: false, kept: true, "other": true, a.Name(): true} {
		if strings.Contains(links, name) != stays {
			t.Errorf("%s stays: %t\n%s", name, !stays, links)
		}
	}
	if a.Lost() {
		t.Error("the running router's interface was touched")
	}
}

// TestAccessLeavesNoDescriptors: an Access that was closed, or could not be made, keeps nothing open.
func TestAccessLeavesNoDescriptors(t *testing.T) {
	n := testNamespace(t, "d")
	r, err := Open(Spec{Name: "red", Namespace: n.name})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := open()
	for range 3 {
		a, err := r.Access(r, 1400, LinkPolicy{})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
