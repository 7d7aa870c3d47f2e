//go:build kernel

package vr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vrgate/test/netspace"
)

// A site behind a static tunnel and a subscriber with IPsec, both of which end in router `to`; the outer packets are of router
// `from`. Keys and policies are made by hand.
//
//	site    10.2.0.1 -- 198.51.100.2 ═══ 198.51.100.1  from ┈ to  10.1.255.1 on hq0
//	client  10.9.0.7 -- 203.0.113.2  ═══ 203.0.113.1   from ┈ to  10.9.0.1
type sites struct {
	from, to     *namespace
	site, client *namespace
	transport    *Router
	terminating  *Router
	tunnel       *Tunnel
	access       *Access
}

var (
	siteOuter, fromSite = netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.1")
	siteInner, hqInner  = netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.1.255.1")
	clientInner         = netip.MustParseAddr("10.9.0.7")
)

// newSites makes it all; spec places the routers.
func newSites(t *testing.T, transport, terminating Spec) *sites {
	t.Helper()
	s := &sites{from: testNamespace(t, "f"), site: testNamespace(t, "s"), client: testNamespace(t, "c")}
	s.to = s.from
	if terminating.Namespace != "" {
		s.to = testNamespace(t, "t")
	}
	transport.Namespace, terminating.Namespace = s.from.name, s.to.name
	if transport.VRF != "" {
		check(t, netspace.AddVRF(s.from.fd, transport.VRF, transport.Table))
	}
	join(t, s.from, "tosite", fromSite, s.site, "ext", siteOuter, "")
	join(t, s.from, "toclient", server, s.client, "ext", nat, "")
	if transport.VRF != "" {
		s.from.batch(t, fmt.Sprintf("link set tosite master %s\nlink set toclient master %s\n", transport.VRF, transport.VRF))
	}
	var err error
	transport.Server = []netip.Addr{server}
	s.transport, err = Open(transport)
	check(t, err)
	s.terminating = s.transport
	if transport.Name != terminating.Name {
		terminating.Gateway = []netip.Addr{netip.MustParseAddr("10.9.0.1")}
		s.terminating, err = Open(terminating)
		check(t, err)
	}
	policy := LinkPolicy{SourceValidation: true, ClampMSS: true}
	s.access, err = s.transport.Access(s.terminating, 1400, policy)
	check(t, err)
	check(t, s.access.AddRoute(netip.PrefixFrom(clientInner, 32), netip.Addr{}, 1400))
	spec := hq()
	spec.Policy = policy
	s.tunnel, err = s.transport.Tunnel(s.terminating, spec)
	check(t, err)
	check(t, s.tunnel.Mend())
	t.Cleanup(func() {
		check(t, errors.Join(s.tunnel.Close(), s.access.Close(), s.terminating.Close(), s.transport.Close()))
	})
	for _, n := range []*namespace{s.site, s.client} {
		n.batch(t, "link add x0 type xfrm dev ext if_id 1\nlink set lo up\nlink set x0 up\nroute add default dev x0\n")
		check(t, n.do(func() error { return writeSysctl("net/ipv4/ip_forward", "1") }))
	}
	check(t, netspace.AddAddress(s.site.fd, "x0", netip.PrefixFrom(siteInner, 32)))
	check(t, netspace.AddAddress(s.client.fd, "x0", netip.PrefixFrom(clientInner, 32)))
	secure(t, s.from, fromSite, s.tunnel.IfID(), s.tunnel.Mark(), s.site, siteOuter, 0x1000)
	secure(t, s.from, server, s.access.IfID(), s.access.Mark(), s.client, nat, 0x2000)
	return s
}

// secure joins two ends by a pair of SAs for everything, whose interfaces are that with a number here and number 1 there.
func secure(t *testing.T, here *namespace, local netip.Addr, ifID, mark uint32, there *namespace, remote netip.Addr, spi uint32) {
	t.Helper()
	for _, end := range []struct {
		n             *namespace
		local, remote netip.Addr
		ifID, mark    uint32
		in, out       uint32
	}{{here, local, remote, ifID, mark, spi, spi + 1}, {there, remote, local, 1, 0, spi + 1, spi}} {
		h := xfrmHandle(t, end.n)
		for _, x := range []struct {
			src, dst  netip.Addr
			spi, mark uint32
			dirs      []netlink.Dir
		}{
			{end.local, end.remote, end.out, 0, []netlink.Dir{netlink.XFRM_DIR_OUT}},
			{end.remote, end.local, end.in, end.mark, []netlink.Dir{netlink.XFRM_DIR_IN, netlink.XFRM_DIR_FWD}},
		} {
			state := sa(x.src, x.dst, x.spi, spi, 0, 0, x.mark)
			state.Mode, state.Ifid = netlink.XFRM_MODE_TUNNEL, int(end.ifID)
			check(t, h.XfrmStateAdd(state))
			for _, dir := range x.dirs {
				p := &netlink.XfrmPolicy{Dir: dir, Src: network(netip.MustParsePrefix("0.0.0.0/0")), Dst: network(netip.MustParsePrefix("0.0.0.0/0")), Ifid: int(end.ifID)}
				tmpl := netlink.XfrmPolicyTmpl{Src: x.src.AsSlice(), Dst: x.dst.AsSlice(), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Reqid: int(spi)}
				p.Tmpls = []netlink.XfrmPolicyTmpl{tmpl}
				check(t, h.XfrmPolicyAdd(p))
			}
		}
	}
}

