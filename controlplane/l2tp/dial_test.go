package l2tp

import (
	"net/netip"
	"testing"
	"time"
)

// lns is a hand-made LNS that has been dialled; it has read SCCRQ.
func dialled(t *testing.T, ev Dial) (*script, *peer, message) {
	t.Helper()
	s := newScript(t, Config{})
	ev.Local, ev.Remote = s.local, netip.MustParseAddrPort("203.0.113.5:1701")
	p := s.peer(ev.Conn, "203.0.113.5:1701", 0)
	got := p.hear(s.step(ev))
	if kinds(got) != "[SCCRQ]" {
		t.Fatalf("dialling sent %s", kinds(got))
	}
	p.lns, p.id = got[0].tunnel, 77
	return s, p, got[0]
}

func sccrp() *builder {
	return build(msgSCCRP).u16(attrProtocolVersion, 0x0100).str(attrHostName, "lns").u32(attrFramingCapabilities, 3).
		u16(attrTunnelID, 77).u16(attrReceiveWindow, 4)
}

// A dialled session is up when its ICCN has been acknowledged, not before.
func TestDialledSessionUp(t *testing.T) {
	s, p, _ := dialled(t, Dial{Ref: 3, CallingNumber: "555"})
	eff := p.say(0, sccrp().b)
	if up := find[TunnelUp](eff); len(up) != 1 || up[0].Tunnel.Ref != 3 || !up[0].Tunnel.Initiated {
		t.Errorf("%v", eff)
	}
	if got := p.hear(eff); kinds(got) != "[SCCCN]" {
		t.Errorf("first %s: slow start sends one message", kinds(got))
	}
	got := p.hear(p.ack())
	if kinds(got) != "[ICRQ]" || got[0].calling != "555" || got[0].serial == 0 {
		t.Fatalf("%+v", got)
	}
	ours := got[0].session
	eff = p.say(ours, build(msgICRP).u16(attrSessionID, 9).b)
	if got := p.hear(eff); kinds(got) != "[ICCN]" || len(find[SessionUp](eff)) != 0 {
		t.Errorf("%v", eff)
	}
	p.nr-- // not yet
	if eff := p.ack(); len(eff) != 0 {
		t.Errorf("%v", eff)
	}
	p.nr++
	if up := find[SessionUp](p.ack()); len(up) != 1 || up[0].Session.ID != ours || up[0].Session.Peer != 9 || up[0].Session.Ref != 3 {
		t.Errorf("%+v", up)
	}
	if eff := p.ack(); len(find[SessionUp](eff)) != 0 {
		t.Errorf("up again: %v", eff)
	}
	// The tunnel ends with its call.
	eff = p.say(ours, build(msgCDN).result(3, 0, "").u16(attrSessionID, 9).b)
	if got := p.hear(eff); kinds(got) != "[StopCCN]" || len(find[SessionDown](eff)) != 1 || len(find[TunnelDown](eff)) != 1 {
		t.Errorf("%v", eff)
	}
	if len(s.e.tunnels) != 1 {
		t.Errorf("%+v", s.e.Tunnels())
	}
}

func TestDialFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		secret string
		answer []byte // nil: none
		reason Reason
		result uint16 // of our StopCCN
	}{
		{"no answer", "", nil, ReasonNoAnswer, 0},
		{"StopCCN", "", build(msgStopCCN).u16(attrTunnelID, 77).result(StopNotAuthorized, 0, "no").b, ReasonPeerStop, 0},
		{"tunnel id 0", "", build(msgSCCRP).u16(attrProtocolVersion, 0x0100).str(attrHostName, "lns").u32(attrFramingCapabilities, 3).u16(attrTunnelID, 0).b, ReasonMalformed, StopError},
		{"version 2", "", build(msgSCCRP).u16(attrProtocolVersion, 0x0200).str(attrHostName, "lns").u32(attrFramingCapabilities, 3).u16(attrTunnelID, 77).b, ReasonVersion, StopProtocolVersion},
		{"challenged without a password", "", sccrp().bytes(attrChallenge, []byte("x")).b, ReasonAuthentication, StopNotAuthorized},
		{"no response", "geheim", sccrp().b, ReasonAuthentication, StopNotAuthorized},
		{"wrong response", "geheim", sccrp().bytes(attrChallengeResponse, make([]byte, 16)).b, ReasonAuthentication, StopNotAuthorized},
		{"missing AVP", "", build(msgSCCRP).u16(attrTunnelID, 77).b, ReasonMissingAVP, StopError},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p, m := dialled(t, Dial{Ref: 3, Secret: []byte(c.secret)})
			if (m.challenge != nil) != (c.secret != "") || !m.present.has(attrTieBreaker) {
				t.Errorf("%+v", m)
			}
			var eff []Effect
			if c.answer == nil {
				eff = s.wait(time.Minute)
			} else {
				eff = p.say(0, c.answer)
			}
			d := find[TunnelDown](eff)
			if len(d) != 1 || d[0].Reason != c.reason || d[0].Tunnel.Ref != 3 || d[0].Tunnel.State != StateConnecting {
				t.Fatalf("%+v", eff)
			}
			if c.result != 0 && d[0].Tunnel.LastResult != c.result {
				t.Errorf("result %d", d[0].Tunnel.LastResult)
			}
			s.wait(time.Minute)
			if len(s.e.tunnels) != 0 || len(s.open) != 0 {
				t.Errorf("left over: %+v", s.e.Tunnels())
			}
		})
	}
	s := newScript(t, Config{MaxTunnels: 1})
	s.step(Dial{Ref: 1, Local: s.local, Remote: netip.MustParseAddrPort("203.0.113.5:1701")})
	d := find[TunnelDown](s.step(Dial{Ref: 2, Local: s.local, Remote: netip.MustParseAddrPort("203.0.113.5:1701")}))
	if len(d) != 1 || d[0].Reason != ReasonTunnelLimit || d[0].Tunnel.Ref != 2 {
		t.Errorf("%+v", d)
	}
}
