package subscriber

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// Engine is one virtual router's subscribers. One goroutine owns it.
type Engine struct {
	cfg    Config
	random io.Reader
	nextID ID
	byID   map[ID]*session
	byCall map[CallKey]*session
	conns  map[uint32]*conn
	timers timers
	counts map[Reason]uint64
	out    []Effect
}

// session is one L2TP session and what grew on it.
type session struct {
	Record
	link        *pppd.Link
	profile     IPProfile
	peerMRU     int
	callGone    bool // the L2TP session has ended, nothing can be sent
	kernel      kernelState
	wantNetwork bool // IPCP is open
	active      bool // traffic is allowed in the kernel
	leased      bool
	started     bool
	pending     pppd.AuthProtocol // of the Authenticate that is being decided
	decision    aaa.Decision
	linkDone    bool
	cause       pppd.DisconnectCause // for the CDN
	deadline    time.Time            // of the link
	queued      time.Time            // earliest entry in the timer heap
}

type kernelState uint8

const (
	kernelNone kernelState = iota
	kernelOpening
	kernelOpen
	kernelClosing
)

// conn is one IPsec connection.
type conn struct {
	ConnUp
	tunnels  map[uint16]bool
	calls    map[CallKey]bool
	hadOne   bool
	warned   bool
	deadline time.Time // for closing it without tunnels
}

// silentConn is how long an IPsec connection may be without L2TP before the operator is
// told: the classic sign of a blocked ESP or UDP 1701 (clients.md, complaint 28).
const silentConn = 30 * time.Second

// New makes an engine. random feeds the PPP links' magic numbers and challenges.
func New(cfg Config, random io.Reader) *Engine {
	return &Engine{
		cfg: withDefaults(cfg), random: random, nextID: max(cfg.FirstID, 1),
		byID: map[ID]*session{}, byCall: map[CallKey]*session{}, conns: map[uint32]*conn{}, counts: map[Reason]uint64{},
	}
}

func withDefaults(cfg Config) Config {
	if cfg.PathMTU == 0 {
		cfg.PathMTU = defaultPath
	}
	if cfg.DestructTimeout == 0 {
		cfg.DestructTimeout = 600 * time.Second
	}
	return cfg
}

// Step takes one event and returns what is to be done, in order.
func (e *Engine) Step(now time.Time, ev Event) []Effect {
	e.out = nil
	switch ev := ev.(type) {
	case ConnUp:
		e.connUp(now, ev)
	case ConnDown:
		e.connDown(ev)
	case TunnelUp:
		e.tunnelUp(ev)
	case TunnelDown:
		e.tunnelDown(now, ev)
	case CallUp:
		e.callUp(now, ev)
	case CallDown:
		e.callDown(now, ev)
	case Frame:
		e.frame(now, ev)
	case Decided:
		e.decided(now, ev)
	case SessionOpened:
		e.sessionOpened(now, ev)
	case SessionActivated:
		e.sessionActivated(now, ev)
	case SessionClosed:
		e.sessionClosed(now, ev)
	case Disconnect:
		for _, id := range ev.IDs {
			if s := e.byID[id]; s != nil {
				e.end(now, s, ev.Reason, "disconnected by the operator", false)
			}
		}
	case Reconfigure:
		ev.Config.FirstID = 0
		e.cfg = withDefaults(ev.Config)
	case Timer:
		e.expire(now)
	}
	return e.out
}

// Deadline returns when a Timer event is wanted; zero: never.
func (e *Engine) Deadline() time.Time { return e.timers.next() }

func (e *Engine) emit(f Effect) { e.out = append(e.out, f) }

// Calls and links.

