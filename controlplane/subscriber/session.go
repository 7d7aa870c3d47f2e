package subscriber

import (
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/deadline"
	"vrgate/pppd"
)

// session is one subscriber, from the moment something can carry it until all that grew of it
// has gone. A PPP session is carried by an L2TP session and negotiated by its link; a dynamic
// subscriber is carried by its IKE connection and has a dynamic instead of a link.
type session struct {
	Record
	profile     IPProfile
	login       string // the name that the peer presented; User is AAA's for it
	carrierGone bool   // nothing can be sent to the peer any more
	over        bool   // nothing is negotiated any more: it only waits for what settle wants
	kernel      kernelState
	asked       bool    // a Decide is without its Decided
	guesser     guesser // as whom it asked
	leased      bool
	started     bool
	granted     aaa.Grants // of the first accept, completed from the profiles
	accounting  accountState
	changes     []Change // that wait for their turn
	changing    bool     // the first of them has a SetTraffic without its TrafficSet
	timeouts    timeouts
	timer       timer

	// PPP in L2TP.
	link        *pppd.Link
	linkMRU     uint16 // that the link was made with
	sequencing  bool
	said        said      // what the LAC has said about the call beside what is in the Record
	network     bool      // IPCP is open
	active      bool      // traffic is allowed in the kernel
	activations int       // Activates without their SessionActivated
	begin       time.Time // when we begin with PPP if the peer does not
	verdict     verdict
	eap         eapDialogue

	far *handover // nil: PPP ends here

	dyn *dynamic // nil: PPP in L2TP
}

// said is what a LAC says about a call, and the next LNS is told. Its fields are those of the snapshot.
type said struct {
	SubAddress, PrivateGroup string
	Carrier                  bool // the LAC carries many subscribers, see HostProfile
}

type kernelState uint8

const (
	kernelNone kernelState = iota
	kernelOpening
	kernelOpen
	kernelClosing
)

// add gives a new session its ID and its place.
func (e *Engine) add(s *session) {
	s.ID = e.nextID
	s.timer.session = s.ID
	e.nextID++
	e.byID[s.ID] = s
}

// deadline returns when the session wants to be woken; zero: never.
func (s *session) deadline() time.Time {
	next := s.begin
	if s.link != nil {
		next = s.link.Deadline()
	}
	next = deadline.Earliest(next, s.timeouts.Limit)
	next = deadline.Earliest(next, s.timeouts.Sample)
	next = deadline.Earliest(next, s.timeouts.Report)
	if s.dyn != nil {
		next = deadline.Earliest(next, s.dyn.ConnBy)
	}
	if s.far != nil {
		next = deadline.Earliest(next, s.far.DialBy)
	}
	return next
}

// due says whether a deadline has come; zero never does.
func due(now, deadline time.Time) bool { return !deadline.IsZero() && !now.Before(deadline) }

func (e *Engine) arm(s *session) { e.timers.arm(&s.timer, s.deadline()) }

// sessionExpired does one of the things that are due and arms the timer for the rest. Nothing
// may be due: a deadline that moves to a later time leaves its timer behind.
func (e *Engine) sessionExpired(now time.Time, s *session) {
	switch {
	case due(now, s.timeouts.Limit):
		e.sessionTimeout(now, s)
	case due(now, s.timeouts.Sample):
		e.sampleTraffic(now, s)
	case due(now, s.timeouts.Report):
		e.reportTraffic(now, s)
	case s.dyn != nil && due(now, s.dyn.ConnBy):
		e.end(now, s, ReasonNoPhase2, "the subscriber was let in but negotiated no IPsec SA", false)
	case s.far != nil && due(now, s.far.DialBy):
		e.dialLate(s)
	case s.link == nil && due(now, s.begin):
		e.beginLink(now, s, nil)
	case s.link != nil && due(now, s.link.Deadline()):
		e.run(now, s, pppd.Timer{})
	}
	if !s.over {
		e.arm(s)
	}
}
