package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/subscriber"
)

// testLeases are those of two virtual routers with the same three addresses, of which one is
// a user's fixed address, as the configuration takes care of.
func testLeases(t *testing.T) *leases {
	t.Helper()
	c := &config.Config{}
	for _, name := range []string{"blue", "red"} {
		c.Routers = append(c.Routers, &config.Router{Name: name, Pools: []config.Pool{{
			Name:    "main",
			Ranges:  []config.AddrRange{{First: netip.MustParseAddr("10.0.0.1"), Last: netip.MustParseAddr("10.0.0.3")}},
			Exclude: []config.AddrRange{{First: netip.MustParseAddr("10.0.0.2"), Last: netip.MustParseAddr("10.0.0.2")}},
		}}})
	}
	for _, r := range c.Routers {
		r.IPProfiles = []config.IPProfile{{Name: "users", Router: r.Name, Unnumbered: netip.MustParseAddr("10.0.0.254")}}
	}
	l, err := newLeases(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var testDecide = subscriber.Decide{
	Profile: subscriber.IPProfile{Name: "users", Terminating: "red", Pool: "main"}, Request: aaa.Request{Access: aaa.AccessL2TPIPsec},
}

func accepted(user string) aaa.Decision { return aaa.Decision{Accept: true, User: user} }

// TestLeases: addresses are held once in each virtual router, and a release gives back what
// the holder had and nothing else.
func TestLeases(t *testing.T) {
	l := testLeases(t)
	fixed := accepted("alice")
	fixed.Address = netip.MustParseAddr("10.0.0.2")
	blue := fixed
	blue.Terminating = "blue"

	lease := func(id subscriber.ID, d aaa.Decision, want string, reason aaa.Reason) netip.Addr {
		t.Helper()
		got, a, _ := l.lease(holder{"red", id}, testDecide, d)
		if got.Accept != (reason == "") || got.Reason != reason || a.IsValid() != got.Accept || want != "" && a.String() != want || !got.Accept && got.Text == "" {
			t.Errorf("session %d: %+v, %v; want %q, %q", id, got, a, want, reason)
		}
		return a
	}
	lease(1, fixed, "10.0.0.2", "")
	lease(2, fixed, "", aaa.ReasonAddressInUse)
	lease(3, blue, "10.0.0.2", "") // another tenant's
	first := lease(4, accepted("bob"), "10.0.0.1", "")
	lease(5, accepted("bob"), "10.0.0.3", "") // a second device
	lease(6, accepted("carol"), "", aaa.ReasonPoolEmpty)
	if used := l.usage("red"); len(used) != 1 || used[0].Used != 2 || used[0].Size != 2 {
		t.Errorf("usage %+v", used)
	}

	// Not the holder: nothing changes.
	l.release("red", subscriber.ReleaseAddress{ID: 99, Terminating: "red", Pool: "main", User: "carol", Address: first})
	l.release("red", subscriber.ReleaseAddress{ID: 4, Terminating: "blue", Pool: "main", User: "bob", Address: first})
	lease(7, accepted("carol"), "", aaa.ReasonPoolEmpty)
	l.release("red", subscriber.ReleaseAddress{ID: 4, Terminating: "red", Pool: "main", User: "bob", Address: first})
	lease(8, accepted("carol"), "10.0.0.1", "")
	// Released twice: it is carol's now.
	l.release("red", subscriber.ReleaseAddress{ID: 4, Terminating: "red", Pool: "main", User: "bob", Address: first})
	lease(9, accepted("dave"), "", aaa.ReasonPoolEmpty)

	if got := l.source("red", first); got != aaa.FromPool {
		t.Errorf("%v comes from %s", first, got)
	}
	if got := l.source("red", fixed.Address); got != aaa.FromUser {
		t.Errorf("%v comes from %s", fixed.Address, got)
	}
	none := testDecide
	none.Profile.Pool = "other"
	if d, a, _ := l.lease(holder{"red", 10}, none, accepted("erin")); d.Accept || d.Reason != aaa.ReasonNoPool || a.IsValid() {
		t.Errorf("without a pool: %+v, %v", d, a)
	}
}

// TestGateway: who is moved to another virtual router gets our address there, or is refused.
func TestGateway(t *testing.T) {
	l := testLeases(t)
	ask := testDecide
	ask.Profile.Gateway = netip.MustParseAddr("10.9.9.9")
	l.places["green"] = &terminating{}
	for id, c := range []struct {
		terminating, gateway, want string
		reason                     aaa.Reason
	}{
		{"", "", "10.9.9.9", ""},                 // the profile's own
		{"red", "", "10.9.9.9", ""},              // the same
		{"blue", "", "10.0.0.254", ""},           // what an IP profile has there
		{"blue", "10.0.0.250", "10.0.0.250", ""}, // what AAA says
		{"green", "", "", aaa.ReasonNoGateway},
		{"nowhere", "10.0.0.250", "", aaa.ReasonNoRouter},
	} {
		d := accepted("ann")
		d.Terminating = c.terminating
		if c.gateway != "" {
			d.Gateway = netip.MustParseAddr(c.gateway)
		}
		who := holder{"red", subscriber.ID(id)}
		got, a, _ := l.lease(who, ask, d)
		if got.Accept != (c.reason == "") || got.Reason != c.reason || got.Accept && got.Gateway.String() != c.want || !got.Accept && got.Text == "" {
			t.Errorf("%+v: %v %q %q, gateway %v", c, got.Accept, got.Reason, got.Text, got.Gateway)
		}
		l.release("red", subscriber.ReleaseAddress{ID: who.id, Terminating: cmp.Or(c.terminating, "red"), Address: a})
	}
	if len(l.grants) != 0 {
		t.Errorf("%d grants are left", len(l.grants))
	}
}

// TestFixedAddresses: addresses that AAA names are held like those of the pools: one in a pool's
// ranges is leased to nobody else, our own and those that no subscriber can have are refused.
func TestFixedAddresses(t *testing.T) {
	b := newLimitBed(t, config.Limits{}, config.Licences{})
	for address, reason := range map[string]aaa.Reason{
		"10.0.0.254": aaa.ReasonAddressInUse, "192.0.2.1": aaa.ReasonAddressInUse, // ours
		"127.0.0.1": aaa.ReasonBadAnswer, "224.0.0.5": aaa.ReasonBadAnswer, "0.0.0.0": aaa.ReasonBadAnswer, "2001:db8::1": aaa.ReasonBadAnswer,
		"172.30.0.1": "", "10.0.0.1": "",
	} {
		if s := b.enter(limitAsk{user: "ann", fixed: address}, reason); reason == "" {
			defer b.leave(s)
		}
	}
	if used := b.usage("red"); used[0].Used != 1 {
		t.Errorf("%+v: want what is of its ranges", used)
	}
	for range 3 {
		if s := b.enter(limitAsk{user: "bob"}, ""); s.address.String() == "10.0.0.1" {
			t.Error("a fixed address was leased")
		}
	}
	b.enter(limitAsk{user: "carl", fixed: "10.0.0.2"}, aaa.ReasonAddressInUse) // bob's
	if got := b.source("red", netip.MustParseAddr("10.0.0.1")); got != aaa.FromUser {
		t.Errorf("a fixed address comes from %q", got)
	}
}

// TestRoutes (R8): a network is behind one subscriber of a terminating virtual router at a time;
// with another metric, or as a part of another's, it may be behind two. A single address that is
// behind one is nobody else's own.
func TestRoutes(t *testing.T) {
	b := newLimitBed(t, config.Limits{}, config.Licences{})
	ann := b.enter(limitAsk{user: "ann", fixed: "10.0.0.7", routes: []string{"172.16.0.0/16", "172.16.0.0/16", "10.0.0.7/32", "10.0.0.9/32", "10.0.0.9/32 5", "2001:db8::/64"}}, "")
	for _, c := range []struct {
		limitAsk
		reason aaa.Reason
	}{
		{limitAsk{routes: []string{"172.16.0.0/16"}}, aaa.ReasonRouteInUse},
		{limitAsk{routes: []string{"172.20.0.0/16", "172.16.5.5/16"}}, aaa.ReasonRouteInUse}, // the same network
		{limitAsk{routes: []string{"172.16.0.0/16 10"}}, ""},
		{limitAsk{routes: []string{"172.16.1.0/24"}}, ""},
		{limitAsk{routes: []string{"2001:db8::/64"}}, ""},
		{limitAsk{routes: []string{"10.0.0.7/32 9"}}, aaa.ReasonRouteInUse}, // her address
		{limitAsk{routes: []string{"10.0.0.9/32 9"}}, aaa.ReasonRouteInUse},
		{limitAsk{fixed: "10.0.0.9"}, aaa.ReasonAddressInUse},
	} {
		c.user = "bob"
		if s := b.enter(c.limitAsk, c.reason); c.reason == "" {
			b.leave(s)
		}
	}
	var others []limitSession
	for range 248 { // all that the pool has but for those two
		s := b.enter(limitAsk{user: "carl"}, "")
		if others = append(others, s); s.address.String() == "10.0.0.9" {
			t.Error("an address behind somebody was leased")
		}
	}
	b.enter(limitAsk{user: "dora"}, aaa.ReasonPoolEmpty)
	b.leave(ann)
	others = append(others, b.enter(limitAsk{user: "bob", fixed: "10.0.0.9", routes: []string{"172.16.0.0/16"}}, ""))
	for _, s := range others {
		b.leave(s)
	}
	b.assertEmpty()
}

// TestPoolWarning: a pool that runs out is told of once, and once that it has room again, however
// its use goes up and down in between.
func TestPoolWarning(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	c := &config.Config{Routers: []*config.Router{{Name: "red", Pools: []config.Pool{
		{Name: "main", WarnAt: 80, WarnUntil: 50, Ranges: []config.AddrRange{addrRange("10.0.0.1", "10.0.0.10")}},
	}}}}
	l, err := newLeases(c)
	if err != nil {
		t.Fatal(err)
	}
	l.log = zap.New(core)
	held := map[subscriber.ID]netip.Addr{}
	next := subscriber.ID(0)
	use := func(n, lines int) {
		t.Helper()
		for len(held) < n {
			next++
			held[next] = mustLease(t, l, next, fmt.Sprint("user", next))
		}
		for id, a := range held {
			if len(held) > n {
				l.release("red", subscriber.ReleaseAddress{ID: id, Terminating: "red", Address: a})
				delete(held, id)
			}
		}
		if logs.Len() != lines {
			t.Errorf("at %d of 10 there are %d lines, want %d: %v", n, logs.Len(), lines, logs.All())
		}
	}
	use(7, 0)
	use(8, 1)
	use(10, 1)
	use(5, 1)
	use(9, 1)
	use(4, 2)
	use(7, 2)
	use(8, 3)
	use(0, 4)
	for i, want := range []zapcore.Level{zapcore.WarnLevel, zapcore.InfoLevel, zapcore.WarnLevel, zapcore.InfoLevel} {
		if e := logs.All()[i]; e.Level != want || e.ContextMap()["pool"] != "main" || e.ContextMap()["vr"] != "red" {
			t.Errorf("line %d: %v %v", i, e, e.ContextMap())
		}
	}
	l.watches[poolKey{"red", "main"}].warnAt = 0
	use(10, 4) // never
}

// TestDecide: an address is leased only to who is accepted, and only the first time.
func TestDecide(t *testing.T) {
	l := testLeases(t)
	users := aaa.NewLocal([]aaa.User{{Name: "bob", Password: keymat.Secret("right")}})
	ask := func(password string, again bool) subscriber.Decided {
		d, _ := l.decide(context.Background(), "red", users, subscriber.Decide{
			ID: 1, Profile: testDecide.Profile, Again: again, Request: aaa.Request{User: "bob", Protocol: aaa.PAP, Password: keymat.Secret(password)},
		})
		return d
	}
	if d := ask("wrong", false); d.Decision.Accept || d.Address.IsValid() || d.Decision.Reason != aaa.ReasonWrongPassword {
		t.Errorf("wrong password: %+v", d)
	}
	if d := ask("right", true); !d.Decision.Accept || d.Address.IsValid() {
		t.Errorf("again: %+v", d)
	}
	if used := l.usage("red"); used[0].Used != 0 {
		t.Errorf("%d addresses leased", used[0].Used)
	}
	if d := ask("right", false); !d.Decision.Accept || d.Address.String() != "10.0.0.1" || d.ID != 1 {
		t.Errorf("first time: %+v", d)
	}
}

// TestLeasesConcurrently: workers of several routers lease and release at once.
func TestLeasesConcurrently(t *testing.T) {
	l := testLeases(t)
	var held sync.Map
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for n := range 500 {
				id := subscriber.ID(w*1000 + n + 1)
				user := fmt.Sprint("user", w)
				d, a, _ := l.lease(holder{"red", id}, testDecide, accepted(user))
				if !d.Accept {
					continue
				}
				if other, taken := held.LoadOrStore(a, id); taken {
					t.Errorf("%v leased to %d and %d", a, id, other)
				}
				held.Delete(a)
				l.release("red", subscriber.ReleaseAddress{ID: id, Terminating: "red", Pool: "main", User: user, Address: a})
			}
		})
	}
	all.Wait()
	if used := l.usage("red"); used[0].Used != 0 || len(l.holders["red"]) != 0 {
		t.Errorf("%+v and %d holders after all have released", used, len(l.holders["red"]))
	}
}

