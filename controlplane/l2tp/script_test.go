package l2tp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// script drives one engine by hand and looks at every effect.
type script struct {
	t      *testing.T
	e      *Engine
	now    time.Time
	local  netip.AddrPort
	open   map[TunnelID]bool
	manual bool // do not answer OpenSocket
}

func newScript(t *testing.T, cfg Config) *script {
	return &script{
		t: t, e: New(cfg, chacha(1)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), local: netip.MustParseAddrPort("192.0.2.1:1701"),
		open: make(map[TunnelID]bool),
	}
}

// step feeds an event, answers OpenSocket unless told otherwise, and checks the engine.
func (s *script) step(ev Event) []Effect {
	s.t.Helper()
	var all []Effect
	for _, ef := range s.e.Step(s.now, ev) {
		all = append(all, ef)
		switch ef := ef.(type) {
		case OpenSocket:
			if !s.manual {
				s.open[ef.Tunnel] = true
				all = append(all, s.step(SocketOpened{Tunnel: ef.Tunnel})...)
			}
		case CloseSocket:
			if !s.open[ef.Tunnel] && !s.manual {
				s.t.Fatalf("CloseSocket for %d, which is not open", ef.Tunnel)
			}
			delete(s.open, ef.Tunnel)
		case Send:
			if !s.open[ef.Tunnel] && !s.manual {
				s.t.Fatalf("Send through %d, which is not open", ef.Tunnel)
			}
		}
	}
	if err := s.e.check(); err != nil {
		s.t.Fatalf("after %T: %v", ev, err)
	}
	return all
}

// wait lets time pass and runs the timers on the way.
func (s *script) wait(d time.Duration) []Effect {
	s.t.Helper()
	var all []Effect
	end := s.now.Add(d)
	for rounds := 0; ; rounds++ {
		due := s.e.Deadline()
		if due.IsZero() || due.After(end) {
			break
		}
		if due.After(s.now) {
			s.now = due
		}
		all = append(all, s.step(Timer{})...)
		if rounds > 10000 {
			s.t.Fatal("the deadline does not move")
		}
	}
	s.now = end
	return all
}

// peer is a hand-made LAC.
type peer struct {
	s      *script
	conn   ConnID
	remote netip.AddrPort
	id     TunnelID // ours at the LAC
	lns    TunnelID // the LNS's
	ns, nr uint16
}

func (s *script) peer(conn ConnID, remote string, id TunnelID) *peer {
	return &peer{s: s, conn: conn, remote: netip.MustParseAddrPort(remote), id: id}
}

// raw sends a datagram.
func (p *peer) raw(data []byte) []Effect {
	p.s.t.Helper()
	socket := TunnelID(0)
	if h, _, err := parseHeader(data); err == nil && p.s.open[h.tunnel] {
		socket = h.tunnel
	}
	return p.s.step(Packet{Socket: socket, Local: p.s.local, Remote: p.remote, Conn: p.conn, Data: data})
}

// say sends the next control message of a session, 0 for the tunnel.
func (p *peer) say(session SessionID, avps []byte) []Effect {
	p.s.t.Helper()
	data := appendControl(nil, p.lns, session, p.ns, p.nr, avps)
	p.ns++
	return p.raw(data)
}

// ack acknowledges everything with a ZLB.
func (p *peer) ack() []Effect {
	p.s.t.Helper()
	return p.raw(appendControl(nil, p.lns, 0, p.ns, p.nr, nil))
}

// hear takes the control packets out of effects and checks that they are for this peer; messages count as received.
func (p *peer) hear(effects []Effect) (msgs []message) {
	p.s.t.Helper()
	for _, b := range sends(effects) {
		h, body, err := parseHeader(b)
		if err != nil || h.tunnel != p.id {
			p.s.t.Fatalf("packet %x for tunnel %d: %v", b, p.id, err)
		}
		if !h.control || len(body) == 0 {
			continue
		}
		m, failed := decode(body, []byte("geheim"))
		if failed != nil {
			p.s.t.Fatalf("packet %x: %v", b, failed)
		}
		if h.ns == p.nr {
			p.nr++
		}
		if m.kind == msgSCCRP {
			p.lns = m.tunnel
		}
		msgs = append(msgs, m)
	}
	return msgs
}

func sccrq(id TunnelID, host string) *builder {
	return build(msgSCCRQ).u16(attrProtocolVersion, 0x0100).str(attrHostName, host).u32(attrFramingCapabilities, 3).
		u16(attrTunnelID, uint16(id)).u16(attrReceiveWindow, 8)
}

func icrq(id SessionID) []byte {
	return build(msgICRQ).u16(attrSessionID, uint16(id)).u32(attrCallSerial, 1).b
}

func iccn() *builder { return build(msgICCN).u32(attrTxSpeed, 100_000_000).u32(attrFramingType, 1) }

func kinds(msgs []message) string {
	var s []string
	for _, m := range msgs {
		s = append(s, m.kind.String())
	}
	return fmt.Sprint(s)
}

// up opens the tunnel.
func (p *peer) up() {
	p.s.t.Helper()
	if got := p.hear(p.say(0, sccrq(p.id, "pc").b)); kinds(got) != "[SCCRP]" {
		p.s.t.Fatalf("answer to SCCRQ: %v", kinds(got))
	}
	eff := p.say(0, build(msgSCCCN).b)
	if len(find[TunnelUp](eff)) != 1 {
		p.s.t.Fatalf("answer to SCCCN: %v", eff)
	}
}

// call sets up a session and returns the LNS's id.
func (p *peer) call(id SessionID) SessionID {
	p.s.t.Helper()
	got := p.hear(p.say(0, icrq(id)))
	if kinds(got) != "[ICRP]" {
		p.s.t.Fatalf("answer to ICRQ: %v", kinds(got))
	}
	if up := find[SessionUp](p.say(got[0].session, iccn().b)); len(up) != 1 || up[0].Session.Peer != id {
		p.s.t.Fatalf("after ICCN: %+v", up)
	}
	return got[0].session
}

func find[T Effect](effects []Effect) (list []T) {
	for _, ef := range effects {
		if x, ok := ef.(T); ok {
			list = append(list, x)
		}
	}
	return list
}

func sends(effects []Effect) (list [][]byte) {
	for _, ef := range find[Send](effects) {
		list = append(list, ef.Data)
	}
	return list
}

func (s *script) counted(reason Reason, want uint64) {
	s.t.Helper()
	if got := s.e.Counters()[reason]; got != want {
		s.t.Errorf("%s counted %d times, want %d", reason, got, want)
	}
}

