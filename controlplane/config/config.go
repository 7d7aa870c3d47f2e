package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config is the whole configuration: the process and its virtual routers. It is
// immutable after [Load]; a reload makes a new one. Every reference in it
// resolves, every number is in its range and every default is filled in.
type Config struct {
	// Process is what vrgate.yaml says.
	Process Process
	// Routers are the virtual routers by ascending name; names are unique and
	// there is at least one.
	Routers []*Router
}

// Router returns the virtual router of that name, nil if there is none.
func (c *Config) Router(name string) *Router {
	i, ok := slices.BinarySearchFunc(c.Routers, name, func(r *Router, name string) int { return strings.Compare(r.Name, name) })
	if !ok {
		return nil
	}
	return c.Routers[i]
}

// Process is the part of the configuration that belongs to no virtual router.
type Process struct {
	Log Log
	API API
	// StateDir holds the lock file and durable state. Absolute path, default
	// /var/lib/vrgate. It need not exist yet.
	StateDir string
	Workers  Workers
	HalfOpen HalfOpen
	// Licences bound the subscribers of all virtual routers together (J12).
	Licences Licences
	// DefaultRouter names the virtual router whose RADIUS servers may move a user to
	// another router (R6, ERX Virtual-Router); empty: none may. It resolves with
	// [Config.Router].
	DefaultRouter string
	Admission     Admission
	Journal       AccountingJournal
	// ShutdownTimeout bounds the polite end of all sessions after SIGTERM.
	// 1 s to 10 min, default 10 s.
	ShutdownTimeout time.Duration
}

// Log says what is logged and how.
type Log struct {
	Level  LogLevel
	Format LogFormat
}

// API is the control socket.
type API struct {
	// Socket is the absolute path of the unix socket, at most 107 bytes;
	// default /run/vrgate/api.sock.
	Socket string
	// Group may use the socket besides root; a group name or number, empty for
	// root alone.
	Group string
}

// Workers sizes the pools for work that must not block an engine.
type Workers struct {
	// DH is the number of workers for Diffie-Hellman, 1 to 1024. Default 0 in
	// the file means one per CPU and is resolved here.
	DH int
	// Kernel is the number of workers for calls that wait for the kernel (RCU,
	// RTNL), 1 to 1024, default 32 (kernel.md 7, item 9).
	Kernel int
}

// HalfOpen bounds phase 1 negotiations that are not yet authenticated, and dynamic
// subscribers without certificate whose user has not been let in, in each
// virtual router: a flood of one tenant's addresses leaves the others alone.
type HalfOpen struct {
	// Total is the number at which new negotiations are refused, 1 to 1000000,
	// default 16384.
	Total int
	// PerSource is the same for one source address, 1 to Total, default 512 or
	// Total if that is less (a carrier NAT hides many honest clients behind one
	// address).
	PerSource int
}

// RouterKind is how a virtual router exists in the kernel.
type RouterKind uint8

// The kinds of virtual router.
const (
	// KindNamespace owns a network namespace.
	KindNamespace RouterKind = iota + 1
	// KindVRF is a VRF device inside a namespace.
	KindVRF
)

