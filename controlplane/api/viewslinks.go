package api

import "net/netip"

// Link joins a virtual router to its private network.
type Link struct {
	VR   string `json:"vr"`
	Name string `json:"name"`
	// Kind is "interface", "vlan", "veth", "ipip", "gre" or "ipsec", which is a static tunnel with an interface; To says
	// where it leads.
	Kind string `json:"kind"`
	To   string `json:"to"`
	// State is "up", "down" or "missing". Reason says why it is not up, or what is not as configured though it is, and
	// Text what to do; both are empty if all is well.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	Text   string `json:"text,omitempty"`
	// Addresses and Routes are configured.
	Addresses []netip.Prefix `json:"addresses"`
	Routes    []LinkRoute    `json:"routes"`
	// Index is that of the interface in its namespace, 0 when it is missing; MTU in bytes.
	Index int `json:"index"`
	MTU   int `json:"mtu"`
	// What the kernel has counted since the interface was made.
	InPackets  uint64 `json:"in_packets"`
	InBytes    uint64 `json:"in_bytes"`
	InErrors   uint64 `json:"in_errors"`
	InDrops    uint64 `json:"in_drops"`
	OutPackets uint64 `json:"out_packets"`
	OutBytes   uint64 `json:"out_bytes"`
	OutErrors  uint64 `json:"out_errors"`
	OutDrops   uint64 `json:"out_drops"`
}

// LinkRoute is a route by a link.
type LinkRoute struct {
	Network netip.Prefix `json:"network"`
	// Via is the next hop, the zero Addr for a network on the link itself.
	Via    netip.Addr `json:"via,omitzero"`
	Metric uint32     `json:"metric"`
}
