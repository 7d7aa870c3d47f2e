package pppd

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func eap() Config { return Config{Auth: []AuthProtocol{AuthEAP}} }

func eapDialer() Config {
	c := dialer()
	c.Dialer.EAP = true
	return c
}

// eapPacket makes an EAP packet as a server sends it.
func eapPacket(code, id uint8, data ...byte) []byte { return packet{code, id, data}.append(nil) }

// openEAP brings a link to the point where AAA has been asked about the identity; it returns the identifier.
func openEAP(s *script) uint8 {
	s.t.Helper()
	s.openLCP("\x01\x04\x05\x78" + peerMagic)
	id := s.sent(ProtocolEAP, eapRequest).id
	s.frame(ProtocolEAP, eapResponse, id, append([]byte{eapIdentity}, "bob@example"...)...)
	s.asked()
	return id
}

// TestEAPRelay is a whole authentication, step by step: RFC 3748 section 2.3, RFC 3579 section 2.1.
func TestEAPRelay(t *testing.T) {
	s := newScript(t, eap())
	s.frame(ProtocolLCP, codeConfigureRequest, 1, []byte(peerMagic+"\x01\x04\x05\x78")...)
	if ask := s.ack(ProtocolLCP); !bytes.Contains(ask, []byte{lcpAuth, 4, 0xc2, 0x27}) {
		t.Fatalf("asked for %x", ask)
	}
	q := s.sent(ProtocolEAP, eapRequest)
	if !bytes.Equal(q.data, []byte{eapIdentity}) {
		t.Fatalf("%+v", q)
	}
	whole := eapPacket(eapResponse, q.id, append([]byte{eapIdentity}, "b\x00b"...)...)
	s.step(Frame{ProtocolEAP, append(slices.Clone(whole), "padding"...)})
	r := s.asked()
	if r.Protocol != AuthEAP || r.User != "b\x00b" || !bytes.Equal(r.EAP, whole) || r.ID != q.id || r.PeerMRU != 1400 {
		t.Fatalf("%+v %x", r, []byte(r.EAP))
	}
	if s.wait(time.Hour); len(s.out) != 0 {
		t.Errorf("timers run while AAA thinks: %v", s.out)
	}
	id := uint8(200)
	for round := range 40 { // as many as EAP-TLS with long chains takes
		request := eapPacket(eapRequest, id, append([]byte{13}, bytes.Repeat([]byte{byte(round)}, 1395)...)...)
		s.step(AuthDecision{Continue: true, EAP: request})
		if p := s.sent(ProtocolEAP, eapRequest); s.frames() != 1 || !bytes.Equal(p.append(nil), request) {
			t.Fatalf("round %d: %v", round, s.out)
		}
		kind := byte(13)
		if round == 0 {
			kind = eapNak // which method it shall be is between the peer and the server
		}
		s.frame(ProtocolEAP, eapResponse, id, kind, byte(round))
		if r := s.asked(); r.User != "b\x00b" || r.ID != id || !bytes.Equal(r.EAP, eapPacket(eapResponse, id, kind, byte(round))) || len(s.out) != 1 {
			t.Fatalf("round %d: %+v", round, r)
		}
		id += 3
	}
	s.step(AuthDecision{Accept: true, EAP: eapPacket(eapSuccess, id-3), Network: Network{Local: localAddr, Peer: peerAddr}})
	if p := s.sent(ProtocolEAP, eapSuccess); p.id != id-3 || len(p.data) != 0 {
		t.Errorf("%+v", p)
	}
	s.frame(ProtocolEAP, eapResponse, id-3, 13) // a late copy
	if len(s.out) != 0 {
		t.Errorf("%v", s.out)
	}
	s.openIPCP()
	if i := s.link.Info(); !i.Accepted || i.User != "b\x00b" || i.Ask.Auth.String() != "eap" {
		t.Errorf("%+v", i)
	}
}

