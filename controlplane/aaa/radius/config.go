package radius

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/keymat"
)

// Defaults of Config and Server.
const (
	DefaultMaxInFlight = 4096
	DefaultTimeout     = 5 * time.Second
)

// Config is a virtual router's RADIUS: servers, and groups of them. It is immutable.
type Config struct {
	// NASIdentifier and NASAddress are added to each request whose attributes have none of that kind (RFC 2865 section
	// 4.1 wants one of the two). Empty, zero: not added.
	NASIdentifier string
	NASAddress    netip.Addr
	Servers       []Server // names are unique
	Groups        []Group  // names are unique; a server that a group names and that does not exist is left out
	// MaxInFlight bounds the requests that wait for servers, 4 and more; 0: DefaultMaxInFlight. A quarter of them is for
	// accounting and the rest for authentication, so that neither starves the other. As many again may queue; what comes
	// on top fails with [ErrOverload].
	MaxInFlight int
}

// Server is one RADIUS server.
type Server struct {
	Name    string
	Address netip.Addr // IPv4 or IPv6
	// AuthPort and AcctPort are its UDP ports; 0: it is not asked for that.
	AuthPort, AcctPort uint16
	Source             netip.Addr // our address towards it; zero: any of the virtual router
	Secret             keymat.Secret
	// Timeout is the time that the server has to answer one request, retransmissions included; then the next server of
	// the group is asked. 0: DefaultTimeout.
	Timeout time.Duration
	// Retransmissions is how often a request is repeated within Timeout, 0 and more. Intervals double, with a tenth of
	// jitter, and fill Timeout.
	Retransmissions int
	// DeadTime is how long the server is passed over once several requests in a row have gone unanswered. Then one
	// request tries it out. 0: it is never passed over.
	DeadTime time.Duration
	// AllowUnsigned accepts answers to Access-Request without Message-Authenticator. Anybody between us and the server
	// can then forge an accept (CVE-2024-3596); it is for servers in a museum.
	AllowUnsigned bool
	// StatusServer probes the server while it is dead (RFC 5997); an answer has the next request try it out.
	StatusServer bool
}

// Group is an order of servers.
type Group struct {
	Name       string
	Servers    []string // by priority
	RoundRobin bool     // instead of priority: each request begins at the next server
}

// ListenFunc opens a UDP socket in the right virtual router (TrafficPlane.ListenUDP). Port 0: any; an unspecified
// address: any of its family. It may block for a moment.
type ListenFunc func(local netip.AddrPort) (*net.UDPConn, error)

// Exchange is one request before it is signed for a server.
type Exchange struct {
	Code rad.Code // Access-Request or Accounting-Request
	// Attributes are sent in this order, at most 4096 bytes with what is added. Message-Authenticator is added, one that
	// is there is left out.
	Attributes rad.Attributes
	// Password becomes User-Password, hidden anew for each server; nil: there is none. At most [MaxPassword] bytes.
	Password keymat.Secret
	// Server is asked alone, dead or not, and nobody in its place: it has asked for this round of a dialogue, and another
	// would know nothing of its State (RFC 2865 section 5.24, RFC 3579 section 2.6.5). Empty: the group's order.
	Server string
	// At is when the accounted event happened: Acct-Delay-Time is how long before the packet was built that was, and
	// replaces one that is there. Zero: no Acct-Delay-Time is added.
	At time.Time
}

// Answer is a server's verified answer.
type Answer struct {
	Code       rad.Code // Access-Accept, Access-Reject, Access-Challenge or Accounting-Response
	Attributes rad.Attributes
	Server     string // its name
	// Passwords are the Tunnel-Passwords among the attributes in clear, in their order.
	Passwords []TunnelPassword
}

// TunnelPassword is an attribute of that name (RFC 2868 section 3.5).
type TunnelPassword struct {
	Tag    uint8 // 1 to 31; 0: none
	Secret keymat.Secret
	// Broken: the attribute cannot be decrypted, and Secret is empty.
	Broken bool
}

// Errors of Do and Account, besides those of their context, *OpenError and *MalformedError.
var (
	// ErrNoServer: the group does not exist, or none of its servers does this kind of request.
	ErrNoServer = errors.New("there is no RADIUS server to ask")
	// ErrNoAnswer: every server of the group has been asked and was silent.
	ErrNoAnswer = errors.New("no RADIUS server has answered")
	// ErrOverload: too many requests wait already.
	ErrOverload = errors.New("too many requests wait for RADIUS servers")
	// ErrClosed: the client has been closed.
	ErrClosed = errors.New("the RADIUS client is closed")
)

// OpenError says that no socket towards any server that was left to ask could be opened. It is tried again later.
type OpenError struct {
	Server string
	Local  netip.AddrPort
	Text   string
}

// Error returns the sentence.
func (e *OpenError) Error() string {
	return fmt.Sprintf("cannot open a socket on %s for RADIUS server %s: %s", e.Local, e.Server, e.Text)
}

// Role is what a server is asked for. The two have separate ports, sockets and states.
type Role uint8

// The roles.
const (
	Authentication Role = iota
	Accounting
	numRoles
)

// String returns the name of the role as metrics show it.
func (r Role) String() string {
	return [numRoles]string{"authentication", "accounting"}[r]
}

// State is what is thought of a server in one role.
type State uint8

// The states.
const (
	Up    State = iota // it is asked
	Dead               // passed over: it has not answered
	Trial              // the next request tries it out
	numStates
)

// String returns the name of the state as show and metrics have it.
func (s State) String() string { return [numStates]string{"up", "dead", "trial"}[s] }

// ServerStatus is what is known of one server in one role.
type ServerStatus struct {
	Name       string
	Role       Role
	Address    netip.AddrPort
	State      State
	Since      time.Time     // last change of State; zero: none yet
	LastAnswer time.Time     // zero: none yet
	RTT        time.Duration // smoothed; 0: not measured yet
	InFlight   int           // requests sent and not answered
	Waiting    int           // requests that wait for a socket or an identifier
	Sockets    int
	OpenError  string // why the last attempt to open a socket failed; empty: it did not
	Counts     Counts
}
