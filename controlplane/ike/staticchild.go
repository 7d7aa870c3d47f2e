package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"vrgate/controlplane/isakmp"
)

// IP protocols that transport mode of static tunnels carries.
const (
	ipip = 4
	gre  = 47
)

// maxNamedNets bounds the pairs of networks that a sentence lists.
const maxNamedNets = 4

// selector is what a pair of SAs of a static tunnel carries: equal ones carry the same.
type selector struct {
	local, remote         netip.Prefix
	protocol              uint8
	localPort, remotePort uint16
}

// selectors are those of a pair of networks between two addresses, which are meant where there are no
// networks.
func (x *StaticChild) selectors(local, remote netip.Addr) selector {
	s := selector{local: x.LocalNet.Masked(), remote: x.RemoteNet.Masked(), protocol: x.Protocol, localPort: x.LocalPort, remotePort: x.RemotePort}
	if !x.Tunnel || !s.local.IsValid() {
		s.local = host(local)
	}
	if !x.Tunnel || !s.remote.IsValid() {
		s.remote = host(remote)
	}
	return s
}

// host is an address as a network.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// ids are the selectors as bodies of identification payloads, ours and the peer's.
func (s selector) ids() (local, remote []byte) {
	id := func(n netip.Prefix, port uint16) []byte {
		if n.IsSingleIP() {
			return isakmp.AddrID(n.Addr(), s.protocol, port).Payload().Body
		}
		return isakmp.PrefixID(n, s.protocol, port).Payload().Body
	}
	return id(s.local, s.localPort), id(s.remote, s.remotePort)
}

// String says what is carried, as both sides' networks.
func (s selector) String() string {
	side := func(n netip.Prefix, port uint16) string {
		text := n.String()
		if port != 0 {
			text += fmt.Sprintf(" port %d", port)
		}
		return text
	}
	text := fmt.Sprintf("%s here and %s there", side(s.local, s.localPort), side(s.remote, s.remotePort))
	switch s.protocol {
	case 0:
	case gre:
		text += ", GRE only"
	case ipip:
		text += ", IP in IP only"
	default:
		text += fmt.Sprintf(", protocol %d only", s.protocol)
	}
	return text
}

// readSelectors reads those of the peer's message 1. Without any, the two hosts are meant with all they say
// to each other (RFC 2409 section 5.5). text says what is wrong.
func readSelectors(ids []isakmp.Payload, local, remote netip.Addr) (s selector, text string) {
	if len(ids) == 0 {
		return selector{local: host(local), remote: host(remote)}, ""
	}
	if len(ids) != 2 {
		return s, fmt.Sprintf("the peer names %d selectors", len(ids))
	}
	var got [2]isakmp.ID
	var nets [2]netip.Prefix
	for i, p := range ids {
		var err error
		if got[i], err = p.ID(); err != nil {
			return s, err.Error()
		}
		n, ok := netOf(got[i])
		if !ok {
			return s, fmt.Sprintf("selector %v is no network", got[i])
		}
		nets[i] = n
	}
	if got[0].Protocol != got[1].Protocol {
		return s, fmt.Sprintf("selectors %v and %v are of different protocols", got[0], got[1])
	}
	return selector{local: nets[1], remote: nets[0], protocol: got[0].Protocol, localPort: got[1].Port, remotePort: got[0].Port}, ""
}

// pair finds the pair of networks with these selectors, nil if there is none. In transport mode an address
// before translation may stand where a NAT is (RFC 3947 section 5.2).
func (t *StaticTunnel) pair(s selector, p *phase1) *StaticChild {
	for i := range t.Children {
		x := &t.Children[i]
		want := x.selectors(p.Local.Addr(), p.Remote.Addr())
		if !x.Tunnel && p.NATLocal && s.local.IsSingleIP() {
			want.local = s.local
		}
		if !x.Tunnel && p.NATPeer && s.remote.IsSingleIP() {
			want.remote = s.remote
		}
		if want == s {
			return x
		}
	}
	return nil
}

// differs says in which way what the peer proposes is not what the tunnel has.
func (t *StaticTunnel) differs(s selector, p *phase1) string {
	text := fmt.Sprintf("the peer proposes %v; static tunnel %q has", s, t.Name)
	if len(t.Children) == 0 {
		return text + " none"
	}
	var near string
	for i := range t.Children {
		own := t.Children[i].selectors(p.Local.Addr(), p.Remote.Addr())
		if how := relation(s, own); how != "" && near == "" {
			near = how
		}
		switch sep := " and"; {
		case i == maxNamedNets:
			text += fmt.Sprintf(" and %d more", len(t.Children)-i)
		case i < maxNamedNets && i > 0:
			text += fmt.Sprintf("%s %v", sep, own)
		case i == 0:
			text += fmt.Sprintf(" %v", own)
		}
	}
	if near != "" {
		text += ": " + near
	}
	return text
}

// relation says how a proposal misses what would nearly fit, "" if it is something else altogether.
func relation(got, own selector) string {
	a, b := within(got.local, own.local), within(got.remote, own.remote)
	if a == "" || b == "" {
		return ""
	}
	var parts []string
	for _, x := range []struct{ how, where string }{{a, "on our side"}, {b, "on the peer's"}} {
		if x.how != "equal" {
			parts = append(parts, "the peer's is "+x.how+" "+x.where)
		}
	}
	if got.protocol != own.protocol || got.localPort != own.localPort || got.remotePort != own.remotePort {
		parts = append(parts, "protocol or ports differ")
	}
	return strings.Join(parts, ", ")
}

// within compares two networks: equal, narrower, wider, or "" if they have nothing in common.
func within(got, own netip.Prefix) string {
	switch {
	case got == own:
		return "equal"
	case covers([]netip.Prefix{own}, got):
		return "narrower"
	case covers([]netip.Prefix{got}, own):
		return "wider"
	}
	return ""
}

