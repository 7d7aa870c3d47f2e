package l2tp

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

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
	if list := s.e.Sessions(); s.e.LiveSessions() != 1 || list[0].Conn != 2 {
		t.Errorf("%+v", list)
	}
}

// A tunnel takes control messages and data from the IPsec connection that carried its set-up and from nowhere else, in clear text least of
// all; one in clear text takes nothing from IPsec (K12). Neither the listener nor a tunnel's own socket makes a difference.
func TestForeignConnection(t *testing.T) {
	for _, c := range []struct{ own, foreign ConnID }{{1, 2}, {1, 0}, {0, 1}} {
		s := newScript(t, profiles(""))
		p := s.peer(c.own, "203.0.113.5:1701", 5)
		p.up()
		id := p.call(9)
		p.ack()
		thief := s.peer(c.foreign, "203.0.113.5:1701", 5)
		var foreign uint64
		for name, data := range map[string][]byte{
			"data":    appendData(nil, p.lns, id, false, 0, []byte{0xc0, 0x21, 1}),
			"StopCCN": appendControl(nil, p.lns, 0, p.ns, p.nr, build(msgStopCCN).u16(attrTunnelID, 5).result(1, 0, "").b),
			"CDN":     appendControl(nil, p.lns, id, p.ns, p.nr, build(msgCDN).result(1, 0, "").u16(attrSessionID, 9).b),
			"ICRQ":    appendControl(nil, p.lns, 0, p.ns, p.nr, icrq(10)),
			"ZLB":     appendControl(nil, p.lns, 0, p.ns, p.nr, nil),
		} {
			for _, socket := range []TunnelID{0, p.lns} {
				foreign++
				eff := s.step(Packet{Socket: socket, Local: s.local, Remote: thief.remote, Conn: c.foreign, Data: data})
				if len(eff) != 0 {
					t.Errorf("%s of connection %d for a tunnel of %d: %v", name, c.foreign, c.own, eff)
				}
			}
		}
		s.counted(ReasonForeignConn, foreign)
		if f := find[FrameReceived](p.raw(appendData(nil, p.lns, id, false, 0, []byte{0xc0, 0x21, 1}))); len(f) != 1 {
			t.Error("its own data does not arrive")
		}
		s.step(ConnLost{Conn: c.foreign})
		if s.e.LiveSessions() != 1 {
			t.Error("the loss of another connection ended the session")
		}
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
	p.ns++
	if r := find[Report](eff); len(r) != 1 || r[0].Level != LevelWarn || r[0].Reason != ReasonNotSteered || r[0].Tunnel != p.lns {
		t.Errorf("%+v", r)
	}
	zlb := Packet{Local: s.local, Remote: p.remote, Conn: 1, Data: appendControl(nil, p.lns, 0, p.ns, p.nr, nil)}
	if eff := s.step(zlb); len(eff) != 0 {
		t.Errorf("reported again at once: %v", eff)
	}
	s.wait(time.Minute)
	if eff := s.step(zlb); len(find[Report](eff)) != 1 {
		t.Errorf("not reported again after a minute: %v", eff)
	}
	s.counted(ReasonNotSteered, 3)
	p.nr++ // the HELLO of that minute
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

// A8: the router does not terminate both ends of one tunnel; a LAC that happens to use the same tunnel id is welcome.
func TestOwnTunnel(t *testing.T) {
	s := newScript(t, profiles(""))
	eff := s.step(Dial{Ref: 5, Share: true, Local: netip.MustParseAddrPort("192.0.2.2:1701"), Remote: s.local})
	open, request := find[OpenSocket](eff), sends(eff)
	if len(open) != 1 || len(request) != 1 {
		t.Fatalf("%v", eff)
	}
	if eff := s.peer(0, "203.0.113.5:1701", 1).say(0, sccrq(open[0].Tunnel, "pc").b); order(eff) != "[SCCRP]" {
		t.Errorf("another LAC: %v", eff)
	}
	eff = s.step(Packet{Local: s.local, Remote: netip.MustParseAddrPort("192.0.2.2:1701"), Data: request[0]})
	if order(eff) != "[Refuse]" {
		t.Fatalf("%v", eff)
	}
	s.counted(ReasonOwnTunnel, 1)
	// Its own refusal ends the call.
	eff = s.step(Packet{Socket: open[0].Tunnel, Local: netip.MustParseAddrPort("192.0.2.2:1701"), Remote: s.local, Data: find[Refuse](eff)[0].Data})
	if f := find[DialFailed](eff); len(f) != 1 || f[0].Ref != 5 {
		t.Errorf("%v", eff)
	}
}
