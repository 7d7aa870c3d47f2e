//go:build kernel

package vr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vrgate/test/netspace"
)

// state is everything that a router may change in a namespace, as text.
func state(t *testing.T, n *namespace) string {
	t.Helper()
	s, err := netspace.State(n.fd)
	check(t, err)
	return s + n.run(t, "", "nft", "list", "ruleset") + n.run(t, "", "ip", "xfrm", "policy") // those of sockets, too
}

// TestOpenClose: a router is made, changed and removed, and leaves what it found.
func TestOpenClose(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		top := newTopology(t, vrf)
		before := state(t, top.router)
		spec := top.spec()
		spec.Gateway = []netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")}
		r, err := Open(spec)
		if err != nil {
			t.Fatal(err)
		}
		if vrf != (r.VRF() != 0) {
			t.Errorf("VRF index %d", r.VRF())
		}
		table := "main"
		if vrf {
			table = fmt.Sprint(vrfTable)
		}
		local := func() string {
			out := top.router.run(t, "", "ip", "-o", "addr", "show", "dev", gatewayLink("test"))
			var have []string
			for _, f := range strings.Fields(out) {
				if strings.HasPrefix(f, "10.99.") {
					have = append(have, f)
				}
			}
			return strings.Join(have, " ")
		}
		if have := local(); have != "10.99.0.1/32 10.99.0.2/32" {
			t.Errorf("gateway addresses: %s", have)
		}

		subscriber := netip.MustParsePrefix("10.99.1.5/32")
		index := linkIndex(t, top.router, "ext")
		if err := r.AddRoute(subscriber, index, spec.Gateway[0]); err != nil {
			t.Fatal(err)
		}
		if err := r.AddRoute(subscriber, index, spec.Gateway[0]); !errors.Is(err, ErrExists) {
			t.Errorf("the same route again: %v, want ErrExists", err)
		}
		routes := top.router.run(t, "", "ip", "route", "show", "table", table, "proto", fmt.Sprint(RouteProtocol))
		if !strings.Contains(routes, "10.99.1.5 dev ext scope link src 10.99.0.1") {
			t.Errorf("routes in table %s: %s", table, routes)
		}
		for range 2 { // a missing route is fine
			if err := r.DelRoute(subscriber, index); err != nil {
				t.Error(err)
			}
		}
		for _, prefsrc := range []netip.Addr{netip.MustParseAddr("10.98.0.1"), {}} { // another router's address, none
			if err := r.AddRoute(subscriber, index, prefsrc); err != nil {
				t.Fatal(err)
			}
			if routes := top.router.run(t, "", "ip", "route", "show", "10.99.1.5", "table", table); strings.Contains(routes, " src ") {
				t.Errorf("from %v: %s", prefsrc, routes)
			}
			if err := r.DelRoute(subscriber, index); err != nil {
				t.Error(err)
			}
		}
		if err := r.AddRoute(subscriber, index, netip.Addr{}); err != nil {
			t.Fatal(err)
		}

		// One gateway address goes, one comes, one stays. The rules are not touched, no packet could notice.
		rules := func() string { return top.router.run(t, "", "nft", "-a", "list", "table", "ip", tableName("test")) }
		untouched := rules()
		spec.Gateway = []netip.Addr{netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("10.99.0.3")}
		if err := r.Set(spec); err != nil {
			t.Fatal(err)
		}
		if after := rules(); after != untouched {
			t.Errorf("rules after Set:\n%s\nbefore:\n%s", after, untouched)
		}
		if have := local(); have != "10.99.0.2/32 10.99.0.3/32" {
			t.Errorf("gateway addresses after Set: %s", have)
		}
		// Other rules go into the same table, and those of hooks that have the same ones stay.
		changed := spec
		changed.PlainL2TP = !spec.PlainL2TP
		if err := r.Set(changed); err != nil {
			t.Fatal(err)
		}
		head := func(rules string) string { return rules[:strings.Index(rules, "\n")] }
		prerouting := func(rules string) string {
			_, rest, _ := strings.Cut(rules, "chain prerouting")
			return rest[:strings.Index(rest, "chain input")]
		}
		if after := rules(); after == untouched || head(after) != head(untouched) || prerouting(after) != prerouting(untouched) {
			t.Errorf("rules after other settings:\n%s\nbefore:\n%s", after, untouched)
		}
		if err := r.Set(spec); err != nil {
			t.Fatal(err)
		}
		if after := rules(); strings.Count(after, "chain") != strings.Count(untouched, "chain") || strings.Count(after, "handle") != strings.Count(untouched, "handle") {
			t.Errorf("rules after the former settings:\n%s\nfirst:\n%s", after, untouched)
		}
		// Somebody destroys it all; Set repairs.
		top.router.run(t, "", "nft", "flush", "ruleset")
		top.router.run(t, "", "ip", "link", "del", gatewayLink("test"))
		if _, err := r.Drops(); !errors.Is(err, ErrNotFound) {
			t.Errorf("Drops without a table: %v, want ErrNotFound", err)
		}
		if err := r.Set(spec); err != nil {
			t.Fatal(err)
		}
		if have := local(); have != "10.99.0.2/32 10.99.0.3/32" {
			t.Errorf("gateway addresses after the repair: %s", have)
		}
		if _, err := r.Drops(); err != nil {
			t.Error(err)
		}
		// An address that another link of the router has is used where it is.
		shared := spec
		shared.Gateway = append(slices.Clone(spec.Gateway), server)
		if err := r.Set(shared); err != nil {
			t.Fatal(err)
		}
		if addrs := top.router.run(t, "", "ip", "-o", "addr"); strings.Count(addrs, serverText+"/") != 1 {
			t.Errorf("the server address was added again: %s", addrs)
		}
		if err := r.AddRoute(netip.MustParsePrefix("10.99.1.7/32"), index, server); err != nil {
			t.Errorf("route with the server address as source: %v", err)
		}
		if err := r.Set(spec); err != nil {
			t.Fatal(err)
		}
		var bad *BadSpec
		other := spec
		other.Name = "other"
		if err := r.Set(other); !errors.As(err, &bad) {
			t.Errorf("renaming: %v", err)
		}
		if _, err := Open(spec); !errors.Is(err, ErrInUse) {
			t.Errorf("a second router of the same name: %v, want ErrInUse", err)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Set(spec); !errors.Is(err, ErrClosed) {
			t.Errorf("Set after Close: %v, want ErrClosed", err)
		}
		if _, err := r.ListenL2TP(server); !errors.Is(err, ErrClosed) {
			t.Errorf("listen after Close: %v, want ErrClosed", err)
		}
		if after := state(t, top.router); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

// TestOpenFails: each failure has its type and leaves nothing.
func TestOpenFails(t *testing.T) {
	top := newTopology(t, true)
	before := state(t, top.router)
	gateway := []netip.Addr{netip.MustParseAddr("10.99.0.1")}
	base := Spec{Name: "test", Namespace: top.router.name, Gateway: gateway}

	spec := base
	spec.Server = []netip.Addr{server} // which is in the VRF
	_, err := Open(spec)
	var none *NoAddress
	if !errors.As(err, &none) || none.Addr != server || none.Link != "ext" {
		t.Errorf("server address in another table: %v", err)
	}
	spec.VRF, spec.Table = "red", vrfTable
	spec.Server = []netip.Addr{nat}
	if _, err = Open(spec); !errors.As(err, &none) || none.Addr != nat || none.Link != "" {
		t.Errorf("server address on no link: %v", err)
	}
	spec.Server = nil
	spec.Table = vrfTable + 1
	var bad *BadSpec
	if _, err = Open(spec); !errors.As(err, &bad) {
		t.Errorf("VRF with another table: %v", err)
	}
	spec.VRF = "ext"
	if _, err = Open(spec); !errors.As(err, &bad) {
		t.Errorf("VRF that is no VRF: %v", err)
	}
	spec = base
	spec.VRF, spec.Table, spec.Server = "blue", 1001, []netip.Addr{server}
	if _, err = Open(spec); !errors.As(err, &none) {
		t.Errorf("server address in a VRF that has just been made: %v", err)
	}
	if after := state(t, top.router); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}

	spec = base
	spec.Namespace = prefix + "absent"
	var missing *NoNamespace
	if _, err = Open(spec); !errors.As(err, &missing) || missing.Name != spec.Namespace {
		t.Errorf("missing namespace: %v", err)
	}
	spec.Create, spec.Server = true, []netip.Addr{server}
	if _, err = Open(spec); !errors.As(err, &none) {
		t.Errorf("server address in a namespace that has just been made: %v", err)
	}
	if _, err := os.Stat(filepath.Join(namespaceDir, spec.Namespace)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace is still there: %v", err)
	}
}

// TestCreated: a namespace and a VRF that we make, their controls, their end.
func TestCreated(t *testing.T) {
	spec := Spec{Name: "made", Namespace: prefix + "made", Create: true, VRF: "red", Table: vrfTable,
		Gateway: []netip.Addr{netip.MustParseAddr("10.99.0.1")}}
	r, err := Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ key, want string }{
		{"net/ipv4/ip_forward", "1"}, {"net/ipv4/ip_local_port_range", "10000\t16383"}, {"net/ipv6/conf/default/disable_ipv6", "1"},
	} {
		err := r.Do(func() error {
			have, err := readSysctl(c.key)
			if have != c.want {
				t.Errorf("%s is %q, want %q", c.key, have, c.want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	n := r.space
	routes := n.run(t, "", "ip", "route", "show", "table", fmt.Sprint(vrfTable))
	if !strings.Contains(routes, "unreachable default") {
		t.Errorf("the VRF's table does not end: %s", routes)
	}
	if links := n.run(t, "", "ip", "-br", "link"); !strings.Contains(links, "red") || !strings.Contains(links, gatewayLink("made")) {
		t.Errorf("links: %s", links)
	}

	// Closed and opened again, as after a restart: still ours.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(spec); err != nil {
		t.Fatal(err)
	}
	n = r.space
	n.run(t, "", "ip", "link", "add", "guest", "type", "veth", "peer", "name", "guest2")
	if err := r.Remove(); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("Remove with another's link: %v, want ErrNotEmpty", err)
	}
	if r, err = Open(spec); err != nil {
		t.Fatal(err)
	}
	r.space.run(t, "", "ip", "link", "del", "guest")
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(namespaceDir, spec.Namespace)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace is still there: %v", err)
	}

	// A crash between the two steps of making a namespace leaves a plain file.
	path := filepath.Join(namespaceDir, spec.Namespace)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(spec); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
}

// TestVRFStays: a VRF that we made stays as long as another's link is in it, and is removed by the next life.
func TestVRFStays(t *testing.T) {
	n := testNamespace(t, "v")
	spec := Spec{Name: "stay", Namespace: n.name, VRF: "red", Table: vrfTable}
	r, err := Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	n.batch(t, "link add guest type veth peer name guest2\nlink set guest master red\n")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if links := n.run(t, "", "ip", "-br", "link"); !strings.Contains(links, "red") {
		t.Fatalf("the VRF went with another's link in it: %s", links)
	}
	if r, err = Open(spec); err != nil {
		t.Fatal(err)
	}
	n.run(t, "", "ip", "link", "del", "guest")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if links := n.run(t, "", "ip", "-br", "link"); strings.Contains(links, "red") {
		t.Errorf("the VRF is still there: %s", links)
	}
}

// TestKilled: what a killed process leaves is taken over by the next and then removed.
func TestKilled(t *testing.T) {
	if name := os.Getenv("VR_TEST_KILLED"); name != "" {
		r, err := Open(killedSpec(name))
		fmt.Println("open:", err)
		for {
			time.Sleep(time.Hour)
			runtime.KeepAlive(r) // or the collector closes its lock and the other Open succeeds
		}
	}
	n := testNamespace(t, "k")
	before := state(t, n)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "VR_TEST_KILLED="+n.name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	k, err := out.Read(b)
	if err != nil || string(b[:k]) != "open: <nil>\n" {
		t.Fatalf("the child says %q, %v", b[:k], err)
	}
	if _, err := Open(killedSpec(n.name)); !errors.Is(err, ErrInUse) {
		t.Errorf("Open while the other process runs: %v, want ErrInUse", err)
	}
	if s := state(t, n); !strings.Contains(s, tableName("killed")) || !strings.Contains(s, gatewayLink("killed")) {
		t.Errorf("the refused Open has damaged the other's:\n%s", s)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	r, err := Open(killedSpec(n.name))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if after := state(t, n); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func killedSpec(namespace string) Spec {
	return Spec{Name: "killed", Namespace: namespace, VRF: "red", Table: vrfTable, Gateway: []netip.Addr{netip.MustParseAddr("10.99.0.1")}}
}

// TestTwoRouters: two VRFs of one namespace with the same server, gateway and client addresses do not meet.
func TestTwoRouters(t *testing.T) {
	n := testNamespace(t, "two")
	var routers [2]*Router
	var listeners [2]*Socket
	var peers [2]*namespace
	for i, vrf := range []string{"red", "blue"} {
		peers[i] = testNamespace(t, "p"+vrf)
		check(t, netspace.AddVRF(n.fd, vrf, uint32(100+i)))
		join(t, peers[i], "ext", nat, n, "e"+vrf, server, vrf)
		var err error
		routers[i], err = Open(Spec{Name: vrf, Namespace: n.name, VRF: vrf, Table: uint32(100 + i), PlainL2TP: true,
			Server: []netip.Addr{server}, Gateway: []netip.Addr{netip.MustParseAddr("10.99.0.1")}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := routers[i].Close(); err != nil {
				t.Error(err)
			}
		})
		if listeners[i], err = routers[i].ListenL2TP(server); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listeners[i].Close() })
	}
	to := netip.AddrPortFrom(server, PortL2TP)
	for i, r := range routers {
		other := listeners[1-i]
		peer := peers[i].udp(t, netip.AddrPortFrom(nat, PortL2TP))
		send(t, peer, to, l2tp(0, true, "SCCRQ"))
		d := expect(t, listeners[i], "SCCRQ")
		// The same tunnel id in both.
		tunnel, err := r.TunnelSocket(server, 20000, d.Remote, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tunnel.Close()
		send(t, peer, to, l2tp(20000, true, "data"))
		expect(t, tunnel, "data")
		if _, err := tunnel.Write(l2tp(1, true, "reply")); err != nil {
			t.Fatal(err)
		}
		expectReply(t, peer, "reply")
		expectNothing(t, other)
	}
	// One goes, the other works on.
	if err := routers[0].Close(); err != nil {
		t.Fatal(err)
	}
	peer := peers[1].udp(t, netip.AddrPortFrom(nat, 5000))
	send(t, peer, to, l2tp(0, true, "again"))
	expect(t, listeners[1], "again")
	if _, err := routers[1].Drops(); err != nil {
		t.Error(err)
	}
}

// TestListen: the sockets for IKE.
func TestListen(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		top := newTopology(t, vrf)
		r := top.open(top.spec())
		// A policy that demands IPsec of everything, as a static tunnel may have: IKE is exempt.
		h := xfrmHandle(t, top.router)
		everything := &netlink.XfrmPolicy{
			Dir: netlink.XFRM_DIR_OUT, Src: network(netip.MustParsePrefix("0.0.0.0/0")), Dst: network(netip.MustParsePrefix("0.0.0.0/0")),
			Tmpls: []netlink.XfrmPolicyTmpl{{Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Src: server.AsSlice(), Dst: nat.AsSlice(), Reqid: 9}},
		}
		if err := h.XfrmPolicyAdd(everything); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			addr  netip.Addr
			port  uint16
			encap bool
		}{{server, PortIKE, false}, {server, PortNATT, true}, {netip.Addr{}, PortIKE, false}, {netip.Addr{}, PortNATT, true}} {
			s, err := r.ListenIKE(c.addr, c.port, c.encap)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.ListenIKE(c.addr, c.port, c.encap); !errors.Is(err, ErrInUse) {
				t.Errorf("the same address and port again: %v, want ErrInUse", err)
			}
			peer := top.nat.udp(t, netip.AddrPortFrom(nat, 6000))
			to := netip.AddrPortFrom(server, c.port)
			message := []byte("\x01cookie: an IKE message")
			if c.encap {
				send(t, peer, to, []byte{0xff})                            // keepalive: the kernel takes it
				send(t, peer, to, []byte("\x00\x00\x70\x01 unknown SPI.")) // ESP: the kernel takes it
				send(t, peer, to, []byte{1, 2, 3})                         // too short for either: the socket drops it
				send(t, peer, to, append(nonESP[:], message...))
			} else {
				send(t, peer, to, message)
			}
			d := expect(t, s, string(message))
			if !bytes.Equal(d.Data, message) || d.Local != to || d.Remote != netip.AddrPortFrom(nat, 6000) {
				t.Errorf("got %q from %s at %s", d.Data, d.Remote, d.Local)
			}
			if err := s.WriteTo([]byte("answer"), d.Local.Addr(), d.Remote); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			peer.SetReadDeadline(time.Now().Add(patience))
			k, from, err := peer.ReadFromUDPAddrPort(b)
			want := "answer"
			if c.encap {
				want = "\x00\x00\x00\x00answer"
			}
			if err != nil || from != to || string(b[:k]) != want {
				t.Errorf("the peer got %q from %s, %v", b[:k], from, err)
			}
			peer.Close()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := s.WriteTo([]byte("late"), netip.Addr{}, d.Remote); !errors.Is(err, ErrClosed) {
				t.Errorf("write after Close: %v, want ErrClosed", err)
			}
		}
	})
}

