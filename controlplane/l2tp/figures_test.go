package l2tp

import (
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"testing"
	"time"
)

func TestTunnelFigures(t *testing.T) {
	cfg := profiles("")
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	in, out := 0, 0
	say := func(session SessionID, avps []byte) []Effect {
		in += controlHeaderLen + len(avps)
		eff := p.say(session, avps)
		for _, b := range sends(eff) {
			out += len(b)
		}
		return eff
	}
	request := sccrq(5, "pc").u32(attrBearerCapabilities, 1).u16(attrFirmware, 0x1234).str(attrVendorName, "acme").b
	p.hear(say(0, request))
	s.wait(500 * time.Millisecond)
	say(0, build(msgSCCCN).b) // answered by a ZLB
	upAt := s.now
	s.wait(time.Second)
	got := p.hear(say(0, icrq(9)))
	// ICCN after a message that comes before its turn, twice, and one far ahead of the window.
	later := appendControl(nil, p.lns, 0, p.ns+1, p.nr, build(msgHello).b)
	far := appendControl(nil, p.lns, 0, p.ns+100, p.nr, build(msgHello).b)
	for _, b := range [][]byte{later, later, far} {
		in += len(b)
		for _, a := range sends(p.raw(b)) {
			out += len(a)
		}
	}
	say(got[0].session, iccn().b)
	p.ns++
	// A refused call, one that fails, and a broken message.
	p.hear(say(0, build(msgICRQ).u16(attrSessionID, 10).b))
	p.hear(say(0, icrq(11)))
	queued := s.e.Tunnels()[0].Queued
	p.hear(say(0, build(msgCDN).result(1, 0, "").u16(attrSessionID, 11).b))
	// Data through the process: a frame, one without a session, a broken one, and one of ours.
	frame := appendData(nil, p.lns, got[0].session, false, 0, []byte{0xc0, 0x21, 1, 2})
	p.raw(frame)
	p.raw(appendData(nil, p.lns, got[0].session+1, false, 0, []byte{0xc0, 0x21}))
	p.raw(appendData(nil, p.lns, got[0].session, false, 0, nil))
	sent := len(sends(s.step(SendFrame{p.lns, got[0].session, []byte{0xc0, 0x21, 5}}))[0])

	i := s.e.Tunnels()[0]
	if i.Version != 0x0100 || i.Bearer != 1 || i.Framing != 3 || i.PeerFirmware != 0x1234 || i.PeerVendor != "acme" || i.Window != 4 || i.PeerWindow != 8 {
		t.Errorf("of the peer: %+v", i)
	}
	if i.SessionsTotal != 3 || i.SessionsFailed != 2 || i.Sessions != 1 || !i.Established.Equal(upAt) || i.SingleShot {
		t.Errorf("sessions: %+v", i)
	}
	want := Traffic{RxOctets: uint64(in), RxPackets: 10, RxErrors: 1, RxDiscards: 1, TxOctets: uint64(out), TxPackets: i.Control.TxPackets}
	if i.Control != want || i.Control.TxPackets < 6 {
		t.Errorf("control %+v, want %+v", i.Control, want)
	}
	if i.RxZLB != 0 || i.TxZLB == 0 || i.OutOfSequence != 1 || i.OutOfWindow != 1 || i.Duplicates != 1 {
		t.Errorf("%+v", i)
	}
	if (i.PayloadIn != Traffic{RxOctets: uint64(len(frame) + 10 + 8), RxPackets: 3, RxErrors: 1, RxDiscards: 1}) || (i.PayloadOut != Traffic{TxOctets: uint64(sent), TxPackets: 1}) {
		t.Errorf("payload %+v %+v", i.PayloadIn, i.PayloadOut)
	}
	if queued != 1 {
		t.Errorf("%d messages wait, want ICRP", queued)
	}
	p.ack()
	p.raw(appendControl(nil, p.lns, 0, p.ns, p.nr+50, nil)) // acknowledges what was never sent
	if i = s.e.Tunnels()[0]; i.RxZLB != 2 || i.Queued != 0 || i.Control.RxErrors != 2 {
		t.Errorf("%+v", i)
	}
	c := s.e.Sessions()[0]
	if !c.Incoming || c.CallSerial != 1 || c.Established.IsZero() || c.EffectiveAdmin != AdminEnabled {
		t.Errorf("%+v", c)
	}
	// The tunnel's record, and what is told about its end.
	eff := say(0, build(msgStopCCN).u16(attrTunnelID, 5).result(2, 6, "enough").b)
	s.wait(time.Minute)
	d, r := find[TunnelDown](eff)[0].Tunnel, s.e.Tunnels()[0]
	if r.LastResult != 2 || r.LastError != 6 || r.LastMessage != "enough" || r.State != StateIdle || d.State != StateEstablished || r.SessionsTotal != 3 {
		t.Errorf("%+v\n%+v", d, r)
	}
	d.State, d.Control, d.TxZLB, d.Nr, d.Queued, d.Since = r.State, r.Control, r.TxZLB, r.Nr, r.Queued, r.Since
	if !reflect.DeepEqual(d, r) {
		t.Errorf("the record differs:\n%+v\n%+v", d, r)
	}
}

