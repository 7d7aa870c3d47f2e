package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clear is a router that serves LACs in clear text, for tests to add to.
const clear = `server-addresses: [192.0.2.1, "2001:db8::1"]
l2tp:
  tunnel-switching: true
  destination-profiles:
    - name: carrier
      lac-address: 203.0.113.1
      host-profiles:
        - ipsec-required: false
          tunnel-password: the secret of the carrier
ip-profiles:
  - name: default
    address: 10.0.0.1
pools:
  - name: main
    ranges: [10.0.0.0/24]
`

// replaced is clear with a piece replaced; the piece must be there once.
func replaced(t *testing.T, old, replacement string) string {
	t.Helper()
	if strings.Count(clear, old) != 1 {
		t.Fatalf("%q is not once in the clear router", old)
	}
	return strings.Replace(clear, old, replacement, 1)
}

// TestLNSErrors has what can be wrong with an LNS for carriers.
func TestLNSErrors(t *testing.T) {
	servers := func(s string) string {
		return clear + "aaa:\n  domain-maps:\n    - domain: x.example\n      tunnel-servers:\n" + s
	}
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":   {clear, nil},
		"IPv6 LACs": {replaced(t, "203.0.113.1", `"2001:db8:7::1"`), nil},
		"IPv6 LACs with IPsec (K: IPv4 only)": {replaced(t, "203.0.113.1\n      host-profiles:\n        - ipsec-required: false", "\"::\"\n      host-profiles:\n        - local-host: x"), []string{
			`vr/a.yaml:8:11: the host profile requires IPsec, but the virtual router has no transport profile that would accept it`,
			`vr/a.yaml:8:11: the host profile requires IPsec, which is served over IPv4 only, but its LACs have IPv6 addresses; give it "ipsec-required: false"`,
		}},
		"addresses of two kinds": {replaced(t, "- ipsec-required: false", "- ipsec-required: false\n          local-address: 2001:db8::1"), []string{
			`vr/a.yaml:9:26: "local-address" is 2001:db8::1 but the LAC is 203.0.113.1, which is no address of the same kind`,
		}},
		"no server address for the LAC": {replaced(t, `192.0.2.1, "2001:db8::1"`, `"2001:db8::1"`), []string{
			`vr/a.yaml:6:20: "lac-address" is 203.0.113.1 but none of "server-addresses" is of the same kind`,
		}},
		"any LAC, with IPv6 server addresses only": {strings.Replace(replaced(t, "      lac-address: 203.0.113.1\n", ""), `192.0.2.1, "2001:db8::1"`, `"2001:db8::1"`, 1), []string{
			`vr/a.yaml:5:7: "lac-address" is 0.0.0.0 but none of "server-addresses" is of the same kind`,
		}},
		"IPsec over IPv6": {"ipsec:\n  transport-profiles:\n    - {name: t, remote-address: \"::\", local-addresses: [{address: \"2001:db8::1\", group-keys: [{name: k, key: 0123456789abcdef}]}]}\n" + clear, []string{
			`vr/a.yaml:3:33: "remote-address" is "::" but must be an IPv4 address: IPsec is served over IPv4 only`,
			`vr/a.yaml:3:67: "address" is "2001:db8::1" but must be an IPv4 address: IPsec is served over IPv4 only`,
		}},
		"tunnel profiles on IPv6 only": {"ipsec:\n  tunnel-profiles: [{name: t, keys: [{name: k, key: 0123456789abcdef}]}]\n" + strings.Replace(strings.Replace(clear, `192.0.2.1, `, "", 1), "203.0.113.1", `"::"`, 1), []string{
			`vr/a.yaml:2:3: there are tunnel profiles but none of "server-addresses" is IPv4, and IPsec is served over IPv4 only`,
		}},
		"hidden without password": {replaced(t, "tunnel-password: the secret of the carrier", "hide-avps: true"), []string{
			`vr/a.yaml:9:22: "hide-avps" needs a tunnel password: AVPs are hidden by it`,
		}},
		"flags": {replaced(t, "- ipsec-required: false", "- ipsec-required: false\n          single-shot: 1\n          disconnect-cause: on\n          proxy-lcp: \"\"\n          proxy-authentication: y\n          hide-avps: 2\n          tolerate-unknown-avps: x\n          tolerate-tunnel-id-zero: x"), []string{
			`vr/a.yaml:9:24: "single-shot" is "1" but must be true or false`,
			`vr/a.yaml:10:29: "disconnect-cause" is "on" but must be true or false`,
			`vr/a.yaml:11:22: "proxy-lcp" is "" but must be true or false`,
			`vr/a.yaml:12:33: "proxy-authentication" is "y" but must be true or false`,
			`vr/a.yaml:13:22: "hide-avps" is "2" but must be true or false`,
			`vr/a.yaml:14:34: "tolerate-unknown-avps" is "x" but must be true or false`,
			`vr/a.yaml:15:36: "tolerate-tunnel-id-zero" is "x" but must be true or false`,
		}},
		"administrative states (A8)": {replaced(t, "tunnel-switching: true", "admin-state: off"), []string{
			`vr/a.yaml:3:16: "admin-state" is "off" but must be enabled, drain or disabled`,
		}},
		"gateways": {replaced(t, "    address: 10.0.0.1\n", "    address: 10.0.0.1\n    unnumbered-address: 10.0.0.2\n  - name: none\n  - {name: server, address: 192.0.2.1}\n"), []string{
			`vr/a.yaml:8:11: key "ip-profile" is missing; the virtual router has 3 IP profiles to choose from`,
			`vr/a.yaml:12:14: "address" and "unnumbered-address" exclude each other`,
			`vr/a.yaml:14:5: key "unnumbered-address" or "address" is missing`,
			`vr/a.yaml:15:29: 192.0.2.1 is a server address of the virtual router "a", which an interface has; give it as "unnumbered-address"`,
		}},
		"interfaces": {replaced(t, "    address: 10.0.0.1\n", "    address: 10.0.0.1\n    mtu: 1000\n    mss: 961\n    idle-ingress-only: true\n    traffic: {policy-in: slow, rate-out: 1}\n    access-routes: no\n"), []string{
			`vr/a.yaml:14:10: "mss" is 961 but an MTU of 1000 has room for 960 at most`,
			`vr/a.yaml:15:24: "idle-ingress-only" needs "idle-timeout"`,
			`vr/a.yaml:16:26: "policy-in" is "slow" but the virtual router "a" has no such traffic policy`,
			`vr/a.yaml:16:42: "rate-out" is "1" but must be a rate in bits per second such as 512k, 10M or 1G, 8k to 100G or 0 (no limit)`,
			`vr/a.yaml:17:20: "access-routes" is "no" but must be true or false`,
		}},
		"LNSs": {servers(`        - {address: 198.51.100.1, local-address: 192.0.2.9, preference: 16777216, max-sessions: 65536}
        - {tunnel-password: a, tunnel-password-file: key, local-host: "", remote-host: ""}
        - {address: 192.0.2.1}
        - {address: "2001:db8::9", local-address: 192.0.2.1}
        - x
        - {address: "::"}
`), []string{
			`vr/a.yaml:20:50: "local-address" is 192.0.2.9 but must be one of "server-addresses"`,
			`vr/a.yaml:20:73: "preference" is "16777216" but must be 0 to 16777215`,
			`vr/a.yaml:20:97: "max-sessions" is "65536" but must be 1 to 65535 or 0 (no limit)`,
			`vr/a.yaml:21:11: key "address" is missing`,
			`vr/a.yaml:21:54: "tunnel-password-file" and "tunnel-password" exclude each other`,
			`vr/a.yaml:21:71: "local-host" is "" but must not be empty`,
			`vr/a.yaml:21:88: "remote-host" is "" but must not be empty`,
			`vr/a.yaml:22:21: the LNS 192.0.2.1 is this virtual router itself`,
			`vr/a.yaml:23:51: "local-address" is 192.0.2.1 but the LNS is 2001:db8::9, which is no address of the same kind`,
			`vr/a.yaml:24:11: entry 5 of "tunnel-servers" must be a section of keys, not a single value`,
			`vr/a.yaml:25:21: "address" is "::" but must be the address of a host`,
		}},
		"an LNS that cannot be called": {strings.Replace(servers("        - {address: \"2001:db8::9\"}\n"), `, "2001:db8::1"`, "", 1), []string{
			`vr/a.yaml:20:21: the LNS 2001:db8::9 cannot be called: none of "server-addresses" is of the same kind`,
		}},
		"nine LNSs": {servers(strings.Repeat("        - {address: 198.51.100.1}\n", 9)), []string{
			`vr/a.yaml:28:11: "tunnel-servers" has 9 entries but may have 1 to 8`,
		}},
		"what ends here": {servers("        - {address: 198.51.100.1}\n      virtual-router: a\n      gateway: 10.0.0.7\n      pool: main\n      traffic: {rate-in: 1M}\n    - {domain: y.example, tunnel-servers: [{address: 198.51.100.1}], ip-profile: default, session-timeout: 1h, idle-timeout: 5m, idle-ingress-only: true}\n    - {domain: z.example, deny: true, tunnel-servers: [{address: 198.51.100.1}]}\n"), []string{
			`vr/a.yaml:21:23: "tunnel-servers" and "virtual-router" exclude each other: the sessions do not end here`,
			`vr/a.yaml:22:16: "tunnel-servers" and "gateway" exclude each other: the sessions do not end here`,
			`vr/a.yaml:23:13: "tunnel-servers" and "pool" exclude each other: the sessions do not end here`,
			`vr/a.yaml:24:16: "tunnel-servers" and "traffic" exclude each other: the sessions do not end here`,
			`vr/a.yaml:25:82: "tunnel-servers" and "ip-profile" exclude each other: the sessions do not end here`,
			`vr/a.yaml:26:7: "deny" and "tunnel-servers" exclude each other`,
		}},
		"nobody to hand on": {"namespace: {name: n}\naaa: {domain-maps: [{domain: x.example, tunnel-servers: [{address: 198.51.100.1}]}]}\n", []string{
			`vr/a.yaml:2:58: only sessions of L2TP can be handed on, but the virtual router has no destination profile`,
		}},
		"keys": {"ipsec:\n  transport-profiles:\n    - name: t\n      nat-passthrough: maybe\n      local-addresses:\n        - address: 192.0.2.1\n          group-keys:\n" +
			"            - {name: a, key: 0123456789abcdef, valid-from: 2026-08-02, valid-until: tomorrow}\n" +
			"            - {name: b, key: 0123456789abcdeg, valid-from: \"2026-09-01T00:00:00Z\", valid-until: 2026-09-01T02:00:00+02:00}\n" + clear, []string{
			`vr/a.yaml:4:24: "nat-passthrough" is "maybe" but must be true or false`,
			`vr/a.yaml:8:60: "valid-from" is "2026-08-02" but must be a date and time such as 2026-08-01T00:00:00Z or 2026-08-01T02:00:00+02:00`,
			`vr/a.yaml:8:85: "valid-until" is "tomorrow" but must be a date and time such as 2026-08-01T00:00:00Z or 2026-08-01T02:00:00+02:00`,
			`vr/a.yaml:9:97: "valid-until" must be after "valid-from", which is 2026-09-01T00:00:00Z`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, errs := parseFiles(map[string]string{"a": test.in})
			if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if c != nil {
				checkInvariants(t, c)
			}
		})
	}
}

