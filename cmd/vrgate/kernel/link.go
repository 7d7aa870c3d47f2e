package kernel

import (
	"net/netip"

	"vrgate/controlplane/subscriber"
	"vrgate/vr"
)

// linkPolicy is what the rules do on a subscriber's link. Its routes are made or not where it is.
func linkPolicy(p subscriber.LinkPolicy) vr.LinkPolicy {
	return vr.LinkPolicy{SourceValidation: p.SourceValidation, ClampMSS: p.MSSClamp, MSS: p.MSS}
}

// linkKey names the XFRM interface of dynamic subscribers who end in one router with one policy.
type linkKey struct {
	terminating string
	policy      vr.LinkPolicy
}

// follow gives the interface another policy than it was made with, if it is one.
func (s *session) follow(p subscriber.LinkPolicy) error {
	if linkPolicy(p) == linkPolicy(s.policy) {
		return nil
	}
	group, err := s.router.LinkGroup(linkPolicy(p))
	if err != nil {
		return err
	}
	if err := s.unit.SetGroup(group); err != nil {
		return err
	}
	s.policy = p
	return nil
}

// reach makes the host route to the subscriber.
func (s *session) reach(route netip.Prefix, gateway netip.Addr) error {
	if s.route == route {
		return nil
	}
	if err := s.router.AddRoute(route, s.unit.Index(), gateway); err != nil {
		return err
	}
	s.route = route
	return nil
}
