package l2tp

import (
	"encoding/binary"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Engine is the L2TP service of one virtual router.
type Engine struct {
	cfg    Config
	dir    *directory
	random io.Reader

	tunnels map[TunnelID]*tunnel
	byPeer  map[peerKey]TunnelID // tunnels opened by a peer, until they end
	dialing map[peerKey]TunnelID // tunnels of ours that wait for SCCRP, shared ones excepted; key without the peer's id
	roomy   map[shareKey][]TunnelID
	calls   map[uint64]callKey   // shared Dials that are not up
	zeroIDs map[peerKey]TunnelID // the newest tunnel of each peer that uses tunnel id 0; key without the peer's id
	byConn  map[ConnID][]TunnelID
	timers  timerHeap
	ended   []endedRecord // oldest first, at most maxEndedRecords

	endedSessions []sessionRecord
	destinations  map[netip.Addr]*destination
	past          totals
	uses          map[ConnID]*connUse // until ConnLost
	admin         Admin               // of the service
	unchecked     bool                // restored: the configuration may be another than the one before

	live       int // tunnels not ended
	halfOpen   int // of these, opened by a peer and not established
	halfOpenBy map[sourceKey]int
	sessions   int
	counts     map[profileKey]int // sessions by destination profile and by host profile
	counters   map[Reason]uint64
	refusals   [2]refusalBudget // clear text, IPsec
	reports    refusalBudget
	now        time.Time // of the Step that is under way
	serial     uint32    // last call serial number
	steeringAt time.Time // last Report of ReasonNotSteered

	out []Effect
}

// peerKey is a peer's tunnel before the peer knows our id.
type peerKey struct {
	Conn   ConnID
	Remote netAddrPort
	Peer   TunnelID
}

// sourceKey is whom a half-open tunnel is charged to: the IPsec connection, in clear text the address.
type sourceKey struct {
	Conn ConnID
	Addr netAddr
}

// refusalBudget is a token bucket.
type refusalBudget struct {
	Tokens int
	At     time.Time
}

// New returns an engine without tunnels. random must be a cryptographic source.
func New(cfg Config, random io.Reader) *Engine {
	cfg = cfg.withDefaults()
	return &Engine{
		cfg: cfg, dir: newDirectory(cfg.Profiles), random: random,
		tunnels: make(map[TunnelID]*tunnel), byPeer: make(map[peerKey]TunnelID), dialing: make(map[peerKey]TunnelID),
		roomy: make(map[shareKey][]TunnelID), calls: make(map[uint64]callKey), zeroIDs: make(map[peerKey]TunnelID),
		byConn: make(map[ConnID][]TunnelID), halfOpenBy: make(map[sourceKey]int),
		counts: make(map[profileKey]int), counters: make(map[Reason]uint64),
		destinations: make(map[netip.Addr]*destination), uses: make(map[ConnID]*connUse), admin: cfg.Admin,
	}
}

// Step handles one event and returns what has to be done, in order. Timers that are due run first, whatever the event.
func (e *Engine) Step(now time.Time, ev Event) []Effect {
	e.now = now
	if e.unchecked {
		e.unchecked = false
		e.recheck(now)
	}
	e.expired(now)
	switch ev := ev.(type) {
	case Packet:
		e.packet(now, ev)
	case SocketOpened:
		e.socketOpened(now, ev)
	case SendFrame:
		e.sendFrame(ev)
	case ConnLost:
		e.connLost(now, ev.Conn)
	case CloseSession:
		e.closeSession(now, ev)
	case CloseTunnel:
		if t := e.tunnels[ev.Tunnel]; t != nil && !t.over() {
			e.closeTunnel(now, t, ev.Result, ev.Message, ev.Reason, ReasonAdministrative)
		}
	case CloseAll:
		for _, id := range e.tunnelIDs() {
			if t := e.tunnels[id]; t != nil && !t.over() {
				e.closeTunnel(now, t, 0, "", ev.Reason, ReasonShutdown)
			}
		}
	case Dial:
		e.dial(now, ev)
	case CancelDial:
		e.cancelDial(now, ev)
	case ConnectCall:
		e.connectHeld(now, ev)
	case Reconfigure:
		e.reconfigure(now, ev.Config)
	case SetAdmin:
		e.setAdmin(now, ev)
	case CallSettled:
		e.callSettled(ev)
	case Timer:
	}
	out := e.out
	e.out = nil
	return out
}

func (e *Engine) emit(ef Effect) { e.out = append(e.out, ef) }

func (e *Engine) count(r Reason) { e.counters[r]++ }

// levelOf is that of a Report about what a peer does: LevelInfo for those that have proved something, as long as nobody makes too
// many of them.
func (e *Engine) levelOf(trusted bool) Level {
	if trusted && e.reports.take(e.now, reportsPerSec) {
		return LevelInfo
	}
	return LevelDebug
}

// report tells an operator about a tunnel. Peers that have proved nothing stay at LevelDebug.
func (e *Engine) report(t *tunnel, level Level, reason Reason, text string, s SessionID) {
	switch {
	case !t.trusted():
		level = LevelDebug
	case level == LevelInfo:
		level = e.levelOf(true)
	}
	e.emit(Report{Level: level, Reason: reason, Text: text, Remote: t.Remote, Conn: t.Conn, Tunnel: t.ID, Session: s})
}

// settle sends what a tunnel has to send after an event and sets its timer. A message that nothing has acknowledged yet
// is acknowledged at once by a ZLB: Android's mtpd sends ICRQ only after SCCCN has been acknowledged, and starts pppd only
// after ICCN has been.
func (e *Engine) settle(now time.Time, t *tunnel) {
	if e.tunnels[t.ID] != t {
		return
	}
	if t.SocketOpen {
		t.Channel.flush(now, func(session SessionID, ns uint16, body []byte) {
			e.transmit(now, t, appendControl(make([]byte, 0, controlHeaderLen+len(body)), t.Peer, session, ns, t.Channel.Nr, body))
		})
		if t.Channel.OweAck {
			t.Channel.OweAck = false
			e.transmit(now, t, appendControl(make([]byte, 0, controlHeaderLen), t.Peer, 0, t.Channel.Ns, t.Channel.Nr, nil))
		}
	}
	if t.Phase == phaseDraining && (t.Channel.idle() && !t.PeerStopped || !t.LingerUntil.After(now)) {
		e.release(t)
		return
	}
	e.schedule(t)
}

func (e *Engine) transmit(now time.Time, t *tunnel, data []byte) {
	t.LastControl = now
	t.Control.sent(len(data))
	if len(data) == controlHeaderLen {
		t.TxZLB++
	}
	e.emit(Send{Tunnel: t.ID, Data: data})
}

// timeout runs whatever of a tunnel's timers is due.
func (e *Engine) timeout(now time.Time, t *tunnel) {
	due := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	switch t.Phase {
	case phaseDraining, phaseLingering:
		if due(t.LingerUntil) || t.Channel.expire(now, t.Params.RetransmitMax) {
			e.release(t)
		}
		return
	case phaseOrphan:
		return
	case phaseSocket, phaseWaitReply, phaseWaitConnected:
		if due(t.SetupBy) {
			e.end(now, t, ending{reason: ReasonSetupTimeout, text: "not established in time", stop: stopSend, result: StopClear})
			return
		}
		if t.Channel.expire(now, t.Params.RetransmitMaxOpening) {
			e.end(now, t, ending{reason: ReasonNoAnswer, text: "no answer during set-up", stop: stopSilent})
			return
		}
		e.callTimeouts(now, t)
		return
	case phaseEstablished:
	}
	if t.Channel.expire(now, t.Params.RetransmitMax) {
		e.end(now, t, ending{reason: ReasonNoAnswer, text: "control messages are not acknowledged", stop: stopSilent})
		return
	}
	e.callTimeouts(now, t)
	if t.over() {
		return
	}
	if due(t.SetupBy) { // only a single-shot tunnel waits for its first call
		e.end(now, t, ending{reason: ReasonSetupTimeout, text: "no call in time", stop: stopSend, result: StopClear})
		return
	}
	if due(t.IdleAt) {
		e.end(now, t, ending{reason: ReasonIdle, text: "no session", stop: stopSend, result: StopClear})
		return
	}
	if due(t.helloAt()) {
		t.Channel.queue(0, build(msgHello).b)
	}
}

// Counters returns how often each reason for a drop, a refusal or an end has occurred.
func (e *Engine) Counters() map[Reason]uint64 { return maps.Clone(e.counters) }

// Live is the number of tunnels that still hold a socket: those that are ending and wait for their last acknowledgement
// count, records of ended ones do not.
func (e *Engine) Live() int { return len(e.tunnels) }

// Tunnels lists the tunnels by id, then the records of ended ones, oldest first.
func (e *Engine) Tunnels() []TunnelInfo {
	list := make([]TunnelInfo, 0, len(e.tunnels)+len(e.ended))
	for _, id := range e.tunnelIDs() {
		list = append(list, e.tunnelInfo(e.tunnels[id]))
	}
	for _, r := range e.ended {
		list = append(list, r.Info)
	}
	return list
}

// LiveSessions is the number of sessions, those being set up included.
func (e *Engine) LiveSessions() int { return e.sessions }

// Sessions lists the sessions by tunnel and id, those being set up included, then the records of ended ones, oldest first.
func (e *Engine) Sessions() []SessionInfo {
	list := make([]SessionInfo, 0, e.sessions+len(e.endedSessions))
	for _, id := range e.tunnelIDs() {
		t := e.tunnels[id]
		for _, sid := range slices.Sorted(maps.Keys(t.Sessions)) {
			list = append(list, e.sessionInfo(t, t.Sessions[sid]))
		}
	}
	for _, r := range e.endedSessions {
		list = append(list, r.Info)
	}
	return list
}

// random16 returns a random number; ok is false when the source fails.
func (e *Engine) random16() (n uint16, ok bool) {
	var b [2]byte
	if _, err := io.ReadFull(e.random, b[:]); err != nil {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[:]), true
}

// tunnelIDCount is how many tunnel ids there are: TunnelIDMin to 65535.
const tunnelIDCount = 1<<16 - int(TunnelIDMin)

// freeTunnelID picks an unpredictable id that no tunnel uses.
func (e *Engine) freeTunnelID() (TunnelID, Reason) {
	if len(e.tunnels) >= tunnelIDCount {
		return 0, ReasonNoIDs
	}
	for {
		n, ok := e.random16()
		if !ok {
			return 0, ReasonRandom
		}
		id := TunnelIDMin + TunnelID(int(n)%tunnelIDCount)
		for range 32 { // nearly full: walk on rather than draw for ever
			if _, used := e.tunnels[id]; !used {
				return id, ""
			}
			if id++; id == 0 {
				id = TunnelIDMin
			}
		}
	}
}
