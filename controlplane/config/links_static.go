package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// staticTunnels builds the static tunnels of all files, gives them to the routers that send their packets, and checks those
// that touch each other.
func (b *builder) staticTunnels(byName map[string]*routerSource) []*staticSource {
	var all []*staticSource
	names := map[string]Pos{}
	for _, s := range b.routers {
		for i := range s.file.StaticTunnels {
			f := &s.file.StaticTunnels[i]
			if !f.present {
				continue
			}
			if at, dup := names[f.Name.v]; dup && f.Name.v != "" {
				b.errorf(f.Name.pos, "a static tunnel %s is there twice; the first is at %v", quoteShort(f.Name.v), at)
			} else {
				names[f.Name.v] = f.Name.pos
			}
			x := &staticSource{in: s, transport: b.transportOf(s, f, byName), file: f}
			b.staticTunnel(x)
			all = append(all, x)
		}
	}
	perRouter := map[*routerSource][]*staticSource{}
	keys := map[*routerSource]map[string][]keyUse{}
	for _, x := range all {
		if x.transport == nil {
			continue
		}
		x.transport.r.StaticTunnels = append(x.transport.r.StaticTunnels, x.t)
		perRouter[x.transport] = append(perRouter[x.transport], x)
		b.commonKey(x)
		if keys[x.transport] == nil {
			keys[x.transport] = x.transport.keyUses()
		}
		b.sameKeys(x, keys[x.transport])
		b.staticRules(x)
		b.staticUsers(x)
		b.staticLinks(x)
		b.staticRoutes(x)
	}
	for _, s := range b.routers {
		slices.SortFunc(s.r.StaticTunnels, func(x, y StaticTunnel) int { return strings.Compare(x.Name, y.Name) })
		b.tellStaticsApart(s, perRouter[s])
		b.staticPolicies(perRouter[s])
	}
	return all
}

// unreadStatics says that there may be static tunnels of any router that could not be read.
func (b *builder) unreadStatics() bool {
	return slices.ContainsFunc(b.routers, func(s *routerSource) bool {
		return !s.file.sound("static-tunnels") || slices.ContainsFunc(s.file.StaticTunnels, func(f fileStaticTunnel) bool { return f.Transport.given() && b.find(f.Transport.v) == nil })
	})
}

// transportOf is the router that sends a tunnel's packets, nil if the file names none.
func (b *builder) transportOf(s *routerSource, f *fileStaticTunnel, byName map[string]*routerSource) *routerSource {
	if !f.Transport.given() {
		if !f.sound("transport-virtual-router") {
			return nil
		}
		return s
	}
	t := byName[f.Transport.v]
	if t == nil && f.Transport.v != "" {
		b.errorf(f.Transport.pos, "\"transport-virtual-router\" is %s but there is no such virtual router%s", quoteShort(f.Transport.v), suggest(f.Transport.v, b.routerNames()))
	}
	return t
}

// commonKey sees to it that a tunnel without key and certificate has a key of the router.
func (b *builder) commonKey(x *staticSource) {
	f, t, ipsec := x.file, &x.t, &x.transport.file.IPsec
	if f.Key.present || f.Certificate.given() || !ipsec.sound("pre-shared-keys") ||
		!f.sound("pre-shared-key") || !f.sound("certificate") || !f.sound("peers") || !f.sound("peer-id") {
		return
	}
	for i := range x.transport.r.Keys {
		if t.mayUse(&x.transport.r.Keys[i]) {
			return
		}
	}
	b.errorf(f.pos, "no key can authenticate the peer: the tunnel has neither \"pre-shared-key\" nor \"certificate\", and none of \"pre-shared-keys\" of the virtual router %q is for its address or identity",
		x.transport.r.Name)
}

// mayUse says whether the peer may have a key of the router.
func (t *StaticTunnel) mayUse(k *PreSharedKey) bool {
	named := slices.ContainsFunc(t.Peers, func(p StaticPeer) bool { return p.Name != "" })
	if k.PeerAddress.IsValid() {
		return len(t.Peers) == 0 || named || slices.Contains(t.Peers, StaticPeer{Address: k.PeerAddress})
	}
	switch {
	case t.PeerIDIsAddress:
		return k.PeerIdentity.Kind == IdentityAddress && (len(t.Peers) == 0 || named ||
			slices.ContainsFunc(t.Peers, func(p StaticPeer) bool { return p.String() == k.PeerIdentity.Value }))
	case t.PeerID == "":
		return t.Start == StartRespond // who begins needs to know whose key it is
	case k.PeerIdentity.Kind == IdentityFQDN:
		return strings.EqualFold(t.PeerID, "@"+k.PeerIdentity.Value)
	}
	return strings.EqualFold(t.PeerID, k.PeerIdentity.Value)
}

