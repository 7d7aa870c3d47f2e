package l2tp

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"vrgate/controlplane/keymat"
)

// snapshotVersion changes with the meaning of what Snapshot writes; Restore refuses any other.
const snapshotVersion = 2

// snapshot is everything an engine knows that its configuration does not say.
type snapshot struct {
	Version  int
	Tunnels  []tunnelSnapshot
	Ended    []endedRecord
	Sessions []sessionRecord // ended ones
	Admin    Admin
	// ConfigAdmin is what the configuration said: Admin outlives the restart unless that has changed.
	ConfigAdmin  Admin
	Destinations map[netip.Addr]*destination
	Past         totals
	Uses         map[ConnID]*connUse
	Counters     map[Reason]uint64
	Serial       uint32
}

type tunnelSnapshot struct {
	Tunnel *tunnel
	Secret []byte // Tunnel.Secret in the clear
	// Proxies are those of the sessions, passwords in the clear.
	Proxies map[SessionID]proxySnapshot
}

// Snapshot writes the engine's state for [Restore]. It holds the tunnels' passwords: keep it as safe as the
// configuration, and never print it.
func (e *Engine) Snapshot() (keymat.Secret, error) {
	s := snapshot{
		Version: snapshotVersion, Ended: e.ended, Sessions: e.endedSessions, Counters: e.counters, Serial: e.serial,
		Admin: e.admin, ConfigAdmin: e.cfg.Admin, Destinations: e.destinations, Past: e.past, Uses: e.uses,
	}
	for _, id := range e.tunnelIDs() {
		t := e.tunnels[id]
		s.Tunnels = append(s.Tunnels, tunnelSnapshot{t, t.Secret.Reveal(), t.proxies()})
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("l2tp: snapshot: %w", err)
	}
	return b, nil
}

// Restore returns an engine that continues where the one that wrote the snapshot stopped. The tunnels' sockets have to be
// handed over beside it. Its first Step ends the tunnels for which the configuration has no room any more, as [Reconfigure]
// does. For tunnels whose socket was still being opened, OpenSocket is among the effects of the first
// Step again.
func Restore(cfg Config, random io.Reader, data keymat.Secret) (*Engine, error) {
	var s snapshot
	if err := json.Unmarshal(data.Reveal(), &s); err != nil {
		return nil, fmt.Errorf("l2tp: snapshot: %w", err)
	}
	if s.Version != snapshotVersion {
		return nil, fmt.Errorf("l2tp: snapshot of version %d, want %d", s.Version, snapshotVersion)
	}
	e := New(cfg, random)
	if err := e.restoreFigures(&s); err != nil {
		return nil, err
	}
	e.serial = s.Serial
	if s.Counters != nil {
		e.counters = s.Counters
	}
	for _, ts := range s.Tunnels {
		t := ts.Tunnel
		if t == nil || t.ID < TunnelIDMin || e.tunnels[t.ID] != nil {
			return nil, fmt.Errorf("l2tp: snapshot: tunnel missing, doubled or out of range")
		}
		t.Secret = ts.Secret
		for id, p := range ts.Proxies {
			if c := t.Sessions[id]; c != nil {
				c.Proxy = p.restore()
			}
		}
		t.heapIndex = -1
		e.restore(t)
	}
	e.unchecked = true
	return e, nil
}

// restoreFigures takes over what a snapshot says about everything but tunnels.
func (e *Engine) restoreFigures(s *snapshot) error {
	e.ended, e.endedSessions, e.past = s.Ended, s.Sessions, s.Past
	if s.ConfigAdmin == e.cfg.Admin {
		e.admin = s.Admin
	}
	for remote, d := range s.Destinations {
		if d == nil {
			return fmt.Errorf("l2tp: snapshot: destination missing")
		}
		e.destinations[remote] = d
	}
	for conn, u := range s.Uses {
		if u == nil {
			return fmt.Errorf("l2tp: snapshot: connection missing")
		}
		e.uses[conn] = u
	}
	for _, r := range s.Ended {
		e.destination(r.Info.Remote.Addr()).records++
	}
	return nil
}

// restore enters a tunnel of a snapshot into the engine's indexes and counts, which are not written.
func (e *Engine) restore(t *tunnel) {
	e.tunnels[t.ID] = t
	e.join(t)
	if t.Conn != 0 {
		e.byConn[t.Conn] = append(e.byConn[t.Conn], t.ID)
	}
	if !t.over() {
		e.live++
		switch {
		case !t.Initiated:
			e.byPeer[t.peerKey()] = t.ID
		default:
			e.restoreDial(t)
		}
		if t.ZeroID {
			e.zeroIDs[t.dialKey()] = t.ID
		}
		if t.HalfOpen {
			e.halfOpen++
			e.halfOpenBy[t.source()]++
		}
	}
	for range t.Sessions {
		e.countSession(t)
	}
	if !t.SocketOpen && !t.over() {
		e.emit(OpenSocket{Tunnel: t.ID, Local: t.Local, Remote: t.Remote, Conn: t.Conn})
	}
	if t.Phase == phaseOrphan {
		e.release(t) // its socket belonged to the process that is gone
		return
	}
	e.schedule(t)
}

// tunnelIDs lists the tunnels in order, so that what is done to all of them is done in the same order every time.
func (e *Engine) tunnelIDs() []TunnelID {
	ids := make([]TunnelID, 0, len(e.tunnels))
	for id := range e.tunnels {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
