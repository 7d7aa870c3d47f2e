package controlplane

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/subscriber"
	"vrgate/test/peer"
)

// TestRoadWarriors: dynamic subscribers connect in main and aggressive mode (J4 to J8), are told
// what they get (J7), hang up, and nothing is left of them.
func TestRoadWarriors(t *testing.T) {
	w := newSimWorld(t, 1, simNetwork{Delay: 10 * time.Millisecond}, nil)
	connectEach(w, 10, time.Millisecond, func(i int) *simClient { return w.newRoadWarrior(i, i%2 == 0) })
	records := map[netip.Addr]subscriber.Record{}
	for _, r := range w.server.m.subs.Records() {
		records[r.Address] = r
	}
	for _, c := range w.clients {
		r := records[c.Address]
		if c.Failed != "" || r.User != c.User || r.Access != aaa.AccessXAuth || r.Profile != "road" || r.State != subscriber.StateUp || r.Interface != "xfrm1" || r.Remote.Addr() != c.Addr {
			t.Errorf("%s (failed %q) is %+v", c.User, c.Failed, r)
		}
		if l := c.Lease(); l.Netmask != netip.MustParseAddr("255.255.255.255") {
			t.Errorf("%s was told %+v", c.User, l)
		}
		if o, ok := w.server.access[r.ID]; !ok || o.Address != c.Address || o.Terminating != "sim" || o.Remote.Addr() != c.Addr {
			t.Errorf("access of %s: %+v", c.User, o)
		}
	}
	for _, sa := range w.server.all {
		if !sa.Tunnel || sa.RemoteNet.Bits() != 32 || records[sa.RemoteNet.Addr()].Conn != uint32(sa.Conn) {
			t.Errorf("an SA of connection %d is for %v", sa.Conn, sa.RemoteNet)
		}
	}
	for _, c := range w.clients {
		c.disconnect()
	}
	w.assertNothingLeft(30 * time.Minute)
	w.assertEnds()
}

// TestMixedClients has 300 clients, L2TP and dynamic in main and aggressive mode in turn, connect
// over a network that loses every fifth datagram and duplicates and reorders others.
func TestMixedClients(t *testing.T) {
	w := newSimWorld(t, 11, simNetwork{Loss: 0.2, Duplicate: 0.1, Delay: 20 * time.Millisecond, Jitter: 300 * time.Millisecond}, nil)
	connectEach(w, 300, 10*time.Millisecond, w.newMixed)
	up := [3]int{}
	for i, c := range w.clients {
		if c.Address.IsValid() {
			up[i%3]++
		}
	}
	// Of 100 it is 97 or so, see TestThousandClients; in the minutes that it takes until client and
	// server agree about the last of them PPP's keepalives get lost for some.
	if up[0] < 80 || up[1] < 88 || up[2] < 88 {
		t.Errorf("up of 100 each: %d L2TP, %d in aggressive mode, %d in main mode", up[0], up[1], up[2])
	}
	hangUpOrVanish(w)
}

// newMixed makes L2TP clients and dynamic ones in turn.
func (w *simWorld) newMixed(i int) *simClient {
	if i%3 == 0 {
		return w.newClient(i)
	}
	return w.newRoadWarrior(i, i%3 == 1)
}

// TestBadNetworksMixed is the same with fewer clients and worse networks.
func TestBadNetworksMixed(t *testing.T) {
	overNetworks(t, 24, (*simWorld).newMixed, []simNetwork{
		{Delay: time.Second},
		{Loss: 0.3, Duplicate: 0.3, Jitter: 2 * time.Second},
		{Duplicate: 1, Jitter: 500 * time.Millisecond},
		{Loss: 0.95},
	})
}

