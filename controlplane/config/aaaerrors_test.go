package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// aaaBase is a router with a server, a group and a policy, for tests to add to.
const aaaBase = good + `radius:
  servers:
    - {name: s, address: 192.0.2.5, secret: 0123456789abcdef}
  groups:
    - {name: g, servers: [s]}
traffic-policies:
  - {name: web, rate: 1M}
`

// aaaLine is the first line behind aaaBase.
var aaaLine = strings.Count(aaaBase, "\n") + 1

// TestAAAErrors has every mistake of AAA in one router's file. L+n in a message stands for the
// n-th line behind aaaBase.
func TestAAAErrors(t *testing.T) {
	change := func(old, replacement string) string {
		t.Helper()
		if strings.Count(aaaBase, old) != 1 {
			t.Fatalf("%q is not once in the base", old)
		}
		return strings.Replace(aaaBase, old, replacement, 1)
	}
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"nothing": {aaaBase, nil},
		"servers": {change("    - {name: s, address: 192.0.2.5, secret: 0123456789abcdef}\n", `    - {name: s, address: 192.0.2.5, secret: 0123456789abcdef, authentication-port: 65536, accounting-port: -1, timeout: 0, retransmissions: 11, dead-time: 61m}
    - {name: s, address: 192.0.2.5, secret: x, secret-file: key}
    - {address: "2001:db8::5", source-address: 192.0.2.1}
    - {name: t, address: "fe80::1%eth0", secret-file: nowhere}
    - {name: u, address: "::ffff:192.0.2.5", secret: "", status-server: maybe}
    - {name: v, address: 224.0.0.1, secret: 0123456789abcdef, authentication-port: 0, accounting-port: 0}
    - {name: w, address: "::", secret: 0123456789abcdef}
    - {name: x, address: server.example, secret: 0123456789abcdef}
    - {name: y, address: 192.0.2.6, secret: 0123456789abcdef}
    - {name: z, address: 192.0.2.6, secret: 0123456789abcdef, accounting-port: 1}
`), []string{
			`vr/a.yaml:26:84: "authentication-port" is "65536" but must be 1 to 65535 or 0 (not asked)`,
			`vr/a.yaml:26:108: "accounting-port" is "-1" but must be 1 to 65535 or 0 (gets no records)`,
			`vr/a.yaml:26:121: "timeout" is "0" but must be 1s to 60s`,
			`vr/a.yaml:26:141: "retransmissions" is "11" but must be 0 to 10`,
			`vr/a.yaml:26:156: "dead-time" is "61m" but must be 1s to 3600s`,
			`vr/a.yaml:27:14: server "s" is there twice; the first is in line 26`,
			`vr/a.yaml:27:26: 192.0.2.5 is there twice with the same "authentication-port"; the first is in line 26`,
			`vr/a.yaml:27:61: "secret-file" and "secret" exclude each other`,
			`vr/a.yaml:28:7: key "name" is missing`,
			`vr/a.yaml:28:7: key "secret" or "secret-file" is missing`,
			`vr/a.yaml:28:48: 2001:db8::5 cannot be reached from the "source-address", 192.0.2.1: one is IPv4, the other IPv6`,
			`vr/a.yaml:29:26: "address" is "fe80::1%eth0" but must be an address without zone`,
			`vr/a.yaml:29:55: "secret-file" is "nowhere" but the file cannot be read: file does not exist`,
			`vr/a.yaml:30:26: "address" is "::ffff:192.0.2.5" but must be written as IPv4 address: 192.0.2.5`,
			`vr/a.yaml:30:54: "secret" must not be empty`,
			`vr/a.yaml:30:73: "status-server" is "maybe" but must be true or false`,
			`vr/a.yaml:31:26: "address" is "224.0.0.1" but must be the address of a host`,
			`vr/a.yaml:31:84: the server is good for nothing: "authentication-port" and "accounting-port" are both 0`,
			`vr/a.yaml:32:26: "address" is "::" but must be the address of a host`,
			`vr/a.yaml:33:26: "address" is "server.example" but must be an IPv4 or IPv6 address`,
			`vr/a.yaml:35:26: 192.0.2.6 is there twice with the same "authentication-port"; the first is in line 34`,
		}},
		"families": {change("radius:\n  servers:\n    - {name: s, address: 192.0.2.5,", "radius:\n  source-address: 192.0.2.1\n  servers:\n    - {name: s, address: \"2001:db8::5\","), []string{
			`vr/a.yaml:27:26: 2001:db8::5 cannot be reached from the "source-address" of the section, 192.0.2.1: one is IPv4, the other IPv6`,
		}},
		"groups": {change("    - {name: g, servers: [s]}\n", `    - {name: g, servers: [s, t, s]}
    - {name: g, servers: []}
    - {name: h, servers: [s], strategy: random}
`), []string{
			`vr/a.yaml:28:30: there is no server "t"; did you mean "s"?`,
			`vr/a.yaml:28:33: "s" is twice in "servers"`,
			`vr/a.yaml:29:14: group "g" is there twice; the first is in line 28`,
			`vr/a.yaml:29:26: "servers" has 0 entries but may have 1 to 16`,
			`vr/a.yaml:30:41: "strategy" is "random" but must be priority or round-robin`,
		}},
		"no server for dynamic authorization": {good + "radius: {dynamic-authorization: {enabled: true}}\n", []string{
			`vr/a.yaml:24:43: nobody could use dynamic authorization: there are neither "clients" nor servers that may be clients`,
		}},
		"dynamic authorization": {change("radius:\n", `radius:
  dynamic-authorization:
    enabled: true
    port: 4500
    addresses: [192.0.2.1, 192.0.2.1]
    servers-are-clients: false
    clients:
      - {address: 192.0.2.9, secret: 0123456789abcdef}
      - {address: 192.0.2.9, secret: 0123456789abcdef}
      - {address: 192.0.2.8}
    clock-window: 0
`), []string{
			`vr/a.yaml:27:11: "port" is 4500, on which clients are served`,
			`vr/a.yaml:28:28: entry 2 of "addresses", 192.0.2.1, is there twice`,
			`vr/a.yaml:32:19: the client 192.0.2.9 is there twice; the first is in line 31`,
			`vr/a.yaml:33:9: key "secret" or "secret-file" is missing`,
			`vr/a.yaml:34:19: "clock-window" is "0" but must be 1s to 3600s`,
		}},
		"servers at one address with different secrets": {change("  groups:\n", "    - {name: t, address: 192.0.2.5, authentication-port: 1, accounting-port: 2, secret: another 0123456789}\n  dynamic-authorization: {enabled: true}\n  groups:\n"), []string{
			`vr/a.yaml:27:26: the servers at 192.0.2.5 have different secrets; name the one for dynamic authorization in its "clients"`,
		}},
		"methods": {aaaBase + "aaa: {methods: [radius, tacacs, radius], authentication-group: gg, accounting-group: h}\n", []string{
			`vr/a.yaml:L+0:16: "methods" has 3 entries but may have 1 to 2`,
			`vr/a.yaml:L+0:64: "authentication-group" is "gg" but the virtual router "a" has no such group; did you mean "g"?`,
			`vr/a.yaml:L+0:86: "accounting-group" is "h" but the virtual router "a" has no such group; did you mean "g"?`,
		}},
		"methods twice":   {aaaBase + "aaa: {methods: [radius, radius]}\n", []string{`vr/a.yaml:L+0:25: radius is twice in "methods"`}},
		"unknown method":  {aaaBase + "aaa: {methods: [tacacs]}\n", []string{`vr/a.yaml:L+0:17: entry 1 of "methods" is "tacacs" but must be local or radius`}},
		"radius of none":  {good + "aaa: {methods: [local, radius]}\n", []string{`vr/a.yaml:24:24: radius needs "authentication-group": the virtual router "a" has 0 groups`}},
		"radius of which": {change("servers: [s]}\n", "servers: [s]}\n    - {name: h, servers: [s]}\n") + "aaa: {methods: [radius]}\n", []string{`vr/a.yaml:32:17: radius needs "authentication-group": the virtual router "a" has 2 groups`}},
		"ports that a group needs": {change("secret: 0123456789abcdef}\n", "secret: 0123456789abcdef, authentication-port: 0}\n    - {name: t, address: 192.0.2.6, secret: 0123456789abcdef, accounting-port: 0}\n") + "aaa: {authentication-group: g}\n", []string{
			`vr/a.yaml:32:29: "authentication-group" is "g" but no server of the group has an "authentication-port"`,
		}},
		"required accounting without group": {good + "aaa: {accounting: {required: true}}\n", []string{
			`vr/a.yaml:24:30: accounting is "required" but there is no group of servers that takes it`,
		}},
		"required accounting that is off": {aaaBase + "aaa: {accounting: {required: true, enabled: false, interim-interval: 59, interim-minimum: 0}}\n", []string{
			`vr/a.yaml:L+0:30: accounting is "required" but not "enabled"`,
			`vr/a.yaml:L+0:70: "interim-interval" is "59" but must be 60s to 86400s or 0 (none)`,
			`vr/a.yaml:L+0:91: "interim-minimum" is "0" but must be 60s to 86400s`,
		}},
		"interim below its minimum": {aaaBase + "aaa: {accounting: {interim-interval: 60, interim-minimum: 2m}}\n", []string{
			`vr/a.yaml:L+0:38: "interim-interval" must not be below "interim-minimum", which is 2m0s`,
		}},
		"names": {aaaBase + `aaa:
  names: {domain-delimiters: "@a", realm-delimiters: "!!", parse-order: realm, domain-direction: left, realm-direction: right}
`, []string{
			`vr/a.yaml:L+1:30: "domain-delimiters" is "@a" but must consist of visible ASCII characters that are no letters or digits`,
			`vr/a.yaml:L+1:54: "realm-delimiters" is "!!" but has '!' twice`,
			`vr/a.yaml:L+1:73: "parse-order" is "realm" but must be realm-first or domain-first`,
			`vr/a.yaml:L+1:98: "domain-direction" is "left" but must be left-to-right or right-to-left`,
			`vr/a.yaml:L+1:121: "realm-direction" is "right" but must be left-to-right or right-to-left`,
		}},
		"nine delimiters (R1)":            {aaaBase + "aaa: {names: {domain-delimiters: \"!#$%&*+-.\"}}\n", []string{`vr/a.yaml:L+0:34: "domain-delimiters" is "!#$%&*+-." but must be at most 8 characters`}},
		"a delimiter of both":             {aaaBase + "aaa: {names: {realm-delimiters: \"/@\"}}\n", []string{`vr/a.yaml:L+0:33: '@' is in "realm-delimiters" and in "domain-delimiters", so it would be unclear what it means`}},
		"timeouts (R3)":                   {aaaBase + "aaa: {session-timeout: 59, idle-timeout: 86401, unknown-policy: warn}\n", []string{`vr/a.yaml:L+0:24: "session-timeout" is "59" but must be 60s to 31622400s or 0 (366 days for L2TP, for ever for others)`, `vr/a.yaml:L+0:42: "idle-timeout" is "86401" but must be 300s to 86400s or 0 (for ever)`, `vr/a.yaml:L+0:65: "unknown-policy" is "warn" but must be refuse or ignore`}},
		"ingress of no idle timeout (R3)": {good + "    idle-ingress-only: true\naaa: {idle-ingress-only: true, domain-maps: [{domain: x, idle-ingress-only: true}]}\n", []string{`vr/a.yaml:24:24: "idle-ingress-only" needs "idle-timeout"`, `vr/a.yaml:25:26: "idle-ingress-only" needs "idle-timeout"`, `vr/a.yaml:25:77: "idle-ingress-only" needs "idle-timeout"`}},
		"ingress of a server's":           {aaaBase + "aaa: {idle-ingress-only: true}\n", nil},
		"terminate codes (R10)": {aaaBase + "aaa: {terminate-codes: [{reason: x, code: 0}, {reason: x, code: 4294967296}, {code: 1}]}\n", []string{
			`vr/a.yaml:L+0:43: "code" is "0" but must be 1 to 4294967295`,
			`vr/a.yaml:L+0:56: reason "x" is there twice; the first is in line L+0`,
			`vr/a.yaml:L+0:65: "code" is "4294967296" but must be 1 to 4294967295`,
			`vr/a.yaml:L+0:78: key "reason" is missing`,
		}},
		"domain maps": {aaaBase + `aaa:
  domain-maps:
    - {domain: X.example}
    - {domain: x.Example, max-sessions: 1000001, session-timeout: 59, idle-timeout: 299}
    - {deny: true, methods: [local], pool: main, traffic: {}, override-user: {name: x, password: y}, idle-ingress-only: true}
    - {domain: y, virtual-router: b, ip-profile: default}
    - {domain: z, ip-profile: standard, authentication-group: h, accounting-group: h}
    - {domain: o, override-user: {name: x}}
    - {domain: p, pool: man, gateway: 10.0.0.0/8, traffic: {policy-in: wep, policy-out: x, rate-in: 7999, burst-out: 2000}}
    - {domain: q, override-user: {password: y, password-file: key}}
    - {domain: r, override-user: {name: x, password-file: long}, methods: [radius]}
`, []string{
			`vr/a.yaml:L+3:16: domain map "x.example" is there twice; the first is in line L+2`,
			`vr/a.yaml:L+3:41: "max-sessions" is "1000001" but must be 1 to 1000000 or 0 (no bound of its own)`,
			`vr/a.yaml:L+3:67: "session-timeout" is "59" but must be 60s to 31622400s or 0 (that of the aaa section)`,
			`vr/a.yaml:L+3:85: "idle-timeout" is "299" but must be 300s to 86400s or 0 (that of the aaa section)`,
			`vr/a.yaml:L+4:7: "deny" and "methods" exclude each other`,
			`vr/a.yaml:L+4:7: key "domain" is missing`,
			`vr/a.yaml:L+4:44: "deny" and "pool" exclude each other`,
			`vr/a.yaml:L+4:59: "deny" and "traffic" exclude each other`,
			`vr/a.yaml:L+4:78: "deny" and "override-user" exclude each other`,
			`vr/a.yaml:L+4:121: "deny" and "idle-ingress-only" exclude each other`,
			`vr/a.yaml:L+5:35: "virtual-router" and "ip-profile" exclude each other`,
			`vr/a.yaml:L+6:31: "ip-profile" is "standard" but there is no such IP profile`,
			`vr/a.yaml:L+6:63: "authentication-group" is "h" but the virtual router "a" has no such group; did you mean "g"?`,
			`vr/a.yaml:L+6:84: "accounting-group" is "h" but the virtual router "a" has no such group; did you mean "g"?`,
			`vr/a.yaml:L+8:25: "pool" is "man" but the virtual router "a" has no such pool; did you mean "main"?`,
			`vr/a.yaml:L+8:39: "gateway" is "10.0.0.0/8" but must be a single IPv4 address, not a prefix`,
			`vr/a.yaml:L+8:72: "policy-in" is "wep" but the virtual router "a" has no such traffic policy; did you mean "web"?`,
			`vr/a.yaml:L+8:89: "policy-out" is "x" but the virtual router "a" has no such traffic policy`,
			`vr/a.yaml:L+8:101: "rate-in" is "7999" but must be a rate in bits per second such as 512k, 10M or 1G, 8k to 100G or 0 (no limit)`,
			`vr/a.yaml:L+8:118: "burst-out" needs "rate-out"`,
			`vr/a.yaml:L+9:34: key "name" is missing`,
			`vr/a.yaml:L+9:63: "password-file" and "password" exclude each other`,
			`vr/a.yaml:L+10:59: the password in the file must be at most 128 bytes long: RADIUS cannot carry more`,
		}},
		"too many domain maps": {aaaBase + "aaa:\n  domain-maps: [" + strings.Repeat("{},", 4001) + "]\n", []string{`vr/a.yaml:L+1:16: "domain-maps" has 4001 entries but may have 0 to 4000`}},
		"the gateway of a domain is nobody's address": {good + "    address: 10.0.0.9\naaa: {domain-maps: [{domain: x, gateway: 10.0.0.9}]}\n", []string{
			`vr/a.yaml:24:14: the address 10.0.0.9 is a gateway address, at vr/a.yaml:25:42`,
		}},
		"limits": {aaaBase + "limits: {per-user: -1, per-domain: 1000001, per-source: x, per-router: 1.5, when-reached: drop, replaces: [group, user, user]}\n", []string{
			`vr/a.yaml:L+0:20: "per-user" is "-1" but must be 1 to 1000000 or 0 (no limit)`,
			`vr/a.yaml:L+0:36: "per-domain" is "1000001" but must be 1 to 1000000 or 0 (no limit)`,
			`vr/a.yaml:L+0:57: "per-source" is "x" but must be a decimal number, 1 to 1000000 or 0 (no limit)`,
			`vr/a.yaml:L+0:72: "per-router" is "1.5" but must be a decimal number, 1 to 1000000 or 0 (no limit)`,
			`vr/a.yaml:L+0:91: "when-reached" is "drop" but must be deny or replace-oldest`,
			`vr/a.yaml:L+0:108: entry 1 of "replaces" is "group" but must be user, domain, source or router`,
			`vr/a.yaml:L+0:121: user is twice in "replaces"`,
		}},
		"no limit": {aaaBase + "limits: {when-reached: replace-oldest, replaces: []}\n", []string{
			`vr/a.yaml:L+0:50: "replaces" has 0 entries but may have 1 to 4`,
		}},
		"traffic policies": {change("  - {name: web, rate: 1M}\n", `  - name: web
    burst: 1499
    rules:
      - {action: allow, network: 10.0.0.1/8, protocol: 0, ports: 1}
      - {network: "::/0", protocol: tpc, ports: 0}
      - {action: deny, ports: 80}
      - {action: deny, protocol: icmp, ports: 9-8}
      - {action: deny, protocol: udp, ports: 65536}
  - {name: web, burst: 1500}
  - {name: many, rules: [`+strings.Repeat("{action: deny},", 65)+`]}
  - {name: fast, rate: 101G}
`), []string{
			`vr/a.yaml:31:12: "burst" is "1499" but must be 1500 to 1000000000 or 0 (what suits the rate)`,
			`vr/a.yaml:33:18: "action" is "allow" but must be permit or deny`,
			`vr/a.yaml:33:34: "network" is "10.0.0.1/8" but must be a network without host bits: 10.0.0.0/8`,
			`vr/a.yaml:33:56: "protocol" is "0" but must be a number, 1 to 255, or icmp, ipip, tcp, udp, gre, esp, ah or sctp`,
			`vr/a.yaml:34:9: key "action" is missing`,
			`vr/a.yaml:34:19: "network" is "::/0" but must be an IPv4 network such as 10.0.0.0/8, or an address`,
			`vr/a.yaml:34:37: "protocol" is "tpc" but must be a number, 1 to 255, or icmp, ipip, tcp, udp, gre, esp, ah or sctp`,
			`vr/a.yaml:34:49: "ports" is "0" but must be a port such as 443 or a range such as 8000-8099, 1 to 65535`,
			`vr/a.yaml:35:31: "ports" needs "protocol" tcp, udp or sctp`,
			`vr/a.yaml:36:47: "ports" is "9-8" but its last port comes before its first`,
			`vr/a.yaml:36:47: "ports" needs "protocol" tcp, udp or sctp`,
			`vr/a.yaml:37:46: "ports" is "65536" but must be a port such as 443 or a range such as 8000-8099, 1 to 65535`,
			`vr/a.yaml:38:12: traffic policy "web" is there twice; the first is in line 30`,
			`vr/a.yaml:38:24: "burst" needs "rate"`,
			`vr/a.yaml:39:25: "rules" has 65 entries but may have 0 to 64`,
			`vr/a.yaml:40:24: "rate" is "101G" but must be a rate in bits per second such as 512k, 10M or 1G, 8k to 100G or 0 (no limit)`,
		}},
		"users": {change("    password: secret of alice\n", `    password: secret of alice
    address: 10.0.0.9
    pool: man
    netmask: 255.0.255.0
    mtu: 575
    routes: [{network: 10.1.0.0/16}, {network: 10.1.2.0/24, metric: 4294967296}, {network: 0.0.0.0/0}, {}]
    dns: [1.1.1.1, 1.1.1.1]
    networks: [10.0.0.0/8, 10.0.0.0/8]
    traffic: {policy-out: nop}
`), []string{
			`vr/a.yaml:25:11: "pool" and "address" exclude each other`,
			`vr/a.yaml:25:11: "pool" is "man" but the virtual router "a" has no such pool; did you mean "main"?`,
			`vr/a.yaml:26:14: "netmask" is "255.0.255.0" but must be a netmask whose bits are set from the left without a gap`,
			`vr/a.yaml:27:10: "mtu" is "575" but must be 576 to 9000 or 0 (none)`,
			`vr/a.yaml:28:48: 10.1.2.0/24 and 10.1.0.0/16 overlap`,
			`vr/a.yaml:28:69: "metric" is "4294967296" but must be 0 to 4294967295`,
			`vr/a.yaml:28:92: everything cannot be behind a user`,
			`vr/a.yaml:28:104: key "network" is missing`,
			`vr/a.yaml:29:20: 1.1.1.1 is twice in "dns"`,
			`vr/a.yaml:30:28: 10.0.0.0/8 is twice in "networks"`,
			`vr/a.yaml:31:27: "policy-out" is "nop" but the virtual router "a" has no such traffic policy`,
		}},
		"netmask": {good + "    netmask: 0.0.0.0\n", []string{`vr/a.yaml:24:14: "netmask" is "0.0.0.0" but must be a netmask such as 255.255.255.0`}},
		"warnings of pools": {with(t, "    ranges: [10.0.0.0/24]\n", "    ranges: [10.0.0.0/24]\n    warn-at: 101\n    warn-until: 91\n"), []string{
			`vr/a.yaml:21:14: "warn-at" is "101" but must be 1 to 100 or 0 (never)`,
		}},
		"well again above the warning": {with(t, "    ranges: [10.0.0.0/24]\n", "    ranges: [10.0.0.0/24]\n    warn-at: 50\n    warn-until: 51\n"), []string{
			`vr/a.yaml:22:17: "warn-until" is 51 but must not be above "warn-at", which is 50`,
		}},
		"EAP without RADIUS":            {good + "ppp: {authentication: [mschapv2, eap]}\n", []string{`vr/a.yaml:24:34: eap needs RADIUS: it is relayed to a server, and nobody is asked by the method radius`}},
		"EAP by local users alone":      {aaaBase + "ppp: {authentication: [eap]}\naaa: {methods: [local]}\n", []string{`vr/a.yaml:L+0:24: eap needs RADIUS: it is relayed to a server, and nobody is asked by the method radius`}},
		"EAP for one domain":            {aaaBase + "ppp: {authentication: [eap]}\naaa: {methods: [local], domain-maps: [{domain: x, methods: [radius]}]}\n", nil},
		"a pool by domain for any user": {with(t, "pools:\n  - name: main\n    ranges: [10.0.0.0/24]\n", "aaa: {domain-maps: [{domain: default, virtual-router: a}]}\n"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, errs := parseFiles(map[string]string{"a": test.in})
			want := slices.Clone(test.want)
			for i := range want {
				for n := 10; n >= 0; n-- {
					want[i] = strings.ReplaceAll(want[i], fmt.Sprintf("L+%d", n), fmt.Sprint(aaaLine+n))
				}
			}
			slices.Sort(want)
			got := lines(errs)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if (c == nil) != (len(errs) > 0) {
				t.Error("there must be a Config iff there are no errors")
			}
			if c != nil {
				checkInvariants(t, c)
			}
		})
	}
}

