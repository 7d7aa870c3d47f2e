package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa/radius"
)

// drainTime is how long a client of RADIUS servers that another has taken the place of waits for its last answers.
const drainTime = 2 * time.Minute

// groupKey names a group of servers of a virtual router.
type groupKey struct{ router, group string }

// swapAuthority has all questions from now on decided as the new configuration wants. What has been asked is answered
// by whoever was asked.
func (r *reloading) swapAuthority() {
	before := r.shared.authority()
	a := r.built.authority
	a.service.Succeed(before.service)
	a.ignored = before.ignored
	routers := slices.Concat(r.kept, r.added)
	for _, l := range r.leaving {
		if l.next != nil {
			routers = append(routers, l.next)
		}
	}
	live := a.enliven(r.Process, routers, r.live)
	a.live.Store(live)
	for router, groups := range a.groups {
		for _, g := range groups {
			// Servers that know of sessions would take them for lost.
			if !slices.Contains(before.groups[router], g) && !overlaps(live.clients[router], g, r.live.clients[router], before.groups[router]) {
				live.journal.RouterUp(router, g)
			}
		}
	}
	r.shared.aaa.Store(a)
	before.live.Store(live) // for those who are being decided about
	for name, o := range r.live.servers {
		if live.servers[name] != o {
			o.end()
		}
	}
	for _, k := range r.kept {
		live.listen(r.life, k)
	}
	for name, c := range r.live.clients {
		if n := live.clients[name]; (n == nil || n.Client != c.Client) && !live.remembers(c) {
			r.life.background.Go(func() { r.drain(c) })
		}
	}
}

// drain closes a client when all its answers are there.
func (r *reloading) drain(c *radiusClient) {
	ctx, stop := context.WithTimeout(r.life.ctx, drainTime)
	defer stop()
	_ = c.Drain(ctx) // late answers are lost, and asked for again by whoever still wants them
	_ = c.Close()    // always nil
}

// overlaps says whether a server of a group is also in one of the groups of another client, or the same.
func overlaps(c *radiusClient, group string, other *radiusClient, groups []string) bool {
	if c == nil || other == nil {
		return false
	}
	for _, s := range c.addresses(group) {
		for _, g := range groups {
			if slices.Contains(other.addresses(g), s) {
				return true
			}
		}
	}
	return false
}

// addresses are where the servers of a group take accounting records.
func (c *radiusClient) addresses(group string) (out []netip.AddrPort) {
	for _, g := range c.cfg.Groups {
		for _, s := range c.cfg.Servers {
			if g.Name == group && slices.Contains(g.Servers, s.Name) {
				out = append(out, netip.AddrPortFrom(s.Address, s.AcctPort))
			}
		}
	}
	return out
}

func (c *radiusClient) has(group string) bool {
	return slices.ContainsFunc(c.cfg.Groups, func(g radius.Group) bool { return g.Name == group })
}

// inherit keeps the clients of groups that are not configured any more: sessions that were let in before are
// accounted to them until they end, and records may wait in the journal.
func (l *liveAuthority) inherit(old *liveAuthority) {
	for key, c := range old.former {
		l.former[key] = c
	}
	for router, c := range old.clients {
		for _, g := range c.cfg.Groups {
			l.former[groupKey{router, g.Name}] = c
		}
	}
	for key := range l.former {
		if c := l.clients[key.router]; c != nil && c.has(key.group) {
			delete(l.former, key)
		}
	}
}

// remembers says whether a client is still needed for groups that are not configured any more.
func (l *liveAuthority) remembers(c *radiusClient) bool {
	for _, f := range l.former {
		if f.Client == c.Client {
			return true
		}
	}
	return false
}

// account returns who delivers records to a group; nil: nobody.
func (l *liveAuthority) account(router, group string) *radiusClient {
	if c := l.clients[router]; c != nil && c.has(group) {
		return c
	}
	return l.former[groupKey{router, group}]
}

// listener opens sockets in the virtual router of a name, whichever serves at that time.
func (p *Process) listener(name string) radius.ListenFunc {
	return func(local netip.AddrPort) (*net.UDPConn, error) {
		for _, r := range p.routers() {
			if r.name == name {
				return r.listenUDP(local)
			}
		}
		return nil, fmt.Errorf("virtual router %s has been removed", name)
	}
}

// farewell tells the accounting servers of groups that are not configured any more that there are no sessions, where
// there are none.
func (r *reloading) farewell() {
	a := r.built.authority
	live := a.live.Load()
	for router, groups := range r.formerGroups {
		if a.cfg.Router(router) == nil {
			continue // flush has done so
		}
		for _, g := range groups {
			c := live.former[groupKey{router, g}]
			if slices.Contains(a.groups[router], g) || overlaps(c, g, live.clients[router], a.groups[router]) || r.accounted(router, g) {
				continue
			}
			live.journal.RouterDown(router, g)
		}
	}
}

// accounted says whether there are sessions that are accounted to a group.
func (r *reloading) accounted(router, group string) (any bool) {
	for _, k := range r.routers() {
		k.do(r.life.ctx, func(time.Time) {
			for _, s := range k.machine.subs.Records() {
				any = any || s.By.Router == router && s.By.Accounting == group
			}
		})
	}
	return any
}

// flush waits until the records about a virtual router that is removed have been sent, or the time for that is over:
// once it has gone they can be sent no more before there is one of its name again.
func (r *reloading) flush(ctx context.Context, router string) {
	live := r.built.authority.live.Load()
	for _, g := range r.formerGroups[router] {
		if !r.accounted(router, g) {
			live.journal.RouterDown(router, g)
		}
	}
	queued := func() int {
		n := 0
		for _, q := range live.journal.Stats().Queues {
			if q.Router == router {
				n += q.Queued + q.InFlight
			}
		}
		return n
	}
	for queued() > 0 {
		select {
		case <-ctx.Done():
			r.log.Warn("accounting records are left of a virtual router that has been removed", zap.String("vr", router), zap.Int("records", queued()))
			return
		case <-time.After(emptyPoll):
		}
	}
}
