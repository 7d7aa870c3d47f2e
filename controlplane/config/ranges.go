package config

import (
	"net/netip"
	"slices"
)

// normalise sorts ranges and joins those that overlap or touch.
func normalise(in []AddrRange) []AddrRange {
	rs := slices.Clone(in)
	slices.SortFunc(rs, func(a, b AddrRange) int { return a.First.Compare(b.First) })
	var out []AddrRange
	for _, r := range rs {
		if n := len(out); n > 0 && r.First.Compare(next(out[n-1].Last)) <= 0 {
			if out[n-1].Last.Less(r.Last) {
				out[n-1].Last = r.Last
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// next is the address after a; the last address stays, so that it compares.
func next(a netip.Addr) netip.Addr {
	if n := a.Next(); n.IsValid() {
		return n
	}
	return a
}

// overlap returns the addresses that both have.
func overlap(a, b AddrRange) (AddrRange, bool) {
	r := AddrRange{a.First, a.Last}
	if r.First.Less(b.First) {
		r.First = b.First
	}
	if b.Last.Less(r.Last) {
		r.Last = b.Last
	}
	return r, r.First.Compare(r.Last) <= 0
}

// inRanges says whether a is in one of the sorted, disjoint ranges rs.
func inRanges(rs []AddrRange, a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(rs, a, func(r AddrRange, a netip.Addr) int { return r.First.Compare(a) })
	if found {
		return true
	}
	return i > 0 && rs[i-1].Contains(a)
}

// count is the number of addresses in disjoint ranges.
func count(rs []AddrRange) uint64 {
	var n uint64
	for _, r := range rs {
		n += uint64(number4(r.Last)) - uint64(number4(r.First)) + 1
	}
	return n
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
