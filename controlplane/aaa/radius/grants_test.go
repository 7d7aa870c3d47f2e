package radius

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
)

// accept has attributes decide about a PAP user.
func accept(mayMove bool, attributes ...*rad.AVP) (aaa.Decision, []Finding) {
	m := Method{MayMove: mayMove}
	in := read(attributes)
	return m.decide(aaa.Request{Protocol: aaa.PAP, User: "u"}, Answer{Code: rad.CodeAccessAccept, Attributes: attributes, Server: "s"}, &in), in.found
}

// TestTimeoutRounding: R3 and R4.
func TestTimeoutRounding(t *testing.T) {
	const minute = 60
	for _, c := range []struct{ in, session, idle uint32 }{
		{0, 0, 0},
		{1, 1, 300},
		{59, 59, 300},
		{60, 60, 300},
		{89, 60, 300},
		{90, 120, 300},
		{299, 300, 300},
		{300, 300, 300},
		{329, 300, 300},
		{330, 360, 360},
		{3600, 3600, 3600},
		{3629, 3600, 3600},
		{86_399, 86_400, 86_400},
		{86_400, 86_400, 86_400},
		{86_401, 86_400, 86_400},
		{100_000, 1667 * minute, 86_400},
		{31_622_399, 31_622_400, 86_400},
		{31_622_400, 31_622_400, 86_400},
		{31_622_401, 31_622_400, 86_400},
		{1<<32 - 1, 31_622_400, 86_400},
	} {
		d, _ := accept(false, std(typeSessionTimeout, u32(c.in)), std(typeIdleTimeout, u32(c.in)))
		if d.SessionTimeout != time.Duration(c.session)*time.Second || d.IdleTimeout != time.Duration(c.idle)*time.Second {
			t.Errorf("%d s: session %v, idle %v", c.in, d.SessionTimeout, d.IdleTimeout)
		}
	}
}

// fullAccept has about everything that can be granted, in as many ways.
var fullAccept = []*rad.AVP{
	std(typeUserName, "canonical"),
	std(typeServiceType, u32(serviceFramed)),
	std(typeFramedProtocol, u32(framedPPP)),
	std(typeFramedIPAddress, ip4("10.9.0.7")),
	std(typeFramedIPNetmask, ip4("255.255.255.0")),
	std(typeFramedPool, "gold"),
	std(typeFramedRoute, "192.168.7.0/24 0.0.0.0 3"),
	std(typeFramedRoute, "192.168.8.0/24 tag 5"),
	std(typeFramedMTU, u32(1380)),
	std(typeFramedIPv6Prefix, "\x00\x40\x20\x01\x0d\xb8\x00\x00\x00\x00"),
	std(typeDelegatedIPv6Prefix, "\x00\x38\x20\x01\x0d\xb8\x00\x00\x00"),
	std(typeFilterID, "basic"),
	std(typeReplyMessage, "welcome"),
	std(typeReplyMessage, "second"),
	std(typeSessionTimeout, u32(3600)),
	std(typeIdleTimeout, u32(600)),
	std(typeClass, "class one"),
	std(typeClass, "\x00\x01"),
	std(typeInterimInterval, u32(120)),
	vsa(311, 28, ip4("10.0.0.53")), vsa(311, 29, ip4("10.0.0.54")), vsa(311, 30, ip4("10.0.0.55")), vsa(311, 31, ip4("10.0.0.56")),
	vsa(4874, 1, "tenant"),
	vsa(4874, 3, "10.9.0.1"),
	vsa(4874, 11, "down"),
	vsa(4874, 22, u32(1)),
	vsa(4874, 34, "77"),
	vsa(4874, 144, u32(1)),
	vsa(3076, 15, "Hello, "), vsa(3076, 36, "world"),
	vsa(3076, 27, "10.1.0.0/16,10.2.0.0/16"), vsa(3076, 27, "10.3.0.0/16"), vsa(3076, 55, u32(1)),
	vsa(3076, 28, "example.net"), vsa(3076, 29, "example.net,example.org"),
	vsa(14122, 7, u32(1_000_000)), vsa(14122, 8, u32(8_000_000)),
}