func (e *Engine) callUp(now time.Time, ev CallUp) {
	if _, ok := e.byCall[ev.Call]; ok {
		return // the L2TP engine never reports a session twice
	}
	s := &session{Record: Record{
		ID: e.nextID, Router: e.cfg.Router, Access: aaa.AccessL2TP, Call: ev.Call,
		PeerTunnel: ev.PeerTunnel, PeerSession: ev.PeerSession, Conn: ev.Conn, Local: ev.Local, Remote: ev.Remote,
		PeerHost: ev.PeerHost, CallingNumber: ev.CallingNumber, Called: now,
	}}
	e.nextID++
	e.byID[s.ID], e.byCall[s.Call] = s, s
	var esp *ESP
	if c := e.conns[ev.Conn]; ev.Conn != 0 && c != nil {
		s.Access, s.Peer, esp = aaa.AccessL2TPIPsec, c.Peer, &c.ESP
		s.Remote = c.Remote // the address and port after NAT, not L2TP's
		c.calls[s.Call] = true
	}
	profile, ok := e.cfg.Profiles[e.cfg.HostProfiles[ev.Profile+"/"+ev.HostProfile]]
	if !ok {
		e.fail(now, s, ReasonNoProfile, fmt.Sprintf("host profile %s/%s has no IP profile", ev.Profile, ev.HostProfile))
		return
	}
	s.profile, s.Terminating, s.Gateway = profile, profile.Terminating, profile.Gateway
	link := e.cfg.Link
	mru := innerMTU(e.cfg.PathMTU, esp, ev.Sequencing)
	if link.MRU != 0 {
		mru = min(mru, int(link.MRU))
	}
	if profile.MTU != 0 {
		mru = min(mru, profile.MTU)
	}
	link.MRU = uint16(mru)
	s.link = pppd.NewLink(link, e.random)
	e.run(now, s, pppd.Open{})
}

func (e *Engine) callDown(now time.Time, ev CallDown) {
	s := e.byCall[ev.Call]
	if s == nil {
		return
	}
	e.dropCall(s)
	e.note(s, Reason(ev.Reason), ev.Text, ev.ByPeer)
	if !s.linkDone && s.link != nil {
		e.run(now, s, pppd.LowerDown{Reason: pppd.Reason(ev.Reason)})
		return
	}
	e.settle(now, s)
}

func (e *Engine) frame(now time.Time, ev Frame) {
	s := e.byCall[ev.Call]
	if s == nil || s.link == nil || s.linkDone || len(ev.Data) < 2 {
		e.counts["ppp-frame-without-session"]++
		return
	}
	e.run(now, s, pppd.Frame{Protocol: uint16(ev.Data[0])<<8 | uint16(ev.Data[1]), Data: ev.Data[2:]})
}

// run feeds one event to a session's link and carries out what it wants.
func (e *Engine) run(now time.Time, s *session, ev pppd.Event) {
	for _, f := range s.link.Step(now, ev) {
		switch f := f.(type) {
		case pppd.Send:
			if !s.callGone {
				data := make([]byte, 0, 2+len(f.Data))
				data = append(data, byte(f.Protocol>>8), byte(f.Protocol))
				e.emit(SendFrame{ID: s.ID, Call: s.Call, InKernel: s.kernel == kernelOpen, Data: append(data, f.Data...)})
			}
		case pppd.Authenticate:
			e.authenticate(now, s, f.Request)
		case pppd.NetworkUp:
			e.networkUp(now, s, f)
		case pppd.NetworkDown:
			s.wantNetwork = false
			if s.active {
				s.active = false
				e.emit(Deactivate{ID: s.ID, Call: s.Call})
				if s.State == StateUp || s.State == StateActivating {
					s.State = StateNetwork
				}
			}
		case pppd.Down:
			s.linkDone, s.cause = true, f.Cause
			e.note(s, Reason(f.Reason), f.Text, f.ByPeer)
		}
	}
	if s.linkDone {
		e.settle(now, s)
		return
	}
	e.arm(s)
}

