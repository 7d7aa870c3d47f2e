package l2tp

import (
	"cmp"
	"encoding/binary"
	"io"
	"net/netip"
	"time"
)

// challengeLen is the size of our challenges, in bytes.
const challengeLen = 16

// supportedFraming is the value of our Framing Capabilities: asynchronous and synchronous (section 4.4.3).
const supportedFraming = 3

// dial places a call as LAC: in a tunnel of its own, or in one that it shares with others.
func (e *Engine) dial(now time.Time, ev Dial) {
	ev.Local, ev.Remote = unmap(ev.Local), unmap(ev.Remote)
	ev.HostName = cmp.Or(ev.HostName, e.cfg.HostName)
	ev.HideAVPs = ev.HideAVPs && len(ev.Secret) > 0
	var t *tunnel
	if ev.Share {
		if e.cfg.MaxSessions > 0 && e.sessions >= e.cfg.MaxSessions {
			e.count(ReasonSessionLimit)
			e.emit(DialFailed{Ref: ev.Ref, Reason: ReasonSessionLimit, Text: "no more sessions"})
			return
		}
		t = e.sharedTunnel(&ev)
	}
	var reason Reason
	opened := t == nil
	if opened {
		t, reason = e.newDialled(&ev)
	} else if w := e.tunnelBarred(ev.Remote.Addr()); w != nil {
		reason = w.reason
	} else if e.waiting(t) {
		reason = ReasonCallQueue
	}
	var s *session
	if reason == "" {
		s, reason = e.newCall(now, t, &ev)
	}
	switch {
	case reason != "" && ev.Share:
		e.count(reason)
		e.emit(DialFailed{Ref: ev.Ref, Reason: reason, Text: "call not placed"})
		return
	case reason != "":
		e.count(reason)
		t.Reason, t.Ended = reason, now
		e.emit(TunnelDown{Tunnel: t.info(), Reason: reason, Text: "tunnel not opened"})
		return
	case opened:
		e.adopt(now, t, e.cfg.ReceiveWindow)
		if t.Shared {
			e.hasRoom(t)
		} else {
			e.dialing[t.dialKey()] = t.ID
		}
	}
	if t.Shared {
		e.calls[s.Ref] = callKey{t.ID, s.ID}
		if ev.MaxSessions > 0 && len(t.Sessions) >= ev.MaxSessions || len(t.Sessions) >= maxCalls {
			e.noRoom(t)
		}
	}
	if s.placed(t) {
		e.queue(t, 0, s.request())
	}
	e.settle(now, t)
}

// newDialled makes a tunnel for a call. It is not yet entered anywhere. With a reason it is only good to be reported.
func (e *Engine) newDialled(ev *Dial) (*tunnel, Reason) {
	t := &tunnel{
		Conn: ev.Conn, Initiated: true, Ref: ev.Ref, Secret: ev.Secret, LocalHost: ev.HostName, Local: ev.Local, Remote: ev.Remote,
		Shared: ev.Share, Assignment: ev.Assignment, WantHost: ev.PeerHost, Tolerant: e.cfg.TolerateUnknownAVP,
		Params: e.cfg.params(), heapIndex: -1,
	}
	if w := e.tunnelBarred(t.Remote.Addr()); w != nil {
		return t, w.reason
	}
	if e.cfg.MaxTunnels > 0 && e.live >= e.cfg.MaxTunnels {
		return t, ReasonTunnelLimit
	}
	var reason Reason
	if t.ID, reason = e.freeTunnelID(); reason != "" {
		return t, reason
	}
	var secret [8 + challengeLen]byte
	if _, err := io.ReadFull(e.random, secret[:]); err != nil || ev.HideAVPs && !e.hideFrom(t) {
		return t, ReasonRandom
	}
	t.TieBreaker = binary.BigEndian.Uint64(secret[:])
	if len(t.Secret) > 0 {
		t.Challenge = append([]byte(nil), secret[8:]...)
	}
	return t, ""
}

