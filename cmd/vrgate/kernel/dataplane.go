package kernel

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
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
	vr        *vr.Router
	xfrm      *xfrm.Kernel
	l2tp      *l2tpnl.Kernel
	net       *unit.Net
	poller    *vr.Poller
	life      context.Context // ends with Close
	cancel    context.CancelFunc
	running   sync.WaitGroup
	ike       map[netip.AddrPort]*vr.Socket
	listeners []*vr.Socket
	servers   []netip.Addr // that have IPsec: of IPv4
	received  *vr.Batch    // the poller's goroutine's
	frame     []byte       // the poller's goroutine's
	books     *books
	doubtful  chan struct{} // has keepBooks look at once

	// making is held while an XFRM interface is made; mu may be taken within.
	making sync.Mutex

	// changing is held while the router is changed or repaired; it guards spec and stopWanted.
	changing   sync.Mutex
	spec       vr.Spec
	stopWanted context.CancelFunc // nil while nobody listens
	wake       chan struct{}      // has tend look at once

	mu       sync.Mutex
	tunnels  map[l2tp.TunnelID]*tunnel
	sessions map[subscriber.ID]*session
	bridges  map[subscriber.ID]*bridge
	sas      map[xfrm.ID]ike.Direction
	accesses map[subscriber.ID]*access
	accessOf map[ike.ConnID]*access
	usage    map[ike.ConnID]*usage
	links    map[linkKey]*vr.Access
	lost     []*vr.Access // of no use any more, to be closed
	// Static tunnels, by name and in the order of the configuration; those to which something has happened; by connection; by
	// the reqid with which the kernel asks for them, of which lastIdle was given out last.
	statics     map[string]*static
	staticOrder []*static
	dirty       map[*static]bool
	staticOf    map[ike.ConnID]*static
	idle        map[uint32]*static
	lastIdle    uint32
	prober      *vr.Prober
	udp         []*net.UDPConn
}

// session is one subscriber's kernel objects.
type session struct {
	call   *call
	unit   *unit.Unit
	router *vr.Router // terminating
	inside string     // its name
	route  netip.Prefix
	behind []aaa.Route
	shaper *vr.Shaper
	policy subscriber.LinkPolicy
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
	if f.Dir == ike.Outbound {
		// The peer may have moved since its policies were made.
		if err := errors.Join(d.moveAccess(f.Conn, sa.Remote), d.moveStatic(f.Conn, sa.Remote)); err != nil {
			return typed(err)
		}
	}
	d.books.changing.RLock()
	defer d.books.changing.RUnlock()
	if err := d.xfrm.Add(sa); err != nil {
		return typed(err)
	}
	d.mu.Lock()
	d.sas[sa.ID()] = f.Dir
	if s := d.statics[f.Static]; s != nil {
		d.staticOf[f.Conn] = s
	}
	if counted(f) {
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
	d.books.changing.RLock()
	defer d.books.changing.RUnlock()
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
		failed = errors.Join(failed, d.moveSA(want, old, sa))
	}
	return typed(errors.Join(failed, d.moveAccess(f.Conn, f.New.Addr()), d.moveStatic(f.Conn, f.New.Addr())))
}

// moveSA re-addresses one SA. One that has gone meanwhile is told of by the kernel.
func (d *dataplane) moveSA(want ike.SA, old, sa xfrm.SA) error {
	d.books.changing.RLock()
	defer d.books.changing.RUnlock()
	if err := d.xfrm.Update(old, sa); err != nil && !errors.Is(err, xfrm.ErrNotFound) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sas, old.ID())
	d.sas[sa.ID()] = want.Dir
	if u := d.usage[want.Conn]; u != nil && counted(want) {
		r := u.sas[old.ID()]
		r.dir = want.Dir
		delete(u.sas, old.ID())
		u.sas[sa.ID()] = r
	}
	return nil
}

func (d *dataplane) session(id subscriber.ID) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[id]
}

