package site

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config of one virtual router. Zero values mean the defaults named.
type Config struct {
	Tunnels []Tunnel
	// MaxDials is how many tunnels are dialled at once, 1 and up; default 64. The others wait for their turn: when a line
	// comes back thousands of tunnels want a key exchange.
	MaxDials int
	// Resolve is how often names of peers are resolved again, 30 s and up; default 5 minutes. They are resolved again too
	// when a tunnel is dialled.
	Resolve time.Duration
}

// Tunnel is one static tunnel as far as dialling it is concerned.
type Tunnel struct {
	Name  string
	Peers []Peer // primary first; none: a dynamic peer, which can only be answered
	Start Start
	// Disabled tunnels are neither dialled nor answered until an operator says "up".
	Disabled bool
	// Backoff is the pause after the first round that has failed, BackoffMax the longest; default 1 and 60 minutes (D23).
	// Both may be from 1 s to 24 h.
	Backoff, BackoffMax time.Duration
	// Stable is how long a tunnel has to be up before its failures are forgotten; default 2 minutes.
	Stable time.Duration
	// DialTimeout ends a dial that has not come up; default 2 minutes. IKE gives up earlier in most cases.
	DialTimeout time.Duration
	// FallBack is how often a tunnel on a backup tries the peers before it; 0: never (Z-11).
	FallBack time.Duration
	// Idle hangs an on-demand tunnel up that has carried nothing either way for so long; 0: never.
	Idle time.Duration
	// NoReturn ends a tunnel through which packets have gone out for so long with none coming in, two minutes with the
	// routers that do so (Z-6); 0: never. It breaks uses that send one way.
	NoReturn time.Duration
	Check    Check
	// Revision stands for everything that a connection has of the tunnel; when it changes the tunnel's connections end.
	Revision string
}

// Peer is one end that a tunnel may have: an address or a name.
type Peer struct {
	Addr netip.Addr
	Name string // asked for when Addr is not valid
}

// String is the address or the name.
func (p Peer) String() string {
	if p.Addr.IsValid() {
		return p.Addr.String()
	}
	return p.Name
}

// Start says who begins.
type Start uint8

// Ways to start.
const (
	Respond  Start = iota // the peer does
	OnDemand              // we do when the kernel has traffic for the tunnel
	NailedUp              // we do, always
)

// String names the way.
func (s Start) String() string {
	switch s {
	case OnDemand:
		return "on-demand"
	case NailedUp:
		return "nailed-up"
	}
	return "respond"
}

// Check asks a host behind the tunnel whether it can be reached; the zero value is none (Z-11).
type Check struct {
	Target    netip.Addr
	Source    netip.Addr    // of the packets; zero: the kernel's choice
	Port      uint16        // TCP port to connect to; 0: ICMP echo
	Period    time.Duration // 1 s to 1 h, default 30 s
	Timeout   time.Duration // for an answer; default 5 s, at most Period
	Tolerance int           // failures in a row that take the tunnel down, 1 and up; default 3
}

// Limits and defaults.
const (
	MaxPeers = 8 // of one tunnel

	maxAddrs       = 8  // of one name
	maxConns       = 4  // of one tunnel
	maxReasons     = 32 // counted per tunnel
	maxText        = 256
	maxDoublings   = 16
	minPause       = time.Second
	maxPause       = 24 * time.Hour
	minPeriod      = time.Second
	maxPeriod      = time.Hour
	minResolve     = 30 * time.Second
	minFallBack    = 10 * time.Second
	minQuiet       = 10 * time.Second
	firstProbe     = 2 * time.Second  // routes and policies take their time
	resolveTimeout = 30 * time.Second // of the shell's answer
	freshName      = 10 * time.Second // a name that has been resolved just now is not resolved again for a dial
	suspectFor     = 5 * time.Minute  // a dead peer is tried last that long
	takeOver       = 2 * time.Second  // before a connection of ours carries instead of another: the peer may be still at installing its SAs
	linger         = 3 * time.Second  // of a connection beside the one that carries now: the peer may not have switched yet

	defaultMaxDials    = 64
	defaultResolve     = 5 * time.Minute
	defaultBackoff     = time.Minute
	defaultBackoffMax  = 60 * time.Minute
	defaultStable      = 2 * time.Minute
	defaultDialTimeout = 2 * time.Minute
	defaultPeriod      = 30 * time.Second
	defaultTimeout     = 5 * time.Second
	defaultTolerance   = 3
)

