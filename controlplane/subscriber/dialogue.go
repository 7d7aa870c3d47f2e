package subscriber

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"vrgate/controlplane/aaa"
)

// maxRounds bounds AAA's further questions in one dialogue, so that no server can keep a
// subscriber that is not in for ever.
const maxRounds = 10

// wrongAnswer is what a user is told who is asked again, unless AAA has a message. It says no more
// than that, for it also goes to those who guess.
const wrongAnswer = "The user name or the password is wrong."

// authenticateUser begins a dialogue: with the user or, where phase 1 alone authenticates,
// with AAA about the identity. The count of wrong answers goes on, or a rekey would begin it
// anew.
func (e *Engine) authenticateUser(s *session) {
	d := s.dyn
	d.Rounds, d.Prompted, d.State = 0, false, nil
	if d.Tunnel.XAuth {
		e.ask(s, AskUser{})
		return
	}
	e.decideUser(s, aaa.Request{User: d.Tunnel.UserName(bareIdentity(s.PeerID), ""), Protocol: aaa.Proven})
}

// ask puts a question to the user, in the place of one that is still open.
func (e *Engine) ask(s *session, f AskUser) {
	s.dyn.Dialogue = dialogueAsking
	if s.State == StateDeciding {
		s.State = StateLink
	}
	f.Conn = s.Conn
	e.emit(f)
}

func (e *Engine) userAnswered(now time.Time, ev UserAnswered) {
	s := e.byConn[ev.Conn]
	if s == nil || s.over || s.dyn.Dialogue != dialogueAsking {
		e.counts[CountUnasked]++
		return
	}
	if ev.Refused {
		e.end(now, s, ReasonUserRefused, "the user has cancelled, or the client cannot answer what it was asked", true)
		return
	}
	d := s.dyn
	name := d.Tunnel.UserName(ev.User, ev.Domain)
	if d.Prompted && ev.User == "" {
		name = d.Name // clients give the name once
	}
	r := aaa.Request{
		User: name, Protocol: aaa.PAP, Password: ev.Password, Passcode: ev.Passcode, Answer: ev.Answer, NextPIN: ev.NextPIN, State: d.State,
	}
	if len(ev.Response) > 0 {
		r.Protocol, r.ID, r.Challenge, r.Response = aaa.CHAPMD5, ev.CHAPID, ev.Challenge, ev.Response
	}
	if len(name) > aaa.MaxUserName {
		e.refused(now, s, aaa.Decision{Reason: aaa.ReasonUnknownUser, Text: fmt.Sprintf("a user name of %d bytes", len(name))})
		return
	}
	if ok, text := e.mayGuess(now, s, name); !ok {
		e.end(now, s, ReasonGuessing, text, false)
		return
	}
	e.decideUser(s, r)
}

func (e *Engine) decideUser(s *session, r aaa.Request) {
	s.dyn.Dialogue, s.dyn.Name = dialogueDeciding, r.User
	if s.State == StateLink {
		s.State = StateDeciding
	}
	r.PeerID = s.PeerID
	e.decide(s, r)
}

// dynamicDecided goes on with AAA's answer about a subscriber that is not over.
func (e *Engine) dynamicDecided(now time.Time, s *session, ev Decided) {
	d := s.dyn
	switch {
	case d.Void:
		d.Void = false
		e.giveBack(s, ev)
		e.authenticateUser(s)
	case !ev.Decision.Accept && ev.Decision.Prompt != nil:
		e.prompted(now, s, *ev.Decision.Prompt)
	case !ev.Decision.Accept && ev.Decision.Round != nil:
		e.end(now, s, Reason(aaa.ReasonBadAnswer), "AAA goes on with EAP, which XAuth cannot carry", false)
	case !ev.Decision.Accept:
		e.refused(now, s, ev.Decision)
	case s.leased:
		e.acceptedAgain(now, s, ev)
	case e.full(s):
		e.giveBack(s, ev)
		e.reject(now, s)
	default:
		if r, text := s.unusable(ev); r != "" {
			e.giveBack(s, ev)
			e.end(now, s, r, text, false)
			return
		}
		d.Dialogue, d.Wrong, d.State = dialogueAccepted, 0, nil
		e.openAccess(s, ev)
	}
}

