package subscriber

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// snapshotVersion changes with the meaning of what Snapshot writes; Restore refuses any other.
const snapshotVersion = 3

// snapshot is everything an engine knows that its configuration does not say. It holds no
// password.
type snapshot struct {
	Version  int
	NextID   ID
	Sessions []sessionSnapshot
	Conns    []connSnapshot
	Counts   map[Reason]uint64
}

type sessionSnapshot struct {
	Record      Record
	Link        json.RawMessage `json:",omitempty"` // none: PPP has not begun, or never did
	MRU         uint16
	Begin       time.Time // when there is no link yet: when we begin
	Profile     IPProfile
	Sequencing  bool
	Login       string
	CarrierGone bool
	Kernel      kernelState
	Asked       bool
	Active      bool
	Activations int
	Leased      bool
	Started     bool
	Over        bool
	Granted     aaa.Grants
	Accounting  accountState
	Changes     []Change
	Changing    bool
	Network     bool
	Verdict     verdict
	EAP         eapDialogue
	Timeouts    timeouts
	Said        said
	Far         *handover `json:",omitempty"`
	Dynamic     *dynamic  `json:",omitempty"`
}

type connSnapshot struct {
	ConnUp   ConnUp
	Tunnels  map[uint16]bool
	HadOne   bool
	Warned   bool
	Spent    bool
	Deadline time.Time
}

// Snapshot writes the engine's state for [Restore].
func (e *Engine) Snapshot() ([]byte, error) {
	out := snapshot{Version: snapshotVersion, NextID: e.nextID, Counts: e.counts}
	for _, s := range e.byID {
		n := sessionSnapshot{
			Record: s.Record, MRU: s.linkMRU, Profile: s.profile, Sequencing: s.sequencing, Login: s.login, CarrierGone: s.carrierGone, Kernel: s.kernel,
			Asked: s.asked, Active: s.active, Activations: s.activations, Leased: s.leased, Started: s.started, Over: s.over,
			Granted: s.granted, Accounting: s.accounting, Changes: s.changes, Changing: s.changing, Network: s.network,
			Verdict: s.verdict, EAP: s.eap, Timeouts: s.timeouts, Said: s.said, Far: s.far, Dynamic: s.dyn,
		}
		if s.link != nil {
			link, err := s.link.MarshalJSON()
			if err != nil {
				return nil, fmt.Errorf("subscriber: snapshot of session %d: %w", s.ID, err)
			}
			n.Link = link
		} else {
			n.Begin = s.begin
		}
		out.Sessions = append(out.Sessions, n)
	}
	slices.SortFunc(out.Sessions, func(a, b sessionSnapshot) int { return cmp.Compare(a.Record.ID, b.Record.ID) })
	for _, c := range e.conns {
		out.Conns = append(out.Conns, connSnapshot{c.ConnUp, c.tunnels, c.hadOne, c.warned, c.spent, c.deadline})
	}
	slices.SortFunc(out.Conns, func(a, b connSnapshot) int { return cmp.Compare(a.ConnUp.Conn, b.ConnUp.Conn) })
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("subscriber: snapshot: %w", err)
	}
	return b, nil
}

// Restore returns an engine that goes on where the one that wrote the snapshot stopped.
// Questions that had no answer then (Decide, AskUser, AccountStart, OpenSession, OpenAccess,
// Activate, SetTraffic, CloseSession, CloseAccess, Dial, Bridge, CloseBridge) still want exactly one: whoever has lost them
// answers with a failure. Which LNSs did not answer is forgotten, and so are those that a session has not tried yet: their
// secrets are in no snapshot.
func Restore(cfg Config, random io.Reader, data []byte) (*Engine, error) {
	var in snapshot
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("subscriber: restoring: %w", err)
	}
	if in.Version != snapshotVersion {
		return nil, fmt.Errorf("subscriber: snapshot of version %d, want %d", in.Version, snapshotVersion)
	}
	e := New(cfg, random)
	e.nextID = max(in.NextID, 1)
	if in.Counts != nil {
		e.counts = in.Counts
	}
	for _, n := range in.Conns {
		if id := n.ConnUp.Conn; id == 0 || e.conns[id] != nil {
			return nil, fmt.Errorf("subscriber: restoring: connection %d is none, or stands there twice", id)
		}
		c := &conn{ConnUp: n.ConnUp, tunnels: n.Tunnels, calls: map[CallKey]bool{}, hadOne: n.HadOne, warned: n.Warned, spent: n.Spent, timer: timer{conn: n.ConnUp.Conn}}
		if c.tunnels == nil {
			c.tunnels = map[uint16]bool{}
		}
		e.conns[n.ConnUp.Conn] = c
		e.armConn(c, n.Deadline)
	}
	for _, n := range in.Sessions {
		if err := e.restore(n); err != nil {
			return nil, fmt.Errorf("subscriber: restoring session %d: %w", n.Record.ID, err)
		}
	}
	return e, nil
}

