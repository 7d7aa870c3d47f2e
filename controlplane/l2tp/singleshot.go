package l2tp

import "time"

// Single-shot tunnels (H1 to H8): one session per tunnel, and through IPsec one tunnel per connection, ever. Whatever ends them
// or keeps them from coming up closes the door until the client has made a new IPsec connection: each guess of a password
// costs a run of IKE (H7).
//
// An IPsec connection is used once a tunnel has been accepted from it, whatever its profile: a single-shot tunnel
// must be the first and only one of its connection. It is spent when its single-shot tunnel is over or could not be set up. What
// the packet lost or the process dropped without an answer spends nothing: the client repeats it.
//
// A single-shot tunnel without its session ends with the set-up timeout: the idle timeout does not hold for it (H2), and without any
// it would stay for ever.

// connUse is what an IPsec connection has been used for.
type connUse struct {
	SingleShot bool
	Spent      bool
	Told       bool // ConnSpent was emitted
	Reason     Reason
	Text       string
	At         time.Time // of the last change
}

// maxConnUses bounds how many connections are remembered. It is far above the number of tunnel ids, so that only connections whose
// end nobody reported can reach it; then the one that has been quiet for longest is forgotten.
const maxConnUses = 1 << 17

// use returns what is known about a connection, making room for it if it is new.
func (e *Engine) use(now time.Time, conn ConnID) *connUse {
	u := e.uses[conn]
	if u == nil {
		if len(e.uses) >= maxConnUses {
			e.forgetUse()
		}
		u = &connUse{}
		e.uses[conn] = u
	}
	u.At = now
	return u
}

// forgetUse forgets the connection that has been quiet for longest and has no tunnel.
func (e *Engine) forgetUse() {
	var oldest ConnID
	for conn, u := range e.uses {
		if len(e.byConn[conn]) == 0 && (oldest == 0 || u.At.Before(e.uses[oldest].At)) {
			oldest = conn
		}
	}
	delete(e.uses, oldest)
}

// takeConn notes that a tunnel was accepted from an IPsec connection.
func (e *Engine) takeConn(now time.Time, t *tunnel) {
	if t.Conn != 0 {
		u := e.use(now, t.Conn)
		u.SingleShot = u.SingleShot || t.SingleShot
	}
}

// connTaken says why an IPsec connection carries no further tunnel (H3, H5); nil: it may.
func (e *Engine) connTaken(conn ConnID, host *HostProfile) *wireError {
	u := e.uses[conn]
	switch {
	case conn == 0 || u == nil:
		return nil
	case u.Spent:
		return &wireError{StopNotAuthorized, 0, ReasonConnSpent, "a new IPsec connection is required"}
	case u.SingleShot:
		return &wireError{StopNotAuthorized, 0, ReasonConnSpent, "the IPsec connection carries one tunnel"}
	case host.SingleShot:
		return &wireError{StopNotAuthorized, 0, ReasonConnSpent, "the IPsec connection has carried another tunnel"}
	}
	return nil
}

// turnAway refuses a new tunnel whose host profile is known. For a single-shot profile that is a failed set-up (H5).
func (e *Engine) turnAway(now time.Time, p Packet, host *HostProfile, peer TunnelID, w *wireError, asked int) {
	e.failedSetup(p, w.reason)
	e.refuse(now, p, peer, w, asked)
	if p.Conn == 0 || !host.SingleShot || len(e.byConn[p.Conn]) > 0 {
		return // while its tunnel lives, the connection has not failed
	}
	e.spend(now, p.Conn, w.reason, w.text)
	e.tellSpent(p.Conn, 0)
}

// spend closes the door of a connection (H5).
func (e *Engine) spend(now time.Time, conn ConnID, reason Reason, text string) {
	u := e.use(now, conn)
	if !u.Spent {
		u.Spent, u.Reason, u.Text = true, reason, text
	}
}

// tellSpent asks for the end of a spent connection (H4), once.
func (e *Engine) tellSpent(conn ConnID, t TunnelID) {
	u := e.uses[conn]
	if conn == 0 || u == nil || !u.Spent || u.Told {
		return
	}
	u.Told = true
	e.emit(ConnSpent{Conn: conn, Tunnel: t, Reason: u.Reason, Text: u.Text})
}

// redialled takes the SCCRQ by which the peer of an established single-shot tunnel begins anew: it has lost the tunnel, which
// therefore ends, and no other may follow it on this connection.
func (e *Engine) redialled(now time.Time, p Packet, t *tunnel, asked int) {
	e.failedSetup(p, ReasonConnSpent)
	e.refuse(now, p, t.Peer, &wireError{StopNotAuthorized, 0, ReasonConnSpent, "a new IPsec connection is required"}, asked)
	e.end(now, t, ending{reason: ReasonPeerRestart, text: "the peer opens the tunnel anew", byPeer: true, stop: stopSilent})
}

// callFailed counts a call that was refused before it existed. A single-shot tunnel that has no other is over (H5).
func (e *Engine) callFailed(now time.Time, t *tunnel, reason Reason, text string) {
	t.SessionsTotal++
	t.SessionsFailed++
	if t.SingleShot {
		e.callOver(now, t, ending{reason: reason, text: text})
	}
}

// usedUp says why a tunnel takes no call: a single-shot tunnel has had its one (H1).
func (t *tunnel) usedUp() *wireError {
	if !t.SingleShot || t.SessionsTotal == 0 {
		return nil
	}
	return &wireError{CallNeverFacilities, 0, ReasonSingleShotUsed, "single-shot tunnel: it has had its session"}
}
