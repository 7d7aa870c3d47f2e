package ike

import (
	"net/netip"
	"time"

	"vrgate/controlplane/keymat"
)

// Dynamic subscribers (J1..J19) and certificates: what the engine is told, asks and
// reports about them beside what L2TP connections have.
//
// A subscriber's life, seen from here:
//
//	phase 1 up, mapped to a tunnel profile (J15)   DynamicUp      →
//	                                               AskUser        ←
//	XAuth REQUEST, REPLY                           UserAnswered   →
//	                                               Admit or Deny  ←   interface, route and policies exist (J8)
//	XAuth STATUS, mode config, quick mode          ConnUp         →
//	                                               ConnDown       →   always, once DynamicUp was emitted
//
// A phase 1 rekey of a known subscriber changes nothing of this: the engine sends a bare
// STATUS=OK by itself, unless the profile asks for reauthentication and the client is none
// of Apple's, when DynamicUp comes again with Rekey set.

// TunnelProfile says which dynamic subscribers belong to a VPN (J14) and what their phase 2
// may be. They are matched in order, after phase 1 is up (J15).
type TunnelProfile struct {
	Name  string
	Local netip.Addr // server address; zero: any
	// LocalID is our identity in phase 1, in the syntax of [PresharedKey].ID; "": the
	// address with a pre-shared key, the certificate's subject with a certificate.
	LocalID string
	// Credential names our certificate for RSA signatures and hybrid authentication.
	Credential string
	// PeerIDs are the accepted peer identities, in the syntax of [PresharedKey].ID with "*"
	// for any text within a part ("*@example.net", "dn:CN=*,O=Example"). Empty: any.
	PeerIDs []string
	XAuth   XAuthType
	// Reauthenticate asks the user again at each phase 1 rekey; Apple's clients never.
	Reauthenticate bool
	// Push sends the configuration unasked (SET) after STATUS=OK; else the client asks.
	Push bool
	// ESP is what is acceptable, at most six; the first client proposal that matches wins.
	ESP      []ESPProposal
	PFS      keymat.Group  // 0: not demanded (K9: still accepted when the peer asks)
	Lifetime time.Duration // 0: 28800 s
	LifeKB   uint64        // 0: none
	// LocalNets and PeerNets are the phase 2 selectors acceptable on our side and the
	// peer's; empty: anything on ours, the assigned address on the peer's. One on the
	// peer's side must contain that address, and nothing but the address passes. Besides
	// there is what lies behind the peer, see [Lease].Behind.
	LocalNets, PeerNets []netip.Prefix
	// Revision stands for everything that a connection has of the profile; when it changes the
	// profile's connections end (G4).
	Revision string
}

// XAuthType is how XAuth asks (draft-beaulieu-ike-xauth-02 section 7).
type XAuthType uint16

// XAuth types that can be asked for. The last never occurs on the wire.
const (
	XAuthGeneric    XAuthType = 0
	XAuthRADIUSCHAP XAuthType = 1
	XAuthNone       XAuthType = 0xffff // phase 1 alone authenticates; the configuration follows at once
)

// Credential is a certificate of ours; its private key stays outside, see [Sign].
type Credential struct {
	Name  string
	Chain [][]byte // DER, leaf first, without the root
	// Subject is the DER name of the leaf, Issuers those of all issuers of the chain, which
	// certificate requests may name.
	Subject []byte
	Issuers [][]byte
}

// DPDTimers say when a peer that is not an L2TP client is probed (K10). The zero value
// switches probing off; answering is always on.
type DPDTimers struct {
	// Sent and Unanswered: probe when traffic was sent in the last Sent and none was received
	// for Unanswered. JunosE: 30 s and 60 s.
	Sent, Unanswered time.Duration
	// Silent: probe when nothing went in either direction for so long. JunosE: 150 s.
	Silent time.Duration
}

// AskUser has the peer asked for name and password by XAuth. Answer: UserAnswered.
type AskUser struct {
	Conn    ConnID
	Message string // shown to the user; "" none
	// Passcode, NextPIN and Answer ask for these instead of the password.
	Passcode, NextPIN, Answer bool
}

// Admit lets a subscriber in: its interface, route and policies exist (J8).
type Admit struct {
	Conn  ConnID
	Lease Lease
}

