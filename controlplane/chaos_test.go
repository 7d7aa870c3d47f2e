package controlplane_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestChaos: for an hour users come by L2TP, whose tunnels are single-shot at one virtual router, or XAuth, some of them to be
// handed on from one virtual router to the other, hang up, fall silent and come back from the same address
// before anybody has noticed, the operator disconnects some of them, and every twentieth
// kernel call fails. Everybody who is left alone and meets no failure is served, and when all
// have gone nothing is left but what failed calls could not remove.
func TestChaos(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func chaos(t *testing.T, r *rand.Rand) {
	const places = 30 // addresses from which users come
	ctx := context.Background()
	files := switching()
	files["vr/red.yaml"] = strings.Replace(files["vr/red.yaml"], "[{remote-host: default}]", "[{remote-host: default, single-shot: true}]", 1)
	w := newWorld(t, loadConfig(t, files))
	calls := len(w.kernel.Calls())
	for n := range 50_000 {
		if r.IntN(20) == 0 {
			w.kernel.Fail(calls + n + 1)
		}
	}
	here := map[int]*station{}
	leave := func(place int) {
		s := here[place]
		delete(here, place)
		if r.IntN(2) == 0 {
			s.hangUp()
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		}
		s.stop()
		<-s.done
	}
	came, up := 0, 0
	for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond) {
		place := r.IntN(places)
		switch s := here[place]; {
		case s == nil:
			came++
			router := []string{"red", "blue"}[r.IntN(2)]
			user := []string{"alice", "bob", "carol", "mallory", "zoe@far.example"}[r.IntN(5)]
			change := byXAuth
			if r.IntN(2) == 0 {
				change = nil
			}
			here[place] = w.connect(router, user, fmt.Sprintf("198.51.100.%d", place+1), change)
		case r.IntN(3) > 0:
			if a, _ := s.state(); a.IsValid() {
				up++
			}
			leave(place)
		default:
			subs, err := w.p.Subscribers(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(subs) > 0 {
				if err := w.p.Disconnect(ctx, []string{subs[r.IntN(len(subs))].ID}); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for place := range here {
		leave(place)
	}
	if came < 100 || up < 20 {
		t.Errorf("%d came and %d were up when they left: not much of a test", came, up)
	}
	time.Sleep(20 * time.Minute)
	if got := leftovers(w.kernel.String()); got != "" {
		t.Errorf("left after everybody has gone:\n%s", got)
	}
	vrs, err := w.p.VRs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vrs {
		if v.State != "up" || v.Connections != 0 || v.IKESAs != 0 || v.Tunnels != 0 || v.Sessions != 0 || v.Subscribers.Up+v.Subscribers.Connecting+v.Subscribers.Ending != 0 {
			t.Errorf("left: %+v", v)
		}
		for _, p := range v.Pools {
			if p.Used != 0 {
				t.Errorf("%s: %d addresses of pool %s are still leased", v.Name, p.Used, p.Name)
			}
		}
		if v.Licences.Subscribers.Used != 0 || v.Licences.IPsecTunnels.Used != 0 {
			t.Errorf("%s: licences are still held: %+v", v.Name, v.Licences)
		}
	}
	started, ended := w.logs.FilterMessage("subscriber up").Len(), w.logs.FilterMessage("subscriber ended").Len()
	t.Logf("%d came, %d sessions were up, %d ended, %d kernel calls", came, started, ended, len(w.kernel.Calls()))
	if started < 20 || ended < started {
		t.Errorf("%d sessions were up, %d ended", started, ended)
	}
	if err := w.finish(); err != nil {
		t.Logf("the end: %v", err) // a Close may be one of the calls that fail
	}
}
