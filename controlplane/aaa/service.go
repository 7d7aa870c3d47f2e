package aaa

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"sync"
)

// Service is the AAA of all virtual routers: it takes names apart, finds the entry of the domain
// map, asks the methods in their order and puts together what the subscriber gets. It is
// safe for concurrent use; its configuration is immutable.
//
// When the next method is asked:
//
//   - A refusal is final. So is an answer that cannot be used: who answered has decided.
//   - Silence is not: where there is no server to ask, or none answers, the next method is asked.
//   - A local user that does not exist lets the next be asked, one with a wrong password does not.
//   - Local users cannot be checked by EAP. Where the peer uses it they are passed over.
//   - Whom phase 1 has proven is in with what its local user's entry says, if there is one.
//     Without an entry the next method is asked; after the last, phase 1 was enough.
//   - Rounds of a dialogue (Access-Challenge, EAP) go to the method, router, group and server that has
//     asked for them, and to nobody else if that one falls silent: another would not know what was
//     said before.
//
// If nobody decides, silence is the reason and not the missing local user, so that an outage does
// not count as a wrong guess.
type Service struct {
	policies      map[string]*RouterPolicy
	backends      func(router string) Backend
	locals        map[string]*Local
	defaultRouter string
	*tally
}

// tally is what was counted; services that follow one another share it.
type tally struct {
	mu       sync.Mutex
	outcomes map[Outcome]uint64
}

// Outcome is what metrics count.
type Outcome struct {
	Router string // whose AAA was asked
	// Method is who was asked; empty counts what came of it all.
	Method MethodName
	Result Reason // of a refusal or of silence, [Accepted] or [Challenged]
}

// Results of an Outcome that are no refusal.
const (
	Accepted   Reason = "accepted"
	Challenged Reason = "challenged"
)

// NewService makes the service. Policies and local users are by virtual router; a router
// without local users has none. Backends returns the servers of a router, nil if it has none.
// Only servers of defaultRouter may have subscribers end in another router by Virtual-Router
// (R6); empty: none may.
func NewService(policies map[string]RouterPolicy, backends func(router string) Backend, locals map[string]*Local, defaultRouter string) *Service {
	s := &Service{
		policies: make(map[string]*RouterPolicy, len(policies)), backends: backends, locals: maps.Clone(locals), defaultRouter: defaultRouter,
		tally: &tally{outcomes: map[Outcome]uint64{}},
	}
	for name, p := range policies {
		s.policies[name] = &p
	}
	return s
}

// Succeed makes a service, which has not decided anything yet, count on where old has come to. Both may go on deciding.
func (s *Service) Succeed(old *Service) { s.tally = old.tally }

// For returns the method that decides about subscribers who arrive in a router.
func (s *Service) For(router string) Method { return arrival{s, router} }

type arrival struct {
	service *Service
	router  string
}

func (a arrival) Decide(ctx context.Context, r Request) Decision {
	r.Router = a.router
	return a.service.decide(ctx, r)
}

// Outcomes returns the counts since the start.
func (s *Service) Outcomes() map[Outcome]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.outcomes)
}

