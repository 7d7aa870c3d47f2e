package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// behind are the networks behind the subscribers of these tests.
var behind = []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24"), netip.MustParsePrefix("192.168.60.9/32")}

// inWith is a subscriber that has been let in with networks behind it.
func inWith(r *rig, o offers.Offer, nets ...netip.Prefix) *subscriberScript {
	r.t.Helper()
	s := newSubscriber(r, o)
	s.answerTo(s.asked(), isakmp.ConfigReply, text(isakmp.XAuthUserName, "joe"), text(isakmp.XAuthUserPassword, "secret of joe"))
	l := testLease
	l.Behind = nets
	s.answerTo(s.only1(r.give(Admit{Conn: s.id(), Lease: l}), isakmp.ConfigSet), isakmp.ConfigAck)
	return s
}

// TestSelectorsBehind: R7, a Framed-Route is a network that the subscriber's phase 2 may name (J11), and the SAs carry
// what was named.
func TestSelectorsBehind(t *testing.T) {
	offer := offers.AppleCisco()
	for _, c := range []struct {
		name  string
		setup func(*TunnelProfile)
		nets  []netip.Prefix
		own   string
		net   string
		ok    bool
	}{
		{name: "its address all the same", nets: behind, own: "10.9.0.7", net: "0.0.0.0/0", ok: true},
		{name: "a network behind it", nets: behind, own: "192.168.50.0/24", net: "0.0.0.0/0", ok: true},
		{name: "a part of it", nets: behind, own: "192.168.50.128/25", net: "0.0.0.0/0", ok: true},
		{name: "a host in it", nets: behind, own: "192.168.50.3", net: "0.0.0.0/0", ok: true},
		{name: "a host behind it", nets: behind, own: "192.168.60.9", net: "10.0.0.0/8", ok: true},
		{name: "the address is in the network", nets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/28")}, own: "10.9.0.0/28", net: "0.0.0.0/0", ok: true},
		{name: "everything is behind it", nets: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, own: "0.0.0.0/0", net: "10.0.0.0/8", ok: true},
		{name: "more than the network", nets: behind, own: "192.168.50.0/23", net: "0.0.0.0/0"},
		{name: "another network", nets: behind, own: "192.168.51.0/24", net: "0.0.0.0/0"},
		{name: "the neighbour of the host", nets: behind, own: "192.168.60.8/31", net: "0.0.0.0/0"},
		{name: "another's address", nets: behind, own: "10.9.0.8", net: "0.0.0.0/0"},
		{name: "everything", nets: behind, own: "0.0.0.0/0", net: "0.0.0.0/0"},
		{name: "IPv6", nets: behind, own: "2001:db8::/64", net: "::/0"},
		{name: "IPv6 though everything is behind it", nets: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, own: "::/0", net: "::/0"},
		{name: "nothing is behind it", own: "192.168.50.0/24", net: "0.0.0.0/0"},
		{name: "what is no prefix", nets: []netip.Prefix{{}}, own: "192.168.50.0/24", net: "0.0.0.0/0"},
		{name: "inside our networks", setup: ourNets, nets: behind, own: "192.168.50.0/24", net: "172.16.5.0/24", ok: true},
		{name: "outside our networks", setup: ourNets, nets: behind, own: "192.168.50.0/24", net: "10.0.0.0/8"},
		{name: "the profile's networks for the peer are about its address", setup: theirNets, nets: behind, own: "10.9.0.0/24", net: "0.0.0.0/0", ok: true},
	} {
		r := dynRig(t, ProfileCompatible)
		if c.setup != nil {
			c.setup(&r.e.cfg.Tunnels[0])
		}
		s := inWith(r, offer, c.nets...)
		q := s.tunnel(offer, c.own, c.net)
		if ok := q.run(); ok != c.ok {
			t.Errorf("%s: accepted %v, notify %v\n%s", c.name, ok, q.notify, words(r.reports))
			continue
		}
		if !c.ok {
			if q.notify != isakmp.InvalidIDInformation || r.e.counters[ReasonSelectors] != 1 || len(r.kernel) != 0 {
				t.Errorf("%s: notify %v, %d SAs", c.name, q.notify, len(r.kernel))
			}
			continue
		}
		remote, _ := netSelector(c.own).Prefix()
		local, _ := netSelector(c.net).Prefix()
		if len(r.kernel) != 2 {
			t.Errorf("%s: %d SAs", c.name, len(r.kernel))
		}
		for _, sa := range r.kernel {
			if !sa.Tunnel || sa.RemoteNet != remote || sa.LocalNet != local {
				t.Errorf("%s: SA for %v of the peer and %v of ours", c.name, sa.RemoteNet, sa.LocalNet)
			}
		}
	}
}

// TestBehindIsNotTold: the networks are the peer's own, mode config says nothing of them (J7).
func TestBehindIsNotTold(t *testing.T) {
	with, without := testLease, testLease
	with.Behind = behind
	for _, unity := range []bool{false, true} {
		all := []isakmp.Attribute{{Type: isakmp.ConfigIP4Address}, {Type: isakmp.ConfigIP4Subnet}, {Type: isakmp.UnitySplitInclude}}
		if a, b := fmt.Sprint(with.attributes(all, unity)), fmt.Sprint(without.attributes(all, unity)); a != b {
			t.Errorf("told %s instead of %s", a, b)
		}
	}
}

// TestTunnelsBehind: each pair of networks has its own child; networks behind the peer allow more of them, in bounds.
func TestTunnelsBehind(t *testing.T) {
	offer := offers.AppleCisco()
	var many []netip.Prefix
	for i := range maxBehind + 8 {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 24))
	}
	for _, nets := range [][]netip.Prefix{many[:3], many} {
		r := dynRig(t, ProfileCompatible)
		s := inWith(r, offer, nets...)
		count := min(len(nets), maxBehind)
		for i := range count {
			if !s.tunnel(offer, nets[i].String(), "0.0.0.0/0").run() {
				t.Fatalf("tunnel of %v refused\n%v", nets[i], words(r.reports))
			}
		}
		for i := range maxTunnels {
			if !s.tunnel(offer, "10.9.0.7", fmt.Sprintf("10.%d.0.0/16", i)).run() {
				t.Fatalf("tunnel %d refused\n%v", i, words(r.reports))
			}
		}
		if q := s.tunnel(offer, "10.9.0.7", "172.16.0.0/16"); q.run() || q.notify != isakmp.NoProposalChosen || r.e.counters[ReasonTooMany] != 1 {
			t.Errorf("one more: %v", q.notify)
		}
		if len(nets) > maxBehind {
			if q := s.tunnel(offer, nets[maxBehind].String(), "0.0.0.0/0"); q.run() || r.e.counters[ReasonSelectors] != 1 {
				t.Errorf("network %d behind the peer: %v", maxBehind, q.notify)
			}
		}
		r.pass(2 * time.Minute)
		if len(r.kernel) != 2*(maxTunnels+count) || len(r.up) != 1 {
			t.Errorf("%d SAs, %d up", len(r.kernel), len(r.up))
		}
	}
}

