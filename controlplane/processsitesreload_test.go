package controlplane_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/site"
	"vrgate/test/fakekernel"
)

// TestSiteReload: what a change of a tunnel's settings does to it while it is up, and what the plan says of it.
func TestSiteReload(t *testing.T) {
	const key = "pre-shared-key: {key: " + testKey + "}\n"
	drop := func(what, reason string) []api.PlanDrop {
		return []api.PlanDrop{{VR: "west", What: what, Reason: reason, PlanCounts: api.PlanCounts{Connections: 1}}}
	}
	for _, c := range []struct {
		name  string
		edit  []string
		drops []api.PlanDrop
		want  string // state a second later
	}{
		{"when to dial", []string{key, key + "    fall-back: 5m\n    back-off: 10s\n    stable: 60s\n    no-return-timeout: 60s\n    start: on-demand\n    idle-timeout: 1h\n"}, nil, "up"},
		{"another key", []string{testKey, "quite another key for this"}, nil, "up"},
		{"a backup", []string{"peers: [203.0.113.1]", "peers: [203.0.113.9, 203.0.113.1]"}, nil, "up"},
		{"a check", []string{key, key + "    check: {target: 10.2.0.10, source: 10.1.0.10}\n"}, nil, "checking"},
		{"aggressive mode and no probes", []string{key, key + "    dead-peer-detection: false\n    aggressive-mode: true\n"}, nil, "up"},
		{"the interface", []string{key, key + "    interface: {mtu: 1300, clamp-mss: false, addresses: [10.1.255.1/32], withdraw-routes: true}\n"}, nil, "up"},
		{"another interface", []string{key, key + "    interface: {name: other}\n"}, drop("static tunnel hq", "profile-changed"), "up"},
		{"lifetime", []string{key, key + "    lifetime: 600s\n"}, drop("static tunnel hq", "profile-changed"), "up"},
		{"networks", []string{"10.2.0.0/16", "10.2.0.0/17"}, drop("static tunnel hq", "profile-changed"), "waiting: peer-refused"},
		{"another peer", []string{"peers: [203.0.113.1]", "peers: [203.0.113.9]"}, drop("static tunnel hq", "peer-removed"), "dialling"},
		{"disabled", []string{key, key + "    enabled: false\n"}, drop("static tunnel hq", "disabled"), "admin-down: disabled"},
		{"removed", []string{"name: hq", "name: other", testKey, "quite another key for this"}, drop("static tunnel hq", "profile-removed"), "down"},
		{"another address of ours", []string{"server-addresses: [192.0.2.1]", "server-addresses: [192.0.2.1, 192.0.2.3]", key, key + "    local-address: 192.0.2.1\n"}, drop("virtual router", "reconfigured"), "up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				files := westFiles()
				_, w, e := twoSites(t, files, eastFiles("start: respond"))
				w.assertState("west", "hq", "up", 30*time.Second)
				time.Sleep(time.Minute)
				before := w.p.Tunnel("west", "hq").Conn
				plan := w.reload(edited(files, "vr/west.yaml", c.edit...))
				if !slices.Equal(plan.Drops, c.drops) {
					t.Errorf("drops %+v, want %+v", plan.Drops, c.drops)
				}
				time.Sleep(time.Second)
				i := w.p.Tunnel("west", "hq")
				if got := w.state("west", "hq"); got != c.want && !(c.want == "down" && i.Name == "") {
					t.Errorf("state %s, want %s", got, c.want)
				}
				if (c.drops == nil) != (i.Conn == before) {
					t.Errorf("connection %d is %d now", before, i.Conn)
				}
				if c.want == "up" || c.want == "checking" {
					assertPing(t, w, e)
				}
				if c.drops != nil && c.want != "up" {
					time.Sleep(time.Second)
					e.assertState("east", "hq", "down: awaits-peer", time.Second)
					e.assertLeft("east", 0)
				}
				finishSites(t, w, e)
			})
		})
	}
}

