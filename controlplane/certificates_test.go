package controlplane

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/pki"
)

// testKeys are made once: making RSA keys is slow.
var testKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var out [2]*rsa.PrivateKey
	for i := range out {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out[i] = k
	}
	return out
})

// testPKI is an authority and certificates of a server and a client that it has signed, in files.
type testPKI struct {
	dir              string
	ca, cert, client *x509.Certificate
}

func newTestPKI(t *testing.T, from, until time.Time) testPKI {
	t.Helper()
	return newTestPKIOf(t, "Test CA", 0, from, until)
}

// newTestPKIOf is newTestPKI with an authority of another name and key.
func newTestPKIOf(t *testing.T, name string, caKey int, from, until time.Time) testPKI {
	t.Helper()
	p := testPKI{dir: t.TempDir()}
	issue := func(c, by *x509.Certificate, key int) *x509.Certificate {
		c.NotBefore, c.NotAfter, c.BasicConstraintsValid = from, until, true
		der, err := x509.CreateCertificate(rand.Reader, c, by, testKeys()[key].Public(), testKeys()[caKey])
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	p.ca = issue(ca, ca, caKey)
	p.cert = issue(&x509.Certificate{
		SerialNumber: big.NewInt(42), Subject: pkix.Name{CommonName: "vpn"}, DNSNames: []string{"vpn.example.net"}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, p.ca, 1)
	p.client = issue(&x509.Certificate{
		SerialNumber: big.NewInt(43), Subject: pkix.Name{CommonName: "pc"}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, p.ca, 1)
	p.write(t, "client.pem", "CERTIFICATE", p.client.Raw)
	p.write(t, "ca.pem", "CERTIFICATE", p.ca.Raw)
	p.write(t, "vpn.pem", "CERTIFICATE", p.cert.Raw)
	p.write(t, "vpn.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(testKeys()[1]))
	p.write(t, "other.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(testKeys()[0]))
	return p
}

func (p testPKI) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(p.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p testPKI) file(name string) string { return filepath.Join(p.dir, name) }

// config is that of a router with the certificate.
func (p testPKI) config(warn time.Duration) config.Certificates {
	return config.Certificates{
		Authorities: []string{p.file("ca.pem")}, ExpiryWarning: warn,
		Own: []config.OwnCertificate{{Name: "vpn", Certificate: p.file("vpn.pem"), Key: p.file("vpn.key")}},
	}
}

// store is that of one side.
func (p testPKI) store(t *testing.T, name, file string, lists ...string) *pki.Store {
	t.Helper()
	s, err := pki.Load(pki.Config{
		Authorities: []string{p.file("ca.pem")}, Own: []pki.Own{{Name: name, Certificate: p.file(file), Key: p.file("vpn.key")}}, CRLFiles: lists,
	}, simStart)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// revoke makes a revocation list.
func (p testPKI) revoke(t *testing.T, number int64, from time.Time, serials ...*big.Int) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: from, NextUpdate: from.Add(24 * time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: from})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, p.ca, testKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// peer is the question whether a peer with the certificate is who it says.
func (p testPKI) peer(t *testing.T, digest []byte) ike.VerifyPeer {
	t.Helper()
	signature, err := rsa.SignPKCS1v15(rand.Reader, testKeys()[1], 0, digest)
	if err != nil {
		t.Fatal(err)
	}
	return ike.VerifyPeer{Job: 7, Certs: [][]byte{p.cert.Raw}, Digest: digest, Signature: signature, ID: append([]byte{9, 0, 0, 0}, p.cert.RawSubject...)}
}

// TestSignAndVerify: what our key signs is what our certificate verifies, and every failure has
// a reason.
func TestSignAndVerify(t *testing.T) {
	now := time.Now()
	p := newTestPKI(t, now.Add(-time.Hour), now.Add(time.Hour))
	c := &config.Config{Routers: []*config.Router{{Name: "red", File: "vr/red.yaml", Certificates: p.config(0)}}}
	stores, err := loadCertificates(c, now)
	if err != nil {
		t.Fatal(err)
	}
	digest := bytes.Repeat([]byte{7}, 20)
	signed := sign(stores[0], ike.Sign{Job: 3, Credential: "vpn", Digest: digest})
	if signed.Job != 3 || signed.Err != "" {
		t.Fatalf("signed %+v", signed)
	}
	f := p.peer(t, digest)
	f.Signature = signed.Signature
	if got := verify(stores[0], now, f); got != (ike.PeerVerified{Job: 7, Subject: "CN=vpn"}) {
		t.Errorf("verified %+v", got)
	}
	if got := sign(stores[0], ike.Sign{Credential: "none", Digest: digest}); got.Err == "" || got.Signature != nil {
		t.Errorf("signed with no certificate: %+v", got)
	}
	for name, want := range map[string]struct {
		spoil  func(f *ike.VerifyPeer)
		at     time.Time
		reason pki.Reason
	}{
		"another signature": {func(f *ike.VerifyPeer) { f.Signature[9] ^= 1 }, now, pki.ReasonSignature},
		"another identity":  {func(f *ike.VerifyPeer) { f.ID = append([]byte{2, 0, 0, 0}, "else.example.net"...) }, now, pki.ReasonIdentity},
		"no certificate":    {func(f *ike.VerifyPeer) { f.Certs = nil }, now, pki.ReasonNoCertificate},
		"expired":           {func(*ike.VerifyPeer) {}, now.Add(2 * time.Hour), pki.ReasonExpired},
	} {
		f := p.peer(t, digest)
		want.spoil(&f)
		if got := verify(stores[0], want.at, f); got.Reason != ike.Reason(want.reason) || got.Text == "" || got.Subject != "" || got.Job != 7 {
			t.Errorf("%s: %+v, want %s", name, got, want.reason)
		}
	}
}

// TestCheckCertificates: every mistake of every virtual router in a line of its own, and what
// ends soon is a warning.
func TestCheckCertificates(t *testing.T) {
	now := time.Now()
	p := newTestPKI(t, now.Add(-time.Hour), now.Add(10*24*time.Hour))
	red, blue := &config.Router{Name: "red", File: "vr/red.yaml"}, &config.Router{Name: "blue", File: "vr/blue.yaml"}
	c := &config.Config{Routers: []*config.Router{blue, red}}
	blue.Certificates, red.Certificates = p.config(30*24*time.Hour), p.config(24*time.Hour)
	warnings, err := CheckCertificates(c, now)
	if err != nil || len(warnings) != 2 || !strings.HasPrefix(warnings[0], "vr/blue.yaml: warning: ") || !strings.Contains(warnings[0], "CN=vpn") || !strings.Contains(warnings[1], "CN=Test CA") {
		t.Errorf("%q, %v", warnings, err)
	}
	blue.Certificates.Own[0].Key = p.file("other.key")
	red.Certificates.Authorities = append(red.Certificates.Authorities, p.file("vpn.key"))
	red.Certificates.Revocation.Files = []string{p.file("none.crl")}
	var bad *CertificateError
	if _, err = CheckCertificates(c, now); !errors.As(err, &bad) {
		t.Fatalf("%v", err)
	}
	lines := strings.Split(bad.Error(), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q", lines)
	}
	for i, want := range []string{"vr/blue.yaml: certificate \"vpn\": ", "vr/red.yaml: " + p.file("vpn.key"), "vr/red.yaml: " + p.file("none.crl")} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("%q, want %q", lines[i], want)
		}
	}
	if _, err := New(c, nil, nil, zap.NewNop()); !errors.As(err, &bad) {
		t.Errorf("New: %v", err)
	}
}

// keeper is a router with certificates and nothing else.
func keeper(t *testing.T, c config.Certificates) (*router, *observer.ObservedLogs) {
	t.Helper()
	cfg := &config.Config{Routers: []*config.Router{{Name: "red", File: "vr/red.yaml", Certificates: c}}}
	cfg.Process.StateDir = t.TempDir()
	stores, err := loadCertificates(cfg, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	return newRouter(cfg.Routers[0], machineConfig{}, nil, nil, stores[0], zap.New(core), nil), logs
}

// TestExpiryWarnings: what ends soon is logged at the start and every day.
func TestExpiryWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		p := newTestPKI(t, now.Add(-time.Hour), now.Add(40*24*time.Hour))
		r, logs := keeper(t, p.config(38*24*time.Hour+time.Hour))
		ctx, stop := context.WithCancel(context.Background())
		keeping := &Process{life: &life{ctx: ctx, keepers: map[*router]context.CancelFunc{}}}
		keeping.keep(r)
		count := func() int { return logs.FilterField(zap.String("reason", string(pki.WarningExpiring))).Len() }
		state := func() string {
			return certificateState(r.certs().Items()[0], time.Now(), r.cfg().Certificates.ExpiryWarning)
		}
		for day, want := range []int{0, 0, 2, 4} { // the certificate and its authority
			time.Sleep(time.Minute)
			if got := count(); got != want {
				t.Errorf("day %d: %d warnings, want %d", day, got, want)
			}
			if got := state(); (got == "expiring") != (want > 0) {
				t.Errorf("day %d: shown as %s", day, got)
			}
			time.Sleep(24*time.Hour - time.Minute)
		}
		time.Sleep(40 * 24 * time.Hour)
		if got := state(); got != "expired" || logs.FilterField(zap.String("reason", string(pki.WarningExpired))).Len() == 0 {
			t.Errorf("after its end shown as %s", got)
		}
		stop()
		keeping.life.background.Wait()
	})
}

// TestRevocationFetched: a list is fetched, a newer one takes its place, and one that cannot be
// had leaves the one there.
func TestRevocationFetched(t *testing.T) {
	now := time.Now()
	p := newTestPKI(t, now.Add(-2*time.Hour), now.Add(time.Hour))
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if body == nil {
			http.Error(w, "gone fishing", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(body)
	}))
	defer server.Close()
	c := p.config(0)
	c.Revocation = config.Revocation{URLs: []string{server.URL}, Refresh: time.Hour}
	r, logs := keeper(t, c)
	crl := func(state string, revoked int, reason pki.Reason) {
		t.Helper()
		items := r.certs().Items()
		last := items[len(items)-1]
		if got := certificateState(last, now, 0); last.Kind != pki.ItemCRL || got != state || last.Revoked != revoked {
			t.Errorf("%+v is %s, want %s with %d", last, got, state, revoked)
		}
		if got := verify(r.certs(), now, p.peer(t, bytes.Repeat([]byte{1}, 32))); got.Reason != ike.Reason(reason) {
			t.Errorf("the peer: %+v, want %q", got, reason)
		}
	}
	ctx := context.Background()
	crl("missing", 0, "")
	r.refetch(ctx, server.Client(), r.certs())
	if n := logs.FilterField(zap.String("reason", "crl-not-fetched")).Len(); n != 1 {
		t.Errorf("%d lines about a list that could not be fetched", n)
	}
	crl("missing", 0, "")
	body = p.revoke(t, 1, now.Add(-time.Hour))
	r.refetch(ctx, server.Client(), r.certs())
	crl("good", 0, "")
	body = p.revoke(t, 2, now.Add(-time.Minute), p.cert.SerialNumber)
	r.refetch(ctx, server.Client(), r.certs())
	crl("good", 1, pki.ReasonRevoked)
	body = nil
	r.refetch(ctx, server.Client(), r.certs())
	crl("good", 1, pki.ReasonRevoked)
}