// places are where the two routers of a tunnel may be. Namespace says only whether that of the terminating one is another.
var places = []struct {
	name                   string
	transport, terminating Spec
}{
	{"one router", Spec{Name: "red"}, Spec{Name: "red"}},
	{"one router in a VRF", Spec{Name: "red", VRF: "vrfr", Table: 1001}, Spec{Name: "red"}},
	{"two VRFs", Spec{Name: "red", VRF: "vrfr", Table: 1001}, Spec{Name: "blue", VRF: "vrfb", Table: 1002}},
	{"VRF of another namespace", Spec{Name: "red"}, Spec{Name: "blue", Namespace: "other", VRF: "vrfb", Table: 1002}},
	{"from a VRF to another namespace", Spec{Name: "red", VRF: "vrfr", Table: 1001}, Spec{Name: "blue", Namespace: "other"}},
}

// TestTunnelCarries: wherever the two routers are, a subscriber reaches the site through both IPsec tunnels and is reached by it, and
// the router itself is asked and asks; what the link policy forbids is dropped, and without an SA nothing passes (Z-1).
func TestTunnelCarries(t *testing.T) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			s := newSites(t, place.transport, place.terminating)
			ping := func(n *namespace, from, to netip.Addr, want bool) {
				t.Helper()
				count := 3
				e := netspace.Echo{From: from, To: to, Count: count, Size: 100, Interval: 10 * time.Millisecond, Wait: 3 * time.Second}
				if !want {
					e.Wait = 100 * time.Millisecond
				}
				var answered int
				check(t, n.do(func() (err error) { answered, err = e.Send(); return err }))
				if want && answered != count || !want && answered != 0 {
					t.Errorf("%s to %s: %d of %d answered", from, to, answered, count)
				}
			}
			ping(s.client, clientInner, siteInner, true)
			ping(s.site, siteInner, clientInner, true)
			ping(s.site, siteInner, hqInner, true)
			traffic, err := s.tunnel.Traffic()
			check(t, err)
			if traffic.InPackets != 9 || traffic.OutPackets != 9 || traffic.OutBytes != 900 {
				t.Errorf("%+v", traffic)
			}
			// A source that is routed elsewhere: the subscriber's.
			s.site.batch(t, "addr add 10.9.0.8/32 dev x0\n")
			check(t, s.access.AddRoute(netip.MustParsePrefix("10.9.0.8/32"), netip.Addr{}, 1400))
			before := drops(t, s.terminating, dropSpoofed)
			ping(s.site, netip.MustParseAddr("10.9.0.8"), hqInner, false)
			if n := drops(t, s.terminating, dropSpoofed) - before; n != 3 {
				t.Errorf("%d dropped", n)
			}
			// Without an SA: no answer, and nothing in clear.
			h := xfrmHandle(t, s.from)
			check(t, h.XfrmStateDel(sa(fromSite, siteOuter, 0x1001, 0, 0, 0, 0)))
			clear := s.site.run(t, "", "sh", "-c", "nft add table ip seen; nft add chain ip seen raw '{ type filter hook prerouting priority raw; }'; nft add rule ip seen raw iif ext ip daddr 10.2.0.0/16 counter")
			ping(s.client, clientInner, siteInner, false)
			if clear += s.site.run(t, "", "nft", "list", "table", "ip", "seen"); !strings.Contains(clear, "packets 0 ") {
				t.Errorf("in clear: %s", clear)
			}
		})
	}
}

// polled is a Prober with a Poller of its own.
func polled(t *testing.T, r *Router) *Prober {
	t.Helper()
	p, err := NewPoller()
	check(t, err)
	b, err := r.NewProber(p)
	check(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		check(t, b.Close())
		stop()
		check(t, errors.Join(<-done, p.Close()))
	})
	return b
}

// TestProbes: a host is there, silent, refuses, or is said to be unreachable, by ICMP and by TCP, through a tunnel; each probe is answered
// once, also at the end (Z-11).
func TestProbes(t *testing.T) {
	for _, place := range []int{2, 4} {
		t.Run(places[place].name, func(t *testing.T) { testProbes(t, newSites(t, places[place].transport, places[place].terminating)) })
	}
}

