//go:build kernel

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
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

// TestAccessPath: in every placement of the routers two subscribers, one of them with ESP in UDP, reach
// the intranet, the router and each other and are reached; nobody sends with an address that is not its own;
// what cannot be encrypted does not leave; the sums of the SAs are exact; and nothing is left (J1, J6).
func TestAccessPath(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout.name, func(t *testing.T) {
			w := newWorld(t, layout.transport, layout.end)
			a, b := w.peers[0], w.peers[1]
			w.connect(a)
			w.connect(b)
			inner, other := a.inner.String(), b.inner.String()
			for _, tc := range []struct{ space, from, to string }{
				{a.space, inner, intranetText}, {b.space, other, intranetText},
				{w.intranet, intranetText, inner}, {w.intranet, intranetText, other},
				{a.space, inner, other}, {b.space, other, inner},
				{a.space, inner, gatewayText}, {b.space, other, gatewayText},
			} {
				if n := ping(t, tc.space, tc.from, tc.to, 3, 1000); n != 3 {
					t.Errorf("%s to %s: %d of 3 answered\n%s", tc.from, tc.to, n, w.diagnosis())
				}
			}
			// 3 packets to each of intranet, other subscriber and router, 3 from the intranet, and as many
			// back, of which 3 are echoes of the other's.
			const packets = 15
			for _, p := range w.peers {
				got, ok := w.plane.SessionCounters(subscriber.ID(p.number))
				if want := (subscriber.Counters{InBytes: packets * 1000, OutBytes: packets * 1000, InPackets: packets, OutPackets: packets}); !ok || got != want {
					t.Errorf("peer %d: %+v, want %+v", p.number, got, want)
				}
			}

			// With somebody else's address, or nobody's.
			for _, spoofed := range []netip.Addr{b.inner, netip.MustParseAddr("10.9.0.77"), netip.MustParseAddr("10.1.0.77")} {
				w.check(netspace.AddAddress(w.fd(a.space), "lo", netip.PrefixFrom(spoofed, 32)))
				a.policies(t, spoofed)
				before := w.received(t)
				if n := pingFor(t, a.space, spoofed.String(), intranetText, 3, 100, briefly); n != 0 || w.received(t) != before {
					t.Errorf("%d packets from %v, which is not its own address, arrived", n, spoofed)
				}
				w.check(netspace.RemoveAddress(w.fd(a.space), "lo", netip.PrefixFrom(spoofed, 32)))
			}

			// Without SAs nothing arrives and nothing leaves.
			w.remove(b, b.out)
			if n := pingFor(t, w.intranet, intranetText, other, 3, 100, briefly); n != 0 {
				t.Errorf("%d packets answered without an SA", n)
			}
			w.remove(b, b.in)
			b.in, b.out = nil, nil
			if n := pingFor(t, w.intranet, intranetText, other, 3, 100, briefly); n != 0 {
				t.Errorf("%d packets answered without SAs", n)
			}
			w.sniffed.mu.Lock()
			if len(w.sniffed.clear) > 0 || w.sniffed.esp == 0 {
				t.Errorf("%d encrypted, in clear: %q", w.sniffed.esp, w.sniffed.clear)
			}
			w.sniffed.mu.Unlock()

			counted, _ := w.plane.Traffic(ike.ConnID(b.number))
			if counted.OutPackets != packets || counted.InPackets != packets {
				t.Errorf("after its SAs have gone: %+v", counted)
			}
			if c, err := w.plane.CloseAccess(subscriber.ID(b.number)); err != nil || c != counted {
				t.Errorf("closed with %+v, %v, want %+v", c, err, counted)
			}
			if _, ok := w.plane.Traffic(ike.ConnID(b.number)); ok {
				t.Error("a closed connection has traffic")
			}
			// The end takes what is left.
			w.check(w.plane.Close())
			if w.other != nil {
				w.check(w.other.Close())
			}
			after := w.state()
			for _, gone := range []string{"vrx", "10.9.0.", "esp", "vrgate"} {
				if strings.Contains(after, gone) {
					t.Errorf("%q is left:\n%s", gone, after)
				}
			}
		})
	}
}

