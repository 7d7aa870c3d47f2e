package coa

// Outcome is what is counted of each client's packets.
type Outcome uint8

// The outcomes.
const (
	Disconnected           Outcome = iota // Disconnect-Requests done
	DisconnectRefused                     // answered with a NAK
	Changed                               // CoA-Requests done
	ChangeRefused                         // answered with a NAK
	Repeated                              // sent again, and answered again
	RepeatedEarly                         // sent again while the first was being worked on; dropped
	Overload                              // dropped: too many were being worked on
	Abandoned                             // not answered: the server was shutting down
	Stale                                 // dropped: Event-Timestamp is outside the window
	BadAuthenticator                      // dropped: request authenticator or Message-Authenticator is wrong
	NoMessageAuthenticator                // dropped: Message-Authenticator is missing
	Malformed                             // dropped: lengths or attributes are wrong
	Unexpected                            // dropped: another code
	Unanswerable                          // done, but the answer could not be made or sent
	numOutcomes
)

var outcomeNames = [numOutcomes]string{
	"disconnected", "disconnect-refused", "changed", "change-refused", "repeated", "repeated-early", "overload", "abandoned", "stale",
	"bad-authenticator", "no-message-authenticator", "malformed", "unexpected", "unanswerable",
}

// String returns the name of the outcome as metrics show it.
func (o Outcome) String() string { return outcomeNames[o] }

// Outcomes returns all outcomes, in order.
func Outcomes() []Outcome {
	out := make([]Outcome, numOutcomes)
	for i := range out {
		out[i] = Outcome(i)
	}
	return out
}

// Counts holds a number for each outcome; Counts[Changed] are the changes done.
type Counts [numOutcomes]uint64
