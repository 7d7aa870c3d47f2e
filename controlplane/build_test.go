package controlplane

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/pki"
	"vrgate/controlplane/subscriber"
)

// unknown says whether a word of the configuration is that of no value.
func unknown(word string) bool { return strings.Contains(word, "(") }

// TestEveryWordIsTranslated: a value of the configuration that a table here lacks would turn
// into an algorithm that is none.
func TestEveryWordIsTranslated(t *testing.T) {
	count := 0
	check := func(kind, word string, ok bool) {
		count++
		if !ok {
			t.Errorf("%s %q is not translated", kind, word)
		}
	}
	for v := config.Encryption(1); !unknown(v.String()); v++ {
		got, ok := encryptions[v]
		check("encryption", v.String(), ok && strings.Contains(strings.ToLower(strings.ReplaceAll(got.String(), "-", "")), v.String()))
	}
	for v := config.Hash(1); !unknown(v.String()); v++ {
		_, ok := hashes[v]
		check("hash", v.String(), ok)
	}
	for v := config.ESPEncryption(1); !unknown(v.String()); v++ {
		_, ok := espCiphers[v]
		check("ESP encryption", v.String(), ok)
	}
	for v := config.IntegrityNone; v <= config.IntegritySHA256Trunc96; v++ {
		_, ok := espIntegrities[v]
		check("ESP integrity", v.String(), ok)
	}
	for v := config.AuthMethod(1); !unknown(v.String()); v++ {
		got, ok := authMethods[v]
		check("authentication", v.String(), ok && strings.HasPrefix(authWords(got), v.String()))
	}
	for v := config.AggressiveMode(1); !unknown(v.String()); v++ {
		got, ok := aggressiveModes[v]
		check("aggressive mode", v.String(), ok && aggressiveWords[got] == v.String())
	}
	for v := config.AdminEnabled; !unknown(v.String()); v++ {
		_, ok := adminStates[v]
		check("administrative state", v.String(), ok)
	}
	for v := config.XAuth(1); !unknown(v.String()); v++ {
		_, ok := xauthTypes[v]
		check("XAuth", v.String(), ok)
	}
	for v := config.PPPAuth(1); !unknown(v.String()); v++ {
		_, ok := pppAuth[v]
		check("PPP authentication", v.String(), ok)
	}
	for _, g := range []config.Group{
		config.GroupMODP768, config.GroupMODP1024, config.GroupMODP1536, config.GroupMODP2048, config.GroupMODP3072, config.GroupMODP4096,
		config.GroupECP256, config.GroupECP384, config.GroupECP521, config.GroupCurve25519,
	} {
		check("group", g.String(), keymat.Group(g).Supported())
	}
	for v := config.AAAMethod(1); !unknown(v.String()); v++ {
		got, ok := aaaMethods[v]
		check("AAA method", v.String(), ok && string(got) == v.String())
	}
	if count < 47 {
		t.Errorf("only %d words looked at", count)
	}
}

