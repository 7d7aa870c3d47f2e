package kernel

import (
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
	"vrgate/xfrm"
)

// usage is the traffic of one connection's tunnel mode SAs, those that are gone included. The
// kernel counts inner packets, as the interface of an L2TP subscriber does.
type usage struct {
	gone subscriber.Counters
	sas  map[xfrm.ID]reading
}

// counted says whether an SA's traffic is that of its connection: what L2TP clients send is counted on their interfaces.
func counted(f ike.SA) bool { return f.Tunnel || f.Static != "" }

// reading is what was last seen of an SA.
type reading struct {
	dir            ike.Direction
	bytes, packets uint64
}

// add counts a reading in.
func (r reading) add(c *subscriber.Counters) {
	if r.dir == ike.Inbound {
		c.InBytes, c.InPackets = c.InBytes+r.bytes, c.InPackets+r.packets
	} else {
		c.OutBytes, c.OutPackets = c.OutBytes+r.bytes, c.OutPackets+r.packets
	}
}

// sum is everything so far.
func (u *usage) sum() subscriber.Counters {
	c := u.gone
	for _, r := range u.sas {
		r.add(&c)
	}
	return c
}

// note takes what the kernel has counted on an SA; never less than it had counted before.
func (u *usage) note(id xfrm.ID, c xfrm.Counters) {
	if r, ok := u.sas[id]; ok {
		r.bytes, r.packets = max(r.bytes, c.Bytes), max(r.packets, c.Packets)
		u.sas[id] = r
	}
}

// Traffic implements [controlplane.Dataplane].
func (d *dataplane) Traffic(conn ike.ConnID) (subscriber.Counters, bool) {
	u := d.readUsage(conn)
	if u == nil {
		return subscriber.Counters{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return u.sum(), true
}

// readUsage asks the kernel for the counters of a connection's SAs; nil if it is not known.
func (d *dataplane) readUsage(conn ike.ConnID) *usage {
	d.mu.Lock()
	u := d.usage[conn]
	if u == nil {
		d.mu.Unlock()
		return nil
	}
	ids := make([]xfrm.ID, 0, len(u.sas))
	for id := range u.sas {
		ids = append(ids, id)
	}
	d.mu.Unlock()
	read := make(map[xfrm.ID]xfrm.Counters, len(ids))
	for _, id := range ids {
		if c, err := d.xfrm.Counters(id); err == nil { // else it has expired: what was known of it last
			read[id] = c
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, c := range read {
		u.note(id, c)
	}
	return u
}

// usageLocked is the usage of a connection, begun now if there is none.
func (d *dataplane) usageLocked(conn ike.ConnID) *usage {
	u := d.usage[conn]
	if u == nil {
		u = &usage{sas: map[xfrm.ID]reading{}}
		d.usage[conn] = u
	}
	return u
}

// dropUsageLocked forgets a connection that has neither subscriber nor SAs. That of a static tunnel is forgotten by CloseStatic.
func (d *dataplane) dropUsageLocked(conn ike.ConnID) {
	if u := d.usage[conn]; u != nil && len(u.sas) == 0 && d.accessOf[conn] == nil && d.staticOf[conn] == nil {
		delete(d.usage, conn)
	}
}

// noteGone takes the last counters of an SA that is about to be removed.
func (d *dataplane) noteGone(conn ike.ConnID, id xfrm.ID) {
	d.mu.Lock()
	u := d.usage[conn]
	d.mu.Unlock()
	if u == nil {
		return
	}
	c, err := d.xfrm.Counters(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := u.sas[id]
	if !ok {
		return
	}
	if err == nil {
		u.note(id, c)
		r = u.sas[id]
	}
	r.add(&u.gone)
	delete(u.sas, id)
	d.dropUsageLocked(conn)
}

// noteExpired takes the counters that the kernel told when it deleted an SA, which is missing no more.
func (d *dataplane) noteExpired(ev xfrm.Expire) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sas, ev.ID)
	if u := d.usage[ike.ConnID(xfrm.Conn(ev.Reqid))]; u != nil {
		u.note(ev.ID, ev.Counters)
	}
}
