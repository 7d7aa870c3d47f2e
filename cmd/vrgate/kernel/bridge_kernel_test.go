//go:build kernel

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/l2tpnl"
	"vrgate/pppd/unit"
)

// The bridged sessions go from a client on the first peer to an LNS on the second.
const (
	farTunnel  = 88
	ourFar     = lnsTunnel + 1
	server6    = "2001:db8::1"
	lns6       = "2001:db8:2::2"
	lns6Router = "2001:db8:2::1"
)

// end makes a PPP interface on a call at a peer.
func (l *lac) end(t *testing.T, own, peer uint16, sequence bool, inner, other string) *unit.Unit {
	t.Helper()
	s, err := l.tunnel.Open(l2tpnl.SessionSpec{Session: own, Peer: peer, LNS: sequence, Sequence: sequence, RequireSequence: sequence})
	l.w.check(err)
	u, err := unit.Open(unit.Spec{Transport: l.net, Channel: s.Index(), MTU: 1400})
	l.w.check(err)
	l.w.check(errors.Join(u.Up(), u.SetNetwork(unit.IPv4, true)))
	batch(t, l.space, fmt.Sprintf("address add %s peer %s dev %s\n", inner, other, u.Name()))
	l.ends = append(l.ends, u.Close, s.Close)
	return u
}

// bridgeOf joins the session with a number in both tunnels.
func bridgeOf(n uint16, near, far *lac, sequence bool) subscriber.Bridge {
	return subscriber.Bridge{
		ID:   subscriber.ID(n),
		Near: subscriber.CallEnds{Call: subscriber.CallKey{Tunnel: uint16(near.own), Session: n}, PeerTunnel: near.peer, PeerSession: n + 100, Sequencing: sequence},
		Far:  subscriber.CallEnds{Call: subscriber.CallKey{Tunnel: uint16(far.own), Session: n}, PeerTunnel: far.peer, PeerSession: n + 200, Sequencing: sequence},
	}
}

// frame waits for a frame of a protocol.
func frame(t *testing.T, p *unit.Port, protocol uint16) []byte {
	t.Helper()
	buf := make([]byte, unit.MaxFrame)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f, err := p.ReadFrame(buf); err == nil && f.Protocol == protocol {
			return bytes.Clone(f.Data)
		}
	}
	t.Fatalf("no frame of protocol %#x", protocol)
	return nil
}

// TestBridge: packets and control frames pass from a client to another LNS and back inside the kernel, over IPv4 and IPv6
// and with sequence numbers; both tunnels live until the last bridge ends, and nothing is left of what failed.
func TestBridge(t *testing.T) {
	for _, layout := range []string{"one router", "one router in a VRF"} {
		for _, six := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, IPv6 %t", layout, six), func(t *testing.T) { testBridge(t, layout, six) })
		}
	}
}

