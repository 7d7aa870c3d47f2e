package pki

import (
	"fmt"
	"time"
)

// Item is one thing that a store holds, for show and metrics.
type Item struct {
	Kind ItemKind
	// Name is that of our certificate, the file of an authority, or the source of a
	// revocation list.
	Name            string
	Subject, Issuer string // in words; a list has an issuer only
	Serial          string // hexadecimal
	From, Until     time.Time
	// Revoked is the number of certificates in a list.
	Revoked int
	// Missing: a list that could not be fetched yet.
	Missing bool
}

// ItemKind is what an item is.
type ItemKind string

// Kinds of item.
const (
	ItemOwn       ItemKind = "own"
	ItemAuthority ItemKind = "authority"
	ItemCRL       ItemKind = "crl"
)

// Items lists our certificates by name, the authorities as configured, and the revocation
// lists.
func (s *Store) Items() []Item {
	var out []Item
	for _, o := range s.own {
		c := o.chain[0]
		out = append(out, Item{
			Kind: ItemOwn, Name: o.name, Subject: words(c.RawSubject), Issuer: words(c.RawIssuer), Serial: fmt.Sprintf("%x", c.SerialNumber),
			From: c.NotBefore, Until: c.NotAfter,
		})
	}
	for _, a := range s.authorities {
		out = append(out, Item{
			Kind: ItemAuthority, Name: a.file, Subject: words(a.cert.RawSubject), Issuer: words(a.cert.RawIssuer), Serial: fmt.Sprintf("%x", a.cert.SerialNumber),
			From: a.cert.NotBefore, Until: a.cert.NotAfter,
		})
	}
	for _, src := range s.crls.Load().sources {
		i := Item{Kind: ItemCRL, Name: src.from, Missing: src.list == nil}
		if src.list != nil {
			i.Issuer, i.From, i.Until, i.Revoked = words(src.list.list.RawIssuer), src.list.list.ThisUpdate, src.list.list.NextUpdate, len(src.list.serials)
		}
		out = append(out, i)
	}
	return out
}
