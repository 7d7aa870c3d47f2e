package vr

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpTries bounds repetitions of a dump that the kernel says was interrupted by a change.
const dumpTries = 8

// unreachableMetric is that of the route that ends a VRF's table, higher than any real route's: without it
// a look-up would go on in the main table and a tenant's packets would leave by another's links.
const unreachableMetric = 4278198272

// ensureVRF finds the VRF device or makes it.
func (r *Router) ensureVRF(spec Spec) (device, error) {
	if spec.VRF == "" {
		return device{}, nil
	}
	link, err := r.nl.LinkByName(spec.VRF)
	if missing(err) {
		if err := r.makeVRF(spec); err != nil {
			return device{}, err
		}
		link, err = r.nl.LinkByName(spec.VRF)
	}
	if err != nil {
		return device{}, failed(err, "virtual router %s: VRF %s", spec.Name, spec.VRF)
	}
	vrf, ok := link.(*netlink.Vrf)
	if !ok {
		return device{}, &BadSpec{Router: spec.Name, Reason: fmt.Sprintf("link %s is not a VRF device but %s", spec.VRF, link.Type())}
	}
	if vrf.Table != spec.Table {
		return device{}, &BadSpec{Router: spec.Name, Reason: fmt.Sprintf("VRF %s uses routing table %d, not %d", spec.VRF, vrf.Table, spec.Table)}
	}
	if vrf.Flags&net.FlagUp == 0 {
		if err := r.nl.LinkSetUp(vrf); err != nil {
			return device{}, failed(err, "virtual router %s: VRF %s up", spec.Name, spec.VRF)
		}
	}
	return device{name: vrf.Name, index: vrf.Index, made: vrf.Alias == ownAlias}, nil
}

func (r *Router) makeVRF(spec Spec) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = spec.VRF
	vrf := &netlink.Vrf{LinkAttrs: attrs, Table: spec.Table}
	err := r.nl.LinkAdd(vrf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &MissingFeature{Feature: FeatureVRF, Module: "vrf"}
	}
	if err != nil {
		return failed(err, "virtual router %s: make VRF %s", spec.Name, spec.VRF)
	}
	// The alias first: from then on a crash leaves something that is recognised.
	err = errors.Join(
		failed(r.nl.LinkSetAlias(vrf, ownAlias), "virtual router %s: mark VRF %s", spec.Name, spec.VRF),
		failed(r.nl.LinkSetUp(vrf), "virtual router %s: VRF %s up", spec.Name, spec.VRF),
		failed(r.nl.RouteReplace(unreachable(spec.Table)), "virtual router %s: last route of table %d", spec.Name, spec.Table))
	if err != nil {
		return errors.Join(err, r.nl.LinkDel(vrf))
	}
	return nil
}

func unreachable(table uint32) *netlink.Route {
	return &netlink.Route{
		Dst:      &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		Type:     unix.RTN_UNREACHABLE,
		Table:    int(table),
		Priority: unreachableMetric,
		Protocol: RouteProtocol,
	}
}

// removeVRF removes the VRF device if we made it and it has no slaves left.
func (r *Router) removeVRF() error {
	if !r.vrf.made {
		return nil
	}
	links, err := r.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == r.vrf.index {
			return nil
		}
	}
	return r.removeLink(r.vrf.name)
}

