package vr

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// receiveBuffer of the shared sockets in bytes: a burst of thousands of reconnecting clients has to fit while
// the engine is busy. Tunnel sockets keep the system's default, they carry one peer's control traffic.
const receiveBuffer = 8 << 20

// ListenIKE opens the UDP socket for IKE on addr, on all addresses of the router for an invalid addr. With
// encap (port 4500) the kernel takes ESP datagrams and keepalives out of it, and the socket adds and strips
// the non-ESP marker (RFC 3948 section 2.2) by itself. No IPsec policy of the namespace applies to the socket.
//
// Errors: ErrInUse, *MissingFeature, ErrPermission.
func (r *Router) ListenIKE(addr netip.Addr, port uint16, encap bool) (*Socket, error) {
	if err := needXFRM(); err != nil {
		return nil, err
	}
	return r.open(addr, port, func(fd int) error {
		if err := sharedOptions(fd); err != nil {
			return err
		}
		if err := errors.Join(setPolicy(fd, policyIn, 0), setPolicy(fd, policyOut, 0)); err != nil {
			return fmt.Errorf("bypass policy: %w", err)
		}
		if !encap {
			return nil
		}
		err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP)
		if errors.Is(err, unix.ENOPROTOOPT) {
			return &MissingFeature{Feature: FeatureESPInUDP, Module: "esp4"}
		}
		return err
	}, encap)
}

// ListenL2TP opens the UDP socket for L2TP tunnels' first messages on addr, port 1701. Received datagrams
// carry the number of the IPsec client they came from as Mark, 0 for clear text. With an address of IPv6 there is clear
// text only.
//
// Errors: ErrInUse, *MissingFeature, ErrPermission.
func (r *Router) ListenL2TP(addr netip.Addr) (*Socket, error) {
	return r.open(addr, PortL2TP, func(fd int) error {
		if err := sharedOptions(fd); err != nil {
			return err
		}
		return receiveMark(fd)
	}, false)
}

// sharedOptions are those of the sockets that all clients share.
func sharedOptions(fd int) error {
	// SO_RCVBUFFORCE needs CAP_NET_ADMIN; without it take what net.core.rmem_max allows.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
}

// open makes a bound, unconnected socket of the router.
func (r *Router) open(addr netip.Addr, port uint16, options func(fd int) error, marker bool) (*Socket, error) {
	wildcard := !addr.IsValid() || addr.IsUnspecified()
	if wildcard {
		addr = netip.IPv4Unspecified()
	}
	addr = addr.Unmap()
	fd, err := r.udp(addr, func(fd int) error {
		if wildcard {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
				return err
			}
		}
		if err := options(fd); err != nil {
			return err
		}
		return unix.Bind(fd, sockaddr(netip.AddrPortFrom(addr, port)))
	})
	if err != nil {
		return nil, failed(err, "virtual router %s: listen on UDP %s", r.name, netip.AddrPortFrom(addr, port))
	}
	return newSocket(fd, marker)
}

// udp makes a UDP socket of an address's family in the router's namespace and VRF and lets configure finish it.
func (r *Router) udp(local netip.Addr, configure func(fd int) error) (int, error) {
	vrf, err := r.device()
	if err != nil {
		return -1, err
	}
	fd, family := -1, unix.AF_INET
	if local.Is6() {
		family = unix.AF_INET6
	}
	err = r.space.do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
		return err
	})
	if err != nil {
		return -1, err
	}
	if vrf.name != "" {
		err = unix.BindToDevice(fd, vrf.name)
	}
	if err == nil {
		// IKE messages with certificates exceed every MTU; let the routers on the way fragment them.
		if family == unix.AF_INET6 {
			err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT))
		} else {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		}
	}
	if err == nil {
		err = configure(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// TunnelSocket opens the socket of one L2TP tunnel: bound to local and port (our tunnel id, MinTunnelPort to
// MaxTunnelPort) and connected to remote, the peer's real address and port. On the wire its source port is
// 1701, by the router's rules. With a reqid other than 0 the socket sends and accepts only what goes through
// an IPsec SA of that reqid; nothing leaves it in clear. Both addresses may be IPv6, without IPsec.
//
// Errors: ErrInUse (choose another tunnel id), ErrRefused (no route to remote), *BadSpec, ErrPermission.
func (r *Router) TunnelSocket(local netip.Addr, port uint16, remote netip.AddrPort, reqid uint32) (*Socket, error) {
	local, remote = local.Unmap(), netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	switch {
	case port < MinTunnelPort:
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("tunnel port %d is below %d", port, MinTunnelPort)}
	case !local.IsValid() || local.IsUnspecified():
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("tunnel needs a local address, not %s", local)}
	case !remote.Addr().IsValid() || remote.Addr().IsUnspecified() || remote.Port() == 0:
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("tunnel needs a remote address and port, not %s", remote)}
	case local.Is4() != remote.Addr().Is4():
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("no tunnel goes from %s to %s, one of which is IPv6", local, remote)}
	case local.Is6() && reqid != 0:
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("tunnel to %s: IPsec carries L2TP over IPv4 only", remote)}
	}
	fd, err := r.udp(local, func(fd int) error {
		mark := MarkTunnelPlain
		if reqid != 0 {
			mark = MarkTunnel
			// Before bind: from then on the rules steer to this port whatever names its tunnel id, and
			// nothing may be queued that did not come through the client's SA.
			if err := setPolicy(fd, policyIn, reqid); err != nil {
				return fmt.Errorf("policy: %w", err)
			}
		}
		// SO_NO_CHECK: ESP protects better, and NAT makes the pseudo header wrong. IPv6 cannot do without (RFC 8200 section 8.1).
		if local.Is4() {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
				return err
			}
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return err
		}
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(local, port))); err != nil {
			return err
		}
		if err := unix.Connect(fd, sockaddr(remote)); err != nil {
			return err
		}
		if reqid == 0 {
			return nil
		}
		// After connect, which fails when the policy is there and the SA is not.
		return setPolicy(fd, policyOut, reqid)
	})
	if err != nil {
		return nil, failed(err, "virtual router %s: tunnel socket %s to %s", r.name, netip.AddrPortFrom(local, port), remote)
	}
	return newSocket(fd, false)
}

// refusePorts is how many random tunnel ports Refuse tries.
const refusePorts = 16

// Refuse answers a tunnel request that is not accepted: it sends data (a StopCCN) once, as a tunnel's socket
// would, from port 1701 and under IPsec if reqid is not 0, and keeps nothing.
func (r *Router) Refuse(local netip.Addr, remote netip.AddrPort, reqid uint32, data []byte) error {
	var err error
	for range refusePorts {
		var random [2]byte
		rand.Read(random[:])
		port := MinTunnelPort + binary.BigEndian.Uint16(random[:])%(MaxTunnelPort-MinTunnelPort+1)
		var s *Socket
		if s, err = r.TunnelSocket(local, port, remote, reqid); err == nil {
			_, err = s.Write(data)
			return errors.Join(err, s.Close())
		}
		if !errors.Is(err, ErrInUse) {
			break
		}
	}
	return err
}

// needXFRM loads the kernel's IPsec netlink interface by opening it: socket policies need it and do not load
// it themselves.
func needXFRM() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	if err == nil {
		return unix.Close(fd)
	}
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return &MissingFeature{Feature: FeatureXFRM, Module: "xfrm_user"}
	}
	return failed(err, "open IPsec netlink")
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}
