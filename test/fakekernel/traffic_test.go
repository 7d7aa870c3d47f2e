package fakekernel

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

func reason(err error) subscriber.Reason {
	var d *controlplane.DataplaneError
	if errors.As(err, &d) {
		return d.Reason
	}
	return ""
}

// TestTraffic: rates and policies hold from the opening, a change replaces them or fails as in the kernel, and
// nobody has another's network.
func TestTraffic(t *testing.T) {
	k := New(&notes{})
	d, err := k.Open(nil, &config.Router{Name: "red", TrafficPolicies: []config.TrafficPolicy{{Name: "web"}}}, &notes{})
	if err != nil {
		t.Fatal(err)
	}
	f := openAccess(1, 7, "10.0.0.7")
	f.Traffic = aaa.Traffic{In: 1000000, InPolicy: "none"}
	if _, _, err := d.OpenAccess(f); reason(err) != subscriber.Reason(aaa.ReasonUnknownPolicy) {
		t.Errorf("an unknown policy: %v", err)
	}
	f.Traffic.InPolicy = "web"
	f.Routes = []aaa.Route{{Prefix: netip.MustParsePrefix("10.7.0.0/16"), Metric: 3}}
	if _, _, err := d.OpenAccess(f); err != nil {
		t.Fatal(err)
	}
	holds := func(want string) {
		t.Helper()
		if s := k.String(); !strings.Contains(s, "10.0.0.7 from 10.0.0.1, "+want+"\n") {
			t.Errorf("no %q in %s", want, s)
		}
	}
	holds("in 1000000 bit/s, in by web, network 10.7.0.0/16 metric 3")
	other := openAccess(2, 8, "10.0.0.8")
	other.Routes = f.Routes
	if _, _, err := d.OpenAccess(other); reason(err) != "duplicate-route" {
		t.Errorf("the same network: %v", err)
	}
	if err := d.SetTraffic(subscriber.SetTraffic{ID: 1, Traffic: aaa.Traffic{Out: 5, OutPolicy: "none"}}); reason(err) != subscriber.Reason(aaa.ReasonUnknownPolicy) {
		t.Errorf("a change to an unknown policy: %v", err)
	}
	holds("in 1000000 bit/s, in by web, network 10.7.0.0/16 metric 3")
	if err := d.SetTraffic(subscriber.SetTraffic{ID: 1, Traffic: aaa.Traffic{Out: 5, OutPolicy: "web"}}); err != nil {
		t.Error(err)
	}
	holds("out 5 bit/s, out by web, network 10.7.0.0/16 metric 3")
	if err := d.SetTraffic(subscriber.SetTraffic{ID: 9}); reason(err) != subscriber.ReasonInterface {
		t.Errorf("a change of nobody: %v", err)
	}
}

// TestListenUDP: a socket of the virtual router closes with it.
func TestListenUDP(t *testing.T) {
	d, err := New(&notes{}).Open(nil, &config.Router{Name: "red"}, &notes{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ListenUDP(netip.MustParseAddrPort("192.0.2.77:0")); reason(err) != subscriber.ReasonKernel {
		t.Errorf("a stranger's address: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := conn.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("open after the router: %v", err)
	}
	if _, err := d.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0")); err == nil {
		t.Error("a socket of a closed router")
	}
}
