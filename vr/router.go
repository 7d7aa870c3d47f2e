package vr

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Spec is the desired place of one virtual router.
type Spec struct {
	// Name of the router, 1..64 letters, digits, '.', '_' or '-'. It names our kernel objects.
	Name string
	// Namespace under /run/netns; "" is the process's own.
	Namespace string
	// Create makes the namespace when it is missing. It survives Close; Remove removes it.
	Create bool
	// VRF is the VRF device inside the namespace, made with Table when it is missing; "" is the main table.
	VRF   string
	Table uint32
	// Gateway addresses are ours towards unnumbered subscribers: IPv4, each a /32 on a dummy device of ours,
	// unless a link of the router has it already.
	Gateway []netip.Addr
	// Own are those of Gateway that are on our device even where another link has them, which may lose them at any time.
	Own []netip.Addr
	// Server addresses are those on which IKE and L2TP are served, configured already. Those of IPv6 are for L2TP without IPsec.
	Server []netip.Addr
	// PlainL2TP allows L2TP without IPsec. When false, the kernel drops clear-text datagrams to the L2TP port, but for those to
	// a TunnelSocket without IPsec: a tunnel that we have asked another LNS for.
	PlainL2TP bool
	// SubscriberMTU in bytes, 0 for 1400: what LinkPolicy.ClampMSS takes for the MTU of the subscribers' links in the
	// direction in which the kernel cannot tell, that is from subscribers of a router in a VRF. 576 to 1500.
	SubscriberMTU int
	// Links join the router to its private network; at most MaxLinks. One that cannot be there yet is made by Mend when it can.
	Links []Link
	// Find returns another router that runs, nil if it does not: links of kind LinkVeth need it. It must not call this
	// router's methods.
	Find func(name string) *Router
}

// Router is one virtual router in the kernel.
type Router struct {
	name  string
	space *namespace
	nl    *netlink.Handle
	tc    *control
	tally tally
	table int // routing table
	mine  claim

	mu        sync.Mutex // guards what follows
	spec      Spec
	vrf       device
	mss       []uint16  // the bounds of links, by number less 1
	installed []ruleset // nftables, without the bounds
	closed    bool

	// linking guards what follows. It is taken before mu; who writes spec, vrf or closed holds both, so that who looks after links
	// needs this one only and keeps nobody waiting who makes a subscriber's link.
	linking  sync.Mutex
	find     func(string) *Router
	troubles map[string]*LinkError // by name of the link; nil: it is as it should be

	// joining is held by another router that makes a pair of links with this one. It may be taken while other locks of any router
	// are held; who holds it takes no lock.
	joining sync.Mutex
	left    bool // no pairs any more

	xfrmLinks handles // for those that live here

	// bearing is held while an XFRM interface of the router is made. It is taken before all others.
	bearing sync.Mutex
}

// device is a link of the router; the zero value is none.
type device struct {
	name  string
	index int
	made  bool // by us, in this life or an earlier one
}

// Open makes spec true and returns the router. Leftovers of ours under the same name are taken over or
// replaced. When a step fails, what Open made is removed again.
//
// Errors: *BadSpec, *NoNamespace, *NoAddress, *MissingFeature, ErrPermission, ErrInUse when a router of this
// name, or with this routing table, runs in the namespace already, in this process or another, and what the
// kernel says.
func Open(spec Spec) (*Router, error) {
	spec = spec.clone()
	if err := spec.check(); err != nil {
		return nil, err
	}
	space, err := openNamespace(spec.Namespace, spec.Create)
	if err != nil {
		return nil, err
	}
	r := &Router{name: spec.Name, space: space, table: unix.RT_TABLE_MAIN, tally: tallyOf(spec.Name), troubles: map[string]*LinkError{}}
	if spec.VRF != "" {
		r.table = int(spec.Table)
	}
	if r.mine, err = space.claim(spec.Name, r.table); err != nil {
		return nil, errors.Join(err, space.abandon())
	}
	if r.nl, err = netlink.NewHandleAt(space.handle(), unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(failed(err, "virtual router %s: route netlink", spec.Name), r.mine.release(), space.abandon())
	}
	if r.tc, err = space.control(); err != nil {
		return nil, errors.Join(err, r.release(), space.abandon())
	}
	// Access interfaces and tunnels are made by running routers only, so these are a predecessor's. They go first: their SAs
	// and policies may be there still.
	if err := errors.Join(r.removeAccess(), r.removeTunnels()); err != nil {
		return nil, errors.Join(err, r.undo())
	}
	if err := r.removeTally(0); err != nil {
		return nil, errors.Join(err, r.undo())
	}
	if err := r.Set(spec); err != nil {
		return nil, errors.Join(err, r.undo())
	}
	return r, nil
}

