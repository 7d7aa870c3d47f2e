package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane"
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
	if fmt.Sprint(plan.Changes) != fmt.Sprint(forecast.Changes) || len(plan.Failed) > 0 {
		w.t.Errorf("changes %+v, forecast %+v, failed %+v", plan.Changes, forecast.Changes, plan.Failed)
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
		if !plan.Empty() || len(plan.Failed) > 0 || plan.Dropped != (api.PlanCounts{}) {
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
			api.PlanDrop{VR: "red", What: "l2tp destination profile anybody host profile default", Reason: "profile-removed", PlanCounts: api.PlanCounts{Tunnels: 2, Sessions: 2, Subscribers: 2}},
			[]string{"alice: profile-removed", "bob: profile-removed"},
		},
		"host profile changed": {
			[]string{"{remote-host: carol}", "{remote-host: carol, local-host: other}"},
			api.PlanDrop{VR: "red", What: "l2tp destination profile anybody host profile carol", Reason: "profile-changed", PlanCounts: api.PlanCounts{Tunnels: 1, Sessions: 1, Subscribers: 1}},
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
		"server addresses in another order": {
			[]string{"server-addresses: [192.0.2.1, 192.0.2.11]", "server-addresses: [192.0.2.11, 192.0.2.1]"},
			api.PlanDrop{},
			nil,
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
					} else if ends && name != "dave" && strings.HasPrefix(failed, "ike:") {
						t.Errorf("%s was told %q: IPsec has ended before L2TP could say why", name, failed)
					}
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestReloadMistakes: a configuration with mistakes changes nothing, and the error has them all.
func TestReloadMistakes(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	var crowd []string
	for i := range 20 {
		crowd = append(crowd, fmt.Sprintf("r%02d", i))
	}
	for name, tc := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"a terminate code for no reason": {
			edited(redAndBlue, "vr/red.yaml", "users:\n", "aaa: {terminate-codes: [{reason: no-such-reason, code: 5}]}\nusers:\n"),
			[]string{`"reason" is "no-such-reason"`},
		},
		"an authority that is none, and a terminate code": {
			edited(edited(redAndBlue, "vr/red.yaml", "ipsec:\n", "ipsec:\n  certificates: {authorities: ["+garbage+"]}\n"),
				"vr/blue.yaml", "users:\n", "aaa: {terminate-codes: [{reason: no-such-reason, code: 5}]}\nusers:\n"),
			[]string{garbage, `"reason" is "no-such-reason"`},
		},
		"too many virtual routers in a namespace": {crowded(redAndBlue, "red", crowd), []string{"has no room for one more virtual router"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, redAndBlue))
				alice := w.connect("red", "alice", "198.51.100.1", nil)
				alice.assertUp()
				kernel, calls := w.kernel.String(), len(w.kernel.Calls())
				cfg := loadConfig(t, tc.files)
				_, planErr := w.p.Plan(t.Context(), cfg)
				_, err := w.p.Reload(t.Context(), cfg)
				if err == nil || planErr == nil || err.Error() != planErr.Error() {
					t.Fatalf("error %v, of the plan %v", err, planErr)
				}
				for _, part := range tc.want {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the error says nothing of %s:\n%v", part, err)
					}
				}
				time.Sleep(time.Minute)
				w.assertKernel(kernel)
				if n := len(w.kernel.Calls()); n != calls {
					t.Errorf("calls %q", w.kernel.Calls()[calls:])
				}
				if plan, err := w.p.Plan(t.Context(), loadConfig(t, redAndBlue)); err != nil || !plan.Empty() {
					t.Errorf("against what was there before: %+v, %v", plan, err)
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// crowded adds virtual routers to the namespace of one that has it alone, each on a VRF.
func crowded(files map[string]string, namespace string, names []string) map[string]string {
	out := maps.Clone(files)
	for i, name := range names {
		out["vr/"+name+".yaml"] = fmt.Sprintf("namespace: {name: %s}\nvrf: {device: vrf%d, table: %d}\n", namespace, i, 100+i)
	}
	return out
}

// TestReloadTakesHold: what changes besides holds for those who come after it, and those who are there keep what they
// have.
func TestReloadTakesHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		bob := w.connect("red", "bob", "198.51.100.1", nil)
		first := bob.assertUp()
		files := redAndBlue
		step := func(name string, oldnew ...string) {
			t.Helper()
			files = edited(files, name, oldnew...)
			plan := w.reload(files)
			if plan.Dropped != (api.PlanCounts{}) || len(plan.Changes) == 0 {
				t.Errorf("%q: plan %+v", oldnew, plan)
			}
			if a, failed := bob.state(); a != first {
				t.Fatalf("%q: bob has %v, was told %q", oldnew, a, failed)
			}
		}
		next := 2
		come := func(user string) (string, string) {
			t.Helper()
			s := w.connect("red", user, fmt.Sprintf("198.51.100.%d", next), nil)
			next++
			a, failed := s.settle(2 * time.Minute)
			time.Sleep(time.Second)
			s.hangUp()
			time.Sleep(30 * time.Second)
			if !a.IsValid() {
				return "", failed
			}
			return a.String(), ""
		}
		assert := func(user, want string) {
			t.Helper()
			if got, failed := come(user); got != want {
				t.Errorf("%s has %q, want %q; was told %q", user, got, want, failed)
			}
		}
		assert("carol", "10.0.0.3")
		// A pool elsewhere: the old address is bob's until he goes.
		step("vr/red.yaml", "ranges: [10.0.0.0/24]", "ranges: [10.0.1.10-10.0.1.20]")
		assert("carol", "10.0.1.10")
		// Back, and smaller: bob is in it again, and carol's memory came along.
		step("vr/red.yaml", "ranges: [10.0.1.10-10.0.1.20]", "ranges: [10.0.0.2-10.0.0.3, 10.0.1.10-10.0.1.20]")
		assert("carol", "10.0.1.10")
		assert("dave", "10.0.0.3")
		// Users, their passwords and addresses.
		step("vr/red.yaml", "{name: alice, password: "+testPassword+", address: 10.0.0.77}", "{name: alice, password: "+testPassword+", address: 10.0.0.78}")
		assert("alice", "10.0.0.78")
		step("vr/red.yaml", "  - {name: carol, password: "+testPassword+"}\n", "")
		assert("carol", "")
		step("vr/red.yaml", "  - {name: erin, ", "  - {name: carol, password: "+testPassword+"}\n  - {name: erin, ")
		assert("carol", "10.0.1.10")
		// Limits count who is there already.
		step("vr/red.yaml", "users:\n", "limits: {per-router: 1}\nusers:\n")
		assert("carol", "")
		step("vr/red.yaml", "limits: {per-router: 1}\n", "limits: {per-source: 1}\n")
		assert("carol", "10.0.1.10")
		// So do licences.
		step("vr/red.yaml", "limits: {per-source: 1}\n", "licences: {subscribers: 1}\n")
		assert("carol", "")
		step("vrgate.yaml", "shutdown-timeout: 10s\n", "shutdown-timeout: 10s\nlicences: {subscribers: 1}\n")
		step("vr/red.yaml", "licences: {subscribers: 1}\n", "")
		assert("carol", "")
		step("vrgate.yaml", "licences: {subscribers: 1}\n", "")
		// Domain maps and traffic policies.
		step("vr/red.yaml", "users:\n", "aaa: {domain-maps: [{domain: none, deny: true}]}\nusers:\n")
		assert("carol", "")
		step("vr/red.yaml", "aaa: {domain-maps: [{domain: none, deny: true}]}\n", "")
		step("vr/red.yaml", "users:\n", "traffic-policies: [{name: web, rules: [{action: deny}]}]\nusers:\n",
			"  - {name: carol, ", "  - {name: carol, traffic: {policy-in: web}, ")
		assert("carol", "10.0.1.10")
		// Keys: whoever is in stays in.
		step("vr/red.yaml", "group-keys: [{name: everybody, key: "+testKey+"}]", "group-keys: [{name: everybody, key: another key}]")
		assert("carol", "")
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestReloadFails: a virtual router whose data plane does not take over its configuration keeps its old one whole, one
// that cannot be opened is tried again, and neither stops the others.
func TestReloadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		alice := w.connect("red", "alice", "198.51.100.1", nil)
		alice.assertUp()
		bob := "  - {name: bob, password: " + testPassword + "}\n"
		files := edited(edited(redAndBlue, "vr/red.yaml", bob, ""), "vr/blue.yaml", bob, "")
		w.kernel.Fail(len(w.kernel.Calls()) + 1)
		plan, err := w.p.Reload(t.Context(), loadConfig(t, files))
		if err != nil || len(plan.Failed) != 1 || plan.Failed[0].Reason != "injected" {
			t.Fatalf("%+v, %v", plan, err)
		}
		for i, router := range []string{"red", "blue"} {
			s := w.connect(router, "bob", fmt.Sprintf("198.51.100.%d", 2+i), nil)
			if a, failed := s.settle(time.Minute); a.IsValid() != (router == plan.Failed[0].VR) {
				t.Errorf("%s could not take over; bob has %v in %s, was told %q", plan.Failed[0].VR, a, router, failed)
			}
		}
		if again, err := w.p.Plan(t.Context(), loadConfig(t, files)); err != nil || len(again.Changes) != 1 || again.Changes[0].VR != plan.Failed[0].VR {
			t.Errorf("what is left to do is %+v, %v", again.Changes, err)
		}
		w.reload(files) // now it works
		green := maps.Clone(files)
		green["vr/green.yaml"] = routerYAML("green", "192.0.2.3")
		w.kernel.Fail(len(w.kernel.Calls()) + 3) // after red and blue, whose files are others
		plan, err = w.p.Reload(t.Context(), loadConfig(t, green))
		if err != nil || len(plan.Failed) != 1 || plan.Failed[0].VR != "green" {
			t.Fatalf("%+v, %v", plan, err)
		}
		time.Sleep(10 * time.Second)
		vrs, err := w.p.VRs(t.Context())
		if err != nil || len(vrs) != 3 || vrs[1].Name != "green" || vrs[1].State != "up" {
			t.Errorf("%+v, %v", vrs, err)
		}
		if a, failed := alice.state(); !a.IsValid() {
			t.Errorf("alice is not up, was told %q", failed)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestReloadWhileItEnds: a process that ends takes over nothing, and a reload that is under way keeps it from ending no
// longer than it would take.
func TestReloadWhileItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		s := w.connect("blue", "alice", "198.51.100.1", nil)
		s.assertUp()
		s.stop() // and so does not hear that its virtual router goes
		<-s.done
		red := maps.Clone(redAndBlue)
		delete(red, "vr/blue.yaml")
		cfg := loadConfig(t, red)
		done := make(chan error, 1)
		go func() {
			_, err := w.p.Reload(context.Background(), cfg)
			done <- err
		}()
		time.Sleep(time.Second)
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Errorf("the reload: %v", err)
		}
		if _, err := w.p.Reload(context.Background(), cfg); !errors.Is(err, controlplane.ErrNotServing) {
			t.Errorf("after the end: %v", err)
		}
	})
}
