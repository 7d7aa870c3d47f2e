//go:build kernel

package kernel

import (
	"crypto/rand"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
	"vrgate/test/netspace"
	"vrgate/xfrm"
)

// office is the other end of a static tunnel: a peer whose network is 10.9.0.0/24, and its connections.
type office struct {
	*peer
	w      *world
	tunnel config.StaticTunnel
	pairs  map[ike.ConnID][]sitePair
}

// sitePair are the SAs of one pair of networks, as the server sees them.
type sitePair struct{ in, out ike.SA }

var (
	lanHere  = netip.MustParsePrefix("10.1.0.0/24")
	lanThere = netip.MustParsePrefix("10.9.0.0/24")
	moreNet  = netip.MustParsePrefix("10.8.0.0/24")
)

// headquarters is a tunnel of mode route to both peers, with two pairs of networks.
func headquarters() config.StaticTunnel {
	return config.StaticTunnel{
		Name: "head quarters", Enabled: true, Mode: config.StaticRoute, LocalAddress: netip.MustParseAddr(serverAddress), Start: config.StartOnDemand,
		Peers:    []config.StaticPeer{{Address: netip.MustParseAddr("198.51.1.2")}, {Address: netip.MustParseAddr("198.51.2.2")}},
		Networks: []config.StaticNetwork{{Name: "lan", Local: lanHere, Remote: lanThere}, {Name: "more", Local: lanHere, Remote: moreNet}},
		Interface: config.StaticInterface{
			Name: "hq0", MTU: 1400, ClampMSS: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.255.1/32")},
			Routes: []config.StaticNetworkRoute{{Network: moreNet}, {Network: lanThere}},
		},
	}
}

// staticWorld is a world with static tunnels of its transport router.
func staticWorld(t testing.TB, layout string, tunnels ...config.StaticTunnel) *world {
	t.Helper()
	return placed(t, layout, func(r *config.Router) {
		if r.Name != "red" {
			return
		}
		for _, x := range tunnels {
			if x.Terminating == "" {
				x.Terminating = r.IPProfiles[0].Router
			}
			r.StaticTunnels = append(r.StaticTunnels, x)
		}
	})
}

// office makes a peer the other end of a tunnel. What it sends goes by the connection that carry names; it takes what any SA brings.
func (w *world) office(p *peer, tunnel config.StaticTunnel) *office {
	w.t.Helper()
	run(w.t, "ip", "-n", p.space, "xfrm", "policy", "flush")
	return &office{peer: p, w: w, tunnel: tunnel, pairs: map[ike.ConnID][]sitePair{}}
}

// carry has both ends send by a connection; the first of them is the server's.
func (s *office) carry(conn ike.ConnID) {
	s.w.t.Helper()
	s.w.check(s.w.plane.CarryTunnel(controlplane.CarryTunnel{
		Tunnel: s.tunnel.Name, Conn: conn, Local: s.tunnel.LocalAddress, Remote: s.outer,
	}))
	s.send(conn)
}

// send has the other end send by a connection; 0: what it sent by last, which may have gone.
func (s *office) send(conn ike.ConnID) {
	s.w.t.Helper()
	if conn == 0 {
		return
	}
	for _, p := range staticPolicies(&s.tunnel, 0, carried{conn: conn, idle: xfrm.Idle(1), remote: s.outer}) {
		// Seen from there.
		switch p.Dir {
		case xfrm.PolicyOut:
			p.Dir, p.Reqid = xfrm.PolicyIn, 0
		case xfrm.PolicyIn:
			p.Dir, p.Reqid = xfrm.PolicyOut, xfrm.Tag(uint32(conn))
		default:
			continue
		}
		p.Local, p.Remote = s.outer, netip.Addr{}
		if p.Dir == xfrm.PolicyOut {
			p.Remote = s.tunnel.LocalAddress
		}
		s.w.check(s.kernel.UpdatePolicy(p))
	}
}

// connect makes the SAs of a connection at both ends, in IKE's order, and removes older ones of it.
func (s *office) connect(conn ike.ConnID) {
	s.w.t.Helper()
	old := s.pairs[conn]
	s.pairs[conn] = nil
	for _, n := range s.tunnel.Networks {
		var x sitePair
		for _, sa := range []*ike.SA{&x.in, &x.out} {
			s.w.spi++
			key := func(n int) []byte { b := make([]byte, n); _, _ = rand.Read(b); return b }
			*sa = ike.SA{
				Conn: conn, Dir: ike.Outbound, SPI: s.w.spi, Local: netip.AddrPortFrom(s.tunnel.LocalAddress, s.port), Remote: netip.AddrPortFrom(s.outer, s.port),
				Encap: s.encap, Tunnel: s.tunnel.Mode != config.StaticTransport, Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, AuthBits: 96, EncKey: key(16), AuthKey: key(20),
				HardLife: time.Hour, LocalNet: n.Local, RemoteNet: n.Remote, Protocol: n.Protocol, LocalPort: n.LocalPort, RemotePort: n.RemotePort,
				Static: s.tunnel.Name, Child: n.Name,
			}
		}
		x.in.Dir = ike.Inbound
		s.w.check(s.w.plane.InstallSA(x.in))
		s.w.check(s.kernel.Add(s.mirror(x.out)))
		s.w.check(s.kernel.Add(s.mirror(x.in)))
		s.w.check(s.w.plane.InstallSA(x.out))
		s.pairs[conn] = append(s.pairs[conn], x)
	}
	if old != nil {
		time.Sleep(50 * time.Millisecond) // what is under way
	}
	s.remove(old)
}

