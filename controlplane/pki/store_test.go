package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// TestLoad reads a certificate of ours from PEM and from PKCS #12, and signs with it (D4r).
func TestLoad(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	middle := issue(t, ca("middle"), rsaKey(t, keyMiddle), root)
	other := issue(t, ca("other"), rsaKey(t, keyOther), nil)
	gw := issue(t, client("gateway"), rsaKey(t, keyOwn), middle)
	p12, err := pkcs12.Modern.Encode(gw.key, gw.cert, []*x509.Certificate{root.cert, middle.cert}, "a password")
	if err != nil {
		t.Fatal(err)
	}
	old, err := pkcs12.LegacyRC2.Encode(gw.key, gw.cert, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := inPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey(t, keyOwn)))
	// openssl puts text between the blocks, and a chain comes in any order.
	certs := slices.Concat([]byte("subject=CN = gateway\n"), certPEM(gw), []byte("\nissuer\n"), certPEM(root, other, middle))
	s, err := Load(Config{
		Authorities: []string{file(t, certPEM(root, root)), file(t, root.cert.Raw), file(t, other.cert.Raw)},
		Own: []Own{
			{Name: "pem", Certificate: file(t, certs), Key: file(t, append(inPEM("EC PARAMETERS", []byte{1}), pkcs1...))},
			{Name: "p12", PKCS12: file(t, p12), Password: Password("a password")},
			{Name: "bare", PKCS12: file(t, old)},
		},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.AuthorityNames(); len(got) != 2 || !bytes.Equal(got[0], root.cert.RawSubject) || !bytes.Equal(got[1], other.cert.RawSubject) {
		t.Errorf("authorities %q", got)
	}
	creds := s.Credentials()
	var names []string
	for _, c := range creds {
		names = append(names, c.Name)
		if !bytes.Equal(c.Subject, gw.cert.RawSubject) || !c.NotAfter.Equal(gw.cert.NotAfter) || !bytes.Equal(c.Chain[0], gw.cert.Raw) {
			t.Errorf("credential %+v", c)
		}
		// Without the chain nobody knows that the root is above.
		chain, issuers := 2, [][]byte{middle.cert.RawSubject, root.cert.RawSubject}
		if c.Name == "bare" {
			chain, issuers = 1, issuers[:1]
		}
		if len(c.Chain) != chain || chain == 2 && !bytes.Equal(c.Chain[1], middle.cert.Raw) {
			t.Errorf("chain of %q has %d certificates", c.Name, len(c.Chain))
		}
		if !slices.EqualFunc(c.Issuers, issuers, bytes.Equal) {
			t.Errorf("issuers of %q: %q", c.Name, c.Issuers)
		}
		sig, err := s.Sign(c.Name, digest)
		if err != nil || rsa.VerifyPKCS1v15(&rsaKey(t, keyOwn).PublicKey, 0, digest, sig) != nil {
			t.Errorf("%q: %x, %v", c.Name, sig, err)
		}
		// A peer that is set up alike believes us.
		p := Peer{Certs: c.Chain, Digest: digest, Signature: sig, ID: dn(gw)}
		if _, err := s.Verify(now, p); (err == nil) != (chain == 2) {
			t.Errorf("%q: %v", c.Name, err)
		}
	}
	if !slices.Equal(names, []string{"bare", "p12", "pem"}) {
		t.Errorf("credentials %q", names)
	}
	if _, err := s.Sign("nobody", digest); err == nil {
		t.Error("signed without a certificate")
	}
	for _, n := range []int{0, 15, 65} {
		if _, err := s.Sign("pem", make([]byte, n)); err == nil {
			t.Errorf("signed %d bytes", n)
		}
	}
}

// TestIssuersAboveAuthorities: an intermediate authority that is trusted itself does not end
// the list of names that a peer may ask for.
func TestIssuersAboveAuthorities(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	middle := issue(t, ca("middle"), rsaKey(t, keyMiddle), root)
	gw := issue(t, client("gateway"), rsaKey(t, keyOwn), middle)
	own := []Own{{Name: "gw", Certificate: file(t, certPEM(gw)), Key: file(t, keyPEM(t, gw.key))}}
	s := storeOf(t, Config{Own: own}, middle, root)
	if got := s.Credentials()[0].Issuers; !slices.EqualFunc(got, [][]byte{middle.cert.RawSubject, root.cert.RawSubject}, bytes.Equal) {
		t.Errorf("issuers %q", got)
	}
	// Trusted itself, without anybody above.
	self := issue(t, client("self"), rsaKey(t, keyOwn), nil)
	own = []Own{{Name: "self", Certificate: file(t, certPEM(self)), Key: file(t, keyPEM(t, self.key))}}
	s = storeOf(t, Config{Own: own}, self)
	if got := s.Credentials()[0]; len(got.Issuers) != 1 || len(got.Chain) != 1 {
		t.Errorf("credential %+v", got)
	}
	if _, err := s.Verify(now, peerOf(t, self)); err != nil {
		t.Errorf("a certificate that is trusted itself: %v", err)
	}
}

// TestLoadErrors has every mistake in files, all reported at once.
func TestLoadErrors(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	gw := issue(t, client("gateway"), rsaKey(t, keyOwn), root)
	cert, key := file(t, certPEM(gw)), file(t, keyPEM(t, gw.key))
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	p12, err := pkcs12.Modern.Encode(gw.key, gw.cert, nil, "right")
	if err != nil {
		t.Fatal(err)
	}
	mode := func(m os.FileMode) string {
		f := file(t, keyPEM(t, gw.key))
		if err := os.Chmod(f, m); err != nil {
			t.Fatal(err)
		}
		return f
	}
	pair := func(cert, key string) Config { return Config{Own: []Own{{Name: "n", Certificate: cert, Key: key}}} }
	broken := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("x"), Headers: map[string]string{"DEK-Info": "x"}})
	for name, test := range map[string]struct {
		c    Config
		want string
	}{
		"no file":              {Config{Authorities: []string{"/nowhere/ca.pem"}}, "/nowhere/ca.pem: cannot be read: no such file"},
		"a directory":          {Config{Authorities: []string{"/"}}, "/: cannot be read: it is not a regular file"},
		"a large file":         {Config{Authorities: []string{file(t, make([]byte, MaxFileSize+1))}}, "is larger than 1048576 bytes"},
		"no certificate":       {Config{Authorities: []string{key}}, key + ": holds no certificate in PEM"},
		"broken certificate":   {Config{Authorities: []string{file(t, append(certPEM(gw), inPEM("CERTIFICATE", []byte("x"))...))}}, "PEM block 2 is not a certificate"},
		"two of a name":        {Config{Own: []Own{{Name: "n", Certificate: cert, Key: key}, {Name: "n", Certificate: cert, Key: key}}}, `certificate "n" is there twice`},
		"neither":              {Config{Own: []Own{{Name: "n"}}}, "is needed"},
		"both":                 {Config{Own: []Own{{Name: "n", Certificate: cert, PKCS12: cert}}}, "exclude each other"},
		"no key":               {pair(cert, cert), cert + ": holds no private key in PEM"},
		"broken key":           {pair(cert, file(t, broken)), "the private key cannot be used"},
		"encrypted key":        {pair(cert, file(t, inPEM("ENCRYPTED PRIVATE KEY", []byte("x")))), "the private key is encrypted"},
		"key encrypted of old": {pair(cert, file(t, encrypted)), "the private key is encrypted"},
		"key of another":       {pair(cert, file(t, keyPEM(t, root.key))), "CN=gateway,O=Example, does not belong to the private key in "},
		"EC key":               {pair(cert, file(t, keyPEM(t, ec))), "of type ecdsa but must be RSA"},
		"EC key of old":        {pair(cert, file(t, inPEM("EC PRIVATE KEY", sec1))), "of type ecdsa but must be RSA"},
		"Edwards key":          {pair(cert, file(t, keyPEM(t, ed))), "of type ed25519 but must be RSA"},
		"writable by others":   {pair(cert, mode(0o602)), "others than its owner can write to the private key (mode 0602)"},
		"writable by a group":  {pair(cert, mode(0o620)), "others than its owner can write to the private key (mode 0620)"},
		"wrong password":       {Config{Own: []Own{{Name: "n", PKCS12: file(t, p12), Password: Password("wrong")}}}, "the password is wrong"},
		"no PKCS #12":          {Config{Own: []Own{{Name: "n", PKCS12: cert}}}, cert + ": is not a usable PKCS #12 file"},
		"no list":              {Config{CRLFiles: []string{cert}}, cert + `: holds "CERTIFICATE" in PEM but should hold a revocation list`},
		"no file of a list":    {Config{CRLFiles: []string{key + "x"}}, "cannot be read"},
		"no URL":               {Config{CRLURLs: []string{"ldap://x"}}, `"ldap://x" is not the http URL of a revocation list`},
		"too many lists":       {Config{CRLURLs: make([]string, MaxCRLs+1)}, "65 revocation lists but may be at most 64"},
	} {
		s, err := Load(test.c, now)
		if err == nil || s != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", name, err, test.want)
		}
	}

	// All at once, each with its file.
	_, err = Load(Config{
		Authorities: []string{"/nowhere/a", "/nowhere/b"}, CRLFiles: []string{"/nowhere/c"},
		Own: []Own{{Name: "n", Certificate: "/nowhere/d", Key: "/nowhere/e"}, {Name: "m", PKCS12: "/nowhere/f"}},
	}, now)
	for _, f := range []string{"a", "b", "c", "d", "e", "f"} {
		if err == nil || !strings.Contains(err.Error(), "/nowhere/"+f) {
			t.Errorf("%s is not in\n%v", f, err)
		}
	}

	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := usableKey(small); err != nil {
		t.Errorf("1024 bits: %v", err)
	}
	n := *small
	n.PublicKey.N = new(big.Int).Rsh(small.N, 1)
	if _, err := usableKey(&n); err == nil || !strings.Contains(err.Error(), "1023 bits") {
		t.Errorf("1023 bits: %v", err)
	}
}

