package controlplane

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

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
