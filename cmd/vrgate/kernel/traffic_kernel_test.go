//go:build kernel

package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
	"vrgate/test/netspace"
	"vrgate/vr"
)

// limited is one subscriber of the traffic tests, of either kind.
type limited struct {
	name       string
	id         subscriber.ID
	space      string // of the peer
	inner      netip.Addr
	other      netip.Addr // of a subscriber that has no limits
	otherSpace string
	network    netip.Prefix // behind it
	host       netip.Addr   // in network
	stranger   netip.Addr   // behind it, in no network of its
}

// Traffic policies of the terminating router.
var policies = []config.TrafficPolicy{
	{Name: "all"},
	{Name: "none-there", Rules: []config.TrafficRule{{Protocol: unix.IPPROTO_UDP, Network: netip.MustParsePrefix(intranetText + "/32")}}},
	{Name: "only", Rules: []config.TrafficRule{
		{Permit: true, Protocol: unix.IPPROTO_UDP, Network: netip.MustParsePrefix("10.1.0.0/24"), FirstPort: 7000, LastPort: 7001}, {},
	}},
	{Name: "slow", Rate: vr.MinRate},
}

// TestTraffic: rates, policies and networks of an L2TP and of a dynamic subscriber, in namespaces and VRFs, hold from the first
// packet, change without a packet lost, are nobody else's, and leave nothing (R7, R8).
func TestTraffic(t *testing.T) {
	for _, layout := range []string{"one router", "VRF to VRF in another namespace"} {
		t.Run(layout, func(t *testing.T) {
			w := placed(t, layout, func(r *config.Router) {
				r.TrafficPolicies = policies
				r.Destinations = []config.DestinationProfile{{Hosts: []config.HostProfile{{}}}} // L2TP without IPsec
			})
			lac := w.lac(t)
			dynamic, free := w.peers[0], w.peers[1]
			w.connect(free)
			subscribers := []limited{
				{
					name: "L2TP", id: 21, space: lac.space, inner: netip.MustParseAddr("10.9.0.21"), other: netip.MustParseAddr("10.9.0.22"), otherSpace: lac.space,
					network: netip.MustParsePrefix("172.21.0.0/16"), host: netip.MustParseAddr("172.21.0.1"), stranger: netip.MustParseAddr("172.31.0.1"),
				},
				{
					name: "dynamic", id: subscriber.ID(dynamic.number), space: dynamic.space, inner: dynamic.inner, other: free.inner, otherSpace: free.space,
					network: netip.MustParsePrefix("172.22.0.0/16"), host: netip.MustParseAddr("172.22.0.1"), stranger: netip.MustParseAddr("172.32.0.1"),
				},
			}
			lac.open(t, 22, subscribers[0].other, aaa.Traffic{}, nil)
			slow := aaa.Traffic{InPolicy: "slow"}
			lac.open(t, 21, subscribers[0].inner, slow, []aaa.Route{{Prefix: subscribers[0].network, Metric: 5}})
			f := w.openAccess(dynamic)
			f.Traffic, f.Routes = slow, []aaa.Route{{Prefix: subscribers[1].network}, {Prefix: subscribers[1].network}}
			w.openWith(f)
			w.rekey(dynamic)
			for _, s := range subscribers {
				t.Run(s.name, func(t *testing.T) {
					w.rate(t, s)
					w.policy(t, s)
					w.live(t, s)
				})
			}
			t.Run("networks", func(t *testing.T) { w.networks(t, subscribers, dynamic) })
			w.refused(t, subscribers)
			w.listens(t)

			for _, id := range []subscriber.ID{21, 22} {
				_, err := w.plane.CloseSession(id)
				w.check(err)
			}
			w.disconnect(dynamic)
			if filters := w.filters(); strings.Contains(filters, "flower") || strings.Contains(filters, "police") {
				t.Errorf("filters of nobody:\n%s", filters)
			}
			w.disconnect(free)
			w.close()
			lac.close(t)
			after := w.state() + w.actions()
			for _, gone := range []string{"vrx", "10.9.0.", "172.2", "esp", "vrgate", "gact"} {
				if strings.Contains(after, gone) {
					t.Errorf("%q is left:\n%s", gone, after)
				}
			}
		})
	}
}

