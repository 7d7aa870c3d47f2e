package ike

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// forge sends a valid message 1 from an address that will never answer.
func forge(r *rig, o offers.Offer, from uint32) []Send {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], from)
	m := isakmp.Message{Header: isakmp.Header{Exchange: isakmp.IdentityProtection}, Payloads: o.First()}
	copy(m.Header.Initiator[:], randomBytes(8))
	return r.give(Packet{Local: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.AddrPortFrom(netip.AddrFrom4(a), 500), Data: m.Append(nil)})
}

// TestHalfOpenFlood: 10,000 forged first messages per second from as many
// addresses while clients connect: they all get in, memory is bounded, and
// nothing remains a minute later.
func TestHalfOpenFlood(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	r.e.cfg.HalfOpen = Config{HalfOpen: HalfOpenLimits{Total: 4096}}.withDefaults().HalfOpen
	o := quickOffer()
	seconds, rate := 4, 10000
	good, bad := 0, 0
	var waiting []*script
	for tick := range seconds * 10 {
		for i := range rate / 10 {
			forge(r, o, uint32(0x0a000000+(tick*1000+i)%10000))
		}
		if r.e.guard.HalfOpen > 4096 {
			t.Fatalf("%d half open", r.e.guard.HalfOpen)
		}
		r.sends, r.reports = r.sends[:0], r.reports[:0]
		// Ten clients a tick whose round trip is one tick.
		for _, s := range waiting {
			if s.main3() && s.main5() {
				good++
			} else {
				bad++
			}
		}
		waiting = waiting[:0]
		for i := range 10 {
			s := newScript(r, o)
			s.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 500)
			s.inner = s.remote.Addr()
			s.id = isakmp.AddrID(s.inner, 0, 0)
			if s.main1() {
				waiting = append(waiting, s)
			} else {
				bad++
			}
		}
		r.pass(100 * time.Millisecond)
	}
	if total := good + bad; good*100 < total*99 {
		t.Errorf("%d of %d clients got in at the first try under the flood", good, total)
	}
	t.Logf("%d of %d first tries got in, %d evicted, %d refused", good, good+bad, r.e.Counters()[DropEvicted], r.e.Counters()[DropHalfOpenTotal])
	for _, x := range r.e.sortedConns() {
		r.e.endConn(x, ReasonOperator, "", false)
	}
	r.pass(3 * time.Minute)
	if len(r.e.sas)+len(r.e.first)+len(r.e.guard.Sources)+r.e.guard.HalfOpen+len(r.e.timers) != 0 {
		t.Errorf("left: %d SAs, %d first, %d sources, %d half open, %d timers", len(r.e.sas), len(r.e.first), len(r.e.guard.Sources), r.e.guard.HalfOpen, len(r.e.timers))
	}
}

// TestHalfOpenHysteresis: refused from the total until below the lower limit.
func TestHalfOpenHysteresis(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	r.e.cfg.HalfOpen = Config{HalfOpen: HalfOpenLimits{Total: 100, Resume: 50}}.withDefaults().HalfOpen
	o := quickOffer()
	for i := range 150 {
		if got := len(forge(r, o, uint32(i+1))) == 1; got != (i < 100) {
			t.Fatalf("message %d: answered %v", i, got)
		}
	}
	if n := r.e.Counters()[DropHalfOpenTotal]; n != 50 {
		t.Errorf("%d refused, want 50", n)
	}
	// The oldest make room once they have had their time.
	r.pass(2 * time.Second)
	if len(forge(r, o, 1000)) != 1 || r.e.guard.HalfOpen != 100 || r.e.Counters()[DropEvicted] != 1 {
		t.Errorf("%d half open, %d evicted", r.e.guard.HalfOpen, r.e.Counters()[DropEvicted])
	}
	r.pass(40 * time.Second)
	if r.e.guard.HalfOpen != 0 || len(forge(r, o, 1001)) != 1 || r.e.guard.Overloaded {
		t.Errorf("after the timeout: %d half open, overloaded %v", r.e.guard.HalfOpen, r.e.guard.Overloaded)
	}
}

