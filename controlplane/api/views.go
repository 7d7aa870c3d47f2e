package api

import (
	"net/netip"
	"strings"
	"time"
)

// VR is a virtual router as `vrgate show vr` prints it.
type VR struct {
	Name string `json:"name"`
	// Kind is "namespace" or "vrf".
	Kind string `json:"kind"`
	// Namespace is empty for the namespace in which vrgate runs.
	Namespace string `json:"namespace,omitempty"`
	// Device and Table are those of a VRF.
	Device string `json:"device,omitempty"`
	Table  uint32 `json:"table,omitempty"`
	// State is "starting", "up", "stopping" or "failed"; Reason and Text say
	// why it failed.
	State           string       `json:"state"`
	Reason          string       `json:"reason,omitempty"`
	Text            string       `json:"text,omitempty"`
	ServerAddresses []netip.Addr `json:"server_addresses"`
	// NATT is whether new IKE SAs may use NAT traversal (C13r).
	NATT      bool   `json:"nat_t"`
	Proposals string `json:"proposals"`
	// IKESAs counts phase 1 SAs, half-open ones included; HalfOpen those that
	// are not yet authenticated, and dynamic subscribers without certificate
	// whose user has not been let in.
	IKESAs      int `json:"ike_sas"`
	HalfOpen    int `json:"half_open"`
	Connections int `json:"ipsec_connections"`
	Tunnels     int `json:"l2tp_tunnels"`
	Sessions    int `json:"l2tp_sessions"`
	// StaticTunnels are those whose outer addresses are the virtual router's.
	StaticTunnels TunnelCounts `json:"static_tunnels"`
	Subscribers   Subscribers  `json:"subscribers"`
	Licences      Licences     `json:"licences"`
	Pools         []Pool       `json:"pools"`
	PolicyRules   []PolicyRule `json:"ike_policy_rules"`
}

// Subscribers counts the subscribers of a virtual router.
type Subscribers struct {
	// Up can send traffic; Connecting and Ending cannot yet or any more.
	Up         int `json:"up"`
	Connecting int `json:"connecting"`
	Ending     int `json:"ending"`
}

// Licences are the licences that the subscribers of a virtual router, or of the process, hold
// (J12).
type Licences struct {
	// Subscribers are held by every subscriber, IPsecTunnels by those with IPsec.
	Subscribers  Licence `json:"subscribers"`
	IPsecTunnels Licence `json:"ipsec_tunnels"`
}

// Licence is the use of one kind of licence.
type Licence struct {
	Used int `json:"used"`
	// Limit is 0 for none.
	Limit int `json:"limit"`
}

// Pool is the use of an address pool.
type Pool struct {
	Name string `json:"name"`
	// Size is the number of addresses that can be leased, Used those that are.
	Size int `json:"size"`
	Used int `json:"used"`
	// State is "free", "exhausted" if all are leased, or "warning" since the share of those that
	// are has reached WarnAt, until it is below WarnUntil; both in percent, WarnAt 0 for never.
	State     string `json:"state"`
	WarnAt    int    `json:"warn_at"`
	WarnUntil int    `json:"warn_until"`
	// Ranges and Exclude are "first-last", or single addresses.
	Ranges  []string `json:"ranges"`
	Exclude []string `json:"exclude"`
}

// PolicyRule is an IKE policy rule as in `show ipsec ike-policy-rule`.
type PolicyRule struct {
	Priority        int      `json:"priority"`
	Authentication  string   `json:"authentication"`
	Encryption      []string `json:"encryption"`
	Hash            []string `json:"hash"`
	Group           []string `json:"group"`
	LifetimeSeconds int64    `json:"lifetime_seconds"`
	AggressiveMode  string   `json:"aggressive_mode"`
	// LocalAddress is empty for a rule that holds for any address.
	LocalAddress string `json:"local_address,omitempty"`
}

// IKEPolicyRule is a policy rule with the virtual router that it is of.
type IKEPolicyRule struct {
	VR string `json:"vr"`
	PolicyRule
}