// newCall makes the session of a call. It is placed when the tunnel is up.
func (e *Engine) newCall(now time.Time, t *tunnel, ev *Dial) (*session, Reason) {
	s, reason := e.newSession(now, t)
	if s == nil {
		return nil, reason
	}
	e.serial++
	s.Ref, s.Serial, s.Info, s.Proxy, s.Hold = ev.Ref, e.serial, ev.Info, ev.Proxy.clone(), ev.Hold
	s.Info.CallingNumber = cmp.Or(s.Info.CallingNumber, ev.CallingNumber)
	s.Info.TxSpeed = cmp.Or(s.Info.TxSpeed, dialSpeed)
	s.Info.RxSpeed = cmp.Or(s.Info.RxSpeed, s.Info.TxSpeed)
	s.Info.FramingType = cmp.Or(s.Info.FramingType, dialFraming)
	if ev.Timeout > 0 && ev.Timeout < t.Params.Setup {
		s.Deadline = now.Add(ev.Timeout)
		i := len(t.Opening) - 1 // the list is in the order of deadlines
		for ; i > 0; i-- {
			if c := t.Sessions[t.Opening[i-1]]; c != nil && !c.Deadline.After(s.Deadline) {
				break
			}
			t.Opening[i] = t.Opening[i-1]
		}
		t.Opening[i] = s.ID
	}
	return s, ""
}

// placed tells whether the peer has been asked to take a call, or will have been by the messages that are queued. One of ours waits for its tunnel.
func (s *session) placed(t *tunnel) bool { return t.Phase == phaseEstablished }

// adopt enters a new tunnel into the engine and asks for its socket. Nothing is sent before that is open.
func (e *Engine) adopt(now time.Time, t *tunnel, window uint16) {
	t.Channel = newChannel(window, e.cfg.RetransmitBase, e.cfg.RetransmitCap)
	t.enter(now, phaseSocket)
	t.LastControl = now
	t.SetupBy = now.Add(t.Params.Setup)
	e.live++
	e.join(t)
	e.countTunnel(t)
	e.place(t)
	e.schedule(t)
}

// place enters a tunnel under its id.
func (e *Engine) place(t *tunnel) {
	e.tunnels[t.ID] = t
	if t.Conn != 0 {
		e.byConn[t.Conn] = append(e.byConn[t.Conn], t.ID)
	}
	e.emit(OpenSocket{Tunnel: t.ID, Local: t.Local, Remote: t.Remote, Conn: t.Conn})
}

// sccrq is the message that opens a tunnel of ours.
func (t *tunnel) sccrq(cfg *Config) []byte {
	w := build(msgSCCRQ).u16(attrProtocolVersion, protocolVersion).str(attrHostName, t.LocalHost).
		u32(attrFramingCapabilities, supportedFraming).u32(attrBearerCapabilities, 0).
		u16(attrTunnelID, uint16(t.ID)).u16(attrReceiveWindow, t.Channel.Window).str(attrVendorName, cfg.VendorName)
	if !t.Shared {
		// Who sends one wants a single tunnel between the two (section 4.4.3). Shared ones are beside those that the LNS
		// opens as our LAC.
		w.bytes(attrTieBreaker, binary.BigEndian.AppendUint64(nil, t.TieBreaker))
	}
	if t.Challenge != nil {
		w.bytes(attrChallenge, t.Challenge)
	}
	return w.b
}

// replied takes SCCRP: SCCCN and, right behind it, the calls that wait.
func (e *Engine) replied(now time.Time, t *tunnel, m *message) {
	if k := t.dialKey(); e.dialing[k] == t.ID {
		delete(e.dialing, k)
	}
	w := t.checkResponse(msgSCCRP, m)
	switch {
	case m.tunnel == 0:
		w = &wireError{StopError, ErrorRange, ReasonMalformed, "assigned tunnel id 0"}
	case m.version>>8 != protocolVersion>>8:
		w = &wireError{StopProtocolVersion, protocolVersion, ReasonVersion, "unknown protocol version"}
	case m.challenge != nil && len(t.Secret) == 0:
		w = &wireError{StopNotAuthorized, 0, ReasonAuthentication, "challenged without a tunnel password"}
	case w == nil && t.WantHost != "" && m.hostName != text([]byte(t.WantHost)):
		w = &wireError{StopNotAuthorized, 0, ReasonPeerHost, "the LNS calls itself " + m.hostName}
	}
	t.takePeer(m)
	if w != nil {
		e.refuseTunnel(now, t, w)
		return
	}
	answer := build(msgSCCCN)
	if m.challenge != nil {
		answer.bytes(attrChallengeResponse, challengeResponse(msgSCCCN, t.Secret, m.challenge))
	}
	e.queue(t, 0, answer.b)
	e.up(now, t)
	for _, id := range t.Opening {
		if s := t.Sessions[id]; s != nil && s.State == StateConnecting {
			e.queue(t, 0, s.request())
		}
	}
}

