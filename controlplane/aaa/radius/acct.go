package radius

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
)

// AcctKind is what a record reports: the values of Acct-Status-Type (RFC 2866 section 5.1).
type AcctKind uint32

// The kinds.
const (
	AcctStart   AcctKind = 1
	AcctStop    AcctKind = 2
	AcctInterim AcctKind = 3
	AcctOn      AcctKind = 7 // a virtual router has begun: it has no sessions
	AcctOff     AcctKind = 8 // it ends, and all its sessions have
)

// String returns FreeRADIUS' name of the kind.
func (k AcctKind) String() string {
	switch k {
	case AcctStart:
		return "Start"
	case AcctStop:
		return "Stop"
	case AcctInterim:
		return "Interim-Update"
	case AcctOn:
		return "Accounting-On"
	case AcctOff:
		return "Accounting-Off"
	}
	return fmt.Sprintf("status %d", uint32(k))
}

// AcctRecord is all that an accounting record says. The same record always becomes the same bytes.
type AcctRecord struct {
	Kind AcctKind
	NAS  NAS
	// At is when it happened (Event-Timestamp). Acct-Delay-Time follows from it; the client adds that.
	At time.Time
	// Session is the Acct-Session-Id; of an AcctOn or AcctOff one of its own, or empty.
	Session string
	// Router is the virtual router where the subscriber arrived, Terminating where its traffic is; empty: the same.
	Router, Terminating string
	User                string
	Access              aaa.Access
	Protocol            aaa.Protocol
	Call                [2]uint16 // L2TP tunnel and session, by our identifiers
	Conn                uint32
	// Local and Remote are the outer addresses and ports, Remote as its NAT has mapped it.
	Local, Remote netip.AddrPort
	PeerHost      string
	LocalHost     string
	Peer          string
	PeerID        string
	// What the LAC has said about the call; speeds are bit/s, 0: nothing.
	CallingNumber, CalledNumber string
	TxSpeed, RxSpeed            uint32
	// Server is the LNS to which the session was handed on, Far the call there, by our identifiers; zero: it ends here.
	Server  netip.Addr
	Far     [2]uint16
	Address netip.Addr
	Netmask netip.Addr // zero: 255.255.255.255 (R7)
	// InPolicy and OutPolicy are the traffic policies that hold.
	InPolicy, OutPolicy string
	Class               [][]byte // as the accept had them (R7), at most aaa.MaxClasses
	// Duration and the counters are of AcctInterim and AcctStop. In is from the subscriber.
	Duration              time.Duration
	InBytes, OutBytes     uint64
	InPackets, OutPackets uint64
	// Cause is the Acct-Terminate-Cause of AcctStop and AcctOff (R9, R10), 0: none. Reason and Text are ours.
	Cause        uint32
	Reason, Text string
	// Disconnect is the RFC 3145 cause of an L2TP session's end; zero: none.
	Disconnect DisconnectCause
}

// DisconnectCause is what RFC 3145 section 2 tells of the end of a PPP link.
type DisconnectCause struct {
	Code      uint16
	Protocol  uint16
	Direction uint8
}

// authenticRADIUS is the only value of Acct-Authentic in use (R9).
const authenticRADIUS = 1

// acctAuthTypes are the values of MS-Acct-Auth-Type (RFC 2548 section 2.7.6).
var acctAuthTypes = map[aaa.Protocol]uint32{aaa.PAP: 1, aaa.CHAPMD5: 2, aaa.MSCHAPv2: 4, aaa.EAP: 5}

