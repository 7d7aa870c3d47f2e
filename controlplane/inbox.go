package controlplane

import "sync"

// inbox is a router's queue of events. Packets are bounded: when the loop falls behind they
// are dropped and counted, as a full socket buffer would. Answers to the engines' own
// questions are never dropped; there are at most as many as questions.
type inbox struct {
	wake chan struct{} // holds a token while something waits

	mu      sync.Mutex
	answers []any
	packets []any
	dropped uint64
	closed  bool
}

// maxQueuedPackets bounds the packets that wait for one router's loop.
const maxQueuedPackets = 8192

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// answer queues an event that must arrive.
func (b *inbox) answer(ev any) {
	b.mu.Lock()
	if !b.closed {
		b.answers = append(b.answers, ev)
	}
	b.mu.Unlock()
	b.signal()
}

// packet queues a received packet unless the queue is full.
func (b *inbox) packet(ev any) {
	b.mu.Lock()
	if b.closed || len(b.packets) >= maxQueuedPackets {
		b.dropped++
		b.mu.Unlock()
		return
	}
	b.packets = append(b.packets, ev)
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns everything that waits, answers first: they finish what has been begun.
func (b *inbox) take(into []any) []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	into = append(into, b.answers...)
	into = append(into, b.packets...)
	clear(b.answers)
	clear(b.packets)
	b.answers, b.packets = b.answers[:0], b.packets[:0]
	return into
}

func (b *inbox) drops() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
}
