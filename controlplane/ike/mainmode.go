package ike

import (
	"fmt"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Main mode as responder (RFC 2409 sections 5.1 and 5.4):
//
//	peer                                   we
//	1  HDR, SA, VIDs                  -->
//	                                  <--  2  HDR, SA, VIDs
//	3  HDR, KE, Ni, NAT-D…            -->
//	                                  <--  4  HDR, KE, Nr, CERTREQ…, NAT-D…
//	5  HDR*, IDii, HASH_I [, N]       -->
//	     or IDii, CERT…, SIG_I
//	                                  <--  6  HDR*, IDir, HASH_R
//	                                            or IDir, CERT…, SIG_R
//
// Until message 5 has proven that the peer knows a key, each answer is sent once
// for each copy of its message, and a message that does not fit changes nothing:
// anybody might have sent it.

// nonceLen is the length of our nonces: those of 32 bytes suit every prf here.
const nonceLen = 32

// mainMode1 takes message 1 of a peer that may have a half-open SA.
func (e *Engine) mainMode1(pk Packet, h isakmp.Header, ps []isakmp.Payload, d digest) {
	saPayload := ps[0]
	sa, err := saPayload.SA()
	if err != nil {
		e.count(DropMalformed)
		e.emit(Report{Level: LevelDebug, Reason: DropMalformed, Text: err.Error(), Local: pk.Local, Remote: pk.Remote})
		return
	}
	w := e.terms(pk.Local.Addr(), pk.Remote.Addr(), false)
	if !w.any() {
		r, text := e.noKey(pk.Local.Addr(), pk.Remote.Addr())
		e.refuse(pk, h, r, isakmp.NoProposalChosen, text)
		return
	}
	c, ok := choosePhase1(e.cfg.Rules, w, sa)
	if !ok {
		e.refuse(pk, h, ReasonNoProposal, isakmp.NoProposalChosen, func() string { return e.explain(ps, w, sa) })
		return
	}
	p := e.responder(pk, h, ps, c)
	p.State = StateMMSAR
	p.neg.SAi = clone(saPayload.Body)
	e.enter(p, d)
	e.answer(p, d, p.clear(isakmp.IdentityProtection, append([]isakmp.Payload{c.answer(sa)}, e.answerVendors(p)...)))
	e.arm(p)
}

// refuse turns a first message down.
func (e *Engine) refuse(pk Packet, h isakmp.Header, r Reason, t isakmp.NotifyType, text func() string) {
	e.count(r)
	e.reportStranger(r, text, pk.Local, pk.Remote)
	e.refuseClear(pk.Local, pk.Remote, pk.Marker, cookies{h.Initiator, e.newCookie()}, t)
}

// explain says why an offer is refused.
func (e *Engine) explain(ps []isakmp.Payload, w terms, sa isakmp.SA) string {
	v := readVendors(ps, true)
	return fmt.Sprintf("no proposal chosen for %s: %s", orUnknown(v.Name), explainPhase1(e.cfg.Rules, w, sa))
}

// responder makes a half-open SA of what was chosen. A peer whose method asks for
// XAuth speaks it, whether its vendor IDs say so or not (draft-beaulieu-ike-xauth-02
// section 6): with hybrid authentication nothing else tells who it is.
func (e *Engine) responder(pk Packet, h isakmp.Header, ps []isakmp.Payload, c phase1Choice) *phase1 {
	natt := e.speaksNATT(pk.Local.Addr(), pk.Remote)
	v := readVendors(ps, natt)
	v.XAuth = v.XAuth || c.Method.xauth()
	return &phase1{
		Cookies: cookies{h.Initiator, e.newCookie()},
		Local:   pk.Local, Remote: pk.Remote, Marker: pk.Marker,
		Created: e.now,
		Vendor:  v,
		NATTOff: !natt,
		Rule:    c.Rule.Name, Method: c.Method, Suite: c.Suite, Group: c.Group, Life: c.Life,
		neg: &negotiation{LifeCut: c.Cut, Expires: e.now.Add(e.cfg.HalfOpen.Timeout)},
	}
}

// enter takes a half-open SA, begun by the datagram d, into the tables.
func (e *Engine) enter(p *phase1, d digest) {
	e.sas[p.Cookies] = p
	p.neg.From, p.neg.First = p.Remote, d
	e.first[firstKey{p.Remote, p.Cookies.I}] = p
	e.pending(p)
}

// orUnknown names a peer in sentences.
func orUnknown(name string) string {
	if name == "" {
		return "an unrecognised client"
	}
	return name
}

// answer sends a datagram of p and keeps it for repeats of the message to which
// it is the answer.
func (e *Engine) answer(p *phase1, to digest, data []byte) {
	p.Last = answer{To: to, Data: data}
	e.transmit(p, data)
}

// mainMode3 takes the peer's public value: the first thing that costs us more
// than a lookup, and the first that shows that the peer receives what we send.
func (e *Engine) mainMode3(p *phase1, pk Packet, ps []isakmp.Payload, d digest) {
	n := p.neg
	ke, _ := isakmp.Find(ps, isakmp.TypeKE)
	ni, _ := isakmp.Find(ps, isakmp.TypeNonce)
	if !nonceOK(ni.Body) {
		e.count(DropMalformed)
		return
	}
	if err := p.Group.CheckPublic(ke.Body); err != nil {
		e.verified(p)
		e.strangerFails(p, ReasonPublicValue, "peer sends a bad Diffie-Hellman value: "+err.Error(), isakmp.InvalidKeyInformation)
		return
	}
	e.verified(p)
	p.Remote = pk.Remote
	p.Local, p.Marker = pk.Local, pk.Marker
	n.GXi, n.Ni = clone(ke.Body), clone(ni.Body)
	n.Expires = e.now.Add(e.cfg.HalfOpen.Timeout) // a slow but real peer gets its time
	p.detectNAT(ps)
	e.certified(p, ps)
	p.State = StateMMKER
	p.Last = answer{To: d}
	n.Job = e.newJob(jobRef{p: p})
	e.emit(ComputeDH{Job: n.Job, Group: p.Group, Peer: n.GXi, Unauthenticated: true})
	e.arm(p)
}

// nonceOK checks the length of a nonce (RFC 2409 section 5).
func nonceOK(b []byte) bool { return len(b) >= 8 && len(b) <= 256 }

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// strangerFails counts, reports and answers a failed attempt of a peer that has
// proven nothing. The SA stays: somebody else may have sent the message.
func (e *Engine) strangerFails(p *phase1, r Reason, text string, t isakmp.NotifyType) {
	n := p.neg
	e.count(r)
	if n.Notified {
		return
	}
	n.Notified = true
	e.reportStranger(r, func() string { return text }, p.Local, p.Remote)
	e.refuseClear(p.Local, p.Remote, p.Marker, p.Cookies, t)
}

// mainMode4 (as responder) sends our public value when the worker has it.
func (e *Engine) sendMainMode4(p *phase1, done DHDone) {
	n := p.neg
	if done.Err == busy {
		// The peer repeats its message, by when the pool may have room.
		e.count(DropBusy)
		p.State, p.Last = StateMMSAR, answer{}
		return
	}
	if done.Err != "" {
		p.State, p.Last = StateMMSAR, answer{}
		e.strangerFails(p, ReasonPublicValue, "peer sends a bad Diffie-Hellman value: "+done.Err, isakmp.InvalidKeyInformation)
		return
	}
	n.GXr, n.Nr, n.Shared = done.Pair.Public, e.rand(nonceLen), done.Shared
	done.Pair.Private.Wipe()
	ps := []isakmp.Payload{{Type: isakmp.TypeKE, Body: n.GXr}, {Type: isakmp.TypeNonce, Body: n.Nr}}
	if p.Method.signs(true) {
		ps = append(ps, e.cfg.ourRequests()...)
	}
	ps = append(ps, p.natd()...)
	p.State = StateMMFinalR
	e.answer(p, p.Last.To, p.clear(isakmp.IdentityProtection, ps))
}

// busy is the error, or the reason, of a job that was dropped under load.
const busy = "busy"

// exchange is what both proofs cover.
func (p *phase1) exchange() keymat.Exchange {
	n := p.neg
	return keymat.Exchange{CookieI: p.Cookies.I, CookieR: p.Cookies.R, GXi: n.GXi, GXr: n.GXr, SAi: n.SAi}
}

// mainMode5 takes the peer's proof. Which pre-shared key it used is not known
// before, since its identity is inside: each candidate is tried.
func (e *Engine) mainMode5(p *phase1, pk Packet, h isakmp.Header, body []byte, d digest) {
	n := p.neg
	if n.Attempts >= maxKeyAttempts {
		e.count(DropLimit)
		return
	}
	var f proofFound
	var text string
	if p.Method.preShared() {
		f, text = e.findKey(p, h, body)
	} else {
		f, text = e.openProof(p, h, body)
	}
	if f.reason != "" {
		e.wrongProof(p, f.reason, text)
		return
	}
	m := e.hold(p, pk, d)
	m.contact = hasNotify(f.payloads, isakmp.InitialContact)
	n.Keys, n.IV, n.PeerID, n.Key = f.keys, f.next, f.idBody, f.key
	if f.key != nil {
		n.Ours = e.cfg.localID(f.key, p.Local.Addr()).Payload()
		e.peerProved(p)
		return
	}
	e.certified(p, f.payloads)
	if !e.checkProof(p, f.given) {
		n.Keys.Wipe()
		e.release(p)
		e.wrongProof(p, ReasonAuthFailed, "message 5 decrypts but its proof is wrong")
	}
}

// sendMainMode6 sends our proof. The peer has proven itself: from here on, state
// may change.
func (e *Engine) sendMainMode6(p *phase1, proof []isakmp.Payload) {
	n := p.neg
	m := n.msg
	p.moved()
	p.begin()
	data, last := p.seal(p.Keys, isakmp.IdentityProtection, 0, n.IV, append([]isakmp.Payload{n.Ours}, proof...))
	p.LastBlock = last
	cut := n.LifeCut
	e.answer(p, m.digest, data)
	p.Last.Till = e.now.Add(answerKept)
	if !e.authenticated(p, m.contact) {
		return
	}
	if cut {
		e.sendLifetime(p)
	}
}

// sendLifetime tells a peer that wanted more what the lifetime is (RFC 2407
// section 4.6.3.1).
func (e *Engine) sendLifetime(p *phase1) {
	l := isakmp.Life{Seconds: uint64(p.Life / time.Second)}
	e.sendInfo(p, isakmp.ResponderLifetimeNotify(isakmp.ProtocolISAKMP, p.spi(), l).Payload())
}

// spi is the SPI of an ISAKMP SA in notifies: both cookies.
func (p *phase1) spi() []byte {
	return append(p.Cookies.I[:len(p.Cookies.I):len(p.Cookies.I)], p.Cookies.R[:]...)
}
