package controlplane_test

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/test/peer"
)

// withRed is redAndBlue with more lines in red's file.
func withRed(red string) map[string]string {
	files := maps.Clone(redAndBlue)
	files["vr/red.yaml"] += red
	return files
}

// TestReturnAfterVanishing: a user with a fixed address whose client has vanished without a word,
// and has not been missed yet, gets in again with that address by either way; the old session
// ends by its own reason. Without replace-oldest it has to wait for the old session's end.
func TestReturnAfterVanishing(t *testing.T) {
	ways := map[string]func(*peer.Config){"L2TP": nil, "XAuth": byXAuth}
	for from, first := range ways {
		for to, second := range ways {
			t.Run(from+" to "+to, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, loadConfig(t, withRed("limits: {per-user: 1, when-reached: replace-oldest}\n")))
					w.connect("red", "bob", "198.51.100.9", nil).assertUp()
					old := w.connect("red", "alice", "198.51.100.1", first)
					had := old.assertUp()
					old.stop()
					<-old.done
					if a := w.connect("red", "alice", "198.51.100.2", second).assertUp(); a != had {
						t.Errorf("alice has %v, had %v", a, had)
					}
					time.Sleep(time.Minute)
					assertEndings(t, w, "alice: replaced")
					if err := w.finish(); err != nil {
						t.Error(err)
					}
					assertEndings(t, w, "alice: replaced", "alice: shutdown", "bob: shutdown")
				})
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, withRed("limits: {per-user: 1}\n")))
		old := w.connect("red", "alice", "198.51.100.1", nil)
		old.assertUp()
		old.stop()
		<-old.done
		if a, failed := w.connect("red", "alice", "198.51.100.2", nil).settle(30 * time.Second); a.IsValid() || failed == "" {
			t.Errorf("alice has %v, failed %q", a, failed)
		}
		assertEndings(t, w, "alice: "+string(aaa.ReasonAddressInUse))
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestProcessLimits: who is one too many is refused by the limit's reason, and the others stay.
func TestProcessLimits(t *testing.T) {
	for limit, reason := range map[string]aaa.Reason{"per-user": aaa.ReasonUserLimit, "per-router": aaa.ReasonRouterLimit} {
		t.Run(limit, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, withRed(fmt.Sprintf("limits: {%s: 1}\n", limit))))
				w.connect("red", "bob", "198.51.100.1", nil).assertUp()
				if a, failed := w.connect("red", "bob", "198.51.100.2", byXAuth).settle(30 * time.Second); a.IsValid() || failed == "" {
					t.Errorf("bob has %v, failed %q", a, failed)
				}
				w.connect("blue", "bob", "198.51.100.3", nil).assertUp()
				assertEndings(t, w, "bob: "+string(reason))
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestDomainLimit: the domain of a name bounds its sessions though no domain map has it; one more
// is refused, or ends the oldest of the domain, whoever that is.
func TestDomainLimit(t *testing.T) {
	for _, replace := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			limits, want := "limits: {per-domain: 1}\n", "bob@partner: "+string(aaa.ReasonDomainLimit)
			if replace {
				limits, want = "limits: {per-domain: 1, when-reached: replace-oldest, replaces: [domain]}\n", "ann@Partner: replaced"
			}
			files := withRed(limits)
			files["vr/red.yaml"] = strings.Replace(files["vr/red.yaml"], "  - {name: bob,", fmt.Sprintf("  - {name: ann@Partner, password: %[1]s}\n  - {name: bob@partner, password: %[1]s}\n  - {name: bob,", testPassword), 1)
			w := newWorld(t, loadConfig(t, files))
			w.connect("red", "bob", "198.51.100.1", nil).assertUp()
			w.connect("red", "ann@Partner", "198.51.100.2", nil).assertUp()
			s := w.connect("red", "bob@partner", "198.51.100.3", byXAuth)
			if a, _ := s.settle(30 * time.Second); a.IsValid() != replace {
				t.Errorf("replace %v: %v", replace, a)
			}
			assertEndings(t, w, want)
			if err := w.finish(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAddressAfterRestart: after a restart users have the addresses that they had, in whatever
// order they come.
func TestAddressAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, cfg := openStore(t), loadConfig(t, redAndBlue)
		had := map[string]netip.Addr{}
		for _, users := range [][]string{{"bob", "carol", "dave"}, {"dave", "carol", "bob"}} {
			w := newWorldWith(t, st, cfg)
			for i, user := range users {
				a := w.connect("red", user, fmt.Sprintf("198.51.100.%d", i+1), nil).assertUp()
				if before, came := had[user]; came && a != before {
					t.Errorf("%s has %v, had %v", user, a, before)
				}
				had[user] = a
			}
			if err := w.finish(); err != nil {
				t.Error(err)
			}
		}
	})
}
