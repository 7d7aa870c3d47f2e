//go:build kernel

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestRekeyByClient and TestRekeyByServer replace the SAs of both phases under a running
// ping; not one packet may be lost.
func TestRekeyByClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{})
	nat, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)
	c := w.client(nat, "user0")
	w.connect(c)
	w.pingWhile(c, func() {
		replaced := func(what string, rekey func() error, list func() []string) {
			old := list()
			w.check(rekey())
			w.eventually(what, func() bool { return hasNew(old, list()) })
			time.Sleep(time.Second)
		}
		child := func() error { return c.RekeyChild(w.ctx) }
		sas := func() []string { return w.sas("") }
		for range 3 {
			replaced("new phase 2 SAs", child, sas)
		}
		replaced("a new phase 1 SA", func() error { return c.RekeyIKE(w.ctx) }, func() []string { return w.cookies("") })
		replaced("new phase 2 SAs under the new phase 1", child, sas)
	})
}

// TestRekeyByServer leaves rekeying to us: the client proposes a short phase 2 life and never
// rekeys itself, and our policy rule cuts the life of phase 1.
func TestRekeyByServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{IPsec: "ike-policy-rules: [{priority: 1, encryption: [aes256], hash: [sha256], group: [modp2048], lifetime: 60s}]"})
	c := w.client(nil, "user0", func(c *topo.ClientConfig) { c.NeverRekeys, c.ESPLifetime = true, 45*time.Second })
	w.connect(c)
	old, cookies := w.sas(""), w.cookies("")
	w.pingWhile(c, func() {
		w.eventually("new phase 2 SAs", func() bool { return hasNew(old, w.sas("")) })
		w.eventually("a new phase 1 SA", func() bool { return hasNew(cookies, w.cookies("")) })
	})
	if subs := w.subscribers(); len(subs) != 1 || subs[0].State != "up" {
		t.Errorf("after rekeying: %+v", subs)
	}
	w.neverRekeyed(c.Logs())
}

// neverRekeyed checks that a client left rekeying to us. logs are strongSwan's.
func (w *world) neverRekeyed(logs string) {
	w.t.Helper()
	for _, sign := range []string{"creating rekey job", "initiator did not reauthenticate as requested", "reauthenticating"} {
		if strings.Contains(logs, sign) {
			w.t.Errorf("the client has rekeyed by itself: %s", sign)
		}
	}
}

// pingWhile pings ten times a second while do runs; nothing may be lost.
func (w *world) pingWhile(c peer, do func()) {
	w.t.Helper()
	p, err := c.Host().StartPing(intranetHost, topo.PingOptions{Interval: 100 * time.Millisecond})
	w.check(err)
	time.Sleep(500 * time.Millisecond)
	do()
	time.Sleep(1500 * time.Millisecond)
	r, err := p.Stop()
	w.check(err)
	w.t.Logf("%d packets sent, %d lost", r.Sent, r.Lost())
	if r.Lost() > 0 || r.Sent < 10 {
		w.t.Errorf("%d of %d packets lost:\n%s", r.Lost(), r.Sent, r.Output)
	}
}

// sas returns the SPIs in use, of one user's connection or for "" of all.
func (w *world) sas(user string) []string {
	w.t.Helper()
	list, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
	w.check(err)
	var out []string
	for _, c := range list {
		if user == "" || c.Connection == w.connection(user) {
			for _, s := range append(c.Inbound, c.Outbound...) {
				out = append(out, s.SPI)
			}
		}
	}
	return out
}

// cookies returns the responder cookies of phase 1 SAs, of one user's connection or for "" of all.
func (w *world) cookies(user string) []string {
	w.t.Helper()
	list, err := w.daemon.API().IKESAs(w.ctx, api.Filter{})
	w.check(err)
	var out []string
	for _, s := range list {
		if user == "" || s.Connection == w.connection(user) {
			out = append(out, s.LocalCookie)
		}
	}
	return out
}

// connection is the number of a subscriber's IPsec connection.
func (w *world) connection(user string) uint32 {
	w.t.Helper()
	s, ok := w.subscriber(user)
	if !ok || s.Connection == 0 {
		w.t.Fatalf("%s has no IPsec connection: %+v", user, s)
	}
	return s.Connection
}

// hasNew says whether now holds something that was not in old. One that has been replaced
// lingers for stragglers, so that old ones are there too.
func hasNew(old, now []string) bool {
	return slices.ContainsFunc(now, func(x string) bool { return !slices.Contains(old, x) })
}

// TestVanishedClient is gone within the time that echo interval and failures allow, and all of
// it in the kernel once L2TP has given up and the destruct period is over; who stays notices
// nothing.
func TestVanishedClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{PPP: "echo-interval: 2s\necho-failures: 3", L2TP: "destruct-timeout: 10s\nretransmissions-established: 2"})
	stays := w.client(nil, "user1")
	w.connect(stays)
	baseline := stateWith(w, stays)
	c := w.client(nil, "user0")
	w.connect(c)
	w.check(c.Kill(w.ctx))
	w.eventually("the vanished client's session is over", func() bool { return len(w.subscribers()) == 1 })
	if w.logLine("subscriber ended", map[string]string{"user": "user0", "reason": "ppp-keepalive"}) == nil {
		t.Error("no summary line with reason ppp-keepalive")
	}
	w.backTo(baseline, "the vanished client's tunnel and SAs are gone")
	w.ping(stays, topo.PingOptions{})
}

