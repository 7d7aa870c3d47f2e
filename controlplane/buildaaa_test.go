package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/coa"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/config"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/subscriber"
)

// aaaFiles is a configuration with a value of its own under every key of AAA.
var aaaFiles = map[string]string{
	"vrgate.yaml": "default-router: blue\naccounting-journal: {max-records: 5000, parallel: 4}\n",
	"vr/blue.yaml": `
vrf: {device: blue, table: 20}
radius:
  servers: [{name: b, address: 192.0.2.60, secret: the secret of blue, accounting-port: 0}]
  groups: [{name: theirs, servers: [b]}]
pools: [{name: p, ranges: [10.5.0.0/24]}, {name: q, ranges: [10.6.0.0/24]}]
ip-profiles: [{name: i, unnumbered-address: 10.5.0.2, pool: p}]
traffic-policies: [{name: slow, rate: 1M}, {name: web, rate: 2M}]
`,
	"vr/red.yaml": `
namespace: {name: n}
server-addresses: [192.0.2.1]
ipsec:
  tunnel-profiles: [{name: t, keys: [{name: k, key: 0123456789abcdef}], ip-profile: far}]
ip-profiles:
  - {name: far, virtual-router: blue, unnumbered-address: 10.5.0.1, pool: p, dns: [1.1.1.1], nbns: [2.2.2.2, 3.3.3.3], mtu: 1200}
pools: [{name: own, ranges: [10.7.0.0/24]}]
users:
  - name: ann
    password: the password of ann
    virtual-router: blue
    pool: q
    netmask: 255.255.0.0
    mtu: 1300
    routes: [{network: 192.168.7.0/24, metric: 7}]
    dns: [9.9.9.9, 8.8.8.8]
    nbns: [7.7.7.7]
    networks: [172.16.0.0/12]
    traffic: {rate-in: 10M, rate-out: 20M, burst-in: 30000, burst-out: 40000, policy-in: web, policy-out: slow}
    session-timeout: 1h
    idle-timeout: 10m
    idle-ingress-only: true
radius:
  nas-identifier: nas
  nas-address: 192.0.2.9
  nas-address-from-tunnel: true
  in-flight: 100
  servers:
    - {name: one, address: 192.0.2.53, authentication-port: 1645, accounting-port: 1646, source-address: 192.0.2.7, secret: the secret of one, timeout: 2s, retransmissions: 7, dead-time: 5m, require-message-authenticator: false, status-server: true}
    - {name: two, address: "2001:db8::53", secret: the secret of two}
  groups: [{name: both, servers: [two, one], strategy: round-robin}, {name: one, servers: [one]}]
  dynamic-authorization: {enabled: true, port: 1700, clients: [{address: 192.0.2.99, secret: the secret of the portal}], servers-are-clients: false, require-message-authenticator: false, clock-window: 60}
aaa:
  methods: [radius, local]
  authentication-group: both
  accounting-group: one
  accounting: {required: true, interim-interval: 10m, interim-minimum: 2m}
  names: {domain-delimiters: "@!", realm-delimiters: "/", parse-order: domain-first, domain-direction: left-to-right, realm-direction: right-to-left}
  session-timeout: 24h
  idle-timeout: 1h
  idle-ingress-only: true
  terminate-codes: [{reason: idle-timeout, code: 4000}]
  domain-maps:
    - {domain: bad.example, deny: true}
    - {domain: none}
    - {domain: branch.example, ip-profile: far}
    - domain: default
      authentication-router: blue
      methods: [radius]
      authentication-group: theirs
      strip-domain: true
      override-user: {name: company, password: the password}
      virtual-router: blue
      gateway: 10.6.0.1
      pool: q
      max-sessions: 9
      session-timeout: 60
      idle-timeout: 24h
      idle-ingress-only: true
      traffic: {policy-in: slow, rate-out: 3M}
`,
}

func loadFiles(t *testing.T, files map[string]string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var compareAAA = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b keymat.Secret) bool { return string(a) == string(b) }),
}

