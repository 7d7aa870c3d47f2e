package radius

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
)

// Doer asks a group of servers; *Client is one.
type Doer interface {
	Do(ctx context.Context, group string, x Exchange) (Answer, error)
}

// Method decides by RADIUS. It is safe for concurrent use once its fields are set.
type Method struct {
	Client Doer
	NAS    NAS
	// MayMove: the servers are those of the default virtual router, and their Virtual-Router is heeded (R6, F2).
	MayMove bool
	// ProvenPassword is the User-Password for identities that phase 1 has proven, with Service-Type Outbound, as Cisco
	// does ("cisco" there); empty: Service-Type Authorize-Only, without password.
	ProvenPassword keymat.Secret
	// Found counts what was in answers and could not be used.
	Found Findings
}

var _ aaa.Backend = (*Method)(nil)

// byRADIUS is the method in aaa.Authority.
const byRADIUS = "radius"

// Authenticate asks a group of servers about a request. It blocks until one has answered or all have been silent, or ctx
// ends. Decision.User is the User-Name of the accept, empty where there is none. Refusals have these reasons: ReasonRefused where a server refused, ReasonTimeout where none answered,
// ReasonNoServer, ReasonOverload, ReasonProtocol where RADIUS cannot carry the request, ReasonBadAnswer where an accept
// or a challenge cannot be used.
func (m *Method) Authenticate(ctx context.Context, group string, r aaa.Request) aaa.Decision {
	d := m.ask(ctx, group, r)
	d.By.Method = byRADIUS
	return d
}

func (m *Method) ask(ctx context.Context, group string, r aaa.Request) aaa.Decision {
	x, err := m.exchange(r)
	if err != nil {
		return aaa.Decision{Reason: aaa.ReasonProtocol, Text: err.Error()}
	}
	a, err := m.Client.Do(ctx, group, x)
	var malformed *MalformedError
	switch {
	case errors.As(err, &malformed):
		return aaa.Decision{Reason: aaa.ReasonProtocol, Text: err.Error()}
	case errors.Is(err, ErrNoServer):
		return aaa.Decision{Reason: aaa.ReasonNoServer, Text: fmt.Sprintf("group %q: %v", group, err)}
	case errors.Is(err, ErrOverload):
		return aaa.Decision{Reason: aaa.ReasonOverload, Text: err.Error()}
	case err != nil:
		return aaa.Decision{Reason: aaa.ReasonTimeout, Text: fmt.Sprintf("group %q: %v", group, err)}
	}
	in := read(a.Attributes)
	d := m.decide(r, a, &in)
	d.By.Server = a.Server
	m.Found.add(in.found)
	return d
}

// decide says what a verified answer means.
func (m *Method) decide(r aaa.Request, a Answer, in *reading) aaa.Decision {
	if r.Protocol == aaa.EAP && a.Attributes.Get(typeMessageAuth) == nil {
		// RFC 3579 section 3.2; a server may be excused from it for all else (Server.AllowUnsigned).
		return bad(a, "it answered EAP without Message-Authenticator")
	}
	switch a.Code {
	case rad.CodeAccessAccept:
		return m.accept(r, a, in)
	case rad.CodeAccessReject:
		return reject(r, a, in)
	case rad.CodeAccessChallenge:
		return challenge(r, a, in)
	}
	return bad(a, fmt.Sprintf("it answered with code %d", a.Code))
}

// bad refuses an answer that cannot be used.
func bad(a Answer, text string) aaa.Decision {
	return aaa.Decision{Reason: aaa.ReasonBadAnswer, Text: fmt.Sprintf("server %s: %s", a.Server, text)}
}

func (m *Method) accept(r aaa.Request, a Answer, in *reading) aaa.Decision {
	b := builder{mayMove: m.MayMove}
	b.apply(in, acceptRules)
	tunnels := b.handOn(r, a.Passwords, in)
	if b.refuse != "" {
		return bad(a, b.refuse)
	}
	d := aaa.Decision{Accept: true, Message: in.message(), Tunnels: tunnels, Grants: b.grants()}
	d.User, _ = b.user.get()
	switch r.Protocol {
	case aaa.MSCHAPv2:
		success, ok := in.vendor(Attribute{vendorMicrosoft, msCHAP2Success})
		if d.MSCHAPv2Response = proof(success); !ok || d.MSCHAPv2Response == "" {
			return bad(a, "it accepted MS-CHAPv2 without the proof of MS-CHAP2-Success, so clients would hang up")
		}
	case aaa.EAP:
		d.EAP = joinEAP(in.values)
		if code, ok := eapCode(d.EAP); len(d.EAP) > 0 && (!ok || code != eapSuccess) {
			// RFC 3579 section 2.6.3: packet and EAP-Message must say the same.
			return bad(a, "its accept has an EAP-Message that is no Success")
		}
	}
	return d
}