// Two Windows PCs behind one NAT: same address, same port 1701, same tunnel id 1; only the IPsec connection differs.
func TestTwoPCsBehindOneNAT(t *testing.T) {
	s := newScript(t, profiles(""))
	a, b := s.peer(1, "203.0.113.5:1701", 1), s.peer(2, "203.0.113.5:1701", 1)
	for _, p := range []*peer{a, b} {
		if got := p.hear(p.raw(unhex(t, windowsSCCRQ))); kinds(got) != "[SCCRP]" {
			t.Fatalf("answer to SCCRQ: %v", kinds(got))
		}
		p.ns = 1
		p.say(0, build(msgSCCCN).b)
	}
	if a.lns == b.lns || a.lns < TunnelIDMin || b.lns < TunnelIDMin {
		t.Fatalf("tunnel ids %d and %d", a.lns, b.lns)
	}
	sa, sb := a.call(1), b.call(1)
	frame := []byte{0xff, 0x03, 0xc0, 0x21, 1, 1, 0, 4}
	if f := find[FrameReceived](a.raw(appendData(nil, a.lns, sa, false, 0, frame[2:]))); len(f) != 1 || f[0].Tunnel != a.lns {
		t.Errorf("%+v", f)
	}
	// Neither PC can speak in the other's tunnel.
	thief := s.peer(1, "203.0.113.5:1701", 1)
	if eff := thief.raw(appendData(nil, b.lns, sb, false, 0, frame[2:])); len(eff) != 0 {
		t.Errorf("foreign data gave %v", eff)
	}
	if eff := thief.raw(appendControl(nil, b.lns, 0, b.ns, b.nr, build(msgStopCCN).u16(attrTunnelID, 1).result(1, 0, "").b)); len(eff) != 0 {
		t.Errorf("foreign StopCCN gave %v", eff)
	}
	s.counted(ReasonForeignConn, 2)
	// One leaves, the other stays.
	s.step(ConnLost{Conn: 1})
	if list := s.e.Sessions(); len(list) != 1 || list[0].Conn != 2 {
		t.Errorf("%+v", list)
	}
}

func TestForeignAddressAndSteering(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	moved := s.peer(1, "203.0.113.5:1702", 5)
	if eff := moved.raw(appendControl(nil, p.lns, 0, p.ns, p.nr, build(msgHello).b)); len(eff) != 0 {
		t.Errorf("%v", eff)
	}
	s.counted(ReasonForeignAddress, 1)
	// At the listener, because the kernel's steering rules are gone: served, but counted.
	eff := s.step(Packet{Local: s.local, Remote: p.remote, Conn: 1, Data: appendControl(nil, p.lns, 0, p.ns, p.nr, build(msgHello).b)})
	if got := sends(eff); len(got) != 1 || len(got[0]) != controlHeaderLen {
		t.Errorf("HELLO at the listener: %v", eff)
	}
	s.counted(ReasonNotSteered, 1)
	p.ns++
	// An SCCRQ that arrives at another tunnel's socket opens a tunnel all the same.
	eff = s.step(Packet{Socket: p.lns, Local: s.local, Remote: p.remote, Conn: 2, Data: unhex(t, windowsSCCRQ)})
	if open := find[OpenSocket](eff); len(open) != 1 || open[0].Conn != 2 {
		t.Errorf("%v", eff)
	}
}

// In clear text nothing is repeated unasked, and each repeated SCCRQ gets one answer; through IPsec SCCRP is repeated
// like anything else.
func TestRepeatedSCCRQ(t *testing.T) {
	for _, conn := range []ConnID{0, 1} {
		t.Run(fmt.Sprintf("conn=%d", conn), func(t *testing.T) {
			s := newScript(t, profiles(""))
			p := s.peer(conn, "203.0.113.5:1701", 1)
			request := unhex(t, windowsSCCRQ)
			first := sends(p.raw(request))
			for range 3 {
				again := p.raw(request)
				if got := sends(again); len(again) != 1 || len(got) != 1 || !bytes.Equal(got[0], first[0]) {
					t.Fatalf("answer to a repeated SCCRQ: %v", again)
				}
			}
			unasked := len(sends(s.wait(40 * time.Second)))
			if conn == 0 && unasked != 0 || conn != 0 && unasked != 5 {
				t.Errorf("%d SCCRP unasked", unasked)
			}
			eff := s.wait(30 * time.Second)
			down := find[TunnelDown](eff)
			switch {
			case len(down) != 1 || down[0].Tunnel.State != StateConnecting:
				t.Errorf("%v", eff)
			case conn == 0 && (down[0].Reason != ReasonSetupTimeout || len(sends(eff)) != 0):
				t.Errorf("clear text: %v", eff)
			case conn != 0 && down[0].Reason != ReasonNoAnswer:
				t.Errorf("IPsec: %v", eff)
			}
			s.wait(time.Minute)
			if len(s.e.tunnels) != 0 || len(s.open) != 0 {
				t.Errorf("left: %+v", s.e.Tunnels())
			}
		})
	}
}

// A forged source gets no more than about one and a half times what was sent in its name.
func TestAmplification(t *testing.T) {
	cfg := profiles("geheim")
	cfg.HostName = "vpn.example.net"
	for _, request := range [][]byte{sccrq(1, "p").b, sccrq(1, "desktop-pc").b, unhex(t, windowsSCCRQ)[controlHeaderLen:],
		append(sccrq(1, "pc").b, avp{mandatory: true, typ: 999}.append(nil)...)} {
		s := newScript(t, cfg)
		eff := s.peer(0, "203.0.113.5:1701", 1).raw(appendControl(nil, 0, 0, 0, 0, request))
		out := sends(eff)
		for _, r := range find[Refuse](eff) {
			out = append(out, r.Data)
		}
		if len(out) != 1 {
			t.Fatalf("%d answers: %v", len(out), eff)
		}
		if ratio := float64(len(out[0])+28) / float64(len(request)+controlHeaderLen+28); ratio > 1.55 {
			t.Errorf("%d bytes for %d: %.2f", len(out[0]), len(request)+controlHeaderLen, ratio)
		}
	}
}

