package config

import (
	"net/netip"
	"slices"
	"strings"
)

// intranet builds the links that a router's file gives.
func (b *builder) intranet(f *fileRouter, r *Router) {
	for i := range f.Links {
		if l, ok := b.link(&f.Links[i]); ok {
			r.Links = append(r.Links, l)
		}
	}
}

// link is false if the entry is not enough of a link to be compared with others.
func (b *builder) link(f *fileLink) (Link, bool) {
	if !f.present {
		return Link{}, false
	}
	var kinds []LinkKind
	for _, k := range []struct {
		kind LinkKind
		part *section
	}{
		{LinkInterface, &f.Interface.section}, {LinkVLAN, &f.VLAN.section}, {LinkVeth, &f.Veth.section}, {LinkIPIP, &f.IPIP.section}, {LinkGRE, &f.GRE.section},
	} {
		if k.part.present {
			kinds = append(kinds, k.kind)
		}
	}
	sound := f.sound("interface") && f.sound("vlan") && f.sound("veth") && f.sound("ipip") && f.sound("gre")
	switch {
	case len(kinds) == 0 && sound:
		b.errorf(f.pos, "the link needs one of \"interface\", \"vlan\", \"veth\", \"ipip\" and \"gre\"")
		return Link{}, false
	case len(kinds) > 1:
		b.errorf(f.pos, "the link is both %s and %s; it can be one of them only", kinds[0], kinds[1])
		return Link{}, false
	}
	l := Link{MTU: int(f.MTU.v), Up: f.Up.v, Name: f.Name.v}
	if len(kinds) == 1 {
		l.Kind = kinds[0]
	}
	switch l.Kind {
	case LinkInterface:
		l.Interface = InterfaceLink{Device: f.Interface.Device.v}
		b.deviceName(f.Interface.Device, "device")
		if !f.Name.given() {
			l.Name = l.Interface.Device
		}
	case LinkVLAN:
		l.VLAN = VLANLink{Parent: f.VLAN.Parent.v, ID: int(f.VLAN.ID.v)}
		b.deviceName(f.VLAN.Parent, "parent")
	case LinkVeth:
		l.Veth = VethLink{Router: f.Veth.Router.v, Name: f.Veth.Name.v}
		b.deviceName(f.Veth.Name, "name")
	case LinkIPIP:
		l.IPIP = TunnelLink{f.IPIP.Local.v, f.IPIP.Remote.v, int(f.IPIP.TTL.v)}
		b.ends(f.IPIP.Local, f.IPIP.Remote)
	case LinkGRE:
		l.GRE = GRELink{f.GRE.Local.v, f.GRE.Remote.v, uint32(f.GRE.Key.v), int(f.GRE.TTL.v)}
		b.ends(f.GRE.Local, f.GRE.Remote)
	}
	b.deviceName(f.Name, "name")
	if !f.Name.given() && f.sound("name") && l.Kind != LinkInterface && sound {
		b.errorf(f.pos, "key \"name\" is missing")
	}
	l.Addresses, l.Routes = b.linkNetworks(f.Addresses, f.Routes, f.sound("addresses"))
	return l, sound && l.Name != ""
}

// deviceName checks that an interface can have a name.
func (b *builder) deviceName(t text, key string) {
	if !possibleDevice(t.v) {
		b.errorf(t.pos, "%q is %s but must be a name that an interface can have", key, quoteShort(t.v))
	}
}

// possibleDevice says whether the kernel, and who reads its settings, take a text of up to 15 bytes as an interface's name.
func possibleDevice(name string) bool {
	return name != "." && name != ".." && name != "lo" && name != "all" && name != "default" && !strings.ContainsAny(name, "/: \u00a0%")
}

func (b *builder) ends(local, remote address) {
	if local.v.IsValid() && local.v == remote.v {
		b.errorf(remote.pos, "\"remote\" is %v, which is \"local\" too", remote.v)
	}
}

// linkNetworks are the addresses and routes of one end; sound says that all addresses could be read.
func (b *builder) linkNetworks(addresses []linkAddress, routes []fileLinkRoute, sound bool) (out []netip.Prefix, by []LinkRoute) {
	for _, a := range addresses {
		if a.v.IsValid() {
			out = append(out, a.v)
		}
	}
	for i := range routes {
		r := &routes[i]
		via := r.Via.v
		if via.IsValid() && sound {
			switch {
			case slices.ContainsFunc(out, func(p netip.Prefix) bool { return p.Addr() == via }):
				b.errorf(r.Via.pos, "\"via\" is %v, which is an address of the link itself", via)
			case !slices.ContainsFunc(out, func(p netip.Prefix) bool { return p.Contains(via) }):
				b.errorf(r.Via.pos, "\"via\" is %v but must be in a network of the link's \"addresses\"", via)
			}
		}
		if r.Network.v.IsValid() {
			by = append(by, LinkRoute{r.Network.v, via, uint32(r.Metric.v)})
		}
	}
	slices.SortFunc(by, compareRoutes)
	return out, by
}

func compareRoutes(a, b LinkRoute) int {
	if c := a.Network.Addr().Compare(b.Network.Addr()); c != 0 {
		return c
	}
	if c := a.Network.Bits() - b.Network.Bits(); c != 0 {
		return c
	}
	if a.Metric != b.Metric {
		if a.Metric < b.Metric {
			return -1
		}
		return 1
	}
	return a.Via.Compare(b.Via)
}