// TestSIGTERM ends all sessions politely and leaves nothing in the kernel.
func TestSIGTERM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.kernelState()
	w.runOne(vrConfig{})
	a, b := w.client(nil, "user0"), w.client(nil, "user1")
	w.connectAll(a, b)
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left after SIGTERM:\n%s\nwas before:\n%s", after, before)
	}
	for _, u := range []string{"user0", "user1"} {
		if w.logLine("subscriber ended", map[string]string{"user": u, "reason": "shutdown"}) == nil {
			t.Errorf("%s: no summary line with reason shutdown", u)
		}
	}
	// Politely: the clients were told, none had to find out by itself.
	for _, c := range []*topo.Client{a, b} {
		w.eventually("the client knows that it is over", func() bool {
			return strings.Contains(c.Logs(), "LCP terminated by peer")
		})
	}
}

// TestKill9 cleans up after a predecessor that crashed, touches nothing that is not its
// own, and serves the same clients again.
func TestKill9(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foreign := []string{
		"xfrm state add src 203.0.113.1 dst 203.0.113.2 proto esp spi 0x1234 reqid 7 mode transport enc cbc(aes) 0x00112233445566778899aabbccddeeff auth hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213",
		"xfrm policy add src 203.0.113.1 dst 203.0.113.2 dir out tmpl proto esp reqid 7 mode transport",
	}
	w.check(w.server.IP(w.ctx, foreign...))
	w.check(w.server.NFT(w.ctx, "table ip somebody {\n chain c {\n type filter hook input priority 0; policy accept;\n counter\n }\n}\n"))
	before := w.kernelState()
	w.runOne(vrConfig{})
	served := w.kernelState()
	c := w.client(nil, "user0", func(c *topo.ClientConfig) { c.DPD = 2 * time.Second })
	w.connect(c)
	w.check(w.daemon.Kill())
	if w.kernelState() == before {
		t.Fatal("kill -9 left nothing: the test shows nothing")
	}
	w.check(w.daemon.Start(w.ctx))
	if again := w.kernelState(); again != served {
		t.Errorf("after the restart:\n%s\nwas at the first start:\n%s", again, served)
	}
	c.Close()
	d := w.client(nil, "user0")
	w.connect(d)
	w.ping(d, topo.PingOptions{})

	// A crash, and a configuration in which the virtual router has another name.
	w.check(w.daemon.Kill())
	config := filepath.Join(w.daemon.Dir, "vr")
	w.check(os.Rename(filepath.Join(config, "office.yaml"), filepath.Join(config, "branch.yaml")))
	w.check(w.daemon.Start(w.ctx))
	if state := w.kernelState(); strings.Contains(state, "vrgate-office") || !strings.Contains(state, "vrgate-branch") {
		t.Errorf("after a restart under another name:\n%s", state)
	}
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left in the end:\n%s\nwas before:\n%s", after, before)
	}
}

// TestFlushedRules survives an operator's `nft flush ruleset`: the rules are put back as
// soon as the first datagram shows that they are missing.
func TestFlushedRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{})
	c := w.client(nil, "user0")
	w.connect(c)
	w.check(w.server.NFT(w.ctx, "flush ruleset\n"))
	w.eventually("the client reaches the intranet again", func() bool {
		r, err := c.Ping(w.ctx, intranetHost, topo.PingOptions{Count: 2})
		return err == nil && r.Lost() == 0
	})
	w.ping(c, topo.PingOptions{Count: 5})
}

// TestFlushedIPsec: an operator's `ip xfrm policy flush` disturbs no L2TP client, whose policies are on sockets; after `ip xfrm state flush` the
// SAs, whose keys are gone, are over for both ends at once instead of staying up without a packet passing, and the client can come again.
func TestFlushedIPsec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{})
	c := w.client(nil, "user0")
	w.connect(c)
	w.check(w.server.IP(w.ctx, "xfrm policy flush"))
	w.ping(c, topo.PingOptions{Count: 5})
	w.check(w.server.IP(w.ctx, "xfrm state flush"))
	w.check(w.daemon.WaitLog(w.ctx, "somebody has removed IPsec state"))
	w.eventually("the SAs are over", func() bool {
		list, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
		w.check(err)
		return !slices.ContainsFunc(list, func(c api.IPsec) bool { return len(c.Inbound)+len(c.Outbound) > 0 })
	})
	c.Close()
	c = w.client(nil, "user0")
	w.connect(c)
	w.ping(c, topo.PingOptions{Count: 5})
}

// TestReboundNAT keeps the session when the client's NAT forgets its mappings and ESP comes
// from another port.
func TestReboundNAT(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{})
	nat, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)
	c := w.client(nat, "user0")
	w.connect(c)
	w.ping(c, topo.PingOptions{})
	was := w.remote()
	w.check(nat.Rebind(w.ctx))
	w.eventually("the client reaches the intranet again", func() bool {
		r, err := c.Ping(w.ctx, intranetHost, topo.PingOptions{Count: 2})
		return err == nil && r.Lost() == 0
	})
	if now := w.remote(); now == was {
		t.Errorf("the connection is still at %s: the NAT has not rebound, or nobody noticed", was)
	}
	w.ping(c, topo.PingOptions{Count: 5})
	if subs := w.subscribers(); len(subs) != 1 {
		t.Errorf("subscribers: %+v", subs)
	}
}

// remote is where the only IPsec connection's peer is.
func (w *world) remote() string {
	w.t.Helper()
	list, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
	w.check(err)
	if len(list) != 1 {
		w.t.Fatalf("%d IPsec connections, want 1", len(list))
	}
	return list[0].Remote.String()
}