func TestProfiles(t *testing.T) {
	lan := netip.MustParseAddr("10.0.0.9")
	cfg := Config{Profiles: []DestinationProfile{
		{Name: "any", LAC: netip.IPv4Unspecified(), Hosts: []HostProfile{
			{Name: "default", RequireIPsec: true},
			{Name: "office", Host: "office", Local: netip.MustParseAddr("192.0.2.1")},
			{Name: "office2", Host: "office", Local: netip.MustParseAddr("192.0.2.2")},
		}},
		{Name: "lan", LAC: lan, Hosts: []HostProfile{{Host: "router"}}},
	}}
	for _, c := range []struct {
		name, remote, local, host string
		conn                      ConnID
		profile, hostProfile      string
		reason                    Reason
	}{
		{"default through IPsec", "203.0.113.5", "192.0.2.1", "pc", 1, "any", "default", ""},
		{"default in clear", "203.0.113.5", "192.0.2.1", "pc", 0, "", "", ReasonClearText},
		{"named host in clear", "203.0.113.5", "192.0.2.1", "office", 0, "any", "office", ""},
		{"named host by called address", "203.0.113.5", "192.0.2.2", "office", 0, "any", "office2", ""},
		{"named host at another address gets no default", "203.0.113.5", "192.0.2.3", "office", 1, "", "", ReasonNoHostProfile},
		{"exact address", "10.0.0.9", "192.0.2.1", "router", 0, "lan", "router", ""},
		{"exact address decides alone", "10.0.0.9", "192.0.2.1", "pc", 1, "", "", ReasonNoHostProfile},
		{"mapped address", "::ffff:10.0.0.9", "::ffff:192.0.2.1", "router", 0, "lan", "router", ""},
		{"IPv6 matches any", "2001:db8::5", "2001:db8::1", "pc", 1, "any", "default", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, cfg)
			s.local = netip.AddrPortFrom(netip.MustParseAddr(c.local), 1701)
			p := s.peer(c.conn, netip.AddrPortFrom(netip.MustParseAddr(c.remote), 1701).String(), 1)
			eff := p.say(0, sccrq(1, c.host).b)
			if c.reason != "" {
				s.counted(c.reason, 1)
				if r := find[Report](eff); len(eff) != 1 || len(r) != 1 || r[0].Level != LevelDebug || r[0].Reason != c.reason {
					t.Errorf("%v", eff)
				}
				return
			}
			list := s.e.Tunnels()
			if len(list) != 1 || list[0].Profile != c.profile || list[0].HostProfile != c.hostProfile {
				t.Errorf("%+v", list)
			}
		})
	}
	s := newScript(t, Config{Profiles: []DestinationProfile{{Name: "lan", LAC: lan}}})
	if eff := s.peer(0, "203.0.113.5:1701", 1).say(0, sccrq(1, "pc").b); len(find[OpenSocket](eff)) != 0 {
		t.Errorf("%v", eff)
	}
	s.counted(ReasonNoProfile, 1)
}

func TestSockets(t *testing.T) {
	request := unhex(t, windowsSCCRQ)
	t.Run("port in use", func(t *testing.T) {
		s := newScript(t, profiles(""))
		s.manual = true
		p := s.peer(3, "203.0.113.5:1701", 1)
		first := find[OpenSocket](p.raw(request))
		if len(first) != 1 || first[0].Conn != 3 || first[0].Remote != p.remote || first[0].Local != s.local {
			t.Fatalf("%+v", first)
		}
		if eff := p.raw(request); len(eff) != 0 {
			t.Errorf("a repeated SCCRQ before the socket is open gave %v", eff)
		}
		eff := s.step(SocketOpened{Tunnel: first[0].Tunnel, InUse: true})
		second := find[OpenSocket](eff)
		if len(eff) != 1 || len(second) != 1 || second[0].Tunnel == first[0].Tunnel {
			t.Fatalf("%v", eff)
		}
		got := p.hear(s.step(SocketOpened{Tunnel: second[0].Tunnel}))
		if kinds(got) != "[SCCRP]" || got[0].tunnel != second[0].Tunnel {
			t.Errorf("%+v", got)
		}
		if eff := p.say(0, build(msgSCCCN).b); len(find[TunnelUp](eff)) != 0 {
			t.Errorf("SCCCN with the sequence number of SCCRQ gave %v", eff)
		}
		if eff := p.say(0, build(msgSCCCN).b); len(find[TunnelUp](eff)) != 1 {
			t.Errorf("%v", eff)
		}
	})
	t.Run("always in use", func(t *testing.T) {
		s := newScript(t, profiles(""))
		s.manual = true
		eff := s.peer(3, "203.0.113.5:1701", 1).raw(request)
		for range maxSocketTries {
			open := find[OpenSocket](eff)
			if len(open) != 1 {
				t.Fatalf("%v", eff)
			}
			eff = s.step(SocketOpened{Tunnel: open[0].Tunnel, InUse: true})
		}
		if down := find[TunnelDown](eff); len(down) != 1 || down[0].Reason != ReasonSocket || len(s.e.tunnels) != 0 {
			t.Errorf("%v", eff)
		}
	})
	t.Run("error", func(t *testing.T) {
		s := newScript(t, profiles(""))
		s.manual = true
		open := find[OpenSocket](s.peer(3, "203.0.113.5:1701", 1).raw(request))
		eff := s.step(SocketOpened{Tunnel: open[0].Tunnel, Err: "no buffer space"})
		if down := find[TunnelDown](eff); len(down) != 1 || down[0].Text != "no buffer space" || len(find[CloseSocket](eff)) != 0 {
			t.Errorf("%v", eff)
		}
		if len(s.e.tunnels) != 0 {
			t.Error("the tunnel is still there")
		}
	})
	t.Run("lost while opening", func(t *testing.T) {
		s := newScript(t, profiles(""))
		s.manual = true
		open := find[OpenSocket](s.peer(3, "203.0.113.5:1701", 1).raw(request))
		if eff := s.step(ConnLost{Conn: 3}); len(find[TunnelDown](eff)) != 1 || len(find[CloseSocket](eff)) != 0 {
			t.Errorf("%v", eff)
		}
		if eff := s.step(SocketOpened{Tunnel: open[0].Tunnel}); len(eff) != 1 || eff[0] != (CloseSocket{open[0].Tunnel}) {
			t.Errorf("%v", eff)
		}
		if len(s.e.tunnels) != 0 {
			t.Error("the tunnel is still there")
		}
	})
}

