package l2tp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
)

// recording is every datagram that a LAC sends in a good call with tunnel authentication, up to its StopCCN.
func recording(t *testing.T) [][]byte {
	t.Helper()
	w, lns, lac := pair(t, "geheim")
	lns.conn = func(netip.Addr) ConnID { return 1 }
	var sent [][]byte
	lac.trace = func(s string) {
		var data []byte
		fmt.Sscanf(s[len("198.51.100.7:1701 -> 192.0.2.1:1701 "):], "%x", &data)
		sent = append(sent, data)
	}
	lac.dial(1, "192.0.2.1", "geheim")
	w.run(time.Second)
	lac.step(SendFrame{last[SessionUp](lac).Session.Tunnel, last[SessionUp](lac).Session.ID, []byte{0xc0, 0x21, 1, 1, 0, 4}})
	lac.step(CloseAll{})
	w.run(5 * time.Second)
	if len(sent) < 5 {
		t.Fatalf("only %d datagrams recorded", len(sent))
	}
	return sent
}

// replayed feeds the recording to a fresh engine like the one recorded, with one datagram changed, and checks the engine all the way.
func replayed(t *testing.T, cfg Config, sent [][]byte, at int, changed []byte) *script {
	t.Helper()
	s := newScript(t, cfg)
	w := newWorld(t, 7) // the recorded LNS drew its ids from the same source
	s.e = New(cfg, chacha(w.rnd.Uint64()))
	p := s.peer(1, "198.51.100.7:1701", 0)
	for i, data := range sent {
		if i == at {
			data = changed
		}
		p.raw(data)
	}
	return s
}

// Every bit of every datagram of a good call, and every truncation: no panic, the books stay right, and no tunnel comes up from a changed
// challenge response.
func TestBitFlips(t *testing.T) {
	sent := recording(t)
	cfg, single := profiles("geheim"), profiles("geheim")
	single.Profiles[0].Hosts[0].SingleShot = true
	if s := replayed(t, cfg, sent, -1, nil); s.e.Counters()[ReasonPeerStop] != 1 {
		t.Fatalf("the recording does not replay: %v", s.e.Counters())
	}
	for at, data := range sent {
		response := -1
		if _, body, err := parseHeader(data); err == nil {
			if kind, _, _ := peekType(body); kind == msgSCCCN {
				response = len(data) - 16
			}
		}
		for bit := range 8 * len(data) {
			bad := bytes.Clone(data)
			bad[bit/8] ^= 1 << (bit % 8)
			s := replayed(t, cfg, sent, at, bad)
			if response >= 0 && bit/8 >= response && s.e.Counters()[ReasonAuthentication] != 1 {
				t.Fatalf("bit %d of the challenge response changed, and nobody minded", bit-8*response)
			}
			s.wait(3 * time.Minute)
			if len(s.e.tunnels) != 0 {
				t.Fatalf("datagram %d bit %d: %+v are left", at, bit, s.e.Tunnels())
			}
			s = replayed(t, single, sent, at, bad)
			s.wait(3 * time.Minute)
			if u := s.e.uses[1]; len(s.e.tunnels) != 0 || u != nil && !(u.Spent && u.Told) || u == nil && s.e.past.Tunnels > 0 {
				t.Fatalf("datagram %d bit %d, single-shot: %+v are left, connection %+v", at, bit, s.e.Tunnels(), u)
			}
		}
		for n := range data {
			replayed(t, cfg, sent, at, data[:n])
		}
	}
}

// Replayed datagrams of an old call open nothing but a half-open tunnel, which goes away.
func TestReplay(t *testing.T) {
	sent := recording(t)
	s := newScript(t, profiles("geheim"))
	for range 10 {
		for _, data := range sent {
			s.peer(1, "198.51.100.7:1701", 0).raw(data)
		}
	}
	if len(s.e.tunnels) != 1 || s.e.halfOpen != 1 {
		t.Errorf("%+v", s.e.Tunnels())
	}
	s.wait(2 * time.Minute)
	if len(s.e.tunnels) != 0 {
		t.Errorf("%+v", s.e.Tunnels())
	}
}

