package l2tp

import (
	"fmt"
	"io"
	"time"
)

// protocolVersion is version 1, revision 0 of RFC 2661 section 4.4.3.
const protocolVersion = 0x0100

// packet finds the tunnel that a datagram belongs to. The socket it came through says little: control messages for one
// tunnel may arrive at the listener, when the kernel's steering rules are lost, and a new SCCRQ at another's socket. What
// counts is the tunnel id in the header and the IPsec connection (K12).
func (e *Engine) packet(now time.Time, p Packet) {
	p.Remote, p.Local = unmap(p.Remote), unmap(p.Local)
	h, body, err := parseHeader(p.Data)
	if err != nil {
		e.count(ReasonBadHeader)
		return
	}
	if h.control && len(body) > maxControlMessage {
		e.count(ReasonTooLong)
		return
	}
	if h.tunnel == 0 {
		if !h.control {
			e.count(ReasonUnknownTunnel)
			return
		}
		e.opening(now, p, h, body)
		return
	}
	t := e.tunnels[h.tunnel]
	if p.Socket == 0 && h.tunnel >= TunnelIDMin {
		e.notSteered(now, t, p)
	}
	switch {
	case t == nil:
		e.count(ReasonUnknownTunnel)
	case t.Conn != p.Conn:
		e.count(ReasonForeignConn)
	case t.Remote != p.Remote:
		e.count(ReasonForeignAddress)
	case h.control:
		e.control(now, t, h, body)
	case t.over():
		e.count(ReasonUnknownSession)
	default:
		e.frame(now, t, h.session, body, len(p.Data))
	}
}

// notSteered notes a tunnel's packet at the listener: the kernel's steering rules are lost (kernel.md section 2.5). It is still served, but
// answers leave from the wrong port, so somebody must put the rules back: one Report a minute says so, when the packet is
// a real peer's.
func (e *Engine) notSteered(now time.Time, t *tunnel, p Packet) {
	e.count(ReasonNotSteered)
	if t == nil || t.Conn != p.Conn || t.Remote != p.Remote || !e.steeringAt.IsZero() && now.Sub(e.steeringAt) < time.Minute {
		return
	}
	e.steeringAt = now
	e.report(t, LevelWarn, ReasonNotSteered, "a tunnel's packet came to the 1701 listener: steering rules are missing", 0)
}

// opening takes a control packet for tunnel id 0: an SCCRQ, a repeated one, or a StopCCN of a peer that never learnt our
// id. The cheapest checks come first and nothing lasts unless all of them pass.
func (e *Engine) opening(now time.Time, p Packet, h header, body []byte) {
	kind, _, ok := peekType(body)
	if t := e.tunnels[e.zeroIDs[peerKey{p.Conn, p.Remote, 0}]]; t != nil && kind != msgSCCRQ {
		e.control(now, t, h, body)
		return
	}
	if ok && kind == msgStopCCN {
		e.openingStopped(now, p, h, body)
		return
	}
	if !ok || kind != msgSCCRQ || h.ns != 0 {
		e.count(ReasonUnknownTunnel)
		return
	}
	drop := func(reason Reason, text string) {
		e.count(reason)
		e.emit(Report{Level: e.levelOf(p.Conn != 0), Reason: reason, Text: text, Remote: p.Remote, Conn: p.Conn})
	}
	profile, ok := e.dir.destination(p.Remote.Addr())
	if !ok {
		drop(ReasonNoProfile, "no destination profile for this address")
		return
	}
	name, ok := peekHostName(body)
	if !ok {
		drop(ReasonMissingAVP, "SCCRQ without a host name")
		return
	}
	host, ok := e.dir.host(profile, name, p.Local.Addr())
	if !ok {
		drop(ReasonNoHostProfile, fmt.Sprintf("no host profile for %.64q", name))
		return
	}
	if host.RequireIPsec && p.Conn == 0 {
		drop(ReasonClearText, "SCCRQ in clear where IPsec is required")
		return
	}
	m, failed := decodeAVPs(body, host.Secret, host.TolerateUnknownAVP || e.cfg.TolerateUnknownAVP)
	e.tolerated(&m)
	switch {
	case m.tunnel == 0: // nobody to answer
		drop(ReasonMalformed, "SCCRQ without an assigned tunnel id, or with one that is hidden by another password")
		return
	case failed == nil && m.version>>8 != protocolVersion>>8:
		failed = &wireError{StopProtocolVersion, protocolVersion, ReasonVersion, fmt.Sprintf("protocol version %#04x", m.version)}
	case failed == nil && m.challenge != nil && len(host.Secret) == 0:
		failed = &wireError{StopNotAuthorized, 0, ReasonAuthentication, "challenged without a tunnel password"}
	}
	if id, again := e.byPeer[peerKey{p.Conn, p.Remote, m.tunnel}]; again && failed == nil {
		t := e.tunnels[id]
		switch {
		case t.SingleShot && t.Conn != 0 && t.lostByPeer(now):
			e.redialled(now, p, t, len(body))
			return
		case !e.restarted(now, t):
			e.repeated(now, t, len(body))
			return
		}
	}
	if taken := e.connTaken(p.Conn, &host); taken != nil {
		e.turnAway(now, p, &host, m.tunnel, taken, len(body))
		return
	}
	if failed == nil {
		failed = e.tunnelBarred(p.Remote.Addr())
	}
	if failed == nil && e.ownTunnel(p, m.tunnel) {
		failed = &wireError{StopNotAuthorized, 0, ReasonOwnTunnel, "both ends of the tunnel are here"}
	}
	if failed != nil {
		e.turnAway(now, p, &host, m.tunnel, failed, len(body))
		return
	}
	if reason := e.admit(p); reason != "" {
		if p.Conn != 0 && reason == ReasonTunnelLimit {
			e.turnAway(now, p, &host, m.tunnel, &wireError{StopError, ErrorResources, reason, "no more tunnels"}, len(body))
		} else {
			e.count(reason)
		}
		return
	}
	if !e.tieBroken(now, p, &m) {
		e.count(ReasonTieBreaker)
		return
	}
	e.accept(now, p, profile, host, &m, len(body))
}

