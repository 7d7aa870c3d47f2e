package radius

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
)

// tunnel collects the attributes of RFC 2868 that share a tag, which are one LNS to which the session is handed on.
type tunnel struct {
	kind, medium, preference choice[uint32]
	server, client           choice[string]
	clientName, serverName   choice[string]
	assignment, group        choice[string]
	password                 choice[keymat.Secret]
	max                      choice[uint32]
}

// tunnel returns that of a tag, at most maxTag.
func (b *builder) tunnel(tag uint8) *tunnel {
	if b.tunnels == nil {
		b.tunnels = map[uint8]*tunnel{}
	}
	t := b.tunnels[tag]
	if t == nil {
		t = &tunnel{}
		b.tunnels[tag] = t
	}
	return t
}

// order says whether the server wants a tunnel: what only goes along with one, or has another use (switches of Wi-Fi and
// 802.1X put a VLAN's number into Tunnel-Private-Group-Id), is no order.
func (t *tunnel) order() bool {
	return t.kind.any() || t.medium.any() || t.preference.any() || t.server.any() || t.client.any() || t.clientName.any() ||
		t.serverName.any() || t.assignment.any() || t.password.any()
}

// tunnelName adds a name that the LNS gets to see.
func tunnelName(c *choice[string], v value) Problem {
	if !printable(v.text) {
		return ProblemBadValue
	}
	return c.add(fromStandard, v.text)
}

func (b *builder) privateGroup(v value) Problem {
	return tunnelName(&b.tunnel(v.tag).group, v)
}

// clearPassword is JunosE's tunnel password, which goes in clear. Its value is in no sentence.
func (b *builder) clearPassword(v value) Problem {
	return b.tunnel(v.tag).password.add(fromERX, keymat.Secret(v.text))
}

// maxTunnelSessions is how many sessions there are numbers for in one tunnel.
const maxTunnelSessions = 65535

func (b *builder) maxSessions(v value) Problem {
	if v.number > maxTunnelSessions {
		return ProblemBadValue
	}
	return b.tunnel(v.tag).max.add(fromERX, v.number)
}

// tunnelGroup and vpdn are orders to hand the session on in words that are not understood here. To have it end here
// instead would give the subscriber another network than it should have.
func tunnelGroup(b *builder, v value) Problem {
	b.unusable(fmt.Sprintf("the server's %s names LNSs of a router's configuration; the domain map does that here", v))
	return ProblemUnused
}

func vpdn(b *builder, _ string) Problem {
	b.unusable("the server's Cisco-AVPair names an LNS by vpdn, where the attributes of RFC 2868 are needed")
	return ProblemUnused
}

// handOn says to which LNSs the session is handed on; none: it ends here. Who is not to end here and cannot be handed on is
// refused, because a server that gives orders for a tunnel has not let the user in without it. Of several tunnels those of
// types that are not spoken here are passed over, and if no other is left, it is as if the server had refused (RFC 2868
// section 3.1). A server that says by which tunnel the subscriber has come, as our request does, orders none.
func (b *builder) handOn(r aaa.Request, passwords []TunnelPassword, in *reading) []aaa.Tunnel {
	for _, p := range passwords {
		if p.Broken {
			b.unusable("the server's Tunnel-Password cannot be decrypted")
		}
		if problem := b.tunnel(p.Tag).password.add(fromStandard, p.Secret); problem != "" {
			in.find(Attribute{Type: typeTunnelPassword}, problem)
		}
	}
	var out []aaa.Tunnel
	foreign := ""
	for _, tag := range slices.Sorted(maps.Keys(b.tunnels)) {
		t := b.tunnels[tag]
		if !t.order() {
			if t.group.any() {
				in.find(Attribute{Type: typeTunnelGroup}, ProblemUnused)
			}
			continue
		}
		kind, said := t.kind.get()
		switch {
		case !said:
			b.unusable(fmt.Sprintf("the server names a tunnel without Tunnel-Type (tag %d)", tag))
			continue
		case kind == tunnelESP && !overL2TP(r.Access):
			in.find(Attribute{Type: typeTunnelType}, ProblemUnused)
			continue
		case kind != tunnelL2TP:
			in.find(Attribute{Type: typeTunnelType}, ProblemUnused)
			foreign = fmt.Sprintf("the server wants a tunnel of type %d, only L2TP is spoken here", kind)
			continue
		}
		lns, err := t.l2tp()
		switch {
		case err != nil:
			b.unusable(fmt.Sprintf("the server's tunnel (tag %d) cannot be used: %v", tag, err))
		case r.Local.IsValid() && lns.Server == r.Local.Addr().Unmap():
			in.find(Attribute{Type: typeTunnelServer}, ProblemUnused)
		case len(out) == aaa.MaxTunnels:
			in.find(Attribute{Type: typeTunnelType}, ProblemSurplus)
		default:
			if none, ok := b.tunnels[0]; lns.MaxSessions == 0 && ok {
				// FreeRADIUS' dictionary has the limit without tag.
				n, _ := none.max.get()
				lns.MaxSessions = int(n)
			}
			out = append(out, lns)
		}
	}
	if len(out) == 0 && foreign != "" {
		b.unusable(foreign)
	}
	return out
}

