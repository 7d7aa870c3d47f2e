//go:build kernel

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/keymat"
	"vrgate/test/loadgen"
	"vrgate/test/topo"
)

// Passing and not passing NATs without NAT-T.
var (
	passing    = vrConfig{IPsec: "nat-t: false", Transport: "nat-passthrough: true"}
	notPassing = vrConfig{IPsec: "nat-t: false"}
)

// TestNATPassthrough serves the one user behind a NAT that lets ESP through (B1r to B3r), and not without the profile's permission.
func TestNATPassthrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(passing)
	nat, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)
	quick := func(c *topo.ClientConfig) { c.RetransmitTries, c.RetransmitTimeout = 2, 2*time.Second }
	c, second := w.client(nat, "user0", quick), w.client(nat, "user1", quick)
	w.connect(c)
	w.ping(c, topo.PingOptions{Count: 3})
	was := w.passes(nat)

	// B3r: another user is turned away, and is no harm to the one.
	w.pingWhile(c, func() {
		if err := w.refusedAt(second, topo.StageIKE); err != nil {
			t.Errorf("B3r: the second user: %v", err)
		}
		w.behind(nat, "nat-passthrough-in-use", "NAT passthrough serves one user behind "+nat.Address.String())
	})
	second.Close()
	if now := w.passes(nat); now.Connection != was.Connection {
		t.Errorf("B3r: connection %d became %d", was.Connection, now.Connection)
	}
	// The same user may come back any time. StrongSwan does not say that it has restarted, so that its connection goes on.
	cookies := w.cookies("user0")
	w.check(c.Crash(w.ctx))
	w.connect(c)
	w.ping(c, topo.PingOptions{Count: 3})
	if now := w.passes(nat); now.Connection != was.Connection || !hasNew(cookies, w.cookies("user0")) {
		t.Errorf("B3r: connection %d became %d, of IKE SAs %v is left %v", was.Connection, now.Connection, cookies, w.cookies("user0"))
	}
	if n := w.metric("checksum"); n != 0 {
		t.Errorf("B2r: %v datagrams were dropped for their checksum", n)
	}

	// Without permission there is no way in, and the operator reads what would help.
	last := w.passes(nat).Connection
	w.take(notPassing)
	if down := w.ipsecDown(last); down.Reason != "profile-changed" {
		t.Errorf("the profile does not pass NATs any more: %+v", down)
	}
	w.noSAs(c)
	if err := w.refusedAt(c, topo.StageIKE); err != nil {
		t.Errorf("B4r: connecting without permission: %v", err)
	}
	w.behind(nat, "selectors-refused", "only where its transport profile has nat-passthrough")
}

// passes returns the only IPsec connection, which has to be plain ESP from a NAT.
func (w *world) passes(nat *topo.NAT) api.IPsec {
	w.t.Helper()
	list, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
	w.check(err)
	if len(list) != 1 || list[0].UDPEncapsulation || list[0].Remote.Addr() != nat.Address {
		w.t.Fatalf("connections %+v, want one in plain ESP from %v", list, nat.Address)
	}
	return list[0]
}

// behind waits for a report about somebody behind a NAT.
func (w *world) behind(nat *topo.NAT, reason, text string) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%s: %s", reason, text), func() bool {
		for line := range strings.Lines(w.daemon.Log()) {
			if l, ok := parsed(line); ok && l.Reason == reason && strings.HasPrefix(l.Peer, nat.Address.String()+":") && strings.Contains(l.Msg, text) {
				return true
			}
		}
		return false
	})
}

// TestFalsifiedChecksum is a client whose L2TP has a checksum that a NAT has falsified, and which names the address that the NAT has given
// it, so that nothing else gives it away: taken with the profile's permission (B2r), dropped by the kernel and counted without (B4r).
func TestFalsifiedChecksum(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(notPassing)
	host, err := w.AddHost(w.ctx, nil)
	w.check(err)
	sources := netip.MustParsePrefix("198.19.0.0/24") // RFC 2544
	w.check(host.Namespace.IP(w.ctx, fmt.Sprintf("route add local %v dev lo", sources)))
	w.check(w.Internet().IP(w.ctx, fmt.Sprintf("route add %v via %v", sources, host.Address)))
	g, err := loadgen.New(loadgen.Config{
		Do: host.Namespace.Do, Server: w.address, Sources: sources, PSK: keymat.Secret(psk), Group: keymat.ECP256,
		User: func(i int) string { return fmt.Sprintf("user%d", i) }, Password: password, Inside: netip.MustParseAddr("192.168.1.10"),
	})
	w.check(err)
	defer g.Close()

	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	up := make(chan int, 1)
	go func() {
		r, _ := g.Connect(ctx, 1, 1) // until it has given up, or the test has seen enough
		up <- r.Up
	}()
	w.eventually("the kernel has counted two datagrams with false checksums", func() bool { return w.metric("checksum") >= 2 })
	w.eventually("the operator is told what it may be", func() bool {
		return strings.Contains(w.daemon.Log(), "a NAT has falsified its UDP checksums")
	})
	cancel()
	if <-up != 0 {
		t.Error("B4r: it has connected")
	}
	if list, err := w.daemon.API().L2TPTunnels(w.ctx, api.Filter{}); err != nil || len(list) != 0 {
		t.Errorf("B4r: tunnels %+v, %v", list, err)
	}

	w.take(passing)
	ctx, cancel = context.WithTimeout(w.ctx, patience)
	defer cancel()
	before := w.metric("checksum")
	if r, err := g.Connect(ctx, 1, 1); err != nil || r.Up != 1 {
		t.Fatalf("B2r: %+v, %v", r, err)
	}
	if n, err := g.Ping(ctx, intranetHost); err != nil || n != 1 {
		t.Errorf("B2r: %d sessions reach the intranet, %v", n, err)
	}
	if after := w.metric("checksum"); after != before {
		t.Errorf("B2r: %v datagrams were dropped for their checksum", after-before)
	}
}
