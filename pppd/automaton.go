package pppd

import "fmt"

// State is a state of the option negotiation automaton, RFC 1661 section 4.2, with the RFC's numbers.
type State uint8

// The ten states.
const (
	Initial State = iota
	Starting
	Closed
	Stopped
	Closing
	Stopping
	ReqSent
	AckRcvd
	AckSent
	Opened
	numStates
)

var stateNames = [numStates]string{
	"Initial", "Starting", "Closed", "Stopped", "Closing", "Stopping", "Req-Sent", "Ack-Rcvd", "Ack-Sent", "Opened",
}

// String returns the RFC's name of the state.
func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// fsmEvent is an event of RFC 1661 section 4.3.
type fsmEvent uint8

const (
	evUp       fsmEvent = iota // lower layer is Up
	evDown                     // lower layer is Down
	evOpen                     // administrative Open
	evClose                    // administrative Close
	evTOplus                   // timeout with counter > 0
	evTOminus                  // timeout with counter expired
	evRCRplus                  // receive Configure-Request, good
	evRCRminus                 // receive Configure-Request, bad
	evRCA                      // receive Configure-Ack
	evRCN                      // receive Configure-Nak or -Reject
	evRTR                      // receive Terminate-Request
	evRTA                      // receive Terminate-Ack
	evRUC                      // receive unknown code
	evRXJplus                  // receive Code- or Protocol-Reject, permitted
	evRXJminus                 // receive Code- or Protocol-Reject, catastrophic
	evRXR                      // receive Echo-Request, Echo-Reply, Discard-Request and the like
	numEvents
)

// action is an action of RFC 1661 section 4.4.
type action uint8

const (
	actNone action = iota
	tlu            // this layer up
	tld            // this layer down
	tls            // this layer started
	tlf            // this layer finished
	irc            // initialize restart counter
	zrc            // zero restart counter
	scr            // send Configure-Request
	sca            // send Configure-Ack
	scn            // send Configure-Nak or -Reject
	str            // send Terminate-Request
	sta            // send Terminate-Ack
	scj            // send Code-Reject
	ser            // send Echo-Reply
)

type actions [3]action

// cell is one cell of the table: what is done, in order, and the state that follows.
type cell struct {
	next State
	do   actions
}

// never marks the cells that the RFC shows as "-": the event cannot occur in that state. A peer that makes one occur
// all the same (a frame before the link is open) is ignored.
var never = cell{next: numStates}

