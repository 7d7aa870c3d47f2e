package fakekernel

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
)

func openAccess(id subscriber.ID, conn uint32, address string) subscriber.OpenAccess {
	return subscriber.OpenAccess{
		ID: id, Conn: conn, Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.7:4500"),
		Terminating: "red", Address: netip.MustParseAddr(address), Gateway: netip.MustParseAddr("10.0.0.1"), MTU: 1440,
	}
}

// TestAccess: a dynamic subscriber's SAs need its access (J8), an address belongs to one (J6), and
// its traffic is summed up until it is closed.
func TestAccess(t *testing.T) {
	k := New(&notes{})
	d, err := k.Open(nil, &config.Router{Name: "red"}, &notes{})
	if err != nil {
		t.Fatal(err)
	}
	in, _ := sas(7, "198.51.100.7", 7)
	in.Tunnel = true
	if err := d.InstallSA(in); err == nil {
		t.Error("a tunnel mode SA without access")
	}
	if name, index, err := d.OpenAccess(openAccess(1, 7, "10.0.0.7")); name == "" || index == 0 || err != nil {
		t.Fatalf("%q %d %v", name, index, err)
	}
	if err := d.InstallSA(in); err != nil {
		t.Error(err)
	}
	var duplicate *controlplane.DataplaneError
	if _, _, err := d.OpenAccess(openAccess(2, 8, "10.0.0.7")); !errors.As(err, &duplicate) || duplicate.Reason != "duplicate-address" {
		t.Errorf("the same address twice: %v", err)
	}
	if c, ok := d.Traffic(7); !ok || c != (subscriber.Counters{}) {
		t.Errorf("traffic from nowhere: %v %v", c, ok)
	}
	if _, ok := d.Traffic(8); ok {
		t.Error("a connection that never was has traffic")
	}
	want := subscriber.Counters{InBytes: 100, OutBytes: 20, InPackets: 3, OutPackets: 2}
	k.Carry("red", 7, subscriber.Counters{InBytes: 60, InPackets: 2})
	k.Carry("red", 7, subscriber.Counters{InBytes: 40, OutBytes: 20, InPackets: 1, OutPackets: 2})
	if c, ok := d.SessionCounters(1); !ok || c != want {
		t.Errorf("carried %v %v, want %v", c, ok, want)
	}
	if err := d.MoveConn(ike.MoveConn{Conn: 7, New: netip.MustParseAddrPort("203.0.113.9:4501")}); err != nil {
		t.Error(err)
	}
	if s := k.String(); !strings.Contains(s, "access of 203.0.113.9 in red mtu 1440, route to 10.0.0.7 from 10.0.0.1\n") {
		t.Errorf("after the move:\n%s", s)
	}
	if err := d.RemoveSA(ike.RemoveSA{Conn: 7, Dir: ike.Inbound, SPI: 7}); err != nil {
		t.Error(err)
	}
	if c, err := d.CloseAccess(1); c != want || err != nil {
		t.Errorf("at the end %v %v, want %v", c, err, want)
	}
	if s := k.String(); s != "router red\n" {
		t.Errorf("left:\n%s", s)
	}
}

// TestAccessFails: a failed opening makes nothing, a failed closing leaves what it should have removed.
func TestAccessFails(t *testing.T) {
	k := New(&notes{})
	k.Fail(2)
	k.Fail(4)
	d, err := k.Open(nil, &config.Router{Name: "red"}, &notes{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.OpenAccess(openAccess(1, 7, "10.0.0.7")); !errors.Is(err, ErrInjected) || k.String() != "router red\n" {
		t.Errorf("%v, left:\n%s", err, k)
	}
	if _, _, err := d.OpenAccess(openAccess(1, 7, "10.0.0.7")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CloseAccess(1); !errors.Is(err, ErrInjected) || !strings.Contains(k.String(), "leaked access of 198.51.100.7") {
		t.Errorf("%v, left:\n%s", err, k)
	}
}