// set changes a subscriber's traffic.
func (w *world) set(t *testing.T, s limited, traffic aaa.Traffic) {
	t.Helper()
	if err := w.plane.SetTraffic(subscriber.SetTraffic{ID: s.id, Terminating: w.end.router, Traffic: traffic}); err != nil {
		t.Fatal(err)
	}
}

// to and from the intranet, as arguments of send.
func (w *world) in(s limited, from netip.Addr, n, size int) *datagrams {
	return &datagrams{from: s.space, source: from, to: w.intranet, target: netip.MustParseAddrPort(intranetText + ":7000"), n: n, size: size}
}

func (w *world) out(s limited, to netip.Addr, n, size int) *datagrams {
	return &datagrams{from: w.intranet, source: netip.MustParseAddr(intranetText), to: s.space, target: netip.AddrPortFrom(to, 7000), n: n, size: size}
}

// rate: of two bursts at once one passes, either way, whether the rate is the policy's or the subscriber's own or both; what
// does not is counted; and another subscriber has its own (R7).
func (w *world) rate(t *testing.T, s limited) {
	const size = 1400
	const burst = vr.MinBurst / size
	pass := func(what string, d *datagrams, limited bool) {
		t.Helper()
		begin := time.Now()
		got, _, dropped := w.fate(t, d)
		more := int(time.Since(begin).Seconds()) + 1 // packets of 1400 bytes, at 1000 bytes a second
		if limited && (got < burst || got > burst+more) || !limited && got != d.n {
			t.Errorf("%s: %d packets of %d have passed, limited %v, with a burst of %d", what, got, d.n, limited, burst)
		}
		if dropped != d.n-got {
			t.Errorf("%s: %d are counted, of %d dropped", what, dropped, d.n-got)
		}
	}
	other := s
	other.space = s.otherSpace
	pass("from it, by its policy", w.in(s, s.inner, 2*burst, size), true)
	pass("to it, without limit", w.out(s, s.inner, 2*burst, size), false)
	pass("from another", w.in(other, s.other, burst, size), false)
	w.set(t, s, aaa.Traffic{In: vr.MaxRate, Out: 1, OutPolicy: "all"})
	pass("from it, fast", w.in(s, s.inner, 2*burst, size), false)
	pass("to it, by its own", w.out(s, s.inner, 2*burst, size), true)
	pass("to another", w.out(other, s.other, burst, size), false)
	for _, both := range []aaa.Traffic{{In: vr.MinRate, InPolicy: "slow", Out: 100_000_000, OutPolicy: "slow"}, {In: 100_000_000, InPolicy: "slow", Out: vr.MinRate, OutPolicy: "slow"}} {
		w.set(t, s, both)
		pass("from it, by both", w.in(s, s.inner, 2*burst, size), true)
		pass("to it, by both", w.out(s, s.inner, 2*burst, size), true)
	}
}

// policy: the first rule that matches decides, by the far side's address and port, in each direction alone (R7).
func (w *world) policy(t *testing.T, s limited) {
	expect := func(what string, d *datagrams, pass bool) {
		t.Helper()
		got, dropped, _ := w.fate(t, d)
		if pass && got != d.n || !pass && (got != 0 || dropped != d.n) {
			t.Errorf("%s: %d of %d have passed, %d dropped are counted; pass %v", what, got, d.n, dropped, pass)
		}
	}
	const n, size = 5, 100
	for _, tc := range []struct {
		traffic aaa.Traffic
		in, out bool
	}{
		{aaa.Traffic{InPolicy: "all", OutPolicy: "all"}, true, true},
		{aaa.Traffic{InPolicy: "none-there"}, false, true},
		{aaa.Traffic{OutPolicy: "none-there", In: 1_000_000}, true, false},
		{aaa.Traffic{}, true, true},
	} {
		w.set(t, s, tc.traffic)
		expect(fmt.Sprintf("%+v from it", tc.traffic), w.in(s, s.inner, n, size), tc.in)
		expect(fmt.Sprintf("%+v to it", tc.traffic), w.out(s, s.inner, n, size), tc.out)
	}
	w.set(t, s, aaa.Traffic{InPolicy: "none-there"})
	if n := ping(t, s.space, s.inner.String(), gatewayText, 2, 100); n != 2 {
		t.Errorf("%d of 2 answered by the router, which no rule is about", n)
	}
	w.set(t, s, aaa.Traffic{InPolicy: "only", OutPolicy: "only"})
	for port, pass := range map[uint16]bool{6999: false, 7000: true, 7001: true, 7002: false} {
		d := w.in(s, s.inner, n, size)
		d.target = netip.AddrPortFrom(d.target.Addr(), port)
		expect(fmt.Sprintf("to port %d", port), d, pass)
		d = w.out(s, s.inner, n, size)
		d.sourcePort = port
		expect(fmt.Sprintf("from port %d", port), d, pass)
	}
	// A packet in fragments passes by its first fragment's port.
	if got, _, _ := w.fate(t, w.in(s, s.inner, 2, 3000)); got != 2 {
		t.Errorf("%d packets of 2 in fragments", got)
	}
	w.set(t, s, aaa.Traffic{})
}