// TestHandsOnWithoutPool: an LNS to which sessions are handed on gives the addresses, and the users of the domain need none of
// ours.
func TestHandsOnWithoutPool(t *testing.T) {
	without := replaced(t, "pools:\n  - name: main\n    ranges: [10.0.0.0/24]\n", "users: [{name: u@x.example, password: p}]\n")
	for in, want := range map[string]bool{without: false, without + "aaa: {domain-maps: [{domain: x.example, tunnel-servers: [{address: 198.51.100.3}]}]}\n": true} {
		if _, _, errs := parseFiles(map[string]string{"a": in}); len(errs) == 0 != want {
			t.Errorf("%s\nerrors: %v", in, errs)
		}
	}
}

// TestTunnelServers: LNSs are in the order of their preference, equal ones in that of the file.
func TestTunnelServers(t *testing.T) {
	in := clear + `aaa:
  domain-maps:
    - domain: x.example
      tunnel-servers:
        - {address: 198.51.100.3, preference: 20}
        - {address: "2001:db8::9", local-address: "2001:db8::1", preference: 10, tunnel-password: pw, local-host: us, remote-host: them, max-sessions: 9}
        - {address: 198.51.100.2, preference: 10, tunnel-password-file: key}
`
	c, warnings, errs := parseFiles(map[string]string{"a": in})
	if len(errs) > 0 {
		t.Fatal(Errors(errs))
	}
	var got []string
	for _, s := range c.Routers[0].AAA.DomainMap("x.example").TunnelServers {
		got = append(got, fmt.Sprintf("%v %v %d %q %q %q %d", s.Server, s.Client, s.Preference, []byte(s.Password), s.LocalHost, s.RemoteHost, s.MaxSessions))
	}
	want := []string{
		`2001:db8::9 2001:db8::1 10 "pw" "us" "them" 9`, `198.51.100.2 invalid IP 10 "a long key in a file" "" "" 0`, `198.51.100.3 invalid IP 20 "" "" "" 0`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("LNSs (-want +got):\n%s", diff)
	}
	if w := lines(warnings); len(w) != 1 || !strings.Contains(w[0], "tunnels in clear text") {
		t.Errorf("warnings %v", w)
	}
}