// received is how many echo requests the intranet has received.
func (w *world) received(t testing.TB) (n uint64) {
	t.Helper()
	inSpace(t, w.intranet, func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		// Two lines: the counters' names, and their values.
		var names []string
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if f[0] != "Icmp:" {
				continue
			}
			if names != nil {
				n, err = strconv.ParseUint(f[slices.Index(names, "InEchos")], 10, 64)
				return err
			}
			names = f
		}
		return errors.New("no ICMP in snmp")
	})
	return n
}

// diagnosis is what tells why a packet was dropped.
func (w *world) diagnosis() string {
	var b strings.Builder
	for space := range w.spaces {
		out, _ := command("ip", "netns", "exec", space, "sh", "-c", "grep -v ' 0$' /proc/net/xfrm_stat | grep -v '\t0$'; nft list counters | grep -B2 -A2 'packets [1-9]'; ip -s link show type xfrm")
		fmt.Fprintf(&b, "%s:\n%s", space, out)
	}
	return b.String()
}

// TestAccessRekey: new SAs take over from old ones without losing a packet, and the sums go on (K8).
func TestAccessRekey(t *testing.T) {
	w := newWorld(t, layouts[0].transport, layouts[0].end)
	p := w.peers[0]
	w.connect(p)
	const packets = 200
	answered := w.pinging(p.space, p.inner.String(), intranetText, packets)
	for range 5 {
		time.Sleep(200 * time.Millisecond)
		w.rekey(p)
	}
	if n := answered(); n != packets {
		t.Errorf("%d of %d answered", n, packets)
	}
	want := subscriber.Counters{InBytes: packets * 100, OutBytes: packets * 100, InPackets: packets, OutPackets: packets}
	if c, err := w.plane.CloseAccess(1); err != nil || c != want {
		t.Errorf("%+v %v, want %+v", c, err, want)
	}
	w.check(w.plane.Close())
}

// TestAccessMoves: a peer that comes from another address goes on (K9), and what was
// counted before counts.
func TestAccessMoves(t *testing.T) {
	for _, tc := range []struct {
		name   string
		layout string
		peer   int
	}{
		{"ESP in UDP", "another namespace", 0}, {"ESP", "another namespace", 1},
		{"ESP in UDP from a VRF", "VRF to VRF in another namespace", 0}, {"ESP from a VRF", "VRF to VRF in another namespace", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := placed(t, tc.layout)
			p := w.peers[tc.peer]
			w.connect(p)
			if n := ping(t, p.space, p.inner.String(), intranetText, 3, 100); n != 3 {
				t.Fatalf("%d of 3 answered", n)
			}
			w.remove(p, p.out)
			p.out = nil
			old := netip.AddrPortFrom(p.outer, p.port)
			p.outer = netip.AddrFrom4([4]byte{198, 51, byte(p.number), 77})
			w.check(netspace.AddAddress(w.fd(p.space), "ext", netip.PrefixFrom(p.outer, 24)))
			p.policies(t, p.inner)
			in := *p.in
			w.check(p.kernel.Remove(ptr(w.mirror(p, in)).ID()))
			in.Remote = netip.AddrPortFrom(p.outer, p.port)
			p.in = &in
			w.check(p.kernel.Add(w.mirror(p, in)))
			w.check(w.plane.MoveConn(ike.MoveConn{Conn: ike.ConnID(p.number), Old: old, New: in.Remote, SAs: []ike.SA{in}}))
			w.rekey(p)
			if n := ping(t, p.space, p.inner.String(), intranetText, 3, 100); n != 3 {
				t.Errorf("at its new address: %d of 3 answered\n%s", n, w.diagnosis())
			}
			if n := ping(t, w.intranet, intranetText, p.inner.String(), 3, 100); n != 3 {
				t.Errorf("to its new address: %d of 3 answered\n%s", n, w.diagnosis())
			}
			if c, ok := w.plane.SessionCounters(subscriber.ID(p.number)); !ok || c.InPackets != 9 || c.OutPackets != 9 {
				t.Errorf("%+v, want 9 packets each way", c)
			}
			w.close()
		})
	}
}

