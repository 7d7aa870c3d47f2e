package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limits on what is read and accepted.
const (
	// MaxCerts is the number of certificates taken from one peer.
	MaxCerts = 8
	// MaxCertSize is the size of one of them in bytes.
	MaxCertSize = 16 << 10
	// MinKeyBits and MaxKeyBits bound RSA keys. The lower end is what Windows XP made; the
	// upper keeps a peer from having us compute for long.
	MinKeyBits = 1024
	MaxKeyBits = 8192
	// MaxFileSize is the size of a certificate or key file in bytes.
	MaxFileSize = 1 << 20
	// MaxCRLSize is the size of a revocation list in bytes, from a file or a server.
	MaxCRLSize = 16 << 20
	// MaxCRLs is the number of revocation lists, files and URLs together.
	MaxCRLs = 64
)

// Config says what a [Store] is made of. Paths are used as they are.
type Config struct {
	// Authorities are files of trusted certificates: PEM, or one DER certificate each.
	Authorities []string
	// Own are our certificates; names are unique.
	Own []Own
	// CRLFiles and CRLURLs are revocation lists, PEM or DER, at most [MaxCRLs] together.
	// URLs are http.
	CRLFiles, CRLURLs []string
	// Refresh is how often CRLURLs should be fetched. The store has no clock: whoever owns
	// it calls [Store.Refetch].
	Refresh time.Duration
	// Strict refuses peers whose issuer has no CRL, or one that is past its next update.
	Strict bool
	// CacheDir is where fetched lists are kept over a restart, "" for nowhere. It is made
	// if it does not exist.
	CacheDir string
}

// Own is a certificate of ours with its private key: two PEM files, or one PKCS #12 file.
type Own struct {
	Name string
	// Certificate holds the certificate and, after it, its chain; Key the private key.
	Certificate, Key string
	// PKCS12 holds both, encrypted with Password.
	PKCS12   string
	Password Password
}

// Password is the password of a PKCS #12 file. It prints as [redacted].
type Password []byte

const redacted = "[redacted]"

// String returns "[redacted]".
func (p Password) String() string { return redacted }

// GoString returns "[redacted]".
func (p Password) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (p Password) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]".
func (p Password) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Store holds the certificates of one virtual router. It is safe for concurrent use.
type Store struct {
	authorities []authority
	roots       *x509.CertPool
	own         []own // by ascending name
	refresh     time.Duration
	strict      bool
	cache       string

	// crls is replaced as a whole.
	crls atomic.Pointer[crlSet]
	// fetching keeps two refetches from undoing each other.
	fetching sync.Mutex
}

// authority is a trusted certificate and the file that it came from.
type authority struct {
	cert *x509.Certificate
	file string
}

// own is a certificate of ours.
type own struct {
	name  string
	chain []*x509.Certificate // ours first, then its issuers, without a root
	key   *rsa.PrivateKey
	// keyFile is readable by every local user if exposed.
	keyFile string
	exposed bool
}

// Format writes the name alone: package fmt would print the private key.
func (o own) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "certificate %q", o.name) }

// Format writes what the store holds in numbers: package fmt would print private keys.
func (s *Store) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "store of %d certificates and %d authorities", len(s.own), len(s.authorities))
}

// Load reads the files of a configuration, and fetched revocation lists that CacheDir has. The
// error joins every mistake; each names its file. What is expired, or not yet valid, is no
// mistake, since it says nothing about tomorrow: see [Store.Warnings].
func Load(c Config, now time.Time) (*Store, error) {
	s := &Store{roots: x509.NewCertPool(), refresh: c.Refresh, strict: c.Strict, cache: c.CacheDir}
	var errs []error
	fail := func(err error) { errs = append(errs, err) }
	for _, file := range c.Authorities {
		certs, err := readCerts(file)
		if err != nil {
			fail(err)
			continue
		}
		for _, cert := range certs {
			if slices.ContainsFunc(s.authorities, func(a authority) bool { return a.cert.Equal(cert) }) {
				continue
			}
			s.authorities = append(s.authorities, authority{cert, file})
			s.roots.AddCert(cert)
		}
	}
	for _, o := range c.Own {
		if slices.ContainsFunc(s.own, func(p own) bool { return p.name == o.Name }) {
			fail(fmt.Errorf("certificate %q is there twice", o.Name))
			continue
		}
		loaded, err := loadOwn(o)
		if err != nil {
			fail(fmt.Errorf("certificate %q: %w", o.Name, err))
			continue
		}
		s.own = append(s.own, loaded)
	}
	slices.SortFunc(s.own, func(a, b own) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })

	if n := len(c.CRLFiles) + len(c.CRLURLs); n > MaxCRLs {
		fail(fmt.Errorf("there are %d revocation lists but may be at most %d", n, MaxCRLs))
		return nil, errors.Join(errs...)
	}
	set := &crlSet{}
	for _, file := range c.CRLFiles {
		list, err := readCRL(file)
		if err != nil {
			fail(err)
		}
		set.sources = append(set.sources, crlSource{from: file, list: list})
	}
	for _, u := range c.CRLURLs {
		if p, err := url.Parse(u); err != nil || p.Scheme != "http" || p.Host == "" {
			fail(fmt.Errorf("%q is not the http URL of a revocation list", u))
			continue
		}
		// A list that cannot be read is one that has to be fetched again.
		list, _ := readCRL(cacheFile(c.CacheDir, u))
		set.sources = append(set.sources, crlSource{from: u, remote: true, list: list})
	}
	s.crls.Store(set)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// Credential is what may be told about a certificate of ours.
