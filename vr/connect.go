package vr

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// connect begins a TCP connection.
func (b *Prober) connect(p *probe) error {
	fd := -1
	err := b.r.space.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
		return err
	})
	if err != nil {
		return p.fail(ProbeBusy, err)
	}
	if err := b.dial(p, fd, b.vrf.name); err != nil {
		_ = unix.Close(fd)
		return err
	}
	p.dial = fd
	b.dials[fd] = p
	if own, err := unix.Getsockname(fd); err == nil && p.index != 0 {
		// In a VRF the kernel does not find the connection that an ICMP message is about if it is bound to an interface.
		p.flow = flow{target: p.spec.Target, local: addrPort(own).Port(), port: p.spec.Port}
		b.flows[p.flow] = p
	}
	return nil
}

// dial has a socket connect, and epoll say when it has.
func (b *Prober) dial(p *probe, fd int, device string) error {
	if p.spec.Device != "" {
		device = p.spec.Device
	}
	if device != "" {
		if err := unix.BindToDevice(fd, device); err != nil {
			return p.fail(ProbeNoInterface, err)
		}
	}
	if p.spec.Source.IsValid() {
		// The port is chosen with the address that is connected to, so that there are enough.
		err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err == nil {
			err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(p.spec.Source, 0)))
		}
		if err != nil {
			return p.kernel(err)
		}
	}
	// Else the kernel keeps to itself which ICMP message it was.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil {
		return p.fail(ProbeBusy, err)
	}
	err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(p.spec.Target, p.spec.Port)))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return p.kernel(err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)}
	if err := unix.EpollCtl(b.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return p.fail(ProbeBusy, err)
	}
	return nil
}

// connected says how a connection has ended, or false: it has not. The error queue is read first: an ICMP message in it is all that the kernel
// says of it, because reading it takes the socket's error away.
func (p *probe) connected() (bool, error) {
	if typ, code, ok := queuedError(p.dial); ok {
		e := p.fail(ProbeUnreachable, nil)
		e.Type, e.Code = typ, code
		return true, e
	}
	errno, err := unix.GetsockoptInt(p.dial, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return true, p.fail(ProbeBusy, err)
	case errno != 0:
		return true, p.kernel(unix.Errno(errno))
	}
	_, err = unix.Getpeername(p.dial)
	return err == nil, nil
}

// queuedError reads which ICMP message has ended a connection; false: none has.
//
// struct sock_extended_err (linux/errqueue.h): errno u32, origin u8, type u8, code u8, pad u8, info u32, data u32.
func queuedError(fd int) (typ, code uint8, ok bool) {
	const originAt, typeAt, codeAt = 4, 5, 6
	var data, control [256]byte
	_, n, _, _, err := unix.Recvmsg(fd, data[:], control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return 0, 0, false
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return 0, 0, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR && len(m.Data) > codeAt && m.Data[originAt] == unix.SO_EE_ORIGIN_ICMP {
			return m.Data[typeAt], m.Data[codeAt], true
		}
	}
	return 0, 0, false
}
