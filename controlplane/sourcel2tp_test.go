package controlplane_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
)

// TestL2TPViews: what `show l2tp` shows of a service, its destinations, profiles, tunnels and
// sessions, and that records stay for the destruct period (section 3 of the requirements).
func TestL2TPViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		ctx := context.Background()
		bob := w.connect("red", "bob", "198.51.100.1", nil)
		bob.assertUp()

		services, err := w.p.L2TPServices(ctx)
		if err != nil || len(services) != 2 || services[1].VR != "red" || services[1].AdminState != "enabled" || services[1].Destinations != 1 ||
			services[1].Tunnels != (api.L2TPCount{Total: 1, Active: 1}) || services[1].Sessions != (api.L2TPCount{Total: 1, Active: 1}) ||
			services[1].IdleTimeoutSeconds != 60 || services[1].DestructTimeoutSeconds != 600 || services[1].HelloSeconds != 60 || services[1].ShortDrainSeconds != 2 ||
			services[1].RetransmissionsEstablished != 5 || services[1].Fixed.FailoverResync != "off" || services[1].RetransmissionsOpening != 5 || services[0].Tunnels.Total != 0 {
			t.Errorf("services %+v, %v", services, err)
		}
		destinations, err := w.p.L2TPDestinations(ctx)
		if err != nil || len(destinations) != 1 || destinations[0].Remote != netip.MustParseAddr("198.51.100.1") || destinations[0].Tunnels.Active != 1 ||
			destinations[0].Sessions.Active != 1 || destinations[0].EffectiveState != "enabled" || destinations[0].Lockout != "not-locked" ||
			destinations[0].Control.RxPackets == 0 || destinations[0].Control.TxOctets == 0 {
			t.Errorf("destinations %+v, %v", destinations, err)
		}
		profiles, err := w.p.L2TPProfiles(ctx)
		if err != nil || len(profiles) == 0 || profiles[len(profiles)-1].Sessions != 1 || len(profiles[len(profiles)-1].Hosts) == 0 ||
			profiles[len(profiles)-1].Hosts[0].Sessions != 1 || !profiles[len(profiles)-1].Hosts[0].IPsecTransport {
			t.Errorf("destination profiles %+v, %v", profiles, err)
		}
		tunnels, err := w.p.L2TPTunnels(ctx)
		if err != nil || len(tunnels) != 1 || tunnels[0].Version != "1.0" || tunnels[0].Control.RxPackets < 3 || tunnels[0].Sessions.Total != 1 ||
			tunnels[0].EffectiveState != "enabled" || !tunnels[0].Ended.IsZero() || tunnels[0].Transport != "udp" || tunnels[0].Window == 0 {
			t.Errorf("tunnels %+v, %v", tunnels, err)
		}
		time.Sleep(90 * time.Second)
		sessions, err := w.p.L2TPSessions(ctx)
		if err != nil || len(sessions) != 1 || sessions[0].CallType != "lns-incoming" || sessions[0].EstablishedSeconds < 90 || sessions[0].ProxyAuth != "none" ||
			sessions[0].User != "bob" || sessions[0].Framing == "" {
			t.Errorf("sessions %+v, %v", sessions, err)
		}

		// What was carried is not lost with the session, and the record knows whose it was.
		carried, before := sessions[0].Payload, tunnels[0].Control
		if carried.RxOctets <= 1000 || carried.TxPackets <= 20 { // the kernel's, and what went through the process before
			t.Errorf("payload %+v", carried)
		}
		bob.hangUp()
		time.Sleep(10 * time.Second)
		if sessions, err = w.p.L2TPSessions(ctx); err != nil || len(sessions) != 1 || sessions[0].State != "idle" || sessions[0].Ended.IsZero() || sessions[0].User != "bob" ||
			sessions[0].Payload.RxOctets < carried.RxOctets || sessions[0].Payload.TxPackets < carried.TxPackets || sessions[0].EstablishedSeconds < 90 || sessions[0].Reason == "" {
			t.Errorf("sessions %+v, %v", sessions, err)
		}
		if tunnels, err = w.p.L2TPTunnels(ctx); err != nil || len(tunnels) != 1 || tunnels[0].State != "idle" || tunnels[0].Payload != sessions[0].Payload ||
			tunnels[0].Control.RxPackets <= before.RxPackets || tunnels[0].Reason != "peer-closed-tunnel" || tunnels[0].LastResult == 0 || tunnels[0].EstablishedSeconds < 90 {
			t.Errorf("tunnels %+v, %v", tunnels, err)
		}
		if destinations, err = w.p.L2TPDestinations(ctx); err != nil || len(destinations) != 1 || destinations[0].Payload != sessions[0].Payload ||
			destinations[0].Tunnels != (api.L2TPCount{Total: 1}) || destinations[0].Sessions != (api.L2TPCount{Total: 1}) {
			t.Errorf("destinations %+v, %v", destinations, err)
		}
		time.Sleep(601 * time.Second)
		sessions, _ = w.p.L2TPSessions(ctx)
		tunnels, _ = w.p.L2TPTunnels(ctx)
		if len(sessions)+len(tunnels) > 0 {
			t.Errorf("after the destruct period there still are %+v, %+v", sessions, tunnels)
		}
	})
}

