//go:build kernel

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"vrgate/test/topo"
)

// TestProfiles removes and changes host profiles under their clients (G4), has each limit refuse in its turn (G11), and an operator
// drain, disable and enable (A8), while a neighbour of all of them pings on.
func TestProfiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := netip.MustParseAddr("192.0.2.250")
	w.check(w.server.IP(w.ctx, fmt.Sprintf("addr add %v/32 dev lo", other)))
	const (
		alpha = "{remote-host: alpha, ip-profile: others}"
		beta  = "{remote-host: beta, ip-profile: users}"
	)
	gamma := fmt.Sprintf("{remote-host: gamma, ip-profile: users, local-address: %v}", other)
	config := vrConfig{
		More: []netip.Addr{other}, Host: "ip-profile: users", Hosts: []string{alpha, beta, gamma},
		Profiles: []string{"{name: others, unnumbered-address: 10.9.0.2}"},
	}
	w.runOne(config)
	stays := w.client(nil, "user0")
	a, b, late := w.client(nil, "user1", hostName("alpha")), w.client(nil, "user2", hostName("beta")), w.client(nil, "user3")
	elsewhere := w.client(nil, "user4", hostName("gamma"))
	var got topo.Session
	each(w, []*topo.Client{stays, a, b}, func(c *topo.Client) error {
		s, err := w.call(c)
		if c == a {
			got = s
		}
		return err
	})
	if want := netip.MustParseAddr("10.9.0.2"); got.Remote != want {
		t.Errorf("G7: the gateway of alpha's IP profile is %v, want %v", got.Remote, want)
	}
	// G8: it has called another address than its profile is for, and is not answered.
	ctx, cancel := context.WithCancel(w.ctx)
	gone := make(chan error, 1)
	go func() {
		_, err := elsewhere.Connect(ctx)
		gone <- err
	}()
	w.eventually("a call to the wrong address", func() bool { return w.metric("no-host-profile") > 0 })
	cancel()
	if err := <-gone; err == nil {
		t.Error("G8: it is in")
	}
	elsewhere.Close()
	w.ping(stays, topo.PingOptions{Count: 2})
	neighbour := w.tunnel(stays)
	ping, err := stays.Host().StartPing(intranetHost, topo.PingOptions{Interval: 100 * time.Millisecond})
	w.check(err)

	// G4: one is removed, one changed.
	config.Hosts = []string{"{remote-host: beta, ip-profile: users, local-host: another}"}
	t.Logf("vrgate reload:\n%s", w.take(config))
	for _, c := range []struct {
		client             *topo.Client
		user, reason, said string
	}{{a, "user1", "profile-removed", "profile.*removed"}, {b, "user2", "profile-changed", "profile.*changed"}} {
		record := w.tunnel(c.client)
		if record.Reason != c.reason || record.LastResult != 6 {
			t.Errorf("G4: %s's tunnel: %+v", c.user, record)
		}
		if s := w.find("subscriber ended", func(l logged) bool { return l.User == c.user }); s.Reason != c.reason {
			t.Errorf("G4: %s: %+v", c.user, s)
		}
		w.said(c.client, `port 1701 \(.*`+c.said+`.*\)`, 1)
	}
	// They come in again, the one without profile by the default one.
	w.callAll(a, b, late)
	if p := w.tunnel(a).HostProfile; p != "default" {
		t.Errorf("G5: alpha has host profile %q now", p)
	}
	pingAll(w, a, b, late)

	// G11: of the default profile there are three sessions, of the destination profile four.
	w.throwOut(late, "user3")
	for _, c := range []struct {
		profile, host, process int
		reason                 string
	}{
		{3, 2, 3, "profile-session-limit"},
		{4, 2, 3, "host-session-limit"},
		{4, 3, 3, "session-limit"},
		{4, 3, 4, ""},
	} {
		config.Limit, config.Host = c.profile, fmt.Sprintf("ip-profile: users\n          max-sessions: %d", c.host)
		config.L2TP = fmt.Sprintf("max-sessions: %d", c.process)
		w.take(config)
		before := w.metric(c.reason)
		if c.reason == "" {
			w.callAll(late)
		} else if err := w.refusedAt(late, topo.StageL2TP); err != nil || w.metric(c.reason) != before+1 {
			t.Errorf("G11: %+v: %v, refused for that %v times", c, err, w.metric(c.reason)-before)
		}
	}
	w.ping(late, topo.PingOptions{Count: 2})
	w.administer(late, "user3", a)

	if r, err := ping.Stop(); err != nil || r.Lost() > 0 || r.Sent < 20 {
		t.Errorf("the neighbour was disturbed: %v, %d of %d lost\n%s", err, r.Lost(), r.Sent, r.Output)
	}
	if now := w.tunnel(stays); now.LocalID != neighbour.LocalID {
		t.Errorf("the neighbour has another tunnel: %+v", now)
	}
	w.operator("disable", "--all")
	w.eventually("nobody is in", func() bool { return len(w.subscribers()) == 0 })
	if n := len(w.summaries(stays, "administratively-disabled")); n != 1 {
		t.Errorf("A8: %d sessions of the neighbour were ended", n)
	}
}

// administer drains a client's destination, then disables its tunnel. bystander is somebody whom that does not concern.
func (w *world) administer(c *topo.Client, user string, bystander *topo.Client) {
	w.t.Helper()
	address := c.Host().Address.String()
	w.operator("drain", "--destination", address)
	w.ping(c, topo.PingOptions{Count: 2})
	if x := w.tunnel(c); x.AdminState != "enabled" || x.EffectiveState != "drain" {
		w.t.Errorf("A8: a tunnel of a draining destination: %+v", x)
	}
	w.throwOut(c, user)
	before := w.metric("administratively-draining")
	if err := w.refusedAt(c, topo.StageL2TP); err != nil || w.metric("administratively-draining") == before {
		w.t.Errorf("A8: connecting to a draining destination: %v", err)
	}
	w.operator("enable", "--destination", address)
	w.callAll(c)
	w.ping(c, topo.PingOptions{Count: 2})

	tunnel := w.tunnel(c)
	w.operator("disable", "--tunnel", strconv.Itoa(int(tunnel.LocalID)))
	if end := w.tunnelDown(tunnel.LocalID); end.Reason != "administratively-disabled" {
		w.t.Errorf("A8: a disabled tunnel: %+v", end)
	}
	w.said(c, `port 1701 \(administratively disabled\)`, 1)
	if x := w.tunnel(c); x.LastResult != 6 {
		w.t.Errorf("A8: a disabled tunnel: %+v", x)
	}
	w.callAll(c) // its destination is enabled
	pingAll(w, c, bystander)
}

// operator runs `vrgate l2tp` on the one virtual router.
func (w *world) operator(words ...string) {
	w.t.Helper()
	out, err := w.daemon.Run(w.ctx, append([]string{"l2tp", words[0], "--vr", "office"}, words[1:]...)...)
	w.check(err)
	w.t.Logf("vrgate l2tp %s: %s", strings.Join(words, " "), strings.TrimSpace(out))
}
