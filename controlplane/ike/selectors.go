package ike

import (
	"fmt"
	"net/netip"
	"slices"

	"vrgate/controlplane/isakmp"
)

// oneHost tells whether a selector names a single address.
func oneHost(id isakmp.ID) bool {
	p, ok := id.Prefix()
	return ok && p.IsSingleIP()
}

// hostIs tells whether a selector is exactly the address.
func hostIs(id isakmp.ID, a netip.AddrPort) bool {
	p, ok := id.Prefix()
	return ok && p.IsSingleIP() && p.Addr().Unmap() == a.Addr()
}

// netOf is the network that a selector names: an address, a subnet, or a range
// that is one of these.
func netOf(id isakmp.ID) (netip.Prefix, bool) {
	if p, ok := id.Prefix(); ok {
		return p, true
	}
	from, to, ok := id.Range()
	if !ok {
		return netip.Prefix{}, false
	}
	for bits := from.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(from, bits)
		if p.Masked() != p {
			break
		}
		if _, last, _ := isakmp.PrefixID(p, 0, 0).Range(); last == to {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// covers tells whether one of the networks contains all of n.
func covers(nets []netip.Prefix, n netip.Prefix) bool {
	return slices.ContainsFunc(nets, func(x netip.Prefix) bool { return x.Bits() <= n.Bits() && x.Contains(n.Addr()) })
}

// judgeTraffic finds the profile for a quick mode of the peer and measures its
// selectors by it (J11, D2r).
func (e *Engine) judgeTraffic(c *conn, q *quick, ids []isakmp.Payload) (t *TransportProfile, reason Reason, text string) {
	p := q.p
	if c.Static != "" {
		return e.judgeStatic(c, q, ids)
	}
	if s := e.cfg.meantStatic(p, ids); s != nil && (c.Dyn == nil || !c.owns(e.cfg.tunnelByName(c.Dyn.Profile), ids)) && !c.subscribes() {
		return nil, ReasonNotShared, fmt.Sprintf("the peer proposes networks of static tunnel %q, for which it has to prove itself by that tunnel's key and identity", s.Name)
	}
	if c.Dyn == nil && !c.subscribes() {
		if t = e.cfg.transportOf(c); t == nil {
			return nil, ReasonNoProfile, fmt.Sprintf("no transport profile takes %v on %v", p.Remote.Addr(), p.Local.Addr())
		}
		if q.rid, q.lid, text = p.selectors(ids, c.Info.NATPassthrough); text != "" {
			return nil, ReasonSelectors, text
		}
		return t, "", ""
	}
	remote, local, text := tunnelNets(ids)
	if text != "" {
		return nil, ReasonSelectors, text
	}
	if c.subscribes() {
		// The server may replace what we have opened, and open nothing else.
		if t = e.cfg.phase2(c.Open.Profile); t == nil {
			return nil, ReasonNoProfile, fmt.Sprintf("profile %q has been removed", c.Open.Profile)
		}
		if !c.hasTunnel(remote, local) {
			return nil, ReasonSelectors, fmt.Sprintf("there is no tunnel from %v to %v", local, remote)
		}
	} else {
		profile := e.cfg.tunnelByName(c.Dyn.Profile)
		if profile == nil {
			return nil, ReasonNoProfile, fmt.Sprintf("tunnel profile %q has been removed", c.Dyn.Profile)
		}
		if text = c.subscriberNets(profile, remote, local); text != "" {
			return nil, ReasonSelectors, text
		}
		if most := maxTunnels + len(c.Dyn.Lease.Behind); !c.hasTunnel(remote, local) && c.tunnels() >= most {
			return nil, ReasonTooMany, fmt.Sprintf("the peer has %d tunnels already", most)
		}
		t = profile.phase2()
	}
	q.tunnel, q.remote, q.local = true, remote, local
	q.rid, q.lid = clone(ids[0].Body), clone(ids[1].Body)
	return t, "", ""
}

// selectors checks the traffic selectors of the peer's message 1 by D2r: our end
// is the server address, UDP port 1701, the peer's end is the peer with any UDP
// port. Behind a NAT the addresses may be those before translation, with NAT
// passthrough that of the peer (B1r). text says what is wrong.
func (p *phase1) selectors(ids []isakmp.Payload, passes bool) (remote, local []byte, text string) {
	if len(ids) != 2 {
		return nil, nil, "the peer names no selectors, which asks for all traffic; only L2TP (UDP port 1701) is allowed"
	}
	idci, err := ids[0].ID()
	if err != nil {
		return nil, nil, err.Error()
	}
	idcr, err := ids[1].ID()
	if err != nil {
		return nil, nil, err.Error()
	}
	switch {
	case idcr.Protocol != udp || idcr.Port != l2tpPort:
		return nil, nil, fmt.Sprintf("selector %v for us: only L2TP (UDP port 1701) is allowed", idcr)
	case idci.Protocol != udp:
		return nil, nil, fmt.Sprintf("selector %v for the peer: only UDP is allowed", idci)
	case !oneHost(idcr) || !p.NATLocal && !hostIs(idcr, p.Local):
		return nil, nil, fmt.Sprintf("selector %v is not our address %v", idcr, p.Local.Addr())
	case !p.NATPeer && !passes && !hostIs(idci, p.Remote):
		why := "there is no NAT"
		if p.Vendor.NATT == isakmp.NATTNone {
			why = "without NAT-T one behind a NAT is taken only where its transport profile has nat-passthrough"
		}
		return nil, nil, fmt.Sprintf("selector %v is not the peer's address %v, and %s", idci, p.Remote.Addr(), why)
	case !oneHost(idci) && idci.Type != isakmp.IDFQDN:
		// Windows 2000 and XP behind a NAT send their host name.
		return nil, nil, fmt.Sprintf("selector %v is not one host", idci)
	}
	return clone(ids[0].Body), clone(ids[1].Body), ""
}

const (
	udp      = 17
	l2tpPort = 1701
)

// tunnelNets reads the selectors of the peer's message 1 in tunnel mode. text
// says what is wrong.
func tunnelNets(ids []isakmp.Payload) (remote, local netip.Prefix, text string) {
	if len(ids) != 2 {
		return remote, local, "the peer names no selectors, which asks for a tunnel from host to host"
	}
	nets := make([]netip.Prefix, 2)
	for i, p := range ids {
		id, err := p.ID()
		if err != nil {
			return remote, local, err.Error()
		}
		n, ok := netOf(id)
		switch {
		case !ok:
			return remote, local, fmt.Sprintf("selector %v is no network", id)
		case id.Protocol != 0 || id.Port != 0:
			return remote, local, fmt.Sprintf("selector %v: a subscriber's tunnel carries every protocol", id)
		}
		nets[i] = n
	}
	return nets[0], nets[1], ""
}

// subscriberNets checks the selectors of a dynamic subscriber: on its side the
// address it was given, a network around it that the profile allows, or what lies
// within a network behind it; on ours everything or what
// lies within the profile's networks. vpnc, Shrew and most others ask for
// everything whatever networks they were told, and route by those.
func (c *conn) subscriberNets(t *TunnelProfile, remote, local netip.Prefix) (text string) {
	own, behind := c.Dyn.Lease.Address, c.Dyn.Lease.Behind
	around := remote.Contains(own) && (remote.IsSingleIP() || covers(t.PeerNets, remote))
	switch {
	case !around && !covers(behind, remote) && len(behind) > 0:
		return fmt.Sprintf("selector %v is neither the address %v that the peer was given nor in a network behind it", remote, own)
	case !around && !covers(behind, remote):
		return fmt.Sprintf("selector %v is not the address %v that the peer was given", remote, own)
	case local.Bits() > 0 && len(t.LocalNets) > 0 && !covers(t.LocalNets, local):
		return fmt.Sprintf("selector %v is in none of the networks of tunnel profile %q", local, t.Name)
	}
	return ""
}

// hasTunnel tells whether a child for the networks exists.
func (c *conn) hasTunnel(remote, local netip.Prefix) bool {
	return slices.ContainsFunc(c.Children, func(ch *child) bool {
		return ch.In.Tunnel && ch.In.RemoteNet == remote && ch.In.LocalNet == local
	})
}

// tunnels counts the pairs of networks of the children.
func (c *conn) tunnels() int {
	type pair struct{ local, remote netip.Prefix }
	seen := map[pair]bool{}
	for _, ch := range c.Children {
		seen[pair{ch.In.LocalNet, ch.In.RemoteNet}] = true
	}
	return len(seen)
}

// rivals tells whether two children carry the same traffic, so that one can take
// the other's place. All transport-mode children of a connection do, tunnels only
// with the same networks: Apple's clients open one for each network of the
// split-include. nil is everybody's rival.
func (c *child) rivals(o *child) bool {
	return o == nil || c.Name == "" && !c.In.Tunnel || c.sameSelectors(o)
}
