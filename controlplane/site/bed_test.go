package site

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// tb is what both testing.TB and rapid.T are.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

var (
	primary = netip.MustParseAddr("192.0.2.1")
	backup  = netip.MustParseAddr("192.0.2.2")
	third   = netip.MustParseAddr("192.0.2.3")
	none    netip.Addr
	host    = netip.MustParseAddr("10.9.0.1")
	began   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// bed is a shell and the world around it: peers that are there or are not, a resolver, and ledgers that judge every effect.
type bed struct {
	tb
	e     *Engine
	now   time.Time
	alive map[netip.Addr]bool
	dns   map[string][]netip.Addr
	mute  bool // nothing is answered but by hand
	deaf  bool // probes fail
	flow  [2]uint64

	refuses   bool        // peers refuse the pair "lan"
	completes []time.Time // when connections were completed
	asked     []uint32    // those that have not been answered

	dials    map[uint64]Dial // unanswered
	cut      map[uint64]bool // of these, hung up
	conns    map[uint32]Up
	lastConn uint32
	carry    map[string]uint32
	said     map[string]Changed
	admits   map[string]Admit
	pauses   map[string]time.Time // ends of pauses before the step
	barred   map[string]time.Time // no dial before, but for an excuse
	answers  []Answer
	resolves []string
	probes   []Probe
	reads    []ReadTraffic
	hangUps  []HangUp
	log      []Effect
}

func newBed(t tb, cfg Config) *bed {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatalf("%v", err)
	}
	b := &bed{tb: t, now: began, alive: map[netip.Addr]bool{primary: true, backup: true, third: true}, dns: map[string][]netip.Addr{},
		dials: map[uint64]Dial{}, cut: map[uint64]bool{}, conns: map[uint32]Up{}, carry: map[string]uint32{},
		said: map[string]Changed{}, admits: map[string]Admit{}, barred: map[string]time.Time{}}
	b.e = New(b.now, cfg, rand.NewChaCha8([32]byte{1}))
	return b
}

// step gives the engine one event and judges what comes of it.
func (b *bed) step(ev Event) {
	b.Helper()
	switch ev := ev.(type) {
	case Operator:
		delete(b.barred, ev.Tunnel)
	case Up:
		delete(b.barred, ev.Tunnel)
	case Reconfigure:
		clear(b.barred)
	}
	told := b.foretold(ev)
	pauses := map[string]time.Time{}
	for name, t := range b.e.tunnels {
		pauses[name] = t.RetryAt
	}
	b.pauses = pauses
	for _, f := range b.e.Step(b.now, ev) {
		b.log = append(b.log, f)
		if h, ok := f.(HangUp); ok && told != nil && h.Conn != 0 {
			if told[h.Conn] != h.Tunnel {
				b.Fatalf("%v: %+v, foretold were %v", b.now, f, told)
			}
			delete(told, h.Conn)
		}
		b.judge(f)
	}
	if len(told) > 0 {
		b.Fatalf("%v: foretold to end, and have not: %v", b.now, told)
	}
	b.consistent()
}

// foretold lists the connections, with their tunnels, that a reload is said to end; nil for another event, and where more than
// the reload happens in its step.
func (b *bed) foretold(ev Event) map[uint32]string {
	r, ok := ev.(Reconfigure)
	if d := b.e.Deadline(); !ok || !d.IsZero() && !d.After(b.now) {
		return nil
	}
	out := map[uint32]string{}
	for _, x := range b.e.Ending(r.Config) {
		if x.Reason == "" || out[x.Conn] != "" {
			b.Fatalf("%v: foretold %+v", b.now, x)
		}
		out[x.Conn] = x.Tunnel
	}
	return out
}

