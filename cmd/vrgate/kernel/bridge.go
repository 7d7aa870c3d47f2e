package kernel

import (
	"errors"

	"vrgate/controlplane"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/l2tpnl"
	"vrgate/pppd/unit"
)

// bridge is a session that is handed on: two calls whose PPP channels are joined. There is no interface, and no frame comes
// up to the process.
//
// Linux (6.1 to 6.12 at least) forgets that the UDP checksum of a datagram from a neighbour on the same machine (a veth pair,
// two guests of a host) has yet to be computed when it hands the frame on, and computes it for the next datagram, wrongly. From
// a wire, and through IPsec, checksums come complete.
type bridge struct{ near, far *call }

// Bridge implements [controlplane.SwitchPlane].
func (d *dataplane) Bridge(f subscriber.Bridge) error {
	b := &bridge{}
	var err error
	// Towards the client we are the LNS and decide about sequence numbers; towards the other LNS we are the LAC and follow.
	if b.near, err = d.openCall(f.Near.Call, f.Near.PeerTunnel, l2tpnl.SessionSpec{
		Peer: f.Near.PeerSession, LNS: true, Sequence: f.Near.Sequencing, RequireSequence: f.Near.Sequencing,
	}); err != nil {
		return typed(err)
	}
	if b.far, err = d.openCall(f.Far.Call, f.Far.PeerTunnel, l2tpnl.SessionSpec{
		Peer: f.Far.PeerSession, Sequence: f.Far.Sequencing, RequireSequence: f.Far.Sequencing,
	}); err != nil {
		_ = d.closeCall(b.near)
		return typed(err)
	}
	if err := unit.Join(d.net, b.near.l2tp.Index(), b.far.l2tp.Index()); err != nil {
		_ = d.closeBridge(b)
		return typed(err)
	}
	d.mu.Lock()
	d.bridges[f.ID] = b
	d.mu.Unlock()
	return nil
}

// CloseBridge implements [controlplane.SwitchPlane].
func (d *dataplane) CloseBridge(id subscriber.ID) (subscriber.Counters, error) {
	d.mu.Lock()
	b := d.bridges[id]
	delete(d.bridges, id)
	d.mu.Unlock()
	if b == nil {
		return subscriber.Counters{}, nil
	}
	counters, _ := b.counters()
	return counters, typed(d.closeBridge(b))
}

// closeBridge ends both calls; the end of the first parts their channels.
func (d *dataplane) closeBridge(b *bridge) error {
	return errors.Join(d.closeCall(b.near), d.closeCall(b.far))
}

// counters are those of the near call. Octets have the L2TP and PPP headers of the frames, 10 each as we send them, because
// the kernel counts nothing else of a frame that it hands on.
func (b *bridge) counters() (subscriber.Counters, bool) {
	c, err := b.near.l2tp.Counters()
	return subscriber.Counters{InBytes: c.RxBytes, OutBytes: c.TxBytes, InPackets: c.RxPackets, OutPackets: c.TxPackets}, err == nil
}

// CallTraffic implements [controlplane.SwitchPlane].
func (d *dataplane) CallTraffic(key subscriber.CallKey) (controlplane.CallTraffic, bool) {
	// Another router's tunnels may be in the namespace.
	if d.tunnel(l2tp.TunnelID(key.Tunnel)) == nil {
		return controlplane.CallTraffic{}, false
	}
	c, err := d.l2tp.SessionCounters(key.Tunnel, key.Session)
	return controlplane.CallTraffic{
		RxOctets: c.RxBytes, RxPackets: c.RxPackets, RxErrors: c.RxErrors, RxDiscards: c.RxSequenceDiscards, RxOutOfSequence: c.RxOutOfSequence,
		TxOctets: c.TxBytes, TxPackets: c.TxPackets, TxErrors: c.TxErrors,
	}, err == nil
}
