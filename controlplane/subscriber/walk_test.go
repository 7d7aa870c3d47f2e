package subscriber

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// TestRandomWalk does anything in any order: calls come and go, frames are lost, subscribers
// negotiate anew as the same or as another user, dynamic ones among them, and AAA and kernel answer
// whenever they like and fail whenever they like. The bed's ledgers judge every effect; at the end everybody goes
// and nothing may be left.
func TestRandomWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBed(t)
		if rapid.Bool().Draw(t, "EAP") {
			b.e.cfg.Link.Auth = []pppd.AuthProtocol{pppd.AuthEAP, pppd.AuthMSCHAPv2}
		}
		b.e.cfg.LockoutTest = rapid.Bool().Draw(t, "lockout test")
		users := rapid.SampledFrom([]string{testUser, testUser, otherUser, "mallory"})
		failures := rapid.SampledFrom([]Reason{"", "", "", ReasonKernel})
		dynamicConns := rapid.Uint32Range(11, 14)
		local := b.method
		serial := uint16(0)
		// some picks one of the calls that live.
		some := func(t *rapid.T) CallKey {
			var calls []CallKey
			for _, r := range b.e.Records() {
				if l := b.calls[r.ID]; !l.callGone && l.conn == 0 {
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
			"dynamicUp": func(t *rapid.T) {
				conn := dynamicConns.Draw(t, "conn")
				profile := rapid.SampledFrom([]string{"staff", "staff", "few", "boxes", "unknown"}).Draw(t, "profile")
				if l, id := b.on(conn); l != nil {
					profile = b.e.byID[id].Profile // a rekey does not change it
				}
				b.dynamicUp(conn, profile)
			},
			"dynamicConnUp": func(t *rapid.T) { b.dynamicConnUp(dynamicConns.Draw(t, "conn")) },
			"dynamicDown":   func(t *rapid.T) { b.dynamicDown(dynamicConns.Draw(t, "conn"), "peer-dead") },
			"answer": func(t *rapid.T) {
				wait(t, len(b.asks))
				b.answer(users.Draw(t, "user"), rapid.SampledFrom([]string{testPassword, testPassword, "wrong"}).Draw(t, "password"))
			},
			"unasked": func(t *rapid.T) {
				// Answers of conversations that are over; those that are not wait for answer.
				if l, _ := b.on(dynamicConns.Draw(t, "conn")); l != nil && !l.asking {
					b.step(UserAnswered{Conn: l.conn, User: otherUser, Password: []byte(testPassword)})
				}
			},
			"refuse":       func(t *rapid.T) { wait(t, len(b.asks)); b.reply(UserAnswered{Refused: true}) },
			"accessOpened": func(t *rapid.T) { wait(t, len(b.accesses)); b.accessOpened(failures.Draw(t, "failure")) },
			"accessClosed": func(t *rapid.T) { wait(t, len(b.accessCloses)); b.accessClosed() },
			"left":         func(t *rapid.T) { wait(t, len(b.leaving)); b.left() },
			"read":         func(t *rapid.T) { wait(t, len(b.reads)); b.read(rapid.Uint64Range(0, 2).Draw(t, "packets")) },
			"journal":      func(t *rapid.T) { b.slow = rapid.Bool().Draw(t, "slow") },
			"accounted": func(t *rapid.T) {
				wait(t, len(b.accounts))
				b.accounted(rapid.SampledFrom([]Reason{"", "", "", ReasonNoAccounting}).Draw(t, "failure"))
			},
			"trafficSet": func(t *rapid.T) { wait(t, len(b.traffics)); b.trafficSet(failures.Draw(t, "failure")) },
			"change": func(t *rapid.T) {
				id := ID(rapid.Uint64Range(1, uint64(b.e.nextID)).Draw(t, "session"))
				minutes := func(label string) *time.Duration {
					return rapid.Ptr(rapid.Map(rapid.IntRange(-1, 5), func(n int) time.Duration { return time.Duration(n) * time.Minute }), true).Draw(t, label)
				}
				b.change(id, aaa.Change{
					SessionTimeout: minutes("session timeout"), IdleTimeout: minutes("idle"), Interim: minutes("interim"),
					Traffic: rapid.Ptr(rapid.Map(rapid.Uint64Range(0, 2), func(n uint64) aaa.Traffic { return aaa.Traffic{In: n} }), true).Draw(t, "traffic"),
				})
			},
			"grants": func(t *rapid.T) {
				b.grants = rapid.SampledFrom([]aaa.Grants{{}, {}, {Pool: "other", Interim: time.Minute, Traffic: aaa.Traffic{Out: 9}}, {Terminating: "elsewhere", Gateway: testAddress}, {Terminating: "elsewhere"}}).Draw(t, "grants")
			},
			"method": func(t *rapid.T) {
				b.method = rapid.SampledFrom([]aaa.Method{local, local, tokens{}, tokens{endless: true}, eapServer{}, eapServer{notifications: 2}}).Draw(t, "method")
				b.eap = rapid.Bool().Draw(t, "peers speak EAP")
			},
			"tunnels": func(t *rapid.T) {
				b.tunnels = rapid.SampledFrom([][]aaa.Tunnel{nil, {lnsA}, {lnsB, lnsA}}).Draw(t, "tunnels")
				b.e.cfg.Switching = rapid.SampledFrom([]bool{true, true, false}).Draw(t, "switching")
			},
			"farUp":        func(t *rapid.T) { wait(t, len(b.dials)); b.farUp() },
			"farFailed":    func(t *rapid.T) { wait(t, len(b.dials)); b.farFailed(rapid.Bool().Draw(t, "silent")) },
			"bridged":      func(t *rapid.T) { wait(t, len(b.bridges)); b.bridged(failures.Draw(t, "failure")) },
			"bridgeClosed": func(t *rapid.T) { wait(t, len(b.unbridges)); b.bridgeClosed() },
			"farDown": func(t *rapid.T) {
				if l := b.ofCall(some(t)); l != nil {
					for id, other := range b.calls {
						if other == l {
							b.farDown(id, pppd.DisconnectCause{})
						}
					}
				}
			},
			"noise of an LNS": func(t *rapid.T) {
				if l := b.ofCall(some(t)); l != nil && l.farUp {
					b.step(Frame{Call: l.far, Data: rapid.SliceOfN(rapid.Byte(), 0, 24).Draw(t, "data")})
				}
			},
			"connSpent": func(t *rapid.T) {
				conn := rapid.Uint32Range(1, 3).Draw(t, "conn")
				b.step(ConnSpent{Conn: conn, Reason: "single-shot"})
				if b.conns[conn] {
					b.connDown(conn, "single-shot-over")
				}
			},
			"reload": func(t *rapid.T) {
				cfg := b.e.cfg
				cfg.Tunnels = maps.Clone(cfg.Tunnels)
				switch name := rapid.SampledFrom([]string{"staff", "few", "boxes"}).Draw(t, "profile"); {
				case rapid.Bool().Draw(t, "removed"):
					delete(cfg.Tunnels, name)
				default:
					p := testConfig().Tunnels[name]
					p.Revision = rapid.SampledFrom([]string{"", "2"}).Draw(t, "revision")
					cfg.Tunnels[name] = p
				}
				b.reload(cfg)
			},
			"timeouts": func(t *rapid.T) {
				for n := range b.timeouts {
					b.timeouts[n] = time.Duration(rapid.IntRange(0, 3).Draw(t, "minutes")) * time.Minute
				}
			},
			"answerAll": func(*rapid.T) { b.answerAll() },
			"restart":   func(*rapid.T) { b.restart() },
			"pass":      func(t *rapid.T) { b.pass(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second) },
			"": func(t *rapid.T) {
				live, few := 0, 0
				for id, l := range b.calls {
					if l.ended == nil {
						live++
					}
					if s := b.e.byID[id]; s != nil && s.Profile == "few" && s.leased && !s.over {
						few++
					}
				}
				if few > 2 || b.e.admitted["few"] != few {
					t.Fatalf("%d subscribers of a tunnel profile that takes 2; counted %d", few, b.e.admitted["few"])
				}
				if len(b.e.silent) > 2 {
					t.Fatalf("%d of 2 LNSs are silent", len(b.e.silent))
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
		for conn := range uint32(20) {
			b.dynamicDown(conn, "over")
		}
		b.answerAll()
		b.assertEmpty()
	})
}
