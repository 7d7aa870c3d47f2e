package site

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/deadline"
)

// tunnel is one tunnel of the configuration.
type tunnel struct {
	place deadline.Place
	cfg   Tunnel
	life

	conns   []*conn  // that are up, oldest first
	active  *conn    // the one that carries, nil if none is up
	try     *attempt // under way
	dial    *dial    // unanswered; outlives its attempt
	queued  bool     // stands in the queue
	touched bool
	told    Changed // last
	admit   Admit   // last
}

// life is what outlives a restart.
type life struct {
	Admin     bool   // down by an operator, or by its configuration
	AdminWhy  Reason // which of them
	Wanted    bool   // on-demand: there is something to carry, or an operator wants it
	InRound   bool   // a round has begun and the tunnel has not been stable since
	Round     []int  // peers that it has still to try
	Failures  int    // rounds that have failed since it was stable
	LastPeer  int    // that carried last
	Suspect   int    // peer that was dead
	Doubt     time.Time
	Bounces   int // times that the peer was lost soon after the tunnel had fallen back to it
	FellBack  time.Time
	RetryAt   time.Time // when the pause is over
	StableAt  time.Time // when it will have been up for long enough
	FallAt    time.Time // when the peers before this one are tried
	MendAt    time.Time // when pairs of networks that are not there are asked for
	Mended    time.Time // when they were
	Mends     int       // times that was in vain
	UpSince   time.Time
	State     State     // as last reported
	Since     time.Time // of the state
	Failure   Failure   // last
	Check     checkState
	Flow      flow
	Attempts  uint64 // dials
	Ups       uint64 // times that the tunnel came up
	FallOvers uint64 // times that a later peer took over
	FallBacks uint64 // times that an earlier one did
	Moves     uint64 // times that its peer was at another address
	Counts    map[Reason]uint64
}

// Failure is why a tunnel was lost, or could not be had.
type Failure struct {
	Reason Reason
	Text   string
	Peer   string // address or name, if any
	At     time.Time
}

func newTunnel(cfg Tunnel, now time.Time) *tunnel {
	t := &tunnel{cfg: cfg, life: life{Since: now, Counts: map[Reason]uint64{}}}
	t.setDisabled()
	return t
}

// setDisabled makes the administrative state what the configuration says.
func (t *tunnel) setDisabled() {
	t.Admin, t.AdminWhy = t.cfg.Disabled, ""
	if t.Admin {
		t.AdminWhy = ReasonDisabled
	}
}

func (t *tunnel) Place() *deadline.Place { return &t.place }

func (t *tunnel) deadline() time.Time {
	at := deadline.Earliest(t.RetryAt, t.StableAt, t.FallAt, t.MendAt, t.Check.deadline(), t.Flow.ReadAt)
	if t.dial != nil {
		at = deadline.Earliest(at, t.dial.until)
	}
	for _, c := range t.conns {
		at = deadline.Earliest(at, c.CarryAt, c.OverAt)
	}
	return at
}

func (t *tunnel) expire(e *Engine) {
	e.touch(t)
	if e.reached(t.StableAt) {
		t.StableAt, t.RetryAt = time.Time{}, time.Time{}
		t.Failures, t.InRound, t.Round = 0, false, nil
	}
	if e.reached(t.RetryAt) {
		t.RetryAt = time.Time{}
		e.drive(t)
	}
	if e.reached(t.FallAt) {
		e.tryEarlierPeers(t)
	}
	if e.reached(t.MendAt) {
		e.mend(t)
	}
	if t.dial != nil && e.reached(t.dial.until) {
		e.cancel(t, ReasonDialTimeout)
	}
	due := false
	for _, c := range t.conns {
		due = due || e.reached(c.OverAt)
		if e.reached(c.CarryAt) {
			c.CarryAt, due = time.Time{}, true
		}
	}
	if due {
		e.settle(t, "", nil)
	}
	e.checkDue(t)
	if e.reached(t.Flow.ReadAt) {
		e.readTraffic(t)
	}
}

// drive begins a round, or goes on with it, if the tunnel wants one and nothing forbids.
func (e *Engine) drive(t *tunnel) {
	e.touch(t)
	wanted := t.cfg.Start == NailedUp || t.Wanted
	if e.closed || t.Admin || !wanted || !t.cfg.dials() || t.active != nil || t.try != nil || t.dial != nil || !t.RetryAt.IsZero() {
		return
	}
	e.startRound(t)
}

// acquire dials an on-demand tunnel. During a pause it is remembered: the kernel asks again and again while it has traffic.
func (e *Engine) acquire(ev Acquire) {
	if t := e.tunnels[ev.Tunnel]; t != nil && t.cfg.Start == OnDemand && t.active == nil && !t.Admin {
		t.Wanted = true
		e.drive(t)
	}
}

// loss is how a tunnel was lost.
type loss uint8

const (
	lossFailed loss = iota
	lossDead        // its peer is not there
	lossQuiet       // nobody needs it, or somebody wants it so
)

// lost is called when the last connection of a tunnel has gone.
func (e *Engine) lost(t *tunnel, peer int, how loss) {
	e.touch(t)
	early := !t.StableAt.IsZero()
	t.StableAt, t.FallAt, t.UpSince = time.Time{}, time.Time{}, time.Time{}
	if how == lossDead {
		t.Suspect, t.Doubt = peer, e.now.Add(suspectFor)
	}
	t.bounced(e.now, how != lossQuiet)
	switch {
	case how == lossQuiet:
		t.RetryAt, t.Failures, t.InRound, t.Round = time.Time{}, 0, false, nil
	case t.try != nil: // it was looking for a better peer, and takes any now
		t.try.kind, t.InRound, t.Round = tryRound, true, slices.DeleteFunc(t.order(e.now), func(i int) bool { return i == t.try.peer })
		return
	case early && t.InRound && len(t.Round) == 0:
		e.roundFailed(t)
	}
	e.drive(t)
}

// bounced is called when a tunnel has lost its peer, to which it may have fallen back: that counts if it was not long ago.
func (t *tunnel) bounced(now time.Time, failed bool) {
	switch {
	case t.FellBack.IsZero():
		return
	case failed && now.Sub(t.FellBack) < t.cfg.Stable:
		t.Bounces = min(t.Bounces+1, maxDoublings)
	default:
		t.Bounces = 0
	}
	t.FellBack = time.Time{}
}

// fail notes why a tunnel was lost or could not be had.
func (e *Engine) fail(t *tunnel, r Reason, text, peer string) {
	t.Failure = Failure{Reason: r, Text: cut(text), Peer: peer, At: e.now}
	t.count(r)
}

// count is bounded whatever reasons come.
func (t *tunnel) count(r Reason) {
	if _, known := t.Counts[r]; !known && len(t.Counts) >= maxReasons {
		r = ReasonOther
	}
	t.Counts[r]++
}

// cut bounds text, some of which peers have written. A character that it would split goes.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }

// peerAt is the position in a list of the peer that has an address; len(peers) if none has.
func (e *Engine) peerAt(peers []Peer, addr netip.Addr) int {
	for i, p := range peers {
		if p.Addr == addr {
			return i
		}
		if n := e.names[p.Name]; !p.Addr.IsValid() && n != nil && slices.Contains(n.Addrs, addr) {
			return i
		}
	}
	return len(peers)
}