// TestLNSWarnings has what is legal but unwise, or without effect.
func TestLNSWarnings(t *testing.T) {
	in := strings.Replace(clear, "tunnel-password: the secret of the carrier", "proxy-authentication: true", 1)
	in = strings.Replace(in, "  tunnel-switching: true\n", "", 1) + "aaa: {domain-maps: [{domain: x.example, tunnel-servers: [{address: 198.51.100.1}]}]}\n" +
		"ipsec: {tunnel-profiles: [{name: t, local-address: 192.0.2.1, keys: [{name: k, identity: g, key: 0123456789abcdef}]}], ike-policy-rules: [{priority: 1, aggressive-mode: accepted, encryption: [aes256], hash: [sha256], group: [modp2048]}]}\n"
	_, warnings, errs := parseFiles(map[string]string{"a": in})
	if len(errs) > 0 {
		t.Fatal(Errors(errs))
	}
	want := []string{
		`vr/a.yaml:7:27: tunnels in clear text are accepted`,
		`vr/a.yaml:8:33: without a tunnel password whoever poses as the LAC decides what users are asked, and can repeat a login that it has seen`,
		`vr/a.yaml:15:58: dynamic subscribers of the domain are refused: only sessions of L2TP can be handed on`,
		`vr/a.yaml:15:58: the users of the domain are refused: "tunnel-switching" is off in the l2tp section`,
		`vr/a.yaml:16:70: whoever knows the group key "k" can pose as this server to its clients and learns what they answer; a certificate with hybrid authentication does not have this weakness`,
		`vr/a.yaml:16:170: aggressive mode with a pre-shared key sends anybody who asks a hash from which the key can be guessed`,
	}
	if diff := cmp.Diff(want, lines(warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestKeyRotation: who leaves clients without key is told when (D1r). testNow is noon of 1 August 2026.
func TestKeyRotation(t *testing.T) {
	for name, test := range map[string]struct{ keys, want string }{
		"for ever":            {"{}", ""},
		"from now on":         {"{valid-from: 2026-08-01T12:00:00Z}", ""},
		"overlap":             {"{valid-until: 2026-09-01T00:00:00Z}, {valid-from: 2026-08-20T00:00:00Z}", ""},
		"one after the other": {"{valid-until: 2026-09-01T00:00:00Z}, {valid-from: 2026-09-01T02:00:00+02:00}", ""},
		"in another order":    {"{valid-from: 2026-08-20T00:00:00Z}, {valid-until: 2026-09-01T00:00:00Z}", ""},
		"one that bridges":    {"{valid-until: 2026-09-01T00:00:00Z}, {valid-from: 2026-10-01T00:00:00Z}, {valid-from: 2026-08-30T00:00:00Z, valid-until: 2026-11-01T00:00:00Z}", ""},
		"a short one inside":  {"{valid-until: 2027-01-01T00:00:00Z}, {valid-from: 2026-08-30T00:00:00Z, valid-until: 2026-09-01T00:00:00Z}, {valid-from: 2026-12-01T00:00:00Z}", ""},
		"gap": {"{valid-until: 2026-09-01T00:00:00Z}, {valid-from: 2026-09-01T00:00:01Z}",
			"9:11: no group key of 192.0.2.1 is valid from 2026-09-01T00:00:00Z until 2026-09-01T00:00:01Z"},
		"not yet": {"{valid-from: 2026-08-01T12:00:01Z}", "9:11: no group key of 192.0.2.1 is valid until 2026-08-01T12:00:01Z"},
		"no next": {"{valid-until: 2026-08-01T12:00:01Z}", "9:11: no group key of 192.0.2.1 is valid from 2026-08-01T12:00:01Z on"},
		"expired": {"{valid-until: 2026-08-01T12:00:00Z}",
			"11:62: the group key \"k0\" has expired: no new connection can be made with it"},
		"expired, and the next": {"{valid-until: 2026-08-01T12:00:00Z}, {valid-from: 2026-01-01T00:00:00Z}",
			"11:62: the group key \"k0\" has expired: no new connection can be made with it"},
		"expired, and the next not yet": {"{valid-until: 2026-07-01T12:00:00Z}, {valid-from: 2026-08-02T00:00:00Z}",
			"9:11: no group key of 192.0.2.1 is valid until 2026-08-02T00:00:00Z; 11:62: the group key \"k0\" has expired: no new connection can be made with it"},
	} {
		t.Run(name, func(t *testing.T) {
			list := strings.Split(strings.Trim(test.keys, "{}"), "}, {")
			var keys strings.Builder
			for i, k := range list {
				fmt.Fprintf(&keys, "            - {name: k%d, key: 0123456789abcdef%s}\n", i, strings.TrimSuffix(", "+k, ", "))
			}
			in := with(t, "            - name: main\n              key: 0123456789abcdef\n", keys.String())
			in = strings.Replace(in, "      local-addresses:\n        - address", "      # rotation\n      lifetime: 1h\n      pfs: none\n      local-addresses:\n        - address", 1)
			_, warnings, errs := parseFiles(map[string]string{"a": in})
			if len(errs) > 0 {
				t.Fatal(Errors(errs))
			}
			got := slices.DeleteFunc(lines(warnings), func(l string) bool { return strings.Contains(l, "whoever knows") })
			for i := range got {
				got[i] = strings.TrimPrefix(got[i], "vr/a.yaml:")
			}
			if text := strings.Join(got, "; "); text != test.want {
				t.Errorf("warnings\n%s\nwant\n%s", text, test.want)
			}
		})
	}
}

// TestL2TPRanges has both ends of each range of the parameters of L2TP, and what is outside (1.7).
func TestL2TPRanges(t *testing.T) {
	for _, test := range []struct {
		key       string
		good, bad []string
	}{
		{key: "destruct-timeout", good: []string{"10", "3600"}, bad: []string{"0", "9", "3601"}},
		{key: "idle-timeout", good: []string{"0", "1", "86400"}, bad: []string{"-1", "86401"}},
		{key: "retransmissions-established", good: []string{"2", "7"}, bad: []string{"1", "8"}},
		{key: "retransmissions-not-established", good: []string{"2", "7"}, bad: []string{"1", "8"}},
		{key: "hello-interval", good: []string{"0", "1", "3600"}, bad: []string{"-1", "3601"}},
		{key: "receive-window", good: []string{"0", "1", "32"}, bad: []string{"-1", "33"}},
		{key: "max-sessions", good: []string{"0", "1", "1000000"}, bad: []string{"-1", "1000001"}},
		{key: "setup-timeout", good: []string{"5", "300"}, bad: []string{"4", "301"}},
		{key: "short-drain", good: []string{"0", "31"}, bad: []string{"-1", "32"}},
		{key: "lns-lockout", good: []string{"60", "3600"}, bad: []string{"0", "59", "3601"}},
		{key: "challenge", good: []string{"true", "false"}, bad: []string{"1"}},
		{key: "disconnect-cause", good: []string{"true", "false"}, bad: []string{"1"}},
		{key: "ignore-sequencing", good: []string{"true", "false"}, bad: []string{"1"}},
		{key: "tolerate-unknown-avps", good: []string{"true", "false"}, bad: []string{"1"}},
		{key: "lns-lockout-test", good: []string{"true", "false"}, bad: []string{"1"}},
		{key: "admin-state", good: []string{"enabled", "drain", "disabled"}, bad: []string{"1"}},
	} {
		for i, word := range slices.Concat(test.good, test.bad) {
			in := with(t, "l2tp:\n", "l2tp:\n  "+test.key+": "+word+"\n")
			c, _, errs := parseFiles(map[string]string{"a": in})
			if good := i < len(test.good); good != (len(errs) == 0) || len(errs) > 1 || c != nil != good {
				t.Errorf("%s: %s: %v", test.key, word, errs)
			}
			if c != nil {
				checkInvariants(t, c)
			}
		}
	}
}

// destinations is a router with so many destination profiles.
func destinations(n int) string {
	var s strings.Builder
	s.WriteString(good[:strings.Index(good, "    - name: any\n")])
	for i := range n {
		fmt.Fprintf(&s, "    - {name: d%04d, lac-address: 10.7.%d.%d, host-profiles: [{remote-host: h, local-host: lns, tunnel-password: p%d, max-sessions: 9, single-shot: true}]}\n", i, i/250, i%250+1, i)
	}
	s.WriteString(good[strings.Index(good, "ip-profiles:"):])
	return s.String()
}

// TestDestinationProfileLimit: 4,000 destination profiles, and not one more (G3).
func TestDestinationProfileLimit(t *testing.T) {
	c, _, errs := parseFiles(map[string]string{"a": destinations(4000)})
	if len(errs) > 0 || len(c.Routers[0].Destinations) != 4000 {
		t.Fatal(errs)
	}
	_, _, errs = parseFiles(map[string]string{"a": destinations(4001)})
	want := []string{`vr/a.yaml:4012:7: "destination-profiles" has 4001 entries but may have 0 to 4000`}
	if diff := cmp.Diff(want, lines(errs)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

// BenchmarkDestinations4000 is the part of a reload with 4,000 destination profiles (G3) that this package does.
func BenchmarkDestinations4000(b *testing.B) {
	files := map[string]string{"a": destinations(4000)}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, errs := parseFiles(files); len(errs) > 0 {
			b.Fatal(Errors(errs[:1]))
		}
	}
}

// TestInstants: the same instant may be written in several ways.
func TestInstants(t *testing.T) {
	want := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	for _, word := range []string{"2026-08-01T00:00:00Z", "2026-08-01T02:00:00+02:00", "2026-07-31T23:30:00-00:30"} {
		var i instant
		if err := i.parse(word, ""); err != nil || i.v != want {
			t.Errorf("%s is %v, %v", word, i.v, err)
		}
	}
	for _, word := range []string{"", "2026-08-01", "2026-08-01T00:00:00", "2026-08-01 00:00:00Z", "2026-02-30T00:00:00Z", "now"} {
		if err := new(instant).parse(word, ""); err == nil {
			t.Errorf("%q is taken", word)
		}
	}
}
