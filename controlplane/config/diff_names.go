package config

import (
	"reflect"
	"strings"
	"sync"
	"unicode"
)

// How the types of [Config] are called in the files: a field's key is its name in lower case with dashes, unless the table
// has another one.

// keys are the keys that do not follow from the field's name. "-" is a field that says nothing by itself.
var keys = map[string]string{
	"Process.Journal": "accounting-journal",

	"Router.Name": "-",
	"Router.File": "-",
	"Router.Kind": "-", // follows from vrf
	"Router.NATT": "ipsec.nat-t",

	"Router.InvalidCookie":     "ipsec.tx-invalid-cookie",
	"Router.Proposals":         "ipsec.proposals",
	"Router.Policy":            "ipsec.ike-policy-rules",
	"Router.TransportProfiles": "ipsec.transport-profiles",
	"Router.Keys":              "ipsec.pre-shared-keys",
	"Router.Certificates":      "ipsec.certificates",
	"Router.TunnelProfiles":    "ipsec.tunnel-profiles",
	"Router.DPD":               "ipsec.dead-peer-detection",
	"Router.Destinations":      "l2tp.destination-profiles",

	"Link.Kind":       "-", // follows from what it has
	"Link.Far":        "-", // follows from whose file it is in
	"VLANLink.Inside": "-", // follows from the other links
	"VethLink.Router": "virtual-router",

	"StaticTunnel.File":            "-",
	"StaticTunnel.Terminating":     "transport-virtual-router", // the other router changes when the tunnel is given in another file
	"StaticTunnel.PeerIDIsAddress": "peer-id",
	"StaticTunnel.Key":             "pre-shared-key.key",
	"StaticTunnel.Aggressive":      "aggressive-mode",
	"StaticTunnel.DPD":             "dead-peer-detection",
	"StaticTunnel.XAuth":           "extended-authentication",
	"StaticTunnel.Backoff":         "back-off",
	"StaticTunnel.BackoffMax":      "back-off-max",
	"StaticTunnel.Idle":            "idle-timeout",
	"StaticTunnel.NoReturn":        "no-return-timeout",
	"StaticInterface.Withdraw":     "withdraw-routes",
	"StaticCheck.Port":             "tcp-port",

	"Router.L2TP":               "l2tp",
	"PolicyRule.Auth":           "authentication",
	"TransportProfile.Locals":   "local-addresses",
	"GroupKey.From":             "valid-from",
	"GroupKey.Until":            "valid-until",
	"TunnelProfile.XAuth":       "extended-authentication",
	"TunnelProfile.Push":        "push-configuration",
	"TunnelProfile.SplitDNS":    "split-dns",
	"OwnCertificate.PKCS12":     "pkcs12",
	"Revocation.URLs":           "urls",
	"Licences.IPsecTunnels":     "ipsec-tunnels",
	"HostProfile.IPsecRequired": "ipsec-required",

	"TunnelProfile.Phase2Local":      "phase2-local-identities",
	"TunnelProfile.Phase2Peer":       "phase2-peer-identities",
	"L2TP.RetransmitEstablished":     "retransmissions-established",
	"L2TP.RetransmitNotEstablished":  "retransmissions-not-established",
	"L2TP.Admin":                     "admin-state",
	"L2TP.TolerateUnknownAVP":        "tolerate-unknown-avps",
	"L2TP.Switching":                 "tunnel-switching",
	"L2TP.Lockout":                   "lns-lockout",
	"L2TP.LockoutTest":               "lns-lockout-test",
	"DestinationProfile.Hosts":       "host-profiles",
	"HostProfile.ProxyAuth":          "proxy-authentication",
	"HostProfile.HideAVPs":           "hide-avps",
	"HostProfile.TolerateUnknownAVP": "tolerate-unknown-avps",
	"HostProfile.ZeroTunnelID":       "tolerate-tunnel-id-zero",
	"HostProfile.ResourceError":      "resource-result-code-override",
	"IPProfile.Router":               "virtual-router",
	"IPProfile.Unnumbered":           "unnumbered-address",
	"IPProfile.OwnAddress":           "address",
	"IPProfile.IdleIngress":          "idle-ingress-only",
	"User.Router":                    "virtual-router",
	"User.IdleIngress":               "idle-ingress-only",
	"UserRoute.Prefix":               "network",

	"RADIUS.NASIdentifier":        "nas-identifier",
	"RADIUSServer.AuthPort":       "authentication-port",
	"RADIUSServer.AcctPort":       "accounting-port",
	"RADIUSServer.Source":         "source-address",
	"DynamicAuthorization.Window": "clock-window",
	"AAA.IdleIngress":             "idle-ingress-only",
	"Accounting.Interim":          "interim-interval",
	"Names.Order":                 "parse-order",
	"DomainMap.OverrideUser":      "override-user.name",
	"DomainMap.OverridePassword":  "override-user.password",
	"DomainMap.Router":            "virtual-router",
	"TerminateCode.At":            "-",
	"DomainMap.DNS":               "-", // all three follow from the IP profile
	"DomainMap.NBNS":              "-",
	"DomainMap.MTU":               "-",
	"DomainMap.IdleIngress":       "idle-ingress-only",
}

