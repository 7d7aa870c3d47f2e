//go:build kernel

package vr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// steered is a router with two connected clients behind one NAT, both with source port 1701 and a tunnel each.
type steered struct {
	*topology
	r           *Router
	ike, natt   *Socket
	listener    *Socket
	tunnels     [2]*Socket
	ids         [2]uint16
	conns       [2]*net.UDPConn // the clients' L2TP sockets, port 1701
	destination netip.AddrPort
}

// eachMode runs a test with the router as a namespace of its own and in a VRF.
func eachMode(t *testing.T, test func(t *testing.T, vrf bool)) {
	for _, vrf := range []bool{false, true} {
		t.Run(map[bool]string{false: "namespace", true: "vrf"}[vrf], func(t *testing.T) { test(t, vrf) })
	}
}

// newSteered builds everything and proves with one datagram each way that it works before the test begins.
func newSteered(t *testing.T, vrf bool, change func(*Spec)) *steered {
	t.Helper()
	s := &steered{topology: newTopology(t, vrf), destination: netip.AddrPortFrom(server, PortL2TP)}
	spec := s.spec()
	if change != nil {
		change(&spec)
	}
	s.r = s.open(spec)
	s.ike, s.natt, s.listener = s.listen(s.r)
	for i, c := range s.clients {
		s.connect(c)
		s.conns[i] = c.space.udp(t, netip.AddrPortFrom(c.addr, PortL2TP))
		s.openTunnel(i, uint16(30001+i))
	}
	return s
}

// openTunnel does what the daemon does with a client's SCCRQ: the listener's mark names the client, the
// tunnel's socket answers.
func (s *steered) openTunnel(i int, id uint16) {
	t, c := s.t, s.clients[i]
	t.Helper()
	request := fmt.Sprintf("SCCRQ-%d", i)
	send(t, s.conns[i], s.destination, l2tp(0, true, request))
	d := expect(t, s.listener, request)
	if d.Mark != c.number {
		t.Fatalf("SCCRQ of client %d carries mark %#x, want %#x", i, d.Mark, c.number)
	}
	if want := netip.AddrPortFrom(nat, PortL2TP); d.Remote != want {
		t.Fatalf("SCCRQ of client %d comes from %s, want %s", i, d.Remote, want)
	}
	tunnel, err := s.r.TunnelSocket(server, id, d.Remote, d.Mark)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tunnel.Close() })
	s.tunnels[i], s.ids[i] = tunnel, id
	s.roundTrip(i)
}

// roundTrip sends one datagram each way.
func (s *steered) roundTrip(i int) {
	t := s.t
	t.Helper()
	up, down := fmt.Sprintf("up-%d", i), fmt.Sprintf("down-%d", i)
	send(t, s.conns[i], s.destination, l2tp(s.ids[i], true, up))
	expect(t, s.tunnels[i], up)
	if _, err := s.tunnels[i].Write(l2tp(1, true, down)); err != nil {
		t.Fatal(err)
	}
	if from := expectReply(t, s.conns[i], down); from != s.destination {
		t.Fatalf("answer to client %d comes from %s, want %s", i, from, s.destination)
	}
}

// all are the sockets of the router at which nothing unwanted may arrive.
func (s *steered) all() []*Socket {
	return []*Socket{s.listener, s.tunnels[0], s.tunnels[1], s.ike, s.natt}
}

// TestSteering: two clients behind one NAT with equal ports and equal tunnel ids, all header forms, and a rekey.
func TestSteering(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		for i := range s.clients {
			for _, length := range []bool{true, false} {
				for _, sum := range []bool{true, false} {
					text := fmt.Sprintf("client %d, length %t, checksum %t", i, length, sum)
					setChecksum(t, s.conns[i], sum)
					send(t, s.conns[i], s.destination, l2tp(s.ids[i], length, text))
					expect(t, s.tunnels[i], text)
				}
			}
			big := string(make([]byte, 1300))
			send(t, s.conns[i], s.destination, l2tp(s.ids[i], true, big))
			expect(t, s.tunnels[i], big)
		}
		expectNothing(t, s.all()...)

		// Rekey: a new pair of the same reqid, then the old one goes.
		for i, c := range s.clients {
			old := c.spi
			c.spi += 0x10
			s.installSAs(c)
			s.roundTrip(i)
			s.removeSAs(c, old)
			h := xfrmHandle(t, c.space)
			if err := h.XfrmStateDel(sa(c.addr, server, old, 0, 0, 0, 0)); err != nil {
				t.Fatal(err)
			}
			s.roundTrip(i)
		}
		if n := s.sniffer.saw("up-") + s.sniffer.saw("down-"); n != 0 {
			t.Errorf("%d datagrams seen in clear", n)
		}
		if s.sniffer.encrypted() == 0 {
			t.Error("the sniffer saw no ESP, so it proves nothing")
		}
	})
}

