package l2tp

import (
	"fmt"
	"time"
)

// session is one call. Incoming calls only: an LNS has them placed by the LAC, a LAC (Dial) places them
// (RFC 2661 section 7.4).
type session struct {
	ID, Peer      SessionID
	State         State
	Ref           uint64
	Serial        uint32
	Info          CallInfo
	Proxy         *Proxy `json:"-"` // Snapshot writes it on its own
	Sequenced     bool
	Admin         Admin
	Since         time.Time
	UpAt          time.Time // established; zero: never
	Deadline      time.Time // of its set-up
	DataNs        uint16    // next data sequence number
	AckNs         uint16    // of Dial: sequence number of our ICCN
	Payload       Traffic   // data that went through the process
	AwaitsConfirm bool      // of Dial: ICCN sent, not yet acknowledged
	Hold          bool      // of Dial: ICCN waits for ConnectCall
	Ready         bool      // of Dial: CallReady was emitted
}

func (s *session) info(t *tunnel) SessionInfo {
	info := SessionInfo{
		Tunnel: t.ID, ID: s.ID, Peer: s.Peer, PeerTunnel: t.Peer, Conn: t.Conn, Local: t.Local, Remote: t.Remote, State: s.State,
		Ref: s.Ref, Profile: t.Profile, HostProfile: t.HostProfile, PeerHost: t.PeerHost, LocalHost: t.LocalHost, CallSerial: s.Serial,
		CallingNumber: s.Info.CallingNumber, CalledNumber: s.Info.CalledNumber, TxSpeed: s.Info.TxSpeed, RxSpeed: s.Info.RxSpeed,
		SequencingRequired: s.Sequenced, ProxyLCP: s.Proxy.hasLCP(), ProxyAuth: s.Proxy.hasAuth(), Since: s.Since, Info: s.Info, Proxy: s.Proxy,
		Incoming: !t.Initiated, SingleShot: t.SingleShot, Admin: s.Admin, EffectiveAdmin: max(s.Admin, t.Admin), Established: s.UpAt,
		Payload: s.Payload,
	}
	if s.Proxy != nil {
		info.ProxyType = s.Proxy.AuthType
	}
	return info
}

// callMessage handles a well-formed control message that concerns one session.
func (e *Engine) callMessage(now time.Time, t *tunnel, id SessionID, m *message) {
	if t.Phase != phaseEstablished {
		e.refuseTunnel(now, t, &wireError{StopStateMachine, 0, ReasonProtocol, fmt.Sprintf("%s before the tunnel is up", m.kind)})
		return
	}
	if m.kind == msgOCRQ {
		// Nobody behind us can be called: outgoing calls are for LACs with modems.
		e.count(ReasonOutgoingCall)
		e.disconnect(t, 0, m.session, CallNeverFacilities, 0, "no outgoing calls", nil)
		return
	}
	if m.kind == msgICRQ {
		e.incomingCall(now, t, m)
		return
	}
	s := t.Sessions[id]
	if s == nil { // it has just ended here, and the CDN is on its way
		e.count(ReasonUnknownSession)
		return
	}
	from := fromLAC
	if t.Initiated {
		from = fromLNS
	}
	switch {
	case messageRules[m.kind].from&from == 0:
		e.refuseCall(now, t, id, m, unexpected(m))
	case m.kind == msgWEN || m.kind == msgSLI:
		// Line errors and asynchronous control characters of a modem: nothing for us.
	case m.kind == msgICCN && s.State == StateConnecting:
		e.callConnected(now, t, s, m)
	case m.kind == msgICRP && s.State == StateConnecting && !s.AwaitsConfirm && !s.Ready:
		e.callReplied(now, t, s, m)
	default:
		e.refuseCall(now, t, id, m, unexpected(m))
	}
}

func unexpected(m *message) *wireError {
	return &wireError{CallError, ErrorVendor, ReasonProtocol, fmt.Sprintf("%s not expected", m.kind)}
}

