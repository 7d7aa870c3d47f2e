package vr

import (
	"errors"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sweep removes from a namespace ("" is the process's own) the tables, gateway devices, access interfaces, those of static tunnels, links and VRF
// devices that a crashed predecessor left for routers that are configured no more. Routers named in keep, and those that a
// process is running, are left alone; a VRF device stays while it has slaves. It returns the names of the
// routers it has cleaned up after. A missing namespace is fine.
func Sweep(namespace string, keep []string) ([]string, error) {
	space, err := openNamespace(namespace, false)
	var none *NoNamespace
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer space.close()
	if err := space.sweepXfrmLinks(keep); err != nil {
		return nil, err
	}
	names, err := space.leftovers()
	if err != nil {
		return nil, err
	}
	var swept []string
	for _, name := range names {
		if slices.Contains(keep, name) {
			continue
		}
		done, err := space.sweep(name)
		if err != nil {
			return swept, err
		}
		if done {
			swept = append(swept, name)
		}
	}
	return swept, nil
}

// sweepXfrmLinks removes the access interfaces and those of static tunnels to routers of the namespace that no process runs. An
// interface belongs to the process that runs the router in which it ends, which is the one that runs the other router
// too; one that it has not moved yet is where the other router is.
func (n *namespace) sweepXfrmLinks(keep []string) error {
	nl, err := netlink.NewHandleAt(n.handle(), unix.NETLINK_ROUTE)
	if err != nil {
		return failed(err, "network namespace %s: route netlink", n.name)
	}
	defer nl.Close()
	r := &Router{space: n, nl: nl}
	links, err := r.links()
	errs := []error{err}
	for _, l := range links {
		from, to, ours := accessOf(l)
		if !ours {
			from, to, _, ours = tunnelOf(l)
		}
		if !ours || slices.Contains(keep, to) {
			continue
		}
		mine, err := n.claims(from, to)
		if errors.Is(err, ErrInUse) {
			continue
		}
		if err == nil {
			err = r.removeXfrmLink(l.Attrs().Name)
		}
		errs = append(errs, err, mine.release())
	}
	return errors.Join(errs...)
}

// claims claims both routers of an interface, which may be one.
func (n *namespace) claims(from, to string) (claim, error) {
	mine, err := n.claim(to, 0)
	if err != nil || from == to {
		return mine, err
	}
	other, err := n.claim(from, 0)
	if err != nil {
		return nil, errors.Join(err, mine.release())
	}
	return append(mine, other...), nil
}

// leftovers are the names of the routers, running or not, that have a table, a gateway device or a link.
func (n *namespace) leftovers() ([]string, error) {
	var names []string
	c, err := nftables.New(nftables.WithNetNSFd(n.fd))
	if err != nil {
		return nil, failed(err, "network namespace %s: nftables", n.name)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil && !errors.Is(err, unix.EPROTONOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, failed(err, "network namespace %s: list nftables tables", n.name)
	}
	for _, t := range tables {
		if name, ok := strings.CutPrefix(t.Name, tableName("")); ok {
			names = append(names, name)
		}
	}
	nl, err := netlink.NewHandleAt(n.handle(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, failed(err, "network namespace %s: route netlink", n.name)
	}
	defer nl.Close()
	links, err := (&Router{nl: nl}).links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if name, ok := strings.CutPrefix(l.Attrs().Alias, gatewayAlias("")); ok && l.Attrs().Name == gatewayLink(name) {
			names = append(names, name)
		}
		if own, ours := parseOwnLink(l.Attrs().Alias); ours {
			names = append(names, own.router)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// sweep removes what one router has left; false when a process is running it.
func (n *namespace) sweep(name string) (bool, error) {
	mine, err := n.claim(name, 0)
	if errors.Is(err, ErrInUse) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer mine.release()
	nl, err := netlink.NewHandleAt(n.handle(), unix.NETLINK_ROUTE)
	if err != nil {
		return false, failed(err, "network namespace %s: route netlink", n.name)
	}
	defer nl.Close()
	tc, err := n.control()
	if err != nil {
		return false, err
	}
	defer tc.close()
	r := &Router{name: name, space: n, nl: nl, tc: tc, tally: tallyOf(name), table: unix.RT_TABLE_MAIN}
	// The gateway device tells the VRF, which says which table and whether we made it.
	gateway, err := nl.LinkByName(gatewayLink(name))
	if missing(err) {
		gateway, err = nil, nil
	}
	if err != nil {
		return false, failed(err, "virtual router %s: gateway device", name)
	}
	if gateway != nil && gateway.Attrs().MasterIndex != 0 {
		master, err := nl.LinkByIndex(gateway.Attrs().MasterIndex)
		if err != nil && !missing(err) {
			return false, failed(err, "virtual router %s: VRF", name)
		}
		if vrf, ok := master.(*netlink.Vrf); ok && err == nil {
			r.table = int(vrf.Table)
			r.vrf = device{name: vrf.Name, index: vrf.Index, made: vrf.Alias == ownAlias}
		}
	}
	// Routes went with the subscribers' links. What is left is in the table of a VRF that we made; in another
	// table they may belong to a router that runs.
	if r.vrf.made {
		err = r.removeRoutes()
	}
	return true, errors.Join(r.removeTable(), err, r.removeTally(0), r.dropLinks(nil, nil), r.removeGateway(), r.removeVRF())
}
