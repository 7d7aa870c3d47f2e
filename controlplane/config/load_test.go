package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// write makes a configuration directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var compareConfig = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
	cmp.Comparer(func(a, b Secret) bool { return a.Equal(b) }),
}

// defaultRADIUS and defaultAAA are those sections where a file has none.
func defaultRADIUS(router, address string) RADIUS {
	a, _ := netip.ParseAddr(address)
	return RADIUS{
		NASIdentifier: router, NASAddress: a, InFlight: 4096,
		DynamicAuthorization: DynamicAuthorization{Port: 3799, RequireMessageAuthenticator: true, Window: 300 * time.Second},
	}
}

var defaultAAA = AAA{
	Methods: []AAAMethod{MethodLocal}, Accounting: Accounting{InterimMinimum: time.Minute}, UnknownPolicy: UnknownPolicyRefuse,
	Names: Names{DomainDelimiters: "@", Order: RealmFirst, DomainDirection: RightToLeft, RealmDirection: LeftToRight},
}

// TestLoadDefaults is the whole result for a router with nothing but what is
// required.
func TestLoadDefaults(t *testing.T) {
	dir := write(t, map[string]string{"vrgate.yaml": "workers: {dh: 3}\n", "vr/office.yaml": good, "vr/.hidden.yaml": "!", "vr/office.yaml~": "!", "vr/README": "!"})
	got, warnings, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 {
		t.Errorf("warnings %v, want that about the group key", warnings)
	}
	gw := netip.MustParseAddr("10.0.0.1")
	server := netip.MustParseAddr("192.0.2.1")
	anyone := netip.MustParseAddr("0.0.0.0")
	want := &Config{
		Process: Process{
			Log: Log{LogInfo, LogConsole}, API: API{Socket: "/run/vrgate/api.sock"}, StateDir: "/var/lib/vrgate",
			Workers: Workers{DH: 3, Kernel: 32}, HalfOpen: HalfOpen{16384, 512}, ShutdownTimeout: 10 * time.Second,
			Admission: Admission{256, 8192, 256}, Journal: AccountingJournal{1000000, 32},
		},
		Routers: []*Router{{
			Name: "office", File: filepath.Join(dir, "vr", "office.yaml"), Kind: KindNamespace,
			ServerAddresses: []netip.Addr{server}, NATT: true, Proposals: ProposalCompatible,
			TransportProfiles: []TransportProfile{{
				Name: "clients", RemoteAddress: anyone, Lifetime: 8 * time.Hour, LifetimeKilobytes: 4294967295,
				Locals: []TransportLocal{{server, []GroupKey{{Name: "main", Key: Secret("0123456789abcdef")}}}},
			}},
			L2TP: L2TP{
				DestructTimeout: 600 * time.Second, IdleTimeout: time.Minute, RetransmitEstablished: 5, RetransmitNotEstablished: 5,
				HelloInterval: time.Minute, Challenge: true, SetupTimeout: time.Minute, ShortDrain: 2 * time.Second, Lockout: 300 * time.Second,
			},
			Destinations: []DestinationProfile{{
				Name: "any", LACAddress: anyone,
				Hosts: []HostProfile{{LocalHost: "office", IPsecRequired: true, IPProfile: "default", ProxyLCP: true}},
			}},
			PPP: PPP{
				Authentication: []PPPAuth{PPPMSCHAPv2, PPPCHAP}, MRU: 1400, EchoInterval: 30 * time.Second, EchoFailures: 4,
				SetupTimeout: time.Minute,
			},
			IPProfiles: []IPProfile{{Name: "default", Router: "office", Unnumbered: gw, Pool: "main", MSSClamp: true, SourceValidation: true, AccessRoutes: true}},
			Pools: []Pool{{
				Name:    "main",
				Ranges:  []AddrRange{{gw, netip.MustParseAddr("10.0.0.254")}},
				Exclude: []AddrRange{{gw, gw}},
				WarnAt:  90, WarnUntil: 80,
			}},
			Certificates: Certificates{Revocation: Revocation{Refresh: time.Hour}, ExpiryWarning: 30 * 24 * time.Hour},
			DPD:          DPD{Sent: 30 * time.Second, Unanswered: time.Minute, Silent: 150 * time.Second},
			Users:        []User{{Name: "alice", Password: Secret("secret of alice")}},
			RADIUS:       defaultRADIUS("office", "192.0.2.1"), AAA: defaultAAA, Limits: Limits{WhenReached: Deny},
		}},
	}
	if diff := cmp.Diff(want, got, compareConfig); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// TestLoadEverything sets every key and looks at every value.
func TestLoadEverything(t *testing.T) {
	dir := write(t, map[string]string{
		"vrgate.yaml": `
log: {level: debug, format: json}
api: {socket: /run/x.sock, group: adm}
state-dir: /state
workers: {dh: 2, kernel: 5}
half-open: {total: 9, per-source: 8}
licences: {subscribers: 1000, ipsec-tunnels: 900}
shutdown-timeout: 1m
`,
		"secret": "the key\n", "pki/ca.pem": "", "pki/gw.pem": "", "pki/gw.key": "", "pki/gw.p12": "", "pki/ca.crl": "",
		"vr/in.yaml": `
namespace: {name: n, create: true}
vrf: {device: inside, table: 20, create: true}
pools:
  - {name: p, ranges: [10.1.0.9, 10.1.0.0/29, 10.1.0.7-10.1.0.8], exclude: [10.1.0.2-10.1.0.3]}
traffic-policies: [{name: slow, rate: 1M}]
`,
		"vr/out.yaml": `
namespace: {name: n, create: true}
vrf: {device: outside, table: 10, create: false}
server-addresses: [192.0.2.1, 192.0.2.2, "2001:db8::1"]
ipsec:
  nat-t: false
  tx-invalid-cookie: true
  proposals: legacy
  ike-policy-rules:
    - {priority: 2, encryption: [3des], hash: [md5], group: [modp1024], lifetime: 1m, authentication: any, aggressive-mode: requested}
    - {priority: 1, authentication: rsa, aggressive-mode: required, encryption: [aes128, aes192], hash: [sha512, sha1], group: [ecp521, modp4096], local-address: 192.0.2.2}
  transport-profiles:
    - name: t
      remote-address: 198.51.100.1
      nat-passthrough: true
      local-addresses: [{address: 192.0.2.2, group-keys: [{name: g, key-file: secret, valid-from: "2026-01-01T00:00:00Z", valid-until: 2126-01-01T02:00:00+02:00}]}]
      lifetime: 864000
      lifetime-kilobytes: 102400
      pfs: ecp384
      transforms: [des-md5, aes192gcm16, aes256-sha256_96]
      certificate: gateway
  pre-shared-keys:
    - {name: a, peer-address: 198.51.100.1, key: "a key"}
    - {name: b, peer-identity: Host.Example, key: "b key"}
    - {name: c, peer-identity: Me@Host.Example, key: 0123}
    - {name: d, peer-identity: 10.9.9.9, key: ~x}
  certificates:
    authorities: [pki/ca.pem, DIR/pki/gw.pem]
    own:
      - {name: old, pkcs12: pki/gw.p12, password-file: secret}
      - {name: gateway, certificate: pki/gw.pem, key: pki/gw.key}
    revocation: {files: [pki/ca.crl], urls: ["http://pki.example.net/ca.crl"], refresh: 1m, strict: true}
    expiry-warning: 24h
  dead-peer-detection: {enabled: true, sent: 5, unanswered: 6, silent: 7}
  tunnel-profiles:
    - name: second
      local-address: 192.0.2.1
      local-identity: "@vpn.example.net"
      certificate: gateway
      peer-identities: ["*@example.net", "dn:CN=*,O=Example\\, Inc", 10.1.*, sales, "@a.example"]
      keys:
        - {name: any, key-file: secret}
        - {name: sales, identity: sales, key: the key of sales}
        - {name: bob, identity: bob@Example.net, key: the key of bob}
      extended-authentication: chap
      reauthenticate: true
      attempts: 10
      push-configuration: true
      max-subscribers: 7
      domain-suffix: "@corp"
      ip-profile: j
      networks: [10.0.0.0/8, 192.0.2.99]
      phase2-local-identities: [0.0.0.0/0]
      phase2-peer-identities: [10.1.0.0/24, 10.2.0.0/24]
      lifetime: 1h
      lifetime-kilobytes: 102401
      pfs: modp2048
      transforms: [aes128-sha1, 3des-md5]
      mtu: 160
      address-expiry: 1h
      banner: Welcome
      default-domain: Example.net
      split-dns: [corp.example.net, Lab.example.net]
      save-password: true
    - {name: first, certificate: old, ip-profile: i, extended-authentication: none}
licences: {subscribers: 10, ipsec-tunnels: 9}
l2tp:
  destruct-timeout: 1h
  idle-timeout: 0
  retransmissions-established: 2
  retransmissions-not-established: 7
  hello-interval: 0
  receive-window: 4
  challenge: false
  disconnect-cause: true
  max-sessions: 100
  setup-timeout: 5
  short-drain: 31
  admin-state: drain
  tolerate-unknown-avps: true
  ignore-sequencing: true
  tunnel-switching: true
  lns-lockout: 1h
  lns-lockout-test: true
  destination-profiles:
    - name: six
      lac-address: "::"
      host-profiles: [{ipsec-required: false, ip-profile: j, local-address: "2001:db8::1"}]
    - name: z
      lac-address: 198.51.100.1
      max-sessions: 10
      host-profiles:
        - remote-host: lac
          local-host: lns
          local-address: 192.0.2.1
          ipsec-required: false
          tunnel-password: tp
          max-sessions: 5
          receive-window: 8
          ip-profile: i
          single-shot: true
          disconnect-cause: false
          proxy-lcp: false
          proxy-authentication: true
          hide-avps: true
          tolerate-unknown-avps: false
          tolerate-tunnel-id-zero: true
          resource-result-code-override: true
        - {ip-profile: j}
ppp: {authentication: [pap, mschapv2], mru: 576, echo-interval: 0, echo-failures: 1, setup-timeout: 300}
ip-profiles:
  - {name: j, address: 10.1.0.1, virtual-router: in, mss-clamp: false, source-validation: false}
  - name: i
    virtual-router: in
    unnumbered-address: 10.1.0.1
    pool: p
    dns: [9.9.9.9, 1.1.1.1]
    nbns: [10.1.0.1]
    mtu: 1300
    mss-clamp: false
    mss: 1200
    source-validation: false
    access-routes: false
    traffic: {rate-in: 8k, rate-out: 9k, burst-in: 1500, burst-out: 1501, policy-in: slow, policy-out: slow}
    idle-timeout: 10m
    idle-ingress-only: true
users:
  - {name: u, password-file: secret, address: 10.1.0.5, virtual-router: in, session-timeout: 1h, idle-timeout: 300}
  - {name: t, password: pw}
`,
	})
	// A path may be absolute.
	path := filepath.Join(dir, "vr", "out.yaml")
	if data, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, net := netip.MustParseAddr, netip.MustParsePrefix
	want := &Config{
		Process: Process{
			Log: Log{LogDebug, LogJSON}, API: API{"/run/x.sock", "adm"}, StateDir: "/state", Workers: Workers{2, 5},
			HalfOpen: HalfOpen{9, 8}, Licences: Licences{1000, 900}, ShutdownTimeout: time.Minute,
			Admission: Admission{256, 8192, 256}, Journal: AccountingJournal{1000000, 32},
		},
		Routers: []*Router{{
			Name: "in", File: filepath.Join(dir, "vr", "in.yaml"), Kind: KindVRF, Namespace: Namespace{"n", true}, VRF: VRF{"inside", 20, true},
			NATT: true, Proposals: ProposalCompatible,
			Certificates: Certificates{Revocation: Revocation{Refresh: time.Hour}, ExpiryWarning: 30 * 24 * time.Hour},
			DPD:          DPD{Sent: 30 * time.Second, Unanswered: time.Minute, Silent: 150 * time.Second},
			L2TP: L2TP{
				DestructTimeout: 600 * time.Second, IdleTimeout: time.Minute, RetransmitEstablished: 5, RetransmitNotEstablished: 5,
				HelloInterval: time.Minute, Challenge: true, SetupTimeout: time.Minute, ShortDrain: 2 * time.Second, Lockout: 300 * time.Second,
			},
			PPP: PPP{[]PPPAuth{PPPMSCHAPv2, PPPCHAP}, 1400, 30 * time.Second, 4, time.Minute},
			Pools: []Pool{{
				Name:   "p",
				Ranges: []AddrRange{{a("10.1.0.1"), a("10.1.0.9")}},
				// The gateway, the configured ones, and the fixed address.
				Exclude: []AddrRange{{a("10.1.0.1"), a("10.1.0.3")}, {a("10.1.0.5"), a("10.1.0.5")}},
				WarnAt:  90, WarnUntil: 80,
			}},
			RADIUS: defaultRADIUS("in", ""), AAA: defaultAAA, Limits: Limits{WhenReached: Deny},
			TrafficPolicies: []TrafficPolicy{{Name: "slow", Rate: 1_000_000}},
		}, {
			Name: "out", File: filepath.Join(dir, "vr", "out.yaml"), Kind: KindVRF, Namespace: Namespace{"n", true}, VRF: VRF{"outside", 10, false},
			ServerAddresses: []netip.Addr{a("192.0.2.1"), a("192.0.2.2"), a("2001:db8::1")}, InvalidCookie: true, Proposals: ProposalLegacy,
			Policy: []PolicyRule{
				{1, AuthRSA, []Encryption{EncryptionAES128, EncryptionAES192}, []Hash{HashSHA512, HashSHA1}, []Group{GroupECP521, GroupMODP4096}, 8 * time.Hour, AggressiveRequired, a("192.0.2.2")},
				{2, AuthAny, []Encryption{Encryption3DES}, []Hash{HashMD5}, []Group{GroupMODP1024}, time.Minute, AggressiveRequested, netip.Addr{}},
			},
			TransportProfiles: []TransportProfile{{
				Name: "t", RemoteAddress: a("198.51.100.1"), Locals: []TransportLocal{{a("192.0.2.2"), []GroupKey{{
					Name: "g", Key: Secret("the key"), From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC),
				}}}},
				Lifetime: 240 * time.Hour, LifetimeKilobytes: 102400, PFS: GroupECP384,
				Transforms:  []ESPTransform{{ESPDES, IntegrityMD5}, {ESPAES192GCM, IntegrityNone}, {ESPAES256, IntegritySHA256Trunc96}},
				Certificate: "gateway", NATPassthrough: true,
			}},
			Certificates: Certificates{
				Authorities: []string{filepath.Join(dir, "pki/ca.pem"), filepath.Join(dir, "pki/gw.pem")},
				Own: []OwnCertificate{
					{Name: "gateway", Certificate: filepath.Join(dir, "pki/gw.pem"), Key: filepath.Join(dir, "pki/gw.key")},
					{Name: "old", PKCS12: filepath.Join(dir, "pki/gw.p12"), Password: Secret("the key")},
				},
				Revocation: Revocation{
					Files: []string{filepath.Join(dir, "pki/ca.crl")}, URLs: []string{"http://pki.example.net/ca.crl"}, Refresh: time.Minute, Strict: true,
				},
				ExpiryWarning: 24 * time.Hour,
			},
			DPD:      DPD{true, 5 * time.Second, 6 * time.Second, 7 * time.Second},
			Licences: Licences{10, 9},
			TunnelProfiles: []TunnelProfile{
				{
					Name: "second", LocalAddress: a("192.0.2.1"), LocalIdentity: "@vpn.example.net", Certificate: "gateway",
					PeerIdentities: []string{"*@example.net", `dn:CN=*,O=Example\, Inc`, "10.1.*", "sales", "@a.example"},
					Keys: []TunnelKey{
						{"any", "", Secret("the key")}, {"sales", "sales", Secret("the key of sales")}, {"bob", "bob@Example.net", Secret("the key of bob")},
					},
					XAuth: XAuthCHAP, Reauthenticate: true, Attempts: 10, Push: true, MaxSubscribers: 7, DomainSuffix: "@corp", IPProfile: "j",
					Networks:    []netip.Prefix{net("10.0.0.0/8"), net("192.0.2.99/32")},
					Phase2Local: []netip.Prefix{net("0.0.0.0/0")}, Phase2Peer: []netip.Prefix{net("10.1.0.0/24"), net("10.2.0.0/24")},
					Lifetime: time.Hour, LifetimeKilobytes: 102401, PFS: GroupMODP2048,
					Transforms: []ESPTransform{{ESPAES128, IntegritySHA1}, {ESP3DES, IntegrityMD5}},
					MTU:        160, AddressExpiry: time.Hour,
					Banner: "Welcome", DefaultDomain: "example.net", SplitDNS: []string{"corp.example.net", "lab.example.net"}, SavePassword: true,
				},
				{
					Name: "first", Certificate: "old", XAuth: XAuthNone, Attempts: 3, IPProfile: "i",
					Lifetime: 8 * time.Hour, LifetimeKilobytes: 4294967295, MTU: 1440,
				},
			},
			Keys: []PreSharedKey{
				{"a", a("198.51.100.1"), Identity{}, Secret("a key")},
				{"b", netip.Addr{}, Identity{IdentityFQDN, "host.example"}, Secret("b key")},
				// Written without quotes: the key is what is written.
				{"c", netip.Addr{}, Identity{IdentityUserFQDN, "Me@host.example"}, Secret("0123")},
				{"d", netip.Addr{}, Identity{IdentityAddress, "10.9.9.9"}, Secret("~x")},
			},
			L2TP: L2TP{
				DestructTimeout: time.Hour, RetransmitEstablished: 2, RetransmitNotEstablished: 7, ReceiveWindow: 4, DisconnectCause: true, MaxSessions: 100, SetupTimeout: 5 * time.Second,
				ShortDrain: 31 * time.Second, Admin: AdminDrain, TolerateUnknownAVP: true, IgnoreSequencing: true, Switching: true, Lockout: time.Hour, LockoutTest: true,
			},
			Destinations: []DestinationProfile{{
				Name: "six", LACAddress: netip.IPv6Unspecified(),
				Hosts: []HostProfile{{
					LocalHost: "out", LocalAddress: a("2001:db8::1"), ReceiveWindow: 4, IPProfile: "j", DisconnectCause: true, ProxyLCP: true, TolerateUnknownAVP: true,
				}},
			}, {
				Name: "z", LACAddress: a("198.51.100.1"), MaxSessions: 10,
				Hosts: []HostProfile{
					{
						RemoteHost: "lac", LocalHost: "lns", LocalAddress: a("192.0.2.1"), TunnelPassword: Secret("tp"), MaxSessions: 5,
						ReceiveWindow: 8, IPProfile: "i", SingleShot: true, ProxyAuth: true, HideAVPs: true, ZeroTunnelID: true, ResourceError: true,
					},
					{LocalHost: "out", IPsecRequired: true, ReceiveWindow: 4, IPProfile: "j", DisconnectCause: true, ProxyLCP: true, TolerateUnknownAVP: true},
				},
			}},
			PPP: PPP{[]PPPAuth{PPPPAP, PPPMSCHAPv2}, 576, 0, 1, 5 * time.Minute},
			IPProfiles: []IPProfile{
				{
					Name: "i", Router: "in", Unnumbered: a("10.1.0.1"), Pool: "p", DNS: []netip.Addr{a("9.9.9.9"), a("1.1.1.1")}, NBNS: []netip.Addr{a("10.1.0.1")}, MTU: 1300,
					MSS: 1200, Traffic: Traffic{RateIn: 8000, RateOut: 9000, BurstIn: 1500, BurstOut: 1501, PolicyIn: "slow", PolicyOut: "slow"},
					IdleTimeout: 10 * time.Minute, IdleIngress: true,
				},
				{Name: "j", Router: "in", Unnumbered: a("10.1.0.1"), OwnAddress: true, Pool: "p", AccessRoutes: true},
			},
			Users: []User{
				{Name: "t", Password: Secret("pw")},
				{
					Name: "u", Password: Secret("the key"), Address: a("10.1.0.5"), Router: "in",
					SessionTimeout: time.Hour, IdleTimeout: 5 * time.Minute,
				},
			},
			RADIUS: defaultRADIUS("out", "192.0.2.1"), AAA: defaultAAA, Limits: Limits{WhenReached: Deny},
		}},
	}
	if diff := cmp.Diff(want, got, compareConfig); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	for _, r := range got.Routers {
		if got.Router(r.Name) != r {
			t.Errorf("Router(%q) does not find it", r.Name)
		}
		for i := range r.IPProfiles {
			if r.IPProfile(r.IPProfiles[i].Name) != &r.IPProfiles[i] {
				t.Errorf("IPProfile(%q) does not find it", r.IPProfiles[i].Name)
			}
		}
	}
	if got.Router("nobody") != nil || got.Routers[0].IPProfile("x") != nil || got.Routers[0].Pool("x") != nil {
		t.Error("a look-up finds what is not there")
	}
	// Every enumeration prints the word it is written with.
	text := fmt.Sprint(got.Routers[1].Policy, got.Routers[1].TransportProfiles[0], got.Routers[1].PPP, got.Process.Log, got.Routers[1].Keys, got.Routers[1].TunnelProfiles, got.Routers[1].L2TP)
	for _, w := range []string{"aes192", "sha512", "ecp521", "any", "rsa", "required", "none", "aes128-sha1", "ecp384", "des-md5", "aes192gcm16", "aes256-sha256_96", "pap", "debug", "json", "user-fqdn", "drain"} {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in %s", w, text)
		}
	}
}

