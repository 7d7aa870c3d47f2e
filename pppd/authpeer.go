package pppd

import (
	"bytes"
	"crypto/subtle"
	"time"
)

const (
	mschapProofPrefix = "S="
	mschapText        = " M="
	mschapProofLen    = 20 // bytes, twice as many hexadecimal digits
)

// selfState is the peer's side of authentication: we prove ourselves, with Config.Dialer. The protocol is LCP's Peer.Auth.
type selfState struct {
	Done      bool // the other end is satisfied, or asks nothing
	ID        uint8
	Challenge []byte // what Response answers: CHAP's value, or all of an EAP Request's data
	Response  []byte // the CHAP or EAP packet's data
	Expect    []byte // the proof that an MS-CHAPv2 authenticator owes us
	Tries     int
	Retry     time.Time
}

// startSelf begins our own authentication: PAP speaks first, CHAP and EAP wait to be asked.
func (l *Link) startSelf() {
	if l.s.LCP.Peer.Auth == AuthPAP {
		l.retrySelf()
	}
}

// retrySelf sends, again, what we present. RFC 1994 section 4.2 has the authenticator take repeated Responses, so that a
// lost Success does no harm. EAP leaves all repeating to the authenticator (RFC 3748 section 4.3).
func (l *Link) retrySelf() {
	s := &l.s.Self
	if s.Done || s.Tries >= l.cfg.MaxConfigure || l.cfg.Dialer == nil || l.s.LCP.Peer.Auth == AuthEAP {
		return
	}
	s.Tries++
	s.Retry = l.now.Add(l.cfg.Restart)
	if l.s.LCP.Peer.Auth != AuthPAP {
		l.send(ProtocolCHAP, packet{chapResponse, s.ID, s.Response})
		return
	}
	d := l.cfg.Dialer
	user, password := d.User[:min(len(d.User), 255)], d.Password[:min(len(d.Password), 255)]
	data := append([]byte{uint8(len(user))}, user...)
	data = append(append(data, uint8(len(password))), password...)
	s.ID++
	l.send(ProtocolPAP, packet{papRequest, s.ID, data})
}

// papAnswer handles Authenticate-Ack and -Nak.
func (l *Link) papAnswer(p packet) {
	s := &l.s.Self
	if s.Done || p.id != s.ID {
		l.s.Counters.Unexpected++
		return
	}
	message, _, _ := takeString(p.data) // a peer that leaves the message out is understood all the same
	l.selfVerdict(p.code == papAck, message)
}

// chapChallenge answers a Challenge, also one that comes while the link is up. A repeated one gets the same answer.
func (l *Link) chapChallenge(p packet) {
	s, d := &l.s.Self, l.cfg.Dialer
	value, _, ok := takeString(p.data)
	ms := l.s.LCP.Peer.Auth == AuthMSCHAPv2
	if !ok || len(value) == 0 || ms && len(value) != msChallengeLen {
		l.s.Counters.Malformed++
		return
	}
	if d == nil {
		l.s.Counters.Unexpected++
		return
	}
	if s.Response == nil || s.ID != p.id || !bytes.Equal(s.Challenge, value) {
		user := d.User[:min(len(d.User), maxUser)]
		response := chapMD5(p.id, value, d.Password)
		s.Expect = nil
		if ms {
			var own [msChallengeLen]byte
			l.rand(own[:])
			var expect string
			response, expect = respondMSCHAPv2(user, value, own[:], d.Password)
			s.Expect = []byte(expect)
		}
		s.ID, s.Challenge = p.id, bytes.Clone(value)
		s.Response = append(append([]byte{uint8(len(response))}, response...), user...)
	}
	s.Tries, s.Retry = 0, time.Time{}
	if s.Done {
		l.send(ProtocolCHAP, packet{chapResponse, s.ID, s.Response})
		return
	}
	l.retrySelf()
}

// chapAnswer handles Success and Failure.
func (l *Link) chapAnswer(p packet) {
	s := &l.s.Self
	if s.Response == nil || p.id != s.ID {
		l.s.Counters.Unexpected++
		return
	}
	if p.code == chapSuccess && s.Expect != nil {
		got := p.data[:min(len(p.data), len(s.Expect))]
		if subtle.ConstantTimeCompare(got, s.Expect) != 1 {
			l.end(Down{
				Reason: ReasonAuthFailed, Text: "the peer claims success but does not prove that it knows the password",
				Cause: DisconnectCause{causeAuthFailed, ProtocolCHAP, directionPeer},
			})
			return
		}
	}
	if s.Done && p.code == chapSuccess {
		return // a challenge in the network phase
	}
	l.selfVerdict(p.code == chapSuccess, p.data)
}

func (l *Link) selfVerdict(ok bool, message []byte) {
	s := &l.s.Self
	if !ok {
		l.end(Down{
			Reason: ReasonAuthFailed, Text: "the peer refuses us: " + printable(message), ByPeer: true,
			Cause: DisconnectCause{causeAuthFailed, authNumber(l.s.LCP.Peer.Auth), directionLocal},
		})
		return
	}
	s.Done, s.Retry = true, time.Time{}
	l.authAdvance()
}
