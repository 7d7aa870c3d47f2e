package controlplane

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestWorkersOrder checks both promises of workers: one key's work in order and one at a
// time, and no more at once than there are workers.
func TestWorkersOrder(t *testing.T) {
	const keys, each, size = 20, 200, 4
	w := newWorkers(size)
	var active atomic.Int32
	var mu sync.Mutex
	got := map[int][]int{}
	busy := map[int]bool{}
	for i := range each {
		for k := range keys {
			w.do(k, func() {
				if n := active.Add(1); n > size {
					t.Errorf("%d at once, want at most %d", n, size)
				}
				mu.Lock()
				if busy[k] {
					t.Errorf("key %d is worked on twice at once", k)
				}
				busy[k] = true
				got[k] = append(got[k], i)
				mu.Unlock()
				mu.Lock()
				busy[k] = false
				mu.Unlock()
				active.Add(-1)
			})
		}
	}
	w.close()
	for k := range keys {
		if len(got[k]) != each {
			t.Fatalf("key %d: %d pieces of work done, want %d", k, len(got[k]), each)
		}
		for i, v := range got[k] {
			if v != i {
				t.Fatalf("key %d: piece %d ran as number %d", k, v, i)
			}
		}
	}
	if len(w.queues) != 0 || len(w.runnable) != 0 {
		t.Errorf("queues left behind: %d, %d", len(w.queues), len(w.runnable))
	}
	ran := false
	w.do(1, func() { ran = true })
	if ran {
		t.Error("work ran after close")
	}
}

// TestInboxBounds checks that packets are dropped and counted when the loop does not keep
// up, that answers never are, and that answers come first.
func TestInboxBounds(t *testing.T) {
	b := newInbox()
	for i := range maxQueuedPackets + 7 {
		b.packet(i)
	}
	for i := range 3 {
		b.answer(-1 - i)
	}
	got := b.take(nil)
	if len(got) != maxQueuedPackets+3 || got[0] != -1 || got[3] != 0 {
		t.Fatalf("took %d events starting %v", len(got), got[:4])
	}
	if b.drops() != 7 {
		t.Errorf("%d drops counted, want 7", b.drops())
	}
	if rest := b.take(nil); len(rest) != 0 {
		t.Errorf("%d events taken twice", len(rest))
	}
	// IKE comes last and in batches, so that a flood of it delays nobody who is in.
	for i := range 3 * ikeBatch {
		b.ikePacket(i)
	}
	b.packet("session")
	if got := b.take(nil); len(got) != 1+ikeBatch || got[0] != "session" || got[1] != 0 || got[ikeBatch] != ikeBatch-1 {
		t.Fatalf("took %d events starting %v", len(got), got[:2])
	}
	select {
	case <-b.wake:
	default:
		t.Error("IKE waits and nobody is told")
	}
	if got := b.take(nil); len(got) != ikeBatch || got[0] != ikeBatch {
		t.Fatalf("second batch: %d events", len(got))
	}
	b.take(nil)
	b.close()
	b.packet(1)
	b.answer(2)
	if rest := b.take(nil); len(rest) != 0 {
		t.Errorf("a closed inbox took %v", rest)
	}
}
