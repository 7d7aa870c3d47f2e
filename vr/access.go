package vr

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"strings"
	"sync"

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
	name  string
	index int
	ifID  uint32
	// number is where the search for ifID begins.
	number uint32
	alias  string
	group  uint32
	table  int             // of the terminating router
	nl     *netlink.Handle // in its namespace: the router may close first
	// shared is the traffic control of its subscribers.
	shared *shared

	news int    // netlink socket with the kernel's messages about the interface
	mark uint32 // see Mark

	mu     sync.Mutex // guards what follows
	mtu    int
	fate   fate
	gate   *gate // nil where none is needed
	closed bool
}

// accessTries bounds the search for an interface number that is free in the transport router's namespace. More
// than one is needed only after a crash, when the predecessor's interface is in a namespace that no router
// uses any more.
const accessTries = 16

// Access makes the interface for r's tunnels whose subscribers end in router to, which may be r itself, with an MTU in bytes of at least
// mtu. What a predecessor has left under its name is replaced. The caller makes one for each pair and policy, and closes it
// before it makes the next and before it closes r: the policy of gate.go is known by the number alone.
//
// Errors: *MissingFeature; *BadSpec; ErrClosed; and what the kernel says.
func (r *Router) Access(to *Router, mtu int, policy LinkPolicy) (*Access, error) {
	from, err := r.device()
	if err != nil {
		return nil, err
	}
	master, err := to.device()
	if err != nil {
		return nil, err
	}
	same, err := r.space.same(to.space)
	if err != nil {
		return nil, err
	}
	if mtu < minAccessMTU || mtu > maxAccessMTU {
		return nil, &BadSpec{Router: r.name, Reason: fmt.Sprintf("an access interface's MTU of %d is not %d to %d", mtu, minAccessMTU, maxAccessMTU)}
	}
	group, err := to.LinkGroup(policy)
	if err != nil {
		return nil, err
	}
	what := policy.text()
	a := &Access{
		name: accessLink(r.name, to.name, what), alias: accessAlias(r.name, to.name, what), number: accessNumber(r.name, to.name, what),
		group: group, table: to.table, mtu: mtu, news: -1,
	}
	if a.nl, err = netlink.NewHandleAt(to.space.handle(), unix.NETLINK_ROUTE, unix.NETLINK_XFRM); err != nil {
		return nil, failed(err, "virtual router %s: route and IPsec netlink", to.name)
	}
	gated := from.index != 0 && !same
	tc, err := to.space.control()
	if err != nil {
		a.nl.Close()
		return nil, err
	}
	a.shared = &shared{router: to.name, tc: tc, tally: to.tally, arises: startLooked}
	if err := a.open(r, to, from.index, master.index, gated); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// An access interface's MTU in bytes; IPv4 works from 68, clients do from 160.
const (
	minAccessMTU = 160
	maxAccessMTU = 9000
)

func (a *Access) open(r, to *Router, link, master int, gated bool) error {
	if err := errors.Join(r.removeAccessLink(a.name), to.removeAccessLink(a.name)); err != nil {
		return err
	}
	made, err := a.make(r, to, link, gated)
	if err != nil {
		return err
	}
	if a.index, err = a.move(r, to, made); err != nil {
		return errors.Join(err, r.removeLink(a.name))
	}
	a.shared.link = a.index
	if err := a.quiet(to); err != nil {
		return err
	}
	moved := &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: a.name, Index: a.index}}
	if master != 0 {
		if err := a.nl.LinkSetMasterByIndex(moved, master); err != nil {
			return failed(err, "access interface %s: put into the VRF of %s", a.name, to.name)
		}
	}
	if err := a.nl.LinkSetMTU(moved, a.mtu); err != nil {
		return failed(err, "access interface %s: MTU %d", a.name, a.mtu)
	}
	if err := a.nl.LinkSetGroup(moved, int(a.group)); err != nil {
		return failed(err, "access interface %s: link group", a.name)
	}
	var none *MissingFeature
	if err := a.shared.hold(); err != nil && !errors.As(err, &none) { // who needs it is told then
		return failed(err, "access interface %s: place for traffic control", a.name)
	}
	if err := a.nl.LinkSetUp(moved); err != nil {
		return failed(err, "access interface %s up", a.name)
	}
	if err := to.space.do(func() (err error) { a.news, err = linkNews(a.index); return err }); err != nil {
		return err
	}
	up, err := a.present()
	if err == nil && !up { // between coming up and the socket
		err = fmt.Errorf("access interface %s: %w", a.name, ErrNotFound)
	}
	return err
}

