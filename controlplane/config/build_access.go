package config

import (
	"net/netip"
	"slices"
	"strings"
)

// ipProfileOf resolves the IP profile of a host or tunnel profile.
func (b *builder) ipProfileOf(kind string, h *section, name text, f *fileRouter) string {
	var names []string
	for i := range f.IPProfiles {
		names = append(names, f.IPProfiles[i].Name.v)
	}
	switch {
	case name.given():
		if name.v != "" && !slices.Contains(names, name.v) && f.sound("ip-profiles") {
			b.errorf(name.pos, "\"ip-profile\" is %s but there is no such IP profile%s", quoteShort(name.v), suggest(name.v, names))
		}
		return name.v
	case len(names) == 1:
		return names[0]
	case len(names) == 0 && h.present && f.sound("ip-profiles"):
		b.errorf(h.pos, "the %s profile needs an IP profile, but the virtual router has none", kind)
	case h.present && f.sound("ip-profiles"):
		b.errorf(h.pos, "key \"ip-profile\" is missing; the virtual router has %d IP profiles to choose from", len(names))
	}
	return ""
}

func (b *builder) ppp(f *fileRouter, r *Router) {
	p := &f.PPP
	r.PPP = PPP{
		Authentication: []PPPAuth{PPPMSCHAPv2, PPPCHAP},
		MRU:            int(p.MRU.v),
		EchoInterval:   p.EchoInterval.v,
		EchoFailures:   int(p.EchoFailures.v),
		SetupTimeout:   p.SetupTimeout.v,
	}
	if len(p.Authentication) > 0 {
		r.PPP.Authentication = wordList(b, p.Authentication, "authentication")
	}
}

func (b *builder) ipProfiles(f *fileRouter, r *Router) {
	seen := map[string]Pos{}
	for i := range f.IPProfiles {
		p := &f.IPProfiles[i]
		b.unique(seen, p.Name, "IP profile")
		q := IPProfile{
			Name:       p.Name.v,
			Router:     p.terminating(r),
			Unnumbered: p.gateway().v,
			OwnAddress: p.Address.given(),
			Pool:       p.Pool.v,
			DNS:        b.addresses(p.DNS, "dns"),
			NBNS:       b.addresses(p.NBNS, "nbns"),
			MTU:        int(p.MTU.v),

			MSSClamp:         p.MSSClamp.v,
			MSS:              int(p.MSS.v),
			SourceValidation: p.SourceValidation.v,
			AccessRoutes:     p.AccessRoutes.v,

			Traffic:     b.traffic(&p.Traffic),
			IdleTimeout: p.IdleTimeout.v,
			IdleIngress: p.IdleIngress.v,
		}
		switch {
		case p.Unnumbered.given() && p.Address.given():
			b.errorf(p.Address.pos, "\"address\" and \"unnumbered-address\" exclude each other")
		case p.present && !p.Unnumbered.given() && !p.Address.given():
			b.errorf(p.pos, "key \"unnumbered-address\" or \"address\" is missing")
		}
		if p.MSS.v > p.MTU.v-minHeaders && p.MTU.v != 0 {
			b.errorf(p.MSS.pos, "\"mss\" is %d but an MTU of %d has room for %d at most", p.MSS.v, p.MTU.v, p.MTU.v-minHeaders)
		}
		r.IPProfiles = append(r.IPProfiles, q)
	}
	slices.SortFunc(r.IPProfiles, func(a, b IPProfile) int { return strings.Compare(a.Name, b.Name) })
}

// minHeaders are the bytes of the IPv4 and TCP headers without options: what the MTU is larger
// than the MSS.
const minHeaders = 40

// gateway is our address on the interfaces of subscribers, whichever way it is given.
func (f *fileIPProfile) gateway() address {
	if f.Unnumbered.given() {
		return f.Unnumbered
	}
	return f.Address
}

