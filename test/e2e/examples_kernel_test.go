//go:build kernel

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrgate/controlplane/api"
	"vrgate/test/daemon"
	"vrgate/test/topo"
)

// TestExampleSites runs the example site-to-site as it is delivered, with the sites that it names around it: its tunnels come up, and a
// subscriber of each tenant reaches what is behind them.
//
//runner:once
func TestExampleSites(t *testing.T) {
	t.Parallel()
	w := newNet(t)
	var err error
	w.server, err = w.Namespace(w.ctx, "srv")
	w.check(err)
	for device, gateway := range map[string]string{"eth1": "192.0.2.254/24", "eth2": "203.0.113.254/24"} {
		w.check(w.Link(w.ctx, topo.End{In: w.server, Interface: device}, topo.End{In: w.Internet(), Interface: "to-" + device, Address: netip.MustParsePrefix(gateway)}))
	}
	// at gives a site an outer address, and its network another with a host.
	at := func(s *topo.Site, address string, inside ...string) {
		if address != "" {
			w.check(s.Router().Namespace.IP(w.ctx, "addr add "+address+"/32 dev lo"))
			w.check(w.Internet().IP(w.ctx, fmt.Sprintf("route add %s via %v", address, s.Router().Address)))
		}
		for _, a := range inside {
			w.check(s.Inside.Namespace.IP(w.ctx, "addr add "+a+"/32 dev "+s.Inside.Interface))
			w.check(s.Router().Namespace.IP(w.ctx, "route add "+a+" dev lan0"))
		}
	}
	const host, voice, dc, inVan = "10.2.0.2", "10.3.0.2", "10.9.0.2", "10.7.0.2"
	ofRed, ofBlue := w.site(nil, "10.2.0.1/16", nil, host), w.site(nil, "10.2.0.1/16", nil, host)
	at(ofRed, "198.51.100.10", voice)
	at(ofRed, "198.51.100.30", dc)
	at(ofBlue, "198.51.100.40")
	at(ofBlue, "", inVan)
	w.check(ofRed.Router().Namespace.IP(w.ctx, "tunnel add gre1 mode gre local 198.51.100.30 remote 192.0.2.1 ttl 64", "addr add 10.1.254.2/30 dev gre1", "link set gre1 mtu 1380 up",
		"route add 10.1.0.0/16 dev gre1 table 101", "rule add from "+dc+" lookup 101"))
	tunnel := func(name, local, peer, key string, networks ...topo.SiteNetwork) topo.SiteTunnel {
		return topo.SiteTunnel{Name: name, Local: netip.MustParseAddr(local), Peer: peer, PSK: "the long random key of " + key, Networks: networks}
	}
	hq := tunnel("hq", "198.51.100.10", "192.0.2.1", "hq and red", topo.SiteNetwork{Local: "10.2.0.0/16", Remote: "10.1.0.0/16"}, topo.SiteNetwork{Local: "10.3.0.0/24", Remote: "10.1.0.0/16"})
	hq.ID, hq.PeerID, hq.ESP = "hq.example.net", "red.example.net", []string{siteESP + "-modp2048"}
	gre := tunnel("dc", "198.51.100.30", "192.0.2.1", "the data centre", topo.SiteNetwork{Local: "dynamic[47]", Remote: "dynamic[47]"})
	gre.Transport = true
	branch := tunnel("branch", "198.51.100.40", "203.0.113.1", "the branch", topo.SiteNetwork{Local: "10.2.0.0/16", Remote: "10.1.0.0/16"})
	van := tunnel("van", ofBlue.Router().Address.String(), "203.0.113.1", "the van", topo.SiteNetwork{Local: "10.7.0.0/24", Remote: "10.1.0.0/16"})
	van.ID = "van@blue.example.net"
	ofRed.Configure(hq, gre)
	ofBlue.Configure(branch, van)

	example := filepath.Join("..", "..", "deploy", "examples", "site-to-site")
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(example, name))
		w.check(err)
		return string(b)
	}
	routers := map[string]string{}
	for _, name := range []string{"red", "blue", "front"} {
		routers[name] = text(filepath.Join("vr", name+".yaml"))
	}
	w.daemon, err = daemon.New(filepath.Join(w.Dir(), "vrgate"), routers)
	w.check(err)
	w.daemon.Within = w.server.Name()
	w.check(w.daemon.WriteProcess(text("vrgate.yaml")))
	out, err := w.daemon.Run(w.ctx, "check")
	w.check(err)
	for line := range strings.Lines(out) {
		if strings.Contains(line, ".yaml:") && !strings.Contains(line, "whoever knows the group key") { // true of every group key
			t.Errorf("vrgate check: %s", line)
		}
	}
	w.while(func() { w.check(w.daemon.Start(w.ctx)) }, func() error { return ofRed.Start(w.ctx) }, func() error { return ofBlue.Start(w.ctx) })

	user := func(name, tenant, server string) *topo.Client {
		return w.client(nil, name, func(c *topo.ClientConfig) {
			c.Server, c.PSK, c.Password = netip.MustParseAddr(server), "the long random key of the staff of "+tenant, "the password of "+name
			c.Routes = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		})
	}
	rita, boris := user("rita", "red", "192.0.2.1"), user("boris", "blue", "203.0.113.1")
	w.connectAll(rita, boris)
	w.check(ofBlue.Initiate(w.ctx, "van"))
	shown := w.joined("hq", "dc-gre", "van")
	if s := shown["branch"]; s.State != "down" || s.Reason != "no-traffic" || s.Attempts != 0 {
		t.Errorf("branch, which nothing wants: %+v", s)
	}
	w.is("hq", "checked with success", func(x api.Tunnel) bool { return x.Check.OK })
	to := func(c *topo.Client, address string) way {
		return way{from: c.Host(), to: netip.MustParseAddr(address)}
	}
	ping, err := boris.Host().StartPing(netip.MustParseAddr(host), topo.PingOptions{}) // which makes it wanted
	w.check(err)
	w.joined("branch")
	w.upAt(ofBlue, "branch")
	_, err = ping.Stop()
	w.check(err)
	// Both tenants have a host of this address.
	was := w.echoes(ofBlue.Inside)
	if w.reaches(to(rita, host), to(rita, voice), to(rita, dc)); w.echoes(ofBlue.Inside) != was {
		t.Error("a host of blue's sites has answered a user of red")
	}
	if w.reaches(to(boris, host), to(boris, inVan)); w.echoes(ofBlue.Inside) < was+6 {
		t.Error("the host of blue's sites has not answered")
	}
	links, err := w.daemon.API().Links(w.ctx, api.Filter{})
	w.check(err)
	for i := range links {
		if l := &links[i]; l.State != "up" {
			t.Errorf("link %s of %s: %+v", l.Name, l.VR, l)
		}
	}
	w.check(w.daemon.Stop(w.ctx))
}
