package ike

import (
	"net/netip"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// ConnID names one connection: one peer with all its phase 1 and phase 2 SAs over all rekeys.
// 1..0xffffff. The shell derives the kernel mark (0x11000000|ConnID) and reqid (ConnID) from it, so both
// stay the same over rekeys (kernel.md section 2).
type ConnID uint32

// Config of one virtual router. Zero durations and counts mean the defaults named.
type Config struct {
	NATT       bool         // C1r, C2r: a change affects new phase 1 SAs only
	Rules      []PolicyRule // highest priority first (K2)
	Keys       []PresharedKey
	Transports []TransportProfile
	Tunnels    []TunnelProfile // in the order in which they are tried
	Statics    []StaticTunnel  // likewise
	// Credentials are our certificates, Authorities the DER names of the certificate
	// authorities whose peers we take.
	Credentials []Credential
	Authorities [][]byte
	// DPD decides when dynamic subscribers and static tunnels are probed.
	DPD DPDTimers
	// StaticDPD is that of static tunnels, also where subscribers are not probed; the zero value: DPD.
	StaticDPD DPDTimers
	// ConnFirst and ConnLast bound the numbers of connections; default 1 and 0xffffff. Engines that
	// share a network namespace share its marks and reqids and must have numbers of their own.
	ConnFirst, ConnLast ConnID
	Retransmit          Retransmit
	HalfOpen            HalfOpenLimits
	Fragmentation       bool          // IKEv1 fragmentation offered and accepted
	MaxFragment         int           // bytes of a fragment's datagram; default 1280
	RekeyMargin         int           // per cent of a lifetime after which we rekey when the peer has not; default 90, with jitter
	DPDInterval         time.Duration // see K10; 0: never probe (L2TP); answering is always on
	OldAndroidSHA256    bool          // 96-bit truncation of HMAC-SHA2-256 for racoon of Android 6/7 that is recognised
	InvalidCookie       bool          // K11: answer unknown cookies with INVALID-COOKIE, at a bounded rate; default off
}

// Retransmit of messages we have sent to authenticated peers or as initiator.
type Retransmit struct {
	First time.Duration // default 2 s, doubling
	Max   time.Duration // default 16 s
	Tries int           // default 5
}

// HalfOpenLimits bound unauthenticated state, with hysteresis: refused above Total until below Resume.
type HalfOpenLimits struct {
	Total     int           // default 16384
	Resume    int           // default 3/4 of Total
	PerSource int           // failed or pending per source address; default 512
	Timeout   time.Duration // default 30 s
}

// PolicyRule is one IKE policy rule (K2..K5).
type PolicyRule struct {
	Name       string
	Priority   int
	Local      netip.Addr   // zero: any
	Encryption []Encryption // any of
	Hash       []keymat.Hash
	Group      []keymat.Group
	Auth       AuthMethod
	Lifetime   time.Duration // offered and maximum accepted; default 28800 s
	Aggressive Aggressive
}

// Encryption is a phase 1 cipher with its key length; KeyBits 0 for DES and 3DES.
type Encryption struct {
	Cipher  keymat.Cipher
	KeyBits int
}

// String is the cipher with its key length, such as "AES-256".
func (x Encryption) String() string {
	return cipherWords(keymat.Suite{Cipher: x.Cipher, KeyBits: x.KeyBits})
}

// AuthMethod of phase 1.
type AuthMethod uint16

const (
	AuthPSK AuthMethod = 1
	AuthRSA AuthMethod = 3
	// XAuth and hybrid: the number that the initiator to be asked offers
	// (draft-beaulieu-ike-xauth-02, draft-ietf-ipsec-isakmp-hybrid-auth-05). In a policy
	// rule AuthPSK stands for AuthXAuthPSK too and AuthRSA for AuthXAuthRSA.
	AuthHybridRSA AuthMethod = 64221
	AuthXAuthPSK  AuthMethod = 65001
	AuthXAuthRSA  AuthMethod = 65005
	// AuthAny in a policy rule takes every method that there is a key or certificate for.
	AuthAny AuthMethod = 0
)

// String names the method.
func (m AuthMethod) String() string {
	switch m {
	case AuthAny:
		return "any"
	case AuthXAuthPSK:
		return "XAuth-PSK"
	case AuthXAuthRSA:
		return "XAuth-RSA"
	case AuthHybridRSA:
		return "hybrid-RSA"
	}
	return isakmp.AuthMethod(m).String()
}

// Aggressive mode stance (K5); the zero value forbids it.
type Aggressive uint8

// Stances of K5. Whoever initiates chooses the exchange (Initiate.Aggressive): as
// responder a rule with AggressiveAccepted is the same as one with
// AggressiveRequested.
const (
	AggressiveNotAllowed Aggressive = iota
	AggressiveAccepted
	AggressiveRequested
	AggressiveRequired
)

// PresharedKey authenticates phase 1.
type PresharedKey struct {
	Name  string // named in logs, never the key
	Key   keymat.Secret
	Local netip.Addr   // zero: any local address
	Peer  netip.Prefix // zero: any peer address
	// ID is the peer identity the key is for: "192.0.2.1", "@fqdn", "user@fqdn",
	// "dn:CN=x,O=y" (RFC 4514), or else a key id, which "keyid:" may precede; "" or "*":
	// any, "*" within a part: any text. See CheckID.
	ID    string
	Group bool // D1r/D2r: only L2TP selectors may be negotiated with it
	// Tunnel names the tunnel profile that the key belongs to: it serves dynamic subscribers
	// and nobody else (J19). "" with Group false: either kind.
	Tunnel string
	// Static names the static tunnel that the key belongs to, likewise and nobody else (J11); ID may be left out then and
	// is the tunnel's PeerID.
	Static string
	// LocalID is the identity we present with this key, in the syntax of ID;
	// "": the local address.
	LocalID string
	// From and Until bound the time in which the key is taken for new phase 1 SAs, for the rotation of keys; zero: no
	// bound. A connection outlives the key that it was made with.
	From, Until time.Time

	id     *idPattern    // see pattern
	static *StaticTunnel // of that name; nil: none, whose key serves nobody
}

// TransportProfile accepts transport-mode connections that carry L2TP.
type TransportProfile struct {
	Name   string
	Local  netip.Addr    // server address
	Remote netip.Addr    // zero or unspecified: any
	ESP    []ESPProposal // what is acceptable; first client proposal that matches wins
	// Credential names our certificate for RSA signatures; "": pre-shared keys only (D4r).
	Credential string
	PFS        keymat.Group  // 0: not demanded (K9: still accepted when the peer asks)
	Lifetime   time.Duration // 0: 3600 s
	LifeKB     uint64        // 0: none
	// NATPassthrough takes peers without NAT-T that are behind a NAT which lets plain ESP through, one behind each address
	// (B1r, B3r); see SA.SkipChecksum.
	NATPassthrough bool
	// Revision stands for everything that a connection has of the profile; when it changes the profile's connections
	// end (G4).
	Revision string
}

// ESPProposal is one acceptable transform.
type ESPProposal struct {
	Cipher  ESPCipher
	KeyBits int
	Auth    ESPAuth
}

// ESPCipher and ESPAuth are IANA numbers (RFC 2407 section 4.4.4, 4.5).
type (
	ESPCipher uint8
	ESPAuth   uint16
)

// ESP transform identifiers (RFC 2407 section 4.4.4, RFC 4106).
const (
	ESPDES    ESPCipher = 2
	ESP3DES   ESPCipher = 3
	ESPAESCBC ESPCipher = 12
	ESPAESGCM ESPCipher = 20 // 16-byte ICV
)

// Authentication algorithms of ESP (RFC 2407 section 4.5, RFC 4868).
const (
	ESPAuthNone   ESPAuth = 0 // with AES-GCM
	ESPAuthMD5    ESPAuth = 1
	ESPAuthSHA1   ESPAuth = 2
	ESPAuthSHA256 ESPAuth = 5
	ESPAuthSHA384 ESPAuth = 6
	ESPAuthSHA512 ESPAuth = 7
)

// Sizes returns the block size that ESP payloads are padded to and the length of the
// initialisation vector in the packet, in bytes.
func (c ESPCipher) Sizes() (block, iv int) {
	switch c {
	case ESPAESCBC:
		return 16, 16
	case ESPDES, ESP3DES:
		return 8, 8
	}
	return 4, 8
}

// Event is what happens to the engine.
type Event interface{ ikeEvent() }

// Packet is one received datagram. Marker: it came to the NAT-T port with the non-ESP marker, which is stripped.
type Packet struct {
	Local, Remote netip.AddrPort
	Marker        bool
	Data          []byte // only read during Step
}

// Timer says that Deadline may have passed.
type Timer struct{}

// DHDone answers ComputeDH.
type DHDone struct {
	Job    JobID
	Pair   keymat.KeyPair // the pair generated or given
	Shared keymat.Secret  // empty when no peer value was given
	Err    string
}

// SAInstalled answers InstallSA.
type SAInstalled struct {
	Conn ConnID
	SPI  uint32
	Dir  Direction
	Err  string // typed reason of the data plane, empty on success
}

// SAExpired is the kernel's soft or hard expiry.
type SAExpired struct {
	SPI  uint32
	Dir  Direction
	Hard bool
}

// PeerMoved says that authenticated ESP came from another address or port (kernel mapping event).
type PeerMoved struct {
	SPI    uint32 // inbound SPI
	Remote netip.AddrPort
}

// PeerAlive says that authenticated ESP of the peer has been received lately: it
// puts off dead peer detection (K10).
type PeerAlive struct{ Conn ConnID }

// Initiate opens a connection as initiator. Ref is echoed in ConnUp/ConnDown.
type Initiate struct {
	Ref uint64
	// Static names the static tunnel to dial. Remote is the peer's address then and Local ours if the tunnel names none,
	// port 0 is 500, and the rest is the tunnel's. Ref is not 0 and never used twice.
	//
	// Each such Ref ends in exactly one ConnDown:
	//
	//	ConnDown, Conn.ID 0                  it has not come up: refused at once, failed, or ended by HangUp
	//	ConnUp, ConnDown with its Conn.ID    it has come up, and its connection is over
	//	[ConnUp,] ConnDown, Conn.ID 0 and    another dial of the tunnel at the same address has taken its place, and
	//	  ReasonReplaced                     its connection, which goes on if there is one
	//
	// Where the tunnel is up with that address already, by whichever side, or comes up by a call of the peer's while it is
	// dialled, it is one connection: ConnUp comes again, with the same Conn.ID and this Ref, what is missing of its pairs of
	// networks is opened, and the Ref that it had before, if any, ends by ReasonReplaced just before. The same holds for a
	// dial of what is being dialled, of which there is no ConnUp yet. A connection that the peer has opened has Ref 0. A Ref
	// whose dial has made no connection yet is in no snapshot: it is forgotten with a restart, and nothing comes of it.
	Static        string
	Local, Remote netip.AddrPort // ports 500
	Profile       string         // TransportProfile name
	Key           string         // PresharedKey name
	LocalID       string         // "" = address
	// Selectors of the transport-mode child: UDP ports, 0 any.
	LocalPort, RemotePort uint16

	// The rest is for others than L2TP clients.
	Aggressive bool
	Method     AuthMethod // 0: AuthPSK
	Credential string     // our certificate, for AuthRSA and AuthXAuthRSA
	PeerID     string     // identity a peer with a certificate must have, in the syntax of [PresharedKey].ID; "": any
	// User and Password answer XAuth. Request are the mode config attributes to ask for.
	User     string
	Password keymat.Secret
	Request  []uint16
	// Tunnel mode, with the networks of the child; RemoteNet invalid: any, LocalNet
	// invalid: the address that mode config brings.
	Tunnel              bool
	LocalNet, RemoteNet netip.Prefix
}

// CloseConn ends a connection: deletes are sent for all its SAs.
type CloseConn struct {
	Conn   ConnID
	Reason Reason
	Text   string // for the operator
}

// CloseAll ends every connection (process stop).
type CloseAll struct{ Reason Reason }

// Rekey forces a rekey now (tests, operator). Phase 1 when Phase1 is set, else the newest child.
type Rekey struct {
	Conn   ConnID
	Phase1 bool
}

// Reconfigure replaces the configuration for what is negotiated from now on. Connections whose profile is gone or has another
// Revision end; a change of NATT (C2r), rules or keys touches none. Connections keep their numbers, also where ConnFirst and
// ConnLast leave them outside.
type Reconfigure struct{ Config Config }

func (Packet) ikeEvent()      {}
func (Timer) ikeEvent()       {}
func (DHDone) ikeEvent()      {}
func (SAInstalled) ikeEvent() {}
func (SAExpired) ikeEvent()   {}
func (PeerMoved) ikeEvent()   {}
func (PeerAlive) ikeEvent()   {}
func (Initiate) ikeEvent()    {}
func (CloseConn) ikeEvent()   {}
func (CloseAll) ikeEvent()    {}
func (Rekey) ikeEvent()       {}
func (Reconfigure) ikeEvent() {}

// Effect is what the engine wants done.
type Effect interface{ ikeEffect() }

// Send transmits one datagram; Marker: from the NAT-T port with a non-ESP marker to be prepended.
type Send struct {
	Local, Remote netip.AddrPort
	Marker        bool
	Data          []byte
}

// JobID names one Diffie-Hellman job.
type JobID uint64

// ComputeDH generates a key pair when Pair is empty, and computes the shared secret when Peer is given.
type ComputeDH struct {
	Job   JobID
	Group keymat.Group
	Pair  *keymat.KeyPair
	Peer  []byte
	// Unauthenticated jobs may be dropped under load (answer: DHDone with Err "busy").
	Unauthenticated bool
}

// Direction of an SA as seen from here.
type Direction uint8

const (
	Inbound Direction = iota
	Outbound
)

// SA is one unidirectional ESP SA for the kernel.
type SA struct {
	Conn               ConnID
	Dir                Direction
	SPI                uint32
	Local, Remote      netip.AddrPort // outer; ports matter when Encap
	Encap              bool           // ESP in UDP
	Tunnel             bool           // tunnel mode; transport otherwise
	Cipher             ESPCipher
	Auth               ESPAuth
	AuthBits           int           // truncation length of the ICV, e.g. 96, 128; 0 for AEAD
	EncKey             keymat.Secret // AES-GCM: key and 4-byte salt
	AuthKey            keymat.Secret
	SoftLife, HardLife time.Duration // from now; 0 none
	SoftKB, HardKB     uint64        // 0 none
	// Traffic selector negotiated: protocol 17, for static tunnels theirs with 0 for any; ports with 0 for any.
	Protocol              uint8
	LocalPort, RemotePort uint16
	// Tunnel mode: the networks negotiated. Transport mode of static tunnels: both hosts, as they are called between
	// the two, which behind a NAT is not Local and Remote.
	LocalNet, RemoteNet netip.Prefix
	// Static and Child name the static tunnel and its pair of networks, "" for others.
	Static, Child string
	// SkipChecksum: a NAT may have changed the addresses that the UDP checksum of what comes out of the SA covers, so that
	// it must not be checked (B2r). ESP has authenticated it.
	SkipChecksum bool
}

// InstallSA adds an SA. Answer: SAInstalled. Inbound is asked for before our answer that lets the peer send;
// outbound when the peer is known to be ready to receive.
type InstallSA struct{ SA SA }

// RemoveSA deletes an SA that was installed (or whose install is pending).
type RemoveSA struct {
	Conn          ConnID
	Dir           Direction
	SPI           uint32
	Local, Remote netip.Addr
}

// MoveConn says that the peer's outer address or port changed: the listed SAs must follow.
type MoveConn struct {
	Conn     ConnID
	Old, New netip.AddrPort
	SAs      []SA // as they must be now, keys included
}

// ConnUp: the first child of a connection is installed in both directions. It comes again, with another Ref, when a
// static tunnel is dialled that is up.
type ConnUp struct{ Conn ConnInfo }

// ConnDown: the connection is over; RemoveSA for all SAs came before. Also emitted, with an
// all-zero Conn.ID, when an Initiate fails or, of a static tunnel, is over while no connection is; see Initiate.
type ConnDown struct {
	Conn   ConnInfo
	Reason Reason
	Text   string
	ByPeer bool
}

// Report is something an operator or a counter wants to know. Unauthenticated peers never cause more than LevelDebug,
// except LevelInfo sentences of failed authentication that are limited per source by the engine.
type Report struct {
	Level         Level
	Reason        Reason
	Text          string
	Local, Remote netip.AddrPort
	Conn          ConnID
}

// Level of a Report.
type Level uint8

const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
)

