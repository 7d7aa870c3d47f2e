package config

import (
	"cmp"
	"slices"
	"strings"
)

// maxUserPassword is the longest password of an Access-Request in bytes (RFC 2865 section 5.2).
const maxUserPassword = 128

func (b *builder) aaa(f *fileRouter, r *Router) {
	x := &f.AAA
	r.AAA = AAA{
		Accounting: Accounting{Required: x.Accounting.Required.v, Interim: x.Accounting.Interim.v, InterimMinimum: x.Accounting.InterimMinimum.v},
		Names: Names{
			DomainDelimiters: x.Names.DomainDelimiters.v, RealmDelimiters: x.Names.RealmDelimiters.v, Order: x.Names.Order.v,
			DomainDirection: x.Names.DomainDirection.v, RealmDirection: x.Names.RealmDirection.v,
		},
		SessionTimeout: x.SessionTimeout.v,
		IdleTimeout:    x.IdleTimeout.v,
		IdleIngress:    x.IdleIngress.v,
		UnknownPolicy:  x.UnknownPolicy.v,
	}
	if i := x.Accounting.Interim; i.given() && i.v != 0 && i.v < x.Accounting.InterimMinimum.v {
		b.errorf(i.pos, "\"interim-interval\" must not be below \"interim-minimum\", which is %v", x.Accounting.InterimMinimum.v)
	}
	b.names(&x.Names)
	b.askedByDefault(f, r)
	if !r.idleFromElsewhere() {
		b.idleIngress(x.IdleIngress)
	}
	b.terminateCodes(x, r)
	b.domainMaps(f, r)
	b.limits(&f.Limits, r)
}

// limits fills in the limits on sessions, once the domain maps are there.
func (b *builder) limits(x *fileLimits, r *Router) {
	r.Limits = Limits{
		PerUser: int(x.PerUser.v), PerDomain: int(x.PerDomain.v), PerSource: int(x.PerSource.v), PerRouter: int(x.PerRouter.v),
		WhenReached: x.WhenReached.v,
	}
	replaces := wordList(b, x.Replaces, "replaces")
	if r.Limits.WhenReached != ReplaceOldest {
		if len(replaces) > 0 && x.sound("when-reached") {
			b.warnf(x.Replaces[0].pos, "\"replaces\" has no effect without \"when-reached: replace-oldest\"")
		}
		return
	}
	if r.Limits.Replaces = replaces; len(x.Replaces) == 0 {
		r.Limits.Replaces = []SessionLimit{LimitUser}
	}
	inMaps := slices.ContainsFunc(r.AAA.DomainMaps, func(m DomainMap) bool { return m.MaxSessions > 0 })
	for _, l := range []struct {
		limit SessionLimit
		key   string
		has   bool
	}{
		{LimitUser, "per-user", x.PerUser.v > 0},
		{LimitDomain, "per-domain", x.PerDomain.v > 0 || inMaps},
		{LimitSource, "per-source", x.PerSource.v > 0},
		{LimitRouter, "per-router", x.PerRouter.v > 0},
	} {
		if l.has || !x.sound(l.key) || !slices.Contains(r.Limits.Replaces, l.limit) {
			continue
		}
		if i := slices.IndexFunc(x.Replaces, func(w word[SessionLimit]) bool { return w.v == l.limit }); i >= 0 {
			b.warnf(x.Replaces[i].pos, "%v has no effect in \"replaces\" without %q", l.limit, l.key)
		} else {
			b.warnf(x.WhenReached.pos, "replace-oldest has no effect without %q", l.key)
		}
	}
}

// names checks that each delimiter means one thing.
func (b *builder) names(n *fileNames) {
	if i := strings.IndexAny(n.RealmDelimiters.v, n.DomainDelimiters.v); i >= 0 {
		b.errorf(n.RealmDelimiters.pos, "%q is in \"realm-delimiters\" and in \"domain-delimiters\", so it would be unclear what it means", n.RealmDelimiters.v[i])
	}
}

// idleIngress complains about an idle timeout that looks at something but is none (R3).
func (b *builder) idleIngress(x boolean) {
	if x.v {
		b.errorf(x.pos, "\"idle-ingress-only\" needs \"idle-timeout\"")
	}
}

// idleFromElsewhere says whether subscribers of the router may have an idle timeout that
// their own entry does not mention.
func (r *Router) idleFromElsewhere() bool {
	return r.AAA.IdleTimeout != 0 || slices.Contains(r.AAA.Methods, MethodRADIUS) || r.idleByProfile()
}