// Router is one virtual router: one tenant's routing world.
type Router struct {
	// Name is the file's name without .yaml: 1 to 31 letters, digits, '-', '_'
	// or '.', starting with a letter or digit.
	Name string
	// File is the path it was read from, for messages.
	File string
	// Kind is KindVRF if VRF is filled in.
	Kind RouterKind
	// Namespace is the network namespace it lives in; no two routers of kind
	// KindNamespace share one.
	Namespace Namespace
	// VRF is the device of a router of kind KindVRF, zero otherwise.
	VRF VRF
	// Links join the router to its private network, by ascending name, at most [MaxLinks].
	Links []Link
	// ServerAddresses are the addresses on which the router listens (IKE on UDP
	// 500 and 4500, L2TP on 1701; on IPv6 addresses L2TP alone); at most
	// [MaxServerAddresses]. A router that only terminates subscribers of others
	// has none.
	ServerAddresses []netip.Addr
	// NATT enables NAT traversal (C1r); default true.
	NATT bool
	// InvalidCookie answers unknown IKE cookies with INVALID-COOKIE, at a
	// bounded rate (K11); default false.
	InvalidCookie bool
	// Proposals is the proposal profile that decides where Policy, or the
	// Transforms of a transport profile, are empty.
	Proposals ProposalProfile
	// Policy are the IKE policy rules, best first; empty for those of the
	// proposal profile (K2).
	Policy []PolicyRule
	// TransportProfiles say how IPsec transport mode connections for L2TP are
	// accepted.
	TransportProfiles []TransportProfile
	// Keys are the individual pre-shared keys.
	Keys []PreSharedKey
	// Certificates are the router's own and the authorities it trusts.
	Certificates Certificates
	// TunnelProfiles say which dynamic subscribers belong to which VPN, in the order in
	// which they are tried (J14).
	TunnelProfiles []TunnelProfile
	// StaticTunnels are those whose outer packets have addresses of this router, by ascending name.
	StaticTunnels []StaticTunnel
	// NameServers are asked, from within the router, for the names of peers; empty for those of the system. At most
	// [MaxNameServers].
	NameServers []netip.Addr
	// DPD probes dynamic subscribers (K10).
	DPD DPD
	// Licences bound the router's subscribers (J12).
	Licences Licences
	// L2TP are the router's L2TP parameters.
	L2TP L2TP
	// Destinations are the destination profiles by ascending name, at most
	// [MaxDestinationProfiles] (G3).
	Destinations []DestinationProfile
	// PPP are the router's PPP parameters.
	PPP PPP
	// IPProfiles are the IP profiles by ascending name.
	IPProfiles []IPProfile
	// Pools are the address pools of subscribers that terminate in this
	// router, by ascending name; no address is in two of them.
	Pools []Pool
	// Users are the local users of subscribers that arrive in this router, by
	// ascending name.
	Users []User
	// RADIUS are the router's RADIUS servers.
	RADIUS RADIUS
	// AAA says who decides about subscribers that arrive in this router.
	AAA AAA
	// Limits bound the sessions that arrive in this router.
	Limits Limits
	// TrafficPolicies are those of subscribers that terminate in this router, by
	// ascending name, at most [MaxTrafficPolicies].
	TrafficPolicies []TrafficPolicy
}

// IPProfile returns the IP profile of that name, nil if there is none.
func (r *Router) IPProfile(name string) *IPProfile {
	i, ok := slices.BinarySearchFunc(r.IPProfiles, name, func(p IPProfile, name string) int { return strings.Compare(p.Name, name) })
	if !ok {
		return nil
	}
	return &r.IPProfiles[i]
}

// Pool returns the address pool of that name, nil if there is none.
func (r *Router) Pool(name string) *Pool {
	i, ok := slices.BinarySearchFunc(r.Pools, name, func(p Pool, name string) int { return strings.Compare(p.Name, name) })
	if !ok {
		return nil
	}
	return &r.Pools[i]
}

// Namespace names a network namespace.
type Namespace struct {
	// Name is the name below /run/netns, empty for the namespace in which
	// vrgate runs.
	Name string
	// Create makes the namespace if it does not exist; vrgate then also
	// removes it when it stops, if it was vrgate who made it.
	Create bool
}

// VRF is a VRF device.
type VRF struct {
	// Device is the interface name, 1 to 15 bytes.
	Device string
	// Table is its routing table, 1 to 4294967295 without 253, 254 and 255.
	Table uint32
	// Create makes the device if it does not exist, as for Namespace.
	Create bool
}

