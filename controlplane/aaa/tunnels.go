package aaa

import (
	"cmp"
	"fmt"
	"slices"
)

// tunnels are the LNSs to which a session is handed on, the preferred ones first, and who says so. A server is followed
// before the domain map, and the domain map only for who comes by PPP.
func (p *plan) tunnels(answer source) (list []Tunnel, by string) {
	switch {
	case len(answer.tunnels) > 0:
		list, by = answer.tunnels, answer.name
	case p.entry != nil && p.access != AccessXAuth:
		list, by = p.entry.Tunnels, fromDomain
	}
	if len(list) == 0 {
		return nil, ""
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Tunnel) int { return cmp.Compare(a.Preference, b.Preference) })
	return list[:min(len(list), MaxTunnels)], by
}

// handedOn is what is left of grants for a session that ends elsewhere: its address, router and traffic are the LNS's
// business.
func (g Grants) handedOn() Grants {
	return Grants{
		SessionTimeout: g.SessionTimeout, IdleTimeout: g.IdleTimeout, IdleIngress: g.IdleIngress, Interim: g.Interim, Class: g.Class,
	}
}

// describe prints an LNS for explain.
func (t Tunnel) describe() string {
	s := t.Server.String()
	if t.Client.IsValid() {
		s += fmt.Sprintf(" from %s", t.Client)
	}
	s += fmt.Sprintf(", preference %d", t.Preference)
	if t.ClientName != "" {
		s += fmt.Sprintf(", as %q", t.ClientName)
	}
	if t.ServerName != "" {
		s += fmt.Sprintf(", which must be %q", t.ServerName)
	}
	if t.MaxSessions > 0 {
		s += fmt.Sprintf(", at most %d sessions in a tunnel", t.MaxSessions)
	}
	if len(t.Secret) == 0 {
		s += ", without tunnel authentication"
	}
	return s
}
