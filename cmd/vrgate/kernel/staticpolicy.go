package kernel

import (
	"errors"
	"net/netip"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/xfrm"
)

// staticPolicies are the policies of a static tunnel whose packets are sent as c says. What is received may come by any SA whose
// selector lets it pass: an SA that is tied to the tunnel's interface can only be the tunnel's, and while the tunnel goes from one
// peer to another both bring packets.
func staticPolicies(t *config.StaticTunnel, ifID uint32, c carried) map[xfrm.Slot]xfrm.Policy {
	out := map[xfrm.Slot]xfrm.Policy{}
	for i := range t.Networks {
		n := &t.Networks[i]
		sent := xfrm.Policy{
			Dir: xfrm.PolicyOut, Src: n.Local, Dst: n.Remote, Proto: n.Protocol, SrcPort: n.LocalPort, DstPort: n.RemotePort,
			Mode: xfrm.Tunnel, IfID: ifID, Local: t.LocalAddress,
		}
		if t.Mode != config.StaticTransport {
			addPolicies(out, c.sent(sent, c.conn != 0), xfrm.PolicyIn, xfrm.PolicyForward)
			continue
		}
		sent.Mode, sent.IfID, sent.Src = xfrm.Transport, 0, hostPrefix(t.LocalAddress)
		for _, peer := range staticPeers(t, c) {
			sent.Dst = hostPrefix(peer)
			addPolicies(out, c.sent(sent, c.conn != 0 && peer == c.remote), xfrm.PolicyIn) // to the tunnel's end, which is here
		}
	}
	return out
}

// sent has a policy send by the SAs of the connection that carries, or by none.
func (c carried) sent(p xfrm.Policy, carries bool) xfrm.Policy {
	p.Reqid = c.idle
	if carries {
		p.Reqid, p.Remote = xfrm.Tag(uint32(c.conn)), c.remote
	}
	return p
}

// addPolicies adds the policy for what is sent and those for what comes back.
func addPolicies(to map[xfrm.Slot]xfrm.Policy, sent xfrm.Policy, back ...xfrm.PolicyDirection) {
	to[sent.Slot()] = sent
	received := sent
	received.Src, received.Dst, received.SrcPort, received.DstPort = sent.Dst, sent.Src, sent.DstPort, sent.SrcPort
	received.Reqid, received.Remote = 0, netip.Addr{}
	for _, dir := range back {
		received.Dir = dir
		to[received.Slot()] = received
	}
}

// staticPeers are the addresses that a peer is known to have: those of the configuration, and that from which it has last carried the tunnel.
func staticPeers(t *config.StaticTunnel, c carried) []netip.Addr {
	var out []netip.Addr
	for _, p := range t.Peers {
		if p.Address.IsValid() {
			out = append(out, p.Address)
		}
	}
	if c.remote.IsValid() {
		out = append(out, c.remote)
	}
	return out
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// errPolicyTaken says that there is a policy for a tunnel's packets that is not the tunnel's.
func errPolicyTaken(err error) error {
	return &controlplane.DataplaneError{
		Reason: "policy-taken", Text: "another static tunnel, or another program, has an IPsec policy for the same packets; see ip xfrm policy", Err: err,
	}
}

// bringPolicies makes a tunnel's policies what they should be. Those of mode route have to wait for the number of the first interface:
// without it they would be about the packets of the whole namespace, also other tenants'. s.mu is held.
func (d *dataplane) bringPolicies(s *static) error {
	if s.config.Mode == config.StaticRoute && s.ifID == 0 {
		return nil
	}
	return d.bring(s, staticPolicies(&s.config, s.ifID, s.carried))
}

// bring makes a tunnel's policies those that are wanted: what is new is added, what has changed is changed in one step, what is not wanted
// is removed. With an error the others are as they are wanted all the same. s.mu is held.
func (d *dataplane) bring(s *static, want map[xfrm.Slot]xfrm.Policy) error {
	d.books.changing.RLock()
	defer d.books.changing.RUnlock()
	var failed error
	for slot, p := range want {
		have, there := s.policies[slot]
		if there && have == p {
			continue
		}
		put := d.xfrm.AddPolicy
		if there {
			put = d.xfrm.UpdatePolicy
		}
		if err := put(p); err != nil {
			if errors.Is(err, xfrm.ErrExists) {
				err = errPolicyTaken(err)
			}
			failed = errors.Join(failed, err)
			continue
		}
		s.policies[slot] = p
	}
	for slot, p := range s.policies {
		if _, wanted := want[slot]; wanted {
			continue
		}
		if err := d.xfrm.RemovePolicy(p); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		delete(s.policies, slot)
	}
	return failed
}
