package config

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"slices"
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
	checkInvariants(t, c)
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
		checkInvariants(t, c)
		if got := &c.Router("a").StaticTunnels[0]; !check(got) {
			t.Errorf("%s: %+v", change, got)
		}
	}
	c, _, errs = parseFiles(map[string]string{"a": strings.Replace(shortStatic, "    peers: [198.51.100.7]\n", "", 1)})
	if len(errs) > 0 || c.Router("a").StaticTunnels[0].Start != StartRespond {
		t.Errorf("a dynamic peer: %v", lines(errs))
	}
}

// checkStatics checks what static.go promises of the tunnels in the list of a router, with numbers written down again. names are
// those of all routers.
func checkStatics(t *testing.T, c *Config, r *Router, names map[string]bool) {
	t.Helper()
	type packets struct {
		local, remote netip.Addr
		protocol      uint8
	}
	taken := map[packets]bool{}
	within := func(d time.Duration, least, most int64, zero bool) bool {
		s := int64(d / time.Second)
		return d%time.Second == 0 && (s >= least && s <= most || s == 0 && zero)
	}
	if len(r.NameServers) > 3 {
		t.Errorf("name servers %v", r.NameServers)
	}
	for i := range r.StaticTunnels {
		s := &r.StaticTunnels[i]
		in := c.Router(s.Terminating)
		if in == nil || s.Name == "" || len(s.Name) > 80 || names[s.Name] || i > 0 && r.StaticTunnels[i-1].Name >= s.Name || s.File != in.File {
			t.Errorf("static tunnel %q of %q", s.Name, s.Terminating)
			continue
		}
		names[s.Name] = true
		if !s.LocalAddress.Is4() || !slices.Contains(r.ServerAddresses, s.LocalAddress) || len(s.Peers) > 8 || len(s.Networks) < 1 || len(s.Networks) > 64 || len(s.Transforms) > 30 {
			t.Errorf("static tunnel %+v", s)
		}
		for j, p := range s.Peers {
			if p.Address.IsValid() == (p.Name != "") || p.Address == s.LocalAddress || slices.Contains(s.Peers[:j], p) || p.Name != strings.ToLower(p.Name) {
				t.Errorf("peer %v of %q", p, s.Name)
			}
		}
		dials := s.Start == StartNailedUp || s.Start == StartOnDemand
		if s.Start < StartNailedUp || s.Start > StartRespond || dials && len(s.Peers) == 0 || s.XAuth == StaticXAuthServer && dials || s.XAuth == StaticXAuthClient && !dials ||
			s.XAuth < StaticXAuthNone || s.XAuth > StaticXAuthClient || s.Idle != 0 && s.Start != StartOnDemand {
			t.Errorf("who begins %+v", s)
		}
		client := s.XAuth == StaticXAuthClient
		if client != (len(s.User) > 0) || client != (len(s.Password) > 0) || len(s.User) > 31 || len(s.Password) > 31 || strings.ContainsAny(s.User+string(s.Password), " \u00e9") {
			t.Errorf("user of %+v", s)
		}
		if len(s.Key) > 256 || len(s.Key) > 0 && s.Certificate != "" || len(s.Key) == 0 && s.Certificate == "" && len(r.Keys) == 0 || s.Certificate != "" && !r.hasCertificate(s.Certificate) {
			t.Errorf("key of %+v", s)
		}
		if s.PeerIDIsAddress && s.PeerID != "" || len(s.PeerID) > 1024 || len(s.LocalID) > 1024 {
			t.Errorf("identities of %+v", s)
		}
		if !within(s.Lifetime, 180, 3000000, false) || s.LifetimeKilobytes < 102400 || !within(s.FallBack, 10, 86400, true) || !within(s.Idle, 10, 86400, true) ||
			!within(s.NoReturn, 10, 86400, true) || !within(s.Backoff, 1, 86400, false) || !within(s.BackoffMax, 1, 86400, false) || s.Backoff > s.BackoffMax ||
			!within(s.Stable, 1, 86400, false) {
			t.Errorf("times of %+v", s)
		}
		checked := !reflect.DeepEqual(s.Check, StaticCheck{})
		if checked && (!s.Check.Target.Is4() || !within(s.Check.Period, 1, 3600, false) || !within(s.Check.Timeout, 1, 3600, false) || s.Check.Timeout > s.Check.Period ||
			s.Check.Tolerance < 1 || s.Check.Tolerance > 100) {
			t.Errorf("check of %+v", s)
		}
		pairs, reached := map[string]bool{}, s.Mode == StaticTransport
		for _, n := range s.Networks {
			if n.Name == "" || pairs[n.Name] {
				t.Errorf("pairs of networks %+v", s.Networks)
			}
			pairs[n.Name] = true
			if s.Mode == StaticTransport {
				if n.Local.IsValid() || n.Remote.IsValid() || n.LocalPort|n.RemotePort != 0 || n.Protocol != 47 && n.Protocol != 4 {
					t.Errorf("pair of networks %+v in mode transport", n)
				}
				for _, p := range s.Peers {
					if taken[packets{s.LocalAddress, p.Address, n.Protocol}] {
						t.Errorf("%q and another one protect the same packets", s.Name)
					}
					taken[packets{s.LocalAddress, p.Address, n.Protocol}] = true
				}
				continue
			}
			reached = reached || n.Remote.Contains(s.Check.Target)
			if n.Local != n.Local.Masked() || n.Remote != n.Remote.Masked() || !n.Local.Addr().Is4() || !n.Remote.Addr().Is4() ||
				n.LocalPort|n.RemotePort != 0 && n.Protocol != 6 && n.Protocol != 17 {
				t.Errorf("pair of networks %+v", n)
			}
		}
		if checked && !reached {
			t.Errorf("nobody reaches the target of %+v", s)
		}
		d := s.Interface
		if s.Mode != StaticRoute {
			alone := !slices.ContainsFunc(c.Routers, func(o *Router) bool { return o != r && o.Namespace.Name == r.Namespace.Name })
			if s.Mode != StaticPolicy && s.Mode != StaticTransport || in != r || !reflect.DeepEqual(d, StaticInterface{}) || s.Mode == StaticPolicy && (!alone || r.Kind != KindNamespace) ||
				s.Mode == StaticTransport && (len(s.Peers) == 0 || slices.ContainsFunc(s.Peers, func(p StaticPeer) bool { return p.Name != "" })) {
				t.Errorf("mode of %+v", s)
			}
			continue
		}
		if d.Name == "" || len(d.Name) > 15 || strings.ContainsAny(d.Name, " /:") || d.MTU < 576 || d.MTU > 9000 || len(d.Addresses) > 64 || len(d.Routes) > 1000 ||
			slices.ContainsFunc(in.Links, func(l Link) bool { return l.Name == d.Name }) || in.VRF.Device == d.Name {
			t.Errorf("interface of %+v", s)
		}
		for j, x := range d.Routes {
			if x.Network != x.Network.Masked() || slices.Contains(d.Routes[:j], x) || slices.ContainsFunc(in.Links, func(l Link) bool {
				return slices.ContainsFunc(l.Routes, func(o LinkRoute) bool { return o.Network == x.Network && o.Metric == x.Metric })
			}) {
				t.Errorf("routes of %+v", s)
			}
		}
	}
}

