package radius

import (
	"cmp"
	"fmt"
)

// Attribute names a kind of attribute: Vendor is the vendor's enterprise number, 0 for the standard attributes. Type 0
// stands for all of a vendor that is not known here.
type Attribute struct {
	Vendor uint32
	Type   uint8
}

// String returns the name that FreeRADIUS has for it, or its numbers where it is not known here.
func (a Attribute) String() string {
	switch d := table[a]; {
	case d != nil:
		return d.name
	case a.Vendor == 0:
		return fmt.Sprintf("attribute %d", a.Type)
	case a.Type == 0:
		return fmt.Sprintf("vendor %d", a.Vendor)
	}
	return fmt.Sprintf("vendor %d type %d", a.Vendor, a.Type)
}

// compare orders attributes by vendor and type.
func (a Attribute) compare(b Attribute) int {
	return cmp.Or(cmp.Compare(a.Vendor, b.Vendor), cmp.Compare(a.Type, b.Type))
}

// The vendors whose attributes are used.
const (
	vendorCisco          = 9
	vendorMicrosoft      = 311  // RFC 2548
	vendorAscend         = 529  //
	vendorASA            = 3076 // Altiga: Cisco VPN 3000, later ASA
	vendorERX            = 4874 // Juniper, formerly Unisphere
	vendorRoaringPenguin = 10055
	vendorWISPr          = 14122
	vendorMikrotik       = 14988
)

// The standard attributes that code refers to (RFC 2865, 2866, 2868, 2869, 3162, 3579).
const (
	typeUserName            = 1
	typeCHAPPassword        = 3
	typeNASIPAddress        = 4
	typeNASPort             = 5
	typeServiceType         = 6
	typeFramedProtocol      = 7
	typeFramedIPAddress     = 8
	typeFramedIPNetmask     = 9
	typeFilterID            = 11
	typeFramedMTU           = 12
	typeReplyMessage        = 18
	typeFramedRoute         = 22
	typeState               = 24
	typeClass               = 25
	typeVendorSpecific      = 26
	typeSessionTimeout      = 27
	typeIdleTimeout         = 28
	typeCalledStationID     = 30
	typeCallingStationID    = 31
	typeNASIdentifier       = 32
	typeProxyState          = 33
	typeAcctStatusType      = 40
	typeAcctInputOctets     = 42
	typeAcctOutputOctets    = 43
	typeAcctSessionID       = 44
	typeAcctAuthentic       = 45
	typeAcctSessionTime     = 46
	typeAcctInputPackets    = 47
	typeAcctOutputPackets   = 48
	typeAcctTerminateCause  = 49
	typeAcctInputGigawords  = 52
	typeAcctOutputGigawords = 53
	typeEventTimestamp      = 55
	typeCHAPChallenge       = 60
	typeNASPortType         = 61
	typeTunnelType          = 64
	typeTunnelMediumType    = 65
	typeTunnelClient        = 66
	typeTunnelServer        = 67
	typeTunnelConnection    = 68
	typeTunnelPassword      = 69
	typePrompt              = 76
	typeConnectInfo         = 77
	typeEAPMessage          = 79
	typeMessageAuth         = 80
	typeTunnelGroup         = 81
	typeTunnelAssignment    = 82
	typeTunnelPreference    = 83
	typeInterimInterval     = 85
	typeNASPortID           = 87
	typeFramedPool          = 88
	typeTunnelClientAuthID  = 90
	typeTunnelServerAuthID  = 91
	typeNASIPv6Address      = 95
	typeFramedIPv6Prefix    = 97
	typeDelegatedIPv6Prefix = 123
)

