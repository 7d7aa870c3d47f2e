package ike

import (
	"fmt"
	"slices"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/isakmp"
)

// installed is the kernel's word on an SA.
func (e *Engine) installed(ev SAInstalled) {
	c := e.conns[ev.Conn]
	if c == nil {
		return
	}
	for _, ch := range c.Children {
		switch {
		case ev.Dir == Inbound && ch.In.SPI == ev.SPI && ch.InState == saPending:
			e.inboundInstalled(c, ch, ev.Err)
			return
		case ev.Dir == Outbound && ch.Out.SPI == ev.SPI && ch.OutState == saPending:
			e.outboundInstalled(c, ch, ev.Err)
			return
		}
	}
}

// inboundInstalled lets the peer send: message 2, or 3 as initiator.
func (e *Engine) inboundInstalled(c *conn, ch *child, failure string) {
	var q *quick
	for _, p := range c.Phase1 {
		for _, x := range p.quicks {
			if x.child == ch {
				q = x
			}
		}
	}
	if failure != "" {
		ch.InState = saFailed
		e.count(ReasonInstall)
		e.emit(Report{Level: LevelWarn, Reason: ReasonInstall, Text: "inbound SA refused: " + failure, Local: c.Info.Local, Remote: c.Info.Remote, Conn: c.Info.ID})
		if q != nil {
			e.refuseQuick(q.p, q, isakmp.NoProposalChosen)
			e.dropQuick(q, ReasonInstall)
		}
		return
	}
	ch.InState = saUp
	switch {
	case q == nil:
		e.removeChild(c, ch)
		e.childGone(c, ReasonExpired, false)
	case q.Initiator:
		e.sendQuick3(q)
	default:
		e.sendQuick2(q)
	}
}

// outboundInstalled completes a child.
func (e *Engine) outboundInstalled(c *conn, ch *child, failure string) {
	if failure != "" {
		ch.OutState = saFailed
		e.count(ReasonInstall)
		e.emit(Report{Level: LevelWarn, Reason: ReasonInstall, Text: "outbound SA refused: " + failure, Local: c.Info.Local, Remote: c.Info.Remote, Conn: c.Info.ID})
		e.rekeyLater(c, ch)
		e.withdraw(c, ch, ReasonInstall)
		switch {
		case e.conns[c.Info.ID] != c:
		case c.Static != "" && slices.Contains(c.Wanted, ch.Name):
			e.staticFailed(c, ch.Name, nil, ReasonInstall, failure)
		case !c.Initiator:
		case !c.Announced:
			e.closeConn(c, ReasonInstall, failure, false)
		}
		return
	}
	ch.OutState, ch.Ready = saUp, e.now
	e.count(CountChildUp)
	if weakESP(ch.Proposal) {
		e.count(CountWeak)
	}
	if c.Dyn == nil || c.Dyn.Stage == stageIn {
		c.Grace = time.Time{} // else that of the decision
	}
	c.Retry = time.Time{}
	e.retire(c, ch)
	e.arm(ch)
	i := &c.Info
	cur := c.current()
	if cur != nil {
		// A peer may encapsulate without need, by moving to the NAT-T port.
		i.Profile, i.ESP, i.Encap = cur.Profile, espWords(cur.Proposal, cur.PFS), cur.In.Encap
	}
	if !c.Announced {
		c.Announced = true
		e.count(CountConnUp)
		e.emit(ConnUp{Conn: *i})
	} else if c.Static == "" || slices.Contains(c.Shown, ch.Name) {
		c.Info.Rekeys++
		e.count(CountChildRekey)
		e.emit(Report{Level: LevelDebug, Reason: CountChildRekey, Text: fmt.Sprintf("IPsec SA replaced: inbound %#08x, outbound %#08x", ch.In.SPI, ch.Out.SPI),
			Local: i.Local, Remote: i.Remote, Conn: i.ID})
	}
	if c.Static != "" {
		e.staticUp(c, ch)
	}
	e.arm(c)
}

// retire marks the children that ch replaces: those with the same selectors, of
// which the peer or, after the overlap, we delete the SAs. When both sides have
// rekeyed at once they may take different ones of the two new children for the
// newest. The initiator of the connection then prunes first, and the responder
// finds that what was to replace its other child has gone, and keeps that.
func (e *Engine) retire(c *conn, ch *child) {
	for _, o := range slices.Clone(c.Children) {
		switch {
		case o == ch || !o.sameSelectors(ch) || o.InState != saUp || o.OutState == saNone || o.OutState == saPending:
		case o.Deleted:
			e.dropOutbound(o)
			o.Replaced = e.now.Add(lateInbound)
			e.arm(o)
		case o.Replaced.IsZero():
			o.Replaced = e.now.Add(c.overlap())
			e.arm(o)
		}
	}
}

