package subscriber

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
	"vrgate/pppd"
)

// TestHandOn follows a session that AAA hands on: the LNS is called with what the peer has shown us, the peer is told by the
// LNS that it is in, and has its address from there; nothing flows before accounting, and all of it is undone.
func TestHandOn(t *testing.T) {
	for _, auth := range []pppd.AuthProtocol{pppd.AuthPAP, pppd.AuthCHAPMD5, pppd.AuthMSCHAPv2} {
		t.Run(auth.String(), func(t *testing.T) {
			b := newBed(t)
			b.e.cfg.Link.Auth = []pppd.AuthProtocol{auth}
			b.tunnels, b.slow = []aaa.Tunnel{lnsA}, true
			b.grants = aaa.Grants{Class: [][]byte{{7}}}
			b.timeouts = [2]time.Duration{time.Hour, 0}
			b.connUp(1)
			b.step(TunnelUp{Tunnel: 1, Conn: 1})
			id := b.callUp(first, 1)
			p := b.speak(first, testUser)
			b.decide("")
			d := b.dials[0]
			if s := b.state(t); s != StateOpening || d.Ref != uint64(id) || d.Target.Server != lnsA.Server || string(d.Target.Secret) != string(lnsA.Secret) {
				t.Errorf("state %v, %+v", s, d)
			}
			if q := d.Proxy; q.LastReceivedLCP == nil || q.LastSentLCP == nil || q.Auth != auth || q.User != testUser {
				t.Errorf("the LNS is told %+v", q)
			}
			lns := b.farUp()
			if s := b.state(t); s != StateActivating || len(b.bridges) > 0 {
				t.Errorf("state %v, %d bridges before accounting", s, len(b.bridges))
			}
			b.accounted("")
			b.bridged("")
			b.pass(10 * time.Second)
			if p.up.Local != netip.MustParseAddr("10.77.0.1") || p.up.Peer != lnsA.Server || lns.up.Peer != p.up.Local {
				t.Errorf("the peer has %+v, the LNS %+v", p.up, lns.up)
			}
			r := b.e.Records()[0]
			if r.State != StateUp || r.Far != lns.call || r.Server != lnsA.Server || r.Address.IsValid() || r.Interface != "" || r.Terminating != "outside" ||
				r.User != testUser || len(r.Class) != 1 || r.SessionTimeout != time.Hour || !r.Accounted {
				t.Errorf("record %+v", r)
			}
			b.assertLog(fmt.Sprintf(`
				decide alice %s
				dial 203.0.113.1
				account alice
				bridge
				started alice`, protocols[auth]))
			if b.e.counts["ppp-frame-without-session"] != 0 {
				t.Errorf("counted %v", b.e.counts)
			}
			b.pass(r.Up.Add(time.Hour).Sub(b.now))
			b.bridgeClosed()
			b.assertLog(`
				hang up: session-timeout
				hang up at LNS: session-timeout
				close bridge
				release places
				ended: session-timeout`)
			if end := b.calls[id].ended; end.Counters.InBytes != 55 || end.Cause != pppd.NormalCause(false) {
				t.Errorf("last record %+v", end)
			}
			b.connDown(1, "over")
			b.assertEmpty()
		})
	}
}

