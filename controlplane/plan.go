package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// forecast builds a configuration and says what taking it over changes and ends. The engines say what ends by the
// code that ends it.
func (p *Process) forecast(ctx context.Context, cfg *config.Config) (api.Plan, *built, error) {
	plan := api.Plan{Drops: []api.PlanDrop{}, Failed: []api.PlanFailure{}}
	cfg, plan.Restart = lasts(cfg, p.cfg())
	b, err := p.build(cfg)
	if err != nil {
		return api.Plan{}, nil, err
	}
	plan.Changes = p.changes(b)
	leaving := map[string]subscriber.Reason{}
	for _, r := range p.routers() {
		if why := r.whole(b); why != "" {
			leaving[r.name] = why
		}
	}
	for _, r := range p.routers() {
		drops, err := r.drops(ctx, b, leaving)
		if err != nil {
			return api.Plan{}, nil, err
		}
		plan.Drops = append(plan.Drops, drops...)
	}
	slices.SortFunc(plan.Drops, func(a, b api.PlanDrop) int {
		return cmp.Or(cmp.Compare(a.VR, b.VR), cmp.Compare(a.What, b.What), cmp.Compare(a.Reason, b.Reason))
	})
	for _, d := range plan.Drops {
		plan.Dropped.Add(d.PlanCounts)
	}
	return plan, b, nil
}

// changes lists what is configured differently, and whose certificates are others though the configuration is not.
func (p *Process) changes(b *built) []api.PlanChange {
	out := []api.PlanChange{}
	for _, c := range config.Diff(p.cfg(), b.cfg) {
		x := api.PlanChange{VR: c.Router, What: c.Section, Change: string(c.Kind), Settings: c.Settings}
		if c.Settings == nil {
			x.Settings = []string{}
		}
		out = append(out, x)
	}
	for _, r := range p.routers() {
		now := r.settings.Load()
		next := b.router(r.name)
		if next != nil && reflect.DeepEqual(pkiConfig(b.cfg, now.cfg), pkiConfig(b.cfg, b.cfg.Router(r.name))) && !sameContents(now.certs, next.certs) {
			out = append(out, api.PlanChange{VR: r.name, What: "files of certificates", Change: string(config.Changed), Settings: []string{}})
		}
	}
	return out
}

// whole says why all of a router ends with a configuration; empty: it does not.
func (r *router) whole(b *built) subscriber.Reason {
	switch next := b.cfg.Router(r.name); {
	case next == nil:
		return reasonRouterRemoved
	case reopens(r.cfg(), next):
		return reasonReconfigured
	}
	return ""
}

// drops says what of a router ends with a configuration; leaving are the routers of which all does.
func (r *router) drops(ctx context.Context, b *built, leaving map[string]subscriber.Reason) ([]api.PlanDrop, error) {
	whole := leaving[r.name]
	var out []api.PlanDrop
	if !r.do(ctx, func(time.Time) {
		if whole != "" {
			d := api.PlanDrop{VR: r.name, What: "virtual router", Reason: string(whole), PlanCounts: r.counts()}
			if d.PlanCounts != (api.PlanCounts{}) {
				out = append(out, d)
			}
			return
		}
		out = r.machine.drops(r.name, b.router(r.name).machine, leaving)
	}) && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return out, nil
}

// counts is all that a router has; in its loop.
func (r *router) counts() (c api.PlanCounts) {
	c.Connections = len(r.machine.ike.Conns())
	for _, t := range r.machine.l2tp.Tunnels() {
		if t.Ended.IsZero() {
			c.Tunnels++
		}
	}
	for _, s := range r.machine.l2tp.Sessions() {
		if s.Ended.IsZero() {
			c.Sessions++
		}
	}
	for _, s := range r.machine.subs.Records() {
		if s.State != subscriber.StateEnding {
			c.Subscribers++
		}
	}
	return c
}

// cause is why something ends.
type cause struct{ what, reason string }

func hostCause(profile, host string, reason l2tp.Reason) cause {
	return cause{fmt.Sprintf("l2tp destination profile %s host profile %s", profile, host), string(reason)}
}

