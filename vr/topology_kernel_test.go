//go:build kernel

package vr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vrgate/test/netspace"
)

// The topology of the kernel tests: a virtual router, a NAT box beside it and two clients behind that, all in
// network namespaces. Every client's UDP port 4500 is mapped to a port of its own, their L2TP ports are inside ESP.
//
//	client 1  10.1.0.2 --- 10.1.0.1  NAT  203.0.113.2 --- 203.0.113.1  router
//	client 2  10.2.0.2 --- 10.2.0.1
const (
	serverText = "203.0.113.1"
	natText    = "203.0.113.2"
	vrfTable   = 1000
)

var (
	server = netip.MustParseAddr(serverText)
	nat    = netip.MustParseAddr(natText)
)

// prefix makes the names of one test process unique.
var prefix = fmt.Sprintf("vrt%d", os.Getpid())

// topology is one instance.
type topology struct {
	t       *testing.T
	vrf     bool
	router  *namespace // where the virtual router is
	nat     *namespace
	clients [2]*client
	sniffer *sniffer
}

// client is a host behind the NAT with an IPsec connection made by hand.
type client struct {
	number uint32 // ClientMark | 1 or 2
	space  *namespace
	addr   netip.Addr
	mapped uint16 // its port 4500 at the NAT box
	encap  int    // socket that takes ESP in UDP
	spi    uint32 // of the present pair; +1 is the other direction
}

// testNamespace makes a namespace and removes it at the end.
func testNamespace(t *testing.T, role string) *namespace {
	t.Helper()
	name := prefix + role
	n, err := openNamespace(name, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(n.unlink(), n.close()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// run runs a program in a namespace, where the thread that starts it is: ip netns exec would take as long again.
func (n *namespace) run(t *testing.T, stdin string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%s: %v: %v\n%s", n.name, command, err, &out)
	}
	return out.String()
}

// batch runs lines of ip(8) in a namespace.
func (n *namespace) batch(t *testing.T, lines string) {
	t.Helper()
	n.run(t, lines, "ip", "-batch", "-")
}

// join makes a pair of devices with addresses of a network of 24 bits; the second may be the port of a VRF.
func join(t *testing.T, a *namespace, devA string, addrA netip.Addr, b *namespace, devB string, addrB netip.Addr, vrf string) {
	t.Helper()
	check(t, netspace.Join(netspace.End{NetNS: a.fd, Device: devA, Address: netip.PrefixFrom(addrA, 24)},
		netspace.End{NetNS: b.fd, Device: devB, Address: netip.PrefixFrom(addrB, 24), Master: vrf}))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTopology builds the topology; the router's own side is left to the test.
func newTopology(t *testing.T, vrf bool) *topology {
	t.Helper()
	ends := [2]*namespace{testNamespace(t, "c1"), testNamespace(t, "c2")}
	top := &topology{t: t, vrf: vrf, router: testNamespace(t, "r"), nat: testNamespace(t, "n")}
	if vrf {
		check(t, netspace.AddVRF(top.router.fd, "red", vrfTable))
	}
	join(t, top.nat, "out", nat, top.router, "ext", server, map[bool]string{true: "red"}[vrf])
	var rules strings.Builder
	rules.WriteString("table ip nat {\nchain post {\ntype nat hook postrouting priority srcnat;\n")
	for i, space := range ends {
		c := &client{
			number: ClientMark | uint32(i+1), space: space, mapped: uint16(40001 + i), spi: uint32(0x1000 * (i + 1)),
			addr: netip.AddrFrom4([4]byte{10, byte(i + 1), 0, 2}),
		}
		gateway := netip.AddrFrom4([4]byte{10, byte(i + 1), 0, 1})
		join(t, top.nat, fmt.Sprint("in", i+1), gateway, space, "ext", c.addr, "")
		check(t, netspace.DefaultRoute(space.fd, gateway))
		fmt.Fprintf(&rules, "ip saddr %s udp sport 4500 snat to %s:%d\n", c.addr, nat, c.mapped)
		top.clients[i] = c
	}
	rules.WriteString("}\n}\n")
	top.nat.run(t, rules.String(), "nft", "-f", "-")
	if err := top.nat.do(func() error { return writeSysctl("net/ipv4/ip_forward", "1") }); err != nil {
		t.Fatal(err)
	}
	top.sniffer = sniff(t, top.nat, "out")
	return top
}

// spec of the router under test.
func (top *topology) spec() Spec {
	s := Spec{Name: "test", Namespace: top.router.name, Server: []netip.Addr{server}}
	if top.vrf {
		s.VRF, s.Table = "red", vrfTable
	}
	return s
}

// open opens the router and closes it at the end.
func (top *topology) open(spec Spec) *Router {
	top.t.Helper()
	r, err := Open(spec)
	if err != nil {
		top.t.Fatal(err)
	}
	top.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			top.t.Error(err)
		}
	})
	return r
}

