//go:build kernel

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/api"
	"vrgate/controlplane/l2tp"
	"vrgate/test/loadgen"
	"vrgate/test/topo"
)

// carrierSecret is the tunnel password of LACs that have one.
const carrierSecret = "the provider's tunnel secret"

// carrierSize is how many sessions the big carrier has in its one tunnel: a thousand. Under emulation each costs a tenth of a
// second of two processors, most of it for its interface to come and go, so that they are fewer under the older kernel, which
// has been seen to have no trouble with a thousand either.
func carrierSize(t *testing.T) int {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(unix.ByteSliceToString(name.Release[:]), "6.1.") {
		return 150
	}
	return 1000
}

// billed are the first users of a carrier, whom FreeRADIUS knows; all others are local ones.
const billed = 3

func lineUser(i int) string {
	if i < billed {
		return fmt.Sprintf("line%d@billed.example", i)
	}
	return fmt.Sprintf("line%d@flat.example", i)
}

// callInfo is what a carrier's LAC says about the call of a user.
func callInfo(i int) l2tp.CallInfo {
	return l2tp.CallInfo{CallingNumber: fmt.Sprintf("49302%05d", i), CalledNumber: "01920781", TxSpeed: 16_000_000, RxSpeed: 1_000_000}
}

// lac is a scripted LAC of a provider on a machine of its own: plain L2TP, all users in one tunnel.
type lac struct {
	w    *world
	host *topo.Host
	*loadgen.Generator
}

// carrier makes a LAC that calls the server's address, on a machine of its own; nobody calls yet.
func (w *world) carrier(server netip.Addr, k loadgen.Carrier) *lac {
	w.t.Helper()
	host, err := w.AddHost(w.ctx, nil)
	w.check(err)
	return w.carrierOn(host, server, k)
}

// carrierOn is carrier on this machine.
func (w *world) carrierOn(host *topo.Host, server netip.Addr, k loadgen.Carrier) *lac {
	w.t.Helper()
	if !k.Local.IsValid() {
		k.Local = host.Address
	}
	k.Info = callInfo
	g, err := loadgen.New(loadgen.Config{Do: host.Namespace.Do, Server: server, User: lineUser, Password: password, Carrier: &k})
	w.check(err)
	w.t.Cleanup(func() { _ = g.Close() })
	return &lac{w, host, g}
}

// eachSession is how much longer than patience many sessions may take for each of them, since those of one tunnel come up one
// after the other: twice as long as under emulation on a machine that does nothing else.
const eachSession = 200 * time.Millisecond

// connect has n more users of the LAC connect, all of whom have to come up.
func (l *lac) connect(n, window int) {
	l.w.t.Helper()
	ctx, cancel := context.WithTimeout(l.w.ctx, patience+time.Duration(n)*eachSession)
	defer cancel()
	r, err := l.Connect(ctx, n, window)
	if l.w.check(err); r.Up < n {
		l.w.t.Fatalf("%d of %d sessions came up: %v", r.Up, n, r.Failed)
	}
	l.w.t.Logf("%d sessions in %.1f s, the median after %v", n, r.Took.Seconds(), r.Latency[n/2].Round(time.Millisecond))
}

// while has the LAC answer while do runs.
func (l *lac) while(do func()) {
	l.w.t.Helper()
	ctx, cancel := context.WithCancel(l.w.ctx)
	var all sync.WaitGroup
	all.Go(func() { _ = l.Serve(ctx, testLimit) }) // until the context ends
	do()
	cancel()
	all.Wait()
}

// pinged has all sessions of the LAC ping the intranet, of which there are n.
func (l *lac) pinged(n int) {
	l.w.t.Helper()
	ctx, cancel := context.WithTimeout(l.w.ctx, patience)
	defer cancel()
	answered, err := l.Ping(ctx, intranetHost)
	if l.w.check(err); answered != n {
		l.w.t.Errorf("%d of %d sessions have been answered", answered, n)
	}
}

// sessions returns the L2TP sessions that are no mere records.
func (w *world) sessions() []api.L2TPSession {
	w.t.Helper()
	list, err := w.daemon.API().L2TPSessions(w.ctx, api.Filter{})
	w.check(err)
	return slices.DeleteFunc(list, func(s api.L2TPSession) bool { return s.State != "established" })
}

// carrierUsers is the YAML of n users of a carrier.
func carrierUsers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\n  - {name: %s, password: %q}", lineUser(i), password)
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// carrierKeys has FreeRADIUS decide, and be told, about some users. With a second group none is everybody's.
var carrierKeys = fmt.Sprintf(`radius:
  servers: [{name: one, address: %v, secret: %q, timeout: 10s, retransmissions: 4, dead-time: 1s, status-server: true}]
  groups: [{name: billing, servers: [one]}, {name: others, servers: [one]}]
aaa:
  methods: [local]
  domain-maps: [{domain: billed.example, methods: [radius], authentication-group: billing, accounting-group: billing}]
`, intranetHost, radiusSecret)

