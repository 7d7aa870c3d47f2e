package aaa

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Topics of steps on which others depend: the name of the domain map's entry, and that there is
// no way in.
const (
	TopicEntry   = "domain map entry"
	TopicRefused = "refused"
)

// Step is one line of an explanation.
type Step struct {
	Topic  string `json:"topic"`
	Value  string `json:"value"`
	Reason string `json:"reason,omitempty"`
}

// String returns "topic: value (reason)".
func (s Step) String() string {
	out := s.Topic + ": " + cmp.Or(s.Value, "none")
	if s.Reason != "" {
		out += " (" + s.Reason + ")"
	}
	return out
}

// Explain says what would be done about a request and why, along the path that deciding it takes,
// but without asking a server or checking a proof. Of the request it uses Router, Access, User (of a
// dynamic subscriber with its tunnel profile's suffix), Protocol (empty: PAP) and IPProfile (empty: what
// follows from the profile is left open).
func (s *Service) Explain(r Request) []Step {
	r.Protocol = cmp.Or(r.Protocol, PAP)
	p := s.plan(r)
	var out []Step
	add := func(topic, value, reason string) { out = append(out, Step{topic, value, reason}) }
	if s.policies[r.Router] == nil {
		add(TopicRefused, string(ReasonNoRouter), fmt.Sprintf("there is no virtual router %q", r.Router))
		return out
	}
	add("arrives in", r.Router, string(r.Access))
	add("user", quoted(p.name.User), fmt.Sprintf("of %q", r.User))
	add("realm", quoted(p.name.Realm), cutBy(p.name.RealmDelimiter))
	add("domain", quoted(p.name.Domain), cutBy(p.name.DomainDelimiter))
	if p.entry == nil {
		add(TopicEntry, "", p.why)
	} else {
		add(TopicEntry, p.entry.Name, p.why)
	}
	if p.refusal.Reason != "" {
		add(TopicRefused, string(p.refusal.Reason), p.refusal.Text)
		return out
	}
	if p.asked == p.arrival {
		add("AAA of", p.asked, "in which the subscriber arrives")
	} else {
		add("AAA of", p.asked, fromDomain)
	}
	answer := source{name: "whoever decides"}
	for i, st := range p.steps {
		out = append(out, s.explainMethod(p, i, st, r))
		if users := s.locals[p.asked]; st.method == MethodLocal && i == 0 && r.Protocol != EAP && users != nil && users.Knows(r.User) {
			answer = source{name: fromUser, Grants: users.users[r.User].accept(r.User, "").Grants}
		}
	}
	out = append(out, p.explainName(r)...)
	if r.Access == AccessStatic {
		return out // which gets nothing and is not accounted
	}
	add("accounting group", p.accounting, groupSource(p, p.entry != nil && (p.entry.NoAccounting || p.entry.Accounting != "")))
	return append(out, s.explainGrants(p, r, answer)...)
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%q", s)
}

func cutBy(delimiter string) string {
	if delimiter == "" {
		return "no delimiter"
	}
	return fmt.Sprintf("delimiter %q", delimiter)
}

func groupSource(p *plan, byEntry bool) string {
	if byEntry {
		return fromDomain
	}
	return "virtual router " + p.asked
}

func (s *Service) explainMethod(p *plan, i int, st step, r Request) Step {
	out := Step{Topic: fmt.Sprintf("method %d", i+1), Value: string(st.method)}
	switch st.method {
	case MethodLocal:
		users := s.locals[p.asked]
		switch {
		case r.Protocol == EAP:
			out.Reason = "passed over: local users cannot be checked by EAP"
		case users != nil && users.Knows(r.User):
			out.Reason = fmt.Sprintf("decides: %q is a local user", r.User)
		case i < len(p.steps)-1:
			out.Reason = fmt.Sprintf("lets the next be asked: %q is no local user", r.User)
		case r.Protocol == Proven:
			out.Reason = "accepts whom phase 1 has proven"
		default:
			out.Reason = fmt.Sprintf("refuses: %q is no local user", r.User)
		}
	case MethodRADIUS:
		switch {
		case st.group == "":
			out.Reason = "no group: lets the next be asked"
		case s.backends(p.asked) == nil:
			out.Reason = "no servers: lets the next be asked"
		default:
			out.Value = st.String()
			if servers := p.policy.Groups[st.group]; len(servers) > 0 {
				out.Value += ", servers " + strings.Join(servers, ", ")
			}
			out.Reason = "decides unless all are silent; group of the " + groupSource(p, p.entry != nil && p.entry.Authentication != "")
		}
	}
	return out
}

