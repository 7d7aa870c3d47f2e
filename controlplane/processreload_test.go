package controlplane_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
)

// edited is a copy of the files of a configuration with some of their text replaced: old and new in turns, in the file
// of that name.
func edited(files map[string]string, name string, oldnew ...string) map[string]string {
	out := maps.Clone(files)
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(out[name], oldnew[i]) {
			panic("nothing to replace in " + name + ": " + oldnew[i])
		}
		out[name] = strings.Replace(out[name], oldnew[i], oldnew[i+1], 1)
	}
	return out
}

// reload has the process take over other files, which must go well.
func (w *world) reload(files map[string]string) api.Plan {
	w.t.Helper()
	cfg := loadConfig(w.t, files)
	forecast, err := w.p.Plan(context.Background(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	plan, err := w.p.Reload(context.Background(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if !plan.Applied || forecast.Applied {
		w.t.Errorf("a forecast with applied %v came to a reload with %v", forecast.Applied, plan.Applied)
	}
	if !slices.Equal(plan.Drops, forecast.Drops) {
		w.t.Errorf("dropped %+v, forecast %+v", plan.Drops, forecast.Drops)
	}
	return plan
}

// TestReloadNothing: a configuration that is the same is taken over without a trace.
func TestReloadNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		w.connect("red", "alice", "198.51.100.1", nil).assertUp()
		w.connect("red", "bob", "198.51.100.2", byXAuth).assertUp()
		before, calls := w.kernel.String(), len(w.kernel.Calls())
		plan := w.reload(redAndBlue)
		if len(plan.Drops)+len(plan.Restart)+len(plan.Failed) > 0 || plan.Dropped != (api.PlanCounts{}) {
			t.Errorf("plan %+v", plan)
		}
		time.Sleep(time.Minute)
		w.assertKernel(before)
		for _, c := range w.kernel.Calls()[calls:] {
			if !strings.HasSuffix(c, ": reconfigure") { // the file is another one
				t.Errorf("call %q", c)
			}
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestReloadRouters: virtual routers come and go, and the others do not notice.
func TestReloadRouters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		red := edited(redAndBlue, "vrgate.yaml")
		delete(red, "vr/blue.yaml")
		w := newWorld(t, loadConfig(t, red))
		alice := w.connect("red", "alice", "198.51.100.1", nil)
		alice.assertUp()
		w.reload(redAndBlue)
		bob := w.connect("blue", "bob", "198.51.100.2", nil)
		bob.assertUp()
		plan := w.reload(red)
		want := []api.PlanDrop{{VR: "blue", What: "virtual router", Reason: "router-removed", PlanCounts: api.PlanCounts{Connections: 1, Tunnels: 1, Sessions: 1, Subscribers: 1}}}
		if !slices.Equal(plan.Drops, want) {
			t.Errorf("drops %+v, want %+v", plan.Drops, want)
		}
		if a, failed := bob.state(); a.IsValid() || failed != "ppp: ppp-user-request" {
			t.Errorf("bob has %v, was told %q", a, failed)
		}
		w.assertKernel(`
			router red
			  sa in from 198.51.100.1
			  sa out to 198.51.100.1
			  session of 198.51.100.1 in red mtu 1400, route to 10.0.0.77 from 10.0.0.1
			  tunnel of 198.51.100.1`)
		// On another address the virtual router has to begin anew.
		w.reload(redAndBlue)
		w.connect("blue", "carol", "198.51.100.3", nil).assertUp()
		plan = w.reload(edited(redAndBlue, "vr/blue.yaml", "server-addresses: [192.0.2.2,", "server-addresses: [192.0.2.2, 192.0.2.22,"))
		if len(plan.Drops) != 1 || plan.Drops[0].Reason != "reconfigured" || plan.Dropped.Subscribers != 1 {
			t.Errorf("plan %+v", plan)
		}
		w.connect("blue", "dave", "198.51.100.4", nil).assertUp()
		if a, _ := alice.state(); !a.IsValid() {
			t.Error("alice of the other virtual router is not up any more")
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		assertEndings(t, w, "alice: shutdown", "bob: router-removed", "carol: reconfigured", "dave: shutdown")
	})
}

// TestReloadProfiles: a profile that is removed or changed ends exactly its own (G4), with the right words for the
// clients and the log, and the others go on, over their next rekeys too.
func TestReloadProfiles(t *testing.T) {
	hosts := "host-profiles: [{remote-host: default}]"
	files := edited(redAndBlue, "vr/red.yaml", hosts, "host-profiles: [{remote-host: default}, {remote-host: carol}]")
	for name, tc := range map[string]struct {
		edit []string
		drop api.PlanDrop
		want []string // who ends
	}{
		"host profile removed": {
			[]string{"{remote-host: default}, {remote-host: carol}", "{remote-host: carol}"},
			api.PlanDrop{VR: "red", What: "destination profile anybody host profile default", Reason: "profile-removed", PlanCounts: api.PlanCounts{Tunnels: 2, Sessions: 2, Subscribers: 2}},
			[]string{"alice: profile-removed", "bob: profile-removed"},
		},
		"host profile changed": {
			[]string{"{remote-host: carol}", "{remote-host: carol, local-host: other}"},
			api.PlanDrop{VR: "red", What: "destination profile anybody host profile carol", Reason: "profile-changed", PlanCounts: api.PlanCounts{Tunnels: 1, Sessions: 1, Subscribers: 1}},
			[]string{"carol: profile-changed"},
		},
		"transport profile changed": {
			[]string{"- name: clients\n", "- name: clients\n      lifetime: 7200s\n"},
			api.PlanDrop{VR: "red", What: "transport profile clients", Reason: "profile-changed", PlanCounts: api.PlanCounts{Connections: 3, Tunnels: 3, Sessions: 3, Subscribers: 3}},
			[]string{"alice: profile-changed", "bob: profile-changed", "carol: profile-changed"},
		},
		"tunnel profile changed": {
			[]string{"networks: [10.0.0.0/8]", "networks: [10.0.0.0/8]\n      lifetime: 7200s"},
			api.PlanDrop{VR: "red", What: "tunnel profile road", Reason: "profile-changed", PlanCounts: api.PlanCounts{Connections: 1, Subscribers: 1}},
			[]string{"dave: profile-changed"},
		},
		"destination profile renamed": {
			[]string{"- name: anybody", "- name: everybody"},
			api.PlanDrop{},
			[]string{"alice: profile-removed", "bob: profile-removed", "carol: profile-removed"},
		},
		"what running sessions do not have of it": {
			[]string{"{remote-host: carol}", "{remote-host: carol, max-sessions: 7}", "key: " + testKey, "key: another"},
			api.PlanDrop{},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, files))
				clients := map[string]*station{
					"alice": w.connect("red", "alice", "198.51.100.1", nil),
					"bob":   w.connect("red", "bob", "198.51.100.2", nil),
					"carol": w.connect("red", "carol", "198.51.100.3", nil),
					"dave":  w.connect("red", "dave", "198.51.100.4", byXAuth),
					"erin":  w.connect("blue", "erin", "198.51.100.5", nil),
				}
				for _, s := range clients {
					s.assertUp()
				}
				plan := w.reload(edited(files, "vr/red.yaml", tc.edit...))
				if tc.drop != (api.PlanDrop{}) && !slices.Equal(plan.Drops, []api.PlanDrop{tc.drop}) {
					t.Errorf("drops %+v, want %+v", plan.Drops, tc.drop)
				}
				if plan.Dropped.Subscribers != len(tc.want) {
					t.Errorf("%+v dropped, want %d subscribers", plan.Dropped, len(tc.want))
				}
				time.Sleep(10 * time.Second)
				assertEndings(t, w, tc.want...)
				for name, s := range clients {
					ends := slices.ContainsFunc(tc.want, func(e string) bool { return strings.HasPrefix(e, name+":") })
					if a, failed := s.state(); a.IsValid() == ends {
						t.Errorf("%s has %v, was told %q", name, a, failed)
					}
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