// judgeStatic finds the pair of networks that a quick mode of a static tunnel's peer is for, and fills q in.
func (e *Engine) judgeStatic(c *conn, q *quick, ids []isakmp.Payload) (t *TransportProfile, reason Reason, text string) {
	p := q.p
	tunnel := e.cfg.static(c.Static)
	if tunnel == nil {
		return nil, ReasonNoProfile, fmt.Sprintf("static tunnel %q has been removed", c.Static)
	}
	s, text := readSelectors(ids, p.Local.Addr(), p.Remote.Addr())
	if text != "" {
		return nil, ReasonSelectors, text
	}
	x := tunnel.pair(s, p)
	switch {
	case x == nil && s.protocol == udp && s.localPort == l2tpPort:
		return nil, ReasonNotShared, fmt.Sprintf("the peer proposes L2TP (UDP port 1701) in the phase 1 SA of static tunnel %q, which is never shared; %s",
			tunnel.Name, "an L2TP client needs a key or identity of its own")
	case x == nil:
		return nil, ReasonSelectors, tunnel.differs(s, p)
	}
	q.name, q.tunnel, q.sel = x.Name, x.Tunnel, s
	q.local, q.remote = s.local, s.remote
	if len(ids) == 2 {
		q.rid, q.lid = clone(ids[0].Body), clone(ids[1].Body)
	}
	return tunnel.phase2(), "", ""
}

// meantStatic tells whether a quick mode that an L2TP client or a dynamic subscriber proposes is that of a
// static tunnel (J11), and which.
func (c *Config) meantStatic(p *phase1, ids []isakmp.Payload) *StaticTunnel {
	if len(c.Statics) == 0 || len(ids) == 0 {
		return nil
	}
	s, text := readSelectors(ids, p.Local.Addr(), p.Remote.Addr())
	if text != "" {
		return nil
	}
	for i := range c.Statics {
		if t := &c.Statics[i]; t.between(p.Local.Addr(), p.Remote.Addr()) && t.pair(s, p) != nil {
			return t
		}
	}
	return nil
}

// missing returns the next pair of networks that was dialled and is not there, nil if there is none.
func (e *Engine) missing(c *conn) *StaticChild {
	t := e.cfg.static(c.Static)
	for t != nil && len(c.Wanted) > 0 {
		if x := t.child(c.Wanted[0]); x != nil && c.named(x.Name) == nil {
			return x
		}
		c.Wanted = c.Wanted[1:] // the peer has opened it meanwhile
	}
	return nil
}

// firstOf fills in the quick mode that opens a pair of networks.
func (e *Engine) firstOf(c *conn, q *quick, x *StaticChild) {
	t := e.cfg.static(c.Static)
	q.profile, q.pfs = t.phase2(), t.PFS
	q.name, q.tunnel, q.sel = x.Name, x.Tunnel, x.selectors(q.p.Local.Addr(), q.p.Remote.Addr())
	q.local, q.remote = q.sel.local, q.sel.remote
	q.lid, q.rid = q.sel.ids()
}

// named returns the child that carries a pair of networks, nil if there is none.
func (c *conn) named(name string) *child {
	for _, ch := range c.Children {
		if ch.Name == name && ch.ready() {
			return ch
		}
	}
	return nil
}

// staticUp is called when a child of a static tunnel is ready: the first of its pair of networks is told,
// and what else was dialled is opened, one after the other, so that a refusal can only mean that one.
func (e *Engine) staticUp(c *conn, ch *child) {
	if !slices.Contains(c.Shown, ch.Name) {
		c.Shown = append(c.Shown, ch.Name)
		e.emit(ChildUp{Conn: c.Info.ID, Static: c.Static, Child: ch.Name})
	}
	e.openChild(c, nil)
}

// staticFailed is called when a pair of networks that was dialled has not come up. half is what there is of
// its child, nil if nothing.
func (e *Engine) staticFailed(c *conn, name string, half *child, r Reason, text string) {
	e.count(r)
	c.Wanted = slices.DeleteFunc(c.Wanted, func(n string) bool { return n == name })
	if len(c.Wanted) == 0 && !slices.ContainsFunc(c.Children, func(ch *child) bool { return ch != half && !ch.Deleted }) {
		e.closeConn(c, r, text, false)
		return
	}
	e.emit(ChildDown{Conn: c.Info.ID, Static: c.Static, Child: name, Reason: r, Text: text})
	e.openChild(c, nil)
}

// staticGone tells of pairs of networks that nothing carries any more.
func (e *Engine) staticGone(c *conn, r Reason, byPeer bool) {
	for _, name := range slices.Clone(c.Shown) {
		if slices.ContainsFunc(c.Children, func(ch *child) bool { return ch.Name == name && !ch.Deleted }) {
			continue
		}
		c.Shown = slices.DeleteFunc(c.Shown, func(n string) bool { return n == name })
		e.emit(ChildDown{Conn: c.Info.ID, Static: c.Static, Child: name, Reason: r, ByPeer: byPeer})
	}
}

// refusal says that the peer refuses a quick mode of ours, and what we proposed.
func (q *quick) refusal(t isakmp.NotifyType) string {
	if q.name == "" {
		return fmt.Sprintf("the peer sends %v", t)
	}
	return fmt.Sprintf("the peer sends %v: pair %q is %v", t, q.name, q.sel)
}

// owns tells whether a dynamic subscriber may propose the selectors as its own, whatever else they are.
func (c *conn) owns(t *TunnelProfile, ids []isakmp.Payload) bool {
	remote, local, text := tunnelNets(ids)
	return t != nil && text == "" && c.subscriberNets(t, remote, local) == ""
}