// accept makes the tunnel of a new SCCRQ and queues SCCRP, which leaves when the socket is open.
func (e *Engine) accept(now time.Time, p Packet, profile int, host HostProfile, m *message, asked int) {
	t := &tunnel{
		Peer: m.tunnel, Conn: p.Conn, Local: p.Local, Remote: p.Remote, Profile: e.dir.profiles[profile].Name, HostProfile: host.Name,
		Revision: host.Revision, SingleShot: host.SingleShot,
		LocalHost: host.LocalHost, Secret: host.Secret, Params: e.cfg.params(), heapIndex: -1,
		Tolerant: host.TolerateUnknownAVP || e.cfg.TolerateUnknownAVP, ZeroID: host.ZeroTunnelID, ResourceError: host.ResourceError,
	}
	if host.DisconnectCause != nil {
		t.Params.DisconnectCause = *host.DisconnectCause
	}
	if t.LocalHost == "" {
		t.LocalHost = e.cfg.HostName
	}
	var reason Reason
	if t.ID, reason = e.freeTunnelID(); reason != "" {
		e.count(reason)
		return
	}
	if len(host.Secret) > 0 && host.Challenge {
		t.Challenge = make([]byte, challengeLen)
		if _, err := io.ReadFull(e.random, t.Challenge); err != nil {
			e.count(ReasonRandom)
			return
		}
	}
	ours := host.ReceiveWindow
	if ours == 0 {
		ours = e.cfg.ReceiveWindow
	}
	if host.HideAVPs && len(host.Secret) > 0 && !e.hideFrom(t) {
		e.count(ReasonRandom)
		return
	}
	e.takeConn(now, t)
	e.adopt(now, t, window(ours))
	t.Control.received(controlHeaderLen + asked)
	e.byPeer[t.peerKey()] = t.ID
	if t.ZeroID {
		e.zeroIDs[t.dialKey()] = t.ID
	}
	t.HalfOpen = true
	e.halfOpen++
	e.halfOpenBy[t.source()]++
	t.takePeer(m)
	t.Channel.Nr = 1 // SCCRQ was 0
	t.Channel.Passive = p.Conn == 0

	t.PeerChallenge = append([]byte(nil), m.challenge...)
	t.Terse = p.Conn == 0 && tooLong(len(t.sccrp(&e.cfg)), asked)
}

// tooLong tells whether an answer to a peer whose source address may be forged would be worth an attacker's while: more than one and a
// half times what it sent, IP and UDP headers included.
func tooLong(answer, asked int) bool {
	const headers = 28 + controlHeaderLen
	return 2*(answer+headers) > 3*(asked+headers)
}

