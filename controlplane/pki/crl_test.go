package pki

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// distribution encodes an issuing distribution point with the URL and one flag.
func distribution(t *testing.T, url string, flag int) pkix.Extension {
	t.Helper()
	var content []byte
	if url != "" {
		name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(url)}
		for range 2 { // fullName in distributionPoint, both [0]
			inner, err := asn1.Marshal(name)
			if err != nil {
				t.Fatal(err)
			}
			name = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}
		}
		inner, err := asn1.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, inner...)
	}
	if flag > 0 {
		content = append(content, byte(0x80|flag), 1, 0xff)
	}
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: content})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidDistribution, Critical: true, Value: der}
}

// TestRevocation: every certificate of the chain but the root is looked for, in lists that its
// issuer signed (RFC 5280 section 6.3).
func TestRevocation(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	impostor := issue(t, ca("root"), rsaKey(t, keyOther), nil)
	middle := issue(t, ca("middle"), rsaKey(t, keyMiddle), root)
	c := client("alice")
	c.CRLDistributionPoints = []string{"http://pki.example/1.crl"}
	alice := issue(t, c, rsaKey(t, keyLeaf), middle)
	good := peerOf(t, alice, middle)

	list := func(by *entity, certs ...*entity) []byte { return revokes(t, by, &x509.RevocationList{}, certs...) }
	old := func(by *entity, certs ...*entity) []byte {
		return revokes(t, by, &x509.RevocationList{ThisUpdate: now.Add(-2 * time.Hour), NextUpdate: now.Add(-time.Hour)}, certs...)
	}
	scoped := func(by *entity, url string, flag int, certs ...*entity) []byte {
		return revokes(t, by, &x509.RevocationList{ExtraExtensions: []pkix.Extension{distribution(t, url, flag)}}, certs...)
	}
	for name, test := range map[string]struct {
		lists           [][]byte
		lenient, strict Reason
	}{
		"no lists":                {nil, "", ReasonStaleCRL},
		"lists of all":            {[][]byte{list(middle), list(root)}, "", ""},
		"one list is missing":     {[][]byte{list(middle)}, "", ReasonStaleCRL},
		"revoked":                 {[][]byte{list(middle, alice), list(root)}, ReasonRevoked, ReasonRevoked},
		"revoked in PEM":          {[][]byte{inPEM("X509 CRL", list(middle, alice)), list(root)}, ReasonRevoked, ReasonRevoked},
		"issuer revoked":          {[][]byte{list(middle), list(root, middle)}, ReasonRevoked, ReasonRevoked},
		"root revoked by itself":  {[][]byte{list(middle), list(root, root)}, "", ""},
		"revoked by another":      {[][]byte{list(root, alice), list(middle)}, "", ""},
		"revoked by an impostor":  {[][]byte{list(impostor, middle), list(middle), list(root)}, "", ""},
		"list of an impostor":     {[][]byte{list(impostor), list(middle)}, "", ReasonStaleCRL},
		"stale":                   {[][]byte{list(middle), old(root)}, "", ReasonStaleCRL},
		"stale and revoked":       {[][]byte{old(middle, alice), list(root)}, ReasonRevoked, ReasonRevoked},
		"stale beside fresh":      {[][]byte{old(middle, alice), list(middle), list(root)}, "", ""},
		"fresh beside stale":      {[][]byte{old(middle), list(middle, alice), list(root)}, ReasonRevoked, ReasonRevoked},
		"for users":               {[][]byte{scoped(middle, "", 1), list(root)}, "", ""},
		"for users, of the root":  {[][]byte{list(middle), scoped(root, "", 1)}, "", ReasonStaleCRL},
		"for authorities":         {[][]byte{scoped(middle, "", 2), list(root)}, "", ReasonStaleCRL},
		"for authorities of root": {[][]byte{list(middle), scoped(root, "", 2)}, "", ""},
		"its part":                {[][]byte{scoped(middle, "http://pki.example/1.crl", 0), list(root)}, "", ""},
		"another part":            {[][]byte{scoped(middle, "http://pki.example/2.crl", 0), list(root)}, "", ReasonStaleCRL},
		"revoked in another part": {[][]byte{scoped(middle, "http://pki.example/2.crl", 0, alice), list(root)}, ReasonRevoked, ReasonRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{}
			for _, l := range test.lists {
				config.CRLFiles = append(config.CRLFiles, file(t, l))
			}
			for strict, want := range map[bool]Reason{false: test.lenient, true: test.strict} {
				config.Strict = strict
				s := storeOf(t, config, root)
				for range 2 { // the second time the signers are known
					if _, err := s.Verify(now, good); refusedFor(t, err) != want {
						t.Errorf("strict %v: %v, want %q", strict, err, want)
					}
				}
			}
		})
	}
}

