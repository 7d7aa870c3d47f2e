package controlplane_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/site"
)

// lanAndLab are the files of a gateway whose tunnel has two pairs of networks.
func lanAndLab(files map[string]string, local, remote int) map[string]string {
	pair := fmt.Sprintf("{name: lan, local: 10.%d.0.0/16, remote: 10.%d.0.0/16}", local, remote)
	lab := fmt.Sprintf("{name: lab, local: 10.%d1.0.0/16, remote: 10.%d1.0.0/16}", local, remote)
	for file, text := range files {
		files[file] = strings.ReplaceAll(text, pair, pair+", "+lab)
	}
	return files
}

// joined says which pairs of networks of a tunnel carry, and why others do not.
func (w *world) joined(t testing.TB) string {
	t.Helper()
	list, err := w.p.Tunnels(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%d tunnels, %v", len(list), err)
	}
	var out []string
	for _, n := range list[0].Networks {
		out = append(out, strings.TrimSuffix(n.Name+": "+n.State+" "+n.Reason, " "))
	}
	return strings.Join(out, ", ")
}

// TestSitePairs: one of two pairs of networks that the kernel would not have at first, or that is lost later, comes back while the
// other carries on, whoever has dialled (Z-6).
func TestSitePairs(t *testing.T) {
	const lab, far = "10.11.0.10", "10.21.0.10"
	for _, c := range []struct {
		name, west, east string
		fail             int
	}{
		{"first SA of the second", "nailed-up", "respond", 5}, {"second SA of the second", "nailed-up", "respond", 6}, {"lost", "nailed-up", "respond", 0},
		{"called by the peer, and lost", "nailed-up", "nailed-up", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newSiteNet(t)
				var fails []int
				if c.fail != 0 {
					fails = append(fails, c.fail)
				}
				e := n.node(lanAndLab(eastFiles("start: "+c.east), 2, 1))
				w := n.node(lanAndLab(westFiles("start: "+c.west), 1, 2), fails...)
				e.kernel.AddHost("east", netip.MustParseAddr(far))
				w.kernel.AddHost("west", netip.MustParseAddr(lab))
				w.assertState("west", "hq", "up", 30*time.Second)
				time.Sleep(5 * time.Second)
				if c.fail != 0 {
					if got := w.joined(t); got != "lan: up, lab: down kernel-refused" {
						t.Errorf("at first: %s\n%s", got, w.words())
					}
				}
				time.Sleep(time.Minute)
				for range 2 {
					if got := w.joined(t); got != "lan: up, lab: up" {
						t.Fatalf("%s\n%s\n%s", got, w.kernel, w.words())
					}
					if got := w.ping("west", lab, far); got != "answered" {
						t.Errorf("%s", got)
					}
					if !w.kernel.ExpireStatic("west", "hq", "lab") {
						t.Fatal("nothing to lose")
					}
					time.Sleep(2 * time.Second)
					if got := w.joined(t); got != "lan: up, lab: down expired" {
						t.Errorf("lost: %s", got)
					}
					time.Sleep(time.Hour)
				}
				i := w.p.Tunnel("west", "hq")
				if i.Ups != 1 || i.Failures["expired"] != 2 || i.State != site.StateUp {
					t.Errorf("%+v", i)
				}
				finishSites(t, w, e)
			})
		})
	}
}
