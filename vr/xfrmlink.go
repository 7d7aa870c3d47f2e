package vr

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// xfrmLink is an XFRM interface that is born in the namespace of a transport router, which its SAs and policies are in, and
// lives in that of the terminating router, which may be the same.
type xfrmLink struct {
	title   string // for messages: what it is
	name    string
	passing string // its name in the transport router's namespace
	index   int
	ifID    uint32
	number  uint32 // where the search for ifID begins
	alias   string
	table   int             // of the terminating router
	nl      *netlink.Handle // in its namespace, lent by home
	home    *handles

	news int    // netlink socket with the kernel's messages about the interface
	mark uint32 // see Mark

	mu     sync.Mutex // guards what follows
	group  uint32
	mtu    int
	fate   fate
	gate   *gate // nil where none is needed
	closed bool
}

// place is where an XFRM interface is made: from one router to another.
type place struct {
	r, to *Router
	// link is the index of r's VRF device, by whose table encrypted packets leave; 0 is the main table. master is
	// that of to.
	link, master int
	gated        bool // see gate
}

func (r *Router) place(to *Router) (place, error) {
	from, err := r.device()
	if err != nil {
		return place{}, err
	}
	master, err := to.device()
	if err != nil {
		return place{}, err
	}
	same, err := r.space.same(to.space)
	if err != nil {
		return place{}, err
	}
	return place{r: r, to: to, link: from.index, master: master.index, gated: from.index != 0 && !same}, nil
}

// linkTries bounds the search for an interface number that is free in the transport router's namespace. More
// than one is needed after a crash, when the predecessor's interface is in a namespace that no router
// uses any more, and when two names have the same number.
const linkTries = 16

// open makes the interface and brings it up; prepare does what is to be done before that. What is there when it fails,
// remove removes.
func (x *xfrmLink) open(p place, prepare func() error) (err error) {
	x.table, x.news = p.to.table, -1
	x.home = &p.to.xfrmLinks
	if x.nl, err = x.home.lend(p.to.space); err != nil {
		return failed(err, "virtual router %s: route and IPsec netlink", p.to.name)
	}
	if err := x.bear(p); err != nil {
		return err
	}
	if err := x.quiet(p.to); err != nil {
		return err
	}
	moved := x.link()
	if p.master != 0 {
		if err := x.nl.LinkSetMasterByIndex(moved, p.master); err != nil {
			return failed(err, "%s: put into the VRF of %s", x.title, p.to.name)
		}
	}
	if err := x.nl.LinkSetMTU(moved, x.mtu); err != nil {
		return failed(err, "%s: MTU %d", x.title, x.mtu)
	}
	if err := x.nl.LinkSetGroup(moved, int(x.group)); err != nil {
		return failed(err, "%s: link group", x.title)
	}
	if err := prepare(); err != nil {
		return err
	}
	if err := x.nl.LinkSetUp(moved); err != nil {
		return failed(err, "%s: bring it up", x.title)
	}
	if err := p.to.space.do(func() (err error) { x.news, err = linkNews(x.index); return err }); err != nil {
		return err
	}
	up, err := x.present()
	if err == nil && !up { // between coming up and the socket
		err = fmt.Errorf("%s: %w", x.title, ErrNotFound)
	}
	return err
}

// link is the interface in the library's form.
func (x *xfrmLink) link() netlink.Link {
	return &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: x.name, Index: x.index}}
}

// bear makes the interface and moves it to where it lives. Others of the transport router wait, whose names on the way may be
// the same; what a crash has left under that name goes.
func (x *xfrmLink) bear(p place) error {
	p.r.bearing.Lock()
	defer p.r.bearing.Unlock()
	if err := errors.Join(p.r.removeXfrmLink(x.passing), p.to.removeXfrmLink(x.passing)); err != nil {
		return err
	}
	made, err := x.make(p)
	if err != nil {
		return err
	}
	if x.index, err = x.move(p, made); err != nil {
		return errors.Join(err, p.r.removeLink(x.passing))
	}
	return nil
}

// make makes the interface in the transport router's namespace with a free number.
func (x *xfrmLink) make(p place) (netlink.Link, error) {
	r := p.r
	for try := range uint32(linkTries) {
		x.ifID = x.number + try
		if p.gated {
			free, err := x.openGate()
			if err != nil {
				return nil, err
			}
			if !free {
				continue
			}
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = x.passing, p.link
		err := r.nl.LinkAdd(&netlink.Xfrmi{LinkAttrs: attrs, Ifid: x.ifID})
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil, &MissingFeature{Feature: FeatureAccess, Module: "xfrm_interface"}
		}
		if errors.Is(err, unix.EEXIST) { // the number, because the name has just been removed
			if err := x.closeGate(); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, failed(err, "virtual router %s: make %s", r.name, x.title)
		}
		made, err := r.nl.LinkByName(x.passing)
		if err == nil {
			// The alias first: from then on a crash leaves something that is recognised.
			err = r.nl.LinkSetAlias(made, x.alias)
		}
		if err != nil {
			return nil, errors.Join(failed(err, "virtual router %s: mark %s", r.name, x.title), r.removeLink(x.passing))
		}
		return made, nil
	}
	return nil, failed(unix.EEXIST, "virtual router %s: a number for %s", r.name, x.title)
}