// testRouter is a configuration with a value of its own in every field that is translated.
func testRouter() *config.Router {
	server := netip.MustParseAddr("192.0.2.1")
	return &config.Router{
		Name: "red", File: "vr/red.yaml", ServerAddresses: []netip.Addr{server}, NATT: true, InvalidCookie: true, Proposals: config.ProposalCompatible,
		Policy: []config.PolicyRule{{
			Priority: 7, Auth: config.AuthHybrid, AggressiveMode: config.AggressiveRequested, Encryption: []config.Encryption{config.EncryptionAES256, config.Encryption3DES}, Hash: []config.Hash{config.HashSHA384},
			Group: []config.Group{config.GroupECP384}, Lifetime: time.Hour, LocalAddress: server,
		}},
		Keys: []config.PreSharedKey{
			{Name: "peer", PeerAddress: netip.MustParseAddr("203.0.113.9"), Key: config.Secret("one")},
			{Name: "name", PeerIdentity: config.Identity{Kind: config.IdentityFQDN, Value: "pc.example.net"}, Key: config.Secret("two")},
			{Name: "mail", PeerIdentity: config.Identity{Kind: config.IdentityUserFQDN, Value: "me@example.net"}, Key: config.Secret("three")},
		},
		TransportProfiles: []config.TransportProfile{{
			Name: "t", RemoteAddress: netip.IPv4Unspecified(), Lifetime: 2 * time.Hour, LifetimeKilobytes: 200000, PFS: config.GroupMODP2048, Certificate: "vpn",
			Locals:         []config.TransportLocal{{Address: server, GroupKeys: []config.GroupKey{{Name: "g", Key: config.Secret("four"), From: time.Unix(1, 0), Until: time.Unix(2, 0)}}}},
			NATPassthrough: true,
			Transforms:     []config.ESPTransform{{Encryption: config.ESPAES256GCM, Integrity: config.IntegrityNone}, {Encryption: config.ESPAES128, Integrity: config.IntegritySHA256Trunc96}},
		}},
		L2TP: config.L2TP{
			DestructTimeout: 100 * time.Second, IdleTimeout: 0, RetransmitEstablished: 3, RetransmitNotEstablished: 4, HelloInterval: 30 * time.Second,
			ReceiveWindow: 5, Challenge: true, DisconnectCause: true, MaxSessions: 6, SetupTimeout: 20 * time.Second,
			ShortDrain: 3 * time.Second, Admin: config.AdminDrain, TolerateUnknownAVP: true, IgnoreSequencing: true,
			Switching: true, Lockout: 70 * time.Second, LockoutTest: true,
		},
		Destinations: []config.DestinationProfile{{
			Name: "d", LACAddress: netip.MustParseAddr("203.0.113.9"), MaxSessions: 8,
			Hosts: []config.HostProfile{
				{RemoteHost: "lac", LocalHost: "lns", LocalAddress: server, IPsecRequired: true, TunnelPassword: config.Secret("five"), MaxSessions: 2, ReceiveWindow: 9, IPProfile: "p", SingleShot: true, ProxyLCP: true, HideAVPs: true, TolerateUnknownAVP: true, ZeroTunnelID: true, ResourceError: true},
				{LocalHost: "red", IPsecRequired: false, IPProfile: "q", DisconnectCause: true, ProxyAuth: true},
			},
		}},
		PPP: config.PPP{Authentication: []config.PPPAuth{config.PPPCHAP, config.PPPPAP}, MRU: 1400, EchoInterval: 11 * time.Second, EchoFailures: 2, SetupTimeout: 40 * time.Second},
		IPProfiles: []config.IPProfile{
			{Name: "p", Router: "blue", Unnumbered: netip.MustParseAddr("10.0.0.1"), MTU: 1300, Pool: "main", DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, NBNS: []netip.Addr{netip.MustParseAddr("10.0.0.54")}, MSSClamp: true, MSS: 1200, SourceValidation: true, AccessRoutes: true, Traffic: config.Traffic{RateIn: 8000}, IdleTimeout: time.Hour, IdleIngress: true},
			{Name: "q", Router: "red", Unnumbered: netip.MustParseAddr("10.9.0.1")},
		},
	}
}

