package subscriber

import (
	"fmt"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

var protocols = map[pppd.AuthProtocol]aaa.Protocol{
	pppd.AuthPAP: aaa.PAP, pppd.AuthCHAPMD5: aaa.CHAPMD5, pppd.AuthMSCHAPv2: aaa.MSCHAPv2, pppd.AuthEAP: aaa.EAP,
}

// maxEAPRounds bounds the packets of one EAP dialogue, so that no server can keep a subscriber
// that is not in for ever. EAP-TLS with large certificates needs some dozens.
const maxEAPRounds = 100

// verdict is what the peer is told of an accept, once the kernel is ready for it.
type verdict struct {
	Message, MSCHAPv2Response string
	EAP                       []byte
}

// eapDialogue is how far AAA's dialogue with a peer of PPP has got.
type eapDialogue struct {
	Rounds int
	State  []byte // AAA's, for the peer's next packet
}

// authenticate asks AAA. The link has one question open at a time.
func (e *Engine) authenticate(now time.Time, s *session, r pppd.AuthRequest) {
	if s.leased && r.User != s.login {
		// LCP was renegotiated and somebody else logs in: the address and the
		// accounting belong to the first.
		e.end(now, s, ReasonUserChanged, "the peer authenticated again as another user", true)
		return
	}
	if ok, text := e.mayGuess(now, s, r.User); !ok {
		e.refusePeer(now, s, aaa.Decision{Reason: aaa.Reason(ReasonGuessing), Text: text})
		return
	}
	if s.State == StateLink {
		s.State = StateDeciding
	}
	e.decide(s, aaa.Request{
		User: r.User, Protocol: protocols[r.Protocol], Password: []byte(r.Password), ID: r.ID, Challenge: r.Challenge, Response: r.Response,
		EAP: r.EAP, MRU: r.PeerMRU, State: s.eap.State,
	})
}

// decide asks AAA about what the peer presented; the rest of the request is the session's.
func (e *Engine) decide(s *session, r aaa.Request) {
	r.Router, r.Access, r.Local, r.Remote, r.CallingNumber, r.IPProfile = e.cfg.Router, s.Access, s.Local, s.Remote, s.CallingNumber, s.profile.Name
	r.CalledNumber, r.SubAddress, r.TxSpeed, r.RxSpeed = s.CalledNumber, s.said.SubAddress, s.TxSpeed, s.RxSpeed
	r.LocalHost = s.LocalHost
	r.Session, r.Conn, r.Call, r.PeerHost, r.Peer, r.Profile = s.ID.String(), s.Conn, [2]uint16{s.Call.Tunnel, s.Call.Session}, s.PeerHost, s.Peer, s.Profile
	r.Again = s.leased
	if !s.leased {
		s.User, s.login = r.User, r.User
	}
	s.Protocol, s.asked = r.Protocol, true
	e.asking(s, r.User)
	e.emit(Decide{ID: s.ID, Profile: s.profile, Again: s.leased, Request: r})
}

func (e *Engine) decided(now time.Time, ev Decided) {
	s := e.byID[ev.ID]
	if s == nil || !s.asked {
		e.counts["unasked-decision"]++
		return
	}
	s.asked = false
	e.guesses.guessed(now, s.guesser, ev.Decision)
	if s.over {
		e.giveBack(s, ev)
		e.settle(now, s)
		return
	}
	if s.dyn != nil {
		e.dynamicDecided(now, s, ev)
		return
	}
	d := ev.Decision
	switch info := s.link.Info(); {
	case !info.Waiting || info.Phase != pppd.PhaseAuthenticate:
		// LCP was renegotiated or ended meanwhile: the answer is about an attempt that
		// counts no more. The link asks again if it goes on.
		e.giveBack(s, ev)
		if s.State == StateDeciding {
			s.State = StateLink
		}
		e.run(now, s, pppd.AuthDecision{})
	case !d.Accept && d.Round != nil:
		e.eapRound(now, s, *d.Round)
	case !d.Accept && d.Prompt != nil:
		e.refusePeer(now, s, aaa.Decision{Reason: aaa.Reason(ReasonChallenge), Text: "AAA wants to ask the user another question, and PPP has no way to do so"})
	case !d.Accept:
		e.refusePeer(now, s, d)
	case len(d.Tunnels) > 0:
		e.handOn(now, s, ev)
	case s.leased: // authenticated again after an LCP renegotiation
		if s.becameAnother(s.link.Info().User, d) {
			e.end(now, s, ReasonUserChanged, fmt.Sprintf("user %q has authenticated again as %q", s.User, d.User), true)
			return
		}
		e.holdAgain(now, s, d)
		s.verdict = verdict{d.Message, d.MSCHAPv2Response, d.EAP}
		e.accept(now, s)
	default:
		if r, text := s.unusable(ev); r != "" {
			e.giveBack(s, ev)
			e.refusePeer(now, s, aaa.Decision{Reason: aaa.Reason(r), Text: text})
			return
		}
		e.open(s, ev)
	}
}

// refusePeer ends the link with a refusal.
func (e *Engine) refusePeer(now time.Time, s *session, d aaa.Decision) {
	e.note(s, Reason(d.Reason), d.Text, false)
	e.run(now, s, pppd.AuthDecision{Reason: pppd.Reason(d.Reason), Message: d.Message, EAP: d.EAP})
}

// eapRound passes AAA's next EAP packet on.
func (e *Engine) eapRound(now time.Time, s *session, r aaa.EAPRound) {
	s.eap.Rounds++
	switch {
	case s.Protocol != aaa.EAP:
		e.refusePeer(now, s, aaa.Decision{Reason: aaa.ReasonBadAnswer, Text: "AAA goes on with EAP, which the peer does not speak"})
	case s.eap.Rounds > maxEAPRounds:
		e.refusePeer(now, s, aaa.Decision{Reason: aaa.Reason(ReasonRounds), Text: fmt.Sprintf("AAA has sent %d EAP packets and not decided", s.eap.Rounds)})
	default:
		s.eap.State = r.State
		e.run(now, s, pppd.AuthDecision{Continue: true, EAP: r.Packet, Timeout: r.Timeout})
	}
}

// open has the kernel objects of an accepted subscriber made.
func (e *Engine) open(s *session, ev Decided) {
	e.hold(s, ev)
	d := ev.Decision
	s.verdict = verdict{d.Message, d.MSCHAPv2Response, d.EAP}
	s.MTU = least(int(s.link.Info().MTU), s.granted.MTU)
	e.emit(OpenSession{
		ID: s.ID, Call: s.Call, PeerTunnel: s.PeerTunnel, PeerSession: s.PeerSession, Sequencing: s.sequencing,
		Terminating: s.Terminating, MTU: s.MTU, Traffic: s.Traffic, Link: s.profile.Link,
	})
}

func (e *Engine) sessionOpened(now time.Time, ev SessionOpened) {
	s := e.byID[ev.ID]
	if s == nil || s.dyn != nil || s.far != nil || s.kernel != kernelOpening {
		return
	}
	if ev.Reason != "" {
		s.kernel = kernelNone
		e.note(s, ev.Reason, ev.Text, false)
		if !s.over {
			e.run(now, s, pppd.AuthDecision{Message: "server cannot serve you now", Reason: pppd.Reason(ev.Reason)})
		}
		// The refusal ends the link unless LCP is being renegotiated.
		e.end(now, s, ev.Reason, ev.Text, false)
		return
	}
	s.kernel, s.Interface, s.Ifindex = kernelOpen, ev.Interface, ev.Ifindex
	if s.over {
		e.settle(now, s)
		return
	}
	e.accept(now, s)
}

// accept tells the peer that it is in, and starts the network phase.
func (e *Engine) accept(now time.Time, s *session) {
	if s.State < StateNetwork {
		s.State = StateNetwork
	}
	v := s.verdict
	s.verdict = verdict{}
	e.run(now, s, pppd.AuthDecision{
		Accept: true, Message: v.Message, MSCHAPv2Response: v.MSCHAPv2Response, EAP: v.EAP,
		Network: pppd.Network{Local: s.Gateway, Peer: s.Address, DNS: s.granted.DNS, NBNS: s.granted.NBNS},
	})
}

// networkUp lets traffic flow once the session's accounting has started.
func (e *Engine) networkUp(s *session, f pppd.NetworkUp) {
	s.network = true
	s.State, s.MTU = StateActivating, least(int(f.MTU), s.granted.MTU)
	if e.account(s) {
		e.activate(s)
	}
}

func (e *Engine) activate(s *session) {
	s.active = true
	s.activations++
	e.emit(Activate{ID: s.ID, Call: s.Call, Terminating: s.Terminating, Peer: s.Address, Gateway: s.Gateway, MTU: s.MTU, Routes: s.Routes, Link: s.profile.Link})
}

func (e *Engine) networkDown(s *session) {
	s.network = false
	s.State = StateNetwork
	if s.active {
		s.active = false
		e.emit(Deactivate{ID: s.ID, Call: s.Call})
	}
}

func (e *Engine) sessionActivated(now time.Time, ev SessionActivated) {
	s := e.byID[ev.ID]
	if s == nil || s.activations == 0 {
		return
	}
	s.activations--
	if s.over {
		return
	}
	if ev.Reason != "" {
		e.end(now, s, ev.Reason, ev.Text, false)
		return
	}
	if !s.active || s.activations > 0 {
		return // IPCP was renegotiated meanwhile: another answer comes
	}
	e.up(now, s)
}

// up reports, once, that the subscriber can send traffic.
func (e *Engine) up(now time.Time, s *session) {
	s.State = StateUp
	if s.started {
		return
	}
	s.started, s.Up = true, now
	e.startTimeouts(now, s)
	e.emit(Started{Record: s.Record})
}
