package pppd

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Bounds and defaults of a link. Those of Config are named there.
const (
	minMRU     = 576  // least MRU of ours: what IPv4 needs
	defaultMRU = 1500 // RFC 1661 section 6.1: in force until negotiated, and always receivable
	minPeerMRU = 128  // less is refused by Configure-Nak, as pppd does

	defaultRestart        = 3 * time.Second
	defaultMaxConfigure   = 10
	defaultMaxTerminate   = 2
	defaultMaxFailure     = 5
	defaultAuthTimeout    = 30 * time.Second
	defaultNetworkTimeout = 30 * time.Second
	defaultEchoFailures   = 5
	defaultName           = "vrgate"

	// maxRounds bounds how often in a row either side may refuse the other's Configure-Request. RFC 1661 bounds
	// neither, and a peer that always answers would never run into Max-Configure.
	maxRounds = 20
	// maxRestarts bounds how often in a row LCP may be negotiated anew; each time costs AAA a request. A link that
	// has carried traffic for restartGrace starts counting again.
	maxRestarts  = 8
	restartGrace = time.Minute
	// maxUser bounds the peer's name, in octets: RADIUS User-Name holds no more (RFC 2865 section 5.1).
	maxUser = 253
	// maxMessage bounds what we quote of AAA to the peer and of the peer in texts, in octets.
	maxMessage = 200
)

// Phase is a phase of RFC 1661 section 3.2.
type Phase uint8

// The phases. A link is Dead before Open and after its Down.
const (
	PhaseDead Phase = iota
	PhaseEstablish
	PhaseAuthenticate
	PhaseNetwork
	PhaseTerminate
	numPhases
)

var phaseNames = [numPhases]string{"dead", "establish", "authenticate", "network", "terminate"}

// String returns the RFC's word for the phase in lower case.
func (p Phase) String() string {
	if p < numPhases {
		return phaseNames[p]
	}
	return fmt.Sprintf("Phase(%d)", uint8(p))
}

// String returns the protocol's usual name.
func (p AuthProtocol) String() string {
	switch p {
	case AuthNone:
		return "none"
	case AuthPAP:
		return "pap"
	case AuthCHAPMD5:
		return "chap-md5"
	case AuthMSCHAPv2:
		return "mschap-v2"
	case AuthEAP:
		return "eap"
	}
	return fmt.Sprintf("AuthProtocol(%d)", uint8(p))
}

// Link is one PPP link, from Open to Down. One goroutine owns it; it holds no resource and may simply be dropped.
// MarshalJSON gives all that it knows but its Config; RestoreLink continues from there.
type Link struct {
	cfg    Config
	random io.Reader
	s      state
	// asked is what AAA is being asked, for Handover. It may hold a password and is not stored.
	asked *AuthRequest

	// These live within one Step.
	now     time.Time
	out     []Effect
	in      inbound
	closing bool // the link has been told to end; Step closes LCP last of all
}

// state is everything that outlives a Step. All of it is plain exported data.
type state struct {
	Phase Phase
	Done  bool // Down has been emitted
	LCP   lcpState
	IPCP  ipcpState
	Auth  authState
	Self  selfState
	End   *Down // why the link is ending; nil: it is not

	Network   Network   // AAA's answer
	NetworkUp bool      // NetworkUp has been emitted
	NetworkBy time.Time // by when an NCP must be open
	UpAt      time.Time // when the network phase began
	Restarts  int       // LCP negotiations in a row, see maxRestarts

	EchoAt     time.Time // next Echo-Request
	EchoID     uint8
	EchoMisses int  // Echo-Requests since the last Echo-Reply
	EchoOff    bool // the peer does not know Echo-Request

	RejectID         uint8     // identifier of the last Code- or Protocol-Reject
	EncryptionReject time.Time // when the peer was last refused PPP encryption; zero: never (F1)
	Counters         Counters
}

// NewLink makes a link in phase Dead; Open starts it. Random is read for magic numbers and challenges: crypto/rand's
// Reader except in tests.
func NewLink(cfg Config, random io.Reader) *Link {
	return &Link{cfg: cfg.withDefaults(), random: random}
}

// RestoreLink makes the link that MarshalJSON described. The Config may differ from the old one; what has been
// negotiated stays as it is. Data that does not describe a link is an error.
func RestoreLink(cfg Config, random io.Reader, data []byte) (*Link, error) {
	l := NewLink(cfg, random)
	if err := json.Unmarshal(data, &l.s); err != nil {
		return nil, fmt.Errorf("pppd: restoring a link: %w", err)
	}
	s := &l.s
	if s.Phase >= numPhases || s.LCP.FSM.State >= numStates || s.IPCP.FSM.State >= numStates ||
		s.LCP.Ask.Auth > AuthEAP || s.LCP.Peer.Auth > AuthEAP {
		return nil, fmt.Errorf("pppd: restoring a link: phase %d, states %d and %d, protocols %d and %d out of range",
			s.Phase, s.LCP.FSM.State, s.IPCP.FSM.State, s.LCP.Ask.Auth, s.LCP.Peer.Auth)
	}
	return l, nil
}

