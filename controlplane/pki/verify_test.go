package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
)

// refusedFor is the reason of an error, "" for none.
func refusedFor(t *testing.T, err error) Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	var r *Refusal
	if !errors.As(err, &r) || r.Text == "" || r.Text != err.Error() || strings.ContainsFunc(r.Text, func(c rune) bool { return c < ' ' }) {
		t.Errorf("%#v is not a refusal for a person", err)
		return "?"
	}
	return r.Reason
}

// TestVerify has a line for every reason to refuse a peer (D4r, J17), and for what must
// not be one.
func TestVerify(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	middle := issue(t, ca("middle"), rsaKey(t, keyMiddle), root)
	// An authority that nobody trusts, with the same name.
	impostor := issue(t, ca("root"), rsaKey(t, keyOther), nil)
	leafKey := rsaKey(t, keyLeaf)
	leaf := func(by *entity, change func(*x509.Certificate)) *entity {
		c := client("alice")
		if change != nil {
			change(c)
		}
		return issue(t, c, leafKey, by)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecRoot := issue(t, ca("curves"), ecKey, nil)
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	s := storeOf(t, Config{}, root, ecRoot)

	usage := func(u x509.KeyUsage, ext ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = u, ext }
	}
	unknown := func(oid asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oid} }
	}
	good := leaf(root, nil)
	for name, test := range map[string]struct {
		peer Peer
		want Reason
	}{
		"good":                    {peerOf(t, good), ""},
		"by an intermediate":      {peerOf(t, leaf(middle, nil), middle), ""},
		"with everything it has":  {peerOf(t, leaf(middle, nil), impostor, root, good, middle, middle), ""},
		"by an authority with EC": {peerOf(t, leaf(ecRoot, nil)), ""},
		"1024 bits":               {peerOf(t, issue(t, client("old"), weakKey, root)), ""},
		"garbage behind its own":  {Peer{Certs: [][]byte{good.cert.Raw, []byte("x")}, Digest: digest, Signature: sign(t, leafKey), ID: dn(good)}, ""},

		"nothing":                {Peer{Digest: digest, Signature: sign(t, leafKey), ID: dn(good)}, ReasonNoCertificate},
		"garbage":                {Peer{Certs: [][]byte{[]byte("x")}, Digest: digest, Signature: sign(t, leafKey), ID: dn(good)}, ReasonMalformed},
		"trailing garbage":       {Peer{Certs: [][]byte{append(slices.Clone(good.cert.Raw), 0)}, Digest: digest, Signature: sign(t, leafKey), ID: dn(good)}, ReasonMalformed},
		"nine certificates":      {peerOf(t, good, root, root, root, root, root, root, root, root), ReasonMalformed},
		"a huge one":             {Peer{Certs: [][]byte{good.cert.Raw, make([]byte, MaxCertSize+1)}, Digest: digest, Signature: sign(t, leafKey), ID: dn(good)}, ReasonMalformed},
		"the impostor's":         {peerOf(t, leaf(impostor, nil)), ReasonUntrusted},
		"the impostor's with it": {peerOf(t, leaf(impostor, nil), impostor, root), ReasonUntrusted},
		"self-signed":            {peerOf(t, leaf(nil, nil)), ReasonUntrusted},
		"missing intermediate":   {peerOf(t, leaf(middle, nil)), ReasonUntrusted},
		"by a client": {func() Peer {
			parent := issue(t, client("mallory"), rsaKey(t, keyOther), root)
			return peerOf(t, leaf(parent, nil), parent)
		}(), ReasonUntrusted},
		"critical extension": {peerOf(t, leaf(root, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})), ReasonUntrusted},
		"expired":               {peerOf(t, leaf(root, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })), ReasonExpired},
		"not valid yet":         {peerOf(t, leaf(root, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) })), ReasonExpired},
		"expired and untrusted": {peerOf(t, leaf(impostor, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })), ReasonExpired},
		"expired intermediate": {func() Peer {
			c := ca("old middle")
			c.NotAfter = now.Add(-time.Hour)
			old := issue(t, c, rsaKey(t, keyMiddle), root)
			return peerOf(t, leaf(old, nil), old)
		}(), ReasonExpired},
		"key of another type": {func() Peer {
			e := issue(t, client("ec"), ecKey, root)
			return Peer{Certs: [][]byte{e.cert.Raw}, Digest: digest, Signature: sign(t, leafKey), ID: dn(e)}
		}(), ReasonUsage},
		"made to encipher keys":      {peerOf(t, leaf(root, usage(x509.KeyUsageKeyEncipherment))), ReasonUsage},
		"no usage":                   {peerOf(t, leaf(root, usage(0))), ""},
		"non-repudiation":            {peerOf(t, leaf(root, usage(x509.KeyUsageContentCommitment))), ""},
		"TLS client":                 {peerOf(t, leaf(root, usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageClientAuth))), ""},
		"TLS server":                 {peerOf(t, leaf(root, usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageServerAuth))), ""},
		"any":                        {peerOf(t, leaf(root, usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageAny, x509.ExtKeyUsageCodeSigning))), ""},
		"IPsec of RFC 2459":          {peerOf(t, leaf(root, usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageIPSECUser))), ""},
		"IKE (RFC 4945)":             {peerOf(t, leaf(root, unknown(oidIKE))), ""},
		"IKE of Microsoft and Cisco": {peerOf(t, leaf(root, unknown(oidIKEIntermediate))), ""},
		"code signing":               {peerOf(t, leaf(root, usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageCodeSigning))), ReasonUsage},
		"something else":             {peerOf(t, leaf(root, unknown(asn1.ObjectIdentifier{1, 2, 3}))), ReasonUsage},
		"signed by another":          {Peer{Certs: [][]byte{good.cert.Raw}, Digest: digest, Signature: sign(t, rsaKey(t, keyOther)), ID: dn(good)}, ReasonSignature},
		"signed something else":      {Peer{Certs: [][]byte{good.cert.Raw}, Digest: []byte("another of 20 bytes."), Signature: sign(t, leafKey), ID: dn(good)}, ReasonSignature},
		"no signature":               {Peer{Certs: [][]byte{good.cert.Raw}, Digest: digest, ID: dn(good)}, ReasonSignature},
		"no digest": {func() Peer {
			sig, err := rsa.SignPKCS1v15(nil, leafKey, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			return Peer{Certs: [][]byte{good.cert.Raw}, Signature: sig, ID: dn(good)}
		}(), ReasonSignature},
		"no identity": {Peer{Certs: [][]byte{good.cert.Raw}, Digest: digest, Signature: sign(t, leafKey)}, ReasonIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			subject, err := s.Verify(now, test.peer)
			if got := refusedFor(t, err); got != test.want {
				t.Errorf("%q (%v), want %q", got, err, test.want)
			}
			if (err == nil) != (subject != "") {
				t.Errorf("subject %q with error %v", subject, err)
			}
		})
	}
	if subject, err := s.Verify(now, peerOf(t, good)); subject != "CN=alice,O=Example" {
		t.Errorf("subject %q, %v", subject, err)
	}
}

