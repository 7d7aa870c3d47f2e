package controlplane_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
)

// tunnel is what the API says of a static tunnel.
func (w *world) tunnel(name string) api.Tunnel {
	w.t.Helper()
	list, err := w.p.Tunnels(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range list {
		if list[i].Name == name {
			return list[i]
		}
	}
	w.t.Fatalf("there is no tunnel %s in %+v", name, list)
	return api.Tunnel{}
}

// TestTunnelViews: a tunnel is shown with every field of `show ipsec tunnel`, while it is up and when it is down; and it is among
// the links, the IPsec connections and the phase 1 SAs.
func TestTunnelViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		check := "check: {target: " + eastHost + ", source: 10.1.255.1, period: 10s, timeout: 2s}"
		inside := "interface: {name: hq0, mtu: 1380, addresses: [10.1.255.1/32]}"
		_, w, e := twoSites(t, westFiles(check, inside, "transforms: [aes256-sha256]", "lifetime: 3600s", "lifetime-kilobytes: 204800", "pfs: modp2048"), eastFiles("start: respond"))
		w.assertState("west", "hq", "up", time.Minute)
		assertPing(t, w, e)
		time.Sleep(30 * time.Second)
		v := w.tunnel("hq")
		if v.VR != "west" || v.TransportVR != "west" || v.Type != "signalled" || v.Mode != "route" || v.Start != "nailed-up" || !v.Enabled {
			t.Errorf("what it is: %+v", v)
		}
		if v.State != "up" || v.Reason != "" || v.Text != "" || v.Since.IsZero() || v.UpSince.IsZero() || v.Attempts != 1 || v.Ups != 1 || !v.Initiator {
			t.Errorf("how it is: %+v", v)
		}
		if v.LocalAddress.String() != westServer || v.RemoteAddress.String() != eastServer || v.LocalIdentity != westServer || v.PeerIdentity != "its address" || v.PeerID != eastServer ||
			v.Authentication != "psk" || len(v.Peers) != 1 || v.Peers[0].Peer != eastServer || len(v.Peers[0].Addresses) != 1 {
			t.Errorf("the two ends: %+v", v)
		}
		if strings.Join(v.Transforms, ",") != "aes256-sha256" || v.PFS != "modp2048" || v.LifetimeSeconds != 3600 || v.LifetimeKilobytes != 204800 || v.Proposal == "" {
			t.Errorf("what is negotiated: %+v", v)
		}
		if n := v.Networks; len(n) != 1 || n[0].Name != "lan" || n[0].State != "up" || n[0].Local.String() != "10.1.0.0/16" || n[0].Remote.String() != "10.2.0.0/16" ||
			len(n[0].Inbound) != 1 || len(n[0].Outbound) != 1 || len(n[0].Inbound[0].SPI) != 8 || n[0].Inbound[0].Transform == "" || n[0].Outbound[0].RemainingSeconds == 0 || n[0].Outbound[0].LifetimeKilobytes == 0 {
			t.Errorf("its networks: %+v", n)
		}
		if i := v.Interface; i.Name != "hq0" || i.Index == 0 || i.MTU != 1380 || len(i.Addresses) != 1 || len(i.Routes) != 1 || i.Routes[0].Network.String() != "10.2.0.0/16" {
			t.Errorf("its interface: %+v", i)
		}
		if c := v.Check; c.Target.String() != eastHost || !c.OK || c.At.IsZero() || c.Sent < 2 || c.Lost != 0 || c.Tolerance != 3 {
			t.Errorf("its check: %+v", c)
		}
		if v.Outside.InPackets == 0 || v.Outside.OutPackets == 0 || v.Inside == (api.TunnelTraffic{}) {
			t.Errorf("its traffic: %+v %+v", v.Inside, v.Outside)
		}
		ipsec, err := w.p.IPsec(t.Context())
		if err != nil || len(ipsec) != 1 || ipsec[0].Application != "static" || ipsec[0].Profile != "hq" || ipsec[0].LocalSelector != "10.1.0.0/16" || ipsec[0].Connection != v.Connection {
			t.Errorf("its connection: %+v %v", ipsec, err)
		}
		phase1, err := w.p.IKESAs(t.Context())
		if err != nil || len(phase1) != 1 || phase1[0].Tunnel != "hq" {
			t.Errorf("its phase 1 SA: %+v %v", phase1, err)
		}
		links, err := w.p.Links(t.Context())
		if err != nil || len(links) != 1 || links[0].Kind != "ipsec" || links[0].Name != "hq0" || links[0].State != "up" || links[0].To != "static tunnel hq" || links[0].MTU != 1380 {
			t.Errorf("its link: %+v %v", links, err)
		}
		vrs, err := w.p.VRs(t.Context())
		if err != nil || vrs[0].StaticTunnels != (api.TunnelCounts{Configured: 1, Up: 1}) {
			t.Errorf("its virtual router: %+v %v", vrs, err)
		}
		before := v.Outside
		if err := w.p.TellTunnel(t.Context(), api.TunnelRequest{Tunnel: "hq", Command: api.TunnelDown}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if v := w.tunnel("hq"); v.State != "admin-down" || v.Reason != "admin-down" || v.Connection != 0 || v.Networks[0].State != "down" || len(v.Networks[0].Inbound) != 0 || v.Check.Target.String() != eastHost {
			t.Errorf("taken down: %+v", v)
		} else if v.Outside.InPackets < before.InPackets || v.Outside.OutPackets < before.OutPackets {
			t.Errorf("what it had carried is forgotten: %+v after %+v", v.Outside, before)
		}
		links, err = w.p.Links(t.Context())
		if err != nil || len(links) != 1 || links[0].State != "down" || links[0].Reason != "admin-down" {
			t.Errorf("the link of a tunnel that is down: %+v %v", links, err)
		}
		finishSites(t, w, e)
	})
}

