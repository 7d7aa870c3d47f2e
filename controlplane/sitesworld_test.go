package controlplane_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
	"vrgate/test/fakekernel"
)

// siteNet joins processes by what they send to each other's server addresses.
type siteNet struct {
	t testing.TB

	mu    sync.Mutex
	ends  map[netip.Addr]siteEnd
	rng   *rand.Rand
	loss  float64                               // of all datagrams and ESP packets
	deaf  map[netip.Addr]bool                   // addresses to and from which nothing passes
	inner func(fakekernel.Packet) (passes bool) // looks at what passes tunnels; nil: all does
}

type siteEnd struct {
	kernel *fakekernel.Kernel
	router string
}

func newSiteNet(t testing.TB) *siteNet {
	return &siteNet{t: t, ends: map[netip.Addr]siteEnd{}, rng: rand.New(rand.NewPCG(1, 2)), deaf: map[netip.Addr]bool{}}
}

// node starts a process that takes part; fail lists the kernel calls that fail.
func (n *siteNet) node(files map[string]string, fail ...int) *world {
	n.t.Helper()
	w := &world{t: n.t, stations: map[netip.Addr]*station{}, sites: n}
	n.restart(w, files, fail...)
	return w
}

// restart starts a process again that has ended.
func (n *siteNet) restart(w *world, files map[string]string, fail ...int) {
	n.t.Helper()
	w.start(openStore(n.t), loadConfig(n.t, files), false, fail...)
}

// place gives the server addresses of a configuration to a process.
func (n *siteNet) place(kernel *fakekernel.Kernel, cfg *config.Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range cfg.Routers {
		for _, a := range r.ServerAddresses {
			n.ends[a] = siteEnd{kernel, r.Name}
		}
	}
}

// pass says whether something gets from one address to another, and where that is.
func (n *siteNet) pass(from, to netip.Addr) (siteEnd, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, ok := n.ends[to]
	return e, ok && !n.deaf[from] && !n.deaf[to] && n.rng.Float64() >= n.loss
}

// set changes what the network does.
func (n *siteNet) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *siteNet) ike(f ike.Send) {
	if e, ok := n.pass(f.Local.Addr(), f.Remote.Addr()); ok {
		e.kernel.ReceiveIKE(e.router, f.Remote, f.Local, f.Marker, f.Data)
	}
}

// SendInner implements [fakekernel.InnerWire].
func (w *world) SendInner(_ string, sa ike.SA, p fakekernel.Packet) {
	if w.sites == nil {
		return
	}
	e, ok := w.sites.pass(sa.Local.Addr(), sa.Remote.Addr())
	if ok && (w.sites.inner == nil || w.sites.inner(p)) {
		e.kernel.ReceiveInner(e.router, sa.SPI, p)
	}
}

// Sites of most tests: the networks 10.1.0.0/16 and 10.2.0.0/16 behind two gateways.
const (
	westServer, eastServer, backupServer = "192.0.2.1", "203.0.113.1", "203.0.113.2"
	westHost, eastHost                   = "10.1.0.10", "10.2.0.10"
)

// siteFiles are the files of one virtual router of that name with static tunnels.
func siteFiles(name, server string, tunnels ...string) map[string]string {
	text := "namespace: {name: " + name + "}\nserver-addresses: [" + server + "]\nstatic-tunnels:\n" + strings.Join(tunnels, "")
	return map[string]string{"vrgate.yaml": "shutdown-timeout: 10s\nworkers: {dh: 2, kernel: 4}\n", "vr/" + name + ".yaml": text}
}

// hqTunnel is the tunnel of west or east to the other; more are further keys of it.
func hqTunnel(local, remote int, peers string, more ...string) string {
	return fmt.Sprintf("  - name: hq\n    peers: [%s]\n    networks: [{name: lan, local: 10.%d.0.0/16, remote: 10.%d.0.0/16}]\n    pre-shared-key: {key: %s}\n",
		peers, local, remote, testKey) + indented(more)
}

func indented(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("    " + l + "\n")
	}
	return b.String()
}

func westFiles(more ...string) map[string]string {
	return siteFiles("west", westServer, hqTunnel(1, 2, eastServer, more...))
}

func eastFiles(more ...string) map[string]string {
	return siteFiles("east", eastServer, hqTunnel(2, 1, westServer, more...))
}

// twoSites starts both, with a host behind each.
func twoSites(t testing.TB, west, east map[string]string) (n *siteNet, w, e *world) {
	t.Helper()
	n = newSiteNet(t)
	e = n.node(east)
	w = n.node(west)
	w.kernel.AddHost("west", netip.MustParseAddr(westHost))
	e.kernel.AddHost("east", netip.MustParseAddr(eastHost))
	return n, w, e
}

// state is what a tunnel is doing and why.
func (w *world) state(router, tunnel string) string {
	i := w.p.Tunnel(router, tunnel)
	if i.Reason == "" {
		return i.State.String()
	}
	return i.State.String() + ": " + string(i.Reason)
}

// assertState waits for a state, at most for limit.
func (w *world) assertState(router, tunnel, want string, limit time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		got := w.state(router, tunnel)
		if got == want {
			time.Sleep(time.Millisecond) // until nobody has anything to do any more
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s of %s is %s, want %s; kernel:\n%s\nlog:\n%s", tunnel, router, got, want, w.kernel, w.words())
		}
	}
}

// ping sends an echo request from a host and says what has become of it: "answered", "lost" or its fate.
func (w *world) ping(router, from, to string) string {
	p := fakekernel.Packet{Source: netip.MustParseAddr(from), Destination: netip.MustParseAddr(to), Protocol: fakekernel.ICMP, Text: "ping " + time.Now().String()}
	w.kernel.Received(router)
	if fate := w.kernel.Send(router, p); fate != fakekernel.Sent {
		return string(fate)
	}
	for _, got := range w.kernel.Received(router) {
		if got.Text == "re: "+p.Text {
			return "answered"
		}
	}
	return "lost"
}

// assertPing has packets pass both ways.
func assertPing(t testing.TB, w, e *world) {
	t.Helper()
	if got := w.ping("west", westHost, eastHost); got != "answered" {
		t.Errorf("from west: %s\n%s\n%s", got, w.kernel, e.kernel)
	}
	if got := e.ping("east", eastHost, westHost); got != "answered" {
		t.Errorf("from east: %s\n%s\n%s", got, w.kernel, e.kernel)
	}
}

// assertLeft looks that a virtual router keeps nothing of what is over.
func (w *world) assertLeft(router string, conns int) {
	w.t.Helper()
	if c, d, k := w.p.SiteLeft(router); c != conns || d != 0 || k != conns {
		w.t.Errorf("%s keeps %d connections, %d dials, %d keys, want %d, 0, %[5]d; log:\n%s", router, c, d, k, conns, w.words())
	}
}

// finishSites ends processes, of which each is told that the others go.
func finishSites(t testing.TB, worlds ...*world) {
	t.Helper()
	for _, w := range worlds {
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	}
}

// say says a word of an operator.
func (w *world) say(router, tunnel string, word site.Command) {
	w.t.Helper()
	if r := w.p.Tell(router, tunnel, word); r != "" {
		w.t.Errorf("%v is refused: %s", word, r)
	}
}

// words are the log lines, for a failed test.
func (w *world) words() string {
	var b strings.Builder
	for _, e := range w.logs.All() {
		fmt.Fprintf(&b, "%s %s %v\n", e.Time.Format("15:04:05.000"), e.Message, e.ContextMap())
	}
	return b.String()
}
