package controlplane_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/site"
)

// TestSiteToSite: a tunnel between two processes comes up whoever begins, carries both ways, and each is told when the other
// goes.
func TestSiteToSite(t *testing.T) {
	for _, c := range []struct{ name, west, east string }{
		{"west", "nailed-up", "respond"}, {"east", "respond", "nailed-up"}, {"both", "nailed-up", "nailed-up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, w, e := twoSites(t, westFiles("start: "+c.west), eastFiles("start: "+c.east))
				w.assertState("west", "hq", "up", 30*time.Second)
				e.assertState("east", "hq", "up", time.Second)
				assertPing(t, w, e)
				w.assertKernel(`
					router west
					  sa in from 203.0.113.1 of hq/lan
					  sa out to 203.0.113.1 of hq/lan
					  static tunnel hq of west carried by 203.0.113.1`)
				time.Sleep(30 * time.Hour) // rekeys
				assertPing(t, w, e)
				w.assertLeft("west", 1)
				e.assertLeft("east", 1)
				if err := w.finish(); err != nil {
					t.Error(err)
				}
				carried := func() {
					t.Helper()
					if tunnels, err := e.p.Tunnels(t.Context()); err != nil || tunnels[0].Outside != (api.TunnelTraffic{InPackets: 4, OutPackets: 4}) {
						t.Errorf("carried %+v, %v, want 4 packets each way", tunnels, err)
					}
				}
				carried()
				e.say("east", "hq", site.CommandDown)
				carried() // while the connection is taken down
				time.Sleep(time.Second)
				e.assertLeft("east", 0)
				carried()
				finishSites(t, e)
			})
		})
	}
}

// TestSiteOperator: down hangs up and lets nobody in, up dials again, now ends a pause.
func TestSiteOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, e := twoSites(t, westFiles(), eastFiles("start: respond"))
		w.assertState("west", "hq", "up", 30*time.Second)
		w.say("west", "hq", site.CommandDown)
		w.assertState("west", "hq", "admin-down: admin-down", time.Second)
		time.Sleep(time.Second)
		e.assertState("east", "hq", "down: awaits-peer", time.Second)
		w.assertKernel("router west\nstatic tunnel hq of west carried by nobody")
		if got := w.ping("west", westHost, eastHost); got != "dropped" {
			t.Errorf("a packet for a tunnel that is down: %s", got)
		}
		w.say("west", "hq", site.CommandUp)
		w.assertState("west", "hq", "up", 30*time.Second)
		assertPing(t, w, e)
		e.say("east", "hq", site.CommandDown)
		w.assertState("west", "hq", "waiting: peer-deleted", time.Minute)
		e.say("east", "hq", site.CommandUp)
		w.say("west", "hq", site.CommandNow)
		w.assertState("west", "hq", "up", 5*time.Second)
		assertPing(t, w, e)
		finishSites(t, w, e)
	})
}

// TestSiteOnDemand: a tunnel that is dialled when there is something to carry, hung up when there is not, and dialled again.
func TestSiteOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, e := twoSites(t, westFiles("start: on-demand", "idle-timeout: 60s"), eastFiles("start: respond"))
		time.Sleep(time.Minute)
		for range 2 {
			w.assertState("west", "hq", "down: no-traffic", time.Second)
			if got := e.ping("east", eastHost, westHost); got != "dropped" {
				t.Errorf("a packet for a tunnel that is down: %s", got)
			}
			if got := w.ping("west", westHost, eastHost); got != "dropped" {
				t.Errorf("a packet for a tunnel that is down: %s", got)
			}
			for range 100 { // some come before the tunnel is up
				w.ping("west", westHost, eastHost)
			}
			w.assertState("west", "hq", "up", 5*time.Second)
			for range 10 {
				assertPing(t, w, e)
				time.Sleep(30 * time.Second)
			}
			time.Sleep(2 * time.Minute)
		}
		if i := w.p.Tunnel("west", "hq"); i.Attempts != 2 || i.Ups != 2 || len(i.Failures) != 0 {
			t.Errorf("%d dials, up %d times, failures %v", i.Attempts, i.Ups, i.Failures)
		}
		w.assertLeft("west", 0)
		e.assertLeft("east", 0)
		finishSites(t, w, e)
	})
}

// threeSites are twoSites and a backup gateway of the eastern network.
func threeSites(t *testing.T, more ...string) (n *siteNet, w, e, b *world) {
	t.Helper()
	n = newSiteNet(t)
	b = n.node(siteFiles("backup", backupServer, hqTunnel(2, 1, westServer, "start: respond")))
	e = n.node(eastFiles("start: respond"))
	w = n.node(siteFiles("west", westServer, hqTunnel(1, 2, eastServer+", "+backupServer, more...)))
	for _, x := range []struct {
		w            *world
		router, addr string
	}{{w, "west", westHost}, {e, "east", eastHost}, {b, "backup", eastHost}} {
		x.w.kernel.AddHost(x.router, netip.MustParseAddr(x.addr))
	}
	w.assertState("west", "hq", "up", 30*time.Second)
	return n, w, e, b
}