// TestRekeyBehind: two ends for a day, with a restart in between; whoever replaces the SAs names what the peer has named.
func TestRekeyBehind(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		t.Run(side, func(t *testing.T) {
			w, client, server := dynPair(t)
			server.decide.lease.Behind = behind
			if side == "server" {
				client.e.cfg.RekeyMargin = 1000 // never
			} else {
				server.e.cfg.RekeyMargin = 1000
			}
			client.subscribe(func(i *Initiate) { i.LocalNet = netip.MustParsePrefix("192.168.50.64/26") })
			w.run(5 * time.Second)
			mustUp(t, client, server)
			for hour := range 6 {
				w.run(time.Hour)
				agree(t, client, server)
				for _, dir := range []Direction{Inbound, Outbound} {
					nets := server.tunnelSAs(dir)
					if len(slices.Compact(nets)) != 1 || nets[0] != "0.0.0.0/0<-192.168.50.64/26" {
						t.Fatalf("after %d h: %v", hour+1, nets)
					}
				}
				if hour == 2 {
					server.restart(t)
					if l := server.only(t).Dyn.Lease; !slices.Equal(l.Behind, behind) {
						t.Fatalf("restored with %v behind the peer", l.Behind)
					}
				}
			}
			if n := server.e.counters[CountChildRekey]; n < 3 || len(server.down)+len(client.down) != 0 {
				t.Errorf("%d rekeys, down %v %v", n, server.down, client.down)
			}
		})
	}
}

// TestBehindNoMore: when the user has been asked again and the network is no longer the subscriber's, neither side replaces
// the child for it.
func TestBehindNoMore(t *testing.T) {
	w, client, server := dynPair(t)
	server.e.cfg.Tunnels[0].Reauthenticate = true
	server.decide.lease.Behind = behind
	client.subscribe(func(i *Initiate) { i.LocalNet = behind[0] })
	w.run(5 * time.Second)
	mustUp(t, client, server)
	had := server.tunnelSAs(Inbound)
	server.step(Rekey{Conn: server.up[0].ID})
	w.run(3 * time.Minute)
	if n := server.e.counters[CountChildRekey]; n != 1 {
		t.Fatalf("%d rekeys of what is allowed", n)
	}
	server.decide.lease.Behind = behind[1:]
	client.step(Rekey{Conn: client.up[0].ID, Phase1: true})
	w.run(10 * time.Second)
	if l := server.only(t).Dyn.Lease; len(server.decide.ups) != 2 || !slices.Equal(l.Behind, behind[1:]) {
		t.Fatalf("asked %d times, %v behind the peer", len(server.decide.ups), l.Behind)
	}
	for i, n := range []*node{server, client} {
		n.step(Rekey{Conn: n.up[0].ID})
		w.run(3 * time.Second)
		if got := server.e.counters[ReasonSelectors]; got != uint64(i+1) || server.e.counters[CountChildRekey] != 1 {
			t.Errorf("%s: refused %d times, %v", n.name, got, server.e.Counters())
		}
	}
	if got := server.tunnelSAs(Inbound); !slices.Equal(got, had) || len(server.down) != 0 {
		t.Errorf("SAs %v, before %v, down %v", got, had, server.down)
	}
	w.run(2 * time.Hour)
	if len(server.kernel) != 0 {
		t.Errorf("%v after its time", server.tunnelSAs(Inbound))
	}
}
