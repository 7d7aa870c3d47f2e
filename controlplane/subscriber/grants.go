package subscriber

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/deadline"
)

// complete fills what AAA has left open in its grants from the IP profile and the tunnel profile.
// Name servers are taken in pairs: half a pair of one virtual router's and half of another's
// would have the client ask where it cannot.
//
// The gateway is AAA's or the IP profile's; the latter only in the IP profile's own virtual
// router. A subscriber that AAA moves elsewhere without a gateway has none: see unusable.
func (s *session) complete(g aaa.Grants) aaa.Grants {
	p := &s.profile
	if !g.Gateway.IsValid() && (g.Terminating == "" || g.Terminating == p.Terminating) {
		g.Gateway = p.Gateway
	}
	g.Terminating = cmp.Or(g.Terminating, p.Terminating)
	g.Pool = s.pool(g)
	g.DNS, g.NBNS = pairOr(g.DNS, p.DNS), pairOr(g.NBNS, p.NBNS)
	g.MTU = least(g.MTU, p.MTU)
	g.Traffic = p.traffic(g)
	g.IdleTimeout, g.IdleIngress = cmp.Or(g.IdleTimeout, p.IdleTimeout), g.IdleIngress || p.IdleIngress
	if !g.Netmask.IsValid() {
		g.Netmask = hostMask
	}
	if s.dyn == nil {
		return g
	}
	t := &s.dyn.Tunnel
	g.MTU = least(g.MTU, cmp.Or(t.MTU, defaultMTU))
	g.Banner, g.DefaultDomain = cmp.Or(g.Banner, t.Banner), cmp.Or(g.DefaultDomain, t.Domain)
	if len(g.Networks) == 0 {
		g.Networks = t.Networks
	}
	if len(g.SplitDNS) == 0 {
		g.SplitDNS = t.SplitDNS
	}
	return g
}

// traffic is what a subscriber may send and receive: each rate with its burst, and each policy, is AAA's if it names
// one (G7: RADIUS overrides the profile). Policies are things of a virtual router: those of the profile do not hold in
// another one, into which AAA has moved the subscriber.
func (p *IPProfile) traffic(g aaa.Grants) aaa.Traffic {
	t := g.Traffic
	if t.In == 0 {
		t.In, t.InBurst = p.Traffic.In, p.Traffic.InBurst
	}
	if t.Out == 0 {
		t.Out, t.OutBurst = p.Traffic.Out, p.Traffic.OutBurst
	}
	if g.Terminating == p.Terminating {
		t.InPolicy, t.OutPolicy = cmp.Or(t.InPolicy, p.Traffic.InPolicy), cmp.Or(t.OutPolicy, p.Traffic.OutPolicy)
	}
	return t
}

// pool is where an address comes from; empty: it is the user's own.
func (s *session) pool(g aaa.Grants) string {
	if g.Address.IsValid() {
		return ""
	}
	return cmp.Or(g.Pool, s.profile.Pool)
}

func pairOr(pair, other [2]netip.Addr) [2]netip.Addr {
	if pair[0].IsValid() || pair[1].IsValid() {
		return pair
	}
	return other
}

// least is the smaller of two bounds; 0 is none.
func least(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// unusable says why nothing can be made of an accept; an empty reason: something can.
func (s *session) unusable(ev Decided) (r Reason, text string) {
	switch g := s.complete(ev.Decision.Grants); {
	case len(ev.Decision.Tunnels) > 0:
		return Reason(aaa.ReasonBadAnswer), "AAA hands the user on to another LNS, which only a PPP session can be"
	case !ev.Address.IsValid():
		return Reason(aaa.ReasonNoPool), "AAA has accepted the user but there is no address"
	case !g.Gateway.IsValid():
		return ReasonNoGateway, fmt.Sprintf("AAA lets the user end in virtual router %s, and neither it nor IP profile %s has a gateway there", g.Terminating, s.profile.Name)
	}
	return "", ""
}

// hold takes what AAA has granted; the kernel objects are to be made next.
func (e *Engine) hold(s *session, ev Decided) {
	g := s.complete(ev.Decision.Grants)
	s.granted, s.Address, s.leased = g, ev.Address, true
	s.User = cmp.Or(ev.Decision.User, s.login)
	s.Terminating, s.Gateway, s.Pool, s.Netmask = g.Terminating, g.Gateway, g.Pool, g.Netmask
	s.Routes, s.Traffic, s.Class, s.By = g.Routes, g.Traffic, g.Class, ev.Decision.By
	s.SessionTimeout, s.IdleTimeout, s.IdleIngress = s.longest(g.SessionTimeout), g.IdleTimeout, g.IdleIngress
	s.Interim = e.interim(g.Interim)
	s.State, s.kernel = StateOpening, kernelOpening
}

// giveBack releases what came with an answer that came too late, or cannot be used.
func (e *Engine) giveBack(s *session, ev Decided) {
	handedOn := ev.Decision.Accept && len(ev.Decision.Tunnels) > 0
	switch {
	case s.leased:
		return
	case handedOn:
		e.emit(ReleaseAddress{ID: s.ID, Terminating: s.Router, User: cmp.Or(ev.Decision.User, s.login)})
		return
	case !ev.Address.IsValid():
		return
	}
	e.emit(ReleaseAddress{
		ID: s.ID, Terminating: cmp.Or(ev.Decision.Terminating, s.profile.Terminating), Pool: s.pool(ev.Decision.Grants),
		User: cmp.Or(ev.Decision.User, s.login), Address: ev.Address,
	})
}

// holdAgain takes what AAA says of a subscriber that has authenticated once more. Timeouts,
// interim interval and class follow its last accept; a session that is up is not prolonged by
// that, or the limit would mean nothing to those that authenticate at every rekey. What peer and
// kernel have stays as it is, and so does who decided: accounting ends where it began.
func (e *Engine) holdAgain(now time.Time, s *session, d aaa.Decision) {
	g := s.complete(d.Grants)
	s.IdleTimeout, s.IdleIngress = g.IdleTimeout, g.IdleIngress
	interim := e.interim(d.Interim)
	if len(d.Class) > 0 {
		s.Class = d.Class
	}
	if !s.started {
		s.SessionTimeout, s.Interim = s.longest(d.SessionTimeout), interim
		return
	}
	if d.SessionTimeout > 0 {
		e.limitSession(s, deadline.Earliest(s.timeouts.Limit, now.Add(d.SessionTimeout)))
	}
	e.watchTraffic(now, s)
	if interim != s.Interim {
		e.reportEvery(now, s, interim)
	}
	e.arm(s)
}

// becameAnother says whether AAA takes the user that has authenticated again for another one.
func (s *session) becameAnother(presented string, d aaa.Decision) bool {
	if d.User == "" {
		return presented != s.login
	}
	return d.User != s.User
}

// behind are the networks behind a subscriber.
func behind(routes []aaa.Route) (out []netip.Prefix) {
	for _, r := range routes {
		out = append(out, r.Prefix)
	}
	return out
}
