package vr

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// TestRateBurst: the burst is what the rate carries in 100 ms unless one is given, always lets a packet pass that has
// yet to be cut into segments, and is one that the kernel's number can say (R7).
func TestRateBurst(t *testing.T) {
	for _, tc := range []struct {
		rate  Rate
		burst uint64
		took  time.Duration // at the rate
	}{
		{Rate{Bits: MinRate}, MinBurst, 73728 * time.Millisecond},
		{Rate{Bits: 1_000_000}, MinBurst, 589824 * time.Microsecond},
		{Rate{Bits: 100_000_000}, 1_250_000, 100 * time.Millisecond},
		{Rate{Bits: 100_000_000, Burst: 1500}, MinBurst, 5898240 * time.Nanosecond},
		{Rate{Bits: 100_000_000, Burst: 2_500_000}, 2_500_000, 200 * time.Millisecond},
		{Rate{Bits: MinRate, Burst: 1_000_000_000}, 240_000, 240 * time.Second},
		{Rate{Bits: MaxRate}, 1_250_000_000, 100 * time.Millisecond},
	} {
		if got := tc.rate.burst(); got != tc.burst {
			t.Errorf("%+v: a burst of %d, want %d", tc.rate, got, tc.burst)
		}
		if got := time.Duration(tc.rate.ticks()) * tickLength; got > tc.took || tc.took-got > tickLength {
			t.Errorf("%+v: a burst of %v, want %v", tc.rate, got, tc.took)
		}
	}
}

func TestTrafficCheck(t *testing.T) {
	rate, rule := Rate{Bits: MinRate}, Rule{Permit: true}
	good := Traffic{In: Flow{Rates: []Rate{rate, rate}, Rules: make([]Rule, MaxRules)}, Out: Flow{Rules: []Rule{rule}}}
	if err := good.check("red"); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]Flow{
		"too slow":     {Rates: []Rate{{Bits: MinRate - 1}}},
		"too fast":     {Rates: []Rate{{Bits: MaxRate + 1}}},
		"three rates":  {Rates: []Rate{rate, rate, rate}},
		"many rules":   {Rules: make([]Rule, MaxRules+1)},
		"a bad rule":   {Rules: []Rule{rule, {FirstPort: 1, LastPort: 2}}},
		"ports turned": {Rules: []Rule{{Protocol: unix.IPPROTO_TCP, FirstPort: 2, LastPort: 1}}},
	} {
		var spec *BadSpec
		if err := (Traffic{Out: bad}).check("red"); !errors.As(err, &spec) || spec.Router != "red" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSlots: numbers are given to one at a time, and again.
func TestSlots(t *testing.T) {
	a := &Access{shared: &shared{}}
	var shapers []*Shaper
	for want := uint32(1); want <= 3; want++ {
		s, err := a.Shaper(netip.MustParsePrefix("10.0.0.7/32"))
		if err != nil || s.slot != want {
			t.Fatalf("%+v %v, want %d", s, err, want)
		}
		shapers = append(shapers, s)
	}
	for range 2 {
		if err := shapers[1].Close(); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []uint32{2, 4} {
		if s, err := a.Shaper(netip.MustParsePrefix("10.0.0.8/32")); err != nil || s.slot != want {
			t.Errorf("%+v %v, want %d", s, err, want)
		}
	}
	for _, bad := range []string{"2001:db8::/64", "10.0.0.1/24"} {
		if _, err := a.Shaper(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s is a subscriber's network", bad)
		}
	}
	a.shared.next, a.shared.free = maxSlots, nil
	if _, err := a.Shaper(); err == nil {
		t.Error("more slots than chains")
	}
}

// TestTallies: two routers of a namespace count apart.
func TestTallies(t *testing.T) {
	red, blue := tallyOf("red"), tallyOf("blue")
	if red == blue || red.policy == red.rate || red.rate == blue.rate {
		t.Errorf("%+v %+v", red, blue)
	}
}

// statistics is a message about an action that has had so many packets.
func statistics(packets uint32) []byte {
	basic := native.AppendUint32(make([]byte, 8), packets)
	action := nlattr.AppendString(nil, actKind, "gact")
	action = nlattr.Append(action, actStats, nlattr.Append(nil, statsBasic, basic))
	return nlattr.Append(nil, actTable, nlattr.Append(nil, 1, action))
}

func TestParseVerdicts(t *testing.T) {
	if n, err := parseVerdicts(statistics(77)); n != 77 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	whole := statistics(77)
	for n := range whole {
		if got, err := parseVerdicts(whole[:n]); err == nil {
			t.Errorf("%d bytes say %d", n, got)
		}
	}
}

// FuzzParseVerdicts: what is read from any message is what a message made of it says.
func FuzzParseVerdicts(f *testing.F) {
	f.Add(statistics(0))
	f.Add(statistics(1 << 31))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseVerdicts(b)
		if err != nil {
			if !errors.Is(err, nlattr.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if again, err := parseVerdicts(statistics(uint32(n))); again != n || err != nil {
			t.Fatalf("%d became %d, %v", n, again, err)
		}
	})
}
