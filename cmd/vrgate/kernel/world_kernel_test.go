//go:build kernel

package kernel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
	"vrgate/xfrm"
)

// The world of the data path tests. The peers' SAs and policies are made by hand: there is no IKE.
//
//	peer 1  198.51.1.2 --- 198.51.1.1  transport router            terminating router  10.1.0.1 --- 10.1.0.2  intranet
//	peer 2  198.51.2.2 --- 198.51.2.1  server 192.0.2.1            gateway 10.9.0.1
//
// The routers are one and the same, or two in one namespace, or in two.
type world struct {
	t          testing.TB
	transport  routerPlace
	end        routerPlace
	kernel     *Kernel
	cfg        *config.Config
	plane      controlplane.Dataplane // of the transport router
	other      controlplane.Dataplane // of the terminating router when it is another one
	peers      [2]*peer
	intranet   string
	sniffed    *sniffer
	events     *events
	spi        uint32
	members    int // of the crowd
	namespaces []string
	also       []*ike.SA   // of the first peer, beside its pair
	limits     aaa.Traffic // of the crowd
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

func (w *world) space(role string) string {
	name := fmt.Sprintf("vra%d%s", os.Getpid(), role)
	for _, have := range w.namespaces {
		if have == name {
			return name
		}
	}
	run(w.t, "ip", "netns", "add", name)
	w.t.Cleanup(func() { run(w.t, "ip", "netns", "del", name) })
	w.namespaces = append(w.namespaces, name)
	batch(w.t, name, "link set lo up\n")
	return name
}

// newWorld builds the links and opens the routers, whose configuration edit may change.
func newWorld(t testing.TB, transport, end routerPlace, edit ...func(*config.Router)) *world {
	t.Helper()
	w := &world{t: t, transport: transport, end: end, spi: 0x1000, events: &events{lost: map[subscriber.ID]int{}, expired: map[uint32]bool{}}}
	for _, p := range []*routerPlace{&w.transport, &w.end} {
		p.space = w.space(p.space)
		if p.vrf != "" && !strings.Contains(run(t, "ip", "-n", p.space, "-br", "link"), p.vrf) {
			batch(t, p.space, fmt.Sprintf("link add %s type vrf table %d\nlink set %s up\n", p.vrf, p.table, p.vrf))
		}
	}
	master := func(p routerPlace, dev string) string {
		if p.vrf == "" {
			return ""
		}
		return fmt.Sprintf("link set %s master %s\n", dev, p.vrf)
	}
	batch(t, w.transport.space, "link add ext type dummy\n"+master(w.transport, "ext")+"link set ext up\naddress add "+serverAddress+"/32 dev ext\n")
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
		batch(t, w.transport.space, fmt.Sprintf("link add %s type veth peer name ext netns %s\n%slink set %s up\naddress add 198.51.%d.1/24 dev %s\n",
			p.dev, p.space, master(w.transport, p.dev), p.dev, i+1, p.dev))
		batch(t, p.space, fmt.Sprintf("link set ext up\naddress add %v/24 dev ext\naddress add %v/32 dev lo\nroute add default via 198.51.%d.1\n", p.outer, p.inner, i+1))
		p.open(t)
	}
	w.intranet = w.space("i")
	batch(t, w.end.space, "link add in type veth peer name in netns "+w.intranet+"\n"+master(w.end, "in")+"link set in up\naddress add 10.1.0.1/24 dev in\n")
	batch(t, w.intranet, "link set in up\naddress add "+intranetText+"/24 dev in\nroute add default via 10.1.0.1\n")

	router := func(p routerPlace) *config.Router {
		return &config.Router{
			Name: p.router, Namespace: config.Namespace{Name: p.space}, VRF: config.VRF{Device: p.vrf, Table: p.table},
			SourceValidation: true, MSSClamp: true,
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
	reqid := fmt.Sprint(xfrm.Tag(p.number))
	for _, dir := range []string{"in", "out"} {
		src, dst, from, to := fmt.Sprint(inner, "/32"), "0.0.0.0/0", p.outer.String(), serverAddress
		if dir == "in" {
			src, dst, from, to = dst, src, to, from
		}
		run(t, "ip", "-n", p.space, "xfrm", "policy", "update", "dir", dir, "src", src, "dst", dst,
			"tmpl", "src", from, "dst", to, "proto", "esp", "mode", "tunnel", "reqid", reqid)
	}
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
		Remote: netip.AddrPortFrom(p.outer, p.port), Terminating: w.end.router, Address: p.inner, Gateway: netip.MustParseAddr(gatewayText), MTU: 1400,
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

// ping sends n packets of size bytes, IP header included, and returns how many were answered.
func ping(t testing.TB, space, from, to string, n, size int, more ...string) int {
	t.Helper()
	args := append([]string{"netns", "exec", space, "ping", "-n", "-q", "-i", "0.02", "-W", "1", "-c", fmt.Sprint(n), "-s", fmt.Sprint(size - 28), "-I", from}, more...)
	out, err := command("ip", append(args, to)...)
	var answered int
	for _, line := range strings.Split(out, "\n") {
		if _, rest, ok := strings.Cut(line, "packets transmitted, "); ok {
			if _, e := fmt.Sscan(rest, &answered); e != nil {
				t.Fatal(e)
			}
			return answered
		}
	}
	t.Fatalf("ping %s: %v\n%s", to, err, out)
	return 0
}

// state is everything that a router of ours could leave.
func (w *world) state() string {
	var b strings.Builder
	for _, space := range w.namespaces {
		if space == w.transport.space || space == w.end.space {
			fmt.Fprintf(&b, "%s:\n", space)
			for _, what := range []string{"ip -o -br link", "ip -4 -o address", "ip -4 route show table all", "ip xfrm policy", "ip xfrm state"} {
				b.WriteString(run(w.t, "ip", append([]string{"netns", "exec", space}, strings.Fields(what)...)...))
			}
			b.WriteString(run(w.t, "ip", "netns", "exec", space, "nft", "list", "tables"))
		}
	}
	return b.String()
}
