package subscriber

import (
	"net/netip"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
)

// TunnelProfile is what subscribers of a tunnel profile get (J14 b).
type TunnelProfile struct {
	Name string
	// IPProfile names the IP profile of their interface and addresses.
	IPProfile string
	// MaxSubscribers: new ones are rejected with a warning at that number; 0: no limit.
	MaxSubscribers int
	// DomainSuffix is appended to the user name, for the domain map.
	DomainSuffix string
	// XAuth is false where phase 1 alone authenticates; the user is then the peer's identity.
	XAuth bool
	// Attempts is how often a user may answer XAuth wrongly; default 3.
	Attempts int
	// Networks are pushed as reachable (split tunnel); none: everything.
	Networks     []netip.Prefix
	Banner       string
	Domain       string
	SplitDNS     []string
	SavePassword bool
	PFS          bool
	// AddressExpiry is told to the client; 0: nothing.
	AddressExpiry time.Duration
	// MTU of the subscriber's route, 160 to 9000 bytes; 0: 1440.
	MTU int
	// Revision stands for everything that a running subscriber has of the profile and of its IP profile and could not be
	// given anew. When it changes the profile's subscribers end (G4).
	Revision string
}

// DynamicUp reports that phase 1 of a dynamic subscriber is up (J4). Rekey: of one that is
// known and has to authenticate again.
type DynamicUp struct {
	Conn          uint32
	Local, Remote netip.AddrPort
	Profile       string // tunnel profile
	PeerID        string
	Peer          string // implementation
	Rekey         bool
}

// UserAnswered answers AskUser.
type UserAnswered struct {
	Conn               uint32
	Refused            bool // cancelled, or the peer cannot answer
	User, Domain       string
	Password, Passcode keymat.Secret
	NextPIN, Answer    keymat.Secret
	// RADIUS-CHAP.
	CHAPID              uint8
	Challenge, Response []byte
}

// AccessOpened answers OpenAccess.
type AccessOpened struct {
	ID        ID
	Interface string
	// Reason and Text are set when it failed; everything of the attempt is undone.
	Reason Reason
	Text   string
}

// AccessClosed answers CloseAccess.
type AccessClosed struct {
	ID       ID
	Counters Counters
}

// CountersRead answers ReadCounters. Gone: the session has no kernel objects.
type CountersRead struct {
	ID       ID
	Counters Counters
	Gone     bool
}

func (DynamicUp) subscriberEvent()    {}
func (UserAnswered) subscriberEvent() {}
func (AccessOpened) subscriberEvent() {}
func (AccessClosed) subscriberEvent() {}
func (CountersRead) subscriberEvent() {}

// AskUser has a dynamic subscriber asked for name and password. Answer: UserAnswered.
type AskUser struct {
	Conn                      uint32
	Message                   string
	Passcode, NextPIN, Answer bool
}

// OpenAccess makes what the kernel needs for a dynamic subscriber before its first ESP SA:
// policies for its address and its route over the XFRM interface of the terminating virtual
// router (J6). Answer: AccessOpened.
type OpenAccess struct {
	ID            ID
	Conn          uint32
	Local, Remote netip.AddrPort // outer
	Terminating   string
	Address       netip.Addr
	Gateway       netip.Addr
	MTU           int
	Traffic       aaa.Traffic
	// Routes are the networks behind the subscriber, which its SAs may name too.
	Routes []aaa.Route
	Link   LinkPolicy
}

// Admit tells the peer that it is in, and its configuration (J7, J8).
type Admit struct {
	Conn         uint32
	Address      netip.Addr
	Netmask      netip.Addr
	DNS, NBNS    []netip.Addr
	Expiry       time.Duration
	Networks     []netip.Prefix
	Banner       string
	Domain       string
	SplitDNS     []string
	SavePassword bool
	PFS          bool
	// Behind are the networks behind the peer that its phase 2 may name besides the address.
	Behind []netip.Prefix
}

// Deny refuses a dynamic subscriber; its phase 1 SA is deleted.
type Deny struct {
	Conn   uint32
	Reason Reason
	Text   string
}

// CloseAccess removes what OpenAccess has made. Answer: AccessClosed.
type CloseAccess struct {
	ID   ID
	Conn uint32
}

// ReadCounters asks for the traffic of a session that is up, for its idle timeout or an interim
// record. Answer: CountersRead.
type ReadCounters struct{ ID ID }

func (AskUser) subscriberEffect()      {}
func (OpenAccess) subscriberEffect()   {}
func (Admit) subscriberEffect()        {}
func (Deny) subscriberEffect()         {}
func (CloseAccess) subscriberEffect()  {}
func (ReadCounters) subscriberEffect() {}

// Reasons of dynamic subscribers' ends.
const (
	ReasonMaxSubscribers Reason = "max-subscribers"
	ReasonUserRefused    Reason = "user-refused"
	// AAA was not asked: see maxUserGuesses and maxSourceGuesses. L2TP subscribers have it too.
	ReasonGuessing       Reason = "too-many-wrong-answers"
	ReasonSessionTimeout Reason = "session-timeout"
	ReasonIdleTimeout    Reason = "idle-timeout"
	// AAA wanted to ask more often than maxRounds allows, or somebody who is not asked.
	ReasonDialogue        Reason = "xauth-dialogue"
	ReasonNoPhase2        Reason = "no-ipsec-sa" // let in, but no quick mode within connTimeout
	ReasonNoTunnelProfile Reason = "no-tunnel-profile"
	// Counts, and the end of a connection that nobody announced.
	ReasonUnannounced Reason = "dynamic-connection-unannounced"
	CountAskedAgain   Reason = "xauth-asked-again"
	CountUnasked      Reason = "unasked-answer"
)