// TestPerSource: failures count against their source, successes do not.
func TestPerSource(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	r.e.cfg.HalfOpen.PerSource = 10
	o := quickOffer()
	for i := range 100 {
		s := newScript(r, o)
		if !s.phase1() {
			t.Fatalf("success %d counts against the source", i)
		}
		r.e.endConn(r.e.conns[r.e.sas[s.cookies].Conn], ReasonOperator, "", false)
	}
	failures := 0
	for range 30 {
		s := newScript(r, o)
		s.psk = secret("wrong")
		if !s.main1() {
			break
		}
		s.main3()
		s.main5()
		failures++
	}
	if failures < 4 || failures > 10 {
		t.Errorf("%d failures before the source is refused", failures)
	}
	other := newScript(r, o)
	other.remote = netip.MustParseAddrPort("198.51.100.8:500")
	if !other.main1() {
		t.Error("another source is refused too")
	}
	r.pass(10 * time.Minute)
	if s := newScript(r, o); !s.phase1() {
		t.Error("the source is not forgiven")
	}
}

// TestNATCrowd: 500 clients behind one address reconnect at once, and all get in.
func TestNATCrowd(t *testing.T) {
	w := newWorld(t)
	server := w.add("server", "192.0.2.1", at(testConfig(t, ProfileCompatible, groupKey), "192.0.2.1"))
	x := w.nat("203.0.113.9", false)
	w.jitter = 30 * time.Millisecond
	var clients []*node
	for i := range 500 {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i%250 + 1)}).String()
		c := w.add(addr, addr, at(testConfig(t, ProfileCompatible, groupKey), addr))
		c.behind = x
		clients = append(clients, c)
	}
	for round := range 2 {
		for _, c := range clients {
			c.up = nil
			c.dial("192.0.2.1", 1, 1701)
		}
		w.run(10 * time.Second)
		up := 0
		for _, c := range clients {
			up += len(c.up)
		}
		if up != 500 || len(server.e.conns) != 500 {
			t.Fatalf("round %d: %d clients up, %d connections, %v", round, up, len(server.e.conns), server.e.Counters())
		}
		for _, c := range clients {
			c.step(CloseAll{Reason: ReasonShutdown})
		}
		w.run(2 * time.Minute)
		empty(t, server)
	}
}

// TestAmplification: no client's first message gets back more than 1.5 times its
// size, and nothing is ever sent unasked to who has proven nothing.
func TestAmplification(t *testing.T) {
	for _, profile := range []string{ProfileModern, ProfileLegacy} {
		for _, o := range offers.All() {
			r := serverRig(t, profile)
			r.e.cfg.InvalidCookie = true
			s := newScript(r, o)
			ratio := func(what string, in []byte, out []Send) {
				t.Helper()
				n := 0
				for _, x := range out {
					n += len(x.Data)
				}
				if float64(n) > 1.5*float64(len(in)) {
					t.Errorf("%s, %s: %d bytes for %d", o.Name, what, n, len(in))
				}
			}
			h := s.header(o.Exchange, 0)
			first := isakmp.Message{Header: h, Payloads: o.First()}.Append(nil)
			ratio("message 1", first, s.send(first))
			ratio("message 1 again", first, s.send(first))
			s.cookies.R = isakmp.Cookie{1, 2, 3}
			for _, ex := range []isakmp.ExchangeType{isakmp.IdentityProtection, isakmp.QuickMode, isakmp.Informational, isakmp.Aggressive} {
				m := isakmp.Message{Header: s.header(ex, 1), Payloads: []isakmp.Payload{{Type: isakmp.TypeHash, Body: make([]byte, 20)}}}.Append(nil)
				ratio("unknown cookies", m, s.send(m))
			}
			sent := len(r.sends)
			r.pass(5 * time.Minute)
			if len(r.sends) != sent {
				t.Errorf("%s: %d datagrams unasked", o.Name, len(r.sends)-sent)
			}
		}
	}
	// Errors are limited per source and second.
	r := serverRig(t, ProfileModern)
	n := 0
	for range 1000 {
		n += len(forge(r, offers.Windows(9), 7))
	}
	if n != repliesPerSource {
		t.Errorf("%d errors in one second to one source, want %d", n, repliesPerSource)
	}
	// A peer that has got message 2 or 4 is not reminded.
	r = serverRig(t, ProfileCompatible)
	s := newScript(r, quickOffer())
	s.main1()
	s.main3()
	sent := len(r.sends)
	r.pass(time.Minute)
	if len(r.sends) != sent {
		t.Errorf("%d datagrams unasked in phase 1", len(r.sends)-sent)
	}
}