// incomingCall takes ICRQ: is a call wanted at all, then the limits (G11), then a session and ICRP.
func (e *Engine) incomingCall(now time.Time, t *tunnel, m *message) {
	refuse := func(result, code uint16, reason Reason, text string) {
		e.count(reason)
		e.report(t, LevelInfo, reason, text, 0)
		e.disconnect(t, 0, m.session, result, code, text, nil)
		e.callFailed(now, t, reason, text)
	}
	if t.Initiated { // we are the LAC here: only we place calls
		refuse(CallError, ErrorVendor, ReasonProtocol, "ICRQ not expected")
		return
	}
	if m.session == 0 {
		// There is no session id to address a refusal to.
		e.refuseTunnel(now, t, &wireError{StopError, ErrorRange, ReasonMalformed, "ICRQ with session id 0"})
		return
	}
	if old, used := t.PeerSessions[m.session]; used {
		// The peer has forgotten its first call; a CDN for that id ends both in its eyes, so it must here.
		s := t.Sessions[old]
		e.dropSession(now, t, s, SessionDown{Reason: ReasonDuplicateCall, Text: "the peer uses its session id again"})
		e.idleClock(now, t)
		refuse(CallError, ErrorRange, ReasonDuplicateCall, "session id in use")
		return
	}
	for _, w := range [...]*wireError{t.usedUp(), e.callBarred(t)} {
		if w != nil {
			refuse(w.result, w.err, w.reason, w.text)
			return
		}
	}
	if reason := e.sessionLimit(t); reason != "" {
		refuse(CallNoFacilities, ErrorResources, reason, "no more sessions")
		return
	}
	s, reason := e.newSession(now, t)
	if s == nil {
		refuse(CallNoFacilities, ErrorResources, reason, "no session id")
		return
	}
	s.Peer, s.Serial = m.session, m.serial
	s.takeRequest(m)
	t.PeerSessions[s.Peer] = s.ID
	e.queue(t, s.Peer, build(msgICRP).u16(attrSessionID, uint16(s.ID)).b)
}

// sessionLimit checks the limits in the order of G11: destination profile, host profile, then the whole engine's.
func (e *Engine) sessionLimit(t *tunnel) Reason {
	over := func(k profileKey) bool {
		limit := e.dir.known[k].limit
		return limit > 0 && e.counts[k] >= limit
	}
	switch {
	case over(profileKey{t.Profile, ""}):
		return ReasonProfileLimit
	case over(profileKey{t.Profile, t.HostProfile}):
		return ReasonHostLimit
	case e.cfg.MaxSessions > 0 && e.sessions >= e.cfg.MaxSessions:
		return ReasonSessionLimit
	}
	return ""
}

// newSession makes a session with a free, unpredictable id.
func (e *Engine) newSession(now time.Time, t *tunnel) (*session, Reason) {
	id, reason := e.freeSessionID(t)
	if reason != "" {
		return nil, reason
	}
	s := &session{ID: id, State: StateConnecting, Since: now, Deadline: now.Add(t.Params.Setup)}
	if t.Sessions == nil {
		t.Sessions = make(map[SessionID]*session, 1)
		t.PeerSessions = make(map[SessionID]SessionID, 1)
	}
	t.Sessions[id] = s
	t.SessionsTotal++
	t.IdleAt = time.Time{}
	if t.Phase == phaseEstablished { // the first call of a single-shot tunnel; calls of ours may wait for their tunnel
		t.SetupBy = time.Time{}
	}
	if len(t.Opening) > 2*len(t.Sessions)+16 { // mostly calls that ended early
		e.pruneOpening(t)
	}
	t.Opening = append(t.Opening, id)
	e.countSession(t)
	return s, ""
}

// countSession counts a new session towards the limits of G11.
func (e *Engine) countSession(t *tunnel) {
	e.sessions++
	if !t.Initiated {
		e.counts[profileKey{t.Profile, ""}]++
		e.counts[profileKey{t.Profile, t.HostProfile}]++
	}
}

func (e *Engine) freeSessionID(t *tunnel) (SessionID, Reason) {
	if len(t.Sessions) >= 1<<16-1 {
		return 0, ReasonNoIDs
	}
	for {
		n, ok := e.random16()
		if !ok {
			return 0, ReasonRandom
		}
		id := SessionID(n)
		for range 32 {
			if _, used := t.Sessions[id]; id != 0 && !used {
				return id, ""
			}
			id++
		}
	}
}

// callConnected takes ICCN: PPP may start.
func (e *Engine) callConnected(now time.Time, t *tunnel, s *session, m *message) {
	e.takeConnected(t, s, m)
	e.sessionUp(now, t, s)
}

