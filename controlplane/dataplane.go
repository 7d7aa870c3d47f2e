package controlplane

import (
	"errors"
	"net"
	"net/netip"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// Kernel opens virtual routers in the kernel. cmd/vrgate implements it with the packages
// xfrm, l2tpnl, vr and pppd/unit, test/fakekernel in memory.
type Kernel interface {
	// Open brings the virtual router into its desired state, removes what a crashed
	// predecessor left of ours, and starts to feed in. It returns a *DataplaneError
	// when something is missing.
	Open(cfg *config.Config, router *config.Router, in Inlet) (Dataplane, error)
}

// Dataplane is one virtual router in the kernel. Calls may block for an RCU grace period
// and come from several goroutines at once, but never two at a time about the same
// connection, or the same tunnel and its sessions; Send… do not block. An error is a
// *DataplaneError, and everything of the failed attempt is undone.
type Dataplane interface {
	SendIKE(ike.Send) error
	InstallSA(ike.SA) error
	RemoveSA(ike.RemoveSA) error
	// MoveConn re-addresses a connection's SAs.
	MoveConn(ike.MoveConn) error

	// OpenTunnel opens a tunnel's UDP socket; ErrPortInUse asks for another tunnel id.
	OpenTunnel(l2tp.OpenSocket) error
	SendTunnel(l2tp.Send) error
	Refuse(l2tp.Refuse) error
	// CloseTunnel closes the socket once the tunnel's sessions are closed.
	CloseTunnel(l2tp.TunnelID) error

	// OpenSession makes L2TP session, PPP channel and unit, without traffic. It returns
	// the interface's name and index.
	OpenSession(subscriber.OpenSession) (name string, ifindex int, err error)
	SendFrame(subscriber.SendFrame) error
	Activate(subscriber.Activate) error
	Deactivate(subscriber.ID) error
	// CloseSession removes the session's kernel objects and returns the final counters.
	CloseSession(subscriber.ID) (subscriber.Counters, error)
	// SessionCounters reads the counters of a live session.
	SessionCounters(subscriber.ID) (subscriber.Counters, bool)
	// SACounters reads bytes and packets of SAs by SPI.
	SACounters() (map[SAKey]SACounters, error)

	AccessPlane
	TrafficPlane
	SwitchPlane
	LinkPlane
	TunnelPlane
	Reconfigurable

	// Drops counts the packets that the kernel dropped by our rules, by reason.
	Drops() (map[string]uint64, error)
	// IPsecErrors reads what the kernel counts of IPsec errors in the router's namespace, in the kernel's order and with its names.
	IPsecErrors() ([]IPsecError, error)
	// Repair puts back what somebody else has removed of our rules, addresses and policies.
	Repair() error

	// Close removes everything of ours from the virtual router.
	Close() error
}

// AccessPlane is the part of a Dataplane that dynamic subscribers need.
type AccessPlane interface {
	// OpenAccess makes the policies and the access route of a dynamic subscriber; the SAs of
	// its connection follow. It returns the name and index of the XFRM interface.
	OpenAccess(subscriber.OpenAccess) (name string, ifindex int, err error)
	// CloseAccess removes them and returns the final counters: the sums over all SAs that the
	// connection has had.
	CloseAccess(subscriber.ID) (subscriber.Counters, error)
	// Traffic sums up the traffic of a connection's SAs since it began, those that are gone
	// included; false when there is no such connection.
	Traffic(ike.ConnID) (subscriber.Counters, bool)
}

// TrafficPlane shapes and filters what subscribers send and receive.
type TrafficPlane interface {
	// SetTraffic replaces rates and policies of a live session; on failure the old ones hold.
	SetTraffic(subscriber.SetTraffic) error
	// ListenUDP opens a UDP socket in the virtual router, for RADIUS. Port 0: any; an
	// unspecified address: any of the virtual router.
	ListenUDP(local netip.AddrPort) (*net.UDPConn, error)
}

// SwitchPlane hands sessions on to other LNSs inside the kernel, and counts what L2TP carries. Of the two tunnels of a bridge
// others may make use at the same time.
type SwitchPlane interface {
	// Bridge makes the kernel objects of two calls, whose tunnels are open, and joins their PPP channels. Frames that the kernel
	// receives before it has done so are lost or come up. SessionCounters then reads the near call's.
	Bridge(subscriber.Bridge) error
	// CloseBridge removes them and returns the final counters, in from the near call. Tunnels that were to be closed
	// meanwhile are closed with their last call.
	CloseBridge(subscriber.ID) (subscriber.Counters, error)
	// CallTraffic reads what the kernel has counted on one call's L2TP session; false if it has none.
	CallTraffic(subscriber.CallKey) (CallTraffic, bool)
}

// CallTraffic is the kernel's count of one L2TP session: payload octets with their L2TP headers.
type CallTraffic struct {
	RxOctets, RxPackets, RxErrors, RxDiscards, RxOutOfSequence uint64
	TxOctets, TxPackets, TxErrors                              uint64
}

// Reconfigurable is a Dataplane that takes over a changed configuration without touching live sessions. False: something has
// changed that only closing and opening again can bring (server addresses, namespace, VRF). With an error the old
// configuration holds.
type Reconfigurable interface {
	// Reconfigure takes over all that cfg says about router; the new policies hold for sessions from their next OpenSession,
	// OpenAccess or SetTraffic.
	Reconfigure(cfg *config.Config, router *config.Router) (ok bool, err error)
}

// SAKey names one of our SAs.
type SAKey struct {
	Dir ike.Direction
	SPI uint32
}

// SACounters are an SA's traffic and errors as the kernel counts them.
type SACounters struct {
	Bytes, Packets     uint64
	Replay, AuthFailed uint64
}

// IPsecError is how often something went wrong in a namespace, by the kernel's name for it, such as XfrmInNoPols.
type IPsecError struct {
	Name  string
	Value uint64
}

// Inlet takes what comes up from the kernel. No method blocks: packets are dropped and
// counted when the router cannot keep up. Data is copied where it is kept.
type Inlet interface {
	IKEPacket(local, remote netip.AddrPort, marker bool, data []byte)
	// L2TPPacket: socket is 0 for the 1701 listener; conn the number of the IPsec
	// connection that carried it, 0 for clear text.
	L2TPPacket(socket l2tp.TunnelID, local, remote netip.AddrPort, conn l2tp.ConnID, data []byte)
	// PPPFrame is a frame, protocol first, from a session's channel or unit.
	PPPFrame(call subscriber.CallKey, frame []byte)
	SAExpired(spi uint32, dir ike.Direction, hard bool)
	PeerMoved(inboundSPI uint32, remote netip.AddrPort)
	// IPsecMissing says that somebody has removed so many SAs and policies from the kernel. The policies are there again; of each SA
	// SAExpired tells.
	IPsecMissing(sas, policies int)
	// SessionLost says that a session's interface has gone behind our back.
	SessionLost(id subscriber.ID)
	// LinkChanged says that a link to the private network has come, gone or changed for a while.
	LinkChanged(LinkState)
	// TunnelWanted says that the kernel has a packet for a static tunnel that no connection carries.
	TunnelWanted(tunnel string)
}

// ErrPortInUse says that a tunnel id cannot be used as a port.
var ErrPortInUse = errors.New("tunnel id is in use as a UDP port")

// DataplaneError is a failed kernel operation: a typed reason for log, API and accounting,
// and a sentence that says what to do.
type DataplaneError struct {
	Reason subscriber.Reason
	Text   string
	Err    error
}

// Error returns the sentence and the cause.
func (e *DataplaneError) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *DataplaneError) Unwrap() error { return e.Err }

// reasonOf turns any error of a Dataplane into reason and text.
func reasonOf(err error) (subscriber.Reason, string) {
	var d *DataplaneError
	if errors.As(err, &d) {
		return d.Reason, d.Error()
	}
	return subscriber.ReasonKernel, err.Error()
}