// Validate returns everything in the configuration that the engine cannot follow, joined; nil: nothing. [New] needs one
// without errors.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(tunnel, format string, args ...any) {
		errs = append(errs, fmt.Errorf("tunnel %q: %s", tunnel, fmt.Sprintf(format, args...)))
	}
	if c.MaxDials < 1 {
		errs = append(errs, fmt.Errorf("%d dials at once", c.MaxDials))
	}
	if c.Resolve < minResolve {
		errs = append(errs, fmt.Errorf("names resolved every %v, more often than every %v", c.Resolve, minResolve))
	}
	seen := map[string]bool{}
	for _, t := range c.Tunnels {
		outside := func(what string, d, least, most time.Duration) {
			if d < least || d > most {
				bad(t.Name, "%s of %v is not between %v and %v", what, d, least, most)
			}
		}
		if t.Name == "" || seen[t.Name] {
			bad(t.Name, "has no name, or another one's")
		}
		seen[t.Name] = true
		if len(t.Peers) > MaxPeers {
			bad(t.Name, "%d peers, at most %d", len(t.Peers), MaxPeers)
		}
		peers := map[Peer]bool{}
		for _, p := range t.Peers {
			if p.Addr.IsValid() == (p.Name != "") || peers[p] {
				bad(t.Name, "peer %q is not an address or a name, or stands there twice", p)
			}
			peers[p] = true
		}
		if t.Start > NailedUp || t.Start != Respond && len(t.Peers) == 0 {
			bad(t.Name, "start %v needs a peer", t.Start)
		}
		outside("back-off", t.Backoff, minPause, t.BackoffMax)
		outside("longest back-off", t.BackoffMax, t.Backoff, maxPause)
		outside("stable time", t.Stable, minPause, maxPause)
		outside("dial timeout", t.DialTimeout, minPause, maxPause)
		if t.FallBack != 0 {
			outside("fall-back", t.FallBack, minFallBack, maxPause)
		}
		if t.Idle != 0 {
			outside("idle time", t.Idle, minQuiet, maxPause)
		}
		if t.NoReturn != 0 {
			outside("time without return traffic", t.NoReturn, minQuiet, maxPause)
		}
		if t.Check.on() {
			outside("check period", t.Check.Period, minPeriod, maxPeriod)
			outside("check timeout", t.Check.Timeout, time.Millisecond, t.Check.Period)
			if t.Check.Tolerance < 1 {
				bad(t.Name, "tolerance of %d failed checks", t.Check.Tolerance)
			}
		}
	}
	return errors.Join(errs...)
}

// withDefaults fills the zero values in.
func (c Config) withDefaults() Config {
	orDefault(&c.MaxDials, defaultMaxDials)
	orDefault(&c.Resolve, defaultResolve)
	tunnels := make([]Tunnel, len(c.Tunnels))
	for i, t := range c.Tunnels {
		peers := make([]Peer, len(t.Peers))
		for k, p := range t.Peers {
			peers[k] = Peer{Addr: p.Addr.Unmap(), Name: p.Name}
		}
		t.Peers = peers
		orDefault(&t.BackoffMax, max(defaultBackoffMax, t.Backoff))
		orDefault(&t.Backoff, min(defaultBackoff, t.BackoffMax))
		orDefault(&t.Stable, defaultStable)
		orDefault(&t.DialTimeout, defaultDialTimeout)
		if t.Check.on() {
			orDefault(&t.Check.Period, defaultPeriod)
			orDefault(&t.Check.Timeout, min(defaultTimeout, t.Check.Period))
			orDefault(&t.Check.Tolerance, defaultTolerance)
		}
		tunnels[i] = t
	}
	c.Tunnels = tunnels
	return c
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c Check) on() bool { return c.Target.IsValid() }

// dials tells whether we ever begin.
func (t *Tunnel) dials() bool { return t.Start != Respond && len(t.Peers) > 0 }