// TestHandedOn: who is handed on to another LNS has its places, and no address or route even where AAA names some; it gives
// the places back like everybody.
func TestHandedOn(t *testing.T) {
	l := testLeases(t)
	limits := l.limits.routers["red"]
	limits.PerUser = 1
	l.limits.routers["red"] = limits
	d := accepted("alice")
	d.Tunnels = []aaa.Tunnel{{Server: netip.MustParseAddr("203.0.113.1")}}
	d.Terminating, d.Address, d.Pool = "nowhere", netip.MustParseAddr("10.0.0.2"), "none"
	d.Routes = []aaa.Route{{Prefix: netip.MustParsePrefix("10.77.0.0/16")}}
	got, a, _ := l.lease(holder{"red", 1}, testDecide, d)
	if !got.Accept || a.IsValid() || len(got.Tunnels) != 1 || len(l.holders["red"]) != 0 || len(l.routes) != 0 || l.usage("red")[0].Used != 0 {
		t.Errorf("%+v, %v; addresses %v, routes %v", got, a, l.holders["red"], l.routes)
	}
	if again, _, _ := l.lease(holder{"red", 2}, testDecide, d); again.Accept || again.Reason != aaa.ReasonUserLimit {
		t.Errorf("a second session: %+v", again)
	}
	l.release("red", subscriber.ReleaseAddress{ID: 1, Terminating: "blue", User: "alice"}) // not what it holds
	if again, _, _ := l.lease(holder{"red", 3}, testDecide, d); again.Accept {
		t.Errorf("a second session: %+v", again)
	}
	l.release("red", subscriber.ReleaseAddress{ID: 1, Terminating: "red", User: "alice"})
	if again, _, _ := l.lease(holder{"red", 4}, testDecide, accepted("alice")); !again.Accept {
		t.Errorf("after the first has gone: %+v", again)
	}
	if len(l.grants) != 1 {
		t.Errorf("%d sessions hold something", len(l.grants))
	}
}
