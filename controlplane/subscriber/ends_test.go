package subscriber

import (
	"fmt"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// stages bring a session to each point of its life at which something can happen to it.
var stages = []struct {
	name  string
	reach func(b *bed, id ID)
}{
	{"before LCP", func(*bed, ID) {}},
	{"deciding", func(b *bed, _ ID) { b.speak(first, testUser) }},
	{"deciding, LCP renegotiated", func(b *bed, _ ID) { b.speak(first, testUser); b.speak(first, testUser) }},
	{"deciding, another user since", func(b *bed, _ ID) { b.speak(first, testUser); b.speak(first, otherUser) }},
	{"opening", func(b *bed, _ ID) { b.speak(first, testUser); b.decide("") }},
	{"opening, LCP renegotiated", func(b *bed, _ ID) { b.speak(first, testUser); b.decide(""); b.speak(first, testUser) }},
	{"network", func(b *bed, _ ID) {
		b.speak(first, testUser)
		b.decide("")
		b.deaf = true
		b.opened("")
		b.deaf = false
	}},
	{"activating", func(b *bed, _ ID) { b.speak(first, testUser); b.decide(""); b.opened("") }},
	{"up", func(b *bed, _ ID) { b.speak(first, testUser); b.answerAll() }},
	{"up, deciding again", func(b *bed, _ ID) { b.speak(first, testUser); b.answerAll(); b.speak(first, testUser) }},
	{"up, activating again", func(b *bed, _ ID) {
		b.speak(first, testUser)
		b.answerAll()
		b.speak(first, testUser)
		b.decide("")
	}},
	{"refused, peer does not answer", func(b *bed, _ ID) { b.speak(first, testUser); b.deaf = true; b.decide("wrong") }},
	{"terminating", func(b *bed, id ID) {
		b.speak(first, testUser)
		b.answerAll()
		b.deaf = true
		b.step(Disconnect{IDs: []ID{id}, Reason: ReasonAdmin})
		b.deaf = false
	}},
	{"LNS called", func(b *bed, _ ID) { b.tunnels = []aaa.Tunnel{lnsA, lnsB}; b.speak(first, testUser); b.decide("") }},
	{"second LNS called", func(b *bed, _ ID) {
		b.tunnels = []aaa.Tunnel{lnsA, lnsB}
		b.speak(first, testUser)
		b.decide("")
		b.farFailed(false)
	}},
	{"accounting, LNS has taken the call", func(b *bed, _ ID) {
		b.tunnels, b.slow = []aaa.Tunnel{lnsA}, true
		b.speak(first, testUser)
		b.decide("")
		b.farUp()
	}},
	{"bridging", func(b *bed, _ ID) {
		b.tunnels = []aaa.Tunnel{lnsA}
		b.speak(first, testUser)
		b.decide("")
		b.farUp()
	}},
	{"bridged", func(b *bed, _ ID) { b.tunnels = []aaa.Tunnel{lnsA}; b.speak(first, testUser); b.answerAll() }},
	{"bridge closing", func(b *bed, id ID) {
		b.tunnels = []aaa.Tunnel{lnsA}
		b.speak(first, testUser)
		b.answerAll()
		b.farDown(id, pppd.DisconnectCause{})
	}},
	{"kernel closing", func(b *bed, _ ID) { b.speak(first, testUser); b.answerAll(); b.callDown(first, "early") }},
}

// blows end a session from each side.
var blows = []struct {
	name   string
	strike func(b *bed, id ID)
	reason Reason // unless something came first
}{
	{"call lost", func(b *bed, _ ID) { b.callDown(first, "l2tp-peer") }, "l2tp-peer"},
	{"IPsec lost", func(b *bed, _ ID) { b.connDown(1, "dpd-timeout") }, "dpd-timeout"},
	{"disconnected", func(b *bed, id ID) { b.step(Disconnect{IDs: []ID{id}, Reason: ReasonAdmin}) }, ReasonAdmin},
	{"peer hangs up", func(b *bed, _ ID) {
		if p := b.peers[first]; p != nil {
			b.peerStep(p, pppd.Close{Reason: pppd.ReasonUserRequest})
		} else {
			b.callDown(first, string(pppd.ReasonUserRequest))
		}
	}, Reason(pppd.ReasonUserRequest)},
	{"peer falls silent", func(b *bed, _ ID) { b.deaf, b.mute = true, true }, ""},
	{"AAA refuses", func(b *bed, _ ID) {
		for len(b.decides) > 0 {
			b.decide("aaa-wrong-password")
		}
		b.deaf, b.mute = true, true
	}, ""},
	{"LNS hangs up", func(b *bed, id ID) { b.farDown(id, pppd.DisconnectCause{}); b.deaf, b.mute = true, true }, ""},
	{"LNS fails", func(b *bed, _ ID) {
		for len(b.dials) > 0 {
			b.farFailed(true)
		}
		b.deaf, b.mute = true, true
	}, ""},
	{"tunnel spent", func(b *bed, _ ID) {
		b.callDown(first, "single-shot")
		b.step(ConnSpent{Conn: 1, Reason: "single-shot"})
		b.connDown(1, "single-shot-over")
	}, "single-shot"},
	{"kernel fails", func(b *bed, _ ID) {
		for len(b.opens) > 0 {
			b.opened(ReasonKernel)
		}
		for len(b.activates) > 0 {
			b.activated(ReasonKernel)
		}
		for len(b.bridges) > 0 {
			b.bridged(ReasonKernel)
		}
		b.deaf, b.mute = true, true
	}, ""},
}

// TestEnds strikes in every stage, lets the answers that are outstanding come at different
// times, and checks by the bed's ledgers that all is undone, once, and reported, once.
func TestEnds(t *testing.T) {
	for _, stage := range stages {
		for _, blow := range blows {
			for _, answers := range []string{"at once", "late", "very late"} {
				t.Run(fmt.Sprintf("%s/%s/answers %s", stage.name, blow.name, answers), func(t *testing.T) {
					b := newBed(t)
					b.connUp(1)
					b.step(TunnelUp{Tunnel: 1, Conn: 1})
					id := b.callUp(first, 1)
					stage.reach(b, id)
					blow.strike(b, id)
					struck := b.e.byID[id]
					var reason Reason
					if struck != nil {
						reason = struck.Reason
					} else if r := b.calls[id].ended; r != nil {
						reason = r.Reason
					}
					switch answers {
					case "at once":
						b.answerAll()
						b.pass(10 * time.Minute)
					case "late":
						b.pass(5 * time.Second)
						b.answerAll()
						b.pass(10 * time.Minute)
					case "very late":
						b.pass(10 * time.Minute)
					}
					b.answerAll()
					b.pass(10 * time.Minute)
					b.answerAll()
					if len(b.conns) > 0 {
						b.connDown(1, "over")
					}
					b.assertEmpty()
					end := b.calls[id].ended
					if end == nil {
						return
					}
					if reason != "" && end.Reason != reason {
						t.Errorf("ended with %s, but the first reason was %s", end.Reason, reason)
					}
					if blow.reason != "" && reason == "" && end.Reason != blow.reason {
						t.Errorf("ended with %s, want %s", end.Reason, blow.reason)
					}
				})
			}
		}
	}
}

// TestHangUp: a client that terminates PPP and closes call and IPsec in the same breath has
// hung up; it is not the tunnel's or IPsec's end that ended the session.
func TestHangUp(t *testing.T) {
	for name, follow := range map[string]func(b *bed){
		"call":  func(b *bed) { b.callDown(first, "l2tp-peer") },
		"IPsec": func(b *bed) { b.connDown(1, "peer-deleted") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.connUp(1)
			id := b.callUp(first, 1)
			p := b.speak(first, testUser)
			b.answerAll()
			b.peerStep(p, pppd.Close{Reason: pppd.ReasonUserRequest})
			follow(b)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Reason != Reason(pppd.ReasonUserRequest) || !r.ByPeer {
				t.Errorf("ended %+v, want %s by the peer", r, pppd.ReasonUserRequest)
			}
		})
	}
}

