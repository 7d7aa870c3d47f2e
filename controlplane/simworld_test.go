package controlplane

import (
	"testing"
	"time"
)

// TestSimulatedClients lets a few clients connect over a perfect network and hang up.
func TestSimulatedClients(t *testing.T) {
	w := newSimWorld(t, 1, simNetwork{Delay: 10 * time.Millisecond}, nil)
	for i := range 10 {
		c := w.newClient(i)
		w.after(time.Duration(i)*time.Millisecond, c.connect)
	}
	settled := w.run(time.Minute, func() bool {
		for _, c := range w.clients {
			if !c.Settled() {
				return false
			}
		}
		return true
	})
	for _, c := range w.clients {
		if c.Failed != "" || !c.Address.IsValid() {
			t.Errorf("%s: address %v, %s", c.User, c.Address, c.Failed)
		}
	}
	if !settled {
		t.Fatalf("not settled: %v; ended: %v", w.server.left(), w.server.reasons())
	}
	for _, c := range w.clients {
		c.disconnect()
	}
	if !w.run(30*time.Minute, func() bool { return w.server.left() == "" }) {
		t.Errorf("left behind:%s; ended: %v", w.server.left(), w.server.reasons())
	}
}