// noCertificates is the store of a router that has none.
func noCertificates(t *testing.T) *pki.Store {
	t.Helper()
	s, err := pki.Load(pki.Config{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBuild follows values of one configuration into the three engines' configurations.
func TestBuild(t *testing.T) {
	r := testRouter()
	c := &config.Config{Routers: []*config.Router{r}}
	c.Process.HalfOpen = config.HalfOpen{Total: 500, PerSource: 50}
	got, err := buildRouter(c, r, noCertificates(t))
	if err != nil {
		t.Fatal(err)
	}
	equal := func(what string, got, want any) {
		t.Helper()
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
			t.Errorf("%s: %s, want %s", what, g, w)
		}
	}
	server := netip.MustParseAddr("192.0.2.1")

	i := got.ike
	equal("NAT traversal", i.NATT, true)
	equal("invalid cookies (K11)", i.InvalidCookie, true)
	equal("half-open limits", i.HalfOpen, ike.HalfOpenLimits{Total: 500, PerSource: 50})
	equal("rules", i.Rules, []ike.PolicyRule{{
		Name: "rule 7", Priority: 7, Local: server, Encryption: []ike.Encryption{{Cipher: keymat.AES, KeyBits: 256}, {Cipher: keymat.DES3}},
		Hash: []keymat.Hash{keymat.SHA384}, Group: []keymat.Group{keymat.ECP384}, Auth: ike.AuthHybridRSA, Lifetime: time.Hour,
		Aggressive: ike.AggressiveRequested,
	}})
	var keys []string
	for _, k := range i.Keys {
		keys = append(keys, fmt.Sprintf("%s %s %v %v %q %t %d %d", k.Name, string(k.Key), k.Local, k.Peer, k.ID, k.Group, max(k.From.Unix(), 0), max(k.Until.Unix(), 0)))
	}
	equal("keys", keys, []string{
		`peer one invalid IP 203.0.113.9/32 "" false 0 0`, `name two invalid IP invalid Prefix "@pc.example.net" false 0 0`,
		`mail three invalid IP invalid Prefix "me@example.net" false 0 0`, `g four 192.0.2.1 invalid Prefix "" true 1 2`,
	})
	equal("old Androids", i.OldAndroidSHA256, true)
	if i.Transports[0].Revision == "" {
		t.Error("a transport profile without revision")
	}
	i.Transports[0].Revision = ""
	equal("transports", i.Transports, []ike.TransportProfile{{
		Name: "t", Local: server, Remote: netip.IPv4Unspecified(), PFS: keymat.MODP2048, Lifetime: 2 * time.Hour, LifeKB: 200000, Credential: "vpn", NATPassthrough: true,
		ESP: []ike.ESPProposal{{Cipher: ike.ESPAESGCM, KeyBits: 256}, {Cipher: ike.ESPAESCBC, KeyBits: 128, Auth: ike.ESPAuthSHA256}},
	}})

	l := got.l2tp
	equal("L2TP timers", []time.Duration{l.Hello, l.IdleTimeout, l.SetupTimeout, l.DestructTimeout}, []time.Duration{30 * time.Second, -1, 20 * time.Second, 100 * time.Second})
	equal("L2TP numbers", []int{l.RetransmitMax, l.RetransmitMaxOpening, l.MaxSessions, int(l.ReceiveWindow)}, []int{3, 4, 6, 5})
	equal("short drain", l.ShortDrain, 3*time.Second)
	equal("state", l.Admin, l2tp.AdminDrain)
	equal("flags", []bool{l.DisconnectCause, l.TolerateUnknownAVP, l.IgnoreSequencing}, []bool{true, true, true})
	if len(l.Profiles) != 1 || len(l.Profiles[0].Hosts) != 2 {
		t.Fatalf("profiles %+v", l.Profiles)
	}
	equal("destination", []any{l.Profiles[0].Name, l.Profiles[0].LAC, l.Profiles[0].MaxSessions}, []any{"d", "203.0.113.9", 8})
	for i := range l.Profiles[0].Hosts {
		h := &l.Profiles[0].Hosts[i]
		if h.Revision == "" || h.DisconnectCause == nil || *h.DisconnectCause != (i == 1) {
			t.Errorf("host profile %+v", h)
		}
		h.Revision, h.DisconnectCause = "", nil
	}
	equal("host", l.Profiles[0].Hosts[0], l2tp.HostProfile{
		Name: "lac", Host: "lac", RequireIPsec: true, Secret: keymat.Secret("five"), Challenge: true, LocalHost: "lns", Local: server, MaxSessions: 2, ReceiveWindow: 9,
		SingleShot: true, HideAVPs: true, TolerateUnknownAVP: true, ZeroTunnelID: true, ResourceError: true,
	})
	equal("tunnel password", string(l.Profiles[0].Hosts[0].Secret), "five")
	equal("default host", l.Profiles[0].Hosts[1], l2tp.HostProfile{Name: "default", Challenge: true, LocalHost: "red"})

	s := got.subs
	equal("switching", []any{s.Switching, s.Lockout, s.LockoutTest}, []any{true, 70 * time.Second, true})
	equal("host profiles", s.HostProfiles, map[string]subscriber.HostProfile{"d/lac": {IPProfile: "p", ProxyLCP: true}, "d/default": {IPProfile: "q", ProxyAuth: true}})
	r.Destinations[0].Hosts[0].IPsecRequired, r.Destinations[0].Hosts[0].TunnelPassword = false, config.Secret("x")
	equal("carriers", []bool{buildSubscribers(r).HostProfiles["d/lac"].Carrier, buildSubscribers(r).HostProfiles["d/default"].Carrier}, []bool{true, false})
	equal("terminating", []string{s.Profiles["p"].Terminating, s.Profiles["q"].Terminating}, []string{"blue", "red"})
	equal("profile", []any{s.Profiles["p"].MTU, s.Profiles["p"].Pool, s.Profiles["p"].Gateway, s.Profiles["p"].DNS[0], s.Profiles["p"].DNS[1].IsValid()}, []any{1300, "main", "10.0.0.1", "10.0.0.53", false})
	equal("link policy", s.Profiles["p"].Link, subscriber.LinkPolicy{MSSClamp: true, MSS: 1200, SourceValidation: true, AccessRoutes: true})
	equal("no link policy", s.Profiles["q"].Link, subscriber.LinkPolicy{})
	equal("traffic", []any{s.Profiles["p"].Traffic.In, s.Profiles["p"].IdleTimeout, s.Profiles["p"].IdleIngress}, []any{8000, time.Hour, true})
	equal("link", []any{s.Link.MRU, s.Link.EchoInterval, s.Link.EchoFailures, s.Link.AuthTimeout, s.Link.Auth, s.Link.Name}, []any{1400, 11 * time.Second, 2, 40 * time.Second, "[chap-md5 pap]", "red"})
	if s.FirstID == 0 || s.FirstID == buildSubscribers(r).FirstID {
		t.Error("session IDs start at the same number twice")
	}
}

// TestBuildTunnels follows the values of tunnel profiles into both engines that have a half of
// them (J14), with their keys (J19).
func TestBuildTunnels(t *testing.T) {
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	server := netip.MustParseAddr("192.0.2.1")
	r := testRouter()
	r.DPD = config.DPD{Enabled: true, Sent: time.Second, Unanswered: 2 * time.Second, Silent: 3 * time.Second}
	r.TunnelProfiles = []config.TunnelProfile{
		{
			Name: "road", LocalAddress: server, LocalIdentity: "@vpn.example.net", Certificate: "vpn", PeerIdentities: []string{"*@example.net"},
			Keys: []config.TunnelKey{{Name: "k", Identity: "group", Key: config.Secret("six")}}, XAuth: config.XAuthCHAP, Reauthenticate: true, Attempts: 5, Push: true,
			MaxSubscribers: 500, DomainSuffix: "@road", IPProfile: "p", Networks: nets, Phase2Local: nets, Phase2Peer: nets[:1:1], Lifetime: 2 * time.Hour,
			LifetimeKilobytes: 300000, PFS: config.GroupMODP2048, Transforms: []config.ESPTransform{{Encryption: config.ESPAES128, Integrity: config.IntegritySHA1}},
			MTU: 1300, AddressExpiry: time.Hour, Banner: "hello", DefaultDomain: "example.net", SplitDNS: []string{"example.org"}, SavePassword: true,
		},
		{Name: "boxes", XAuth: config.XAuthNone, IPProfile: "q", MTU: 1440},
	}
	got, err := buildRouter(&config.Config{Routers: []*config.Router{r}}, r, noCertificates(t))
	if err != nil {
		t.Fatal(err)
	}
	equal := func(what string, got, want any) {
		t.Helper()
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
			t.Errorf("%s: %s, want %s", what, g, w)
		}
	}
	equal("dead peer detection (K10)", got.ike.DPD, ike.DPDTimers{Sent: time.Second, Unanswered: 2 * time.Second, Silent: 3 * time.Second})
	_, esp, err := ike.ProposalProfile(r.Proposals.String())
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.ike.Tunnels {
		if got.ike.Tunnels[i].Revision == "" {
			t.Errorf("tunnel profile %q has no revision", got.ike.Tunnels[i].Name)
		}
		got.ike.Tunnels[i].Revision = ""
	}
	equal("profiles of IKE", got.ike.Tunnels, []ike.TunnelProfile{
		{
			Name: "road", Local: server, LocalID: "@vpn.example.net", Credential: "vpn", PeerIDs: []string{"*@example.net"}, XAuth: ike.XAuthRADIUSCHAP, Reauthenticate: true,
			Push: true, ESP: []ike.ESPProposal{{Cipher: ike.ESPAESCBC, KeyBits: 128, Auth: ike.ESPAuthSHA1}}, PFS: keymat.MODP2048, Lifetime: 2 * time.Hour, LifeKB: 300000,
			LocalNets: nets, PeerNets: nets,
		},
		{Name: "boxes", XAuth: ike.XAuthNone, ESP: esp},
	})
	k := got.ike.Keys[len(got.ike.Keys)-1]
	equal("key", []any{k.Name, string(k.Key), k.Local, k.ID, k.Group, k.Tunnel, k.LocalID}, []any{"road/k", "six", server, "group", false, "road", "@vpn.example.net"})
	equal("profiles of subscribers", got.subs.Tunnels, map[string]subscriber.TunnelProfile{
		"road": {
			Name: "road", IPProfile: "p", MaxSubscribers: 500, DomainSuffix: "@road", XAuth: true, Attempts: 5, Networks: nets, Banner: "hello", Domain: "example.net",
			SplitDNS: []string{"example.org"}, SavePassword: true, PFS: true, AddressExpiry: time.Hour, MTU: 1300,
			Revision: tunnelRevision(r.TunnelProfiles[0], r.IPProfile("p"), got.ike.Tunnels[0].ESP),
		},
		"boxes": {Name: "boxes", IPProfile: "q", MTU: 1440, Revision: tunnelRevision(r.TunnelProfiles[1], r.IPProfile("q"), esp)},
	})
	r.DPD.Enabled = false
	if got, err := buildRouter(&config.Config{Routers: []*config.Router{r}}, r, noCertificates(t)); err != nil || got.ike.DPD != (ike.DPDTimers{}) {
		t.Errorf("dead peer detection that is off: %+v, %v", got.ike.DPD, err)
	}
}

// TestBuildForgetsNothing: every field that the engines can be configured by has a value after a configuration in which every
// field has one, so that a new one is not forgotten.
func TestBuildForgetsNothing(t *testing.T) {
	r := testRouter()
	r.DPD = config.DPD{Enabled: true, Sent: time.Second, Unanswered: 2 * time.Second, Silent: 3 * time.Second}
	r.AAA.Accounting.InterimMinimum = time.Minute
	r.L2TP.IdleTimeout = time.Minute
	r.TunnelProfiles = []config.TunnelProfile{{
		Name: "road", LocalAddress: r.ServerAddresses[0], LocalIdentity: "@vpn.example.net", Keys: []config.TunnelKey{{Name: "k", Key: config.Secret("six")}}, IPProfile: "p",
	}}
	r.StaticTunnels = []config.StaticTunnel{fullStatic()}
	c := &config.Config{Routers: []*config.Router{r}}
	c.Process.HalfOpen = config.HalfOpen{Total: 500, PerSource: 50}
	got, err := buildRouter(c, r, noCertificates(t))
	if err != nil {
		t.Fatal(err)
	}
	l, i, s := got.l2tp, got.ike, got.subs
	for what, v := range map[string]struct {
		config any
		except string // what no setting is for, or what the engine works out
	}{
		"L2TP":        {l, "RetransmitBase RetransmitCap MaxTunnels MaxHalfOpen MaxHalfOpenPerPeer"},
		"destination": {l.Profiles[0], ""},
		"host":        {l.Profiles[0].Hosts[0], ""},
		"IKE":         {i, "ConnFirst ConnLast Credentials Authorities DPDInterval MaxFragment Retransmit RekeyMargin"},
		"transport":   {i.Transports[0], ""},
		"group key":   {i.Keys[3], "Peer ID Tunnel Static LocalID"},
		"subscribers": {s, "PathMTU"},
		"machine":     {got, ""},
		"static":      {i.Statics[0], "PeerIDIsAddress"},
		"static key":  {i.Keys[len(i.Keys)-1], "Peer ID Group Tunnel LocalID From Until"},
		"networks":    {i.Statics[0].Children[0], ""},
		"site":        {got.site, "MaxDials Resolve"},
		"site tunnel": {got.site.Tunnels[0], "DialTimeout"},
		"site check":  {got.site.Tunnels[0].Check, ""},
		"IP profile":  {s.Profiles["p"], ""},
		"link policy": {s.Profiles["p"].Link, ""},
	} {
		rv := reflect.ValueOf(v.config)
		for i := range rv.NumField() {
			f := rv.Type().Field(i)
			if f.IsExported() && rv.Field(i).IsZero() && !strings.Contains(" "+v.except+" ", " "+f.Name+" ") {
				t.Errorf("%s: %s has no value", what, f.Name)
			}
		}
	}
}

// TestProposalProfiles: without rules and transforms of its own a router has those of its profile.
func TestProposalProfiles(t *testing.T) {
	for _, p := range []config.ProposalProfile{config.ProposalModern, config.ProposalCompatible, config.ProposalLegacy} {
		r := testRouter()
		r.Proposals, r.Policy, r.TransportProfiles[0].Transforms = p, nil, nil
		got, err := buildRouter(&config.Config{Routers: []*config.Router{r}}, r, noCertificates(t))
		if err != nil {
			t.Fatal(err)
		}
		rules, esp, err := ike.ProposalProfile(p.String())
		if err != nil || len(rules) == 0 || len(esp) == 0 {
			t.Fatalf("profile %v: %v, %v, %v", p, rules, esp, err)
		}
		if fmt.Sprint(got.ike.Rules) != fmt.Sprint(rules) || fmt.Sprint(got.ike.Transports[0].ESP) != fmt.Sprint(esp) {
			t.Errorf("profile %v is not what the router got", p)
		}
	}
}
