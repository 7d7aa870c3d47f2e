package vr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ListenUDP opens a UDP socket of the router, IPv4 or IPv6, for a protocol that brings its own policies; the IPsec
// policies of subscribers do not touch it, because they are their interfaces'. Port 0 is any, an unspecified address
// any of the router. The caller closes it.
//
// Errors: ErrInUse, ErrNotFound when the address is not the router's, ErrPermission, ErrClosed.
func (r *Router) ListenUDP(local netip.AddrPort) (*net.UDPConn, error) {
	vrf, err := r.device()
	if err != nil {
		return nil, err
	}
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	network := "udp6"
	if local.Addr().Is4() {
		network = "udp4"
	}
	if !local.Addr().IsValid() {
		return nil, &BadSpec{Router: r.name, Reason: "a UDP socket without an address"}
	}
	config := net.ListenConfig{Control: bindTo(vrf.name)}
	var conn net.PacketConn
	// The socket is made on the calling thread, because there is no name to look up.
	err = r.space.do(func() (err error) {
		conn, err = config.ListenPacket(context.Background(), network, local.String())
		return err
	})
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil, fmt.Errorf("virtual router %s: UDP %s: %w (%w)", r.name, local, ErrNotFound, err)
	}
	if err != nil {
		return nil, failed(err, "virtual router %s: UDP %s", r.name, local)
	}
	return conn.(*net.UDPConn), nil
}
