package config

import (
	"net/netip"
	"slices"
	"strings"
)

// links checks and resolves what concerns more than one virtual router.
func (b *builder) links() {
	slices.SortFunc(b.routers, func(x, y *routerSource) int { return strings.Compare(x.r.Name, y.r.Name) })
	slices.SortFunc(b.cfg.Routers, func(x, y *Router) int { return strings.Compare(x.Name, y.Name) })
	b.places()
	b.addressOwners()
	b.intranets()
	for _, s := range b.routers {
		b.serving(s)
	}
	for _, s := range b.routers {
		for i := range s.file.IPProfiles {
			b.terminating(s, &s.file.IPProfiles[i])
		}
	}
	b.aaaLinks()
	for _, s := range b.routers {
		for i := range s.file.IPProfiles {
			if !s.r.idleFromElsewhere() && !s.maps.idle {
				b.idleIngress(s.file.IPProfiles[i].IdleIngress)
			}
		}
		for i := range s.file.Users {
			b.userLinks(s, &s.file.Users[i])
			b.userGrants(s, &s.file.Users[i])
		}
	}
	b.reserve()
}

// find returns a router by name; links has sorted them.
func (b *builder) find(name string) *Router { return b.cfg.Router(name) }

// fileOf returns the file behind a router; both lists are in the same order.
func (b *builder) fileOf(r *Router) *fileRouter {
	return b.routers[slices.Index(b.cfg.Routers, r)].file
}

func (b *builder) routerNames() []string {
	names := make([]string, len(b.routers))
	for i, s := range b.routers {
		names[i] = s.r.Name
	}
	return names
}

// places sees to it that every router has a place of its own in the kernel: one
// namespace per router, or one device and one table inside it.
func (b *builder) places() {
	type device struct{ namespace, device string }
	type table struct {
		namespace string
		table     uint32
	}
	byNamespace := map[string]*routerSource{}
	byDevice := map[device]*routerSource{}
	byTable := map[table]*routerSource{}
	creates := map[string]*routerSource{}
	for _, s := range b.routers {
		ns, p := s.r.Namespace.Name, s.place()
		if ns != "" {
			if first, ok := creates[ns]; !ok {
				creates[ns] = s
			} else if first.r.Namespace.Create != s.r.Namespace.Create {
				b.errorf(p, "\"create\" of namespace %q must be the same as in %s", ns, first.r.File)
			}
		}
		if s.r.Kind == KindNamespace {
			if first, dup := byNamespace[ns]; dup {
				what := "the namespace in which vrgate runs"
				if ns != "" {
					what = "namespace " + quoteShort(ns)
				}
				b.errorf(p, "%s is already the virtual router %q (%s); give this one a namespace or a VRF of its own", what, first.r.Name, first.r.File)
			} else {
				byNamespace[ns] = s
			}
			continue
		}
		if s.r.VRF.Device != "" {
			if first, dup := byDevice[device{ns, s.r.VRF.Device}]; dup {
				b.errorf(s.file.VRF.Device.pos, "the VRF device %q is already the virtual router %q (%s)", s.r.VRF.Device, first.r.Name, first.r.File)
			} else {
				byDevice[device{ns, s.r.VRF.Device}] = s
			}
		}
		if s.r.VRF.Table != 0 {
			if first, dup := byTable[table{ns, s.r.VRF.Table}]; dup {
				b.errorf(s.file.VRF.Table.pos, "the routing table %d already belongs to the virtual router %q (%s)", s.r.VRF.Table, first.r.Name, first.r.File)
			} else {
				byTable[table{ns, s.r.VRF.Table}] = s
			}
		}
	}
}

// place is where the router's namespace is configured, or its file.
func (s *routerSource) place() Pos {
	if s.file.Namespace.Name.given() {
		return s.file.Namespace.Name.pos
	}
	return s.file.pos
}

