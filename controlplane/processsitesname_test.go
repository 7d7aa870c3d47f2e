package controlplane_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/site"
)

// gateName is the name of west's peer in the tests of names.
const gateName = "gw.example.net"

// threeNamed are a gateway that dials its peer by a name, which there is not yet, and two gateways of the network behind it, each of which waits.
func threeNamed(t *testing.T, more ...string) (n *siteNet, w, e, b *world) {
	t.Helper()
	n = newSiteNet(t)
	e = n.node(eastFiles("start: respond"))
	b = n.node(siteFiles("backup", backupServer, hqTunnel(2, 1, westServer, "start: respond")))
	w = n.node(siteFiles("west", westServer, hqTunnel(1, 2, gateName, more...)))
	w.kernel.AddHost("west", netip.MustParseAddr(westHost))
	e.kernel.AddHost("east", netip.MustParseAddr(eastHost))
	b.kernel.AddHost("backup", netip.MustParseAddr(eastHost))
	return n, w, e, b
}

// assertPeer waits until west's tunnel is up with a peer and carries.
func assertPeer(t *testing.T, w *world, peer string, limit time.Duration) site.Info {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(time.Second) {
		i := w.p.Tunnel("west", "hq")
		if i.State == site.StateUp && i.Peer.String() == peer {
			time.Sleep(time.Millisecond) // until nobody has anything to do any more
			if got := w.ping("west", westHost, eastHost); got != "answered" {
				t.Errorf("through %s: %s", peer, got)
			}
			return i
		}
		if time.Now().After(end) {
			t.Fatalf("not up with %s: %+v\n%s", peer, i, w.words())
		}
	}
}

// TestSiteNameLate: a peer whose name there is not yet is dialled when there is, and nobody has to say so.
func TestSiteNameLate(t *testing.T) {
	for _, c := range []struct{ start, before, why string }{{"nailed-up", "waiting", "name-not-found"}, {"on-demand", "down", "no-traffic"}} {
		t.Run(c.start, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, w, e, b := threeNamed(t, "start: "+c.start, "back-off: 60s", "back-off-max: 60s")
				w.assertState("west", "hq", c.before+": "+c.why, 10*time.Second)
				time.Sleep(10 * time.Minute)
				if i := w.p.Tunnel("west", "hq"); i.Attempts != 0 || i.Ups != 0 {
					t.Errorf("dialled without an address: %+v", i)
				}
				w.kernel.SetName(gateName, netip.MustParseAddr(eastServer))
				time.Sleep(15 * time.Second) // the answer of before is fresh until then
				w.ping("west", westHost, eastHost)
				if i := assertPeer(t, w, eastServer, 90*time.Second); i.Attempts != 1 || i.Ups != 1 {
					t.Errorf("%+v", i)
				}
				finishSites(t, w, e, b)
			})
		})
	}
}

// TestSiteNameMoved: a peer that has died while its name got another address is followed there as soon as it is found dead, and a tunnel whose
// old address still answers moves when the name is looked up again.
func TestSiteNameMoved(t *testing.T) {
	for _, c := range []struct {
		name  string
		dead  bool
		limit time.Duration
		moves uint64
	}{{"dead", true, 2 * time.Minute, 0}, {"alive", false, 6 * time.Minute, 1}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, w, e, b := threeNamed(t, "back-off: 60s")
				w.kernel.SetName(gateName, netip.MustParseAddr(eastServer))
				assertPeer(t, w, eastServer, 90*time.Second)
				asked := func() time.Time { return w.p.Tunnel("west", "hq").Peers[0].Resolved }
				for last := asked(); asked().Equal(last); time.Sleep(time.Second) { // it is not asked for soon again
				}
				n.set(func() { n.deaf[netip.MustParseAddr(eastServer)] = c.dead })
				w.kernel.SetName(gateName, netip.MustParseAddr(backupServer))
				w.ping("west", westHost, eastHost)
				i := assertPeer(t, w, backupServer, c.limit)
				want := map[bool]uint64{true: 1}[c.dead]
				if i.Failures["peer-dead"] != want || i.Moves != c.moves || i.FallOvers != 0 || i.FallBacks != 0 {
					t.Errorf("%+v", i)
				}
				n.set(func() { delete(n.deaf, netip.MustParseAddr(eastServer)) })
				time.Sleep(10 * time.Minute)
				w.assertLeft("west", 1)
				finishSites(t, w, e, b)
			})
		})
	}
}

// TestSiteNameSeveral: the addresses of a name are tried in their order until one answers, which is kept as long as it does.
func TestSiteNameSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, e, b := threeNamed(t, "back-off: 60s")
		east, backup := netip.MustParseAddr(eastServer), netip.MustParseAddr(backupServer)
		n.set(func() { n.deaf[east] = true })
		w.kernel.SetName(gateName, netip.MustParseAddr("203.0.113.77"), east, backup)
		if i := assertPeer(t, w, backupServer, 5*time.Minute); i.Attempts != 3 || i.Failures["no-answer"] != 2 || i.Ups != 1 || i.FallOvers != 0 {
			t.Errorf("after two that do not answer: %+v", i)
		}
		n.set(func() { delete(n.deaf, east) })
		time.Sleep(10 * time.Hour) // the name is looked up many times
		if i := assertPeer(t, w, backupServer, 0); i.Attempts != 3 || i.Moves != 0 {
			t.Errorf("it has not stayed: %+v", i)
		}
		n.set(func() { n.deaf[backup] = true })
		w.ping("west", westHost, eastHost)
		if i := assertPeer(t, w, eastServer, 5*time.Minute); i.Failures["peer-dead"] != 1 || i.Ups != 2 {
			t.Errorf("after the third has died: %+v", i)
		}
		n.set(func() { delete(n.deaf, backup) })
		finishSites(t, w, e, b)
	})
}
