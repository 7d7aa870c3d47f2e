package ike

import (
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vrgate/controlplane/isakmp"
)

// TestSnapshot restarts a server in the middle of things: what it shows is the
// same before and after, and connections live on through rekeys and their end.
func TestSnapshot(t *testing.T) {
	w, client, server := pair(t)
	w.nat("203.0.113.9", false, client)
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	comparable := cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})
	restart := func() {
		t.Helper()
		old := server.e
		b, err := old.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		server.e = New(old.cfg, rand.Reader)
		fs, err := server.e.Restore(w.now, b)
		if err != nil {
			t.Fatal(err)
		}
		server.perform(fs)
		server.alarm()
		for _, d := range []string{
			cmp.Diff(old.Phase1SAs(), server.e.Phase1SAs(), comparable), cmp.Diff(old.Conns(), server.e.Conns(), comparable),
		} {
			if d != "" {
				t.Errorf("differs after the restart:\n%s", d)
			}
		}
	}
	restart()
	if len(server.kernel) != 2 {
		t.Errorf("%d SAs after the restart", len(server.kernel))
	}
	for range 30 {
		w.run(20 * time.Minute)
		restart()
		agree(t, client, server)
	}
	if len(server.down)+len(client.down) != 0 || server.only(t).Info.ID != server.up[0].ID {
		t.Errorf("down %v %v", server.down, client.down)
	}
	client.step(CloseAll{Reason: ReasonShutdown})
	w.run(time.Minute)
	empty(t, client, server)
}

// TestSnapshotHalfway: an SA that was on its way into the kernel is removed, and
// the peer, which may have it already, is told.
func TestSnapshotHalfway(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, quickOffer())
	if !s.phase1() || !s.quick(quickOffer()).send1() || len(r.kernel) != 1 {
		t.Fatal("not half way")
	}
	b, err := r.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	e := New(r.e.cfg, rand.Reader)
	fs, err := e.Restore(r.now, b)
	if err != nil || len(fs) != 2 {
		t.Fatalf("%v, %v", fs, err)
	}
	if told, ok := fs[0].(Send); !ok || told.Data[18] != byte(isakmp.Informational) {
		t.Errorf("the peer is not told: %+v", fs[0])
	}
	if rm, ok := fs[1].(RemoveSA); !ok || r.kernel[saKey(rm.Dir, rm.SPI, rm.Remote)].SPI != rm.SPI {
		t.Errorf("%+v", fs[1])
	}
	if len(e.spis)+len(e.outs) != 0 || len(e.conns) != 1 {
		t.Errorf("%d SPIs, %d connections", len(e.spis), len(e.conns))
	}
}

// TestSnapshotBroken: what is no snapshot changes nothing.
func TestSnapshotBroken(t *testing.T) {
	r, _, _ := upScript(t, quickOffer())
	b, err := r.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.e.Restore(r.now, b); err == nil {
		t.Error("a running engine takes a snapshot")
	}
	for cut := range len(b) {
		e := New(r.e.cfg, rand.Reader)
		if _, err := e.Restore(r.now, b[:cut]); err == nil || len(e.conns)+len(e.sas)+len(e.timers) != 0 {
			t.Fatalf("%d of %d bytes are taken", cut, len(b))
		}
	}
}
