//go:build kernel

package kernel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
	"vrgate/test/netspace"
	"vrgate/xfrm"
)

// The world of the data path tests. The peers' SAs and policies are made by hand: there is no IKE.
//
//	peer 1  198.51.1.2 --- 198.51.1.1  transport router            terminating router  10.1.0.1 --- 10.1.0.2  intranet
//	peer 2  198.51.2.2 --- 198.51.2.1  server 192.0.2.1            gateway 10.9.0.1
//
// The routers are one and the same, or two in one namespace, or in two.
type world struct {
	t         testing.TB
	transport routerPlace
	end       routerPlace
	kernel    *Kernel
	cfg       *config.Config
	plane     controlplane.Dataplane // of the transport router
	other     controlplane.Dataplane // of the terminating router when it is another one
	peers     [2]*peer
	intranet  string
	sniffed   *sniffer
	events    *events
	spi       uint32
	members   int                        // of the crowd
	spaces    map[string]*netspace.Space // by name
	also      []*ike.SA                  // of the first peer, beside its pair
	limits    aaa.Traffic                // of the crowd
}

// routerPlace is where a router is.
type routerPlace struct {
	router, space, vrf string
	table              uint32
}

const (
	serverAddress = "192.0.2.1"
	gatewayText   = "10.9.0.1"
	intranetText  = "10.1.0.2"
)

// usualLink is the default of IP profiles.
var usualLink = subscriber.LinkPolicy{MSSClamp: true, SourceValidation: true, AccessRoutes: true}

// peer is a client with a connection made by hand.
type peer struct {
	number  uint32 // of the connection and the session
	space   string
	dev     string // the transport router's link to it
	outer   netip.Addr
	inner   netip.Addr
	encap   bool
	port    uint16
	kernel  *xfrm.Kernel
	in, out *ike.SA      // as the server sees them
	named   netip.Prefix // its side in phase 2
	closed  func()       // stops listening on port 4500
}

// layouts are the ways in which two routers can be placed.
var layouts = []struct {
	name           string
	transport, end routerPlace
}{
	{"one router", routerPlace{"red", "T", "", 0}, routerPlace{"red", "T", "", 0}},
	{"one router in a VRF", routerPlace{"red", "T", "vrfr", 1001}, routerPlace{"red", "T", "vrfr", 1001}},
	{"main table to a VRF", routerPlace{"red", "T", "", 0}, routerPlace{"blue", "T", "vrfb", 1002}},
	{"VRF to main table", routerPlace{"red", "T", "vrfr", 1001}, routerPlace{"blue", "T", "", 0}},
	{"VRF to VRF", routerPlace{"red", "T", "vrfr", 1001}, routerPlace{"blue", "T", "vrfb", 1002}},
	{"another namespace", routerPlace{"red", "T", "", 0}, routerPlace{"blue", "R", "", 0}},
	{"VRF in another namespace", routerPlace{"red", "T", "", 0}, routerPlace{"blue", "R", "vrfb", 1002}},
	{"VRF to another namespace", routerPlace{"red", "T", "vrfr", 1001}, routerPlace{"blue", "R", "", 0}},
	{"VRF to VRF in another namespace", routerPlace{"red", "T", "vrfr", 1001}, routerPlace{"blue", "R", "vrfb", 1002}},
}

// events keeps what comes up from the kernel.
type events struct {
	nobody
	mu      sync.Mutex
	lost    map[subscriber.ID]int
	expired map[uint32]bool
	moved   []netip.AddrPort
	wanted  []string
	reasons []string // of links and tunnels' interfaces
	missing xfrm.Census
}

func (e *events) LinkChanged(s controlplane.LinkState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reasons = append(e.reasons, s.Reason)
}

func (e *events) TunnelWanted(tunnel string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wanted = append(e.wanted, tunnel)
}

func (e *events) SessionLost(id subscriber.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost[id]++
}

func (e *events) SAExpired(spi uint32, _ ike.Direction, hard bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expired[spi] = e.expired[spi] || hard
}

func (e *events) PeerMoved(_ uint32, remote netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.moved = append(e.moved, remote)
}

// await waits until what is asked under the lock is so.
func (e *events) await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		e.mu.Lock()
		ok := so()
		e.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := command(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// batch runs lines of ip(8) in a namespace.
func batch(t testing.TB, space, lines string) {
	t.Helper()
	cmd := exec.Command("ip", "-n", space, "-batch", "-")
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s\n%s", space, err, out, lines)
	}
}

