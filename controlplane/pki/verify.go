package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/isakmp"
)

func refuse(r Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// Verify decides whether the peer is who it says: its certificate is one that an authority of
// ours answers for at that time, which must not be the zero Time, it may be used for this,
// nobody has revoked it, it has the identity that the peer claims, and its key made the
// signature. It returns the subject in words, which is printable and short. The error is a
// [*Refusal], always.
//
// Everything in p comes from a peer that has proved nothing yet: sizes and numbers are bounded
// before anything is computed with them, and nothing of p is kept.
func (s *Store) Verify(now time.Time, p Peer) (subject string, err error) {
	certs, refusal := parsePeer(p)
	if refusal != nil {
		return "", refusal
	}
	leaf := certs[0]
	for _, step := range []func() *Refusal{
		func() *Refusal { return checkUsage(leaf) },
		func() *Refusal { return s.checkChain(now, certs) },
		func() *Refusal { return checkIdentity(leaf, p.ID) },
		func() *Refusal { return checkSignature(leaf, p) },
	} {
		if refusal := step(); refusal != nil {
			return "", refusal
		}
	}
	return words(leaf.RawSubject), nil
}

// parsePeer parses what the peer sent as far as it can be used. The first certificate is the
// peer's and has an RSA key of a size that we compute with.
func parsePeer(p Peer) ([]*x509.Certificate, *Refusal) {
	switch {
	case len(p.Certs) == 0:
		return nil, refuse(ReasonNoCertificate, "the peer sent no certificate")
	case len(p.Certs) > MaxCerts:
		return nil, refuse(ReasonMalformed, "the peer sent %d certificates, at most %d are taken", len(p.Certs), MaxCerts)
	}
	var certs []*x509.Certificate
	for i, der := range p.Certs {
		if len(der) > MaxCertSize {
			return nil, refuse(ReasonMalformed, "certificate %d of the peer has %d bytes, at most %d are taken", i+1, len(der), MaxCertSize)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			if i > 0 {
				continue // some clients send all they have; the chain decides what was needed
			}
			return nil, refuse(ReasonMalformed, "the peer's certificate cannot be read: %s", printable(err.Error()))
		}
		if pub, ok := cert.PublicKey.(*rsa.PublicKey); ok && pub.N.BitLen() > MaxKeyBits {
			return nil, refuse(ReasonMalformed, "certificate %d of the peer has an RSA key of %d bits, at most %d are taken", i+1, pub.N.BitLen(), MaxKeyBits)
		}
		certs = append(certs, cert)
	}
	leaf := certs[0]
	pub, ok := leaf.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, refuse(ReasonUsage, "the certificate of %s has a key of type %v, but the method is RSA signatures", words(leaf.RawSubject), leaf.PublicKeyAlgorithm)
	}
	if bits := pub.N.BitLen(); bits < MinKeyBits {
		return nil, refuse(ReasonUsage, "the certificate of %s has a key of only %d bits, at least %d are needed", words(leaf.RawSubject), bits, MinKeyBits)
	}
	return certs, nil
}

// Extended key usages that Go's library has no name for.
var (
	// oidIKE is id-kp-ipsecIKE (RFC 4945 section 5.1.3.12).
	oidIKE = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17}
	// oidIKEIntermediate is what Microsoft's and Cisco's authorities write for IKE.
	oidIKEIntermediate = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 8, 2, 2}
)

// checkUsage checks that the certificate was made for something like this.
func checkUsage(leaf *x509.Certificate) *Refusal {
	// RFC 4945 section 5.1.3.2: either of the two bits will do.
	if u := leaf.KeyUsage; u != 0 && u&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return refuse(ReasonUsage, "the key usage of the certificate of %s does not allow signatures", words(leaf.RawSubject))
	}
	if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		return nil
	}
	for _, u := range leaf.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageAny, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth,
			x509.ExtKeyUsageIPSECEndSystem, x509.ExtKeyUsageIPSECTunnel, x509.ExtKeyUsageIPSECUser:
			return nil
		}
	}
	if slices.ContainsFunc(leaf.UnknownExtKeyUsage, func(o asn1.ObjectIdentifier) bool { return o.Equal(oidIKE) || o.Equal(oidIKEIntermediate) }) {
		return nil
	}
	return refuse(ReasonUsage, "the extended key usage of the certificate of %s has neither IKE nor TLS", words(leaf.RawSubject))
}

