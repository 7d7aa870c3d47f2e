package vr

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Poller calls functions when file descriptors become readable: one epoll instance and one goroutine, Run's,
// for any number of descriptors. Level-triggered: a function that leaves something unread is called again.
//
// What the kernel reports beside readable data:
//   - an ICMP error on a UDP socket is a hint that anybody can forge: the Poller clears it and calls nobody;
//   - a hang-up (EPOLLHUP, or an error on something that is not a socket) is final: the function is called
//     once more, reads what is left and the end, and the descriptor is taken out.
//
// A PPP unit without a channel is readable and reads 0: its function has to Detach it, or it is called for ever.
type Poller struct {
	epoll int
	wake  int // eventfd

	mu      sync.Mutex
	idle    *sync.Cond // signalled when a function has returned
	entries map[int]*entry
	serial  uint32
	running *entry // whose function Run is in
	closed  bool
	loop    bool // Run is active
}

// entry is one registered descriptor. serial tells it from an earlier one with the same number, for which
// events may still be in Run's hands.
type entry struct {
	fd     int
	serial uint32
	fn     func()
}

// pollBatch is how many events one epoll_wait takes.
const pollBatch = 128

// NewPoller makes a Poller. The caller runs Run in a goroutine of its own and calls Close after it has ended.
func NewPoller() (*Poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, failed(err, "epoll")
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, failed(err, "eventfd")
	}
	p := &Poller{epoll: ep, wake: wake, entries: make(map[int]*entry)}
	p.idle = sync.NewCond(&p.mu)
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)} // serial 0 is no entry's
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &event); err != nil {
		unix.Close(wake)
		unix.Close(ep)
		return nil, failed(err, "epoll")
	}
	return p, nil
}

// Add registers a descriptor; fn is called in Run's goroutine whenever it is readable and must not block.
// ErrInUse when the descriptor is registered already, ErrClosed after Close.
func (p *Poller) Add(fd int, fn func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("poller: %w", ErrClosed)
	}
	if p.entries[fd] != nil {
		return fmt.Errorf("poller: descriptor %d: %w", fd, ErrInUse)
	}
	if p.serial++; p.serial == 0 {
		p.serial = 1
	}
	e := &entry{fd: fd, serial: p.serial, fn: fn}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd), Pad: int32(e.serial)}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return failed(err, "poller: descriptor %d", fd)
	}
	p.entries[fd] = e
	return nil
}

// Remove takes a descriptor out and waits until its function is not running, so that it may be closed after.
// Not to be called by that function itself, which uses Detach, nor with a lock held that the function takes.
// An unknown descriptor is fine.
func (p *Poller) Remove(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[fd]
	p.detachLocked(e)
	for p.running != nil && (p.running == e || p.running.fd == fd) {
		p.idle.Wait()
	}
}

// Detach takes a descriptor out and does not wait: for use by its own function.
func (p *Poller) Detach(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.detachLocked(p.entries[fd])
}

func (p *Poller) detachLocked(e *entry) {
	if e == nil || p.entries[e.fd] != e {
		return
	}
	delete(p.entries, e.fd)
	// ENOENT and EBADF: it has been closed, which took it out.
	_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, e.fd, nil)
}

// Len is the number of registered descriptors.
func (p *Poller) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.entries)
}

// Run calls the functions until ctx ends, then returns nil, or until the kernel fails.
func (p *Poller) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.closed || p.loop {
		p.mu.Unlock()
		return fmt.Errorf("poller: %w", ErrClosed)
	}
	p.loop = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.loop = false
		var drain [8]byte
		_, _ = unix.Read(p.wake, drain[:])
		p.idle.Broadcast()
		p.mu.Unlock()
	}()
	stop := context.AfterFunc(ctx, p.interrupt)
	defer stop()
	events := make([]unix.EpollEvent, pollBatch)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(p.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return failed(err, "poller")
		}
		for _, event := range events[:n] {
			p.dispatch(int(event.Fd), uint32(event.Pad), event.Events)
		}
	}
	return nil
}

// interrupt makes Run look at its context.
func (p *Poller) interrupt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// dispatch handles one event.
func (p *Poller) dispatch(fd int, serial, events uint32) {
	p.mu.Lock()
	e := p.entries[fd]
	if e == nil || e.serial != serial {
		p.mu.Unlock()
		return
	}
	if events&unix.EPOLLERR != 0 {
		// Reading the error of a socket clears it.
		if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
			events |= unix.EPOLLHUP
		}
	}
	if events&unix.EPOLLHUP != 0 {
		p.detachLocked(e)
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP) == 0 {
		p.mu.Unlock()
		return
	}
	p.running = e
	p.mu.Unlock()
	e.fn()
	p.mu.Lock()
	p.running = nil
	p.idle.Broadcast()
	p.mu.Unlock()
}

// Close releases the epoll instance, after Run has returned. The registered descriptors stay open. Idempotent.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.loop {
		p.idle.Wait()
	}
	if p.closed {
		return nil
	}
	p.closed = true
	clear(p.entries)
	return failed(errors.Join(unix.Close(p.wake), unix.Close(p.epoll)), "poller")
}
