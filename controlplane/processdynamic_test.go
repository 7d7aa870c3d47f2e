package controlplane_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/subscriber"
	"vrgate/test/peer"
)

// TestDynamicViews: what show shows of one dynamic subscriber, in every table, and what the kernel
// holds for it.
func TestDynamicViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		ctx := context.Background()
		address := w.connect("red", "bob", "198.51.100.1", byXAuth).assertUp()
		w.assertKernel(`
			router blue
			router red
			  access of 198.51.100.1 in red mtu 1440, route to 10.0.0.2 from 10.0.0.1
			  sa in from 198.51.100.1
			  sa out to 198.51.100.1`)

		subs, err := w.p.Subscribers(ctx)
		if err != nil || len(subs) != 1 {
			t.Fatalf("subscribers %+v, %v", subs, err)
		}
		s := subs[0]
		if s.User != "bob" || s.Type != "ipsec" || s.Access != "xauth" || s.VR != "red" || s.TerminatingVR != "red" || s.Address != address || s.AddressSource != "pool" ||
			s.Gateway.String() != "10.0.0.1" || s.Interface == "" || s.MTU != 1440 || s.Remote.Addr().String() != "198.51.100.1" || s.Local.Addr().String() != "192.0.2.11" ||
			s.Profile != "road" || s.PeerID != "198.51.100.1" || s.Authentication != "pap" || s.State != "up" || s.Up.IsZero() {
			t.Errorf("subscriber %+v", s)
		}
		ikes, err := w.p.IKESAs(ctx)
		if err != nil || len(ikes) != 1 || ikes[0].Mode != "main" || ikes[0].Authentication != "xauth-psk" || ikes[0].Key != "road/everybody" || ikes[0].Connection != s.Connection {
			t.Errorf("IKE SAs %+v, %v", ikes, err)
		}
		ipsec, err := w.p.IPsec(ctx)
		if err != nil || len(ipsec) != 1 || ipsec[0].State != "up" || ipsec[0].Application != "dynamic" || ipsec[0].Profile != "road" || ipsec[0].Address != address ||
			ipsec[0].LocalSelector != "0.0.0.0/0" || ipsec[0].RemoteSelector != "10.0.0.2/32" {
			t.Errorf("IPsec %+v, %v", ipsec, err)
		}
		profiles, err := w.p.TunnelProfiles(ctx)
		if err != nil || len(profiles) != 2 {
			t.Fatalf("tunnel profiles %+v, %v", profiles, err)
		}
		if p := profiles[1]; p.VR != "red" || p.Name != "road" || p.Subscribers != 1 || p.MaxSubscribers != 20 || p.TerminatingVR != "red" || p.LocalAddress != "192.0.2.11" ||
			p.ExtendedAuthentication != "generic" || p.Attempts != 1 || p.IPProfile != "users" || fmt.Sprint(p.Keys, p.Networks, p.Transforms) != "[everybody] [10.0.0.0/8] [compatible]" ||
			p.PFS != "none" || p.MTU != 1440 || p.LifetimeSeconds != 28800 {
			t.Errorf("tunnel profile %+v", p)
		}
		if profiles[0].VR != "blue" || profiles[0].Subscribers != 0 {
			t.Errorf("tunnel profile %+v", profiles[0])
		}
		vrs, err := w.p.VRs(ctx)
		held := api.Licences{Subscribers: api.Licence{Used: 1}, IPsecTunnels: api.Licence{Used: 1}}
		if err != nil || vrs[1].Licences != held || vrs[0].Licences != (api.Licences{}) || vrs[1].Subscribers.Up != 1 {
			t.Errorf("virtual routers %+v, %v", vrs, err)
		}
		if all, err := w.p.Licences(ctx); err != nil || all != held {
			t.Errorf("licences %+v, %v", all, err)
		}
		// Administrative logout (J9).
		if err := w.p.Disconnect(ctx, []string{s.ID}); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		assertEndings(t, w, "bob: admin-reset")
		w.assertKernel("router blue\nrouter red")
		if all, err := w.p.Licences(ctx); err != nil || all != (api.Licences{}) {
			t.Errorf("licences at the end %+v, %v", all, err)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestDynamicEnds: the events that end a dynamic subscriber (J9), each with its reason, once, and
// with nothing left.
func TestDynamicEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		user   string
		happen func(w *world, s *station, id subscriber.ID, conn ike.ConnID)
		within time.Duration
		ending string
	}{
		"the client deletes all SAs": {"bob", func(_ *world, s *station, _ subscriber.ID, _ ike.ConnID) { s.hangUp() }, 2 * time.Minute, "bob: peer-deleted"},
		"administrative logout": {"bob", func(w *world, _ *station, id subscriber.ID, _ ike.ConnID) {
			if err := w.p.Disconnect(context.Background(), []string{fmt.Sprint(uint64(id))}); err != nil {
				w.t.Error(err)
			}
		}, 10 * time.Second, "bob: admin-reset"},
		"the interface goes":   {"bob", func(w *world, _ *station, id subscriber.ID, _ ike.ConnID) { w.kernel.LoseInterface("red", id) }, 10 * time.Second, "bob: interface-gone"},
		"the client is silent": {"bob", func(_ *world, s *station, _ subscriber.ID, _ ike.ConnID) { s.stop() }, 5 * time.Minute, "bob: peer-dead"},
		"session timeout":      {"dave", func(*world, *station, subscriber.ID, ike.ConnID) {}, 610 * time.Second, "dave: session-timeout"},
		"idle timeout": {"erin", func(w *world, _ *station, _ subscriber.ID, conn ike.ConnID) {
			for range 10 { // as long as there is traffic it stays
				time.Sleep(200 * time.Second)
				w.kernel.Carry("red", conn, subscriber.Counters{InPackets: 1, InBytes: 100})
			}
			if got := w.endings(); len(got) > 0 {
				w.t.Errorf("ended %q though there was traffic", got)
			}
		}, 610 * time.Second, "erin: idle-timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, redAndBlue))
				s := w.connect("red", tc.user, "198.51.100.1", byXAuth)
				s.assertUp()
				other := w.connect("red", "carol", "198.51.100.2", byXAuth)
				other.assertUp()
				subs, err := w.p.Subscribers(context.Background())
				if err != nil || len(subs) != 2 {
					t.Fatalf("subscribers %+v, %v", subs, err)
				}
				sub := subs[0]
				if sub.User != tc.user {
					sub = subs[1]
				}
				tc.happen(w, s, parseID(t, sub.ID), ike.ConnID(sub.Connection))
				time.Sleep(tc.within)
				assertEndings(t, w, tc.ending)
				if text := w.kernel.String(); strings.Contains(text, "198.51.100.1") || !strings.Contains(text, "access of 198.51.100.2") {
					t.Errorf("kernel:\n%s", text)
				}
				if a, _ := other.state(); !a.IsValid() {
					t.Error("the other subscriber has gone too")
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestL2TPTimeouts: the timeouts hold for L2TP subscribers as well (J9).
func TestL2TPTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		w.connect("red", "dave", "198.51.100.1", nil).assertUp()
		w.connect("red", "erin", "198.51.100.2", nil).assertUp() // carries nothing
		time.Sleep(9 * time.Minute)
		assertEndings(t, w, "erin: idle-timeout")
		time.Sleep(2 * time.Minute)
		assertEndings(t, w, "dave: session-timeout", "erin: idle-timeout")
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestBothWaysIn: L2TP/IPsec and XAuth clients of one virtual router side by side, also of one
// user, and a polite end of all.
func TestBothWaysIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		seen := map[string]bool{}
		for i, user := range []string{"bob", "bob", "carol", "carol", "alice"} {
			change := byXAuth
			if i%2 == 0 {
				change = nil
			}
			a := w.connect("red", user, fmt.Sprintf("198.51.100.%d", i+1), change).assertUp()
			if seen[a.String()] {
				t.Errorf("%v is given twice", a)
			}
			seen[a.String()] = true
		}
		if all, err := w.p.Licences(context.Background()); err != nil || all.Subscribers.Used != 5 || all.IPsecTunnels.Used != 5 {
			t.Errorf("licences %+v, %v", all, err)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		assertEndings(t, w, "alice: shutdown", "bob: shutdown", "bob: shutdown", "carol: shutdown", "carol: shutdown")
	})
}

// TestEachKernelCallFailsDynamic is TestEachKernelCallFails for dynamic subscribers.
func TestEachKernelCallFailsDynamic(t *testing.T) {
	life := func(t *testing.T, fail ...int) int {
		w := newWorld(t, loadConfig(t, redAndBlue), fail...)
		for i, user := range []string{"alice", "bob"} {
			s := w.connect("red", user, fmt.Sprintf("198.51.100.%d", i+1), byXAuth)
			if address, failed := s.settle(3 * time.Minute); !address.IsValid() && failed == "" {
				t.Errorf("%s is neither up nor has a reason; kernel:\n%s", user, w.kernel)
			}
			s.hangUp()
			time.Sleep(2 * time.Minute)
		}
		if got := leftovers(w.kernel.String()); got != "" {
			t.Errorf("left after everybody has gone:\n%s", got)
		}
		carol := w.connect("red", "carol", "198.51.100.3", byXAuth)
		carol.settle(3 * time.Minute)
		time.Sleep(2 * time.Minute) // without its outbound SA the server gives up after a while
		if address, _ := carol.state(); !address.IsValid() {
			carol.hangUp() // the call that failed was hers: she tries again
			time.Sleep(2 * time.Minute)
			carol.stop()
			<-carol.done
			w.connect("red", "carol", "198.51.100.3", byXAuth).assertUp()
		}
		time.Sleep(time.Second)
		subs, err := w.p.Subscribers(context.Background())
		if err != nil || len(subs) != 1 || subs[0].User != "carol" || subs[0].State != "up" {
			t.Errorf("subscribers %+v, %v; want carol up", subs, err)
		}
		if all, err := w.p.Licences(context.Background()); err != nil || all.Subscribers.Used != 1 || all.IPsecTunnels.Used != 1 {
			t.Errorf("licences %+v, %v", all, err)
		}
		_ = w.finish() // the last Close may be what fails
		calls := w.kernel.Calls()
		for _, n := range fail {
			if n <= len(calls) && !strings.HasSuffix(calls[n-1], ": close") && w.logs.FilterField(zapReason("injected")).Len() == 0 {
				t.Errorf("call %q failed and the log does not tell", calls[n-1])
			}
		}
		return len(calls)
	}
	total := 0
	synctest.Test(t, func(t *testing.T) { total = life(t) })
	if total < 15 {
		t.Fatalf("only %d kernel calls without a failure", total)
	}
	for n := 1; n <= total; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { life(t, n) })
		})
	}
}

