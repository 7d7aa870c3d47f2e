package pppd

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// LCP's configuration options (RFC 1661 section 6; ACCM from RFC 1662 section 7.1). Every other one is rejected:
// quality protocol, callback (which Windows always asks for), multilink, endpoint discriminator.
const (
	lcpMRU   = 1
	lcpACCM  = 2
	lcpAuth  = 3
	lcpMagic = 5
	lcpPFC   = 7
	lcpACFC  = 8
)

// maxLoopHits is how many Configure-Requests in a row with our own magic number make a loop. By chance it is one in 2^32 each.
const maxLoopHits = 5

// LCPOptions are the options of one direction of a link.
type LCPOptions struct {
	MRU   uint16       // bytes; 0: not negotiated, which means 1500
	ACCM  uint32       // async control character map; without meaning on L2TP
	Magic uint32       // 0: none
	Auth  AuthProtocol // how the other end authenticates to the one that asks
	PFC   bool         // protocol field compression may be sent to the one that asks
	ACFC  bool         // address and control field compression likewise
}

// lcpState is what LCP remembers.
type lcpState struct {
	FSM         fsm
	Ask         LCPOptions // ours
	Taken       *taken     // what a LAC has negotiated in our place; nil: we did
	Peer        LCPOptions // the peer's, as we acknowledged them
	AuthRefused uint8      // protocols of Config.Auth that the peer has refused, bit by number
	AuthDenied  bool       // we rejected the peer's wish that we authenticate
	LoopHits    int
	PeerQuit    bool      // the peer sent a Terminate-Request while negotiating
	By          time.Time // by when LCP must be open
}

// lcp is LCP as a layer.
type lcp struct{ l *Link }

func (y lcp) protocol() uint16 { return ProtocolLCP }
func (y lcp) fsm() *fsm        { return &y.l.s.LCP.FSM }

// lcpBegin chooses what the first Configure-Request asks for.
func (l *Link) lcpBegin() {
	s := &l.s.LCP
	s.Ask = LCPOptions{Magic: l.rand32()}
	if l.cfg.MRU != defaultMRU {
		s.Ask.MRU = l.cfg.MRU
	}
	s.Ask.Auth, _ = l.nextAuth(AuthNone)
	l.lcpLimit()
}

// lcpLimit bounds one negotiation. Max-Configure alone does not: a peer that acknowledges but never asks resets it for ever.
func (l *Link) lcpLimit() {
	l.s.LCP.By = l.now.Add(2 * time.Duration(l.cfg.MaxConfigure) * l.cfg.Restart)
}

// nextAuth returns the protocol to ask for after the peer has shown that it wants hint: hint if that is allowed, else
// the first of Config.Auth that it has not refused. False: none is left although one is required.
func (l *Link) nextAuth(hint AuthProtocol) (AuthProtocol, bool) {
	usable := func(p AuthProtocol) bool {
		return p > AuthNone && p <= AuthEAP && l.s.LCP.AuthRefused&(1<<p) == 0
	}
	if usable(hint) && slices.Contains(l.cfg.Auth, hint) {
		return hint, true
	}
	for _, p := range l.cfg.Auth {
		if usable(p) {
			return p, true
		}
	}
	return AuthNone, len(l.cfg.Auth) == 0
}

func (y lcp) request(b []byte) []byte {
	a := &y.l.s.LCP.Ask
	if a.MRU != 0 {
		b = appendOption16(b, lcpMRU, a.MRU)
	}
	if a.Auth != AuthNone {
		b = option{lcpAuth, authOption(a.Auth)}.append(b)
	}
	if a.Magic != 0 {
		b = appendOption32(b, lcpMagic, a.Magic)
	}
	return b
}

// authOption is the value of the authentication option: protocol, and for CHAP the algorithm (RFC 1994 section 3, RFC 2759 section 3;
// EAP: RFC 2284 section 2.1).
func authOption(p AuthProtocol) []byte {
	switch p {
	case AuthPAP:
		return []byte{ProtocolPAP >> 8, ProtocolPAP & 0xff}
	case AuthCHAPMD5:
		return []byte{ProtocolCHAP >> 8, ProtocolCHAP & 0xff, 5}
	case AuthMSCHAPv2:
		return []byte{ProtocolCHAP >> 8, ProtocolCHAP & 0xff, 0x81}
	case AuthEAP:
		return []byte{ProtocolEAP >> 8, ProtocolEAP & 0xff}
	}
	return nil
}

