package controlplane

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/site"
)

// fullStatic is a static tunnel with a value in every field that is translated.
func fullStatic() config.StaticTunnel {
	return config.StaticTunnel{
		Name: "hq", Terminating: "red", Enabled: false, Mode: config.StaticRoute, LocalAddress: netip.MustParseAddr("192.0.2.1"),
		Peers: []config.StaticPeer{{Address: netip.MustParseAddr("198.51.100.7")}, {Name: "backup.example.net"}}, Start: config.StartOnDemand,
		LocalID: "@gate.example.net", PeerID: "@hq.example.net", Key: config.Secret("seven"), Certificate: "vpn", Aggressive: true,
		Networks: []config.StaticNetwork{
			{Name: "lan", Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.2.0.0/16"), Protocol: 6, LocalPort: 80, RemotePort: 8080},
		},
		Transforms: []config.ESPTransform{{Encryption: config.ESPAES128, Integrity: config.IntegritySHA1}}, PFS: config.GroupMODP2048,
		Lifetime: time.Hour, LifetimeKilobytes: 200000, DPD: true, XAuth: config.StaticXAuthClient, User: "gate", Password: config.Secret("eight"),
		Interface: config.StaticInterface{Name: "hq0", MTU: 1400}, Backoff: 2 * time.Minute, BackoffMax: 30 * time.Minute, Stable: 3 * time.Minute,
		FallBack: 5 * time.Minute, Idle: 10 * time.Minute, NoReturn: 4 * time.Minute,
		Check: config.StaticCheck{
			Target: netip.MustParseAddr("10.2.0.1"), Source: netip.MustParseAddr("10.1.0.1"), Port: 443, Period: time.Minute, Timeout: 7 * time.Second, Tolerance: 4,
		},
	}
}

// TestBuildStatics follows the values of static tunnels into both engines that have a half of them.
func TestBuildStatics(t *testing.T) {
	server, full := netip.MustParseAddr("192.0.2.1"), fullStatic()
	r := testRouter()
	r.DPD = config.DPD{Sent: time.Second, Unanswered: 2 * time.Second, Silent: 3 * time.Second}
	gre := config.StaticTunnel{
		Name: "gre", Terminating: "red", Enabled: true, Mode: config.StaticTransport, LocalAddress: server, Start: config.StartRespond, PeerIDIsAddress: true,
		Networks: []config.StaticNetwork{{Name: "1", Local: netip.MustParsePrefix("0.0.0.0/0"), Remote: netip.MustParsePrefix("0.0.0.0/0"), Protocol: 47}},
		XAuth:    config.StaticXAuthServer, Lifetime: time.Hour,
	}
	named := config.StaticTunnel{
		Name: "named", Terminating: "blue", Enabled: true, Mode: config.StaticPolicy, LocalAddress: server, Start: config.StartNailedUp,
		Peers: []config.StaticPeer{{Name: "a.example.net"}}, XAuth: config.StaticXAuthNone,
	}
	r.StaticTunnels = []config.StaticTunnel{full, gre, named}
	c := &config.Config{Routers: []*config.Router{r}}
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
	for i := range got.ike.Statics {
		if rev := got.ike.Statics[i].Revision; rev == "" || got.site.Tunnels[i].Revision != rev {
			t.Errorf("revisions %q and %q", rev, got.site.Tunnels[i].Revision)
		}
		got.ike.Statics[i].Revision, got.site.Tunnels[i].Revision = "", ""
	}
	_, esp, err := ike.ProposalProfile(r.Proposals.String())
	if err != nil {
		t.Fatal(err)
	}
	equal("of IKE", got.ike.Statics, []ike.StaticTunnel{
		{
			Name: "hq", Local: server, Peers: []netip.Addr{netip.MustParseAddr("198.51.100.7")}, PeerID: "@hq.example.net", LocalID: "@gate.example.net",
			Method: ike.AuthRSA, Credential: "vpn", Aggressive: true, ESP: []ike.ESPProposal{{Cipher: ike.ESPAESCBC, KeyBits: 128, Auth: ike.ESPAuthSHA1}},
			PFS: keymat.MODP2048, Lifetime: time.Hour, LifeKB: 200000, DPD: true, XAuth: ike.StaticXAuthClient, User: "gate",
			Children: []ike.StaticChild{{
				Name: "lan", LocalNet: full.Networks[0].Local, RemoteNet: full.Networks[0].Remote, Protocol: 6, LocalPort: 80, RemotePort: 8080, Tunnel: true,
			}},
			Password: keymat.Secret("eight"),
		},
		{
			Name: "gre", Local: server, PeerIDIsAddress: true, Method: ike.AuthPSK, ESP: esp, Lifetime: time.Hour, XAuth: ike.StaticXAuthServer,
			Children: []ike.StaticChild{{Name: "1", Protocol: 47}},
		},
		{Name: "named", Local: server, Peers: []netip.Addr{netip.IPv4Unspecified()}, Method: ike.AuthPSK, ESP: esp},
	})
	equal("password", string(got.ike.Statics[0].Password), "eight")
	k := got.ike.Keys[len(got.ike.Keys)-1]
	equal("key", []any{k.Name, string(k.Key), k.Local, k.Static, k.ID, k.Group, k.Tunnel, k.LocalID}, []any{"static tunnel hq", "seven", server, "hq", "", false, "", ""})
	equal("dead peer detection that subscribers do not have", []any{got.ike.DPD, got.ike.StaticDPD},
		[]any{ike.DPDTimers{}, ike.DPDTimers{Sent: time.Second, Unanswered: 2 * time.Second, Silent: 3 * time.Second}})
	equal("of the site engine", got.site.Tunnels, []site.Tunnel{
		{
			Name: "hq", Peers: []site.Peer{{Addr: netip.MustParseAddr("198.51.100.7")}, {Name: "backup.example.net"}}, Start: site.OnDemand, Disabled: true,
			Backoff: 2 * time.Minute, BackoffMax: 30 * time.Minute, Stable: 3 * time.Minute, FallBack: 5 * time.Minute, Idle: 10 * time.Minute, NoReturn: 4 * time.Minute,
			Check: site.Check{
				Target: netip.MustParseAddr("10.2.0.1"), Source: netip.MustParseAddr("10.1.0.1"), Port: 443, Period: time.Minute, Timeout: 7 * time.Second, Tolerance: 4,
			},
		},
		{Name: "gre"},
		{Name: "named", Start: site.NailedUp, Peers: []site.Peer{{Name: "a.example.net"}}},
	})
	equal("terminating", got.terminating, map[string]string{"hq": "red", "gre": "red", "named": "blue"})
}

// TestStaticWords: a value of the configuration that a table here lacks would turn into another.
func TestStaticWords(t *testing.T) {
	for x := config.StaticXAuthNone; x.String() != ""; x++ {
		if got, ok := staticXAuths[x]; !ok || got.String() != x.String() {
			t.Errorf("extended authentication %v is %v", x, got)
		}
	}
	for s := config.StartNailedUp; s.String() != "none"; s++ {
		if got, ok := staticStarts[s]; !ok || got.String() != s.String() {
			t.Errorf("start %v is %v", s, got)
		}
	}
}

// TestTerminatingPlace: a tunnel's revision changes when its terminating virtual router has to be made anew, and not when
// anything else of that changes.
func TestTerminatingPlace(t *testing.T) {
	front := testRouter()
	tunnel := fullStatic()
	tunnel.Terminating = "tenant"
	front.StaticTunnels = []config.StaticTunnel{tunnel}
	tenant := func() *config.Router {
		return &config.Router{Name: "tenant", Namespace: config.Namespace{Name: "t"}, ServerAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("192.0.2.9")}}
	}
	of := func(change func(*config.Router)) (revision string, anew bool) {
		end := tenant()
		change(end)
		got, err := buildRouter(&config.Config{Routers: []*config.Router{front, end}}, front, noCertificates(t))
		if err != nil {
			t.Fatal(err)
		}
		return got.ike.Statics[0].Revision, reopens(tenant(), end)
	}
	same, _ := of(func(*config.Router) {})
	for name, change := range map[string]func(*config.Router){
		"namespace": func(r *config.Router) { r.Namespace.Name = "u" },
		"VRF":       func(r *config.Router) { r.VRF.Device = "vrf1" },
		"kind":      func(r *config.Router) { r.Kind++ },
		"addresses": func(r *config.Router) { r.ServerAddresses = r.ServerAddresses[:1] },
		"order": func(r *config.Router) {
			r.ServerAddresses[0], r.ServerAddresses[1] = r.ServerAddresses[1], r.ServerAddresses[0]
		},
		"users": func(r *config.Router) { r.Users = append(r.Users, config.User{Name: "x"}) },
	} {
		if revision, anew := of(change); (revision != same) != anew {
			t.Errorf("%s: made anew %v, but the tunnel's revision is another: %v", name, anew, revision != same)
		}
	}
}

// TestStaticSecrets: nothing that is built of a tunnel prints its secrets.
func TestStaticSecrets(t *testing.T) {
	r := testRouter()
	r.StaticTunnels = []config.StaticTunnel{fullStatic()}
	got, err := buildRouter(&config.Config{Routers: []*config.Router{r}}, r, noCertificates(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if text := fmt.Sprintf(verb, got.ike.Statics) + fmt.Sprintf(verb, got.ike.Keys) + fmt.Sprintf(verb, got.site); strings.Contains(text, "seven") || strings.Contains(text, "eight") {
			t.Errorf("%s shows a secret: %s", verb, text)
		}
	}
}
