package radius

import (
	"io"
	"net/netip"
	"time"
)

// requestID numbers requests; those with the highest bit set are the engine's own probes.
type requestID uint64

const probeBit requestID = 1 << 63

// socketID numbers sockets.
type socketID uint32

// event is what happened.
type event interface{ isEvent() }

type (
	// submit is a new request. Its number has not been used before and has no probeBit.
	submit struct {
		ID       requestID
		Group    string
		Exchange Exchange
	}
	// abandon: the caller no longer waits. No finished follows.
	abandon struct{ ID requestID }
	// received is a datagram; Data is not kept.
	received struct {
		Socket socketID
		From   netip.AddrPort
		Data   []byte
	}
	// opened and openFailed answer openSocket.
	opened     struct{ Socket socketID }
	openFailed struct {
		Socket socketID
		Text   string
	}
	// socketLost: the socket cannot be read any more.
	socketLost struct {
		Socket socketID
		Text   string
	}
	// notSent: the kernel would not take a packet. It is lost like any other.
	notSent struct{ Socket socketID }
	// tick: time has passed.
	tick struct{}
)

func (submit) isEvent()     {}
func (abandon) isEvent()    {}
func (received) isEvent()   {}
func (opened) isEvent()     {}
func (openFailed) isEvent() {}
func (socketLost) isEvent() {}
func (notSent) isEvent()    {}
func (tick) isEvent()       {}

// effect is what is to be done.
type effect interface{ isEffect() }

type (
	// finished ends a request; Err is nil exactly if there is an Answer.
	finished struct {
		ID     requestID
		Answer Answer
		Err    error
	}
	openSocket struct {
		Socket socketID
		Local  netip.AddrPort
		Server string
	}
	closeSocket struct{ Socket socketID }
	// sendPacket: Data does not change any more.
	sendPacket struct {
		Socket socketID
		To     netip.AddrPort
		Data   []byte
	}
	// stateChanged is for the log.
	stateChanged struct {
		Server string
		Role   Role
		From   State
		To     State
		Counts Counts
	}
)

func (finished) isEffect()     {}
func (openSocket) isEffect()   {}
func (closeSocket) isEffect()  {}
func (sendPacket) isEffect()   {}
func (stateChanged) isEffect() {}

// engine decides which server gets which packet when. It is not safe for concurrent use: one goroutine owns it.
type engine struct {
	cfg    Config
	random io.Reader
	now    time.Time
	out    []effect

	ends     []*end // a server in one role each
	groups   map[string]*group
	requests map[requestID]*request
	sockets  map[socketID]*socket
	roles    [numRoles]load

	timers     timers    // of requests
	wakeAt     time.Time // when housekeep has something to do; zero: never
	lastSocket socketID
	lastProbe  requestID
}

// load is how much of one role's share is taken.
type load struct {
	Limit    int // of InFlight, and of requests in Queue
	InFlight int
	Queue    list
	Refused  uint64 // for want of room in Queue
}

// newEngine makes an engine without sockets. random must be a cryptographic source that never fails.
func newEngine(cfg Config, random io.Reader) *engine {
	e := &engine{
		cfg: cfg, random: random,
		groups: map[string]*group{}, requests: map[requestID]*request{}, sockets: map[socketID]*socket{},
	}
	total := cfg.MaxInFlight
	if total == 0 {
		total = DefaultMaxInFlight
	}
	e.roles[Accounting].Limit = max(total/4, 1)
	e.roles[Authentication].Limit = max(total-total/4, 1)
	byName := map[string][numRoles]*end{}
	for _, s := range cfg.Servers {
		if s.Timeout <= 0 {
			s.Timeout = DefaultTimeout
		}
		s.Retransmissions = max(s.Retransmissions, 0)
		var both [numRoles]*end
		for role, port := range [numRoles]uint16{s.AuthPort, s.AcctPort} {
			if port == 0 {
				continue
			}
			both[role] = &end{
				Server: s, Role: Role(role), Address: netip.AddrPortFrom(s.Address.Unmap(), port),
				MaxSockets: 2 * (e.roles[role].Limit/identifiers + 1),
			}
			e.ends = append(e.ends, both[role])
		}
		byName[s.Name] = both
	}
	for _, c := range cfg.Groups {
		g := &group{RoundRobin: c.RoundRobin}
		for _, name := range c.Servers {
			for role, n := range byName[name] {
				if n != nil {
					g.Ends[role] = append(g.Ends[role], n)
				}
			}
		}
		e.groups[c.Name] = g
	}
	return e
}

// step tells the engine what happened at time now and returns what is to be done, in this order. The event comes before
// deadlines that have passed: an answer that waited for a busy process still counts.
func (e *engine) step(now time.Time, ev event) []effect {
	if now.After(e.now) {
		e.now = now
	}
	switch ev := ev.(type) {
	case submit:
		e.submit(ev)
	case abandon:
		e.abandon(ev.ID)
	case received:
		e.received(ev)
	case opened:
		e.opened(ev.Socket)
	case openFailed:
		e.socketGone(ev.Socket, ev.Text)
	case socketLost:
		e.socketGone(ev.Socket, ev.Text)
	case notSent:
		if s := e.sockets[ev.Socket]; s != nil {
			s.end.Counts[SendFailed]++
		}
	case tick:
	}
	for len(e.timers) > 0 && !e.timers[0].at.After(e.now) {
		e.expired(e.timers[0])
	}
	if !e.wakeAt.IsZero() && !e.wakeAt.After(e.now) {
		e.housekeep()
	}
	e.settle()
	out := e.out
	e.out = nil
	return out
}

// deadline returns when tick wants to be given to step next, zero if never.
func (e *engine) deadline() time.Time {
	if len(e.timers) == 0 || !e.wakeAt.IsZero() && e.wakeAt.Before(e.timers[0].at) {
		return e.wakeAt
	}
	return e.timers[0].at
}

// wake has housekeep run at time t or before.
func (e *engine) wake(t time.Time) {
	if e.wakeAt.IsZero() || t.Before(e.wakeAt) {
		e.wakeAt = t
	}
}

// housekeep does what ends and sockets have deadlines for.
func (e *engine) housekeep() {
	e.wakeAt = time.Time{}
	for _, n := range e.ends {
		e.tendServer(n)
		e.tendSockets(n)
	}
}

func (e *engine) do(x effect) { e.out = append(e.out, x) }

func (e *engine) fill(b []byte) {
	if _, err := io.ReadFull(e.random, b); err != nil {
		panic("radius: no randomness: " + err.Error())
	}
}

// jitter is d give or take a tenth (RFC 5080 section 2.2.1).
func (e *engine) jitter(d time.Duration) time.Duration {
	var b [1]byte
	e.fill(b[:])
	return d + d/1280*time.Duration(int(b[0])-128)
}

// status returns what is known of all servers, in the order of the configuration.
func (e *engine) status() []ServerStatus {
	out := make([]ServerStatus, 0, len(e.ends))
	for _, n := range e.ends {
		s := ServerStatus{
			Name: n.Server.Name, Role: n.Role, Address: n.Address, State: n.State, Since: n.Since, LastAnswer: n.Heard,
			RTT: n.RTT, Waiting: n.Waiting.n, Sockets: len(n.Sockets), OpenError: n.OpenError, Counts: n.Counts,
		}
		for _, k := range n.Sockets {
			s.InFlight += k.Busy
		}
		out = append(out, s)
	}
	return out
}