// authOf reads an authentication option; AuthNone stands for those we do not know (MS-CHAPv1).
func authOf(o option) AuthProtocol {
	for _, p := range []AuthProtocol{AuthPAP, AuthCHAPMD5, AuthMSCHAPv2, AuthEAP} {
		if slices.Equal(o.data, authOption(p)) {
			return p
		}
	}
	return AuthNone
}

func (y lcp) examine(options []byte) verdict {
	l, s := y.l, &y.l.s.LCP
	if s.PeerQuit { // it has come back
		s.PeerQuit, l.s.End = false, nil
	}
	var j judge
	var looped bool
	for rest := options; len(rest) > 0; {
		var o option
		o, rest = nextOption(rest)
		switch o.kind {
		case lcpMRU:
			switch v, ok := o.uint16(); {
			case !ok:
				j.rejectOption(o)
			case v < minPeerMRU:
				j.nak, j.naked = appendOption16(j.nak, lcpMRU, minPeerMRU), o.append(j.naked)
			}
		case lcpACCM:
			if _, ok := o.uint32(); !ok {
				j.rejectOption(o)
			}
		case lcpAuth:
			switch {
			case l.cfg.Dialer == nil:
				s.AuthDenied = true
				j.rejectOption(o)
			case authOf(o) == AuthNone, authOf(o) == AuthEAP && !l.cfg.Dialer.EAP:
				j.nak, j.naked = option{lcpAuth, authOption(AuthMSCHAPv2)}.append(j.nak), o.append(j.naked)
			}
		case lcpMagic:
			switch v, ok := o.uint32(); {
			case !ok:
				j.rejectOption(o)
			case v == 0 || v == s.Ask.Magic:
				looped = looped || v != 0
				j.nak, j.naked = appendOption32(j.nak, lcpMagic, l.rand32()), o.append(j.naked)
			}
		case lcpPFC, lcpACFC:
			if len(o.data) != 0 {
				j.rejectOption(o)
			}
		default:
			j.rejectOption(o)
		}
	}
	y.countLoop(looped)
	if looped {
		// Whatever else there is to say about the options would be said to ourselves.
		return verdict{codeConfigureNak, appendOption32(nil, lcpMagic, l.rand32())}
	}
	return j.verdict(options, &s.FSM, l.cfg.MaxFailure)
}

// countLoop counts Configure-Requests that carry our own magic number: RFC 1661 section 6.4.
func (y lcp) countLoop(hit bool) {
	s := &y.l.s.LCP
	if !hit {
		s.LoopHits = 0
		return
	}
	if s.LoopHits++; s.LoopHits >= maxLoopHits {
		y.l.end(Down{Reason: ReasonLoop, Text: "the peer sends our own magic number: the link is looped back"})
	}
}

func (y lcp) accept(options []byte) {
	p := LCPOptions{ACCM: 0xffffffff} // RFC 1662 section 7.1: all mapped unless negotiated
	for len(options) > 0 {
		var o option
		o, options = nextOption(options)
		switch o.kind {
		case lcpMRU:
			p.MRU, _ = o.uint16()
		case lcpACCM:
			p.ACCM, _ = o.uint32()
		case lcpAuth:
			p.Auth = authOf(o)
		case lcpMagic:
			p.Magic, _ = o.uint32()
		case lcpPFC:
			p.PFC = true
		case lcpACFC:
			p.ACFC = true
		}
	}
	y.l.s.LCP.Peer = p
}