// TestSiteReloadAdds: tunnels that come with a reload are dialled at once, and packets of those that are there are not lost.
func TestSiteReloadAdds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, e := twoSites(t, westFiles(), eastFiles("start: respond"))
		b := n.node(siteFiles("backup", backupServer, hqTunnel(3, 1, westServer, "start: respond")))
		w.assertState("west", "hq", "up", 30*time.Second)
		stop, done := make(chan struct{}), make(chan int)
		go func() {
			lost := 0
			for {
				select {
				case <-stop:
					done <- lost
					return
				case <-time.After(time.Millisecond):
					p := fakekernel.Packet{Source: netip.MustParseAddr(westHost), Destination: netip.MustParseAddr(eastHost), Protocol: 17}
					if w.kernel.Send("west", p) != fakekernel.Sent {
						lost++
					}
				}
			}
		}()
		w.reload(siteFiles("west", westServer, hqTunnel(1, 2, eastServer), strings.Replace(hqTunnel(1, 3, backupServer), "hq", "branch", 1)))
		w.assertState("west", "branch", "up", 5*time.Second)
		w.reload(westFiles())
		time.Sleep(time.Second)
		close(stop)
		if lost := <-done; lost > 0 {
			t.Errorf("%d packets lost", lost)
		}
		w.assertLeft("west", 1)
		b.assertLeft("backup", 0)
		finishSites(t, w, e, b)
	})
}

// tenantFiles are a virtual router for the outer packets and two tenants with the same inside addresses, each with a tunnel.
func tenantFiles() map[string]string {
	tunnel := func(name, peer string) string {
		return "static-tunnels:\n" + strings.Replace(hqTunnel(1, 2, peer, "transport-virtual-router: front"), "hq", "to-"+name, 1)
	}
	return map[string]string{
		"vrgate.yaml": "shutdown-timeout: 10s\nworkers: {dh: 2, kernel: 4}\n", "vr/front.yaml": "namespace: {name: front}\nserver-addresses: [" + westServer + "]\n",
		"vr/blue.yaml": "namespace: {name: blue}\n" + tunnel("blue", backupServer), "vr/red.yaml": "namespace: {name: red}\n" + tunnel("red", eastServer),
	}
}

// TestSiteTerminating: tenants' tunnels come by the virtual router with the addresses and end in the tenants'; what happens to a
// tenant happens to its tunnel and no other.
func TestSiteTerminating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSiteNet(t)
		e := n.node(eastFiles("start: respond"))
		b := n.node(siteFiles("backup", backupServer, hqTunnel(2, 1, westServer, "start: respond")))
		e.kernel.AddHost("east", netip.MustParseAddr(eastHost))
		b.kernel.AddHost("backup", netip.MustParseAddr(eastHost))
		files := tenantFiles()
		w := n.node(files, 3) // blue, front, red: the last cannot be opened
		hosts := func() {
			w.kernel.AddHost("red", netip.MustParseAddr(westHost))
			w.kernel.AddHost("blue", netip.MustParseAddr(westHost))
		}
		hosts()
		w.assertState("front", "to-blue", "up", 10*time.Second)
		w.assertState("front", "to-red", "up", 10*time.Second) // as soon as it could be opened, and not a minute later
		for _, router := range []string{"red", "blue"} {
			if got := w.ping(router, westHost, eastHost); got != "answered" {
				t.Errorf("from %s: %s", router, got)
			}
		}
		blue := w.p.Tunnel("front", "to-blue")
		// Red in another place: its interface is made anew, and the tunnel with it.
		files = edited(files, "vr/red.yaml", "namespace: {name: red}", "namespace: {name: scarlet}")
		plan := w.reload(files)
		want := []api.PlanDrop{{VR: "front", What: "static tunnel to-red", Reason: "profile-changed", PlanCounts: api.PlanCounts{Connections: 1}}}
		if !slices.Equal(plan.Drops, want) {
			t.Errorf("drops %+v, want %+v", plan.Drops, want)
		}
		w.assertState("front", "to-red", "up", 10*time.Second)
		if got := w.ping("red", westHost, eastHost); got != "answered" {
			t.Errorf("from red: %s", got)
		}
		if f := w.p.Tunnel("front", "to-red").Failures; f["no-terminating-router"] != 1 || f["static-tunnel-shut"] != 0 {
			t.Errorf("while red was made anew: %v", f)
		}
		// Red goes.
		delete(files, "vr/red.yaml")
		plan = w.reload(files)
		want[0].Reason = "profile-removed"
		if !slices.Equal(plan.Drops, want) {
			t.Errorf("drops %+v, want %+v", plan.Drops, want)
		}
		time.Sleep(time.Second)
		e.assertLeft("east", 0)
		if i := w.p.Tunnel("front", "to-blue"); i.Conn != blue.Conn {
			t.Errorf("blue's tunnel was %+v, is %+v", blue, i)
		}
		w.assertLeft("front", 1)
		// The router with the addresses is made anew: everything ends and comes back.
		files = edited(files, "vr/front.yaml", "namespace: {name: front}", "namespace: {name: back}")
		w.reload(files)
		w.assertState("front", "to-blue", "up", 10*time.Second)
		if got := w.ping("blue", westHost, eastHost); got != "answered" {
			t.Errorf("from blue: %s", got)
		}
		finishSites(t, w, e, b)
	})
}