func TestLoadDirectoryErrors(t *testing.T) {
	if _, _, err := Load(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  []string // after the directory's name
	}{
		"empty": {nil, []string{
			"vr: cannot be read: no such file or directory; it holds one NAME.yaml per virtual router",
			"vrgate.yaml: cannot be read: no such file or directory",
		}},
		"no router": {map[string]string{"vrgate.yaml": "", "vr/x.txt": ""}, []string{
			"vr: there is no virtual router: the directory has no NAME.yaml",
		}},
		"wrong names": {map[string]string{"vrgate.yaml": "", "vr/a b.yaml": "", "vr/x.yml": ""}, []string{
			`vr/a b.yaml: "a b" cannot be the name of a virtual router: it must be 1 to 31 letters, digits, '-', '_' or '.', starting with a letter or digit`,
			"vr/x.yml: the name must end in .yaml, not .yml",
		}},
		"several files": {map[string]string{"vrgate.yaml": "x: 1\n", "vr/a.yaml": "y: 1\n", "vr/b.yaml/c": ""}, []string{
			`vr/a.yaml:1:1: unknown key "y"`,
			"vr/b.yaml: cannot be read: it is not a regular file",
			`vrgate.yaml:1:1: unknown key "x"`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, test.files)
			_, _, err := Load(dir)
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("%v is not Errors", err)
			}
			var got []string
			for _, l := range lines(errs) {
				got = append(got, strings.TrimPrefix(l, dir+"/"))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLoadReadsOnlyFiles: a FIFO must not make it wait, nor a huge file fill the
// memory.
func TestLoadReadsOnlyFiles(t *testing.T) {
	dir := write(t, map[string]string{
		"vrgate.yaml": "",
		"vr/a.yaml":   strings.NewReplacer("key: 0123456789abcdef", "key-file: fifo", "password: secret of alice", "password-file: big").Replace(good),
		"big":         strings.Repeat("x", maxSecretFileSize+1),
	})
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := Load(dir)
	want := dir + `/vr/a.yaml:9:25: "key-file" is "fifo" but the file cannot be read: it is not a regular file` + "\n" +
		dir + `/vr/a.yaml:23:20: "password-file" is "big" but the file cannot be read: it is too large`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestSocket(t *testing.T) {
	dir := write(t, map[string]string{"good.yaml": "api: {socket: /a/b}\n", "empty.yaml": "", "bad.yaml": "api: 3\n"})
	for _, test := range []struct{ file, want string }{{"good.yaml", "/a/b"}, {"empty.yaml", DefaultSocket}} {
		if got, err := Socket(filepath.Join(dir, test.file)); err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.file, got, err, test.want)
		}
	}
	if _, err := Socket(filepath.Join(dir, "nowhere.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	var errs Errors
	if _, err := Socket(filepath.Join(dir, "bad.yaml")); !errors.As(err, &errs) {
		t.Errorf("bad file: %v", err)
	}
}

// TestSecretPrintsRedacted tries every way in which a value gets into a log.
func TestSecretPrintsRedacted(t *testing.T) {
	u := User{Name: "u", Password: Secret("hunter2")}
	data, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	all := string(data) + fmt.Sprintf("%v %+v %#v %s %q %x %X %d %o", u, u, u, u.Password, u.Password, u.Password, u.Password, u.Password, u.Password) +
		u.Password.String() + u.Password.GoString() + fmt.Sprintln([]Secret{u.Password}, &u, errors.New(u.Password.String()))
	for _, leak := range []string{"hunter2", "68756e74", "68756E74", "104 117", "[104"} {
		if strings.Contains(all, leak) {
			t.Errorf("%q is in %s", leak, all)
		}
	}
	if n := strings.Count(all, redacted); n < 15 {
		t.Errorf("only %d times %s in %s", n, redacted, all)
	}
	if !u.Password.Equal(Secret("hunter2")) || u.Password.Equal(Secret("hunter3")) || u.Password.Equal(nil) {
		t.Error("Equal is wrong")
	}
}

// TestExamples: the example configurations are good, and say only what they say
// on purpose.
func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(deployDir, "examples", "*"))
	if err != nil || len(dirs) < 4 {
		t.Fatalf("examples %v, %v", dirs, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c, warnings, err := Load(ready(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Logf("%v", w)
			}
			checkInvariants(t, c)
		})
	}
}

// ready returns an example's directory, or a copy of it with the certificates that it comes
// with a script for.
func ready(t *testing.T, example string) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(example, "certificates.sh")); err != nil {
		return example
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	dir := filepath.Join(t.TempDir(), "example")
	if err := os.CopyFS(dir, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "certificates.sh", "alice")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("certificates.sh: %v\n%s", err, out)
	}
	return dir
}