// OpenSession implements [controlplane.Dataplane].
func (d *dataplane) OpenSession(f subscriber.OpenSession) (name string, index int, err error) {
	end, runs := d.kernel.router(f.Terminating)
	if !runs {
		return "", 0, noTerminating(f.Terminating)
	}
	limits, err := traffic(end.config, f.Traffic)
	if err != nil {
		return "", 0, err
	}
	router, target := end.vr, end.net
	group, err := router.LinkGroup(linkPolicy(f.Link))
	if err != nil {
		return "", 0, typed(err)
	}
	s := &session{router: router, inside: f.Terminating, policy: f.Link}
	if s.call, err = d.openCall(f.Call, f.PeerTunnel, l2tpnl.SessionSpec{
		Peer: f.PeerSession, LNS: true, Sequence: f.Sequencing, RequireSequence: f.Sequencing,
	}); err != nil {
		return "", 0, typed(err)
	}
	if s.unit, err = unit.Open(unit.Spec{
		Transport: d.net, Target: target, Channel: s.call.l2tp.Index(), MTU: f.MTU, Master: router.VRF(), Group: group,
	}); err != nil {
		_ = d.closeCall(s.call)
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
		_ = d.closeCall(s.call)
		return "", 0, typed(err)
	}
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
	if err := s.follow(f.Link); err != nil {
		return typed(err)
	}
	if err := s.unit.Up(); err != nil {
		return typed(err)
	}
	var routes []aaa.Route
	if f.Link.AccessRoutes {
		routes = behind(f.Routes, f.Peer)
		if err := s.reach(netip.PrefixFrom(f.Peer, f.Peer.BitLen()), f.Gateway); err != nil {
			return typed(err)
		}
	}
	if err := errors.Join(s.removeBehind(), s.addBehind(routes, f.Gateway)); err != nil {
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
	return counters, typed(errors.Join(s.unit.Close(), d.closeCall(s.call)))
}

// SessionCounters implements [controlplane.Dataplane].
func (d *dataplane) SessionCounters(id subscriber.ID) (subscriber.Counters, bool) {
	d.mu.Lock()
	s, a, b := d.sessions[id], d.accesses[id], d.bridges[id]
	d.mu.Unlock()
	switch {
	case a != nil:
		return d.Traffic(a.conn)
	case b != nil:
		return b.counters()
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

// IPsecErrors implements [controlplane.Dataplane].
func (d *dataplane) IPsecErrors() ([]controlplane.IPsecError, error) {
	var text []byte
	if err := d.vr.Do(func() (err error) {
		text, err = os.ReadFile(xfrm.StatisticsFile)
		return err
	}); errors.Is(err, fs.ErrNotExist) {
		return nil, typed(&vr.MissingFeature{Feature: "counters of IPsec errors", Module: "xfrm", Detail: "CONFIG_XFRM_STATISTICS"})
	} else if err != nil {
		return nil, typed(err)
	}
	list, err := xfrm.ParseStatistics(string(text))
	if err != nil {
		return nil, typed(err)
	}
	out := make([]controlplane.IPsecError, len(list))
	for i, s := range list {
		out[i] = controlplane.IPsecError(s)
	}
	return out, nil
}

// Repair implements [controlplane.Dataplane].
func (d *dataplane) Repair() error {
	d.changing.Lock()
	defer d.changing.Unlock()
	d.books.doubt.Store(true)
	return typed(errors.Join(d.vr.Set(d.spec), d.compare()))
}

// Close implements [controlplane.Dataplane]. It is called when nothing else runs, and also
// after an open that failed half way.
func (d *dataplane) Close() error {
	var failed error
	d.books.leave(d)
	for id := range d.sessions {
		_, err := d.CloseSession(id)
		failed = errors.Join(failed, err)
	}
	for id := range d.bridges {
		_, err := d.CloseBridge(id)
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
	failed = errors.Join(failed, d.closeUDP(), d.closeLinks(), d.withdrawLinks(), d.closeStatics())
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
