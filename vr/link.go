package vr

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// LinkKind is what joins a router to its private network.
type LinkKind uint8

// The kinds of link.
const (
	// LinkInterface is an interface of the namespace in which the process runs. It is moved into that of the router, and
	// given back at the end.
	LinkInterface LinkKind = iota + 1
	// LinkVLAN is made on a parent (IEEE 802.1Q).
	LinkVLAN
	// LinkVeth is one end of a pair of virtual interfaces; another router has the other.
	LinkVeth
	// LinkIPIP is an IP-in-IP tunnel (RFC 2003) whose outer packets the router itself routes.
	LinkIPIP
	// LinkGRE is a GRE tunnel (RFC 2784, RFC 2890), as LinkIPIP.
	LinkGRE
)

var linkKinds = [...]string{LinkInterface: "interface", LinkVLAN: "vlan", LinkVeth: "veth", LinkIPIP: "ipip", LinkGRE: "gre"}

// String returns the kind's word.
func (k LinkKind) String() string {
	if k == 0 || int(k) >= len(linkKinds) {
		return fmt.Sprintf("LinkKind(%d)", uint8(k))
	}
	return linkKinds[k]
}

// Link is the desired state of one link of a router to its private network.
type Link struct {
	// Name inside the router, 1 to 15 bytes, unique in the namespace.
	Name string
	Kind LinkKind
	// Device is the interface's name outside (LinkInterface), or the parent's (LinkVLAN).
	Device string
	// Inside says that the parent of a VLAN is another link of the router.
	Inside bool
	// VLAN is its number, 1 to 4094.
	VLAN uint16
	// Router has the other end of a veth pair, which is called Peer there. The end that has Far set waits for the other
	// router to make the pair.
	Router, Peer string
	Far          bool
	// Local and Remote are the outer IPv4 addresses of a tunnel. Key is GRE's, 0 for none; TTL that of outer packets, 0 for
	// the inner packet's.
	Local, Remote netip.Addr
	Key           uint32
	TTL           uint8

	// Addresses of IPv4. A link that is made or moved has no others.
	Addresses []netip.Prefix
	// MTU in bytes, 0 for the kernel's, or that of an interface as it was found.
	MTU int
	// Down keeps the link administratively down.
	Down   bool
	Routes []LinkRoute
}

// LinkRoute is a route by a link, in the router's table.
type LinkRoute struct {
	Network netip.Prefix
	// Via is the next hop on the link, the zero Addr for the network itself.
	Via    netip.Addr
	Metric uint32
}

// Bounds of a Link.
const (
	MaxLinks   = 256 // of a router
	MaxVLAN    = 4094
	MinLinkMTU = 576
	MaxLinkMTU = 65535
)

// LinkReason says why a link is not up, or not as it should be.
type LinkReason string

// The reasons.
const (
	LinkNoInterface LinkReason = "no-interface"    // the interface is not in the namespace in which the process runs
	LinkNoParent    LinkReason = "no-parent"       // nor is the parent of a VLAN
	LinkNoRouter    LinkReason = "no-other-router" // the other router does not run, or has not made the pair yet
	LinkNameTaken   LinkReason = "name-taken"      // somebody else's link has the name
	LinkRouteTaken  LinkReason = "route-taken"     // there is another route to the network with that metric
	LinkNoFeature   LinkReason = "kernel-feature-missing"
	LinkRefused     LinkReason = "kernel-refused"
	LinkNoCarrier   LinkReason = "no-carrier"
	LinkOff         LinkReason = "switched-off" // by the configuration
)

// LinkError says what keeps a link from being as it should.
type LinkError struct {
	Router, Link string
	Reason       LinkReason
	Text         string // what to do
	Err          error  // of the kernel, nil for none

	taken []LinkRoute // that are somebody else's
}