// TestHandOnRefused: where switching is off the user is refused and told so, and gives back what it holds; so is a
// dynamic subscriber, which no LNS can take.
func TestHandOnRefused(t *testing.T) {
	t.Run("off", func(t *testing.T) {
		b := newBed(t)
		b.e.cfg.Switching = false
		b.tunnels = []aaa.Tunnel{lnsA}
		b.callUp(first, 0)
		p := b.speak(first, testUser)
		b.answerAll()
		b.pass(time.Minute)
		b.assertLog(`
			decide alice mschapv2
			release places
			hang up: switching-off
			ended: switching-off`)
		if p.down == nil || p.down.Reason != pppd.ReasonAuthFailed {
			t.Errorf("the peer was told %+v", p.down)
		}
		b.assertEmpty()
	})
	t.Run("dynamic", func(t *testing.T) {
		b := newBed(t)
		b.tunnels = []aaa.Tunnel{lnsA}
		b.dynamicUp(someone, "staff")
		b.answerAll()
		b.assertLog(`
			ask ""
			decide alice pap
			release places
			deny 7: aaa-bad-answer
			ended: aaa-bad-answer`)
		b.assertEmpty()
	})
	t.Run("authenticated again", func(t *testing.T) {
		b := newBed(t)
		b.callUp(first, 0)
		b.speak(first, testUser)
		b.answerAll()
		b.tunnels = []aaa.Tunnel{lnsA}
		b.speak(first, testUser)
		b.answerAll()
		b.pass(time.Minute)
		b.answerAll()
		if n := b.e.Counters()[ReasonUserChanged]; n != 1 || len(b.dials) > 0 {
			t.Errorf("counted %v, %d calls", b.e.Counters(), len(b.dials))
		}
		b.assertEmpty()
	})
	t.Run("LCP negotiated anew meanwhile", func(t *testing.T) {
		b := newBed(t)
		b.tunnels = []aaa.Tunnel{lnsA}
		b.callUp(first, 0)
		b.speak(first, testUser)
		b.speak(first, otherUser)
		b.answerAll()
		b.pass(10 * time.Second)
		b.assertLog(`
			decide alice mschapv2
			release places
			decide bob mschapv2
			dial 203.0.113.1
			bridge
			started bob`)
	})
}

// TestNextLNS: an LNS that refuses or does not answer is followed by the next one in order; when none is left the session
// ends with its own reason.
func TestNextLNS(t *testing.T) {
	b := newBed(t)
	b.tunnels = []aaa.Tunnel{lnsB, lnsA}
	id := b.callUp(first, 0)
	b.speak(first, testUser)
	b.decide("")
	b.farFailed(false)
	b.pass(dialTimeout - time.Second)
	b.assertLog("decide alice mschapv2\ndial 203.0.113.1\ndial 203.0.113.2")
	b.pass(time.Second)
	b.assertLog("cancel")
	b.farFailed(false)
	b.assertLog("hang up: lns-unreachable\nrelease places\nended: lns-unreachable")
	if text := b.calls[id].ended.Text; !strings.Contains(text, lnsB.Server.String()) {
		t.Errorf("ended: %s", text)
	}
	if b.e.silent[lnsA.Server] != nil || b.e.silent[lnsB.Server] == nil {
		t.Errorf("silent: %v", b.e.silent)
	}
	b.assertEmpty()
}

// TestLNSChangesItsMind: an LNS that has taken the call and refuses before it is connected ends the session, as one that hangs
// up does; no other LNS is asked, because the client's traffic may already pass.
func TestLNSChangesItsMind(t *testing.T) {
	for _, early := range []bool{true, false} {
		b := newBed(t)
		b.tunnels = []aaa.Tunnel{lnsA, lnsB}
		id := b.callUp(first, 0)
		b.speak(first, testUser)
		b.decide("")
		b.farUp()
		if !early {
			b.bridged("")
			if !b.calls[id].maySpeak {
				t.Fatal("the LNS was not told to begin")
			}
		}
		l := b.calls[id]
		l.farUp = false
		b.lostPeer(l.far)
		b.step(FarFailed{Ref: uint64(id), Reason: "peer-closed-session", Text: "no room after all"})
		b.answerAll()
		if r := l.ended; r == nil || r.Reason != "peer-closed-session" || !strings.Contains(r.Text, "no room after all") || len(b.dials) != 0 {
			t.Errorf("early %v: ended %+v, calls %v", early, r, b.dials)
		}
		b.assertEmpty()
	}
}

