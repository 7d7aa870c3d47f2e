package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
)

// TestTunnelLog: an operator reads once that a tunnel is up or down, and once why it cannot come up, however often that happens.
func TestTunnelLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		r := &router{log: zap.New(core), sites: newSiteShell()}
		r.settings.Store(&settings{cfg: &config.Router{StaticTunnels: []config.StaticTunnel{{Name: "hq"}, {Name: "far"}}}})
		peer := netip.MustParseAddr("198.51.100.7")
		say := func(want string, changes ...site.Changed) {
			t.Helper()
			logs.TakeAll()
			for _, c := range changes {
				c.Tunnel = "hq"
				r.tunnelChanged(c)
			}
			var got string
			for _, e := range logs.All() {
				got += fmt.Sprintf("%v %s %v; ", e.Level, e.Message, e.ContextMap()["reason"])
			}
			if got != want {
				t.Errorf("%+v: logged %q, want %q", changes, got, want)
			}
		}
		dialling := []site.Changed{{State: site.StateResolving}, {State: site.StateQueued, Reason: site.ReasonBusy}, {State: site.StateDialling, Peer: peer}}
		waiting := func(r site.Reason, text string) []site.Changed {
			return append(slices.Clone(dialling), site.Changed{State: site.StateWaiting, Until: time.Now().Add(time.Minute), Reason: r, Text: text})
		}
		up := func(conn uint32) site.Changed { return site.Changed{State: site.StateUp, Conn: conn, Peer: peer} }
		say("", dialling...)
		say("info static tunnel up <nil>; info static tunnel down peer-dead; ", up(1), site.Changed{State: site.StateWaiting, Reason: "peer-dead"})
		say("info static tunnel up <nil>; ", up(1))
		say("", up(1))
		say("info static tunnel is carried by another connection <nil>; ", up(2))
		say("info static tunnel down peer-dead; ", append([]site.Changed{{State: site.StateDialling, Reason: "peer-dead", Peer: peer}}, dialling...)...)
		say("warn static tunnel cannot be brought up no-answer; ", waiting("no-answer", "")...)
		for range 50 {
			time.Sleep(time.Minute)
			say("", waiting("no-answer", "")...)
		}
		say("warn static tunnel cannot be brought up no-proposal-chosen; ", waiting("no-proposal-chosen", "it offers none")...)
		time.Sleep(time.Hour)
		say("warn static tunnel cannot be brought up no-proposal-chosen; ", waiting("no-proposal-chosen", "it offers none")...)
		say("info static tunnel up <nil>; ", append(slices.Clone(dialling), site.Changed{State: site.StateChecking, Conn: 3}, up(3))...)
		say("", site.Changed{State: site.StateChecking, Conn: 4}) // a backup: the tunnel is neither lost nor up
		say("info static tunnel down check-failed; ", site.Changed{State: site.StateDialling, Reason: site.ReasonCheck})
		say("warn static tunnel cannot be brought up no-answer; ", waiting("no-answer", "")...) // it has been up since
		say("info static tunnel is admin-down admin-down; ", site.Changed{State: site.StateAdminDown, Reason: site.ReasonAdminDown})
		say("info static tunnel up <nil>; info static tunnel down awaits-peer; ", up(5), site.Changed{State: site.StateDown, Reason: site.ReasonAwaitsPeer})

		// Tunnels that are configured no more are forgotten.
		for i := range 100 {
			r.tunnelChanged(site.Changed{Tunnel: "old " + strconv.Itoa(i), State: site.StateDialling})
		}
		if n := len(r.sites.told); n > 3 {
			t.Errorf("%d tunnels are remembered of 2", n)
		}
	})
}

// TestLookupReason: names fail with typed reasons, and with the same sentence for the same cause.
func TestLookupReason(t *testing.T) {
	for _, c := range []struct {
		err  error
		want site.Reason
		text string
	}{
		{&net.DNSError{Err: "no such host", Name: "gw", IsNotFound: true}, reasonNameNotFound, "lookup gw: no such host"},
		{fmt.Errorf("asking: %w", &net.DNSError{Err: "read udp 10.0.0.1:41234->10.0.0.53:53: i/o timeout", Name: "gw", IsTimeout: true}), site.ReasonNameTimeout, "no name server answers"},
		{context.DeadlineExceeded, site.ReasonNameTimeout, "no name server answers"},
		{&net.DNSError{Err: "server misbehaving", Name: "gw"}, reasonNameFailed, "lookup gw: server misbehaving"},
		{errors.New("no socket"), reasonNameFailed, "no socket"},
	} {
		if r, text := lookupReason(c.err); r != c.want || text != c.text {
			t.Errorf("%v: %s %q, want %s %q", c.err, r, text, c.want, c.text)
		}
	}
}

// TestLookups: so many at a time and no more; what has waited too long is given up before it is asked, so that names that nobody
// answers for do not keep others waiting for ever; and close waits for those under way.
func TestLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lookups
		var running, most, asked, late atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		ask := func() {
			most.Store(max(most.Load(), running.Add(1)))
			ctx, stop := lookupContext(ctx)
			defer stop()
			<-ctx.Done() // a silent name server
			running.Add(-1)
			asked.Add(1)
		}
		for range 3 * maxLookups {
			l.do(ask, func() { late.Add(1) })
		}
		time.Sleep(lookupTimeout + time.Second)
		synctest.Wait()
		if asked.Load() != maxLookups || most.Load() != maxLookups || late.Load() != 2*maxLookups || running.Load() != 0 || l.running != 0 {
			t.Errorf("asked %d, at once %d, late %d; %d and %d run", asked.Load(), most.Load(), late.Load(), running.Load(), l.running)
		}
		quick := make(chan time.Time, 1)
		l.do(func() { quick <- time.Now() }, func() { t.Error("late") })
		if at := <-quick; time.Since(at) > 0 {
			t.Error("a lookup waited though none runs")
		}
		if lookupWait+lookupTimeout >= 30*time.Second {
			t.Error("the engine does not wait so long")
		}

		// The end.
		for range 2 * maxLookups {
			l.do(ask, func() { t.Error("late") })
		}
		synctest.Wait()
		var closed sync.WaitGroup
		before := asked.Load()
		closed.Go(l.close)
		synctest.Wait() // else those whose lookup ends first may start others
		cancel()
		closed.Wait()
		l.do(func() { t.Error("asked after the end") }, func() { t.Error("late after the end") })
		if n := asked.Load() - before; n != maxLookups || len(l.queue) > 0 {
			t.Errorf("%d were asked, %d wait", n, len(l.queue))
		}
	})
}

// TestLateAnswerAboutUser: what AAA says about a user does not hold for another one that the peer has answered for meanwhile.
func TestLateAnswerAboutUser(t *testing.T) {
	r := &router{log: zap.NewNop(), inbox: newInbox(), tunnelUsers: newTunnelUsers()}
	r.tunnelUsers.asked[7] = 2
	for _, c := range []struct {
		question uint64
		accept   bool
		want     []any
	}{
		{1, true, nil}, {1, false, nil}, {2, true, []any{ike.Admit{Conn: 7}}}, {2, true, nil},
	} {
		r.userDecided(time.Now(), userDecided{conn: 7, question: c.question, user: "branch", decision: aaa.Decision{Accept: c.accept, Reason: "no"}})
		if got := r.inbox.take(nil); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if len(r.tunnelUsers.asked) > 0 {
		t.Errorf("questions are left: %v", r.tunnelUsers.asked)
	}
}
