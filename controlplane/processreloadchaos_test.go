package controlplane_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
)

// TestReloadUnderLoss: reloads in the middle of everybody's handshakes, while every fifth datagram is lost, cost nobody
// the connection: NAT-T is switched off and on (C2r), keys and limits change, other profiles come and go.
func TestReloadUnderLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := redAndBlue
		w := newWorld(t, loadConfig(t, files))
		random := rand.New(rand.NewPCG(7, 7))
		var mu sync.Mutex
		w.lossy = func() bool {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(5) == 0
		}
		changes := [][]string{
			{"vr/red.yaml", "ipsec:\n", "ipsec:\n  nat-t: false\n"},
			{"vr/red.yaml", "{remote-host: default}", "{remote-host: default}, {remote-host: somebody}"},
			{"vr/red.yaml", "users:\n", "limits: {per-user: 3}\nusers:\n"},
			{"vr/blue.yaml", "users:\n", "limits: {per-user: 3}\nusers:\n"},
			{"vr/red.yaml", "group-keys: [", "group-keys: [{name: next, key: the next key}, "},
		}
		connect := func(i int) *station {
			access := byXAuth
			if i%3 > 0 {
				access = nil
			}
			return w.connect("red", []string{"bob", "carol"}[i%2], fmt.Sprintf("198.51.100.%d", i+1), access)
		}
		var clients []*station
		for i := range 12 {
			clients = append(clients, connect(i))
			time.Sleep(300 * time.Millisecond)
			c := changes[i%len(changes)]
			if strings.Contains(files[c[0]], c[2]) {
				files = edited(files, c[0], c[2], c[1])
			} else {
				files = edited(files, c[0], c[1:]...)
			}
			if plan := w.reload(files); plan.Dropped != (api.PlanCounts{}) {
				t.Errorf("%q drops %+v", c, plan.Drops)
			}
		}
		for i, s := range clients {
			a, failed := s.settle(2 * time.Minute)
			for try := 0; !a.IsValid() && failed != "" && try < 5; try++ { // clients give up early
				s.stop()
				<-s.done
				s = connect(i)
				a, failed = s.settle(2 * time.Minute)
			}
			if !a.IsValid() {
				t.Errorf("client %d is not up: %q", i, failed)
			}
		}
		w.lossy = nil
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestReloadChaos: a hundred reloads at random while clients come and go. Those of profiles that nobody touches never
// notice, and in the end nothing is left: no address, licence or session, and nothing in the kernel.
func TestReloadChaos(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { reloadChaos(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func reloadChaos(t *testing.T, random *rand.Rand) {
	// What stands in a file may stand there as it is or in another way. Of red only what alice and the first bob do not use.
	places := []struct {
		file, text string
		others     []string
	}{
		{"vr/red.yaml", "{remote-host: default}", []string{"{remote-host: default}, {remote-host: carol}", "{remote-host: default}, {remote-host: carol, local-host: other}"}},
		{"vr/red.yaml", "networks: [10.0.0.0/8]", []string{"networks: [10.0.0.0/8]\n      lifetime: 7200s"}},
		{"vr/red.yaml", "ranges: [10.0.0.0/24]", []string{"ranges: [10.0.0.0/28, 10.1.0.0/24]", "ranges: [10.2.0.0/24]"}},
		{"vr/red.yaml", "- name: main", []string{"- name: other"}},
		{"vr/red.yaml", "users:\n", []string{
			"limits: {per-source: 1, per-user: 9, when-reached: replace-oldest, replaces: [user]}\nusers:\n",
			"licences: {subscribers: 3}\nusers:\n", "limits: {per-router: 2}\nlicences: {ipsec-tunnels: 4}\nusers:\n",
		}},
		{"vr/red.yaml", "ipsec:\n", []string{"ipsec:\n  nat-t: false\n", "ipsec:\n  tx-invalid-cookie: true\n"}},
		{"vrgate.yaml", "workers:", []string{"licences: {subscribers: 5}\nworkers:"}},
		{"vr/blue.yaml", "- name: clients\n", []string{"- name: others\n"}},
		{"vr/blue.yaml", "- name: anybody", []string{"- name: everybody"}},
		{"vr/blue.yaml", "server-addresses: [192.0.2.2,", []string{"server-addresses: [192.0.2.2, 192.0.2.22,"}},
		{"vr/blue.yaml", "unnumbered-address: 10.0.0.1", []string{"unnumbered-address: 10.0.0.9"}},
	}
	texts := make([]string, len(places))
	for i, p := range places {
		texts[i] = p.text
	}
	w := newWorld(t, loadConfig(t, redAndBlue))
	alice, bob := w.connect("red", "alice", "198.51.100.1", nil), w.connect("red", "bob", "198.51.100.2", nil)
	stay := map[*station]string{alice: alice.assertUp().String(), bob: bob.assertUp().String()}
	blue := true
	var guests []*station
	for i := range 100 {
		switch n := random.IntN(10); {
		case n < 4 && len(guests) < 8: // somebody comes
			access := byXAuth
			if random.IntN(2) == 0 {
				access = nil
			}
			guests = append(guests, w.connect([]string{"red", "blue"}[random.IntN(2)], []string{"carol", "bob", "dave", "erin"}[random.IntN(4)], fmt.Sprintf("198.51.100.%d", 10+i), access))
		case n < 6 && len(guests) > 0: // or goes
			at := random.IntN(len(guests))
			guests[at].hangUp()
			guests = slices.Delete(guests, at, at+1)
		}
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
		if random.IntN(10) == 0 {
			blue = !blue
		}
		for range 1 + random.IntN(2) {
			n := random.IntN(len(places))
			texts[n] = append(places[n].others, places[n].text)[random.IntN(len(places[n].others)+1)]
		}
		now := redAndBlue
		for i, p := range places {
			now = edited(now, p.file, p.text, texts[i])
		}
		if !blue {
			delete(now, "vr/blue.yaml")
		}
		if _, err := w.p.Reload(t.Context(), loadConfig(t, now)); err != nil {
			t.Fatal(err)
		}
		for s, want := range stay {
			if a, failed := s.state(); a.String() != want {
				t.Fatalf("after reload %d %s has %v, was told %q", i, s.c.User, a, failed)
			}
		}
	}
	for _, s := range w.stations {
		s.hangUp()
	}
	time.Sleep(10 * time.Minute) // who hung up while the virtual router began anew was not heard, and is found out
	if got := leftovers(w.kernel.String()); got != "" {
		t.Errorf("left after everybody has gone:\n%s", got)
	}
	vrs, err := w.p.VRs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vrs {
		if v.Subscribers != (api.Subscribers{}) || v.Connections+v.Tunnels+v.Sessions != 0 || v.Licences.Subscribers.Used+v.Licences.IPsecTunnels.Used != 0 {
			t.Errorf("nobody is there, and %+v", v)
		}
		for _, p := range v.Pools {
			if p.Used != 0 {
				t.Errorf("nobody is there, and pool %s of %s has %d addresses leased", p.Name, v.Name, p.Used)
			}
		}
	}
	if l, err := w.p.Licences(t.Context()); err != nil || l.Subscribers.Used+l.IPsecTunnels.Used != 0 {
		t.Errorf("nobody is there, and licences are %+v, %v", l, err)
	}
	if err := w.finish(); err != nil {
		t.Error(err)
	}
}