// TestEAPDropped: what does not belong is dropped and counted, and the authentication goes on.
func TestEAPDropped(t *testing.T) {
	type drop struct {
		name      string
		code, id  uint8 // the identifier counts from the right one
		data      string
		malformed bool
	}
	ever := []drop{
		{name: "no type", code: eapResponse, malformed: true},
		{name: "another identifier", code: eapResponse, id: 1, data: "\x01bob"},
		{name: "the identifier before", code: eapResponse, id: 255, data: "\x01bob"},
		{name: "request", code: eapRequest, data: "\x01"},
		{name: "success", code: eapSuccess},
		{name: "failure", code: eapFailure},
		{name: "code 0", data: "\x01bob"},
		{name: "initiate of RFC 6696", code: 5, data: "\x01\x00"},
		{name: "code 255", code: 255, data: "\x01bob"},
	}
	check := func(s *script, id uint8, where string, drops []drop) {
		for _, d := range drops {
			before := s.link.Info().Counters
			deadline := s.link.Deadline()
			s.frame(ProtocolEAP, d.code, id+d.id, []byte(d.data)...)
			after := s.link.Info().Counters
			if len(s.out) != 0 || !s.link.Deadline().Equal(deadline) {
				t.Errorf("%s, %s: %v", where, d.name, s.out)
			}
			if m, u := after.Malformed-before.Malformed, after.Unexpected-before.Unexpected; m+u != 1 || (m == 1) != d.malformed {
				t.Errorf("%s, %s: counted %d as malformed, %d as unexpected", where, d.name, m, u)
			}
		}
		for _, raw := range [][]byte{{}, {2}, {2, id, 0}, {2, id, 0, 3}, {2, id, 0, 6, 1}, append([]byte{2, id, 5, 221, 1}, make([]byte, 1496)...)} {
			before := s.link.Info().Counters.Malformed
			if s.step(Frame{ProtocolEAP, raw}); len(s.out) != 0 || s.link.Info().Counters.Malformed != before+1 {
				t.Errorf("%s, %d octets: %v", where, len(raw), s.out)
			}
		}
	}
	s := newScript(t, eap())
	s.openLCP(peerMagic)
	id := s.sent(ProtocolEAP, eapRequest).id
	check(s, id, "identity", append(ever,
		drop{name: "nak of the identity", code: eapResponse, data: "\x03\x04"}, drop{name: "a method of its own", code: eapResponse, data: "\x04\x01x"}))
	s.frame(ProtocolEAP, eapResponse, id, []byte("\x01bob")...)
	s.asked()
	busy := append(slices.Clone(ever), drop{name: "a copy", code: eapResponse, data: "\x01bob"})
	check(s, id, "AAA thinks", busy)
	s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 77, 4, 1, 'x')})
	check(s, 77, "method", ever)
	s.frame(ProtocolEAP, eapResponse, 77, 4, 1, 'y')
	s.asked()
	s.step(AuthDecision{Accept: true, Network: Network{Local: localAddr, Peer: peerAddr}})
	if p := s.sent(ProtocolEAP, eapSuccess); p.id != 77 {
		t.Errorf("the link's own Success has identifier %d", p.id)
	}
	check(s, 77, "accepted", busy)

	s = newScript(t, pap()) // and where EAP was not agreed on
	s.openLCP(peerMagic)
	check(s, 1, "PAP", []drop{{name: "response", code: eapResponse, data: "\x01bob"}, {name: "request", code: eapRequest, data: "\x01"}, {name: "success", code: eapSuccess}})
}