func (e *Engine) arm(s *session) {
	s.deadline = s.link.Deadline()
	if !s.deadline.IsZero() && (s.queued.IsZero() || s.deadline.Before(s.queued)) {
		s.queued = s.deadline
		e.timers.add(s.deadline, timerKey{session: s.ID})
	}
}

// Authentication and authorisation.

var protocols = map[pppd.AuthProtocol]aaa.Protocol{
	pppd.AuthPAP: aaa.PAP, pppd.AuthCHAPMD5: aaa.CHAPMD5, pppd.AuthMSCHAPv2: aaa.MSCHAPv2,
}

func (e *Engine) authenticate(now time.Time, s *session, r pppd.AuthRequest) {
	if s.leased && r.User != s.User {
		// LCP was renegotiated and somebody else logs in: the address and the
		// accounting belong to the first.
		e.end(now, s, ReasonUserChanged, "the peer authenticated again as another user", true)
		return
	}
	if s.State == StateLink {
		s.State = StateDeciding
	}
	s.User, s.Protocol, s.pending, s.peerMRU = r.User, protocols[r.Protocol], r.Protocol, int(r.PeerMRU)
	e.emit(Decide{ID: s.ID, Profile: s.profile, Again: s.leased, Request: aaa.Request{
		Router: e.cfg.Router, Access: s.Access, User: r.User, Protocol: s.Protocol, Password: []byte(r.Password),
		ID: r.ID, Challenge: r.Challenge, Response: r.Response, Remote: s.Remote, CallingNumber: s.CallingNumber, IPProfile: s.profile.Name,
	}})
}

func (e *Engine) decided(now time.Time, ev Decided) {
	s := e.byID[ev.ID]
	if s == nil || s.linkDone {
		if ev.Address.IsValid() && (s == nil || !s.leased) {
			e.release(ev.ID, terminating(s, ev.Decision), poolOf(s), ev.Decision.User, ev.Address)
		}
		if s != nil {
			e.settle(now, s)
		}
		return
	}
	if !ev.Decision.Accept {
		e.note(s, Reason(ev.Decision.Reason), ev.Decision.Text, false)
		e.run(now, s, pppd.AuthDecision{Reason: pppd.Reason(ev.Decision.Reason)})
		return
	}
	s.decision = ev.Decision
	switch {
	case s.kernel == kernelOpen: // authenticated again after an LCP renegotiation
		e.accept(now, s)
		return
	case s.leased: // the same, and the kernel is at work on the first answer
		return
	}
	s.Address, s.leased = ev.Address, true
	if ev.Decision.User != "" {
		s.User = ev.Decision.User
	}
	if ev.Decision.Terminating != "" {
		s.Terminating = ev.Decision.Terminating
	}
	s.State, s.kernel = StateOpening, kernelOpening
	s.MTU = int(s.link.Info().MTU)
	e.emit(OpenSession{
		ID: s.ID, Call: s.Call, PeerTunnel: s.PeerTunnel, PeerSession: s.PeerSession,
		Terminating: s.Terminating, MTU: s.MTU,
	})
}

func terminating(s *session, d aaa.Decision) string {
	if d.Terminating != "" || s == nil {
		return d.Terminating
	}
	return s.profile.Terminating
}

func poolOf(s *session) string {
	if s == nil {
		return ""
	}
	return s.profile.Pool
}

func (e *Engine) sessionOpened(now time.Time, ev SessionOpened) {
	s := e.byID[ev.ID]
	if s == nil || s.kernel != kernelOpening {
		return
	}
	if ev.Reason != "" {
		s.kernel = kernelNone
		e.note(s, ev.Reason, ev.Text, false)
		if !s.linkDone {
			e.run(now, s, pppd.AuthDecision{Message: "server cannot serve you now", Reason: pppd.Reason(ev.Reason)})
			return
		}
		e.settle(now, s)
		return
	}
	s.kernel, s.Interface = kernelOpen, ev.Interface
	if s.linkDone {
		e.settle(now, s)
		return
	}
	e.accept(now, s)
}

