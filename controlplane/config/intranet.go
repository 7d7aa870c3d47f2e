package config

import "net/netip"

// LinkKind is what a [Link] is.
type LinkKind uint8

// The kinds of link.
const (
	LinkInterface LinkKind = iota + 1
	LinkVLAN
	LinkVeth
	LinkIPIP
	LinkGRE
)

// String returns the key of the kind.
func (k LinkKind) String() string {
	switch k {
	case LinkInterface:
		return "interface"
	case LinkVLAN:
		return "vlan"
	case LinkVeth:
		return "veth"
	case LinkIPIP:
		return "ipip"
	case LinkGRE:
		return "gre"
	}
	return "none"
}

// Link joins a virtual router to its private network. Of the parts that have the names of kinds that of its own is filled in.
type Link struct {
	// Name of the interface inside the router, 1 to 15 bytes; unique in the namespace.
	Name string
	Kind LinkKind
	// Far says that the link is the end of a pair that the other router's file gives.
	Far       bool
	Interface InterfaceLink
	VLAN      VLANLink
	Veth      VethLink
	IPIP      TunnelLink
	GRE       GRELink
	// Addresses are of IPv4, with the lengths of their networks; at most [MaxLinkAddresses], none twice in a router.
	Addresses []netip.Prefix
	// MTU is 576 to 65535 bytes; 0 for what the kernel or the interface has.
	MTU int
	// Up is false for a link that is kept administratively down.
	Up bool
	// Routes by the link, ascending; at most [MaxLinkRoutes]. No two links of a router have the same network and metric.
	Routes []LinkRoute
}

// InterfaceLink is an interface that is moved into the router.
type InterfaceLink struct {
	// Device is its name in the namespace in which vrgate runs; no other link has it.
	Device string
}

// VLANLink is a VLAN.
type VLANLink struct {
	// Parent is an interface of the namespace in which vrgate runs, or, with Inside, another link of the router, which
	// is no VLAN.
	Parent string
	Inside bool
	// ID is 1 to 4094, unique on the parent.
	ID int
}

// VethLink is the other end of a pair.
type VethLink struct {
	// Router is another virtual router, which has a link Name of kind LinkVeth that names this one.
	Router, Name string
}

// TunnelLink is an IP-in-IP tunnel; Local and Remote are different.
type TunnelLink struct {
	Local, Remote netip.Addr
	// TTL is 1 to 255, 0 for that of the inner packet; default 64.
	TTL int
}

// GRELink is a GRE tunnel, as TunnelLink.
type GRELink struct {
	Local, Remote netip.Addr
	// Key is that of both directions, 0 for none.
	Key uint32
	TTL int
}

// LinkRoute is a route by a link.
type LinkRoute struct {
	Network netip.Prefix
	// Via is in a network of the link; the zero Addr for a network on the link itself.
	Via netip.Addr
	// Metric of the kernel's route, 0 to 4294967295.
	Metric uint32
}

// Limits on links.
const (
	// MaxLinks is the number of links per router, far ends included.
	MaxLinks = 256
	// MaxLinkAddresses and MaxLinkRoutes are those of one link.
	MaxLinkAddresses = 64
	MaxLinkRoutes    = 1000
)
