//go:build kernel

package e2e

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vrgate/test/topo"
)

// TestLimits replaces the older of two sessions with one fixed address, keeps a guesser out without locking out the
// user, refuses who is one too many, and asks what would become of somebody.
//
//runner:once
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newOffice(t, false)
	w.serve(vrConfig{
		Users: `  - {name: fred, password: "correct horse", address: 10.9.0.77}
  - {name: user1, password: "correct horse"}
  - {name: user2@few.example, password: "correct horse"}
  - {name: user3@few.example, password: "correct horse"}`,
		Extra: `limits: {per-user: 1, when-reached: replace-oldest}
aaa:
  domain-maps: [{domain: few.example, max-sessions: 1, session-timeout: 1h}, {domain: former.example, deny: true}]`,
	})
	old, few := w.client(nil, "fred"), w.dynamic(nil, "user2@few.example", inSales)
	w.connect(old)
	w.connectDynamic(few)
	before, ok := w.subscriber("fred")
	if !ok {
		t.Fatal("no fred")
	}
	fixed := netip.MustParseAddr("10.9.0.77")
	if s := w.connect(w.client(nil, "fred")); s.Local != fixed {
		t.Errorf("fred's newer session has %v", s.Local)
	}
	if after, ok := w.subscriber("fred"); !ok || after.ID == before.ID || after.Address != fixed || len(w.subscribers()) != 2 {
		t.Errorf("after %+v came %+v", before, after)
	}
	if !slices.ContainsFunc(lines[summary](w.world, "subscriber ended"), func(s summary) bool { return s.Session.String() == before.ID && s.Reason == "replaced" }) {
		t.Error("no summary line with reason replaced")
	}

	refused := func(c *topo.XAuthClient, reason string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		defer cancel()
		if _, err := c.Connect(ctx); err == nil {
			t.Fatal("let in")
		}
		w.eventually("reason "+reason, func() bool { return w.logsOf(c.Host().Address, reason) })
	}
	refused(w.dynamic(nil, "user3@few.example", inSales), "domain-session-limit")
	refused(w.dynamic(nil, "user4@former.example", inSales), "aaa-domain-denied")

	// From one address guesses end; the user comes in from another.
	guesser := w.dynamic(nil, "user1", inSales, func(c *topo.XAuthConfig) { c.Password = "incorrect horse" })
	for range 11 {
		if strings.Contains(w.daemon.Log(), `wrong answers for user \"user1\"`) {
			break
		}
		refused(guesser, "aaa-wrong-password")
	}
	if !strings.Contains(w.daemon.Log(), `wrong answers for user \"user1\"`) {
		t.Error("guesses go on and on")
	}
	w.connectDynamic(w.dynamic(nil, "user1", inSales))

	out, err := w.daemon.Run(w.ctx, "disconnect", "--domain", "few.example", "--dry-run")
	w.check(err)
	if !strings.Contains(out, "user2@few.example") || strings.Contains(out, "fred") || len(w.subscribers()) != 3 {
		t.Errorf("dry run: %s", out)
	}
	out, err = w.daemon.Run(w.ctx, "explain", "user2@few.example")
	w.check(err)
	t.Logf("vrgate explain:\n%s", out)
	for _, word := range []string{"few.example", "local", "1h0m0s"} {
		if !strings.Contains(out, word) {
			t.Errorf("vrgate explain does not say %q", word)
		}
	}
	out, err = w.daemon.Run(w.ctx, "explain", "user4@former.example", "--json")
	if w.check(err); !json.Valid([]byte(out)) || !strings.Contains(out, "former.example") {
		t.Errorf("vrgate explain --json: %s", out)
	}
	if w.metric("domain-session-limit") == 0 {
		t.Error("the refusal was not counted")
	}
}