func (y lcp) refused(code uint8, options []byte) bool {
	l, s := y.l, &y.l.s.LCP
	ask, authHint, authRefused := s.Ask, AuthNone, false
	for len(options) > 0 {
		var o option
		o, options = nextOption(options)
		if code == codeConfigureReject {
			if !inRequest(y, o) {
				return false
			}
			switch o.kind {
			case lcpMRU:
				ask.MRU = 0
			case lcpMagic:
				ask.Magic = 0
			case lcpAuth:
				authRefused = true
			}
			continue
		}
		switch o.kind {
		case lcpMRU:
			// The peer may ask for smaller packets than we offer to take, not for larger ones.
			if v, ok := o.uint16(); ok && v >= minPeerMRU && v <= l.cfg.MRU {
				ask.MRU = v
			}
		case lcpMagic:
			if ask.Magic != 0 {
				ask.Magic = l.rand32()
			}
		case lcpAuth:
			if ask.Auth != AuthNone {
				authHint, authRefused = authOf(o), true
			}
		}
	}
	s.Ask = ask
	if authRefused {
		s.AuthRefused |= 1 << ask.Auth
		next, ok := l.nextAuth(authHint)
		if !ok {
			l.end(Down{
				Reason: ReasonAuthRefused, Text: "the peer refuses every authentication protocol that is allowed",
				Cause: DisconnectCause{causeAuthRefused, authNumber(ask.Auth), directionPeer},
			})
			return true
		}
		s.Ask.Auth = next
	}
	return true
}

// control handles LCP's own codes; RFC 1661 sections 5.7 to 5.9, RFC 1570 sections 2.1 and 2.2.
func (y lcp) control(p packet) bool {
	l := y.l
	switch p.code {
	case codeProtocolReject:
		l.protocolRejected(p)
	case codeEchoRequest, codeEchoReply, codeDiscardRequest, codeIdentification, codeTimeRemaining:
		if len(p.data) < 4 {
			l.s.Counters.Malformed++
			return true
		}
		magic, ours := binary.BigEndian.Uint32(p.data), l.s.LCP.Ask.Magic
		switch {
		case l.s.LCP.FSM.State != Opened:
		case p.code == codeEchoRequest && magic == ours && ours != 0:
			l.end(Down{Reason: ReasonLoop, Text: "an Echo-Request came back with our own magic number: the link is looped back"})
			return true
		case p.code == codeEchoReply:
			l.s.EchoMisses = 0
		}
		l.run(y, evRXR)
	default:
		return false
	}
	return true
}

// protocolRejected handles the peer's Protocol-Reject; it counts in state Opened only.
func (l *Link) protocolRejected(p packet) {
	if len(p.data) < 2 {
		l.s.Counters.Malformed++
		return
	}
	if l.s.LCP.FSM.State != Opened {
		l.s.Counters.Unexpected++
		return
	}
	switch protocol := binary.BigEndian.Uint16(p.data); {
	case protocol == ProtocolLCP:
		l.fail(Down{Reason: ReasonLCPDiverged, Text: "the peer rejects LCP", ByPeer: true})
		l.s.Phase = PhaseTerminate
		l.run(lcp{l}, evRXJminus)
		return
	case protocol == authNumber(l.s.LCP.Ask.Auth) && l.s.Phase == PhaseAuthenticate:
		l.end(Down{
			Reason: ReasonAuthRefused, Text: "the peer rejects the authentication protocol that it had agreed to", ByPeer: true,
			Cause: DisconnectCause{causeAuthRefused, protocol, directionPeer},
		})
	case protocol == ProtocolIPCP && l.s.Phase == PhaseNetwork:
		l.run(ipcp{l}, evRXJminus)
		l.end(Down{
			Reason: ReasonNetwork, Text: "the peer rejects IPCP", ByPeer: true,
			Cause: DisconnectCause{causeNoNCP, ProtocolIPCP, directionPeer},
		})
	}
	l.run(lcp{l}, evRXJplus)
}

// rejected: the peer does not know one of LCP's basic codes, and nothing works; or only echo, which we then leave.
func (y lcp) rejected(code uint8) bool {
	l := y.l
	switch {
	case code == codeEchoRequest:
		l.s.EchoOff, l.s.EchoAt = true, time.Time{}
		return true
	case code >= codeConfigureRequest && code <= codeCodeReject:
		l.fail(Down{Reason: ReasonLCPDiverged, Text: fmt.Sprintf("the peer does not know LCP code %d", code), ByPeer: true})
		l.s.Phase = PhaseTerminate
		return false
	}
	return true
}

