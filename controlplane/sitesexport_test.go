package controlplane

import (
	"context"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
)

// Tunnel is what the site engine knows of a static tunnel of a virtual router; the zero Info when it does not run.
func (p *Process) Tunnel(router, name string) (out site.Info) {
	for _, r := range p.routers() {
		if r.name == router {
			r.do(context.Background(), func(time.Time) { out, _ = r.machine.sites.engine.Tunnel(name) })
		}
	}
	return out
}

// Tell says a word of an operator about a static tunnel.
func (p *Process) Tell(router, name string, word site.Command) site.Reason {
	for _, r := range p.routers() {
		if r.name == router {
			a, _ := r.tellTunnel(context.Background(), name, word)
			return a.Reason
		}
	}
	return site.ReasonUnknown
}

// SiteLeft is what a virtual router keeps of connections and dials of static tunnels.
func (p *Process) SiteLeft(router string) (conns, dials, keys int) {
	for _, r := range p.routers() {
		if r.name == router {
			r.do(context.Background(), func(time.Time) {
				conns, dials, keys = len(r.machine.sites.conns), len(r.machine.sites.dials), len(r.statics)
			})
		}
	}
	return conns, dials, keys
}

// Kill takes a connection of a virtual router away without a word to the peer.
func (p *Process) Kill(router string, conn uint32) {
	for _, r := range p.routers() {
		if r.name == router {
			r.do(context.Background(), func(now time.Time) {
				r.perform(r.ctx, r.machine.step(now, ike.CloseConn{Conn: ike.ConnID(conn), Reason: ike.ReasonOperator}))
			})
		}
	}
}
