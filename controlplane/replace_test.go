package controlplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// replacing are limits at which a user's oldest session makes room.
var replacing = config.Limits{PerUser: 2, Replaces: []config.SessionLimit{config.LimitUser}}

// TestReplaceOldest: the newest session takes the place of the oldest, with its address, but only
// when that has really gone; a newer one takes the place of one that waits; others of the user
// stay.
func TestReplaceOldest(t *testing.T) {
	b := newLimitBed(t, replacing, config.Licences{Subscribers: 2})
	first, second := b.enter(limitAsk{user: "ann"}, ""), b.enter(limitAsk{user: "ann"}, "")
	_, third, wait3 := b.begin(limitAsk{user: "ann"})
	_, fourth, wait4 := b.begin(limitAsk{user: "ann"})
	_, fifth, wait5 := b.begin(limitAsk{user: "ann"})
	if wait3 == nil || wait4 == nil || wait5 == nil || len(b.ended) != 2 || b.ended[0] != first.who || b.ended[1] != second.who {
		t.Fatalf("ended %v, want %v and %v once", b.ended, first.who, second.who)
	}
	if d, _ := wait3.wait(t.Context()); d.Accept || d.Reason != aaa.ReasonUserLimit {
		t.Errorf("a newer session takes the place of the third: %+v", d)
	}
	b.leave(second)
	d, a := wait4.wait(t.Context())
	if !d.Accept || a != second.address {
		t.Errorf("the fourth: %+v, %v; want %v", d, a, second.address)
	}
	b.leave(first)
	if d, a := wait5.wait(t.Context()); !d.Accept || a != first.address {
		t.Errorf("the fifth: %+v, %v; want %v", d, a, first.address)
	}
	b.leave(third) // holds nothing
	b.leave(limitSession{fourth.who, second.address})
	b.leave(limitSession{fifth.who, first.address})
	b.assertEmpty()
}

// TestReplaceFixedAddress: who has a fixed address or a network and comes again, because its
// client vanished without a word, takes both over, also below the limit; from others nobody does.
func TestReplaceFixedAddress(t *testing.T) {
	b := newLimitBed(t, replacing, config.Licences{})
	ann := limitAsk{user: "ann", fixed: "10.0.0.7", routes: []string{"172.16.0.0/16"}}
	old := b.enter(ann, "")
	b.enter(limitAsk{user: "bob", fixed: "10.0.0.7"}, aaa.ReasonAddressInUse)
	b.enter(limitAsk{user: "bob", routes: []string{"172.16.0.0/16"}}, aaa.ReasonRouteInUse)
	_, again, wait := b.begin(ann)
	if wait == nil || len(b.ended) != 1 || b.ended[0] != old.who {
		t.Fatalf("ended %v", b.ended)
	}
	b.leave(old)
	d, a := wait.wait(t.Context())
	if !d.Accept || a != old.address {
		t.Fatalf("%+v, %v", d, a)
	}
	b.leave(limitSession{again.who, a})
	b.assertEmpty()
}

