package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// aaaProcess, aaaOut and aaaIn set every key of AAA. The router out serves clients and in
// terminates some of them; both have servers.
const aaaProcess = `
default-router: in
admission: {concurrent: 10, waiting: 0, per-source: 3}
accounting-journal: {max-records: 5000, parallel: 4}
`

const aaaOut = good + `    pool: main
    netmask: 255.255.254.0
    mtu: 1300
    routes:
      - {network: 192.168.7.0/24, metric: 7}
      - {network: 192.168.3.0/24}
    dns: [9.9.9.9]
    nbns: [10.0.0.8]
    networks: [172.16.0.0/12]
    traffic: {rate-in: 10M, rate-out: 1500k, burst-in: 100000, burst-out: 20000, policy-in: web, policy-out: slow}
    session-timeout: 1h
    idle-timeout: 300
    idle-ingress-only: true
ppp: {authentication: [eap, mschapv2]}
radius:
  nas-identifier: nas
  nas-address: 192.0.2.1
  nas-address-from-tunnel: true
  source-address: 192.0.2.7
  in-flight: 100
  servers:
    - {name: one, address: 192.0.2.53, authentication-port: 1645, accounting-port: 1646, secret: the secret of server one, timeout: 1s, retransmissions: 0, dead-time: 5m, require-message-authenticator: false, status-server: true}
    - {name: two, address: "2001:db8::53", source-address: "2001:db8::1", secret-file: key}
    - {name: books, address: 192.0.2.54, authentication-port: 0, secret: the secret of the books}
  groups:
    - {name: both, servers: [two, one], strategy: round-robin}
    - {name: records, servers: [books]}
  dynamic-authorization:
    enabled: true
    port: 1700
    addresses: [192.0.2.1, "2001:db8::1"]
    clients:
      - {address: 192.0.2.99, secret: the secret of the portal}
      - {address: 192.0.2.53, secret: another secret for one}
    require-message-authenticator: false
    clock-window: 60
aaa:
  methods: [radius, local]
  authentication-group: both
  accounting-group: records
  accounting: {required: true, interim-interval: 10m, interim-minimum: 2m}
  names: {domain-delimiters: "@!", realm-delimiters: "/\\", parse-order: domain-first, domain-direction: left-to-right, realm-direction: right-to-left}
  session-timeout: 24h
  idle-timeout: 1h
  idle-ingress-only: true
  unknown-policy: ignore
  terminate-codes:
    - {reason: idle-timeout, code: 4}
    - {reason: lost, code: 4000}
  domain-maps:
    - {domain: Bad.example, deny: true}
    - domain: none
    - domain: Default
      authentication-router: in
      methods: [radius]
      authentication-group: theirs
      accounting-group: theirs
      strip-domain: true
      override-user: {name: company, password: the password}
      virtual-router: in
      gateway: 10.5.0.1
      pool: p
      max-sessions: 9
      session-timeout: 60
      idle-timeout: 24h
      idle-ingress-only: true
      traffic: {policy-in: in-policy}
    - {domain: branch.example, ip-profile: branch, authentication-group: records-too}
limits: {per-user: 1, per-domain: 2, per-source: 3, per-router: 4, when-reached: replace-oldest, replaces: [router, user]}
traffic-policies:
  - name: web
    rules:
      - {action: permit, network: 10.0.0.0/8, protocol: tcp, ports: 8000-8099}
      - {action: deny, protocol: 89}
      - {action: permit, protocol: udp, ports: 53}
      - {action: deny}
  - {name: slow, rate: 64k, burst: 3000}
`

const aaaIn = `
vrf: {device: in, table: 20}
radius:
  servers: [{name: s, address: 192.0.2.60, secret: the secret of s in in}]
  groups: [{name: theirs, servers: [s]}]
pools: [{name: p, ranges: [10.5.0.0/29], warn-at: 50, warn-until: 50}, {name: q, ranges: [10.6.0.0/29], warn-at: 0}]
traffic-policies: [{name: in-policy, rate: 100G}]
`

