package controlplane

import (
	"container/list"
	"context"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// replaceWait is how long a new session waits for the ends of those whose places it takes: what
// PPP needs to find out that a client is gone, and the kernel to let go.
const replaceWait = 10 * time.Second

// maxReplaced is how many sessions end for one new session at most: one at each limit.
const maxReplaced = 5

// replacement is a new session that waits for the ends of older ones (limits, replace-oldest), and
// gets all that it needs at the very moment at which the last of them has given it back. What it
// takes is counted from the beginning: by itself or, as long as that has not gone, by the older
// session from which it has it.
//
// At most one waits for each session: a still newer one takes the place of that which waits.
type replacement struct {
	leases *leases
	olds   []*grant // that have not gone yet
	grant  *grant
	lent   []*grant // by whom what the grant takes is counted, in that order; nil: by itself
	ask    subscriber.Decide
	accept aaa.Decision
	reason aaa.Reason // of the refusal if it waits in vain
	over   bool
	answer chan replaced // has room for the one answer
}

type replaced struct {
	decision aaa.Decision
	address  netip.Addr
}

// replaces says whether a new session may end another that has its fixed address or a network: one
// of its own user, where that is wanted for those that arrive with the new one.
func (l *limits) replaces(g, old *grant) bool {
	c := l.routers[g.who.router]
	return c.PerUser > 0 && slices.Contains(c.Replaces, config.LimitUser) && old != nil && old.taken[0] == g.taken[0]
}

// room is how a new session gets what it needs. Nothing of it has happened yet.
type room struct {
	olds      []*grant // for whose ends it waits
	ending    []*grant // those of olds that have to be told to end
	displaced []displaced
	// left are those that end for the displaced and are not in olds.
	left   []*grant
	reason aaa.Reason // why it waits
}

// displaced is a session that waits and that a newer one refuses to, because of reason.
type displaced struct {
	*replacement
	reason aaa.Reason
}

// room works out how a new session gets what it needs, or why it cannot be let in. At each limit
// that is reached the oldest session makes room. The smallest limit comes first, because few
// sessions can free its place, and what these free besides need not be freed by others. Nobody
// makes room for who would be refused all the same.
func (l *leases) room(g *grant, places []place, d aaa.Decision) (r room, refusal aaa.Decision) {
	olds, refusal := l.meets(g, d)
	if refusal.Reason != "" {
		return room{}, refusal
	}
	for _, old := range olds {
		r.end(old, aaa.ReasonUserLimit)
	}
	for range 2 * maxReplaced { // who is displaced need not have had the place from itself
		if p := r.scarcest(places); p == nil || len(r.olds) == maxReplaced || !r.pick(p) {
			break
		}
	}
	for i := range places {
		if p := &places[i]; r.missing(p) {
			return room{}, refuse(p.reason, "user %q: %s", d.User, p.scarce())
		}
	}
	return r, aaa.Decision{}
}

// missing says whether a place is not to be had.
func (r *room) missing(p *place) bool {
	if p.limit == 0 || *p.used < p.limit {
		return false
	}
	used := *p.used
	for _, old := range r.olds {
		if slices.Contains(old.taken, p.taken) {
			used--
		}
	}
	for _, w := range r.displaced {
		if i := slices.Index(w.grant.taken, p.taken); i >= 0 && w.lent[i] == nil {
			used--
		}
	}
	return used >= p.limit
}

// scarcest returns which of the missing places comes first, of those for which another session
// makes room; nil: none.
func (r *room) scarcest(places []place) (out *place) {
	for i := range places {
		if p := &places[i]; p.replaces && (out == nil || p.limit < out.limit) && r.missing(p) {
			out = p
		}
	}
	return out
}

// pick has the next one make room that has a place; false: there is none.
func (r *room) pick(p *place) bool {
	for _, old := range r.left {
		if slices.Contains(old.taken, p.taken) && !slices.Contains(r.olds, old) {
			r.end(old, p.reason)
			return true
		}
	}
	order := p.order()
	for _, in := range []*list.List{&order.settled, &order.late} {
		for at := in.Front(); at != nil; at = at.Next() {
			g := at.Value.(*grant)
			switch {
			case slices.Contains(r.olds, g) || g.waits != nil && r.displaces(g.waits):
				continue // few, because so are those
			case g.waits != nil:
				r.displace(g.waits, p.reason)
			default:
				r.end(g, p.reason)
			}
			return true
		}
	}
	return false
}

// end has an old session make room for the new one. Who has waited for that waits no longer.
func (r *room) end(old *grant, reason aaa.Reason) {
	r.olds = append(r.olds, old)
	if r.reason == "" {
		r.reason = reason
	}
	if old.successor == nil {
		r.ending = append(r.ending, old)
	} else if !r.displaces(old.successor) {
		r.displace(old.successor, reason)
	}
}

func (r *room) displace(w *replacement, reason aaa.Reason) {
	r.displaced = append(r.displaced, displaced{w, reason})
	r.left = append(r.left, w.olds...)
}

func (r *room) displaces(w *replacement) bool {
	return slices.ContainsFunc(r.displaced, func(d displaced) bool { return d.replacement == w })
}

// admit gives a new session its places in the counts. It returns what waits for the ends of other
// sessions; nil: there is nothing to wait for.
func (l *leases) admit(r room, g *grant, f subscriber.Decide, d aaa.Decision) *replacement {
	for _, w := range r.displaced {
		w.giveUp(refuse(w.reason, "user %q: a newer session takes the place", w.accept.User))
		defer l.limits.tidy(w.grant.taken) // once the new one has counted
	}
	if len(r.olds) == 0 {
		g.count()
		return nil
	}
	w := &replacement{leases: l, olds: r.olds, grant: g, lent: make([]*grant, len(g.taken)), ask: f, accept: d, reason: r.reason, answer: make(chan replaced, 1)}
	for i, t := range g.taken {
		lender := slices.IndexFunc(r.olds, func(old *grant) bool { return slices.Contains(old.taken, t) })
		if lender >= 0 {
			w.lent[i] = r.olds[lender]
		} else {
			*t.used++
		}
	}
	for _, old := range r.olds {
		old.successor = w
		old.late()
	}
	g.waits = w
	g.late()
	for _, old := range r.ending {
		l.notices = append(l.notices, func() { l.end(old.who, subscriber.ReasonReplaced) })
	}
	return w
}

// gone notes that one of those has gone for whose ends a new session waits. What that had from it
// is now counted by itself.
func (r *replacement) gone(old *grant) {
	for _, t := range old.taken {
		if i := slices.Index(r.grant.taken, t); i >= 0 && r.lent[i] == old {
			r.lent[i] = nil
		} else {
			*t.used--
		}
	}
	r.olds = slices.DeleteFunc(r.olds, func(g *grant) bool { return g == old })
	if len(r.olds) == 0 {
		r.succeed()
	}
}

// succeed gives the new session what it needs: all older ones have gone.
func (r *replacement) succeed() {
	l := r.leases
	olds, refusal := l.meets(r.grant, r.accept)
	if l.places[r.grant.terminating] == nil {
		refusal = refuse(aaa.ReasonNoRouter, "user %q shall end in virtual router %q, which has been removed meanwhile", r.accept.User, r.grant.terminating)
	}
	if len(olds) > 0 {
		refusal = refuse(aaa.ReasonAddressInUse, "user %q: session %d has got hold of the address or a route meanwhile", r.accept.User, olds[0].who.id)
	}
	if refusal.Reason != "" { // somebody has come who was not there when it began to wait
		r.giveUp(refusal)
	} else {
		r.over, r.grant.waits = true, nil
		r.grant.leave()
		var out replaced
		out.decision, out.address = l.enter(r.grant, r.ask, r.accept)
		r.answer <- out
	}
	l.limits.tidy(r.grant.taken)
}

// giveUp answers that the new session is refused. Those that end for it go on doing so.
func (r *replacement) giveUp(refusal aaa.Decision) {
	for _, old := range r.olds {
		old.successor = nil
	}
	for i, t := range r.grant.taken {
		if r.lent[i] == nil {
			*t.used--
		}
	}
	r.grant.leave()
	r.over, r.grant.waits = true, nil
	r.answer <- replaced{decision: refusal}
}

// wait returns the answer about the new session, a refusal if the older ones do not end in time.
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
	if !r.over {
		r.giveUp(refuse(r.reason, "user %q: session %d, whose place it would take, has not ended within %v", r.accept.User, r.olds[0].who.id, replaceWait))
		l.limits.tidy(r.grant.taken)
	}
	l.unlock()
	out := <-r.answer
	return out.decision, out.address
}
