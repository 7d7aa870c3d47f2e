package subscriber

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// handover is what a session has that is handed on to another LNS (tunnel switching) in the place of a link: a call there,
// and a bridge between the two calls. PPP goes on between the peer and that LNS; nothing of it ends here any more.
//
// The peer has not been told yet that it is in: the LNS answers it, if it takes the proxied authentication, and else
// negotiates LCP anew (RFC 2661 section 4.4.5), as Cisco's and Juniper's do by configuration, and pppd behind
// xl2tpd always. Its exported fields are those of the snapshot.
type handover struct {
	Dialling bool      // a Dial is without its FarUp or FarFailed
	DialBy   time.Time // until when we wait for it; zero: it was cancelled, or is none
	Late     bool      // it was cancelled because that has passed
	Up       bool      // the call to the LNS lives
	Ends     CallEnds  // of it

	left  []aaa.Tunnel // LNSs that were not tried yet, in their order; they hold secrets
	proxy pppd.Proxy   // may hold a password
	text  string       // why the last one did not take the session
}

// dialTimeout is how long one LNS may take for a call. A peer waits some 30 s for the answer to its authentication, and
// there may be a second LNS to try.
const dialTimeout = 10 * time.Second

// handOn has a session that AAA has accepted go on at one of the LNSs that AAA has named. There it gets its
// address: of what AAA has granted only timeouts, interim interval and Class mean something here.
func (e *Engine) handOn(now time.Time, s *session, ev Decided) {
	d := ev.Decision
	if s.leased {
		e.end(now, s, ReasonUserChanged, fmt.Sprintf("user %q has authenticated again and now belongs to another LNS", s.User), false)
		return
	}
	if !e.cfg.Switching {
		e.giveBack(s, ev)
		e.refusePeer(now, s, aaa.Decision{Reason: aaa.Reason(ReasonSwitchingOff), Text: fmt.Sprintf("AAA hands user %q on to another LNS, and tunnel switching is not enabled", cmp.Or(d.User, s.login))})
		return
	}
	proxy, ok := s.link.Handover()
	if !ok { // LCP is on its way down
		e.giveBack(s, ev)
		e.run(now, s, pppd.AuthDecision{})
		return
	}
	s.link, s.eap = nil, eapDialogue{}
	s.User, s.leased, s.By, s.Class = cmp.Or(d.User, s.login), true, d.By, d.Class
	s.Terminating = s.Router
	s.Gateway, s.granted = netip.Addr{}, aaa.Grants{}
	s.SessionTimeout, s.IdleTimeout, s.IdleIngress = s.longest(d.SessionTimeout), d.IdleTimeout, d.IdleIngress
	s.Interim = e.interim(d.Interim)
	s.State = StateOpening
	s.far = &handover{left: inOrder(s.ID, d.Tunnels), proxy: proxy}
	e.dialNext(now, s)
}

// dialNext calls the next LNS, or ends the session if there is none left.
func (e *Engine) dialNext(now time.Time, s *session) {
	f := s.far
	i := e.choose(now, s.ID, f.left)
	if i < 0 {
		e.end(now, s, ReasonUnreachable, cmp.Or(f.text, "no LNS has answered lately"), false)
		return
	}
	t := f.left[i]
	f.left = append(f.left[:i:i], f.left[i+1:]...)
	t.PrivateGroup = cmp.Or(t.PrivateGroup, s.said.PrivateGroup)
	s.Server = t.Server
	f.Dialling, f.Late, f.DialBy = true, false, now.Add(dialTimeout)
	e.emit(Dial{
		Ref: uint64(s.ID), Target: t, Proxy: f.proxy, CallingNumber: s.CallingNumber, CalledNumber: s.CalledNumber, SubAddress: s.said.SubAddress,
		TxSpeed: s.TxSpeed, RxSpeed: s.RxSpeed, Timeout: dialTimeout,
	})
	e.arm(s)
}

// dialLate gives up a call that takes too long. The next LNS is called when that is confirmed.
func (e *Engine) dialLate(s *session) {
	s.far.DialBy, s.far.Late = time.Time{}, true
	e.emit(CancelDial{Ref: uint64(s.ID)})
}

// dialled returns the session of an answer to Dial; nil: nobody waits for it.
func (e *Engine) dialled(ref uint64) *session {
	s := e.byID[ID(ref)]
	if s == nil || s.far == nil || !s.far.Dialling {
		e.counts[CountUnasked]++
		return nil
	}
	s.far.Dialling, s.far.DialBy = false, time.Time{}
	return s
}

func (e *Engine) farUp(now time.Time, ev FarUp) {
	s := e.dialled(ev.Ref)
	if s == nil {
		e.emit(CloseCall{Call: ev.Call, Reason: ReasonAdmin, Text: "nobody waits for the call"})
		return
	}
	s.far.Up, s.Far, e.byFar[ev.Call] = true, ev.Call, s
	s.far.Ends = CallEnds{Call: ev.Call, PeerTunnel: ev.PeerTunnel, PeerSession: ev.PeerSession, Sequencing: ev.Sequencing}
	s.far.left, s.far.proxy = nil, pppd.Proxy{}
	e.answered(s.Server)
	if s.over {
		e.settle(now, s)
		return
	}
	s.State = StateActivating
	if e.account(s) {
		e.bridge(s)
	}
}