// lastReady returns the rival of like, itself included, that came up last and
// still works, replaced or not.
func (c *conn) lastReady(like *child) *child {
	var last *child
	for _, ch := range c.Children {
		if ch.ready() && ch.rivals(like) && (last == nil || !ch.Ready.Before(last.Ready)) {
			last = ch
		}
	}
	return last
}

// sameSelectors tells whether two children have the same selectors. Those of
// tunnels may be named differently: an address is a subnet too.
func (c *child) sameSelectors(o *child) bool {
	if c.Name != "" || o.Name != "" {
		return c.Name == o.Name
	}
	if c.In.Tunnel {
		return o.In.Tunnel && c.In.LocalNet == o.In.LocalNet && c.In.RemoteNet == o.In.RemoteNet
	}
	return string(c.LocalID) == string(o.LocalID) && string(c.RemoteID) == string(o.RemoteID)
}

// deadline of a child.
func (c *child) deadline() time.Time {
	soft := c.Soft
	if c.Rekeying || !c.Replaced.IsZero() || c.Deleted {
		soft = time.Time{}
	}
	return deadline.Earliest(soft, c.Hard, c.Replaced, c.Switch)
}

func (ch *child) expire(e *Engine) {
	c := e.conns[ch.Conn]
	switch {
	case c == nil:
	case deadline.Reached(e.now, ch.Hard):
		e.deleteChild(c, ch)
	case deadline.Reached(e.now, ch.Replaced):
		if c.currentLike(ch) == nil && c.lastReady(ch) == ch {
			// What was to replace it has gone before it. If that was ours, we try again.
			ch.Replaced = time.Time{}
			if ch.Rekeying {
				e.later(ch)
			}
			e.arm(ch)
			return
		}
		e.prune(c, ch)
	case deadline.Reached(e.now, ch.Switch):
		e.installOut(ch)
		e.arm(ch)
	case deadline.Reached(e.now, ch.Soft):
		e.rekeyChild(c, ch)
	}
}

// saExpired is the kernel's soft or hard expiry, by time or by volume.
func (e *Engine) saExpired(ev SAExpired) {
	ch := e.childBySPI(ev.SPI, ev.Dir)
	if ch == nil {
		return
	}
	c := e.conns[ch.Conn]
	switch {
	case c == nil:
	case ev.Hard:
		e.deleteChild(c, ch)
	case ch.ready() && ch.Replaced.IsZero():
		e.rekeyChild(c, ch)
	}
}

// childBySPI finds a child by one of its SPIs. Outbound ones are chosen by peers
// and may in theory be equal at two peers: of those the newest is found, and what
// the other one misses its own timers make up for.
func (e *Engine) childBySPI(spi uint32, dir Direction) *child {
	if dir == Inbound {
		return e.spis[spi]
	}
	return e.outs[spi]
}

// rekeyLater has what a child was to replace that has not come up rekeyed after a while.
func (e *Engine) rekeyLater(c *conn, failed *child) {
	for _, o := range c.Children {
		if o != failed && o.Rekeying && o.rivals(failed) {
			e.later(o)
		}
	}
}

// rekeyChild starts to replace a child, once.
func (e *Engine) rekeyChild(c *conn, ch *child) {
	if ch.Rekeying || !ch.Replaced.IsZero() || ch.Deleted {
		return
	}
	ch.Rekeying = true
	e.arm(ch)
	e.openChild(c, ch)
}

// deleteChild tells the peer that a pair of SAs is over and removes it.
func (e *Engine) deleteChild(c *conn, ch *child) {
	if !ch.Deleted && ch.InState != saNone {
		e.tellDeleted(c, ch)
	}
	e.removeChild(c, ch)
	e.childGone(c, ReasonExpired, false)
}