// TestClearTextDropped: a datagram without IPsec reaches neither a tunnel nor, where IPsec is demanded, the listener.
func TestClearTextDropped(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		attacker := s.nat.udp(t, netip.AddrPortFrom(nat, PortL2TP)) // the address and port of the clients
		for _, id := range []uint16{0, 7, s.ids[0], s.ids[1]} {
			send(t, attacker, s.destination, l2tp(id, true, "clear"))
			send(t, attacker, s.destination, l2tp(id, false, "clear"))
		}
		expectNothing(t, s.all()...)
		if n := drops(t, s.r, dropClear); n != 8 {
			t.Errorf("%d of 8 datagrams counted as clear text", n)
		}

		// Where plain L2TP is offered, the listener sees it without a mark, and the tunnels' policies stand.
		spec := s.spec()
		spec.PlainL2TP = true
		if err := s.r.Set(spec); err != nil {
			t.Fatal(err)
		}
		send(t, attacker, s.destination, l2tp(s.ids[0], true, "clear"))
		send(t, attacker, s.destination, l2tp(s.ids[1], false, "clear"))
		expectNothing(t, s.all()...)
		send(t, attacker, s.destination, l2tp(0, true, "plain request"))
		if d := expect(t, s.listener, "plain request"); d.Mark != 0 {
			t.Errorf("clear text has mark %#x", d.Mark)
		}
		s.roundTrip(0)
	})
}

// TestForeignSADropped: an SA that is not a client's, such as a static tunnel's, delivers nothing.
func TestForeignSADropped(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		const spi, reqid = 0x7000, 77
		add := func(n *namespace, state *netlink.XfrmState) {
			if err := xfrmHandle(t, n).XfrmStateAdd(state); err != nil {
				t.Fatal(err)
			}
		}
		add(s.router, sa(nat, server, spi, reqid, 0, 0, 0))
		add(s.nat, sa(nat, server, spi, reqid, 0, 0, 0))
		before := s.sniffer.encrypted()
		attacker := s.nat.udp(t, netip.AddrPortFrom(nat, PortL2TP))
		raw, err := attacker.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) { err = setPolicy(int(fd), policyOut, reqid) })
		if err != nil {
			t.Fatal(err)
		}
		send(t, attacker, s.destination, l2tp(0, true, "foreign"))
		send(t, attacker, s.destination, l2tp(s.ids[0], true, "foreign"))
		send(t, attacker, s.destination, l2tp(s.ids[1], false, "foreign"))
		expectNothing(t, s.all()...)
		if n := s.sniffer.encrypted() - before; n != 3 {
			t.Fatalf("the attacker sent %d ESP packets, want 3", n)
		}
		if n := drops(t, s.r, dropForeign); n != 1 {
			t.Errorf("%d datagrams to the listener counted as foreign, want 1", n)
		}
		if n := mismatches(t, s.router); n != 2 {
			t.Errorf("%d datagrams to tunnels failed the tunnels' policies, want 2", n)
		}
	})
}

// TestForeignTunnelDropped: a client cannot speak for another by using its tunnel id.
func TestForeignTunnelDropped(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		send(t, s.conns[0], s.destination, l2tp(s.ids[1], true, "injected"))
		send(t, s.conns[0], s.destination, l2tp(s.ids[1], false, "injected"))
		send(t, s.conns[1], s.destination, l2tp(s.ids[0], true, "injected"))
		expectNothing(t, s.all()...)
		if n := mismatches(t, s.router); n != 3 {
			t.Errorf("%d of 3 datagrams failed the tunnels' policies", n)
		}
		s.roundTrip(0)
		s.roundTrip(1)
	})
}

