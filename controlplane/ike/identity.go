package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Identities of phase 1 (RFC 2407 section 4.6.2), in configuration and in logs:
//
//	192.0.2.1, 2001:db8::1     IPV4_ADDR, IPV6_ADDR
//	@vpn.example.net           FQDN
//	user@example.net           USER_FQDN
//	dn:CN=x,O=y                DER_ASN1_DN, written as in RFC 4514: the last part of the encoding first
//	keyid:office, office       KEY_ID: what Cisco's clients call a group name
//
// In what a peer is compared with, "*" stands for any text within a part; "dn:*" is
// any distinguished name and "*" alone any identity at all.
const (
	prefixDN    = "dn:"
	prefixKeyID = "keyid:"
	anyText     = "*"
)

// CheckID tells what is wrong with an identity in the syntax of PresharedKey.ID,
// as nothing but a distinguished name can be: an attribute without a name, a
// name that is neither known nor an object identifier, or too many parts.
func CheckID(s string) error {
	if s == prefixDN+anyText || !strings.HasPrefix(s, prefixDN) {
		return nil
	}
	_, err := parseDN(s[len(prefixDN):])
	return err
}

// parseID reads the syntax above. A distinguished name that cannot be read has
// no data, so that it is nobody's; see CheckID.
func parseID(s string) isakmp.ID {
	switch {
	case strings.HasPrefix(s, prefixDN):
		id := isakmp.ID{Type: isakmp.IDDERDN}
		if parts, err := parseDN(s[len(prefixDN):]); err == nil {
			id.Data = encodeDN(parts)
		}
		return id
	case strings.HasPrefix(s, prefixKeyID):
		return isakmp.TextID(isakmp.IDKeyID, s[len(prefixKeyID):])
	}
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

// idMatches tells whether an identity is one that want names; an empty want is
// any. Names compare without case, as DNS does, and so do the values of
// distinguished names; key ids compare as they are. The parts of a distinguished
// name must be those of want, in its order.
func idMatches(want string, id isakmp.ID) bool {
	return newIDPattern(want).matches(newShownID(id))
}

// wildcard tells whether text is pattern with any text for each "*". The time is
// bounded by the product of their lengths.
func wildcard(pattern, text string) bool {
	star, mark := -1, 0
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p, t = p+1, t+1
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], anyText) == ""
}

// maxShown bounds the bytes of an identity in a log line.
const maxShown = 256

// describe shows an identification body in logs: quoted where a peer can choose
// any byte.
func describe(body []byte) string {
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: body}.ID()
	if err != nil {
		return fmt.Sprintf("unreadable identity of %d bytes", len(body))
	}
	if len(id.Data) > maxShown && id.Type != isakmp.IDDERDN {
		n := len(id.Data)
		id.Data = id.Data[:maxShown]
		return fmt.Sprintf("%v… of %d bytes", isakmp.ID{Type: id.Type, Data: id.Data}, n)
	}
	if id.Type == isakmp.IDDERDN {
		if parts, err := decodeDN(id.Data); err == nil {
			text := formatDN(parts)
			if len(text) > maxShown {
				return fmt.Sprintf("%v %q… of %d bytes", id.Type, text[:maxShown], len(id.Data))
			}
			return fmt.Sprintf("%v %q", id.Type, text)
		}
		return fmt.Sprintf("%v of %d unreadable bytes", id.Type, len(id.Data))
	}
	id.Protocol, id.Port = 0, 0
	return id.String()
}

// localID is the identity we present with a pre-shared key: its own, that of the
// tunnel profile it belongs to, or our address.
func (c *Config) localID(k *PresharedKey, local netip.Addr) isakmp.ID {
	if k.LocalID != "" {
		return parseID(k.LocalID)
	}
	if k.Tunnel != "" {
		for i := range c.Tunnels {
			if t := &c.Tunnels[i]; t.Name == k.Tunnel && t.LocalID != "" {
				return parseID(t.LocalID)
			}
		}
	}
	return isakmp.AddrID(local, 0, 0)
}

// serves tells whether a key may authenticate peers at an address with a
// method. J19: a group key is for L2TP only, which no XAuth method is.
func (k *PresharedKey) serves(local, peer netip.Addr, m AuthMethod) bool {
	switch {
	case !k.at(local),
		k.Peer.IsValid() && !k.Peer.Contains(peer),
		k.Group && m == AuthXAuthPSK,
		k.Static != "" && (k.static == nil || !k.static.between(local, peer) || !k.static.answers(m)):
		return false
	}
	return true
}

