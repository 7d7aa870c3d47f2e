package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// up is when the fake subscriber came up.
var up = time.Now().Add(-90 * time.Second)

// fakePlane is a control plane that only remembers.
type fakePlane struct {
	admin []api.L2TPAdminRequest
	fail  error
	plan  api.Plan // of Plan and, applied, of Reload

	mu    sync.Mutex
	ended []string
	told  []string // of static tunnels
	stuck bool
}

func (f *fakePlane) Run(ctx context.Context, ready func()) error {
	if f.fail != nil {
		return f.fail
	}
	ready()
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakePlane) VRs(ctx context.Context) ([]api.VR, error) {
	f.mu.Lock()
	stuck := f.stuck
	f.mu.Unlock()
	if stuck {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return []api.VR{
		{
			Name: "office", Kind: "namespace", State: "up", NATT: true, Proposals: "compatible", ServerAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			IKESAs: 2, Connections: 1, Tunnels: 1, Sessions: 1, StaticTunnels: api.TunnelCounts{Configured: 2, Up: 1}, Subscribers: api.Subscribers{Up: 1}, Pools: []api.Pool{
				{Name: "main", Size: 253, Used: 1, State: "free", WarnAt: 90, WarnUntil: 80, Ranges: []string{"10.0.0.0-10.0.0.255"}, Exclude: []string{"10.0.0.1", "10.0.0.77"}},
			},
			Licences:    api.Licences{Subscribers: api.Licence{Used: 1}, IPsecTunnels: api.Licence{Used: 1, Limit: 50}},
			PolicyRules: []api.PolicyRule{{Priority: 1, Authentication: "psk", Encryption: []string{"aes256"}, Hash: []string{"sha1"}, Group: []string{"modp2048"}, LifetimeSeconds: 28800, AggressiveMode: "none"}},
		},
		{Name: "red", Kind: "vrf", Namespace: "n", Device: "vrf-red", Table: 10, State: "failed", Reason: "module-missing"},
	}, nil
}

func (f *fakePlane) Licences(context.Context) (api.Licences, error) {
	return api.Licences{Subscribers: api.Licence{Used: 1, Limit: 10}}, nil
}

func (f *fakePlane) Certificates(context.Context) ([]api.Certificate, error) {
	end := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	return []api.Certificate{
		{VR: "office", Kind: "own", Name: "vpn", State: "good", Subject: "CN=vpn.example.net", Issuer: "CN=ca", Serial: "2a", NotBefore: end.AddDate(-1, 0, 0), NotAfter: end},
		{VR: "office", Kind: "crl", Name: "http://ca.example.net/crl", State: "stale", Issuer: "CN=ca", NotBefore: end.AddDate(-1, 0, 0), NotAfter: end, Revoked: 3},
		{VR: "office", Kind: "crl", Name: "http://ca.example.org/crl", State: "missing"},
	}, nil
}

func (f *fakePlane) TunnelProfiles(context.Context) ([]api.TunnelProfile, error) {
	return []api.TunnelProfile{
		{
			VR: "office", Name: "staff", LocalAddress: "192.0.2.1", LocalIdentity: "@vpn.example.net", PeerIdentities: []string{"staff", "*@example.net"},
			Keys: []string{"group (staff)"}, Certificate: "vpn", MaxSubscribers: 500, Subscribers: 2, DomainSuffix: "@staff", IPProfile: "users", TerminatingVR: "red",
			Phase2Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12")},
			ExtendedAuthentication: "generic", Attempts: 3, LifetimeSeconds: 28800, LifetimeKilobytes: 4294967295, Transforms: []string{"aes256-sha1"},
			PFS: "modp1024", MTU: 1440, AddressExpirySeconds: 86400, DefaultDomain: "example.net", SplitDNS: []string{"example.net"}, Banner: "welcome",
		},
		{VR: "office", Name: "guests", ExtendedAuthentication: "none", IPProfile: "users", TerminatingVR: "office", Transforms: []string{"compatible"}, PFS: "none", MTU: 1300},
	}, nil
}

func (f *fakePlane) IKESAs(context.Context) ([]api.IKESA, error) {
	return []api.IKESA{{
		VR: "office", Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.7:61000"), RemainingSeconds: 3601,
		State: "DONE", LocalCookie: "0011223344556677", RemoteCookie: "8899aabbccddeeff", NATT: true, PeerID: "10.9.9.9", Peer: "Windows 10",
		Key: "main", Proposal: "aes256-sha1-ecp384", Mode: "main", Authentication: "psk", Tunnel: "hq",
	}, {
		VR: "office", Local: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.MustParseAddrPort("198.51.100.8:500"), RemainingSeconds: 60,
		State: "DONE", Mode: "aggressive", Authentication: "xauth-rsa", PeerID: "CN=pc", Subject: "CN=pc,O=Example", Proposal: "aes256-sha1-modp2048",
	}}, nil
}

func (f *fakePlane) IPsec(context.Context) ([]api.IPsec, error) {
	return []api.IPsec{{
		VR: "office", Connection: 7, State: "up", Application: "l2tp", Profile: "clients",
		Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.7:61000"), NATPeer: true, UDPEncapsulation: true,
		Inbound: []api.IPsecSA{
			{SPI: "c0000001", Transform: "aes256-sha1", RemainingSeconds: 10, Bytes: 1 << 20, AuthErrors: 1},
			{SPI: "c0000002", Transform: "aes256-sha1", RemainingSeconds: 3600, Bytes: 1 << 20, ReplayErrors: 2},
		},
		Outbound: []api.IPsecSA{{SPI: "d0000002", Transform: "aes256-sha1", RemainingSeconds: 3600, Bytes: 99}},
	}, {VR: "office", Connection: 8, State: "connecting", Application: "l2tp"}, {
		VR: "office", Connection: 9, State: "up", Application: "dynamic", Profile: "staff", Subject: "CN=pc", LocalSelector: "10.0.0.0/8, 172.16.0.0/12",
		RemoteSelector: "10.0.1.7/32", Address: netip.MustParseAddr("10.0.1.7"),
	}}, nil
}

func (f *fakePlane) IPsecErrors(context.Context) ([]api.IPsecError, error) {
	return []api.IPsecError{
		{VR: "office", Namespace: "offices", Shared: []string{"red"}, Kind: "in-no-pols", Counter: "XfrmInNoPols", Value: 17, Text: "received: no policy"},
		{VR: "office", Namespace: "offices", Shared: []string{"red"}, Kind: "in-error", Counter: "XfrmInError"},
		{VR: "red", Namespace: "offices", Shared: []string{"office"}, Kind: "in-new", Counter: "XfrmInNew", Value: 1},
	}, nil
}

func (f *fakePlane) L2TPServices(context.Context) ([]api.L2TPService, error) {
	return []api.L2TPService{
		{VR: "office", AdminState: "enabled", DestructTimeoutSeconds: 600, IdleTimeoutSeconds: 60, HelloSeconds: 60, Destinations: 1,
			Tunnels: api.L2TPCount{Total: 5, Failed: 2, AuthFailed: 1, Active: 1}, Sessions: api.L2TPCount{Total: 4, Active: 1}},
		{VR: "red", AdminState: "drain", DestructTimeoutSeconds: 10, SwitchedSessions: 3},
	}, nil
}

func (f *fakePlane) L2TPDestinations(context.Context) ([]api.L2TPDestination, error) {
	return []api.L2TPDestination{
		{VR: "office", Transport: "udp", Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("198.51.100.7"), AdminState: "enabled", EffectiveState: "drain",
			Tunnels: api.L2TPCount{Total: 5, Failed: 2, AuthFailed: 1, Active: 1}, Sessions: api.L2TPCount{Total: 4, Active: 1}, Lockout: "not-locked"},
		{VR: "office", Transport: "udp", Remote: netip.MustParseAddr("203.0.113.9"), AdminState: "enabled", EffectiveState: "enabled", Lockout: "waiting", LockoutRemainingSeconds: 90},
	}, nil
}

func (f *fakePlane) L2TPProfiles(context.Context) ([]api.L2TPDestinationProfile, error) {
	return []api.L2TPDestinationProfile{{VR: "office", Name: "any", Transport: "udp", LACAddress: netip.MustParseAddr("0.0.0.0"), MaxSessions: 100, Sessions: 7, Hosts: []api.L2TPHostProfile{
		{RemoteHost: "default", IPsecTransport: true, SingleShot: true, InterfaceProfile: "users", LocalHost: "office", Sessions: 4},
		{RemoteHost: "lac1", InterfaceProfile: "users", LocalAddress: netip.MustParseAddr("192.0.2.1"), LocalHost: "lns", TunnelPassword: true, MaxSessions: 50, Sessions: 3},
	}}, {VR: "red", Name: "other", LACAddress: netip.MustParseAddr("198.51.100.9")}}, nil
}

func (f *fakePlane) SetL2TPAdmin(_ context.Context, q api.L2TPAdminRequest) (api.L2TPAdminResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.admin = append(f.admin, q)
	return api.L2TPAdminResponse{Tunnels: 1, Sessions: 2}, nil
}

func (f *fakePlane) L2TPTunnels(context.Context) ([]api.L2TPTunnel, error) {
	return []api.L2TPTunnel{{
		VR: "office", LocalID: 20000, RemoteID: 1, State: "established", EffectiveState: "enabled", Local: netip.MustParseAddrPort("192.0.2.1:1701"),
		Remote: netip.MustParseAddrPort("198.51.100.7:1701"), Connection: 7, Profile: "any", HostProfile: "default", RemoteHost: "PC1", RemoteVendor: "Microsoft",
		PeerWindow: 8, Ns: 3, Nr: 4, Sessions: api.L2TPCount{Active: 1}, SingleShot: true, Control: api.L2TPTraffic{RxOctets: 12345},
	}, {VR: "office", LocalID: 20001, Reason: "idle-timeout"}}, nil
}

func (f *fakePlane) L2TPSessions(context.Context) ([]api.L2TPSession, error) {
	return []api.L2TPSession{{
		VR: "office", LocalTunnel: 20000, LocalID: 77, RemoteID: 1, State: "established", EffectiveState: "enabled", CallType: "lns-incoming", User: "alice", RemoteHost: "PC1",
		TxSpeed: 100000000, CalledNumber: "0800", ProxyLCP: true, ProxyAuth: "chap", SwitchedTo: "30000/5",
	}}, nil
}

func (f *fakePlane) Subscribers(context.Context) ([]api.Subscriber, error) {
	return []api.Subscriber{
		{
			ID: "1001", User: "alice", Access: "l2tp/ipsec", State: "up", VR: "office", TerminatingVR: "red", Address: netip.MustParseAddr("10.0.0.7"),
			AddressSource: "pool", Pool: "main", Interface: "ppp0", Ifindex: 44, Remote: netip.MustParseAddrPort("198.51.100.7:61000"), Peer: "Windows 10",
			Method: "local", AAAVR: "office", Class: []string{}, Routes: []api.SubscriberRoute{},
			InBytes: 5 << 30, OutBytes: 10239, Up: up,
		},
		{ID: "1002", User: "", State: "link", VR: "office", TerminatingVR: "office"},
		{
			ID: "1003", User: "carol@example.net", Domain: "example.net", DomainMap: "default", Type: "ipsec", Access: "xauth", State: "up", VR: "office", TerminatingVR: "office", Address: netip.MustParseAddr("10.0.1.7"),
			Method: "radius", AAAVR: "red", Server: "r1", AccountingGroup: "servers", Accounted: true, InterimSeconds: 600, Class: []string{"gold", "0x0102"},
			Netmask: netip.MustParseAddr("255.255.255.0"), Routes: []api.SubscriberRoute{{Prefix: netip.MustParsePrefix("172.16.0.0/12"), Metric: 5, Tag: 7}},
			Traffic: api.Traffic{InRate: 1000000, OutRate: 8000, InBurst: 15000, OutPolicy: "slow"}, SessionTimeoutSeconds: 7200, SessionRemainingSeconds: 7110,
			IdleTimeoutSeconds: 300, IdleRemainingSeconds: 299, IdleIngress: true,
			AddressSource: "radius", Interface: "xfrm1", Profile: "staff", PeerID: "staff", Remote: netip.MustParseAddrPort("198.51.100.8:500"), Peer: "vpnc", Up: up,
		},
	}, nil
}

func (f *fakePlane) RADIUS(context.Context) ([]api.RADIUS, error) {
	return []api.RADIUS{{
		VR: "office",
		Servers: []api.RADIUSServer{
			{
				Name: "r1", Role: "authentication", Address: netip.MustParseAddrPort("192.0.2.9:1812"), State: "up", LastAnswer: up, RTTSeconds: 0.0126, InFlight: 3,
				Sockets: 1, Outcomes: map[string]uint64{"sent": 9, "accepted": 6, "late": 0},
			},
			{Name: "r1", Role: "accounting", Address: netip.MustParseAddrPort("[2001:db8::9]:1813"), State: "dead", Since: up, Waiting: 2, SocketError: "no route", Outcomes: map[string]uint64{"sent": 0}},
		},
		Requests: []api.RADIUSRequests{{Role: "authentication", Limit: 4096, InFlight: 3, Queued: 5, Refused: 6}},
		Findings: []api.RADIUSFinding{{Attribute: "vendor 9999 type 3", Problem: "unknown", Count: 12}},
		DynamicAuthorization: api.DynamicAuthorization{Enabled: true, UnknownSources: 4, Clients: []api.DynamicClient{
			{Address: netip.MustParseAddr("192.0.2.9"), Outcomes: map[string]uint64{"disconnected": 2, "stale": 0}},
		}},
	}}, nil
}

func (f *fakePlane) Accounting(context.Context) (api.Accounting, error) {
	return api.Accounting{
		Queued: 12, Unsaved: 1, OpenSessions: 4, Oldest: up, Delivered: 100, Retried: 5, DroppedInterims: 6, Recovered: 2, Lost: 3, Unknown: 8, DiskError: "no space left on device",
		Queues: []api.AccountingQueue{
			{VR: "office", Group: "servers", Queued: 11, InFlight: 1, Oldest: up, State: "silent", NextAttempt: up, Delivered: 60, Retried: 5, DroppedInterims: 6},
			{VR: "red", Group: "servers", Queued: 1, InFlight: 1, State: "failing", Delivered: 40},
		},
	}, nil
}

func (f *fakePlane) AAA(context.Context) (api.AAA, error) {
	return api.AAA{
		Admission: api.Admission{Running: 3, Concurrent: 256, Waiting: 2, MaxWaiting: 8192, PerSource: 128, Admitted: 50, Refused: 7}, UnknownPolicies: 1,
		Routers: []api.AAARouter{
			{
				VR: "office", Methods: []string{"local", "radius"}, AuthenticationGroup: "servers", AccountingGroup: "others", AccountingRequired: true,
				Results: map[string]uint64{"accepted": 40, "aaa-refused": 3},
				Answers: []api.AAAAnswers{{Method: "local", Results: map[string]uint64{"aaa-unknown-user": 43}}, {Method: "radius", Results: map[string]uint64{"accepted": 40, "aaa-refused": 3}}},
				Limits:  api.Limits{Sessions: 4, PerRouter: 100, PerUser: 2, WhenReached: "replace-oldest", Replaces: []string{"user", "source"}, Refused: map[string]uint64{"router-session-limit": 2, "user-session-limit": 0}},
			},
			{VR: "red", Methods: []string{"local"}, Limits: api.Limits{WhenReached: "deny"}},
		},
	}, nil
}

func (f *fakePlane) DomainMaps(context.Context) ([]api.DomainMap, error) {
	return []api.DomainMap{
		{VR: "office", Domain: "bad.example", Deny: true},
		{
			VR: "office", Domain: "example.net", AAAVR: "red", Methods: []string{"radius", "local"}, AuthenticationGroup: "servers", AccountingGroup: "servers", StripDomain: true,
			TerminatingVR: "red", IPProfile: "users", Gateway: netip.MustParseAddr("10.0.0.1"), Pool: "main", DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, MTU: 1380,
			Sessions: 3, MaxSessions: 10, SessionTimeoutSeconds: 86400, IdleTimeoutSeconds: 600, IdleIngress: true,
			Traffic: api.Traffic{InRate: 1000000, InPolicy: "no-mail", OutRate: 64500, OutBurst: 15000},
		},
		{VR: "office", Domain: "none", AAAVR: "office", Methods: []string{"radius"}, OverrideUser: "guest"},
	}, nil
}

func (f *fakePlane) Links(context.Context) ([]api.Link, error) {
	return []api.Link{
		{
			VR: "office", Name: "lan", Kind: "interface", To: "eth1", State: "up", Index: 4, MTU: 1500, InBytes: 20480, OutBytes: 1024, OutErrors: 1, InDrops: 2,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.1.1/24")},
			Routes:    []api.LinkRoute{{Network: netip.MustParsePrefix("10.8.0.0/16"), Via: netip.MustParseAddr("10.0.0.254"), Metric: 3}},
		},
		{VR: "office", Name: "v100", Kind: "vlan", To: "eth2 vlan 100", State: "missing", Reason: "no-parent", Text: "plug it in", Addresses: []netip.Prefix{}, Routes: []api.LinkRoute{}},
	}, nil
}

func (f *fakePlane) TrafficPolicies(context.Context) ([]api.TrafficPolicy, error) {
	return []api.TrafficPolicy{
		{VR: "office", Name: "no-mail", Rules: []api.TrafficRule{
			{Action: "permit", Network: netip.MustParsePrefix("10.0.0.25/32"), Protocol: 6, FirstPort: 25, LastPort: 25},
			{Action: "deny", Protocol: 6, FirstPort: 25, LastPort: 26}, {Action: "deny", Protocol: 99}, {Action: "deny", Network: netip.MustParsePrefix("10.9.0.0/16")}, {Action: "permit"},
		}},
		{VR: "red", Name: "slow", Rate: 2000000000, Burst: 15000, Rules: []api.TrafficRule{}},
	}, nil
}

func (f *fakePlane) TerminateCodes(context.Context) ([]api.TerminateCode, error) {
	return []api.TerminateCode{
		{VR: "office", Application: "subscriber", Reason: "idle-timeout", Description: "no traffic for too long", Code: 4, Cause: "Idle Timeout"},
		{VR: "office", Application: "subscriber", Reason: "session-timeout", Description: "the time is up", Code: 4001, Configured: true},
	}, nil
}

func (f *fakePlane) Explain(_ context.Context, q api.ExplainRequest) ([]api.ExplainStep, error) {
	if q.VR == "green" {
		return nil, &api.Error{Status: 404, Reason: api.ReasonNotFound, Text: `there is no virtual router "green"`}
	}
	return []api.ExplainStep{
		{Topic: "arrives in", Value: q.VR, Reason: q.Access}, {Topic: "user", Value: q.User}, {Topic: "realm"}, {Topic: "proof", Value: q.Authentication, Reason: "of " + q.Profile},
	}, nil
}

func (f *fakePlane) Counters(context.Context) ([]api.Counter, error) { return nil, nil }

func (f *fakePlane) Disconnect(_ context.Context, ids []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, ids...)
	return nil
}