// largest is the largest configuration that design.md allows, in 1000 routers of
// which one has 4000 destination profiles and 10000 users.
func largest() map[string]string {
	files := map[string]string{"vrgate": ""}
	var big strings.Builder
	big.WriteString("namespace: {name: big}\n" + good[:strings.Index(good, "    - name: any\n")])
	for i := range MaxDestinationProfiles {
		fmt.Fprintf(&big, "    - name: d%d\n      lac-address: 10.7.%d.%d\n      host-profiles: [{remote-host: h}]\n", i, i/250, i%250+1)
	}
	big.WriteString(good[strings.Index(good, "ip-profiles:"):])
	for i := range 10000 {
		fmt.Fprintf(&big, "  - {name: u%d, password: p}\n", i)
	}
	files["big"] = big.String()
	for i := range MaxRouters - 1 {
		files[fmt.Sprintf("r%03d", i)] = fmt.Sprintf("namespace: {name: n%d}\n", i) + good
	}
	return files
}

func TestLargest(t *testing.T) {
	c, _, errs := parseFiles(largest())
	if len(errs) > 0 {
		t.Fatal(Errors(errs[:1]))
	}
	big := c.Router("big")
	if len(c.Routers) != MaxRouters || len(big.Destinations) != MaxDestinationProfiles || len(big.Users) != 10001 {
		t.Error("not everything is there")
	}
}

// BenchmarkLargest is the part of a reload that this package does; the whole may
// take 1 s (design.md, Scale).
func BenchmarkLargest(b *testing.B) {
	files := largest()
	for b.Loop() {
		if _, _, errs := parseFiles(files); len(errs) > 0 {
			b.Fatal(Errors(errs[:1]))
		}
	}
}
