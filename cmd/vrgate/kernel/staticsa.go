package kernel

import (
	"maps"
	"slices"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
	"vrgate/xfrm"
)

// staticSA ties an SA to what there is of its tunnel.
func (d *dataplane) staticSA(f ike.SA, sa xfrm.SA) (xfrm.SA, error) {
	s := d.static(f.Static)
	if s == nil {
		return sa, errNoStatic
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := d.ready(s); err != nil {
		return sa, err
	}
	if s.config.Mode == config.StaticRoute {
		sa.IfID = s.ifID
		if sa.Dir == xfrm.In {
			sa.SetMark = s.link.Mark()
		}
	}
	return sa, nil
}

// staticTransport is for a tunnel of mode transport: what is between the outer addresses. Behind NAT what the two ends call each
// other is not what the packets have (kernel.md 3.1).
func staticTransport(sa *xfrm.SA, f ike.SA) {
	sa.Selector = xfrm.Selector{Proto: f.Protocol, Src: hostPrefix(sa.Local), Dst: hostPrefix(sa.Remote)}
	if sa.Dir == xfrm.In {
		sa.Selector.Src, sa.Selector.Dst = sa.Selector.Dst, sa.Selector.Src
	}
}

// staticPorts adds to a tunnel mode SA the ports that both sides have agreed on.
func staticPorts(sa *xfrm.SA, f ike.SA) {
	sa.Selector.SrcPort, sa.Selector.DstPort = f.LocalPort, f.RemotePort
	if sa.Dir == xfrm.In {
		sa.Selector.SrcPort, sa.Selector.DstPort = f.RemotePort, f.LocalPort
	}
}

// staticOfConn is the tunnel that a connection has SAs of; nil for none.
func (d *dataplane) staticOfConn(conn ike.ConnID) *static {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.staticOf[conn]
}

// orphanSAs ends the SAs of a tunnel whose interface has come back with another number, which they cannot be tied to. s.mu is held.
func (d *dataplane) orphanSAs(s *static) {
	gone := map[xfrm.ID]ike.Direction{}
	d.mu.Lock()
	for conn, of := range d.staticOf {
		if of != s || d.usage[conn] == nil {
			continue
		}
		for id, r := range d.usage[conn].sas {
			gone[id] = r.dir
		}
	}
	d.mu.Unlock()
	d.books.changing.RLock()
	defer d.books.changing.RUnlock()
	for id, dir := range gone {
		_ = d.xfrm.Remove(id) // that the engine is told is what counts: it removes it too
		d.mu.Lock()
		delete(d.sas, id)
		d.mu.Unlock()
		d.in.SAExpired(id.SPI, dir, true)
	}
}

// CloseStatic implements [controlplane.TunnelPlane].
func (d *dataplane) CloseStatic(conn ike.ConnID) {
	s := d.staticOfConn(conn)
	if s != nil {
		s.mu.Lock()
		if !s.closed && s.conn == conn {
			if err := d.carry(s, 0, s.remote); err != nil {
				s.err = err
			}
		}
		s.mu.Unlock()
	}
	d.readUsage(conn)
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.usage[conn]; u != nil && s != nil {
		s.spent = s.spent.Plus(u.sum())
	}
	delete(d.staticOf, conn)
	delete(d.usage, conn)
}

// StaticTraffic implements [controlplane.TunnelPlane].
func (d *dataplane) StaticTraffic() map[string]subscriber.Counters {
	d.mu.Lock()
	conns := slices.Collect(maps.Keys(d.staticOf))
	d.mu.Unlock()
	for _, conn := range conns {
		d.readUsage(conn)
	}
	// A connection that is closed meanwhile is with its tunnel or among the connections, never both and never neither.
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]subscriber.Counters, len(d.staticOrder))
	for _, s := range d.staticOrder {
		out[s.name] = s.spent
	}
	for conn, s := range d.staticOf {
		if u := d.usage[conn]; u != nil && d.statics[s.name] == s {
			out[s.name] = out[s.name].Plus(u.sum())
		}
	}
	return out
}
