package ike

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Quick mode as responder (RFC 2409 section 5.5):
//
//	peer                                                we
//	1  HDR*, HASH(1), SA, Ni [, KE] [, IDci, IDcr]  -->
//	                                                    inbound SA into the kernel
//	                        <--  2  HDR*, HASH(2), SA, Nr [, KE] [, IDci, IDcr]
//	3  HDR*, HASH(3)                                -->
//	                                                    outbound SA into the kernel
//
// The inbound SA is installed before message 2 lets the peer use it, the outbound
// one when message 3 shows that the peer is ready: no packet is lost at a rekey.

// quick returns the exchange with that message id, nil if there is none.
func (p *phase1) quick(id uint32) *quick {
	for _, q := range p.quicks {
		if q.ID == id {
			return q
		}
	}
	return nil
}

// remember adds an id to a bounded list of those seen, the oldest going first.
func remember(ids []uint32, id uint32, limit int) []uint32 {
	if len(ids) >= limit {
		copy(ids, ids[1:])
		ids = ids[:len(ids)-1]
	}
	return append(ids, id)
}

// quickMode takes a quick mode message.
func (e *Engine) quickMode(p *phase1, pk Packet, h isakmp.Header, body []byte) {
	d := digestOf(pk.Data)
	q := p.quick(h.MessageID)
	if q == nil {
		e.newQuick(p, pk, h, body, d)
		return
	}
	if d == q.Last.To {
		// The peer repeats itself: so do we, once for once. What waits for the
		// kernel or a worker has nothing to repeat yet.
		if q.Last.Data == nil || pk.Remote.Addr() != p.Remote.Addr() {
			e.count(DropDuplicate)
			return
		}
		e.count(CountRepeat)
		e.transmit(p, q.Last.Data)
		return
	}
	if q.State != quickSent {
		// Windows servers end with a fourth message (CONNECTED), as the commit
		// bit asks; there is nothing left to do for us then.
		e.count(DropUnexpected)
		return
	}
	o, err := p.open(p.Keys, q.IV, h, body)
	step := 3
	if q.Initiator {
		step = 2
	}
	if err == nil {
		err = isakmp.Check(isakmp.QuickMode, step, o.payloads, true)
	}
	if err != nil {
		e.count(DropUndecryptable)
		return
	}
	if q.Initiator {
		e.quickMode2(q, pk, o, d)
	} else {
		e.quickMode3(q, pk, o)
	}
}

// newQuick takes message 1 of a quick mode.
func (e *Engine) newQuick(p *phase1, pk Packet, h isakmp.Header, body []byte, d digest) {
	if slices.Contains(p.SeenQuick, h.MessageID) {
		e.count(DropReplay)
		return
	}
	if len(p.quicks) >= maxQuicks {
		e.count(DropLimit)
		return
	}
	c := e.conns[p.Conn]
	if c == nil {
		e.count(DropUnexpected)
		return
	}
	o, err := p.open(p.Keys, p.messageIV(h.MessageID), h, body)
	if err == nil {
		err = isakmp.Check(isakmp.QuickMode, 1, o.payloads, true)
	}
	if err != nil {
		e.count(DropUndecryptable)
		return
	}
	if !keymat.EqualProof(o.payloads[0].Body, p.Keys.HashQuick1(h.MessageID, o.rest)) {
		e.count(DropBadHash)
		return
	}
	hold, early := c.quickGate(p)
	if hold {
		e.count(DropUnexpected)
		return
	}
	p.SeenQuick = remember(p.SeenQuick, h.MessageID, maxSeenQuick)
	e.heard(p)
	e.located(p, pk)
	q := &quick{ID: h.MessageID, IV: o.next, State: quickDH, p: p, Last: answer{To: d}}
	if early != "" {
		e.count(ReasonTooEarly)
		e.report(LevelInfo, ReasonTooEarly, "quick mode refused: "+early, p)
		e.refuseQuick(p, q, isakmp.NoProposalChosen)
		return
	}
	if r, n, text := e.judgeQuick(c, q, o.payloads); r != "" {
		e.count(r)
		e.report(LevelInfo, r, "quick mode refused: "+text, p)
		e.refuseQuick(p, q, n)
		return
	}
	p.quicks = append(p.quicks, q)
	q.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	e.arm(q)
	if q.pfs != 0 {
		q.job = e.newJob(jobRef{p: p, q: q})
		e.emit(ComputeDH{Job: q.job, Group: q.pfs, Peer: q.ke})
		return
	}
	e.makeChild(q, nil)
}

