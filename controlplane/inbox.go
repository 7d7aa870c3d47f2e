package controlplane

import "sync"

// inbox is a router's queue of events. Packets are bounded: when the loop falls behind they
// are dropped and counted, as a full socket buffer would. Answers to the engines' own
// questions are never dropped; there are at most as many as questions.
//
// What tunnels and sessions send goes before IKE, which anybody may send: a flood of first
// messages costs newcomers time, and those who are in nothing.
type inbox struct {
	wake chan struct{} // holds a token while something waits

	mu      sync.Mutex
	answers []any
	packets []any // of tunnels and sessions
	ike     []any
	dropped uint64
	closed  bool
}

const (
	// maxQueuedPackets bounds each kind of packets that wait for one router's loop.
	maxQueuedPackets = 8192
	// ikeBatch is how many IKE packets are taken before the other queues are looked at again.
	ikeBatch = 64
)

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

// packet queues what came for a tunnel or session, unless the queue is full.
func (b *inbox) packet(ev any) { b.enqueue(&b.packets, ev) }

// ikePacket queues a datagram for IKE, unless the queue is full.
func (b *inbox) ikePacket(ev any) { b.enqueue(&b.ike, ev) }

func (b *inbox) enqueue(queue *[]any, ev any) {
	b.mu.Lock()
	if b.closed || len(*queue) >= maxQueuedPackets {
		b.dropped++
		b.mu.Unlock()
		return
	}
	*queue = append(*queue, ev)
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns what waits: all answers, which finish what has been begun, all packets of
// tunnels and sessions, and a batch of IKE.
func (b *inbox) take(into []any) []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	into = append(into, b.answers...)
	into = append(into, b.packets...)
	clear(b.answers)
	clear(b.packets)
	b.answers, b.packets = b.answers[:0], b.packets[:0]
	n := min(len(b.ike), ikeBatch)
	into = append(into, b.ike[:n]...)
	if rest := copy(b.ike, b.ike[n:]); rest > 0 {
		clear(b.ike[rest:])
		b.ike = b.ike[:rest]
		b.signal()
	} else {
		clear(b.ike)
		b.ike = b.ike[:0]
	}
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