// serving finds routers that listen but could serve nobody, and the reverse.
func (b *builder) serving(s *routerSource) {
	f, r := s.file, s.r
	listens := len(f.ServerAddresses) > 0
	switch {
	case !f.sound("server-addresses"), !f.L2TP.sound("destination-profiles"), !f.IPsec.sound("tunnel-profiles"):
	case !listens && len(f.IPsec.TransportProfiles) > 0:
		b.errorf(f.IPsec.pos, "there are transport profiles but no \"server-addresses\" on which clients could arrive")
	case !listens && len(f.IPsec.TunnelProfiles) > 0:
		b.errorf(f.IPsec.pos, "there are tunnel profiles but no \"server-addresses\" on which clients could arrive")
	case !listens && len(f.L2TP.Destinations) > 0:
		b.errorf(f.L2TP.pos, "there are destination profiles but no \"server-addresses\" on which clients could arrive")
	case listens && len(f.L2TP.Destinations) == 0 && len(f.IPsec.TunnelProfiles) == 0 && len(r.StaticTunnels) == 0 && !b.unreadStatics():
		b.errorf(f.ServerAddresses[0].pos, "the virtual router listens but has neither destination nor tunnel profile nor static tunnel, so it would refuse everybody")
	case listens && len(f.IPsec.TunnelProfiles) > 0 && !slices.ContainsFunc(r.ServerAddresses, netip.Addr.Is4):
		b.errorf(f.IPsec.pos, "there are tunnel profiles but none of \"server-addresses\" is IPv4, and IPsec is served over IPv4 only")
	}
	b.keysFor(f, r)
}

// addressOwners finds server addresses that two routers of one namespace claim.
// Not even VRFs make that possible: sockets are told apart by device, but the
// kernel looks an SA up by its destination address and knows no VRF there
// (kernel.md 5).
func (b *builder) addressOwners() {
	type owned struct {
		namespace string
		addr      netip.Addr
	}
	owner := map[owned]*Router{}
	for _, s := range b.routers {
		for _, a := range s.file.ServerAddresses {
			k := owned{s.r.Namespace.Name, a.v}
			if o := owner[k]; a.v.IsValid() && o != nil && o != s.r {
				b.errorf(a.pos, "the server address %v belongs to the virtual router %q (%s) in the same namespace; the kernel keeps the SAs of both in one table", a.v, o.Name, o.File)
				continue
			}
			owner[k] = s.r
		}
	}
}

// keysFor finds server addresses at which no key could authenticate anybody.
func (b *builder) keysFor(f *fileRouter, r *Router) {
	if len(r.Keys) > 0 || !f.IPsec.sound("pre-shared-keys") {
		return
	}
	for i := range f.IPsec.TransportProfiles {
		if f.IPsec.TransportProfiles[i].Certificate.given() {
			continue
		}
		for j := range f.IPsec.TransportProfiles[i].Locals {
			l := &f.IPsec.TransportProfiles[i].Locals[j]
			if l.present && l.sound("group-keys") && len(l.GroupKeys) == 0 {
				b.errorf(l.pos, "no key can authenticate a client of %v: it has no \"group-keys\" and the virtual router no \"pre-shared-keys\"", l.Address.v)
			}
		}
	}
}

