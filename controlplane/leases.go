package controlplane

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/pool"
	"vrgate/controlplane/subscriber"
)

// leases are what subscribers of all virtual routers hold: their inner addresses, the networks
// behind them, their licences and what limits count. Subscribers that arrive in different virtual
// routers may end in the same, whatever namespaces they are in, so all of it is shared and locked.
type leases struct {
	log *zap.Logger
	// end has a session ended that makes room for another.
	end func(holder, subscriber.Reason)
	// changed holds a token when pools have something new to remember.
	changed chan struct{}

	mu       sync.Mutex
	places   map[string]*terminating
	pools    map[poolKey]*pool.Pool
	ranges   map[poolKey]pool.Config // of pools
	watches  map[poolKey]*poolWatch
	holders  map[string]map[netip.Addr]holder // by terminating virtual router
	routes   map[routeKey]holder
	grants   map[holder]*grant
	licences licences
	limits   limits
	notices  []func() // to be logged once mu is free
}

// terminating is what a virtual router has for the subscribers that end in it.
type terminating struct {
	pools    []string
	gateways []netip.Addr
	own      map[netip.Addr]bool // addresses that are its own
}

type poolKey struct{ router, pool string }

// routeKey is a route to a network behind a subscriber: the kernel has each once.
type routeKey struct {
	router string
	prefix netip.Prefix
	metric uint32
}

// holder is a subscriber by the virtual router in which it arrived.
type holder struct {
	router string
	id     subscriber.ID
}

// grant is what one subscriber holds.
type grant struct {
	who         holder
	arrival     uint64 // orders grants
	terminating string
	source      netip.Addr // for limits
	domain      string     // of its name, for limits; "": it has an entry of its own
	address     netip.Addr
	pool        *pool.Pool // nil for a fixed address
	key         string     // by which pools know the subscriber
	claims      []claim    // in its order: the address, then the single addresses behind it
	routes      []routeKey
	taken       []taken // the first is that of its user
	turns       []turn
	waits       *replacement // it is not let in yet
	successor   *replacement // that waits for this one's end
}

// claim is an address that nobody else may have.
type claim struct {
	address netip.Addr
	pool    poolKey    // that has it in its ranges; zero: none
	from    *pool.Pool // the same
	key     string
}

func newLeases(c *config.Config) (*leases, error) {
	pools, err := buildPools(c)
	if err != nil {
		return nil, err
	}
	l := &leases{
		log: zap.NewNop(), end: func(holder, subscriber.Reason) {}, changed: make(chan struct{}, 1),
		pools: map[poolKey]*pool.Pool{}, ranges: map[poolKey]pool.Config{}, watches: map[poolKey]*poolWatch{}, holders: map[string]map[netip.Addr]holder{},
		routes: map[routeKey]holder{}, grants: map[holder]*grant{}, licences: newLicences(c), limits: newLimits(c),
	}
	l.reconfigure(c, pools)
	return l, nil
}

// builtPool is a pool as the configuration has it, and what it was made of.
type builtPool struct {
	*pool.Pool
	ranges pool.Config
	watch  poolWatch
}

// buildPools makes the pools of all virtual routers, with all addresses free.
func buildPools(c *config.Config) (map[poolKey]builtPool, error) {
	out := map[poolKey]builtPool{}
	for _, r := range c.Routers {
		for _, p := range r.Pools {
			ranges := pool.Config{Ranges: poolRanges(p.Ranges), Exclude: poolRanges(p.Exclude)}
			made, err := pool.New(ranges)
			if err != nil {
				return nil, fmt.Errorf("%s: pool %s: %w", r.File, p.Name, err)
			}
			out[poolKey{r.Name, p.Name}] = builtPool{made, ranges, poolWatch{warnAt: p.WarnAt, warnUntil: p.WarnUntil}}
		}
	}
	return out, nil
}

