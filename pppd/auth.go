package pppd

import (
	"bytes"
	"fmt"
	"time"
)

// Codes of PAP (RFC 1334 section 2.2) and CHAP (RFC 1994 section 4).
const (
	papRequest = 1
	papAck     = 2
	papNak     = 3

	chapChallenge = 1
	chapResponse  = 2
	chapSuccess   = 3
	chapFailure   = 4
)

// outcome is what became of the peer's authentication.
type outcome uint8

const (
	undecided outcome = iota
	accepted
	refused
)

// authState is the authenticator's side: the peer proves itself to us. The protocol is LCP's Ask.Auth.
type authState struct {
	Pending bool // an Authenticate is without its AuthDecision
	Stale   bool // that Authenticate belongs to an earlier LCP negotiation: its answer is void

	PeerDone bool // the peer has authenticated, or need not
	Outcome  outcome
	User     []byte // as received; bytes, because JSON strings cannot hold every name
	ID       uint8  // of our Challenge, of the last PAP request, or of the last EAP Request
	Message  []byte // of the verdict

	Challenge []byte
	Request   []byte        // the EAP Request that waits for the peer's Response
	Rounds    int           // Requests that the EAP server has sent
	Tries     int           // how often the Challenge, the Request or EAP's Success has been sent
	Wait      time.Duration // for the Response to Request
	Retry     time.Time     // when it is sent again
	Deadline  time.Time     // of the phase
	Remaining time.Duration // what is left of the phase while AAA thinks
}

// startAuth begins the authentication phase: LCP has opened.
func (l *Link) startAuth() {
	l.s.Phase = PhaseAuthenticate
	a := &l.s.Auth
	if a.Pending {
		// AAA is still busy with what the peer presented before it negotiated LCP anew. One question at a
		// time: the phase begins when the void answer has come.
		a.Stale = true
		return
	}
	a.PeerDone = l.cfg.Dialer != nil && l.s.LCP.Ask.Auth == AuthNone
	l.s.Self.Done = l.s.LCP.Peer.Auth == AuthNone
	a.Deadline = l.now.Add(l.cfg.AuthTimeout)
	switch l.s.LCP.Ask.Auth {
	case AuthNone:
		if !a.PeerDone {
			// Nobody is served without AAA, even if it asks nothing of the peer: the address comes from there.
			l.ask(AuthRequest{Protocol: AuthNone})
		}
	case AuthCHAPMD5, AuthMSCHAPv2:
		if a.ID == 0 {
			// The first identifier is drawn, because a LAC may have challenged the peer before us, and a challenge
			// with the identifier of its last one looks like a copy of that (RFC 1994 section 4.1).
			first := make([]byte, 1)
			l.rand(first)
			a.ID = first[0]
		}
		a.Challenge = make([]byte, msChallengeLen)
		l.rand(a.Challenge)
		a.ID++
		l.challenge()
	case AuthEAP:
		l.startEAP()
	}
	l.startSelf()
	l.authAdvance()
}

// authReset forgets everything about an authentication but what AAA still owes.
func (l *Link) authReset() {
	a := &l.s.Auth
	*a = authState{Pending: a.Pending, Stale: a.Pending, ID: a.ID}
	l.s.Self = selfState{}
}

// authAdvance goes on to the network phase when both ends are satisfied.
func (l *Link) authAdvance() {
	if l.s.Phase == PhaseAuthenticate && l.s.Auth.PeerDone && l.s.Self.Done && !l.closing {
		l.s.Auth.Deadline = time.Time{}
		l.enterNetwork()
	}
}

// authLate ends the authentication phase; AAA's time does not count.
func (l *Link) authLate() {
	d := Down{Reason: ReasonAuthTimeout, Text: "the peer did not authenticate in time", Cause: DisconnectCause{causeAuthTimeout, authNumber(l.s.LCP.Ask.Auth), 0}}
	if l.s.Auth.PeerDone {
		d.Text = "the peer did not answer our authentication in time"
		d.Cause.Protocol = authNumber(l.s.LCP.Peer.Auth)
	}
	l.end(d)
}

// challenge sends our Challenge. Repetitions are identical, so that a response to any copy counts.
func (l *Link) challenge() {
	a := &l.s.Auth
	a.Tries++
	a.Retry = l.now.Add(l.cfg.Restart)
	data := make([]byte, 0, 1+len(a.Challenge)+len(l.cfg.Name))
	data = append(data, uint8(len(a.Challenge)))
	data = append(data, a.Challenge...)
	l.send(ProtocolCHAP, packet{chapChallenge, a.ID, append(data, l.cfg.Name...)})
}

