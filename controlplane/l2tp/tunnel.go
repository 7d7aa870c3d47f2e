package l2tp

import (
	"crypto/subtle"
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/keymat"
)

type (
	netAddr     = netip.Addr
	netAddrPort = netip.AddrPort
)

// phase is where a tunnel is in its life. A peer's tunnel goes socket, wait-connected, established; one of ours socket,
// wait-reply, established (RFC 2661 section 7.2.1); both end in one of the last three.
type phase uint8

const (
	phaseSocket        phase = iota // waiting for SocketOpened; nothing has been sent
	phaseWaitReply                  // SCCRQ sent
	phaseWaitConnected              // SCCRP sent
	phaseEstablished
	phaseDraining  // our StopCCN waits for its acknowledgement
	phaseLingering // the peer's StopCCN has been acknowledged, and will be again
	phaseOrphan    // over before its socket was open: waits for SocketOpened to close it
)

// tunnel is one control connection. The exported fields are its state as Snapshot writes it.
type tunnel struct {
	ID, Peer      TunnelID
	Conn          ConnID
	Local, Remote netip.AddrPort
	Phase         phase
	Initiated     bool
	Up            bool // TunnelUp was emitted
	HalfOpen      bool // counted in Engine.halfOpen
	SocketOpen    bool
	SocketTries   uint8
	PeerStopped   bool // a StopCCN came while ours was draining
	Authenticated bool // the peer answered our challenge

	Ref                  uint64
	TieBreaker           uint64      // of Dial
	Shared               bool        // of Dial, as the next four
	Roomy                bool        // it is in Engine.roomy
	Assignment, WantHost string      // WantHost: the name that the LNS must have
	Confirming           []SessionID // calls whose ICCN awaits its acknowledgement, in the order of AckNs; may name ended ones
	Hide                 bool        // what may be hidden is
	HideSeed             []byte      // makes random vectors
	HideCount            uint64      // random vectors used
	Tolerant             bool        // of unknown AVPs with the M bit
	ZeroID               bool        // the peer addresses it as tunnel 0
	ResourceError        bool        // see HostProfile
	Profile, HostProfile string
	Revision             string // of the host profile
	SingleShot           bool
	Admin                Admin
	LocalHost            string
	PeerHost, PeerVendor string
	PeerFirmware         uint16
	PeerVersion          uint16
	PeerBearer           uint32
	PeerFraming          uint32
	Params               params
	Secret               keymat.Secret `json:"-"` // Snapshot writes it on its own
	Challenge            []byte        // ours, until it is answered
	PeerChallenge        []byte        // of SCCRQ, until SCCRP is built
	Terse                bool          // SCCRP without what is optional

	Since       time.Time // of Phase
	UpAt        time.Time // established; zero: never
	LastControl time.Time // control packet sent or received
	SetupBy     time.Time // established, or the first call of a single-shot tunnel placed
	IdleAt      time.Time // zero: not idle, or for ever
	LingerUntil time.Time

	Channel      channel
	Sessions     map[SessionID]*session
	PeerSessions map[SessionID]SessionID // the peer's session id to ours
	Opening      []SessionID             // calls being set up, oldest first; may name ended ones

	figures
	LastResult, LastError uint16
	LastMessage           string
	Reason                Reason
	Ended                 time.Time

	due       time.Time
	heapIndex int
}

func (t *tunnel) over() bool { return t.Phase >= phaseDraining }

// trusted tells whether the peer is somebody: it came through IPsec, knows the tunnel password, or was called by us.
func (t *tunnel) trusted() bool { return t.Conn != 0 || t.Authenticated || t.Initiated }

func (t *tunnel) state() State {
	switch {
	case t.over():
		return StateDisconnecting
	case t.Phase == phaseEstablished:
		return StateEstablished
	}
	return StateConnecting
}