// TestAccessMovesPort: a peer that its NAT gives another port is told of and goes on; not one packet is lost on
// the way, either way, and the sums go on (K9).
func TestAccessMovesPort(t *testing.T) {
	for _, layout := range []string{"one router", "VRF to VRF in another namespace"} {
		t.Run(layout, func(t *testing.T) {
			w := placed(t, layout)
			p := w.peers[0]
			w.connect(p)
			const packets, port = 300, 4501
			p.listen(t, port)
			ways := []func() int{
				w.pinging(p.space, p.inner.String(), intranetText, packets),
				w.pinging(w.intranet, intranetText, p.inner.String(), packets),
			}
			time.Sleep(500 * time.Millisecond)
			old := netip.AddrPortFrom(p.outer, p.port)
			was := w.mirror(p, *p.in)
			p.port = port
			in, out := *p.in, *p.out
			in.Remote, out.Remote = netip.AddrPortFrom(p.outer, port), netip.AddrPortFrom(p.outer, port)
			w.check(p.kernel.Update(was, w.mirror(p, in)))
			w.events.await(t, "the move", func() bool { return len(w.events.moved) > 0 && w.events.moved[0] == in.Remote })
			w.check(w.plane.MoveConn(ike.MoveConn{Conn: ike.ConnID(p.number), Old: old, New: in.Remote, SAs: []ike.SA{in, out}}))
			p.in, p.out = &in, &out
			for i, answered := range ways {
				if n := answered(); n != packets {
					t.Errorf("way %d: %d of %d answered\n%s", i, n, packets, w.diagnosis())
				}
			}
			// The old port is nobody's any more.
			p.closed()
			w.rekey(p)
			if n := ping(t, w.intranet, intranetText, p.inner.String(), 3, 100); n != 3 {
				t.Errorf("after the next rekey %d of 3 answered\n%s", n, w.diagnosis())
			}
			want := subscriber.Counters{InBytes: 2*packets*100 + 300, OutBytes: 2*packets*100 + 300, InPackets: 2*packets + 3, OutPackets: 2*packets + 3}
			if c, ok := w.plane.SessionCounters(subscriber.ID(p.number)); !ok || c != want {
				t.Errorf("%+v, want %+v", c, want)
			}
			w.close()
		})
	}
}

