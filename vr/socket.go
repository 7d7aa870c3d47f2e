package vr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is one non-blocking UDP socket of a router. All methods may be called concurrently, also with Close,
// except that a Batch belongs to one caller at a time.
type Socket struct {
	local  netip.AddrPort // as bound; the address may be unspecified
	remote netip.AddrPort // invalid unless connected
	marker bool           // adds and strips the non-ESP marker

	mu     sync.RWMutex // guards fd against being closed, and its number reused, during a system call
	fd     int
	closed bool
}

// newSocket takes over fd, also when it fails.
func newSocket(fd int, marker bool) (*Socket, error) {
	s := &Socket{fd: fd, marker: marker}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, failed(err, "socket address")
	}
	s.local = addrPort(sa)
	if sa, err := unix.Getpeername(fd); err == nil {
		s.remote = addrPort(sa)
	}
	return s, nil
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch in := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr), uint16(in.Port))
	}
	return netip.AddrPort{}
}

// Local is the address and port the socket is bound to; the address is unspecified for a wildcard socket.
func (s *Socket) Local() netip.AddrPort { return s.local }

// Remote is the address and port the socket is connected to, invalid when it is not connected.
func (s *Socket) Remote() netip.AddrPort { return s.remote }

// FD is the file descriptor, for a Poller and for the kernel's L2TP. It is valid until Close; -1 after.
func (s *Socket) FD() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return -1
	}
	return s.fd
}

// Do runs fn with the file descriptor and keeps it open meanwhile. fn must not block for long and must not
// call Close. ErrClosed when the socket is closed.
func (s *Socket) Do(fn func(fd int) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	return fn(s.fd)
}

// Close closes the socket and waits for calls in progress. Idempotent. Remove it from the Poller first.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return failed(unix.Close(s.fd), "close UDP socket %s", s.local)
}

// Write sends one datagram on a connected socket.
//
// Errors: ErrAgain, ErrRefused (about an earlier datagram; this one was not sent), ErrClosed.
func (s *Socket) Write(data []byte) (int, error) {
	err := s.Do(func(fd int) error {
		return sendTwice(func() error {
			_, err := unix.Write(fd, data)
			return err
		})
	})
	if err != nil {
		return 0, failed(err, "send to %s", s.remote)
	}
	return len(data), nil
}

// WriteTo sends one datagram on an unconnected socket. local is the source address to use on a wildcard
// socket; invalid leaves it to the kernel. On a socket for NAT traversal the non-ESP marker is put before the
// data. Errors as Write.
func (s *Socket) WriteTo(data []byte, local netip.Addr, remote netip.AddrPort) error {
	to := remote.Addr().Unmap()
	if to.Is4() != s.local.Addr().Is4() {
		return fmt.Errorf("send to %s: %w", remote, unix.EAFNOSUPPORT)
	}
	var control []byte
	if local = local.Unmap(); local.Is4() && s.local.Addr().IsUnspecified() {
		control = packetInfo(local)
	}
	buffers := [][]byte{data}
	if s.marker {
		buffers = [][]byte{nonESP[:], data}
	}
	dst := sockaddr(netip.AddrPortFrom(to, remote.Port()))
	err := s.Do(func(fd int) error {
		return sendTwice(func() error {
			_, err := unix.SendmsgBuffers(fd, buffers, control, dst, 0)
			return err
		})
	})
	return failed(err, "send to %s", remote)
}

// sendTwice repeats a send that failed with the report of an ICMP error about an earlier datagram: reading
// the error has cleared it.
func sendTwice(send func() error) error {
	err := send()
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNREFUSED) {
		err = send()
	}
	return err
}

// nonESP is the marker that tells IKE from ESP on port 4500 (RFC 3948 section 2.2).
var nonESP [4]byte

// packetInfo builds the IP_PKTINFO control message that sets the source address.
func packetInfo(local netip.Addr) []byte { return packetInfoBy(local, 0) }

// packetInfoBy also sets the interface by which the packet leaves. An invalid address and index 0 leave it to the kernel.
func packetInfoBy(local netip.Addr, index int) []byte {
	b := make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&b[unix.CmsgLen(0)]))
	info.Ifindex = int32(index)
	if local.IsValid() {
		info.Spec_dst = local.As4()
	}
	return b
}

