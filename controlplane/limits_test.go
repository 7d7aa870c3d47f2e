package controlplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/api"
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
	router, user, source, fixed string
	domain, entry               string // of the name, of the domain map
	most                        int    // of the entry
	access                      aaa.Access
	routes                      []string
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
	d.By.Router, d.By.Domain, d.Domain, d.DomainSessions = "red", a.entry, a.domain, a.most
	d.OwnEntry = a.entry != "" && a.entry == a.domain && a.entry != "default"
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
	if n := len(b.limits.counts) + len(b.grants) + len(b.routes) + len(b.holders["red"]) + len(b.holders["blue"]); n != 0 {
		b.t.Errorf("left: counts %v, %d grants, %d routes, holders %v", b.limits.counts, len(b.grants), len(b.routes), b.holders)
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
		"no domain": {
			config.Limits{PerDomain: 1}, aaa.ReasonDomainLimit,
			[]limitAsk{{user: "ann", domain: "a"}}, limitAsk{user: "bob", domain: "a", entry: "default"}, limitAsk{user: "carl", entry: "none"},
		},
		"unknown domains": {
			config.Limits{PerDomain: 1}, aaa.ReasonDomainLimit,
			[]limitAsk{{user: "ann", domain: "a", entry: "default", most: 9}}, limitAsk{user: "bob", domain: "a", entry: "default", most: 9},
			limitAsk{user: "carl", domain: "b", entry: "default", most: 9},
		},
		"domain map": {
			config.Limits{PerDomain: 10}, aaa.ReasonDomainLimit,
			[]limitAsk{{user: "ann", domain: "a", entry: "a", most: 1}}, limitAsk{user: "carl", domain: "a", entry: "a", most: 1}, limitAsk{user: "carl"},
		},
		"domain map above the limit": {
			config.Limits{PerDomain: 1}, aaa.ReasonDomainLimit,
			[]limitAsk{{user: "ann", domain: "a", entry: "a", most: 2}, {user: "bob", domain: "a", entry: "a", most: 2}}, limitAsk{user: "carl", domain: "a", entry: "a", most: 2},
			limitAsk{user: "carl", domain: "b"},
		},
		"domain map of many": {
			config.Limits{PerDomain: 2}, aaa.ReasonDomainLimit,
			[]limitAsk{{user: "ann", domain: "a", entry: "default", most: 2}, {user: "bob", domain: "b", entry: "default", most: 2}},
			limitAsk{user: "carl", entry: "default", most: 2}, limitAsk{user: "carl", domain: "c", entry: "c", most: 2},
		},
		"domain called default": {
			config.Limits{PerDomain: 1}, aaa.ReasonDomainLimit,
			[]limitAsk{{user: "ann", domain: "default", entry: "default", most: 9}}, limitAsk{user: "carl", domain: "default", entry: "default", most: 9},
			limitAsk{user: "carl", domain: "a", entry: "default", most: 9},
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

// TestExplainLimits (R5): who asks is told the limits that hold for the domain of the name.
func TestExplainLimits(t *testing.T) {
	b := newLimitBed(t, config.Limits{PerDomain: 4, PerSource: 5, Replaces: []config.SessionLimit{config.LimitSource}}, config.Licences{})
	b.enter(limitAsk{user: "ann", domain: "a", entry: "a"}, "")
	b.enter(limitAsk{user: "bob", domain: "b", entry: "default", most: 9}, "")
	b.enter(limitAsk{user: "carl", domain: "b", entry: "default", most: 9}, "")
	red := &config.Router{Name: "red", Limits: b.limits.routers["red"]}
	for _, c := range []struct {
		domain string
		entry  *config.DomainMap
		want   string
	}{
		{"a", &config.DomainMap{Domain: "a"}, "now 1, more are refused"},
		{"a", &config.DomainMap{Domain: "a", MaxSessions: 9}, ""}, // said where the entry is explained
		{"b", &config.DomainMap{Domain: "default", MaxSessions: 9}, "now 2, more are refused"},
		{"default", &config.DomainMap{Domain: "default", MaxSessions: 9}, "now 0, more are refused"},
		{"c", nil, "now 0, more are refused"},
		{"", &config.DomainMap{Domain: "none"}, ""},
	} {
		var want []api.ExplainStep
		if c.want != "" {
			want = append(want, api.ExplainStep{Topic: "sessions of the domain", Value: "at most 4", Reason: c.want})
		}
		want = append(want, api.ExplainStep{Topic: "sessions of the source", Value: "at most 5", Reason: "by outer address, one more ends the oldest"})
		if got := b.explain(red, c.domain, c.entry); !slices.Equal(got, want) {
			t.Errorf("%q: %+v, want %+v", c.domain, got, want)
		}
	}
}
