//go:build kernel

package e2e

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/test/topo"
)

// TestDynamicRekey replaces the SAs of both phases under running pings, by a client's wish and by
// ours; nothing is lost, nobody is asked for the password again, and the address stays (J8, K7).
func TestDynamicRekey(t *testing.T) {
	t.Parallel()
	w := newOffice(t, false)
	w.serve(vrConfig{})
	nat, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, c := range []struct {
			name, user string
			client     *topo.XAuthClient
			rekey      func(w *office, user string, c *topo.XAuthClient)
		}{
			{"by the client", "user0", w.dynamic(nat, "user0", inSales), func(w *office, user string, c *topo.XAuthClient) {
				replaced := func(what string, rekey func() error, list func() []string) {
					old := list()
					w.check(rekey())
					w.eventually(what, func() bool { return hasNew(old, list()) })
					time.Sleep(time.Second)
				}
				child := func() error { return c.RekeyChild(w.ctx) }
				sas := func() []string { return w.sas(user) }
				for range 2 {
					replaced("new phase 2 SAs", child, sas)
				}
				replaced("a new phase 1 SA", func() error { return c.RekeyIKE(w.ctx) }, func() []string { return w.cookies(user) })
				replaced("new phase 2 SAs under the new phase 1", child, sas)
			}},
			{"by the server", "user1", w.dynamic(nil, "user1", inSales, func(c *topo.XAuthConfig) { c.NeverRekeys, c.ESPLifetime = true, 45*time.Second }),
				func(w *office, user string, c *topo.XAuthClient) {
					old := w.sas(user)
					w.eventually("new phase 2 SAs", func() bool { return hasNew(old, w.sas(user)) })
					w.neverRekeyed(c.Logs())
				}},
		} {
			run(c.name, func(t *testing.T) {
				w := w.in(t)
				got := w.connectDynamic(c.client)
				first, _ := w.subscriber(c.user)
				w.pingWhile(c.client, func() { c.rekey(w, c.user, c.client) })
				s, ok := w.subscriber(c.user)
				if !ok || s.State != "up" || s.ID != first.ID || s.Address != got[0].Address {
					t.Errorf("after rekeying: %+v, was %+v", s, first)
				}
				// How strongSwan notes that it is asked for name and password.
				if n := strings.Count(c.client.Logs(), "parsed TRANSACTION request"); n == 0 {
					t.Error("strongSwan's log does not show questions")
				}
				if n := strings.Count(c.client.Logs(), "CPRQ(X_USER"); n != 1 {
					t.Errorf("asked %d times for name and password, want once", n)
				}
			})
		}
	})
}

// TestDynamicEnds ends subscribers in every way there is, and then kills the daemon; nothing
// stays behind (J9).
//
//runner:once
func TestDynamicEnds(t *testing.T) {
	t.Parallel()
	w := newOffice(t, false)
	before := w.kernelState()
	w.serve(vrConfig{Users: `  - {name: user0, password: "correct horse"}
  - {name: user1, password: "correct horse"}
  - {name: user2, password: "correct horse"}
  - {name: user3, password: "correct horse"}
  - {name: user4, password: "correct horse", session-timeout: 60s}`})
	served := w.kernelState()
	stays := w.dynamic(nil, "user0", inSales)
	w.connectDynamic(stays)
	baseline := stateWith(w.world, stays)
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, c := range []struct {
			name, user, reason string
			client             *topo.XAuthClient
			end                func(*office, *topo.XAuthClient)
		}{
			{"by the operator", "user1", "admin-reset", w.dynamic(nil, "user1", inSales), func(w *office, c *topo.XAuthClient) {
				_, err := w.daemon.Run(w.ctx, "disconnect", "--user", "user1")
				w.check(err)
				w.told(c)
			}},
			{"by the client", "user2", "peer-deleted", w.dynamic(nil, "user2", inSales), func(w *office, c *topo.XAuthClient) { w.check(c.Disconnect(w.ctx)) }},
			{"vanished", "user3", "peer-dead", w.dynamic(nil, "user3", inSales), func(w *office, c *topo.XAuthClient) { w.check(c.Kill(w.ctx)) }},
			{"session timeout", "user4", "session-timeout", w.dynamic(nil, "user4", inSales), func(w *office, c *topo.XAuthClient) { w.told(c) }},
		} {
			run(c.name, func(t *testing.T) {
				w := w.in(t)
				w.connectDynamic(c.client)
				w.ping(c.client, topo.PingOptions{})
				c.end(w, c.client)
				w.eventually("the subscriber is gone", func() bool { _, there := w.subscriber(c.user); return !there })
				var line map[string]any
				w.eventually("summary line with reason "+c.reason, func() bool {
					line = w.logLine("subscriber ended", map[string]string{"user": c.user, "reason": c.reason})
					return line != nil
				})
				if line["in_bytes"].(float64) < 3*84 {
					t.Errorf("summary line without traffic: %v", line)
				}
				c.client.Close()
			})
		}
	})
	w.backTo(baseline, "nothing left but of who stays")
	w.ping(stays, topo.PingOptions{})

	w.check(w.daemon.Kill())
	if w.kernelState() == before {
		t.Fatal("kill -9 left nothing: the test shows nothing")
	}
	w.check(w.daemon.Start(w.ctx))
	if again := w.kernelState(); again != served {
		t.Errorf("after a restart:\n%s\nwas at the first start:\n%s", again, served)
	}
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left in the end:\n%s\nwas before:\n%s", after, before)
	}
}

