package ike

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// phase2 returns what the named profile says about quick mode, nil if there is
// none of that name.
func (c *Config) phase2(name string) *TransportProfile {
	if t := c.tunnelByName(name); t != nil {
		return t.phase2()
	}
	return c.transportByName(name)
}

// openChild starts a quick mode as initiator: one that replaces old, or the first
// of a connection that we opened, or the next that is missing of a static tunnel. Without a phase 1 SA one is made first.
func (e *Engine) openChild(c *conn, old *child) {
	var fresh *StaticChild
	if old == nil && c.Static != "" {
		if fresh = e.missing(c); fresh == nil {
			return
		}
	}
	p := c.speaker()
	if p == nil {
		if c.Dyn != nil {
			// The subscriber has to come (J3): see rekeyNow.
			e.later(old)
			return
		}
		c.WantChild = true
		if old != nil {
			old.Rekeying = true
			e.arm(old)
		}
		if c.opening == nil && e.reopen(c) == nil {
			c.Retry = e.now.Add(rekeyRetry)
			e.arm(c)
		}
		return
	}
	if old == nil && c.Static == "" && (!c.Initiator || c.latest() != nil) {
		return // there is nothing to open
	}
	if e.awaits(c, p) {
		return
	}
	if slices.ContainsFunc(p.quicks, func(q *quick) bool { return q.Initiator && q.State != quickFinished && q.old == old }) {
		return
	}
	if len(p.quicks) >= maxQuicks {
		e.later(old)
		return
	}
	q := &quick{ID: e.newMessageID(p), Initiator: true, State: quickDH, p: p, Ni: e.rand(nonceLen)}
	if old != nil {
		q.old = old
		q.profile = e.cfg.phase2(old.Profile)
		if c.Static != "" {
			q.profile = nil
			if t := e.cfg.static(c.Static); t != nil && t.child(old.Name) != nil {
				q.profile = t.phase2()
			}
			q.name, q.sel = old.Name, selector{old.In.LocalNet, old.In.RemoteNet, old.In.Protocol, old.In.LocalPort, old.In.RemotePort}
		}
		q.lid, q.rid, q.pfs = old.LocalID, old.RemoteID, old.PFS
		q.tunnel, q.local, q.remote = old.In.Tunnel, old.In.LocalNet, old.In.RemoteNet
		old.Rekeying = true
		if t := e.cfg.tunnelByName(old.Profile); c.Dyn != nil && c.Static == "" && t != nil && c.subscriberNets(t, q.remote, q.local) != "" {
			// The subscriber was given something else since, or the profile has changed. It would be refused
			// itself, and so the child is not prolonged by us.
			e.childFailed(c, q, ReasonSelectors)
			return
		}
	} else if fresh != nil {
		e.firstOf(c, q, fresh)
	} else {
		e.firstChild(c, q)
	}
	if q.profile == nil {
		e.childFailed(c, q, ReasonConfig)
		return
	}
	q.spiIn = e.newSPI()
	p.quicks = append(p.quicks, q)
	if q.pfs == 0 {
		e.sendQuick1(q)
		return
	}
	q.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	q.job = e.newJob(jobRef{p: p, q: q})
	e.emit(ComputeDH{Job: q.job, Group: q.pfs})
	e.arm(q)
}

// firstChild fills in the first quick mode of a connection that we opened.
func (e *Engine) firstChild(c *conn, q *quick) {
	q.profile = e.cfg.phase2(c.Open.Profile)
	if q.profile == nil {
		return
	}
	q.pfs = q.profile.PFS
	if !c.Open.Tunnel {
		q.lid = isakmp.AddrID(q.p.Local.Addr(), udp, c.Open.LocalPort).Payload().Body
		q.rid = isakmp.AddrID(q.p.Remote.Addr(), udp, c.Open.RemotePort).Payload().Body
		return
	}
	local, remote, ok := c.clientNets()
	if !ok {
		q.profile = nil
		return
	}
	q.tunnel, q.local, q.remote = true, local, remote
	q.lid, q.rid = netID(local), netID(remote)
}

// later tries again after a while to replace a child.
func (e *Engine) later(old *child) {
	if old == nil {
		return
	}
	old.Rekeying, old.Soft = false, e.now.Add(rekeyRetry)
	e.arm(old)
}

// openWanted starts the quick modes that had to wait for a phase 1 SA.
func (e *Engine) openWanted(c *conn) {
	if c.latest() == nil {
		e.openChild(c, nil)
		return
	}
	e.openChild(c, nil) // what is missing of a static tunnel
	for _, ch := range slices.Clone(c.Children) {
		if ch.ready() && ch.Replaced.IsZero() && (ch.Rekeying || deadline.Reached(e.now, ch.Soft)) {
			e.openChild(c, ch)
		}
	}
}