// explainName says what name servers are sent, if any are asked.
func (p *plan) explainName(r Request) []Step {
	for _, st := range p.steps {
		if st.method != MethodRADIUS || st.group == "" {
			continue
		}
		sent, err := p.sent(r)
		out := Step{Topic: "name sent", Value: quoted(sent.User)}
		switch {
		case err != nil:
			return []Step{{TopicRefused, string(ReasonProtocol), err.Error()}}
		case p.entry != nil && p.entry.Override != nil && len(p.entry.Override.Password) > 0:
			out.Reason = "overridden with its password by the domain map; what the peer proves is not looked at"
		case p.entry != nil && p.entry.Override != nil:
			out.Reason = "overridden by the domain map, with the peer's own proof"
		case sent.User != r.User:
			out.Reason = "domain stripped; it stays where the proof covers it, with EAP and MS-CHAPv2"
		case p.entry != nil && p.entry.Strip:
			out.Reason = "not stripped: the proof covers it, or there is nothing to strip"
		default:
			out.Reason = "as received"
		}
		return []Step{out}
	}
	return nil
}

// explainGrants says what the subscriber gets unless whoever decides says otherwise.
func (s *Service) explainGrants(p *plan, r Request, answer source) []Step {
	var out []Step
	add := func(topic, value, reason string) {
		if value != "" {
			out = append(out, Step{topic, value, reason})
		}
	}
	g := s.settle(p, answer)
	open := r.IPProfile == "" && g.terminatingBy == fromArrival
	switch {
	case len(g.tunnels) > 0:
		for _, t := range g.tunnels {
			add("handed on to", t.describe(), g.tunnelsBy)
		}
	case open:
		add("terminating router", "as the IP profile says", "neither the user nor the domain map names one")
	default:
		add("terminating router", g.Terminating, g.terminatingBy)
	}
	for _, st := range p.steps {
		if st.method == MethodRADIUS && st.group != "" && answer.name != fromUser && len(g.tunnels) == 0 {
			add("Virtual-Router of servers", mayMove(p.asked == s.defaultRouter), "R6: only servers of the default router may move a user")
		}
	}
	if g.refusal.Reason != "" && !open {
		add(TopicRefused, string(g.refusal.Reason), g.refusal.Text)
	}
	if g.Address.IsValid() {
		add("address", g.Address.String(), answer.name)
	} else if !open || g.poolBy == fromUser || g.poolBy == fromDomain {
		add("pool", g.Pool, g.poolBy)
	}
	if g.Gateway.IsValid() && (!open || g.gatewayBy == fromUser || g.gatewayBy == fromDomain) {
		add("gateway", g.Gateway.String(), g.gatewayBy)
	}
	add("session timeout", duration(g.SessionTimeout), "")
	add("idle timeout", duration(g.IdleTimeout), idleLooks(g.IdleIngress))
	add("interim accounting", duration(g.Interim), "")
	add("traffic", g.Traffic.describe(), "")
	if p.entry != nil && p.entry.MaxSessions > 0 {
		whose := "sessions of the entry"
		if p.own {
			whose = "sessions of the domain"
		}
		add(whose, fmt.Sprint("at most ", p.entry.MaxSessions), fromDomain)
	}
	return out
}

func mayMove(yes bool) string {
	if yes {
		return "honoured"
	}
	return "ignored"
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func idleLooks(ingress bool) string {
	if ingress {
		return "traffic from the subscriber only"
	}
	return "traffic in both directions"
}