// keyUse is a pre-shared key of a router.
type keyUse struct {
	what  string
	local []netip.Addr // where it holds; nil: everywhere
}

// keyUses are the router's pre-shared keys by their values: there may be thousands of keys and of tunnels.
func (s *routerSource) keyUses() map[string][]keyUse {
	out := map[string][]keyUse{}
	add := func(k Secret, what string, local []netip.Addr) {
		out[string(k)] = append(out[string(k)], keyUse{what, local})
	}
	for _, k := range s.r.Keys {
		add(k.Key, "pre-shared key "+quoteShort(k.Name), nil)
	}
	for _, p := range s.r.TransportProfiles {
		for _, l := range p.Locals {
			for _, k := range l.GroupKeys {
				add(k.Key, "group key "+quoteShort(k.Name), []netip.Addr{l.Address})
			}
		}
	}
	for i, p := range s.r.TunnelProfiles {
		for _, k := range p.Keys {
			add(k.Key, "key "+quoteShort(k.Name)+" of the tunnel profile "+quoteShort(p.Name), s.file.IPsec.TunnelProfiles[i].locals(s.r))
		}
	}
	return out
}

// sameKeys warns of keys that do not tell a tunnel's peer from others.
func (b *builder) sameKeys(x *staticSource, uses map[string][]keyUse) {
	if len(x.t.Key) == 0 {
		return
	}
	at := x.file.Key.Key.pos
	if !x.file.Key.Key.given() {
		at = x.file.Key.KeyFile.pos
	}
	for _, u := range uses[string(x.t.Key)] {
		if u.local == nil || slices.Contains(u.local, x.t.LocalAddress) {
			b.warnf(at, "the %s is the same key: who has it may pass for the tunnel's peer, and the peer for one of those; give the tunnel a key of its own", u.what)
		}
	}
}

// staticRules warns of IKE policy rules that leave no way to begin, and of what aggressive mode gives away.
func (b *builder) staticRules(x *staticSource) {
	f, ipsec := x.file, &x.transport.file.IPsec
	certified := f.Certificate.given()
	dials := x.t.Start != StartRespond
	if dials && f.Aggressive.v && !certified {
		b.warnf(f.Aggressive.pos, "aggressive mode shows our identity to everybody on the way, and a peer that answers it sends anybody who asks a hash from which the pre-shared key can be guessed")
	}
	if !ipsec.sound("ike-policy-rules") || x.t.LocalAddress == (netip.Addr{}) {
		return
	}
	method := AuthPSK
	if certified {
		method = AuthRSA
	}
	can := func(aggressive bool) bool {
		// Without rules the proposal profile decides, which has main mode alone.
		return len(ipsec.Policy) == 0 && !aggressive || slices.ContainsFunc(ipsec.Policy, func(p filePolicyRule) bool {
			return (p.Auth.v == AuthAny || p.Auth.v == method) && (!p.LocalAddress.given() || p.LocalAddress.v == x.t.LocalAddress) &&
				(aggressive && p.AggressiveMode.v > AggressiveNone || !aggressive && p.AggressiveMode.v != AggressiveRequired)
		})
	}
	switch {
	case dials && f.Aggressive.v && !can(true):
		b.warnf(f.Aggressive.pos, "the tunnel cannot be dialled: no IKE policy rule of the virtual router %q allows aggressive mode with %q on %v", x.transport.r.Name, method, x.t.LocalAddress)
	case dials && !f.Aggressive.v && !can(false):
		b.warnf(f.pos, "the tunnel cannot be dialled: no IKE policy rule of the virtual router %q allows main mode with %q on %v", x.transport.r.Name, method, x.t.LocalAddress)
	case !dials && !can(true) && !can(false):
		b.warnf(f.pos, "the peer is never let in: no IKE policy rule of the virtual router %q allows %q on %v", x.transport.r.Name, method, x.t.LocalAddress)
	}
}

// staticUsers warns of a tunnel whose peer is asked for a user where there is none.
func (b *builder) staticUsers(x *staticSource) {
	f, r := x.transport.file, x.transport.r
	if x.t.XAuth == StaticXAuthServer && len(r.Users) == 0 && len(r.RADIUS.Groups) == 0 && len(r.AAA.DomainMaps) == 0 && f.sound("users") && f.sound("radius") && f.sound("aaa") {
		b.warnf(x.file.XAuth.pos, "the peer is never let in: it is asked for a user, and the virtual router %q has neither \"users\" nor RADIUS servers nor domain maps", r.Name)
	}
}

