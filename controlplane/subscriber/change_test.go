package subscriber

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"vrgate/controlplane/aaa"
)

func ptr[T any](x T) *T { return &x }

// TestChange: timeouts, interim interval, class and traffic change while the session is up (RFC
// 5176), and the record shows what holds.
func TestChange(t *testing.T) {
	for name, connect := range timed {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.grants = aaa.Grants{Traffic: aaa.Traffic{In: 1, InPolicy: "in", Out: 2}, Class: [][]byte{[]byte("old")}}
			id := connect(b)
			if got := b.change(id, aaa.Change{}); got == nil || got.Reason != "" {
				t.Errorf("nothing to change: %+v", got)
			}
			answer := b.change(id, aaa.Change{
				SessionTimeout: ptr(time.Hour), IdleTimeout: ptr(20 * time.Minute), Interim: ptr(10 * time.Minute), Class: [][]byte{[]byte("new")},
				Traffic: &aaa.Traffic{In: 10, InBurst: 11}, Keep: aaa.RateOut | aaa.PolicyIn | aaa.PolicyOut,
			})
			if answer != nil || len(b.traffics) != 1 {
				t.Fatalf("answered %+v before the kernel, %d questions", answer, len(b.traffics))
			}
			want := aaa.Traffic{In: 10, InBurst: 11, InPolicy: "in", Out: 2}
			if f := b.traffics[0]; f.Traffic != want {
				t.Errorf("%+v, want %+v", f, want)
			}
			before := b.e.Records()[0]
			if before.Traffic == want || before.IdleTimeout != 0 || before.Interim != 0 || string(before.Class[0]) != "old" {
				t.Errorf("changed before the kernel: %+v", before)
			}
			b.restart()
			b.trafficSet("")
			if got := b.changed[len(b.changed)-1]; got.Reason != "" || got.Token != b.token {
				t.Errorf("answer %+v", got)
			}
			r := b.e.Records()[0]
			if r.Traffic != want || r.SessionTimeout != time.Hour || r.IdleTimeout != 20*time.Minute || r.Interim != 10*time.Minute || string(r.Class[0]) != "new" {
				t.Errorf("record %+v", r)
			}
			b.restart()
			for b.now.Before(r.Up.Add(time.Hour - 2*time.Second)) {
				b.pass(time.Second)
				for len(b.reads) > 0 {
					b.read(uint64(b.now.Unix()))
				}
			}
			if s := b.state(t); s != StateUp || len(b.interims) < 5 || string(b.interims[0].Record.Class[0]) != "new" {
				t.Errorf("state %v, %d interim records", s, len(b.interims))
			}
			b.pass(3 * time.Second) // from the session's start
			b.pass(time.Minute)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Reason != ReasonSessionTimeout {
				t.Errorf("ended %+v", r)
			}
		})
	}
}

// TestChangeFails: what the kernel cannot do leaves everything as it was.
func TestChangeFails(t *testing.T) {
	for name, connect := range timed {
		b := newBed(t)
		id := connect(b)
		before := b.e.Records()
		deadline := b.e.byID[id].deadline()
		b.change(id, aaa.Change{
			SessionTimeout: ptr(time.Hour), IdleTimeout: ptr(time.Hour), Interim: ptr(time.Hour), Class: [][]byte{{1}}, Traffic: &aaa.Traffic{In: 1},
		})
		b.trafficSet(Reason(aaa.ReasonUnknownPolicy))
		if got := b.changed[0]; got.Reason != Reason(aaa.ReasonUnknownPolicy) || got.Text == "" {
			t.Errorf("%s: answer %+v", name, got)
		}
		if d := gocmp.Diff(before, b.e.Records(), plain); d != "" || !b.e.byID[id].deadline().Equal(deadline) {
			t.Errorf("%s: changed: %s", name, d)
		}
	}
}

// TestChangesInOrder: the last one holds, and none overtakes one that waits for the kernel; so many
// may wait.
func TestChangesInOrder(t *testing.T) {
	b := newBed(t)
	id := timed["dynamic"](b)
	for n := range maxChanges / 2 {
		b.change(id, aaa.Change{Traffic: &aaa.Traffic{In: uint64(n + 1)}})
		b.change(id, aaa.Change{IdleTimeout: ptr(time.Duration(n+1) * time.Hour)})
	}
	if got := b.change(id, aaa.Change{Interim: ptr(time.Hour)}); got == nil || got.Reason != ReasonBusy {
		t.Errorf("one too many: %+v", got)
	}
	for n := range maxChanges / 2 {
		if len(b.traffics) != 1 || b.traffics[0].Traffic.In != uint64(n+1) {
			t.Fatalf("change %d: the kernel is asked %+v", n, b.traffics)
		}
		failure := Reason("")
		if n == 1 {
			failure = ReasonKernel
		}
		b.trafficSet(failure)
		if r := b.e.Records()[0]; r.IdleTimeout != time.Duration(n+1)*time.Hour || (r.Traffic.In == uint64(n+1)) != (n != 1) {
			t.Errorf("after change %d: %+v", n, r)
		}
	}
	if n := len(b.changed); n != maxChanges+1 || b.e.byID[id].changes != nil {
		t.Errorf("%d answers", n)
	}
	if got := b.change(id, aaa.Change{Traffic: &aaa.Traffic{In: maxChanges / 2}}); got == nil || got.Reason != "" || len(b.traffics) != 0 {
		t.Errorf("the same traffic once more: %+v, %d questions", got, len(b.traffics))
	}
	b.step(TrafficSet{ID: id, Reason: ReasonKernel}) // nobody asked
	b.step(TrafficSet{ID: id + 1})
	if n := b.e.Counters()[CountUnasked]; n != 2 {
		t.Errorf("%d unasked answers", n)
	}
}

