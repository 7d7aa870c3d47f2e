package config

import (
	"net/netip"
	"time"
)

// StaticTunnel is a site-to-site IPsec tunnel (Z-1 to Z-11, J1). It is given in the file of the virtual router whose
// traffic it carries, and stands in the list of the one whose addresses its outer packets have.
type StaticTunnel struct {
	// Name is 1 to 80 bytes and unique in the whole configuration.
	Name string
	// File is that in which it is given, for messages.
	File string
	// Terminating is the virtual router whose traffic it carries, which always resolves with [Config.Router]; it is the one in
	// whose list it stands, unless the file names another for the outer packets, which it can in mode StaticRoute only.
	Terminating string
	// Enabled is false for a tunnel that is neither dialled nor answered until an operator says "up"; default true.
	Enabled bool
	// Mode is how packets get into the tunnel; default StaticRoute.
	Mode StaticMode
	// LocalAddress is the server address on our side; always one of the router's.
	LocalAddress netip.Addr
	// Peers are the other end's addresses and names, the primary first, at most [MaxStaticPeers]; empty for a peer that
	// may have any address, which can only be answered. In mode StaticTransport there is at least one, and they are addresses.
	Peers []StaticPeer
	// Start says who begins; StartRespond if there is no peer, or if we are StaticXAuthServer. StaticXAuthClient begins.
	Start StaticStart
	// LocalID and PeerID are the phase 1 identities, in the syntax of [TunnelKey.Identity] (Z-9). LocalID "" is our
	// address with a pre-shared key, the certificate's subject with a certificate. PeerID "" is any identity, which the file
	// calls "any"; the default is the address from which the peer comes.
	LocalID, PeerID string
	// PeerIDIsAddress says that the peer must have that default; PeerID is "" then, which by itself stands for any.
	PeerIDIsAddress bool
	// Key is the tunnel's own pre-shared key, 1 to 256 bytes; empty for one of the router's, or with a certificate.
	Key Secret
	// Certificate names our own certificate; empty for a pre-shared key.
	Certificate string
	// Aggressive has us begin in aggressive mode (Z-3).
	Aggressive bool
	// Networks are the pairs of networks, 1 to [MaxStaticNetworks].
	Networks []StaticNetwork
	// Transforms are the ESP transforms in the order of preference; empty for those of the proposal profile.
	Transforms []ESPTransform
	// PFS as in [TransportProfile].
	PFS Group
	// Lifetime of ESP SAs, 180 s to 3000000 s, default 28800 s (Z-10); LifetimeKilobytes in units of 1024 bytes, 102400 to
	// 4294967295, which stands for none.
	Lifetime          time.Duration
	LifetimeKilobytes uint32
	// DPD has the peer probed by the router's timers, also where those are not enabled for subscribers (K10); default true.
	DPD bool
	// XAuth says who asks whom for a user; default StaticXAuthNone (Z-8).
	XAuth StaticXAuth
	// User and Password are what we answer with as client, 1 to 31 bytes of ASCII without spaces.
	User     string
	Password Secret
	// Interface is that of mode StaticRoute.
	Interface StaticInterface
	// Backoff and BackoffMax are the first and the longest pause after failures, 1 s to 24 h, default 1 and 60 minutes;
	// Stable is how long a tunnel has to be up for its failures to be forgotten, default 2 minutes (D23).
	Backoff, BackoffMax, Stable time.Duration
	// FallBack is how often a tunnel on a backup tries the peers before it, 10 s to 24 h, default 10 minutes; 0 for never.
	FallBack time.Duration
	// Idle hangs an on-demand tunnel up that carries nothing, 10 s to 24 h; 0, the default, for never.
	Idle time.Duration
	// NoReturn ends a tunnel through which packets have only gone out for so long, 10 s to 24 h; 0, the default, for never (Z-6).
	NoReturn time.Duration
	Check    StaticCheck
}

// StaticPeer is an end of a static tunnel: an IPv4 address, or the name of a host whose addresses are looked up.
type StaticPeer struct {
	Address netip.Addr
	Name    string
}