func TestLimitsOnTunnels(t *testing.T) {
	cfg := profiles("")
	cfg.MaxHalfOpen, cfg.MaxHalfOpenPerPeer, cfg.MaxTunnels = 5, 2, 6
	s := newScript(t, cfg)
	ask := func(conn ConnID, remote string, id TunnelID) []Effect {
		return s.peer(conn, remote, id).say(0, sccrq(id, "pc").b)
	}
	// In clear text the address counts, whatever the port; through IPsec the connection.
	for id := range TunnelID(3) {
		ask(0, fmt.Sprintf("203.0.113.5:%d", 2000+id), id+1)
		ask(7, "203.0.113.5:1701", id+1)
	}
	s.counted(ReasonHalfOpenPeer, 2)
	ask(0, "203.0.113.6:1701", 1)
	if eff := ask(0, "203.0.113.7:1701", 1); len(eff) != 0 {
		t.Errorf("%v", eff)
	}
	s.counted(ReasonHalfOpen, 1)
	if got := len(s.e.tunnels); got != 5 {
		t.Errorf("%d tunnels", got)
	}
	s.wait(2 * time.Minute)
	if s.e.halfOpen != 0 || len(s.e.halfOpenBy) != 0 {
		t.Errorf("half-open %d, %v", s.e.halfOpen, s.e.halfOpenBy)
	}
	// Established tunnels are not half-open, but count towards the total.
	for i := range 6 {
		s.peer(ConnID(20+i), "203.0.113.5:1701", 1).up()
	}
	eff := ask(30, "203.0.113.5:1701", 1)
	refused := find[Refuse](eff)
	if len(refused) != 1 || refused[0].Conn != 30 {
		t.Fatalf("%v", eff)
	}
	h, body, err := parseHeader(refused[0].Data)
	m, failed := decode(body, nil)
	if err != nil || failed != nil || h.tunnel != 1 || h.nr != 1 || m.kind != msgStopCCN || m.result != StopError || m.err != ErrorResources || m.tunnel == 0 || m.tunnel >= TunnelIDMin {
		t.Errorf("refusal %+v %+v", h, m)
	}
	for range 100 {
		ask(30, "203.0.113.5:1701", 1)
	}
	s.counted(ReasonRefusalRate, 101-refusalsPerSec)
	if eff := ask(0, "203.0.113.5:1701", 1); len(eff) != 0 {
		t.Errorf("clear text: %v", eff)
	}
}

func TestLimitsOnSessions(t *testing.T) {
	cfg := Config{MaxSessions: 3, Profiles: []DestinationProfile{
		{Name: "p", MaxSessions: 2, Hosts: []HostProfile{{Name: "h", Host: "pc", MaxSessions: 1}, {Name: "d"}}},
		{Name: "q", LAC: netip.MustParseAddr("10.0.0.1"), Hosts: []HostProfile{{Name: "d"}}},
	}}
	s := newScript(t, cfg)
	named, other, third := s.peer(1, "203.0.113.5:1701", 1), s.peer(2, "203.0.113.6:1701", 1), s.peer(3, "10.0.0.1:1701", 1)
	named.up()
	refusal := func(p *peer, reason Reason, count uint64) {
		t.Helper()
		got := p.hear(p.say(0, icrq(77)))
		if kinds(got) != "[CDN]" || got[0].result != CallNoFacilities || got[0].err != ErrorResources || got[0].session == 0 {
			t.Errorf("%+v", got)
		}
		s.counted(reason, count)
	}
	first := named.call(10)
	refusal(named, ReasonHostLimit, 1)
	other.hear(other.say(0, sccrq(1, "mac").b))
	other.say(0, build(msgSCCCN).b)
	other.call(10)
	refusal(other, ReasonProfileLimit, 1)
	refusal(named, ReasonProfileLimit, 2) // the destination profile is asked first (G11)
	third.up()
	third.call(10)
	refusal(third, ReasonSessionLimit, 1)
	s.step(CloseSession{Tunnel: named.lns, Session: first})
	if id := third.call(11); id == 0 {
		t.Error("no session after another has gone")
	}
}

// Android's mtpd has window 1, sends ICRQ only after SCCCN has been acknowledged, and starts PPP only after ICCN has been.
func TestMtpd(t *testing.T) {
	s := newScript(t, profiles("geheim"))
	p := s.peer(1, "203.0.113.5:40000", 0x3a7f)
	p.ns = 1
	got := p.hear(p.raw(unhex(t, mtpdSCCRQ)))
	if kinds(got) != "[SCCRP]" || got[0].challenge == nil {
		t.Fatalf("%+v", got)
	}
	zlb := func(eff []Effect) {
		t.Helper()
		b := sends(eff)
		if len(b) != 1 || len(b[0]) != controlHeaderLen {
			t.Fatalf("no ZLB at once: %v", eff)
		}
		if h, _, _ := parseHeader(b[0]); h.nr != p.ns {
			t.Fatalf("ZLB acknowledges %d, want %d", h.nr, p.ns)
		}
	}
	zlb(p.say(0, build(msgSCCCN).bytes(attrChallengeResponse, challengeResponse(msgSCCCN, []byte("geheim"), got[0].challenge)).b))
	got = p.hear(p.say(0, icrq(1)))
	zlb(p.say(got[0].session, iccn().b))
	one := got[0].session
	got = p.hear(p.say(0, icrq(2))) // mtpd never does, but the window is easier to see
	zlb(p.say(got[0].session, iccn().b))
	p.ack()
	// Two CDN: the second waits for the acknowledgement of the first.
	if b := sends(s.step(CloseSession{Tunnel: p.lns, Session: one})); len(b) != 1 {
		t.Errorf("%d packets", len(b))
	}
	if b := sends(s.step(CloseSession{Tunnel: p.lns, Session: got[0].session})); len(b) != 0 {
		t.Errorf("%d packets in flight beyond the window of 1", len(b)+1)
	}
	// While it waits, what the peer sends is still acknowledged at once.
	b := sends(p.say(0, build(msgHello).b))
	if len(b) != 1 || len(b[0]) != controlHeaderLen {
		t.Errorf("HELLO answered with %x", b)
	}
	p.nr++
	if b := sends(p.ack()); len(b) != 1 {
		t.Errorf("the second CDN did not follow: %x", b)
	}
}