// terminating notes why the peer ends the link. While LCP is negotiating the peer may still come back.
func (y lcp) terminating(p packet) {
	l := y.l
	s := &l.s.LCP
	l.fail(l.peerEnd(p.data))
	switch s.FSM.State {
	case Opened:
		l.s.Phase = PhaseTerminate
	case ReqSent, AckRcvd, AckSent:
		s.PeerQuit = true
		if by := l.now.Add(2 * l.cfg.Restart); by.Before(s.By) {
			s.By = by
		}
	}
}

func (y lcp) up() {
	s := &y.l.s.LCP
	s.By = time.Time{}
	y.l.startAuth()
}

// down: LCP leaves Opened, to terminate or because the peer negotiates anew.
func (y lcp) down() {
	l := y.l
	up := l.s.UpAt
	l.leaveNetwork()
	l.s.LCP.Peer, l.s.UpAt = LCPOptions{}, time.Time{}
	if l.s.Phase == PhaseTerminate {
		return
	}
	l.s.Phase = PhaseEstablish
	if l.s.LCP.Taken != nil { // from now on we ask, and not the LAC
		l.s.LCP.Taken = nil
		l.lcpBegin()
	}
	l.lcpLimit()
	l.s.Counters.Renegotiations++
	if !up.IsZero() && l.now.Sub(up) >= restartGrace {
		l.s.Restarts = 0
	}
	if l.s.Restarts++; l.s.Restarts > maxRestarts {
		l.end(Down{Reason: ReasonLCPDiverged, Text: "the peer negotiates LCP again and again"})
	}
}

// finished: This-Layer-Finished of LCP is the end of the link.
func (y lcp) finished(ev fsmEvent, from State) {
	if ev == evTOminus && from >= ReqSent {
		y.l.fail(y.l.silence())
	}
	y.l.finish()
}

func (y lcp) diverged() {
	y.l.end(Down{Reason: ReasonLCPDiverged, Text: "the LCP options of the two ends do not converge"})
}

// lcpLate ends a negotiation that goes on for too long.
func (l *Link) lcpLate() {
	if l.s.LCP.PeerQuit { // it has said goodbye, there is nobody to take leave of
		l.finish()
		return
	}
	l.end(l.silence())
}

// silence tells a peer that never spoke LCP from one that did and did not agree.
func (l *Link) silence() Down {
	if l.s.Counters.LCPIn == 0 {
		return Down{Reason: ReasonLCPTimeout, Text: "the peer does not speak LCP: no packet came"}
	}
	return Down{Reason: ReasonLCPDiverged, Text: "LCP did not open in time"}
}

// echoReply answers the Echo-Request being handled, if it is one: RFC 1661 section 5.8.
func (l *Link) echoReply() {
	p := l.in.packet
	if p.code != codeEchoRequest {
		return
	}
	if packetHeader+len(p.data) > int(l.peerMRU()) {
		l.s.Counters.Unexpected++
		return
	}
	data := binary.BigEndian.AppendUint32(make([]byte, 0, len(p.data)), l.s.LCP.Ask.Magic)
	l.send(ProtocolLCP, packet{codeEchoReply, p.id, append(data, p.data[4:]...)})
}

// echo sends the next Echo-Request, or ends the link when too many went unanswered.
func (l *Link) echo() {
	if l.s.EchoMisses >= l.cfg.EchoFailures {
		l.end(Down{Reason: ReasonKeepalive, Text: fmt.Sprintf("%d echo requests in a row were not answered", l.s.EchoMisses)})
		return
	}
	l.s.EchoMisses++
	l.s.EchoID++
	l.s.EchoAt = l.now.Add(l.cfg.EchoInterval)
	l.s.Counters.EchoRequests++
	var magic [4]byte
	binary.BigEndian.PutUint32(magic[:], l.s.LCP.Ask.Magic)
	l.send(ProtocolLCP, packet{codeEchoRequest, l.s.EchoID, magic[:]})
}
