package isakmp

import (
	"encoding/binary"
	"fmt"
)

// ConfigType is the type of an attribute payload (draft-dukes-ike-mode-cfg-02
// section 3.2).
type ConfigType uint8

// Mode config message types.
const (
	ConfigRequest ConfigType = 1
	ConfigReply   ConfigType = 2
	ConfigSet     ConfigType = 3
	ConfigAck     ConfigType = 4
)

// String names the type.
func (t ConfigType) String() string {
	switch t {
	case ConfigRequest:
		return "REQUEST"
	case ConfigReply:
		return "REPLY"
	case ConfigSet:
		return "SET"
	case ConfigAck:
		return "ACK"
	}
	return fmt.Sprintf("config(%d)", uint8(t))
}

// Mode config attributes, with those of XAuth (16520 to 16529) and Cisco Unity
// (28672 to 28683).
const (
	ConfigIP4Address     = 1
	ConfigIP4Netmask     = 2
	ConfigIP4DNS         = 3
	ConfigIP4NBNS        = 4
	ConfigAddressExpiry  = 5
	ConfigIP4DHCP        = 6
	ConfigAppVersion     = 7
	ConfigIP6Address     = 8
	ConfigIP6Netmask     = 9
	ConfigIP6DNS         = 10
	ConfigIP6NBNS        = 11
	ConfigIP6DHCP        = 12
	ConfigIP4Subnet      = 13
	ConfigSupportedAttrs = 14
	ConfigIP6Subnet      = 15
	XAuthType            = 16520
	XAuthUserName        = 16521
	XAuthUserPassword    = 16522
	XAuthPasscode        = 16523
	XAuthMessage         = 16524
	XAuthChallenge       = 16525
	XAuthDomain          = 16526
	XAuthStatus          = 16527
	XAuthNextPIN         = 16528
	XAuthAnswer          = 16529
	UnityBanner          = 28672
	UnitySavePassword    = 28673
	UnityDefaultDomain   = 28674
	UnitySplitDNS        = 28675
	UnitySplitInclude    = 28676
	UnityUDPPort         = 28677
	UnityLocalLAN        = 28678
	UnityPFS             = 28679
	UnityFirewallType    = 28680
	UnityBackupServers   = 28681
	UnityDDNSHostname    = 28682
	UnityBrowserProxy    = 28683
)

// AttributeSet is an attribute payload (type 14): a request, reply, set or ack
// of mode config or XAuth. Its String hides the values, which may be passwords.
//
//	+---------------+---------------+-------------------------------+
//	|     Type      |   RESERVED    |           Identifier          |
//	+---------------+---------------+-------------------------------+
//	|                           Attributes                          |
type AttributeSet struct {
	Type       ConfigType
	Identifier uint16
	Attributes []Attribute
}

// Attributes decodes an attribute payload. Unknown attributes are kept; vpnc and
// others put the reserved byte to use, so its value is ignored.
func (p Payload) Attributes() (AttributeSet, error) {
	if err := p.expect(TypeAttributes); err != nil {
		return AttributeSet{}, err
	}
	if len(p.Body) < 4 {
		return AttributeSet{}, malformed(PayloadMalformed, "ATTR", "%d bytes", len(p.Body))
	}
	as, err := parseAttributes(p.Body[4:])
	if err != nil {
		return AttributeSet{}, err
	}
	return AttributeSet{
		Type:       ConfigType(p.Body[0]),
		Identifier: binary.BigEndian.Uint16(p.Body[2:]),
		Attributes: as,
	}, nil
}

// Payload encodes the set.
func (s AttributeSet) Payload() Payload {
	b := []byte{byte(s.Type), 0}
	b = binary.BigEndian.AppendUint16(b, s.Identifier)
	return Payload{Type: TypeAttributes, Body: appendAttributes(b, s.Attributes)}
}

// Find returns the first attribute of the type.
func (s AttributeSet) Find(typ uint16) (Attribute, bool) {
	for _, a := range s.Attributes {
		if a.Type == typ {
			return a, true
		}
	}
	return Attribute{}, false
}

// XAuth tells whether any attribute is one of XAuth.
func (s AttributeSet) XAuth() bool {
	for _, a := range s.Attributes {
		if a.Type >= XAuthType && a.Type <= XAuthAnswer {
			return true
		}
	}
	return false
}

// String lists the types of the attributes without their values.
func (s AttributeSet) String() string {
	types := make([]uint16, len(s.Attributes))
	for i, a := range s.Attributes {
		types[i] = a.Type
	}
	return fmt.Sprintf("%v id %d %v", s.Type, s.Identifier, types)
}

// GoString equals String, so that %#v shows no password either.
func (s AttributeSet) GoString() string { return s.String() }
