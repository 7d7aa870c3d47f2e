package fakekernel

import (
	"fmt"

	"vrgate/controlplane"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
)

// access is a dynamic subscriber's route and policies.
type access struct {
	subscriber.OpenAccess
	leaked bool
}

// accessOf is the access of a connection, nil when it has none.
func (d *plane) accessOf(conn ike.ConnID) *access {
	for _, a := range d.accesses {
		if ike.ConnID(a.Conn) == conn && !a.leaked {
			return a
		}
	}
	return nil
}

// OpenAccess implements [controlplane.Dataplane].
func (d *plane) OpenAccess(f subscriber.OpenAccess) (name string, ifindex int, err error) {
	err = d.do(fmt.Sprintf("open access of %v", f.Address), func() error {
		end := d.kernel.routers[f.Terminating]
		if end == nil {
			return &controlplane.DataplaneError{Reason: "no-terminating-router", Text: "it does not run"}
		}
		if err := known(end.config, f.Traffic); err != nil {
			return err
		}
		if d.accesses[f.ID] != nil || d.accessOf(ike.ConnID(f.Conn)) != nil {
			return misuse("access %d of connection %d opened twice", f.ID, f.Conn)
		}
		for _, p := range d.kernel.routers {
			if p.routes(f) {
				return &controlplane.DataplaneError{Reason: "duplicate-address", Text: "the address is routed already in the terminating virtual router"}
			}
		}
		if err := d.kernel.free(f.ID, f.Terminating, f.Routes); err != nil {
			return err
		}
		d.accesses[f.ID] = &access{OpenAccess: f}
		// One interface for each pair of routers, however many subscribers.
		name, ifindex = "vrx-"+f.Terminating, 1
		return nil
	})
	return name, ifindex, err
}

// routes says whether a subscriber that came to this router has the address already.
func (d *plane) routes(f subscriber.OpenAccess) bool {
	for _, a := range d.accesses {
		if a.Terminating == f.Terminating && a.Address == f.Address {
			return true
		}
	}
	for _, s := range d.sessions {
		if s.Terminating == f.Terminating && s.traffic && s.route == f.Address {
			return true
		}
	}
	return false
}

// CloseAccess implements [controlplane.Dataplane].
func (d *plane) CloseAccess(id subscriber.ID) (subscriber.Counters, error) {
	var counters subscriber.Counters
	err := d.do("close access", func() error {
		a := d.accesses[id]
		if a == nil {
			return misuse("access %d closed, which is not there", id)
		}
		counters = d.carried[ike.ConnID(a.Conn)]
		delete(d.carried, ike.ConnID(a.Conn))
		delete(d.accesses, id)
		return nil
	})
	if err != nil {
		d.leak(func() {
			if a := d.accesses[id]; a != nil {
				a.leaked = true
			}
		})
	}
	return counters, err
}

// Traffic implements [controlplane.Dataplane].
func (d *plane) Traffic(conn ike.ConnID) (subscriber.Counters, bool) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	if u := d.statics.spent[conn]; u != nil {
		return u.Counters, !d.closed
	}
	return d.carried[conn], d.accessOf(conn) != nil && !d.closed
}

// Carry adds to the traffic of a dynamic subscriber's connection; nothing has any by itself.
func (k *Kernel) Carry(router string, conn ike.ConnID, c subscriber.Counters) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.routers[router]
	if p == nil || p.accessOf(conn) == nil {
		panic(fmt.Sprintf("fakekernel: connection %d of %s carries nothing", conn, router))
	}
	sum := p.carried[conn]
	sum.InBytes, sum.OutBytes = sum.InBytes+c.InBytes, sum.OutBytes+c.OutBytes
	sum.InPackets, sum.OutPackets = sum.InPackets+c.InPackets, sum.OutPackets+c.OutPackets
	p.carried[conn] = sum
}
