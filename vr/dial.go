package vr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dial connects by "udp" or "tcp" from within the router to an IPv4 address and port, which is not a name: its place is in
// [net.Resolver].Dial, with PreferGo, so that the router's name servers are asked. It blocks as long as ctx lets it. The caller closes what it
// returns.
//
// Errors: *BadSpec for anything else; ErrRefused; ErrClosed; and what the kernel says.
func (r *Router) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	vrf, err := r.device()
	if err != nil {
		return nil, err
	}
	remote, err := netip.ParseAddrPort(address)
	if err != nil || !remote.Addr().Unmap().Is4() {
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("%q is not an IPv4 address with a port", address)}
	}
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	switch network {
	case "udp", "udp4":
		network = "udp4"
	case "tcp", "tcp4":
		network = "tcp4"
	default:
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("there are no connections by %q", network)}
	}
	dialer := net.Dialer{Control: bindTo(vrf.name)}
	var conn net.Conn
	// The socket is made on the calling thread, because there is one address and no name to look up.
	err = r.space.do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, remote.String())
		return err
	})
	if err != nil {
		return nil, failed(err, "virtual router %s: connect by %s to %s", r.name, network, remote)
	}
	return conn, nil
}

// bindTo binds sockets of package net to a device; "" is none.
func bindTo(device string) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		if device == "" {
			return nil
		}
		var bind error
		err := c.Control(func(fd uintptr) { bind = unix.BindToDevice(int(fd), device) })
		return errors.Join(err, bind)
	}
}