// told waits until the client knows that it is over.
func (w *world) told(c *topo.XAuthClient) {
	w.t.Helper()
	w.eventually("the client knows that it is over", func() bool {
		up, err := c.Connected(w.ctx)
		return err == nil && !up
	})
}

// TestDynamicVRF terminates subscribers of one address by their groups: in the transport virtual
// router, which is a VRF, and in another VRF of its namespace (J1). Both intranets have the same
// addresses.
func TestDynamicVRF(t *testing.T) {
	t.Parallel()
	w := vrfWorld(t, "red", "blue")
	intranets := []*topo.Host{w.lanOf(w.server, "lan0", "red"), w.lanOf(w.server, "lan1", "blue")}
	dynamicPlaces(w, w, intranets, vrConfig{Namespace: w.server.Name(), VRF: "device: red, table: 101"}, vrConfig{Namespace: w.server.Name(), VRF: "device: blue, table: 102"})
}

// TestDynamicNamespaces does it with two namespaces.
func TestDynamicNamespaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, err := w.Namespace(w.ctx, "tenant")
	w.check(err)
	w.check(other.Forward())
	there := *w
	there.server = other
	dynamicPlaces(w, &there, []*topo.Host{w.intranet, w.lanOf(other, "lan0", "")}, vrConfig{Namespace: w.server.Name()}, vrConfig{Namespace: other.Name()})
}

// lanOf puts the usual intranet behind a namespace or VRF.
func (w *world) lanOf(ns *topo.Namespace, device, vrf string) *topo.Host {
	w.t.Helper()
	h, err := w.AddIntranet(w.ctx, ns, topo.Intranet{Interface: device, Gateway: netip.MustParsePrefix("10.1.0.1/24"), Host: intranetHost, VRF: vrf})
	w.check(err)
	return h
}

// dynamicPlaces serves the groups "here", who terminate in the transport virtual router, and
// "tenant", who terminate in another one, which is in there's namespace.
func dynamicPlaces(w, there *world, intranets []*topo.Host, transport, tenant vrConfig) {
	w.t.Helper()
	before, thereBefore := w.kernelState(), there.kernelState()
	const profiles = `ike-policy-rules: [{priority: 1, encryption: [aes256], hash: [sha256], group: [modp2048], aggressive-mode: accepted}]
tunnel-profiles:
  - {name: here, ip-profile: users, keys: [{name: here, identity: here, key: "` + salesKey + `"}]}
  - {name: tenant, ip-profile: tenant, keys: [{name: tenant, identity: tenant, key: "` + salesKey + `"}]}`
	transport.Address, transport.IPsec, transport.Host = w.address, profiles, "ip-profile: users"
	yaml := strings.Replace(transport.yaml(), "ip-profiles:\n", "ip-profiles:\n  - {name: tenant, unnumbered-address: 10.9.0.1, virtual-router: tenant}\n", 1)
	w.run(map[string]string{"transport": yaml, "tenant": tenant.yaml()})

	in := func(group string) func(*topo.XAuthConfig) {
		return func(c *topo.XAuthConfig) { inSales(c); c.ID = "keyid:" + group }
	}
	clients := []*topo.XAuthClient{w.dynamic(nil, "user0", in("here")), w.dynamic(nil, "user1", in("tenant"))}
	w.connectDynamic(clients...)
	pingAll(w, clients...)
	for user, terminating := range map[string]string{"user0": "transport", "user1": "tenant"} {
		if s, ok := w.subscriber(user); !ok || s.VR != "transport" || s.TerminatingVR != terminating {
			w.t.Errorf("%s: %+v", user, s)
		}
	}
	// Each reaches its own intranet and no other: with it cut, nobody answers.
	for i, h := range intranets {
		w.check(h.Namespace.NFT(w.ctx, "table ip cut {\n chain c {\n type filter hook input priority 0; policy drop;\n }\n}\n"))
		if r, err := clients[i].Ping(w.ctx, intranetHost, topo.PingOptions{Count: 2}); err == nil && r.Received > 0 {
			w.t.Errorf("client %d reached the intranet of another", i)
		}
		pingAll(w, clients[i+1:]...)
	}
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		w.t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
	if after := there.kernelState(); after != thereBefore {
		w.t.Errorf("left where they terminated:\n%s\nwas before:\n%s", after, thereBefore)
	}
}
