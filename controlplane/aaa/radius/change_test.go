package radius

import (
	"reflect"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
)

func TestParseChange(t *testing.T) {
	ptr := func(d time.Duration) *time.Duration { return &d }
	const rates, policies = aaa.RateIn | aaa.RateOut, aaa.PolicyIn | aaa.PolicyOut
	for _, c := range []struct {
		name        string
		attributes  []*rad.AVP
		want        aaa.Change
		unsupported string
		err         string
	}{
		{name: "nothing"},
		{name: "who is meant", attributes: []*rad.AVP{
			std(1, "u"), std(4, ip4("192.0.2.1")), std(8, ip4("10.0.0.1")), std(32, "n"), std(33, "p"), std(44, "s"), std(55, u32(1)), std(80, "m"), std(95, "0123456789abcdef"),
		}},
		{name: "an identification that cannot be read", attributes: []*rad.AVP{std(8, "x")}}, // the CoA server's to refuse
		{name: "timeouts", attributes: []*rad.AVP{std(27, u32(3629)), std(28, u32(10)), std(85, u32(5))},
			want: aaa.Change{SessionTimeout: ptr(time.Hour), IdleTimeout: ptr(5 * time.Minute), Interim: ptr(time.Minute)}},
		{name: "no timeouts", attributes: []*rad.AVP{std(27, u32(0)), std(28, u32(0)), vsa(4874, 140, u32(0))},
			want: aaa.Change{SessionTimeout: ptr(0), IdleTimeout: ptr(0), Interim: ptr(0)}},
		{name: "a filter", attributes: []*rad.AVP{std(11, "f")}, want: aaa.Change{Traffic: &aaa.Traffic{InPolicy: "f"}, Keep: rates | aaa.PolicyOut}},
		{name: "policies", attributes: []*rad.AVP{vsa(4874, 10, "i"), vsa(4874, 11, "o")}, want: aaa.Change{Traffic: &aaa.Traffic{InPolicy: "i", OutPolicy: "o"}, Keep: rates}},
		{name: "rates", attributes: []*rad.AVP{vsa(14988, 8, "1M/2M")}, want: aaa.Change{Traffic: &aaa.Traffic{In: 1e6, Out: 2e6}, Keep: policies}},
		{name: "no rate", attributes: []*rad.AVP{vsa(14122, 8, u32(0))}, want: aaa.Change{Traffic: &aaa.Traffic{}, Keep: policies | aaa.RateIn}},
		{name: "Roaring Penguin", attributes: []*rad.AVP{vsa(10055, 1, u32(64))}, want: aaa.Change{Traffic: &aaa.Traffic{In: 64000}, Keep: policies | aaa.RateOut}},
		{name: "Ascend", attributes: []*rad.AVP{vsa(529, 197, u32(64000))}, want: aaa.Change{Traffic: &aaa.Traffic{In: 64000, Out: 64000}, Keep: policies}},
		{name: "class", attributes: []*rad.AVP{std(25, "c"), std(25, "d")}, want: aaa.Change{Class: [][]byte{[]byte("c"), []byte("d")}}},
		{name: "what cannot change", attributes: []*rad.AVP{std(27, u32(60)), std(88, "pool"), std(88, "pool"), vsa(4874, 1, "vr"), vsa(9, 250, "x"), vsa(429, 1, "x")},
			want: aaa.Change{SessionTimeout: ptr(time.Minute)}, unsupported: "vendor 9 type 250, vendor 429, Framed-Pool, ERX-Virtual-Router-Name"},
		{name: "what cannot change and cannot be read", attributes: []*rad.AVP{vsa(4874, 4, "x")}, unsupported: "ERX-Primary-Dns"},
		{name: "a timeout that cannot be read", attributes: []*rad.AVP{std(85, u32(60)), std(27, "x")}, err: "Session-Timeout: the value cannot be read"},
		{name: "a broken vendor's", attributes: []*rad.AVP{std(26, "\x00\x00\x13\x0a\x0a\x09")}, err: "vendor 4874: the value cannot be read"},
		{name: "a filter of control characters", attributes: []*rad.AVP{std(11, "a\x02")}, err: `Filter-Id "a\x02": bad-value`},
		{name: "two filters", attributes: []*rad.AVP{std(11, "a"), std(11, "b")}, err: `Filter-Id "b": surplus`},
		{name: "two timeouts", attributes: []*rad.AVP{std(27, u32(60)), std(27, u32(61))}, err: "Session-Timeout 61: surplus"},
		{name: "a bad rate", attributes: []*rad.AVP{vsa(14988, 8, "fast")}, err: `Mikrotik-Rate-Limit "fast": bad-value`},
	} {
		got, unsupported, err := ParseChange(c.attributes)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if !reflect.DeepEqual(got, c.want) || unsupported.String() != c.unsupported || text != c.err {
			t.Errorf("%s: %+v %q %q", c.name, got, unsupported, text)
		}
	}
}
