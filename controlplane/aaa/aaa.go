// Package aaa decides who a subscriber is and what it gets. Requests and
// decisions are plain values: an engine emits a Request as an effect, a worker
// asks a Method, and the Decision comes back as an event.
//
// Local users are the embedded default; no server is needed.
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
	State    []byte // of the Prompt that this answers
}

// Decision is the answer. The zero value refuses.
type Decision struct {
	Accept bool
	Reason Reason // of a refusal
	Text   string // a sentence for the operator; never shown to the peer
	// MSCHAPv2Response is the "S=..." string for the peer (RFC 2759 section 5).
	MSCHAPv2Response string
	User             string     // canonical name
	Address          netip.Addr // fixed address; zero: from the pool
	Terminating      string     // terminating virtual router; empty: the IP profile's
	SessionTimeout   time.Duration
	IdleTimeout      time.Duration
	// Prompt asks the user once more instead of deciding: Accept is false and Reason empty.
	Prompt *Prompt
}

// Prompt is a further question in a dialogue of several rounds (RADIUS Access-Challenge).
type Prompt struct {
	Message                   string
	Passcode, NextPIN, Answer bool // what to ask for; none: the password
	State                     []byte
}

// Reason is the typed reason of a refusal, the same in log, API, metrics and accounting.
type Reason string

// Reasons of refusal. ReasonPoolEmpty and ReasonAddressInUse come from whoever leases the
// address after the user was accepted.
const (
	ReasonUnknownUser   Reason = "aaa-unknown-user"
	ReasonWrongPassword Reason = "aaa-wrong-password"
	ReasonProtocol      Reason = "aaa-protocol-unusable"
	ReasonTimeout       Reason = "aaa-timeout"
	ReasonPoolEmpty     Reason = "pool-empty"
	ReasonAddressInUse  Reason = "duplicate-address"
	ReasonNoPool        Reason = "no-address-for-user"
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
