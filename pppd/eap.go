package pppd

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Codes and types of EAP (RFC 3748 sections 4 and 5).
const (
	eapRequest  = 1
	eapResponse = 2
	eapSuccess  = 3
	eapFailure  = 4

	eapIdentity     = 1
	eapNotification = 2
	eapNak          = 3
	eapMD5          = 4
)

const (
	// maxEAPRounds bounds the Requests of a server in one authentication. EAP-TLS with a chain of 8 KiB on either side
	// and fragments of 500 octets takes 40; hostapd and FreeRADIUS stop at about the same number.
	maxEAPRounds = 100
	// maxEAPTimeout bounds what a server gives the peer for one answer: somebody may have to fetch a token.
	maxEAPTimeout = 2 * time.Minute
)

// startEAP asks the peer for its identity. From the answer on the server speaks, and the link passes on what it says
// without understanding it: RFC 3748 section 2.3, RFC 3579 section 2.1.
func (l *Link) startEAP() {
	a := &l.s.Auth
	a.ID++
	a.Request = packet{eapRequest, a.ID, []byte{eapIdentity}}.append(nil)
	a.Wait = l.cfg.Restart
	l.sendEAP()
}

// sendEAP sends the Request that waits for its Response; repetitions are identical (RFC 3748 section 4.1).
func (l *Link) sendEAP() {
	a := &l.s.Auth
	p, err := parsePacket(a.Request)
	if err != nil {
		return // nothing is waiting
	}
	a.Tries++
	a.Retry = l.now.Add(a.Wait)
	l.send(ProtocolEAP, p)
}

// retryEAP repeats what the peer has not reacted to. A Success is not acknowledged, and the peer has no reason to repeat
// anything that would bring it again (RFC 3748 section 4.2); pppd and Windows would wait until they give up. So it is
// repeated as well, but only until the peer shows in the network phase that it knows: see Link.receive.
func (l *Link) retryEAP() {
	a := &l.s.Auth
	if a.Tries >= l.cfg.MaxConfigure {
		return
	}
	if a.Outcome != accepted {
		l.sendEAP()
		return
	}
	a.Tries++
	a.Retry = l.now.Add(l.cfg.Restart)
	l.repeatVerdict()
}

// eapResponse hands the peer's packet to AAA. A peer does not repeat Responses of itself: a second one answers a second
// copy of a Request.
func (l *Link) eapResponse(p packet) {
	a := &l.s.Auth
	if len(p.data) == 0 {
		l.s.Counters.Malformed++
		return
	}
	if a.Request == nil || a.Pending || a.Outcome != undecided || p.id != a.ID {
		l.s.Counters.Unexpected++
		return
	}
	if a.Rounds == 0 {
		// The Request is ours. It cannot be answered by a Nak (RFC 3748 section 5.3.1), and a method begins at the server.
		if p.data[0] != eapIdentity {
			l.s.Counters.Unexpected++
			return
		}
		if !l.presented(p.data[1:]) {
			return
		}
	}
	a.Request = nil
	l.ask(AuthRequest{Protocol: AuthEAP, User: string(a.User), ID: p.id, EAP: p.append(nil)})
}

// eapContinue passes the server's next Request to the peer. One that repeats the identifier of the last is the last one
// again, by a server that had no use for the answer (RFC 3579 section 2.2).
func (l *Link) eapContinue(d AuthDecision) {
	a := &l.s.Auth
	problem := ""
	p, err := parseEAP(d.EAP)
	switch {
	case l.s.LCP.Ask.Auth != AuthEAP:
		problem = "AAA wants another round of " + l.s.LCP.Ask.Auth.String() + ", which has one"
	case err != nil:
		problem = "the server's EAP packet cannot be passed on: " + err.Error()
	case p.code != eapRequest:
		problem = fmt.Sprintf("the server goes on with EAP code %d, which is no request", p.code)
	case len(d.EAP) > int(l.peerMRU()):
		problem = fmt.Sprintf("the server's EAP packet has %d octets, the peer takes %d", len(d.EAP), l.peerMRU())
	}
	if problem != "" {
		l.refuse(Down{Reason: ReasonInternal, Text: problem}, "")
		return
	}
	if a.Rounds++; a.Rounds > maxEAPRounds {
		l.refuse(Down{Reason: ReasonAuthFailed, Text: fmt.Sprintf("the server has asked for more than %d EAP packets", maxEAPRounds)}, "")
		return
	}
	a.ID, a.Request, a.Tries = p.id, bytes.Clone(d.EAP), 0
	a.Wait, a.Deadline = l.cfg.Restart, l.now.Add(a.Remaining)
	if d.Timeout > 0 {
		// A server that gives the peer time knows why. One repetition must fit in, or the first loss would be the end.
		a.Wait = min(d.Timeout, maxEAPTimeout)
		a.Deadline = l.now.Add(max(a.Remaining, a.Wait+l.cfg.Restart))
	}
	l.sendEAP()
}

