package vr

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Traffic is what a subscriber may send and receive. The zero value is everything.
type Traffic struct {
	In  Flow // from the subscriber
	Out Flow // to it
}

// Flow is one direction.
type Flow struct {
	// Rates all hold; at most MaxRates. What is beyond one of them is dropped.
	Rates []Rate
	// Rules are at most MaxRules. The first that matches a packet decides; a packet that none matches passes, so a list
	// that shall let pass only what it names ends in a Rule without conditions. What they drop counts towards no rate.
	Rules []Rule
}

func (f Flow) none() bool { return len(f.Rates) == 0 && len(f.Rules) == 0 }

func (f Flow) equal(g Flow) bool {
	return slices.Equal(f.Rates, g.Rates) && slices.Equal(f.Rules, g.Rules)
}

// MaxRates bounds the rates of one direction: a subscriber's own and its policy's.
const MaxRates = 2

// Rate bounds a direction's IP packets, headers included.
type Rate struct {
	// Bits per second, MinRate to MaxRate.
	Bits uint64
	// Burst is how many bytes may come at once, 0 for what suits the rate: what it carries in 100 ms. It is never less than
	// MinBurst, and never more than the rate carries in 4 minutes.
	Burst uint32
}

// Bounds of rates in bits per second and of bursts in bytes.
const (
	MinRate  = 8_000
	MaxRate  = 100_000_000_000
	MinBurst = 72 << 10 // a packet of 64 KiB that has yet to be cut into segments, with their headers: a smaller burst would never let it pass
)

const (
	burstTime = 100 * time.Millisecond // the longest round trip that a single TCP connection needs the whole rate over
	longBurst = 240 * time.Second      // what the kernel's unit can say, with room
)

// burst is in bytes.
func (r Rate) burst() uint64 {
	bytes := r.Bits / 8
	want := uint64(r.Burst)
	if want == 0 {
		want = bytes / uint64(time.Second/burstTime)
	}
	return max(MinBurst, min(want, bytes*uint64(longBurst/time.Second)))
}

// ticks is the time that a burst takes at the rate, in the kernel's unit.
func (r Rate) ticks() uint32 {
	seconds := float64(r.burst()) / float64(r.Bits/8)
	return uint32(min(seconds*float64(time.Second/tickLength), math.MaxUint32))
}

func (t Traffic) check(router string) error {
	bad := func(format string, args ...any) error {
		return &BadSpec{Router: router, Reason: "a subscriber's traffic: " + fmt.Sprintf(format, args...)}
	}
	for _, f := range []Flow{t.In, t.Out} {
		if len(f.Rates) > MaxRates || len(f.Rules) > MaxRules {
			return bad("%d rates and %d rules, at most %d and %d are possible", len(f.Rates), len(f.Rules), MaxRates, MaxRules)
		}
		for _, r := range f.Rates {
			if r.Bits < MinRate || r.Bits > MaxRate {
				return bad("a rate of %d bit/s is not %d to %d", r.Bits, MinRate, uint64(MaxRate))
			}
		}
		for _, r := range f.Rules {
			if s := r.check(); s != "" {
				return bad("a rule with %s", s)
			}
		}
	}
	return nil
}

// A direction of a link's traffic control:
//
//	chain 0    for each subscriber a flower filter for its packets: by its address on a link that many share, for all
//	           packets on one of its own. It goes on with the subscriber's chain. Filters of one mask are in
//	           a hash table, so that their number does not matter; a longer mask comes first, as in a routing table.
//	chain n    the subscriber's: a filter with the rules' program, and the rates as its actions; then one that drops.
//
// A subscriber has two chain numbers in turn. A change fills the one that is not in use, has the kernel exchange the filter
// in chain 0, which leaves no moment without one, and empties the other when no packet can be in it any more.
const (
	// entryPriority is where our filters in chain 0 begin: behind those that somebody else puts there for a look.
	entryPriority = 1000
	rulesPriority = 1
	elsePriority  = 2
	chainsEach    = 2
	maxSlots      = maxChain/chainsEach - 1
)

// Names of the counters of traffic control, see Router.Drops.
const (
	dropPolicy = "policy" // by a rule
	dropRate   = "rate"   // beyond a rate
)

// tally are the indices of the two actions that a router's subscribers share, which drop and count. They are the
// namespace's; each router has its own.
type tally struct{ policy, rate uint32 }

func tallyOf(router string) tally {
	h := fnv.New32a()
	h.Write([]byte("traffic " + router))
	n := 0x40000000 | h.Sum32()&0x1fffffff<<1 // far above what the kernel gives by itself
	return tally{policy: n, rate: n | 1}
}