// inSpace runs fn on a thread in a namespace.
func inSpace(t testing.TB, space string, fn func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		fd, err := unix.Open("/run/netns/"+space, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			if err = unix.Setns(fd, unix.CLONE_NEWNET); err == nil {
				err = fn()
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("%s: %v", space, err)
	}
}

// space returns the name of the namespace with a role, and makes it when it is first asked for.
func (w *world) space(role string) string {
	name := fmt.Sprintf("vra%d%s", os.Getpid(), role)
	if w.spaces[name] == nil {
		w.spaces[name] = netspace.Named(w.t, name)
	}
	return name
}

// fd is a descriptor of a namespace.
func (w *world) fd(space string) int { return w.spaces[space].NetNS() }

// newWorld builds the links and opens the routers, whose configuration edit may change.
func newWorld(t testing.TB, transport, end routerPlace, edit ...func(*config.Router)) *world {
	t.Helper()
	w := &world{
		t: t, transport: transport, end: end, spi: 0x1000, events: &events{lost: map[subscriber.ID]int{}, expired: map[uint32]bool{}},
		spaces: map[string]*netspace.Space{},
	}
	vrfs := map[string]bool{}
	for _, p := range []*routerPlace{&w.transport, &w.end} {
		p.space = w.space(p.space)
		if vrf := p.space + p.vrf; p.vrf != "" && !vrfs[vrf] {
			vrfs[vrf] = true
			w.check(netspace.AddVRF(w.fd(p.space), p.vrf, p.table))
		}
	}
	w.check(netspace.AddDummy(netspace.End{
		NetNS: w.fd(w.transport.space), Device: "ext", Master: w.transport.vrf, Address: netip.MustParsePrefix(serverAddress + "/32"),
	}))
	for i := range w.peers {
		p := &peer{
			number: uint32(i + 1), space: w.space(fmt.Sprint("p", i+1)), dev: fmt.Sprint("a", i+1), encap: i == 0, port: 500,
			outer: netip.AddrFrom4([4]byte{198, 51, byte(i + 1), 2}), inner: netip.AddrFrom4([4]byte{10, 9, 0, byte(11 + i)}),
		}
		if p.encap {
			p.port = 4500
		}
		p.named = netip.PrefixFrom(p.inner, 32)
		w.peers[i] = p
		gateway := netip.AddrFrom4([4]byte{198, 51, byte(i + 1), 1})
		fd := w.fd(p.space)
		w.check(netspace.Join(
			netspace.End{NetNS: w.fd(w.transport.space), Device: p.dev, Master: w.transport.vrf, Address: netip.PrefixFrom(gateway, 24)},
			netspace.End{NetNS: fd, Device: "ext", Address: netip.PrefixFrom(p.outer, 24)}))
		w.check(netspace.AddAddress(fd, "lo", netip.PrefixFrom(p.inner, 32)))
		w.check(netspace.DefaultRoute(fd, gateway))
		p.open(t)
	}
	w.intranet = w.space("i")
	w.check(netspace.Join(
		netspace.End{NetNS: w.fd(w.end.space), Device: "in", Master: w.end.vrf, Address: netip.MustParsePrefix("10.1.0.1/24")},
		netspace.End{NetNS: w.fd(w.intranet), Device: "in", Address: netip.MustParsePrefix(intranetText + "/24")}))
	w.check(netspace.DefaultRoute(w.fd(w.intranet), netip.MustParseAddr("10.1.0.1")))

	router := func(p routerPlace) *config.Router {
		return &config.Router{
			Name: p.router, Namespace: config.Namespace{Name: p.space}, VRF: config.VRF{Device: p.vrf, Table: p.table},
		}
	}
	red := router(w.transport)
	red.ServerAddresses = []netip.Addr{netip.MustParseAddr(serverAddress)}
	red.IPProfiles = []config.IPProfile{{Name: "users", Router: w.end.router, Unnumbered: netip.MustParseAddr(gatewayText)}}
	w.cfg = &config.Config{Routers: []*config.Router{red}}
	var blue *config.Router
	if w.end.router != w.transport.router {
		blue = router(w.end)
		w.cfg.Routers = append(w.cfg.Routers, blue)
	}
	for _, r := range w.cfg.Routers {
		for _, e := range edit {
			e(r)
		}
	}
	w.kernel = New()
	var err error
	if blue != nil {
		if w.other, err = w.kernel.Open(w.cfg, blue, nobody{}); err != nil {
			t.Fatal(err)
		}
	}
	if w.plane, err = w.kernel.Open(w.cfg, red, w.events); err != nil {
		t.Fatal(err)
	}
	w.sniffed = w.sniff()
	return w
}

// placed builds the world with its routers as a layout says.
func placed(t testing.TB, layout string, edit ...func(*config.Router)) *world {
	t.Helper()
	for _, l := range layouts {
		if l.name == layout {
			return newWorld(t, l.transport, l.end, edit...)
		}
	}
	t.Fatalf("no layout %q", layout)
	return nil
}

// close closes the routers.
func (w *world) close() {
	w.t.Helper()
	w.check(w.plane.Close())
	if w.other != nil {
		w.check(w.other.Close())
	}
}

// open makes what the peer needs before it has SAs: a socket for ESP in UDP, and policies for its
// address with the peer's reqid.
func (p *peer) open(t testing.TB) {
	t.Helper()
	p.closed = p.listen(t, 4500)
	inSpace(t, p.space, func() error {
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		p.kernel, err = xfrm.Open(fd)
		t.Cleanup(func() { p.kernel.Close() })
		return err
	})
	p.policies(t, p.inner)
}

// listen takes ESP in UDP that comes to a port, until the function that it returns is called.
func (p *peer) listen(t testing.TB, port int) (stop func()) {
	t.Helper()
	var fd int
	inSpace(t, p.space, func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP), unix.Bind(fd, &unix.SockaddrInet4{Port: port}))
	})
	stop = sync.OnceFunc(func() { unix.Close(fd) })
	t.Cleanup(stop)
	return stop
}

