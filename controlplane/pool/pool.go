// Package pool hands out inner addresses. A Pool is a plain value owned by one
// goroutine, one per virtual router: two virtual routers may lease the same address.
//
// A lease belongs to a key (the user and device), never to a source address: users
// behind one NAT must not get one address (clients.md, complaint 25). An address that
// was released is kept for its last holder as long as others are free; then it goes to
// somebody else, those that have been free for longest first.
//
// What a key has before its last NUL names its kin: one device that is known by
// different keys in different places. Who comes by a new key gets what its kin had last.
//
// Nothing here takes longer in a larger or fuller pool, but for finding one of several ranges.
package pool

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// Errors of Lease and Claim. Their text is the typed reason shown to operators.
var (
	ErrExhausted = errors.New("address pool exhausted")
	ErrInUse     = errors.New("address already in use")
	ErrForeign   = errors.New("address is not usable in this virtual router")
)

// MaxAddresses bounds one pool's ranges together.
const MaxAddresses = 1 << 20

// Range is an inclusive range of IPv4 addresses.
type Range struct{ First, Last netip.Addr }

// Config of a pool.
type Config struct {
	Ranges []Range
	// Exclude lists addresses that are never leased dynamically: our own, and those
	// fixed to users. What is outside Ranges has no effect.
	Exclude []Range
}

// Pool leases addresses from its ranges and keeps account of fixed ones outside them.
type Pool struct {
	spans []span // ascending
	total int    // leasable addresses
	used  int    // of them leased
	fresh int    // of them never leased, and so in no list
	span  int    // before it no span has a fresh address
	// at holds every address that is leased or remembered for its last holder; the latter are in
	// idle, longest free first, and in the lists of their key and kin, longest free last.
	at         map[netip.Addr]*lease
	idle       list
	keys, kins map[string]*list
	// changed are the leases that Changes has not returned yet.
	changed []*lease
	seq     uint64
}

// span is one range with its bitmaps, where the bits behind its end are set.
type span struct {
	first    uint32
	size     uint32
	taken    []uint64 // excluded, leased or remembered
	excluded []uint64
	next     int // before it no word of taken has a zero
}

// lease is an address that has a holder, or had one.
type lease struct {
	addr    netip.Addr
	key     string
	seq     uint64
	held    bool
	dynamic bool // of the ranges: it is counted and remembered
	changed bool
	in      [byKin + 1]links
}