func (t *tunnel) info() TunnelInfo {
	return TunnelInfo{
		ID: t.ID, Peer: t.Peer, Conn: t.Conn, Local: t.Local, Remote: t.Remote, State: t.state(), Initiated: t.Initiated, Trusted: t.trusted(), Ref: t.Ref,
		Profile: t.Profile, HostProfile: t.HostProfile, PeerHost: t.PeerHost, PeerVendor: t.PeerVendor, PeerFirmware: t.PeerFirmware,
		PeerWindow: t.Channel.PeerWindow, Sessions: len(t.Sessions), Since: t.Since, Ns: t.Channel.Ns, Nr: t.Channel.Nr,
		Retransmits: t.Channel.Retransmits, LastResult: t.LastResult, LastError: t.LastError, LastMessage: t.LastMessage,
		Ended: t.Ended, Reason: t.Reason,
		SingleShot: t.SingleShot, Admin: t.Admin, EffectiveAdmin: t.Admin, Version: t.PeerVersion, Bearer: t.PeerBearer, Framing: t.PeerFraming,
		Window: t.Channel.Window, Queued: len(t.Channel.Queue), SessionsTotal: t.SessionsTotal, SessionsFailed: t.SessionsFailed,
		Established: t.UpAt, Control: t.Control, RxZLB: t.RxZLB, TxZLB: t.TxZLB, OutOfSequence: t.OutOfSequence,
		OutOfWindow: t.OutOfWindow, Duplicates: t.Duplicates, PayloadIn: t.Payload.in(), PayloadOut: t.Payload.out(),
	}
}

// helloAt is when a HELLO is due: Params.Hello after the last control packet, unless something is unacknowledged, which
// probes the peer just as well (RFC 2661 section 6.5).
func (t *tunnel) helloAt() time.Time {
	if t.Params.Hello == 0 || !t.Channel.idle() {
		return time.Time{}
	}
	return t.LastControl.Add(t.Params.Hello)
}

// next is the tunnel's next deadline, zero for none.
func (t *tunnel) next() time.Time {
	switch t.Phase {
	case phaseOrphan:
		return time.Time{}
	case phaseDraining, phaseLingering:
		return deadline.Earliest(t.LingerUntil, t.Channel.RetransmitAt)
	case phaseEstablished:
		due := deadline.Earliest(deadline.Earliest(t.Channel.RetransmitAt, t.IdleAt), t.SetupBy)
		if s := t.oldestCall(); s != nil {
			due = deadline.Earliest(due, s.Deadline)
		}
		return deadline.Earliest(due, t.helloAt())
	default:
		due := deadline.Earliest(t.SetupBy, t.Channel.RetransmitAt)
		if s := t.oldestCall(); s != nil {
			due = deadline.Earliest(due, s.Deadline)
		}
		return due
	}
}

func (t *tunnel) enter(now time.Time, p phase) {
	t.Phase = p
	t.Since = now
}

// tunnelMessage handles a control message that concerns the whole tunnel, delivered in order and well-formed.
func (e *Engine) tunnelMessage(now time.Time, t *tunnel, m *message) {
	switch {
	case m.kind == msgHello:
	case m.kind == msgSCCCN && t.Phase == phaseWaitConnected:
		e.connected(now, t, m)
	case m.kind == msgSCCRP && t.Phase == phaseWaitReply:
		e.replied(now, t, m)
	default:
		e.end(now, t, ending{
			reason: ReasonProtocol, text: fmt.Sprintf("%s not expected", m.kind), stop: stopSend, result: StopStateMachine,
		})
	}
}

// connected takes SCCCN: the tunnel is up when the peer has answered our challenge.
func (e *Engine) connected(now time.Time, t *tunnel, m *message) {
	if w := t.checkResponse(msgSCCCN, m); w != nil {
		e.refuseTunnel(now, t, w)
		return
	}
	e.up(now, t)
}

// checkResponse compares the peer's answer with our challenge, if we made one (section 5.1.1).
func (t *tunnel) checkResponse(carrier messageType, m *message) *wireError {
	if t.Challenge == nil {
		return nil
	}
	switch {
	case m.response == nil:
		return &wireError{StopNotAuthorized, 0, ReasonAuthentication, "challenge not answered"}
	case subtle.ConstantTimeCompare(m.response, challengeResponse(carrier, t.Secret, t.Challenge)) != 1:
		return &wireError{StopNotAuthorized, 0, ReasonAuthentication, "wrong tunnel password"}
	}
	t.Challenge = nil
	t.Authenticated = true
	return nil
}

// up is the moment in which a tunnel is established.
func (e *Engine) up(now time.Time, t *tunnel) {
	e.notHalfOpen(t)
	t.enter(now, phaseEstablished)
	t.SetupBy = time.Time{}
	if t.SingleShot {
		t.SetupBy = now.Add(t.Params.Setup)
	}
	t.Up, t.UpAt = true, now
	e.idleClock(now, t)
	e.emit(TunnelUp{Tunnel: e.tunnelInfo(t)})
}

