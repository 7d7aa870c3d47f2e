package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/keymat"
	"vrgate/test/fakekernel"
	"vrgate/test/peer"
)

// TestTwoTenants: clients of two virtual routers with the same inside addresses come and go,
// and the kernel holds exactly what they need.
func TestTwoTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		w.assertKernel("router blue\nrouter red")
		a := w.connect("red", "alice", "198.51.100.1", nil)
		b := w.connect("blue", "alice", "198.51.100.2", nil)
		c := w.connect("red", "bob", "198.51.100.3", nil)
		for s, want := range map[*station]string{a: "10.0.0.77", b: "10.0.0.77", c: "10.0.0.2"} {
			if got := s.assertUp(); got.String() != want {
				t.Errorf("%s got %v, want %s", s.c.User, got, want)
			}
		}
		w.assertKernel(`
			router blue
			  sa in from 198.51.100.2
			  sa out to 198.51.100.2
			  session of 198.51.100.2 in blue mtu 1400, route to 10.0.0.77 from 10.0.0.1
			  tunnel of 198.51.100.2
			router red
			  sa in from 198.51.100.1
			  sa in from 198.51.100.3
			  sa out to 198.51.100.1
			  sa out to 198.51.100.3
			  session of 198.51.100.1 in red mtu 1400, route to 10.0.0.77 from 10.0.0.1
			  session of 198.51.100.3 in red mtu 1400, route to 10.0.0.2 from 10.0.0.1
			  tunnel of 198.51.100.1
			  tunnel of 198.51.100.3`)
		a.hangUp()
		time.Sleep(10 * time.Second)
		w.assertKernel(`
			router blue
			  sa in from 198.51.100.2
			  sa out to 198.51.100.2
			  session of 198.51.100.2 in blue mtu 1400, route to 10.0.0.77 from 10.0.0.1
			  tunnel of 198.51.100.2
			router red
			  sa in from 198.51.100.3
			  sa out to 198.51.100.3
			  session of 198.51.100.3 in red mtu 1400, route to 10.0.0.2 from 10.0.0.1
			  tunnel of 198.51.100.3`)
		if got := w.endings(); !slices.Equal(got, []string{"alice: ppp-user-request"}) {
			t.Errorf("summary lines %q", got)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestRefusals: what does not fit is refused in the whole process with nothing left, and
// one summary line for those who came as far as a session.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		user   string
		change func(*peer.Config)
		ending string
	}{
		"wrong key":      {"bob", func(c *peer.Config) { c.Key = keymat.Secret("not the key of these tests") }, ""},
		"wrong password": {"bob", func(c *peer.Config) { c.Password = keymat.Secret("guess") }, "bob: aaa-wrong-password"},
		"unknown user":   {"mallory", nil, "mallory: aaa-unknown-user"},
		"address in use": {"alice", nil, "alice: duplicate-address"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, redAndBlue))
				w.connect("red", "alice", "198.51.100.1", nil).assertUp()
				before := w.kernel.String()
				s := w.connect("red", tc.user, "198.51.100.2", tc.change)
				a, failed := s.settle(2 * time.Minute)
				if a.IsValid() || failed == "" {
					t.Errorf("the client has %v, failed: %q", a, failed)
				}
				s.hangUp()
				time.Sleep(time.Minute)
				if got := w.kernel.String(); got != before {
					t.Errorf("kernel:\n%s\n\nwant as before:\n%s", got, before)
				}
				var want []string
				if tc.ending != "" {
					want = []string{tc.ending}
				}
				if got := w.endings(); !slices.Equal(got, want) {
					t.Errorf("summary lines %q, want %q", got, want)
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestStop: SIGTERM's way. Sessions end before tunnels, tunnels before IPsec, every client is
// told, and those that do not listen cost the configured time at most.
func TestStop(t *testing.T) {
	t.Run("polite", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, loadConfig(t, redAndBlue))
			var clients []*station
			for i, user := range []string{"alice", "bob", "carol"} {
				clients = append(clients, w.connect("red", user, fmt.Sprintf("198.51.100.%d", i+1), nil))
			}
			for _, s := range clients {
				s.assertUp()
			}
			n := len(w.kernel.Calls())
			began := time.Now()
			w.stop()
			time.Sleep(5 * time.Second)
			for _, s := range clients {
				if a, failed := s.state(); a.IsValid() || failed != "ppp: ppp-user-request" {
					t.Errorf("%s has %v after the end, was told %q", s.c.User, a, failed)
				}
			}
			if err := w.finish(); err != nil {
				t.Error(err)
			}
			if d := time.Since(began); d > 6*time.Second {
				t.Errorf("the end took %v though everybody listened", d)
			}
			assertOrder(t, w.kernel.Calls()[n:])
			assertEndings(t, w, "alice: shutdown", "bob: shutdown", "carol: shutdown")
		})
	})
	t.Run("nobody listens", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, loadConfig(t, redAndBlue))
			for i, user := range []string{"alice", "bob"} {
				s := w.connect("red", user, fmt.Sprintf("198.51.100.%d", i+1), nil)
				s.assertUp()
				s.stop()
				<-s.done
			}
			if err := w.finish(); err != nil {
				t.Error(err)
			}
			assertEndings(t, w, "alice: shutdown", "bob: shutdown")
		})
	})
	t.Run("in the middle of everything", func(t *testing.T) {
		for after := range 12 {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, redAndBlue))
				w.connect("red", "alice", "198.51.100.1", nil)
				w.connect("blue", "bob", "198.51.100.2", nil)
				for n := 0; n < 2*after && len(w.kernel.Calls()) < 2+after; n++ {
					time.Sleep(250 * time.Millisecond)
				}
				if err := w.finish(); err != nil {
					t.Errorf("stopped after %d calls: %v", after, err)
				}
			})
		}
	})
}