// idleByProfile says whether an IP profile of the router has an idle timeout.
func (r *Router) idleByProfile() bool {
	return slices.ContainsFunc(r.IPProfiles, func(p IPProfile) bool { return p.IdleTimeout != 0 })
}

// onlyGroup is the router's only group of servers.
func (r *Router) onlyGroup() string {
	if len(r.RADIUS.Groups) != 1 {
		return ""
	}
	return r.RADIUS.Groups[0].Name
}

// askedByDefault fills in who is asked about users without domain map, and who gets their
// records.
func (b *builder) askedByDefault(f *fileRouter, r *Router) {
	x := &f.AAA
	auth := cmp.Or(b.groupOf(x.AuthenticationGroup, "authentication-group", f, r, "authentication-port", authPort), r.onlyGroup())
	r.AAA.Methods = wordList(b, x.Methods, "methods")
	if len(r.AAA.Methods) == 0 {
		r.AAA.Methods = defaultMethods(f, auth)
	}
	b.methodsFit(r.AAA.Methods, x.Methods, x.AuthenticationGroup, auth, r, f)
	if slices.Contains(r.AAA.Methods, MethodRADIUS) {
		r.AAA.AuthenticationGroup = auth
	}
	b.accounting(f, r, auth)
}

// defaultMethods are the methods where none are given.
func defaultMethods(f *fileRouter, group string) []AAAMethod {
	var out []AAAMethod
	if len(f.Users) > 0 || group == "" {
		out = append(out, MethodLocal)
	}
	if group != "" {
		out = append(out, MethodRADIUS)
	}
	return out
}

// methodsFit checks that methods and group fit together. r is the router that is asked and f its
// file.
func (b *builder) methodsFit(methods []AAAMethod, given []word[AAAMethod], group text, resolved string, r *Router, f *fileRouter) {
	radius := slices.Contains(methods, MethodRADIUS)
	switch {
	case !f.sound("radius"):
	case radius && resolved == "" && !group.given() && len(given) > 0:
		b.errorf(given[slices.Index(methods, MethodRADIUS)].pos, "radius needs \"authentication-group\": the virtual router %q has %d groups", r.Name, len(r.RADIUS.Groups))
	case !radius && group.given():
		b.warnf(group.pos, "the group is never asked: \"radius\" is not among the methods")
	}
}

func (b *builder) accounting(f *fileRouter, r *Router, auth string) {
	x := &f.AAA
	acct := b.groupOf(x.AccountingGroup, "accounting-group", f, r, "accounting-port", acctPort)
	if acct == "" && !x.AccountingGroup.given() && r.serves(auth, acctPort) {
		acct = auth
	}
	switch {
	case !x.Accounting.Enabled.v:
		if x.Accounting.Required.v {
			b.errorf(x.Accounting.Required.pos, "accounting is \"required\" but not \"enabled\"")
		}
		if x.AccountingGroup.given() {
			b.warnf(x.AccountingGroup.pos, "the group gets no records: accounting is not \"enabled\"")
		}
	case acct == "" && x.Accounting.Required.v && f.sound("radius") && !x.AccountingGroup.given():
		b.errorf(x.Accounting.Required.pos, "accounting is \"required\" but there is no group of servers that takes it")
	default:
		r.AAA.AccountingGroup = acct
	}
}

// groupOf resolves a reference to a group of servers of r that must have a kind of port; f is
// the file of r.
func (b *builder) groupOf(name text, key string, f *fileRouter, r *Router, portKey string, port func(RADIUSServer) uint16) string {
	if name.v == "" || !f.sound("radius") {
		return ""
	}
	switch {
	case r.RADIUS.Group(name.v) == nil:
		b.errorf(name.pos, "%q is %s but the virtual router %q has no such group%s", key, quoteShort(name.v), r.Name, suggest(name.v, groupNamesOf(r)))
		return ""
	case !r.serves(name.v, port):
		b.errorf(name.pos, "%q is %s but no server of the group has an %q", key, quoteShort(name.v), portKey)
		return ""
	}
	return name.v
}

func (b *builder) terminateCodes(x *fileAAA, r *Router) {
	seen := map[string]Pos{}
	for i := range x.TerminateCodes {
		c := &x.TerminateCodes[i]
		b.unique(seen, c.Reason, "reason")
		r.AAA.TerminateCodes = append(r.AAA.TerminateCodes, TerminateCode{c.Reason.v, c.Reason.pos, uint32(c.Code.v)})
	}
}

