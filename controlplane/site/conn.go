package site

import (
	"net/netip"
	"slices"
	"time"
)

// conn is a connection that is up.
type conn struct {
	ID     uint32
	Tunnel string
	Ours   bool // we have dialled
	Peer   netip.Addr
	Via    Peer // the entry of the list that it belongs to; zero where any peer may call
	Since  time.Time
	// Lapsed are the pairs of networks that were lost or could not be had, with what has become of them last.
	Lapsed map[string]Failure `json:",omitempty"`
	// CarryAt is when it may take the tunnel over from another one that is up; zero: at once.
	CarryAt time.Time `json:",omitzero"`
	// OverAt is when it is hung up because another one carries, and OverWhy the reason; zero: it stays.
	OverAt  time.Time `json:",omitzero"`
	OverWhy Reason    `json:",omitempty"`

	peer   int     // position of that entry
	tunnel *tunnel // nil after a restart with another configuration
}

// up takes a connection: the answer to a dial, or a call of the peer.
func (e *Engine) up(ev Up) {
	ev.Peer = ev.Peer.Unmap()
	d := e.dials[ev.Ref]
	if ev.Conn == 0 || e.byConn[ev.Conn] != nil {
		if d != nil && ev.Conn != 0 {
			e.superfluous(d)
		}
		return
	}
	if d != nil && (d.tunnel == nil || d.because != "") {
		e.emit(HangUp{Tunnel: d.name, Conn: ev.Conn, Reason: d.because})
		e.dialFailed(d, d.because, "it came up too late")
		return
	}
	t := e.tunnels[ev.Tunnel]
	c := &conn{ID: ev.Conn, Tunnel: ev.Tunnel, Ours: d != nil, Peer: ev.Peer, Since: e.now, tunnel: t}
	switch {
	case d != nil:
		t = e.dialEnded(d)
		c.tunnel, c.Tunnel, c.Via = t, d.name, d.via
		c.peer = slices.Index(t.cfg.Peers, d.via) // it is there: a dial of another list has been cancelled
		if !c.Peer.IsValid() {
			c.Peer = d.peer
		}
		t.try = nil
		if t.active != nil {
			c.CarryAt = e.now.Add(takeOver)
		}
	case t == nil:
		e.emit(HangUp{Tunnel: ev.Tunnel, Conn: ev.Conn, Reason: ReasonRemoved})
		return
	case t.Admin:
		e.emit(HangUp{Tunnel: ev.Tunnel, Conn: ev.Conn, Reason: t.AdminWhy})
		return
	case e.closed:
		e.emit(HangUp{Tunnel: ev.Tunnel, Conn: ev.Conn, Reason: ReasonShutdown})
		return
	case !e.place(c):
		e.emit(HangUp{Tunnel: ev.Tunnel, Conn: ev.Conn, Reason: ReasonUnlisted})
		return
	default:
		t.try = nil // a dial under way goes on
	}
	e.touch(t)
	t.Wanted, t.RetryAt = false, time.Time{}
	if len(t.conns) == 0 {
		t.Ups++
		t.UpSince, t.StableAt = e.now, e.now.Add(t.cfg.Stable)
	}
	t.conns = append(t.conns, c)
	e.byConn[c.ID] = c
	e.settle(t, "", nil)
}

// moved notes where a connection's peer is now. It keeps its entry of the list: a name that has the new address later on has not
// changed then.
func (e *Engine) moved(ev Moved) {
	c, peer := e.byConn[ev.Conn], ev.Peer.Unmap()
	if c == nil || !peer.IsValid() || c.Peer == peer {
		return
	}
	if c.Peer = peer; c == c.tunnel.active {
		c.tunnel.Moves++
	}
	e.settle(c.tunnel, "", nil)
}

// superfluous ends a dial that has reached a peer by the connection which that has made meanwhile.
func (e *Engine) superfluous(d *dial) {
	t := e.dialEnded(d)
	if t == nil {
		return
	}
	if t.try != nil && t.try.stage == stageDialling {
		t.try = nil
	}
	e.drive(t)
}

// place finds the entry of the list that a connection belongs to by its address; false: there is none. An empty list takes
// all.
func (e *Engine) place(c *conn) bool {
	peers := c.tunnel.cfg.Peers
	c.peer, c.Via = e.peerAt(peers, c.Peer), Peer{}
	if c.peer < len(peers) {
		c.Via = peers[c.peer]
		return true
	}
	return len(peers) == 0
}

// down takes the end of a connection or of a dial.
func (e *Engine) down(ev Down) {
	if c := e.byConn[ev.Conn]; c != nil {
		e.ended(c, ev)
		return
	}
	if d := e.dials[ev.Ref]; d != nil {
		e.dialFailed(d, ev.Reason, ev.Text)
	}
}

