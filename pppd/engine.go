package pppd

import (
	"net/netip"
	"time"
)

// Config fixes how one link negotiates. It is a plain value; zero durations
// and counts mean the defaults named at each field.
type Config struct {
	// MRU is the largest information field we can receive, in bytes
	// (RFC 1661 section 6.1), 576..1500. Announced to the peer when it is not 1500.
	MRU uint16
	// Auth lists the protocols asked of the peer in order of preference: when the
	// peer refuses one (Configure-Nak or -Reject) the next is tried, and the link
	// ends with ReasonAuthRefused when none is left. Empty asks for none: then Authenticate
	// comes with AuthNone and no name, because the peer's address is AAA's to give.
	Auth []AuthProtocol
	// Name is sent in CHAP challenges.
	Name string
	// Restart, MaxConfigure, MaxTerminate and MaxFailure are the RFC 1661 section
	// 4.6 timers and counters; defaults 3 s, 10, 2, 5.
	Restart                                time.Duration
	MaxConfigure, MaxTerminate, MaxFailure int
	// AuthTimeout bounds the authentication phase, not counting the time that AAA
	// takes; default 30 s.
	AuthTimeout time.Duration
	// EchoInterval is the pause between LCP echo requests, 0 for none; after
	// EchoFailures (default 5) unanswered ones the link ends with ReasonKeepalive.
	EchoInterval time.Duration
	EchoFailures int
	// NetworkTimeout bounds the time from authentication to the first NCP open;
	// default 30 s.
	NetworkTimeout time.Duration
	// Dialer, when not nil, makes this end the calling side: it answers the peer's
	// authentication with these credentials and asks IPCP for an address.
	Dialer *Dialer
	// Proxy, when not nil, is what a LAC has negotiated with the peer already (RFC 2661 section 4.4.5): Open then
	// begins where that ends, if it is what this Config wants, and from the beginning otherwise.
	Proxy *Proxy
}

// Proxy is a LAC's negotiation with the peer. The byte slices are the options of Configure-Requests.
type Proxy struct {
	// LastSentLCP is what the LAC asked for and the peer acknowledged, LastReceivedLCP what the peer asked for and the LAC
	// acknowledged. Nil: LCP begins anew.
	LastSentLCP, LastReceivedLCP []byte
	// Auth is how the peer has answered the LAC; AuthNone: not at all, and it is asked again.
	Auth      AuthProtocol
	User      string
	ID        uint8
	Challenge []byte
	Response  Secret // the password with AuthPAP
}

// Dialer holds the calling side's credentials (LAC clients, test peers).
type Dialer struct {
	User     string
	Password Secret
	// EAP has the Dialer agree to EAP, of which it knows EAP-MD5 only; else it asks for MS-CHAPv2 instead.
	EAP bool
}

// AuthProtocol names an authentication protocol of RFC 1661 section 6.2.
type AuthProtocol uint8

const (
	AuthNone AuthProtocol = iota
	AuthPAP
	AuthCHAPMD5
	AuthMSCHAPv2
	AuthEAP // relayed to a server, asked of the peer only (RFC 3748 section 2.3: pass-through)
)

// Event is what happens to a link.
type Event interface{ pppEvent() }

// Open starts the link: the lower layer is up (RFC 1661 Open and Up at once).
type Open struct{}

// Frame is one received PPP frame without address and control field.
type Frame struct {
	Protocol uint16
	Data     []byte // information field; only read during Step
}

// Timer says that Deadline may have passed.
type Timer struct{}

// AuthDecision answers an Authenticate effect.
type AuthDecision struct {
	Accept bool
	// Message is shown to the peer (PAP message, CHAP success/failure text).
	Message string
	// MSCHAPv2Response is the "S=..." authenticator response of RFC 2759 when the
	// method was MS-CHAPv2 and the decision is an accept. A server's own " M=..."
	// behind it goes before Message.
	MSCHAPv2Response string
	// Network is what IPCP offers the peer when accepted.
	Network Network
	// Reason is the reason the link ends with when refused; default ReasonAuthFailed.
	Reason Reason
	// EAP is the packet for the peer where the method was AuthEAP: the server's Success or Failure;
	// empty: the link makes its own. With Continue the server goes on: EAP is its next Request,
	// and nothing is decided yet. A Request that cannot be passed on, and an accept with anything
	// but a Success, end the link with ReasonInternal.
	EAP      []byte
	Continue bool
	// Timeout is how long the peer may take for its answer to EAP before it is sent again, at most
	// 2 minutes; 0: Config.Restart. It prolongs the authentication phase where that is shorter.
	Timeout time.Duration
}

