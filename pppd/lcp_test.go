package pppd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestLCPAnswersToTheOptionsOfAPeer(t *testing.T) {
	const (
		mru1400  = "\x01\x04\x05\x78"
		accm     = "\x02\x06\x00\x00\x00\x00"
		pfc      = "\x07\x02"
		acfc     = "\x08\x02"
		callback = "\x0d\x03\x06"
		endpoint = "\x13\x17\x01\x4e\xcb\x36\x1f\xde\x40\xdd\x95\x41\x12\x9c\x71\x61\xf2\x24\x00\x00\x00\x00\x00"
		mrru     = "\x11\x04\x06\x4e"
		eap      = "\x03\x04\xc2\x27"
	)
	server, client := pap(), dialer()
	tests := []struct {
		name    string
		cfg     Config
		options string
		code    uint8
		answer  string // "" for Ack: the same
	}{
		{"nothing asked", server, "", codeConfigureAck, ""},
		{"pppd 2.4 and 2.5, macOS", server, accm + peerMagic + pfc + acfc, codeConfigureAck, ""},
		{"Android mtpd", server, mru1400 + accm + peerMagic + pfc + acfc, codeConfigureAck, ""},
		{"Windows 10", server, mru1400 + peerMagic + pfc + acfc + callback, codeConfigureReject, callback},
		{"Windows 10 again", server, mru1400 + peerMagic + pfc + acfc, codeConfigureAck, ""},
		{"Windows with EAP of its own", server, mru1400 + eap + peerMagic + pfc + acfc + callback + mrru + endpoint, codeConfigureReject, eap + callback + mrru + endpoint},
		{"tiny MRU", server, "\x01\x04\x00\x40" + peerMagic, codeConfigureNak, "\x01\x04\x00\x80"},
		{"large MRU", server, "\x01\x04\x23\x28", codeConfigureAck, ""},
		{"MRU of three octets", server, "\x01\x05\x05\x78\x00", codeConfigureReject, "\x01\x05\x05\x78\x00"},
		{"ACCM of two octets", server, "\x02\x04\x00\x00", codeConfigureReject, "\x02\x04\x00\x00"},
		{"PFC with a value", server, "\x07\x03\x01", codeConfigureReject, "\x07\x03\x01"},
		{"magic of three octets", server, "\x05\x05\x01\x02\x03", codeConfigureReject, "\x05\x05\x01\x02\x03"},
		{"quality protocol", server, "\x04\x08\xc0\x25\x00\x00\x03\xe8", codeConfigureReject, "\x04\x08\xc0\x25\x00\x00\x03\xe8"},
		{"reject hides nak", server, "\x01\x04\x00\x40" + callback, codeConfigureReject, callback},
		{"we do not log in", server, "\x03\x04\xc0\x23", codeConfigureReject, "\x03\x04\xc0\x23"},

		{"dialer: PAP", client, "\x03\x04\xc0\x23" + peerMagic, codeConfigureAck, ""},
		{"dialer: CHAP-MD5", client, "\x03\x05\xc2\x23\x05" + peerMagic, codeConfigureAck, ""},
		{"dialer: MS-CHAPv2", client, "\x03\x05\xc2\x23\x81" + peerMagic, codeConfigureAck, ""},
		{"dialer: MS-CHAPv1", client, "\x03\x05\xc2\x23\x80", codeConfigureNak, "\x03\x05\xc2\x23\x81"},
		{"dialer: EAP", client, eap, codeConfigureNak, "\x03\x05\xc2\x23\x81"},
		{"dialer: truncated CHAP", client, "\x03\x04\xc2\x23", codeConfigureNak, "\x03\x05\xc2\x23\x81"},
	}
	for _, tt := range tests {
		s := newScript(t, tt.cfg)
		s.frame(ProtocolLCP, codeConfigureRequest, 9, []byte(tt.options)...)
		if s.frames() != 1 {
			t.Errorf("%s: answered with %v", tt.name, s.out)
			continue
		}
		p := s.sent(ProtocolLCP, s.out[0].(Send).Data[0])
		want := tt.answer
		if tt.code == codeConfigureAck {
			want = tt.options
		}
		if p.code != tt.code || p.id != 9 || !bytes.Equal(p.data, []byte(want)) {
			t.Errorf("%s: answer %d/%d %x, want %d/9 %x", tt.name, p.code, p.id, p.data, tt.code, want)
		}
	}
}