// staticLinks warns of a tunnel of mode transport that protects nothing.
func (b *builder) staticLinks(x *staticSource) {
	if x.t.Mode != StaticTransport || !x.in.file.sound("links") || !x.file.sound("peers") || !x.file.sound("networks") {
		return
	}
	for i := range x.t.Networks {
		kind := LinkGRE
		if x.t.Networks[i].Protocol == 4 {
			kind = LinkIPIP
		}
		protects := func(l Link) bool {
			ends := l.IPIP
			if l.Kind == LinkGRE {
				ends = TunnelLink{Local: l.GRE.Local, Remote: l.GRE.Remote}
			}
			return l.Kind == kind && ends.Local == x.t.LocalAddress && slices.Contains(x.t.Peers, StaticPeer{Address: ends.Remote})
		}
		if len(x.t.Peers) > 0 && !slices.ContainsFunc(x.in.r.Links, protects) {
			b.warnf(x.file.Networks[i].pos, "no link of kind %v goes from %v to a peer of the tunnel, so it protects nothing", kind, x.t.LocalAddress)
		}
	}
}

// staticRoutes warns of networks that cannot be reached by the tunnel.
func (b *builder) staticRoutes(x *staticSource) {
	for _, r := range x.routes {
		if !r.network.IsValid() {
			continue
		}
		network := AddrRange{r.network.Addr(), lastOf(r.network)}
		for _, p := range x.in.r.Pools {
			if r.network.Bits() > 0 && slices.ContainsFunc(p.Ranges, func(o AddrRange) bool { _, both := overlap(o, network); return both }) {
				b.warnf(r.at, "the network %v overlaps the pool %q: hosts there cannot reach subscribers with those addresses", r.network, p.Name)
			}
		}
		if x.in != x.transport {
			continue
		}
		if i := slices.IndexFunc(x.t.Peers, func(p StaticPeer) bool { return r.network.Contains(p.Address) }); i >= 0 {
			b.warnf(r.at, "the network %v, which is routed into the tunnel, contains the peer %v: without a better route to the peer the tunnel's own packets go into the tunnel",
				r.network, x.t.Peers[i])
		}
	}
}

// tellStaticsApart sees to it that a peer that begins phase 1 can mean one tunnel only: by its address, its identity, its
// key and the method of authentication.
func (b *builder) tellStaticsApart(s *routerSource, all []*staticSource) {
	anywhere := map[netip.Addr]int{}
	// Tunnels are compared with those that share a peer; thousands of tunnels have as many peers.
	byPeer := map[StaticPeer][]*staticSource{}
	var dynamic []*staticSource
	for _, x := range all {
		if !x.t.LocalAddress.IsValid() || !x.file.sound("peers") {
			continue
		}
		others := dynamic
		if len(x.t.Peers) == 0 {
			others = all[:slices.Index(all, x)]
			dynamic = append(dynamic, x)
			if x.t.Certificate == "" && len(x.t.Key) > 0 {
				if anywhere[x.t.LocalAddress]++; anywhere[x.t.LocalAddress] == MaxGroupKeys+1 {
					b.warnf(x.file.pos, "there are more than %d static tunnels with a key and without \"peers\" on %v: in main mode only so many keys are tried, so that some peers can come in aggressive mode only",
						MaxGroupKeys, x.t.LocalAddress)
				}
			}
		}
		for _, p := range x.t.Peers {
			others = append(slices.Clip(others), byPeer[p]...)
			byPeer[p] = append(byPeer[p], x)
		}
		if i := slices.IndexFunc(others, func(o *staticSource) bool { return o.file.sound("peers") && s.confuses(&o.t, &x.t) }); i >= 0 {
			b.errorf(x.file.pos, "the static tunnel %s cannot be told from %s (%v): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks",
				quoteShort(x.t.Name), quoteShort(others[i].t.Name), others[i].file.pos)
		}
	}
}

// confuses says whether a peer, of an address that both may have, could be that of two tunnels.
func (s *routerSource) confuses(a, c *StaticTunnel) bool {
	if a.LocalAddress != c.LocalAddress || (a.Certificate == "") != (c.Certificate == "") || (a.XAuth == StaticXAuthServer) != (c.XAuth == StaticXAuthServer) {
		return false
	}
	if a.Certificate == "" && !s.sameKey(a, c) {
		return false
	}
	// Whoever may be anybody from anywhere comes behind those that are known.
	if a.anybody() != c.anybody() {
		return false
	}
	switch {
	case a.PeerIDIsAddress && c.PeerIDIsAddress:
		return true // of those that both may have
	case a.PeerIDIsAddress:
		return c.mayBeAddress(a)
	case c.PeerIDIsAddress:
		return a.mayBeAddress(c)
	}
	return a.PeerID == "" || c.PeerID == "" || strings.EqualFold(a.PeerID, c.PeerID)
}