// drops says what of the engines ends with a configuration, by causes. What ends with something else that ends counts
// for the cause of that. Sessions that end in another router which leaves go with it.
func (m *machine) drops(router string, next machineConfig, leaving map[string]subscriber.Reason) []api.PlanDrop {
	counts := map[cause]*api.PlanCounts{}
	of := func(c cause) *api.PlanCounts {
		if counts[c] == nil {
			counts[c] = &api.PlanCounts{}
		}
		return counts[c]
	}
	calls, tunnels, conns := map[subscriber.CallKey]cause{}, map[l2tp.TunnelID]bool{}, map[uint32]cause{}
	endedTunnels, endedCalls := m.l2tp.Affected(next.l2tp)
	for _, s := range endedCalls {
		c := hostCause(s.Profile, s.HostProfile, s.Reason)
		calls[callKey(s.Tunnel, s.ID)] = c
		of(c).Sessions++
	}
	for _, t := range endedTunnels {
		c := hostCause(t.Profile, t.HostProfile, t.Reason)
		tunnels[t.ID] = true
		of(c).Tunnels++
		if _, counted := conns[uint32(t.Conn)]; t.SingleShot && t.Conn != 0 && !counted { // H4
			conns[uint32(t.Conn)] = c
			of(c).Connections++
		}
	}
	for _, a := range m.ike.Affected(next.ike) {
		id := uint32(a.Conn.ID)
		if _, counted := conns[id]; counted {
			continue
		}
		kind := "transport profile "
		switch {
		case a.Conn.Static != "":
			kind = "static tunnel "
		case a.Conn.Dynamic:
			kind = "tunnel profile "
		}
		conns[id] = cause{kind + a.Conn.Profile, string(a.Reason)}
		of(conns[id]).Connections++
	}
	for _, a := range m.sites.engine.Ending(next.site) {
		if _, counted := conns[a.Conn]; !counted { // else it ends because its tunnel has gone or changed
			conns[a.Conn] = cause{"static tunnel " + a.Tunnel, string(a.Reason)}
			of(conns[a.Conn]).Connections++
		}
	}
	for _, t := range m.l2tp.Tunnels() {
		if c, ends := conns[uint32(t.Conn)]; ends && t.Ended.IsZero() && !tunnels[t.ID] {
			of(c).Tunnels++
		}
	}
	for _, s := range m.l2tp.Sessions() {
		key := callKey(s.Tunnel, s.ID)
		_, counted := calls[key]
		if c, ends := conns[uint32(s.Conn)]; ends && s.Ended.IsZero() && !counted && !tunnels[s.Tunnel] {
			calls[key] = c
			of(c).Sessions++
		}
	}
	for _, s := range m.subs.Records() {
		c, ends := calls[s.Call]
		if s.Access == aaa.AccessXAuth || !ends {
			c, ends = conns[s.Conn]
		}
		if !ends && leaving[s.Terminating] != "" {
			c, ends = cause{"virtual router " + s.Terminating, string(leaving[s.Terminating])}, true
			m.dropsWith(&s, of(c))
		}
		if ends && s.State != subscriber.StateEnding {
			of(c).Subscribers++
		}
	}
	var out []api.PlanDrop
	for c, n := range counts {
		out = append(out, api.PlanDrop{VR: router, What: c.what, Reason: c.reason, PlanCounts: *n})
	}
	return out
}

// dropsWith counts what ends with a session that is ended by itself: a dynamic subscriber has its IPsec connection alone, and so
// has a single-shot tunnel (H4). Others have their tunnel for the idle timeout.
func (m *machine) dropsWith(s *subscriber.Record, n *api.PlanCounts) {
	if s.State == subscriber.StateEnding {
		return
	}
	if s.Access == aaa.AccessXAuth {
		n.Connections++
		return
	}
	n.Sessions++
	if !s.SingleShot {
		return
	}
	n.Tunnels++
	if s.Conn != 0 {
		n.Connections++
	}
}
