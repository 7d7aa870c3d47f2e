package controlplane

import (
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
)

// licences count what subscribers need (J12): each one licence as a subscriber and, unless it
// came in clear text, one as an IPsec tunnel; of the process and of the virtual router in which
// it arrived. All are taken together and given back together.
type licences struct {
	process *licenceUse
	routers map[string]*licenceUse
}

// licenceUse counts against one set of limits, of which 0 is none.
type licenceUse struct {
	limit                config.Licences
	subscribers, tunnels int
}

func newLicences(c *config.Config) licences {
	l := licences{process: &licenceUse{}, routers: map[string]*licenceUse{}}
	l.configure(c)
	return l
}

// needsTunnelLicence says whether a way in takes both licences.
func needsTunnelLicence(a aaa.Access) bool { return a != aaa.AccessL2TP }

// of returns those of a virtual router; one that has just been removed has no limits any more.
func (l *licences) of(router string) *licenceUse {
	u := l.routers[router]
	if u == nil {
		u = &licenceUse{}
		l.routers[router] = u
	}
	return u
}

// places returns what a subscriber that arrives in a router needs.
func (l *licences) places(router string, tunnel bool) []place {
	out := make([]place, 0, 4)
	uses := [...]struct {
		whose string
		*licenceUse
	}{{"vrgate", l.process}, {"virtual router " + router, l.of(router)}}
	for _, u := range uses {
		out = append(out, place{taken: taken{used: &u.subscribers}, limit: u.limit.Subscribers, reason: aaa.ReasonNoSubscriberLicence, words: "subscriber licences of " + u.whose})
		if tunnel {
			out = append(out, place{taken: taken{used: &u.tunnels}, limit: u.limit.IPsecTunnels, reason: aaa.ReasonNoTunnelLicence, words: "IPsec tunnel licences of " + u.whose})
		}
	}
	return out
}
