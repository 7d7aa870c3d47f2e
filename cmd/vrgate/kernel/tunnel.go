package kernel

import (
	"errors"
	"sync"

	"vrgate/controlplane"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/l2tpnl"
	"vrgate/vr"
	"vrgate/xfrm"
)

// tunnel is one L2TP tunnel: its socket, and the kernel's tunnel on it once a session exists.
type tunnel struct {
	id     l2tp.TunnelID
	socket *vr.Socket
	conn   l2tp.ConnID

	// A call of the one tunnel may be made or end while the other tunnel of a bridge is in use.
	mu       sync.Mutex
	kernel   *l2tpnl.Tunnel
	sessions int
	closing  bool // the socket goes with the last session
}

// call is an L2TP session in the kernel with its PPP channel.
type call struct {
	tunnel *tunnel
	l2tp   *l2tpnl.Session
}

// OpenTunnel implements [controlplane.Dataplane].
func (d *dataplane) OpenTunnel(f l2tp.OpenSocket) error {
	s, err := d.vr.TunnelSocket(f.Local.Addr(), uint16(f.Tunnel), f.Remote, reqid(f.Conn))
	if errors.Is(err, vr.ErrInUse) {
		return controlplane.ErrPortInUse
	}
	if err != nil {
		return typed(err)
	}
	t := &tunnel{id: f.Tunnel, socket: s, conn: f.Conn}
	d.mu.Lock()
	if d.tunnels[f.Tunnel] != nil { // an ended tunnel of that id still has sessions to close
		d.mu.Unlock()
		_ = s.Close()
		return controlplane.ErrPortInUse
	}
	d.tunnels[f.Tunnel] = t
	d.mu.Unlock()
	if err := d.receive(s, func(g vr.Datagram) {
		d.in.L2TPPacket(f.Tunnel, f.Local, g.Remote, f.Conn, g.Data)
	}); err != nil {
		d.forget(f.Tunnel)
		_ = s.Close()
		return typed(err)
	}
	return nil
}

// reqid is the number of an IPsec client in the kernel, 0 for clear text.
func reqid(c l2tp.ConnID) uint32 { return xfrm.Tag(uint32(c)) }

func (d *dataplane) forget(id l2tp.TunnelID) {
	d.mu.Lock()
	delete(d.tunnels, id)
	d.mu.Unlock()
}

func (d *dataplane) tunnel(id l2tp.TunnelID) *tunnel {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tunnels[id]
}

// SendTunnel implements [controlplane.Dataplane].
func (d *dataplane) SendTunnel(f l2tp.Send) error {
	t := d.tunnel(f.Tunnel)
	if t == nil {
		return vr.ErrClosed
	}
	_, err := t.socket.Write(f.Data)
	if errors.Is(err, vr.ErrRefused) {
		// The error was of an earlier datagram; this one has not been sent.
		_, err = t.socket.Write(f.Data)
	}
	return err
}

// Refuse implements [controlplane.Dataplane].
func (d *dataplane) Refuse(f l2tp.Refuse) error {
	return d.vr.Refuse(f.Local.Addr(), f.Remote, reqid(f.Conn), f.Data)
}

// CloseTunnel implements [controlplane.Dataplane].
func (d *dataplane) CloseTunnel(id l2tp.TunnelID) error {
	t := d.tunnel(id)
	if t == nil || !t.close() {
		return nil
	}
	return d.closeTunnel(t)
}

func (d *dataplane) closeTunnel(t *tunnel) error {
	d.poller.Remove(t.socket.FD())
	var err error
	if t.kernel != nil {
		err = t.kernel.Close()
	}
	err = errors.Join(err, t.socket.Close())
	d.forget(t.id)
	return typed(err)
}

var errTunnelGone = &controlplane.DataplaneError{Reason: subscriber.ReasonTunnelGone, Text: "the tunnel ended meanwhile"}

// enter takes part in the tunnel, which then stays until leave. The first makes it in the kernel's eyes.
func (t *tunnel) enter(k *l2tpnl.Kernel, peer uint16) (*l2tpnl.Tunnel, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return nil, errTunnelGone
	}
	if t.kernel == nil {
		made, err := k.Tunnel(t.socket.FD(), uint16(t.id), peer)
		if err != nil {
			return nil, err
		}
		t.kernel = made
	}
	t.sessions++
	return t.kernel, nil
}

// leave says whether the socket is to be closed now.
func (t *tunnel) leave() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions--
	return t.closing && t.sessions == 0
}

// close lets nobody in any more, and says whether the socket is to be closed now.
func (t *tunnel) close() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = true
	return t.sessions == 0
}

// openCall makes a call in the kernel; its tunnel's and its own id are filled in.
func (d *dataplane) openCall(key subscriber.CallKey, peerTunnel uint16, spec l2tpnl.SessionSpec) (*call, error) {
	t := d.tunnel(l2tp.TunnelID(key.Tunnel))
	if t == nil {
		return nil, errTunnelGone
	}
	k, err := t.enter(d.l2tp, peerTunnel)
	if err != nil {
		return nil, err
	}
	c := &call{tunnel: t}
	spec.Session = key.Session
	if c.l2tp, err = k.Open(spec); err != nil {
		return nil, errors.Join(err, d.left(t))
	}
	return c, nil
}

// closeCall ends a call, and its tunnel when that was to end with the last.
func (d *dataplane) closeCall(c *call) error {
	return errors.Join(c.l2tp.Close(), d.left(c.tunnel))
}

func (d *dataplane) left(t *tunnel) error {
	if !t.leave() {
		return nil
	}
	return d.closeTunnel(t)
}
