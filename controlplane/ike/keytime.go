package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/isakmp"
)

// Rotation of pre-shared keys. A key is taken for new phase 1 SAs from From until Until; where
// the windows of two overlap both are, so that clients can be given the new one in turn. Who
// still uses the old one shows in [ConnInfo].Key. A key that is out of force ends no
// connection, but no phase 1 rekey is done with it either.
//
// A key out of force is tried all the same when no other fits, never to let the peer in but to
// tell the operator why it is not: "wrong key" would send him looking for a typing error.
//
// In main mode each key of an overlap is tried against message 5. In aggressive mode we prove
// ourselves first, by one key: the newest. A client that has the other gives up, and when it tries
// again it is the other's turn.

// maxOldKeys bounds the keys out of force that are tried against one message 5.
const maxOldKeys = 4

// inForce tells whether the key is taken for new phase 1 SAs.
func (k *PresharedKey) inForce(now time.Time) bool {
	return !now.Before(k.From) && (k.Until.IsZero() || now.Before(k.Until))
}

// bounded tells whether the key is one that is, or was, rotated.
func (k *PresharedKey) bounded() bool { return !k.From.IsZero() || !k.Until.IsZero() }

// why says why a key that is out of force is.
func (k *PresharedKey) why(now time.Time) (Reason, string) {
	kind := "pre-shared key"
	if k.Group {
		kind = "group key"
	}
	const form = "2006-01-02 15:04:05 MST"
	if now.Before(k.From) {
		return ReasonKeyEarly, fmt.Sprintf("%s %q is not valid before %s", kind, k.Name, k.From.UTC().Format(form))
	}
	return ReasonKeyExpired, fmt.Sprintf("%s %q has expired on %s", kind, k.Name, k.Until.UTC().Format(form))
}

// oldKeys returns keys out of force that would otherwise serve the peer, those that went last
// first.
func (c *Config) oldKeys(local, peer netip.Addr, m AuthMethod, now time.Time) []*PresharedKey {
	var old []*PresharedKey
	for i := range c.Keys {
		if k := &c.Keys[i]; !k.inForce(now) && k.serves(local, peer, m) {
			old = append(old, k)
		}
	}
	slices.SortStableFunc(old, func(a, b *PresharedKey) int { return b.Until.Compare(a.Until) })
	return old[:min(len(old), maxOldKeys)]
}

// oldKeyFor returns the key out of force that an identity would have, nil if there is none.
func (c *Config) oldKeyFor(local, peer netip.Addr, m AuthMethod, id isakmp.ID, now time.Time) *PresharedKey {
	shown := newShownID(id)
	for _, k := range c.oldKeys(local, peer, m, now) {
		if k.isFor(shown, peer) {
			return k
		}
	}
	return nil
}

// noKey says why nobody can be authenticated between the two addresses.
func (e *Engine) noKey(local, remote netip.Addr) (Reason, func() string) {
	old := e.cfg.oldKeys(local, remote, AuthPSK, e.now)
	if len(old) == 0 {
		return ReasonNoKey, func() string {
			return fmt.Sprintf("no pre-shared key or certificate is configured for %v on %v", remote, local)
		}
	}
	r, text := old[0].why(e.now)
	return r, func() string {
		return fmt.Sprintf("no pre-shared key for %v on %v is in force: %s", remote, local, text)
	}
}

// ourKey returns the key with which to begin phase 1: the named one or, where that is a group
// key out of force, the newest of its address. It returns nil and says why if there is none.
func (e *Engine) ourKey(name string, local netip.Addr) (*PresharedKey, Reason, string) {
	k := e.cfg.key(name, local)
	if k == nil {
		return nil, ReasonConfig, fmt.Sprintf("there is no pre-shared key %q", name)
	}
	if k.inForce(e.now) {
		return k, "", ""
	}
	if k.Group {
		if newest := e.cfg.newestGroupKey(local, e.now); newest != nil {
			return newest, "", ""
		}
	}
	r, text := k.why(e.now)
	return nil, r, text
}

// newestGroupKey returns the group key of an address that came into force last, nil if none is.
func (c *Config) newestGroupKey(local netip.Addr, now time.Time) *PresharedKey {
	var newest *PresharedKey
	for i := range c.Keys {
		k := &c.Keys[i]
		if k.Group && k.inForce(now) && k.at(local) && (newest == nil || k.From.After(newest.From)) {
			newest = k
		}
	}
	return newest
}

// inTurn returns the key to prove ourselves with in aggressive mode, of those that are
// rotated in the place of k.
func (e *Engine) inTurn(k *PresharedKey, remote netip.Addr) *PresharedKey {
	var same []*PresharedKey
	rotated := false
	for i := range e.cfg.Keys {
		o := &e.cfg.Keys[i]
		if o.Local == k.Local && o.Peer == k.Peer && o.ID == k.ID && o.Tunnel == k.Tunnel && o.Static == k.Static && o.Group == k.Group && o.inForce(e.now) {
			same, rotated = append(same, o), rotated || o.bounded()
		}
	}
	s := e.guard.source(remote)
	if !rotated || s == nil {
		return k
	}
	slices.SortStableFunc(same, func(a, b *PresharedKey) int { return b.From.Compare(a.From) })
	return same[s.Turn%len(same)]
}

// nextTurn notes that a peer has given up at our proof.
func (e *Engine) nextTurn(remote netip.Addr) {
	if s := e.guard.source(remote); s != nil {
		s.Turn, s.TurnAt = (s.Turn+1)%maxOpenKeys, e.now
	}
}

// continues tells whether a phase 1 SA was authenticated by what its connection was: by the same
// key and certificate, or by another group key while keys are rotated. Whoever holds either of
// those may call itself as it likes, so that the second proves no less than the first.
func (e *Engine) continues(c *conn, p *phase1) bool {
	switch {
	case c.Info.Subject != p.Subject:
		return false
	case c.Info.Key == p.KeyName, c.Static != "" && p.KeyStatic == c.Static:
		return true
	case !c.GroupKey || !p.KeyGroup:
		return false
	}
	local := p.Local.Addr()
	old, fresh := e.cfg.key(c.Info.Key, local), e.cfg.key(p.KeyName, local)
	return old == nil || old.bounded() || fresh != nil && fresh.bounded()
}