// TestEAPDecisions: what AAA may answer, and what it may not.
func TestEAPDecisions(t *testing.T) {
	network := Network{Local: localAddr, Peer: peerAddr}
	tests := []struct {
		name   string
		d      AuthDecision // ID stands for the right identifier in EAP[1] == 0
		sent   uint8        // code
		reason Reason
		text   string
	}{
		{name: "success", d: AuthDecision{Accept: true, EAP: eapPacket(eapSuccess, 0), Network: network}, sent: eapSuccess},
		{name: "success made here", d: AuthDecision{Accept: true, Network: network}, sent: eapSuccess},
		{name: "success with the next identifier", d: AuthDecision{Accept: true, EAP: eapPacket(eapSuccess, 9), Network: network}, sent: eapSuccess},
		{name: "failure", d: AuthDecision{EAP: eapPacket(eapFailure, 0)}, sent: eapFailure, reason: ReasonAuthFailed, text: "authentication failed"},
		{name: "failure made here", d: AuthDecision{Reason: "aaa-refused", Message: "no\nway"}, sent: eapFailure, reason: "aaa-refused", text: "authentication failed: no.way"},
		{name: "refused with a success", d: AuthDecision{Reason: "aaa-refused", EAP: eapPacket(eapSuccess, 0)}, sent: eapFailure, reason: "aaa-refused", text: "authentication failed (AAA's decision comes with EAP code 3, which contradicts it)"},
		{name: "refused with rubbish", d: AuthDecision{EAP: []byte{4}}, sent: eapFailure, reason: ReasonAuthFailed, text: "authentication failed (the server's EAP packet cannot be read: packet shorter than its header)"},
		{name: "accepted with a failure", d: AuthDecision{Accept: true, EAP: eapPacket(eapFailure, 0), Network: network}, sent: eapFailure, reason: ReasonInternal, text: "AAA's decision comes with EAP code 4, which contradicts it"},
		{name: "accepted with a request", d: AuthDecision{Accept: true, EAP: eapPacket(eapRequest, 0, 4), Network: network}, sent: eapFailure, reason: ReasonInternal, text: "AAA's decision comes with EAP code 1, which contradicts it"},
		{name: "accepted with rubbish", d: AuthDecision{Accept: true, EAP: []byte("rubbish"), Network: network}, sent: eapFailure, reason: ReasonInternal, text: "the server's EAP packet cannot be read: length field does not fit the frame"},
		{name: "success with data", d: AuthDecision{Accept: true, EAP: eapPacket(eapSuccess, 0, 1), Network: network}, sent: eapFailure, reason: ReasonInternal, text: "the server's EAP packet cannot be read: length field does not fit the frame"},
		{name: "goes on", d: AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 9, 4)}, sent: eapRequest},
		{name: "the last request again", d: AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 0, 4)}, sent: eapRequest},
		{name: "as large as the peer takes", d: AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 9, make([]byte, 1396)...)}, sent: eapRequest},
		{name: "too large for the peer", d: AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 9, make([]byte, 1397)...)}, sent: eapFailure, reason: ReasonInternal, text: "the server's EAP packet has 1401 octets, the peer takes 1400"},
		{name: "too large for PPP", d: AuthDecision{Continue: true, EAP: append([]byte{1, 9, 0x0c, 0x00}, make([]byte, 3068)...)}, sent: eapFailure, reason: ReasonInternal, text: "the server's EAP packet cannot be passed on: length field does not fit the frame"},
		{name: "goes on with nothing", d: AuthDecision{Continue: true}, sent: eapFailure, reason: ReasonInternal, text: "the server's EAP packet cannot be passed on: packet shorter than its header"},
		{name: "goes on with a success", d: AuthDecision{Continue: true, EAP: eapPacket(eapSuccess, 9)}, sent: eapFailure, reason: ReasonInternal, text: "the server goes on with EAP code 3, which is no request"},
		{name: "goes on with a response", d: AuthDecision{Continue: true, EAP: eapPacket(eapResponse, 9, 4)}, sent: eapFailure, reason: ReasonInternal, text: "the server goes on with EAP code 2, which is no request"},
		{name: "request without a type", d: AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 9)}, sent: eapFailure, reason: ReasonInternal, text: "the server's EAP packet cannot be passed on: EAP packet without a type"},
		{name: "octets behind the packet", d: AuthDecision{Continue: true, EAP: append(eapPacket(eapRequest, 9, 4), 0)}, sent: eapFailure, reason: ReasonInternal, text: "the server's EAP packet cannot be passed on: length field does not fit the frame"},
		{name: "unknown code", d: AuthDecision{Continue: true, EAP: eapPacket(5, 9, 4)}, sent: eapFailure, reason: ReasonInternal, text: "the server's EAP packet cannot be passed on: EAP code out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript(t, eap())
			id := openEAP(s)
			if len(tt.d.EAP) > 1 && tt.d.EAP[1] == 0 {
				tt.d.EAP[1] = id
			}
			s.step(tt.d)
			p := s.sent(ProtocolEAP, tt.sent)
			if tt.sent == eapRequest {
				if !bytes.Equal(p.append(nil), tt.d.EAP) {
					t.Errorf("sent %x, want %x", p.append(nil), tt.d.EAP)
				}
				return
			}
			if p.id != id || len(p.data) != 0 {
				t.Errorf("%+v, want identifier %d", p, id)
			}
			if tt.sent == eapSuccess {
				if s.link.Info().Phase != PhaseNetwork {
					t.Errorf("%+v", s.link.Info())
				}
				return
			}
			s.wait(time.Minute)
			if d := s.down(); d == nil || d.Reason != tt.reason || d.Text != tt.text || d.Cause != (DisconnectCause{16, ProtocolEAP, 1}) {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestPeerMRU: what AAA is told of the size of packets (RFC 3579 section 2.4).
func TestPeerMRU(t *testing.T) {
	for _, tt := range []struct {
		ours uint16
		peer string
		want uint16
	}{
		{0, "", 1500}, {1400, "", 1400}, {1400, "\x01\x04\x05\x00", 1280}, {1280, "\x01\x04\x05\x78", 1280}, {0, "\x01\x04\x05\x78", 1400}, {0, "\x01\x04\xff\xff", 1500},
	} {
		s := newScript(t, Config{Auth: eap().Auth, MRU: tt.ours})
		s.openLCP(tt.peer + peerMagic)
		id := s.sent(ProtocolEAP, eapRequest).id
		s.frame(ProtocolEAP, eapResponse, id, eapIdentity)
		if got := s.asked().PeerMRU; got != tt.want {
			t.Errorf("ours %d, peer's %x: %d, want %d", tt.ours, tt.peer, got, tt.want)
		}
	}
}

func TestEAPNameTooLong(t *testing.T) {
	s := newScript(t, eap())
	s.openLCP(peerMagic)
	id := s.sent(ProtocolEAP, eapRequest).id
	s.frame(ProtocolEAP, eapResponse, id, append([]byte{eapIdentity}, make([]byte, maxUser+1)...)...)
	s.sent(ProtocolEAP, eapFailure)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonAuthFailed {
		t.Errorf("%+v", d)
	}
}

// TestEAPRetransmission: RFC 3748 section 4.3, and RFC 3579 section 2.3 for the server's own idea of the time.
func TestEAPRetransmission(t *testing.T) {
	requests := func(out []Effect) (all [][]byte) {
		for _, e := range out {
			if f, ok := e.(Send); ok && f.Protocol == ProtocolEAP && f.Data[0] == eapRequest {
				all = append(all, f.Data)
			}
		}
		return all
	}
	ends := func(s *script, want Reason) {
		t.Helper()
		s.wait(time.Minute)
		if d := s.down(); d == nil || d.Reason != want || d.Cause != (DisconnectCause{13, ProtocolEAP, 0}) {
			t.Errorf("%+v", d)
		}
	}
	s := newScript(t, eap())
	s.openLCP(peerMagic)
	first := s.sent(ProtocolEAP, eapRequest).append(nil)
	s.wait(29 * time.Second)
	if got := requests(s.out); len(got) != 9 || !slices.EqualFunc(got, got, func(a, _ []byte) bool { return bytes.Equal(a, first) }) {
		t.Errorf("%x", got)
	}
	ends(s, ReasonAuthTimeout)

	// The count starts anew with each Request, and the phase's time goes on.
	s = newScript(t, Config{Auth: eap().Auth, MaxConfigure: 3})
	openEAP(s)
	s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 9, 4)})
	s.wait(29 * time.Second)
	if got := requests(s.out); len(got) != 2 {
		t.Errorf("%x", got)
	}
	ends(s, ReasonAuthTimeout)

	// The peer's time adds up over the rounds; AAA's does not count.
	s = newScript(t, eap())
	openEAP(s)
	for id := range uint8(3) {
		s.wait(time.Hour)
		s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, id, 4)})
		s.wait(9 * time.Second)
		s.frame(ProtocolEAP, eapResponse, id, 4)
		s.asked()
	}
	s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 9, 4)})
	s.wait(4 * time.Second)
	if i := s.link.Info(); i.Phase != PhaseTerminate {
		t.Errorf("31 s of the peer's were not too many: %+v", i)
	}

	// The server gives the peer time: somebody has to type.
	s = newScript(t, eap())
	openEAP(s)
	s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 9, 6), Timeout: time.Minute})
	s.wait(59 * time.Second)
	if len(s.out) != 0 {
		t.Errorf("%v", s.out)
	}
	s.wait(2 * time.Second)
	if got := requests(s.out); len(got) != 1 {
		t.Errorf("%v", s.out)
	}
	s.frame(ProtocolEAP, eapResponse, 9, 6, 'p', 'w')
	s.asked()
	s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 10, 6), Timeout: 24 * time.Hour})
	s.wait(maxEAPTimeout + time.Second)
	if got := requests(s.out); len(got) != 1 {
		t.Errorf("%v", s.out)
	}
	ends(s, ReasonAuthTimeout)
}

