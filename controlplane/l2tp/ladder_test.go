package l2tp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// pair is an LNS and a LAC on a perfect network.
func pair(t *testing.T, secret string) (w *world, lns, lac *node) {
	w = newWorld(t, 7)
	lns = w.node("192.0.2.1", profiles(secret))
	lac = w.node("198.51.100.7", Config{})
	return w, lns, lac
}

func TestCall(t *testing.T) {
	for _, secret := range []string{"", "geheim"} {
		t.Run("secret="+secret, func(t *testing.T) {
			w, lns, lac := pair(t, secret)
			lac.dial(42, "192.0.2.1", secret)
			w.run(time.Second)
			up := last[SessionUp](lns).Session
			if up.PeerHost != "lac" || up.CallingNumber != "5551234" || up.TxSpeed != dialSpeed || up.RxSpeed != dialSpeed || up.Profile != "any" {
				t.Errorf("session at the LNS: %+v", up)
			}
			ours := last[SessionUp](lac).Session
			if ours.Ref != 42 || ours.ID != up.Peer || ours.Peer != up.ID || ours.Tunnel != up.PeerTunnel || ours.PeerTunnel != up.Tunnel {
				t.Errorf("the ends disagree: LAC %+v, LNS %+v", ours, up)
			}
			lns.step(SendFrame{up.Tunnel, up.ID, []byte{0xc0, 0x21, 1, 1, 0, 4}})
			w.run(time.Second)
			if len(lac.frames) != 1 || fmt.Sprintf("%x", lac.frames[0].Frame) != "c02101010004" || lac.frames[0].Session != ours.ID {
				t.Errorf("frames at the LAC: %+v", lac.frames)
			}
			lns.step(CloseSession{Tunnel: up.Tunnel, Session: up.ID, Reason: "user-request", Message: "bye"})
			w.run(10 * time.Second)
			if d := last[SessionDown](lac); !d.ByPeer || d.Result != CallAdministrative || d.Session.Ref != 42 {
				t.Errorf("LAC: %+v", d)
			}
			if d := last[SessionDown](lns); d.ByPeer || d.Reason != "user-request" {
				t.Errorf("LNS: %+v", d)
			}
			if d := last[TunnelDown](lns); !d.ByPeer || d.Reason != ReasonPeerStop || d.Tunnel.State != StateEstablished {
				t.Errorf("LNS: %+v", d)
			}
			w.run(time.Minute)
			for _, n := range []*node{lns, lac} {
				n.consistent()
				if len(n.sockets) != 0 || len(n.e.tunnels) != 0 || len(n.e.timers) != 0 {
					t.Errorf("%s: left over: sockets %v, tunnels %v", n.addr, n.sockets, n.e.Tunnels())
				}
				if got := n.tally(); got != (tally{1, 1, 1, 1}) {
					t.Errorf("%s: events %+v", n.addr, got)
				}
				if records := n.e.Tunnels(); len(records) != 1 || records[0].State != StateIdle || records[0].Ended.IsZero() {
					t.Errorf("%s: records %+v", n.addr, records)
				}
			}
			w.run(10 * time.Minute)
			lns.step(Timer{})
			if records := lns.e.Tunnels(); len(records) != 0 || !lns.e.Deadline().IsZero() {
				t.Errorf("records outlive the destruct timeout: %+v", records)
			}
		})
	}
}

