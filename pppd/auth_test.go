package pppd

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestPAPQuestionAndVerdict(t *testing.T) {
	s := newScript(t, pap())
	s.openLCP("\x01\x04\x05\x78" + peerMagic)
	if s.wait(20 * time.Second); s.frames() != 0 {
		t.Errorf("PAP's authenticator speaks first: %v", s.out)
	}
	s.frame(ProtocolPAP, papRequest, 5, []byte("\x05al\x00ce\x03p\xffw")...)
	r := s.asked()
	if r.Protocol != AuthPAP || r.User != "al\x00ce" || string(r.Password) != "p\xffw" || r.PeerMRU != 1400 {
		t.Errorf("%+v", r)
	}
	s.frame(ProtocolPAP, papRequest, 6, []byte("\x05al\x00ce\x03p\xffw")...) // repeated while AAA thinks
	if len(s.out) != 0 {
		t.Errorf("%v", s.out)
	}
	if s.wait(time.Hour); len(s.out) != 0 {
		t.Errorf("timers run while AAA thinks: %v", s.out)
	}
	s.step(AuthDecision{Accept: true, Message: strings.Repeat("x", 300), Network: Network{Peer: peerAddr}})
	if p := s.sent(ProtocolPAP, papAck); p.id != 6 || len(p.data) != 1+maxMessage || int(p.data[0]) != maxMessage {
		t.Errorf("%+v", p)
	}
	s.frame(ProtocolPAP, papRequest, 7, []byte("\x05other\x05guess")...)
	if p := s.sent(ProtocolPAP, papAck); p.id != 7 || s.frames() != 1 {
		t.Errorf("repeated after the verdict: %v", s.out)
	}
	if i := s.link.Info(); i.User != "al\x00ce" {
		t.Errorf("the user has become %q", i.User)
	}
	if out := s.step(AuthDecision{}); len(out) != 0 {
		t.Errorf("a decision nobody waits for: %v", out)
	}
}

// Two LNSs that challenge the same peer one after the other must not begin with the same identifier each time.
func TestFirstChallengeIdentifierIsDrawn(t *testing.T) {
	seen := map[uint8]bool{}
	for seed := range uint64(16) {
		s := &script{t: t, link: NewLink(Config{Auth: []AuthProtocol{AuthCHAPMD5}}, chaChaReader(seed)), now: epoch}
		s.step(Open{})
		s.openLCP(peerMagic)
		seen[s.sent(ProtocolCHAP, chapChallenge).id] = true
	}
	if len(seen) < 8 {
		t.Errorf("16 links begin with the identifiers %v", seen)
	}
}

func TestCHAPQuestionAndVerdict(t *testing.T) {
	s := newScript(t, Config{Auth: []AuthProtocol{AuthCHAPMD5}, Name: "lns1"})
	s.openLCP(peerMagic)
	c := s.sent(ProtocolCHAP, chapChallenge)
	challenge, name, _ := takeString(c.data)
	if len(challenge) != 16 || string(name) != "lns1" {
		t.Fatalf("%+v", c)
	}
	response := append([]byte{16}, chapMD5(c.id, challenge, []byte("pw"))...)
	response = append(response, "bob"...)
	for _, bad := range []struct {
		code, id uint8
		data     []byte
	}{
		{chapResponse, c.id + 1, response}, {chapResponse, c.id, response[:16]}, {chapResponse, c.id, nil},
		{chapResponse, c.id, append([]byte{15}, response[2:]...)}, {chapSuccess, c.id, nil}, {chapChallenge, c.id, c.data}, {9, c.id, nil},
	} {
		if s.frame(ProtocolCHAP, bad.code, bad.id, bad.data...); len(s.out) != 0 {
			t.Errorf("%+v: %v", bad, s.out)
		}
	}
	s.frame(ProtocolPAP, papRequest, 1, []byte("\x03bob\x02pw")...) // not what was agreed
	if len(s.out) != 0 {
		t.Errorf("PAP was let in: %v", s.out)
	}
	s.frame(ProtocolCHAP, chapResponse, c.id, response...)
	r := s.asked()
	if r.User != "bob" || r.ID != c.id || !CheckCHAPMD5(r.ID, r.Challenge, r.Response, []byte("pw")) {
		t.Errorf("%+v", r)
	}
	s.frame(ProtocolCHAP, chapResponse, c.id, response...)
	if len(s.out) != 0 {
		t.Errorf("asked twice: %v", s.out)
	}
	s.step(AuthDecision{Accept: true, Message: "hi", Network: Network{Peer: peerAddr}})
	if p := s.sent(ProtocolCHAP, chapSuccess); p.id != c.id || string(p.data) != "hi" {
		t.Errorf("%+v", p)
	}
	s.frame(ProtocolCHAP, chapResponse, c.id, response...)
	if p := s.sent(ProtocolCHAP, chapSuccess); string(p.data) != "hi" || s.frames() != 1 {
		t.Errorf("%v", s.out)
	}
}

