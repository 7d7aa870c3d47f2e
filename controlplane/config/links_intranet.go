package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// linkEnd is an end of a link, or of a static tunnel, in the file that gives it.
type linkEnd struct {
	in        *routerSource // where it is
	name      text
	at        Pos // of the entry
	addresses []linkAddress
	routes    []placedRoute
}

// placedRoute is a route with its place in the file.
type placedRoute struct {
	network netip.Prefix
	metric  uint32
	at      Pos
}

func placedRoutes(routes []fileLinkRoute) []placedRoute {
	out := make([]placedRoute, len(routes))
	for i := range routes {
		r := &routes[i]
		out[i] = placedRoute{r.Network.v, uint32(r.Metric.v), r.Network.pos}
	}
	return out
}

// end is this router's end of a link, far the other end of a pair.
func (f *fileLink) end(s *routerSource) linkEnd {
	name := f.Name
	if !name.given() {
		name = f.Interface.Device
	}
	return linkEnd{s, name, f.pos, f.Addresses, placedRoutes(f.Routes)}
}

func (f *fileLinkVeth) far(in *routerSource) linkEnd {
	return linkEnd{in, f.Name, f.pos, f.Addresses, placedRoutes(f.Routes)}
}

// intranets checks links and static tunnels that touch each other, and gives far ends to their routers.
func (b *builder) intranets() {
	byName := map[string]*routerSource{}
	for _, s := range b.routers {
		byName[s.r.Name] = s
	}
	var ends []linkEnd
	far := map[*routerSource][]Link{}
	for _, s := range b.routers {
		for i := range s.file.Links {
			f := &s.file.Links[i]
			if !f.present {
				continue
			}
			ends = append(ends, f.end(s))
			if f.Veth.present && f.sound("veth") {
				if other := b.otherRouter(s, f, byName); other != nil {
					ends = append(ends, f.Veth.far(other))
					far[other] = append(far[other], b.farEnd(s, f))
				}
			}
		}
	}
	b.parents()
	statics := b.staticTunnels(byName)
	for _, x := range statics {
		if x.t.Mode == StaticRoute {
			ends = append(ends, x.end())
		}
	}
	b.linkNames(ends)
	b.linkDevices()
	b.tunnelEnds()
	b.linkAddresses(ends)
	b.linkRoutes(ends)
	for _, s := range b.routers {
		s.r.Links = append(s.r.Links, far[s]...)
		slices.SortFunc(s.r.Links, func(x, y Link) int { return strings.Compare(x.Name, y.Name) })
		if n := len(s.r.Links); n > MaxLinks && len(s.file.Links) <= MaxLinks {
			b.errorf(s.place(), "the virtual router has %d links, far ends included, but may have %d", n, MaxLinks)
		}
		b.linksAndPools(s)
	}
}

// otherRouter is the router that has the other end of a pair.
func (b *builder) otherRouter(s *routerSource, f *fileLink, byName map[string]*routerSource) *routerSource {
	t := f.Veth.Router
	other := byName[t.v]
	switch {
	case other == s:
		b.errorf(t.pos, "\"virtual-router\" is this virtual router itself; a pair joins two")
		return nil
	case other == nil:
		b.errorf(t.pos, "\"virtual-router\" is %s but there is no such virtual router%s", quoteShort(t.v), suggest(t.v, b.routerNames()))
	}
	return other
}

// farEnd is the other router's end of a pair.
func (b *builder) farEnd(s *routerSource, f *fileLink) Link {
	l := Link{
		Name: f.Veth.Name.v, Kind: LinkVeth, Far: true, Veth: VethLink{Router: s.r.Name, Name: f.Name.v}, MTU: int(f.MTU.v), Up: f.Up.v,
	}
	l.Addresses, l.Routes = b.linkNetworks(f.Veth.Addresses, f.Veth.Routes, f.Veth.sound("addresses"))
	return l
}

// parents resolves the parents of VLANs.
func (b *builder) parents() {
	for _, s := range b.routers {
		for i := range s.r.Links {
			l := &s.r.Links[i]
			j := slices.IndexFunc(s.r.Links, func(x Link) bool { return l.Kind == LinkVLAN && x.Name == l.VLAN.Parent })
			if j < 0 {
				continue
			}
			l.VLAN.Inside = true
			if k := s.r.Links[j].Kind; k == LinkVLAN || k == LinkIPIP || k == LinkGRE {
				for n := range s.file.Links {
					if f := &s.file.Links[n]; f.Name.v == l.Name && f.VLAN.present {
						b.errorf(f.VLAN.Parent.pos, "\"parent\" is the link %s, which is %s and cannot carry a VLAN", quoteShort(l.VLAN.Parent), k)
					}
				}
			}
		}
	}
}