// buildPlaces lists what each virtual router has for the subscribers that end in it.
func buildPlaces(c *config.Config) map[string]*terminating {
	out := map[string]*terminating{}
	for _, r := range c.Routers {
		t := &terminating{own: map[netip.Addr]bool{}}
		for _, a := range r.ServerAddresses {
			t.own[a] = true
		}
		for _, p := range r.Pools {
			t.pools = append(t.pools, p.Name)
		}
		out[r.Name] = t
	}
	for _, r := range c.Routers {
		for _, p := range r.IPProfiles {
			if t := out[p.Router]; t != nil && p.Unnumbered.IsValid() && !slices.Contains(t.gateways, p.Unnumbered) {
				t.gateways, t.own[p.Unnumbered] = append(t.gateways, p.Unnumbered), true
			}
		}
		for _, m := range r.AAA.DomainMaps {
			if t := out[m.Router]; t != nil && m.Gateway.IsValid() {
				t.own[m.Gateway] = true
			}
		}
	}
	return out
}

func poolRanges(in []config.AddrRange) (out []pool.Range) {
	for _, x := range in {
		out = append(out, pool.Range{First: x.First, Last: x.Last})
	}
	return out
}

// unlock frees mu, and logs.
func (l *leases) unlock() {
	notices := l.notices
	l.notices = nil
	l.mu.Unlock()
	for _, log := range notices {
		log()
	}
}

// lease gives an accepted subscriber everything that it needs: its licences, its place within the
// limits, its address (the fixed one, or one of the pool, which remembers it by who it is) and
// its routes. One that is handed on to another LNS needs neither address nor routes. On failure it
// holds nothing and the decision becomes a refusal with its reason.
//
// Where other sessions have to make room first, nothing is decided yet: a replacement waits for
// that.
func (l *leases) lease(who holder, f subscriber.Decide, d aaa.Decision) (aaa.Decision, netip.Addr, *replacement) {
	l.mu.Lock()
	defer l.unlock()
	if old, has := l.grants[who]; has {
		return refuse(aaa.ReasonAddressInUse, "session %d of user %q holds %v already", who.id, d.User, old.address), netip.Addr{}, nil
	}
	if len(d.Tunnels) > 0 {
		// It goes on to another LNS from the router in which it has arrived, and has its address there.
		d.Terminating, d.Address, d.Routes = who.router, netip.Addr{}, nil
	}
	l.limits.arrivals++
	g := &grant{
		who: who, arrival: l.limits.arrivals, terminating: cmp.Or(d.Terminating, f.Profile.Terminating), key: leaseKey(who.router, f.Request, d),
		source: sourceOf(who.router, f.Request.Remote.Addr()).addr,
	}
	if !d.OwnEntry {
		g.domain = d.Domain
	}
	if refusal := l.terminate(g, f, &d); refusal.Reason != "" {
		return refusal, netip.Addr{}, nil
	}
	places := append(l.limits.places(who.router, f, d), l.licences.places(who.router, needsTunnelLicence(f.Request.Access))...)
	g.taken = takenBy(places)
	defer l.limits.tidy(g.taken)
	way, refusal := l.room(g, places, d)
	if refusal.Reason != "" {
		return refusal, netip.Addr{}, nil
	}
	if w := l.admit(way, g, f, d); w != nil {
		return aaa.Decision{}, netip.Addr{}, w
	}
	d, a := l.enter(g, f, d)
	return d, a, nil
}

// terminate checks where a subscriber shall end, and fills in our address there where AAA has
// left it open.
func (l *leases) terminate(g *grant, f subscriber.Decide, d *aaa.Decision) (refusal aaa.Decision) {
	t := l.places[g.terminating]
	if t == nil {
		return refuse(aaa.ReasonNoRouter, "user %q shall end in virtual router %q, which there is not", d.User, g.terminating)
	}
	switch {
	case d.Gateway.IsValid(), len(d.Tunnels) > 0:
	case g.terminating == f.Profile.Terminating:
		d.Gateway = f.Profile.Gateway
	case len(t.gateways) == 0:
		return refuse(aaa.ReasonNoGateway, "user %q shall end in virtual router %s, and neither AAA nor an IP profile says what our address is there", d.User, g.terminating)
	default:
		d.Gateway = t.gateways[0]
	}
	if a := d.Address; a.IsValid() && (t.own[a] || a == d.Gateway) {
		return refuse(aaa.ReasonAddressInUse, "address %v of user %q is virtual router %s's own", a, d.User, g.terminating)
	}
	g.routes = routesOf(g.terminating, d.Routes)
	return aaa.Decision{}
}