// TestBuildAAA follows the values of a configuration into the packages of AAA.
func TestBuildAAA(t *testing.T) {
	c := loadFiles(t, aaaFiles)
	red, a := c.Router("red"), netip.MustParseAddr
	compare := func(what string, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got, compareAAA); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	compare("servers", radius.Config{
		NASIdentifier: "nas", NASAddress: a("192.0.2.9"), MaxInFlight: 100,
		Servers: []radius.Server{
			{
				Name: "one", Address: a("192.0.2.53"), AuthPort: 1645, AcctPort: 1646, Source: a("192.0.2.7"), Secret: keymat.Secret("the secret of one"),
				Timeout: 2 * time.Second, Retransmissions: 7, DeadTime: 5 * time.Minute, AllowUnsigned: true, StatusServer: true,
			},
			{
				Name: "two", Address: a("2001:db8::53"), AuthPort: 1812, AcctPort: 1813, Secret: keymat.Secret("the secret of two"),
				Timeout: 5 * time.Second, Retransmissions: 2, DeadTime: time.Minute,
			},
		},
		Groups: []radius.Group{{Name: "both", Servers: []string{"two", "one"}, RoundRobin: true}, {Name: "one", Servers: []string{"one"}}},
	}, buildRADIUS(red))
	compare("NAS (R12)", radius.NAS{Identifier: "nas", Address: a("192.0.2.9"), ClientEndpoint: true}, buildNAS(red))

	cfg, listen := buildCoA(red)
	compare("dynamic authorization", coa.Config{
		NASIdentifier: "nas", NASAddresses: []netip.Addr{a("192.0.2.9"), a("192.0.2.1"), a("192.0.2.7")}, AllowUnsigned: true, Window: time.Minute, AnyNASAddress: true,
		Clients: []coa.Client{{Address: a("192.0.2.99"), Secret: keymat.Secret("the secret of the portal")}},
	}, cfg)
	compare("sockets", []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:1700")}, listen)

	policies := buildPolicies(c)
	both := []aaa.MethodName{aaa.MethodRADIUS, aaa.MethodLocal}
	compare("policy of red", aaa.RouterPolicy{
		Names: aaa.NameRules{Domain: "@!", Realm: "/", DomainFirst: true, DomainFromLeft: true, RealmFromRight: true},
		Domains: map[string]*aaa.DomainMap{
			"bad.example": {Name: "bad.example", Deny: true},
			"branch.example": {
				Name: "branch.example", Router: "red", Methods: both, Authentication: "both", Accounting: "one",
				Grants: aaa.Grants{
					Terminating: "blue", Gateway: a("10.5.0.1"), Pool: "p", MTU: 1200, DNS: [2]netip.Addr{a("1.1.1.1")},
					NBNS: [2]netip.Addr{a("2.2.2.2"), a("3.3.3.3")},
				},
			},
		},
		None: &aaa.DomainMap{Name: "none", Router: "red", Methods: both, Authentication: "both", Accounting: "one"},
		Default: &aaa.DomainMap{
			Name: "default", Router: "blue", Methods: both[:1], Authentication: "theirs", NoAccounting: true, Strip: true, MaxSessions: 9,
			Override: &aaa.Override{User: "company", Password: keymat.Secret("the password")},
			Grants: aaa.Grants{
				Terminating: "blue", Gateway: a("10.6.0.1"), Pool: "q", SessionTimeout: time.Minute, IdleTimeout: 24 * time.Hour, IdleIngress: true,
				Traffic: aaa.Traffic{InPolicy: "slow", Out: 3_000_000},
			},
		},
		Profiles: map[string]aaa.Place{"far": {Terminating: "blue", Gateway: a("10.5.0.1"), Pool: "p"}},
		Methods:  both, Authentication: "both", Accounting: "one", Groups: map[string][]string{"both": {"two", "one"}, "one": {"one"}},
		Defaults:  aaa.Grants{SessionTimeout: 24 * time.Hour, IdleTimeout: time.Hour, IdleIngress: true, Interim: 10 * time.Minute},
		Namespace: "n", Pools: []string{"own"},
	}, policies["red"])
	blue := policies["blue"]
	// Those of its own come first, then that of red's profile, then that of red's domain map.
	compare("gateways of blue", []netip.Addr{a("10.5.0.2"), a("10.5.0.1"), a("10.6.0.1")}, blue.Gateways)
	compare("pools of blue", []string{"p", "q"}, blue.Pools)
	if err := policies["red"].Names.Check(); err != nil {
		t.Error(err)
	}

	locals := buildLocals(c)
	if len(locals) != 1 || !locals["red"].Knows("ann") {
		t.Errorf("local users %v", locals)
	}
	d := locals["red"].Decide(context.Background(), aaa.Request{User: "ann", Protocol: aaa.PAP, Password: keymat.Secret("the password of ann")})
	compare("ann", aaa.Grants{
		Terminating: "blue", Pool: "q", Netmask: a("255.255.0.0"), MTU: 1300, SessionTimeout: time.Hour, IdleTimeout: 10 * time.Minute, IdleIngress: true,
		Routes: []aaa.Route{{Prefix: netip.MustParsePrefix("192.168.7.0/24"), Metric: 7}}, DNS: [2]netip.Addr{a("9.9.9.9"), a("8.8.8.8")},
		NBNS: [2]netip.Addr{a("7.7.7.7")}, Networks: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")},
		Traffic: aaa.Traffic{In: 10_000_000, Out: 20_000_000, InBurst: 30000, OutBurst: 40000, InPolicy: "web", OutPolicy: "slow"},
	}, d.Grants)
	if s := buildSubscribers(red); s.InterimFloor != 2*time.Minute {
		t.Errorf("interim records every %v at most", s.InterimFloor)
	}
}

// TestBuildSwitching follows the LNSs of a domain map and what an IP profile says into AAA.
func TestBuildSwitching(t *testing.T) {
	c := loadFiles(t, map[string]string{"vrgate.yaml": "", "vr/lns.yaml": `
server-addresses: [192.0.2.1]
l2tp:
  tunnel-switching: true
  destination-profiles: [{name: any, host-profiles: [{ipsec-required: false}]}]
ip-profiles:
  - {name: i, address: 10.0.0.1, idle-timeout: 10m, idle-ingress-only: true, traffic: {rate-in: 1M, burst-in: 2000, policy-out: slow}}
pools: [{name: p, ranges: [10.0.0.0/24]}]
traffic-policies: [{name: slow, rate: 1M}]
aaa:
  domain-maps:
    - domain: x.example
      session-timeout: 1h
      tunnel-servers:
        - {address: 198.51.100.9, preference: 7, tunnel-password: another}
        - {address: 198.51.100.1, local-address: 192.0.2.1, preference: 3, tunnel-password: the secret, local-host: us, remote-host: them, max-sessions: 9}
`})
	p, a := buildPolicies(c)["lns"], netip.MustParseAddr
	d := p.Domains["x.example"]
	want := []aaa.Tunnel{
		{Preference: 3, Server: a("198.51.100.1"), Client: a("192.0.2.1"), Secret: keymat.Secret("the secret"), ClientName: "us", ServerName: "them", MaxSessions: 9},
		{Preference: 7, Server: a("198.51.100.9"), Secret: keymat.Secret("another")},
	}
	if diff := cmp.Diff(want, d.Tunnels, compareAAA); diff != "" || d.SessionTimeout != time.Hour {
		t.Errorf("LNSs (-want +got):\n%s", diff)
	}
	place := aaa.Place{
		Terminating: "lns", Gateway: a("10.0.0.1"), Pool: "p", IdleTimeout: 10 * time.Minute, IdleIngress: true,
		Traffic: aaa.Traffic{In: 1_000_000, InBurst: 2000, OutPolicy: "slow"},
	}
	if diff := cmp.Diff(place, p.Profiles["i"], compareAAA); diff != "" {
		t.Errorf("place (-want +got):\n%s", diff)
	}
	for what, v := range map[string]struct {
		config any
		except string // what a server alone can say
	}{"LNS": {d.Tunnels[0], "Assignment PrivateGroup"}, "place": {p.Profiles["i"], ""}} {
		rv := reflect.ValueOf(v.config)
		for i := range rv.NumField() {
			if name := rv.Type().Field(i).Name; rv.Field(i).IsZero() && !strings.Contains(v.except, name) {
				t.Errorf("%s: %s has no value", what, name)
			}
		}
	}
}

// TestBuildCoASockets: requests are taken where there is somebody to send them.
func TestBuildCoASockets(t *testing.T) {
	for _, test := range []struct{ section, want string }{
		{"enabled: false, clients: [{address: 192.0.2.9, secret: 0123456789abcdef}]", "[]"},
		{"enabled: true, clients: [{address: 192.0.2.9, secret: 0123456789abcdef}]", "[0.0.0.0:3799]"},
		{"enabled: true, clients: [{address: \"2001:db8::9\", secret: 0123456789abcdef}]", "[[::]:3799]"},
		{"enabled: true, clients: [{address: \"2001:db8::9\", secret: 0123456789abcdef}, {address: 192.0.2.9, secret: 0123456789abcdef}]", "[0.0.0.0:3799 [::]:3799]"},
		{"enabled: true, port: 1700, addresses: [192.0.2.4, \"2001:db8::1\"], clients: [{address: 192.0.2.9, secret: 0123456789abcdef}]", "[192.0.2.4:1700 [2001:db8::1]:1700]"},
	} {
		c := loadFiles(t, map[string]string{"vrgate.yaml": "", "vr/a.yaml": "radius: {dynamic-authorization: {" + test.section + "}}\n"})
		cfg, listen := buildCoA(c.Routers[0])
		if got := fmt.Sprint(listen); got != test.want {
			t.Errorf("%s: %s, want %s", test.section, got, test.want)
		}
		if cfg.AllowUnsigned || cfg.AnyNASAddress || cfg.Window != 300*time.Second || len(cfg.Clients) == 0 {
			t.Errorf("%s: %+v", test.section, cfg)
		}
	}
}

// TestBuildJournal: what the journal asks about a virtual router, with codes of its own (R10).
func TestBuildJournal(t *testing.T) {
	c := loadFiles(t, aaaFiles)
	codes, err := buildCodes(c)
	if err != nil {
		t.Fatal(err)
	}
	j := buildJournal(c, codes)
	if j.MaxRecords != 5000 || j.Parallel != 4 {
		t.Errorf("journal %+v", j)
	}
	if !j.Required("red") || j.Required("blue") || j.Required("gone") {
		t.Error("accounting is required of the wrong virtual routers")
	}
	for _, test := range []struct {
		router string
		want   uint32
	}{{"red", 4000}, {"blue", 4}, {"gone", 4}} {
		if got := j.Cause(test.router, subscriber.ReasonIdleTimeout); got != test.want {
			t.Errorf("idle timeout in %s is %d, want %d", test.router, got, test.want)
		}
	}
	files := map[string]string{"vrgate.yaml": "", "vr/a.yaml": "aaa:\n  terminate-codes:\n    - {reason: idle, code: 4}\n    - {reason: idle-timeout, code: 4}\n    - {reason: ' ', code: 5}\n"}
	err = CheckTerminateCodes(loadFiles(t, files))
	var list config.Errors
	if !errors.As(err, &list) || len(list) != 2 {
		t.Fatalf("unknown reasons: %v", err)
	}
	if got := list[0].String(); !strings.HasSuffix(got, `a.yaml:3:16: "reason" is "idle" but no session ends with it; "vrgate show terminate-codes" lists the reasons`) {
		t.Error(got)
	}
	if err := CheckTerminateCodes(c); err != nil {
		t.Error(err)
	}
}

// TestBuildAAAForgetsNothing: every field that AAA's packages can be configured by has a value
// after the configuration in which every key has one, so that a new field is not forgotten.
func TestBuildAAAForgetsNothing(t *testing.T) {
	c := loadFiles(t, aaaFiles)
	red := c.Router("red")
	policy := buildPolicies(c)["red"]
	policy.Gateways = buildPolicies(c)["blue"].Gateways
	dynamic, _ := buildCoA(red)
	for what, v := range map[string]struct {
		config any
		except string // what no key is for
	}{
		"RADIUS": {buildRADIUS(red), ""},
		"server": {buildRADIUS(red).Servers[0], ""},
		"group":  {buildRADIUS(red).Groups[0], ""},
		"NAS":    {buildNAS(red), ""},
		"CoA":    {dynamic, "Concurrent Timeout"},
		"policy": {policy, ""},
		"names":  {policy.Names, ""},
		"domain": {*policy.Default, "Deny Accounting Tunnels"},
	} {
		rv := reflect.ValueOf(v.config)
		for i := range rv.NumField() {
			if name := rv.Type().Field(i).Name; rv.Field(i).IsZero() && !strings.Contains(v.except, name) {
				t.Errorf("%s: %s has no value", what, name)
			}
		}
	}
}
