package ike

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"slices"
	"time"
)

// snapshotVersion changes with every change of the types inside a snapshot, so
// that an older or newer program refuses it instead of misreading it.
const snapshotVersion = 7

// snapshot is what survives a restart: authenticated SAs and their connections.
// Exchanges under way are left out, since peers repeat them.
type snapshot struct {
	Version int
	Taken   time.Time
	Conns   []*conn      // with their phase 1 SAs and children
	Session [][]*session // of the phase 1 SAs, by connection
	Admits  []AdmitPeers
}

// Snapshot encodes the state of all connections, keys in clear: whoever stores it
// must keep it from other eyes.
func (e *Engine) Snapshot() ([]byte, error) {
	s := snapshot{Version: snapshotVersion, Taken: e.now, Conns: e.sortedConns(), Admits: e.admittedPeers()}
	for _, c := range s.Conns {
		var ss []*session
		for _, p := range c.Phase1 {
			ss = append(ss, p.session)
		}
		s.Session = append(s.Session, ss)
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(s); err != nil {
		return nil, fmt.Errorf("ike: snapshot: %w", err)
	}
	return b.Bytes(), nil
}

// Restore takes a snapshot over into an engine that has no state yet, at time
// now of the same clock. The effects remove SAs that were half way into the kernel
// when the snapshot was taken. Deadlines that have passed meanwhile are due at
// once. Errors: not a snapshot of this version, or the engine is in use; the
// engine is unchanged then.
func (e *Engine) Restore(now time.Time, b []byte) ([]Effect, error) {
	if len(e.conns)+len(e.sas)+len(e.own) > 0 {
		return nil, fmt.Errorf("ike: restore into an engine in use")
	}
	var s snapshot
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&s); err != nil {
		return nil, fmt.Errorf("ike: restore: %w", err)
	}
	if s.Version != snapshotVersion {
		return nil, fmt.Errorf("ike: snapshot of version %d, want %d", s.Version, snapshotVersion)
	}
	if len(s.Session) != len(s.Conns) {
		return nil, fmt.Errorf("ike: restore: %d connections with sessions of %d", len(s.Conns), len(s.Session))
	}
	for i, c := range s.Conns {
		if len(s.Session[i]) != len(c.Phase1) {
			return nil, fmt.Errorf("ike: restore: connection %d lacks keys", c.Info.ID)
		}
		for j, p := range c.Phase1 {
			p.session = s.Session[i][j]
		}
	}
	e.now, e.out = now, nil
	for _, a := range s.Admits {
		e.admitPeers(a)
	}
	for _, c := range s.Conns {
		if c.Dyn != nil && c.Dyn.Unproven.IsValid() {
			e.countUnproven(c.Dyn.Unproven)
		}
		e.conns[c.Info.ID] = c
		e.enlist(c)
		for _, p := range c.Phase1 {
			e.sas[p.Cookies] = p
			e.startDPD(p)
			if p.RekeyAt.IsZero() && p == c.newest() && c.Dyn == nil {
				p.RekeyAt = now // one was under way
			}
			e.arm(p)
		}
		for _, ch := range slices.Clone(c.Children) {
			e.spis[ch.In.SPI] = ch
			if ch.OutState != saNone || !ch.Switch.IsZero() {
				e.outs[ch.Out.SPI] = ch
			}
			if ch.InState != saUp || ch.OutState != saUp && !ch.Deleted && ch.Switch.IsZero() {
				// The peer may have finished with it; it is told, so that it does not
				// send into the void.
				e.deleteChild(c, ch)
				continue
			}
			ch.Rekeying = false
			e.arm(ch)
		}
		if len(c.Children) == 0 && c.Grace.IsZero() {
			c.Grace = now.Add(grace)
		}
		e.resume(c)
		e.arm(c)
	}
	out := e.out
	e.out = nil
	return out, nil
}