// farFailed goes on with the next LNS.
func (e *Engine) farFailed(now time.Time, ev FarFailed) {
	if s := e.byID[ID(ev.Ref)]; s != nil && s.far != nil && s.far.Up { // it took the call, and changed its mind
		e.farDown(now, FarDown{Call: s.Far, Reason: ev.Reason, Text: ev.Text})
		return
	}
	s := e.dialled(ev.Ref)
	if s == nil {
		return
	}
	f := s.far
	switch {
	case ev.Silent || f.Late:
		e.wasSilent(now, s.Server)
	case s.over: // it was us who gave it up
		e.gaveUp(s.ID, s.Server)
	default:
		e.answered(s.Server)
	}
	if s.over {
		e.settle(now, s)
		return
	}
	f.text = fmt.Sprintf("LNS %v: %s", s.Server, cmp.Or(ev.Text, string(ev.Reason)))
	if f.Late {
		f.text = fmt.Sprintf("LNS %v has not taken the call within %v", s.Server, dialTimeout)
	}
	e.dialNext(now, s)
}

// bridge has the two calls joined in the kernel; accounting has started before. The LNS begins to speak after that
// (ConnectFar), because what it says once, such as that the peer is in, must not meet kernel sessions that are half made.
func (e *Engine) bridge(s *session) {
	s.kernel = kernelOpening
	e.emit(Bridge{
		ID: s.ID, Near: CallEnds{Call: s.Call, PeerTunnel: s.PeerTunnel, PeerSession: s.PeerSession, Sequencing: s.sequencing}, Far: s.far.Ends,
	})
}

func (e *Engine) bridged(now time.Time, ev Bridged) {
	s := e.byID[ev.ID]
	if s == nil || s.far == nil || s.kernel != kernelOpening {
		e.counts[CountUnasked]++
		return
	}
	if ev.Reason != "" {
		s.kernel = kernelNone
		e.end(now, s, ev.Reason, ev.Text, false)
		return
	}
	s.kernel = kernelOpen
	if s.over {
		e.settle(now, s)
		return
	}
	e.emit(ConnectFar{Call: s.Far})
	e.up(now, s)
}

// relay passes a control frame that came up to the process on to the other call. The LNS says nothing before the bridge is
// there, and what the peer says until then it repeats, unless it hangs up. Each frame that comes in makes one that goes out, and
// nothing is kept. User data has to wait for the bridge, because only that counts it.
func (e *Engine) relay(now time.Time, s *session, ev Frame) {
	to := s.Far
	if ev.Call == s.Far {
		to = s.Call
	}
	control := ev.Data[0] >= 0x80
	switch {
	case control && s.far.Up:
		e.emit(SendFrame{ID: s.ID, Call: to, Data: bytes.Clone(ev.Data)})
	case !s.far.Up && isTerminateRequest(ev.Data):
		ack := append([]byte(nil), ev.Data[:lcpHead]...)
		ack[2], ack[4], ack[5] = lcpTerminateAck, 0, lcpHead-2
		e.emit(SendFrame{ID: s.ID, Call: s.Call, Data: ack})
		s.Cause = pppd.NormalCause(true)
		e.end(now, s, Reason(pppd.ReasonUserRequest), "the peer has hung up before an LNS took the call", true)
	default:
		e.counts[CountNotRelayed]++
	}
}

// An LCP packet with its protocol number in front (RFC 1661 section 5.5): code, identifier, length.
const (
	lcpHead             = 6
	lcpTerminateRequest = 5
	lcpTerminateAck     = 6
)

func isTerminateRequest(frame []byte) bool {
	return len(frame) >= lcpHead && frame[0] == pppd.ProtocolLCP>>8 && frame[1] == pppd.ProtocolLCP&0xff && frame[2] == lcpTerminateRequest
}

// farDown ends the session: the LNS has hung up, or cannot be reached any more.
func (e *Engine) farDown(now time.Time, ev FarDown) {
	s := e.byFar[ev.Call]
	if s == nil {
		return
	}
	delete(e.byFar, ev.Call)
	s.far.Up, s.Cause = false, ev.Cause
	reason := ev.Reason
	if ev.Cause == pppd.NormalCause(true) {
		reason = Reason(pppd.ReasonUserRequest) // PPP's end is seen there only
	}
	// The reasons are those of the near call: the sentence tells which end it was. It reaches the client, which need not know where
	// the LNS is.
	text := "the call to the LNS has ended"
	if ev.Text != "" {
		text += ": " + ev.Text
	}
	e.end(now, s, reason, text, ev.ByPeer)
}

// leaveFar ends the call to the LNS, once: it hears what the near call's end was.
func (e *Engine) leaveFar(s *session) {
	switch f := s.far; {
	case f.Up:
		f.Up = false
		delete(e.byFar, s.Far)
		e.emit(CloseCall{Call: s.Far, Reason: s.Reason, Cause: s.Cause, Text: s.Text})
	case f.Dialling && !f.DialBy.IsZero():
		f.DialBy = time.Time{}
		e.emit(CancelDial{Ref: uint64(s.ID)})
	}
}
