package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

var since = time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)

// fakeSource is a control plane with two virtual routers.
type fakeSource struct {
	admin        []L2TPAdminRequest
	mu           sync.Mutex
	disconnected []string
	told         []string // of static tunnels
	err          error
	block        chan struct{}
}

func (f *fakeSource) result(ctx context.Context) error {
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.err
}

func (f *fakeSource) VRs(ctx context.Context) ([]VR, error) {
	return []VR{
		{
			Name: "blue", Kind: "namespace", Namespace: "blue", State: "up", NATT: true, Proposals: "compatible",
			ServerAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, IKESAs: 3, HalfOpen: 1, Connections: 2, Tunnels: 2, Sessions: 2,
			Subscribers: Subscribers{Up: 1, Connecting: 1}, Licences: Licences{Subscribers: Licence{2, 100}, IPsecTunnels: Licence{1, 0}},
			PolicyRules: []PolicyRule{{Priority: 1, Authentication: "any"}, {Priority: 2, Authentication: "psk"}}, Pools: []Pool{{Name: "main", Size: 250, Used: 2, State: "free", WarnAt: 90, WarnUntil: 80, Ranges: []string{"10.0.0.2-10.0.0.251"}, Exclude: []string{}}},
		},
		{Name: "red", Kind: "vrf", Device: "vrf-red", Table: 10, State: "failed", Reason: "module-missing", Text: "l2tp_ppp is missing: modprobe l2tp_ppp"},
	}, f.result(ctx)
}

func (f *fakeSource) Licences(ctx context.Context) (Licences, error) {
	return Licences{Subscribers: Licence{Used: 3, Limit: 1000}, IPsecTunnels: Licence{Used: 2}}, f.result(ctx)
}

func (f *fakeSource) Certificates(ctx context.Context) ([]Certificate, error) {
	return []Certificate{
		{VR: "blue", Kind: "own", Name: "vpn", State: "good", Subject: "CN=vpn", Issuer: "CN=ca", NotBefore: since, NotAfter: since.Add(time.Hour)},
		{VR: "red", Kind: "crl", Name: "http://ca.example.net/crl", State: "missing"},
	}, f.result(ctx)
}

func (f *fakeSource) TunnelProfiles(ctx context.Context) ([]TunnelProfile, error) {
	return []TunnelProfile{
		{VR: "blue", Name: "staff", PeerIdentities: []string{"staff"}, MaxSubscribers: 500, Subscribers: 2, IPProfile: "users", TerminatingVR: "red",
			Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Transforms: []string{"aes256-sha1"}, MTU: 1440},
		{VR: "red", Name: "guests"},
	}, f.result(ctx)
}

func (f *fakeSource) IKESAs(ctx context.Context) ([]IKESA, error) {
	return []IKESA{
		{VR: "blue", Local: addrPort("192.0.2.1:4500"), Remote: addrPort("198.51.100.7:61000"), RemainingSeconds: 28000, State: "DONE",
			LocalCookie: "0011223344556677", RemoteCookie: "8899aabbccddeeff", NATT: true, PeerID: "10.9.9.9", Key: "main", Since: since},
		{VR: "red", State: "MM SA-R"},
	}, f.result(ctx)
}

func (f *fakeSource) IPsec(ctx context.Context) ([]IPsec, error) {
	return []IPsec{{VR: "blue", Connection: 7, State: "up", Application: "l2tp"}, {VR: "red", Connection: 8}}, f.result(ctx)
}

func (f *fakeSource) L2TPTunnels(ctx context.Context) ([]L2TPTunnel, error) {
	return []L2TPTunnel{{VR: "blue", LocalID: 20000, RemoteID: 1}, {VR: "red", LocalID: 20001}}, f.result(ctx)
}

func (f *fakeSource) L2TPSessions(ctx context.Context) ([]L2TPSession, error) {
	return []L2TPSession{{VR: "blue", LocalTunnel: 20000, LocalID: 3}, {VR: "red"}}, f.result(ctx)
}

func (f *fakeSource) L2TPServices(ctx context.Context) ([]L2TPService, error) {
	return []L2TPService{{VR: "blue", AdminState: "drain", Tunnels: L2TPCount{Total: 3, Failed: 1, AuthFailed: 1, Active: 2}}, {VR: "red", IdleTimeoutSeconds: 60}}, f.result(ctx)
}

func (f *fakeSource) L2TPDestinations(ctx context.Context) ([]L2TPDestination, error) {
	return []L2TPDestination{{VR: "blue", Remote: netip.MustParseAddr("198.51.100.7"), Control: L2TPTraffic{RxOctets: 9}}, {VR: "red"}}, f.result(ctx)
}

