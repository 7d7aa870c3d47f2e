package controlplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// licensed makes two virtual routers with licences of their own and of the process.
func licensed(t *testing.T, process, red config.Licences) *leases {
	t.Helper()
	c := &config.Config{}
	c.Process.Licences = process
	for _, name := range []string{"blue", "red"} {
		c.Routers = append(c.Routers, &config.Router{Name: name, Pools: []config.Pool{{
			Name: "main", Ranges: []config.AddrRange{{First: netip.MustParseAddr("10.0.0.1"), Last: netip.MustParseAddr("10.0.0.20")}},
		}}})
	}
	c.Routers[1].Licences = red
	l, err := newLeases(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func licenceAsk(access aaa.Access, terminating string) subscriber.Decide {
	return subscriber.Decide{
		Request: aaa.Request{Access: access}, Profile: subscriber.IPProfile{Terminating: terminating, Pool: "main"},
	}
}

// TestLicences (J12): every subscriber takes a licence, those with IPsec two; whoever finds one
// missing takes none, and hears which and whose.
func TestLicences(t *testing.T) {
	l := licensed(t, config.Licences{Subscribers: 4, IPsecTunnels: 3}, config.Licences{Subscribers: 2, IPsecTunnels: 1})
	id := subscriber.ID(0)
	lease := func(router string, access aaa.Access, missing aaa.Reason, words string) netip.Addr {
		t.Helper()
		id++
		d, a, _ := l.lease(holder{router, id}, licenceAsk(access, router), accepted(fmt.Sprint("user", id)))
		if d.Accept != (missing == "") || d.Reason != missing || !strings.Contains(d.Text, words) || a.IsValid() != d.Accept {
			t.Errorf("session %d of %s by %s: %+v, %v; want %q with %q", id, router, access, d, a, missing, words)
		}
		return a
	}
	used := func(subscribers, tunnels int) {
		t.Helper()
		if p := l.licences.process; p.subscribers != subscribers || p.tunnels != tunnels {
			t.Errorf("%d subscriber and %d tunnel licences in use, want %d and %d", p.subscribers, p.tunnels, subscribers, tunnels)
		}
	}
	lease("red", aaa.AccessXAuth, "", "")
	lease("red", aaa.AccessL2TPIPsec, aaa.ReasonNoTunnelLicence, "all 1 IPsec tunnel licences of virtual router red")
	used(1, 1)
	lease("red", aaa.AccessL2TP, "", "")
	used(2, 1)
	lease("red", aaa.AccessL2TP, aaa.ReasonNoSubscriberLicence, "all 2 subscriber licences of virtual router red")
	lease("blue", aaa.AccessL2TPIPsec, "", "")
	last := lease("blue", aaa.AccessXAuth, "", "")
	used(4, 3)
	lastID := id
	lease("blue", aaa.AccessL2TP, aaa.ReasonNoSubscriberLicence, "all 4 subscriber licences of vrgate")
	for range 2 { // the second time it holds nothing
		l.release("blue", subscriber.ReleaseAddress{ID: lastID, Terminating: "blue", Address: last})
		used(3, 2)
	}
	lease("blue", aaa.AccessL2TP, "", "")
	used(4, 2)
}

// TestNothingLeaks: whatever is granted and refused in whatever order, what is in use is what is
// held, a second lease of one session and a second release change nothing, and at the end
// nothing is in use.
func TestNothingLeaks(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := licensed(t, config.Licences{Subscribers: 15, IPsecTunnels: 12}, config.Licences{Subscribers: 8, IPsecTunnels: 6})
		type session struct {
			who     holder
			release subscriber.ReleaseAddress
			tunnel  bool
		}
		var held []session
		refused := map[aaa.Reason]int{}
		giveBack := func(n int) {
			s := held[n]
			held = append(held[:n], held[n+1:]...)
			for range 1 + r.IntN(2) {
				l.release(s.who.router, s.release)
			}
		}
		for id := range subscriber.ID(2000) {
			if len(held) > 0 && r.IntN(2) == 0 {
				giveBack(r.IntN(len(held)))
			}
			who := holder{[]string{"red", "blue"}[r.IntN(2)], id}
			ask := licenceAsk([]aaa.Access{aaa.AccessL2TP, aaa.AccessL2TPIPsec, aaa.AccessXAuth}[r.IntN(3)], []string{"red", "blue", "green"}[r.IntN(3)])
			d := accepted(fmt.Sprint("user", r.IntN(5)))
			if r.IntN(4) == 0 {
				d.Address = netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(25))})
			}
			if got, a, _ := l.lease(who, ask, d); got.Accept {
				held = append(held, session{who, subscriber.ReleaseAddress{ID: id, Terminating: ask.Profile.Terminating, Address: a}, ask.Request.Access != aaa.AccessL2TP})
				if again, _, _ := l.lease(who, ask, d); again.Accept {
					t.Fatalf("session %d holds two addresses", id)
				}
			} else {
				refused[got.Reason]++
			}
			tunnels := 0
			for _, s := range held {
				if s.tunnel {
					tunnels++
				}
			}
			if p := l.licences.process; p.subscribers != len(held) || p.tunnels != tunnels {
				t.Fatalf("seed %d: %d and %d licences in use, %d and %d are held", seed, p.subscribers, p.tunnels, len(held), tunnels)
			}
		}
		for len(held) > 0 {
			giveBack(0)
		}
		for _, u := range []*licenceUse{l.licences.process, l.licences.routers["red"], l.licences.routers["blue"]} {
			if u.subscribers != 0 || u.tunnels != 0 {
				t.Errorf("seed %d: %+v in use at the end", seed, u)
			}
		}
		for _, router := range []string{"red", "blue"} {
			if n := len(l.holders[router]); n != 0 || l.usage(router)[0].Used != 0 {
				t.Errorf("seed %d: %d addresses of %s are held at the end, %+v", seed, n, router, l.usage(router))
			}
		}
		for _, reason := range []aaa.Reason{aaa.ReasonNoSubscriberLicence, aaa.ReasonNoTunnelLicence, aaa.ReasonAddressInUse, aaa.ReasonNoRouter} {
			if refused[reason] == 0 {
				t.Errorf("seed %d: nobody was refused by %s: %v", seed, reason, refused)
			}
		}
	}
}

