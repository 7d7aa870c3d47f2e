// Package aaa decides who a subscriber is and what it gets. Requests and
// decisions are plain values: an engine emits a Request as an effect, a worker
// asks a Method, and the Decision comes back as an event.
//
// Local users are the embedded default; no server is needed. [Service] is the AAA of a router: it
// takes the user's name apart, finds the entry of the domain map, asks local users and servers in
// their order and puts together what the subscriber gets.
//
// # Precedence
//
// What a subscriber gets is said by, in this order of precedence:
//
//	the RADIUS server or the local user, whichever has decided
//	the entry of the domain map
//	the IP profile of the tunnel or host profile (terminating router, gateway, pool, idle timeout and traffic)
//	the defaults of the router whose AAA was asked
//
// For each thing the first who says anything about it is followed. Address, routes, IPv6
// prefixes and Class are for one subscriber: only whoever decided says them. The idle timeout
// looks at traffic from the subscriber only if anybody in the order wants so.
//
// A PPP session can end at another LNS instead (tunnel switching): one that the server names, or else
// the entry of the domain map. Then only timeouts, interim accounting and Class are granted here.
//
// Pools and gateways are things of the terminating router. Who is at or before the source
// of that router in the order means this router, and what it names must be there, or the
// subscriber is refused. What comes after meant another router: its pool and gateway are taken if
// the terminating router has them too, and else the first of those that it has.
//
// The accounting group is the entry's, or else that of the router that was asked.
package aaa

import (
	"context"
	"net/netip"
	"time"

	"vrgate/controlplane/keymat"
)

// Protocol is how the subscriber proves who it is.
type Protocol string

// The protocols of Request.
const (
	PAP      Protocol = "pap"
	CHAPMD5  Protocol = "chap"
	MSCHAPv2 Protocol = "mschapv2"
	// EAP is relayed between the peer and a server; nothing of ours understands it (RFC 3579).
	EAP Protocol = "eap"
	// Proven: phase 1 has authenticated the peer's identity, there is nothing else to check.
	Proven Protocol = "proven"
)

// Access is the way a subscriber came in.
type Access string

// The ways in.
const (
	AccessL2TP      Access = "l2tp"       // plain L2TP
	AccessL2TPIPsec Access = "l2tp/ipsec" // PPP in L2TP in IPsec
	AccessXAuth     Access = "xauth"      // dynamic IPsec subscriber
	// AccessStatic is the peer of a static tunnel that answers for a user (Z-8). It gets nothing but the tunnel, which is
	// configured: a Decision about it has no Grants.
	AccessStatic Access = "static"
)

// MaxUserName bounds user names, in bytes (RADIUS User-Name holds 253).
const MaxUserName = 253

// Request is what one subscriber presented.
type Request struct {
	Router   string // the virtual router in which it arrived
	Access   Access
	User     string // as received: any bytes, at most MaxUserName
	Protocol Protocol
	Password keymat.Secret // PAP
	// ID, Challenge and Response are CHAP's (RFC 1994); for MS-CHAPv2 the 16-byte
	// authenticator challenge and the 49-byte response value (RFC 2759 section 4).
	ID                  uint8
	Challenge, Response []byte
	// Remote is the peer's outer address and port, as we see it.
	Remote        netip.AddrPort
	CallingNumber string
	IPProfile     string // the profile that applies unless the decision says otherwise
	// The rest is for dynamic subscribers. PeerID is the identity phase 1 has proven. Where
	// it alone authenticates, Protocol is Proven and User the identity.
	PeerID   string
	Passcode keymat.Secret
	Answer   keymat.Secret
	NextPIN  keymat.Secret
	State    []byte // of the Prompt or the EAPRound that this answers
	// Server is who has asked for this round, within the method that did; empty in the first.
	Server string
	// Session is the session's Acct-Session-Id, Conn its IPsec connection (0: none), Call its
	// L2TP tunnel and session (0: none).
	Session string
	Conn    uint32
	Call    [2]uint16
	// Local is the outer address and port that the peer called.
	Local    netip.AddrPort
	PeerHost string // L2TP host name of the peer
	Peer     string // its IKE implementation
	// LocalHost is our L2TP host name, as the peer was told.
	LocalHost string
	// EAP is the peer's EAP packet where Protocol is EAP, at most [MaxEAP] bytes. It may hold a password in clear.
	EAP []byte
	// MRU is the largest packet that the peer takes over PPP, in bytes, and so the largest EAP packet that a
	// server may send it: one that is larger ends the session. 0: not known.
	MRU uint16
	// Profile is the tunnel profile of a dynamic subscriber.
	Profile string
	// Again: the session has been accepted before and authenticates once more.
	Again bool
	// What a LAC said about the call; zero values: nothing. Speeds are bit/s.
	CalledNumber, SubAddress string
	TxSpeed, RxSpeed         uint32
}

