package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
)

// now is when the tests take place.
var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// rsaKey returns the n-th key of the tests. It is always the same: what a fuzz test finds must
// be found again by the next process.
func rsaKey(t testing.TB, n int) *rsa.PrivateKey {
	t.Helper()
	madeMu.Lock()
	defer madeMu.Unlock()
	if keys[n] != nil {
		return keys[n]
	}
	random := mathrand.NewChaCha8([32]byte{byte(n)})
	prime := func() *big.Int {
		b := make([]byte, MinKeyBits/2/8)
		_, _ = random.Read(b)
		b[0], b[len(b)-1] = b[0]|0xc0, b[len(b)-1]|1
		p := new(big.Int).SetBytes(b)
		for !p.ProbablyPrime(1) {
			p.Add(p, big.NewInt(2))
		}
		return p
	}
	p, q, one := prime(), prime(), big.NewInt(1)
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, Primes: []*big.Int{p, q}}
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k.D = new(big.Int).ModInverse(big.NewInt(int64(k.E)), phi)
	if err := k.Validate(); err != nil {
		t.Fatal(err)
	}
	k.Precompute()
	keys[n] = k
	return k
}

var (
	madeMu sync.Mutex
	keys   [keyOwn + 1]*rsa.PrivateKey
	// serials are the last serial numbers by test.
	serials = map[string]int64{}
)

// The keys of the tests by number.
const (
	keyRoot = iota
	keyOther
	keyMiddle
	keyLeaf
	keyOwn
)

// entity is a certificate with its key.
type entity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue makes a certificate from a template; without an issuer it signs itself. It is valid
// for a year around now unless the template says otherwise.
func issue(t testing.TB, c *x509.Certificate, key crypto.Signer, by *entity) *entity {
	t.Helper()
	if c.SerialNumber == nil {
		madeMu.Lock()
		serials[t.Name()]++
		c.SerialNumber = big.NewInt(serials[t.Name()])
		madeMu.Unlock()
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = now.AddDate(0, -6, 0)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = now.AddDate(0, 6, 0)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &entity{cert, key}
}

func named(cn string) pkix.Name { return pkix.Name{CommonName: cn, Organization: []string{"Example"}} }

// ca is the template of an authority.
func ca(cn string) *x509.Certificate {
	return &x509.Certificate{
		Subject: named(cn), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// client is the template of a peer's certificate.
func client(cn string) *x509.Certificate {
	return &x509.Certificate{Subject: named(cn), KeyUsage: x509.KeyUsageDigitalSignature}
}

// revokes makes a revocation list of the issuer.
func revokes(t testing.TB, by *entity, list *x509.RevocationList, certs ...*entity) []byte {
	t.Helper()
	if list.Number == nil {
		list.Number = big.NewInt(1)
	}
	if list.ThisUpdate.IsZero() {
		list.ThisUpdate = now.Add(-time.Hour)
	}
	if list.NextUpdate.IsZero() {
		list.NextUpdate = now.Add(time.Hour)
	}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.cert.SerialNumber, RevocationTime: now.Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// file writes a file that only its owner can read, and returns its path.
func file(t testing.TB, data []byte) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func inPEM(kind string, ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return out
}

func certPEM(es ...*entity) []byte {
	var out []byte
	for _, e := range es {
		out = append(out, inPEM("CERTIFICATE", e.cert.Raw)...)
	}
	return out
}

func keyPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return inPEM("PRIVATE KEY", der)
}

// storeOf loads a store that trusts the authorities.
func storeOf(t testing.TB, c Config, trusted ...*entity) *Store {
	t.Helper()
	for _, a := range trusted {
		c.Authorities = append(c.Authorities, file(t, certPEM(a)))
	}
	s, err := Load(c, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var digest = []byte("a digest of 20 bytes")

// sign is how a peer signs (RFC 2409 section 5.1).
func sign(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	sig, err := rsa.SignPKCS1v15(nil, key.(*rsa.PrivateKey), 0, digest)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// dn is the identification by the subject.
func dn(e *entity) []byte {
	return isakmp.ID{Type: isakmp.IDDERDN, Data: e.cert.RawSubject}.Payload().Body
}

// peerOf presents e with further certificates, by its subject.
func peerOf(t testing.TB, e *entity, more ...*entity) Peer {
	t.Helper()
	p := Peer{Certs: [][]byte{e.cert.Raw}, Digest: digest, Signature: sign(t, e.key), ID: dn(e)}
	for _, m := range more {
		p.Certs = append(p.Certs, m.cert.Raw)
	}
	return p
}

func cacheDir(t testing.TB) string { return filepath.Join(t.TempDir(), "crl") }