// things are lists of elements that have a name.
type things struct {
	what    string // before the name
	name    int    // field
	unnamed string // name of the one that has none
}

// listed are the types of such elements, with the field that has the name.
var listed = map[reflect.Type]struct{ what, name, unnamed string }{
	reflect.TypeFor[PolicyRule]():         {"ike policy rule", "Priority", ""},
	reflect.TypeFor[TransportProfile]():   {"transport profile", "Name", ""},
	reflect.TypeFor[TransportLocal]():     {"local address", "Address", ""},
	reflect.TypeFor[GroupKey]():           {"group key", "Name", ""},
	reflect.TypeFor[PreSharedKey]():       {"pre-shared key", "Name", ""},
	reflect.TypeFor[OwnCertificate]():     {"certificate", "Name", ""},
	reflect.TypeFor[TunnelProfile]():      {"tunnel profile", "Name", ""},
	reflect.TypeFor[TunnelKey]():          {"key", "Name", ""},
	reflect.TypeFor[DestinationProfile](): {"l2tp destination profile", "Name", ""},
	reflect.TypeFor[HostProfile]():        {"host profile", "RemoteHost", defaultRemoteHost},
	reflect.TypeFor[IPProfile]():          {"ip profile", "Name", ""},
	reflect.TypeFor[Pool]():               {"pool", "Name", ""},
	reflect.TypeFor[User]():               {"user", "Name", ""},
	reflect.TypeFor[TrafficPolicy]():      {"traffic policy", "Name", ""},
	reflect.TypeFor[RADIUSServer]():       {"radius server", "Name", ""},
	reflect.TypeFor[RADIUSGroup]():        {"radius group", "Name", ""},
	reflect.TypeFor[DynamicClient]():      {"radius dynamic authorization client", "Address", ""},
	reflect.TypeFor[DomainMap]():          {"domain map", "Domain", ""},
	reflect.TypeFor[Link]():               {"link", "Name", ""},
	reflect.TypeFor[StaticTunnel]():       {"static tunnel", "Name", ""},
	reflect.TypeFor[StaticNetwork]():      {"network", "Name", ""},
	reflect.TypeFor[TerminateCode]():      {"terminate code", "Reason", ""},
}

// configField is a field of a type of [Config].
type configField struct {
	index  int
	key    string
	things *things // of a list of named elements
	inner  bool    // a struct whose fields are settings, which an identity is not
}

var configShapes sync.Map // reflect.Type to []configField

// shapeOfConfig is what comparing needs to know of a type, worked out once.
func shapeOfConfig(t reflect.Type) []configField {
	if s, ok := configShapes.Load(t); ok {
		return s.([]configField)
	}
	var out []configField
	for i := range t.NumField() {
		f := t.Field(i)
		key, ok := keys[t.Name()+"."+f.Name]
		if !ok {
			key = dashed(f.Name)
		}
		if key == "-" || f.Name == listed[t].name {
			continue
		}
		c := configField{index: i, key: key, inner: f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == t.PkgPath() && f.Type != reflect.TypeFor[Identity]()}
		if f.Type.Kind() == reflect.Slice {
			if l, ok := listed[f.Type.Elem()]; ok {
				name, _ := f.Type.Elem().FieldByName(l.name)
				c.things = &things{l.what, name.Index[0], l.unnamed}
			}
		}
		out = append(out, c)
	}
	s, _ := configShapes.LoadOrStore(t, out)
	return s.([]configField)
}

// dashed writes a Go name as a key: NASAddressFromTunnel is nas-address-from-tunnel.
func dashed(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		// A word begins at a capital before a small letter, and at one after a small letter.
		if unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
