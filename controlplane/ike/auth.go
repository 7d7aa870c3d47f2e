package ike

import (
	"fmt"
	"net/netip"
	"strings"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// foundKey is the pre-shared key that a peer has proven to know.
type foundKey struct {
	key     *PresharedKey
	keys    keymat.Keys
	idBody  []byte
	next    []byte // IV of the answer
	contact bool   // INITIAL-CONTACT came along
	reason  Reason // without key: what was wrong though the message decrypts
}

// findKey tries the candidates for the pair of addresses against message 5: with
// the right key it decrypts into an identity and a hash that proves the key.
// Without a match the text says what an operator needs to know.
func (e *Engine) findKey(p *phase1, h isakmp.Header, body []byte) (f foundKey, text string) {
	n := p.neg
	candidates := e.cfg.keysFor(p.Local.Addr(), p.Remote.Addr())
	iv := p.Suite.FirstIV(n.GXi, n.GXr)
	for _, k := range candidates {
		skeyid := keymat.SKEYIDPreShared(p.Suite.Hash, k.Key, n.Ni, n.Nr)
		keys, err := keymat.Derive(p.Suite, skeyid, n.Shared, p.Cookies.I, p.Cookies.R)
		if err != nil {
			return foundKey{reason: ReasonAuthFailed}, err.Error()
		}
		o, err := p.open(keys, iv, h, body)
		if err != nil {
			keys.Wipe()
			continue
		}
		if err := isakmp.Check(isakmp.IdentityProtection, 5, o.payloads, true); err != nil {
			keys.Wipe()
			continue
		}
		idp, _ := isakmp.Find(o.payloads, isakmp.TypeID)
		hash, ok := isakmp.Find(o.payloads, isakmp.TypeHash)
		id, err := idp.ID()
		if err != nil || !ok || !keymat.EqualProof(hash.Body, keys.HashI(p.exchange(), idp.Body)) {
			keys.Wipe()
			if f.reason == "" {
				f.reason = ReasonAuthFailed
				text = fmt.Sprintf("message 5 decrypts with key %q but its proof is wrong", k.Name)
			}
			continue
		}
		if !idMatches(k.ID, id) {
			keys.Wipe()
			f.reason = ReasonIdentity
			text = fmt.Sprintf("peer knows key %q but calls itself %s, the key is for %s", k.Name, describe(idp.Body), k.ID)
			continue
		}
		return foundKey{key: k, keys: keys, idBody: clone(idp.Body), next: o.next, contact: hasNotify(o.payloads, isakmp.InitialContact)}, ""
	}
	if f.reason == "" {
		names := make([]string, len(candidates))
		for i, k := range candidates {
			names[i] = fmt.Sprintf("%q", k.Name)
		}
		text = "message 5 does not decrypt: pre-shared keys differ (tried " + strings.Join(names, ", ") + ")"
	}
	return f, text
}

// authenticatedBy notes which pre-shared key it was.
func (s *session) authenticatedBy(k *PresharedKey) {
	s.KeyName, s.KeyTunnel, s.KeyGroup = k.Name, k.Tunnel, k.Group
}

// hasNotify tells whether a notify of the type is among the payloads.
func hasNotify(ps []isakmp.Payload, t isakmp.NotifyType) bool {
	for _, p := range ps {
		if p.Type != isakmp.TypeNotify {
			continue
		}
		if n, err := p.Notify(); err == nil && n.Type == t {
			return true
		}
	}
	return false
}

// parseID reads the syntax of PresharedKey.ID: an address, "@fqdn" or
// "user@fqdn"; anything else is a key id.
func parseID(s string) isakmp.ID {
	if a, err := netip.ParseAddr(s); err == nil {
		return isakmp.AddrID(a, 0, 0)
	}
	switch at := strings.IndexByte(s, '@'); {
	case at == 0:
		return isakmp.TextID(isakmp.IDFQDN, s[1:])
	case at > 0:
		return isakmp.TextID(isakmp.IDUserFQDN, s)
	}
	return isakmp.TextID(isakmp.IDKeyID, s)
}

// idMatches tells whether a proven identity is the one a key is for. Names
// compare without case, as DNS does; an empty want is any identity.
func idMatches(want string, id isakmp.ID) bool {
	if want == "" {
		return true
	}
	w := parseID(want)
	if w.Type != id.Type {
		return false
	}
	if w.Type == isakmp.IDFQDN || w.Type == isakmp.IDUserFQDN {
		return strings.EqualFold(string(w.Data), string(id.Data))
	}
	return string(w.Data) == string(id.Data)
}

// localID is the identity we present with a key.
func localID(k *PresharedKey, local netip.Addr) isakmp.ID {
	if k.LocalID != "" {
		return parseID(k.LocalID)
	}
	return isakmp.AddrID(local, 0, 0)
}
