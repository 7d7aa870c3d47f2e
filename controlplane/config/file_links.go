package config

// fileLink is a link of a virtual router to its private network: exactly one of interface, vlan, veth, ipip and gre is given.
type fileLink struct {
	section
	// Name of the link, which is that of the interface inside the virtual router; without it, and with interface, the name that it has outside.
	Name text `yaml:"name" len:"1..15"`
	// An interface of the namespace in which vrgate runs. It is moved into the virtual router, which takes its addresses away, and given back at the end with the addresses that it had.
	Interface fileLinkInterface `yaml:"interface"`
	// A VLAN.
	VLAN fileLinkVLAN `yaml:"vlan"`
	// A pair of virtual interfaces that joins this virtual router to another; it is given in the file of one of the two.
	Veth fileLinkVeth `yaml:"veth"`
	// An IP-in-IP tunnel.
	IPIP fileLinkTunnel `yaml:"ipip"`
	// A GRE tunnel.
	GRE fileLinkGRE `yaml:"gre"`
	// IPv4 addresses of the link with the lengths of their networks.
	Addresses []linkAddress `yaml:"addresses" items:"0..64"`
	// MTU in bytes, that of both ends of a pair.
	MTU number `yaml:"mtu" default:"0" range:"576..65535" zero:"as it is"`
	// Bring the link up; without it the link is there and carries nothing.
	Up boolean `yaml:"up" default:"true"`
	// Routes by the link.
	Routes []fileLinkRoute `yaml:"routes" items:"0..1000"`
}

// fileLinkInterface is an interface that is moved into the virtual router.
type fileLinkInterface struct {
	section
	// Name that the interface has outside.
	Device text `yaml:"device" required:"true" len:"1..15"`
}

// fileLinkVLAN is a VLAN (IEEE 802.1Q).
type fileLinkVLAN struct {
	section
	// The interface that carries it: another link of this virtual router, if one has that name, else an interface of the namespace in which vrgate runs.
	Parent text `yaml:"parent" required:"true" len:"1..15"`
	// Number of the VLAN.
	ID number `yaml:"id" required:"true" range:"1..4094"`
}

// fileLinkVeth is the other end of a pair of virtual interfaces.
type fileLinkVeth struct {
	section
	// Virtual router that has the other end.
	Router text `yaml:"virtual-router" required:"true" len:"1..31"`
	// Name of the other end there.
	Name text `yaml:"name" required:"true" len:"1..15"`
	// IPv4 addresses of the other end.
	Addresses []linkAddress `yaml:"addresses" items:"0..64"`
	// Routes of the other virtual router by the link.
	Routes []fileLinkRoute `yaml:"routes" items:"0..1000"`
}

// fileLinkTunnel is an IP-in-IP tunnel (RFC 2003). The virtual router itself routes the outer packets.
type fileLinkTunnel struct {
	section
	// Our outer address.
	Local address `yaml:"local" required:"true"`
	// The outer address of the other end.
	Remote address `yaml:"remote" required:"true"`
	// TTL of outer packets.
	TTL number `yaml:"ttl" default:"64" range:"1..255" zero:"that of the inner packet"`
}

// fileLinkGRE is a GRE tunnel (RFC 2784). The virtual router itself routes the outer packets.
type fileLinkGRE struct {
	section
	// Our outer address.
	Local address `yaml:"local" required:"true"`
	// The outer address of the other end.
	Remote address `yaml:"remote" required:"true"`
	// Key (RFC 2890) in both directions, which tells several tunnels between two addresses apart.
	Key number `yaml:"key" default:"0" range:"1..4294967295" zero:"none"`
	// TTL of outer packets.
	TTL number `yaml:"ttl" default:"64" range:"1..255" zero:"that of the inner packet"`
}

// fileLinkRoute is a route by a link.
type fileLinkRoute struct {
	section
	// The network.
	Network prefix `yaml:"network" required:"true"`
	// Next hop, an address in a network of the link; without it the network is on the link itself.
	Via address `yaml:"via"`
	// Metric of the route; the lowest is best.
	Metric number `yaml:"metric" default:"0" range:"0..4294967295"`
}
