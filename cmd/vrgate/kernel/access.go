package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"vrgate/controlplane"
	"vrgate/controlplane/aaa"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
	"vrgate/vr"
	"vrgate/xfrm"
)

// access is a dynamic subscriber's place in the kernel: a route into the XFRM interface of its
// terminating router, and policies that only its own SAs satisfy.
type access struct {
	id       subscriber.ID
	conn     ike.ConnID
	link     *vr.Access
	address  netip.Prefix
	behind   []aaa.Route  // networks that its SAs may name too
	route    netip.Prefix // what of it has a route, and the networks that have
	routes   []aaa.Route
	policies []xfrm.Policy // guarded by books.changing once the access is known
	shaper   *vr.Shaper
	inside   string // the name of the router that link is to
}

// anywhere is the other side of a subscriber's policies: what it may reach is said by the
// selectors of its SAs.
var anywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

func newAccess(f subscriber.OpenAccess, link *vr.Access) *access {
	a := &access{id: f.ID, conn: ike.ConnID(f.Conn), link: link, address: netip.PrefixFrom(f.Address, f.Address.BitLen()), behind: behind(f.Routes, f.Address), inside: f.Terminating}
	if f.Link.AccessRoutes {
		a.routes = a.behind
	}
	for _, network := range a.networks() {
		p := xfrm.Policy{Mode: xfrm.Tunnel, IfID: link.IfID(), Reqid: xfrm.Tag(f.Conn), Local: f.Local.Addr(), Remote: f.Remote.Addr()}
		p.Dir, p.Src, p.Dst = xfrm.PolicyOut, anywhere, network
		a.policies = append(a.policies, p)
		for _, dir := range []xfrm.PolicyDirection{xfrm.PolicyForward, xfrm.PolicyIn} {
			p.Dir, p.Src, p.Dst = dir, network, anywhere
			a.policies = append(a.policies, p)
		}
	}
	return a
}

// networks are its address and what is behind it, each once.
func (a *access) networks() []netip.Prefix {
	all := []netip.Prefix{a.address}
	for _, r := range a.behind {
		if !slices.Contains(all, r.Prefix) {
			all = append(all, r.Prefix)
		}
	}
	return all
}

// defaultMTU is that of a subscriber's route, in bytes, where none is given: room for ESP in UDP
// on an Ethernet path with all but the largest padding, and what JunosE takes (J14 b).
const defaultMTU = 1440

// OpenAccess implements [controlplane.Dataplane].
func (d *dataplane) OpenAccess(f subscriber.OpenAccess) (name string, ifindex int, err error) {
	if f.MTU == 0 {
		f.MTU = defaultMTU
	}
	end, runs := d.kernel.router(f.Terminating)
	if !runs {
		return "", 0, noTerminating(f.Terminating)
	}
	limits, err := traffic(end.config, f.Traffic)
	if err != nil {
		return "", 0, err
	}
	link, err := d.accessLink(end.vr, linkKey{f.Terminating, linkPolicy(f.Link)}, f.MTU)
	if err != nil {
		return "", 0, typed(err)
	}
	a := newAccess(f, link)
	undo := access{link: link} // what is there so far
	err = d.makeAccess(a, &undo, f, limits)
	if err == nil {
		err = d.admitAccess(a, &undo, linkKey{f.Terminating, linkPolicy(f.Link)})
	}
	if err != nil {
		_ = d.removeAccess(&undo)
		return "", 0, typed(err)
	}
	return link.Name(), link.Index(), nil
}

// makeAccess makes what a says in the kernel, and notes in made what it has made.
func (d *dataplane) makeAccess(a, made *access, f subscriber.OpenAccess, limits vr.Traffic) (err error) {
	// The route first: it alone tells that the address is in use, and what it brings before
	// there is a policy is dropped.
	if f.Link.AccessRoutes {
		if err := a.link.AddRoute(a.address, f.Gateway, f.MTU); err != nil {
			return err
		}
		made.route, a.route = a.address, a.address
	} else if err := a.link.Fit(f.MTU); err != nil {
		return err
	}
	for _, r := range a.routes {
		if err := a.link.AddNetwork(r.Prefix, f.Gateway, f.MTU, r.Metric); err != nil {
			return routed(err, r.Prefix)
		}
		made.routes = append(made.routes, r)
	}
	if a.shaper, err = a.link.Shaper(a.networks()...); err != nil {
		return err
	}
	made.shaper = a.shaper
	return a.shaper.Set(limits)
}