// TestStaticDiff: changes of a tunnel are told of the router in whose list it stands.
func TestStaticDiff(t *testing.T) {
	other := "namespace: {name: other}\n" + strings.NewReplacer("192.0.2.", "192.0.3.", "name: hq", "name: another", "[198.51.100.7]", "[198.51.100.9]").Replace(shortStatic)
	front := front + strings.ReplaceAll(shortStatic[strings.Index(shortStatic, "static-t"):], "[198.51.100.7]", "[198.51.100.9]")
	front = strings.Replace(front, "name: hq", "name: third", 1)
	parse := func(tenant string) *Config {
		t.Helper()
		c, _, errs := parseFiles(map[string]string{"tenant": tenant, "front": front, "other": other})
		if len(errs) > 0 {
			t.Fatal(lines(errs))
		}
		return c
	}
	before := parse(fullStatic)
	for _, test := range []struct {
		from, to string
		want     []string
	}{
		{"mtu: 1380", "mtu: 1400", []string{"virtual router front: static tunnel hq changed: interface.mtu"}},
		{"peer-id: any", "peer-id: \"@x.example\"", []string{"virtual router front: static tunnel hq changed: peer-id"}},
		{"    peer-id: any\n", "", []string{"virtual router front: static tunnel hq changed: peer-id"}},
		{"key of hq", "key of HQ", []string{"virtual router front: static tunnel hq changed: pre-shared-key.key"}},
		{"198.51.100.7, Back", "Back", []string{"virtual router front: static tunnel hq changed: peers"}},
		{"name: lan, local: 10.1.0.0/16", "name: lan, local: 10.1.128.0/17", []string{"virtual router front: static tunnel hq network lan changed: local"}},
		{"name: hq\n", "name: headquarters\n", []string{"virtual router front: static tunnel hq removed", "virtual router front: static tunnel headquarters added"}},
		{"transport-virtual-router: front\n    enabled: false\n    mode: route\n    local-address: 192.0.2.1", "transport-virtual-router: other\n    enabled: false\n    mode: route\n    local-address: 192.0.3.1",
			[]string{"virtual router front: static tunnel hq removed", "virtual router other: static tunnel hq added"}},
	} {
		if !strings.Contains(fullStatic, test.from) {
			t.Fatalf("there is no %q", test.from)
		}
		var got []string
		for _, c := range Diff(before, parse(strings.Replace(fullStatic, test.from, test.to, 1))) {
			got = append(got, c.String())
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.to, diff)
		}
	}
}