// Set goes from the present Spec to the given one, adding before it deletes. It may also be called with an
// unchanged Spec, to repair what somebody else has destroyed (nft flush ruleset, a deleted address). Sockets
// stay as they are, and so do links that have not changed; a link that cannot be there is no failure, see [Router.Links]. Name, Namespace, VRF and Table cannot change: *BadSpec. When a step fails, the present Spec holds.
func (r *Router) Set(spec Spec) error {
	spec = spec.clone()
	if err := spec.check(); err != nil {
		return err
	}
	r.linking.Lock()
	defer r.linking.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fmt.Errorf("virtual router %s: %w", r.name, ErrClosed)
	}
	if r.spec.Name != "" {
		if err := r.spec.sameplace(spec); err != nil {
			return err
		}
	}
	if err := r.space.sysctls(slices.ContainsFunc(spec.Server, netip.Addr.Is6)); err != nil {
		return fmt.Errorf("virtual router %s: %w", r.name, err)
	}
	vrf, err := r.ensureVRF(spec)
	if err != nil {
		return err
	}
	r.vrf = vrf
	err = r.setLinks(spec, r.spec.Links)
	if err == nil {
		err = r.serves(spec)
	}
	if err == nil {
		err = r.addGateway(spec)
	}
	if err == nil {
		err = r.installTable(spec)
	}
	if err != nil {
		if r.spec.Name != "" { // else Open removes everything
			err = errors.Join(err, r.trimGateway(r.spec), r.setLinks(r.spec, spec.Links))
		}
		return err
	}
	r.spec = spec
	return r.trimGateway(spec)
}

// Name of the router.
func (r *Router) Name() string { return r.name }

// NetNS is a file descriptor of the router's namespace, for those who dial netlink sockets in it. It stays
// valid until Close and must not be closed by the caller.
func (r *Router) NetNS() int { return r.space.fd }

// Do runs fn on a thread that is in the router's namespace. fn must not start goroutines that rely on it.
// ErrClosed after Close.
func (r *Router) Do(fn func() error) error {
	if _, err := r.device(); err != nil {
		return err
	}
	return r.space.do(fn)
}

// device is the VRF device of a router that is open.
func (r *Router) device() (device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return device{}, fmt.Errorf("virtual router %s: %w", r.name, ErrClosed)
	}
	return r.vrf, nil
}

// VRF is the interface index of the router's VRF device, 0 when it routes by the main table. Subscribers'
// links become its slaves.
func (r *Router) VRF() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vrf.index
}

// Close removes everything of ours: nftables table, routes, links (interfaces are given back), gateway device, and a VRF device if we made it and
// nobody else's link is in it. A namespace stays. Sockets of the router are closed by their owners, before.
// Close is idempotent.
func (r *Router) Close() error {
	r.linking.Lock()
	defer r.linking.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.leave()
	err := r.clean()
	return errors.Join(err, r.release(), r.space.close())
}

// release closes what belongs to the process alone.
func (r *Router) release() error {
	r.nl.Close()
	if r.tc != nil {
		r.tc.close()
	}
	return r.mine.release()
}

// Remove closes the router and removes its namespace if we made it. ErrNotEmpty when links are in the namespace
// that are not ours: then it stays.
func (r *Router) Remove() error {
	r.linking.Lock()
	defer r.linking.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fmt.Errorf("virtual router %s: %w", r.name, ErrClosed)
	}
	r.closed = true
	r.leave()
	err := r.clean()
	if err == nil && r.space.made {
		if err = r.onlyOurs(); err == nil {
			err = r.space.unlink()
		}
	}
	return errors.Join(err, r.release(), r.space.close())
}