// TestUnrevokedWay: of two ways to an authority one that is not revoked is enough.
func TestUnrevokedWay(t *testing.T) {
	root, other := issue(t, ca("root"), rsaKey(t, keyRoot), nil), issue(t, ca("other"), rsaKey(t, keyOther), nil)
	one := issue(t, ca("middle"), rsaKey(t, keyMiddle), root)
	two := issue(t, ca("middle"), rsaKey(t, keyMiddle), other)
	alice := issue(t, client("alice"), rsaKey(t, keyLeaf), one)
	byRoot := file(t, revokes(t, root, &x509.RevocationList{}, one))
	byOther := file(t, revokes(t, other, &x509.RevocationList{}, two))
	for _, test := range []struct {
		lists []string
		want  Reason
	}{{[]string{byRoot}, ""}, {[]string{byOther}, ""}, {[]string{byRoot, byOther}, ReasonRevoked}} {
		s := storeOf(t, Config{CRLFiles: test.lists}, root, other)
		if _, err := s.Verify(now, peerOf(t, alice, one, two)); refusedFor(t, err) != test.want {
			t.Errorf("%d lists: %v, want %q", len(test.lists), err, test.want)
		}
	}
}

// TestUnusableLists: what is not understood must not be used (RFC 5280 section 5.2).
func TestUnusableLists(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	with := func(e pkix.Extension) []byte {
		return revokes(t, root, &x509.RevocationList{ExtraExtensions: []pkix.Extension{e}})
	}
	point := func(der ...byte) []byte { return with(pkix.Extension{Id: oidDistribution, Value: der}) }
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"garbage":            {[]byte("x"), "is not a revocation list"},
		"nothing":            {nil, "is not a revocation list"},
		"delta":              {with(pkix.Extension{Id: oidDeltaIndicator, Critical: true, Value: []byte{2, 1, 1}}), "delta"},
		"critical extension": {with(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}), "critical extension 1.2.3"},
		"indirect":           {with(distribution(t, "", 4)), "for other issuers"},
		"attributes":         {with(distribution(t, "", 5)), "attribute certificates"},
		"some reasons":       {point(0x30, 4, 0x83, 2, 0, 0x80), "for some reasons"},
		"no URL":             {point(0x30, 4, 0xa0, 2, 0xa0, 0), "without URL"},
		"relative name":      {point(0x30, 4, 0xa0, 2, 0xa1, 0), "without URL"},
		"malformed":          {point(0x30, 4, 0x81, 9, 1, 1), "malformed"},
		"no sequence":        {point(5, 0), "malformed"},
	} {
		if _, err := parseCRL(test.data); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if _, err := parseCRL(with(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}})); err != nil {
		t.Errorf("an extension that is not critical: %v", err)
	}
}

// crlServer serves lists by path; an empty one is an error.
type crlServer struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	hits  atomic.Int64
}

