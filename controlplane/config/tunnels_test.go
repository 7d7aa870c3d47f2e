package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tunnels is a router that serves dynamic subscribers, for tests to add to.
const tunnels = `server-addresses: [192.0.2.1, 192.0.2.2]
ipsec:
  certificates:
    authorities: [ca.pem]
    own:
      - {name: gateway, certificate: gw.pem, key: gw-key.pem}
  tunnel-profiles:
    - name: sales
      local-address: 192.0.2.1
      certificate: gateway
      keys:
        - {name: all, key: 0123456789abcdef}
ip-profiles:
  - {name: default, unnumbered-address: 10.0.0.1}
pools:
  - {name: main, ranges: [10.0.0.0/24]}
users:
  - {name: alice, password: secret of alice}
`

// change returns tunnels with a piece replaced; the piece must be there once.
func change(t *testing.T, old, replacement string) string {
	t.Helper()
	if strings.Count(tunnels, old) != 1 {
		t.Fatalf("%q is not once in the router", old)
	}
	return strings.Replace(tunnels, old, replacement, 1)
}

// TestTunnelErrors has every mistake in what concerns dynamic subscribers and certificates.
func TestTunnelErrors(t *testing.T) {
	const key = "        - {name: all, key: 0123456789abcdef}\n"
	// group gives an address group keys for L2TP.
	group := func(addr string) string {
		return "ipsec:\n  transport-profiles:\n    - {name: l2tp, local-addresses: [{address: " + addr + ", group-keys: [{name: g, key: 0123456789abcdef}]}]}\n"
	}
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"good": {tunnels, nil},
		"values": {change(t, "      certificate: gateway\n", `      certificate: gatway
      local-identity: "*@example.net"
      peer-identities: [0.0.0.0, "a b@x.y", "@-x", "dn:", "dn:CN=a,,O=b", "x@y@z", "@ok.example", "@ok.example", "", "dn:XY=a", "keyid:", "dn:CN"]
      extended-authentication: pap
      reauthenticate: no
      attempts: 11
      push-configuration: 1
      max-subscribers: -1
      domain-suffix: ""
      ip-profile: defualt
      networks: [10.0.0.1/8, here, "::/0", 10.0.0.0/8, 10.0.0.0/8, 300.0.0.0/8]
      lifetime: 1799
      lifetime-kilobytes: 1
      pfs: modp1
      transforms: [aes256-sha256, aes256-sha256_96]
      mtu: 159
      address-expiry: 59
      banner: "a\nb"
      default-domain: ex_ample..net
      split-dns: [a.example, A.example]
      save-password: x
`), []string{
			`vr/a.yaml:10:20: "certificate" is "gatway" but there is no such certificate in "own"; did you mean "gateway"?`,
			`vr/a.yaml:11:23: "local-identity" is "*@example.net" but must be one identity, without *`,
			`vr/a.yaml:12:25: entry 1 of "peer-identities" is "0.0.0.0" but must be the IPv4 address of a host where it is an address`,
			`vr/a.yaml:12:34: entry 2 of "peer-identities" is "a b@x.y" but must be @domain or user@domain where it has an @`,
			`vr/a.yaml:12:45: entry 3 of "peer-identities" is "@-x" but must be @domain or user@domain where it has an @`,
			`vr/a.yaml:12:52: entry 4 of "peer-identities" is "dn:" but must be a distinguished name where it starts with dn:, such as dn:CN=alice,O=Example`,
			`vr/a.yaml:12:59: entry 5 of "peer-identities" is "dn:CN=a,,O=b" but must be a distinguished name where it starts with dn:, such as dn:CN=alice,O=Example`,
			`vr/a.yaml:12:75: entry 6 of "peer-identities" is "x@y@z" but must be @domain or user@domain where it has an @`,
			`vr/a.yaml:12:99: @ok.example is twice in "peer-identities"`,
			`vr/a.yaml:12:114: entry 9 of "peer-identities" is "" but must not be empty`,
			`vr/a.yaml:12:118: entry 10 of "peer-identities" is "dn:XY=a" but names "XY", which is no attribute of a distinguished name such as CN, OU, O, C or E`,
			`vr/a.yaml:12:129: entry 11 of "peer-identities" is "keyid:" but must have a text behind the colon`,
			`vr/a.yaml:12:139: entry 12 of "peer-identities" is "dn:CN" but must be a distinguished name where it starts with dn:, such as dn:CN=alice,O=Example`,
			`vr/a.yaml:13:32: "extended-authentication" is "pap" but must be generic, chap or none`,
			`vr/a.yaml:14:23: "reauthenticate" is "no" but must be true or false`,
			`vr/a.yaml:15:17: "attempts" is "11" but must be 1 to 10`,
			`vr/a.yaml:16:27: "push-configuration" is "1" but must be true or false`,
			`vr/a.yaml:17:24: "max-subscribers" is "-1" but must be 1 to 1000000 or 0 (no limit)`,
			`vr/a.yaml:18:22: "domain-suffix" is "" but must not be empty`,
			`vr/a.yaml:19:19: "ip-profile" is "defualt" but there is no such IP profile; did you mean "default"?`,
			`vr/a.yaml:20:18: entry 1 of "networks" is "10.0.0.1/8" but must be a network without host bits: 10.0.0.0/8`,
			`vr/a.yaml:20:30: entry 2 of "networks" is "here" but must be an IPv4 network such as 10.0.0.0/8, or an address`,
			`vr/a.yaml:20:36: entry 3 of "networks" is "::/0" but must be an IPv4 network such as 10.0.0.0/8, or an address`,
			`vr/a.yaml:20:56: 10.0.0.0/8 is twice in "networks"`,
			`vr/a.yaml:20:68: entry 6 of "networks" is "300.0.0.0/8" but must be an IPv4 network such as 10.0.0.0/8, or an address`,
			`vr/a.yaml:21:17: "lifetime" is "1799" but must be 1800s to 864000s`,
			`vr/a.yaml:22:27: "lifetime-kilobytes" is "1" but must be 102400 to 4294967295`,
			`vr/a.yaml:23:12: "pfs" is "modp1" but must be none, modp768, modp1024, modp1536, modp2048, modp3072, modp4096, ecp256, ecp384, ecp521 or curve25519`,
			`vr/a.yaml:24:35: sha256_96 and sha256 exclude each other in one profile: peers offer both by the same number`,
			`vr/a.yaml:25:12: "mtu" is "159" but must be 160 to 9000`,
			`vr/a.yaml:26:23: "address-expiry" is "59" but must be 60s to 31622400s or 0 (nothing is said)`,
			`vr/a.yaml:27:15: "banner" is "a\nb" but must not contain control characters`,
			`vr/a.yaml:28:23: "default-domain" is "ex_ample..net" but must be a domain name`,
			`vr/a.yaml:29:30: a.example is twice in "split-dns"`,
			`vr/a.yaml:30:22: "save-password" is "x" but must be true or false`,
		}},
		"seven transforms (1.9)": {change(t, "      keys:\n", "      transforms: ["+strings.Repeat("aes256-sha1,", 7)+"]\n      keys:\n"), []string{
			`vr/a.yaml:11:19: "transforms" has 7 entries but may have 1 to 6`,
		}},
		"65 networks": {change(t, "      keys:\n", "      networks: ["+strings.Repeat("10.0.0.0/8,", 65)+"]\n      keys:\n"), []string{
			`vr/a.yaml:11:17: "networks" has 65 entries but may have 0 to 64`,
		}},
		"names and addresses": {change(t, key, key+`        - {name: all, identity: x, key: y, key-file: key}
        - {name: z}
    - {name: sales, local-address: 192.0.2.3, keys: [{name: all, key: 0123456789abcdef}]}
    - {}
`), []string{
			`vr/a.yaml:13:18: key "all" is there twice; the first is in line 12`,
			`vr/a.yaml:13:54: "key-file" and "key" exclude each other`,
			`vr/a.yaml:14:11: key "key" or "key-file" is missing`,
			`vr/a.yaml:15:14: tunnel profile "sales" is there twice; the first is in line 8`,
			`vr/a.yaml:15:36: "local-address" is 192.0.2.3 but must be one of "server-addresses"`,
			`vr/a.yaml:16:7: key "name" is missing`,
			`vr/a.yaml:16:7: nobody can authenticate: the tunnel profile has neither "keys" nor "certificate", and the virtual router no "pre-shared-keys"`,
		}},
		"two VPNs on one address (J18)": {change(t, key, key+"    - {name: dev, local-address: 192.0.2.1, keys: [{name: all, key: 0123456789abcdef}]}\n"), []string{
			`vr/a.yaml:13:7: the tunnel profile cannot be told from "sales" (line 8) on 192.0.2.1: both have a key without identity and no "peer-identities", and in main mode the key must be chosen before an identity is seen; give each an address of its own`,
		}},
		"two VPNs, one on any address (J18)": {change(t, key, key+"    - {name: dev, keys: [{name: all, key: 0123456789abcdef}]}\n"), []string{
			`vr/a.yaml:13:7: the tunnel profile cannot be told from "sales" (line 8) on 192.0.2.1: both have a key without identity and no "peer-identities", and in main mode the key must be chosen before an identity is seen; give each an address of its own`,
		}},
		"an address each (J18)":      {change(t, key, key+"    - {name: dev, local-address: 192.0.2.2, keys: [{name: all, key: 0123456789abcdef}]}\n"), nil},
		"aggressive mode (J18)":      {change(t, key, key+"    - {name: dev, keys: [{name: dev, identity: dev, key: 0123456789abcdef}]}\n"), nil},
		"certificates (J18)":         {change(t, key, key+"    - {name: dev, certificate: gateway}\n"), nil},
		"by identity of peers (J18)": {change(t, key, key+"    - {name: dev, peer-identities: [\"*@dev.example\"], keys: [{name: all, key: 0123456789abcdef}]}\n"), nil},
		"one identity, two profiles": {change(t, key, key+"        - {name: x, identity: \"@A.example\", key: 0123456789abcdef}\n    - {name: dev, keys: [{name: dev, identity: \"@a.example\", key: 0123456789abcdef}]}\n"), []string{
			`vr/a.yaml:14:48: the identity "@a.example" has a key on 192.0.2.1 already, in line 13`,
		}},
		"group key for L2TP there (J19)": {strings.Replace(tunnels, "ipsec:\n", group("192.0.2.1"), 1), []string{
			`vr/a.yaml:14:11: the key has no identity, and 192.0.2.1 has a group key for L2TP clients too (vr/a.yaml:4:72): in main mode nobody could say which of the two a peer means; give the tunnel profile an address of its own, or the key an identity`,
		}},
		"group key elsewhere (J19)": {strings.Replace(tunnels, "ipsec:\n", group("192.0.2.2"), 1), nil},
		"group key there, profile on any address (J19)": {strings.Replace(change(t, "      local-address: 192.0.2.1\n", ""), "ipsec:\n", group("192.0.2.2"), 1), []string{
			`vr/a.yaml:13:11: the key has no identity, and 192.0.2.2 has a group key for L2TP clients too (vr/a.yaml:4:72): in main mode nobody could say which of the two a peer means; give the tunnel profile an address of its own, or the key an identity`,
		}},
		"group key there, key with identity (J19)": {strings.Replace(change(t, "{name: all, key", "{name: all, identity: sales, key"), "ipsec:\n", group("192.0.2.1"), 1), nil},
		"nine keys for anybody": {change(t, key, strings.Repeat("        - {name: x, key: 0123456789abcdef}\n", 1)+func() string {
			var s strings.Builder
			for i := range MaxGroupKeys {
				fmt.Fprintf(&s, "        - {name: k%d, key: 0123456789abcdef}\n", i)
			}
			return s.String()
		}()), []string{
			`vr/a.yaml:20:11: there are more than 8 keys without identity on 192.0.2.1: in main mode each of them has to be tried`,
		}},
		"nobody can authenticate": {change(t, "      certificate: gateway\n      keys:\n"+key, ""), []string{
			`vr/a.yaml:8:7: nobody can authenticate: the tunnel profile has neither "keys" nor "certificate", and the virtual router no "pre-shared-keys"`,
		}},
		"keys of single peers": {change(t, "      certificate: gateway\n      keys:\n"+key, "  pre-shared-keys: [{name: k, peer-identity: a.example, key: 0123456789abcdef}]\n"), nil},
		"certificates that nobody answers for": {strings.Replace(change(t, "    authorities: [ca.pem]\n", ""), "      keys:\n"+key, "      extended-authentication: none\n", 1), []string{
			`vr/a.yaml:9:20: peers authenticate by certificate alone but there are no "authorities" that could answer for those of peers`,
		}},
		"hybrid needs no authority": {strings.Replace(change(t, "    authorities: [ca.pem]\n", ""), "      keys:\n"+key, "", 1), nil},
		"no ip profile": {change(t, "ip-profiles:\n  - {name: default, unnumbered-address: 10.0.0.1}\n", ""), []string{
			`vr/a.yaml:8:7: the tunnel profile needs an IP profile, but the virtual router has none`,
		}},
		"which ip profile": {change(t, "ip-profiles:\n", "ip-profiles:\n  - {name: other, unnumbered-address: 10.0.0.1}\n"), []string{
			`vr/a.yaml:8:7: key "ip-profile" is missing; the virtual router has 2 IP profiles to choose from`,
		}},
		"listens nowhere": {change(t, "server-addresses: [192.0.2.1, 192.0.2.2]\n", ""), []string{
			`vr/a.yaml:2:3: there are tunnel profiles but no "server-addresses" on which clients could arrive`,
			`vr/a.yaml:8:22: "local-address" is 192.0.2.1 but must be one of "server-addresses"`,
		}},
		"certificates": {change(t, "    authorities: [ca.pem]\n    own:\n", `    authorities: [ca.pem, nowhere, fifo, ca.pem]
    expiry-warning: 367d
    revocation:
      files: [private]
      urls: [x, "https://a.example/x", "http:///x", "http://u:p@a.example/x", "http://a.example/x", "http://a.example/x", "ldap://a.example"]
      refresh: 59
      strict: yes
    own:
      - {name: gateway, pkcs12: world, key: k.pem, password: a, password-file: key}
      - {name: b, certificate: nowhere, password: x}
      - {key: k.pem, password-file: key}
      - {name: c}
`), []string{
			`vr/a.yaml:4:27: an entry of "authorities" is "nowhere" but the file cannot be read: file does not exist`,
			`vr/a.yaml:4:36: an entry of "authorities" is "fifo" but the file cannot be read: it is not a regular file`,
			`vr/a.yaml:4:42: "ca.pem" is twice in "authorities"`,
			`vr/a.yaml:5:21: "expiry-warning" is "367d" but must be a time such as 90, 90s, 10m or 24h, 0s to 31622400s`,
			`vr/a.yaml:7:15: an entry of "files" is "private" but the file cannot be read: permission denied`,
			`vr/a.yaml:8:14: entry 1 of "urls" is "x" but must be a URL such as http://pki.example.net/ca.crl`,
			`vr/a.yaml:8:17: entry 2 of "urls" is "https://a.example/x" but must start with http://; a revocation list is signed and needs no TLS`,
			`vr/a.yaml:8:40: entry 3 of "urls" is "http:///x" but must be a URL such as http://pki.example.net/ca.crl`,
			`vr/a.yaml:8:53: entry 4 of "urls" is "http://u:p@a.example/x" but must be a URL such as http://pki.example.net/ca.crl`,
			`vr/a.yaml:8:101: "http://a.example/x" is twice in "urls"`,
			`vr/a.yaml:8:123: entry 7 of "urls" is "ldap://a.example" but must start with http://; a revocation list is signed and needs no TLS`,
			`vr/a.yaml:9:16: "refresh" is "59" but must be 60s to 604800s`,
			`vr/a.yaml:10:15: "strict" is "yes" but must be true or false`,
			`vr/a.yaml:12:45: "key" and "pkcs12" exclude each other`,
			`vr/a.yaml:12:80: "password-file" and "password" exclude each other`,
			`vr/a.yaml:13:9: keys "certificate" and "key", or key "pkcs12", are missing`,
			`vr/a.yaml:13:32: "certificate" is "nowhere" but the file cannot be read: file does not exist`,
			`vr/a.yaml:13:51: "password" goes with "pkcs12"; a private key in PEM must not be encrypted`,
			`vr/a.yaml:14:9: key "name" is missing`,
			`vr/a.yaml:14:9: keys "certificate" and "key", or key "pkcs12", are missing`,
			`vr/a.yaml:14:37: "password-file" goes with "pkcs12"; a private key in PEM must not be encrypted`,
			`vr/a.yaml:15:9: keys "certificate" and "key", or key "pkcs12", are missing`,
			`vr/a.yaml:16:16: certificate "gateway" is there twice; the first is in line 12`,
		}},
		"strict without lists": {change(t, "    own:\n", "    revocation: {strict: true}\n    own:\n"), []string{
			`vr/a.yaml:5:26: "strict" refuses every peer without a revocation list: give "files" or "urls"`,
		}},
		"methods without certificates": {with(t, "ipsec:\n", `ipsec:
  ike-policy-rules:
    - {priority: 1, authentication: rsa, encryption: [aes256], hash: [sha256], group: [modp2048]}
    - {priority: 2, authentication: hybrid, encryption: [aes256], hash: [sha256], group: [modp2048]}
    - {priority: 3, authentication: any, encryption: [aes256], hash: [sha256], group: [modp2048]}
`), []string{
			`vr/a.yaml:4:37: "authentication" is rsa but the virtual router has no certificate of its own`,
			`vr/a.yaml:4:37: "authentication" is rsa but there are no "authorities" that could answer for those of peers`,
			`vr/a.yaml:5:37: "authentication" is hybrid but the virtual router has no certificate of its own`,
		}},
		"L2TP with certificates": {with(t, "          group-keys:\n            - name: main\n              key: 0123456789abcdef\n", `      certificate: gateway
  certificates: {own: [{name: gateway, pkcs12: key, password: x}]}
`), []string{
			`vr/a.yaml:7:20: the transport profile has a certificate but there are no "authorities" that could answer for those of peers`,
		}},
		"times and licences": {change(t, "password: secret of alice}\n", "password: secret of alice, session-timeout: 59, idle-timeout: 299}\nlicences: {subscribers: -1, ipsec-tunnels: 1000001}\n"), []string{
			`vr/a.yaml:18:63: "session-timeout" is "59" but must be 60s to 31622400s or 0 (that of the domain or the aaa section)`,
			`vr/a.yaml:18:81: "idle-timeout" is "299" but must be 300s to 86400s or 0 (that of the domain or the aaa section)`,
			`vr/a.yaml:19:25: "subscribers" is "-1" but must be 1 to 1000000 or 0 (no limit)`,
			`vr/a.yaml:19:44: "ipsec-tunnels" is "1000001" but must be 1 to 1000000 or 0 (no limit)`,
		}},
		"dead peer detection (K10)": {change(t, "  tunnel-profiles:\n", "  dead-peer-detection: {enabled: 1, sent: 4, unanswered: 3601, silent: 2d}\n  tunnel-profiles:\n"), []string{
			`vr/a.yaml:7:34: "enabled" is "1" but must be true or false`,
			`vr/a.yaml:7:43: "sent" is "4" but must be 5s to 3600s`,
			`vr/a.yaml:7:58: "unanswered" is "3601" but must be 5s to 3600s`,
			`vr/a.yaml:7:72: "silent" is "2d" but must be a time such as 90, 90s, 10m or 24h, 5s to 86400s`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, errs := parseFiles(map[string]string{"a": test.in})
			got := lines(errs)
			slices.Sort(got)
			slices.Sort(test.want)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if (c == nil) != (len(errs) > 0) {
				t.Error("there must be a Config iff there are no errors")
			}
			if c != nil {
				checkInvariants(t, c)
			}
		})
	}
}

