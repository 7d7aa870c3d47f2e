package radius

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"vrgate/controlplane/aaa"
)

// TestParseRoute: R8, with RFC 2865 section 5.22 for what R8 leaves open.
func TestParseRoute(t *testing.T) {
	for _, c := range []struct {
		in     string
		prefix string // empty: refused
		metric uint32
		tag    uint32
	}{
		{"10.1.0.0/16", "10.1.0.0/16", 0, 0},
		{"192.168.1.0/24 192.168.1.1 1", "192.168.1.0/24", 1, 0},
		{"192.168.1.0/24 192.168.1.1 1 2 -1 3 400", "192.168.1.0/24", 1, 0}, // the RFC's example
		{"192.168.1.0 192.168.1.1 1", "192.168.1.0/24", 1, 0},               // class C
		{"172.16.0.0", "172.16.0.0/16", 0, 0},
		{"10.0.0.0", "10.0.0.0/8", 0, 0},
		{"10.0.0.1", "10.0.0.1/32", 0, 0},
		{"10.1.2.3/16", "10.1.0.0/16", 0, 0},
		{"10.1.0.0/255.255.0.0", "10.1.0.0/16", 0, 0},
		{"10.1.0.0/16 0.0.0.0", "10.1.0.0/16", 0, 0},
		{"10.1.0.0/16 0.0.0.0 5 tag 7", "10.1.0.0/16", 5, 7},
		{"10.1.0.0/16 tag 7", "10.1.0.0/16", 0, 7},
		{"10.1.0.0/16 tag 4294967295 distance 3", "10.1.0.0/16", 3, 4294967295},
		{"10.1.0.0/16 0.0.0.0 9 distance 3", "10.1.0.0/16", 9, 0},
		{"  10.1.0.0/16\t DISTANCE 255 ", "10.1.0.0/16", 255, 0},
		{"10.1.0.0/16 0.0.0.0 4294967295", "10.1.0.0/16", 4294967295, 0},
		{in: ""}, {in: "x"}, {in: "10.1.0.0/33"}, {in: "10.1.0.0/"}, {in: "10.1.0.0/255.0.255.0"}, {in: "10.1.0.0/16 5"},
		{in: "10.1.0.0/16 0.0.0.0 -1"}, {in: "10.1.0.0/16 0.0.0.0 4294967296"}, {in: "10.1.0.0/16 tag"}, {in: "10.1.0.0/16 tag x"},
		{in: "10.1.0.0/16 distance 256"}, {in: "10.1.0.0/16 colour 1"}, {in: "10.1.0.0/16 255.255.0.0"}, {in: "10.1.0.0/16 fe80::1"},
		{in: "0.0.0.0/0"}, {in: "10.0.0.0/0"}, {in: "0.0.0.0"}, {in: "127.0.0.0/8"}, {in: "224.0.0.0/4"}, {in: "2001:db8::/32"}, {in: "10.1.0.0/16 0.0.0.0 x"},
	} {
		r, ok := parseRoute(c.in)
		want := aaa.Route{Metric: c.metric, Tag: c.tag}
		if c.prefix != "" {
			want.Prefix = netip.MustParsePrefix(c.prefix)
		}
		if ok != (c.prefix != "") || ok && r != want {
			t.Errorf("%q: %+v %v", c.in, r, ok)
		}
	}
}

// FuzzRoute: what is read can be written and read again.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{"10.1.0.0/16 10.0.0.1 5 tag 7 distance 8", "192.168.1.0", "10.0.0.0/255.0.0.0 0.0.0.0 1 2 -1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := parseRoute(s)
		if !ok {
			if r != (aaa.Route{}) && r.Prefix.Bits() < 0 {
				t.Fatal(r)
			}
			return
		}
		if r.Prefix != r.Prefix.Masked() || r.Prefix.Bits() < 1 || !unicast(r.Prefix.Addr()) {
			t.Fatal(r)
		}
		again, ok := parseRoute(fmt.Sprintf("%s 0.0.0.0 %d tag %d", r.Prefix, r.Metric, r.Tag))
		if !ok || again != r {
			t.Fatalf("%+v, not %+v", again, r)
		}
	})
}

func TestParseNetworks(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		bad  bool
	}{
		{"10.1.0.0/16", []string{"10.1.0.0/16"}, false},
		{"10.1.0.0/16, 10.2.0.0/255.255.0.0,10.3.0.1", []string{"10.1.0.0/16", "10.2.0.0/16", "10.3.0.1/32"}, false}, // strongSwan
		{"10.1.0.0 255.255.0.0", []string{"10.1.0.0/16"}, false},
		{"10.1.0.0/16,x,10.2.0.0/16", []string{"10.1.0.0/16", "10.2.0.0/16"}, true},
		{"splitlist", nil, true}, {"", nil, true}, {",", nil, true}, {"10.1.0.0 255.255.0.0 1", nil, true}, {"2001:db8::/32", nil, true},
	} {
		networks, bad := parseNetworks(c.in)
		var got []string
		for _, n := range networks {
			got = append(got, n.String())
		}
		if !slices.Equal(got, c.want) || bad != c.bad {
			t.Errorf("%q: %q %v", c.in, got, bad)
		}
	}
}

func TestParseRateLimit(t *testing.T) {
	for _, c := range []struct {
		in      string
		up, dwn rate
		ok      bool
	}{
		{"128k", rate{bits: 128_000}, rate{bits: 128_000}, true},
		{"64k/2M", rate{bits: 64_000}, rate{bits: 2_000_000}, true},
		{"64000/1g", rate{bits: 64_000}, rate{bits: 1_000_000_000}, true},
		{"0/1M", rate{}, rate{bits: 1_000_000}, true},
		{"1M/2M 2M/4M", rate{1_000_000, 125_000}, rate{2_000_000, 250_000}, true},
		{"1M/2M 2M/4M 800k/1600k 8/8", rate{1_000_000, 800_000}, rate{2_000_000, 1_600_000}, true},
		{"1M/2M 2M/4M 800k/1600k 8s/16s 5 100k/100k", rate{1_000_000, 800_000}, rate{2_000_000, 3_200_000}, true},
		{"1M 0 0 0 8", rate{bits: 1_000_000}, rate{bits: 1_000_000}, true},
		{"1M 2M 100G 9999999", rate{1_000_000, maxBurst}, rate{1_000_000, maxBurst}, true},
		{"1M 2M 1k 1", rate{1_000_000, minBurst}, rate{1_000_000, minBurst}, true},
		{"1k", rate{bits: minRate}, rate{bits: minRate}, true},
		{in: ""}, {in: "x"}, {in: "1M/"}, {in: "/1M"}, {in: "-1M"}, {in: "1.5M"}, {in: "1M 2M 3M 4 5 6 7"}, {in: "101G"}, {in: "1M 1M 1M 8k"}, {in: "k"}, {in: "1T"},
		{in: "99999999999999999999"},
	} {
		up, down, ok := parseRateLimit(c.in)
		if ok != c.ok || ok && (up != c.up || down != c.dwn) {
			t.Errorf("%q: %+v %+v %v", c.in, up, down, ok)
		}
	}
}