// accept tells the peer that it is in, and starts the network phase.
func (e *Engine) accept(now time.Time, s *session) {
	if s.State < StateNetwork {
		s.State = StateNetwork
	}
	e.run(now, s, pppd.AuthDecision{
		Accept: true, MSCHAPv2Response: s.decision.MSCHAPv2Response,
		Network: pppd.Network{Local: s.Gateway, Peer: s.Address, DNS: s.profile.DNS, NBNS: s.profile.NBNS},
	})
}

func (e *Engine) networkUp(now time.Time, s *session, f pppd.NetworkUp) {
	s.wantNetwork = true
	if s.kernel != kernelOpen || s.active {
		return
	}
	s.active = true
	s.State, s.MTU = StateActivating, int(f.MTU)
	e.emit(Activate{ID: s.ID, Call: s.Call, Terminating: s.Terminating, Peer: s.Address, Gateway: s.Gateway, MTU: s.MTU})
}

func (e *Engine) sessionActivated(now time.Time, ev SessionActivated) {
	s := e.byID[ev.ID]
	if s == nil || s.linkDone {
		return
	}
	if ev.Reason != "" {
		e.end(now, s, ev.Reason, ev.Text, false)
		return
	}
	if !s.active || s.State != StateActivating {
		return
	}
	s.State = StateUp
	if !s.started {
		s.started, s.Up = true, now
		e.emit(Started{Record: s.Record})
	}
}

// Ends.

// note keeps the first reason of a session's end: what follows is its consequence.
func (e *Engine) note(s *session, r Reason, text string, byPeer bool) {
	if s.Reason != "" || r == "" {
		return
	}
	s.Reason, s.Text, s.ByPeer = r, text, byPeer
	e.counts[r]++
}

// end closes a session politely: PPP terminates first, the rest follows from its Down.
func (e *Engine) end(now time.Time, s *session, r Reason, text string, byPeer bool) {
	e.note(s, r, text, byPeer)
	if s.link == nil || s.linkDone {
		e.settle(now, s)
		return
	}
	e.run(now, s, pppd.Close{Reason: pppd.Reason(r)})
}

// fail ends a session that has no link yet.
func (e *Engine) fail(now time.Time, s *session, r Reason, text string) {
	e.note(s, r, text, false)
	s.linkDone = true
	e.settle(now, s)
}

// settle moves a session whose link is over towards its end; it is called whenever one of
// the things it waits for has happened.
func (e *Engine) settle(now time.Time, s *session) {
	if !s.linkDone && !s.callGone {
		return
	}
	s.State = StateEnding
	s.linkDone = true
	if !s.callGone {
		e.dropCall(s)
		e.emit(CloseCall{Call: s.Call, Reason: s.Reason, Cause: s.cause, Text: s.Text})
	}
	switch s.kernel {
	case kernelOpening, kernelClosing:
		return // SessionOpened or SessionClosed comes
	case kernelOpen:
		s.kernel = kernelClosing
		s.active = false
		e.emit(CloseSession{ID: s.ID, Call: s.Call})
		return
	}
	if _, alive := e.byID[s.ID]; !alive {
		return
	}
	delete(e.byID, s.ID)
	if s.leased {
		e.release(s.ID, s.Terminating, s.profile.Pool, s.User, s.Address)
	}
	s.Ended = now
	e.emit(Ended{Record: s.Record})
}

func (e *Engine) release(id ID, router, pool, user string, a netip.Addr) {
	e.emit(ReleaseAddress{ID: id, Terminating: router, Pool: pool, User: user, Address: a})
}

func (e *Engine) sessionClosed(now time.Time, ev SessionClosed) {
	s := e.byID[ev.ID]
	if s == nil || s.kernel != kernelClosing {
		return
	}
	s.kernel, s.Counters = kernelNone, ev.Counters
	e.settle(now, s)
}

