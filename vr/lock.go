package vr

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// claim takes the name of a router in the namespace, so that a second process does not replace, and then
// remove, the rules and addresses of a running one. The claim is an abstract Unix socket: such names belong to
// the network namespace, and the kernel frees them with the process, however it ends.
func (n *namespace) claim(router string) (fd int, err error) {
	err = n.do(func() error {
		fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, failed(err, "virtual router %s: claim its name", router)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@vrgate/vr/" + router}); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return -1, fmt.Errorf("virtual router %s is run by another process or another router of this one: %w", router, ErrInUse)
		}
		return -1, failed(err, "virtual router %s: claim its name", router)
	}
	return fd, nil
}