func (b *bed) judge(f Effect) {
	b.Helper()
	switch f := f.(type) {
	case Dial:
		for _, d := range b.dials {
			if d.Tunnel == f.Tunnel {
				b.Fatalf("%v: %+v while %+v is under way", b.now, f, d)
			}
		}
		t := b.e.tunnels[f.Tunnel]
		if t == nil || t.Admin || b.e.closed || t.cfg.Start == Respond || !slices.Contains(b.admits[f.Tunnel].Peers, f.Peer) || f.Ref == 0 {
			b.Fatalf("%v: %+v must not be", b.now, f)
		}
		if until := b.barred[f.Tunnel]; b.now.Before(until) {
			b.Fatalf("%v: %+v in a pause until %v", b.now, f, until)
		}
		if len(b.dials) >= b.e.cfg.MaxDials {
			b.Fatalf("%d dials at once", len(b.dials)+1)
		}
		b.dials[f.Ref] = f
	case HangUp:
		b.hangUps = append(b.hangUps, f)
		if f.Conn != 0 {
			if _, ok := b.conns[f.Conn]; !ok || b.carry[f.Tunnel] == f.Conn || f.Reason == "" {
				b.Fatalf("%v: %+v: up %v, carries %d", b.now, f, ok, b.carry[f.Tunnel])
			}
			delete(b.conns, f.Conn)
			return
		}
		if _, ok := b.dials[f.Ref]; !ok || b.cut[f.Ref] {
			b.Fatalf("%v: %+v of none, or again", b.now, f)
		}
		b.cut[f.Ref] = true
	case Complete:
		if f.Conn == 0 || b.carry[f.Tunnel] != f.Conn || !b.e.tunnels[f.Tunnel].cfg.dials() {
			b.Fatalf("%v: %+v: carries %d", b.now, f, b.carry[f.Tunnel])
		}
		b.completes, b.asked = append(b.completes, b.now), append(b.asked, f.Conn)
	case Carry:
		if u, ok := b.conns[f.Conn]; f.Conn != 0 && (!ok || u.Tunnel != f.Tunnel) {
			b.Fatalf("%v: %+v is not up", b.now, f)
		}
		b.carry[f.Tunnel] = f.Conn
	case Admit:
		b.admits[f.Tunnel] = f
	case Resolve:
		b.resolves = append(b.resolves, f.Name)
	case Probe:
		if b.carry[f.Tunnel] == 0 {
			b.Fatalf("%v: %+v through nothing", b.now, f)
		}
		b.probes = append(b.probes, f)
	case ReadTraffic:
		b.reads = append(b.reads, f)
	case Answer:
		b.answers = append(b.answers, f)
	case Changed:
		up := f.State == StateUp || f.State == StateChecking
		if up != (f.Conn != 0) || up != (f.Reason == "") && f.State != StateDialling && f.State != StateResolving || f.State == StateWaiting == f.Until.IsZero() {
			b.Fatalf("%v: %+v", b.now, f)
		}
		b.said[f.Tunnel] = f
		delete(b.barred, f.Tunnel)
		if f.State == StateWaiting {
			c := b.e.tunnels[f.Tunnel].cfg
			// One that has begun before is shown when the dial that was still under way has failed, too.
			if pause := f.Until.Sub(b.now); !f.Until.Equal(b.pauses[f.Tunnel]) && b.e.tunnels[f.Tunnel].Failure.At.Equal(b.now) && (pause < c.Backoff || pause > c.BackoffMax) {
				b.Fatalf("%v: a pause of %v, allowed are %v to %v", b.now, pause, c.Backoff, c.BackoffMax)
			}
			b.barred[f.Tunnel] = f.Until
		}
	}
}

