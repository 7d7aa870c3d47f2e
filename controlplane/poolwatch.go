package controlplane

import "go.uber.org/zap"

// poolWatch says when a pool's use is worth a warning: once at warnAt percent, and again only
// after it was below warnUntil.
type poolWatch struct {
	warnAt, warnUntil int // percent; warnAt 0: never
	warned            bool
}

// crossed says whether the use of a pool has crossed a threshold: up to where a warning is due,
// or back down.
func (w *poolWatch) crossed(used, total int) (up, down bool) {
	switch {
	case w.warnAt == 0:
	case !w.warned && 100*used >= w.warnAt*total && used > 0:
		w.warned = true
		return true, false
	case w.warned && 100*used < w.warnUntil*total, w.warned && used == 0:
		w.warned = false
		return false, true
	}
	return false, false
}

// poolChanged follows up what an address did to its pool.
func (l *leases) poolChanged(c claim) {
	if c.from == nil {
		return
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
	w := l.watches[c.pool]
	if w == nil || l.pools[c.pool] != c.from {
		return
	}
	used, total := c.from.Usage()
	up, down := w.crossed(used, total)
	fields := []zap.Field{zap.String("vr", c.pool.router), zap.String("pool", c.pool.pool), zap.Int("used", used), zap.Int("size", total)}
	switch {
	case up:
		l.notices = append(l.notices, func() {
			l.log.Warn("address pool is nearly exhausted", append(fields, zap.Int("warn_at_percent", w.warnAt))...)
		})
	case down:
		l.notices = append(l.notices, func() { l.log.Info("address pool has room again", fields...) })
	}
}
