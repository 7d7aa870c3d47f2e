package ike

import (
	"fmt"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// initiate opens a new connection.
func (e *Engine) initiate(ev Initiate) {
	fail := func(r Reason, text string) {
		e.count(r)
		e.emit(ConnDown{Conn: ConnInfo{Ref: ev.Ref, Local: ev.Local, Remote: ev.Remote, Profile: ev.Profile, Key: ev.Key}, Reason: r, Text: text})
	}
	ev.Local, ev.Remote = unmap(ev.Local), unmap(ev.Remote)
	m := ev.method()
	if m.preShared() {
		k, r, text := e.ourKey(ev.Key, ev.Local.Addr())
		if k == nil {
			fail(r, text)
			return
		}
		ev.Key = k.Name
	}
	switch {
	case !ev.Tunnel && e.cfg.transportByName(ev.Profile) == nil:
		fail(ReasonConfig, fmt.Sprintf("there is no transport profile %q", ev.Profile))
		return
	case ev.Tunnel && e.cfg.phase2(ev.Profile) == nil:
		fail(ReasonConfig, fmt.Sprintf("there is no profile %q", ev.Profile))
		return
	case m.signs(true) && e.cfg.credential(ev.Credential) == nil:
		fail(ReasonConfig, fmt.Sprintf("there is no certificate %q", ev.Credential))
		return
	}
	if e.startPhase1(ev, nil) == nil {
		fail(ReasonConfig, "no IKE policy rule can be offered")
	}
}

// method is how both sides are to prove themselves.
func (ev Initiate) method() AuthMethod {
	if ev.Method == 0 {
		return AuthPSK
	}
	return ev.Method
}

// startPhase1 begins phase 1 as initiator, in aggressive mode if open says so, else in
// main mode:
//
//	we                                     peer
//	1  HDR, SA, VIDs                  -->
//	                                  <--  2  HDR, SA, VIDs
//	3  HDR, KE, Ni, CERTREQ…, NAT-D…  -->
//	                                  <--  4  HDR, KE, Nr, NAT-D…
//	5  HDR*, IDii, HASH_I [, N]       -->
//	     or IDii, CERT…, SIG_I
//	                                  <--  6  HDR*, IDir, HASH_R
//	                                            or IDir, CERT…, SIG_R
//
// c is the connection that the SA is to serve, nil for a new one. It returns nil
// if there is nothing to offer.
func (e *Engine) startPhase1(open Initiate, c *conn) *phase1 {
	sa, offer := offerPhase1(e.cfg.Rules, open.Local.Addr(), open.method(), open.Aggressive)
	if len(offer) == 0 {
		return nil
	}
	p := &phase1{
		Cookies: cookies{I: e.newCookie()}, Initiator: true, State: StateMMSAI, Method: open.method(), Aggressive: open.Aggressive,
		Local: open.Local, Remote: open.Remote, Created: e.now, NATTOff: !e.speaksNATT(open.Local.Addr(), open.Remote),
		neg: &negotiation{attempt: &attempt{Offer: offer, Open: open}},
	}
	if c != nil {
		p.neg.Rekey, c.opening = c.Info.ID, p
		p.Marker = c.newest() != nil && c.newest().Marker || c.Info.Encap
	}
	payload := sa.Payload()
	p.neg.SAi = payload.Body
	e.own[p.Cookies.I] = p
	if p.Aggressive {
		e.startAggressive(p)
		return p
	}
	e.request(p, p.clear(isakmp.IdentityProtection, append([]isakmp.Payload{payload}, e.offerVendors(p)...)))
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
	if !e.chosen(p, h, ps) {
		return
	}
	p.State, p.Last = StateMMKEI, answer{To: d}
	n.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	n.Job = e.newJob(jobRef{p: p})
	e.emit(ComputeDH{Job: n.Job, Group: p.Group})
	e.arm(p)
}

// chosen reads what the responder has chosen and moves p from the table of
// initiators without a responder to that of SAs. It returns false if the choice
// is none of what was offered, and nothing has changed.
func (e *Engine) chosen(p *phase1, h isakmp.Header, ps []isakmp.Payload) bool {
	n := p.neg
	sa, err := ps[0].SA()
	if err != nil || len(sa.Proposals) != 1 || len(sa.Proposals[0].Transforms) != 1 || sa.Proposals[0].Protocol != isakmp.ProtocolISAKMP {
		e.count(DropMalformed)
		return false
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
		return false
	}
	c := cookies{p.Cookies.I, h.Responder}
	if e.sas[c] != nil {
		e.count(DropUnexpected)
		return false
	}
	delete(e.own, p.Cookies.I)
	p.Cookies = c
	e.sas[c] = p
	p.Vendor = readVendors(ps, !p.NATTOff)
	p.Suite = keymat.Suite{Cipher: keymat.Cipher(got.Enc), KeyBits: int(got.KeyBits), Hash: keymat.Hash(got.Hash)}
	p.Group = keymat.Group(got.Group)
	p.Life = lifeOf(chosen.Life.Seconds)
	p.Rule = ruleOf(e.cfg.Rules, *chosen, p)
	n.Offer, n.Next = nil, time.Time{}
	return true
}

// ruleOf names the first rule that allows a transform of ours.
func ruleOf(rules []PolicyRule, t isakmp.Phase1Transform, p *phase1) string {
	w := terms{local: p.Local.Addr(), aggressive: p.Aggressive, psk: true, xauthPSK: true, rsa: true, hybrid: true}
	for i := range rules {
		if rules[i].applies(w.local) && rules[i].verdict(t, w) == "" {
			return rules[i].Name
		}
	}
	return ""
}

// sendMainMode3 sends our public value when the worker has it.
func (e *Engine) sendMainMode3(p *phase1, pair keymat.KeyPair) {
	n := p.neg
	n.Pair, n.GXi, n.Ni, n.Expires = pair, pair.Public, e.rand(nonceLen), time.Time{}
	ps := []isakmp.Payload{{Type: isakmp.TypeKE, Body: n.GXi}, {Type: isakmp.TypeNonce, Body: n.Ni}}
	if p.Method.signs(false) {
		ps = append(ps, e.cfg.ourRequests()...)
	}
	ps = append(ps, p.natd()...)
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

// exchanged makes the keys when the shared secret is known, and our identity. It
// returns false if p had to be given up.
func (e *Engine) exchanged(p *phase1, shared keymat.Secret) bool {
	n := p.neg
	n.Shared = shared
	var psk keymat.Secret
	id := isakmp.AddrID(p.Local.Addr(), 0, 0)
	switch {
	case p.Method.preShared():
		key := e.cfg.key(n.Open.Key, p.Local.Addr())
		if key == nil {
			e.failInitiate(p, ReasonConfig, fmt.Sprintf("pre-shared key %q has been removed", n.Open.Key))
			return false
		}
		n.Key, psk, id = key, key.Key, e.cfg.localID(key, p.Local.Addr())
	case p.Method.signs(true):
		cred := e.cfg.credential(n.Open.Credential)
		if cred == nil {
			e.failInitiate(p, ReasonConfig, fmt.Sprintf("certificate %q has been removed", n.Open.Credential))
			return false
		}
		n.Cred, id = cred.Name, usable{cred: cred}.id()
	}
	if n.Open.LocalID != "" {
		id = parseID(n.Open.LocalID)
	}
	if !p.Aggressive {
		n.Ours = id.Payload() // in aggressive mode it went out with message 1
	}
	keys, err := p.derive(psk)
	if err != nil {
		e.failInitiate(p, ReasonBadAnswer, err.Error())
		return false
	}
	n.Keys = keys
	return true
}

// sendMainMode5 sends our proof.
func (e *Engine) sendMainMode5(p *phase1, proof []isakmp.Payload) {
	n := p.neg
	n.Expires = time.Time{}
	p.float()
	ps := append([]isakmp.Payload{n.Ours}, proof...)
	if n.Rekey == 0 && !e.knows(p) {
		ps = append(ps, isakmp.InitialContactNotify(p.Cookies.I, p.Cookies.R).Payload())
	}
	data, next := p.seal(n.Keys, isakmp.IdentityProtection, 0, p.Suite.FirstIV(n.GXi, n.GXr), ps)
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
	g, r, text := p.readProof(o.payloads)
	if _, err := idp.ID(); err != nil {
		r, text = DropMalformed, err.Error()
	}
	if r != "" {
		e.badAnswer(p, r, "message 6: "+text)
		return
	}
	e.hold(p, pk, d)
	n.Next, n.PeerID = time.Time{}, clone(idp.Body)
	n.next = o.next
	n.cutLife, _ = responderLifetime(o.payloads, isakmp.ProtocolISAKMP)
	if !e.checkProof(p, g) {
		e.release(p)
		n.Next = e.now.Add(e.cfg.Retransmit.retryAfter(n.Tries))
		e.arm(p)
		e.count(ReasonAuthFailed)
		e.report(LevelDebug, ReasonAuthFailed, "message 6: the peer's proof is wrong", p)
	}
}

// badAnswer notes what is wrong with an answer: it may be forged, and a better one may
// come, but if none does it is the reason.
func (e *Engine) badAnswer(p *phase1, r Reason, text string) {
	p.neg.why, p.neg.whyText = r, text
	e.count(r)
	e.report(LevelDebug, r, text, p)
}

// mainModeUp ends main mode as initiator: the responder has proven itself.
func (e *Engine) mainModeUp(p *phase1) {
	n := p.neg
	p.moved()
	p.begin()
	p.LastBlock = n.next
	if l := n.cutLife.Seconds; l > 0 {
		p.Life = max(minLife, min(p.Life, lifeOf(l)))
	}
	e.initiated(p)
}

// initiated makes p, a phase 1 SA of ours, one that is up, and goes on with what it was
// opened for.
func (e *Engine) initiated(p *phase1) {
	open, rekey := p.neg.Open, e.conns[p.neg.Rekey]
	if rekey != nil {
		rekey.opening = nil
	}
	if !e.authenticated(p, false) {
		return
	}
	c := e.conns[p.Conn]
	switch {
	case rekey != nil || c == nil:
	case c.Static != "":
		c.Open = open
		e.dialed(c, open.Ref)
	default:
		c.Open, c.Info.Ref, c.Initiator = open, open.Ref, true
		e.openChild(c, nil)
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
		default:
			e.rekeyAgain(c)
		}
		return
	}
	if n.Rekey == 0 {
		e.emit(ConnDown{Conn: failedDial(p, n.Open), Reason: r, Text: text})
	}
}

// failedDial describes what we have dialled and has not become a connection.
func failedDial(p *phase1, open Initiate) ConnInfo {
	return ConnInfo{Ref: open.Ref, Local: p.Local, Remote: p.Remote, Profile: open.Profile, Static: open.Static, Key: open.Key, Peer: p.Vendor.Name}
}

// rekeyAgain has a phase 1 rekey that failed tried again while the SA lives: an outage of a minute
// just when it is due must not cost the connection, and some peers drop the ESP SAs with the
// last phase 1 SA. Each wait is half of what is left, so that a peer that never answers is
// asked seldom.
func (e *Engine) rekeyAgain(c *conn) {
	p := c.newest()
	if p == nil || !p.RekeyAt.IsZero() || c.Dyn != nil {
		return
	}
	if at := e.now.Add(max(rekeyRetry, p.Expires.Sub(e.now)/2)); at.Before(p.Expires) {
		p.RekeyAt = at
		e.arm(p)
	}
}

// rekeyRetry is the wait after a failed rekey, at least.
const rekeyRetry = 15 * time.Second