// TunnelProfile says which dynamic subscribers belong to a VPN and what they get, as in `show
// ipsec tunnel-profile`.
type TunnelProfile struct {
	VR   string `json:"vr"`
	Name string `json:"name"`
	// LocalIdentity is empty for the address or the certificate's subject; PeerIdentities for
	// any.
	LocalIdentity  string   `json:"local_identity,omitempty"`
	PeerIdentities []string `json:"peer_identities"`
	// Certificate is the name of our certificate, Keys are the names of the group keys with
	// the identities that select them.
	Certificate string   `json:"certificate,omitempty"`
	Keys        []string `json:"keys"`
	// MaxSubscribers is 0 for no limit; Subscribers is how many there are.
	MaxSubscribers int    `json:"max_subscribers"`
	Subscribers    int    `json:"subscribers"`
	DomainSuffix   string `json:"domain_suffix,omitempty"`
	// Phase2Local is empty for anything, Phase2Peer for the assigned address.
	Phase2Local []netip.Prefix `json:"phase2_local"`
	Phase2Peer  []netip.Prefix `json:"phase2_peer"`
	IPProfile   string         `json:"ip_profile"`
	// TerminatingVR is where the IP profile ends subscribers.
	TerminatingVR string `json:"terminating_vr"`
	// LocalAddress is empty for any server address.
	LocalAddress string         `json:"local_address,omitempty"`
	Networks     []netip.Prefix `json:"networks"`
	// ExtendedAuthentication is "generic", "chap" or "none".
	ExtendedAuthentication string   `json:"extended_authentication"`
	Reauthenticate         bool     `json:"reauthenticate"`
	Attempts               int      `json:"attempts"`
	PushConfiguration      bool     `json:"push_configuration"`
	LifetimeSeconds        int64    `json:"lifetime_seconds"`
	LifetimeKilobytes      uint64   `json:"lifetime_kilobytes"`
	Transforms             []string `json:"transforms"`
	// PFS is the least group, "none" to leave it to the peer.
	PFS string `json:"pfs"`
	// MTU in bytes.
	MTU int `json:"mtu"`
	// AddressExpirySeconds is 0 where the client is told none.
	AddressExpirySeconds int64    `json:"address_expiry_seconds"`
	DefaultDomain        string   `json:"default_domain,omitempty"`
	SplitDNS             []string `json:"split_dns"`
	SavePassword         bool     `json:"save_password"`
	Banner               string   `json:"banner,omitempty"`
}

// Certificate is a certificate of ours, an authority that is trusted, or a revocation list.
type Certificate struct {
	VR string `json:"vr"`
	// Kind is "own", "authority" or "crl".
	Kind string `json:"kind"`
	// Name is that of our certificate, the file of an authority, the file or URL of a list.
	Name string `json:"name"`
	// State is good, expiring, expired or not-yet-valid; of a list good, stale or missing.
	State string `json:"state"`
	// Subject is empty for a list; Serial is hexadecimal.
	Subject string `json:"subject,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Serial  string `json:"serial,omitempty"`
	// NotBefore and NotAfter bound a certificate; of a list they are the times of this and of
	// the next one. The zero time where there is none.
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	// Revoked is the number of certificates in a list.
	Revoked int `json:"revoked,omitempty"`
}

// IKESA is a phase 1 SA.
type IKESA struct {
	VR     string         `json:"vr"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// RemainingSeconds until the SA expires, 0 to 86400.
	RemainingSeconds int64 `json:"remaining_seconds"`
	// State is one of K6, such as "DONE" or "MM SA-R".
	State string `json:"state"`
	// LocalCookie and RemoteCookie are 16 hexadecimal digits.
	LocalCookie  string `json:"local_cookie"`
	RemoteCookie string `json:"remote_cookie"`
	// Initiator is whether we started the negotiation.
	Initiator bool `json:"initiator"`
	// Mode is "main" or "aggressive" (K1).
	Mode string `json:"mode"`
	// Authentication is the method accepted: "psk", "rsa", "hybrid-rsa", "xauth-psk" or
	// "xauth-rsa"; empty before there is one.
	Authentication string `json:"authentication,omitempty"`
	// NATT is whether the SA moved to the NAT traversal port (C13r).
	NATT bool `json:"nat_t"`
	// Connection is the IPsec connection it belongs to, 0 before there is one; Tunnel the static tunnel that this is of.
	Connection uint32 `json:"connection,omitempty"`
	Tunnel     string `json:"tunnel,omitempty"`
	PeerID     string `json:"peer_id,omitempty"`
	// Peer is the implementation, recognised by its vendor IDs.
	Peer string `json:"peer,omitempty"`
	// Key is the name of the pre-shared key that matched, Subject that of the peer's
	// certificate.
	Key     string `json:"key,omitempty"`
	Subject string `json:"subject,omitempty"`
	// Proposal is the transform in words, such as "aes256-sha1-modp2048".
	Proposal string    `json:"proposal,omitempty"`
	Since    time.Time `json:"since"`
}