// TestEAPEndlessServer: a server that never decides must not hold a link for ever.
func TestEAPEndlessServer(t *testing.T) {
	s := newScript(t, eap())
	openEAP(s)
	rounds := 0
	for id := uint8(0); ; id++ {
		s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, id, 13)})
		if s.link.Info().Phase != PhaseAuthenticate {
			break
		}
		if rounds++; rounds > 1000 {
			t.Fatal("no end")
		}
		s.frame(ProtocolEAP, eapResponse, id, 13)
		s.asked()
	}
	s.sent(ProtocolEAP, eapFailure)
	s.wait(time.Minute)
	if d := s.down(); rounds != maxEAPRounds || d == nil || d.Reason != ReasonAuthFailed || !strings.Contains(d.Text, "100") {
		t.Errorf("%d rounds, %+v", rounds, d)
	}
}

// TestEAPSuccessIsRepeated until the peer is in the network phase, and no longer: pppd would enter it a second time.
func TestEAPSuccessIsRepeated(t *testing.T) {
	start := func() *script {
		s := newScript(t, eap())
		openEAP(s)
		s.step(AuthDecision{Accept: true, Network: Network{Local: localAddr, Peer: peerAddr}})
		return s
	}
	successes := func(s *script) (n int) {
		for _, e := range s.out {
			if f, ok := e.(Send); ok && f.Protocol == ProtocolEAP && f.Data[0] == eapSuccess {
				n++
			}
		}
		return n
	}
	s := start()
	if s.wait(10 * time.Second); successes(s) != 3 {
		t.Errorf("%d copies in 10 s, want 3", successes(s))
	}
	s.frame(ProtocolIPCP, codeConfigureRequest, 1, opt(3, "10.0.0.77")...)
	if s.wait(15 * time.Second); successes(s) != 0 {
		t.Errorf("%d copies for a peer that knows", successes(s))
	}
	s = start()
	s.openIPCP()
	if s.wait(time.Hour); successes(s) != 0 || len(s.out) != 0 {
		t.Errorf("%v", s.out)
	}
	s = newScript(t, Config{Auth: eap().Auth, MaxConfigure: 4, NetworkTimeout: time.Hour})
	openEAP(s)
	s.step(AuthDecision{Accept: true, Network: Network{Local: localAddr, Peer: peerAddr}})
	if s.wait(50 * time.Minute); successes(s) != 3 {
		t.Errorf("%d copies for a silent peer, want 3", successes(s))
	}
}