func (e *Engine) sessionUp(now time.Time, t *tunnel, s *session) {
	s.State, s.Since, s.UpAt, s.Deadline = StateEstablished, now, now, time.Time{}
	e.emit(SessionUp{Session: e.sessionInfo(t, s)})
}

// peerDisconnects takes CDN. Before the peer knows our session id it names the session by its own.
func (e *Engine) peerDisconnects(now time.Time, t *tunnel, id SessionID, m *message) {
	s := t.Sessions[id]
	if s == nil && id == 0 && m.session != 0 {
		if ours, ok := t.PeerSessions[m.session]; ok {
			s = t.Sessions[ours]
		}
	}
	if s == nil {
		return // both ends hung up at once
	}
	e.dropSession(now, t, s, SessionDown{
		Reason: ReasonPeerCall, Text: describe("CDN", m), ByPeer: true, Result: m.result, Error: m.err, Cause: m.cause,
	})
	e.callOver(now, t, ending{reason: ReasonPeerCall, text: describe("CDN", m), byPeer: true})
}

// refuseCall ends one session, or refuses one that is not there yet, with the CDN that a failure calls for.
func (e *Engine) refuseCall(now time.Time, t *tunnel, id SessionID, m *message, w *wireError) {
	e.count(w.reason)
	e.report(t, LevelInfo, w.reason, w.text, id)
	s := t.Sessions[id]
	if s == nil {
		if (m.kind == msgICRQ || m.kind == msgOCRQ) && m.session != 0 {
			e.disconnect(t, 0, m.session, CallError, w.err, w.text, nil)
		}
		if m.kind == msgICRQ {
			e.callFailed(now, t, w.reason, w.text)
		}
		return
	}
	e.disconnect(t, s.ID, s.Peer, CallError, w.err, w.text, nil)
	e.dropSession(now, t, s, SessionDown{Reason: w.reason, Text: w.text, Result: CallError, Error: w.err})
	e.callOver(now, t, ending{reason: w.reason, text: w.text})
}

// disconnect queues a CDN. ours is 0 for a call that never got an id: then a random one is named, because peers take 0
// for a malformed AVP.
func (e *Engine) disconnect(t *tunnel, ours, peers SessionID, result, code uint16, text string, cause *DisconnectCause) {
	if ours == 0 {
		ours = 1
		if id, reason := e.freeSessionID(t); reason == "" {
			ours = id
		}
	}
	if t.ResourceError && (result == CallNoFacilities || result == CallNeverFacilities) {
		result, code = CallError, ErrorResources
	}
	w := build(msgCDN).result(result, code, text).u16(attrSessionID, uint16(ours))
	if cause != nil && t.Params.DisconnectCause {
		w.cause(*cause)
	}
	e.queue(t, peers, w.b)
}

// closeSession ends a session on our own account.
func (e *Engine) closeSession(now time.Time, ev CloseSession) {
	t := e.tunnels[ev.Tunnel]
	if t == nil || t.over() {
		return
	}
	s := t.Sessions[ev.Session]
	if s == nil {
		return
	}
	if ev.Result == 0 {
		ev.Result = CallAdministrative
	}
	if ev.Reason == "" {
		ev.Reason = ReasonAdministrative
	}
	if s.placed(t) {
		e.disconnect(t, s.ID, s.Peer, ev.Result, ev.Error, ev.Message, ev.Cause)
	}
	e.dropSession(now, t, s, SessionDown{Reason: ev.Reason, Text: ev.Message, Result: ev.Result, Error: ev.Error})
	e.callOver(now, t, ending{reason: ev.Reason, text: ev.Message})
	e.settle(now, t)
}

// dropSession forgets a session but for its record and, if it was up, says so.
func (e *Engine) dropSession(now time.Time, t *tunnel, s *session, down SessionDown) {
	delete(t.Sessions, s.ID)
	if t.PeerSessions[s.Peer] == s.ID {
		delete(t.PeerSessions, s.Peer)
	}
	e.sessions--
	if !t.Initiated {
		e.uncount(profileKey{t.Profile, ""})
		e.uncount(profileKey{t.Profile, t.HostProfile})
	}
	if s.UpAt.IsZero() {
		t.SessionsFailed++
	}
	e.keepSession(now, t, s, &down)
	if s.State == StateEstablished {
		s.State = StateDisconnecting
		down.Session = e.sessionInfo(t, s)
		e.emit(down)
	} else {
		e.dialFailed(t, s, down.Reason, down.Text)
	}
	e.hasRoom(t)
}