// StaticNetwork is a pair of networks that a static tunnel joins, with SAs of its own.
type StaticNetwork struct {
	// Name is unique in the tunnel; "1", "2" … where the file gives none.
	Name string
	// Local and Remote are our side and the peer's; 0.0.0.0/0 for any. Without meaning in mode StaticTransport.
	Local, Remote netip.Prefix
	// Protocol is that of the inner packets, 0 for any; in mode StaticTransport 47 (GRE) or 4 (IP-in-IP).
	Protocol uint8
	// LocalPort and RemotePort are those of TCP or UDP, 0 for any.
	LocalPort, RemotePort uint16
}

// StaticInterface is the interface of a tunnel of mode StaticRoute.
type StaticInterface struct {
	// Name of the XFRM interface in the terminating router, 1 to 15 bytes; always given.
	Name string
	// MTU is 576 to 9000 bytes, default 1400.
	MTU int
	// ClampMSS bounds the MSS of TCP to what the MTU allows; default true.
	ClampMSS bool
	// Addresses are of IPv4, at most [MaxLinkAddresses].
	Addresses []netip.Prefix
	// Routes by the interface, ascending: those of the file, or the remote networks but 0.0.0.0/0 where it has no list of them.
	Routes []StaticNetworkRoute
	// Withdraw takes the routes away while the tunnel is not up, so that others may serve; default false: its packets are
	// dropped then, and never leave another way.
	Withdraw bool
}

// StaticNetworkRoute is a route into a static tunnel.
type StaticNetworkRoute struct {
	Network netip.Prefix
	Metric  uint32
}

// StaticCheck asks a host behind a tunnel whether it is there (Z-11); the zero value is none.
type StaticCheck struct {
	Target netip.Addr
	// Source is our address in the packets, the zero Addr for the kernel's choice.
	Source netip.Addr
	// Port is a TCP port to connect to, 0 for ICMP echo.
	Port uint16
	// Period is 1 s to 1 h, default 30 s; Timeout at most Period, default 5 s; Tolerance is 1 to 100 failures in a row,
	// default 3, that take the tunnel down.
	Period, Timeout time.Duration
	Tolerance       int
}

// StaticMode is how packets get into a static tunnel.
type StaticMode uint8

// The modes.
const (
	// StaticRoute: what is routed into an XFRM interface.
	StaticRoute StaticMode = iota + 1
	// StaticPolicy: whatever is from a local to a remote network, wherever it is routed; for a router that has its namespace
	// to itself.
	StaticPolicy
	// StaticTransport: what GRE or IP-in-IP links of the router send between the two outer addresses, in transport mode.
	StaticTransport
)

// String returns the word of the file.
func (m StaticMode) String() string {
	switch m {
	case StaticRoute:
		return "route"
	case StaticPolicy:
		return "policy"
	case StaticTransport:
		return "transport"
	}
	return "none"
}

// StaticStart says who begins.
type StaticStart uint8

// Who begins.
const (
	StartNailedUp StaticStart = iota + 1
	StartOnDemand
	StartRespond
)

// String returns the word of the file.
func (s StaticStart) String() string {
	switch s {
	case StartNailedUp:
		return "nailed-up"
	case StartOnDemand:
		return "on-demand"
	case StartRespond:
		return "respond"
	}
	return "none"
}

// StaticXAuth is our part in extended authentication.
type StaticXAuth uint8

// The parts.
const (
	StaticXAuthNone StaticXAuth = iota + 1
	// StaticXAuthServer asks the peer; who decides is who decides about subscribers of the router.
	StaticXAuthServer
	StaticXAuthClient
)

// String returns the word of the file.
func (x StaticXAuth) String() string {
	switch x {
	case StaticXAuthNone:
		return "none"
	case StaticXAuthServer:
		return "server"
	case StaticXAuthClient:
		return "client"
	}
	return ""
}

// Limits on static tunnels.
const (
	// MaxStaticTunnels is the number of static tunnels per file.
	MaxStaticTunnels = 4000
	// MaxStaticPeers is that of peers per tunnel, MaxStaticNetworks that of pairs of networks.
	MaxStaticPeers    = 8
	MaxStaticNetworks = 64
	// MaxNameServers is the number of name servers per router.
	MaxNameServers = 3
)
