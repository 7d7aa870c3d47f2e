package ike

import (
	"fmt"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Aggressive mode as responder (RFC 2409 sections 5.1 and 5.4, RFC 3947 section 3.2):
//
//	peer                                            we
//	1  HDR, SA, KE, Ni, IDii, VIDs             -->
//	                                           <--  2  HDR, SA, KE, Nr, IDir, HASH_R, VIDs, NAT-D…
//	                                                     or CERT…, SIG_R instead of HASH_R
//	3  HDR*, HASH_I, NAT-D… [, N]              -->
//	     or CERT…, SIG_I; in clear from some
//
// The identity comes first, so that a pre-shared key can be chosen by it (J18, K1). In
// return we have to compute, and answer with more than we were sent, before the
// peer has shown anything: it works only where a rule allows it (K5), within the
// half-open limits, in jobs that may be dropped, and one answer for each copy of
// message 1. Message 2 is never repeated unasked, though racoon would want that;
// see Engine.received for what brings a peer to repeat message 3.

// aggressive1 takes message 1 of a peer that may have a half-open SA.
func (e *Engine) aggressive1(pk Packet, h isakmp.Header, ps []isakmp.Payload, d digest) {
	malformed := func(err error) {
		e.count(DropMalformed)
		e.emit(Report{Level: LevelDebug, Reason: DropMalformed, Text: err.Error(), Local: pk.Local, Remote: pk.Remote})
	}
	sa, err := ps[0].SA()
	if err != nil {
		malformed(err)
		return
	}
	ke, _ := isakmp.Find(ps, isakmp.TypeKE)
	ni, _ := isakmp.Find(ps, isakmp.TypeNonce)
	idp, _ := isakmp.Find(ps, isakmp.TypeID)
	id, err := idp.ID()
	if err != nil {
		malformed(err)
		return
	}
	if !nonceOK(ni.Body) {
		malformed(fmt.Errorf("nonce of %d bytes", len(ni.Body)))
		return
	}
	local, remote := pk.Local.Addr(), pk.Remote.Addr()
	w := e.terms(local, remote, true)
	w.public = len(ke.Body)
	anybody := w
	w.psk = w.psk && e.cfg.keyFor(local, remote, AuthPSK, id, e.now) != nil
	w.xauthPSK = w.xauthPSK && e.cfg.keyFor(local, remote, AuthXAuthPSK, id, e.now) != nil
	c, ok := choosePhase1(e.cfg.Rules, w, sa)
	if !ok {
		if _, other := choosePhase1(e.cfg.Rules, anybody, sa); other {
			r, text := ReasonUnknownGroup, "no key for group"
			if k := e.cfg.oldKeyFor(local, remote, AuthPSK, id, e.now); k != nil {
				r, text = k.why(e.now)
				text += ", and there is no other for"
			} else if t := e.cfg.staticByAddress(local, remote, id); t != nil {
				e.refuse(pk, h, ReasonIdentity, isakmp.AuthenticationFailed, func() string {
					return t.mismatch(claim{local: local, remote: remote, method: t.answered(), id: idp.Body})
				})
				return
			}
			e.refuse(pk, h, r, isakmp.AuthenticationFailed, func() string { return text + " " + describe(idp.Body) })
			return
		}
		if !w.any() {
			r, text := e.noKey(local, remote)
			e.refuse(pk, h, r, isakmp.NoProposalChosen, text)
			return
		}
		e.refuse(pk, h, ReasonNoProposal, isakmp.NoProposalChosen, func() string { return e.explain(ps, w, sa) })
		return
	}
	if err := c.Group.CheckPublic(ke.Body); err != nil {
		e.refuse(pk, h, ReasonPublicValue, isakmp.InvalidKeyInformation, func() string {
			return "peer sends a bad Diffie-Hellman value: " + err.Error()
		})
		return
	}
	if e.guard.Eager >= maxEager {
		e.count(DropBusy)
		return
	}
	p := e.responder(pk, h, ps, c)
	p.State, p.Aggressive = StateAMSAR, true
	e.guard.Eager++
	n := p.neg
	n.SAi, n.GXi, n.Ni, n.PeerID = clone(ps[0].Body), clone(ke.Body), clone(ni.Body), clone(idp.Body)
	n.Choice = c.answer(sa)
	if p.Method.preShared() {
		n.Key = e.inTurn(e.cfg.keyFor(local, remote, p.Method, id, e.now), remote)
		n.Ours = e.cfg.localID(n.Key, local).Payload()
	}
	e.certified(p, ps)
	e.enter(p, d)
	p.Last = answer{To: d}
	n.Job = e.newJob(jobRef{p: p})
	e.emit(ComputeDH{Job: n.Job, Group: p.Group, Peer: n.GXi, Unauthenticated: true})
	e.arm(p)
}

// aggressiveShared makes keys and proof when the worker has the shared secret.
func (e *Engine) aggressiveShared(p *phase1, done DHDone) {
	n := p.neg
	switch done.Err {
	case "":
	case busy:
		// The peer repeats its message, by when the pool may have room.
		e.count(DropBusy)
		e.dropPhase1(p, "")
		return
	default:
		e.strangerFails(p, ReasonPublicValue, "peer sends a bad Diffie-Hellman value: "+done.Err, isakmp.InvalidKeyInformation)
		e.dropPhase1(p, "")
		return
	}
	n.GXr, n.Nr, n.Shared = done.Pair.Public, e.rand(nonceLen), done.Shared
	done.Pair.Private.Wipe()
	var psk keymat.Secret
	if n.Key != nil {
		psk = n.Key.Key
	}
	keys, err := p.derive(psk)
	if err != nil {
		// The suite was checked when it was chosen.
		e.strangerFails(p, ReasonAuthFailed, err.Error(), isakmp.NoProposalChosen)
		e.dropPhase1(p, "")
		return
	}
	n.Keys = keys
	e.prove(p)
}

// sendAggressive2 sends our public value and proof.
func (e *Engine) sendAggressive2(p *phase1, proof []isakmp.Payload) {
	n := p.neg
	ps := append([]isakmp.Payload{n.Choice, {Type: isakmp.TypeKE, Body: n.GXr}, {Type: isakmp.TypeNonce, Body: n.Nr}, n.Ours}, proof...)
	ps = append(ps, e.answerVendors(p)...)
	ps = append(ps, p.natd()...)
	if p.Method.signs(true) {
		// Nobody else is asked: vpnc gives up at payloads that it does not expect.
		ps = append(ps, e.cfg.ourRequests()...)
	}
	p.State = StateAMDoneR
	e.guard.Eager--
	n.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	e.answer(p, p.Last.To, p.clear(isakmp.Aggressive, ps))
	e.arm(p)
}

// gaveUp reports a peer that says anything else instead of message 3. It sees our
// proof first, so it is the one to notice that the keys differ. What it says in
// clear is told at once; what is encrypted only when message 3 has not come until
// the end, and vpnc says nothing at all. The cookies are right, so message 2 has
// reached somebody there. Nothing else changes, since who else saw message 2 could
// say the same.
func (e *Engine) gaveUp(p *phase1) {
	n := p.neg
	if p.State != StateAMDoneR || n == nil || n.Key == nil || n.Notified {
		return
	}
	n.Notified = true
	e.nextTurn(p.Remote.Addr())
	e.count(ReasonPSKMismatch)
	e.reportStranger(ReasonPSKMismatch, func() string {
		return fmt.Sprintf("%s gives up at our proof: it has another key than %q", describe(n.PeerID), n.Key.Name)
	}, p.Local, p.Remote)
}

// aggressive3 takes the peer's proof.
func (e *Engine) aggressive3(p *phase1, pk Packet, h isakmp.Header, body []byte, d digest) {
	n := p.neg
	if n.Attempts >= maxKeyAttempts {
		e.count(DropLimit)
		return
	}
	e.verified(p) // it has received message 2: our cookie was in it
	wrong := ReasonAuthFailed
	var name string
	if n.Key != nil {
		wrong, name = ReasonPSKMismatch, fmt.Sprintf(", or it has another key than %q", n.Key.Name)
	}
	next := p.Suite.FirstIV(n.GXi, n.GXr)
	var ps []isakmp.Payload
	var err error
	if h.Encrypted() {
		var o opened
		o, err = p.open(n.Keys, next, h, body)
		ps, next = o.payloads, o.next
	} else {
		ps, err = isakmp.ParsePayloads(h.Next, body)
	}
	if err == nil {
		err = isakmp.Check(isakmp.Aggressive, 3, ps, h.Encrypted())
	}
	if err != nil {
		if !h.Encrypted() {
			e.count(DropMalformed)
			e.report(LevelDebug, DropMalformed, err.Error(), p)
			return
		}
		e.wrongProof(p, wrong, fmt.Sprintf("message 3 of %s does not decrypt%s", describe(n.PeerID), name))
		return
	}
	g, r, text := p.readProof(ps)
	if r != "" {
		e.wrongProof(p, r, describe(n.PeerID)+": "+text)
		return
	}
	m := e.hold(p, pk, d)
	for _, x := range ps {
		if x.Type == p.Vendor.NATT.NATD() {
			m.natd = append(m.natd, isakmp.Payload{Type: x.Type, Body: clone(x.Body)})
		}
	}
	// In clear, anybody on the way could have added it.
	m.contact = h.Encrypted() && hasNotify(ps, isakmp.InitialContact)
	n.IV = next
	if !e.checkProof(p, g) {
		e.release(p)
		e.wrongProof(p, wrong, fmt.Sprintf("the proof of %s is wrong%s", describe(n.PeerID), name))
	}
}

// aggressiveUp ends aggressive mode as responder: the peer has proven itself, and
// from here on, state may change.
func (e *Engine) aggressiveUp(p *phase1) {
	n := p.neg
	m := n.msg
	// Where a peer that found a NAT sends message 3 from is the NAT-T port. Some
	// hash the ports of message 1 (vpnc, racoon), some the new ones (strongSwan).
	first := natPair{p.Local, p.Remote}
	p.moved()
	p.detectNAT(m.natd, first)
	p.begin()
	p.LastBlock = n.IV
	p.Last = answer{To: m.digest, Till: e.now.Add(answerKept)}
	cut := n.LifeCut
	if !e.authenticated(p, m.contact) {
		return
	}
	if cut {
		e.sendLifetime(p)
	}
}

// startAggressive begins aggressive mode as initiator: the public value goes out
// with message 1.
func (e *Engine) startAggressive(p *phase1) {
	n := p.neg
	p.State = StateStartI
	p.Group = keymat.Group(n.Offer[0].Group)
	n.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	n.Job = e.newJob(jobRef{p: p})
	e.emit(ComputeDH{Job: n.Job, Group: p.Group})
	e.arm(p)
}

// sendAggressive1 sends our offer, public value and identity.
func (e *Engine) sendAggressive1(p *phase1, pair keymat.KeyPair) {
	n := p.neg
	n.Pair, n.GXi, n.Ni, n.Expires = pair, pair.Public, e.rand(nonceLen), time.Time{}
	id := isakmp.AddrID(p.Local.Addr(), 0, 0)
	switch key, cred := e.cfg.key(n.Open.Key, p.Local.Addr()), e.cfg.credential(n.Open.Credential); {
	case n.Open.LocalID != "":
		id = parseID(n.Open.LocalID)
	case p.Method.preShared() && key != nil:
		id = e.cfg.localID(key, p.Local.Addr())
	case p.Method.signs(true) && cred != nil:
		id = usable{cred: cred}.id()
	}
	n.Ours = id.Payload()
	ps := []isakmp.Payload{{Type: isakmp.TypeSA, Body: n.SAi}, {Type: isakmp.TypeKE, Body: n.GXi}, {Type: isakmp.TypeNonce, Body: n.Ni}, n.Ours}
	ps = append(ps, e.offerVendors(p)...)
	if p.Method.signs(false) {
		ps = append(ps, e.cfg.ourRequests()...)
	}
	p.State = StateAMSAI
	e.request(p, p.clear(isakmp.Aggressive, ps))
}

// aggressive2 takes the responder's choice, public value and proof, which is
// looked at when the shared secret is known.
func (e *Engine) aggressive2(p *phase1, pk Packet, h isakmp.Header, ps []isakmp.Payload, d digest) {
	n := p.neg
	ke, _ := isakmp.Find(ps, isakmp.TypeKE)
	nr, _ := isakmp.Find(ps, isakmp.TypeNonce)
	idp, _ := isakmp.Find(ps, isakmp.TypeID)
	if _, err := idp.ID(); err != nil || !nonceOK(nr.Body) {
		e.count(DropMalformed)
		return
	}
	if err := p.Group.CheckPublic(ke.Body); err != nil {
		e.count(ReasonPublicValue)
		e.report(LevelDebug, ReasonPublicValue, err.Error(), p)
		return
	}
	g, r, text := p.readProof(ps)
	if r != "" {
		e.badAnswer(p, r, "message 2: "+text)
		return
	}
	if !e.chosen(p, h, ps) {
		return
	}
	n.GXr, n.Nr, n.PeerID, n.proof = clone(ke.Body), clone(nr.Body), clone(idp.Body), g
	p.detectNAT(ps)
	p.State = StateAMFinalI
	e.hold(p, pk, d)
	p.State = StateAMFinalI
	n.Job = e.newJob(jobRef{p: p})
	e.emit(ComputeDH{Job: n.Job, Group: p.Group, Pair: &n.Pair, Peer: n.GXr})
	e.arm(p)
}

// aggressiveProof looks at the responder's proof.
func (e *Engine) aggressiveProof(p *phase1) {
	n := p.neg
	if p.Method.signs(false) {
		p.State = StateAuthI
	}
	if e.checkProof(p, n.proof) {
		return
	}
	// Whoever answered, the right one would have to be asked anew. The server learns no
	// other way that a client with another key has been there.
	e.refuseClear(p.Local, p.Remote, p.Marker, p.Cookies, isakmp.AuthenticationFailed)
	e.failInitiate(p, ReasonPSKMismatch, fmt.Sprintf("%s answers, but its proof is wrong: the pre-shared keys differ", describe(n.PeerID)))
}

// sendAggressive3 sends our proof, which ends phase 1 for us.
func (e *Engine) sendAggressive3(p *phase1, proof []isakmp.Payload) {
	n := p.neg
	ps := append(proof, p.natd()...)
	if n.Rekey == 0 && !e.knows(p) {
		ps = append(ps, isakmp.InitialContactNotify(p.Cookies.I, p.Cookies.R).Payload())
	}
	m := n.msg
	p.moved()
	p.float()
	data, last := p.seal(n.Keys, isakmp.Aggressive, 0, p.Suite.FirstIV(n.GXi, n.GXr), ps)
	e.answer(p, m.digest, data)
	p.Last.Till = e.now.Add(answerKept)
	p.begin()
	p.LastBlock = last
	p.Third, p.Thirds = e.now.Add(e.cfg.Retransmit.retryAfter(1)), 1
	e.initiated(p)
}

// repeatThird sends message 3 once more, since nothing has been heard of the
// responder that would show that it has got it.
func (e *Engine) repeatThird(p *phase1) {
	p.Third = time.Time{}
	if p.Last.Data == nil || p.Thirds >= e.cfg.Retransmit.Tries {
		return
	}
	p.Thirds++
	p.Third = e.now.Add(e.cfg.Retransmit.retryAfter(p.Thirds))
	e.count(CountRetransmit)
	e.transmit(p, p.Last.Data)
}