func TestUnwelcomeMessages(t *testing.T) {
	hello := build(msgHello).b
	for _, c := range []struct {
		name    string
		session func(up SessionID) SessionID
		avps    []byte
		answer  string // control messages of the LNS, a ZLB is always sent
		result  uint16
		err     uint16
		ends    string // "tunnel", "session" or nothing
	}{
		{"HELLO", nil, hello, "[]", 0, 0, ""},
		{"SCCCN again", nil, build(msgSCCCN).b, "[StopCCN]", StopStateMachine, 0, "tunnel"},
		{"SCCRQ inside", nil, sccrq(9, "pc").b, "[StopCCN]", StopStateMachine, 0, "tunnel"},
		{"SCCRP", nil, build(msgSCCRP).u16(attrProtocolVersion, 0x100).str(attrHostName, "x").u32(attrFramingCapabilities, 3).u16(attrTunnelID, 4).b, "[StopCCN]", StopStateMachine, 0, "tunnel"},
		{"no message type", nil, builderOf(attrSessionID, 0, 1), "[StopCCN]", StopError, ErrorLength, "tunnel"},
		{"unknown mandatory message", nil, builderOf(attrMessageType, 0, 99), "[StopCCN]", StopError, ErrorUnknownAVP, "tunnel"},
		{"unknown optional message", nil, avp{typ: attrMessageType, value: []byte{0, 99}}.append(nil), "[]", 0, 0, ""},
		{"HELLO with an unknown mandatory AVP", nil, avp{mandatory: true, typ: 999}.append(bytes.Clone(hello)), "[StopCCN]", StopError, ErrorUnknownAVP, "tunnel"},
		{"OCRQ", nil, build(msgOCRQ).u16(attrSessionID, 9).u32(attrCallSerial, 1).b, "[CDN]", CallNeverFacilities, 0, ""},
		{"ICRQ with session id 0", nil, icrq(0), "[StopCCN]", StopError, ErrorRange, "tunnel"},
		{"ICRQ without a serial number", nil, build(msgICRQ).u16(attrSessionID, 9).b, "[CDN]", CallError, ErrorVendor, ""},
		{"ICRQ with an unknown mandatory AVP", nil, avp{mandatory: true, typ: 999}.append(icrq(9)), "[CDN]", CallError, ErrorUnknownAVP, ""},
		{"ICRQ with the id of a live session", nil, icrq(50), "[CDN]", CallError, ErrorRange, "session"},
		{"WEN", same, build(msgWEN).bytes(attrCallErrors, make([]byte, 26)).b, "[]", 0, 0, ""},
		{"SLI from a LAC", same, build(msgSLI).bytes(attrACCM, make([]byte, 10)).b, "[CDN]", CallError, ErrorVendor, "session"},
		{"ICRP from a LAC", same, build(msgICRP).u16(attrSessionID, 9).b, "[CDN]", CallError, ErrorVendor, "session"},
		{"ICCN again", same, iccn().b, "[CDN]", CallError, ErrorVendor, "session"},
		{"ICCN with an unknown mandatory AVP", same, avp{mandatory: true, typ: 999}.append(iccn().b), "[CDN]", CallError, ErrorUnknownAVP, "session"},
		{"ICCN for nobody", func(id SessionID) SessionID { return id + 1 }, iccn().b, "[]", 0, 0, ""},
		{"CDN for nobody", func(id SessionID) SessionID { return id + 1 }, build(msgCDN).result(1, 0, "").u16(attrSessionID, 8).b, "[]", 0, 0, ""},
		{"CDN", same, build(msgCDN).result(1, 0, "").u16(attrSessionID, 50).b, "[]", 0, 0, "session"},
		{"CDN by the peer's id", nil, build(msgCDN).result(1, 0, "").u16(attrSessionID, 50).b, "[]", 0, 0, "session"},
		{"broken CDN", same, build(msgCDN).b, "[]", 0, 0, "session"},
		{"broken StopCCN", nil, build(msgStopCCN).b, "[]", 0, 0, "tunnel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, profiles(""))
			p := s.peer(1, "203.0.113.5:1701", 5)
			p.up()
			id := p.call(50)
			session := SessionID(0)
			if c.session != nil {
				session = c.session(id)
			}
			eff := p.say(session, c.avps)
			got := p.hear(eff)
			if kinds(got) != c.answer {
				t.Fatalf("answered with %s", kinds(got))
			}
			if len(got) == 0 {
				if b := sends(eff); len(b) != 1 || len(b[0]) != controlHeaderLen {
					t.Errorf("no acknowledgement: %v", eff)
				}
			} else if got[0].result != c.result || got[0].err != c.err {
				t.Errorf("result %d error %d, want %d and %d", got[0].result, got[0].err, c.result, c.err)
			}
			tunnels, sessions := len(find[TunnelDown](eff)), len(find[SessionDown](eff))
			want := map[string][2]int{"": {0, 0}, "session": {0, 1}, "tunnel": {1, 1}}[c.ends]
			if [2]int{tunnels, sessions} != want {
				t.Errorf("%d tunnels and %d sessions ended, want %v", tunnels, sessions, want)
			}
		})
	}
}

func same(id SessionID) SessionID { return id }

func TestBeforeEstablished(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.hear(p.say(0, sccrq(5, "pc").b))
	eff := p.say(0, icrq(1))
	if got := p.hear(eff); kinds(got) != "[StopCCN]" || got[0].result != StopStateMachine {
		t.Errorf("ICRQ before SCCCN: %+v", got)
	}
	if d := find[TunnelDown](eff); len(d) != 1 || d[0].Reason != ReasonProtocol {
		t.Errorf("%+v", d)
	}
}

func TestBadSCCRQ(t *testing.T) {
	for _, c := range []struct {
		name   string
		avps   []byte
		reason Reason
		result uint16 // of the refusal, 0: no answer at all
		err    uint16
	}{
		{"no host name", build(msgSCCRQ).u16(attrProtocolVersion, 0x100).u32(attrFramingCapabilities, 3).u16(attrTunnelID, 1).b, ReasonMissingAVP, 0, 0},
		{"no framing capabilities", build(msgSCCRQ).u16(attrProtocolVersion, 0x100).str(attrHostName, "pc").u16(attrTunnelID, 1).b, ReasonMissingAVP, StopError, ErrorVendor},
		{"no tunnel id", build(msgSCCRQ).u16(attrProtocolVersion, 0x100).str(attrHostName, "pc").u32(attrFramingCapabilities, 3).b, ReasonMalformed, 0, 0},
		{"tunnel id 0, as a D-Link DIR-300 sends", sccrq(0, "pc").b, ReasonMalformed, 0, 0},
		{"version 2", build(msgSCCRQ).u16(attrProtocolVersion, 0x200).str(attrHostName, "pc").u32(attrFramingCapabilities, 3).u16(attrTunnelID, 1).b, ReasonVersion, StopProtocolVersion, 0x0100},
		{"unknown mandatory AVP", avp{mandatory: true, typ: 999}.append(sccrq(1, "pc").b), ReasonUnknownAVP, StopError, ErrorUnknownAVP},
		{"challenge without a password here", sccrq(1, "pc").bytes(attrChallenge, []byte("0123456789")).b, ReasonAuthentication, StopNotAuthorized, 0},
		{"cut off", sccrq(1, "pc").b[:30], ReasonMalformed, 0, 0},
		{"HELLO", build(msgHello).b, ReasonUnknownTunnel, 0, 0},
		{"StopCCN of nobody", build(msgStopCCN).u16(attrTunnelID, 1).result(1, 0, "").b, ReasonClearTextStop, 0, 0},
		{"ZLB", nil, ReasonUnknownTunnel, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, profiles(""))
			eff := s.peer(0, "203.0.113.5:1701", 1).say(0, c.avps)
			s.counted(c.reason, 1)
			for _, r := range find[Report](eff) {
				if r.Level != LevelDebug {
					t.Errorf("%+v", r)
				}
			}
			refused := find[Refuse](eff)
			if c.result == 0 {
				if len(refused)+len(sends(eff)) != 0 {
					t.Errorf("answered: %v", eff)
				}
			} else if len(refused) != 1 {
				t.Fatalf("%v", eff)
			} else if _, body, _ := parseHeader(refused[0].Data); true {
				if m, failed := decode(body, nil); failed != nil || m.result != c.result || m.err != c.err {
					t.Errorf("%+v %v", m, failed)
				}
			}
			if len(s.e.tunnels) != 0 || s.e.Deadline() != (time.Time{}) {
				t.Error("it left something behind")
			}
		})
	}
}