// TestFullAccept is the golden accept (R3, R4, R6, R7, R8).
func TestFullAccept(t *testing.T) {
	d, found := accept(true, fullAccept...)
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	want := aaa.Decision{Accept: true, User: "canonical", Message: "welcome", Grants: aaa.Grants{
		Address: a("10.9.0.7"), Netmask: a("255.255.255.0"), Pool: "gold", Terminating: "tenant", Gateway: a("10.9.0.1"),
		SessionTimeout: time.Hour, IdleTimeout: 10 * time.Minute, IdleIngress: true, MTU: 1380, Interim: 2 * time.Minute,
		Routes:  []aaa.Route{{Prefix: p("192.168.7.0/24"), Metric: 3, Tag: 77}, {Prefix: p("192.168.8.0/24"), Tag: 5}},
		DNS:     [2]netip.Addr{a("10.0.0.53"), a("10.0.0.54")},
		NBNS:    [2]netip.Addr{a("10.0.0.55"), a("10.0.0.56")},
		Traffic: aaa.Traffic{In: 1_000_000, Out: 8_000_000, InPolicy: "basic", OutPolicy: "down"},
		Banner:  "Hello, world", DefaultDomain: "example.net", SplitDNS: []string{"example.net", "example.org"},
		Networks:     []netip.Prefix{p("10.1.0.0/16"), p("10.2.0.0/16"), p("10.3.0.0/16")},
		IPv6Prefixes: []netip.Prefix{p("2001:db8::/64")}, DelegatedPrefixes: []netip.Prefix{p("2001:db8::/56")},
		Class: [][]byte{[]byte("class one"), {0, 1}},
	}}
	if !reflect.DeepEqual(d, want) {
		got, _ := json.MarshalIndent(d, "", " ")
		t.Errorf("%s", got)
	}
	if len(found) != 0 {
		t.Error(found)
	}
}

// TestPrecedence: where several attributes say the same, in whatever order.
func TestPrecedence(t *testing.T) {
	dns := func(d aaa.Decision) string { return fmt.Sprint(d.DNS) }
	pool := func(d aaa.Decision) string { return d.Pool }
	rates := func(d aaa.Decision) string { return fmt.Sprint(d.Traffic.In, d.Traffic.Out) }
	for _, c := range []struct {
		name       string
		see        func(aaa.Decision) string
		want       string
		attributes []*rad.AVP // the first alone gives want; each of the others loses against it
	}{
		{"pool", pool, "a", []*rad.AVP{std(typeFramedPool, "a"), vsa(4874, 2, "b"), vsa(9, 1, "ip:addr-pool=c")}},
		{"pool without the standard", pool, "b", []*rad.AVP{vsa(4874, 2, "b"), vsa(9, 1, "ipsec:addr-pool=c")}},
		{"input policy", func(d aaa.Decision) string { return d.Traffic.InPolicy }, "a", []*rad.AVP{std(typeFilterID, "a"), vsa(4874, 10, "b")}},
		{"interim", func(d aaa.Decision) string { return d.Interim.String() }, "1m30s", []*rad.AVP{std(typeInterimInterval, u32(90)), vsa(4874, 140, u32(700))}},
		{"dns", dns, "[10.0.0.1 invalid IP]", []*rad.AVP{
			vsa(311, 28, ip4("10.0.0.1")), vsa(4874, 4, ip4("10.0.0.2")), vsa(4874, 5, ip4("10.0.0.3")), vsa(3076, 5, ip4("10.0.0.4")),
			vsa(9, 1, "ip:dns-servers=10.0.0.5 10.0.0.6"), vsa(529, 135, ip4("10.0.0.7")),
		}},
		{"dns of ERX", dns, "[10.0.0.2 invalid IP]", []*rad.AVP{vsa(4874, 4, ip4("10.0.0.2")), vsa(3076, 5, ip4("10.0.0.4")), vsa(3076, 6, ip4("10.0.0.8"))}},
		{"dns of the ASA", dns, "[10.0.0.4 invalid IP]", []*rad.AVP{vsa(3076, 5, ip4("10.0.0.4")), vsa(9, 1, "ipsec:dns-servers=10.0.0.5,10.0.0.6")}},
		{"rates", rates, "1000000 1000000", []*rad.AVP{vsa(14988, 8, "1M"), vsa(10055, 1, u32(2000)), vsa(10055, 2, u32(2000)), vsa(529, 197, u32(3_000_000))}},
		{"rates of Roaring Penguin", rates, "2000000 0", []*rad.AVP{vsa(10055, 1, u32(2000))}},
		{"up of WISPr", func(d aaa.Decision) string { return fmt.Sprint(d.Traffic.In) }, "4000000", []*rad.AVP{vsa(14122, 7, u32(4_000_000)), vsa(14988, 8, "1M")}},
		{"default domain", func(d aaa.Decision) string { return d.DefaultDomain }, "a", []*rad.AVP{vsa(3076, 28, "a"), vsa(9, 1, "ipsec:default-domain=b")}},
	} {
		if d, _ := accept(true, c.attributes...); c.see(d) != c.want {
			t.Errorf("%s: %s, not %s", c.name, c.see(d), c.want)
		}
		reversed := slices.Clone(c.attributes)
		slices.Reverse(reversed)
		if d, _ := accept(true, reversed...); c.see(d) != c.want {
			t.Errorf("%s, the other way round: %s, not %s", c.name, c.see(d), c.want)
		}
		if d, _ := accept(true, c.attributes[0]); c.see(d) != c.want {
			t.Errorf("%s, alone: %s, not %s", c.name, c.see(d), c.want)
		}
	}
}