// Deny refuses a subscriber: STATUS=FAIL, and its phase 1 SA is deleted at once.
type Deny struct {
	Conn   ConnID
	Reason Reason
	Text   string
}

// Lease is what a subscriber is configured with (J7). Zero values are not sent.
type Lease struct {
	Address  netip.Addr
	Netmask  netip.Addr // default 255.255.255.255
	DNS      []netip.Addr
	NBNS     []netip.Addr
	Expiry   time.Duration
	Networks []netip.Prefix // reachable through the tunnel: subnets, and Unity split include
	// The rest is for peers that announced Unity.
	Banner       string
	Domain       string // default domain
	SplitDNS     []string
	SavePassword bool
	PFS          bool
	// Behind are networks behind the peer (Framed-Route) that its phase 2 may name besides Address:
	// each one or a part of it, for which the SA is then installed as it was named. Routers ask so,
	// Cisco's in network extension mode. The peer is not told of them. At most 32 count.
	Behind []netip.Prefix
}

// Signed answers Sign.
type Signed struct {
	Job       JobID
	Signature []byte
	Err       string
}

// PeerVerified answers VerifyPeer.
type PeerVerified struct {
	Job     JobID
	Subject string // of the certificate, in words
	Reason  Reason // empty: the certificate is good, belongs to the identity, and made the signature
	Text    string
}

// TrafficRead answers ReadTraffic with sums over the connection's SAs since it began.
type TrafficRead struct {
	Conn                  ConnID
	InPackets, OutPackets uint64
}

func (AskUser) ikeEvent()      {}
func (Admit) ikeEvent()        {}
func (Deny) ikeEvent()         {}
func (Signed) ikeEvent()       {}
func (PeerVerified) ikeEvent() {}
func (TrafficRead) ikeEvent()  {}

// Sign makes the RSA signature of RFC 2409 section 5.1 with a credential's key: PKCS #1
// v1.5 over the digest as it is, without the name of the hash. Answer: Signed.
type Sign struct {
	Job        JobID
	Credential string
	Digest     []byte
	// Unauthenticated jobs may be dropped under load (answer: Err "busy").
	Unauthenticated bool
}

// VerifyPeer checks a peer's certificate, that it belongs to the identity the peer claims,
// and that its key made the signature. Answer: PeerVerified.
type VerifyPeer struct {
	Job       JobID
	Certs     [][]byte // DER as received, the peer's first; at most MaxPeerCerts
	Signature []byte
	Digest    []byte
	ID        []byte // body of the identification payload
	// Unauthenticated jobs may be dropped under load (answer: Reason "busy").
	Unauthenticated bool
}

// MaxPeerCerts bounds the certificates taken from one peer.
const MaxPeerCerts = 8

// DynamicUp says that phase 1 of a dynamic subscriber is up and mapped to the tunnel
// profile Conn.Profile. Rekey: of one that is known, whose user is to be asked again.
type DynamicUp struct {
	Conn  ConnInfo
	Rekey bool
}

// UserAnswered is the peer's answer to AskUser.
type UserAnswered struct {
	Conn ConnID
	// Static names the static tunnel whose peer was asked, unasked for; "": a dynamic subscriber.
	Static string
	// Refused: the user cancelled or the peer cannot answer; Answer is empty.
	Refused bool
	Answer  UserAnswer
}

// UserAnswer is what XAuth brought.
type UserAnswer struct {
	User     string
	Domain   string
	Password keymat.Secret // a trailing NUL is stripped (Android)
	Passcode keymat.Secret
	NextPIN  keymat.Secret
	Answer   keymat.Secret
	// RADIUS-CHAP: identifier, our challenge and the 16-byte response.
	CHAPID    uint8
	Challenge []byte
	Response  []byte
}

// Configured brings an initiator the configuration it was given by XAuth's server.
type Configured struct {
	Conn  ConnID
	Lease Lease
}

// ReadTraffic asks how much traffic a connection had, to decide about a probe (K10).
// Answer: TrafficRead.
type ReadTraffic struct{ Conn ConnID }

func (Sign) ikeEffect()         {}
func (VerifyPeer) ikeEffect()   {}
func (DynamicUp) ikeEffect()    {}
func (UserAnswered) ikeEffect() {}
func (Configured) ikeEffect()   {}
func (ReadTraffic) ikeEffect()  {}