// Speeds and framing that we state as LAC when Dial does not. There is no line; 1 Gbit/s is the least that no peer shapes to by mistake.
const (
	dialSpeed   = 1_000_000_000
	dialFraming = 1 // synchronous
)

// callReplied takes ICRP: ICCN. The session is up when that is acknowledged, or when data comes.
func (e *Engine) callReplied(now time.Time, t *tunnel, s *session, m *message) {
	if m.session == 0 {
		e.refuseCall(now, t, s.ID, m, &wireError{CallError, ErrorRange, ReasonMalformed, "ICRP with session id 0"})
		return
	}
	if old, used := t.PeerSessions[m.session]; used {
		// The LNS has mixed up two calls; a CDN for that id ends whichever it thinks of, so both must end here.
		e.dropSession(now, t, t.Sessions[old], SessionDown{Reason: ReasonDuplicateCall, Text: "the peer uses its session id again"})
		s.Peer = m.session
		e.refuseCall(now, t, s.ID, m, &wireError{CallError, ErrorRange, ReasonDuplicateCall, "session id in use"})
		return
	}
	s.Peer = m.session
	t.PeerSessions[s.Peer] = s.ID
	if s.Hold {
		s.Hold, s.Ready = false, true
		e.emit(CallReady{Session: e.sessionInfo(t, s)})
		return
	}
	e.connectCall(t, s)
}

// connectHeld goes on with a call that was dialled with Hold.
func (e *Engine) connectHeld(now time.Time, ev ConnectCall) {
	t := e.tunnels[ev.Tunnel]
	if t == nil || t.over() {
		return
	}
	if s := t.Sessions[ev.Session]; s != nil && s.State == StateConnecting && s.Ready && !s.AwaitsConfirm {
		e.connectCall(t, s)
		e.settle(now, t)
	}
}

// connectCall sends ICCN.
func (e *Engine) connectCall(t *tunnel, s *session) {
	s.AckNs, s.AwaitsConfirm = t.Channel.Ns, true
	t.Confirming = append(t.Confirming, s.ID)
	e.queue(t, s.Peer, s.connect())
	s.Proxy = nil // it has said its piece, and may hold a password
}

// callsAcknowledged brings up the calls of ours whose ICCN has been acknowledged.
func (e *Engine) callsAcknowledged(now time.Time, t *tunnel) {
	for len(t.Confirming) > 0 && !t.over() {
		s := t.Sessions[t.Confirming[0]]
		waits := s != nil && s.AwaitsConfirm
		if waits && t.Channel.oldest()-s.AckNs-1 >= 0x8000 {
			return
		}
		if t.Confirming = t.Confirming[1:]; len(t.Confirming) == 0 {
			t.Confirming = nil
		}
		if waits {
			e.callUp(now, t, s)
		}
	}
}

// callUp brings up a call of ours.
func (e *Engine) callUp(now time.Time, t *tunnel, s *session) {
	s.AwaitsConfirm = false
	e.forgetCall(t, s)
	e.sessionUp(now, t, s)
}

// takePeer keeps what SCCRQ or SCCRP says about the peer.
func (t *tunnel) takePeer(m *message) {
	t.PeerHost, t.PeerVendor, t.PeerFirmware = m.hostName, m.vendorName, m.firmware
	t.PeerVersion, t.PeerBearer, t.PeerFraming = m.version, m.bearer, m.framing
	n := uint16(4) // absent means 4 (section 4.4.3)
	if m.present.has(attrReceiveWindow) {
		n = m.window
	}
	t.Channel.setPeerWindow(n)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