// live: a change loses no packet, and a change that fails changes nothing (R7).
func (w *world) live(t *testing.T, s limited) {
	changes := []aaa.Traffic{{In: 10_000_000, OutPolicy: "all"}, {}, {InPolicy: "only", OutPolicy: "slow", Out: 20_000_000}, {In: 30_000_000, InPolicy: "all", OutPolicy: "only"}, {Out: 20_000_000}}
	stop := make(chan struct{})
	ways := []*datagrams{w.in(s, s.inner, 0, 100), w.out(s, s.inner, 0, 100)}
	ways[1].sourcePort = 7001
	ways[1].target = netip.AddrPortFrom(s.inner, 7100)
	var sources, sinks [2]*net.UDPConn
	for i, d := range ways {
		sources[i], sinks[i] = d.open(t)
		defer sources[i].Close()
		defer sinks[i].Close()
	}
	var sent [2]atomic.Int64
	var running sync.WaitGroup
	for i, d := range ways {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					if _, err := sources[i].WriteToUDPAddrPort(make([]byte, 72), d.target); err == nil {
						sent[i].Add(1)
					}
				}
			}
		})
	}
	const enough = 50
	for i := 0; i < enough || min(sent[0].Load(), sent[1].Load()) < enough; i++ {
		w.set(t, s, changes[i%len(changes)])
		time.Sleep(time.Millisecond)
	}
	close(stop)
	running.Wait()
	for i, d := range ways {
		n := int(sent[i].Load())
		if got := await(t, sinks[i], n, time.Second); got != n {
			t.Errorf("of %v to %v %d of %d have come through the changes", d.source, d.target, got, n)
		}
	}

	w.set(t, s, aaa.Traffic{Out: 1_000_000})
	held := w.filters()
	var e *controlplane.DataplaneError
	if err := w.plane.SetTraffic(subscriber.SetTraffic{ID: s.id, Traffic: aaa.Traffic{OutPolicy: "unknown"}}); !errors.As(err, &e) || e.Reason != subscriber.Reason(aaa.ReasonUnknownPolicy) {
		t.Errorf("an unknown policy: %v", err)
	}
	if now := w.filters(); now != held || !strings.Contains(held, "rate 1Mbit") {
		t.Errorf("a failed change has left\n%s\nof\n%s", now, held)
	}
	w.set(t, s, aaa.Traffic{})
}

// networks: what is behind a subscriber reaches and is reached; what is not its own does not (R8).
func (w *world) networks(t *testing.T, subscribers []limited, dynamic *peer) {
	const n, size = 3, 100
	expect := func(what string, d *datagrams, want int) {
		t.Helper()
		if got := d.arrive(t, want); got != want {
			t.Errorf("%s: %d of %d, want %d\n%s", what, got, d.n, want, w.diagnosis())
		}
	}
	for _, s := range subscribers {
		for _, a := range []netip.Addr{s.host, s.stranger} {
			w.check(netspace.AddAddress(w.fd(s.space), "lo", netip.PrefixFrom(a, 32)))
		}
		if s.name == "L2TP" {
			batch(t, s.space, fmt.Sprintf("rule add from %v lookup 121\nrule add from %v lookup 121\n", s.host, s.stranger))
		} else {
			dynamic.policies(t, s.host)
			dynamic.policies(t, s.stranger)
			// Its phase 2 names the network; the SAs for its address stay.
			in, out := dynamic.in, dynamic.out
			dynamic.in, dynamic.out, dynamic.named = nil, nil, s.network
			w.rekey(dynamic)
			w.also = append(w.also, dynamic.in, dynamic.out)
			dynamic.in, dynamic.out = in, out
		}
		expect(s.name+": from behind it", w.in(s, s.host, n, size), n)
		expect(s.name+": behind it", w.out(s, s.host, n, size), n)
		expect(s.name+": to itself", w.out(s, s.inner, n, size), n)
		expect(s.name+": from behind it, where nothing is its", w.in(s, s.stranger, n, size), 0)
		// What limits the subscriber limits what is behind it.
		w.set(t, s, aaa.Traffic{InPolicy: "none-there", OutPolicy: "none-there"})
		expect(s.name+": from behind it, by policy", w.in(s, s.host, n, size), 0)
		expect(s.name+": behind it, by policy", w.out(s, s.host, n, size), 0)
		w.set(t, s, aaa.Traffic{})
	}
}