// Through 30 % loss in both directions, with packets repeated and out of order, every tunnel comes up or fails with a reason at both ends,
// every event happens once, and nothing is left afterwards.
func TestLossyNetwork(t *testing.T) {
	for _, c := range []struct {
		loss, dup float64
		delay     time.Duration
		conn      ConnID // first connection number, 0: clear text
		atLeast   int    // of 100 up within a minute
	}{
		{0, 0.3, 2 * time.Second, 0, 100},
		{0.2, 0.2, 500 * time.Millisecond, 0, 90},
		{0.2, 0.2, 500 * time.Millisecond, 1, 90},
		{0.3, 0.2, 1500 * time.Millisecond, 1, 75},
	} {
		t.Run(fmt.Sprintf("loss=%v,conn=%d", c.loss, c.conn), func(t *testing.T) {
			const clients = 100
			w := newWorld(t, 11)
			w.loss, w.dup, w.delay = c.loss, c.dup, c.delay
			lns := w.node("192.0.2.1", profiles("geheim"))
			conns := map[netip.Addr]ConnID{}
			lns.conn = func(a netip.Addr) ConnID { return conns[a] }
			var lacs []*node
			for i := range clients {
				lac := w.node(fmt.Sprintf("10.1.0.%d", i+1), Config{})
				if c.conn > 0 {
					conns[lac.addr] = c.conn + ConnID(i)
				}
				lacs = append(lacs, lac)
				w.after(time.Duration(i)*10*time.Millisecond, func() { lac.dial(uint64(i), "192.0.2.1", "geheim") })
			}
			w.run(time.Minute)
			up := 0
			for _, lac := range lacs {
				up += min(lac.tally().sessionUp, 1)
			}
			t.Logf("%d of %d up", up, clients)
			if up < c.atLeast {
				t.Errorf("only %d of %d are up", up, clients)
			}
			lns.consistent()
			for _, lac := range lacs {
				lac.step(CloseAll{})
			}
			w.run(5 * time.Minute)
			got := lns.tally()
			if got.tunnelDown < got.tunnelUp || got.sessionUp != got.sessionDown || got.sessionUp < up {
				t.Errorf("LNS events %+v, %d up", got, up)
			}
			if len(lns.e.tunnels) != 0 || len(lns.sockets) != 0 || lns.e.sessions != 0 || lns.e.halfOpen != 0 {
				t.Errorf("left over: %+v", lns.e.Tunnels())
			}
			for _, lac := range lacs {
				lac.consistent()
				got := lac.tally()
				if got.tunnelUp > 1 || got.tunnelDown != 1 || got.sessionUp > 1 || got.sessionDown != got.sessionUp || len(lac.sockets) != 0 {
					t.Errorf("%s: events %+v", lac.addr, got)
				}
				if d := last[TunnelDown](lac); d.Reason == "" {
					t.Errorf("%s: no reason: %+v", lac.addr, d)
				}
			}
			lns.consistent()
		})
	}
}

func TestThousandTunnels(t *testing.T) {
	const count = 1000
	w := newWorld(t, 3)
	w.loss, w.dup, w.delay = 0.2, 0.1, 300*time.Millisecond
	cfg := profiles("")
	cfg.MaxHalfOpen = count
	lns := w.node("192.0.2.1", cfg)
	lns.conn = func(a netip.Addr) ConnID { return ConnID(a.As4()[2])<<8 | ConnID(a.As4()[3]) }
	var lacs []*node
	for i := range count {
		lac := w.node(fmt.Sprintf("10.2.%d.%d", 1+i/200, 1+i%200), Config{})
		lacs = append(lacs, lac)
		w.after(time.Duration(i)*time.Millisecond, func() { lac.dial(uint64(i), "192.0.2.1", "") })
	}
	w.run(2 * time.Minute)
	lns.consistent()
	up := len(slices.DeleteFunc(lns.e.Sessions(), func(s SessionInfo) bool { return s.State != StateEstablished }))
	if up < count*95/100 {
		t.Errorf("%d of %d sessions are up", up, count)
	}
	// Every HELLO is answered: nothing ends for ten minutes.
	before := lns.tally().sessionDown
	w.loss = 0
	w.run(10 * time.Minute)
	if after := lns.tally().sessionDown; after > before+count/50 {
		t.Errorf("%d sessions ended with nobody closing them", after-before)
	}
	lns.step(CloseAll{Reason: ReasonShutdown})
	w.run(2 * time.Minute)
	lns.consistent()
	if len(lns.sockets) != 0 {
		t.Errorf("%d sockets left", len(lns.sockets))
	}
	for _, lac := range lacs {
		if got := lac.tally(); got.sessionUp != got.sessionDown || len(lac.sockets) != 0 {
			t.Errorf("%s: %+v, %d sockets", lac.addr, got, len(lac.sockets))
		}
	}
}

func TestHelloDeath(t *testing.T) {
	w, lns, lac := pair(t, "")
	lac.dial(1, "192.0.2.1", "")
	w.run(time.Second)
	started := w.now
	w.cut[lac.addr] = true
	w.run(30 * time.Second)
	if got := lns.tally(); got.tunnelDown != 0 {
		t.Fatal("ended before the HELLO was due")
	}
	w.run(3 * time.Minute)
	d := last[TunnelDown](lns)
	if d.Reason != ReasonNoAnswer || d.ByPeer {
		t.Errorf("%+v", d)
	}
	// 60 s to the HELLO, then 1, 2, 4, 8, 16 and 16 s without an answer.
	if took := d.Tunnel.Ended.Sub(started); took < 105*time.Second || took > 108*time.Second {
		t.Errorf("detected after %v, want about 107 s", took)
	}
	if got := lns.tally(); got.sessionDown != 1 || len(lns.sockets) != 0 {
		t.Errorf("%+v, sockets %v", got, lns.sockets)
	}
	lns.consistent()
}

