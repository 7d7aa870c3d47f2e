package l2tp

import (
	"net/netip"
	"time"

	"vrgate/controlplane/keymat"
)

// TunnelID and SessionID are our local identifiers; a tunnel's id is also the local UDP
// port its kernel socket is bound to (kernel.md section 2.5), hence 16384..65535.
type (
	TunnelID  uint16
	SessionID uint16
)

// TunnelIDMin is the smallest tunnel id handed out.
const TunnelIDMin TunnelID = 16384

// ConnID names the IPsec connection a datagram came through, 0 for clear text.
type ConnID uint32

// Config of one virtual router's L2TP service. Zero values mean the defaults of
// requirements.md section 1.7.
type Config struct {
	HostName                      string // our Host Name AVP
	VendorName                    string
	ReceiveWindow                 uint16        // ours; default 4
	Hello                         time.Duration // since last control packet; default 60 s; negative: off
	RetransmitMax                 int           // tries for an established tunnel, 2..7, default 5
	RetransmitMaxOpening          int           // tries for one not established, 2..7, default 5
	RetransmitBase, RetransmitCap time.Duration // 1 s doubling to 16 s
	IdleTimeout                   time.Duration // tunnel without sessions, default 60 s; negative: for ever
	SetupTimeout                  time.Duration // tunnel or call not established; default 60 s
	DestructTimeout               time.Duration // record kept after the end, default 600 s
	ShortDrain                    time.Duration // how long our StopCCN waits for its acknowledgement, 0..31 s, default 2 s; negative: not at all
	DisconnectCause               bool          // send the RFC 3145 AVP
	MaxTunnels, MaxSessions       int           // 0: no limit but the id space
	MaxHalfOpen                   int           // tunnels not yet established, total; default 1024
	MaxHalfOpenPerPeer            int           // per source address (clear) or connection; default 16
	Profiles                      []DestinationProfile
	Admin                         Admin // of the whole service (A8)
	TolerateUnknownAVP            bool  // unknown AVPs with the M bit are skipped and counted instead of refused
	IgnoreSequencing              bool  // Sequencing Required of a LAC is not followed: data carries no sequence numbers
}

// Admin is an administrative state (A8). What holds for an object is the strictest of its own and those above it: service,
// destination (a LAC's address), tunnel, session.
type Admin uint8

const (
	AdminEnabled  Admin = iota
	AdminDrain          // nothing new; what lives goes on
	AdminDisabled       // nothing new, and what lives is ended
)

// Limits that no configuration changes.
const (
	maxSocketTries   = 8                // tunnel ids tried when a port is in use
	maxSendQueue     = 64               // unacknowledged messages before calls are no longer taken from a peer
	maxTunnelQueue   = 1 << 14          // messages after which a peer that acknowledges nothing loses its tunnel
	peerRestartAfter = 31 * time.Second // a full retransmission cycle: an SCCRQ later than that is not a late copy
	lingerTime       = 31 * time.Second // StopCCN of the peer is acknowledged again that long (RFC 2661 section 5.7)
	refusalsPerSec   = 10               // StopCCN to peers without a tunnel, each for clear text and IPsec
	reportsPerSec    = 50               // Reports above LevelDebug about what single peers do
	maxWindow        = 128              // our receive window
)

// DestinationProfile says which LACs may open tunnels (G1..G11). An exact LAC address beats 0.0.0.0.
type DestinationProfile struct {
	Name        string
	LAC         netip.Addr // unspecified address: any
	MaxSessions int
	Hosts       []HostProfile
}