func TestMSCHAPv2Messages(t *testing.T) {
	start := func() (*script, uint8) {
		s := newScript(t, Config{Auth: []AuthProtocol{AuthMSCHAPv2}})
		s.openLCP(peerMagic)
		c := s.sent(ProtocolCHAP, chapChallenge)
		challenge, _, _ := takeString(c.data)
		response, _ := respondMSCHAPv2("bob", challenge, make([]byte, 16), []byte("pw"))
		s.frame(ProtocolCHAP, chapResponse, c.id, append(append([]byte{49}, response...), "bob"...)...)
		r := s.asked()
		if _, ok := CheckMSCHAPv2(r.User, r.Challenge, r.Response, []byte("pw")); !ok {
			t.Fatalf("%+v cannot be checked", r)
		}
		return s, c.id
	}
	s, id := start()
	s.step(AuthDecision{Accept: true, MSCHAPv2Response: rfc2759Proof, Message: "hi", Network: Network{Peer: peerAddr}})
	if p := s.sent(ProtocolCHAP, chapSuccess); p.id != id || string(p.data) != rfc2759Proof+" M=hi" {
		t.Errorf("%d %q", p.id, p.data)
	}
	s, _ = start()
	s.step(AuthDecision{Accept: true, MSCHAPv2Response: rfc2759Proof, Network: Network{Peer: peerAddr}})
	if p := s.sent(ProtocolCHAP, chapSuccess); string(p.data) != rfc2759Proof {
		t.Errorf("%q", p.data)
	}
	// What a server sends with its proof is passed on: text of its own goes before a Reply-Message.
	long := strings.Repeat("m", 300)
	for response, want := range map[string]string{
		rfc2759Proof + " M=own": rfc2759Proof + " M=own", strings.ToLower(rfc2759Proof[2:]): "", rfc2759Proof[:41]: "", "S=" + strings.Repeat("g", 40): "",
		"S=" + strings.ToLower(rfc2759Proof[2:]): "S=" + strings.ToLower(rfc2759Proof[2:]) + " M=hi", rfc2759Proof + "\x00": rfc2759Proof + " M=hi",
		rfc2759Proof + " M=" + long: rfc2759Proof + " M=" + long[:maxMessage],
	} {
		s, _ = start()
		s.step(AuthDecision{Accept: true, MSCHAPv2Response: response, Message: "hi", Network: Network{Peer: peerAddr}})
		if want == "" {
			s.sent(ProtocolCHAP, chapFailure)
		} else if p := s.sent(ProtocolCHAP, chapSuccess); string(p.data) != want {
			t.Errorf("%q became %q, want %q", response, p.data, want)
		}
	}
	s, id = start()
	s.step(AuthDecision{Message: "no", Reason: "subscriber-limit"})
	p := s.sent(ProtocolCHAP, chapFailure)
	if f := strings.Fields(string(p.data)); p.id != id || len(f) != 5 || f[0] != "E=691" || f[1] != "R=0" || len(f[2]) != 34 || f[3] != "V=3" || f[4] != "M=no" {
		t.Errorf("%q", p.data)
	}
	s.sent(ProtocolLCP, codeTerminateRequest)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != "subscriber-limit" || d.Cause != (DisconnectCause{16, ProtocolCHAP, 1}) {
		t.Errorf("%+v", d)
	}
	s, _ = start()
	s.step(AuthDecision{Accept: true, Network: Network{Peer: peerAddr}}) // AAA forgot the proof
	s.sent(ProtocolCHAP, chapFailure)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonInternal {
		t.Errorf("%+v", d)
	}
}

// TestRefusalMessage: the server's Reply-Message reaches the user (R7); MS-CHAPv2's is in TestMSCHAPv2Messages.
func TestRefusalMessage(t *testing.T) {
	const message = "Your account has expired"
	s := newScript(t, pap())
	s.openLCP(peerMagic)
	s.frame(ProtocolPAP, papRequest, 1, []byte("\x01u\x01p")...)
	s.step(AuthDecision{Message: message})
	if p := s.sent(ProtocolPAP, papNak); string(p.data) != string(rune(len(message)))+message {
		t.Errorf("%q", p.data)
	}
	s = newScript(t, Config{Auth: []AuthProtocol{AuthCHAPMD5}})
	s.openLCP(peerMagic)
	id := s.sent(ProtocolCHAP, chapChallenge).id
	s.frame(ProtocolCHAP, chapResponse, id, append(append([]byte{16}, make([]byte, 16)...), "bob"...)...)
	s.step(AuthDecision{Message: message})
	if p := s.sent(ProtocolCHAP, chapFailure); string(p.data) != message {
		t.Errorf("%q", p.data)
	}
}

func TestNameTooLongForRADIUS(t *testing.T) {
	s := newScript(t, pap())
	s.openLCP(peerMagic)
	name := bytes.Repeat([]byte{'u'}, 254)
	s.frame(ProtocolPAP, papRequest, 1, append(append([]byte{254}, name...), 1, 'p')...)
	s.sent(ProtocolPAP, papNak)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonAuthFailed {
		t.Errorf("%+v", d)
	}
}

