package kernel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/l2tpnl"
	"vrgate/pppd/unit"
	"vrgate/vr"
	"vrgate/xfrm"
)

// dataplane implements [controlplane.Dataplane] for one virtual router.
type dataplane struct {
	kernel *Kernel
	in     controlplane.Inlet
	name   string
	create bool // the namespace is ours to remove

	// Constant after open; nil where the router serves no address.
	spec      vr.Spec
	vr        *vr.Router
	xfrm      *xfrm.Kernel
	l2tp      *l2tpnl.Kernel
	net       *unit.Net
	poller    *vr.Poller
	cancel    context.CancelFunc
	running   sync.WaitGroup
	ike       map[netip.AddrPort]*vr.Socket
	listeners []*vr.Socket
	servers   []netip.Addr
	received  *vr.Batch // the poller's goroutine's
	frame     []byte    // the poller's goroutine's

	// making is held while an XFRM interface is made; mu may be taken within.
	making sync.Mutex

	mu       sync.Mutex
	tunnels  map[l2tp.TunnelID]*tunnel
	sessions map[subscriber.ID]*session
	sas      map[xfrm.ID]ike.Direction
	accesses map[subscriber.ID]*access
	accessOf map[ike.ConnID]*access
	usage    map[ike.ConnID]*usage
	links    map[string]*vr.Access // by terminating router
	lost     []*vr.Access          // of no use any more, to be closed
	udp      []*net.UDPConn
}

// tunnel is one L2TP tunnel: its socket, and the kernel's tunnel on it once a session exists.
type tunnel struct {
	id       l2tp.TunnelID
	socket   *vr.Socket
	conn     l2tp.ConnID
	kernel   *l2tpnl.Tunnel
	sessions int
	closing  bool // the socket goes with the last session
}

// session is one subscriber's kernel objects.
type session struct {
	tunnel *tunnel
	l2tp   *l2tpnl.Session
	unit   *unit.Unit
	router *vr.Router // terminating
	route  netip.Prefix
	behind []aaa.Route
	shaper *vr.Shaper
	// terminating is the configuration of router.
	terminating *config.Router
}

// SendIKE implements [controlplane.Dataplane].
func (d *dataplane) SendIKE(f ike.Send) error {
	port := vr.PortIKE
	if f.Marker {
		port = vr.PortNATT
	}
	s := d.ike[netip.AddrPortFrom(f.Local.Addr(), port)]
	if s == nil {
		return vr.ErrClosed
	}
	return s.WriteTo(f.Data, f.Local.Addr(), f.Remote)
}

// InstallSA implements [controlplane.Dataplane].
func (d *dataplane) InstallSA(f ike.SA) error {
	sa, err := d.sa(f)
	if err != nil {
		return typed(err)
	}
	if f.Tunnel && f.Dir == ike.Outbound {
		// The peer may have moved since its policies were made.
		if err := d.moveAccess(f.Conn, sa.Remote); err != nil {
			return typed(err)
		}
	}
	if err := d.xfrm.Add(sa); err != nil {
		return typed(err)
	}
	d.mu.Lock()
	d.sas[sa.ID()] = f.Dir
	if f.Tunnel {
		d.usageLocked(f.Conn).sas[sa.ID()] = reading{dir: f.Dir}
	}
	d.mu.Unlock()
	return nil
}

// RemoveSA implements [controlplane.Dataplane].
func (d *dataplane) RemoveSA(f ike.RemoveSA) error {
	id := xfrm.ID{Dst: f.Local, SPI: f.SPI}
	if f.Dir == ike.Outbound {
		id.Dst = f.Remote
	}
	d.mu.Lock()
	delete(d.sas, id)
	d.mu.Unlock()
	d.noteGone(f.Conn, id)
	return typed(d.xfrm.Remove(id))
}

