package controlplane

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
)

// limitModel holds what has happened to the leases of red, in plain lists, and works everything
// out from these.
type limitModel struct {
	*limitBed
	limits   config.Limits
	live     []*modelSession // by when they were let in
	waiting  []*modelSession
	inMiddle int // of how many a session was ended that was not the oldest of all
}

type modelSession struct {
	limitSession
	ask    limitAsk
	wait   *replacement
	ending bool // has been asked to
}

// has says whether a session counts for a limit on another.
func (s *modelSession) has(limit config.SessionLimit, a limitAsk) bool {
	switch limit {
	case config.LimitUser:
		return s.ask.user == a.user
	case config.LimitDomain:
		return s.ask.domain == a.domain
	case config.LimitSource:
		return s.ask.source == a.source
	}
	return true
}

func (m *limitModel) most(limit config.SessionLimit) int {
	return map[config.SessionLimit]int{
		config.LimitUser: m.limits.PerUser, config.LimitDomain: m.limits.PerDomain, config.LimitSource: m.limits.PerSource, config.LimitRouter: m.limits.PerRouter,
	}[limit]
}

// reached are the limits of who asks, by whether the configuration has sessions replaced there.
// Counted, one that ends for another is still there.
func (m *limitModel) reached(a limitAsk) (replaced, others []config.SessionLimit) {
	for _, limit := range everyLimit {
		n := 0
		for _, s := range m.live {
			if s.has(limit, a) {
				n++
			}
		}
		for _, s := range m.waiting {
			for i, t := range s.wait.grant.taken {
				if t.count != nil && limitKinds[t.count.of.kind].named == limit && s.has(limit, a) && s.wait.lent[i] == nil {
					n++
				}
			}
		}
		if n < m.most(limit) {
			continue
		}
		if slices.Contains(m.limits.Replaces, limit) {
			replaced = append(replaced, limit)
		} else {
			others = append(others, limit)
		}
	}
	return replaced, others
}

// ask has somebody ask, and checks what becomes of it.
func (m *limitModel) ask(a limitAsk) {
	m.ended = nil
	replaced, others := m.reached(a)
	d, s, wait := m.begin(a)
	now := &modelSession{limitSession: s, ask: a, wait: wait}
	switch {
	case len(replaced)+len(others) == 0 && !d.Accept:
		m.t.Errorf("%+v: no limit is reached, and %+v", a, d)
	case len(others) == 0 && wait == nil && !d.Accept:
		m.t.Errorf("%+v: only limits that replace are reached, %v, and %+v", a, replaced, d)
	case len(replaced) == 0 && len(others) > 0 && (d.Accept || wait != nil):
		m.t.Errorf("%+v: limits %v are reached, and %+v", a, others, d)
	}
	if !d.Accept && wait == nil && len(m.ended) > 0 {
		m.t.Errorf("%+v is refused, and %v have to end", a, m.ended)
	}
	m.asked(a, replaced)
	m.answers()
	switch {
	case wait != nil:
		m.waiting = append(m.waiting, now)
	case d.Accept:
		m.live = append(m.live, now)
	}
	m.check()
}

// asked checks who has been asked to end: at each step the oldest, of those that do not end
// yet, that counts for a limit that is reached.
func (m *limitModel) asked(a limitAsk, replaced []config.SessionLimit) {
	if len(m.ended) > len(replaced) {
		m.t.Errorf("%+v: %v end for the limits %v", a, m.ended, replaced)
	}
	for _, who := range m.ended {
		at := slices.IndexFunc(m.live, func(s *modelSession) bool { return s.who == who })
		s := m.live[at]
		if at > 0 {
			m.inMiddle++
		}
		if !s.ending && !slices.ContainsFunc(replaced, func(limit config.SessionLimit) bool {
			return s.has(limit, a) && !slices.ContainsFunc(m.live[:at], func(older *modelSession) bool { return older.has(limit, a) && !older.ending })
		}) {
			m.t.Errorf("%+v: %v has to end, and is the oldest of none of %v", a, who, replaced)
		}
		s.ending = true
	}
}