// TestDynamicSecretsStayOut looks for keys and passwords of dynamic subscribers in everything
// logged, also of those who are refused.
func TestDynamicSecretsStayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		const guess = "a guess that nobody must see"
		good := w.connect("red", "alice", "198.51.100.1", byXAuth)
		good.assertUp()
		w.connect("red", "bob", "198.51.100.2", func(c *peer.Config) { byXAuth(c); c.Password = keymat.Secret(guess) }).settle(time.Minute)
		good.hangUp()
		time.Sleep(2 * time.Minute)
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		assertEndings(t, w, "alice: peer-deleted", "bob: aaa-wrong-password")
		for _, e := range w.logs.All() {
			text := fmt.Sprint(e.Message, e.ContextMap())
			for _, secret := range []string{testKey, testPassword, guess} {
				if strings.Contains(text, secret) {
					t.Errorf("%q is in %s", secret, text)
				}
			}
		}
	})
}

// TestEndsElsewhere: a dynamic subscriber that arrives in one virtual router and ends in one of
// another namespace, with that one's addresses; those who arrive there are not in its way.
func TestEndsElsewhere(t *testing.T) {
	files := map[string]string{"vrgate.yaml": redAndBlue["vrgate.yaml"], "vr/blue.yaml": redAndBlue["vr/blue.yaml"]}
	files["vr/red.yaml"] = strings.NewReplacer(
		"      attempts: 1\n", "      attempts: 1\n      ip-profile: far\n",
		", address: 10.0.0.77", "",
		"{remote-host: default}", "{remote-host: default, ip-profile: users}",
		"ip-profiles:\n", "ip-profiles:\n  - {name: far, virtual-router: blue, unnumbered-address: 10.0.0.1, pool: main}\n",
	).Replace(redAndBlue["vr/red.yaml"])
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, files))
		first := w.connect("red", "bob", "198.51.100.1", byXAuth)
		first.assertUp()
		second := w.connect("blue", "bob", "198.51.100.2", byXAuth)
		second.assertUp()
		w.assertKernel(`
			router blue
			  access of 198.51.100.2 in blue mtu 1440, route to 10.0.0.3 from 10.0.0.1
			  sa in from 198.51.100.2
			  sa out to 198.51.100.2
			router red
			  access of 198.51.100.1 in blue mtu 1440, route to 10.0.0.2 from 10.0.0.1
			  sa in from 198.51.100.1
			  sa out to 198.51.100.1`)
		subs, err := w.p.Subscribers(context.Background())
		if err != nil || len(subs) != 2 || subs[1].VR != "red" || subs[1].TerminatingVR != "blue" || subs[1].AddressSource != "pool" {
			t.Errorf("subscribers %+v, %v", subs, err)
		}
		first.hangUp()
		second.hangUp()
		time.Sleep(2 * time.Minute)
		w.assertKernel("router blue\nrouter red")
		if vrs, err := w.p.VRs(context.Background()); err != nil || vrs[0].Pools[0].Used != 0 || vrs[1].Pools[0].Used != 0 {
			t.Errorf("%+v, %v", vrs, err)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}
