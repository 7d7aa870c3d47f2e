package l2tp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// sharedDial is a call beside others.
func (n *node) sharedDial(ref uint64, to string, secret string) Dial {
	return Dial{
		Ref: ref, Local: netip.AddrPortFrom(n.addr, 1701), Remote: netip.AddrPortFrom(netip.MustParseAddr(to), 1701), Secret: []byte(secret),
		HostName: "lac", Share: true,
	}
}

// live are a node's sessions without the records of ended ones.
func (n *node) live() []SessionInfo {
	return slices.DeleteFunc(n.e.Sessions(), func(s SessionInfo) bool { return s.State == StateIdle })
}

// answering is a hand-made LNS for the only tunnel that has been dialled; it has read SCCRQ.
func (s *script) answering() *peer {
	s.t.Helper()
	if len(s.e.tunnels) != 1 {
		s.t.Fatalf("%d tunnels", len(s.e.tunnels))
	}
	t := s.e.tunnels[s.e.tunnelIDs()[0]]
	p := &peer{s: s, conn: t.Conn, remote: t.Remote, lns: t.ID, id: 77}
	p.nr = 1
	return p
}

// checkDials recomputes the indexes of calls and tunnels of ours, for check.
func (e *Engine) checkDials() error {
	waiting, roomy, zero := 0, 0, 0
	for id, t := range e.tunnels {
		listed := slices.Contains(e.roomy[t.shareKey()], id)
		if listed != t.Roomy || t.Roomy && (t.over() || !t.Shared) {
			return fmt.Errorf("tunnel %d: roomy %v, listed %v, phase %d, shared %v", id, t.Roomy, listed, t.Phase, t.Shared)
		}
		if t.Roomy {
			roomy++
		}
		if t.ZeroID && !t.over() && e.zeroIDs[t.dialKey()] == id {
			zero++
		}
		opening, confirming := map[SessionID]bool{}, map[SessionID]bool{}
		for _, s := range t.Opening {
			opening[s] = true
		}
		for _, s := range t.Confirming {
			confirming[s] = true
		}
		for _, s := range t.Sessions {
			if s.AwaitsConfirm && !confirming[s.ID] {
				return fmt.Errorf("session %d of tunnel %d waits for an acknowledgement that nobody looks for", s.ID, id)
			}
			if t.Shared && s.State == StateConnecting {
				waiting++
				if e.calls[s.Ref] != (callKey{id, s.ID}) {
					return fmt.Errorf("call %d is not found by its reference", s.Ref)
				}
			}
			if s.State == StateConnecting && !opening[s.ID] {
				return fmt.Errorf("session %d of tunnel %d has no set-up timeout", s.ID, id)
			}
		}
	}
	listed := 0
	for _, ids := range e.roomy {
		listed += len(ids)
	}
	if waiting != len(e.calls) || roomy != listed || zero != len(e.zeroIDs) {
		return fmt.Errorf("waiting calls %d, indexed %d; tunnels with room %d, listed %d; with id 0 %d, indexed %d",
			waiting, len(e.calls), roomy, listed, zero, len(e.zeroIDs))
	}
	return nil
}

// dialTo is a shared Dial to the usual LNS.
func (s *script) dialTo(ref uint64) Dial {
	return Dial{Ref: ref, Share: true, Local: s.local, Remote: addrPort("203.0.113.5:1701"), HostName: "lts"}
}

// failures are the DialFailed of effects as "ref reason".
func failures(eff []Effect) (list []string) {
	for _, f := range find[DialFailed](eff) {
		list = append(list, fmt.Sprintf("%d %s", f.Ref, f.Reason))
	}
	return list
}

// take answers a call of the engine's, from its ICRQ to its SessionUp, and returns the engine's session id.
func (p *peer) take(ref uint64, call message, id SessionID) SessionID {
	p.s.t.Helper()
	if got := p.hear(p.say(call.session, build(msgICRP).u16(attrSessionID, uint16(id)).b)); kinds(got) != "[ICCN]" {
		p.s.t.Fatalf("answer to ICRP: %s", kinds(got))
	}
	up := find[SessionUp](p.ack())
	if len(up) != 1 || up[0].Session.Ref != ref || up[0].Session.Peer != id || up[0].Session.ID != call.session {
		p.s.t.Fatalf("%+v", up)
	}
	return call.session
}