// policies sends what has a source address, and takes what is for it, by the peer's SAs.
func (p *peer) policies(t testing.TB, inner netip.Addr) {
	t.Helper()
	own, all := hostNet(inner), &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	near, far := net.IP(p.outer.AsSlice()), net.ParseIP(serverAddress).To4()
	inSpace(t, p.space, func() error {
		for _, policy := range []netlink.XfrmPolicy{
			{Dir: netlink.XFRM_DIR_OUT, Src: own, Dst: all, Tmpls: []netlink.XfrmPolicyTmpl{{Src: near, Dst: far}}},
			{Dir: netlink.XFRM_DIR_IN, Src: all, Dst: own, Tmpls: []netlink.XfrmPolicyTmpl{{Src: far, Dst: near}}},
		} {
			tmpl := &policy.Tmpls[0]
			tmpl.Proto, tmpl.Mode, tmpl.Reqid = netlink.XFRM_PROTO_ESP, netlink.XFRM_MODE_TUNNEL, int(xfrm.Tag(p.number))
			if err := netlink.XfrmPolicyUpdate(&policy); err != nil {
				return err
			}
		}
		return nil
	})
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

// connect gives the subscriber its place and a first pair of SAs.
func (w *world) connect(p *peer) {
	w.t.Helper()
	w.open(p)
	w.rekey(p)
}

func (w *world) openAccess(p *peer) subscriber.OpenAccess {
	return subscriber.OpenAccess{
		ID: subscriber.ID(p.number), Conn: p.number, Local: netip.AddrPortFrom(netip.MustParseAddr(serverAddress), p.port),
		Remote: netip.AddrPortFrom(p.outer, p.port), Terminating: w.end.router, Address: p.inner, Gateway: netip.MustParseAddr(gatewayText), MTU: 1400, Link: usualLink,
	}
}

func (w *world) open(p *peer) {
	w.t.Helper()
	w.openWith(w.openAccess(p))
}

func (w *world) openWith(f subscriber.OpenAccess) {
	w.t.Helper()
	if _, _, err := w.plane.OpenAccess(f); err != nil {
		w.t.Fatal(err)
	}
}

// disconnect takes a subscriber's SAs and its place away.
func (w *world) disconnect(p *peer) {
	w.t.Helper()
	all := []*ike.SA{p.in, p.out}
	if p == w.peers[0] {
		all = append(all, w.also...)
	}
	for _, sa := range all {
		w.remove(p, sa)
	}
	p.in, p.out = nil, nil
	_, err := w.plane.CloseAccess(subscriber.ID(p.number))
	w.check(err)
}

// rekey installs a new pair of SAs at both ends and removes the old one, in IKE's order.
func (w *world) rekey(p *peer) {
	w.t.Helper()
	key := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rand.Read(b)
		return b
	}
	local := uint16(500)
	if p.encap {
		local = 4500
	}
	pair := func(dir ike.Direction) *ike.SA {
		w.spi++
		return &ike.SA{
			Conn: ike.ConnID(p.number), Dir: dir, SPI: w.spi, Local: netip.AddrPortFrom(netip.MustParseAddr(serverAddress), local),
			Remote: netip.AddrPortFrom(p.outer, p.port), Encap: p.encap, Tunnel: true, Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, AuthBits: 96,
			EncKey: key(16), AuthKey: key(20), HardLife: time.Hour, LocalNet: anywhere, RemoteNet: p.named,
		}
	}
	oldIn, oldOut := p.in, p.out
	p.in, p.out = pair(ike.Inbound), pair(ike.Outbound)
	w.check(w.plane.InstallSA(*p.in))
	w.check(p.kernel.Add(w.mirror(p, *p.out)))
	w.check(p.kernel.Add(w.mirror(p, *p.in)))
	w.check(w.plane.InstallSA(*p.out))
	if oldIn != nil {
		time.Sleep(50 * time.Millisecond) // what is under way
		w.remove(p, oldIn)
	}
	if oldOut != nil {
		w.remove(p, oldOut)
	}
}

