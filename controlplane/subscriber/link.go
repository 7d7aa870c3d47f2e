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
		Router: e.cfg.Router, Access: aaa.AccessL2TP, Call: ev.Call,
		PeerTunnel: ev.PeerTunnel, PeerSession: ev.PeerSession, Conn: ev.Conn, Local: ev.Local, Remote: ev.Remote,
		PeerHost: ev.PeerHost, LocalHost: ev.LocalHost, CallingNumber: ev.CallingNumber, CalledNumber: ev.CalledNumber, TxSpeed: ev.TxSpeed, RxSpeed: ev.RxSpeed,
		SingleShot: ev.SingleShot, Called: now,
	}, sequencing: ev.Sequencing, said: said{SubAddress: ev.SubAddress, PrivateGroup: ev.PrivateGroup}}
	e.add(s)
	e.byCall[s.Call] = s
	var esp *ESP
	if c := e.conns[ev.Conn]; ev.Conn != 0 && c != nil {
		s.Access, s.Peer, esp = aaa.AccessL2TPIPsec, c.Peer, &c.ESP
		if c.reported() {
			s.Remote = c.Remote // the address and port after NAT, not L2TP's
		}
		c.calls[s.Call] = true
	}
	host := e.cfg.HostProfiles[ev.Profile+"/"+ev.HostProfile]
	s.said.Carrier = host.Carrier
	profile, ok := e.cfg.Profiles[host.IPProfile]
	if !ok {
		e.end(now, s, ReasonNoProfile, fmt.Sprintf("host profile %s/%s has no IP profile", ev.Profile, ev.HostProfile), false)
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
	if p := host.takesOver(ev.Proxy); p != nil {
		e.beginLink(now, s, p) // the peer waits for us: it has done its part with the LAC
		return
	}
	s.begin = now.Add(peerFirst)
	e.arm(s)
}

// takesOver is what is believed of a LAC's negotiation with the peer (G10); nil: PPP begins anew. Without its LCP the answer
// of the peer to the LAC is worth nothing: it negotiates, and so authenticates, with us.
func (h HostProfile) takesOver(p *pppd.Proxy) *pppd.Proxy {
	if p == nil || !h.ProxyLCP || p.LastReceivedLCP == nil {
		return nil
	}
	if h.ProxyAuth {
		return p
	}
	return &pppd.Proxy{LastSentLCP: p.LastSentLCP, LastReceivedLCP: p.LastReceivedLCP}
}

// peerFirst is how long a new call may be silent before we begin with PPP. Android's mtpd
// starts pppd when ICCN has been acknowledged, xl2tpd forks it then: a Configure-Request sent
// at once is lost, and costs the client the 3 s until its repetition. Whoever is ready speaks
// first; who waits for us waits a second.
const peerFirst = time.Second

// beginLink makes the link and opens it; proxy is what a LAC has negotiated already, nil for nothing.
func (e *Engine) beginLink(now time.Time, s *session, proxy *pppd.Proxy) {
	cfg := e.cfg.Link
	cfg.MRU, cfg.Proxy, s.begin = s.linkMRU, proxy, time.Time{}
	s.link = pppd.NewLink(cfg, e.random)
	e.run(now, s, pppd.Open{})
}

func (e *Engine) callDown(now time.Time, ev CallDown) {
	s := e.byCall[ev.Call]
	if s == nil {
		return
	}
	e.dropCall(s)
	if s.far != nil {
		s.Cause = ev.Cause // which the LNS is told
	}
	e.noteLost(s, Reason(ev.Reason), cmp.Or(ev.Text, "the L2TP session has ended"), ev.ByPeer)
	if !s.over && s.link != nil {
		e.run(now, s, pppd.LowerDown{Reason: pppd.Reason(ev.Reason)})
		return
	}
	e.settle(now, s)
}

func (e *Engine) frame(now time.Time, ev Frame) {
	s := e.byCall[ev.Call]
	if s == nil {
		s = e.byFar[ev.Call]
	}
	if s == nil || s.over || len(ev.Data) < 2 {
		e.counts["ppp-frame-without-session"]++
		return
	}
	if s.far != nil {
		e.relay(now, s, ev)
		return
	}
	if s.link == nil {
		e.beginLink(now, s, nil)
	}
	e.run(now, s, pppd.Frame{Protocol: uint16(ev.Data[0])<<8 | uint16(ev.Data[1]), Data: ev.Data[2:]})
}

// run feeds one event to a session's link and carries out what it wants.
func (e *Engine) run(now time.Time, s *session, ev pppd.Event) {
	for _, f := range s.link.Step(now, ev) {
		switch f := f.(type) {
		case pppd.Send:
			if !s.carrierGone {
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
			s.over, s.Cause = true, f.Cause
			if c, ours := causeOf(s.Reason); ours {
				s.Cause = c
			}
			e.note(s, Reason(f.Reason), f.Text, f.ByPeer)
		}
	}
	if s.over {
		e.settle(now, s)
		return
	}
	if s.eap.Rounds > 0 && s.link.Info().Phase != pppd.PhaseAuthenticate {
		s.eap = eapDialogue{} // it is over, or LCP is negotiated anew and EAP begins with the identity
	}
	e.arm(s)
}

// causeOf is what a LAC is told (F3, RFC 3145) about an end that was decided outside the link:
// it knows no cause for these reasons.
func causeOf(r Reason) (c pppd.DisconnectCause, ours bool) {
	switch r {
	case ReasonSessionTimeout, ReasonIdleTimeout, ReasonReplaced:
		return pppd.NormalCause(false), true // the operator's rules ended it, and nothing failed
	case ReasonAdmin, ReasonRADIUS, ReasonShutdown, ReasonReconfigured, ReasonRouterRemoved:
		return pppd.Cause(pppd.ReasonAdmin), true
	}
	return pppd.DisconnectCause{}, false
}