// Calls placed while the tunnel opens and after it go into one tunnel, which outlives them until it has been idle.
func TestSharedTunnel(t *testing.T) {
	s := newScript(t, Config{})
	s.step(s.dialTo(1))
	if eff := s.step(s.dialTo(2)); len(eff) != 0 {
		t.Fatalf("%v", eff)
	}
	p := s.answering()
	up := find[TunnelUp](p.say(0, sccrp().u16(attrReceiveWindow, 8).b))
	if len(up) != 1 || up[0].Tunnel.Ref != 1 || up[0].Tunnel.Sessions != 2 {
		t.Fatalf("%+v", up)
	}
	p.nr++ // SCCCN
	calls := p.hear(p.ack())
	if kinds(calls) != "[ICRQ ICRQ]" || calls[0].session == calls[1].session || calls[0].serial == calls[1].serial {
		t.Fatalf("%+v", calls)
	}
	// The second is answered first.
	two := p.take(2, calls[1], 92)
	one := p.take(1, calls[0], 91)
	three := p.hear(s.step(s.dialTo(3)))
	if kinds(three) != "[ICRQ]" {
		t.Fatalf("%s", kinds(three))
	}
	last := p.take(3, three[0], 93)
	// One end or the other hangs up; SessionDown says which Dial it was, and nothing else ends.
	down := find[SessionDown](p.say(two, build(msgCDN).result(1, 0, "").u16(attrSessionID, 92).b))
	if len(down) != 1 || down[0].Session.Ref != 2 || !down[0].ByPeer {
		t.Errorf("%+v", down)
	}
	eff := s.step(CloseSession{Tunnel: p.lns, Session: one, Reason: "user-request"})
	if down := find[SessionDown](eff); len(down) != 1 || down[0].Session.Ref != 1 || len(find[DialFailed](eff)) != 0 {
		t.Errorf("%+v", eff)
	}
	if got := p.hear(eff); kinds(got) != "[CDN]" || got[0].result != CallAdministrative {
		t.Errorf("%+v", got)
	}
	p.ack()
	p.hear(s.step(CloseSession{Tunnel: p.lns, Session: last}))
	p.ack()
	// Within the idle timeout a call finds the tunnel; the timeout begins anew after it.
	p.hear(s.wait(50 * time.Second))
	four := p.hear(s.step(s.dialTo(4)))
	if kinds(four) != "[ICRQ]" {
		t.Fatalf("%s", kinds(four))
	}
	p.hear(s.step(CloseSession{Tunnel: p.lns, Session: p.take(4, four[0], 94)}))
	p.ack()
	if p.hear(s.wait(55 * time.Second)); s.e.Tunnels()[0].State != StateEstablished {
		t.Fatalf("%+v", s.e.Tunnels())
	}
	p.ack()
	if got := p.hear(s.wait(5 * time.Second)); kinds(got) != "[StopCCN]" {
		t.Errorf("%s", kinds(got))
	}
	if again := find[OpenSocket](s.step(s.dialTo(5))); len(again) != 1 {
		t.Error("a call was placed in a tunnel that is over")
	}
}

// Calls share a tunnel when everything that makes the tunnel is the same.
func TestSharedApart(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Dial)
		same   bool
	}{
		{"same", func(*Dial) {}, true},
		{"another number", func(d *Dial) { d.CallingNumber, d.Info, d.Proxy = "555", fullInfo, &chapProxy }, true},
		{"IPv4 in IPv6", func(d *Dial) {
			d.Remote, d.Local = addrPort("[::ffff:203.0.113.5]:1701"), addrPort("[::ffff:192.0.2.1]:1701")
		}, true},
		{"another LNS", func(d *Dial) { d.Remote = addrPort("203.0.113.6:1701") }, false},
		{"another local address", func(d *Dial) { d.Local = addrPort("192.0.2.2:1701") }, false},
		{"another connection", func(d *Dial) { d.Conn = 3 }, false},
		{"another host name", func(d *Dial) { d.HostName = "other" }, false},
		{"another name of the LNS", func(d *Dial) { d.PeerHost = "lns" }, false},
		{"another assignment", func(d *Dial) { d.Assignment = "gold" }, false},
		{"another password", func(d *Dial) { d.Secret = []byte("anders") }, false},
		{"no password", func(d *Dial) { d.Secret = nil }, false},
		{"hidden", func(d *Dial) { d.HideAVPs = true }, false},
		{"one call for each tunnel", func(d *Dial) { d.MaxSessions = 1 }, false},
		{"two calls", func(d *Dial) { d.MaxSessions = 2 }, true},
		{"not shared", func(d *Dial) { d.Share = false }, false},
	} {
		s := newScript(t, Config{})
		d := s.dialTo(1)
		d.Secret = []byte("geheim")
		s.step(d)
		d.Ref = 2
		c.change(&d)
		if opened := len(find[OpenSocket](s.step(d))); opened != 0 != !c.same {
			t.Errorf("%s: %d more tunnels", c.name, opened)
		}
	}
	s := newScript(t, Config{HostName: "lts"})
	s.step(s.dialTo(1))
	d := s.dialTo(2)
	d.HostName = ""
	if len(find[OpenSocket](s.step(d))) != 0 {
		t.Error("the configured host name and none are not the same")
	}
}