// TestNoAuthorityTrustsNobody: an empty list of authorities is not the system's.
func TestNoAuthorityTrustsNobody(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	s := storeOf(t, Config{})
	if _, err := s.Verify(now, peerOf(t, issue(t, client("a"), rsaKey(t, keyLeaf), root), root)); refusedFor(t, err) != ReasonUntrusted {
		t.Error(err)
	}
	if s.roots == nil {
		t.Error("x509 takes no pool for the system's authorities")
	}
}

// TestHugeKeys: a peer cannot have us compute with a key as large as it likes. The key of the
// second certificate would be used to check the first.
func TestHugeKeys(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	s := storeOf(t, Config{}, root)
	c := client("alice")
	good := issue(t, c, rsaKey(t, keyLeaf), root)
	huge := *rsaKey(t, keyOther)
	huge.N = new(big.Int).Lsh(huge.N, MaxKeyBits)
	der, err := x509.CreateCertificate(rand.Reader, c, root.cert, &huge.PublicKey, root.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Peer{
		"its own":   {Certs: [][]byte{der}, Digest: digest, Signature: sign(t, good.key), ID: dn(good)},
		"an issuer": {Certs: [][]byte{good.cert.Raw, der}, Digest: digest, Signature: sign(t, good.key), ID: dn(good)},
	} {
		if _, err := s.Verify(now, p); refusedFor(t, err) != ReasonMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIdentity: the certificate must have the identity of phase 1 (J14, RFC 4945 section 3.1).
func TestIdentity(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	c := client("alice")
	c.DNSNames = []string{"Alice.Example.net", "*.example.org"}
	c.EmailAddresses = []string{"Alice@Example.net"}
	c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 7), net.ParseIP("2001:db8::7")}
	alice := issue(t, c, rsaKey(t, keyLeaf), root)
	s := storeOf(t, Config{}, root)

	text := func(tag int, s string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(s)} }
	type attr struct {
		oid   asn1.ObjectIdentifier
		value asn1.RawValue
	}
	o, cn := asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.ObjectIdentifier{2, 5, 4, 3}
	name := func(attrs ...attr) []byte {
		var seq pkix.RDNSequence
		for _, a := range attrs {
			seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: a.oid, Value: a.value}})
		}
		der, err := asn1.Marshal(seq)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	bmp := func(s string) string {
		var b []byte
		for _, r := range s {
			b = append(b, byte(r>>8), byte(r))
		}
		return string(b)
	}
	for _, test := range []struct {
		name string
		id   isakmp.ID
		want bool
	}{
		{"subject", isakmp.ID{Type: isakmp.IDDERDN, Data: alice.cert.RawSubject}, true},
		// Other string types, case and white space (RFC 5280 section 7.1).
		{"subject written otherwise", isakmp.ID{Type: isakmp.IDDERDN, Data: name(attr{o, text(tagUTF8String, "  eXAMPLE ")}, attr{cn, text(tagBMPString, bmp("ALICE"))})}, true},
		{"subject in Latin-1", isakmp.ID{Type: isakmp.IDDERDN, Data: name(attr{o, text(tagTeletexString, "Example")}, attr{cn, text(tagIA5String, "alice")})}, true},
		{"other order", isakmp.ID{Type: isakmp.IDDERDN, Data: name(attr{cn, text(tagUTF8String, "alice")}, attr{o, text(tagUTF8String, "Example")})}, false},
		{"part of it", isakmp.ID{Type: isakmp.IDDERDN, Data: name(attr{o, text(tagUTF8String, "Example")})}, false},
		{"more of it", isakmp.ID{Type: isakmp.IDDERDN, Data: name(attr{o, text(tagUTF8String, "Example")}, attr{cn, text(tagUTF8String, "alice")}, attr{cn, text(tagUTF8String, "root")})}, false},
		{"other attribute", isakmp.ID{Type: isakmp.IDDERDN, Data: name(attr{cn, text(tagUTF8String, "Example")}, attr{o, text(tagUTF8String, "alice")})}, false},
		{"not text", isakmp.ID{Type: isakmp.IDDERDN, Data: name(attr{o, text(tagUTF8String, "Example")}, attr{cn, asn1.RawValue{Tag: 4, Bytes: []byte("alice")}})}, false},
		{"somebody else", isakmp.ID{Type: isakmp.IDDERDN, Data: root.cert.RawSubject}, false},
		{"nobody", isakmp.ID{Type: isakmp.IDDERDN, Data: []byte{0x30, 0}}, false},
		{"no name at all", isakmp.ID{Type: isakmp.IDDERDN}, false},
		{"name with more behind", isakmp.ID{Type: isakmp.IDDERDN, Data: append(slices.Clone(alice.cert.RawSubject), 0)}, false},
		{"domain", isakmp.TextID(isakmp.IDFQDN, "aLICE.eXAMPLE.NET"), true},
		{"domain below", isakmp.TextID(isakmp.IDFQDN, "x.alice.example.net"), false},
		{"wildcards are names like others", isakmp.TextID(isakmp.IDFQDN, "x.example.org"), false},
		{"common name as domain", isakmp.TextID(isakmp.IDFQDN, "alice"), false},
		{"empty domain", isakmp.TextID(isakmp.IDFQDN, ""), false},
		// The dotless i (U+0131) is not an i.
		{"domain in other letters", isakmp.TextID(isakmp.IDFQDN, "alıce.example.net"), false},
		{"mailbox", isakmp.TextID(isakmp.IDUserFQDN, "Alice@eXAMPLE.net"), true},
		{"mailbox of another", isakmp.TextID(isakmp.IDUserFQDN, "alice@example.net"), false},
		{"domain as mailbox", isakmp.TextID(isakmp.IDUserFQDN, "alice.example.net"), false},
		{"address", isakmp.ID{Type: isakmp.IDIPv4, Data: []byte{192, 0, 2, 7}}, true},
		{"IPv6 address", isakmp.ID{Type: isakmp.IDIPv6, Data: net.ParseIP("2001:db8::7")}, true},
		{"address of another", isakmp.ID{Type: isakmp.IDIPv4, Data: []byte{192, 0, 2, 8}}, false},
		{"short address", isakmp.ID{Type: isakmp.IDIPv4, Data: []byte{192, 0}}, false},
		{"subnet", isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: []byte{192, 0, 2, 7, 255, 255, 255, 255}}, false},
		{"group name", isakmp.TextID(isakmp.IDKeyID, "alice"), false},
		{"general name", isakmp.ID{Type: isakmp.IDDERGN, Data: alice.cert.RawSubject}, false},
	} {
		p := peerOf(t, alice)
		p.ID = test.id.Payload().Body
		_, err := s.Verify(now, p)
		if got := refusedFor(t, err); (got == "") != test.want || got != "" && got != ReasonIdentity {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}

	// A certificate without subject belongs to no name, not even to the empty one.
	c = &x509.Certificate{DNSNames: []string{"a.example"}}
	nobody := issue(t, c, rsaKey(t, keyLeaf), root)
	if _, err := s.Verify(now, peerOf(t, nobody)); refusedFor(t, err) != ReasonIdentity {
		t.Errorf("no subject: %v", err)
	}
}

// TestRefusalsAreShort: names of certificates are in messages, and a peer chooses them.
func TestRefusalsAreShort(t *testing.T) {
	c := client(strings.Repeat("é\n", 2000))
	e := issue(t, c, rsaKey(t, keyLeaf), nil)
	s := storeOf(t, Config{})
	_, err := s.Verify(now, peerOf(t, e))
	if refusedFor(t, err) != ReasonUntrusted || len(err.Error()) > 4*maxWords {
		t.Errorf("%d bytes: %v", len(err.Error()), err)
	}
}
