package site

import (
	"fmt"
	"testing"
	"time"
)

// lapse has a pair of the connection that carries a tunnel go.
func (b *bed) lapse(tunnel, pair string) {
	b.Helper()
	b.step(PairDown{Conn: b.carry[tunnel], Pair: pair, Reason: "peer-deleted", Text: "it is gone"})
}

// completed lists how long after from connections were completed since the last time.
func (b *bed) completed(from time.Time) (out []time.Duration) {
	for _, at := range b.completes {
		out = append(out, at.Sub(from))
	}
	b.completes = nil
	return out
}

// What is missing of a tunnel that is nailed up is asked for while its connection goes on (Z-6), with pauses that grow from 1 to
// 60 minutes if that is in vain (D23), and at once when an operator says so.
func TestPairs(t *testing.T) {
	b := newBed(t, one(primary)).start()
	b.pass(time.Hour)
	if got := b.completed(began); len(got) != 1 || got[0] != mendAfter {
		t.Fatalf("completed after %v", got)
	}
	b.refuses = true
	lapsed := b.now
	b.lapse("hq", "lan")
	b.pass(12 * time.Hour)
	got := b.completed(lapsed)
	want := []time.Duration{mendAfter, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour}
	for i, w := range want {
		before := time.Duration(0)
		if i > 0 {
			before = got[i-1]
		}
		if pause := got[i] - before; pause < w || pause > w+w/4 {
			t.Errorf("pause %d is %v, want %v", i, pause, w)
		}
	}
	i := b.info("hq")
	if f := i.Lapsed["lan"]; i.State != StateUp || f.Reason != "peer-refused" || f.Text != "no" || i.Failures["peer-refused"] != uint64(len(got)) || i.Failures["peer-deleted"] != 1 {
		t.Errorf("%+v", i)
	}
	b.refuses = false
	said := b.now
	b.operator("hq", CommandNow)
	if got := b.completed(said); len(got) != 1 || got[0] != 0 {
		t.Errorf("an operator's word is obeyed after %v", got)
	}
	b.step(PairUp{Conn: b.carry["hq"], Pair: "lan"})
	b.pass(3 * time.Hour)
	if i := b.info("hq"); len(i.Lapsed) != 0 || len(b.completed(said)) != 0 {
		t.Errorf("complete, and %+v", i)
	}
	lapsed = b.now
	b.lapse("hq", "lan")
	b.pass(time.Minute)
	if got := b.completed(lapsed); len(got) != 1 || got[0] != mendAfter {
		t.Errorf("after a long time: %v", got)
	}
}

// Where the peer is to begin nothing is asked for; where it has begun what we would dial is.
func TestPairsOfPeer(t *testing.T) {
	for start, want := range map[Start]int{Respond: 0, OnDemand: 1, NailedUp: 1} {
		cfg := with(one(primary), func(t *Tunnel) { t.Start = start })
		b := newBed(t, cfg)
		b.mute = true // our own dial is not answered
		b.step(Timer{})
		b.calls("hq", primary)
		b.pass(time.Minute)
		if n := len(b.completed(b.now)); n != want {
			t.Errorf("%v: completed %d times, want %d", start, n, want)
		}
	}
}

// Pauses end with the connection, and what is said of others or of none changes nothing.
func TestPairsOfOthers(t *testing.T) {
	b := newBed(t, two()).start()
	b.pass(time.Hour)
	b.completed(b.now)
	b.step(PairDown{Conn: 999, Pair: "lan", Reason: "peer-deleted"})
	b.step(PairUp{Conn: 999, Pair: "lan"})
	other := b.calls("hq", backup)
	b.step(PairDown{Conn: other, Pair: "lan", Reason: "peer-deleted"})
	b.pass(time.Hour)
	if i := b.info("hq"); len(i.Lapsed) != 0 || len(b.completed(b.now)) != 0 {
		t.Errorf("%+v", i)
	}
	for n := range 2 * maxPairs {
		b.lapse("hq", fmt.Sprint(n))
	}
	if n := len(b.info("hq").Lapsed); n != maxPairs {
		t.Errorf("%d pairs are remembered", n)
	}
	b.operator("hq", CommandDown)
	b.pass(time.Hour)
	if n := len(b.completed(b.now)); n != 0 {
		t.Errorf("completed %d times", n)
	}
}