// prompted passes AAA's further question on, within the same XAuth transaction.
func (e *Engine) prompted(now time.Time, s *session, p aaa.Prompt) {
	d := s.dyn
	d.Rounds++
	switch {
	case !d.Tunnel.XAuth:
		e.end(now, s, ReasonDialogue, fmt.Sprintf("AAA wants to ask the user, but tunnel profile %s has no XAuth", s.Profile), false)
	case d.Rounds > maxRounds:
		e.end(now, s, ReasonDialogue, fmt.Sprintf("AAA has asked %d questions", d.Rounds), false)
	default:
		d.Prompted, d.State = true, p.State
		e.ask(s, AskUser{Message: p.Message, Passcode: p.Passcode, NextPIN: p.NextPIN, Answer: p.Answer})
	}
}

// refused asks once more, if another answer can help and there are attempts left.
func (e *Engine) refused(now time.Time, s *session, r aaa.Decision) {
	d := s.dyn
	d.Wrong++
	if !d.Tunnel.XAuth || !answerHelps(r.Reason) || d.Wrong >= cmp.Or(d.Tunnel.Attempts, defaultAttempts) {
		e.end(now, s, Reason(r.Reason), cmp.Or(r.Text, "AAA refuses the user"), false)
		return
	}
	e.counts[CountAskedAgain]++
	d.Rounds, d.Prompted, d.State = 0, false, nil
	e.ask(s, AskUser{Message: cmp.Or(r.Message, wrongAnswer)})
}

// answerHelps says whether a user that is refused for a reason may be let in after another
// answer. It never helps against an empty pool, and against a server that does not answer the
// client had better try later.
func answerHelps(r aaa.Reason) bool {
	switch r {
	case aaa.ReasonProtocol, aaa.ReasonTimeout, aaa.ReasonPoolEmpty, aaa.ReasonAddressInUse, aaa.ReasonNoPool,
		aaa.ReasonRouteInUse, aaa.ReasonNoRouter, aaa.ReasonNoGateway,
		aaa.ReasonNoServer, aaa.ReasonBadAnswer, aaa.ReasonOverload, aaa.ReasonUnknownPolicy,
		aaa.ReasonUserLimit, aaa.ReasonDomainLimit, aaa.ReasonRouterLimit, aaa.ReasonSourceLimit,
		aaa.ReasonNoSubscriberLicence, aaa.ReasonNoTunnelLicence:
		return false
	}
	return true
}

// acceptedAgain lets a subscriber in that had to authenticate once more: with what it has, if
// it is the same user.
func (e *Engine) acceptedAgain(now time.Time, s *session, ev Decided) {
	d := s.dyn
	if s.becameAnother(d.Name, ev.Decision) {
		e.end(now, s, ReasonUserChanged, fmt.Sprintf("user %q has authenticated again as %q", s.User, cmp.Or(ev.Decision.User, d.Name)), true)
		return
	}
	d.Dialogue, d.Wrong, d.State = dialogueAccepted, 0, nil
	e.holdAgain(now, s, ev.Decision)
	e.admit(now, s)
}

// UserName is what AAA is asked about: the name with the domain that the client gave apart from
// it, and the profile's domain suffix, which picks the domain map and so cannot be chosen by
// the user (J14). A suffix that does not bring its delimiter gets the usual one (R1).
func (t *TunnelProfile) UserName(user, domain string) string {
	if domain != "" && !strings.HasSuffix(user, "@"+domain) {
		user += "@" + domain
	}
	suffix := t.DomainSuffix
	if suffix != "" && isLetterOrDigit(suffix[0]) {
		suffix = "@" + suffix
	}
	if suffix != "" && strings.HasSuffix(user, suffix) {
		return user // typed in full
	}
	return user + suffix
}

func isLetterOrDigit(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// bareIdentity takes the syntax away from a phase 1 identity: "@host.example" is
// host.example, "dn:CN=x" is CN=x, and `KEY_ID "group"` is group.
func bareIdentity(id string) string {
	if name, ok := strings.CutPrefix(id, "@"); ok {
		return name
	}
	if name, ok := strings.CutPrefix(id, "dn:"); ok {
		return name
	}
	if _, quoted, ok := strings.Cut(id, " \""); ok {
		if name, err := strconv.Unquote(`"` + quoted); err == nil {
			return name
		}
	}
	return id
}