type Credential struct {
	Name string
	// Chain is DER: our certificate first, then its issuers as far as files have them,
	// without the root.
	Chain [][]byte
	// Subject is the DER name of our certificate, Issuers are those of all issuers above it, up
	// to the root: what a peer's certificate request may name.
	Subject []byte
	Issuers [][]byte
	// NotAfter is when our certificate expires.
	NotAfter time.Time
}

// Credentials returns our certificates by ascending name.
func (s *Store) Credentials() []Credential {
	out := make([]Credential, len(s.own))
	for i, o := range s.own {
		c := Credential{Name: o.name, Subject: bytes.Clone(o.chain[0].RawSubject), NotAfter: o.chain[0].NotAfter}
		for _, cert := range o.chain {
			c.Chain = append(c.Chain, bytes.Clone(cert.Raw))
		}
		for _, cert := range s.above(o.chain) {
			c.Issuers = appendName(c.Issuers, cert.RawIssuer)
		}
		out[i] = c
	}
	return out
}

// above returns the chain with the authorities over it.
func (s *Store) above(chain []*x509.Certificate) []*x509.Certificate {
	out := slices.Clone(chain)
	for len(out) <= len(chain)+len(s.authorities) {
		last := out[len(out)-1]
		i := slices.IndexFunc(s.authorities, func(a authority) bool {
			return bytes.Equal(a.cert.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(a.cert) == nil
		})
		if i < 0 || s.authorities[i].cert.Equal(last) {
			break
		}
		out = append(out, s.authorities[i].cert)
	}
	return out
}

// AuthorityNames returns the DER names of the authorities, for certificate requests.
func (s *Store) AuthorityNames() [][]byte {
	var out [][]byte
	for _, a := range s.authorities {
		out = appendName(out, a.cert.RawSubject)
	}
	return out
}

func appendName(names [][]byte, name []byte) [][]byte {
	if slices.ContainsFunc(names, func(n []byte) bool { return bytes.Equal(n, name) }) {
		return names
	}
	return append(names, bytes.Clone(name))
}

// Refresh is how often [Store.Refetch] should be called, 0 for never because there is
// nothing to fetch.
func (s *Store) Refresh() time.Duration {
	if !slices.ContainsFunc(s.crls.Load().sources, func(c crlSource) bool { return c.remote }) {
		return 0
	}
	return s.refresh
}

// Sign makes the signature of RFC 2409 section 5.1 with the key of our certificate of that name:
// PKCS #1 v1.5 over the digest as it is, 16 to 64 bytes, without the name of the hash.
func (s *Store) Sign(name string, digest []byte) ([]byte, error) {
	i, ok := slices.BinarySearchFunc(s.own, name, func(o own, name string) int { return bytes.Compare([]byte(o.name), []byte(name)) })
	if !ok {
		return nil, fmt.Errorf("there is no certificate %q", name)
	}
	if !digestLen(digest) {
		return nil, fmt.Errorf("a digest of %d bytes is not one of IKE's", len(digest))
	}
	return rsa.SignPKCS1v15(rand.Reader, s.own[i].key, 0, digest)
}

// digestLen says whether the digest is as long as MD5's up to SHA-512's.
func digestLen(d []byte) bool { return len(d) >= 16 && len(d) <= 64 }