// AccountingAttributes encodes a record (R7, R8, R9). What is needed to know the session again comes first: should all
// not fit into one packet, the words at the end are missing.
//
// Connect-Info of a stop begins with our reason, where FreeRADIUS' tables keep it (connectinfo_stop); in all other records, and
// as the second of a stop, it says what the connection is.
func AccountingAttributes(a AcctRecord) rad.Attributes {
	p := newPacker()
	p.number(typeAcctStatusType, uint32(a.Kind))
	p.text(typeAcctSessionID, a.Session)
	if !a.At.IsZero() {
		p.number(typeEventTimestamp, seconds(a.At.Unix()))
	}
	a.NAS.pack(p, a.Access, a.Remote.Addr())
	if a.Kind == AcctOn || a.Kind == AcctOff {
		p.vendorText(Attribute{vendorERX, erxVirtualRouter}, a.Router)
		a.packCause(p)
		return p.out
	}
	l := line{
		Router: a.Router, Access: a.Access, Proven: a.Protocol == aaa.Proven, Call: a.Call, Conn: a.Conn,
		Local: a.Local, Remote: a.Remote, PeerHost: a.PeerHost, LocalHost: a.LocalHost, Peer: a.Peer, PeerID: a.PeerID, CallingNumber: a.CallingNumber,
		CalledNumber: a.CalledNumber, TxSpeed: a.TxSpeed, RxSpeed: a.RxSpeed,
	}
	if a.Terminating != "" {
		l.Router = a.Terminating // JunosE: the router of the user's interface
	}
	p.add(typeUserName, []byte(a.User))
	for _, c := range a.Class[:min(len(a.Class), aaa.MaxClasses)] {
		p.add(typeClass, c)
	}
	p.number(typeAcctAuthentic, authenticRADIUS)
	p.number(typeServiceType, serviceFramed)
	if l.l2tp() {
		p.number(typeFramedProtocol, framedPPP)
	}
	a.packAddress(p)
	if a.Kind != AcctStart {
		a.packTraffic(p)
	}
	if a.Kind == AcctStop {
		a.packCause(p)
	}
	l.packPort(p)
	l.packTunnel(p)
	l.packConnection(p)
	a.packFar(p)
	if n := acctAuthTypes[a.Protocol]; n != 0 {
		p.vendorNumber(Attribute{vendorMicrosoft, msAcctAuthType}, n)
	}
	p.vendorText(Attribute{vendorERX, erxIngressPolicy}, a.InPolicy)
	p.vendorText(Attribute{vendorERX, erxEgressPolicy}, a.OutPolicy)
	p.text(typeConnectInfo, l.connectInfo())
	return p.out
}

// EncodeAttributes writes attributes one behind the other, as the journal keeps them and Client.Account takes them.
// Values of more than 253 bytes, which AccountingAttributes never has, are left out.
func EncodeAttributes(attributes rad.Attributes) []byte {
	var b []byte
	for _, a := range attributes {
		if len(a.Attribute) <= maxValue {
			b = append(append(b, uint8(a.Type), uint8(2+len(a.Attribute))), a.Attribute...)
		}
	}
	return b
}

// farTag is the tag of the tunnel through which a session goes on to another LNS; the one through which it came has none.
const farTag = 1

// packFar says where a session goes on to (tunnel switching).
func (a *AcctRecord) packFar(p *packer) {
	if !a.Server.IsValid() {
		return
	}
	server := a.Server.Unmap()
	p.tagNumber(typeTunnelType, farTag, tunnelL2TP)
	p.tagNumber(typeTunnelMediumType, farTag, mediumOf(server))
	p.text(typeTunnelServer, string(rune(farTag))+server.String())
	p.vendorText(Attribute{vendorERX, erxTunnelInterface}, fmt.Sprintf("l2tp peer %s tunnel %d session %d", server, a.Far[0], a.Far[1]))
}

func (a *AcctRecord) packAddress(p *packer) {
	if !a.Address.Unmap().Is4() {
		return
	}
	mask := a.Netmask
	if !mask.IsValid() {
		mask = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	p.address(typeFramedIPAddress, a.Address)
	p.address(typeFramedIPNetmask, mask)
}

// packTraffic adds time and counters. What 32 bits cannot hold of octets is in gigawords (RFC 2869 section 5.1), of
// packets in JunosE's gigapackets, which few sessions have.
func (a *AcctRecord) packTraffic(p *packer) {
	p.number(typeAcctSessionTime, seconds(int64(a.Duration/time.Second)))
	p.number(typeAcctInputOctets, uint32(a.InBytes))
	p.number(typeAcctOutputOctets, uint32(a.OutBytes))
	p.number(typeAcctInputGigawords, uint32(a.InBytes>>32))
	p.number(typeAcctOutputGigawords, uint32(a.OutBytes>>32))
	p.number(typeAcctInputPackets, uint32(a.InPackets))
	p.number(typeAcctOutputPackets, uint32(a.OutPackets))
	if n := uint32(a.InPackets >> 32); n != 0 {
		p.vendorNumber(Attribute{vendorERX, erxInputGigapkts}, n)
	}
	if n := uint32(a.OutPackets >> 32); n != 0 {
		p.vendorNumber(Attribute{vendorERX, erxOutputGigapkts}, n)
	}
}

// packCause says why it ended: by number, as the AVP of RFC 3145 without its header, and in words.
func (a *AcctRecord) packCause(p *packer) {
	if a.Cause != 0 {
		p.number(typeAcctTerminateCause, a.Cause)
	}
	if c := a.Disconnect; c != (DisconnectCause{}) {
		b := binary.BigEndian.AppendUint16(nil, c.Code)
		b = binary.BigEndian.AppendUint16(b, c.Protocol)
		p.vendor(Attribute{vendorERX, erxDisconnectCause}, append(b, c.Direction))
	}
	words := a.Reason
	if a.Text != "" && a.Text != a.Reason {
		words += ": " + a.Text
	}
	p.text(typeConnectInfo, shown(words))
}

// seconds brings a number of seconds into 32 bits.
func seconds(n int64) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }
