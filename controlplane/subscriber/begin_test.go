package subscriber

import (
	"testing"
	"time"
)

// frames counts what was sent to the peer.
func frames(effects []Effect) (n int) {
	for _, f := range effects {
		if _, ok := f.(SendFrame); ok {
			n++
		}
	}
	return n
}

// TestPeerFirst: PPP begins with the peer's first frame, or after a second of silence; mtpd and
// xl2tpd start pppd only when the call is up, and would lose what we send before.
func TestPeerFirst(t *testing.T) {
	call := CallKey{Tunnel: 1, Session: 1}
	up := CallUp{Call: call, Profile: "any", HostProfile: "default"}
	now := time.Unix(1_800_000_000, 0)
	begin := func() *Engine {
		b := newBed(t)
		if n := frames(b.e.Step(now, up)); n != 0 {
			t.Fatalf("%d frames sent before the peer can hear them", n)
		}
		return b.e
	}
	t.Run("silence", func(t *testing.T) {
		e := begin()
		if d := e.Deadline(); !d.Equal(now.Add(peerFirst)) {
			t.Fatalf("deadline %v after the call, want %v", d.Sub(now), peerFirst)
		}
		if n := frames(e.Step(now.Add(peerFirst-1), Timer{})); n != 0 {
			t.Errorf("%d frames sent too early", n)
		}
		if n := frames(e.Step(now.Add(peerFirst), Timer{})); n != 1 {
			t.Errorf("%d frames after a second of silence, want our Configure-Request", n)
		}
	})
	t.Run("first frame", func(t *testing.T) {
		e := begin()
		// An LCP Configure-Request without options: ours, and the answer.
		if n := frames(e.Step(now.Add(time.Millisecond), Frame{Call: call, Data: []byte{0xc0, 0x21, 1, 1, 0, 4}})); n != 2 {
			t.Errorf("%d frames in answer to the peer's first, want 2", n)
		}
	})
	for name, ev := range map[string]Event{
		"call lost":    CallDown{Call: call, Reason: "peer-closed-session", ByPeer: true},
		"disconnected": Disconnect{IDs: []ID{testConfig().FirstID}, Reason: ReasonAdmin},
	} {
		t.Run(name, func(t *testing.T) {
			e := begin()
			ended, closed := 0, 0
			for _, f := range e.Step(now, ev) {
				switch f := f.(type) {
				case Ended:
					ended++
					if f.Record.Reason == "" {
						t.Error("no reason")
					}
				case CloseCall:
					closed++
				}
			}
			if _, lost := ev.(CallDown); ended != 1 || (closed == 1) == lost || e.Len() != 0 || !e.Deadline().IsZero() {
				t.Errorf("%d ends, %d calls closed, %d sessions left, deadline %v", ended, closed, e.Len(), e.Deadline())
			}
		})
	}
	t.Run("restart", func(t *testing.T) {
		b := newBed(t)
		b.step(up)
		b.restart()
		if n := frames(b.e.Step(b.now.Add(peerFirst), Timer{})); n != 1 {
			t.Errorf("%d frames after a restart and a second of silence", n)
		}
	})
}