// TestSiteTerminatingAway: while a tenant's virtual router is made anew nobody comes up for it, who would be tied to what goes; the
// peer that calls meanwhile is told no, and called when the router serves.
func TestSiteTerminatingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSiteNet(t)
		e := n.node(eastFiles("back-off: 1s", "back-off-max: 1s"))
		files := tenantFiles()
		w := n.node(files)
		w.assertState("front", "to-red", "up", 10*time.Second)
		time.Sleep(time.Minute)
		calls := func(prefix string) (at []int) {
			for i, c := range w.kernel.Calls() {
				if strings.HasPrefix(c, prefix) {
					at = append(at, i)
				}
			}
			return at
		}
		installed := len(calls("front: install SA of " + eastServer))
		attempts := e.p.Tunnel("east", "hq").Attempts
		w.kernel.Fail(len(w.kernel.Calls()) + 7)
		if _, err := w.p.Reload(t.Context(), loadConfig(t, edited(files, "vr/red.yaml", "namespace: {name: red}", "namespace: {name: scarlet}"))); err != nil {
			t.Fatal(err)
		}
		w.assertState("front", "to-red", "up", 3*time.Minute)
		opens, installs := calls("red: open"), calls("front: install SA of "+eastServer)
		if len(opens) != 3 {
			t.Fatalf("red has been opened %d times; the test fails another call\n%s", len(opens), strings.Join(w.kernel.Calls(), "\n"))
		}
		if installs[installed] < opens[2] {
			t.Errorf("SAs while red is away:\n%s", strings.Join(w.kernel.Calls(), "\n"))
		}
		if i := e.p.Tunnel("east", "hq"); i.Attempts == attempts || i.Failures["kernel-refused"] != 0 {
			t.Errorf("east has not called meanwhile: %+v", i)
		}
		finishSites(t, w, e)
	})
}

// siteRewordings are what else may stand in the place of a text of the files of TestSitePlanIsTrue.
var siteRewordings = []struct {
	text   string
	others []string
}{
	{"peers: [203.0.113.1, 203.0.113.2]", []string{"peers: [203.0.113.2, 203.0.113.1]", "peers: [203.0.113.1]", "peers: [203.0.113.2]", "peers: [gw.example.net]"}},
	{"name: branch\n", []string{"name: office\n", "name: branch\n    enabled: false\n", "name: branch\n    lifetime: 700s\n", "name: branch\n    stable: 60s\n"}},
	{"remote: 10.3.0.0/16", []string{"remote: 10.3.0.0/17"}},
	{"name: hq\n", []string{"name: hq\n    fall-back: 0\n", "name: hq\n    pfs: modp2048\n", "name: hq\n    enabled: false\n"}},
}

