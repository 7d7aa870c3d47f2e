package controlplane_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/site"
)

// TestSitePauses: a peer that does not answer is dialled after pauses of 1 to 60 minutes (D23), and at once when an operator says
// now; an hour of it is a few lines of log.
func TestSitePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, e := twoSites(t, westFiles(), eastFiles("start: respond"))
		n.set(func() { n.deaf[netip.MustParseAddr(eastServer)] = true })
		var pauses []time.Duration
		for len(pauses) < 9 {
			w.assertState("west", "hq", "waiting: no-answer", 20*time.Minute)
			until := w.p.Tunnel("west", "hq").Until
			pauses = append(pauses, time.Until(until).Round(time.Second))
			time.Sleep(time.Until(until) + time.Second)
		}
		for i, least := range []time.Duration{1, 2, 4, 8, 16, 32, 48, 48, 48} {
			most := min(least+least/4+1, 60)
			if p := pauses[i]; p < least*time.Minute-time.Second || p > most*time.Minute {
				t.Errorf("pause %d is %v, want %v to %v minutes", i, p, int64(least), int64(most))
			}
		}
		warned := w.logs.FilterMessage("static tunnel cannot be brought up").Len()
		if warned < 3 || warned > 9 {
			t.Errorf("%d warnings\n%s", warned, w.words())
		}
		w.assertState("west", "hq", "waiting: no-answer", 20*time.Minute)
		n.set(func() { delete(n.deaf, netip.MustParseAddr(eastServer)) })
		w.say("west", "hq", site.CommandNow)
		w.assertState("west", "hq", "up", 5*time.Second)
		finishSites(t, w, e)
	})
}

// TestSiteReloadWhileDialling: a tunnel that is removed, disabled or changed while it is dialled leaves no dial behind, and what is
// configured then comes up.
func TestSiteReloadWhileDialling(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"removed":      siteFiles("west", westServer, strings.Replace(hqTunnel(1, 2, backupServer, "start: respond"), "hq", "branch", 1)),
		"disabled":     westFiles("enabled: false"),
		"changed":      westFiles("lifetime: 600s"),
		"another peer": siteFiles("west", westServer, hqTunnel(1, 2, backupServer)),
		"to respond":   westFiles("start: respond"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, w, e := twoSites(t, westFiles(), eastFiles("start: respond"))
				w.assertState("west", "hq", "up", 30*time.Second)
				n.set(func() { n.deaf[netip.MustParseAddr(eastServer)] = true })
				w.p.Kill("west", w.p.Tunnel("west", "hq").Conn)
				w.assertState("west", "hq", "dialling: operator", 5*time.Minute)
				w.reload(files)
				time.Sleep(time.Second)
				if name == "removed" || name == "disabled" || name == "to respond" {
					w.assertLeft("west", 0)
				}
				n.set(func() { delete(n.deaf, netip.MustParseAddr(eastServer)) })
				w.reload(westFiles())
				w.assertState("west", "hq", "up", 3*time.Minute)
				time.Sleep(5 * time.Minute) // east finds out that the first has gone
				assertPing(t, w, e)
				w.assertLeft("west", 1)
				e.assertLeft("east", 1)
				finishSites(t, w, e)
			})
		})
	}
}

// TestSiteOperatorAndReload: what an operator has said holds over reloads, until one changes the tunnel or the end of enabled.
func TestSiteOperatorAndReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, e := twoSites(t, westFiles(), eastFiles("start: respond"))
		w.assertState("west", "hq", "up", 30*time.Second)
		w.say("west", "hq", site.CommandDown)
		w.reload(westFiles("fall-back: 5m", "back-off: 10s"))
		time.Sleep(time.Hour)
		w.assertState("west", "hq", "admin-down: admin-down", time.Second)
		w.reload(westFiles("lifetime: 600s"))
		w.assertState("west", "hq", "up", 30*time.Second)
		w.reload(westFiles("lifetime: 600s", "enabled: false"))
		w.assertState("west", "hq", "admin-down: disabled", 30*time.Second)
		w.say("west", "hq", site.CommandUp)
		w.assertState("west", "hq", "up", 30*time.Second)
		w.reload(westFiles("lifetime: 600s", "enabled: false", "stable: 60s"))
		w.assertState("west", "hq", "up", time.Second)
		finishSites(t, w, e)
	})
}
