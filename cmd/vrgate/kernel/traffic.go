package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
	"vrgate/vr"
)

// traffic is what the terminating router has for a subscriber's rates and policies (R7). A rate of the
// subscriber's own and one of its policy both hold. Rates that the kernel cannot keep become the
// nearest that it can.
func traffic(router *config.Router, t aaa.Traffic) (vr.Traffic, error) {
	in, err := flow(router, t.In, t.InBurst, t.InPolicy)
	if err != nil {
		return vr.Traffic{}, err
	}
	out, err := flow(router, t.Out, t.OutBurst, t.OutPolicy)
	return vr.Traffic{In: in, Out: out}, err
}

func flow(router *config.Router, rate uint64, burst uint32, policy string) (vr.Flow, error) {
	var f vr.Flow
	limit := func(rate uint64, burst uint32) {
		if rate != 0 {
			f.Rates = append(f.Rates, vr.Rate{Bits: min(max(rate, vr.MinRate), vr.MaxRate), Burst: burst})
		}
	}
	limit(rate, burst)
	if policy == "" {
		return f, nil
	}
	p := router.TrafficPolicy(policy)
	if p == nil {
		return f, &controlplane.DataplaneError{
			Reason: subscriber.Reason(aaa.ReasonUnknownPolicy), Text: fmt.Sprintf("virtual router %s has no traffic policy %q", router.Name, policy),
		}
	}
	limit(p.Rate, p.Burst)
	for _, r := range p.Rules {
		f.Rules = append(f.Rules, vr.Rule{Permit: r.Permit, Network: r.Network, Protocol: r.Protocol, FirstPort: r.FirstPort, LastPort: r.LastPort})
	}
	return f, nil
}

// SetTraffic implements [controlplane.TrafficPlane].
func (d *dataplane) SetTraffic(f subscriber.SetTraffic) error {
	d.mu.Lock()
	var s *vr.Shaper
	var inside string
	switch {
	case d.accesses[f.ID] != nil:
		s, inside = d.accesses[f.ID].shaper, d.accesses[f.ID].inside
	case d.sessions[f.ID] != nil:
		s, inside = d.sessions[f.ID].shaper, d.sessions[f.ID].inside
	}
	d.mu.Unlock()
	if s == nil {
		return &controlplane.DataplaneError{Reason: subscriber.ReasonInterface, Text: "the session's interface has gone"}
	}
	end, runs := d.kernel.router(inside)
	if !runs {
		return noTerminating(inside)
	}
	t, err := traffic(end.config, f.Traffic)
	if err != nil {
		return err
	}
	return typed(s.Set(t))
}

// ListenUDP implements [controlplane.TrafficPlane]. Close closes what its users have not.
func (d *dataplane) ListenUDP(local netip.AddrPort) (*net.UDPConn, error) {
	conn, err := d.vr.ListenUDP(local)
	if err != nil {
		return nil, typed(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.udp = slices.DeleteFunc(d.udp, func(c *net.UDPConn) bool {
		raw, err := c.SyscallConn()
		return err != nil || raw.Control(func(uintptr) {}) != nil // closed by its user
	})
	d.udp = append(d.udp, conn)
	return conn, nil
}

func (d *dataplane) closeUDP() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var failed error
	for _, c := range d.udp {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			failed = errors.Join(failed, err)
		}
	}
	d.udp = nil
	return failed
}

// behind are the routes to networks behind a subscriber that the kernel shall have: those of IPv4, each once,
// without its own address, which has a route already. Two subscribers cannot have a network with
// the same metric: the later one is refused, as with an address.
func behind(routes []aaa.Route, own netip.Addr) []aaa.Route {
	var out []aaa.Route
	for _, r := range routes {
		r.Prefix, r.Tag = r.Prefix.Masked(), 0
		if r.Prefix.Addr().Is4() && !slices.Contains(out, r) && (r.Prefix.Addr() != own || !r.Prefix.IsSingleIP()) {
			out = append(out, r)
		}
	}
	return out
}

// reasonDuplicateRoute: a network behind a subscriber is routed to somebody else already.
const reasonDuplicateRoute subscriber.Reason = "duplicate-route"

// routed gives the error of a route to a network behind a subscriber its reason.
func routed(err error, prefix netip.Prefix) error {
	if errors.Is(err, vr.ErrExists) {
		return &controlplane.DataplaneError{Reason: reasonDuplicateRoute, Text: fmt.Sprintf("%v is routed already in the terminating virtual router", prefix), Err: err}
	}
	return typed(err)
}

// addBehind adds routes by a PPP interface; those that it has added are the session's when it fails.
func (s *session) addBehind(routes []aaa.Route, gateway netip.Addr) error {
	for _, r := range routes {
		if err := s.router.AddNetwork(r.Prefix, s.unit.Index(), gateway, r.Metric); err != nil {
			return routed(err, r.Prefix)
		}
		s.behind = append(s.behind, r)
	}
	return nil
}

// removeBehind removes them.
func (s *session) removeBehind() error {
	var failed error
	for _, r := range s.behind {
		failed = errors.Join(failed, s.router.DelNetwork(r.Prefix, s.unit.Index(), r.Metric))
	}
	s.behind = nil
	return failed
}