// TestLeaseOfDevice: the devices of one XAuth user find their own address again, although they
// come back in another order.
func TestLeaseOfDevice(t *testing.T) {
	l := licensed(t, config.Licences{}, config.Licences{})
	ask := func(remote string) subscriber.Decide {
		f := licenceAsk(aaa.AccessXAuth, "blue") // ends in another virtual router than it arrives
		f.Request.PeerID, f.Request.Remote = "group", netip.MustParseAddrPort(remote)
		return f
	}
	lease := func(id subscriber.ID, remote string) netip.Addr {
		t.Helper()
		d, a, _ := l.lease(holder{"red", id}, ask(remote), accepted("ann"))
		if !d.Accept {
			t.Fatalf("%+v", d)
		}
		return a
	}
	release := func(id subscriber.ID, a netip.Addr) {
		l.release("red", subscriber.ReleaseAddress{ID: id, Terminating: "blue", User: "ann", Address: a})
	}
	phone, laptop := lease(1, "203.0.113.1:500"), lease(2, "203.0.113.2:4500")
	release(1, phone)
	release(2, laptop)
	if a, b := lease(3, "203.0.113.2:1024"), lease(4, "203.0.113.1:500"); a != laptop || b != phone {
		t.Errorf("the laptop has %v and then %v, the phone %v and then %v", laptop, a, phone, b)
	}
	release(4, phone) // into another network
	if a := lease(5, "192.0.2.77:4500"); a != phone {
		t.Errorf("elsewhere the phone has %v, had %v", a, phone)
	}
	if used := l.usage("blue"); used[0].Used != 2 {
		t.Errorf("usage of the terminating virtual router: %+v", used)
	}
}