// make makes the interface in r's namespace, which its SAs and policies are in, with a free number. Its packets
// leave by the table of r's VRF, whose index is link; 0 is the main table.
func (a *Access) make(r, to *Router, link int, gated bool) (netlink.Link, error) {
	for try := range uint32(accessTries) {
		a.ifID = a.number + try
		if gated {
			free, err := a.openGate()
			if err != nil {
				return nil, err
			}
			if !free {
				continue
			}
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = a.name, link
		x := &netlink.Xfrmi{LinkAttrs: attrs, Ifid: a.ifID}
		err := r.nl.LinkAdd(x)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil, &MissingFeature{Feature: FeatureAccess, Module: "xfrm_interface"}
		}
		if errors.Is(err, unix.EEXIST) { // the number, because the name has just been removed
			if err := a.closeGate(); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, failed(err, "virtual router %s: make access interface %s", r.name, a.name)
		}
		made, err := r.nl.LinkByName(a.name)
		if err == nil {
			// The alias first: from then on a crash leaves something that is recognised.
			err = r.nl.LinkSetAlias(made, a.alias)
		}
		if err != nil {
			return nil, errors.Join(failed(err, "virtual router %s: mark access interface %s", r.name, a.name), r.removeLink(a.name))
		}
		return made, nil
	}
	return nil, failed(unix.EEXIST, "virtual router %s: a number for access interface %s", r.name, a.name)
}

// openGate opens the gate of the interface's number; false when another interface to the namespace has the number.
func (a *Access) openGate() (bool, error) {
	g := gate{nl: a.nl, mark: a.ifID}
	err := g.open()
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, failed(err, "access interface %s: policy for what it brings from another namespace", a.name)
	}
	a.gate, a.mark = &g, g.mark
	return true, nil
}

func (a *Access) closeGate() error {
	if a.gate == nil {
		return nil
	}
	g := *a.gate
	a.gate = nil
	return g.close()
}

// move puts the interface into the namespace of its subscribers and returns its index there.
func (a *Access) move(r, to *Router, made netlink.Link) (int, error) {
	if err := r.nl.LinkSetNsFd(made, to.space.fd); err != nil {
		return 0, failed(err, "virtual router %s: move access interface %s to %s", r.name, a.name, to.name)
	}
	moved, err := a.nl.LinkByName(a.name)
	if err != nil {
		return 0, failed(err, "virtual router %s: access interface %s", to.name, a.name)
	}
	return moved.Attrs().Index, nil
}

// quiet keeps IPv6 off the interface: router solicitations would go to no policy, and be errors in its statistics.
func (a *Access) quiet(to *Router) error {
	return to.space.do(func() error { return ignoreMissing(writeSysctl("net/ipv6/conf/"+a.name+"/disable_ipv6", "1")) })
}

// Name of the interface in the terminating router's namespace.
func (a *Access) Name() string { return a.name }

// Index of the interface in the terminating router's namespace.
func (a *Access) Index() int { return a.index }

// IfID is the number that SAs and policies are tied to the interface by. It is unique in the transport router's
// namespace.
func (a *Access) IfID() uint32 { return a.ifID }

// Mark is what the inbound SAs have to set on the packets that they decrypt; 0 where they need not.
func (a *Access) Mark() uint32 { return a.mark }

// AddRoute adds an access route: dst by the interface, in the terminating router's table, with prefsrc as source
// of what the router itself sends (invalid: the kernel's choice) and an MTU of at most mtu bytes. The interface's MTU
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
		return fmt.Errorf("access interface %s: %w", a.name, ErrClosed)
	}
	if err := a.fit(mtu); err != nil {
		return err
	}
	return failed(a.nl.RouteAdd(route), "access interface %s: add route %s", a.name, dst)
}