// TestReplaceNotForOthers: neither without replace-oldest, nor at another limit, nor of another
// user is anybody ended; and nobody is when the new one would be refused all the same.
func TestReplaceNotForOthers(t *testing.T) {
	deny := newLimitBed(t, config.Limits{PerUser: 1}, config.Licences{})
	deny.enter(limitAsk{user: "ann", fixed: "10.0.0.7"}, "")
	deny.enter(limitAsk{user: "ann", fixed: "10.0.0.7"}, aaa.ReasonAddressInUse)
	deny.enter(limitAsk{user: "ann"}, aaa.ReasonUserLimit)

	b := newLimitBed(t, config.Limits{PerUser: 1, PerSource: 1, PerDomain: 1, Replaces: []config.SessionLimit{config.LimitUser}}, config.Licences{IPsecTunnels: 1})
	b.enter(limitAsk{user: "ann", access: aaa.AccessL2TP}, "")
	b.enter(limitAsk{user: "bob"}, aaa.ReasonSourceLimit)
	bob := b.enter(limitAsk{user: "bob", source: "203.0.113.2", domain: "d", access: aaa.AccessXAuth}, "")
	b.enter(limitAsk{user: "ann", source: "203.0.113.2"}, aaa.ReasonSourceLimit)
	b.enter(limitAsk{user: "ann", domain: "d"}, aaa.ReasonDomainLimit)
	b.enter(limitAsk{user: "ann", access: aaa.AccessXAuth}, aaa.ReasonNoTunnelLicence)
	if len(deny.ended)+len(b.ended) != 0 {
		t.Errorf("ended %v, %v", deny.ended, b.ended)
	}
	// What the session has that makes room is as good as free.
	if _, _, wait := b.begin(limitAsk{user: "bob", source: "203.0.113.2", domain: "d", access: aaa.AccessXAuth}); wait == nil || len(b.ended) != 1 || b.ended[0] != bob.who {
		t.Errorf("ended %v", b.ended)
	}
}

// TestReplaceTakesTooLong: a session that does not end keeps its place; the new one is refused in
// time, and the next finds the place when the old one has gone after all.
func TestReplaceTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLimitBed(t, config.Limits{PerUser: 1, Replaces: []config.SessionLimit{config.LimitUser}}, config.Licences{})
		old := b.enter(limitAsk{user: "ann"}, "")
		_, _, wait := b.begin(limitAsk{user: "ann", source: "198.51.100.1"})
		began := time.Now()
		if d, _ := wait.wait(t.Context()); d.Accept || d.Reason != aaa.ReasonUserLimit || time.Since(began) != replaceWait {
			t.Errorf("after %v: %+v", time.Since(began), d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, _, wait = b.begin(limitAsk{user: "ann"})
		cancel()
		if d, _ := wait.wait(ctx); d.Accept || len(b.ended) != 2 {
			t.Errorf("%+v, ended %v", d, b.ended)
		}
		b.leave(old)
		b.leave(b.enter(limitAsk{user: "ann"}, ""))
		b.assertEmpty()
	})
}

// TestReplaceMeetsAnother: what others have taken while a session waited is theirs.
func TestReplaceMeetsAnother(t *testing.T) {
	b := newLimitBed(t, config.Limits{PerUser: 1, Replaces: []config.SessionLimit{config.LimitUser}}, config.Licences{})
	old := b.enter(limitAsk{user: "ann"}, "")
	_, _, wait := b.begin(limitAsk{user: "ann", routes: []string{"172.16.0.0/16"}})
	bob := b.enter(limitAsk{user: "bob", routes: []string{"172.16.0.0/16"}}, "")
	b.leave(old)
	if d, _ := wait.wait(t.Context()); d.Accept || d.Reason != aaa.ReasonRouteInUse {
		t.Errorf("%+v", d)
	}
	b.leave(bob)
	b.assertEmpty()
}

// everyLimit has the oldest session make room at every limit.
var everyLimit = []config.SessionLimit{config.LimitUser, config.LimitDomain, config.LimitSource, config.LimitRouter}

