package l2tp

import (
	"bytes"
	"encoding/binary"
)

// maxProxyValue bounds each value of a proxied negotiation that is kept, in bytes. PPP's own limits are lower: names and CHAP values
// have one byte for their length, and LCP options of a real Configure-Request stay below 64 bytes.
const maxProxyValue = 255

// LCP options that are looked at, RFC 1661 section 6.
const (
	lcpOptionAuth = 3
	lcpPAP        = 0xc023
	lcpCHAP       = 0xc223
)

// proxyAVPs are the proxied LCP and authentication of an ICCN as they stand on the wire (RFC 2661 section 4.4.5).
type proxyAVPs struct {
	present                            attributeSet
	initial, lastSent, lastReceived    []byte
	authType, authID                   uint16
	authName, authChallenge, authReply []byte
}

// proxyAuth are the attributes of proxied authentication.
var proxyAuth = attributes(attrProxyAuthType, attrProxyAuthName, attrProxyAuthChallenge, attrProxyAuthID, attrProxyAuthResponse)

// take stores an attribute whose length has been checked, if it is one of a proxy's. Values alias the message.
func (p *proxyAVPs) take(a avp) {
	switch v := a.value; a.typ {
	case attrInitialLCP:
		p.initial = v
	case attrLastSentLCP:
		p.lastSent = v
	case attrLastReceivedLCP:
		p.lastReceived = v
	case attrProxyAuthType:
		p.authType = binary.BigEndian.Uint16(v)
	case attrProxyAuthName:
		p.authName = v
	case attrProxyAuthChallenge:
		p.authChallenge = v
	case attrProxyAuthID:
		p.authID = binary.BigEndian.Uint16(v)
	case attrProxyAuthResponse:
		p.authReply = v
	default:
		return
	}
	p.present |= attributes(a.typ)
}

// proxy returns what the LAC has negotiated, copied out of the message, nil when it says nothing. When its parts contradict each other
// none can be believed: then ok is false, and the call goes on as if there were none, with a negotiation of our own.
func (p *proxyAVPs) proxy() (_ *Proxy, ok bool) {
	if p.present == 0 {
		return nil, true
	}
	if !p.plausible() {
		return nil, false
	}
	out := &Proxy{InitialLCP: bytes.Clone(p.initial), LastSentLCP: bytes.Clone(p.lastSent), LastReceivedLCP: bytes.Clone(p.lastReceived)}
	out.AuthType = ProxyAuthType(p.authType)
	if out.AuthType == ProxyNone { // some send an empty name with it
		return out, true
	}
	out.AuthName, out.AuthChallenge = string(p.authName), bytes.Clone(p.authChallenge)
	out.AuthID, out.AuthResponse = uint8(p.authID), bytes.Clone(p.authReply)
	return out, true
}

// plausible checks the parts against each other and RFC 2661 section 4.4.5.
func (p *proxyAVPs) plausible() bool {
	for _, v := range [...][]byte{p.initial, p.lastSent, p.lastReceived, p.authName, p.authChallenge, p.authReply} {
		if len(v) > maxProxyValue {
			return false
		}
	}
	auth, ok := authOption(p.lastSent)
	for _, options := range [...][]byte{p.initial, p.lastReceived} {
		if _, whole := authOption(options); !whole {
			return false
		}
	}
	switch {
	case !ok || p.present.has(attrLastSentLCP) != p.present.has(attrLastReceivedLCP):
		return false // half of a negotiation
	case !p.present.has(attrProxyAuthType):
		return p.present&proxyAuth == 0
	case p.authID > 0xff: // its first byte is reserved
		return false
	}
	need := attributes(attrProxyAuthName, attrProxyAuthResponse)
	switch ProxyAuthType(p.authType) {
	case ProxyNone:
		return true
	case ProxyText:
	case ProxyPAP: // the identifier is demanded as well, but nothing depends on it
		if auth != 0 && auth != lcpPAP {
			return false
		}
	case ProxyCHAP, ProxyMSCHAPv1:
		need |= attributes(attrProxyAuthChallenge, attrProxyAuthID)
		if auth != 0 && auth != lcpCHAP || len(p.authChallenge) == 0 || len(p.authReply) == 0 {
			return false
		}
	default: // 0 and whatever comes after 5 are reserved
		return false
	}
	return p.present&need == need
}

