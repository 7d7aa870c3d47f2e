package controlplane

import (
	"context"
	"net/netip"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// replaceWait is how long a new session waits for the end of the one whose place it takes: what
// PPP needs to find out that a client is gone, and the kernel to let go.
const replaceWait = 10 * time.Second

// replacement is a new session that waits for the end of an older one of the same user (limits,
// replace-oldest), and gets all that it needs at the very moment at which the other has given it
// back. Its places are counted from the beginning where the older session has not the same.
//
// At most one waits for each session: a still newer one takes the place of that which waits.
type replacement struct {
	leases *leases
	old    *grant
	grant  *grant
	ask    subscriber.Decide
	accept aaa.Decision
	answer chan replaced // has room for the one answer
}

type replaced struct {
	decision aaa.Decision
	address  netip.Addr
}

// replaces says whether a new session may end another: one of its own user, where that is wanted
// for those that arrive with the new one.
func (l *limits) replaces(g, old *grant) bool {
	c := l.routers[g.who.router]
	return c.WhenReached == config.ReplaceOldest && c.PerUser > 0 && old != nil && old.user == g.user
}

// replace has a session ended that is in the way of a new one, unless that is refused anyway.
func (l *leases) replace(old, g *grant, places []place, f subscriber.Decide, d aaa.Decision) (*replacement, aaa.Decision) {
	before := old.successor
	if before != nil {
		add(before.grant.taken, old.taken, -1)
	}
	if p := missing(places, old.taken); p != nil {
		if before != nil {
			add(before.grant.taken, old.taken, 1)
		}
		return nil, refuse(p.reason, "user %q: %s", d.User, p.scarce())
	}
	add(g.taken, old.taken, 1)
	r := &replacement{leases: l, old: old, grant: g, ask: f, accept: d, answer: make(chan replaced, 1)}
	old.successor = r
	l.limits.give(old)
	if before != nil {
		l.limits.tidy(before.grant.taken)
		before.answer <- replaced{decision: refuse(aaa.ReasonUserLimit, "user %q: a newer session takes the place", d.User)}
		return r, aaa.Decision{}
	}
	l.notices = append(l.notices, func() { l.end(old.who, subscriber.ReasonReplaced) })
	return r, aaa.Decision{}
}

// succeed gives the new session what it needs: the older one has gone, and its places are the new
// one's.
func (r *replacement) succeed(l *leases) {
	var out replaced
	if other, refusal := l.meets(r.grant, r.accept); other == nil && refusal.Reason == "" {
		out.decision, out.address = l.enter(r.grant, r.ask, r.accept)
	} else { // somebody has come who was not there when it began to wait
		add(r.grant.taken, nil, -1)
		if out.decision = refusal; other != nil {
			out.decision = refuse(aaa.ReasonAddressInUse, "user %q: session %d has got hold of the address or a route meanwhile", r.accept.User, other.who.id)
		}
	}
	l.limits.tidy(r.grant.taken)
	r.answer <- out
}

// wait returns the answer about the new session, a refusal if the older one does not end in time.
func (r *replacement) wait(ctx context.Context) (aaa.Decision, netip.Addr) {
	late := time.NewTimer(replaceWait)
	defer late.Stop()
	select {
	case out := <-r.answer:
		return out.decision, out.address
	case <-late.C:
	case <-ctx.Done():
	}
	l := r.leases
	l.mu.Lock()
	if r.old.successor == r && l.grants[r.old.who] == r.old {
		r.old.successor = nil
		add(r.grant.taken, r.old.taken, -1)
		l.limits.tidy(r.grant.taken)
		r.answer <- replaced{decision: refuse(aaa.ReasonUserLimit, "user %q: session %d, whose place it would take, has not ended within %v", r.accept.User, r.old.who.id, replaceWait)}
	}
	l.unlock()
	out := <-r.answer
	return out.decision, out.address
}