// TestAccessWideSelector: a peer that may name a network around its address as its own side, which some clients
// do, gets no more than its address by it, wherever the routers are (J14).
func TestAccessWideSelector(t *testing.T) {
	for _, layout := range []string{"one router", "another namespace", "VRF to another namespace"} {
		t.Run(layout, func(t *testing.T) {
			w := placed(t, layout)
			a, b := w.peers[0], w.peers[1]
			a.named = netip.MustParsePrefix("10.9.0.0/24")
			w.connect(a)
			for _, way := range [][]string{{a.space, a.inner.String(), intranetText}, {w.intranet, intranetText, a.inner.String()}} {
				if n := ping(t, way[0], way[1], way[2], 3, 100); n != 3 {
					t.Errorf("%s to %s: %d of 3 answered\n%s", way[1], way[2], n, w.diagnosis())
				}
			}
			w.check(netspace.AddAddress(w.fd(a.space), "lo", netip.PrefixFrom(b.inner, 32)))
			a.policies(t, b.inner)
			before := w.received(t)
			if n := ping(t, a.space, b.inner.String(), intranetText, 3, 100); n != 0 || w.received(t) != before {
				t.Errorf("%d packets from %v, which is not its own address, arrived", n, b.inner)
			}
			wrong := *a.in
			wrong.SPI, wrong.RemoteNet = 0x7000, netip.MustParsePrefix("10.9.1.0/24")
			if err := w.plane.InstallSA(wrong); err == nil {
				t.Error("an SA for a network without its address")
			}
			w.close()
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestAccessLost: when somebody removes the interface or sets it down, each of its subscribers is told of
// once (J9, J16), and can come again at once.
func TestAccessLost(t *testing.T) {
	for _, how := range []string{"del", "down"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, layouts[5].transport, layouts[5].end)
			w.connect(w.peers[0])
			w.connect(w.peers[1])
			name, _, _ := strings.Cut(run(t, "ip", "-n", w.end.space, "-o", "-br", "link", "show", "type", "xfrm"), "@")
			args := map[string][]string{"del": {"link", "del", name}, "down": {"link", "set", name, "down"}}[how]
			// What happens to other links is not its business.
			batch(t, w.end.space, "link add other type dummy\nlink set other up\nlink set other down\nlink del other\n")
			run(t, "ip", append([]string{"-n", w.end.space}, args...)...)
			w.events.await(t, "the loss of two subscribers", func() bool { return len(w.events.lost) == 2 })
			if err := w.plane.InstallSA(*w.peers[0].in); err == nil {
				t.Error("the same SA twice")
			}
			for _, p := range w.peers {
				w.remove(p, p.in)
				w.remove(p, p.out)
				p.in, p.out = nil, nil
				if _, err := w.plane.CloseAccess(subscriber.ID(p.number)); err != nil {
					t.Error(err)
				}
			}
			w.connect(w.peers[0])
			if n := ping(t, w.peers[0].space, w.peers[0].inner.String(), intranetText, 3, 100); n != 3 {
				t.Errorf("after coming again %d of 3 answered\n%s", n, w.diagnosis())
			}
			for id, n := range w.events.lost {
				if n != 1 {
					t.Errorf("subscriber %d was lost %d times", id, n)
				}
			}
			// The terminating router ends first.
			w.check(w.other.Close())
			w.events.await(t, "the loss with the terminating router", func() bool { return w.events.lost[1] == 2 })
			w.check(w.plane.Close())
		})
	}
}

// TestAccessRefused: an address that is routed already, a router that does not run, an SA without access. Each
// failure leaves nothing.
func TestAccessRefused(t *testing.T) {
	w := newWorld(t, layouts[0].transport, layouts[0].end)
	w.open(w.peers[0])
	before := w.state()
	refused := func(what, reason string, change func(*subscriber.OpenAccess)) {
		t.Helper()
		f := w.openAccess(w.peers[1])
		change(&f)
		var e *controlplane.DataplaneError
		if _, _, err := w.plane.OpenAccess(f); !errors.As(err, &e) || string(e.Reason) != reason {
			t.Errorf("%s: %v, want %s", what, err, reason)
		}
		if after := w.state(); after != before {
			t.Errorf("%s left\n%s\nbefore\n%s", what, after, before)
		}
	}
	refused("a used address", "duplicate-address", func(f *subscriber.OpenAccess) { f.Address = w.peers[0].inner })
	refused("no router", "no-terminating-router", func(f *subscriber.OpenAccess) { f.Terminating = "none" })
	refused("an MTU that no link has", "kernel-failed", func(f *subscriber.OpenAccess) { f.MTU = 1 << 20 })
	// A policy of somebody else in the way: the route goes again.
	link := run(t, "ip", "-n", w.transport.space, "-d", "link", "show", "type", "xfrm")
	_, id, _ := strings.Cut(link, "if_id ")
	run(t, "ip", "-n", w.transport.space, "xfrm", "policy", "add", "dir", "in", "src", w.peers[1].inner.String()+"/32", "dst", "0.0.0.0/0", "if_id", strings.Fields(id)[0])
	before = w.state()
	refused("a used policy", "duplicate-address", func(*subscriber.OpenAccess) {})
	p := w.peers[1]
	var e *controlplane.DataplaneError
	err := w.plane.InstallSA(ike.SA{
		Conn: 2, Dir: ike.Inbound, SPI: 0x5000, Local: netip.AddrPortFrom(netip.MustParseAddr(serverAddress), 500), Remote: netip.AddrPortFrom(p.outer, 500), Tunnel: true,
		Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, AuthBits: 96, EncKey: make([]byte, 16), AuthKey: make([]byte, 20),
	})
	if !errors.As(err, &e) || e.Reason != subscriber.ReasonInterface {
		t.Errorf("an SA without access: %v", err)
	}
	if after := w.state(); after != before {
		t.Errorf("left\n%s\nbefore\n%s", after, before)
	}
	w.check(w.plane.Close())
}

// TestAccessOthersGateway: who ends in a virtual router that has no address for subscribers, because AAA says so and the IP profile
// is for a third one, has the profile's address for its near end and reaches the intranet all the same.
func TestAccessOthersGateway(t *testing.T) {
	for _, layout := range []string{"one router", "VRF to VRF", "VRF to VRF in another namespace"} {
		t.Run(layout, func(t *testing.T) {
			w := placed(t, layout, func(r *config.Router) {
				for i := range r.IPProfiles {
					r.IPProfiles[i].Router = "third"
				}
			})
			p := w.peers[0]
			w.connect(p)
			for _, way := range [][]string{{p.space, p.inner.String(), intranetText}, {w.intranet, intranetText, p.inner.String()}} {
				if n := ping(t, way[0], way[1], way[2], 3, 100); n != 3 {
					t.Errorf("%s to %s: %d of 3 answered\n%s", way[1], way[2], n, w.diagnosis())
				}
			}
			w.close()
			if after := w.state(); strings.Contains(after, p.inner.String()) {
				t.Errorf("left:\n%s", after)
			}
		})
	}
}

// TestAccessExpires: an SA that reaches its hard limit counts to the last packet.
func TestAccessExpires(t *testing.T) {
	w := newWorld(t, layouts[0].transport, layouts[0].end)
	p := w.peers[0]
	w.connect(p)
	in := *p.in
	w.spi++
	in.SPI, in.HardLife = w.spi, time.Second
	w.check(w.plane.InstallSA(in))
	w.remove(p, p.in)
	w.check(p.kernel.Add(w.mirror(p, in)))
	if n := ping(t, p.space, p.inner.String(), intranetText, 3, 100); n != 3 {
		t.Fatalf("%d of 3 answered", n)
	}
	w.events.await(t, "the expiry", func() bool { return w.events.expired[in.SPI] })
	w.check(w.plane.RemoveSA(ike.RemoveSA{Conn: in.Conn, Dir: in.Dir, SPI: in.SPI, Local: in.Local.Addr(), Remote: in.Remote.Addr()}))
	if c, err := w.plane.CloseAccess(1); err != nil || c.InPackets != 3 || c.InBytes != 300 {
		t.Errorf("%+v, %v", c, err)
	}
	w.check(w.plane.Close())
}

// TestAccessLeftovers: what a crashed predecessor has left in either namespace goes when its routers are
// opened again, and nothing else does.
func TestAccessLeftovers(t *testing.T) {
	w := newWorld(t, layouts[5].transport, layouts[5].end)
	w.connect(w.peers[0])
	clean := w.state()
	name, _, _ := strings.Cut(run(t, "ip", "-n", w.end.space, "-o", "-br", "link", "show", "type", "xfrm"), "@")
	link := run(t, "ip", "-n", w.end.space, "-d", "link", "show", name)
	_, alias, _ := strings.Cut(link, "alias ")
	alias, _, _ = strings.Cut(alias, "\n") // it says whose the interface is, and its policy
	if !strings.HasPrefix(alias, "vrgate red to blue validate=") {
		t.Fatalf("no alias: %s", link)
	}
	alias = strings.TrimSpace(alias)
	w.check(w.plane.Close())
	w.check(w.other.Close())
	stranger := "link add vrx-other type xfrm if_id 77\nlink set vrx-other alias vrgate\n"
	for _, space := range []string{w.transport.space, w.end.space} {
		batch(t, space, stranger+"link add "+name+" type xfrm if_id 78\n")
		run(t, "ip", "-n", space, "link", "set", name, "alias", alias)
		run(t, "ip", "-n", space, "xfrm", "policy", "add", "dir", "in", "src", "10.0.0.1/32", "dst", "10.0.0.2/32", "if_id", "77")
	}
	run(t, "ip", "-n", w.transport.space, "xfrm", "policy", "add", "dir", "out", "src", "0.0.0.0/0", "dst", "10.9.0.50/32", "if_id", "78",
		"tmpl", "src", serverAddress, "dst", "198.51.1.9", "proto", "esp", "mode", "tunnel", "reqid", fmt.Sprint(xfrm.Tag(50)))
	var err error
	w.kernel = New()
	if w.other, err = w.kernel.Open(w.cfg, w.cfg.Routers[1], nobody{}); err != nil {
		t.Fatal(err)
	}
	if w.plane, err = w.kernel.Open(w.cfg, w.cfg.Routers[0], w.events); err != nil {
		t.Fatal(err)
	}
	got := w.state()
	if strings.Contains(got, name) || strings.Contains(got, "10.9.0.50") {
		t.Errorf("left:\n%s\nclean is\n%s", got, clean)
	}
	if strings.Count(got, "vrx-other") < 2 || strings.Count(got, "> 10.0.0.2/32") != 2 {
		t.Errorf("somebody else's things went:\n%s", got)
	}
	w.check(w.plane.Close())
	w.check(w.other.Close())
}
