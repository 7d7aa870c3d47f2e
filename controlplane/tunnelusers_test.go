package controlplane_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/api"
	"vrgate/test/faultyradius"
)

// wrongPassword is one that nobody has; it must not be seen anywhere.
const wrongPassword = "not-the-password-of-anybody"

// siteUser are the keys of a tunnel that answers for a user.
func siteUser(user, password string) []string {
	return []string{"extended-authentication: client", "user: " + user, "password: " + password, "back-off: 1s", "back-off-max: 1s"}
}

// askingFiles are those of an eastern site that asks its peer for a user; more is added to the file.
func askingFiles(more string) map[string]string {
	out := eastFiles("extended-authentication: server", "start: respond")
	out["vr/east.yaml"] += more
	return out
}

const eastUsers = "users: [{name: branch, password: a-password-of-branch}]\n"

// reasons are the typed reasons of log lines with a text.
func (w *world) reasons(message string) (out []string) {
	for _, e := range w.logs.FilterMessage(message).All() {
		reason, _ := e.ContextMap()["reason"].(string)
		out = append(out, reason)
	}
	return out
}

// assertUnseen fails if a secret is in the log or in what the API says of tunnels.
func (w *world) assertUnseen(secrets ...string) {
	w.t.Helper()
	tunnels, err := w.p.Tunnels(w.t.Context())
	if err != nil {
		w.t.Error(err)
	}
	said := w.words() + fmt.Sprintf("%+v", tunnels)
	for _, s := range secrets {
		if strings.Contains(said, s) {
			w.t.Errorf("%q is in the log or the API of %v", s, tunnels)
		}
	}
}

// explained is an explanation as the command prints it.
func explained(steps []api.ExplainStep) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%s: %s (%s)\n", s.Topic, s.Value, s.Reason)
	}
	return b.String()
}

// TestTunnelUser (Z-8): the peer of a static tunnel that asks for a user is in when AAA accepts the user, and gets no session, no
// address, no licence and no accounting.
func TestTunnelUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, e := twoSites(t, westFiles(siteUser("branch", "a-password-of-branch")...), askingFiles(eastUsers))
		w.assertState("west", "hq", "up", 30*time.Second)
		e.assertState("east", "hq", "up", time.Second)
		assertPing(t, w, e)
		in := e.logs.FilterMessage("user of a static tunnel is in").All()
		if len(in) != 1 || in[0].ContextMap()["user"] != "branch" || in[0].ContextMap()["method"] != "local" || in[0].ContextMap()["tunnel"] != "hq" {
			t.Errorf("the log has %v", in)
		}
		if subs, err := e.p.Subscribers(t.Context()); err != nil || len(subs) != 0 {
			t.Errorf("it is a subscriber: %+v %v", subs, err)
		}
		if l, err := e.p.Licences(t.Context()); err != nil || l != (api.Licences{}) {
			t.Errorf("it has licences: %+v %v", l, err)
		}
		steps, err := e.p.Explain(t.Context(), api.ExplainRequest{User: "branch", VR: "east", Profile: "hq"})
		if got := explained(steps); err != nil || !strings.Contains(got, "arrives in: east (static)\nstatic tunnel: hq (asks its peer for a user, who gets nothing but the tunnel)\nproof: pap") ||
			!strings.Contains(got, `method 1: local (decides: "branch" is a local user)`) || strings.Contains(got, "pool") {
			t.Errorf("it is explained as\n%s%v", got, err)
		}
		time.Sleep(26 * time.Hour) // phase 1 is rekeyed, and the user left alone
		assertPing(t, w, e)
		if n := e.logs.FilterMessage("user of a static tunnel is in").Len(); n != 1 {
			t.Errorf("after phase 1 rekeys the user has been asked for %d times", n)
		}
		if v := e.tunnel("hq"); v.Rekeys < 3 || v.Phase1Rekeys < 3 || v.ExtendedAuthentication != "server" || v.UpSince.IsZero() || time.Since(v.UpSince) < 26*time.Hour {
			t.Errorf("after rekeys it is shown as %+v", v)
		}
		w.assertUnseen("a-password-of-branch")
		e.assertUnseen("a-password-of-branch")
		finishSites(t, w, e)
	})
}

