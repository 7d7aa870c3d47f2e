package controlplane_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/site"
)

// crowdFiles is a gateway with so many tunnels to another, each by identities of its own and a common key.
func crowdFiles(name, server, peer, us, them string, n int, more ...string) map[string]string {
	var tunnels []string
	for i := range n {
		local, remote := fmt.Sprintf("10.%d.%d.0/24", 1+i/256, i%256), fmt.Sprintf("10.%d.%d.0/24", 101+i/256, i%256)
		if us == "e" {
			local, remote = remote, local
		}
		tunnels = append(tunnels, fmt.Sprintf("  - name: t%d\n    peers: [%s]\n    networks: [{local: %s, remote: %s}]\n    local-id: \"@%s%d\"\n    peer-id: \"@%s%d\"\n", i, peer, local, remote, us, i, them, i)+
			indented(more))
	}
	files := siteFiles(name, server, tunnels...)
	files["vr/"+name+".yaml"] += "ipsec: {pre-shared-keys: [{name: common, peer-address: " + peer + ", key: " + testKey + "}]}\n"
	return files
}

// TestSiteCrowd: hundreds of tunnels of one process come up when the line comes back, so many at once as are dialled at once, and
// all end in time.
func TestSiteCrowd(t *testing.T) {
	const n = 500
	synctest.Test(t, func(t *testing.T) {
		net := newSiteNet(t)
		e := net.node(crowdFiles("east", eastServer, westServer, "e", "w", n, "start: respond"))
		net.set(func() { net.loss = 1 })
		w := net.node(crowdFiles("west", westServer, eastServer, "w", "e", n))
		time.Sleep(10 * time.Second)
		states := map[site.State]int{}
		for i := range n {
			states[w.p.Tunnel("west", fmt.Sprint("t", i)).State]++
		}
		if states[site.StateDialling] != 64 || states[site.StateQueued] != n-64 {
			t.Errorf("%v", states)
		}
		net.set(func() { net.loss = 0 })
		up := func() (n int) { return strings.Count(w.kernel.String(), "carried by "+eastServer) }
		for end := time.Now().Add(3 * time.Minute); up() < n && time.Now().Before(end); time.Sleep(time.Second) {
		}
		if got := up(); got != n {
			t.Errorf("%d of %d tunnels are up", got, n)
		}
		w.assertLeft("west", n)
		finishSites(t, w)
		time.Sleep(time.Second)
		e.assertLeft("east", 0)
		finishSites(t, e)
	})
}
