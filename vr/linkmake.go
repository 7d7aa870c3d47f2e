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

// outside is the namespace in which the process runs, from which interfaces come.
type outside struct {
	space *namespace
	nl    *netlink.Handle
	same  bool // as the router's
}

func (r *Router) outside() (*outside, error) {
	space, err := openNamespace("", false)
	if err != nil {
		return nil, err
	}
	o := &outside{space: space}
	if o.same, err = space.same(r.space); err == nil {
		o.nl, err = netlink.NewHandleAt(space.handle(), unix.NETLINK_ROUTE)
	}
	if err != nil {
		return nil, errors.Join(failed(err, "own network namespace: route netlink"), space.close())
	}
	return o, nil
}

func (o *outside) close() error {
	o.nl.Close()
	return o.space.close()
}

// wrong is an error of the kernel about a link.
func (r *Router) wrong(l Link, err error, what string) *LinkError {
	var known *LinkError
	if errors.As(err, &known) {
		return known
	}
	e := &LinkError{Router: r.name, Link: l.Name, Reason: LinkRefused, Text: "the kernel refuses: " + what, Err: err}
	var none *MissingFeature
	if errors.As(err, &none) {
		e.Reason, e.Text = LinkNoFeature, "the kernel lacks something that the link needs"
	}
	return e
}

// kindModules provide the kinds of link that the kernel makes.
var kindModules = map[LinkKind]string{LinkVLAN: "8021q", LinkVeth: "veth", LinkIPIP: "ipip", LinkGRE: "ip_gre"}

// add makes a link under its passing name; what a crash has left under that goes.
func (r *Router) add(nl *netlink.Handle, l Link, link netlink.Link) error {
	if err := r.removeLink(link.Attrs().Name); err != nil {
		return err
	}
	err := nl.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &MissingFeature{Feature: "links of kind " + l.Kind.String(), Module: kindModules[l.Kind]}
	}
	return err
}

// make makes a link that is not there, or fetches it.
func (r *Router) make(l Link) *LinkError {
	switch l.Kind {
	case LinkInterface:
		return r.fetch(l)
	case LinkVLAN:
		return r.makeVLAN(l)
	case LinkVeth:
		return r.makeVeth(l)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = passing(r.name, l.Name)
	var link netlink.Link
	if l.Kind == LinkIPIP {
		link = &netlink.Iptun{LinkAttrs: attrs, Local: l.Local.AsSlice(), Remote: l.Remote.AsSlice(), Ttl: l.TTL, PMtuDisc: 1, Link: uint32(r.vrf.index)}
	} else {
		link = &netlink.Gretun{
			LinkAttrs: attrs, Local: l.Local.AsSlice(), Remote: l.Remote.AsSlice(), IKey: l.Key, OKey: l.Key, Ttl: l.TTL, PMtuDisc: 1, Link: uint32(r.vrf.index),
		}
	}
	if err := r.add(r.nl, l, link); err != nil {
		if errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("another tunnel has these addresses: %w", err)
		}
		return r.wrong(l, err, "make the tunnel")
	}
	return r.finish(l)
}

// finish marks a link that has just been made and gives it its name.
func (r *Router) finish(l Link) *LinkError {
	link, err := r.nl.LinkByName(passing(r.name, l.Name))
	if err == nil {
		err = mark(r.nl, link, l.alias(r.name), l.Name)
	}
	if err != nil {
		return r.wrong(l, errors.Join(err, r.removeLink(passing(r.name, l.Name))), "name it")
	}
	r.settle(l)
	return nil
}

// settle prepares a link that is new in the namespace.
func (r *Router) settle(l Link) {
	_ = r.space.do(func() error { promoteSecondaries(l.Name); return nil })
}

// mark gives a link, which is down, its alias and its name. The alias first: from then on a crash leaves something that is
// recognised by it.
func mark(nl *netlink.Handle, link netlink.Link, alias, name string) error {
	if err := nl.LinkSetAlias(link, alias); err != nil {
		return err
	}
	return nl.LinkSetName(link, name)
}

