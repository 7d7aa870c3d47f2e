package controlplane_test

import (
	"context"
	"crypto/rand"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/store"
	"vrgate/test/fakekernel"
	"vrgate/test/peer"
)

// world is a real Process on the kernel in memory, and clients that connect to it. It lives
// in a synctest bubble: its time is not ours, and a goroutine that is left behind fails the
// test.
type world struct {
	t      testing.TB
	kernel *fakekernel.Kernel
	p      *controlplane.Process
	logs   *observer.ObservedLogs
	stop   context.CancelFunc
	ended  chan error
	over   bool        // finish has been called
	lossy  func() bool // says of each datagram whether it is lost; nil: none is
	sites  *siteNet    // other processes; nil: there are none

	mu       sync.Mutex
	stations map[netip.Addr]*station
}

// station is one client with its goroutine.
type station struct {
	w      *world
	c      *peer.Client
	router string
	nat    netip.Addr // what a NAT in front of it makes of its address; the zero Addr without one
	in     chan func(now time.Time)
	stop   context.CancelFunc
	done   chan struct{}
}

const (
	testKey      = "the group key of these tests"
	testPassword = "the password of everybody"
)

// redAndBlue are two tenants with the same inside addresses, and one inside which has no
// clients of its own.
var redAndBlue = map[string]string{
	"vrgate.yaml":  "shutdown-timeout: 10s\nworkers: {dh: 2, kernel: 4}\n",
	"vr/blue.yaml": routerYAML("blue", "192.0.2.2"),
	"vr/red.yaml":  routerYAML("red", "192.0.2.1"),
}

func routerYAML(name, server string) string {
	return strings.NewReplacer("NAME", name, "SERVER", server, "ROAD", roadServer(netip.MustParseAddr(server)).String(), "KEY", testKey, "PASSWORD", testPassword).Replace(`
namespace: {name: NAME}
server-addresses: [SERVER, ROAD]
ipsec:
  dead-peer-detection: {enabled: true}
  tunnel-profiles:
    - name: road
      local-address: ROAD
      keys: [{name: everybody, key: KEY}]
      attempts: 1
      max-subscribers: 20
      networks: [10.0.0.0/8]
  transport-profiles:
    - name: clients
      local-addresses:
        - address: SERVER
          group-keys: [{name: everybody, key: KEY}]
l2tp:
  destination-profiles:
    - name: anybody
      host-profiles: [{remote-host: default}]
ip-profiles:
  - name: users
    unnumbered-address: 10.0.0.1
pools:
  - name: main
    ranges: [10.0.0.0/24]
users:
  - {name: alice, password: PASSWORD, address: 10.0.0.77}
  - {name: bob, password: PASSWORD}
  - {name: carol, password: PASSWORD}
  - {name: dave, password: PASSWORD, session-timeout: 600s}
  - {name: erin, password: PASSWORD, idle-timeout: 300s}
`)
}

// roadServer is the address that a virtual router has for dynamic subscribers alone (J18).
func roadServer(server netip.Addr) netip.Addr {
	b := server.As4()
	b[3] += 10
	return netip.AddrFrom4(b)
}

// byXAuth makes a dynamic subscriber of a client.
func byXAuth(c *peer.Config) { c.XAuth, c.Server = true, roadServer(c.Server) }

// loadConfig writes files and loads them.
func loadConfig(t testing.TB, files map[string]string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, _, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// openStore makes an empty store.
func openStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// newWorld starts a Process; fail lists the kernel calls that fail.
func newWorld(t testing.TB, cfg *config.Config, fail ...int) *world {
	t.Helper()
	return newWorldWith(t, openStore(t), cfg, fail...)
}

// newWorldWith is newWorld with what an earlier run has left in the store.
func newWorldWith(t testing.TB, st *store.Store, cfg *config.Config, fail ...int) *world {
	t.Helper()
	return startWorld(t, st, cfg, false, fail...)
}

// startWorld is newWorldWith; online it has the network of this machine, which is for tests in real time.
func startWorld(t testing.TB, st *store.Store, cfg *config.Config, online bool, fail ...int) *world {
	t.Helper()
	w := &world{t: t, stations: map[netip.Addr]*station{}}
	w.start(st, cfg, online, fail...)
	return w
}

// start starts the process.
func (w *world) start(st *store.Store, cfg *config.Config, online bool, fail ...int) {
	w.t.Helper()
	t := w.t
	core, logs := observer.New(zapcore.DebugLevel)
	w.logs, w.ended, w.over = logs, make(chan error, 1), false
	w.kernel = fakekernel.New(w)
	if w.sites != nil {
		w.sites.place(w.kernel, cfg)
	}
	if !online {
		w.kernel.Offline()
	}
	for _, n := range fail {
		w.kernel.Fail(n)
	}
	var err error
	if w.p, err = controlplane.New(cfg, w.kernel, st, zap.New(core)); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { // after a fatal failure
		if !w.over {
			_ = w.finish()
		}
	})
	ready := make(chan struct{})
	go func() { w.ended <- w.p.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-w.ended: // nothing could be opened
		w.ended <- err
	}
}

// finish stops the process and the clients, and returns what Run returned.
func (w *world) finish() error {
	w.t.Helper()
	w.over = true
	began := time.Now()
	w.stop()
	err := <-w.ended
	if d := time.Since(began); d > 11*time.Second {
		w.t.Errorf("the end took %v, more than the configured time and a second", d)
	}
	for _, s := range w.stations {
		s.stop()
		<-s.done
	}
	if got := w.kernel.String(); got != "" {
		w.t.Errorf("left in the kernel after the end:\n%s", got)
	}
	return err
}

