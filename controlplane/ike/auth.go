package ike

import (
	"fmt"
	"strings"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// proofFound is what message 5 of main mode holds.
type proofFound struct {
	key      *PresharedKey // that the peer has proven to know, nil with certificates
	given    given         // with certificates and hybrid authentication: not looked at yet
	keys     keymat.Keys
	idBody   []byte
	payloads []isakmp.Payload
	next     []byte // IV of the answer
	reason   Reason // what was wrong, empty if nothing
}

// openProof decrypts message 5 of a peer that does not use a pre-shared key: the
// keys depend on nothing but what was exchanged before.
func (e *Engine) openProof(p *phase1, h isakmp.Header, body []byte) (f proofFound, text string) {
	keys, err := p.derive(nil)
	if err != nil {
		return proofFound{reason: ReasonAuthFailed}, err.Error()
	}
	fail := func(r Reason, text string) (proofFound, string) {
		keys.Wipe()
		return proofFound{reason: r}, text
	}
	o, err := p.openMessage5(keys, h, body)
	if err != nil {
		return fail(ReasonAuthFailed, "message 5 does not decrypt: "+err.Error())
	}
	idp, _ := isakmp.Find(o.payloads, isakmp.TypeID)
	if _, err := idp.ID(); err != nil {
		return fail(ReasonIdentity, err.Error())
	}
	g, r, text := p.readProof(o.payloads)
	if r != "" {
		return fail(r, describe(idp.Body)+": "+text)
	}
	return proofFound{given: g, keys: keys, idBody: clone(idp.Body), payloads: o.payloads, next: o.next}, ""
}

// findKey tries the candidates for the pair of addresses against message 5.
// Without a match the text says what an operator needs to know.
func (e *Engine) findKey(p *phase1, h isakmp.Header, body []byte) (f proofFound, text string) {
	local, remote := p.Local.Addr(), p.Remote.Addr()
	candidates := e.cfg.keysFor(local, remote, p.Method, e.now)
	for _, k := range candidates {
		got, why := p.tryKey(k, h, body)
		switch {
		case got.reason == "":
			return got, ""
		case got.reason == ReasonIdentity, got.reason == ReasonAuthFailed && f.reason == "":
			f, text = got, why
		}
	}
	if f.reason != "" {
		return f, text
	}
	for _, k := range e.cfg.oldKeys(local, remote, p.Method, e.now) {
		if got, _ := p.tryKey(k, h, body); got.reason == "" {
			got.keys.Wipe()
			r, why := k.why(e.now)
			return proofFound{reason: r}, fmt.Sprintf("%s, the client %s uses it", why, describe(got.idBody))
		}
	}
	names := make([]string, len(candidates))
	for i, k := range candidates {
		names[i] = fmt.Sprintf("%q", k.Name)
	}
	return proofFound{reason: ReasonPSKMismatch}, "message 5 does not decrypt: pre-shared keys differ (tried " + strings.Join(names, ", ") + ")"
}

// openMessage5 decrypts message 5 of main mode and checks that its payloads are those that it may have.
func (p *phase1) openMessage5(keys keymat.Keys, h isakmp.Header, body []byte) (opened, error) {
	o, err := p.open(keys, p.Suite.FirstIV(p.neg.GXi, p.neg.GXr), h, body)
	if err != nil {
		return o, err
	}
	return o, isakmp.Check(isakmp.IdentityProtection, 5, o.payloads, true)
}

// tryKey opens message 5 with a key: with the right one it decrypts into an identity
// and a hash that proves the key. The reason is [ReasonPSKMismatch] if it does not decrypt.
func (p *phase1) tryKey(k *PresharedKey, h isakmp.Header, body []byte) (f proofFound, text string) {
	keys, err := p.derive(k.Key)
	if err != nil {
		return proofFound{reason: ReasonAuthFailed}, err.Error()
	}
	fail := func(r Reason, text string) (proofFound, string) {
		keys.Wipe()
		return proofFound{reason: r}, text
	}
	o, err := p.openMessage5(keys, h, body)
	if err != nil {
		return fail(ReasonPSKMismatch, err.Error())
	}
	idp, _ := isakmp.Find(o.payloads, isakmp.TypeID)
	hash, ok := isakmp.Find(o.payloads, isakmp.TypeHash)
	id, err := idp.ID()
	switch {
	case err != nil || !ok || !keymat.EqualProof(hash.Body, keys.HashI(p.exchange(), idp.Body)):
		return fail(ReasonAuthFailed, fmt.Sprintf("message 5 decrypts with key %q but its proof is wrong", k.Name))
	case !k.isFor(newShownID(id), p.Remote.Addr()):
		want, advice := k.ID, ""
		if k.static != nil && k.static.PeerIDIsAddress {
			want, advice = p.Remote.Addr().String(), k.static.advice(id)
		}
		return fail(ReasonIdentity, fmt.Sprintf("peer knows key %q but calls itself %s, the key is for %s%s", k.Name, describe(idp.Body), want, advice))
	}
	return proofFound{key: k, keys: keys, idBody: clone(idp.Body), payloads: o.payloads, next: o.next}, ""
}

// hasNotify tells whether a notify of the type is among the payloads.
func hasNotify(ps []isakmp.Payload, t isakmp.NotifyType) bool {
	for _, p := range ps {
		if p.Type != isakmp.TypeNotify {
			continue
		}
		if n, err := p.Notify(); err == nil && n.Type == t {
			return true
		}
	}
	return false
}
