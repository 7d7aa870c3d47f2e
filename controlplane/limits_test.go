package controlplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// limitBed is the leases of two virtual routers, red with limits and blue without.
type limitBed struct {
	t *testing.T
	*leases
	next  subscriber.ID
	ended []holder // asked to end, in order
	mu    sync.Mutex
}

func newLimitBed(t *testing.T, red config.Limits, process config.Licences) *limitBed {
	t.Helper()
	c := &config.Config{Process: config.Process{Licences: process}}
	for _, name := range []string{"blue", "red"} {
		c.Routers = append(c.Routers, &config.Router{
			Name: name, ServerAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			IPProfiles: []config.IPProfile{{Name: "users", Router: name, Unnumbered: netip.MustParseAddr("10.0.0.254")}},
			Pools: []config.Pool{{
				Name: "main", Ranges: []config.AddrRange{{First: netip.MustParseAddr("10.0.0.1"), Last: netip.MustParseAddr("10.0.0.250")}},
			}},
		})
	}
	c.Routers[1].Limits = red
	l, err := newLeases(c)
	if err != nil {
		t.Fatal(err)
	}
	b := &limitBed{t: t, leases: l}
	l.end = func(who holder, reason subscriber.Reason) {
		if reason != subscriber.ReasonReplaced {
			t.Errorf("session %v is ended by %q", who, reason)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ended = append(b.ended, who)
	}
	return b
}

// limitAsk is a subscriber that asks to be let in.
type limitAsk struct {
	router, user, domain, source, fixed string
	access                              aaa.Access
	most                                int // of the domain map
	routes                              []string
}

// session is one that has been let in.
type limitSession struct {
	who     holder
	address netip.Addr
}

func (b *limitBed) decision(a limitAsk) (subscriber.Decide, aaa.Decision) {
	if a.router == "" {
		a.router = "red"
	}
	if a.source == "" {
		a.source = "203.0.113.1"
	}
	f := subscriber.Decide{
		Profile: subscriber.IPProfile{Name: "users", Terminating: "red", Pool: "main", Gateway: netip.MustParseAddr("10.0.0.254")},
		Request: aaa.Request{Router: a.router, Access: a.access, Remote: netip.AddrPortFrom(netip.MustParseAddr(a.source), 4500)},
	}
	d := accepted(a.user)
	d.By.Domain, d.DomainSessions, d.By.Router = a.domain, a.most, "red"
	if a.fixed != "" {
		d.Address = netip.MustParseAddr(a.fixed)
	}
	for _, r := range a.routes {
		prefix, metric, _ := strings.Cut(r, " ")
		route := aaa.Route{Prefix: netip.MustParsePrefix(prefix)}
		_, _ = fmt.Sscan(metric, &route.Metric)
		d.Routes = append(d.Routes, route)
	}
	return f, d
}

// enter lets one in that needs not wait, or wants it refused by a reason.
func (b *limitBed) enter(a limitAsk, want aaa.Reason) limitSession {
	b.t.Helper()
	d, s, r := b.begin(a)
	if r != nil || d.Accept != (want == "") || d.Reason != want || s.address.IsValid() != d.Accept || !d.Accept && d.Text == "" {
		b.t.Errorf("%+v: waits %v, %v %q %q, %v; want %q", a, r != nil, d.Accept, d.Reason, d.Text, s.address, want)
	}
	return s
}

func (b *limitBed) begin(a limitAsk) (aaa.Decision, limitSession, *replacement) {
	if a.router == "" {
		a.router = "red"
	}
	f, d := b.decision(a)
	b.mu.Lock()
	b.next++
	who := holder{a.router, b.next}
	b.mu.Unlock()
	out, address, r := b.lease(who, f, d)
	return out, limitSession{who, address}, r
}

func (b *limitBed) leave(s limitSession) {
	b.release(s.who.router, subscriber.ReleaseAddress{ID: s.who.id, Terminating: "red", Address: s.address})
}

// assertEmpty checks that nothing is counted and nothing held.
func (b *limitBed) assertEmpty() {
	b.t.Helper()
	if n := len(b.limits.counts) + len(b.limits.users) + len(b.grants) + len(b.routes) + len(b.holders["red"]) + len(b.holders["blue"]); n != 0 {
		b.t.Errorf("left: counts %v, %d users, %d grants, %d routes, holders %v", b.limits.counts, len(b.limits.users), len(b.grants), len(b.routes), b.holders)
	}
	if p := b.licences.process; p.subscribers != 0 || p.tunnels != 0 {
		b.t.Errorf("left: %d and %d licences", p.subscribers, p.tunnels)
	}
	for k, p := range b.pools {
		if used, _ := p.Usage(); used != 0 {
			b.t.Errorf("left: %d addresses of %v", used, k)
		}
	}
}

// TestLimits (R5): each limit refuses by its own reason who is one too many, counts whom it is
// for and nobody else, and counts nobody twice or for ever.
func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits  config.Limits
		reason  aaa.Reason
		in      []limitAsk // up to the limit
		out     limitAsk   // one too many
		another limitAsk   // of whom there are not too many
	}{
		"user": {
			config.Limits{PerUser: 2}, aaa.ReasonUserLimit,
			[]limitAsk{{user: "ann"}, {user: "ann", router: "blue", source: "192.0.2.77"}}, limitAsk{user: "ann", source: "198.51.100.1"}, limitAsk{user: "Ann"},
		},
		"domain": {
			config.Limits{PerDomain: 2}, aaa.ReasonDomainLimit,
			[]limitAsk{{user: "ann", domain: "a"}, {user: "bob", domain: "a"}}, limitAsk{user: "carl", domain: "a"}, limitAsk{user: "carl", domain: "b"},
		},
		"domain map": {
			config.Limits{PerDomain: 10}, aaa.ReasonDomainLimit,
			[]limitAsk{{user: "ann", domain: "a", most: 1}}, limitAsk{user: "carl", domain: "a", most: 1}, limitAsk{user: "carl"},
		},
		"router": {
			config.Limits{PerRouter: 2}, aaa.ReasonRouterLimit,
			[]limitAsk{{user: "ann"}, {user: "bob"}}, limitAsk{user: "carl", source: "198.51.100.1"}, limitAsk{user: "carl", router: "blue"},
		},
		"source": {
			config.Limits{PerSource: 2}, aaa.ReasonSourceLimit,
			[]limitAsk{{user: "ann"}, {user: "bob"}}, limitAsk{user: "carl"}, limitAsk{user: "carl", source: "203.0.113.2"},
		},
		"IPv6 customer": {
			config.Limits{PerSource: 1}, aaa.ReasonSourceLimit,
			[]limitAsk{{user: "ann", source: "2001:db8::1"}}, limitAsk{user: "carl", source: "2001:db8::2"}, limitAsk{user: "carl", source: "2001:db8:0:1::1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newLimitBed(t, c.limits, config.Licences{})
			var in []limitSession
			for _, a := range c.in {
				in = append(in, b.enter(a, ""))
			}
			b.enter(c.out, c.reason)
			in = append(in, b.enter(c.another, ""))
			b.enter(c.out, c.reason)
			for range 2 { // the second time it holds nothing
				b.leave(in[0])
			}
			in = append(in[1:], b.enter(c.out, ""))
			b.enter(c.out, c.reason)
			for _, s := range in {
				b.leave(s)
			}
			b.assertEmpty()
		})
	}
}

