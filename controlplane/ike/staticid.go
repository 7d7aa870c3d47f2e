package ike

import (
	"fmt"
	"net/netip"
	"strings"

	"vrgate/controlplane/isakmp"
)

// peerID is the identity that a peer at an address must have, "" for any.
func (t *StaticTunnel) peerID(remote netip.Addr) string {
	if t.PeerIDIsAddress {
		return remote.String()
	}
	return t.PeerID
}

// isPeer tells whether a peer at an address has the identity that it must have.
func (t *StaticTunnel) isPeer(remote netip.Addr, id *shownID) bool {
	if t.PeerIDIsAddress || t.peer == nil {
		return newIDPattern(t.peerID(remote)).matches(id)
	}
	return t.peer.matches(id)
}

// advice is what to configure for a peer that calls itself otherwise than by its address, where that was asked of it by
// default: one behind a NAT shows its own address, and one with a certificate mostly its subject.
func (t *StaticTunnel) advice(id isakmp.ID) string {
	text := configured(id)
	if !t.PeerIDIsAddress || text == "" {
		return ""
	}
	return fmt.Sprintf("; static tunnel %q wants the address that it is seen at: if it is the right peer, configure peer-id %q", t.Name, text)
}

// advice is that for the responder of a dial.
func (e *Engine) advice(p *phase1) string {
	t := e.cfg.static(p.neg.Open.Static)
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: p.neg.PeerID}.ID()
	if t == nil || err != nil || t.advice(id) == "" {
		return ""
	}
	return fmt.Sprintf(" and not %v%s", p.Remote.Addr(), t.advice(id))
}

// staticByAddress returns a tunnel whose peer between two addresses would be known by its key, if it called itself by its
// address; nil if there is none. One that has the peer's address goes before one for everywhere, which counts only if the peer
// does show an address.
func (c *Config) staticByAddress(local, remote netip.Addr, id isakmp.ID) (found *StaticTunnel) {
	shown := id.Type == isakmp.IDIPv4 || id.Type == isakmp.IDIPv6
	for i := range c.Keys {
		k := &c.Keys[i]
		if k.static == nil || !k.static.PeerIDIsAddress || !k.serves(local, remote, k.static.answered()) {
			continue
		}
		switch anywhere := k.static.anywhere(); {
		case !anywhere:
			return k.static
		case shown && found == nil:
			found = k.static
		}
	}
	return found
}

// configured writes an identity in the syntax of parseID, "" if it cannot be written so.
func configured(id isakmp.ID) string {
	if len(id.Data) > maxShown {
		return ""
	}
	var text string
	switch id.Type {
	case isakmp.IDIPv4, isakmp.IDIPv6:
		if a, ok := netip.AddrFromSlice(id.Data); ok {
			text = a.String()
		}
	case isakmp.IDFQDN:
		text = "@" + string(id.Data)
	case isakmp.IDUserFQDN:
		text = string(id.Data)
	case isakmp.IDKeyID:
		text = prefixKeyID + string(id.Data)
	case isakmp.IDDERDN:
		if parts, err := decodeDN(id.Data); err == nil {
			text = prefixDN + formatDN(parts)
		}
	}
	if strings.Contains(text, anyText) || !idMatches(text, id) {
		return "" // an asterisk of the peer's would be a pattern
	}
	return text
}
