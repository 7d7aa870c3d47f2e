package subscriber

import (
	"cmp"
	"fmt"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

func (e *Engine) callUp(now time.Time, ev CallUp) {
	if _, ok := e.byCall[ev.Call]; ok {
		return // the L2TP engine never reports a session twice
	}
	s := &session{Record: Record{
		ID: e.nextID, Router: e.cfg.Router, Access: aaa.AccessL2TP, Call: ev.Call,
		PeerTunnel: ev.PeerTunnel, PeerSession: ev.PeerSession, Conn: ev.Conn, Local: ev.Local, Remote: ev.Remote,
		PeerHost: ev.PeerHost, CallingNumber: ev.CallingNumber, Called: now,
	}, sequencing: ev.Sequencing}
	s.timer.session = s.ID
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
	mru := innerMTU(e.cfg.PathMTU, esp, ev.Sequencing)
	if most := e.cfg.Link.MRU; most != 0 {
		mru = min(mru, int(most))
	}
	if profile.MTU != 0 {
		mru = min(mru, profile.MTU)
	}
	s.linkMRU = uint16(mru)
	s.deadline = now.Add(peerFirst)
	e.timers.arm(&s.timer, s.deadline)
}

// peerFirst is how long a new call may be silent before we begin with PPP. Android's mtpd
// starts pppd when ICCN has been acknowledged, xl2tpd forks it then: a Configure-Request sent
// at once is lost, and costs the client the 3 s until its repetition. Whoever is ready speaks
// first; who waits for us waits a second.
const peerFirst = time.Second

// begin makes the link and opens it.
func (e *Engine) begin(now time.Time, s *session) {
	cfg := e.cfg.Link
	cfg.MRU = s.linkMRU
	s.link = pppd.NewLink(cfg, e.random)
	e.run(now, s, pppd.Open{})
}

func (e *Engine) callDown(now time.Time, ev CallDown) {
	s := e.byCall[ev.Call]
	if s == nil {
		return
	}
	e.dropCall(s)
	e.noteLost(s, Reason(ev.Reason), cmp.Or(ev.Text, "the L2TP session has ended"), ev.ByPeer)
	if !s.linkDone && s.link != nil {
		e.run(now, s, pppd.LowerDown{Reason: pppd.Reason(ev.Reason)})
		return
	}
	e.settle(now, s)
}

func (e *Engine) frame(now time.Time, ev Frame) {
	s := e.byCall[ev.Call]
	if s == nil || s.linkDone || len(ev.Data) < 2 {
		e.counts["ppp-frame-without-session"]++
		return
	}
	if s.link == nil {
		e.begin(now, s)
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
			e.networkUp(s, f)
		case pppd.NetworkDown:
			e.networkDown(s)
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
	if s.link != nil {
		s.deadline = s.link.Deadline()
	}
	e.timers.arm(&s.timer, s.deadline)
}