func testProbes(t *testing.T, s *sites) {
	s.site.batch(t, "addr add 10.2.0.2/32 dev x0\naddr add 10.2.0.3/32 dev x0\naddr add 10.2.0.4/32 dev x0\n")
	s.site.run(t, `table ip filter {
chain in {
type filter hook input priority 0;
ip daddr 10.2.0.2 drop
ip daddr 10.2.0.3 reject with icmp type host-unreachable
ip daddr 10.2.0.4 reject with icmp type admin-prohibited
}
}
`, "nft", "-f", "-")
	check(t, s.site.do(func() error { return writeSysctl("net/ipv4/icmp_ratelimit", "0") }))
	var listener net.Listener
	check(t, s.site.do(func() (err error) { listener, err = net.Listen("tcp4", "10.2.0.1:80"); return err }))
	defer listener.Close()
	b := polled(t, s.terminating)
	nowhere := uint8(0) // "network unreachable"
	if s.terminating.VRF() != 0 {
		nowhere = 1 // the route that ends its table says "host unreachable"
	}
	type answer struct {
		rtt time.Duration
		err error
	}
	tests := []struct {
		what      string
		device    string
		source    netip.Addr
		target    string
		port      uint16
		want      ProbeReason // "" for an answer
		typ, code uint8
	}{
		{what: "alive", device: "hq0", source: hqInner, target: "10.2.0.1"},
		{what: "alive by the route", target: "10.2.0.1"},
		{what: "alive by TCP", device: "hq0", source: hqInner, target: "10.2.0.1", port: 80},
		{what: "alive by TCP by the route", target: "10.2.0.1", port: 80},
		{what: "silent", device: "hq0", target: "10.2.0.2", want: ProbeTimeout},
		{what: "silent by TCP", device: "hq0", target: "10.2.0.2", port: 80, want: ProbeTimeout},
		{what: "refused", device: "hq0", target: "10.2.0.1", port: 81, want: ProbeRefused},
		{what: "unreachable", device: "hq0", target: "10.2.0.3", want: ProbeUnreachable, typ: 3, code: 1},
		{what: "unreachable by TCP", device: "hq0", target: "10.2.0.3", port: 80, want: ProbeUnreachable, typ: 3, code: 1},
		{what: "prohibited", device: "hq0", target: "10.2.0.4", want: ProbeUnreachable, typ: 3, code: 13},
		{what: "prohibited by TCP", device: "hq0", target: "10.2.0.4", port: 80, want: ProbeUnreachable, typ: 3, code: 13},
		{what: "no interface", device: "nosuch0", target: "10.2.0.1", want: ProbeNoInterface},
		{what: "no interface by TCP", device: "nosuch0", target: "10.2.0.1", port: 80, want: ProbeNoInterface},
		{what: "no source", device: "hq0", source: nat, target: "10.2.0.1", want: ProbeNoSource},
		{what: "no source by TCP", device: "hq0", source: nat, target: "10.2.0.1", port: 80, want: ProbeNoSource},
		{what: "no route", target: "192.0.2.9", want: ProbeUnreachable, typ: 3, code: nowhere},
	}
	answers := make([]chan answer, len(tests))
	for i, tc := range tests {
		answers[i] = make(chan answer, 2)
		spec := ProbeSpec{Device: tc.device, Source: tc.source, Target: netip.MustParseAddr(tc.target), Port: tc.port, Timeout: 3 * time.Second}
		if tc.want == ProbeTimeout {
			spec.Timeout = 200 * time.Millisecond
		}
		b.Probe(spec, func(rtt time.Duration, err error) { answers[i] <- answer{rtt, err} })
	}
	for i, tc := range tests {
		a := <-answers[i]
		var e *ProbeError
		switch {
		case tc.want == "":
			if a.err != nil || a.rtt <= 0 || a.rtt > 3*time.Second {
				t.Errorf("%s: %s, %v", tc.what, a.rtt, a.err)
			}
		case !errors.As(a.err, &e) || e.Reason != tc.want || e.Type != tc.typ || e.Code != tc.code:
			t.Errorf("%s: %v", tc.what, a.err)
		}
	}
	// The tunnel has lost its SA: the router itself says so.
	check(t, xfrmHandle(t, s.from).XfrmStateDel(sa(fromSite, siteOuter, 0x1001, 0, 0, 0, 0)))
	for _, port := range []uint16{0, 80} {
		down := make(chan error, 1)
		b.Probe(ProbeSpec{Device: "hq0", Target: siteInner, Port: port, Timeout: 3 * time.Second}, func(_ time.Duration, err error) { down <- err })
		var e *ProbeError
		if err := <-down; !errors.As(err, &e) || e.Reason != ProbeUnreachable || e.Type != 3 || e.Code != 1 {
			t.Errorf("port %d without an SA: %v", port, err)
		}
	}
	b.mu.Lock()
	if len(b.echoes) != 0 || len(b.flows) != 0 || len(b.dials) != 0 {
		t.Errorf("%d echoes and %d connections are kept", len(b.echoes), len(b.dials))
	}
	b.mu.Unlock()
	for i, tc := range tests {
		if len(answers[i]) != 0 {
			t.Errorf("%s: a second answer", tc.what)
		}
	}
}

