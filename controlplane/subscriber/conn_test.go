package subscriber

import (
	"testing"
	"time"
)

// TestSilentConnection: IPsec without L2TP is reported and, after the destruct period, closed.
func TestSilentConnection(t *testing.T) {
	b := newBed(t)
	b.connUp(1)
	b.pass(silentConn - time.Second)
	b.assertLog("")
	b.pass(2 * time.Second)
	b.assertLog("report: no-l2tp-in-ipsec")
	b.pass(10*time.Minute - 2*time.Second)
	b.assertLog("")
	b.pass(time.Second)
	b.assertLog("close connection 1: no-l2tp-in-ipsec")
	b.pass(time.Hour)
	b.assertLog("") // once
	b.connDown(1, "closed")
	b.assertLog("drop tunnels of 1")
	b.assertEmpty()
}

// TestDestruct: a connection outlives its last tunnel by the destruct period (K12), unless
// another tunnel comes.
func TestDestruct(t *testing.T) {
	b := newBed(t)
	b.e.cfg.DestructTimeout = time.Minute
	b.connUp(1)
	b.step(TunnelUp{Tunnel: 1, Conn: 1})
	b.step(TunnelUp{Tunnel: 2, Conn: 1})
	b.pass(time.Hour)
	b.step(TunnelDown{Tunnel: 3, Conn: 1}) // never came up
	b.step(TunnelDown{Tunnel: 1, Conn: 1})
	b.pass(time.Hour)
	b.assertLog("")
	b.step(TunnelDown{Tunnel: 2, Conn: 1})
	b.pass(59 * time.Second)
	b.step(TunnelUp{Tunnel: 4, Conn: 1})
	b.pass(time.Hour)
	b.assertLog("")
	b.step(TunnelDown{Tunnel: 4, Conn: 1})
	b.pass(59 * time.Second)
	b.assertLog("")
	b.pass(2 * time.Second)
	b.assertLog("close connection 1: l2tp-gone")
	b.connDown(1, "closed")
	b.pass(time.Hour)
	b.assertLog("drop tunnels of 1")
	b.assertEmpty()
}

// TestTunnelBeforeReport: the client may be quicker than the report that its SAs are in the kernel. It is not one whose L2TP
// never came, which would be warned of and closed in the end.
func TestTunnelBeforeReport(t *testing.T) {
	b := newBed(t)
	b.e.cfg.DestructTimeout = time.Minute
	b.step(TunnelUp{Tunnel: 1, Conn: 1})
	b.connUp(1)
	b.pass(time.Hour)
	b.assertLog("")
	b.step(TunnelDown{Tunnel: 1, Conn: 1})
	b.pass(61 * time.Second)
	b.assertLog("close connection 1: l2tp-gone")
	b.connDown(1, "closed")
	b.assertLog("drop tunnels of 1")
	b.step(TunnelUp{Tunnel: 2, Conn: 2}) // IKE gave up meanwhile, and never reports it
	b.step(TunnelDown{Tunnel: 2, Conn: 2})
	b.pass(time.Hour)
	b.assertLog("")
	b.assertEmpty()
}

// TestConnectionDown: when the SAs have gone every session in them ends with IKE's reason, and
// no other does (K12).
func TestConnectionDown(t *testing.T) {
	b := newBed(t)
	other := CallKey{2, 1}
	second := CallKey{1, 2}
	for conn := range uint32(2) {
		b.connUp(conn + 1)
		b.step(TunnelUp{Tunnel: uint16(conn + 1), Conn: conn + 1})
	}
	var ids []ID
	for _, call := range []CallKey{first, second, other} {
		ids = append(ids, b.callUp(call, uint32(call.Tunnel)))
		b.speak(call, testUser)
		b.answerAll()
	}
	b.connUp(1) // re-keyed: the same connection, reported again
	b.connDown(1, "dpd-timeout")
	b.connDown(1, "dpd-timeout") // a second report changes nothing
	b.answerAll()
	for _, id := range ids[:2] {
		if r := b.calls[id].ended; r == nil || r.Reason != "dpd-timeout" {
			t.Errorf("session %d: %+v, want ended by dpd-timeout", id, r)
		}
	}
	if r := b.e.Records(); len(r) != 1 || r[0].ID != ids[2] || r[0].State != StateUp {
		t.Errorf("left: %+v, want session %d up", r, ids[2])
	}
	b.connDown(2, "over")
	b.answerAll()
	b.assertEmpty()
}

// TestTimersBounded: whatever peers send, nobody has more than one timer.
func TestTimersBounded(t *testing.T) {
	b := newBed(t)
	b.e.cfg.Link.EchoInterval = time.Hour
	b.connUp(1)
	b.callUp(first, 1)
	p := b.speak(first, testUser)
	b.answerAll()
	most := 0
	for n := range 3000 {
		b.step(TunnelUp{Tunnel: 1, Conn: 1})
		b.step(TunnelDown{Tunnel: 1, Conn: 1})
		// IPCP begins anew: a Configure-Request in state Opened, whose restart timer is
		// far earlier than the echo.
		b.step(Frame{Call: first, Data: []byte{0x80, 0x21, 1, byte(n), 0, 10, 3, 6, 10, 1, 0, 2}})
		b.pass(time.Duration(n%4) * time.Second)
		b.answerAll()
		most = max(most, len(b.e.timers.heap))
	}
	if most > 2 {
		t.Errorf("%d timers for one session and one connection", most)
	}
	if p.down != nil {
		t.Fatalf("the link ended meanwhile: %+v", *p.down)
	}
	b.callDown(first, "over")
	b.connDown(1, "over")
	b.answerAll()
	b.assertEmpty()
	if len(b.e.timers.heap) != 0 {
		t.Errorf("%d timers left", len(b.e.timers.heap))
	}
}