// aaaFiles are those files with what aaaOut needs besides.
func aaaFiles() map[string]string {
	out := strings.Replace(aaaOut, "ip-profiles:\n", "ip-profiles:\n  - {name: branch, unnumbered-address: 10.6.0.1, virtual-router: in, pool: q, dns: [1.1.1.1], nbns: [2.2.2.2], mtu: 1200}\n", 1)
	out = strings.Replace(out, "- remote-host: default\n", "- {ip-profile: default}\n", 1)
	out = strings.Replace(out, "    - {name: records, servers: [books]}\n", "    - {name: records, servers: [books]}\n    - {name: records-too, servers: [one]}\n", 1)
	return map[string]string{"vrgate": aaaProcess, "out": out, "in": aaaIn}
}

// TestAAAEverything sets every key and looks at every value.
func TestAAAEverything(t *testing.T) {
	c, _, errs := parseFiles(aaaFiles())
	if len(errs) > 0 {
		t.Fatal(Errors(errs))
	}
	checkInvariants(t, c)
	a, net := netip.MustParseAddr, netip.MustParsePrefix
	out, in := c.Router("out"), c.Router("in")
	compare := func(what string, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got, compareConfig); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	compare("process", []any{"in", Admission{10, 0, 3}, AccountingJournal{5000, 4}}, []any{c.Process.DefaultRouter, c.Process.Admission, c.Process.Journal})
	compare("RADIUS", RADIUS{
		NASIdentifier: "nas", NASAddress: a("192.0.2.1"), NASAddressFromTunnel: true, InFlight: 100,
		Servers: []RADIUSServer{
			{"one", a("192.0.2.53"), 1645, 1646, a("192.0.2.7"), Secret("the secret of server one"), time.Second, 0, 5 * time.Minute, false, true},
			{"two", a("2001:db8::53"), 1812, 1813, a("2001:db8::1"), Secret("a long key in a file"), 5 * time.Second, 2, time.Minute, true, false},
			{"books", a("192.0.2.54"), 0, 1813, a("192.0.2.7"), Secret("the secret of the books"), 5 * time.Second, 2, time.Minute, true, false},
		},
		Groups: []RADIUSGroup{
			{"both", []string{"two", "one"}, StrategyRoundRobin}, {"records", []string{"books"}, StrategyPriority}, {"records-too", []string{"one"}, StrategyPriority},
		},
		DynamicAuthorization: DynamicAuthorization{
			Enabled: true, Port: 1700, Addresses: []netip.Addr{a("192.0.2.1"), a("2001:db8::1")}, Window: time.Minute,
			Clients: []DynamicClient{
				// One's own secret is not for this, because the file says another.
				{a("192.0.2.53"), Secret("another secret for one")}, {a("192.0.2.54"), Secret("the secret of the books")},
				{a("192.0.2.99"), Secret("the secret of the portal")}, {a("2001:db8::53"), Secret("a long key in a file")},
			},
		},
	}, out.RADIUS)
	both := []AAAMethod{MethodRADIUS, MethodLocal}
	compare("AAA", AAA{
		Methods: both, AuthenticationGroup: "both", AccountingGroup: "records",
		Accounting:     Accounting{true, 10 * time.Minute, 2 * time.Minute},
		Names:          Names{"@!", `/\`, DomainFirst, LeftToRight, RightToLeft},
		SessionTimeout: 24 * time.Hour, IdleTimeout: time.Hour, IdleIngress: true, UnknownPolicy: UnknownPolicyIgnore,
		TerminateCodes: []TerminateCode{{"idle-timeout", out.AAA.TerminateCodes[0].At, 4}, {"lost", out.AAA.TerminateCodes[1].At, 4000}},
		DomainMaps: []DomainMap{
			{Domain: "bad.example", Deny: true},
			{
				Domain: "branch.example", AuthenticationRouter: "out", Methods: both, AuthenticationGroup: "records-too", AccountingGroup: "records-too",
				Router: "in", IPProfile: "branch", Gateway: a("10.6.0.1"), Pool: "q", DNS: []netip.Addr{a("1.1.1.1")}, NBNS: []netip.Addr{a("2.2.2.2")}, MTU: 1200,
			},
			{
				Domain: "default", AuthenticationRouter: "in", Methods: []AAAMethod{MethodRADIUS}, AuthenticationGroup: "theirs", AccountingGroup: "theirs",
				StripDomain: true, OverrideUser: "company", OverridePassword: Secret("the password"), Router: "in", Gateway: a("10.5.0.1"), Pool: "p",
				MaxSessions: 9, SessionTimeout: time.Minute, IdleTimeout: 24 * time.Hour, IdleIngress: true, Traffic: Traffic{PolicyIn: "in-policy"},
			},
			{Domain: "none", AuthenticationRouter: "out", Methods: both, AuthenticationGroup: "both", AccountingGroup: "records"},
		},
	}, out.AAA)
	compare("limits", Limits{1, 2, 3, 4, ReplaceOldest, []SessionLimit{LimitRouter, LimitUser}}, out.Limits)
	compare("policies", []TrafficPolicy{
		{Name: "slow", Rate: 64000, Burst: 3000},
		{Name: "web", Rules: []TrafficRule{
			{Permit: true, Network: net("10.0.0.0/8"), Protocol: 6, FirstPort: 8000, LastPort: 8099}, {Protocol: 89},
			{Permit: true, Protocol: 17, FirstPort: 53, LastPort: 53}, {},
		}},
	}, out.TrafficPolicies)
	compare("user", User{
		Name: "alice", Password: Secret("secret of alice"), SessionTimeout: time.Hour, IdleTimeout: 5 * time.Minute, IdleIngress: true,
		Pool: "main", Netmask: a("255.255.254.0"), MTU: 1300, Routes: []UserRoute{{net("192.168.3.0/24"), 0}, {net("192.168.7.0/24"), 7}},
		DNS: []netip.Addr{a("9.9.9.9")}, NBNS: []netip.Addr{a("10.0.0.8")}, Networks: []netip.Prefix{net("172.16.0.0/12")},
		Traffic: Traffic{10_000_000, 1_500_000, 100000, 20000, "web", "slow"},
	}, out.Users[0])
	compare("PPP", []PPPAuth{PPPEAP, PPPMSCHAPv2}, out.PPP.Authentication)
	gateway := AddrRange{a("10.5.0.1"), a("10.5.0.1")}
	compare("pools", []Pool{
		{"p", []AddrRange{{a("10.5.0.1"), a("10.5.0.6")}}, []AddrRange{gateway}, 50, 50},
		{"q", []AddrRange{{a("10.6.0.1"), a("10.6.0.6")}}, []AddrRange{{a("10.6.0.1"), a("10.6.0.1")}}, 0, 0},
	}, in.Pools)
	compare("AAA of in", []any{[]AAAMethod{MethodRADIUS}, "theirs", "theirs"}, []any{in.AAA.Methods, in.AAA.AuthenticationGroup, in.AAA.AccountingGroup})
	if p := out.AAA.TerminateCodes[1].At; p.File != "vr/out.yaml" || p.Line == 0 {
		t.Errorf("the second code is at %v", p)
	}
	if out.AAA.DomainMap("BAD.Example") == nil || out.AAA.DomainMap("x") != nil || out.TrafficPolicy("slow") == nil || out.TrafficPolicy("x") != nil ||
		out.RADIUS.Server("two") == nil || out.RADIUS.Server("x") != nil || out.RADIUS.Group("records") == nil || out.RADIUS.Group("x") != nil {
		t.Error("a look-up finds the wrong thing")
	}
}

// TestAskedByDefault: who is asked, and who gets the records, where the file does not say.
func TestAskedByDefault(t *testing.T) {
	const servers = "radius:\n  servers: [{name: s, address: 192.0.2.5, secret: 0123456789abcdef}, {name: x, address: 192.0.2.6, accounting-port: 0, secret: 0123456789abcdef}, {name: y, address: 192.0.2.7, authentication-port: 0, secret: 0123456789abcdef}]\n  groups: "
	noUsers := good[:strings.Index(good, "users:")]
	both := []AAAMethod{MethodLocal, MethodRADIUS}
	for name, test := range map[string]struct {
		in         string
		methods    []AAAMethod
		auth, acct string
	}{
		"users alone":                  {good, []AAAMethod{MethodLocal}, "", ""},
		"nothing":                      {noUsers, []AAAMethod{MethodLocal}, "", ""},
		"users and a group":            {good + servers + "[{name: g, servers: [s]}]\n", both, "g", "g"},
		"a group alone":                {noUsers + servers + "[{name: g, servers: [s]}]\n", []AAAMethod{MethodRADIUS}, "g", "g"},
		"a group without accounting":   {noUsers + servers + "[{name: g, servers: [x]}]\n", []AAAMethod{MethodRADIUS}, "g", ""},
		"two groups":                   {good + servers + "[{name: g, servers: [s]}, {name: h, servers: [x]}]\n", []AAAMethod{MethodLocal}, "", ""},
		"two groups, one named":        {good + servers + "[{name: g, servers: [s]}, {name: h, servers: [x]}]\naaa: {authentication-group: h}\n", both, "h", ""},
		"records of local users":       {good + servers + "[{name: g, servers: [s]}]\naaa: {methods: [local]}\n", []AAAMethod{MethodLocal}, "", "g"},
		"accounting switched off":      {good + servers + "[{name: g, servers: [s]}]\naaa: {accounting: {enabled: false}}\n", both, "g", ""},
		"accounting elsewhere":         {good + servers + "[{name: g, servers: [x]}, {name: h, servers: [y]}]\naaa: {authentication-group: g, accounting-group: h}\n", both, "g", "h"},
		"order turned round":           {good + servers + "[{name: g, servers: [s]}]\naaa: {methods: [radius, local]}\n", []AAAMethod{MethodRADIUS, MethodLocal}, "g", "g"},
		"a named group of mixed ports": {good + servers + "[{name: g, servers: [x, y]}]\n", both, "g", "g"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, errs := parseFiles(map[string]string{"a": test.in})
			if len(errs) > 0 {
				t.Fatal(Errors(errs))
			}
			checkInvariants(t, c)
			got := c.Router("a").AAA
			if diff := cmp.Diff([]any{test.methods, test.auth, test.acct}, []any{got.Methods, got.AuthenticationGroup, got.AccountingGroup}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDomainAskedByDefault: the same for a domain map (R2).
func TestDomainAskedByDefault(t *testing.T) {
	const servers = "radius:\n  servers: [{name: s, address: 192.0.2.5, secret: 0123456789abcdef}, {name: x, address: 192.0.2.6, accounting-port: 0, secret: 0123456789abcdef}]\n  groups: [{name: g, servers: [s]}, {name: h, servers: [x]}]\n"
	radius, both := []AAAMethod{MethodRADIUS}, []AAAMethod{MethodLocal, MethodRADIUS}
	for name, test := range map[string]struct {
		aaa, entry, other string
		methods           []AAAMethod
		auth, acct        string
	}{
		"as the router":                     {"{authentication-group: g, ", "", "", both, "g", "g"},
		"another group":                     {"{authentication-group: g, ", ", authentication-group: h", "", both, "h", "g"},
		"a group where the router has two":  {"{", ", authentication-group: h", "", both, "h", ""},
		"methods of the router":             {"{methods: [radius], authentication-group: h, ", ", authentication-group: g", "", radius, "g", "g"},
		"methods of its own":                {"{authentication-group: g, ", ", methods: [local]", "", []AAAMethod{MethodLocal}, "", "g"},
		"of another router":                 {"{authentication-group: g, ", ", authentication-router: b", "{}", radius, "theirs", "theirs"},
		"of another that asks local users":  {"{authentication-group: g, ", ", authentication-router: b", "{methods: [local]}", []AAAMethod{MethodLocal}, "", "theirs"},
		"radius of another":                 {"{", ", authentication-router: b, methods: [radius]", "{methods: [local]}", radius, "theirs", "theirs"},
		"no accounting here":                {"{accounting: {enabled: false}, authentication-group: g, ", "", "", both, "g", ""},
		"records of the other all the same": {"{accounting: {enabled: false}, ", ", authentication-router: b", "{}", radius, "theirs", "theirs"},
		"no accounting there":               {"{authentication-group: g, ", ", authentication-router: b", "{accounting: {enabled: false}}", radius, "theirs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"a": good + servers + "aaa: " + test.aaa + "domain-maps: [{domain: x" + test.entry + "}]}\n"}
			if test.other != "" {
				files["b"] = aaaIn + "aaa: " + test.other + "\n"
			}
			c, _, errs := parseFiles(files)
			if len(errs) > 0 {
				t.Fatal(Errors(errs))
			}
			checkInvariants(t, c)
			got := c.Router("a").AAA.DomainMap("x")
			if diff := cmp.Diff([]any{test.methods, test.auth, test.acct}, []any{got.Methods, got.AuthenticationGroup, got.AccountingGroup}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAddressesOfMappedUsers: a user's fixed address is not leased where a domain map may let the
// user terminate, unless the user's own entry says where that is.
func TestAddressesOfMappedUsers(t *testing.T) {
	c, _, errs := parseFiles(map[string]string{
		"a": good + "    address: 10.3.0.7\n  - {name: bob, password: b, address: 10.3.0.9, virtual-router: a}\naaa: {domain-maps: [{domain: x, virtual-router: b, pool: p}]}\n",
		"b": "vrf: {device: v, table: 10}\npools: [{name: p, ranges: [10.3.0.0/28]}, {name: q, ranges: [10.4.0.0/28]}]\n",
	})
	if len(errs) > 0 {
		t.Fatal(Errors(errs))
	}
	alice := netip.MustParseAddr("10.3.0.7")
	for pool, want := range map[string][]AddrRange{"p": {{alice, alice}}, "q": nil} {
		if diff := cmp.Diff(want, c.Router("b").Pool(pool).Exclude, compareConfig); diff != "" {
			t.Errorf("pool %s (-want +got):\n%s", pool, diff)
		}
	}
}

// TestNASAddress: what we call ourselves where the file does not say.
func TestNASAddress(t *testing.T) {
	for in, want := range map[string]string{
		good: "192.0.2.1",
		good + "radius: {source-address: 192.0.2.7}\n":                               "192.0.2.7",
		good + "radius: {source-address: 192.0.2.7, nas-address: \"2001:db8::1\"}\n": "2001:db8::1",
		"radius: {source-address: \"2001:db8::2\"}\n":                                "2001:db8::2",
		"": "invalid IP",
	} {
		c, _, errs := parseFiles(map[string]string{"a": in})
		if len(errs) > 0 {
			t.Fatal(Errors(errs))
		}
		if got := c.Router("a").RADIUS.NASAddress.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// checkRADIUS checks what radius.go promises.
func checkRADIUS(t *testing.T, r *Router) {
	t.Helper()
	x := &r.RADIUS
	if len(x.NASIdentifier) < 1 || len(x.NASIdentifier) > 253 || x.InFlight < 1 || x.InFlight > 65536 {
		t.Errorf("RADIUS %+v", x)
	}
	for i, s := range x.Servers {
		if x.Server(s.Name) != &x.Servers[i] || !s.Address.IsValid() || s.AuthPort == 0 && s.AcctPort == 0 || len(s.Secret) < 1 || len(s.Secret) > 256 ||
			s.Source.IsValid() && s.Source.Is4() != s.Address.Is4() || s.Timeout < time.Second || s.Timeout > time.Minute ||
			s.Retransmissions < 0 || s.Retransmissions > 10 || s.DeadTime < time.Second || s.DeadTime > time.Hour {
			t.Errorf("server %+v", s)
		}
	}
	for i, g := range x.Groups {
		if x.Group(g.Name) != &x.Groups[i] || len(g.Servers) < 1 || len(g.Servers) > 16 || g.Strategy != StrategyPriority && g.Strategy != StrategyRoundRobin {
			t.Errorf("group %+v", g)
		}
		for j, s := range g.Servers {
			if x.Server(s) == nil || slices.Contains(g.Servers[:j], s) {
				t.Errorf("group %+v", g)
			}
		}
	}
	d := x.DynamicAuthorization
	if d.Enabled && len(d.Clients) == 0 || d.Port == 0 || d.Window < time.Second || d.Window > time.Hour || len(d.Addresses) > 16 {
		t.Errorf("dynamic authorization %+v", d)
	}
	for i, c := range d.Clients {
		if !c.Address.IsValid() || len(c.Secret) == 0 || i > 0 && d.Clients[i-1].Address.Compare(c.Address) >= 0 {
			t.Errorf("client %+v", c)
		}
	}
}

// checkAAA checks what aaa.go promises.
func checkAAA(t *testing.T, c *Config, r *Router) {
	t.Helper()
	within := func(d time.Duration, lo, hi time.Duration) bool {
		return d == 0 || d >= lo && d <= hi && d%time.Second == 0
	}
	session := func(d time.Duration) bool { return within(d, time.Minute, 31622400*time.Second) }
	idle := func(d time.Duration) bool { return within(d, 300*time.Second, 86400*time.Second) }
	asked := func(what string, of *Router, methods []AAAMethod, auth, acct string) {
		t.Helper()
		if len(methods) < 1 || len(methods) > 2 || len(methods) == 2 && methods[0] == methods[1] || slices.Contains(methods, 0) {
			t.Errorf("%s: methods %v", what, methods)
		}
		if slices.Contains(methods, MethodRADIUS) != of.serves(auth, authPort) || acct != "" && !of.serves(acct, acctPort) {
			t.Errorf("%s: methods %v with groups %q and %q of %s", what, methods, auth, acct, of.Name)
		}
	}
	a := &r.AAA
	asked("router", r, a.Methods, a.AuthenticationGroup, a.AccountingGroup)
	if a.Accounting.Required && a.AccountingGroup == "" || !within(a.Accounting.Interim, a.Accounting.InterimMinimum, 24*time.Hour) ||
		a.Accounting.InterimMinimum < time.Minute || a.Accounting.InterimMinimum > 24*time.Hour || !session(a.SessionTimeout) || !idle(a.IdleTimeout) ||
		a.UnknownPolicy != UnknownPolicyRefuse && a.UnknownPolicy != UnknownPolicyIgnore {
		t.Errorf("AAA %+v", a)
	}
	n := a.Names
	if len(n.DomainDelimiters) > 8 || len(n.RealmDelimiters) > 8 || n.DomainDelimiters != "" && strings.ContainsAny(n.RealmDelimiters, n.DomainDelimiters) ||
		n.Order < RealmFirst || n.Order > DomainFirst || n.DomainDirection < LeftToRight || n.DomainDirection > RightToLeft || n.RealmDirection < LeftToRight || n.RealmDirection > RightToLeft {
		t.Errorf("names %+v", n)
	}
	for i := range a.DomainMaps {
		m := &a.DomainMaps[i]
		if i > 0 && a.DomainMaps[i-1].Domain >= m.Domain || strings.ContainsAny(m.Domain, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") || a.DomainMap(m.Domain) != m {
			t.Errorf("domain map %q is in the wrong place", m.Domain)
		}
		if m.Deny {
			if diff := cmp.Diff(DomainMap{Domain: m.Domain, Deny: true}, *m, compareConfig); diff != "" {
				t.Errorf("a map that denies: %s", diff)
			}
			continue
		}
		if n := len(m.TunnelServers); n > 8 || n > 0 && (m.Router != "" || m.Gateway.IsValid() || m.Pool != "" || m.Traffic != Traffic{} || len(r.Destinations) == 0) {
			t.Errorf("domain map %+v", m)
		}
		for j, s := range m.TunnelServers {
			if !s.Server.IsValid() || s.Server.IsUnspecified() || slices.Contains(r.ServerAddresses, s.Server) || s.Client.IsValid() && (s.Client.Is4() != s.Server.Is4() || !slices.Contains(r.ServerAddresses, s.Client)) ||
				s.Preference > 1<<24-1 || j > 0 && s.Preference < m.TunnelServers[j-1].Preference || s.MaxSessions < 0 || s.MaxSessions > 65535 || len(s.Password) > 256 {
				t.Errorf("LNS %+v", s)
			}
		}
		of := c.Router(m.AuthenticationRouter)
		if of == nil {
			t.Fatalf("domain map %+v", m)
		}
		asked("domain", of, m.Methods, m.AuthenticationGroup, m.AccountingGroup)
		if of.AAA.Accounting.Required && m.AccountingGroup == "" || !session(m.SessionTimeout) || !idle(m.IdleTimeout) || m.MaxSessions < 0 || m.MaxSessions > 1000000 ||
			m.OverrideUser == "" && len(m.OverridePassword) > 0 ||
			len(m.DNS) > 2 || len(m.NBNS) > 2 || m.MTU != 0 && (m.MTU < 576 || m.MTU > 1500) || m.IPProfile != "" && (r.IPProfile(m.IPProfile) == nil || m.Router == "") {
			t.Errorf("domain map %+v", m)
		}
		if m.Router != "" && (c.Router(m.Router) == nil || m.Pool != "" && c.Router(m.Router).Pool(m.Pool) == nil) {
			t.Errorf("domain map %+v", m)
		}
		checkTraffic(t, m.Traffic)
	}
	codes := map[string]bool{}
	for _, x := range a.TerminateCodes {
		if x.Reason == "" || codes[x.Reason] || x.Code == 0 || x.At.Line == 0 {
			t.Errorf("terminate code %+v", x)
		}
		codes[x.Reason] = true
	}
	for i := range r.TrafficPolicies {
		p := &r.TrafficPolicies[i]
		if r.TrafficPolicy(p.Name) != p || len(p.Rules) > 64 {
			t.Errorf("traffic policy %+v", p)
		}
		checkTraffic(t, Traffic{RateIn: p.Rate, BurstIn: p.Burst})
		for _, x := range p.Rules {
			if x.LastPort < x.FirstPort || x.FirstPort != 0 && !slices.Contains([]uint8{6, 17, 132}, x.Protocol) || x.Network.IsValid() && x.Network != x.Network.Masked() {
				t.Errorf("rule %+v", x)
			}
		}
	}
	for _, l := range []int{r.Limits.PerUser, r.Limits.PerDomain, r.Limits.PerSource, r.Limits.PerRouter} {
		if l < 0 || l > 1000000 || r.Limits.WhenReached != Deny && r.Limits.WhenReached != ReplaceOldest {
			t.Errorf("limits %+v", r.Limits)
		}
	}
	for i, l := range r.Limits.Replaces {
		if l < LimitUser || l > LimitRouter || slices.Contains(r.Limits.Replaces[:i], l) {
			t.Errorf("limits %+v", r.Limits)
		}
	}
	if (len(r.Limits.Replaces) > 0) != (r.Limits.WhenReached == ReplaceOldest) {
		t.Errorf("limits %+v", r.Limits)
	}
	if slices.Contains(r.PPP.Authentication, PPPEAP) && !slices.Contains(a.Methods, MethodRADIUS) &&
		!slices.ContainsFunc(a.DomainMaps, func(m DomainMap) bool { return slices.Contains(m.Methods, MethodRADIUS) }) {
		t.Error("EAP, and nobody understands it")
	}
}

// checkTraffic: rates and bursts are in their ranges, and no burst is without rate.
func checkTraffic(t *testing.T, x Traffic) {
	t.Helper()
	for _, d := range []struct {
		rate  uint64
		burst uint32
	}{{x.RateIn, x.BurstIn}, {x.RateOut, x.BurstOut}} {
		if d.rate != 0 && (d.rate < 8000 || d.rate > 100_000_000_000) || d.burst != 0 && (d.burst < 1500 || d.burst > 1_000_000_000 || d.rate == 0) {
			t.Errorf("traffic %+v", x)
		}
	}
}

// checkUser checks what a user gets.
func checkUser(t *testing.T, u User) {
	t.Helper()
	checkTraffic(t, u.Traffic)
	if u.Pool != "" && u.Address.IsValid() || u.MTU != 0 && (u.MTU < 576 || u.MTU > 9000) || len(u.Routes) > 32 || len(u.DNS) > 2 || len(u.NBNS) > 2 || len(u.Networks) > 64 {
		t.Errorf("user %+v", u)
	}
	for i, x := range u.Routes {
		if x.Prefix != x.Prefix.Masked() || x.Prefix.Bits() == 0 || i > 0 && (x.Prefix.Overlaps(u.Routes[i-1].Prefix) || !u.Routes[i-1].Prefix.Addr().Less(x.Prefix.Addr())) {
			t.Errorf("routes %+v", u.Routes)
		}
	}
}
