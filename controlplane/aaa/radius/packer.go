package radius

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
)

// Lengths of values, in bytes.
const (
	maxValue       = 253
	maxVendorValue = maxValue - 4 - 2
	// packetRoom is what attributes may fill, with what the client adds: header, Message-Authenticator, User-Password,
	// Acct-Delay-Time.
	packetRoom = MaxPacket - 20 - 18 - (2 + MaxPassword) - 6
)

// packer puts attributes one behind the other while there is room; what comes first is what must not be missing.
type packer struct {
	out  rad.Attributes
	room int
}

func newPacker() *packer { return &packer{room: packetRoom} }

// add appends an attribute. Empty values are left out (RFC 2865 section 5: they must not be sent), longer ones are cut.
func (p *packer) add(t rad.Type, v []byte) {
	v = v[:min(len(v), maxValue)]
	if len(v) == 0 || 2+len(v) > p.room {
		return
	}
	p.room -= 2 + len(v)
	p.out = append(p.out, &rad.AVP{Type: t, Attribute: v})
}

func (p *packer) text(t rad.Type, s string) { p.add(t, []byte(cut(s, maxValue))) }

func (p *packer) number(t rad.Type, n uint32) { p.add(t, binary.BigEndian.AppendUint32(nil, n)) }

// tagNumber appends a number of 24 bits with a tag (RFC 2868 section 3.1).
func (p *packer) tagNumber(t rad.Type, tag uint8, n uint32) {
	p.number(t, uint32(tag)<<24|n&0xffffff)
}

// tagged appends a text that may have a tag (RFC 2868): none, unless the text itself begins like one.
func (p *packer) tagged(t rad.Type, s string) {
	if s != "" && s[0] <= maxTag {
		s = "\x00" + s
	}
	p.text(t, s)
}

// address appends an IPv4 address.
func (p *packer) address(t rad.Type, a netip.Addr) {
	if a = a.Unmap(); a.Is4() {
		p.add(t, a.AsSlice())
	}
}

// vendor appends a Vendor-Specific with one attribute.
func (p *packer) vendor(a Attribute, v []byte) {
	v = v[:min(len(v), maxVendorValue)]
	if len(v) == 0 {
		return
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 6+len(v)), a.Vendor)
	p.add(typeVendorSpecific, append(append(b, a.Type, uint8(2+len(v))), v...))
}

func (p *packer) vendorText(a Attribute, s string) { p.vendor(a, []byte(cut(s, maxVendorValue))) }

func (p *packer) vendorNumber(a Attribute, n uint32) {
	p.vendor(a, binary.BigEndian.AppendUint32(nil, n))
}

// NAS is who we are for servers.
type NAS struct {
	Identifier string     // NAS-Identifier, at most 253 bytes; empty: not sent
	Address    netip.Addr // NAS-IP-Address or NAS-IPv6-Address; zero: not sent
	// ClientEndpoint sends the address of the L2TP client, or of the LAC, in its place (R12).
	ClientEndpoint bool
}

func (n NAS) pack(p *packer, access aaa.Access, client netip.Addr) {
	p.text(typeNASIdentifier, n.Identifier)
	a := n.Address.Unmap()
	if client = client.Unmap(); n.ClientEndpoint && overL2TP(access) && client.IsValid() {
		a = client
	}
	if a.Is6() {
		p.add(typeNASIPv6Address, a.AsSlice())
	}
	p.address(typeNASIPAddress, a)
}

// line is how a subscriber came to us, as requests and accounting tell it alike.
type line struct {
	Router        string
	Access        aaa.Access
	Proven        bool      // by phase 1 alone
	Call          [2]uint16 // L2TP tunnel and session
	Conn          uint32
	Local, Remote netip.AddrPort
	PeerHost      string
	LocalHost     string
	Peer          string
	PeerID        string
	// What the LAC has said about the call; speeds are bit/s, 0: nothing.
	CallingNumber, CalledNumber string
	TxSpeed, RxSpeed            uint32
}

func (l line) l2tp() bool { return overL2TP(l.Access) }

func overL2TP(a aaa.Access) bool { return a == aaa.AccessL2TP || a == aaa.AccessL2TPIPsec }

// The values of attributes of RFC 2865, 2868 and 2869 that never change here.
const (
	portVirtual = 5
	tunnelL2TP  = 3
	tunnelESP   = 9
	mediumIPv4  = 1
	mediumIPv6  = 2
)