// TestLateLNS: the LNS takes the call in the moment in which it is given up; and takes one of a session that is over.
func TestLateLNS(t *testing.T) {
	b := newBed(t)
	b.tunnels = []aaa.Tunnel{lnsA}
	b.callUp(first, 0)
	b.speak(first, testUser)
	b.decide("")
	b.pass(dialTimeout)
	b.farUp()
	b.bridged("")
	if s := b.state(t); s != StateUp {
		t.Errorf("state %v", s)
	}
	second := CallKey{1, 2}
	b.callUp(second, 0)
	b.speak(second, testUser)
	b.decide("")
	b.callDown(second, "l2tp-peer")
	b.log = nil
	b.farUp()
	b.assertLog("hang up at LNS: l2tp-peer\nrelease places\nended: l2tp-peer")
	if out := b.e.Step(b.now, FarUp{Ref: 99, Call: CallKey{30000, 1}}); len(out) != 1 || out[0].(CloseCall).Call != (CallKey{30000, 1}) {
		t.Errorf("a call that nobody waits for: %+v", out)
	}
	b.step(FarFailed{Ref: 99})
	b.step(FarDown{Call: CallKey{30000, 1}})
	b.step(Bridged{ID: 99})
	if n := b.e.counts[CountUnasked]; n != 3 {
		t.Errorf("%d answers that nobody asked for", n)
	}
}

// TestHungUpWhileCalling: who hangs up before the LNS has taken the call costs it no session.
func TestHungUpWhileCalling(t *testing.T) {
	b := newBed(t)
	b.tunnels = []aaa.Tunnel{lnsA}
	b.callUp(first, 0)
	p := b.speak(first, testUser)
	b.decide("")
	b.peerStep(p, pppd.Close{Reason: pppd.ReasonUserRequest})
	b.farFailed(false)
	b.assertLog(`
		decide alice mschapv2
		dial 203.0.113.1
		hang up: ppp-user-request
		cancel
		release places
		ended: ppp-user-request`)
	if p.down == nil {
		t.Error("the peer's request to terminate was not answered")
	}
	b.assertEmpty()
}

// TestRelay: before the bridge control frames pass between the calls, and nothing else; nothing passes before there is a
// call, or to one that has gone.
func TestRelay(t *testing.T) {
	data, control := []byte{0x00, 0x21, 0x45}, []byte{0xc2, 0x23, 3, 1, 0, 4}
	b := newBed(t)
	b.tunnels, b.slow = []aaa.Tunnel{lnsA}, true
	id := b.callUp(first, 0)
	b.speak(first, testUser)
	b.decide("")
	delete(b.peers, first)
	lost := b.e.counts[CountNotRelayed]
	sent := func(call CallKey, frame []byte) (out []SendFrame) {
		t.Helper()
		for _, f := range b.e.Step(b.now, Frame{Call: call, Data: frame}) {
			out = append(out, f.(SendFrame))
		}
		return out
	}
	if got := sent(first, control); got != nil {
		t.Errorf("%+v before there is a call", got)
	}
	p := b.farUp()
	delete(b.peers, p.call)
	for _, c := range []struct {
		from  CallKey
		frame []byte
		want  []SendFrame
	}{
		{first, data, nil},
		{p.call, data, nil},
		{first, control, []SendFrame{{ID: id, Call: p.call, Data: control}}},
		{p.call, control, []SendFrame{{ID: id, Call: first, Data: control}}},
	} {
		if got := sent(c.from, c.frame); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("from %v: %+v, want %+v", c.from, got, c.want)
		}
	}
	if n := b.e.counts[CountNotRelayed] - lost; n != 3 {
		t.Errorf("%d frames counted as lost", n)
	}
}