// assertOrder checks that in each virtual router all sessions are closed before the first tunnel
// and SA goes, and those before the rest. Tunnels and SAs go side by side: a socket without its
// SA cannot send.
func assertOrder(t *testing.T, calls []string) {
	t.Helper()
	stages := map[string]int{"deactivate": 1, "close session": 1, "close tunnel": 2, "remove SA": 2, "close": 3}
	at := map[string]int{}
	seen := map[string]bool{}
	for _, c := range calls {
		router, what, _ := strings.Cut(c, ": ")
		what, _, _ = strings.Cut(what, " of ")
		seen[what] = true
		if stages[what] < at[router] || stages[what] == 0 {
			t.Errorf("%q is out of order in %q", c, calls)
		}
		at[router] = stages[what]
	}
	if len(seen) != len(stages) {
		t.Errorf("not everything came in %q", calls)
	}
}

func assertEndings(t *testing.T, w *world, want ...string) {
	t.Helper()
	got := w.endings()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("summary lines %q, want %q", got, want)
	}
}

// TestEachKernelCallFails lets two clients come and go and a third one come after them, once
// for every kernel call that this takes, with that call failing: the process lives, everybody
// is up or has a reason, those who come later are served, and the end leaves nothing.
func TestEachKernelCallFails(t *testing.T) {
	total := 0
	synctest.Test(t, func(t *testing.T) { total = comeAndGo(t) })
	if total < 20 {
		t.Fatalf("only %d kernel calls without a failure", total)
	}
	for n := 1; n <= total; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { comeAndGo(t, n) })
		})
	}
}

// comeAndGo is the life that TestEachKernelCallFails looks at; it returns how many kernel calls it took.
func comeAndGo(t *testing.T, fail ...int) int {
	w := newWorld(t, loadConfig(t, redAndBlue), fail...)
	a := w.connect("red", "alice", "198.51.100.1", nil)
	b := w.connect("red", "bob", "198.51.100.2", nil)
	for _, s := range []*station{a, b} {
		address, failed := s.settle(3 * time.Minute)
		if !address.IsValid() && failed == "" {
			t.Errorf("%s is neither up nor has a reason; kernel:\n%s", s.c.User, w.kernel)
		}
		s.hangUp()
		time.Sleep(30 * time.Second)
	}
	time.Sleep(time.Minute)
	if got := leftovers(w.kernel.String()); got != "" {
		t.Errorf("left after everybody has gone:\n%s", got)
	}
	carol := w.connect("red", "carol", "198.51.100.3", nil)
	if address, _ := carol.settle(3 * time.Minute); !address.IsValid() {
		// The call that failed was hers: she tries again.
		carol.hangUp()
		time.Sleep(30 * time.Second)
		carol.stop()
		<-carol.done
		w.connect("red", "carol", "198.51.100.3", nil).assertUp()
	}
	time.Sleep(time.Second)
	assertViews(t, w)
	err := w.finish()
	calls := w.kernel.Calls()
	for _, n := range fail {
		if n > len(calls) {
			continue // the failure of another call made this one unnecessary
		}
		last := strings.HasSuffix(calls[n-1], ": close")
		if errors.Is(err, fakekernel.ErrInjected) != last {
			t.Errorf("call %q failed, Run returned %v", calls[n-1], err)
		}
		if !last && w.logs.FilterField(zapReason("injected")).Len() == 0 {
			t.Errorf("call %q failed and the log does not tell", calls[n-1])
		}
	}
	if len(fail) == 0 && err != nil {
		t.Error(err)
	}
	return len(calls)
}

// leftovers returns what should not be there: neither virtual routers nor what a call that
// failed on purpose could not remove.
func leftovers(kernel string) string {
	out := ""
	for line := range strings.Lines(kernel) {
		if !strings.HasPrefix(line, "router ") && !strings.HasPrefix(line, "  leaked ") {
			out += line
		}
	}
	return out
}

// assertViews checks that show and kernel agree when carol alone is up.
func assertViews(t *testing.T, w *world) {
	t.Helper()
	ctx := context.Background()
	subs, err := w.p.Subscribers(ctx)
	if err != nil || len(subs) != 1 || subs[0].User != "carol" || subs[0].State != "up" {
		t.Errorf("subscribers %+v, %v; want carol up", subs, err)
	}
	vrs, err := w.p.VRs(ctx)
	if err != nil || len(vrs) != 2 {
		t.Fatalf("virtual routers %+v, %v", vrs, err)
	}
	for _, v := range vrs {
		want := api.VR{Connections: 0}
		if v.Name == "red" {
			want = api.VR{Connections: 1, IKESAs: 1, Tunnels: 1, Sessions: 1}
			want.Subscribers.Up = 1
		}
		if v.State != "up" || v.Connections != want.Connections || v.IKESAs != want.IKESAs || v.HalfOpen != 0 || v.Tunnels != want.Tunnels ||
			v.Sessions != want.Sessions || v.Subscribers != want.Subscribers {
			t.Errorf("virtual router %+v", v)
		}
		for _, pool := range v.Pools {
			if pool.Used != want.Subscribers.Up {
				t.Errorf("%s: pool %s has %d addresses leased, want %d", v.Name, pool.Name, pool.Used, want.Subscribers.Up)
			}
		}
	}
}