// The vendors' attributes that code refers to; what they mean is said at the rules of grants.go.
const (
	msCHAPError     = 2
	msCHAPChallenge = 11
	msAcctAuthType  = 23
	msCHAP2Response = 25
	msCHAP2Success  = 26

	erxVirtualRouter   = 1
	erxTunnelPassword  = 9
	erxIngressPolicy   = 10
	erxEgressPolicy    = 11
	erxMaxSessions     = 33
	erxInputGigapkts   = 42
	erxOutputGigapkts  = 43
	erxTunnelInterface = 44
	erxDisconnectCause = 51
	erxTunnelGroup     = 64
	erxServiceInterim  = 140

	asaSplitPolicy = 55
	asaSplitList   = 27
)

// kind is how an attribute's value is encoded.
type kind uint8

const (
	octets     kind = iota // any bytes
	text                   // characters
	integer                // 32 bits
	address                // an IPv4 address
	address6               // an IPv6 address
	prefix6                // RFC 3162 section 2.3: reserved, length, prefix
	tagInteger             // RFC 2868 section 3.1: tag, 24 bits
	tagText                // RFC 2868 section 3.3: characters, a tag of at most 0x1f may come first
)

// lengths are the bounds of a value of each kind, in bytes.
var lengths = [...]struct{ min, max int }{
	octets: {1, 253}, text: {1, 253}, integer: {4, 4}, address: {4, 4}, address6: {16, 16}, prefix6: {2, 18}, tagInteger: {4, 4}, tagText: {1, 253},
}

// definition is a line of the table.
type definition struct {
	attribute Attribute
	name      string
	kind      kind
	// vital: an accept or a change whose value of it cannot be read is worth nothing, because the subscriber would get
	// more, or be elsewhere, than the server said.
	vital bool
}

