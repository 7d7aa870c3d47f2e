package subscriber

import (
	"cmp"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

var protocols = map[pppd.AuthProtocol]aaa.Protocol{
	pppd.AuthPAP: aaa.PAP, pppd.AuthCHAPMD5: aaa.CHAPMD5, pppd.AuthMSCHAPv2: aaa.MSCHAPv2,
}

// authenticate asks AAA. The link has one question open at a time.
func (e *Engine) authenticate(now time.Time, s *session, r pppd.AuthRequest) {
	if s.leased && r.User != s.login {
		// LCP was renegotiated and somebody else logs in: the address and the
		// accounting belong to the first.
		e.end(now, s, ReasonUserChanged, "the peer authenticated again as another user", true)
		return
	}
	if ok, text := e.mayGuess(now, s.Remote, r.User); !ok {
		e.note(s, ReasonGuessing, text, false)
		e.run(now, s, pppd.AuthDecision{Reason: pppd.Reason(ReasonGuessing)})
		return
	}
	if s.State == StateLink {
		s.State = StateDeciding
	}
	e.decide(s, aaa.Request{
		User: r.User, Protocol: protocols[r.Protocol], Password: []byte(r.Password), ID: r.ID, Challenge: r.Challenge, Response: r.Response,
	})
}

// decide asks AAA about what the peer presented; the rest of the request is the session's.
func (e *Engine) decide(s *session, r aaa.Request) {
	r.Router, r.Access, r.Remote, r.CallingNumber, r.IPProfile = e.cfg.Router, s.Access, s.Remote, s.CallingNumber, s.profile.Name
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
	switch info := s.link.Info(); {
	case !info.Waiting || info.Phase != pppd.PhaseAuthenticate:
		// LCP was renegotiated or ended meanwhile: the answer is about an attempt that
		// counts no more. The link asks again if it goes on.
		e.giveBack(s, ev)
		if s.State == StateDeciding {
			s.State = StateLink
		}
		e.run(now, s, pppd.AuthDecision{})
	case !ev.Decision.Accept:
		e.note(s, Reason(ev.Decision.Reason), ev.Decision.Text, false)
		e.run(now, s, pppd.AuthDecision{Reason: pppd.Reason(ev.Decision.Reason)})
	case s.leased: // authenticated again after an LCP renegotiation
		s.decision = ev.Decision
		if s.started {
			e.limitSession(now, s)
		}
		e.accept(now, s)
	default:
		e.open(s, ev)
	}
}

// giveBack releases the address of an answer that came too late.
func (e *Engine) giveBack(s *session, ev Decided) {
	if s.leased || !ev.Address.IsValid() {
		return
	}
	e.emit(ReleaseAddress{
		ID: s.ID, Terminating: cmp.Or(ev.Decision.Terminating, s.profile.Terminating), Pool: s.profile.Pool,
		User: cmp.Or(ev.Decision.User, s.login), Address: ev.Address,
	})
}

// hold takes what AAA has granted; the kernel objects are to be made next.
func (s *session) hold(ev Decided) {
	s.decision, s.Address, s.leased = ev.Decision, ev.Address, true
	s.User = cmp.Or(ev.Decision.User, s.login)
	s.Terminating = cmp.Or(ev.Decision.Terminating, s.profile.Terminating)
	s.State, s.kernel = StateOpening, kernelOpening
}

// open has the kernel objects of an accepted subscriber made.
func (e *Engine) open(s *session, ev Decided) {
	s.hold(ev)
	s.MTU = int(s.link.Info().MTU)
	e.emit(OpenSession{
		ID: s.ID, Call: s.Call, PeerTunnel: s.PeerTunnel, PeerSession: s.PeerSession, Sequencing: s.sequencing,
		Terminating: s.Terminating, MTU: s.MTU,
	})
}

func (e *Engine) sessionOpened(now time.Time, ev SessionOpened) {
	s := e.byID[ev.ID]
	if s == nil || s.dyn != nil || s.kernel != kernelOpening {
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
	s.kernel, s.Interface = kernelOpen, ev.Interface
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
	e.run(now, s, pppd.AuthDecision{
		Accept: true, MSCHAPv2Response: s.decision.MSCHAPv2Response,
		Network: pppd.Network{Local: s.Gateway, Peer: s.Address, DNS: s.profile.DNS, NBNS: s.profile.NBNS},
	})
}

func (e *Engine) networkUp(s *session, f pppd.NetworkUp) {
	s.active = true
	s.activations++
	s.State, s.MTU = StateActivating, int(f.MTU)
	e.emit(Activate{ID: s.ID, Call: s.Call, Terminating: s.Terminating, Peer: s.Address, Gateway: s.Gateway, MTU: s.MTU})
}

func (e *Engine) networkDown(s *session) {
	s.active = false
	s.State = StateNetwork
	e.emit(Deactivate{ID: s.ID, Call: s.Call})
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
	e.limitSession(now, s)
	e.emit(Started{Record: s.Record})
}
