package kernel

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
	"vrgate/vr"
)

// TestTrafficOfPolicies: names become rates and rules, both rates hold, and what the kernel cannot keep becomes what it
// can (R7).
func TestTrafficOfPolicies(t *testing.T) {
	network := netip.MustParsePrefix("10.0.0.0/8")
	router := &config.Router{Name: "red", TrafficPolicies: []config.TrafficPolicy{
		{Name: "a", Rate: 50_000, Burst: 9000, Rules: []config.TrafficRule{{Permit: true, Network: network, Protocol: 6, FirstPort: 80, LastPort: 81}, {}}},
		{Name: "b"},
	}}
	rules := []vr.Rule{{Permit: true, Network: network, Protocol: 6, FirstPort: 80, LastPort: 81}, {}}
	for _, tc := range []struct {
		name string
		in   aaa.Traffic
		want vr.Traffic
	}{
		{"nothing", aaa.Traffic{}, vr.Traffic{}},
		{"rates", aaa.Traffic{In: 1, Out: 1 << 60, OutBurst: 7}, vr.Traffic{In: vr.Flow{Rates: []vr.Rate{{Bits: vr.MinRate}}}, Out: vr.Flow{Rates: []vr.Rate{{Bits: vr.MaxRate, Burst: 7}}}}},
		{"a burst alone", aaa.Traffic{InBurst: 9}, vr.Traffic{}},
		{"policies", aaa.Traffic{InPolicy: "b", OutPolicy: "a"}, vr.Traffic{Out: vr.Flow{Rates: []vr.Rate{{Bits: 50_000, Burst: 9000}}, Rules: rules}}},
		{"both", aaa.Traffic{In: 60_000, InPolicy: "a"}, vr.Traffic{In: vr.Flow{Rates: []vr.Rate{{Bits: 60_000}, {Bits: 50_000, Burst: 9000}}, Rules: rules}}},
	} {
		if got, err := traffic(router, tc.in); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
	}
	for _, unknown := range []aaa.Traffic{{InPolicy: "c"}, {InPolicy: "a", OutPolicy: "A"}} {
		var e *controlplane.DataplaneError
		if _, err := traffic(router, unknown); !errors.As(err, &e) || e.Reason != subscriber.Reason(aaa.ReasonUnknownPolicy) || e.Text == "" {
			t.Errorf("%+v: %v", unknown, err)
		}
	}
}

// TestBehind: each network once, none of IPv6, and not the address that has its route already (R8).
func TestBehind(t *testing.T) {
	route := func(s string, metric uint32) aaa.Route {
		return aaa.Route{Prefix: netip.MustParsePrefix(s), Metric: metric}
	}
	tagged := route("10.1.2.3/16", 0)
	tagged.Tag = 9
	got := behind([]aaa.Route{
		tagged, route("10.1.0.0/16", 0), route("10.1.0.0/16", 5), route("10.9.0.7/32", 1), route("10.9.0.8/32", 0), route("2001:db8::/32", 0),
	}, netip.MustParseAddr("10.9.0.7"))
	if want := []aaa.Route{route("10.1.0.0/16", 0), route("10.1.0.0/16", 5), route("10.9.0.8/32", 0)}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestSide: an SA is for a network behind the subscriber as the peer names it, or else for its address alone (J14).
func TestSide(t *testing.T) {
	a := &access{address: netip.MustParsePrefix("10.9.0.7/32"), behind: []aaa.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}}
	for named, want := range map[string]string{
		"10.9.0.7/32": "10.9.0.7/32", "10.9.0.0/24": "10.9.0.7/32", "0.0.0.0/0": "10.9.0.7/32",
		"10.1.0.0/16": "10.1.0.0/16", "10.1.5.0/24": "10.1.5.0/24",
		"10.0.0.0/15": "", "10.2.0.0/16": "", "10.9.0.8/32": "",
	} {
		got, err := a.side(netip.MustParsePrefix(named))
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("%s: %v, %v, want %q", named, got, err, want)
		}
	}
}
