package subscriber

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// bed is a test bed: one engine, real PPP links in the calling role as its subscribers, and
// everything else that an engine talks to, played by the test. It checks with every effect
// that the engine keeps its promises, so that a test only says what happens.
type bed struct {
	t     failer
	e     *Engine
	now   time.Time
	serie uint64
	log   []string // what was done, without frames
	peers map[CallKey]*peer
	calls map[ID]*ledger
	conns map[uint32]bool
	wire  []func() // frames on their way, in order
	busy  bool     // they are being delivered
	// deaf drops what the engine sends to the peers, mute what they send.
	deaf, mute bool

	method   aaa.Method
	timeouts [2]time.Duration // session and idle, that AAA gives to everybody
	grants   aaa.Grants       // the rest of what it gives
	by       aaa.Authority
	// slow has the journal answer when accounted is called, and not at once.
	slow bool
	// tunnels, when there are any, has AAA hand everybody on.
	tunnels []aaa.Tunnel
	// profile, when not nil, is the traffic that IP profile and grants come to.
	profile *aaa.Traffic
	eap     bool   // the peers speak EAP if they are asked to
	token   uint64 // of the last change

	// Without an answer.
	decides      []Decide
	opens        []OpenSession
	activates    []Activate
	closes       []CloseSession
	asks         []AskUser
	accesses     []OpenAccess
	accessCloses []CloseAccess
	leaving      []uint32 // IKE connections that Deny and CloseConn end
	reads        []ReadCounters
	accounts     []AccountStart
	traffics     []SetTraffic
	dials        []Dial
	bridges      []Bridge
	unbridges    []CloseBridge
	// All that were emitted.
	admits   []Admit
	interims []AccountInterim
	changed  []Changed
}

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// peer is the other end of a call: a subscriber or, of a call to an LNS, that LNS.
type peer struct {
	call CallKey
	link *pppd.Link
	up   pppd.NetworkUp
	down *pppd.Down
	lns  bool
}

// ledger is what the world holds of one session.
type ledger struct {
	call      CallKey
	asked     bool
	held      netip.Addr // the address given, until it comes back
	owner     string     // its AAA name
	grants    aaa.Grants // that came with it
	opening   bool
	open      bool
	activates int
	active    bool // the last Activate stands
	closing   bool
	callGone  bool // or the connection of a dynamic subscriber
	started   int
	ended     *Record

	accounts  int  // AccountStarts
	accounted bool // one was answered well
	waiting   bool // one was not answered yet
	reported  Counters
	shaping   bool
	changes   []uint64 // tokens without their Changed

	// Of those that are handed on. They hold places without an address.
	handed    bool
	held0     bool
	dialling  bool
	cancelled bool
	far       CallKey
	farUp     bool
	maySpeak  bool // the LNS

	// Of dynamic subscribers.
	conn      uint32
	asking    bool
	admitted  bool // Admit stands
	connected bool
	left      bool
}

const (
	testUser     = "alice"
	testPassword = "correct horse"
	otherUser    = "bob"
)

var (
	testGateway = netip.MustParseAddr("10.1.0.1")
	testAddress = netip.MustParseAddr("10.1.0.2")
	testRemote  = netip.MustParseAddrPort("198.51.100.7:4500")
	reasonWord  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
)

func testConfig() Config {
	return Config{
		Router: "outside", FirstID: 1, Switching: true,
		Link: pppd.Config{
			MRU: 1400, Name: "test", Auth: []pppd.AuthProtocol{pppd.AuthMSCHAPv2, pppd.AuthCHAPMD5, pppd.AuthPAP},
			EchoInterval: 30 * time.Second, EchoFailures: 3,
		},
		Profiles:     map[string]IPProfile{"users": {Name: "users", Terminating: "inside", Gateway: testGateway, Pool: "main"}},
		HostProfiles: map[string]HostProfile{"any/default": {IPProfile: "users"}},
		Tunnels: map[string]TunnelProfile{
			"staff": {Name: "staff", IPProfile: "users", XAuth: true},
			"few":   {Name: "few", IPProfile: "users", XAuth: true, MaxSubscribers: 2, Attempts: 1},
			"boxes": {Name: "boxes", IPProfile: "users"},
		},
	}
}

func newBed(t failer) *bed {
	return &bed{
		t: t, e: New(testConfig(), rand.NewChaCha8([32]byte{1})), now: time.Unix(1_800_000_000, 0),
		peers: map[CallKey]*peer{}, calls: map[ID]*ledger{}, conns: map[uint32]bool{},
		method: aaa.NewLocal([]aaa.User{{Name: testUser, Password: []byte(testPassword)}, {Name: otherUser, Password: []byte(testPassword)}}),
	}
}