// Fit makes the interface's MTU at least mtu bytes, as AddRoute does, for a subscriber to which somebody else makes a route.
func (a *Access) Fit(mtu int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fmt.Errorf("access interface %s: %w", a.name, ErrClosed)
	}
	return a.fit(mtu)
}

func (a *Access) fit(mtu int) error {
	if mtu <= a.mtu {
		return nil
	}
	if err := a.nl.LinkSetMTU(&netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Index: a.index}}, mtu); err != nil {
		return failed(err, "access interface %s: MTU %d", a.name, mtu)
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
	return failed(err, "access interface %s: remove route %s", a.name, dst)
}

// FD is the descriptor that becomes readable when something has happened to the interface; Lost says what.
func (a *Access) FD() int { return a.news }

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

// read learns what has become of the interface.
func (a *Access) read() {
	fate, missed := readNews(a.news, a.index)
	a.fate = max(a.fate, fate)
	if !missed || a.fate == gone {
		return
	}
	if up, err := a.present(); err == nil && !up {
		a.fate = max(a.fate, down)
	}
}

// present says whether the interface is there and up.
func (a *Access) present() (bool, error) {
	link, err := a.nl.LinkByIndex(a.index)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, failed(err, "access interface %s", a.name)
	}
	return link.Attrs().Name == a.name && link.Attrs().Flags&net.FlagUp != 0, nil
}

// Close removes the interface with its routes. It is idempotent.
func (a *Access) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	var err error
	if a.news >= 0 {
		a.read()
	}
	// An index that has become free may be another's already, even that of our successor of the same name.
	if a.index != 0 && a.fate != gone {
		if link, e := a.nl.LinkByIndex(a.index); e == nil && link.Attrs().Name == a.name {
			err = a.nl.LinkDel(link)
		} else {
			err = e
		}
		if missing(err) {
			err = nil
		}
	}
	err = errors.Join(err, a.closeGate())
	a.nl.Close()
	a.shared.tc.close()
	if a.news >= 0 {
		err = errors.Join(err, unix.Close(a.news))
	}
	return failed(err, "access interface %s: remove", a.name)
}

// linkNews opens a socket in the thread's namespace that receives the kernel's messages about one interface
// and about no other: the namespace may hold ten thousand PPP devices that come and go.
func linkNews(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, failed(err, "listen to link %d", index)
	}
	const ifiIndex = unix.SizeofNlMsghdr + 4 // struct ifinfomsg.ifi_index
	// Filters load numbers in network order, which these are not in.
	want := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, uint32(index)))
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: ifiIndex},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: want, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_LINK - 1)})
	}
	if err != nil {
		unix.Close(fd)
		return -1, failed(err, "listen to link %d", index)
	}
	return fd, nil
}

// linkMessage is more than what is read of a message; the rest is cut off.
const linkMessage = 4096

// fate is what has become of a link.
type fate uint8

const (
	fine fate = iota
	down
	gone
)

// readNews reads all messages and says the worst of them; missed when messages were lost.
func readNews(fd, index int) (worst fate, missed bool) {
	b := make([]byte, linkMessage)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			missed = true
		case err != nil:
			return worst, missed
		default:
			worst = max(worst, parseNews(b[:n], index))
		}
	}
}

// parseNews says what a message of the kernel's means for a link: struct nlmsghdr (length
// u32, type u16, …) and struct ifinfomsg (family u8, pad, type u16, index s32, flags u32, change u32).
func parseNews(b []byte, index int) fate {
	const (
		typeAt  = 4
		indexAt = unix.SizeofNlMsghdr + 4
		flagsAt = unix.SizeofNlMsghdr + 8
	)
	if len(b) < unix.SizeofNlMsghdr+unix.SizeofIfInfomsg || binary.NativeEndian.Uint32(b[indexAt:]) != uint32(index) {
		return fine
	}
	switch typ, up := binary.NativeEndian.Uint16(b[typeAt:]), binary.NativeEndian.Uint32(b[flagsAt:])&unix.IFF_UP != 0; {
	case typ == unix.RTM_DELLINK:
		return gone
	case typ == unix.RTM_NEWLINK && !up:
		return down
	}
	return fine
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
			errs = append(errs, r.removeAccessLink(l.Attrs().Name))
		}
	}
	return errors.Join(errs...)
}
