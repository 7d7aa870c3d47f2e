package config

import (
	"cmp"
	"net/netip"
	"slices"
)

// aaaLinks checks and resolves what AAA says about several virtual routers.
func (b *builder) aaaLinks() {
	if d := b.defaultRouter; d.v != "" && b.find(d.v) == nil {
		b.errorf(d.pos, "\"default-router\" is %s but there is no such virtual router%s", quoteShort(d.v), suggest(d.v, b.routerNames()))
	}
	used := map[*Router]map[string]bool{}
	for _, s := range b.routers {
		used[s.r] = map[string]bool{}
	}
	for _, s := range b.routers {
		for i := range s.file.AAA.DomainMaps {
			// Only the maps are sorted, so they are found by their domain.
			d := &s.file.AAA.DomainMaps[i]
			m := s.r.AAA.DomainMap(d.Domain.v)
			if m == nil || m.Deny || d.Deny.v {
				continue
			}
			if asked := b.domainAsked(s, d, m); asked != nil {
				used[asked][m.AuthenticationGroup], used[asked][m.AccountingGroup] = true, true
			}
			b.domainPlace(s, d, m)
			s.maps.add(m)
		}
		used[s.r][s.r.AAA.AuthenticationGroup], used[s.r][s.r.AAA.AccountingGroup] = true, true
		b.eap(s)
	}
	for _, s := range b.routers {
		for i := range s.file.RADIUS.Groups {
			if g := &s.file.RADIUS.Groups[i]; g.Name.v != "" && !used[s.r][g.Name.v] {
				b.warnf(g.Name.pos, "the group %s is never used", quoteShort(g.Name.v))
			}
		}
	}
}

// eap sees to it that somebody understands EAP.
func (b *builder) eap(s *routerSource) {
	i := slices.IndexFunc(s.file.PPP.Authentication, func(w word[PPPAuth]) bool { return w.v == PPPEAP })
	if i < 0 || !s.file.sound("aaa") || !s.file.sound("radius") {
		return
	}
	radius := slices.Contains(s.r.AAA.Methods, MethodRADIUS) ||
		slices.ContainsFunc(s.r.AAA.DomainMaps, func(m DomainMap) bool { return slices.Contains(m.Methods, MethodRADIUS) })
	if !radius {
		b.errorf(s.file.PPP.Authentication[i].pos, "eap needs RADIUS: it is relayed to a server, and nobody is asked by the method radius")
	}
}

// domainAsked fills in who is asked about the users of a domain and who gets their records. It
// returns the router that is asked, nil if there is none.
func (b *builder) domainAsked(s *routerSource, d *fileDomainMap, m *DomainMap) *Router {
	t := b.find(m.AuthenticationRouter)
	if t == nil {
		b.errorf(d.AuthenticationRouter.pos, "\"authentication-router\" is %s but there is no such virtual router%s",
			quoteShort(m.AuthenticationRouter), suggest(m.AuthenticationRouter, b.routerNames()))
		return nil
	}
	tf := b.fileOf(t)
	named := b.groupOf(d.AuthenticationGroup, "authentication-group", tf, t, "authentication-port", authPort)
	auth := cmp.Or(named, t.AAA.AuthenticationGroup, t.onlyGroup())
	m.Methods = wordList(b, d.Methods, "methods")
	if len(m.Methods) == 0 {
		m.Methods = t.AAA.Methods
		if named != "" && len(tf.AAA.Methods) == 0 {
			m.Methods = defaultMethods(tf, named)
		}
	}
	b.methodsFit(m.Methods, d.Methods, d.AuthenticationGroup, auth, t, tf)
	if slices.Contains(m.Methods, MethodRADIUS) {
		m.AuthenticationGroup = auth
	}
	if !m.idleFromElsewhere(s.r) {
		b.idleIngress(d.IdleIngress)
	}
	b.domainAccounting(d, m, named, t, tf)
	return t
}

