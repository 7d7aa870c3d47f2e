//go:build kernel

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestDirect is the main job: an unmodified client reaches the intranet, and every one of
// its packets is counted by the kernel's interface, not by us.
func TestDirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{})
	c := w.client(nil, "user0")
	s := w.connect(c)
	w.ping(c, topo.PingOptions{})
	w.ping(c, topo.PingOptions{Size: 1300, Count: 5})
	if len(s.DNS) != 1 || s.DNS[0] != netip.MustParseAddr("10.1.0.53") {
		t.Errorf("client was told DNS %v", s.DNS)
	}
	subs := w.subscribers()
	if len(subs) != 1 || subs[0].State != "up" || subs[0].User != "user0" || subs[0].Address != s.Local || subs[0].InPackets < 8 {
		t.Fatalf("vrgate shows %+v", subs)
	}
	// The MTU follows from what ESP, UDP, L2TP and PPP cost on a path of 1500 bytes; a packet
	// of that size leaves in one piece.
	w.ping(c, topo.PingOptions{Size: subs[0].MTU - 28, Count: 2, DontFragment: true})
	sas, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
	w.check(err)
	if len(sas) != 1 || sas[0].UDPEncapsulation || len(sas[0].Inbound) != 1 || sas[0].Inbound[0].Packets == 0 {
		t.Errorf("IPsec: %+v", sas)
	}
	w.check(c.Disconnect(w.ctx))
	w.eventually("subscriber gone after the client hung up", func() bool { return len(w.subscribers()) == 0 })
	line := w.logLine("subscriber ended", map[string]string{"user": "user0", "by_peer": "true"})
	if line == nil || line["in_bytes"].(float64) < 1000 {
		t.Errorf("summary line: %v", line)
	}
	// The same client again: its address is kept for it.
	if again := w.connect(c); again.Local != s.Local {
		t.Errorf("address %v after reconnecting, was %v", again.Local, s.Local)
	}
	w.ping(c, topo.PingOptions{})
}

// TestTwoBehindOneNAT is what the field fails at: both clients use source port 1701, and
// xl2tpd gives both the tunnel ids it likes.
func TestTwoBehindOneNAT(t *testing.T) { behindOneNAT(t, 2, topo.KeepPorts) }

// TestTwelveBehindOneNAT is a small office behind a carrier-grade NAT.
func TestTwelveBehindOneNAT(t *testing.T) { behindOneNAT(t, 12, topo.RandomPorts) }

func behindOneNAT(t *testing.T, n int, ports topo.Ports) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{})
	nat, err := w.AddNAT(w.ctx, ports)
	w.check(err)
	clients := make([]*topo.Client, n)
	addresses := make([]netip.Addr, n)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range clients {
		clients[i] = w.client(nat, fmt.Sprint("user", i))
	}
	for i, c := range clients {
		all.Go(func() {
			s, err := c.Connect(w.ctx)
			addresses[i], errs[i] = s.Local, err
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	// All at once, so that a packet delivered to the wrong session shows as lost.
	for i, c := range clients {
		all.Go(func() {
			r, err := c.Ping(w.ctx, intranetHost, topo.PingOptions{Count: 10, Size: 400})
			if errs[i] = err; err == nil && r.Lost() > 0 {
				errs[i] = fmt.Errorf("%d of %d packets lost", r.Lost(), r.Sent)
			}
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	subs := w.subscribers()
	if len(subs) != n {
		t.Fatalf("%d subscribers, want %d", len(subs), n)
	}
	byUser := map[string]api.Subscriber{}
	for _, s := range subs {
		byUser[s.User] = s
	}
	for i := range clients {
		s := byUser[fmt.Sprint("user", i)]
		if s.Address != addresses[i] || s.InPackets < 10 || s.OutPackets < 10 {
			t.Errorf("user%d: %+v, client has %v", i, s, addresses[i])
		}
	}
	sas, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
	w.check(err)
	for _, sa := range sas {
		if !sa.UDPEncapsulation || !sa.NATPeer || sa.Remote.Addr() != nat.Address {
			t.Errorf("IPsec connection: %+v", sa)
		}
	}
	// No rule, map element or conntrack entry per client: the table has the same rules for
	// twelve clients as for none (C8r).
	table, err := w.server.Output(w.ctx, "nft", "list", "table", "ip", "vrgate-office")
	w.check(err)
	for _, c := range clients {
		if strings.Contains(table, c.Host().Address.String()) {
			t.Errorf("the nftables table names a client:\n%s", table)
		}
	}
	// One hangs up, the others stay.
	w.check(clients[0].Disconnect(w.ctx))
	w.eventually("one subscriber less", func() bool { return len(w.subscribers()) == n-1 })
	w.ping(clients[1], topo.PingOptions{Count: 5})
}