func (e *Engine) uncount(k profileKey) {
	if e.counts[k]--; e.counts[k] <= 0 {
		delete(e.counts, k)
	}
}

// callOver starts the idle clock when the last session is gone. A single-shot tunnel ends with its one session, or with the
// first that it could not have (H2, H5), and a tunnel of ours that is not shared with its one call.
func (e *Engine) callOver(now time.Time, t *tunnel, why ending) {
	if len(t.Sessions) > 0 || t.over() {
		return
	}
	if !t.SingleShot && (!t.Initiated || t.Shared) {
		e.idleClock(now, t)
		return
	}
	why.stop, why.result = stopSend, StopClear
	e.end(now, t, why)
}

// oldestCall is the call whose set-up runs out first.
func (t *tunnel) oldestCall() *session {
	for len(t.Opening) > 0 {
		if s := t.Sessions[t.Opening[0]]; s != nil && s.State == StateConnecting {
			return s
		}
		if t.Opening = t.Opening[1:]; len(t.Opening) == 0 {
			t.Opening = nil
		}
	}
	return nil
}

// pruneOpening drops calls that are no longer being set up from the list.
func (e *Engine) pruneOpening(t *tunnel) {
	kept := t.Opening[:0]
	for _, id := range t.Opening {
		if s := t.Sessions[id]; s != nil && s.State == StateConnecting {
			kept = append(kept, id)
		}
	}
	t.Opening = kept
}

// callTimeouts ends the calls whose set-up took too long.
func (e *Engine) callTimeouts(now time.Time, t *tunnel) {
	for {
		s := t.oldestCall()
		if s == nil || s.Deadline.After(now) {
			return
		}
		w := &wireError{CallTimedOut, 0, ReasonSetupTimeout, "call not connected in time"}
		e.count(w.reason)
		e.report(t, LevelInfo, w.reason, w.text, s.ID)
		if s.placed(t) {
			e.disconnect(t, s.ID, s.Peer, w.result, w.err, w.text, nil)
		}
		e.dropSession(now, t, s, SessionDown{Reason: w.reason, Text: w.text, Result: w.result})
		e.callOver(now, t, ending{reason: w.reason, text: w.text})
		if t.over() {
			return
		}
	}
}

// frame takes a data packet that the kernel handed up (kernel.md section 1.2).
func (e *Engine) frame(now time.Time, t *tunnel, id SessionID, payload []byte, octets int) {
	t.Payload.received(octets)
	s := t.Sessions[id]
	if s == nil {
		e.count(ReasonUnknownSession)
		t.Payload.RxDiscards++
		return
	}
	s.Payload.received(octets)
	if s.AwaitsConfirm {
		// The LNS has our ICCN, or it would send nothing: data overtook the acknowledgement. What it says first may be all
		// that it ever says, such as the verdict on an authentication that we have handed on.
		e.callUp(now, t, s)
		e.schedule(t)
	}
	if s.State != StateEstablished {
		e.count(ReasonEarlyFrame) // LCP overtook ICCN; it is repeated
		t.Payload.RxDiscards++
		s.Payload.RxDiscards++
		return
	}
	ppp, ok := pppFrame(payload)
	if !ok {
		e.count(ReasonBadFrame)
		t.Payload.RxErrors++
		s.Payload.RxErrors++
		return
	}
	e.emit(FrameReceived{Tunnel: t.ID, Session: id, Frame: ppp})
}

// sendFrame sends a PPP frame for a session that is up.
func (e *Engine) sendFrame(ev SendFrame) {
	t := e.tunnels[ev.Tunnel]
	if t == nil || t.over() {
		e.count(ReasonUnknownTunnel)
		return
	}
	s := t.Sessions[ev.Session]
	if s == nil || s.State != StateEstablished {
		e.count(ReasonUnknownSession)
		return
	}
	data := appendData(make([]byte, 0, 12+len(ev.Frame)), t.Peer, s.Peer, s.Sequenced, s.DataNs, ev.Frame)
	if s.Sequenced {
		s.DataNs++
	}
	t.Payload.sent(len(data))
	s.Payload.sent(len(data))
	e.emit(Send{Tunnel: t.ID, Data: data})
}
