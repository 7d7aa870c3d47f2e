//go:build kernel

package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestStaticModes has packets get into static tunnels in the other ways there are: by policy; in transport mode as GRE and IP-in-IP
// of links; and on demand, by an interface and by policy.
func TestStaticModes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	far := w.site(nil, "10.2.0.1/16", nil, "10.2.0.2", "10.2.1.2", "10.2.2.2", "10.2.3.2", "10.2.4.2", "10.2.5.2")
	addresses := w.addresses(far, 5)
	network := func(i int) []topo.SiteNetwork {
		return []topo.SiteNetwork{{Local: "10.1.0.0/24", Remote: fmt.Sprintf("10.2.%d.0/24", i)}}
	}
	carries := func(protocol string) func(*topo.SiteTunnel) {
		return func(t *topo.SiteTunnel) {
			t.Transport, t.Networks = true, []topo.SiteNetwork{{Local: "dynamic[" + protocol + "]", Remote: "dynamic[" + protocol + "]"}}
		}
	}
	tunnels := []static{
		{Name: "gre", Theirs: addresses[0], More: []string{"mode: transport", "networks: [{protocol: gre}]"}, Site: []func(*topo.SiteTunnel){carries("47")}},
		{Name: "ipip", Theirs: addresses[1], Start: "respond", More: []string{"mode: transport", "networks: [{protocol: ipip}]"}, Site: []func(*topo.SiteTunnel){carries("4")}},
		{Name: "policy", Theirs: addresses[2], More: []string{"mode: policy"}, Networks: network(3)},
		{Name: "wanted", Theirs: addresses[3], Start: "on-demand", More: []string{"idle-timeout: 10s"}, Networks: network(4)},
		{Name: "wantedby", Theirs: addresses[4], Start: "on-demand", More: []string{"mode: policy"}, Networks: network(5)},
	}
	for i := range tunnels {
		tunnels[i].Ours = w.address
	}
	links := fmt.Sprintf(`links:
  - {name: gre1, gre: {local: %[1]v, remote: %[2]v}, addresses: [10.255.1.1/30], mtu: 1380, routes: [{network: 10.2.1.0/24}]}
  - {name: ipip1, ipip: {local: %[1]v, remote: %[3]v}, addresses: [10.255.2.1/30], mtu: 1380, routes: [{network: 10.2.2.0/24}]}
`, w.address, addresses[0], addresses[1])
	// The far ends of the links, each for the packets of one address only, since all go to the same network.
	w.check(far.Router().Namespace.IP(w.ctx,
		fmt.Sprintf("tunnel add gre1 mode gre local %v remote %v ttl 64", addresses[0], w.address), "addr add 10.255.1.2/30 dev gre1", "link set gre1 mtu 1380 up",
		fmt.Sprintf("tunnel add ipip1 mode ipip local %v remote %v ttl 64", addresses[1], w.address), "addr add 10.255.2.2/30 dev ipip1", "link set ipip1 mtu 1380 up",
		"route add 10.1.0.0/24 dev gre1 table 101", "rule add from 10.2.1.0/24 lookup 101", "route add 10.1.0.0/24 dev ipip1 table 102", "rule add from 10.2.2.0/24 lookup 102"))
	before := w.kernelState()
	w.while(func() { w.runOne(vrConfig{IPsec: siteIPsec, Extra: links + staticYAML(tunnels...)}) }, w.starts(far, nil, tunnels...))
	w.check(far.Initiate(w.ctx, "ipip"))
	w.joined("gre", "ipip", "policy")
	w.upAt(far, "gre", "ipip", "policy")
	var ways [][]way
	for i := range 5 {
		ways = append(ways, bothWays(w.intranet, intranetHost.String(), far.Inside, fmt.Sprintf("10.2.%d.2", i+1)))
	}
	w.reaches(append(append(ways[0], ways[1]...), ways[2]...)...)
	for _, name := range []string{"gre", "ipip"} {
		sas, err := far.SAs(w.ctx, name)
		w.check(err)
		if len(sas) != 1 || len(sas[0].Children) != 1 || sas[0].Children[0].Mode != "TRANSPORT" || sas[0].Children[0].BytesIn < 3*84 || sas[0].Children[0].BytesOut < 3*84 {
			t.Errorf("%s: strongSwan has %+v", name, sas)
		}
	}

	// Nothing has wanted these two yet.
	for name, x := range w.statics() {
		if (name == "wanted" || name == "wantedby") && (x.State != "down" || x.Reason != "no-traffic" || x.Attempts != 0) {
			t.Errorf("%s, which nothing wants: %+v", name, x)
		}
	}
	for i, name := range []string{"wanted", "wantedby"} {
		// The packet that dials is lost, and TCP sends another.
		w.connects(w.intranet.Namespace, intranetHost, far.Inside, ways[3+i][0].to)
		x := w.joined(name)[name]
		w.upAt(far, name)
		if x.Attempts != 1 || !x.Initiator {
			t.Errorf("%s, which was wanted once: %+v", name, x)
		}
		w.reaches(ways[3+i]...)
	}

	// Nothing is left unprotected: without its tunnel GRE goes nowhere, and what the peer sends in clear is dropped.
	w.tell("down", "gre")
	w.is("gre", "taken down", func(x api.Tunnel) bool { return x.State == "admin-down" })
	w.eventually("strongSwan knows it", func() bool {
		sas, err := far.SAs(w.ctx, "gre")
		w.check(err)
		return len(sas) == 0
	})
	seen, answered := w.echoes(w.intranet), w.echoes(far.Inside)
	for _, x := range ways[0] {
		if r, err := x.from.Ping(w.ctx, x.to, topo.PingOptions{Source: x.source, Count: 3, Wait: time.Second}); err == nil && r.Received > 0 {
			t.Errorf("%v to %v without a tunnel: %d answers", x.source, x.to, r.Received)
		}
	}
	if now := w.echoes(w.intranet); now != seen {
		t.Errorf("%d packets of GRE in clear have come in", now-seen)
	}
	if now := w.echoes(far.Inside); now != answered {
		t.Errorf("%d packets of GRE have gone out in clear", now-answered)
	}
	w.tell("up", "gre")
	w.joined("gre")
	w.reaches(ways[0]...)

	// Ten seconds without traffic end it, and traffic begins it anew, here that of the router itself.
	idle := w.is("wanted", "hung up for being idle", func(x api.Tunnel) bool { return x.State == "down" })
	if w.logLine("IPsec down", map[string]string{"tunnel": "wanted", "reason": "idle"}) == nil || idle.Outside.InPackets < 6 || idle.Outside.OutPackets < 6 || idle.Inside.InPackets < 6 {
		t.Errorf("a tunnel that was idle: %+v", idle)
	}
	w.connects(w.server, netip.MustParseAddr("10.1.0.1"), far.Inside, ways[3][0].to)
	w.joined("wanted")
	w.reaches(ways[3]...)

	w.check(w.daemon.Stop(w.ctx))
	// What has wanted tunnels in vain the kernel itself remembers for half a minute.
	if after := ""; !w.within(patience, func() bool { after = w.kernelState(); return after == before }) {
		t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
}
