package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/api"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// Process is what the control API shows.
var _ api.Source = (*Process)(nil)

// each collects what every serving router's loop says, in the order of routers. One that
// does not serve, or ends meanwhile, has nothing to say.
func each[T any](ctx context.Context, p *Process, get func(r *router, now time.Time) []T) ([]T, error) {
	var out []T
	for _, r := range p.routers() {
		var part []T
		if r.do(ctx, func(now time.Time) { part = get(r, now) }) {
			out = append(out, part...)
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return out, nil
}

// VRs implements [api.Source].
func (p *Process) VRs(ctx context.Context) ([]api.VR, error) {
	out := make([]api.VR, 0, len(p.routers()))
	for _, r := range p.routers() {
		c := r.cfg()
		v := api.VR{
			Name: c.Name, Kind: c.Kind.String(), Namespace: c.Namespace.Name, Device: c.VRF.Device, Table: c.VRF.Table, State: "starting",
			ServerAddresses: c.ServerAddresses, NATT: c.NATT, Proposals: c.Proposals.String(),
			PolicyRules: policyRules(r.rules()), Pools: poolViews(c, p.shared.leases.usage(c.Name)),
			Licences: p.shared.leases.licencesOf(c.Name), StaticTunnels: api.TunnelCounts{Configured: len(c.StaticTunnels)},
		}
		var live api.VR
		switch {
		case r.do(ctx, func(time.Time) { live = r.view(v) }):
			v = live
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case r.ended.Load():
			v.State = "stopping"
		}
		if f := r.failure.Load(); f != nil {
			v.State, v.Reason, v.Text = "failed", string(f.Reason), f.Text
		}
		out = append(out, v)
	}
	return out, nil
}

// view adds to v what the engines know; in the loop.
func (r *router) view(v api.VR) api.VR {
	v.State = "up"
	if r.stopping != running {
		v.State = "stopping"
	}
	v.Connections = len(r.machine.ike.Conns())
	for _, sa := range r.machine.ike.Phase1SAs() {
		v.IKESAs++
		if !sa.Authenticated {
			v.HalfOpen++
		}
	}
	for _, t := range r.machine.l2tp.Tunnels() {
		if t.State == l2tp.StateEstablished {
			v.Tunnels++
		}
	}
	v.Sessions = r.machine.l2tp.LiveSessions()
	v.StaticTunnels = r.tunnelCounts()
	for _, s := range r.machine.subs.Records() {
		switch s.State {
		case subscriber.StateUp:
			v.Subscribers.Up++
		case subscriber.StateEnding:
			v.Subscribers.Ending++
		default:
			v.Subscribers.Connecting++
		}
	}
	return v
}

func policyRules(rules []ike.PolicyRule) []api.PolicyRule {
	var out []api.PolicyRule
	for _, p := range rules {
		rule := api.PolicyRule{
			Priority: p.Priority, Authentication: authWords(p.Auth), LifetimeSeconds: int64(p.Lifetime / time.Second), AggressiveMode: aggressiveWords[p.Aggressive],
		}
		for _, x := range p.Encryption {
			rule.Encryption = append(rule.Encryption, x.String())
		}
		for _, x := range p.Hash {
			rule.Hash = append(rule.Hash, x.String())
		}
		for _, x := range p.Group {
			rule.Group = append(rule.Group, x.String())
		}
		if p.Local.IsValid() {
			rule.LocalAddress = p.Local.String()
		}
		out = append(out, rule)
	}
	return out
}

// IKESAs implements [api.Source].
func (p *Process) IKESAs(ctx context.Context) ([]api.IKESA, error) {
	return each(ctx, p, func(r *router, now time.Time) []api.IKESA {
		var out []api.IKESA
		tunnels := map[ike.ConnID]string{}
		for _, c := range r.machine.ike.Conns() {
			if c.Static != "" {
				tunnels[c.ID] = c.Static
			}
		}
		for _, sa := range r.machine.ike.Phase1SAs() {
			out = append(out, api.IKESA{
				VR: r.name, Local: sa.Local, Remote: sa.Remote, RemainingSeconds: remaining(now, sa.Expires), State: sa.State,
				LocalCookie: sa.LocalCookie, RemoteCookie: sa.RemoteCookie, Initiator: sa.Initiator, NATT: sa.NATT,
				Connection: uint32(sa.Conn), PeerID: sa.PeerID, Peer: sa.Peer, Key: sa.Key, Proposal: sa.Proposal, Since: sa.Since,
				Mode: "main", Subject: sa.Subject, Tunnel: tunnels[sa.Conn],
			})
			v := &out[len(out)-1]
			if sa.Aggressive {
				v.Mode = "aggressive"
			}
			if sa.Proposal != "" {
				v.Authentication = authWords(sa.Method)
			}
		}
		return out
	})
}

func remaining(now, end time.Time) int64 {
	if end.IsZero() {
		return 0
	}
	return max(int64(end.Sub(now)/time.Second), 0)
}

// IPsec implements [api.Source].
func (p *Process) IPsec(ctx context.Context) ([]api.IPsec, error) {
	var out []api.IPsec
	for _, r := range p.routers() {
		if !r.serving.Load() {
			continue
		}
		// Counters are a dump of the kernel: not in the loop.
		counters, err := r.data.SACounters()
		if err != nil {
			return nil, fmt.Errorf("virtual router %s: %w", r.name, err)
		}
		var part []api.IPsec
		if r.do(ctx, func(now time.Time) { part = connections(r.machine.ike, r.name, counters, now) }) {
			out = append(out, part...)
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return out, nil
}

func connections(e *ike.Engine, name string, counters map[SAKey]SACounters, now time.Time) []api.IPsec {
	children := map[ike.ConnID][]ike.ChildInfo{}
	for _, c := range e.Children() {
		children[c.Conn] = append(children[c.Conn], c)
	}
	var out []api.IPsec
	for _, c := range e.Conns() {
		v := api.IPsec{
			VR: name, Connection: uint32(c.ID), State: "connecting", Application: application(c), Subject: c.Subject, Address: c.Address, Profile: c.Profile, Local: c.Local, Remote: c.Remote,
			PeerID: c.PeerID, Peer: c.Peer, Key: c.Key, NATPeer: c.NATPeer, NATLocal: c.NATLocal, UDPEncapsulation: c.Encap, Since: c.Since,
		}
		var locals, remotes []string
		for _, k := range children[c.ID] {
			local, remote := selectors(c, k)
			locals, remotes = appendNew(locals, local), appendNew(remotes, remote)
			if k.InboundInstalled {
				v.Inbound = append(v.Inbound, sa(k, k.InboundSPI, counters[SAKey{ike.Inbound, k.InboundSPI}], now))
			}
			if k.OutboundInstalled {
				v.State = "up"
				v.Outbound = append(v.Outbound, sa(k, k.OutboundSPI, counters[SAKey{ike.Outbound, k.OutboundSPI}], now))
			}
		}
		v.LocalSelector, v.RemoteSelector = strings.Join(locals, ", "), strings.Join(remotes, ", ")
		out = append(out, v)
	}
	return out
}

// application is what a connection may carry (J11).
func application(c ike.ConnInfo) string {
	switch {
	case c.Static != "":
		return "static"
	case c.Dynamic:
		return "dynamic"
	}
	return "l2tp"
}

// selectors are the phase 2 identities of a pair of SAs in words.
func selectors(c ike.ConnInfo, k ike.ChildInfo) (local, remote string) {
	switch {
	case k.Static != "":
		if !k.Tunnel {
			k.LocalNet, k.RemoteNet = netip.PrefixFrom(c.Local.Addr(), 32), netip.PrefixFrom(c.Remote.Addr(), 32)
		}
		return network(k.LocalNet, k.Protocol, k.LocalPort), network(k.RemoteNet, k.Protocol, k.RemotePort)
	case k.Tunnel:
		return k.LocalNet.String(), k.RemoteNet.String()
	}
	return selector(c.Local.Addr(), k.LocalPort), selector(c.Remote.Addr(), k.RemotePort)
}

// network is one side of a static tunnel's pair of networks, with the protocol and the port if it names any.
func network(n netip.Prefix, protocol uint8, port uint16) string {
	out := n.String()
	switch {
	case port != 0:
		out += fmt.Sprintf(" protocol %d port %d", protocol, port)
	case protocol != 0:
		out += fmt.Sprintf(" protocol %d", protocol)
	}
	return out
}

func appendNew(words []string, word string) []string {
	if slices.Contains(words, word) {
		return words
	}
	return append(words, word)
}

func selector(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String() + "/32 udp any"
	}
	return a.String() + "/32 udp " + strconv.Itoa(int(port))
}

func sa(k ike.ChildInfo, spi uint32, c SACounters, now time.Time) api.IPsecSA {
	out := api.IPsecSA{
		SPI: fmt.Sprintf("%08x", spi), Transform: k.Transform, LifetimeSeconds: int64(k.Lifetime / time.Second),
		RemainingSeconds: remaining(now, k.Expires), LifetimeKilobytes: lifeKB(k.LifeKB),
		Bytes: c.Bytes, Packets: c.Packets, ReplayErrors: c.Replay, AuthErrors: c.AuthFailed,
	}
	if used := c.Bytes >> 10; out.LifetimeKilobytes > used {
		out.RemainingKilobytes = out.LifetimeKilobytes - used
	}
	return out
}

// Subscribers implements [api.Source].
func (p *Process) Subscribers(ctx context.Context) ([]api.Subscriber, error) {
	var out []api.Subscriber
	for _, r := range p.routers() {
		var records []subscriber.Record
		var traffic []time.Time
		var at time.Time
		if !r.do(ctx, func(now time.Time) {
			at, records = now, r.machine.subs.Records()
			for i := range records {
				traffic = append(traffic, r.machine.subs.LastTraffic(records[i].ID))
			}
		}) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		for i := range records {
			s := &records[i]
			if c, ok := r.data.SessionCounters(s.ID); ok { // asks the kernel: not in the loop
				s.Counters = c
			}
			v := p.subscriber(s)
			timeoutsView(&v, s, traffic[i], at)
			out = append(out, v)
		}
	}
	return out, nil
}

func (p *Process) subscriber(s *subscriber.Record) api.Subscriber {
	v := api.Subscriber{
		ID: idText(s.ID), User: s.User, Type: "ppp", Profile: s.Profile, PeerID: s.PeerID, Access: string(s.Access), State: s.State.String(), VR: s.Router, TerminatingVR: s.Terminating,
		Address: s.Address, Gateway: s.Gateway, Interface: s.Interface, Ifindex: s.Ifindex, MTU: s.MTU, Local: s.Local, Remote: s.Remote, RemoteHost: s.PeerHost,
		Peer: s.Peer, CallingNumber: s.CallingNumber, Authentication: string(s.Protocol), Connection: s.Conn,
		LocalTunnel: s.Call.Tunnel, LocalSession: s.Call.Session, Called: s.Called, Up: s.Up,
		InBytes: s.Counters.InBytes, OutBytes: s.Counters.OutBytes, InPackets: s.Counters.InPackets, OutPackets: s.Counters.OutPackets,
	}
	if s.Access == aaa.AccessXAuth {
		v.Type = "ipsec"
	}
	p.authorityView(&v, s)
	return v
}

// idText is how an ID is written for people and programs.
func idText(id subscriber.ID) string { return strconv.FormatUint(uint64(id), 10) }

// Counters implements [api.Source].
func (p *Process) Counters(ctx context.Context) ([]api.Counter, error) {
	out, err := each(ctx, p, func(r *router, _ time.Time) []api.Counter { return r.counters() })
	if err != nil {
		return nil, err
	}
	for _, r := range p.routers() {
		if !r.serving.Load() {
			continue
		}
		drops, err := r.data.Drops() // asks the kernel: not in the loop
		if err != nil {
			continue // somebody has removed our rules, which is another counter's matter
		}
		for reason, n := range drops {
			out = append(out, api.Counter{VR: r.name, Subsystem: "kernel-drop", Reason: reason, Value: n})
		}
	}
	slices.SortFunc(out, func(a, b api.Counter) int {
		return cmp.Or(cmp.Compare(a.VR, b.VR), cmp.Compare(a.Subsystem, b.Subsystem), cmp.Compare(a.Reason, b.Reason))
	})
	return out, nil
}

// counters collects what the engines and the shell have counted; in the loop.
func (r *router) counters() []api.Counter {
	var out []api.Counter
	add := func(subsystem, reason string, v uint64) {
		out = append(out, api.Counter{VR: r.name, Subsystem: subsystem, Reason: reason, Value: v})
	}
	for k, v := range r.machine.ike.Counters() {
		add("ike", string(k), v)
	}
	for k, v := range r.machine.l2tp.Counters() {
		add("l2tp", string(k), v)
	}
	for k, v := range r.machine.subs.Counters() {
		add("subscriber", string(k), v)
	}
	add("subscriber", "started", r.stats.started.Load())
	add("subscriber", "ended", r.stats.ended.Load())
	add("dataplane", "queue-full", r.inbox.drops())
	add("dataplane", "kernel-failed", r.stats.kernelErrors.Load())
	add("dataplane", "ike-send-failed", r.stats.ikeSendErrors.Load())
	add("dataplane", "l2tp-send-failed", r.stats.l2tpSendErrors.Load())
	add("dataplane", "ppp-send-failed", r.stats.pppSendErrors.Load())
	return out
}

// Disconnect implements [api.Source].
func (p *Process) Disconnect(ctx context.Context, ids []string) error {
	var wanted []subscriber.ID
	for _, s := range ids {
		id, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			continue // no session has such an ID
		}
		wanted = append(wanted, subscriber.ID(id))
	}
	for _, r := range p.routers() {
		if !r.do(ctx, func(now time.Time) {
			r.perform(ctx, r.machine.step(now, subscriber.Disconnect{IDs: wanted, Reason: subscriber.ReasonAdmin}))
		}) && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// usage lists the pools of a terminating virtual router.
func (l *leases) usage(router string) []api.Pool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []api.Pool
	for k, q := range l.pools {
		if k.router != router {
			continue
		}
		v := api.Pool{Name: k.pool, State: "free"}
		v.Used, v.Size = q.Usage()
		switch {
		case v.Used >= v.Size:
			v.State = "exhausted"
		case l.watches[k].warned:
			v.State = "warning"
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b api.Pool) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// source says whether an address is fixed to its user or leased from a pool.
func (l *leases) source(router string, a netip.Addr) aaa.AddressSource {
	l.mu.Lock()
	defer l.mu.Unlock()
	if who, held := l.holders[router][a]; held && l.grants[who].pool != nil {
		return aaa.FromPool
	}
	return aaa.FromUser
}
