//go:build kernel

package e2e

import (
	"testing"
	"time"

	"vrgate/test/topo"
)

// TestDirect and TestBehindNAT are the main job: an unmodified client reaches the intranet.
func TestDirect(t *testing.T) {
	w := newWorld(t, 2*time.Minute)
	w.runOne(vrConfig{})
	c := w.client(nil, "user0")
	s := w.connect(c)
	w.ping(c, topo.PingOptions{})
	w.ping(c, topo.PingOptions{Size: 1300, Count: 5})
	subs := w.subscribers()
	if len(subs) != 1 || subs[0].State != "up" || subs[0].User != "user0" || subs[0].Address != s.Local || subs[0].InPackets < 8 {
		t.Fatalf("vrgate shows %+v", subs)
	}
	w.check(c.Disconnect(w.ctx))
	w.eventually(10*time.Second, "subscriber gone after the client hung up", func() bool { return len(w.subscribers()) == 0 })
	if w.logLine("subscriber ended", map[string]string{"user": "user0", "reason": "ppp-user-request"}) == nil {
		t.Error("no summary line for the ended subscriber")
	}
	w.check(w.daemon.Stop(w.ctx))
}