// TestReconfigure: new sessions get the new profiles, IDs go on, sessions that live keep theirs.
func TestReconfigure(t *testing.T) {
	b := newBed(t)
	old := b.callUp(first, 0)
	b.speak(first, testUser)
	cfg := testConfig()
	p := cfg.Profiles["users"]
	p.MTU = 1200
	cfg.Profiles["users"] = p
	b.step(Reconfigure{Config: cfg})
	b.answerAll()
	id := b.callUp(CallKey{1, 2}, 0)
	b.speak(CallKey{1, 2}, testUser)
	b.answerAll()
	r := b.e.Records()
	if len(r) != 2 || r[0].ID != old || r[1].ID != id || id != old+1 || r[0].MTU != 1400 || r[1].MTU != 1200 {
		t.Errorf("records %+v, want MTU 1400 and 1200", r)
	}
}

// TestInnerMTU computes the outer packet's size from the inner one's, as RFC 4303 section 2
// has it, and checks that the answer fills the path and no more.
func TestInnerMTU(t *testing.T) {
	outer := func(inner int, esp *ESP, sequencing bool) int {
		n := inner + 4 /* FF 03 and protocol */ + 6 /* L2TP */ + 8 /* UDP */
		if sequencing {
			n += 4
		}
		if esp != nil {
			n += 2 // pad length, next header
			if r := n % esp.Align; r != 0 {
				n += esp.Align - r
			}
			n += 8 + esp.IV + esp.ICV
			if esp.Encap {
				n += 8
			}
		}
		return n + 20
	}
	esps := []*ESP{nil}
	for _, encap := range []bool{false, true} {
		for _, e := range []ESP{{Align: 16, IV: 16, ICV: 12}, {Align: 16, IV: 16, ICV: 16}, {Align: 8, IV: 8, ICV: 12}, {Align: 4, IV: 8, ICV: 16}, {Align: 16, IV: 16, ICV: 32}} {
			e.Encap = encap
			esps = append(esps, &e)
		}
	}
	for path := 800; path <= 1500; path++ {
		for _, esp := range esps {
			for _, sequencing := range []bool{false, true} {
				got := innerMTU(path, esp, sequencing)
				if outer(got, esp, sequencing) > path || outer(got+1, esp, sequencing) <= path {
					t.Fatalf("path %d, ESP %+v, sequencing %t: inner MTU %d makes packets of %d, one byte more %d",
						path, esp, sequencing, got, outer(got, esp, sequencing), outer(got+1, esp, sequencing))
				}
			}
		}
	}
	if got := innerMTU(500, nil, false); got != minimumMRU {
		t.Errorf("a path of 500 bytes gives %d, want IPv4's minimum %d", got, minimumMRU)
	}
}

// TestTimeoutTable walks through the timeout table of requirements.md 1.8 after the last session has gone, for what concerns
// IPsec: with a standard tunnel the connection is told to end when the destruct period ends, with a single-shot one when it
// begins. The L2TP engine's idle period is over when it reports TunnelDown, which for a single-shot tunnel is at once.
func TestTimeoutTable(t *testing.T) {
	const idle, destruct = time.Minute, 10 * time.Minute
	for name, tt := range map[string]struct {
		singleShot, cameUp bool
		closed             time.Duration // after the last session, or the failure
		reason             Reason
	}{
		"standard":                   {false, true, idle + destruct, ReasonTunnelGone},
		"single-shot":                {true, true, 0, ReasonSpent},
		"single-shot, never came up": {true, false, 0, ReasonSpent},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.connUp(1)
			if tt.cameUp {
				b.step(TunnelUp{Tunnel: 1, Conn: 1})
				b.callUp(first, 1)
				b.speak(first, testUser)
				b.answerAll()
				b.callDown(first, "l2tp-peer")
				b.answerAll()
			}
			b.log = nil
			if !tt.singleShot {
				b.pass(idle)
			}
			b.step(TunnelDown{Tunnel: 1, Conn: 1})
			if tt.singleShot {
				b.step(ConnSpent{Conn: 1, Reason: "single-shot", Text: "the one tunnel is over"})
				b.step(ConnSpent{Conn: 1})
			}
			if !tt.singleShot {
				b.pass(tt.closed - idle - time.Second)
				b.assertLog("")
				b.pass(time.Second)
			}
			b.assertLog("close connection 1: " + string(tt.reason))
			b.restart()
			b.step(TunnelDown{Tunnel: 1, Conn: 1})
			b.pass(time.Hour)
			b.assertLog("") // once
			b.connDown(1, string(tt.reason))
			b.assertLog("drop tunnels of 1")
			b.assertEmpty()
		})
	}
}

// TestSpentBeforeUp: a tunnel can fail before IKE has reported its connection, which is ended all the same (H5).
func TestSpentBeforeUp(t *testing.T) {
	b := newBed(t)
	b.step(ConnSpent{Conn: 5, Reason: "single-shot"})
	b.assertLog("close connection 5: single-shot-over")
}
