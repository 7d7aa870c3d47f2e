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

	"vrgate/controlplane/api"
	"vrgate/controlplane/keymat"
	"vrgate/test/loadgen"
	"vrgate/test/topo"
)

// crowd is many clients of one process on one machine, each with an address of its own.
type crowd struct {
	w *world
	*loadgen.Generator
}

// crowdSize bounds the clients of a crowd. Every second one is of the domain "leave.example".
const crowdSize = 220

func crowdUser(i int) string { return fmt.Sprintf("u%d@%s.example", i, []string{"stay", "leave"}[i%2]) }

// crowdUsers is the YAML of the crowd as local users, and of one more.
func crowdUsers(more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - {name: %s, password: %q}", more, password)
	for i := range crowdSize {
		fmt.Fprintf(&b, "\n  - {name: %s, password: %q}", crowdUser(i), password)
	}
	return b.String()
}

func newCrowd(w *world) *crowd {
	w.t.Helper()
	sources := netip.MustParsePrefix("198.19.0.0/16") // RFC 2544
	host, err := w.AddHost(w.ctx, nil)
	w.check(err)
	// Every address of the prefix is local there, without being on an interface.
	w.check(host.Namespace.IP(w.ctx, fmt.Sprintf("route add local %v dev lo", sources)))
	w.check(w.Internet().IP(w.ctx, fmt.Sprintf("route add %v via %v", sources, host.Address)))
	g, err := loadgen.New(loadgen.Config{
		Do: host.Namespace.Do, Server: w.address, Sources: sources, PSK: keymat.Secret(psk), Group: keymat.ECP256, User: crowdUser, Password: password,
	})
	w.check(err)
	w.t.Cleanup(func() { _ = g.Close() })
	return &crowd{w, g}
}

// connect has n more of them connect, and returns when the daemon knows of nobody who is not up.
func (c *crowd) connect(n int) {
	c.w.t.Helper()
	ctx, cancel := context.WithTimeout(c.w.ctx, patience)
	defer cancel()
	r, err := c.Connect(ctx, n, 8)
	if c.w.check(err); r.Up < n {
		c.w.t.Fatalf("%d of %d clients came up: %v", r.Up, n, r.Failed)
	}
	c.while(func() {
		c.w.eventually("all are up", func() bool {
			return !slices.ContainsFunc(c.w.subscribers(), func(s api.Subscriber) bool { return s.State != "up" })
		})
	})
}

// while has the clients answer while do runs.
func (c *crowd) while(do func()) {
	c.w.t.Helper()
	ctx, cancel := context.WithCancel(c.w.ctx)
	var all sync.WaitGroup
	all.Go(func() { _ = c.Serve(ctx, patience) }) // until the context ends
	do()
	cancel()
	all.Wait()
}

// leave ends the sessions of everybody in the domain for that.
func (c *crowd) leave() {
	c.w.t.Helper()
	c.while(func() {
		_, err := c.w.daemon.API().Disconnect(c.w.ctx, api.DisconnectRequest{Filter: api.Filter{Domain: "leave.example"}})
		c.w.check(err)
		c.w.eventually("those who are to leave are gone", func() bool {
			list, err := c.w.daemon.API().Subscribers(c.w.ctx, api.Filter{Domain: "leave.example"})
			c.w.check(err)
			return len(list) == 0
		})
	})
}