// TestAAAErrorsBetweenFiles has the contradictions between virtual routers.
func TestAAAErrorsBetweenFiles(t *testing.T) {
	inside := "vrf: {device: v, table: 10}\n"
	elsewhere := "namespace: {name: n}\n"
	maps := func(entries string) string {
		return aaaBase + "aaa: {authentication-group: g, domain-maps: [" + entries + "]}\n"
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"default router (R6)": {map[string]string{"vrgate": "default-router: aa\n", "a": aaaBase}, []string{
			`vrgate.yaml:1:17: "default-router" is "aa" but there is no such virtual router; did you mean "a"?`,
		}},
		"the journal": {map[string]string{"vrgate": "accounting-journal: {max-records: 999, parallel: 0}\nadmission: {concurrent: 0, waiting: -1, per-source: 0}\n", "a": aaaBase}, []string{
			`vrgate.yaml:1:35: "max-records" is "999" but must be 1000 to 100000000`,
			`vrgate.yaml:1:50: "parallel" is "0" but must be 1 to 1024`,
			`vrgate.yaml:2:25: "concurrent" is "0" but must be 1 to 10000`,
			`vrgate.yaml:2:37: "waiting" is "-1" but must be 0 to 1000000`,
			`vrgate.yaml:2:53: "per-source" is "0" but must be 1 to 1000000`,
		}},
		"routers and groups of domains": {
			map[string]string{
				"a": maps("{domain: x, authentication-router: c}, {domain: y, authentication-router: b, authentication-group: g, methods: [local]}, {domain: z, authentication-router: b, methods: [radius]}, {domain: w, virtual-router: c}"),
				"b": inside,
			},
			[]string{
				`vr/a.yaml:31:81: "authentication-router" is "c" but there is no such virtual router; did you mean "a"?`,
				`vr/a.yaml:31:145: "authentication-group" is "g" but the virtual router "b" has no such group`,
				`vr/a.yaml:31:215: radius needs "authentication-group": the virtual router "b" has 0 groups`,
				`vr/a.yaml:31:253: "virtual-router" is "c" but there is no such virtual router; did you mean "a"?`,
			},
		},
		"L2TP subscribers in another namespace": {
			map[string]string{"a": maps("{domain: x, virtual-router: b}, {domain: y, virtual-router: c}"), "b": elsewhere, "c": inside},
			[]string{`vr/a.yaml:31:74: the virtual router "b" is in another namespace; L2TP subscribers can terminate in another virtual router of the same namespace only`},
		},
		"by an IP profile": {
			map[string]string{
				"a": strings.Replace(strings.Replace(maps("{domain: x, ip-profile: far}"), "ip-profiles:\n", "ip-profiles:\n  - {name: far, virtual-router: b, unnumbered-address: 10.0.0.1}\n", 1), "- remote-host: default", "- ip-profile: default", 1),
				"b": elsewhere,
			},
			[]string{`vr/a.yaml:16:33: the virtual router "b" is in another namespace; L2TP subscribers can terminate in another virtual router of the same namespace only`},
		},
		"pools and policies where a domain terminates": {
			map[string]string{
				"a": maps("{domain: x, virtual-router: b}, {domain: y, virtual-router: b, pool: main}, {domain: z, virtual-router: b, pool: q, traffic: {policy-in: web}}"),
				"b": inside + "pools: [{name: p, ranges: [10.3.0.0/24]}, {name: q, ranges: [10.4.0.0/24]}]\n",
			},
			[]string{
				`vr/a.yaml:31:46: key "pool" is missing; the virtual router "b" has 2 pools to choose from`,
				`vr/a.yaml:31:115: "pool" is "main" but the virtual router "b" has no such pool`,
				`vr/a.yaml:31:183: "policy-in" is "web" but the virtual router "b" has no such traffic policy`,
			},
		},
		"what a user gets elsewhere": {
			map[string]string{
				"a": strings.Replace(aaaBase, "    password: secret of alice\n", "    password: secret of alice\n    virtual-router: b\n    pool: main\n    traffic: {policy-in: web}\n", 1),
				"b": inside,
			},
			[]string{
				`vr/a.yaml:25:11: "pool" is "main" but the virtual router "b" has no such pool`,
				`vr/a.yaml:26:26: "policy-in" is "web" but the virtual router "b" has no such traffic policy`,
			},
		},
		"a domain that brings what a user needs": {
			map[string]string{
				"a": strings.Replace(strings.Replace(maps("{domain: x, virtual-router: b}"), "pools:\n  - name: main\n    ranges: [10.0.0.0/24]\n", "", 1), "    password: secret of alice\n", "    password: secret of alice\n    traffic: {policy-in: there}\n", 1),
				"b": inside + "pools: [{name: p, ranges: [10.3.0.0/24]}]\ntraffic-policies: [{name: there, rate: 1M}]\n",
			},
			nil,
		},
		"no address left by a domain's gateway": {
			map[string]string{"a": maps("{domain: x, virtual-router: b, gateway: 10.3.0.1}"), "b": inside + "pools: [{name: p, ranges: [10.3.0.1]}]\n"},
			[]string{`vr/b.yaml:2:16: pool "p" has no address left: exclusions, gateway and fixed addresses take all of them`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, errs := parseFiles(test.files)
			if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if c != nil {
				checkInvariants(t, c)
			}
		})
	}
}

