package ike

import (
	"strings"

	"vrgate/controlplane/isakmp"
)

// idPattern is an identity to compare with, in the syntax of parseID, read once: message
// 1 of aggressive mode, which anybody can send, is compared with that of each key.
type idPattern struct {
	of    string // the text it was read from
	any   bool
	anyDN bool
	typ   isakmp.IDType
	text  string // in lower case where case means nothing
	// Of a distinguished name, in either order; none if it cannot be read.
	parts, turned []dnPart
}

func newIDPattern(want string) *idPattern {
	w := &idPattern{of: want}
	switch {
	case want == "" || want == anyText:
		w.any = true
	case strings.HasPrefix(want, prefixDN):
		w.typ = isakmp.IDDERDN
		if w.anyDN = want[len(prefixDN):] == anyText; w.anyDN {
			return w
		}
		if parts, err := parseDN(want[len(prefixDN):]); err == nil {
			w.parts = folded(parts)
			w.turned = turned(w.parts)
		}
	default:
		id := parseID(want)
		w.typ, w.text = id.Type, comparedBy(id)
	}
	return w
}

// shownID is an identity of a peer, read once likewise.
type shownID struct {
	typ  isakmp.IDType
	text string
	dn   []dnPart // nil if it cannot be read
}

func newShownID(id isakmp.ID) *shownID {
	s := &shownID{typ: id.Type}
	if id.Type != isakmp.IDDERDN {
		s.text = comparedBy(id)
		return s
	}
	if dn, err := decodeDN(id.Data); err == nil {
		s.dn = folded(dn)
	}
	return s
}

// comparedBy is what identities that are no distinguished names are compared by. Names
// compare without case, as DNS does.
func comparedBy(id isakmp.ID) string {
	if id.Type == isakmp.IDFQDN || id.Type == isakmp.IDUserFQDN {
		return strings.ToLower(string(id.Data))
	}
	return string(id.Data)
}

// matches tells whether an identity is one that the pattern names.
func (w *idPattern) matches(s *shownID) bool {
	switch {
	case w.any:
		return true
	case w.typ != s.typ:
		return false
	}
	switch w.typ {
	case isakmp.IDDERDN:
		if s.dn == nil || w.anyDN {
			return s.dn != nil
		}
		return w.parts != nil && len(w.parts) == len(s.dn) && (sameSequence(w.parts, s.dn) || sameSequence(w.turned, s.dn))
	case isakmp.IDFQDN, isakmp.IDUserFQDN, isakmp.IDKeyID:
		return wildcard(w.text, s.text)
	}
	return w.text == s.text
}

// pattern is the key's ID, read when the configuration came.
func (k *PresharedKey) pattern() *idPattern {
	if k.id == nil || k.id.of != k.ID {
		return newIDPattern(k.ID)
	}
	return k.id
}
