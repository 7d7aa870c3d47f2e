package accounting

import (
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/subscriber"
)

// bench is a queue by hand, without disk.
type bench struct {
	*testing.T
	now time.Time
	q   *queue
}

func newBench(t *testing.T, records ...record) *bench {
	b := &bench{T: t, now: time.Unix(1000, 0), q: newQueue(queueName{"a", "g"}, 1)}
	b.q.limit = 2
	for i, r := range records {
		b.q.show(&entry{record: r, queue: b.q, seq: uint64(i + 1)})
	}
	return b
}

func of(kind Kind, session int) record {
	return record{kind: kind, session: sessionKey{"a", subscriber.ID(session)}}
}

// send sends all that may be sent now, and returns their numbers.
func (b *bench) send(parallel int) (sent []*entry) {
	for {
		e, _ := b.q.next(b.now, parallel)
		if e == nil {
			return sent
		}
		b.q.send(e)
		sent = append(sent, e)
	}
}

func (b *bench) want(parallel int, want ...uint64) []*entry {
	b.Helper()
	sent := b.send(parallel)
	var got []uint64
	for _, e := range sent {
		got = append(got, e.seq)
	}
	if !slices.Equal(got, want) {
		b.Fatalf("sent %v, want %v", got, want)
	}
	return sent
}

func TestOrderOfASession(t *testing.T) {
	b := newBench(t, of(KindStart, 1), of(KindInterim, 1), of(KindStart, 2), of(KindStop, 1), of(KindStop, 2))
	s := b.want(32, 1, 3)
	b.q.acknowledged(s[1], 32)
	s = append(s, b.want(32, 5)...)
	b.q.acknowledged(s[0], 32)
	s = append(s, b.want(32, 2)...)
	b.want(32)
	b.q.failed(b.now, s[3])
	b.want(32)
	b.now = b.now.Add(backOff)
	b.q.acknowledged(b.want(32, 2)[0], 32)
	b.want(32, 4)
}

func TestBarriers(t *testing.T) {
	b := newBench(t, of(KindStop, 1), of(KindStop, 2), of(KindOff, 0), of(KindOn, 0), of(KindStart, 3))
	s := b.want(32, 1, 2)
	b.q.acknowledged(s[1], 32)
	b.want(32)
	b.q.acknowledged(s[0], 32)
	b.q.acknowledged(b.want(32, 3)[0], 32)
	on := b.want(32, 4)[0]
	b.q.failed(b.now, on)
	b.want(32)
	b.now = b.now.Add(backOff)
	b.q.acknowledged(b.want(32, 4)[0], 32)
	b.want(32, 5)
}

// Nobody answers: attempts become rare, one at a time, each with another record; with the first
// acknowledgement everything goes on at once.
func TestSilence(t *testing.T) {
	b := newBench(t)
	for i := range 10 {
		b.q.show(&entry{record: of(KindStart, i+1), queue: b.q, seq: uint64(i + 1)})
	}
	s := b.want(4, 1, 2)
	if b.q.failed(b.now, s[0]) {
		t.Error("one failure is no silence")
	}
	s = append(s[1:], b.want(4, 3)...)
	if !b.q.failed(b.now, s[0]) || b.q.failed(b.now, s[1]) {
		t.Error("silence is noticed once, with the second record that fails")
	}
	for i, d := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		at := b.now.Add(d * time.Second)
		b.now = at.Add(-1)
		if e, wake := b.q.next(b.now, 4); e != nil || !wake.Equal(at) {
			t.Fatalf("attempt %d: %v, next at %v, want %v", i, e, wake, at)
		}
		b.now = at
		e, _ := b.q.next(b.now, 4)
		if want := []uint64{4, 5, 6, 7, 8, 9, 10, 1}[i]; e == nil || e.seq != want {
			t.Fatalf("attempt %d is of %+v, want record %d", i, e, want)
		}
		b.q.send(e)
		if again, wake := b.q.next(b.now, 4); again != nil || !wake.IsZero() {
			t.Fatal("two attempts at once")
		}
		b.q.failed(b.now, e)
	}
	b.now = b.now.Add(time.Minute)
	e := b.want(4, 2)[0]
	if !b.q.acknowledged(e, 4) || b.q.down {
		t.Error("it is not revived")
	}
	b.want(4, 1, 3)
}

// A record that the servers never take keeps no other waiting, and does not stand for silence.
func TestStuckRecord(t *testing.T) {
	b := newBench(t, of(KindStart, 1))
	for i, d := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		e := b.want(32, 1)[0]
		b.q.failed(b.now, e)
		if b.q.down {
			t.Fatal("one record is no silence")
		}
		if _, wake := b.q.next(b.now, 32); !wake.Equal(b.now.Add(d * time.Second)) {
			t.Fatalf("attempt %d: next after %v, want %v s", i, wake.Sub(b.now), int(d))
		}
		b.now = b.now.Add(d * time.Second)
	}
	b.q.failed(b.now, b.want(32, 1)[0])
	b.q.show(&entry{record: of(KindStart, 2), queue: b.q, seq: 2})
	b.q.acknowledged(b.want(32, 2)[0], 32)
	if b.want(32); b.q.down {
		t.Error("down")
	}
}

// What fails while others are acknowledged waits alone.
func TestOneIsLost(t *testing.T) {
	b := newBench(t, of(KindStart, 1), of(KindStart, 2), of(KindStart, 3), of(KindStart, 4))
	s := b.want(32, 1, 2)
	b.q.acknowledged(s[1], 32)
	s = append(s, b.want(32, 3, 4)...)
	if b.q.failed(b.now, s[0]) || b.q.lone != 0 {
		t.Error("a lost record is no silence")
	}
	b.q.acknowledged(s[2], 32)
	b.q.acknowledged(s[3], 32)
	b.now = b.now.Add(backOff)
	b.want(32, 1)
}

// Little is sent to a group of which nothing is known, and never more than Parallel.
func TestSlowStart(t *testing.T) {
	b := newBench(t)
	for i := range 200 {
		b.q.show(&entry{record: of(KindStart, i+1), queue: b.q, seq: uint64(i + 1)})
	}
	var flying []*entry
	b.q.limit = newQueue(b.q.queueName, 1).limit
	for _, want := range []int{1, 2, 4, 8, 8} {
		flying = b.send(8)
		if len(flying) != want || b.q.inflight != want {
			t.Fatalf("%d in flight, want %d", len(flying), want)
		}
		for _, e := range flying {
			b.q.acknowledged(e, 8)
		}
	}
}