// TestReplaceAtEachLimit: of those that count for the limit the oldest makes room, whoever it is,
// and the place is then the new one's; where only other limits replace, nobody does.
func TestReplaceAtEachLimit(t *testing.T) {
	const other = "198.51.100.7"
	for name, c := range map[string]struct {
		limits config.Limits
		limit  config.SessionLimit
		reason aaa.Reason
		in     [3]limitAsk // the first does not count for the limit, the others are those that it allows
		out    limitAsk
	}{
		"user": {
			config.Limits{PerUser: 2}, config.LimitUser, aaa.ReasonUserLimit,
			[3]limitAsk{{user: "bob"}, {user: "ann"}, {user: "ann"}}, limitAsk{user: "ann", source: other},
		},
		"domain": {
			config.Limits{PerDomain: 2}, config.LimitDomain, aaa.ReasonDomainLimit,
			[3]limitAsk{{user: "ann", domain: "b"}, {user: "bob", domain: "a"}, {user: "ann", domain: "a"}}, limitAsk{user: "carl", domain: "a"},
		},
		"domain map": {
			config.Limits{PerDomain: 1}, config.LimitDomain, aaa.ReasonDomainLimit,
			[3]limitAsk{{user: "ann", domain: "x"}, {user: "bob", domain: "a", entry: "a", most: 2}, {user: "ann", domain: "a", entry: "a", most: 2}},
			limitAsk{user: "carl", domain: "a", entry: "a", most: 2},
		},
		"domain map of many": {
			config.Limits{}, config.LimitDomain, aaa.ReasonDomainLimit,
			[3]limitAsk{{user: "ann"}, {user: "bob", domain: "a", entry: "default", most: 2}, {user: "ann", domain: "b", entry: "default", most: 2}},
			limitAsk{user: "carl", domain: "c", entry: "default", most: 2},
		},
		"source": {
			config.Limits{PerSource: 2}, config.LimitSource, aaa.ReasonSourceLimit,
			[3]limitAsk{{user: "ann"}, {user: "bob", source: other}, {user: "ann", source: other}}, limitAsk{user: "carl", source: other},
		},
		"IPv6 customer": {
			config.Limits{PerSource: 2}, config.LimitSource, aaa.ReasonSourceLimit,
			[3]limitAsk{{user: "ann", source: "2001:db8:0:1::1"}, {user: "bob", source: "2001:db8::1"}, {user: "ann", source: "2001:db8::2"}},
			limitAsk{user: "carl", source: "2001:db8::3"},
		},
		"router": {
			config.Limits{PerRouter: 2}, config.LimitRouter, aaa.ReasonRouterLimit,
			[3]limitAsk{{user: "ann", router: "blue"}, {user: "bob"}, {user: "ann"}}, limitAsk{user: "carl", source: other},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, replaces := range everyLimit {
				c.limits.Replaces = []config.SessionLimit{replaces}
				b := newLimitBed(t, c.limits, config.Licences{})
				var in []limitSession
				for _, a := range c.in {
					in = append(in, b.enter(a, ""))
				}
				if replaces != c.limit {
					b.enter(c.out, c.reason)
					b.wantEnded()
					continue
				}
				_, s, wait := b.begin(c.out)
				b.wantEnded(in[1].who)
				b.leave(in[1])
				d, a := wait.wait(t.Context())
				if !d.Accept {
					t.Errorf("%+v", d)
				}
				b.leave(in[0])
				b.leave(in[2])
				b.leave(limitSession{s.who, a})
				b.assertEmpty()
			}
		})
	}
}

// wantEnded checks who has been asked to end, in order.
func (b *limitBed) wantEnded(want ...holder) {
	b.t.Helper()
	if !slices.Equal(b.ended, want) {
		b.t.Errorf("ended %v, want %v", b.ended, want)
	}
}