// checkChain finds a way from the peer's certificate to an authority on which nothing is
// expired or revoked.
func (s *Store) checkChain(now time.Time, certs []*x509.Certificate) *Refusal {
	leaf := certs[0]
	// The peer's own dates first, so that an expired certificate is called that although
	// its authority is gone by now too.
	if refusal := validAt(leaf, now); refusal != nil {
		return refusal
	}
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			if refusal := validAt(invalid.Cert, now); refusal != nil {
				return refusal
			}
		}
		return refuse(ReasonUntrusted, "no authority answers for the certificate of %s, issued by %s: %s",
			words(leaf.RawSubject), words(leaf.RawIssuer), printable(strings.TrimPrefix(err.Error(), "x509: ")))
	}
	// Several ways exist where an authority is signed by two others; one that is not revoked
	// is enough (RFC 5280 section 6.1).
	var first *Refusal
	for _, chain := range chains {
		refusal := s.checkRevocation(now, chain)
		if refusal == nil {
			return nil
		}
		if first == nil {
			first = refusal
		}
	}
	return first
}

func validAt(c *x509.Certificate, now time.Time) *Refusal {
	switch {
	case now.Before(c.NotBefore):
		return refuse(ReasonExpired, "the certificate of %s is not valid before %s", words(c.RawSubject), c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		return refuse(ReasonExpired, "the certificate of %s expired at %s", words(c.RawSubject), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkRevocation asks for every certificate of the chain but the root.
func (s *Store) checkRevocation(now time.Time, chain []*x509.Certificate) *Refusal {
	set := s.crls.Load()
	for i, cert := range chain[:len(chain)-1] {
		switch state, from := set.state(cert, chain[i+1], now); {
		case state == revoked:
			return refuse(ReasonRevoked, "the certificate of %s is revoked by the list from %s", words(cert.RawSubject), from)
		case state == unknown && s.strict:
			return refuse(ReasonStaleCRL, "there is no revocation list of %s, which issued the certificate of %s", words(cert.RawIssuer), words(cert.RawSubject))
		case state == stale && s.strict:
			return refuse(ReasonStaleCRL, "the revocation list of %s, from %s, is past its next update", words(cert.RawIssuer), from)
		}
	}
	return nil
}

// checkIdentity checks that the certificate has the identity in the identification payload
// (RFC 4945 section 3.1).
func checkIdentity(leaf *x509.Certificate, body []byte) *Refusal {
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: body}.ID()
	if err != nil {
		return refuse(ReasonIdentity, "the peer's identity cannot be read: %s", printable(err.Error()))
	}
	found := false
	switch id.Type {
	case isakmp.IDDERDN:
		found = sameName(leaf.RawSubject, id.Data)
	case isakmp.IDFQDN:
		found = slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return sameDomain(n, string(id.Data)) })
	case isakmp.IDUserFQDN:
		found = slices.ContainsFunc(leaf.EmailAddresses, func(n string) bool { return sameMailbox(n, string(id.Data)) })
	case isakmp.IDIPv4, isakmp.IDIPv6:
		for _, ip := range leaf.IPAddresses {
			found = found || bytes.Equal(ip, id.Data)
		}
	}
	if found {
		return nil
	}
	claimed := id.String()
	if id.Type == isakmp.IDDERDN {
		claimed = words(id.Data)
	}
	return refuse(ReasonIdentity, "the peer calls itself %s, which is neither subject nor alternative name of the certificate of %s",
		printable(claimed), words(leaf.RawSubject))
}

// sameDomain compares domain names without regard to case, "" with nothing.
func sameDomain(a, b string) bool { return a != "" && asciiLower(a) == asciiLower(b) }

// sameMailbox compares the domain without regard to case and the rest byte by byte
// (RFC 5280 section 7.5).
func sameMailbox(a, b string) bool {
	i, j := strings.LastIndexByte(a, '@'), strings.LastIndexByte(b, '@')
	return i > 0 && j > 0 && a[:i] == b[:j] && sameDomain(a[i+1:], b[j+1:])
}

// asciiLower leaves everything but ASCII alone: other letters do not fold in domain names,
// and some fold into ASCII.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// checkSignature checks HASH_I or HASH_R against the signature (RFC 2409 section 5.1).
func checkSignature(leaf *x509.Certificate, p Peer) *Refusal {
	if !digestLen(p.Digest) {
		return refuse(ReasonSignature, "a digest of %d bytes cannot be signed", len(p.Digest))
	}
	if err := rsa.VerifyPKCS1v15(leaf.PublicKey.(*rsa.PublicKey), 0, p.Digest, p.Signature); err != nil {
		return refuse(ReasonSignature, "the signature was not made with the key of the certificate of %s", words(leaf.RawSubject))
	}
	return nil
}