func (b *bed) note(format string, args ...any) { b.log = append(b.log, fmt.Sprintf(format, args...)) }

// step feeds one event and lets the frames that follow go to and fro.
func (b *bed) step(ev Event) {
	b.t.Helper()
	for _, f := range b.e.Step(b.now, ev) {
		b.perform(f)
	}
	b.deliver()
}

// deliver carries frames until none is on its way.
func (b *bed) deliver() {
	if b.busy {
		return
	}
	b.busy = true
	for len(b.wire) > 0 {
		f := b.wire[0]
		b.wire = b.wire[1:]
		f()
	}
	b.busy = false
}

// connUp brings an IPsec connection and a tunnel of the same number.
func (b *bed) connUp(conn uint32) {
	b.conns[conn] = true
	b.step(ConnUp{Conn: conn, Remote: testRemote, Peer: "Windows 11", ESP: ESP{Encap: true, Align: 16, IV: 16, ICV: 12}})
}

// connDown ends it as IKE does.
func (b *bed) connDown(conn uint32, reason string) {
	delete(b.conns, conn)
	b.step(ConnDown{Conn: conn, Reason: reason, Text: "gone"})
}

// callUp brings a session; its number is the call's. The subscriber connects when speak is called.
func (b *bed) callUp(call CallKey, conn uint32) ID {
	b.t.Helper()
	return b.callFrom(call, conn, netip.MustParseAddrPort("198.51.100.7:1701"))
}

func (b *bed) callFrom(call CallKey, conn uint32, remote netip.AddrPort) ID {
	b.t.Helper()
	id := b.e.nextID
	b.calls[id] = &ledger{call: call}
	b.step(CallUp{
		Call: call, PeerTunnel: 1, PeerSession: 1, Conn: conn, Remote: remote,
		Profile: "any", HostProfile: "default", PeerHost: "PC",
	})
	return id
}

// speak puts a subscriber at the other end of a call, in place of the one that was there, and
// waits until our Configure-Request has been repeated.
func (b *bed) speak(call CallKey, user string) *peer {
	b.serie++
	p := &peer{call: call, link: pppd.NewLink(pppd.Config{Dialer: &pppd.Dialer{User: user, Password: pppd.Secret(testPassword), EAP: b.eap}}, rand.NewChaCha8([32]byte{2, byte(b.serie)}))}
	b.peers[call] = p
	b.peerStep(p, pppd.Open{})
	b.pass(4 * time.Second)
	return p
}

func (b *bed) peerStep(p *peer, ev pppd.Event) {
	b.t.Helper()
	for _, f := range p.link.Step(b.now, ev) {
		switch f := f.(type) {
		case pppd.Send:
			b.wire = append(b.wire, func() {
				if b.mute || b.peers[p.call] != p {
					return
				}
				if other := b.across(p.call); other != nil { // in the kernel
					b.peerStep(other, pppd.Frame(f))
				} else {
					b.step(Frame{Call: p.call, Data: append([]byte{byte(f.Protocol >> 8), byte(f.Protocol)}, f.Data...)})
				}
			})
		case pppd.Authenticate:
			b.wire = append(b.wire, func() { b.lnsDecides(p, f.Request) })
		case pppd.NetworkUp:
			p.up = f
		case pppd.Down:
			p.down = &f
			if p.lns {
				b.wire = append(b.wire, func() { b.lnsEnds(p) })
			}
		}
	}
	b.deliver()
}

