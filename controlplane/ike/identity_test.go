package ike

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"vrgate/controlplane/isakmp"
)

// TestIDMatches: the identities of J14 and D4r with their patterns.
func TestIDMatches(t *testing.T) {
	dn := func(ps ...pkix.AttributeTypeAndValue) isakmp.ID {
		var seq pkix.RDNSequence
		for _, p := range ps {
			seq = append(seq, pkix.RelativeDistinguishedNameSET{p})
		}
		b, err := asn1.Marshal(seq)
		if err != nil {
			t.Fatal(err)
		}
		return isakmp.ID{Type: isakmp.IDDERDN, Data: b}
	}
	attr := func(name, value string) pkix.AttributeTypeAndValue {
		oid, err := dnAttribute(name)
		if err != nil {
			t.Fatal(err)
		}
		return pkix.AttributeTypeAndValue{Type: oid, Value: value}
	}
	jo := dn(attr("C", "DE"), attr("O", "Example  Inc, Ltd"), attr("CN", "Jo"))
	multi := isakmp.ID{Type: isakmp.IDDERDN}
	multi.Data, _ = asn1.Marshal(pkix.RDNSequence{{attr("O", "Example")}, {attr("UID", "7"), attr("CN", "Jo")}})
	number := isakmp.ID{Type: isakmp.IDDERDN}
	number.Data, _ = asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: 7}}})
	v4, v6 := isakmp.AddrID(netip.MustParseAddr("192.0.2.1"), 17, 500), isakmp.AddrID(netip.MustParseAddr("2001:db8::1"), 0, 0)
	fqdn, user := isakmp.TextID(isakmp.IDFQDN, "Gw.Example.net"), isakmp.TextID(isakmp.IDUserFQDN, "Jo@Example.net")
	key := isakmp.TextID(isakmp.IDKeyID, "office")
	for _, c := range []struct {
		want string
		id   isakmp.ID
		ok   bool
	}{
		{"", v4, true}, {"*", v4, true}, {"*", jo, true}, {"*", key, true}, {"", key, true},
		{"192.0.2.1", v4, true}, {"192.0.2.2", v4, false}, {"2001:DB8::1", v6, true}, {"192.0.2.*", v4, false},
		{"@gw.example.net", fqdn, true}, {"@*.example.net", fqdn, true}, {"@*.example.org", fqdn, false}, {"@*", fqdn, true}, {"@*", user, false},
		{"@example.net", fqdn, false}, {"gw.example.net", fqdn, false},
		{"jo@example.net", user, true}, {"*@example.net", user, true}, {"*@*", user, true}, {"*@example.org", user, false}, {"*@example.net", fqdn, false},
		{"office", key, true}, {"keyid:office", key, true}, {"Office", key, false}, {"off*", key, true}, {"*e", key, true}, {"o*f*e", key, true}, {"o*x*e", key, false},
		{"keyid:a@b", isakmp.TextID(isakmp.IDKeyID, "a@b"), true}, {"a@b", isakmp.TextID(isakmp.IDKeyID, "a@b"), false},
		{"dn:CN=jo,O=EXAMPLE Inc\\, Ltd,C=DE", jo, true},
		{"dn:cn=Jo, o = Example Inc\\, Ltd , c=de", jo, true},
		{"dn:2.5.4.3=Jo,organization=example*,C=*", jo, true},
		{"dn:*", jo, true},
		{"dn:*", key, false}, {"dn:*", isakmp.ID{Type: isakmp.IDDERDN, Data: []byte("no DER")}, false},
		// The sequence counts, and so does its length.
		{"dn:C=DE,O=*,CN=Jo", jo, true}, {"dn:O=*,C=DE,CN=Jo", jo, false}, {"dn:CN=Jo", jo, false}, {"dn:CN=Jo,O=*,C=*,L=*", jo, false},
		{"dn:CN=Jo+O=*,C=DE", jo, false},
		// But not among the attributes of one part.
		{"dn:CN=Jo+UID=7,O=Example", multi, true}, {"dn:UID=*+CN=*,O=*", multi, true},
		{"dn:CN=Jo+CN=Jo,O=Example", multi, false}, {"dn:CN=Jo,UID=7,O=Example", multi, false}, {"dn:CN=Jo,UID=7+O=Example", multi, false},
		{"dn:CN=Jo,O=*,C=AT", jo, false}, {"dn:CN=Jo,OU=*,C=DE", jo, false},
		// What cannot be read is nobody's; what is no text matches nothing.
		{"dn:", jo, false}, {"dn:Jo", jo, false}, {"dn:NAME=Jo", jo, false}, {"dn:CN=*", number, false},
	} {
		if got := idMatches(c.want, c.id); got != c.ok {
			t.Errorf("%q and %v: %v", c.want, describe(c.id.Payload().Body), got)
		}
	}
	if got := describe(jo.Payload().Body); got != `DER_ASN1_DN "CN=Jo,O=Example  Inc\\, Ltd,C=DE"` {
		t.Errorf("described as %s", got)
	}
	if got := describe(isakmp.TextID(isakmp.IDKeyID, strings.Repeat("\n", 2000)).Payload().Body); len(got) > 4*maxShown || strings.Contains(got, "\n") {
		t.Errorf("a long identity is described in %d bytes", len(got))
	}
}