// judgeQuick decides about an offer and fills q in. reason is empty if it is
// acceptable, else notify is the answer.
func (e *Engine) judgeQuick(c *conn, q *quick, ps []isakmp.Payload) (reason Reason, notify isakmp.NotifyType, text string) {
	p := q.p
	sa, err := ps[1].SA()
	if err != nil {
		return DropMalformed, isakmp.BadProposalSyntax, err.Error()
	}
	ni, _ := isakmp.Find(ps, isakmp.TypeNonce)
	if !nonceOK(ni.Body) {
		return DropMalformed, isakmp.PayloadMalformed, fmt.Sprintf("nonce of %d bytes", len(ni.Body))
	}
	t, reason, text := e.judgeTraffic(c, q, isakmp.All(ps, isakmp.TypeID))
	switch reason {
	case "":
	case ReasonNoProfile, ReasonTooMany:
		return reason, isakmp.NoProposalChosen, text
	default:
		return reason, isakmp.InvalidIDInformation, text
	}
	ke, hasKE := isakmp.Find(ps, isakmp.TypeKE)
	rules := espRules{profile: t, tunnel: q.tunnel, encap: p.encap(), udpOK: p.udpOK(), ke: hasKE,
		avoidSHA256: p.Vendor.Android && !e.cfg.OldAndroidSHA256}
	choice, reason, text := chooseESP(sa, rules)
	if reason != "" {
		if reason == ReasonEncapsulation && p.NATLocal && p.udpOK() {
			// Windows without AssumeUDPEncapsulationContextOnSendRule = 2.
			text = "peer sees us behind NAT and offers no UDP encapsulation (Windows: set the registry value AssumeUDPEncapsulationContextOnSendRule to 2); " + text
		}
		return reason, isakmp.NoProposalChosen, "no proposal chosen: " + text
	}
	if hasKE {
		q.pfs = keymat.Group(choice.ESP.Group)
		if err := q.pfs.CheckPublic(ke.Body); err != nil {
			return ReasonPublicValue, isakmp.InvalidKeyInformation, err.Error()
		}
		q.ke = clone(ke.Body)
	}
	q.Ni, q.profile, q.number, q.esp, q.spiOut = clone(ni.Body), t, choice.Number, choice.ESP, choice.SPI
	q.chosen = cloneTransform(choice.Transform)
	q.life = agreeLife(choice.ESP.Life, t, choice.Proposal)
	q.natOA = slices.ContainsFunc(ps, func(x isakmp.Payload) bool { return x.Type.IsNATOA() })
	return "", 0, ""
}

// cloneTransform copies what aliases the datagram.
func cloneTransform(t isakmp.Transform) isakmp.Transform {
	t.Attributes = slices.Clone(t.Attributes)
	for i := range t.Attributes {
		t.Attributes[i].Value = clone(t.Attributes[i].Value)
	}
	return t
}

// udpOK tells whether ESP in UDP can be used: NAT-T is agreed and the peer has
// moved to the port for it. Draft 00 stays on port 500 with another marker, which
// no supported kernel knows.
func (p *phase1) udpOK() bool {
	return p.Marker && p.Vendor.NATT != isakmp.NATTNone && p.Vendor.NATT != isakmp.NATTDraft00
}

// refuseQuick answers an offer that we do not take.
func (e *Engine) refuseQuick(p *phase1, q *quick, t isakmp.NotifyType) {
	n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtocolESP, Type: t}
	if q.spiOut != 0 {
		n.SPI = binary.BigEndian.AppendUint32(nil, q.spiOut)
	}
	e.sendInfo(p, n.Payload())
}

// agreeLife is the smaller of both lifetimes in each unit. What the peer did not
// name is ours to choose.
func agreeLife(l isakmp.Life, t *TransportProfile, prop ESPProposal) childLife {
	ours := t.Lifetime
	if ours == 0 {
		ours = defaultChildLife
	}
	var c childLife
	c.Time, c.Notify = shorterLife(l.Seconds, ours)
	kb := t.LifeKB
	if prop.Cipher == ESP3DES || prop.Cipher == ESPDES {
		if kb == 0 || kb > shortBlockKB {
			kb = shortBlockKB
		}
	}
	c.KB = l.Kilobytes
	if kb != 0 && (c.KB == 0 || c.KB > kb) {
		c.Notify = c.Notify || c.KB != 0
		c.KB = kb
	}
	return c
}

// quickDHDone continues a quick mode with PFS.
func (e *Engine) quickDHDone(q *quick, ev DHDone) {
	q.job = 0
	switch {
	case ev.Err != "":
		e.count(ReasonDHFailed)
		if !q.Initiator {
			e.refuseQuick(q.p, q, isakmp.InvalidKeyInformation)
		}
		e.dropQuick(q, ReasonDHFailed)
	case q.Initiator && q.ke == nil:
		q.pair = ev.Pair
		e.sendQuick1(q)
	default:
		q.pair = ev.Pair
		e.makeChild(q, ev.Shared)
		ev.Shared.Wipe()
	}
}