// TestOutage takes FreeRADIUS away while more than two hundred sessions come and go and the daemon is killed, twice. In the
// end FreeRADIUS has a start and a stop of each session that was up, none missing, none with two contents.
//
//runner:once
func TestOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	free := w.freeRADIUS(topo.FreeRADIUSConfig{})
	keys := fmt.Sprintf(`radius:
  servers: [{name: one, address: %v, secret: %q, timeout: 1s, retransmissions: 1, dead-time: 1s, status-server: true}]
  groups: [{name: all, servers: [one]}]
aaa:
  methods: [local]
  accounting-group: all`, intranetHost, radiusSecret)
	w.runOne(vrConfig{Users: crowdUsers("paul"), Extra: keys, IPsec: "proposals: legacy", Pool: "10.9.0.10-10.9.3.250"})
	c := newCrowd(w)
	paul := w.client(nil, "paul")

	c.connect(20)
	free.Kill()
	c.leave()
	c.while(func() { w.connect(paul) })
	c.connect(40)
	// Killed while some connect, of whom those that were never up leave nothing but a start and a stop.
	ctx, cancel := context.WithCancel(w.ctx)
	var connecting sync.WaitGroup
	connecting.Go(func() { _, _ = c.Connect(ctx, 40, 8) }) // that this fails is what the test wants
	w.eventually("twenty more are up", func() bool { return len(lines[summary](w, "subscriber up")) >= 81 })
	w.check(w.daemon.Kill())
	cancel()
	connecting.Wait()
	w.check(w.daemon.Start(w.ctx))
	c.connect(100)
	c.leave()
	if records, err := free.Records(); err != nil || len(records) > 41 {
		t.Errorf("%d records while there was no server, %v", len(records), err)
	}

	// Killed again while records are delivered to a server that stands still at times.
	has := func(n int) func() bool {
		return func() bool {
			records, err := free.Records()
			w.check(err)
			return len(records) >= n
		}
	}
	c.while(func() {
		w.check(free.Start(w.ctx))
		w.eventually("some records", has(60))
		w.check(free.Pause())
		time.Sleep(2 * time.Second)
		w.check(free.Resume())
		w.eventually("more records", has(90))
		w.check(w.daemon.Kill())
	})
	w.check(w.daemon.Start(w.ctx))
	c.connect(20)
	c.while(func() { w.check(w.daemon.Stop(w.ctx)) })
	w.check(w.daemon.Start(w.ctx)) // for what there was no time to send
	w.sameAs(free)
}

// sameAs waits until FreeRADIUS has what the log of the daemon says, no more and no less.
func (w *world) sameAs(free *topo.FreeRADIUS) {
	w.t.Helper()
	ends := map[string]summary{}
	for _, end := range lines[summary](w, "subscriber ended") {
		ends[end.Session.String()] = end
	}
	up := lines[summary](w, "subscriber up")
	var accounts book
	var wrong string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("sessions:%s", wrong)
		}
	}()
	w.eventually("a start and a stop of each session", func() bool {
		accounts, wrong = w.accounts(free), ""
		for _, s := range up {
			if k := kinds(accounts[s.Session.String()]); k != "Start Stop" {
				wrong += fmt.Sprintf(" %v of %s: %q", s.Session, s.User, k)
			}
		}
		return wrong == ""
	})
	lost := 0
	for _, s := range up {
		if _, ended := ends[s.Session.String()]; !ended {
			lost++
		}
		wants(w.t, s.User, accounts[s.Session.String()][0], map[string]string{"User-Name": s.User, "Framed-IP-Address": s.Address})
	}
	w.t.Logf("%d sessions, of whom %d went with a daemon, and %d that were not up", len(up), lost, len(accounts)-len(up))
	if len(up) < 200 || lost < 60 {
		w.t.Error("too few to show anything")
	}
	// A start is on disk before anybody is told that the session is up, so that those who were connecting when the
	// daemon was killed may be known to FreeRADIUS only.
	if n := len(accounts) - len(up); n > 16 {
		w.t.Errorf("%d sessions that were not up, and only 8 connect at a time", n)
	}
	causes := map[string]string{"admin-reset": "Admin-Reset", "shutdown": "Admin-Reset"}
	for id, records := range accounts {
		if k := kinds(records); k != "Start Stop" {
			w.t.Errorf("session %s: %s:\n%v", id, k, records)
			continue
		}
		stop := records[1]
		want := map[string]string{"User-Name": records[0].Get("User-Name"), "Framed-IP-Address": records[0].Get("Framed-IP-Address")}
		if end, ok := ends[id]; ok {
			// On a very busy machine clients that nobody runs for a while may lose their sessions by themselves.
			if cause, ok := causes[end.Reason]; ok {
				want["Acct-Terminate-Cause"] = cause
			}
			if told := stop.Get("Connect-Info"); !strings.HasPrefix(told, end.Reason+":") && told != end.Reason {
				w.t.Errorf("stop of %s: %q, and the log says %s", id, told, end.Reason)
			}
			want["Acct-Input-Octets"], want["Acct-Output-Octets"] = fmt.Sprint(end.In), fmt.Sprint(end.Out)
		} else {
			want["Acct-Terminate-Cause"] = "NAS-Reboot"
		}
		wants(w.t, "stop of "+id, stop, want)
	}
}