// TestFarCause: each LAC and LNS hears why the other call has ended (RFC 3145).
func TestFarCause(t *testing.T) {
	cause := pppd.DisconnectCause{Code: 5, Protocol: 0xc021, Direction: 1}
	for name, strike := range map[string]func(b *bed, far CallKey) Event{
		"near": func(*bed, CallKey) Event {
			return CallDown{Call: first, Reason: "peer-closed-session", ByPeer: true, Cause: cause}
		},
		"far": func(_ *bed, far CallKey) Event {
			return FarDown{Call: far, Reason: "peer-closed-session", ByPeer: true, Cause: cause}
		},
	} {
		b := newBed(t)
		id := b.handOn(first, 0)
		var closed []CloseCall
		for _, f := range b.e.Step(b.now, strike(b, b.calls[id].far)) {
			if f, ok := f.(CloseCall); ok {
				closed = append(closed, f)
			}
		}
		want := []CloseCall{{Call: b.calls[id].far, Reason: "peer-closed-session", Cause: cause, Text: "the L2TP session has ended"}}
		if name == "far" {
			want = []CloseCall{{Call: first, Reason: "peer-closed-session", Cause: cause, Text: "the call to the LNS has ended"}}
		}
		if !slices.Equal(closed, want) {
			t.Errorf("%s: %+v, want %+v", name, closed, want)
		}
	}
}

// TestHandedOnTraffic: the idle timeout looks at the bridge, interim records have its counters, and CoA can change times but
// not what flows.
func TestHandedOnTraffic(t *testing.T) {
	b := newBed(t)
	b.grants, b.timeouts[1] = aaa.Grants{Interim: 5 * time.Minute}, 20*time.Minute
	id := b.handOn(first, 0)
	if c := b.change(id, aaa.Change{Traffic: &aaa.Traffic{In: 1000}}); c == nil || c.Reason != ReasonBadChange {
		t.Errorf("change of traffic: %+v", c)
	}
	if c := b.change(id, aaa.Change{Class: [][]byte{{1}}}); c == nil || c.Reason != "" {
		t.Errorf("change of class: %+v", c)
	}
	for end := b.now.Add(21 * time.Minute); b.now.Before(end) && b.e.Len() > 0; {
		b.pass(time.Minute)
		for len(b.reads) > 0 {
			b.read(9)
		}
	}
	if len(b.interims) < 3 || b.interims[2].Record.Counters.InPackets != 9 {
		t.Errorf("interim records %+v", b.interims)
	}
	for range 10 {
		b.pass(time.Minute)
		for len(b.reads) > 0 {
			b.read(9)
		}
		b.answerAll()
	}
	if r := b.calls[id].ended; r == nil || r.Reason != ReasonIdleTimeout {
		t.Errorf("ended %+v", r)
	}
}

// TestOrderOfLNSs: by preference, and equals share the sessions evenly.
func TestOrderOfLNSs(t *testing.T) {
	names := func(list []aaa.Tunnel) (out []string) {
		for _, x := range list {
			out = append(out, x.ServerName)
		}
		return out
	}
	tunnels := []aaa.Tunnel{{ServerName: "x", Preference: 9}, {ServerName: "a"}, {ServerName: "b"}, {ServerName: "c"}}
	begins := map[string]int{}
	for id := range ID(300) {
		got := names(inOrder(id, tunnels))
		begins[got[0]]++
		if slices.Sort(got[:3]); !slices.Equal(got, []string{"a", "b", "c", "x"}) {
			t.Fatalf("session %d: %v", id, got)
		}
	}
	if begins["a"] != 100 || begins["b"] != 100 || begins["c"] != 100 {
		t.Errorf("the first are %v", begins)
	}
	if got := inOrder(1, make([]aaa.Tunnel, 3*aaa.MaxTunnels)); len(got) != aaa.MaxTunnels {
		t.Errorf("%d LNSs are tried", len(got))
	}
}

