package subscriber

import (
	"net/netip"

	"vrgate/controlplane/aaa"
)

// AccountStart asks for the durable start of a session's accounting, once in its life. Nothing of
// an L2TP session's traffic flows before the answer, so that no crash can hide a session that
// somebody used; what a dynamic subscriber sends between its first IPsec SA, which is what shows
// that it has come, and the answer is in its counters. Answer: AccountStarted, exactly one. Ended
// closes what it has opened (Record.Accounted), also of a session that never got as far as Started.
type AccountStart struct{ Record Record }

// AccountStarted answers AccountStart.
type AccountStarted struct {
	ID ID
	// Reason and Text are set when the session must not be without accounting; where it may
	// (the default), a failure is the journal's to report.
	Reason Reason
	Text   string
}

// AccountInterim reports the traffic of a session that is up, freshly read; see Grants.Interim.
type AccountInterim struct{ Record Record }

// Change alters a session that is up (CoA), all of it or nothing. Changes of one session are done
// in their order. Answer: Changed, exactly one and before Ended, with the same Token.
type Change struct {
	ID     ID
	Token  uint64
	Change aaa.Change
}

// Changed answers Change.
type Changed struct {
	ID    ID
	Token uint64
	// Reason and Text are set when nothing was changed.
	Reason Reason
	Text   string
}

// SetTraffic replaces rates and policies of a session that is up. Answer: TrafficSet, exactly one;
// the session may have ended meanwhile.
type SetTraffic struct {
	ID          ID
	Call        CallKey // of an L2TP subscriber
	Conn        uint32  // of a dynamic subscriber
	Terminating string
	Address     netip.Addr
	Interface   string
	Traffic     aaa.Traffic
}

// TrafficSet answers SetTraffic. On failure the old rates and policies hold.
type TrafficSet struct {
	ID     ID
	Reason Reason
	Text   string
}

func (AccountStarted) subscriberEvent() {}
func (Change) subscriberEvent()         {}
func (TrafficSet) subscriberEvent()     {}

func (AccountStart) subscriberEffect()   {}
func (AccountInterim) subscriberEffect() {}
func (Changed) subscriberEffect()        {}
func (SetTraffic) subscriberEffect()     {}

// Reasons that come from AAA during a session.
const (
	// ReasonRADIUS: a Disconnect-Request (RFC 5176).
	ReasonRADIUS Reason = "radius-disconnect"
	// ReasonReplaced: a newer session took its place (limits, replace-oldest).
	ReasonReplaced Reason = "replaced"
	// ReasonNoGateway: AAA moves the subscriber to a virtual router in which nothing says what
	// our address is.
	ReasonNoGateway Reason = "no-gateway"
	// ReasonChallenge: AAA wants to ask the user once more, which PPP cannot.
	ReasonChallenge Reason = "challenge-unusable"
	// ReasonRounds: AAA goes on with EAP for longer than maxEAPRounds.
	ReasonRounds Reason = "eap-without-end"
	// ReasonBadChange: a change holds what cannot be, ReasonBusy: too many wait for their turn.
	ReasonBadChange Reason = "bad-change"
	ReasonBusy      Reason = "too-many-changes"
	// ReasonNotUp: a change came for a session that is not up.
	ReasonNotUp Reason = "not-up"
	// ReasonNoAccounting: the session must have accounting and cannot.
	ReasonNoAccounting Reason = "accounting-failed"
	// ReasonRestarted: the daemon died, and the session with it. Only accounting knows it.
	ReasonRestarted Reason = "daemon-restarted"
)
