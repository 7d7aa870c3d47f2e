package controlplane

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// forecast builds a configuration and says what taking it over changes and ends. The engines say what ends by the
// code that ends it.
func (p *Process) forecast(ctx context.Context, cfg *config.Config) (api.Plan, *built, error) {
	plan := api.Plan{Changes: []api.PlanChange{}, Drops: []api.PlanDrop{}, Failed: []api.PlanFailure{}}
	now := p.cfg()
	cfg, plan.Restart = lasts(cfg, now)
	b, err := p.build(cfg)
	if err != nil {
		return api.Plan{}, nil, err
	}
	plan.Changes = append(plan.Changes, changes(now, cfg)...)
	for _, r := range p.routers() {
		drops, err := r.drops(ctx, b)
		if err != nil {
			return api.Plan{}, nil, err
		}
		plan.Drops = append(plan.Drops, drops...)
	}
	slices.SortFunc(plan.Drops, func(a, b api.PlanDrop) int { return cmp.Or(cmp.Compare(a.VR, b.VR), cmp.Compare(a.What, b.What)) })
	for _, d := range plan.Drops {
		plan.Dropped.Add(d.PlanCounts)
	}
	return plan, b, nil
}

// changes lists what is configured differently.
func changes(now, next *config.Config) []api.PlanChange {
	var out []api.PlanChange
	if !reflect.DeepEqual(now.Process, next.Process) {
		out = append(out, api.PlanChange{What: "process", Change: "changed"})
	}
	for _, c := range next.Routers {
		switch old := now.Router(c.Name); {
		case old == nil:
			out = append(out, api.PlanChange{VR: c.Name, Change: "added"})
		case !reflect.DeepEqual(old, c):
			out = append(out, api.PlanChange{VR: c.Name, Change: "changed"})
		}
	}
	for _, c := range now.Routers {
		if next.Router(c.Name) == nil {
			out = append(out, api.PlanChange{VR: c.Name, Change: "removed"})
		}
	}
	return out
}

// drops says what of a router ends with a configuration.
func (r *router) drops(ctx context.Context, b *built) ([]api.PlanDrop, error) {
	next := b.cfg.Router(r.name)
	whole := subscriber.Reason("")
	switch {
	case next == nil:
		whole = reasonRouterRemoved
	case reopens(r.cfg(), next):
		whole = reasonReconfigured
	}
	var out []api.PlanDrop
	if !r.do(ctx, func(time.Time) {
		if whole != "" {
			d := api.PlanDrop{VR: r.name, What: "virtual router", Reason: string(whole), PlanCounts: r.counts()}
			if d.PlanCounts != (api.PlanCounts{}) {
				out = append(out, d)
			}
			return
		}
		out = r.machine.drops(r.name, b.router(r.name).machine)
	}) && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return out, nil
}

// counts is all that a router has; in its loop.
func (r *router) counts() (c api.PlanCounts) {
	c.Connections = len(r.machine.ike.Conns())
	c.Tunnels = r.machine.l2tp.Live()
	for _, s := range r.machine.subs.Records() {
		if s.State != subscriber.StateEnding {
			c.Subscribers++
		}
	}
	for _, s := range r.machine.l2tp.Sessions() {
		_ = s
		c.Sessions++
	}
	return c
}

// drops says what of the engines ends with a configuration.
func (m *machine) drops(router string, next machineConfig) []api.PlanDrop {
	return nil
}
