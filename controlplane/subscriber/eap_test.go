package subscriber

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// eapServer is a Method that does EAP-MD5 (RFC 3748 section 5.4) as a RADIUS server does, after
// some rounds of notifications; its State says how far it is, and nothing else does.
type eapServer struct{ notifications int }

const (
	eapRequest, eapResponse, eapSuccess, eapFailure = 1, 2, 3, 4
	eapIdentity, eapNotification, eapMD5            = 1, 2, 4
)

func eapPacket(code, id uint8, data ...byte) []byte {
	n := 4 + len(data)
	return append([]byte{code, id, byte(n >> 8), byte(n)}, data...)
}

func (m eapServer) Decide(_ context.Context, r aaa.Request) aaa.Decision {
	if r.Protocol != aaa.EAP || len(r.EAP) < 5 || r.EAP[0] != eapResponse {
		return aaa.Decision{Reason: aaa.ReasonProtocol, Text: "no EAP"}
	}
	id, kind, data, round := r.EAP[1], r.EAP[4], r.EAP[5:], 0
	wrong := aaa.Decision{Reason: aaa.ReasonRefused, Text: "no", EAP: eapPacket(eapFailure, id), Message: "go away"}
	if _, err := fmt.Sscanf(string(r.State), "round %d of "+r.User, &round); (err != nil) != (len(r.State) == 0) || (len(r.State) == 0) != (kind == eapIdentity) {
		return aaa.Decision{Reason: aaa.ReasonBadAnswer, Text: fmt.Sprintf("state %q with a response of type %d", r.State, kind)}
	}
	next := func(data ...byte) aaa.Decision {
		return aaa.Decision{Round: &aaa.EAPRound{Packet: eapPacket(eapRequest, id+1, data...), State: fmt.Appendf(nil, "round %d of %s", round+1, r.User), Timeout: 5 * time.Second}}
	}
	challenge := []byte("0123456789abcdef")
	switch {
	case round < m.notifications:
		return next(eapNotification, 'x')
	case kind != eapMD5:
		return next(append([]byte{eapMD5, byte(len(challenge))}, challenge...)...)
	}
	sum := md5.Sum(append(append([]byte{id}, testPassword...), challenge...))
	if len(data) < 17 || !bytes.Equal(data[1:17], sum[:]) || r.User == "mallory" {
		return wrong
	}
	return aaa.Decision{Accept: true, User: "canonical " + r.User, EAP: eapPacket(eapSuccess, id)}
}

// eapBed asks its peers for EAP.
func eapBed(t failer, m eapServer) *bed {
	b := newBed(t)
	b.e.cfg.Link.Auth = []pppd.AuthProtocol{pppd.AuthEAP}
	b.eap, b.method = true, m
	return b
}

// TestEAP: rounds go to and fro, each with the State of the one before, until AAA decides; the
// user is whom AAA says it is, not whom the peer has claimed to be.
func TestEAP(t *testing.T) {
	b := eapBed(t, eapServer{notifications: 2})
	id := b.callUp(first, 0)
	p := b.speak(first, testUser)
	for n := range 4 {
		q := b.decides[0].Request
		if q.User != testUser || q.Protocol != aaa.EAP || q.Session != id.String() || q.Again || len(q.Password) != 0 {
			t.Errorf("round %d: AAA is asked %+v", n, q)
		}
		if s := b.state(t); s != StateDeciding {
			t.Errorf("round %d: state %v", n, s)
		}
		b.restart()
		b.mute = true // the response is lost, and AAA's request repeated
		b.decide("")
		b.restart()
		b.mute = false
		b.pass(6 * time.Second)
	}
	b.answerAll()
	b.pass(5 * time.Second)
	if p.up.Local != testAddress {
		t.Errorf("the peer got %+v", p.up)
	}
	r := b.e.Records()[0]
	if r.User != "canonical "+testUser || r.Protocol != aaa.EAP || r.State != StateUp {
		t.Errorf("record %+v", r)
	}
	if s := b.e.byID[id]; s.eap.Rounds != 0 || s.eap.State != nil {
		t.Errorf("what was AAA's is kept: %+v", s.eap)
	}
	// And once more, for the same session: a new dialogue, that begins with the identity.
	b.speak(first, testUser)
	if q := b.decides[0].Request; !q.Again || q.State != nil {
		t.Errorf("AAA is asked %+v", q)
	}
	b.answerAll()
	b.pass(5 * time.Second)
	b.answerAll()
	if s := b.state(t); s != StateUp || b.calls[id].started != 1 {
		t.Errorf("state %v, started %d times", s, b.calls[id].started)
	}
}