// automaton is the state transition table of RFC 1661 section 4.1, transposed to one row per event.
// The passive option (p) is not used; the restart option (r) and crossed connections (x) need no action of ours.
var automaton = [numEvents][numStates]cell{
	evUp: {
		Initial:  {Closed, actions{}},
		Starting: {ReqSent, actions{irc, scr}},
		Closed:   never, Stopped: never, Closing: never, Stopping: never,
		ReqSent: never, AckRcvd: never, AckSent: never, Opened: never,
	},
	evDown: {
		Initial: never, Starting: never,
		Closed:   {Initial, actions{}},
		Stopped:  {Starting, actions{tls}},
		Closing:  {Initial, actions{}},
		Stopping: {Starting, actions{}},
		ReqSent:  {Starting, actions{}},
		AckRcvd:  {Starting, actions{}},
		AckSent:  {Starting, actions{}},
		Opened:   {Starting, actions{tld}},
	},
	evOpen: {
		Initial:  {Starting, actions{tls}},
		Starting: {Starting, actions{}},
		Closed:   {ReqSent, actions{irc, scr}},
		Stopped:  {Stopped, actions{}},
		Closing:  {Stopping, actions{}},
		Stopping: {Stopping, actions{}},
		ReqSent:  {ReqSent, actions{}},
		AckRcvd:  {AckRcvd, actions{}},
		AckSent:  {AckSent, actions{}},
		Opened:   {Opened, actions{}},
	},
	evClose: {
		Initial:  {Initial, actions{}},
		Starting: {Initial, actions{tlf}},
		Closed:   {Closed, actions{}},
		Stopped:  {Closed, actions{}},
		Closing:  {Closing, actions{}},
		Stopping: {Closing, actions{}},
		ReqSent:  {Closing, actions{irc, str}},
		AckRcvd:  {Closing, actions{irc, str}},
		AckSent:  {Closing, actions{irc, str}},
		Opened:   {Closing, actions{tld, irc, str}},
	},
	evTOplus: {
		Initial: never, Starting: never, Closed: never, Stopped: never,
		Closing:  {Closing, actions{str}},
		Stopping: {Stopping, actions{str}},
		ReqSent:  {ReqSent, actions{scr}},
		AckRcvd:  {ReqSent, actions{scr}},
		AckSent:  {AckSent, actions{scr}},
		Opened:   never,
	},
	evTOminus: {
		Initial: never, Starting: never, Closed: never, Stopped: never,
		Closing:  {Closed, actions{tlf}},
		Stopping: {Stopped, actions{tlf}},
		ReqSent:  {Stopped, actions{tlf}},
		AckRcvd:  {Stopped, actions{tlf}},
		AckSent:  {Stopped, actions{tlf}},
		Opened:   never,
	},
	evRCRplus: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{sta}},
		Stopped:  {AckSent, actions{irc, scr, sca}},
		Closing:  {Closing, actions{}},
		Stopping: {Stopping, actions{}},
		ReqSent:  {AckSent, actions{sca}},
		AckRcvd:  {Opened, actions{sca, tlu}},
		AckSent:  {AckSent, actions{sca}},
		Opened:   {AckSent, actions{tld, scr, sca}},
	},
	evRCRminus: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{sta}},
		Stopped:  {ReqSent, actions{irc, scr, scn}},
		Closing:  {Closing, actions{}},
		Stopping: {Stopping, actions{}},
		ReqSent:  {ReqSent, actions{scn}},
		AckRcvd:  {AckRcvd, actions{scn}},
		AckSent:  {ReqSent, actions{scn}},
		Opened:   {ReqSent, actions{tld, scr, scn}},
	},
	evRCA: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{sta}},
		Stopped:  {Stopped, actions{sta}},
		Closing:  {Closing, actions{}},
		Stopping: {Stopping, actions{}},
		ReqSent:  {AckRcvd, actions{irc}},
		AckRcvd:  {ReqSent, actions{scr}},
		AckSent:  {Opened, actions{irc, tlu}},
		Opened:   {ReqSent, actions{tld, scr}},
	},
	evRCN: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{sta}},
		Stopped:  {Stopped, actions{sta}},
		Closing:  {Closing, actions{}},
		Stopping: {Stopping, actions{}},
		ReqSent:  {ReqSent, actions{irc, scr}},
		AckRcvd:  {ReqSent, actions{scr}},
		AckSent:  {AckSent, actions{irc, scr}},
		Opened:   {ReqSent, actions{tld, scr}},
	},
	evRTR: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{sta}},
		Stopped:  {Stopped, actions{sta}},
		Closing:  {Closing, actions{sta}},
		Stopping: {Stopping, actions{sta}},
		ReqSent:  {ReqSent, actions{sta}},
		AckRcvd:  {ReqSent, actions{sta}},
		AckSent:  {ReqSent, actions{sta}},
		Opened:   {Stopping, actions{tld, zrc, sta}},
	},
	evRTA: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{}},
		Stopped:  {Stopped, actions{}},
		Closing:  {Closed, actions{tlf}},
		Stopping: {Stopped, actions{tlf}},
		ReqSent:  {ReqSent, actions{}},
		AckRcvd:  {ReqSent, actions{}},
		AckSent:  {AckSent, actions{}},
		Opened:   {ReqSent, actions{tld, scr}},
	},
	evRUC: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{scj}},
		Stopped:  {Stopped, actions{scj}},
		Closing:  {Closing, actions{scj}},
		Stopping: {Stopping, actions{scj}},
		ReqSent:  {ReqSent, actions{scj}},
		AckRcvd:  {AckRcvd, actions{scj}},
		AckSent:  {AckSent, actions{scj}},
		Opened:   {Opened, actions{scj}},
	},
	evRXJplus: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{}},
		Stopped:  {Stopped, actions{}},
		Closing:  {Closing, actions{}},
		Stopping: {Stopping, actions{}},
		ReqSent:  {ReqSent, actions{}},
		AckRcvd:  {ReqSent, actions{}},
		AckSent:  {AckSent, actions{}},
		Opened:   {Opened, actions{}},
	},
	evRXJminus: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{tlf}},
		Stopped:  {Stopped, actions{tlf}},
		Closing:  {Closed, actions{tlf}},
		Stopping: {Stopped, actions{tlf}},
		ReqSent:  {Stopped, actions{tlf}},
		AckRcvd:  {Stopped, actions{tlf}},
		AckSent:  {Stopped, actions{tlf}},
		Opened:   {Stopping, actions{tld, irc, str}},
	},
	evRXR: {
		Initial: never, Starting: never,
		Closed:   {Closed, actions{}},
		Stopped:  {Stopped, actions{}},
		Closing:  {Closing, actions{}},
		Stopping: {Stopping, actions{}},
		ReqSent:  {ReqSent, actions{}},
		AckRcvd:  {AckRcvd, actions{}},
		AckSent:  {AckSent, actions{}},
		Opened:   {Opened, actions{ser}},
	},
}
