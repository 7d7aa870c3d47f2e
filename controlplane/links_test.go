package controlplane_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"vrgate/controlplane"
)

// TestLinkViews: links are shown as the kernel has them, logged when they change, and a reload adds and removes them while
// sessions live on.
func TestLinkViews(t *testing.T) {
	files := maps.Clone(redAndBlue)
	files["vr/red.yaml"] += `
links:
  - {name: lan, interface: {device: eth1}, addresses: [10.1.0.1/24], routes: [{network: 10.2.0.0/16, via: 10.1.0.2}]}
  - {name: v7, vlan: {parent: eth2, id: 7}}
  - {name: to-blue, veth: {virtual-router: blue, name: to-red}}
  - {name: tun, ipip: {local: 10.1.0.1, remote: 10.1.0.9}}
  - {name: gre, gre: {local: 10.1.0.1, remote: 10.1.0.9, key: 3}}
`
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, files))
		synctest.Wait() // until the loops run
		links := func() (out []string) {
			t.Helper()
			list, err := w.p.Links(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range list {
				line := fmt.Sprintf("%s %s %s to %s: %s %s", l.VR, l.Kind, l.Name, l.To, l.State, l.Reason)
				if l.InBytes != 1000 && l.State == "up" && l.Name != "lan" {
					t.Errorf("%s: %d bytes", line, l.InBytes)
				}
				out = append(out, strings.TrimSpace(line))
			}
			return out
		}
		want := []string{
			"blue veth to-red to red to-blue: up",
			"red gre gre to 10.1.0.1 - 10.1.0.9 key 3: up",
			"red interface lan to eth1: up",
			"red veth to-blue to blue to-red: up",
			"red ipip tun to 10.1.0.1 - 10.1.0.9: up",
			"red vlan v7 to eth2 vlan 7: up",
		}
		if diff := cmp.Diff(want, links()); diff != "" {
			t.Errorf("links (-want +got):\n%s", diff)
		}
		w.kernel.SetLink("red", controlplane.LinkState{Name: "v7", Status: controlplane.LinkMissing, Reason: "no-parent", Text: "plug it in"})
		w.kernel.SetLink("red", controlplane.LinkState{Name: "tun", Status: controlplane.LinkDown, Reason: "switched-off", Text: "down"})
		w.kernel.SetLink("red", controlplane.LinkState{Name: "lan", Status: controlplane.LinkUp})
		got := links()
		if !slices.Contains(got, "red vlan v7 to eth2 vlan 7: missing no-parent") {
			t.Errorf("links: %q", got)
		}
		levels := map[string]string{}
		for _, e := range w.logs.All() {
			if name, ok := e.ContextMap()["link"].(string); ok {
				levels[name] = fmt.Sprint(e.Level, " ", e.ContextMap()["state"], " ", e.ContextMap()["reason"])
			}
		}
		if diff := cmp.Diff(map[string]string{"v7": "warn missing no-parent", "tun": "info down switched-off", "lan": "info up <nil>"}, levels); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}

		w.connect("red", "bob", "198.51.100.1", nil).assertUp()
		next := maps.Clone(files)
		next["vr/red.yaml"] = strings.Replace(next["vr/red.yaml"], "  - {name: to-blue, veth: {virtual-router: blue, name: to-red}}\n", "", 1)
		plan, err := w.p.Reload(context.Background(), loadConfig(t, next))
		if err != nil || len(plan.Drops) > 0 || len(plan.Failed) > 0 {
			t.Errorf("reload: %+v, %v", plan, err)
		}
		if got := links(); len(got) != 4 || strings.Contains(strings.Join(got, " "), "to-") {
			t.Errorf("links after the reload: %q", got)
		}
		if subs, err := w.p.Subscribers(context.Background()); err != nil || len(subs) != 1 || subs[0].State != "up" {
			t.Errorf("subscribers after the reload: %+v, %v", subs, err)
		}
		time.Sleep(time.Second)
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestLinksOfRouterThatDoesNotRun: what is configured and not there is shown.
func TestLinksOfRouterThatDoesNotRun(t *testing.T) {
	files := maps.Clone(redAndBlue)
	files["vr/red.yaml"] += "\nlinks: [{interface: {device: eth1}}]\n"
	p, err := controlplane.New(loadConfig(t, files), nil, openStore(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.Links(context.Background())
	if err != nil || len(list) != 1 || list[0].State != "missing" || list[0].Reason != "router-down" || list[0].Name != "eth1" {
		t.Errorf("links %+v, %v", list, err)
	}
}