// listen opens both IKE sockets and the L2TP listener of the router.
func (top *topology) listen(r *Router) (ike, natt, l2tp *Socket) {
	top.t.Helper()
	var errs [3]error
	ike, errs[0] = r.ListenIKE(server, PortIKE, false)
	natt, errs[1] = r.ListenIKE(server, PortNATT, true)
	l2tp, errs[2] = r.ListenL2TP(server)
	if err := errors.Join(errs[:]...); err != nil {
		top.t.Fatal(err)
	}
	top.t.Cleanup(func() { ike.Close(); natt.Close(); l2tp.Close() })
	return ike, natt, l2tp
}

// connect installs the IPsec connection of a client at both ends: SAs of its number at the router, SAs and
// policies at the client.
func (top *topology) connect(c *client) {
	t := top.t
	t.Helper()
	fd := -1
	err := c.space.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Port: 4500, Addr: c.addr.As4()})
	})
	if err != nil {
		t.Fatal(err)
	}
	c.encap = fd
	t.Cleanup(func() { unix.Close(fd) })
	top.installSAs(c)
	top.installPolicies(c)
	if err := errors.Join(setPolicy(fd, policyIn, 0), setPolicy(fd, policyOut, 0)); err != nil {
		t.Fatal(err)
	}
}

// installPolicies has a client encrypt what is UDP between it and the server.
func (top *topology) installPolicies(c *client) {
	t := top.t
	t.Helper()
	h := xfrmHandle(t, c.space)
	for _, p := range []netlink.XfrmPolicy{
		{Dir: netlink.XFRM_DIR_OUT, Src: host(c.addr), Dst: host(server)},
		{Dir: netlink.XFRM_DIR_IN, Src: host(server), Dst: host(c.addr)},
	} {
		p.Proto = netlink.Proto(unix.IPPROTO_UDP)
		p.Tmpls = []netlink.XfrmPolicyTmpl{{Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TRANSPORT, Reqid: 1}}
		// IKE on port 4500 has to stay outside; it is sent from the encap socket, which gets its own bypass.
		if err := h.XfrmPolicyAdd(&p); err != nil {
			t.Fatal(err)
		}
	}
}

// installSAs adds a pair with the client's present SPIs at both ends.
func (top *topology) installSAs(c *client) {
	top.t.Helper()
	router, own := xfrmHandle(top.t, top.router), xfrmHandle(top.t, c.space)
	mapped, port := int(c.mapped), int(PortNATT)
	for _, step := range []struct {
		h  *netlink.Handle
		sa *netlink.XfrmState
	}{
		{router, sa(nat, server, c.spi, c.number, mapped, port, c.number)},
		{router, sa(server, nat, c.spi+1, c.number, port, mapped, 0)},
		{own, sa(c.addr, server, c.spi, 1, port, port, 0)},
		{own, sa(server, c.addr, c.spi+1, 1, port, port, 0)},
	} {
		if err := step.h.XfrmStateAdd(step.sa); err != nil {
			top.t.Fatal(err)
		}
	}
}

// removeSAs deletes a pair, at the router only.
func (top *topology) removeSAs(c *client, spi uint32) {
	top.t.Helper()
	h := xfrmHandle(top.t, top.router)
	err := errors.Join(h.XfrmStateDel(sa(nat, server, spi, 0, 0, 0, 0)), h.XfrmStateDel(sa(server, nat, spi+1, 0, 0, 0, 0)))
	if err != nil {
		top.t.Fatal(err)
	}
}

// sa is one SA in ESP transport mode with a key that both ends know; ports 0 mean without UDP encapsulation.
func sa(src, dst netip.Addr, spi, reqid uint32, sport, dport int, mark uint32) *netlink.XfrmState {
	s := &netlink.XfrmState{
		Src: src.AsSlice(), Dst: dst.AsSlice(), Spi: int(spi), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TRANSPORT,
		Reqid: int(reqid), ReplayWindow: 32,
		Crypt: &netlink.XfrmStateAlgo{Name: "cbc(aes)", Key: bytes.Repeat([]byte{byte(spi >> 12)}, 16)},
		Auth:  &netlink.XfrmStateAlgo{Name: "hmac(sha1)", Key: bytes.Repeat([]byte{byte(spi >> 12)}, 20), TruncateLen: 96},
	}
	if sport != 0 {
		s.Encap = &netlink.XfrmStateEncap{Type: netlink.XFRM_ENCAP_ESPINUDP, SrcPort: sport, DstPort: dport, OriginalAddress: net.IPv4zero}
	}
	if mark != 0 {
		s.OutputMark = &netlink.XfrmMark{Value: mark}
	}
	return s
}

func xfrmHandle(t *testing.T, n *namespace) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(n.handle(), unix.NETLINK_XFRM)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func host(a netip.Addr) *net.IPNet { return network(netip.PrefixFrom(a, a.BitLen())) }

