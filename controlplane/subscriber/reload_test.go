package subscriber

import (
	"testing"
	"time"
)

// TestReload: a reload ends the dynamic subscribers of a tunnel profile that is gone or has another Revision, with its reason,
// and nobody else; what a Revision leaves out holds for those who come from then on (G4).
func TestReload(t *testing.T) {
	b := newBed(t)
	staff, few, boxes := b.connect(7, "staff"), b.connect(8, "few"), b.connect(9, "boxes")
	asked := b.dynamicUp(10, "few")
	l2tp := b.callUp(first, 0)
	b.speak(first, testUser)
	b.answerAllBut(10)

	cfg := testConfig()
	p := cfg.Tunnels["staff"]
	p.Revision = "2"
	cfg.Tunnels["staff"] = p
	p = cfg.Tunnels["boxes"]
	p.Banner = "new"
	cfg.Tunnels["boxes"] = p
	delete(cfg.Tunnels, "few")
	if list := b.e.Affected(cfg); len(list) != 3 || list[0].Record.ID != staff || list[0].Text == "" {
		t.Errorf("foretold: %+v", list)
	}
	b.log = nil
	b.reload(cfg)
	b.answerAll()
	for id, want := range map[ID]Reason{staff: ReasonProfileChanged, few: ReasonProfileRemoved, asked: ReasonProfileRemoved} {
		if r := b.calls[id].ended; r == nil || r.Reason != want {
			t.Errorf("session %d: %+v, want %s", id, r, want)
		}
	}
	for _, r := range b.e.Records() {
		if r.ID != boxes && r.ID != l2tp || r.State != StateUp || r.Reason != "" {
			t.Errorf("left: %+v", r)
		}
	}
	if list := b.e.Affected(cfg); b.e.Len() != 2 || len(list) != 0 {
		t.Errorf("%d are left, foretold now: %+v", b.e.Len(), list)
	}
	b.connect(11, "boxes")
	if a := b.admits[len(b.admits)-1]; a.Banner != "new" {
		t.Errorf("a new subscriber gets %+v", a)
	}
	b.pass(time.Minute)
}

// answerAllBut answers whatever waits but the question to one user.
func (b *bed) answerAllBut(conn uint32) {
	var kept []AskUser
	for _, f := range b.asks {
		if f.Conn == conn {
			kept = append(kept, f)
		}
	}
	b.asks = nil
	b.answerAll()
	b.asks = kept
}