// TestCarrier is a provider's LAC with as many as a thousand sessions in one tunnel without IPsec. Each of them comes up and carries
// traffic; what the LAC says of a call is shown, and reaches FreeRADIUS. When they have gone nothing is left in the kernel.
func TestCarrier(t *testing.T) {
	t.Parallel()
	w, size := newWorld(t), carrierSize(t)
	free := w.freeRADIUS(topo.FreeRADIUSConfig{Users: "DEFAULT Cleartext-Password := \"" + password + "\"\n"})
	w.runOne(vrConfig{
		Hosts: []string{"{remote-host: big, ipsec-required: false}"}, L2TP: "idle-timeout: 2s",
		Users: carrierUsers(size), Extra: carrierKeys, Pool: "10.9.0.10-10.9.15.250",
	})
	before := w.kernelState()
	k := w.carrier(w.address, loadgen.Carrier{HostName: "big"})
	k.connect(billed, 1)
	k.connect(size-billed, 16)
	start := time.Now()
	k.pinged(size)
	t.Logf("pinged in %.1f s", time.Since(start).Seconds())

	var shown []api.L2TPSession
	k.while(func() {
		tunnels, err := w.daemon.API().L2TPTunnels(w.ctx, api.Filter{})
		w.check(err)
		if len(tunnels) != 1 || tunnels[0].Sessions.Active != size || tunnels[0].RemoteHost != "big" || tunnels[0].HostProfile != "big" {
			t.Errorf("tunnels: %+v", tunnels)
		}
		if shown = w.sessions(); len(shown) != size {
			t.Fatalf("%d sessions are shown", len(shown))
		}
	})
	for _, s := range shown {
		var i int
		if _, err := fmt.Sscanf(s.User, "line%d@", &i); err != nil {
			t.Fatalf("user %q: %v", s.User, err)
		}
		want := callInfo(i)
		if s.User != lineUser(i) || s.CallingNumber != want.CallingNumber || s.CalledNumber != want.CalledNumber || s.TxSpeed != want.TxSpeed || s.RxSpeed != want.RxSpeed || s.ProxyLCP {
			t.Fatalf("session of %s: %+v", lineUser(i), s)
		}
	}
	// Lines that fail, and an operator who ends sessions.
	early := []int{0, 1, 50, 60}
	k.HangUp(early[1], early[2])
	k.while(func() {
		for _, user := range []string{lineUser(early[0]), lineUser(early[3])} {
			_, err := w.daemon.Run(w.ctx, "disconnect", "--user", user)
			w.check(err)
		}
		w.eventually("four are gone", func() bool { return len(w.sessions()) == size-4 })
	})
	var rest []int
	for i := range size {
		if !slices.Contains(early, i) {
			rest = append(rest, i)
		}
	}
	start = time.Now()
	k.HangUp(rest...)
	k.while(func() {
		w.eventually("the tunnel is gone", func() bool {
			services, err := w.daemon.API().L2TPServices(w.ctx, api.Filter{})
			w.check(err)
			return services[0].Tunnels.Active == 0
		})
		// Looking while a thousand interfaces go finds no moment at which nothing changes.
		w.eventually("all sessions are over", func() bool { return len(w.subscribers()) == 0 })
		w.backTo(before, "nothing is left in the kernel")
	})
	t.Logf("gone in %.1f s", time.Since(start).Seconds())
	if list := w.subscribers(); len(list) > 0 {
		t.Errorf("still known: %+v", list)
	}
	w.callsAccounted(free, k)
}

// callsAccounted compares FreeRADIUS' requests and records of the users whom it knows with what the LAC has said of their calls.
func (w *world) callsAccounted(free *topo.FreeRADIUS, k *lac) {
	w.t.Helper()
	requests, err := free.Requests()
	w.check(err)
	accounts := book{}
	w.eventually("all stops", func() bool {
		accounts = w.accounts(free)
		n := 0
		for _, records := range accounts {
			if kinds(records) == "Start Stop" {
				n++
			}
		}
		return n == billed
	})
	if len(accounts) != billed {
		w.t.Errorf("records of %d sessions", len(accounts))
	}
	for i := range billed {
		want := map[string]string{
			"User-Name": lineUser(i), "Calling-Station-Id": callInfo(i).CallingNumber, "Called-Station-Id": callInfo(i).CalledNumber,
			"Connect-Info": fmt.Sprintf("16000000/1000000 L2TP %v:1701", k.host.Address), "Tunnel-Client-Endpoint:0": k.host.Address.String(), "Tunnel-Server-Endpoint:0": w.address.String(),
			"Tunnel-Client-Auth-Id:0": "big", "Tunnel-Server-Auth-Id:0": "office",
		}
		n := 0
		for _, r := range requests {
			if r.Get("User-Name") == lineUser(i) {
				n++
				wants(w.t, "request of "+lineUser(i), r, want)
			}
		}
		if n == 0 {
			w.t.Errorf("no Access-Request of %s", lineUser(i))
		}
		for _, records := range accounts {
			if records[0].Get("User-Name") != lineUser(i) {
				continue
			}
			wants(w.t, "start of "+lineUser(i), records[0], want)
			delete(want, "Connect-Info")
			want["Acct-Terminate-Cause"] = []string{"Admin-Reset", "NAS-Request", "NAS-Request"}[i]
			wants(w.t, "stop of "+lineUser(i), records[len(records)-1], want)
		}
	}
}