// TestReplaceSeveral: where several limits are reached each gets its place, the smallest first,
// and who frees several is asked once. The new session waits for all of them.
func TestReplaceSeveral(t *testing.T) {
	b := newLimitBed(t, config.Limits{PerUser: 1, PerSource: 1, PerDomain: 2, PerRouter: 4, Replaces: everyLimit}, config.Licences{})
	oldest := b.enter(limitAsk{user: "adam", source: "192.0.2.50"}, "")
	source := b.enter(limitAsk{user: "bob", source: "192.0.2.51"}, "")
	domain := b.enter(limitAsk{user: "carl", source: "192.0.2.52", domain: "d"}, "")
	user := b.enter(limitAsk{user: "dora", router: "blue", domain: "d"}, "") // counts for no other limit of red
	last := b.enter(limitAsk{user: "eve", source: "192.0.2.53", domain: "d"}, "")
	dora := limitAsk{user: "dora", source: "192.0.2.51", domain: "d"}
	_, s, wait := b.begin(dora)
	b.wantEnded(user.who, source.who, domain.who)
	for _, old := range []limitSession{source, user, domain} {
		if len(wait.answer) > 0 {
			t.Errorf("before the end of %v: %+v", old.who, <-wait.answer)
		}
		b.leave(old)
	}
	d, a := wait.wait(t.Context())
	if !d.Accept {
		t.Fatalf("%+v", d)
	}
	s.address = a
	more := b.enter(limitAsk{user: "fred", source: "192.0.2.54"}, "")
	b.ended = nil
	_, again, wait := b.begin(dora)
	b.wantEnded(s.who) // she has of everything
	b.leave(s)
	if d, again.address = wait.wait(t.Context()); !d.Accept {
		t.Errorf("%+v", d)
	}
	for _, s := range []limitSession{oldest, last, more, again} {
		b.leave(s)
	}
	b.assertEmpty()
}

// TestReplaceFew: who has more sessions than it may have, because they arrived where there is no
// limit, gets in if few of them end, and has none ended if there were many.
func TestReplaceFew(t *testing.T) {
	for _, n := range []int{maxReplaced, maxReplaced + 1} {
		b := newLimitBed(t, config.Limits{PerUser: 1, Replaces: everyLimit}, config.Licences{})
		var in []limitSession
		var who []holder
		for range n {
			s := b.enter(limitAsk{user: "ann", router: "blue"}, "")
			in, who = append(in, s), append(who, s.who)
		}
		if n > maxReplaced {
			b.enter(limitAsk{user: "ann"}, aaa.ReasonUserLimit)
			b.wantEnded()
		} else {
			_, _, wait := b.begin(limitAsk{user: "ann"})
			b.wantEnded(who...)
			defer func() {
				if d, _ := wait.wait(t.Context()); !d.Accept {
					t.Errorf("%+v", d)
				}
			}()
		}
		for _, s := range in {
			b.leave(s)
		}
	}
}

// TestReplaceComesAgain: a client that asks again while it waits gives way to itself, and nobody
// else has to end for that.
func TestReplaceComesAgain(t *testing.T) {
	b := newLimitBed(t, config.Limits{PerUser: 1, PerSource: 2, Replaces: everyLimit}, config.Licences{})
	first, second := b.enter(limitAsk{user: "bob"}, ""), b.enter(limitAsk{user: "carl"}, "")
	var waits []*replacement
	for range 3 {
		_, _, wait := b.begin(limitAsk{user: "ann"})
		waits = append(waits, wait)
	}
	b.wantEnded(first.who)
	elsewhere := b.enter(limitAsk{user: "ann", source: "192.0.2.2"}, "") // has to wait for nobody
	for _, wait := range waits {
		if d, _ := wait.wait(t.Context()); d.Accept || d.Reason != aaa.ReasonUserLimit {
			t.Errorf("%+v", d)
		}
	}
	b.leave(first)
	third := b.enter(limitAsk{user: "dora"}, "")
	b.wantEnded(first.who)
	for _, s := range []limitSession{second, third, elsewhere} {
		b.leave(s)
	}
	b.assertEmpty()
}

// TestReplaceOneStays: of two that have to end one does not. The new session is refused, and what
// the other has left is for anybody.
func TestReplaceOneStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLimitBed(t, config.Limits{PerSource: 1, PerDomain: 1, Replaces: everyLimit}, config.Licences{})
		ends, stays := b.enter(limitAsk{user: "bob"}, ""), b.enter(limitAsk{user: "carl", source: "192.0.2.2", domain: "d"}, "")
		_, _, wait := b.begin(limitAsk{user: "ann", domain: "d"})
		b.wantEnded(ends.who, stays.who)
		b.leave(ends)
		if d, _ := wait.wait(t.Context()); d.Accept || d.Reason != aaa.ReasonSourceLimit {
			t.Errorf("%+v", d)
		}
		b.leave(b.enter(limitAsk{user: "dora"}, ""))
		b.leave(stays)
		b.assertEmpty()
	})
}

