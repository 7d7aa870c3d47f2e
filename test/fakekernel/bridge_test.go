package fakekernel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// plainNotes is a wire that takes clear text.
type plainNotes struct{ notes }

func (n *plainNotes) SendL2TP(_ string, _, remote netip.AddrPort, data []byte) {
	n.got = append(n.got, fmt.Sprintf("clear to %v: %x", remote.Addr(), data))
}

var switched = subscriber.Bridge{
	ID:   6,
	Near: subscriber.CallEnds{Call: subscriber.CallKey{Tunnel: 7, Session: 10}, PeerTunnel: 70, PeerSession: 100},
	Far:  subscriber.CallEnds{Call: subscriber.CallKey{Tunnel: 8, Session: 20}, PeerTunnel: 80, PeerSession: 200},
}

// openBridge makes a router with the peers of open, and a tunnel to an LNS without IPsec.
func openBridge(t *testing.T, n *plainNotes, fail ...int) (*Kernel, controlplane.Dataplane) {
	t.Helper()
	k := New(n)
	for _, f := range fail {
		k.Fail(f)
	}
	d, err := k.Open(nil, &config.Router{Name: "red"}, n)
	if err != nil {
		t.Fatal(err)
	}
	in, out := sas(1, "198.51.100.1", 1)
	if err := errors.Join(d.InstallSA(in), d.InstallSA(out),
		d.OpenTunnel(l2tp.OpenSocket{Tunnel: 7, Remote: netip.MustParseAddrPort("198.51.100.1:1701"), Conn: 1}),
		d.OpenTunnel(l2tp.OpenSocket{Tunnel: 8, Remote: netip.MustParseAddrPort("203.0.113.1:1701")})); err != nil {
		t.Fatal(err)
	}
	return k, d
}

// TestBridge: frames pass from one call to the other and do not come up; both tunnels live as long as the bridge.
func TestBridge(t *testing.T) {
	n := &plainNotes{}
	k, d := openBridge(t, n)
	lns := netip.MustParseAddrPort("203.0.113.1:1701")
	near, far := []byte{0, 2, 0, 7, 0, 10, 0xff, 3, 0xc0, 0x21}, []byte{0, 2, 0, 8, 0, 20, 0xff, 3, 0xc0, 0x21}
	k.ReceiveESP("red", 1, near)
	if got := n.take(); got != "tunnel" {
		t.Errorf("before the bridge: %q", got)
	}
	if err := d.Bridge(switched); err != nil {
		t.Fatal(err)
	}
	k.ReceiveESP("red", 1, near)
	if got, want := n.take(), "clear to 203.0.113.1: 0002005000c8ff03c021"; got != want {
		t.Errorf("from the client: %q, want %q", got, want)
	}
	k.ReceiveL2TP("red", netip.AddrPort{}, lns, far)
	if got := n.take(); got != "sent by 198.51.100.1" {
		t.Errorf("from the LNS: %q", got)
	}
	k.ReceiveL2TP("red", netip.AddrPort{}, netip.MustParseAddrPort("203.0.113.2:1701"), far)
	k.ReceiveL2TP("red", netip.AddrPort{}, lns, near)
	k.ReceiveL2TP("red", netip.AddrPort{}, lns, far[:5])
	k.ReceiveESP("red", 1, far)
	if got := n.take(); got != "" {
		t.Errorf("from others: %q", got)
	}
	for _, call := range []subscriber.CallKey{switched.Near.Call, switched.Far.Call} {
		if c, ok := d.CallTraffic(call); !ok || c.RxPackets != 10 {
			t.Errorf("call %v: %v, %t", call, c, ok)
		}
	}
	if _, ok := d.SessionCounters(6); !ok {
		t.Error("a bridge without counters")
	}
	if err := errors.Join(d.CloseTunnel(7), d.CloseTunnel(8)); err != nil {
		t.Fatal(err)
	}
	if got := k.String(); !strings.Contains(got, "bridge of 198.51.100.1 to 203.0.113.1\n") || !strings.Contains(got, "tunnel of 203.0.113.1") {
		t.Errorf("while bridged:\n%s", got)
	}
	if err := d.Bridge(subscriber.Bridge{ID: 9, Near: switched.Near, Far: switched.Far}); err == nil {
		t.Error("bridged in a tunnel that is to be closed")
	}
	if c, err := d.CloseBridge(6); err != nil || c != sessionCounters {
		t.Errorf("%v, %v", c, err)
	}
	if got := k.String(); strings.Contains(got, "tunnel") || strings.Contains(got, "bridge") {
		t.Errorf("after the bridge:\n%s", got)
	}
	if _, ok := d.CallTraffic(switched.Near.Call); ok {
		t.Error("a call that is over has traffic")
	}
}

// TestBridgeFails: a failed bridge leaves nothing, a failed end leaves both tunnels.
func TestBridgeFails(t *testing.T) {
	n := &plainNotes{}
	k, d := openBridge(t, n, 6, 8)
	if err := d.Bridge(switched); !errors.Is(err, ErrInjected) || strings.Contains(k.String(), "bridge") {
		t.Errorf("%v:\n%s", err, k)
	}
	if err := d.Bridge(switched); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CloseBridge(6); !errors.Is(err, ErrInjected) || !strings.Contains(k.String(), "leaked bridge") || strings.Count(k.String(), "leaked tunnel") != 2 {
		t.Errorf("%v:\n%s", err, k)
	}
}

// TestReconfigure: what a running router can take over, and what it cannot.
func TestReconfigure(t *testing.T) {
	k := New(&notes{})
	k.Fail(5)
	router := func(change func(*config.Router)) *config.Router {
		r := &config.Router{Name: "red", ServerAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
		change(r)
		return r
	}
	d, err := k.Open(nil, router(func(*config.Router) {}), &notes{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*config.Router)
		ok     bool
		err    error
	}{
		{"policies", func(r *config.Router) { r.TrafficPolicies = []config.TrafficPolicy{{Name: "slow"}} }, true, nil},
		{"server address", func(r *config.Router) { r.ServerAddresses = nil }, false, nil},
		{"VRF", func(r *config.Router) { r.VRF.Device = "vrf" }, false, nil},
		{"injected", func(*config.Router) {}, false, ErrInjected},
	} {
		if ok, err := d.Reconfigure(nil, router(tc.change)); ok != tc.ok || !errors.Is(err, tc.err) {
			t.Errorf("%s: %t, %v", tc.name, ok, err)
		}
	}
}