func TestLCPOptionsTakeEffect(t *testing.T) {
	s := newScript(t, pap())
	s.openLCP("\x01\x04\x02\x58\x02\x06\x00\x0a\x00\x00" + peerMagic + "\x07\x02\x08\x02")
	i := s.link.Info()
	if want := (LCPOptions{MRU: 600, ACCM: 0xa0000, Magic: 0xcafebabe, PFC: true, ACFC: true}); i.Peer != want {
		t.Errorf("peer %+v, want %+v", i.Peer, want)
	}
	if i.Ask.Auth != AuthPAP || i.Ask.Magic == 0 || i.MTU != 600 {
		t.Errorf("%+v", i)
	}
}

func TestMagicNumbers(t *testing.T) {
	s := newScript(t, pap())
	s.frame(ProtocolLCP, codeConfigureRequest, 1, 5, 6, 0, 0, 0, 0)
	if p := s.sent(ProtocolLCP, codeConfigureNak); len(p.data) != 6 || binary.BigEndian.Uint32(p.data[2:]) == 0 {
		t.Errorf("zero magic: %x", p.data)
	}
	ours := s.link.Info().Ask.Magic
	s.frame(ProtocolLCP, codeConfigureRequest, 2, binary.BigEndian.AppendUint32([]byte{5, 6}, ours)...)
	if p := s.sent(ProtocolLCP, codeConfigureNak); binary.BigEndian.Uint32(p.data[2:]) == ours {
		t.Error("the same magic number was suggested")
	}
	// One coincidence is no loop.
	s.openLCP(peerMagic)

	// The peer objects to our number: we take a new one. It rejects the option: we go without.
	s = newScript(t, pap())
	before := s.link.Info().Ask.Magic
	s.frame(ProtocolLCP, codeConfigureNak, s.link.s.LCP.FSM.ID, 5, 6, 1, 2, 3, 4)
	s.sent(ProtocolLCP, codeConfigureRequest)
	after := s.link.Info().Ask.Magic
	if after == before || after == 0 || after == 0x01020304 {
		t.Errorf("magic %x after a Nak of %x", after, before)
	}
	s.frame(ProtocolLCP, codeConfigureReject, s.link.s.LCP.FSM.ID, binary.BigEndian.AppendUint32([]byte{5, 6}, after)...)
	if p := s.sent(ProtocolLCP, codeConfigureRequest); bytes.Contains(p.data, []byte{5, 6}) {
		t.Errorf("asked again: %x", p.data)
	}
	s.openLCP(peerMagic)
	s.frame(ProtocolLCP, codeEchoRequest, 3, 0, 0, 0, 0, 'x')
	if p := s.sent(ProtocolLCP, codeEchoReply); p.id != 3 || !bytes.Equal(p.data, []byte{0, 0, 0, 0, 'x'}) {
		t.Errorf("echo reply %+v", p)
	}
}