// latest is the newest child that has not been given up.
func (c *conn) latest() *child {
	if ch := c.current(); ch != nil {
		return ch
	}
	for i := len(c.Children) - 1; i >= 0; i-- {
		if !c.Children[i].Deleted {
			return c.Children[i]
		}
	}
	return nil
}

// sendQuick1 sends our offer: of a rekey what the old child has, so that nothing
// changes under the traffic, else all that the profile allows.
func (e *Engine) sendQuick1(q *quick) {
	p := q.p
	props := q.profile.ESP
	life := isakmp.Life{Seconds: uint64(defaultChildLife / time.Second), Kilobytes: q.profile.LifeKB}
	if q.profile.Lifetime > 0 {
		life.Seconds = uint64(q.profile.Lifetime / time.Second)
	}
	if q.old != nil {
		props = []ESPProposal{q.old.Proposal}
		// The peer may have wanted less than we do. Not every one says so when it is asked for more (strongSwan does not): it
		// drops the SA when its own time is over, and traffic is lost.
		life.Seconds = smaller(life.Seconds, uint64(q.old.Hard.Sub(q.old.Since)/time.Second))
		life.Kilobytes = smaller(life.Kilobytes, q.old.In.HardKB)
	}
	pr := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtocolESP, SPI: binary.BigEndian.AppendUint32(nil, q.spiIn)}
	for i, x := range props {
		if i == maxOffered {
			break
		}
		t := isakmp.ESPTransform{Number: uint8(i + 1), ID: isakmp.ESPTransformID(x.Cipher), KeyBits: uint16(x.KeyBits),
			Auth: isakmp.ESPAuth(x.Auth), Mode: p.mode(q.tunnel), Group: isakmp.GroupID(q.pfs), Life: life}
		q.offer = append(q.offer, t)
		pr.Transforms = append(pr.Transforms, t.Transform())
	}
	sa := isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{pr}}
	ps := []isakmp.Payload{sa.Payload(), {Type: isakmp.TypeNonce, Body: q.Ni}}
	if q.pfs != 0 {
		ps = append(ps, isakmp.Payload{Type: isakmp.TypeKE, Body: q.pair.Public})
	}
	if q.lid != nil {
		ps = append(ps, isakmp.Payload{Type: isakmp.TypeID, Body: q.lid}, isakmp.Payload{Type: isakmp.TypeID, Body: q.rid})
	}
	if !q.tunnel {
		ps = append(ps, q.natOAs()...) // RFC 3947 section 5.2
	}
	full := hashed(func(rest []byte) []byte { return p.Keys.HashQuick1(q.ID, rest) }, ps...)
	data, next := p.seal(p.Keys, isakmp.QuickMode, q.ID, p.messageIV(q.ID), full)
	q.IV, q.State, q.Last.Data, q.Expires = next, quickSent, data, time.Time{}
	q.Tries, q.Next = 1, e.now.Add(e.cfg.Retransmit.retryAfter(1))
	e.transmit(p, data)
	e.arm(q)
}

// quickMode2 takes the responder's choice.
func (e *Engine) quickMode2(q *quick, pk Packet, o opened, d digest) {
	p := q.p
	if !keymat.EqualProof(o.payloads[0].Body, p.Keys.HashQuick2(q.ID, q.Ni, o.rest)) {
		e.count(DropBadHash)
		return
	}
	e.heard(p)
	e.located(p, pk)
	if text := e.readChoice(q, o.payloads); text != "" {
		e.count(ReasonBadAnswer)
		e.report(LevelInfo, ReasonBadAnswer, "quick mode: "+text, p)
		q.why = text
		e.refuseQuick(p, q, isakmp.NoProposalChosen)
		e.dropQuick(q, ReasonBadAnswer)
		return
	}
	q.IV, q.Last, q.Next = o.next, answer{To: d}, time.Time{}
	q.Expires = e.now.Add(e.cfg.HalfOpen.Timeout)
	e.arm(q)
	if q.pfs != 0 {
		q.State = quickDH
		q.job = e.newJob(jobRef{p: p, q: q})
		e.emit(ComputeDH{Job: q.job, Group: q.pfs, Pair: &q.pair, Peer: q.ke})
		return
	}
	e.makeChild(q, nil)
}

