package site

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// State is what a tunnel is doing.
type State uint8

// States of a tunnel.
const (
	StateDown      State = iota // rests until there is traffic, or its peer calls
	StateWaiting                // for the end of a pause
	StateResolving              // the name of a peer
	StateQueued                 // too many other tunnels are being dialled
	StateDialling
	StateChecking // has a connection, whose check has not passed yet
	StateUp
	StateAdminDown
)

var stateNames = [...]string{"down", "waiting", "resolving", "queued", "dialling", "checking", "up", "admin-down"}

// String is the state's name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Info is one tunnel for the operator.
type Info struct {
	Name     string
	Start    Start
	State    State
	Since    time.Time // of the state
	Until    time.Time // when a waiting tunnel is dialled
	Reason   Reason    // why it is not up; empty if it is
	Text     string
	Peer     netip.Addr // that it is up with, or dials
	Conn     uint32     // that carries it, 0 if none does
	Others   []uint32   // connections beside, in ascending order
	Ours     bool       // we have dialled
	UpSince  time.Time  // over all changes of the connection
	FallBack time.Time  // when the peers before the present one are tried; zero: not at all
	Peers    []PeerInfo // in the order of the configuration
	Failure  Failure    // last
	Failed   int        // rounds without success since it was stable
	Check    CheckInfo
	// Lapsed says why pairs of networks of the connection that carries it are missing.
	Lapsed map[string]Failure

	Attempts, Ups               uint64 // dials, and times that it came up
	FallOvers, FallBacks, Moves uint64
	Failures                    map[Reason]uint64
}

// PeerInfo is one peer of a tunnel.
type PeerInfo struct {
	Peer     Peer
	Addrs    []netip.Addr // that its name has
	Resolved time.Time    // when it was last asked for
	Reason   Reason       // why that failed
	Text     string
}

// CheckInfo is what the connectivity check has found.
type CheckInfo struct {
	Check      Check
	OK         bool          // the last result
	At         time.Time     // of the last result; zero: there is none
	RTT        time.Duration // of the last that was good
	Text       string        // what went wrong last
	Failed     int           // in a row
	Sent, Lost uint64
}

// present is what a tunnel is doing.
func (e *Engine) present(t *tunnel) Changed {
	c := Changed{Tunnel: t.cfg.Name, Since: t.Since, Reason: t.Failure.Reason, Text: t.Failure.Text}
	if t.dial != nil {
		c.Peer = t.dial.peer
	}
	switch {
	case t.Admin:
		c.State, c.Reason, c.Text, c.Peer = StateAdminDown, t.AdminWhy, "", netip.Addr{}
	case t.active != nil:
		c.State, c.Reason, c.Text, c.Peer, c.Conn = StateUp, "", "", t.active.Peer, t.active.ID
		if t.cfg.Check.on() && !t.Check.Passed {
			c.State = StateChecking
		}
	case t.dial != nil:
		c.State = StateDialling
	case t.try != nil && t.try.stage == stageQueued:
		c.State, c.Reason, c.Text = StateQueued, ReasonBusy, ""
	case t.try != nil:
		c.State = StateResolving
	case !t.RetryAt.IsZero():
		c.State, c.Until = StateWaiting, t.RetryAt
	case e.closed:
		c.Reason, c.Text = ReasonShutdown, ""
	case t.cfg.Start == OnDemand:
		c.Reason, c.Text = ReasonNoTraffic, ""
	default:
		c.Reason, c.Text = ReasonAwaitsPeer, ""
	}
	return c
}

// report says what a tunnel is doing, if it is something else than it was.
func (e *Engine) report(t *tunnel) {
	c := e.present(t)
	if c.State != t.State {
		t.State, t.Since = c.State, e.now
	}
	c.Since = t.Since
	if c != t.told {
		t.told = c
		e.emit(c)
	}
}

// Tunnels lists all tunnels by name.
func (e *Engine) Tunnels() []Info {
	var out []Info
	for _, t := range e.sorted() {
		out = append(out, e.info(t))
	}
	return out
}

// Tunnel is one tunnel; false: there is none of that name.
func (e *Engine) Tunnel(name string) (Info, bool) {
	t := e.tunnels[name]
	if t == nil {
		return Info{}, false
	}
	return e.info(t), true
}

func (e *Engine) info(t *tunnel) Info {
	c := e.present(t)
	i := Info{
		Name: t.cfg.Name, Start: t.cfg.Start, State: c.State, Since: c.Since, Until: c.Until, Reason: c.Reason, Text: c.Text, Peer: c.Peer, Conn: c.Conn,
		UpSince: t.UpSince, FallBack: t.FallAt, Failure: t.Failure, Failed: t.Failures,
		Check: CheckInfo{
			Check: t.cfg.Check, OK: t.Check.OK, At: t.Check.At, RTT: t.Check.RTT, Text: t.Check.Text, Failed: t.Check.Failed, Sent: t.Check.Sent, Lost: t.Check.Lost,
		},
		Attempts: t.Attempts, Ups: t.Ups, FallOvers: t.FallOvers, FallBacks: t.FallBacks, Moves: t.Moves, Failures: maps.Clone(t.Counts),
	}
	for _, o := range t.conns {
		if o == t.active {
			i.Ours, i.Lapsed = o.Ours, maps.Clone(o.Lapsed)
		} else {
			i.Others = append(i.Others, o.ID)
		}
	}
	slices.Sort(i.Others)
	for _, p := range t.cfg.Peers {
		pi := PeerInfo{Peer: p}
		if n := e.names[p.Name]; !p.Addr.IsValid() && n != nil {
			pi.Addrs, pi.Resolved, pi.Reason, pi.Text = slices.Clone(n.Addrs), n.At, n.Reason, n.Text
		}
		i.Peers = append(i.Peers, pi)
	}
	return i
}
