package site

import (
	"net/netip"
	"slices"
	"time"
)

// kind is what an attempt is for.
type kind uint8

const (
	tryRound   kind = iota // the tunnel is down
	tryEarlier             // it is on a backup, and the peers before that are tried
	tryMoved               // its peer's name has other addresses now
)

// stage is how far an attempt is.
type stage uint8

const (
	stageDialling stage = iota
	stageQueued
	stageResolving
)

// attempt tries peers one after the other, and the addresses of each.
type attempt struct {
	kind  kind
	stage stage
	order []int // peers still to be tried; a round has them in tunnel.Round
	peer  int   // tried now
	addrs []netip.Addr
}

// dial is a Dial that has not been answered.
type dial struct {
	ref     uint64
	name    string
	tunnel  *tunnel // nil: it has gone
	peer    netip.Addr
	via     Peer      // entry of the tunnel's list
	until   time.Time // when it has lasted too long; zero: it has been cancelled
	because Reason    // for which it was cancelled
}

// order lists all peers as a round tries them: in turn, beginning behind one that was dead lately.
func (t *tunnel) order(now time.Time) []int {
	first, n := 0, len(t.cfg.Peers)
	if now.Before(t.Doubt) {
		first = t.Suspect + 1
	}
	out := make([]int, n)
	for i := range out {
		out[i] = (first + i) % n
	}
	return out
}

// startRound begins a round, or goes on with one whose peer has not held, unless that was long ago: an on-demand tunnel
// may have rested since.
func (e *Engine) startRound(t *tunnel) {
	if !t.InRound || e.now.Sub(t.Failure.At) > t.cfg.Stable {
		t.InRound, t.Round = true, t.order(e.now)
	}
	t.try = &attempt{kind: tryRound}
	e.advance(t)
}

// tryEarlierPeers looks whether one of the peers before the present one can be had.
func (e *Engine) tryEarlierPeers(t *tunnel) {
	t.FallAt = e.now.Add(t.fallBack())
	if t.active == nil || t.try != nil || t.dial != nil || e.closed {
		return
	}
	t.try = &attempt{kind: tryEarlier}
	for i := range t.active.peer {
		t.try.order = append(t.try.order, i)
	}
	e.advance(t)
}

// fallBack is how long a tunnel stays on a backup before others are tried. It grows when the peer was lost each time
// soon after the tunnel had gone back to it, so that a primary which only seems to be well does not interrupt it again and again.
func (t *tunnel) fallBack() time.Duration {
	return doubled(t.cfg.FallBack, t.Bounces, max(t.cfg.FallBack, t.cfg.BackoffMax))
}

// doubled is d doubled n times, at most most.
func doubled(d time.Duration, n int, most time.Duration) time.Duration {
	for ; n > 0 && d < most; n-- {
		d *= 2
	}
	return min(d, most)
}

// advance takes the attempt to its next address. When there is none it is over.
func (e *Engine) advance(t *tunnel) {
	e.touch(t)
	a := t.try
	for {
		for len(a.addrs) > 0 {
			addr := a.addrs[0]
			if slices.ContainsFunc(t.conns, func(c *conn) bool { return c.Peer == addr }) {
				a.addrs = a.addrs[1:]
				continue
			}
			if a.stage = stageQueued; !t.queued {
				t.queued = true
				e.queue = append(e.queue, t)
			}
			return
		}
		left := &a.order
		if a.kind == tryRound {
			left = &t.Round
		}
		if len(*left) == 0 {
			e.exhausted(t)
			return
		}
		a.peer, *left = (*left)[0], (*left)[1:]
		p := t.cfg.Peers[a.peer]
		if p.Addr.IsValid() {
			a.addrs = []netip.Addr{p.Addr}
			continue
		}
		if n := e.names[p.Name]; n.pending || !e.now.Before(n.At.Add(freshName)) {
			a.stage = stageResolving
			e.resolve(n)
			return
		}
		e.named(t)
	}
}

// named takes the addresses of the peer that is tried from its name, old ones if the resolver has failed: they are better
// than none.
func (e *Engine) named(t *tunnel) {
	p := t.cfg.Peers[t.try.peer]
	n := e.names[p.Name]
	if t.try.addrs = slices.Clone(n.Addrs); len(t.try.addrs) == 0 {
		e.fail(t, n.Reason, n.Text, p.String())
	}
}

// pump dials for those whose turn it is.
func (e *Engine) pump() {
	for len(e.queue) > 0 && len(e.dials) < e.cfg.MaxDials {
		t := e.queue[0]
		e.queue[0] = nil
		e.queue = e.queue[1:]
		t.queued = false
		if e.tunnels[t.cfg.Name] == t && t.try != nil && t.try.stage == stageQueued {
			e.call(t)
		}
	}
	if len(e.queue) == 0 {
		e.queue = nil
	}
}

// call dials the attempt's next address.
func (e *Engine) call(t *tunnel) {
	e.touch(t)
	a := t.try
	d := &dial{ref: e.nextRef, name: t.cfg.Name, tunnel: t, peer: a.addrs[0], via: t.cfg.Peers[a.peer], until: e.now.Add(t.cfg.DialTimeout)}
	e.nextRef++
	a.stage, a.addrs = stageDialling, a.addrs[1:]
	t.dial, e.dials[d.ref] = d, d
	t.Attempts++
	e.emit(Dial{Ref: d.ref, Tunnel: t.cfg.Name, Peer: d.peer})
}

// cancel has the dial under way broken off. Its Down is waited for all the same.
func (e *Engine) cancel(t *tunnel, why Reason) {
	d := t.dial
	if d == nil || d.because != "" {
		return
	}
	e.touch(t)
	d.until, d.because = time.Time{}, why
	e.emit(HangUp{Tunnel: t.cfg.Name, Ref: d.ref, Reason: why})
}

// giveUp ends what a tunnel does to come up.
func (e *Engine) giveUp(t *tunnel, why Reason) {
	t.try, t.Wanted, t.RetryAt, t.InRound, t.Round, t.Failures = nil, false, time.Time{}, false, nil, 0
	e.cancel(t, why)
	e.touch(t)
}

// dialEnded takes a dial off the list. Its tunnel, if it still exists, is returned.
func (e *Engine) dialEnded(d *dial) *tunnel {
	delete(e.dials, d.ref)
	t := d.tunnel
	if t != nil {
		t.dial = nil
		e.touch(t)
	}
	return t
}

// dialFailed goes on with the next address.
func (e *Engine) dialFailed(d *dial, r Reason, text string) {
	t := e.dialEnded(d)
	if t == nil {
		return
	}
	if d.because != "" {
		r = d.because
	}
	if d.because == "" || d.because == ReasonDialTimeout {
		e.fail(t, r, text, d.peer.String())
	}
	if t.try != nil && t.try.stage == stageDialling {
		e.advance(t)
		return
	}
	e.drive(t)
}

// exhausted ends an attempt that has tried everything.
func (e *Engine) exhausted(t *tunnel) {
	k := t.try.kind
	t.try = nil
	if k == tryRound {
		e.roundFailed(t)
	}
}

// roundFailed begins the pause before the next round (D23).
func (e *Engine) roundFailed(t *tunnel) {
	t.Failures, t.InRound, t.Round, t.Wanted = min(t.Failures+1, maxDoublings+1), false, nil, false
	least, most := t.cfg.Backoff, t.cfg.BackoffMax
	lo := doubled(least, t.Failures-1, most)
	hi := min(lo+lo/4, most)
	if lo == most { // spread the longest too
		lo = max(least, most-most/5)
	}
	t.RetryAt = e.now.Add(e.between(lo, hi))
}
