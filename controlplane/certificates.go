package controlplane

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/pki"
)

// CertificateError says that certificates, keys or revocation lists of the configuration cannot
// be used; one line per mistake.
type CertificateError struct{ lines []string }

// Error returns the lines.
func (e *CertificateError) Error() string { return strings.Join(e.lines, "\n") }

// CheckCertificates reads all certificates of a configuration and returns what is to be warned
// of, one line each. The error is a *CertificateError with every mistake of every virtual router.
func CheckCertificates(c *config.Config, now time.Time) (warnings []string, err error) {
	stores, err := loadCertificates(c, now)
	if err != nil {
		return nil, err
	}
	for i, r := range c.Routers {
		for _, w := range stores[i].Warnings(now, r.Certificates.ExpiryWarning) {
			if w.Kind != pki.WarningMissingCRL { // nobody has tried to fetch it
				warnings = append(warnings, r.File+": warning: "+w.Text)
			}
		}
	}
	return warnings, nil
}

// loadCertificates reads the certificates of each virtual router.
func loadCertificates(c *config.Config, now time.Time) ([]*pki.Store, error) {
	stores := make([]*pki.Store, len(c.Routers))
	var all CertificateError
	for i, r := range c.Routers {
		var err error
		if stores[i], err = pki.Load(pkiConfig(c, r), now); err != nil {
			for line := range strings.Lines(err.Error()) {
				all.lines = append(all.lines, r.File+": "+strings.TrimRight(line, "\n"))
			}
		}
	}
	if len(all.lines) > 0 {
		return nil, &all
	}
	return stores, nil
}

func pkiConfig(c *config.Config, r *config.Router) pki.Config {
	x := r.Certificates
	out := pki.Config{
		Authorities: x.Authorities, CRLFiles: x.Revocation.Files, CRLURLs: x.Revocation.URLs, Refresh: x.Revocation.Refresh, Strict: x.Revocation.Strict,
		CacheDir: filepath.Join(c.Process.StateDir, "crl", r.Name),
	}
	for _, o := range x.Own {
		out.Own = append(out.Own, pki.Own{
			Name: o.Name, Certificate: o.Certificate, Key: o.Key, PKCS12: o.PKCS12, Password: pki.Password(o.Password),
		})
	}
	return out
}

// credentials are the certificates of a store as IKE is told of them.
func credentials(store *pki.Store) []ike.Credential {
	var out []ike.Credential
	for _, c := range store.Credentials() {
		out = append(out, ike.Credential{Name: c.Name, Chain: c.Chain, Subject: c.Subject, Issuers: c.Issuers})
	}
	return out
}

// sign makes a signature with a key of ours.
func sign(store *pki.Store, f ike.Sign) ike.Signed {
	done := ike.Signed{Job: f.Job}
	signature, err := store.Sign(f.Credential, f.Digest)
	if err != nil {
		done.Err = err.Error()
		return done
	}
	done.Signature = signature
	return done
}

// verify decides whether a peer is who it says.
func verify(store *pki.Store, now time.Time, f ike.VerifyPeer) ike.PeerVerified {
	done := ike.PeerVerified{Job: f.Job}
	subject, err := store.Verify(now, pki.Peer{Certs: f.Certs, Digest: f.Digest, Signature: f.Signature, ID: f.ID})
	if err == nil {
		done.Subject = subject
		return done
	}
	done.Reason, done.Text = ike.Reason(pki.ReasonMalformed), err.Error()
	var refusal *pki.Refusal
	if errors.As(err, &refusal) {
		done.Reason = ike.Reason(refusal.Reason)
	}
	return done
}

// warnEvery is how often what is wrong with certificates is logged again.
const warnEvery = 24 * time.Hour

// keep has a router's certificates kept as long as they are its own: it warns of those that end soon, at the start
// and then daily, and fetches the revocation lists that have a URL, as often as configured, in the network of the
// process.
func (p *Process) keep(r *router) {
	p.unkeep(r)
	store := r.certs()
	if len(store.Items()) == 0 {
		return
	}
	ctx, stop := context.WithCancel(p.life.ctx)
	p.life.keepers[r] = stop
	p.life.background.Go(func() {
		client := &http.Client{}
		defer client.CloseIdleConnections()
		r.keepCertificates(ctx, client, store)
	})
}

// unkeep ends that.
func (p *Process) unkeep(r *router) {
	if stop := p.life.keepers[r]; stop != nil {
		stop()
		delete(p.life.keepers, r)
	}
}

func (r *router) keepCertificates(ctx context.Context, client *http.Client, store *pki.Store) {
	warn := time.NewTicker(warnEvery)
	defer warn.Stop()
	var refetch <-chan time.Time
	if every := store.Refresh(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		refetch = ticker.C
		r.refetch(ctx, client, store)
	}
	r.warnOfCertificates(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-warn.C:
			r.warnOfCertificates(time.Now())
		case <-refetch:
			r.refetch(ctx, client, store)
		}
	}
}

// refetch fetches the revocation lists; those that cannot be had stay as they are.
func (r *router) refetch(ctx context.Context, client *http.Client, store *pki.Store) {
	if err := store.Refetch(ctx, client); err != nil && ctx.Err() == nil {
		for line := range strings.Lines(err.Error()) {
			r.log.Warn("revocation list not fetched", zap.String("reason", "crl-not-fetched"), zap.String("text", strings.TrimRight(line, "\n")))
		}
	}
}

func (r *router) warnOfCertificates(now time.Time) {
	for _, w := range r.certs().Warnings(now, r.cfg().Certificates.ExpiryWarning) {
		r.log.Warn("certificate", zap.String("reason", string(w.Kind)), zap.String("name", w.Name), zap.String("text", w.Text))
	}
}

// certificateState is what the warnings say of one item, for show.
func certificateState(i pki.Item, now time.Time, within time.Duration) string {
	switch {
	case i.Missing:
		return "missing"
	case i.Kind == pki.ItemCRL && !i.Until.IsZero() && now.After(i.Until):
		return "stale"
	case i.Kind == pki.ItemCRL:
		return "good"
	case now.After(i.Until):
		return "expired"
	case now.Before(i.From):
		return "not-yet-valid"
	case now.Add(within).After(i.Until):
		return "expiring"
	}
	return "good"
}