func (f *fakeSource) L2TPProfiles(ctx context.Context) ([]L2TPDestinationProfile, error) {
	return []L2TPDestinationProfile{{VR: "blue", Name: "any", Hosts: []L2TPHostProfile{{RemoteHost: "default", SingleShot: true}}}, {VR: "red", Name: "any"}}, f.result(ctx)
}

func (f *fakeSource) SetL2TPAdmin(ctx context.Context, q L2TPAdminRequest) (L2TPAdminResponse, error) {
	f.admin = append(f.admin, q)
	return L2TPAdminResponse{Tunnels: 1, Sessions: 2}, f.result(ctx)
}

func (f *fakeSource) Subscribers(ctx context.Context) ([]Subscriber, error) {
	return []Subscriber{
		{ID: "1001", User: "alice", VR: "blue", TerminatingVR: "blue", Address: netip.MustParseAddr("10.0.0.7"), State: "up", Up: since, InBytes: 5},
		{ID: "1002", User: "bob", VR: "blue", TerminatingVR: "red", State: "link"},
		{ID: "1003", User: "alice", VR: "red", TerminatingVR: "red", Address: netip.MustParseAddr("10.0.0.7"), State: "up", Up: since},
		{ID: "1004", User: "carol@Example.net", Domain: "example.net", DomainMap: "default", Type: "ipsec", Access: "xauth", VR: "blue", TerminatingVR: "blue", Profile: "staff", PeerID: "staff", State: "up", Up: since},
	}, f.result(ctx)
}

func (f *fakeSource) RADIUS(ctx context.Context) ([]RADIUS, error) {
	return []RADIUS{
		{
			VR: "blue",
			Servers: []RADIUSServer{
				{Name: "r1", Role: "authentication", Address: addrPort("192.0.2.9:1812"), State: "up", Since: since, LastAnswer: since.Add(time.Second), RTTSeconds: 0.0125, InFlight: 3,
					Waiting: 1, Sockets: 1, Outcomes: map[string]uint64{"sent": 9, "accepted": 6, "late": 0}},
				{Name: "r1", Role: "accounting", Address: addrPort("192.0.2.9:1813"), State: "trial", SocketError: "no route", Outcomes: map[string]uint64{"timeout": 2}},
			},
			Requests: []RADIUSRequests{{"authentication", 4096, 4, 7, 2}, {"accounting", 4096, 0, 0, 0}},
			Findings: []RADIUSFinding{{"Framed-MTU", "bad-value", 5}},
			DynamicAuthorization: DynamicAuthorization{Enabled: true, UnknownSources: 11, Clients: []DynamicClient{
				{netip.MustParseAddr("192.0.2.9"), map[string]uint64{"disconnected": 1, "changed": 0}},
			}},
		},
		{VR: "red", Servers: []RADIUSServer{{Name: "r2", Role: "authentication", State: "dead"}}},
	}, f.result(ctx)
}

func (f *fakeSource) Accounting(ctx context.Context) (Accounting, error) {
	return Accounting{
		Queued: 12, Unsaved: 1, OpenSessions: 4, Oldest: since, Delivered: 100, Retried: 5, DroppedInterims: 6, Recovered: 2, Lost: 3, Unknown: 4, DiskError: "disk full",
		Queues: []AccountingQueue{
			{VR: "blue", Group: "g", Queued: 11, InFlight: 1, Oldest: since, State: "silent", NextAttempt: since.Add(time.Minute), Delivered: 60, Retried: 5, DroppedInterims: 6},
			{VR: "red", Group: "g", Queued: 1, State: "up", Delivered: 40},
		},
	}, f.result(ctx)
}

func (f *fakeSource) AAA(ctx context.Context) (AAA, error) {
	return AAA{
		Admission: Admission{Running: 3, Concurrent: 256, Waiting: 2, MaxWaiting: 8192, PerSource: 256, Admitted: 50, Refused: 7}, UnknownPolicies: 1,
		Routers: []AAARouter{
			{
				VR: "blue", Methods: []string{"local", "radius"}, AuthenticationGroup: "g", AccountingGroup: "g", AccountingRequired: true,
				Results: map[string]uint64{"accepted": 40, "aaa-refused": 3}, Answers: []AAAAnswers{{"radius", map[string]uint64{"accepted": 40}}},
				Limits: Limits{Sessions: 4, PerRouter: 100, PerUser: 2, WhenReached: "replace-oldest", Replaces: []string{"user", "source"}, Refused: map[string]uint64{"user-session-limit": 2}},
			},
			{VR: "red", Methods: []string{"local"}, Limits: Limits{WhenReached: "deny"}},
		},
	}, f.result(ctx)
}