// TestStaticSecrets: neither a printed tunnel nor a message about it shows what only the two ends know.
func TestStaticSecrets(t *testing.T) {
	c, _, errs := parseFiles(map[string]string{"tenant": fullStatic, "front": front})
	if len(errs) > 0 {
		t.Fatal(lines(errs))
	}
	s := c.Router("front").StaticTunnels[0]
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.NewReplacer("swordfish", "sword fish", "key: the long random key of hq", "key: \"the long random key of hq\\t\"").Replace(fullStatic)
	_, warnings, errs := parseFiles(map[string]string{"tenant": wrong, "front": front})
	if len(errs) != 2 {
		t.Errorf("%v", lines(errs))
	}
	all := string(data) + fmt.Sprintf("%v %+v %#v %v", s, s, s, &s) + strings.Join(lines(append(warnings, errs...)), "\n")
	for _, leak := range []string{"long random", "swordfish", "fish", hex.EncodeToString([]byte("swordfish"))} {
		if strings.Contains(all, leak) {
			t.Errorf("%q is in %s", leak, all)
		}
	}
	// A file with a key in it should not be everybody's to read, and one that says where it is may be.
	_, warnings, _ = parse([]source{{file: "vrgate.yaml", mode: 0o600}, {"vr/a.yaml", "a", []byte(shortStatic), 0o644}}, fakeSecrets, fakeFiles, testNow)
	if got := lines(warnings); len(got) != 1 || got[0] != "vr/a.yaml:6:27: this file holds secrets and every local user can read it (mode 0644)" {
		t.Errorf("%v", got)
	}
}

// TestStaticSecretFiles: keys and passwords can be in files, and are held to the same rules there.
func TestStaticSecretFiles(t *testing.T) {
	in := strings.NewReplacer("{key: the long random key of hq}", "{key-file: key}", "password: swordfish", "password-file: word").Replace(fullStatic)
	for password, want := range map[string]string{
		"swordfish\n": "", "sword fish": "the password must be 1 to 31 characters of ASCII without spaces", "schwertfisch\u00e9": "the password must be 1 to 31 characters of ASCII without spaces",
		strings.Repeat("x", 32): "the password must be 1 to 31 characters of ASCII without spaces", strings.Repeat("x", 31): "", "": `the secret in the file "word" must not be empty`,
	} {
		read := func(path string) ([]byte, fs.FileMode, error) {
			return []byte(map[string]string{"key": "the long random key of hq\n", "word": password}[path]), 0o600, nil
		}
		c, _, errs := parse([]source{{file: "vrgate.yaml"}, {"vr/front.yaml", "front", []byte(front), 0o600}, {"vr/tenant.yaml", "tenant", []byte(in), 0o600}}, read, fakeFiles, testNow)
		if want != "" {
			if diff := cmp.Diff([]string{"vr/tenant.yaml:25:20: " + want}, lines(errs)); diff != "" {
				t.Errorf("%q (-want +got):\n%s", password, diff)
			}
			continue
		}
		if len(errs) > 0 {
			t.Fatal(lines(errs))
		}
		if s := c.Router("front").StaticTunnels[0]; string(s.Key) != "the long random key of hq" || string(s.Password) != strings.TrimSuffix(password, "\n") {
			t.Errorf("a key of %d and a password of %d bytes", len(s.Key), len(s.Password))
		}
	}
}