// Tunnels fill up to MaxSessions, and where a call ends there is room for another.
func TestSharedLimit(t *testing.T) {
	s := newScript(t, Config{})
	tunnels := func() int { return len(s.e.tunnels) }
	for ref := range uint64(30) {
		d := s.dialTo(ref)
		d.MaxSessions = 3
		s.step(d)
		if want := int(ref)/3 + 1; tunnels() != want {
			t.Fatalf("%d tunnels for %d calls", tunnels(), ref+1)
		}
	}
	for _, ref := range []uint64{0, 1, 10, 29} {
		s.step(CancelDial{Ref: ref})
	}
	for ref := range uint64(4) {
		d := s.dialTo(100 + ref)
		d.MaxSessions = 3
		if s.step(d); tunnels() != 10 {
			t.Errorf("%d tunnels", tunnels())
		}
	}
	d := s.dialTo(200)
	d.MaxSessions = 3
	if s.step(d); tunnels() != 11 {
		t.Errorf("%d tunnels", tunnels())
	}
}

// A shared call that does not come up is reported once, whatever the cause, and never after it was up.
func TestDialFailed(t *testing.T) {
	up := func(p *peer) []message {
		p.say(0, sccrp().u16(attrReceiveWindow, 8).b)
		p.nr++
		return p.hear(p.ack())
	}
	for _, c := range []struct {
		name   string
		cfg    Config
		dial   Dial
		run    func(s *script, p *peer) []Effect
		reason Reason
	}{
		{"no answer", Config{}, Dial{}, func(s *script, p *peer) []Effect { return s.wait(50 * time.Second) }, ReasonNoAnswer},
		{"no answer, two repetitions", Config{RetransmitMaxOpening: 2}, Dial{}, func(s *script, p *peer) []Effect { return s.wait(8 * time.Second) }, ReasonNoAnswer},
		{"StopCCN", Config{}, Dial{}, func(s *script, p *peer) []Effect {
			return p.say(0, build(msgStopCCN).u16(attrTunnelID, 77).result(StopNotAuthorized, 0, "no").b)
		}, ReasonPeerStop},
		{"wrong password", Config{}, Dial{Secret: []byte("geheim")}, func(s *script, p *peer) []Effect {
			return p.say(0, sccrp().bytes(attrChallengeResponse, make([]byte, 16)).b)
		}, ReasonAuthentication},
		{"password not proved", Config{}, Dial{Secret: []byte("geheim")}, func(s *script, p *peer) []Effect { return p.say(0, sccrp().b) }, ReasonAuthentication},
		{"wrong name", Config{}, Dial{PeerHost: "other"}, func(s *script, p *peer) []Effect { return p.say(0, sccrp().b) }, ReasonPeerHost},
		{"tunnel closed", Config{}, Dial{}, func(s *script, p *peer) []Effect { return s.step(CloseTunnel{Tunnel: p.lns}) }, ReasonAdministrative},
		{"everything closed", Config{}, Dial{}, func(s *script, p *peer) []Effect { return s.step(CloseAll{Reason: ReasonShutdown}) }, ReasonShutdown},
		{"IPsec gone", Config{}, Dial{Conn: 4}, func(s *script, p *peer) []Effect { return s.step(ConnLost{4}) }, ReasonConnLost},
		{"cancelled", Config{}, Dial{}, func(s *script, p *peer) []Effect {
			return append(s.step(CancelDial{1}), s.step(CancelDial{2})...)
		}, ReasonCancelled},
		{"timed out while the tunnel opens", Config{}, Dial{Timeout: 5 * time.Second}, func(s *script, p *peer) []Effect { return s.wait(5 * time.Second) }, ReasonSetupTimeout},
		{"refused", Config{}, Dial{}, func(s *script, p *peer) (eff []Effect) {
			for _, call := range up(p) {
				eff = append(eff, p.say(call.session, build(msgCDN).result(CallNoFacilities, ErrorResources, "full").u16(attrSessionID, 9).b)...)
			}
			return eff
		}, ReasonPeerCall},
		{"no ICRP", Config{}, Dial{}, func(s *script, p *peer) []Effect {
			up(p)
			p.ack()
			return s.wait(60 * time.Second)
		}, ReasonSetupTimeout},
		{"ICRP with session id 0", Config{}, Dial{}, func(s *script, p *peer) (eff []Effect) {
			for _, call := range up(p) {
				eff = append(eff, p.say(call.session, build(msgICRP).u16(attrSessionID, 0).b)...)
			}
			return eff
		}, ReasonMalformed},
		{"an id for two calls", Config{}, Dial{}, func(s *script, p *peer) (eff []Effect) {
			for _, call := range up(p) {
				eff = append(eff, p.say(call.session, build(msgICRP).u16(attrSessionID, 7).b)...)
			}
			return eff
		}, ReasonDuplicateCall},
		{"cancelled after ICCN", Config{}, Dial{}, func(s *script, p *peer) (eff []Effect) {
			for i, call := range up(p) {
				p.say(call.session, build(msgICRP).u16(attrSessionID, 7+uint16(i)).b)
			}
			return append(s.step(CancelDial{1}), s.step(CancelDial{2})...)
		}, ReasonCancelled},
		{"ICCN not acknowledged", Config{}, Dial{}, func(s *script, p *peer) (eff []Effect) {
			for i, call := range up(p) {
				p.say(call.session, build(msgICRP).u16(attrSessionID, 7+uint16(i)).b)
			}
			return s.wait(time.Minute)
		}, ReasonNoAnswer},
		{"StopCCN while it is set up", Config{}, Dial{}, func(s *script, p *peer) (eff []Effect) {
			up(p)
			return p.say(0, build(msgStopCCN).u16(attrTunnelID, 77).result(StopShutdown, 0, "").b)
		}, ReasonPeerStop},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, c.cfg)
			d := c.dial
			d.Share, d.Local, d.Remote = true, s.local, addrPort("203.0.113.5:1701")
			d.Ref = 1
			s.step(d)
			d.Ref = 2
			s.step(d)
			p := s.answering()
			eff := c.run(s, p)
			want := fmt.Sprint([]string{"1 " + string(c.reason), "2 " + string(c.reason)})
			got := failures(eff)
			slices.Sort(got)
			if fmt.Sprint(got) != want {
				t.Errorf("%v, want %s", got, want)
			}
			eff = append(eff, s.wait(time.Hour)...)
			eff = append(eff, s.step(CancelDial{1})...)
			if n := len(find[DialFailed](eff)); n != 2 {
				t.Errorf("%d reports in the end", n)
			}
			if len(find[SessionUp](eff))+len(find[SessionDown](eff)) != 0 {
				t.Errorf("%v", eff)
			}
			if s.step(CloseAll{}); len(s.e.calls)+len(s.e.roomy)+s.e.sessions != 0 {
				t.Errorf("left: %v %v, %d sessions", s.e.calls, s.e.roomy, s.e.sessions)
			}
		})
	}
}

