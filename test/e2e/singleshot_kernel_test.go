//go:build kernel

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// The timers of the single-shot and timeout tests: destruct at its minimum, idle so long that a client hangs up and calls
// again within it on a slow machine.
const (
	idleTimeout     = 8 * time.Second
	destructTimeout = 10 * time.Second
)

// TestSingleShot holds each rule of single-shot tunnels, and both columns of the timeout table, with stock clients side by
// side on one virtual router. A LAC's host name says which profile it falls under.
func TestSingleShot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{
		L2TP: "idle-timeout: 8s\ndestruct-timeout: 10s",
		Hosts: []string{
			"{remote-host: shot, single-shot: true}",
			"{remote-host: plainshot, single-shot: true, ipsec-required: false}",
		},
	})
	baseline := w.kernelState()
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for name, row := range map[string]func(*world){
			"H1 H2 H3 H4": singleShotIPsec,
			"H5 H7":       singleShotWrongPassword,
			"H6":          standardTimeouts,
			"H8":          singleShotPlain,
			"K12":         standardHangUp,
		} {
			run(name, func(t *testing.T) { row(w.in(t)) })
		}
	})
	w.backTo(baseline, "nothing left of the clients")
}

// singleShotIPsec uses a single-shot tunnel for its one session, and tries everything else.
func singleShotIPsec(w *world) {
	c := w.client(nil, "user0", hostName("shot"))
	w.connect(c)
	tunnel, conn := w.tunnel(c), w.connection("user0")
	if !tunnel.SingleShot {
		w.t.Errorf("the tunnel: %+v", tunnel)
	}
	ping, err := c.Host().StartPing(intranetHost, topo.PingOptions{Interval: 50 * time.Millisecond})
	w.check(err)

	// H1: one session.
	w.check(c.SecondSession())
	w.said(c, `serial 2 \(single-shot tunnel: it has had its session\)`, 1)
	if w.metric("single-shot-used") == 0 {
		w.t.Error("H1: the refusal was not counted")
	}
	// H3: one tunnel, also after the SAs have been replaced.
	const refused = `port 1701 \(the IPsec connection carries one tunnel\)`
	w.check(c.SecondTunnel())
	w.said(c, refused, 1)
	spis, cookies := w.sas("user0"), w.cookies("user0")
	w.check(c.RekeyChild(w.ctx))
	w.eventually("new SAs", func() bool { return hasNew(spis, w.sas("user0")) })
	w.check(c.RekeyIKE(w.ctx))
	w.eventually("a new IKE SA", func() bool { return hasNew(cookies, w.cookies("user0")) })
	w.check(c.SecondTunnel())
	w.said(c, refused, 2)
	if w.metric("connection-spent") == 0 {
		w.t.Error("H3: the refusals were not counted")
	}
	// None of which was to its session's harm.
	if now := w.connection("user0"); now != conn {
		w.t.Errorf("the connection was %d and is %d", conn, now)
	}
	if r, err := ping.Stop(); err != nil || r.Lost() > 0 || r.Sent < 5 {
		w.t.Errorf("its session: %v, %d of %d lost", err, r.Lost(), r.Sent)
	}

	// H2: the tunnel goes with its session; H4: IPsec goes when the destruct period begins, of which the record tells.
	w.check(c.HangUp())
	down := w.ipsecDown(conn)
	ended := w.tunnelDown(tunnel.LocalID)
	// The kernel may take longer to take the session down, which its line waits for, than the tunnel. The client ends PPP first, and
	// the session a moment later.
	session, ends := w.summaryOf("user0", conn), []string{"ppp-user-request", "peer-closed-session"}
	if d := ended.Time.Sub(session.Time); d > idleTimeout/4 || !slices.Contains(ends, ended.Reason) {
		w.t.Errorf("H2: the tunnel has gone %v after its session: %+v", d, ended)
	}
	if d := down.Time.Sub(ended.Time); d < 0 || d > destructTimeout/2 || down.Reason != "single-shot-over" {
		w.t.Errorf("H4: IPsec has gone %v after the tunnel: %+v", d, down)
	}
	w.noSAs(c)
}

// singleShotWrongPassword guesses twice: each guess costs a run of IKE (H7).
func singleShotWrongPassword(w *world) {
	c := w.client(nil, "user1", hostName("shot"), func(c *topo.ClientConfig) { c.Password = "incorrect horse" })
	var conns []uint32
	for range 2 {
		if err := w.refusedAt(c, topo.StagePPP); err != nil {
			w.t.Fatal(err)
		}
		w.eventually("another refusal", func() bool { return len(w.summaries(c, "aaa-wrong-password")) > len(conns) })
		last := w.summaries(c, "aaa-wrong-password")[len(conns)]
		down := w.ipsecDown(last.Conn)
		if d := down.Time.Sub(last.Time); d > destructTimeout/2 || down.Reason != "single-shot-over" {
			w.t.Errorf("H5: IPsec has gone %v after the refusal: %+v", d, down)
		}
		conns = append(conns, last.Conn)
		w.noSAs(c)
	}
	if conns[0] == conns[1] {
		w.t.Errorf("H5: both guesses were on connection %d", conns[0])
	}
}

