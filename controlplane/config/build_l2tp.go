package config

import (
	"net/netip"
	"slices"
	"strings"
)

// defaultRemoteHost is the word for the host profile of every other LAC.
const defaultRemoteHost = "default"

func (b *builder) l2tp(f *fileRouter, r *Router) {
	l := &f.L2TP
	r.L2TP = L2TP{
		DestructTimeout:          l.DestructTimeout.v,
		IdleTimeout:              l.IdleTimeout.v,
		RetransmitEstablished:    int(l.RetransmitEstablished.v),
		RetransmitNotEstablished: int(l.RetransmitNotEstablished.v),
		HelloInterval:            l.HelloInterval.v,
		ReceiveWindow:            int(l.ReceiveWindow.v),
		Challenge:                l.Challenge.v,
		DisconnectCause:          l.DisconnectCause.v,
		MaxSessions:              int(l.MaxSessions.v),
		SetupTimeout:             l.SetupTimeout.v,
		ShortDrain:               l.ShortDrain.v,
		Admin:                    l.Admin.v,
		TolerateUnknownAVP:       l.TolerateUnknownAVP.v,
		IgnoreSequencing:         l.IgnoreSequencing.v,
		Switching:                l.Switching.v,
		Lockout:                  l.Lockout.v,
		LockoutTest:              l.LockoutTest.v,
	}
	seenName := map[string]Pos{}
	seenLAC := map[netip.Addr]Pos{}
	for i := range l.Destinations {
		d := &l.Destinations[i]
		b.unique(seenName, d.Name, "destination profile")
		if a := d.LACAddress; a.v.IsValid() && d.present {
			at := a.pos
			if !a.given() {
				at = d.pos
			}
			if first, dup := seenLAC[a.v]; dup {
				b.errorf(at, "the LAC %v has a destination profile already, in line %d", a.v, first.Line)
			} else {
				seenLAC[a.v] = at
			}
		}
		b.lacReachable(d, f, r)
		r.Destinations = append(r.Destinations, DestinationProfile{
			Name:        d.Name.v,
			LACAddress:  d.LACAddress.v,
			MaxSessions: int(d.MaxSessions.v),
			Hosts:       b.hosts(d, f, r),
		})
	}
	slices.SortFunc(r.Destinations, func(a, b DestinationProfile) int { return strings.Compare(a.Name, b.Name) })
}

// given is the value of a flag if the file has one, and else def.
func given(x boolean, def bool) bool {
	if x.given() {
		return x.v
	}
	return def
}

// lacReachable sees to it that there is a server address that the LACs of a destination profile can call.
func (b *builder) lacReachable(d *fileDestination, f *fileRouter, r *Router) {
	a := d.LACAddress
	if !d.present || !a.v.IsValid() || len(r.ServerAddresses) == 0 || !f.sound("server-addresses") ||
		slices.ContainsFunc(r.ServerAddresses, func(s netip.Addr) bool { return s.Is4() == a.v.Is4() }) {
		return
	}
	at := a.pos
	if !a.given() {
		at = d.pos
	}
	b.errorf(at, "\"lac-address\" is %v but none of \"server-addresses\" is of the same kind", a.v)
}

// hostAddresses sees to it that LAC and server address can reach each other, and by IPsec if it must be that.
func (b *builder) hostAddresses(d *fileDestination, h *fileHost) {
	lac, local := d.LACAddress.v, h.LocalAddress.v
	if !h.present || !lac.IsValid() {
		return
	}
	switch {
	case local.IsValid() && local.Is4() != lac.Is4():
		b.errorf(h.LocalAddress.pos, "\"local-address\" is %v but the LAC is %v, which is no address of the same kind", local, lac)
	case !lac.Is4() && h.IPsecRequired.v:
		at := h.IPsecRequired.pos
		if at.Line == 0 {
			at = h.pos
		}
		b.errorf(at, "the host profile requires IPsec, which is served over IPv4 only, but its LACs have IPv6 addresses; give it \"ipsec-required: false\"")
	}
}

func (b *builder) hosts(d *fileDestination, f *fileRouter, r *Router) []HostProfile {
	var hosts []HostProfile
	seen := map[string]Pos{}
	for i := range d.Hosts {
		h := &d.Hosts[i]
		name := h.RemoteHost
		if !name.given() {
			name.pos = h.pos
		}
		b.unique(seen, name, "host profile")
		b.serverAddress(h.LocalAddress, "local-address", f, r)
		p := HostProfile{
			RemoteHost:     h.RemoteHost.v,
			LocalHost:      h.LocalHost.v,
			LocalAddress:   h.LocalAddress.v,
			IPsecRequired:  h.IPsecRequired.v,
			TunnelPassword: b.secretOf(h.pos, h.TunnelPassword, h.TunnelPasswordFile, "tunnel-password", false),
			MaxSessions:    int(h.MaxSessions.v),
			ReceiveWindow:  r.L2TP.ReceiveWindow,
			IPProfile:      b.ipProfileOf("host", &h.section, h.IPProfile, f),

			SingleShot:         h.SingleShot.v,
			DisconnectCause:    given(h.DisconnectCause, r.L2TP.DisconnectCause),
			ProxyLCP:           h.ProxyLCP.v,
			ProxyAuth:          h.ProxyAuth.v,
			HideAVPs:           h.HideAVPs.v,
			TolerateUnknownAVP: given(h.TolerateUnknownAVP, r.L2TP.TolerateUnknownAVP),
			ZeroTunnelID:       h.ZeroTunnelID.v,
			ResourceError:      h.ResourceError.v,
		}
		if p.RemoteHost == defaultRemoteHost {
			p.RemoteHost = ""
		}
		if p.LocalHost == "" {
			p.LocalHost = r.Name
		}
		if h.ReceiveWindow.given() {
			p.ReceiveWindow = int(h.ReceiveWindow.v)
		}
		if h.present && p.IPsecRequired && len(f.IPsec.TransportProfiles) == 0 && f.sound("ipsec") {
			b.errorf(h.pos, "the host profile requires IPsec, but the virtual router has no transport profile that would accept it")
		}
		if h.present && !p.IPsecRequired {
			b.warnf(h.IPsecRequired.pos, "tunnels in clear text are accepted")
		}
		b.hostAddresses(d, h)
		if h.HideAVPs.v && !h.TunnelPassword.given() && !h.TunnelPasswordFile.given() {
			b.errorf(h.HideAVPs.pos, "\"hide-avps\" needs a tunnel password: AVPs are hidden by it")
		}
		if h.ProxyAuth.v && !p.IPsecRequired && p.TunnelPassword == nil {
			b.warnf(h.ProxyAuth.pos, "without a tunnel password whoever poses as the LAC decides what users are asked, and can repeat a login that it has seen")
		}
		hosts = append(hosts, p)
	}
	return hosts
}