// IPsec is an IPsec connection: a peer with its phase 2 SAs over all rekeys.
type IPsec struct {
	VR         string `json:"vr"`
	Connection uint32 `json:"connection"`
	// State is "up" or "connecting".
	State string `json:"state"`
	// Application is what the connection may carry: "l2tp", "dynamic" for the traffic of a
	// dynamic subscriber, or "static" for that of a static tunnel (J11). Profile is the transport profile, the
	// tunnel profile or the static tunnel.
	Application string         `json:"application"`
	Profile     string         `json:"profile"`
	Local       netip.AddrPort `json:"local"`
	Remote      netip.AddrPort `json:"remote"`
	PeerID      string         `json:"peer_id,omitempty"`
	Peer        string         `json:"peer,omitempty"`
	Key         string         `json:"key,omitempty"`
	// Subject is that of the peer's certificate.
	Subject string `json:"subject,omitempty"`
	// LocalSelector and RemoteSelector are the phase 2 identities in words,
	// such as "192.0.2.1/32 udp 1701" or "0.0.0.0/0"; of a dynamic subscriber or
	// a static tunnel with several pairs of SAs all, separated by commas.
	LocalSelector  string `json:"local_selector,omitempty"`
	RemoteSelector string `json:"remote_selector,omitempty"`
	// Address is the inside address of a dynamic subscriber.
	Address netip.Addr `json:"address,omitzero"`
	// NATPeer and NATLocal tell where a NAT was found; UDPEncapsulation
	// whether ESP goes inside UDP.
	NATPeer          bool `json:"nat_peer"`
	NATLocal         bool `json:"nat_local"`
	UDPEncapsulation bool `json:"udp_encapsulation"`
	// Inbound has up to four SAs while a rekey overlaps, Outbound has one (K8).
	Inbound  []IPsecSA `json:"inbound"`
	Outbound []IPsecSA `json:"outbound"`
	Since    time.Time `json:"since"`
}

// IPsecSA is one unidirectional phase 2 SA.
type IPsecSA struct {
	// SPI is 8 hexadecimal digits.
	SPI       string `json:"spi"`
	Transform string `json:"transform"`
	// Lifetime as negotiated and what is left of it; 0 kilobytes for no bound.
	LifetimeSeconds    int64  `json:"lifetime_seconds"`
	RemainingSeconds   int64  `json:"remaining_seconds"`
	LifetimeKilobytes  uint64 `json:"lifetime_kilobytes,omitempty"`
	RemainingKilobytes uint64 `json:"remaining_kilobytes,omitempty"`
	Bytes              uint64 `json:"bytes"`
	Packets            uint64 `json:"packets"`
	ReplayErrors       uint64 `json:"replay_errors"`
	AuthErrors         uint64 `json:"auth_errors"`
}

