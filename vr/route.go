package vr

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddRoute adds an access route to the router's table: dst by the link with the given index, with prefsrc, one of the
// gateway addresses, as source of what the router itself sends (a prefsrc that is invalid, or no address of the router's, leaves
// the choice to the kernel, which then searches all links). The link must be up. ErrExists when dst is routed already.
func (r *Router) AddRoute(dst netip.Prefix, ifindex int, prefsrc netip.Addr) error {
	return r.AddNetwork(dst, ifindex, prefsrc, 0)
}

// AddNetwork adds a route to a network behind a subscriber, as AddRoute, with a metric; 0 is best. Several links may have
// routes to a network with different metrics: the best takes what is for it, and source validation lets in what comes from it by
// each of them. ErrExists when there is a route to it with that metric.
func (r *Router) AddNetwork(dst netip.Prefix, ifindex int, prefsrc netip.Addr, metric uint32) error {
	route, err := r.route(dst, ifindex)
	if err != nil {
		return err
	}
	if prefsrc.IsValid() {
		route.Src = prefsrc.Unmap().AsSlice()
	}
	route.Priority = int(metric)
	return failed(addRoute(r.nl, route), "virtual router %s: add route %s", r.name, dst)
}

// addRoute adds a route to subscribers. A source that is no address of the router's, which the kernel takes for invalid, is left
// out: a subscriber that AAA sends to a router which has none for it keeps that of its IP profile, as the near end of its own link.
func addRoute(nl *netlink.Handle, route *netlink.Route) error {
	err := nl.RouteAdd(route)
	if route.Src == nil || !errors.Is(err, unix.EINVAL) {
		return err
	}
	without := *route
	without.Src = nil
	return nl.RouteAdd(&without)
}

// DelRoute removes a route that AddRoute has added. A missing route or link is success.
func (r *Router) DelRoute(dst netip.Prefix, ifindex int) error {
	return r.DelNetwork(dst, ifindex, 0)
}

// DelNetwork removes a route that AddNetwork has added. A missing route or link is success.
func (r *Router) DelNetwork(dst netip.Prefix, ifindex int, metric uint32) error {
	route, err := r.route(dst, ifindex)
	if err != nil {
		return err
	}
	route.Priority = int(metric)
	err = r.nl.RouteDel(route)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return failed(err, "virtual router %s: remove route %s", r.name, dst)
}

func (r *Router) route(dst netip.Prefix, ifindex int) (*netlink.Route, error) {
	return accessRoute(r.name, dst, ifindex, r.table)
}

// accessRoute is a route to subscribers.
func accessRoute(router string, dst netip.Prefix, ifindex, table int) (*netlink.Route, error) {
	if !dst.IsValid() || dst.Masked() != dst || ifindex <= 0 {
		return nil, &BadSpec{Router: router, Reason: fmt.Sprintf("route %s by link %d is not a route", dst, ifindex)}
	}
	return &netlink.Route{
		Dst:       network(dst),
		LinkIndex: ifindex,
		Table:     table,
		Protocol:  RouteProtocol,
		Scope:     netlink.SCOPE_LINK,
	}, nil
}

// removeRoutes removes the routes of ours from the router's table, also those of a predecessor.
func (r *Router) removeRoutes() error {
	filter := &netlink.Route{Table: r.table, Protocol: RouteProtocol}
	for range dumpTries {
		routes, err := r.nl.RouteListFiltered(unix.AF_UNSPEC, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return failed(err, "virtual router %s: list routes", r.name)
		}
		for _, route := range routes {
			if route.Type == unix.RTN_UNREACHABLE && !r.vrf.made {
				continue
			}
			if err := r.nl.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
				return failed(err, "virtual router %s: remove route %s", r.name, route.Dst)
			}
		}
		if err == nil {
			return nil
		}
	}
	return failed(netlink.ErrDumpInterrupted, "virtual router %s: list routes", r.name)
}
