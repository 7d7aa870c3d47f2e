package site

import (
	"maps"
	"slices"
	"time"
)

// reconfigure takes a new configuration over. Tunnels that are gone or have another Revision end, those that have been
// disabled too, and connections to peers that are no longer in the list. All others stay as they are, whatever else has
// changed; that holds from now on.
func (e *Engine) reconfigure(cfg Config) {
	e.cfg = cfg.withDefaults()
	wanted := map[string]Tunnel{}
	for _, c := range e.cfg.Tunnels {
		wanted[c.Name] = c
	}
	for _, t := range e.sorted() {
		if _, ok := wanted[t.cfg.Name]; !ok {
			e.remove(t)
		}
	}
	before := map[*tunnel]Tunnel{}
	for _, c := range e.cfg.Tunnels {
		if t := e.tunnels[c.Name]; t != nil {
			before[t], t.cfg = t.cfg, c
			continue
		}
		t := newTunnel(c, e.now)
		e.tunnels[c.Name] = t
		for _, ref := range slices.Sorted(maps.Keys(e.dials)) { // of a tunnel of that name which was removed: one at a time
			if d := e.dials[ref]; d.tunnel == nil && d.name == c.Name {
				d.tunnel, t.dial = t, d
			}
		}
	}
	e.bindNames()
	for _, t := range e.sorted() {
		if old, ok := before[t]; ok {
			e.changed(t, old)
		}
		e.admission(t)
		e.settle(t, "", nil)
		e.drive(t)
	}
}

// remove ends a tunnel that is no longer configured. A dial under way has still to be answered.
func (e *Engine) remove(t *tunnel) {
	e.shut(t, ReasonRemoved, ReasonRemoved)
	if t.dial != nil {
		t.dial.tunnel = nil
	}
	delete(e.tunnels, t.cfg.Name)
}

// changed follows what is different in a tunnel's configuration, which is in force already.
func (e *Engine) changed(t *tunnel, old Tunnel) {
	e.touch(t)
	cfg := &t.cfg
	switch {
	case cfg.Revision != old.Revision:
		t.setDisabled()
		t.forgetPeers()
		e.hangUp(t, ReasonChanged)
		return
	case cfg.Disabled && !old.Disabled:
		e.shut(t, ReasonDisabled, ReasonDisabled)
	case cfg.Disabled != old.Disabled:
		t.setDisabled()
	}
	if !cfg.dials() && old.dials() {
		e.giveUp(t, ReasonChanged)
	}
	if !slices.Equal(cfg.Peers, old.Peers) {
		e.newPeers(t)
	}
	if cfg.Check != old.Check {
		e.beginCheck(t)
	}
	if cfg.Idle != old.Idle || cfg.NoReturn != old.NoReturn || cfg.Start != old.Start {
		e.beginFlow(t)
	}
	if cfg.dials() != old.dials() {
		e.beginMend(t)
	}
	if cfg.FallBack != old.FallBack {
		t.FallAt = time.Time{}
	}
	t.RetryAt = noLater(t.RetryAt, e.now.Add(cfg.BackoffMax))
	t.StableAt = noLater(t.StableAt, e.now.Add(cfg.Stable))
}

// forgetPeers forgets what is known of peers by their position in a list that is another one now.
func (t *tunnel) forgetPeers() {
	t.LastPeer, t.Suspect, t.Doubt, t.Bounces, t.FellBack, t.FallAt = 0, 0, time.Time{}, 0, time.Time{}, time.Time{}
}

// newPeers begins anew with another list, which may be the cure, and keeps the connections to peers that are still in it.
func (e *Engine) newPeers(t *tunnel) {
	t.forgetPeers()
	t.try, t.RetryAt, t.InRound, t.Round, t.Failures = nil, time.Time{}, false, nil, 0
	if t.dial != nil && !slices.Contains(t.cfg.Peers, t.dial.via) {
		e.cancel(t, ReasonPeerRemoved)
	}
	had := len(t.conns) > 0
	e.settleAt(t)
	if had && len(t.conns) == 0 {
		e.lost(t, 0, lossQuiet)
	}
}