func TestMalformedPAP(t *testing.T) {
	for _, data := range []string{"", "\x05", "\x05user", "\x04user", "\x04user\x05pass", "\xff"} {
		s := newScript(t, pap())
		s.openLCP(peerMagic)
		if s.frame(ProtocolPAP, papRequest, 1, []byte(data)...); len(s.out) != 0 || s.link.Info().Counters.Malformed != 1 {
			t.Errorf("%q: %v", data, s.out)
		}
	}
}

func TestSilenceInAuthentication(t *testing.T) {
	for _, auth := range allAuth {
		s := newScript(t, Config{Auth: []AuthProtocol{auth}})
		s.openLCP(peerMagic)
		s.wait(29 * time.Second)
		if want := map[bool]int{true: 0, false: 9}[auth == AuthPAP]; s.frames() != want {
			t.Errorf("%v: %d frames in 29 s, want %d", auth, s.frames(), want)
		}
		s.wait(10 * time.Second)
		if d := s.down(); d == nil || d.Reason != ReasonAuthTimeout || d.Cause != (DisconnectCause{13, authNumber(auth), 0}) {
			t.Errorf("%v: %+v", auth, d)
		}
	}
}

func TestRandomnessFails(t *testing.T) {
	l := NewLink(Config{Auth: allAuth}, strings.NewReader("four"))
	l.Step(epoch, Open{}) // the magic number takes all there is
	s := &script{t: t, link: l, now: epoch}
	s.openFrames()
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonInternal {
		t.Errorf("%+v", d)
	}
}

// openFrames is openLCP without expectations.
func (s *script) openFrames() {
	s.frame(ProtocolLCP, codeConfigureRequest, 1, []byte(peerMagic)...)
	s.ack(ProtocolLCP)
}

func TestDialerAnswers(t *testing.T) {
	start := func(auth string) *script {
		s := newScript(t, dialer())
		s.openLCP(auth + peerMagic)
		return s
	}
	s := start("\x03\x04\xc0\x23")
	p := s.sent(ProtocolPAP, papRequest)
	user, rest, _ := takeString(p.data)
	password, _, _ := takeString(rest)
	if string(user) != testUser || string(password) != testPassword {
		t.Errorf("%q %q", user, password)
	}
	s.frame(ProtocolPAP, papAck, p.id+1, 0)
	if s.link.Info().Phase != PhaseAuthenticate {
		t.Error("an Ack of another request was believed")
	}
	s.wait(4 * time.Second)
	again := s.sent(ProtocolPAP, papRequest)
	s.frame(ProtocolPAP, papAck, again.id) // without even an empty message
	if s.link.Info().Phase != PhaseNetwork {
		t.Error("Ack not understood")
	}

	s = start("\x03\x05\xc2\x23\x81")
	challenge := bytes.Repeat([]byte{1}, 16)
	s.frame(ProtocolCHAP, chapChallenge, 3, append([]byte{16}, challenge...)...)
	first := s.sent(ProtocolCHAP, chapResponse)
	s.frame(ProtocolCHAP, chapChallenge, 3, append([]byte{16}, challenge...)...)
	if second := s.sent(ProtocolCHAP, chapResponse); !bytes.Equal(first.data, second.data) {
		t.Error("a repeated challenge got another response")
	}
	value, user, _ := takeString(first.data)
	proof, ok := CheckMSCHAPv2(string(user), challenge, value, []byte(testPassword))
	if !ok || string(user) != testUser {
		t.Fatalf("%q %x", user, value)
	}
	s.frame(ProtocolCHAP, chapSuccess, 3, []byte(proof+" M=hi")...)
	if s.link.Info().Phase != PhaseNetwork {
		t.Error("Success not understood")
	}
	s.frame(ProtocolCHAP, chapChallenge, 4, append([]byte{16}, challenge...)...) // a periodic one
	s.sent(ProtocolCHAP, chapResponse)
	s.frame(ProtocolCHAP, chapSuccess, 4, []byte(proof)...) // but the proof is the old one
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonAuthFailed {
		t.Errorf("%+v", d)
	}

	s = start("\x03\x05\xc2\x23\x81")
	s.frame(ProtocolCHAP, chapChallenge, 3, append([]byte{8}, challenge[:8]...)...)
	if len(s.out) != 0 {
		t.Errorf("a challenge of 8 octets was answered: %v", s.out)
	}
	s = start("\x03\x05\xc2\x23\x05")
	s.frame(ProtocolCHAP, chapSuccess, 0)
	if s.link.Info().Phase != PhaseAuthenticate {
		t.Error("success before any challenge")
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	checkHidden(t, testPassword, dialer(), Secret(testPassword), AuthRequest{Password: Secret(testPassword)}, &Dialer{Password: Secret(testPassword)})
	s := newSim(t, 1, pap(), dialer())
	s.ends[0].authDelay = time.Hour
	s.open()
	s.run(func() bool { return len(s.ends[0].asked) > 0 })
	checkHidden(t, testPassword, s.ends[0].link, s.ends[1].link)
}
