package l2tp

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"vrgate/controlplane/keymat"
)

// messageType is the value of the Message Type AVP, RFC 2661 section 3.2.
type messageType uint16

const (
	msgSCCRQ   messageType = 1
	msgSCCRP   messageType = 2
	msgSCCCN   messageType = 3
	msgStopCCN messageType = 4
	msgHello   messageType = 6
	msgOCRQ    messageType = 7
	msgOCRP    messageType = 8
	msgOCCN    messageType = 9
	msgICRQ    messageType = 10
	msgICRP    messageType = 11
	msgICCN    messageType = 12
	msgCDN     messageType = 14
	msgWEN     messageType = 15
	msgSLI     messageType = 16
)

// sender says which ends may send a message.
type sender uint8

const (
	fromLAC sender = 1 << iota
	fromLNS
	fromBoth = fromLAC | fromLNS
)

// messageRule is what RFC 2661 section 6 says about one message. AVPs in neither set are skipped.
type messageRule struct {
	name    string
	from    sender // of tunnel messages: either end may open a tunnel, the state decides
	session bool   // concerns one session: trouble is answered with CDN, not StopCCN
	must    attributeSet
	may     attributeSet
}

var messageRules = map[messageType]messageRule{
	msgSCCRQ: {"SCCRQ", fromBoth, false,
		attributes(attrProtocolVersion, attrHostName, attrFramingCapabilities, attrTunnelID),
		attributes(attrBearerCapabilities, attrReceiveWindow, attrChallenge, attrTieBreaker, attrFirmware, attrVendorName)},
	msgSCCRP: {"SCCRP", fromBoth, false,
		attributes(attrProtocolVersion, attrHostName, attrFramingCapabilities, attrTunnelID),
		attributes(attrBearerCapabilities, attrFirmware, attrVendorName, attrReceiveWindow, attrChallenge, attrChallengeResponse)},
	msgSCCCN:   {"SCCCN", fromBoth, false, 0, attributes(attrChallengeResponse)},
	msgStopCCN: {"StopCCN", fromBoth, false, attributes(attrTunnelID, attrResultCode), 0},
	msgHello:   {"HELLO", fromBoth, false, 0, 0},
	msgOCRQ: {"OCRQ", fromLNS, true, attributes(attrSessionID, attrCallSerial),
		attributes(attrMinimumBPS, attrMaximumBPS, attrBearerType, attrFramingType, attrCalledNumber, attrSubAddress)},
	msgOCRP: {"OCRP", fromLAC, true, attributes(attrSessionID), attributes(attrPhysicalChannel)},
	msgOCCN: {"OCCN", fromLAC, true, attributes(attrTxSpeed, attrFramingType), attributes(attrRxSpeed, attrSequencingRequired)},
	msgICRQ: {"ICRQ", fromLAC, true, attributes(attrSessionID, attrCallSerial),
		attributes(attrBearerType, attrPhysicalChannel, attrCallingNumber, attrCalledNumber, attrSubAddress)},
	msgICRP: {"ICRP", fromLNS, true, attributes(attrSessionID), 0},
	msgICCN: {"ICCN", fromLAC, true, attributes(attrTxSpeed, attrFramingType),
		attributes(attrInitialLCP, attrLastSentLCP, attrLastReceivedLCP, attrProxyAuthType, attrProxyAuthName,
			attrProxyAuthChallenge, attrProxyAuthID, attrProxyAuthResponse, attrPrivateGroup, attrRxSpeed, attrSequencingRequired)},
	msgCDN: {"CDN", fromBoth, true, attributes(attrResultCode, attrSessionID), attributes(attrQ931Cause, attrDisconnectCause)},
	msgWEN: {"WEN", fromLAC, true, attributes(attrCallErrors), 0},
	msgSLI: {"SLI", fromLNS, true, attributes(attrACCM), 0},
}

// String is the message's name in RFC 2661.
func (m messageType) String() string {
	if r, ok := messageRules[m]; ok {
		return r.name
	}
	return fmt.Sprintf("message type %d", uint16(m))
}

// message is a control message after validation. Byte slices alias the datagram or a decrypted copy; texts are copies.
type message struct {
	kind    messageType
	ignore  bool         // an unknown type without the M bit: acknowledged and otherwise ignored (section 4.4.1)
	present attributeSet // the attributes that were taken over

	result, err uint16
	text        string
	version     uint16
	tieBreaker  uint64
	firmware    uint16
	hostName    string
	vendorName  string
	tunnel      TunnelID
	window      uint16
	challenge   []byte
	response    []byte
	session     SessionID
	serial      uint32
	framing     uint32 // capabilities, or the call's type
	bearer      uint32 // the same
	calling     string
	called      string
	subAddress  string
	channel     uint32
	txSpeed     uint32
	rxSpeed     uint32
	group       string
	cause       *DisconnectCause
	proxy       proxyAVPs
	tolerated   int // unknown AVPs with the M bit that were skipped
}

// textNotFirst explains a message that section 4.4.1 does not allow.
const textNotFirst = "the first AVP is not a Message Type"

