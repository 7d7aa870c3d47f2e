package subscriber

import (
	"cmp"
	"time"
)

// conn is one IPsec connection that carries L2TP.
type conn struct {
	ConnUp
	tunnels  map[uint16]bool
	calls    map[CallKey]bool
	hadOne   bool
	warned   bool
	spent    bool      // its single-shot tunnel is over, and it has been told to end
	deadline time.Time // for closing it without tunnels
	timer    timer
}

// silentConn is how long an IPsec connection may be without L2TP before the operator is
// told: the classic sign of a blocked ESP or UDP 1701 (clients.md, complaint 28).
const silentConn = 30 * time.Second

func (e *Engine) connUp(now time.Time, ev ConnUp) {
	if ev.Dynamic {
		e.dynamicConnUp(now, ev)
		return
	}
	c := e.conns[ev.Conn]
	if c == nil {
		c = e.newConn(ev.Conn)
		e.armConn(c, now.Add(silentConn))
	}
	c.ConnUp = ev
}

func (e *Engine) newConn(id uint32) *conn {
	c := &conn{ConnUp: ConnUp{Conn: id}, tunnels: map[uint16]bool{}, calls: map[CallKey]bool{}, timer: timer{conn: id}}
	e.conns[id] = c
	return c
}

// reported tells whether IKE has said that the connection is up.
func (c *conn) reported() bool { return c.Remote.IsValid() }

func (e *Engine) connDown(now time.Time, ev ConnDown) {
	if s := e.byConn[ev.Conn]; s != nil {
		e.dynamicDown(now, s, ev)
		return
	}
	c := e.conns[ev.Conn]
	if c == nil {
		return
	}
	delete(e.conns, ev.Conn)
	e.timers.drop(&c.timer)
	for call := range c.calls {
		e.noteLost(e.byCall[call], Reason(ev.Reason), cmp.Or(ev.Text, "the IPsec connection has ended"), ev.ByPeer)
	}
	e.emit(DropTunnels{Conn: ev.Conn})
}

// tunnelUp may come before IKE's report: SAs are in use as soon as they are in the kernel, and the word that they are may be
// on its way still.
func (e *Engine) tunnelUp(ev TunnelUp) {
	if ev.Conn == 0 {
		return
	}
	c := e.conns[ev.Conn]
	if c == nil {
		c = e.newConn(ev.Conn)
	}
	c.tunnels[ev.Tunnel] = true
	c.hadOne = true
	c.deadline = time.Time{}
}

func (e *Engine) tunnelDown(now time.Time, ev TunnelDown) {
	c := e.conns[ev.Conn]
	if c == nil || !c.tunnels[ev.Tunnel] {
		return // it never came up
	}
	delete(c.tunnels, ev.Tunnel)
	if len(c.tunnels) == 0 && !c.reported() {
		delete(e.conns, ev.Conn) // nothing ever ends what IKE does not know any more
		return
	}
	if len(c.tunnels) == 0 && !c.spent {
		e.armConn(c, now.Add(e.cfg.DestructTimeout))
	}
}

// connSpent ends a connection at the beginning of the destruct period of its single-shot tunnel (H4), also one whose
// tunnel never came up (H5). The L2TP engine takes no tunnel from it meanwhile. A client's SCCRQ can arrive and fail
// before IKE has reported its connection, so one that is not known here is ended too.
func (e *Engine) connSpent(ev ConnSpent) {
	if c := e.conns[ev.Conn]; c != nil {
		if c.spent {
			return
		}
		c.spent, c.deadline = true, time.Time{}
	}
	e.emit(CloseConn{Conn: ev.Conn, Reason: ReasonSpent, Text: cmp.Or(ev.Text, "the single-shot tunnel of this IPsec connection is over")})
}

func (e *Engine) armConn(c *conn, deadline time.Time) {
	c.deadline = deadline
	e.timers.arm(&c.timer, deadline)
}

func (e *Engine) connExpired(now time.Time, c *conn) {
	switch {
	case c.deadline.IsZero():
	case now.Before(c.deadline): // it has moved since
		e.armConn(c, c.deadline)
	case !c.hadOne && !c.warned:
		c.warned = true
		e.armConn(c, now.Add(e.cfg.DestructTimeout))
		e.emit(Report{Warn: true, Reason: ReasonNoTunnel, Conn: c.Conn, Remote: c.Remote,
			Text: "IPsec is up but no L2TP tunnel has come up through it: it was refused, ESP or UDP 4500 is blocked on the way, the client's L2TP is not running, or a NAT has falsified its UDP checksums (\"checksum\" among the kernel's drops; nat-passthrough accepts them)"})
	default:
		reason, text := ReasonTunnelGone, "no L2TP tunnel left on this IPsec connection"
		if !c.hadOne {
			reason, text = ReasonNoTunnel, "no L2TP tunnel ever came up through this IPsec connection"
		}
		c.deadline = time.Time{}
		e.emit(CloseConn{Conn: c.Conn, Reason: reason, Text: text})
	}
}
