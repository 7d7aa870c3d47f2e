package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// crlSet is all that is known of revoked certificates at one time. Only the last signer of
// a list changes.
type crlSet struct{ sources []crlSource }

// crlSource is where a list comes from. list is nil until it was read or fetched.
type crlSource struct {
	from   string
	remote bool
	list   *crl
}

// crl is a revocation list (RFC 5280 section 5).
type crl struct {
	list *x509.RevocationList // without its entries
	// serials has the big-endian serial numbers that are revoked.
	serials map[string]struct{}
	scope   scope
	// signer is the certificate with which the signature was checked last. Intermediate
	// authorities come with the peers, so it cannot be checked once for all.
	signer atomic.Pointer[x509.Certificate]
}

// scope is the issuing distribution point of a list (RFC 5280 section 5.2.5): of which
// certificates it would say that they are revoked.
type scope struct {
	usersOnly, authoritiesOnly bool
	// points are the URLs of a list that is one of several of its issuer.
	points []string
}

// Extensions of revocation lists.
var (
	oidDeltaIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistribution   = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// readCRL reads a revocation list from a file.
func readCRL(file string) (*crl, error) {
	data, _, err := readFile(file, MaxCRLSize)
	if err != nil {
		return nil, err
	}
	c, err := parseCRL(data)
	if err != nil {
		return nil, fileError(file, "%w", err)
	}
	return c, nil
}

// parseCRL parses a list in PEM or DER. Its signature is not checked. A list with a critical
// extension that is not understood here must not be used (RFC 5280 section 5.2).
func parseCRL(data []byte) (*crl, error) {
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("holds %q in PEM but should hold a revocation list", printable(block.Type))
		}
		data = block.Bytes
	}
	list, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("is not a revocation list: %s", printable(err.Error()))
	}
	c := &crl{list: list, serials: make(map[string]struct{}, len(list.RevokedCertificateEntries))}
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidDeltaIndicator):
			return nil, errors.New("is a delta to another revocation list; a full one is needed")
		case e.Id.Equal(oidDistribution):
			if c.scope, err = parseScope(e.Value); err != nil {
				return nil, err
			}
		case e.Critical:
			return nil, fmt.Errorf("has the critical extension %v, which is not known here", e.Id)
		}
	}
	for _, r := range list.RevokedCertificateEntries {
		c.serials[string(r.SerialNumber.Bytes())] = struct{}{}
	}
	// The entries are the bulk of it, and needed in this form no more.
	list.RevokedCertificateEntries = nil
	//lint:ignore SA1019 the parser still fills it, with as much again
	list.RevokedCertificates = nil
	return c, nil
}

// parseScope parses
//
//	IssuingDistributionPoint ::= SEQUENCE {
//	    distributionPoint          [0] { fullName [0] GeneralNames, ... } OPTIONAL,
//	    onlyContainsUserCerts      [1] BOOLEAN DEFAULT FALSE,
//	    onlyContainsCACerts        [2] BOOLEAN DEFAULT FALSE,
//	    onlySomeReasons            [3] ReasonFlags OPTIONAL,
//	    indirectCRL                [4] BOOLEAN DEFAULT FALSE,
//	    onlyContainsAttributeCerts [5] BOOLEAN DEFAULT FALSE }
//
// Lists for other issuers, for some reasons or for attribute certificates are not used.
func parseScope(der []byte) (scope, error) {
	bad := errors.New("has a malformed distribution point")
	in, seq := cryptobyte.String(der), cryptobyte.String(nil)
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return scope{}, bad
	}
	var s scope
	var point cryptobyte.String
	var named bool
	if !seq.ReadOptionalASN1(&point, &named, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return scope{}, bad
	}
	if named {
		var full cryptobyte.String
		if !point.ReadASN1(&full, cbasn1.Tag(0).ContextSpecific().Constructed()) {
			return scope{}, errors.New("has a distribution point without URL")
		}
		const uri = cbasn1.Tag(6 | 0x80) // uniformResourceIdentifier [6]
		for !full.Empty() {
			var name cryptobyte.String
			var tag cbasn1.Tag
			if !full.ReadAnyASN1(&name, &tag) {
				return scope{}, bad
			}
			if tag == uri {
				s.points = append(s.points, string(name))
			}
		}
		if len(s.points) == 0 {
			return scope{}, errors.New("has a distribution point without URL")
		}
	}
	for !seq.Empty() {
		var value cryptobyte.String
		var tag cbasn1.Tag
		if !seq.ReadAnyASN1(&value, &tag) {
			return scope{}, bad
		}
		set := len(value) == 1 && value[0] != 0
		switch tag {
		case cbasn1.Tag(1).ContextSpecific():
			s.usersOnly = set
		case cbasn1.Tag(2).ContextSpecific():
			s.authoritiesOnly = set
		default:
			if set || tag == cbasn1.Tag(3).ContextSpecific() {
				return scope{}, errors.New("is a revocation list for other issuers, for some reasons or for attribute certificates only")
			}
		}
	}
	return s, nil
}

// covers says whether the list would name the certificate if it were revoked.
func (s scope) covers(c *x509.Certificate) bool {
	if s.usersOnly && c.IsCA || s.authoritiesOnly && !c.IsCA {
		return false
	}
	return len(s.points) == 0 || slices.ContainsFunc(s.points, func(p string) bool { return slices.Contains(c.CRLDistributionPoints, p) })
}

// signedBy says whether the issuer made the list.
func (c *crl) signedBy(issuer *x509.Certificate) bool {
	if last := c.signer.Load(); last != nil && last.Equal(issuer) {
		return true
	}
	if !bytes.Equal(c.list.RawIssuer, issuer.RawSubject) && !sameName(c.list.RawIssuer, issuer.RawSubject) || c.list.CheckSignatureFrom(issuer) != nil {
		return false
	}
	c.signer.Store(issuer)
	return true
}

// stale says whether there should be a newer list by now. One that names no date for that
// stays.
func (c *crl) stale(now time.Time) bool {
	return !c.list.NextUpdate.IsZero() && now.After(c.list.NextUpdate)
}

// revocation is what is known of a certificate.
type revocation uint8

const (
	unknown revocation = iota // no list of its issuer covers it
	good
	stale // not revoked by a list that is past its next update
	revoked
)

// state says whether issuer has revoked cert, and which list says so. A fresh list decides; a
// stale one counts where there is no fresh one.
func (s *crlSet) state(cert, issuer *x509.Certificate, now time.Time) (revocation, string) {
	best, from := unknown, ""
	for _, old := range []bool{false, true} {
		if best == good {
			break
		}
		for _, src := range s.sources {
			if src.list == nil || src.list.stale(now) != old || !src.list.signedBy(issuer) {
				continue
			}
			if _, listed := src.list.serials[string(cert.SerialNumber.Bytes())]; listed {
				return revoked, src.from
			}
			if src.list.scope.covers(cert) && best == unknown {
				if best, from = good, src.from; old {
					best = stale
				}
			}
		}
	}
	return best, from
}