func reject(r aaa.Request, a Answer, in *reading) aaa.Decision {
	d := aaa.Decision{Reason: aaa.ReasonRefused, Message: in.message(), Text: fmt.Sprintf("server %s refuses the user", a.Server)}
	if b, ok := in.vendor(Attribute{vendorMicrosoft, msCHAPError}); ok && r.Protocol == aaa.MSCHAPv2 {
		d.Text += ": " + chapError(b)
	} else if d.Message != "" {
		d.Text += fmt.Sprintf(": %q", d.Message)
	}
	if r.Protocol == aaa.EAP {
		d.EAP = joinEAP(in.values)
		if code, ok := eapCode(d.EAP); !ok || code != eapFailure {
			d.EAP = nil // the link makes its own
		}
	}
	return d
}

// maxRoundTimeout bounds how long a server may give a user for an answer.
const maxRoundTimeout = 10 * time.Minute

// challenge asks for more: the peer for one more EAP packet, the user for one more answer.
//
// What kind of answer is not said by RADIUS. Prompt (RFC 2869 section 5.10) says whether it may be seen: then the client
// is asked for an answer, else for a password, which every client can.
func challenge(r aaa.Request, a Answer, in *reading) aaa.Decision {
	var state []byte
	var timeout time.Duration
	echo := false
	for _, v := range in.values {
		switch v.attribute {
		case Attribute{Type: typeState}:
			if state == nil {
				state = slices.Clone(v.octets)
			}
		case Attribute{Type: typeSessionTimeout}:
			timeout = min(time.Duration(v.number)*time.Second, maxRoundTimeout)
		case Attribute{Type: typePrompt}:
			echo = v.number == 1
		}
	}
	if r.Protocol == aaa.EAP {
		packet := joinEAP(in.values)
		if code, ok := eapCode(packet); !ok || code != eapRequest {
			return bad(a, "its challenge has no EAP request")
		}
		return aaa.Decision{Round: &aaa.EAPRound{Packet: packet, State: state, Timeout: timeout}}
	}
	return aaa.Decision{Prompt: &aaa.Prompt{Message: in.message(), Answer: echo, State: state}}
}

// message is the first Reply-Message (R7); empty: there is none.
func (r *reading) message() string {
	for _, v := range r.values {
		if v.attribute == (Attribute{Type: typeReplyMessage}) {
			return shown(string(v.octets))
		}
	}
	return ""
}

func (r *reading) vendor(a Attribute) ([]byte, bool) {
	for _, v := range r.values {
		if v.attribute == a {
			return v.octets, true
		}
	}
	return nil, false
}

// proofLen is the length of RFC 2759's authenticator response, "S=" and 40 hexadecimal digits.
const proofLen = 42

// proof takes the authenticator response out of MS-CHAP2-Success (RFC 2548 section 2.3.3: identifier and string); empty:
// it is not there. What a server adds behind it, such as "M=", is left out. Windows compares capital letters.
func proof(b []byte) string {
	if len(b) < 1+proofLen {
		return ""
	}
	s := strings.ToUpper(string(b[1 : 1+proofLen]))
	digits, ok := strings.CutPrefix(s, "S=")
	if !ok || strings.Trim(digits, "0123456789ABCDEF") != "" {
		return ""
	}
	return s
}

// chapErrors are the errors of RFC 2759 section 6.
var chapErrors = map[int]string{
	646: "the user may not log in at this hour",
	647: "the account is disabled",
	648: "the password has expired",
	649: "the user may not dial in",
	691: "wrong name or password",
	709: "the password cannot be changed to that",
}

// chapError says what MS-CHAP-Error means: identifier (which some servers leave out) and "E=691 R=0 C=... V=3 M=...".
func chapError(b []byte) string {
	s := shown(string(b))
	_, rest, ok := strings.Cut(s, "E=")
	if !ok {
		return fmt.Sprintf("%q", s)
	}
	digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	code, err := strconv.Atoi(digits)
	if err != nil {
		return fmt.Sprintf("%q", s)
	}
	if meaning, ok := chapErrors[code]; ok {
		return fmt.Sprintf("%s (MS-CHAP error %d)", meaning, code)
	}
	return fmt.Sprintf("MS-CHAP error %d", code)
}
