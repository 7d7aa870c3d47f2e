package config

import (
	"io/fs"
	"net/url"
	"slices"
	"strings"
)

func (b *builder) certificates(f *fileRouter, r *Router) {
	c := &f.IPsec.Certificates
	r.Certificates = Certificates{
		Authorities: b.files(c.Authorities, "authorities"),
		Revocation: Revocation{
			Files:   b.files(c.Revocation.Files, "files"),
			URLs:    b.crlURLs(c.Revocation.URLs),
			Refresh: c.Revocation.Refresh.v,
			Strict:  c.Revocation.Strict.v,
		},
		ExpiryWarning: c.ExpiryWarning.v,
	}
	if v := &c.Revocation; v.Strict.v && len(v.Files) == 0 && len(v.URLs) == 0 && v.sound("files") && v.sound("urls") {
		b.errorf(v.Strict.pos, "\"strict\" refuses every peer without a revocation list: give \"files\" or \"urls\"")
	}
	seen := map[string]Pos{}
	for i := range c.Own {
		o := &c.Own[i]
		b.unique(seen, o.Name, "certificate")
		r.Certificates.Own = append(r.Certificates.Own, b.ownCertificate(o))
	}
	slices.SortStableFunc(r.Certificates.Own, func(a, b OwnCertificate) int { return strings.Compare(a.Name, b.Name) })
}

func (b *builder) ownCertificate(o *fileOwnCertificate) OwnCertificate {
	out := OwnCertificate{Name: o.Name.v}
	switch {
	case o.PKCS12.given():
		for _, t := range []struct {
			key string
			text
		}{{"certificate", o.Certificate}, {"key", o.Key}} {
			if t.given() {
				b.errorf(t.pos, "%q and \"pkcs12\" exclude each other", t.key)
			}
		}
		out.PKCS12 = b.privateFile(o.PKCS12, "pkcs12")
		out.Password = b.secretOf(o.pos, o.Password, o.PasswordFile, "password", false)
	case o.present:
		for _, t := range []struct {
			key string
			at  Pos
		}{{"password", o.Password.pos}, {"password-file", o.PasswordFile.pos}} {
			if t.at.Line != 0 {
				b.errorf(t.at, "%q goes with \"pkcs12\"; a private key in PEM must not be encrypted", t.key)
			}
		}
		if !o.Certificate.given() || !o.Key.given() {
			b.errorf(o.pos, "keys \"certificate\" and \"key\", or key \"pkcs12\", are missing")
		}
		out.Certificate, _ = b.file(o.Certificate, "\"certificate\"")
		out.Key = b.privateFile(o.Key, "key")
	}
	return out
}

// files finds the files of a list.
func (b *builder) files(list []text, key string) []string {
	var out []string
	for i, t := range list {
		if slices.ContainsFunc(list[:i], func(o text) bool { return o.v != "" && o.v == t.v }) {
			b.errorf(t.pos, "%s is twice in %q", quoteShort(t.v), key)
			continue
		}
		if path, _ := b.file(t, "an entry of \""+key+"\""); path != "" {
			out = append(out, path)
		}
	}
	return out
}

// file finds a file whose contents somebody else reads, "" if it is not there.
func (b *builder) file(t text, what string) (string, fs.FileMode) {
	if !t.given() || t.v == "" {
		return "", 0
	}
	path, mode, err := b.locate(t.v)
	if err != nil {
		b.errorf(t.pos, "%s is %s but the file cannot be read: %s", what, quoteShort(t.v), reason(err))
		return "", 0
	}
	return path, mode
}

// privateFile finds a file that holds a private key.
func (b *builder) privateFile(t text, key string) string {
	path, mode := b.file(t, "\""+key+"\"")
	if mode.Perm()&0o007 != 0 {
		b.warnf(t.pos, "every local user can read the private key in %s (mode %#o)", quoteShort(t.v), mode.Perm())
	}
	return path
}

func (b *builder) crlURLs(list []text) []string {
	var out []string
	for i, t := range list {
		if t.v == "" {
			continue
		}
		u, err := url.Parse(t.v)
		switch {
		case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
			b.errorf(t.pos, "entry %d of \"urls\" is %s but must be a URL such as http://pki.example.net/ca.crl", i+1, quoteShort(t.v))
		case u.Scheme != "http":
			// TLS would need certificates whose revocation nobody has checked yet.
			b.errorf(t.pos, "entry %d of \"urls\" is %s but must start with http://; a revocation list is signed and needs no TLS", i+1, quoteShort(t.v))
		case slices.Contains(out, t.v):
			b.errorf(t.pos, "%s is twice in \"urls\"", quoteShort(t.v))
		default:
			out = append(out, t.v)
		}
	}
	return out
}

// certificateOf resolves the name of a certificate of ours.
func (b *builder) certificateOf(name text, f *fileRouter) string {
	var names []string
	for i := range f.IPsec.Certificates.Own {
		names = append(names, f.IPsec.Certificates.Own[i].Name.v)
	}
	if name.given() && name.v != "" && !slices.Contains(names, name.v) && f.IPsec.sound("certificates") {
		b.errorf(name.pos, "\"certificate\" is %s but there is no such certificate in \"own\"%s", quoteShort(name.v), suggest(name.v, names))
	}
	return name.v
}

// needAuthorities complains that peers' certificates are wanted while nobody could
// answer for one.
func (b *builder) needAuthorities(at Pos, what string, f *fileRouter) {
	if len(f.IPsec.Certificates.Authorities) == 0 && f.IPsec.sound("certificates") {
		b.errorf(at, "%s but there are no \"authorities\" that could answer for those of peers", what)
	}
}

// ruleMethod checks that an IKE policy rule can be fulfilled, and warns of what
// aggressive mode gives away.
func (b *builder) ruleMethod(p *filePolicyRule, f *fileRouter) {
	if v := p.Auth.v; v == AuthRSA || v == AuthHybrid {
		if len(f.IPsec.Certificates.Own) == 0 && f.IPsec.sound("certificates") {
			b.errorf(p.Auth.pos, "\"authentication\" is %v but the virtual router has no certificate of its own", v)
		}
		if v == AuthRSA {
			b.needAuthorities(p.Auth.pos, "\"authentication\" is rsa", f)
		}
	}
	if v := p.AggressiveMode.v; v > AggressiveNone && (p.Auth.v == AuthPSK || p.Auth.v == AuthAny) {
		b.warnf(p.AggressiveMode.pos, "aggressive mode with a pre-shared key sends anybody who asks a hash from which the key can be guessed")
	}
}
