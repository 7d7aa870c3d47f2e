package fakekernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// plane implements [controlplane.Dataplane]. The kernel's lock guards it.
type plane struct {
	kernel   *Kernel
	name     string
	in       controlplane.Inlet
	serial   int
	sas      map[controlplane.SAKey]*sa
	tunnels  map[l2tp.TunnelID]*tunnel
	sessions map[subscriber.ID]*session
	accesses map[subscriber.ID]*access
	bridges  map[subscriber.ID]*bridge
	carried  map[ike.ConnID]subscriber.Counters
	config   *config.Router
	udp      []*net.UDPConn
	links    map[string]controlplane.LinkState // by name: those that are not just up
	statics  statics
	closed   bool
}

type sa struct {
	ike.SA
	serial int // the newest outbound SA of a connection serves
	leaked bool
}

type tunnel struct {
	l2tp.OpenSocket
	closing, leaked bool
	sessions        int
}

type session struct {
	subscriber.OpenSession
	tunnel  *tunnel
	route   netip.Addr // of the subscriber, once active
	gateway netip.Addr
	traffic bool
	mtu     int
	behind  []aaa.Route
	leaked  bool
}

func (d *plane) lines() []string {
	var out []string
	add := func(leaked bool, format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		if leaked {
			line = "leaked " + line
		}
		out = append(out, line)
	}
	for key, s := range d.sas {
		direction, encap := "in from", ""
		if key.Dir == ike.Outbound {
			direction = "out to"
		}
		if s.Encap {
			encap = " in UDP"
		}
		of := ""
		if s.Static != "" {
			of = fmt.Sprintf(" of %s/%s", s.Static, s.Child)
		}
		add(s.leaked, "sa %s %v%s%s", direction, s.Remote.Addr(), encap, of)
	}
	for _, t := range d.tunnels {
		add(t.leaked, "tunnel of %v", t.Remote.Addr())
	}
	for _, s := range d.sessions {
		state := "no traffic"
		if s.traffic {
			state = fmt.Sprintf("route to %v from %v", s.route, s.gateway)
		}
		add(s.leaked, "session of %v in %s mtu %d, %s%s", s.tunnel.Remote.Addr(), s.Terminating, s.mtu, state, limits(s.Traffic, s.behind))
	}
	for _, b := range d.bridges {
		add(b.leaked, "bridge of %v to %v", b.near.Remote.Addr(), b.far.Remote.Addr())
	}
	for _, a := range d.accesses {
		add(a.leaked, "access of %v in %s mtu %d, route to %v from %v%s", a.Remote.Addr(), a.Terminating, a.MTU, a.Address, a.Gateway, limits(a.Traffic, a.Routes))
	}
	return append(out, d.staticLines()...)
}

// do runs fn under the lock unless this call is one that fails.
func (d *plane) do(call string, fn func() error) error {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	if d.closed {
		panic("fakekernel: " + call + " after Close")
	}
	if err := d.kernel.call(d.name, "%s", call); err != nil {
		return err
	}
	return fn()
}

// misuse is a call that breaks the interface's rules: a bug of the control plane.
func misuse(format string, args ...any) error { panic("fakekernel: " + fmt.Sprintf(format, args...)) }

// SendIKE implements [controlplane.Dataplane].
func (d *plane) SendIKE(f ike.Send) error {
	d.kernel.wire.SendIKE(d.name, f)
	return nil
}

// InstallSA implements [controlplane.Dataplane].
func (d *plane) InstallSA(f ike.SA) error {
	return d.do(fmt.Sprintf("install SA of %v", f.Remote.Addr()), func() error {
		key := controlplane.SAKey{Dir: f.Dir, SPI: f.SPI}
		if d.sas[key] != nil {
			return misuse("SA %v installed twice", key)
		}
		if f.Static != "" {
			if err := d.mayInstall(f); err != nil {
				return err
			}
		} else if f.Tunnel && d.accessOf(f.Conn) == nil {
			return &controlplane.DataplaneError{Reason: subscriber.ReasonInterface, Text: "the subscriber's interface has gone"}
		}
		d.serial++
		d.sas[key] = &sa{SA: f, serial: d.serial}
		return nil
	})
}