// TestIdentityKinds has the texts that identities are written as, and what they stand for.
func TestIdentityKinds(t *testing.T) {
	for word, want := range map[string]idKind{
		"192.0.2.1": addressID, "@vpn.example.net": fqdnID, "user@example.net": userFQDNID, "sales": keyID, "the sales group": keyID,
		"keyid:sales@example": keyID, "keyid:@": keyID, "dn:CN=alice": dnID, `dn: cn = a\, b\+ , 2.5.4.11=x+O=y;C=DE`: dnID,
		"*": keyID, "dn:*": dnID, "dn:CN=*,O=Example": dnID, "*@example.net": userFQDNID, "@*.example.net": fqdnID, "192.0.2.*": keyID,
	} {
		var p peerID
		if err := p.parse(word, `wildcard:"true"`); err != nil || p.kind != want || p.v != word {
			t.Errorf("%s is %d, %v; want %d", word, p.kind, err, want)
		}
		if err := p.parse(word, ""); (err != nil) != strings.Contains(word, "*") {
			t.Errorf("%s without wildcards: %v", word, err)
		}
	}
}

// TestTerminatingElsewhere: dynamic subscribers may terminate in another namespace (J1),
// L2TP's may not, whichever way the IP profile is used.
func TestTerminatingElsewhere(t *testing.T) {
	inside := "namespace: {name: n}\npools: [{name: main, ranges: [10.0.0.0/24]}]\n"
	elsewhere := change(t, "unnumbered-address: 10.0.0.1}", "unnumbered-address: 10.0.0.1, virtual-router: b}")
	l2tp := "l2tp: {destination-profiles: [{name: a, host-profiles: [{ipsec-required: false}]}]}\n"
	user := strings.Replace(elsewhere, "secret of alice}", "secret of alice, virtual-router: b}", 1)
	const refused = `the virtual router "b" is in another namespace; L2TP subscribers can terminate in another virtual router of the same namespace only`
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"tunnels":                 {elsewhere, nil},
		"tunnels and L2TP":        {elsewhere + l2tp, []string{`vr/a.yaml:14:67: ` + refused}},
		"user":                    {user, nil},
		"user that may come L2TP": {user + l2tp, []string{`vr/a.yaml:14:67: ` + refused, `vr/a.yaml:18:62: ` + refused}},
	} {
		c, _, errs := parseFiles(map[string]string{"a": test.in, "b": inside})
		if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if c != nil {
			checkInvariants(t, c)
			if p := c.Router("a").IPProfile("default"); p.Router != "b" || p.Pool != "main" {
				t.Errorf("%s: %+v", name, p)
			}
		}
	}
}