// prune takes a replaced child away in two steps: the peer is told and we send
// under it no more, and a little later, when what the peer had sent by then has
// arrived, the rest goes. It is told a second time then, since nothing confirms a
// delete and a peer that misses it would send into the void. The peer of a static tunnel
// may have begun a rekey at the same moment and take this child for the newest: it is told
// more often, and heard until then.
func (e *Engine) prune(c *conn, ch *child) {
	if ch.Deleted {
		if ch.Pruned > 0 {
			e.tellDeleted(c, ch)
			ch.Pruned++
		}
		if c.Static == "" || ch.Pruned == 0 || ch.Pruned >= staticDeletes {
			e.removeChild(c, ch)
			e.childGone(c, ReasonExpired, false)
			return
		}
		ch.Replaced = e.now.Add(lateInbound)
		e.arm(ch)
		return
	}
	e.tellDeleted(c, ch)
	ch.Deleted, ch.Pruned = true, 1
	e.dropOutbound(ch)
	ch.Replaced = e.now.Add(lateInbound)
	e.arm(ch)
}

// withdraw takes a child away that we could not complete and that may be up for the peer. Nothing confirms a delete, and if
// the peer misses it, it sends into the void until the SA ends by itself: that of a static tunnel, which asks for nothing as long
// as it believes that it has the pair, is told as often as of one that was replaced, and heard until then.
func (e *Engine) withdraw(c *conn, ch *child, r Reason) {
	if c.Static != "" && ch.InState == saUp && !ch.Deleted && c.newest() != nil {
		e.prune(c, ch)
	} else {
		if !ch.Deleted {
			e.tellDeleted(c, ch)
		}
		e.removeChild(c, ch)
	}
	e.childGone(c, r, false)
}

// tellDeleted sends a delete for the inbound SA of a child.
func (e *Engine) tellDeleted(c *conn, ch *child) {
	if p := c.newest(); p != nil {
		e.sendInfo(p, isakmp.DeleteESP(ch.In.SPI).Payload())
	}
}

// dropOutbound removes the outbound SA alone.
func (e *Engine) dropOutbound(ch *child) {
	ch.Switch = time.Time{}
	if e.outs[ch.Out.SPI] == ch {
		delete(e.outs, ch.Out.SPI)
	}
	if ch.OutState == saNone {
		return
	}
	if ch.OutState != saFailed {
		e.emit(RemoveSA{Conn: ch.Conn, Dir: Outbound, SPI: ch.Out.SPI, Local: ch.Out.Local.Addr(), Remote: ch.Out.Remote.Addr()})
	}
	ch.OutState = saNone
}

// removeChild removes both SAs from the kernel, outbound first so that nothing is
// sent that nobody answers.
func (e *Engine) removeChild(c *conn, ch *child) {
	c.Children = slices.DeleteFunc(c.Children, func(o *child) bool { return o == ch })
	e.disarm(ch)
	e.dropOutbound(ch)
	if ch.InState == saUp || ch.InState == saPending {
		e.emit(RemoveSA{Conn: ch.Conn, Dir: Inbound, SPI: ch.In.SPI, Local: ch.In.Local.Addr(), Remote: ch.In.Remote.Addr()})
	}
	ch.InState = saNone
	if e.spis[ch.In.SPI] == ch {
		delete(e.spis, ch.In.SPI)
	}
	for _, s := range []interface{ Wipe() }{ch.In.EncKey, ch.In.AuthKey, ch.Out.EncKey, ch.Out.AuthKey} {
		s.Wipe()
	}
}

// peerDeleted is the peer's word that it no longer has the SA to which we send.
// Windows and others delete the old pair the moment a rekey is done: our outbound
// SA goes when the new one is installed, the inbound one a little later, as
// packets under it may still be on their way.
func (e *Engine) peerDeleted(c *conn, ch *child) {
	if ch.Deleted {
		e.count(DropDuplicate)
		return
	}
	if !ch.ready() { // the peer could not install it
		e.rekeyLater(c, ch)
	}
	ch.Deleted = true
	for _, o := range c.Children {
		if o != ch && !o.Switch.IsZero() && o.rivals(ch) {
			e.installOut(o) // the peer has switched
		}
	}
	var next *child
	for _, o := range c.Children {
		if o != ch && !o.Deleted && o.rivals(ch) && (o.OutState == saUp || o.OutState == saPending) {
			next = o
		}
	}
	switch {
	case next == nil:
		e.removeChild(c, ch)
		e.childGone(c, ReasonPeerDelete, true)
	case next.OutState == saUp:
		e.dropOutbound(ch)
		ch.Replaced = e.now.Add(lateInbound)
		e.arm(ch)
	default:
		e.arm(ch) // retire does the rest
	}
}
