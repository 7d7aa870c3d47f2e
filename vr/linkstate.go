package vr

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// LinkState is what has become of a link.
type LinkState struct {
	Name string
	Kind LinkKind
	// Missing says that it is not there, Up that it carries packets; else it is there and down.
	Missing, Up bool
	// Reason says why it is not up, or what is not as it should be though it is; empty: nothing. Text says what to do.
	Reason LinkReason
	Text   string
	// Index is the interface's, 0 when it is missing; MTU in bytes.
	Index, MTU int
	// Addresses are those that it is to have.
	Addresses []netip.Prefix
	Traffic   LinkTraffic
}

// LinkTraffic is what the kernel has counted on a link since it was made: in is what it received.
type LinkTraffic struct {
	InPackets, InBytes, InErrors, InDrops     uint64
	OutPackets, OutBytes, OutErrors, OutDrops uint64
}

// Links says what has become of the router's links, in the order of the Spec.
//
// Errors: ErrClosed, and what the kernel says.
func (r *Router) Links() ([]LinkState, error) {
	r.linking.Lock()
	defer r.linking.Unlock()
	if r.closed {
		return nil, fmt.Errorf("virtual router %s: %w", r.name, ErrClosed)
	}
	out := make([]LinkState, 0, len(r.spec.Links))
	for _, l := range r.spec.Links {
		s := LinkState{Name: l.Name, Kind: l.Kind, Addresses: slices.Clone(l.Addresses)}
		link, err := r.nl.LinkByName(l.Name)
		if err != nil && !missing(err) {
			return nil, failed(err, "virtual router %s: link %s", r.name, l.Name)
		}
		if err == nil {
			_, ours := linkOf(r.name, link)
			s.Missing = !ours
		} else {
			s.Missing = true
		}
		if !s.Missing {
			s.fill(link)
		}
		if e := r.troubles[l.Name]; e != nil {
			s.Reason, s.Text = e.Reason, e.Text
			if e.Err != nil {
				s.Text += ": " + e.Err.Error()
			}
		} else {
			s.Reason, s.Text = s.silent(l)
		}
		out = append(out, s)
	}
	return out, nil
}

// fill takes what the kernel says of a link that is there.
func (s *LinkState) fill(link netlink.Link) {
	a := link.Attrs()
	s.Index, s.MTU = a.Index, a.MTU
	// Tunnels do not know how they are.
	s.Up = a.Flags&net.FlagUp != 0 && (a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown)
	if t := a.Statistics; t != nil {
		s.Traffic = LinkTraffic{t.RxPackets, t.RxBytes, t.RxErrors, t.RxDropped, t.TxPackets, t.TxBytes, t.TxErrors, t.TxDropped}
	}
}

// silent says why a link is not up with which nothing went wrong.
func (s *LinkState) silent(l Link) (LinkReason, string) {
	switch {
	case s.Up:
		return "", ""
	case s.Missing && l.Kind == LinkInterface:
		return LinkNoInterface, "interface " + l.Device + " has gone: plug it in again"
	case s.Missing && l.Kind == LinkVLAN:
		return LinkNoParent, "interface " + l.Device + ", its parent, has gone"
	case s.Missing && l.Kind == LinkVeth:
		return LinkNoRouter, "virtual router " + l.Router + ", which has the other end, has gone"
	case s.Missing:
		return LinkRefused, "somebody has removed it; it will be made again"
	case l.Down && (l.Kind == LinkIPIP || l.Kind == LinkGRE): // nobody says here which it is
		return LinkOff, "the configuration keeps it down, or a static tunnel that is to encrypt it is being made"
	case l.Down:
		return LinkOff, "the configuration keeps it down"
	case l.Kind == LinkVeth:
		return LinkNoCarrier, "the other end in virtual router " + l.Router + " is down"
	}
	return LinkNoCarrier, "no carrier: look at the cable and what is at its other end"
}
