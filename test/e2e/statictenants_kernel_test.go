//go:build kernel

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestStaticTenants has two tenants, VRFs with the same addresses throughout, with a static tunnel each whose outer packets are the front
// router's. Their subscribers, by L2TP and by XAuth, reach the host behind their own tenant's tunnel, and never the other's.
func TestStaticTenants(t *testing.T) {
	t.Parallel()
	w := newNet(t)
	var err error
	w.server, err = w.Namespace(w.ctx, "srv")
	w.check(err)
	w.check(w.server.Forward())
	tenants := []string{"red", "blue"}
	for i, vrf := range append([]string{"front"}, tenants...) {
		w.check(w.server.IP(w.ctx, fmt.Sprintf("link add %s type vrf table %d", vrf, 100+i), "link set "+vrf+" up"))
	}
	uplink, err := w.Uplink(w.ctx, w.server, "wan0", "front")
	w.check(err)
	w.address = uplink.Address

	var sites []*topo.Site
	var lans []*topo.Host
	var users strings.Builder
	routers := map[string]string{}
	host := netip.MustParseAddr("10.2.0.2")
	reached := netip.PrefixFrom(host, 24).Masked()
	var tunnels []static
	for i, name := range tenants {
		site := w.site(nil, "10.2.0.1/24", nil, host.String())
		sites = append(sites, site)
		lans = append(lans, w.lanOf(w.server, fmt.Sprintf("lan%d", i), name))
		x := static{
			Name: name + "hq", Ours: w.address, Theirs: site.Router().Address, More: []string{"transport-virtual-router: front"},
			Networks: []topo.SiteNetwork{{Local: "10.9.0.0/24", Remote: "10.2.0.0/24"}, {Local: "10.1.0.0/24", Remote: "10.2.0.0/24"}},
		}
		tunnels = append(tunnels, x)
		routers[name] = vrConfig{Namespace: w.server.Name(), VRF: fmt.Sprintf("device: %s, table: %d", name, 101+i), Extra: staticYAML(x)}.yaml()
		fmt.Fprintf(&users, "  - {name: %s-l2tp, password: %[2]q, virtual-router: %[1]s}\n  - {name: %[1]s-xauth, password: %[2]q, virtual-router: %[1]s}\n", name, password)
	}
	routers["front"] = vrConfig{
		Namespace: w.server.Name(), VRF: "device: front, table: 100", Address: w.address, NoPool: true, Profile: "virtual-router: red", Host: "ip-profile: users", Users: users.String(),
		Profiles: []string{"{name: blue, unnumbered-address: 10.9.0.1, virtual-router: blue}"},
		IPsec: siteIPsec + fmt.Sprintf(`tunnel-profiles:
  - {name: red, ip-profile: users, networks: [10.2.0.0/24], keys: [{name: red, identity: red, key: %[1]q}]}
  - {name: blue, ip-profile: blue, networks: [10.2.0.0/24], keys: [{name: blue, identity: blue, key: %[1]q}]}`, salesKey),
	}.yaml()
	before := w.kernelState()
	w.while(func() { w.run(routers) }, w.starts(sites[0], nil, tunnels[0]), w.starts(sites[1], nil, tunnels[1]))

	var callers []*topo.Client
	var dialers []*topo.XAuthClient
	for _, name := range tenants {
		callers = append(callers, w.client(nil, name+"-l2tp", func(c *topo.ClientConfig) { c.Routes = []netip.Prefix{reached} }))
		dialers = append(dialers, w.dynamic(nil, name+"-xauth", inSales, func(c *topo.XAuthConfig) { c.ID = "keyid:" + name }))
	}
	w.while(func() { w.connectDynamic(dialers...) }, func() error { _, err := callers[0].Connect(w.ctx); return err }, func() error { _, err := callers[1].Connect(w.ctx); return err })
	shown := w.joined("redhq", "bluehq")
	for i, name := range tenants {
		w.upAt(sites[i], name+"hq")
		if s := shown[name+"hq"]; s.VR != name || s.TransportVR != "front" || s.RemoteAddress != sites[i].Router().Address {
			t.Errorf("%shq: %+v", name, s)
		}
		for _, user := range []string{name + "-l2tp", name + "-xauth"} {
			if s, ok := w.subscriber(user); !ok || s.VR != "front" || s.TerminatingVR != name {
				t.Errorf("%s: %+v", user, s)
			}
		}
	}
	// own pings from everybody of a tenant, whose own host has to answer all and the other's none.
	own := func(i int) {
		t.Helper()
		was := []int{w.echoes(sites[0].Inside), w.echoes(sites[1].Inside)}
		ways := []way{{from: callers[i].Host(), to: host}, {from: dialers[i].Host(), to: host}, {from: lans[i], to: host}}
		w.reaches(ways...)
		if mine, others := w.echoes(sites[i].Inside)-was[i], w.echoes(sites[1-i].Inside)-was[1-i]; mine < 3*len(ways) || others != 0 {
			t.Errorf("%s: of %d packets the tenant's own host has answered %d, the other's %d", tenants[i], 3*len(ways), mine, others)
		}
	}
	own(0)
	own(1)
	// And back: each site reaches the subscribers of its tenant, who have the same addresses as the other's.
	for i, name := range tenants {
		var ways []way
		for _, user := range []string{name + "-l2tp", name + "-xauth"} {
			s, _ := w.subscriber(user)
			ways = append(ways, way{from: sites[i].Inside, to: s.Address})
		}
		w.reaches(append(ways, way{from: sites[i].Inside, to: intranetHost})...)
	}

	// Without its tunnel a tenant reaches nobody, and does not disturb the other.
	was := []int{w.echoes(sites[0].Inside), w.echoes(sites[1].Inside)}
	w.under(func() {
		w.tell("down", "redhq")
		w.is("redhq", "taken down", func(x api.Tunnel) bool { return x.State == "admin-down" })
		was[0] = w.echoes(sites[0].Inside)
		for _, h := range []*topo.Host{callers[0].Host(), dialers[0].Host(), lans[0]} {
			if r, err := h.Ping(w.ctx, host, topo.PingOptions{Count: 2, Wait: time.Second}); err == nil && r.Received > 0 {
				t.Errorf("%v: without a tunnel %d packets were answered", h.Address, r.Received)
			}
		}
	}, way{from: callers[1].Host(), to: host}, way{from: dialers[1].Host(), to: host})
	if now := w.echoes(sites[0].Inside); now != was[0] {
		t.Errorf("%d packets have come to the site whose tunnel is down", now-was[0])
	}
	w.tell("up", "redhq")
	w.joined("redhq")
	w.upAt(sites[0], "redhq")
	own(0)

	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
}
