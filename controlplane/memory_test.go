package controlplane

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
)

// memoryTarget is what one L2TP/IPsec subscriber may cost in the daemon, in bytes (design.md, Scale).
const memoryTarget = 16 << 10

// BenchmarkSubscriberMemory measures what one L2TP/IPsec subscriber that is up keeps in the
// daemon's heap: IKE and ESP SAs, tunnel, session, PPP link, address. The clients and what
// stands for the kernel are taken away before the heap is weighed, so what is left is the
// machine and the leases alone. The figure to compare with the target is heap-B/subscriber; what the
// process grows by in the whole, with the collector's slack and buffers, test/bench measures
// on a real daemon.
func BenchmarkSubscriberMemory(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var heap, objects float64
			rounds := 0
			for b.Loop() {
				h, o := weighSubscribers(b, n)
				heap, objects = heap+h, objects+o
				rounds++
			}
			heap, objects = heap/float64(rounds), objects/float64(rounds)
			b.ReportMetric(heap, "heap-B/subscriber")
			b.ReportMetric(objects, "objects/subscriber")
			b.ReportMetric(heap/memoryTarget, "of-target")
		})
	}
}

// weighSubscribers connects n clients and returns bytes and objects that each has left in
// the machine's heap.
func weighSubscribers(tb testing.TB, n int) (bytes, objects float64) {
	w := newSimWorld(tb, 1, simNetwork{Delay: 10 * time.Millisecond}, nil)
	w.server.users = aaa.NewLocal(simUsers(n))
	before := settledHeap()
	for i := range n {
		c := w.newClient(i)
		w.after(time.Duration(i)*time.Millisecond, c.connect)
	}
	w.run(10*time.Minute, func() bool {
		for _, c := range w.clients {
			if !c.Settled() {
				return false
			}
		}
		return true
	})
	for _, c := range w.clients {
		if !c.Address.IsValid() {
			tb.Fatalf("%s is not up: %s", c.User, c.Failed)
		}
	}
	// Answers are forgotten, retries over, and every map and buffer of the set-up has had the
	// time to shrink that a daemon has: this weighs subscribers, not their arrival.
	w.run(2*time.Minute, func() bool { return false })
	s := w.server
	if got := s.m.subs.Len(); got != n {
		tb.Fatalf("%d subscribers, want %d", got, n)
	}
	w.clients, w.byAddr, w.queue, w.wake = nil, nil, nil, nil
	s.inbound, s.outbound, s.all, s.tunnels, s.sessions, s.byCall, s.started, s.ended = nil, nil, nil, nil, nil, nil, nil, nil
	after := settledHeap()
	runtime.KeepAlive(w)
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(n), float64(after.HeapObjects-before.HeapObjects) / float64(n)
}

// settledHeap is the heap without garbage.
func settledHeap() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC() // what finalizers and pools held until the first
	runtime.ReadMemStats(&m)
	return m
}
