package controlplane

import (
	"fmt"

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
	l := licences{process: &licenceUse{limit: c.Process.Licences}, routers: map[string]*licenceUse{}}
	for _, r := range c.Routers {
		l.routers[r.Name] = &licenceUse{limit: r.Licences}
	}
	return l
}

// needsTunnelLicence says whether a way in takes both licences.
func needsTunnelLicence(a aaa.Access) bool { return a != aaa.AccessL2TP }

// take takes a subscriber's licences, or none of them and says which is missing.
func (l *licences) take(router string, tunnel bool) (missing aaa.Reason, text string) {
	uses := [...]struct {
		whose string
		*licenceUse
	}{{"vrgate", l.process}, {"virtual router " + router, l.routers[router]}}
	for _, u := range uses {
		switch limit := u.limit; {
		case limit.Subscribers > 0 && u.subscribers >= limit.Subscribers:
			return aaa.ReasonNoSubscriberLicence, fmt.Sprintf("all %d subscriber licences of %s are in use", limit.Subscribers, u.whose)
		case tunnel && limit.IPsecTunnels > 0 && u.tunnels >= limit.IPsecTunnels:
			return aaa.ReasonNoTunnelLicence, fmt.Sprintf("all %d IPsec tunnel licences of %s are in use", limit.IPsecTunnels, u.whose)
		}
	}
	l.count(router, tunnel, 1)
	return "", ""
}

// giveBack undoes take.
func (l *licences) giveBack(router string, tunnel bool) { l.count(router, tunnel, -1) }

func (l *licences) count(router string, tunnel bool, n int) {
	for _, u := range [...]*licenceUse{l.process, l.routers[router]} {
		u.subscribers += n
		if tunnel {
			u.tunnels += n
		}
	}
}