// TestDirectPortDropped: a tunnel's port cannot be addressed, neither in clear nor through one's own SA.
func TestDirectPortDropped(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		attacker := s.nat.udp(t, netip.AddrPortFrom(nat, PortL2TP))
		n := uint64(0)
		for _, id := range s.ids {
			for _, c := range []*net.UDPConn{attacker, s.conns[0], s.conns[1]} {
				send(t, c, netip.AddrPortFrom(server, id), l2tp(id, true, "direct"))
				n++
			}
		}
		expectNothing(t, s.all()...)
		if got := drops(t, s.r, dropDirect); got != n {
			t.Errorf("%d of %d datagrams counted", got, n)
		}
	})
}

// TestOtherServicesClosed: a client's SA carries L2TP and does not open the server's other ports.
func TestOtherServicesClosed(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		other, err := s.r.ListenIKE(server, 5353, false) // any socket of the router
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		send(t, s.conns[0], netip.AddrPortFrom(server, 5353), []byte("query"))
		expectNothing(t, append(s.all(), other)...)
		if n := drops(t, s.r, dropSelector); n != 1 {
			t.Errorf("%d of 1 datagrams counted", n)
		}
		// In clear it is the host's own business.
		send(t, s.nat.udp(t, netip.AddrPortFrom(nat, 7000)), netip.AddrPortFrom(server, 5353), []byte("query"))
		expect(t, other, "query")
	})
}

// TestNothingInClearWithoutSA: when a client's SA is gone, its tunnel sends nothing, and others go on.
func TestNothingInClearWithoutSA(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		s.removeSAs(s.clients[0], s.clients[0].spi)
		for range 3 {
			if _, err := s.tunnels[0].Write(l2tp(1, true, "must not leave")); !errors.Is(err, ErrAgain) {
				t.Errorf("write without an SA: %v, want ErrAgain", err)
			}
		}
		if err := s.r.Refuse(server, s.tunnels[0].Remote(), s.clients[0].number, l2tp(1, true, "must not leave")); err == nil {
			t.Error("refusal without an SA succeeded")
		}
		if n := s.sniffer.saw("must not leave"); n != 0 {
			t.Errorf("%d datagrams left in clear", n)
		}
		s.roundTrip(1)
		s.clients[0].spi += 0x10
		s.installSAs(s.clients[0])
		s.roundTrip(0)
	})
}

// TestNothingInClearByQdisc: a queueing discipline on the VRF device makes the kernel forget the IPsec bundle.
func TestNothingInClearByQdisc(t *testing.T) {
	s := newSteered(t, true, nil)
	s.router.run(t, "", "tc", "qdisc", "add", "dev", "red", "root", "pfifo")
	for _, tunnel := range s.tunnels {
		for range 3 {
			_, _ = tunnel.Write(l2tp(1, true, "guarded")) // the kernel may or may not report the drop
		}
	}
	if n := s.sniffer.saw("guarded"); n != 0 {
		t.Errorf("%d datagrams left in clear", n)
	}
	if n := drops(t, s.r, dropLeak); n != 6 {
		t.Errorf("%d of 6 datagrams counted", n)
	}

	// Without the guard they do leave: so the test above tests it. Set repairs what has been broken.
	s.router.run(t, "", "nft", "flush", "chain", "ip", tableName("test"), "postrouting")
	if _, err := s.tunnels[0].Write(l2tp(1, true, "unguarded")); err != nil {
		t.Fatal(err)
	}
	if n := s.sniffer.saw("unguarded"); n == 0 {
		t.Error("without the guard nothing left in clear: the kernel has changed, or the test does not reach the case")
	}
	if err := s.r.Set(s.spec()); err != nil {
		t.Fatal(err)
	}
	_, _ = s.tunnels[0].Write(l2tp(1, true, "repaired"))
	if n := s.sniffer.saw("repaired"); n != 0 {
		t.Errorf("%d datagrams left in clear after the repair", n)
	}
	s.router.run(t, "", "tc", "qdisc", "del", "dev", "red", "root")
	s.roundTrip(0)
}