// openGate opens the gate of the interface's number; false when another interface to the namespace has the number.
func (x *xfrmLink) openGate() (bool, error) {
	g := gate{nl: x.nl, mark: x.ifID}
	err := g.open()
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, failed(err, "%s: policy for what it brings from another namespace", x.title)
	}
	x.gate, x.mark = &g, g.mark
	return true, nil
}

// mendGate puts the gate back if somebody has removed it.
func (x *xfrmLink) mendGate() error {
	if x.gate == nil {
		return nil
	}
	if err := x.gate.open(); !errors.Is(err, unix.EEXIST) {
		return failed(err, "%s: policy for what it brings from another namespace", x.title)
	}
	return nil
}

func (x *xfrmLink) closeGate() error {
	if x.gate == nil {
		return nil
	}
	g := *x.gate
	x.gate = nil
	return g.close()
}

// move puts the interface into the namespace in which it lives, gives it its name and returns its index there.
func (x *xfrmLink) move(p place, made netlink.Link) (int, error) {
	if err := p.r.nl.LinkSetNsFd(made, p.to.space.fd); err != nil {
		return 0, failed(err, "virtual router %s: move %s to %s", p.r.name, x.title, p.to.name)
	}
	moved, err := x.nl.LinkByName(x.passing)
	if err != nil {
		return 0, failed(err, "virtual router %s: %s", p.to.name, x.title)
	}
	if x.passing != x.name {
		if err := x.nl.LinkSetName(moved, x.name); err != nil {
			return 0, errors.Join(failed(err, "virtual router %s: name %s", p.to.name, x.title), p.to.removeLink(x.passing))
		}
	}
	return moved.Attrs().Index, nil
}

// quiet keeps IPv6 off the interface: router solicitations would go to no policy, and be errors in its statistics.
func (x *xfrmLink) quiet(to *Router) error {
	return to.space.do(func() error { return ignoreMissing(writeSysctl("net/ipv6/conf/"+x.name+"/disable_ipv6", "1")) })
}

// Name of the interface in the terminating router's namespace.
func (x *xfrmLink) Name() string { return x.name }

// Index of the interface in the terminating router's namespace.
func (x *xfrmLink) Index() int { return x.index }

// IfID is the number that SAs and policies are tied to the interface by. It is unique in the transport router's
// namespace.
func (x *xfrmLink) IfID() uint32 { return x.ifID }

// Mark is what the inbound SAs have to set on the packets that they decrypt; 0 where they need not.
func (x *xfrmLink) Mark() uint32 { return x.mark }

// FD is the descriptor that becomes readable when something has happened to the interface; Lost says what.
func (x *xfrmLink) FD() int { return x.news }

// read learns what has become of the interface.
func (x *xfrmLink) read() {
	fate, missed := readNews(x.news, x.index)
	x.fate = max(x.fate, fate)
	if !missed || x.fate == gone {
		return
	}
	if up, err := x.present(); err == nil && !up {
		x.fate = max(x.fate, down)
	}
}

// present says whether the interface is there and up.
func (x *xfrmLink) present() (bool, error) {
	link, err := x.nl.LinkByIndex(x.index)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, failed(err, "%s", x.title)
	}
	return x.is(link) && link.Attrs().Flags&net.FlagUp != 0, nil
}

// is says whether a link with the interface's index is the interface: an index that has become free may be another's
// already, even that of a successor of the same name, which the messages tell.
func (x *xfrmLink) is(link netlink.Link) bool { return link.Attrs().Name == x.name }

// remove removes the interface with its gate and routes, for the last time.
func (x *xfrmLink) remove() error {
	x.closed = true
	if x.nl == nil {
		return nil
	}
	var err error
	if x.news >= 0 {
		x.read()
	}
	if x.index != 0 && x.fate != gone {
		if link, e := x.nl.LinkByIndex(x.index); e == nil && (x.is(link) || link.Attrs().Alias == x.alias) {
			err = x.nl.LinkDel(link)
		} else {
			err = e
		}
		if missing(err) {
			err = nil
		}
	}
	err = errors.Join(err, x.closeGate())
	x.home.takeBack()
	if x.news >= 0 {
		err = errors.Join(err, unix.Close(x.news))
	}
	return failed(err, "%s: remove", x.title)
}

// removeXfrmLink removes an XFRM interface of ours and its gate, of whichever there are.
func (r *Router) removeXfrmLink(name string) error {
	link, err := r.nl.LinkByName(name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return failed(err, "virtual router %s: XFRM interface %s", r.name, name)
	}
	x, ok := link.(*netlink.Xfrmi)
	if !ok {
		return r.removeLink(name)
	}
	nl, err := netlink.NewHandleAt(r.space.handle(), unix.NETLINK_XFRM)
	if err != nil {
		return failed(err, "virtual router %s: IPsec netlink", r.name)
	}
	defer nl.Close()
	return errors.Join(r.removeLink(name), gate{nl: nl, mark: x.Ifid}.close())
}