// FuzzStep feeds arbitrary datagrams, mixed with the passing of time and operator's events, to an engine with a live call.
// The input is a list of (kind, length, bytes).
func FuzzStep(f *testing.F) {
	add := func(packets ...string) {
		var in []byte
		for _, s := range packets {
			b := unhex(f, s)
			in = append(in, 0)
			in = binary.BigEndian.AppendUint16(in, uint16(len(b)))
			in = append(in, b...)
		}
		f.Add(in)
	}
	add(windowsSCCRQ, xl2tpdSCCRQ)
	add(xl2tpdICRQ, xl2tpdICCN, xl2tpdCDN)
	f.Add([]byte{3, 1, 3, 2, 4, 5, 6, 7, 8})
	f.Add([]byte{0, 10, 1, 10, 13, 11, 0, 9, 10, 2, 8, 3})
	f.Add([]byte{1, 4, 3, 9, 6, 11, 1, 10, 6, 5})
	f.Add([]byte{0, 8 + 12*8, 8 + 12*14, 9, 8 + 12*15, 8 + 12*8, 8 + 12*4, 3, 9, 27, 6})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		configure := func(n byte) Config { // standard or single-shot, of two revisions, in three states
			cfg := profiles("")
			if n&1 != 0 {
				cfg = shots()
			}
			cfg.Profiles[0].Hosts[0].Revision = []string{"", "2"}[n>>1&1]
			cfg.Admin = Admin(n >> 2 & 3 % 3)
			return cfg
		}
		cfg := configure(in[0] & 1)
		in = in[1:]
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		session := p.call(50)
		sent, received, dials := 0, 0, 0
		settled := map[uint64]int{} // results of shared Dials by Ref
		spent := map[ConnID]bool{}
		count := func(eff []Effect) {
			for _, f := range find[DialFailed](eff) {
				settled[f.Ref]++
			}
			for _, f := range find[SessionUp](eff) {
				if f.Session.Ref&1 != 0 {
					settled[f.Session.Ref]++
				}
			}
			for _, c := range find[ConnSpent](eff) {
				if spent[c.Conn] || c.Conn == 0 || c.Reason == "" {
					t.Errorf("connection %d is spent again: %+v", c.Conn, c)
				}
				spent[c.Conn] = true
			}
			sent += len(sends(eff)) + len(find[Refuse](eff))
			for _, ef := range eff {
				if d, ok := ef.(SessionDown); ok && d.Reason == "" {
					t.Errorf("session down without a reason: %+v", d)
				}
			}
		}
		for len(in) > 0 {
			kind := in[0]
			in = in[1:]
			switch kind % 12 {
			case 0, 1, 2: // a datagram, as it is, or with the right ids and sequence numbers
				if len(in) < 2 {
					return
				}
				n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
				data := slices.Clone(in[2 : 2+n])
				in = in[2+n:]
				if kind%12 == 1 {
					data = appendControl(nil, p.lns, session, p.ns, p.nr, data)
					p.ns++
				}
				conn := ConnID(1)
				if kind%12 == 2 {
					conn = ConnID(kind / 10)
				}
				before := sent
				count(s.step(Packet{Socket: TunnelID(kind/100) * p.lns, Local: s.local, Remote: p.remote, Conn: conn, Data: data}))
				if received++; sent-before > 70 {
					t.Errorf("%d packets in answer to one", sent-before)
				}
			case 3:
				count(s.wait(time.Duration(kind) * time.Second))
			case 4:
				count(s.step(CloseSession{Tunnel: p.lns, Session: session}))
			case 5:
				count(s.step(CloseTunnel{Tunnel: p.lns}))
			case 6:
				count(s.step(ConnLost{Conn: ConnID(kind / 10)}))
				delete(spent, ConnID(kind/10))
			case 7:
				count(s.step(SendFrame{p.lns, session, []byte{0xc0, 0x21}}))
			case 8: // calls of ours: in a tunnel of its own, in shared ones, and given up
				how := kind / 12
				dials += 2
				d := Dial{Ref: uint64(dials), Local: s.local, Remote: p.remote, Conn: ConnID(how & 1), HideAVPs: how&2 != 0}
				if how&4 != 0 {
					d.Secret, d.Proxy, d.MaxSessions, d.Timeout = []byte("geheim"), pap(), 2, time.Second
				}
				if how&8 != 0 {
					d.Share = true
					d.Ref++
					settled[d.Ref] = 0
				}
				count(s.step(d))
				if how&16 != 0 {
					count(s.step(CancelDial{d.Ref}))
				}
			case 9:
				data, err := s.e.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				if s.e, err = Restore(cfg, chacha(uint64(kind)), data); err != nil {
					t.Fatal(err)
				}
				if err := s.e.check(); err != nil {
					t.Fatal(err)
				}
				// The shell of the next process answers OpenSocket again.
				count(s.step(Timer{}))
			case 10, 11:
				if len(in) == 0 {
					return
				}
				arg := in[0]
				in = in[1:]
				if kind%12 == 11 {
					cfg = configure(arg)
					tunnels, sessions := s.e.Affected(cfg)
					eff := s.step(Reconfigure{cfg})
					count(eff)
					up := slices.DeleteFunc(sessions, func(i SessionInfo) bool { return i.State != StateEstablished })
					if len(find[TunnelDown](eff)) != len(tunnels) || len(find[SessionDown](eff)) != len(up) {
						t.Errorf("told %d tunnels and %d sessions, got %v", len(tunnels), len(up), eff)
					}
					break
				}
				ev := SetAdmin{State: Admin(arg % 3)}
				switch arg / 3 % 4 {
				case 1:
					ev.Destination = p.remote.Addr()
				case 2:
					ev.Tunnel = p.lns
				case 3:
					ev.Tunnel, ev.Session = p.lns, session
				}
				count(s.step(ev))
			}
		}
		count(s.step(CloseAll{}))
		count(s.wait(5 * time.Minute))
		if len(s.e.tunnels) != 0 || len(s.open) != 0 || len(s.e.timers) != 0 {
			t.Errorf("left over: %+v, sockets %v", s.e.Tunnels(), s.open)
		}
		for ref, n := range settled {
			if n != 1 {
				t.Errorf("call %d has %d results", ref, n)
			}
		}
	})
}

