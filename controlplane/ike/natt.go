package ike

import (
	"net/netip"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// natd makes the NAT-D payloads of a main mode message: the peer's address as we
// see it, then our own (RFC 3947 section 3.2).
func (p *phase1) natd() []isakmp.Payload {
	t := p.Vendor.NATT.NATD()
	if t == isakmp.TypeNone {
		return nil
	}
	hash := func(ap netip.AddrPort) isakmp.Payload {
		return isakmp.Payload{Type: t, Body: keymat.HashNATD(p.Suite.Hash, p.Cookies.I, p.Cookies.R, ap)}
	}
	return []isakmp.Payload{hash(p.Remote), hash(p.Local)}
}

// detectNAT compares the peer's NAT-D payloads with the addresses we see: those
// of the packet, and those of others if there are any. The
// first one should be our address and the others the peer's, but old Apple
// builds send them the other way round. Where they are, both orders mean the same
// unless we and a peer behind another NAT have the same private address: then the
// last one is the peer's, and says nothing of us. Without NAT-D payloads nothing is
// detected (C4r).
func (p *phase1) detectNAT(ps []isakmp.Payload, others ...natPair) {
	t := p.Vendor.NATT.NATD()
	got := isakmp.All(ps, t)
	if t == isakmp.TypeNone || len(got) < 2 {
		p.Vendor.NATT = isakmp.NATTNone
		return
	}
	p.NATLocal, p.NATPeer = true, true
	behind := false // our address is in the place of the peer's
	for _, a := range append(others, natPair{p.Local, p.Remote}) {
		local := keymat.HashNATD(p.Suite.Hash, p.Cookies.I, p.Cookies.R, a.local)
		remote := keymat.HashNATD(p.Suite.Hash, p.Cookies.I, p.Cookies.R, a.remote)
		for i, d := range got {
			if keymat.EqualProof(d.Body, local) {
				p.NATLocal, behind = p.NATLocal && i > 0, behind || i > 0
			}
			if keymat.EqualProof(d.Body, remote) {
				p.NATPeer = false
			}
		}
	}
	if behind && !(p.NATPeer && p.Local.Addr().IsPrivate()) {
		p.NATLocal = false
	}
}

// natPair are addresses between which a packet was seen.
type natPair struct{ local, remote netip.AddrPort }

// float moves an initiator's SA to the NAT-T port, when a NAT was found and the
// version of NAT-T has one. Draft 00 stays on port 500.
func (p *phase1) float() {
	if !p.encap() || p.Marker || p.Vendor.NATT == isakmp.NATTDraft00 {
		return
	}
	p.Marker = true
	p.Local = netip.AddrPortFrom(p.Local.Addr(), nattPort)
	p.Remote = netip.AddrPortFrom(p.Remote.Addr(), nattPort)
}

// natOA makes the NAT-OA payloads of a quick mode: the addresses of its
// initiator and responder as we see them (RFC 3947 section 5.2).
func (q *quick) natOAs() []isakmp.Payload {
	t := q.p.Vendor.NATT.NATOA()
	if !q.p.encap() || t == isakmp.TypeNone {
		return nil
	}
	ours, theirs := isakmp.NATOAPayload(t, q.p.Local.Addr()), isakmp.NATOAPayload(t, q.p.Remote.Addr())
	if q.Initiator {
		return []isakmp.Payload{ours, theirs}
	}
	return []isakmp.Payload{theirs, ours}
}

// mode is the encapsulation mode we ask for as initiator.
func (p *phase1) mode(tunnel bool) isakmp.Mode {
	switch {
	case p.encap():
		return p.Vendor.NATT.Mode(!tunnel)
	case tunnel:
		return isakmp.ModeTunnel
	}
	return isakmp.ModeTransport
}