// shared is traffic control on one link: a PPP device's, or an XFRM interface's with its many subscribers.
type shared struct {
	router string
	link   int
	tc     *control
	tally  tally
	arises start // of packets from subscribers

	mu    sync.Mutex
	place bool     // the link has the place for filters
	ready bool     // and all else that they need is there
	next  uint32   // slots below have been given
	free  []uint32 // and these given back
}

// slot takes a free number, from 1.
func (s *shared) slot() (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot, nil
	}
	if s.next == maxSlots {
		return 0, failed(unix.ENOSPC, "traffic control of link %d", s.link)
	}
	s.next++
	return s.next, nil
}

func (s *shared) giveBack(slot uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, slot)
}

// prepare makes what filters need, once.
func (s *shared) prepare() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return nil
	}
	if err := s.hold(); err != nil {
		return err
	}
	for _, index := range []uint32{s.tally.policy, s.tally.rate} {
		if err := s.tc.addVerdict(actShot, index); err != nil {
			return err
		}
	}
	s.ready = true
	return nil
}

// hold makes the place for filters, once. The kernel sends nothing by the link meanwhile, which others of its subscribers would
// notice: do it before the link is up, if it is theirs too.
func (s *shared) hold() error {
	if s.place {
		return nil
	}
	if err := s.tc.addClsact(s.link); err != nil {
		return err
	}
	s.place = true
	return nil
}

// Shaper is one subscriber's traffic control. Its methods must not be called at the same time; those of different
// Shapers may.
type Shaper struct {
	on       *shared
	networks []netip.Prefix // the subscriber's; the zero Prefix where the link is its own
	slot     uint32
	flows    [2]direction // from and to the subscriber
}

// direction is what is in the kernel.
type direction struct {
	flow Flow
	turn uint32 // which of the two chains, if any
}

// Shaper prepares the traffic control of a subscriber whose link is its own. It does nothing to the kernel, and what Set
// does goes with the link.
func (r *Router) Shaper(ifindex int) *Shaper {
	return &Shaper{on: &shared{router: r.name, link: ifindex, tc: r.tc, tally: r.tally}, networks: []netip.Prefix{{}}, slot: 1}
}

// Shaper prepares the traffic control of a subscriber with the given addresses, which must be IPv4 and no other's. Close
// gives back what it has.
func (a *Access) Shaper(networks ...netip.Prefix) (*Shaper, error) {
	for _, n := range networks {
		if !n.Addr().Is4() || n != n.Masked() {
			return nil, &BadSpec{Router: a.name, Reason: fmt.Sprintf("a subscriber's network %s is not one of IPv4", n)}
		}
	}
	slot, err := a.shared.slot()
	if err != nil {
		return nil, err
	}
	return &Shaper{on: a.shared, networks: slices.Clone(networks), slot: slot}, nil
}

// Set replaces rates and rules. A packet meets the old ones or the new, never none; on failure the old ones hold.
// What a rate has counted begins anew where its direction changes.
//
// Errors: *BadSpec, *MissingFeature, ErrNotFound when the link has gone.
func (s *Shaper) Set(t Traffic) error {
	if err := t.check(s.on.router); err != nil {
		return err
	}
	want := [2]Flow{t.In, t.Out}
	if want[0].equal(s.flows[0].flow) && want[1].equal(s.flows[1].flow) {
		return nil
	}
	err := s.replace(want)
	return failed(err, "traffic control of link %d", s.on.link)
}

func (s *Shaper) replace(want [2]Flow) error {
	if err := s.on.prepare(); err != nil {
		return err
	}
	old := s.flows
	var next [2]direction
	for d, flow := range want {
		next[d] = direction{flow: flow, turn: old[d].turn}
		if flow.equal(old[d].flow) || flow.none() {
			continue
		}
		next[d].turn = 1 - old[d].turn
		if err := s.fill(d, next[d]); err != nil {
			return errors.Join(err, s.empty(old, next))
		}
	}
	for d := range next {
		if next[d].flow.equal(old[d].flow) {
			continue
		}
		if err := s.enter(d, next[d]); err != nil {
			// Back, the direction that failed half way first.
			var back error
			for ; d >= 0; d-- {
				back = errors.Join(back, s.enter(d, old[d]))
			}
			return errors.Join(err, back, s.empty(old, next))
		}
	}
	s.flows = next
	return s.empty(next, old)
}

