package vr

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Tunnel is the interface of one static IPsec tunnel (Z-1): an XFRM interface of the namespace of the transport router, whose
// addresses the outer packets have, that lives in that of the terminating router, whose traffic it carries. What is routed into it is
// encrypted by a policy of its number, or dropped; what an SA of its number has decrypted comes out of it, and
// nothing else.
//
// All methods may be called by several goroutines at once.
type Tunnel struct {
	xfrmLink
	to *Router

	// guarded by mu
	spec   TunnelSpec
	rest   TunnelRest
	hushed bool // the filter of a silent interface may be there
	// routed are the routes that are there since we have added them, unless somebody has removed them.
	routed map[TunnelRoute]bool
}

// TunnelSpec is the desired state of the interface of a static tunnel.
type TunnelSpec struct {
	// Tunnel is the tunnel's name, 1 to MaxTunnelName bytes without control characters, unique among the terminating router's.
	Tunnel string
	// Name of the interface in the terminating router's namespace, 1 to 15 bytes, unique there.
	Name string
	// MTU in bytes, MinLinkMTU to MaxTunnelMTU.
	MTU int
	// Addresses of IPv4; the interface has no others.
	Addresses []netip.Prefix
	Routes    []TunnelRoute
	Policy    LinkPolicy
}

// TunnelRoute is a route into a static tunnel, in the terminating router's table.
type TunnelRoute struct {
	Network netip.Prefix
	Metric  uint32
}

// Bounds of a TunnelSpec.
const (
	MaxTunnelName = 80
	MaxTunnelMTU  = maxAccessMTU
)

// ErrOther says that what is wanted cannot be made of what there is: Close it, and make another.
var ErrOther = errors.New("is another interface")

// Tunnel makes the interface of a static tunnel whose outer packets have addresses of r and whose traffic is that of router to, which
// may be r itself. What a predecessor has left of the tunnel is replaced. The caller closes it before it makes the next of the tunnel
// and before it closes r. [Tunnel.Mend], which the caller calls at once and then every few seconds, gives it its addresses and routes.
//
// Errors: *LinkError, of which LinkNameTaken says that somebody else's link has the name; *MissingFeature; *BadSpec; ErrClosed; and what the
// kernel says.
func (r *Router) Tunnel(to *Router, spec TunnelSpec) (*Tunnel, error) {
	spec = spec.clone()
	if err := spec.check(to.name); err != nil {
		return nil, err
	}
	group, err := to.tunnelGroup(spec)
	if err != nil {
		return nil, err
	}
	t := &Tunnel{
		xfrmLink: xfrmLink{
			title: "interface " + spec.Name + " of tunnel " + spec.Tunnel, name: spec.Name, passing: tunnelPassing(r.name, spec.Tunnel),
			alias: tunnelAlias(r.name, to.name, spec.Tunnel), number: tunnelNumber(r.name, to.name, spec.Tunnel), group: group, mtu: spec.MTU,
		},
		to: to, spec: spec, routed: map[TunnelRoute]bool{},
	}
	if err := to.vacate(spec); err != nil {
		return nil, err
	}
	place, err := r.place(to)
	if err != nil {
		return nil, err
	}
	if err := t.open(place, t.trust); err != nil {
		if errors.Is(err, ErrExists) { // since we looked
			err = errors.Join(err, to.vacate(spec))
		}
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// vacate removes what a predecessor has left under the interface's name, and refuses what is not.
func (r *Router) vacate(spec TunnelSpec) error {
	if _, err := r.device(); err != nil {
		return err
	}
	link, err := r.nl.LinkByName(spec.Name)
	if missing(err) {
		return nil
	}
	e := &LinkError{Router: r.name, Link: spec.Name, Reason: LinkRefused, Text: "the kernel refuses: find it", Err: err}
	if err != nil {
		return e
	}
	if _, to, tunnel, ours := tunnelOf(link); ours && to == r.name && tunnel == spec.Tunnel {
		if err := r.removeXfrmLink(spec.Name); err != nil {
			e.Text, e.Err = "the kernel refuses: remove what a former process has left", err
			return e
		}
		return nil
	}
	e.Reason = LinkNameTaken
	e.Text = fmt.Sprintf("an interface of kind %s that is not ours has the name: rename or remove it, or give the tunnel's interface another name", link.Type())
	if _, to, tunnel, ours := tunnelOf(link); ours {
		e.Text = fmt.Sprintf("the interface of tunnel %s of virtual router %s has the name: rename one", tunnel, to)
	}
	return e
}

// trust keeps the kernel from dropping what comes out of the interface because its source is routed elsewhere: the SAs say what
// may come, and the policy of the link, if it is to, where from.
func (t *Tunnel) trust() error {
	return t.to.space.do(func() error {
		filter := "0"
		// The higher of the two values counts, and 2 is less strict than 1.
		if all, err := readSysctl("net/ipv4/conf/all/rp_filter"); err != nil {
			return err
		} else if all == "1" {
			filter = "2"
		}
		promoteSecondaries(t.name)
		return writeSysctl("net/ipv4/conf/"+t.name+"/rp_filter", filter)
	})
}

// tunnelGroup is the link group of a tunnel's interface. In a VRF the rules know no MTU of what comes out of a link, so that a tunnel's
// that is smaller than they take it for becomes a bound of its own, while there are any.
func (r *Router) tunnelGroup(spec TunnelSpec) (uint32, error) {
	p := spec.Policy
	mss := spec.MTU - tcpHeaders
	if p.ClampMSS && r.VRF() != 0 && mss < MaxMSS && (p.MSS == 0 || mss < p.MSS) {
		p.MSS = mss
		group, err := r.LinkGroup(p)
		var none *BadSpec
		if !errors.As(err, &none) {
			return group, err
		}
	}
	return r.LinkGroup(spec.Policy)
}

// Lost reads what has happened and says whether the interface has gone, or has another name: Close it and make another. When it
// is false something may be missing that [Tunnel.Mend] puts back: that it is up, addresses, routes.
func (t *Tunnel) Lost() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed || t.lost()
}

func (t *Tunnel) lost() bool {
	t.read()
	if t.fate != down {
		return t.fate == gone
	}
	clear(t.routed) // the kernel has removed them
	link, err := t.nl.LinkByIndex(t.index)
	if missing(err) {
		t.fate = gone
	}
	return t.fate == gone || err == nil && !t.is(link)
}

// Traffic is what the kernel has counted on the interface since it was made: in is what has been decrypted.
//
// Errors: ErrNotFound when it has gone; ErrClosed; and what the kernel says.
func (t *Tunnel) Traffic() (LinkTraffic, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return LinkTraffic{}, fmt.Errorf("%s: %w", t.title, ErrClosed)
	}
	link, err := t.nl.LinkByIndex(t.index)
	if missing(err) || err == nil && !t.is(link) {
		return LinkTraffic{}, fmt.Errorf("%s: %w", t.title, ErrNotFound)
	}
	if err != nil {
		return LinkTraffic{}, failed(err, "%s", t.title)
	}
	var s LinkState
	s.fill(link)
	return s.Traffic, nil
}