// idleClock starts the idle timeout of a tunnel without sessions and stops it otherwise (section 1.7 of the requirements). A
// single-shot tunnel has none (H2).
func (e *Engine) idleClock(now time.Time, t *tunnel) {
	t.IdleAt = time.Time{}
	if len(t.Sessions) == 0 && t.Params.Idle > 0 && !t.SingleShot && t.Phase == phaseEstablished {
		t.IdleAt = now.Add(t.Params.Idle)
	}
}

// control takes a control packet for an existing tunnel that came over the right connection from the right address.
func (e *Engine) control(now time.Time, t *tunnel, h header, body []byte) {
	if !t.SocketOpen {
		e.count(ReasonUnknownTunnel) // it cannot know an id that was never sent
		return
	}
	t.Control.received(controlHeaderLen + len(body))
	if len(body) == 0 {
		t.RxZLB++
	}
	if kind, _, ok := peekType(body); ok && len(t.Channel.Queue) >= maxSendQueue && (kind == msgICRQ || kind == msgOCRQ) {
		// A peer that places calls without acknowledging the answers must not fill memory. Its other messages
		// are still taken, so that two busy ends cannot block each other.
		e.count(ReasonBackPressure)
		t.Control.RxDiscards++
		body = nil
	}
	r, acked := t.Channel.receive(now, h.ns, h.nr, h.session, body)
	if r == receiptBadAck {
		e.count(ReasonBadAck)
		t.Control.RxErrors++
		return
	}
	if acked > 0 || r == receiptDeliver {
		t.LastControl = now
		t.Channel.awake(now)
	}
	e.callsAcknowledged(now, t)
	switch r {
	case receiptHeld:
		t.OutOfSequence++
	case receiptDuplicate:
		e.count(ReasonDuplicate)
		t.Duplicates++
	case receiptOutside:
		e.count(ReasonOutOfWindow)
		t.OutOfWindow++
		t.Control.RxDiscards++
	case receiptDeliver:
		e.deliver(now, t, h.session, body)
		for {
			held, ok := t.Channel.next()
			if !ok {
				break
			}
			e.deliver(now, t, held.Session, held.Body)
		}
	}
	e.settle(now, t)
}

// deliver hands one message to its handler. After the tunnel's end messages are only acknowledged, but for the peer's own
// StopCCN, whose acknowledgement must be repeated.
func (e *Engine) deliver(now time.Time, t *tunnel, session SessionID, body []byte) {
	if t.over() {
		if kind, _, ok := peekType(body); ok && kind == msgStopCCN && t.Phase == phaseDraining {
			t.PeerStopped = true
		}
		return
	}
	m, failed := decodeAVPs(body, t.Secret, t.Tolerant)
	e.tolerated(&m)
	if failed != nil {
		t.Control.RxErrors++
	}
	switch {
	case m.kind == msgStopCCN: // even a broken one says that the peer is gone
		e.peerStopped(now, t, &m)
		return
	case m.kind == msgCDN:
		e.peerDisconnects(now, t, session, &m)
		return
	case m.ignore:
		e.count(ReasonUnknownMessage)
		return
	}
	rule := messageRules[m.kind]
	if m.kind == msgSCCRP && t.Phase == phaseWaitReply {
		t.Peer = m.tunnel // whom a refusal goes to
	}
	switch {
	case failed != nil && !rule.session:
		e.refuseTunnel(now, t, failed)
	case failed != nil:
		e.refuseCall(now, t, session, &m, failed)
	case rule.session:
		e.callMessage(now, t, session, &m)
	default:
		e.tunnelMessage(now, t, &m)
	}
	if !t.over() && len(t.Channel.Queue) > maxTunnelQueue {
		e.end(now, t, ending{reason: ReasonQueue, text: "too many messages wait for the peer", stop: stopSilent})
	}
}

// refuseTunnel ends a tunnel with the answer that a failure carries.
func (e *Engine) refuseTunnel(now time.Time, t *tunnel, w *wireError) {
	e.report(t, LevelWarn, w.reason, w.text, 0)
	e.end(now, t, ending{reason: w.reason, text: w.text, stop: stopSend, result: w.result, err: w.err})
}
