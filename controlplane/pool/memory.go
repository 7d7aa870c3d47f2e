package pool

import (
	"cmp"
	"net/netip"
	"slices"
)

// Entry says who has an address of a pool, or had it last. The entries of a pool are what has to
// be kept for its memory to survive: at most one for each address.
type Entry struct {
	Address netip.Addr
	Key     string
	// Seq rises with every lease; it orders entries by their age.
	Seq uint64
}

// Changes returns up to most entries that are new or have changed since they were last returned,
// and how many more there are.
func (p *Pool) Changes(most int) (entries []Entry, more int) {
	n := min(most, len(p.changed))
	for _, l := range p.changed[:n] {
		l.changed = false
		entries = append(entries, Entry{l.addr, l.key, l.seq})
	}
	if p.changed = p.changed[n:]; len(p.changed) == 0 {
		p.changed = nil // the array goes with its last entry
	}
	return entries, len(p.changed)
}

// Changed has Changes return the entry of an address again, because it could not be kept.
func (p *Pool) Changed(a netip.Addr) {
	if l := p.at[a]; l != nil && l.dynamic {
		p.change(l)
	}
}

func (p *Pool) change(l *lease) {
	if !l.changed {
		l.changed = true
		p.changed = append(p.changed, l)
	}
}

// Restore has a pool that has leased nothing yet remember who had which address; of several
// entries for one address the newest counts. It returns those of which it can make no use: what
// is not leased any more, or belongs to another by now.
func (p *Pool) Restore(entries []Entry) (useless []Entry) {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(b.Seq, a.Seq) })
	var known []*lease
	for _, e := range entries {
		s, bit := p.find(e.Address)
		if s == nil || s.taken[bit/64]&(1<<(bit%64)) != 0 {
			useless = append(useless, e)
			continue
		}
		l := p.touch(s, bit)
		l.key, l.seq = e.Key, e.Seq
		known = append(known, l)
		p.seq = max(p.seq, e.Seq)
	}
	for _, l := range slices.Backward(known) { // the oldest first
		p.remember(l)
	}
	return useless
}

// Entries returns what the pool remembers of all addresses that were ever leased, those that are leased now among
// them, in no order.
func (p *Pool) Entries() []Entry {
	out := make([]Entry, 0, len(p.at))
	for _, l := range p.at {
		if l.dynamic {
			out = append(out, Entry{l.addr, l.key, l.seq})
		}
	}
	return out
}