// TestEAPRefusedByPeer: Configure-Nak and -Reject lead to the next protocol of Config.Auth, wherever EAP stands there (F2).
func TestEAPRefusedByPeer(t *testing.T) {
	const nakPAP, nakEAP, nakMSCHAP = "\x03\x04\xc0\x23", "\x03\x04\xc2\x27", "\x03\x05\xc2\x23\x81"
	tests := []struct {
		auth   []AuthProtocol
		code   uint8
		option string // of the Nak
		want   AuthProtocol
	}{
		{[]AuthProtocol{AuthEAP, AuthMSCHAPv2, AuthPAP}, codeConfigureNak, nakPAP, AuthPAP},
		{[]AuthProtocol{AuthEAP, AuthMSCHAPv2, AuthPAP}, codeConfigureNak, "\x03\x05\xc2\x23\x80", AuthMSCHAPv2},
		{[]AuthProtocol{AuthEAP, AuthMSCHAPv2, AuthPAP}, codeConfigureReject, "", AuthMSCHAPv2},
		{[]AuthProtocol{AuthMSCHAPv2, AuthPAP, AuthEAP}, codeConfigureNak, nakEAP, AuthEAP},
		{[]AuthProtocol{AuthMSCHAPv2, AuthPAP}, codeConfigureNak, nakEAP, AuthPAP},
		{[]AuthProtocol{AuthMSCHAPv2, AuthEAP}, codeConfigureReject, "", AuthEAP},
		{[]AuthProtocol{AuthEAP}, codeConfigureNak, nakMSCHAP, AuthNone},
		{[]AuthProtocol{AuthEAP}, codeConfigureReject, "", AuthNone},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.auth, tt.code, tt.want), func(t *testing.T) {
			s := newScript(t, Config{Auth: tt.auth})
			option := []byte(tt.option)
			if tt.code == codeConfigureReject {
				option = []byte{lcpAuth, byte(2 + len(authOption(tt.auth[0])))}
				option = append(option, authOption(tt.auth[0])...)
			}
			s.frame(ProtocolLCP, tt.code, s.link.s.LCP.FSM.ID, option...)
			if tt.want == AuthNone {
				s.wait(time.Minute)
				if d := s.down(); d == nil || d.Reason != ReasonAuthRefused || d.Cause != (DisconnectCause{15, ProtocolEAP, 1}) {
					t.Errorf("%+v", d)
				}
				return
			}
			if p := s.sent(ProtocolLCP, codeConfigureRequest); !bytes.Contains(p.data, authOption(tt.want)) {
				t.Errorf("asked next for %x, want %v", p.data, tt.want)
			}
			s.openLCP(peerMagic)
			if got := s.link.Info().Ask.Auth; got != tt.want {
				t.Errorf("agreed on %v, want %v", got, tt.want)
			}
		})
	}
	s := newScript(t, eap()) // a peer that agrees in LCP and knows better later
	s.openLCP(peerMagic)
	s.frame(ProtocolLCP, codeProtocolReject, 1, 0xc2, 0x27, 1, 1, 0, 5, 1)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonAuthRefused || !d.ByPeer {
		t.Errorf("%+v", d)
	}
}

