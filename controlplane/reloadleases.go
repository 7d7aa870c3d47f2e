package controlplane

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"vrgate/controlplane/config"
	"vrgate/controlplane/pool"
)

// reconfigure takes over a changed configuration. Whoever holds something keeps it: an address that no pool has any
// more is its holder's until the session ends, and so is a licence above a lowered limit; counts go on. Pools that
// have changed remember who had which address as far as they still have it, also where one pool has it from another.
func (l *leases) reconfigure(c *config.Config, built map[poolKey]builtPool) {
	l.mu.Lock()
	defer l.unlock()
	l.places = buildPlaces(c)
	for _, r := range c.Routers {
		if l.holders[r.Name] == nil {
			l.holders[r.Name] = map[netip.Addr]holder{}
		}
	}
	for name, held := range l.holders {
		if l.places[name] == nil && len(held) == 0 {
			delete(l.holders, name)
		}
	}
	l.renewPools(built)
	l.licences.configure(c)
	l.relimit(c)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// renewPools puts the pools of a configuration in the place of those that there are.
func (l *leases) renewPools(built map[poolKey]builtPool) {
	memory := map[string][]pool.Entry{} // by router, of the pools that go
	for k, old := range l.pools {
		if b, stays := built[k]; !stays || !reflect.DeepEqual(b.ranges, l.ranges[k]) {
			memory[k.router] = append(memory[k.router], old.Entries()...)
		}
	}
	pools, ranges, watches := map[poolKey]*pool.Pool{}, map[poolKey]pool.Config{}, map[poolKey]*poolWatch{}
	for k, b := range built {
		pools[k], ranges[k], watches[k] = b.Pool, b.ranges, &b.watch
		if w := l.watches[k]; w != nil {
			b.watch.warned = w.warned && b.watch.warnAt > 0
		}
		if old := l.pools[k]; old != nil && reflect.DeepEqual(b.ranges, l.ranges[k]) {
			pools[k] = old
			continue
		}
		known := slices.DeleteFunc(slices.Clone(memory[k.router]), func(e pool.Entry) bool { return !b.Covers(e.Address) })
		b.Restore(known)
		for _, e := range known {
			b.Changed(e.Address) // it may have been another pool's in the book
		}
	}
	l.pools, l.ranges, l.watches = pools, ranges, watches
	for _, g := range l.grants {
		for i := range g.claims {
			l.reclaim(g, &g.claims[i])
		}
	}
}

// reclaim has an address that a subscriber holds taken in the pool that covers it now.
func (l *leases) reclaim(g *grant, c *claim) {
	k, p := l.covering(g.terminating, c.address)
	if p == c.from {
		return
	}
	c.pool, c.from = poolKey{}, nil
	if p == nil || p.Claim(c.key, c.address) != nil {
		return // there is no pool that could lease it to somebody else
	}
	c.pool, c.from = k, p
	if g.pool != nil && c.address == g.address {
		g.pool = p
	}
}

// covering returns the pool that has an address in its ranges; nil: there is none.
func (l *leases) covering(router string, a netip.Addr) (poolKey, *pool.Pool) {
	t := l.places[router]
	if t == nil {
		return poolKey{}, nil
	}
	for _, name := range t.pools {
		if k := (poolKey{router, name}); l.pools[k].Covers(a) {
			return k, l.pools[k]
		}
	}
	return poolKey{}, nil
}

// configure takes over the licences of a configuration. What subscribers hold stays counted.
func (l *licences) configure(c *config.Config) {
	l.process.limit = c.Process.Licences
	for name, u := range l.routers {
		u.limit = config.Licences{}
		if u.subscribers == 0 && u.tunnels == 0 && c.Router(name) == nil {
			delete(l.routers, name)
		}
	}
	for _, r := range c.Routers {
		l.of(r.Name).limit = r.Licences
	}
}

// relimit takes over the limits of a configuration. Sessions that are there count for limits that are new, and make
// room in the order in which they came where that is new.
func (l *leases) relimit(c *config.Config) {
	l.limits.configure(c)
	grants := slices.SortedFunc(maps.Values(l.grants), func(a, b *grant) int { return cmp.Compare(a.arrival, b.arrival) })
	for _, g := range grants {
		l.limits.complete(g)
	}
	fresh := map[*order]bool{}
	for of, n := range l.limits.counts {
		if n.order == nil && l.limits.ordered(of) {
			n.order = &order{}
			fresh[n.order] = true
		}
	}
	for _, g := range grants {
		g.line(fresh)
		if w := g.successor; w != nil && w.grant != nil {
			w.grant.line(fresh)
		}
	}
}

// complete counts a session for the limits that there were not when it was let in.
func (l *limits) complete(g *grant) {
	by := l.routers[g.who.router]
	add := func(of limited) {
		if slices.ContainsFunc(g.taken, func(t taken) bool { return t.count != nil && t.count.of == of }) {
			return
		}
		c := l.count(of)
		c.n++
		t := taken{&c.n, c}
		g.taken = append(g.taken, t)
		if o := c.order; o != nil {
			g.stand(o)
		}
	}
	if by.PerSource > 0 {
		add(limited{router: g.who.router, kind: limitSource, source: g.source})
	}
	if by.PerDomain > 0 && g.domain != "" {
		add(limited{router: g.who.router, kind: limitDomain, name: g.domain})
	}
}

// line has a session stand in those orders that are new.
func (g *grant) line(fresh map[*order]bool) {
	for _, t := range g.taken {
		o := t.order()
		if o == nil || !fresh[o] || slices.ContainsFunc(g.turns, func(t turn) bool { return t.in == &o.settled || t.in == &o.late }) {
			continue
		}
		g.stand(o)
	}
}

// stand puts a session at the end of an order.
func (g *grant) stand(o *order) {
	in := &o.settled
	if g.successor != nil || g.waits != nil {
		in = &o.late
	}
	g.turns = append(g.turns, turn{in, in.PushBack(g)})
}