// linkNames finds names that two interfaces of a namespace would have.
func (b *builder) linkNames(ends []linkEnd) {
	type named struct{ namespace, name string }
	first := map[named]Pos{}
	for _, s := range b.routers {
		if s.r.VRF.Device != "" {
			first[named{s.r.Namespace.Name, s.r.VRF.Device}] = s.file.VRF.Device.pos
		}
	}
	for _, e := range ends {
		k := named{e.in.r.Namespace.Name, e.name.v}
		if k.name == "" {
			continue
		}
		if at, dup := first[k]; dup {
			b.errorf(e.name.pos, "an interface %s is in this namespace twice; the first is at %v", quoteShort(k.name), at)
			continue
		}
		first[k] = e.name.pos
	}
}

// linkDevices finds interfaces outside that two links want.
func (b *builder) linkDevices() {
	moved, vlans := map[string]Pos{}, map[string]Pos{}
	for _, s := range b.routers {
		for i := range s.file.Links {
			d := s.file.Links[i].Interface.Device
			if d.v == "" {
				continue
			}
			if at, dup := moved[d.v]; dup {
				b.errorf(d.pos, "\"device\" is %s, which belongs to another link, at %v", quoteShort(d.v), at)
				continue
			}
			moved[d.v] = d.pos
		}
	}
	for _, s := range b.routers {
		for i := range s.file.Links {
			f := &s.file.Links[i].VLAN
			if f.Parent.v == "" || f.ID.v == 0 {
				continue
			}
			inside := slices.ContainsFunc(s.r.Links, func(l Link) bool { return l.VLAN.Inside && l.VLAN.Parent == f.Parent.v })
			where := ""
			if inside {
				where = s.r.Name + " "
			} else if at, gone := moved[f.Parent.v]; gone {
				b.errorf(f.Parent.pos, "\"parent\" is %s, which is moved into a virtual router, at %v; name a link of this one, or another interface", quoteShort(f.Parent.v), at)
				continue
			}
			k := fmt.Sprintf("%s%s %d", where, f.Parent.v, f.ID.v)
			if at, dup := vlans[k]; dup {
				b.errorf(f.ID.pos, "VLAN %d of %s belongs to another link, at %v", f.ID.v, quoteShort(f.Parent.v), at)
				continue
			}
			vlans[k] = f.ID.pos
		}
	}
}

// tunnelEnds finds tunnels that the kernel could not tell apart.
func (b *builder) tunnelEnds() {
	for _, s := range b.routers {
		type ends struct {
			kind          LinkKind
			local, remote netip.Addr
			key           int64
		}
		first := map[ends]Pos{}
		for i := range s.file.Links {
			f := &s.file.Links[i]
			k, at := ends{LinkIPIP, f.IPIP.Local.v, f.IPIP.Remote.v, 0}, f.IPIP.Remote.pos
			if f.GRE.present {
				k, at = ends{LinkGRE, f.GRE.Local.v, f.GRE.Remote.v, f.GRE.Key.v}, f.GRE.Remote.pos
			}
			if !k.local.IsValid() || !k.remote.IsValid() {
				continue
			}
			if other, dup := first[k]; dup {
				b.errorf(at, "another tunnel of this kind has the same ends and key, at %v", other)
				continue
			}
			first[k] = at
		}
	}
}

// linkAddresses finds addresses that a router would have twice.
func (b *builder) linkAddresses(ends []linkEnd) {
	type owned struct {
		router string
		addr   netip.Addr
	}
	first := map[owned]Pos{}
	for _, e := range ends {
		for _, a := range e.addresses {
			if !a.v.IsValid() {
				continue
			}
			k := owned{e.in.r.Name, a.v.Addr()}
			if at, dup := first[k]; dup {
				b.errorf(a.pos, "the address %v is there twice in virtual router %q; the first is at %v", k.addr, k.router, at)
				continue
			}
			first[k] = a.pos
		}
	}
}

// linkRoutes finds routes that a router would have twice.
func (b *builder) linkRoutes(ends []linkEnd) {
	type route struct {
		router  string
		network netip.Prefix
		metric  uint32
	}
	first := map[route]Pos{}
	for _, e := range ends {
		for _, r := range e.routes {
			if !r.network.IsValid() {
				continue
			}
			k := route{e.in.r.Name, r.network, r.metric}
			if at, dup := first[k]; dup {
				b.errorf(r.at, "virtual router %q has another route to %v with metric %d, at %v", k.router, k.network, k.metric, at)
				continue
			}
			first[k] = r.at
		}
	}
}

// linksAndPools warns of pools whose addresses are in the network of a link: hosts there would look for subscribers on
// the link itself.
func (b *builder) linksAndPools(s *routerSource) {
	for i := range s.file.Links {
		for _, a := range s.file.Links[i].Addresses {
			if !a.v.IsValid() {
				continue
			}
			network := AddrRange{a.v.Masked().Addr(), lastOf(a.v.Masked())}
			for _, p := range s.r.Pools {
				if j := slices.IndexFunc(p.Ranges, func(x AddrRange) bool { _, both := overlap(x, network); return both }); j >= 0 {
					b.warnf(a.pos, "the network of %v overlaps the pool %q: hosts on the link cannot reach subscribers with those addresses", a.v, p.Name)
				}
			}
		}
	}
}
