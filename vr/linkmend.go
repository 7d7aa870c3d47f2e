package vr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// other is another router that runs; nil: there is none.
func (r *Router) other(name string) *Router {
	if r.find == nil {
		return nil
	}
	return r.find(name)
}

// linkSpec is the present specification of a link.
func (r *Router) linkSpec(name string) (Link, bool) {
	i := slices.IndexFunc(r.spec.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return r.spec.Links[i], true
}

// Mend makes links that are missing but could be there now, and puts back what somebody has taken from the others: they
// come up, their addresses and routes are added. It asks the kernel a few questions for each link, however much else there is
// in the namespace, so that it may be called every few seconds. What is wrong is in [Router.Links].
//
// Errors: ErrClosed.
func (r *Router) Mend() error {
	r.linking.Lock()
	defer r.linking.Unlock()
	if r.closed {
		return fmt.Errorf("virtual router %s: %w", r.name, ErrClosed)
	}
	for _, l := range inOrder(r.spec.Links) {
		r.troubles[l.Name] = r.ensure(l, false)
	}
	return nil
}

// inOrder puts links that others are parents of first.
func inOrder(links []Link) []Link {
	late := func(l Link) int {
		if l.Kind == LinkVLAN {
			return 1
		}
		return 0
	}
	return slices.SortedStableFunc(slices.Values(links), func(a, b Link) int { return late(a) - late(b) })
}

// setLinks goes from what is there, by us or a predecessor, to the links of spec; before are those that were to be. It removes first, because a link that comes may need the
// interface, name or VLAN of one that goes; the others are not touched. A link that cannot be there is no failure.
func (r *Router) setLinks(spec Spec, before []Link) error {
	links := spec.Links
	r.find = spec.Find
	if len(links) == 0 && len(before) == 0 && r.spec.Name != "" {
		return nil
	}
	if err := r.dropLinks(links, before); err != nil {
		return err
	}
	clear(r.troubles)
	for _, l := range inOrder(links) {
		r.troubles[l.Name] = r.ensure(l, true)
	}
	return r.trimLinks(links, before)
}

// dropLinks removes those of our links that are not to be.
func (r *Router) dropLinks(links, before []Link) error {
	r.joining.Lock() // one end of a pair that is being made looks as if it had to go
	defer r.joining.Unlock()
	list, err := r.links()
	if err != nil {
		return err
	}
	var errs []error
	for _, link := range r.goes(list, links, before) {
		own, _ := linkOf(r.name, link)
		errs = append(errs, r.drop(link, own))
	}
	return errors.Join(errs...)
}

// DropLinks removes links before the rest, which Close removes: those whose packets something is to encrypt that goes in between. Set and Mend
// would make them again.
//
// Errors: what the kernel says.
func (r *Router) DropLinks(names ...string) error {
	r.linking.Lock()
	defer r.linking.Unlock()
	if r.closed {
		return nil
	}
	stay := slices.DeleteFunc(slices.Clone(r.spec.Links), func(l Link) bool { return slices.Contains(names, l.Name) })
	return r.dropLinks(stay, r.spec.Links)
}

// goes are our links that are not to be, or have to be made anew; VLANs before the links that they are on.
func (r *Router) goes(list []netlink.Link, links, before []Link) []netlink.Link {
	var vlans, out []netlink.Link
	going := map[string]bool{}
	for _, link := range list {
		own, ours := linkOf(r.name, link)
		if !ours {
			continue
		}
		i := slices.IndexFunc(links, func(l Link) bool {
			return l.Name == own.name && l.Name == link.Attrs().Name && l.identity() == own.identity
		})
		if i >= 0 && !r.resized(links[i], before) {
			continue
		}
		going[own.name] = true
		if link.Type() == "vlan" {
			vlans = append(vlans, link)
		} else {
			out = append(out, link)
		}
	}
	for _, link := range list { // those whose parent goes
		if own, ours := linkOf(r.name, link); ours && !going[own.name] {
			if i := slices.IndexFunc(links, func(l Link) bool { return l.Name == own.name }); links[i].Inside && going[links[i].Device] {
				vlans = append(vlans, link)
			}
		}
	}
	return slices.Concat(vlans, out)
}

// resized says whether a link had an MTU of its own and is to have the kernel's again.
func (r *Router) resized(l Link, before []Link) bool {
	return l.MTU == 0 && slices.ContainsFunc(before, func(b Link) bool { return b.Name == l.Name && b.MTU != 0 })
}

// ensure has a link be there, as it should be but for what it has too much. look asks whose a route is that is there already.
func (r *Router) ensure(l Link, look bool) *LinkError {
	link, err := r.nl.LinkByName(l.Name)
	if err == nil {
		own, ours := linkOf(r.name, link)
		switch same := ours && own.identity == l.identity(); {
		case same && r.otherEnd(l):
			return r.configure(l, link, look)
		case ours:
			if err := r.drop(link, own); err != nil {
				return r.wrong(l, err, "remove what has its name")
			}
		case l.Kind != LinkInterface || l.Device != l.Name: // else it may be the interface itself, in its own namespace
			return r.taken(l, link)
		default:
			o, err := r.outside()
			if err != nil {
				return r.wrong(l, err, "look outside")
			}
			same := o.same
			if err := o.close(); err != nil || !same {
				return r.taken(l, link)
			}
		}
	} else if !missing(err) {
		return r.wrong(l, err, "find it")
	}
	if e := r.make(l); e != nil {
		return e
	}
	link, err = r.nl.LinkByName(l.Name)
	if err != nil {
		return r.wrong(l, err, "find it")
	}
	return r.configure(l, link, true)
}

func (r *Router) taken(l Link, link netlink.Link) *LinkError {
	text := fmt.Sprintf("an interface of kind %s that is not ours has the name: rename or remove it, or give the link another name", link.Type())
	return &LinkError{Router: r.name, Link: l.Name, Reason: LinkNameTaken, Text: text}
}

// configure gives a link what it should have.
func (r *Router) configure(l Link, link netlink.Link, look bool) *LinkError {
	a := link.Attrs()
	if a.MasterIndex != r.vrf.index {
		if err := r.nl.LinkSetMasterByIndex(link, r.vrf.index); err != nil { // which moves its routes
			return r.wrong(l, err, "put it into the VRF")
		}
	}
	if l.MTU != 0 && a.MTU != l.MTU {
		if err := r.nl.LinkSetMTU(link, l.MTU); err != nil {
			return r.wrong(l, err, fmt.Sprintf("an MTU of %d", l.MTU))
		}
	}
	if up := a.Flags&net.FlagUp != 0; up == l.Down {
		set := r.nl.LinkSetUp
		if l.Down {
			set = r.nl.LinkSetDown
		}
		if err := set(link); err != nil {
			return r.wrong(l, err, "bring it up")
		}
	}
	for _, p := range l.Addresses {
		if err := r.nl.AddrAdd(link, &netlink.Addr{IPNet: network(p)}); err != nil && !errors.Is(err, unix.EEXIST) {
			return r.wrong(l, err, "address "+p.String())
		}
	}
	if l.Down {
		return nil // it has no routes
	}
	return r.addLinkRoutes(l, a.Index, look)
}

// addLinkRoutes adds the routes that a link lacks, as many as it can, and says what is wrong with the first that cannot be. Whose a route
// is that is there is asked if look, and else as it was known.
func (r *Router) addLinkRoutes(l Link, index int, look bool) (first *LinkError) {
	var known, taken []LinkRoute
	if e := r.troubles[l.Name]; e != nil {
		known = e.taken
	}
	for _, route := range l.Routes {
		err := r.nl.RouteAdd(r.linkRoute(route, index))
		there := errors.Is(err, unix.EEXIST)
		switch {
		case there && (look && !r.routed(route, index) || !look && slices.Contains(known, route)):
			taken = append(taken, route)
			err = routeTaken(r.name, l.Name, route.Network, route.Metric)
		case there:
			err = nil
		}
		if err != nil && first == nil {
			first = r.wrong(l, err, "route to "+route.Network.String())
		}
	}
	if first != nil {
		first.taken = taken
	}
	return first
}

// routeTaken says that a link's route cannot be because there is another one.
func routeTaken(router, link string, network netip.Prefix, metric uint32) *LinkError {
	text := fmt.Sprintf("there is another route to %s with metric %d: remove it, or give this one another metric", network, metric)
	return &LinkError{Router: router, Link: link, Reason: LinkRouteTaken, Text: text}
}

// linkRoute is a route by a link in the library's form.
func (r *Router) linkRoute(l LinkRoute, index int) *netlink.Route {
	route := &netlink.Route{
		Dst: network(l.Network), LinkIndex: index, Table: r.table, Protocol: RouteProtocol, Priority: int(l.Metric), Scope: netlink.SCOPE_LINK,
	}
	if l.Via.IsValid() {
		route.Gw, route.Scope = l.Via.AsSlice(), netlink.SCOPE_UNIVERSE
	}
	return route
}

// routed says whether the route that is there is ours.
func (r *Router) routed(l LinkRoute, index int) bool {
	want := r.linkRoute(l, index)
	list, err := r.linkRoutes()
	return err != nil || slices.ContainsFunc(list, func(have netlink.Route) bool { return sameRoute(have, *want) })
}

func sameRoute(a, b netlink.Route) bool {
	return a.LinkIndex == b.LinkIndex && a.Priority == b.Priority && a.Gw.Equal(b.Gw) && a.Dst != nil && b.Dst != nil && a.Dst.String() == b.Dst.String()
}

// linkRoutes are the routes of ours in the router's table.
func (r *Router) linkRoutes() (list []netlink.Route, err error) {
	filter := &netlink.Route{Table: r.table, Protocol: RouteProtocol}
	for range dumpTries {
		list, err = r.nl.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, failed(err, "virtual router %s: list routes", r.name)
}

// trimLinks removes addresses and routes that links have too much: those of the last Spec or of a predecessor.
func (r *Router) trimLinks(links, before []Link) error {
	if len(links) == 0 {
		return nil
	}
	addrs, err := r.addresses(nil, unix.AF_INET)
	if err != nil {
		return err
	}
	routes, err := r.linkRoutes()
	if err != nil {
		return err
	}
	o, err := r.outside()
	if err != nil {
		return err
	}
	stays := o.same
	if err := o.close(); err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		link, err := r.nl.LinkByName(l.Name)
		if err != nil {
			continue // it is missing, or goes just now
		}
		own, ours := linkOf(r.name, link)
		if !ours {
			continue
		}
		index, removed := link.Attrs().Index, false
		for _, a := range addrs {
			p, ok := prefixOf(a.IPNet)
			if a.LinkIndex != index || !ok || slices.Contains(l.Addresses, p) {
				continue
			}
			// On an interface that stays in its namespace others may have put addresses.
			if own.was != nil && stays && (!had(before, l.Name, p) || slices.Contains(own.was.addresses, p)) {
				continue
			}
			if err := r.nl.AddrDel(link, &netlink.Addr{IPNet: network(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				errs = append(errs, failed(err, "virtual router %s: link %s: remove address %s", r.name, l.Name, p))
			}
			removed = true
		}
		for _, route := range routes {
			if route.LinkIndex != index || slices.ContainsFunc(l.Routes, func(x LinkRoute) bool { return sameRoute(route, *r.linkRoute(x, index)) }) {
				continue
			}
			if err := r.nl.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
				errs = append(errs, failed(err, "virtual router %s: link %s: remove route %s", r.name, l.Name, route.Dst))
			}
		}
		if removed {
			// With the last address the kernel removes the routes, and on an interface that is not ours with the first of a network the others.
			r.troubles[l.Name] = r.ensure(l, false)
		}
	}
	return errors.Join(errs...)
}

// had says whether a link was to have an address.
func had(links []Link, name string, p netip.Prefix) bool {
	return slices.ContainsFunc(links, func(l Link) bool { return l.Name == name && slices.Contains(l.Addresses, p) })
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	a := address(n)
	if !a.IsValid() {
		return netip.Prefix{}, false
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a, bits), true
}

// serves is checkServer, which says of an address on a link that has failed what is wrong with the link.
func (r *Router) serves(spec Spec) error {
	err := r.checkServer(spec)
	var none *NoAddress
	if !errors.As(err, &none) {
		return err
	}
	for _, l := range spec.Links {
		if e := r.troubles[l.Name]; e != nil && slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == none.Addr }) {
			return fmt.Errorf("%w; %w", e, err)
		}
	}
	return err
}

// leave has nobody make pairs with the router any more.
func (r *Router) leave() {
	r.joining.Lock()
	defer r.joining.Unlock()
	r.left = true
}