// TestLogStorm: failing strangers cannot fill the log.
func TestLogStorm(t *testing.T) {
	r := serverRig(t, ProfileModern)
	for i := range 20000 {
		forge(r, offers.Windows(9), uint32(i))
		if i%2000 == 1999 {
			r.pass(time.Second)
		}
	}
	n := 0
	for _, x := range r.reports {
		if x.Level > LevelDebug {
			n++
		}
	}
	if n == 0 || n > 11*reportsPerSecond {
		t.Errorf("%d sentences in ten seconds", n)
	}
}

// TestBusyWorkers: when the Diffie-Hellman pool is full the peer's repeat gets
// another chance.
func TestBusyWorkers(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	r.noDH = true
	s := newScript(r, quickOffer())
	s.main1()
	msg := s.message3()
	if out := s.send(msg); len(out) != 0 || len(r.jobs) != 1 || !r.jobs[0].Unauthenticated {
		t.Fatalf("%d answers, jobs %+v", len(out), r.jobs)
	}
	s.send(msg) // a repeat meanwhile makes no second job
	if len(r.jobs) != 1 {
		t.Errorf("%d jobs", len(r.jobs))
	}
	r.give(DHDone{Job: r.jobs[0].Job, Err: "busy"})
	r.noDH = false
	if !s.main3() || !s.main5() {
		t.Error("the repeat is not taken")
	}
	if r.e.Counters()[DropBusy] != 1 {
		t.Errorf("counters %v", r.e.Counters())
	}
}

// TestMemory prints what a half-open SA and a connection cost, and holds them to
// the limits of targets.md (1 KiB, a few KiB).
func TestMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	e := New(at(testConfig(t, ProfileCompatible, groupKey), "192.0.2.1"), rand.Reader)
	r := &rig{t: t, e: e, now: time.Now(), kernel: map[string]SA{}, sign: signTest, verify: verifyTest}
	o := quickOffer()
	const n = 4000
	before := heap()
	for i := range n {
		forge(r, o, uint32(i))
		r.sends, r.reports = nil, nil
	}
	half := float64(heap()-before) / n
	r.pass(5 * time.Minute)
	r.e = New(e.cfg, rand.Reader)
	before = heap()
	for i := range n {
		s := newScript(r, o)
		s.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 500)
		s.inner = s.remote.Addr()
		s.id = isakmp.AddrID(s.inner, 0, 0)
		if !s.phase1() || !s.quick(o).run() {
			t.Fatal("not up")
		}
		r.sends, r.reports, r.jobs, r.up = nil, nil, nil, nil
		clear(r.kernel)
	}
	r.pass(3 * time.Minute) // past what is kept for repeats
	r.sends, r.reports = nil, nil
	up := float64(heap()-before) / n
	t.Logf("half-open SA %.0f bytes (struct %d+%d), connection %.0f bytes", half, unsafe.Sizeof(phase1{}), unsafe.Sizeof(negotiation{}), up)
	if half > 2048 {
		t.Errorf("a half-open SA costs %.0f bytes", half)
	}
	if up > 6144 {
		t.Errorf("a connection costs %.0f bytes", up)
	}
	runtime.KeepAlive(r)
}