// Datagram is one received datagram.
type Datagram struct {
	Data   []byte // in the Batch's memory, valid until its next use
	Remote netip.AddrPort
	Local  netip.AddrPort // the address it was sent to
	Mark   uint32         // L2TP listener: number of the IPsec client, 0 for clear text
}

// Batch is the memory for receiving; one serves any number of sockets, one after the other.
type Batch struct {
	headers   []mmsghdr
	iovecs    []unix.Iovec
	names     []unix.RawSockaddrInet6 // room for either
	data      [][]byte
	control   [][]byte
	datagrams []Datagram
	dropped   uint64
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// controlSize holds IP_PKTINFO and SO_MARK.
var controlSize = unix.CmsgSpace(unix.SizeofInet4Pktinfo) + unix.CmsgSpace(4)

// NewBatch makes room for n datagrams (at least 1) of at most size bytes (at least 64).
func NewBatch(n, size int) *Batch {
	n, size = max(n, 1), max(size, 64)
	b := &Batch{
		headers:   make([]mmsghdr, n),
		iovecs:    make([]unix.Iovec, n),
		names:     make([]unix.RawSockaddrInet6, n),
		data:      make([][]byte, n),
		control:   make([][]byte, n),
		datagrams: make([]Datagram, 0, n),
	}
	for i := range n {
		b.data[i] = make([]byte, size)
		b.control[i] = make([]byte, controlSize)
		b.iovecs[i].Base = &b.data[i][0]
		b.iovecs[i].SetLen(size)
	}
	return b
}

// Dropped counts datagrams that did not fit, or that came to a socket for NAT traversal without the marker.
func (b *Batch) Dropped() uint64 { return b.dropped }

// readTries bounds how often ReadFrom repeats a receive that reported an ICMP error or was interrupted.
const readTries = 4

// ReadFrom receives up to a Batch of datagrams without waiting. None and no error: nothing is there. What an
// ICMP error said is dropped, it is a hint that anybody can forge. The result is valid until the next use of b.
func (s *Socket) ReadFrom(b *Batch) ([]Datagram, error) {
	b.reset()
	n := 0
	err := s.Do(func(fd int) error {
		for range readTries {
			r, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])),
				uintptr(len(b.headers)), unix.MSG_DONTWAIT, 0, 0)
			switch errno {
			case 0:
				n = int(r)
				return nil
			case unix.EAGAIN:
				return nil
			case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.ENOPROTOOPT, unix.EPROTO:
				continue
			default:
				return errno
			}
		}
		return nil
	})
	runtime.KeepAlive(b)
	if err != nil {
		return nil, failed(err, "receive on UDP %s", s.local)
	}
	for i := range n {
		if d, ok := b.datagram(s, i); ok {
			b.datagrams = append(b.datagrams, d)
		} else {
			b.dropped++
		}
	}
	return b.datagrams, nil
}

// reset prepares the headers, which the kernel overwrites.
func (b *Batch) reset() {
	b.datagrams = b.datagrams[:0]
	for i := range b.headers {
		h := &b.headers[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = unix.SizeofSockaddrInet6
		h.Iov = &b.iovecs[i]
		h.SetIovlen(1)
		h.Control = &b.control[i][0]
		h.SetControllen(controlSize)
		h.Flags = 0
	}
}

// datagram reads the i-th message.
func (b *Batch) datagram(s *Socket, i int) (Datagram, bool) {
	h := &b.headers[i]
	if h.hdr.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return Datagram{}, false
	}
	d := Datagram{Data: b.data[i][:h.len:h.len], Remote: sender(&b.names[i]), Local: s.local}
	if s.marker {
		if len(d.Data) < len(nonESP) || [4]byte(d.Data) != nonESP {
			return Datagram{}, false
		}
		d.Data = d.Data[len(nonESP):]
	}
	d.readControl(b.control[i][:h.hdr.Controllen])
	return d, true
}

// sender reads a socket address, in which the port is at the same place in either family.
func sender(name *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	if name.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), port)
}

// readControl takes local address and mark from the control messages.
func (d *Datagram) readControl(c []byte) {
	for len(c) >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > len(c) {
			return
		}
		body := c[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_MARK && len(body) >= 4:
			d.Mark = binary.NativeEndian.Uint32(body)
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&body[0]))
			d.Local = netip.AddrPortFrom(netip.AddrFrom4(info.Addr), d.Local.Port())
		}
		c = c[min(unix.CmsgSpace(size-unix.CmsgLen(0)), len(c)):]
	}
}