// TestOneMistakeOneMessage: what follows from a value that did not decode is not a mistake of its
// own.
func TestOneMistakeOneMessage(t *testing.T) {
	for _, test := range []struct{ old, mistake, rest, want string }{
		{"address: 192.0.2.5", "address: here", "aaa: {authentication-group: h, accounting: {required: true}}\n", `vr/a.yaml:26:26: "address" is "here" but must be an IPv4 or IPv6 address`},
		{"    - {name: g, servers: [s]}", "    g", "aaa: {methods: [radius]}\n", `vr/a.yaml:28:5: "groups" must be a list, not a single value`},
		{"  - {name: web, rate: 1M}", "  web", "aaa: {domain-maps: [{domain: x, traffic: {policy-in: web}}]}\n", `vr/a.yaml:30:3: "traffic-policies" must be a list, not a single value`},
		{"  - name: main\n    ranges: [10.0.0.0/24]", "  main", "aaa: {domain-maps: [{domain: x, pool: main}]}\n", `vr/a.yaml:19:3: "pools" must be a list, not a single value`},
		{"  - name: default\n", "  - name: \"\"\n", "aaa: {domain-maps: [{domain: x, ip-profile: default}]}\n", `vr/a.yaml:16:11: "name" is "" but must not be empty`},
		{"  - {name: web, rate: 1M}", "  - {name: web, rate: 1X, burst: 2000}", "", `vr/a.yaml:30:23: "rate" is "1X" but must be a rate in bits per second such as 512k, 10M or 1G, 8k to 100G or 0 (no limit)`},
		{"  groups:", "  dynamic-authorization: {enabled: true, servers-are-clients: false, clients: [{address: x, secret: 0123456789abcdef}]}\n  groups:", "", `vr/a.yaml:27:90: "address" is "x" but must be an IPv4 or IPv6 address`},
		{"    password: secret of alice", "    password: secret of alice\n    mtu: 1", "ppp: {authentication: [eap]}\naaa: {methods: [raduis]}\n", ""},
	} {
		in := strings.Replace(aaaBase, test.old, test.mistake, 1) + test.rest
		if test.want == "" {
			in = aaaBase + test.rest
			test.want = `vr/a.yaml:32:17: entry 1 of "methods" is "raduis" but must be local or radius`
		}
		_, _, errs := parseFiles(map[string]string{"a": in})
		if diff := cmp.Diff([]string{test.want}, lines(errs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.mistake, diff)
		}
	}
}

