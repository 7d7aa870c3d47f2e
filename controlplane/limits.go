package controlplane

import (
	"cmp"
	"container/list"
	"fmt"
	"net/netip"
	"slices"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// limits bound the sessions of a user, a domain, a virtual router and a source (R5). A session
// counts from when it is let in until it has given everything back; one that is waiting for the
// place of another counts where that one does not, so that no number ever is over its limit.
//
// Whose sessions they are: the user, of the virtual router whose AAA has decided; and of those that
// arrived in the same virtual router the entry of the domain map, the domain of the name if it
// has no entry of its own, the outer address, for IPv6 its /64, and all.
type limits struct {
	routers map[string]config.Limits
	counts  map[limited]*count
	// users says that somewhere a user's oldest session makes room for a new one. Users are the
	// same wherever they arrive.
	users    bool
	arrivals uint64 // of sessions so far
}

// count is how many sessions there are of what they are counted by.
type count struct {
	n     int
	of    limited
	order *order // nil: nobody makes room here
}

// order is in which order sessions make room for new ones: first those that are settled, the
// oldest first, and then those in late, each since when it is there: that end already for a
// newer one, which then gives way, or that wait to be let in.
type order struct{ settled, late list.List }

// turn is a session's place in an order.
type turn struct {
	in *list.List // of sessions (*grant)
	at *list.Element
}

// limited is what sessions are counted by.
type limited struct {
	router string
	kind   limitKind
	name   string     // of limitUser, limitDomain and limitEntry
	source netip.Addr // of limitSource
}

// limitKind says which of the limits.
type limitKind uint8

const (
	limitUser limitKind = iota + 1
	limitDomain
	limitEntry
	limitSource
	limitRouter
)

// limitKinds are the reasons for which the limits refuse, and how the configuration calls them.
var limitKinds = [...]struct {
	reason aaa.Reason
	named  config.SessionLimit
}{
	limitUser:   {aaa.ReasonUserLimit, config.LimitUser},
	limitDomain: {aaa.ReasonDomainLimit, config.LimitDomain},
	limitEntry:  {aaa.ReasonDomainLimit, config.LimitDomain},
	limitSource: {aaa.ReasonSourceLimit, config.LimitSource},
	limitRouter: {aaa.ReasonRouterLimit, config.LimitRouter},
}

// place is one of what a session takes: a licence, or one of the sessions that a limit allows.
type place struct {
	taken
	limit    int // 0: none
	reason   aaa.Reason
	words    string // for it and whose it is
	replaces bool   // at the limit another session makes room
}

// taken is what a session remembers of a place.
type taken struct {
	used  *int
	count *count // nil: a licence
}

// order is nil if nobody makes room.
func (t taken) order() *order {
	if t.count == nil {
		return nil
	}
	return t.count.order
}

// scarce says that all of a place are taken.
func (p *place) scarce() string {
	if p.count == nil {
		return fmt.Sprintf("all %d %s are in use", p.limit, p.words)
	}
	return fmt.Sprintf("%s has %d sessions already", p.words, p.limit)
}

// takenBy are what a session takes that has these places.
func takenBy(places []place) []taken {
	out := make([]taken, len(places))
	for i := range places {
		out[i] = places[i].taken
	}
	return out
}

func newLimits(c *config.Config) limits {
	l := limits{counts: map[limited]*count{}}
	l.configure(c)
	return l
}

// configure takes over the limits of a configuration.
func (l *limits) configure(c *config.Config) {
	l.routers, l.users = map[string]config.Limits{}, false
	for _, r := range c.Routers {
		l.routers[r.Name] = r.Limits
		l.users = l.users || slices.Contains(r.Limits.Replaces, config.LimitUser)
	}
}

// places returns what a session that arrives in a router needs of the limits, that of its user
// first. Users are counted also where there is no limit, because another router may have one for
// them; entries and routers, because they are shown.
func (l *limits) places(router string, f subscriber.Decide, d aaa.Decision) []place {
	c := l.routers[router]
	remote := f.Request.Remote.Addr()
	user := limited{router: cmp.Or(d.By.Router, router), kind: limitUser, name: d.User}
	out := []place{l.place(&c, user, c.PerUser, "the user")}
	if c.PerSource > 0 {
		of := limited{router: router, kind: limitSource, source: sourceOf(router, remote).addr}
		out = append(out, l.place(&c, of, c.PerSource, "source "+remote.String()))
	}
	if d.By.Domain != "" {
		limit, words := d.DomainSessions, "entry %q of the domain map"
		if d.OwnEntry {
			limit, words = cmp.Or(limit, c.PerDomain), "domain %q"
		}
		out = append(out, l.place(&c, limited{router: router, kind: limitEntry, name: d.By.Domain}, limit, fmt.Sprintf(words, d.By.Domain)))
	}
	if d.Domain != "" && !d.OwnEntry && c.PerDomain > 0 {
		out = append(out, l.place(&c, limited{router: router, kind: limitDomain, name: d.Domain}, c.PerDomain, fmt.Sprintf("domain %q", d.Domain)))
	}
	return append(out, l.place(&c, limited{router: router, kind: limitRouter}, c.PerRouter, "virtual router "+router))
}

func (l *limits) place(by *config.Limits, of limited, limit int, words string) place {
	k := limitKinds[of.kind]
	c := l.count(of)
	return place{taken{&c.n, c}, limit, k.reason, words, slices.Contains(by.Replaces, k.named)}
}

func (l *limits) count(of limited) *count {
	c := l.counts[of]
	if c == nil {
		c = &count{of: of}
		if l.ordered(of) {
			c.order = &order{}
		}
		l.counts[of] = c
	}
	return c
}

// ordered says whether sessions that are counted by this make room for new ones.
func (l *limits) ordered(of limited) bool {
	return of.kind == limitUser && l.users || slices.Contains(l.routers[of.router].Replaces, limitKinds[of.kind].named)
}

// tidy forgets the counts of what nobody has.
func (l *limits) tidy(what []taken) {
	for _, t := range what {
		if t.count != nil && t.count.n == 0 {
			delete(l.counts, t.count.of)
		}
	}
}

// count takes what a session needs, uncount gives it back.
func (g *grant) count() {
	for _, t := range g.taken {
		*t.used++
	}
}

func (g *grant) uncount() {
	for _, t := range g.taken {
		*t.used--
	}
}

// settle notes a session that has been let in.
func (g *grant) settle() { g.queue(func(o *order) *list.List { return &o.settled }) }

// late notes that a session ends for another, or waits itself.
func (g *grant) late() { g.queue(func(o *order) *list.List { return &o.late }) }

func (g *grant) queue(in func(*order) *list.List) {
	g.leave()
	for _, t := range g.taken {
		if o := t.order(); o != nil {
			l := in(o)
			g.turns = append(g.turns, turn{l, l.PushBack(g)})
		}
	}
}

// leave notes that a session has gone, or waits no longer.
func (g *grant) leave() {
	for _, t := range g.turns {
		t.in.Remove(t.at)
	}
	g.turns = g.turns[:0]
}
