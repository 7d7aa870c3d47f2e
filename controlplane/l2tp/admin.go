package l2tp

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// maxDestinationStates bounds the LACs that have an administrative state of their own while they have no tunnel.
const maxDestinationStates = 1 << 16

// String is the state's name.
func (a Admin) String() string {
	switch a {
	case AdminDrain:
		return "drain"
	case AdminDisabled:
		return "disabled"
	}
	return "enabled"
}

// refusal is the reason for which a state takes nothing new; empty: it does.
func (a Admin) refusal() (reason Reason, text string) {
	switch a {
	case AdminDrain:
		return ReasonDrain, "draining"
	case AdminDisabled:
		return ReasonDisabled, "administratively disabled"
	}
	return "", ""
}

// adminOf is the state that holds for a LAC or LNS: the strictest of the service's and its own (A8).
func (e *Engine) adminOf(remote netip.Addr) Admin {
	if d := e.destinations[remote]; d != nil {
		return max(e.admin, d.Admin)
	}
	return e.admin
}

// adminOfTunnel is the state that holds for a tunnel.
func (e *Engine) adminOfTunnel(t *tunnel) Admin { return max(e.adminOf(t.Remote.Addr()), t.Admin) }

// tunnelBarred says why no new tunnel to or from an address is wanted; nil: it is. The result is that of StopCCN.
func (e *Engine) tunnelBarred(remote netip.Addr) *wireError {
	reason, text := e.adminOf(remote).refusal()
	if reason == "" {
		return nil
	}
	return &wireError{StopShutdown, 0, reason, text}
}

// callBarred says why a tunnel takes no new call; nil: it does. The result is that of CDN.
func (e *Engine) callBarred(t *tunnel) *wireError {
	reason, text := e.adminOfTunnel(t).refusal()
	if reason == "" {
		return nil
	}
	return &wireError{CallNoFacilities, 0, reason, text}
}

// setAdmin changes one administrative state and ends what the change disables.
func (e *Engine) setAdmin(now time.Time, ev SetAdmin) {
	ev.State = min(ev.State, AdminDisabled)
	switch {
	case ev.Tunnel != 0:
		t := e.tunnels[ev.Tunnel]
		if t == nil || t.over() {
			return
		}
		if ev.Session == 0 {
			t.Admin = ev.State
		} else if s := t.Sessions[ev.Session]; s != nil {
			if s.Admin = ev.State; s.Admin == AdminDisabled {
				e.closeSession(now, CloseSession{Tunnel: t.ID, Session: s.ID, Message: "session disabled", Reason: ReasonDisabled})
			}
			return
		}
		e.enforce(now, t)
	case ev.Session != 0: // of no tunnel
	case ev.Destination.IsValid():
		e.setDestination(now, ev.Destination.Unmap(), ev.State)
	default:
		e.admin = ev.State
		e.enforceAll(now)
	}
}

func (e *Engine) setDestination(now time.Time, remote netip.Addr, state Admin) {
	d := e.destinations[remote]
	if d == nil {
		if state == AdminEnabled {
			return
		}
		if len(e.destinations) >= maxDestinationStates {
			e.emit(Report{Level: LevelWarn, Reason: ReasonDestinations, Text: "too many destinations have a state of their own", Remote: netip.AddrPortFrom(remote, 0)})
			return
		}
		d = e.destination(remote)
	}
	d.Admin = state
	if state == AdminDisabled {
		for _, id := range e.tunnelIDs() {
			if t := e.tunnels[id]; t.Remote.Addr() == remote {
				e.enforce(now, t)
			}
		}
	}
	e.forgetDestination(remote)
}

// enforce ends a tunnel for which the disabled state holds.
func (e *Engine) enforce(now time.Time, t *tunnel) {
	if !t.over() && e.adminOfTunnel(t) == AdminDisabled {
		e.closeTunnel(now, t, StopShutdown, "administratively disabled", ReasonDisabled, ReasonDisabled)
	}
}

func (e *Engine) enforceAll(now time.Time) {
	if e.admin != AdminDisabled {
		return
	}
	for _, id := range e.tunnelIDs() {
		if t := e.tunnels[id]; t != nil {
			e.enforce(now, t)
		}
	}
}

// reconfigure takes a new configuration. Tunnels keep the settings they started with, unless their profile is gone or stands
// for something else now: then they end (G4). Limits and refusals hold from now on.
func (e *Engine) reconfigure(now time.Time, cfg Config) {
	before := e.cfg.Admin
	e.cfg = cfg.withDefaults()
	e.dir = newDirectory(e.cfg.Profiles)
	if e.cfg.Admin != before { // else what an operator has set since remains
		e.admin = e.cfg.Admin
	}
	e.recheck(now)
}

// recheck ends the tunnels that the configuration has no room for, and forgets the destinations that it no longer names.
func (e *Engine) recheck(now time.Time) {
	for _, id := range e.tunnelIDs() {
		t := e.tunnels[id]
		if t == nil || t.over() {
			continue
		}
		if reason, text := e.dir.superseded(t); reason != "" {
			e.closeTunnel(now, t, StopShutdown, text, reason, reason)
		} else {
			e.enforce(now, t)
		}
	}
	for remote := range e.destinations {
		e.forgetDestination(remote)
	}
}

// superseded tells why a tunnel cannot go on with these profiles (G4); empty: it can. A tunnel belongs to the profiles that took
// it, by name: that another one would match its LAC today changes nothing.
func (d *directory) superseded(t *tunnel) (reason Reason, text string) {
	if t.Initiated {
		return "", ""
	}
	k, known := d.known[profileKey{t.Profile, t.HostProfile}]
	switch {
	case !known:
		return ReasonProfileRemoved, "profile removed"
	case k.revision != t.Revision:
		return ReasonProfileChanged, "profile changed"
	}
	return "", ""
}

// Affected tells which tunnels and sessions [Reconfigure] with this configuration would end; their Reason says why. It
// changes nothing.
func (e *Engine) Affected(cfg Config) (tunnels []TunnelInfo, sessions []SessionInfo) {
	cfg = cfg.withDefaults()
	dir := newDirectory(cfg.Profiles)
	disabled := cfg.Admin == AdminDisabled && e.cfg.Admin != AdminDisabled
	for _, id := range e.tunnelIDs() {
		t := e.tunnels[id]
		if t.over() {
			continue
		}
		reason, _ := dir.superseded(t)
		if reason == "" && disabled {
			reason = ReasonDisabled
		}
		if reason == "" {
			continue
		}
		info := e.tunnelInfo(t)
		info.Reason = reason
		tunnels = append(tunnels, info)
		for _, sid := range slices.Sorted(maps.Keys(t.Sessions)) {
			info := e.sessionInfo(t, t.Sessions[sid])
			info.Reason = reason
			sessions = append(sessions, info)
		}
	}
	return tunnels, sessions
}
