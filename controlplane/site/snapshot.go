package site

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// snapshotVersion changes with the meaning of what Snapshot writes; Restore refuses any other.
const snapshotVersion = 1

// snapshot is what an engine knows that its configuration does not say. Dials, lookups and checks under way are left out:
// whoever was to answer them has gone.
type snapshot struct {
	Version int
	NextRef uint64
	Tunnels []tunnelSnapshot
	Names   []*name
}

type tunnelSnapshot struct {
	Name     string
	Revision string
	Disabled bool
	Peers    []Peer
	Life     life
	Conns    []*conn
}

// Snapshot writes the engine's state for [Restore].
func (e *Engine) Snapshot() ([]byte, error) {
	out := snapshot{Version: snapshotVersion, NextRef: e.nextRef}
	for _, t := range e.sorted() {
		s := tunnelSnapshot{Name: t.cfg.Name, Revision: t.cfg.Revision, Disabled: t.cfg.Disabled, Peers: t.cfg.Peers, Life: t.life, Conns: t.conns}
		if t.try != nil && t.try.kind == tryRound { // it is tried again
			s.Life.Round = slices.Insert(slices.Clone(t.Round), 0, t.try.peer)
			s.Life.Wanted = true
		}
		s.Life.Check.Until = time.Time{}
		out.Tunnels = append(out.Tunnels, s)
	}
	for _, n := range e.names {
		out.Names = append(out.Names, n)
	}
	slices.SortFunc(out.Names, func(a, b *name) int { return strings.Compare(a.Name, b.Name) })
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("site: snapshot: %w", err)
	}
	return b, nil
}

// Restore returns an engine that goes on where the one that wrote the snapshot stopped, with a configuration that may be
// another by now, at time now of the same clock. Connections that have gone since are reported by Down afterwards. The
// engine dials again what was being dialled; an Up or Down of those dials counts as one of the peer's.
func Restore(now time.Time, cfg Config, random io.Reader, data []byte) (*Engine, error) {
	var in snapshot
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("site: restoring: %w", err)
	}
	if in.Version != snapshotVersion {
		return nil, fmt.Errorf("site: snapshot of version %d, want %d", in.Version, snapshotVersion)
	}
	e := New(now, cfg, random)
	e.nextRef = max(in.NextRef, 1)
	for _, n := range in.Names {
		if n == nil || e.names[n.Name] != nil {
			return nil, fmt.Errorf("site: restoring: a name is missing or stands there twice")
		}
		e.names[n.Name] = &name{
			Name: n.Name, Addrs: usable(n.Addrs), Reason: n.Reason, Text: cut(n.Text), At: noLater(n.At, now), NextAt: noLater(n.NextAt, now.Add(e.cfg.Resolve)),
		}
	}
	seen := map[string]bool{}
	for _, s := range in.Tunnels {
		if seen[s.Name] {
			return nil, fmt.Errorf("site: restoring tunnel %q: stands there twice", s.Name)
		}
		seen[s.Name] = true
		if err := e.restore(s); err != nil {
			return nil, fmt.Errorf("site: restoring tunnel %q: %w", s.Name, err)
		}
	}
	return e, nil
}

func (e *Engine) restore(s tunnelSnapshot) error {
	t := e.tunnels[s.Name]
	if t != nil && t.cfg.Revision != s.Revision {
		t = nil
	}
	if len(s.Conns) > maxConns || len(s.Life.Counts) > maxReasons+1 {
		return fmt.Errorf("%d connections or %d reasons are too many", len(s.Conns), len(s.Life.Counts))
	}
	for _, c := range s.Conns {
		if c == nil || c.ID == 0 || e.byConn[c.ID] != nil || !c.Peer.IsValid() || len(c.Lapsed) > maxPairs {
			return fmt.Errorf("a connection has no number or peer, or stands there twice")
		}
		c.Tunnel, c.tunnel = s.Name, t
		c.CarryAt, c.OverAt = noLater(c.CarryAt, e.now.Add(takeOver)), noLater(c.OverAt, e.now.Add(linger))
		e.byConn[c.ID] = c
	}
	if t == nil {
		return nil
	}
	fresh := t.life
	t.life = s.Life
	if t.Counts == nil {
		t.Counts = map[Reason]uint64{}
	}
	t.Failure.Text, t.Check.Text = cut(t.Failure.Text), cut(t.Check.Text)
	if s.Disabled != t.cfg.Disabled || t.Admin == (t.AdminWhy == "") {
		t.Admin, t.AdminWhy = fresh.Admin, fresh.AdminWhy
	}
	t.inRange(e.now)
	if !slices.Equal(s.Peers, t.cfg.Peers) {
		t.forgetPeers()
		t.RetryAt, t.InRound, t.Round, t.Failures = time.Time{}, false, nil, 0
	}
	for _, c := range s.Conns {
		if e.removedFrom(c, t.cfg.Peers) {
			c.tunnel = nil
			continue
		}
		e.rebind(c)
		t.conns = append(t.conns, c)
		if t.active == nil || c.peer <= t.active.peer {
			t.active = c
		}
	}
	e.resume(t)
	return nil
}

// inRange brings what a snapshot says within what the configuration allows.
func (t *tunnel) inRange(now time.Time) {
	n := len(t.cfg.Peers)
	off := func(i int) bool { return i < 0 || i >= n }
	t.Failures, t.Bounces = min(max(t.Failures, 0), maxDoublings+1), min(max(t.Bounces, 0), maxDoublings)
	t.Check.Failed = min(max(t.Check.Failed, 0), t.cfg.Check.Tolerance)
	if off(t.LastPeer) {
		t.LastPeer = 0
	}
	if off(t.Suspect) {
		t.Suspect, t.Doubt = 0, time.Time{}
	}
	if len(t.Round) > n || slices.ContainsFunc(t.Round, off) || !t.cfg.dials() {
		t.InRound, t.Round = false, nil
	}
	t.Doubt = noLater(t.Doubt, now.Add(suspectFor))
	if !t.RetryAt.IsZero() {
		orDefault(&t.Failure.Reason, ReasonOther)
	}
	t.RetryAt = noLater(t.RetryAt, now.Add(t.cfg.BackoffMax))
	t.StableAt = noLater(t.StableAt, now.Add(t.cfg.Stable))
	t.FallAt = noLater(t.FallAt, now.Add(t.fallBack()))
	t.Mends, t.MendAt = min(max(t.Mends, 0), maxDoublings+1), noLater(t.MendAt, now.Add(max(mendAfter, t.cfg.BackoffMax)))
	t.Check.NextAt = noLater(t.Check.NextAt, now.Add(t.cfg.Check.Period))
	t.Flow.ReadAt = noLater(t.Flow.ReadAt, now.Add(t.readStep()))
}

// resume arms what a tunnel that is up has to have armed, and nothing else for one that is not.
func (e *Engine) resume(t *tunnel) {
	t.Check.Until = time.Time{}
	switch {
	case t.active == nil:
		t.StableAt, t.FallAt, t.MendAt, t.UpSince, t.FellBack = time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}
		t.Check.NextAt, t.Flow = time.Time{}, flow{}
		return
	case !t.cfg.Check.on():
		t.Check.NextAt = time.Time{}
	case t.Check.NextAt.IsZero():
		e.beginCheck(t)
	}
	t.RetryAt = time.Time{}
	if (t.readStep() == 0) != t.Flow.ReadAt.IsZero() {
		e.beginFlow(t)
	}
}