// idleFromElsewhere as for a router, for the users of a domain.
func (m *DomainMap) idleFromElsewhere(r *Router) bool {
	return m.IdleTimeout != 0 || r.AAA.IdleTimeout != 0 || slices.Contains(m.Methods, MethodRADIUS) || r.idleByProfile()
}

// domainAccounting fills in who gets the records of a domain: t, whose file is tf, is the router
// that is asked, named the group that the map asks.
func (b *builder) domainAccounting(d *fileDomainMap, m *DomainMap, named string, t *Router, tf *fileRouter) {
	acct := b.groupOf(d.AccountingGroup, "accounting-group", tf, t, "accounting-port", acctPort)
	if acct == "" && !d.AccountingGroup.given() {
		acct = t.AAA.AccountingGroup
		if t.serves(named, acctPort) {
			acct = named
		}
	}
	if tf.AAA.Accounting.Enabled.v {
		m.AccountingGroup = acct
	} else if d.AccountingGroup.given() {
		b.warnf(d.AccountingGroup.pos, "the group gets no records: accounting is not \"enabled\" in the virtual router %q", t.Name)
	}
}

// domainPlace resolves where the users of a domain terminate and what they get there.
func (b *builder) domainPlace(s *routerSource, d *fileDomainMap, m *DomainMap) {
	at := d.Router
	if m.IPProfile != "" {
		p := s.r.IPProfile(m.IPProfile)
		if p == nil {
			if s.file.sound("ip-profiles") {
				b.errorf(d.IPProfile.pos, "\"ip-profile\" is %s but there is no such IP profile%s", quoteShort(m.IPProfile), suggest(m.IPProfile, profileNames(s.r)))
			}
			return
		}
		m.Router, m.DNS, m.NBNS, m.MTU = p.Router, p.DNS, p.NBNS, p.MTU
		m.Pool = cmp.Or(m.Pool, p.Pool)
		if !m.Gateway.IsValid() {
			m.Gateway = p.Unnumbered
		}
		at = d.IPProfile
	}
	if m.Router == "" {
		b.poolIn(d.Pool, s.mapped(m))
		b.policiesIn(&d.Traffic, s.mapped(m))
		return
	}
	t := b.find(m.Router)
	if t == nil {
		// An IP profile whose router there is not has been complained about.
		if m.IPProfile == "" {
			b.errorf(at.pos, "\"virtual-router\" is %s but there is no such virtual router%s", quoteShort(m.Router), suggest(m.Router, b.routerNames()))
		}
		return
	}
	if m.IPProfile == "" && s.servesL2TP() && !b.sameNamespace(s.r, t, at) {
		return
	}
	b.poolIn(d.Pool, []string{t.Name})
	b.policiesIn(&d.Traffic, []string{t.Name})
	if m.Pool == "" && m.IPProfile == "" && b.fileOf(t).sound("pools") {
		switch len(t.Pools) {
		case 0:
		case 1:
			m.Pool = t.Pools[0].Name
		default:
			b.errorf(d.pos, "key \"pool\" is missing; the virtual router %q has %d pools to choose from", t.Name, len(t.Pools))
		}
	}
}

func profileNames(r *Router) []string {
	names := make([]string, len(r.IPProfiles))
	for i := range r.IPProfiles {
		names[i] = r.IPProfiles[i].Name
	}
	return names
}

// servesL2TP says whether a subscriber that arrives in the router may be one of L2TP; without any
// profile nobody knows yet.
func (s *routerSource) servesL2TP() bool {
	return len(s.r.Destinations) > 0 || len(s.r.TunnelProfiles) == 0
}

// terminatingRouters are those of the router's IP profiles.
func (s *routerSource) terminatingRouters() []string {
	var names []string
	for i := range s.r.IPProfiles {
		if !slices.Contains(names, s.r.IPProfiles[i].Router) {
			names = append(names, s.r.IPProfiles[i].Router)
		}
	}
	return names
}