// TestEAPRefused: a failure in the last round is one wrong answer; those before are none.
func TestEAPRefused(t *testing.T) {
	b := eapBed(t, eapServer{notifications: 2})
	id := b.callUp(first, 0)
	p := b.speak(first, "mallory")
	for range 3 {
		b.decide("")
		if n := len(b.e.guesses.wrong); n != 0 {
			t.Fatal("a round counts as a wrong answer")
		}
	}
	b.decide("")
	b.pass(time.Minute)
	who := guesserOf(b.calls[id].ended.Remote, "mallory")
	if n := b.e.guesses.count(b.now, who); n != 0 || len(b.e.guesses.wrong) != 2 {
		// A minute halves the one.
		t.Errorf("%d wrong answers, %d entries", n, len(b.e.guesses.wrong))
	}
	if r := b.calls[id].ended; r.Reason != Reason(aaa.ReasonRefused) || p.down == nil || p.down.Reason != pppd.ReasonAuthFailed {
		t.Errorf("ended %+v, peer %+v", r, p.down)
	}
	b.assertEmpty()
}

// TestEAPWithoutEnd: neither a server nor a peer can keep the dialogue going for ever.
func TestEAPWithoutEnd(t *testing.T) {
	b := eapBed(t, eapServer{notifications: 1000})
	id := b.callUp(first, 0)
	b.speak(first, testUser)
	n := 0
	for ; len(b.decides) > 0; n++ {
		b.decide("")
	}
	b.pass(time.Minute)
	if r := b.calls[id].ended; n != maxEAPRounds+1 || r == nil || r.Reason != ReasonRounds {
		t.Errorf("after %d rounds: ended %+v", n, r)
	}
	b.assertEmpty()
}

// TestEAPRenegotiated: LCP negotiated anew in the middle begins a new dialogue, with none of the
// State of the old one, whether AAA is being asked or the peer.
func TestEAPRenegotiated(t *testing.T) {
	for _, rounds := range []int{1, 2} {
		for _, asking := range []string{"AAA", "the peer"} {
			b := eapBed(t, eapServer{notifications: 3})
			b.callUp(first, 0)
			b.speak(first, testUser)
			for range rounds {
				b.decide("")
			}
			if asking == "the peer" {
				b.mute = true // its response is lost, then it begins anew
				b.decide("")
				b.mute = false
			}
			b.speak(first, otherUser)
			b.answerAll() // the server complains of a State that belongs to another dialogue
			b.pass(5 * time.Second)
			b.answerAll()
			if r := b.e.Records(); len(r) != 1 || r[0].State != StateUp || r[0].User != "canonical "+otherUser {
				t.Errorf("%d rounds, asking %s: %+v", rounds, asking, r)
			}
		}
	}
}

// TestRoundsThatCannotBe: an EAP packet for a peer without EAP, and a further question for a user
// of PPP, are refused with typed reasons; neither is a wrong answer.
func TestRoundsThatCannotBe(t *testing.T) {
	round := aaa.Decision{Round: &aaa.EAPRound{Packet: eapPacket(eapRequest, 1, eapNotification)}}
	prompt := aaa.Decision{Prompt: &aaa.Prompt{Message: "passcode", Passcode: true}}
	for _, c := range []struct {
		kind   string
		answer aaa.Decision
		want   Reason
	}{
		{"L2TP", round, Reason(aaa.ReasonBadAnswer)},
		{"L2TP", prompt, ReasonChallenge},
		{"dynamic", round, Reason(aaa.ReasonBadAnswer)},
	} {
		b := newBed(t)
		var id ID
		if c.kind == "L2TP" {
			id = b.callUp(first, 0)
			b.speak(first, testUser)
		} else {
			id = b.dynamicUp(someone, "staff")
			b.answer(testUser, testPassword)
		}
		b.decides, b.calls[id].asked = nil, false
		c.answer.Text = "more"
		b.step(Decided{ID: id, Decision: c.answer})
		b.pass(time.Minute)
		b.answerAll()
		if r := b.calls[id].ended; r == nil || r.Reason != c.want || len(b.e.guesses.wrong) != 0 {
			t.Errorf("%s: ended %+v, %d wrong answers", c.kind, r, len(b.e.guesses.wrong))
		}
		b.assertEmpty()
	}
}

// TestAnotherUserOfTheSameIdentity: an outer identity may be everybody's; who authenticates again
// as somebody else by AAA's account loses the session.
func TestAnotherUserOfTheSameIdentity(t *testing.T) {
	b := newBed(t)
	id := b.callUp(first, 0)
	b.speak(first, testUser)
	b.answerAll()
	b.speak(first, testUser)
	b.decides, b.calls[id].asked = nil, false
	b.step(Decided{ID: id, Decision: aaa.Decision{Accept: true, User: otherUser}})
	b.pass(time.Minute)
	b.answerAll()
	if r := b.calls[id].ended; r == nil || r.Reason != ReasonUserChanged || r.User != testUser {
		t.Errorf("ended %+v", r)
	}
}
