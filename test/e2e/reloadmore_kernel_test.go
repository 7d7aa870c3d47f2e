//go:build kernel

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestReloadRefused has thousands of destination profiles taken over and no one more (G3), and tries configurations with
// all kinds of mistakes, while a client sends: it loses nothing, and what cannot be taken over changes nothing.
//
//runner:once
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := vrConfig{Namespace: w.server.Name(), Address: w.address}
	write := func(change func(*vrConfig)) {
		c := config
		change(&c)
		w.check(w.daemon.WriteRouter("office", c.yaml()))
	}
	w.run(map[string]string{"office": config.yaml()})
	c := w.client(nil, "user0")
	w.connect(c)
	w.pingWhile(c, func() {
		notPEM := filepath.Join(w.Dir(), "broken.pem")
		w.check(os.WriteFile(notPEM, []byte("no certificate"), 0o600))
		for _, m := range []struct {
			change func(*vrConfig)
			want   string
		}{
			{func(c *vrConfig) { c.Extra = "limits: {per-user: [" }, `vr/office\.yaml:\d+:\d+: `},
			{func(c *vrConfig) { c.Extra = "limits: {per-user: many}\nno-such-key: 1" }, `(?s)vr/office\.yaml:\d+:\d+: .*vr/office\.yaml:\d+:\d+: `},
			{func(c *vrConfig) {
				c.IPsec = "tunnel-profiles:\n  - {name: more, peer-identities: [more], keys: [{name: more, identity: more, key-file: /no/such/file}]}"
			}, `vr/office\.yaml:\d+:\d+: .*/no/such/file`},
			{func(c *vrConfig) {
				c.IPsec = fmt.Sprintf("certificates:\n  own: [{name: gateway, certificate: %[1]s, key: %[1]s}]", notPEM)
			}, `broken\.pem`},
		} {
			write(m.change)
			w.refused(m.want)
		}
		failed := len(lines[struct{}](w, "configuration not taken over"))
		w.hangUp("configuration not taken over", failed+1)
		write(func(*vrConfig) {})
		if p := w.plan("diff"); !p.Empty() {
			t.Errorf("after the mistakes: %+v", p)
		}

		const most = 4000
		var list []string
		a := netip.MustParseAddr("100.64.0.0")
		for i := range most - 1 { // and the one for anybody
			a = a.Next()
			list = append(list, destination(fmt.Sprint("lac", i), a, ", max-sessions: 7"))
		}
		write(func(c *vrConfig) { c.L2TP = strings.Join(list, "\n") })
		if p := w.plan("reload"); !p.Applied || p.Dropped != (api.PlanCounts{}) || p.Empty() {
			t.Errorf("%d profiles: %+v", most, p)
		}
		write(func(c *vrConfig) { c.L2TP = strings.Join(append(list, destination("more", a.Next(), "")), "\n") })
		out, err := w.daemon.Run(w.ctx, "reload")
		if want := `: "destination-profiles" has 4001 entries but may have 0 to 4000`; err == nil || !strings.Contains(out, want) {
			t.Errorf("a profile too many: %v, want %s", err, want)
		}
		profiles, err := w.daemon.API().L2TPProfiles(w.ctx, api.Filter{})
		w.check(err)
		has := func(name string) bool {
			return slices.ContainsFunc(profiles, func(p api.L2TPDestinationProfile) bool { return p.Name == name })
		}
		if len(profiles) != most || !has("lac3998") || has("more") {
			t.Errorf("%d destination profiles", len(profiles))
		}
	})
}

