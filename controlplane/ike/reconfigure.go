package ike

import (
	"fmt"
	"net/netip"
	"time"
)

// A new configuration holds for what is negotiated from now on. What lives is measured by the
// profile that it was made by: if that has gone, or has changed in what a connection has of it, the
// connection ends (G4). Everything else stays, whatever else has changed: rules, keys, certificates,
// NAT-T (C2r), and profiles that would take the peer first if it came today.

// Affected is a connection that a configuration would end.
type Affected struct {
	Conn   ConnInfo
	Reason Reason // ReasonProfileRemoved or ReasonProfileChanged
	Text   string
}

// Affected lists the connections that Reconfigure would end, by number. Nothing is changed.
func (e *Engine) Affected(cfg Config) []Affected {
	var out []Affected
	for _, c := range e.sortedConns() {
		if r, text := e.verdict(c, &cfg); r != "" {
			out = append(out, Affected{c.Info, r, text})
		}
	}
	return out
}

// reconfigure takes over a new configuration.
func (e *Engine) reconfigure(next Config) {
	for _, a := range e.Affected(next) {
		if c := e.conns[a.Conn.ID]; c != nil {
			e.closeConn(c, a.Reason, a.Text, false)
		}
	}
	for _, p := range e.sortedPhase1() {
		switch n := p.neg; {
		case n == nil:
		case !p.Initiator:
			if e.cfg.takes(p) && !next.takes(p) {
				e.dropPhase1(p, "")
			}
		case n.Open.Static != "":
			if r, text := e.compareStatic(&next, n.Open.Static); r != "" && e.conns[n.Rekey] == nil {
				e.failInitiate(p, r, text)
			}
		case e.conns[n.Rekey] == nil:
			if r, text := e.compare(&next, n.Open.Profile, p.Local.Addr(), n.Open.Tunnel); r != "" {
				e.failInitiate(p, r, text)
			}
		}
	}
	probing := e.cfg.DPD != next.DPD || e.cfg.StaticDPD != next.StaticDPD || e.cfg.DPDInterval != next.DPDInterval
	e.cfg = next
	e.bindAdmissions()
	e.refreshStatics()
	if probing {
		e.probeAnew()
	}
}

// verdict tells whether a connection may live on under a configuration. The reason is empty if it
// may.
func (e *Engine) verdict(c *conn, next *Config) (Reason, string) {
	if c.Static != "" {
		return e.compareStatic(next, c.Static)
	}
	name := c.profile()
	if name == "" {
		// It has no IPsec SA yet: what it will be measured by counts.
		t := e.cfg.transport(c.Info.Local.Addr(), c.Info.Remote.Addr())
		if t == nil {
			return "", ""
		}
		name = t.Name
	}
	return e.compare(next, name, c.Info.Local.Addr(), c.Dyn != nil || c.subscribes())
}

// profile is the name of the profile that a connection was made by, "" if that is not known yet.
func (c *conn) profile() string {
	switch {
	case c.Dyn != nil:
		return c.Dyn.Profile
	case c.Initiator:
		return c.Open.Profile
	case c.Info.Profile == "" && len(c.Children) > 0:
		return c.Children[len(c.Children)-1].Profile
	}
	return c.Info.Profile
}

// compare tells whether a profile has gone or changed. The reason is empty if not, and for one that
// is not configured now.
func (e *Engine) compare(next *Config, name string, local netip.Addr, tunnel bool) (Reason, string) {
	kind := "transport"
	was, is := e.cfg.revisionOf(name, local), next.revisionOf(name, local)
	if t := e.cfg.tunnelByName(name); tunnel && t != nil {
		kind, was, is = "tunnel", &t.Revision, nil
		if t := next.tunnelByName(name); t != nil {
			is = &t.Revision
		}
	}
	switch {
	case was == nil:
		return "", ""
	case is == nil:
		return ReasonProfileRemoved, fmt.Sprintf("%s profile %q has been removed", kind, name)
	case *is != *was:
		return ReasonProfileChanged, fmt.Sprintf("%s profile %q has changed", kind, name)
	}
	return "", ""
}

// revisionOf is the revision of a transport profile at a server address, nil if there is none.
func (c *Config) revisionOf(name string, local netip.Addr) *string {
	if t := c.transportNamed(name, local); t != nil {
		return &t.Revision
	}
	return nil
}

// transportNamed returns the transport profile of that name at a server address, nil if there is
// none: a profile has an entry for each of its addresses.
func (c *Config) transportNamed(name string, local netip.Addr) *TransportProfile {
	for i := range c.Transports {
		if t := &c.Transports[i]; t.Name == name && t.Local == local {
			return t
		}
	}
	return nil
}

// transportOf returns the transport profile that a connection lives by: the one that it was made by,
// which is there as long as it lives, else the one for its peer.
func (c *Config) transportOf(x *conn) *TransportProfile {
	local := x.Info.Local.Addr()
	if t := c.transportNamed(x.profile(), local); t != nil {
		return t
	}
	return c.transport(local, x.Info.Remote.Addr())
}

// takes tells whether there is a profile for the peer of a half-open SA.
func (c *Config) takes(p *phase1) bool {
	for i := range c.Statics {
		if c.Statics[i].between(p.Local.Addr(), p.Remote.Addr()) {
			return true
		}
	}
	return c.transport(p.Local.Addr(), p.Remote.Addr()) != nil || c.maybeDynamic(p) && len(c.Tunnels) > 0
}

// probeAnew has all peers watched by the present timers (K10).
func (e *Engine) probeAnew() {
	for _, c := range e.sortedConns() {
		p := c.newest()
		if p == nil {
			if len(c.Children) > 0 && c.Alone.IsZero() {
				e.alone(c)
			}
			continue
		}
		if p.DPD.Tries > 0 {
			continue // being asked already
		}
		p.DPD.next = time.Time{}
		e.startDPD(p)
		e.arm(p)
	}
}
