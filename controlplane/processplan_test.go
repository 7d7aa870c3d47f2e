package controlplane_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/peer"
)

// planned are the files of TestPlanIsTrue: clients of two host profiles, one of them single-shot, dynamic subscribers of two tunnel
// profiles, and those of the second end in the other virtual router.
func planned() map[string]string {
	const road, host, profile = "      networks: [10.0.0.0/8]\n", "[{remote-host: default}]", "ip-profiles:\n"
	return edited(edited(redAndBlue, "vr/blue.yaml", ", idle-timeout: 300s", ""), "vr/red.yaml", host, "[{remote-host: default}, {remote-host: carol, single-shot: true}]",
		", address: 10.0.0.77}", "}", ", session-timeout: 600s", "", ", idle-timeout: 300s", "", "l2tp:\n", "l2tp:\n  destruct-timeout: 3600s\n", // nobody ends by itself
		"server-addresses: [192.0.2.1, 192.0.2.11]", "server-addresses: [192.0.2.1, 192.0.2.11, 192.0.2.51]",
		road, "      ip-profile: users\n"+road+"    - {name: abroad, local-address: 192.0.2.51, ip-profile: far, keys: [{name: everybody, key: "+testKey+"}], attempts: 1}\n",
		profile, profile+"  - {name: far, virtual-router: blue, unnumbered-address: 10.0.0.1, pool: main}\n",
	)
}

// withProfiles names the IP profile of red's host profiles.
func withProfiles(files map[string]string) map[string]string {
	files["vr/red.yaml"] = strings.ReplaceAll(files["vr/red.yaml"], "{remote-host: ", "{ip-profile: users, remote-host: ")
	return files
}

// TestPlanIsTrue: whatever changes, what a plan says about who ends, and why, is what then happens: nobody ends who was not told
// of, and everybody does who was.
func TestPlanIsTrue(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { planIsTrue(t, rand.New(rand.NewPCG(seed, 5))) })
		})
	}
}

// rewordings are what else may stand in the place of a text of the files.
var rewordings = []struct {
	file, text string
	others     []string
}{
	{"vr/red.yaml", "{remote-host: default}", []string{"{remote-host: default, max-sessions: 9}", "{remote-host: default, local-host: other}", "{remote-host: bob}, {remote-host: default}"}},
	{"vr/red.yaml", "{remote-host: carol, single-shot: true}", []string{"{remote-host: carol}", "{remote-host: carol, single-shot: true, disconnect-cause: true}", "{remote-host: nobody}"}},
	{"vr/red.yaml", "    - name: anybody\n", []string{"    - name: everybody\n", "    - name: anybody\n      max-sessions: 50\n"}},
	{"vr/red.yaml", "l2tp:\n", []string{"l2tp:\n  admin-state: disabled\n", "l2tp:\n  admin-state: drain\n", "l2tp:\n  idle-timeout: 30s\n  hello-interval: 20s\n"}},
	{"vr/red.yaml", "    - name: clients\n", []string{"    - name: clients\n      lifetime: 7200s\n", "    - name: clients\n      nat-passthrough: true\n", "    - name: guests\n"}},
	{"vr/red.yaml", "      attempts: 1\n", []string{"      attempts: 2\n", "      attempts: 1\n      mtu: 1300\n"}},
	{"vr/red.yaml", "  - name: users\n", []string{
		"  - name: users\n    mtu: 1300\n", "  - name: users\n    mss: 1200\n", "  - name: users\n    source-validation: false\n",
		"  - name: users\n    idle-timeout: 600s\n    traffic: {rate-in: 1000000}\n", "  - name: users\n    dns: [10.0.0.53]\n",
	}},
	{"vr/red.yaml", "ipsec:\n", []string{"ipsec:\n  nat-t: false\n", "ipsec:\n  proposals: compatible\n"}},
	{"vr/red.yaml", "ranges: [10.0.0.0/24]", []string{"ranges: [10.3.0.0/24]"}},
	{"vr/red.yaml", "  - {name: bob,", []string{"  - {name: ben,"}},
	{"vr/blue.yaml", "server-addresses: [192.0.2.2,", []string{"server-addresses: [192.0.2.2, 192.0.2.22,"}},
	{"vr/blue.yaml", "ranges: [10.0.0.0/24]", []string{"ranges: [10.4.0.0/24]"}},
	{"vrgate.yaml", "workers:", []string{"log: {level: debug}\nworkers:"}},
}

// comers are the users of TestPlanIsTrue, and how they come.
var comers = []struct{ router, user, xauth string }{
	{"red", "alice", ""}, {"red", "bob", ""}, {"red", "carol", ""}, {"red", "dave", "192.0.2.11"}, {"red", "erin", "192.0.2.51"}, {"blue", "erin", ""},
}

