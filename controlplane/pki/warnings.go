package pki

import (
	"crypto/x509"
	"fmt"
	"time"
)

// WarningKind is what an operator is warned of, the same in log, API and metric.
type WarningKind string

// Kinds of warning.
const (
	WarningExpiring   WarningKind = "certificate-expiring"
	WarningExpired    WarningKind = "certificate-expired" // or not valid yet
	WarningStaleCRL   WarningKind = "crl-stale"
	WarningMissingCRL WarningKind = "crl-missing"
	WarningExposedKey WarningKind = "private-key-exposed"
)

// Warning is something that works now but will not for long, or works less than it should.
type Warning struct {
	Kind WarningKind
	// Name is the certificate's name if it is one of ours, the file of an authority, or
	// the source of a revocation list.
	Name string
	// At is when it ends or ended; zero where that has no meaning.
	At   time.Time
	Text string // a sentence for the operator
}

// Warnings returns what is to be said at that time: certificates of ours or of authorities
// that are expired or will be within that time, revocation lists that are stale or not there,
// and private keys that every local user can read. The order is always the same.
func (s *Store) Warnings(now time.Time, within time.Duration) []Warning {
	var out []Warning
	add := func(k WarningKind, name string, at time.Time, format string, args ...any) {
		out = append(out, Warning{k, name, at, fmt.Sprintf(format, args...)})
	}
	expiry := func(what, name string, c *x509.Certificate) {
		switch {
		case now.After(c.NotAfter):
			add(WarningExpired, name, c.NotAfter, "%s, of %s, expired at %s", what, words(c.RawSubject), c.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(c.NotBefore):
			add(WarningExpired, name, c.NotBefore, "%s, of %s, is not valid before %s", what, words(c.RawSubject), c.NotBefore.UTC().Format(time.RFC3339))
		case now.Add(within).After(c.NotAfter):
			add(WarningExpiring, name, c.NotAfter, "%s, of %s, expires at %s", what, words(c.RawSubject), c.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	for _, o := range s.own {
		if o.exposed {
			add(WarningExposedKey, o.name, time.Time{}, "every local user can read the private key in %s", o.keyFile)
		}
		for i, c := range o.chain {
			what := fmt.Sprintf("the certificate %q", o.name)
			if i > 0 {
				what = "an issuer of " + what
			}
			expiry(what, o.name, c)
		}
	}
	for _, a := range s.authorities {
		expiry("the authority in "+a.file, a.file, a.cert)
	}
	for _, src := range s.crls.Load().sources {
		switch {
		case src.list == nil:
			add(WarningMissingCRL, src.from, time.Time{}, "the revocation list from %s could not be fetched yet", src.from)
		case src.list.stale(now):
			at := src.list.list.NextUpdate
			add(WarningStaleCRL, src.from, at, "the revocation list of %s, from %s, should have been replaced by %s", words(src.list.list.RawIssuer), src.from, at.UTC().Format(time.RFC3339))
		}
	}
	return out
}
