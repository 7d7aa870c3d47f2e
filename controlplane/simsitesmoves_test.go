package controlplane

import (
	"net/netip"
	"testing"
	"time"
)

// TestPeerMoves: the peer of a tunnel whose NAT gets another address is shown there, and the tunnel goes on by the same connection.
func TestPeerMoves(t *testing.T) {
	w := newSiteWalk(t, 1)
	w.pass(5 * time.Second)
	before, _ := w.server.m.sites.engine.Tunnel("road")
	if before.Conn == 0 || before.Peer != simPublicAddr {
		t.Fatalf("not up:\n%s", w)
	}
	w.x.nat.public = netip.MustParseAddr("203.0.113.10")
	delta := w.x.nodes[simDeltaAddr].static
	for range 3 { // the first tells the hub
		delta.packets("road")
		w.pass(time.Second)
	}
	after, _ := w.server.m.sites.engine.Tunnel("road")
	if after.Conn != before.Conn || after.Peer != w.x.nat.public || after.Moves != 1 || after.Ups != 1 {
		t.Errorf("%+v", after)
	}
	sent := append(w.server.static.packets("road"), delta.packets("road")...)
	w.pass(time.Second)
	for _, id := range sent {
		if !w.x.got[id] {
			t.Errorf("packet %d is lost", id)
		}
	}
}
