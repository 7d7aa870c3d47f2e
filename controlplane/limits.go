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
// Whose sessions they are: the user and the domain map's entry as AAA calls them, of the virtual
// router whose AAA has decided, and that in which the subscriber arrived; the outer address,
// for IPv6 its /64, of those that arrived in the same virtual router.
type limits struct {
	routers map[string]config.Limits
	counts  map[limited]*count
	users   map[limited]*userSessions
}

// count is how many sessions there are of what they are counted by.
type count struct {
	n  int
	of limited
}

// limited is what sessions are counted by.
type limited struct {
	router string
	kind   limitKind
	name   string     // of limitUser and limitDomain
	source netip.Addr // of limitSource
}

// limitKind says which of the limits.
type limitKind uint8

const (
	limitUser limitKind = iota + 1
	limitDomain
	limitRouter
	limitSource
)

// place is one of what a session takes: a licence, or one of the sessions that a limit allows.
type place struct {
	taken
	limit  int // 0: none
	reason aaa.Reason
	words  string // for it and whose it is
}

// taken is what a session remembers of a place.
type taken struct {
	used *int
	of   *limited // nil: a licence
}

// scarce says that all of a place are taken.
func (p *place) scarce() string {
	if p.of == nil {
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

// userSessions are one user's sessions, the oldest first. Those that are about to make room for
// another are in ending, those whose successor has waited longest first.
type userSessions struct{ settled, ending list.List }

// entry is a session's place among its user's.
type entry = *list.Element

func newLimits(c *config.Config) limits {
	l := limits{routers: map[string]config.Limits{}, counts: map[limited]*count{}, users: map[limited]*userSessions{}}
	for _, r := range c.Routers {
		l.routers[r.Name] = r.Limits
	}
	return l
}

// userOf is by what a user's sessions are counted.
func userOf(router string, d aaa.Decision) limited {
	return limited{router: cmp.Or(d.By.Router, router), kind: limitUser, name: d.User}
}

// places returns what a session that arrives in a router needs of the limits. Also where there is
// no limit it is counted, because another router may have one for the same user.
func (l *limits) places(router string, f subscriber.Decide, d aaa.Decision) []place {
	c := l.routers[router]
	remote := f.Request.Remote.Addr()
	out := []place{
		l.place(userOf(router, d), c.PerUser, aaa.ReasonUserLimit, "the user"),
		l.place(limited{router: router, kind: limitRouter}, c.PerRouter, aaa.ReasonRouterLimit, "virtual router "+router),
		l.place(limited{router: router, kind: limitSource, source: sourceOf(router, remote).addr}, c.PerSource, aaa.ReasonSourceLimit, "source "+remote.String()),
	}
	if d.By.Domain != "" {
		limit := cmp.Or(d.DomainSessions, c.PerDomain)
		out = append(out, l.place(limited{router: router, kind: limitDomain, name: d.By.Domain}, limit, aaa.ReasonDomainLimit, "domain "+d.By.Domain))
	}
	return out
}

func (l *limits) place(of limited, limit int, reason aaa.Reason, words string) place {
	c := l.counts[of]
	if c == nil {
		c = &count{of: of}
		l.counts[of] = c
	}
	return place{taken{&c.n, &c.of}, limit, reason, words}
}

// tidy forgets the counts of what nobody has.
func (l *limits) tidy(what []taken) {
	for _, t := range what {
		if t.of != nil && *t.used == 0 {
			delete(l.counts, *t.of)
		}
	}
}

// missing returns the first of the places that is not to be had, with what another session has,
// which gives it up, counted as free; nil if all are.
func missing(want []place, instead []taken) *place {
	for i := range want {
		p := &want[i]
		used := *p.used
		if slices.Contains(instead, p.taken) {
			used--
		}
		if p.limit > 0 && used >= p.limit {
			return p
		}
	}
	return nil
}

// add counts what is in a and not in b.
func add(a, b []taken, n int) {
	for _, t := range a {
		if !slices.Contains(b, t) {
			*t.used += n
		}
	}
}

// sessions returns a user's sessions, which come to be if there are none.
func (l *limits) sessions(user limited) *userSessions {
	s := l.users[user]
	if s == nil {
		s = &userSessions{}
		l.users[user] = s
	}
	return s
}

// enter notes a session that has been let in.
func (l *limits) enter(g *grant) { g.entry = l.sessions(g.user).settled.PushBack(g) }

// leave notes that a session has gone.
func (l *limits) leave(g *grant) {
	s := l.sessions(g.user)
	s.settled.Remove(g.entry) // each does nothing to what is in the other
	s.ending.Remove(g.entry)
	if s.settled.Len()+s.ending.Len() == 0 {
		delete(l.users, g.user)
	}
}

// give has a session make room, or make it for another than before.
func (l *limits) give(g *grant) {
	s := l.sessions(g.user)
	s.settled.Remove(g.entry)
	s.ending.Remove(g.entry)
	g.entry = s.ending.PushBack(g)
}

// oldest returns which of a user's sessions makes room for a new one: the oldest of those that
// make it for nobody yet, or else that whose successor has waited longest and now gives way
// itself. nil: the user has none.
func (l *limits) oldest(user limited) *grant {
	s := l.users[user]
	if s == nil {
		return nil
	}
	at := s.settled.Front()
	if at == nil {
		at = s.ending.Front()
	}
	return at.Value.(*grant)
}
