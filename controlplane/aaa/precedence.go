package aaa

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// or returns g with what next says where g says nothing.
func (g Grants) or(next Grants) Grants {
	g.Netmask = firstAddr(g.Netmask, next.Netmask)
	g.Pool = cmp.Or(g.Pool, next.Pool)
	g.Terminating = cmp.Or(g.Terminating, next.Terminating)
	g.Gateway = firstAddr(g.Gateway, next.Gateway)
	g.SessionTimeout = cmp.Or(g.SessionTimeout, next.SessionTimeout)
	g.IdleTimeout = cmp.Or(g.IdleTimeout, next.IdleTimeout)
	g.IdleIngress = g.IdleIngress || next.IdleIngress
	g.MTU = cmp.Or(g.MTU, next.MTU)
	g.Interim = cmp.Or(g.Interim, next.Interim)
	g.DNS = cmp.Or(g.DNS, next.DNS)
	g.NBNS = cmp.Or(g.NBNS, next.NBNS)
	g.Traffic = g.Traffic.or(next.Traffic)
	g.Networks = firstList(g.Networks, next.Networks)
	g.Banner = cmp.Or(g.Banner, next.Banner)
	g.DefaultDomain = cmp.Or(g.DefaultDomain, next.DefaultDomain)
	g.SplitDNS = firstList(g.SplitDNS, next.SplitDNS)
	return g
}

// or takes each direction's rate with its burst, and each policy, on its own.
func (t Traffic) or(next Traffic) Traffic {
	if t.In == 0 {
		t.In, t.InBurst = next.In, next.InBurst
	}
	if t.Out == 0 {
		t.Out, t.OutBurst = next.Out, next.OutBurst
	}
	t.InPolicy = cmp.Or(t.InPolicy, next.InPolicy)
	t.OutPolicy = cmp.Or(t.OutPolicy, next.OutPolicy)
	return t
}

func firstAddr(a, b netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return b
}

func firstList[T any](a, b []T) []T {
	if len(a) > 0 {
		return a
	}
	return b
}

// Sources of grants, as explain prints them.
const (
	fromServer   = "RADIUS"
	fromUser     = "local user"
	fromPhase1   = "phase 1"
	fromDomain   = "domain map"
	fromProfile  = "IP profile"
	fromDefaults = "router"
	fromArrival  = "the router in which the subscriber arrived"
)

// source is one place in the order of precedence.
type source struct {
	name    string
	tunnels []Tunnel
	Grants
}

// settled is what a subscriber gets, and who said so.
type settled struct {
	Grants
	terminatingBy, poolBy, gatewayBy string
	// tunnels are the LNSs to which the session is handed on, in their order; empty: it ends here.
	tunnels   []Tunnel
	tunnelsBy string
	refusal   Decision // its Reason is empty if there is none
}

// settle puts together what an accepted subscriber gets from what whoever decided has said.
func (s *Service) settle(p *plan, answer source) settled {
	order := []source{answer, {name: fromDomain, Grants: p.domainGrants()}, {name: fromProfile, Grants: Grants{
		Terminating: p.profile.Terminating, Gateway: p.profile.Gateway, Pool: p.profile.Pool,
		IdleTimeout: p.profile.IdleTimeout, IdleIngress: p.profile.IdleIngress, Traffic: p.profile.Traffic,
	}}, {name: fromDefaults, Grants: p.policy.Defaults}}
	out := settled{Grants: answer.Grants}
	for _, next := range order[1:] {
		out.Grants = out.Grants.or(next.Grants)
	}
	if out.tunnels, out.tunnelsBy = p.tunnels(answer); len(out.tunnels) > 0 {
		if p.access == AccessXAuth {
			out.refuse(ReasonBadAnswer, "user %q shall be handed on to an LNS (%s), which only PPP sessions can be", p.user, out.tunnelsBy)
		}
		out.Grants = out.Grants.handedOn()
		return out
	}
	at := slices.IndexFunc(order, func(o source) bool { return o.Terminating != "" })
	if at < 0 {
		at, out.terminatingBy, out.Terminating = len(order)-1, fromArrival, p.arrival
	} else {
		out.terminatingBy = order[at].name
	}
	target := s.policies[out.Terminating]
	if target == nil {
		out.refuse(ReasonNoRouter, "user %q shall end in virtual router %q (%s), which there is not", p.user, out.Terminating, out.terminatingBy)
		return out
	}
	if p.access != AccessXAuth && target.Namespace != p.namespace {
		out.refuse(ReasonNoRouter, "user %q shall end in virtual router %s (%s), which is in another namespace: L2TP subscribers cannot", p.user, out.Terminating, out.terminatingBy)
		return out
	}
	out.settlePool(p, order, at, target)
	out.settleGateway(p, order, at, target)
	return out
}

func (o *settled) settlePool(p *plan, order []source, at int, target *RouterPolicy) {
	if o.Address.IsValid() {
		return // needs none
	}
	by := slices.IndexFunc(order, func(s source) bool { return s.Pool != "" })
	switch {
	case by >= 0 && slices.Contains(target.Pools, o.Pool):
		o.poolBy = order[by].name
	case by >= 0 && by <= at:
		o.refuse(ReasonNoPool, "user %q shall have an address of pool %q (%s), which virtual router %s has not", p.user, o.Pool, order[by].name, o.Terminating)
	case len(target.Pools) > 0:
		o.Pool, o.poolBy = target.Pools[0], "the first of virtual router "+o.Terminating
	default:
		o.refuse(ReasonNoPool, "user %q has no fixed address and virtual router %s no pool", p.user, o.Terminating)
	}
}

func (o *settled) settleGateway(p *plan, order []source, at int, target *RouterPolicy) {
	by := slices.IndexFunc(order, func(s source) bool { return s.Gateway.IsValid() })
	switch {
	case by >= 0 && (slices.Contains(target.Gateways, o.Gateway) || order[by].name == fromProfile && order[at].name == fromProfile):
		o.gatewayBy = order[by].name
	case by >= 0 && by <= at:
		o.refuse(ReasonNoGateway, "user %q shall have the gateway %v (%s), which is no address of virtual router %s", p.user, o.Gateway, order[by].name, o.Terminating)
	case len(target.Gateways) > 0:
		o.Gateway, o.gatewayBy = target.Gateways[0], "the first of virtual router "+o.Terminating
	case by >= 0:
		// The router has none. The address is only the near end of the subscriber's own
		// interface, so that of the profile serves there too.
		o.gatewayBy = order[by].name
	}
}

func (o *settled) refuse(reason Reason, format string, args ...any) {
	if o.refusal.Reason == "" {
		o.refusal = Decision{Reason: reason, Text: fmt.Sprintf(format, args...)}
	}
}

// describe prints rates and policies for explain.
func (t Traffic) describe() string {
	var out []string
	for _, d := range []struct {
		name   string
		rate   uint64
		policy string
	}{{"in", t.In, t.InPolicy}, {"out", t.Out, t.OutPolicy}} {
		if d.rate > 0 {
			out = append(out, fmt.Sprintf("%s %d bit/s", d.name, d.rate))
		}
		if d.policy != "" {
			out = append(out, fmt.Sprintf("%s policy %s", d.name, d.policy))
		}
	}
	return strings.Join(out, ", ")
}
