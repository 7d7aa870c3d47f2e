package ike

import (
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Proofs of phase 1. Each side proves its identity by HASH_I or HASH_R (RFC 2409
// section 5), or signs that hash (section 5.1). With hybrid authentication
// (draft-ietf-ipsec-isakmp-hybrid-auth-05) the responder signs and the initiator
// proves no more than that it is the one who exchanged keys; XAuth must follow.
//
// Making and checking signatures is the shell's work. Meanwhile the SA is in
// StateAuthI or StateAuthR, and what the peer repeats is dropped. Both exchanges
// and both roles go through the same steps:
//
//	message with the peer's proof → checkProof → peerProved → (prove → proved → our last message)
//	public values exchanged       → prove → proved → message with our proof

// held is the message of the peer whose proof is being checked, or whose answer
// is being signed: what has to be known of it when that is done.
type held struct {
	local, remote netip.AddrPort
	marker        bool
	digest        digest
	contact       bool             // INITIAL-CONTACT came along, encrypted
	natd          []isakmp.Payload // NAT-D payloads of message 3 of aggressive mode
	before        State            // to go back to when it fails
	last          answer           // likewise
}

// hold keeps a message and puts p into the state of those that wait for a
// signature. Copies of it are dropped from here on.
func (e *Engine) hold(p *phase1, pk Packet, d digest) *held {
	m := &held{local: pk.Local, remote: pk.Remote, marker: pk.Marker, digest: d, before: p.State, last: p.Last}
	p.neg.msg = m
	p.State = StateAuthR
	if p.Initiator {
		p.State = StateAuthI
	}
	p.Last = answer{To: d}
	p.neg.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	return m
}

// release forgets the message again: its proof was wrong or could not be looked
// at, and another one may come.
func (e *Engine) release(p *phase1) {
	n := p.neg
	p.State, p.Last = n.msg.before, n.msg.last
	n.msg = nil
	if p.Initiator {
		n.Expires = time.Time{}
	}
	e.arm(p)
}

// peerHash is the hash that the peer's proof is, or signs.
func (p *phase1) peerHash() []byte {
	if p.Initiator {
		return p.neg.Keys.HashR(p.exchange(), p.neg.PeerID)
	}
	return p.neg.Keys.HashI(p.exchange(), p.neg.PeerID)
}

// ourHash is the same of ours.
func (p *phase1) ourHash() []byte {
	if p.Initiator {
		return p.neg.Keys.HashI(p.exchange(), p.neg.Ours.Body)
	}
	return p.neg.Keys.HashR(p.exchange(), p.neg.Ours.Body)
}

// given is what a message brought as proof.
type given struct {
	hash, signature []byte
	certs           [][]byte
}

// readProof takes the proof out of the payloads of a message that isakmp.Check
// has passed. The reason is empty if it is of the kind that was negotiated.
func (p *phase1) readProof(ps []isakmp.Payload) (g given, r Reason, text string) {
	if !p.Method.signs(!p.Initiator) {
		h, ok := isakmp.Find(ps, isakmp.TypeHash)
		if !ok {
			return g, ReasonAuthFailed, "peer signs though a hash was negotiated"
		}
		g.hash = clone(h.Body)
		return g, "", ""
	}
	s, ok := isakmp.Find(ps, isakmp.TypeSignature)
	if !ok {
		return g, ReasonAuthFailed, "peer does not sign though signatures were negotiated"
	}
	g.signature = clone(s.Body)
	g.certs, r, text = readCerts(ps)
	return g, r, text
}

// checkProof looks at the peer's proof: a hash at once, a signature in the shell.
// It returns false if the hash is wrong.
func (e *Engine) checkProof(p *phase1, g given) bool {
	n := p.neg
	if !p.Method.signs(!p.Initiator) {
		if !keymat.EqualProof(g.hash, p.peerHash()) {
			return false
		}
		e.peerProved(p)
		return true
	}
	n.Job = e.newJob(jobRef{p: p})
	e.emit(VerifyPeer{Job: n.Job, Certs: g.certs, Signature: g.signature, Digest: p.peerHash(), ID: n.PeerID, Unauthenticated: !p.Initiator})
	e.arm(p)
	return true
}

// peerVerified is the shell's verdict on a certificate and what it signed.
func (e *Engine) peerVerified(ev PeerVerified) {
	ref, ok := e.jobs[ev.Job]
	delete(e.jobs, ev.Job)
	if !ok {
		return
	}
	p := ref.p
	n := p.neg
	n.Job = 0
	switch {
	case ev.Reason == "":
		n.Subject = ev.Subject
		e.peerProved(p)
	case p.Initiator:
		e.failInitiate(p, ev.Reason, ev.Text)
	case ev.Reason == busy:
		// The peer repeats its message, by when the pool may have room.
		e.count(DropBusy)
		e.release(p)
	default:
		e.release(p)
		e.wrongProof(p, ev.Reason, fmt.Sprintf("%s: %s", describe(n.PeerID), ev.Text))
	}
}

// peerProved goes on when the peer is who it says.
func (e *Engine) peerProved(p *phase1) {
	switch {
	case p.Initiator && !p.identityWanted(&e.cfg):
		e.failInitiate(p, ReasonIdentity, "peer calls itself "+describe(p.neg.PeerID)+e.advice(p))
	case p.Initiator && p.Aggressive:
		e.prove(p)
	case p.Initiator:
		e.mainModeUp(p)
	case p.Aggressive:
		e.aggressiveUp(p)
	default:
		if r, text := e.unwelcome(p); text != "" {
			e.release(p)
			e.wrongProof(p, r, text)
			return
		}
		e.prove(p)
	}
}

// identityWanted tells whether the responder is the one we mean to reach.
func (p *phase1) identityWanted(c *Config) bool {
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: p.neg.PeerID}.ID()
	if err != nil {
		return false
	}
	want := p.neg.Open.PeerID
	if p.Method.preShared() {
		k := c.key(p.neg.Open.Key, p.Local.Addr())
		if k == nil {
			return false
		}
		want = k.ID
		if p.neg.Open.Static != "" && !idMatches(p.neg.Open.PeerID, id) {
			return false
		}
	}
	return idMatches(want, id)
}

// prove makes our proof for the identity neg.Ours.
func (e *Engine) prove(p *phase1) {
	n := p.neg
	e.introduce(p)
	hash := p.ourHash()
	if !p.Method.signs(p.Initiator) {
		e.proved(p, []isakmp.Payload{{Type: isakmp.TypeHash, Body: hash}})
		return
	}
	if p.Initiator {
		p.State = StateAuthI
	}
	n.Job = e.newJob(jobRef{p: p})
	n.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	// Until the peer has proven something, it costs us more than it costs the peer.
	known := p.Initiator || n.Subject != ""
	e.emit(Sign{Job: n.Job, Credential: n.Cred, Digest: hash, Unauthenticated: !known})
	e.arm(p)
}

// signed is the signature made by the shell.
func (e *Engine) signed(ev Signed) {
	ref, ok := e.jobs[ev.Job]
	delete(e.jobs, ev.Job)
	if !ok {
		return
	}
	p := ref.p
	n := p.neg
	n.Job = 0
	cred := e.cfg.credential(n.Cred)
	if ev.Err == "" && cred == nil {
		ev.Err = "it has been removed"
	}
	if ev.Err == "" {
		e.proved(p, append(p.chain(cred), isakmp.Payload{Type: isakmp.TypeSignature, Body: ev.Signature}))
		return
	}
	text := fmt.Sprintf("cannot sign with certificate %q: %s", n.Cred, ev.Err)
	if p.Initiator {
		e.failInitiate(p, ReasonSigning, text)
		return
	}
	if ev.Err == busy {
		e.count(DropBusy)
	} else {
		e.count(ReasonSigning)
		e.reportStranger(ReasonSigning, func() string { return text }, p.Local, p.Remote)
	}
	if p.Aggressive {
		e.dropPhase1(p, "") // a repeated message 1 begins anew
		return
	}
	e.release(p)
}

// proved sends the message that our proof belongs into.
func (e *Engine) proved(p *phase1, proof []isakmp.Payload) {
	switch {
	case p.Initiator && p.Aggressive:
		e.sendAggressive3(p, proof)
	case p.Initiator:
		e.sendMainMode5(p, proof)
	case p.Aggressive:
		e.sendAggressive2(p, proof)
	default:
		e.sendMainMode6(p, proof)
	}
}

// wrongProof counts, reports and answers a proof that does not hold. The SA
// stays: somebody else may have sent it.
func (e *Engine) wrongProof(p *phase1, r Reason, text string) {
	n := p.neg
	n.Attempts++
	if s := e.guard.source(n.From.Addr()); s != nil && n.Attempts == 1 {
		e.failed(s)
	}
	t := isakmp.AuthenticationFailed
	if r == ReasonPSKMismatch {
		t = isakmp.PayloadMalformed
	}
	e.strangerFails(p, r, text, t)
}

// begin makes the session of an SA whose peer has proven itself, with the keys
// of the negotiation.
func (p *phase1) begin() {
	n := p.neg
	p.session = &session{Keys: n.Keys, PeerID: n.PeerID, Subject: n.Subject}
	n.Keys = keymat.Keys{}
	if n.Key != nil {
		p.KeyName, p.KeyTunnel, p.KeyStatic, p.KeyGroup = n.Key.Name, n.Key.Tunnel, n.Key.Static, n.Key.Group
	}
}

// proofWords says how the peer has proven itself.
func (p *phase1) proofWords() string {
	s := fmt.Sprintf("key %q", p.KeyName)
	switch {
	case p.Method.signs(!p.Initiator):
		s = fmt.Sprintf("certificate of %q", p.Subject)
	case p.Method == AuthHybridRSA:
		s = "hybrid authentication"
	}
	if p.Aggressive {
		s += ", aggressive mode"
	}
	return s
}

// moved takes over where the held message came from.
func (p *phase1) moved() {
	m := p.neg.msg
	p.Local, p.Remote, p.Marker = m.local, m.remote, m.marker
}

// certified chooses the certificate with which we shall prove ourselves, by the
// requests of the peer's message.
func (e *Engine) certified(p *phase1, ps []isakmp.Payload) {
	if p.Initiator || !p.Method.signs(false) {
		return
	}
	requested := requestedBy(ps)
	if p.neg.Cred != "" && len(requested) == 0 {
		return
	}
	us := e.cfg.credentialsFor(p.Local.Addr(), p.Remote.Addr(), p.Method)
	if p.Aggressive {
		us = taking(us, p.neg.PeerID)
	}
	if u, ok := choose(us, requested); ok {
		p.neg.Cred, p.neg.Ours = u.cred.Name, u.id().Payload()
	}
}
