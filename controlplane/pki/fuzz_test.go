package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"

	"vrgate/controlplane/isakmp"
)

// FuzzVerify: whatever a peer sends, it is refused with a reason of the list, or it has a
// certificate that one of the authorities signed, directly or through an intermediate that one
// of them signed, names what it says, and was signed with its key. The oracle looks at the
// signatures alone and knows nothing of chains.
func FuzzVerify(f *testing.F) {
	root := issue(f, ca("root"), rsaKey(f, keyRoot), nil)
	middle := issue(f, ca("middle"), rsaKey(f, keyMiddle), root)
	impostor := issue(f, ca("root"), rsaKey(f, keyOther), nil)
	c := client("alice")
	c.DNSNames = []string{"alice.example"}
	alice := issue(f, c, rsaKey(f, keyLeaf), middle)
	mallory := issue(f, client("mallory"), rsaKey(f, keyOther), impostor)
	revokedOne := issue(f, client("eve"), rsaKey(f, keyLeaf), root)
	s := storeOf(f, Config{CRLFiles: []string{file(f, revokes(f, root, &x509.RevocationList{}, revokedOne))}}, root)

	add := func(p Peer) {
		certs := slices.Clone(p.Certs)
		for len(certs) < 3 {
			certs = append(certs, nil)
		}
		f.Add(certs[0], certs[1], certs[2], p.Digest, p.Signature, p.ID)
	}
	add(peerOf(f, alice, middle))
	add(peerOf(f, alice, middle, root))
	add(peerOf(f, mallory, impostor))
	add(peerOf(f, revokedOne, root))
	byDomain := peerOf(f, alice, middle)
	byDomain.ID = isakmp.TextID(isakmp.IDFQDN, "ALICE.example").Payload().Body
	add(byDomain)
	add(Peer{ID: []byte{9}})
	reasons := []Reason{
		ReasonNoCertificate, ReasonMalformed, ReasonUntrusted, ReasonExpired, ReasonRevoked, ReasonStaleCRL, ReasonUsage, ReasonIdentity, ReasonSignature,
	}
	f.Fuzz(func(t *testing.T, first, second, third, digest, signature, id []byte) {
		p := Peer{Digest: digest, Signature: signature, ID: id}
		for _, der := range [][]byte{first, second, third} {
			if len(der) > 0 {
				p.Certs = append(p.Certs, der)
			}
		}
		before := bytes.Join(slices.Concat(p.Certs, [][]byte{digest, signature, id}), nil)
		subject, err := s.Verify(now, p)
		if after := bytes.Join(slices.Concat(p.Certs, [][]byte{digest, signature, id}), nil); !bytes.Equal(before, after) {
			t.Error("the input was changed")
		}
		if err != nil {
			var r *Refusal
			if !errors.As(err, &r) || !slices.Contains(reasons, r.Reason) || r.Text == "" || len(r.Text) > 4*maxWords || subject != "" {
				t.Errorf("refusal %#v with subject %q", err, subject)
			}
			if strings.ContainsFunc(r.Text, unicode.IsControl) {
				t.Errorf("%q is not for a log", r.Text)
			}
			return
		}
		leaf, err := x509.ParseCertificate(p.Certs[0])
		if err != nil {
			t.Fatal(err)
		}
		parents := []*x509.Certificate{root.cert}
		for _, der := range p.Certs[1:] {
			if m, err := x509.ParseCertificate(der); err == nil && m.CheckSignatureFrom(root.cert) == nil {
				parents = append(parents, m)
			}
		}
		if !leaf.Equal(root.cert) && !slices.ContainsFunc(parents, func(m *x509.Certificate) bool { return leaf.CheckSignatureFrom(m) == nil }) {
			t.Error("nobody answers for the certificate")
		}
		if leaf.Equal(revokedOne.cert) {
			t.Error("the certificate is revoked")
		}
		if rsa.VerifyPKCS1v15(leaf.PublicKey.(*rsa.PublicKey), 0, digest, signature) != nil {
			t.Error("the signature is wrong")
		}
		got, err := isakmp.Payload{Type: isakmp.TypeID, Body: id}.ID()
		if err != nil {
			t.Fatal(err)
		}
		if !(got.Type == isakmp.IDDERDN && sameName(got.Data, leaf.RawSubject)) &&
			!(got.Type == isakmp.IDFQDN && slices.Contains(leaf.DNSNames, strings.ToLower(string(got.Data)))) {
			t.Errorf("%v is not in the certificate", got)
		}
	})
}

// FuzzName: comparison of names is symmetric, a name that can be read equals itself and nothing
// that differs in structure, and words for people are short and printable.
func FuzzName(f *testing.F) {
	a := issue(f, client("alice"), rsaKey(f, keyLeaf), nil).cert.RawSubject
	b := issue(f, client("ALICE "), rsaKey(f, keyLeaf), nil).cert.RawSubject
	f.Add(a, b)
	f.Add(a, []byte{0x30, 0})
	f.Add([]byte{0x30, 9, 0x31, 7, 0x30, 5, 6, 1, 1, 30, 0}, []byte{0x30, 2, 0x31, 0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, okX := parseName(a)
		y, okY := parseName(b)
		same := sameName(a, b)
		if same != sameName(b, a) {
			t.Error("not symmetric")
		}
		if sameName(a, a) != (okX && len(x) > 0) {
			t.Error("a name must equal itself, and nothing else must")
		}
		if same && (!okX || !okY || len(x) != len(y)) {
			t.Error("equal but not alike")
		}
		if w := words(a); w == "" || len(w) > maxWords+len("…") || strings.ContainsFunc(w, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("words %q", w)
		}
	})
}

// FuzzCRL: no list is used that is not understood, and one that is understood is found again by
// everything in it.
func FuzzCRL(f *testing.F) {
	root := issue(f, ca("root"), rsaKey(f, keyRoot), nil)
	eve := issue(f, client("eve"), rsaKey(f, keyLeaf), root)
	der := revokes(f, root, &x509.RevocationList{}, eve)
	f.Add(der)
	f.Add(inPEM("X509 CRL", der))
	f.Add([]byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCRL(data)
		if err != nil {
			if c != nil || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("%v, %v", c, err)
			}
			return
		}
		list, err := x509.ParseRevocationList(c.list.Raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list.RevokedCertificateEntries {
			if _, found := c.serials[string(e.SerialNumber.Bytes())]; !found {
				t.Errorf("serial number %v is not there", e.SerialNumber)
			}
		}
		if c.signedBy(root.cert) && !bytes.Equal(c.list.Raw, der) {
			t.Error("a list that the authority never signed")
		}
	})
}
