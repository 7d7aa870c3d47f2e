package controlplane

import (
	"cmp"
	"context"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/coa"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// RADIUS implements [api.Source]. Virtual routers that have nothing to do with RADIUS are left out.
func (p *Process) RADIUS(context.Context) ([]api.RADIUS, error) {
	live := p.shared.authority().live.Load()
	if live == nil {
		return nil, nil // not running yet
	}
	var out []api.RADIUS
	for _, r := range p.routers() {
		client, server := live.clients[r.name], live.servers[r.name]
		if client == nil && server == nil {
			continue
		}
		v := api.RADIUS{VR: r.name, Servers: []api.RADIUSServer{}, Requests: []api.RADIUSRequests{}, Findings: []api.RADIUSFinding{}}
		if client != nil {
			v.Servers, v.Requests = serverViews(client.Servers()), requestViews(client.Pressure())
			for _, f := range client.method.Found.Counts() {
				v.Findings = append(v.Findings, findingView(f))
			}
		}
		v.DynamicAuthorization = dynamicView(server.taken())
		out = append(out, v)
	}
	return out, nil
}

func serverViews(list []radius.ServerStatus) []api.RADIUSServer {
	out := make([]api.RADIUSServer, 0, len(list))
	for _, s := range list {
		v := api.RADIUSServer{
			Name: s.Name, Role: s.Role.String(), Address: s.Address, State: s.State.String(), Since: s.Since, LastAnswer: s.LastAnswer,
			RTTSeconds: s.RTT.Seconds(), InFlight: s.InFlight, Waiting: s.Waiting, Sockets: s.Sockets, SocketError: s.OpenError, Outcomes: map[string]uint64{},
		}
		for _, o := range radius.Outcomes() {
			v.Outcomes[o.String()] = s.Counts[o]
		}
		out = append(out, v)
	}
	return out
}

func requestViews(pressure [2]radius.Pressure) []api.RADIUSRequests {
	out := make([]api.RADIUSRequests, 0, len(pressure))
	for role, x := range pressure {
		out = append(out, api.RADIUSRequests{Role: radius.Role(role).String(), Limit: x.Limit, InFlight: x.InFlight, Queued: x.Queued, Refused: x.Refused})
	}
	return out
}

func findingView(f radius.FindingCount) api.RADIUSFinding {
	v := api.RADIUSFinding{Attribute: f.Attribute.String(), Problem: string(f.Problem), Count: f.Count}
	if f.Attribute == (radius.Attribute{}) {
		v.Attribute = "others"
	}
	return v
}

func dynamicView(s *coa.Server) api.DynamicAuthorization {
	v := api.DynamicAuthorization{Enabled: s != nil, Clients: []api.DynamicClient{}}
	if s == nil {
		return v
	}
	clients, unknown := s.Stats()
	v.UnknownSources = unknown
	for _, c := range clients {
		x := api.DynamicClient{Address: c.Address, Outcomes: map[string]uint64{}}
		for _, o := range coa.Outcomes() {
			x.Outcomes[o.String()] = c.Counts[o]
		}
		v.Clients = append(v.Clients, x)
	}
	return v
}

// Accounting implements [api.Source].
func (p *Process) Accounting(context.Context) (api.Accounting, error) {
	v := api.Accounting{Queues: []api.AccountingQueue{}}
	live := p.shared.authority().live.Load()
	if live == nil {
		return v, nil
	}
	s := live.journal.Stats()
	v.Queued, v.Unsaved, v.OpenSessions, v.Oldest = s.Queued, s.Unsaved, s.Open, s.Oldest
	v.Delivered, v.Retried, v.DroppedInterims = s.Delivered, s.Retried, s.DroppedInterims
	v.Recovered, v.Lost, v.Unknown = s.Recovered, s.Lost, s.Unknown
	if s.DiskError != nil {
		v.DiskError = s.DiskError.Error()
	}
	for _, q := range s.Queues {
		state := "up"
		switch {
		case q.Silent:
			state = "silent"
		case q.Failing:
			state = "failing"
		}
		v.Queues = append(v.Queues, api.AccountingQueue{
			VR: q.Router, Group: q.Group, Queued: q.Queued, InFlight: q.InFlight, Oldest: q.Oldest, State: state, NextAttempt: q.NextAttempt,
			Delivered: q.Delivered, Retried: q.Retried, DroppedInterims: q.DroppedInterims,
		})
	}
	slices.SortFunc(v.Queues, func(a, b api.AccountingQueue) int {
		return cmp.Or(cmp.Compare(a.VR, b.VR), cmp.Compare(a.Group, b.Group))
	})
	return v, nil
}

// limitReasons are those with which limits refuse.
var limitReasons = [...]aaa.Reason{aaa.ReasonUserLimit, aaa.ReasonDomainLimit, aaa.ReasonRouterLimit, aaa.ReasonSourceLimit}

// AAA implements [api.Source].
func (p *Process) AAA(ctx context.Context) (api.AAA, error) {
	a := p.shared.authority()
	out := api.AAA{UnknownPolicies: a.ignored.Load(), Admission: p.admissionView(), Routers: make([]api.AAARouter, 0, len(p.routers()))}
	index := map[string]int{}
	for _, r := range p.routers() {
		index[r.name] = len(out.Routers)
		v := api.AAARouter{
			VR: r.name, Methods: methodWords(r.cfg().AAA.Methods), AuthenticationGroup: r.cfg().AAA.AuthenticationGroup, AccountingGroup: r.cfg().AAA.AccountingGroup,
			AccountingRequired: r.cfg().AAA.Accounting.Required, Results: map[string]uint64{}, Answers: []api.AAAAnswers{}, Limits: p.shared.leases.limitsOf(r.cfg()),
		}
		if !r.do(ctx, func(time.Time) {
			counts := r.machine.subs.Counters()
			for _, reason := range limitReasons {
				v.Limits.Refused[string(reason)] = counts[subscriber.Reason(reason)]
			}
		}) && ctx.Err() != nil {
			return api.AAA{}, ctx.Err()
		}
		out.Routers = append(out.Routers, v)
	}
	for o, n := range a.service.Outcomes() {
		i, known := index[o.Router]
		switch {
		case !known:
		case o.Method == "":
			out.Routers[i].Results[string(o.Result)] = n
		default:
			answers(&out.Routers[i], string(o.Method))[string(o.Result)] = n
		}
	}
	return out, nil
}

// answers returns the counts of one method, which are made if there are none.
func answers(r *api.AAARouter, method string) map[string]uint64 {
	at, found := slices.BinarySearchFunc(r.Answers, method, func(x api.AAAAnswers, m string) int { return strings.Compare(x.Method, m) })
	if !found {
		r.Answers = slices.Insert(r.Answers, at, api.AAAAnswers{Method: method, Results: map[string]uint64{}})
	}
	return r.Answers[at].Results
}

func methodWords(list []config.AAAMethod) []string {
	out := make([]string, 0, len(list))
	for _, m := range list {
		out = append(out, m.String())
	}
	return out
}

func (p *Process) admissionView() api.Admission {
	limits := p.cfg().Process.Admission
	var v api.Admission
	if p.shared.authority().live.Load() != nil { // which is there after the queue
		s := p.shared.admission.counts()
		limits = s.Limits
		v.Running, v.Waiting, v.Admitted, v.Refused = s.Running, s.Waiting, s.Admitted, s.Refused
	}
	v.Concurrent, v.MaxWaiting, v.PerSource = limits.Concurrent, limits.Waiting, limits.PerSource
	return v
}

// limitsOf shows the limits of the sessions that arrive in a virtual router.
func (l *leases) limitsOf(r *config.Router) api.Limits {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := r.Limits
	replaces := []string{}
	for _, limit := range c.Replaces {
		replaces = append(replaces, limit.String())
	}
	return api.Limits{
		Sessions: l.limits.howMany(limited{router: r.Name, kind: limitRouter}), PerRouter: c.PerRouter, PerUser: c.PerUser, PerDomain: c.PerDomain, PerSource: c.PerSource,
		WhenReached: c.WhenReached.String(), Replaces: replaces, Refused: map[string]uint64{},
	}
}

// howMany sessions there are of what they are counted by.
func (l *limits) howMany(of limited) int {
	if c := l.counts[of]; c != nil {
		return c.n
	}
	return 0
}

// DomainMaps implements [api.Source].
func (p *Process) DomainMaps(context.Context) ([]api.DomainMap, error) {
	var out []api.DomainMap
	l := p.shared.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range p.routers() {
		for i := range r.cfg().AAA.DomainMaps {
			m := &r.cfg().AAA.DomainMaps[i]
			v := api.DomainMap{
				VR: r.name, Domain: m.Domain, Deny: m.Deny, AAAVR: m.AuthenticationRouter, Methods: methodWords(m.Methods), AuthenticationGroup: m.AuthenticationGroup,
				AccountingGroup: m.AccountingGroup, StripDomain: m.StripDomain, OverrideUser: m.OverrideUser, TerminatingVR: m.Router, IPProfile: m.IPProfile,
				Gateway: m.Gateway, Pool: m.Pool, DNS: nonNil(m.DNS), NBNS: nonNil(m.NBNS), MTU: m.MTU, MaxSessions: m.MaxSessions,
				SessionTimeoutSeconds: wholeSeconds(m.SessionTimeout), IdleTimeoutSeconds: wholeSeconds(m.IdleTimeout), IdleIngress: m.IdleIngress,
				Traffic: trafficView(buildTraffic(m.Traffic)), Sessions: l.limits.howMany(limited{router: r.name, kind: limitEntry, name: m.Domain}),
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// nonNil is a list that JSON has as one also where it is empty.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func wholeSeconds(d time.Duration) int64 { return int64(d / time.Second) }

func trafficView(t aaa.Traffic) api.Traffic {
	return api.Traffic{InRate: t.In, OutRate: t.Out, InBurst: t.InBurst, OutBurst: t.OutBurst, InPolicy: t.InPolicy, OutPolicy: t.OutPolicy}
}

// TrafficPolicies implements [api.Source].
func (p *Process) TrafficPolicies(context.Context) ([]api.TrafficPolicy, error) {
	var out []api.TrafficPolicy
	for _, r := range p.routers() {
		for i := range r.cfg().TrafficPolicies {
			x := &r.cfg().TrafficPolicies[i]
			v := api.TrafficPolicy{VR: r.name, Name: x.Name, Rate: x.Rate, Burst: x.Burst, Rules: make([]api.TrafficRule, 0, len(x.Rules))}
			for _, rule := range x.Rules {
				action := config.Drop
				if rule.Permit {
					action = config.Permit
				}
				v.Rules = append(v.Rules, api.TrafficRule{
					Action: action.String(), Network: rule.Network, Protocol: rule.Protocol, FirstPort: rule.FirstPort, LastPort: rule.LastPort,
				})
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// TerminateCodes implements [api.Source].
func (p *Process) TerminateCodes(context.Context) ([]api.TerminateCode, error) {
	var out []api.TerminateCode
	for _, r := range p.routers() {
		codes := p.shared.authority().codes[r.name]
		if codes == nil {
			continue // it ends
		}
		for _, c := range codes.List() {
			v := api.TerminateCode{VR: r.name, Application: c.Application, Reason: string(c.Reason), Description: c.Description, Code: c.Code, Configured: c.Changed}
			if int(c.Code) < len(causeNames) {
				v.Cause = causeNames[c.Code]
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// causeNames are the values of Acct-Terminate-Cause (RFC 2866 section 5.10, RFC 3580 section 2.3).
var causeNames = [...]string{
	1: "User Request", 2: "Lost Carrier", 3: "Lost Service", 4: "Idle Timeout", 5: "Session Timeout", 6: "Admin Reset", 7: "Admin Reboot",
	8: "Port Error", 9: "NAS Error", 10: "NAS Request", 11: "NAS Reboot", 12: "Port Unneeded", 13: "Port Preempted", 14: "Port Suspended",
	15: "Service Unavailable", 16: "Callback", 17: "User Error", 18: "Host Request",
	19: "Supplicant Restart", 20: "Reauthentication Failure", 21: "Port Reinitialized", 22: "Port Administratively Disabled",
}

// poolViews completes what is in use of a virtual router's pools with what they are.
func poolViews(r *config.Router, usage []api.Pool) []api.Pool {
	for i := range usage {
		if c := r.Pool(usage[i].Name); c != nil {
			usage[i].WarnAt, usage[i].WarnUntil = c.WarnAt, c.WarnUntil
			usage[i].Ranges, usage[i].Exclude = rangeWords(c.Ranges), rangeWords(c.Exclude)
		}
	}
	return usage
}

func rangeWords(list []config.AddrRange) []string {
	out := make([]string, 0, len(list))
	for _, x := range list {
		out = append(out, x.String())
	}
	return out
}

// authorityView adds to a subscriber's view what AAA has said of it.
func (p *Process) authorityView(v *api.Subscriber, s *subscriber.Record) {
	v.DomainMap, v.Method, v.AAAVR, v.Server = s.By.Domain, s.By.Method, s.By.Router, s.By.Server
	v.AccountingGroup, v.Accounted, v.InterimSeconds = s.By.Accounting, s.Accounted, wholeSeconds(s.Interim)
	v.Pool, v.Netmask, v.Traffic = s.Pool, s.Netmask, trafficView(s.Traffic)
	v.Routes, v.Class = make([]api.SubscriberRoute, 0, len(s.Routes)), make([]string, 0, len(s.Class))
	for _, r := range s.Routes {
		v.Routes = append(v.Routes, api.SubscriberRoute{Prefix: r.Prefix, Metric: r.Metric, Tag: r.Tag})
	}
	for _, c := range s.Class {
		v.Class = append(v.Class, classText(c))
	}
	if r := p.cfg().Router(s.Router); r != nil && s.User != "" {
		v.Domain = buildNames(r).Parse(s.User).Key()
	}
	if s.Address.IsValid() {
		v.AddressSource = p.addressSource(s.Terminating, s.Address, s.By)
	}
}

// addressSource says who has said which address a subscriber has.
func (p *Process) addressSource(terminating string, a netip.Addr, by aaa.Authority) string {
	switch {
	case p.shared.leases.source(terminating, a) == aaa.FromPool:
		return "pool"
	case aaa.MethodName(by.Method) == aaa.MethodRADIUS:
		return "radius"
	}
	return "local"
}

// classText is a Class as text if it is printable ASCII, and else in hexadecimal.
func classText(c []byte) string {
	if strings.IndexFunc(string(c), func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
		return string(c)
	}
	return "0x" + hex.EncodeToString(c)
}

// timeoutsView adds what is left of a session's timeouts. lastTraffic is when there was any, the
// zero time where nobody looks.
func timeoutsView(v *api.Subscriber, s *subscriber.Record, lastTraffic, now time.Time) {
	v.SessionTimeoutSeconds, v.IdleTimeoutSeconds, v.IdleIngress = wholeSeconds(s.SessionTimeout), wholeSeconds(s.IdleTimeout), s.IdleIngress
	if s.SessionTimeout > 0 && !s.Up.IsZero() {
		v.SessionRemainingSeconds = remaining(now, s.Up.Add(s.SessionTimeout))
	}
	if s.IdleTimeout > 0 && !lastTraffic.IsZero() {
		v.IdleRemainingSeconds = remaining(now, lastTraffic.Add(s.IdleTimeout))
	}
}
