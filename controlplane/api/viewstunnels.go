package api

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Tunnel is a static IPsec tunnel as in `show ipsec tunnel`. Those that are configured are listed whether they are up or not,
// and whether their virtual routers run or not.
type Tunnel struct {
	// VR is the virtual router whose traffic it carries, TransportVR the one whose addresses its outer packets have.
	VR          string `json:"vr"`
	TransportVR string `json:"transport_vr"`
	Name        string `json:"name"`
	// Type is always "signalled": there are no tunnels with keys by hand.
	Type string `json:"type"`
	// Mode is "route", "policy" or "transport"; Start "nailed-up", "on-demand" or "respond".
	Mode    string `json:"mode"`
	Start   string `json:"start"`
	Enabled bool   `json:"enabled"`
	// State is "up", or else what it is doing: "down" (rests until there is traffic, or its peer calls), "waiting" (for RetryAt),
	// "resolving", "queued", "dialling", "checking" (it is there, and the connectivity check has not passed), or "admin-down".
	// Reason says why it is not up and Text what is known beyond that; both are empty if it is up.
	State  string    `json:"state"`
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Text   string    `json:"text,omitempty"`
	// RetryAt is when a waiting tunnel is dialled again, UpSince since when it is up over all changes of its connection, and
	// FallBackAt when the peers before the present one are tried.
	RetryAt    time.Time `json:"retry_at,omitzero"`
	UpSince    time.Time `json:"up_since,omitzero"`
	FallBackAt time.Time `json:"fall_back_at,omitzero"`
	// LocalAddress and RemoteAddress are the endpoints; RemoteAddress is that of the peer it is up with or dials.
	LocalAddress  netip.Addr   `json:"local_address"`
	RemoteAddress netip.Addr   `json:"remote_address,omitzero"`
	Peers         []TunnelPeer `json:"peers"`
	// LocalIdentity and PeerIdentity are configured; PeerIdentity is "any" for any. PeerID is what the peer has shown.
	LocalIdentity string `json:"local_identity"`
	PeerIdentity  string `json:"peer_identity"`
	PeerID        string `json:"peer_id,omitempty"`
	// Authentication is "psk" or "rsa"; Certificate is the name of ours. Aggressive is the mode in which we begin.
	Authentication string `json:"authentication"`
	Certificate    string `json:"certificate,omitempty"`
	Aggressive     bool   `json:"aggressive"`
	// ExtendedAuthentication is our part: "none", "server" or "client"; User is who we are as client.
	ExtendedAuthentication string `json:"extended_authentication"`
	User                   string `json:"user,omitempty"`
	// Transforms in the order of preference; PFS is "none" to leave it to the peer. LifetimeKilobytes is 0 for no bound.
	Transforms        []string `json:"transforms"`
	PFS               string   `json:"pfs"`
	LifetimeSeconds   int64    `json:"lifetime_seconds"`
	LifetimeKilobytes uint64   `json:"lifetime_kilobytes"`
	// DeadPeerDetection is whether the peer is probed; it is always answered.
	DeadPeerDetection bool            `json:"dead_peer_detection"`
	Networks          []TunnelNetwork `json:"networks"`
	// Interface is that of mode route.
	Interface TunnelInterface `json:"interface,omitzero"`
	// KernelReason says why the tunnel's objects in the kernel are not as configured, KernelText what to do; empty if they are.
	KernelReason string `json:"kernel_reason,omitempty"`
	KernelText   string `json:"kernel_text,omitempty"`
	// Connection carries the traffic, 0 if none does; OtherConnections are there beside it for a while.
	Connection       uint32   `json:"connection"`
	OtherConnections []uint32 `json:"other_connections"`
	// Initiator is whether we have dialled. Proposal is phase 1 in words, Peer the other end's implementation.
	Initiator        bool   `json:"initiator"`
	Proposal         string `json:"proposal,omitempty"`
	Peer             string `json:"peer,omitempty"`
	NATPeer          bool   `json:"nat_peer"`
	NATLocal         bool   `json:"nat_local"`
	UDPEncapsulation bool   `json:"udp_encapsulation"`
	// Rekeys and Phase1Rekeys count replaced SAs of the present connection.
	Rekeys       uint64      `json:"rekeys"`
	Phase1Rekeys uint64      `json:"phase1_rekeys"`
	Check        TunnelCheck `json:"check,omitzero"`
	// Attempts counts dials and Ups how often the tunnel has come up; FallOvers, FallBacks and Moves how often it has gone on to
	// another peer, come back to one before it in the list, and followed its peer to another address, of its name or of the NAT
	// before it. FailedRounds is how often in a row no peer could be reached.
	Attempts     uint64 `json:"attempts"`
	Ups          uint64 `json:"ups"`
	FallOvers    uint64 `json:"fall_overs"`
	FallBacks    uint64 `json:"fall_backs"`
	Moves        uint64 `json:"moves"`
	FailedRounds int    `json:"failed_rounds"`
	// Failures counts dials that failed, connections that ended and pairs of networks that were lost or refused, by reason.
	// LastFailure is the last of the dials and connections.
	Failures    map[string]uint64 `json:"failures"`
	LastFailure TunnelFailure     `json:"last_failure,omitzero"`
	// Inside is what has gone through the interface since it was made; modes policy and transport have none. Outside is what
	// the SAs of all connections of the tunnel have carried, encapsulated.
	Inside  TunnelTraffic `json:"inside"`
	Outside TunnelTraffic `json:"outside"`
	// Errors of the SAs that live.
	AuthErrors   uint64 `json:"auth_errors"`
	ReplayErrors uint64 `json:"replay_errors"`
}

