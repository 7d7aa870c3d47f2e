package pppd

import "bytes"

// Bounds of what a LAC says that a peer has answered it, in octets. PAP's fields have a length octet (RFC 1334 section
// 2.2.1); a longer challenge RADIUS could not carry.
const (
	maxProxyPassword  = 255
	maxProxyChallenge = 253
)

// taken is an LCP negotiation that a LAC has led.
type taken struct {
	Sent, Received []byte // options of the Configure-Requests in force
}

// takeOver continues where a LAC has left off (RFC 2661 section 4.4.5): LCP is open with the options that the LAC and
// the peer have agreed on. False, and nothing has changed, when this end would not have agreed to them: LCP begins anew
// then, which any peer can be asked for (RFC 1661 section 4.3, Receive-Configure-Request in state Opened).
//
// Whether the LAC is to be believed is not for this package: who does not believe it leaves Config.Proxy nil, or its Auth
// [AuthNone].
func (l *Link) takeOver(p *Proxy) bool {
	if l.cfg.Dialer != nil || p.LastSentLCP == nil || p.LastReceivedLCP == nil {
		return false
	}
	for _, b := range [][]byte{p.LastSentLCP, p.LastReceivedLCP} {
		if len(b) > maxPacket-packetHeader || checkOptions(b) != nil {
			return false
		}
	}
	ask, ok := l.proxyAsk(p.LastSentLCP)
	if !ok {
		return false
	}
	s := &l.s.LCP
	s.Ask = ask
	if (lcp{l}).examine(p.LastReceivedLCP).code != codeConfigureAck {
		*s = lcpState{}
		return false
	}
	lcp{l}.accept(p.LastReceivedLCP)
	s.FSM.State, s.FSM.Answered = Opened, true
	s.Taken = &taken{bytes.Clone(p.LastSentLCP), bytes.Clone(p.LastReceivedLCP)}
	// A Challenge of ours must not have the identifier of the LAC's (RFC 1994 section 4.1).
	l.s.Auth.ID = p.ID
	if r, ok := l.proxied(p); ok {
		l.startProxied(r)
	} else {
		l.startAuth()
	}
	return true
}

// proxyAsk reads what the LAC asked of the peer. It is ours from now on, so it must be what we can do with: packets that
// can be received, an authentication that we want, and nothing unknown, such as multilink, whose frames we could not
// read. Compressed headers can be read, although we never ask for them.
//
// Up to 1500 octets can be received whatever Config.MRU says (RFC 1661 section 6.1). LACs of access networks ask for 1492,
// which is more than fits a path of 1500 in L2TP: what we send is smaller (NetworkUp.MTU), and the peer's largest packets
// come in fragments of the LAC, as they would have from any other LNS.
func (l *Link) proxyAsk(options []byte) (a LCPOptions, ok bool) {
	mru, seen := uint16(defaultMRU), map[uint8]bool{}
	for len(options) > 0 {
		var o option
		o, options = nextOption(options)
		good := true
		if seen[o.kind] {
			return LCPOptions{}, false // whose values differ, perhaps
		}
		seen[o.kind] = true
		switch o.kind {
		case lcpMRU:
			mru, good = o.uint16()
			a.MRU = mru
		case lcpACCM:
			a.ACCM, good = o.uint32()
		case lcpAuth:
			a.Auth = authOf(o)
			good = a.Auth != AuthNone
		case lcpMagic:
			a.Magic, good = o.uint32()
			good = good && a.Magic != 0
		case lcpPFC:
			a.PFC, good = true, len(o.data) == 0
		case lcpACFC:
			a.ACFC, good = true, len(o.data) == 0
		default:
			good = false
		}
		if !good {
			return LCPOptions{}, false
		}
	}
	hint, ok := l.nextAuth(a.Auth)
	return a, ok && hint == a.Auth && mru >= minPeerMRU && mru <= defaultMRU
}

// proxied is the question to AAA that follows from what the peer has answered the LAC; false: it has answered nothing that
// can be used, and is asked again. MS-CHAP and EAP are always asked again: RFC 2661 has no number for them but MS-CHAPv1's.
func (l *Link) proxied(p *Proxy) (AuthRequest, bool) {
	r := AuthRequest{Protocol: p.Auth, User: p.User, ID: p.ID}
	if p.Auth != l.s.LCP.Ask.Auth || len(p.User) > maxUser {
		return r, false
	}
	switch p.Auth {
	case AuthPAP:
		r.Password = Secret(bytes.Clone(p.Response))
		return r, len(p.Response) <= maxProxyPassword
	case AuthCHAPMD5:
		r.Challenge, r.Response = bytes.Clone(p.Challenge), bytes.Clone(p.Response)
		return r, len(p.Response) == md5ResponseLen && len(p.Challenge) > 0 && len(p.Challenge) <= maxProxyChallenge
	}
	return r, false
}

// startProxied begins the authentication phase with an answer that is there already. The verdict goes to the peer from
// here: the LAC hands the call on before it has said anything (RFC 2661 section 4.4.5, Proxy Authen Type).
func (l *Link) startProxied(r AuthRequest) {
	l.s.Phase = PhaseAuthenticate
	a := &l.s.Auth
	a.Challenge, a.User = bytes.Clone(r.Challenge), []byte(r.User)
	a.Deadline = l.now.Add(l.cfg.AuthTimeout)
	l.s.Self.Done = true
	l.ask(r)
}

// Handover ends the link without a word to the peer, for another LNS to go on with it, and returns what that one has
// to be told. It is possible while AAA has a question about the peer and LCP is as it was when the question was put:
// AAA's answer has come, and is not given to the link but says that the peer belongs elsewhere. No Down follows, nor any other
// effect. False, and the link goes on: the peer has negotiated anew since, or the link is on its way down; the answer is then
// given to it by AuthDecision as always, which the link disregards.
//
// Auth says how the peer has answered even where an LNS cannot be told, which has to ask again: with AuthMSCHAPv2 and AuthEAP
// there is neither Challenge nor Response. After RestoreLink the answer is not known any more, and Auth is AuthNone.
func (l *Link) Handover() (Proxy, bool) {
	a, s := &l.s.Auth, &l.s.LCP
	if l.s.Done || l.s.Phase != PhaseAuthenticate || s.FSM.State != Opened || !a.Pending || a.Stale || l.cfg.Dialer != nil {
		return Proxy{}, false
	}
	p := Proxy{User: string(a.User), ID: a.ID}
	if s.Taken != nil {
		p.LastSentLCP, p.LastReceivedLCP = s.Taken.Sent, s.Taken.Received
	} else {
		p.LastSentLCP = lcp{l}.request([]byte{})
		p.LastReceivedLCP = append([]byte{}, s.FSM.Acked...)
	}
	if r := l.asked; r != nil {
		p.Auth = r.Protocol
		switch r.Protocol {
		case AuthPAP:
			p.Response = r.Password
		case AuthCHAPMD5:
			p.Challenge, p.Response = r.Challenge, Secret(r.Response)
		}
	}
	l.s.Done, l.s.Phase, l.asked = true, PhaseDead, nil
	return p, true
}