func planIsTrue(t *testing.T, random *rand.Rand) {
	texts := make([]string, len(rewordings))
	for i, p := range rewordings {
		texts[i] = p.text
	}
	w := newWorld(t, loadConfig(t, withProfiles(planned())))
	here := make([]*station, len(comers))
	n, dropped := 0, 0
	for round := range 25 {
		for i, c := range comers {
			if here[i] != nil {
				if a, _ := here[i].state(); a.IsValid() {
					continue
				}
				here[i].stop() // nobody who has been turned away tries again by itself
				<-here[i].done
			}
			n++
			here[i] = w.connect(c.router, c.user, fmt.Sprintf("198.51.%d.%d", 100+n/200, 1+n%200), func(p *peer.Config) {
				if c.xauth != "" {
					p.XAuth, p.Server = true, netip.MustParseAddr(c.xauth)
				}
			})
			here[i].settle(10 * time.Second) // some may not: that is the configuration's business
		}
		time.Sleep(5 * time.Second)
		changed := random.IntN(len(rewordings))
		texts[changed] = append(rewordings[changed].others, rewordings[changed].text)[random.IntN(len(rewordings[changed].others)+1)]
		files := planned()
		for i, p := range rewordings {
			files = edited(files, p.file, p.text, texts[i])
		}
		files = withProfiles(files)
		before := w.logs.Len()
		plan := w.reload(files)
		time.Sleep(4 * time.Second) // the short drain of StopCCN, after which IPsec goes
		ended := map[string]int{}
		var told, got api.PlanCounts
		for _, e := range w.logs.All()[before:] {
			m := e.ContextMap()
			switch e.Message {
			case "subscriber ended":
				got.Subscribers++
				ended[fmt.Sprint(m["vr"], " ", m["reason"])]++
			case "L2TP tunnel down":
				got.Tunnels++
			case "IPsec down":
				got.Connections++
			}
		}
		for _, d := range plan.Drops {
			ended[d.VR+" "+d.Reason] -= d.Subscribers
		}
		for who, n := range ended {
			if n != 0 {
				t.Errorf("round %d, %q: %d more subscribers of %s ended than the plan says: %+v", round, texts[changed], n, who, plan.Drops)
			}
		}
		told = plan.Dropped
		told.Sessions = 0
		if got != told {
			t.Errorf("round %d, %q: ended %+v, plan %+v", round, texts[changed], got, plan.Drops)
		}
		dropped += got.Subscribers
	}
	if dropped < 5 {
		t.Errorf("%d subscribers were dropped in all: not much of a test", dropped)
	}
	t.Logf("%d clients, %d dropped; %s", n, dropped, strings.Join(w.endings(), ", "))
	if err := w.finish(); err != nil {
		t.Error(err)
	}
}

// TestReloadKeepsNumbers: connection numbers are marks, so a virtual router keeps its own when reloads add others in its network
// namespace, also one that has come by a reload itself.
func TestReloadKeepsNumbers(t *testing.T) {
	vrf := func(name, server, device, table string) string {
		return strings.Replace(routerYAML(name, server), "namespace: {name: "+name+"}", "namespace: {name: red}\nvrf: {device: "+device+", table: "+table+"}", 1)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		number := func(addr string) uint32 {
			t.Helper()
			w.connect("green", "bob", addr, func(c *peer.Config) { c.Server = netip.MustParseAddr("192.0.2.3") }).assertUp()
			conns, err := w.p.IPsec(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range conns {
				if c.VR == "green" && c.Remote.Addr() == netip.MustParseAddr(addr) {
					return c.Connection
				}
			}
			t.Fatalf("no connection from %s: %+v", addr, conns)
			return 0
		}
		files := edited(redAndBlue, "vrgate.yaml")
		files["vr/green.yaml"] = vrf("green", "192.0.2.3", "v-green", "103")
		w.reload(files)
		first := number("198.51.100.1")
		files["vr/amber.yaml"] = vrf("amber", "192.0.2.4", "v-amber", "104")
		w.reload(files)
		const share = 0xffffff / 16 // see connNumbering
		if second := number("198.51.100.2"); (second-1)/share != (first-1)/share {
			t.Errorf("connection %d, and after a reload %d of another virtual router's share", first, second)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestReloadAdmission: how many are decided about at once is in force with the reload.
func TestReloadAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		w.reload(edited(redAndBlue, "vrgate.yaml", "workers:", "admission: {concurrent: 7, waiting: 8, per-source: 9}\nworkers:"))
		a, err := w.p.AAA(t.Context())
		if got := a.Admission; err != nil || got.Concurrent != 7 || got.MaxWaiting != 8 || got.PerSource != 9 {
			t.Errorf("%+v, %v", got, err)
		}
		w.connect("red", "bob", "198.51.100.1", nil).assertUp()
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}