// TunnelPeer is one of the other ends that a static tunnel may have, the primary first.
type TunnelPeer struct {
	// Peer is an address, or a name that Addresses are looked up of; Reason and Text say why that failed last.
	Peer      string       `json:"peer"`
	Addresses []netip.Addr `json:"addresses"`
	Resolved  time.Time    `json:"resolved,omitzero"`
	Reason    string       `json:"reason,omitempty"`
	Text      string       `json:"text,omitempty"`
}

// TunnelNetwork is a pair of networks that a static tunnel joins.
type TunnelNetwork struct {
	Name string `json:"name"`
	// Local and Remote are without meaning in mode transport. Protocol and ports are 0 for any.
	Local      netip.Prefix `json:"local,omitzero"`
	Remote     netip.Prefix `json:"remote,omitzero"`
	Protocol   uint8        `json:"protocol"`
	LocalPort  uint16       `json:"local_port"`
	RemotePort uint16       `json:"remote_port"`
	// State is "up" if the connection that carries the tunnel has SAs in both directions for the pair, else "down".
	State string `json:"state"`
	// Reason says why a pair is missing while the tunnel is up, Text what is known beyond that.
	Reason string `json:"reason,omitempty"`
	Text   string `json:"text,omitempty"`
	// Inbound and Outbound are the SAs of the connection that carries the tunnel.
	Inbound  []IPsecSA `json:"inbound"`
	Outbound []IPsecSA `json:"outbound"`
}

// TunnelInterface is the interface of a static tunnel.
type TunnelInterface struct {
	Name string `json:"name"`
	// Index is 0 while it is not there; MTU in bytes, as configured.
	Index     int            `json:"index"`
	MTU       int            `json:"mtu"`
	Addresses []netip.Prefix `json:"addresses"`
	Routes    []LinkRoute    `json:"routes"`
	// WithdrawRoutes takes the routes away while the tunnel is not up.
	WithdrawRoutes bool `json:"withdraw_routes"`
}

// TunnelCheck is what asking a host behind a static tunnel has found.
type TunnelCheck struct {
	Target netip.Addr `json:"target"`
	Source netip.Addr `json:"source,omitzero"`
	// TCPPort is 0 for ICMP echo.
	TCPPort uint16 `json:"tcp_port"`
	// OK is the last result, At when it came: the zero time for none yet. Text says what went wrong.
	OK         bool      `json:"ok"`
	At         time.Time `json:"at,omitzero"`
	RTTSeconds float64   `json:"rtt_seconds"`
	Text       string    `json:"text,omitempty"`
	// Failed counts failures in a row, of which Tolerance take the tunnel down.
	Failed    int    `json:"failed"`
	Tolerance int    `json:"tolerance"`
	Sent      uint64 `json:"sent"`
	Lost      uint64 `json:"lost"`
}

// TunnelFailure is a dial that failed, or a connection that ended.
type TunnelFailure struct {
	At time.Time `json:"at"`
	// Peer is an address or a name.
	Peer   string `json:"peer,omitempty"`
	Reason string `json:"reason"`
	Text   string `json:"text,omitempty"`
}

// TunnelTraffic counts packets and bytes; in is what we have received.
type TunnelTraffic struct {
	InPackets  uint64 `json:"in_packets"`
	InBytes    uint64 `json:"in_bytes"`
	OutPackets uint64 `json:"out_packets"`
	OutBytes   uint64 `json:"out_bytes"`
	// Errors and drops are the interface's.
	InErrors  uint64 `json:"in_errors"`
	InDrops   uint64 `json:"in_drops"`
	OutErrors uint64 `json:"out_errors"`
	OutDrops  uint64 `json:"out_drops"`
}

// TunnelCounts are the static tunnels of a virtual router, by its outer addresses.
type TunnelCounts struct {
	Configured int `json:"configured"`
	Up         int `json:"up"`
}

// TunnelCommand is a word of the operator about a static tunnel.
type TunnelCommand string

// The words.
const (
	// TunnelUp lifts TunnelDown and dials; of a tunnel that is not down it is TunnelNow.
	TunnelUp TunnelCommand = "up"
	// TunnelDown hangs up, and neither dials nor answers until TunnelUp, or until a reload changes the tunnel.
	TunnelDown TunnelCommand = "down"
	// TunnelNow ends a pause after failures.
	TunnelNow TunnelCommand = "now"
)

// TunnelRequest is a word about the static tunnel of that name.
type TunnelRequest struct {
	Tunnel  string        `json:"tunnel"`
	Command TunnelCommand `json:"command"`
}

// ReasonRefused: the tunnel cannot do what it was told.
const ReasonRefused Reason = "refused"

// tell passes a word of the operator on.
func (s *Server) tell(r *http.Request) (any, error) {
	var q TunnelRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return nil, badRequest("the request is not one about a tunnel: " + err.Error())
	}
	switch {
	case q.Tunnel == "":
		return nil, badRequest("say about which tunnel: tunnel")
	case q.Command != TunnelUp && q.Command != TunnelDown && q.Command != TunnelNow:
		return nil, badRequest("the words about a tunnel are up, down and now")
	}
	if err := s.source.TellTunnel(r.Context(), q); err != nil {
		return nil, err
	}
	s.log.Info("word about a static tunnel", zap.String("tunnel", q.Tunnel), zap.String("command", string(q.Command)))
	return struct{}{}, nil
}
