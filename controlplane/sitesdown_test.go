package controlplane_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"

	"vrgate/controlplane/api"
	"vrgate/controlplane/site"
)

// TestDownEverywhere: a tunnel that is configured and not up, for whatever reason, is among the tunnels, the links and the metrics, and
// in the log if something is wrong; and each says why.
func TestDownEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSiteNet(t)
		named := func(name string, remote int, peer string, more ...string) string {
			return strings.Replace(hqTunnel(1, remote, peer, more...), "name: hq", "name: "+name, 1)
		}
		files := siteFiles("west", westServer,
			named("disabled", 3, "203.0.113.11", "enabled: false"),
			named("taken-down", 4, "203.0.113.12"),
			named("respond", 5, "203.0.113.13", "start: respond"),
			named("on-demand", 6, "203.0.113.14", "start: on-demand"),
			named("refused", 2, eastServer, "peer-id: \"@somebody.example.net\""),
			named("nameless", 7, "gate.example.net"))
		files["vr/failing.yaml"] = siteFiles("failing", "192.0.2.9", named("router-down", 2, eastServer))["vr/failing.yaml"]
		e := n.node(eastFiles("start: respond"))
		w := n.node(files, 1) // failing is opened before west, and again after five seconds
		w.assertState("west", "taken-down", "dialling", time.Second)
		w.say("west", "taken-down", site.CommandDown)
		for _, c := range []struct {
			router, name, state, reason string
			link                        string // its state; "": as the tunnel without one says
			log                         string // message of the line at warning level; "": nothing is wrong
		}{
			{"west", "disabled", "admin-down", "disabled", "down", ""},
			{"west", "taken-down", "admin-down", "admin-down", "down", ""},
			{"west", "respond", "down", "awaits-peer", "down", ""},
			{"west", "on-demand", "down", "no-traffic", "down", ""},
			{"west", "refused", "waiting", "identity-refused", "down", "static tunnel cannot be brought up"},
			{"west", "nameless", "waiting", "name-not-found", "down", "static tunnel cannot be brought up"},
			{"failing", "router-down", "down", "router-down", "missing", "virtual router cannot serve"},
		} {
			if c.router == "west" {
				w.assertState(c.router, c.name, c.state+": "+c.reason, time.Second)
			}
			if v := w.tunnel(c.name); v.VR != c.router || v.State != c.state || v.Reason != c.reason || !v.UpSince.IsZero() || v.Networks[0].State != "down" || v.Enabled != (c.name != "disabled") {
				t.Errorf("%s: shown as %+v", c.name, v)
			}
			links, err := w.p.Links(t.Context())
			i := slices.IndexFunc(links, func(l api.Link) bool { return l.To == "static tunnel "+c.name })
			if err != nil || i < 0 || links[i].State != c.link || links[i].Reason != c.reason {
				t.Errorf("%s: the links are %+v, %v", c.name, links, err)
			}
			metrics := w.scrape()
			for _, want := range []string{
				`vrgate_tunnel_up{tunnel="` + c.name + `",vr="` + c.router + `"} 0`,
				`vrgate_tunnel_state{state="` + c.state + `",tunnel="` + c.name + `",vr="` + c.router + `"} 1`,
				`vrgate_link_up{kind="ipsec",link="` + links[max(i, 0)].Name + `",vr="` + c.router + `"} 0`,
			} {
				if !strings.Contains(metrics, "\n"+want+"\n") {
					t.Errorf("no %s", want)
				}
			}
			warned := ""
			for _, l := range w.logs.All() {
				if l.Level >= zapcore.WarnLevel && (l.ContextMap()["tunnel"] == c.name || c.router == "failing" && l.ContextMap()["vr"] == c.router) {
					warned = l.Message
				}
			}
			if warned != c.log {
				t.Errorf("%s: the log says %q, want %q\n%s", c.name, warned, c.log, w.words())
			}
		}
		vrs, err := w.p.VRs(t.Context())
		if err != nil || vrs[0].StaticTunnels != (api.TunnelCounts{Configured: 1}) || vrs[1].StaticTunnels != (api.TunnelCounts{Configured: 6}) {
			t.Errorf("the virtual routers: %+v, %v", vrs, err)
		}
		finishSites(t, w, e)
	})
}