// A tunnel with one session costs the engine little more than 2 KiB, its figures included: the daemon may spend 16 KiB per subscriber on everything (targets.md).
func TestMemoryPerTunnel(t *testing.T) {
	const count = 2000
	e := New(profiles("geheim"), chacha(1))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range count {
		connect(t, e, ConnID(i+1), TunnelID(i+1))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / count
	t.Logf("%d bytes per tunnel with a session", each)
	if each > 2304 {
		t.Errorf("%d bytes per tunnel with a session", each)
	}
	runtime.KeepAlive(e)
}

// connect brings up a tunnel and a session as a LAC that knows the password.
func connect(t testing.TB, e *Engine, conn ConnID, peer TunnelID) (TunnelID, SessionID) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := Packet{Local: netip.MustParseAddrPort("192.0.2.1:1701"), Remote: netip.MustParseAddrPort("203.0.113.5:1701"), Conn: conn}
	var lns TunnelID
	var session SessionID
	ns, nr := uint16(0), uint16(0)
	say := func(session SessionID, avps []byte) *message {
		p.Data, p.Socket = appendControl(nil, lns, session, ns, nr, avps), lns
		eff := e.Step(now, p)
		ns++
		if open := find[OpenSocket](eff); len(open) == 1 {
			eff = e.Step(now, SocketOpened{Tunnel: open[0].Tunnel})
		}
		for _, b := range sends(eff) {
			if _, body, err := parseHeader(b); err == nil && len(body) > 0 {
				nr++
				m, _ := decode(body, nil)
				return &m
			}
		}
		return nil
	}
	m := say(0, sccrq(peer, "desktop-4711").b)
	if m == nil {
		t.Fatalf("tunnel %d: no SCCRP: %v", peer, e.Counters())
	}
	lns = m.tunnel
	say(0, build(msgSCCCN).bytes(attrChallengeResponse, challengeResponse(msgSCCCN, []byte("geheim"), m.challenge)).b)
	if m = say(0, icrq(1)); m == nil {
		t.Fatalf("tunnel %d: no ICRP", peer)
	}
	session = m.session
	say(session, iccn().b)
	if tu := e.tunnels[lns]; tu == nil || tu.Sessions[session] == nil || tu.Sessions[session].State != StateEstablished {
		t.Fatalf("tunnel %d is not up", peer)
	}
	return lns, session
}

// BenchmarkSetup is one tunnel with authentication and one session, beside 10,000 that are up.
func BenchmarkSetup(b *testing.B) {
	e := New(profiles("geheim"), chacha(1))
	for i := range 10_000 {
		connect(b, e, ConnID(i+1), 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		connect(b, e, 20_000, 1)
		e.Step(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ConnLost{Conn: 20_000})
	}
}

// BenchmarkHello is the cost of one HELLO and its acknowledgement beside 10,000 tunnels.
func BenchmarkHello(b *testing.B) {
	e := New(profiles("geheim"), chacha(1))
	for i := range 10_000 {
		connect(b, e, ConnID(i+1), 1)
	}
	lns, _ := connect(b, e, 20_000, 1)
	now := time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC)
	p := Packet{Socket: lns, Remote: netip.MustParseAddrPort("203.0.113.5:1701"), Conn: 20_000}
	hello, ns := build(msgHello).b, uint16(4)
	b.ReportAllocs()
	for b.Loop() {
		p.Data = appendControl(p.Data[:0], lns, 0, ns, 2, hello)
		ns++
		if len(e.Step(now, p)) != 1 {
			b.Fatal("no acknowledgement")
		}
	}
}