// peekType returns the message type without looking further; ok is false when the message does not begin with a
// Message Type AVP as section 4.4.1 demands.
func peekType(body []byte) (kind messageType, mandatory, ok bool) {
	a, _, err := parseAVP(body)
	if err != nil || a.typ != attrMessageType || a.vendor != 0 || a.hidden || a.reserved != 0 || len(a.value) != 2 {
		return 0, false, false
	}
	return messageType(binary.BigEndian.Uint16(a.value)), a.mandatory, true
}

// peekHostName finds the Host Name AVP, which is never hidden, so that the host profile and with it the secret can be
// chosen before the message is decoded (G5).
func peekHostName(body []byte) (string, bool) {
	for len(body) > 0 {
		a, rest, err := parseAVP(body)
		if err != nil {
			return "", false
		}
		if a.typ == attrHostName && a.vendor == 0 && !a.hidden && len(a.value) > 0 {
			return text(a.value), true
		}
		body = rest
	}
	return "", false
}

// decode validates a message strictly. secret opens hidden AVPs; nil: they cannot be read, and one with the M bit has the
// message refused. With an error, the message still holds what could be read, so that the refusal can be addressed.
func decode(body []byte, secret keymat.Secret) (message, *wireError) {
	return decodeAVPs(body, secret, false)
}

// decodeAVPs is decode; tolerant skips and counts unknown AVPs that have the M bit, where section 4.1 has the tunnel or call ended.
// Without the bit they are always skipped: carriers' routers send many, of Cisco (vendor 9), Redback (2352) and Juniper (4874), and the
// Broadband Forum's descriptions of access lines (3561, RFC 5515). What needs tolerant is firmware that sets the bit on one of them,
// as some TP-Link and D-Link routers do; accel-ppp has avp_permissive for them.
// An unknown message is no AVP: it is refused all the same. So is a hidden AVP that could not be opened, because what it hides was
// meant for us.
func decodeAVPs(body []byte, secret keymat.Secret, tolerant bool) (message, *wireError) {
	var m message
	kind, mandatory, ok := peekType(body)
	if !ok {
		return m, &wireError{StopError, ErrorLength, ReasonMalformed, textNotFirst}
	}
	m.kind = kind
	rule, known := messageRules[kind]
	if !known {
		if mandatory {
			return m, &wireError{StopError, ErrorUnknownAVP, ReasonUnknownAVP, "unknown " + kind.String()}
		}
		m.ignore = true
		return m, nil
	}

	var failed *wireError
	fail := func(w *wireError) { // the first trouble is the one reported, decoding goes on
		if failed == nil {
			failed = w
		}
	}
	var vector []byte
	rest := body
	for len(rest) > 0 {
		a, next, err := parseAVP(rest)
		if err != nil {
			fail(&wireError{StopError, ErrorLength, ReasonMalformed, strings.TrimPrefix(err.Error(), "l2tp: ")})
			break
		}
		rest = next
		if a.vendor != 0 || !a.typ.known() || a.reserved != 0 {
			switch {
			case !a.mandatory:
			case tolerant:
				m.tolerated++
			default:
				fail(&wireError{StopError, ErrorUnknownAVP, ReasonUnknownAVP, unrecognised(a)})
			}
			continue
		}
		if a.hidden && len(secret) == 0 {
			if a.mandatory {
				fail(&wireError{StopError, ErrorUnknownAVP, ReasonHiddenAVP, "hidden " + a.typ.String() + " AVP without a tunnel password"})
			}
			continue
		}
		if a.hidden {
			if vector == nil || !attributeRules[a.typ].hideable {
				err = errHidden
			} else {
				a.value, err = unhide(secret, vector, a.typ, a.value)
			}
		}
		r := attributeRules[a.typ]
		if err != nil || len(a.value) < r.min || len(a.value) > r.max {
			if a.mandatory {
				fail(&wireError{StopError, ErrorLength, ReasonMalformed, r.name + " AVP of a wrong length"})
			}
			continue
		}
		if a.typ == attrRandomVector {
			vector = a.value
			continue
		}
		if !(rule.must | rule.may).has(a.typ) || m.present.has(a.typ) {
			continue
		}
		m.present |= attributes(a.typ)
		m.take(a)
	}
	if missing := rule.must &^ m.present; missing != 0 {
		for a := range attribute(attributeCount) {
			if missing.has(a) {
				fail(&wireError{StopError, ErrorVendor, ReasonMissingAVP, fmt.Sprintf("%s without %s", kind, a)})
			}
		}
	}
	return m, failed
}

func unrecognised(a avp) string {
	if a.vendor != 0 {
		return fmt.Sprintf("AVP %d of vendor %d", uint16(a.typ), a.vendor)
	}
	return fmt.Sprintf("AVP %d", uint16(a.typ))
}