// consistent compares the engine's books with the bed's.
func (b *bed) consistent() {
	b.Helper()
	if len(b.e.byConn) != len(b.conns) || len(b.e.dials) != len(b.dials) {
		b.Fatalf("%v: engine knows %d connections and %d dials, there are %d and %d", b.now, len(b.e.byConn), len(b.e.dials), len(b.conns), len(b.dials))
	}
	for _, t := range b.e.sorted() {
		name, carries := t.cfg.Name, uint32(0)
		if t.active != nil {
			carries = t.active.ID
		}
		if carries != b.carry[name] || len(t.conns) > maxConns || (t.active == nil) != (len(t.conns) == 0) {
			b.Fatalf("%v: %s: carried by %d, said %d, %d connections", b.now, name, carries, b.carry[name], len(t.conns))
		}
		if t.Admin && (t.active != nil || t.try != nil || b.admits[name].Open) {
			b.Fatalf("%v: %s is down and lives", b.now, name)
		}
		if t.active == nil && (!t.StableAt.IsZero() || !t.FallAt.IsZero() || !t.MendAt.IsZero() || !t.Check.deadline().IsZero() || !t.Flow.ReadAt.IsZero()) {
			b.Fatalf("%v: %s has timers of a tunnel that is up: %+v", b.now, name, t.life)
		}
		if t.cfg.Start == NailedUp && t.cfg.dials() && !t.Admin && !b.e.closed && t.active == nil && t.try == nil && t.dial == nil && t.RetryAt.IsZero() {
			b.Fatalf("%v: %s is nailed up, and nobody sees to it", b.now, name)
		}
		if a := b.said[name]; a.State != b.e.present(t).State {
			b.Fatalf("%v: %s is %v and was said to be %v", b.now, name, b.e.present(t).State, a.State)
		}
		if at := t.deadline(); !at.Equal(t.place.At()) {
			b.Fatalf("%v: %s is due at %v and armed for %v", b.now, name, at, t.place.At())
		}
	}
}

// answerDial ends a dial as its peer does.
func (b *bed) answerDial(ref uint64, up bool) {
	b.Helper()
	d := b.dials[ref]
	delete(b.dials, ref)
	delete(b.cut, ref)
	if !up {
		b.step(Down{Ref: ref, Reason: "no-answer", Text: "silence", Dead: true})
		return
	}
	b.lastConn++
	u := Up{Tunnel: d.Tunnel, Ref: ref, Conn: b.lastConn, Peer: d.Peer}
	b.conns[u.Conn] = u
	b.step(u)
}

// meets has a dial reach its peer by a connection that the peer has made meanwhile.
func (b *bed) meets(ref uint64, conn uint32) {
	b.Helper()
	u := b.conns[conn]
	u.Ref = ref
	delete(b.dials, ref)
	delete(b.cut, ref)
	b.step(u)
}

// dialled answers the one dial there is.
func (b *bed) dialled(up bool) {
	b.Helper()
	if len(b.dials) != 1 {
		b.Fatalf("%v: %d dials, want one", b.now, len(b.dials))
	}
	for ref := range b.dials {
		b.answerDial(ref, up)
	}
}

// calls has a peer call.
func (b *bed) calls(tunnel string, peer netip.Addr) uint32 {
	b.Helper()
	b.lastConn++
	u := Up{Tunnel: tunnel, Conn: b.lastConn, Peer: peer}
	b.conns[u.Conn] = u
	b.step(u)
	return u.Conn
}

// ends ends a connection.
func (b *bed) ends(conn uint32, dead bool) {
	b.Helper()
	reason := Reason("peer-deleted")
	if dead {
		reason = "peer-dead"
	}
	delete(b.conns, conn)
	b.step(Down{Conn: conn, Reason: reason, Dead: dead})
}

// world answers everything that is asked as the world is, until nothing is asked.
func (b *bed) world() {
	b.Helper()
	for !b.mute {
		switch {
		case len(b.dials) > 0:
			refs := make([]uint64, 0, len(b.dials))
			for ref := range b.dials {
				refs = append(refs, ref)
			}
			ref := slices.Min(refs)
			b.answerDial(ref, b.alive[b.dials[ref].Peer])
		case len(b.resolves) > 0:
			n := b.resolves[0]
			b.resolves = b.resolves[1:]
			r := Resolved{Name: n, Addrs: b.dns[n]}
			if b.dns[n] == nil {
				r.Reason = "no-such-name"
			}
			b.step(r)
		case len(b.asked) > 0:
			c := b.asked[0]
			if b.asked = b.asked[1:]; b.refuses {
				b.step(PairDown{Conn: c, Pair: "lan", Reason: "peer-refused", Text: "no"})
			} else {
				b.step(PairUp{Conn: c, Pair: "lan"})
			}
		case len(b.probes) > 0:
			p := b.probes[0]
			b.probes = b.probes[1:]
			t := b.e.tunnels[p.Tunnel]
			ok := !b.deaf && t != nil && t.active != nil && b.alive[t.active.Peer]
			b.step(CheckResult{Tunnel: p.Tunnel, Seq: p.Seq, OK: ok, RTT: time.Millisecond, Text: "unreachable"})
		case len(b.reads) > 0:
			r := b.reads[0]
			b.reads = b.reads[1:]
			b.step(Traffic{Conn: r.Conn, InPackets: b.flow[0], OutPackets: b.flow[1]})
		default:
			return
		}
	}
}

