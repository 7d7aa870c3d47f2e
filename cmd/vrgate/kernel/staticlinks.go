package kernel

import (
	"slices"

	"vrgate/controlplane/config"
	"vrgate/vr"
)

// withheld is a router's spec with those links down whose packets a static tunnel of mode transport is to encrypt, but for links that are
// there already. They come up when the tunnels' policies are there, and go down before these go: in between their packets, and those of
// whoever is behind them, would leave in clear. It is spec itself when there is nothing to withhold.
func withheld(c *config.Router, spec vr.Spec, there []vr.Link) (held vr.Spec, some bool) {
	held = spec
	held.Links = slices.Clone(spec.Links)
	for i := range held.Links {
		l := &held.Links[i]
		if l.Down || !protected(c, l) || slices.ContainsFunc(there, func(was vr.Link) bool { return !was.Down && sameTunnel(&was, l) }) {
			continue
		}
		l.Down, some = true, true
	}
	return held, some
}

// protected says whether a static tunnel encrypts what a link sends.
func protected(c *config.Router, l *vr.Link) bool {
	if l.Kind != vr.LinkIPIP && l.Kind != vr.LinkGRE {
		return false
	}
	return slices.ContainsFunc(c.StaticTunnels, func(t config.StaticTunnel) bool {
		return t.Mode == config.StaticTransport && t.LocalAddress == l.Local &&
			slices.ContainsFunc(t.Peers, func(p config.StaticPeer) bool { return p.Address == l.Remote })
	})
}

// sameTunnel says whether a link of kind LinkIPIP or LinkGRE stays as it is but for what can change while it is up.
func sameTunnel(a, b *vr.Link) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Local == b.Local && a.Remote == b.Remote && a.Key == b.Key && a.TTL == b.TTL
}

// withdrawLinks removes the links whose packets static tunnels encrypt, before their policies go. Nothing else runs.
func (d *dataplane) withdrawLinks() error {
	p, runs := d.kernel.router(d.name)
	if !runs {
		return nil
	}
	var names []string
	for i := range d.spec.Links {
		if protected(p.config, &d.spec.Links[i]) {
			names = append(names, d.spec.Links[i].Name)
		}
	}
	if names == nil {
		return nil
	}
	return d.vr.DropLinks(names...)
}
