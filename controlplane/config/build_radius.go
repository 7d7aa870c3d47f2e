package config

import (
	"net/netip"
	"slices"
	"strings"
)

func (b *builder) radius(f *fileRouter, r *Router) {
	x := &f.RADIUS
	r.RADIUS = RADIUS{
		NASIdentifier:        x.NASIdentifier.v,
		NASAddress:           x.NASAddress.v,
		NASAddressFromTunnel: x.NASAddressFromTunnel.v,
		InFlight:             int(x.InFlight.v),
	}
	if !x.NASIdentifier.given() {
		r.RADIUS.NASIdentifier = r.Name
	}
	if !x.NASAddress.given() {
		r.RADIUS.NASAddress = x.SourceAddress.v
	}
	if !r.RADIUS.NASAddress.IsValid() && len(r.ServerAddresses) > 0 {
		r.RADIUS.NASAddress = r.ServerAddresses[0]
	}
	b.servers(x, r)
	b.groups(x, r)
	b.dynamic(x, r)
}

func (b *builder) servers(x *fileRADIUS, r *Router) {
	type service struct {
		addr netip.Addr
		port int64
	}
	seen := map[string]Pos{}
	asked, accounted := map[service]Pos{}, map[service]Pos{}
	for i := range x.Servers {
		s := &x.Servers[i]
		b.unique(seen, s.Name, "server")
		out := RADIUSServer{
			Name:                        s.Name.v,
			Address:                     s.Address.v,
			AuthPort:                    uint16(s.AuthPort.v),
			AcctPort:                    uint16(s.AcctPort.v),
			Source:                      b.sourceOf(s, x),
			Secret:                      b.secretOf(s.pos, s.Secret, s.SecretFile, "secret", true),
			Timeout:                     s.Timeout.v,
			Retransmissions:             int(s.Retransmissions.v),
			DeadTime:                    s.DeadTime.v,
			RequireMessageAuthenticator: s.RequireMA.v,
			StatusServer:                s.StatusServer.v,
		}
		b.weakRADIUS(out.Secret, s.Secret, s.SecretFile)
		if !s.RequireMA.v {
			b.warnf(s.RequireMA.pos, "answers of the server %s are taken without Message-Authenticator: whoever can change packets on the way can let anybody in", quoteShort(s.Name.v))
		}
		if s.AuthPort.v == 0 && s.AcctPort.v == 0 {
			b.errorf(s.AuthPort.pos, "the server is good for nothing: \"authentication-port\" and \"accounting-port\" are both 0")
		}
		for _, p := range []struct {
			key  string
			port number
			seen map[service]Pos
		}{{"authentication-port", s.AuthPort, asked}, {"accounting-port", s.AcctPort, accounted}} {
			k := service{s.Address.v, p.port.v}
			if !k.addr.IsValid() || k.port == 0 {
				continue
			}
			if first, dup := p.seen[k]; dup {
				b.errorf(s.Address.pos, "%v is there twice with the same %q; the first is in line %d", k.addr, p.key, first.Line)
				break
			}
			p.seen[k] = s.Address.pos
		}
		r.RADIUS.Servers = append(r.RADIUS.Servers, out)
	}
}

// sourceOf is the address from which a server's packets are sent.
func (b *builder) sourceOf(s *fileServer, x *fileRADIUS) netip.Addr {
	src, whose := s.SourceAddress, ""
	if !src.given() {
		src, whose = x.SourceAddress, " of the section"
	}
	if !src.v.IsValid() || !s.Address.v.IsValid() || src.v.Is4() == s.Address.v.Is4() {
		return src.v
	}
	at := src.pos
	if whose != "" {
		at = s.Address.pos
	}
	b.errorf(at, "%v cannot be reached from the \"source-address\"%s, %v: one is IPv4, the other IPv6", s.Address.v, whose, src.v)
	return netip.Addr{}
}

// weakRADIUS warns of a short secret.
func (b *builder) weakRADIUS(s Secret, word secret, file text) {
	if len(s) == 0 || len(s) >= MinRADIUSSecret {
		return
	}
	at := word.pos
	if !word.given() {
		at = file.pos
	}
	b.warnf(at, "a RADIUS secret of fewer than %d characters can be guessed from one recorded packet", MinRADIUSSecret)
}