func (b *builder) addresses(list []address, key string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		switch {
		case !a.v.IsValid():
		case slices.Contains(out, a.v):
			b.errorf(a.pos, "%v is twice in %q", a.v, key)
		default:
			out = append(out, a.v)
		}
	}
	return out
}

func (b *builder) pools(f *fileRouter, r *Router) {
	seen := map[string]Pos{}
	var taken []addrRange
	for i := range f.Pools {
		p := &f.Pools[i]
		b.unique(seen, p.Name, "pool")
		var ranges, exclude []AddrRange
		for _, a := range p.Ranges {
			if !a.v.First.IsValid() {
				continue
			}
			ranges = append(ranges, a.v)
			taken = append(taken, a)
		}
		for _, e := range p.Exclude {
			if !e.v.First.IsValid() {
				continue
			}
			if !slices.ContainsFunc(ranges, func(a AddrRange) bool { _, ok := overlap(a, e.v); return ok }) {
				b.errorf(e.pos, "%v is excluded but is in none of the pool's ranges", e.v)
			}
			exclude = append(exclude, e.v)
		}
		r.Pools = append(r.Pools, Pool{
			Name: p.Name.v, Ranges: normalise(ranges), Exclude: normalise(exclude), WarnAt: int(p.WarnAt.v), WarnUntil: b.warnUntil(p),
		})
	}
	b.disjoint(taken)
	slices.SortFunc(r.Pools, func(a, b Pool) int { return strings.Compare(a.Name, b.Name) })
}

// warnUntil is where a pool that has been warned of is well again.
func (b *builder) warnUntil(p *filePool) int {
	switch {
	case !p.WarnUntil.given():
		return int(max(p.WarnAt.v-10, 0))
	case p.WarnUntil.v > p.WarnAt.v && p.sound("warn-at"):
		b.errorf(p.WarnUntil.pos, "\"warn-until\" is %d but must not be above \"warn-at\", which is %d", p.WarnUntil.v, p.WarnAt.v)
	}
	return int(p.WarnUntil.v)
}

// disjoint finds addresses that are in two ranges of the pools of a router.
func (b *builder) disjoint(taken []addrRange) {
	slices.SortFunc(taken, func(a, b addrRange) int { return a.v.First.Compare(b.v.First) })
	for i := range taken {
		if i == 0 {
			continue
		}
		// The widest range so far is kept in front, so that a small range
		// inside it does not hide an overlap with the next one.
		prev, cur := taken[i-1], taken[i]
		if o, both := overlap(prev.v, cur.v); both {
			at, other := cur, prev
			if at.pos.Line < other.pos.Line || at.pos.Line == other.pos.Line && at.pos.Column < other.pos.Column {
				at, other = other, at
			}
			b.errorf(at.pos, "%v is in two ranges; the other is in line %d", o, other.pos.Line)
		}
		if cur.v.Last.Less(prev.v.Last) {
			taken[i] = prev
		}
	}
}

func (b *builder) users(f *fileRouter, r *Router) {
	seen := map[string]Pos{}
	for i := range f.Users {
		u := &f.Users[i]
		b.unique(seen, u.Name, "user")
		r.Users = append(r.Users, User{
			Name:     u.Name.v,
			Password: b.secretOf(u.pos, u.Password, u.PasswordFile, "password", true),
			Address:  u.Address.v,
			Router:   u.Router.v,

			SessionTimeout: u.SessionTimeout.v,
			IdleTimeout:    u.IdleTimeout.v,
			IdleIngress:    u.IdleIngress.v,

			Pool:     u.Pool.v,
			Netmask:  u.Netmask.v,
			MTU:      int(u.MTU.v),
			Routes:   b.userRoutes(u.Routes),
			DNS:      b.addresses(u.DNS, "dns"),
			NBNS:     b.addresses(u.NBNS, "nbns"),
			Traffic:  b.traffic(&u.Traffic),
			Networks: distinct(b, u.Networks, "networks"),
		})
	}
	slices.SortFunc(r.Users, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
}
