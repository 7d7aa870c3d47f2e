package vr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// running starts a Poller; at the end it must stop and leave no goroutine.
func running(t *testing.T) *Poller {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, p.Close(), p.Close()); err != nil {
			t.Error(err)
		}
		if err := p.Add(0, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Add after Close: %v", err)
		}
		goleak.VerifyNone(t, leaks)
	})
	return p
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// TestPollerMany: many descriptors, each served by its own function.
func TestPollerMany(t *testing.T) {
	p := running(t)
	const n = 300
	from := loopback(t, false, nil)
	var got [n]atomic.Int32
	for i := range n {
		s := loopback(t, false, nil)
		batch := NewBatch(2, 100)
		err := p.Add(s.FD(), func() {
			list, err := s.ReadFrom(batch)
			if err != nil {
				t.Error(err)
			}
			for _, d := range list {
				if want := fmt.Sprint(i); string(d.Data) != want {
					t.Errorf("socket %d got %q", i, d.Data)
				}
				got[i].Add(1)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Add(s.FD(), func() {}); !errors.Is(err, ErrInUse) {
			t.Errorf("the same descriptor again: %v", err)
		}
		t.Cleanup(func() { p.Remove(s.FD()) })
		for range 3 { // more than the batch takes: the function is called again
			if err := from.WriteTo([]byte(fmt.Sprint(i)), netip.Addr{}, s.Local()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if p.Len() != n {
		t.Errorf("%d descriptors", p.Len())
	}
	eventually(t, "not all datagrams were read", func() bool {
		for i := range n {
			if got[i].Load() != 3 {
				return false
			}
		}
		return true
	})
}

// TestPollerHangUp: an end of file with hang-up is reported once, then the descriptor is out.
func TestPollerHangUp(t *testing.T) {
	p := running(t)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	var calls atomic.Int32
	if err := p.Add(pipe[0], func() { calls.Add(1) }); err != nil {
		t.Fatal(err)
	}
	unix.Close(pipe[1])
	eventually(t, "the hang-up was not reported", func() bool { return p.Len() == 0 && calls.Load() > 0 })
	time.Sleep(20 * time.Millisecond)
	if n := calls.Load(); n != 1 {
		t.Errorf("called %d times", n)
	}
}

// TestPollerICMP: an ICMP error on a connected socket calls nobody and does not spin; data still arrives.
func TestPollerICMP(t *testing.T) {
	p := running(t)
	a, b := loopback(t, false, nil), loopback(t, false, nil)
	peer := b.Local()
	if err := unix.Connect(a.FD(), sockaddr(peer)); err != nil {
		t.Fatal(err)
	}
	b.Close()
	var calls atomic.Int32
	batch := NewBatch(1, 100)
	got := make(chan string, 1)
	err := p.Add(a.FD(), func() {
		calls.Add(1)
		list, err := a.ReadFrom(batch)
		if err != nil {
			t.Error(err)
		}
		for _, d := range list {
			got <- string(d.Data)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove(a.FD())
	if _, err := a.Write([]byte("anybody?")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if n := calls.Load(); n != 0 {
		t.Errorf("called %d times for an ICMP error", n)
	}
	again, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	if err := unix.Bind(again, sockaddr(peer)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(again, []byte("here"), 0, sockaddr(a.Local())); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "here" {
		t.Errorf("got %q", text)
	}
}

// TestPollerRemove: after Remove the function does not run, so its descriptor can be closed; its number is
// reused at once by another, whose function must not see the old one's events.
func TestPollerRemove(t *testing.T) {
	p := running(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 200 {
				fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
				if err != nil {
					t.Error(err)
					return
				}
				var live atomic.Bool
				live.Store(true)
				if err := p.Add(fd, func() {
					if !live.Load() {
						t.Error("called after Remove")
					}
				}); err != nil {
					t.Error(err)
				}
				p.Remove(fd)
				live.Store(false)
				p.Remove(fd) // unknown now
				unix.Close(fd)
			}
		})
	}
	wait.Wait()
	if p.Len() != 0 {
		t.Errorf("%d descriptors left", p.Len())
	}
}

// TestPollerDetach: a function takes itself out.
func TestPollerDetach(t *testing.T) {
	p := running(t)
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var calls atomic.Int32
	if err := p.Add(fd, func() { calls.Add(1); p.Detach(fd) }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not called", func() bool { return calls.Load() > 0 })
	time.Sleep(10 * time.Millisecond)
	if n := calls.Load(); n != 1 || p.Len() != 0 {
		t.Errorf("called %d times, %d descriptors left", n, p.Len())
	}
}

// TestPollerAgain: Run can be called again after its context has ended, and then waits without spinning.
func TestPollerAgain(t *testing.T) {
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	fds := []unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); n != 0 || err != nil {
		t.Errorf("the wake-up is still pending: %d, %v", n, err)
	}
}