// readChoice checks message 2 against our offer and fills q in. The text says
// what is wrong.
func (e *Engine) readChoice(q *quick, ps []isakmp.Payload) string {
	sa, err := ps[1].SA()
	if err != nil {
		return err.Error()
	}
	if len(sa.Proposals) != 1 || len(sa.Proposals[0].Transforms) != 1 || sa.Proposals[0].Protocol != isakmp.ProtocolESP {
		return "the answer is not one transform of ESP"
	}
	spi, ok := spiOf(sa.Proposals[0].SPI)
	if !ok {
		return "bad SPI"
	}
	got := sa.Proposals[0].Transforms[0].ESP()
	i := slices.IndexFunc(q.offer, func(t isakmp.ESPTransform) bool {
		return t.ID == got.ID && t.KeyBits == got.KeyBits && t.Auth == got.Auth && t.Mode == got.Mode && t.Group == got.Group
	})
	if i < 0 || len(got.Unknown) > 0 || got.ESN {
		return fmt.Sprintf("peer chooses %v, which was not offered", got)
	}
	nr, _ := isakmp.Find(ps, isakmp.TypeNonce)
	if !nonceOK(nr.Body) {
		return "bad nonce"
	}
	if ids := isakmp.All(ps, isakmp.TypeID); q.lid != nil && !sameIDs(ids, q.lid, q.rid) {
		return "peer changes the selectors"
	}
	ke, hasKE := isakmp.Find(ps, isakmp.TypeKE)
	if hasKE != (q.pfs != 0) {
		return "public value missing or surplus"
	}
	if hasKE {
		if err := q.pfs.CheckPublic(ke.Body); err != nil {
			return err.Error()
		}
		q.ke = clone(ke.Body)
	}
	q.Nr, q.spiOut, q.esp = clone(nr.Body), spi, got
	l := q.offer[i].Life
	if r, ok := responderLifetime(ps, isakmp.ProtocolESP); ok {
		l.Seconds = smaller(l.Seconds, r.Seconds)
		l.Kilobytes = smaller(l.Kilobytes, r.Kilobytes)
	}
	q.life = agreeLife(l, q.profile, espProposal(got))
	return ""
}

// smaller is the smaller of two limits of which 0 means none.
func smaller(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// sendQuick3 tells the responder that its packets are welcome. The message is
// kept, since the responder repeats message 2 if it is lost.
func (e *Engine) sendQuick3(q *quick) {
	p := q.p
	full := []isakmp.Payload{{Type: isakmp.TypeHash, Body: p.Keys.HashQuick3(q.ID, q.Ni, q.Nr)}}
	data, next := p.seal(p.Keys, isakmp.QuickMode, q.ID, q.IV, full)
	q.IV, q.State, q.Last.Data, q.Next = next, quickFinished, data, time.Time{}
	q.Expires = e.now.Add(answerKept)
	q.pair.Private.Wipe()
	e.transmit(p, data)
	ch, old := q.child, q.old
	q.child, q.old = nil, nil
	e.arm(q)
	if old == nil || !old.ready() || old.Lost || !old.Hard.After(e.now) {
		e.installOut(ch)
		return
	}
	// strongSwan installs its inbound SA when it has read message 3, and what we send
	// by it before that is lost. The old one is good for a moment longer.
	ch.Switch = e.now.Add(min(switchDelay, old.Hard.Sub(e.now)/2))
	e.outs[ch.Out.SPI] = ch
	e.arm(ch)
}

// childFailed is called when a quick mode of ours has not led to a child.
func (e *Engine) childFailed(c *conn, q *quick, r Reason) {
	if q.old != nil {
		e.count(r)
		q.old.Rekeying = false
		if q.old.Lost && q.p.done() && slices.Contains(c.Children, q.old) {
			e.tellDeleted(c, q.old)
			e.removeChild(c, q.old)
			e.childGone(c, ReasonPeerDead, false)
			return
		}
		if e.now.Before(q.old.Hard) && slices.Contains(c.Children, q.old) {
			e.later(q.old)
		}
		return
	}
	if c.Static != "" {
		if !q.p.done() {
			// The phase 1 SA has gone, and the peer has not refused anything.
			if c.newest() != nil || c.current() != nil {
				e.openChild(c, nil)
			}
			return
		}
		e.staticFailed(c, q.name, q.child, r, q.why)
		return
	}
	if c.Initiator && !c.Announced {
		e.closeConn(c, r, "", false)
	}
}

// rekeyNow serves the operator's or a test's wish. Phase 1 of a dynamic
// subscriber is never begun by us (J3): vpnc and the racoons of Apple and Android
// answer no first message, and whoever did would look for XAuth the other way
// round (65002). Their clients rekey by themselves; if one does not, its SA
// expires a grace period late.
func (e *Engine) rekeyNow(ev Rekey) {
	c := e.conns[ev.Conn]
	switch {
	case c == nil:
	case !ev.Phase1:
		e.openChild(c, c.latest())
	case c.opening == nil && c.Dyn == nil:
		e.reopen(c)
	}
}