// MaxTunnels bounds the LNSs of one decision.
const MaxTunnels = 8

// Tunnel is an LNS to which a PPP session is handed on instead of ending here: tunnel switching, by a domain map or by the
// Tunnel attributes of RFC 2868.
type Tunnel struct {
	// Preference orders LNSs, the lowest first (Tunnel-Preference); equal ones share the sessions.
	Preference uint32
	Server     netip.Addr // Tunnel-Server-Endpoint
	Client     netip.Addr // Tunnel-Client-Endpoint: our address towards it; zero: any server address
	Secret     keymat.Secret
	// ClientName is our host name (Tunnel-Client-Auth-ID; empty: the router's), ServerName the one that the LNS
	// must have (Tunnel-Server-Auth-ID; empty: any).
	ClientName, ServerName string
	Assignment             string // Tunnel-Assignment-ID
	PrivateGroup           string // Tunnel-Private-Group-ID, passed on
	MaxSessions            int    // ERX 33: of one tunnel; 0: no bound
}

// MaxEAP bounds EAP packets, in bytes: what one RADIUS packet of 4096 can carry beside the rest.
const MaxEAP = 3072

// Decision is the answer. The zero value refuses.
type Decision struct {
	Accept bool
	Reason Reason // of a refusal
	Text   string // a sentence for the operator; never shown to the peer
	// Message is for the peer: the first Reply-Message (R7). Empty: none.
	Message string
	// MSCHAPv2Response is the "S=..." string for the peer (RFC 2759 section 5).
	MSCHAPv2Response string
	User             string // canonical name
	// EAP is the last packet for the peer where the request was EAP: Success or Failure.
	EAP []byte
	// Prompt asks the user once more instead of deciding: Accept is false and Reason empty.
	Prompt *Prompt
	// Round has the peer answer one more EAP packet instead of deciding.
	Round *EAPRound
	// By says who decided.
	By Authority
	// Domain is the domain of the user's name by the rules of the router in which it arrived
	// ([Name.Key]); empty: it has none.
	Domain string
	// DomainSessions bounds the sessions at once of those who share By.Domain and the router in
	// which they arrived; 0: no bound. OwnEntry says that By.Domain is Domain's own entry, so that
	// the bound is one for the domain and not for all that share an entry.
	DomainSessions int
	OwnEntry       bool
	// Tunnels, when not empty, says that the session is handed on to the first of these LNSs that takes it. Of Grants only
	// timeouts, interim and Class then mean something, and there is no address.
	Tunnels []Tunnel
	Grants
}

// Grants are what an accepted subscriber gets; zero values leave it to what comes next in the
// order of precedence: RADIUS, the local user, the domain map, the profile, the router.
type Grants struct {
	Address     netip.Addr // fixed address; zero: from the pool
	Netmask     netip.Addr // for dynamic subscribers; zero: 255.255.255.255 (R7)
	Pool        string     // pool of the terminating router; empty: the IP profile's
	Terminating string     // terminating virtual router; empty: the IP profile's
	Gateway     netip.Addr // our address on the interface; zero: the IP profile's
	// SessionTimeout and IdleTimeout have been brought into their ranges (R3, R4); 0: none.
	SessionTimeout time.Duration
	IdleTimeout    time.Duration
	// IdleIngress has the idle timeout look at traffic from the subscriber only.
	IdleIngress bool
	MTU         int           // upper bound, 576 to 9000 bytes; 0: none
	Interim     time.Duration // between interim accounting records, 60 s and more; 0: none
	Routes      []Route       // behind the subscriber, at most [MaxRoutes]
	DNS, NBNS   [2]netip.Addr
	Traffic     Traffic
	// For dynamic subscribers (mode config and Cisco Unity).
	Networks      []netip.Prefix
	Banner        string
	DefaultDomain string
	SplitDNS      []string
	// Kept for IPv6, which no subscriber has yet.
	IPv6Prefixes, DelegatedPrefixes []netip.Prefix
	// Class is echoed in all accounting of the session (R7), at most [MaxClasses].
	Class [][]byte
}

// Bounds on lists that a server sends; more are counted and left out.
const (
	MaxRoutes  = 32
	MaxClasses = 8
)

// Route is a Framed-Route (R8): a network that is behind the subscriber.
type Route struct {
	Prefix netip.Prefix
	Metric uint32 // 0: none given
	Tag    uint32 // kept for show; the kernel has no use for it
}

// Traffic says what a subscriber may send and receive. In is from the subscriber.
type Traffic struct {
	// In and Out are rates in bits per second, 0 for no limit; the bursts are bytes, 0 for a
	// default that follows from the rate.
	In, Out           uint64
	InBurst, OutBurst uint32
	// InPolicy and OutPolicy name traffic policies of the terminating router (Filter-Id,
	// ERX ingress and egress policy); empty: none.
	InPolicy, OutPolicy string
}

