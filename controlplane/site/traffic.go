package site

import "time"

// flow is what the connection that carries a tunnel has carried, as far as readings tell.
type flow struct {
	In, Out uint64
	ReadAt  time.Time // when the next is wanted
	MovedAt time.Time // when a reading had last grown
	OutAt   time.Time // when Out had
	AloneAt time.Time // since when packets go out and none come in; zero: they do
}

// beginFlow begins anew for another connection, or stops.
func (e *Engine) beginFlow(t *tunnel) {
	t.Flow = flow{MovedAt: e.now}
	if step := t.readStep(); step > 0 && t.active != nil {
		t.Flow.ReadAt = e.now.Add(step)
	}
}

// readStep is how often the counters are read; 0: never.
func (t *tunnel) readStep() time.Duration {
	d := t.cfg.NoReturn
	if idle := t.idle(); idle > 0 && (d == 0 || idle < d) {
		d = idle
	}
	return d / 4
}

// idle is the idle time of a tunnel that we would dial again when it is needed.
func (t *tunnel) idle() time.Duration {
	if t.cfg.Start != OnDemand {
		return 0
	}
	return t.cfg.Idle
}

func (e *Engine) readTraffic(t *tunnel) {
	t.Flow.ReadAt = e.now.Add(t.readStep())
	e.emit(ReadTraffic{Tunnel: t.cfg.Name, Conn: t.active.ID})
}

// traffic ends tunnels that carry nothing, or nothing in return (Z-6).
func (e *Engine) traffic(ev Traffic) {
	c := e.byConn[ev.Conn]
	if c == nil || c.tunnel == nil || c.tunnel.active != c || c.tunnel.Flow.ReadAt.IsZero() {
		return
	}
	t := c.tunnel
	e.touch(t)
	f := &t.Flow
	in, out := ev.InPackets > f.In, ev.OutPackets > f.Out
	f.In, f.Out = ev.InPackets, ev.OutPackets
	if in || out {
		f.MovedAt = e.now
	}
	switch {
	case in:
		f.AloneAt = time.Time{}
	case out && (f.AloneAt.IsZero() || e.now.Sub(f.OutAt) >= t.cfg.NoReturn):
		f.AloneAt = e.now
	}
	if out {
		f.OutAt = e.now
	}
	switch n, idle := t.cfg.NoReturn, t.idle(); {
	case n > 0 && out && !f.AloneAt.IsZero() && e.now.Sub(f.AloneAt) >= n:
		e.condemn(t, ReasonNoReturn, "packets go out and none come in")
	case idle > 0 && e.now.Sub(f.MovedAt) >= idle:
		e.hangUp(t, ReasonIdle)
	}
}

// hangUp takes a tunnel down that nobody needs, or that somebody wants down. It is no failure.
func (e *Engine) hangUp(t *tunnel, why Reason) {
	e.giveUp(t, why)
	if len(t.conns) > 0 {
		e.settle(t, why, func(*conn) bool { return true })
		e.lost(t, t.LastPeer, lossQuiet)
	}
}
