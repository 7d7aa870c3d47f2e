package ike

import (
	"net/netip"

	"vrgate/controlplane/isakmp"
)

// packet takes one datagram.
func (e *Engine) packet(pk Packet) {
	pk.Local, pk.Remote = unmap(pk.Local), unmap(pk.Remote)
	if len(pk.Data) == 1 && pk.Data[0] == 0xff {
		e.count(DropKeepalive)
		return
	}
	h, body, err := isakmp.ParseHeader(pk.Data)
	if err != nil {
		e.count(DropMalformed)
		return
	}
	if h.Responder.IsZero() {
		e.firstMessage(pk, h, body)
		return
	}
	c := cookies{h.Initiator, h.Responder}
	p := e.sas[c]
	if p == nil {
		// The answer to our first message brings the responder's cookie.
		if p = e.own[h.Initiator]; p == nil {
			e.unknownCookie(pk, c)
			return
		}
	}
	e.received(p, pk, h, body)
}

// unmap takes IPv4 addresses out of IPv6 sockets' notation.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// unknownCookie drops a message of an SA that is not ours or no longer. K11: the
// peer is told only if the configuration says so, and never in answer to an
// informational message, lest two hosts tell each other for ever.
func (e *Engine) unknownCookie(pk Packet, c cookies) {
	e.count(DropUnknownCookie)
	if e.cfg.InvalidCookie && isakmp.ExchangeType(pk.Data[18]) != isakmp.Informational {
		e.refuseClear(pk.Local, pk.Remote, pk.Marker, c, isakmp.InvalidCookie)
	}
}

// received takes a message that names an SA of ours.
func (e *Engine) received(p *phase1, pk Packet, h isakmp.Header, body []byte) {
	// Before authentication the peer's address must stay; its port may change
	// with the NAT's mapping or when it floats. Afterwards a NATed peer may come
	// from anywhere, and is believed when its message proves to be its own.
	if pk.Local.Addr() != p.Local.Addr() || !p.done() && pk.Remote.Addr() != p.Remote.Addr() {
		e.count(DropWrongAddress)
		return
	}
	if h.Next == isakmp.TypeFragment && !h.Encrypted() {
		whole := e.reassemble(p, h, body)
		if whole == nil {
			return
		}
		inner, innerBody, err := isakmp.ParseHeader(whole)
		if err != nil || inner.Next == isakmp.TypeFragment || inner.Initiator != h.Initiator || inner.Responder != h.Responder {
			e.count(DropFragment)
			return
		}
		pk.Data, h, body = whole, inner, innerBody
	}
	if p.State == StateAMDoneR && h.Encrypted() && h.Exchange != isakmp.Aggressive {
		// The peer believes that all is well: its message 3 was lost. Those that
		// do not repeat it by themselves (racoon, strongSwan) do when they see
		// message 2 again. Or it has another key, and that is its farewell.
		p.neg.Talked = true
		e.repeat(p, pk)
		return
	}
	switch h.Exchange {
	case isakmp.IdentityProtection, isakmp.Aggressive:
		if p.Aggressive != (h.Exchange == isakmp.Aggressive) {
			e.count(DropExchange)
			return
		}
		e.phase1Message(p, pk, h, body)
	case isakmp.QuickMode:
		if !p.done() || !h.Encrypted() || h.MessageID == 0 {
			e.count(DropUnexpected)
			return
		}
		e.quickMode(p, pk, h, body)
	case isakmp.Transaction:
		if !p.done() || !h.Encrypted() || h.MessageID == 0 {
			e.count(DropUnexpected)
			return
		}
		e.transaction(p, pk, h, body)
	case isakmp.Informational:
		e.informational(p, pk, h, body)
	default:
		e.count(DropExchange)
	}
}

// firstMessage takes a message without a responder cookie.
func (e *Engine) firstMessage(pk Packet, h isakmp.Header, body []byte) {
	aggressive := h.Exchange == isakmp.Aggressive
	switch {
	case !aggressive && h.Exchange != isakmp.IdentityProtection || h.Encrypted() || h.MessageID != 0:
		e.count(DropExchange)
		return
	case aggressive && !allowsAggressive(e.cfg.Rules, pk.Local.Addr()):
		// K5: not allowed by default.
		e.refuse(pk, h, ReasonAggressiveMode, isakmp.InvalidExchangeType, func() string {
			return "peer starts aggressive mode, which no IKE policy rule allows"
		})
		return
	}
	// A different message under the same cookie begins another SA: whichever
	// of the two is forged must not keep the other one out.
	d := digestOf(pk.Data)
	if p := e.first[firstKey{pk.Remote, h.Initiator}]; p != nil && p.neg.First == d {
		if p.Last.To == d {
			e.repeat(p, pk)
		} else {
			e.count(DropDuplicate)
		}
		return
	}
	if r := e.admit(pk.Remote.Addr()); r != "" {
		e.count(r)
		return
	}
	ps, err := isakmp.ParsePayloads(h.Next, body)
	if err == nil {
		err = isakmp.Check(h.Exchange, 1, ps, false)
	}
	if err != nil {
		e.count(DropMalformed)
		e.emit(Report{Level: LevelDebug, Reason: DropMalformed, Text: err.Error(), Local: pk.Local, Remote: pk.Remote})
		return
	}
	if aggressive {
		e.aggressive1(pk, h, ps, d)
	} else {
		e.mainMode1(pk, h, ps, d)
	}
}

