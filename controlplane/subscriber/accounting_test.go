package subscriber

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// waiting brings a subscriber of each kind to where its accounting has been asked for.
var waiting = map[string]func(b *bed) ID{
	"L2TP": func(b *bed) ID {
		b.slow = true
		id := b.callUp(first, 0)
		b.speak(first, testUser)
		b.decide("")
		b.opened("")
		return id
	},
	"dynamic": func(b *bed) ID {
		b.slow = true
		id := b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.decide("")
		b.accessOpened("")
		b.dynamicConnUp(someone)
		return id
	},
}

// TestAccountingFirst: no traffic is let through and nobody is up before the start of its accounting
// is on disk; then the session goes on by itself, over a restart too.
func TestAccountingFirst(t *testing.T) {
	want := map[string]string{
		"L2TP": `
			decide alice mschapv2
			open in inside mtu 1400
			account alice
			activate 10.1.0.2 mtu 1400
			started alice`,
		"dynamic": `
			ask ""
			decide alice pap
			open access in inside mtu 1440
			admit 10.2.0.1
			account alice
			started alice`,
	}
	for name, connect := range waiting {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.by = aaa.Authority{Router: "outside", Domain: "example.net", Method: "radius", Server: "one", Accounting: "all"}
			b.grants.Class = [][]byte{[]byte("c1"), []byte("c2")}
			id := connect(b)
			r := b.accounts[0].Record
			if r.By != b.by || len(r.Class) != 2 || !r.Up.IsZero() || r.ID != id || r.Interface == "" || r.Terminating != "inside" {
				t.Errorf("accounting starts with %+v", r)
			}
			b.pass(10 * time.Second)
			b.restart()
			if s := b.state(t); s != StateActivating {
				t.Errorf("state %v while accounting is waited for", s)
			}
			b.accounted("")
			b.answerAll()
			if r := b.e.Records()[0]; r.State != StateUp || !r.Accounted || !r.Up.Equal(b.now) {
				t.Errorf("record %+v", r)
			}
			b.step(AccountStarted{ID: id, Reason: ReasonNoAccounting}) // nobody asked
			b.step(AccountStarted{ID: id + 1})
			if n := b.e.Counters()[CountUnasked]; n != 2 || b.state(t) != StateUp {
				t.Errorf("%d unasked answers counted, state %v", n, b.state(t))
			}
			b.assertLog(want[name])
		})
	}
}

// TestAccountingRefused: where a session must have accounting it ends without, and owes no stop.
func TestAccountingRefused(t *testing.T) {
	for name, connect := range waiting {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			id := connect(b)
			b.accounted(ReasonNoAccounting)
			b.pass(time.Minute)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Reason != ReasonNoAccounting || r.Accounted || !r.Up.IsZero() {
				t.Errorf("ended %+v", r)
			}
			b.assertEmpty()
		})
	}
}

// TestEndWhileAccounting: a session that ends before its accounting has started waits for the
// answer, and owes a stop if that says that there is a start.
func TestEndWhileAccounting(t *testing.T) {
	for name, connect := range waiting {
		for _, failure := range []Reason{"", ReasonNoAccounting} {
			t.Run(name+"/"+string(failure), func(t *testing.T) {
				b := newBed(t)
				id := connect(b)
				if name == "dynamic" {
					b.dynamicDown(someone, "peer-dead")
					b.accessClosed()
				} else {
					b.callDown(first, "l2tp-peer")
					b.closed()
				}
				b.restart()
				if b.calls[id].ended != nil {
					t.Fatal("ended before the answer")
				}
				b.accounted(failure)
				if r := b.calls[id].ended; r == nil || r.Accounted != (failure == "") || r.Reason == failure || r.Counters == (Counters{}) {
					t.Errorf("ended %+v", r)
				}
				b.assertEmpty()
			})
		}
	}
}

// TestAccountedButNeverUp: a stop is owed for a start, whatever fails afterwards.
func TestAccountedButNeverUp(t *testing.T) {
	b := newBed(t)
	id := waiting["L2TP"](b)
	b.accounted("")
	b.activated("route-exists")
	b.pass(time.Minute)
	b.answerAll()
	if r := b.calls[id].ended; r == nil || r.Reason != "route-exists" || !r.Accounted || !r.Up.IsZero() {
		t.Errorf("ended %+v", r)
	}
}

// TestAccountingOnce: whatever is negotiated anew, also while the start is waited for, accounting
// starts once.
func TestAccountingOnce(t *testing.T) {
	t.Run("LCP meanwhile", func(t *testing.T) {
		b := newBed(t)
		waiting["L2TP"](b)
		b.speak(first, testUser) // LCP and IPCP anew; IPCP has not opened when the answer comes
		b.accounted("")
		if len(b.activates) != 0 {
			t.Error("traffic is let through while IPCP is closed")
		}
		b.answerAll()
		b.assertLog(`
			decide alice mschapv2
			open in inside mtu 1400
			account alice
			decide alice mschapv2
			activate 10.1.0.2 mtu 1400
			started alice`)
	})
	t.Run("phase 1 meanwhile", func(t *testing.T) {
		b := newBed(t)
		waiting["dynamic"](b)
		b.dynamicUp(someone, "staff")
		b.accounted("") // nobody is up whose user is being asked
		if s := b.state(t); s == StateUp {
			t.Error("up while the user is asked")
		}
		b.answer(testUser, testPassword)
		b.decide("")
		b.assertLog(`
			ask ""
			decide alice pap
			open access in inside mtu 1440
			admit 10.2.0.1
			account alice
			ask ""
			decide alice pap
			admit 10.2.0.1
			started alice`)
	})
}