// remove takes an SA away at both ends.
func (w *world) remove(p *peer, sa *ike.SA) {
	w.t.Helper()
	w.check(w.plane.RemoveSA(ike.RemoveSA{Conn: sa.Conn, Dir: sa.Dir, SPI: sa.SPI, Local: sa.Local.Addr(), Remote: sa.Remote.Addr()}))
	m := w.mirror(p, *sa)
	w.check(p.kernel.Remove(m.ID()))
}

// mirror is the peer's end of an SA; it lets every inner packet pass.
func (w *world) mirror(p *peer, f ike.SA) xfrm.SA {
	w.t.Helper()
	sa, err := xfrmSA(f)
	w.check(err)
	sa.Dir, sa.Local, sa.Remote = xfrm.In+xfrm.Out-sa.Dir, sa.Remote, sa.Local
	if sa.Encap != nil {
		sa.Encap = &xfrm.Encap{LocalPort: sa.Encap.RemotePort, RemotePort: sa.Encap.LocalPort}
	}
	sa.Selector = xfrm.Selector{}
	return sa
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// ping sends n packets of size bytes, IP header included, and returns how many were answered in a second.
func ping(t testing.TB, space, from, to string, n, size int) int {
	t.Helper()
	return pingFor(t, space, from, to, n, size, time.Second)
}

// briefly is how long to wait for an answer that must not come. One that comes later is seen all the same: what must not
// arrive is counted, or has no SA to come back by.
const briefly = 200 * time.Millisecond

func pingFor(t testing.TB, space, from, to string, n, size int, wait time.Duration) (answered int) {
	t.Helper()
	e := netspace.Echo{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to), Count: n, Size: size, Interval: 20 * time.Millisecond, Wait: wait}
	inSpace(t, space, func() (err error) {
		answered, err = e.Send()
		return err
	})
	return answered
}

// pinging sends n packets of 100 bytes from a namespace, one every 10 ms, while the test goes on; the function that it
// returns waits until each has been answered, or for 2 s.
func (w *world) pinging(space, from, to string, n int) (answered func() int) {
	e := netspace.Echo{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to), Count: n, Size: 100, Interval: 10 * time.Millisecond, Wait: 2 * time.Second}
	var got int
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, err = w.spaces[space].Ping(e)
	}()
	return func() int {
		w.t.Helper()
		<-done
		w.check(err)
		return got
	}
}

// state is everything that a router of ours could leave.
func (w *world) state() string {
	w.t.Helper()
	var b strings.Builder
	for _, space := range slices.Compact([]string{w.transport.space, w.end.space}) {
		state, err := netspace.State(w.fd(space))
		w.check(err)
		fmt.Fprintf(&b, "%s:\n%s", space, state)
	}
	return b.String()
}