// TestPrivateKeysDoNotPrint tries every way in which a store gets into a log.
func TestPrivateKeysDoNotPrint(t *testing.T) {
	gw := issue(t, client("gateway"), rsaKey(t, keyOwn), nil)
	c := Config{Own: []Own{{Name: "gw", Certificate: file(t, certPEM(gw)), Key: file(t, keyPEM(t, gw.key)), Password: Password("hunter2")}}}
	s, err := Load(Config{Own: []Own{{Name: "gw", Certificate: c.Own[0].Certificate, Key: c.Own[0].Key}}}, now)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal([]any{s, s.own[0], c})
	if err != nil {
		t.Fatal(err)
	}
	all := string(data)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		all += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, s.own) + fmt.Sprintf(verb, &s.own[0]) + fmt.Sprintf(verb, c) + fmt.Sprintf(verb, c.Own[0].Password)
	}
	all += c.Own[0].Password.String() + c.Own[0].Password.GoString()
	key := rsaKey(t, keyOwn)
	for _, secret := range []string{key.D.String(), fmt.Sprintf("%x", key.D), key.Primes[0].String(), fmt.Sprintf("%x", key.Primes[1]), "hunter2", "68756e74", "104 117"} {
		if strings.Contains(all, secret) {
			t.Errorf("a secret is in %.200s", all)
		}
	}
	if n := strings.Count(all, redacted); n < 10 {
		t.Errorf("only %d times %s", n, redacted)
	}
}