// The acknowledgement of the peer's StopCCN may be lost: it is repeated for one retransmission cycle.
func TestPeerStop(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	p.call(1)
	stop := appendControl(nil, p.lns, 0, p.ns, p.nr, build(msgStopCCN).u16(attrTunnelID, 5).result(6, 0, "bye").b)
	eff := p.raw(stop)
	if d := find[TunnelDown](eff); len(d) != 1 || !d[0].ByPeer || d[0].Reason != ReasonPeerStop || d[0].Tunnel.LastResult != 6 || d[0].Tunnel.LastMessage != "bye" {
		t.Errorf("%v", eff)
	}
	if len(find[SessionDown](eff)) != 1 || len(sends(eff)) != 1 || len(find[CloseSocket](eff)) != 0 {
		t.Errorf("%v", eff)
	}
	for range 5 {
		s.wait(5 * time.Second)
		if eff := p.raw(stop); len(eff) != 1 || len(sends(eff)) != 1 {
			t.Errorf("repeated StopCCN: %v", eff)
		}
	}
	// The same id may be used for a new tunnel meanwhile.
	q := s.peer(1, "203.0.113.5:1701", 5)
	q.up()
	if q.lns == p.lns {
		t.Error("same tunnel")
	}
	eff = s.wait(10 * time.Second)
	if c := find[CloseSocket](eff); len(c) != 1 || c[0].Tunnel != p.lns {
		t.Errorf("%v", eff)
	}
}

func TestDrain(t *testing.T) {
	t.Run("acknowledged", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		p.call(1)
		eff := s.step(CloseTunnel{Tunnel: p.lns, Message: "maintenance"})
		if got := p.hear(eff); kinds(got) != "[StopCCN]" || got[0].result != StopShutdown || got[0].text != "maintenance" || got[0].tunnel != p.lns {
			t.Errorf("%+v", got)
		}
		if len(find[SessionDown](eff)) != 1 || len(find[TunnelDown](eff)) != 1 || len(find[CloseSocket](eff)) != 0 {
			t.Errorf("%v", eff)
		}
		if eff := s.step(CloseTunnel{Tunnel: p.lns}); len(eff) != 0 {
			t.Errorf("closed twice: %v", eff)
		}
		if eff := p.ack(); len(find[CloseSocket](eff)) != 1 {
			t.Errorf("%v", eff)
		}
	})
	t.Run("not acknowledged", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		s.step(CloseTunnel{Tunnel: p.lns})
		eff := s.wait(2 * time.Second)
		if got := p.hear(eff); kinds(got) != "[StopCCN]" || len(find[CloseSocket](eff)) != 1 {
			t.Errorf("%v", eff)
		}
	})
	t.Run("both at once", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		s.step(CloseTunnel{Tunnel: p.lns})
		stop := appendControl(nil, p.lns, 0, p.ns, p.nr, build(msgStopCCN).u16(attrTunnelID, 5).result(6, 0, "").b)
		for range 2 {
			if eff := p.raw(stop); len(eff) != 1 || len(sends(eff)) != 1 {
				t.Errorf("%v", eff)
			}
		}
		if eff := s.wait(3 * time.Second); len(find[CloseSocket](eff)) != 1 || len(find[TunnelDown](eff)) != 0 {
			t.Errorf("%v", eff)
		}
	})
	t.Run("no waiting", func(t *testing.T) {
		cfg := profiles("")
		cfg.ShortDrain = -1
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		eff := s.step(CloseTunnel{Tunnel: p.lns})
		if got := p.hear(eff); kinds(got) != "[StopCCN]" || len(find[CloseSocket](eff)) != 1 {
			t.Errorf("%v", eff)
		}
	})
	// A StopCCN does not wait behind messages that a window of 1 holds back.
	t.Run("window full", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 0x3a7f)
		p.ns = 1
		p.hear(p.raw(unhex(t, mtpdSCCRQ)))
		p.say(0, build(msgSCCCN).b)
		p.say(0, icrq(1)) // ICRP is in flight and not acknowledged
		p.say(0, icrq(2)) // waits
		p.nr = 2
		if got := sends(s.step(CloseTunnel{Tunnel: p.lns})); len(got) != 1 {
			t.Errorf("%d packets", len(got))
		} else if h, body, _ := parseHeader(got[0]); h.ns != 2 {
			t.Errorf("ns %d, want 2: the message never sent is not left out", h.ns)
		} else if kind, _, _ := peekType(body); kind != msgStopCCN {
			t.Errorf("%v", kind)
		}
	})
}