// makeVLAN makes a VLAN on an interface outside, or on a link of the router.
func (r *Router) makeVLAN(l Link) *LinkError {
	nl := r.nl
	if !l.Inside {
		o, err := r.outside()
		if err != nil {
			return r.wrong(l, err, "look outside")
		}
		defer o.close()
		nl = o.nl
	}
	parent, err := nl.LinkByName(l.Device)
	if missing(err) {
		text := "interface " + l.Device + " does not exist in the namespace in which vrgate runs: plug it in, or name another"
		if l.Inside {
			text = "link " + l.Device + " of this virtual router, its parent, is missing"
		}
		return &LinkError{Router: r.name, Link: l.Name, Reason: LinkNoParent, Text: text}
	}
	if err != nil {
		return r.wrong(l, err, "find "+l.Device)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = passing(r.name, l.Name), parent.Attrs().Index
	if !l.Inside {
		attrs.Namespace = netlink.NsFd(r.space.fd)
	}
	err = r.add(nl, l, &netlink.Vlan{LinkAttrs: attrs, VlanId: int(l.VLAN), VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
	if err != nil {
		if errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("the interface has this VLAN already: %w", err)
		}
		return r.wrong(l, err, fmt.Sprintf("make VLAN %d on %s", l.VLAN, l.Device))
	}
	return r.finish(l)
}

// makeVeth makes a pair, and marks and names its other end, which the other router then sets up. What is left of an earlier
// pair has gone.
func (r *Router) makeVeth(l Link) *LinkError {
	text := "virtual router " + l.Router + ", which has the other end, does not run"
	waiting := &LinkError{Router: r.name, Link: l.Name, Reason: LinkNoRouter, Text: text}
	other := r.other(l.Router)
	if other == nil || other == r {
		return waiting
	}
	if l.Far {
		waiting.Text = "virtual router " + l.Router + " has not made the pair"
		return waiting
	}
	// The other router cannot close meanwhile, and nobody who holds this asks for another lock.
	other.joining.Lock()
	defer other.joining.Unlock()
	if other.left {
		return waiting
	}
	far := Link{Name: l.Peer, Kind: LinkVeth, Router: r.name, Peer: l.Name}
	if _, err := other.nl.LinkByName(far.Name); !missing(err) {
		if err != nil {
			return r.wrong(l, err, "look for the other end")
		}
		return &LinkError{
			Router: r.name, Link: l.Name, Reason: LinkNameTaken,
			Text: fmt.Sprintf("another interface of virtual router %s is called %s: rename one", l.Router, l.Peer),
		}
	}
	if err := other.removeLink(passing(other.name, far.Name)); err != nil {
		return r.wrong(l, err, "remove what was left of the other end")
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = passing(r.name, l.Name)
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = passing(other.name, far.Name), netlink.NsFd(other.space.fd)
	if err := r.add(r.nl, l, pair); err != nil {
		return r.wrong(l, err, "make the pair")
	}
	end, err := other.nl.LinkByName(pair.PeerName)
	if err == nil {
		err = mark(other.nl, end, far.alias(other.name), far.Name)
	}
	if err != nil {
		return r.wrong(l, errors.Join(err, r.removeLink(attrs.Name)), "name the other end")
	}
	other.settle(far)
	return r.finish(l)
}

// otherEnd says whether the other end of a pair that is there is where it belongs, or will not be before the other router runs.
func (r *Router) otherEnd(l Link) bool {
	other := r.other(l.Router)
	if l.Far || other == nil || other == r {
		return true
	}
	other.joining.Lock()
	defer other.joining.Unlock()
	if other.left {
		return true
	}
	end, err := other.nl.LinkByName(l.Peer)
	if err != nil {
		return !missing(err)
	}
	o, ours := linkOf(other.name, end)
	return ours && o.name == l.Peer
}

// fetch moves an interface into the router's namespace and gives it its name there.
func (r *Router) fetch(l Link) *LinkError {
	o, err := r.outside()
	if err != nil {
		return r.wrong(l, err, "look outside")
	}
	defer o.close()
	link, err := o.nl.LinkByName(l.Device)
	if missing(err) {
		// A crash, or a failure, while it was moved.
		link, err = o.nl.LinkByName(passing(r.name, l.Name))
	}
	if missing(err) {
		return &LinkError{
			Router: r.name, Link: l.Name, Reason: LinkNoInterface,
			Text: "interface " + l.Device + " does not exist in the namespace in which vrgate runs: plug it in, or name another",
		}
	}
	if err != nil {
		return r.wrong(l, err, "find "+l.Device)
	}
	a := link.Attrs()
	own, marked := parseOwnLink(a.Alias)
	switch {
	case marked && (own.router != r.name || own.was == nil):
		return &LinkError{
			Router: r.name, Link: l.Name, Reason: LinkNoInterface,
			Text: fmt.Sprintf("interface %s is link %s of virtual router %s", l.Device, own.name, own.router),
		}
	case !marked:
		own.was = &former{device: l.Device, mtu: a.MTU, up: a.Flags&net.FlagUp != 0, alias: a.Alias}
		if own.was.addresses, err = o.formerAddresses(link); err != nil {
			return r.wrong(l, err, "look at its addresses")
		}
	}
	if err := o.nl.LinkSetAlias(link, l.borrowed(r.name, *own.was)); err != nil {
		return r.wrong(l, err, "mark "+l.Device)
	}
	if o.same {
		if a.Name == l.Name {
			return nil
		}
		return r.renamed(l, link)
	}
	err = o.nl.LinkSetDown(link) // an interface that is up has no other name
	if err == nil {
		err = o.nl.LinkSetName(link, passing(r.name, l.Name))
	}
	if err == nil {
		err = o.nl.LinkSetNsFd(link, r.space.fd)
	}
	if err != nil {
		return r.wrong(l, err, "move "+l.Device)
	}
	moved, err := r.nl.LinkByName(passing(r.name, l.Name))
	if err != nil {
		return r.wrong(l, err, "find "+l.Device+", which was moved")
	}
	if e := r.renamed(l, moved); e != nil {
		return e
	}
	r.settle(l)
	return nil
}

// formerAddresses are those of an interface which are not ours. What comes by itself, by DHCP or from a router, is none of them where the
// interface is moved: it comes again.
func (o *outside) formerAddresses(link netlink.Link) (out []netip.Prefix, err error) {
	list, err := listAddresses(o.nl, link, unix.AF_UNSPEC)
	for _, a := range list {
		p, ok := prefixOf(a.IPNet)
		if ok && (o.same || a.Flags&unix.IFA_F_PERMANENT != 0 && a.Peer == nil) && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p)
		}
	}
	return out, err
}

// renamed gives a link its name.
func (r *Router) renamed(l Link, link netlink.Link) *LinkError {
	err := r.nl.LinkSetDown(link)
	if err == nil {
		err = r.nl.LinkSetName(link, l.Name)
	}
	if err != nil {
		return r.wrong(l, err, "name it "+l.Name)
	}
	return nil
}

// drop removes a link that we made, and gives back an interface: out of the VRF, with the name, MTU, addresses and alias that it had. The
// routes that others had by it are not given back.
func (r *Router) drop(link netlink.Link, own ownLink) error {
	a := link.Attrs()
	if own.was == nil {
		return r.removeLink(a.Name)
	}
	o, err := r.outside()
	if err != nil {
		return err
	}
	defer o.close()
	if o.same {
		err = errors.Join(r.strip(link, own), r.giveBack(o.nl, link, own, false))
	} else {
		err = r.nl.LinkSetDown(link)
		if err == nil {
			err = r.nl.LinkSetName(link, passing(r.name, own.name))
		}
		if err == nil && a.MasterIndex != 0 {
			err = r.nl.LinkSetNoMaster(link)
		}
		if err == nil {
			err = r.nl.LinkSetNsFd(link, o.space.fd)
		}
		if err == nil {
			link, err = o.nl.LinkByName(passing(r.name, own.name))
		}
		if err == nil {
			err = r.giveBack(o.nl, link, own, true)
		}
	}
	if missing(err) {
		return nil // unplugged
	}
	return failed(err, "virtual router %s: give interface %s back", r.name, own.was.device)
}

// giveBack undoes what was done to an interface which is outside.
func (r *Router) giveBack(nl *netlink.Handle, link netlink.Link, own ownLink, moved bool) error {
	if link.Attrs().Name != own.was.device {
		if err := errors.Join(nl.LinkSetDown(link), nl.LinkSetName(link, own.was.device)); err != nil {
			return err
		}
	}
	err := nl.LinkSetMTU(link, own.was.mtu)
	if moved {
		for _, p := range own.was.addresses {
			if e := nl.AddrAdd(link, &netlink.Addr{IPNet: network(p)}); !errors.Is(e, unix.EEXIST) {
				err = errors.Join(err, e)
			}
		}
	}
	if own.was.up {
		err = errors.Join(err, nl.LinkSetUp(link))
	} else {
		err = errors.Join(err, nl.LinkSetDown(link))
	}
	return errors.Join(err, nl.LinkSetAlias(link, own.was.alias))
}

// strip takes what is ours from an interface that stays in the namespace.
func (r *Router) strip(link netlink.Link, own ownLink) error {
	l, known := r.linkSpec(own.name)
	if known {
		for _, a := range l.Addresses {
			if slices.Contains(own.was.addresses, a) {
				continue
			}
			if err := r.nl.AddrDel(link, &netlink.Addr{IPNet: network(a)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return err
			}
		}
	}
	if r.vrf.index != 0 && link.Attrs().MasterIndex == r.vrf.index {
		return r.nl.LinkSetNoMaster(link)
	}
	return nil
}