// newSPI picks an inbound SPI that is not in use.
func (e *Engine) newSPI() uint32 {
	for {
		if spi := e.rand32(); spi > 255 && e.spis[spi] == nil {
			return spi
		}
	}
}

// makeChild derives the keys of both SAs and has the inbound one installed. When
// that is done, message 2 or 3 goes out.
func (e *Engine) makeChild(q *quick, shared keymat.Secret) {
	p, c := q.p, e.conns[q.p.Conn]
	if !q.Initiator {
		q.Nr = e.rand(nonceLen)
		q.spiIn = e.newSPI()
	}
	prop := espProposal(q.esp)
	alg := espAlgorithm(prop)
	in, err := p.Keys.ESP(alg, q.spiIn, shared, q.Ni, q.Nr)
	var out keymat.ESPKeys
	if err == nil {
		out, err = p.Keys.ESP(alg, q.spiOut, shared, q.Ni, q.Nr)
	}
	if err != nil || c == nil {
		e.dropQuick(q, ReasonNoProposal2)
		return
	}
	ch := &child{Conn: p.Conn, Proposal: prop, PFS: q.pfs, LocalID: q.lid, RemoteID: q.rid, Profile: q.profile.Name,
		Name: q.name, Since: e.now}
	soft := e.rekeyAfter(q.life.Time, q.Initiator)
	ch.Soft, ch.Hard = e.now.Add(soft), e.now.Add(q.life.Time)
	sa := SA{Conn: p.Conn, Local: c.Info.Local, Remote: c.Info.Remote, Encap: q.esp.Mode.UDP(), Cipher: prop.Cipher, Auth: prop.Auth,
		AuthBits: authBits(prop.Auth, p.Vendor.Android && e.cfg.OldAndroidSHA256),
		SoftLife: soft, HardLife: q.life.Time, SoftKB: q.life.KB * 9 / 10, HardKB: q.life.KB,
		Tunnel: q.tunnel, LocalNet: q.local, RemoteNet: q.remote, SkipChecksum: !q.tunnel && c.Info.NATPassthrough}
	switch {
	case c.Static != "":
		sa.Static, sa.Child, sa.SoftKB = c.Static, q.name, staticLife(q.life.KB, q.Initiator)
		sa.Protocol, sa.LocalPort, sa.RemotePort = q.sel.protocol, q.sel.localPort, q.sel.remotePort
	case !q.tunnel:
		sa.Protocol, sa.LocalPort, sa.RemotePort = udp, portOf(q.lid), portOf(q.rid)
	}
	ch.In, ch.Out = sa, sa
	ch.In.Dir, ch.In.SPI, ch.In.EncKey, ch.In.AuthKey = Inbound, q.spiIn, join(in.Enc, in.Salt), in.Auth
	ch.Out.Dir, ch.Out.SPI, ch.Out.EncKey, ch.Out.AuthKey = Outbound, q.spiOut, join(out.Enc, out.Salt), out.Auth
	if old := c.surplus(ch); old != nil {
		e.deleteChild(c, old)
	}
	ch.InState = saPending
	q.child = ch
	q.State = quickInstalling
	c.Children = append(c.Children, ch)
	e.spis[q.spiIn] = ch
	e.emit(InstallSA{SA: ch.In})
}

// join is the cipher's key with the salt behind it, as the kernel takes AES-GCM.
func join(a, b keymat.Secret) keymat.Secret {
	return append(append(make(keymat.Secret, 0, len(a)+len(b)), a...), b...)
}

// portOf is the port of a selector.
func portOf(id []byte) uint16 {
	if len(id) < 4 {
		return 0
	}
	return binary.BigEndian.Uint16(id[2:])
}

// surplus is the child that has to make room for another one, nil if there is
// room (K8).
func (c *conn) surplus(fresh *child) *child {
	var same []*child
	for _, ch := range c.Children {
		if ch.rivals(fresh) {
			same = append(same, ch)
		}
	}
	if len(same) < maxChildren {
		return nil
	}
	for _, ch := range same {
		if ch != c.currentLike(fresh) {
			return ch
		}
	}
	return same[0]
}