// packPort says on which port the subscriber is. There is no hardware: the number is unique among the virtual router's
// sessions of its kind, tunnel and session of L2TP or the IPsec connection.
//
// Calling-Station-Id is the calling number or else the peer's outer address, Called-Station-Id the called number or else the
// address called: so that a server can tell customers apart, and hosts that guess passwords.
func (l line) packPort(p *packer) {
	p.number(typeNASPortType, portVirtual)
	if l.l2tp() {
		p.number(typeNASPort, uint32(l.Call[0])<<16|uint32(l.Call[1]))
		p.text(typeNASPortID, fmt.Sprintf("l2tp:%d.%d", l.Call[0], l.Call[1]))
	} else {
		p.number(typeNASPort, l.Conn)
		p.text(typeNASPortID, fmt.Sprintf("ipsec:%d", l.Conn))
	}
	switch {
	case l.CallingNumber != "":
		p.text(typeCallingStationID, l.CallingNumber)
	case l.Remote.IsValid():
		p.text(typeCallingStationID, l.Remote.Addr().Unmap().String())
	}
	switch {
	case l.CalledNumber != "":
		p.text(typeCalledStationID, l.CalledNumber)
	case l.Local.IsValid():
		p.text(typeCalledStationID, l.Local.Addr().Unmap().String())
	}
}

// packTunnel describes the tunnel (RFC 2868). The peer's address is as we see it, behind its NAT; the port that the NAT
// gave it is in ERX-Tunnel-Interface-Id and, for servers without that dictionary, in Connect-Info.
func (l line) packTunnel(p *packer) {
	if l.l2tp() {
		p.number(typeTunnelType, tunnelL2TP)
	} else {
		p.number(typeTunnelType, tunnelESP)
	}
	if l.Remote.IsValid() && l.Local.IsValid() {
		p.number(typeTunnelMediumType, mediumOf(l.Remote.Addr()))
		p.tagged(typeTunnelClient, l.Remote.Addr().Unmap().String())
		p.tagged(typeTunnelServer, l.Local.Addr().Unmap().String())
	}
	if l.l2tp() {
		p.tagged(typeTunnelClientAuthID, l.PeerHost)
		p.tagged(typeTunnelServerAuthID, l.LocalHost)
	} else {
		p.tagged(typeTunnelClientAuthID, l.PeerID)
	}
	p.vendorText(Attribute{vendorERX, erxVirtualRouter}, l.Router)
	where := fmt.Sprintf("connection %d", l.Conn)
	name := "ipsec"
	if l.l2tp() {
		name, where = "l2tp", fmt.Sprintf("tunnel %d session %d", l.Call[0], l.Call[1])
	}
	if l.Remote.IsValid() && l.Local.IsValid() {
		p.vendorText(Attribute{vendorERX, erxTunnelInterface}, fmt.Sprintf("%s local %s peer %s %s", name, l.Local, l.Remote, where))
	}
}

// packConnection names the call, or the IPsec connection, in which the session is: Acct-Tunnel-Connection of RFC 2867
// section 4.1, which JunosE puts into Access-Requests too.
func (l line) packConnection(p *packer) {
	if l.l2tp() {
		p.text(typeTunnelConnection, fmt.Sprintf("%04x%04x", l.Call[0], l.Call[1]))
	} else {
		p.text(typeTunnelConnection, fmt.Sprintf("%08x", l.Conn))
	}
}

// speeds is what a LAC has said of the access line, as JunosE writes it: "TX" in bit/s, towards the subscriber, or "TX/RX"
// where the other direction has another speed. Empty: nothing.
func (l line) speeds() string {
	switch {
	case l.TxSpeed == 0 && l.RxSpeed == 0:
		return ""
	case l.RxSpeed == 0 || l.RxSpeed == l.TxSpeed:
		return fmt.Sprint(l.TxSpeed)
	}
	return fmt.Sprintf("%d/%d", l.TxSpeed, l.RxSpeed)
}

// connectInfo says in words what the connection is, after its speeds.
func (l line) connectInfo() string {
	s := "XAuth"
	switch {
	case l.Access == aaa.AccessL2TP:
		s = "L2TP"
	case l.Access == aaa.AccessL2TPIPsec:
		s = "L2TP/IPsec"
	case l.Proven:
		s = "IPsec"
	}
	if l.Remote.IsValid() {
		s += " " + l.Remote.String()
	}
	if l.Peer != "" {
		s += " " + shown(l.Peer)
	}
	if speeds := l.speeds(); speeds != "" {
		s = speeds + " " + s
	}
	return s
}