// mirror is this end's part of an SA, with its selector: several may fit a policy.
func (s *office) mirror(f ike.SA) xfrm.SA {
	s.w.t.Helper()
	ours, err := xfrmSA(f)
	s.w.check(err)
	sa := s.w.mirror(s.peer, f)
	sa.Selector = ours.Selector
	return sa
}

func (s *office) remove(pairs []sitePair) {
	s.w.t.Helper()
	for _, x := range pairs {
		s.w.remove(s.peer, &x.out)
		s.w.remove(s.peer, &x.in)
	}
}

// disconnect ends a connection as IKE does and returns what its tunnel has carried.
func (s *office) disconnect(conn ike.ConnID) subscriber.Counters {
	s.w.t.Helper()
	before := s.w.plane.StaticTraffic()[s.tunnel.Name]
	s.remove(s.pairs[conn])
	delete(s.pairs, conn)
	s.w.plane.CloseStatic(conn)
	after := s.w.plane.StaticTraffic()[s.tunnel.Name]
	if after.InPackets < before.InPackets || after.OutPackets < before.OutPackets {
		s.w.t.Errorf("the tunnel has carried %+v, and after its connection's end %+v", before, after)
	}
	return after
}

// address gives the other end one more address inside.
func (s *office) address(a string) {
	s.w.t.Helper()
	s.w.check(netspace.AddAddress(s.w.fd(s.space), "lo", netip.MustParsePrefix(a+"/32")))
}

// both wants pings to be answered in both directions.
func (s *office) both(inner string) {
	s.w.t.Helper()
	for _, way := range [][]string{{s.space, inner, intranetText}, {s.w.intranet, intranetText, inner}} {
		if n := ping(s.w.t, way[0], way[1], way[2], 3, 1000); n != 3 {
			s.w.t.Errorf("%s to %s: %d of 3 answered\n%s", way[1], way[2], n, s.w.diagnosis())
		}
	}
}

// unanswered wants pings to be lost in both directions, and nothing to arrive.
func (s *office) unanswered(inner string) {
	s.w.t.Helper()
	before := s.w.received(s.w.t)
	for _, way := range [][]string{{s.space, inner, intranetText}, {s.w.intranet, intranetText, inner}} {
		if n := pingFor(s.w.t, way[0], way[1], way[2], 3, 100, briefly); n != 0 {
			s.w.t.Errorf("%s to %s: %d of 3 answered", way[1], way[2], n)
		}
	}
	if after := s.w.received(s.w.t); after != before {
		s.w.t.Errorf("%d packets from %s arrived", after-before, inner)
	}
}

// wrongSource sends with an address of no network of the tunnel by an SA of it.
func (s *office) wrongSource(a string) {
	s.w.t.Helper()
	const conn = 9
	s.address(a)
	s.connect(conn)
	sa := s.mirror(s.pairs[conn][0].in)
	s.w.check(s.kernel.Remove(sa.ID()))
	sa.Selector = xfrm.Selector{} // it lets everything pass at this end
	s.w.check(s.kernel.Add(sa))
	s.w.check(s.kernel.UpdatePolicy(xfrm.Policy{
		Dir: xfrm.PolicyOut, Src: netip.MustParsePrefix(a + "/32"), Dst: lanHere, Mode: xfrm.Tunnel, Reqid: xfrm.Tag(conn), Local: s.outer, Remote: s.tunnel.LocalAddress,
	}))
	before := s.w.received(s.w.t)
	if n := pingFor(s.w.t, s.space, a, intranetText, 3, 100, briefly); n != 0 || s.w.received(s.w.t) != before {
		s.w.t.Errorf("%d packets from %s were answered, or some arrived", n, a)
	}
	c, _ := s.w.plane.Traffic(conn)
	if s.disconnect(conn); c.InPackets != 3 {
		s.w.t.Errorf("%+v: the packets did not come by the SA", c)
	}
}

// nothingInClear says what has left by the links to the peers.
func (w *world) nothingInClear() {
	w.t.Helper()
	w.sniffed.mu.Lock()
	defer w.sniffed.mu.Unlock()
	if len(w.sniffed.clear) > 0 {
		w.t.Errorf("in clear: %q", w.sniffed.clear)
	}
}

// asked is how often a tunnel was wanted.
func (e *events) asked(tunnel string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.wanted {
		if s == tunnel {
			n++
		}
	}
	return n
}

// gone closes the routers and looks at what they have left.
func (w *world) gone(names ...string) {
	w.t.Helper()
	w.close()
	var after strings.Builder
	for line := range strings.Lines(w.state()) {
		if !strings.Contains(line, "esp spi 0x0 ") { // the kernel's own, which ends by itself
			after.WriteString(line)
		}
	}
	for _, s := range append(names, "esp", "vrgate", "xfrm") {
		if strings.Contains(after.String(), s) {
			w.t.Errorf("%q is left:\n%s", s, after.String())
		}
	}
}

// TestStaticRoute: in placements of the two routers a tunnel of two pairs of networks carries packets both ways, and only those of its networks.
// While nothing carries it no packet leaves, and it is said once that one wants to.
func TestStaticRoute(t *testing.T) {
	for _, layout := range []string{"one router", "main table to a VRF", "another namespace", "VRF to VRF in another namespace"} {
		t.Run(layout, func(t *testing.T) {
			w := staticWorld(t, layout, headquarters())
			s := w.office(w.peers[0], headquarters())
			s.address("10.8.0.5")
			s.send(7)
			states, err := w.plane.StaticTunnels()
			if err != nil || len(states) != 1 || states[0].Reason != "" || states[0].Index == 0 || states[0].Conn != 0 {
				t.Fatalf("%+v, %v", states, err)
			}
			inner := s.inner.String()
			s.unanswered(inner)
			w.events.await(t, "that the tunnel is wanted", func() bool { return len(w.events.wanted) > 0 })
			s.connect(7)
			s.carry(7)
			s.both(inner)
			s.both("10.8.0.5")
			s.wrongSource("10.7.0.5")
			s.connect(7)
			s.both(inner)
			if states, err := w.plane.StaticTunnels(); err != nil || states[0].Conn != 7 || states[0].Since.IsZero() || states[0].Traffic.InPackets < 18 {
				t.Errorf("%+v, %v", states, err)
			}
			s.carry(0)
			// Those from the wrong source included.
			if c, want := s.disconnect(7), (subscriber.Counters{InPackets: 21, OutPackets: 18, InBytes: 18300, OutBytes: 18000}); c != want {
				t.Errorf("%+v, want %+v", c, want)
			}
			s.unanswered(inner)
			w.events.await(t, "that the tunnel is wanted again", func() bool { return len(w.events.wanted) > 1 })
			if n := w.events.asked("head quarters"); n != 2 {
				t.Errorf("wanted %d times", n)
			}
			w.nothingInClear()
			w.gone("hq0")
		})
	}
}

