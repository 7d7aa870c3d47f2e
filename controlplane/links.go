package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
)

// LinkPlane shows what joins a virtual router to its private network.
type LinkPlane interface {
	// Links says what has become of the configured links, in the order of the configuration.
	Links() ([]LinkState, error)
}

// LinkStatus says whether a link carries packets.
type LinkStatus string

// The possibilities.
const (
	LinkUp      LinkStatus = "up"
	LinkDown    LinkStatus = "down"
	LinkMissing LinkStatus = "missing" // it is not there
)

// LinkState is what has become of a link.
type LinkState struct {
	Name   string
	Status LinkStatus
	// Reason says why it is not up, or what is not as configured though it is; Text what to do. Both are empty if all is well.
	Reason, Text string
	// Index is the interface's, 0 when it is missing; MTU in bytes.
	Index, MTU int
	// Traffic is what the kernel has counted since the interface was made.
	Traffic LinkTraffic
}

// LinkTraffic counts packets and bytes; in is what we have received.
type LinkTraffic struct {
	InPackets, InBytes, InErrors, InDrops     uint64
	OutPackets, OutBytes, OutErrors, OutDrops uint64
}

// reasonSwitchedOff is the reason of a link that is down because the configuration says so.
const reasonSwitchedOff = "switched-off"

// LinkChanged implements [Inlet].
func (r *router) LinkChanged(s LinkState) {
	fields := []zap.Field{zap.String("link", s.Name), zap.String("state", string(s.Status))}
	if s.Reason != "" {
		fields = append(fields, zap.String("reason", s.Reason), zap.String("text", s.Text))
	}
	if s.Reason == "" || s.Reason == reasonSwitchedOff {
		r.log.Info("link", fields...)
		return
	}
	r.log.Warn("link is not as it should be", fields...)
}

// tunnelLink shows a static tunnel as the link that it is.
func tunnelLink(t *api.Tunnel) api.Link {
	v := api.Link{
		VR: t.VR, Name: t.Interface.Name, Kind: "ipsec", To: "static tunnel " + t.Name, State: string(LinkDown), Reason: t.Reason, Text: t.Text,
		Index: t.Interface.Index, MTU: t.Interface.MTU, Addresses: t.Interface.Addresses, Routes: t.Interface.Routes,
		InPackets: t.Inside.InPackets, InBytes: t.Inside.InBytes, InErrors: t.Inside.InErrors, InDrops: t.Inside.InDrops,
		OutPackets: t.Inside.OutPackets, OutBytes: t.Inside.OutBytes, OutErrors: t.Inside.OutErrors, OutDrops: t.Inside.OutDrops,
	}
	switch {
	case v.Index == 0:
		v.State = string(LinkMissing)
	case t.Connection != 0: // that the check has still to pass keeps no packet back
		v.State = string(LinkUp)
	}
	if t.KernelReason != "" {
		v.Reason, v.Text = t.KernelReason, t.KernelText
	}
	return v
}

// Links implements [api.Source], those of static tunnels behind the others. The links of a virtual router that does not run
// are missing.
func (p *Process) Links(ctx context.Context) ([]api.Link, error) {
	var out []api.Link
	for _, r := range p.routers() {
		states := map[string]LinkState{}
		if r.serving.Load() && len(r.cfg().Links) > 0 {
			list, err := r.data.Links() // asks the kernel: not in the loop
			if err != nil && !r.ended.Load() {
				return nil, err
			}
			for _, s := range list {
				states[s.Name] = s
			}
		}
		for i := range r.cfg().Links {
			l := &r.cfg().Links[i]
			s, known := states[l.Name]
			if !known {
				s = LinkState{Status: LinkMissing, Reason: "router-down", Text: "the virtual router does not run"}
			}
			out = append(out, linkView(r.name, l, s))
		}
	}
	tunnels, err := p.tunnels(ctx, false)
	if err != nil {
		return nil, err
	}
	for i := range tunnels {
		if t := &tunnels[i]; t.Interface.Name != "" {
			out = append(out, tunnelLink(t))
		}
	}
	slices.SortStableFunc(out, func(a, b api.Link) int { return cmp.Compare(a.VR, b.VR) })
	return out, nil
}

func linkView(router string, l *config.Link, s LinkState) api.Link {
	v := api.Link{
		VR: router, Name: l.Name, Kind: l.Kind.String(), To: linkTo(l), State: string(s.Status), Reason: s.Reason, Text: s.Text, Index: s.Index, MTU: s.MTU,
		Addresses: l.Addresses, Routes: make([]api.LinkRoute, 0, len(l.Routes)),
		InPackets: s.Traffic.InPackets, InBytes: s.Traffic.InBytes, InErrors: s.Traffic.InErrors, InDrops: s.Traffic.InDrops,
		OutPackets: s.Traffic.OutPackets, OutBytes: s.Traffic.OutBytes, OutErrors: s.Traffic.OutErrors, OutDrops: s.Traffic.OutDrops,
	}
	if v.Addresses == nil {
		v.Addresses = []netip.Prefix{}
	}
	for _, r := range l.Routes {
		v.Routes = append(v.Routes, api.LinkRoute{Network: r.Network, Via: r.Via, Metric: r.Metric})
	}
	return v
}

// linkTo says where a link leads.
func linkTo(l *config.Link) string {
	switch l.Kind {
	case config.LinkInterface:
		return l.Interface.Device
	case config.LinkVLAN:
		return fmt.Sprintf("%s vlan %d", l.VLAN.Parent, l.VLAN.ID)
	case config.LinkVeth:
		return l.Veth.Router + " " + l.Veth.Name
	case config.LinkIPIP:
		return fmt.Sprintf("%v - %v", l.IPIP.Local, l.IPIP.Remote)
	}
	to := fmt.Sprintf("%v - %v", l.GRE.Local, l.GRE.Remote)
	if l.GRE.Key != 0 {
		to += fmt.Sprintf(" key %d", l.GRE.Key)
	}
	return to
}
