package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// prefix is an IPv4 network, or one address.
type prefix struct{ leaf[netip.Prefix] }

func (p *prefix) parse(word string, _ reflect.StructTag) error {
	wrong := errors.New("must be an IPv4 network such as 10.0.0.0/8, or an address")
	if !strings.Contains(word, "/") {
		word += "/32"
	}
	v, err := netip.ParsePrefix(word)
	if err != nil || !v.Addr().Is4() {
		return wrong
	}
	if v != v.Masked() {
		return fmt.Errorf("must be a network without host bits: %v", v.Masked())
	}
	p.v = v
	return nil
}

// domain is a domain name in lower case.
type domain struct{ leaf[string] }

func (d *domain) parse(word string, _ reflect.StructTag) error {
	if len(word) > 253 || !domainName(word) {
		return errors.New("must be a domain name")
	}
	d.v = strings.ToLower(word)
	return nil
}

// idKind is the kind of phase 1 identity that a text stands for.
type idKind uint8

const (
	addressID idKind = iota + 1
	fqdnID
	userFQDNID
	dnID
	keyID
)

// peerID is a phase 1 identity as text: an IPv4 address, "@fqdn", "user@fqdn",
// "dn:CN=...,O=...", or any other text for a key ID, which "keyid:" may precede. Tag wildcard:"true" lets "*"
// stand for any text.
type peerID struct {
	leaf[string]
	kind idKind
}

func (p *peerID) parse(word string, tag reflect.StructTag) error {
	if err := checkLen(word, tag, "1..255"); err != nil {
		return err
	}
	if err := printable(word); err != nil {
		return err
	}
	// A star is as good as a letter where the rest of a name is checked.
	plain := word
	if word == "dn:*" && tag.Get("wildcard") == "true" {
		p.v, p.kind = word, dnID
		return nil
	}
	if strings.Contains(word, "*") {
		if tag.Get("wildcard") != "true" {
			return errors.New("must be one identity, without *")
		}
		plain = strings.ReplaceAll(word, "*", "x")
	}
	kind, err := kindOfID(plain)
	if err != nil {
		return err
	}
	p.v, p.kind = word, kind
	return nil
}

func kindOfID(word string) (idKind, error) {
	if a, err := netip.ParseAddr(word); err == nil {
		if !a.Is4() || !hostAddress(a) {
			return 0, errors.New("must be the IPv4 address of a host where it is an address")
		}
		return addressID, nil
	}
	if name, ok := strings.CutPrefix(word, "dn:"); ok {
		return dnID, checkDN(name)
	}
	if name, ok := strings.CutPrefix(word, "keyid:"); ok {
		if name == "" {
			return 0, errors.New("must have a text behind the colon")
		}
		return keyID, nil
	}
	user, host, ok := strings.Cut(word, "@")
	switch {
	case !ok:
		return keyID, nil
	case strings.ContainsFunc(user, notVisible) || !domainName(host):
		return 0, errors.New("must be @domain or user@domain where it has an @")
	case user == "":
		return fqdnID, nil
	}
	return userFQDNID, nil
}

// dnNames are the attributes of a distinguished name that have a short name
// (RFC 4514 section 3 and what certificates of VPN peers carry beside).
var dnNames = []string{
	"CN", "SN", "SERIALNUMBER", "C", "L", "ST", "STREET", "O", "OU", "T", "GN", "UID", "DC", "E",
	"EMAIL", "EMAILADDRESS", "S", "GIVENNAME", "SURNAME", "TITLE", "COMMONNAME", "ORGANIZATION", "COUNTRY",
}

// objectID is an attribute by its numbers.
var objectID = regexp.MustCompile(`^[0-2](\.[0-9]{1,9})+$`)

// escaped is a character of a value that does not separate it from the next.
var escaped = regexp.MustCompile(`\\([0-9A-Fa-f]{2}|.)`)

// maxDNParts is how many parts of a distinguished name IKE compares.
const maxDNParts = 32

// unescaped is what an escape such as \c3 or \, stands for.
func unescaped(escape string) string {
	if n, err := strconv.ParseUint(escape[1:], 16, 8); err == nil && len(escape) == 3 {
		return string([]byte{byte(n)})
	}
	return escape[1:]
}

// checkDN checks a distinguished name as RFC 4514 writes it.
func checkDN(name string) error {
	if !utf8.ValidString(escaped.ReplaceAllStringFunc(name, unescaped)) {
		return errors.New("has escaped bytes that are not UTF-8")
	}
	name = strings.NewReplacer(";", ",", "+", ",").Replace(escaped.ReplaceAllString(name, "x"))
	switch {
	case strings.Contains(name, `\`):
		return errors.New("ends with a backslash")
	case strings.Count(name, ",") >= maxDNParts:
		return fmt.Errorf("has more than %d parts", maxDNParts)
	}
	for part := range strings.SplitSeq(name, ",") {
		key, value, ok := strings.Cut(part, "=")
		if key = strings.TrimSpace(key); !ok || strings.TrimSpace(value) == "" {
			return errors.New("must be a distinguished name where it starts with dn:, such as dn:CN=alice,O=Example")
		}
		if !slices.Contains(dnNames, strings.ToUpper(key)) && !objectID.MatchString(key) {
			return fmt.Errorf("names %s, which is no attribute of a distinguished name such as CN, OU, O, C or E", quoteShort(key))
		}
	}
	return nil
}
