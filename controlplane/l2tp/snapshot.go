package l2tp

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"vrgate/controlplane/keymat"
)

// snapshotVersion changes with the meaning of what Snapshot writes; Restore refuses any other.
const snapshotVersion = 1

// snapshot is everything an engine knows that its configuration does not say.
type snapshot struct {
	Version  int
	Tunnels  []tunnelSnapshot
	Ended    []endedRecord
	Counters map[Reason]uint64
	Serial   uint32
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
	s := snapshot{Version: snapshotVersion, Ended: e.ended, Counters: e.counters, Serial: e.serial}
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
// handed over beside it. For tunnels whose socket was still being opened, OpenSocket is among the effects of the first
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
	e.ended, e.serial = s.Ended, s.Serial
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
	return e, nil
}

// restore enters a tunnel of a snapshot into the engine's indexes and counts, which are not written.
func (e *Engine) restore(t *tunnel) {
	e.tunnels[t.ID] = t
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
