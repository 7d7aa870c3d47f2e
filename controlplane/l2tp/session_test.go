package l2tp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
	"time"
)

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
		bytes(attrLastSentLCP, []byte{1, 4, 5, 0xdc}).bytes(attrLastReceivedLCP, nil).u16(attrProxyAuthType, 3).
		bytes(attrProxyAuthName, []byte("joe")).bytes(attrProxyAuthResponse, []byte("secret")).b))
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

// What a host profile says about the disconnect cause goes before what the service says.
func TestDisconnectCausePerHost(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		service bool
		host    *bool
		want    bool
	}{{false, nil, false}, {true, nil, true}, {false, &yes, true}, {true, &no, false}} {
		cfg := profiles("")
		cfg.DisconnectCause, cfg.Profiles[0].Hosts[0].DisconnectCause = c.service, c.host
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		got := p.hear(s.step(CloseSession{Tunnel: p.lns, Session: p.call(1), Cause: &DisconnectCause{Code: 3}}))
		if len(got) != 1 || (got[0].cause != nil) != c.want {
			t.Errorf("service %v, host %v: %+v", c.service, c.host, got)
		}
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
	if list := s.e.Sessions(); s.e.LiveSessions() != 1 || list[0].Peer != 2 {
		t.Errorf("%+v", list)
	}
	s.counted(ReasonSetupTimeout, 1)
}