// Network is the address configuration of an accepted peer.
type Network struct {
	Local netip.Addr // our address
	Peer  netip.Addr // the peer's address
	DNS   [2]netip.Addr
	NBNS  [2]netip.Addr
}

// Close asks for an orderly end: Terminate-Request, then Down.
type Close struct{ Reason Reason }

// LowerDown says the lower layer has gone: no frame can be sent any more.
type LowerDown struct{ Reason Reason }

func (Open) pppEvent()         {}
func (Frame) pppEvent()        {}
func (Timer) pppEvent()        {}
func (AuthDecision) pppEvent() {}
func (Close) pppEvent()        {}
func (LowerDown) pppEvent()    {}

// Effect is what the link wants done.
type Effect interface{ pppEffect() }

// Send transmits one frame (the shell adds FF 03 where the medium wants it).
type Send struct {
	Protocol uint16
	Data     []byte
}

// Authenticate asks AAA about the peer. Exactly one AuthDecision must follow;
// authentication timers stand still until then.
type Authenticate struct{ Request AuthRequest }

// AuthRequest carries what the peer presented. Which fields are set follows Protocol.
type AuthRequest struct {
	Protocol AuthProtocol
	User     string // bounded, as received; may hold any byte
	Password Secret // PAP
	// Challenge and Response are CHAP's; for MS-CHAPv2 Challenge is the 16-byte
	// authenticator challenge and Response the 49-byte value of RFC 2759 section 4.
	ID        uint8
	Challenge []byte
	Response  []byte
	// PeerMRU is the largest packet that suits the peer, in bytes: its MRU, or Config.MRU where that is
	// smaller, because it fits the path below. An EAP server needs it (Framed-MTU, RFC 3579 section 2.4).
	PeerMRU uint16
	// EAP is the peer's whole packet (RFC 3748 section 4) where Protocol is AuthEAP, at most 1500
	// bytes. The first one of a link is its answer to our Request for its identity, and User what it
	// said there. A Secret, because some methods hold a password in clear (GTC, section 5.6).
	EAP Secret
}

// NetworkUp says that IPCP has opened: data may flow.
type NetworkUp struct {
	Local, Peer netip.Addr
	// MTU is the largest packet we may send: the smaller of the peer's MRU and Config.MRU.
	MTU uint16
	// DNS are the name servers that the peer gave a Dialer; the zero Addr where it gave none.
	DNS [2]netip.Addr
}

// NetworkDown says that IPCP has left the Opened state.
type NetworkDown struct{}

// Down ends the link; no effect follows it. Exactly one is emitted in a link's life.
type Down struct {
	Reason Reason
	Text   string          // a sentence for the operator
	ByPeer bool            // the peer asked for the end
	Cause  DisconnectCause // RFC 3145, for the CDN (F3)
}

func (Send) pppEffect()         {}
func (Authenticate) pppEffect() {}
func (NetworkUp) pppEffect()    {}
func (NetworkDown) pppEffect()  {}
func (Down) pppEffect()         {}

// Reason says why a link ended; stable text used in log, API, metrics and accounting.
type Reason string

const (
	ReasonUserRequest Reason = "ppp-user-request" // peer terminated
	ReasonAdmin       Reason = "admin-reset"      // we were told to
	ReasonLCPTimeout  Reason = "ppp-lcp-timeout"  // peer silent
	ReasonLCPDiverged Reason = "ppp-lcp-not-converging"
	ReasonLoop        Reason = "ppp-loopback"  // own magic number seen
	ReasonKeepalive   Reason = "ppp-keepalive" // echo requests unanswered
	ReasonAuthTimeout Reason = "ppp-auth-timeout"
	ReasonAuthRefused Reason = "ppp-auth-refused" // peer refuses every protocol
	ReasonAuthFailed  Reason = "ppp-auth-failed"
	ReasonEncryption  Reason = "ppp-encryption-refused" // F1: peer insists on ECP/CCP
	ReasonNetwork     Reason = "ppp-ncp-failed"         // no NCP came up
	ReasonLowerDown   Reason = "lower-layer-down"
	ReasonInternal    Reason = "internal-error" // no randomness, or an impossible answer of AAA
)