// TestL2TPAdminStates: an operator drains and disables L2TP at each level (A8); what is below a disabled object
// ends, what lives below a drained one goes on.
func TestL2TPAdminStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		ctx := context.Background()
		c := w.connect("red", "bob", "198.51.100.1", nil)
		c.assertUp()
		tunnels, err := w.p.L2TPTunnels(ctx)
		if err != nil || len(tunnels) != 1 {
			t.Fatalf("tunnels %+v, %v", tunnels, err)
		}
		tunnel := tunnels[0].LocalID
		for text, q := range map[string]api.L2TPAdminRequest{
			`there is no virtual router "green"`: {VR: "green", State: "drain"},
			"there is no tunnel 7":               {VR: "red", Tunnel: 7, State: "drain"},
		} {
			var e *api.Error
			if _, err := w.p.SetL2TPAdmin(ctx, q); !errors.As(err, &e) || e.Reason != api.ReasonNotFound || e.Text != text {
				t.Errorf("%+v: %v", q, err)
			}
		}
		set := func(q api.L2TPAdminRequest, want api.L2TPAdminResponse) {
			t.Helper()
			q.VR = "red"
			if got, err := w.p.SetL2TPAdmin(ctx, q); err != nil || got != want {
				t.Errorf("%+v: %+v, %v, want %+v", q, got, err, want)
			}
			synctest.Wait()
		}
		refused := func(from string) {
			t.Helper()
			if a, failed := w.connect("red", "carol", from, nil).settle(2 * time.Minute); a.IsValid() || failed == "" {
				t.Errorf("a call from %s: %v %q", from, a, failed)
			}
		}
		set(api.L2TPAdminRequest{State: "drain"}, api.L2TPAdminResponse{})
		c.assertUp()
		if services, err := w.p.L2TPServices(ctx); err != nil || services[1].AdminState != "drain" {
			t.Errorf("services %+v, %v", services, err)
		}
		refused("198.51.100.4")
		set(api.L2TPAdminRequest{State: "enabled"}, api.L2TPAdminResponse{})
		set(api.L2TPAdminRequest{Destination: netip.MustParseAddr("198.51.100.2"), State: "drain"}, api.L2TPAdminResponse{})
		refused("198.51.100.2")
		w.connect("red", "carol", "198.51.100.3", nil).assertUp()
		set(api.L2TPAdminRequest{Tunnel: tunnel, State: "disabled"}, api.L2TPAdminResponse{Tunnels: 1, Sessions: 1})
		time.Sleep(time.Second)
		if subs, err := w.p.Subscribers(ctx); err != nil || len(subs) != 1 || subs[0].Remote.Addr().String() != "198.51.100.3" {
			t.Errorf("subscribers %+v, %v", subs, err)
		}
	})
}