// RemoveSA implements [controlplane.Dataplane].
func (d *plane) RemoveSA(f ike.RemoveSA) error {
	key := controlplane.SAKey{Dir: f.Dir, SPI: f.SPI}
	err := d.do(fmt.Sprintf("remove SA of %v", f.Remote), func() error {
		if d.sas[key] == nil {
			// The connection ended while its SA could not be installed.
			return &controlplane.DataplaneError{Reason: "not-found", Text: "no such SA"}
		}
		delete(d.sas, key)
		return nil
	})
	if errors.Is(err, ErrInjected) {
		d.leak(func() {
			if s := d.sas[key]; s != nil {
				s.leaked = true
			}
		})
	}
	return err
}

func (d *plane) leak(mark func()) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	mark()
}

// MoveConn implements [controlplane.Dataplane].
func (d *plane) MoveConn(f ike.MoveConn) error {
	return d.do(fmt.Sprintf("move SAs of %v", f.Old.Addr()), func() error {
		for _, want := range f.SAs {
			if s := d.sas[controlplane.SAKey{Dir: want.Dir, SPI: want.SPI}]; s != nil {
				s.SA = want
			}
		}
		if a := d.accessOf(f.Conn); a != nil {
			a.Remote = f.New
		}
		return nil
	})
}

// OpenTunnel implements [controlplane.Dataplane].
func (d *plane) OpenTunnel(f l2tp.OpenSocket) error {
	return d.do(fmt.Sprintf("open tunnel of %v", f.Remote.Addr()), func() error {
		if d.tunnels[f.Tunnel] != nil {
			return controlplane.ErrPortInUse
		}
		d.tunnels[f.Tunnel] = &tunnel{OpenSocket: f}
		return nil
	})
}

// SendTunnel implements [controlplane.Dataplane].
func (d *plane) SendTunnel(f l2tp.Send) error {
	return d.send(f.Tunnel, f.Data)
}

// send goes through the newest outbound SA of the tunnel's connection, or nowhere.
func (d *plane) send(id l2tp.TunnelID, data []byte) error {
	d.kernel.mu.Lock()
	var best *sa
	t := d.tunnels[id]
	if t != nil && t.Conn == 0 {
		plain := t.OpenSocket
		d.kernel.mu.Unlock()
		if w, ok := d.kernel.wire.(PlainWire); ok {
			w.SendL2TP(d.name, plain.Local, plain.Remote, data)
		}
		return nil
	}
	if t != nil {
		for key, s := range d.sas {
			if key.Dir == ike.Outbound && uint32(s.Conn) == uint32(t.Conn) && !s.leaked && (best == nil || s.serial > best.serial) {
				best = s
			}
		}
	}
	d.kernel.mu.Unlock()
	if best == nil {
		return &controlplane.DataplaneError{Reason: "blocked", Text: "no SA: the socket's policy blocks"}
	}
	d.kernel.wire.SendESP(d.name, best.SA, data)
	return nil
}

// Refuse implements [controlplane.Dataplane]. Peers of this package are never refused without
// a tunnel, so there is nobody to hear it.
func (d *plane) Refuse(l2tp.Refuse) error { return nil }

// CloseTunnel implements [controlplane.Dataplane].
func (d *plane) CloseTunnel(id l2tp.TunnelID) error {
	remote := netip.Addr{}
	d.leak(func() {
		if t := d.tunnels[id]; t != nil {
			remote = t.Remote.Addr()
		}
	})
	err := d.do(fmt.Sprintf("close tunnel of %v", remote), func() error {
		t := d.tunnels[id]
		if t == nil {
			return nil // it ended while its socket could not be opened
		}
		t.closing = true
		if t.sessions == 0 {
			delete(d.tunnels, id)
		}
		return nil
	})
	if err != nil {
		d.leak(func() {
			if t := d.tunnels[id]; t != nil {
				t.leaked = true
			}
		})
	}
	return err
}

