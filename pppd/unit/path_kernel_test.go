//go:build kernel

package unit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/l2tpnl"
	"vrgate/pppd/unit"
	"vrgate/test/netspace"
)

const (
	lnsAddr, lacAddr     = "192.0.2.1", "192.0.2.2"
	lnsInner, lacInner   = "10.9.0.1", "10.9.0.2"
	lnsTunnel, lacTunnel = 20001, 20002
	lnsSession           = 11
	lacSession           = 12
	mtu                  = 1400
)

// end is one side of an L2TP tunnel with the kernel objects of one namespace.
type end struct {
	space  *netspace.Space
	l2tp   *l2tpnl.Kernel
	net    *unit.Net
	socket int
	tunnel *l2tpnl.Tunnel
}

func newEnd(t *testing.T, space *netspace.Space, local, remote string, localID, remoteID uint16) *end {
	t.Helper()
	e := &end{space: space, socket: udp(t, space, local, localID, remote, remoteID)}
	var err error
	if e.l2tp, err = l2tpnl.Open(space); err != nil {
		t.Fatal(err)
	}
	if e.net, err = unit.OpenNet(space); err != nil {
		t.Fatal(err)
	}
	if e.tunnel, err = e.l2tp.Tunnel(e.socket, localID, remoteID); err != nil {
		t.Fatal(err)
	}
	return e
}

// udp is a tunnel's socket, whose port is the tunnel's id.
func udp(t *testing.T, space *netspace.Space, local string, localID uint16, remote string, remoteID uint16) int {
	t.Helper()
	fd := -1
	err := space.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(local).As4(), Port: int(localID)}); err != nil {
			return err
		}
		return unix.Connect(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(remote).As4(), Port: int(remoteID)})
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// close ends tunnel and socket and makes sure that nothing is left of them.
func (e *end) close(t *testing.T) {
	t.Helper()
	if err := errors.Join(e.tunnel.Close(), unix.Close(e.socket), e.net.Close()); err != nil {
		t.Error(err)
	}
	empty(t, e.space, e.l2tp)
	if err := e.l2tp.Close(); err != nil {
		t.Error(err)
	}
}

// empty waits until the namespace has no tunnel, session or PPP interface;
// kernels from 6.11 remove tunnels and sessions in a work queue.
func empty(t *testing.T, space *netspace.Space, k *l2tpnl.Kernel) {
	t.Helper()
	var tunnels []l2tpnl.TunnelInfo
	var sessions []l2tpnl.SessionInfo
	for range 100 {
		var err error
		if tunnels, sessions, err = k.List(); err != nil {
			t.Fatal(err)
		}
		if len(tunnels)+len(sessions) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if len(tunnels)+len(sessions) != 0 {
		t.Errorf("left: tunnels %v, sessions %v", tunnels, sessions)
	}
	if links := pppLinks(t, space); len(links) != 0 {
		t.Errorf("left: %v", links)
	}
}

func pppLinks(t *testing.T, space *netspace.Space) []string {
	t.Helper()
	return slices.DeleteFunc(space.Links(t), func(n string) bool { return !strings.HasPrefix(n, "vg") && !strings.HasPrefix(n, "ppp") })
}

// session is one end of a session with its PPP interface.
type session struct {
	*l2tpnl.Session
	*unit.Unit
}

func (s session) close(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.Unit.Close(), s.Unit.Close(), s.Session.Close()); err != nil {
		t.Error(err)
	}
}

// open makes one end of the session. spec may say where the interface shall be.
func (e *end) open(t *testing.T, l2 l2tpnl.SessionSpec, spec unit.Spec) session {
	t.Helper()
	s, err := e.tunnel.Open(l2)
	if err != nil {
		t.Fatal(err)
	}
	return session{s, e.attach(t, s, spec)}
}

