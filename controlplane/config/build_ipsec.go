package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// minKeyLen is the length below which a pre-shared key draws a warning: one
// handshake recorded lets an attacker try keys offline.
const minKeyLen = 16

func (b *builder) ipsec(f *fileRouter, r *Router) {
	b.certificates(f, r)
	b.policy(f, r)
	b.transportProfiles(f, r)
	b.preSharedKeys(f, r)
	b.tunnelProfiles(f, r)
	d := f.IPsec.DPD
	r.DPD = DPD{Enabled: d.Enabled.v, Sent: d.Sent.v, Unanswered: d.Unanswered.v, Silent: d.Silent.v}
	if f.IPsec.Proposals.v == ProposalLegacy {
		b.warnf(f.IPsec.Proposals.pos, "the proposal profile legacy accepts algorithms that are broken (DES, MD5, MODP 768)")
	}
}

func (b *builder) policy(f *fileRouter, r *Router) {
	seen := map[int64]int{}
	for i := range f.IPsec.Policy {
		p := &f.IPsec.Policy[i]
		if p.Priority.given() && p.Priority.v != 0 {
			if line, dup := seen[p.Priority.v]; dup {
				b.errorf(p.Priority.pos, "priority %d is there twice; the first is in line %d", p.Priority.v, line)
			} else {
				seen[p.Priority.v] = p.Priority.pos.Line
			}
		}
		b.serverAddress(p.LocalAddress, "local-address", f, r)
		b.ruleMethod(p, f)
		r.Policy = append(r.Policy, PolicyRule{
			Priority:       int(p.Priority.v),
			Auth:           p.Auth.v,
			Encryption:     wordList(b, p.Encryption, "encryption"),
			Hash:           wordList(b, p.Hash, "hash"),
			Group:          wordList(b, p.Group, "group"),
			Lifetime:       p.Lifetime.v,
			AggressiveMode: p.AggressiveMode.v,
			LocalAddress:   p.LocalAddress.v,
		})
	}
	slices.SortStableFunc(r.Policy, func(a, b PolicyRule) int { return cmp.Compare(a.Priority, b.Priority) })
}

// wordList takes the values of a list of words. Weak ones have been asked for by
// name and draw a warning.
func wordList[T interface {
	enum[T]
	fmt.Stringer
}](b *builder, list []word[T], key string) []T {
	var out []T
	for _, w := range list {
		if w.v == 0 {
			continue
		}
		if slices.Contains(out, w.v) {
			b.errorf(w.pos, "%v is twice in %q", w.v, key)
			continue
		}
		if why := weakness(w.v.String()); why != "" {
			b.warnf(w.pos, "%v %s", w.v, why)
		}
		out = append(out, w.v)
	}
	return out
}

func (b *builder) transportProfiles(f *fileRouter, r *Router) {
	seenName := map[string]Pos{}
	type ends struct{ local, remote netip.Addr }
	seenEnds := map[ends]Pos{}
	for i := range f.IPsec.TransportProfiles {
		t := &f.IPsec.TransportProfiles[i]
		b.unique(seenName, t.Name, "transport profile")
		p := TransportProfile{
			Name:              t.Name.v,
			RemoteAddress:     t.RemoteAddress.v,
			Lifetime:          t.Lifetime.v,
			LifetimeKilobytes: uint32(t.Kilobytes.v),
			PFS:               t.PFS.v,
			Transforms:        b.transforms(t.Transforms),
			Certificate:       b.certificateOf(t.Certificate, f),
			NATPassthrough:    t.NATPassthrough.v,
		}
		if t.Certificate.given() {
			b.needAuthorities(t.Certificate.pos, "the transport profile has a certificate", f)
		}
		for j := range t.Locals {
			l := &t.Locals[j]
			b.serverAddress(l.Address, "address", f, r)
			if e := (ends{l.Address.v, p.RemoteAddress}); e.local.IsValid() {
				if first, dup := seenEnds[e]; dup {
					b.errorf(l.Address.pos, "local address %v with remote address %v is there twice; the first is in line %d", e.local, e.remote, first.Line)
				} else {
					seenEnds[e] = l.Address.pos
				}
			}
			p.Locals = append(p.Locals, TransportLocal{l.Address.v, b.groupKeys(l)})
		}
		r.TransportProfiles = append(r.TransportProfiles, p)
	}
}

func (b *builder) transforms(list []transform) []ESPTransform {
	var out []ESPTransform
	for _, t := range list {
		if t.v == (ESPTransform{}) {
			continue
		}
		if slices.Contains(out, t.v) {
			b.errorf(t.pos, "%v is twice in \"transforms\"", t.v)
			continue
		}
		for _, w := range strings.Split(t.v.String(), "-") {
			if why := weakness(w); why != "" {
				b.warnf(t.pos, "%s %s", w, why)
			}
		}
		out = append(out, t.v)
	}
	// Both truncations have the same number on the wire, so a profile cannot
	// tell which of the two a peer means.
	for _, t := range list {
		if t.v.Integrity == IntegritySHA256Trunc96 && slices.ContainsFunc(out, func(o ESPTransform) bool { return o.Integrity == IntegritySHA256 }) {
			b.errorf(t.pos, "sha256_96 and sha256 exclude each other in one profile: peers offer both by the same number")
			break
		}
	}
	return out
}

func (b *builder) weakKey(k Secret, inline, file Pos) {
	if len(k) == 0 || len(k) >= minKeyLen {
		return
	}
	p := inline
	if p.Line == 0 {
		p = file
	}
	b.warnf(p, "a pre-shared key of fewer than %d characters can be guessed from one recorded connection", minKeyLen)
}

func (b *builder) preSharedKeys(f *fileRouter, r *Router) {
	seenName := map[string]Pos{}
	seenAddr := map[netip.Addr]Pos{}
	seenID := map[Identity]Pos{}
	byIdentity := 0
	for i := range f.IPsec.Keys {
		k := &f.IPsec.Keys[i]
		b.unique(seenName, k.Name, "pre-shared key")
		s := b.secretOf(k.pos, k.Key, k.KeyFile, "key", true)
		b.weakKey(s, k.Key.pos, k.KeyFile.pos)
		addr, id := k.PeerAddress, k.PeerIdentity
		switch {
		case addr.given() && id.given():
			b.errorf(id.pos, "\"peer-identity\" and \"peer-address\" exclude each other")
		case !addr.given() && !id.given() && k.present:
			b.errorf(k.pos, "key \"peer-address\" or \"peer-identity\" is missing")
		case addr.v.IsValid():
			if first, dup := seenAddr[addr.v]; dup {
				b.errorf(addr.pos, "the peer %v has a key already, in line %d", addr.v, first.Line)
			} else {
				seenAddr[addr.v] = addr.pos
			}
		case id.v.Kind != 0:
			if first, dup := seenID[id.v]; dup {
				b.errorf(id.pos, "the peer %s has a key already, in line %d", quoteShort(id.v.Value), first.Line)
			} else {
				seenID[id.v] = id.pos
			}
			if byIdentity++; byIdentity == MaxIdentityKeys+1 {
				b.errorf(id.pos, "there are more than %d keys by identity: in main mode each of them has to be tried", MaxIdentityKeys)
			}
		}
		r.Keys = append(r.Keys, PreSharedKey{Name: k.Name.v, PeerAddress: addr.v, PeerIdentity: id.v, Key: s})
	}
}