// refused: a policy that there is not, and another's network, are refused with their reasons and leave nothing.
func (w *world) refused(t *testing.T, subscribers []limited) {
	t.Helper()
	before := w.routing() + w.filters()
	for reason, change := range map[string]func(*subscriber.OpenAccess){
		string(aaa.ReasonUnknownPolicy): func(f *subscriber.OpenAccess) { f.Traffic.InPolicy = "unknown" },
		"duplicate-route": func(f *subscriber.OpenAccess) {
			f.Routes = []aaa.Route{{Prefix: netip.MustParsePrefix("172.29.0.0/16")}, {Prefix: subscribers[1].network}}
		},
		"duplicate-address": func(f *subscriber.OpenAccess) { f.Address = subscribers[0].inner },
	} {
		f := w.openAccess(w.peers[1])
		f.ID, f.Conn, f.Address, f.Traffic = 99, 99, netip.MustParseAddr("10.9.0.99"), aaa.Traffic{In: 1000000}
		change(&f)
		var e *controlplane.DataplaneError
		if _, _, err := w.plane.OpenAccess(f); !errors.As(err, &e) || string(e.Reason) != reason {
			t.Errorf("%v, want %s", err, reason)
		}
	}
	if after := w.routing() + w.filters(); after != before {
		t.Errorf("left\n%s\nbefore\n%s", after, before)
	}
}

// routing is what a subscriber has in the kernel beside filters.
func (w *world) routing() string {
	return run(w.t, "ip", "-n", w.end.space, "route", "show", "table", "all") + run(w.t, "ip", "-n", w.transport.space, "xfrm", "policy")
}

// drops are what rules and rates of the terminating router have dropped.
func (w *world) drops(t *testing.T) (policy, rate int) {
	t.Helper()
	plane := w.plane
	if w.other != nil {
		plane = w.other
	}
	d, err := plane.Drops()
	if err != nil {
		t.Fatal(err)
	}
	return int(d["policy"]), int(d["rate"])
}

// fate sends datagrams at once and waits until it is known of each that it has arrived, or what has dropped it; for
// those in fragments, until all have arrived.
func (w *world) fate(t *testing.T, d *datagrams) (got, policy, rate int) {
	t.Helper()
	source, sink := d.open(t)
	defer source.Close()
	defer sink.Close()
	policyBefore, rateBefore := w.drops(t)
	d.send(t, source)
	for end := time.Now().Add(10 * time.Second); ; {
		policy, rate = w.drops(t)
		policy, rate = policy-policyBefore, rate-rateBefore
		got += await(t, sink, d.n-policy-rate-got, 20*time.Millisecond)
		if got+policy+rate == d.n || time.Now().After(end) {
			return got, policy, rate
		}
	}
}