// domainMaps builds what concerns this router alone; the rest comes with links.
func (b *builder) domainMaps(f *fileRouter, r *Router) {
	seen := map[string]Pos{}
	for i := range f.AAA.DomainMaps {
		d := &f.AAA.DomainMaps[i]
		name := text{leaf[string]{d.Domain.v, d.Domain.pos}}
		b.unique(seen, name, "domain map")
		if d.Deny.v {
			b.nothingBut(d)
			r.AAA.DomainMaps = append(r.AAA.DomainMaps, DomainMap{Domain: d.Domain.v, Deny: true})
			continue
		}
		b.reachable(d, &f.AAA.Names)
		m := DomainMap{
			Domain: d.Domain.v, AuthenticationRouter: cmp.Or(d.AuthenticationRouter.v, r.Name), StripDomain: d.StripDomain.v,
			Router: d.Router.v, IPProfile: d.IPProfile.v, Gateway: d.Gateway.v, Pool: d.Pool.v, MaxSessions: int(d.MaxSessions.v),
			SessionTimeout: d.SessionTimeout.v, IdleTimeout: d.IdleTimeout.v, IdleIngress: d.IdleIngress.v, Traffic: b.traffic(&d.Traffic),
		}
		if o := &d.OverrideUser; o.present {
			m.OverrideUser = o.Name.v
			m.OverridePassword = b.secretOf(o.pos, o.Password, o.PasswordFile, "password", false)
			if len(m.OverridePassword) > maxUserPassword {
				b.errorf(o.PasswordFile.pos, "the password in the file must be at most %d bytes long: RADIUS cannot carry more", maxUserPassword)
			}
			if o.Password.given() || o.PasswordFile.given() {
				b.warnf(o.pos, "nobody checks the users of the domain: servers are sent the name and password given here")
			}
		}
		if d.IPProfile.given() && d.Router.given() {
			b.errorf(d.Router.pos, "\"virtual-router\" and \"ip-profile\" exclude each other")
		}
		m.TunnelServers = b.tunnelServers(d, f, r)
		r.AAA.DomainMaps = append(r.AAA.DomainMaps, m)
	}
	slices.SortStableFunc(r.AAA.DomainMaps, func(a, b DomainMap) int { return strings.Compare(a.Domain, b.Domain) })
}

// nothingBut finds keys that have no meaning where users are refused.
func (b *builder) nothingBut(d *fileDomainMap) {
	for _, k := range []struct {
		key   string
		pos   Pos
		given bool
	}{
		{"authentication-router", d.AuthenticationRouter.pos, d.AuthenticationRouter.given()},
		{"methods", d.pos, len(d.Methods) > 0},
		{"authentication-group", d.AuthenticationGroup.pos, d.AuthenticationGroup.given()},
		{"accounting-group", d.AccountingGroup.pos, d.AccountingGroup.given()},
		{"strip-domain", d.StripDomain.pos, d.StripDomain.given()},
		{"override-user", d.OverrideUser.pos, d.OverrideUser.present},
		{"virtual-router", d.Router.pos, d.Router.given()},
		{"ip-profile", d.IPProfile.pos, d.IPProfile.given()},
		{"gateway", d.Gateway.pos, d.Gateway.given()},
		{"pool", d.Pool.pos, d.Pool.given()},
		{"max-sessions", d.MaxSessions.pos, d.MaxSessions.given()},
		{"session-timeout", d.SessionTimeout.pos, d.SessionTimeout.given()},
		{"idle-timeout", d.IdleTimeout.pos, d.IdleTimeout.given()},
		{"idle-ingress-only", d.IdleIngress.pos, d.IdleIngress.given()},
		{"traffic", d.Traffic.pos, d.Traffic.present},
		{"tunnel-servers", d.pos, len(d.TunnelServers) > 0},
	} {
		if k.given {
			b.errorf(k.pos, "\"deny\" and %q exclude each other", k.key)
		}
	}
}

// reachable warns of a domain map that no user name leads to.
func (b *builder) reachable(d *fileDomainMap, n *fileNames) {
	if d.Domain.v == "" || d.Domain.v == DomainDefault || d.Domain.v == DomainNone {
		return
	}
	// The part behind the last delimiter has none in it, nor has that before the first.
	domain := n.DomainDelimiters.v != "" && (n.DomainDirection.v == LeftToRight || !strings.ContainsAny(d.Domain.v, n.DomainDelimiters.v))
	realm := n.RealmDelimiters.v != "" && (n.RealmDirection.v == RightToLeft || !strings.ContainsAny(d.Domain.v, n.RealmDelimiters.v))
	if !domain && !realm {
		b.warnf(d.Domain.pos, "the domain map is never used: by the delimiters no user name has the domain %s", quoteShort(d.Domain.v))
	}
}
