package ike

import (
	"net/netip"
	"time"
)

// Constants of the half-open guard.
const (
	// maxSources bounds the table of sources; further ones are subject to the
	// total limit only.
	maxSources = 65536
	// forgetFailures is how long a failed attempt counts against its source; the
	// number halves with every such period.
	forgetFailures = 60 * time.Second
	// evictAge is the least age of a half-open SA that may be evicted: a client
	// whose round trip is shorter gets through any flood that the total limit
	// divided by this age does not exceed.
	evictAge = 250 * time.Millisecond
	// maxEager bounds the answers of aggressive mode that are being computed, so
	// that forged first messages do not crowd out those whose peers have shown
	// that they exist: 256 are an eighth of a second of one core with MODP2048.
	maxEager = 256
	// repliesPerSource bounds clear-text error notifies per second and source.
	repliesPerSource = 10
	// turnKept is how long it is remembered that a source has another key than the
	// newest: long enough for a user to try again.
	turnKept = 10 * time.Minute
	// reportEvery and reportsPerSecond bound the sentences about failed
	// strangers that reach the log (targets.md row 13).
	reportEvery      = 10 * time.Second
	reportsPerSecond = 20
)

// source is what is remembered of one address that has half-open or recently
// failed attempts. Successes leave nothing: 500 good clients behind one NAT must
// all get in at once, so arrivals are not counted, only what is pending or failed.
type source struct {
	Pending  int
	Failed   int
	FailedAt time.Time // start of the current period
	Reported time.Time
	Replies  int
	ReplyAt  time.Time // start of the second counted
	Turn     int       // of keys that are rotated, see inTurn
	TurnAt   time.Time
}

// guard limits what strangers can make us hold, with hysteresis.
type guard struct {
	Sources    map[netip.Addr]*source
	HalfOpen   int
	Overloaded bool // refusing since Total, until below Resume
	Reports    int
	ReportAt   time.Time
	sweepAt    time.Time

	FragBytes int // held in reassembly, all peers together
	Eager     int // responders in StateAMSAR: what strangers have us compute without having shown anything

	oldest, newest *phase1 // FIFO of unverified responders
}

// sourceKey makes the addresses of one IPv6 customer one source.
func sourceKey(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// source returns the entry of an address, nil if there is none and the table is
// full.
func (g *guard) source(a netip.Addr) *source {
	k := sourceKey(a)
	s := g.Sources[k]
	if s == nil {
		if len(g.Sources) >= maxSources {
			return nil
		}
		s = &source{}
		g.Sources[k] = s
	}
	return s
}

// decay forgets old failures.
func (s *source) decay(now time.Time) {
	for s.Failed > 0 && now.Sub(s.FailedAt) >= forgetFailures {
		s.Failed /= 2
		s.FailedAt = s.FailedAt.Add(forgetFailures)
	}
}

// admit decides about a new half-open SA of the peer. The reason is empty if it
// may exist.
func (e *Engine) admit(peer netip.Addr) Reason {
	g, l := &e.guard, &e.cfg.HalfOpen
	if s := g.source(peer); s != nil {
		s.decay(e.now)
		if s.Pending+s.Failed >= l.PerSource {
			return DropHalfOpenSource
		}
	}
	switch {
	case g.HalfOpen >= l.Total:
		g.Overloaded = true
	case g.HalfOpen < l.Resume:
		g.Overloaded = false
	}
	if !g.Overloaded {
		return ""
	}
	// Under a flood of forged first messages the oldest half-open SA whose peer
	// has never answered makes room: it is most likely one of them.
	old := g.oldest
	if old == nil || e.now.Sub(old.Created) < evictAge {
		return DropHalfOpenTotal
	}
	e.count(DropEvicted)
	e.dropPhase1(old, "")
	return ""
}

// pending counts a new half-open SA in and queues it as unverified.
func (e *Engine) pending(p *phase1) {
	g, n := &e.guard, p.neg
	n.Counted = true
	g.HalfOpen++
	if s := g.source(n.From.Addr()); s != nil {
		s.Pending++
	}
	if n.older = g.newest; n.older != nil {
		n.older.neg.newer = p
	} else {
		g.oldest = p
	}
	g.newest = p
}

// verified takes the SA out of the queue of those that may be evicted.
func (e *Engine) verified(p *phase1) {
	g, n := &e.guard, p.neg
	if n.Verified || !n.Counted {
		return
	}
	n.Verified = true
	if n.older != nil {
		n.older.neg.newer = n.newer
	} else {
		g.oldest = n.newer
	}
	if n.newer != nil {
		n.newer.neg.older = n.older
	} else {
		g.newest = n.older
	}
	n.older, n.newer = nil, nil
}

// settled counts a half-open SA out. failed charges the source, which is done
// only to a source that has been seen to receive: anybody can forge the others.
func (e *Engine) settled(p *phase1, failed bool) {
	n := p.neg
	if n == nil || !n.Counted {
		return
	}
	failed = failed && n.Verified
	e.verified(p)
	n.Counted = false
	if p.State == StateAMSAR {
		e.guard.Eager--
	}
	e.guard.HalfOpen--
	s := e.guard.Sources[sourceKey(n.From.Addr())]
	if s == nil {
		return
	}
	s.Pending = max(0, s.Pending-1)
	if failed {
		e.failed(s)
	}
}

// failed charges one failure to a source.
func (e *Engine) failed(s *source) {
	s.decay(e.now)
	if s.Failed == 0 {
		s.FailedAt = e.now
	}
	s.Failed++
}

// mayReply tells whether one more clear-text error may go to the source.
func (e *Engine) mayReply(peer netip.Addr) bool {
	s := e.guard.source(peer)
	if s == nil {
		return false
	}
	if e.now.Sub(s.ReplyAt) >= time.Second {
		s.ReplyAt, s.Replies = e.now, 0
	}
	s.Replies++
	return s.Replies <= repliesPerSource
}

// mayReport tells whether a sentence about a failed stranger may reach the log.
func (e *Engine) mayReport(peer netip.Addr) bool {
	g := &e.guard
	s := g.source(peer)
	if s == nil || !s.Reported.IsZero() && e.now.Sub(s.Reported) < reportEvery {
		return false
	}
	if e.now.Sub(g.ReportAt) >= time.Second {
		g.ReportAt, g.Reports = e.now, 0
	}
	if g.Reports >= reportsPerSecond {
		return false
	}
	g.Reports++
	s.Reported = e.now
	return true
}

// sweep forgets sources of which nothing is left to remember. It runs with the
// engine's steps, at most once per forgetFailures.
func (e *Engine) sweep() {
	g := &e.guard
	if e.now.Before(g.sweepAt) {
		return
	}
	g.sweepAt = e.now.Add(forgetFailures)
	for k, s := range g.Sources {
		s.decay(e.now)
		if s.Pending == 0 && s.Failed == 0 && e.now.Sub(s.Reported) >= reportEvery && e.now.Sub(s.ReplyAt) >= time.Second &&
			(s.Turn == 0 || e.now.Sub(s.TurnAt) >= turnKept) {
			delete(g.Sources, k)
		}
	}
}