// OpenSession implements [controlplane.Dataplane].
func (d *plane) OpenSession(f subscriber.OpenSession) (name string, ifindex int, err error) {
	err = d.do("open session", func() error {
		t := d.tunnels[l2tp.TunnelID(f.Call.Tunnel)]
		if t == nil || t.closing {
			return &controlplane.DataplaneError{Reason: subscriber.ReasonTunnelGone, Text: "the tunnel ended meanwhile"}
		}
		end := d.kernel.routers[f.Terminating]
		if end == nil {
			return &controlplane.DataplaneError{Reason: "no-terminating-router", Text: "it does not run"}
		}
		if err := known(end.config, f.Traffic); err != nil {
			return err
		}
		if d.sessions[f.ID] != nil {
			return misuse("session %d opened twice", f.ID)
		}
		d.serial++
		t.sessions++
		d.sessions[f.ID] = &session{OpenSession: f, tunnel: t, mtu: f.MTU}
		name, ifindex = fmt.Sprint("ppp", d.serial), d.serial
		return nil
	})
	return name, ifindex, err
}

// SendFrame implements [controlplane.Dataplane].
func (d *plane) SendFrame(f subscriber.SendFrame) error {
	d.kernel.mu.Lock()
	s := d.sessions[f.ID]
	d.kernel.mu.Unlock()
	if s == nil {
		return &controlplane.DataplaneError{Reason: subscriber.ReasonInterface, Text: "no such session"}
	}
	return d.send(l2tp.TunnelID(f.Call.Tunnel), frameOf(subscriber.CallEnds{PeerTunnel: s.PeerTunnel, PeerSession: s.PeerSession}, f.Data))
}

// Activate implements [controlplane.Dataplane].
func (d *plane) Activate(f subscriber.Activate) error {
	return d.do(fmt.Sprintf("activate %v", f.Peer), func() error {
		s := d.sessions[f.ID]
		if s == nil {
			return misuse("session %d activated, which is not there", f.ID)
		}
		for _, p := range d.kernel.routers {
			for id, other := range p.sessions {
				if other.Terminating == s.Terminating && other.traffic && other.route == f.Peer && id != f.ID && !other.leaked {
					return misuse("%v routed to two sessions of %s", f.Peer, s.Terminating)
				}
			}
		}
		if err := d.kernel.free(f.ID, s.Terminating, f.Routes); err != nil {
			return err
		}
		s.route, s.gateway, s.traffic, s.mtu, s.behind = f.Peer, f.Gateway, true, f.MTU, f.Routes
		return nil
	})
}

// Deactivate implements [controlplane.Dataplane].
func (d *plane) Deactivate(id subscriber.ID) error {
	return d.do("deactivate", func() error {
		if s := d.sessions[id]; s != nil {
			s.traffic, s.behind = false, nil
		}
		return nil
	})
}

// CloseSession implements [controlplane.Dataplane].
func (d *plane) CloseSession(id subscriber.ID) (subscriber.Counters, error) {
	err := d.do("close session", func() error {
		s := d.sessions[id]
		if s == nil {
			return misuse("session %d closed, which is not there", id)
		}
		delete(d.sessions, id)
		if s.tunnel.sessions--; s.tunnel.sessions == 0 && s.tunnel.closing {
			delete(d.tunnels, s.tunnel.Tunnel)
		}
		return nil
	})
	if err != nil {
		d.leak(func() {
			s := d.sessions[id]
			s.leaked, s.tunnel.leaked = true, true // the kernel keeps a tunnel that has sessions
		})
	}
	return sessionCounters, err
}

// sessionCounters are what every session has carried.
var sessionCounters = subscriber.Counters{InBytes: 1000, OutBytes: 2000, InPackets: 10, OutPackets: 20}

// SessionCounters implements [controlplane.Dataplane].
func (d *plane) SessionCounters(id subscriber.ID) (subscriber.Counters, bool) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	if a := d.accesses[id]; a != nil {
		return d.carried[ike.ConnID(a.Conn)], !d.closed
	}
	_, ok := d.sessions[id]
	if d.bridges[id] != nil {
		ok = true
	}
	return sessionCounters, ok && !d.closed
}