// TestAscendRates: which side is up.
func TestAscendRates(t *testing.T) {
	data := func(n uint32) *rad.AVP { return vsa(529, 197, u32(n)) }
	for _, c := range []struct {
		attributes []*rad.AVP
		in, out    uint64
	}{
		{[]*rad.AVP{data(10_000)}, 10_000, 10_000},
		{[]*rad.AVP{data(10_000), data(20_000)}, 20_000, 10_000},
		{[]*rad.AVP{data(10_000), vsa(529, 255, u32(30_000))}, 10_000, 30_000},
		{[]*rad.AVP{vsa(529, 255, u32(30_000)), data(10_000)}, 10_000, 30_000},
		{[]*rad.AVP{vsa(529, 255, u32(30_000))}, 0, 30_000},
	} {
		if d, _ := accept(false, c.attributes...); d.Traffic.In != c.in || d.Traffic.Out != c.out {
			t.Errorf("%s: %+v", dump(c.attributes), d.Traffic)
		}
	}
}

// TestUnused: what cannot be used is counted and harms nobody.
func TestUnused(t *testing.T) {
	routes := func(n int) (out []*rad.AVP) {
		for i := range n {
			out = append(out, std(typeFramedRoute, fmt.Sprintf("10.1.%d.0/24", i)))
		}
		return out
	}
	classes := func(n int) (out []*rad.AVP) {
		for i := range n {
			out = append(out, std(typeClass, fmt.Sprint(i)))
		}
		return out
	}
	many := func(n int, format string) string {
		var words []string
		for i := range n {
			words = append(words, fmt.Sprintf(format, i))
		}
		return strings.Join(words, ",")
	}
	prefixes := func(t rad.Type, n int) (out []*rad.AVP) {
		for i := range n {
			out = append(out, std(t, "\x00\x20\x20\x01\x0d"+string(rune(i))))
		}
		return out
	}
	one := func(vendor uint32, typ uint8, p Problem) []Finding { return []Finding{{Attribute{vendor, typ}, p}} }
	for _, c := range []struct {
		name       string
		attributes []*rad.AVP
		found      []Finding
		check      func(aaa.Decision) bool
	}{
		{"an unknown attribute", []*rad.AVP{vsa(9, 250, "x")}, one(9, 250, ProblemUnknown), nil},
		{"a short session timeout", []*rad.AVP{std(typeSessionTimeout, "\x01")}, one(0, 27, ProblemBadValue), func(d aaa.Decision) bool { return d.SessionTimeout == 0 }},
		{"a second session timeout", []*rad.AVP{std(27, u32(60)), std(27, u32(120))}, one(0, 27, ProblemSurplus), func(d aaa.Decision) bool { return d.SessionTimeout == time.Minute }},
		{"a mask with holes", []*rad.AVP{std(typeFramedIPNetmask, ip4("255.0.255.0"))}, one(0, 9, ProblemBadValue), func(d aaa.Decision) bool { return !d.Netmask.IsValid() }},
		{"a tiny MTU", []*rad.AVP{std(typeFramedMTU, u32(63))}, one(0, 12, ProblemBadValue), func(d aaa.Decision) bool { return d.MTU == 0 }},
		{"a small MTU", []*rad.AVP{std(typeFramedMTU, u32(64))}, nil, func(d aaa.Decision) bool { return d.MTU == 576 }},
		{"a large MTU", []*rad.AVP{std(typeFramedMTU, u32(65535))}, nil, func(d aaa.Decision) bool { return d.MTU == 9000 }},
		{"the pool's address", []*rad.AVP{std(8, ip4("255.255.255.254"))}, nil, func(d aaa.Decision) bool { return d.Accept && !d.Address.IsValid() }},
		{"the user's choice", []*rad.AVP{std(8, ip4("255.255.255.255"))}, nil, func(d aaa.Decision) bool { return d.Accept && !d.Address.IsValid() }},
		{"an address after the pool's", []*rad.AVP{std(8, ip4("255.255.255.254")), std(8, ip4("10.0.0.1"))}, one(0, 8, ProblemSurplus), func(d aaa.Decision) bool { return !d.Address.IsValid() }},
		{"the pool's after an address", []*rad.AVP{std(8, ip4("10.0.0.1")), std(8, ip4("255.255.255.254"))}, one(0, 8, ProblemSurplus), func(d aaa.Decision) bool { return d.Address.IsValid() }},
		{"the pool's twice", []*rad.AVP{std(8, ip4("255.255.255.255")), std(8, ip4("255.255.255.254"))}, one(0, 8, ProblemSurplus), nil},
		{"too many domains", []*rad.AVP{vsa(3076, 29, many(33, "d%d"))}, one(3076, 29, ProblemSurplus), func(d aaa.Decision) bool { return len(d.SplitDNS) == MaxSplitDNS }},
		{"too many networks", []*rad.AVP{
			vsa(9, 1, "ipsec:inacl="+many(17, "10.1.%d.0/24")), vsa(9, 1, "ipsec:inacl="+many(17, "10.2.%d.0/24")),
			vsa(9, 1, "ipsec:inacl="+many(17, "10.3.%d.0/24")), vsa(9, 1, "ipsec:inacl="+many(14, "10.4.%d.0/24")),
		}, one(9, 1, ProblemSurplus), func(d aaa.Decision) bool { return len(d.Networks) == MaxNetworks }},
		{"too many prefixes", prefixes(97, 9), one(0, 97, ProblemSurplus), func(d aaa.Decision) bool { return len(d.IPv6Prefixes) == MaxPrefixes }},
		{"too many delegations", prefixes(123, 9), one(0, 123, ProblemSurplus), func(d aaa.Decision) bool { return len(d.DelegatedPrefixes) == MaxPrefixes }},
		{"a domain that is a list", []*rad.AVP{vsa(3076, 28, "a,b")}, one(3076, 28, ProblemBadValue), func(d aaa.Decision) bool { return d.DefaultDomain == "" }},
		{"a bad route", []*rad.AVP{std(typeFramedRoute, "0.0.0.0/0")}, one(0, 22, ProblemBadValue), func(d aaa.Decision) bool { return len(d.Routes) == 0 }},
		{"a route twice", []*rad.AVP{std(22, "10.0.0.0/8"), std(22, "10.0.0.0/8 0.0.0.0 1")}, one(0, 22, ProblemSurplus), func(d aaa.Decision) bool { return len(d.Routes) == 1 }},
		{"too many routes", routes(33), one(0, 22, ProblemSurplus), func(d aaa.Decision) bool { return len(d.Routes) == aaa.MaxRoutes }},
		{"too many classes", classes(9), one(0, 25, ProblemSurplus), func(d aaa.Decision) bool { return len(d.Class) == aaa.MaxClasses }},
		{"an interim interval below the floor", []*rad.AVP{std(85, u32(5))}, nil, func(d aaa.Decision) bool { return d.Interim == time.Minute }},
		{"a service interval below the floor", []*rad.AVP{vsa(4874, 140, u32(60))}, nil, func(d aaa.Decision) bool { return d.Interim == 10*time.Minute }},
		{"a service interval above", []*rad.AVP{vsa(4874, 140, u32(90_000))}, nil, func(d aaa.Decision) bool { return d.Interim == 24*time.Hour }},
		{"a service interval of 0", []*rad.AVP{vsa(4874, 140, u32(0))}, nil, func(d aaa.Decision) bool { return d.Interim == 0 }},
		{"a loopback", []*rad.AVP{vsa(4874, 3, "loopback 0")}, one(4874, 3, ProblemUnused), func(d aaa.Decision) bool { return !d.Gateway.IsValid() }},
		{"a DNS server that is none", []*rad.AVP{vsa(311, 28, ip4("0.0.0.0")), vsa(311, 29, ip4("10.0.0.1"))}, one(311, 28, ProblemBadValue),
			func(d aaa.Decision) bool { return d.DNS == [2]netip.Addr{netip.MustParseAddr("10.0.0.1")} }},
		{"a Cisco pair of another service", []*rad.AVP{vsa(9, 1, "shell:priv-lvl=15")}, one(9, 1, ProblemUnused), nil},
		{"a Cisco pair without value", []*rad.AVP{vsa(9, 1, "shell")}, one(9, 1, ProblemBadValue), nil},
		{"Cisco routes", []*rad.AVP{vsa(9, 1, "ip:route#1=10.1.0.0 255.255.0.0 10.0.0.1 5"), vsa(9, 1, "ip:route#2*10.2.0.0/16")}, nil, func(d aaa.Decision) bool {
			return reflect.DeepEqual(d.Routes, []aaa.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Metric: 5}, {Prefix: netip.MustParsePrefix("10.2.0.0/16")}})
		}},
		{"Cisco networks", []*rad.AVP{vsa(9, 1, "ipsec:route-set=prefix 10.1.0.0/16"), vsa(9, 1, "ipsec:inacl=10.2.0.0/16")}, nil, func(d aaa.Decision) bool {
			return fmt.Sprint(d.Networks) == "[10.1.0.0/16 10.2.0.0/16]"
		}},
		{"the name of an access list", []*rad.AVP{vsa(9, 1, "ipsec:inacl=SPLIT")}, one(9, 1, ProblemBadValue), func(d aaa.Decision) bool { return d.Networks == nil }},
		{"networks without policy", []*rad.AVP{vsa(3076, 27, "10.1.0.0/16")}, nil, func(d aaa.Decision) bool { return d.Networks == nil }},
		{"networks to leave out", []*rad.AVP{vsa(3076, 27, "10.1.0.0/16"), vsa(3076, 55, u32(2))}, one(3076, 55, ProblemUnused), func(d aaa.Decision) bool { return d.Networks == nil }},
		{"Virtual-Router of a server that may not", []*rad.AVP{vsa(4874, 1, "other")}, one(4874, 1, ProblemNotAllowed), func(d aaa.Decision) bool { return d.Terminating == "" }}, // R6
		{"a long banner", []*rad.AVP{
			vsa(3076, 15, strings.Repeat("ä", 120)), vsa(3076, 36, "\x1b[2J"+strings.Repeat("b", 240)),
		}, nil, func(d aaa.Decision) bool {
			return d.Banner == strings.Repeat("ä", 120)+"[2J"+strings.Repeat("b", 240)
		}},
	} {
		d, found := accept(false, c.attributes...)
		if !d.Accept || !slices.Equal(found, c.found) || c.check != nil && !c.check(d) {
			t.Errorf("%s: %v %+v", c.name, found, d)
		}
	}
}