// retryAuth repeats what the peer has not reacted to.
func (l *Link) retryAuth() {
	if l.s.LCP.Ask.Auth == AuthEAP {
		l.retryEAP()
	} else if l.s.Auth.Tries < l.cfg.MaxConfigure {
		l.challenge()
	}
}

// authPacket demultiplexes PAP, CHAP and EAP. What was not agreed on is dropped: answering would invite guessing.
func (l *Link) authPacket(protocol uint16, p packet) {
	ours, theirs := l.s.LCP.Ask.Auth, l.s.LCP.Peer.Auth
	switch {
	case protocol == ProtocolPAP && p.code == papRequest && ours == AuthPAP:
		l.papRequest(p)
	case protocol == ProtocolCHAP && p.code == chapResponse && authNumber(ours) == ProtocolCHAP:
		l.chapResponse(p)
	case protocol == ProtocolPAP && (p.code == papAck || p.code == papNak) && theirs == AuthPAP:
		l.papAnswer(p)
	case protocol == ProtocolCHAP && p.code == chapChallenge && authNumber(theirs) == ProtocolCHAP:
		l.chapChallenge(p)
	case protocol == ProtocolCHAP && (p.code == chapSuccess || p.code == chapFailure) && authNumber(theirs) == ProtocolCHAP:
		l.chapAnswer(p)
	case protocol == ProtocolEAP && p.code == eapResponse && ours == AuthEAP:
		l.eapResponse(p)
	case protocol == ProtocolEAP && p.code == eapRequest && theirs == AuthEAP:
		l.eapRequested(p)
	case protocol == ProtocolEAP && (p.code == eapSuccess || p.code == eapFailure) && theirs == AuthEAP:
		l.eapAnswer(p)
	default:
		l.s.Counters.Unexpected++
	}
}

// papRequest handles an Authenticate-Request: RFC 1334 section 2.2.1. The first one counts; repetitions get its verdict,
// whatever they contain, because the first verdict was given about this link.
func (l *Link) papRequest(p packet) {
	a := &l.s.Auth
	user, rest, ok := takeString(p.data)
	password, _, ok2 := takeString(rest)
	if !ok || !ok2 {
		l.s.Counters.Malformed++
		return
	}
	if a.Stale {
		return // the client will repeat it
	}
	a.ID = p.id
	if a.Pending || a.Outcome != undecided {
		l.repeatVerdict()
		return
	}
	if !l.presented(user) {
		return
	}
	l.ask(AuthRequest{Protocol: AuthPAP, User: string(user), Password: Secret(bytes.Clone(password)), ID: p.id})
}

// chapResponse handles a Response: RFC 1994 section 4.1.
func (l *Link) chapResponse(p packet) {
	a := &l.s.Auth
	protocol, size := l.s.LCP.Ask.Auth, md5ResponseLen
	if protocol == AuthMSCHAPv2 {
		size = msResponseLen
	}
	value, user, ok := takeString(p.data)
	if !ok || len(value) != size {
		l.s.Counters.Malformed++
		return
	}
	if p.id != a.ID || a.Challenge == nil {
		l.s.Counters.Unexpected++
		return
	}
	if a.Pending || a.Outcome != undecided {
		l.repeatVerdict()
		return
	}
	if !l.presented(user) {
		return
	}
	l.ask(AuthRequest{
		Protocol: protocol, User: string(user), ID: p.id,
		Challenge: bytes.Clone(a.Challenge), Response: bytes.Clone(value),
	})
}

// presented notes the peer's name; one that AAA could not carry is refused at once.
func (l *Link) presented(user []byte) bool {
	if len(user) > maxUser {
		l.refuse(Down{Reason: ReasonAuthFailed, Text: fmt.Sprintf("the peer's name has %d octets, at most %d are possible", len(user), maxUser)}, "")
		return false
	}
	l.s.Auth.User = bytes.Clone(user)
	return true
}

// ask puts the question to AAA and stops the clock of the phase: a slow RADIUS server must not cost the client its link.
func (l *Link) ask(r AuthRequest) {
	a := &l.s.Auth
	r.PeerMRU = min(l.peerMRU(), l.cfg.MRU)
	a.Pending, l.asked = true, &r
	a.Remaining = a.Deadline.Sub(l.now)
	a.Deadline, a.Retry = time.Time{}, time.Time{}
	l.emit(Authenticate{r})
}