// Refused before anything is sent.
func TestDialRefused(t *testing.T) {
	for _, c := range []struct {
		cfg    Config
		reason Reason
	}{{Config{MaxTunnels: 1}, ReasonTunnelLimit}, {Config{MaxSessions: 1}, ReasonSessionLimit}} {
		s := newScript(t, c.cfg)
		s.step(s.dialTo(1))
		d := s.dialTo(2)
		d.Remote = addrPort("203.0.113.6:1701")
		if eff := s.step(d); len(eff) != 1 || fmt.Sprint(failures(eff)) != fmt.Sprint([]string{"2 " + string(c.reason)}) {
			t.Errorf("%v", eff)
		}
		s.counted(c.reason, 1)
	}
	s := newScript(t, Config{})
	s.e.random = failing{}
	if eff := s.step(s.dialTo(1)); fmt.Sprint(failures(eff)) != "[1 random-source-failed]" || len(eff) != 1 {
		t.Errorf("%v", eff)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, fmt.Errorf("no randomness") }

// The socket of a tunnel that has calls may be in use, or fail.
func TestSharedSocket(t *testing.T) {
	s := newScript(t, Config{})
	s.manual = true
	first := find[OpenSocket](s.step(s.dialTo(1)))
	s.step(s.dialTo(2))
	second := find[OpenSocket](s.step(SocketOpened{Tunnel: first[0].Tunnel, InUse: true}))
	if len(second) != 1 || second[0].Tunnel == first[0].Tunnel {
		t.Fatalf("%+v", second)
	}
	if eff := s.step(s.dialTo(3)); len(eff) != 0 {
		t.Errorf("%v", eff)
	}
	if got := failures(s.step(CancelDial{2})); fmt.Sprint(got) != "[2 cancelled]" {
		t.Errorf("%v", got)
	}
	eff := s.step(SocketOpened{Tunnel: second[0].Tunnel, Err: "no buffers"})
	got := failures(eff)
	slices.Sort(got)
	if fmt.Sprint(got) != "[1 socket-failed 3 socket-failed]" || len(find[TunnelDown](eff)) != 1 {
		t.Errorf("%v", eff)
	}
}

// Calls with timeouts of their own end in the order of their deadlines, and the others are placed.
func TestDialTimeouts(t *testing.T) {
	s := newScript(t, Config{})
	for ref, seconds := range []int{0, 9, 3, 6, 90} {
		d := s.dialTo(uint64(ref))
		d.Timeout = time.Duration(seconds) * time.Second
		s.step(d)
	}
	p := s.answering()
	if s.e.tunnels[p.lns].SetupBy.IsZero() {
		t.Error("nothing bounds the set-up of the tunnel")
	}
	for _, want := range []string{"[2 setup-timeout]", "[3 setup-timeout]"} {
		if got := failures(s.wait(3 * time.Second)); fmt.Sprint(got) != "[]" && fmt.Sprint(got) != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	if got := failures(s.wait(time.Second)); len(got) != 0 {
		t.Errorf("%v", got)
	}
	p.say(0, sccrp().u16(attrReceiveWindow, 8).b)
	p.nr++
	calls := 0
	for range 3 { // the window opens slowly
		calls += len(p.hear(p.ack()))
	}
	if calls != 3 {
		t.Errorf("%d calls", calls)
	}
	eff := s.wait(3 * time.Second)
	if got := failures(eff); fmt.Sprint(got) != "[1 setup-timeout]" {
		t.Errorf("%v", got)
	}
	if got := p.hear(eff); len(got) == 0 || got[len(got)-1].kind != msgCDN || got[len(got)-1].result != CallTimedOut {
		t.Errorf("%s", kinds(got))
	}
}

// Data that overtakes the acknowledgement of ICCN brings the call up, and is not lost: an LNS says the verdict on a proxied
// authentication once.
func TestDataBeforeAcknowledgement(t *testing.T) {
	s := newScript(t, Config{})
	s.step(s.dialTo(1))
	p := s.answering()
	p.say(0, sccrp().b)
	p.nr++
	call := p.hear(p.ack())[0]
	frame := []byte{0xc2, 0x23, 3, 1, 0, 4}
	if eff := p.raw(appendData(nil, p.lns, call.session, false, 0, frame)); len(eff) != 0 {
		t.Errorf("before ICRP: %v", eff)
	}
	if got := p.hear(p.say(call.session, build(msgICRP).u16(attrSessionID, 9).b)); kinds(got) != "[ICCN]" {
		t.Fatalf("%s", kinds(got))
	}
	eff := p.raw(appendData(nil, p.lns, call.session, false, 0, frame))
	up, got := find[SessionUp](eff), find[FrameReceived](eff)
	if len(up) != 1 || up[0].Session.Ref != 1 || len(got) != 1 || len(eff) != 2 {
		t.Errorf("%v", eff)
	}
	if eff := p.ack(); len(eff) != 0 {
		t.Errorf("up again: %v", eff)
	}
}

// A call that is up is not cancelled, and nobody's call is not either.
func TestCancelDialLate(t *testing.T) {
	s := newScript(t, Config{})
	s.step(s.dialTo(1))
	p := s.answering()
	p.say(0, sccrp().b)
	p.nr++
	p.take(1, p.hear(p.ack())[0], 9)
	for _, ref := range []uint64{1, 2} {
		if eff := s.step(CancelDial{Ref: ref}); len(eff) != 0 {
			t.Errorf("%v", eff)
		}
	}
}

// A process takes over tunnels of ours in every state, with what their calls have still to say.
func TestSharedSnapshot(t *testing.T) {
	s := newScript(t, Config{})
	moved := func() {
		t.Helper()
		data, err := s.e.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		e, err := Restore(Config{}, chacha(9), data)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.check(); err != nil {
			t.Fatal(err)
		}
		if again, err := e.Snapshot(); err != nil || string(again) != string(data) {
			t.Fatalf("a second snapshot differs (%v):\n%s\n%s", err, data.Reveal(), again.Reveal())
		}
		s.e = e
	}
	s.manual = true
	d := s.dialTo(1)
	d.Secret, d.HideAVPs, d.Info, d.Proxy, d.Assignment, d.PeerHost, d.MaxSessions = []byte("geheim"), true, fullInfo, pap(), "gold", "lns", 4
	open := find[OpenSocket](s.step(d))
	moved()
	s.open[open[0].Tunnel] = true
	s.manual = false
	eff := s.step(SocketOpened{Tunnel: open[0].Tunnel})
	p := s.answering()
	p.nr, p.id = 0, 0
	request := p.hear(eff)
	p.id = 77
	moved()
	d.Ref = 2
	if eff := s.step(d); len(eff) != 0 {
		t.Fatalf("%v", eff)
	}
	moved()
	secret := []byte("geheim")
	p.say(0, sccrp().bytes(attrChallengeResponse, challengeResponse(msgSCCRP, secret, request[0].challenge)).b)
	p.nr++
	moved()
	calls := p.hear(p.ack())
	moved()
	if kinds(calls) != "[ICRQ ICRQ]" || calls[1].called != fullInfo.CalledNumber {
		t.Fatalf("%+v", calls)
	}
	for i, call := range calls {
		eff := p.say(call.session, build(msgICRP).u16(attrSessionID, 90+uint16(i)).b)
		moved()
		got := p.hear(eff)
		if kinds(got) != "[ICCN]" || string(got[0].proxy.authReply) != "swordfish" || string(got[0].proxy.authName) != "j\xffoe" || got[0].group != "acme" {
			t.Fatalf("%+v", got)
		}
		eff = p.ack()
		moved()
		if up := find[SessionUp](eff); len(up) != 1 || up[0].Session.Ref != uint64(i+1) {
			t.Errorf("%+v", up)
		}
	}
	d.Ref = 3
	if got := p.hear(s.step(d)); kinds(got) != "[ICRQ]" {
		t.Errorf("%s", kinds(got))
	}
}

// A thousand calls through a bad line in one tunnel: each comes up or is reported as failed, once.
func TestThousandSharedCalls(t *testing.T) {
	const count = 1000
	w := newWorld(t, 5)
	w.loss, w.dup, w.delay = 0.2, 0.1, 20*time.Millisecond
	cfg := profiles("geheim")
	cfg.Profiles[0].Hosts[0].ReceiveWindow = 64
	cfg.SetupTimeout, cfg.RetransmitBase, cfg.RetransmitCap, cfg.RetransmitMax = 10*time.Minute, 100*time.Millisecond, 400*time.Millisecond, 7
	lns := w.node("192.0.2.1", cfg)
	lac := w.node("198.51.100.7", Config{
		SetupTimeout: 10 * time.Minute, RetransmitBase: 100 * time.Millisecond, RetransmitCap: 400 * time.Millisecond, RetransmitMax: 7, ReceiveWindow: 64,
	})
	for i := range count {
		w.after(time.Duration(i)*10*time.Millisecond, func() {
			d := lac.sharedDial(uint64(i), "192.0.2.1", "geheim")
			d.HideAVPs, d.Info, d.Proxy = true, CallInfo{CallingNumber: fmt.Sprint("49301", i)}, &chapProxy
			lac.step(d)
		})
	}
	w.run(5 * time.Minute)
	results := map[uint64]int{}
	for _, x := range lac.ups {
		switch x := x.(type) {
		case SessionUp:
			results[x.Session.Ref]++
		case DialFailed:
			results[x.Ref]++
		}
	}
	for ref, n := range results {
		if n != 1 {
			t.Errorf("call %d: %d results", ref, n)
		}
	}
	if len(results) != count {
		t.Errorf("%d calls have a result", len(results))
	}
	if got := lac.tally(); got.tunnelUp != 1 || got.sessionUp != count || got.sessionDown != 0 {
		t.Errorf("LAC: %+v", got)
	}
	if got := lns.tally(); got.tunnelUp != 1 || got.sessionUp != count {
		t.Errorf("LNS: %+v", got)
	}
	for _, s := range lns.live() {
		if s.Proxy == nil || s.Info.CallingNumber == "" {
			t.Fatalf("%+v", s)
		}
	}
	lac.consistent()
	lns.consistent()
	w.loss = 0
	for i, s := range lac.live() {
		if n := []*node{lac, lns}[i%2]; n == lac {
			n.step(CloseSession{Tunnel: s.Tunnel, Session: s.ID})
		} else {
			n.step(CloseSession{Tunnel: s.PeerTunnel, Session: s.Peer})
		}
	}
	w.run(50 * time.Second)
	if lac.e.sessions+lns.e.sessions != 0 || len(lac.e.tunnels) != 1 {
		t.Errorf("%d and %d sessions, %d tunnels left", lac.e.sessions, lns.e.sessions, len(lac.e.tunnels))
	}
	w.run(5 * time.Minute)
	if len(lac.e.tunnels)+len(lns.e.tunnels)+len(lac.e.calls)+len(lac.e.roomy) != 0 {
		t.Errorf("left: %+v", lac.e.Tunnels())
	}
}

// A crowd of calls to an LNS that does not answer: one SCCRQ and its repetitions, a bound on those that wait, and every
// one is told.
func TestCrowdAtSilentLNS(t *testing.T) {
	s := newScript(t, Config{})
	failed, sent := 0, 0
	const count = maxCallsOpening + 500
	for ref := range uint64(count) {
		eff := s.e.Step(s.now, s.dialTo(ref))
		for _, ef := range eff {
			switch ef := ef.(type) {
			case OpenSocket:
				s.open[ef.Tunnel] = true
				sent += len(sends(s.e.Step(s.now, SocketOpened{Tunnel: ef.Tunnel})))
			case DialFailed:
				if failed++; ef.Reason != ReasonCallQueue {
					t.Fatalf("%+v", ef)
				}
			}
		}
	}
	if failed != 500 || len(s.e.tunnels) != 1 || s.e.sessions != maxCallsOpening {
		t.Errorf("%d failed, %d tunnels, %d sessions", failed, len(s.e.tunnels), s.e.sessions)
	}
	eff := s.wait(50 * time.Second)
	if sent += len(sends(eff)); sent != 6 {
		t.Errorf("%d datagrams", sent)
	}
	if got := len(find[DialFailed](eff)); got != maxCallsOpening || s.e.sessions != 0 || len(s.e.tunnels) != 0 {
		t.Errorf("%d reports, %d sessions, %d tunnels", got, s.e.sessions, len(s.e.tunnels))
	}
}

// Two concentrators that hand calls to each other at the same moment: shared tunnels do not compete for the one that a Tie
// Breaker allows.
func TestSharedBothWays(t *testing.T) {
	w := newWorld(t, 7)
	a, b := w.node("192.0.2.1", profiles("geheim")), w.node("198.51.100.7", profiles("geheim"))
	a.step(a.sharedDial(1, "198.51.100.7", "geheim"))
	b.step(b.sharedDial(2, "192.0.2.1", "geheim"))
	w.run(5 * time.Second)
	for _, n := range []*node{a, b} {
		if got := n.tally(); got.tunnelUp != 2 || got.sessionUp != 2 {
			t.Errorf("%s: %+v", n.addr, got)
		}
	}
}
