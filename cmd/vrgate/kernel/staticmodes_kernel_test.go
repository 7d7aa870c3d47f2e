//go:build kernel

package kernel

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
	"vrgate/test/netspace"
	"vrgate/xfrm"
)

// inClear has the other end send without IPsec until the function that it returns is called.
func (s *office) inClear() (back func()) {
	s.w.t.Helper()
	run(s.w.t, "ip", "-n", s.space, "xfrm", "policy", "flush")
	conn := ike.ConnID(0)
	for c := range s.pairs {
		conn = c
	}
	return func() { s.send(conn) }
}

// TestStaticPolicy: in mode policy whatever is between the networks is encrypted wherever it is routed, and what comes in clear is dropped.
func TestStaticPolicy(t *testing.T) {
	tunnel := headquarters()
	tunnel.Mode, tunnel.Interface = config.StaticPolicy, config.StaticInterface{}
	tunnel.Networks[1] = config.StaticNetwork{Name: "icmp", Local: anywhere, Remote: moreNet, Protocol: 1}
	w := staticWorld(t, "one router", tunnel)
	batch(t, w.transport.space, "route add 10.9.0.0/24 via 198.51.1.2\nroute add 10.8.0.0/24 via 198.51.1.2\nroute add 10.7.0.0/24 via 198.51.1.2\n")
	s := w.office(w.peers[0], tunnel)
	inner := s.inner.String()
	s.address("10.8.0.5")
	s.unanswered(inner) // the peer sends in clear, we not at all
	w.events.await(t, "that the tunnel is wanted", func() bool { return len(w.events.wanted) > 0 })
	s.send(7)
	s.connect(7)
	s.carry(7)
	s.both(inner)
	s.both("10.8.0.5")
	s.wrongSource("10.7.0.5")
	back := s.inClear()
	s.unanswered(inner)
	back()
	s.both(inner)
	s.disconnect(7) // which ends the carrying too
	s.unanswered(inner)
	w.nothingInClear()
	w.gone("10.9.0.0/24 >", "> 10.9.0.0/24")
}