func testBridge(t *testing.T, layout string, six bool) {
	w := placed(t, layout, func(r *config.Router) { // which demands IPsec of its clients; the test's tunnels are ours
		if six {
			batch(t, r.Namespace.Name, fmt.Sprintf("address add %s/128 dev ext nodad\naddress add %s/64 dev a2 nodad\n", server6, lns6Router))
			r.ServerAddresses = append(r.ServerAddresses, netip.MustParseAddr(server6))
		}
	})
	defer w.close()
	// Without this nobody on the way computes or verifies a checksum, and a wrong one would not show.
	for _, link := range [][2]string{{w.transport.space, "a1"}, {w.transport.space, "a2"}, {w.peers[0].space, "ext"}, {w.peers[1].space, "ext"}} {
		run(t, "ip", "netns", "exec", link[0], "ethtool", "-K", link[1], "tx", "off")
	}
	before := w.state()
	near := w.lac(t)
	farLocal, farRemote := netip.MustParseAddr(serverAddress), w.peers[1].outer
	if six {
		farLocal, farRemote = netip.MustParseAddr(server6), netip.MustParseAddr(lns6)
		batch(t, w.peers[1].space, fmt.Sprintf("address add %s/64 dev ext nodad\nroute add %s/128 via %s\n", lns6, server6, lns6Router))
	}
	far := w.tunnel(t, w.peers[1].space, farRemote, farLocal, farTunnel, ourFar)

	plain, numbered := bridgeOf(5, near, far, false), bridgeOf(6, near, far, true)
	var both sync.WaitGroup
	var errs [2]error
	for i, b := range []subscriber.Bridge{plain, numbered} {
		both.Go(func() { errs[i] = w.plane.Bridge(b) })
	}
	both.Wait()
	w.check(errors.Join(errs[:]...))
	for i, b := range []subscriber.Bridge{plain, numbered} {
		client, server := fmt.Sprintf("10.20.%d.1", i), fmt.Sprintf("10.20.%d.2", i)
		u := near.end(t, b.Near.PeerSession, b.Near.Call.Session, b.Near.Sequencing, client, server)
		v := far.end(t, b.Far.PeerSession, b.Far.Call.Session, b.Far.Sequencing, server, client)
		const packets = 10
		if got := ping(t, near.space, client, server, packets, 1300); got != packets {
			t.Fatalf("session %d: %d of %d packets answered", b.ID, got, packets)
		}
		if got := ping(t, far.space, server, client, packets, 100); got != packets {
			t.Fatalf("session %d: %d of %d packets answered the other way", b.ID, got, packets)
		}
		request := []byte{1, 7, 0, 8, 1, 4, 5, 120}
		w.check(u.Channel.WriteFrame(0xc021, request))
		if got := frame(t, v.Channel, 0xc021); !bytes.Equal(got, request) {
			t.Errorf("LCP frame %x arrived as %x", request, got)
		}
		w.check(v.Interface.WriteFrame(0x8021, request))
		if got := frame(t, u.Interface, 0x8021); !bytes.Equal(got, request) {
			t.Errorf("IPCP frame %x arrived as %x", request, got)
		}
		const frames, payload = 2*packets + 1, packets * (1300 + 100)
		c, ok := w.plane.SessionCounters(b.ID)
		if !ok || c.InPackets != frames || c.OutPackets != frames || c.InBytes < payload || c.InBytes > payload+frames*20 {
			t.Errorf("session %d counted %+v", b.ID, c)
		}
		there, ok := w.plane.CallTraffic(b.Far.Call)
		if !ok || there.RxPackets != frames || there.TxPackets != frames || there.RxErrors+there.TxErrors+there.RxDiscards != 0 {
			t.Errorf("call %v counted %+v", b.Far.Call, there)
		}
	}
	if _, ok := w.plane.CallTraffic(subscriber.CallKey{Tunnel: uint16(near.own), Session: 99}); ok {
		t.Error("a call that is not there has traffic")
	}

	// What fails leaves nothing: a tunnel that is not there, and a call that is there already.
	for _, b := range []subscriber.Bridge{bridgeOf(7, near, &lac{own: ourFar + 1, peer: 1}, false), {ID: 7, Near: bridgeOf(7, near, far, false).Near, Far: plain.Far}} {
		var typed *controlplane.DataplaneError
		if err := w.plane.Bridge(b); !errors.As(err, &typed) {
			t.Errorf("bridge to %v: %v", b.Far, err)
		}
		left := true
		for end := time.Now().Add(5 * time.Second); left && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			_, left = w.plane.CallTraffic(b.Near.Call) // kernels from 6.11 remove it in a work queue
		}
		if left {
			t.Errorf("bridge to %v has left its near call", b.Far)
		}
	}

	// Tunnels that are to be closed serve those that they have, and nobody new.
	w.check(errors.Join(w.plane.CloseTunnel(near.own), w.plane.CloseTunnel(far.own)))
	if err := w.plane.Bridge(bridgeOf(8, near, far, false)); err == nil {
		t.Error("a bridge in tunnels that are to be closed")
	}
	if got := ping(t, near.space, "10.20.0.1", "10.20.0.2", 3, 100); got != 3 {
		t.Errorf("%d of 3 packets answered after the order to close the tunnels", got)
	}
	for _, b := range []subscriber.Bridge{plain, numbered} {
		c, err := w.plane.CloseBridge(b.ID)
		w.check(err)
		if c.InPackets == 0 || c.OutPackets == 0 {
			t.Errorf("session %d ended with %+v", b.ID, c)
		}
	}
	if err := w.plane.SendTunnel(l2tp.Send{Tunnel: near.own, Data: []byte{0}}); err == nil {
		t.Error("the near tunnel's socket is open")
	}
	near.close(t)
	far.close(t)
	for end := time.Now().Add(5 * time.Second); w.state() != before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left:\n%s\nbefore:\n%s", w.state(), before)
		}
	}
}
