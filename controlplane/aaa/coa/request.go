package coa

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/radius"
)

// Attributes that the server reads itself (RFC 2865, 2866, 2869, 3162, 5176).
const (
	attrUserName             rad.Type = 1
	attrNASIPAddress         rad.Type = 4
	attrServiceType          rad.Type = 6
	attrFramedIPAddress      rad.Type = 8
	attrReplyMessage         rad.Type = 18
	attrState                rad.Type = 24
	attrClass                rad.Type = 25
	attrNASIdentifier        rad.Type = 32
	attrProxyState           rad.Type = 33
	attrAcctSessionID        rad.Type = 44
	attrAcctTerminateCause   rad.Type = 49
	attrEventTimestamp       rad.Type = 55
	attrMessageAuthenticator rad.Type = 80
	attrNASIPv6Address       rad.Type = 95
	attrErrorCause           rad.Type = 101
)

// serviceFramed is the only Service-Type that a subscriber has.
const serviceFramed = 2

// Match says which sessions are meant: those that all given fields match, at least one of which is given.
type Match struct {
	SessionID string     // Acct-Session-Id; empty: not given
	User      string     // User-Name, compared byte by byte; empty: not given
	Address   netip.Addr // Framed-IP-Address; zero: not given
}

// Means says whether a session is meant.
func (m Match) Means(sessionID, user string, address netip.Addr) bool {
	return m != (Match{}) && (m.SessionID == "" || m.SessionID == sessionID) && (m.User == "" || m.User == user) &&
		(!m.Address.IsValid() || m.Address == address)
}

// request is a packet that is one of a client's: its authenticators are right.
type request struct {
	packet *rad.Packet
	match  Match
	change aaa.Change
	stale  bool // Event-Timestamp is outside the window: no answer (RFC 5176 section 6.3)
}

// refusal is why a request is answered with a NAK without asking anybody.
type refusal struct {
	cause Cause
	text  string
}

func refuse(c Cause, format string, args ...any) *refusal {
	return &refusal{c, fmt.Sprintf(format, args...)}
}

// read takes a request apart. What is not understood is refused and never passed over: an attribute that narrows the
// choice of sessions would end too many if it were.
func (c *Config) read(now time.Time, p *rad.Packet) (request, *refusal) {
	r := request{packet: p}
	if stamp, bad := single(p, attrEventTimestamp, 4); bad != nil {
		return r, bad
	} else if stamp != nil {
		at := time.Unix(int64(binary.BigEndian.Uint32(stamp)), 0)
		if off := now.Sub(at).Abs(); off > c.window() {
			r.stale = true
			return r, refuse(InvalidRequest, "Event-Timestamp is %v off", off.Round(time.Second))
		}
	}
	for _, step := range []func(*request) *refusal{c.checkNAS, checkService, readMatch} {
		if bad := step(&r); bad != nil {
			return r, bad
		}
	}
	if p.Code == rad.CodeDisconnectRequest {
		return r, checkDisconnect(p)
	}
	return r, readChange(&r)
}

// single returns the value of an attribute that may be there once and has size bytes, 0 for 1 to 253; nil if it is not.
func single(p *rad.Packet, t rad.Type, size int) ([]byte, *refusal) {
	var out []byte
	for _, a := range p.Attributes {
		switch {
		case a.Type != t:
		case out != nil:
			return nil, refuse(InvalidRequest, "attribute %d is there twice", t)
		case len(a.Attribute) == 0 || size > 0 && len(a.Attribute) != size:
			return nil, refuse(InvalidValue, "attribute %d has %d bytes", t, len(a.Attribute))
		default:
			out = a.Attribute
		}
	}
	return out, nil
}

// checkNAS refuses what is meant for somebody else (RFC 5176 section 3).
func (c *Config) checkNAS(r *request) *refusal {
	name, bad := single(r.packet, attrNASIdentifier, 0)
	if bad != nil {
		return bad
	}
	if name != nil && string(name) != c.NASIdentifier {
		return refuse(NASMismatch, "NAS-Identifier %q is not ours", name)
	}
	for t, size := range map[rad.Type]int{attrNASIPAddress: 4, attrNASIPv6Address: 16} {
		b, bad := single(r.packet, t, size)
		if bad != nil {
			return bad
		}
		if a, ok := netip.AddrFromSlice(b); ok && !c.AnyNASAddress && !slices.Contains(c.NASAddresses, a) {
			return refuse(NASMismatch, "NAS address %v is not ours", a)
		}
	}
	return nil
}

