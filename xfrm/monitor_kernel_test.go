//go:build kernel

package xfrm

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"vrgate/test/netspace"
)

// TestFlushed: what we do is no news and is counted; that somebody removes everything is told of, for SAs and policies alike.
func TestFlushed(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	ctx, cancel := context.WithCancel(context.Background())
	ready, events, done := make(chan struct{}), make(chan Event, 100), make(chan error, 1)
	go func() { done <- k.Watch(ctx, func() { close(ready) }, func(e Event) { events <- e }) }()
	<-ready
	in, out := pair(1, serverAddr, clientAddr, nil)
	policy := goodPolicy(PolicyIn)
	census := func(want Census) {
		t.Helper()
		if c, err := k.Census(); err != nil || c != want {
			t.Errorf("%+v, %v, want %+v", c, err, want)
		}
	}
	census(Census{})
	for range 2 {
		if err := errors.Join(k.AddPair(in, out), k.AddPolicy(policy)); err != nil {
			t.Fatal(err)
		}
		census(Census{SAs: 2, Policies: 1})
		if err := errors.Join(k.Remove(in.ID()), k.Remove(out.ID()), k.RemovePolicy(policy)); err != nil {
			t.Fatal(err)
		}
		census(Census{})
	}
	if err := errors.Join(k.AddPair(in, out), k.AddPolicy(policy)); err != nil {
		t.Fatal(err)
	}
	for i, what := range []string{"state", "policy"} {
		space.Run(t, "ip", "xfrm", what, "flush")
		select {
		case e := <-events:
			if e != (Flushed{}) {
				t.Errorf("%s: %+v", what, e)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not told", what)
		}
		census(Census{Policies: 1 - i})
	}
	select {
	case e := <-events:
		t.Errorf("%+v too", e)
	default:
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestWatchKeepsNoKeys: messages with keys are never received.
func TestWatchKeepsNoKeys(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	w := watched{groups: []uint32{groupSA, groupPolicy}, types: []uint16{msgFlushSA}, buffer: watchBuffer}
	conn, err := w.open(space.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in, out := pair(1, serverAddr, clientAddr, nil)
	policy := goodPolicy(PolicyIn)
	policy.Local = netip.MustParseAddr(serverAddr)
	if err := errors.Join(k.AddPair(in, out), k.AddPolicy(policy), k.Remove(in.ID())); err != nil {
		t.Fatal(err)
	}
	space.Run(t, "ip", "xfrm", "state", "flush")
	msgs, err := conn.Receive()
	if err != nil || len(msgs) != 1 || msgs[0].Header.Type != msgFlushSA {
		t.Errorf("%d messages %+v, %v", len(msgs), msgs, err)
	}
}
