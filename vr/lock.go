package vr

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// claim holds names in a namespace for as long as it is open, so that a second process does not replace, and
// then remove, the rules and addresses of a running one. The kernel frees them with the process, however it
// ends, because they are abstract Unix sockets; those belong to the network namespace.
type claim []int

// claim takes a router's name and, unless table is 0, its routing table: the routes of two routers in one
// table could not be told apart.
func (n *namespace) claim(router string, table int) (claim, error) {
	c, err := claim(nil).add(n, "router "+router)
	if err == nil && table != 0 {
		c, err = c.add(n, fmt.Sprintf("table %d", table))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("virtual router %s: %w", router, err), c.release())
	}
	return c, nil
}

func (c claim) add(n *namespace, what string) (claim, error) {
	fd := -1
	err := n.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return c, failed(err, "claim %s", what)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@vrgate/" + what}); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return c, fmt.Errorf("%s of this namespace belongs to another router or process: %w", what, ErrInUse)
		}
		return c, failed(err, "claim %s", what)
	}
	return append(c, fd), nil
}

func (c claim) release() error {
	var errs []error
	for _, fd := range c {
		errs = append(errs, failed(unix.Close(fd), "release a claim"))
	}
	return errors.Join(errs...)
}