// TestStaticTransport: GRE and IP-in-IP links of the virtual router are encrypted in transport mode, with and without NAT between the two, and
// unprotected packets of theirs are dropped, before, during and after the connection.
func TestStaticTransport(t *testing.T) {
	server := netip.MustParseAddr(serverAddress)
	for _, tc := range []struct {
		layout   string
		peer     int
		protocol uint8
		kind     string
		link     config.Link
	}{
		{"one router", 0, 47, "gre", config.Link{Kind: config.LinkGRE, GRE: config.GRELink{Local: server, Remote: netip.MustParseAddr("198.51.1.2")}}},
		{"one router in a VRF", 1, 4, "ipip", config.Link{Kind: config.LinkIPIP, IPIP: config.TunnelLink{Local: server, Remote: netip.MustParseAddr("198.51.2.2")}}},
	} {
		t.Run(tc.layout+" "+tc.kind, func(t *testing.T) {
			tunnel := headquarters()
			tunnel.Mode, tunnel.Interface = config.StaticTransport, config.StaticInterface{}
			tunnel.Networks = []config.StaticNetwork{{Name: tc.kind, Protocol: tc.protocol}}
			link := tc.link
			link.Name, link.Up, link.MTU = "hqlink", true, 1400
			link.Addresses, link.Routes = []netip.Prefix{netip.MustParsePrefix("10.5.0.1/30")}, []config.LinkRoute{{Network: lanThere, Via: netip.MustParseAddr("10.5.0.2")}}
			w := placed(t, tc.layout, func(r *config.Router) {
				tunnel.Terminating = r.Name
				r.StaticTunnels, r.Links = []config.StaticTunnel{tunnel}, []config.Link{link}
			})
			s := w.office(w.peers[tc.peer], tunnel)
			batch(t, s.space, "link add hq type "+tc.kind+" local "+s.outer.String()+" remote "+serverAddress+" ttl 64\nlink set hq mtu 1400 up\naddr add 10.5.0.2/30 dev hq\nroute add 10.1.0.0/24 dev hq\n")
			inner := s.inner.String()
			s.unanswered(inner)
			w.events.await(t, "that the tunnel is wanted", func() bool { return len(w.events.wanted) > 0 })
			s.send(7)
			s.connect(7)
			s.carry(7)
			s.both(inner)
			s.connect(7)
			s.both(inner)
			back := s.inClear()
			s.unanswered(inner)
			back()
			s.both(inner)
			// The links have multicasts of IPv6 of their own.
			if c := s.disconnect(7); c.InPackets < 18 || c.OutPackets < 18 || c.InBytes < 18000 {
				t.Errorf("%+v", c)
			}
			s.inClear()
			s.unanswered(inner)
			w.nothingInClear()
			// Tunnel and link come and go together, by a reload and with the router, while somebody sends into the link. The peer sends nothing in
			// clear, which would be answered by ICMP while there is no link.
			s.send(7)
			stop, asking := make(chan struct{}), make(chan error, 1)
			go func() {
				var err error
				for err == nil {
					select {
					case <-stop:
						asking <- nil
						return
					default:
					}
					_, err = w.spaces[w.intranet].Ping(netspace.Echo{
						From: netip.MustParseAddr(intranetText), To: s.inner, Count: 10, Size: 100, Interval: 2 * time.Millisecond, Wait: time.Millisecond,
					})
				}
				asking <- err
			}()
			without := *w.cfg.Routers[0]
			without.StaticTunnels, without.Links = nil, nil
			for _, r := range []*config.Router{&without, w.cfg.Routers[0]} {
				if ok, err := w.plane.Reconfigure(&config.Config{Routers: []*config.Router{r}}, r); !ok || err != nil {
					t.Fatalf("%t, %v", ok, err)
				}
			}
			linked := func() {
				t.Helper()
				if list, err := w.plane.Links(); err != nil || len(list) != 1 || list[0].Status != controlplane.LinkUp {
					t.Errorf("%+v, %v", list, err)
				}
			}
			linked()
			w.check(w.plane.Close())
			var err error
			w.plane, err = w.kernel.Open(w.cfg, w.cfg.Routers[0], w.events)
			w.check(err)
			linked()
			s.connect(7)
			s.carry(7)
			s.both(inner)
			s.disconnect(7)
			w.gone("hqlink")
			close(stop)
			w.check(<-asking)
			w.nothingInClear()
		})
	}
}

