package site

import (
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"time"

	"vrgate/controlplane/deadline"
)

// Engine decides about the static tunnels of one virtual router.
type Engine struct {
	cfg    Config
	random io.Reader
	now    time.Time
	begun  bool // the first Step has been
	closed bool

	tunnels map[string]*tunnel
	names   map[string]*name
	byConn  map[uint32]*conn
	dials   map[uint64]*dial // under way, also of tunnels that are gone
	queue   []*tunnel        // wait for their turn to dial, each at most once
	timers  deadline.Heap[timed]
	nextRef uint64

	touched []*tunnel // in this step
	out     []Effect
}

// New returns an engine of a configuration without errors ([Config.Validate]). Nothing happens before the first Step, which
// is due at now. random spreads pauses.
func New(now time.Time, cfg Config, random io.Reader) *Engine {
	e := &Engine{
		cfg: cfg.withDefaults(), random: random, now: now, nextRef: 1,
		tunnels: map[string]*tunnel{}, names: map[string]*name{}, byConn: map[uint32]*conn{}, dials: map[uint64]*dial{},
	}
	for _, c := range e.cfg.Tunnels {
		e.tunnels[c.Name] = newTunnel(c, now)
	}
	return e
}

// Step handles one event and returns what has to be done, in order. Timers that are due run first, whatever the event.
func (e *Engine) Step(now time.Time, ev Event) []Effect {
	e.now = now
	e.begin()
	e.due()
	switch ev := ev.(type) {
	case Timer:
	case Up:
		e.up(ev)
	case Down:
		e.down(ev)
	case Moved:
		e.moved(ev)
	case PairUp:
		e.pairUp(ev)
	case PairDown:
		e.pairDown(ev)
	case Resolved:
		e.resolved(ev)
	case Acquire:
		e.acquire(ev)
	case CheckResult:
		e.checked(ev)
	case Traffic:
		e.traffic(ev)
	case Operator:
		e.operator(ev)
	case CloseAll:
		e.closeAll(ev.Reason)
	case Reconfigure:
		e.reconfigure(ev.Config)
	}
	e.pump()
	e.flush()
	out := e.out
	e.out = nil
	return out
}

// begin does what New and Restore could not, for want of effects.
func (e *Engine) begin() {
	if e.begun {
		return
	}
	e.begun = true
	e.bindNames()
	for _, id := range slices.Sorted(maps.Keys(e.byConn)) {
		if c := e.byConn[id]; c.tunnel == nil { // of another configuration than this
			e.forget(c)
			e.emit(HangUp{Tunnel: c.Tunnel, Conn: c.ID, Reason: ReasonChanged})
		}
	}
	for _, t := range e.sorted() {
		e.admission(t)
		e.settle(t, "", nil)
		switch {
		case t.Admin: // since the snapshot
			e.hangUp(t, t.AdminWhy)
		case t.active != nil: // the shell may have forgotten
			e.emit(Carry{Tunnel: t.cfg.Name, Conn: t.active.ID})
		}
		e.drive(t)
	}
}

// touch has a tunnel's deadline and state looked at when the step ends.
func (e *Engine) touch(t *tunnel) {
	if !t.touched {
		t.touched = true
		e.touched = append(e.touched, t)
	}
}

// flush says what has changed and arms the timers of what was touched.
func (e *Engine) flush() {
	for _, t := range e.touched {
		t.touched = false
		if e.tunnels[t.cfg.Name] != t {
			e.disarm(t)
			continue
		}
		e.report(t)
		e.arm(t)
	}
	e.touched = nil
}

func (e *Engine) emit(f Effect) { e.out = append(e.out, f) }

// sorted lists the tunnels by name.
func (e *Engine) sorted() []*tunnel {
	out := make([]*tunnel, 0, len(e.tunnels))
	for _, n := range slices.Sorted(maps.Keys(e.tunnels)) {
		out = append(out, e.tunnels[n])
	}
	return out
}

// between returns a random duration of the range, both ends included. Without randomness it is the lower end.
func (e *Engine) between(lo, hi time.Duration) time.Duration {
	var b [8]byte
	if _, err := io.ReadFull(e.random, b[:]); err != nil || hi <= lo {
		return lo
	}
	return lo + time.Duration(binary.BigEndian.Uint64(b[:])%uint64(hi-lo+1))
}
