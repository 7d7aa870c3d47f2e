//go:build kernel

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/daemon"
	"vrgate/test/topo"
)

// What most scenarios share.
const (
	psk      = "an old but long group secret"
	password = "correct horse"
)

var (
	intranetNet  = netip.MustParsePrefix("10.1.0.0/24")
	intranetHost = netip.MustParseAddr("10.1.0.2")
)

// world is a network with a server namespace, an intranet behind it, and vrgate to serve it.
type world struct {
	*topo.Net
	t        *testing.T
	ctx      context.Context
	daemon   *daemon.Daemon
	server   *topo.Namespace
	address  netip.Addr // the server's, outside
	intranet *topo.Host
}

// in is the same world in a subtest.
func (w *world) in(t *testing.T) *world {
	sub := *w
	sub.t = t
	return &sub
}

// testLimit ends a test that hangs.
const testLimit = 15 * time.Minute

// newNet makes an empty network that is checked for leftovers at the end.
func newNet(t *testing.T) *world {
	t.Helper()
	if err := topo.Probe(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	n, err := topo.New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Net: n, t: t, ctx: ctx}
	t.Cleanup(func() {
		if t.Failed() && w.daemon != nil {
			metrics, err := w.daemon.Metrics(context.Background())
			t.Logf("vrgate:\n%s%s%v", w.daemon.Log(), metrics, err)
		}
		if w.daemon != nil {
			if err := w.daemon.Kill(); err != nil {
				t.Error(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		cancel()
	})
	return w
}

// newWorld makes the usual network: one virtual router that is a namespace.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := newNet(t)
	server, uplink, err := w.Server(w.ctx, "srv")
	w.check(err)
	w.server, w.address = server, uplink.Address
	w.intranet, err = w.AddIntranet(w.ctx, w.server, topo.Intranet{
		Interface: "lan0", Gateway: netip.PrefixFrom(netip.MustParseAddr("10.1.0.1"), 24), Host: intranetHost,
	})
	w.check(err)
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// vrConfig is the YAML of a virtual router; the zero fields take what scenarios share.
type vrConfig struct {
	Namespace string
	VRF       string // "device: red, table: 10"
	Address   netip.Addr
	More      []netip.Addr // further server addresses
	Extra     string       // further top-level keys
	Transport string       // further keys of the transport profile
	IPsec     string       // further keys under ipsec
	L2TP      string       // further keys under l2tp
	Keys      []string     // group keys, instead of the usual one, as flow mappings
	PPP       string
	Host      string   // further keys of the host profile
	Hosts     []string // further host profiles, as flow mappings
	Limit     int      // of sessions of the destination profile
	Profile   string   // further keys of the IP profile
	Profiles  []string // further IP profiles, as flow mappings
	Users     string
	NoPool    bool
	Pool      string
}

func (c vrConfig) yaml() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if c.Namespace != "" {
		line("namespace: {name: %s}", c.Namespace)
	}
	if c.VRF != "" {
		line("vrf: {%s}", c.VRF)
	}
	if c.Address.IsValid() {
		line("server-addresses: [%s]", join(append([]netip.Addr{c.Address}, c.More...)))
		line("ipsec:\n  transport-profiles:\n    - name: l2tp\n      local-addresses:\n        - address: %v\n          group-keys: [%s]", c.Address, cmp.Or(strings.Join(c.Keys, ", "), groupKey("office", psk, "")))
		if c.Transport != "" {
			line("      %s", c.Transport)
		}
		if c.IPsec != "" {
			line("%s", indent(c.IPsec))
		}
		line("l2tp:\n  hello-interval: 5s\n  destination-profiles:\n    - name: any\n      max-sessions: %d\n      host-profiles:\n        - remote-host: default", c.Limit)
		if c.Host != "" {
			line("          %s", c.Host)
		}
		for _, h := range c.Hosts {
			line("        - %s", h)
		}
		if c.L2TP != "" {
			line("%s", indent(c.L2TP))
		}
		line("ip-profiles:\n  - name: users\n    unnumbered-address: 10.9.0.1\n    dns: [10.1.0.53]")
		if c.Profile != "" {
			line("    %s", c.Profile)
		}
		for _, p := range c.Profiles {
			line("  - %s", p)
		}
		if c.Users == "" {
			line("users:")
			for i := range 16 {
				line("  - {name: user%d, password: %q}", i, password)
			}
		} else {
			line("users:\n%s", c.Users)
		}
	}
	if c.PPP != "" {
		line("ppp:\n%s", indent(c.PPP))
	}
	if !c.NoPool {
		pool := c.Pool
		if pool == "" {
			pool = "10.9.0.10-10.9.0.99"
		}
		line("pools: [{name: main, ranges: [%s]}]", pool)
	}
	if c.Extra != "" {
		line("%s", c.Extra)
	}
	return b.String()
}

// groupKey is a group key's flow mapping; more are further keys of it, such as "valid-until: 2030-01-01T00:00:00Z".
func groupKey(name, key, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf("{name: %s, key: %q%s}", name, key, more)
}

func join(list []netip.Addr) string {
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// run starts vrgate with these virtual routers. more are further keys of the process.
func (w *world) run(routers map[string]string, more ...string) {
	w.t.Helper()
	d, err := daemon.New(filepath.Join(w.Dir(), "vrgate"), routers)
	w.check(err)
	w.daemon = d
	w.check(d.WriteProcess(strings.Join(more, "")))
	w.check(d.Start(w.ctx))
}

// runOne starts vrgate with the one virtual router "office" in the server's namespace.
func (w *world) runOne(c vrConfig) {
	w.t.Helper()
	c.Namespace, c.Address = w.server.Name(), w.address
	w.run(map[string]string{"office": c.yaml()})
}

// take has vrgate take over another configuration of its one virtual router, and returns what it says.
func (w *world) take(c vrConfig) string {
	w.t.Helper()
	c.Namespace, c.Address = w.server.Name(), w.address
	w.check(w.daemon.WriteRouter("office", c.yaml()))
	out, err := w.daemon.Run(w.ctx, "reload")
	w.check(err)
	return out
}

// client makes a client on a host of its own, behind nat or direct.
func (w *world) client(nat *topo.NAT, user string, change ...func(*topo.ClientConfig)) *topo.Client {
	w.t.Helper()
	host, err := w.AddHost(w.ctx, nat)
	w.check(err)
	c := topo.ClientConfig{
		Host: host, Server: w.address, PSK: psk, User: user, Password: password,
		Routes: []netip.Prefix{intranetNet},
	}
	for _, f := range change {
		f(&c)
	}
	made, err := w.NewClient(c)
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("client %s:\n%s", user, made.Logs())
		}
		made.Close()
	})
	return made
}