// TestReloadRouters adds a virtual router, gives it another server address and removes it, has a pool grow and RADIUS
// servers change, while a client of another virtual router sends: it loses nothing.
func TestReloadRouters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, uplink, err := w.Server(w.ctx, "two")
	w.check(err)
	_, err = w.AddIntranet(w.ctx, other, topo.Intranet{Interface: "lan0", Gateway: netip.MustParsePrefix("10.1.0.1/24"), Host: intranetHost})
	w.check(err)
	second := netip.MustParseAddr("192.0.2.253")
	w.check(other.IP(w.ctx, "addr add "+second.String()+" dev lo"))
	w.check(w.Internet().IP(w.ctx, fmt.Sprintf("route add %v via %v", second, uplink.Address)))
	there := *w
	there.server, there.address = other, uplink.Address
	before := there.kernelState()
	w.freeRADIUS(topo.FreeRADIUSConfig{Users: "rita Cleartext-Password := \"" + password + "\"\n"})

	// One address, and a server that is not there.
	keys := radiusKeys("", "methods: [local, radius]\nauthentication-group: all")
	silent := strings.NewReplacer("address: "+intranetHost.String(), "address: 10.1.0.77", "timeout: 10s, retransmissions: 4", "timeout: 1s, retransmissions: 1").Replace(keys)
	one := vrConfig{Namespace: w.server.Name(), Address: w.address, Pool: "10.9.0.10", Extra: silent}
	w.run(map[string]string{"one": one.yaml()})
	stay, cara, rita := w.client(nil, "user0"), w.client(nil, "user1"), w.client(nil, "rita")
	w.connect(stay)
	w.pingWhile(stay, func() {
		refused := make(chan error, 2)
		for _, c := range []*topo.Client{cara, rita} {
			go func() {
				ctx, cancel := context.WithTimeout(w.ctx, patience)
				defer cancel()
				_, err := c.Connect(ctx)
				refused <- err
			}()
		}
		two := vrConfig{Namespace: other.Name(), Address: uplink.Address}
		w.check(w.daemon.WriteRouter("two", two.yaml()))
		w.drops()
		erin := w.client(nil, "user0", func(c *topo.ClientConfig) { c.Server = uplink.Address })
		w.connect(erin)
		w.ping(erin, topo.PingOptions{Count: 5})

		for range cap(refused) {
			if err := <-refused; err == nil {
				t.Error("let in without an address or without a server")
			}
		}
		for _, reason := range []string{"pool-empty", "aaa-timeout"} {
			if w.metric(reason) == 0 {
				t.Errorf("nobody was refused for %s", reason)
			}
		}
		one.Pool, one.Extra = "10.9.0.10-10.9.0.20", keys
		w.check(w.daemon.WriteRouter("one", one.yaml()))
		w.drops()
		w.connectAll(cara, rita)
		pingAll(w, cara, rita)

		// On other addresses a virtual router begins anew.
		all := api.PlanCounts{Connections: 1, Tunnels: 1, Sessions: 1, Subscribers: 1}
		two.Address, two.More = second, []netip.Addr{uplink.Address}
		w.check(w.daemon.WriteRouter("two", two.yaml()))
		w.drops(api.PlanDrop{VR: "two", What: "virtual router", Reason: "reconfigured", PlanCounts: all})
		if got := w.plan("diff"); !got.Empty() {
			t.Errorf("after a reload: %+v", got)
		}
		frank := w.client(nil, "user1", func(c *topo.ClientConfig) { c.Server = second })
		w.connect(frank)
		w.ping(frank, topo.PingOptions{Count: 5})

		w.check(os.Remove(filepath.Join(w.daemon.Dir, "vr", "two.yaml")))
		w.drops(api.PlanDrop{VR: "two", What: "virtual router", Reason: "router-removed", PlanCounts: all})
		w.eventually("the client is told", func() bool { return strings.Contains(frank.Logs(), "Connection closed to") })
		if after := there.kernelState(); after != before {
			t.Errorf("left of the virtual router that was removed:\n%s\nwas before:\n%s", after, before)
		}
		time.Sleep(time.Second)
	})
	for _, user := range []string{"user0", "user1", "rita"} {
		if s, ok := w.subscriber(user); !ok || s.State != "up" || s.VR != "one" {
			t.Errorf("%s: %+v", user, s)
		}
	}
}
