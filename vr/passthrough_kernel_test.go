//go:build kernel

package vr

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestNATPassthrough: a NAT that lets plain ESP through has falsified the UDP checksum of what is inside. With the
// client's SA marked so it is not verified (B2r), in either direction; without, the kernel drops it and counts it (B4r).
func TestNATPassthrough(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		top := newTopology(t, vrf)
		top.nat.run(t, fmt.Sprintf("table ip passthrough {\nchain post {\ntype nat hook postrouting priority srcnat;\nmeta l4proto 50 ip saddr 10.0.0.0/8 snat to %s\n}\n}\n", nat), "nft", "-f", "-")
		s := &steered{topology: top, destination: netip.AddrPortFrom(server, PortL2TP)}
		s.r = s.open(s.spec())
		s.ike, s.natt, s.listener = s.listen(s.r)
		c := s.clients[0]
		s.installPolicies(c)
		router, own := xfrmHandle(t, top.router), xfrmHandle(t, c.space)
		pair := func(mark uint32) {
			t.Helper()
			for _, step := range []struct {
				h  *netlink.Handle
				sa *netlink.XfrmState
			}{
				{router, sa(nat, server, c.spi, c.number, 0, 0, mark)},
				{router, sa(server, nat, c.spi+1, c.number, 0, 0, 0)},
				{own, sa(c.addr, server, c.spi, 1, 0, 0, 0)},
				{own, sa(server, c.addr, c.spi+1, 1, 0, 0, 0)},
			} {
				if err := step.h.XfrmStateAdd(step.sa); err != nil {
					t.Fatal(err)
				}
			}
		}
		pair(Unchecked(c.number))
		s.conns[0] = c.space.udp(t, netip.AddrPortFrom(c.addr, PortL2TP))
		s.openTunnel(0, 30001) // the request, and a datagram each way
		for _, length := range []bool{true, false} {
			for _, sum := range []bool{true, false} {
				setChecksum(t, s.conns[0], sum)
				send(t, s.conns[0], s.destination, l2tp(30001, length, "data"))
				expect(t, s.tunnels[0], "data")
			}
		}
		// Repair, and a new configuration, leave it as it is.
		if err := s.r.Set(s.spec()); err != nil {
			t.Fatal(err)
		}
		s.roundTrip(0)
		if n := drops(t, s.r, dropChecksum); n != 0 {
			t.Errorf("%d datagrams dropped for their checksum", n)
		}
		if s.sniffer.encrypted() == 0 || s.sniffer.saw("up-")+s.sniffer.saw("down-") != 0 {
			t.Error("not all was encrypted, or nothing was seen")
		}

		// The same client without the profile's permission.
		old := c.spi
		c.spi += 0x10
		s.removeSAs(c, old)
		if err := own.XfrmStateDel(sa(c.addr, server, old, 0, 0, 0, 0)); err != nil {
			t.Fatal(err)
		}
		pair(c.number)
		setChecksum(t, s.conns[0], true)
		for _, tunnel := range []uint16{0, 30001} {
			send(t, s.conns[0], s.destination, l2tp(tunnel, true, "falsified"))
		}
		expectNothing(t, s.all()[:2]...)
		if n := drops(t, s.r, dropChecksum); n != 2 {
			t.Errorf("%d datagrams dropped for their checksum, want 2", n)
		}
		// It is only the checksum: one without arrives.
		setChecksum(t, s.conns[0], false)
		send(t, s.conns[0], s.destination, l2tp(30001, true, "none"))
		expect(t, s.tunnels[0], "none")
	})
}