// undo is Close after a failed Open: the namespace goes too if this Open made it.
func (r *Router) undo() error {
	r.linking.Lock()
	defer r.linking.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.leave()
	err := r.clean()
	return errors.Join(err, r.release(), r.space.abandon())
}

// clean removes our objects from the namespace, in the order that never leaves a route without its address.
func (r *Router) clean() error {
	return errors.Join(r.removeTable(), r.removeAccess(), r.removeTunnels(), r.removeTally(tallyPatience), r.removeRoutes(), r.dropLinks(nil, nil), r.removeGateway(), r.removeVRF())
}

// clone copies the slices, puts addresses into one form and fills in defaults.
func (s Spec) clone() Spec {
	tidy := func(in []netip.Addr) []netip.Addr {
		out := make([]netip.Addr, 0, len(in))
		for _, a := range in {
			out = append(out, a.Unmap())
		}
		slices.SortFunc(out, netip.Addr.Compare)
		return slices.Compact(out)
	}
	s.Gateway, s.Own, s.Server = tidy(s.Gateway), tidy(s.Own), tidy(s.Server)
	if s.SubscriberMTU == 0 {
		s.SubscriberMTU = defaultMTU
	}
	s.Links = slices.Clone(s.Links)
	for i, l := range s.Links {
		s.Links[i] = l.clone()
	}
	return s
}

const (
	maxName     = 64 // characters of a router's name
	maxLinkName = unix.IFNAMSIZ - 1

	// defaultMTU leaves room for ESP in UDP with every algorithm on an Ethernet path.
	defaultMTU = 1400
	minMTU     = 576 // RFC 791: every host takes that
	maxMTU     = 1500
)

// check finds what cannot be asked for.
func (s Spec) check() error {
	bad := func(format string, args ...any) error {
		return &BadSpec{Router: s.Name, Reason: fmt.Sprintf(format, args...)}
	}
	if s.Name == "" || len(s.Name) > maxName || strings.Trim(s.Name, nameCharacters) != "" {
		return bad("the name must be 1 to %d letters, digits, '.', '_' or '-'", maxName)
	}
	if s.Namespace != "" && !validPathElement(s.Namespace) {
		return bad("%q cannot be the name of a network namespace", s.Namespace)
	}
	if s.Create && s.Namespace == "" {
		return bad("a namespace to be created needs a name")
	}
	if s.VRF != "" && (len(s.VRF) > maxLinkName || !validPathElement(s.VRF)) {
		return bad("%q cannot be the name of a VRF device", s.VRF)
	}
	switch {
	case s.VRF != "" && s.Table == 0:
		return bad("VRF %s needs a routing table number", s.VRF)
	case s.VRF == "" && s.Table != 0:
		return bad("routing table %d without a VRF", s.Table)
	case s.Table >= unix.RT_TABLE_DEFAULT && s.Table <= unix.RT_TABLE_LOCAL:
		return bad("routing table %d belongs to the system", s.Table)
	}
	if s.SubscriberMTU < minMTU || s.SubscriberMTU > maxMTU {
		return bad("subscribers' MTU %d is not %d to %d", s.SubscriberMTU, minMTU, maxMTU)
	}
	for _, a := range s.Gateway {
		if !a.Is4() || !unicast(a) {
			return bad("%s is not a unicast IPv4 address", a)
		}
	}
	for _, a := range s.Own {
		if !slices.Contains(s.Gateway, a) {
			return bad("%s cannot be its own and no gateway address", a)
		}
	}
	for _, a := range s.Server {
		if !unicast(a) || a.Is6() && a.IsLinkLocalUnicast() {
			return bad("%s is not a unicast address of more than one link", a)
		}
	}
	return s.checkLinks()
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback()
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// validPathElement: a name that is a single element of a path and that tools can print.
func validPathElement(s string) bool {
	return s != "." && s != ".." && len(s) < 256 && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == '/' || c == 0x7f })
}

// sameplace: what a running router cannot change.
func (s Spec) sameplace(to Spec) error {
	var what string
	switch {
	case s.Name != to.Name:
		what = "name"
	case s.Namespace != to.Namespace:
		what = "namespace"
	case s.VRF != to.VRF || s.Table != to.Table:
		what = "VRF"
	default:
		return nil
	}
	return &BadSpec{Router: s.Name, Reason: sentence("its", what, "cannot change while it runs")}
}
