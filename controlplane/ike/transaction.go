package ike

import (
	"slices"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Transaction exchanges carry mode config and XAuth under an authenticated phase
// 1 SA (draft-dukes-ike-mode-cfg-02 section 3, draft-beaulieu-ike-xauth-02):
//
//	initiator                          responder
//	HDR*, HASH, ATTR(REQUEST)  -->
//	                           <--  HDR*, HASH, ATTR(REPLY)
//	HDR*, HASH, ATTR(SET)      -->
//	                           <--  HDR*, HASH, ATTR(ACK)
//
// with HASH = prf(SKEYID_a, M-ID | ATTR), an IV chain and a message id of its own
// for each exchange. Both sides begin them. Whoever begins repeats its message
// until it is answered; the other one keeps its answer and repeats that.

// purpose of a transaction exchange that we have begun.
type purpose uint8

const (
	forUser   purpose = iota // XAuth REQUEST: name and password
	forStatus                // XAuth SET: the verdict
	forPush                  // mode config SET
	forConfig                // mode config REQUEST, as a subscriber
)

// transaction is an exchange of ours that waits for its answer.
type transaction struct {
	Purpose    purpose
	ID         uint32
	Identifier uint16
	IV         []byte // of the answer
	Data       []byte
	Tries      int
	Next       time.Time // of the next transmission
	Expires    time.Time
}

// request is one of the peer that is answered later.
type request struct {
	ID      uint32
	IV      []byte // of the answer
	Digest  digest
	Set     isakmp.AttributeSet
	Expires time.Time
}

// dialogue is what the transaction exchanges of one phase 1 SA hold. It exists
// while there is anything to hold and is not part of snapshots.
type dialogue struct {
	p     *phase1
	open  []*transaction
	kept  []answer // to the peer's messages
	early *request // for configuration, before the subscriber was let in
	timer deadline.Place
}

// Limits of a dialogue.
const (
	maxKept = 4 // answers held to be repeated
	// maxPause bounds the wait between repeats of a question to a user, who may
	// type for minutes: the reply may get lost and comes again only for a repeat.
	maxPause = 20 * time.Second
)

func (d *dialogue) Place() *deadline.Place { return &d.timer }

// dialogue returns that of the SA.
func (p *phase1) dialogue() *dialogue {
	if p.talk == nil {
		p.talk = &dialogue{p: p}
	}
	return p.talk
}

// dropDialogue forgets the exchanges of an SA.
func (e *Engine) dropDialogue(p *phase1) {
	if p.talk != nil {
		e.disarm(p.talk)
		p.talk = nil
	}
}

// transaction takes a message of a transaction exchange.
func (e *Engine) transaction(p *phase1, pk Packet, h isakmp.Header, body []byte) {
	c := e.conns[p.Conn]
	if c == nil {
		e.count(DropUnexpected)
		return
	}
	d := digestOf(pk.Data)
	if t := p.talk.ours(h.MessageID); t != nil {
		e.transactionAnswer(c, p, t, pk, h, body)
		return
	}
	if slices.Contains(p.SeenTrans, h.MessageID) {
		if a := p.talk.answerTo(d); a != nil && pk.Remote.Addr() == p.Remote.Addr() {
			e.count(CountRepeat)
			e.transmit(p, a.Data)
			return
		}
		e.count(DropReplay)
		return
	}
	o, set, ok := e.openTransaction(p, h, body, p.messageIV(h.MessageID), 1)
	if !ok {
		return
	}
	p.SeenTrans = remember(p.SeenTrans, h.MessageID, maxSeenTrans)
	e.heard(p)
	e.located(p, pk)
	r := &request{ID: h.MessageID, IV: o.next, Digest: d, Set: set}
	switch {
	case set.Type == isakmp.ConfigRequest && c.Dyn != nil:
		e.configRequest(c, p, r)
	case set.Type == isakmp.ConfigSet && c.Dyn != nil:
		// Nothing that a subscriber sets means anything here; a STATUS least of
		// all. It waits for an ACK nevertheless, which accepts nothing.
		e.reply(p, r, isakmp.ConfigAck, nil)
	case set.Type == isakmp.ConfigRequest && c.asked() && set.XAuth():
		e.xauthRequest(c, p, r)
	case set.Type == isakmp.ConfigSet && c.asked():
		e.clientSet(c, p, r)
	default:
		e.count(DropUnexpected)
	}
}

// openTransaction decrypts and checks a message. step: 1 begins an exchange, 2
// answers one.
func (e *Engine) openTransaction(p *phase1, h isakmp.Header, body, iv []byte, step int) (o opened, set isakmp.AttributeSet, ok bool) {
	o, err := p.open(p.Keys, iv, h, body)
	if err == nil {
		err = isakmp.Check(isakmp.Transaction, step, o.payloads, true)
	}
	if err != nil {
		e.count(DropUndecryptable)
		return o, set, false
	}
	if !keymat.EqualProof(o.payloads[0].Body, p.Keys.HashInfo(h.MessageID, o.rest)) {
		e.count(DropBadHash)
		return o, set, false
	}
	a, _ := isakmp.Find(o.payloads, isakmp.TypeAttributes)
	if set, err = a.Attributes(); err != nil {
		e.count(DropMalformed)
		return o, set, false
	}
	return o, set, true
}

// transactionAnswer takes the answer to an exchange of ours.
func (e *Engine) transactionAnswer(c *conn, p *phase1, t *transaction, pk Packet, h isakmp.Header, body []byte) {
	_, set, ok := e.openTransaction(p, h, body, t.IV, 2)
	if !ok {
		return
	}
	want := isakmp.ConfigReply
	if t.Purpose == forStatus || t.Purpose == forPush {
		want = isakmp.ConfigAck
	}
	// strongSwan's answer to a question has identifier 0. The message ID and the hash
	// say what it answers.
	if set.Type != want || set.Identifier != t.Identifier && set.Identifier != 0 {
		e.count(DropUnexpected)
		return
	}
	p.SeenTrans = remember(p.SeenTrans, t.ID, maxSeenTrans)
	e.finish(p, t)
	e.heard(p)
	e.located(p, pk)
	switch t.Purpose {
	case forUser:
		e.userReply(c, p, set)
	case forStatus:
		e.statusAcked(c, p)
	case forConfig:
		e.configured(c, set)
	}
}

// ours finds an exchange of ours by its message id.
func (d *dialogue) ours(id uint32) *transaction {
	if d == nil {
		return nil
	}
	for _, t := range d.open {
		if t.ID == id {
			return t
		}
	}
	return nil
}

// waits tells whether an exchange for the purpose is open.
func (d *dialogue) waits(x purpose) bool {
	return d != nil && slices.ContainsFunc(d.open, func(t *transaction) bool { return t.Purpose == x })
}

// answerTo finds the answer that was given to a datagram.
func (d *dialogue) answerTo(to digest) *answer {
	if d == nil {
		return nil
	}
	for i := range d.kept {
		if d.kept[i].To == to {
			return &d.kept[i]
		}
	}
	return nil
}

// begin starts a transaction exchange, after delay if there is one. It is given
// up after patience; 0: when the usual repeats have gone unanswered.
func (e *Engine) begin(p *phase1, x purpose, set isakmp.AttributeSet, delay, patience time.Duration) {
	mid := e.newMessageID(p)
	for p.talk.ours(mid) != nil || slices.Contains(p.SeenTrans, mid) {
		mid = e.newMessageID(p)
	}
	ps := hashed(func(rest []byte) []byte { return p.Keys.HashInfo(mid, rest) }, set.Payload())
	data, iv := p.seal(p.Keys, isakmp.Transaction, mid, p.messageIV(mid), ps)
	t := &transaction{Purpose: x, ID: mid, Identifier: set.Identifier, IV: iv, Data: data, Next: e.now.Add(delay)}
	if patience == 0 {
		for i := range e.cfg.Retransmit.Tries {
			patience += e.cfg.Retransmit.retryAfter(i + 1)
		}
	}
	t.Expires = t.Next.Add(patience)
	d := p.dialogue()
	// One question, one verdict, and no question behind it.
	d.open = slices.DeleteFunc(d.open, func(o *transaction) bool {
		return o.Purpose == x || x == forStatus && o.Purpose == forUser
	})
	d.open = append(d.open, t)
	if delay == 0 {
		e.repeatTransaction(p, t)
	}
	e.arm(d)
}

// repeatTransaction sends the message of an exchange of ours, the first time or
// again.
func (e *Engine) repeatTransaction(p *phase1, t *transaction) {
	if t.Tries++; t.Tries > 1 {
		e.count(CountRetransmit)
	}
	pause := e.cfg.Retransmit.retryAfter(t.Tries)
	if t.Tries > e.cfg.Retransmit.Tries {
		pause = maxPause
	}
	t.Next = e.now.Add(pause)
	e.transmit(p, t.Data)
}

// finish takes an exchange of ours out.
func (e *Engine) finish(p *phase1, t *transaction) {
	d := p.talk
	d.open = slices.DeleteFunc(d.open, func(o *transaction) bool { return o == t })
	e.settle(d)
}

// settle brings the dialogue's timer in line, or forgets an empty one.
func (e *Engine) settle(d *dialogue) {
	if len(d.open) == 0 && len(d.kept) == 0 && d.early == nil {
		e.dropDialogue(d.p)
		return
	}
	e.arm(d)
}

// reply answers a message of the peer and keeps the answer for repeats of it.
func (e *Engine) reply(p *phase1, r *request, typ isakmp.ConfigType, as []isakmp.Attribute) {
	set := isakmp.AttributeSet{Type: typ, Identifier: r.Set.Identifier, Attributes: as}
	ps := hashed(func(rest []byte) []byte { return p.Keys.HashInfo(r.ID, rest) }, set.Payload())
	data, _ := p.seal(p.Keys, isakmp.Transaction, r.ID, r.IV, ps)
	d := p.dialogue()
	if len(d.kept) >= maxKept {
		d.kept = slices.Delete(d.kept, 0, 1)
	}
	keep := answerKept
	if c := e.conns[p.Conn]; c != nil && c.asked() {
		keep = userTime // XAuth's server repeats its question with long pauses
	}
	d.kept = append(d.kept, answer{To: r.Digest, Data: data, Till: e.now.Add(keep)})
	e.transmit(p, data)
	e.arm(d)
}

// deadline of a dialogue.
func (d *dialogue) deadline() time.Time {
	var at time.Time
	for _, t := range d.open {
		at = deadline.Earliest(at, t.Next, t.Expires)
	}
	for _, a := range d.kept {
		at = deadline.Earliest(at, a.Till)
	}
	if d.early != nil {
		at = deadline.Earliest(at, d.early.Expires)
	}
	return at
}

func (d *dialogue) expire(e *Engine) {
	d.kept = slices.DeleteFunc(d.kept, func(a answer) bool { return deadline.Reached(e.now, a.Till) })
	if d.early != nil && deadline.Reached(e.now, d.early.Expires) {
		d.early = nil
	}
	for _, t := range slices.Clone(d.open) {
		switch {
		case deadline.Reached(e.now, t.Expires):
			e.finish(d.p, t)
			e.unanswered(d.p, t)
		case deadline.Reached(e.now, t.Next):
			e.repeatTransaction(d.p, t)
		}
		if d.p.talk != d {
			return // that was its end
		}
	}
	e.settle(d)
}

// unanswered is called when the peer has not answered an exchange of ours in
// time.
func (e *Engine) unanswered(p *phase1, t *transaction) {
	c := e.conns[p.Conn]
	if c == nil {
		return
	}
	e.count(ReasonTimeout)
	switch t.Purpose {
	case forUser:
		if p == c.newest() {
			e.closeConn(c, ReasonXAuthTimeout, "the user has not answered", false)
		}
	case forStatus:
		switch {
		case c.Dyn == nil:
		case c.Dyn.Stage == stageDenied:
			e.closeConn(c, c.Dyn.Why, c.Dyn.Text, false)
		case p.Status == statusSent && p == c.newest():
			e.closeConn(c, ReasonTimeout, "the peer does not acknowledge STATUS=OK", false)
		}
	case forPush:
		// A client that wants none may come up all the same.
		e.report(LevelInfo, ReasonTimeout, "the peer does not acknowledge its configuration", p)
	case forConfig:
		e.closeConn(c, ReasonTimeout, "no answer in mode config", false)
	}
}