// Authority says who decided about a subscriber, for show, accounting and CoA.
type Authority struct {
	Router string // the virtual router whose AAA was asked
	Domain string // the domain map's entry; empty: none
	Method string // "local", "radius" or "phase1"
	Server string // the RADIUS server's name
	// Accounting is the group of servers of Router that gets the session's records; empty: none.
	Accounting string
}

// Prompt is a further question in a dialogue of several rounds (RADIUS Access-Challenge).
type Prompt struct {
	Message                   string
	Passcode, NextPIN, Answer bool // what to ask for; none: the password
	State                     []byte
}

// EAPRound is one more EAP packet for the peer.
type EAPRound struct {
	Packet []byte
	State  []byte
	// Timeout is how long the peer may take (RFC 3579 section 2.3); 0: the link's own.
	Timeout time.Duration
}

// Change alters a session that is up (RFC 5176). Nil fields stay as they are.
type Change struct {
	SessionTimeout *time.Duration // from the session's start; 0: none
	IdleTimeout    *time.Duration // 0: none
	Interim        *time.Duration // 0: none
	Traffic        *Traffic
	// Keep names the parts of the session's traffic that stay although Traffic is set, because a
	// server that sets a rate says nothing about policies. [Change.Over] reads it.
	Keep  TrafficParts
	Class [][]byte // empty: as it is
}

// TrafficParts is a set of parts of Traffic.
type TrafficParts uint8

// The parts: a rate goes with its burst.
const (
	RateIn TrafficParts = 1 << iota
	RateOut
	PolicyIn
	PolicyOut
)

// Over says what holds for a session whose traffic is now old: what the change sets, and of old
// what it keeps.
func (c Change) Over(old Traffic) Traffic {
	if c.Traffic == nil {
		return old
	}
	t := *c.Traffic
	if c.Keep&RateIn != 0 {
		t.In, t.InBurst = old.In, old.InBurst
	}
	if c.Keep&RateOut != 0 {
		t.Out, t.OutBurst = old.Out, old.OutBurst
	}
	if c.Keep&PolicyIn != 0 {
		t.InPolicy = old.InPolicy
	}
	if c.Keep&PolicyOut != 0 {
		t.OutPolicy = old.OutPolicy
	}
	return t
}

// Reason is the typed reason of a refusal, the same in log, API, metrics and accounting.
type Reason string

// Reasons of refusal. ReasonPoolEmpty, ReasonAddressInUse and ReasonRouteInUse come from whoever
// leases the address after the user was accepted.
const (
	ReasonUnknownUser   Reason = "aaa-unknown-user"
	ReasonWrongPassword Reason = "aaa-wrong-password"
	ReasonProtocol      Reason = "aaa-protocol-unusable"
	ReasonTimeout       Reason = "aaa-timeout"
	ReasonPoolEmpty     Reason = "pool-empty"
	ReasonAddressInUse  Reason = "duplicate-address"
	ReasonNoPool        Reason = "no-address-for-user"
	ReasonRouteInUse    Reason = "duplicate-route" // the kernel's too: a network is behind another subscriber
	// A server has refused the user; it does not say why.
	ReasonRefused Reason = "aaa-refused"
	// There is no server to ask. (ReasonTimeout: none has answered.)
	ReasonNoServer Reason = "aaa-no-server"
	// A server's answer cannot be used.
	ReasonBadAnswer Reason = "aaa-bad-answer"
	// The domain map denies the user's domain, or names what there is not.
	ReasonDomainDenied Reason = "aaa-domain-denied"
	// Too many users are waiting for AAA.
	ReasonOverload Reason = "aaa-overload"
	// One more session of the user, the domain, the router or the source is too many.
	ReasonUserLimit   Reason = "user-session-limit"
	ReasonDomainLimit Reason = "domain-session-limit"
	ReasonRouterLimit Reason = "router-session-limit"
	ReasonSourceLimit Reason = "source-session-limit"
	// The decision names a terminating virtual router that there is not, or that an L2TP
	// subscriber cannot get into; or an address that this router has not as gateway.
	ReasonNoRouter  Reason = "terminating-router-unusable"
	ReasonNoGateway Reason = "gateway-unusable"
	// The decision names a traffic policy that the terminating router has not.
	ReasonUnknownPolicy Reason = "unknown-traffic-policy"
	// A licence is missing (J12).
	ReasonNoSubscriberLicence Reason = "no-subscriber-licence"
	ReasonNoTunnelLicence     Reason = "no-ipsec-tunnel-licence"
)

// Method decides requests. Decide may block until ctx ends and is called from several
// goroutines at once.
type Method interface {
	Decide(ctx context.Context, r Request) Decision
}

// AddressSource says where a subscriber's address came from.
type AddressSource string

// Sources of addresses.
const (
	FromPool AddressSource = "pool"
	FromUser AddressSource = "user"
)