// TestLimitsAtRandom: thousands come and go at once, old sessions are replaced while they end by
// themselves, and no number ever is over its limit; in the end nothing is left.
func TestLimitsAtRandom(t *testing.T) {
	for _, replaces := range [][]config.SessionLimit{{config.LimitUser}, {config.LimitDomain, config.LimitSource}, everyLimit} {
		t.Run(fmt.Sprint(replaces), func(t *testing.T) { limitsAtRandom(t, replaces) })
	}
}

func limitsAtRandom(t *testing.T, replaces []config.SessionLimit) {
	const workers, each, perUser, perDomain, perSource, perRouter, licences = 8, 600, 2, 4, 5, 10, 16
	b := newLimitBed(t, config.Limits{PerUser: perUser, PerDomain: perDomain, PerSource: perSource, PerRouter: perRouter, Replaces: replaces},
		config.Licences{Subscribers: licences})
	var live, asked sync.Map // holder to the function that ends it, once; and that it shall end, also before the former is there
	b.end = func(who holder, _ subscriber.Reason) {
		asked.Store(who, true)
		if end, alive := live.Load(who); alive {
			go end.(func())()
		}
	}
	users, domains, sources, routers := make([]atomic.Int32, 6), make([]atomic.Int32, 3), make([]atomic.Int32, 3), [2]atomic.Int32{}
	var in, waited, gotIn, refused atomic.Int32
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			var mine []func()
			for range each {
				user, domain, src, router := r.IntN(len(users)), r.IntN(len(domains)), r.IntN(len(sources)), r.IntN(5)/4
				a := limitAsk{
					router: []string{"red", "blue"}[router], user: fmt.Sprint("user", user), domain: fmt.Sprint("domain", domain), source: fmt.Sprintf("192.0.2.%d", src),
					access: []aaa.Access{aaa.AccessL2TP, aaa.AccessXAuth}[r.IntN(2)],
				}
				if r.IntN(5) == 0 {
					a.fixed = fmt.Sprintf("10.0.0.%d", 1+user)
				}
				d, s, wait := b.begin(a)
				if wait != nil {
					waited.Add(1)
					d, s.address = wait.wait(t.Context())
					if d.Accept {
						gotIn.Add(1)
					}
				}
				if !d.Accept {
					refused.Add(1)
				} else {
					// Counted from after the beginning until before the end: never more than there are.
					counted := []*atomic.Int32{&in}
					bounds := []int32{licences}
					if router == 0 { // blue has no limits
						counted = append(counted, &users[user], &domains[domain], &sources[src], &routers[0])
						bounds = append(bounds, perUser, perDomain, perSource, perRouter)
					}
					for i, c := range counted {
						if n := c.Add(1); n > bounds[i] {
							t.Errorf("%d sessions, the limit is %d (number %d)", n, bounds[i], i)
						}
					}
					var once sync.Once
					end := func() {
						once.Do(func() {
							live.Delete(s.who)
							for _, c := range counted {
								c.Add(-1)
							}
							b.leave(s)
						})
						b.leave(s)
					}
					live.Store(s.who, end)
					if _, early := asked.Load(s.who); early {
						go end()
					}
					mine = append(mine, end)
				}
				if len(mine) > 0 && r.IntN(2) == 0 {
					n := r.IntN(len(mine))
					mine[n]()
					mine = append(mine[:n], mine[n+1:]...)
				}
				if r.IntN(8) == 0 {
					runtime.Gosched()
				}
			}
			for _, end := range mine {
				end()
			}
		})
	}
	all.Wait()
	b.assertEmpty()
	if waited.Load() == 0 || gotIn.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d waited, %d of them got in, %d refused: not all of it was tried", waited.Load(), gotIn.Load(), refused.Load())
	}
}
