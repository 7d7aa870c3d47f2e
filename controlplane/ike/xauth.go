package ike

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// XAuth (draft-beaulieu-ike-xauth-02):
//
//	subscriber                          router
//	                               <--  REQUEST(NAME="", PASSWORD="")
//	REPLY(NAME="joe", PASSWORD=…)  -->
//	                               <--  SET(STATUS=OK)
//	ACK                            -->
//
// All of it has one identifier, and as many questions as the decision takes.

// Values of XAUTH-STATUS.
const (
	statusFAIL = 0
	statusPASS = 1
)

const (
	maxXAuthText    = 1024 // bytes of one answer
	maxXAuthMessage = 512  // bytes shown to the user
	challengeLen    = 16   // as in appendix A-8
	maxAnswers      = 8    // questions answered as a subscriber before we give up
)

// askUser has the peer asked for name and password.
func (e *Engine) askUser(ev AskUser) {
	c := e.conns[ev.Conn]
	if c == nil || c.Dyn == nil || c.Dyn.Stage != stageWaiting {
		return
	}
	p := c.newest()
	if p == nil {
		return // its end is under way
	}
	c.Dyn.Question = ev
	e.ask(c, p)
}

// ask sends the question that the connection holds.
func (e *Engine) ask(c *conn, p *phase1) {
	d := c.Dyn
	for d.Identifier == 0 {
		d.Identifier = uint16(e.rand32())
	}
	d.Stage, d.Challenge = stageAsking, nil
	c.Grace = time.Time{} // the exchange has its own
	e.arm(c)
	q, text := d.Question, d.Question.Message
	var as []isakmp.Attribute
	empty := func(types ...uint16) {
		for _, t := range types {
			as = append(as, isakmp.Attribute{Type: t})
		}
	}
	switch t := e.cfg.tunnelByName(d.Profile); {
	case q.NextPIN:
		empty(isakmp.XAuthNextPIN)
	case q.Answer:
		if text == "" {
			text = "Answer:" // an answer must come with a message
		}
		empty(isakmp.XAuthAnswer)
	case q.Passcode:
		empty(isakmp.XAuthUserName, isakmp.XAuthPasscode)
	case t != nil && t.XAuth == XAuthRADIUSCHAP:
		d.Challenge = e.rand(challengeLen)
		as = append(as, isakmp.ShortAttribute(isakmp.XAuthType, uint16(XAuthRADIUSCHAP)),
			isakmp.Attribute{Type: isakmp.XAuthChallenge, Value: d.Challenge})
		empty(isakmp.XAuthUserName, isakmp.XAuthUserPassword)
	default:
		empty(isakmp.XAuthUserName, isakmp.XAuthUserPassword)
	}
	if text != "" {
		as = append(as, isakmp.Attribute{Type: isakmp.XAuthMessage, Value: []byte(text[:min(len(text), maxXAuthMessage)])})
	}
	e.begin(p, forUser, isakmp.AttributeSet{Type: isakmp.ConfigRequest, Identifier: d.Identifier, Attributes: as}, 0, userTime)
}

// userReply takes the answer to our question.
func (e *Engine) userReply(c *conn, p *phase1, set isakmp.AttributeSet) {
	d := c.Dyn
	if d == nil || d.Stage != stageAsking || p != c.newest() {
		e.count(DropUnexpected)
		return
	}
	u := UserAnswered{Conn: c.Info.ID, Static: c.Static}
	text := ""
	u.Answer, text = readAnswer(set, d.Challenge)
	if text != "" {
		e.report(LevelInfo, ReasonPeerRefused, "XAuth: "+text, p)
		u.Refused, u.Answer, d.Refused = true, UserAnswer{}, true
	}
	if c.Static != "" {
		c.Info.User = u.Answer.User
	}
	d.Stage, d.Question, d.Challenge = stageWaiting, AskUser{}, nil
	c.Grace = e.now.Add(decisionTime)
	e.arm(c)
	e.emit(u)
}