// TestEAPRenegotiation: what AAA says about an earlier negotiation is void, be it a verdict or one more round.
func TestEAPRenegotiation(t *testing.T) {
	for name, late := range map[string]AuthDecision{
		"round": {Continue: true, EAP: eapPacket(eapRequest, 50, 4)}, "accept": {Accept: true, Network: Network{Peer: peerAddr}}, "refuse": {},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, eap())
			old := openEAP(s)
			s.frame(ProtocolLCP, codeConfigureRequest, 2, []byte("\x05\x06\x01\x02\x03\x04")...)
			s.frame(ProtocolLCP, codeConfigureAck, s.link.s.LCP.FSM.ID, lcp{s.link}.request(nil)...)
			if i := s.link.Info(); i.Phase != PhaseAuthenticate || i.Waiting || s.frames() != 0 {
				t.Fatalf("%+v %v", i, s.out)
			}
			s.frame(ProtocolEAP, eapResponse, old, []byte("\x01bob")...)
			if len(s.out) != 0 {
				t.Fatalf("two questions at once: %v", s.out)
			}
			s.step(late)
			q := s.sent(ProtocolEAP, eapRequest)
			if q.id == old || !bytes.Equal(q.data, []byte{eapIdentity}) || s.frames() != 1 {
				t.Fatalf("%+v", s.out)
			}
			s.frame(ProtocolEAP, eapResponse, old, []byte("\x01bob")...)
			if len(s.out) != 0 {
				t.Fatalf("the answer to the old Request counts: %v", s.out)
			}
			s.frame(ProtocolEAP, eapResponse, q.id, []byte("\x01eve")...)
			if r := s.asked(); r.User != "eve" {
				t.Errorf("%+v", r)
			}
		})
	}
	t.Run("while the peer answers", func(t *testing.T) {
		s := newScript(t, eap())
		openEAP(s)
		s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 50, 4)})
		s.frame(ProtocolLCP, codeConfigureRequest, 2, []byte("\x05\x06\x01\x02\x03\x04")...)
		s.frame(ProtocolEAP, eapResponse, 50, 4) // too late
		if len(s.out) != 0 {
			t.Fatalf("%v", s.out)
		}
		s.frame(ProtocolLCP, codeConfigureAck, s.link.s.LCP.FSM.ID, lcp{s.link}.request(nil)...)
		if q := s.sent(ProtocolEAP, eapRequest); !bytes.Equal(q.data, []byte{eapIdentity}) {
			t.Fatalf("%+v", q)
		}
		s.frame(ProtocolEAP, eapResponse, 50, 4)
		if len(s.out) != 0 {
			t.Fatalf("%v", s.out)
		}
	})
}