// PolicyRule is an IKE policy rule. A transform that a peer offers satisfies it
// if each of its values is in the rule's list (K2).
type PolicyRule struct {
	// Priority orders rules, 1 to 10000, lowest number first (K3); unique.
	Priority int
	// Auth is the authentication method; with XAuth it stands for that of phase
	// 1. AuthRSA and AuthHybrid imply that the router has a certificate.
	Auth AuthMethod
	// Encryption, Hash and Group are the accepted values, in the order of
	// preference for offers of our own; none is empty.
	Encryption []Encryption
	Hash       []Hash
	Group      []Group
	// Lifetime is the longest phase 1 SA, 60 s to 86400 s, default 28800 s
	// (K3).
	Lifetime time.Duration
	// AggressiveMode says whether aggressive mode matches (K5); default
	// AggressiveNone.
	AggressiveMode AggressiveMode
	// LocalAddress binds the rule to one server address; the zero Addr holds
	// for any (K4).
	LocalAddress netip.Addr
}

// TransportProfile says how IPsec transport mode connections that carry L2TP
// are accepted.
type TransportProfile struct {
	// Name is unique in the router, 1 to 64 bytes.
	Name string
	// RemoteAddress is the only peer, or 0.0.0.0 for any.
	RemoteAddress netip.Addr
	// Locals are the server addresses on which it holds, with their group
	// keys; at least one. No two profiles share local and remote address.
	Locals []TransportLocal
	// Lifetime is the longest phase 2 SA, 1800 s to 864000 s, default 28800 s
	// (B3).
	Lifetime time.Duration
	// LifetimeKilobytes is the same in units of 1024 bytes, 102400 to
	// 4294967295, default 4294967295 (B3).
	LifetimeKilobytes uint32
	// PFS is the least group for perfect forward secrecy that a peer must use,
	// GroupNone to leave it to the peer (K9).
	PFS Group
	// Certificate names the router's own certificate for peers that
	// authenticate with RSA signatures, empty for none.
	Certificate string
	// Transforms are the accepted ESP transforms in the order of preference,
	// at most [MaxTransforms]; empty for those of the proposal profile.
	Transforms []ESPTransform
	// NATPassthrough serves one client behind a NAT that lets plain ESP through:
	// the UDP checksum of its decrypted L2TP is not checked (B1r to B3r);
	// default false (B4r).
	NATPassthrough bool
}

// TransportLocal is one server address of a transport profile.
type TransportLocal struct {
	Address netip.Addr
	// GroupKeys authenticate any L2TP/IPsec peer of this address (D1r) and
	// nothing but L2TP (D2r); at most [MaxGroupKeys], tried in this order.
	GroupKeys []GroupKey
}

// GroupKey is a pre-shared key of a server address.
type GroupKey struct {
	// Name is what logs call the key; unique per address.
	Name string
	// Key is 1 to 256 bytes (D4r).
	Key Secret
	// From and Until bound the time in which new phase 1 SAs may use it, for the
	// rotation of keys; the zero Time for no bound. From is before Until.
	From, Until time.Time
}

// PreSharedKey is the key of one peer. Exactly one of PeerAddress and
// PeerIdentity is set. It comes before group keys.
type PreSharedKey struct {
	// Name is what logs call the key; unique in the router.
	Name string
	// PeerAddress is the peer's outer IPv4 address.
	PeerAddress netip.Addr
	// PeerIdentity is the identity the peer sends in phase 1: an address, an
	// FQDN or user@FQDN of at most 80 bytes (D4r). In main mode the identity is
	// only seen after the key had to be chosen, so at most [MaxIdentityKeys]
	// of them are tried.
	PeerIdentity Identity
	// Key is 1 to 256 bytes (D4r).
	Key Secret
}

// Identity is a phase 1 identity.
type Identity struct {
	Kind IdentityKind
	// Value is the text: "192.0.2.7", "host.example.net" or
	// "user@example.net". FQDNs are lower case.
	Value string
}