// TestStaticTenants: two virtual routers with the same inside addresses have a tunnel each to a network with the same addresses, and each reaches
// its own; hosts behind a tunnel are probed from there.
func TestStaticTenants(t *testing.T) {
	one, two := headquarters(), headquarters()
	one.Terminating, two.Terminating, two.Name = "red", "blue", "two"
	w := staticWorld(t, "VRF to VRF", one, func() config.StaticTunnel { two.Interface.Name = "hq1"; return two }())
	lan := w.space("j")
	w.check(netspace.Join(
		netspace.End{NetNS: w.fd(w.transport.space), Device: "in2", Master: w.transport.vrf, Address: netip.MustParsePrefix("10.1.0.1/24")},
		netspace.End{NetNS: w.fd(lan), Device: "in", Address: netip.MustParsePrefix(intranetText + "/24")}))
	w.check(netspace.DefaultRoute(w.fd(lan), netip.MustParseAddr("10.1.0.1")))
	offices := []*office{w.office(w.peers[0], one), w.office(w.peers[1], two)}
	for i, s := range offices {
		s.address("10.8.0.5")
		s.send(ike.ConnID(7 + i))
		s.connect(ike.ConnID(7 + i))
		s.carry(ike.ConnID(7 + i))
	}
	for i, space := range []string{lan, w.intranet} {
		n := 3 + i // packets
		if got := ping(t, space, intranetText, "10.8.0.5", n, 100); got != n {
			t.Errorf("tenant %d: %d of %d answered\n%s", i, got, n, w.diagnosis())
		}
		if c, ok := w.plane.Traffic(ike.ConnID(7 + i)); !ok || c.OutPackets != uint64(n) || c.InPackets != uint64(n) {
			t.Errorf("tenant %d: %+v", i, c)
		}
	}
	probe := func(tunnel, target string, port uint16) site.CheckResult {
		t.Helper()
		answers := make(chan site.CheckResult, 2)
		w.plane.Probe(site.Probe{Tunnel: tunnel, Seq: 5, Check: site.Check{
			Target: netip.MustParseAddr(target), Source: netip.MustParseAddr("10.1.0.1"), Port: port, Timeout: 500 * time.Millisecond,
		}}, func(r site.CheckResult) { answers <- r })
		select {
		case r := <-answers:
			if r.Tunnel != tunnel || r.Seq != 5 {
				t.Errorf("%+v", r)
			}
			return r
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
			return site.CheckResult{}
		}
	}
	// A port that nobody listens on is an answer of a host.
	for _, port := range []uint16{0, 9} {
		for _, tunnel := range []string{one.Name, two.Name} {
			if r := probe(tunnel, "10.8.0.5", port); !r.OK || (r.RTT > 0) != (port == 0) || (r.Text != "") != (port != 0) {
				t.Errorf("%s port %d: %+v", tunnel, port, r)
			}
			if r := probe(tunnel, "10.8.0.99", port); r.OK || r.Text == "" {
				t.Errorf("nobody, %s port %d: %+v", tunnel, port, r)
			}
		}
	}
	if r := probe("none", "10.8.0.5", 0); r.OK || r.Text == "" {
		t.Errorf("no such tunnel: %+v", r)
	}
	w.nothingInClear()
	w.gone("hq0", "hq1")
}

// TestStaticSubscriber: a subscriber reaches a host behind a static tunnel of its virtual router, and is reached, wherever the two routers are; the
// route is there only while the tunnel is carried, when that is what the configuration says.
func TestStaticSubscriber(t *testing.T) {
	for _, layout := range []string{"one router in a VRF", "VRF to another namespace"} {
		t.Run(layout, func(t *testing.T) {
			tunnel := headquarters()
			tunnel.Networks = []config.StaticNetwork{{Name: "subscribers", Local: lanThere, Remote: moreNet}}
			tunnel.Interface.Routes, tunnel.Interface.Withdraw = []config.StaticNetworkRoute{{Network: moreNet}}, true
			w := staticWorld(t, layout, tunnel)
			s, subscriber := w.office(w.peers[0], tunnel), w.peers[1]
			run(t, "ip", "-n", s.space, "addr", "del", s.inner.String()+"/32", "dev", "lo")
			s.address("10.8.0.5")
			s.send(7)
			routed := func(want bool) {
				t.Helper()
				if routes := run(t, "ip", "-n", w.end.space, "route", "show", "table", "all"); strings.Contains(routes, moreNet.String()) != want {
					t.Errorf("routed %t:\n%s", want, routes)
				}
			}
			routed(false)
			s.connect(7)
			s.carry(7)
			routed(true)
			w.connect(subscriber)
			for _, way := range [][]string{{subscriber.space, subscriber.inner.String(), "10.8.0.5"}, {s.space, "10.8.0.5", subscriber.inner.String()}} {
				if n := ping(t, way[0], way[1], way[2], 3, 1000); n != 3 {
					t.Errorf("%s to %s: %d of 3 answered\n%s", way[1], way[2], n, w.diagnosis())
				}
			}
			if c := s.disconnect(7); c.InPackets != 6 || c.OutPackets != 6 {
				t.Errorf("%+v", c)
			}
			routed(false)
			w.disconnect(subscriber)
			w.nothingInClear()
			w.gone("hq0")
		})
	}
}