// TestCheckID: what configuration may hold.
func TestCheckID(t *testing.T) {
	for s, ok := range map[string]bool{
		"": true, "*": true, "office": true, "192.0.2.1": true, "@x": true, "dn:*": true, "dn:CN=*,O=y": true, "dn:1.2.3=x": true, "dn:DC=net,E=a@b": true,
		"dn:": false, "dn:CN": false, "dn:XX=1": false, "dn:9.9.9=x": false, "dn:CN=a\\": false, "dn:CN=\\ff": false,
		"dn:" + strings.Repeat("O=x,", maxRDNs) + "CN=y": false,
	} {
		if err := CheckID(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestOurDN: the encoding of our own name is what certificates have.
func TestOurDN(t *testing.T) {
	want, err := asn1.Marshal(pkix.Name{Country: []string{"DE"}, Organization: []string{"Übung"}, CommonName: "gw"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	if id := parseID("dn:CN=gw,O=Übung,C=DE"); id.Type != isakmp.IDDERDN || string(id.Data) != string(want) {
		t.Errorf("%x, want %x", id.Data, want)
	}
}

// FuzzDN: any text that is a distinguished name reads the same when it is written
// again, and survives DER.
func FuzzDN(f *testing.F) {
	for _, s := range []string{"CN=x,O=y", "CN=a+OU=b,DC=net", `CN=\ a\,b\ ,2.5.4.65=c`, "E=a@b,C=DE", `O=\23x\\`, "CN=", "CN=*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parts, err := parseDN(s)
		if err != nil {
			return
		}
		text := formatDN(parts)
		again, err := parseDN(text)
		if err != nil || formatDN(again) != text || len(again) != len(parts) {
			t.Fatalf("%q is written %q: %v", s, text, err)
		}
		der := encodeDN(parts)
		if der == nil || len(der) > isakmp.MaxIDLen {
			return
		}
		back, err := decodeDN(der)
		if err != nil {
			// An IA5String holds ASCII only.
			for _, p := range parts {
				if strings.IndexFunc(p.value, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
					return
				}
			}
			t.Fatalf("%q does not survive DER: %v", s, err)
		}
		if len(back) != len(parts) {
			t.Fatalf("%q has %d parts in DER, want %d", s, len(back), len(parts))
		}
		id := isakmp.ID{Type: isakmp.IDDERDN, Data: der}
		if !idMatches(prefixDN+anyText, id) || !idMatches("", id) {
			t.Fatalf("%q does not match any name", s)
		}
		seen := map[string]bool{}
		for _, p := range parts {
			if p.more && seen[p.oid.String()] {
				return // the same attribute twice in one set: the pairs are not looked for
			}
			if !p.more {
				clear(seen)
			}
			seen[p.oid.String()] = true
		}
		if !idMatches(prefixDN+text, id) {
			t.Fatalf("%q does not match itself", text)
		}
	})
}

// FuzzIdentity gives arbitrary bodies of identification payloads to everything that
// looks at them: no panic, bounded text, and only wildcards match what is unreadable.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte{9, 0, 0, 0, 0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 'x'}, "dn:CN=*")
	f.Add([]byte{11, 17, 1, 244, 'o'}, "keyid:o")
	f.Add([]byte{3, 0, 0, 0, 'a', '@', 'b'}, "*@b")
	f.Fuzz(func(t *testing.T, body []byte, want string) {
		if s := describe(body); len(s) > 4*maxShown+64 || strings.ContainsAny(s, "\n\r\x00\x1b") {
			t.Errorf("described as %q", s)
		}
		id, err := isakmp.Payload{Type: isakmp.TypeID, Body: body}.ID()
		if err != nil {
			return
		}
		if !idMatches("", id) || !idMatches("*", id) {
			t.Error("matches not even everything")
		}
		if idMatches(want, id) && want != "" && want != "*" && parseID(want).Type != id.Type {
			t.Errorf("%q matches %s", want, describe(body))
		}
	})
}

// FuzzWildcard compares the matcher with regular expressions.
func FuzzWildcard(f *testing.F) {
	f.Add("a*b", "axxb")
	f.Add("*a*", "bab")
	f.Add("**", "")
	f.Add("a*a", "a")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 64 || len(text) > 256 || !utf8.ValidString(pattern) || !utf8.ValidString(text) {
			return
		}
		want := regexp.MustCompile(`(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `\z`).MatchString(text)
		if got := wildcard(pattern, text); got != want {
			t.Errorf("%q and %q: %v", pattern, text, got)
		}
	})
}

// TestKeysFor: in main mode neither the keys of many groups nor those of many names
// keep the key for anybody out, and the number of keys tried is bounded.
func TestKeysFor(t *testing.T) {
	var c Config
	for i := range 100 {
		c.Keys = append(c.Keys, PresharedKey{Name: fmt.Sprint("group ", i), ID: fmt.Sprint("keyid:", i)})
	}
	for i := range 10 {
		c.Keys = append(c.Keys, PresharedKey{Name: fmt.Sprint("name ", i), ID: fmt.Sprintf("@%d.example.net", i)}, PresharedKey{Name: fmt.Sprint("open ", i), Group: i > 0})
	}
	c = c.withDefaults()
	local, peer := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	got := map[string]int{}
	ks := c.keysFor(local, peer, AuthPSK, time.Time{})
	for _, k := range ks {
		kind, _, _ := strings.Cut(k.Name, " ")
		got[kind]++
	}
	if len(ks) != maxNamedKeys+maxOpenKeys || got["name"] != 10 || got["open"] != maxOpenKeys || got["group"] != maxNamedKeys-10 {
		t.Errorf("%v", got)
	}
	if n := len(c.keysFor(local, peer, AuthXAuthPSK, time.Time{})); n != maxNamedKeys+1 {
		t.Errorf("%d keys for XAuth, want the one that is no group key (J19)", n)
	}
	if k := c.keyFor(local, peer, AuthXAuthPSK, isakmp.TextID(isakmp.IDKeyID, "77"), time.Time{}); k == nil || k.Name != "group 77" {
		t.Errorf("key %v", k)
	}
	// An exact name before a pattern, and a pattern before anybody.
	c = Config{Keys: []PresharedKey{{Name: "any"}, {Name: "some", ID: "of*"}, {Name: "one", ID: "office"}}}.withDefaults()
	for id, want := range map[string]string{"office": "one", "offside": "some", "other": "any"} {
		if k := c.keyFor(local, peer, AuthPSK, isakmp.TextID(isakmp.IDKeyID, id), time.Time{}); k.Name != want {
			t.Errorf("%s: key %s, want %s", id, k.Name, want)
		}
	}
}