// TestPolicyMode: only a router that has its namespace to itself.
func TestPolicyMode(t *testing.T) {
	const tunnel = "server-addresses: [192.0.2.1]\nstatic-tunnels: [{name: x, mode: policy, peers: [198.51.100.7], pre-shared-key: {key: the long random key of x}, networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16}]}]\n"
	for name, test := range map[string]struct {
		a, b string
		want []string
	}{
		"alone":       {"namespace: {name: a}\n" + tunnel, "namespace: {name: b}\n", nil},
		"main":        {tunnel, "namespace: {name: b}\n", nil},
		"with a VRF":  {tunnel, "vrf: {device: v, table: 7}\n", []string{`vr/a.yaml:2:34: mode policy takes the traffic of a whole network namespace, in which the virtual router "b" is too; use mode route`}},
		"a VRF":       {"vrf: {device: v, table: 7}\n" + tunnel, "namespace: {name: b}\n", []string{`vr/a.yaml:3:34: mode policy takes the traffic of a whole network namespace, and the virtual router is a VRF in one; use mode route`}},
		"VRFs of one": {"vrf: {device: v, table: 7}\nnamespace: {name: a}\n" + tunnel, "", []string{`vr/a.yaml:4:34: mode policy takes the traffic of a whole network namespace, and the virtual router is a VRF in one; use mode route`}},
	} {
		files := map[string]string{"a": test.a}
		if test.b != "" {
			files["b"] = test.b
		}
		c, _, errs := parseFiles(files)
		if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if c != nil {
			checkInvariants(t, c)
		}
	}
}

// TestManyStatics: the largest file is read in time, whatever its tunnels share, and dynamic peers that main mode cannot tell apart are told.
func TestManyStatics(t *testing.T) {
	for name, tunnel := range map[string]string{
		"routes":   "peers: [10.255.%[2]d.%[3]d], interface: {name: i%[1]d, routes: []}, pre-shared-key: {key: the long random key %[1]d}, networks: [{local: 10.1.0.0/16, remote: 0.0.0.0/0}]",
		"policies": "peers: [10.255.%[2]d.%[3]d], mode: policy, pre-shared-key: {key: the long random key %[1]d}, networks: [{local: 10.1.0.0/16, remote: 10.%[2]d.%[3]d.0/24}]",
		"anybody":  "interface: {name: i%[1]d, routes: []}, pre-shared-key: {key: the long random key %[1]d}, peer-id: any, networks: [{local: 10.1.0.0/16, remote: 0.0.0.0/0}]",
	} {
		var f strings.Builder
		f.WriteString("server-addresses: [192.0.2.1]\nstatic-tunnels:\n")
		for i := range MaxStaticTunnels {
			fmt.Fprintf(&f, "- {name: t%[1]d, "+tunnel+"}\n", i, i/250, i%250+1)
		}
		c, warnings, errs := parseFiles(map[string]string{"a": f.String()})
		if len(errs) > 0 {
			t.Fatalf("%s: %v", name, errs[0])
		}
		if n := len(c.Router("a").StaticTunnels); n != 4000 {
			t.Errorf("%s: %d tunnels", name, n)
		}
		var want []string
		if name == "anybody" {
			want = []string{"vr/a.yaml:11:3: there are more than 8 static tunnels with a key and without \"peers\" on 192.0.2.1: in main mode only so many keys are tried, so that some peers can come in aggressive mode only"}
		}
		if diff := cmp.Diff(want, lines(warnings)); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", name, diff)
		}
	}
}