// TestSiteBackup: a peer that has died is found out, the backup takes over, and the tunnel goes back with no packet of ours dropped.
func TestSiteBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, e, b := threeSites(t, "fall-back: 60s")
		assertPing(t, w, e)
		n.set(func() { n.deaf[netip.MustParseAddr(eastServer)] = true })
		for range 300 { // somebody sends all the time
			w.ping("west", westHost, eastHost)
			time.Sleep(time.Second)
		}
		w.assertState("west", "hq", "up", time.Second)
		w.assertKernel(`
			router west
			  sa in from 203.0.113.2 of hq/lan
			  sa out to 203.0.113.2 of hq/lan
			  static tunnel hq of west carried by 203.0.113.2`)
		if i := w.p.Tunnel("west", "hq"); i.FallOvers != 1 || i.Failures["peer-dead"] != 1 {
			t.Errorf("fell over %d times, failures %v", i.FallOvers, i.Failures)
		}
		n.set(func() { delete(n.deaf, netip.MustParseAddr(eastServer)) })
		lost := 0
		for range 3000 {
			if got := w.ping("west", westHost, eastHost); got == "dropped" || got == "no-route" { // an answer is lost while east sees that it carries
				lost++
			}
			time.Sleep(50 * time.Millisecond)
		}
		w.assertKernel(`
			router west
			  sa in from 203.0.113.1 of hq/lan
			  sa out to 203.0.113.1 of hq/lan
			  static tunnel hq of west carried by 203.0.113.1`)
		if i := w.p.Tunnel("west", "hq"); lost > 0 || i.FallBacks != 1 {
			t.Errorf("%d packets lost, fell back %d times\n%s", lost, i.FallBacks, w.words())
		}
		w.assertLeft("west", 1)
		b.assertLeft("backup", 0)
		finishSites(t, w, e, b)
	})
}

// TestSiteBothPeersCall: two gateways of one site that both call stay up beside each other, and the first of the list carries.
func TestSiteBothPeersCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSiteNet(t)
		w := n.node(siteFiles("west", westServer, hqTunnel(1, 2, eastServer+", "+backupServer, "start: respond")))
		b := n.node(siteFiles("backup", backupServer, hqTunnel(2, 1, westServer)))
		b.assertState("backup", "hq", "up", 30*time.Second)
		e := n.node(eastFiles())
		e.assertState("east", "hq", "up", 30*time.Second)
		time.Sleep(10 * time.Hour)
		w.assertKernel(`
			router west
			  sa in from 203.0.113.1 of hq/lan
			  sa in from 203.0.113.2 of hq/lan
			  sa out to 203.0.113.1 of hq/lan
			  sa out to 203.0.113.2 of hq/lan
			  static tunnel hq of west carried by 203.0.113.1`)
		for _, x := range []struct {
			w      *world
			router string
		}{{w, "west"}, {b, "backup"}, {e, "east"}} {
			if i := x.w.p.Tunnel(x.router, "hq"); i.Ups != 1 || len(i.Failures) != 0 {
				t.Errorf("%s: up %d times, failures %v", x.router, i.Ups, i.Failures)
			}
		}
		if err := e.finish(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if i := w.p.Tunnel("west", "hq"); i.State != site.StateUp || i.Peer.String() != backupServer || i.FallOvers != 2 || i.FallBacks != 1 {
			t.Errorf("without the first: %+v", i)
		}
		finishSites(t, w, b)
	})
}

// TestSiteCheck: a tunnel whose far host does not answer any more is taken down, and to the backup (Z-11).
func TestSiteCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, e, b := threeSites(t, "check: {target: "+eastHost+", source: "+westHost+", period: 10s, tolerance: 2}", "fall-back: 0")
		time.Sleep(10 * time.Minute)
		if i := w.p.Tunnel("west", "hq"); i.Check.Lost != 0 || i.Check.Sent < 50 || !i.Check.OK {
			t.Errorf("check %+v", i.Check)
		}
		e.kernel.RemoveHost("east", netip.MustParseAddr(eastHost))
		time.Sleep(30 * time.Second)
		w.assertState("west", "hq", "up", 10*time.Second)
		if i := w.p.Tunnel("west", "hq"); i.Peer.String() != backupServer || i.Failures[site.ReasonCheck] != 1 || !i.Check.OK {
			t.Errorf("%+v", i)
		}
		finishSites(t, w, e, b)
	})
}