// L2TP are the L2TP parameters of a router (requirements 1.7).
type L2TP struct {
	// DestructTimeout is how long ended tunnels and sessions are kept for
	// show, 10 s to 3600 s, default 600 s.
	DestructTimeout time.Duration
	// IdleTimeout is how long a tunnel without session lives, 0 to 86400 s,
	// 0 for ever, default 60 s.
	IdleTimeout time.Duration
	// RetransmitEstablished and RetransmitNotEstablished are the numbers of
	// retransmissions before a tunnel is given up, 2 to 7, default 5.
	RetransmitEstablished    int
	RetransmitNotEstablished int
	// HelloInterval is the silence on the control channel after which a HELLO
	// is sent, 1 s to 3600 s or 0 for never, default 60 s.
	HelloInterval time.Duration
	// ReceiveWindow is the window we announce, 1 to 32 messages; 0 in the file
	// means that vrgate chooses and stays 0 here.
	ReceiveWindow int
	// Challenge makes us challenge peers whose host profile has a tunnel
	// password; default true.
	Challenge bool
	// DisconnectCause sends and logs the RFC 3145 disconnect cause; default
	// false.
	DisconnectCause bool
	// MaxSessions bounds sessions in the router, 1 to 1000000; 0 for no limit.
	MaxSessions int
	// SetupTimeout bounds tunnel and call establishment, 5 s to 300 s, default
	// 60 s.
	SetupTimeout time.Duration
	// ShortDrain is how long the end of a tunnel waits for the peer's
	// acknowledgement, 0 to 31 s, default 2 s.
	ShortDrain time.Duration
	// Admin is the administrative state at the start (A8); default AdminEnabled.
	// What an operator sets at run time holds until the configuration changes it.
	Admin AdminState
	// TolerateUnknownAVP skips unknown AVPs with the M bit instead of refusing
	// the message; default false.
	TolerateUnknownAVP bool
	// IgnoreSequencing sends data without sequence numbers even where a LAC
	// requires them; default false.
	IgnoreSequencing bool
	// Switching hands sessions on to other LNSs where AAA says so (tunnel
	// switching); default false, then such sessions are refused.
	Switching bool
	// Lockout is how long an LNS that did not answer is passed over, 60 s to
	// 3600 s, default 300 s. LockoutTest has it tried once more before sessions
	// are given to it; default false.
	Lockout     time.Duration
	LockoutTest bool
}

// AdminState is an administrative state of L2TP (A8).
type AdminState uint8

// Administrative states.
const (
	AdminEnabled AdminState = iota
	// AdminDrain takes nothing new; what lives goes on.
	AdminDrain
	// AdminDisabled takes nothing new and ends what lives.
	AdminDisabled
)

// TunnelServer is an LNS to which the sessions of a domain are handed on (tunnel
// switching).
type TunnelServer struct {
	// Server is its address; Client our address towards it, the zero Addr for the
	// first server address.
	Server, Client netip.Addr
	// Preference orders them, lowest first, 0 to 16777215, default 0; sessions
	// are shared out among equals.
	Preference uint32
	// Password is the tunnel secret, nil for none.
	Password Secret
	// LocalHost is our host name, empty for the router's name; RemoteHost the one
	// that the LNS must have, empty for any.
	LocalHost, RemoteHost string
	// MaxSessions bounds sessions in one tunnel, 1 to 65535; 0 for no limit.
	MaxSessions int
}

// MaxTunnelServers is the number of LNSs per domain map.
const MaxTunnelServers = 8

// DestinationProfile says which LACs, by address, may open tunnels.
type DestinationProfile struct {
	// Name is unique in the router, 1 to 64 bytes.
	Name string
	// LACAddress is the LAC, or 0.0.0.0 for any IPv4 address (G2), or :: for any
	// IPv6 address; unique in the router. An IPv6 LAC has host profiles without
	// IPsec only.
	LACAddress netip.Addr
	// MaxSessions bounds sessions under the profile, 1 to 1000000; 0 for no
	// limit (G11).
	MaxSessions int
	// Hosts are the host profiles; at least one.
	Hosts []HostProfile
}

