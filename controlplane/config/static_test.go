package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fullStatic is a tunnel with every key, given in the tenant's file and sent by the front router.
const fullStatic = `
static-tunnels:
  - name: hq
    transport-virtual-router: front
    enabled: false
    mode: route
    local-address: 192.0.2.1
    peers: [198.51.100.7, Backup.example.net]
    start: on-demand
    fall-back: 5m
    local-id: "@gate.example.net"
    peer-id: any
    pre-shared-key: {key: the long random key of hq}
    aggressive-mode: true
    networks:
      - {name: lan, local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: 0, local-port: 0, remote-port: 0}
      - {local: 10.1.0.0/16, remote: 10.3.0.0/16, protocol: tcp, local-port: 1, remote-port: 65535}
    transforms: [aes256gcm16, aes128-sha1]
    pfs: modp2048
    lifetime: 3600
    lifetime-kilobytes: 102400
    dead-peer-detection: false
    extended-authentication: client
    user: gate
    password: swordfish
    interface:
      name: hq0
      mtu: 1380
      clamp-mss: false
      addresses: [10.1.255.1/32]
      routes:
        - {network: 10.9.0.0/16, metric: 5}
        - {network: 10.2.0.0/16}
      withdraw-routes: true
    back-off: 2m
    back-off-max: 30m
    stable: 90
    idle-timeout: 1m
    no-return-timeout: 2m
    check: {target: 10.2.0.1, source: 10.1.255.1, tcp-port: 443, period: 20, timeout: 3, tolerance: 2}
`

// front sends the packets of others.
const front = `
namespace: {name: front}
server-addresses: [192.0.2.1]
name-servers: [192.0.2.53, 192.0.2.54]
ipsec:
  ike-policy-rules: [{priority: 1, aggressive-mode: accepted, encryption: [aes256], hash: [sha256], group: [modp2048]}]
`