// replacing are limits at which a user's oldest session makes room.
var replacing = config.Limits{PerUser: 2, WhenReached: config.ReplaceOldest}

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
	deny := newLimitBed(t, config.Limits{PerUser: 1, WhenReached: config.Deny}, config.Licences{})
	deny.enter(limitAsk{user: "ann", fixed: "10.0.0.7"}, "")
	deny.enter(limitAsk{user: "ann", fixed: "10.0.0.7"}, aaa.ReasonAddressInUse)
	deny.enter(limitAsk{user: "ann"}, aaa.ReasonUserLimit)

	b := newLimitBed(t, config.Limits{PerUser: 1, PerSource: 1, PerDomain: 1, WhenReached: config.ReplaceOldest}, config.Licences{IPsecTunnels: 1})
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
		b := newLimitBed(t, config.Limits{PerUser: 1, WhenReached: config.ReplaceOldest}, config.Licences{})
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
	b := newLimitBed(t, config.Limits{PerUser: 1, WhenReached: config.ReplaceOldest}, config.Licences{})
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

// TestLimitsAtRandom: thousands come and go at once, old sessions are replaced while they end by
// themselves, and no number ever is over its limit; in the end nothing is left.
func TestLimitsAtRandom(t *testing.T) {
	const workers, each, perUser, perDomain, perSource, perRouter, licences = 8, 1500, 2, 9, 12, 20, 22
	b := newLimitBed(t, config.Limits{PerUser: perUser, PerDomain: perDomain, PerSource: perSource, PerRouter: perRouter, WhenReached: config.ReplaceOldest},
		config.Licences{Subscribers: licences})
	var live sync.Map // holder to the function that ends it, once
	b.end = func(who holder, _ subscriber.Reason) {
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
				user, domain, src, router := r.IntN(len(users)), r.IntN(len(domains)), r.IntN(len(sources)), r.IntN(2)
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
					mine = append(mine, end)
				}
				if len(mine) > 0 && r.IntN(3) == 0 {
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
