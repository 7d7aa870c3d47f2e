package l2tp

import "fmt"

// Result codes of StopCCN, RFC 2661 section 4.4.2.
const (
	StopClear           uint16 = 1 // general request to clear the control connection
	StopError           uint16 = 2 // general error, see the error code
	StopExists          uint16 = 3 // control channel already exists
	StopNotAuthorized   uint16 = 4
	StopProtocolVersion uint16 = 5 // error code: highest version supported
	StopShutdown        uint16 = 6
	StopStateMachine    uint16 = 7
)

// Result codes of CDN, RFC 2661 section 4.4.2.
const (
	CallLostCarrier     uint16 = 1
	CallError           uint16 = 2 // general error, see the error code
	CallAdministrative  uint16 = 3
	CallNoFacilities    uint16 = 4 // temporarily
	CallNeverFacilities uint16 = 5 // permanently
	CallTimedOut        uint16 = 10
)

// General error codes, RFC 2661 section 4.4.2.
const (
	ErrorNone         uint16 = 0
	ErrorNoConnection uint16 = 1
	ErrorLength       uint16 = 2
	ErrorRange        uint16 = 3
	ErrorResources    uint16 = 4
	ErrorSession      uint16 = 5 // session id invalid in this context
	ErrorVendor       uint16 = 6 // anything else, see the message
	ErrorTryAnother   uint16 = 7
	ErrorUnknownAVP   uint16 = 8 // unknown AVP with the M bit
)

// Reasons for the end of a tunnel or session.
const (
	ReasonPeerStop       Reason = "peer-closed-tunnel"    // StopCCN received
	ReasonPeerCall       Reason = "peer-closed-session"   // CDN received
	ReasonNoAnswer       Reason = "peer-silent"           // retransmissions exhausted
	ReasonSetupTimeout   Reason = "setup-timeout"         // Config.SetupTimeout
	ReasonIdle           Reason = "idle-timeout"          // Config.IdleTimeout
	ReasonConnLost       Reason = "ipsec-lost"            // K12
	ReasonAuthentication Reason = "tunnel-authentication" // challenge, response or secret missing or wrong
	ReasonMalformed      Reason = "malformed-message"
	ReasonUnknownAVP     Reason = "unknown-mandatory-avp"
	ReasonMissingAVP     Reason = "missing-avp"
	ReasonProtocol       Reason = "protocol-error" // a message that does not fit the state
	ReasonVersion        Reason = "protocol-version"
	ReasonSocket         Reason = "socket-failed"
	ReasonPeerRestart    Reason = "peer-restarted"
	ReasonTieBreaker     Reason = "tie-breaker-lost"
	ReasonProfileRemoved Reason = "profile-removed" // G4
	ReasonProfileChanged Reason = "profile-changed" // G4: HostProfile.Revision
	ReasonShutdown       Reason = "shutdown"
	ReasonAdministrative Reason = "administrative"
	ReasonCallOver       Reason = "call-over" // the one call of a dialled tunnel has ended
	ReasonQueue          Reason = "send-queue-full"
	ReasonHiddenAVP      Reason = "hidden-avp-without-password"
	ReasonPeerHost       Reason = "wrong-peer-host-name" // Dial.PeerHost
	ReasonCancelled      Reason = "cancelled"            // CancelDial
)

// Reasons for a packet or request that was dropped or refused; also the labels of [Engine.Counters].
const (
	ReasonBadHeader      Reason = "bad-header"
	ReasonTooLong        Reason = "control-message-too-long"
	ReasonUnknownTunnel  Reason = "unknown-tunnel"
	ReasonUnknownSession Reason = "unknown-session"
	ReasonNotSteered     Reason = "steering-missing" // a tunnel's packet at the 1701 listener: kernel rules lost
	ReasonForeignConn    Reason = "foreign-ipsec-connection"
	ReasonForeignAddress Reason = "foreign-address"
	ReasonNoProfile      Reason = "no-destination-profile"
	ReasonNoHostProfile  Reason = "no-host-profile"
	ReasonClearText      Reason = "ipsec-required" // G6
	ReasonHalfOpen       Reason = "half-open-limit"
	ReasonHalfOpenPeer   Reason = "half-open-limit-per-peer"
	ReasonTunnelLimit    Reason = "tunnel-limit"
	ReasonSessionLimit   Reason = "session-limit"
	ReasonProfileLimit   Reason = "profile-session-limit"
	ReasonHostLimit      Reason = "host-session-limit"
	ReasonNoIDs          Reason = "ids-exhausted"
	ReasonRandom         Reason = "random-source-failed"
	ReasonDuplicate      Reason = "duplicate"
	ReasonOutOfWindow    Reason = "out-of-window"
	ReasonBadAck         Reason = "acknowledges-unsent"
	ReasonBackPressure   Reason = "peer-does-not-acknowledge"
	ReasonRefusalRate    Reason = "refusal-rate-limit"
	ReasonEarlyFrame     Reason = "frame-before-session"
	ReasonBadFrame       Reason = "bad-ppp-frame"
	ReasonOutgoingCall   Reason = "outgoing-call-refused"
	ReasonDuplicateCall  Reason = "session-id-in-use"
	ReasonUnknownMessage Reason = "unknown-message-type"
	ReasonClearTextStop  Reason = "unauthenticated-stop"
	ReasonCallQueue      Reason = "too-many-calls-waiting" // Dials for one tunnel
	ReasonToleratedAVP   Reason = "unknown-mandatory-avp-tolerated"
	ReasonProxy          Reason = "proxy-contradictory"       // proxied LCP or authentication, ignored
	ReasonConnSpent      Reason = "connection-spent"          // H3, H5
	ReasonSingleShotUsed Reason = "single-shot-used"          // H1
	ReasonDrain          Reason = "administratively-draining" // A8
	ReasonDisabled       Reason = "administratively-disabled" // A8; also of an end
	ReasonDestinations   Reason = "destination-limit"
	ReasonOwnTunnel      Reason = "own-tunnel" // the LAC is this router itself
)

// wireError is a failure that knows its answer: the result and error code of the StopCCN or CDN that refuses.
type wireError struct {
	result, err uint16
	reason      Reason
	text        string
}

func (w *wireError) Error() string { return fmt.Sprintf("l2tp: %s: %s", w.reason, w.text) }