func (e *LinkError) Error() string {
	s := fmt.Sprintf("virtual router %s: link %s: %s", e.Router, e.Link, e.Text)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what the kernel said.
func (e *LinkError) Unwrap() error { return e.Err }

// Aliases say whose a link is, what it is, and of an interface what it was:
//
//	vrgate ROUTER link NAME vlan eth1 100
//	vrgate ROUTER link NAME interface eth1 was 1500 up,192.0.2.1/24 the alias that it had
const linkAlias = " link "

// identity is what cannot change without making the link anew.
func (l Link) identity() string {
	switch l.Kind {
	case LinkInterface:
		return "interface " + l.Device
	case LinkVLAN:
		if l.Inside {
			return fmt.Sprintf("vlan link %s %d", l.Device, l.VLAN)
		}
		return fmt.Sprintf("vlan %s %d", l.Device, l.VLAN)
	case LinkVeth:
		return fmt.Sprintf("veth %s %s", l.Router, l.Peer)
	}
	return fmt.Sprintf("%s %s %s key %d ttl %d", l.Kind, l.Local, l.Remote, l.Key, l.TTL)
}

// alias of the router's link, but for what an interface was.
func (l Link) alias(router string) string {
	return ownAlias + " " + router + linkAlias + l.Name + " " + l.identity()
}

// ownLink is what the alias of a link says.
type ownLink struct {
	router, name, identity string
	was                    *former // of an interface
}

// former is what an interface is given back.
type former struct {
	device    string
	mtu       int
	up        bool
	addresses []netip.Prefix
	alias     string
}

const formerMark = " was "

// text is the end of an alias, of at most room bytes. Of the addresses those are kept which have room, and then of its own alias that
// which has.
func (f former) text(room int) string {
	s := fmt.Sprintf("%s%d down", formerMark, f.mtu)
	if f.up {
		s = fmt.Sprintf("%s%d up", formerMark, f.mtu)
	}
	for _, a := range f.addresses {
		if next := s + "," + a.String(); len(next) <= room {
			s = next
		}
	}
	if f.alias == "" || len(s) >= room {
		return s
	}
	s += " " + f.alias
	return strings.ToValidUTF8(s[:min(len(s), room)], "")
}

// maxAlias is the length of an alias (IFALIASZ less the end).
const maxAlias = 255

// borrowed is the alias of an interface.
func (l Link) borrowed(router string, f former) string {
	s := l.alias(router)
	return s + f.text(maxAlias-len(s))
}

// parseOwnLink is the reverse of alias and borrowed.
func parseOwnLink(alias string) (o ownLink, ours bool) {
	rest, ok := strings.CutPrefix(alias, ownAlias+" ")
	router, rest, ok2 := strings.Cut(rest, linkAlias)
	name, identity, ok3 := strings.Cut(rest, " ")
	if !ok || !ok2 || !ok3 || strings.Contains(router, " ") || router == "" {
		return ownLink{}, false
	}
	o = ownLink{router: router, name: name, identity: identity}
	device, isInterface := strings.CutPrefix(identity, "interface ")
	if !isInterface {
		return o, true
	}
	device, was, ok := strings.Cut(device, formerMark)
	f := strings.SplitN(was, " ", 3)
	if !ok || len(f) < 2 {
		return ownLink{}, false
	}
	mtu, err := strconv.Atoi(f[0])
	if err != nil {
		return ownLink{}, false
	}
	o.identity = "interface " + device
	state, addresses, _ := strings.Cut(f[1], ",")
	o.was = &former{device: device, mtu: mtu, up: state == "up"}
	for text := range strings.SplitSeq(addresses, ",") {
		if a, err := netip.ParsePrefix(text); err == nil {
			o.was.addresses = append(o.was.addresses, a)
		}
	}
	if len(f) == 3 {
		o.was.alias = f[2]
	}
	return o, true
}

// linkOf says whether a link is the router's link to a private network.
func linkOf(router string, link netlink.Link) (ownLink, bool) {
	o, ours := parseOwnLink(link.Attrs().Alias)
	return o, ours && o.router == router
}

// passing is the name that a link has before it is marked, or while it is moved: within the 15 characters that the kernel
// allows, and different for every link of every router. What a crash leaves is recognised by it.
func passing(router, link string) string {
	sum := sha256.Sum256([]byte(router + linkAlias + link)) // no name has a space
	return "vrl" + hex.EncodeToString(sum[:6])
}

// clone copies the slices.
func (l Link) clone() Link {
	l.Addresses, l.Routes = slices.Clone(l.Addresses), slices.Clone(l.Routes)
	return l
}

// checkLinks finds what cannot be asked for.
func (s Spec) checkLinks() error {
	bad := func(l Link, format string, args ...any) error {
		return &BadSpec{Router: s.Name, Reason: fmt.Sprintf("link %q: ", l.Name) + fmt.Sprintf(format, args...)}
	}
	device := func(name string) bool { return name != "" && len(name) <= maxLinkName && validPathElement(name) }
	if len(s.Links) > MaxLinks {
		return &BadSpec{Router: s.Name, Reason: fmt.Sprintf("it has %d links, and may have %d", len(s.Links), MaxLinks)}
	}
	seen := map[string]bool{}
	for _, l := range s.Links {
		switch {
		case !device(l.Name):
			return bad(l, "this cannot be the name of a link")
		case seen[l.Name] || l.Name == s.VRF:
			return bad(l, "the name is there twice")
		case (l.Kind == LinkInterface || l.Kind == LinkVLAN) && !device(l.Device):
			return bad(l, "%q cannot be the name of an interface", l.Device)
		case l.Kind == LinkVLAN && (l.VLAN == 0 || l.VLAN > MaxVLAN):
			return bad(l, "VLAN %d is not 1 to %d", l.VLAN, MaxVLAN)
		case l.Kind == LinkVeth && (l.Router == "" || !device(l.Peer) || s.Find == nil):
			return bad(l, "the other end %q of router %q cannot be found", l.Peer, l.Router)
		case (l.Kind == LinkIPIP || l.Kind == LinkGRE) && (!l.Local.Is4() || !l.Remote.Is4() || !unicast(l.Local) || !unicast(l.Remote)):
			return bad(l, "a tunnel from %s to %s is not possible", l.Local, l.Remote)
		case l.Kind == 0 || int(l.Kind) >= len(linkKinds):
			return bad(l, "there is no %s", l.Kind)
		case l.MTU != 0 && (l.MTU < MinLinkMTU || l.MTU > MaxLinkMTU):
			return bad(l, "MTU %d is not %d to %d", l.MTU, MinLinkMTU, MaxLinkMTU)
		}
		seen[l.Name] = true
		for _, a := range l.Addresses {
			if !a.IsValid() || !a.Addr().Is4() || !unicast(a.Addr()) {
				return bad(l, "%s is not an IPv4 address with the length of its network", a)
			}
		}
		for _, r := range l.Routes {
			if !r.Network.IsValid() || !r.Network.Addr().Is4() || r.Network.Masked() != r.Network || r.Via.IsValid() && !r.Via.Is4() {
				return bad(l, "%s via %s is not a route of IPv4", r.Network, r.Via)
			}
		}
	}
	return nil
}