// terminating checks the terminating router and pool of an IP profile, and
// fills in the pool if there is only one.
func (b *builder) terminating(s *routerSource, f *fileIPProfile) {
	p := s.r.IPProfile(f.Name.v)
	if p == nil {
		return
	}
	name := f.terminating(s.r)
	t := b.find(name)
	if t == nil {
		b.errorf(f.Router.pos, "\"virtual-router\" is %s but there is no such virtual router%s", quoteShort(name), suggest(name, b.routerNames()))
		return
	}
	if !s.r.forTunnelsOnly(p.Name) && !b.sameNamespace(s.r, t, f.Router) {
		return
	}
	b.policiesIn(&f.Traffic, []string{t.Name})
	if slices.Contains(t.ServerAddresses, f.Address.v) {
		b.errorf(f.Address.pos, "%v is a server address of the virtual router %q, which an interface has; give it as \"unnumbered-address\"", f.Address.v, t.Name)
	}
	if ts := b.fileOf(t); !ts.sound("pools") {
		return
	}
	switch {
	case f.Pool.given() && f.Pool.v != "" && t.Pool(f.Pool.v) == nil:
		b.errorf(f.Pool.pos, "\"pool\" is %s but the virtual router %q has no such pool%s", quoteShort(f.Pool.v), t.Name, suggest(f.Pool.v, poolNames(t)))
	case !f.Pool.given() && len(t.Pools) == 1:
		p.Pool = t.Pools[0].Name
	case !f.Pool.given() && len(t.Pools) > 1:
		b.errorf(f.pos, "key \"pool\" is missing; the virtual router %q has %d pools to choose from", t.Name, len(t.Pools))
	}
}

// terminating is the router in which subscribers of the profile terminate, and
// r is the router that has the profile.
func (f *fileIPProfile) terminating(r *Router) string {
	if f.Router.v == "" {
		return r.Name
	}
	return f.Router.v
}

func poolNames(r *Router) []string {
	names := make([]string, len(r.Pools))
	for i := range r.Pools {
		names[i] = r.Pools[i].Name
	}
	return names
}

func (b *builder) sameNamespace(transport, terminating *Router, at text) bool {
	if transport.Namespace.Name == terminating.Namespace.Name {
		return true
	}
	b.errorf(at.pos, "the virtual router %q is in another namespace; L2TP subscribers can terminate in another virtual router of the same namespace only", terminating.Name)
	return false
}

// forTunnelsOnly says whether an IP profile is used, and by dynamic subscribers only:
// they have no interface whose other end is in the transport router.
func (r *Router) forTunnelsOnly(ipProfile string) bool {
	for _, d := range r.Destinations {
		if slices.ContainsFunc(d.Hosts, func(h HostProfile) bool { return h.IPProfile == ipProfile }) {
			return false
		}
	}
	if slices.ContainsFunc(r.AAA.DomainMaps, func(m DomainMap) bool { return m.IPProfile == ipProfile }) {
		return len(r.Destinations) == 0
	}
	return slices.ContainsFunc(r.TunnelProfiles, func(p TunnelProfile) bool { return p.IPProfile == ipProfile })
}

// userLinks checks a user's terminating router and that an address can be found
// for it there.
func (b *builder) userLinks(s *routerSource, f *fileUser) {
	if f.Router.given() && f.Router.v != "" {
		t := b.find(f.Router.v)
		if t == nil {
			b.errorf(f.Router.pos, "\"virtual-router\" is %s but there is no such virtual router%s", quoteShort(f.Router.v), suggest(f.Router.v, b.routerNames()))
			return
		}
		if s.servesL2TP() && !b.sameNamespace(s.r, t, f.Router) || f.Address.given() || f.Pool.given() {
			return
		}
		for i := range s.r.IPProfiles {
			p := &s.r.IPProfiles[i]
			if p.Pool == "" || t.Pool(p.Pool) == nil {
				b.errorf(f.Router.pos, "the user needs a fixed address: the virtual router %q has no pool %q, from which the IP profile %q takes addresses", t.Name, p.Pool, p.Name)
				return
			}
		}
		return
	}
	if f.Address.given() || f.Pool.given() || !f.present || s.moves() || s.maps.handOn {
		return
	}
	for i := range s.r.IPProfiles {
		p := &s.r.IPProfiles[i]
		if t := b.find(p.Router); t != nil && len(t.Pools) == 0 && b.fileOf(t).sound("pools") {
			b.errorf(f.pos, "the user needs a fixed address: the virtual router %q, in which the IP profile %q terminates, has no pool", t.Name, p.Name)
			return
		}
	}
}