// TestEAPTwoEnds: two links with an EAP-MD5 server behind the first, over good and bad lines.
func TestEAPTwoEnds(t *testing.T) {
	t.Run("good line", func(t *testing.T) {
		for _, snapshot := range []bool{false, true} {
			s := newSim(t, 1, eap(), eapDialer())
			s.snapshot, s.notices = snapshot, 60
			s.open()
			s.run(s.settled)
			if !s.bothUp() || len(s.ends[0].asked) != 62 {
				t.Fatalf("asked %d times\n%v", len(s.ends[0].asked), s)
			}
			s.step(1, Close{})
			s.run(s.bothDown)
			if !s.bothDown() || s.ends[0].down.Reason != ReasonUserRequest {
				t.Errorf("%v", s)
			}
		}
	})
	t.Run("bad line", func(t *testing.T) {
		seeds := uint64(200)
		if testing.Short() {
			seeds = 40
		}
		up, asked := 0, 0
		for seed := range seeds {
			client := eapDialer()
			client.AuthTimeout, client.EchoInterval = 2*time.Minute, 10*time.Second
			s := newSim(t, seed, Config{Auth: eap().Auth, EchoInterval: 10 * time.Second}, client)
			s.loss, s.dup, s.jitter, s.notices = 0.2, 0.1, 200*time.Millisecond, int(seed%3)
			s.ends[0].authDelay = time.Duration(seed%5) * time.Second
			s.snapshot = seed%4 == 0
			rounds := 2 + s.notices
			s.open()
			s.run(s.settled)
			if !s.settled() {
				t.Fatalf("seed %d: neither up nor down\n%v", seed, s)
			}
			if s.bothUp() {
				up++
			} else {
				t.Logf("seed %d: %v / %v", seed, s.ends[0].down, s.ends[1].down)
			}
			if s.ends[0].link.Info().Counters.Renegotiations == 0 && len(s.ends[0].asked) > rounds {
				t.Errorf("seed %d: %d questions to AAA in %d rounds", seed, len(s.ends[0].asked), rounds)
			}
			asked += len(s.ends[0].asked)
			s.step(int(seed%2), Close{})
			s.run(s.bothDown)
			if !s.bothDown() {
				t.Fatalf("seed %d: not down after Close\n%v", seed, s)
			}
		}
		t.Logf("%d of %d up, %.2f questions to AAA per link", up, seeds, float64(asked)/float64(seeds))
		if up < int(seeds)*97/100 {
			t.Errorf("only %d of %d links came up", up, seeds)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		s := newSim(t, 3, eap(), eapDialer())
		s.password = "something else"
		s.open()
		s.run(s.settled)
		server, client := s.ends[0].down, s.ends[1].down
		if server == nil || client == nil || server.Reason != ReasonAuthFailed || server.ByPeer || client.Reason != ReasonAuthFailed || !client.ByPeer {
			t.Errorf("%v", s)
		}
	})
	t.Run("a dialer without EAP", func(t *testing.T) {
		s := newSim(t, 4, Config{Auth: []AuthProtocol{AuthEAP, AuthMSCHAPv2}}, dialer())
		s.open()
		s.run(s.settled)
		if i := s.ends[0].link.Info(); !s.bothUp() || i.Ask.Auth != AuthMSCHAPv2 {
			t.Errorf("%v", s)
		}
	})
	t.Run("both ends ask", func(t *testing.T) {
		cfg := eapDialer()
		cfg.Auth = eap().Auth
		s := newSim(t, 5, cfg, cfg)
		s.network = Network{}
		s.open()
		s.run(func() bool {
			return s.ends[0].link.Info().Phase == PhaseNetwork && s.ends[1].link.Info().Phase == PhaseNetwork
		})
		for _, e := range s.ends {
			if i := e.link.Info(); !i.Accepted || i.User != testUser || len(e.asked) != 2 {
				t.Errorf("%s: %+v", e.name, i)
			}
		}
	})
	t.Run("slow AAA", func(t *testing.T) {
		client := eapDialer()
		client.AuthTimeout = time.Hour
		s := newSim(t, 6, Config{Auth: eap().Auth, AuthTimeout: 10 * time.Second}, client)
		s.ends[0].authDelay = 4 * time.Minute
		s.open()
		s.run(s.settled)
		if !s.bothUp() || len(s.ends[0].asked) != 2 {
			t.Errorf("%v", s)
		}
	})
}

func TestEAPDialerAnswers(t *testing.T) {
	start := func() *script {
		s := newScript(t, eapDialer())
		s.openLCP("\x03\x04\xc2\x27" + peerMagic)
		return s
	}
	s := start()
	s.frame(ProtocolEAP, eapSuccess, 0)
	s.frame(ProtocolEAP, eapFailure, 0)
	s.frame(ProtocolEAP, eapRequest, 3, append([]byte{eapIdentity}, "who is there?"...)...)
	if p := s.sent(ProtocolEAP, eapResponse); p.id != 3 || string(p.data) != "\x01"+testUser {
		t.Errorf("%+v", p)
	}
	s.frame(ProtocolEAP, eapSuccess, 3) // before anything was proven
	if s.link.Info().Phase != PhaseAuthenticate {
		t.Error("a canned success was believed")
	}
	s.frame(ProtocolEAP, eapRequest, 4, 13, 0x20)
	if p := s.sent(ProtocolEAP, eapResponse); p.id != 4 || !bytes.Equal(p.data, []byte{eapNak, eapMD5}) {
		t.Errorf("%+v", p)
	}
	challenge := append([]byte{eapMD5, 8}, "8 octetsname"...)
	for range 2 { // a copy gets the same answer
		s.frame(ProtocolEAP, eapRequest, 5, challenge...)
		p := s.sent(ProtocolEAP, eapResponse)
		value, name, ok := takeString(p.data[1:])
		if !ok || p.data[0] != eapMD5 || string(name) != testUser || !CheckCHAPMD5(5, []byte("8 octets"), value, []byte(testPassword)) {
			t.Errorf("%+v", p)
		}
	}
	for _, bad := range [][]byte{nil, {eapMD5}, {eapMD5, 0}, {eapMD5, 9, 1}, {eapNak, 4}} {
		if s.frame(ProtocolEAP, eapRequest, 6, bad...); len(s.out) != 0 {
			t.Errorf("%x was answered: %v", bad, s.out)
		}
	}
	s.frame(ProtocolEAP, eapSuccess, 4)
	if s.link.Info().Phase != PhaseAuthenticate {
		t.Error("success for another Request")
	}
	if s.wait(20 * time.Second); len(s.out) != 0 {
		t.Errorf("a peer repeats nothing of itself: %v", s.out)
	}
	s.frame(ProtocolEAP, eapSuccess, 5)
	if s.link.Info().Phase != PhaseNetwork {
		t.Error("Success not understood")
	}
	s = start()
	s.frame(ProtocolEAP, eapRequest, 3, eapIdentity)
	s.frame(ProtocolEAP, eapFailure, 3)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonAuthFailed || !d.ByPeer || d.Text != "the peer refuses us: EAP failure" {
		t.Errorf("%+v", d)
	}
}

// TestEAPSecretsDoNotShow: a method may carry the password in clear, and it must not stay in the link.
func TestEAPSecretsDoNotShow(t *testing.T) {
	s := newScript(t, eap())
	openEAP(s)
	s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 9, 6)})
	s.frame(ProtocolEAP, eapResponse, 9, append([]byte{6}, testPassword...)...)
	r := s.asked()
	if !bytes.HasSuffix(r.EAP, []byte(testPassword)) {
		t.Fatalf("%x", []byte(r.EAP))
	}
	checkHidden(t, testPassword, r, s.link)
	s.step(AuthDecision{})
	checkHidden(t, testPassword, s.link)

	sim := newSim(t, 1, eap(), eapDialer())
	sim.open()
	sim.run(sim.settled)
	checkHidden(t, testPassword, sim.ends[0].link, sim.ends[1].link)
}

// TestOneRoundOnly: a decision that goes on is impossible where the protocol has one round.
func TestOneRoundOnly(t *testing.T) {
	s := newScript(t, pap())
	s.openLCP(peerMagic)
	s.frame(ProtocolPAP, papRequest, 1, []byte("\x01u\x01p")...)
	s.step(AuthDecision{Continue: true, EAP: eapPacket(eapRequest, 1, 4)})
	s.sent(ProtocolPAP, papNak)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonInternal || d.Text != "AAA wants another round of pap, which has one" {
		t.Errorf("%+v", d)
	}
}

// FuzzParseEAP: what is accepted of a server is passed on octet by octet, and fits the rules of RFC 3748 section 4.
func FuzzParseEAP(f *testing.F) {
	f.Add(eapPacket(eapRequest, 1, 4, 1, 2))
	f.Add(eapPacket(eapSuccess, 1))
	f.Add(eapPacket(eapFailure, 1, 0))
	f.Add([]byte{1, 1, 5, 221})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseEAP(b)
		if err != nil {
			return
		}
		if again := p.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
		if len(b) > maxPacket || (p.code == eapRequest || p.code == eapResponse) != (len(p.data) > 0) {
			t.Fatalf("accepted %x", b)
		}
	})
}