// TestTunnelPortInUse: the caller has to know that it should choose another tunnel id.
func TestTunnelPortInUse(t *testing.T) {
	top := newTopology(t, false)
	r := top.open(top.spec())
	remote := netip.AddrPortFrom(nat, PortL2TP)
	s, err := r.TunnelSocket(server, 20000, remote, ClientMark|1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Remote() != remote || s.Local() != netip.AddrPortFrom(server, 20000) {
		t.Errorf("socket %s to %s", s.Local(), s.Remote())
	}
	if _, err := r.TunnelSocket(server, 20000, netip.AddrPortFrom(nat, 5), ClientMark|2); !errors.Is(err, ErrInUse) {
		t.Errorf("port in use: %v, want ErrInUse", err)
	}
	var bad *BadSpec
	if _, err := r.TunnelSocket(server, 1701, remote, 0); !errors.As(err, &bad) {
		t.Errorf("port out of range: %v", err)
	}
	if _, err := r.TunnelSocket(server, 20001, netip.MustParseAddrPort("192.0.2.1:1701"), 0); !errors.Is(err, ErrRefused) {
		t.Errorf("no route to the peer: %v, want ErrRefused", err)
	}
	policies := top.router.run(t, "", "ip", "xfrm", "policy")
	for _, want := range []string{"socket in", "socket out", fmt.Sprintf("reqid %d", ClientMark|1)} {
		if !strings.Contains(policies, want) {
			t.Errorf("no %q in the policies:\n%s", want, policies)
		}
	}
}

// TestProbe: the kernels that the tests run on have everything.
func TestProbe(t *testing.T) {
	missing, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		t.Error(m.Error())
	}
}

