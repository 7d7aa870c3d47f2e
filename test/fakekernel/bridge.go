package fakekernel

import (
	"net/netip"
	"slices"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// bridge is a session that is handed on.
type bridge struct {
	subscriber.Bridge
	near, far *tunnel
	leaked    bool
}

// joined is the other call of a bridge that a call belongs to.
func (d *plane) joined(call subscriber.CallKey) (subscriber.CallEnds, bool) {
	for _, b := range d.bridges {
		switch {
		case b.leaked:
		case b.Near.Call == call:
			return b.Far, true
		case b.Far.Call == call:
			return b.Near, true
		}
	}
	return subscriber.CallEnds{}, false
}

// Bridge implements [controlplane.SwitchPlane].
func (d *plane) Bridge(f subscriber.Bridge) error {
	return d.do("bridge", func() error {
		near, far := d.tunnels[l2tp.TunnelID(f.Near.Call.Tunnel)], d.tunnels[l2tp.TunnelID(f.Far.Call.Tunnel)]
		if near == nil || far == nil || near.closing || far.closing {
			return &controlplane.DataplaneError{Reason: subscriber.ReasonTunnelGone, Text: "the tunnel ended meanwhile"}
		}
		if d.bridges[f.ID] != nil || d.sessions[f.ID] != nil {
			return misuse("session %d bridged, which is there already", f.ID)
		}
		for _, ends := range []subscriber.CallEnds{f.Near, f.Far} {
			if _, taken := d.joined(ends.Call); taken || ends.PeerTunnel == 0 || ends.PeerSession == 0 {
				return misuse("call %v bridged to session %d of tunnel %d, or twice", ends.Call, ends.PeerSession, ends.PeerTunnel)
			}
		}
		near.sessions++
		far.sessions++
		d.bridges[f.ID] = &bridge{Bridge: f, near: near, far: far}
		return nil
	})
}

// CloseBridge implements [controlplane.SwitchPlane].
func (d *plane) CloseBridge(id subscriber.ID) (subscriber.Counters, error) {
	err := d.do("close bridge", func() error {
		b := d.bridges[id]
		if b == nil {
			return misuse("bridge %d closed, which is not there", id)
		}
		delete(d.bridges, id)
		for _, t := range []*tunnel{b.near, b.far} {
			if t.sessions--; t.sessions == 0 && t.closing {
				delete(d.tunnels, t.Tunnel)
			}
		}
		return nil
	})
	if err != nil {
		d.leak(func() {
			b := d.bridges[id]
			b.leaked, b.near.leaked, b.far.leaked = true, true, true // the kernel keeps a tunnel that has sessions
		})
	}
	return sessionCounters, err
}

// callTraffic is what every call has carried.
var callTraffic = controlplane.CallTraffic{RxOctets: 1000, RxPackets: 10, TxOctets: 2000, TxPackets: 20}

// CallTraffic implements [controlplane.SwitchPlane].
func (d *plane) CallTraffic(call subscriber.CallKey) (controlplane.CallTraffic, bool) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	_, there := d.joined(call)
	for _, s := range d.sessions {
		there = there || s.Call == call
	}
	if !there || d.closed {
		return controlplane.CallTraffic{}, false
	}
	return callTraffic, true
}

func sorted(addresses []netip.Addr) []netip.Addr {
	return slices.SortedFunc(slices.Values(addresses), netip.Addr.Compare)
}

// Reconfigure implements [controlplane.Reconfigurable].
func (d *plane) Reconfigure(_ *config.Config, r *config.Router) (ok bool, err error) {
	err = d.do("reconfigure", func() error {
		if r.Name != d.name {
			return misuse("%s reconfigured as %s", d.name, r.Name)
		}
		old := d.config
		ok = old.Namespace == r.Namespace && old.VRF == r.VRF && slices.Equal(sorted(old.ServerAddresses), sorted(r.ServerAddresses))
		if ok {
			d.config = r
			d.forgetStatics()
		}
		return nil
	})
	return ok, err
}