// TestTunnelWarnings has what is legal but unwise.
func TestTunnelWarnings(t *testing.T) {
	in := strings.Replace(change(t, "{name: all, key: 0123456789abcdef}", "{name: all, identity: sales, key: short}\n      extended-authentication: none"),
		"certificate: gw.pem, key: gw-key.pem}", "pkcs12: world, password: x}", 1)
	rule := func(auth, mode string) string {
		return strings.Replace(in, "ipsec:\n", "ipsec:\n  ike-policy-rules: [{priority: 1, authentication: "+auth+", aggressive-mode: "+mode+", encryption: [aes256], hash: [sha256], group: [modp2048]}]\n", 1)
	}
	always := []string{
		`every local user can read the private key in "world" (mode 0644)`,
		`whoever knows the group key "all" can pose as this server to its clients and learns what they answer; a certificate with hybrid authentication does not have this weakness`,
		`a pre-shared key of fewer than 16 characters can be guessed from one recorded connection`,
		`without extended authentication everybody who knows a key of the profile is let in`,
	}
	const guess = `aggressive mode with a pre-shared key sends anybody who asks a hash from which the key can be guessed`
	const unused = `clients send the group name "sales" in aggressive mode, which no IKE policy rule allows`
	const noCertificate = `the certificate is never used: no IKE policy rule allows "rsa" or "hybrid"`
	const noKey = `the keys are never used: no IKE policy rule allows "psk"`
	for name, test := range map[string]struct {
		in   string
		more []string
	}{
		"no rules":        {in, []string{unused}},
		"main mode":       {rule("psk", "none"), []string{unused, noCertificate}},
		"aggressive mode": {rule("psk", "accepted"), []string{guess, noCertificate}},
		"any":             {rule("any", "required"), []string{guess}},
		"hybrid":          {rule("hybrid", "required"), []string{noKey}},
	} {
		_, warnings, errs := parseFiles(map[string]string{"a": test.in})
		if len(errs) > 0 {
			t.Fatal(Errors(errs))
		}
		var got []string
		for _, w := range warnings {
			if w.Pos.Line == 0 {
				t.Errorf("%v has no place", w)
			}
			got = append(got, w.Message)
		}
		want := slices.Concat(always, test.more)
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestVanishedWarning: a fixed address that nothing frees when the client is switched off.
func TestVanishedWarning(t *testing.T) {
	fixed := change(t, "{name: alice, password: secret of alice}", "{name: alice, password: secret of alice, address: 10.0.0.7}")
	const warning = `vr/a.yaml:18:55: a client that vanishes keeps the address until its SAs expire, and its user out; switch on "dead-peer-detection" or give the user an "idle-timeout"`
	for name, test := range map[string]struct {
		in   string
		want bool
	}{
		"fixed":      {fixed, true},
		"from pool":  {tunnels, false},
		"idle":       {strings.Replace(fixed, "address: 10.0.0.7}", "address: 10.0.0.7, idle-timeout: 10m}", 1), false},
		"detection":  {strings.Replace(fixed, "  tunnel-profiles:", "  dead-peer-detection: {enabled: true}\n  tunnel-profiles:", 1), false},
		"no tunnels": {good + "    address: 10.0.0.7\n", false},
	} {
		_, warnings, errs := parseFiles(map[string]string{"a": test.in})
		if len(errs) > 0 {
			t.Fatal(Errors(errs))
		}
		got := slices.Contains(lines(warnings), warning)
		if got != test.want || !got && strings.Contains(strings.Join(lines(warnings), "\n"), "vanishes") {
			t.Errorf("%s: %q", name, lines(warnings))
		}
	}
}

// TestTunnelMessagesHoldNoSecrets: keys and passwords of files stay out of messages.
func TestTunnelMessagesHoldNoSecrets(t *testing.T) {
	const marker = "hunter2hunter2"
	for _, v := range []string{marker + strings.Repeat("x", 300), "[" + marker + "]", "{" + marker + ": 1}", `"` + marker + `\n"`} {
		for _, in := range []string{
			change(t, "key: 0123456789abcdef", "key: "+v),
			change(t, "certificate: gw.pem, key: gw-key.pem", "pkcs12: gw.pem, password: "+v),
		} {
			_, warnings, errs := parseFiles(map[string]string{"a": in})
			if len(errs) == 0 {
				t.Errorf("%q is not an error", v)
			}
			for _, d := range append(warnings, errs...) {
				if strings.Contains(d.Message, marker) {
					t.Errorf("a message shows a secret: %v", d)
				}
			}
		}
	}
}

// TestFilesAreFound: paths are resolved against the directory, and must be files.
func TestFilesAreFound(t *testing.T) {
	dir := write(t, map[string]string{"vrgate.yaml": "", "vr/a.yaml": tunnels, "ca.pem": "", "gw.pem": "", "gw-key.pem/x": ""})
	_, _, err := Load(dir)
	want := dir + `/vr/a.yaml:6:51: "key" is "gw-key.pem" but the file cannot be read: it is not a regular file`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := os.RemoveAll(filepath.Join(dir, "gw-key.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gw-key.pem"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "gw-key.pem"), fs.FileMode(0o644)); err != nil {
		t.Fatal(err)
	}
	c, warnings, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	own := c.Routers[0].Certificates.Own[0]
	if own.Certificate != filepath.Join(dir, "gw.pem") || own.Key != filepath.Join(dir, "gw-key.pem") {
		t.Errorf("%+v", own)
	}
	if !slices.ContainsFunc(warnings, func(d Diagnostic) bool { return strings.Contains(d.Message, "can read the private key") }) {
		t.Errorf("no warning of the key's mode in %v", warnings)
	}
}