// A PC that redials within one IPsec connection uses tunnel id 1 again.
func TestPeerRestart(t *testing.T) {
	request := unhex(t, windowsSCCRQ)
	t.Run("IPsec", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 1)
		p.up()
		s.wait(10 * time.Second)
		if eff := p.raw(request); len(eff) != 1 || len(sends(eff)) != 1 {
			t.Errorf("a late copy: %v", eff)
		}
		s.wait(25 * time.Second)
		eff := p.raw(request)
		if d := find[TunnelDown](eff); len(d) != 1 || d[0].Reason != ReasonPeerRestart || d[0].Tunnel.ID != p.lns {
			t.Errorf("%v", eff)
		}
		q := s.peer(1, "203.0.113.5:1701", 1)
		if got := q.hear(eff); kinds(got) != "[SCCRP]" || got[0].tunnel == p.lns {
			t.Errorf("%+v", got)
		}
	})
	t.Run("clear text", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(0, "203.0.113.5:1701", 1)
		p.up()
		s.wait(40 * time.Second)
		for range 10 { // anybody can send this
			if eff := p.raw(request); len(find[TunnelDown](eff)) != 0 || len(sends(eff)) > 1 {
				t.Errorf("%v", eff)
			}
		}
		p.nr++ // the HELLO that finds out
		p.ack()
		if eff := s.wait(15 * time.Second); len(find[TunnelDown](eff)) != 0 {
			t.Errorf("a peer that answers was ended: %v", eff)
		}
	})
	t.Run("clear text StopCCN", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(0, "203.0.113.5:1701", 1)
		p.up()
		q := s.peer(0, "203.0.113.5:1701", 1)
		if eff := q.say(0, build(msgStopCCN).u16(attrTunnelID, 1).result(1, 0, "").b); len(eff) != 0 {
			t.Errorf("%v", eff)
		}
	})
	// A LAC that gives up before it has heard SCCRP.
	t.Run("IPsec StopCCN", func(t *testing.T) {
		s := newScript(t, profiles(""))
		p := s.peer(1, "203.0.113.5:1701", 1)
		p.raw(request)
		p.ns = 1
		eff := p.say(0, build(msgStopCCN).u16(attrTunnelID, 1).result(1, 0, "").b)
		if d := find[TunnelDown](eff); len(d) != 1 || d[0].Reason != ReasonPeerStop {
			t.Errorf("%v", eff)
		}
		b := sends(eff)
		if len(b) != 1 {
			t.Fatalf("%v", eff)
		}
		if h, _, _ := parseHeader(b[0]); h.nr != 2 {
			t.Errorf("acknowledged %d", h.nr)
		}
	})
}

func TestTieBreaker(t *testing.T) {
	for _, c := range []struct {
		name      string
		theirs    func(ours uint64) []byte // nil: no tie breaker
		oursLives bool
		theirsUp  bool
	}{
		{"none", nil, true, false},
		{"higher", func(n uint64) []byte { return be64(n + 1) }, true, false},
		{"lower", func(n uint64) []byte { return be64(n - 1) }, false, true},
		{"equal", be64, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, profiles(""))
			eff := s.step(Dial{Ref: 5, Local: s.local, Remote: netip.MustParseAddrPort("203.0.113.5:1701")})
			_, body, _ := parseHeader(sends(eff)[0])
			m, _ := decode(body, nil)
			request := sccrq(1, "pc")
			if c.theirs != nil {
				request.bytes(attrTieBreaker, c.theirs(m.tieBreaker))
			}
			eff = s.peer(0, "203.0.113.5:1701", 1).say(0, request.b)
			down := find[TunnelDown](eff)
			if (len(down) == 0) != c.oursLives || len(down) == 1 && (down[0].Reason != ReasonTieBreaker || down[0].Tunnel.Ref != 5) {
				t.Errorf("ours: %v", eff)
			}
			if (len(find[OpenSocket](eff)) == 1) != c.theirsUp {
				t.Errorf("theirs: %v", eff)
			}
		})
	}
}

func be64(n uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return b
}

func TestReconfigure(t *testing.T) {
	a := DestinationProfile{Name: "a", LAC: netip.MustParseAddr("10.0.0.1"), Hosts: []HostProfile{{Name: "h"}}}
	b := DestinationProfile{Name: "b", LAC: netip.MustParseAddr("10.0.0.2"), Hosts: []HostProfile{{Name: "h"}, {Name: "x", Host: "x"}}}
	s := newScript(t, Config{Profiles: []DestinationProfile{a, b}})
	pa, pb, px := s.peer(1, "10.0.0.1:1701", 1), s.peer(2, "10.0.0.2:1701", 1), s.peer(3, "10.0.0.2:1702", 1)
	pa.up()
	pb.up()
	px.hear(px.say(0, sccrq(1, "x").b))
	px.say(0, build(msgSCCCN).b)
	b.Hosts = b.Hosts[:1:1]
	b.MaxSessions = 1
	eff := s.step(Reconfigure{Config{Hello: time.Second, Profiles: []DestinationProfile{b}}})
	var gone []ConnID
	for _, d := range find[TunnelDown](eff) {
		if d.Reason != ReasonProfileRemoved {
			t.Errorf("%+v", d)
		}
		gone = append(gone, d.Tunnel.Conn)
	}
	slices.Sort(gone)
	if !slices.Equal(gone, []ConnID{1, 3}) {
		t.Errorf("tunnels of connections %v ended, want 1 and 3 (G4)", gone)
	}
	pb.call(1)
	if got := pb.hear(pb.say(0, icrq(2))); kinds(got) != "[CDN]" {
		t.Errorf("the new limit does not hold: %v", kinds(got))
	}
	pb.ack()
	for _, x := range find[Send](s.wait(30 * time.Second)) {
		if x.Tunnel == pb.lns {
			t.Errorf("the old tunnel has the new HELLO interval: %x", x.Data)
		}
	}
}

func TestSequencedData(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	got := p.hear(p.say(0, icrq(1)))
	// LCP overtakes ICCN: dropped, the client repeats it.
	if eff := p.raw(appendData(nil, p.lns, got[0].session, true, 0, []byte{0xc0, 0x21, 1})); len(eff) != 0 {
		t.Errorf("%v", eff)
	}
	s.counted(ReasonEarlyFrame, 1)
	up := find[SessionUp](p.say(got[0].session, iccn().u32(attrRxSpeed, 5).bytes(attrSequencingRequired, nil).
		bytes(attrLastSentLCP, []byte{1, 4}).u16(attrProxyAuthType, 2).b))
	if len(up) != 1 || !up[0].Session.SequencingRequired || up[0].Session.RxSpeed != 5 || !up[0].Session.ProxyLCP || !up[0].Session.ProxyAuth {
		t.Fatalf("%+v", up)
	}
	for ns := range uint16(3) {
		b := sends(s.step(SendFrame{p.lns, got[0].session, []byte{0xc0, 0x21, 2}}))
		want := appendData(nil, p.id, 1, true, ns, []byte{0xc0, 0x21, 2})
		if len(b) != 1 || !bytes.Equal(b[0], want) {
			t.Errorf("%x, want %x", b, want)
		}
	}
	for _, packet := range []string{"4b02 0016 %04x %04x 0001 0000 0002 aaaa 2101 0203", "0002 %04x %04x 2101 0203 04"} {
		data, _ := hex.DecodeString(fmt.Sprintf(string(bytes.ReplaceAll([]byte(packet), []byte(" "), nil)), uint16(p.lns), uint16(got[0].session)))
		if data[0]&0x40 != 0 {
			data[3] = byte(len(data))
		}
		if f := find[FrameReceived](p.raw(data)); len(f) != 1 || f[0].Frame[0] != 0 || f[0].Frame[1] != 0x21 {
			t.Errorf("%s: %+v", packet, f)
		}
	}
	p.raw(appendData(nil, p.lns, got[0].session, false, 0, nil))
	s.counted(ReasonBadFrame, 1)
	p.raw(appendData(nil, p.lns, got[0].session+1, false, 0, []byte{0xc0, 0x21}))
	s.counted(ReasonUnknownSession, 1)
	if eff := s.step(SendFrame{p.lns, got[0].session + 1, []byte{0xc0, 0x21, 2}}); len(eff) != 0 {
		t.Errorf("%v", eff)
	}
}

