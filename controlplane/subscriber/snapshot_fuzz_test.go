package subscriber

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
)

// FuzzRestore: whatever the file holds, Restore returns an error or an engine that writes what
// it has read and survives the end of all that it knows.
func FuzzRestore(f *testing.F) {
	for _, stage := range dynamicStages {
		b := newBed(f)
		b.timeouts = [2]time.Duration{time.Hour, time.Minute}
		b.connUp(1)
		b.callUp(first, 1)
		b.grants = aaa.Grants{
			Interim: time.Minute, Class: [][]byte{{1}}, Routes: []aaa.Route{{Prefix: netip.MustParsePrefix("10.9.0.0/16")}}, Traffic: aaa.Traffic{In: 1, OutPolicy: "p"},
		}
		b.dynamicUp(someone, "staff")
		stage.reach(b)
		b.speak(first, testUser)
		if r := b.e.Records(); len(r) > 0 {
			for n := range uint64(2) {
				b.change(r[len(r)-1].ID, aaa.Change{IdleTimeout: new(time.Duration), Traffic: &aaa.Traffic{Out: n}})
			}
		}
		data, err := b.e.Snapshot()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for n := range 4 {
		b := newBed(f)
		b.tunnels, b.slow = []aaa.Tunnel{lnsA, lnsB}, n == 2
		b.connUp(1)
		b.step(ConnSpent{Conn: 1})
		b.callUp(first, 0)
		b.speak(first, testUser)
		b.decide("")
		if n > 0 {
			b.farUp()
		}
		if n == 3 {
			b.answerAll()
		}
		data, err := b.e.Snapshot()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Restore(testConfig(), rand.NewChaCha8([32]byte{2}), data)
		if err != nil {
			return
		}
		written, err := e.Snapshot()
		if err != nil {
			t.Fatalf("restored and cannot be written: %v", err)
		}
		again, err := Restore(testConfig(), rand.NewChaCha8([32]byte{2}), written)
		if err != nil {
			t.Fatalf("cannot restore what was written: %v\n%s", err, written)
		}
		if rewritten, err := again.Snapshot(); err != nil || !bytes.Equal(written, rewritten) {
			t.Fatalf("written\n%s\nthen\n%s (%v)", written, rewritten, err)
		}
		now := time.Unix(1_800_000_000, 0)
		for _, r := range e.Records() {
			e.Step(now, Disconnect{IDs: []ID{r.ID}, Reason: ReasonShutdown})
			e.Step(now, ConnDown{Conn: r.Conn, Reason: "over"})
			e.Step(now, CallDown{Call: r.Call, Reason: "over"})
			e.Step(now, Decided{ID: r.ID})
			e.Step(now, SessionOpened{ID: r.ID})
			e.Step(now, AccessOpened{ID: r.ID})
			e.Step(now, SessionClosed{ID: r.ID})
			e.Step(now, AccountStarted{ID: r.ID})
			e.Step(now, TrafficSet{ID: r.ID})
			e.Step(now, FarFailed{Ref: uint64(r.ID)})
			e.Step(now, FarDown{Call: r.Far, Reason: "over"})
			e.Step(now, Bridged{ID: r.ID})
			e.Step(now, BridgeClosed{ID: r.ID})
		}
		for range 100 {
			now = now.Add(time.Minute)
			e.Step(now, Timer{})
		}
		if n := e.Len(); n != 0 {
			t.Fatalf("%d sessions do not end: %+v", n, e.Records())
		}
	})
}
