package api

import (
	"net/netip"
	"time"
)

// The views of L2TP, with the fields of section 3 of the requirements. Each object has the
// administrative state that was set for it and the one that is in effect, which is the
// strictest of its own and those above it (A8): enabled, drain or disabled.

// L2TPTraffic counts datagrams of one kind. Octets include L2TP headers, but not those of UDP and
// IP.
type L2TPTraffic struct {
	RxOctets   uint64 `json:"rx_octets"`
	RxPackets  uint64 `json:"rx_packets"`
	RxErrors   uint64 `json:"rx_errors"`
	RxDiscards uint64 `json:"rx_discards"`
	TxOctets   uint64 `json:"tx_octets"`
	TxPackets  uint64 `json:"tx_packets"`
	TxErrors   uint64 `json:"tx_errors"`
	TxDiscards uint64 `json:"tx_discards"`
}

// L2TPCount counts objects of one kind. AuthFailed, of tunnels only, are among the failed.
type L2TPCount struct {
	Total      uint64 `json:"total"`
	Failed     uint64 `json:"failed"`
	AuthFailed uint64 `json:"auth_failed"`
	Active     int    `json:"active"`
}

// L2TPService is L2TP of a virtual router: its parameters and its sums.
type L2TPService struct {
	VR         string `json:"vr"`
	AdminState string `json:"admin_state"`
	// 0 is for ever, idle, and never, hello.
	DestructTimeoutSeconds     int64 `json:"destruct_timeout_seconds"`
	IdleTimeoutSeconds         int64 `json:"idle_timeout_seconds"`
	HelloSeconds               int64 `json:"hello_seconds"`
	SetupTimeoutSeconds        int64 `json:"setup_timeout_seconds"`
	ShortDrainSeconds          int64 `json:"short_drain_seconds"`
	RetransmissionsEstablished int   `json:"retransmissions_established"`
	RetransmissionsOpening     int   `json:"retransmissions_not_established"`
	// ReceiveWindow is 0 where vrgate chooses, MaxSessions for no limit.
	ReceiveWindow       int       `json:"receive_window"`
	MaxSessions         int       `json:"max_sessions"`
	Challenge           bool      `json:"challenge"`
	DisconnectCause     bool      `json:"disconnect_cause"`
	TolerateUnknownAVPs bool      `json:"tolerate_unknown_avps"`
	IgnoreSequencing    bool      `json:"ignore_sequencing"`
	TunnelSwitching     bool      `json:"tunnel_switching"`
	LockoutSeconds      int64     `json:"lockout_seconds"`
	LockoutTest         bool      `json:"lockout_test"`
	Destinations        int       `json:"destinations"`
	Tunnels             L2TPCount `json:"tunnels"`
	Sessions            L2TPCount `json:"sessions"`
	SwitchedSessions    int       `json:"switched_sessions"`
	Fixed               L2TPFixed `json:"fixed"`
}

// L2TPFixed are the parameters of L2TP that routers let one set and vrgate does not.
type L2TPFixed struct {
	// Checksums says which UDP checksums of control and data messages are sent: "ipv6", because IPv4 can do without
	// them and ESP protects better.
	Checksums string `json:"checksums"`
	// CallingNumberAVP is whether a call that is handed on says the number that the LAC said, RxSpeedAVP whether it says the
	// receive speed also where it equals the transmit speed.
	CallingNumberAVP bool `json:"calling_number_avp"`
	RxSpeedAVP       bool `json:"rx_speed_avp"`
	// AddressChange is what becomes of an SCCRP from another address or port than was called: "refused".
	AddressChange string `json:"address_change"`
	// FailoverResync is the method of RFC 4951: "off".
	FailoverResync string `json:"failover_resync"`
	// Balancing is how LNSs share the sessions that are handed on.
	Balancing string `json:"balancing"`
}

