package ike

import "time"

// What one side of a static tunnel has and the other has not: deletes are told once and may be lost, both sides may replace phase 1
// at the same moment, and a peer that has restarted does not always say so. IKEv1 cannot ask what the other has, so that what is in
// doubt is replaced, which interrupts nothing where it was there.

const (
	lapseWait    = 10 * time.Second // before the side that has dialled makes a phase 1 SA anew that has gone before its IPsec SAs
	responderLag = 3                // times as long the other side waits
	maxLapses    = 8                // times that the wait is doubled
	crossing     = 5 * time.Second  // within which phase 1 SAs come up that the two sides have begun at once
	doubtWait    = lateInbound      // before a peer is asked whether it still has an SA, which it may be about to delete
	doubtTries   = 3                // R-U-THEREs that it leaves unanswered when it has not: 14 s with the default of Retransmit
)

// keeps tells which of two phase 1 SAs serves from now on when both sides have begun one before the other's was up: o, which came up
// first here, or p, which may have done so there. Both sides have to say the same, or each takes away what the other has kept: it is
// the one that was begun by the side that prunes first. Other implementations take what comes up last, and we do with them.
func (c *conn) keeps(o, p *phase1) bool {
	if c.Static == "" || c.Dyn != nil || p.Vendor.Name != "" || o.Initiator == p.Initiator || o.Initiator != c.first() {
		return false
	}
	// One side may have had the first before message 1 of the second, and the other not; nobody begins one when he has just got one.
	return c.crossed(p) || p.Up.Sub(o.Up) < crossing
}

// needless gives up what we have begun to replace the phase 1 SA of a static tunnel when the peer's has come up and ours has not been
// answered yet.
func (e *Engine) needless(c *conn) {
	o := c.opening
	if o == nil || c.Static == "" || o.State != StateStartI && o.State != StateMMSAI && o.State != StateAMSAI {
		return
	}
	c.opening = nil
	e.dropPhase1(o, "")
}

// lapsed is called when the last phase 1 SA of a connection has gone. IPsec SAs of a static tunnel live on (Z-6), but nobody could be
// told that they end, and it is in doubt whether the peer still has them: the delete may have been the last of many that were lost.
// So they are replaced soon, in a phase 1 SA that is made for it if the peer has not made one by then; libreswan does the same.
func (e *Engine) lapsed(c *conn, p *phase1) {
	if c.Static == "" || c.Dyn != nil {
		return
	}
	if e.now.Sub(p.Up) >= p.Life/2 {
		c.Lapses = 0
	}
	wait := lapseWait << c.Lapses
	if !c.Initiator {
		wait *= responderLag
	}
	c.Lapses = min(c.Lapses+1, maxLapses)
	e.renew(c, e.now, e.now.Add(wait), false)
}

// renew has children that were made before a time replaced at another, unless they are sooner anyway. lost: the peer does not have
// them any more.
func (e *Engine) renew(c *conn, made, at time.Time, lost bool) {
	for _, ch := range c.Children {
		if !ch.ready() || !ch.Replaced.IsZero() || !ch.Since.Before(made) {
			continue
		}
		ch.Lost = lost
		if ch.Soft.IsZero() || ch.Soft.After(at) {
			ch.Soft = at
		}
		e.arm(ch)
	}
}

// doubt is called when the peer of a static tunnel has made p although o, the phase 1 SA before it, was not due to be replaced. A peer
// that has restarted without INITIAL-CONTACT does so, and knows none of the IPsec SAs that were made before. It is asked
// whether it still has o, if that can be asked and it does not delete it meanwhile.
func (e *Engine) doubt(c *conn, o, p *phase1) {
	if o == nil || c.Static == "" || p.Initiator || !o.Up.Before(p.Created) || !c.probed() || e.watched(c).patience() <= 0 || !o.Vendor.DPD ||
		!e.now.Before(o.Up.Add(o.Life/2)) {
		return
	}
	o.Doubted, o.DPD.Tries, o.DPD.next = e.now, 0, e.now.Add(doubtWait)
	e.arm(o)
}

// question asks the peer whether it still has p. When it says nothing, what was made before it opened another phase 1 SA is replaced.
func (e *Engine) question(c *conn, p *phase1) {
	if p.DPD.Tries < doubtTries {
		e.sendProbe(p)
		return
	}
	since := p.Doubted
	p.Doubted, p.DPD.next = time.Time{}, time.Time{}
	e.report(LevelInfo, ReasonPeerDead, "the peer has opened phase 1 anew and does not know the SA before any more: its IPsec SAs are replaced", p)
	e.renew(c, since, e.now, true)
}