// HostProfile is chosen by the LAC's Host Name AVP; the empty Host is `default`.
type HostProfile struct {
	Name, Host    string
	RequireIPsec  bool          // G6
	Secret        keymat.Secret // tunnel password; empty: no tunnel authentication
	Challenge     bool          // challenge the LAC when Secret is set (default of the config layer: true)
	LocalHost     string        // overrides Config.HostName
	Local         netip.Addr    // address the LAC must have called; zero: any
	MaxSessions   int
	ReceiveWindow uint16
	SingleShot    bool // H1..H8
	// HideAVPs hides what may be hidden in messages to this LAC; it needs Secret (RFC 2661 section 4.3).
	HideAVPs bool
	// DisconnectCause, ours for this LAC; nil: Config's.
	DisconnectCause    *bool
	TolerateUnknownAVP bool // or Config's
	// ZeroTunnelID takes control messages for tunnel id 0 from the LAC's address and port, or its IPsec connection, for those of its
	// newest tunnel. D-Link's DIR-300 sends nothing else. In clear text a forger then need not know the tunnel id, so that a
	// Challenge should be asked for.
	ZeroTunnelID bool
	// ResourceError has CDN say result 2 with error 4 (insufficient resources) in place of results 4 and 5, for LACs that try
	// another LNS only then (G10).
	ResourceError bool
	// Revision stands for everything that a running tunnel or session has of the profile and could not be given
	// anew. When it changes the profile's tunnels end (G4); the rest of a profile holds from then on.
	Revision string
}

// Event is what happens to the engine.
type Event interface{ l2tpEvent() }

// Packet is one datagram for UDP port 1701 or for a tunnel's own socket.
type Packet struct {
	Socket        TunnelID // 0: the 1701 listener; else the tunnel whose socket received it
	Local, Remote netip.AddrPort
	Conn          ConnID // IPsec connection by the inbound SA's mark; 0 clear (listener), the tunnel's own (its socket)
	Data          []byte // only read during Step
}

// Timer says that Deadline may have passed.
type Timer struct{}

// SocketOpened answers OpenSocket; every OpenSocket must be answered once, also when the tunnel's TunnelDown has come in between (then
// CloseSocket follows). InUse asks for another tunnel id.
type SocketOpened struct {
	Tunnel TunnelID
	InUse  bool
	Err    string // not empty: failed for good
}

// SendFrame transmits a PPP frame (protocol first, no FF 03) over a session from the process.
type SendFrame struct {
	Tunnel  TunnelID
	Session SessionID
	Frame   []byte
}

// ConnLost says that IPsec has gone for this connection: its tunnels end at once, nothing can be sent (K12).
type ConnLost struct{ Conn ConnID }

// CloseSession and CloseTunnel end politely with CDN / StopCCN.
type CloseSession struct {
	Tunnel  TunnelID
	Session SessionID
	Result  uint16 // CDN result code, RFC 2661 section 4.4.2; 0: 3 (administrative)
	Error   uint16
	Message string
	Cause   *DisconnectCause // RFC 3145, sent when configured
	Reason  Reason
}

// CloseTunnel ends a tunnel and all its sessions.
type CloseTunnel struct {
	Tunnel  TunnelID
	Result  uint16 // StopCCN result code; 0: 6 (shutting down)
	Message string
	Reason  Reason
}

// CloseAll ends every tunnel (process stop).
type CloseAll struct{ Reason Reason }

// Dial opens a tunnel as LAC and places one incoming call (ICRQ); Ref is echoed in effects.
type Dial struct {
	Ref           uint64
	Local, Remote netip.AddrPort // Remote port 1701
	Conn          ConnID
	Secret        keymat.Secret
	HostName      string
	CallingNumber string

	// The rest is for tunnel switching, where we are the LAC of many calls.

	// Share places the call in an established or opening tunnel to the same Remote with the same Local address,
	// HostName, Assignment and Secret, and leaves a tunnel without calls to the idle timeout. A call that does not come up is
	// reported by DialFailed.
	Share      bool
	Assignment string // Tunnel-Assignment-ID: calls with different ones share no tunnel
	// Hold has the call wait for ConnectCall before ICCN is sent, so that the kernel has the session before the LNS says
	// anything: what it says first, such as that the peer is in, is never repeated.
	Hold     bool
	PeerHost string // host name that the LNS must have (Tunnel-Server-Auth-ID); empty: any
	HideAVPs bool
	Info     CallInfo // what ICRQ and ICCN say; zero values are left out, or what Dial says by itself
	Proxy    *Proxy
	// MaxSessions is how many calls the tunnel may carry with this one; more go into another. 0: no limit but the id space.
	MaxSessions int
	// Timeout bounds the set-up of the call, that of the tunnel included; 0 or more than it: Config.SetupTimeout.
	Timeout time.Duration
}

