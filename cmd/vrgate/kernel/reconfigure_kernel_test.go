//go:build kernel

package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// TestReconfigure: a running router takes over another configuration and not a packet of a live session is lost; what it
// cannot take over, and what is wrong, leaves it as it was.
func TestReconfigure(t *testing.T) {
	for _, layout := range []string{"one router", "VRF to VRF"} {
		t.Run(layout, func(t *testing.T) {
			w := placed(t, layout)
			defer w.close()
			p := w.peers[0]
			w.connect(p)
			const packets = 300
			answered := w.pinging(p.space, p.inner.String(), intranetText, packets)
			changed := func(name string, change func(*config.Router)) (*config.Config, *config.Router) {
				cfg := &config.Config{}
				for _, r := range w.cfg.Routers {
					next := *r
					next.IPProfiles = slices.Clone(r.IPProfiles)
					if next.Name == name {
						change(&next)
					}
					cfg.Routers = append(cfg.Routers, &next)
				}
				return cfg, cfg.Routers[slices.IndexFunc(cfg.Routers, func(r *config.Router) bool { return r.Name == name })]
			}
			plane := func(name string) func(*config.Config, *config.Router) (bool, error) {
				if name == w.transport.router {
					return w.plane.Reconfigure
				}
				return w.other.Reconfigure
			}
			for n := range 6 {
				cfg, r := changed(w.transport.router, func(r *config.Router) {
					if n%2 == 0 { // clear text is served, and then no more
						r.Destinations = []config.DestinationProfile{{Hosts: []config.HostProfile{{}}}}
					}
				})
				if ok, err := plane(r.Name)(cfg, r); !ok || err != nil {
					t.Fatalf("clear text: %t, %v", ok, err)
				}
				cfg, r = changed(w.end.router, func(r *config.Router) {
					r.TrafficPolicies = []config.TrafficPolicy{{Name: fmt.Sprint("rate", n), Rate: 1_000_000_000}}
				})
				cfg.Routers[0].IPProfiles = append(cfg.Routers[0].IPProfiles, config.IPProfile{Name: "more", Router: r.Name, Unnumbered: netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", n+1))})
				if ok, err := plane(r.Name)(cfg, r); !ok || err != nil {
					t.Fatalf("policies: %t, %v", ok, err)
				}
				// A live session gets a policy that has just come to be.
				w.check(w.plane.SetTraffic(subscriber.SetTraffic{ID: subscriber.ID(p.number), Traffic: aaa.Traffic{InPolicy: fmt.Sprint("rate", n)}}))
				time.Sleep(100 * time.Millisecond)
			}
			addresses := run(t, "ip", "-n", w.end.space, "-o", "addr")
			if !strings.Contains(addresses, "10.77.0.6/32") || strings.Contains(addresses, "10.77.0.5/32") || !strings.Contains(addresses, gatewayText+"/32") {
				t.Errorf("gateway addresses:\n%s", addresses)
			}
			before := w.state()
			for what, change := range map[string]func(*config.Router){
				"server address": func(r *config.Router) { r.ServerAddresses = nil },
				"VRF":            func(r *config.Router) { r.VRF = config.VRF{Device: "another", Table: 77} },
				"namespace":      func(r *config.Router) { r.Namespace.Name += "x" },
			} {
				cfg, r := changed(w.transport.router, change)
				if ok, err := w.plane.Reconfigure(cfg, r); ok || err != nil {
					t.Errorf("%s: %t, %v", what, ok, err)
				}
			}
			cfg, r := changed(w.end.router, func(*config.Router) {})
			cfg.Routers[0].IPProfiles = append(cfg.Routers[0].IPProfiles, config.IPProfile{Router: r.Name, Unnumbered: netip.MustParseAddr("ff02::1")})
			if ok, err := plane(r.Name)(cfg, r); ok || err == nil {
				t.Errorf("a gateway that is none: %t, %v", ok, err)
			}
			if after := w.state(); after != before {
				t.Errorf("after what was refused:\n%s\nbefore:\n%s", after, before)
			}
			if got := answered(); got != packets {
				t.Errorf("%d of %d packets answered", got, packets)
			}
			w.disconnect(p)
		})
	}
}

// TestAccessRoutes: without access routes a subscriber has no route of ours, and what the operator routes to it arrives.
func TestAccessRoutes(t *testing.T) {
	w := placed(t, "one router")
	defer w.close()
	p := w.peers[0]
	f := w.openAccess(p)
	f.Link = subscriber.LinkPolicy{MSSClamp: true, MSS: 1200}
	f.MTU = 1420
	name, _, err := w.plane.OpenAccess(f)
	w.check(err)
	w.rekey(p)
	route := fmt.Sprintf("%v/32", p.inner)
	if routes := run(t, "ip", "-n", w.end.space, "route", "show", route); routes != "" {
		t.Errorf("route of ours: %s", routes)
	}
	if link := run(t, "ip", "-n", w.end.space, "link", "show", name); !strings.Contains(link, "mtu 1420") {
		t.Errorf("link %s", link)
	}
	batch(t, w.end.space, fmt.Sprintf("route add %s dev %s\n", route, name))
	if got := ping(t, p.space, p.inner.String(), intranetText, 5, 100); got != 5 {
		t.Errorf("%d of 5 packets answered", got)
	}
	w.disconnect(p)
	if routes := run(t, "ip", "-n", w.end.space, "route", "show", route); routes == "" {
		t.Error("the operator's route has gone")
	}
}