// TestTunnelUserRefused: a user that AAA refuses is not in, for the reason of AAA; who tries again and again is stopped, the
// right password or not; and an unknown name costs as much as a wrong password.
func TestTunnelUserRefused(t *testing.T) {
	for _, c := range []struct {
		name, user, password, more string
		reasons                    []string
	}{
		{"wrong password", "branch", wrongPassword, eastUsers, []string{string(aaa.ReasonWrongPassword), "too-many-wrong-answers"}},
		{"unknown user", "nobody", wrongPassword, eastUsers, []string{string(aaa.ReasonUnknownUser), "too-many-wrong-answers"}},
		{"silent servers", "branch", wrongPassword, "radius: {servers: [{name: one, address: 127.0.0.1, secret: 0123456789abcdef}], groups: [{name: all, servers: [one]}]}\naaa: {methods: [radius], authentication-group: all}\n", []string{string(aaa.ReasonTimeout)}},
		{"denied domain", "branch@denied", wrongPassword, eastUsers + "aaa: {domain-maps: [{domain: denied, deny: true}]}\n", []string{string(aaa.ReasonDomainDenied), "too-many-wrong-answers"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, w, e := twoSites(t, westFiles(siteUser(c.user, c.password)...), askingFiles(c.more))
				time.Sleep(50 * time.Second)
				got := slices.Compact(e.reasons("user of a static tunnel is refused"))
				if n := len(e.reasons("user of a static tunnel is refused")); n < 12 || !slices.Equal(got, c.reasons) {
					t.Errorf("refused %d times, for %q, want %q\n%s\nwest:\n%s", n, got, c.reasons, e.words(), w.words())
				}
				if s := w.p.Tunnel("west", "hq"); s.UpSince != (time.Time{}) || s.Ups != 0 {
					t.Errorf("it has been up: %+v", s)
				}
				w.assertUnseen(wrongPassword)
				e.assertUnseen(wrongPassword)
				finishSites(t, w, e)
			})
		})
	}
}

// TestTunnelUserRADIUS: servers decide about users of static tunnels too. What they grant does not count, be it something that a
// subscriber could not have; a question that nobody can answer is a refusal.
func TestTunnelUserRADIUS(t *testing.T) {
	n := newRADIUSNet(t, faultyradius.Config{
		Passwords: map[string]string{"branch": "a-password-of-branch"},
	})
	n.users.Script(faultyradius.Challenge, faultyradius.Honest)
	more := fmt.Sprintf("radius: {servers: [{name: one, address: 127.0.0.1, authentication-port: %d, accounting-port: %d, secret: %s}], groups: [{name: all, servers: [one]}]}\naaa: {methods: [radius]}\n",
		n.auth, n.acct, radiusSecret)
	net := newSiteNet(t)
	east := &world{t: t, stations: map[netip.Addr]*station{}, sites: net}
	cfg := loadConfig(t, askingFiles(more))
	east.start(openStore(t), cfg, true)
	west := net.node(westFiles(siteUser("branch", "a-password-of-branch")...))
	west.assertState("west", "hq", "up", 20*time.Second)
	if got := east.reasons("user of a static tunnel is refused"); !slices.Equal(got, []string{"xauth-dialogue"}) {
		t.Errorf("the question of the server: refused %q", got)
	}
	in := east.logs.FilterMessage("user of a static tunnel is in").All()
	if len(in) != 1 || in[0].ContextMap()["method"] != "radius" {
		t.Errorf("the log has %v", in)
	}
	if got := n.received(); slices.ContainsFunc(got, func(b booked) bool { return len(b.classes()) > 0 }) {
		t.Errorf("it was accounted: %v", got)
	}
	east.assertUnseen("a-password-of-branch", radiusSecret)
	finishSites(t, west, east)
}
