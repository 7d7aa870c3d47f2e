package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
)

// reasonRouterDown is why a tunnel is down whose virtual router does not run.
const reasonRouterDown = "router-down"

// networkUp is the state of a pair of networks that carries.
const networkUp = "up"

// tunnelsNow is what engines and kernel know of a router's static tunnels.
type tunnelsNow struct {
	infos    map[string]site.Info
	conns    map[ike.ConnID]ike.ConnInfo
	children map[ike.ConnID][]ike.ChildInfo
	at       time.Time
	sas      map[SAKey]SACounters
	states   map[string]TunnelState
	// traffic is what the SAs of all connections have carried, by tunnel.
	traffic map[string]subscriber.Counters
}

// Tunnels implements [api.Source].
func (p *Process) Tunnels(ctx context.Context) ([]api.Tunnel, error) { return p.tunnels(ctx, true) }

// tunnels lists static tunnels; without traffic the SAs are not read, which takes a call for each.
func (p *Process) tunnels(ctx context.Context, traffic bool) ([]api.Tunnel, error) {
	var out []api.Tunnel
	for _, r := range p.routers() {
		c := r.cfg()
		if len(c.StaticTunnels) == 0 {
			continue
		}
		now, err := r.tunnelsNow(ctx, traffic)
		if err != nil {
			return nil, err
		}
		for i := range c.StaticTunnels {
			out = append(out, staticView(c, &c.StaticTunnels[i], now))
		}
	}
	slices.SortStableFunc(out, func(a, b api.Tunnel) int { return cmp.Or(cmp.Compare(a.VR, b.VR), cmp.Compare(a.Name, b.Name)) })
	return out, nil
}

// tunnelsNow asks the engines, and then the kernel. One that does not serve knows nothing.
func (r *router) tunnelsNow(ctx context.Context, traffic bool) (out tunnelsNow, err error) {
	if !r.do(ctx, func(now time.Time) {
		out.at, out.infos, out.conns, out.children = now, map[string]site.Info{}, map[ike.ConnID]ike.ConnInfo{}, map[ike.ConnID][]ike.ChildInfo{}
		for _, i := range r.machine.sites.engine.Tunnels() {
			out.infos[i.Name] = i
		}
		for _, c := range r.machine.ike.Conns() {
			if c.Static != "" {
				out.conns[c.ID] = c
			}
		}
		for _, c := range r.machine.ike.Children() {
			if c.Static != "" {
				out.children[c.Conn] = append(out.children[c.Conn], c)
			}
		}
	}) {
		return tunnelsNow{}, ctx.Err()
	}
	out.states = map[string]TunnelState{}
	states, err := r.data.StaticTunnels()
	if err == nil && traffic && len(out.conns) > 0 {
		out.sas, err = r.data.SACounters()
	}
	if err != nil {
		if r.ended.Load() {
			return tunnelsNow{}, nil
		}
		return tunnelsNow{}, fmt.Errorf("virtual router %s: %w", r.name, err)
	}
	for _, s := range states {
		out.states[s.Tunnel] = s
	}
	if traffic {
		out.traffic = r.data.StaticTraffic()
	}
	return out, nil
}

// staticView shows a tunnel as it is configured and, if its virtual router serves, as it is.
func staticView(r *config.Router, t *config.StaticTunnel, now tunnelsNow) api.Tunnel {
	v := configuredTunnel(r, t)
	if now.infos == nil {
		v.State, v.Reason, v.Text = site.StateDown.String(), reasonRouterDown, fmt.Sprintf("virtual router %s does not run", r.Name)
		return v.Tunnel
	}
	i := now.infos[t.Name] // a reload may be about to add it
	v.State, v.Since, v.Reason, v.Text = i.State.String(), i.Since, string(i.Reason), i.Text
	v.RetryAt, v.UpSince, v.FallBackAt, v.RemoteAddress = i.Until, i.UpSince, i.FallBack, i.Peer
	v.Connection, v.OtherConnections, v.Initiator = i.Conn, append(v.OtherConnections, i.Others...), i.Ours
	v.Attempts, v.Ups, v.FallOvers, v.FallBacks, v.Moves, v.FailedRounds = i.Attempts, i.Ups, i.FallOvers, i.FallBacks, i.Moves, i.Failed
	for reason, n := range i.Failures {
		v.Failures[string(reason)] = n
	}
	if f := i.Failure; f.Reason != "" {
		v.LastFailure = api.TunnelFailure{At: f.At, Peer: f.Peer, Reason: string(f.Reason), Text: f.Text}
	}
	for k, p := range i.Peers {
		if k < len(v.Peers) && !p.Peer.Addr.IsValid() {
			v.Peers[k].Addresses = append(v.Peers[k].Addresses, p.Addrs...)
			v.Peers[k].Resolved, v.Peers[k].Reason, v.Peers[k].Text = p.Resolved, string(p.Reason), p.Text
		}
	}
	if c := i.Check; c.Check.Target.IsValid() {
		v.Check.OK, v.Check.At, v.Check.RTTSeconds, v.Check.Text = c.OK, c.At, c.RTT.Seconds(), c.Text
		v.Check.Failed, v.Check.Sent, v.Check.Lost = c.Failed, c.Sent, c.Lost
	}
	v.carried(ike.ConnID(i.Conn), now)
	for k := range v.Networks {
		if n := &v.Networks[k]; n.State != networkUp {
			n.Reason, n.Text = string(i.Lapsed[n.Name].Reason), i.Lapsed[n.Name].Text
		}
	}
	return v.Tunnel
}