func linkIndex(t *testing.T, n *namespace, name string) int {
	t.Helper()
	h, err := netlink.NewHandleAt(n.handle(), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

// subscriberTopology adds a subscriber's link to the router, a veth in the place of a PPP device, with an access route.
func subscriberTopology(t *testing.T, vrf bool, policy LinkPolicy) (top *topology, r *Router, subscriber *namespace) {
	t.Helper()
	top = newTopology(t, vrf)
	spec := top.spec()
	spec.Gateway = []netip.Addr{netip.MustParseAddr("10.99.0.1")}
	r = top.open(spec)
	subscriber = testNamespace(t, "s")
	group, err := r.LinkGroup(policy)
	if err != nil {
		t.Fatal(err)
	}
	master := ""
	if vrf {
		master = "link set sub master red\n"
	}
	top.router.batch(t, fmt.Sprintf("link add sub mtu 1400 type veth peer name ppp netns %s\nlink set sub group %d\n%slink set sub up\n",
		subscriber.name, group, master))
	subscriber.batch(t, "link set ppp up\naddr add 10.99.1.5/32 dev ppp\naddr add 10.99.1.6/32 dev ppp\nroute add 10.99.0.1 dev ppp\nroute add default via 10.99.0.1 src 10.99.1.5\n")
	if err := r.AddRoute(netip.MustParsePrefix("10.99.1.5/32"), linkIndex(t, top.router, "sub"), spec.Gateway[0]); err != nil {
		t.Fatal(err)
	}
	top.nat.batch(t, "route add 10.99.0.0/16 via "+serverText+"\n")
	return top, r, subscriber
}

// TestSourceValidation: a subscriber sends from its own address only.
func TestSourceValidation(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		top, r, subscriber := subscriberTopology(t, vrf, LinkPolicy{SourceValidation: true})
		inside := top.nat.udp(t, netip.AddrPortFrom(nat, 7000))
		to := netip.AddrPortFrom(nat, 7000)
		honest := subscriber.udp(t, netip.MustParseAddrPort("10.99.1.5:7000"))
		spoofer := subscriber.udp(t, netip.MustParseAddrPort("10.99.1.6:7000"))
		send(t, spoofer, to, []byte("spoofed"))
		send(t, honest, to, []byte("honest"))
		if from := expectReply(t, inside, "honest"); from.Addr().String() != "10.99.1.5" {
			t.Errorf("from %s", from)
		}
		send(t, inside, netip.MustParseAddrPort("10.99.1.5:7000"), []byte("answer"))
		expectReply(t, honest, "answer")
		if n := drops(t, r, dropSpoofed); n != 1 {
			t.Errorf("%d of 1 datagrams counted as spoofed", n)
		}
		if n := top.sniffer.saw("spoofed"); n != 0 {
			t.Errorf("%d spoofed datagrams left the router", n)
		}
		// An address that is routed, but elsewhere: the NAT box's own.
		subscriber.batch(t, "addr add "+natText+"/32 dev ppp\n")
		thief := subscriber.udp(t, netip.AddrPortFrom(nat, 7001))
		send(t, thief, netip.AddrPortFrom(server, 7001), []byte("spoofed"))
		if top.sniffer.saw("spoofed") != 0 || drops(t, r, dropSpoofed) != 2 {
			t.Errorf("another's routed address passed: %d counted", drops(t, r, dropSpoofed))
		}
	})
}

