package config

import (
	"net/netip"
	"slices"
	"strings"
)

// value returns the licences.
func (f *fileLicences) value() Licences {
	return Licences{Subscribers: int(f.Subscribers.v), IPsecTunnels: int(f.IPsecTunnels.v)}
}

func (b *builder) tunnelProfiles(f *fileRouter, r *Router) {
	seen := map[string]Pos{}
	for i := range f.IPsec.TunnelProfiles {
		t := &f.IPsec.TunnelProfiles[i]
		b.unique(seen, t.Name, "tunnel profile")
		b.serverAddress(t.LocalAddress, "local-address", f, r)
		p := TunnelProfile{
			Name:              t.Name.v,
			LocalAddress:      t.LocalAddress.v,
			LocalIdentity:     t.LocalIdentity.v,
			Certificate:       b.certificateOf(t.Certificate, f),
			PeerIdentities:    distinct(b, t.PeerIdentities, "peer-identities"),
			Keys:              b.tunnelKeys(t),
			XAuth:             t.XAuth.v,
			Reauthenticate:    t.Reauthenticate.v,
			Attempts:          int(t.Attempts.v),
			Push:              t.Push.v,
			MaxSubscribers:    int(t.MaxSubscribers.v),
			DomainSuffix:      t.DomainSuffix.v,
			IPProfile:         b.ipProfileOf("tunnel", &t.section, t.IPProfile, f),
			Networks:          distinct(b, t.Networks, "networks"),
			Phase2Local:       distinct(b, t.Phase2Local, "phase2-local-identities"),
			Phase2Peer:        distinct(b, t.Phase2Peer, "phase2-peer-identities"),
			Lifetime:          t.Lifetime.v,
			LifetimeKilobytes: uint32(t.Kilobytes.v),
			PFS:               t.PFS.v,
			Transforms:        b.transforms(t.Transforms),
			MTU:               int(t.MTU.v),
			AddressExpiry:     t.AddressExpiry.v,
			Banner:            t.Banner.v,
			DefaultDomain:     t.DefaultDomain.v,
			SplitDNS:          distinct(b, t.SplitDNS, "split-dns"),
			SavePassword:      t.SavePassword.v,
		}
		b.tunnelMethods(t, f)
		b.ruledOut(t, f)
		r.TunnelProfiles = append(r.TunnelProfiles, p)
	}
	b.tellApart(f, r)
	b.vanished(f)
}

// vanished warns of users that lock themselves out: a client that is switched off leaves
// its session behind, which holds the user's address.
func (b *builder) vanished(f *fileRouter) {
	if len(f.IPsec.TunnelProfiles) == 0 || !f.IPsec.sound("tunnel-profiles") || f.IPsec.DPD.Enabled.v {
		return
	}
	for i := range f.Users {
		if u := &f.Users[i]; u.Address.given() && u.IdleTimeout.v == 0 {
			b.warnf(u.Address.pos, "a client that vanishes keeps the address until its SAs expire, and its user out; switch on \"dead-peer-detection\" or give the user an \"idle-timeout\"")
			return
		}
	}
}

// placed is a scalar of the file for [distinct].
type placed[V any] interface{ value() (V, Pos) }

func (l leaf[T]) value() (T, Pos) { return l.v, l.pos }

// distinct takes the values of a list. One that did not decode is left out.
func distinct[V comparable, T placed[V]](b *builder, list []T, key string) []V {
	var out []V
	var none V
	for _, e := range list {
		v, at := e.value()
		switch {
		case v == none:
		case slices.Contains(out, v):
			b.errorf(at, "%v is twice in %q", v, key)
		default:
			out = append(out, v)
		}
	}
	return out
}

func (b *builder) tunnelKeys(t *fileTunnel) []TunnelKey {
	var keys []TunnelKey
	seen := map[string]Pos{}
	for i := range t.Keys {
		k := &t.Keys[i]
		b.unique(seen, k.Name, "key")
		s := b.secretOf(k.pos, k.Key, k.KeyFile, "key", true)
		b.weakKey(s, k.Key.pos, k.KeyFile.pos)
		if k.present {
			// D3r, and here the passwords of users are lost besides.
			b.warnf(k.pos, "whoever knows the group key %s can pose as this server to its clients and learns what they answer; a certificate with hybrid authentication does not have this weakness", quoteShort(k.Name.v))
		}
		keys = append(keys, TunnelKey{Name: k.Name.v, Identity: k.Identity.v, Key: s})
	}
	return keys
}