// TestInterimInterval: AAA's interval, but none below the floor.
func TestInterimInterval(t *testing.T) {
	for _, c := range []struct{ granted, floor, want time.Duration }{
		{0, 0, 0},
		{10 * time.Minute, 0, 10 * time.Minute},
		{time.Second, 0, time.Minute},
		{time.Second, 5 * time.Minute, 5 * time.Minute},
		{0, 5 * time.Minute, 0},
	} {
		for name, connect := range timed {
			b := newBed(t)
			if c.floor != 0 {
				b.e.cfg.InterimFloor = c.floor
			}
			b.grants.Interim = c.granted
			connect(b)
			if got := b.e.Records()[0].Interim; got != c.want {
				t.Errorf("%s %+v: %v", name, c, got)
			}
			b.pass(3 * time.Hour)
			if want := 3 * time.Hour / max(c.want, time.Nanosecond); c.want > 0 && len(b.reads) < int(want)-1 || c.want == 0 && len(b.reads) > 0 {
				t.Errorf("%s %+v: the counters were read %d times in three hours", name, c, len(b.reads))
			}
		}
	}
}

// TestInterim: each record has counters that were read for it; they never go back, not even at
// the end, when the kernel knows less than it did.
func TestInterim(t *testing.T) {
	for name, connect := range timed {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.grants.Interim = 10 * time.Minute
			b.timeouts[1] = time.Hour // whose readings are no records
			id := connect(b)
			var records []uint64
			for n := range uint64(6) {
				b.pass(10 * time.Minute)
				if n == 1 {
					b.restart()
				}
				if n == 2 {
					b.reads = nil // an answer that never comes
					continue
				}
				for len(b.reads) > 0 {
					b.read(100 - 10*n) // the kernel forgets
				}
				records = records[:0]
				for _, f := range b.interims {
					records = append(records, f.Record.Counters.InPackets)
				}
			}
			if want := slices.Repeat([]uint64{100}, 5); !slices.Equal(records, want) {
				t.Errorf("%d interim records, %v", len(records), records)
			}
			b.step(Disconnect{IDs: []ID{id}, Reason: ReasonAdmin})
			b.pass(30 * time.Minute)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Counters.InPackets != 100 || r.Counters.InBytes != 10000 || r.Counters.OutPackets == 0 || !r.Accounted {
				t.Errorf("ended %+v", r)
			}
			if n := len(b.interims); n != 5 {
				t.Errorf("%d interim records after the end", n)
			}
		})
	}
}

// TestInterimSpread: ten thousand sessions that come up at once report one after the other, in the
// second half of the interval, and each keeps its time.
func TestInterimSpread(t *testing.T) {
	const n, interval = 10_000, 10 * time.Minute
	e := newBed(t).e
	now := time.Unix(1_800_000_000, 0)
	perSecond := map[int]int{}
	for id := range ID(n) {
		s := &session{Record: Record{ID: id + 1<<40}}
		e.reportEvery(now, s, interval)
		first := s.timeouts.Report.Sub(now)
		perSecond[int(first/time.Second)]++
		if first <= interval/2 || first > interval {
			t.Fatalf("session %d reports first after %v", id, first)
		}
		if e.reportTraffic(s.timeouts.Report.Add(2*interval+time.Second), s); s.timeouts.Report.Sub(now) != first+3*interval {
			t.Fatalf("after an absence session %d reports at %v, first %v", id, s.timeouts.Report.Sub(now), first)
		}
	}
	for second, k := range perSecond {
		if k > 2*n/300 {
			t.Errorf("%d sessions report in second %d", k, second)
		}
	}
}

// TestEndCauses: each end from outside has its reason, its sentence, and what a LAC is told (F3, J9).
func TestEndCauses(t *testing.T) {
	for reason, want := range map[Reason]pppd.DisconnectCause{
		ReasonAdmin: {Code: 1}, ReasonRADIUS: {Code: 1}, ReasonShutdown: {Code: 1},
		ReasonReplaced: {Code: 3, Direction: 2}, ReasonInterface: {},
	} {
		for name, connect := range timed {
			t.Run(fmt.Sprintf("%s/%s", reason, name), func(t *testing.T) {
				b := newBed(t)
				id := connect(b)
				b.step(Disconnect{IDs: []ID{id}, Reason: reason})
				b.pass(time.Minute)
				b.answerAll()
				r := b.calls[id].ended
				if r == nil || r.Reason != reason || r.ByPeer || r.Text != disconnectText(reason) {
					t.Fatalf("ended %+v", r)
				}
				if name == "L2TP" && r.Cause != want {
					t.Errorf("cause %+v, want %+v", r.Cause, want)
				}
			})
		}
	}
	texts := map[string]bool{}
	for _, r := range []Reason{ReasonAdmin, ReasonRADIUS, ReasonShutdown, ReasonReplaced, ReasonInterface} {
		texts[disconnectText(r)] = true
	}
	if len(texts) != 5 {
		t.Errorf("sentences %v", texts)
	}
}

// TestInterimWithoutTraffic: who has no idle timeout may be as idle as he likes, and a server that
// says the same again at each rekey does not postpone the records.
func TestInterimWithoutTraffic(t *testing.T) {
	for name, connect := range timed {
		b := newBed(t)
		b.grants.Interim = 20 * time.Minute
		connect(b)
		for range 24 * 6 {
			b.pass(10 * time.Minute)
			for len(b.reads) > 0 {
				b.read(0)
			}
			if name == "dynamic" {
				b.dynamicUp(someone, "staff")
				b.answerAll()
			}
		}
		if s := b.state(t); s != StateUp || len(b.interims) != 24*3 {
			t.Errorf("%s: state %v, %d interim records", name, s, len(b.interims))
		}
	}
}
