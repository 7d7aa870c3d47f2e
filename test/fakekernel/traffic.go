package fakekernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// limits is a subscriber's traffic as a line says it; empty when it is free.
func limits(t aaa.Traffic, routes []aaa.Route) string {
	var b strings.Builder
	for _, way := range []struct {
		name, policy string
		rate         uint64
	}{{"in", t.InPolicy, t.In}, {"out", t.OutPolicy, t.Out}} {
		if way.rate != 0 {
			fmt.Fprintf(&b, ", %s %d bit/s", way.name, way.rate)
		}
		if way.policy != "" {
			fmt.Fprintf(&b, ", %s by %s", way.name, way.policy)
		}
	}
	for _, r := range routes {
		fmt.Fprintf(&b, ", network %v metric %d", r.Prefix, r.Metric)
	}
	return b.String()
}

// known says that the terminating router has a subscriber's policies.
func known(router *config.Router, t aaa.Traffic) error {
	for _, name := range []string{t.InPolicy, t.OutPolicy} {
		if name != "" && router.TrafficPolicy(name) == nil {
			return &controlplane.DataplaneError{Reason: subscriber.Reason(aaa.ReasonUnknownPolicy), Text: fmt.Sprintf("virtual router %s has no traffic policy %q", router.Name, name)}
		}
	}
	return nil
}

// free says that no other subscriber of a terminating router has one of the networks with the same metric.
func (k *Kernel) free(id subscriber.ID, terminating string, routes []aaa.Route) error {
	taken := func(other subscriber.ID, router string, theirs []aaa.Route) error {
		if other == id || router != terminating {
			return nil
		}
		for _, r := range routes {
			if slices.ContainsFunc(theirs, func(o aaa.Route) bool { return o.Prefix == r.Prefix && o.Metric == r.Metric }) {
				return &controlplane.DataplaneError{Reason: "duplicate-route", Text: fmt.Sprintf("%v is routed already in the terminating virtual router", r.Prefix)}
			}
		}
		return nil
	}
	for _, p := range k.routers {
		for other, s := range p.sessions {
			if err := taken(other, s.Terminating, s.behind); err != nil {
				return err
			}
		}
		for other, a := range p.accesses {
			if err := taken(other, a.Terminating, a.Routes); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetTraffic implements [controlplane.TrafficPlane].
func (d *plane) SetTraffic(f subscriber.SetTraffic) error {
	return d.do("set traffic", func() error {
		set, terminating := (*aaa.Traffic)(nil), ""
		if a := d.accesses[f.ID]; a != nil {
			set, terminating = &a.Traffic, a.Terminating
		} else if s := d.sessions[f.ID]; s != nil {
			set, terminating = &s.Traffic, s.Terminating
		}
		if set == nil {
			return &controlplane.DataplaneError{Reason: subscriber.ReasonInterface, Text: "the session's interface has gone"}
		}
		if p := d.kernel.routers[terminating]; p != nil {
			if err := known(p.config, f.Traffic); err != nil {
				return err
			}
		}
		*set = f.Traffic
		return nil
	})
}

// ListenUDP implements [controlplane.TrafficPlane] with a socket of this machine, in which only loopback and
// unspecified addresses are sure to be. It is not a call that can be made to fail: a shell opens sockets when it likes.
func (d *plane) ListenUDP(local netip.AddrPort) (*net.UDPConn, error) {
	d.kernel.mu.Lock()
	offline := d.kernel.offline
	d.kernel.mu.Unlock()
	if offline {
		return nil, &controlplane.DataplaneError{Reason: subscriber.ReasonKernel, Text: "there is no network"}
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
	if err != nil {
		return nil, &controlplane.DataplaneError{Reason: subscriber.ReasonKernel, Text: "no such socket", Err: err}
	}
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	if d.closed {
		_ = conn.Close()
		return nil, &controlplane.DataplaneError{Reason: subscriber.ReasonKernel, Text: "the virtual router is closed"}
	}
	d.udp = append(d.udp, conn)
	return conn, nil
}

func (d *plane) closeUDP() error {
	var failed error
	for _, c := range d.udp {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
