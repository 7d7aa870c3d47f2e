package ike

import (
	"fmt"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Main mode as responder (RFC 2409 section 5.4):
//
//	peer                                   we
//	1  HDR, SA, VIDs                  -->
//	                                  <--  2  HDR, SA, VIDs
//	3  HDR, KE, Ni, NAT-D…            -->
//	                                  <--  4  HDR, KE, Nr, NAT-D…
//	5  HDR*, IDii, HASH_I [, N]       -->
//	                                  <--  6  HDR*, IDir, HASH_R
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
	refuse := func(r Reason, text func() string) {
		e.count(r)
		e.reportStranger(r, text, pk.Local, pk.Remote)
		e.refuseClear(pk.Local, pk.Remote, pk.Marker, cookies{h.Initiator, e.newCookie()}, isakmp.NoProposalChosen)
	}
	if len(e.cfg.keysFor(pk.Local.Addr(), pk.Remote.Addr())) == 0 {
		// K2: rules that need what is missing for this peer are skipped, and
		// every rule needs a key.
		refuse(ReasonNoKey, func() string {
			return fmt.Sprintf("no pre-shared key is configured for %v on %v", pk.Remote.Addr(), pk.Local.Addr())
		})
		return
	}
	c, ok := choosePhase1(e.cfg.Rules, pk.Local.Addr(), sa)
	if !ok {
		refuse(ReasonNoProposal, func() string {
			v := readVendors(ps, true)
			return fmt.Sprintf("no proposal chosen for %s: %s", orUnknown(v.Name), explainPhase1(e.cfg.Rules, pk.Local.Addr(), sa))
		})
		return
	}
	p := &phase1{
		Cookies: cookies{h.Initiator, e.newCookie()},
		State:   StateMMSAR,
		Local:   pk.Local, Remote: pk.Remote, Marker: pk.Marker,
		Created: e.now,
		Vendor:  readVendors(ps, e.cfg.NATT),
		Rule:    c.Rule.Name, Method: c.Method, Suite: c.Suite, Group: c.Group, Life: c.Life,
		neg: &negotiation{
			SAi: append([]byte(nil), saPayload.Body...), LifeCut: c.Cut,
			Expires: e.now.Add(e.cfg.HalfOpen.Timeout),
		},
	}
	e.sas[p.Cookies] = p
	p.neg.From, p.neg.First = p.Remote, d
	e.first[firstKey{p.Remote, p.Cookies.I}] = p
	e.pending(p)

	chosen := isakmp.SA{DOI: sa.DOI, Situation: sa.Situation, Proposals: []isakmp.Proposal{{
		Number: c.Proposal, Protocol: isakmp.ProtocolISAKMP, Transforms: []isakmp.Transform{c.Transform},
	}}}
	answer := append([]isakmp.Payload{chosen.Payload()}, e.answerVendors(p.Vendor)...)
	e.answer(p, d, p.clear(isakmp.IdentityProtection, answer))
	e.arm(p)
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
	ps := append([]isakmp.Payload{{Type: isakmp.TypeKE, Body: n.GXr}, {Type: isakmp.TypeNonce, Body: n.Nr}}, p.natd()...)
	p.State = StateMMFinalR
	e.answer(p, p.Last.To, p.clear(isakmp.IdentityProtection, ps))
}

// busy is the error of a Diffie-Hellman job that was dropped under load.
const busy = "busy"

// exchange is what both proofs cover.
func (p *phase1) exchange() keymat.Exchange {
	n := p.neg
	return keymat.Exchange{CookieI: p.Cookies.I, CookieR: p.Cookies.R, GXi: n.GXi, GXr: n.GXr, SAi: n.SAi}
}

// mainMode5 takes the peer's proof. Which key it used is not known before, since
// its identity is inside: each candidate is tried.
func (e *Engine) mainMode5(p *phase1, pk Packet, h isakmp.Header, body []byte, d digest) {
	n := p.neg
	if n.Attempts >= maxKeyAttempts {
		e.count(DropLimit)
		return
	}
	found, text := e.findKey(p, h, body)
	if found.key == nil {
		n.Attempts++
		r, t := ReasonPSKMismatch, isakmp.PayloadMalformed
		if found.reason != "" {
			r, t = found.reason, isakmp.AuthenticationFailed
		}
		if s := e.guard.source(n.From.Addr()); s != nil && n.Attempts == 1 {
			e.failed(s)
		}
		e.strangerFails(p, r, text, t)
		return
	}
	// The peer has proven itself: from here on, state may change.
	p.Remote, p.Local, p.Marker = pk.Remote, pk.Local, pk.Marker
	p.session = &session{Keys: found.keys, PeerID: found.idBody}
	p.authenticatedBy(found.key)
	ours := localID(found.key, p.Local.Addr()).Payload()
	hash := p.Keys.HashR(p.exchange(), ours.Body)
	data, last := p.seal(p.Keys, isakmp.IdentityProtection, 0, found.next,
		[]isakmp.Payload{ours, {Type: isakmp.TypeHash, Body: hash}})
	p.LastBlock = last
	cut := n.LifeCut
	e.answer(p, d, data)
	p.Last.Till = e.now.Add(answerKept)
	if !e.authenticated(p, found.contact) {
		return
	}
	if cut {
		l := isakmp.Life{Seconds: uint64(p.Life / time.Second)}
		e.sendInfo(p, isakmp.ResponderLifetimeNotify(isakmp.ProtocolISAKMP, p.spi(), l).Payload())
	}
}

// spi is the SPI of an ISAKMP SA in notifies: both cookies.
func (p *phase1) spi() []byte {
	return append(p.Cookies.I[:len(p.Cookies.I):len(p.Cookies.I)], p.Cookies.R[:]...)
}
