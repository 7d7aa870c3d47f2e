// Package pool hands out inner addresses. A Pool is a plain value owned by one
// goroutine, one per virtual router: two virtual routers may lease the same address.
//
// A lease belongs to a key (the user and device), never to a source address: users
// behind one NAT must not get one address (clients.md, complaint 25). An address that
// was released is kept for its last holder as long as others are free.
//
// What a key has before its last NUL names its kin: one device that is known by
// different keys in different places. Who comes by a new key gets what its kin had last.
package pool

import (
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

// stickyLimit bounds the memory of past holders per pool, as a multiple of its size.
const stickyLimit = 2

// Range is an inclusive range of IPv4 addresses.
type Range struct{ First, Last netip.Addr }

// Config of a pool.
type Config struct {
	Ranges []Range
	// Exclude lists addresses inside the ranges that are never leased dynamically:
	// our own, and those fixed to users.
	Exclude []netip.Addr
}

// Pool leases addresses from its ranges and keeps account of fixed ones outside them.
type Pool struct {
	ranges  []span
	total   int // leasable addresses
	used    int // dynamic leases out
	held    map[netip.Addr]string
	sticky  map[string]netip.Addr
	past    map[netip.Addr]string // last holder of a free address
	kin     map[string]string     // the key of each kin that released an address last
	exclude map[netip.Addr]bool
}

// span is one range with its bitmap: a set bit is leased or excluded.
type span struct {
	first uint32
	size  uint32
	taken []uint64
	next  uint32 // word to look at first: next fit
}

// New checks the configuration: IPv4 only, ranges ordered and disjoint, at most MaxAddresses.
func New(c Config) (*Pool, error) {
	p := &Pool{held: map[netip.Addr]string{}, sticky: map[string]netip.Addr{}, past: map[netip.Addr]string{}, kin: map[string]string{}, exclude: map[netip.Addr]bool{}}
	total := uint64(0)
	for _, r := range c.Ranges {
		if !r.First.Is4() || !r.Last.Is4() || r.Last.Less(r.First) {
			return nil, fmt.Errorf("range %v-%v is not an ascending range of IPv4 addresses", r.First, r.Last)
		}
		first, last := toUint(r.First), toUint(r.Last)
		total += uint64(last-first) + 1
		if total > MaxAddresses {
			return nil, fmt.Errorf("pool holds more than %d addresses", MaxAddresses)
		}
		s := span{first: first, size: last - first + 1}
		s.taken = make([]uint64, (s.size+63)/64)
		if rest := s.size % 64; rest != 0 {
			s.taken[len(s.taken)-1] = ^uint64(0) << rest
		}
		p.ranges = append(p.ranges, s)
	}
	slices.SortFunc(p.ranges, func(a, b span) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	for i := 1; i < len(p.ranges); i++ {
		if prev := p.ranges[i-1]; uint64(prev.first)+uint64(prev.size) > uint64(p.ranges[i].first) {
			return nil, fmt.Errorf("ranges overlap at %v", toAddr(p.ranges[i].first))
		}
	}
	p.total = int(total)
	for _, a := range c.Exclude {
		if p.exclude[a] {
			continue
		}
		p.exclude[a] = true
		if s, bit, ok := p.find(a); ok {
			s.taken[bit/64] |= 1 << (bit % 64)
			p.total--
		}
	}
	return p, nil
}

// Lease gives key a free address, the one that it or else its kin held last when that is
// still free.
func (p *Pool) Lease(key string) (netip.Addr, error) {
	last := key
	if _, known := p.sticky[key]; !known {
		last = p.kin[kinOf(key)]
	}
	if a, ok := p.sticky[last]; ok && p.take(a, key) {
		return a, nil
	}
	// Prefer an address nobody is remembered for; fall back to any free one.
	var fallback netip.Addr
	for i := range p.ranges {
		s := &p.ranges[i]
		words := uint32(len(s.taken))
		for n := uint32(0); n < words; n++ {
			w := (s.next + n) % words
			for free := ^s.taken[w]; free != 0; free &= free - 1 {
				a := toAddr(s.first + w*64 + uint32(bits.TrailingZeros64(free)))
				if _, remembered := p.past[a]; remembered {
					if !fallback.IsValid() {
						fallback = a
					}
					continue
				}
				s.next = w
				p.take(a, key)
				return a, nil
			}
			if n == 0 && fallback.IsValid() && len(p.past) >= p.total-p.used {
				break // every free address is remembered for somebody
			}
		}
	}
	if !fallback.IsValid() {
		return netip.Addr{}, ErrExhausted
	}
	p.take(fallback, key)
	return fallback, nil
}

// Claim takes a fixed address for key, inside the ranges (then it must be excluded from
// dynamic leases or free) or outside them.
func (p *Pool) Claim(key string, a netip.Addr) error {
	if !a.Is4() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return ErrForeign
	}
	if _, ok := p.held[a]; ok {
		return ErrInUse
	}
	if _, _, ok := p.find(a); ok && !p.exclude[a] {
		if !p.take(a, key) {
			return ErrInUse
		}
		return nil
	}
	p.held[a] = key
	return nil
}

// Release gives back what Lease or Claim gave. Releasing what is not held, or is held by
// another key, does nothing.
func (p *Pool) Release(key string, a netip.Addr) {
	if p.held[a] != key {
		return
	}
	delete(p.held, a)
	s, bit, ok := p.find(a)
	if !ok || p.exclude[a] {
		return
	}
	s.taken[bit/64] &^= 1 << (bit % 64)
	p.used--
	if old, ok := p.sticky[key]; ok && old != a && p.past[old] == key {
		delete(p.past, old)
	}
	if len(p.sticky) >= stickyLimit*p.total {
		p.forget()
	}
	p.sticky[key] = a
	p.past[a] = key
	if kin := kinOf(key); kin != "" {
		p.kin[kin] = key
	}
}

// kinOf is the name of a key's kin, "" if it has none.
func kinOf(key string) string { return key[:strings.LastIndexByte(key, 0)+1] }

// Holder returns the key that holds a.
func (p *Pool) Holder(a netip.Addr) (string, bool) {
	k, ok := p.held[a]
	return k, ok
}

// Usage returns the number of dynamic addresses leased and leasable.
func (p *Pool) Usage() (used, total int) { return p.used, p.total }

// take marks a as leased to key; false when it is not free.
func (p *Pool) take(a netip.Addr, key string) bool {
	s, bit, ok := p.find(a)
	if !ok || s.taken[bit/64]&(1<<(bit%64)) != 0 {
		return false
	}
	s.taken[bit/64] |= 1 << (bit % 64)
	if last, ok := p.past[a]; ok {
		delete(p.past, a)
		if last != key {
			p.unstick(last)
		}
	}
	p.held[a] = key
	p.used++
	return true
}

// forget drops the memory of holders whose address has gone to somebody else or, when there
// are none, of everybody: a bound on memory, not on correctness.
func (p *Pool) forget() {
	for k, a := range p.sticky {
		if p.past[a] != k && p.held[a] != k {
			p.unstick(k)
		}
	}
	if len(p.sticky) >= stickyLimit*p.total {
		clear(p.sticky)
		clear(p.past)
		clear(p.kin)
	}
}

// unstick forgets what a key held.
func (p *Pool) unstick(key string) {
	delete(p.sticky, key)
	if kin := kinOf(key); p.kin[kin] == key {
		delete(p.kin, kin)
	}
}

func (p *Pool) find(a netip.Addr) (*span, uint32, bool) {
	if !a.Is4() {
		return nil, 0, false
	}
	u := toUint(a)
	for i := range p.ranges {
		if s := &p.ranges[i]; u >= s.first && u-s.first < s.size {
			return s, u - s.first, true
		}
	}
	return nil, 0, false
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func toAddr(u uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)})
}
