package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// fetchTimeout bounds one revocation list, so that a server that hangs does not keep the
// others from being fetched.
const fetchTimeout = 30 * time.Second

// Refetch fetches the revocation lists that have a URL, one after the other, and puts the new
// ones in force together. A list that cannot be had, is no list, is older than the one
// there, or is not signed by an issuer that is known, leaves the one there as it is. The error
// joins what went wrong; each part names its URL. What was fetched goes to the cache directory.
//
// The lists come over a network that nobody has secured, so the signature is what counts.
// Known issuers are the authorities, those of our own certificates, and whoever signed
// the list that is there. Where none of these can be the issuer, because intermediate
// authorities come with the peers, the first list is taken as it is: it counts for nothing
// until a peer brings the issuer with which its signature is right.
func (s *Store) Refetch(ctx context.Context, client *http.Client) error {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	var errs []error
	next := &crlSet{sources: slices.Clone(s.crls.Load().sources)}
	for i := range next.sources {
		src := &next.sources[i]
		if !src.remote {
			continue
		}
		data, err := fetch(ctx, client, src.from)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", src.from, err))
			continue
		}
		list, err := s.successor(src.list, data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", src.from, err))
			continue
		}
		if list == src.list {
			continue
		}
		src.list = list
		if err := s.keep(src.from, data); err != nil {
			errs = append(errs, fmt.Errorf("%s: the list is in force but not kept for the next start: %w", src.from, err))
		}
	}
	s.crls.Store(next)
	return errors.Join(errs...)
}

// fetch gets what is at a URL, at most [MaxCRLSize] bytes.
func fetch(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", printable(resp.Status))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxCRLSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxCRLSize {
		return nil, fmt.Errorf("the list is larger than %d bytes", MaxCRLSize)
	}
	return data, nil
}

// successor parses a fetched list and decides whether it may follow the one there, which is
// returned if the two are the same.
func (s *Store) successor(old *crl, data []byte) (*crl, error) {
	list, err := parseCRL(data)
	if err != nil {
		return nil, err
	}
	if old != nil && bytes.Equal(old.list.Raw, list.list.Raw) {
		return old, nil
	}
	var issuers []*x509.Certificate
	for _, a := range s.authorities {
		issuers = append(issuers, a.cert)
	}
	for _, o := range s.own {
		issuers = append(issuers, o.chain[1:]...)
	}
	if old != nil {
		if signer := old.signer.Load(); signer != nil {
			issuers = append(issuers, signer)
		}
	}
	signed := slices.ContainsFunc(issuers, list.signedBy)
	named := slices.ContainsFunc(issuers, func(c *x509.Certificate) bool { return sameName(list.list.RawIssuer, c.RawSubject) })
	trusted := old != nil && (old.signer.Load() != nil || slices.ContainsFunc(issuers, old.signedBy))
	switch {
	case !signed && (named || trusted):
		return nil, fmt.Errorf("the signature of the list is not that of %s", words(list.list.RawIssuer))
	case trusted && list.list.ThisUpdate.Before(old.list.ThisUpdate):
		return nil, fmt.Errorf("the list of %s is older than the one there, of %s",
			list.list.ThisUpdate.UTC().Format(time.RFC3339), old.list.ThisUpdate.UTC().Format(time.RFC3339))
	}
	return list, nil
}

// keep writes a list to the cache directory, so that the file is always whole.
func (s *Store) keep(from string, data []byte) (err error) {
	if s.cache == "" {
		return nil
	}
	if err := os.MkdirAll(s.cache, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.cache, ".crl-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), cacheFile(s.cache, from))
}

// cacheFile is where the list of a URL is kept, "" for nowhere.
func cacheFile(dir, from string) string {
	if dir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(from))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".crl")
}