// L2TPDestination is a LAC, or an LNS that we call, by its address.
type L2TPDestination struct {
	VR string `json:"vr"`
	// Transport is always "udp".
	Transport      string     `json:"transport"`
	Local          netip.Addr `json:"local"`
	Remote         netip.Addr `json:"remote"`
	AdminState     string     `json:"admin_state"`
	EffectiveState string     `json:"effective_state"`
	Tunnels        L2TPCount  `json:"tunnels"`
	Sessions       L2TPCount  `json:"sessions"`
	// Lockout is "not-locked", "waiting" (for the timeout), "waiting-for-test" or "testing", of an LNS that we call.
	Lockout                 string      `json:"lockout"`
	LockoutRemainingSeconds int64       `json:"lockout_remaining_seconds"`
	Control                 L2TPTraffic `json:"control"`
	Payload                 L2TPTraffic `json:"payload"`
}

// L2TPDestinationProfile is a destination profile with its host profiles.
type L2TPDestinationProfile struct {
	VR        string `json:"vr"`
	Name      string `json:"name"`
	Transport string `json:"transport"`
	// LACAddress is 0.0.0.0 or :: for any.
	LACAddress netip.Addr `json:"lac_address"`
	// MaxSessions is 0 for no limit.
	MaxSessions int               `json:"max_sessions"`
	Sessions    int               `json:"sessions"`
	Hosts       []L2TPHostProfile `json:"hosts"`
}

// L2TPHostProfile is a host profile.
type L2TPHostProfile struct {
	// RemoteHost is the LAC's host name, or "default".
	RemoteHost           string     `json:"remote_host"`
	IPsecTransport       bool       `json:"ipsec_transport"`
	SingleShot           bool       `json:"single_shot"`
	InterfaceProfile     string     `json:"interface_profile"`
	LocalAddress         netip.Addr `json:"local_address,omitzero"`
	LocalHost            string     `json:"local_host"`
	TunnelPassword       bool       `json:"tunnel_password"`
	ProxyLCP             bool       `json:"proxy_lcp"`
	ProxyAuthentication  bool       `json:"proxy_authentication"`
	MaxSessions          int        `json:"max_sessions"`
	Sessions             int        `json:"sessions"`
	ReceiveWindow        int        `json:"receive_window"`
	DisconnectCause      bool       `json:"disconnect_cause"`
	HideAVPs             bool       `json:"hide_avps"`
	TolerateUnknownAVPs  bool       `json:"tolerate_unknown_avps"`
	TolerateTunnelIDZero bool       `json:"tolerate_tunnel_id_zero"`
	// ResourceResultCodeOverride is whether CDN says result 2 instead of 4 or 5.
	ResourceResultCodeOverride bool `json:"resource_result_code_override"`
}

// L2TPTunnel is an L2TP tunnel, or the record of one that is over.
type L2TPTunnel struct {
	VR        string `json:"vr"`
	Transport string `json:"transport"`
	LocalID   uint16 `json:"local_id"`
	RemoteID  uint16 `json:"remote_id"`
	// State is idle, connecting, established or disconnecting.
	State          string `json:"state"`
	AdminState     string `json:"admin_state"`
	EffectiveState string `json:"effective_state"`
	// Initiator is "local" or "remote".
	Initiator string         `json:"initiator"`
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote"`
	// Connection is the IPsec connection that carries it, 0 for clear text.
	Connection   uint32 `json:"connection,omitempty"`
	Profile      string `json:"destination_profile"`
	HostProfile  string `json:"host_profile"`
	SingleShot   bool   `json:"single_shot"`
	RemoteHost   string `json:"remote_host,omitempty"`
	RemoteVendor string `json:"remote_vendor,omitempty"`
	// RemoteFirmware is the Firmware Revision AVP in hexadecimal.
	RemoteFirmware string `json:"remote_firmware,omitempty"`
	// Version is the peer's protocol version and revision, such as "1.0".
	Version string `json:"version,omitempty"`
	// Bearer and Framing are the peer's capabilities: analog, digital; async, sync.
	Bearer     string    `json:"bearer,omitempty"`
	Framing    string    `json:"framing,omitempty"`
	Window     uint16    `json:"receive_window"`
	PeerWindow uint16    `json:"peer_window"`
	QueueDepth int       `json:"queue_depth"`
	Ns         uint16    `json:"ns"`
	Nr         uint16    `json:"nr"`
	Sessions   L2TPCount `json:"sessions"`
	// LastResult, LastError and LastMessage are of the last StopCCN.
	LastResult  uint16 `json:"last_result,omitempty"`
	LastError   uint16 `json:"last_error,omitempty"`
	LastMessage string `json:"last_message,omitempty"`
	// Reason is why it is over.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	Ended  time.Time `json:"ended,omitzero"`
	// EstablishedSeconds is how long it is, or was, established.
	EstablishedSeconds int64       `json:"established_seconds"`
	Control            L2TPTraffic `json:"control"`
	Payload            L2TPTraffic `json:"payload"`
	RxZLB              uint64      `json:"rx_zlb"`
	TxZLB              uint64      `json:"tx_zlb"`
	OutOfSequence      uint64      `json:"rx_out_of_sequence"`
	OutOfWindow        uint64      `json:"rx_out_of_window"`
	Duplicates         uint64      `json:"rx_duplicates"`
	Retransmits        uint64      `json:"retransmissions"`
}