// TestUnusable: an accept is refused where the subscriber would get more, or be elsewhere, than the server said.
func TestUnusable(t *testing.T) {
	for _, c := range []struct {
		name       string
		attributes []*rad.AVP
		text       string
	}{
		{"no unicast address", []*rad.AVP{std(8, ip4("224.0.0.5"))}, "server s: the server's Framed-IP-Address 224.0.0.5 cannot be used"},
		{"loopback", []*rad.AVP{std(8, ip4("127.0.0.1"))}, "Framed-IP-Address 127.0.0.1"},
		{"zero", []*rad.AVP{std(8, ip4("0.0.0.0"))}, "Framed-IP-Address 0.0.0.0"},
		{"a short address", []*rad.AVP{std(8, "\x0a\x00")}, "Framed-IP-Address cannot be read"},
		{"a filter of control characters", []*rad.AVP{std(11, "a\x01b")}, "Filter-Id"},
		{"a filter that is no text", []*rad.AVP{std(11, "\xff\xfe")}, "Filter-Id cannot be read"},
		{"a long filter", []*rad.AVP{std(11, strings.Repeat("x", 65))}, "Filter-Id"},
		{"two filters", []*rad.AVP{std(11, "a"), std(11, "b")}, `Filter-Id "b" is a second one, after "a"`},
		{"two egress policies", []*rad.AVP{vsa(4874, 11, "a"), vsa(4874, 11, "b")}, "ERX-Egress-Policy-Name"},
		{"an unreadable policy", []*rad.AVP{vsa(4874, 10, "\xff")}, "ERX-Ingress-Policy-Name cannot be read"},
		{"an unreadable router", []*rad.AVP{vsa(4874, 1, "a\n")}, "ERX-Virtual-Router-Name"},
		{"an unreadable pool", []*rad.AVP{std(88, "\x80")}, "Framed-Pool cannot be read"},
		{"another router's servers", []*rad.AVP{vsa(4874, 25, "other")}, `ERX-Redirect-VR-Name "other" sends the user on`},
		{"an administrator", []*rad.AVP{std(6, u32(6))}, "Service-Type 6 cannot be used"}, // RFC 2865 section 5.6
	} {
		d, _ := accept(true, append([]*rad.AVP{std(typeSessionTimeout, u32(60))}, c.attributes...)...)
		if d.Accept || d.Reason != aaa.ReasonBadAnswer || !strings.Contains(d.Text, c.text) || !reflect.DeepEqual(d.Grants, aaa.Grants{}) {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
	if d, found := accept(true, std(11, "a"), std(11, "a")); !d.Accept || len(found) != 1 {
		t.Errorf("the same filter twice: %+v %v", d, found)
	}
}
