package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// staticSource is a static tunnel with the file that it came from.
type staticSource struct {
	in *routerSource // the terminating router
	// transport is nil if the file names none that there is.
	transport *routerSource
	file      *fileStaticTunnel
	t         StaticTunnel
	routes    []placedRoute
}

// staticTunnel builds what a file says of a static tunnel.
func (b *builder) staticTunnel(x *staticSource) {
	f := x.file
	x.t = StaticTunnel{
		Name: f.Name.v, File: x.in.r.File, Terminating: x.in.r.Name, Enabled: f.Enabled.v, Mode: f.Mode.v,
		LocalAddress: b.staticLocal(x),
		Peers:        distinct(b, f.Peers, "peers"),
		LocalID:      f.LocalID.v,
		Aggressive:   f.Aggressive.v,
		Transforms:   b.transforms(f.Transforms),
		PFS:          f.PFS.v,
		Lifetime:     f.Lifetime.v, LifetimeKilobytes: uint32(f.Kilobytes.v),
		DPD:      f.DPD.v,
		Stable:   f.Stable.v,
		FallBack: f.FallBack.v,
		Idle:     f.Idle.v,
		NoReturn: f.NoReturn.v,
	}
	if x.t.PeerIDIsAddress = !f.PeerID.given(); f.PeerID.v != anyIdentity {
		x.t.PeerID = f.PeerID.v
	}
	if !f.sound("mode") {
		x.t.Mode = 0 // what follows from the default would be no mistake of the file
	}
	b.staticMode(x)
	b.staticStart(x)
	b.staticSecrets(x)
	b.staticBackoff(x)
	x.t.Networks = b.staticNetworks(x)
	b.staticInterface(x)
	b.staticCheck(x)
}

// anyIdentity is what the file calls any identity of a peer. A key ID of that text has "keyid:" before it.
const anyIdentity = "any"

// staticLocal is our end of a tunnel.
func (b *builder) staticLocal(x *staticSource) netip.Addr {
	f := x.file
	if x.transport == nil || !x.transport.file.sound("server-addresses") {
		return f.LocalAddress.v
	}
	r := x.transport.r
	var own []netip.Addr
	for _, a := range r.ServerAddresses {
		if a.Is4() {
			own = append(own, a)
		}
	}
	switch local := f.LocalAddress.v; {
	case len(own) == 0:
		b.errorf(f.pos, "the virtual router %q, which sends the encrypted packets of the tunnel, has no IPv4 address in \"server-addresses\"", r.Name)
	case local.IsValid() && !slices.Contains(own, local):
		b.errorf(f.LocalAddress.pos, "\"local-address\" is %v but must be one of \"server-addresses\" of the virtual router %q", local, r.Name)
	case !f.LocalAddress.given() && len(own) == 1:
		return own[0]
	case !f.LocalAddress.given():
		b.errorf(f.pos, "key \"local-address\" is missing; the virtual router %q has %d IPv4 addresses to choose from", r.Name, len(own))
	}
	return f.LocalAddress.v
}

// staticMode checks what a mode cannot be together with.
func (b *builder) staticMode(x *staticSource) {
	f := x.file
	mode := x.t.Mode
	if mode == StaticRoute || mode == 0 {
		return
	}
	if x.transport != nil && x.transport != x.in {
		b.errorf(f.Transport.pos, "\"transport-virtual-router\" goes with mode route; a tunnel of mode %v has the traffic of the virtual router that sends its packets", mode)
	}
	if f.Interface.present {
		b.errorf(f.Interface.pos, "\"interface\" goes with mode route; a tunnel of mode %v has none", mode)
	}
	if mode == StaticTransport {
		for _, p := range f.Peers {
			if p.v.Name != "" {
				b.errorf(p.pos, "the peer is %s but must be an address: links through a tunnel of mode transport have the address of their other end", quoteShort(p.v.Name))
			}
		}
		if len(f.Peers) == 0 && f.sound("peers") {
			b.errorf(f.pos, "key \"peers\" is missing: a tunnel of mode transport protects the packets of links to known addresses")
		}
		return
	}
	// A policy without interface holds for the whole namespace.
	if x.in.r.Kind == KindVRF {
		b.errorf(f.Mode.pos, "mode policy takes the traffic of a whole network namespace, and the virtual router is a VRF in one; use mode route")
		return
	}
	for _, s := range b.routers {
		if s != x.in && s.r.Namespace.Name == x.in.r.Namespace.Name {
			b.errorf(f.Mode.pos, "mode policy takes the traffic of a whole network namespace, in which the virtual router %q is too; use mode route", s.r.Name)
			return
		}
	}
}

