package site

import (
	"net/netip"
	"time"
)

// Event is what happens to the engine.
type Event interface{ siteEvent() }

// Timer says that Deadline may have passed.
type Timer struct{}

// Up says that a connection of a tunnel carries traffic: its first IPsec SAs are in the kernel. It answers [Dial] when Ref is
// that of a dial; otherwise the peer has called. It comes again with the Ref of a dial that has met a connection of the peer's
// own, which ends the dial.
type Up struct {
	Tunnel string
	Ref    uint64
	Conn   uint32 // not 0, and of one connection at a time
	Peer   netip.Addr
}

// Down says that a connection is over, or with a Ref that a dial has failed. Every [Dial] ends in exactly one Down, with or
// without an Up before; so does every Up.
type Down struct {
	Ref    uint64
	Conn   uint32 // 0: the dial never became a connection
	Reason Reason
	Text   string
	Dead   bool // the peer is not there: another one is tried first
}

// Moved says that the peer of a connection is at another address now, and that the connection has followed it there: a NAT before
// the peer has another one.
type Moved struct {
	Conn uint32
	Peer netip.Addr
}

// PairUp says that a pair of networks of a connection that is up carries traffic.
type PairUp struct {
	Conn uint32
	Pair string
}

// PairDown says that a pair of networks has been lost, or could not be had, while its connection goes on.
type PairDown struct {
	Conn   uint32
	Pair   string
	Reason Reason
	Text   string
}

// Resolved answers [Resolve]. It may also come unasked, when the shell knows that a name has changed.
type Resolved struct {
	Name   string
	Addrs  []netip.Addr // in the order in which they are tried
	Reason Reason       // why there are none; Addrs does not count then
	Text   string
}

// Acquire says that the kernel has traffic for a tunnel that is down.
type Acquire struct{ Tunnel string }

// CheckResult answers [Probe].
type CheckResult struct {
	Tunnel string
	Seq    uint64 // of the Probe
	OK     bool
	RTT    time.Duration
	Text   string // what went wrong
}

// Traffic answers [ReadTraffic] with what the connection's SAs have carried since it is up, over all rekeys.
type Traffic struct {
	Conn                  uint32
	InPackets, OutPackets uint64
}

// Operator is a word of the operator. It is answered by exactly one [Answer].
type Operator struct {
	Ref     uint64
	Tunnel  string
	Command Command
}

// CloseAll hangs everything up and dials no more (process stop). The engine is of no use afterwards.
type CloseAll struct{ Reason Reason }

// Reconfigure replaces the configuration; see reload.go for what it ends.
type Reconfigure struct{ Config Config }

func (Timer) siteEvent()       {}
func (Up) siteEvent()          {}
func (Down) siteEvent()        {}
func (Moved) siteEvent()       {}
func (PairUp) siteEvent()      {}
func (PairDown) siteEvent()    {}
func (Resolved) siteEvent()    {}
func (Acquire) siteEvent()     {}
func (CheckResult) siteEvent() {}
func (Traffic) siteEvent()     {}
func (Operator) siteEvent()    {}
func (CloseAll) siteEvent()    {}
func (Reconfigure) siteEvent() {}

// Effect is what the engine wants done.
type Effect interface{ siteEffect() }

// Dial has a connection made. There is never more than one dial of a tunnel under way.
type Dial struct {
	Ref    uint64 // not 0
	Tunnel string
	Peer   netip.Addr
}

// HangUp ends a connection, or with Conn 0 the dial Ref. A shell that cannot break off a dial may let it go on: if it comes
// up it is hung up then. The Down of a dial must come all the same; that of a connection is not waited for.
type HangUp struct {
	Tunnel string
	Ref    uint64
	Conn   uint32
	Reason Reason
	Text   string
}

// Complete has the pairs of networks opened that a connection does not have. [PairUp] or [PairDown] follows for each; where all
// are there nothing does.
type Complete struct {
	Tunnel string
	Conn   uint32
}

// Carry names the connection that carries a tunnel's traffic from now on; Conn 0: none does. It comes before the HangUp of
// the one that did, by a few seconds where both are up.
type Carry struct {
	Tunnel string
	Conn   uint32
}

// Admit says from which addresses a tunnel's peer may call from now on and which may answer; Any: all. A tunnel that was
// never admitted may not be called. It comes whenever that changes.
type Admit struct {
	Tunnel string
	Open   bool // false: nobody may
	Any    bool
	Peers  []netip.Addr // in ascending order
}

// Resolve has the addresses of a name looked up. Answer: [Resolved]; without one for 30 s it counts as failed.
type Resolve struct{ Name string }

// Probe has a host asked through the tunnel whether it is there. Answer: [CheckResult]; without one for Check.Timeout it
// counts as failed.
type Probe struct {
	Tunnel string
	Seq    uint64
	Check  Check
}

// ReadTraffic has the counters of a connection read. Answer: [Traffic].
type ReadTraffic struct {
	Tunnel string
	Conn   uint32
}

// Answer is what became of a word of the operator.
type Answer struct {
	Ref    uint64
	Reason Reason // empty: done
	Text   string
}

// Changed says that a tunnel has another state, or another connection carries it.
type Changed struct {
	Tunnel string
	State  State
	Since  time.Time
	Until  time.Time // when a waiting tunnel is dialled
	Reason Reason    // why it is not up; empty if it is
	Text   string
	Peer   netip.Addr // that it is up with, or dials
	Conn   uint32     // that carries it
}

func (Dial) siteEffect()        {}
func (HangUp) siteEffect()      {}
func (Complete) siteEffect()    {}
func (Carry) siteEffect()       {}
func (Admit) siteEffect()       {}
func (Resolve) siteEffect()     {}
func (Probe) siteEffect()       {}
func (ReadTraffic) siteEffect() {}
func (Answer) siteEffect()      {}
func (Changed) siteEffect()     {}