// reserve takes gateway addresses and fixed addresses out of the pools, and
// finds fixed addresses that two users or a user and a gateway share.
func (b *builder) reserve() {
	type held struct {
		router string
		addr   netip.Addr
	}
	users := map[held]Pos{}
	gateways := map[held]Pos{}
	for _, s := range b.routers {
		for i := range s.file.IPProfiles {
			f := &s.file.IPProfiles[i]
			if g := f.gateway(); g.v.IsValid() {
				gateways[held{f.terminating(s.r), g.v}] = g.pos
			}
		}
		for i := range s.file.AAA.DomainMaps {
			d := &s.file.AAA.DomainMaps[i]
			m := s.r.AAA.DomainMap(d.Domain.v)
			if m == nil || !d.Gateway.v.IsValid() {
				continue
			}
			for _, t := range s.mapped(m) {
				gateways[held{t, d.Gateway.v}] = d.Gateway.pos
			}
		}
	}
	for _, s := range b.routers {
		for i := range s.file.Users {
			u := &s.file.Users[i]
			if !u.Address.v.IsValid() {
				continue
			}
			for _, t := range s.terminatingOf(u) {
				h := held{t, u.Address.v}
				if at, dup := users[h]; dup && at != u.Address.pos {
					b.errorf(u.Address.pos, "the address %v already belongs to another user of the virtual router %q, at %v", h.addr, t, at)
					continue
				}
				if at, dup := gateways[h]; dup {
					b.errorf(u.Address.pos, "the address %v is a gateway address, at %v", h.addr, at)
				}
				users[h] = u.Address.pos
			}
		}
	}
	if len(b.errs) > 0 {
		return
	}
	taken := map[string][]AddrRange{}
	for _, s := range b.routers {
		for _, router := range s.maps.routers {
			b.reserveMapped(s, b.find(router), taken)
		}
	}
	for _, m := range []map[held]Pos{users, gateways} {
		for h := range m {
			taken[h.router] = append(taken[h.router], AddrRange{h.addr, h.addr})
		}
	}
	for _, s := range b.routers {
		for i := range s.r.Pools {
			p := &s.r.Pools[i]
			for _, t := range taken[s.r.Name] {
				if inRanges(p.Ranges, t.First) {
					p.Exclude = append(p.Exclude, t)
				}
			}
			p.Exclude = b.clip(p)
			if count(p.Exclude) == count(p.Ranges) {
				b.errorf(s.poolPos(p.Name), "pool %q has no address left: exclusions, gateway and fixed addresses take all of them", p.Name)
			}
		}
	}
}

// reserveMapped takes fixed addresses of users of s out of the pools of t, in which a domain map
// may let them terminate. Whether it does depends on the names that they use.
func (b *builder) reserveMapped(s *routerSource, t *Router, taken map[string][]AddrRange) {
	for _, p := range t.Pools {
		for i := range s.r.Users {
			if u := &s.r.Users[i]; u.Router == "" && u.Address.IsValid() && inRanges(p.Ranges, u.Address) {
				taken[t.Name] = append(taken[t.Name], AddrRange{u.Address, u.Address})
			}
		}
	}
}

// clip returns the pool's exclusions, in order, without what is not in its
// ranges.
func (b *builder) clip(p *Pool) []AddrRange {
	var in []AddrRange
	for _, e := range p.Exclude {
		for _, r := range p.Ranges {
			if o, ok := overlap(e, r); ok {
				in = append(in, o)
			}
		}
	}
	return normalise(in)
}

func (s *routerSource) poolPos(name string) Pos {
	for i := range s.file.Pools {
		if s.file.Pools[i].Name.v == name {
			return s.file.Pools[i].Name.pos
		}
	}
	return s.file.pos
}

// terminatingOf are the routers in which a user may terminate.
func (s *routerSource) terminatingOf(u *fileUser) []string {
	if u.Router.v != "" {
		return []string{u.Router.v}
	}
	return s.terminatingRouters()
}