// SendIKE implements [fakekernel.Wire].
func (w *world) SendIKE(_ string, f ike.Send) {
	if s := w.station(f.Remote.Addr()); s != nil && !w.loses() {
		inside := netip.AddrPortFrom(s.c.Addr, f.Remote.Port())
		s.post(func(now time.Time) { s.c.IKE(now, inside, f.Local, f.Marker, f.Data) })
	} else if s == nil && w.sites != nil {
		w.sites.ike(f)
	}
}

// SendESP implements [fakekernel.Wire].
func (w *world) SendESP(_ string, sa ike.SA, data []byte) {
	if s := w.station(sa.Remote.Addr()); s != nil && !w.loses() {
		s.post(func(now time.Time) { s.c.ESP(now, sa.SPI, data) })
	}
}

func (w *world) loses() bool { return w.lossy != nil && w.lossy() }

func (w *world) station(a netip.Addr) *station {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stations[a]
}

// connect lets a client connect from an address to a virtual router; change may spoil it.
func (w *world) connect(router, user, addr string, change func(*peer.Config)) *station {
	w.t.Helper()
	return w.connectThrough(netip.Addr{}, router, user, addr, change)
}

// connectThrough is connect from behind a NAT with an address of its own, which keeps ports.
func (w *world) connectThrough(nat netip.Addr, router, user, addr string, change func(*peer.Config)) *station {
	w.t.Helper()
	cfg := peer.Config{
		User: user, Password: keymat.Secret(testPassword), Key: keymat.Secret(testKey), Addr: netip.MustParseAddr(addr),
		Server: map[string]netip.Addr{"red": netip.MustParseAddr("192.0.2.1"), "blue": netip.MustParseAddr("192.0.2.2")}[router],
	}
	if change != nil {
		change(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &station{w: w, router: router, nat: nat, in: make(chan func(time.Time), 1024), stop: stop, done: make(chan struct{})}
	s.c = peer.New(cfg, rand.Reader, s)
	outside := cfg.Addr
	if nat.IsValid() {
		outside = nat
	}
	w.mu.Lock()
	w.stations[outside] = s
	w.mu.Unlock()
	go s.run(ctx)
	s.post(s.c.Connect)
	return s
}

// run owns the client.
func (s *station) run(ctx context.Context) {
	defer close(s.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case act := <-s.in:
			act(time.Now())
		case <-timer.C:
			s.c.Tick(time.Now())
		}
		wait := time.Hour
		if d := s.c.Deadline(); !d.IsZero() {
			wait = max(time.Until(d), 0)
		}
		timer.Reset(wait)
	}
}

// post drops what comes too fast, as a socket does.
func (s *station) post(act func(now time.Time)) {
	select {
	case s.in <- act:
	default:
	}
}

// SendIKE implements [peer.Network].
func (s *station) SendIKE(f ike.Send) {
	from := f.Local
	if s.nat.IsValid() {
		from = netip.AddrPortFrom(s.nat, from.Port())
	}
	if !s.w.loses() {
		s.w.kernel.ReceiveIKE(s.router, f.Remote, from, f.Marker, f.Data)
	}
}

// SendESP implements [peer.Network].
func (s *station) SendESP(spi uint32, data []byte) {
	if !s.w.loses() {
		s.w.kernel.ReceiveESP(s.router, spi, data)
	}
}

// state returns the client's address and failure.
func (s *station) state() (address netip.Addr, failed string) {
	done := make(chan struct{})
	s.in <- func(time.Time) { address, failed = s.c.Address, s.c.Failed; close(done) }
	select {
	case <-done:
	case <-s.done:
	}
	return address, failed
}

// settle waits, at most for limit, until the client is up or has given up.
func (s *station) settle(limit time.Duration) (netip.Addr, string) {
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		a, failed := s.state()
		if a.IsValid() || failed != "" || time.Now().After(end) {
			return a, failed
		}
	}
}

// assertUp waits until the client is up.
func (s *station) assertUp() netip.Addr {
	s.w.t.Helper()
	a, failed := s.settle(30 * time.Second)
	if !a.IsValid() {
		s.w.t.Fatalf("%s is not up: %q; kernel:\n%s", s.c.User, failed, s.w.kernel)
	}
	time.Sleep(time.Second) // the interface is made ready while IPCP's last message travels
	return a
}

// hangUp lets the client end politely.
func (s *station) hangUp() { s.post(s.c.HangUp) }

// assertKernel compares the kernel's text with want, lines without their indentation.
func (w *world) assertKernel(want string) {
	w.t.Helper()
	trim := func(s string) string {
		var out []string
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); line != "" {
				out = append(out, line)
			}
		}
		return strings.Join(out, "\n")
	}
	if got, want := trim(w.kernel.String()), trim(want); got != want {
		w.t.Errorf("kernel:\n%s\n\nwant:\n%s", got, want)
	}
}

// endings returns the reasons of the summary lines so far, as "user: reason".
func (w *world) endings() []string {
	var out []string
	for _, e := range w.logs.FilterMessage("subscriber ended").All() {
		m := e.ContextMap()
		out = append(out, m["user"].(string)+": "+m["reason"].(string))
	}
	return out
}

// zapReason is the field with which a typed reason is logged.
func zapReason(reason string) zap.Field { return zap.String("reason", reason) }
