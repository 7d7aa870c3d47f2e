package l2tp

import "fmt"

// attribute is an AVP type of vendor 0 (IETF), RFC 2661 section 4.4 and RFC 3145.
type attribute uint16

const (
	attrMessageType         attribute = 0
	attrResultCode          attribute = 1
	attrProtocolVersion     attribute = 2
	attrFramingCapabilities attribute = 3
	attrBearerCapabilities  attribute = 4
	attrTieBreaker          attribute = 5
	attrFirmware            attribute = 6
	attrHostName            attribute = 7
	attrVendorName          attribute = 8
	attrTunnelID            attribute = 9
	attrReceiveWindow       attribute = 10
	attrChallenge           attribute = 11
	attrQ931Cause           attribute = 12
	attrChallengeResponse   attribute = 13
	attrSessionID           attribute = 14
	attrCallSerial          attribute = 15
	attrMinimumBPS          attribute = 16
	attrMaximumBPS          attribute = 17
	attrBearerType          attribute = 18
	attrFramingType         attribute = 19
	attrCalledNumber        attribute = 21
	attrCallingNumber       attribute = 22
	attrSubAddress          attribute = 23
	attrTxSpeed             attribute = 24
	attrPhysicalChannel     attribute = 25
	attrInitialLCP          attribute = 26
	attrLastSentLCP         attribute = 27
	attrLastReceivedLCP     attribute = 28
	attrProxyAuthType       attribute = 29
	attrProxyAuthName       attribute = 30
	attrProxyAuthChallenge  attribute = 31
	attrProxyAuthID         attribute = 32
	attrProxyAuthResponse   attribute = 33
	attrCallErrors          attribute = 34
	attrACCM                attribute = 35
	attrRandomVector        attribute = 36
	attrPrivateGroup        attribute = 37
	attrRxSpeed             attribute = 38
	attrSequencingRequired  attribute = 39
	attrDisconnectCause     attribute = 46
	attributeCount                    = 47
)

// attributeRule is what section 4.4 says about one attribute. A zero name means that it is not known.
type attributeRule struct {
	name      string
	min, max  int  // bytes of value
	mandatory bool // the M bit that we send
	hideable  bool
}

var attributeRules = [attributeCount]attributeRule{
	attrMessageType:         {"Message Type", 2, 2, true, false},
	attrResultCode:          {"Result Code", 2, avpMaxValue, true, false},
	attrProtocolVersion:     {"Protocol Version", 2, 2, true, false},
	attrFramingCapabilities: {"Framing Capabilities", 4, 4, true, true},
	attrBearerCapabilities:  {"Bearer Capabilities", 4, 4, true, true},
	attrTieBreaker:          {"Tie Breaker", 8, 8, false, false},
	attrFirmware:            {"Firmware Revision", 2, 2, false, true},
	attrHostName:            {"Host Name", 1, avpMaxValue, true, false},
	attrVendorName:          {"Vendor Name", 0, avpMaxValue, false, true},
	attrTunnelID:            {"Assigned Tunnel ID", 2, 2, true, true},
	attrReceiveWindow:       {"Receive Window Size", 2, 2, true, false},
	attrChallenge:           {"Challenge", 1, avpMaxValue, true, true},
	attrQ931Cause:           {"Q.931 Cause Code", 3, avpMaxValue, true, false},
	attrChallengeResponse:   {"Challenge Response", 16, 16, true, true},
	attrSessionID:           {"Assigned Session ID", 2, 2, true, true},
	attrCallSerial:          {"Call Serial Number", 4, 4, true, true},
	attrMinimumBPS:          {"Minimum BPS", 4, 4, true, true},
	attrMaximumBPS:          {"Maximum BPS", 4, 4, true, true},
	attrBearerType:          {"Bearer Type", 4, 4, true, true},
	attrFramingType:         {"Framing Type", 4, 4, true, true},
	attrCalledNumber:        {"Called Number", 0, avpMaxValue, true, true},
	attrCallingNumber:       {"Calling Number", 0, avpMaxValue, true, true},
	attrSubAddress:          {"Sub-Address", 0, avpMaxValue, true, true},
	attrTxSpeed:             {"(Tx) Connect Speed", 4, 4, true, true},
	attrPhysicalChannel:     {"Physical Channel ID", 4, 4, false, true},
	attrInitialLCP:          {"Initial Received LCP CONFREQ", 0, avpMaxValue, false, true},
	attrLastSentLCP:         {"Last Sent LCP CONFREQ", 0, avpMaxValue, false, true},
	attrLastReceivedLCP:     {"Last Received LCP CONFREQ", 0, avpMaxValue, false, true},
	attrProxyAuthType:       {"Proxy Authen Type", 2, 2, false, true},
	attrProxyAuthName:       {"Proxy Authen Name", 0, avpMaxValue, false, true},
	attrProxyAuthChallenge:  {"Proxy Authen Challenge", 0, avpMaxValue, false, true},
	attrProxyAuthID:         {"Proxy Authen ID", 2, 2, false, true},
	attrProxyAuthResponse:   {"Proxy Authen Response", 0, avpMaxValue, false, true},
	attrCallErrors:          {"Call Errors", 26, 26, true, true},
	attrACCM:                {"ACCM", 10, 10, true, true},
	attrRandomVector:        {"Random Vector", 1, avpMaxValue, true, false},
	attrPrivateGroup:        {"Private Group ID", 0, avpMaxValue, false, true},
	attrRxSpeed:             {"Rx Connect Speed", 4, 4, false, true},
	attrSequencingRequired:  {"Sequencing Required", 0, 0, true, false},
	attrDisconnectCause:     {"PPP Disconnect Cause Code", 5, avpMaxValue, false, true},
}

func (a attribute) known() bool { return int(a) < attributeCount && attributeRules[a].name != "" }

// String is the name that RFC 2661 gives the attribute.
func (a attribute) String() string {
	if a.known() {
		return attributeRules[a].name
	}
	return fmt.Sprintf("attribute %d", uint16(a))
}

// attributeSet is a set of known attributes, one bit each.
type attributeSet uint64

func attributes(list ...attribute) attributeSet {
	var s attributeSet
	for _, a := range list {
		s |= 1 << a
	}
	return s
}

func (s attributeSet) has(a attribute) bool { return int(a) < attributeCount && s&(1<<a) != 0 }
