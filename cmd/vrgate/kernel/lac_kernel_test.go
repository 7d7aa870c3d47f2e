//go:build kernel

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/l2tpnl"
	"vrgate/pppd/unit"
)

// lac is an L2TP tunnel without IPsec whose sessions are made by hand at both ends: there is no control
// connection, and no PPP negotiation.
type lac struct {
	w      *world
	space  string
	fd     int
	l2tp   *l2tpnl.Kernel
	net    *unit.Net
	tunnel *l2tpnl.Tunnel
	own    l2tp.TunnelID // at the router
	peer   uint16        // at the peer
	ends   []func() error
}

const (
	lacTunnel = 77
	lnsTunnel = l2tp.TunnelIDMin + 77
)

// named is a namespace as the kernel packages want it.
type named struct {
	t  testing.TB
	in string
	fd int
}

func (n named) Do(fn func() error) error { inSpace(n.t, n.in, fn); return nil }
func (n named) NetNS() int               { return n.fd }

// lac makes the tunnel from the first peer's host.
func (w *world) lac(t *testing.T) *lac {
	t.Helper()
	p := w.peers[0]
	return w.tunnel(t, p.space, p.outer, netip.MustParseAddr(serverAddress), lacTunnel, lnsTunnel)
}

// tunnel makes a tunnel between an address in a peer's namespace and one of the router's, with the ids of either end.
func (w *world) tunnel(t *testing.T, space string, remote, local netip.Addr, peer uint16, own l2tp.TunnelID) *lac {
	t.Helper()
	l := &lac{w: w, space: space, own: own, peer: peer}
	place := named{t: t, in: space}
	inSpace(t, space, func() (err error) {
		if place.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		family, address := unix.AF_INET, func(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet4{Addr: a.As4(), Port: 1701} }
		if remote.Is6() {
			family, address = unix.AF_INET6, func(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet6{Addr: a.As16(), Port: 1701} }
		}
		if l.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(l.fd, address(remote)), unix.Connect(l.fd, address(local)))
	})
	t.Cleanup(func() { unix.Close(place.fd) })
	var err error
	l.l2tp, err = l2tpnl.Open(place)
	w.check(err)
	l.net, err = unit.OpenNet(place)
	w.check(err)
	l.tunnel, err = l.l2tp.Tunnel(l.fd, peer, uint16(own))
	w.check(err)
	w.check(w.plane.OpenTunnel(l2tp.OpenSocket{
		Tunnel: own, Local: netip.AddrPortFrom(local, 1701), Remote: netip.AddrPortFrom(remote, 1701),
	}))
	return l
}

// open makes a session with a subscriber, whose packets leave by its interface.
func (l *lac) open(t *testing.T, id subscriber.ID, inner netip.Addr, traffic aaa.Traffic, routes []aaa.Route) {
	t.Helper()
	const mtu = 1400
	w := l.w
	call := subscriber.CallKey{Tunnel: uint16(lnsTunnel), Session: uint16(id)}
	_, _, err := w.plane.OpenSession(subscriber.OpenSession{
		ID: id, Call: call, PeerTunnel: lacTunnel, PeerSession: uint16(id), Terminating: w.end.router, MTU: mtu, Traffic: traffic, Link: usualLink,
	})
	w.check(err)
	w.check(w.plane.Activate(subscriber.Activate{
		ID: id, Call: call, Terminating: w.end.router, Peer: inner, Gateway: netip.MustParseAddr(gatewayText), MTU: mtu, Routes: routes, Link: usualLink,
	}))
	s, err := l.tunnel.Open(l2tpnl.SessionSpec{Session: uint16(id), Peer: uint16(id)})
	w.check(err)
	u, err := unit.Open(unit.Spec{Transport: l.net, Channel: s.Index(), MTU: mtu})
	w.check(err)
	w.check(errors.Join(u.Up(), u.SetNetwork(unit.IPv4, true)))
	batch(t, l.space, fmt.Sprintf("address add %v/32 dev %s\nroute add default dev %s table %d\nrule add from %v lookup %d\n", inner, u.Name(), u.Name(), 100+id, inner, 100+id))
	l.ends = append(l.ends, u.Close, s.Close)
}

// close takes the peer's end away; the sessions are closed.
func (l *lac) close(t *testing.T) {
	t.Helper()
	var failed error
	for _, end := range l.ends {
		failed = errors.Join(failed, end())
	}
	if err := errors.Join(failed, l.tunnel.Close(), l.net.Close(), l.l2tp.Close(), unix.Close(l.fd)); err != nil {
		t.Error(err)
	}
}
