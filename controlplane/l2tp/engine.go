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
}

// Limits that no configuration changes.
const (
	maxEndedRecords  = 1024             // ended tunnels kept for show
	maxSocketTries   = 8                // tunnel ids tried when a port is in use
	maxSendQueue     = 64               // unacknowledged messages before calls are no longer taken from a peer
	maxTunnelQueue   = 1 << 14          // messages after which a peer that acknowledges nothing loses its tunnel
	peerRestartAfter = 31 * time.Second // a full retransmission cycle: an SCCRQ later than that is not a late copy
	lingerTime       = 31 * time.Second // StopCCN of the peer is acknowledged again that long (RFC 2661 section 5.7)
	refusalsPerSec   = 10               // StopCCN to peers without a tunnel, each for clear text and IPsec
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
}

// Reconfigure replaces the configuration; existing tunnels keep theirs.
type Reconfigure struct{ Config Config }

func (Packet) l2tpEvent()       {}
func (Timer) l2tpEvent()        {}
func (SocketOpened) l2tpEvent() {}
func (SendFrame) l2tpEvent()    {}
func (ConnLost) l2tpEvent()     {}
func (CloseSession) l2tpEvent() {}
func (CloseTunnel) l2tpEvent()  {}
func (CloseAll) l2tpEvent()     {}
func (Dial) l2tpEvent()         {}
func (Reconfigure) l2tpEvent()  {}

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

// SessionUp: ICCN received (or sent and acknowledged for Dial): PPP may start.
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
	PeerHost                    string
	CallSerial                  uint32
	CallingNumber, CalledNumber string
	TxSpeed, RxSpeed            uint32 // bit/s
	SequencingRequired          bool
	ProxyLCP, ProxyAuth         bool
	Since                       time.Time
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