// fixed tells whether the key belongs to a static tunnel whose peer has a fixed address.
func (k *PresharedKey) fixed() bool { return k.static != nil && !k.static.anywhere() }

// isFor tells whether a peer of that identity and address may have the key.
func (k *PresharedKey) isFor(id *shownID, peer netip.Addr) bool {
	return k.pattern().matches(id) && (k.static == nil || !k.static.PeerIDIsAddress || newIDPattern(peer.String()).matches(id))
}

// at tells whether the key is for a server address of ours (D1r).
func (k *PresharedKey) at(local netip.Addr) bool {
	return !k.Local.IsValid() || k.Local.IsUnspecified() || k.Local == local
}

// keysFor returns the keys in force that may authenticate a peer whose identity is not
// known yet, most specific first: at most maxNamedKeys for a named identity and
// maxOpenKeys for any, so that neither keeps the other out. Key ids are what groups
// call themselves in aggressive mode; of those there may be many, and they come last
// among the named. So do keys of static tunnels whose peer may be anywhere, behind all
// others: of them maxOpenKeys are tried, and more need aggressive mode or certificates (Z-3).
func (c *Config) keysFor(local, peer netip.Addr, m AuthMethod, now time.Time) []*PresharedKey {
	var named, ids, open, anywhere []*PresharedKey
	for i := range c.Keys {
		k := &c.Keys[i]
		if !k.serves(local, peer, m) || !k.inForce(now) {
			continue
		}
		switch {
		case k.Static != "" && !k.fixed():
			if len(anywhere) < maxOpenKeys {
				anywhere = append(anywhere, k)
			}
		case k.pattern().any && k.Static == "":
			if len(open) < maxOpenKeys {
				open = append(open, k)
			}
		case len(named) == maxNamedKeys:
		case k.pattern().typ != isakmp.IDKeyID:
			named = append(named, k)
		case len(ids) < maxNamedKeys:
			ids = append(ids, k)
		}
	}
	ids = ids[:min(len(ids), maxNamedKeys-len(named))]
	return slices.Concat(named, ids, open, anywhere)
}

// keyFor returns the most specific key in force that may authenticate a peer of that
// identity, nil if there is none. The order of the keys is no more than that of most: what
// addresses the peers of static tunnels have is known only afterwards.
func (c *Config) keyFor(local, peer netip.Addr, m AuthMethod, id isakmp.ID, now time.Time) *PresharedKey {
	shown := newShownID(id)
	var best *PresharedKey
	for i := range c.Keys {
		k := &c.Keys[i]
		if k.serves(local, peer, m) && k.inForce(now) && k.isFor(shown, peer) && (best == nil || k.rank() > best.rank()) {
			best = k
		}
	}
	return best
}

// hasKey tells whether keysFor would return any.
func (c *Config) hasKey(local, peer netip.Addr, m AuthMethod, now time.Time) bool {
	for i := range c.Keys {
		if k := &c.Keys[i]; k.serves(local, peer, m) && k.inForce(now) {
			return true
		}
	}
	return false
}

// preShared tells whether both sides prove themselves with a pre-shared key.
func (m AuthMethod) preShared() bool { return m == AuthPSK || m == AuthXAuthPSK }

// signs tells whether the initiator or the responder of phase 1 signs: with
// hybrid authentication the responder alone does.
func (m AuthMethod) signs(initiator bool) bool {
	return m == AuthRSA || m == AuthXAuthRSA || m == AuthHybridRSA && !initiator
}

// skeyid derives SKEYID for what the SA negotiated.
func (p *phase1) skeyid(psk keymat.Secret) keymat.Secret {
	n := p.neg
	if p.Method.preShared() {
		return keymat.SKEYIDPreShared(p.Suite.Hash, psk, n.Ni, n.Nr)
	}
	return keymat.SKEYIDSignature(p.Suite.Hash, n.Ni, n.Nr, n.Shared)
}

// derive makes the keys of the SA with a pre-shared key, or with none.
func (p *phase1) derive(psk keymat.Secret) (keymat.Keys, error) {
	return keymat.Derive(p.Suite, p.skeyid(psk), p.neg.Shared, p.Cookies.I, p.Cookies.R)
}