// TestStaticTunnel: each key of a static tunnel arrives, in the list of the router that sends its packets.
func TestStaticTunnel(t *testing.T) {
	c, _, errs := parseFiles(map[string]string{"tenant": fullStatic, "front": front})
	if len(errs) > 0 {
		t.Fatal(lines(errs))
	}
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	want := []StaticTunnel{{
		Name: "hq", File: "vr/tenant.yaml", Terminating: "tenant", Mode: StaticRoute, LocalAddress: a("192.0.2.1"),
		Peers: []StaticPeer{{Address: a("198.51.100.7")}, {Name: "backup.example.net"}}, Start: StartOnDemand, FallBack: 5 * time.Minute,
		LocalID: "@gate.example.net", Key: Secret("the long random key of hq"), Aggressive: true,
		Networks: []StaticNetwork{
			{Name: "lan", Local: p("10.1.0.0/16"), Remote: p("10.2.0.0/16")},
			{Name: "2", Local: p("10.1.0.0/16"), Remote: p("10.3.0.0/16"), Protocol: 6, LocalPort: 1, RemotePort: 65535},
		},
		Transforms: []ESPTransform{{ESPAES256GCM, IntegrityNone}, {ESPAES128, IntegritySHA1}}, PFS: GroupMODP2048,
		Lifetime: time.Hour, LifetimeKilobytes: 102400, XAuth: StaticXAuthClient, User: "gate", Password: Secret("swordfish"),
		Interface: StaticInterface{
			Name: "hq0", MTU: 1380, Addresses: []netip.Prefix{p("10.1.255.1/32")}, Withdraw: true,
			Routes: []StaticNetworkRoute{{Network: p("10.2.0.0/16")}, {p("10.9.0.0/16"), 5}},
		},
		Backoff: 2 * time.Minute, BackoffMax: 30 * time.Minute, Stable: 90 * time.Second, Idle: time.Minute, NoReturn: 2 * time.Minute,
		Check: StaticCheck{a("10.2.0.1"), a("10.1.255.1"), 443, 20 * time.Second, 3 * time.Second, 2},
	}}
	if diff := cmp.Diff(want, c.Router("front").StaticTunnels, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := c.Router("tenant").StaticTunnels; len(got) != 0 {
		t.Errorf("the tenant sends %v", got)
	}
	if diff := cmp.Diff([]netip.Addr{a("192.0.2.53"), a("192.0.2.54")}, c.Router("front").NameServers, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("name servers (-want +got):\n%s", diff)
	}
}

// shortStatic is a tunnel with what has to be there.
const shortStatic = `
server-addresses: [192.0.2.1, "2001:db8::1"]
static-tunnels:
  - name: hq
    peers: [198.51.100.7]
    pre-shared-key: {key: the long random key of hq}
    networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16}, {local: 10.7.0.0/16, remote: 10.2.0.0/16}, {local: 10.1.0.0/16, remote: 0.0.0.0/0}]
`

// TestStaticDefaults: what a tunnel is that says only what it must.
func TestStaticDefaults(t *testing.T) {
	c, warnings, errs := parseFiles(map[string]string{"a": shortStatic})
	if len(errs)+len(warnings) > 0 {
		t.Fatal(lines(append(errs, warnings...)))
	}
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	want := []StaticTunnel{{
		Name: "hq", File: "vr/a.yaml", Terminating: "a", Enabled: true, Mode: StaticRoute, LocalAddress: a("192.0.2.1"),
		Peers: []StaticPeer{{Address: a("198.51.100.7")}}, Start: StartNailedUp, FallBack: 10 * time.Minute,
		PeerIDIsAddress: true, Key: Secret("the long random key of hq"),
		Networks: []StaticNetwork{
			{Name: "1", Local: p("10.1.0.0/16"), Remote: p("10.2.0.0/16")}, {Name: "2", Local: p("10.7.0.0/16"), Remote: p("10.2.0.0/16")},
			{Name: "3", Local: p("10.1.0.0/16"), Remote: p("0.0.0.0/0")},
		},
		Lifetime: 8 * time.Hour, LifetimeKilobytes: 4294967295, DPD: true, XAuth: StaticXAuthNone,
		Interface: StaticInterface{Name: "hq", MTU: 1400, ClampMSS: true, Routes: []StaticNetworkRoute{{Network: p("10.2.0.0/16")}}},
		Backoff:   time.Minute, BackoffMax: time.Hour, Stable: 2 * time.Minute,
	}}
	if diff := cmp.Diff(want, c.Router("a").StaticTunnels, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for change, check := range map[string]func(*StaticTunnel) bool{
		"check: {target: 10.2.0.1}": func(t *StaticTunnel) bool {
			return t.Check == StaticCheck{a("10.2.0.1"), netip.Addr{}, 0, 30 * time.Second, 5 * time.Second, 3}
		},
		"check: {target: 10.2.0.1, period: 2}": func(t *StaticTunnel) bool { return t.Check.Timeout == 2*time.Second },
		"back-off: 2h":                         func(t *StaticTunnel) bool { return t.Backoff == 2*time.Hour && t.BackoffMax == 2*time.Hour },
		"back-off-max: 30s":                    func(t *StaticTunnel) bool { return t.Backoff == 30*time.Second && t.BackoffMax == 30*time.Second },
		"interface: {routes: []}":              func(t *StaticTunnel) bool { return len(t.Interface.Routes) == 0 && t.Interface.Name == "hq" },
		"peer-id: \"@x.example\"":              func(t *StaticTunnel) bool { return t.PeerID == "@x.example" && !t.PeerIDIsAddress },
		"peer-id: any":                         func(t *StaticTunnel) bool { return t.PeerID == "" && !t.PeerIDIsAddress },
		"peer-id: keyid:any":                   func(t *StaticTunnel) bool { return t.PeerID == "keyid:any" },
		"extended-authentication: server":      func(t *StaticTunnel) bool { return t.XAuth == StaticXAuthServer && t.Start == StartRespond },
		"fall-back: 0":                         func(t *StaticTunnel) bool { return t.FallBack == 0 },
		"start: respond":                       func(t *StaticTunnel) bool { return t.Start == StartRespond },
		"extended-authentication: client\n    user: u\n    password: \"~!\"": func(t *StaticTunnel) bool { return t.User == "u" && t.Start == StartNailedUp },
	} {
		c, _, errs := parseFiles(map[string]string{"a": shortStatic + "    " + change + "\n"})
		if len(errs) > 0 {
			t.Errorf("%s: %v", change, lines(errs))
			continue
		}
		if got := &c.Router("a").StaticTunnels[0]; !check(got) {
			t.Errorf("%s: %+v", change, got)
		}
	}
	c, _, errs = parseFiles(map[string]string{"a": strings.Replace(shortStatic, "    peers: [198.51.100.7]\n", "", 1)})
	if len(errs) > 0 || c.Router("a").StaticTunnels[0].Start != StartRespond {
		t.Errorf("a dynamic peer: %v", lines(errs))
	}
}
