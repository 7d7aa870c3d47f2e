package subscriber

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"vrgate/controlplane/aaa"
)

// What the bed needs for accounting and for changes of sessions that are up: it plays the
// journal, whoever sends changes, and the kernel's traffic control.

// terminating, pool and gateway are what follows from the bed's one IP profile and what was granted.
func (l *ledger) terminating() string { return cmp.Or(l.grants.Terminating, "inside") }
func (l *ledger) pool() string {
	if l.grants.Address.IsValid() {
		return ""
	}
	return cmp.Or(l.grants.Pool, "main")
}

func (b *bed) trafficOf(l *ledger) aaa.Traffic {
	if b.profile != nil {
		return *b.profile
	}
	return l.grants.Traffic
}

func (l *ledger) gateway() netip.Addr {
	if l.grants.Gateway.IsValid() {
		return l.grants.Gateway
	}
	return testGateway
}

func (b *bed) performAccounting(f Effect, of func(ID) *ledger) {
	b.t.Helper()
	switch f := f.(type) {
	case AccountStart:
		l := of(f.Record.ID)
		l.accounts++
		if l.accounts > 1 || !l.open && !l.farUp || l.closing || f.Record.Address != l.held || f.Record.User != l.owner || f.Record.Accounted || f.Record.Reason != "" {
			b.t.Errorf("session %d: accounting starts: %+v, ledger %+v", f.Record.ID, f.Record, *l)
		}
		l.waiting = true
		b.accounts = append(b.accounts, f)
		if !b.slow {
			b.wire = append(b.wire, func() {
				if slices.ContainsFunc(b.accounts, func(g AccountStart) bool { return g.Record.ID == f.Record.ID }) {
					b.accountedOf(f.Record.ID, "")
				}
			})
			return
		}
		b.note("account %s", f.Record.User)
	case AccountInterim:
		l := of(f.Record.ID)
		if l.started != 1 || f.Record.Interim <= 0 || f.Record.Counters.atLeast(l.reported) != f.Record.Counters || f.Record.State == StateEnding {
			b.t.Errorf("session %d: interim record %+v after %+v", f.Record.ID, f.Record, l.reported)
		}
		l.reported = f.Record.Counters
		b.interims = append(b.interims, f)
	case SetTraffic:
		l := of(f.ID)
		if l.started != 1 || !l.open || l.closing || l.shaping || f.Call != l.call || f.Conn != 0 && l.conn != 0 && f.Conn != l.conn || f.Address != l.held || f.Terminating != l.terminating() {
			b.t.Errorf("%+v, ledger %+v", f, *l)
		}
		l.shaping = true
		b.traffics = append(b.traffics, f)
	case Changed:
		l := b.calls[f.ID]
		if l == nil { // there never was such a session
			l = &ledger{changes: []uint64{f.Token}}
		}
		n := slices.Index(l.changes, f.Token)
		if n < 0 || f.Reason != "" && f.Text == "" {
			b.t.Fatalf("%+v; without answer: %v", f, l.changes)
		}
		if n > 0 && f.Reason == "" {
			b.t.Errorf("change %d of session %d overtakes %d", f.Token, f.ID, l.changes[0])
		}
		l.changes = slices.Delete(l.changes, n, n+1)
		b.changed = append(b.changed, f)
	default:
		b.performSwitching(f, of)
	}
}

// accounted answers the oldest AccountStart.
func (b *bed) accounted(failure Reason) {
	b.t.Helper()
	if len(b.accounts) == 0 {
		b.t.Fatalf("no accounting waits; so far:\n%s", strings.Join(b.log, "\n"))
	}
	b.accountedOf(b.accounts[0].Record.ID, failure)
}

func (b *bed) accountedOf(id ID, failure Reason) {
	b.t.Helper()
	b.accounts = slices.DeleteFunc(b.accounts, func(f AccountStart) bool { return f.Record.ID == id })
	l := b.calls[id]
	l.waiting, l.accounted = false, failure == ""
	ev := AccountStarted{ID: id, Reason: failure}
	if failure != "" {
		ev.Text = "the journal said no"
	}
	b.step(ev)
}

// change alters a session and returns the answer; nil: it comes later.
func (b *bed) change(id ID, c aaa.Change) *Changed {
	b.t.Helper()
	b.token++
	if l := b.calls[id]; l != nil {
		l.changes = append(l.changes, b.token)
	}
	b.step(Change{ID: id, Token: b.token, Change: c})
	if n := len(b.changed); n > 0 && b.changed[n-1].Token == b.token {
		return &b.changed[n-1]
	}
	return nil
}

// trafficSet answers the oldest SetTraffic.
func (b *bed) trafficSet(failure Reason) {
	b.t.Helper()
	f, ok := take(&b.traffics)
	if !ok {
		b.t.Fatalf("no traffic to set; so far:\n%s", strings.Join(b.log, "\n"))
	}
	b.calls[f.ID].shaping = false
	ev := TrafficSet{ID: f.ID, Reason: failure}
	if failure != "" {
		ev.Text = "the kernel said no"
	}
	b.step(ev)
}