func TestDestinationFigures(t *testing.T) {
	cfg := Config{Profiles: []DestinationProfile{
		{Name: "any", Hosts: []HostProfile{{Name: "d"}, {Name: "s", Host: "secret", Secret: []byte("geheim"), Challenge: true}}},
		{Name: "lan", LAC: netip.MustParseAddr("10.0.0.9"), Hosts: []HostProfile{{Name: "d"}}},
	}}
	s := newScript(t, cfg)
	a, b := s.peer(1, "203.0.113.5:1701", 1), s.peer(0, "10.0.0.9:1701", 1)
	a.up()
	b.up()
	a.call(1)
	a.call(2)
	b.call(1)
	a.hear(a.say(0, icrq(3))) // being set up
	// A tunnel with a wrong password, one refused for its version, and one that never answers.
	w := s.peer(1, "203.0.113.5:1701", 2)
	w.hear(w.say(0, sccrq(2, "secret").b))
	w.say(0, build(msgSCCCN).bytes(attrChallengeResponse, make([]byte, 16)).b)
	s.peer(1, "203.0.113.5:1701", 3).say(0, build(msgSCCRQ).u16(attrProtocolVersion, 0x0300).str(attrHostName, "pc").u32(attrFramingCapabilities, 3).u16(attrTunnelID, 3).b)
	s.peer(1, "203.0.113.5:1701", 4).say(0, sccrq(4, "pc").b)
	check := func(when string, wants ...DestinationInfo) {
		t.Helper()
		s.restart(cfg)
		got := s.e.Destinations()
		if len(got) != len(wants) {
			t.Fatalf("%s: %+v", when, got)
		}
		for i, want := range wants {
			if got[i].Control.RxPackets == 0 || got[i].Control.TxOctets == 0 {
				t.Errorf("%s: %+v", when, got[i])
			}
			got[i].Control = Traffic{}
			if got[i] != want {
				t.Errorf("%s:\n%+v, want\n%+v", when, got[i], want)
			}
		}
	}
	local := s.local.Addr()
	lan := DestinationInfo{Local: local, Remote: b.remote.Addr(), TunnelsTotal: 1, TunnelsActive: 1, SessionsTotal: 1, SessionsActive: 1}
	pc := DestinationInfo{
		Local: local, Remote: a.remote.Addr(), TunnelsTotal: 4, TunnelsFailed: 2, TunnelsAuthFailed: 1, TunnelsActive: 1,
		SessionsTotal: 3, SessionsActive: 2,
	}
	check("live", lan, pc)
	if got := s.e.Service(); fmt.Sprintf("%+v", got) != "{Admin:enabled Destinations:2 TunnelsTotal:5 TunnelsFailed:2 TunnelsAuthFailed:1 TunnelsActive:2 SessionsTotal:4 SessionsFailed:0 SessionsActive:3 BySessions:map[any:3 any/d:3 lan:1 lan/d:1]}" {
		t.Errorf("%+v", got)
	}
	rx := s.e.Destinations()[1].Control.RxPackets
	s.step(CloseAll{})
	s.wait(time.Minute)
	pc.TunnelsActive, pc.SessionsActive, pc.TunnelsFailed, pc.SessionsFailed = 0, 0, 3, 1
	lan.TunnelsActive, lan.SessionsActive = 0, 0
	check("closed", lan, pc)
	if now := s.e.Destinations()[1].Control.RxPackets; now < rx {
		t.Errorf("%d packets received, before the end %d", now, rx)
	}
	// With its last record an address is forgotten, but for one that is configured.
	s.wait(11 * time.Minute)
	check("forgotten", lan)
	cfg.Profiles = cfg.Profiles[:1]
	s.step(Reconfigure{cfg})
	check("no more configured")
	if got := s.e.Service(); got.TunnelsTotal != 5 || got.TunnelsFailed != 3 || got.SessionsTotal != 4 || got.SessionsFailed != 1 || got.Destinations != 0 {
		t.Errorf("%+v", got)
	}
}

