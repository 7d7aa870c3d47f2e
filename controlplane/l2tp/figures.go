package l2tp

import (
	"maps"
	"net/netip"
	"slices"
)

// figures are what a tunnel counts about itself.
type figures struct {
	SessionsTotal  uint64 // calls asked for, those that were refused included
	SessionsFailed uint64 // of these, never established
	Control        Traffic
	RxZLB, TxZLB   uint64
	OutOfSequence  uint64
	OutOfWindow    uint64
	Duplicates     uint64
	Payload        Traffic // data that went through the process, and of calls that are over
}

// totals are what remains of the tunnels that are over, and of those that were refused.
type totals struct {
	Tunnels, TunnelsFailed, TunnelsAuthFailed uint64 // all that there ever were, the live ones included
	Sessions, SessionsFailed                  uint64
	Control, Payload                          Traffic
}

// destination is a LAC or LNS (A8), by its address.
type destination struct {
	Local netip.Addr // our address, of the newest tunnel
	Admin Admin
	Past  totals

	tunnels, records int
}

func (t *Traffic) add(u Traffic) {
	t.RxOctets += u.RxOctets
	t.RxPackets += u.RxPackets
	t.RxErrors += u.RxErrors
	t.RxDiscards += u.RxDiscards
	t.TxOctets += u.TxOctets
	t.TxPackets += u.TxPackets
	t.TxErrors += u.TxErrors
	t.TxDiscards += u.TxDiscards
}

// in and out are the two directions on their own.
func (t Traffic) in() Traffic {
	return Traffic{RxOctets: t.RxOctets, RxPackets: t.RxPackets, RxErrors: t.RxErrors, RxDiscards: t.RxDiscards}
}

func (t Traffic) out() Traffic {
	return Traffic{TxOctets: t.TxOctets, TxPackets: t.TxPackets, TxErrors: t.TxErrors, TxDiscards: t.TxDiscards}
}

func (t *Traffic) received(octets int) {
	t.RxPackets++
	t.RxOctets += uint64(octets)
}

func (t *Traffic) sent(octets int) {
	t.TxPackets++
	t.TxOctets += uint64(octets)
}

// destination returns the entry of an address and makes it when there is none.
func (e *Engine) destination(remote netip.Addr) *destination {
	d := e.destinations[remote]
	if d == nil {
		d = &destination{}
		e.destinations[remote] = d
	}
	return d
}

// forgetDestination drops an entry that nothing holds: no tunnel, no record, no administrative state, and no profile for this very
// address. Clear-text tunnels that never came up leave no record, so that forged sources leave no entry.
func (e *Engine) forgetDestination(remote netip.Addr) {
	d := e.destinations[remote]
	if d == nil || d.tunnels+d.records > 0 || d.Admin != AdminEnabled {
		return
	}
	if _, configured := e.dir.byLAC[remote]; !configured {
		delete(e.destinations, remote)
	}
}

// join counts a tunnel that has just been made.
func (e *Engine) join(t *tunnel) {
	d := e.destination(t.Remote.Addr())
	d.tunnels++
	d.Local = t.Local.Addr()
}

// countTunnel counts a tunnel towards what there ever were.
func (e *Engine) countTunnel(t *tunnel) {
	e.past.Tunnels++
	e.destination(t.Remote.Addr()).Past.Tunnels++
}

// countEnd counts the end of a tunnel that never came up.
func (e *Engine) countEnd(t *tunnel) {
	if t.Up {
		return
	}
	denied := t.Reason == ReasonAuthentication || t.Reason == ReasonPeerStop && t.LastResult == StopNotAuthorized
	for _, p := range [...]*totals{&e.past, &e.destination(t.Remote.Addr()).Past} {
		p.failed(denied)
	}
}

func (p *totals) failed(denied bool) {
	p.TunnelsFailed++
	if denied {
		p.TunnelsAuthFailed++
	}
}