// TestDynamicRefused: each thing that can go wrong for one dynamic subscriber has its reason, at
// the session if phase 1 came up, else in what IKE reports. Nothing of it is left, and those who
// do everything right are served before and after.
func TestDynamicRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		spoil  func(w *simWorld) *simClient // makes the client that gets nowhere
		ended  subscriber.Reason            // of its session, if it comes that far
		report ike.Reason
	}{
		{
			name: "wrong key, main mode",
			spoil: func(w *simWorld) *simClient {
				return w.newSpoiled(false, func(c *peer.Config) { c.Key = keymat.Secret("guess") })
			},
			report: ike.ReasonPSKMismatch,
		},
		{
			name: "wrong group key",
			spoil: func(w *simWorld) *simClient {
				return w.newSpoiled(true, func(c *peer.Config) { c.Key = keymat.Secret("guess") })
			},
			report: ike.ReasonPSKMismatch, // the client sees the server's proof first, and says so
		},
		{
			name: "unknown group",
			spoil: func(w *simWorld) *simClient {
				return w.newSpoiled(true, func(c *peer.Config) { c.Group = "strangers" })
			},
			report: "unknown-group",
		},
		{
			name: "wrong password",
			spoil: func(w *simWorld) *simClient {
				return w.newSpoiled(true, func(c *peer.Config) { c.Password = keymat.Secret("guess") })
			},
			ended: "aaa-wrong-password",
		},
		{
			name:  "unknown user",
			spoil: func(w *simWorld) *simClient { return w.newSpoiled(false, func(c *peer.Config) { c.User = "nobody" }) },
			ended: "aaa-unknown-user",
		},
		{
			name: "pool empty",
			spoil: func(w *simWorld) *simClient {
				w.exhaustPool(time.Minute)
				return w.newRoadWarrior(5, true)
			},
			ended: "pool-empty",
		},
		{
			name: "no subscriber licence",
			spoil: func(w *simWorld) *simClient {
				w.server.leases.licences.process.limit = config.Licences{Subscribers: 1}
				w.after(4*time.Minute, func() { w.server.leases.licences.process.limit = config.Licences{} })
				return w.newRoadWarrior(5, true)
			},
			ended: "no-subscriber-licence",
		},
		{
			name: "no IPsec tunnel licence",
			spoil: func(w *simWorld) *simClient {
				w.server.leases.licences.routers["sim"].limit = config.Licences{IPsecTunnels: 1}
				w.after(4*time.Minute, func() { w.server.leases.licences.routers["sim"].limit = config.Licences{} })
				return w.newRoadWarrior(5, false)
			},
			ended: "no-ipsec-tunnel-licence",
		},
		{
			name: "max subscribers",
			spoil: func(w *simWorld) *simClient {
				w.server.step(w.server.withMax(1))
				w.after(4*time.Minute, func() { w.server.step(w.server.withMax(0)) })
				return w.newRoadWarrior(5, true)
			},
			ended: subscriber.ReasonMaxSubscribers,
		},
		{
			name:  "kernel: access",
			spoil: func(w *simWorld) *simClient { w.server.failing["open access"] = 1; return w.newRoadWarrior(5, true) },
			ended: "injected",
		},
		{
			name:   "kernel: inbound SA",
			spoil:  func(w *simWorld) *simClient { w.server.failing["inbound SA"] = 1; return w.newRoadWarrior(5, true) },
			ended:  subscriber.Reason(ike.ReasonPeerDelete), // it hears a refusal and gives up
			report: ike.ReasonInstall,
		},
		{
			name:   "kernel: outbound SA",
			spoil:  func(w *simWorld) *simClient { w.server.failing["outbound SA"] = 1; return w.newRoadWarrior(5, false) },
			ended:  subscriber.Reason(ike.ReasonNoChild),
			report: ike.ReasonInstall,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newSimWorld(t, 3, simNetwork{Delay: 10 * time.Millisecond}, nil)
			first := w.newRoadWarrior(0, true)
			first.connect()
			w.run(10*time.Second, first.Settled)
			w.run(time.Second, func() bool { return false }) // the server follows
			if !first.Address.IsValid() {
				t.Fatalf("the first client failed: %s", first.Failed)
			}
			bad := tc.spoil(w)
			bad.connect()
			w.run(3*time.Minute, func() bool { return bad.Failed != "" })
			if bad.Failed == "" || !typed.MatchString(bad.Failed) || bad.Address.IsValid() {
				t.Errorf("the client is told %q, has address %v", bad.Failed, bad.Address)
			}
			bad.gone = true
			w.run(10*time.Minute, func() bool { return false })
			switch n := len(w.server.ended); {
			case tc.ended == "" && n != 0:
				t.Errorf("sessions ended: %+v", w.server.ended)
			case tc.ended != "" && (n != 1 || w.server.ended[0].Reason != tc.ended || w.server.started[w.server.ended[0].ID] != 0):
				t.Errorf("ended %+v, want one that never started, by %s", w.server.ended, tc.ended)
			}
			if tc.report != "" && w.server.reports[string(tc.report)] == 0 {
				t.Errorf("reported %v, want %s among it", w.server.reports, tc.report)
			}
			w.assertOnly(first)

			last := w.newRoadWarrior(9, false)
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

// withMax is the configuration with another maximum of subscribers of the tunnel profile (J14).
func (s *simServer) withMax(n int) reconfigure {
	c := s.cfg
	road := c.subs.Tunnels["road"]
	road.MaxSubscribers = n
	c.subs.Tunnels = map[string]subscriber.TunnelProfile{"road": road}
	return reconfigure(c)
}

// newSpoiled makes a road warrior that does something wrong.
func (w *simWorld) newSpoiled(aggressive bool, spoil func(*peer.Config)) *simClient {
	c := peer.Config{Key: simRoadKey, Server: simRoadAddr, XAuth: true}
	if aggressive {
		c.Server, c.Aggressive, c.Group = simServerAddr, true, simGroup
	}
	spoil(&c)
	return w.newPeer(5, c)
}

// TestCertificateClients: RSA signatures and hybrid authentication, in both modes, over a network
// that loses datagrams; and who has no good certificate has a reason and leaves nothing.
func TestCertificateClients(t *testing.T) {
	p := newTestPKI(t, simStart.Add(-time.Hour), simStart.Add(24*time.Hour))
	stranger := newTestPKIOf(t, "Other CA", 1, simStart.Add(-time.Hour), simStart.Add(24*time.Hour))
	list := p.file("crl.pem")
	p.write(t, "crl.pem", "X509 CRL", p.revoke(t, 1, simStart.Add(-time.Minute), p.client.SerialNumber))
	world := func(t *testing.T, network simNetwork, lists ...string) *simWorld {
		store := p.store(t, "vpn", "vpn.pem", lists...)
		w := newSimWorld(t, 5, network, func(c *machineConfig) {
			c.ike.Credentials, c.ike.Authorities = credentials(store), store.AuthorityNames()
			c.ike.Tunnels[0].Credential = "vpn"
		})
		w.server.certs = store
		return w
	}
	client := func(w *simWorld, i int, of testPKI, m ike.AuthMethod, aggressive bool) *simClient {
		return w.newPeer(i, peer.Config{
			Server: simRoadAddr, XAuth: true, Aggressive: aggressive, Method: m, Certificates: of.store(w.t.(*testing.T), "client", "client.pem"),
		})
	}
	t.Run("good", func(t *testing.T) {
		w := world(t, simNetwork{Loss: 0.1, Delay: 20 * time.Millisecond, Jitter: 200 * time.Millisecond})
		connectEach(w, 40, 10*time.Millisecond, func(i int) *simClient {
			return client(w, i, p, []ike.AuthMethod{ike.AuthXAuthRSA, ike.AuthHybridRSA}[i%2], i%4 >= 2)
		})
		if up := w.up(); up < 39 {
			t.Errorf("%d of 40 clients are up", up)
		}
		subjects := map[string]int{}
		for _, c := range w.server.m.ike.Conns() {
			subjects[fmt.Sprint(c.Auth, " ", c.Aggressive, " ", c.Subject)]++
		}
		for _, want := range []string{"XAuth-RSA false CN=pc", "XAuth-RSA true CN=pc", "hybrid-RSA false ", "hybrid-RSA true "} {
			if subjects[want] < 9 {
				t.Errorf("%d of 10 connections are %q: %v", subjects[want], want, subjects)
			}
		}
		hangUpOrVanish(w)
	})
	for name, tc := range map[string]struct {
		of     testPKI
		lists  []string
		late   time.Duration
		report ike.Reason
	}{
		"revoked":              {of: p, lists: []string{list}, report: "certificate-revoked"},
		"expired":              {of: p, late: 25 * time.Hour, report: "certificate-expired"},
		"of another authority": {of: stranger, report: "certificate-untrusted"},
	} {
		t.Run(name, func(t *testing.T) {
			w := world(t, simNetwork{Delay: 10 * time.Millisecond}, tc.lists...)
			w.now = w.now.Add(tc.late)
			c := client(w, 1, tc.of, ike.AuthXAuthRSA, false)
			c.connect()
			w.run(2*time.Minute, c.Settled)
			w.run(time.Second, func() bool { return false })
			if c.Address.IsValid() || !typed.MatchString(c.Failed) {
				t.Errorf("the client has %v and is told %q", c.Address, c.Failed)
			}
			if w.server.reports[string(tc.report)] == 0 {
				t.Errorf("reported %v, want %s among it", w.server.reports, tc.report)
			}
			c.gone = true
			w.assertNothingLeft(10 * time.Minute)
			if len(w.server.ended) != 0 {
				t.Errorf("sessions ended: %+v", w.server.ended)
			}
		})
	}
}
