package site

import "time"

// Pairs of networks. IKE opens all of them when it dials, and keeps up what is up. A pair that the peer has not asked for, has
// refused or has deleted is asked for again here while its connection goes on, for tunnels that we dial: a tunnel that is nailed up
// is so with all its networks (Z-6).

// mendAfter is the pause before pairs are asked for that a connection does not have, which the peer may be about to open.
const mendAfter = 15 * time.Second

// maxPairs bounds the pairs of a connection that are remembered.
const maxPairs = 64

func (e *Engine) pairUp(ev PairUp) {
	c := e.byConn[ev.Conn]
	if c == nil || c.tunnel == nil {
		return
	}
	e.touch(c.tunnel)
	delete(c.Lapsed, ev.Pair)
}

// pairDown notes why a pair is not there, and when it is asked for again: the first time soon, then after pauses that grow as those
// between dials do (D23).
func (e *Engine) pairDown(ev PairDown) {
	c := e.byConn[ev.Conn]
	if c == nil || c.tunnel == nil {
		return
	}
	t := c.tunnel
	e.touch(t)
	if _, known := c.Lapsed[ev.Pair]; !known && len(c.Lapsed) >= maxPairs {
		return
	}
	if c.Lapsed == nil {
		c.Lapsed = map[string]Failure{}
	}
	c.Lapsed[ev.Pair] = Failure{Reason: ev.Reason, Text: cut(ev.Text), Peer: c.Peer.String(), At: e.now}
	t.count(ev.Reason)
	if c != t.active || !t.cfg.dials() || !t.MendAt.IsZero() {
		return
	}
	pause := mendAfter
	if !t.Mended.IsZero() && e.now.Sub(t.Mended) < t.cfg.Stable {
		t.Mends = min(t.Mends+1, maxDoublings+1)
		pause = doubled(t.cfg.Backoff, t.Mends-1, t.cfg.BackoffMax)
		pause = e.between(pause, min(pause+pause/4, t.cfg.BackoffMax))
	} else {
		t.Mends = 0
	}
	t.MendAt = e.now.Add(pause)
}

// beginMend begins anew for another connection, or stops.
func (e *Engine) beginMend(t *tunnel) {
	t.MendAt, t.Mended, t.Mends = time.Time{}, time.Time{}, 0
	if t.active != nil && t.cfg.dials() {
		t.MendAt = e.now.Add(mendAfter)
	}
}

// mend asks for what is missing.
func (e *Engine) mend(t *tunnel) {
	t.MendAt = time.Time{}
	if t.active != nil && t.cfg.dials() {
		t.Mended = e.now
		e.emit(Complete{Tunnel: t.cfg.Name, Conn: t.active.ID})
	}
}