// Clear-text packets from ten thousand forged addresses leave nothing.
func TestDestinationFlood(t *testing.T) {
	cfg := profiles("")
	cfg.MaxHalfOpen = 50
	e := New(cfg, chacha(1))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	request := appendControl(nil, 0, 0, 0, 0, sccrq(1, "pc").b)
	bad := appendControl(nil, 0, 0, 0, 0, avp{mandatory: true, typ: 999}.append(sccrq(1, "pc").b))
	for i := range 10_000 {
		p := Packet{Local: netip.MustParseAddrPort("192.0.2.1:1701"), Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1701), Data: request}
		if i%2 == 0 {
			p.Data = bad
		}
		for _, ef := range e.Step(now, p) {
			if open, ok := ef.(OpenSocket); ok {
				e.Step(now, SocketOpened{Tunnel: open.Tunnel})
			}
		}
		if now = now.Add(time.Second); len(e.destinations) > 61 { // a minute of those that were accepted
			t.Fatalf("%d destinations after %d packets", len(e.destinations), i)
		}
	}
	e.Step(now.Add(time.Hour), Timer{})
	if len(e.destinations)+len(e.ended)+len(e.tunnels) != 0 {
		t.Errorf("left: %d destinations, %d records", len(e.destinations), len(e.ended))
	}
	if err := e.check(); err != nil {
		t.Error(err)
	}
}

// What a call has carried, and whose it was, is known after its end.
func TestCallSettled(t *testing.T) {
	s := newScript(t, profiles(""))
	p, q := s.peer(1, "203.0.113.5:1701", 5), s.peer(2, "203.0.113.6:1701", 6)
	p.up()
	q.up()
	call := p.call(9)
	other := q.call(9)
	frame := appendData(nil, p.lns, call, false, 0, []byte{0xc0, 0x21, 1, 2})
	p.raw(frame)
	p.say(0, build(msgCDN).result(1, 0, "").u16(attrSessionID, 9).b)
	kernel := Traffic{RxOctets: 1000, RxPackets: 10, RxErrors: 1, RxDiscards: 2, TxOctets: 2000, TxPackets: 20, TxErrors: 3}
	s.step(CallSettled{Tunnel: p.lns, Session: call, Payload: kernel})
	s.step(CallSettled{Tunnel: p.lns, Session: call, User: "ann"})
	s.step(CallSettled{Tunnel: p.lns, Session: other, User: "nobody"}) // it lives
	all := kernel
	all.add(Traffic{RxOctets: uint64(len(frame)), RxPackets: 1})
	record := s.e.Sessions()[1]
	if record.Tunnel != p.lns || record.User != "ann" || record.Payload != all {
		t.Errorf("record %+v, want payload %+v", record, all)
	}
	if live := s.e.Sessions()[0]; live.User != "" || live.Payload != (Traffic{}) {
		t.Errorf("the other call %+v", live)
	}
	check := func(what string, want Traffic) {
		t.Helper()
		for _, i := range s.e.Tunnels() {
			if i.ID == p.lns && (i.PayloadIn != want.in() || i.PayloadOut != want.out()) {
				t.Errorf("%s: tunnel has %+v %+v", what, i.PayloadIn, i.PayloadOut)
			}
		}
		if d := s.e.Destinations(); d[0].Payload != want || d[1].Payload != (Traffic{}) {
			t.Errorf("%s: destinations have %+v", what, d)
		}
	}
	check("tunnel that lives", all)
	// The kernel may say it when the tunnel is over.
	s.step(ConnLost{1})
	s.step(CallSettled{Tunnel: p.lns, Session: call, Payload: kernel})
	all.add(kernel)
	check("tunnel that is over", all)
	// And when nothing is left.
	s.wait(601 * time.Second)
	s.step(CallSettled{Tunnel: p.lns, Session: call, User: "ann", Payload: kernel})
}

