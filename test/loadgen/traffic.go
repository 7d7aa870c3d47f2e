package loadgen

import (
	"context"
	"net/netip"
	"time"
)

// Traffic is what became of the echo requests of sessions that were up all the time.
type Traffic struct {
	Sessions       int
	Sent, Answered int
	// Losers are the sessions, by their clients' numbers, that missed an answer.
	Losers map[int]int
	// Late is the longest time that an answer took.
	Late time.Duration
}

// Lost is the number of requests without an answer.
func (t Traffic) Lost() int { return t.Sent - t.Answered }

// flow is the echo requests of one session that are being counted.
type flow struct {
	waiting        map[uint16]time.Time // by sequence number, since when
	sent, answered int
	late           time.Duration
}

// stragglers is how long Stream waits for the last answers.
const stragglers = 5 * time.Second

// burst bounds how many requests are sent before answers are looked at.
const burst = 16

// Stream sends an echo request through every session that is up, one per interval, until stop is closed, and then waits
// for the last answers. A session's first requests come evenly spread over the interval. Sessions that end meanwhile
// are not counted: what was under way when they did is nobody's loss.
func (g *Generator) Stream(ctx context.Context, to netip.Addr, interval time.Duration, stop <-chan struct{}) (Traffic, error) {
	var flows []*client
	for _, c := range g.clients {
		if c.address.IsValid() {
			c.flow = &flow{waiting: map[uint16]time.Time{}}
			flows = append(flows, c)
		}
	}
	defer func() {
		for _, c := range flows {
			c.flow = nil
		}
	}()
	begin, n := time.Now(), 0
	due := func() time.Time { return begin.Add(time.Duration(n) * interval / time.Duration(max(len(flows), 1))) }
	for len(flows) > 0 {
		select {
		case <-stop:
			return g.settle(ctx, flows)
		default:
		}
		if behind := time.Since(due()); behind > interval {
			begin = begin.Add(behind) // what this machine cannot keep up with is not sent at once
		}
		for range burst {
			if time.Now().Before(due()) {
				break
			}
			c := flows[n%len(flows)]
			if c.address.IsValid() {
				seq := uint16(n / len(flows))
				c.flow.sent++
				c.flow.waiting[seq] = time.Now()
				c.frame(g, pppIPv4, echo(c.address, to, uint16(c.n), seq))
			}
			n++
		}
		if err := g.turn(ctx, due()); err != nil {
			return Traffic{}, err
		}
	}
	return Traffic{}, nil
}

// settle waits for the last answers and counts.
func (g *Generator) settle(ctx context.Context, flows []*client) (Traffic, error) {
	for end := time.Now().Add(stragglers); ; {
		t := Traffic{Losers: map[int]int{}}
		for _, c := range flows {
			if !c.address.IsValid() {
				continue
			}
			t.Sessions++
			t.Sent += c.flow.sent
			t.Answered += c.flow.answered
			t.Late = max(t.Late, c.flow.late)
			if n := len(c.flow.waiting); n > 0 {
				t.Losers[c.n] = n
			}
		}
		if t.Lost() == 0 || time.Now().After(end) {
			return t, nil
		}
		if err := g.turn(ctx, end); err != nil {
			return Traffic{}, err
		}
	}
}

// reply counts an answer.
func (f *flow) reply(seq uint16) {
	since, ok := f.waiting[seq]
	if !ok {
		return
	}
	delete(f.waiting, seq)
	f.answered++
	f.late = max(f.late, time.Since(since))
}
