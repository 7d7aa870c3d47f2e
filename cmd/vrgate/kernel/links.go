package kernel

import (
	"context"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/vr"
)

// Pauses of tend: after the start, so that another virtual router which opens next is not missed by a pair of links,
// and between looks at the links.
const (
	linkSettle = time.Second
	linkPause  = 5 * time.Second
)

var linkKinds = map[config.LinkKind]vr.LinkKind{
	config.LinkInterface: vr.LinkInterface, config.LinkVLAN: vr.LinkVLAN, config.LinkVeth: vr.LinkVeth, config.LinkIPIP: vr.LinkIPIP, config.LinkGRE: vr.LinkGRE,
}

// linksOf are a virtual router's desired links.
func linksOf(c *config.Router) []vr.Link {
	var out []vr.Link
	for i := range c.Links {
		l := &c.Links[i]
		x := vr.Link{Name: l.Name, Kind: linkKinds[l.Kind], Addresses: l.Addresses, MTU: l.MTU, Down: !l.Up, Far: l.Far}
		switch l.Kind {
		case config.LinkInterface:
			x.Device = l.Interface.Device
		case config.LinkVLAN:
			x.Device, x.Inside, x.VLAN = l.VLAN.Parent, l.VLAN.Inside, uint16(l.VLAN.ID)
		case config.LinkVeth:
			x.Router, x.Peer = l.Veth.Router, l.Veth.Name
		case config.LinkIPIP:
			x.Local, x.Remote, x.TTL = l.IPIP.Local, l.IPIP.Remote, uint8(l.IPIP.TTL)
		case config.LinkGRE:
			x.Local, x.Remote, x.Key, x.TTL = l.GRE.Local, l.GRE.Remote, l.GRE.Key, uint8(l.GRE.TTL)
		}
		for _, r := range l.Routes {
			x.Routes = append(x.Routes, vr.LinkRoute{Network: r.Network, Via: r.Via, Metric: r.Metric})
		}
		out = append(out, x)
	}
	return out
}

// find returns a virtual router that runs, nil if it does not.
func (k *Kernel) find(name string) *vr.Router {
	p, _ := k.router(name)
	return p.vr
}

// wakePeers has the virtual routers that have the other ends of pairs look at them: they may have come or gone.
func (d *dataplane) wakePeers() {
	d.changing.Lock()
	defer d.changing.Unlock()
	for i := range d.spec.Links {
		if p, runs := d.kernel.router(d.spec.Links[i].Router); runs {
			wake(p.wake)
		}
	}
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will look anyway
	}
}

// tend keeps the links as they should be until ctx ends, and tells of those that change.
func (d *dataplane) tend(ctx context.Context) {
	told := map[string]controlplane.LinkState{}
	static := 0
	for pause := linkSettle; ; pause = linkPause {
		var again <-chan time.Time
		if d.linked() || len(d.allStatics()) > 0 {
			again = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-d.wake:
		}
		if d.look(told) {
			d.wakePeers()
		}
		static = d.tendStatics(static)
	}
}

// linked says whether the virtual router has links.
func (d *dataplane) linked() bool {
	d.changing.Lock()
	defer d.changing.Unlock()
	return len(d.spec.Links) > 0
}

// look mends the links and tells of what has changed since it last did; it says whether anything has.
func (d *dataplane) look(told map[string]controlplane.LinkState) (changed bool) {
	if err := d.vr.Mend(); err != nil {
		return false // closed
	}
	list, err := d.Links()
	if err != nil {
		return false
	}
	there := make(map[string]bool, len(list))
	for _, s := range list {
		there[s.Name] = true
		before, known := told[s.Name]
		told[s.Name] = s
		if known && before.Status == s.Status && before.Reason == s.Reason {
			continue
		}
		changed = true
		d.in.LinkChanged(s)
	}
	for name := range told {
		if !there[name] {
			delete(told, name)
			changed = true
		}
	}
	return changed
}

// Links implements [controlplane.Dataplane].
func (d *dataplane) Links() ([]controlplane.LinkState, error) {
	list, err := d.vr.Links()
	if err != nil {
		return nil, typed(err)
	}
	out := make([]controlplane.LinkState, 0, len(list))
	for i := range list {
		s := &list[i]
		status := controlplane.LinkDown
		switch {
		case s.Missing:
			status = controlplane.LinkMissing
		case s.Up:
			status = controlplane.LinkUp
		}
		out = append(out, controlplane.LinkState{
			Name: s.Name, Status: status, Reason: string(s.Reason), Text: s.Text, Index: s.Index, MTU: s.MTU, Traffic: controlplane.LinkTraffic(s.Traffic),
		})
	}
	return out, nil
}
