package aaa

import (
	"bytes"
	"errors"
	"fmt"
)

// MaxDelimiters bounds the delimiters of each kind (R1).
const MaxDelimiters = 8

// NameRules say how user names of the form realm/user@domain are taken apart (R1). The zero
// value knows no delimiter: then no name has a domain.
type NameRules struct {
	// Domain and Realm are the delimiters, one byte each, at most [MaxDelimiters]. The domain
	// is behind its delimiter, the realm before its own. JunosE's defaults are "@" and none.
	Domain, Realm string
	// DomainFirst has the domain looked for before the realm, and used if both are there.
	// Otherwise the realm is first, as in JunosE.
	DomainFirst bool
	// DomainFromLeft takes the first delimiter of the domain instead of the last, so that the
	// domain of a@b@c is b@c and not c. RealmFromRight takes the last delimiter of the realm
	// instead of the first. The defaults are JunosE's.
	DomainFromLeft, RealmFromRight bool
}

// Check returns what is wrong with the rules: too many delimiters, or one in both lists.
func (n NameRules) Check() error {
	if len(n.Domain) > MaxDelimiters || len(n.Realm) > MaxDelimiters {
		return fmt.Errorf("more than %d delimiters", MaxDelimiters)
	}
	for i := range len(n.Realm) {
		if bytes.IndexByte([]byte(n.Domain), n.Realm[i]) >= 0 {
			return errors.New("a delimiter of both the domain and the realm")
		}
	}
	return nil
}

// Name is a user name taken apart. RealmDelimiter and DomainDelimiter are empty if there is
// none; the parts are any bytes and may be empty beside a delimiter.
type Name struct {
	Realm, RealmDelimiter, User, DomainDelimiter, Domain string
	// ByRealm: the realm serves as the domain.
	ByRealm bool
}

// String puts the name together again.
func (n Name) String() string {
	return n.Realm + n.RealmDelimiter + n.User + n.DomainDelimiter + n.Domain
}

// Key is the domain by which the domain map is searched: the part that serves as the domain,
// with ASCII letters in lower case, because domains are names of DNS (RFC 4343) and users type
// them as they like. Empty: the name has no domain.
func (n Name) Key() string {
	if n.ByRealm {
		return lower(n.Realm)
	}
	return lower(n.Domain)
}

// Stripped is the name without the part that serves as the domain and without its delimiter.
// Of a name that is nothing but a domain nothing would be left; it stays as it is, for no
// server takes an empty name.
func (n Name) Stripped() string {
	rest := n
	if n.ByRealm {
		rest.Realm, rest.RealmDelimiter = "", ""
	} else {
		rest.DomainDelimiter, rest.Domain = "", ""
	}
	if s := rest.String(); s != "" {
		return s
	}
	return n.String()
}

// Parse takes a user name apart. It never fails: what has no delimiter is all user.
func (n NameRules) Parse(user string) Name {
	out := Name{User: user}
	if n.DomainFirst {
		out.cutDomain(n)
		out.cutRealm(n)
	} else {
		out.cutRealm(n)
		out.cutDomain(n)
	}
	// A delimiter with nothing beyond it names nothing.
	out.ByRealm = out.Realm != "" && (!n.DomainFirst || out.Domain == "")
	return out
}

func (n *Name) cutDomain(rules NameRules) {
	if i := delimiter(n.User, rules.Domain, rules.DomainFromLeft); i >= 0 {
		n.User, n.DomainDelimiter, n.Domain = n.User[:i], n.User[i:i+1], n.User[i+1:]
	}
}

func (n *Name) cutRealm(rules NameRules) {
	if i := delimiter(n.User, rules.Realm, !rules.RealmFromRight); i >= 0 {
		n.Realm, n.RealmDelimiter, n.User = n.User[:i], n.User[i:i+1], n.User[i+1:]
	}
}

// delimiter returns where the first or the last of the delimiters is in a name, or -1. Names
// are bytes: a delimiter is never looked for as a character of several.
func delimiter(name, delimiters string, first bool) int {
	found := -1
	for i := range len(name) {
		for k := range len(delimiters) {
			if name[i] == delimiters[k] {
				if first {
					return i
				}
				found = i
			}
		}
	}
	return found
}

// lower returns s with ASCII letters in lower case; all other bytes stay, valid UTF-8 or not.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