// eapVerdict looks for a contradiction between AAA's decision and the packet that came with it, and says what it is.
// The packet itself is made anew: it says nothing beyond its code, and some servers get the identifier wrong.
func eapVerdict(d AuthDecision) string {
	if len(d.EAP) == 0 {
		return ""
	}
	p, err := parseEAP(d.EAP)
	switch {
	case err != nil:
		return "the server's EAP packet cannot be read: " + err.Error()
	case d.Accept != (p.code == eapSuccess):
		return fmt.Sprintf("AAA's decision comes with EAP code %d, which contradicts it", p.code)
	}
	return ""
}

// parseEAP reads a server's EAP packet: RFC 3748 section 4. Unlike a frame it has no padding; a Request has a type, and
// nothing follows the header of a Success or Failure.
func parseEAP(b []byte) (packet, error) {
	p, err := parsePacket(b)
	if err != nil {
		return packet{}, err
	}
	switch {
	case p.code < eapRequest || p.code > eapFailure:
		return packet{}, errEAPCode
	case p.code <= eapResponse && len(p.data) == 0:
		return packet{}, errEAPType
	case packetHeader+len(p.data) != len(b), p.code > eapResponse && len(p.data) > 0:
		return packet{}, errLength
	}
	return p, nil
}

// mschapSuccess reads AAA's proof: "S=" and forty hexadecimal digits. Some servers add the text that belongs behind it
// themselves, " M=..." of RFC 2759 section 5; it is passed on. False: it is no proof.
func mschapSuccess(d AuthDecision) ([]byte, bool) {
	const size = len(mschapProofPrefix) + 2*mschapProofLen
	s := d.MSCHAPv2Response
	if len(s) < size || !strings.HasPrefix(s, mschapProofPrefix) {
		return nil, false
	}
	if _, err := hex.DecodeString(s[len(mschapProofPrefix):size]); err != nil {
		return nil, false
	}
	proof, text := s[:size], s[size:]
	switch {
	case strings.HasPrefix(text, mschapText):
		text = text[len(mschapText):]
	case d.Message != "":
		text = d.Message
	default:
		return []byte(proof), true
	}
	return append([]byte(proof+mschapText), bounded(text)...), true
}

// eapRequested answers a Request as a Dialer does, which knows EAP-MD5 only (RFC 3748 section 5.4). A repeated Request gets
// the same answer.
func (l *Link) eapRequested(p packet) {
	s, d := &l.s.Self, l.cfg.Dialer
	if len(p.data) == 0 || p.data[0] == eapNak {
		l.s.Counters.Malformed++
		return
	}
	if d == nil {
		l.s.Counters.Unexpected++
		return
	}
	if s.Response == nil || s.ID != p.id || !bytes.Equal(s.Challenge, p.data) {
		user := d.User[:min(len(d.User), maxUser)]
		var answer []byte
		switch kind := p.data[0]; kind {
		case eapIdentity:
			answer = append([]byte{eapIdentity}, user...)
		case eapNotification:
			answer = []byte{eapNotification}
		case eapMD5:
			value, _, ok := takeString(p.data[1:])
			if !ok || len(value) == 0 {
				l.s.Counters.Malformed++
				return
			}
			answer = append([]byte{eapMD5, md5ResponseLen}, chapMD5(p.id, value, d.Password)...)
			answer = append(answer, user...)
		default:
			answer = []byte{eapNak, eapMD5}
		}
		s.ID, s.Challenge, s.Response = p.id, bytes.Clone(p.data), answer
	}
	l.send(ProtocolEAP, packet{eapResponse, s.ID, s.Response})
}

// eapAnswer handles Success and Failure. A Success that comes before anything has been proven is a forgery, or from
// somebody who does not care who we are: RFC 3748 section 4.2.
func (l *Link) eapAnswer(p packet) {
	s := &l.s.Self
	if len(s.Response) == 0 || p.id != s.ID || s.Done || p.code == eapSuccess && s.Response[0] != eapMD5 {
		l.s.Counters.Unexpected++
		return
	}
	l.selfVerdict(p.code == eapSuccess, []byte("EAP failure"))
}