// checkService refuses Authorize-Only, which would have us ask the server back (RFC 5176 section 3.2), and State, which goes
// with it. In a Disconnect-Request there is nothing that Service-Type could say.
func checkService(r *request) *refusal {
	service, bad := single(r.packet, attrServiceType, 4)
	switch {
	case bad != nil:
		return bad
	case service != nil && r.packet.Code == rad.CodeDisconnectRequest:
		return refuse(UnsupportedAttribute, "Service-Type in a Disconnect-Request")
	case service != nil && binary.BigEndian.Uint32(service) != serviceFramed:
		return refuse(UnsupportedService, "Service-Type %d", binary.BigEndian.Uint32(service))
	}
	if _, has := r.packet.Lookup(attrState); has {
		return refuse(UnsupportedAttribute, "State, which belongs to Authorize-Only")
	}
	return nil
}

func readMatch(r *request) *refusal {
	for t, field := range map[rad.Type]*string{attrAcctSessionID: &r.match.SessionID, attrUserName: &r.match.User} {
		b, bad := single(r.packet, t, 0)
		if bad != nil {
			return bad
		}
		*field = string(b)
	}
	b, bad := single(r.packet, attrFramedIPAddress, 4)
	if bad != nil {
		return bad
	}
	if a, ok := netip.AddrFromSlice(b); ok {
		if a.IsUnspecified() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || a == netip.AddrFrom4([4]byte{255, 255, 255, 254}) {
			return refuse(InvalidValue, "Framed-IP-Address %v is nobody's", a)
		}
		r.match.Address = a
	}
	if r.match == (Match{}) {
		return refuse(MissingAttribute, "neither Acct-Session-Id nor User-Name nor Framed-IP-Address")
	}
	return nil
}

// framing are the attributes that say nothing about what is to be done.
var framing = []rad.Type{
	attrUserName, attrNASIPAddress, attrServiceType, attrFramedIPAddress, attrReplyMessage, attrNASIdentifier, attrProxyState, attrAcctSessionID,
	attrEventTimestamp, attrMessageAuthenticator, attrNASIPv6Address,
}

// checkDisconnect refuses attributes that mean anything else. Reply-Message would be for the user, who cannot be told;
// Class and Acct-Terminate-Cause are what servers know of the session, sent along (FreeRADIUS copies whole records).
func checkDisconnect(p *rad.Packet) *refusal {
	for _, a := range p.Attributes {
		if !slices.Contains(framing, a.Type) && a.Type != attrClass && a.Type != attrAcctTerminateCause {
			return refuse(UnsupportedAttribute, "attribute %d in a Disconnect-Request", a.Type)
		}
	}
	return nil
}

func readChange(r *request) *refusal {
	var rest rad.Attributes
	for _, a := range r.packet.Attributes {
		if !slices.Contains(framing, a.Type) {
			rest = append(rest, a)
		}
	}
	if len(rest) == 0 {
		return refuse(MissingAttribute, "nothing is to be changed")
	}
	change, unsupported, err := radius.ParseChange(rest)
	switch {
	case err != nil:
		return refuse(InvalidValue, "%v", err)
	case len(unsupported) > 0:
		return refuse(UnsupportedAttribute, "%v cannot be changed", unsupported)
	}
	r.change = change
	return nil
}

// answer makes the packet that answers a request: with Error-Cause unless it was done, and with its Proxy-State, in
// order and unchanged (RFC 5176 section 3.1).
func (r request) answer(cause Cause) ([]byte, error) {
	code := map[bool]map[rad.Code]rad.Code{
		true:  {rad.CodeDisconnectRequest: rad.CodeDisconnectACK, rad.CodeCoARequest: rad.CodeCoAACK},
		false: {rad.CodeDisconnectRequest: rad.CodeDisconnectNAK, rad.CodeCoARequest: rad.CodeCoANAK},
	}[cause == 0][r.packet.Code]
	p := r.packet.Response(code)
	if cause != 0 {
		p.Add(attrErrorCause, binary.BigEndian.AppendUint32(nil, uint32(cause)))
	}
	for _, a := range r.packet.Attributes {
		if a.Type == attrProxyState {
			p.Add(attrProxyState, a.Attribute)
		}
	}
	return radius.SignAnswer(p)
}