// udp opens a socket in a namespace.
func (n *namespace) udp(t *testing.T, local netip.AddrPort) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := n.do(func() error {
		family := unix.AF_INET
		if local.Addr().Is6() {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "udp")
		defer f.Close()
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, sockaddr(local)); err != nil {
			return err
		}
		c, err := net.FilePacketConn(f)
		if err == nil {
			conn = c.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// l2tp builds an L2TP datagram with the given tunnel id; the text makes it recognisable on the wire.
func l2tp(tunnel uint16, length bool, text string) []byte {
	flags := uint16(l2tpVersion2)
	if length {
		flags |= l2tpLengthBit
	}
	b := be16(flags)
	if length {
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	}
	b = binary.BigEndian.AppendUint16(b, tunnel)
	b = binary.BigEndian.AppendUint16(b, 1)
	return append(b, text...)
}

// patience is how long a datagram may take in an emulated machine; grace is how long one that must not arrive
// is waited for after one that must, which took the same path.
const (
	patience = 5 * time.Second
	grace    = 200 * time.Millisecond
)

// expect waits for one datagram with the text on a router's socket.
func expect(t *testing.T, s *Socket, text string) Datagram {
	t.Helper()
	b := NewBatch(8, 2048)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		got, err := s.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range got {
			if !bytes.Contains(d.Data, []byte(text)) {
				t.Fatalf("socket %s: got %q, want %q", s.Local(), d.Data, text)
			}
			return d
		}
	}
	t.Fatalf("socket %s: %q did not arrive", s.Local(), text)
	return Datagram{}
}

// expectNothing fails if anything arrives on a router's sockets within the grace period.
func expectNothing(t *testing.T, sockets ...*Socket) {
	t.Helper()
	time.Sleep(grace)
	b := NewBatch(8, 2048)
	for _, s := range sockets {
		got, err := s.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range got {
			t.Errorf("socket %s: got %q from %s, mark %#x", s.Local(), d.Data, d.Remote, d.Mark)
		}
	}
}

// expectReply waits for one datagram with the text at a client.
func expectReply(t *testing.T, c *net.UDPConn, text string) netip.AddrPort {
	t.Helper()
	b := make([]byte, 2048)
	c.SetReadDeadline(time.Now().Add(patience))
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatalf("client: %q did not arrive: %v", text, err)
	}
	if !bytes.Contains(b[:n], []byte(text)) {
		t.Fatalf("client: got %q, want %q", b[:n], text)
	}
	return from
}

func send(t *testing.T, c *net.UDPConn, to netip.AddrPort, data []byte) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(data, to); err != nil {
		t.Fatal(err)
	}
}

// sniffer keeps every frame that passes a link.
type sniffer struct {
	fd     int
	done   chan struct{}
	mu     sync.Mutex
	frames [][]byte
}

// sniff starts a sniffer that ends with the test.
func sniff(t *testing.T, n *namespace, link string) *sniffer {
	t.Helper()
	s := &sniffer{done: make(chan struct{})}
	err := n.do(func() (err error) {
		ifi, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(be16(unix.ETH_P_ALL))
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go s.loop(stop)
	t.Cleanup(func() {
		close(stop)
		<-s.done
		unix.Close(s.fd)
	})
	return s
}

func (s *sniffer) loop(stop chan struct{}) {
	defer close(s.done)
	b := make([]byte, 65536)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, _, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			continue
		}
		s.mu.Lock()
		s.frames = append(s.frames, bytes.Clone(b[:n]))
		s.mu.Unlock()
	}
}

// saw counts the frames that are not ESP and contain the text, once those under way have arrived. Three
// letters turn up in ciphertext by chance, about once in some thousand runs.
func (s *sniffer) saw(text string) (n int) {
	return s.count(func(f []byte) bool { return !isESP(f) && bytes.Contains(f, []byte(text)) })
}

// encrypted counts the frames that are ESP, in UDP or not, once those under way have arrived.
func (s *sniffer) encrypted() int { return s.count(isESP) }

func (s *sniffer) count(match func([]byte) bool) (n int) {
	time.Sleep(grace)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.frames {
		if match(f) {
			n++
		}
	}
	return n
}

// isESP tells an IPv4 packet without options that is ESP, or ESP in UDP by a port of NAT traversal.
func isESP(f []byte) bool {
	if len(f) < 32 || f[0] != ipHeaderLength {
		return false
	}
	sport, dport := binary.BigEndian.Uint16(f[20:]), binary.BigEndian.Uint16(f[22:])
	return f[9] == unix.IPPROTO_ESP || f[9] == unix.IPPROTO_UDP && (sport == PortNATT || dport == PortNATT) && binary.BigEndian.Uint32(f[28:]) != 0
}

// drops reads one drop counter.
func drops(t *testing.T, r *Router, name string) uint64 {
	t.Helper()
	d, err := r.Drops()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := d[name]
	if !ok {
		t.Fatalf("no counter %s in %v", name, d)
	}
	return n
}

// mismatches counts packets that failed a policy's template in a namespace.
func mismatches(t *testing.T, n *namespace) (count int) {
	t.Helper()
	err := n.do(func() error {
		stat, err := os.ReadFile("/proc/thread-self/net/xfrm_stat")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(stat)) {
			if k, err := fmt.Sscanf(line, "XfrmInTmplMismatch %d", &count); k == 1 && err == nil {
				return nil
			}
		}
		return errors.New("no XfrmInTmplMismatch in xfrm_stat")
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}