// In clear text without a password only a session that came up is worth a record: anybody can have calls refused or time out.
func TestRecordsOfStrangers(t *testing.T) {
	for _, c := range []struct {
		conn ConnID
		want int
	}{{0, 1}, {1, 2}} {
		s := newScript(t, profiles(""))
		p := s.peer(c.conn, "203.0.113.5:1701", 5)
		p.up()
		id := p.call(1)
		p.hear(p.say(0, icrq(2)))
		p.say(0, build(msgCDN).result(1, 0, "").u16(attrSessionID, 2).b)
		s.step(CloseSession{Tunnel: p.lns, Session: id})
		if list := s.e.Sessions(); len(list) != c.want {
			t.Errorf("connection %d: %+v", c.conn, list)
		}
	}
}

// Records are reclaimed before their time when there are too many, the oldest first.
func TestRecordsBounded(t *testing.T) {
	cfg := profiles("")
	s := newScript(t, cfg)
	s.e.cfg.MaxHalfOpen = 1 << 14
	const tunnels = maxEndedRecords + 10
	for i := range ConnID(tunnels) {
		id, _ := connect(t, s.e, i+1, 1)
		s.e.Step(s.now, CloseTunnel{Tunnel: id})
	}
	s.now = s.now.Add(3 * time.Second)
	s.e.Step(s.now, Timer{})
	list := s.e.Tunnels()
	if len(list) != maxEndedRecords || s.e.Live() != 0 {
		t.Errorf("%d records, %d live", len(list), s.e.Live())
	}
	p := s.peer(7, "203.0.113.9:1701", 1)
	p.up()
	first := p.call(1)
	s.step(CloseSession{Tunnel: p.lns, Session: first})
	for i := range maxEndedSessions {
		s.e.Step(s.now, Packet{Socket: p.lns, Local: s.local, Remote: p.remote, Conn: 7, Data: appendControl(nil, p.lns, 0, p.ns, s.e.tunnels[p.lns].Channel.Ns, icrq(SessionID(i+2)))})
		p.ns++
		for id := range s.e.tunnels[p.lns].Sessions {
			s.e.Step(s.now, CloseSession{Tunnel: p.lns, Session: id})
		}
	}
	calls := s.e.Sessions()
	if len(calls) != maxEndedSessions || calls[0].Peer != 2 || calls[len(calls)-1].Peer != maxEndedSessions+1 {
		t.Errorf("%d records, from %d", len(calls), calls[0].Peer)
	}
	if err := s.e.check(); err != nil {
		t.Error(err)
	}
}