// CancelDial gives up a shared Dial whose call is not up. DialFailed follows, unless it or SessionUp came before: then it
// does nothing.
type CancelDial struct{ Ref uint64 }

// ConnectCall answers CallReady: ICCN may be sent.
type ConnectCall struct {
	Tunnel  TunnelID
	Session SessionID
}

// CallInfo is what a LAC says about a call in ICRQ and ICCN.
type CallInfo struct {
	CalledNumber, CallingNumber, SubAddress string
	PhysicalChannel                         uint32
	BearerType, FramingType                 uint32
	TxSpeed, RxSpeed                        uint32 // bit/s; RxSpeed 0: the same as TxSpeed
	PrivateGroup                            string
}

// Proxy is what a LAC has negotiated with the peer before the call was handed on (RFC 2661 section 4.4.5). Byte slices
// are the options of Configure-Requests, without their headers.
type Proxy struct {
	InitialLCP, LastSentLCP, LastReceivedLCP []byte
	AuthType                                 ProxyAuthType // 0: the AVP was not there
	AuthName                                 string
	AuthChallenge                            []byte
	AuthID                                   uint8
	AuthResponse                             keymat.Secret // the password with PAP
}

// ProxyAuthType is the value of the Proxy Authen Type AVP.
type ProxyAuthType uint16

const (
	ProxyText     ProxyAuthType = 1
	ProxyCHAP     ProxyAuthType = 2
	ProxyPAP      ProxyAuthType = 3
	ProxyNone     ProxyAuthType = 4
	ProxyMSCHAPv1 ProxyAuthType = 5
)

// SetAdmin changes an administrative state: of the session, else the tunnel, else the destination, else the service, whichever
// is the first that is not zero. A destination need not be there yet.
type SetAdmin struct {
	Destination netip.Addr // a LAC's address
	Tunnel      TunnelID
	Session     SessionID
	State       Admin
}

// Reconfigure replaces the configuration. Tunnels whose profile is gone or has another Revision end (G4); the others keep
// their settings. Config.Admin counts when it differs from the one before, else what SetAdmin has set remains.
type Reconfigure struct{ Config Config }

// CallSettled says of a call that is over what is only known afterwards: who it was, and what the kernel has carried for it. It
// completes the call's record and the counts of its tunnel and destination.
type CallSettled struct {
	Tunnel  TunnelID
	Session SessionID
	User    string // empty: nothing new
	Payload Traffic
}

func (Packet) l2tpEvent()       {}
func (Timer) l2tpEvent()        {}
func (SocketOpened) l2tpEvent() {}
func (SendFrame) l2tpEvent()    {}
func (ConnLost) l2tpEvent()     {}
func (CloseSession) l2tpEvent() {}
func (CloseTunnel) l2tpEvent()  {}
func (CallSettled) l2tpEvent()  {}
func (CloseAll) l2tpEvent()     {}
func (Dial) l2tpEvent()         {}
func (CancelDial) l2tpEvent()   {}
func (Reconfigure) l2tpEvent()  {}
func (SetAdmin) l2tpEvent()     {}
func (ConnectCall) l2tpEvent()  {}

// DisconnectCause is the RFC 3145 PPP Disconnect Cause Code AVP.
type DisconnectCause struct {
	Code      uint16
	Protocol  uint16
	Direction uint8
	Message   string
}

// Effect is what the engine wants done.
type Effect interface{ l2tpEffect() }

// OpenSocket asks for the tunnel's UDP socket: bound to Local address and port Tunnel,
// connected to Remote, tied to Conn's SAs (0: clear). Answer: SocketOpened.
type OpenSocket struct {
	Tunnel        TunnelID
	Local, Remote netip.AddrPort
	Conn          ConnID
}

// CloseSocket releases the tunnel's socket (and with it the kernel's tunnel); every session's
// SessionDown came before.
type CloseSocket struct{ Tunnel TunnelID }