func newServer(t *testing.T) *crlServer {
	s := &crlServer{files: map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		if data := s.files[r.URL.Path]; len(data) > 0 {
			_, _ = w.Write(data)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *crlServer) put(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
}

// TestRefetch: lists come over a network that everybody can write to, so only what an issuer
// signed, and nothing older, replaces what is there.
func TestRefetch(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	impostor := issue(t, ca("root"), rsaKey(t, keyOther), nil)
	alice := issue(t, client("alice"), rsaKey(t, keyLeaf), root)
	srv := newServer(t)
	config := Config{CRLURLs: []string{srv.URL + "/root.crl"}, Refresh: time.Hour, CacheDir: cacheDir(t), Strict: true}
	s := storeOf(t, config, root)
	if s.Refresh() != time.Hour {
		t.Errorf("refresh every %v", s.Refresh())
	}
	at := func(d time.Duration, certs ...*entity) []byte {
		return revokes(t, root, &x509.RevocationList{ThisUpdate: now.Add(d)}, certs...)
	}
	huge := make([]byte, MaxCRLSize+1)
	for _, step := range []struct {
		name  string
		serve []byte
		fails string
		want  Reason // of alice afterwards
	}{
		{"nothing there", nil, "404", ReasonStaleCRL},
		{"garbage at first", []byte("<html>"), "is not a revocation list", ReasonStaleCRL},
		{"an impostor's at first", revokes(t, impostor, &x509.RevocationList{}), "the signature of the list is not that of CN=root", ReasonStaleCRL},
		{"the first", at(-3 * time.Hour), "", ""},
		{"the same again", nil, "404", ""},
		{"revoked", at(-2*time.Hour, alice), "", ReasonRevoked},
		{"an older one", at(-3 * time.Hour), "is older than the one there", ReasonRevoked},
		{"an impostor's", revokes(t, impostor, &x509.RevocationList{}), "the signature of the list is not that of CN=root", ReasonRevoked},
		{"another authority's", revokes(t, issue(t, ca("else"), rsaKey(t, keyMiddle), nil), &x509.RevocationList{}), "the signature", ReasonRevoked},
		{"garbage", []byte("<html>"), "is not a revocation list", ReasonRevoked},
		{"too much", huge, "is larger than", ReasonRevoked},
		{"forgiven", at(-time.Hour), "", ""},
	} {
		srv.put("/root.crl", step.serve)
		err := s.Refetch(context.Background(), srv.Client())
		switch {
		case step.fails == "" && err != nil:
			t.Errorf("%s: %v", step.name, err)
		case step.fails != "" && (err == nil || !strings.Contains(err.Error(), step.fails) || !strings.Contains(err.Error(), srv.URL)):
			t.Errorf("%s: %v, want %q", step.name, err, step.fails)
		}
		if _, err := s.Verify(now, peerOf(t, alice)); refusedFor(t, err) != step.want {
			t.Errorf("%s: alice %v, want %q", step.name, err, step.want)
		}
	}

	// The next start knows what was fetched last, without the server, and asks no less of the
	// next list.
	srv.put("/root.crl", at(-time.Minute, alice))
	if err := s.Refetch(context.Background(), srv.Client()); err != nil {
		t.Fatal(err)
	}
	next := storeOf(t, config, root)
	if _, err := next.Verify(now, peerOf(t, alice)); refusedFor(t, err) != ReasonRevoked {
		t.Errorf("after a restart: %v", err)
	}
	srv.put("/root.crl", at(-time.Hour))
	if err := next.Refetch(context.Background(), srv.Client()); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("an older list after a restart: %v", err)
	}
	// What somebody broke on disk is fetched again.
	if err := os.WriteFile(cacheFile(config.CacheDir, config.CRLURLs[0]), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	next = storeOf(t, config, root)
	if w := next.Warnings(now, 0); len(w) != 1 || w[0].Kind != WarningMissingCRL {
		t.Errorf("warnings %+v", w)
	}
	if err := next.Refetch(context.Background(), srv.Client()); err != nil {
		t.Error(err)
	}
	if w := next.Warnings(now, 0); len(w) != 0 {
		t.Errorf("warnings %+v", w)
	}
	if left, err := filepath.Glob(filepath.Join(config.CacheDir, ".crl-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestRefetchOfUnknownIssuer: the list of an intermediate authority that only peers know can
// be checked when the first of them comes, and from then on.
func TestRefetchOfUnknownIssuer(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	middle := issue(t, ca("middle"), rsaKey(t, keyMiddle), root)
	impostor := issue(t, ca("middle"), rsaKey(t, keyOther), nil)
	alice := issue(t, client("alice"), rsaKey(t, keyLeaf), middle)
	srv := newServer(t)
	s := storeOf(t, Config{CRLURLs: []string{srv.URL + "/x"}}, root)
	step := func(data []byte, fails bool, want Reason) {
		t.Helper()
		srv.put("/x", data)
		if err := s.Refetch(context.Background(), srv.Client()); (err != nil) != fails {
			t.Errorf("refetch: %v", err)
		}
		if _, err := s.Verify(now, peerOf(t, alice, middle)); refusedFor(t, err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	step(revokes(t, impostor, &x509.RevocationList{}, alice), false, "") // counts for nothing
	step(revokes(t, middle, &x509.RevocationList{}, alice), false, ReasonRevoked)
	step(revokes(t, impostor, &x509.RevocationList{Number: big.NewInt(9)}), true, ReasonRevoked)
	step(revokes(t, middle, &x509.RevocationList{Number: big.NewInt(2)}), false, "")
}

// TestRefetchIsBounded: a server that hangs does not hold the caller beyond its context, and
// one list that fails does not keep the others from being fetched.
func TestRefetchIsBounded(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	alice := issue(t, client("alice"), rsaKey(t, keyLeaf), root)
	srv := newServer(t)
	srv.put("/good", revokes(t, root, &x509.RevocationList{}, alice))
	s := storeOf(t, Config{CRLURLs: []string{srv.URL + "/bad", srv.URL + "/good"}}, root)
	if err := s.Refetch(context.Background(), srv.Client()); err == nil || strings.Contains(err.Error(), "/good") {
		t.Errorf("refetch: %v", err)
	}
	if _, err := s.Verify(now, peerOf(t, alice)); refusedFor(t, err) != ReasonRevoked {
		t.Error(err)
	}
	hits := srv.hits.Load()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Refetch(ctx, srv.Client()); err == nil || srv.hits.Load() != hits {
		t.Errorf("refetch with a cancelled context: %v", err)
	}
	if _, err := s.Verify(now, peerOf(t, alice)); refusedFor(t, err) != ReasonRevoked {
		t.Errorf("lists that cannot be had now stay: %v", err)
	}
	if s := storeOf(t, Config{Refresh: time.Hour}, root); s.Refresh() != 0 {
		t.Error("nothing to fetch")
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	root := issue(t, ca("root"), rsaKey(t, keyRoot), nil)
	gw := issue(t, client("gw"), rsaKey(t, keyOwn), root)
	alice := peerOf(t, issue(t, client("alice"), rsaKey(t, keyLeaf), root))
	srv := newServer(t)
	srv.put("/x", revokes(t, root, &x509.RevocationList{}))
	s := storeOf(t, Config{
		Own:     []Own{{Name: "gw", Certificate: file(t, certPEM(gw)), Key: file(t, keyPEM(t, gw.key))}},
		CRLURLs: []string{srv.URL + "/x"}, CacheDir: cacheDir(t),
	}, root)
	var wg sync.WaitGroup
	for range 4 {
		for _, f := range []func() error{
			func() error { _, err := s.Verify(now, alice); return err },
			func() error { _, err := s.Sign("gw", digest); return err },
			func() error { return s.Refetch(context.Background(), srv.Client()) },
			func() error { s.Warnings(now, 0); return nil },
		} {
			wg.Go(func() {
				for range 5 {
					if err := f(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
}