// TestChangeRefused: each change that cannot be done is answered with a typed reason.
func TestChangeRefused(t *testing.T) {
	b := newBed(t)
	if got := b.change(77, aaa.Change{}); got == nil || got.Reason != ReasonNotUp {
		t.Errorf("no session: %+v", got)
	}
	id := b.callUp(first, 0)
	b.speak(first, testUser)
	if got := b.change(id, aaa.Change{}); got == nil || got.Reason != ReasonNotUp {
		t.Errorf("not up yet: %+v", got)
	}
	b.answerAll()
	for _, c := range []aaa.Change{
		{SessionTimeout: ptr(-time.Second)}, {IdleTimeout: ptr(-time.Second)}, {Interim: ptr(-time.Second)}, {Class: make([][]byte, aaa.MaxClasses+1)},
	} {
		if got := b.change(id, c); got == nil || got.Reason != ReasonBadChange {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	b.deaf = true
	b.step(Disconnect{IDs: []ID{id}, Reason: ReasonAdmin})
	if got := b.change(id, aaa.Change{}); got == nil || got.Reason != ReasonNotUp {
		t.Errorf("ending: %+v", got)
	}
}

// TestEndWhileChanging: a session that ends answers all its changes, and then ends.
func TestEndWhileChanging(t *testing.T) {
	for name, connect := range timed {
		for _, failure := range []Reason{"", ReasonKernel} {
			b := newBed(t)
			id := connect(b)
			b.change(id, aaa.Change{Traffic: &aaa.Traffic{In: 1}, SessionTimeout: ptr(time.Hour)})
			b.change(id, aaa.Change{Traffic: &aaa.Traffic{In: 2}})
			b.change(id, aaa.Change{IdleTimeout: ptr(time.Hour)})
			b.step(Disconnect{IDs: []ID{id}, Reason: ReasonRADIUS})
			b.pass(time.Minute)
			for len(b.leaving) > 0 {
				b.left()
			}
			for len(b.closes) > 0 {
				b.closed()
			}
			for len(b.accessCloses) > 0 {
				b.accessClosed()
			}
			if len(b.changed) != 2 || b.calls[id].ended != nil {
				t.Errorf("%s: %d answers, ended %+v", name, len(b.changed), b.calls[id].ended)
			}
			b.restart()
			b.trafficSet(failure)
			for _, got := range b.changed {
				if got.Reason != ReasonNotUp {
					t.Errorf("%s: %+v", name, got)
				}
			}
			if r := b.calls[id].ended; len(b.changed) != 3 || r == nil || r.Reason != ReasonRADIUS || r.SessionTimeout == time.Hour {
				t.Errorf("%s: %d answers, ended %+v", name, len(b.changed), r)
			}
			b.assertEmpty()
		}
	}
}

// TestChangeOfSessionTimeout: it counts from the session's start, so one that has passed ends the
// session; none is R3's longest for PPP.
func TestChangeOfSessionTimeout(t *testing.T) {
	for name, connect := range timed {
		b := newBed(t)
		b.timeouts[0] = time.Hour
		id := connect(b)
		b.pass(30 * time.Minute)
		if got := b.change(id, aaa.Change{SessionTimeout: ptr(time.Duration(0))}); got == nil || got.Reason != "" {
			t.Errorf("%s: %+v", name, got)
		}
		want := time.Duration(0)
		if name == "L2TP" {
			want = longestPPP
		}
		if r := b.e.Records()[0]; r.SessionTimeout != want {
			t.Errorf("%s: %v", name, r.SessionTimeout)
		}
		b.pass(24 * time.Hour)
		if s := b.state(t); s != StateUp {
			t.Errorf("%s: state %v although the limit is gone", name, s)
		}
		if got := b.change(id, aaa.Change{SessionTimeout: ptr(time.Hour)}); got == nil || got.Reason != "" {
			t.Errorf("%s: %+v", name, got)
		}
		b.pass(time.Minute)
		b.answerAll()
		if r := b.calls[id].ended; r == nil || r.Reason != ReasonSessionTimeout {
			t.Errorf("%s: ended %+v", name, r)
		}
		b.assertEmpty()
	}
}

// TestChangeOfIdleTimeout: a shorter one is looked after at once, and 0 ends it.
func TestChangeOfIdleTimeout(t *testing.T) {
	for name, connect := range timed {
		b := newBed(t)
		b.timeouts[1] = 24 * time.Hour
		id := connect(b)
		b.change(id, aaa.Change{IdleTimeout: ptr(10 * time.Minute)})
		b.pass(6 * time.Minute)
		if len(b.reads) == 0 {
			t.Errorf("%s: nothing was read", name)
		}
		b.change(id, aaa.Change{IdleTimeout: ptr(time.Duration(0))})
		for len(b.reads) > 0 {
			b.read(0)
		}
		b.pass(48 * time.Hour)
		if s := b.state(t); s != StateUp || len(b.reads) != 0 {
			t.Errorf("%s: state %v, %d readings", name, s, len(b.reads))
		}
	}
}
