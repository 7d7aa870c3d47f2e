package ike

import (
	"slices"

	"vrgate/controlplane/isakmp"
)

// The end of phase 1 SAs and of connections, with and without a word to the peer.

// dropPhase1 forgets an SA without telling the peer. reason says why it failed if
// it was not authenticated yet.
func (e *Engine) dropPhase1(p *phase1, reason Reason) {
	if e.sas[p.Cookies] != p && e.own[p.Cookies.I] != p {
		return // gone already
	}
	if p.session != nil {
		p.State = StateDeleted // nothing more is begun in it
	}
	for len(p.quicks) > 0 {
		e.dropQuick(p.quicks[0], ReasonExpired)
	}
	if n := p.neg; n != nil {
		e.settled(p, reason != "")
		e.forgetFirst(p)
		delete(e.jobs, n.Job)
		n.wipe()
		n.Keys.Wipe()
	}
	e.dropFragments(p)
	e.dropDialogue(p)
	e.disarm(p)
	delete(e.sas, p.Cookies)
	delete(e.own, p.Cookies.I)
	if p.session != nil {
		p.Keys.Wipe()
	}
	p.State = StateDeleted
	c := e.conns[p.Conn]
	if c == nil {
		return
	}
	c.Phase1 = slices.DeleteFunc(c.Phase1, func(o *phase1) bool { return o == p })
	if len(c.Phase1) > 0 {
		return
	}
	e.lapsed(c, p)
	if len(c.Children) == 0 {
		e.left(c, reasonOr(reason, ReasonNoChild), reason == ReasonPeerDelete)
		return
	}
	e.alone(c)
}

// forgetFirst takes p out of the table of first messages.
func (e *Engine) forgetFirst(p *phase1) {
	if k := (firstKey{p.neg.From, p.Cookies.I}); e.first[k] == p {
		delete(e.first, k)
	}
}

// wipe clears the secrets of a negotiation, but for the keys that an initiator
// has passed on.
func (n *negotiation) wipe() {
	n.Shared.Wipe()
	if n.attempt != nil {
		n.Pair.Private.Wipe()
	}
}

func reasonOr(r, or Reason) Reason {
	if r == "" {
		return or
	}
	return r
}

// deletePhase1 tells the peer that an authenticated SA is over and drops it.
func (e *Engine) deletePhase1(p *phase1) {
	if p.done() {
		e.sendInfo(p, isakmp.DeleteISAKMP(p.Cookies.I, p.Cookies.R).Payload())
	}
	e.dropPhase1(p, "")
}

// closeConn ends a connection: deletes are sent for all its SAs, then the SAs are
// removed.
func (e *Engine) closeConn(c *conn, r Reason, text string, byPeer bool) {
	if p := c.newest(); p != nil {
		var spis []uint32
		for _, ch := range c.Children {
			if ch.InState == saUp || ch.InState == saPending {
				spis = append(spis, ch.In.SPI)
			}
		}
		if len(spis) > 0 {
			e.sendInfo(p, isakmp.DeleteESP(spis...).Payload())
		}
	}
	for _, p := range slices.Clone(c.Phase1) {
		if p.done() {
			e.sendInfo(p, isakmp.DeleteISAKMP(p.Cookies.I, p.Cookies.R).Payload())
		}
	}
	e.endConn(c, r, text, byPeer)
}

// endConn removes everything of a connection without a word to the peer.
func (e *Engine) endConn(c *conn, r Reason, text string, byPeer bool) {
	if e.conns[c.Info.ID] != c {
		return
	}
	delete(e.conns, c.Info.ID) // first: what follows must not end it again
	e.proven(c, false)
	e.strike(c)
	e.disarm(c)
	for _, p := range slices.Clone(c.Phase1) {
		e.dropPhase1(p, "")
	}
	for _, p := range e.rekeying(c) {
		e.dropPhase1(p, "")
	}
	for _, ch := range slices.Clone(c.Children) {
		e.removeChild(c, ch)
	}
	c.Phase1 = nil
	e.count(r)
	if c.Announced || c.Initiator || c.Dyn != nil {
		info := c.Info
		if !c.Announced && c.Dyn == nil {
			info.ID = 0 // it has never been one to the outside
		}
		e.emit(ConnDown{Conn: info, Reason: r, Text: text, ByPeer: byPeer})
	} else {
		e.emit(Report{Level: LevelInfo, Reason: r, Text: "connection ended before it had an IPsec SA: " + string(r),
			Local: c.Info.Local, Remote: c.Info.Remote, Conn: c.Info.ID})
	}
}

// rekeying returns the half-open SAs that were started for c.
func (e *Engine) rekeying(c *conn) []*phase1 {
	if c.opening == nil {
		return nil
	}
	return []*phase1{c.opening}
}

// closeAll ends everything (process stop).
func (e *Engine) closeAll(r Reason) {
	for _, c := range e.sortedConns() {
		e.closeConn(c, r, "", false)
	}
	for _, p := range e.sortedPhase1() {
		if n := p.neg; n != nil && p.Initiator {
			e.failInitiate(p, r, "")
		} else {
			e.dropPhase1(p, "")
		}
	}
}

// childGone is called when a child has left its connection.
func (e *Engine) childGone(c *conn, r Reason, byPeer bool) {
	if e.conns[c.Info.ID] != c {
		return
	}
	e.staticGone(c, r, byPeer)
	if len(c.Children) > 0 {
		return
	}
	if c.newest() == nil && c.opening == nil {
		e.left(c, r, byPeer)
		return
	}
	if c.Info.Dynamic && c.Announced && !byPeer {
		return // racoon opens its next child when there is traffic
	}
	if c.Grace.IsZero() {
		c.Grace = e.now.Add(grace)
	}
	e.arm(c)
}