// fill makes the chain of a direction.
func (s *Shaper) fill(d int, next direction) error {
	f := filter{index: s.on.link, parent: parent(d), chain: s.chain(next), priority: elsePriority, protocol: unix.ETH_P_ALL, kind: "matchall"}
	if err := s.on.tc.flush(f.index, f.parent, f.chain); err != nil {
		return err
	}
	rates := s.rates(next.flow.Rates)
	if len(next.flow.Rules) == 0 {
		f.options = matchAll(rates...)
		return s.on.tc.set(f)
	}
	f.options = matchAll(gact(actShot, s.on.tally.policy))
	if err := s.on.tc.set(f); err != nil {
		return err
	}
	at := startAtOnce
	if d == from {
		at = s.on.arises
	}
	f.priority, f.kind, f.options = rulesPriority, "bpf", match(program(next.flow.Rules, d == from, at), rates...)
	return s.on.tc.set(f)
}

// rates are the actions that let pass what is within all rates and drop the rest.
func (s *Shaper) rates(rates []Rate) [][]byte {
	if len(rates) == 0 {
		return [][]byte{gact(actOK, 0)}
	}
	var actions [][]byte
	for i, r := range rates {
		within := uint32(actPipe)
		if i == len(rates)-1 {
			within = actOK
		}
		actions = append(actions, police(r, within, actJump|uint32(len(rates))))
	}
	return append(actions, gact(actShot, s.on.tally.rate))
}

// enter has packets of a direction go through its chain, or through none.
func (s *Shaper) enter(d int, next direction) error {
	var failed error
	for _, n := range s.networks {
		f := filter{index: s.on.link, parent: parent(d), priority: entryPriority, protocol: unix.ETH_P_ALL, handle: s.slot, kind: "flower"}
		if n.IsValid() {
			f.priority, f.protocol = entryPriority+1+uint16(32-n.Bits()), unix.ETH_P_IP
		}
		if next.flow.none() {
			failed = errors.Join(failed, s.on.tc.remove(f))
			continue
		}
		f.options = flower(n, d == from, gact(actGoto|s.chain(next), 0))
		if err := s.on.tc.set(f); err != nil {
			return err
		}
	}
	return failed
}

// empty removes the chains of other that are not in use, once no packet is in them.
func (s *Shaper) empty(use, other [2]direction) error {
	var failed error
	settled := false
	for d := range other {
		if !other[d].flow.none() && (use[d].flow.none() || use[d].turn != other[d].turn) {
			if !settled {
				settle()
				settled = true
			}
			failed = errors.Join(failed, s.on.tc.flush(s.on.link, parent(d), s.chain(other[d])))
		}
	}
	return failed
}

// Close removes the filters. The link may have gone. It is idempotent.
func (s *Shaper) Close() error {
	if s.slot == 0 {
		return nil
	}
	var err error
	if !s.flows[from].flow.none() || !s.flows[to].flow.none() {
		err = failed(s.replace([2]Flow{}), "traffic control of link %d", s.on.link)
	}
	s.on.giveBack(s.slot)
	s.slot = 0
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// Directions by index of Shaper.flows.
const (
	from = 0
	to   = 1
)

func parent(d int) uint32 {
	if d == from {
		return ingressParent
	}
	return egressParent
}

func (s *Shaper) chain(d direction) uint32 { return s.slot*chainsEach + d.turn }

// settle waits until no processor is within a filter that has been exchanged. Emptying a chain that a packet is just
// about to enter would let it pass.
func settle() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL: an RCU grace period
	// It fails only where kernels are built or started without it; then the time that a system call takes has to do.
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0)
}

// removeTally removes the shared actions. The kernel lets go of them in a worker some time after the last filter has gone.
// What somebody holds on to is left: the next Open takes it over.
func (r *Router) removeTally(patience time.Duration) error {
	var failed error
	for _, index := range []uint32{r.tally.policy, r.tally.rate} {
		end := time.Now().Add(patience)
		err := r.tc.removeVerdict(index)
		for errors.Is(err, unix.EPERM) && time.Now().Before(end) {
			time.Sleep(tallyPause)
			err = r.tc.removeVerdict(index)
		}
		if !errors.Is(err, unix.EPERM) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

const (
	tallyPatience = time.Second
	tallyPause    = 5 * time.Millisecond
)

// tallies adds what the shared actions have counted.
func (r *Router) tallies(drops map[string]uint64) error {
	for name, index := range map[string]uint32{dropPolicy: r.tally.policy, dropRate: r.tally.rate} {
		n, err := r.tc.verdicts(index)
		if err != nil {
			return failed(err, "virtual router %s: read counters", r.name)
		}
		drops[name] = n
	}
	return nil
}
