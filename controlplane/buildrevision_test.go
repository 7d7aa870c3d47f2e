package controlplane

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/config"
)

// anew are the settings that hold for new tunnels and sessions alone: a change drops nobody. Every other field of these types is
// in a revision. Names and lists of inner profiles say which profile it is, and so are compared by those who use it.
var anew = map[reflect.Type]string{
	reflect.TypeFor[config.DestinationProfile](): "Name Hosts MaxSessions",
	reflect.TypeFor[config.HostProfile]():        "RemoteHost IPProfile MaxSessions ReceiveWindow DisconnectCause ProxyLCP ProxyAuth HideAVPs TolerateUnknownAVP ZeroTunnelID ResourceError",
	reflect.TypeFor[config.IPProfile]():          "Name Pool DNS NBNS Traffic IdleTimeout IdleIngress",
	reflect.TypeFor[config.TransportProfile]():   "Name Locals",
	reflect.TypeFor[config.TransportLocal]():     "GroupKeys",
	reflect.TypeFor[config.TunnelProfile](): "Name PeerIdentities Keys Reauthenticate Attempts Push MaxSubscribers DomainSuffix IPProfile Networks" +
		" AddressExpiry Banner DefaultDomain SplitDNS SavePassword",
	reflect.TypeFor[config.StaticTunnel](): "Name File Enabled Peers Start Key Aggressive DPD User Password Backoff BackoffMax Stable FallBack Idle NoReturn",
	// What an interface of a tunnel has besides its name can be given to it anew.
	reflect.TypeFor[config.StaticInterface](): "MTU ClampMSS Addresses Routes Withdraw",
	reflect.TypeFor[config.StaticNetwork]():   "",
	reflect.TypeFor[config.StaticCheck]():     "Target Source Port Period Timeout Tolerance",
}

// revisions are those of the host, transport and tunnel profile and of the static tunnel of a configuration, as text.
func revisions(t *testing.T, r *config.Router) string {
	t.Helper()
	got, err := buildRouter(&config.Config{Routers: []*config.Router{r}}, r, noCertificates(t))
	if err != nil {
		t.Fatal(err)
	}
	return got.l2tp.Profiles[0].Hosts[0].Revision + " " + got.ike.Transports[0].Revision + " " + got.ike.Tunnels[0].Revision + " " + got.ike.Statics[0].Revision
}

func revisedRouter() *config.Router {
	r := testRouter()
	r.TunnelProfiles = []config.TunnelProfile{{Name: "road", IPProfile: "p", XAuth: config.XAuthGeneric, MTU: 1300}}
	r.StaticTunnels = []config.StaticTunnel{fullStatic()}
	return r
}

// TestRevisions changes each field of each kind of profile by itself (G4): the profile has another revision exactly if
// the field is not among those that hold for new tunnels and sessions alone. A new field is in one of the two.
func TestRevisions(t *testing.T) {
	same := revisions(t, revisedRouter())
	if again := revisions(t, revisedRouter()); again != same {
		t.Fatalf("the same configuration has revisions %s and %s", same, again)
	}
	for what, of := range map[string]func(*config.Router) any{
		"destination": func(r *config.Router) any { return &r.Destinations[0] },
		"host":        func(r *config.Router) any { return &r.Destinations[0].Hosts[0] },
		"IP profile":  func(r *config.Router) any { return &r.IPProfiles[0] },
		"transport":   func(r *config.Router) any { return &r.TransportProfiles[0] },
		"local":       func(r *config.Router) any { return &r.TransportProfiles[0].Locals[0] },
		"tunnel":      func(r *config.Router) any { return &r.TunnelProfiles[0] },
		"static":      func(r *config.Router) any { return &r.StaticTunnels[0] },
		"interface":   func(r *config.Router) any { return &r.StaticTunnels[0].Interface },
		"networks":    func(r *config.Router) any { return &r.StaticTunnels[0].Networks[0] },
		"check":       func(r *config.Router) any { return &r.StaticTunnels[0].Check },
	} {
		rt := reflect.TypeOf(of(revisedRouter())).Elem()
		for i := range rt.NumField() {
			name := rt.Field(i).Name
			holds := strings.Contains(" "+anew[rt]+" ", " "+name+" ")
			if name == "Hosts" || name == "Locals" || what == "static" && (name == "Interface" || name == "Networks" || name == "Check") || name == "IPProfile" || name == "Name" && what == "IP profile" {
				continue // another profile, whose fields are looked at by themselves
			}
			r := revisedRouter()
			change(t, reflect.ValueOf(of(r)).Elem().Field(i))
			if changed := revisions(t, r) != same; changed == holds {
				t.Errorf("%s: %s has changed, and the revision: %v", what, name, changed)
			}
		}
	}
}

// change gives a setting another value.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *netip.Addr:
		*x = netip.MustParseAddr("192.0.2.77")
	case *netip.Prefix:
		*x = netip.MustParsePrefix("10.77.0.0/16")
	case *[]config.StaticPeer:
		*x = []config.StaticPeer{{Name: "other.example.net"}}
	case *time.Duration:
		*x += time.Second
	case *config.Secret:
		*x = config.Secret("another secret")
	case *[]config.ESPTransform:
		*x = []config.ESPTransform{{Encryption: config.ESPAES192, Integrity: config.IntegritySHA1}}
	case *config.Group:
		*x = config.GroupECP521
	case *config.XAuth:
		*x = config.XAuthCHAP
	default:
		switch v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int:
			v.SetInt(v.Int() + 1)
		case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			v.SetUint(v.Uint() + 1)
		case reflect.Slice:
			v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
		case reflect.Struct:
			change(t, v.Field(0))
		default:
			t.Fatalf("no other value of %v", v.Type())
		}
	}
}

// TestRevisionOfLists: values cannot run into each other, and a revision shows no secret.
func TestRevisionOfLists(t *testing.T) {
	seen := map[string]int{}
	for i, list := range [][]any{
		{}, {""}, {"", ""}, {"a", "bc"}, {"ab", "c"}, {"abc"}, {config.Secret("abc"), ""}, {config.Secret("abd"), ""}, {config.Secret(nil), "abc"}, {true}, {false}, {1}, {10},
		{config.Secret("abcdefgh")},
	} {
		text := revision(list...)
		if first, dup := seen[text]; dup {
			t.Errorf("lists %d and %d have the same revision %s", first, i, text)
		}
		seen[text] = i
		if strings.Contains(text, "abcdefgh") || len(text) != 22 {
			t.Errorf("revision %q", text)
		}
	}
}
