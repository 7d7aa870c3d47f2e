package subscriber

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// TestRandomWalk does anything in any order: calls come and go, frames are lost, subscribers
// negotiate anew as the same or as another user, and AAA and kernel answer whenever they like
// and fail whenever they like. The bed's ledgers judge every effect; at the end everybody goes
// and nothing may be left.
func TestRandomWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBed(t)
		users := rapid.SampledFrom([]string{testUser, testUser, otherUser, "mallory"})
		failures := rapid.SampledFrom([]Reason{"", "", "", ReasonKernel})
		serial := uint16(0)
		// some picks one of the calls that live.
		some := func(t *rapid.T) CallKey {
			var calls []CallKey
			for _, r := range b.e.Records() {
				if !b.calls[r.ID].callGone {
					calls = append(calls, r.Call)
				}
			}
			if len(calls) == 0 {
				t.Skip("no call")
			}
			return rapid.SampledFrom(calls).Draw(t, "call")
		}
		// wait skips an action that has nothing to act on.
		wait := func(t *rapid.T, n int) {
			if n == 0 {
				t.Skip("nothing waits")
			}
		}
		b.connUp(1)
		actions := map[string]func(*rapid.T){
			"connUp": func(t *rapid.T) { b.connUp(rapid.Uint32Range(1, 3).Draw(t, "conn")) },
			"connDown": func(t *rapid.T) {
				b.connDown(rapid.Uint32Range(1, 3).Draw(t, "conn"), "dpd-timeout")
			},
			"callUp": func(t *rapid.T) {
				conn := rapid.Uint32Range(0, 3).Draw(t, "conn")
				if conn != 0 && !b.conns[conn] {
					t.Skip("no connection")
				}
				serial++
				call := CallKey{Tunnel: uint16(conn), Session: serial}
				b.step(TunnelUp{Tunnel: call.Tunnel, Conn: conn})
				b.callUp(call, conn)
				if rapid.Bool().Draw(t, "speaks") {
					b.speak(call, users.Draw(t, "user"))
				}
			},
			"callDown":  func(t *rapid.T) { b.callDown(some(t), "l2tp-peer") },
			"speak":     func(t *rapid.T) { b.speak(some(t), users.Draw(t, "user")) },
			"vanish":    func(t *rapid.T) { delete(b.peers, some(t)) },
			"direction": func(t *rapid.T) { b.deaf, b.mute = rapid.Bool().Draw(t, "deaf"), rapid.Bool().Draw(t, "mute") },
			"hangUp": func(t *rapid.T) {
				if p := b.peers[some(t)]; p != nil {
					b.peerStep(p, pppd.Close{Reason: pppd.ReasonUserRequest})
				}
			},
			"noise": func(t *rapid.T) {
				b.step(Frame{Call: some(t), Data: rapid.SliceOfN(rapid.Byte(), 0, 24).Draw(t, "data")})
			},
			"disconnect": func(t *rapid.T) {
				for _, r := range b.e.Records() {
					if rapid.Bool().Draw(t, "him") {
						b.step(Disconnect{IDs: []ID{r.ID}, Reason: ReasonAdmin})
					}
				}
			},
			"decide": func(t *rapid.T) {
				wait(t, len(b.decides))
				b.decide(rapid.SampledFrom([]aaa.Reason{"", "", "", aaa.ReasonPoolEmpty}).Draw(t, "answer"))
			},
			"opened":    func(t *rapid.T) { wait(t, len(b.opens)); b.opened(failures.Draw(t, "failure")) },
			"activated": func(t *rapid.T) { wait(t, len(b.activates)); b.activated(failures.Draw(t, "failure")) },
			"closed":    func(t *rapid.T) { wait(t, len(b.closes)); b.closed() },
			"answerAll": func(*rapid.T) { b.answerAll() },
			"restart":   func(*rapid.T) { b.restart() },
			"pass":      func(t *rapid.T) { b.pass(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second) },
			"": func(t *rapid.T) {
				live := 0
				for _, l := range b.calls {
					if l.ended == nil {
						live++
					}
				}
				if b.e.Len() != live || len(b.e.timers.heap) > live+len(b.conns) {
					t.Fatalf("the engine counts %d sessions and %d timers, %d live", b.e.Len(), len(b.e.timers.heap), live)
				}
			},
		}
		for range 4 { // longer walks than rapid takes on its own
			t.Repeat(actions)
		}
		for _, r := range b.e.Records() {
			b.step(Disconnect{IDs: []ID{r.ID}, Reason: ReasonShutdown})
		}
		for range 3 {
			b.pass(2 * time.Minute)
			b.answerAll()
		}
		for conn := range uint32(4) {
			b.connDown(conn, "over")
		}
		b.assertEmpty()
	})
}