func (Send) ikeEffect()      {}
func (ComputeDH) ikeEffect() {}
func (InstallSA) ikeEffect() {}
func (RemoveSA) ikeEffect()  {}
func (MoveConn) ikeEffect()  {}
func (ConnUp) ikeEffect()    {}
func (ConnDown) ikeEffect()  {}
func (Report) ikeEffect()    {}

// ConnInfo describes a connection.
type ConnInfo struct {
	ID                ConnID
	Ref               uint64
	Local, Remote     netip.AddrPort // current outer addresses and ports
	PeerID            string
	LocalID           string // what we have called ourselves in its newest phase 1 SA
	NATPeer, NATLocal bool   // a NAT was detected in front of the peer / of us
	NATPassthrough    bool   // plain ESP, through a NAT that nobody could look for (B1r)
	Encap             bool
	Profile           string // transport or tunnel profile, or static tunnel
	Static            string // name of the static tunnel, "" for others
	Dynamic           bool   // a dynamic subscriber; Profile is a tunnel profile
	Auth              AuthMethod
	Aggressive        bool
	Unity             bool       // the peer announced Cisco Unity
	Address           netip.Addr // inner address of a dynamic subscriber, once admitted
	Subject           string     // of the peer's certificate, in words
	Key               string     // name of the pre-shared key that matched
	Peer              string     // implementation recognised by vendor IDs, e.g. "Windows 10", "strongSwan"
	DPD               bool       // the peer answers probes (RFC 3706)
	User              string     // of XAuth, either side's, where it is a static tunnel's; "" for others
	Rule              string     // IKE policy rule of its newest phase 1 SA
	Proposal          string     // phase 1 transform in words
	ESP               string     // newest child's transform in words
	// Rekeys and Phase1Rekeys are how often a pair of ESP SAs and the phase 1 SA have been replaced by newer ones.
	Rekeys, Phase1Rekeys uint64
	Since                time.Time
}

// Reason is the typed reason of an end, a refusal or a drop; stable text.
type Reason string
