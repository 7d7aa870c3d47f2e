package subscriber

import (
	"slices"
	"testing"
	"time"
)

// TestSeveralSessions: two users in one tunnel of one connection are two sessions with an
// address each, in everything but the fate of what carries them.
func TestSeveralSessions(t *testing.T) {
	b := newBed(t)
	b.e.cfg.DestructTimeout = time.Minute
	b.connUp(1)
	b.step(TunnelUp{Tunnel: 1, Conn: 1})
	a, c := CallKey{1, 1}, CallKey{1, 2}
	ids := []ID{b.callUp(a, 1), b.callUp(c, 1)}
	b.speak(a, testUser)
	b.speak(c, otherUser)
	b.answerAll()
	records := b.e.Records()
	if len(records) != 2 || records[0].User != testUser || records[1].User != otherUser || records[0].Address == records[1].Address ||
		records[0].State != StateUp || records[1].State != StateUp || records[1].Conn != 1 || records[1].Call != c {
		t.Fatalf("two sessions in one tunnel: %+v", records)
	}
	// One hangs up: the other and the connection stay, for longer than the destruct period.
	b.callDown(a, "l2tp-peer")
	b.answerAll()
	b.pass(10 * time.Minute)
	if r := b.calls[ids[0]].ended; r == nil || r.Reason != "l2tp-peer" {
		t.Errorf("the first session ended %+v", r)
	}
	if r := b.e.Records(); len(r) != 1 || r[0].ID != ids[1] || r[0].State != StateUp {
		t.Errorf("left %+v, want session %d up", r, ids[1])
	}
	if slices.Contains(b.log, "close connection 1: l2tp-gone") {
		t.Error("the connection is closed although its tunnel and a session live")
	}
	// A third comes to the same tunnel, and the connection takes both.
	third := CallKey{1, 3}
	ids = append(ids, b.callUp(third, 1))
	b.speak(third, testUser)
	b.answerAll()
	b.connDown(1, "peer-deleted")
	b.pass(time.Minute)
	b.answerAll()
	for _, id := range ids[1:] {
		if r := b.calls[id].ended; r == nil || r.Reason != "peer-deleted" {
			t.Errorf("session %d ended %+v, want the connection's reason", id, r)
		}
	}
	b.assertEmpty()
}
