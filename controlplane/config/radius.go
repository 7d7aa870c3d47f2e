package config

import (
	"net/netip"
	"slices"
	"time"
)

// RADIUS are the servers of a virtual router. Their packets are sent in its own
// routing world.
type RADIUS struct {
	// NASIdentifier is 1 to 253 bytes; default the router's name.
	NASIdentifier string
	// NASAddress is what we call our address; default the source address, then the
	// first server address of the router. The zero Addr where there is neither.
	NASAddress netip.Addr
	// NASAddressFromTunnel reports the LAC's address in its place for L2TP
	// subscribers (R12); default false.
	NASAddressFromTunnel bool
	// InFlight bounds the requests that wait for an answer, 4 to 65536, default
	// 4096.
	InFlight int
	// Servers are in the order of the file, at most [MaxRADIUSServers]; names are
	// unique.
	Servers []RADIUSServer
	// Groups are in the order of the file, at most [MaxRADIUSGroups]; names are
	// unique.
	Groups               []RADIUSGroup
	DynamicAuthorization DynamicAuthorization
}

// Server returns the server of that name, nil if there is none.
func (r *RADIUS) Server(name string) *RADIUSServer {
	i := slices.IndexFunc(r.Servers, func(s RADIUSServer) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Servers[i]
}

// Group returns the group of that name, nil if there is none.
func (r *RADIUS) Group(name string) *RADIUSGroup {
	i := slices.IndexFunc(r.Groups, func(g RADIUSGroup) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Groups[i]
}

// RADIUSServer is a RADIUS server.
type RADIUSServer struct {
	// Name is unique in the router, 1 to 64 bytes.
	Name string
	// Address is IPv4 or IPv6.
	Address netip.Addr
	// AuthPort and AcctPort are UDP ports, default 1812 and 1813; 0: it is not
	// asked for that. Not both are 0.
	AuthPort, AcctPort uint16
	// Source is the address that packets are sent from, of the same family; the
	// zero Addr leaves it to the routes.
	Source netip.Addr
	// Secret is 1 to 256 bytes.
	Secret Secret
	// Timeout is how long the server has to answer a request, retransmissions
	// included, 1 s to 60 s, default 5 s.
	Timeout time.Duration
	// Retransmissions is how often a request is repeated in that time, 0 to 10,
	// default 2.
	Retransmissions int
	// DeadTime is how long a server that answered nothing is left alone, 1 s to
	// 3600 s, default 60 s.
	DeadTime time.Duration
	// RequireMessageAuthenticator drops answers without; default true. Only
	// museums need false: such answers can be forged (CVE-2024-3596).
	RequireMessageAuthenticator bool
	// StatusServer asks a dead server whether it is alive again (RFC 5997);
	// default false.
	StatusServer bool
}

// RADIUSGroup are servers that stand in for each other.
type RADIUSGroup struct {
	// Name is unique in the router, 1 to 64 bytes.
	Name string
	// Servers are names that resolve with [RADIUS.Server]; at least one, no
	// duplicates, at most [MaxGroupServers].
	Servers []string
	// Strategy says who is asked first; default StrategyPriority.
	Strategy Strategy
}

// DynamicAuthorization is the reverse way, on which servers end and change
// sessions (RFC 5176).
type DynamicAuthorization struct {
	// Enabled is false by default.
	Enabled bool
	// Port is the UDP port, 1 to 65535, default 3799.
	Port uint16
	// Addresses are where requests are taken, at most 16; empty for any of the
	// router.
	Addresses []netip.Addr
	// Clients may send requests, by ascending address; those that are servers of
	// the router are among them if the file wants that (default). At least one
	// if Enabled.
	Clients []DynamicClient
	// RequireMessageAuthenticator drops requests without; default true.
	RequireMessageAuthenticator bool
	// Window is how far the Event-Timestamp of a request may be off, 1 s to 3600
	// s, default 300 s (RFC 5176 section 3.3).
	Window time.Duration
}

// DynamicClient may send Disconnect- and CoA-Requests.
type DynamicClient struct {
	// Address is IPv4 or IPv6, unique.
	Address netip.Addr
	// Secret is 1 to 256 bytes.
	Secret Secret
}

// Limits on RADIUS.
const (
	// MaxRADIUSServers is the number of servers per router.
	MaxRADIUSServers = 256
	// MaxRADIUSGroups is the number of groups per router.
	MaxRADIUSGroups = 256
	// MaxGroupServers is the number of servers of a group.
	MaxGroupServers = 16
	// MaxDynamicClients is the number of configured clients for dynamic
	// authorization.
	MaxDynamicClients = 256
	// MinRADIUSSecret is the length in bytes below which a secret is warned of
	// (RFC 2865 section 3).
	MinRADIUSSecret = 16
)