// SACounters implements [controlplane.Dataplane].
func (d *plane) SACounters() (map[controlplane.SAKey]controlplane.SACounters, error) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	out := map[controlplane.SAKey]controlplane.SACounters{}
	for key := range d.sas {
		out[key] = controlplane.SACounters{Bytes: 4096, Packets: 8}
	}
	return out, nil
}

// Drops implements [controlplane.Dataplane].
func (d *plane) Drops() (map[string]uint64, error) { return map[string]uint64{"clear-l2tp": 3}, nil }

// IPsecErrors implements [controlplane.Dataplane].
func (d *plane) IPsecErrors() ([]controlplane.IPsecError, error) {
	return []controlplane.IPsecError{{Name: "XfrmInNoPols", Value: 5}, {Name: "XfrmOutNoStates"}, {Name: "XfrmInNewAndStrange", Value: 1}}, nil
}

// Repair implements [controlplane.Dataplane].
func (d *plane) Repair() error { return nil }

// Close implements [controlplane.Dataplane]. Everything goes, whatever it returns.
func (d *plane) Close() error {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	if d.closed {
		return misuse("%s closed twice", d.name)
	}
	d.closed = true
	delete(d.kernel.routers, d.name)
	for _, x := range d.statics.probes {
		x.timer.Stop()
	}
	return errors.Join(d.closeUDP(), d.kernel.call(d.name, "close"))
}

// steer decides what becomes of a datagram that came through an SA; nil: it is dropped.
func (d *plane) steer(spi uint32, data []byte) func(controlplane.Inlet) {
	s := d.sas[controlplane.SAKey{Dir: ike.Inbound, SPI: spi}]
	id, control, ok := tunnelOf(data)
	if s == nil || s.Tunnel || s.Static != "" || !ok {
		return nil
	}
	conn := l2tp.ConnID(s.Conn)
	return d.arrive(id, control, netip.AddrPortFrom(s.Local.Addr(), 1701), netip.AddrPortFrom(s.Remote.Addr(), 1701), conn, data)
}

// arrive decides what becomes of a datagram of a tunnel, or of none, that came through a connection, 0 for clear text.
func (d *plane) arrive(id l2tp.TunnelID, control bool, local, remote netip.AddrPort, conn l2tp.ConnID, data []byte) func(controlplane.Inlet) {
	if id == 0 {
		return func(in controlplane.Inlet) { in.L2TPPacket(0, local, remote, conn, data) }
	}
	t := d.tunnels[id]
	if t == nil || t.Conn != conn || conn == 0 && t.Remote != remote {
		return nil
	}
	if !control && len(data) > 8 {
		call := subscriber.CallKey{Tunnel: uint16(id), Session: binary.BigEndian.Uint16(data[4:])}
		if other, ok := d.joined(call); ok {
			frame := data[8:]
			return func(controlplane.Inlet) { _ = d.send(l2tp.TunnelID(other.Call.Tunnel), frameOf(other, frame)) }
		}
		for _, x := range d.sessions {
			if x.Call == call {
				return func(in controlplane.Inlet) { in.PPPFrame(call, data[8:]) }
			}
		}
	}
	return func(in controlplane.Inlet) { in.L2TPPacket(id, local, remote, conn, data) }
}

// tunnelOf is the tunnel that a datagram names; not ok when it is too short. Control messages have a length, data of this
// package's peers has none.
func tunnelOf(data []byte) (id l2tp.TunnelID, control, ok bool) {
	if len(data) < 6 {
		return 0, false, false
	}
	if data[0]&0x80 != 0 {
		return l2tp.TunnelID(binary.BigEndian.Uint16(data[4:])), true, true
	}
	return l2tp.TunnelID(binary.BigEndian.Uint16(data[2:])), false, true
}

// frameOf puts the headers of L2TP and PPP before a frame.
func frameOf(to subscriber.CallEnds, frame []byte) []byte {
	data := binary.BigEndian.AppendUint16([]byte{0, 2}, to.PeerTunnel)
	return append(append(binary.BigEndian.AppendUint16(data, to.PeerSession), 0xff, 3), frame...)
}

var _ controlplane.Dataplane = (*plane)(nil)
var _ controlplane.Kernel = (*Kernel)(nil)
