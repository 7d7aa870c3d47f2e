package controlplane_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sitePKI writes an authority, and a certificate for each name, all with one key, and returns their directory.
func sitePKI(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issue := func(serial int64, name string, authority *x509.Certificate) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<31, 0), BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if authority == nil {
			c.IsCA, c.KeyUsage, authority = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, authority, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		return parsed
	}
	ca := issue(1, "ca", nil)
	for i, name := range names {
		issue(int64(i+2), name, ca)
	}
	write("key.pem", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	return dir
}

// TestSiteCertificates: a tunnel by certificates comes up in main and in aggressive mode, whoever begins, and one with the wrong name
// does not.
func TestSiteCertificates(t *testing.T) {
	dir := sitePKI(t, "west", "east", "mallory")
	certified := func(files map[string]string, name, us, them string) map[string]string {
		text := strings.Replace(files["vr/"+name+".yaml"], "    pre-shared-key: {key: "+testKey+"}\n", "    certificate: own\n    peer-id: \"dn:CN="+them+"\"\n", 1)
		files["vr/"+name+".yaml"] = text + "ipsec:\n  certificates: {authorities: [" + dir + "/ca.pem], own: [{name: own, certificate: " + dir + "/" + us + ".pem, key: " + dir + "/key.pem}]}\n" +
			"  ike-policy-rules: [{priority: 1, authentication: rsa, aggressive-mode: accepted, encryption: [aes256], hash: [sha256], group: [modp2048]}]\n"
		return files
	}
	for _, c := range []struct{ name, caller, aggressive, east, want string }{
		{"main mode", "west", "false", "east", "up"}, {"aggressive mode", "west", "true", "east", "up"}, {"the other side", "east", "false", "east", "up"},
		{"another's certificate", "west", "false", "mallory", "waiting: identity-refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := map[bool]string{true: "start: nailed-up", false: "start: respond"}
				_, w, e := twoSites(t, certified(westFiles(start[c.caller == "west"], "aggressive-mode: "+c.aggressive), "west", "west", "east"),
					certified(eastFiles(start[c.caller == "east"]), "east", c.east, "west"))
				w.assertState("west", "hq", c.want, time.Minute)
				if c.want == "up" {
					assertPing(t, w, e)
				}
				finishSites(t, w, e)
			})
		})
	}
}