// sccrp is the answer to SCCRQ; Terse leaves out what only helps people who read packet traces.
func (t *tunnel) sccrp(cfg *Config) []byte {
	w := build(msgSCCRP).u16(attrProtocolVersion, protocolVersion).u32(attrFramingCapabilities, supportedFraming)
	if !t.Terse {
		w.u32(attrBearerCapabilities, 0)
	}
	w.str(attrHostName, t.LocalHost)
	if !t.Terse {
		w.str(attrVendorName, cfg.VendorName)
	}
	w.u16(attrTunnelID, uint16(t.ID)).u16(attrReceiveWindow, t.Channel.Window)
	if t.Challenge != nil {
		w.bytes(attrChallenge, t.Challenge)
	}
	if len(t.PeerChallenge) > 0 {
		w.bytes(attrChallengeResponse, challengeResponse(msgSCCRP, t.Secret, t.PeerChallenge))
	}
	return w.b
}

// admit checks the limits on new tunnels.
func (e *Engine) admit(p Packet) Reason {
	switch {
	case e.halfOpenBy[source(p.Conn, p.Remote.Addr())] >= e.cfg.MaxHalfOpenPerPeer:
		return ReasonHalfOpenPeer
	case e.halfOpen >= e.cfg.MaxHalfOpen:
		return ReasonHalfOpen
	case e.cfg.MaxTunnels > 0 && e.live >= e.cfg.MaxTunnels:
		return ReasonTunnelLimit
	}
	return ""
}

// repeated answers an SCCRQ that has been accepted before with what was lost: SCCRP, or the acknowledgement.
func (e *Engine) repeated(now time.Time, t *tunnel, asked int) {
	e.count(ReasonDuplicate)
	t.Duplicates++
	t.Control.received(controlHeaderLen + asked)
	if !t.SocketOpen {
		return
	}
	if t.Phase == phaseWaitConnected && !t.Channel.idle() {
		t.Channel.resend()
	} else {
		t.Channel.OweAck = true
	}
	e.settle(now, t)
}

// restarted tells whether an SCCRQ for an established tunnel means that the peer has lost it and begins anew, in which case the old
// tunnel is ended without a word: a StopCCN would reach the new one. Windows calls every tunnel 1, so this is what a PC
// does that redials within one IPsec connection. In clear text nobody can be believed; there a HELLO finds out.
func (e *Engine) restarted(now time.Time, t *tunnel) bool {
	if !t.lostByPeer(now) {
		return false
	}
	if t.Conn != 0 {
		e.end(now, t, ending{reason: ReasonPeerRestart, text: "the peer opens the tunnel anew", byPeer: true, stop: stopSilent})
		return true
	}
	if t.Channel.idle() {
		t.Channel.queue(0, build(msgHello).b)
	}
	return false
}

// ownTunnel tells whether an SCCRQ is one of ours: a router cannot terminate both ends of a tunnel (A8), and a session that is switched to
// the router itself would be switched again and again.
func (e *Engine) ownTunnel(p Packet, peer TunnelID) bool {
	t := e.tunnels[peer]
	return t != nil && t.Initiated && t.Phase == phaseWaitReply && t.Remote.Addr() == p.Local.Addr() && t.Local.Addr() == p.Remote.Addr()
}

// lostByPeer tells that an SCCRQ for this tunnel is no late copy of the one that opened it.
func (t *tunnel) lostByPeer(now time.Time) bool {
	return t.Phase == phaseEstablished && now.Sub(t.Since) >= peerRestartAfter
}

// tieBroken decides between a peer's SCCRQ and one of ours that is under way to it (section 4.4.3, Tie Breaker): the lower
// value lives, equal ones die both, and none loses against any.
func (e *Engine) tieBroken(now time.Time, p Packet, m *message) (theirsLives bool) {
	t := e.tunnels[e.dialing[peerKey{p.Conn, p.Remote, 0}]]
	if t == nil {
		return true
	}
	if !m.present.has(attrTieBreaker) || t.TieBreaker < m.tieBreaker {
		return false
	}
	e.end(now, t, ending{reason: ReasonTieBreaker, text: "the peer's own tunnel goes first", byPeer: true, stop: stopSilent})
	return t.TieBreaker > m.tieBreaker
}