// readAnswer takes a REPLY apart. challenge: RADIUS-CHAP was asked for. text says
// why there is no answer in it.
func readAnswer(set isakmp.AttributeSet, challenge []byte) (a UserAnswer, text string) {
	if _, failed := set.Find(isakmp.XAuthStatus); failed {
		return a, "the user has cancelled, or the peer does not support what it was asked for"
	}
	want := XAuthGeneric
	if challenge != nil {
		want = XAuthRADIUSCHAP
	}
	typ := XAuthGeneric
	if t, ok := set.Find(isakmp.XAuthType); ok {
		if v, ok := t.Uint(); ok && v < 1<<16 {
			typ = XAuthType(v)
		}
	}
	if typ != want {
		return a, fmt.Sprintf("the peer answers with type %d, was asked for %d", typ, want)
	}
	for _, x := range set.Attributes {
		if len(x.Value) > maxXAuthText {
			return UserAnswer{}, fmt.Sprintf("attribute %d of %d bytes", x.Type, len(x.Value))
		}
		// Android's racoon counts the NUL behind its strings.
		v := bytes.TrimRight(x.Value, "\x00")
		switch x.Type {
		case isakmp.XAuthUserName:
			a.User = string(v)
		case isakmp.XAuthDomain:
			a.Domain = string(v)
		case isakmp.XAuthUserPassword:
			if challenge == nil {
				a.Password = clone(v)
				continue
			}
			// Appendix A-8: the identifier, then the hash.
			if len(x.Value) != 1+md5.Size {
				return UserAnswer{}, fmt.Sprintf("a CHAP response of %d bytes", len(x.Value))
			}
			a.CHAPID, a.Response, a.Challenge = x.Value[0], clone(x.Value[1:]), clone(challenge)
		case isakmp.XAuthPasscode:
			a.Passcode = clone(v)
		case isakmp.XAuthNextPIN:
			a.NextPIN = clone(v)
		case isakmp.XAuthAnswer:
			a.Answer = clone(v)
		}
	}
	if challenge != nil && a.Response == nil {
		return UserAnswer{}, "no CHAP response"
	}
	return a, ""
}

// sendStatus tells the verdict. What comes of it, statusAcked and unanswered say.
func (e *Engine) sendStatus(c *conn, p *phase1, ok bool, delay time.Duration) {
	d := c.Dyn
	for d.Identifier == 0 {
		d.Identifier = uint16(e.rand32())
	}
	status, patience := uint16(statusFAIL), 2*e.cfg.Retransmit.First
	if ok {
		status, patience = statusPASS, 0
	}
	as := []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthStatus, status)}
	e.begin(p, forStatus, isakmp.AttributeSet{Type: isakmp.ConfigSet, Identifier: d.Identifier, Attributes: as}, delay, patience)
}

// statusAcked goes on when the peer knows the verdict. The attributes of its ACK
// mean nothing.
func (e *Engine) statusAcked(c *conn, p *phase1) {
	switch d := c.Dyn; {
	case d == nil:
	case d.Stage == stageDenied:
		e.closeConn(c, d.Why, d.Text, false)
	case p.Status == statusSent:
		e.passed(c, p)
	}
}

// xauthRequest answers the server's question where we are the subscriber.
func (e *Engine) xauthRequest(c *conn, p *phase1, r *request) {
	c.Client.Answers++
	as := e.answerXAuth(c, r.Set)
	e.reply(p, r, isakmp.ConfigReply, as)
}

// answerXAuth answers with what Initiate has brought, else with STATUS=FAIL.
func (e *Engine) answerXAuth(c *conn, set isakmp.AttributeSet) []isakmp.Attribute {
	fail := []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthStatus, statusFAIL)}
	if c.Open.User == "" || c.Client.Answers > maxAnswers {
		return fail
	}
	var as []isakmp.Attribute
	password := c.Open.Password
	if t, ok := set.Find(isakmp.XAuthType); ok {
		v, _ := t.Uint()
		switch XAuthType(v) {
		case XAuthGeneric:
		case XAuthRADIUSCHAP:
			ch, ok := set.Find(isakmp.XAuthChallenge)
			if !ok {
				return fail
			}
			password = chapPassword(e.rand(1)[0], c.Open.Password, ch.Value)
		default:
			return fail
		}
		// The type comes back only where it was named.
		as = append(as, isakmp.ShortAttribute(isakmp.XAuthType, uint16(v)))
	}
	for _, x := range set.Attributes {
		switch x.Type {
		case isakmp.XAuthUserName:
			as = append(as, isakmp.Attribute{Type: x.Type, Value: []byte(c.Open.User)})
		case isakmp.XAuthUserPassword, isakmp.XAuthPasscode:
			as = append(as, isakmp.Attribute{Type: x.Type, Value: password.Reveal()})
		case isakmp.XAuthNextPIN, isakmp.XAuthAnswer:
			return fail // nobody is there to ask
		}
	}
	return as
}

// chapPassword is the password attribute of RADIUS-CHAP: the identifier and
// MD5(identifier | password | challenge) (RFC 1994 section 4.1).
func chapPassword(id uint8, password keymat.Secret, challenge []byte) keymat.Secret {
	h := md5.New()
	h.Write([]byte{id})
	h.Write(password.Reveal())
	h.Write(challenge)
	return h.Sum([]byte{id})
}