// TestStaticCarry: the connection that carries is changed under traffic, also for one with the same addresses, and no packet is lost; so it
// is when the configuration changes around it. The peer moves.
func TestStaticCarry(t *testing.T) {
	for _, layout := range []string{"one router in a VRF", "VRF to VRF in another namespace"} {
		t.Run(layout, func(t *testing.T) {
			w := staticWorld(t, layout, headquarters())
			s := w.office(w.peers[0], headquarters())
			s.connect(7)
			s.carry(7)
			const packets = 120
			ways := []func() int{
				w.pinging(s.space, s.inner.String(), intranetText, packets), w.pinging(w.intranet, intranetText, s.inner.String(), packets),
			}
			time.Sleep(300 * time.Millisecond)
			s.connect(8)
			s.carry(8)
			time.Sleep(100 * time.Millisecond)
			s.disconnect(7)
			red := *w.cfg.Routers[0]
			other := headquarters()
			other.Name, other.Interface.Name, other.Interface.Routes, other.Interface.Addresses = "other", "oth0", nil, nil
			red.StaticTunnels = slices.Clone(red.StaticTunnels)
			here := &red.StaticTunnels[0]
			here.Interface.MTU, here.FallBack = 1300, time.Minute
			here.Interface.Addresses = append(slices.Clone(here.Interface.Addresses), netip.MustParsePrefix("10.1.254.1/32"))
			here.Networks = append(slices.Clone(here.Networks), config.StaticNetwork{Name: "third", Local: lanHere, Remote: netip.MustParsePrefix("10.7.0.0/24")})
			other.Terminating = here.Terminating
			red.StaticTunnels = append(red.StaticTunnels, other)
			cfg := *w.cfg
			cfg.Routers = append([]*config.Router{&red}, w.cfg.Routers[1:]...)
			if ok, err := w.plane.Reconfigure(&cfg, &red); !ok || err != nil {
				t.Fatalf("%t, %v", ok, err)
			}
			if links := run(t, "ip", "-n", w.end.space, "link"); !strings.Contains(links, "oth0") || !strings.Contains(links, "mtu 1300") {
				t.Errorf("reconfigured:\n%s", links)
			}
			if ok, err := w.plane.Reconfigure(w.cfg, w.cfg.Routers[0]); !ok || err != nil {
				t.Fatalf("%t, %v", ok, err)
			}
			for i, answered := range ways {
				if n := answered(); n != packets {
					t.Errorf("way %d: %d of %d answered\n%s", i, n, packets, w.diagnosis())
				}
			}
			if links := run(t, "ip", "-n", w.end.space, "link"); strings.Contains(links, "oth0") || !strings.Contains(links, "mtu 1400") {
				t.Errorf("configured back:\n%s", links)
			}
			// Another address of the peer.
			was := netip.AddrPortFrom(s.outer, s.port)
			pairs := slices.Clone(s.pairs[8])
			for _, x := range pairs {
				for _, sa := range []ike.SA{x.in, x.out} {
					m := s.mirror(sa)
					w.check(s.kernel.Remove(m.ID()))
				}
			}
			s.outer = netip.MustParseAddr("198.51.1.77")
			w.check(netspace.AddAddress(w.fd(s.space), "ext", netip.PrefixFrom(s.outer, 24)))
			moved := ike.MoveConn{Conn: 8, Old: was, New: netip.AddrPortFrom(s.outer, s.port)}
			for i := range pairs {
				for _, sa := range []*ike.SA{&pairs[i].in, &pairs[i].out} {
					sa.Remote = moved.New
					moved.SAs = append(moved.SAs, *sa)
					w.check(s.kernel.Add(s.mirror(*sa)))
				}
			}
			s.pairs[8] = pairs
			w.check(w.plane.MoveConn(moved))
			s.send(8)
			// The replay window of the server's inbound SA goes on; the peer's sequence numbers have begun anew.
			s.connect(8)
			s.both(s.inner.String())
			w.nothingInClear()
			w.gone("hq0")
		})
	}
}

// TestStaticInterface: an interface that somebody removes, renames or sets down comes back and the connection goes on; one whose name is taken is
// said to be missing, and comes when it can; a tunnel into a router that does not run waits for it.
func TestStaticInterface(t *testing.T) {
	w := staticWorld(t, "another namespace", headquarters())
	s := w.office(w.peers[0], headquarters())
	s.connect(7)
	s.carry(7)
	s.both(s.inner.String())
	back := func(what string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if n := pingFor(t, w.intranet, intranetText, s.inner.String(), 1, 100, briefly); n == 1 {
				return
			}
			if time.Now().After(end) {
				states, err := w.plane.StaticTunnels()
				t.Fatalf("%s: %+v, %v\n%s", what, states, err, w.diagnosis())
			}
		}
	}
	for _, what := range []string{"link del hq0", "link set hq0 down"} {
		batch(t, w.end.space, what+"\n")
		back(what)
	}
	states := func() controlplane.TunnelState {
		t.Helper()
		list, err := w.plane.StaticTunnels()
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0]
	}
	until := func(what, reason string) {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); states().Reason != reason; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, states())
			}
		}
	}
	number := regexp.MustCompile("if_id (0x[0-9a-f]+)").FindStringSubmatch(run(t, "ip", "-n", w.end.space, "-d", "link", "show", "hq0"))[1]
	w.check(w.other.Close())
	until("the terminating router has gone", "no-terminating-router")
	run(t, "ip", "-n", w.transport.space, "link", "add", "taken", "type", "xfrm", "if_id", number)
	run(t, "ip", "-n", w.end.space, "link", "add", "hq0", "type", "dummy")
	var err error
	w.other, err = w.kernel.Open(w.cfg, w.cfg.Routers[1], nobody{})
	w.check(err)
	until("somebody else's interface", "name-taken")
	run(t, "ip", "-n", w.end.space, "link", "del", "hq0")
	until("the name is free", "")
	// Its number is another one: the SAs, which cannot be tied to it, are over.
	w.events.await(t, "that the SAs are over", func() bool {
		return !slices.ContainsFunc(s.pairs[7], func(x sitePair) bool { return !w.events.expired[x.in.SPI] || !w.events.expired[x.out.SPI] })
	})
	run(t, "ip", "-n", w.transport.space, "link", "del", "taken")
	s.connect(7)
	back("the terminating router is there again")
	w.events.await(t, "that each reason is told", func() bool {
		return slices.Equal(w.events.reasons, []string{"no-terminating-router", "name-taken", ""})
	})
	// Somebody removes the policies.
	run(t, "ip", "-n", w.transport.space, "xfrm", "policy", "flush")
	w.check(w.plane.Repair())
	back("repair")
	w.nothingInClear()
	w.gone("hq0")
}