func (w *world) connect(c *topo.Client) topo.Session {
	w.t.Helper()
	start := time.Now()
	s, err := c.Connect(w.ctx)
	w.check(err)
	w.t.Logf("connected in %.1f s: %+v", time.Since(start).Seconds(), s)
	return s
}

// peer is a client of any kind.
type peer interface {
	Host() *topo.Host
	Ping(context.Context, netip.Addr, topo.PingOptions) (topo.PingResult, error)
}

func (w *world) ping(c peer, o topo.PingOptions) {
	w.t.Helper()
	r, err := c.Ping(w.ctx, intranetHost, o)
	w.check(err)
	if r.Lost() > 0 {
		w.t.Fatalf("%d of %d packets lost", r.Lost(), r.Sent)
	}
}

// connectAll connects clients side by side.
func (w *world) connectAll(clients ...*topo.Client) {
	w.t.Helper()
	each(w, clients, func(c *topo.Client) error { _, err := c.Connect(w.ctx); return err })
}

// pingAll pings from all clients at once, so that a packet delivered to the wrong one shows as lost.
func pingAll[C peer](w *world, clients ...C) {
	w.t.Helper()
	each(w, clients, func(c C) error {
		r, err := c.Ping(w.ctx, intranetHost, topo.PingOptions{Count: 5})
		if err == nil && r.Lost() > 0 {
			w.t.Errorf("%s: %d of %d packets lost", c.Host().Address, r.Lost(), r.Sent)
		}
		return err
	})
}

// sideBySide runs what start gives it as subtests at once, and waits for them. With t.Parallel each would wait for its turn behind
// all tests of the package that have not begun, and the world of its test would stay for as long, with all that runs in it.
func sideBySide(t *testing.T, start func(run func(name string, test func(*testing.T)))) {
	t.Helper()
	var all sync.WaitGroup
	start(func(name string, test func(*testing.T)) { all.Go(func() { t.Run(name, test) }) })
	all.Wait()
}

// each does something with all clients at once.
func each[C any](w *world, clients []C, do func(C) error) {
	w.t.Helper()
	errs := make([]error, len(clients))
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() { errs[i] = do(c) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			w.t.Fatalf("client %d: %v", i, err)
		}
	}
}

// subscribers returns what vrgate shows.
func (w *world) subscribers() []api.Subscriber {
	w.t.Helper()
	list, err := w.daemon.API().Subscribers(w.ctx, api.Filter{})
	w.check(err)
	return list
}

// metric returns the sum of the counters with this reason.
func (w *world) metric(reason string) (sum float64) {
	w.t.Helper()
	text, err := w.daemon.Metrics(w.ctx)
	w.check(err)
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); strings.Contains(line, `reason="`+reason+`"`) && len(fields) == 2 {
			n, err := strconv.ParseFloat(fields[1], 64)
			w.check(err)
			sum += n
		}
	}
	return sum
}

// logLine finds the log line with this message and field values.
func (w *world) logLine(msg string, fields map[string]string) map[string]any {
	for line := range strings.Lines(w.daemon.Log()) {
		var got map[string]any
		if !strings.Contains(line, msg) || json.Unmarshal([]byte(line), &got) != nil || got["msg"] != msg {
			continue
		}
		match := true
		for k, v := range fields {
			match = match && fmt.Sprint(got[k]) == v
		}
		if match {
			return got
		}
	}
	return nil
}

// patience is how long something may take that has to happen. It is no measure of anything: an
// emulated machine beside another one on a busy host is slower than any that serves.
const patience = 2 * time.Minute

// lookFirst and lookLast are how often eventually looks: an eighth of the time that it has waited already, within these limits.
// To look at the kernel, the log or the API is work for an emulated machine, for which other tests wait.
const (
	lookFirst = 100 * time.Millisecond
	lookLast  = 500 * time.Millisecond
)

// eventually waits until ok says yes.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(min(max(time.Since(start)/8, lookFirst), lookLast)) {
		if time.Since(start) > patience {
			w.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
