package vr

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Access is the interface through which a router's IPsec tunnels reach the router in which their subscribers
// end: an XFRM interface of the first router's namespace that lives in the second one's. There is one for each
// pair of routers and each link policy that need it, however many subscribers there are. What is routed into it is encrypted by the
// policy of its number and the destination's address, or dropped; what such an SA has decrypted comes out of it.
//
// All methods may be called by several goroutines at once.
type Access struct {
	xfrmLink
	// shared is the traffic control of its subscribers.
	shared *shared
}

// Access makes the interface for r's tunnels whose subscribers end in router to, which may be r itself, with an MTU in bytes of at least
// mtu. What a predecessor has left under its name is replaced. The caller makes one for each pair and policy, and closes it
// before it makes the next and before it closes r: the policy of gate.go is known by the number alone.
//
// Errors: *MissingFeature; *BadSpec; ErrClosed; and what the kernel says.
func (r *Router) Access(to *Router, mtu int, policy LinkPolicy) (*Access, error) {
	if mtu < minAccessMTU || mtu > maxAccessMTU {
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("an access interface's MTU of %d is not %d to %d", mtu, minAccessMTU, maxAccessMTU)}
	}
	group, err := to.LinkGroup(policy)
	if err != nil {
		return nil, err
	}
	what := policy.text()
	name := accessLink(r.name, to.name, what)
	a := &Access{xfrmLink: xfrmLink{
		title: "access interface " + name, name: name, passing: name, alias: accessAlias(r.name, to.name, what),
		number: accessNumber(r.name, to.name, what), group: group, mtu: mtu,
	}}
	place, err := r.place(to)
	if err != nil {
		return nil, err
	}
	tc, err := to.space.control()
	if err != nil {
		return nil, err
	}
	a.shared = &shared{router: to.name, tc: tc, tally: to.tally, arises: startLooked}
	if err := a.open(place, a.prepare); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// An access interface's MTU in bytes; IPv4 works from 68, clients do from 160.
const (
	minAccessMTU = 160
	maxAccessMTU = 9000
)

// prepare makes the place for traffic control, which subscribers would notice later.
func (a *Access) prepare() error {
	a.shared.link = a.index
	var none *MissingFeature
	if err := a.shared.hold(); err != nil && !errors.As(err, &none) { // who needs it is told then
		return failed(err, "%s: place for traffic control", a.title)
	}
	return nil
}

// Lost reads what has happened and says whether the interface has gone, or is down, which has taken its routes.
// An interface that is lost stays so: Close it and make another.
func (a *Access) Lost() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return true
	}
	a.read()
	return a.fate != fine
}

// Mend puts back the policy in the terminating router's namespace that lets in what the interface brings, where it needs one and somebody
// has removed it. It asks the kernel one question. ErrClosed.
func (a *Access) Mend() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fmt.Errorf("%s: %w", a.title, ErrClosed)
	}
	return a.mendGate()
}

// Close removes the interface with its routes. It is idempotent.
func (a *Access) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	defer a.shared.tc.close()
	return a.remove()
}

// AddRoute adds an access route: dst by the interface, in the terminating router's table, with prefsrc as source
// of what the router itself sends (invalid, or no address of that router's: the kernel's choice) and an MTU of at most mtu bytes. The interface's MTU
// grows when it is smaller. ErrExists when dst is routed already.
func (a *Access) AddRoute(dst netip.Prefix, prefsrc netip.Addr, mtu int) error {
	return a.AddNetwork(dst, prefsrc, mtu, 0)
}

// AddNetwork adds a route to a network behind a subscriber, as AddRoute, with a metric; 0 is best. ErrExists when there is
// a route to it with that metric.
func (a *Access) AddNetwork(dst netip.Prefix, prefsrc netip.Addr, mtu int, metric uint32) error {
	route, err := accessRoute(a.name, dst, a.index, a.table)
	if err != nil {
		return err
	}
	if prefsrc.IsValid() {
		route.Src = prefsrc.Unmap().AsSlice()
	}
	route.MTU, route.Priority = mtu, int(metric)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fmt.Errorf("%s: %w", a.title, ErrClosed)
	}
	if err := a.fit(mtu); err != nil {
		return err
	}
	return failed(addRoute(a.nl, route), "%s: add route %s", a.title, dst)
}

// Fit makes the interface's MTU at least mtu bytes, as AddRoute does, for a subscriber to which somebody else makes a route.
func (a *Access) Fit(mtu int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fmt.Errorf("%s: %w", a.title, ErrClosed)
	}
	return a.fit(mtu)
}

func (a *Access) fit(mtu int) error {
	if mtu <= a.mtu {
		return nil
	}
	if err := a.nl.LinkSetMTU(&netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Index: a.index}}, mtu); err != nil {
		return failed(err, "%s: MTU %d", a.title, mtu)
	}
	a.mtu = mtu
	return nil
}

// DelRoute removes a route that AddRoute has added. A missing route or interface, and a closed Access, are success: the routes
// went with the interface.
func (a *Access) DelRoute(dst netip.Prefix) error { return a.DelNetwork(dst, 0) }

// DelNetwork removes a route that AddNetwork has added, as DelRoute.
func (a *Access) DelNetwork(dst netip.Prefix, metric uint32) error {
	route, err := accessRoute(a.name, dst, a.index, a.table)
	if err != nil {
		return err
	}
	route.Priority = int(metric)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	err = a.nl.RouteDel(route)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return failed(err, "%s: remove route %s", a.title, dst)
}

const accessPrefix = "vrx"

// accessLink is the name of an access interface: within the 15 characters that the kernel allows, and different
// for every pair of routers and every policy.
func accessLink(from, to, policy string) string {
	sum := sha256.Sum256([]byte(from + " " + to + policy)) // no name has a space
	return accessPrefix + hex.EncodeToString(sum[:6])
}

// accessAlias says which routers the interface joins.
func accessAlias(from, to, policy string) string { return ownAlias + " " + from + " to " + to + policy }

// accessOf is the reverse of accessAlias.
func accessOf(link netlink.Link) (from, to string, ours bool) {
	rest, ok := strings.CutPrefix(link.Attrs().Alias, ownAlias+" ")
	from, to, ok2 := strings.Cut(rest, " to ")
	policy := ""
	if at := strings.IndexByte(to, ' '); at >= 0 {
		to, policy = to[:at], to[at:]
	}
	return from, to, ok && ok2 && link.Type() == (&netlink.Xfrmi{}).Type() && link.Attrs().Name == accessLink(from, to, policy)
}

// accessNumber is where the search for the interface's number begins: far above what people give by hand.
func accessNumber(from, to, policy string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(from + " " + to + policy))
	return 0x56000000 | h.Sum32()&0xffffff
}

// removeAccess removes the access interfaces in the router's namespace that are from it or to it.
func (r *Router) removeAccess() error {
	links, err := r.links()
	errs := []error{err}
	for _, l := range links {
		if from, to, ours := accessOf(l); ours && (from == r.name || to == r.name) {
			errs = append(errs, r.removeXfrmLink(l.Attrs().Name))
		}
	}
	return errors.Join(errs...)
}