// TestProbesEnd: what is under way at Close is answered then, no more are sent than may be, and nothing is kept open.
func TestProbesEnd(t *testing.T) {
	n := testNamespace(t, "p")
	n.batch(t, "link add d0 type dummy\naddr add 10.2.0.254/24 dev d0\nlink set d0 up\nneigh add 10.2.0.1 lladdr 02:00:00:00:00:01 dev d0\n")
	r, err := Open(Spec{Name: "red", Namespace: n.name})
	check(t, err)
	defer r.Close()
	p, err := NewPoller()
	check(t, err)
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		return len(entries)
	}
	before := open()
	b, err := r.NewProber(p)
	check(t, err)
	var mu sync.Mutex
	answered := map[ProbeReason]int{}
	ask := func(port uint16) {
		b.Probe(ProbeSpec{Target: netip.MustParseAddr("10.2.0.1"), Port: port, Timeout: time.Minute}, func(_ time.Duration, err error) {
			var e *ProbeError
			reason := ProbeReason("other")
			if errors.As(err, &e) {
				reason = e.Reason
			} else if errors.Is(err, ErrClosed) {
				reason = "closed"
			}
			mu.Lock()
			answered[reason]++
			mu.Unlock()
		})
	}
	const dials = 10
	r.mu.Lock() // nobody waits for a router that is being changed
	for range dials {
		ask(80)
	}
	r.mu.Unlock()
	for range MaxProbes - dials {
		ask(0)
	}
	ask(0)
	ask(80)
	if answered[ProbeTooMany] != 2 || len(answered) != 1 {
		t.Errorf("%v", answered)
	}
	for range 2 {
		check(t, b.Close())
	}
	if answered["closed"] != MaxProbes || len(answered) != 2 {
		t.Errorf("%v", answered)
	}
	ask(0)
	if answered["closed"] != MaxProbes+1 || p.Len() != 0 {
		t.Errorf("%v, %d descriptors in the poller", answered, p.Len())
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	check(t, p.Close())
	check(t, r.Close())
	if _, err := r.NewProber(p); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed router: %v", err)
	}
}

// TestDial: name servers behind a tunnel are asked from within the router, by UDP and by TCP.
func TestDial(t *testing.T) {
	s := newSites(t, places[2].transport, places[2].terminating)
	var udp net.PacketConn
	var tcp net.Listener
	check(t, s.site.do(func() (err error) {
		if udp, err = net.ListenPacket("udp4", "10.2.0.1:53"); err != nil {
			return err
		}
		tcp, err = net.Listen("tcp4", "10.2.0.1:53")
		return err
	}))
	defer udp.Close()
	defer tcp.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(append([]byte("udp "), b[:n]...), from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 100)
			n, _ := c.Read(b)
			_, _ = c.Write(append([]byte("tcp "), b[:n]...))
			c.Close()
		}
	}()
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	for _, network := range []string{"udp", "tcp"} {
		c, err := s.terminating.Dial(ctx, network, "10.2.0.1:53")
		check(t, err)
		check(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = io.WriteString(c, "question")
		check(t, err)
		b := make([]byte, 100)
		n, err := c.Read(b)
		if string(b[:n]) != network+" question" {
			t.Errorf("%s: %q, %v", network, b[:n], err)
		}
		check(t, c.Close())
	}
	if _, err := s.terminating.Dial(ctx, "tcp", "10.2.0.1:54"); !errors.Is(err, ErrRefused) || !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	s.site.run(t, "table ip quiet {\nchain in {\ntype filter hook input priority 0;\ntcp dport 54 drop\n}\n}\n", "nft", "-f", "-")
	if _, err := s.terminating.Dial(short, "tcp", "10.2.0.1:54"); err == nil {
		t.Error("nobody answers")
	}
	for _, address := range []string{"localhost:53", "10.2.0.1", "[2001:db8::1]:53", ""} {
		var bad *BadSpec
		if _, err := s.terminating.Dial(ctx, "udp", address); !errors.As(err, &bad) {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, network := range []string{"unix", "udp6", "ip4:1"} {
		var bad *BadSpec
		if _, err := s.terminating.Dial(ctx, network, "10.2.0.1:53"); !errors.As(err, &bad) {
			t.Errorf("%q: %v", network, err)
		}
	}
}
