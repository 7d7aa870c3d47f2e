package ike

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// crowd makes n clients of one server, every third behind a NAT of its own.
func crowd(t *testing.T, n int) (*world, *node, []*node) {
	w := newWorld(t)
	server := w.add("server", "192.0.2.1", at(testConfig(t, ProfileCompatible, groupKey), "192.0.2.1"))
	var clients []*node
	for i := range n {
		addr := netip.AddrFrom4([4]byte{100, 64 + byte(i>>16), byte(i >> 8), byte(i)}).String()
		c := w.add(fmt.Sprint("client ", i), addr, at(testConfig(t, ProfileCompatible, groupKey), addr))
		if i%3 == 0 {
			w.nat(netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)}).String(), i%2 == 0, c)
		}
		clients = append(clients, c)
	}
	return w, server, clients
}

func ups(clients []*node) int {
	n := 0
	for _, c := range clients {
		if len(c.up) > 0 && len(c.down) == 0 {
			n++
		}
	}
	return n
}

// eager is how clients on bad links repeat themselves.
var eager = Retransmit{First: time.Second, Max: 4 * time.Second, Tries: 15}

// TestLoss: targets.md row 14, each way on its own.
func TestLoss(t *testing.T) {
	for _, c := range []struct {
		loss  float64
		by    time.Duration
		least float64
	}{
		{0.10, 15 * time.Second, 0.97}, {0.10, 30 * time.Second, 1.00},
		{0.20, 30 * time.Second, 0.97}, {0.30, 60 * time.Second, 0.90},
	} {
		w, server, clients := crowd(t, 200)
		w.loss = c.loss
		w.delay, w.jitter = 20*time.Millisecond, 20*time.Millisecond
		for _, x := range clients {
			x.e.cfg.Retransmit = eager
			x.dial("192.0.2.1", 1, 1701)
		}
		w.run(c.by)
		up := ups(clients)
		t.Logf("%.0f %% loss: %d of 200 up by %v", c.loss*100, up, c.by)
		if float64(up) < c.least*200 {
			t.Errorf("%.0f %% loss: %d of 200 up by %v, want %.0f %%", c.loss*100, up, c.by, c.least*100)
		}
		// All are up or failed with a reason, and nothing is left when they go.
		w.loss = 0
		w.run(3 * time.Minute)
		for _, x := range clients {
			if len(x.up) == 0 && len(x.down) == 0 {
				t.Errorf("%s is neither up nor down", x.name)
			}
			x.step(CloseAll{Reason: ReasonShutdown})
		}
		w.run(3 * time.Minute)
		empty(t, server)
		empty(t, clients...)
	}
}

// TestReorder: targets.md row 15, a fifth duplicated, everything up to two
// seconds late.
func TestReorder(t *testing.T) {
	w, server, clients := crowd(t, 200)
	w.dup, w.jitter = 0.2, 2*time.Second
	for _, x := range clients {
		x.e.cfg.Retransmit = eager
		x.dial("192.0.2.1", 1, 1701)
	}
	w.run(time.Minute)
	if up := ups(clients); up != 200 {
		t.Errorf("%d of 200 up", up)
	}
	for _, x := range clients {
		if len(x.up) != 1 {
			t.Errorf("%s came up %d times", x.name, len(x.up))
		}
		agree(t, x, serverPart(server, x))
	}
	if len(server.up) != 200 || len(server.e.conns) != 200 {
		t.Errorf("server: %d came up, %d connections", len(server.up), len(server.e.conns))
	}
	for _, x := range clients {
		x.step(CloseAll{Reason: ReasonShutdown})
	}
	w.run(5 * time.Minute)
	empty(t, clients...)
	empty(t, server)
}

// serverPart is the server as far as it concerns one client.
func serverPart(server, client *node) *node {
	part := &node{name: "server", kernel: map[string]SA{}}
	peer := client.addr
	if client.behind != nil {
		peer = client.behind.public
	}
	for k, sa := range server.kernel {
		if sa.Remote.Addr() == peer {
			part.kernel[k] = sa
		}
	}
	return part
}

// TestThousand connects 1,000 clients over a bad link and keeps them for a day of
// rekeys.
func TestThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	w, server, clients := crowd(t, 1000)
	w.loss, w.dup, w.jitter = 0.2, 0.1, 500*time.Millisecond
	for _, x := range clients {
		x.e.cfg.Retransmit = eager
		x.dial("192.0.2.1", 1, 1701)
	}
	w.run(2 * time.Minute)
	up := ups(clients)
	if up < 995 {
		t.Errorf("%d of 1000 up", up)
	}
	w.loss = 0.05
	w.run(3 * time.Hour)
	if now := ups(clients); now < up-5 {
		t.Errorf("%d of %d left after three hours\n%v", now, up, server.e.Counters())
	}
	for _, c := range clients {
		if len(c.up) == 1 && len(c.down) == 0 {
			agreeWithin(t, c, serverPart(server, c))
		}
		c.step(CloseAll{Reason: ReasonShutdown})
		// Some servers miss the delete and would rekey with a willing client.
		c.step(Reconfigure{})
	}
	w.loss = 0
	w.run(2 * time.Hour)
	empty(t, clients...)
	empty(t, server)
	t.Logf("%d up, %d datagrams, server %v", up, w.packets, server.e.Counters())
}

// agreeWithin checks that each side can reach the other under at least one SA.
func agreeWithin(t *testing.T, a, b *node) {
	t.Helper()
	for _, pair := range [][2]*node{{a, b}, {b, a}} {
		ok := false
		for _, sa := range pair[0].kernel {
			for _, in := range pair[1].kernel {
				ok = ok || sa.Dir == Outbound && in.Dir == Inbound && in.SPI == sa.SPI && in.EncKey.Equal(sa.EncKey)
			}
		}
		if !ok {
			t.Errorf("%s cannot reach %s", pair[0].name, pair[1].name)
		}
	}
}