// TestWarnings has what works but will not for long.
func TestWarnings(t *testing.T) {
	soon := ca("soon")
	soon.NotAfter = now.Add(10 * 24 * time.Hour)
	root := issue(t, soon, rsaKey(t, keyRoot), nil)
	gone := ca("gone")
	gone.NotAfter = now.Add(-time.Hour)
	dead := issue(t, gone, rsaKey(t, keyOther), nil)
	later := client("gateway")
	later.NotBefore = now.Add(time.Hour)
	gw := issue(t, later, rsaKey(t, keyOwn), root)
	key := file(t, keyPEM(t, gw.key))
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	stale := file(t, revokes(t, root, &x509.RevocationList{NextUpdate: now.Add(-time.Minute)}))
	authorities := []string{file(t, certPEM(root)), file(t, certPEM(dead))}
	s, err := Load(Config{
		Authorities: authorities,
		Own:         []Own{{Name: "gw", Certificate: file(t, certPEM(gw)), Key: key}},
		CRLFiles:    []string{stale}, CRLURLs: []string{"http://pki.example/x"}, CacheDir: cacheDir(t),
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	type short struct {
		kind WarningKind
		name string
		at   time.Time
	}
	list := func(at time.Time, within time.Duration) []short {
		var out []short
		for _, w := range s.Warnings(at, within) {
			if w.Text == "" || strings.Contains(w.Text, "%!") {
				t.Errorf("warning %+v", w)
			}
			out = append(out, short{w.Kind, w.Name, w.At})
		}
		return out
	}
	want := []short{
		{WarningExposedKey, "gw", time.Time{}},
		{WarningExpired, "gw", later.NotBefore},
		{WarningExpiring, authorities[0], soon.NotAfter},
		{WarningExpired, authorities[1], gone.NotAfter},
		{WarningStaleCRL, stale, now.Add(-time.Minute)},
		{WarningMissingCRL, "http://pki.example/x", time.Time{}},
	}
	if got := list(now, 30*24*time.Hour); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	// Nobody asked so early.
	want = slices.Delete(slices.Clone(want), 2, 3)
	if got := list(now, 24*time.Hour); !slices.Equal(got, want) {
		t.Errorf("within a day: got  %v\nwant %v", got, want)
	}
	want = []short{want[0], {WarningExpired, authorities[1], gone.NotAfter}, want[4]}
	if got := list(now.Add(-30*time.Minute).Add(2*time.Hour), 0); !slices.Contains(got, want[1]) || len(got) != 4 {
		t.Errorf("two hours later: %v", got)
	}
}

// TestExpiredAuthorityIsNoMistake: a reload with an expired certificate must work, or the
// operator could not change anything else.
func TestExpiredAuthorityIsNoMistake(t *testing.T) {
	c := ca("gone")
	c.NotAfter = now.Add(-time.Hour)
	gone := issue(t, c, rsaKey(t, keyRoot), nil)
	s := storeOf(t, Config{}, gone)
	if _, err := s.Verify(now, peerOf(t, issue(t, client("a"), rsaKey(t, keyLeaf), gone))); refusedFor(t, err) != ReasonExpired {
		t.Error(err)
	}
}

// TestFIFO: reading must not wait for a writer.
func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Config{Authorities: []string{path}}, now); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
}

