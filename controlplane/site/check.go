package site

import (
	"time"

	"vrgate/controlplane/deadline"
)

// checkState is what the connectivity check of a tunnel has found on the connection that carries it.
type checkState struct {
	Seq    uint64 // of the last Probe
	NextAt time.Time
	Until  time.Time     // when the answer is no longer waited for; zero: none is
	Passed bool          // once, since this connection carries the tunnel
	Failed int           // in a row
	OK     bool          // the last result
	At     time.Time     // of the last result
	RTT    time.Duration // of the last that was good
	Text   string        // of the last that was not
	Sent   uint64
	Lost   uint64
}

func (c *checkState) deadline() time.Time { return deadline.Earliest(c.NextAt, c.Until) }

// beginCheck begins anew for another connection, or stops.
func (e *Engine) beginCheck(t *tunnel) {
	c := &t.Check
	c.NextAt, c.Until, c.Passed, c.Failed = time.Time{}, time.Time{}, false, 0
	if t.active != nil && t.cfg.Check.on() {
		c.NextAt = e.now.Add(min(firstProbe, t.cfg.Check.Period))
	}
}

// checkDue gives up waiting for an answer, and asks.
func (e *Engine) checkDue(t *tunnel) {
	c := &t.Check
	if e.reached(c.Until) {
		e.checkResult(t, CheckResult{Text: "no answer"})
	}
	if e.reached(c.NextAt) {
		c.Seq++
		c.Sent++
		c.Until, c.NextAt = e.now.Add(t.cfg.Check.Timeout), e.now.Add(t.cfg.Check.Period)
		e.emit(Probe{Tunnel: t.cfg.Name, Seq: c.Seq, Check: t.cfg.Check})
	}
}

// checked takes the answer that is waited for and no other.
func (e *Engine) checked(ev CheckResult) {
	if t := e.tunnels[ev.Tunnel]; t != nil && !t.Check.Until.IsZero() && ev.Seq == t.Check.Seq {
		e.checkResult(t, ev)
	}
}

// checkResult takes a tunnel down whose check has failed too often: to the next peer, or to be dialled again (Z-11).
func (e *Engine) checkResult(t *tunnel, ev CheckResult) {
	e.touch(t)
	c := &t.Check
	c.Until, c.OK, c.At = time.Time{}, ev.OK, e.now
	if ev.OK {
		c.Passed, c.Failed, c.RTT, c.Text = true, 0, ev.RTT, ""
		return
	}
	c.Lost++
	c.Failed++
	if c.Text = cut(ev.Text); c.Failed >= t.cfg.Check.Tolerance {
		e.condemn(t, ReasonCheck, t.cfg.Check.Target.String()+" cannot be reached: "+c.Text)
	}
}

// condemn hangs up all connections to the peer that carries the tunnel, because it does not.
func (e *Engine) condemn(t *tunnel, why Reason, text string) {
	peer := t.active.peer
	e.fail(t, why, text, t.active.Peer.String())
	e.settle(t, why, func(c *conn) bool { return c.peer == peer })
	if len(t.conns) == 0 {
		e.lost(t, peer, lossDead)
	}
}