// standardTimeouts is a standard tunnel: a session within the idle period keeps it, after the period it goes, and IPsec at the end
// of the destruct period.
func standardTimeouts(w *world) {
	c := w.client(nil, "user2")
	w.connect(c)
	tunnel, conn := w.tunnel(c), w.connection("user2")
	if tunnel.SingleShot {
		w.t.Errorf("H6: %+v", tunnel)
	}
	w.throwOut(c, "user2")
	w.connect(c)
	w.ping(c, topo.PingOptions{Count: 2})
	if again := w.tunnel(c); again.LocalID != tunnel.LocalID || again.Sessions.Total != 2 || w.connection("user2") != conn {
		w.t.Errorf("a session within the idle period came in tunnel %+v, the one before was in %d", again, tunnel.LocalID)
	}
	w.hungUp(c, "user2")
	over := slices.DeleteFunc(lines[logged](w, "subscriber ended"), func(s logged) bool { return s.User != "user2" })
	ended := w.tunnelDown(tunnel.LocalID)
	if d := ended.Time.Sub(over[len(over)-1].Time); d < idleTimeout-time.Second || d > idleTimeout+destructTimeout/2 || ended.Reason != "idle-timeout" {
		w.t.Errorf("idle period: the tunnel has gone %v after its last session: %+v", d, ended)
	}
	down := w.ipsecDown(conn)
	if d := down.Time.Sub(ended.Time); d < destructTimeout-time.Second || d > 2*destructTimeout {
		w.t.Errorf("destruct period: IPsec has gone %v after the tunnel: %+v", d, down)
	}
	w.noSAs(c)
	// The record went with the destruct period (D30).
	w.eventually("no record", func() bool { return len(w.tunnelsOf(c)) == 0 })
}

// standardHangUp is a standard tunnel that the client closes: IPsec goes with the client, whatever the destruct period, and the record
// stays for it.
func standardHangUp(w *world) {
	c := w.client(nil, "user3")
	w.connect(c)
	tunnel, conn := w.tunnel(c), w.connection("user3")
	w.check(c.Disconnect(w.ctx))
	if ended, down := w.tunnelDown(tunnel.LocalID), w.ipsecDown(conn); ended.Reason != "peer-closed-tunnel" || down.Reason != "peer-deleted" {
		w.t.Errorf("tunnel %+v, IPsec %+v", ended, down)
	}
	if record := w.tunnel(c); record.State != "idle" || record.Reason != "peer-closed-tunnel" || record.Ended.IsZero() || record.Sessions.Total != 1 {
		w.t.Errorf("the record: %+v", record)
	}
}

// singleShotPlain is a single-shot tunnel in clear text, for which the rules about IPsec do not hold.
func singleShotPlain(w *world) {
	plain := func(c *topo.ClientConfig) { c.Plain = true }
	c := w.client(nil, "user4", hostName("plainshot"), plain)
	w.connect(c)
	first := w.tunnel(c)
	w.check(c.SecondSession())
	w.said(c, `serial 2 \(single-shot tunnel: it has had its session\)`, 1)
	w.ping(c, topo.PingOptions{Count: 2})
	w.hungUp(c, "user4")
	ended := w.tunnelDown(first.LocalID)
	if s := w.ended("user4"); ended.Time.Sub(w.summaryOf("user4", 0).Time) > idleTimeout/4 || s.Reason != "ppp-user-request" {
		w.t.Errorf("H8 H2: %+v, tunnel %+v", s, ended)
	}
	// The next tunnel of the same LAC is welcome at once.
	w.eventually("the client knows", func() bool { return strings.Contains(c.Logs(), "port 1701 (") })
	w.connect(c)
	w.ping(c, topo.PingOptions{Count: 2})
	if again := w.tunnel(c); again.LocalID == first.LocalID || !again.SingleShot || again.Connection != 0 {
		w.t.Errorf("H8: %+v", again)
	}
	w.hungUp(c, "user4")

	// G6: clear text is refused to whose profile asks for IPsec.
	strict := w.client(nil, "user5", plain)
	w.check(strict.Start(w.ctx))
	w.check(strict.SecondTunnel())
	w.eventually("counted", func() bool { return w.metric("ipsec-required") > 0 })
}

// hostName gives a client an L2TP host name.
func hostName(name string) func(*topo.ClientConfig) {
	return func(c *topo.ClientConfig) { c.HostName = name }
}

// logged is what the lines about ends have in common.
type logged struct {
	Time   time.Time
	User   string
	Peer   string
	Conn   uint32
	Tunnel uint16
	Reason string
	Text   string
	Msg    string
}

