package controlplane

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
)

// Explain implements [api.Source].
func (p *Process) Explain(_ context.Context, q api.ExplainRequest) ([]api.ExplainStep, error) {
	r, err := p.arrival(q.VR)
	if err != nil {
		return nil, err
	}
	ask, profile, err := explained(r, q)
	if err != nil {
		return nil, err
	}
	var out []api.ExplainStep
	refused := false
	var entry *config.DomainMap
	for i, s := range p.shared.authority().service.Explain(ask) {
		out = append(out, api.ExplainStep{Topic: s.Topic, Value: s.Value, Reason: s.Reason})
		if i == 0 {
			out = append(out, profile, api.ExplainStep{Topic: "proof", Value: string(ask.Protocol)})
		}
		switch s.Topic {
		case aaa.TopicEntry:
			entry = r.AAA.DomainMap(s.Value)
		case aaa.TopicRefused:
			refused = true
		}
	}
	if !refused && ask.Access != aaa.AccessStatic {
		out = append(out, p.shared.leases.explain(r, buildNames(r).Parse(ask.User).Key(), entry)...)
	}
	return out, nil
}

// badQuestion is a request that names what there is not.
func badQuestion(status int, reason api.Reason, format string, args ...any) error {
	return &api.Error{Status: status, Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// arrival returns the virtual router in which somebody arrives: the named one, or else the default
// or the only one.
func (p *Process) arrival(name string) (*config.Router, error) {
	if name != "" {
		if r := p.cfg().Router(name); r != nil {
			return r, nil
		}
		return nil, badQuestion(http.StatusNotFound, api.ReasonNotFound, "there is no virtual router %q", name)
	}
	if r := p.cfg().Router(p.cfg().Process.DefaultRouter); r != nil {
		return r, nil
	}
	var serving []*config.Router
	var names []string
	for _, r := range p.cfg().Routers {
		if len(r.ServerAddresses) > 0 {
			serving, names = append(serving, r), append(names, r.Name)
		}
	}
	if len(serving) == 1 {
		return serving[0], nil
	}
	return nil, badQuestion(http.StatusBadRequest, api.ReasonBadRequest, "say in which virtual router the user arrives: %s", strings.Join(names, ", "))
}

// explained makes the request that a subscriber would make, and says which profile it comes by.
func explained(r *config.Router, q api.ExplainRequest) (aaa.Request, api.ExplainStep, error) {
	ask := aaa.Request{Router: r.Name, User: q.User, Access: aaa.Access(q.Access)}
	if q.Access == "" {
		ask.Access = likelyAccess(r, q.Profile)
	}
	var step api.ExplainStep
	var err error
	switch ask.Access {
	case aaa.AccessXAuth:
		step, err = byTunnelProfile(r, q, &ask)
	case aaa.AccessStatic:
		step, err = byStaticTunnel(r, q, &ask)
	case aaa.AccessL2TP, aaa.AccessL2TPIPsec:
		step, err = byHostProfile(r, q, &ask)
	default:
		err = badQuestion(http.StatusBadRequest, api.ReasonBadRequest, "%q is no way in: l2tp, l2tp/ipsec, xauth or static", q.Access)
	}
	return ask, step, err
}

// likelyAccess is the way in that a profile is for, or of which there are profiles.
func likelyAccess(r *config.Router, profile string) aaa.Access {
	switch {
	case slices.ContainsFunc(r.TunnelProfiles, func(t config.TunnelProfile) bool { return t.Name == profile }),
		profile == "" && len(r.Destinations) == 0 && len(r.TunnelProfiles) > 0:
		return aaa.AccessXAuth
	case profile != "" && slices.ContainsFunc(r.StaticTunnels, func(t config.StaticTunnel) bool { return t.Name == profile }):
		return aaa.AccessStatic
	}
	return aaa.AccessL2TPIPsec
}

// xauthProofs and pppProofs are how users of the two ways prove who they are.
var (
	xauthProofs = map[config.XAuth]aaa.Protocol{config.XAuthGeneric: aaa.PAP, config.XAuthCHAP: aaa.CHAPMD5, config.XAuthNone: aaa.Proven}
	pppProofs   = map[config.PPPAuth]aaa.Protocol{
		config.PPPPAP: aaa.PAP, config.PPPCHAP: aaa.CHAPMD5, config.PPPMSCHAPv2: aaa.MSCHAPv2, config.PPPEAP: aaa.EAP,
	}
)

// byTunnelProfile completes the request of a dynamic subscriber.
func byTunnelProfile(r *config.Router, q api.ExplainRequest, ask *aaa.Request) (api.ExplainStep, error) {
	step := api.ExplainStep{Topic: "tunnel profile"}
	var t *config.TunnelProfile
	for i := range r.TunnelProfiles {
		if x := &r.TunnelProfiles[i]; x.Name == q.Profile || q.Profile == "" && len(r.TunnelProfiles) == 1 {
			t = x
		}
	}
	proof := aaa.PAP
	switch {
	case t != nil:
		step.Value, step.Reason = t.Name, "IP profile "+t.IPProfile
		ask.IPProfile, proof = t.IPProfile, xauthProofs[t.XAuth]
		tunnel := subscriberTunnel(*t)
		if ask.User = tunnel.UserName(q.User, ""); ask.User != q.User {
			step.Reason += fmt.Sprintf(", which makes %q of the name", ask.User)
		}
	case q.Profile != "":
		return step, badQuestion(http.StatusNotFound, api.ReasonNotFound, "virtual router %s has no tunnel profile %q", r.Name, q.Profile)
	default:
		step.Reason = leftOpen(len(r.TunnelProfiles))
	}
	return step, setProof(ask, q, proof, aaa.PAP, aaa.CHAPMD5)
}

// byStaticTunnel completes the request of a static tunnel's peer that answers for a user (Z-8).
func byStaticTunnel(r *config.Router, q api.ExplainRequest, ask *aaa.Request) (api.ExplainStep, error) {
	step := api.ExplainStep{Topic: "static tunnel"}
	asking := 0
	var names []string
	for i := range r.StaticTunnels {
		t := &r.StaticTunnels[i]
		names = append(names, t.Name)
		if t.XAuth == config.StaticXAuthServer {
			asking++
		}
		if t.Name == q.Profile {
			step.Value, step.Reason = t.Name, "asks its peer for a user, who gets nothing but the tunnel"
			if t.XAuth != config.StaticXAuthServer {
				step.Reason = "does not ask its peer for a user"
			}
		}
	}
	switch {
	case step.Value != "":
	case q.Profile != "":
		return step, badQuestion(http.StatusNotFound, api.ReasonNotFound, "virtual router %s has no static tunnel %q%s", r.Name, q.Profile, config.Suggest(q.Profile, names))
	case asking == 0:
		step.Reason = "there is none that asks its peer for a user"
	default:
		step.Reason = fmt.Sprintf("%d ask their peers for users, who get nothing but the tunnel", asking)
	}
	return step, setProof(ask, q, aaa.PAP, aaa.PAP)
}

// leftOpen says why nothing follows from n profiles.
func leftOpen(n int) string {
	if n == 0 {
		return "there is none: nobody can come this way"
	}
	return fmt.Sprintf("there are %d: what follows from them is left open", n)
}

// byHostProfile completes the request of an L2TP subscriber.
func byHostProfile(r *config.Router, q api.ExplainRequest, ask *aaa.Request) (api.ExplainStep, error) {
	destination, host, named := strings.Cut(q.Profile, "/")
	step := api.ExplainStep{Topic: "destination profile"}
	found := 0
	var profiles []string // IP profiles
	for _, d := range r.Destinations {
		for _, h := range d.Hosts {
			if q.Profile != "" && d.Name != q.Profile && (d.Name != destination || named && hostProfileName(h) != host) {
				continue
			}
			found++
			step.Value = d.Name + "/" + hostProfileName(h)
			if !slices.Contains(profiles, h.IPProfile) {
				profiles = append(profiles, h.IPProfile)
			}
		}
	}
	switch {
	case found == 0 && q.Profile != "":
		return step, badQuestion(http.StatusNotFound, api.ReasonNotFound, "virtual router %s has no destination profile %q", r.Name, q.Profile)
	case len(profiles) == 1:
		ask.IPProfile, step.Reason = profiles[0], "IP profile "+profiles[0]
		if found > 1 {
			step.Value, step.Reason = q.Profile, fmt.Sprintf("all of %d have IP profile %s", found, profiles[0])
		}
	default:
		step.Value, step.Reason = q.Profile, leftOpen(found)
	}
	proof := aaa.MSCHAPv2
	if len(r.PPP.Authentication) > 0 {
		proof = pppProofs[r.PPP.Authentication[0]]
	}
	return step, setProof(ask, q, proof, aaa.PAP, aaa.CHAPMD5, aaa.MSCHAPv2, aaa.EAP)
}

// setProof takes the wanted way to prove who one is, or else what is configured.
func setProof(ask *aaa.Request, q api.ExplainRequest, configured aaa.Protocol, possible ...aaa.Protocol) error {
	ask.Protocol = configured
	if q.Authentication == "" {
		return nil
	}
	ask.Protocol = aaa.Protocol(q.Authentication)
	if !slices.Contains(possible, ask.Protocol) {
		return badQuestion(http.StatusBadRequest, api.ReasonBadRequest, "%s users do not authenticate by %q", ask.Access, q.Authentication)
	}
	return nil
}

// explain says which limits hold for a session that arrives in a router with a domain and takes
// an entry of the domain map (R5). The bound of the entry has been explained.
func (l *leases) explain(r *config.Router, domain string, m *config.DomainMap) []api.ExplainStep {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := r.Limits
	var out []api.ExplainStep
	add := func(of config.SessionLimit, limit int, reason string) {
		full := "more are refused"
		if slices.Contains(c.Replaces, of) {
			full = "one more ends the oldest"
		}
		if limit > 0 {
			out = append(out, api.ExplainStep{Topic: "sessions of the " + of.String(), Value: fmt.Sprint("at most ", limit), Reason: reason + full})
		}
	}
	now := func(key limited) string { return fmt.Sprintf("now %d, ", l.limits.howMany(key)) }
	add(config.LimitUser, c.PerUser, "")
	switch own := m != nil && m.Domain == domain && domain != config.DomainDefault; {
	case own && m.MaxSessions == 0:
		add(config.LimitDomain, c.PerDomain, now(limited{router: r.Name, kind: limitEntry, name: domain}))
	case domain != "" && !own:
		add(config.LimitDomain, c.PerDomain, now(limited{router: r.Name, kind: limitDomain, name: domain}))
	}
	add(config.LimitSource, c.PerSource, "by outer address, ")
	add(config.LimitRouter, c.PerRouter, now(limited{router: r.Name, kind: limitRouter}))
	return out
}