func (e *Engine) dropCall(s *session) {
	s.callGone = true
	delete(e.byCall, s.Call)
	if c := e.conns[s.Conn]; c != nil {
		delete(c.calls, s.Call)
	}
}

// Connections and tunnels (K12).

func (e *Engine) connUp(now time.Time, ev ConnUp) {
	c := e.conns[ev.Conn]
	if c == nil {
		c = &conn{tunnels: map[uint16]bool{}, calls: map[CallKey]bool{}}
		e.conns[ev.Conn] = c
		c.deadline = now.Add(silentConn)
		e.timers.add(c.deadline, timerKey{conn: ev.Conn})
	}
	c.ConnUp = ev
}

func (e *Engine) connDown(ev ConnDown) {
	c := e.conns[ev.Conn]
	if c == nil {
		return
	}
	delete(e.conns, ev.Conn)
	for call := range c.calls {
		e.note(e.byCall[call], Reason(ev.Reason), ev.Text, false)
	}
	e.emit(DropTunnels{Conn: ev.Conn})
}

func (e *Engine) tunnelUp(ev TunnelUp) {
	if c := e.conns[ev.Conn]; c != nil {
		c.tunnels[ev.Tunnel] = true
		c.hadOne = true
		c.deadline = time.Time{}
	}
}

func (e *Engine) tunnelDown(now time.Time, ev TunnelDown) {
	c := e.conns[ev.Conn]
	if c == nil || !c.tunnels[ev.Tunnel] {
		return // it never came up
	}
	delete(c.tunnels, ev.Tunnel)
	if len(c.tunnels) == 0 {
		c.deadline = now.Add(e.cfg.DestructTimeout)
		e.timers.add(c.deadline, timerKey{conn: ev.Conn})
	}
}

func (e *Engine) expire(now time.Time) {
	for {
		k, ok := e.timers.due(now)
		if !ok {
			return
		}
		if k.conn != 0 {
			e.connExpired(now, k.conn)
			continue
		}
		s := e.byID[k.session]
		if s == nil || s.linkDone {
			continue
		}
		s.queued = time.Time{}
		if s.deadline.IsZero() || now.Before(s.deadline) {
			e.arm(s) // the deadline has moved since
			continue
		}
		e.run(now, s, pppd.Timer{})
	}
}

func (e *Engine) connExpired(now time.Time, id uint32) {
	c := e.conns[id]
	if c == nil || len(c.tunnels) > 0 || c.deadline.IsZero() || now.Before(c.deadline) {
		return
	}
	if !c.hadOne && !c.warned {
		c.warned = true
		c.deadline = now.Add(e.cfg.DestructTimeout)
		e.timers.add(c.deadline, timerKey{conn: id})
		e.emit(Report{Warn: true, Reason: ReasonNoTunnel, Conn: id, Remote: c.Remote,
			Text: "IPsec is up but no L2TP arrived through it: ESP or UDP 4500 is blocked on the way, or the client's L2TP is not running"})
		return
	}
	reason, text := ReasonTunnelGone, "no L2TP tunnel left on this IPsec connection"
	if !c.hadOne {
		reason, text = ReasonNoTunnel, "no L2TP ever arrived through this IPsec connection"
	}
	c.deadline = time.Time{}
	e.emit(CloseConn{Conn: id, Reason: reason, Text: text})
}

// Records returns all sessions that have not ended, by ID.
func (e *Engine) Records() []Record {
	out := make([]Record, 0, len(e.byID))
	for _, s := range e.byID {
		out = append(out, s.Record)
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Len returns the number of sessions that have not ended.
func (e *Engine) Len() int { return len(e.byID) }

// Counters returns how often each reason ended a session since the start.
func (e *Engine) Counters() map[Reason]uint64 {
	out := make(map[Reason]uint64, len(e.counts))
	for k, v := range e.counts {
		out[k] = v
	}
	return out
}