// take stores an attribute whose length has been checked.
func (m *message) take(a avp) {
	switch v := a.value; a.typ {
	case attrResultCode:
		m.result = binary.BigEndian.Uint16(v)
		if len(v) >= 4 {
			m.err = binary.BigEndian.Uint16(v[2:])
			m.text = text(v[4:])
		}
	case attrProtocolVersion:
		m.version = binary.BigEndian.Uint16(v)
	case attrFramingCapabilities, attrFramingType:
		m.framing = binary.BigEndian.Uint32(v)
	case attrBearerCapabilities, attrBearerType:
		m.bearer = binary.BigEndian.Uint32(v)
	case attrTieBreaker:
		m.tieBreaker = binary.BigEndian.Uint64(v)
	case attrFirmware:
		m.firmware = binary.BigEndian.Uint16(v)
	case attrHostName:
		m.hostName = text(v)
	case attrVendorName:
		m.vendorName = text(v)
	case attrTunnelID:
		m.tunnel = TunnelID(binary.BigEndian.Uint16(v))
	case attrReceiveWindow:
		m.window = binary.BigEndian.Uint16(v)
	case attrChallenge:
		m.challenge = v
	case attrChallengeResponse:
		m.response = v
	case attrSessionID:
		m.session = SessionID(binary.BigEndian.Uint16(v))
	case attrCallSerial:
		m.serial = binary.BigEndian.Uint32(v)
	case attrCallingNumber:
		m.calling = textUpTo(v, maxNumber)
	case attrCalledNumber:
		m.called = textUpTo(v, maxNumber)
	case attrSubAddress:
		m.subAddress = textUpTo(v, maxNumber)
	case attrPhysicalChannel:
		m.channel = binary.BigEndian.Uint32(v)
	case attrPrivateGroup:
		m.group = textUpTo(v, maxNumber)
	case attrTxSpeed:
		m.txSpeed = binary.BigEndian.Uint32(v)
	case attrRxSpeed:
		m.rxSpeed = binary.BigEndian.Uint32(v)
	case attrDisconnectCause:
		m.cause = &DisconnectCause{
			Code: binary.BigEndian.Uint16(v), Protocol: binary.BigEndian.Uint16(v[2:]), Direction: v[4], Message: text(v[5:]),
		}
	default:
		m.proxy.take(a)
	}
}

// maxText bounds a peer's text that is kept, in bytes: names and messages stay in records and logs.
const maxText = 64

// maxNumber bounds a number, a sub-address and a private group, in bytes: carriers put the names of lines into them, which are as
// long as a RADIUS attribute may be.
const maxNumber = 253

// text makes a peer's string safe to keep and print: bounded, without a trailing NUL, control characters and invalid
// UTF-8 replaced by '?'. It never returns more than maxText bytes.
func text(b []byte) string { return textUpTo(b, maxText) }

// textUpTo is text with another bound.
func textUpTo(b []byte, limit int) string {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	if len(b) > limit {
		b = b[:limit]
		for len(b) > 0 && !utf8.Valid(b) && len(b) > limit-utf8.UTFMax { // do not cut a rune in half
			b = b[:len(b)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, string(b))
}

// builder assembles a message's AVPs with the M bits of the attribute table.
type builder struct{ b []byte }

func build(kind messageType) *builder {
	w := &builder{b: make([]byte, 0, 96)}
	return w.u16(attrMessageType, uint16(kind))
}

func (w *builder) bytes(t attribute, v []byte) *builder {
	w.b = avp{mandatory: attributeRules[t].mandatory, typ: t, value: v}.append(w.b)
	return w
}

func (w *builder) u16(t attribute, v uint16) *builder {
	return w.bytes(t, binary.BigEndian.AppendUint16(nil, v))
}

func (w *builder) u32(t attribute, v uint32) *builder {
	return w.bytes(t, binary.BigEndian.AppendUint32(nil, v))
}

// str appends a text that names us or explains, cut to maxText bytes.
func (w *builder) str(t attribute, v string) *builder {
	return w.bytes(t, []byte(v[:min(len(v), maxText)]))
}

// number appends a number, a sub-address or a group, cut to maxNumber bytes, unless it is empty.
func (w *builder) number(t attribute, v string) *builder {
	if v == "" {
		return w
	}
	return w.bytes(t, []byte(v[:min(len(v), maxNumber)]))
}

// optional appends a figure unless it is 0.
func (w *builder) optional(t attribute, v uint32) *builder {
	if v == 0 {
		return w
	}
	return w.u32(t, v)
}

// result appends a Result Code AVP (section 4.4.2): without error code and message when both are empty, as peers that
// parse a fixed length expect.
func (w *builder) result(result, code uint16, msg string) *builder {
	v := binary.BigEndian.AppendUint16(nil, result)
	if code != 0 || msg != "" {
		v = binary.BigEndian.AppendUint16(v, code)
		v = append(v, msg[:min(len(msg), maxText)]...)
	}
	return w.bytes(attrResultCode, v)
}

// cause appends the PPP Disconnect Cause Code AVP (RFC 3145 section 2).
func (w *builder) cause(c DisconnectCause) *builder {
	v := binary.BigEndian.AppendUint16(nil, c.Code)
	v = binary.BigEndian.AppendUint16(v, c.Protocol)
	v = append(v, c.Direction)
	return w.bytes(attrDisconnectCause, append(v, c.Message[:min(len(c.Message), maxText)]...))
}