// New checks the configuration: IPv4 only, ranges ascending and disjoint, at most MaxAddresses.
func New(c Config) (*Pool, error) {
	p := &Pool{at: map[netip.Addr]*lease{}, keys: map[string]*list{}, kins: map[string]*list{}}
	total := uint64(0)
	for _, r := range c.Ranges {
		if !r.valid() {
			return nil, fmt.Errorf("range %v-%v is not an ascending range of IPv4 addresses", r.First, r.Last)
		}
		total += uint64(toUint(r.Last)-toUint(r.First)) + 1
		if total > MaxAddresses {
			return nil, fmt.Errorf("pool holds more than %d addresses", MaxAddresses)
		}
		p.spans = append(p.spans, newSpan(r))
	}
	slices.SortFunc(p.spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(p.spans); i++ {
		if prev := p.spans[i-1]; uint64(prev.first)+uint64(prev.size) > uint64(p.spans[i].first) {
			return nil, fmt.Errorf("ranges overlap at %v", toAddr(p.spans[i].first))
		}
	}
	for _, r := range c.Exclude {
		if !r.valid() {
			return nil, fmt.Errorf("excluded range %v-%v is not an ascending range of IPv4 addresses", r.First, r.Last)
		}
		for i := range p.spans {
			p.spans[i].exclude(toUint(r.First), toUint(r.Last))
		}
	}
	for i := range p.spans {
		p.total += p.spans[i].leasable()
	}
	p.fresh = p.total
	return p, nil
}

func (r Range) valid() bool { return r.First.Is4() && r.Last.Is4() && !r.Last.Less(r.First) }

func newSpan(r Range) span {
	s := span{first: toUint(r.First), size: toUint(r.Last) - toUint(r.First) + 1}
	s.taken = make([]uint64, (s.size+63)/64)
	if rest := s.size % 64; rest != 0 {
		s.taken[len(s.taken)-1] = ^uint64(0) << rest
	}
	s.excluded = slices.Clone(s.taken)
	return s
}

// exclude takes the addresses from first to last that are in the span out of it.
func (s *span) exclude(first, last uint32) {
	first, last = max(first, s.first), min(last, s.first+s.size-1)
	for n := uint64(first); n <= uint64(last); n++ {
		bit := uint32(n) - s.first
		s.taken[bit/64] |= 1 << (bit % 64)
		s.excluded[bit/64] |= 1 << (bit % 64)
	}
}

func (s *span) leasable() (n int) {
	for _, w := range s.excluded {
		n += bits.OnesCount64(^w)
	}
	return n
}

// Lease gives key a free address, the one that it or else its kin held last when that is
// still free.
func (p *Pool) Lease(key string) (netip.Addr, error) {
	l := p.keys[key].first()
	if l == nil {
		l = p.kins[kinOf(key)].first()
	}
	if l == nil {
		l = p.takeFresh()
	}
	if l == nil {
		l = p.idle.first() // somebody else's
	}
	if l == nil {
		return netip.Addr{}, ErrExhausted
	}
	p.hold(l, key)
	return l.addr, nil
}

// takeFresh returns the lowest address that was never leased, nil if there is none.
func (p *Pool) takeFresh() *lease {
	for ; p.fresh > 0; p.span++ {
		s := &p.spans[p.span]
		for ; s.next < len(s.taken); s.next++ {
			if free := ^s.taken[s.next]; free != 0 {
				return p.touch(s, uint32(s.next)*64+uint32(bits.TrailingZeros64(free)))
			}
		}
	}
	return nil
}

// touch makes the lease of a fresh address.
func (p *Pool) touch(s *span, bit uint32) *lease {
	s.taken[bit/64] |= 1 << (bit % 64)
	p.fresh--
	l := &lease{addr: toAddr(s.first + bit), dynamic: true}
	p.at[l.addr] = l
	return l
}

// hold gives a free address of the ranges to key.
func (p *Pool) hold(l *lease, key string) {
	p.forget(l)
	p.used++
	p.seq++
	l.held, l.key, l.seq = true, key, p.seq
	p.change(l)
}

// Claim takes a fixed address for key, inside the ranges (then it must be excluded from
// dynamic leases or free) or outside them.
func (p *Pool) Claim(key string, a netip.Addr) error {
	if !Usable(a) {
		return ErrForeign
	}
	l := p.at[a]
	if l != nil && l.held {
		return ErrInUse
	}
	s, bit := p.find(a)
	switch {
	case s == nil || s.excluded[bit/64]&(1<<(bit%64)) != 0:
		p.at[a] = &lease{addr: a, key: key, held: true}
		return nil
	case l == nil:
		l = p.touch(s, bit)
	}
	p.hold(l, key)
	return nil
}

// Usable says whether an address can be a subscriber's at all.
func Usable(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && toUint(a) != 0xffffffff
}

// Release gives back what Lease or Claim gave. Releasing what is not held, or is held by
// another key, does nothing.
func (p *Pool) Release(key string, a netip.Addr) {
	l := p.at[a]
	if l == nil || !l.held || l.key != key {
		return
	}
	l.held = false
	if !l.dynamic {
		delete(p.at, a)
		return
	}
	p.used--
	p.remember(l)
}

// remember keeps a free address for who had it last.
func (p *Pool) remember(l *lease) {
	p.idle.pushBack(byAge, l)
	pushFront(p.keys, l.key, byKey, l)
	if kin := kinOf(l.key); kin != "" {
		pushFront(p.kins, kin, byKin, l)
	}
}

// forget undoes remember. It does nothing to a lease that is not remembered.
func (p *Pool) forget(l *lease) {
	if !p.idle.has(byAge, l) {
		return
	}
	p.idle.remove(byAge, l)
	remove(p.keys, l.key, byKey, l)
	if kin := kinOf(l.key); kin != "" {
		remove(p.kins, kin, byKin, l)
	}
}

// kinOf is the name of a key's kin, "" if it has none.
func kinOf(key string) string { return key[:strings.LastIndexByte(key, 0)+1] }

// Holder returns the key that holds a.
func (p *Pool) Holder(a netip.Addr) (string, bool) {
	if l := p.at[a]; l != nil && l.held {
		return l.key, true
	}
	return "", false
}

// Covers says whether an address is in the ranges, excluded or not.
func (p *Pool) Covers(a netip.Addr) bool {
	s, _ := p.find(a)
	return s != nil
}

// Usage returns the number of addresses leased from the ranges, and of those that can be.
func (p *Pool) Usage() (used, total int) { return p.used, p.total }

// find returns the span of an address and its bit there; nil: it is in none.
func (p *Pool) find(a netip.Addr) (*span, uint32) {
	if !a.Is4() {
		return nil, 0
	}
	u := toUint(a)
	i, found := slices.BinarySearchFunc(p.spans, u, func(s span, u uint32) int { return cmp.Compare(s.first, u) })
	if !found {
		i--
	}
	if i < 0 || u-p.spans[i].first >= p.spans[i].size {
		return nil, 0
	}
	return &p.spans[i], u - p.spans[i].first
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func toAddr(u uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)})
}