// mapped are the routers in which users of a domain may terminate.
func (s *routerSource) mapped(m *DomainMap) []string {
	if m.Router != "" {
		return []string{m.Router}
	}
	return s.terminatingRouters()
}

// moves says whether a domain map lets subscribers terminate where their profile does not.
func (s *routerSource) moves() bool { return s.maps.pools || len(s.maps.routers) > 0 }

// mapSummary is what domain maps together make possible. There may be thousands of them, and
// each user asks.
type mapSummary struct {
	routers []string // in which they let users terminate
	pools   bool     // one names a pool
	idle    bool     // one has an idle timeout
	handOn  bool     // one hands sessions on to other LNSs, which give the addresses
}

func (m *mapSummary) add(d *DomainMap) {
	if d.Router != "" && !slices.Contains(m.routers, d.Router) {
		m.routers = append(m.routers, d.Router)
	}
	m.pools = m.pools || d.Pool != ""
	m.handOn = m.handOn || len(d.TunnelServers) > 0
	m.idle = m.idle || d.IdleTimeout != 0
}

// poolIn checks that each of the routers, in which somebody may terminate, has the pool.
func (b *builder) poolIn(pool text, routers []string) {
	for _, name := range routers {
		t := b.find(name)
		if pool.v == "" || t == nil || t.Pool(pool.v) != nil || !b.fileOf(t).sound("pools") {
			continue
		}
		b.errorf(pool.pos, "\"pool\" is %s but the virtual router %q has no such pool%s", quoteShort(pool.v), t.Name, suggest(pool.v, poolNames(t)))
		return
	}
}

// policiesIn checks the same of traffic policies.
func (b *builder) policiesIn(x *fileTraffic, routers []string) {
	for _, p := range []struct {
		key  string
		name text
	}{{"policy-in", x.PolicyIn}, {"policy-out", x.PolicyOut}} {
		for _, name := range routers {
			t := b.find(name)
			if p.name.v == "" || t == nil || t.TrafficPolicy(p.name.v) != nil || !b.fileOf(t).sound("traffic-policies") {
				continue
			}
			names := make([]string, len(t.TrafficPolicies))
			for i := range t.TrafficPolicies {
				names[i] = t.TrafficPolicies[i].Name
			}
			b.errorf(p.name.pos, "%q is %s but the virtual router %q has no such traffic policy%s", p.key, quoteShort(p.name.v), t.Name, suggest(p.name.v, names))
			break
		}
	}
}

// userGrants checks what a user gets beyond address and router.
func (b *builder) userGrants(s *routerSource, u *fileUser) {
	if u.Pool.given() && u.Address.given() {
		b.errorf(u.Pool.pos, "\"pool\" and \"address\" exclude each other")
	}
	if u.Router.v != "" || !s.moves() {
		b.poolIn(u.Pool, s.terminatingOf(u))
		b.policiesIn(&u.Traffic, s.terminatingOf(u))
	}
	if u.IdleTimeout.v == 0 && !s.r.idleFromElsewhere() && !s.maps.idle {
		b.idleIngress(u.IdleIngress)
	}
}

// userRoutes builds the networks behind a user.
func (b *builder) userRoutes(routes []fileRoute) []UserRoute {
	var out []UserRoute
	for i := range routes {
		x := &routes[i]
		p := x.Network.v
		switch j := slices.IndexFunc(out, func(o UserRoute) bool { return o.Prefix.Overlaps(p) }); {
		case !p.IsValid():
			continue
		case p.Bits() == 0:
			b.errorf(x.Network.pos, "everything cannot be behind a user")
			continue
		case j >= 0:
			b.errorf(x.Network.pos, "%v and %v overlap", p, out[j].Prefix)
			continue
		}
		out = append(out, UserRoute{p, uint32(x.Metric.v)})
	}
	slices.SortFunc(out, func(a, b UserRoute) int { return comparePrefix(a.Prefix, b.Prefix) })
	return out
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