func (e *end) attach(t *testing.T, s *l2tpnl.Session, spec unit.Spec) *unit.Unit {
	t.Helper()
	spec.Transport, spec.Channel, spec.MTU = e.net, s.Index(), mtu
	u, err := unit.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// address does by hand what IPCP and the virtual router do.
func address(t *testing.T, space *netspace.Space, u *unit.Unit, local, peer string) {
	t.Helper()
	if err := errors.Join(u.Up(), u.SetNetwork(unit.IPv4, true)); err != nil {
		t.Fatal(err)
	}
	space.Run(t, "ip", "addr", "add", local, "peer", peer, "dev", u.Name())
}

func pings(space *netspace.Space, to string, args ...string) (string, bool) {
	out, err := space.Try("ping", append([]string{"-c", "3", "-i", "0.2", "-W", "2", to}, args...)...)
	return out, err == nil
}

// pair is two ends on one wire.
func pair(t *testing.T) (lns, lac *end) {
	a, b := netspace.New(t), netspace.New(t)
	netspace.Connect(t, "wan0", a, lnsAddr+"/24", b, lacAddr+"/24")
	return newEnd(t, a, lnsAddr, lacAddr, lnsTunnel, lacTunnel), newEnd(t, b, lacAddr, lnsAddr, lacTunnel, lnsTunnel)
}

var (
	lnsSpec = l2tpnl.SessionSpec{Session: lnsSession, Peer: lacSession, LNS: true}
	lacSpec = l2tpnl.SessionSpec{Session: lacSession, Peer: lnsSession}
)

// read waits for a frame.
func read(t *testing.T, p *unit.Port) unit.Frame {
	t.Helper()
	buf := make([]byte, unit.MaxFrame)
	for range 200 {
		f, err := p.ReadFrame(buf)
		if err == nil {
			return f
		}
		if !errors.Is(err, unit.ErrWouldBlock) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no frame")
	return unit.Frame{}
}

func write(t *testing.T, p *unit.Port, protocol uint16, data []byte) {
	t.Helper()
	if err := p.WriteFrame(protocol, data); err != nil {
		t.Fatal(err)
	}
}

// TestDataPath is the whole path: a LAC and an LNS, both made of our own
// packages, in one namespace each.
func TestDataPath(t *testing.T) {
	lns, lac := pair(t)
	open := netspace.Descriptors(t)
	l, err := lns.tunnel.Open(lnsSpec)
	if err != nil {
		t.Fatal(err)
	}
	c := lac.open(t, lacSpec, unit.Spec{Name: "vglac"})

	// A frame that comes before the LNS has a unit, or even a descriptor, waits.
	echo := []byte{9, 1, 0, 8, 1, 2, 3, 4}
	write(t, c.Channel, 0xc021, echo)
	time.Sleep(200 * time.Millisecond)
	s := session{l, lns.attach(t, l, unit.Spec{})}
	if f := read(t, s.Channel); f.Protocol != 0xc021 || !bytes.Equal(f.Data, echo) {
		t.Errorf("early frame is %+v", f)
	}
	if s.Name() != "vg0" || c.Name() != "vglac" || s.Unit.Index() <= 1 {
		t.Errorf("names %q and %q, index %d", s.Name(), c.Name(), s.Unit.Index())
	}
	// LCP and network control protocols, both ways, to the descriptor that each
	// belongs to.
	echo[0] = 10
	write(t, s.Channel, 0xc021, echo)
	if f := read(t, c.Channel); f.Protocol != 0xc021 || !bytes.Equal(f.Data, echo) {
		t.Errorf("LCP frame is %+v", f)
	}
	if err := errors.Join(s.Up(), c.Up()); err != nil { // as IPCP begins
		t.Fatal(err)
	}
	ipcp := []byte{1, 1, 0, 10, 3, 6, 10, 9, 0, 2}
	write(t, c.Interface, 0x8021, ipcp)
	if f := read(t, s.Interface); f.Protocol != 0x8021 || !bytes.Equal(f.Data, ipcp) {
		t.Errorf("IPCP frame is %+v", f)
	}

	// Packets pass when both ends let them, and only then.
	address(t, lac.space, c.Unit, lacInner, lnsInner)
	lns.space.Run(t, "ip", "addr", "add", lnsInner, "peer", lacInner, "dev", s.Name())
	if out, ok := pings(lac.space, lnsInner); ok {
		t.Errorf("packets pass before the network is up:\n%s", out)
	}
	if err := s.SetNetwork(unit.IPv4, true); err != nil {
		t.Fatal(err)
	}
	was, err := s.Traffic()
	if err != nil {
		t.Fatal(err)
	}
	if out, ok := pings(lac.space, lnsInner, "-s", fmt.Sprint(mtu-28), "-M", "do"); !ok {
		t.Errorf("no ping:\n%s", out)
	}
	if out, ok := pings(lns.space, lacInner); !ok {
		t.Errorf("no ping back:\n%s", out)
	}
	is, err := s.Traffic()
	if err != nil || is.RxPackets-was.RxPackets != 6 || is.TxPackets-was.TxPackets != 6 || is.RxBytes-was.RxBytes != 3*(mtu+84) {
		t.Errorf("traffic %+v, was %+v, %v", is, was, err)
	}
	if n, err := l.Counters(); err != nil || n.RxPackets < 6 || n.TxBytes < 3*mtu {
		t.Errorf("session counters %+v, %v", n, err)
	}
	if d, err := s.Idle(); err != nil || d > 5*time.Second {
		t.Errorf("idle %v, %v", d, err)
	}
	if text := lns.space.Run(t, "ip", "link", "show", s.Name()); !strings.Contains(text, fmt.Sprintf("mtu %d", mtu)) {
		t.Error(text)
	}
	if err := s.SetMTU(1200); err != nil || !strings.Contains(lns.space.Run(t, "ip", "link", "show", s.Name()), "mtu 1200") {
		t.Errorf("SetMTU: %v", err)
	}
	if err := s.SetNetwork(unit.IPv4, false); err != nil {
		t.Error(err)
	}
	if _, ok := pings(lac.space, lnsInner); ok {
		t.Error("packets pass after the network went down")
	}
	if err := s.Down(); err != nil {
		t.Error(err)
	}

	s.close(t)
	if _, err := s.Traffic(); !errors.Is(err, unit.ErrNotFound) {
		t.Errorf("counters after Close: %v", err)
	}
	if err := errors.Join(s.SetNetwork(unit.IPv4, true)); !errors.Is(err, unit.ErrClosed) {
		t.Errorf("SetNetwork after Close: %v", err)
	}
	// The LAC loses its session first: end of file, not a busy loop of errors.
	if err := c.Session.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Interface.ReadFrame(make([]byte, unit.MaxFrame)); !errors.Is(err, io.EOF) {
		t.Errorf("interface without a channel: %v", err)
	}
	c.close(t)
	if n := netspace.Descriptors(t); n != open {
		t.Errorf("%d descriptors, were %d with tunnels open", n, open)
	}
	lns.close(t)
	lac.close(t)
	if n := netspace.Descriptors(t); n != open-6 { // each end had a socket and two netlink sockets
		t.Errorf("%d descriptors, were %d with tunnels open", n, open)
	}
}

// TestSequencing: the LNS numbers data and demands numbers; the LAC follows.
func TestSequencing(t *testing.T) {
	lns, lac := pair(t)
	ls := lnsSpec
	ls.Sequence, ls.RequireSequence, ls.Reorder = true, true, 100*time.Millisecond
	cs := lacSpec
	cs.Sequence = true
	s, c := lns.open(t, ls, unit.Spec{}), lac.open(t, cs, unit.Spec{})
	address(t, lns.space, s.Unit, lnsInner, lacInner)
	address(t, lac.space, c.Unit, lacInner, lnsInner)
	if out, ok := pings(lac.space, lnsInner); !ok {
		t.Errorf("no ping:\n%s", out)
	}
	if n, err := s.Counters(); err != nil || n.RxSequenceDiscards != 0 || n.RxPackets < 3 {
		t.Errorf("counters %+v, %v", n, err)
	}
	s.close(t)
	c.close(t)
	lns.close(t)
	lac.close(t)
}

// TestVRF: the interface is born in a VRF of the tunnel's namespace, which is not
// the routing domain of the tunnel.
func TestVRF(t *testing.T) {
	lns, lac := pair(t)
	s := lns.open(t, lnsSpec, unit.Spec{Master: makeVRF(t, lns.space), Group: 77})
	c := lac.open(t, lacSpec, unit.Spec{})
	address(t, lns.space, s.Unit, lnsInner, lacInner)
	address(t, lac.space, c.Unit, lacInner, lnsInner)
	if text := lns.space.Run(t, "ip", "-d", "link", "show", s.Name()); !strings.Contains(text, "master red") || !strings.Contains(text, "group 77") {
		t.Error(text)
	}
	if out, ok := pings(lac.space, lnsInner); !ok {
		t.Errorf("no ping:\n%s", out)
	}
	if text := lns.space.Run(t, "ip", "route"); strings.Contains(text, lacInner) {
		t.Errorf("route in the main table:\n%s", text)
	}
	s.close(t)
	c.close(t)
	lns.close(t)
	lac.close(t)
}

// makeVRF makes the VRF device red and returns its index.
func makeVRF(t *testing.T, space *netspace.Space) int {
	t.Helper()
	space.Run(t, "ip", "link", "add", "red", "type", "vrf", "table", "100")
	space.Run(t, "ip", "link", "set", "red", "up")
	var index int
	if _, err := fmt.Sscanf(space.Run(t, "ip", "-o", "link", "show", "red"), "%d:", &index); err != nil {
		t.Fatal(err)
	}
	return index
}

// TestOtherNamespace: tunnel in one namespace, interface in another, or in a VRF
// of another, whose own network the subscriber reaches.
func TestOtherNamespace(t *testing.T) {
	t.Run("main", func(t *testing.T) { testOtherNamespace(t, false) })
	t.Run("vrf", func(t *testing.T) { testOtherNamespace(t, true) })
}

func testOtherNamespace(t *testing.T, vrf bool) {
	lns, lac := pair(t)
	inside, host := netspace.New(t), netspace.New(t)
	var spec unit.Spec
	if vrf {
		spec.Master = makeVRF(t, inside)
	}
	netspace.Connect(t, "lan0", inside, "10.8.0.1/24", host, "10.8.0.2/24")
	inside.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	host.Run(t, "ip", "route", "add", "default", "via", "10.8.0.1")
	if vrf {
		inside.Run(t, "ip", "link", "set", "lan0", "master", "red")
	}
	target, err := unit.OpenNet(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	spec.Target = target
	s := lns.open(t, lnsSpec, spec)
	c := lac.open(t, lacSpec, unit.Spec{})
	address(t, inside, s.Unit, lnsInner, lacInner)
	address(t, lac.space, c.Unit, lacInner, lnsInner)
	lac.space.Run(t, "ip", "route", "add", "10.8.0.0/24", "dev", c.Name())
	if out, ok := pings(lac.space, "10.8.0.2"); !ok {
		t.Errorf("no ping:\n%s", out)
	}
	if links := pppLinks(t, lns.space); len(links) != 0 {
		t.Errorf("interfaces in the transport namespace: %v", links)
	}
	if n, err := s.Traffic(); err != nil || n.RxPackets < 3 {
		t.Errorf("traffic %+v, %v", n, err)
	}
	s.close(t)
	c.close(t)
	if links := pppLinks(t, inside); len(links) != 0 {
		t.Errorf("left: %v", links)
	}
	lns.close(t)
	lac.close(t)
}

// TestFailures: each step that fails says so by type and leaves nothing.
func TestFailures(t *testing.T) {
	lns, lac := pair(t)
	s, err := lns.tunnel.Open(lnsSpec)
	if err != nil {
		t.Fatal(err)
	}
	lns.space.Run(t, "ip", "link", "add", "vgtaken", "type", "dummy")
	lns.space.Run(t, "ip", "link", "add", "vg0", "type", "dummy")
	before := netspace.Descriptors(t)
	good := unit.Spec{Transport: lns.net, Channel: s.Index(), MTU: mtu}
	for name, c := range map[string]struct {
		change func(*unit.Spec)
		want   error
	}{
		"channel":         {func(s *unit.Spec) { s.Channel = 4711 }, unit.ErrNotFound},
		"channel's other": {func(s *unit.Spec) { s.Transport = lac.net }, unit.ErrNotFound},
		"name":            {func(s *unit.Spec) { s.Name = "vgtaken" }, unit.ErrExists},
		"master":          {func(s *unit.Spec) { s.Master = 4711 }, nil},
	} {
		spec := good
		c.change(&spec)
		u, err := unit.Open(spec)
		if err == nil {
			t.Errorf("%s: opened", name)
			_ = u.Close()
		} else if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if after := netspace.Descriptors(t); after != before {
			t.Errorf("%s: %d descriptors, were %d", name, after, before)
		}
	}
	if links := pppLinks(t, lns.space); len(links) != 2 {
		t.Errorf("left: %v", links)
	}
	// The channel is good after all that, and a numbered name that is taken is
	// passed over.
	u := lns.attach(t, s, unit.Spec{})
	if u.Name() == "vg0" || !strings.HasPrefix(u.Name(), "vg") {
		t.Errorf("name %q", u.Name())
	}
	session{s, u}.close(t)
	lns.space.Run(t, "ip", "link", "del", "vgtaken")
	lns.space.Run(t, "ip", "link", "del", "vg0")
	lns.close(t)
	lac.close(t)
}

// TestMany: 200 subscribers, each with a tunnel of its own, come and go through
// a pool of workers; links, tunnels, sessions and descriptors are as before.
func TestMany(t *testing.T) {
	const subscribers, workers = 200, 16
	space, inside := netspace.New(t), netspace.New(t)
	inside.Run(t, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
	k, err := l2tpnl.Open(space)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	nets := make([]*unit.Net, 2)
	for i, s := range []*netspace.Space{space, inside} {
		if nets[i], err = unit.OpenNet(s); err != nil {
			t.Fatal(err)
		}
		defer nets[i].Close()
	}
	before := netspace.Descriptors(t)
	type subscriber struct {
		fd     int
		tunnel *l2tpnl.Tunnel
		session
	}
	all := make([]subscriber, subscribers)
	pool := func(fn func(i int)) {
		var wg sync.WaitGroup
		next := make(chan int)
		for range workers {
			wg.Go(func() {
				for i := range next {
					fn(i)
				}
			})
		}
		for i := range subscribers {
			next <- i
		}
		close(next)
		wg.Wait()
	}
	start := time.Now()
	pool(func(i int) {
		id := uint16(20000 + i)
		fd := udp(t, space, "127.0.0.1", id, "127.0.0.1", id+10000)
		tunnel, err := k.Tunnel(fd, id, 1)
		if err != nil {
			t.Error(err)
			return
		}
		s, err := tunnel.Open(l2tpnl.SessionSpec{Session: uint16(1000 + i), Peer: 1, LNS: true})
		if err != nil {
			t.Error(err)
			return
		}
		u, err := unit.Open(unit.Spec{Transport: nets[0], Target: nets[1], Channel: s.Index(), MTU: mtu})
		if err != nil {
			t.Error(err)
			return
		}
		if err := errors.Join(u.Up(), u.SetNetwork(unit.IPv4, true)); err != nil {
			t.Error(err)
		}
		all[i] = subscriber{fd, tunnel, session{s, u}}
	})
	if t.Failed() {
		t.FailNow()
	}
	up := time.Since(start)
	links := pppLinks(t, inside)
	slices.Sort(links)
	if n := len(slices.Compact(links)); n != subscribers {
		t.Errorf("%d interfaces", n)
	}
	start = time.Now()
	pool(func(i int) {
		s := all[i]
		if err := errors.Join(s.Unit.Close(), s.Session.Close(), s.tunnel.Close(), unix.Close(s.fd)); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d up in %v, down in %v", subscribers, up, time.Since(start))
	empty(t, space, k)
	if links := pppLinks(t, inside); len(links) != 0 {
		t.Errorf("left: %v", links)
	}
	if n := netspace.Descriptors(t); n != before {
		t.Errorf("%d descriptors, were %d", n, before)
	}
}

// childEnv makes the test binary be the process that TestKilled kills.
const childEnv = "VRGATE_UNIT_TEST_CHILD"

// TestKilled: kill -9 leaves no tunnel, session or interface.
func TestKilled(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		child(t)
		return
	}
	space := netspace.New(t)
	k, err := l2tpnl.Open(space)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := space.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	if text := string(line[:n]); err != nil || !strings.HasPrefix(text, "up") {
		rest, _ := io.ReadAll(out)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("child says %q%s, %v", text, rest, err)
	}
	tunnels, sessions, err := k.List()
	if links := pppLinks(t, space); err != nil || len(tunnels) != 1 || len(sessions) != 3 || len(links) != 3 {
		t.Errorf("child made %v, %v, %v; %v", tunnels, sessions, links, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	empty(t, space, k)
}

// own is the namespace that the process was started in.
type own struct{ fd int }

func (o own) Do(fn func() error) error { return fn() }
func (o own) NetNS() int               { return o.fd }

func child(t *testing.T) {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	here := own{fd}
	k, err := l2tpnl.Open(here)
	if err != nil {
		t.Fatal(err)
	}
	net, err := unit.OpenNet(here)
	if err != nil {
		t.Fatal(err)
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	lo := netip.MustParseAddr("127.0.0.1").As4()
	if err := errors.Join(unix.Bind(sock, &unix.SockaddrInet4{Addr: lo, Port: lnsTunnel}), unix.Connect(sock, &unix.SockaddrInet4{Addr: lo, Port: lacTunnel})); err != nil {
		t.Fatal(err)
	}
	tunnel, err := k.Tunnel(sock, lnsTunnel, lacTunnel)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint16(3) {
		s, err := tunnel.Open(l2tpnl.SessionSpec{Session: 1 + i, Peer: 1 + i, LNS: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unit.Open(unit.Spec{Transport: net, Channel: s.Index(), MTU: mtu}); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Println("up")
	time.Sleep(time.Minute)
	t.Fatal("not killed")
}