func (t *StaticTunnel) anybody() bool {
	return len(t.Peers) == 0 && t.PeerID == "" && !t.PeerIDIsAddress && len(t.Key) == 0
}

// mayBeAddress says whether the tunnel's peer may have the identity that is an address of another one's.
func (t *StaticTunnel) mayBeAddress(other *StaticTunnel) bool {
	if t.PeerID == "" {
		return true
	}
	a, err := netip.ParseAddr(t.PeerID)
	return err == nil && (len(other.Peers) == 0 || slices.Contains(other.Peers, StaticPeer{Address: a}))
}

// sameKey says whether a peer of one of two tunnels has the key of the other.
func (s *routerSource) sameKey(a, c *StaticTunnel) bool {
	if len(a.Key) == 0 {
		a, c = c, a
	}
	switch {
	case len(a.Key) == 0:
		return true // what the address or the identity has
	case len(c.Key) == 0:
		return slices.ContainsFunc(s.r.Keys, func(k PreSharedKey) bool { return k.Key.Equal(a.Key) && c.mayUse(&k) })
	}
	return a.Key.Equal(c.Key)
}

// staticPolicies finds tunnels that want the same packets of a namespace.
func (b *builder) staticPolicies(all []*staticSource) {
	var policies []policyNetwork
	var transports []*staticSource
	for i, x := range all {
		switch x.t.Mode {
		case StaticPolicy:
			for j := range x.t.Networks {
				if n := x.t.Networks[j]; n.Local.IsValid() && n.Remote.IsValid() && x.file.sound("networks") {
					policies = append(policies, policyNetwork{x, i, n, x.file.Networks[j].pos})
				}
			}
		case StaticTransport:
			if i := slices.IndexFunc(transports, func(o *staticSource) bool { return o.t.protects(&x.t) }); i >= 0 {
				b.errorf(x.file.pos, "the static tunnel %s (%v) protects the same packets to the same peer",
					quoteShort(transports[i].t.Name), transports[i].file.pos)
			}
			transports = append(transports, x)
		}
	}
	b.overlapping(policies)
}

// policyNetwork is a pair of networks of a tunnel of mode policy, of which order is the place in the files.
type policyNetwork struct {
	tunnel *staticSource
	order  int
	StaticNetwork
	at Pos
}

// overlapping finds packets that are of two tunnels. Of two networks that overlap one contains the other, so it is enough to
// compare each, in the order of the addresses, with those around it.
func (b *builder) overlapping(all []policyNetwork) {
	slices.SortStableFunc(all, func(x, y policyNetwork) int {
		return cmp.Or(x.Remote.Addr().Compare(y.Remote.Addr()), cmp.Compare(x.Remote.Bits(), y.Remote.Bits()), cmp.Compare(x.order, y.order))
	})
	var around []policyNetwork
	told := map[*staticSource]bool{}
	for _, n := range all {
		for len(around) > 0 && !around[len(around)-1].Remote.Overlaps(n.Remote) {
			around = around[:len(around)-1]
		}
		for _, o := range around {
			first, second := o, n
			if n.order < o.order {
				first, second = n, o
			}
			if o.tunnel != n.tunnel && o.covers(n.StaticNetwork) && !told[second.tunnel] {
				told[second.tunnel] = true
				b.errorf(second.at, "the pair of networks overlaps one of the static tunnel %s (%v), and in mode policy a packet must belong to one tunnel",
					quoteShort(first.tunnel.t.Name), first.at)
			}
		}
		around = append(around, n)
	}
}

// covers says whether a packet can be of two pairs of networks.
func (n StaticNetwork) covers(o StaticNetwork) bool {
	return n.Local.Overlaps(o.Local) && n.Remote.Overlaps(o.Remote) &&
		(n.Protocol == 0 || o.Protocol == 0 || n.Protocol == o.Protocol) &&
		(n.LocalPort == 0 || o.LocalPort == 0 || n.LocalPort == o.LocalPort) &&
		(n.RemotePort == 0 || o.RemotePort == 0 || n.RemotePort == o.RemotePort)
}

// protects says whether two tunnels of mode transport take the same packets.
func (t *StaticTunnel) protects(o *StaticTunnel) bool {
	return t.LocalAddress == o.LocalAddress &&
		slices.ContainsFunc(t.Peers, func(p StaticPeer) bool { return slices.Contains(o.Peers, p) }) &&
		slices.ContainsFunc(t.Networks, func(a StaticNetwork) bool {
			return slices.ContainsFunc(o.Networks, func(c StaticNetwork) bool { return a.Protocol == c.Protocol })
		})
}
