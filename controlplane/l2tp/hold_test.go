package l2tp

import (
	"testing"
	"time"
)

// A call that is dialled with Hold is connected when the caller is ready for what the LNS has to say, and not before: that is
// said once. Until then it ends like any other call that is being set up.
func TestHeldCall(t *testing.T) {
	held := func(t *testing.T) (*script, *peer, SessionID) {
		t.Helper()
		s := newScript(t, Config{})
		d := s.dialTo(1)
		d.Hold, d.Timeout = true, 30*time.Second
		s.step(d)
		p := s.answering()
		p.say(0, sccrp().b)
		p.nr++
		call := p.hear(p.ack())[0]
		eff := p.say(call.session, build(msgICRP).u16(attrSessionID, 9).b)
		ready := find[CallReady](eff)
		if len(ready) != 1 || ready[0].Session.Ref != 1 || ready[0].Session.ID != call.session || ready[0].Session.Peer != 9 || kinds(p.hear(eff)) != "[]" {
			t.Fatalf("%v", eff)
		}
		return s, p, call.session
	}
	t.Run("connected", func(t *testing.T) {
		s, p, id := held(t)
		data, err := s.e.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if s.e, err = Restore(Config{}, chacha(9), data); err != nil {
			t.Fatal(err)
		}
		for _, other := range []ConnectCall{{}, {Tunnel: p.lns}, {Tunnel: p.lns + 1, Session: id}} {
			if eff := s.step(other); len(eff) != 0 {
				t.Errorf("%+v: %v", other, eff)
			}
		}
		if got := p.hear(s.step(ConnectCall{Tunnel: p.lns, Session: id})); kinds(got) != "[ICCN]" {
			t.Fatalf("%s", kinds(got))
		}
		if eff := s.step(ConnectCall{Tunnel: p.lns, Session: id}); len(eff) != 0 {
			t.Errorf("connected twice: %v", eff)
		}
		if up := find[SessionUp](p.ack()); len(up) != 1 || up[0].Session.Ref != 1 {
			t.Errorf("%+v", up)
		}
		if eff := s.step(ConnectCall{Tunnel: p.lns, Session: id}); len(eff) != 0 {
			t.Errorf("connected again: %v", eff)
		}
	})
	ends := map[string]func(s *script, p *peer, id SessionID) []Effect{
		"refused": func(s *script, p *peer, id SessionID) []Effect {
			return p.say(id, build(msgCDN).result(CallNoFacilities, 0, "").u16(attrSessionID, 9).b)
		},
		"answered twice": func(s *script, p *peer, id SessionID) []Effect {
			return p.say(id, build(msgICRP).u16(attrSessionID, 10).b)
		},
		"too late":  func(s *script, p *peer, id SessionID) []Effect { return s.wait(31 * time.Second) },
		"cancelled": func(s *script, p *peer, id SessionID) []Effect { return s.step(CancelDial{Ref: 1}) },
		"closed": func(s *script, p *peer, id SessionID) []Effect {
			return s.step(CloseSession{Tunnel: p.lns, Session: id})
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			s, p, id := held(t)
			if eff := end(s, p, id); len(failures(eff)) != 1 || len(find[SessionDown](eff)) != 0 {
				t.Errorf("%v", eff)
			}
			if eff := s.step(ConnectCall{Tunnel: p.lns, Session: id}); len(eff) != 0 {
				t.Errorf("connected after the end: %v", eff)
			}
		})
	}
}