func (s *Service) count(router string, m MethodName, d Decision) {
	o := Outcome{Router: router, Method: m, Result: d.Reason}
	switch {
	case d.Accept:
		o.Result = Accepted
	case d.further():
		o.Result = Challenged
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcomes[o]++
}

// further says whether a decision is none yet but one more round.
func (d Decision) further() bool { return !d.Accept && (d.Prompt != nil || d.Round != nil) }

// silent says whether nobody has decided.
func (d Decision) silent() bool {
	return !d.Accept && !d.further() && (d.Reason == ReasonTimeout || d.Reason == ReasonNoServer)
}

// plan is what follows from a request before anybody is asked.
type plan struct {
	arrival   string // the router in which the subscriber arrived
	namespace string // that of arrival
	access    Access
	user      string
	name      Name
	entry     *DomainMap // nil: none
	own       bool       // entry is that of the name's domain
	why       string     // this entry, or none
	profile   Place
	asked     string        // the router whose AAA is asked
	policy    *RouterPolicy // of asked
	steps     []step
	// accounting is the group of asked that gets the records.
	accounting string
	refusal    Decision // its Reason is empty if somebody is to be asked
}

// step is one method of the order.
type step struct {
	method MethodName
	group  string // of MethodRADIUS; empty: none
}

// noPolicy stands in for routers that do not exist, which nobody can arrive in.
var noPolicy RouterPolicy

func (s *Service) plan(r Request) *plan {
	own := s.policies[r.Router]
	if own == nil {
		own = &noPolicy
	}
	p := &plan{
		arrival: r.Router, namespace: own.Namespace, access: r.Access, user: r.User,
		name: own.Names.Parse(r.User), profile: own.Profiles[r.IPProfile], asked: r.Router, policy: own,
	}
	p.entry, p.why = own.entry(p.name)
	p.own = p.entry != nil && p.entry == own.Domains[p.name.Key()]
	e := p.entry
	if e == nil {
		e = &DomainMap{}
	}
	if e.Deny {
		p.refusal = Decision{Reason: ReasonDomainDenied, Text: fmt.Sprintf("entry %q of the domain map denies user %q", e.Name, r.User)}
	} else if e.Router != "" {
		p.asked, p.policy = e.Router, s.policies[e.Router]
		if p.policy == nil {
			p.policy = &noPolicy
			p.refusal = Decision{Reason: ReasonDomainDenied, Text: fmt.Sprintf("entry %q of the domain map names virtual router %q, which there is not", e.Name, e.Router)}
		}
	}
	group := cmp.Or(e.Authentication, p.policy.Authentication)
	methods := firstList(firstList(e.Methods, p.policy.Methods), []MethodName{MethodLocal})
	for _, m := range methods {
		st := step{method: m}
		if m == MethodRADIUS {
			st.group = group
		}
		p.steps = append(p.steps, st)
	}
	if !e.NoAccounting {
		p.accounting = cmp.Or(e.Accounting, p.policy.Accounting)
	}
	return p
}

func (p *plan) domainGrants() Grants {
	if p.entry == nil {
		return Grants{}
	}
	return p.entry.Grants
}

// decide runs a request through its plan.
func (s *Service) decide(ctx context.Context, r Request) Decision {
	p := s.plan(r)
	d := p.refusal
	if d.Reason == "" {
		d = s.ask(ctx, p, r)
	}
	by := Authority{Router: p.asked, Method: d.By.Method, Server: d.By.Server, Accounting: p.accounting}
	d.Domain = p.name.Key()
	if p.entry != nil {
		by.Domain, d.DomainSessions, d.OwnEntry = p.entry.Name, p.entry.MaxSessions, p.own
	}
	if d.Accept {
		d.User = cmp.Or(d.User, r.User)
		if r.Access == AccessStatic {
			d.Grants, d.Tunnels = Grants{}, nil
		} else {
			d = s.grant(p, by, d)
		}
	}
	d.By = by
	s.count(p.asked, "", d)
	return d
}

// grant settles what an accepted subscriber gets, or refuses it because that is not to be had.
func (s *Service) grant(p *plan, by Authority, d Decision) Decision {
	from := source{fromServer, d.Tunnels, d.Grants}
	switch MethodName(by.Method) {
	case MethodLocal:
		from.name = fromUser
	case MethodPhase1:
		from.name = fromPhase1
	default:
		if from.Terminating != "" && p.asked != s.defaultRouter {
			d.Text = cmp.Or(d.Text, fmt.Sprintf("Virtual-Router %q ignored: servers of virtual router %s may not move users (R6)", from.Terminating, p.asked))
			from.Terminating = ""
		}
	}
	out := s.settle(p, from)
	if out.refusal.Reason != "" {
		return out.refusal
	}
	d.Grants, d.Tunnels = out.Grants, out.tunnels
	return d
}

// ask asks the methods in their order until one decides. By.Method of what it returns says who.
func (s *Service) ask(ctx context.Context, p *plan, r Request) Decision {
	if len(r.State) > 0 {
		return s.resume(ctx, p, r)
	}
	var none Decision
	for i, st := range p.steps {
		d, decided := s.try(ctx, p, st, i == len(p.steps)-1, r)
		if decided {
			return d
		}
		if none.Reason == "" || !none.silent() && d.silent() {
			d.Text = join(none.Text, d.Text)
			none = d
		} else {
			none.Text = join(none.Text, d.Text)
		}
	}
	return none
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// resume takes a further round of a dialogue to who has asked for it.
func (s *Service) resume(ctx context.Context, p *plan, r Request) Decision {
	d, err := parseDialogue(r.State)
	switch {
	case err != nil:
		return Decision{Reason: ReasonBadAnswer, Text: err.Error()}
	case d.user != r.User:
		// Another name may have another entry, and would get its grants from a server that knows
		// nothing of it.
		return Decision{Reason: ReasonRefused, Text: fmt.Sprintf("user %q has answered as %q", d.user, r.User)}
	}
	for i, st := range p.steps {
		if d.router == p.asked && d.step == st {
			r.State, r.Server = d.state, d.server
			out, _ := s.try(ctx, p, st, i == len(p.steps)-1, r)
			return out
		}
	}
	return Decision{Reason: ReasonBadAnswer, Text: fmt.Sprintf("user %q was asked by %s of virtual router %s, which has no part in it any more", r.User, d.step, d.router)}
}

func (st step) String() string {
	if st.group == "" {
		return string(st.method)
	}
	return string(st.method) + " group " + st.group
}

// try asks one method, the last of the order or not, and says whether it has decided.
func (s *Service) try(ctx context.Context, p *plan, st step, last bool, r Request) (d Decision, decided bool) {
	switch st.method {
	case MethodLocal:
		d, decided = s.tryLocal(ctx, p, last, r)
	case MethodRADIUS:
		d, decided = s.tryServers(ctx, p, st, r)
	default:
		d = Decision{Reason: ReasonNoServer, Text: fmt.Sprintf("there is no method %q", st.method)}
	}
	if d.By.Method == "" {
		d.By.Method = string(st.method)
	}
	s.count(p.asked, st.method, d)
	return d, decided
}

func (s *Service) tryLocal(ctx context.Context, p *plan, last bool, r Request) (d Decision, decided bool) {
	users := s.locals[p.asked]
	if users == nil {
		users = noUsers
	}
	known := users.Knows(r.User)
	switch {
	case r.Protocol == EAP:
		return Decision{Reason: ReasonProtocol, Text: "local users cannot be checked by EAP"}, false
	case r.Protocol == Proven && !known && !last:
		return Decision{Reason: ReasonUnknownUser, Text: fmt.Sprintf("no local user %q", r.User)}, false
	}
	d = users.Decide(ctx, r)
	if r.Protocol == Proven && !known {
		d.By.Method = string(MethodPhase1)
	}
	return d, d.Reason != ReasonUnknownUser
}

var noUsers = NewLocal(nil)

func (s *Service) tryServers(ctx context.Context, p *plan, st step, r Request) (d Decision, decided bool) {
	sent, err := p.sent(r)
	if err != nil {
		return Decision{Reason: ReasonProtocol, Text: err.Error()}, true
	}
	backend := s.backends(p.asked)
	if st.group == "" || backend == nil {
		return Decision{Reason: ReasonNoServer, Text: fmt.Sprintf("virtual router %s has no servers for user %q", p.asked, r.User)}, false
	}
	d = backend.Authenticate(ctx, st.group, sent)
	d.By.Method = string(MethodRADIUS)
	switch {
	case d.silent():
		return d, false
	case d.Accept:
		d.Reason, d.Prompt, d.Round = "", nil, nil
		if p.entry != nil && p.entry.Override != nil {
			d.User = r.User // the other name is the server's business only
		}
	case d.further():
		if d, err = wrap(d, dialogue{router: p.asked, step: st, user: r.User, server: d.By.Server}); err != nil {
			d = Decision{Reason: ReasonBadAnswer, Text: err.Error(), By: d.By}
		}
	default:
		d.Reason = cmp.Or(d.Reason, ReasonRefused)
	}
	return d, true
}