// pass lets time go by, with everybody's timers.
func (b *bed) pass(d time.Duration) {
	b.t.Helper()
	end := b.now.Add(d)
	for range 100_000 {
		next := b.e.Deadline()
		for _, p := range b.peers {
			if t := p.link.Deadline(); !t.IsZero() && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
		if next.IsZero() || next.After(end) {
			b.now = end
			return
		}
		if next.After(b.now) {
			b.now = next
		}
		b.step(Timer{})
		for _, call := range slices.SortedFunc(maps.Keys(b.peers), compareCalls) {
			if p := b.peers[call]; p != nil {
				b.peerStep(p, pppd.Timer{})
			}
		}
	}
	b.t.Fatalf("the timers do not come to rest")
}

func compareCalls(x, y CallKey) int {
	return int(x.Tunnel)<<16 + int(x.Session) - int(y.Tunnel)<<16 - int(y.Session)
}

// perform carries out one effect and checks that it may be.
func (b *bed) perform(f Effect) {
	b.t.Helper()
	of := func(id ID) *ledger {
		l := b.calls[id]
		if l == nil || l.ended != nil {
			b.t.Fatalf("%T about session %d, which has ended or never was", f, id)
		}
		return l
	}
	switch f := f.(type) {
	case SendFrame:
		l := of(f.ID)
		if l.handed {
			b.checkRelayed(l, f)
		} else if l.callGone {
			b.t.Errorf("session %d: a frame is sent after the call has ended", f.ID)
		} else if f.InKernel != (l.open && !l.closing) {
			b.t.Errorf("session %d: a frame goes through the kernel: %t; objects exist: %t", f.ID, f.InKernel, l.open)
		}
		b.wire = append(b.wire, func() {
			if p := b.peers[f.Call]; p != nil && !b.deaf {
				b.peerStep(p, pppd.Frame{Protocol: uint16(f.Data[0])<<8 | uint16(f.Data[1]), Data: f.Data[2:]})
			}
		})
	case Decide:
		l := of(f.ID)
		if l.asked {
			b.t.Errorf("session %d: AAA is asked again before it has answered", f.ID)
		}
		if f.Again != l.held.IsValid() || l.handed {
			b.t.Errorf("session %d: Again is %t; address held: %v", f.ID, f.Again, l.held)
		}
		l.asked = true
		b.note("decide %s %s", f.Request.User, f.Request.Protocol)
		b.decides = append(b.decides, f)
	case ReleaseAddress:
		l := of(f.ID)
		if l.held0 {
			b.releasePlaces(l, f)
			return
		}
		if !l.held.IsValid() || f.Address != l.held || f.User != l.owner || f.Terminating != l.terminating() || f.Pool != l.pool() {
			b.t.Errorf("session %d: %+v released, held %v by %q", f.ID, f, l.held, l.owner)
		}
		l.held = netip.Addr{}
		b.note("release %v", f.Address)
	case OpenSession:
		l := of(f.ID)
		if l.open || l.opening || !l.held.IsValid() || f.Terminating != l.terminating() || f.Traffic != b.trafficOf(l) {
			b.t.Errorf("session %d: %+v: opened twice, or not what was granted: %+v", f.ID, f, *l)
		}
		if r := b.e.byID[f.ID].Reason; r != "" {
			b.t.Errorf("session %d: opened although it is ending by %s", f.ID, r)
		}
		l.opening = true
		b.note("open in %s mtu %d", f.Terminating, f.MTU)
		b.opens = append(b.opens, f)
	case Activate:
		l := of(f.ID)
		if !l.open || l.closing || f.Peer != l.held || f.Gateway != l.gateway() || f.Terminating != l.terminating() {
			b.t.Errorf("session %d: %+v while open %t, closing %t, held %v", f.ID, f, l.open, l.closing, l.held)
		}
		if !l.accounted {
			b.t.Errorf("session %d: traffic flows before accounting", f.ID)
		}
		l.activates++
		l.active = true
		b.note("activate %v mtu %d", f.Peer, f.MTU)
		b.activates = append(b.activates, f)
	case Deactivate:
		l := of(f.ID)
		if !l.open || l.closing || !l.active {
			b.t.Errorf("session %d: deactivated, open %t, closing %t, active %t", f.ID, l.open, l.closing, l.active)
		}
		l.active = false
		b.note("deactivate")
	case CloseSession:
		l := of(f.ID)
		if !l.open || l.closing {
			b.t.Errorf("session %d: closed without having been opened, or twice", f.ID)
		}
		l.closing = true
		b.note("close")
		b.closes = append(b.closes, f)
	case CloseCall:
		var l *ledger
		for _, c := range b.calls {
			if c.farUp && c.far == f.Call {
				b.hangUpFar(c, f)
				return
			}
			if c.call == f.Call && c.ended == nil {
				l = c
			}
		}
		if l == nil || l.callGone {
			b.t.Fatalf("call %v closed twice", f.Call)
		}
		l.callGone = true
		b.note("hang up: %s", f.Reason)
		b.lostPeer(f.Call)
		// What the L2TP engine then reports of its own end is no news.
		b.step(CallDown{Call: f.Call, Reason: "l2tp-closed"})
	case Started:
		l := of(f.Record.ID)
		l.started++
		if l.started > 1 || !l.open || !l.accounted || !l.mayStart() || f.Record.State != StateUp || f.Record.Up != b.now || f.Record.Address != l.held {
			b.t.Errorf("session %d: started %d times: %+v; record %+v", f.Record.ID, l.started, *l, f.Record)
		}
		b.note("started %s", f.Record.User)
	case Ended:
		l := of(f.Record.ID)
		if l.dialling || l.farUp || l.held0 {
			b.t.Errorf("session %d ended and leaves something at an LNS: %+v", f.Record.ID, *l)
		}
		if l.asked || l.held.IsValid() || l.opening || l.open || !l.callGone || l.waiting || l.shaping || len(l.changes) > 0 {
			b.t.Errorf("session %d ended and leaves something: %+v", f.Record.ID, *l)
		}
		if !reasonWord.MatchString(string(f.Record.Reason)) || f.Record.Text == "" {
			b.t.Errorf("session %d ended with reason %q, text %q", f.Record.ID, f.Record.Reason, f.Record.Text)
		}
		if f.Record.Ended != b.now || f.Record.Up.IsZero() != (l.started == 0) {
			b.t.Errorf("session %d ended at %v, was up at %v", f.Record.ID, f.Record.Ended, f.Record.Up)
		}
		if f.Record.Accounted != l.accounted || f.Record.Counters.atLeast(l.reported) != f.Record.Counters {
			b.t.Errorf("session %d: accounted %t, last report %+v, ended %+v", f.Record.ID, l.accounted, l.reported, f.Record)
		}
		l.ended = &f.Record
		b.note("ended: %s", f.Record.Reason)
	case DropTunnels:
		b.note("drop tunnels of %d", f.Conn)
		b.dropTunnels(f.Conn)
	case CloseConn:
		b.note("close connection %d: %s", f.Conn, f.Reason)
		b.leave(f.Conn)
	case Report:
		b.note("report: %s", f.Reason)
	default:
		b.performDynamic(f, of)
	}
}

func (b *bed) lostPeer(call CallKey) {
	if p := b.peers[call]; p != nil {
		delete(b.peers, call)
		b.peerStep(p, pppd.LowerDown{})
	}
}

// callDown ends a call as L2TP does.
func (b *bed) callDown(call CallKey, reason string) {
	b.t.Helper()
	for _, id := range slices.Sorted(maps.Keys(b.calls)) {
		if l := b.calls[id]; l.call == call && !l.callGone {
			l.callGone = true
			b.lostPeer(call)
			b.step(CallDown{Call: call, Reason: reason, Text: "the call ended", ByPeer: true})
			return
		}
	}
}

// dropTunnels ends a connection's tunnels; the bed has one per connection, of its number.
func (b *bed) dropTunnels(conn uint32) {
	for _, id := range slices.Sorted(maps.Keys(b.calls)) {
		if l := b.calls[id]; uint32(l.call.Tunnel) == conn {
			b.callDown(l.call, "ipsec-gone")
		}
	}
	b.step(TunnelDown{Tunnel: uint16(conn), Conn: conn})
}

// take removes the first element of a list.
func take[T any](list *[]T) (T, bool) {
	var x T
	if len(*list) == 0 {
		return x, false
	}
	x = (*list)[0]
	*list = (*list)[1:]
	return x, true
}

// decide answers the oldest question: for a reason other than "" with a refusal, else with
// what a list of users says.
func (b *bed) decide(refusal aaa.Reason) {
	b.t.Helper()
	f, ok := take(&b.decides)
	if !ok {
		b.t.Fatalf("nothing to decide; so far:\n%s", strings.Join(b.log, "\n"))
	}
	l := b.calls[f.ID]
	l.asked = false
	d := Decided{ID: f.ID, Decision: aaa.Decision{Reason: refusal, Text: "no"}}
	if refusal == "" {
		d.Decision = b.method.Decide(context.Background(), f.Request)
		if d.Decision.Accept {
			d.Decision.Grants, d.Decision.By = b.grants, b.by
		}
		d.Decision.SessionTimeout, d.Decision.IdleTimeout = b.timeouts[0], b.timeouts[1]
	}
	switch {
	case !d.Decision.Accept:
	case len(b.tunnels) > 0:
		d.Decision.Tunnels = b.tunnels
		if !f.Again {
			l.held0, l.owner = true, d.Decision.User
		}
	case !f.Again:
		d.Address = testAddress
		if l.call != (CallKey{1, 1}) { // others have addresses of their own
			d.Address = netip.AddrFrom4([4]byte{10, 2, byte(f.ID >> 8), byte(f.ID)})
		}
		l.held, l.owner, l.grants = d.Address, d.Decision.User, d.Decision.Grants
	}
	b.step(d)
}

// opened answers the oldest OpenSession.
func (b *bed) opened(failure Reason) {
	b.t.Helper()
	f, ok := take(&b.opens)
	if !ok {
		b.t.Fatalf("nothing to open; so far:\n%s", strings.Join(b.log, "\n"))
	}
	l := b.calls[f.ID]
	l.opening, l.open = false, failure == ""
	ev := SessionOpened{ID: f.ID, Interface: fmt.Sprint("ppp", f.ID), Ifindex: int(f.ID), Reason: failure}
	if failure != "" {
		ev = SessionOpened{ID: f.ID, Reason: failure, Text: "the kernel said no"}
	}
	b.step(ev)
}

// activated answers the oldest Activate.
func (b *bed) activated(failure Reason) {
	b.t.Helper()
	f, ok := take(&b.activates)
	if !ok {
		b.t.Fatalf("nothing to activate; so far:\n%s", strings.Join(b.log, "\n"))
	}
	ev := SessionActivated{ID: f.ID, Reason: failure}
	if failure != "" {
		ev.Text = "the kernel said no"
	}
	b.calls[f.ID].activates--
	b.step(ev)
}

// closed answers the oldest CloseSession.
func (b *bed) closed() {
	b.t.Helper()
	f, ok := take(&b.closes)
	if !ok {
		b.t.Fatalf("nothing to close; so far:\n%s", strings.Join(b.log, "\n"))
	}
	l := b.calls[f.ID]
	l.open, l.closing, l.active = false, false, false
	b.step(SessionClosed{ID: f.ID, Counters: Counters{InBytes: 11, OutBytes: 22, InPackets: 1, OutPackets: 2}})
}

// answerAll answers whatever waits, and what comes of it, favourably.
func (b *bed) answerAll() {
	b.t.Helper()
	for range 1000 {
		switch {
		case len(b.decides) > 0:
			b.decide("")
		case len(b.opens) > 0:
			b.opened("")
		case len(b.activates) > 0:
			b.activated("")
		case len(b.closes) > 0:
			b.closed()
		case len(b.asks) > 0:
			b.answer(testUser, testPassword)
		case len(b.accesses) > 0:
			b.accessOpened("")
		case len(b.leaving) > 0:
			b.left()
		case len(b.accessCloses) > 0:
			b.accessClosed()
		case len(b.reads) > 0:
			b.read(0)
		case len(b.accounts) > 0:
			b.accounted("")
		case len(b.traffics) > 0:
			b.trafficSet("")
		case len(b.dials) > 0:
			b.farUp()
		case len(b.bridges) > 0:
			b.bridged("")
		case len(b.unbridges) > 0:
			b.bridgeClosed()
		default:
			return
		}
	}
	b.t.Fatalf("the questions do not end")
}

// assertEmpty checks that every session has ended and the engine remembers nothing.
func (b *bed) assertEmpty() {
	b.t.Helper()
	for id, l := range b.calls {
		if l.ended == nil {
			b.t.Errorf("session %d has not ended: %+v", id, *l)
		}
	}
	e := b.e
	if e.Len() != 0 || len(e.Records()) != 0 || len(e.byCall) != 0 || len(e.byFar) != 0 || len(e.byConn) != 0 || len(e.admitted) != 0 {
		b.t.Errorf("the engine still has %d sessions, %d calls, dynamic subscribers %v, counted %v", e.Len(), len(e.byCall), e.byConn, e.admitted)
	}
	if len(e.conns) != len(b.conns) || len(e.timers.heap) > len(b.conns) {
		b.t.Errorf("the engine has %d connections and %d timers, want %d", len(e.conns), len(e.timers.heap), len(b.conns))
	}
}

// assertLog compares what has been done since the last call with want, one line each.
func (b *bed) assertLog(want string) {
	b.t.Helper()
	trim := func(s string) string {
		return regexp.MustCompile(`(?m)^\s+`).ReplaceAllString(strings.TrimSpace(s), "")
	}
	if got, want := strings.Join(b.log, "\n"), trim(want); got != want {
		b.t.Errorf("got\n%s\n\nwant\n%s", got, want)
	}
	b.log = nil
}

// state returns the state of the one session that lives.
func (b *bed) state(t *testing.T) State {
	t.Helper()
	r := b.e.Records()
	if len(r) != 1 {
		t.Fatalf("%d sessions, want 1", len(r))
	}
	return r[0].State
}
