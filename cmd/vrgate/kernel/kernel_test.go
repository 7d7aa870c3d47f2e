package kernel

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/vr"
	"vrgate/xfrm"
)

// TestRouterSpec: a router's place in the kernel has everything that its own configuration and
// that of routers whose subscribers end in it ask for. Clear text is let in only where a host
// profile takes it (G6).
func TestRouterSpec(t *testing.T) {
	addr := netip.MustParseAddr
	inside := &config.Router{
		Name: "inside", Namespace: config.Namespace{Name: "tenant", Create: true}, VRF: config.VRF{Device: "blue", Table: 12},
	}
	outside := &config.Router{
		Name: "outside", Namespace: config.Namespace{Name: "tenant", Create: true}, ServerAddresses: []netip.Addr{addr("192.0.2.1")},
		Destinations: []config.DestinationProfile{{Hosts: []config.HostProfile{{IPsecRequired: true}}}, {Hosts: []config.HostProfile{{IPsecRequired: true}}}},
		IPProfiles: []config.IPProfile{
			{Router: "inside", Unnumbered: addr("10.0.0.1")}, {Router: "inside", Unnumbered: addr("10.1.0.1"), OwnAddress: true},
			{Router: "inside", Unnumbered: addr("10.0.0.1")}, {Router: "outside", Unnumbered: addr("10.2.0.1")},
		},
	}
	cfg := &config.Config{Routers: []*config.Router{inside, outside}}
	assert := func(what string, got, want vr.Spec) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	assert("inside", routerSpec(cfg, inside), vr.Spec{
		Name: "inside", Namespace: "tenant", Create: true, VRF: "blue", Table: 12, Gateway: []netip.Addr{addr("10.0.0.1"), addr("10.1.0.1")},
		Own: []netip.Addr{addr("10.1.0.1")},
	})
	want := vr.Spec{
		Name: "outside", Namespace: "tenant", Create: true, Server: []netip.Addr{addr("192.0.2.1")}, Gateway: []netip.Addr{addr("10.2.0.1")},
	}
	assert("outside", routerSpec(cfg, outside), want)
	outside.Destinations[1].Hosts[0].IPsecRequired = false
	want.PlainL2TP = true
	assert("outside with clear text", routerSpec(cfg, outside), want)
}

// TestTyped: every error of the kernel packages that an operator can do something about has a
// reason of its own, and the cause stays part of the sentence.
func TestTyped(t *testing.T) {
	if typed(nil) != nil {
		t.Error("no error became one")
	}
	for _, tc := range []struct {
		err    error
		reason string
	}{
		{&vr.MissingFeature{Feature: "IPsec ESP", Module: "esp4"}, "kernel-feature-missing"},
		{&vr.NoAddress{Router: "red", Addr: netip.MustParseAddr("192.0.2.1")}, "no-server-address"},
		{&vr.NoNamespace{Name: "red"}, "no-namespace"},
		{&vr.BadSpec{Router: "red", Reason: "two of them"}, "bad-router"},
		{vr.ErrPermission, "no-permission"},
		{vr.ErrInUse, "port-in-use"},
		{vr.ErrExists, "duplicate-address"},
		{xfrm.ErrExists, "spi-collision"},
		{errors.New("something else"), "kernel-failed"},
	} {
		var got *controlplane.DataplaneError
		if err := typed(tc.err); !errors.As(err, &got) || string(got.Reason) != tc.reason || !errors.Is(err, tc.err) || got.Text == "" {
			t.Errorf("%v became %v, want reason %s", tc.err, err, tc.reason)
		}
	}
}
