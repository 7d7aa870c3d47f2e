package topo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Authority is a certification authority, made by openssl as an operator would.
type Authority struct {
	File string // its certificate, PEM
	Key  string // its private key, PEM
	CRL  string // its revocation list, PEM

	dir    string
	issued int
	above  []string // its certificate and those of the authorities above it, but for the root's
}

// Certificate is one that an Authority has issued.
type Certificate struct {
	Name string // common name; the subject is "O=Example, CN=" and the name
	File string // PEM
	Key  string // RSA private key, PEM
	// Above are the certificates of the authorities between it and the root, PEM, the one that has issued it first, and Bundle is
	// a file of the certificate and of them.
	Above  []string
	Bundle string
}

// CertificateOptions say how a certificate differs from a good one.
type CertificateOptions struct {
	SANs  []string // in openssl's notation: "DNS:vpn.example.net", "email:ann@example.net", "IP:192.0.2.2"
	Ended bool     // valid until yesterday
	// KeyOf is a certificate whose key it has too, nil for a new one: making one takes seconds under
	// emulation.
	KeyOf *Certificate
}

// Keys is the environment variable that names a directory of keys which MakeKey has made and nobody else uses.
const Keys = "VRGATE_TEST_KEYS"

// MakeKey makes an RSA private key. It takes seconds under emulation.
func MakeKey(ctx context.Context, file string) error {
	_, err := command(ctx, "openssl", "genrsa", "-traditional", "-out", file, "2048")
	return err
}

// NewKey returns the file of an RSA private key below dir that no other call returns: one of those in $VRGATE_TEST_KEYS
// while there are any, else one that it makes.
func NewKey(ctx context.Context, dir, name string) (string, error) {
	file := filepath.Join(dir, name+".key")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("topo: %w", err)
	}
	if ready := os.Getenv(Keys); ready != "" {
		entries, err := os.ReadDir(ready)
		if err != nil {
			return "", fmt.Errorf("topo: %w", err)
		}
		for _, e := range entries {
			// Only one can move it away.
			if os.Rename(filepath.Join(ready, e.Name()), file) == nil {
				return file, nil
			}
		}
	}
	return file, MakeKey(ctx, file)
}

// NewAuthority makes an authority of this name with its files in dir. The key is a file of NewKey.
func NewAuthority(ctx context.Context, dir, name, key string) (*Authority, error) {
	a, err := prepareAuthority(dir, key)
	if err != nil {
		return nil, err
	}
	_, err = command(ctx, "openssl", "req", "-new", "-x509", "-config", a.settings(), "-extensions", "v3_ca",
		"-key", key, "-days", "30", "-subj", "/O=Example/CN="+name, "-out", a.File)
	if err != nil {
		return nil, err
	}
	return a, a.publish(ctx)
}

// Subordinate makes an authority of this name whose certificate is issued by a. It has a's key, for making one takes seconds under
// emulation.
func (a *Authority) Subordinate(ctx context.Context, name string) (*Authority, error) {
	a.issued++
	s, err := prepareAuthority(filepath.Join(a.dir, fmt.Sprintf("below%d", a.issued)), a.Key)
	if err != nil {
		return nil, err
	}
	request := filepath.Join(s.dir, "ca.csr")
	if _, err := command(ctx, "openssl", "req", "-new", "-config", a.settings(), "-key", a.Key, "-subj", "/O=Example/CN="+name, "-out", request); err != nil {
		return nil, err
	}
	_, err = command(ctx, "openssl", "ca", "-batch", "-notext", "-config", a.settings(), "-extensions", "v3_ca", "-in", request, "-out", s.File)
	if err != nil {
		return nil, err
	}
	s.above = append([]string{s.File}, a.above...)
	return s, s.publish(ctx)
}

// prepareAuthority writes what openssl keeps of an authority, which has no certificate yet.
func prepareAuthority(dir, key string) (*Authority, error) {
	a := &Authority{File: filepath.Join(dir, "ca.pem"), Key: key, CRL: filepath.Join(dir, "ca.crl"), dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	for file, text := range map[string]string{
		"index.txt": "", "index.txt.attr": "unique_subject = no\n", "serial": "1000\n", "crlnumber": "01\n",
		"ca.conf": fmt.Sprintf(authoritySettings, dir, a.File, a.Key),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("topo: %w", err)
		}
	}
	return a, nil
}

// authoritySettings is openssl's configuration of a directory, certificate and key.
const authoritySettings = `[ca]
default_ca = this
[this]
dir = %s
certificate = %s
private_key = %s
database = $dir/index.txt
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir
default_md = sha256
default_days = 10
default_crl_days = 10
policy = anything
copy_extensions = copy
x509_extensions = v3_end
[anything]
organizationName = optional
commonName = supplied
[req]
distinguished_name = none
[none]
[v3_ca]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[v3_end]
keyUsage = digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`

func (a *Authority) settings() string { return filepath.Join(a.dir, "ca.conf") }

// Issue makes a certificate for this common name.
func (a *Authority) Issue(ctx context.Context, name string, o CertificateOptions) (*Certificate, error) {
	a.issued++
	base := filepath.Join(a.dir, fmt.Sprintf("issued%d", a.issued))
	c := &Certificate{Name: name, File: base + ".pem", Bundle: base + ".chain.pem", Above: a.above}
	if o.KeyOf != nil {
		c.Key = o.KeyOf.Key
	} else {
		var err error
		if c.Key, err = NewKey(ctx, a.dir, fmt.Sprintf("issued%d", a.issued)); err != nil {
			return nil, err
		}
	}
	request := []string{"req", "-new", "-config", a.settings(), "-key", c.Key, "-subj", "/O=Example/CN=" + name, "-out", base + ".csr"}
	if len(o.SANs) > 0 {
		request = append(request, "-addext", "subjectAltName="+strings.Join(o.SANs, ","))
	}
	if _, err := command(ctx, "openssl", request...); err != nil {
		return nil, err
	}
	sign := []string{"ca", "-batch", "-notext", "-config", a.settings(), "-in", base + ".csr", "-out", c.File}
	if o.Ended {
		sign = append(sign, "-startdate", "20200101000000Z", "-enddate", "20210101000000Z")
	}
	if _, err := command(ctx, "openssl", sign...); err != nil {
		return nil, err
	}
	return c, c.bundle()
}

// bundle writes the certificate and those above it into one file.
func (c *Certificate) bundle() error {
	var all []byte
	for _, file := range append([]string{c.File}, c.Above...) {
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("topo: %w", err)
		}
		all = append(all, b...)
	}
	if err := os.WriteFile(c.Bundle, all, 0o600); err != nil {
		return fmt.Errorf("topo: %w", err)
	}
	return nil
}

// Revoke puts a certificate on the authority's list.
func (a *Authority) Revoke(ctx context.Context, c *Certificate) error {
	if _, err := command(ctx, "openssl", "ca", "-config", a.settings(), "-revoke", c.File); err != nil {
		return err
	}
	return a.publish(ctx)
}

// publish writes the revocation list anew.
func (a *Authority) publish(ctx context.Context) error {
	_, err := command(ctx, "openssl", "ca", "-config", a.settings(), "-gencrl", "-out", a.CRL)
	return err
}

// round is an authentication by the certificate; id is empty for its subject.
func (c *Certificate) round(id string) round {
	return round{auth: "pubkey", id: id, certs: []string{c.File}}
}

// round demands that the peer has a certificate of the authority, and the identity unless id is empty.
func (a *Authority) round(id string) round {
	r := round{auth: "pubkey", id: id, cacerts: []string{a.File}}
	if id == "" {
		r.id = "%any"
	}
	return r
}