// TestStaticLeftovers: what a crashed predecessor has left of static tunnels goes when the router is opened, also of those that are not
// configured any more, and nothing else does.
func TestStaticLeftovers(t *testing.T) {
	w := staticWorld(t, "another namespace", headquarters())
	w.close()
	k, err := xfrm.Open(w.fd(w.transport.space))
	w.check(err)
	defer k.Close()
	old := headquarters()
	old.Networks = []config.StaticNetwork{{Local: lanHere, Remote: netip.MustParsePrefix("10.66.0.0/16")}}
	for _, c := range []carried{{idle: xfrm.Idle(99)}, {conn: 50, remote: netip.MustParseAddr("198.51.1.9")}} {
		for _, p := range staticPolicies(&old, uint32(78+c.conn), c) {
			w.check(k.AddPolicy(p))
		}
	}
	for _, name := range []string{"hq0", "hqold"} {
		tunnel := map[string]string{"hq0": "head quarters", "hqold": "old"}[name]
		batch(t, w.end.space, "link add "+name+" type xfrm if_id "+map[string]string{"hq0": "78", "hqold": "79"}[name]+"\n")
		run(t, "ip", "-n", w.end.space, "link", "set", name, "alias", "vrgate red to blue tunnel "+tunnel)
	}
	run(t, "ip", "-n", w.transport.space, "xfrm", "policy", "add", "dir", "in", "src", "10.66.0.0/16", "dst", "10.1.0.0/24", "if_id", "9",
		"tmpl", "src", "0.0.0.0", "dst", serverAddress, "proto", "esp", "mode", "tunnel")
	w.kernel = New()
	w.other, err = w.kernel.Open(w.cfg, w.cfg.Routers[1], nobody{})
	w.check(err)
	w.plane, err = w.kernel.Open(w.cfg, w.cfg.Routers[0], w.events)
	w.check(err)
	got := w.state()
	if strings.Contains(got, "hqold") || strings.Count(got, "10.66.0.0/16") != 1 || !strings.Contains(got, "hq0") {
		t.Errorf("left, or not there:\n%s", got)
	}
	if states, err := w.plane.StaticTunnels(); err != nil || states[0].Reason != "" {
		t.Errorf("%+v, %v", states, err)
	}
	run(t, "ip", "-n", w.transport.space, "xfrm", "policy", "flush")
	w.gone("hq0")
}