// authOption walks the options of a Configure-Request and returns the protocol of its Authentication-Protocol option, 0 when
// there is none. It is false for something that is no list of options.
func authOption(options []byte) (protocol uint16, ok bool) {
	for len(options) > 0 {
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return 0, false
		}
		if options[0] == lcpOptionAuth && options[1] >= 4 {
			protocol = binary.BigEndian.Uint16(options[2:])
		}
		options = options[options[1]:]
	}
	return protocol, true
}

// proxy appends what we have negotiated with the peer of a call. A half of it, LCP or the authentication, that no peer of ours would
// take is left out.
func (w *builder) proxy(p *Proxy) *builder {
	if p == nil {
		return w
	}
	if p.InitialLCP != nil && len(p.InitialLCP) <= maxProxyValue {
		w.bytes(attrInitialLCP, p.InitialLCP)
	}
	if p.LastSentLCP != nil && p.LastReceivedLCP != nil && max(len(p.LastSentLCP), len(p.LastReceivedLCP)) <= maxProxyValue {
		w.bytes(attrLastSentLCP, p.LastSentLCP).bytes(attrLastReceivedLCP, p.LastReceivedLCP)
	}
	if p.AuthType == 0 || max(len(p.AuthName), len(p.AuthChallenge), len(p.AuthResponse)) > maxProxyValue {
		return w
	}
	w.u16(attrProxyAuthType, uint16(p.AuthType))
	if p.AuthType == ProxyNone {
		return w
	}
	w.bytes(attrProxyAuthName, []byte(p.AuthName))
	if p.AuthType == ProxyCHAP || p.AuthType == ProxyMSCHAPv1 {
		w.bytes(attrProxyAuthChallenge, p.AuthChallenge)
	}
	return w.u16(attrProxyAuthID, uint16(p.AuthID)).bytes(attrProxyAuthResponse, p.AuthResponse.Reveal())
}

// clone copies a proxy, so that a caller may use its own again.
func (p *Proxy) clone() *Proxy {
	if p == nil {
		return nil
	}
	c := *p
	c.InitialLCP, c.LastSentLCP, c.LastReceivedLCP = bytes.Clone(p.InitialLCP), bytes.Clone(p.LastSentLCP), bytes.Clone(p.LastReceivedLCP)
	c.AuthChallenge, c.AuthResponse = bytes.Clone(p.AuthChallenge), bytes.Clone(p.AuthResponse)
	return &c
}

// proxySnapshot is a Proxy as Snapshot writes it: the name may be any bytes, and the response is not redacted.
type proxySnapshot struct {
	InitialLCP, LastSentLCP, LastReceivedLCP []byte
	AuthType                                 ProxyAuthType
	AuthID                                   uint8
	AuthName, AuthChallenge, AuthResponse    []byte
}

func (p *Proxy) snapshot() proxySnapshot {
	return proxySnapshot{
		p.InitialLCP, p.LastSentLCP, p.LastReceivedLCP, p.AuthType, p.AuthID, []byte(p.AuthName), p.AuthChallenge, p.AuthResponse.Reveal(),
	}
}

func (s proxySnapshot) restore() *Proxy {
	return &Proxy{
		InitialLCP: s.InitialLCP, LastSentLCP: s.LastSentLCP, LastReceivedLCP: s.LastReceivedLCP, AuthType: s.AuthType,
		AuthName: string(s.AuthName), AuthChallenge: s.AuthChallenge, AuthID: s.AuthID, AuthResponse: s.AuthResponse,
	}
}