// shownTunnel is a view that is being filled in.
type shownTunnel struct{ api.Tunnel }

// carried shows the connection that carries a tunnel, and the tunnel's objects in the kernel.
func (v *shownTunnel) carried(id ike.ConnID, now tunnelsNow) {
	c := now.conns[id]
	v.PeerID, v.Proposal, v.Peer = c.PeerID, c.Proposal, c.Peer
	v.NATPeer, v.NATLocal, v.UDPEncapsulation, v.Rekeys, v.Phase1Rekeys = c.NATPeer, c.NATLocal, c.Encap, c.Rekeys, c.Phase1Rekeys
	for k := range v.Networks {
		n := &v.Networks[k]
		for _, child := range now.children[id] {
			if child.Child != n.Name {
				continue
			}
			if child.InboundInstalled {
				n.Inbound = append(n.Inbound, sa(child, child.InboundSPI, now.sas[SAKey{ike.Inbound, child.InboundSPI}], now.at))
			}
			if child.OutboundInstalled {
				n.Outbound = append(n.Outbound, sa(child, child.OutboundSPI, now.sas[SAKey{ike.Outbound, child.OutboundSPI}], now.at))
			}
		}
		if len(n.Inbound) > 0 && len(n.Outbound) > 0 {
			n.State = networkUp
		}
		for _, s := range n.Inbound {
			v.AuthErrors += s.AuthErrors
			v.ReplayErrors += s.ReplayErrors
		}
	}
	t := now.traffic[v.Name]
	v.Outside = api.TunnelTraffic{InPackets: t.InPackets, InBytes: t.InBytes, OutPackets: t.OutPackets, OutBytes: t.OutBytes}
	s := now.states[v.Name]
	v.KernelReason, v.KernelText = s.Reason, s.Text
	if v.Interface.Name != "" {
		v.Interface.Index = s.Index
		v.Inside = api.TunnelTraffic{
			InPackets: s.Traffic.InPackets, InBytes: s.Traffic.InBytes, InErrors: s.Traffic.InErrors, InDrops: s.Traffic.InDrops,
			OutPackets: s.Traffic.OutPackets, OutBytes: s.Traffic.OutBytes, OutErrors: s.Traffic.OutErrors, OutDrops: s.Traffic.OutDrops,
		}
	}
}