// TestClampMSS: connections from and to a subscriber get an MSS that its link's policy says, and fits its MTU of 1400 where
// it says that.
func TestClampMSS(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		top, r, subscriber := subscriberTopology(t, vrf, LinkPolicy{})
		// The subscriber's own link has 1500, so its SYN asks for 1460.
		connect := func(from, to *namespace, local, remote string) {
			t.Helper()
			err := from.do(func() error {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
				if err != nil {
					return err
				}
				t.Cleanup(func() { unix.Close(fd) })
				if err := unix.Bind(fd, sockaddr(netip.MustParseAddrPort(local))); err != nil {
					return err
				}
				if err := unix.Connect(fd, sockaddr(netip.MustParseAddrPort(remote))); !errors.Is(err, unix.EINPROGRESS) {
					return fmt.Errorf("connect: %w", err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		arriving := sniff(t, subscriber, "ppp")
		for i, p := range []struct {
			policy LinkPolicy
			mss    uint16
		}{
			{LinkPolicy{ClampMSS: true}, 1360},
			{LinkPolicy{SourceValidation: true}, 1460},
			{LinkPolicy{MSS: 1200}, 1200},
			{LinkPolicy{ClampMSS: true, MSS: 1300}, 1300},
			{LinkPolicy{ClampMSS: true, MSS: 1460}, 1360},
			{LinkPolicy{SourceValidation: true, MSS: 1200}, 1200},
		} {
			group, err := r.LinkGroup(p.policy)
			if err != nil {
				t.Fatal(err)
			}
			top.router.batch(t, fmt.Sprintf("link set sub group %d\n", group))
			if i == 3 { // what the rules have learnt survives a repair
				if err := r.Set(r.spec); err != nil {
					t.Fatal(err)
				}
			}
			up, down := 8001+uint16(2*i), 9001+uint16(2*i)
			connect(subscriber, top.nat, fmt.Sprintf("10.99.1.5:%d", up), natText+":8000")
			connect(top.nat, subscriber, fmt.Sprintf("%s:%d", natText, down), "10.99.1.5:8002")
			for _, c := range []struct {
				at   *sniffer
				port uint16
			}{{top.sniffer, up}, {arriving, down}} {
				c.at.saw("")
				if mss := c.at.mss(c.port); mss != p.mss {
					t.Errorf("%+v: SYN from port %d passed with MSS %d, want %d", p.policy, c.port, mss, p.mss)
				}
			}
		}
	})
}

// mss is that of the last SYN seen from a TCP port; 0 if there is none.
func (s *sniffer) mss(port uint16) (mss uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.frames {
		const syn, mssOption = 2, 2
		if len(f) < 44 || f[0] != ipHeaderLength || f[9] != unix.IPPROTO_TCP || binary.BigEndian.Uint16(f[20:]) != port {
			continue
		}
		if f[33] == syn && f[40] == mssOption {
			mss = binary.BigEndian.Uint16(f[42:])
		}
	}
	return mss
}

// TestOwnAddress: an address that is not borrowed is on our device even where another link has it, comes back, and goes.
func TestOwnAddress(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		top := newTopology(t, vrf)
		device := gatewayLink("test")
		has := func() bool { return strings.Contains(top.router.run(t, "", "ip", "-o", "addr", "show", "up"), device) }
		spec := top.spec()
		spec.Gateway = []netip.Addr{server}
		r := top.open(spec)
		if has() {
			t.Error("an address that another link has was not borrowed")
		}
		spec.Own = spec.Gateway
		for _, what := range []string{"set", "repaired"} {
			if err := r.Set(spec); err != nil {
				t.Fatal(err)
			}
			if !has() {
				t.Errorf("%s: not on our device", what)
			}
			top.router.batch(t, fmt.Sprintf("addr del %s/32 dev %s\n", server, device))
		}
		if err := errors.Join(r.Set(spec), r.Close()); err != nil {
			t.Fatal(err)
		}
		if left := top.router.run(t, "", "ip", "-o", "addr"); strings.Contains(left, device) || !strings.Contains(left, serverText) {
			t.Errorf("after the end:\n%s", left)
		}
	})
}

// TestSweep: what a killed process left for a router that is configured no more goes, and nothing else.
func TestSweep(t *testing.T) {
	n := testNamespace(t, "w")
	n.run(t, "", "nft", "add", "table", "ip", "another")
	before := state(t, n)
	abandoned, err := Open(killedSpec(n.name))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := Open(Spec{Name: "kept", Namespace: n.name})
	if err != nil {
		t.Fatal(err)
	}
	if names, err := Sweep(n.name, nil); err != nil || len(names) != 0 {
		t.Errorf("swept %v, %v, though both run", names, err)
	}
	// What a kill does: the claim and the sockets go, the rest stays.
	if err := errors.Join(abandoned.release(), abandoned.space.close()); err != nil {
		t.Fatal(err)
	}
	if names, err := Sweep(n.name, []string{"killed"}); err != nil || len(names) != 0 {
		t.Errorf("swept %v, %v, though told to keep it", names, err)
	}
	if names, err := Sweep(n.name, nil); err != nil || len(names) != 1 || names[0] != "killed" {
		t.Errorf("swept %v, %v", names, err)
	}
	if _, err := kept.Drops(); err != nil {
		t.Errorf("the running router: %v", err)
	}
	if err := kept.Close(); err != nil {
		t.Error(err)
	}
	if after := state(t, n); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if names, err := Sweep(prefix+"absent", nil); err != nil || len(names) != 0 {
		t.Errorf("missing namespace: %v, %v", names, err)
	}
}