// HostProfile are the attributes with which tunnels of a LAC are accepted (G5).
type HostProfile struct {
	// RemoteHost is the Host Name AVP that selects the profile, or empty for
	// the default that is used when no other matches; unique in its
	// destination profile.
	RemoteHost string
	// LocalHost is our Host Name AVP; default the router's name.
	LocalHost string
	// LocalAddress is the server address that the LAC must call, the zero Addr
	// for any (G8).
	LocalAddress netip.Addr
	// IPsecRequired accepts only tunnels inside IPsec transport mode (G6).
	// Default true: clear text has to be asked for.
	IPsecRequired bool
	// TunnelPassword is the L2TP tunnel secret, 1 to 256 bytes; nil for none.
	TunnelPassword Secret
	// MaxSessions bounds sessions under the profile, 1 to 1000000; 0 for no
	// limit (G11).
	MaxSessions int
	// ReceiveWindow is that of [L2TP] unless set here; already resolved.
	ReceiveWindow int
	// IPProfile names the IP profile of sessions (G7); always resolves with
	// [Router.IPProfile].
	IPProfile string
	// SingleShot gives tunnels one session in their life, and IPsec connections
	// one tunnel (H1 to H8); default false (H6).
	SingleShot bool
	// DisconnectCause is that of [L2TP] unless set here; already resolved.
	DisconnectCause bool
	// ProxyLCP takes over the LCP options that the LAC has negotiated, ProxyAuth
	// what the client has answered the LAC (G10); default true and false: a LAC
	// that is believed about who the user is has to be trusted.
	ProxyLCP, ProxyAuth bool
	// HideAVPs hides AVPs in messages to the LAC; only with TunnelPassword.
	// Default false.
	HideAVPs bool
	// TolerateUnknownAVP is that of [L2TP] unless set here; already resolved.
	TolerateUnknownAVP bool
	// ZeroTunnelID takes control messages for tunnel 0 for those of the LAC's newest
	// tunnel; default false.
	ZeroTunnelID bool
	// ResourceError refuses calls for lack of resources with CDN result 2 and error
	// 4 in place of result 4 or 5 (G10,
	// session-out-of-resource-result-code-override); default false.
	ResourceError bool
}

// PPP are the PPP parameters of a router.
type PPP struct {
	// Authentication are the methods that we ask for, first one first (F2);
	// never empty, no duplicates. Default mschapv2, chap.
	Authentication []PPPAuth
	// MRU is the largest MRU that we offer and accept, 576 to 1500 bytes,
	// default 1400 (kernel.md 7, item 18).
	MRU int
	// EchoInterval is the time between LCP Echo-Requests, 1 s to 3600 s or 0
	// for none, default 30 s.
	EchoInterval time.Duration
	// EchoFailures is how many unanswered ones end the session, 1 to 100,
	// default 4.
	EchoFailures int
	// SetupTimeout bounds the time from the call's start until IPCP is up,
	// without the time AAA takes; 5 s to 300 s, default 60 s.
	SetupTimeout time.Duration
}

// IPProfile says what a subscriber's interface looks like (G7).
type IPProfile struct {
	// Name is unique in the router, 1 to 64 bytes.
	Name string
	// Router is the terminating virtual router: this one, or another one, in
	// the same namespace if a host profile names the IP profile. Always resolves
	// with [Config.Router].
	Router string
	// Unnumbered is our address on the interface, borrowed from the
	// terminating router.
	Unnumbered netip.Addr
	// Pool names the pool in the terminating router from which addresses come,
	// empty if that router has none: then every user needs a fixed address.
	Pool string
	// DNS and NBNS are given to the client; primary first, at most two each.
	DNS  []netip.Addr
	NBNS []netip.Addr
	// MTU of the interface, 576 to 1500 bytes; 0 derives it from the
	// negotiated MRU.
	MTU int
	// OwnAddress says that Unnumbered is not borrowed from anything: vrgate keeps
	// it in the terminating router.
	OwnAddress bool
	// MSSClamp lowers the MSS of TCP to the MTU, default true, and MSS, 536 to
	// 1460 bytes, to that; 0 for no such bound.
	MSSClamp bool
	MSS      int
	// SourceValidation drops packets from a subscriber with another source than
	// its address and the networks behind it; default true.
	SourceValidation bool
	// AccessRoutes makes the host route to the subscriber; default true.
	AccessRoutes bool
	// Traffic holds for subscribers for whom AAA names no rate or policy.
	Traffic Traffic
	// IdleTimeout, 300 s to 86400 s, and IdleIngress hold where neither a server
	// nor the user nor the domain map has a timeout; 0 for what the aaa section
	// says.
	IdleTimeout time.Duration
	IdleIngress bool
}