// Send transmits through the tunnel's socket.
type Send struct {
	Tunnel TunnelID
	Data   []byte
}

// Refuse transmits one StopCCN to a peer that has no tunnel, through a throw-away socket with source port 1701 and Conn's SAs.
type Refuse struct {
	Local, Remote netip.AddrPort
	Conn          ConnID
	Data          []byte
}

// TunnelUp: control connection established (SCCCN received and acknowledged).
type TunnelUp struct{ Tunnel TunnelInfo }

// TunnelDown: the tunnel is over. Emitted once per tunnel that emitted TunnelUp or failed to set up;
// CloseSocket follows when its last acknowledgements are done.
// Tunnel.State is the state it left: StateConnecting when its set-up failed.
type TunnelDown struct {
	Tunnel TunnelInfo
	Reason Reason
	Text   string
	ByPeer bool
}

// SessionUp: ICCN received (for Dial: sent, and acknowledged or followed by data): PPP may start.
type SessionUp struct{ Session SessionInfo }

// SessionDown: the session is over; emitted once for each SessionUp.
type SessionDown struct {
	Session       SessionInfo
	Reason        Reason
	Text          string
	ByPeer        bool
	Result, Error uint16           // of the CDN, when there was one
	Cause         *DisconnectCause // of the peer's CDN (RFC 3145)
}

// FrameReceived is a PPP frame that the kernel handed to the process: FF 03 stripped, protocol
// (PFC expanded to two bytes) first.
type FrameReceived struct {
	Tunnel  TunnelID
	Session SessionID
	Frame   []byte
}

// DialFailed: a shared Dial's call did not come up, and will not. Its tunnel may live on.
type DialFailed struct {
	Ref    uint64
	Reason Reason
	Text   string
}

// CallReady: the LNS has taken a call that was dialled with Hold, and waits for ConnectCall. SessionUp or DialFailed
// follows.
type CallReady struct{ Session SessionInfo }

// ConnSpent says that a single-shot tunnel of an IPsec connection is over: its destruct period begins, the connection is to be ended
// (H4), and this engine takes no other tunnel from it (H3, H5). It comes after the tunnel's CloseSocket.
type ConnSpent struct {
	Conn   ConnID
	Tunnel TunnelID
	Reason Reason
	Text   string
}

// Report is something an operator or a counter wants to know.
type Report struct {
	Level   Level
	Reason  Reason
	Text    string
	Remote  netip.AddrPort
	Conn    ConnID
	Tunnel  TunnelID
	Session SessionID
}

// Level of a Report; unauthenticated peers never cause more than LevelDebug.
type Level uint8

const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
)

func (OpenSocket) l2tpEffect()    {}
func (CloseSocket) l2tpEffect()   {}
func (Send) l2tpEffect()          {}
func (Refuse) l2tpEffect()        {}
func (TunnelUp) l2tpEffect()      {}
func (TunnelDown) l2tpEffect()    {}
func (SessionUp) l2tpEffect()     {}
func (SessionDown) l2tpEffect()   {}
func (FrameReceived) l2tpEffect() {}
func (DialFailed) l2tpEffect()    {}
func (CallReady) l2tpEffect()     {}
func (ConnSpent) l2tpEffect()     {}
func (Report) l2tpEffect()        {}

