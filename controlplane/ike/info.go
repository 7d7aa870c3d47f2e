package ike

import (
	"fmt"
	"slices"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// informational takes a notify or delete. Only what is encrypted, proven by its
// hash and not seen before changes anything; what comes in clear is counted.
func (e *Engine) informational(p *phase1, pk Packet, h isakmp.Header, body []byte) {
	if !h.Encrypted() {
		e.clearInfo(p, h, body)
		return
	}
	if p.session == nil {
		e.count(DropUnexpected)
		return
	}
	if p.done() && p.Info.Data != nil && digestOf(pk.Data) == p.Info.To && pk.Remote.Addr() == p.Remote.Addr() {
		e.count(CountRepeat)
		e.transmit(p, p.Info.Data)
		return
	}
	if h.MessageID == 0 || slices.Contains(p.SeenInfo, h.MessageID) {
		e.count(DropReplay)
		return
	}
	o, err := p.open(p.Keys, p.messageIV(h.MessageID), h, body)
	if err == nil {
		err = isakmp.Check(isakmp.Informational, isakmp.InfoStep(true), o.payloads, true)
	}
	if err != nil {
		e.count(DropUndecryptable)
		return
	}
	if !keymat.EqualProof(o.payloads[0].Body, p.Keys.HashInfo(h.MessageID, o.rest)) {
		e.count(DropBadHash)
		return
	}
	p.SeenInfo = remember(p.SeenInfo, h.MessageID, maxSeenInfo)
	e.heard(p)
	for _, x := range o.payloads[1:] {
		if e.sas[p.Cookies] != p {
			return // an earlier payload was its end
		}
		switch x.Type {
		case isakmp.TypeNotify:
			if !p.done() {
				continue
			}
			if n, err := x.Notify(); err == nil {
				e.notified(p, pk, n)
			} else {
				e.count(DropMalformed)
			}
		case isakmp.TypeDelete:
			if d, err := x.Delete(); err == nil {
				e.deleted(p, d)
			} else {
				e.count(DropMalformed)
			}
		}
	}
}

// clearInfo counts a message that anybody may have sent, and lets an operator
// who debugs a failing tunnel see what the peer complains about.
func (e *Engine) clearInfo(p *phase1, h isakmp.Header, body []byte) {
	e.count(DropClear)
	ps, err := isakmp.ParsePayloads(h.Next, body)
	if err != nil {
		return
	}
	for _, x := range isakmp.All(ps, isakmp.TypeNotify) {
		if n, err := x.Notify(); err == nil {
			if p.neg != nil && p.neg.attempt != nil && n.Type.IsError() {
				p.neg.Hint = n.Type
			}
			if n.Type.IsError() {
				e.gaveUp(p)
			}
			e.report(LevelDebug, ReasonPeerRefused, fmt.Sprintf("unauthenticated notify %v ignored in state %v", n.Type, p.State), p)
		}
	}
}

// notified takes an authenticated notify.
func (e *Engine) notified(p *phase1, pk Packet, n isakmp.Notify) {
	c := e.conns[p.Conn]
	switch n.Type {
	case isakmp.RUThere, isakmp.RUThereAck:
		e.dpdNotify(p, pk, n)
		return
	case isakmp.InitialContact:
		e.initialContact(p, c)
		return
	case isakmp.ResponderLifetime:
		e.lifetimeCut(p, c, n)
		return
	}
	e.count(CountNotify)
	if !n.Type.IsError() || c == nil {
		return
	}
	e.report(LevelInfo, ReasonPeerRefused, fmt.Sprintf("peer sends %v", n.Type), p)
	// RFC 2408 does not tie an error to a message; with one quick mode of ours
	// under way it can only mean that one.
	if n.Protocol == isakmp.ProtocolESP || n.Type == isakmp.NoProposalChosen || n.Type == isakmp.InvalidIDInformation {
		var open []*quick
		for _, q := range p.quicks {
			if q.Initiator && q.State == quickSent {
				open = append(open, q)
			}
		}
		if len(open) == 1 {
			open[0].why = open[0].refusal(n.Type)
			e.dropQuick(open[0], ReasonPeerRefused)
		}
	}
}

// initialContact takes the INITIAL-CONTACT that racoon sends after phase 1 rather
// than in message 5: the peer has nothing but this SA. It is believed only
// before the SA has been used, since afterwards what else there is is newer.
func (e *Engine) initialContact(p *phase1, c *conn) {
	if c != nil && c.Static != "" && len(c.Phase1) > 1 && c.Phase1[len(c.Phase1)-2].Up.After(p.Created) {
		return // both sides have dialled at once
	}
	if c == nil || len(p.SeenQuick) > 0 || p.Initiator || len(c.Phase1) < 2 && len(c.Children) == 0 {
		return
	}
	// The connection ends and p begins another one.
	c.Phase1 = slices.DeleteFunc(c.Phase1, func(o *phase1) bool { return o == p })
	e.endConn(c, ReasonInitialContact, "the peer has restarted", true) // which knows nothing we could delete
	p.Conn = 0
	is, _, text := e.kindOf(p)
	fresh := (*conn)(nil)
	if text == "" {
		fresh = e.newConn(p, is)
	}
	if fresh == nil {
		e.dropPhase1(p, "")
		return
	}
	fresh.OurID, fresh.Info.LocalID = c.OurID, c.Info.LocalID
	p.Conn, p.Replaced = fresh.Info.ID, time.Time{}
	e.adopt(fresh, p)
	if fresh.Dyn != nil {
		e.dropDialogue(p) // a STATUS=OK that has not been sent yet
		p.Status = statusNone
		e.welcome(fresh, p, false)
	}
	e.arm(p)
	e.arm(fresh)
}

// lifetimeCut honours a RESPONDER-LIFETIME for phase 1. The one for phase 2
// belongs into quick mode.
func (e *Engine) lifetimeCut(p *phase1, c *conn, n isakmp.Notify) {
	l, err := n.Lifetime()
	if err != nil || !p.Initiator || l.Seconds == 0 || c == nil {
		return
	}
	if n.Protocol != isakmp.ProtocolISAKMP {
		return
	}
	life := max(minLife, lifeOf(l.Seconds))
	if life >= p.Life {
		return
	}
	p.Life = life
	p.Expires = p.Up.Add(life)
	if !p.RekeyAt.IsZero() {
		p.RekeyAt = p.Up.Add(e.rekeyAfter(life, true))
	}
	e.arm(p)
}

// deleted takes an authenticated delete. It concerns the peer's own SAs only:
// those of the connection that p belongs to.
func (e *Engine) deleted(p *phase1, d isakmp.Delete) {
	c := e.conns[p.Conn]
	if c == nil {
		return
	}
	for _, spi := range d.SPIs {
		switch {
		case p.stranger() && string(spi) != string(p.spi()):
			e.count(DropUnexpected) // it may be anybody's, see speaker
		case d.Protocol == isakmp.ProtocolESP && len(spi) == 4:
			v, _ := spiOf(spi)
			i := slices.IndexFunc(c.Children, func(ch *child) bool { return ch.Out.SPI == v })
			if i < 0 {
				e.count(DropDuplicate) // Windows deletes twice
				continue
			}
			e.peerDeleted(c, c.Children[i])
		case d.Protocol == isakmp.ProtocolISAKMP && len(spi) == 16:
			for _, o := range slices.Clone(c.Phase1) {
				if string(o.spi()) == string(spi) && o.done() {
					e.phase1Deleted(c, o)
				}
			}
		}
		if e.conns[c.Info.ID] != c {
			return
		}
	}
}

// phase1Deleted is the peer's word that an ISAKMP SA is over. Most peers delete
// their ESP SAs first and this one last, in datagrams that may overtake each
// other: as long as there are ESP SAs (which may live on, Z-6) the SA stays
// readable for a moment, for the deletes that come late.
func (e *Engine) phase1Deleted(c *conn, p *phase1) {
	if len(c.Children) == 0 {
		e.dropPhase1(p, ReasonPeerDelete)
		return
	}
	p.State = StateDeleted
	for len(p.quicks) > 0 {
		e.dropQuick(p.quicks[0], ReasonPeerDelete)
	}
	if e.sas[p.Cookies] != p {
		return
	}
	p.RekeyAt, p.Replaced, p.DPD.next = time.Time{}, time.Time{}, time.Time{}
	p.Expires, p.Third = e.now.Add(lateInbound), time.Time{}
	e.arm(p)
}
