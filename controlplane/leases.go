package controlplane

import (
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

// leases are the inner addresses of all virtual routers: subscribers that arrive in
// different ones may end in the same, so the pools are shared and locked.
type leases struct {
	mu      sync.Mutex
	pools   map[poolKey]*pool.Pool
	holders map[string]map[netip.Addr]subscriber.ID // by terminating virtual router
}

type poolKey struct{ router, pool string }

func newLeases(c *config.Config) (*leases, error) {
	l := &leases{pools: map[poolKey]*pool.Pool{}, holders: map[string]map[netip.Addr]subscriber.ID{}}
	for _, r := range c.Routers {
		l.holders[r.Name] = map[netip.Addr]subscriber.ID{}
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

// lease gives an accepted subscriber its address: the fixed one, or one of the pool, which
// remembers it by the user. A second device of the user gets another. On
// failure the decision becomes a refusal with its reason.
func (l *leases) lease(id subscriber.ID, p subscriber.IPProfile, d aaa.Decision) (aaa.Decision, netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	router := p.Terminating
	if d.Terminating != "" {
		router = d.Terminating
	}
	holders := l.holders[router]
	if d.Address.IsValid() {
		if holder, taken := holders[d.Address]; taken {
			return refuse(aaa.ReasonAddressInUse, "address %v of user %q is held by session %d", d.Address, d.User, holder), netip.Addr{}
		}
		holders[d.Address] = id
		return d, d.Address
	}
	q := l.pools[poolKey{router, p.Pool}]
	if q == nil {
		return refuse(aaa.ReasonNoPool, "user %q has no fixed address and virtual router %s no pool %q", d.User, router, p.Pool), netip.Addr{}
	}
	a, err := q.Lease(d.User)
	if errors.Is(err, pool.ErrExhausted) {
		used, total := q.Usage()
		return refuse(aaa.ReasonPoolEmpty, "pool %s of virtual router %s is exhausted: %d of %d addresses leased", p.Pool, router, used, total), netip.Addr{}
	}
	if err != nil {
		return refuse(aaa.ReasonPoolEmpty, "pool %s of virtual router %s: %v", p.Pool, router, err), netip.Addr{}
	}
	if holder, taken := holders[a]; taken {
		q.Release(d.User, a)
		return refuse(aaa.ReasonAddressInUse, "pool address %v is held by session %d", a, holder), netip.Addr{}
	}
	holders[a] = id
	return d, a
}

func refuse(r aaa.Reason, format string, args ...any) aaa.Decision {
	return aaa.Decision{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// release gives an address back.
func (l *leases) release(f subscriber.ReleaseAddress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if holders := l.holders[f.Terminating]; holders[f.Address] == f.ID {
		delete(holders, f.Address)
	}
	if q := l.pools[poolKey{f.Terminating, f.Pool}]; q != nil {
		q.Release(f.User, f.Address)
	}
}

// decide asks AAA and then for an address; it is what a Decide effect runs.
func (l *leases) decide(ctx context.Context, m aaa.Method, f subscriber.Decide) subscriber.Decided {
	d := m.Decide(ctx, f.Request)
	out := subscriber.Decided{ID: f.ID, Decision: d}
	if d.Accept && !f.Again {
		out.Decision, out.Address = l.lease(f.ID, f.Profile, d)
	}
	return out
}