// Subscriber is one authenticated, or authenticating, user session.
type Subscriber struct {
	// ID names the session for the life of the daemon. It is text because
	// JSON numbers lose digits of 64 bit values in many programs.
	ID   string `json:"id"`
	User string `json:"user"`
	// Type is "ppp" for L2TP subscribers, "ipsec" for dynamic ones.
	Type string `json:"type"`
	// Access is how it came in: "l2tp/ipsec", "l2tp" or "xauth".
	Access string `json:"access"`
	// State is link, deciding, opening, network, activating, up or ending.
	State string `json:"state"`
	// VR is where the client's packets arrive, TerminatingVR where its
	// interface and route are.
	VR            string `json:"vr"`
	TerminatingVR string `json:"terminating_vr"`
	// Address and Gateway are the zero Addr ("") until they are assigned.
	Address netip.Addr `json:"address"`
	Gateway netip.Addr `json:"gateway"`
	// AddressSource is "pool", or "radius" or "local" for a fixed one by who has said it; empty
	// before there is an address. Pool is the name of the pool.
	AddressSource string `json:"address_source,omitempty"`
	Pool          string `json:"pool,omitempty"`
	// Netmask is what a dynamic subscriber was told with its address.
	Netmask netip.Addr `json:"netmask,omitzero"`
	// Routes are the networks behind the subscriber.
	Routes    []SubscriberRoute `json:"routes"`
	Interface string            `json:"interface,omitempty"`
	// Ifindex is that of a PPP interface, which is the subscriber's own; 0 for others.
	Ifindex       int            `json:"ifindex,omitempty"`
	MTU           int            `json:"mtu,omitempty"`
	Local         netip.AddrPort `json:"local"`
	Remote        netip.AddrPort `json:"remote"`
	RemoteHost    string         `json:"remote_host,omitempty"`
	Peer          string         `json:"peer,omitempty"`
	CallingNumber string         `json:"calling_number,omitempty"`
	// Profile is the tunnel profile of a dynamic subscriber, PeerID its phase 1 identity.
	Profile string `json:"profile,omitempty"`
	PeerID  string `json:"peer_id,omitempty"`
	// Authentication is the method of PPP or XAuth, such as "mschapv2".
	Authentication string `json:"authentication,omitempty"`
	Connection     uint32 `json:"connection,omitempty"`
	LocalTunnel    uint16 `json:"local_tunnel,omitempty"`
	LocalSession   uint16 `json:"local_session,omitempty"`
	// Domain is what the name has for one by the rules of the virtual router (R1), DomainMap the
	// entry of the domain map that holds (R2); empty for none.
	Domain    string `json:"domain,omitempty"`
	DomainMap string `json:"domain_map,omitempty"`
	// Method is who has let the subscriber in: "local", "radius" or "phase1", of virtual router
	// AAAVR; Server is the RADIUS server.
	Method string `json:"method,omitempty"`
	AAAVR  string `json:"aaa_vr,omitempty"`
	Server string `json:"server,omitempty"`
	// AccountingGroup gets its records, empty for none; Accounted is whether a start is in the
	// journal and a stop is owed.
	AccountingGroup string `json:"accounting_group,omitempty"`
	Accounted       bool   `json:"accounted"`
	// InterimSeconds is the time between interim records, 0 for none.
	InterimSeconds int64 `json:"interim_seconds"`
	// Class are the attributes of that name, as text or, where they are none, in hexadecimal.
	Class   []string `json:"class"`
	Traffic Traffic  `json:"traffic"`
	// SessionTimeoutSeconds counts from Up, IdleTimeoutSeconds from the last traffic; 0 for none.
	// The remaining seconds are how much is left of them now. IdleIngress has the idle timeout
	// look at traffic from the subscriber only.
	SessionTimeoutSeconds   int64 `json:"session_timeout_seconds"`
	SessionRemainingSeconds int64 `json:"session_remaining_seconds"`
	IdleTimeoutSeconds      int64 `json:"idle_timeout_seconds"`
	IdleRemainingSeconds    int64 `json:"idle_remaining_seconds"`
	IdleIngress             bool  `json:"idle_ingress"`
	// Called is when the call came, Up when traffic was allowed; Up is the
	// zero time before that.
	Called time.Time `json:"called"`
	Up     time.Time `json:"up,omitzero"`
	// In is from the subscriber, Out to it; payload of the interface.
	InBytes    uint64 `json:"in_bytes"`
	OutBytes   uint64 `json:"out_bytes"`
	InPackets  uint64 `json:"in_packets"`
	OutPackets uint64 `json:"out_packets"`
}