// TestSiteName: a peer known by name is dialled and admitted at the addresses that it has, also when it gets others.
func TestSiteName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSiteNet(t)
		e := n.node(eastFiles("start: nailed-up", "back-off: 1s", "back-off-max: 1s"))
		b := n.node(siteFiles("backup", backupServer, hqTunnel(2, 1, westServer, "start: respond")))
		w := n.node(siteFiles("west", westServer, hqTunnel(1, 2, "gw.example.net")))
		w.assertState("west", "hq", "waiting: name-not-found", 10*time.Second)
		time.Sleep(time.Minute)
		if i := e.p.Tunnel("east", "hq"); i.Ups != 0 || i.Failures["no-proposal-chosen"] == 0 {
			t.Errorf("east was let in before anybody knew its address: %+v", i)
		}
		w.kernel.SetName("gw.example.net", netip.MustParseAddr(eastServer))
		time.Sleep(15 * time.Second) // the answer of before is fresh until then
		w.say("west", "hq", site.CommandNow)
		w.assertState("west", "hq", "up", 10*time.Second)
		time.Sleep(time.Minute)
		w.kernel.SetName("gw.example.net", netip.MustParseAddr(backupServer))
		time.Sleep(10 * time.Minute)
		if i := w.p.Tunnel("west", "hq"); i.State != site.StateUp || i.Peer.String() != backupServer || i.Moves != 1 {
			t.Errorf("after the move: %+v", i)
		}
		finishSites(t, w, e, b)
	})
}

// TestSiteRestart: a gateway that has crashed and come back has its tunnel again, whichever of the two dials.
func TestSiteRestart(t *testing.T) {
	for _, start := range []string{"nailed-up", "respond"} {
		t.Run(start, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, w, e := twoSites(t, westFiles(), eastFiles("start: "+start))
				w.assertState("west", "hq", "up", 30*time.Second)
				n.set(func() { n.deaf[netip.MustParseAddr(eastServer)] = true })
				if err := e.finish(); err != nil {
					t.Error(err)
				}
				n.restart(e, eastFiles("start: "+start))
				e.kernel.AddHost("east", netip.MustParseAddr(eastHost))
				n.set(func() { delete(n.deaf, netip.MustParseAddr(eastServer)) })
				for range 300 { // somebody sends all the time
					w.ping("west", westHost, eastHost)
					time.Sleep(time.Second)
				}
				w.assertState("west", "hq", "up", time.Second)
				assertPing(t, w, e)
				w.assertLeft("west", 1)
				e.assertLeft("east", 1)
				finishSites(t, w, e)
			})
		})
	}
}

// TestSiteLoss: with a fifth of everything lost tunnels come up and live over their rekeys.
func TestSiteLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, e := twoSites(t, westFiles("lifetime: 600s"), eastFiles("lifetime: 600s"))
		n.set(func() { n.loss = 0.2 })
		w.assertState("west", "hq", "up", 5*time.Minute)
		for range 120 {
			w.ping("west", westHost, eastHost)
			time.Sleep(time.Minute)
		}
		n.set(func() { n.loss = 0 })
		w.assertState("west", "hq", "up", 5*time.Minute)
		time.Sleep(5 * time.Minute)
		assertPing(t, w, e)
		w.assertLeft("west", 1)
		e.assertLeft("east", 1)
		if i := w.p.Tunnel("west", "hq"); i.Ups > 2 {
			t.Errorf("up %d times, failures %v", i.Ups, i.Failures)
		}
		finishSites(t, w, e)
	})
}

// TestSiteBesideSubscribers: L2TP and dynamic subscribers and static tunnels at the same server addresses are told apart, and
// none uses another's SAs (J11).
func TestSiteBesideSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSiteNet(t)
		files := edited(redAndBlue, "vr/red.yaml", "users:\n", "static-tunnels:\n"+
			hqTunnel(1, 2, eastServer, "local-address: 192.0.2.1")+strings.Replace(hqTunnel(1, 3, backupServer, "local-address: 192.0.2.11"), "hq", "branch", 1)+"users:\n")
		w := n.node(files)
		e := n.node(siteFiles("east", eastServer, hqTunnel(2, 1, "192.0.2.1")))
		b := n.node(siteFiles("backup", backupServer, hqTunnel(3, 1, "192.0.2.11")))
		w.connect("red", "alice", "198.51.100.1", nil).assertUp()
		w.connect("red", "bob", "198.51.100.2", byXAuth).assertUp()
		w.assertState("red", "hq", "up", 30*time.Second)
		w.assertState("red", "branch", "up", 30*time.Second)
		w.connect("red", "carol", "198.51.100.3", nil).assertUp()
		w.connect("red", "dave", "198.51.100.4", byXAuth).assertUp()
		time.Sleep(9 * time.Hour)
		w.assertState("red", "hq", "up", time.Second)
		assertEndings(t, w, "dave: session-timeout")
		subs, err := w.p.Subscribers(t.Context())
		if err != nil || len(subs) != 3 {
			t.Errorf("%d subscribers, %v", len(subs), err)
		}
		w.assertLeft("red", 2)
		finishSites(t, w, e, b)
	})
}
