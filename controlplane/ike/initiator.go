package ike

import (
	"fmt"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// initiate opens a new connection.
func (e *Engine) initiate(ev Initiate) {
	fail := func(text string) {
		e.count(ReasonConfig)
		e.emit(ConnDown{Conn: ConnInfo{Ref: ev.Ref, Local: ev.Local, Remote: ev.Remote, Profile: ev.Profile, Key: ev.Key}, Reason: ReasonConfig, Text: text})
	}
	ev.Local, ev.Remote = unmap(ev.Local), unmap(ev.Remote)
	switch {
	case e.cfg.transportByName(ev.Profile) == nil:
		fail(fmt.Sprintf("there is no transport profile %q", ev.Profile))
		return
	case e.cfg.key(ev.Key) == nil:
		fail(fmt.Sprintf("there is no pre-shared key %q", ev.Key))
		return
	}
	if e.startPhase1(ev, nil) == nil {
		fail("no IKE policy rule can be offered")
	}
}

// startPhase1 begins main mode as initiator:
//
//	we                                     peer
//	1  HDR, SA, VIDs                  -->
//	                                  <--  2  HDR, SA, VIDs
//	3  HDR, KE, Ni, NAT-D…            -->
//	                                  <--  4  HDR, KE, Nr, NAT-D…
//	5  HDR*, IDii, HASH_I [, N]       -->
//	                                  <--  6  HDR*, IDir, HASH_R
//
// c is the connection that the SA is to serve, nil for a new one. It returns nil
// if there is nothing to offer.
func (e *Engine) startPhase1(open Initiate, c *conn) *phase1 {
	sa, offer := offerPhase1(e.cfg.Rules, open.Local.Addr())
	if len(offer) == 0 {
		return nil
	}
	p := &phase1{
		Cookies: cookies{I: e.newCookie()}, Initiator: true, State: StateMMSAI,
		Local: open.Local, Remote: open.Remote, Created: e.now,
		neg: &negotiation{attempt: &attempt{Offer: offer, Open: open}},
	}
	if c != nil {
		p.neg.Rekey, c.opening = c.Info.ID, p
		p.Marker = c.newest() != nil && c.newest().Marker || c.Info.Encap
	}
	payload := sa.Payload()
	p.neg.SAi = payload.Body
	e.own[p.Cookies.I] = p
	e.request(p, p.clear(isakmp.IdentityProtection, append([]isakmp.Payload{payload}, e.offerVendors()...)))
	return p
}

// request sends a message of ours that will be repeated until it is answered.
func (e *Engine) request(p *phase1, data []byte) {
	n := p.neg
	p.Last.Data = data
	n.Tries, n.Next = 1, e.now.Add(e.cfg.Retransmit.retryAfter(1))
	e.transmit(p, data)
	e.arm(p)
}

// mainMode2 takes the responder's choice.
func (e *Engine) mainMode2(p *phase1, h isakmp.Header, ps []isakmp.Payload, d digest) {
	n := p.neg
	sa, err := ps[0].SA()
	if err != nil || len(sa.Proposals) != 1 || len(sa.Proposals[0].Transforms) != 1 || sa.Proposals[0].Protocol != isakmp.ProtocolISAKMP {
		e.count(DropMalformed)
		return
	}
	got, ok := sa.Proposals[0].Transforms[0].Phase1()
	var chosen *isakmp.Phase1Transform
	for i := range n.Offer {
		// The number need not be ours (some renumber), the content must be.
		t := &n.Offer[i]
		if ok && len(got.Unknown) == 0 && t.Enc == got.Enc && t.KeyBits == got.KeyBits && t.Hash == got.Hash && t.Group == got.Group && t.Auth == got.Auth {
			chosen = t
			break
		}
	}
	if chosen == nil {
		e.count(ReasonBadAnswer)
		e.report(LevelDebug, ReasonBadAnswer, "peer chooses "+got.String()+", which was not offered", p)
		return
	}
	c := cookies{p.Cookies.I, h.Responder}
	if e.sas[c] != nil {
		e.count(DropUnexpected)
		return
	}
	delete(e.own, p.Cookies.I)
	p.Cookies = c
	e.sas[c] = p
	p.Vendor = readVendors(ps, e.cfg.NATT)
	p.Suite = keymat.Suite{Cipher: keymat.Cipher(got.Enc), KeyBits: int(got.KeyBits), Hash: keymat.Hash(got.Hash)}
	p.Group = keymat.Group(got.Group)
	p.Method = AuthMethod(got.Auth)
	p.Life = lifeOf(chosen.Life.Seconds)
	p.Rule = ruleOf(e.cfg.Rules, *chosen)
	p.State, p.Last = StateMMKEI, answer{To: d}
	n.Offer, n.Next = nil, time.Time{}
	n.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	n.Job = e.newJob(jobRef{p: p})
	e.emit(ComputeDH{Job: n.Job, Group: p.Group})
	e.arm(p)
}

// ruleOf names the first rule that allows a transform of ours.
func ruleOf(rules []PolicyRule, t isakmp.Phase1Transform) string {
	for i := range rules {
		if rules[i].verdict(t) == "" {
			return rules[i].Name
		}
	}
	return ""
}

// sendMainMode3 sends our public value when the worker has it.
func (e *Engine) sendMainMode3(p *phase1, pair keymat.KeyPair) {
	n := p.neg
	n.Pair, n.GXi, n.Ni, n.Expires = pair, pair.Public, e.rand(nonceLen), time.Time{}
	ps := append([]isakmp.Payload{{Type: isakmp.TypeKE, Body: n.GXi}, {Type: isakmp.TypeNonce, Body: n.Ni}}, p.natd()...)
	e.request(p, p.clear(isakmp.IdentityProtection, ps))
}

// mainMode4 takes the responder's public value.
func (e *Engine) mainMode4(p *phase1, ps []isakmp.Payload, d digest) {
	n := p.neg
	ke, _ := isakmp.Find(ps, isakmp.TypeKE)
	nr, _ := isakmp.Find(ps, isakmp.TypeNonce)
	if !nonceOK(nr.Body) || n.GXi == nil {
		e.count(DropMalformed)
		return
	}
	if err := p.Group.CheckPublic(ke.Body); err != nil {
		e.count(ReasonPublicValue)
		e.report(LevelDebug, ReasonPublicValue, err.Error(), p)
		return
	}
	n.GXr, n.Nr = clone(ke.Body), clone(nr.Body)
	p.detectNAT(ps)
	p.Last, n.Next = answer{To: d}, time.Time{}
	n.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	n.Job = e.newJob(jobRef{p: p})
	e.emit(ComputeDH{Job: n.Job, Group: p.Group, Pair: &n.Pair, Peer: n.GXr})
	e.arm(p)
}

// sendMainMode5 sends our proof.
func (e *Engine) sendMainMode5(p *phase1, shared keymat.Secret) {
	n := p.neg
	n.Shared, n.Expires = shared, time.Time{}
	key := e.cfg.key(n.Open.Key)
	if key == nil {
		e.failInitiate(p, ReasonConfig, fmt.Sprintf("pre-shared key %q has been removed", n.Open.Key))
		return
	}
	skeyid := keymat.SKEYIDPreShared(p.Suite.Hash, key.Key, n.Ni, n.Nr)
	keys, err := keymat.Derive(p.Suite, skeyid, shared, p.Cookies.I, p.Cookies.R)
	if err != nil {
		e.failInitiate(p, ReasonBadAnswer, err.Error())
		return
	}
	n.Keys = keys
	p.float()
	id := localID(key, p.Local.Addr())
	if n.Open.LocalID != "" {
		id = parseID(n.Open.LocalID)
	}
	idp := id.Payload()
	ps := []isakmp.Payload{idp, {Type: isakmp.TypeHash, Body: keys.HashI(p.exchange(), idp.Body)}}
	if n.Rekey == 0 && !e.knows(p) {
		ps = append(ps, isakmp.InitialContactNotify(p.Cookies.I, p.Cookies.R).Payload())
	}
	data, next := p.seal(keys, isakmp.IdentityProtection, 0, p.Suite.FirstIV(n.GXi, n.GXr), ps)
	n.IV = next
	p.State = StateMMFinalI
	e.request(p, data)
}

// knows tells whether there is a connection with the peer already, which an
// INITIAL-CONTACT would end.
func (e *Engine) knows(p *phase1) bool {
	for _, c := range e.conns {
		if c.Info.Remote.Addr() == p.Remote.Addr() && c.Info.Local.Addr() == p.Local.Addr() {
			return true
		}
	}
	return false
}

// mainMode6 takes the responder's proof.
func (e *Engine) mainMode6(p *phase1, pk Packet, h isakmp.Header, body []byte, d digest) {
	n := p.neg
	o, err := p.open(n.Keys, n.IV, h, body)
	if err == nil {
		err = isakmp.Check(isakmp.IdentityProtection, 6, o.payloads, true)
	}
	if err != nil {
		e.count(DropUndecryptable)
		e.report(LevelDebug, DropUndecryptable, "message 6 does not decrypt: "+err.Error(), p)
		return
	}
	idp, _ := isakmp.Find(o.payloads, isakmp.TypeID)
	hash, ok := isakmp.Find(o.payloads, isakmp.TypeHash)
	id, err := idp.ID()
	if err != nil || !ok || !keymat.EqualProof(hash.Body, n.Keys.HashR(p.exchange(), idp.Body)) {
		e.count(ReasonAuthFailed)
		e.report(LevelDebug, ReasonAuthFailed, "message 6: the peer's proof is wrong", p)
		return
	}
	key := e.cfg.key(n.Open.Key)
	if key == nil || !idMatches(key.ID, id) {
		e.failInitiate(p, ReasonIdentity, "peer calls itself "+describe(idp.Body))
		return
	}
	p.Remote, p.Local = pk.Remote, pk.Local
	p.session = &session{Keys: n.Keys, PeerID: clone(idp.Body), LastBlock: o.next}
	p.authenticatedBy(key)
	p.Last = answer{To: d}
	if l, ok := responderLifetime(o.payloads, isakmp.ProtocolISAKMP); ok && l.Seconds > 0 {
		p.Life = max(minLife, min(p.Life, lifeOf(l.Seconds)))
	}
	open, rekey := n.Open, e.conns[n.Rekey]
	if rekey != nil {
		rekey.opening = nil
	}
	if !e.authenticated(p, false) {
		return
	}
	c := e.conns[p.Conn]
	if rekey == nil && c != nil {
		c.Open, c.Info.Ref, c.Initiator = open, open.Ref, true
		e.openChild(c)
	}
}

// responderLifetime finds a RESPONDER-LIFETIME for the protocol.
func responderLifetime(ps []isakmp.Payload, proto isakmp.Protocol) (isakmp.Life, bool) {
	for _, p := range ps {
		if p.Type != isakmp.TypeNotify {
			continue
		}
		n, err := p.Notify()
		if err != nil || n.Type != isakmp.ResponderLifetime || n.Protocol != proto {
			continue
		}
		if l, err := n.Lifetime(); err == nil {
			return l, true
		}
	}
	return isakmp.Life{}, false
}

// failInitiate ends a phase 1 SA of ours that did not come up.
func (e *Engine) failInitiate(p *phase1, r Reason, text string) {
	n := p.neg
	c := e.conns[n.Rekey]
	e.count(r)
	e.dropPhase1(p, r)
	if c != nil {
		c.opening = nil
		e.emit(Report{Level: LevelInfo, Reason: r, Text: "phase 1 rekey failed: " + text, Local: p.Local, Remote: p.Remote, Conn: c.Info.ID})
		switch {
		case len(c.Phase1) == 0 && len(c.Children) == 0:
			e.endConn(c, r, text, false)
		case c.WantChild:
			c.Retry = e.now.Add(rekeyRetry)
			e.arm(c)
		}
		return
	}
	e.emit(ConnDown{Conn: ConnInfo{Ref: n.Open.Ref, Local: p.Local, Remote: p.Remote, Profile: n.Open.Profile, Key: n.Open.Key, Peer: p.Vendor.Name},
		Reason: r, Text: text})
}

// rekeyRetry is the wait after a failed rekey.
const rekeyRetry = 15 * time.Second

// deadline of a phase 1 SA.
func (p *phase1) deadline() time.Time {
	var frags time.Time
	if p.frags != nil {
		frags = p.frags.Since.Add(isakmp.FragmentTimeout + time.Second)
	}
	if n := p.neg; n != nil {
		if n.attempt != nil {
			return earliest(n.Expires, n.Next, frags)
		}
		return earliest(n.Expires, frags)
	}
	return earliest(p.Expires, p.RekeyAt, p.Replaced, p.Last.Till, p.DPD.next, frags)
}

func (p *phase1) expire(e *Engine) {
	if p.frags != nil {
		before := p.frags.Bytes
		if p.frags.Expire(e.now) {
			e.guard.FragBytes -= before
			p.frags = nil
			e.count(DropFragment)
		}
	}
	if n := p.neg; n != nil {
		switch {
		case reached(e.now, n.Expires) && p.Initiator:
			e.failInitiate(p, ReasonTimeout, "no answer from the worker")
		case reached(e.now, n.Expires):
			e.count(DropTimeout)
			e.dropPhase1(p, DropTimeout)
		case n.attempt != nil && reached(e.now, n.Next):
			e.retransmit(p)
		}
		if e.sas[p.Cookies] == p || e.own[p.Cookies.I] == p {
			e.arm(p)
		}
		return
	}
	if reached(e.now, p.Last.Till) {
		p.Last = answer{}
	}
	switch c := e.conns[p.Conn]; {
	case reached(e.now, p.Expires):
		e.deletePhase1(p)
		return
	case reached(e.now, p.Replaced):
		if c == nil || c.newest() != p {
			e.deletePhase1(p)
			return
		}
		p.Replaced = time.Time{} // what was to replace it has gone before it
	case reached(e.now, p.RekeyAt):
		p.RekeyAt = time.Time{}
		e.rekeyPhase1(p)
	}
	if p.State == StateDone && reached(e.now, p.DPD.next) {
		e.probe(p)
	}
	if p.State == StateDone {
		e.arm(p)
	}
}

// retransmit repeats our last main mode message, or gives up.
func (e *Engine) retransmit(p *phase1) {
	n := p.neg
	if n.Tries >= e.cfg.Retransmit.Tries {
		text := "no answer to message 1"
		switch p.State {
		case StateMMKEI:
			text = "no answer to message 3"
		case StateMMFinalI:
			text = "no answer to message 5: the pre-shared keys may differ"
		}
		if n.Hint != 0 {
			text += fmt.Sprintf(" (somebody sent an unauthenticated %v)", n.Hint)
		}
		e.failInitiate(p, ReasonTimeout, text)
		return
	}
	n.Tries++
	n.Next = e.now.Add(e.cfg.Retransmit.retryAfter(n.Tries))
	e.count(CountRetransmit)
	e.transmit(p, p.Last.Data)
}

// rekeyPhase1 replaces an SA that nears its end, if it still carries anything.
func (e *Engine) rekeyPhase1(p *phase1) {
	c := e.conns[p.Conn]
	if c == nil || c.newest() != p || c.opening != nil || len(c.Children) == 0 {
		return
	}
	e.reopen(c)
}

// reopen starts a phase 1 SA for a connection that exists, from and to where it
// is now.
func (e *Engine) reopen(c *conn) *phase1 {
	open := c.Open
	open.Local, open.Remote, open.Key = c.Info.Local, c.Info.Remote, c.Info.Key
	return e.startPhase1(open, c)
}

// dhDone gives the answer of a worker to the exchange that waits for it.
func (e *Engine) dhDone(ev DHDone) {
	ref, ok := e.jobs[ev.Job]
	delete(e.jobs, ev.Job)
	if !ok {
		ev.Pair.Private.Wipe()
		ev.Shared.Wipe()
		return
	}
	if ref.q != nil {
		e.quickDHDone(ref.q, ev)
		return
	}
	p := ref.p
	p.neg.Job = 0
	switch {
	case !p.Initiator:
		e.sendMainMode4(p, ev)
	case ev.Err != "":
		e.failInitiate(p, ReasonDHFailed, ev.Err)
	case p.neg.GXi == nil:
		e.sendMainMode3(p, ev.Pair)
	default:
		e.sendMainMode5(p, ev.Shared)
	}
}
