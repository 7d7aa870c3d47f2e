package fakekernel

import "vrgate/controlplane"

// SetLink changes what has become of a link, which is up until then, and tells the control plane.
func (k *Kernel) SetLink(router string, s controlplane.LinkState) {
	k.mu.Lock()
	p := k.routers[router]
	if p == nil {
		k.mu.Unlock()
		return
	}
	p.links[s.Name] = s
	k.mu.Unlock()
	p.in.LinkChanged(s)
}

// Links implements [controlplane.Dataplane].
func (d *plane) Links() ([]controlplane.LinkState, error) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	out := make([]controlplane.LinkState, 0, len(d.config.Links))
	for i := range d.config.Links {
		s, changed := d.links[d.config.Links[i].Name]
		if !changed {
			s = controlplane.LinkState{Name: d.config.Links[i].Name, Status: controlplane.LinkUp, Index: i + 1, MTU: 1500, Traffic: linkTraffic}
		}
		out = append(out, s)
	}
	return out, nil
}

// linkTraffic is what every link has carried.
var linkTraffic = controlplane.LinkTraffic{InPackets: 10, InBytes: 1000, OutPackets: 20, OutBytes: 2000}
