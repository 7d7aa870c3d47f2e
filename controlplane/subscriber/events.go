package subscriber

import (
	"net/netip"
	"strconv"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// ID names one subscriber session for the life of the daemon and, as text, in
// accounting and in the control API. IDs start at a random number and rise.
type ID uint64

// String returns the number in decimal: what accounting calls Acct-Session-Id and show commands print.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// CallKey names the L2TP session that carries a subscriber, by our local identifiers.
type CallKey struct{ Tunnel, Session uint16 }

// Config of one virtual router's subscribers.
type Config struct {
	Router string
	// Link is the template of every PPP link; its MRU is the upper bound.
	Link pppd.Config
	// Profiles are the IP profiles by name.
	Profiles map[string]IPProfile
	// HostProfiles maps "destination profile/host profile" as the L2TP engine
	// reports them to what their sessions get.
	HostProfiles map[string]HostProfile
	// Tunnels are the tunnel profiles of dynamic subscribers by name.
	Tunnels map[string]TunnelProfile
	// PathMTU is the largest outer packet, bytes; default 1500.
	PathMTU int
	// DestructTimeout is how long an IPsec connection outlives its last tunnel; default 600 s.
	DestructTimeout time.Duration
	// InterimFloor is the least time between a session's interim accounting records, whatever AAA
	// wants; default 60 s (RFC 2869 section 5.16).
	InterimFloor time.Duration
	// Switching hands sessions on to other LNSs where AAA says so (tunnel switching); else they are refused.
	Switching bool
	// Lockout is how long an LNS that did not answer is passed over; default 300 s. With LockoutTest one session tries it
	// then, before others do.
	Lockout     time.Duration
	LockoutTest bool
	// FirstID is the first session's ID; the shell draws it at random.
	FirstID ID
}

// HostProfile is a host profile of L2TP as far as its sessions are concerned.
type HostProfile struct {
	IPProfile string // name (G7)
	// ProxyLCP and ProxyAuth take over what the LAC has negotiated, and how the peer has answered it; else PPP begins anew.
	ProxyLCP, ProxyAuth bool
	// Carrier: the LAC has proved itself and carries many subscribers, so that who guesses passwords is told apart by Calling
	// Number and not by the LAC's address.
	Carrier bool
}

// IPProfile says what a subscriber's interface gets (G7).
type IPProfile struct {
	Name        string
	Terminating string // virtual router
	Gateway     netip.Addr
	DNS, NBNS   [2]netip.Addr
	MTU         int // upper bound, bytes; 0: none
	Pool        string
	Link        LinkPolicy
	// Traffic and the timeouts hold where AAA says nothing.
	Traffic     aaa.Traffic
	IdleTimeout time.Duration // 0: none
	IdleIngress bool
}

// LinkPolicy is what the kernel does on a subscriber's interface by its IP profile.
type LinkPolicy struct {
	MSSClamp         bool // lower the MSS of TCP connections to the MTU
	MSS              int  // and to this; 0: no such bound
	SourceValidation bool // drop packets from other sources than the subscriber's own address and routes
	AccessRoutes     bool // the host route to the subscriber and the routes behind it
}

// Event is what happens to the engine.
type Event interface{ subscriberEvent() }

// ConnUp and ConnDown report an IPsec connection. A connection that is re-keyed with
// another transform is reported again by ConnUp.
type ConnUp struct {
	Conn   uint32
	Remote netip.AddrPort
	PeerID string
	Peer   string // implementation, e.g. "Windows 10"
	ESP    ESP
	// Dynamic: it belongs to a dynamic subscriber, announced by DynamicUp before.
	Dynamic bool
}

// ConnDown says that a connection's SAs have gone.
type ConnDown struct {
	Conn   uint32
	Reason string
	Text   string
	ByPeer bool
}

// TunnelUp and TunnelDown report L2TP tunnels of a connection (Conn 0: clear text).
type TunnelUp struct {
	Tunnel uint16
	Conn   uint32
}

// TunnelDown says that a tunnel has gone; CallDown came before for each of its sessions.
type TunnelDown struct {
	Tunnel uint16
	Conn   uint32
}

// CallUp reports an established L2TP session.
type CallUp struct {
	Call                    CallKey
	PeerTunnel, PeerSession uint16
	Conn                    uint32
	Local, Remote           netip.AddrPort
	Profile, HostProfile    string
	PeerHost, LocalHost     string // L2TP host names, of the peer and ours
	CallingNumber           string
	Sequencing              bool
	SingleShot              bool
	CalledNumber            string
	SubAddress              string
	TxSpeed, RxSpeed        uint32 // bit/s
	PrivateGroup            string
	Proxy                   *pppd.Proxy // what the LAC has negotiated; nil: nothing
}

// CallDown reports its end.
type CallDown struct {
	Call   CallKey
	Reason string
	Text   string
	ByPeer bool
	Cause  pppd.DisconnectCause // of the peer's CDN (RFC 3145)
}

// Frame is a PPP frame of a session, protocol first, from whichever inlet.
type Frame struct {
	Call CallKey
	Data []byte // only read during Step
}

// Decided answers Decide, with the address that goes with an accept, unless the decision hands the session on. Every Decide
// gets exactly one, also when its session has ended meanwhile: the engine gives back what came with it.
type Decided struct {
	ID       ID
	Decision aaa.Decision
	Address  netip.Addr
}

// SessionOpened answers OpenSession.
type SessionOpened struct {
	ID        ID
	Interface string
	Ifindex   int
	// Reason and Text are set when it failed; everything of the attempt is undone.
	Reason Reason
	Text   string
}

// SessionActivated answers Activate.
type SessionActivated struct {
	ID     ID
	Reason Reason // empty on success
	Text   string
}

// SessionClosed answers CloseSession.
type SessionClosed struct {
	ID       ID
	Counters Counters
}

// Timer says that Deadline may have passed.
type Timer struct{}

// Disconnect ends sessions politely.
type Disconnect struct {
	IDs    []ID
	Reason Reason
}

// Reconfigure replaces the configuration; running sessions keep theirs. Dynamic subscribers whose tunnel profile is gone or has
// another Revision end (G4); the L2TP engine sees to the others.
type Reconfigure struct{ Config Config }

func (ConnUp) subscriberEvent()           {}
func (ConnDown) subscriberEvent()         {}
func (TunnelUp) subscriberEvent()         {}
func (TunnelDown) subscriberEvent()       {}
func (CallUp) subscriberEvent()           {}
func (CallDown) subscriberEvent()         {}
func (Frame) subscriberEvent()            {}
func (Decided) subscriberEvent()          {}
func (SessionOpened) subscriberEvent()    {}
func (SessionActivated) subscriberEvent() {}
func (SessionClosed) subscriberEvent()    {}
func (Timer) subscriberEvent()            {}
func (Disconnect) subscriberEvent()       {}
func (Reconfigure) subscriberEvent()      {}

// Effect is what the engine wants done.
type Effect interface{ subscriberEffect() }

// SendFrame transmits a PPP frame, protocol first. InKernel: the session's kernel objects
// exist, so it goes through them (channel for LCP and authentication, unit for NCPs);
// otherwise the L2TP engine carries it.
type SendFrame struct {
	ID       ID
	Call     CallKey
	InKernel bool
	Data     []byte
}

// Decide asks AAA and, after an accept, for an address. Answer: Decided.
type Decide struct {
	ID      ID
	Request aaa.Request
	Profile IPProfile
	// Again: the subscriber has its address already and authenticates once more, after a
	// renegotiation of LCP or a rekey of phase 1.
	Again bool
}

// ReleaseAddress gives back what Decided brought: the address, which a session that was handed on has not, and its
// places within limits and licences.
type ReleaseAddress struct {
	ID          ID
	Terminating string
	Pool        string
	User        string
	Address     netip.Addr
}

// OpenSession makes the kernel objects of an accepted subscriber: L2TP tunnel (when it is
// the tunnel's first session), L2TP session, PPP channel and unit. No traffic flows yet.
// Answer: SessionOpened.
type OpenSession struct {
	ID          ID
	Call        CallKey
	PeerTunnel  uint16
	PeerSession uint16
	Sequencing  bool
	Terminating string
	MTU         int
	// Traffic holds from the first packet.
	Traffic aaa.Traffic
	Link    LinkPolicy
}

// Activate lets traffic flow: interface up, host route in the terminating virtual router.
// Answer: SessionActivated.
type Activate struct {
	ID          ID
	Call        CallKey
	Terminating string
	Peer        netip.Addr
	Gateway     netip.Addr
	MTU         int
	// Routes are the networks behind the subscriber.
	Routes []aaa.Route
	Link   LinkPolicy
}

// Deactivate stops traffic while IPCP is renegotiated.
type Deactivate struct {
	ID   ID
	Call CallKey
}

// CloseSession removes the kernel objects. Answer: SessionClosed.
type CloseSession struct {
	ID   ID
	Call CallKey
}

// CloseCall ends the L2TP session with CDN.
type CloseCall struct {
	Call   CallKey
	Reason Reason
	Cause  pppd.DisconnectCause
	Text   string
}

// DropTunnels says that a connection's SAs have gone: its tunnels end without a word (K12).
type DropTunnels struct{ Conn uint32 }

// CloseConn ends an IPsec connection (K12).
type CloseConn struct {
	Conn   uint32
	Reason Reason
	Text   string
}

// Started reports a session whose user can send traffic; its accounting has started before.
type Started struct{ Record Record }

// Ended reports the end of a session that CallUp or DynamicUp announced, exactly once: accounting
// stop when it is owed (Record.Accounted), with the final counters, and the summary line. It is the
// session's last effect: every question has been answered, the address is back and the kernel
// objects are gone.
type Ended struct{ Record Record }

// Report is something for the log.
type Report struct {
	Warn   bool
	Reason Reason
	Text   string
	ID     ID
	Conn   uint32
	Remote netip.AddrPort
}

func (SendFrame) subscriberEffect()      {}
func (Decide) subscriberEffect()         {}
func (ReleaseAddress) subscriberEffect() {}
func (OpenSession) subscriberEffect()    {}
func (Activate) subscriberEffect()       {}
func (Deactivate) subscriberEffect()     {}
func (CloseSession) subscriberEffect()   {}
func (CloseCall) subscriberEffect()      {}
func (DropTunnels) subscriberEffect()    {}
func (CloseConn) subscriberEffect()      {}
func (Started) subscriberEffect()        {}
func (Ended) subscriberEffect()          {}
func (Report) subscriberEffect()         {}

// Counters of a session's user traffic, from the kernel's interface: payload bytes and
// packets. In is from the subscriber.
type Counters struct {
	InBytes, OutBytes     uint64
	InPackets, OutPackets uint64
}

// Record describes a session, alive or ended.
type Record struct {
	ID                      ID
	Router                  string // transport virtual router
	Terminating             string
	User                    string
	Access                  aaa.Access
	Call                    CallKey
	PeerTunnel, PeerSession uint16
	Conn                    uint32
	Local, Remote           netip.AddrPort
	PeerHost                string // L2TP host name of the client
	LocalHost               string // ours, as the client was told
	Peer                    string // IKE implementation
	CallingNumber           string
	CalledNumber            string
	TxSpeed, RxSpeed        uint32 // bit/s, as the LAC said
	SingleShot              bool
	Far                     CallKey    // the call to the LNS that it was handed on to
	Server                  netip.Addr // that LNS
	Protocol                aaa.Protocol
	Profile                 string // tunnel profile of a dynamic subscriber
	PeerID                  string // its phase 1 identity
	Address                 netip.Addr
	Netmask                 netip.Addr // that a dynamic subscriber was told
	Pool                    string     // where the address is from; empty: it is the user's own
	Gateway                 netip.Addr
	Routes                  []aaa.Route
	Traffic                 aaa.Traffic
	Interface               string
	Ifindex                 int // of a PPP interface; 0: none, or one that others share
	MTU                     int
	// The bounds that hold, 0 for none: SessionTimeout counts from Up, IdleIngress has
	// IdleTimeout look at traffic from the subscriber only, Interim is the time between
	// interim accounting records.
	SessionTimeout, IdleTimeout time.Duration
	IdleIngress                 bool
	Interim                     time.Duration
	// By says who let it in, Class is echoed in its accounting (R7).
	By    aaa.Authority
	Class [][]byte
	// Accounted: AccountStart has been answered without Reason, and a stop is owed.
	Accounted bool
	State     State
	Called    time.Time // call established, or phase 1 of a dynamic subscriber
	Up        time.Time // traffic allowed; zero: never
	Ended     time.Time // zero: alive
	Reason    Reason
	Text      string
	ByPeer    bool
	Cause     pppd.DisconnectCause // of a PPP session's end
	Counters  Counters             // as last read; they never go back
}

// State of a session.
type State uint8

// States in their order.
const (
	StateLink       State = iota // LCP and authentication, or XAuth
	StateDeciding                // AAA has been asked
	StateOpening                 // kernel objects are being made, or another LNS is called
	StateNetwork                 // IPCP, or mode config and quick mode
	StateActivating              // interface and route are being set up, or the bridge
	StateUp
	StateEnding
)

// String returns the word that show prints.
func (s State) String() string {
	return [...]string{"link", "deciding", "opening", "network", "activating", "up", "ending"}[s]
}

// Reason is the typed reason of an end or a refusal: pppd, l2tp, ike and aaa reasons pass
// through unchanged, these are the engine's own.
type Reason string

// Reasons of this package.
const (
	ReasonAdmin    Reason = "admin-reset"
	ReasonShutdown Reason = "shutdown"
	// All of a virtual router ends because the configuration has changed.
	ReasonReconfigured  Reason = "reconfigured"   // it is closed and opened again
	ReasonRouterRemoved Reason = "router-removed" // it is not configured any more
	ReasonKernel        Reason = "kernel-failed"
	ReasonTunnelGone    Reason = "l2tp-gone"
	ReasonNoTunnel      Reason = "no-l2tp-in-ipsec"
	ReasonNoProfile     Reason = "no-ip-profile"
	ReasonUserChanged   Reason = "user-changed"
	ReasonInterface     Reason = "interface-gone"
	// ReasonSpent: the single-shot tunnel of the IPsec connection is over (H4).
	ReasonSpent Reason = "single-shot-over"
	// ReasonProfileRemoved and ReasonProfileChanged: a reload has taken the profile away, or changed what running
	// subscribers have of it (G4).
	ReasonProfileRemoved Reason = "profile-removed"
	ReasonProfileChanged Reason = "profile-changed"
	// ReasonSwitchingOff: AAA hands the session on to another LNS, which Config.Switching does not allow.
	ReasonSwitchingOff Reason = "switching-off"
	// ReasonUnreachable: no LNS has taken the session that AAA hands on.
	ReasonUnreachable Reason = "lns-unreachable"
)

// CountNotRelayed counts PPP frames of sessions that are handed on which arrived when nobody could be given them.
const CountNotRelayed Reason = "ppp-frame-not-relayed"