// SubscriberRoute is a network behind a subscriber.
type SubscriberRoute struct {
	Prefix netip.Prefix `json:"prefix"`
	Metric uint32       `json:"metric"`
	// Tag is what the server gave it (R8); nothing depends on it.
	Tag uint32 `json:"tag"`
}

// Counter counts events of one reason.
type Counter struct {
	VR string
	// Subsystem is who counts: "ike", "l2tp", "subscriber", "dataplane" …
	Subsystem string
	// Reason is the typed reason, verbatim as in logs.
	Reason string
	Value  uint64
}

// Health says how the daemon is.
type Health struct {
	// Status is "ok", or "degraded" while a virtual router has failed.
	Status  string    `json:"status"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// VRs counts virtual routers, FailedVRs those that could not be started.
	VRs       int `json:"vrs"`
	FailedVRs int `json:"failed_vrs"`
	// Licences are those of the whole process.
	Licences Licences `json:"licences"`
}

// Filter selects subscribers; what is empty selects all.
type Filter struct {
	ID      string     `json:"id,omitempty"`
	User    string     `json:"user,omitempty"`
	Address netip.Addr `json:"address,omitzero"`
	// VR matches the transport or the terminating virtual router.
	VR string `json:"vr,omitempty"`
	// Profile matches the tunnel profile of dynamic subscribers.
	Profile string `json:"profile,omitempty"`
	// Domain matches the domain of the user's name, or the entry of the domain map that holds for
	// it, in upper or lower case.
	Domain string `json:"domain,omitempty"`
}

// Empty says whether the filter selects everybody.
func (f Filter) Empty() bool { return f == Filter{} }

// Match says whether the filter selects s.
func (f Filter) Match(s *Subscriber) bool {
	return (f.ID == "" || f.ID == s.ID) &&
		(f.User == "" || f.User == s.User) &&
		(!f.Address.IsValid() || f.Address == s.Address) &&
		(f.VR == "" || f.VR == s.VR || f.VR == s.TerminatingVR) &&
		(f.Profile == "" || f.Profile == s.Profile) &&
		(f.Domain == "" || strings.EqualFold(f.Domain, s.Domain) || strings.EqualFold(f.Domain, s.DomainMap))
}

// DisconnectRequest asks for the end of subscribers (J9 event 2).
type DisconnectRequest struct {
	Filter Filter `json:"filter"`
	// All must be set to mean an empty filter, so that a lost argument does not
	// end everybody.
	All bool `json:"all,omitempty"`
	// DryRun only says who it would be.
	DryRun bool `json:"dry_run,omitempty"`
}

// DisconnectResponse lists who was selected. Their sessions are ending; the
// end itself comes with their summary line.
type DisconnectResponse struct {
	Subscribers []Subscriber `json:"subscribers"`
	DryRun      bool         `json:"dry_run,omitempty"`
}

// Error is the answer to a request that failed.
type Error struct {
	// Status is the HTTP status.
	Status int `json:"-"`
	// Reason is one of the Reason constants.
	Reason Reason `json:"reason"`
	// Text is a sentence.
	Text string `json:"text"`
	// Mistakes of a configuration, each with its place.
	Mistakes []string `json:"mistakes,omitempty"`
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Text }

// Reason is why a request failed.
type Reason string

// The reasons.
const (
	ReasonBadRequest   Reason = "bad-request"
	ReasonForbidden    Reason = "forbidden"
	ReasonNotFound     Reason = "not-found"
	ReasonUnavailable  Reason = "unavailable"
	ReasonNotRunning   Reason = "not-running"
	ReasonNoPermission Reason = "no-permission"
	// ReasonBadConfiguration: a reload was asked for, and there are mistakes.
	ReasonBadConfiguration Reason = "bad-configuration"
)