func (b *builder) groups(x *fileRADIUS, r *Router) {
	seen := map[string]Pos{}
	member := map[string]bool{}
	for i := range x.Groups {
		g := &x.Groups[i]
		b.unique(seen, g.Name, "group")
		out := RADIUSGroup{Name: g.Name.v, Strategy: g.Strategy.v}
		for _, s := range g.Servers {
			switch {
			case s.v == "":
			case r.RADIUS.Server(s.v) == nil:
				if x.sound("servers") {
					b.errorf(s.pos, "there is no server %s%s", quoteShort(s.v), suggest(s.v, serverNames(r)))
				}
			case slices.Contains(out.Servers, s.v):
				b.errorf(s.pos, "%s is twice in \"servers\"", quoteShort(s.v))
			default:
				out.Servers = append(out.Servers, s.v)
				member[s.v] = true
			}
		}
		r.RADIUS.Groups = append(r.RADIUS.Groups, out)
	}
	if !x.sound("groups") {
		return
	}
	for i := range x.Servers {
		if s := &x.Servers[i]; s.Name.v != "" && !member[s.Name.v] {
			b.warnf(s.Name.pos, "the server %s is in no group, so it is never asked", quoteShort(s.Name.v))
		}
	}
}

// ownPorts are those on which vrgate serves clients.
var ownPorts = []int64{500, 1701, 4500}

func (b *builder) dynamic(x *fileRADIUS, r *Router) {
	d := &x.Dynamic
	out := DynamicAuthorization{
		Enabled: d.Enabled.v, Port: uint16(d.Port.v), RequireMessageAuthenticator: d.RequireMA.v, Window: d.Window.v,
	}
	for i, a := range d.Addresses {
		switch {
		case !a.v.IsValid():
		case slices.Contains(out.Addresses, a.v):
			b.errorf(a.pos, "entry %d of \"addresses\", %v, is there twice", i+1, a.v)
		default:
			out.Addresses = append(out.Addresses, a.v)
		}
	}
	if slices.Contains(ownPorts, d.Port.v) {
		b.errorf(d.Port.pos, "\"port\" is %d, on which clients are served", d.Port.v)
	}
	if !d.RequireMA.v && d.Enabled.v {
		b.warnf(d.RequireMA.pos, "requests are taken without Message-Authenticator: whoever can change packets on the way may be able to end sessions")
	}
	seen := map[netip.Addr]Pos{}
	for i := range d.Clients {
		c := &d.Clients[i]
		s := b.secretOf(c.pos, c.Secret, c.SecretFile, "secret", true)
		b.weakRADIUS(s, c.Secret, c.SecretFile)
		if !c.Address.v.IsValid() {
			continue
		}
		if first, dup := seen[c.Address.v]; dup {
			b.errorf(c.Address.pos, "the client %v is there twice; the first is in line %d", c.Address.v, first.Line)
			continue
		}
		seen[c.Address.v] = c.Address.pos
		out.Clients = append(out.Clients, DynamicClient{c.Address.v, s})
	}
	if d.ServersAreClients.v {
		b.serversAsClients(x, r, &out, seen)
	}
	slices.SortFunc(out.Clients, func(a, b DynamicClient) int { return a.Address.Compare(b.Address) })
	r.RADIUS.DynamicAuthorization = out
	switch {
	case !d.sound("clients") || !x.sound("servers"):
	case d.Enabled.v && len(out.Clients) == 0:
		b.errorf(d.Enabled.pos, "nobody could use dynamic authorization: there are neither \"clients\" nor servers that may be clients")
	case !d.Enabled.v && len(d.Clients) > 0:
		b.warnf(d.pos, "there are clients, but dynamic authorization is not \"enabled\"")
	}
}

// serversAsClients lets servers send requests. A client of the same address has been configured
// on purpose and comes first; of two servers at one address the secrets must be the same.
func (b *builder) serversAsClients(x *fileRADIUS, r *Router, out *DynamicAuthorization, configured map[netip.Addr]Pos) {
	added := map[netip.Addr]int{}
	for i, s := range r.RADIUS.Servers {
		if _, own := configured[s.Address]; own || !s.Address.IsValid() || len(s.Secret) == 0 {
			continue
		}
		j, dup := added[s.Address]
		if !dup {
			added[s.Address] = len(out.Clients)
			out.Clients = append(out.Clients, DynamicClient{s.Address, s.Secret})
			continue
		}
		if !out.Clients[j].Secret.Equal(s.Secret) && out.Enabled {
			b.errorf(x.Servers[i].Address.pos, "the servers at %v have different secrets; name the one for dynamic authorization in its \"clients\"", s.Address)
		}
	}
}

