package subscriber

import (
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

var first = CallKey{1, 1}

// TestLife follows one subscriber from call to end.
func TestLife(t *testing.T) {
	b := newBed(t)
	b.connUp(1)
	b.step(TunnelUp{Tunnel: 1, Conn: 1})
	id := b.callUp(first, 1)
	if s := b.state(t); s != StateLink {
		t.Errorf("state %v, want link", s)
	}
	p := b.speak(first, testUser)
	if s := b.state(t); s != StateDeciding {
		t.Errorf("state %v, want deciding", s)
	}
	if q := b.decides[0].Request; q.MRU != 1400 {
		t.Errorf("AAA is told of an MRU of %d", q.MRU)
	}
	b.decide("")
	if s := b.state(t); s != StateOpening {
		t.Errorf("state %v, want opening", s)
	}
	b.opened("")
	if s := b.state(t); s != StateActivating {
		t.Errorf("state %v, want activating", s)
	}
	b.now = b.now.Add(time.Second)
	b.activated("")
	if s := b.state(t); s != StateUp {
		t.Errorf("state %v, want up", s)
	}
	if p.up.Local != testAddress || p.up.Peer != testGateway {
		t.Errorf("the subscriber got %v from %v, want %v from %v", p.up.Local, p.up.Peer, testAddress, testGateway)
	}
	r := b.e.Records()[0]
	if r.User != testUser || r.Access != aaa.AccessL2TPIPsec || r.Peer != "Windows 11" || r.Remote != testRemote || r.Address != testAddress ||
		r.Interface != "ppp1" || r.MTU != 1400 || r.Protocol != aaa.MSCHAPv2 || r.Terminating != "inside" || r.Router != "outside" || r.ID != id {
		t.Errorf("record %+v", r)
	}
	b.assertLog(`
		decide alice mschapv2
		open in inside mtu 1400
		activate 10.1.0.2 mtu 1400
		started alice`)

	b.peerStep(p, pppd.Close{Reason: pppd.ReasonUserRequest})
	if s := b.state(t); s != StateNetwork && s != StateEnding {
		t.Errorf("state %v after the peer has terminated", s)
	}
	b.pass(10 * time.Second)
	b.closed()
	b.assertLog(`
		deactivate
		hang up: ppp-user-request
		close
		release 10.1.0.2
		ended: ppp-user-request`)
	end := b.calls[id].ended
	if !end.ByPeer || end.Counters.InBytes != 11 || end.Counters.OutPackets != 2 || !end.Up.Equal(r.Up) {
		t.Errorf("last record %+v", end)
	}
	b.assertEmpty()
	if n := b.e.Counters()[Reason(pppd.ReasonUserRequest)]; n != 1 {
		t.Errorf("the end was counted %d times", n)
	}
}

// TestRefusals: whoever AAA refuses never causes anything in the kernel.
func TestRefusals(t *testing.T) {
	for _, reason := range []aaa.Reason{aaa.ReasonUnknownUser, aaa.ReasonWrongPassword, aaa.ReasonPoolEmpty, aaa.ReasonTimeout} {
		t.Run(string(reason), func(t *testing.T) {
			b := newBed(t)
			b.callUp(first, 0)
			p := b.speak(first, testUser)
			b.decide(reason)
			b.pass(time.Minute)
			b.assertLog(`
				decide alice mschapv2
				hang up: ` + string(reason) + `
				ended: ` + string(reason))
			if p.down == nil || p.down.Reason != pppd.ReasonAuthFailed {
				t.Errorf("the subscriber was told %+v, want a failed authentication", p.down)
			}
			b.assertEmpty()
		})
	}
}

// TestWrongPassword goes through a real list of users.
func TestWrongPassword(t *testing.T) {
	b := newBed(t)
	b.callUp(first, 0)
	b.speak(first, "mallory")
	b.decide("")
	b.pass(time.Minute)
	b.assertLog(`
		decide mallory mschapv2
		hang up: aaa-unknown-user
		ended: aaa-unknown-user`)
	b.assertEmpty()
}

// TestKernelFails: each kernel call fails in turn, and everything before it is undone.
func TestKernelFails(t *testing.T) {
	t.Run("open", func(t *testing.T) {
		b := newBed(t)
		b.callUp(first, 0)
		b.speak(first, testUser)
		b.decide("")
		b.opened("no-module")
		b.pass(time.Minute)
		b.assertLog(`
			decide alice mschapv2
			open in inside mtu 1400
			hang up: no-module
			release 10.1.0.2
			ended: no-module`)
		b.assertEmpty()
	})
	t.Run("activate", func(t *testing.T) {
		b := newBed(t)
		b.callUp(first, 0)
		b.speak(first, testUser)
		b.decide("")
		b.opened("")
		b.activated("route-exists")
		b.pass(time.Minute)
		b.closed()
		b.assertLog(`
			decide alice mschapv2
			open in inside mtu 1400
			activate 10.1.0.2 mtu 1400
			deactivate
			hang up: route-exists
			close
			release 10.1.0.2
			ended: route-exists`)
		b.assertEmpty()
	})
}

// TestInterfaceGone: somebody removed the interface.
func TestInterfaceGone(t *testing.T) {
	b := newBed(t)
	id := b.callUp(first, 0)
	b.speak(first, testUser)
	b.answerAll()
	b.step(Disconnect{IDs: []ID{id, id + 1}, Reason: ReasonInterface})
	b.pass(time.Minute)
	b.answerAll()
	if r := b.calls[id].ended; r == nil || r.Reason != ReasonInterface || r.Text == disconnectText(ReasonAdmin) {
		t.Errorf("ended %+v, want reason %s", r, ReasonInterface)
	}
	b.assertEmpty()
}

// TestNoProfile: a host profile without an IP profile ends the call before PPP begins.
func TestNoProfile(t *testing.T) {
	b := newBed(t)
	b.calls[b.e.nextID] = &ledger{call: first}
	b.step(CallUp{Call: first, Profile: "any", HostProfile: "other"})
	b.assertLog(`
		hang up: no-ip-profile
		ended: no-ip-profile`)
	b.assertEmpty()
}

// TestSequencing: what L2TP agreed on reaches the kernel, and makes room for its header.
func TestSequencing(t *testing.T) {
	for _, sequencing := range []bool{false, true} {
		b := newBed(t)
		b.e.cfg.Link.MRU = 1500
		b.calls[b.e.nextID] = &ledger{call: first}
		b.step(CallUp{Call: first, Profile: "any", HostProfile: "default", Sequencing: sequencing})
		b.speak(first, testUser)
		b.decide("")
		if len(b.opens) != 1 || b.opens[0].Sequencing != sequencing {
			t.Fatalf("opened %+v, want sequencing %t", b.opens, sequencing)
		}
		want := 1500 - 20 - 8 - 6 - 4
		if sequencing {
			want -= 4
		}
		if b.opens[0].MTU != want {
			t.Errorf("sequencing %t: MTU %d, want %d", sequencing, b.opens[0].MTU, want)
		}
	}
}

// TestNetworkRenegotiated: traffic stops while IPCP is negotiated anew, and only the answer to
// the last Activate brings the session up again; accounting starts once.
func TestNetworkRenegotiated(t *testing.T) {
	b := newBed(t)
	id := b.callUp(first, 0)
	b.speak(first, testUser)
	b.decide("")
	b.opened("") // the first Activate waits in the kernel
	b.speak(first, testUser)
	b.decide("")
	if len(b.activates) != 2 {
		t.Fatalf("%d Activates wait, want 2", len(b.activates))
	}
	b.activated("")
	if s := b.state(t); s != StateActivating {
		t.Errorf("state %v after the first answer, want activating", s)
	}
	b.activated("")
	if s := b.state(t); s != StateUp {
		t.Errorf("state %v after both, want up", s)
	}
	b.speak(first, testUser)
	b.answerAll()
	b.assertLog(`
		decide alice mschapv2
		open in inside mtu 1400
		activate 10.1.0.2 mtu 1400
		deactivate
		decide alice mschapv2
		activate 10.1.0.2 mtu 1400
		started alice
		deactivate
		decide alice mschapv2
		activate 10.1.0.2 mtu 1400`)
	if b.state(t) != StateUp || b.calls[id].started != 1 {
		t.Errorf("state %v, started %d times", b.state(t), b.calls[id].started)
	}
}