// Pool is an address pool.
type Pool struct {
	// Name is unique in the router, 1 to 64 bytes.
	Name string
	// Ranges are the addresses, ascending and disjoint; at least one.
	Ranges []AddrRange
	// Exclude are addresses inside Ranges that are never leased dynamically,
	// ascending and disjoint: the configured ones, the gateway addresses of IP
	// profiles and of domain maps and the fixed addresses of users.
	Exclude []AddrRange
	// WarnAt is the share of leased addresses in percent at which a warning is
	// logged, 1 to 100, 0 for never, default 90. It is taken back, and can be given
	// again, below WarnUntil: 0 to WarnAt, default 10 less.
	WarnAt, WarnUntil int
}

// AddrRange is an inclusive range of IPv4 addresses.
type AddrRange struct {
	First, Last netip.Addr
}

// Contains says whether a is in the range.
func (r AddrRange) Contains(a netip.Addr) bool {
	return r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// String returns "first-last", or the address if there is only one.
func (r AddrRange) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// User is a local user.
type User struct {
	// Name is what the client sends as user name, 1 to 253 bytes; unique in
	// the router.
	Name string
	// Password is 1 to 256 bytes.
	Password Secret
	// Address is the user's fixed address; the zero Addr for one of the pool.
	Address netip.Addr
	// Router overrides the terminating virtual router of the IP profile; empty
	// for no override.
	Router string
	// SessionTimeout ends the user's sessions after that time, 60 s to 31622400 s,
	// IdleTimeout when no traffic came or went for so long, 300 s to 86400 s
	// (R3); 0 for what the domain map or the router says, default.
	SessionTimeout time.Duration
	IdleTimeout    time.Duration
	// IdleIngress has the idle timeout look at traffic from the user only.
	IdleIngress bool
	// Pool is the address pool in the terminating router in place of the IP
	// profile's; empty for that. Never set together with Address.
	Pool string
	// Netmask goes to dynamic subscribers with the address; the zero Addr for
	// 255.255.255.255 (R7).
	Netmask netip.Addr
	// MTU bounds that of the interface or route, 576 to 9000 bytes; 0 for no
	// bound.
	MTU int
	// Routes are networks behind the user, ascending, at most [MaxUserRoutes]; none
	// contains another.
	Routes []UserRoute
	// DNS and NBNS replace those of the IP profile; at most two each.
	DNS, NBNS []netip.Addr
	Traffic   Traffic
	// Networks replace those of the tunnel profile; at most [MaxTunnelNetworks].
	Networks []netip.Prefix
}

// UserRoute is a network behind a user.
type UserRoute struct {
	Prefix netip.Prefix
	// Metric of the kernel's route, 0 to 4294967295.
	Metric uint32
}

// Limits on the number of configured things.
const (
	// MaxRouters is the number of virtual routers per process (design.md).
	MaxRouters = 1000
	// MaxServerAddresses is the number of server addresses per router.
	MaxServerAddresses = 256
	// MaxPolicyRules is the number of IKE policy rules per router (K2).
	MaxPolicyRules = 10
	// MaxGroupKeys is the number of group keys per transport profile and
	// server address. Each costs one key derivation for message 5 of an
	// unauthenticated peer.
	MaxGroupKeys = 8
	// MaxIdentityKeys is the number of keys by identity per router, bounded
	// for the same reason.
	MaxIdentityKeys = 16
	// MaxTransforms is the number of ESP transforms per transport profile.
	MaxTransforms = 32
	// MaxDestinationProfiles is the number of destination profiles per router
	// (G3).
	MaxDestinationProfiles = 4000
	// MaxHostProfiles is the number of host profiles per destination profile.
	MaxHostProfiles = 1000
	// MaxKeyLen is the length of a pre-shared key in bytes (D4r).
	MaxKeyLen = 256
	// MaxFQDNLen is the length of a name that selects a key in bytes (D4r).
	MaxFQDNLen = 80
)