// staticStart finds out who begins.
func (b *builder) staticStart(x *staticSource) {
	f := x.file
	t, server := &x.t, f.XAuth.v == StaticXAuthServer
	none := len(f.Peers) == 0 && f.sound("peers")
	t.Start = f.Start.v
	switch dials := t.Start == StartNailedUp || t.Start == StartOnDemand; {
	case !f.Start.given() && (none || server):
		t.Start = StartRespond
	case !f.Start.given():
		t.Start = StartNailedUp
	case dials && none:
		b.errorf(f.Start.pos, "\"start\" is %v but there are no \"peers\" that could be dialled", t.Start)
	case dials && server:
		b.errorf(f.Start.pos, "\"start\" is %v but must be respond with extended-authentication server: it is who begins that is asked for a user", t.Start)
	}
	if f.XAuth.v == StaticXAuthClient && t.Start == StartRespond {
		b.errorf(f.XAuth.pos, "\"extended-authentication\" is client but we do not begin, and it is who begins that is asked for a user")
	}
	if f.Idle.v != 0 && t.Start != StartOnDemand && t.Start != 0 {
		b.errorf(f.Idle.pos, "\"idle-timeout\" goes with start on-demand")
	}
	for _, p := range f.Peers {
		if p.v.Address.IsValid() && p.v.Address == t.LocalAddress {
			b.errorf(p.pos, "the peer %v is our own end", p.v)
		}
	}
}

// staticSecrets takes the key or certificate, and the user.
func (b *builder) staticSecrets(x *staticSource) {
	f, t := x.file, &x.t
	switch {
	case f.Key.present && f.Certificate.given():
		b.errorf(f.Certificate.pos, "\"certificate\" and \"pre-shared-key\" exclude each other")
	case f.Key.present:
		t.Key = b.secretOf(f.Key.pos, f.Key.Key, f.Key.KeyFile, "key", f.Key.sound("key") && f.Key.sound("key-file"))
		b.weakKey(t.Key, f.Key.Key.pos, f.Key.KeyFile.pos)
	case f.Certificate.given() && x.transport != nil:
		t.Certificate = b.certificateOf(f.Certificate, x.transport.file)
		b.needAuthorities(f.Certificate.pos, "the static tunnel has a certificate", x.transport.file)
	}
	t.XAuth = f.XAuth.v
	given := f.Password.given() || f.PasswordFile.given()
	switch {
	case t.XAuth == StaticXAuthClient:
		if !f.User.given() {
			b.errorf(f.XAuth.pos, "key \"user\" is missing with extended-authentication client")
		}
		t.User = f.User.v
		t.Password = b.secretOf(f.XAuth.pos, f.Password, f.PasswordFile, "password", true)
		if strings.ContainsFunc(t.User, notVisible) {
			b.errorf(f.User.pos, "\"user\" is %s but must be ASCII without spaces", quoteShort(t.User))
		}
		at := f.Password.pos
		if !f.Password.given() {
			at = f.PasswordFile.pos
		}
		if strings.ContainsFunc(string(t.Password), notVisible) || len(t.Password) > maxStaticUser {
			b.errorf(at, "the password must be 1 to %d characters of ASCII without spaces", maxStaticUser)
		}
	case !f.sound("extended-authentication"):
	case f.User.given():
		b.errorf(f.User.pos, "\"user\" goes with extended-authentication client")
	case given:
		b.errorf(cmp.Or(f.Password.pos, f.PasswordFile.pos), "\"password\" goes with extended-authentication client")
	}
}

// maxStaticUser bounds user and password of Z-8.
const maxStaticUser = 31