// TestVoidAnswers: after a renegotiation of LCP the answer about the earlier attempt decides
// nothing, whatever it is.
func TestVoidAnswers(t *testing.T) {
	t.Run("refusal of the first, accept of the second", func(t *testing.T) {
		b := newBed(t)
		id := b.callUp(first, 0)
		b.speak(first, testUser)
		b.speak(first, otherUser)
		b.decide("aaa-wrong-password")
		b.answerAll()
		b.assertLog(`
			decide alice mschapv2
			decide bob mschapv2
			open in inside mtu 1400
			activate 10.1.0.2 mtu 1400
			started bob`)
		if r := b.e.Records(); len(r) != 1 || r[0].Reason != "" {
			t.Errorf("records %+v", r)
		}
		b.callDown(first, "l2tp-peer")
		b.answerAll()
		if r := b.calls[id].ended; r == nil || r.Reason != "l2tp-peer" || b.e.Counters()["aaa-wrong-password"] != 0 {
			t.Errorf("ended %+v, counted %v", r, b.e.Counters())
		}
	})
	t.Run("accept of the first, other user second", func(t *testing.T) {
		b := newBed(t)
		b.callUp(first, 0)
		b.speak(first, testUser)
		b.speak(first, otherUser)
		b.answerAll()
		b.assertLog(`
			decide alice mschapv2
			release 10.1.0.2
			decide bob mschapv2
			open in inside mtu 1400
			activate 10.1.0.2 mtu 1400
			started bob`)
	})
	t.Run("other user when the first is up", func(t *testing.T) {
		b := newBed(t)
		id := b.callUp(first, 0)
		b.speak(first, testUser)
		b.answerAll()
		b.speak(first, otherUser)
		b.pass(time.Minute)
		b.answerAll()
		b.assertLog(`
			decide alice mschapv2
			open in inside mtu 1400
			activate 10.1.0.2 mtu 1400
			started alice
			deactivate
			hang up: user-changed
			close
			release 10.1.0.2
			ended: user-changed`)
		if r := b.calls[id].ended; r.User != testUser {
			t.Errorf("the session of %s ended as %s's", testUser, r.User)
		}
	})
	t.Run("kernel fails for an attempt that is void", func(t *testing.T) {
		b := newBed(t)
		b.callUp(first, 0)
		b.speak(first, testUser)
		b.decide("")
		b.speak(first, testUser)
		b.opened("no-module")
		b.pass(time.Minute)
		b.assertLog(`
			decide alice mschapv2
			open in inside mtu 1400
			hang up: no-module
			release 10.1.0.2
			ended: no-module`)
		b.assertEmpty()
	})
	t.Run("answers nobody asked for", func(t *testing.T) {
		b := newBed(t)
		id := b.callUp(first, 0)
		b.step(Decided{ID: id})
		b.step(Decided{ID: id + 1, Address: testAddress})
		b.step(SessionOpened{ID: id})
		b.step(SessionActivated{ID: id})
		b.step(SessionActivated{ID: id, Reason: ReasonKernel})
		b.step(SessionClosed{ID: id})
		b.step(CallDown{Call: CallKey{9, 9}})
		b.step(Frame{Call: CallKey{9, 9}, Data: []byte{0xc0, 0x21, 1}})
		b.step(Frame{Call: first, Data: []byte{0xc0}})
		b.step(Frame{Call: first})
		b.assertLog("")
		if s := b.state(t); s != StateLink {
			t.Errorf("state %v, want link", s)
		}
	})
}