// openingStopped takes the StopCCN of a peer that gives up before it learnt our id. In clear it is too easily forged:
// there the set-up timeout does the work.
func (e *Engine) openingStopped(now time.Time, p Packet, h header, body []byte) {
	m, _ := decode(body, nil)
	t := e.tunnels[e.byPeer[peerKey{p.Conn, p.Remote, m.tunnel}]]
	switch {
	case t == nil || p.Conn == 0:
		e.count(ReasonClearTextStop)
	default:
		if h.ns == t.Channel.Nr {
			t.Channel.Nr++
		}
		t.Channel.OweAck = t.SocketOpen
		e.peerStopped(now, t, &m)
		e.settle(now, t)
	}
}

// refuse answers an SCCRQ with a StopCCN of its own, if the budget for refusals allows. The tunnel id that it names is
// nobody's: an acknowledgement sent to it goes to the listener and is dropped.
func (e *Engine) refuse(now time.Time, p Packet, peer TunnelID, w *wireError, asked int) {
	e.count(w.reason)
	budget := &e.refusals[0]
	if p.Conn != 0 {
		budget = &e.refusals[1]
	}
	e.emit(Report{Level: e.levelOf(p.Conn != 0), Reason: w.reason, Text: w.text, Remote: p.Remote, Conn: p.Conn})
	if !budget.take(now, refusalsPerSec) {
		e.count(ReasonRefusalRate)
		return
	}
	n, ok := e.random16()
	if !ok {
		e.count(ReasonRandom)
		return
	}
	id := 1 + TunnelID(n)%(TunnelIDMin-1)
	avps := build(msgStopCCN).u16(attrTunnelID, uint16(id)).result(w.result, w.err, w.text).b
	if p.Conn == 0 && tooLong(len(avps), asked) {
		avps = build(msgStopCCN).u16(attrTunnelID, uint16(id)).result(w.result, w.err, "").b
	}
	e.emit(Refuse{Local: p.Local, Remote: p.Remote, Conn: p.Conn, Data: appendControl(nil, peer, 0, 0, 1, avps)})
}

// take spends one of the tokens that there are per second.
func (b *refusalBudget) take(now time.Time, perSec int) bool {
	if elapsed := now.Sub(b.At); b.At.IsZero() || elapsed >= time.Second {
		b.Tokens, b.At = perSec, now
	}
	if b.Tokens == 0 {
		return false
	}
	b.Tokens--
	return true
}

// socketOpened continues a tunnel whose socket is there, or tries another id.
func (e *Engine) socketOpened(now time.Time, ev SocketOpened) {
	t := e.tunnels[ev.Tunnel]
	if t == nil || t.SocketOpen || t.Phase != phaseSocket && t.Phase != phaseOrphan {
		return
	}
	opened := !ev.InUse && ev.Err == ""
	if t.Phase == phaseOrphan {
		t.SocketOpen = opened
		e.release(t)
		return
	}
	if ev.InUse && int(t.SocketTries)+1 < maxSocketTries {
		t.SocketTries++
		e.renumber(now, t)
		return
	}
	if !opened {
		text := ev.Err
		if text == "" {
			text = "no free port for the tunnel's socket"
		}
		e.report(t, LevelWarn, ReasonSocket, text, 0)
		e.end(now, t, ending{reason: ReasonSocket, text: text, stop: stopSilent})
		e.release(t)
		return
	}
	t.SocketOpen = true
	if t.Initiated {
		t.enter(now, phaseWaitReply)
		e.queue(t, 0, t.sccrq(&e.cfg))
	} else {
		t.enter(now, phaseWaitConnected)
		e.queue(t, 0, t.sccrp(&e.cfg))
		t.PeerChallenge = nil
	}
	e.settle(now, t)
}

// renumber gives a tunnel that has not sent anything another id.
func (e *Engine) renumber(now time.Time, t *tunnel) {
	id, reason := e.freeTunnelID()
	if reason != "" {
		e.end(now, t, ending{reason: reason, text: "no other tunnel id", stop: stopSilent})
		e.release(t)
		return
	}
	delete(e.tunnels, t.ID)
	e.forgetConn(t)
	if t.Initiated {
		e.renumberDial(t, id)
	} else {
		t.ID = id
		e.byPeer[t.peerKey()] = id
		if t.ZeroID {
			e.zeroIDs[t.dialKey()] = id
		}
	}
	e.place(t)
}