// l2tp is the LNS that is meant.
func (t *tunnel) l2tp() (aaa.Tunnel, error) {
	var out aaa.Tunnel
	server, said := t.server.get()
	if !said {
		return out, fmt.Errorf("there is no Tunnel-Server-Endpoint")
	}
	var err error
	if out.Server, err = endpoint(server); err != nil {
		return out, fmt.Errorf("Tunnel-Server-Endpoint %w", err)
	}
	if client, said := t.client.get(); said {
		if out.Client, err = endpoint(client); err != nil {
			return out, fmt.Errorf("Tunnel-Client-Endpoint %w", err)
		}
		if out.Client.Is4() != out.Server.Is4() {
			return out, fmt.Errorf("its endpoints %s and %s are of two families", out.Client, out.Server)
		}
	}
	// Many servers leave the medium out. The address says it anyway.
	if medium, said := t.medium.get(); said && medium != mediumOf(out.Server) {
		return out, fmt.Errorf("Tunnel-Medium-Type %d is not that of %s", medium, out.Server)
	}
	out.Preference, _ = t.preference.get()
	out.Secret, _ = t.password.get()
	out.ClientName, _ = t.clientName.get()
	out.ServerName, _ = t.serverName.get()
	out.Assignment, _ = t.assignment.get()
	out.PrivateGroup, _ = t.group.get()
	limit, _ := t.max.get()
	out.MaxSessions = int(limit)
	return out, nil
}

// endpoint reads an address. Names are not looked up (RFC 2868 section 3.4 only recommends it): a slow name server would
// hold up whoever logs in.
func endpoint(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an address", s)
	}
	a = a.Unmap()
	if a.Zone() != "" || a.Is4() && !unicast(a) || a.Is6() && !a.IsGlobalUnicast() {
		return netip.Addr{}, fmt.Errorf("%q is not the address of a host", s)
	}
	return a, nil
}

func mediumOf(a netip.Addr) uint32 {
	if a.Unmap().Is6() {
		return mediumIPv6
	}
	return mediumIPv4
}

// tunnelPasswords decrypts the Tunnel-Passwords of an answer (RFC 2868 section 3.5): a tag, and what the server's secret and the
// authenticator of our request hide. A first byte beyond the tags belongs to the attribute all the same.
func tunnelPasswords(attributes rad.Attributes, secret keymat.Secret, sent Authenticator) []TunnelPassword {
	var out []TunnelPassword
	for _, a := range attributes {
		if a.Type != typeTunnelPassword {
			continue
		}
		p := TunnelPassword{Broken: true}
		if len(a.Attribute) > 0 {
			if tag := a.Attribute[0]; tag <= maxTag {
				p.Tag = tag
			}
			if clear, _, err := rad.TunnelPassword(a.Attribute[1:], secret, sent[:]); err == nil {
				p.Secret, p.Broken = clear, false
			}
		}
		out = append(out, p)
	}
	return out
}