// TunnelInfo describes a tunnel for show, subscribers and logs.
type TunnelInfo struct {
	ID, Peer              TunnelID // Peer: the id the peer assigned
	Conn                  ConnID
	Local, Remote         netip.AddrPort
	State                 State
	Initiated             bool   // by us
	Trusted               bool   // through IPsec, with the tunnel password, or called by us; others are not worth a log line
	Ref                   uint64 // of Dial
	Profile, HostProfile  string
	PeerHost, PeerVendor  string
	PeerFirmware          uint16
	PeerWindow            uint16
	Sessions              int
	Since                 time.Time
	Ns, Nr                uint16
	Retransmits           uint64
	LastResult, LastError uint16 // of the StopCCN sent or received
	LastMessage           string
	Ended                 time.Time // zero while it lives
	Reason                Reason    // why it ended

	SingleShot            bool
	Admin, EffectiveAdmin Admin
	Version               uint16 // of the peer's protocol, 0x0100
	Bearer, Framing       uint32 // the peer's capabilities
	Window                uint16 // ours
	Queued                int    // messages that wait to be sent or acknowledged
	SessionsTotal         uint64 // calls that it ever had, those that failed included
	SessionsFailed        uint64
	Established           time.Time // zero: never
	Control               Traffic   // control messages, ZLBs included
	RxZLB, TxZLB          uint64
	OutOfSequence         uint64 // received before their turn, and kept
	OutOfWindow           uint64
	Duplicates            uint64
	PayloadIn, PayloadOut Traffic // data that went through the process, and of calls that are over; the kernel counts the rest
}

// Traffic counts datagrams of one kind: octets are those of L2TP, its header included.
type Traffic struct {
	RxOctets, RxPackets, RxErrors, RxDiscards uint64
	TxOctets, TxPackets, TxErrors, TxDiscards uint64
}

// DestinationInfo describes a LAC or LNS by its address (A8). It lives as long as a tunnel or its record, or an administrative state
// of its own.
type DestinationInfo struct {
	Local, Remote                                  netip.Addr
	Admin, EffectiveAdmin                          Admin
	TunnelsTotal, TunnelsFailed, TunnelsAuthFailed uint64
	TunnelsActive                                  int
	SessionsTotal, SessionsFailed                  uint64
	SessionsActive                                 int
	Control                                        Traffic
	Payload                                        Traffic // as of tunnels
}

// ServiceInfo is the whole engine in figures.
type ServiceInfo struct {
	Admin                                          Admin
	Destinations                                   int
	TunnelsTotal, TunnelsFailed, TunnelsAuthFailed uint64
	TunnelsActive                                  int
	SessionsTotal, SessionsFailed                  uint64
	SessionsActive                                 int
	// BySessions counts the live sessions by "destination profile" and by "destination profile/host profile" (G11).
	BySessions map[string]int
}

// SessionInfo describes a session.
type SessionInfo struct {
	Tunnel                      TunnelID
	ID, Peer                    SessionID
	PeerTunnel                  TunnelID
	Conn                        ConnID
	Local, Remote               netip.AddrPort
	State                       State
	Ref                         uint64 // of Dial
	Profile, HostProfile        string
	PeerHost, LocalHost         string // by which the two ends call themselves
	CallSerial                  uint32
	CallingNumber, CalledNumber string
	TxSpeed, RxSpeed            uint32 // bit/s
	SequencingRequired          bool
	ProxyLCP, ProxyAuth         bool
	Since                       time.Time

	Incoming              bool // the peer placed the call (lnsIncoming); else we did (lacIncoming)
	SingleShot            bool
	Admin, EffectiveAdmin Admin
	Info                  CallInfo
	Proxy                 *Proxy        // of ICCN; nil: none, and of records
	ProxyType             ProxyAuthType // of Proxy, also of records; 0: none
	Established           time.Time
	Ended                 time.Time // of a record: it is over
	Reason                Reason
	Result, Error         uint16 // of the CDN sent or received
	Message               string
	User                  string  // of a record, from CallSettled
	Payload               Traffic // data that went through the process; of a record all
}

// State as section 3 of requirements.md shows it.
type State uint8

const (
	StateIdle State = iota // over; only the record is left
	StateConnecting
	StateEstablished
	StateDisconnecting // over, but the last acknowledgements are outstanding
)

// String is the word that show prints.
func (s State) String() string {
	switch s {
	case StateConnecting:
		return "connecting"
	case StateEstablished:
		return "established"
	case StateDisconnecting:
		return "disconnecting"
	}
	return "idle"
}

// String is the level's name in logs.
func (l Level) String() string {
	switch l {
	case LevelInfo:
		return "info"
	case LevelWarn:
		return "warn"
	}
	return "debug"
}

// Reason is the typed reason of an end or a drop; stable text.
type Reason string