// TestItems lists what there is, for show.
func TestItems(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	gw := issue(t, client("gateway"), rsaKey(t, keyOwn), root)
	authority := file(t, certPEM(root))
	list := file(t, revokes(t, root, &x509.RevocationList{}, root, gw))
	s, err := Load(Config{
		Authorities: []string{authority},
		Own:         []Own{{Name: "gw", Certificate: file(t, certPEM(gw)), Key: file(t, keyPEM(t, gw.key))}},
		CRLFiles:    []string{list}, CRLURLs: []string{"http://pki.example/x"},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(e *entity) string { return fmt.Sprintf("%x", e.cert.SerialNumber) }
	const name = "CN=root,O=Example"
	want := []Item{
		{Kind: ItemOwn, Name: "gw", Subject: "CN=gateway,O=Example", Issuer: name, Serial: serial(gw), From: gw.cert.NotBefore, Until: gw.cert.NotAfter},
		{Kind: ItemAuthority, Name: authority, Subject: name, Issuer: name, Serial: serial(root), From: root.cert.NotBefore, Until: root.cert.NotAfter},
		{Kind: ItemCRL, Name: list, Issuer: name, From: now.Add(-time.Hour), Until: now.Add(time.Hour), Revoked: 2},
		{Kind: ItemCRL, Name: "http://pki.example/x", Missing: true},
	}
	if got := s.Items(); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