// call connects a client within the time that a test has patience for.
func (w *world) call(c *topo.Client) (topo.Session, error) {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	return c.Connect(ctx)
}

// refusedAt has a client call that must be refused at the stage; the error says what happened instead.
func (w *world) refusedAt(c *topo.Client, stage topo.Stage) error {
	_, err := w.call(c)
	var at *topo.ConnectError
	switch {
	case err == nil:
		return fmt.Errorf("%s has connected", c.Host().Address)
	case !errors.As(err, &at) || at.Stage != stage || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: want a refusal at %s: %w", c.Host().Address, stage, err)
	}
	return nil
}

// callAll connects clients side by side.
func (w *world) callAll(clients ...*topo.Client) {
	w.t.Helper()
	each(w, clients, func(c *topo.Client) error { _, err := w.call(c); return err })
}

// parsed reads a line of the log.
func parsed(line string) (l logged, ok bool) {
	err := json.Unmarshal([]byte(line), &l)
	return l, err == nil
}

// find waits for the log's first line with this message that fits.
func (w *world) find(msg string, fits func(logged) bool) logged {
	w.t.Helper()
	var found []logged
	w.eventually("a line "+msg, func() bool {
		found = slices.DeleteFunc(lines[logged](w, msg), func(l logged) bool { return !fits(l) })
		return len(found) > 0
	})
	return found[0]
}

func (w *world) ipsecDown(conn uint32) logged {
	w.t.Helper()
	return w.find("IPsec down", func(l logged) bool { return l.Conn == conn })
}

func (w *world) tunnelDown(id uint16) logged {
	w.t.Helper()
	return w.find("L2TP tunnel down", func(l logged) bool { return l.Tunnel == id })
}

// summaryOf is the summary line of a user's first session on an IPsec connection.
func (w *world) summaryOf(user string, conn uint32) logged {
	w.t.Helper()
	return w.find("subscriber ended", func(l logged) bool { return l.User == user && l.Conn == conn })
}

// summaries are the summary lines of a client's sessions that ended for a reason.
func (w *world) summaries(c *topo.Client, reason string) []logged {
	w.t.Helper()
	return slices.DeleteFunc(lines[logged](w, "subscriber ended"), func(l logged) bool {
		return l.Reason != reason || !strings.HasPrefix(l.Peer, c.Host().Address.String()+":")
	})
}

// hungUp has a client hang up, and waits until both sides know.
func (w *world) hungUp(c *topo.Client, user string) {
	w.t.Helper()
	w.over(c, user, c.HangUp)
}

// throwOut ends a session as an operator does, and waits until both sides know. The client keeps its tunnel and may call again.
func (w *world) throwOut(c *topo.Client, user string) {
	w.t.Helper()
	w.over(c, user, func() error {
		_, err := w.daemon.Run(w.ctx, "disconnect", "--user", user)
		return err
	})
}

// over ends a user's session and waits until both sides know.
func (w *world) over(c *topo.Client, user string, end func() error) {
	w.t.Helper()
	before := len(lines[summary](w, "subscriber ended"))
	w.check(end())
	w.eventually("the session of "+user+" is over", func() bool {
		_, up := w.subscriber(user)
		return !up && !c.Connected() && len(lines[summary](w, "subscriber ended")) > before
	})
}

// tunnelsOf returns the tunnels of a client that is not behind a NAT, and records of them, the newest first.
func (w *world) tunnelsOf(c *topo.Client) []api.L2TPTunnel {
	w.t.Helper()
	list, err := w.daemon.API().L2TPTunnels(w.ctx, api.Filter{})
	w.check(err)
	list = slices.DeleteFunc(list, func(x api.L2TPTunnel) bool { return x.Remote.Addr() != c.Host().Address })
	slices.SortFunc(list, func(a, b api.L2TPTunnel) int { return b.Since.Compare(a.Since) })
	return list
}

// tunnel returns a client's newest tunnel, or the record of it.
func (w *world) tunnel(c *topo.Client) api.L2TPTunnel {
	w.t.Helper()
	list := w.tunnelsOf(c)
	if len(list) == 0 {
		w.t.Fatalf("%v has no tunnel", c.Host().Address)
	}
	return list[0]
}

// said waits until a client's xl2tpd has logged that often that something was closed with these words.
func (w *world) said(c *topo.Client, words string, times int) {
	w.t.Helper()
	line := regexp.MustCompile(`Connection closed to \S+ ` + words)
	w.eventually("the client is told: "+words, func() bool { return len(line.FindAllString(c.Logs(), -1)) >= times })
}

// noSAs waits until a client has no SA left.
func (w *world) noSAs(c *topo.Client) {
	w.t.Helper()
	w.eventually("the client's SAs are gone", func() bool {
		list, err := c.SAs(w.ctx)
		return err == nil && strings.TrimSpace(list) == ""
	})
}
