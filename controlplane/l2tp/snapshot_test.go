package l2tp

import (
	"bytes"
	"testing"
	"time"
)

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
	for _, bad := range []string{"", "{}", `{"Version":1}`, `{"Version":2,"Tunnels":[{}]}`, `{"Version":2,"Tunnels":[{"Tunnel":{"ID":3}}]}`,
		`{"Version":2,"Uses":{"1":null}}`, `{"Version":2,"Destinations":{"10.0.0.1":null}}`} {
		if _, err := Restore(cfg, chacha(9), []byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