// TestAAAWarnings has what is legal but unwise.
func TestAAAWarnings(t *testing.T) {
	in := good[:strings.Index(good, "users:")] + `users:
  - {name: alice, password: secret of alice}
radius:
  servers:
    - {name: s, address: 192.0.2.5, secret: fifteen letters, require-message-authenticator: false}
    - {name: t, address: 192.0.2.6, secret-file: short}
  groups:
    - {name: g, servers: [s]}
    - {name: h, servers: [s]}
  dynamic-authorization:
    clients: [{address: 192.0.2.9, secret: short}]
traffic-policies:
  - {name: nothing}
  - name: covered
    rules:
      - {action: permit, network: 0.0.0.0/0}
      - {action: deny, protocol: tcp}
limits: {when-reached: replace-oldest}
aaa:
  methods: [local]
  authentication-group: g
  accounting-group: g
  accounting: {enabled: false}
  names: {realm-delimiters: "/"}
  domain-maps:
    - {domain: a@b, accounting-group: g, methods: [local], authentication-group: g}
    - {domain: a/b}
    - {domain: "a/b@c"}
    - {domain: over, methods: [radius], authentication-group: g, override-user: {name: x, password: y}}
`
	secretFiles["short"] = secretFiles["world"]
	defer delete(secretFiles, "short")
	short := secretFiles["short"]
	short.data, short.mode = "short", 0o600
	secretFiles["short"] = short
	_, warnings, errs := parseFiles(map[string]string{"a": in})
	if len(errs) > 0 {
		t.Fatal(Errors(errs))
	}
	want := []string{
		`vr/a.yaml:8:15: whoever knows the group key "main" can pose as this server to its clients; give a client a key of its own where its address is known`,
		`vr/a.yaml:25:45: a RADIUS secret of fewer than 16 characters can be guessed from one recorded packet`,
		`vr/a.yaml:25:93: answers of the server "s" are taken without Message-Authenticator: whoever can change packets on the way can let anybody in`,
		`vr/a.yaml:26:14: the server "t" is in no group, so it is never asked`,
		`vr/a.yaml:26:50: a RADIUS secret of fewer than 16 characters can be guessed from one recorded packet`,
		`vr/a.yaml:29:14: the group "h" is never used`,
		`vr/a.yaml:31:5: there are clients, but dynamic authorization is not "enabled"`,
		`vr/a.yaml:31:44: a RADIUS secret of fewer than 16 characters can be guessed from one recorded packet`,
		`vr/a.yaml:33:5: the traffic policy does nothing: it has neither "rate" nor "rules"`,
		`vr/a.yaml:37:9: the rule is never reached: the one in line 36 matches every packet`,
		`vr/a.yaml:38:24: replace-oldest has no effect without "per-user"`,
		`vr/a.yaml:41:25: the group is never asked: "radius" is not among the methods`,
		`vr/a.yaml:42:21: the group gets no records: accounting is not "enabled"`,
		`vr/a.yaml:46:39: the group gets no records: accounting is not "enabled" in the virtual router "a"`,
		`vr/a.yaml:46:82: the group is never asked: "radius" is not among the methods`,
		`vr/a.yaml:48:16: the domain map is never used: by the delimiters no user name has the domain "a/b@c"`,
		`vr/a.yaml:49:81: nobody checks the users of the domain: servers are sent the name and password given here`,
	}
	if diff := cmp.Diff(want, lines(warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	_, warnings, errs = parseFiles(map[string]string{"a": aaaBase + "aaa: {names: {domain-delimiters: \"\"}, domain-maps: [{domain: x}, {domain: default}, {domain: none}]}\n"})
	if got := lines(append(warnings, errs...)); len(got) != 2 || !strings.Contains(got[1], `no user name has the domain "x"`) {
		t.Errorf("without delimiters: %v", got)
	}
	_, warnings, _ = parseFiles(map[string]string{"a": strings.Replace(aaaBase, "radius:\n", "radius:\n  dynamic-authorization: {enabled: true, require-message-authenticator: false}\n", 1)})
	if got := lines(warnings); len(got) != 2 || !strings.Contains(got[1], "requests are taken without Message-Authenticator") {
		t.Errorf("requests without Message-Authenticator: %v", got)
	}
}

// TestAAASecretsStaySecret puts a marker wherever AAA has a secret, with every kind of mistake
// around it, and looks at what a whole Config prints.
func TestAAASecretsStaySecret(t *testing.T) {
	const marker = "hunter2hunter2"
	for _, place := range []string{"secret: the secret of server one", "secret: the secret of the portal", "password: the password"} {
		key, _, _ := strings.Cut(place, ":")
		for _, v := range []string{marker, marker + strings.Repeat("x", 300), `"` + marker + `\n"`, "[" + marker + "]", "{" + marker + ": 1}", "&a " + marker, `"` + marker} {
			files := aaaFiles()
			if strings.Count(files["out"], place) != 1 {
				t.Fatalf("%q is not once there", place)
			}
			files["out"] = strings.Replace(files["out"], place, key+": "+v, 1)
			c, warnings, errs := parseFiles(files)
			if (c == nil) == (v == marker) {
				t.Errorf("%s: %q gives %v", key, v, errs)
			}
			for _, d := range append(warnings, errs...) {
				if strings.Contains(d.Message, marker) {
					t.Errorf("a message shows a secret: %v", d)
				}
			}
			if c == nil {
				continue
			}
			for _, r := range c.Routers {
				if text := fmt.Sprintf("%v %+v %#v", *r, *r, *r); strings.Contains(text, marker) {
					t.Error("a router prints a secret")
				}
			}
		}
	}
}

// TestRates: bits per second by powers of 1000, and nothing that could be meant otherwise.
func TestRates(t *testing.T) {
	for word, want := range map[string]uint64{
		"0": 0, "8000": 8000, "8k": 8000, "1500k": 1_500_000, "10M": 10_000_000, "100G": 100_000_000_000, "100000000000": 100_000_000_000,
	} {
		var r rate
		if err := r.parse(word, ""); err != nil || r.v != want {
			t.Errorf("%s is %d, %v; want %d", word, r.v, err, want)
		}
	}
	for _, word := range []string{"", "k", "0x10", "-8k", "+8k", "08k", "8K", "8 k", "1.5M", "10m", "7999", "7k", "101G", "100000000001", "99999999999999999999", "18446744073709551615k", "10Mbit"} {
		var r rate
		if err := r.parse(word, ""); err == nil {
			t.Errorf("%q is %d", word, r.v)
		}
	}
}

// TestReplaces: what has no effect is said, and what is left out is the user's limit.
func TestReplaces(t *testing.T) {
	const maps = "aaa: {domain-maps: [{domain: x, max-sessions: 3}]}\n"
	for _, test := range []struct {
		limits, more string
		want         []SessionLimit
		warnings     []string
	}{
		{"per-user: 1", "", nil, nil},
		{"per-user: 1, when-reached: replace-oldest", "", []SessionLimit{LimitUser}, nil},
		{"when-reached: replace-oldest", "", []SessionLimit{LimitUser}, []string{`24: replace-oldest has no effect without "per-user"`}},
		{"per-user: 1, replaces: [user]", "", nil, []string{`34: "replaces" has no effect without "when-reached: replace-oldest"`}},
		{"when-reached: replace-oldest, replaces: [domain]", maps, []SessionLimit{LimitDomain}, nil},
		{"when-reached: replace-oldest, per-source: 1, replaces: [source, router, domain]", "", []SessionLimit{LimitSource, LimitRouter, LimitDomain}, []string{
			`74: router has no effect in "replaces" without "per-router"`, `82: domain has no effect in "replaces" without "per-domain"`,
		}},
	} {
		c, warnings, errs := parseFiles(map[string]string{"a": good + "    address: 10.0.0.9\nlimits: {" + test.limits + "}\n" + test.more})
		if len(errs) > 0 {
			t.Errorf("%s: %v", test.limits, Errors(errs))
			continue
		}
		var got []string
		for _, w := range lines(warnings) {
			if w, ok := strings.CutPrefix(w, "vr/a.yaml:25:"); ok {
				got = append(got, w)
			}
		}
		if diff := cmp.Diff(test.warnings, got); diff != "" || !slices.Equal(c.Routers[0].Limits.Replaces, test.want) {
			t.Errorf("%s: %v (-want +got):\n%s", test.limits, c.Routers[0].Limits.Replaces, diff)
		}
	}
}