// MoveConn implements [controlplane.Dataplane].
func (d *dataplane) MoveConn(f ike.MoveConn) error {
	var failed error
	for _, want := range f.SAs {
		sa, err := d.sa(want)
		if err != nil {
			return typed(err)
		}
		old := sa
		old.Remote = f.Old.Addr()
		if sa.Encap != nil {
			old.Encap = &xfrm.Encap{LocalPort: sa.Encap.LocalPort, RemotePort: f.Old.Port()}
		}
		if err := d.xfrm.Update(old, sa); err != nil && !errors.Is(err, xfrm.ErrNotFound) {
			failed = errors.Join(failed, err)
			continue
		}
		d.mu.Lock()
		delete(d.sas, old.ID())
		d.sas[sa.ID()] = want.Dir
		if u := d.usage[want.Conn]; u != nil && want.Tunnel {
			r := u.sas[old.ID()]
			r.dir = want.Dir
			delete(u.sas, old.ID())
			u.sas[sa.ID()] = r
		}
		d.mu.Unlock()
	}
	return typed(errors.Join(failed, d.moveAccess(f.Conn, f.New.Addr())))
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

func (d *dataplane) session(id subscriber.ID) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[id]
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
	if t == nil {
		return nil
	}
	t.closing = true
	if t.sessions > 0 {
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

// OpenSession implements [controlplane.Dataplane].
func (d *dataplane) OpenSession(f subscriber.OpenSession) (name string, index int, err error) {
	id := l2tp.TunnelID(f.Call.Tunnel)
	t := d.tunnel(id)
	if t == nil || t.closing {
		return "", 0, &controlplane.DataplaneError{Reason: subscriber.ReasonTunnelGone, Text: "the tunnel ended meanwhile"}
	}
	end, runs := d.kernel.router(f.Terminating)
	if !runs {
		return "", 0, noTerminating(f.Terminating)
	}
	limits, err := traffic(end.config, f.Traffic)
	if err != nil {
		return "", 0, err
	}
	router, target := end.vr, end.net
	if t.kernel == nil {
		if t.kernel, err = d.l2tp.Tunnel(t.socket.FD(), f.Call.Tunnel, f.PeerTunnel); err != nil {
			return "", 0, typed(err)
		}
	}
	s := &session{tunnel: t, router: router, terminating: end.config}
	if s.l2tp, err = t.kernel.Open(l2tpnl.SessionSpec{
		Session: f.Call.Session, Peer: f.PeerSession, LNS: true, Sequence: f.Sequencing, RequireSequence: f.Sequencing,
	}); err != nil {
		return "", 0, typed(err)
	}
	if s.unit, err = unit.Open(unit.Spec{
		Transport: d.net, Target: target, Channel: s.l2tp.Index(), MTU: f.MTU, Master: router.VRF(), Group: router.LinkGroup(),
	}); err != nil {
		_ = s.l2tp.Close()
		return "", 0, typed(err)
	}
	s.shaper = router.Shaper(s.unit.Index())
	err = s.shaper.Set(limits)
	if err == nil {
		err = d.poller.Add(s.unit.Channel.FD(), d.frames(f.ID, f.Call, s.unit.Channel))
	}
	if err == nil {
		if err = d.poller.Add(s.unit.Interface.FD(), d.frames(f.ID, f.Call, s.unit.Interface)); err != nil {
			d.poller.Remove(s.unit.Channel.FD())
		}
	}
	if err != nil {
		_ = s.unit.Close()
		_ = s.l2tp.Close()
		return "", 0, typed(err)
	}
	t.sessions++
	d.mu.Lock()
	d.sessions[f.ID] = s
	d.mu.Unlock()
	return s.unit.Name(), s.unit.Index(), nil
}

// frames delivers what a session's descriptor holds.
func (d *dataplane) frames(id subscriber.ID, call subscriber.CallKey, p *unit.Port) func() {
	return func() {
		if d.frame == nil {
			d.frame = make([]byte, unit.MaxFrame)
		}
		for {
			f, err := p.ReadFrame(d.frame)
			switch {
			case err == nil:
				d.in.PPPFrame(call, append([]byte{byte(f.Protocol >> 8), byte(f.Protocol)}, f.Data...))
			case errors.Is(err, unit.ErrTooLong):
			case errors.Is(err, io.EOF):
				d.poller.Detach(p.FD())
				d.in.SessionLost(id)
				return
			default:
				return
			}
		}
	}
}

// SendFrame implements [controlplane.Dataplane].
func (d *dataplane) SendFrame(f subscriber.SendFrame) error {
	s := d.session(f.ID)
	if s == nil {
		return vr.ErrClosed
	}
	protocol := uint16(f.Data[0])<<8 | uint16(f.Data[1])
	port := s.unit.Interface
	if protocol >= 0xc000 {
		port = s.unit.Channel
	}
	return port.WriteFrame(protocol, f.Data[2:])
}

// Activate implements [controlplane.Dataplane].
func (d *dataplane) Activate(f subscriber.Activate) error {
	s := d.session(f.ID)
	if s == nil {
		return &controlplane.DataplaneError{Reason: subscriber.ReasonInterface, Text: "the session's interface has gone"}
	}
	if err := s.unit.SetMTU(f.MTU); err != nil {
		return typed(err)
	}
	if err := s.unit.Up(); err != nil {
		return typed(err)
	}
	route := netip.PrefixFrom(f.Peer, f.Peer.BitLen())
	if s.route != route {
		if err := s.router.AddRoute(route, s.unit.Index(), f.Gateway); err != nil {
			return typed(err)
		}
		s.route = route
	}
	if err := errors.Join(s.removeBehind(), s.addBehind(behind(f.Routes, f.Peer), f.Gateway)); err != nil {
		return typed(errors.Join(err, s.removeBehind()))
	}
	return typed(s.unit.SetNetwork(unit.IPv4, true))
}

// Deactivate implements [controlplane.Dataplane].
func (d *dataplane) Deactivate(id subscriber.ID) error {
	s := d.session(id)
	if s == nil {
		return nil
	}
	return typed(errors.Join(s.unit.SetNetwork(unit.IPv4, false), s.removeBehind()))
}

// CloseSession implements [controlplane.Dataplane]. The order is that of kernel.md section
// 1.4: interface, channel, L2TP session, and the tunnel's socket when it was the last.
func (d *dataplane) CloseSession(id subscriber.ID) (subscriber.Counters, error) {
	s := d.session(id)
	if s == nil {
		return subscriber.Counters{}, nil
	}
	counters, _ := d.SessionCounters(id)
	d.mu.Lock()
	delete(d.sessions, id)
	d.mu.Unlock()
	d.poller.Remove(s.unit.Channel.FD())
	d.poller.Remove(s.unit.Interface.FD())
	err := errors.Join(s.unit.Close(), s.l2tp.Close())
	if s.tunnel.sessions--; s.tunnel.sessions == 0 && s.tunnel.closing {
		err = errors.Join(err, d.closeTunnel(s.tunnel))
	}
	return counters, typed(err)
}

// SessionCounters implements [controlplane.Dataplane].
func (d *dataplane) SessionCounters(id subscriber.ID) (subscriber.Counters, bool) {
	d.mu.Lock()
	s, a := d.sessions[id], d.accesses[id]
	d.mu.Unlock()
	if a != nil {
		return d.Traffic(a.conn)
	}
	if s == nil {
		return subscriber.Counters{}, false
	}
	t, err := s.unit.Traffic()
	if err != nil {
		return subscriber.Counters{}, false
	}
	return subscriber.Counters{InBytes: t.RxBytes, OutBytes: t.TxBytes, InPackets: t.RxPackets, OutPackets: t.TxPackets}, true
}

// SACounters implements [controlplane.Dataplane].
func (d *dataplane) SACounters() (map[controlplane.SAKey]controlplane.SACounters, error) {
	out := map[controlplane.SAKey]controlplane.SACounters{}
	if d.xfrm == nil || len(d.ike) == 0 {
		return out, nil
	}
	list, err := d.xfrm.List()
	if err != nil {
		return nil, typed(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range list {
		dir, ours := d.sas[s.ID]
		if !ours {
			continue
		}
		out[controlplane.SAKey{Dir: dir, SPI: s.SPI}] = controlplane.SACounters{
			Bytes: s.Counters.Bytes, Packets: s.Counters.Packets,
			Replay: uint64(s.Counters.Replay), AuthFailed: uint64(s.Counters.IntegrityFailed),
		}
	}
	return out, nil
}

// Drops implements [controlplane.Dataplane].
func (d *dataplane) Drops() (map[string]uint64, error) {
	drops, err := d.vr.Drops()
	return drops, typed(err)
}

// Repair implements [controlplane.Dataplane].
func (d *dataplane) Repair() error { return typed(d.vr.Set(d.spec)) }

// Close implements [controlplane.Dataplane]. It is called when nothing else runs, and also
// after an open that failed half way.
func (d *dataplane) Close() error {
	var failed error
	for id := range d.sessions {
		_, err := d.CloseSession(id)
		failed = errors.Join(failed, err)
	}
	for _, t := range d.tunnels {
		failed = errors.Join(failed, d.closeTunnel(t))
	}
	for id := range d.accesses {
		_, err := d.CloseAccess(id)
		failed = errors.Join(failed, err)
	}
	if d.cancel != nil {
		d.cancel()
		d.running.Wait()
	}
	failed = errors.Join(failed, d.closeUDP(), d.closeLinks())
	for _, s := range d.ike {
		failed = errors.Join(failed, s.Close())
	}
	for _, s := range d.listeners {
		failed = errors.Join(failed, s.Close())
	}
	if d.poller != nil {
		failed = errors.Join(failed, d.poller.Close())
	}
	if d.l2tp != nil {
		failed = errors.Join(failed, d.l2tp.Close())
	}
	if d.xfrm != nil {
		if len(d.servers) > 0 {
			_, err := d.xfrm.FlushOf(d.servers...)
			_, err2 := d.xfrm.FlushPoliciesOf(d.servers...)
			failed = errors.Join(failed, err, err2)
		}
		failed = errors.Join(failed, d.xfrm.Close())
	}
	d.kernel.remove(d.name)
	if d.net != nil {
		failed = errors.Join(failed, d.net.Close())
	}
	if d.vr != nil {
		end := d.vr.Close
		if d.create {
			end = d.vr.Remove
		}
		if err := end(); !errors.Is(err, vr.ErrNotEmpty) { // somebody else's links keep a namespace alive
			failed = errors.Join(failed, err)
		}
	}
	return typed(failed)
}