// L2TPSession is an L2TP session, or the record of one that is over.
type L2TPSession struct {
	VR             string `json:"vr"`
	LocalTunnel    uint16 `json:"local_tunnel"`
	RemoteTunnel   uint16 `json:"remote_tunnel"`
	LocalID        uint16 `json:"local_id"`
	RemoteID       uint16 `json:"remote_id"`
	State          string `json:"state"`
	AdminState     string `json:"admin_state"`
	EffectiveState string `json:"effective_state"`
	// CallType is "lns-incoming" where the peer called, "lac-incoming" where we hand a session on.
	CallType   string `json:"call_type"`
	SingleShot bool   `json:"single_shot"`
	User       string `json:"user,omitempty"`
	// SwitchedTo is the other call of a session that is handed on, as tunnel/session.
	SwitchedTo string `json:"switched_to,omitempty"`
	RemoteHost string `json:"remote_host,omitempty"`
	CallSerial uint32 `json:"call_serial"`
	// CallingNumber (CLID), CalledNumber (DNIS) and SubAddress are what the LAC says.
	CallingNumber   string `json:"calling_number,omitempty"`
	CalledNumber    string `json:"called_number,omitempty"`
	SubAddress      string `json:"sub_address,omitempty"`
	PrivateGroup    string `json:"private_group,omitempty"`
	PhysicalChannel uint32 `json:"physical_channel"`
	Bearer          string `json:"bearer,omitempty"`
	Framing         string `json:"framing,omitempty"`
	// TxSpeed and RxSpeed are connect speeds in bit/s.
	TxSpeed uint32 `json:"tx_speed"`
	RxSpeed uint32 `json:"rx_speed"`
	// Sequencing is whether data messages carry sequence numbers.
	Sequencing bool `json:"sequencing"`
	ProxyLCP   bool `json:"proxy_lcp"`
	// ProxyAuth is "none", "text", "chap", "pap" or "mschap".
	ProxyAuth string `json:"proxy_auth"`
	// Result, ErrorCode and Message are of the CDN, Reason is why it is over.
	Result             uint16      `json:"result,omitempty"`
	ErrorCode          uint16      `json:"error,omitempty"`
	Message            string      `json:"message,omitempty"`
	Reason             string      `json:"reason,omitempty"`
	Since              time.Time   `json:"since"`
	Ended              time.Time   `json:"ended,omitzero"`
	EstablishedSeconds int64       `json:"established_seconds"`
	Payload            L2TPTraffic `json:"payload"`
	OutOfSequence      uint64      `json:"rx_out_of_sequence"`
}

// L2TPAdminRequest sets an administrative state (A8): of the session if Tunnel and Session are
// given, else of the tunnel, else of the destination, else of the whole virtual router.
type L2TPAdminRequest struct {
	VR          string     `json:"vr"`
	Destination netip.Addr `json:"destination,omitzero"`
	Tunnel      uint16     `json:"tunnel,omitempty"`
	Session     uint16     `json:"session,omitempty"`
	// State is "enabled", "drain" (nothing new, what lives goes on) or "disabled" (what lives is ended too).
	State string `json:"state"`
}

// L2TPAdminResponse says what is ending because of the request.
type L2TPAdminResponse struct {
	Tunnels  int `json:"tunnels"`
	Sessions int `json:"sessions"`
}
