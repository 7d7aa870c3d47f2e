package controlplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/pool"
	"vrgate/controlplane/subscriber"
)

// leases are what subscribers of all virtual routers hold: their inner addresses and their
// licences. Subscribers that arrive in different virtual routers may end in the same, whatever
// namespaces they are in, so the pools are shared and locked.
type leases struct {
	mu       sync.Mutex
	pools    map[poolKey]*pool.Pool
	holders  map[string]map[netip.Addr]holder // by terminating virtual router
	grants   map[holder]grant
	licences licences
}

type poolKey struct{ router, pool string }

// holder is a subscriber by the virtual router in which it arrived.
type holder struct {
	router string
	id     subscriber.ID
}

// grant is what one subscriber holds.
type grant struct {
	terminating string
	address     netip.Addr
	pool        *pool.Pool // nil for a fixed address
	key         string     // by which the pool knows the subscriber
	tunnel      bool       // it holds an IPsec tunnel licence too
}

func newLeases(c *config.Config) (*leases, error) {
	l := &leases{
		pools: map[poolKey]*pool.Pool{}, holders: map[string]map[netip.Addr]holder{}, grants: map[holder]grant{}, licences: newLicences(c),
	}
	for _, r := range c.Routers {
		l.holders[r.Name] = map[netip.Addr]holder{}
		for _, p := range r.Pools {
			pc := pool.Config{}
			for _, x := range p.Ranges {
				pc.Ranges = append(pc.Ranges, pool.Range{First: x.First, Last: x.Last})
			}
			for _, x := range p.Exclude {
				for a := x.First; x.Contains(a); a = a.Next() {
					pc.Exclude = append(pc.Exclude, a)
				}
			}
			made, err := pool.New(pc)
			if err != nil {
				return nil, fmt.Errorf("%s: pool %s: %w", r.File, p.Name, err)
			}
			l.pools[poolKey{r.Name, p.Name}] = made
		}
	}
	return l, nil
}

// lease gives an accepted subscriber its licences and its address: the fixed one, or one of
// the pool, which remembers it by who it is. On failure it holds nothing and the decision
// becomes a refusal with its reason.
func (l *leases) lease(who holder, f subscriber.Decide, d aaa.Decision) (aaa.Decision, netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := grant{terminating: f.Profile.Terminating, key: leaseKey(f.Request, d.User), tunnel: needsTunnelLicence(f.Request.Access)}
	if d.Terminating != "" {
		g.terminating = d.Terminating
	}
	if old, has := l.grants[who]; has {
		return refuse(aaa.ReasonAddressInUse, "session %d of user %q holds %v already", who.id, d.User, old.address), netip.Addr{}
	}
	if missing, text := l.licences.take(who.router, g.tunnel); missing != "" {
		return refuse(missing, "user %q: %s", d.User, text), netip.Addr{}
	}
	if refusal := l.address(&g, who, cmp.Or(d.Pool, f.Profile.Pool), d); refusal.Reason != "" {
		l.licences.giveBack(who.router, g.tunnel)
		return refusal, netip.Addr{}
	}
	l.holders[g.terminating][g.address] = who
	l.grants[who] = g
	return d, g.address
}

// address finds an address for a grant; on failure it returns the refusal.
func (l *leases) address(g *grant, who holder, poolName string, d aaa.Decision) (refusal aaa.Decision) {
	held, known := l.holders[g.terminating]
	if !known {
		return refuse(aaa.ReasonNoPool, "user %q shall end in virtual router %q, which there is not", d.User, g.terminating)
	}
	if d.Address.IsValid() {
		if other, taken := held[d.Address]; taken {
			return refuse(aaa.ReasonAddressInUse, "address %v of user %q is held by session %d", d.Address, d.User, other.id)
		}
		g.address = d.Address
		return aaa.Decision{}
	}
	q := l.pools[poolKey{g.terminating, poolName}]
	if q == nil {
		return refuse(aaa.ReasonNoPool, "user %q has no fixed address and virtual router %s no pool %q", d.User, g.terminating, poolName)
	}
	a, err := q.Lease(g.key)
	if errors.Is(err, pool.ErrExhausted) {
		used, total := q.Usage()
		return refuse(aaa.ReasonPoolEmpty, "pool %s of virtual router %s is exhausted: %d of %d addresses leased", poolName, g.terminating, used, total)
	}
	if err != nil {
		return refuse(aaa.ReasonPoolEmpty, "pool %s of virtual router %s: %v", poolName, g.terminating, err)
	}
	if other, taken := held[a]; taken {
		q.Release(g.key, a)
		return refuse(aaa.ReasonAddressInUse, "pool address %v is held by session %d", a, other.id)
	}
	g.address, g.pool = a, q
	return aaa.Decision{}
}

// leaseKey is by what a pool remembers who had an address. Of L2TP that is the user. The
// devices of one user that come by XAuth are told apart by their phase 1 identity and, because
// that of a group key is everybody's, by where they are, so that each finds its own again. The
// place comes last: a phone that has changed networks is its own kin.
func leaseKey(r aaa.Request, user string) string {
	if r.Access != aaa.AccessXAuth {
		return user
	}
	return user + "\x00" + r.PeerID + "\x00" + r.Remote.Addr().String()
}

func refuse(r aaa.Reason, format string, args ...any) aaa.Decision {
	return aaa.Decision{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// release gives back what lease gave to a subscriber that arrived in router. What it does not
// hold, or not any more, stays with whoever does.
func (l *leases) release(router string, f subscriber.ReleaseAddress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	who := holder{router, f.ID}
	g, has := l.grants[who]
	if !has || g.address != f.Address || g.terminating != f.Terminating {
		return
	}
	delete(l.grants, who)
	delete(l.holders[g.terminating], g.address)
	if g.pool != nil {
		g.pool.Release(g.key, g.address)
	}
	l.licences.giveBack(router, g.tunnel)
}

// decide asks AAA and then for licences and an address; it is what a Decide effect runs.
func (l *leases) decide(ctx context.Context, router string, m aaa.Method, f subscriber.Decide) subscriber.Decided {
	d := m.Decide(ctx, f.Request)
	out := subscriber.Decided{ID: f.ID, Decision: d}
	if d.Accept && !f.Again {
		out.Decision, out.Address = l.lease(holder{router, f.ID}, f, d)
	}
	return out
}