// routesOf are the routes that the kernel will have, each once.
func routesOf(router string, routes []aaa.Route) (out []routeKey) {
	for _, r := range routes {
		k := routeKey{router, r.Prefix.Masked(), r.Metric}
		if k.prefix.Addr().Is4() && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// meets looks for who holds what a decision names: a fixed address, and networks. It returns the
// sessions that make room, at most maxReplaced.
func (l *leases) meets(g *grant, d aaa.Decision) (olds []*grant, refusal aaa.Decision) {
	held := l.holders[g.terminating]
	meet := func(other holder, taken bool, reason aaa.Reason, format string, args ...any) {
		old := l.grants[other]
		switch {
		case !taken || refusal.Reason != "" || slices.Contains(olds, old):
		case len(olds) < maxReplaced && l.limits.replaces(g, old):
			olds = append(olds, old)
		default:
			refusal = refuse(reason, format+" is held by session %d", append(args, other.id)...)
		}
	}
	if d.Address.IsValid() {
		other, taken := held[d.Address]
		meet(other, taken, aaa.ReasonAddressInUse, "address %v of user %q", d.Address, d.User)
	}
	for _, k := range g.routes {
		other, taken := l.routes[k]
		meet(other, taken, aaa.ReasonRouteInUse, "route %v with metric %d of user %q", k.prefix, k.metric, d.User)
		if a := k.prefix.Addr(); k.prefix.IsSingleIP() && a != d.Address {
			other, taken = held[a]
			meet(other, taken, aaa.ReasonRouteInUse, "address %v, to which user %q shall have a route,", a, d.User)
		}
	}
	return olds, refusal
}

// enter completes a grant whose places are counted. On failure they are given back.
func (l *leases) enter(g *grant, f subscriber.Decide, d aaa.Decision) (aaa.Decision, netip.Addr) {
	if refusal := l.hold(g, cmp.Or(d.Pool, f.Profile.Pool), d); refusal.Reason != "" {
		l.drop(g)
		g.uncount()
		return refusal, netip.Addr{}
	}
	l.grants[g.who] = g
	g.settle()
	return d, g.address
}

// hold takes the address and the routes of a grant that meets nobody. On failure it returns the
// refusal, and the grant may hold a part.
func (l *leases) hold(g *grant, poolName string, d aaa.Decision) (refusal aaa.Decision) {
	if len(d.Tunnels) > 0 {
		return aaa.Decision{}
	}
	if d.Address.IsValid() {
		switch err := l.claim(g, d.Address, g.key); {
		case errors.Is(err, pool.ErrForeign):
			return refuse(aaa.ReasonBadAnswer, "address %v of user %q is none that a subscriber can have", d.Address, d.User)
		case err != nil:
			return refuse(aaa.ReasonAddressInUse, "address %v of user %q: %v", d.Address, d.User, err)
		}
		g.address = d.Address
	} else if refusal = l.fromPool(g, poolKey{g.terminating, poolName}, d); refusal.Reason != "" {
		return refusal
	}
	for _, k := range g.routes {
		l.routes[k] = g.who
		a := k.prefix.Addr()
		if _, has := l.holders[g.terminating][a]; has || !k.prefix.IsSingleIP() {
			continue // its own
		}
		if err := l.claim(g, a, "route "+g.key); err != nil && !errors.Is(err, pool.ErrForeign) {
			return refuse(aaa.ReasonRouteInUse, "address %v, to which user %q shall have a route: %v", a, d.User, err)
		}
	}
	return aaa.Decision{}
}

// fromPool leases an address.
func (l *leases) fromPool(g *grant, k poolKey, d aaa.Decision) (refusal aaa.Decision) {
	q := l.pools[k]
	if q == nil {
		return refuse(aaa.ReasonNoPool, "user %q has no fixed address and virtual router %s no pool %q", d.User, k.router, k.pool)
	}
	a, err := q.Lease(g.key)
	if err != nil {
		used, total := q.Usage()
		return refuse(aaa.ReasonPoolEmpty, "pool %s of virtual router %s is exhausted: %d of %d addresses leased", k.pool, k.router, used, total)
	}
	if other, taken := l.holders[k.router][a]; taken {
		q.Release(g.key, a)
		return refuse(aaa.ReasonAddressInUse, "pool address %v is held by session %d", a, other.id)
	}
	g.address, g.pool = a, q
	l.held(g, claim{address: a, pool: k, from: q, key: g.key})
	return aaa.Decision{}
}

// claim takes an address that no pool chooses. One that is in a pool's ranges is taken there, so
// that the pool leases it to nobody else.
func (l *leases) claim(g *grant, a netip.Addr, key string) error {
	c := claim{address: a, key: key}
	c.pool, c.from = l.covering(g.terminating, a)
	if c.from != nil {
		if err := c.from.Claim(key, a); err != nil {
			return err
		}
	} else if !pool.Usable(a) {
		return pool.ErrForeign
	}
	l.held(g, c)
	return nil
}

func (l *leases) held(g *grant, c claim) {
	g.claims = append(g.claims, c)
	l.holders[g.terminating][c.address] = g.who
	l.poolChanged(c)
}

// drop gives back the addresses and routes of a grant.
func (l *leases) drop(g *grant) {
	for _, k := range g.routes {
		if l.routes[k] == g.who {
			delete(l.routes, k)
		}
	}
	for _, c := range g.claims {
		delete(l.holders[g.terminating], c.address)
		if c.from != nil {
			c.from.Release(c.key, c.address)
			l.poolChanged(c)
		}
	}
	g.claims = nil
}

// maxLeaseKey bounds what is remembered of one device, in bytes: identities may be long.
const maxLeaseKey = 512

// leaseKey is by what a pool remembers who had an address: the user, of the virtual router whose
// AAA knows it, and the device. Devices that come by L2TP are told apart by the names that they
// give themselves. Those that come by XAuth are by their phase 1 identity and, because that of a
// group key is everybody's, by where they are, so that each finds its own again. What may change
// comes last: a phone that has changed networks is its own kin.
func leaseKey(router string, r aaa.Request, d aaa.Decision) string {
	key := cmp.Or(d.By.Router, router) + "\x00" + d.User + "\x00"
	if r.Access == aaa.AccessXAuth {
		key += r.PeerID + "\x00" + r.Remote.Addr().String()
	} else {
		key += r.PeerHost
	}
	if len(key) > maxLeaseKey {
		sum := sha256.Sum256([]byte(key))
		return cmp.Or(d.By.Router, router) + "\x00" + string(sum[:16])
	}
	return key
}

func refuse(r aaa.Reason, format string, args ...any) aaa.Decision {
	return aaa.Decision{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// release gives back what lease gave to a subscriber that arrived in router. What it does not
// hold, or not any more, stays with whoever does.
func (l *leases) release(router string, f subscriber.ReleaseAddress) {
	l.mu.Lock()
	defer l.unlock()
	g, has := l.grants[holder{router, f.ID}]
	if !has || g.address != f.Address || g.terminating != f.Terminating {
		return
	}
	delete(l.grants, g.who)
	l.drop(g)
	g.leave()
	if w := g.successor; w != nil {
		w.gone(g)
	} else {
		g.uncount()
	}
	l.limits.tidy(g.taken)
}

// decide asks AAA and then for what the subscriber needs; it is what a Decide effect runs. What
// it returns waits until another session has made room; nil: the answer is there.
func (l *leases) decide(ctx context.Context, router string, m aaa.Method, f subscriber.Decide) (subscriber.Decided, *replacement) {
	d := m.Decide(ctx, f.Request)
	out := subscriber.Decided{ID: f.ID, Decision: d}
	if !d.Accept || f.Again {
		return out, nil
	}
	var r *replacement
	out.Decision, out.Address, r = l.lease(holder{router, f.ID}, f, d)
	return out, r
}
