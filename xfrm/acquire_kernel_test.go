//go:build kernel

package xfrm

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/test/netspace"
)

// asked listens to acquires until the test ends, or until stop is called.
func (n *network) asked(t *testing.T) (acquires chan Acquire, stop func()) {
	t.Helper()
	acquires = make(chan Acquire, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- n.kernel.WatchAcquires(ctx, func() { close(ready) }, func(a Acquire) { acquires <- a })
	}()
	<-ready
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("WatchAcquires: %v", err)
		}
	}
	t.Cleanup(stop)
	return acquires, stop
}

// static are the policies of a static tunnel between the server and the client that carries UDP by transport mode SAs.
func (n *network) static(t *testing.T, reqid uint32) []Policy {
	t.Helper()
	server, client := netip.MustParseAddr(serverAddr), netip.MustParseAddr(clientAddr)
	in := Policy{Dir: PolicyIn, Src: netip.PrefixFrom(client, 32), Dst: netip.PrefixFrom(server, 32), Proto: 17, Local: server}
	out := in
	out.Dir, out.Src, out.Dst, out.Reqid = PolicyOut, in.Dst, in.Src, reqid
	if !IsIdle(reqid) {
		out.Remote = client
	}
	return []Policy{out, in}
}

// TestAcquire: of a policy that nothing carries no packet leaves; the kernel asks for SAs once for each number, and only while
// somebody listens; then the SAs take over, whatever state it had made.
func TestAcquire(t *testing.T) {
	n := newNetwork(t)
	put := func(reqid uint32) {
		t.Helper()
		for _, p := range n.static(t, reqid) {
			if err := n.kernel.UpdatePolicy(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(Idle(1))
	fd, peer := socket(t, n.server, serverAddr, 1000, false, 0), socket(t, n.client, clientAddr, 2000, false, 0)
	sent := func() { t.Helper(); _ = send(t, fd, clientAddr, 2000, 100) } // the kernel may say that it did not send
	larval := func() int {
		t.Helper()
		return strings.Count(n.server.Run(t, "ip", "xfrm", "state"), "proto esp")
	}
	sent()
	if k := larval(); k != 0 {
		t.Errorf("%d larval states without a listener", k)
	}
	acquires, stop := n.asked(t)
	for range 3 {
		sent()
	}
	select {
	case a := <-acquires:
		if want := n.static(t, Idle(1))[0]; a.Policy != want || a.Packet.Proto != 17 || a.Packet.Dst != want.Dst {
			t.Errorf("%+v, want %+v", a, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no acquire")
	}
	put(Idle(2)) // nothing carries again: told again
	for range 3 {
		sent()
	}
	select {
	case a := <-acquires:
		if a.Policy.Reqid != Idle(2) {
			t.Errorf("%+v", a)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no second acquire")
	}
	select {
	case a := <-acquires:
		t.Errorf("one more: %+v", a)
	case <-time.After(100 * time.Millisecond):
	}
	if k := larval(); k != 2 {
		t.Errorf("%d larval states", k)
	}
	// A policy of somebody's whose SA comes while there is state for it.
	put(Tag(5))
	sent()
	if k := larval(); k != 3 {
		t.Errorf("%d larval states with a connection's policy", k)
	}
	in, out := pair(5, serverAddr, clientAddr, nil)
	in.Selector, out.Selector = Selector{Proto: 17}, Selector{Proto: 17}
	in.SetMark = 0
	if list, err := n.kernel.List(); err != nil || len(list) > 1 {
		t.Errorf("%+v, %v", list, err)
	}
	n.install(t, in, out)
	mustSend(t, fd, clientAddr, 2000, 100)
	if err := receive(peer); err != nil {
		t.Errorf("after the SAs have come nothing arrives: %v", err)
	}
	if got, err := n.kernel.Counters(out.ID()); err != nil || got.Packets != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	stop()
	put(Idle(3))
	sent()
	if k := larval(); k > 2+2 { // two of idle policies, two SAs
		t.Errorf("%d states", k)
	}
	select {
	case a := <-acquires:
		t.Errorf("not stopped: %+v", a)
	default:
	}
}

// TestStaticPolicies: what names no reqid is listed and flushed as what does, iproute2 sees it as meant, and the specific
// goes before the general.
func TestStaticPolicies(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	all := staticPolicies()
	for i, p := range all {
		if err := k.AddPolicy(p); err != nil {
			t.Fatal(err)
		}
		if err := k.AddPolicy(p); !errors.Is(err, ErrExists) {
			t.Errorf("%v twice: %v", p, err)
		}
		if i == 0 {
			if err := k.RemovePolicy(p); err != nil {
				t.Error(err)
			}
			if err := k.UpdatePolicy(p); err != nil {
				t.Error(err)
			}
		}
	}
	list, err := k.ListPolicies()
	if err != nil || len(list) != len(all) {
		t.Fatalf("%d of %d, %v", len(list), len(all), err)
	}
	there := map[Policy]bool{}
	for _, p := range list {
		there[p] = true
	}
	for _, p := range all {
		if !there[p] {
			t.Errorf("%+v is not among %+v", p, list)
		}
	}
	text := space.Run(t, "ip", "xfrm", "policy", "list", "dir", "out")
	for _, w := range []string{
		"src 10.1.0.0/16 dst 10.2.0.0/16 proto 6 sport 80 dport 8080", "src 192.0.2.1/32 dst 198.51.100.1/32 proto 47", "proto esp reqid 335544323 mode transport",
		"tmpl src 192.0.2.1 dst 0.0.0.0",
	} {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
	// Ports and protocol are part of what a policy is removed by.
	if err := k.RemovePolicy(all[1]); err != nil {
		t.Error(err)
	}
	if n, err := k.FlushPoliciesOf(netip.MustParseAddr("192.0.2.1")); n != len(all)-1 || err != nil {
		t.Errorf("FlushPoliciesOf: %d, %v", n, err)
	}
	if text := space.Run(t, "ip", "xfrm", "policy"); strings.Contains(text, "dir ") {
		t.Errorf("left:\n%s", text)
	}
}