// A carrier's LAC has a thousand sessions in one tunnel, through a network that loses packets. They are closed one by one from both
// ends, and nothing of them is left.
func TestThousandSessions(t *testing.T) {
	const calls = 1000
	w := newWorld(t, 5)
	w.loss, w.dup, w.delay = 0.1, 0.1, 100*time.Millisecond
	cfg := profiles("geheim")
	cfg.ReceiveWindow, cfg.SetupTimeout, cfg.RetransmitMax = 32, 10*time.Minute, 7
	lns := w.node("192.0.2.1", cfg)
	lac := w.node("198.51.100.7", Config{ReceiveWindow: 32, SetupTimeout: 10 * time.Minute, RetransmitMax: 7})
	for i := range calls {
		w.after(time.Duration(i)*5*time.Millisecond, func() {
			lac.step(Dial{
				Ref: uint64(i + 1), Local: netip.AddrPortFrom(lac.addr, 1701), Remote: netip.AddrPortFrom(lns.addr, 1701),
				Secret: []byte("geheim"), HostName: "carrier", Share: true, Info: CallInfo{CallingNumber: fmt.Sprint(1000 + i)},
			})
		})
	}
	w.run(10 * time.Minute)
	lns.consistent()
	info := lns.e.Tunnels()
	if len(info) != 1 || info[0].Sessions != calls || lns.e.LiveSessions() != calls {
		t.Fatalf("%d tunnels, %d sessions: %+v", len(info), lns.e.LiveSessions(), lns.e.Counters())
	}
	if got := lns.e.Service(); got.SessionsActive != calls || got.BySessions["any/default"] != calls {
		t.Errorf("%+v", got)
	}
	for i, s := range lns.e.Sessions() {
		if i%2 == 0 {
			lns.step(CloseSession{Tunnel: s.Tunnel, Session: s.ID})
		}
	}
	w.run(5 * time.Minute)
	if n, m := lns.e.LiveSessions(), lac.e.LiveSessions(); n != calls/2 || m != calls/2 {
		t.Fatalf("%d and %d sessions are left of %d", n, m, calls)
	}
	for i, s := range lac.e.Sessions()[:calls/2] {
		w.after(time.Duration(i)*time.Millisecond, func() { lac.step(CloseSession{Tunnel: s.Tunnel, Session: s.ID}) })
	}
	w.run(5 * time.Minute)
	for _, n := range []*node{lns, lac} {
		n.consistent()
		got := n.tally()
		if got.sessionUp != calls || got.sessionDown != calls || got.tunnelUp != 1 || got.tunnelDown != 1 || len(n.sockets) != 0 {
			t.Errorf("%s: %+v", n.addr, got)
		}
	}
	if list := lns.e.Tunnels(); list[0].SessionsTotal != calls || list[0].SessionsFailed != 0 || list[0].Retransmits == 0 || list[0].OutOfSequence == 0 {
		t.Errorf("%+v", list)
	}
}

// A session of a large tunnel costs what one of a small tunnel does, in memory too.
func TestSessionsMemory(t *testing.T) {
	const calls = 2000
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range calls {
		p.place(SessionID(i + 1))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / calls
	t.Logf("%d bytes per session", each)
	if each > 768 {
		t.Errorf("%d bytes per session", each)
	}
	runtime.KeepAlive(s)
}

// place sets up a call past the script, which checks the whole engine after each step.
func (p *peer) place(id SessionID) SessionID {
	say := func(session SessionID, avps []byte) []Effect {
		data := appendControl(nil, p.lns, session, p.ns, p.nr, avps)
		p.ns++
		return p.s.e.Step(p.s.now, Packet{Socket: p.lns, Local: p.s.local, Remote: p.remote, Conn: p.conn, Data: data})
	}
	ours := SessionID(0)
	for _, m := range p.hear(say(0, icrq(id))) {
		ours = m.session
	}
	say(ours, iccn().b)
	return ours
}

// BenchmarkCall is the set-up and the end of one session beside others of its tunnel.
func BenchmarkCall(b *testing.B) {
	for _, others := range []int{0, 10_000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			s := newScript(&testing.T{}, profiles(""))
			s.e.cfg.DestructTimeout = -1
			p := s.peer(1, "203.0.113.5:1701", 5)
			p.up()
			for i := range others {
				p.place(SessionID(i + 1))
			}
			b.ReportAllocs()
			for b.Loop() {
				id := p.place(60_000)
				if n := len(s.e.Step(s.now, CloseSession{Tunnel: p.lns, Session: id})); n == 0 {
					b.Fatal("not closed")
				}
				p.nr++
			}
		})
	}
}