// links lists the links of the namespace.
func (r *Router) links() (links []netlink.Link, err error) {
	for range dumpTries {
		if links, err = r.nl.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return links, failed(err, "virtual router %s: list links", r.name)
}

// removeLink removes a link by name; a missing one is fine.
func (r *Router) removeLink(name string) error {
	link, err := r.nl.LinkByName(name)
	if missing(err) {
		return nil
	}
	if err == nil {
		err = r.nl.LinkDel(link)
	}
	if missing(err) {
		return nil
	}
	return failed(err, "virtual router %s: remove link %s", r.name, name)
}

// missing recognises the ways in which the library says that a link is not there.
func missing(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}

// checkServer: every server address must be on a link that routes by the router's table.
func (r *Router) checkServer(spec Spec) error {
	if len(spec.Server) == 0 {
		return nil
	}
	have, err := r.addresses(nil, unix.AF_UNSPEC)
	if err != nil {
		return err
	}
	for _, want := range spec.Server {
		on, elsewhere, err := r.holders(have, want)
		if err != nil {
			return err
		}
		if len(on) == 0 {
			return &NoAddress{Router: spec.Name, Addr: want, Link: elsewhere}
		}
	}
	return nil
}

// holders are the names of the router's links that have an address, and that of another router's link.
func (r *Router) holders(have []netlink.Addr, want netip.Addr) (on []string, elsewhere string, err error) {
	for _, a := range have {
		if address(a.IPNet) != want {
			continue
		}
		link, err := r.nl.LinkByIndex(a.LinkIndex)
		if missing(err) {
			continue // gone since the dump
		}
		if err != nil {
			return nil, "", failed(err, "virtual router %s: link of %s", r.name, want)
		}
		master, err := r.master(link)
		if err != nil {
			return nil, "", err
		}
		if master == r.vrf.index {
			on = append(on, link.Attrs().Name)
		} else {
			elsewhere = link.Attrs().Name
		}
	}
	return on, elsewhere, nil
}

// master is the index of the VRF device that a link belongs to, 0 for the main table. The VRF device itself
// carries the VRF's own loopback addresses.
func (r *Router) master(link netlink.Link) (int, error) {
	for range 4 { // a slave of a bridge or bond in a VRF: a chain, and never a long one
		if link.Type() == "vrf" {
			return link.Attrs().Index, nil
		}
		up := link.Attrs().MasterIndex
		if up == 0 {
			return 0, nil
		}
		next, err := r.nl.LinkByIndex(up)
		if missing(err) {
			return 0, nil
		}
		if err != nil {
			return 0, failed(err, "virtual router %s: master of %s", r.name, link.Attrs().Name)
		}
		link = next
	}
	return 0, nil
}

// addresses lists the addresses of a link, of all links for nil; of IPv4, or of both families.
func (r *Router) addresses(link netlink.Link, family int) (list []netlink.Addr, err error) {
	list, err = listAddresses(r.nl, link, family)
	return list, failed(err, "virtual router %s: list addresses", r.name)
}

func listAddresses(nl *netlink.Handle, link netlink.Link, family int) (list []netlink.Addr, err error) {
	for range dumpTries {
		if list, err = nl.AddrList(link, family); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}

// gatewayLink is the name of the dummy device with the gateway addresses: within the 15 characters that the
// kernel allows, and different for every router of a namespace.
func gatewayLink(router string) string {
	sum := sha256.Sum256([]byte(router))
	return "vrgw" + hex.EncodeToString(sum[:5])
}

// gatewayAlias says whose the dummy device is.
func gatewayAlias(router string) string { return ownAlias + " " + router }

// addGateway makes the dummy device and adds the addresses that it lacks.
func (r *Router) addGateway(spec Spec) error {
	name := gatewayLink(spec.Name)
	needed, err := r.neededGateway(spec, name)
	if err != nil || len(needed) == 0 {
		return err
	}
	link, err := r.nl.LinkByName(name)
	if missing(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MasterIndex = name, r.vrf.index
		err = r.nl.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
		if errors.Is(err, unix.EOPNOTSUPP) {
			return &MissingFeature{Feature: FeatureDummy, Module: "dummy"}
		}
		if err == nil {
			link, err = r.nl.LinkByName(name)
		}
	}
	if err != nil {
		return failed(err, "virtual router %s: gateway device %s", spec.Name, name)
	}
	if link.Attrs().Alias != gatewayAlias(spec.Name) {
		if err := r.nl.LinkSetAlias(link, gatewayAlias(spec.Name)); err != nil {
			return failed(err, "virtual router %s: mark gateway device %s", spec.Name, name)
		}
	}
	if link.Attrs().MasterIndex != r.vrf.index {
		// A predecessor ran the router in another VRF. Moving removes the addresses' routes, the kernel re-adds them.
		if err := r.nl.LinkSetMasterByIndex(link, r.vrf.index); err != nil {
			return failed(err, "virtual router %s: move gateway device %s", spec.Name, name)
		}
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := r.nl.LinkSetUp(link); err != nil {
			return failed(err, "virtual router %s: gateway device %s up", spec.Name, name)
		}
	}
	for _, a := range needed {
		err := r.nl.AddrAdd(link, &netlink.Addr{IPNet: network(netip.PrefixFrom(a, 32))})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return failed(err, "virtual router %s: gateway address %s", spec.Name, a)
		}
	}
	return nil
}

// neededGateway are the gateway addresses that our own device has to have: no other link of the router has them, or they
// are not to be borrowed.
func (r *Router) neededGateway(spec Spec, own string) ([]netip.Addr, error) {
	if len(spec.Gateway) == 0 {
		return nil, nil
	}
	have, err := r.addresses(nil, unix.AF_INET)
	if err != nil {
		return nil, err
	}
	var needed []netip.Addr
	for _, a := range spec.Gateway {
		on, _, err := r.holders(have, a)
		if err != nil {
			return nil, err
		}
		if slices.Contains(spec.Own, a) || !slices.ContainsFunc(on, func(link string) bool { return link != own }) {
			needed = append(needed, a)
		}
	}
	return needed, nil
}

// trimGateway removes addresses that spec does not name, and the device when none is left.
func (r *Router) trimGateway(spec Spec) error {
	if len(spec.Gateway) == 0 {
		return r.removeGateway()
	}
	link, err := r.nl.LinkByName(gatewayLink(spec.Name))
	if missing(err) {
		return nil // other links have them all
	}
	if err != nil {
		return failed(err, "virtual router %s: gateway device", spec.Name)
	}
	have, err := r.addresses(link, unix.AF_INET)
	if err != nil {
		return err
	}
	for _, a := range have {
		if slices.Contains(spec.Gateway, address(a.IPNet)) {
			continue
		}
		if err := r.nl.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return failed(err, "virtual router %s: remove gateway address %s", spec.Name, a.IPNet)
		}
	}
	return nil
}

func (r *Router) removeGateway() error { return r.removeLink(gatewayLink(r.name)) }

// fallback devices appear by themselves in every namespace when a tunnel module is loaded; they hold nothing.
var fallback = []string{"lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}

// onlyOurs is nil when the namespace holds no link that somebody else brought.
func (r *Router) onlyOurs() error {
	links, err := r.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if name := l.Attrs().Name; !slices.Contains(fallback, name) {
			return fmt.Errorf("network namespace %s: %w: %s", r.space.name, ErrNotEmpty, name)
		}
	}
	return nil
}

// address of a network, the zero Addr if there is none.
func address(n *net.IPNet) netip.Addr {
	if n == nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	return a.Unmap()
}

// network turns a prefix into the library's form.
func network(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