// Close removes the interface with its routes. It is idempotent.
func (t *Tunnel) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	return t.remove()
}

// clone copies the slices.
func (s TunnelSpec) clone() TunnelSpec {
	s.Addresses, s.Routes = slices.Clone(s.Addresses), slices.Clone(s.Routes)
	return s
}

// check finds what cannot be asked for.
func (s TunnelSpec) check(router string) error {
	bad := func(format string, args ...any) error {
		return &BadSpec{Router: router, Reason: fmt.Sprintf("tunnel %q: ", s.Tunnel) + fmt.Sprintf(format, args...)}
	}
	switch {
	case s.Tunnel == "" || len(s.Tunnel) > MaxTunnelName || strings.ContainsFunc(s.Tunnel, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return bad("a tunnel's name is 1 to %d characters", MaxTunnelName)
	case s.Name == "" || len(s.Name) > maxLinkName || !validPathElement(s.Name):
		return bad("%q cannot be the name of an interface", s.Name)
	case s.MTU < MinLinkMTU || s.MTU > MaxTunnelMTU:
		return bad("MTU %d is not %d to %d", s.MTU, MinLinkMTU, MaxTunnelMTU)
	}
	for _, a := range s.Addresses {
		if !a.IsValid() || !a.Addr().Is4() || !unicast(a.Addr()) {
			return bad("%s is not an IPv4 address with the length of its network", a)
		}
	}
	for _, r := range s.Routes {
		if !r.Network.IsValid() || !r.Network.Addr().Is4() || r.Network.Masked() != r.Network {
			return bad("%s is not a route of IPv4", r.Network)
		}
	}
	return nil
}

const (
	tunnelPrefix = "vrt"
	tunnelMark   = " tunnel "
)

// tunnelPassing is the name that a tunnel's interface has before it is marked and moved. It says which router makes it, so that what a
// crash leaves is recognised.
func tunnelPassing(from, tunnel string) string {
	sum := sha256.Sum256([]byte(tunnel))
	return tunnelStem(from) + hex.EncodeToString(sum[:3])
}

// tunnelStem begins the passing names of a router's tunnels.
func tunnelStem(from string) string {
	sum := sha256.Sum256([]byte(from))
	return tunnelPrefix + hex.EncodeToString(sum[:3])
}

// tunnelAlias says which tunnel the interface is of, and which routers it joins.
func tunnelAlias(from, to, tunnel string) string {
	return ownAlias + " " + from + " to " + to + tunnelMark + tunnel
}

// tunnelOf is the reverse of tunnelAlias.
func tunnelOf(link netlink.Link) (from, to, tunnel string, ours bool) {
	rest, ok := strings.CutPrefix(link.Attrs().Alias, ownAlias+" ")
	from, rest, ok2 := strings.Cut(rest, " to ")
	to, tunnel, ok3 := strings.Cut(rest, tunnelMark)
	ours = ok && ok2 && ok3 && link.Type() == (&netlink.Xfrmi{}).Type() && !strings.Contains(from, " ") && !strings.Contains(to, " ")
	return from, to, tunnel, ours
}

// tunnelNumber is where the search for the interface's number begins: away from those of access interfaces.
func tunnelNumber(from, to, tunnel string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(from + " " + to + tunnelMark + tunnel))
	return 0x58000000 | h.Sum32()&0xffffff
}

// removeTunnels removes the interfaces of static tunnels in the router's namespace that are from it or to it.
func (r *Router) removeTunnels() error {
	links, err := r.links()
	errs := []error{err}
	for _, l := range links {
		from, to, _, ours := tunnelOf(l)
		begun := l.Type() == (&netlink.Xfrmi{}).Type() && l.Attrs().Alias == "" && strings.HasPrefix(l.Attrs().Name, tunnelStem(r.name))
		if ours && (from == r.name || to == r.name) || begun {
			errs = append(errs, r.removeXfrmLink(l.Attrs().Name))
		}
	}
	return errors.Join(errs...)
}