// TestPlainTunnel6: L2TP over IPv6 uses the same steering, with right checksums, and is refused where IPsec is demanded.
func TestPlainTunnel6(t *testing.T) {
	served, peerAddr := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	eachMode(t, func(t *testing.T, vrf bool) {
		top := newTopology(t, vrf)
		top.router.batch(t, fmt.Sprintf("address add %s/64 dev ext nodad\n", served))
		top.nat.batch(t, fmt.Sprintf("address add %s/64 dev out nodad\n", peerAddr))
		spec := top.spec()
		spec.PlainL2TP, spec.Server = true, append(spec.Server, served)
		r := top.open(spec)
		listener, err := r.ListenL2TP(served)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		peer := top.nat.udp(t, netip.AddrPortFrom(peerAddr, 40000))
		to := netip.AddrPortFrom(served, PortL2TP)
		send(t, peer, to, l2tp(0, true, "SCCRQ"))
		d := expect(t, listener, "SCCRQ")
		if d.Mark != 0 || d.Remote != netip.AddrPortFrom(peerAddr, 40000) {
			t.Fatalf("got mark %#x from %s", d.Mark, d.Remote)
		}
		tunnel, err := r.TunnelSocket(served, 65535, d.Remote, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tunnel.Close()
		roundTrip := func() {
			t.Helper()
			for _, length := range []bool{true, false} {
				send(t, peer, to, l2tp(65535, length, "data"))
				expect(t, tunnel, "data")
			}
			if _, err := tunnel.Write(l2tp(1, true, "reply")); err != nil {
				t.Fatal(err)
			}
			if from := expectReply(t, peer, "reply"); from != to {
				t.Errorf("reply comes from %s, want %s", from, to)
			}
		}
		roundTrip()
		if err := r.Refuse(served, d.Remote, 0, l2tp(1, true, "StopCCN")); err != nil {
			t.Fatal(err)
		}
		if from := expectReply(t, peer, "StopCCN"); from != to {
			t.Errorf("refusal comes from %s, want %s", from, to)
		}
		send(t, peer, netip.AddrPortFrom(served, 65535), l2tp(65535, true, "direct"))
		expectNothing(t, listener, tunnel)
		if n := drops(t, r, dropDirect); n != 1 {
			t.Errorf("%d datagrams straight to the port counted, want 1", n)
		}
		if _, err := r.TunnelSocket(served, 65534, d.Remote, ClientMark|1); err == nil {
			t.Error("a tunnel over IPv6 with IPsec")
		}

		// Only IPsec from now on: the tunnel that is open stays, nobody else gets in.
		spec.PlainL2TP = false
		if err := r.Set(spec); err != nil {
			t.Fatal(err)
		}
		roundTrip()
		other := top.nat.udp(t, netip.AddrPortFrom(peerAddr, 40001))
		for _, id := range []uint16{0, 30000} {
			send(t, other, to, l2tp(id, true, "clear"))
		}
		expectNothing(t, listener, tunnel)
		if n := drops(t, r, dropClear); n != 2 {
			t.Errorf("%d datagrams in clear counted, want 2", n)
		}
		spec.Server = spec.Server[:1]
		if err := r.Set(spec); err != nil {
			t.Fatal(err)
		}
		if left := top.router.run(t, "", "nft", "list", "tables"); len(left) == 0 || strings.Contains(left, "table ip6 "+tableName(spec.Name)) {
			t.Errorf("tables without an address of IPv6:\n%s", left)
		}
	})
}

// TestDialled: a router that serves only IPsec reaches another LNS in clear, and nobody else reaches it in clear.
func TestDialled(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		top := newTopology(t, vrf)
		r := top.open(top.spec())
		_, _, listener := top.listen(r)
		lns := top.nat.udp(t, netip.AddrPortFrom(nat, PortL2TP))
		tunnel, err := r.TunnelSocket(server, 40000, netip.AddrPortFrom(nat, PortL2TP), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tunnel.Close()
		to := netip.AddrPortFrom(server, PortL2TP)
		if _, err := tunnel.Write(l2tp(0, true, "SCCRQ")); err != nil {
			t.Fatal(err)
		}
		if from := expectReply(t, lns, "SCCRQ"); from != to {
			t.Errorf("request comes from %s, want %s", from, to)
		}
		for _, length := range []bool{true, false} {
			send(t, lns, to, l2tp(40000, length, "SCCRP"))
			expect(t, tunnel, "SCCRP")
		}
		send(t, lns, to, l2tp(0, true, "request of its own"))
		other := top.nat.udp(t, netip.AddrPortFrom(nat, 40001))
		send(t, other, to, l2tp(40000, true, "injected"))
		expectNothing(t, listener, tunnel)
		if n := drops(t, r, dropClear); n != 2 {
			t.Errorf("%d datagrams in clear counted, want 2", n)
		}
	})
}
