package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access says who may use the socket besides root and the daemon's own user.
type Access struct {
	// Group is a group's number; -1 for none.
	Group int
}

// AccessFor looks a group up by name or number; the empty name is nobody.
func AccessFor(group string) (Access, error) {
	if group == "" {
		return Access{Group: -1}, nil
	}
	if n, err := strconv.ParseUint(group, 10, 31); err == nil {
		return Access{Group: int(n)}, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return Access{}, fmt.Errorf("group of the control socket: %w", err)
	}
	n, err := strconv.ParseUint(g.Gid, 10, 31)
	if err != nil {
		return Access{}, fmt.Errorf("group of the control socket: number of %s: %w", group, err)
	}
	return Access{Group: int(n)}, nil
}

// Listen opens the unix socket at path, with mode 0600, or 0660 for the group.
// A socket that a dead predecessor left is replaced: the caller holds the
// daemon's lock. Anything else at path is an error.
func (a Access) Listen(path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case err == nil && info.Mode().Type() == os.ModeSocket:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	case err == nil:
		return nil, fmt.Errorf("control socket: %s exists and is not a socket", path)
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Until the mode is set somebody may connect, but gets no further than the
	// check of credentials.
	mode := os.FileMode(0o600)
	if a.Group >= 0 {
		mode = 0o660
		err = os.Chown(path, -1, a.Group)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

type verdictKey struct{}

// connContext checks a connection's peer once and keeps the verdict for its
// requests.
func (a Access) connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, verdictKey{}, a.check(c))
}

// verdict is why a peer may not use the API; the zero verdict lets it in.
type verdict struct{ err error }

// allowed returns the verdict on the connection of a request. A request without
// one did not come through Run and is refused.
func allowed(ctx context.Context) error {
	v, ok := ctx.Value(verdictKey{}).(verdict)
	if !ok {
		return errors.New("the peer is not known")
	}
	return v.err
}

func (a Access) check(c net.Conn) verdict {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return verdict{errors.New("the peer is not known")}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return verdict{errors.New("the peer is not known")}
	}
	var cred *unix.Ucred
	var groups []uint32
	var credErr, groupErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups, groupErr = peerGroups(int(fd))
	})
	if err != nil || credErr != nil || groupErr != nil {
		return verdict{errors.New("the peer is not known")}
	}
	switch {
	case cred.Uid == 0, int64(cred.Uid) == int64(os.Geteuid()):
		return verdict{}
	case a.Group >= 0 && (int64(cred.Gid) == int64(a.Group) || slices.Contains(groups, uint32(a.Group))):
		return verdict{}
	}
	return verdict{fmt.Errorf("user %d may not use the control socket", cred.Uid)}
}

// maxPeerGroups is NGROUPS_MAX of the kernel.
const maxPeerGroups = 65536

// peerGroups returns the supplementary groups of a unix socket's peer
// (SO_PEERGROUPS), which SO_PEERCRED leaves out.
func peerGroups(fd int) ([]uint32, error) {
	for n := 64; n <= maxPeerGroups; n *= 4 {
		groups := make([]uint32, n)
		size := uint32(n * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return groups[:size/4], nil
		case unix.ERANGE:
			continue
		default:
			return nil, errno
		}
	}
	return nil, unix.ERANGE
}