func TestAuthenticationFallBack(t *testing.T) {
	const none = AuthNone
	nak := func(o string) func(*script) {
		return func(s *script) {
			s.frame(ProtocolLCP, codeConfigureNak, s.link.s.LCP.FSM.ID, []byte(o)...)
		}
	}
	reject := func(s *script) {
		o := option{lcpAuth, authOption(s.link.Info().Ask.Auth)}.append(nil)
		s.frame(ProtocolLCP, codeConfigureReject, s.link.s.LCP.FSM.ID, o...)
	}
	const papOption, md5Option, ms2Option, ms1Option, eapOption = "\x03\x04\xc0\x23", "\x03\x05\xc2\x23\x05", "\x03\x05\xc2\x23\x81", "\x03\x05\xc2\x23\x80", "\x03\x04\xc2\x27"
	tests := []struct {
		name  string
		allow []AuthProtocol
		peer  []func(*script)
		want  []AuthProtocol // asked for, in order
		fails bool
	}{
		{"first is taken", allAuth, nil, []AuthProtocol{AuthMSCHAPv2}, false},
		{"peer wants PAP", allAuth, []func(*script){nak(papOption)}, []AuthProtocol{AuthMSCHAPv2, AuthPAP}, false},
		{"peer wants MS-CHAPv1, which we have not", allAuth, []func(*script){nak(ms1Option)}, []AuthProtocol{AuthMSCHAPv2, AuthCHAPMD5}, false},
		{"peer wants EAP twice", allAuth, []func(*script){nak(eapOption), nak(eapOption)}, []AuthProtocol{AuthMSCHAPv2, AuthCHAPMD5, AuthPAP}, false},
		{"peer wants what it refused before", allAuth, []func(*script){nak(papOption), nak(ms2Option)}, []AuthProtocol{AuthMSCHAPv2, AuthPAP, AuthCHAPMD5}, false},
		{"peer wants PAP but it is not allowed", []AuthProtocol{AuthMSCHAPv2, AuthCHAPMD5}, []func(*script){nak(papOption)}, []AuthProtocol{AuthMSCHAPv2, AuthCHAPMD5}, false},
		{"peer naks with what we asked", []AuthProtocol{AuthMSCHAPv2}, []func(*script){nak(ms2Option)}, []AuthProtocol{AuthMSCHAPv2}, true},
		{"peer rejects all", allAuth, []func(*script){reject, reject, reject}, allAuth, true},
		{"peer rejects, then naks", []AuthProtocol{AuthCHAPMD5, AuthPAP}, []func(*script){reject, nak(md5Option)}, []AuthProtocol{AuthCHAPMD5, AuthPAP}, true},
		{"nonsense in the configuration", []AuthProtocol{none, 77, AuthPAP}, nil, []AuthProtocol{AuthPAP}, false},
	}
	for _, tt := range tests {
		s := newScript(t, Config{Auth: tt.allow})
		got := []AuthProtocol{s.link.Info().Ask.Auth}
		for _, f := range tt.peer {
			f(s)
			if a := s.link.Info().Ask.Auth; s.link.Info().Phase == PhaseEstablish {
				got = append(got, a)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: asked for %v, want %v", tt.name, got, tt.want)
		}
		if tt.fails {
			s.sent(ProtocolLCP, codeTerminateRequest)
			s.frame(ProtocolLCP, codeTerminateAck, s.link.s.LCP.FSM.LastID)
			if d := s.down(); d == nil || d.Reason != ReasonAuthRefused || d.Cause.Code != 15 || d.Cause.Direction != 1 {
				t.Errorf("%s: ended with %+v", tt.name, d)
			}
			continue
		}
		s.openLCP(peerMagic)
		if i := s.link.Info(); i.Phase != PhaseAuthenticate || i.Ask.Auth != tt.want[len(tt.want)-1] {
			t.Errorf("%s: %+v", tt.name, i)
		}
	}
}

func TestOurMRU(t *testing.T) {
	tests := []struct {
		mru        uint16
		code       uint8
		peer       string
		first, now uint16
	}{
		{1400, codeConfigureNak, "\x01\x04\x05\x14", 1400, 1300},
		{1400, codeConfigureNak, "\x01\x04\x05\xdc", 1400, 1400}, // we cannot take more
		{1400, codeConfigureNak, "\x01\x04\x00\x10", 1400, 1400}, // absurd
		{1400, codeConfigureReject, "\x01\x04\x05\x78", 1400, 0},
		{1500, codeConfigureNak, "\x01\x04\x05\x14", 0, 1300},
		{100, codeConfigureNak, "\x01\x04\x02\x00", 576, 512},
		{9000, codeConfigureNak, "\x01\x04\x23\x28", 0, 0},
	}
	for _, tt := range tests {
		cfg := pap()
		cfg.MRU = tt.mru
		s := newScript(t, cfg)
		if got := s.link.Info().Ask.MRU; got != tt.first {
			t.Errorf("MRU %d: asked %d first, want %d", tt.mru, got, tt.first)
		}
		s.frame(ProtocolLCP, tt.code, s.link.s.LCP.FSM.ID, []byte(tt.peer)...)
		if got := s.link.Info().Ask.MRU; got != tt.now {
			t.Errorf("MRU %d: asks %d after %x, want %d", tt.mru, got, tt.peer, tt.now)
		}
	}
}

func TestAnswersThatDoNotFitAreDropped(t *testing.T) {
	s := newScript(t, pap())
	id, options := s.link.s.LCP.FSM.ID, lcp{s.link}.request(nil)
	for _, f := range []struct {
		name string
		code uint8
		id   uint8
		data []byte
	}{
		{"Ack of another request", codeConfigureAck, id + 1, options},
		{"Ack of less", codeConfigureAck, id, options[:len(options)-6]},
		{"Ack of nothing", codeConfigureAck, id, nil},
		{"Ack of more", codeConfigureAck, id, append(bytes.Clone(options), 7, 2)},
		{"Nak of another request", codeConfigureNak, id - 1, []byte(peerMagic)},
		{"Reject of what was not asked", codeConfigureReject, id, []byte{7, 2}},
		{"Reject with another value", codeConfigureReject, id, []byte(peerMagic)},
		{"broken Nak", codeConfigureNak, id, []byte{3, 9, 0}},
		{"option without length", codeConfigureNak, id, []byte{3}},
		{"option of length one", codeConfigureNak, id, []byte{3, 1, 3, 1}},
		{"empty Code-Reject", codeCodeReject, id, nil},
		{"short Protocol-Reject", codeProtocolReject, id, []byte{0xc0}},
		{"early Protocol-Reject", codeProtocolReject, id, []byte{0xc0, 0x21}},
		{"short echo", codeEchoRequest, id, []byte{1, 2}},
	} {
		before := s.link.Info()
		if out := s.frame(ProtocolLCP, f.code, f.id, f.data...); len(out) > 0 {
			t.Errorf("%s: %v", f.name, out)
		}
		after := s.link.Info()
		if after.LCP != before.LCP || after.Ask != before.Ask {
			t.Errorf("%s: changed %+v to %+v", f.name, before, after)
		}
		if after.Counters.Malformed+after.Counters.Unexpected != before.Counters.Malformed+before.Counters.Unexpected+1 {
			t.Errorf("%s: not counted: %+v", f.name, after.Counters)
		}
	}
	s.openLCP(peerMagic) // and nothing has been harmed
	for _, raw := range [][]byte{nil, {1}, {1, 1, 0}, {1, 1, 0, 3}, {1, 1, 0, 5}, {1, 1, 0xff, 0xff}} {
		before := s.link.Info().Counters.Malformed
		if out := s.step(Frame{ProtocolLCP, raw}); len(out) > 0 || s.link.Info().Counters.Malformed != before+1 {
			t.Errorf("%x: %v", raw, out)
		}
	}
}

func TestSilentPeer(t *testing.T) {
	s := newScript(t, pap())
	first := s.sent(ProtocolLCP, codeConfigureRequest)
	s.wait(29 * time.Second)
	if s.frames() != 9 {
		t.Errorf("%d repetitions within 29 s, want 9", s.frames())
	}
	for _, e := range s.out {
		if p, _ := parsePacket(e.(Send).Data); p.id != first.id || !bytes.Equal(p.data, first.data) {
			t.Errorf("repetition %+v differs from %+v", p, first)
		}
	}
	s.wait(time.Second)
	if d := s.down(); d == nil || d.Reason != ReasonLCPTimeout || d.Cause.Code != 6 || s.frames() != 0 {
		t.Fatalf("after 30 s: %v", s.out)
	}
}

func TestPeersThatDoNotConverge(t *testing.T) {
	t.Run("acknowledges but never asks", func(t *testing.T) {
		s := newScript(t, pap())
		for range 100 {
			s.ack(ProtocolLCP)
			s.wait(2 * time.Second)
			if d := s.down(); d != nil {
				if d.Reason != ReasonLCPDiverged || d.Cause.Code != 5 {
					t.Errorf("%+v", d)
				}
				return
			}
		}
		t.Error("goes on after 200 s")
	})
	t.Run("asks what we reject, for ever", func(t *testing.T) {
		s := newScript(t, pap())
		s.ack(ProtocolLCP)
		for n := range 2 * maxRounds {
			s.frame(ProtocolLCP, codeConfigureRequest, uint8(n), 13, 3, 6)
		}
		if got := s.link.Info().Phase; got != PhaseTerminate {
			t.Errorf("phase %v", got)
		}
	})
	t.Run("naks our magic for ever", func(t *testing.T) {
		s := newScript(t, pap())
		for range 2 * maxRounds {
			s.frame(ProtocolLCP, codeConfigureNak, s.link.s.LCP.FSM.ID, []byte(peerMagic)...)
		}
		if got := s.link.Info().Phase; got != PhaseTerminate {
			t.Errorf("phase %v", got)
		}
	})
	t.Run("insists on a tiny MRU", func(t *testing.T) {
		s := newScript(t, pap())
		var codes []uint8
		for n := range 7 {
			s.frame(ProtocolLCP, codeConfigureRequest, uint8(n), 1, 4, 0, 1)
			codes = append(codes, s.out[0].(Send).Data[0])
		}
		if want := []uint8{3, 3, 3, 3, 3, 4, 4}; !bytes.Equal(codes, want) { // Max-Failure is 5
			t.Errorf("answers %v, want %v", codes, want)
		}
	})
}

func TestRepeatedConfigureRequestIsAcknowledgedAgain(t *testing.T) {
	s := newScript(t, pap())
	s.openLCP(peerMagic)
	s.frame(ProtocolLCP, codeConfigureRequest, 1, []byte(peerMagic)...)
	if p := s.sent(ProtocolLCP, codeConfigureAck); s.frames() != 1 || p.id != 1 || s.link.Info().LCP != Opened {
		t.Errorf("%v", s.out)
	}
	// A new identifier or another magic number is a peer that has started again.
	s.frame(ProtocolLCP, codeConfigureRequest, 2, []byte(peerMagic)...)
	s.sent(ProtocolLCP, codeConfigureAck)
	if p := s.sent(ProtocolLCP, codeConfigureRequest); p.id == 1 || s.link.Info().LCP != AckSent {
		t.Errorf("%v", s.out)
	}
}

func TestUnknownCodes(t *testing.T) {
	s := newScript(t, pap())
	s.openLCP("\x01\x04\x00\x80" + peerMagic) // MRU 128
	for _, code := range []uint8{0, 14, 99} {
		s.frame(ProtocolLCP, code, 8, make([]byte, 700)...)
		p := s.sent(ProtocolLCP, codeCodeReject)
		if len(p.data)+packetHeader != 128 || p.data[0] != code || p.data[1] != 8 {
			t.Errorf("code %d: Code-Reject of %d octets: %x", code, len(p.data), p.data)
		}
	}
	for _, code := range []uint8{codeDiscardRequest, codeIdentification, codeTimeRemaining, codeEchoReply} {
		if out := s.frame(ProtocolLCP, code, 8, []byte("\xca\xfe\xba\xbeMSRASV5.20")...); len(out) > 0 {
			t.Errorf("code %d answered with %v", code, out)
		}
	}
	s.frame(ProtocolLCP, codeEchoRequest, 1, make([]byte, 130)...)
	if s.frames() != 0 {
		t.Error("echo reply above the peer's MRU")
	}
	if i := s.link.Info(); i.Phase != PhaseAuthenticate || i.LCP != Opened {
		t.Errorf("%+v", i)
	}
}

func TestCodeRejectOfOurs(t *testing.T) {
	cfg := pap()
	cfg.EchoInterval = 10 * time.Second
	s := newScript(t, cfg)
	s.openLCP(peerMagic)
	s.openAuth()
	s.openIPCP()
	s.wait(11 * time.Second)
	echo := s.sent(ProtocolLCP, codeEchoRequest)
	s.frame(ProtocolLCP, codeCodeReject, 1, echo.append(nil)...)
	s.wait(10 * time.Minute)
	if i := s.link.Info(); i.Phase != PhaseNetwork || i.Counters.EchoRequests != 1 {
		t.Errorf("a peer without echo: %+v", i)
	}
	s.frame(ProtocolLCP, codeCodeReject, 2, codeConfigureRequest, 1, 0, 4)
	s.sent(ProtocolLCP, codeTerminateRequest)
	s.wait(time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonLCPDiverged || !d.ByPeer {
		t.Errorf("%+v", d)
	}
	s = newScript(t, cfg)
	s.frame(ProtocolLCP, codeCodeReject, 2, codeConfigureRequest, 1, 0, 4)
	if d := s.down(); d == nil || d.Reason != ReasonLCPDiverged {
		t.Errorf("%+v", d)
	}
}

func TestProtocolsWeDoNotSpeak(t *testing.T) {
	s := newScript(t, pap())
	s.frame(ProtocolCCP, codeConfigureRequest, 1)
	if s.frames() != 0 {
		t.Error("answered before LCP was open")
	}
	s.openLCP("\x01\x04\x02\x58" + peerMagic)
	early := s.link.Info().Counters.Early
	for _, protocol := range []uint16{ProtocolIPv6CP, ProtocolIPv4, ProtocolIPCP, 0x8029} {
		if s.frame(protocol, codeConfigureRequest, 1); s.frames() != 0 {
			t.Errorf("%04x answered before authentication: %v", protocol, s.out)
		}
	}
	if got := s.link.Info().Counters; got.Early != early+3 || got.Unexpected != 1 {
		t.Errorf("counted %+v", got)
	}
	// MikroTik and Windows send CCP at once; they are told at once (F1).
	for _, protocol := range []uint16{ProtocolCCP, ProtocolCCPOne, ProtocolECP, ProtocolECPOne} {
		s.frame(protocol, codeConfigureRequest, 1, 0x12, 6, 1, 0, 0, 0x60)
		p := s.sent(ProtocolLCP, codeProtocolReject)
		if got := binary.BigEndian.Uint16(p.data); got != protocol || !bytes.Equal(p.data[2:], []byte{1, 1, 0, 10, 0x12, 6, 1, 0, 0, 0x60}) {
			t.Errorf("%04x: %x", protocol, p.data)
		}
	}
	s.openAuth()
	for _, protocol := range []uint16{ProtocolIPv6CP, ProtocolIPv6, 0x8029, 0x0281, 0xc025} {
		s.step(Frame{protocol, bytes.Repeat([]byte{protocolFill}, 1400)})
		p := s.sent(ProtocolLCP, codeProtocolReject)
		if got := binary.BigEndian.Uint16(p.data); got != protocol || len(p.data)+packetHeader != 600 {
			t.Errorf("%04x: Protocol-Reject of %04x with %d octets", protocol, got, len(p.data)+packetHeader)
		}
	}
	s.openIPCP()
	if out := s.step(Frame{ProtocolIPv4, make([]byte, 100)}); len(out) != 0 {
		t.Errorf("a data packet got %v", out)
	}
}

const protocolFill = 0x45

func TestPeerRejectsOurProtocols(t *testing.T) {
	reject := func(s *script, protocol uint16) {
		s.frame(ProtocolLCP, codeProtocolReject, 1, byte(protocol>>8), byte(protocol), 1, 1, 0, 4)
	}
	finish := func(s *script) *Down {
		s.wait(time.Minute)
		return s.down()
	}
	t.Run("authentication", func(t *testing.T) {
		s := newScript(t, Config{Auth: []AuthProtocol{AuthCHAPMD5}})
		s.openLCP(peerMagic)
		reject(s, ProtocolPAP) // not ours
		if s.link.Info().Phase != PhaseAuthenticate {
			t.Fatal("took a reject of PAP seriously")
		}
		reject(s, ProtocolCHAP)
		if d := finish(s); d == nil || d.Reason != ReasonAuthRefused || d.Cause != (DisconnectCause{15, ProtocolCHAP, 1}) {
			t.Errorf("%+v", d)
		}
	})
	t.Run("IPCP", func(t *testing.T) {
		s := newScript(t, pap())
		s.openLCP(peerMagic)
		s.openAuth()
		reject(s, ProtocolIPCP)
		if d := finish(s); d == nil || d.Reason != ReasonNetwork || d.Cause != (DisconnectCause{18, ProtocolIPCP, 1}) {
			t.Errorf("%+v", d)
		}
	})
	t.Run("IPCP when it is open", func(t *testing.T) {
		s := newScript(t, pap())
		s.openLCP(peerMagic)
		s.openAuth()
		s.openIPCP()
		reject(s, ProtocolIPCP)
		if _, ok := s.out[0].(NetworkDown); !ok {
			t.Errorf("%v", s.out)
		}
		if d := finish(s); d == nil || d.Reason != ReasonNetwork {
			t.Errorf("%+v", d)
		}
	})
	t.Run("LCP", func(t *testing.T) {
		s := newScript(t, pap())
		s.openLCP(peerMagic)
		reject(s, ProtocolLCP)
		if d := finish(s); d == nil || d.Reason != ReasonLCPDiverged {
			t.Errorf("%+v", d)
		}
	})
	t.Run("others", func(t *testing.T) {
		s := newScript(t, pap())
		s.openLCP(peerMagic)
		s.openAuth()
		s.openIPCP()
		for _, p := range []uint16{ProtocolCCP, ProtocolIPv6CP, ProtocolIPv4, ProtocolPAP} {
			if reject(s, p); len(s.out) > 0 {
				t.Errorf("%04x: %v", p, s.out)
			}
		}
	})
}

func TestWhyThePeerLeaves(t *testing.T) {
	windows := func(code uint32) string {
		return string(binary.BigEndian.AppendUint32([]byte("\xca\xfe\xba\xbe\x00<\xcdt"), code))
	}
	ccp := func(s *script) { s.frame(ProtocolCCP, codeConfigureRequest, 1, 0x12, 6, 1, 0, 0, 0x60) }
	deflate := func(s *script) { s.frame(ProtocolCCP, codeConfigureRequest, 1, 0x1a, 4, 0x78, 0, 0x18, 4, 0x78, 0) }
	mppc := func(s *script) { s.frame(ProtocolCCP, codeConfigureRequest, 1, 0x12, 6, 1, 0, 0, 1) }
	auth := func(s *script) { s.openAuth() }
	network := func(s *script) { s.openIPCP() }
	ecp := func(s *script) { s.frame(ProtocolECP, codeConfigureRequest, 1, 3, 10, 1, 2, 3, 4, 5, 6, 7, 8) }
	pause := func(s *script) { s.wait(10 * time.Second) }
	tests := []struct {
		name   string
		before []func(*script)
		text   string
		reason Reason
		cause  DisconnectCause
		quotes string
	}{
		{"pppd", []func(*script){auth, network}, "User request", ReasonUserRequest, DisconnectCause{3, 0, 1}, "User request"},
		{"Windows logs off", []func(*script){auth, ccp, network, pause}, windows(0), ReasonUserRequest, DisconnectCause{3, 0, 1}, "the peer ended the link"},
		{"Windows logs off quickly", []func(*script){auth, network, ccp}, windows(0), ReasonUserRequest, DisconnectCause{3, 0, 1}, ""},
		{"Windows wants encryption", []func(*script){auth, ccp}, windows(742), ReasonEncryption, DisconnectCause{4, 0, 2}, "742"},
		{"Windows wants encryption after all", []func(*script){auth, network, ccp, pause}, windows(741), ReasonEncryption, DisconnectCause{4, 0, 2}, "741"},
		{"Windows with another error", []func(*script){auth, network}, windows(691), ReasonUserRequest, DisconnectCause{3, 0, 1}, "691"},
		{"pppd wants MPPE", []func(*script){auth, ccp}, "MPPE required but peer negotiation failed", ReasonEncryption, DisconnectCause{4, 0, 2}, "MPPE"},
		{"MikroTik wants MPPE, IPCP was quicker", []func(*script){auth, network, ccp}, "", ReasonEncryption, DisconnectCause{4, 0, 2}, ""},
		{"pppd only offers to compress", []func(*script){auth, deflate}, "Hangup", ReasonUserRequest, DisconnectCause{3, 0, 1}, "Hangup"},
		{"Windows without encryption", []func(*script){auth, mppc}, "", ReasonUserRequest, DisconnectCause{3, 0, 1}, ""},
		{"MPPE before authentication", []func(*script){ccp}, "", ReasonEncryption, DisconnectCause{4, 0, 2}, ""},
		{"ECP", []func(*script){auth, ecp}, "", ReasonEncryption, DisconnectCause{4, 0, 2}, ""},
		{"went on without CCP", []func(*script){ccp, auth, network, pause}, "bye\x1b[2J", ReasonUserRequest, DisconnectCause{3, 0, 1}, "bye.[2J"},
	}
	for _, tt := range tests {
		s := newScript(t, pap())
		s.openLCP(peerMagic)
		for _, f := range tt.before {
			f(s)
		}
		s.frame(ProtocolLCP, codeTerminateRequest, 77, []byte(tt.text)...)
		if p := s.sent(ProtocolLCP, codeTerminateAck); p.id != 77 {
			t.Errorf("%s: acknowledged %d", tt.name, p.id)
		}
		s.frame(ProtocolLCP, codeTerminateRequest, 77, []byte(tt.text)...) // our answer was lost
		s.sent(ProtocolLCP, codeTerminateAck)
		if s.wait(2 * time.Second); s.down() != nil {
			t.Errorf("%s: down before the restart time is over (RFC 1661 section 3.7)", tt.name)
		}
		s.wait(time.Second)
		d := s.down()
		if d == nil || d.Reason != tt.reason || d.Cause != tt.cause || !d.ByPeer || !strings.Contains(d.Text, tt.quotes) {
			t.Errorf("%s: %+v, want %s %+v", tt.name, d, tt.reason, tt.cause)
		}
	}

	// A peer that wants us to log in, is refused and leaves.
	s := newScript(t, pap())
	s.frame(ProtocolLCP, codeConfigureRequest, 1, 3, 4, 0xc0, 0x23)
	s.frame(ProtocolLCP, codeTerminateRequest, 2)
	s.wait(7 * time.Second)
	if d := s.down(); d == nil || d.Reason != ReasonAuthRefused || d.Cause != (DisconnectCause{15, 0, 2}) || !d.ByPeer {
		t.Errorf("%+v", d)
	}
	// A peer that gives up while negotiating, and one that comes back.
	s = newScript(t, pap())
	s.frame(ProtocolLCP, codeTerminateRequest, 2)
	s.sent(ProtocolLCP, codeTerminateAck)
	s.openLCP(peerMagic)
	s.wait(5 * time.Minute)
	if d := s.down(); d == nil || d.Reason != ReasonAuthTimeout {
		t.Errorf("came back, then silent: %+v", d)
	}
}

func TestCloseIsBounded(t *testing.T) {
	s := newScript(t, pap())
	s.openLCP(peerMagic)
	s.step(Close{Reason: "session-timeout"})
	first := s.sent(ProtocolLCP, codeTerminateRequest)
	s.frame(ProtocolLCP, codeConfigureRequest, 9, []byte(peerMagic)...) // ignored now
	if len(s.out) != 0 {
		t.Errorf("%v", s.out)
	}
	s.step(Close{Reason: "again"})
	s.wait(time.Minute)
	if s.frames() != 1 || s.sent(ProtocolLCP, codeTerminateRequest).id != first.id {
		t.Errorf("Max-Terminate is 2: %v", s.out)
	}
	if d := s.down(); d == nil || d.Reason != "session-timeout" || d.ByPeer {
		t.Errorf("%+v", d)
	}

	l := NewLink(pap(), chaChaReader(1))
	if out := l.Step(epoch, Frame{ProtocolLCP, []byte{9, 1, 0, 8, 0, 0, 0, 0}}); len(out) != 0 {
		t.Errorf("a dead link answers: %v", out)
	}
	if out := l.Step(epoch, Close{}); len(out) != 1 || out[0].(Down).Reason != ReasonAdmin {
		t.Errorf("closing a link that was never opened: %v", out)
	}
}
