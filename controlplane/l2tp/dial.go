package l2tp

import (
	"encoding/binary"
	"io"
	"net/netip"
	"time"
)

// challengeLen is the size of our challenges, in bytes.
const challengeLen = 16

// supportedFraming is the value of our Framing Capabilities: asynchronous and synchronous (section 4.4.3).
const supportedFraming = 3

// dial opens a tunnel as LAC. Its call is placed when the tunnel is up.
func (e *Engine) dial(now time.Time, ev Dial) {
	t := &tunnel{
		Conn: ev.Conn, Initiated: true, Ref: ev.Ref, CallingNumber: ev.CallingNumber, Secret: ev.Secret, LocalHost: ev.HostName,
		Local: unmap(ev.Local), Remote: unmap(ev.Remote), Params: e.cfg.params(), heapIndex: -1,
	}
	if t.LocalHost == "" {
		t.LocalHost = e.cfg.HostName
	}
	reason := Reason("")
	if e.cfg.MaxTunnels > 0 && e.live >= e.cfg.MaxTunnels {
		reason = ReasonTunnelLimit
	}
	var secret [8 + challengeLen]byte
	if reason == "" {
		t.ID, reason = e.freeTunnelID()
	}
	if reason == "" {
		if _, err := io.ReadFull(e.random, secret[:]); err != nil {
			reason = ReasonRandom
		}
	}
	if reason != "" {
		e.count(reason)
		t.Reason, t.Ended = reason, now
		e.emit(TunnelDown{Tunnel: t.info(), Reason: reason, Text: "tunnel not opened"})
		return
	}
	t.TieBreaker = binary.BigEndian.Uint64(secret[:])
	if len(t.Secret) > 0 {
		t.Challenge = append([]byte(nil), secret[8:]...)
	}
	e.adopt(now, t, e.cfg.ReceiveWindow)
	e.dialing[t.dialKey()] = t.ID
}

// adopt enters a new tunnel into the engine and asks for its socket. Nothing is sent before that is open.
func (e *Engine) adopt(now time.Time, t *tunnel, window uint16) {
	t.Channel = newChannel(window, e.cfg.RetransmitBase, e.cfg.RetransmitCap)
	t.enter(now, phaseSocket)
	t.LastControl = now
	t.SetupBy = now.Add(t.Params.Setup)
	e.live++
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
		u16(attrTunnelID, uint16(t.ID)).u16(attrReceiveWindow, t.Channel.Window).
		str(attrVendorName, cfg.VendorName).bytes(attrTieBreaker, binary.BigEndian.AppendUint64(nil, t.TieBreaker))
	if t.Challenge != nil {
		w.bytes(attrChallenge, t.Challenge)
	}
	return w.b
}

// replied takes SCCRP: SCCCN and, right behind it, the call.
func (e *Engine) replied(now time.Time, t *tunnel, m *message) {
	delete(e.dialing, t.dialKey())
	w := t.checkResponse(msgSCCRP, m)
	switch {
	case m.tunnel == 0:
		w = &wireError{StopError, ErrorRange, ReasonMalformed, "assigned tunnel id 0"}
	case m.version>>8 != protocolVersion>>8:
		w = &wireError{StopProtocolVersion, protocolVersion, ReasonVersion, "unknown protocol version"}
	case m.challenge != nil && len(t.Secret) == 0:
		w = &wireError{StopNotAuthorized, 0, ReasonAuthentication, "challenged without a tunnel password"}
	}
	t.Peer = m.tunnel
	t.takePeer(m)
	if w != nil {
		e.refuseTunnel(now, t, w)
		return
	}
	answer := build(msgSCCCN)
	if m.challenge != nil {
		answer.bytes(attrChallengeResponse, challengeResponse(msgSCCCN, t.Secret, m.challenge))
	}
	t.Channel.queue(0, answer.b)
	e.up(now, t)
	s, reason := e.newSession(now, t)
	if s == nil {
		e.end(now, t, ending{reason: reason, text: "no session id", stop: stopSend, result: StopClear})
		return
	}
	e.serial++
	s.Ref, s.Serial, s.Calling = t.Ref, e.serial, t.CallingNumber
	t.Call = s.ID
	call := build(msgICRQ).u16(attrSessionID, uint16(s.ID)).u32(attrCallSerial, s.Serial)
	if s.Calling != "" {
		call.str(attrCallingNumber, s.Calling)
	}
	t.Channel.queue(0, call.b)
}

// Speeds and framing that we state as LAC. There is no line; 1 Gbit/s is the least that no peer shapes to by mistake.
const (
	dialSpeed   = 1_000_000_000
	dialFraming = 1 // synchronous
)

// callReplied takes ICRP: ICCN. The session is up when that is acknowledged.
func (e *Engine) callReplied(now time.Time, t *tunnel, s *session, m *message) {
	if m.session == 0 {
		e.refuseCall(now, t, s.ID, m, &wireError{CallError, ErrorRange, ReasonMalformed, "ICRP with session id 0"})
		return
	}
	s.Peer = m.session
	t.PeerSessions[s.Peer] = s.ID
	s.TxSpeed, s.RxSpeed = dialSpeed, dialSpeed
	s.AckNs, s.AwaitsConfirm = t.Channel.Ns, true
	t.Channel.queue(s.Peer, build(msgICCN).u32(attrTxSpeed, dialSpeed).u32(attrFramingType, dialFraming).b)
}

// callAcknowledged brings up the dialled call whose ICCN has been acknowledged.
func (e *Engine) callAcknowledged(now time.Time, t *tunnel) {
	if !t.Initiated || t.over() {
		return
	}
	s := t.Sessions[t.Call]
	if s == nil || !s.AwaitsConfirm || t.Channel.oldest()-s.AckNs-1 >= 0x8000 {
		return
	}
	s.AwaitsConfirm = false
	e.sessionUp(now, t, s)
}

// takePeer keeps what SCCRQ or SCCRP says about the peer.
func (t *tunnel) takePeer(m *message) {
	t.PeerHost, t.PeerVendor, t.PeerFirmware = m.hostName, m.vendorName, m.firmware
	n := uint16(4) // absent means 4 (section 4.4.3)
	if m.present.has(attrReceiveWindow) {
		n = m.window
	}
	t.Channel.setPeerWindow(n)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
