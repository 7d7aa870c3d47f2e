package subscriber

import (
	"cmp"
	"io"
	"net/netip"
	"slices"
	"time"
)

// Engine is one virtual router's subscribers. One goroutine owns it.
type Engine struct {
	cfg    Config
	random io.Reader
	nextID ID
	byID   map[ID]*session
	byCall map[CallKey]*session
	byFar  map[CallKey]*session // by their calls to other LNSs
	byConn map[uint32]*session  // dynamic subscribers
	conns  map[uint32]*conn     // connections that carry L2TP
	// admitted counts by tunnel profile the dynamic subscribers that AAA has accepted and that
	// are not ending.
	admitted map[string]int
	warned   map[string]time.Time // when a tunnel profile was last reported to be full
	guesses  guesses
	silent   map[netip.Addr]*silence // LNSs that did not answer
	timers   timers
	counts   map[Reason]uint64
	out      []Effect
}

// New makes an engine. random feeds the PPP links' magic numbers and challenges.
func New(cfg Config, random io.Reader) *Engine {
	return &Engine{
		cfg: withDefaults(cfg), random: random, nextID: max(cfg.FirstID, 1),
		byID: map[ID]*session{}, byCall: map[CallKey]*session{}, byFar: map[CallKey]*session{}, byConn: map[uint32]*session{}, conns: map[uint32]*conn{},
		admitted: map[string]int{}, warned: map[string]time.Time{}, guesses: newGuesses(), silent: map[netip.Addr]*silence{}, counts: map[Reason]uint64{},
	}
}

func withDefaults(cfg Config) Config {
	if cfg.PathMTU == 0 {
		cfg.PathMTU = defaultPath
	}
	if cfg.DestructTimeout == 0 {
		cfg.DestructTimeout = 600 * time.Second
	}
	if cfg.InterimFloor == 0 {
		cfg.InterimFloor = time.Minute
	}
	if cfg.Lockout == 0 {
		cfg.Lockout = 300 * time.Second
	}
	return cfg
}

// Step takes one event and returns what is to be done, in order.
func (e *Engine) Step(now time.Time, ev Event) []Effect {
	e.out = nil
	switch ev := ev.(type) {
	case ConnUp:
		e.connUp(now, ev)
	case ConnDown:
		e.connDown(now, ev)
	case TunnelUp:
		e.tunnelUp(ev)
	case TunnelDown:
		e.tunnelDown(now, ev)
	case ConnSpent:
		e.connSpent(ev)
	case CallUp:
		e.callUp(now, ev)
	case CallDown:
		e.callDown(now, ev)
	case Frame:
		e.frame(now, ev)
	case DynamicUp:
		e.dynamicUp(now, ev)
	case UserAnswered:
		e.userAnswered(now, ev)
	case AccessOpened:
		e.accessOpened(now, ev)
	case AccessClosed:
		e.kernelClosed(now, ev.ID, ev.Counters)
	case CountersRead:
		e.countersRead(now, ev)
	case Decided:
		e.decided(now, ev)
	case SessionOpened:
		e.sessionOpened(now, ev)
	case SessionActivated:
		e.sessionActivated(now, ev)
	case SessionClosed:
		e.kernelClosed(now, ev.ID, ev.Counters)
	case FarUp:
		e.farUp(now, ev)
	case FarFailed:
		e.farFailed(now, ev)
	case FarDown:
		e.farDown(now, ev)
	case Bridged:
		e.bridged(now, ev)
	case BridgeClosed:
		e.kernelClosed(now, ev.ID, ev.Counters)
	case AccountStarted:
		e.accountStarted(now, ev)
	case Change:
		e.change(now, ev)
	case TrafficSet:
		e.trafficSet(now, ev)
	case Disconnect:
		for _, id := range ev.IDs {
			if s := e.byID[id]; s != nil {
				e.end(now, s, ev.Reason, disconnectText(ev.Reason), false)
			}
		}
	case Reconfigure:
		e.reconfigure(now, ev.Config)
	case Timer:
		e.expire(now)
	}
	return e.out
}

// disconnectText says why sessions are ended from outside.
func disconnectText(r Reason) string {
	switch r {
	case ReasonShutdown:
		return "vrgate stops"
	case ReasonReconfigured:
		return "the virtual router is configured otherwise and begins anew"
	case ReasonRouterRemoved:
		return "the virtual router is not configured any more"
	case ReasonInterface:
		return "somebody has removed the session's interface"
	case ReasonRADIUS:
		return "disconnected by a RADIUS server"
	case ReasonReplaced:
		return "a newer session took its place"
	}
	return "disconnected by the operator"
}

// Deadline returns when a Timer event is wanted; zero: never.
func (e *Engine) Deadline() time.Time { return e.timers.next() }

func (e *Engine) emit(f Effect) { e.out = append(e.out, f) }

func (e *Engine) expire(now time.Time) {
	for {
		t := e.timers.due(now)
		if t == nil {
			return
		}
		if t.conn != 0 {
			e.connExpired(now, e.conns[t.conn])
			continue
		}
		e.sessionExpired(now, e.byID[t.session])
	}
}

// Records returns all sessions that have not ended, by ID.
func (e *Engine) Records() []Record {
	out := make([]Record, 0, len(e.byID))
	for _, s := range e.byID {
		out = append(out, s.Record)
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Len returns the number of sessions that have not ended.
func (e *Engine) Len() int { return len(e.byID) }

// Counters returns how often each reason ended a session since the start.
func (e *Engine) Counters() map[Reason]uint64 {
	out := make(map[Reason]uint64, len(e.counts))
	for k, v := range e.counts {
		out[k] = v
	}
	return out
}