// configuredTunnel shows what the configuration says.
func configuredTunnel(r *config.Router, t *config.StaticTunnel) *shownTunnel {
	v := api.Tunnel{
		VR: t.Terminating, TransportVR: r.Name, Name: t.Name, Type: "signalled", Mode: t.Mode.String(), Start: t.Start.String(), Enabled: t.Enabled,
		LocalAddress: t.LocalAddress, LocalIdentity: t.LocalID, PeerIdentity: t.PeerID, Authentication: "psk", Certificate: t.Certificate,
		Aggressive: t.Aggressive, ExtendedAuthentication: t.XAuth.String(), User: t.User, PFS: t.PFS.String(),
		LifetimeSeconds: int64(t.Lifetime / time.Second), LifetimeKilobytes: lifeKB(t.LifetimeKilobytes), DeadPeerDetection: t.DPD,
		Peers: []api.TunnelPeer{}, Networks: []api.TunnelNetwork{}, Transforms: []string{}, OtherConnections: []uint32{}, Failures: map[string]uint64{},
	}
	switch {
	case t.PeerIDIsAddress:
		v.PeerIdentity = "its address"
	case t.PeerID == "":
		v.PeerIdentity = "any"
	}
	if t.Certificate != "" {
		v.Authentication = "rsa"
	}
	if v.LocalIdentity == "" {
		v.LocalIdentity = t.LocalAddress.String()
		if t.Certificate != "" {
			v.LocalIdentity = "the certificate's subject"
		}
	}
	for _, p := range t.Peers {
		peer := api.TunnelPeer{Peer: p.Name, Addresses: []netip.Addr{}}
		if p.Address.IsValid() {
			peer.Peer, peer.Addresses = p.Address.String(), append(peer.Addresses, p.Address)
		}
		v.Peers = append(v.Peers, peer)
	}
	for _, x := range t.Transforms {
		v.Transforms = append(v.Transforms, x.String())
	}
	if len(t.Transforms) == 0 {
		v.Transforms = append(v.Transforms, r.Proposals.String())
	}
	for _, n := range t.Networks {
		v.Networks = append(v.Networks, api.TunnelNetwork{
			Name: n.Name, Local: n.Local, Remote: n.Remote, Protocol: n.Protocol, LocalPort: n.LocalPort, RemotePort: n.RemotePort, State: "down",
			Inbound: []api.IPsecSA{}, Outbound: []api.IPsecSA{},
		})
	}
	if t.Mode == config.StaticRoute {
		i := &t.Interface
		v.Interface = api.TunnelInterface{Name: i.Name, MTU: i.MTU, Addresses: append([]netip.Prefix{}, i.Addresses...), Routes: []api.LinkRoute{}, WithdrawRoutes: i.Withdraw}
		for _, route := range i.Routes {
			v.Interface.Routes = append(v.Interface.Routes, api.LinkRoute{Network: route.Network, Metric: route.Metric})
		}
	}
	if c := t.Check; c.Target.IsValid() {
		v.Check = api.TunnelCheck{Target: c.Target, Source: c.Source, TCPPort: c.Port, Tolerance: c.Tolerance}
	}
	return &shownTunnel{v}
}

// lifeKB is a bound in kilobytes, of which the greatest number stands for none.
func lifeKB[T uint32 | uint64](n T) uint64 {
	if n == math.MaxUint32 {
		return 0
	}
	return uint64(n)
}

// tunnelCounts counts a router's static tunnels; in the loop.
func (r *router) tunnelCounts() (out api.TunnelCounts) {
	for _, i := range r.machine.sites.engine.Tunnels() {
		out.Configured++
		if i.State == site.StateUp {
			out.Up++
		}
	}
	return out
}

var tunnelCommands = map[api.TunnelCommand]site.Command{
	api.TunnelUp: site.CommandUp, api.TunnelDown: site.CommandDown, api.TunnelNow: site.CommandNow,
}

// TellTunnel implements [api.Source].
func (p *Process) TellTunnel(ctx context.Context, q api.TunnelRequest) error {
	var names []string
	for _, r := range p.routers() {
		c := r.cfg()
		for i := range c.StaticTunnels {
			if names = append(names, c.StaticTunnels[i].Name); c.StaticTunnels[i].Name == q.Tunnel {
				return r.tell(ctx, q.Tunnel, q.Command)
			}
		}
	}
	return badQuestion(http.StatusNotFound, api.ReasonNotFound, "there is no static tunnel %q%s", q.Tunnel, config.Suggest(q.Tunnel, names))
}

func (r *router) tell(ctx context.Context, name string, command api.TunnelCommand) error {
	a, ok := r.tellTunnel(ctx, name, tunnelCommands[command])
	switch {
	case !ok && ctx.Err() != nil:
		return ctx.Err()
	case !ok:
		return badQuestion(http.StatusServiceUnavailable, api.ReasonUnavailable, "virtual router %s, whose addresses the tunnel has, does not run", r.name)
	case a.Reason == site.ReasonUnknown:
		return badQuestion(http.StatusNotFound, api.ReasonNotFound, "there is no static tunnel %q any more", name)
	case a.Reason != "":
		text := fmt.Sprintf("static tunnel %q is not told %q: %s", name, command, a.Reason)
		if a.Text != "" {
			text += " (" + a.Text + ")"
		}
		return badQuestion(http.StatusConflict, api.ReasonRefused, "%s", text)
	}
	return nil
}