func (f *fakeSource) DomainMaps(ctx context.Context) ([]DomainMap, error) {
	return []DomainMap{
		{VR: "blue", Domain: "example.net", AAAVR: "red", Methods: []string{"radius"}, AuthenticationGroup: "g", StripDomain: true, Pool: "main", Sessions: 3, MaxSessions: 10,
			Gateway: netip.MustParseAddr("10.0.0.1"), SessionTimeoutSeconds: 3600, Traffic: Traffic{InRate: 8000, OutPolicy: "slow"}},
		{VR: "red", Domain: "default", Deny: true},
	}, f.result(ctx)
}

func (f *fakeSource) IPsecErrors(ctx context.Context) ([]IPsecError, error) {
	return []IPsecError{
		{VR: "blue", Kind: "in-no-pols", Counter: "XfrmInNoPols", Value: 1 << 33, Text: "no policy"},
		{VR: "red", Namespace: "r", Shared: []string{"green"}, Kind: "out-new", Counter: "XfrmOutNew"},
	}, f.result(ctx)
}

func (f *fakeSource) Links(ctx context.Context) ([]Link, error) {
	return []Link{
		{
			VR: "blue", Name: "lan", Kind: "interface", To: "eth1", State: "up", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")},
			Routes: []LinkRoute{{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParseAddr("10.0.0.2"), 5}}, Index: 3, MTU: 1500, InPackets: 1, InBytes: 60,
		},
		{VR: "red", Name: "branch", Kind: "gre", To: "192.0.2.1 - 192.0.2.2", State: "missing", Reason: "kernel-refused", Text: "no", Addresses: []netip.Prefix{}, Routes: []LinkRoute{}},
	}, f.result(ctx)
}

func (f *fakeSource) Tunnels(ctx context.Context) ([]Tunnel, error) {
	return []Tunnel{
		{
			VR: "blue", TransportVR: "red", Name: "hq/1", Mode: "route", State: "up", Since: since, Networks: []TunnelNetwork{{Name: "1", State: "up"}, {Name: "2", State: "down"}},
			Check:    TunnelCheck{Target: netip.MustParseAddr("10.2.0.1"), OK: true, At: since, RTTSeconds: 0.0125, Sent: 9, Lost: 1},
			Attempts: 4, Ups: 3, FallOvers: 2, FallBacks: 1, Failures: map[string]uint64{"peer-dead": 2}, Rekeys: 5, Phase1Rekeys: 6,
			Outside: TunnelTraffic{InPackets: 1, InBytes: 100, OutPackets: 2, OutBytes: 200}, AuthErrors: 7,
		},
		{VR: "red", TransportVR: "red", Name: "far", State: "down", Reason: "router-down", Check: TunnelCheck{Target: netip.MustParseAddr("10.2.0.1")}},
	}, f.result(ctx)
}

func (f *fakeSource) TellTunnel(ctx context.Context, q TunnelRequest) error {
	if q.Tunnel == "nothing" {
		return &Error{Status: http.StatusNotFound, Reason: ReasonNotFound, Text: "there is no static tunnel \"nothing\""}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, q.Tunnel+" "+string(q.Command))
	return f.result(ctx)
}

func (f *fakeSource) TrafficPolicies(ctx context.Context) ([]TrafficPolicy, error) {
	return []TrafficPolicy{
		{VR: "blue", Name: "slow", Rate: 64000, Rules: []TrafficRule{{"deny", netip.MustParsePrefix("10.0.0.0/8"), 6, 25, 25}}},
		{VR: "red", Name: "none"},
	}, f.result(ctx)
}

func (f *fakeSource) TerminateCodes(ctx context.Context) ([]TerminateCode, error) {
	return []TerminateCode{
		{"blue", "subscriber", "idle-timeout", "no traffic", 4, "Idle Timeout", false}, {"red", "subscriber", "idle-timeout", "no traffic", 400, "", true},
	}, f.result(ctx)
}

func (f *fakeSource) Explain(ctx context.Context, q ExplainRequest) ([]ExplainStep, error) {
	if q.VR == "green" {
		return nil, &Error{Status: http.StatusNotFound, Reason: ReasonNotFound, Text: "there is no virtual router \"green\""}
	}
	return []ExplainStep{{"user", q.User, q.VR + " " + q.Access}, {"proof", q.Authentication, q.Profile}}, f.result(ctx)
}

func (f *fakeSource) Counters(ctx context.Context) ([]Counter, error) {
	return []Counter{{"blue", "ike", "no-proposal-chosen", 4}, {"red", "l2tp", "clear-text-refused", 1 << 40}}, f.result(ctx)
}

func (f *fakeSource) Disconnect(ctx context.Context, ids []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disconnected = append(f.disconnected, ids...)
	return f.result(ctx)
}

var errStopping = errors.New("the control plane is stopping")

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