func serverNames(r *Router) []string {
	out := make([]string, len(r.RADIUS.Servers))
	for i, s := range r.RADIUS.Servers {
		out[i] = s.Name
	}
	return out
}

func groupNamesOf(r *Router) []string {
	out := make([]string, len(r.RADIUS.Groups))
	for i, g := range r.RADIUS.Groups {
		out[i] = g.Name
	}
	return out
}

// serves says whether a server of the group has the kind of port.
func (r *Router) serves(group string, port func(RADIUSServer) uint16) bool {
	g := r.RADIUS.Group(group)
	return g != nil && slices.ContainsFunc(g.Servers, func(name string) bool {
		s := r.RADIUS.Server(name)
		return s != nil && port(*s) != 0
	})
}

func authPort(s RADIUSServer) uint16 { return s.AuthPort }
func acctPort(s RADIUSServer) uint16 { return s.AcctPort }

func (b *builder) trafficPolicies(f *fileRouter, r *Router) {
	seen := map[string]Pos{}
	for i := range f.TrafficPolicies {
		p := &f.TrafficPolicies[i]
		b.unique(seen, p.Name, "traffic policy")
		out := TrafficPolicy{Name: p.Name.v, Rate: p.Rate.v, Burst: uint32(p.Burst.v)}
		if p.present && p.Rate.v == 0 && p.Burst.v != 0 && p.sound("rate") {
			b.errorf(p.Burst.pos, "\"burst\" needs \"rate\"")
		}
		if p.present && p.Rate.v == 0 && len(p.Rules) == 0 && p.sound("rate") && p.sound("rules") {
			b.warnf(p.pos, "the traffic policy does nothing: it has neither \"rate\" nor \"rules\"")
		}
		var everything Pos
		for j := range p.Rules {
			x := &p.Rules[j]
			rule := TrafficRule{
				Permit: x.Action.v == Permit, Network: x.Network.v, Protocol: uint8(x.Protocol.v),
				FirstPort: x.Ports.v.first, LastPort: x.Ports.v.last,
			}
			if x.Ports.given() && !x.Protocol.v.hasPorts() && x.sound("protocol") {
				b.errorf(x.Ports.pos, "\"ports\" needs \"protocol\" tcp, udp or sctp")
			}
			switch {
			case everything.Line != 0 && x.present:
				b.warnf(x.pos, "the rule is never reached: the one in line %d matches every packet", everything.Line)
			case rule.matchesAll() && x.present && len(x.bad) == 0:
				everything = x.pos
			}
			out.Rules = append(out.Rules, rule)
		}
		r.TrafficPolicies = append(r.TrafficPolicies, out)
	}
	slices.SortFunc(r.TrafficPolicies, func(a, b TrafficPolicy) int { return strings.Compare(a.Name, b.Name) })
}

// matchesAll says whether every packet matches.
func (t TrafficRule) matchesAll() bool {
	return t.Protocol == 0 && t.FirstPort == 0 && (!t.Network.IsValid() || t.Network.Bits() == 0)
}

// traffic translates what a subscriber may send and receive.
func (b *builder) traffic(t *fileTraffic) Traffic {
	for _, x := range []struct {
		rate            rate
		burst           number
		rateKey, burstK string
	}{{t.RateIn, t.BurstIn, "rate-in", "burst-in"}, {t.RateOut, t.BurstOut, "rate-out", "burst-out"}} {
		if x.rate.v == 0 && x.burst.v != 0 && t.sound(x.rateKey) {
			b.errorf(x.burst.pos, "%q needs %q", x.burstK, x.rateKey)
		}
	}
	return Traffic{
		RateIn: t.RateIn.v, RateOut: t.RateOut.v, BurstIn: uint32(t.BurstIn.v), BurstOut: uint32(t.BurstOut.v),
		PolicyIn: t.PolicyIn.v, PolicyOut: t.PolicyOut.v,
	}
}
