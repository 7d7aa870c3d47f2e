package config

import (
	"cmp"
	"net/netip"
	"slices"
)

// tunnelServers builds the LNSs of a domain map, in the order of their preference.
func (b *builder) tunnelServers(d *fileDomainMap, f *fileRouter, r *Router) []TunnelServer {
	if len(d.TunnelServers) == 0 {
		return nil
	}
	b.nothingThatEndsHere(d)
	b.canSwitch(d, f, r)
	var out []TunnelServer
	for i := range d.TunnelServers {
		t := &d.TunnelServers[i]
		if !t.present {
			continue
		}
		b.serverAddress(t.LocalAddress, "local-address", f, r)
		b.reachableLNS(t, f, r)
		s := TunnelServer{
			Server: t.Address.v, Client: t.LocalAddress.v, Preference: uint32(t.Preference.v),
			Password:  b.secretOf(t.pos, t.Password, t.PasswordFile, "tunnel-password", false),
			LocalHost: t.LocalHost.v, RemoteHost: t.RemoteHost.v, MaxSessions: int(t.MaxSessions.v),
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b TunnelServer) int { return cmp.Compare(a.Preference, b.Preference) })
	return out
}

// nothingThatEndsHere finds keys that have no meaning where sessions are handed on.
func (b *builder) nothingThatEndsHere(d *fileDomainMap) {
	for _, k := range []struct {
		key   string
		pos   Pos
		given bool
	}{
		{"virtual-router", d.Router.pos, d.Router.given()},
		{"ip-profile", d.IPProfile.pos, d.IPProfile.given()},
		{"gateway", d.Gateway.pos, d.Gateway.given()},
		{"pool", d.Pool.pos, d.Pool.given()},
		{"traffic", d.Traffic.pos, d.Traffic.present},
	} {
		if k.given {
			b.errorf(k.pos, "\"tunnel-servers\" and %q exclude each other: the sessions do not end here", k.key)
		}
	}
}

// canSwitch checks that there are sessions that can be handed on, and that they are.
func (b *builder) canSwitch(d *fileDomainMap, f *fileRouter, r *Router) {
	at := d.TunnelServers[0].pos
	if at.Line == 0 {
		return // no section, which has been complained about
	}
	switch {
	case len(f.L2TP.Destinations) == 0 && f.sound("l2tp"):
		b.errorf(at, "only sessions of L2TP can be handed on, but the virtual router has no destination profile")
	case !r.L2TP.Switching && f.sound("l2tp"):
		b.warnf(at, "the users of the domain are refused: \"tunnel-switching\" is off in the l2tp section")
	}
	if len(f.IPsec.TunnelProfiles) > 0 {
		b.warnf(at, "dynamic subscribers of the domain are refused: only sessions of L2TP can be handed on")
	}
}

// reachableLNS checks that there is a server address that the LNS can be called from, and that it is not the caller
// itself (D36: nobody is at both ends of a tunnel).
func (b *builder) reachableLNS(t *fileTunnelServer, f *fileRouter, r *Router) {
	lns, local := t.Address.v, t.LocalAddress.v
	if !lns.IsValid() || !f.sound("server-addresses") {
		return
	}
	kind := func(a netip.Addr) bool { return a.Is4() == lns.Is4() }
	switch {
	case slices.Contains(r.ServerAddresses, lns):
		b.errorf(t.Address.pos, "the LNS %v is this virtual router itself", lns)
	case local.IsValid() && !kind(local):
		b.errorf(t.LocalAddress.pos, "\"local-address\" is %v but the LNS is %v, which is no address of the same kind", local, lns)
	case !local.IsValid() && len(r.ServerAddresses) > 0 && !slices.ContainsFunc(r.ServerAddresses, kind):
		b.errorf(t.Address.pos, "the LNS %v cannot be called: none of \"server-addresses\" is of the same kind", lns)
	}
}
