package l2tp

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// stopMode says what an ending tunnel still does on the wire.
type stopMode uint8

const (
	stopSend   stopMode = iota // send StopCCN and wait a short while for its acknowledgement
	stopAnswer                 // the peer's StopCCN: acknowledge it, again if need be
	stopSilent                 // nothing can or may be sent
)

// ending is why and how a tunnel ends.
type ending struct {
	reason      Reason
	text        string
	byPeer      bool
	stop        stopMode
	result, err uint16 // of our StopCCN
}

// end ends a tunnel: its sessions, then itself, and what is left to do on the wire. It does nothing for a tunnel that is
// over.
func (e *Engine) end(now time.Time, t *tunnel, why ending) {
	if t.over() {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(t.Sessions)) {
		e.dropSession(now, t, t.Sessions[id], SessionDown{Reason: why.reason, Text: why.text, ByPeer: why.byPeer})
	}
	if why.stop == stopSend {
		t.LastResult, t.LastError, t.LastMessage = why.result, why.err, why.text
	}
	t.Reason, t.Ended = why.reason, now
	e.count(why.reason)
	e.countEnd(t)
	if t.SingleShot && e.uses[t.Conn] != nil { // else IPsec has gone before
		e.spend(now, t.Conn, why.reason, why.text)
	}
	info := e.tunnelInfo(t) // the state it leaves
	e.emit(TunnelDown{Tunnel: info, Reason: why.reason, Text: why.text, ByPeer: why.byPeer})
	e.notHalfOpen(t)
	e.forgetPeer(t)
	e.live--
	t.IdleAt, t.SetupBy, t.Challenge, t.Opening = time.Time{}, time.Time{}, nil, nil

	switch {
	case !t.SocketOpen:
		t.enter(now, phaseOrphan)
	case why.stop == stopAnswer:
		t.Channel.unsent()
		t.Channel.RetransmitAt = time.Time{}
		t.Channel.Queue, t.Channel.Sent, t.Channel.InFlight = nil, 0, 0 // the peer listens no more
		t.LingerUntil = now.Add(lingerTime)
		if t.SingleShot && t.Conn != 0 { // IPsec ends now, not half a minute later (H4)
			t.LingerUntil = now.Add(t.Params.Drain)
		}
		t.enter(now, phaseLingering)
	case why.stop == stopSend && !t.Channel.Passive:
		if !t.SingleShot { // the CDN of its one session, and what it says, goes ahead
			t.Channel.unsent()
		}
		t.Channel.Drain = true
		e.queue(t, 0, build(msgStopCCN).u16(attrTunnelID, uint16(t.ID)).result(why.result, why.err, why.text).b)
		t.LingerUntil = now.Add(t.Params.Drain)
		t.enter(now, phaseDraining)
	default:
		e.release(t)
		return
	}
	e.schedule(t)
}

// release closes a tunnel's socket and forgets the tunnel but for its record. That is where the destruct period begins, and with it
// the end of the IPsec connection of a single-shot tunnel (H4).
func (e *Engine) release(t *tunnel) {
	if t.SocketOpen {
		e.emit(CloseSocket{Tunnel: t.ID})
	}
	e.unschedule(t)
	delete(e.tunnels, t.ID)
	e.forgetConn(t)
	e.leave(t)
	e.keepTunnel(t)
	e.forgetDestination(t.Remote.Addr())
	if t.SingleShot {
		e.tellSpent(t.Conn, t.ID)
	}
}

// closeTunnel ends a tunnel on our own account.
func (e *Engine) closeTunnel(now time.Time, t *tunnel, result uint16, text string, reason, standard Reason) {
	if result == 0 {
		result = StopShutdown
	}
	if reason == "" {
		reason = standard
	}
	e.end(now, t, ending{reason: reason, text: text, stop: stopSend, result: result})
	e.settle(now, t)
}

// peerStopped takes the peer's StopCCN.
func (e *Engine) peerStopped(now time.Time, t *tunnel, m *message) {
	t.LastResult, t.LastError, t.LastMessage = m.result, m.err, m.text
	e.end(now, t, ending{
		reason: ReasonPeerStop, text: describe("StopCCN", m), byPeer: true, stop: stopAnswer,
	})
}

// describe puts a peer's result codes into words for the log.
func describe(what string, m *message) string {
	s := fmt.Sprintf("%s result %d", what, m.result)
	if m.err != 0 {
		s += fmt.Sprintf(" error %d", m.err)
	}
	if m.text != "" {
		s += ": " + m.text
	}
	return s
}

// connLost ends the tunnels of an IPsec connection at once, those that wait for last acknowledgements included (K12).
func (e *Engine) connLost(now time.Time, conn ConnID) {
	if conn == 0 {
		return
	}
	delete(e.uses, conn)
	for _, id := range slices.Sorted(slices.Values(e.byConn[conn])) {
		t := e.tunnels[id]
		switch {
		case t == nil:
		case t.Phase == phaseOrphan:
		case t.over():
			e.release(t)
		default:
			e.end(now, t, ending{reason: ReasonConnLost, text: "the IPsec connection is gone", stop: stopSilent})
		}
	}
}

// notHalfOpen takes a tunnel out of the half-open counts.
func (e *Engine) notHalfOpen(t *tunnel) {
	if !t.HalfOpen {
		return
	}
	t.HalfOpen = false
	e.halfOpen--
	k := t.source()
	if e.halfOpenBy[k]--; e.halfOpenBy[k] <= 0 {
		delete(e.halfOpenBy, k)
	}
}

// forgetPeer takes a tunnel out of the indexes by peer, so that the peer may open another with the same id.
func (e *Engine) forgetPeer(t *tunnel) {
	if t.Initiated {
		e.forgetDial(t)
		return
	}
	if k := t.dialKey(); e.zeroIDs[k] == t.ID {
		delete(e.zeroIDs, k)
	}
	if k := t.peerKey(); e.byPeer[k] == t.ID {
		delete(e.byPeer, k)
	}
}

func (e *Engine) forgetConn(t *tunnel) {
	if t.Conn == 0 {
		return
	}
	list := slices.DeleteFunc(e.byConn[t.Conn], func(id TunnelID) bool { return id == t.ID })
	if len(list) == 0 {
		delete(e.byConn, t.Conn)
		return
	}
	e.byConn[t.Conn] = list
}

func (t *tunnel) peerKey() peerKey { return peerKey{t.Conn, t.Remote, t.Peer} }
func (t *tunnel) dialKey() peerKey { return peerKey{t.Conn, t.Remote, 0} }

func (t *tunnel) source() sourceKey {
	return source(t.Conn, t.Remote.Addr())
}