// pass lets time pass, and the world answer.
func (b *bed) pass(d time.Duration) {
	b.Helper()
	end := b.now.Add(d)
	b.world()
	for n := 0; ; n++ {
		at := b.e.Deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		if n > 200_000 {
			b.Fatalf("%v: the engine spins", b.now)
		}
		if at.After(b.now) {
			b.now = at
		}
		b.step(Timer{})
		b.world()
	}
	b.now = end
}

// start has the first step done, and the world answer.
func (b *bed) start() *bed {
	b.Helper()
	b.step(Timer{})
	b.world()
	return b
}

// is wants a tunnel in a state, with a peer if it is up.
func (b *bed) is(tunnel string, s State, peer netip.Addr) {
	b.Helper()
	i, ok := b.e.Tunnel(tunnel)
	if !ok || i.State != s || peer.IsValid() && i.Peer != peer {
		b.Fatalf("%v: %s is %v with %v, want %v with %v: %+v", b.now, tunnel, i.State, i.Peer, s, peer, i)
	}
}

func (b *bed) info(tunnel string) Info {
	b.Helper()
	i, ok := b.e.Tunnel(tunnel)
	if !ok {
		b.Fatalf("no tunnel %s", tunnel)
	}
	return i
}

// operator says a word and returns what it was answered.
func (b *bed) operator(tunnel string, c Command) Reason {
	b.Helper()
	n := len(b.answers)
	b.step(Operator{Ref: uint64(n + 7), Tunnel: tunnel, Command: c})
	if len(b.answers) != n+1 || b.answers[n].Ref != uint64(n+7) {
		b.Fatalf("%d answers to one word", len(b.answers)-n)
	}
	return b.answers[n].Reason
}

// reload changes the configuration of the first tunnel.
func (b *bed) reload(change func(*Tunnel)) {
	b.Helper()
	cfg := b.e.cfg
	cfg.Tunnels = slices.Clone(cfg.Tunnels)
	change(&cfg.Tunnels[0])
	if err := cfg.Validate(); err != nil {
		b.Fatalf("%v", err)
	}
	b.step(Reconfigure{Config: cfg})
}

// restart goes on from a snapshot. Dials, lookups and checks under way are forgotten by the world too.
func (b *bed) restart(cfg Config) {
	b.Helper()
	data, err := b.e.Snapshot()
	if err != nil {
		b.Fatalf("%v", err)
	}
	e, err := Restore(b.now, cfg, rand.NewChaCha8([32]byte{2}), data)
	if err != nil {
		b.Fatalf("%v\n%s", err, data)
	}
	b.e = e
	clear(b.dials)
	clear(b.cut)
	clear(b.carry)
	clear(b.said)
	clear(b.barred)
	b.resolves, b.probes, b.reads, b.asked = nil, nil, nil, nil
	b.step(Timer{})
}

// hungUp wants the reasons for which connections and dials were hung up since the last time.
func (b *bed) hungUp(want ...Reason) {
	b.Helper()
	var got []Reason
	for _, h := range b.hangUps {
		got = append(got, h.Reason)
	}
	b.hangUps = nil
	if !slices.Equal(got, want) {
		b.Fatalf("%v: hung up for %v, want %v", b.now, got, want)
	}
}

// one is a configuration of one nailed-up tunnel with the peers.
func one(peers ...netip.Addr) Config {
	t := Tunnel{Name: "hq", Start: NailedUp}
	for _, p := range peers {
		t.Peers = append(t.Peers, Peer{Addr: p})
	}
	return Config{Tunnels: []Tunnel{t}}
}

func with(cfg Config, change func(*Tunnel)) Config {
	change(&cfg.Tunnels[0])
	return cfg
}

func names(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("t%04d", i))
	}
	return out
}

var _ tb = (*testing.T)(nil)