// TestNothingInClearByICMP: for a tunnel that has ended the kernel would answer with an ICMP error that quotes
// the decrypted datagram.
func TestNothingInClearByICMP(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		if err := s.tunnels[0].Close(); err != nil {
			t.Fatal(err)
		}
		send(t, s.conns[0], s.destination, l2tp(s.ids[0], true, "to nobody"))
		if n := s.sniffer.saw("to nobody"); n != 0 {
			t.Errorf("%d frames with decrypted contents", n)
		}
		if err := s.listener.Close(); err != nil {
			t.Fatal(err)
		}
		send(t, s.conns[0], s.destination, l2tp(0, true, "to nobody"))
		if n := s.sniffer.saw("to nobody"); n != 0 {
			t.Errorf("%d frames with decrypted contents", n)
		}
		if n := drops(t, s.r, dropUnproven); n != 2 {
			t.Errorf("%d of 2 ICMP errors counted", n)
		}
	})
}

// TestRefuse: a refusal goes to the right one of two clients with equal addresses and ports, encrypted, from port 1701.
func TestRefuse(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		s := newSteered(t, vrf, nil)
		for i, c := range s.clients {
			text := fmt.Sprintf("StopCCN-%d", i)
			if err := s.r.Refuse(server, netip.AddrPortFrom(nat, PortL2TP), c.number, l2tp(1, true, text)); err != nil {
				t.Fatal(err)
			}
			if from := expectReply(t, s.conns[i], text); from != s.destination {
				t.Errorf("refusal comes from %s, want %s", from, s.destination)
			}
		}
		if n := s.sniffer.saw("StopCCN"); n != 0 {
			t.Errorf("%d refusals in clear", n)
		}
	})
}

// TestPlainTunnel: L2TP without IPsec uses the same steering.
func TestPlainTunnel(t *testing.T) {
	eachMode(t, func(t *testing.T, vrf bool) {
		top := newTopology(t, vrf)
		spec := top.spec()
		spec.PlainL2TP = true
		r := top.open(spec)
		_, _, listener := top.listen(r)
		peer := top.nat.udp(t, netip.AddrPortFrom(nat, 40000))
		to := netip.AddrPortFrom(server, PortL2TP)
		send(t, peer, to, l2tp(0, true, "SCCRQ"))
		d := expect(t, listener, "SCCRQ")
		if d.Mark != 0 || d.Remote.Port() != 40000 {
			t.Fatalf("got mark %#x from %s", d.Mark, d.Remote)
		}
		tunnel, err := r.TunnelSocket(server, 65535, d.Remote, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tunnel.Close()
		for _, sum := range []bool{true, false} {
			setChecksum(t, peer, sum)
			send(t, peer, to, l2tp(65535, true, "data"))
			expect(t, tunnel, "data")
			send(t, peer, to, l2tp(65535, false, "data"))
			expect(t, tunnel, "data")
		}
		if _, err := tunnel.Write(l2tp(1, true, "reply")); err != nil {
			t.Fatal(err)
		}
		if from := expectReply(t, peer, "reply"); from != to {
			t.Errorf("reply comes from %s, want %s", from, to)
		}
		if err := r.Refuse(server, d.Remote, 0, l2tp(1, true, "StopCCN")); err != nil {
			t.Fatal(err)
		}
		if from := expectReply(t, peer, "StopCCN"); from != to {
			t.Errorf("refusal comes from %s, want %s", from, to)
		}
		// Another source port with this tunnel's id does not reach it: the socket is connected.
		other := top.nat.udp(t, netip.AddrPortFrom(nat, 40001))
		send(t, other, to, l2tp(65535, true, "injected"))
		expectNothing(t, listener, tunnel)
	})
}

// setChecksum switches the UDP checksum of a sender.
func setChecksum(t *testing.T, c *net.UDPConn, on bool) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	off := 1
	if on {
		off = 0
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, off) })
	if err := errors.Join(err, inner); err != nil {
		t.Fatal(err)
	}
}