// settleAt finds the positions of the connections in a new list and hangs up those that have none.
func (e *Engine) settleAt(t *tunnel) {
	gone := map[*conn]bool{}
	for _, c := range t.conns {
		gone[c] = e.removedFrom(c, t.cfg.Peers)
		e.rebind(c)
	}
	if t.active != nil && !gone[t.active] {
		t.LastPeer = t.active.peer
	}
	e.settleBy(t, ReasonPeerRemoved, func(c *conn) bool { return gone[c] }, true)
}

// rebind finds the position of a connection in another list: that of its entry, or of one that has its address.
func (e *Engine) rebind(c *conn) {
	if i := slices.Index(c.tunnel.cfg.Peers, c.Via); i >= 0 {
		c.peer = i
		return
	}
	e.place(c)
}

// removedFrom tells whether a connection's peer is not in a list.
func (e *Engine) removedFrom(c *conn, peers []Peer) bool {
	return len(peers) > 0 && !slices.Contains(peers, c.Via) && e.peerAt(peers, c.Peer) == len(peers)
}

// Ending is a connection that a reload would end.
type Ending struct {
	Tunnel string
	Conn   uint32
	Reason Reason
}

// Ending tells which connections [Reconfigure] with this configuration would hang up, by tunnel and age: also those of tunnels that
// stay up with another. It changes nothing.
func (e *Engine) Ending(cfg Config) []Ending {
	wanted := map[string]Tunnel{}
	for _, c := range cfg.withDefaults().Tunnels {
		wanted[c.Name] = c
	}
	var out []Ending
	for _, t := range e.sorted() {
		next, ok := wanted[t.cfg.Name]
		var whole Reason
		switch {
		case !ok:
			whole = ReasonRemoved
		case next.Revision != t.cfg.Revision:
			whole = ReasonChanged
		case next.Disabled && !t.cfg.Disabled:
			whole = ReasonDisabled
		case slices.Equal(next.Peers, t.cfg.Peers):
			continue
		}
		for c, why := range e.endingAt(t, next.Peers) {
			if whole != "" {
				why = whole
			}
			if why != "" {
				out = append(out, Ending{Tunnel: t.cfg.Name, Conn: t.conns[c].ID, Reason: why})
			}
		}
	}
	return out
}

// endingAt says of each connection of a tunnel why it would be hung up with another list of peers; see settle. Empty: it would
// not be.
func (e *Engine) endingAt(t *tunnel, peers []Peer) []Reason {
	out, at := make([]Reason, len(t.conns)), make([]int, len(t.conns))
	best := -1
	for i, c := range t.conns {
		if e.removedFrom(c, peers) {
			out[i] = ReasonPeerRemoved
			continue
		}
		if at[i] = slices.Index(peers, c.Via); at[i] < 0 {
			at[i] = e.peerAt(peers, c.Peer)
		}
		if best < 0 || at[i] <= at[best] {
			best = i
		}
	}
	for i, c := range t.conns {
		switch {
		case out[i] != "" || i == best:
		case len(peers) == 0:
			out[i] = ReasonReplaced
		case c.Ours && at[i] > at[best]:
			out[i] = ReasonFallBack
		case at[i] == at[best] && c.Peer != t.conns[best].Peer:
			out[i] = ReasonMoved
		}
	}
	return out
}

// closeAll hangs everything up.
func (e *Engine) closeAll(why Reason) {
	orDefault(&why, ReasonShutdown)
	e.closed = true
	for _, t := range e.sorted() {
		e.admission(t)
		e.hangUp(t, why)
	}
}

// noLater is at, or the limit if that is earlier; zero stays zero.
func noLater(at, limit time.Time) time.Time {
	if at.After(limit) {
		return limit
	}
	return at
}