// failedSetup counts a tunnel that was refused before it existed; at its destination only where that is known anyway.
func (e *Engine) failedSetup(p Packet, reason Reason) {
	e.past.Tunnels++
	e.past.failed(reason == ReasonAuthentication)
	if d := e.destinations[p.Remote.Addr()]; d != nil {
		d.Past.Tunnels++
		d.Past.failed(reason == ReasonAuthentication)
	}
}

// leave adds the figures of a tunnel that is gone to the totals.
func (e *Engine) leave(t *tunnel) {
	d := e.destination(t.Remote.Addr())
	d.tunnels--
	for _, p := range [...]*totals{&e.past, &d.Past} {
		p.Sessions += t.SessionsTotal
		p.SessionsFailed += t.SessionsFailed
		p.Control.add(t.Control)
		p.Payload.add(t.Payload)
	}
}

// Destinations lists the LACs and LNSs by address. Active are those that are established now.
func (e *Engine) Destinations() []DestinationInfo {
	list := make([]DestinationInfo, 0, len(e.destinations))
	place := make(map[netip.Addr]int, len(e.destinations))
	for _, remote := range slices.SortedFunc(maps.Keys(e.destinations), netip.Addr.Compare) {
		d := e.destinations[remote]
		place[remote] = len(list)
		list = append(list, DestinationInfo{
			Local: d.Local, Remote: remote, Admin: d.Admin, EffectiveAdmin: e.adminOf(remote),
			TunnelsTotal: d.Past.Tunnels, TunnelsFailed: d.Past.TunnelsFailed, TunnelsAuthFailed: d.Past.TunnelsAuthFailed,
			SessionsTotal: d.Past.Sessions, SessionsFailed: d.Past.SessionsFailed, Control: d.Past.Control,
			Payload: d.Past.Payload,
		})
	}
	for _, t := range e.tunnels {
		d := &list[place[t.Remote.Addr()]]
		tunnels, sessions := t.active()
		d.TunnelsActive += tunnels
		d.SessionsActive += sessions
		d.SessionsTotal += t.SessionsTotal
		d.SessionsFailed += t.SessionsFailed
		d.Control.add(t.Control)
		d.Payload.add(t.Payload)
	}
	return list
}

// Service describes the engine as a whole. Active are the tunnels and sessions that are established now.
func (e *Engine) Service() ServiceInfo {
	s := ServiceInfo{
		Admin: e.admin, Destinations: len(e.destinations), TunnelsTotal: e.past.Tunnels, TunnelsFailed: e.past.TunnelsFailed,
		TunnelsAuthFailed: e.past.TunnelsAuthFailed, SessionsTotal: e.past.Sessions, SessionsFailed: e.past.SessionsFailed,
		BySessions: make(map[string]int, len(e.counts)),
	}
	for _, t := range e.tunnels {
		tunnels, sessions := t.active()
		s.TunnelsActive += tunnels
		s.SessionsActive += sessions
		s.SessionsTotal += t.SessionsTotal
		s.SessionsFailed += t.SessionsFailed
	}
	for k, n := range e.counts {
		name := k.Profile
		if k.Host != "" {
			name += "/" + k.Host
		}
		s.BySessions[name] = n
	}
	return s
}

// active counts the tunnel, and its sessions, that are established.
func (t *tunnel) active() (tunnels, sessions int) {
	if t.Phase == phaseEstablished {
		tunnels = 1
	}
	for _, s := range t.Sessions {
		if s.State == StateEstablished {
			sessions++
		}
	}
	return tunnels, sessions
}

// tunnelInfo is a tunnel's description with the administrative state that holds for it.
func (e *Engine) tunnelInfo(t *tunnel) TunnelInfo {
	info := t.info()
	info.EffectiveAdmin = e.adminOfTunnel(t)
	return info
}

// sessionInfo is a session's description with the administrative state that holds for it.
func (e *Engine) sessionInfo(t *tunnel, s *session) SessionInfo {
	info := s.info(t)
	info.EffectiveAdmin = max(e.adminOfTunnel(t), s.Admin)
	return info
}