// answers takes the answers to those that waited.
func (m *limitModel) answers() {
	m.waiting = slices.DeleteFunc(m.waiting, func(s *modelSession) bool {
		if len(s.wait.answer) == 0 {
			return false
		}
		if out := <-s.wait.answer; out.decision.Accept {
			s.address = out.address
			m.live = append(m.live, s)
		}
		return true
	})
}

// check compares the counts and orders with the lists.
func (m *limitModel) check() {
	m.t.Helper()
	for of, c := range m.leases.limits.counts {
		n, queued := 0, 0
		for _, s := range slices.Concat(m.live, m.waiting) {
			var g *grant
			var lent []*grant
			if s.wait != nil && s.wait.grant.waits != nil {
				g, lent = s.wait.grant, s.wait.lent
			} else if g = m.grants[s.who]; g == nil {
				m.t.Fatalf("%v holds nothing", s.who)
			}
			i := slices.IndexFunc(g.taken, func(t taken) bool { return t.count == c })
			if i < 0 {
				continue
			}
			queued++
			if lent == nil || lent[i] == nil {
				n++
			} else if m.grants[lent[i].who] != lent[i] {
				m.t.Errorf("%+v is lent by %v, which has gone", of, lent[i].who)
			}
		}
		if n != c.n || n == 0 || n > m.most(limitKinds[of.kind].named) {
			m.t.Errorf("%+v: %d are counted, there are %d", of, c.n, n)
		}
		if c.order != nil && c.order.settled.Len()+c.order.late.Len() != queued {
			m.t.Errorf("%+v: %d and %d are queued, there are %d", of, c.order.settled.Len(), c.order.late.Len(), queued)
		}
	}
}

func (m *limitModel) leaves(at int) {
	s := m.live[at]
	m.live = slices.Delete(m.live, at, at+1)
	m.leave(s.limitSession)
	m.answers()
	m.check()
}

// TestReplaceModel: whatever happens in whatever order, the counts are those of the sessions that
// there are and never over a limit; who is ended is the oldest at a limit that is reached; who is
// refused has nobody ended; and who meets only limits that replace is not refused.
func TestReplaceModel(t *testing.T) {
	waited, refused, inMiddle := 0, 0, 0
	for seed := range uint64(48) {
		r := rand.New(rand.NewPCG(seed, 3))
		limits := config.Limits{PerUser: 1 + r.IntN(2), PerSource: 1 + r.IntN(4), PerDomain: 1 + r.IntN(6), PerRouter: 1 + r.IntN(12)}
		for _, limit := range everyLimit {
			if r.IntN(3) > 0 {
				limits.Replaces = append(limits.Replaces, limit)
			}
		}
		m := &limitModel{limitBed: newLimitBed(t, limits, config.Licences{}), limits: limits}
		for range 300 {
			switch n := r.IntN(10); {
			case n < 6:
				before := len(m.waiting)
				m.ask(limitAsk{
					router: "red", user: fmt.Sprint("user", r.IntN(6)), source: fmt.Sprintf("192.0.2.%d", r.IntN(4)), domain: fmt.Sprint("domain", r.IntN(3)),
				})
				if len(m.waiting) > before {
					waited++
				}
			case n < 9 && len(m.live) > 0:
				at := r.IntN(len(m.live))
				if i := slices.IndexFunc(m.live, func(s *modelSession) bool { return s.ending }); i >= 0 && r.IntN(3) > 0 {
					at = i
				}
				m.leaves(at)
			case len(m.waiting) > 0:
				late := m.waiting[r.IntN(len(m.waiting))].wait
				late.giveUp(refuse(aaa.ReasonUserLimit, "late"))
				m.leases.limits.tidy(late.grant.taken)
				refused++
				m.answers()
				m.check()
			}
		}
		for len(m.live) > 0 {
			m.leaves(0)
		}
		if len(m.waiting) > 0 {
			t.Errorf("%d wait for nobody", len(m.waiting))
		}
		m.assertEmpty()
		inMiddle += m.inMiddle
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, limits)
		}
	}
	if waited < 100 || refused < 20 || inMiddle < 100 {
		t.Errorf("%d waited, %d were refused late, %d ended that were not the oldest of all: not much of a test", waited, refused, inMiddle)
	}
}
