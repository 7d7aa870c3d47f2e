package radius

// Outcome is what is counted of each server.
type Outcome uint8

// The outcomes. The first are of requests, the rest of packets that came.
const (
	Sent          Outcome = iota // requests sent for the first time to this server
	Retransmitted                // packets sent again
	SendFailed                   // packets that the kernel would not take
	Probed                       // Status-Server requests sent
	TimedOut                     // requests unanswered in the server's time
	Abandoned                    // requests that their caller gave up

	Accepted
	Rejected
	Challenged
	Acknowledged           // accounting records
	ProbeAnswered          // answers to Status-Server
	Late                   // answers that came after the request had timed out or been abandoned
	Duplicate              // answers to what had been answered
	BadAuthenticator       // dropped: response authenticator or Message-Authenticator is wrong
	NoMessageAuthenticator // dropped: Message-Authenticator is missing
	WrongSource            // dropped: not from the server's address and port
	Malformed              // dropped: lengths or attributes are wrong
	Unexpected             // dropped: no request had this identifier, or the code does not answer it
	numOutcomes
)

var outcomeNames = [numOutcomes]string{
	"sent", "retransmitted", "send-failed", "probed", "timeout", "abandoned",
	"accepted", "rejected", "challenged", "acknowledged", "probe-answered", "late", "duplicate",
	"bad-authenticator", "no-message-authenticator", "wrong-source", "malformed", "unexpected",
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

// Counts holds a number for each outcome; Counts[Sent] are the requests sent.
type Counts [numOutcomes]uint64