// configure makes a configuration directory whose socket and state are in a
// temporary directory.
func configure(t *testing.T) (dir, socket, state string) {
	t.Helper()
	dir = t.TempDir()
	socket, state = filepath.Join(dir, "run", "s"), filepath.Join(dir, "state")
	files := map[string]string{
		"vrgate.yaml":   "api: {socket: " + socket + "}\nstate-dir: " + state + "\nlog: {format: json}\n",
		"vr/inner.yaml": "pools: [{name: p, ranges: [10.0.0.0/24]}]\n",
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, socket, state
}

// vrgate runs a command line.
func vrgate(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = execute(t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

func TestCheck(t *testing.T) {
	dir, _, _ := configure(t)
	status, out, stderr := vrgate(t, "check", "-c", dir)
	if want := "the configuration is good: 1 virtual router, 0 local users\n"; status != 0 || out != want || stderr != "" {
		t.Errorf("%d %q %q", status, out, stderr)
	}
	if err := os.WriteFile(filepath.Join(dir, "vr", "bad.yaml"), []byte("x: 1\nserver-addresses: [y]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, stderr = vrgate(t, "check", "--config", dir)
	want := dir + `/vr/bad.yaml:1:1: unknown key "x"` + "\n" +
		dir + `/vr/bad.yaml:2:20: entry 1 of "server-addresses" is "y" but must be an IPv4 or IPv6 address` + "\n" +
		// Both are in the namespace of the process.
		dir + `/vr/inner.yaml:1:1: the namespace in which vrgate runs is already the virtual router "bad" (` + dir + `/vr/bad.yaml); give this one a namespace or a VRF of its own` + "\n" +
		"vrgate: the configuration has 3 mistakes; nothing has been applied\n"
	if status != exitConfig || out != "" || stderr != want {
		t.Errorf("%d %q\ngot  %s\nwant %s", status, out, stderr, want)
	}
	// check touches nothing.
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("check made something: %v, %v", entries, err)
	}
}

// TestCheckCarrier is all that check says about the example for carriers, which has most of what an LNS can be given.
func TestCheckCarrier(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "carrier")
	if err := os.CopyFS(dir, os.DirFS("../../deploy/examples/carrier")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "vr", "lns.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, stderr := vrgate(t, "check", "-c", dir)
	file := filepath.Join(dir, "vr", "lns.yaml")
	want := file + `:9:15: warning: whoever knows the group key "staff" can pose as this server to its clients; give a client a key of its own where its address is known` + "\n"
	for _, at := range []string{"25:27", "33:27", "43:27"} {
		want += file + ":" + at + ": warning: tunnels in clear text are accepted\n"
	}
	if status != 0 || out != "the configuration is good: 1 virtual router, 3 local users\n" || stderr != want {
		t.Errorf("%d %q\ngot  %s\nwant %s", status, out, stderr, want)
	}
	// The three mistakes that are made most easily when such a file is changed.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.NewReplacer("lac-address: \"2001:db8:10::10\"", "lac-address: 203.0.113.10", "single-shot: true", "single-shot: yes", "address: 198.51.100.1", "address: 192.0.2.1").Replace(string(text))
	if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, stderr = vrgate(t, "check", "-c", dir)
	want += file + ":40:20: the LAC 203.0.113.10 has a destination profile already, in line 19\n" +
		file + ":51:24: \"single-shot\" is \"yes\" but must be true or false\n" +
		file + ":78:20: the LNS 192.0.2.1 is this virtual router itself\n"
	if status != exitConfig || out != "" || !strings.HasPrefix(stderr, want) {
		t.Errorf("%d %q\ngot  %s\nwant %s", status, out, stderr, want)
	}
}

func TestExamplesPassCheck(t *testing.T) {
	dirs, err := filepath.Glob("../../deploy/examples/*")
	if err != nil || len(dirs) < 4 {
		t.Fatalf("%v, %v", dirs, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			if status, out, stderr := vrgate(t, "check", "-c", ready(t, dir)); status != 0 || !strings.HasPrefix(out, "the configuration is good") {
				t.Errorf("%s: %d %s%s", dir, status, out, stderr)
			}
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

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		stderr string
	}{
		{[]string{"check", "extra"}, `vrgate: unknown argument "extra" for "vrgate check"; see vrgate check --help`},
		{[]string{"frobnicate"}, `vrgate: unknown argument "frobnicate" for "vrgate"; see vrgate --help`},
		{[]string{"show", "nothing"}, `vrgate: unknown argument "nothing" for "vrgate show"; see vrgate show --help`},
		{[]string{"check", "--frob"}, `vrgate: unknown flag: --frob`},
		{[]string{"schema"}, `vrgate: say which schema: vrgate schema process, or vrgate schema router`},
		{[]string{"schema", "x"}, `vrgate: say which schema: vrgate schema process, or vrgate schema router`},
		{[]string{"disconnect"}, `vrgate: say whom: --id, --user, --address, --vr, --profile or --domain, or else --all`},
		{[]string{"disconnect", "--all", "--user", "x"}, `vrgate: say whom: --id, --user, --address, --vr, --profile or --domain, or else --all`},
		{[]string{"explain"}, `vrgate: say whom: vrgate explain USER`},
		{[]string{"explain", ""}, `vrgate: say whom: vrgate explain USER`},
		{[]string{"explain", "bob", "alice"}, `vrgate: say whom: vrgate explain USER`},
		{[]string{"show", "subscribers", "--address", "x"}, `vrgate: --address: "x" is not an IP address`},
		{[]string{"disconnect", "--address", "x"}, `vrgate: --address: "x" is not an IP address`},
	} {
		status, out, stderr := vrgate(t, test.args...)
		if status != exitUsage || out != "" || strings.TrimSpace(stderr) != test.stderr {
			t.Errorf("%v: %d %q %q", test.args, status, out, stderr)
		}
	}
	if status, out, _ := vrgate(t); status != 0 || !strings.Contains(out, "Usage:") {
		t.Errorf("no arguments: %d %q", status, out)
	}
}

func TestSchemaAndVersion(t *testing.T) {
	for _, which := range []string{"process", "router"} {
		status, out, _ := vrgate(t, "schema", which)
		var schema struct {
			Schema     string `json:"$schema"`
			Properties map[string]any
		}
		if err := json.Unmarshal([]byte(out), &schema); err != nil || status != 0 || schema.Schema == "" || len(schema.Properties) < 5 {
			t.Errorf("%s: %d, %v, %+v", which, status, err, schema)
		}
	}
	if status, out, _ := vrgate(t, "version"); status != 0 || !strings.HasPrefix(out, "vrgate ") {
		t.Errorf("version: %d %q", status, out)
	}
}

// daemon runs a control plane until the test ends and returns the manager's
// messages.
func daemon(t *testing.T, dir string, plane *fakePlane, watchdog time.Duration) (messages <-chan string, stop func() error, log *bytes.Buffer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan string, 100)
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			received <- string(buf[:n])
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	log = &bytes.Buffer{}
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, dir, log, notifier{path, watchdog}, func(*config.Config, *store.Store, *zap.Logger) (controlPlane, error) { return plane, nil })
	}()
	var once sync.Once
	var result error
	stop = func() error {
		once.Do(func() {
			cancel()
			result = <-done
			// What has been sent is still read; closing would discard it.
			_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			reader.Wait()
			_ = conn.Close()
		})
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return received, stop, log
}

func expect(t *testing.T, messages <-chan string, want string) {
	t.Helper()
	select {
	case got := <-messages:
		if got != want {
			t.Fatalf("the manager was told %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("the manager was not told %q", want)
	}
}

// TestRun is a whole life: ready, asked, told to stop, gone.
func TestRun(t *testing.T) {
	dir, socket, state := configure(t)
	plane := &fakePlane{}
	messages, stop, log := daemon(t, dir, plane, 0)
	expect(t, messages, "READY=1\nSTATUS=serving")
	if status, out, stderr := vrgate(t, "show", "vr", "-c", dir); status != 0 || !strings.Contains(out, "office") {
		t.Errorf("show vr: %d %s%s", status, out, stderr)
	}
	// A second start is refused and does not disturb the first.
	status, _, stderr := vrgate(t, "run", "-c", dir)
	if status != exitRunning || !strings.Contains(stderr, "another vrgate runs already: process ") {
		t.Errorf("second start: %d %q", status, stderr)
	}
	if _, err := api.NewClient(socket).Health(t.Context()); err != nil {
		t.Errorf("after the second start: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	expect(t, messages, "STOPPING=1\nSTATUS=ending all sessions")
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	release, err := lockState(state)
	if err != nil {
		t.Errorf("the lock is left: %v", err)
	} else {
		release()
	}
	var words []string
	for line := range strings.Lines(log.String()) {
		var entry struct{ Msg, Level string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("log line %q: %v", line, err)
		}
		words = append(words, entry.Level+" "+entry.Msg)
	}
	if !slices.Contains(words, "info serving") || !slices.Contains(words, "info stopped") {
		t.Errorf("log: %v", words)
	}
	if status, _, stderr := vrgate(t, "show", "vr", "-c", dir); status != exitFailed || !strings.Contains(stderr, "vrgate is not running") {
		t.Errorf("show after the end: %d %s", status, stderr)
	}
}

func TestRunFails(t *testing.T) {
	dir, socket, state := configure(t)
	messages, stop, _ := daemon(t, dir, &fakePlane{fail: errors.New("l2tp_ppp is missing: modprobe l2tp_ppp\nmore")}, 0)
	expect(t, messages, "STATUS=l2tp_ppp is missing: modprobe l2tp_ppp")
	if err := stop(); err == nil || !strings.Contains(err.Error(), "l2tp_ppp is missing") {
		t.Errorf("run: %v", err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if release, err := lockState(state); err != nil {
		t.Errorf("the lock is left: %v", err)
	} else {
		release()
	}
	if err := os.WriteFile(filepath.Join(dir, "vrgate.yaml"), []byte("x: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := vrgate(t, "run", "-c", dir); status != exitConfig || !strings.Contains(stderr, `vrgate.yaml:1:1: unknown key "x"`) {
		t.Errorf("run with a wrong configuration: %d %s", status, stderr)
	}
}

// TestWatchdog: fed while the loops answer, hungry when they are stuck.
func TestWatchdog(t *testing.T) {
	dir, _, _ := configure(t)
	plane := &fakePlane{}
	messages, stop, _ := daemon(t, dir, plane, 40*time.Millisecond)
	expect(t, messages, "READY=1\nSTATUS=serving")
	expect(t, messages, "WATCHDOG=1")
	expect(t, messages, "WATCHDOG=1")
	plane.mu.Lock()
	plane.stuck = true
	plane.mu.Unlock()
	// What was on its way may still arrive.
	time.Sleep(100 * time.Millisecond)
	for len(messages) > 0 {
		<-messages
	}
	time.Sleep(200 * time.Millisecond)
	if len(messages) > 0 {
		t.Errorf("a stuck daemon says %q", <-messages)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestNotifierEnvironment(t *testing.T) {
	env := func(kv map[string]string) func(string) string { return func(k string) string { return kv[k] } }
	for name, test := range map[string]struct {
		env  map[string]string
		want notifier
	}{
		"no manager":       {nil, notifier{}},
		"no watchdog":      {map[string]string{"NOTIFY_SOCKET": "/s"}, notifier{socket: "/s"}},
		"watchdog":         {map[string]string{"NOTIFY_SOCKET": "@s", "WATCHDOG_USEC": "30000000"}, notifier{"@s", 30 * time.Second}},
		"for another":      {map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}, notifier{socket: "/s"}},
		"nonsense":         {map[string]string{"WATCHDOG_USEC": "soon"}, notifier{}},
		"negative":         {map[string]string{"WATCHDOG_USEC": "-5"}, notifier{}},
		"beyond a number":  {map[string]string{"WATCHDOG_USEC": "99999999999999999999"}, notifier{}},
		"beyond durations": {map[string]string{"WATCHDOG_USEC": "9223372036854775807"}, notifier{}},
	} {
		if got := newNotifier(env(test.env)); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
	if err := (notifier{}).ready("x"); err != nil {
		t.Errorf("nobody to tell: %v", err)
	}
	if err := (notifier{socket: filepath.Join(t.TempDir(), "x")}).ready("x"); err == nil {
		t.Error("a manager that does not listen is no error")
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	release, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	var running *alreadyRunningError
	if _, err := lockState(dir); !errors.As(err, &running) || running.pid != os.Getpid() || running.path != filepath.Join(dir, "lock") {
		t.Errorf("second lock: %v", err)
	}
	// A holder that could not write its number is still in the way.
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lockState(dir); !errors.As(err, &running) || running.pid != 0 || running.Error() != "another vrgate runs already: it holds "+filepath.Join(dir, "lock") {
		t.Errorf("second lock: %v", err)
	}
	release()
	release, err = lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := lockState("/proc/none"); err == nil {
		t.Error("a directory that cannot be made is no error")
	}
}

// TestTables looks at whole outputs.
func TestTables(t *testing.T) {
	dir, _, _ := configure(t)
	plane := &fakePlane{}
	messages, _, _ := daemon(t, dir, plane, 0)
	expect(t, messages, "READY=1\nSTATUS=serving")
	for _, test := range []struct{ args, want string }{
		{"show vr", `
NAME    KIND       PLACE               STATE                    ADDRESSES  NAT-T  PROPOSALS   IKE  IPSEC  TUNNELS  SESSIONS  STATIC  UP  POOLS       LICENCES
office  namespace  (own)               up                       192.0.2.1  on     compatible  2    1      1        1         1/2     1   main 1/253  ipsec-tunnels 1/50
red     vrf        n/vrf-red table 10  failed (module-missing)  -          off    -           0    0      0        0         -       0   -           -
`},
		{"show ike-policy", `
VR      PRIORITY  AUTHENTICATION  ENCRYPTION  HASH  GROUP     LIFETIME  AGGRESSIVE MODE  ADDRESS
office  1         psk             aes256      sha1  modp2048  8h0m0s    none             any
`},
		{"show tunnel-profiles", `
VR      PROFILE  ADDRESS    LOCAL ID          PEER IDS              KEYS           CERTIFICATE  SUBSCRIBERS  XAUTH    IP PROFILE  TERMINATES IN  NETWORKS                  TRANSFORMS   PFS       LIFETIME  MTU
office  staff    192.0.2.1  @vpn.example.net  staff, *@example.net  group (staff)  vpn          2/500        generic  users       red            10.0.0.0/8,172.16.0.0/12  aes256-sha1  modp1024  8h0m0s    1440
office  guests   any        -                 any                   -              -            0            none     users       office         everything                compatible   none      0s        1300
`},
		{"show licences", `
VR      SUBSCRIBERS  OF         IPSEC TUNNELS  OF
(all)   1            10         0              unlimited
office  1            unlimited  1              50
red     0            unlimited  0              unlimited
`},
		{"show licences --vr office", `
VR      SUBSCRIBERS  OF         IPSEC TUNNELS  OF
office  1            unlimited  1              50
`},
		{"show certificates", `
VR      KIND  NAME                       STATE    UNTIL                SUBJECT             ISSUER  REVOKED
office  own   vpn                        good     2027-03-01 12:00:00  CN=vpn.example.net  CN=ca   -
office  crl   http://ca.example.net/crl  stale    2027-03-01 12:00:00  -                   CN=ca   3
office  crl   http://ca.example.org/crl  missing  -                    -                   -       0
`},
		{"show ike-sa", `
VR      LOCAL           REMOTE              REMAINING  STATE  MODE        LOCAL COOKIE      REMOTE COOKIE     NAT-T  PEER ID   PEER        TUNNEL  AUTHENTICATION  KEY              PROPOSAL
office  192.0.2.1:4500  198.51.100.7:61000  1h0m1s     DONE   main        0011223344556677  8899aabbccddeeff  on     10.9.9.9  Windows 10  hq      psk             main             aes256-sha1-ecp384
office  192.0.2.1:500   198.51.100.8:500    1m0s       DONE   aggressive  -                 -                 off    CN=pc     -           -       xauth-rsa       CN=pc,O=Example  aes256-sha1-modp2048
`},
		{"show ipsec", `
VR      CONN  STATE       FOR      PROFILE  LOCAL           REMOTE              SELECTORS                                NAT       SPI IN/OUT         TRANSFORM    REMAINING  IN     OUT  ERRORS
office  7     up          l2tp     clients  192.0.2.1:4500  198.51.100.7:61000  -                                        peer+udp  c0000002/d0000002  aes256-sha1  1h0m0s     2.0Mi  99   3
office  8     connecting  l2tp     -        -               -                   -                                        -         -/-                -            0s         0      0    0
office  9     up          dynamic  staff    -               -                   10.0.0.0/8, 172.16.0.0/12 - 10.0.1.7/32  -         -/-                -            0s         0      0    0
`},
		{"show ipsec errors", `
VR      KIND        COUNT  SHARED WITH  WHAT IT MAY BE
office  in-no-pols  17     red          received: no policy
red     in-new      1      office       -
`},
		{"show l2tp", `
VR      STATE    DESTINATIONS  TUNNELS  TOTAL  FAILED  AUTH FAILED  SESSIONS  TOTAL  FAILED  SWITCHED  IDLE      DESTRUCT  HELLO
office  enabled  1             1        5      2       1            1         4      0       0         1m0s      10m0s     1m0s
red     drain    0             0        0      0       0            0         0      0       3         for ever  10s       never

VR      TUNNEL  PEER  STATE        ADMIN    LOCAL           REMOTE             CONN   PROFILE      HOST  VENDOR     NS/NR  WINDOW  RETRANS  SESSIONS       AGE  ENDED BY
office  20000   1     established  enabled  192.0.2.1:1701  198.51.100.7:1701  7      any/default  PC1   Microsoft  3/4    8       0        1 single-shot  -    -
office  20001   0     -            -        -               -                  clear  /            -     -          0/0    0       0        0              -    idle-timeout

VR      TUNNEL  SESSION  PEER  STATE        ADMIN    TYPE          USER   HOST  SERIAL  CALLING  CALLED  TX/RX BIT/S  SEQ  PROXY     SWITCHED TO  AGE  ENDED BY
office  20000   77       1     established  enabled  lns-incoming  alice  PC1   0       -        0800    100000000/0  off  lcp+chap  30000/5      -    -
`},
		{"show l2tp destination", `
VR      LOCAL      REMOTE        ADMIN    EFFECTIVE  TUNNELS  TOTAL  FAILED  AUTH FAILED  SESSIONS  TOTAL  FAILED  LOCKOUT
office  192.0.2.1  198.51.100.7  enabled  drain      1        5      2       1            1         4      0       not-locked
office  -          203.0.113.9   enabled  enabled    0        0      0       0            0         0      0       waiting 1m30s
`},
		{"show l2tp destination-profile", `
VR      PROFILE  LAC      REMOTE HOST  IPSEC  SINGLE-SHOT  IP PROFILE  LOCAL ADDRESS  LOCAL HOST  PASSWORD  SESSIONS  OF         PROFILE'S  OF
office  any      0.0.0.0  default      on     on           users       any            office      -         4         unlimited  7          100
office  any      0.0.0.0  lac1         off    off          users       192.0.2.1      lns         set       3         50         7          100
`},
		{"show l2tp destination-profile any", `
vr            office
name          any
transport     udp
lac_address   0.0.0.0
max_sessions  100
sessions      7
hosts 1:
  remote_host                    default
  ipsec_transport                true
  single_shot                    true
  interface_profile              users
  local_address                  -
  local_host                     office
  tunnel_password                false
  proxy_lcp                      false
  proxy_authentication           false
  max_sessions                   0
  sessions                       4
  receive_window                 0
  disconnect_cause               false
  hide_avps                      false
  tolerate_unknown_avps          false
  tolerate_tunnel_id_zero        false
  resource_result_code_override  false
hosts 2:
  remote_host                    lac1
  ipsec_transport                false
  single_shot                    false
  interface_profile              users
  local_address                  192.0.2.1
  local_host                     lns
  tunnel_password                true
  proxy_lcp                      false
  proxy_authentication           false
  max_sessions                   50
  sessions                       3
  receive_window                 0
  disconnect_cause               false
  hide_avps                      false
  tolerate_unknown_avps          false
  tolerate_tunnel_id_zero        false
  resource_result_code_override  false

`},
		{"show l2tp tunnel --vr red", `
VR  TUNNEL  PEER  STATE  ADMIN  LOCAL  REMOTE  CONN  PROFILE  HOST  VENDOR  NS/NR  WINDOW  RETRANS  SESSIONS  AGE  ENDED BY
`},
		{"l2tp drain --vr office --destination 198.51.100.7", `
drain; ending 1 tunnel and 2 sessions
`},
		{"show subscribers --user alice", `
ID    USER   TYPE        STATE  ADDRESS   SOURCE  VR      TERMINATES IN  INTERFACE  PROFILE  FROM                CLIENT      UP     IN     OUT
1001  alice  l2tp/ipsec  up     10.0.0.7  pool    office  red            ppp0       -        198.51.100.7:61000  Windows 10  1m30s  5.0Gi  10239
`},
		{"show pools", `
VR      POOL  USED  OF   STATE  WARNS AT  RANGES               EXCLUDED
office  main  1     253  free   90%       10.0.0.0-10.0.0.255  10.0.0.1, 10.0.0.77
`},
		{"show radius", `
VR      SERVER  ROLE            ADDRESS             STATE  FOR    LAST ANSWER  RTT     IN FLIGHT  WAITING  OUTCOMES
office  r1      authentication  192.0.2.9:1812      up     -      1m30s        12.6ms  3          0        accepted 6, sent 9
office  r1      accounting      [2001:db8::9]:1813  dead   1m30s  -            -       0          2        no route

VR      COA CLIENT  OUTCOMES
office  192.0.2.9   disconnected 2
office  (others)    dropped 4

VR      ATTRIBUTE IN ANSWERS  PROBLEM  COUNT
office  vendor 9999 type 3    unknown  12
`},
		{"show accounting", `
QUEUED  OLDEST  OPEN SESSIONS  DELIVERED  RETRIED  DROPPED INTERIMS  RECOVERED  LOST  DISK                     UNSAVED
12      1m30s   4              100        5        6                 2          3     no space left on device  1

VR      GROUP    STATE    NEXT ATTEMPT  QUEUED  IN FLIGHT  OLDEST  DELIVERED  RETRIED  DROPPED INTERIMS
office  servers  silent   in 0s         11      1          1m30s   60         5        6
red     servers  failing  now           1       1          -       40         0        0
`},
		{"show accounting --vr none", `
QUEUED  OLDEST  OPEN SESSIONS  DELIVERED  RETRIED  DROPPED INTERIMS  RECOVERED  LOST  DISK                     UNSAVED
12      1m30s   4              100        5        6                 2          3     no space left on device  1
`},
		{"show aaa", `
DECIDING  OF   WAITING  OF    PER SOURCE  ADMITTED  REFUSED  UNKNOWN POLICIES
3         256  2        8192  128         50        7        1

VR      SESSIONS  OF         PER USER   PER DOMAIN  PER SOURCE  WHEN REACHED                  REFUSED
office  4         100        2          unlimited   unlimited   replace-oldest: user, source  router-session-limit 2
red     0         unlimited  unlimited  unlimited   unlimited   deny                          -

VR      METHODS        AUTHENTICATION  ACCOUNTING         RESULTS
office  local, radius  servers         others (required)  aaa-refused 3, accepted 40
red     local          -               -                  -

VR      METHOD  ANSWERS
office  local   aaa-unknown-user 43
office  radius  aaa-refused 3, accepted 40
`},
		{"show aaa --vr red", `
DECIDING  OF   WAITING  OF    PER SOURCE  ADMITTED  REFUSED  UNKNOWN POLICIES
3         256  2        8192  128         50        7        1

VR   SESSIONS  OF         PER USER   PER DOMAIN  PER SOURCE  WHEN REACHED  REFUSED
red  0         unlimited  unlimited  unlimited   unlimited   deny          -

VR   METHODS  AUTHENTICATION  ACCOUNTING  RESULTS
red  local    -               -           -
`},
		{"show domain-maps", `
VR      DOMAIN       AAA OF  METHODS        AUTHENTICATION  ACCOUNTING  NAME      TERMINATES IN  POOL  GATEWAY   SESSIONS  TIMEOUT  IDLE   TRAFFIC
office  bad.example  denied  -              -               -           -         -              -     -         0         -        -      -
office  example.net  red     radius, local  servers         servers     stripped  red            main  10.0.0.1  3/10      24h0m0s  10m0s  in 1Mbit/s, in by no-mail, out 64500bit/s
office  none         office  radius         -               -           is guest  -              -     -         0         -        -      -
`},
		{"show links", `
VR      LINK  KIND       TO             STATE                ADDRESSES                MTU   IN      OUT   ERRORS  WHAT TO DO
office  lan   interface  eth1           up                   10.0.0.1/24,10.0.1.1/24  1500  20.0Ki  1024  3       -
office  v100  vlan       eth2 vlan 100  missing (no-parent)  -                        -     0       0     0       plug it in
`},
		{"show traffic-policies", `
VR      POLICY   RATE       BURST  RULES
office  no-mail  unlimited  -      permit tcp 10.0.0.25/32 port 25; deny tcp ports 25-26; deny protocol 99; deny 10.9.0.0/16; permit any
red     slow     2Gbit/s    15000  -
`},
		{"show terminate-codes", `
VR      APPLICATION  REASON           CODE  RADIUS        CONFIGURED  DESCRIPTION
office  subscriber   idle-timeout     4     Idle Timeout  -           no traffic for too long
office  subscriber   session-timeout  4001  private       yes         the time is up
`},
		{"explain bob@example.net --vr office --access xauth --profile staff --authentication chap", `
arrives in: office (xauth)
user: bob@example.net
realm: none
proof: chap (of staff)
`},
		{"disconnect --domain example.NET --dry-run", `
ID    USER               TYPE   STATE  ADDRESS   SOURCE  VR      TERMINATES IN  INTERFACE  PROFILE  FROM              CLIENT  UP     IN  OUT
1003  carol@example.net  xauth  up     10.0.1.7  radius  office  office         xfrm1      staff    198.51.100.8:500  vpnc    1m30s  0   0
would end 1 session
`},
		{"disconnect --address 10.0.1.7 --dry-run", `
ID    USER               TYPE   STATE  ADDRESS   SOURCE  VR      TERMINATES IN  INTERFACE  PROFILE  FROM              CLIENT  UP     IN  OUT
1003  carol@example.net  xauth  up     10.0.1.7  radius  office  office         xfrm1      staff    198.51.100.8:500  vpnc    1m30s  0   0
would end 1 session
`},
		{"disconnect --profile staff --dry-run", `
ID    USER               TYPE   STATE  ADDRESS   SOURCE  VR      TERMINATES IN  INTERFACE  PROFILE  FROM              CLIENT  UP     IN  OUT
1003  carol@example.net  xauth  up     10.0.1.7  radius  office  office         xfrm1      staff    198.51.100.8:500  vpnc    1m30s  0   0
would end 1 session
`},
		{"disconnect --vr red --dry-run", `
ID    USER   TYPE        STATE  ADDRESS   SOURCE  VR      TERMINATES IN  INTERFACE  PROFILE  FROM                CLIENT      UP     IN     OUT
1001  alice  l2tp/ipsec  up     10.0.0.7  pool    office  red            ppp0       -        198.51.100.7:61000  Windows 10  1m30s  5.0Gi  10239
would end 1 session
`},
	} {
		status, out, stderr := vrgate(t, append(strings.Fields(test.args), "-c", dir)...)
		// Ages move on while the test runs.
		out = regexp.MustCompile(`\b[1-9]m[0-9]{2}s\b`).ReplaceAllString(out, "1m30s")
		if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), out); status != 0 || stderr != "" || diff != "" {
			t.Errorf("%s: %d %s (-want +got):\n%s", test.args, status, stderr, diff)
		}
	}
	if len(plane.ended) > 0 {
		t.Errorf("a dry run ended %v", plane.ended)
	}
	if status, out, _ := vrgate(t, "disconnect", "--all", "-c", dir); status != 0 || !strings.HasSuffix(out, "ending 3 sessions\n") {
		t.Errorf("disconnect --all: %d %s", status, out)
	}
	if diff := cmp.Diff([]string{"1001", "1002", "1003"}, plane.ended); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
}

// TestJSONAndDetail: what JSON has, --detail has too.
func TestJSONAndDetail(t *testing.T) {
	dir, socket, _ := configure(t)
	messages, _, _ := daemon(t, dir, &fakePlane{}, 0)
	expect(t, messages, "READY=1\nSTATUS=serving")
	for _, name := range []string{"vr", "ike-policy", "tunnel-profiles", "certificates", "licences", "ike-sa", "ipsec", "ipsec errors", "l2tp", "l2tp destination", "l2tp destination-profile", "l2tp tunnel", "l2tp session", "subscribers",
		"pools", "radius", "accounting", "aaa", "domain-maps", "traffic-policies", "terminate-codes", "links", "tunnels"} {
		status, out, stderr := vrgate(t, append(append([]string{"show"}, strings.Fields(name)...), "--json", "--socket", socket)...)
		var v any
		if err := json.Unmarshal([]byte(out), &v); err != nil || status != 0 {
			t.Errorf("show %s --json: %d %s %v", name, status, stderr, err)
			continue
		}
		status, detail, stderr := vrgate(t, append(append([]string{"show"}, strings.Fields(name)...), "--detail", "-c", dir)...)
		if status != 0 {
			t.Errorf("show %s --detail: %d %s", name, status, stderr)
		}
		for _, word := range leaves(v) {
			if !strings.Contains(detail, word) {
				t.Errorf("show %s --detail has no %q:\n%s", name, word, detail)
			}
		}
	}
	if status, out, _ := vrgate(t, "explain", "bob", "--vr", "red", "--json", "-c", dir); status != 0 || !strings.HasPrefix(out, "[\n  {\n    \"topic\": \"arrives in\",\n    \"value\": \"red\"\n  },") {
		t.Errorf("explain --json: %d %s", status, out)
	}
	if status, out, stderr := vrgate(t, "explain", "bob", "--vr", "green", "-c", dir); status != exitFailed || out != "" || stderr != "vrgate: there is no virtual router \"green\"\n" {
		t.Errorf("explain in a router that there is not: %d %s%s", status, out, stderr)
	}
	if status, out, _ := vrgate(t, "disconnect", "--user", "nobody", "--json", "-c", dir); status != 0 || !strings.Contains(out, `"subscribers": []`) {
		t.Errorf("disconnect --json: %d %s", status, out)
	}
}

// leaves are the words of a JSON value, keys without those of the outermost
// object (`show l2tp` has one that --detail has not), times to the second.
func leaves(v any) []string {
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for key, e := range v {
			if _, list := e.([]any); !list {
				out = append(out, key)
			}
			out = append(out, leaves(e)...)
		}
	case []any:
		for _, e := range v {
			out = append(out, leaves(e)...)
		}
	case string:
		at, err := time.Parse(time.RFC3339Nano, v)
		switch {
		case err != nil:
			out = append(out, v)
		case !at.IsZero(): // else a dash in the table
			out = append(out, at.Format(time.RFC3339))
		}
	}
	return out
}

func TestByteSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 10239: "10239", 10240: "10.0Ki", 1 << 20: "1.0Mi", 3 << 29: "1.5Gi", 1<<64 - 1: "16.0Ei",
	} {
		if got := byteSize(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

// TestPrintable: what clients call themselves does nothing to a terminal.
func TestPrintable(t *testing.T) {
	var out strings.Builder
	tricky := []api.Subscriber{{ID: "1", User: "\x1b[2J\nJosé\x00\xff\u202e"}}
	if err := errors.Join(subscriberTable(&out, tricky, false), subscriberTable(&out, tricky, true)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\ufffd[2J\ufffdJosé\ufffd\ufffd\ufffd") != 2 || strings.ContainsAny(got, "\x1b\x00\u202e") {
		t.Errorf("%q", got)
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, _ := newLogger(config.Log{Level: config.LogWarn, Format: config.LogConsole}, &out)
	log.Info("not this")
	log.Warn("but this", zap.Stringer("key", config.Secret("hunter2")), zap.Any("user", config.User{Name: "u", Password: config.Secret("hunter2")}))
	if s := out.String(); strings.Contains(s, "not this") || !strings.Contains(s, "warn\tbut this") || strings.Contains(s, "hunter2") || strings.Count(s, "[redacted]") != 2 {
		t.Errorf("log: %s", s)
	}
}

// TestCompletion: flags complete from what the daemon knows.
func TestCompletion(t *testing.T) {
	dir, _, _ := configure(t)
	messages, stop, _ := daemon(t, dir, &fakePlane{}, 0)
	expect(t, messages, "READY=1\nSTATUS=serving")
	for _, test := range []struct{ flag, want string }{
		{"--user", "alice\ncarol@example.net\n:4\n"}, {"--vr", "office\nred\n:4\n"}, {"--id", "1001\n1002\n1003\n:4\n"}, {"--profile", "guests\nstaff\n:4\n"},
		{"--address", "10.0.0.7\n10.0.1.7\n:4\n"}, {"--domain", "default\nexample.net\n:4\n"},
	} {
		if status, out, _ := vrgate(t, "__complete", "disconnect", "-c", dir, test.flag, ""); status != 0 || out != test.want {
			t.Errorf("%s: %d %q", test.flag, status, out)
		}
	}
	for flag, want := range map[string]string{"--access": "l2tp\nl2tp/ipsec\nxauth\nstatic\n:4\n", "--authentication": "pap\nchap\nmschapv2\neap\n:4\n", "--vr": "office\nred\n:4\n"} {
		if status, out, _ := vrgate(t, "__complete", "explain", "-c", dir, "bob", flag, ""); status != 0 || out != want {
			t.Errorf("explain %s: %d %q", flag, status, out)
		}
	}
	_ = stop()
	if status, out, _ := vrgate(t, "__complete", "disconnect", "-c", dir, "--user", ""); status != 0 || out != ":4\n" {
		t.Errorf("without a daemon: %d %q", status, out)
	}
}

// TestCheckCertificates: check reads the certificates that a configuration names, and run refuses
// to start without them.
func TestCheckCertificates(t *testing.T) {
	dir, _, _ := configure(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.pem", "no certificate\n")
	write("vr/inner.yaml", "pools: [{name: p, ranges: [10.0.0.0/24]}]\nipsec: {certificates: {authorities: [ca.pem]}}\n")
	want := regexp.MustCompile(`(?s)^` + regexp.QuoteMeta(dir+"/vr/inner.yaml: "+dir+"/ca.pem: ") + `[^\n]+\nvrgate: the configuration has certificates that cannot be used; nothing has been applied\n$`)
	for _, command := range []string{"check", "run"} {
		if status, out, stderr := vrgate(t, command, "-c", dir); status != exitConfig || out != "" || !want.MatchString(stderr) {
			t.Errorf("%s: %d %q %q", command, status, out, stderr)
		}
	}
}

// TestCheckTerminateCodes: check finds reasons that there are not, and run refuses to start.
func TestCheckTerminateCodes(t *testing.T) {
	dir, _, _ := configure(t)
	text := "pools: [{name: p, ranges: [10.0.0.0/24]}]\naaa: {terminate-codes: [{reason: idle, code: 4}]}\n"
	if err := os.WriteFile(filepath.Join(dir, "vr/inner.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := dir + `/vr/inner.yaml:2:34: "reason" is "idle" but no session ends with it`
	for _, command := range []string{"check", "run"} {
		if status, out, stderr := vrgate(t, command, "-c", dir); status != exitConfig || out != "" || !strings.HasPrefix(stderr, want) {
			t.Errorf("%s: %d %q %q", command, status, out, stderr)
		}
	}
}

func (f *fakePlane) Plan(context.Context, *config.Config) (api.Plan, error) { return f.plan, nil }

func (f *fakePlane) Reload(context.Context, *config.Config) (api.Plan, error) {
	plan := f.plan
	plan.Applied = true
	return plan, nil
}