// admitAccess makes the policies of an access, notes in made which, and has it known.
func (d *dataplane) admitAccess(a, made *access, key linkKey) error {
	d.books.changing.RLock()
	defer d.books.changing.RUnlock()
	for _, p := range a.policies {
		err := d.xfrm.AddPolicy(p)
		if errors.Is(err, xfrm.ErrExists) {
			err = errors.Join(vr.ErrExists, err)
		}
		if err != nil {
			return err
		}
		made.policies = append(made.policies, p)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.links[key] != a.link {
		return errNoAccess
	}
	d.accesses[a.id], d.accessOf[a.conn] = a, a
	d.usageLocked(a.conn)
	return nil
}

// errNoAccess says that the XFRM interface went while something of a subscriber was made.
var errNoAccess = &controlplane.DataplaneError{Reason: subscriber.ReasonInterface, Text: "the subscriber's interface has gone"}

// removeAccess removes what there is of an access. Nothing passes without policies, so the rates and rules go last.
func (d *dataplane) removeAccess(a *access) error {
	var err error
	if a.route.IsValid() {
		err = a.link.DelRoute(a.route)
	}
	for _, r := range a.routes {
		err = errors.Join(err, a.link.DelNetwork(r.Prefix, r.Metric))
	}
	err = errors.Join(err, d.removePolicies(a))
	if a.shaper != nil {
		err = errors.Join(err, a.shaper.Close())
	}
	return err
}

func (d *dataplane) removePolicies(a *access) error {
	d.books.changing.RLock()
	defer d.books.changing.RUnlock()
	var err error
	for _, p := range a.policies {
		err = errors.Join(err, d.xfrm.RemovePolicy(p))
	}
	a.policies = nil
	return err
}

// accessLink is the interface to a terminating router, made when it is first needed.
func (d *dataplane) accessLink(router *vr.Router, key linkKey, mtu int) (*vr.Access, error) {
	d.making.Lock()
	defer d.making.Unlock()
	d.mu.Lock()
	link, lost := d.links[key], d.lost
	d.lost = nil
	d.mu.Unlock()
	for _, l := range lost {
		_ = l.Close() // of what has gone or is of no use; the next one of its name replaces it
	}
	if link != nil {
		return link, nil
	}
	link, err := d.vr.Access(router, mtu, key.policy)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.links[key] = link
	d.mu.Unlock()
	if err := d.poller.Add(link.FD(), func() { d.linkNews(key, link) }); err != nil {
		d.mu.Lock()
		delete(d.links, key)
		d.mu.Unlock()
		return nil, errors.Join(err, link.Close())
	}
	return link, nil
}

// linkNews looks after an interface. When it has gone, or somebody has set it down and its routes
// with it, its subscribers are over (J9).
func (d *dataplane) linkNews(key linkKey, link *vr.Access) {
	if !link.Lost() {
		return
	}
	d.poller.Detach(link.FD())
	d.mu.Lock()
	if d.links[key] == link {
		delete(d.links, key)
		d.lost = append(d.lost, link)
	}
	var ids []subscriber.ID
	for id, a := range d.accesses {
		if a.link == link {
			ids = append(ids, id)
		}
	}
	d.mu.Unlock()
	for _, id := range ids {
		d.in.SessionLost(id)
	}
}

// CloseAccess implements [controlplane.Dataplane]. SAs that are left are removed by who installed
// them; without policies nothing passes them.
func (d *dataplane) CloseAccess(id subscriber.ID) (subscriber.Counters, error) {
	d.mu.Lock()
	a := d.accesses[id]
	d.mu.Unlock()
	if a == nil {
		return subscriber.Counters{}, nil
	}
	err := d.removeAccess(a)
	counters, _ := d.Traffic(a.conn)
	d.mu.Lock()
	delete(d.accesses, id)
	if d.accessOf[a.conn] == a {
		delete(d.accessOf, a.conn)
	}
	d.dropUsageLocked(a.conn)
	d.mu.Unlock()
	return counters, typed(err)
}

// closeLinks removes the interfaces; their subscribers are closed.
func (d *dataplane) closeLinks() error {
	var err error
	for _, l := range d.lost {
		err = errors.Join(err, l.Close())
	}
	for _, l := range d.links {
		err = errors.Join(err, l.Close())
	}
	return err
}

// access is the place of a connection's subscriber; nil when it has none.
func (d *dataplane) access(conn ike.ConnID) *access {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.accessOf[conn]
}

// moveAccess makes a subscriber's packets go to its new outer address. Port numbers are the SAs'.
func (d *dataplane) moveAccess(conn ike.ConnID, remote netip.Addr) error {
	a := d.access(conn)
	if a == nil {
		return nil
	}
	d.books.changing.RLock()
	defer d.books.changing.RUnlock()
	for i, p := range a.policies {
		if p.Dir != xfrm.PolicyOut || p.Remote == remote {
			continue
		}
		p.Remote = remote
		if err := d.xfrm.UpdatePolicy(p); err != nil {
			return err
		}
		a.policies[i] = p
	}
	return nil
}

// sa is an SA as the kernel package wants it, in tunnel mode tied to its subscriber's interface.
func (d *dataplane) sa(f ike.SA) (xfrm.SA, error) {
	sa, err := xfrmSA(f)
	if err == nil && f.Static != "" {
		return d.staticSA(f, sa)
	}
	if err != nil || !f.Tunnel {
		return sa, err
	}
	a := d.access(f.Conn)
	if a == nil {
		return sa, errNoAccess
	}
	network, err := a.side(f.RemoteNet)
	if err != nil {
		return sa, err
	}
	if sa.Dir == xfrm.In {
		sa.Selector.Src, sa.SetMark = network, a.link.Mark()
	} else {
		sa.Selector.Dst = network
	}
	sa.IfID = a.link.IfID()
	return sa, nil
}

// side is what passes an SA that the peer says is for a network: the network, where it is behind the subscriber, or else
// its address. A wider selector that the profile allows the peer to name is only its idea of its side.
func (a *access) side(named netip.Prefix) (netip.Prefix, error) {
	for _, r := range a.behind {
		if r.Prefix.Bits() <= named.Bits() && r.Prefix.Contains(named.Addr()) {
			return named, nil
		}
	}
	if !named.Contains(a.address.Addr()) {
		return netip.Prefix{}, fmt.Errorf("%w: an SA for %v of a subscriber whose address is %v", xfrm.ErrInvalid, named, a.address.Addr())
	}
	return a.address, nil
}