// tunnelMethods checks that somebody can authenticate by the profile.
func (b *builder) tunnelMethods(t *fileTunnel, f *fileRouter) {
	if !t.present || !t.sound("keys") || !f.IPsec.sound("pre-shared-keys") {
		return
	}
	keys := len(t.Keys) > 0 || len(f.IPsec.Keys) > 0
	switch {
	case !keys && !t.Certificate.given():
		b.errorf(t.pos, "nobody can authenticate: the tunnel profile has neither \"keys\" nor \"certificate\", and the virtual router no \"pre-shared-keys\"")
	case !keys && t.XAuth.v == XAuthNone:
		b.needAuthorities(t.Certificate.pos, "peers authenticate by certificate alone", f)
	case len(t.Keys) > 0 && t.XAuth.v == XAuthNone:
		b.warnf(t.XAuth.pos, "without extended authentication everybody who knows a key of the profile is let in")
	}
	if f.IPsec.sound("ike-policy-rules") && !slices.ContainsFunc(f.IPsec.Policy, func(p filePolicyRule) bool { return p.AggressiveMode.v > AggressiveNone }) {
		for i := range t.Keys {
			// A group name is not known in main mode before the key is needed.
			if k := &t.Keys[i]; k.Identity.given() && k.Identity.kind == keyID {
				b.warnf(k.Identity.pos, "clients send the group name %s in aggressive mode, which no IKE policy rule allows", quoteShort(k.Identity.v))
			}
		}
	}
}

// ruledOut warns of keys and certificates that no IKE policy rule lets anybody use: the rules
// alone decide about phase 1 (J15), and allow pre-shared keys alone unless they say more.
func (b *builder) ruledOut(t *fileTunnel, f *fileRouter) {
	rules := f.IPsec.Policy
	if len(rules) == 0 || !f.IPsec.sound("ike-policy-rules") {
		return
	}
	allowed := func(methods ...AuthMethod) bool {
		return slices.ContainsFunc(rules, func(p filePolicyRule) bool { return p.Auth.v == AuthAny || slices.Contains(methods, p.Auth.v) })
	}
	if t.Certificate.given() && !allowed(AuthRSA, AuthHybrid) {
		b.warnf(t.Certificate.pos, "the certificate is never used: no IKE policy rule allows \"rsa\" or \"hybrid\"")
	}
	if len(t.Keys) > 0 && !allowed(AuthPSK) {
		b.warnf(t.Keys[0].pos, "the keys are never used: no IKE policy rule allows \"psk\"")
	}
}

// tellApart sees to it that phase 1 can be assigned to one profile: by the address
// that the peer called, or by its identity (J18, J19).
func (b *builder) tellApart(f *fileRouter, r *Router) {
	// Where any peer of an address may use a group key for L2TP.
	groupKeys := map[netip.Addr]Pos{}
	for i := range f.IPsec.TransportProfiles {
		for _, l := range f.IPsec.TransportProfiles[i].Locals {
			if _, there := groupKeys[l.Address.v]; !there && len(l.GroupKeys) > 0 {
				groupKeys[l.Address.v] = l.GroupKeys[0].pos
			}
		}
	}
	type selector struct {
		local    netip.Addr
		identity string
	}
	everybody := map[netip.Addr]*fileTunnel{} // profiles with keys for anybody
	selected := map[selector]Pos{}
	open := map[netip.Addr]int{} // keys for anybody
	for i := range f.IPsec.TunnelProfiles {
		t := &f.IPsec.TunnelProfiles[i]
		anybody := t.keyForAnybody()
		for _, local := range t.locals(r) {
			if first, there := everybody[local]; anybody != nil && len(t.PeerIdentities) == 0 && there {
				b.errorf(t.pos, "the tunnel profile cannot be told from %s (line %d) on %v: both have a key without identity and no \"peer-identities\", and in main mode the key must be chosen before an identity is seen; give each an address of its own",
					quoteShort(first.Name.v), first.pos.Line, local)
				break
			}
			if anybody != nil && len(t.PeerIdentities) == 0 {
				everybody[local] = t
			}
			if at, there := groupKeys[local]; anybody != nil && there {
				b.errorf(anybody.pos, "the key has no identity, and %v has a group key for L2TP clients too (%v): in main mode nobody could say which of the two a peer means; give the tunnel profile an address of its own, or the key an identity",
					local, at)
				break
			}
		}
		for j := range t.Keys {
			k := &t.Keys[j]
			for _, local := range t.locals(r) {
				if !k.Identity.given() {
					if open[local]++; k.present && open[local] == MaxGroupKeys+1 {
						b.errorf(k.pos, "there are more than %d keys without identity on %v: in main mode each of them has to be tried", MaxGroupKeys, local)
						break
					}
					continue
				}
				if k.Identity.v == "" {
					continue
				}
				s := selector{local, strings.ToLower(k.Identity.v)}
				if at, there := selected[s]; there && at != k.Identity.pos {
					b.errorf(k.Identity.pos, "the identity %s has a key on %v already, in line %d", quoteShort(k.Identity.v), local, at.Line)
					break
				}
				selected[s] = k.Identity.pos
			}
		}
	}
}

// locals are the server addresses on which the profile holds.
func (t *fileTunnel) locals(r *Router) []netip.Addr {
	if t.LocalAddress.given() {
		return []netip.Addr{t.LocalAddress.v}
	}
	var out []netip.Addr
	for _, a := range r.ServerAddresses {
		if a.Is4() {
			out = append(out, a)
		}
	}
	return out
}

// keyForAnybody is the first key without identity, nil if there is none.
func (t *fileTunnel) keyForAnybody() *fileTunnelKey {
	for i := range t.Keys {
		if k := &t.Keys[i]; k.present && !k.Identity.given() && k.sound("identity") {
			return k
		}
	}
	return nil
}