// decide handles AAA's answer.
func (l *Link) decide(d AuthDecision) {
	a := &l.s.Auth
	if !a.Pending {
		return
	}
	stale := a.Stale
	a.Pending, a.Stale, l.asked = false, false, nil
	if l.s.Phase != PhaseAuthenticate {
		return
	}
	if stale {
		l.startAuth()
		return
	}
	if d.Continue {
		l.eapContinue(d)
		return
	}
	message, contradiction := bounded(d.Message), "" // what makes the answer impossible
	switch l.s.LCP.Ask.Auth {
	case AuthEAP:
		contradiction = eapVerdict(d)
	case AuthMSCHAPv2:
		proof, ok := mschapSuccess(d)
		if d.Accept && !ok {
			// Without the proof a client that checks it hangs up and blames the password.
			contradiction = "AAA accepted MS-CHAPv2 without an authenticator response"
		}
		message = proof
	}
	switch {
	case !d.Accept:
		text := l.refusalText(d.Message)
		if contradiction != "" {
			text += " (" + contradiction + ")"
		}
		l.refuse(Down{Reason: orReason(d.Reason, ReasonAuthFailed), Text: text}, d.Message)
	case contradiction != "":
		l.refuse(Down{Reason: ReasonInternal, Text: contradiction}, "")
	default:
		a.Outcome, a.PeerDone = accepted, true
		a.Message = message
		l.s.Network = d.Network
		a.Deadline = l.now.Add(a.Remaining)
		if l.s.LCP.Ask.Auth == AuthEAP {
			a.Tries, a.Retry = 1, l.now.Add(l.cfg.Restart)
		}
		l.repeatVerdict()
		l.authAdvance()
	}
}

func (l *Link) refusalText(message string) string {
	if message == "" {
		return "authentication failed"
	}
	return "authentication failed: " + printable([]byte(message))
}

// refuse sends the negative verdict and ends the link. MS-CHAPv2's failure message says 691, wrong name or password, and
// R=0, no second try (RFC 2759 section 6): another try means another link, which is what slows guessing down (H5, H7).
func (l *Link) refuse(d Down, message string) {
	a := &l.s.Auth
	a.Outcome = refused
	a.Message = bounded(message)
	if l.s.LCP.Ask.Auth == AuthMSCHAPv2 {
		var next [msChallengeLen]byte
		l.rand(next[:])
		if message == "" {
			message = "authentication failed"
		}
		a.Message = fmt.Appendf(nil, "E=691 R=0 C=%X V=3 M=%s", next, bounded(message))
	}
	l.repeatVerdict()
	d.Cause = DisconnectCause{causeAuthFailed, authNumber(l.s.LCP.Ask.Auth), directionPeer}
	l.end(d)
}

// repeatVerdict sends the verdict, or nothing while there is none.
func (l *Link) repeatVerdict() {
	a := &l.s.Auth
	if a.Outcome == undecided {
		l.s.Counters.Repeats++
		return
	}
	ok := a.Outcome == accepted
	switch l.s.LCP.Ask.Auth {
	case AuthPAP:
		code := uint8(papNak)
		if ok {
			code = papAck
		}
		l.send(ProtocolPAP, packet{code, a.ID, append([]byte{uint8(len(a.Message))}, a.Message...)})
	case AuthCHAPMD5, AuthMSCHAPv2:
		code := uint8(chapFailure)
		if ok {
			code = chapSuccess
		}
		l.send(ProtocolCHAP, packet{code, a.ID, a.Message})
	case AuthEAP:
		code := uint8(eapFailure)
		if ok {
			code = eapSuccess
		}
		l.send(ProtocolEAP, packet{code, a.ID, nil})
	}
}

// bounded cuts a message to maxMessage octets.
func bounded(s string) []byte { return []byte(s[:min(len(s), maxMessage)]) }

// authNumber is the PPP protocol number that carries p; 0 for none.
func authNumber(p AuthProtocol) uint16 {
	switch p {
	case AuthPAP:
		return ProtocolPAP
	case AuthCHAPMD5, AuthMSCHAPv2:
		return ProtocolCHAP
	case AuthEAP:
		return ProtocolEAP
	}
	return 0
}