func TestDisconnectCause(t *testing.T) {
	cfg := profiles("")
	cfg.DisconnectCause = true
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	a, b := p.call(1), p.call(2)
	cause := &DisconnectCause{Code: 3, Protocol: 0xc021, Direction: 1, Message: "no echo"}
	got := p.hear(s.step(CloseSession{Tunnel: p.lns, Session: a, Result: CallLostCarrier, Cause: cause}))
	if len(got) != 1 || got[0].result != CallLostCarrier || got[0].cause == nil || *got[0].cause != *cause {
		t.Errorf("%+v", got)
	}
	d := find[SessionDown](p.say(b, build(msgCDN).result(1, 0, "").u16(attrSessionID, 2).cause(*cause).b))
	if len(d) != 1 || !d[0].ByPeer || d[0].Cause == nil || *d[0].Cause != *cause {
		t.Errorf("%+v", d)
	}
	s.e.tunnels[p.lns].Params.DisconnectCause = false
	c := p.call(3)
	if got := p.hear(s.step(CloseSession{Tunnel: p.lns, Session: c, Cause: cause})); len(got) != 1 || got[0].cause != nil || got[0].result != CallAdministrative {
		t.Errorf("%+v", got)
	}
}

func TestCallTimeout(t *testing.T) {
	cfg := profiles("")
	cfg.Hello, cfg.IdleTimeout = -1, -1
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	p.hear(p.say(0, icrq(1)))
	p.ack()
	s.wait(30 * time.Second)
	p.call(2)
	p.ack()
	eff := s.wait(31 * time.Second)
	if got := p.hear(eff); len(got) == 0 || got[0].kind != msgCDN || got[0].result != CallTimedOut {
		t.Errorf("%v", eff)
	}
	if len(find[SessionDown](eff))+len(find[SessionUp](eff)) != 0 {
		t.Errorf("%v", eff)
	}
	if list := s.e.Sessions(); len(list) != 1 || list[0].Peer != 2 {
		t.Errorf("%+v", list)
	}
	s.counted(ReasonSetupTimeout, 1)
}

// A peer that places call after call without acknowledging an answer does not fill memory.
func TestBackPressure(t *testing.T) {
	cfg := profiles("")
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	for i := range SessionID(500) {
		p.say(0, icrq(i+1))
	}
	tu := s.e.tunnels[p.lns]
	if n := len(tu.Channel.Queue); n > maxSendQueue+maxWindow {
		t.Errorf("%d messages wait", n)
	}
	if s.e.Counters()[ReasonBackPressure] == 0 {
		t.Error("nothing was held back")
	}
}

func TestSnapshot(t *testing.T) {
	cfg := profiles("geheim")
	s := newScript(t, cfg)
	p := s.peer(1, "203.0.113.5:1701", 5)
	request := sccrq(5, "pc").bytes(attrChallenge, []byte("ours")).b
	moved := func() {
		t.Helper()
		data, err := s.e.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		e, err := Restore(cfg, chacha(9), data)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.check(); err != nil {
			t.Fatal(err)
		}
		again, err := e.Snapshot()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("a second snapshot differs (%v):\n%s\n%s", err, data.Reveal(), again.Reveal())
		}
		if got, want := e.Deadline(), s.e.Deadline(); !got.Equal(want) {
			t.Fatalf("deadline %v, want %v", got, want)
		}
		s.e = e
	}
	s.manual = true
	first := find[OpenSocket](p.raw(appendControl(nil, 0, 0, 0, 0, request)))
	p.ns = 1
	moved()
	again := find[OpenSocket](s.step(Timer{}))
	if len(first) != 1 || len(again) != 1 || first[0] != again[0] {
		t.Fatalf("sockets %v, after the restart %v", first, again)
	}
	s.manual = false
	s.open[first[0].Tunnel] = true
	got := p.hear(s.step(SocketOpened{Tunnel: first[0].Tunnel}))
	if kinds(got) != "[SCCRP]" || !bytes.Equal(got[0].response, challengeResponse(msgSCCRP, []byte("geheim"), []byte("ours"))) {
		t.Fatalf("%+v", got)
	}
	moved()
	p.say(0, build(msgSCCCN).bytes(attrChallengeResponse, challengeResponse(msgSCCCN, []byte("geheim"), got[0].challenge)).b)
	moved()
	got = p.hear(p.say(0, icrq(7)))
	moved()
	// A message ahead of its turn survives too.
	early := appendControl(nil, p.lns, got[0].session, p.ns+1, p.nr, build(msgWEN).bytes(attrCallErrors, make([]byte, 26)).b)
	p.raw(early)
	moved()
	if up := find[SessionUp](p.say(got[0].session, iccn().b)); len(up) != 1 {
		t.Fatalf("%v", up)
	}
	p.ns++
	moved()
	if got := s.e.Sessions(); len(got) != 1 || got[0].State != StateEstablished {
		t.Fatalf("%+v", got)
	}
	p.say(0, build(msgStopCCN).u16(attrTunnelID, 5).result(1, 0, "").b)
	moved()
	s.wait(time.Minute)
	moved()
	if list := s.e.Tunnels(); len(list) != 1 || list[0].State != StateIdle {
		t.Errorf("%+v", list)
	}
	for _, bad := range []string{"", "{}", `{"Version":1,"Tunnels":[{}]}`, `{"Version":1,"Tunnels":[{"Tunnel":{"ID":3}}]}`} {
		if _, err := Restore(cfg, chacha(9), []byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
