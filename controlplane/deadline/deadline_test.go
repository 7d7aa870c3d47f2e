package deadline

import (
	"math/rand/v2"
	"testing"
	"time"
)

type owner struct {
	place Place
	at    time.Time
}

func (o *owner) Place() *Place { return &o.place }

// TestHeap sets, moves and removes at random, and compares with looking at every owner.
func TestHeap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	start := time.Unix(1000, 0)
	var h Heap[*owner]
	owners := make([]*owner, 50)
	for i := range owners {
		owners[i] = &owner{}
	}
	first := func() (at time.Time, n int) {
		for _, o := range owners {
			if at = Earliest(at, o.at); !o.at.IsZero() {
				n++
			}
		}
		return at, n
	}
	for range 20000 {
		o := owners[random.IntN(len(owners))]
		switch random.IntN(4) {
		case 0, 1:
			o.at = start.Add(time.Duration(random.IntN(100)) * time.Second)
			h.Set(o, o.at)
		case 2:
			o.at = time.Time{}
			if random.IntN(2) == 0 {
				h.Set(o, o.at)
			} else {
				h.Remove(o)
			}
		case 3:
			now := start.Add(time.Duration(random.IntN(100)) * time.Second)
			at, _ := first()
			got, ok := h.Due(now)
			if ok != Reached(now, at) || ok && !got.at.Equal(at) {
				t.Fatalf("at %v: %v %t, the first is at %v", now, got, ok, at)
			}
			if ok {
				got.at = time.Time{}
			}
		}
		if at, n := first(); !h.Next().Equal(at) || len(h) != n {
			t.Fatalf("next %v of %d, want %v of %d", h.Next(), len(h), at, n)
		}
	}
}
