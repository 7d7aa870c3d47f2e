package l2tpnl

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// protoOL2TP is PX_PROTO_OL2TP of linux/if_pppox.h.
const protoOL2TP = 1

// sizeSockaddr is that of the packed struct sockaddr_pppol2tp; the kernel tells
// its variants (IPv6, L2TPv3) by their size.
const sizeSockaddr = 38

// sockaddr is the address that ties a PPPoL2TP socket to an existing session:
//
//	0 family u16, 2 protocol u32, 6 pid s32, 10 fd s32, 14 sockaddr_in 16,
//	30 s_tunnel, 32 s_session, 34 d_tunnel, 36 d_session, all in host order
//
// The tunnel is found by its id, so the addresses stay zero whatever the
// family of the tunnel's socket is.
func sockaddr(fd int, s SessionSpec) [sizeSockaddr]byte {
	var b [sizeSockaddr]byte
	native.PutUint16(b[0:], unix.AF_PPPOX)
	native.PutUint32(b[2:], protoOL2TP)
	native.PutUint32(b[10:], uint32(fd))
	native.PutUint16(b[30:], s.Tunnel)
	native.PutUint16(b[32:], s.Session)
	native.PutUint16(b[34:], s.PeerTunnel)
	native.PutUint16(b[36:], s.Peer)
	return b
}

// channel is a PPPoL2TP socket: the lower half of a PPP channel. While it is
// open its session lives.
type channel struct {
	index int

	mu sync.Mutex
	fd int // -1: closed
}

// openChannel ties a new PPPoL2TP socket to a session and registers its PPP
// channel. udp is the tunnel's UDP socket. It waits for an RCU grace period,
// after which frames that came before are in the channel's queue, none lost
// (kernel.md section 1.1 step 5).
//
// The session must have been made: the kernel would make one by itself, in LAC
// mode and without sequencing.
func (k *Kernel) openChannel(udp int, spec SessionSpec) (*channel, error) {
	op := fmt.Sprintf("connect session %d/%d", spec.Tunnel, spec.Session)
	if err := spec.validate(); err != nil {
		return nil, err
	}
	fd := -1
	err := k.ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PPPOX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, protoOL2TP)
		return err
	})
	if err != nil {
		return nil, mapSessionError(op, err)
	}
	c := &channel{fd: fd}
	if err := connect(fd, sockaddr(udp, spec)); err != nil {
		return nil, errors.Join(mapError(op, err), c.close())
	}
	if c.index, err = unix.IoctlGetInt(fd, unix.PPPIOCGCHAN); err != nil {
		return nil, errors.Join(mapError(op, err), c.close())
	}
	return c, nil
}

// connect is connect(2) for an address type that x/sys does not know.
func connect(fd int, sa [sizeSockaddr]byte) error {
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), sizeSockaddr)
	runtime.KeepAlive(&sa)
	if errno != 0 {
		return errno
	}
	return nil
}

// descriptor is the socket, -1 after close.
func (c *channel) descriptor() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fd
}

// close unregisters the channel and ends the session, which waits for RCU grace
// periods. It is idempotent.
func (c *channel) close() error {
	c.mu.Lock()
	fd := c.fd
	c.fd = -1
	c.mu.Unlock()
	if fd < 0 {
		return nil
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("l2tpnl: close PPPoL2TP socket: %w", err)
	}
	return nil
}