// MarshalJSON returns the link's state for RestoreLink. It holds no password.
func (l *Link) MarshalJSON() ([]byte, error) { return json.Marshal(&l.s) }

func (c Config) withDefaults() Config {
	if c.MRU == 0 {
		c.MRU = defaultMRU
	}
	c.MRU = min(max(c.MRU, minMRU), defaultMRU)
	if c.Name == "" {
		c.Name = defaultName
	}
	c.Name = c.Name[:min(len(c.Name), maxUser)]
	orDuration := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	orCount := func(n *int, def int) {
		if *n <= 0 {
			*n = def
		}
	}
	orDuration(&c.Restart, defaultRestart)
	orDuration(&c.AuthTimeout, defaultAuthTimeout)
	orDuration(&c.NetworkTimeout, defaultNetworkTimeout)
	orCount(&c.MaxConfigure, defaultMaxConfigure)
	orCount(&c.MaxTerminate, defaultMaxTerminate)
	orCount(&c.MaxFailure, defaultMaxFailure)
	orCount(&c.EchoFailures, defaultEchoFailures)
	return c
}

// Step feeds one event to the link and returns what is to be done, in order. After a Down nothing is returned any more.
// One received frame causes at most three frames to be sent.
func (l *Link) Step(now time.Time, ev Event) []Effect {
	if l.s.Done {
		return nil
	}
	l.now, l.out, l.closing = now, nil, false
	switch ev := ev.(type) {
	case Open:
		l.open()
	case Frame:
		l.receive(ev)
	case Timer:
		l.expire()
	case AuthDecision:
		l.decide(ev)
	case Close:
		l.end(Down{Reason: orReason(ev.Reason, ReasonAdmin), Text: "closed by this end"})
	case LowerDown:
		l.fail(Down{Reason: orReason(ev.Reason, ReasonLowerDown), Text: "the lower layer has gone"})
		l.finish()
	}
	if l.closing && !l.s.Done {
		l.terminate()
	}
	out := l.out
	l.out, l.in = nil, inbound{}
	return out
}

// Deadline says when a Timer event is wanted; zero: at no time.
func (l *Link) Deadline() time.Time {
	var first time.Time
	if l.s.Done {
		return first
	}
	for _, t := range []time.Time{
		l.s.LCP.FSM.Timer, l.s.LCP.By, l.s.IPCP.FSM.Timer, l.s.Auth.Deadline, l.s.Auth.Retry, l.s.Self.Retry, l.s.EchoAt, l.s.NetworkBy,
	} {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// open is RFC 1661's Open and Up at once.
func (l *Link) open() {
	if l.s.Phase != PhaseDead {
		return
	}
	l.s.Phase = PhaseEstablish
	p := l.cfg.Proxy
	l.cfg.Proxy = nil // it may hold a password, and is not needed any more
	if p != nil && l.takeOver(p) {
		return
	}
	l.lcpBegin()
	l.run(lcp{l}, evOpen)
	l.run(lcp{l}, evUp)
}

// expire handles every timer that has run out. The deadlines come first: they end the link, and nothing else matters then.
func (l *Link) expire() {
	if l.due(&l.s.LCP.By) {
		l.lcpLate()
	}
	if l.due(&l.s.Auth.Deadline) {
		l.authLate()
	}
	if l.due(&l.s.NetworkBy) {
		l.end(Down{Reason: ReasonNetwork, Text: "no network protocol came up in time", Cause: DisconnectCause{causeNCPTimeout, ProtocolIPCP, 0}})
	}
	if l.closing || l.s.Done {
		return
	}
	if l.due(&l.s.Auth.Retry) {
		l.retryAuth()
	}
	if l.due(&l.s.Self.Retry) {
		l.retrySelf()
	}
	if l.due(&l.s.EchoAt) {
		l.echo()
	}
	if l.due(&l.s.IPCP.FSM.Timer) {
		l.timeout(ipcp{l})
	}
	if l.due(&l.s.LCP.FSM.Timer) && !l.closing {
		l.timeout(lcp{l})
	}
}

// due says whether t has come, and clears it if so.
func (l *Link) due(t *time.Time) bool {
	if t.IsZero() || t.After(l.now) {
		return false
	}
	*t = time.Time{}
	return true
}

// receive hands a frame to the protocol it belongs to, in the phases in which that protocol is heard.
func (l *Link) receive(f Frame) {
	c := &l.s.Counters
	c.FramesIn++
	if l.s.Phase == PhaseDead {
		c.Early++
		return
	}
	if f.Protocol == ProtocolLCP {
		l.control(lcp{l}, f.Data)
		return
	}
	if l.s.LCP.FSM.State != Opened {
		c.Early++
		return
	}
	switch f.Protocol {
	case ProtocolPAP, ProtocolCHAP, ProtocolEAP:
		p, err := parsePacket(f.Data)
		if err != nil {
			c.Malformed++
			return
		}
		l.authPacket(f.Protocol, p)
	case ProtocolIPCP:
		if l.s.Phase != PhaseNetwork {
			// RFC 1661 section 3.5 forbids anything else; the client repeats it after its restart time.
			c.Early++
			return
		}
		l.s.Auth.Retry = time.Time{} // the peer knows of its success
		l.control(ipcp{l}, f.Data)
	case ProtocolCCP, ProtocolCCPOne, ProtocolECP, ProtocolECPOne:
		if asksEncryption(f) {
			l.s.EncryptionReject = l.now
		}
		l.protocolReject(f)
	case ProtocolIPv4:
		// Data that overtook IPCP, or came before the kernel knew the session.
		c.Unexpected++
	default:
		if l.s.Phase != PhaseNetwork {
			c.Early++
			return
		}
		l.protocolReject(f)
	}
}

// protocolReject refuses a protocol: RFC 1661 section 5.7. The quoted frame is cut to the peer's MRU.
func (l *Link) protocolReject(f Frame) {
	l.s.Counters.ProtocolRejects++
	quote := f.Data[:min(len(f.Data), int(l.peerMRU())-packetHeader-2)]
	l.s.RejectID++
	data := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(quote)), f.Protocol)
	l.send(ProtocolLCP, packet{codeProtocolReject, l.s.RejectID, append(data, quote...)})
}

