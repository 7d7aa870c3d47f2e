package pki

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOpenSSL does what people do: an authority, certificates, a PKCS #12 file and a
// revocation list by openssl's command line.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("alice.ext", "subjectAltName=email:alice@example.net,DNS:alice.example.net,IP:192.0.2.7\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n")
	write("ca.cnf", "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=7\n")
	write("index.txt", "")
	write("crlnumber", "01\n")
	run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/C=DE/O=Example AG/CN=Root", "-keyout", "ca.key", "-out", "ca.pem")
	for _, name := range []string{"alice", "gateway"} {
		run("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/C=DE/O=Example AG/CN="+name, "-keyout", name+".key", "-out", name+".csr")
		run("x509", "-req", "-in", name+".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "7", "-extfile", "alice.ext", "-out", name+".pem")
	}
	run("pkcs12", "-export", "-in", "gateway.pem", "-inkey", "gateway.key", "-certfile", "ca.pem", "-passout", "pass:a word", "-out", "gateway.p12")
	run("rsa", "-in", "alice.key", "-traditional", "-out", "alice.pkcs1")
	run("ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-gencrl", "-out", "empty.crl")
	run("ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-revoke", "alice.pem")
	run("ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-gencrl", "-out", "alice.crl")

	now := time.Now().Add(time.Minute) // openssl's certificates begin now
	config := Config{
		Authorities: []string{in("ca.pem")}, CRLFiles: []string{in("empty.crl")}, Strict: true,
		Own: []Own{
			{Name: "gateway", PKCS12: in("gateway.p12"), Password: Password("a word")},
			{Name: "alice", Certificate: in("alice.pem"), Key: in("alice.pkcs1")},
			{Name: "alice8", Certificate: in("alice.pem"), Key: in("alice.key")},
		},
	}
	s, err := Load(config, now)
	if err != nil {
		t.Fatal(err)
	}
	peer := map[string]Peer{}
	for _, c := range s.Credentials() {
		sig, err := s.Sign(c.Name, digest)
		if err != nil {
			t.Fatal(err)
		}
		peer[c.Name] = Peer{Certs: c.Chain, Digest: digest, Signature: sig, ID: append([]byte{9, 0, 0, 0}, c.Subject...)}
	}
	for name, p := range peer {
		subject, err := s.Verify(now, p)
		if want := "CN=" + strings.TrimSuffix(name, "8") + ",O=Example AG,C=DE"; err != nil || subject != want {
			t.Errorf("%s is %q, %v; want %q", name, subject, err, want)
		}
		for id, want := range map[string]Reason{
			"\x02\x00\x00\x00alice.example.net": "", "\x03\x00\x00\x00alice@example.net": "", "\x01\x00\x00\x00\xc0\x00\x02\x07": "",
			"\x02\x00\x00\x00bob.example.net": ReasonIdentity,
		} {
			p.ID = []byte(id)
			if _, err := s.Verify(now, p); refusedFor(t, err) != want {
				t.Errorf("%s as %q: %v", name, id, err)
			}
		}
	}
	config.CRLFiles = []string{in("alice.crl")}
	if s, err = Load(config, now); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(now, peer["alice"]); refusedFor(t, err) != ReasonRevoked {
		t.Errorf("alice is revoked: %v", err)
	}
	if _, err := s.Verify(now, peer["gateway"]); err != nil {
		t.Errorf("gateway: %v", err)
	}
	if _, err := s.Verify(now.AddDate(0, 0, 8), peer["gateway"]); refusedFor(t, err) != ReasonExpired {
		t.Errorf("a week later: %v", err)
	}
}

// TestExampleScript loads what the script of the example makes, and what it gives to a client.
func TestExampleScript(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	script, err := filepath.Abs("../../deploy/examples/remote-access/certificates.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for range 2 { // again changes nothing but the list
		cmd := exec.Command("sh", script, "alice")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	in := func(name string) string { return filepath.Join(dir, "pki", name) }
	now := time.Now().Add(time.Minute)
	s, err := Load(Config{
		Authorities: []string{in("ca.pem")}, CRLFiles: []string{in("ca.crl")}, Strict: true,
		Own: []Own{
			{Name: "gateway", Certificate: in("gateway.pem"), Key: in("gateway.key")},
			{Name: "alice", PKCS12: in("alice.p12"), Password: Password("change me")},
		},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	if w := s.Warnings(now, 24*time.Hour); len(w) > 0 {
		t.Errorf("warnings %+v", w)
	}
	for _, c := range s.Credentials() {
		sig, err := s.Sign(c.Name, digest)
		if err != nil {
			t.Fatal(err)
		}
		p := Peer{Certs: c.Chain, Digest: digest, Signature: sig, ID: append([]byte{9, 0, 0, 0}, c.Subject...)}
		if subject, err := s.Verify(now, p); err != nil || subject != "CN="+c.Name+",O=Example" {
			t.Errorf("%s: %q, %v", c.Name, subject, err)
		}
	}
}