func (e *Engine) ended(c *conn, ev Down) {
	t := c.tunnel
	e.forget(c)
	t.conns = slices.DeleteFunc(t.conns, func(o *conn) bool { return o == c })
	if c == t.active {
		e.fail(t, ev.Reason, ev.Text, c.Peer.String())
	}
	e.settle(t, "", nil)
	if len(t.conns) == 0 {
		how := lossFailed
		if ev.Dead {
			how = lossDead
		}
		e.lost(t, c.peer, how)
	}
}

func (e *Engine) forget(c *conn) { delete(e.byConn, c.ID) }

// settle hangs up the connections that pick names, finds the one that carries the tunnel from now on, and hangs up those
// that it makes superfluous: after a while, in which what the peer still sends by them is received.
func (e *Engine) settle(t *tunnel, why Reason, pick func(*conn) bool) {
	e.settleBy(t, why, pick, false)
}

// settleBy is settle, which with at hangs up at once.
func (e *Engine) settleBy(t *tunnel, why Reason, pick func(*conn) bool, at bool) {
	e.touch(t)
	var over []HangUp
	drop := func(why Reason, pick func(*conn) bool) {
		t.conns = slices.DeleteFunc(t.conns, func(c *conn) bool {
			if !pick(c) {
				return false
			}
			e.forget(c)
			over = append(over, HangUp{Tunnel: t.cfg.Name, Conn: c.ID, Reason: why})
			return true
		})
	}
	if pick != nil {
		drop(why, pick)
	}
	var best *conn
	for _, c := range t.conns {
		if best == nil || c.better(best, e.now) {
			best = c
		}
	}
	if best != nil {
		best.CarryAt = time.Time{}
	}
	if best != t.active {
		e.carriedBy(t, best)
	}
	if best != nil {
		e.falling(t)
		for _, c := range t.conns {
			switch why := t.superfluous(c, best, e.now); {
			case why == "":
				c.OverAt, c.OverWhy = time.Time{}, ""
			case c.OverAt.IsZero():
				c.OverAt, c.OverWhy = e.now.Add(linger), why
			}
		}
		for _, why := range [...]Reason{ReasonReplaced, ReasonFallBack, ReasonMoved} {
			drop(why, func(c *conn) bool { return c.OverWhy == why && (at || e.reached(c.OverAt)) })
		}
		if extra := len(t.conns) - maxConns; extra > 0 {
			drop(ReasonTooMany, func(c *conn) bool {
				if c == best || extra == 0 {
					return false
				}
				extra--
				return true
			})
		}
	}
	for _, h := range over {
		e.emit(h)
	}
}

// better says whether c is to carry rather than o, which came before it.
func (c *conn) better(o *conn, now time.Time) bool {
	if wait := now.Before(c.CarryAt); wait != now.Before(o.CarryAt) {
		return !wait
	}
	return c.peer <= o.peer
}

// superfluous says why a connection is of no use beside the one that carries; empty: it stays.
func (t *tunnel) superfluous(c, best *conn, now time.Time) Reason {
	switch {
	case c == best, now.Before(c.CarryAt):
	case len(t.cfg.Peers) == 0: // both ends cannot have dialled
		return ReasonReplaced
	case c.Ours && c.peer > best.peer: // what the peer has made at another entry of the list it keeps ready; hung up, it would call again
		return ReasonFallBack
	case c.peer == best.peer && c.Peer != best.Peer:
		return ReasonMoved
	}
	return ""
}

// carriedBy changes the connection that carries the tunnel; nil: none does.
func (e *Engine) carriedBy(t *tunnel, c *conn) {
	before := t.active
	t.active = c
	t.FallAt = time.Time{}
	e.beginCheck(t)
	e.beginFlow(t)
	e.beginMend(t)
	if c == nil {
		e.emit(Carry{Tunnel: t.cfg.Name})
		return
	}
	if before != nil && before.peer == c.peer && before.Peer != c.Peer {
		t.Moves++
	}
	switch {
	case c.peer > t.LastPeer:
		t.FallOvers++
		t.bounced(e.now, true)
	case c.peer < t.LastPeer:
		t.FallBacks++
		t.FellBack = e.now
	}
	t.LastPeer = c.peer
	e.emit(Carry{Tunnel: t.cfg.Name, Conn: c.ID})
}

// falling says when the peers before the present one are tried.
func (e *Engine) falling(t *tunnel) {
	switch {
	case t.cfg.FallBack == 0 || !t.cfg.dials() || t.active.peer == 0:
		t.FallAt = time.Time{}
	case t.FallAt.IsZero():
		t.FallAt = e.now.Add(t.fallBack())
	}
}