// TestSitePlanIsTrue: whatever changes, the connections of static tunnels that end are those that the plan counts.
func TestSitePlanIsTrue(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			n := newSiteNet(t)
			first := siteFiles("west", westServer, hqTunnel(1, 2, eastServer+", "+backupServer), strings.Replace(hqTunnel(1, 3, "203.0.113.3"), "hq", "branch", 1))
			files := first
			nodes := []*world{
				n.node(eastFiles("back-off: 1s", "back-off-max: 2s")), n.node(siteFiles("backup", backupServer, hqTunnel(2, 1, westServer, "back-off: 1s", "back-off-max: 2s"))),
				n.node(siteFiles("branch", "203.0.113.3", hqTunnel(3, 1, westServer, "start: respond"))),
			}
			w := n.node(files)
			w.kernel.SetName("gw.example.net", netip.MustParseAddr(backupServer))
			conns := func() map[uint32]bool {
				out := map[uint32]bool{}
				for _, name := range []string{"hq", "branch", "office"} {
					if i := w.p.Tunnel("west", name); i.Conn != 0 {
						out[i.Conn] = true
						for _, o := range i.Others {
							out[o] = true
						}
					}
				}
				return out
			}
			dropped := 0
			for range 12 {
				time.Sleep(2 * time.Minute)
				before := conns()
				files = maps.Clone(first)
				for _, r := range siteRewordings {
					if rng.IntN(2) == 0 {
						files = edited(files, "vr/west.yaml", r.text, r.others[rng.IntN(len(r.others))])
					}
				}
				cfg := loadConfig(t, files)
				plan, err := w.p.Reload(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				after, ended := conns(), 0
				for c := range before {
					if !after[c] {
						ended++
					}
				}
				dropped += ended
				if plan.Dropped.Connections != ended {
					t.Errorf("%d connections ended, the plan says %+v", ended, plan.Drops)
				}
			}
			if dropped == 0 {
				t.Error("nothing ever ended")
			}
			finishSites(t, append(nodes, w)...)
		})
	}
}

// TestSiteCallsFail: each call into the kernel fails in turn; the tunnel comes up all the same, later, and nothing is left
// that is not said to be.
func TestSiteCallsFail(t *testing.T) {
	for fail := 2; fail <= 7; fail++ {
		for _, side := range []string{"west", "east"} {
			t.Run(fmt.Sprintf("%s %d", side, fail), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newSiteNet(t)
					fails := map[string][]int{side: {fail}}
					e := n.node(eastFiles("start: respond"), fails["east"]...)
					w := n.node(westFiles(), fails["west"]...)
					w.kernel.AddHost("west", netip.MustParseAddr(westHost))
					e.kernel.AddHost("east", netip.MustParseAddr(eastHost))
					w.assertState("west", "hq", "up", 3*time.Minute)
					time.Sleep(3 * time.Minute) // what one side thinks is up the other may have ended
					w.assertState("west", "hq", "up", time.Minute)
					assertPing(t, w, e)
					w.assertLeft("west", 1)
					e.assertLeft("east", 1)
					w.say("west", "hq", site.CommandDown)
					time.Sleep(time.Second)
					failed := 0
					for _, x := range []*world{w, e} {
						failed += x.logs.FilterMessage("kernel call failed").Len()
						for line := range strings.Lines(x.kernel.String()) {
							if strings.Contains(line, " sa ") && !strings.Contains(line, "leaked") {
								t.Errorf("left: %s", line)
							}
						}
					}
					if failed != 1 {
						t.Errorf("%d calls failed, of %d and %d", failed, len(w.kernel.Calls()), len(e.kernel.Calls()))
					}
					finishSites(t, w, e)
				})
			})
		}
	}
}