func (e *Engine) restore(n sessionSnapshot) error {
	if n.Record.State > StateEnding || n.Kernel > kernelClosing {
		return fmt.Errorf("state %d or kernel state %d out of range", n.Record.State, n.Kernel)
	}
	if e.byID[n.Record.ID] != nil {
		return fmt.Errorf("stands there twice")
	}
	if d := n.Dynamic; d != nil && (d.Dialogue > dialogueAdmitted || !n.CarrierGone && e.byConn[n.Record.Conn] != nil) {
		return fmt.Errorf("dialogue %d out of range, or connection %d stands there twice", d.Dialogue, n.Record.Conn)
	}
	if n.Accounting > accountDone || len(n.Changes) > maxChanges || n.Changing && (len(n.Changes) == 0 || n.Changes[0].Change.Traffic == nil) {
		return fmt.Errorf("accounting %d out of range, or %d changes cannot be", n.Accounting, len(n.Changes))
	}
	if n.Dynamic != nil && (n.Link != nil || !n.Begin.IsZero()) {
		return fmt.Errorf("is both a dynamic subscriber and a PPP session")
	}
	if n.Far != nil && (n.Dynamic != nil || n.Link != nil || !n.Begin.IsZero() || n.Asked || n.Far.Up && n.Far.Dialling) {
		return fmt.Errorf("is handed on to another LNS, and is something else too")
	}
	s := &session{
		Record: n.Record, linkMRU: n.MRU, profile: n.Profile, sequencing: n.Sequencing, login: n.Login, carrierGone: n.CarrierGone, kernel: n.Kernel,
		asked: n.Asked, active: n.Active, activations: n.Activations, leased: n.Leased, started: n.Started, over: n.Over,
		granted: n.Granted, accounting: n.Accounting, changes: n.Changes, changing: n.Changing, network: n.Network,
		verdict: n.Verdict, eap: n.EAP, timeouts: n.Timeouts, begin: n.Begin, said: n.Said, far: n.Far, dyn: n.Dynamic, timer: timer{session: n.Record.ID},
	}
	if n.Link != nil {
		cfg := e.cfg.Link
		cfg.MRU = n.MRU
		link, err := pppd.RestoreLink(cfg, e.random, n.Link)
		if err != nil {
			return err
		}
		s.link = link
	}
	e.byID[s.ID] = s
	if s.asked {
		user := s.login
		if s.dyn != nil {
			user = s.dyn.Name
		}
		e.asking(s, user)
	}
	switch {
	case s.dyn != nil:
		if s.dyn.Counted {
			e.count(s)
		}
		if !s.carrierGone {
			e.byConn[s.Conn] = s
		}
	case !s.carrierGone:
		if e.byCall[s.Call] != nil {
			return fmt.Errorf("call %v stands there twice", s.Call)
		}
		e.byCall[s.Call] = s
		if c := e.conns[s.Conn]; s.Conn != 0 && c != nil {
			c.calls[s.Call] = true
		}
	}
	if s.far != nil && s.far.Up {
		if e.byFar[s.Far] != nil {
			return fmt.Errorf("call %v to an LNS stands there twice", s.Far)
		}
		e.byFar[s.Far] = s
	}
	if !s.over {
		e.arm(s)
	}
	return nil
}