// filters are those of all links of the terminating router.
func (w *world) filters() string {
	var lines strings.Builder
	inSpace(w.t, w.end.space, func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			fmt.Fprintf(&lines, "filter show dev %s ingress\nfilter show dev %s egress\n", l.Name, l.Name)
		}
		return err
	})
	cmd := exec.Command("tc", "-n", w.end.space, "-batch", "-")
	cmd.Stdin = strings.NewReader(lines.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// actions are those that filters have, or nobody.
func (w *world) actions() string {
	return run(w.t, "tc", "-n", w.end.space, "actions", "list", "action", "gact") + run(w.t, "tc", "-n", w.end.space, "actions", "list", "action", "police")
}

// datagrams are some of a size in bytes, IP header included, from one namespace to another.
type datagrams struct {
	from, to   string
	source     netip.Addr
	sourcePort uint16 // 0: 7000
	target     netip.AddrPort
	n, size    int
}

// open makes the sockets.
func (d *datagrams) open(t *testing.T) (source, sink *net.UDPConn) {
	t.Helper()
	udp := func(space string, local netip.AddrPort) *net.UDPConn {
		var conn *net.UDPConn
		inSpace(t, space, func() (err error) {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(local))
			return err
		})
		return conn
	}
	port := d.sourcePort
	if port == 0 {
		port = 7000
	}
	source, sink = udp(d.from, netip.AddrPortFrom(d.source, port)), udp(d.to, d.target)
	raw, err := sink.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return source, sink
}

func (d *datagrams) send(t *testing.T, source *net.UDPConn) {
	t.Helper()
	payload := make([]byte, d.size-28)
	for range d.n {
		if _, err := source.WriteToUDPAddrPort(payload, d.target); err != nil {
			t.Fatal(err)
		}
	}
}

// arrive sends them at once and returns how many arrive, of which so many are expected.
func (d *datagrams) arrive(t *testing.T, want int) int {
	t.Helper()
	source, sink := d.open(t)
	defer source.Close()
	defer sink.Close()
	d.send(t, source)
	const patience, quiet = 5 * time.Second, 100 * time.Millisecond
	got := await(t, sink, want, patience)
	return got + await(t, sink, d.n-got, quiet)
}

// await reads up to n datagrams, until none has come for a while.
func await(t *testing.T, sink *net.UDPConn, n int, quiet time.Duration) int {
	t.Helper()
	for got := range n {
		if err := sink.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			t.Fatal(err)
		}
		if _, err := sink.Read(make([]byte, 4096)); err != nil {
			return got
		}
	}
	return max(n, 0)
}

// listens: sockets of a virtual router are in its namespace and VRF, IPv4 and IPv6, and close with it.
func (w *world) listens(t *testing.T) {
	t.Helper()
	batch(t, w.transport.space, "address add 2001:db8::1/128 dev ext nodad\n")
	for _, local := range []string{"192.0.2.1:0", "[2001:db8::1]:0", "0.0.0.0:3799", "[::]:0"} {
		conn, err := w.plane.ListenUDP(netip.MustParseAddrPort(local))
		if err != nil {
			t.Fatalf("%s: %v", local, err)
		}
		w.check(conn.Close())
		if conn, err = w.plane.ListenUDP(netip.MustParseAddrPort(local)); err != nil {
			t.Fatalf("%s once more: %v", local, err)
		}
		t.Cleanup(func() {
			if err := conn.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: open after its router: %v", local, err)
			}
		})
	}
	if _, err := w.plane.ListenUDP(netip.MustParseAddrPort("203.0.113.7:0")); err == nil {
		t.Error("a socket at an address of somebody else")
	}
	// A packet reaches it by the router's link, and its answer comes back.
	conn, err := w.plane.ListenUDP(netip.MustParseAddrPort(serverAddress + ":1812"))
	w.check(err)
	d := datagrams{from: w.peers[1].space, source: w.peers[1].outer, to: w.peers[1].space, target: netip.AddrPortFrom(w.peers[1].outer, 7001)}
	source, sink := d.open(t)
	defer source.Close()
	defer sink.Close()
	_, err = source.WriteToUDPAddrPort([]byte("hello"), netip.MustParseAddrPort(serverAddress+":1812"))
	w.check(err)
	w.check(conn.SetReadDeadline(time.Now().Add(5 * time.Second)))
	b := make([]byte, 16)
	n, from, err := conn.ReadFromUDPAddrPort(b)
	if n != 5 || err != nil || from.Addr() != w.peers[1].outer {
		t.Fatalf("%d bytes from %v, %v", n, from, err)
	}
	_, err = conn.WriteToUDPAddrPort(b[:n], d.target)
	w.check(err)
	if got := await(t, sink, 1, 5*time.Second); got != 1 {
		t.Errorf("%d answers", got)
	}
}