// peerMRU is the largest information field that the peer takes, at most maxPacket.
func (l *Link) peerMRU() uint16 {
	if m := l.s.LCP.Peer.MRU; m != 0 && l.s.LCP.FSM.State == Opened {
		return min(max(m, minPeerMRU), maxPacket)
	}
	return defaultMRU
}

// send emits a control packet.
func (l *Link) send(protocol uint16, p packet) {
	l.s.Counters.FramesOut++
	l.out = append(l.out, Send{Protocol: protocol, Data: p.append(make([]byte, 0, packetHeader+len(p.data)))})
}

// emit adds an effect.
func (l *Link) emit(e Effect) { l.out = append(l.out, e) }

// fail records why the link is ending; the first reason stands.
func (l *Link) fail(d Down) {
	if l.s.End == nil {
		if d.Cause == (DisconnectCause{}) {
			d.Cause = Cause(d.Reason)
		}
		l.s.End = &d
	}
}

// end asks for an orderly end. The terminating itself happens when the event has been handled.
func (l *Link) end(d Down) {
	l.fail(d)
	l.closing = true
}

// terminate closes LCP: Terminate-Request if the peer may be listening, Down when it is over.
func (l *Link) terminate() {
	if l.s.Phase == PhaseDead {
		l.finish()
		return
	}
	l.s.Phase = PhaseTerminate
	l.s.LCP.By = time.Time{}
	l.leaveNetwork()
	l.run(lcp{l}, evClose)
}

// finish emits the one Down.
func (l *Link) finish() {
	if l.s.Done {
		return
	}
	if l.s.NetworkUp {
		l.s.NetworkUp = false
		l.emit(NetworkDown{})
	}
	l.fail(Down{Reason: ReasonLowerDown, Text: "the link ended"})
	l.s.Done, l.s.Phase = true, PhaseDead
	l.emit(*l.s.End)
}

// enterNetwork begins the network phase: authentication is over.
func (l *Link) enterNetwork() {
	l.s.Phase = PhaseNetwork
	l.s.UpAt = l.now
	l.s.NetworkBy = l.now.Add(l.cfg.NetworkTimeout)
	l.s.EchoMisses = 0
	if l.cfg.EchoInterval > 0 && !l.s.EchoOff {
		l.s.EchoAt = l.now.Add(l.cfg.EchoInterval)
	}
	l.ipcpBegin()
}

// leaveNetwork takes everything above LCP down. AAA's answer to an outstanding question will be void.
func (l *Link) leaveNetwork() {
	if s := l.s.IPCP.FSM.State; s != Initial && s != Starting {
		l.run(ipcp{l}, evDown)
	}
	l.s.NetworkBy, l.s.EchoAt = time.Time{}, time.Time{}
	l.s.Auth.Deadline, l.s.Auth.Retry, l.s.Self.Retry = time.Time{}, time.Time{}, time.Time{}
	if l.s.Phase != PhaseTerminate { // an ending link goes on to know whose it was
		l.authReset()
	}
}

// rand fills b. Without randomness nothing can go on safely.
func (l *Link) rand(b []byte) {
	if _, err := io.ReadFull(l.random, b); err != nil {
		clear(b)
		l.end(Down{Reason: ReasonInternal, Text: "no randomness: " + err.Error()})
	}
}

// rand32 returns a random number that is not zero.
func (l *Link) rand32() uint32 {
	var b [4]byte
	l.rand(b[:])
	return max(binary.BigEndian.Uint32(b[:]), 1)
}

func orReason(r, def Reason) Reason {
	if r == "" {
		return def
	}
	return r
}

// printable cuts b to maxMessage and replaces what a log or terminal should not see.
func printable(b []byte) string {
	out := make([]byte, 0, min(len(b), maxMessage))
	for _, c := range b[:cap(out)] {
		if c < ' ' || c > '~' {
			c = '.'
		}
		out = append(out, c)
	}
	return string(out)
}
