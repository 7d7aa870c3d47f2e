package controlplane

import (
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/pool"
	"vrgate/controlplane/subscriber"
)

// TestRefused: each thing that can go wrong for one client has its reason, at the session if
// one came into being, else in what the engines report; nothing of the client is left, and a
// client that does everything right is served before and after.
func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		spoil  func(w *simWorld) *simClient // makes the client that gets nowhere
		ended  subscriber.Reason            // of its session, if it comes that far
		report string
	}{
		{
			name:   "wrong pre-shared key",
			spoil:  func(w *simWorld) *simClient { return w.newClientWith(5, keymat.Secret("another key")) },
			report: string(ike.ReasonPSKMismatch),
		},
		{
			name: "wrong password",
			spoil: func(w *simWorld) *simClient {
				c := w.newClient(5)
				c.Password = keymat.Secret("guess")
				return c
			},
			ended: "aaa-wrong-password",
		},
		{
			name: "unknown user",
			spoil: func(w *simWorld) *simClient {
				c := w.newClient(5)
				c.User = "nobody"
				return c
			},
			ended: "aaa-unknown-user",
		},
		{
			name: "pool empty",
			spoil: func(w *simWorld) *simClient {
				w.exhaustPool(time.Minute)
				return w.newClient(5)
			},
			ended: "pool-empty",
		},
		{
			name:   "kernel: inbound SA",
			spoil:  func(w *simWorld) *simClient { w.server.failing["inbound SA"] = 1; return w.newClient(5) },
			report: string(ike.ReasonInstall),
		},
		{
			name:   "kernel: outbound SA",
			spoil:  func(w *simWorld) *simClient { w.server.failing["outbound SA"] = 1; return w.newClient(5) },
			report: string(ike.ReasonInstall),
		},
		{
			name: "kernel: tunnel socket", // the client asks again as long as it has patience
			spoil: func(w *simWorld) *simClient {
				w.server.failing["open tunnel"] = 1000
				w.after(5*time.Minute, func() { w.server.failing["open tunnel"] = 0 })
				return w.newClient(5)
			},
			report: "socket-failed",
		},
		{
			name:  "kernel: session",
			spoil: func(w *simWorld) *simClient { w.server.failing["open session"] = 1; return w.newClient(5) },
			ended: "injected",
		},
		{
			name:  "kernel: activate",
			spoil: func(w *simWorld) *simClient { w.server.failing["activate"] = 1; return w.newClient(5) },
			ended: "injected",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newSimWorld(t, 3, simNetwork{Delay: 10 * time.Millisecond}, nil)
			first := w.newClient(0)
			first.connect()
			w.run(10*time.Second, first.Settled)
			if !first.Address.IsValid() {
				t.Fatalf("the first client failed: %s", first.Failed)
			}

			bad := tc.spoil(w)
			bad.connect()
			w.run(5*time.Minute, func() bool { return bad.Failed != "" })
			if bad.Failed == "" || !typed.MatchString(bad.Failed) || bad.Address.IsValid() {
				t.Errorf("the client is told %q, has address %v", bad.Failed, bad.Address)
			}
			bad.gone = true
			w.run(30*time.Minute, func() bool { return false })
			switch n := len(w.server.ended); {
			case tc.ended == "" && n != 0:
				t.Errorf("sessions ended: %+v", w.server.ended)
			case tc.ended != "" && (n != 1 || w.server.ended[0].Reason != tc.ended || w.server.started[w.server.ended[0].ID] != 0):
				t.Errorf("ended %+v, want one that never started, by %s", w.server.ended, tc.ended)
			}
			if tc.report != "" && w.server.reports[tc.report] == 0 {
				t.Errorf("reported %v, want %s among it", w.server.reports, tc.report)
			}
			w.assertOnly(first)

			last := w.newClient(9)
			last.connect()
			w.run(10*time.Second, last.Settled)
			if !last.Address.IsValid() {
				t.Errorf("the client after it failed: %s", last.Failed)
			}
			first.disconnect()
			last.disconnect()
			w.assertNothingLeft(time.Hour)
			w.assertEnds()
		})
	}
}

// exhaustPool leaves nothing to lease for a while.
func (w *simWorld) exhaustPool(while time.Duration) {
	small, err := pool.New(pool.Config{Ranges: []pool.Range{{First: netip.MustParseAddr("10.9.0.2"), Last: netip.MustParseAddr("10.9.0.2")}}})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := small.Lease("somebody"); err != nil {
		w.t.Fatal(err)
	}
	key := poolKey{"sim", "main"}
	whole := w.server.leases.pools[key]
	w.server.leases.pools[key] = small
	w.after(while, func() { w.server.leases.pools[key] = whole })
}

// assertOnly checks that everything the server holds belongs to one client, which is up.
func (w *simWorld) assertOnly(c *simClient) {
	w.t.Helper()
	if !c.Address.IsValid() || c.Failed != "" {
		w.t.Errorf("%s has %v, failed: %q", c.User, c.Address, c.Failed)
	}
	s := w.server
	for _, x := range s.m.ike.Conns() {
		if x.Remote.Addr() != c.Addr {
			w.t.Errorf("an IPsec connection of %v is left", x.Remote)
		}
	}
	for _, x := range s.m.ike.Phase1SAs() {
		if x.Remote.Addr() != c.Addr {
			w.t.Errorf("an IKE SA of %v is left", x.Remote)
		}
	}
	for _, sa := range s.all {
		if sa.Remote.Addr() != c.Addr {
			w.t.Errorf("a kernel SA of %v is left", sa.Remote)
		}
	}
	count := func(what string, n, most int) {
		if n > most {
			w.t.Errorf("%d %s, want %d:%s", n, what, most, s.left())
		}
	}
	count("tunnels", s.m.l2tp.Live(), 1)
	count("tunnel sockets", len(s.tunnels), 1)
	count("L2TP sessions", s.m.l2tp.LiveSessions(), 1)
	count("kernel sessions", len(s.sessions), 1)
	count("subscribers", s.m.subs.Len(), 1)
	count("addresses", len(s.leases.holders["sim"]), 1)
	count("ESP sizes", len(s.m.esp), 1)
	count("accesses", len(s.access), 1)
	count("subscriber licences", s.leases.licences.process.subscribers, 1)
	count("tunnel licences", s.leases.licences.process.tunnels, 1)
}