// TestLockout: an LNS that does not answer is passed over for the lockout, then tried: by all, or with the test by one session
// first. Who has no other LNS may try it earlier, one session at a time.
func TestLockout(t *testing.T) {
	both, onlyA := []aaa.Tunnel{lnsA, lnsB}, []aaa.Tunnel{lnsA}
	minute := func(n int) time.Time { return time.Unix(0, 0).Add(time.Duration(n) * time.Minute) }
	for _, test := range []bool{false, true} {
		t.Run(fmt.Sprint("test ", test), func(t *testing.T) {
			e := New(Config{Lockout: 5 * time.Minute, LockoutTest: test}, strings.NewReader(""))
			choose := func(now time.Time, id ID, left []aaa.Tunnel, want int, why string) {
				t.Helper()
				if got := e.choose(now, id, left); got != want {
					t.Errorf("%s: session %d gets LNS %d, want %d", why, id, got, want)
				}
			}
			shows := func(now time.Time, want Lockout) {
				t.Helper()
				if got := e.Lockouts(now)[lnsA.Server]; got != want {
					t.Errorf("after %v the lockout is %+v, want %+v", now.Sub(minute(0)), got, want)
				}
			}
			choose(minute(0), 1, both, 0, "nothing is known")
			shows(minute(0), Lockout{})
			e.wasSilent(minute(0), lnsA.Server)
			shows(minute(1), Lockout{State: "waiting", Remaining: 4 * time.Minute})
			shows(minute(5), map[bool]Lockout{true: {State: "waiting-for-test"}}[test])
			choose(minute(1), 2, both, 1, "locked out")
			choose(minute(1), 3, onlyA, 0, "no other")
			choose(minute(1), 4, onlyA, -1, "no other, and somebody tries it")
			shows(minute(1), Lockout{State: "testing", Remaining: 4 * time.Minute})
			e.gaveUp(4, lnsA.Server) // who does not try it changes nothing
			choose(minute(1), 5, onlyA, -1, "no other, and somebody tries it")
			e.gaveUp(3, lnsA.Server)
			choose(minute(2), 6, onlyA, 0, "the trial has shown nothing")
			e.wasSilent(minute(2), lnsA.Server)
			choose(minute(6), 7, both, 1, "silent again")
			choose(minute(7), 8, both, 0, "the lockout is over")
			after := map[bool]int{false: 0, true: 1}[test]
			choose(minute(7), 9, both, after, "the lockout is over, and somebody tries it")
			e.answered(lnsA.Server)
			choose(minute(7), 10, both, 0, "it has answered")
			e.wasSilent(minute(8), lnsA.Server)
			e.wasSilent(minute(9), lnsB.Server)
			choose(minute(10), 11, both, 0, "both locked out: the one whose lockout ends first")
			choose(minute(10), 12, both, 1, "both locked out, one is tried")
			choose(minute(10), 13, both, -1, "both locked out, both are tried")
		})
	}
	e := New(Config{}, strings.NewReader(""))
	for n := range 1000 {
		e.wasSilent(minute(0), netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}))
	}
	if len(e.silent) != maxSilent {
		t.Errorf("%d silent LNSs are remembered", len(e.silent))
	}
}

// TestHandOverSnapshot: neither the secrets of LNSs nor what the peer has shown is in a snapshot; the call that is under way
// goes on after a restart.
func TestHandOverSnapshot(t *testing.T) {
	b := newBed(t)
	b.e.cfg.Link.Auth = []pppd.AuthProtocol{pppd.AuthPAP}
	secret := lnsB
	secret.Secret = keymat.Secret("secret of B")
	b.tunnels = []aaa.Tunnel{lnsA, secret}
	b.callUp(first, 0)
	b.speak(first, testUser)
	b.decide("")
	data, err := b.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{testPassword, "secret of A", "secret of B"} {
		if strings.Contains(string(data), word) {
			t.Errorf("%q is in the snapshot", word)
		}
	}
	b.restart()
	b.farUp()
	b.restart()
	b.bridged("")
	b.restart()
	if s := b.state(t); s != StateUp {
		t.Errorf("state %v", s)
	}
	b.farDown(1, pppd.NormalCause(true))
	b.restart()
	b.bridgeClosed()
	if r := b.calls[1].ended; r == nil || r.Reason != Reason(pppd.ReasonUserRequest) || !r.ByPeer {
		t.Errorf("ended %+v", r)
	}
	b.assertEmpty()
}