// TestTunnelWithoutVolume: SAs whose volume nothing bounds are shown without a bound.
func TestTunnelWithoutVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, e := twoSites(t, westFiles(), eastFiles("start: respond"))
		w.assertState("west", "hq", "up", 30*time.Second)
		v := w.tunnel("hq")
		for _, sa := range append(v.Networks[0].Inbound, v.Networks[0].Outbound...) {
			if v.LifetimeKilobytes != 0 || sa.LifetimeKilobytes != 0 || sa.RemainingKilobytes != 0 || sa.RemainingSeconds == 0 {
				t.Errorf("of %d kilobytes: %+v", v.LifetimeKilobytes, sa)
			}
		}
		finishSites(t, w, e)
	})
}

// TestTellTunnel: words about tunnels are obeyed, or it is said why not.
func TestTellTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, e := twoSites(t, westFiles(), eastFiles("start: respond"))
		w.assertState("west", "hq", "up", 30*time.Second)
		tell := func(w *world, name string, word api.TunnelCommand) (api.Reason, string) {
			err := w.p.TellTunnel(t.Context(), api.TunnelRequest{Tunnel: name, Command: word})
			var a *api.Error
			if err != nil && !errors.As(err, &a) {
				t.Errorf("%s %s: %v has no reason", word, name, err)
			}
			if a == nil {
				return "", ""
			}
			return a.Reason, a.Text
		}
		for _, c := range []struct {
			w      *world
			name   string
			word   api.TunnelCommand
			reason api.Reason
			text   string
		}{
			{w, "hqq", api.TunnelUp, api.ReasonNotFound, `there is no static tunnel "hqq"; did you mean "hq"?`},
			{e, "hq", api.TunnelNow, api.ReasonRefused, `static tunnel "hq" is not told "now": respond-only (its peer has to call)`},
			{w, "hq", api.TunnelDown, "", ""},
			{w, "hq", api.TunnelNow, api.ReasonRefused, `static tunnel "hq" is not told "now": admin-down (say up first)`},
			{w, "hq", api.TunnelUp, "", ""},
			{w, "hq", api.TunnelNow, "", ""},
		} {
			if reason, text := tell(c.w, c.name, c.word); reason != c.reason || text != c.text {
				t.Errorf("%s %s: %q %q, want %q %q", c.word, c.name, reason, text, c.reason, c.text)
			}
		}
		w.assertState("west", "hq", "up", 30*time.Second)
		finishSites(t, w, e)
	})
}

// TestTunnelOfRouterThatDoesNotRun: what is configured is shown everywhere, with the reason why it is down.
func TestTunnelOfRouterThatDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSiteNet(t)
		files := westFiles()
		for name, text := range redAndBlue {
			if name != "vrgate.yaml" {
				files[name] = text
			}
		}
		w := n.node(files, 3) // blue, red, west are opened in this order
		time.Sleep(time.Second)
		v := w.tunnel("hq")
		if v.State != "down" || v.Reason != "router-down" || v.Text != "virtual router west does not run" || v.Networks[0].State != "down" || v.Interface.Name == "" {
			t.Errorf("the tunnel: %+v", v)
		}
		links, err := w.p.Links(t.Context())
		if err != nil || len(links) != 1 || links[0].Kind != "ipsec" || links[0].State != "missing" || links[0].Reason != "router-down" {
			t.Errorf("its link: %+v %v", links, err)
		}
		vrs, err := w.p.VRs(t.Context())
		if i := slices.IndexFunc(vrs, func(v api.VR) bool { return v.Name == "west" }); err != nil || vrs[i].StaticTunnels != (api.TunnelCounts{Configured: 1}) || vrs[i].State != "failed" {
			t.Errorf("its virtual router: %+v %v", vrs, err)
		}
		var a *api.Error
		if err := w.p.TellTunnel(t.Context(), api.TunnelRequest{Tunnel: "hq", Command: api.TunnelUp}); !errors.As(err, &a) || a.Reason != api.ReasonUnavailable {
			t.Errorf("a word about it: %v", err)
		}
		finishSites(t, w)
	})
}