func TestHelloOff(t *testing.T) {
	w := newWorld(t, 7)
	cfg := profiles("")
	cfg.Hello = -1
	lns := w.node("192.0.2.1", cfg)
	lac := w.node("198.51.100.7", Config{Hello: -1})
	lac.dial(1, "192.0.2.1", "")
	w.run(time.Second)
	sent := lns.sent + lac.sent
	w.run(time.Hour)
	if lns.sent+lac.sent != sent {
		t.Errorf("%d packets sent on an idle tunnel", lns.sent+lac.sent-sent)
	}
}

func TestIPsecLost(t *testing.T) {
	w, lns, lac := pair(t, "")
	lns.conn = func(netip.Addr) ConnID { return 9 }
	lac.dial(1, "192.0.2.1", "")
	w.run(time.Second)
	sent := lns.sent
	lns.step(ConnLost{Conn: 8})
	if len(lns.sockets) != 1 {
		t.Fatal("another connection's loss ended the tunnel")
	}
	lns.step(ConnLost{Conn: 9})
	if d := last[TunnelDown](lns); d.Reason != ReasonConnLost {
		t.Errorf("%+v", d)
	}
	if d := last[SessionDown](lns); d.Reason != ReasonConnLost {
		t.Errorf("%+v", d)
	}
	if len(lns.sockets) != 0 || lns.sent != sent {
		t.Errorf("sockets %v; %d packets sent without IPsec", lns.sockets, lns.sent-sent)
	}
	lns.consistent()
}

func TestIdleTimeout(t *testing.T) {
	w := newWorld(t, 7)
	lns := w.node("192.0.2.1", profiles(""))
	lac := w.node("198.51.100.7", Config{IdleTimeout: -1})
	lac.dial(1, "192.0.2.1", "")
	w.run(time.Second)
	// Keep the LAC from closing its tunnel when the call ends.
	lac.e.tunnels[last[TunnelUp](lac).Tunnel.ID].Initiated = false
	s := last[SessionUp](lns).Session
	lns.step(CloseSession{Tunnel: s.Tunnel, Session: s.ID})
	w.run(55 * time.Second)
	if got := lns.tally(); got.tunnelDown != 0 {
		t.Fatal("tunnel ended before its idle timeout")
	}
	w.run(10 * time.Second)
	if d := last[TunnelDown](lns); d.Reason != ReasonIdle {
		t.Errorf("%+v", d)
	}
	if d := last[TunnelDown](lac); d.Reason != ReasonPeerStop || d.Tunnel.LastResult != StopClear {
		t.Errorf("%+v", d)
	}
}

func TestTunnelPassword(t *testing.T) {
	for _, c := range []struct {
		name, lns, lac string
		lnsReason      Reason
		lacReason      Reason
	}{
		// The LAC checks our response first.
		{"different", "geheim", "anders", ReasonPeerStop, ReasonAuthentication},
		{"only the LNS has one", "geheim", "", ReasonPeerStop, ReasonAuthentication},
		{"only the LAC has one", "", "geheim", "", ReasonPeerStop},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, lns, lac := pair(t, c.lns)
			lac.dial(1, "192.0.2.1", c.lac)
			w.run(10 * time.Second)
			if d := last[TunnelDown](lac); d.Reason != c.lacReason || d.Tunnel.LastResult != StopNotAuthorized {
				t.Errorf("LAC: %+v", d)
			}
			if c.lnsReason != "" {
				if d := last[TunnelDown](lns); d.Reason != c.lnsReason || d.Tunnel.State != StateConnecting {
					t.Errorf("LNS: %+v", d)
				}
			} else if lns.refused != 1 {
				t.Errorf("%d refusals", lns.refused)
			}
			if got := lns.tally(); got.tunnelUp+got.sessionUp != 0 {
				t.Errorf("LNS: %+v", got)
			}
			lns.consistent()
		})
	}
}

// A LAC that knows no password and does not check ours either is found out by its SCCCN.
func TestWrongResponseInSCCCN(t *testing.T) {
	w, lns, lac := pair(t, "geheim")
	lac.dial(1, "192.0.2.1", "geheim")
	w.run(1500 * time.Microsecond) // SCCRQ has left
	for _, tu := range lac.e.tunnels {
		tu.Secret, tu.Challenge = []byte("anders"), nil
	}
	w.run(10 * time.Second)
	if d := last[TunnelDown](lns); d.Reason != ReasonAuthentication || d.Tunnel.State != StateConnecting {
		t.Errorf("LNS: %+v", d)
	}
	if d := last[TunnelDown](lac); d.Reason != ReasonPeerStop || d.Tunnel.LastResult != StopNotAuthorized {
		t.Errorf("LAC: %+v", d)
	}
	for _, r := range lns.reports {
		if r.Level != LevelDebug {
			t.Errorf("an unauthenticated peer caused %+v", r)
		}
	}
}