// TestStaticRefused: what belongs to no tunnel, or to one that is not there, is refused with a reason.
func TestStaticRefused(t *testing.T) {
	tunnel := headquarters()
	tunnel.Terminating = "nowhere"
	w := staticWorld(t, "one router", tunnel)
	s := w.office(w.peers[1], tunnel)
	sa := ike.SA{
		Conn: 7, Dir: ike.Inbound, SPI: 0x5000, Local: netip.AddrPortFrom(tunnel.LocalAddress, 500), Remote: netip.AddrPortFrom(s.outer, 500), Tunnel: true,
		Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, AuthBits: 96, EncKey: make([]byte, 16), AuthKey: make([]byte, 20), LocalNet: lanHere, RemoteNet: lanThere,
		Static: tunnel.Name, Child: "lan",
	}
	carry := controlplane.CarryTunnel{Tunnel: tunnel.Name, Conn: 7, Local: tunnel.LocalAddress, Remote: s.outer}
	reason := func(what string, err error, want string) {
		t.Helper()
		e, ok := err.(*controlplane.DataplaneError)
		if !ok || string(e.Reason) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	reason("SA without a router", w.plane.InstallSA(sa), "no-terminating-router")
	reason("carry without a router", w.plane.CarryTunnel(carry), "no-terminating-router")
	sa.Static, carry.Tunnel = "none", "none"
	reason("SA of no tunnel", w.plane.InstallSA(sa), "unknown-tunnel")
	reason("carry no tunnel", w.plane.CarryTunnel(carry), "unknown-tunnel")
	carry.Tunnel, carry.Conn = tunnel.Name, 0
	if err := w.plane.CarryTunnel(carry); err != nil {
		t.Errorf("that nothing carries: %v", err)
	}
	w.plane.CloseStatic(7)
	if c := w.plane.StaticTraffic(); len(c) != 1 || c[tunnel.Name] != (subscriber.Counters{}) {
		t.Errorf("%+v", c)
	}
	// Nothing of a tunnel that has no interface yet is about packets of the namespace.
	if s := w.state(); strings.Contains(s, lanThere.String()) {
		t.Errorf("without an interface:\n%s", s)
	}
	// Another program has a policy for the same packets: the tunnel waits for it to go.
	theirs := []string{"dir", "out", "src", lanHere.String(), "dst", lanThere.String()}
	run(t, "ip", append(append([]string{"-n", w.transport.space, "xfrm", "policy", "add"}, theirs...), "action", "block")...)
	red := *w.cfg.Routers[0]
	policy := headquarters()
	policy.Mode, policy.Interface, policy.Terminating = config.StaticPolicy, config.StaticInterface{}, red.Name
	red.StaticTunnels = []config.StaticTunnel{policy}
	if ok, err := w.plane.Reconfigure(&config.Config{Routers: []*config.Router{&red}}, &red); !ok || err != nil {
		t.Fatalf("%t, %v", ok, err)
	}
	until := func(want string) {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			states, err := w.plane.StaticTunnels()
			if err == nil && len(states) == 1 && states[0].Reason == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%+v, %v, want %q", states, err, want)
			}
		}
	}
	until("policy-taken")
	run(t, "ip", append([]string{"-n", w.transport.space, "xfrm", "policy", "delete"}, theirs...)...)
	until("")
	w.check(w.plane.Close())
}

// keepsNAT wants a NAT keepalive to be one byte from our port for NAT traversal (RFC 3948 section 2.3).
func keepsNAT(t *testing.T, w *world) {
	t.Helper()
	to := netip.AddrPortFrom(w.peers[1].outer, 4600)
	var c *net.UDPConn
	inSpace(t, w.peers[1].space, func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(to))
		return err
	})
	defer c.Close()
	from := netip.MustParseAddrPort(serverAddress + ":4500")
	w.check(w.plane.KeepNAT(ike.KeepNAT{Conn: 7, Local: from, Remote: to}))
	b := make([]byte, 100)
	w.check(c.SetReadDeadline(time.Now().Add(5 * time.Second)))
	if n, by, err := c.ReadFromUDPAddrPort(b); err != nil || n != 1 || b[0] != 0xff || by != from {
		t.Errorf("%x from %v, %v", b[:n], by, err)
	}
}

// TestStaticNames: names are looked up at the name servers of the virtual router, from within it, the next one when one does not answer.
func TestStaticNames(t *testing.T) {
	w := staticWorld(t, "one router in a VRF")
	keepsNAT(t, w)
	var at netip.Addr
	inSpace(t, w.intranet, func() error {
		// Answers every question with 198.51.100.7: the question, and behind it a resource record that points to its name.
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(intranetText), Port: 53})
		if err != nil {
			return err
		}
		at = netip.MustParseAddr(intranetText)
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 1500)
			for {
				n, from, err := c.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				end := 12
				for end < n && b[end] != 0 {
					end += int(b[end]) + 1
				}
				reply := append([]byte(nil), b[:end+5]...)
				copy(reply[2:], []byte{0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0})
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7)
				_, _ = c.WriteToUDPAddrPort(reply, from)
			}
		}()
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// Nobody is at the gateway's address on the port: refused at once.
	got, err := w.plane.Lookup(ctx, []netip.Addr{netip.MustParseAddr("10.1.0.1"), at}, "backup.example.net")
	if err != nil || len(got) != 1 || got[0] != netip.MustParseAddr("198.51.100.7") {
		t.Errorf("%v, %v", got, err)
	}
	w.check(w.plane.Close())
}