// staticBackoff settles pauses of which the file gives one alone.
func (b *builder) staticBackoff(x *staticSource) {
	f, t := x.file, &x.t
	t.Backoff, t.BackoffMax = f.Backoff.v, f.BackoffMax.v
	switch {
	case t.Backoff <= t.BackoffMax || !f.sound("back-off") || !f.sound("back-off-max"):
	case !f.BackoffMax.given():
		t.BackoffMax = t.Backoff
	case !f.Backoff.given():
		t.Backoff = t.BackoffMax
	default:
		b.errorf(f.BackoffMax.pos, "\"back-off-max\" is %v but must not be below \"back-off\", which is %v", t.BackoffMax, t.Backoff)
	}
}

// staticNetworks are the pairs of networks.
func (b *builder) staticNetworks(x *staticSource) []StaticNetwork {
	var out []StaticNetwork
	names, same := map[string]Pos{}, map[StaticNetwork]Pos{}
	for i := range x.file.Networks {
		n := &x.file.Networks[i]
		if !n.present {
			continue
		}
		s := StaticNetwork{
			Local: n.Local.v, Remote: n.Remote.v, Protocol: uint8(n.Protocol.v), LocalPort: uint16(n.LocalPort.v), RemotePort: uint16(n.RemotePort.v),
		}
		b.staticNetwork(n, x.t.Mode)
		if len(n.bad) == 0 {
			if at, dup := same[s]; dup {
				b.errorf(n.pos, "the pair of networks is there twice; the first is in line %d", at.Line)
			}
			same[s] = n.pos
		}
		s.Name = n.Name.v
		at := n.Name.pos
		if !n.Name.given() {
			s.Name, at = strconv.Itoa(i+1), n.pos
		}
		if first, dup := names[s.Name]; dup && s.Name != "" {
			b.errorf(at, "a pair of networks %s is there twice; the first is in line %d", quoteShort(s.Name), first.Line)
		} else {
			names[s.Name] = at
		}
		out = append(out, s)
	}
	return out
}

func (b *builder) staticNetwork(n *fileStaticNetwork, mode StaticMode) {
	for _, part := range []struct {
		key  string
		net  prefix
		port number
	}{{"local", n.Local, n.LocalPort}, {"remote", n.Remote, n.RemotePort}} {
		switch {
		case mode == StaticTransport && part.net.given():
			b.errorf(part.net.pos, "%q goes with modes route and policy; in mode transport the addresses of the two ends are meant", part.key)
		case (mode == StaticRoute || mode == StaticPolicy) && !part.net.given():
			b.errorf(n.pos, "key %q is missing", part.key)
		}
		switch p := n.Protocol.v; {
		case part.port.v == 0 || !n.sound("protocol") || mode == 0:
		case mode == StaticTransport:
			b.errorf(part.port.pos, "\"%s-port\" goes with modes route and policy", part.key)
		case p != 6 && p != 17:
			b.errorf(part.port.pos, "\"%s-port\" goes with protocol tcp or udp", part.key)
		}
	}
	if p := n.Protocol.v; mode == StaticTransport && p != 47 && p != 4 && n.sound("protocol") {
		at := n.pos
		if n.Protocol.given() {
			at = n.Protocol.pos
		}
		b.errorf(at, "\"protocol\" must be gre or ipip in mode transport")
	}
}

// staticInterface builds the interface of a tunnel of mode route.
func (b *builder) staticInterface(x *staticSource) {
	f := &x.file.Interface
	if x.t.Mode != StaticRoute {
		return
	}
	name := x.deviceName()
	switch {
	case f.Name.given():
		b.deviceName(name, "name")
	case f.sound("name") && name.v == "" && x.file.Name.v != "":
		b.errorf(x.file.pos, "key \"name\" of \"interface\" is missing: the name of the tunnel, %s, cannot be that of an interface", quoteShort(x.file.Name.v))
	}
	i := StaticInterface{Name: name.v, MTU: int(f.MTU.v), ClampMSS: f.ClampMSS.v, Withdraw: f.Withdraw.v}
	for _, a := range f.Addresses {
		if a.v.IsValid() {
			i.Addresses = append(i.Addresses, a.v)
		}
	}
	for j := range f.Routes {
		if r := &f.Routes[j]; r.Network.v.IsValid() {
			x.routes = append(x.routes, placedRoute{r.Network.v, uint32(r.Metric.v), r.Network.pos})
		}
	}
	if f.Routes == nil && f.sound("routes") {
		for j := range x.file.Networks {
			n := x.file.Networks[j].Remote
			if n.v.IsValid() && n.v.Bits() > 0 && !slices.ContainsFunc(x.routes, func(r placedRoute) bool { return r.network == n.v }) {
				x.routes = append(x.routes, placedRoute{n.v, 0, n.pos})
			}
		}
	}
	for _, r := range x.routes {
		i.Routes = append(i.Routes, StaticNetworkRoute{r.network, r.metric})
	}
	slices.SortFunc(i.Routes, func(a, b StaticNetworkRoute) int {
		return compareRoutes(LinkRoute{Network: a.Network, Metric: a.Metric}, LinkRoute{Network: b.Network, Metric: b.Metric})
	})
	x.t.Interface = i
	if i.Withdraw && len(i.Routes) > 0 && x.t.Start == StartOnDemand {
		b.warnf(f.Withdraw.pos, "the tunnel is dialled by its operator only: an on-demand tunnel starts when a packet is routed into it, and its routes are away while it is not up")
	}
}