// definitions has every attribute that is sent, used, or known to be of no use here. What is not in it is unknown.
var definitions = []definition{
	{Attribute{0, typeUserName}, "User-Name", octets, false},
	{Attribute{0, 2}, "User-Password", octets, false},
	{Attribute{0, typeCHAPPassword}, "CHAP-Password", octets, false},
	{Attribute{0, typeNASIPAddress}, "NAS-IP-Address", address, false},
	{Attribute{0, typeNASPort}, "NAS-Port", integer, false},
	{Attribute{0, typeServiceType}, "Service-Type", integer, true},
	{Attribute{0, typeFramedProtocol}, "Framed-Protocol", integer, false},
	{Attribute{0, typeFramedIPAddress}, "Framed-IP-Address", address, true},
	{Attribute{0, typeFramedIPNetmask}, "Framed-IP-Netmask", address, false},
	{Attribute{0, 10}, "Framed-Routing", integer, false},
	{Attribute{0, typeFilterID}, "Filter-Id", text, true},
	{Attribute{0, typeFramedMTU}, "Framed-MTU", integer, false},
	{Attribute{0, 13}, "Framed-Compression", integer, false},
	{Attribute{0, typeReplyMessage}, "Reply-Message", octets, false},
	{Attribute{0, typeFramedRoute}, "Framed-Route", text, false},
	{Attribute{0, typeState}, "State", octets, false},
	{Attribute{0, typeClass}, "Class", octets, false},
	{Attribute{0, typeVendorSpecific}, "Vendor-Specific", octets, false},
	{Attribute{0, typeSessionTimeout}, "Session-Timeout", integer, false},
	{Attribute{0, typeIdleTimeout}, "Idle-Timeout", integer, false},
	{Attribute{0, 29}, "Termination-Action", integer, false},
	{Attribute{0, typeCalledStationID}, "Called-Station-Id", text, false},
	{Attribute{0, typeCallingStationID}, "Calling-Station-Id", text, false},
	{Attribute{0, typeNASIdentifier}, "NAS-Identifier", text, false},
	{Attribute{0, typeProxyState}, "Proxy-State", octets, false},
	{Attribute{0, typeAcctStatusType}, "Acct-Status-Type", integer, false},
	{Attribute{0, 41}, "Acct-Delay-Time", integer, false},
	{Attribute{0, typeAcctInputOctets}, "Acct-Input-Octets", integer, false},
	{Attribute{0, typeAcctOutputOctets}, "Acct-Output-Octets", integer, false},
	{Attribute{0, typeAcctSessionID}, "Acct-Session-Id", text, false},
	{Attribute{0, typeAcctAuthentic}, "Acct-Authentic", integer, false},
	{Attribute{0, typeAcctSessionTime}, "Acct-Session-Time", integer, false},
	{Attribute{0, typeAcctInputPackets}, "Acct-Input-Packets", integer, false},
	{Attribute{0, typeAcctOutputPackets}, "Acct-Output-Packets", integer, false},
	{Attribute{0, typeAcctTerminateCause}, "Acct-Terminate-Cause", integer, false},
	{Attribute{0, typeAcctInputGigawords}, "Acct-Input-Gigawords", integer, false},
	{Attribute{0, typeAcctOutputGigawords}, "Acct-Output-Gigawords", integer, false},
	{Attribute{0, typeEventTimestamp}, "Event-Timestamp", integer, false},
	{Attribute{0, typeCHAPChallenge}, "CHAP-Challenge", octets, false},
	{Attribute{0, typeNASPortType}, "NAS-Port-Type", integer, false},
	{Attribute{0, 62}, "Port-Limit", integer, false},
	{Attribute{0, typeTunnelType}, "Tunnel-Type", tagInteger, true},
	{Attribute{0, typeTunnelMediumType}, "Tunnel-Medium-Type", tagInteger, true},
	{Attribute{0, typeTunnelClient}, "Tunnel-Client-Endpoint", tagText, true},
	{Attribute{0, typeTunnelServer}, "Tunnel-Server-Endpoint", tagText, true},
	{Attribute{0, typeTunnelConnection}, "Acct-Tunnel-Connection", text, false},
	{Attribute{0, typeTunnelPassword}, "Tunnel-Password", octets, true},
	{Attribute{0, typePrompt}, "Prompt", integer, false},
	{Attribute{0, typeConnectInfo}, "Connect-Info", text, false},
	{Attribute{0, typeEAPMessage}, "EAP-Message", octets, false},
	{Attribute{0, typeMessageAuth}, "Message-Authenticator", octets, false},
	{Attribute{0, typeTunnelGroup}, "Tunnel-Private-Group-Id", tagText, false},
	{Attribute{0, typeTunnelAssignment}, "Tunnel-Assignment-Id", tagText, true},
	{Attribute{0, typeTunnelPreference}, "Tunnel-Preference", tagInteger, true},
	{Attribute{0, typeInterimInterval}, "Acct-Interim-Interval", integer, false},
	{Attribute{0, typeNASPortID}, "NAS-Port-Id", text, false},
	{Attribute{0, typeFramedPool}, "Framed-Pool", text, true},
	{Attribute{0, 89}, "Chargeable-User-Identity", octets, false},
	{Attribute{0, typeTunnelClientAuthID}, "Tunnel-Client-Auth-Id", tagText, true},
	{Attribute{0, typeTunnelServerAuthID}, "Tunnel-Server-Auth-Id", tagText, true},
	{Attribute{0, typeNASIPv6Address}, "NAS-IPv6-Address", address6, false},
	{Attribute{0, 96}, "Framed-Interface-Id", octets, false},
	{Attribute{0, typeFramedIPv6Prefix}, "Framed-IPv6-Prefix", prefix6, false},
	{Attribute{0, 99}, "Framed-IPv6-Route", text, false},
	{Attribute{0, 100}, "Framed-IPv6-Pool", text, false},
	{Attribute{0, 101}, "Error-Cause", integer, false},
	{Attribute{0, typeDelegatedIPv6Prefix}, "Delegated-IPv6-Prefix", prefix6, false},
	{Attribute{0, 168}, "Framed-IPv6-Address", address6, false},
	{Attribute{0, 169}, "DNS-Server-IPv6-Address", address6, false},

	{Attribute{vendorMicrosoft, msCHAPError}, "MS-CHAP-Error", octets, false},
	{Attribute{vendorMicrosoft, 7}, "MS-MPPE-Encryption-Policy", integer, false},
	{Attribute{vendorMicrosoft, 8}, "MS-MPPE-Encryption-Types", integer, false},
	{Attribute{vendorMicrosoft, 10}, "MS-CHAP-Domain", octets, false},
	{Attribute{vendorMicrosoft, msCHAPChallenge}, "MS-CHAP-Challenge", octets, false},
	{Attribute{vendorMicrosoft, 12}, "MS-CHAP-MPPE-Keys", octets, false},
	{Attribute{vendorMicrosoft, 14}, "MS-Link-Utilization-Threshold", integer, false},
	{Attribute{vendorMicrosoft, 15}, "MS-Link-Drop-Time-Limit", integer, false},
	{Attribute{vendorMicrosoft, 16}, "MS-MPPE-Send-Key", octets, false},
	{Attribute{vendorMicrosoft, 17}, "MS-MPPE-Recv-Key", octets, false},
	{Attribute{vendorMicrosoft, msAcctAuthType}, "MS-Acct-Auth-Type", integer, false},
	{Attribute{vendorMicrosoft, msCHAP2Response}, "MS-CHAP2-Response", octets, false},
	{Attribute{vendorMicrosoft, msCHAP2Success}, "MS-CHAP2-Success", octets, false},
	{Attribute{vendorMicrosoft, 28}, "MS-Primary-DNS-Server", address, false},
	{Attribute{vendorMicrosoft, 29}, "MS-Secondary-DNS-Server", address, false},
	{Attribute{vendorMicrosoft, 30}, "MS-Primary-NBNS-Server", address, false},
	{Attribute{vendorMicrosoft, 31}, "MS-Secondary-NBNS-Server", address, false},

	{Attribute{vendorERX, erxVirtualRouter}, "ERX-Virtual-Router-Name", text, true},
	{Attribute{vendorERX, 2}, "ERX-Address-Pool-Name", text, true},
	{Attribute{vendorERX, 3}, "ERX-Local-Loopback-Interface", text, false},
	{Attribute{vendorERX, 4}, "ERX-Primary-Dns", address, false},
	{Attribute{vendorERX, 5}, "ERX-Secondary-Dns", address, false},
	{Attribute{vendorERX, 6}, "ERX-Primary-Wins", address, false},
	{Attribute{vendorERX, 7}, "ERX-Secondary-Wins", address, false},
	{Attribute{vendorERX, 8}, "ERX-Tunnel-Virtual-Router", tagText, false},
	{Attribute{vendorERX, erxTunnelPassword}, "ERX-Tunnel-Password", tagText, false},
	{Attribute{vendorERX, erxIngressPolicy}, "ERX-Ingress-Policy-Name", text, true},
	{Attribute{vendorERX, erxEgressPolicy}, "ERX-Egress-Policy-Name", text, true},
	{Attribute{vendorERX, 12}, "ERX-Ingress-Statistics", integer, false},
	{Attribute{vendorERX, 13}, "ERX-Egress-Statistics", integer, false},
	{Attribute{vendorERX, 22}, "ERX-Sa-Validate", integer, false},
	{Attribute{vendorERX, 23}, "ERX-Igmp-Enable", integer, false},
	{Attribute{vendorERX, 25}, "ERX-Redirect-VR-Name", text, true},
	{Attribute{vendorERX, 26}, "ERX-Qos-Profile-Name", text, false},
	{Attribute{vendorERX, erxMaxSessions}, "ERX-Tunnel-Maximum-Sessions", tagInteger, false},
	{Attribute{vendorERX, 34}, "ERX-Framed-Ip-Route-Tag", text, false},
	{Attribute{vendorERX, 36}, "ERX-PPP-Username", text, false},
	{Attribute{vendorERX, 37}, "ERX-PPP-Password", octets, false},
	{Attribute{vendorERX, 38}, "ERX-PPP-Auth-Protocol", integer, false},
	{Attribute{vendorERX, erxInputGigapkts}, "ERX-Input-Gigapkts", integer, false},
	{Attribute{vendorERX, erxOutputGigapkts}, "ERX-Output-Gigapkts", integer, false},
	{Attribute{vendorERX, erxTunnelInterface}, "ERX-Tunnel-Interface-Id", text, false},
	{Attribute{vendorERX, erxDisconnectCause}, "Sdx-Tunnel-Disconnect-Cause-Info", octets, false},
	{Attribute{vendorERX, 54}, "ERX-L2tp-Recv-Window-Size", integer, false},
	{Attribute{vendorERX, 63}, "ERX-Interface-Desc", text, false},
	{Attribute{vendorERX, erxTunnelGroup}, "ERX-Tunnel-Group", text, true},
	{Attribute{vendorERX, 70}, "ERX-DF-Bit", integer, false},
	{Attribute{vendorERX, 90}, "ERX-L2TP-Resynch-Method", integer, false},
	{Attribute{vendorERX, 91}, "ERX-Tunnel-Switch-Profile", text, false},
	{Attribute{vendorERX, erxServiceInterim}, "ERX-Service-Acct-Interval", tagInteger, false},
	{Attribute{vendorERX, 144}, "ERX-PPP-Monitor-Ingress-Only", integer, false},

	{Attribute{vendorASA, 5}, "ASA-Primary-DNS", address, false},
	{Attribute{vendorASA, 6}, "ASA-Secondary-DNS", address, false},
	{Attribute{vendorASA, 7}, "ASA-Primary-WINS", address, false},
	{Attribute{vendorASA, 8}, "ASA-Secondary-WINS", address, false},
	{Attribute{vendorASA, 15}, "ASA-Banner1", text, false},
	{Attribute{vendorASA, asaSplitList}, "ASA-IPsec-Split-Tunnel-List", text, false},
	{Attribute{vendorASA, 28}, "ASA-IPsec-Default-Domain", text, false},
	{Attribute{vendorASA, 29}, "ASA-IPsec-Split-DNS-Names", text, false},
	{Attribute{vendorASA, 36}, "ASA-Banner2", text, false},
	{Attribute{vendorASA, asaSplitPolicy}, "ASA-IPsec-Split-Tunneling-Policy", integer, false},

	{Attribute{vendorCisco, 1}, "Cisco-AVPair", text, false},

	{Attribute{vendorWISPr, 7}, "WISPr-Bandwidth-Max-Up", integer, false},
	{Attribute{vendorWISPr, 8}, "WISPr-Bandwidth-Max-Down", integer, false},
	{Attribute{vendorMikrotik, 8}, "Mikrotik-Rate-Limit", text, false},
	{Attribute{vendorRoaringPenguin, 1}, "RP-Upstream-Speed-Limit", integer, false},
	{Attribute{vendorRoaringPenguin, 2}, "RP-Downstream-Speed-Limit", integer, false},
	{Attribute{vendorAscend, 135}, "Ascend-Client-Primary-DNS", address, false},
	{Attribute{vendorAscend, 136}, "Ascend-Client-Secondary-DNS", address, false},
	{Attribute{vendorAscend, 197}, "Ascend-Data-Rate", integer, false},
	{Attribute{vendorAscend, 255}, "Ascend-Xmit-Rate", integer, false},
}

// table finds them.
var table = index(definitions)

func index(lines []definition) map[Attribute]*definition {
	out := make(map[Attribute]*definition, len(lines))
	for i := range lines {
		out[lines[i].attribute] = &lines[i]
	}
	return out
}

// vendors are those whose attributes are in the table. Others may not even have the format that RFC 2865 section 5.26
// recommends (vendor 429 has types of four bytes), so theirs are not looked into.
var vendors = func() map[uint32]bool {
	out := map[uint32]bool{}
	for a := range table {
		if a.Vendor != 0 {
			out[a.Vendor] = true
		}
	}
	return out
}()