// sendQuick2 answers with our half once the kernel takes the peer's packets.
func (e *Engine) sendQuick2(q *quick) {
	p := q.p
	spi := binary.BigEndian.AppendUint32(nil, q.spiIn)
	sa := isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{{
		Number: q.number, Protocol: isakmp.ProtocolESP, SPI: spi, Transforms: []isakmp.Transform{q.chosen}}}}
	ps := []isakmp.Payload{sa.Payload(), {Type: isakmp.TypeNonce, Body: q.Nr}}
	if q.pfs != 0 {
		ps = append(ps, isakmp.Payload{Type: isakmp.TypeKE, Body: q.pair.Public})
	}
	if q.lid != nil { // a static tunnel's peer may have named none
		ps = append(ps, isakmp.Payload{Type: isakmp.TypeID, Body: q.rid}, isakmp.Payload{Type: isakmp.TypeID, Body: q.lid})
	}
	if q.natOA {
		ps = append(ps, q.natOAs()...)
	}
	if q.life.Notify {
		l := isakmp.Life{Seconds: uint64(q.life.Time / time.Second), Kilobytes: q.life.KB}
		ps = append(ps, isakmp.ResponderLifetimeNotify(isakmp.ProtocolESP, spi, l).Payload())
	}
	full := hashed(func(rest []byte) []byte { return p.Keys.HashQuick2(q.ID, q.Ni, rest) }, ps...)
	data, next := p.seal(p.Keys, isakmp.QuickMode, q.ID, q.IV, full)
	q.IV, q.State, q.Last.Data = next, quickSent, data
	q.Expires = time.Time{}
	q.pair.Private.Wipe()
	// The peer is authenticated, so the answer may be repeated unasked.
	q.Tries, q.Next = 1, e.now.Add(e.cfg.Retransmit.retryAfter(1))
	e.transmit(p, data)
	e.arm(q)
}

// quickMode3 is the peer's word that it takes our packets.
func (e *Engine) quickMode3(q *quick, pk Packet, o opened) {
	p := q.p
	if !keymat.EqualProof(o.payloads[0].Body, p.Keys.HashQuick3(q.ID, q.Ni, q.Nr)) {
		e.count(DropBadHash)
		return
	}
	e.heard(p)
	e.located(p, pk)
	ch := q.child
	q.child = nil // it lives on without the exchange
	e.dropQuick(q, "")
	if e.spis[ch.In.SPI] == ch { // else the peer's delete has overtaken the message
		e.installOut(ch)
	}
}

// installOut has the outbound SA installed.
func (e *Engine) installOut(ch *child) {
	ch.OutState, ch.Switch = saPending, time.Time{}
	e.outs[ch.Out.SPI] = ch
	e.emit(InstallSA{SA: ch.Out})
}

// deadline of a quick mode.
func (q *quick) deadline() time.Time { return deadline.Earliest(q.Expires, q.Next) }

func (q *quick) expire(e *Engine) {
	if deadline.Reached(e.now, q.Expires) {
		if q.State != quickFinished {
			e.count(ReasonTimeout)
		}
		e.dropQuick(q, ReasonTimeout)
		return
	}
	if q.Tries >= e.cfg.Retransmit.Tries {
		e.count(ReasonTimeout)
		e.report(LevelInfo, ReasonTimeout, "no answer in quick mode", q.p)
		e.dropQuick(q, ReasonTimeout)
		return
	}
	q.Tries++
	q.Next = e.now.Add(e.cfg.Retransmit.retryAfter(q.Tries))
	e.count(CountRetransmit)
	e.transmit(q.p, q.Last.Data)
	e.arm(q)
}

// dropQuick ends an exchange; a child that it has not finished goes with it.
func (e *Engine) dropQuick(q *quick, r Reason) {
	p := q.p
	p.quicks = slices.DeleteFunc(p.quicks, func(o *quick) bool { return o == q })
	e.disarm(q)
	delete(e.jobs, q.job)
	q.pair.Private.Wipe()
	c := e.conns[p.Conn]
	if c == nil {
		return
	}
	if q.Initiator && q.State != quickFinished {
		e.childFailed(c, q, r)
	}
	if ch := q.child; ch != nil && ch.OutState == saNone {
		if c.Static != "" && !q.Initiator && q.State == quickSent {
			e.withdraw(c, ch, reasonOr(r, ReasonNoChild)) // it is up for a peer whose message 3 was lost
			return
		}
		e.removeChild(c, ch)
		e.childGone(c, reasonOr(r, ReasonNoChild), false)
	}
}

// sameIDs tells whether the responder echoed our selectors. Leaving them out
// means to agree.
func sameIDs(ids []isakmp.Payload, local, remote []byte) bool {
	return len(ids) == 0 || len(ids) == 2 && bytes.Equal(ids[0].Body, local) && bytes.Equal(ids[1].Body, remote)
}
