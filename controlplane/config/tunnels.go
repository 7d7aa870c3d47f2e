package config

import (
	"net/netip"
	"time"
)

// TunnelProfile says which dynamic IPsec subscribers belong to a VPN and what
// they get (J14).
type TunnelProfile struct {
	// Name is unique in the router, 1 to 64 bytes.
	Name string
	// LocalAddress is the server address on which it holds, the zero Addr for
	// any. With pre-shared keys and main mode a VPN needs an address of its own
	// (J18).
	LocalAddress netip.Addr
	// LocalIdentity is what we call ourselves, "" for the address or, with a
	// certificate, its subject. Syntax of [TunnelKey.Identity].
	LocalIdentity string
	// Certificate names our own certificate for RSA signatures and hybrid
	// authentication, empty for none.
	Certificate string
	// PeerIdentities are the accepted phase 1 identities, in the syntax of
	// [TunnelKey.Identity] with "*" for any text; empty for any.
	PeerIdentities []string
	// Keys are the profile's group keys (J19), at most [MaxTunnelKeys].
	Keys []TunnelKey
	// XAuth says how the user is asked; default XAuthGeneric.
	XAuth XAuth
	// Reauthenticate asks again at each phase 1 rekey; default false.
	Reauthenticate bool
	// Attempts is how often a user may answer wrongly, 1 to 10, default 3.
	Attempts int
	// Push sends the configuration unasked; default false: the client asks.
	Push bool
	// MaxSubscribers rejects further ones, 1 to 1000000; 0 for no limit.
	MaxSubscribers int
	// DomainSuffix is appended to the user name, "" for none.
	DomainSuffix string
	// IPProfile names the IP profile; always resolves with [Router.IPProfile].
	// Its terminating router may be in another namespace.
	IPProfile string
	// Networks are pushed as reachable through the tunnel, at most
	// [MaxTunnelNetworks]; none for everything.
	Networks []netip.Prefix
	// Phase2Local and Phase2Peer are the acceptable phase 2 identities; empty:
	// anything on our side, the assigned address on the peer's. What the peer names
	// must contain its address, which alone passes.
	Phase2Local, Phase2Peer []netip.Prefix
	// Lifetime and LifetimeKilobytes as in [TransportProfile].
	Lifetime          time.Duration
	LifetimeKilobytes uint32
	// PFS as in [TransportProfile].
	PFS Group
	// Transforms are the accepted ESP transforms, at most
	// [MaxTunnelTransforms]; empty for those of the proposal profile.
	Transforms []ESPTransform
	// MTU of the subscribers' routes, 160 to 9000 bytes, default 1440.
	MTU int
	// AddressExpiry is told to the client, 60 s to 31622400 s; 0 for none.
	AddressExpiry time.Duration
	// Banner, DefaultDomain, SplitDNS and SavePassword are told to clients that
	// know Cisco Unity.
	Banner        string
	DefaultDomain string
	SplitDNS      []string
	SavePassword  bool
}

// TunnelKey is a pre-shared key of a tunnel profile.
type TunnelKey struct {
	// Name is what logs call the key; unique in the profile.
	Name string
	// Identity is the identity the peer presents, which in aggressive mode
	// selects the key: an address, "@fqdn", "user@fqdn", "dn:CN=..." (RFC 4514),
	// or any other text for a KEY_ID (the group name), which "keyid:" may
	// precede. Empty for any.
	Identity string
	// Key is 1 to 256 bytes (D4r).
	Key Secret
}

// XAuth is how users of a tunnel profile are asked.
type XAuth uint8

// The ways to ask.
const (
	// XAuthGeneric asks for name and password.
	XAuthGeneric XAuth = iota + 1
	// XAuthCHAP sends a challenge (RADIUS-CHAP).
	XAuthCHAP
	// XAuthNone does not ask: phase 1 alone authenticates.
	XAuthNone
)

// DPD says when dynamic subscribers are probed (K10).
type DPD struct {
	// Enabled is false by default.
	Enabled bool
	// Sent and Unanswered: probe when traffic was sent in the last Sent and
	// none came for Unanswered; 5 s to 3600 s, default 30 s and 60 s.
	Sent, Unanswered time.Duration
	// Silent: probe when nothing went either way for so long; 5 s to 86400 s,
	// default 150 s.
	Silent time.Duration
}

// Licences bound subscribers (J12); 0 for no limit.
type Licences struct {
	// Subscribers counts every subscriber, IPsecTunnels those with IPsec; up to
	// 1000000.
	Subscribers, IPsecTunnels int
}

// Certificates are a router's own certificates and those it trusts.
type Certificates struct {
	// Authorities are files of PEM certificates that are trusted. All paths here
	// are of files that existed when the configuration was loaded; relative ones
	// have been joined to the configuration directory.
	Authorities []string
	// Own are the router's certificates by ascending name.
	Own        []OwnCertificate
	Revocation Revocation
	// ExpiryWarning is how long before its end a certificate of ours or of an
	// authority is warned of, up to 31622400 s; default 30 days.
	ExpiryWarning time.Duration
}

// OwnCertificate is a certificate of ours with its private key: PEM files, or
// one PKCS #12 file.
type OwnCertificate struct {
	Name string
	// Certificate holds the certificate and, after it, its chain; Key the
	// private key.
	Certificate, Key string
	// PKCS12 holds both, encrypted with Password.
	PKCS12   string
	Password Secret
}

// Revocation says what is known of revoked certificates.
type Revocation struct {
	// Files and URLs are CRLs, PEM or DER. URLs are http only and are fetched
	// every Refresh, 60 s to 604800 s, default 1 h.
	Files   []string
	URLs    []string
	Refresh time.Duration
	// Strict refuses peers whose issuer has no CRL, or one that is past its
	// next update; default false: then a stale CRL still counts, with a
	// warning.
	Strict bool
}

// Limits on tunnel profiles.
const (
	// MaxTunnelProfiles is the number of tunnel profiles per router.
	MaxTunnelProfiles = 1000
	// MaxTunnelNetworks is the number of networks per tunnel profile.
	MaxTunnelNetworks = 64
	// MaxTunnelTransforms is the number of ESP transforms per tunnel profile.
	MaxTunnelTransforms = 6
	// MaxTunnelKeys is the number of pre-shared keys per tunnel profile. Of those
	// without identity there are at most [MaxGroupKeys] per server address.
	MaxTunnelKeys = 1000
	// MaxPeerIdentities is the number of accepted identities per tunnel profile.
	MaxPeerIdentities = 64
)