// repeat sends the last answer of p once more because the peer has repeated the
// message that it answers.
func (e *Engine) repeat(p *phase1, pk Packet) {
	if p.Last.Data == nil || pk.Remote.Addr() != p.Remote.Addr() {
		e.count(DropDuplicate)
		return
	}
	e.count(CountRepeat)
	e.transmitTo(p, pk.Remote, p.Last.Data)
}

// reassemble adds a fragment and returns the whole message when it is complete.
// Fragments are taken only from peers to whom we have said so, and who have said the same;
// the vendor IDs of an aggressive responder come inside its fragments.
func (e *Engine) reassemble(p *phase1, h isakmp.Header, body []byte) []byte {
	if !e.cfg.Fragmentation || !p.Vendor.Frag && p.State != StateAMSAI {
		e.count(DropFragment)
		return nil
	}
	ps, err := isakmp.ParsePayloads(h.Next, body)
	if err != nil || len(ps) != 1 {
		e.count(DropFragment)
		return nil
	}
	f, err := ps[0].Fragment()
	if err != nil {
		e.count(DropFragment)
		return nil
	}
	if p.frags == nil {
		p.frags = &isakmp.Reassembler{}
	}
	before := p.frags.Bytes
	whole, err := p.frags.Add(e.now, f)
	e.guard.FragBytes += p.frags.Bytes - before
	if err != nil {
		e.count(DropFragment)
	}
	if p.frags.Bytes > 0 && e.guard.FragBytes > maxFragBytes {
		e.count(DropLimit)
		e.dropFragments(p)
		return nil
	}
	if p.frags.Bytes == 0 {
		p.frags = nil
	}
	e.arm(p)
	return whole
}

// maxFragBytes bounds what all peers together may leave half sent.
const maxFragBytes = 8 << 20

// dropFragments forgets the fragments held for p.
func (e *Engine) dropFragments(p *phase1) {
	if p.frags != nil {
		e.guard.FragBytes -= p.frags.Bytes
		p.frags = nil
	}
}

// phase1Message takes a main or aggressive mode message of an SA that exists.
func (e *Engine) phase1Message(p *phase1, pk Packet, h isakmp.Header, body []byte) {
	d := digestOf(pk.Data)
	if d == p.Last.To {
		switch {
		case !p.Initiator:
			e.repeat(p, pk)
		case p.Aggressive && p.done() && p.Last.Data != nil:
			e.count(CountRepeat)
			e.transmit(p, p.Last.Data)
		default:
			e.count(DropDuplicate) // our own timer repeats what the peer may have missed
		}
		return
	}
	step, ok := p.expects()
	if !ok || h.MessageID != 0 || p.neg == nil {
		e.count(DropUnexpected)
		return
	}
	if p.Aggressive && step == 3 {
		e.aggressive3(p, pk, h, body, d)
		return
	}
	if enc := step >= 5; h.Encrypted() != enc {
		e.count(DropClear)
		return
	}
	if h.Encrypted() {
		if step == 5 {
			e.mainMode5(p, pk, h, body, d)
		} else {
			e.mainMode6(p, pk, h, body, d)
		}
		return
	}
	ps, err := isakmp.ParsePayloads(h.Next, body)
	if err == nil {
		err = isakmp.Check(h.Exchange, step, ps, false)
	}
	if err != nil {
		e.count(DropMalformed)
		e.report(LevelDebug, DropMalformed, err.Error(), p)
		return
	}
	switch {
	case p.Aggressive:
		e.aggressive2(p, pk, h, ps, d)
	case step == 2:
		e.mainMode2(p, h, ps, d)
	case step == 3:
		e.mainMode3(p, pk, ps, d)
	case step == 4:
		e.mainMode4(p, ps, d)
	}
}

// expects returns the number of the main or aggressive mode message that the SA
// waits for.
func (p *phase1) expects() (step int, ok bool) {
	switch p.State {
	case StateMMSAI, StateAMSAI:
		return 2, true
	case StateMMSAR, StateAMDoneR:
		return 3, true
	case StateMMKEI:
		return 4, p.neg != nil && p.neg.Job == 0
	case StateMMFinalR:
		return 5, true
	case StateMMFinalI:
		return 6, true
	}
	return 0, false
}