// deviceName is the name of the interface, where it is given; "" if there is none.
func (x *staticSource) deviceName() text {
	if n := x.file.Interface.Name; n.given() || !x.file.Interface.sound("name") {
		return n
	}
	if n := x.file.Name; len(n.v) <= maxDeviceName && possibleDevice(n.v) {
		return n
	}
	return text{}
}

// maxDeviceName is the longest name of an interface in bytes.
const maxDeviceName = 15

// end is the tunnel's interface as the end of a link.
func (x *staticSource) end() linkEnd {
	return linkEnd{x.in, x.deviceName(), x.file.pos, x.file.Interface.Addresses, x.routes}
}

// staticCheck builds the connectivity check and sees to it that it goes through the tunnel.
func (b *builder) staticCheck(x *staticSource) {
	f := &x.file.Check
	if !f.present {
		return
	}
	c := StaticCheck{Target: f.Target.v, Source: f.Source.v, Port: uint16(f.Port.v), Period: f.Period.v, Timeout: f.Timeout.v, Tolerance: int(f.Tolerance.v)}
	if c.Timeout > c.Period && f.sound("period") {
		if f.Timeout.given() {
			b.errorf(f.Timeout.pos, "\"timeout\" is %v but must not be above \"period\", which is %v", c.Timeout, c.Period)
		}
		c.Timeout = c.Period
	}
	x.t.Check = c
	if idle := x.file.Idle; x.t.Start == StartOnDemand && idle.v > 0 && c.Period < idle.v {
		b.warnf(idle.pos, "the tunnel is never idle: its check sends every %v", c.Period)
	}
	if x.t.Mode == StaticTransport || x.t.Mode == 0 || !x.file.sound("networks") || !x.file.sound("interface") {
		return
	}
	protocol := uint8(1)
	if c.Port != 0 {
		protocol = 6
	}
	any := func(of func(StaticNetwork) bool) bool { return slices.ContainsFunc(x.t.Networks, of) }
	from := func(source netip.Addr) bool {
		return any(func(n StaticNetwork) bool {
			return n.Remote.Contains(c.Target) && (!source.IsValid() || n.Local.Contains(source)) &&
				(n.Protocol == 0 || n.Protocol == protocol) && n.LocalPort == 0 && (n.RemotePort == 0 || n.RemotePort == c.Port)
		})
	}
	switch {
	case c.Target.IsValid() && !any(func(n StaticNetwork) bool { return n.Remote.Contains(c.Target) }):
		b.errorf(f.Target.pos, "\"target\" is %v but must be in a remote network of the tunnel", c.Target)
	case c.Source.IsValid() && !any(func(n StaticNetwork) bool { return n.Local.Contains(c.Source) }):
		b.errorf(f.Source.pos, "\"source\" is %v but must be in a local network of the tunnel", c.Source)
	case c.Target.IsValid() && !from(c.Source):
		b.errorf(f.pos, "no pair of networks carries the packets of the check")
	case c.Target.IsValid() && !f.Source.given() && x.t.Mode == StaticRoute && // the kernel would take another interface's
		!slices.ContainsFunc(x.t.Interface.Addresses, func(p netip.Prefix) bool { return from(p.Addr()) }):
		b.warnf(f.pos, "no address of the interface is in the local network that the check needs; give a \"source\" that is")
	}
}
