package vr

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Set goes from the present TunnelSpec to the given one and adds before it deletes; packets pass meanwhile. The given one holds
// from then on, unless the error is ErrOther or a *BadSpec.
//
// Errors: ErrOther when the tunnel's name or the interface's changes; *BadSpec; and as Mend.
func (t *Tunnel) Set(spec TunnelSpec) error {
	spec = spec.clone()
	if err := spec.check(t.to.name); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("%s: %w", t.title, ErrClosed)
	}
	if spec.Tunnel != t.spec.Tunnel || spec.Name != t.spec.Name {
		return fmt.Errorf("%s: %w than %s of tunnel %s", t.title, ErrOther, spec.Name, spec.Tunnel)
	}
	group, err := t.to.tunnelGroup(spec)
	if err != nil {
		return err
	}
	before := t.spec
	t.spec, t.group = spec, group
	if t.lost() {
		return fmt.Errorf("%s: %w", t.title, ErrNotFound)
	}
	err = t.configure()
	if slices.Equal(before.Addresses, spec.Addresses) && slices.Equal(before.Routes, spec.Routes) {
		return err
	}
	return errors.Join(err, t.trim())
}

// Mend puts back what somebody has taken from the interface: it comes up, in its VRF, with its MTU, link group, addresses,
// routes and silence. It asks the kernel a few questions, so that it may be called every few seconds.
//
// Errors: *LinkError when something is not as it should be, of which LinkRouteTaken says that there is another route to a network with
// that metric, and the rest is fine; ErrNotFound when the interface has gone, see [Tunnel.Lost]; ErrClosed.
func (t *Tunnel) Mend() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("%s: %w", t.title, ErrClosed)
	}
	if t.lost() {
		return fmt.Errorf("%s: %w", t.title, ErrNotFound)
	}
	return errors.Join(t.mendGate(), t.configure())
}

// configure gives the interface what it should have.
func (t *Tunnel) configure() error {
	vrf, err := t.to.device()
	if err != nil {
		return err
	}
	link, err := t.nl.LinkByIndex(t.index)
	if missing(err) || err == nil && !t.is(link) {
		return fmt.Errorf("%s: %w", t.title, ErrNotFound)
	}
	if err != nil {
		return t.wrong(err, "find it")
	}
	a := link.Attrs()
	if a.MasterIndex != vrf.index {
		if err := t.nl.LinkSetMasterByIndex(link, vrf.index); err != nil {
			return t.wrong(err, "put it into the VRF")
		}
		clear(t.routed) // it has been down for a moment
		t.read()
	}
	if a.MTU != t.spec.MTU {
		if err := t.nl.LinkSetMTU(link, t.spec.MTU); err != nil {
			return t.wrong(err, fmt.Sprintf("an MTU of %d", t.spec.MTU))
		}
	}
	if a.Group != t.group {
		if err := t.nl.LinkSetGroup(link, int(t.group)); err != nil {
			return t.wrong(err, "its link group")
		}
	}
	if a.Flags&net.FlagUp == 0 {
		clear(t.routed)
		if err := t.nl.LinkSetUp(link); err != nil {
			return t.wrong(err, "bring it up")
		}
	}
	if t.fate != gone {
		t.fate = fine
	}
	for _, p := range t.spec.Addresses {
		if err := t.nl.AddrAdd(link, &netlink.Addr{IPNet: network(p)}); err != nil && !errors.Is(err, unix.EEXIST) {
			return t.wrong(err, "address "+p.String())
		}
	}
	if err := t.hush(); err != nil {
		return errors.Join(t.wrong(err, "silence"), t.addRoutes()) // without it the tunnel works
	}
	return t.addRoutes()
}

// addRoutes adds the routes that are not there, as many as it can, and says what is wrong with the first that cannot be.
func (t *Tunnel) addRoutes() error {
	if t.rest.Withdrawn {
		return nil
	}
	var first *LinkError
	for _, r := range t.spec.Routes {
		err := t.nl.RouteAdd(t.route(r))
		var e *LinkError
		switch {
		case err == nil, errors.Is(err, unix.EEXIST) && !t.routed[r] && t.to.routed(LinkRoute{Network: r.Network, Metric: r.Metric}, t.index):
			t.routed[r] = true
		case errors.Is(err, unix.EEXIST) && (t.routed[r] || t.connected(r)):
		case errors.Is(err, unix.EEXIST):
			e = routeTaken(t.to.name, t.name, r.Network, r.Metric)
		default:
			e = t.wrong(err, "route to "+r.Network.String())
		}
		if first == nil {
			first = e
		}
	}
	if first == nil {
		return nil
	}
	return first
}

// connected says whether the kernel itself has made the route, for an address.
func (t *Tunnel) connected(r TunnelRoute) bool {
	for _, a := range t.spec.Addresses {
		if r.Metric == 0 && a.Masked() == r.Network {
			return true
		}
	}
	return false
}

// trim removes addresses that the interface has too much, and routes that we have added and are not to be.
func (t *Tunnel) trim() error {
	link := t.link()
	list, err := listAddresses(t.nl, link, unix.AF_INET)
	if err != nil {
		return t.wrong(err, "list its addresses")
	}
	removed := false
	for _, a := range list {
		if p, ok := prefixOf(a.IPNet); !ok || slices.Contains(t.spec.Addresses, p) {
			continue
		}
		if err := t.nl.AddrDel(link, &netlink.Addr{IPNet: a.IPNet}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return t.wrong(err, "remove address "+a.IPNet.String())
		}
		removed = true
	}
	if err := t.trimRoutes(); err != nil || !removed {
		return err
	}
	// With the last address the kernel removes the routes.
	return t.configure()
}

func (t *Tunnel) trimRoutes() error {
	for r := range t.routed {
		if !t.rest.Withdrawn && slices.Contains(t.spec.Routes, r) {
			continue
		}
		if err := t.nl.RouteDel(t.route(r)); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
			return t.wrong(err, "remove route to "+r.Network.String())
		}
		delete(t.routed, r)
	}
	return nil
}

// route is a route by the interface in the library's form.
func (t *Tunnel) route(r TunnelRoute) *netlink.Route {
	return &netlink.Route{
		Dst: network(r.Network), LinkIndex: t.index, Table: t.table, Protocol: RouteProtocol, Priority: int(r.Metric), Scope: netlink.SCOPE_LINK,
	}
}

// wrong is an error of the kernel about the interface.
func (t *Tunnel) wrong(err error, what string) *LinkError {
	return &LinkError{Router: t.to.name, Link: t.name, Reason: LinkRefused, Text: "the kernel refuses: " + what, Err: err}
}
