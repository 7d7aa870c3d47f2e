package pppd

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// relay has a LAC negotiate with the client until it knows how the client answers, and hands the client on to an LNS, which
// replaces the LAC in the simulation.
func relay(t *testing.T, lac, client, lns Config, change func(p *Proxy)) (*sim, Proxy) {
	t.Helper()
	s := newSim(t, 11, lac, client)
	s.ends[0].authDelay = time.Hour
	s.open()
	s.run(func() bool { return len(s.ends[0].asked) > 0 })
	p, ok := s.ends[0].link.Handover()
	if !ok {
		t.Fatalf("nothing to hand over: %v", s)
	}
	s.queue = slices.DeleteFunc(s.queue, func(e simEvent) bool { _, answer := e.ev.(AuthDecision); return answer })
	told := p
	if change != nil {
		change(&p)
	}
	lns.Proxy = &p
	s.ends[0] = &end{name: "lns", link: NewLink(lns, chaChaReader(99))}
	s.step(0, Open{})
	return s, told
}

// A8, RFC 2661 section 4.4.5: an LNS goes on where the LAC has left off, and the client notices nothing.
func TestProxyGoesOnWhereTheLACHasLeftOff(t *testing.T) {
	for _, auth := range []AuthProtocol{AuthNone, AuthPAP, AuthCHAPMD5, AuthMSCHAPv2, AuthEAP} {
		cfg, client := Config{Auth: []AuthProtocol{auth}, MRU: 1400}, dialer()
		if auth == AuthNone {
			cfg.Auth = nil
		}
		if auth == AuthEAP {
			client = eapDialer()
		}
		s, told := relay(t, cfg, client, cfg, nil)
		if told.Auth != auth {
			t.Errorf("%v: handed on as %v", auth, told.Auth)
		}
		proxied := auth == AuthNone || auth == AuthPAP || auth == AuthCHAPMD5
		if got := len(s.ends[0].asked) == 1; got != proxied {
			t.Errorf("%v: AAA asked at once: %v", auth, got)
		}
		s.run(s.settled)
		if !s.bothUp() {
			t.Errorf("%v: %v", auth, s)
			continue
		}
		i := s.ends[0].link.Info()
		if !i.ProxyLCP || i.Ask.Auth != auth || i.MTU != 1400 {
			t.Errorf("%v: %+v", auth, i)
		}
		if n := s.ends[1].link.Info().Counters.Renegotiations; n != 0 {
			t.Errorf("%v: the client has negotiated LCP %d times more", auth, n)
		}
		if auth != AuthNone && i.User != testUser {
			t.Errorf("%v: user %q", auth, i.User)
		}
	}
}

// The verdict on an answer that the LAC has passed on comes from the LNS, and a wrong password gets the client a refusal.
func TestProxiedAnswerIsRefused(t *testing.T) {
	for _, auth := range []AuthProtocol{AuthPAP, AuthCHAPMD5} {
		cfg := Config{Auth: []AuthProtocol{auth}}
		client := dialer()
		client.Dialer.Password = Secret("guess")
		s, _ := relay(t, cfg, client, cfg, nil)
		s.run(s.settled)
		if d := s.ends[0].down; d == nil || d.Reason != ReasonAuthFailed {
			t.Errorf("%v: %v", auth, s)
		}
		if d := s.ends[1].down; d == nil || !strings.Contains(d.Text, "go away") {
			t.Errorf("%v: the client does not know why: %+v", auth, d)
		}
	}
}

// RFC 1661 section 6.1: the LAC's MRU may be larger than ours, up to 1500. What we send is no larger than ever.
func TestProxyWithALargerMRU(t *testing.T) {
	for _, lac := range []Config{{Auth: []AuthProtocol{AuthPAP}}, {Auth: []AuthProtocol{AuthPAP}, MRU: 1492}} {
		s, _ := relay(t, lac, dialer(), Config{Auth: []AuthProtocol{AuthPAP}, MRU: 1400}, nil)
		s.run(s.settled)
		if i := s.ends[0].link.Info(); !s.bothUp() || !i.ProxyLCP || i.MTU != 1400 || s.ends[0].ups[0].MTU != 1400 {
			t.Errorf("%v", s)
		}
	}
}

// What this end would not have agreed to is negotiated anew, and the client agrees.
func TestProxyThatDoesNotSuitIsNegotiatedAnew(t *testing.T) {
	lns := Config{Auth: []AuthProtocol{AuthPAP, AuthCHAPMD5}, MRU: 1400}
	magicOf := func(b []byte) []byte { return b[bytes.Index(b, []byte{5, 6}):][:6] }
	tests := []struct {
		name   string
		lac    Config
		change func(p *Proxy)
	}{
		{"MRU beyond what all can receive", lns, func(p *Proxy) { p.LastSentLCP[2], p.LastSentLCP[3] = 0x23, 0x28 }},
		{"authentication", Config{Auth: []AuthProtocol{AuthMSCHAPv2}, MRU: 1400}, nil},
		{"no authentication", Config{MRU: 1400}, nil},
		{"no LCP", lns, func(p *Proxy) { p.LastSentLCP = nil }},
		{"half of LCP", lns, func(p *Proxy) { p.LastReceivedLCP = nil }},
		{"lengths", lns, func(p *Proxy) { p.LastSentLCP = append(p.LastSentLCP, 7, 3) }},
		{"length of an option", lns, func(p *Proxy) { p.LastSentLCP = append(p.LastSentLCP, 7, 3, 1) }},
		{"more than a packet", lns, func(p *Proxy) {
			p.LastReceivedLCP = append(p.LastReceivedLCP, bytes.Repeat(append([]byte{2, 50}, make([]byte, 48)...), 31)...)
		}},
		{"an option twice", lns, func(p *Proxy) { p.LastSentLCP = append(p.LastSentLCP, 1, 4, 0, 64) }},
		{"multilink of the LAC", lns, func(p *Proxy) { p.LastSentLCP = append(p.LastSentLCP, 17, 4, 6, 0x4e) }},
		{"multilink of the client", lns, func(p *Proxy) { p.LastReceivedLCP = append(p.LastReceivedLCP, 17, 4, 6, 0x4e) }},
		{"the client wants us to log in", lns, func(p *Proxy) { p.LastReceivedLCP = append(p.LastReceivedLCP, 3, 4, 0xc0, 0x23) }},
		{"tiny MRU of the client", lns, func(p *Proxy) { p.LastReceivedLCP = []byte{1, 4, 0, 64} }},
		{"tiny MRU of the LAC", lns, func(p *Proxy) { p.LastSentLCP[2], p.LastSentLCP[3] = 0, 64 }},
		{"magic number nought", lns, func(p *Proxy) { copy(magicOf(p.LastSentLCP)[2:], make([]byte, 4)) }},
		{"loop", lns, func(p *Proxy) { copy(magicOf(p.LastReceivedLCP), magicOf(p.LastSentLCP)) }},
	}
	for _, tt := range tests {
		s, _ := relay(t, tt.lac, dialer(), lns, tt.change)
		if i := s.ends[0].link.Info(); i.ProxyLCP || i.LCP != ReqSent || len(s.ends[0].sent) != 1 {
			t.Errorf("%s: %+v", tt.name, i)
			continue
		}
		s.run(s.settled)
		if !s.bothUp() || s.ends[1].link.Info().Counters.Renegotiations != 1 {
			t.Errorf("%s: %v", tt.name, s)
		}
	}
}

// An answer that cannot be used is asked for again, with LCP as the LAC has negotiated it.
func TestProxyAnswerThatCannotBeUsed(t *testing.T) {
	chap := Config{Auth: []AuthProtocol{AuthCHAPMD5}}
	tests := []struct {
		name   string
		cfg    Config
		change func(p *Proxy)
	}{
		{"none", chap, func(p *Proxy) { p.Auth = AuthNone }},
		{"another protocol", chap, func(p *Proxy) { p.Auth = AuthPAP }},
		{"short response", chap, func(p *Proxy) { p.Response = p.Response[1:] }},
		{"MS-CHAP called CHAP", chap, func(p *Proxy) { p.Response = make(Secret, msResponseLen) }},
		{"no challenge", chap, func(p *Proxy) { p.Challenge = nil }},
		{"long challenge", chap, func(p *Proxy) { p.Challenge = make([]byte, maxProxyChallenge+1) }},
		{"long name", chap, func(p *Proxy) { p.User = strings.Repeat("x", maxUser+1) }},
		{"long password", pap(), func(p *Proxy) { p.Response = make(Secret, maxProxyPassword+1) }},
	}
	for _, tt := range tests {
		s, told := relay(t, tt.cfg, dialer(), tt.cfg, tt.change)
		if len(s.ends[0].asked) != 0 {
			t.Errorf("%s: AAA was asked about %+v", tt.name, s.ends[0].asked)
		}
		if sent := s.ends[0].sent; tt.cfg.Auth[0] == AuthCHAPMD5 && (len(sent) != 1 || sent[0].Data[0] != chapChallenge || sent[0].Data[1] == told.ID) {
			t.Errorf("%s: sent %v, after a challenge %d", tt.name, sent, told.ID)
		}
		if tt.cfg.Auth[0] == AuthPAP { // the client repeats its request, which the LAC has swallowed
			s.step(0, Frame{ProtocolPAP, packet{papRequest, 3, append(append([]byte{uint8(len(testUser))}, testUser...), append([]byte{uint8(len(testPassword))}, testPassword...)...)}.append(nil)})
		}
		s.run(s.settled)
		if i := s.ends[0].link.Info(); !s.bothUp() || !i.ProxyLCP {
			t.Errorf("%s: %v", tt.name, s)
		}
	}
}

// The client may negotiate LCP anew at any time: while AAA is being asked about its proxied answer, and later. Of the
// LAC's options nothing is left then.
func TestClientOfAProxyNegotiatesAnew(t *testing.T) {
	proxy := &Proxy{
		LastSentLCP: []byte("\x01\x04\x05\x78\x03\x04\xc0\x23\x05\x06\x01\x02\x03\x04\x07\x02\x08\x02"), LastReceivedLCP: []byte(peerMagic),
		Auth: AuthPAP, User: "al\x00ce", ID: 7, Response: Secret("pw"),
	}
	s := newScript(t, Config{Auth: []AuthProtocol{AuthPAP}, MRU: 1300, Proxy: proxy})
	if r := s.asked(); r.User != "al\x00ce" || string(r.Password) != "pw" || r.ID != 7 || r.PeerMRU != 1300 || s.frames() != 0 {
		t.Fatalf("%v", s.out)
	}
	if i := s.link.Info(); !i.ProxyLCP || !i.Ask.PFC || !i.Ask.ACFC || i.Ask.MRU != 1400 || i.Peer.Magic != 0xcafebabe || i.Ask.Magic != 0x01020304 {
		t.Fatalf("%+v", i)
	}
	s.frame(ProtocolLCP, codeConfigureRequest, 1, []byte("\x05\x06\x11\x22\x33\x44")...)
	request := s.sent(ProtocolLCP, codeConfigureRequest)
	if i := s.link.Info(); i.ProxyLCP || i.Ask.PFC || i.Ask.ACFC || i.Ask.Magic == 0x01020304 || i.Ask.MRU != 1300 {
		t.Errorf("%+v", i)
	}
	if bytes.Contains(request.data, []byte{7, 2}) {
		t.Errorf("asks for the LAC's compression: %x", request.data)
	}
	s.ack(ProtocolLCP)
	if _, ok := s.link.Handover(); ok {
		t.Error("handed over with an answer of before")
	}
	if s.step(AuthDecision{Accept: true, Network: Network{Local: localAddr, Peer: peerAddr}}); s.link.Info().Phase != PhaseAuthenticate || s.frames() != 0 {
		t.Errorf("a void answer: %v", s.out)
	}
	s.openAuth()
	s.openIPCP()
}

// Verdicts carry the identifier of what the peer has sent the LAC, and repetitions get the verdict again.
func TestProxiedVerdict(t *testing.T) {
	s := newScript(t, Config{Auth: []AuthProtocol{AuthCHAPMD5}, Proxy: &Proxy{
		LastSentLCP: []byte("\x03\x05\xc2\x23\x05"), LastReceivedLCP: []byte{}, Auth: AuthCHAPMD5, User: "bob", ID: 200, Challenge: []byte("0123456789"),
		Response: Secret(chapMD5(200, []byte("0123456789"), []byte("pw"))),
	}})
	if r := s.asked(); !CheckCHAPMD5(r.ID, r.Challenge, r.Response, []byte("pw")) || r.User != "bob" {
		t.Fatalf("%+v", r)
	}
	s.step(AuthDecision{Accept: true, Network: Network{Local: localAddr, Peer: peerAddr}})
	if p := s.sent(ProtocolCHAP, chapSuccess); p.id != 200 {
		t.Errorf("success %d", p.id)
	}
	s.frame(ProtocolCHAP, chapResponse, 200, append(append([]byte{16}, make([]byte, 16)...), "bob"...)...)
	s.sent(ProtocolCHAP, chapSuccess)
	s.openIPCP()
}

// A link that has been handed over is over, whatever happens to it.
func TestHandoverEndsALinkInSilence(t *testing.T) {
	s := newScript(t, pap())
	if _, ok := s.link.Handover(); ok {
		t.Error("before LCP is open")
	}
	s.openLCP("\x01\x04\x05\x78" + peerMagic)
	ask := lcp{s.link}.request(nil)
	if _, ok := s.link.Handover(); ok {
		t.Error("before the peer has said anything")
	}
	s.frame(ProtocolPAP, papRequest, 5, []byte("\x01u\x01p")...)
	s.frame(ProtocolPAP, papRequest, 6, []byte("\x01u\x01p")...) // what the far end answers
	p, ok := s.link.Handover()
	if !ok || p.Auth != AuthPAP || p.User != "u" || string(p.Response) != "p" || p.ID != 6 || len(p.Challenge) != 0 ||
		!bytes.Equal(p.LastSentLCP, ask) || string(p.LastReceivedLCP) != "\x01\x04\x05\x78"+peerMagic {
		t.Errorf("%+v", p)
	}
	for _, ev := range []Event{
		AuthDecision{Accept: true}, Frame{ProtocolLCP, packet{codeEchoRequest, 1, make([]byte, 4)}.append(nil)}, Timer{}, Close{}, LowerDown{},
	} {
		if out := s.step(ev); len(out) != 0 {
			t.Errorf("%T: %v", ev, out)
		}
	}
	if _, again := s.link.Handover(); again || !s.link.Deadline().IsZero() || s.link.Info().Phase != PhaseDead {
		t.Errorf("%+v", s.link.Info())
	}
}

// Passwords are not stored: a link that was restored tells the next LNS to ask again.
func TestHandoverOfARestoredLink(t *testing.T) {
	s := newScript(t, pap())
	s.openLCP(peerMagic)
	s.frame(ProtocolPAP, papRequest, 5, []byte("\x01u\x06secret")...)
	stored := mustMarshal(t, s.link)
	if bytes.Contains(stored, []byte("secret")) {
		t.Errorf("%s", stored)
	}
	l, err := RestoreLink(pap(), chaChaReader(1), stored)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := l.Handover(); !ok || p.Auth != AuthNone || p.Response != nil || p.User != "u" || string(p.LastReceivedLCP) != peerMagic {
		t.Errorf("%+v, %v", p, ok)
	}
}

// A second hand-over passes on what the first LAC said, octet by octet.
func TestHandoverOfAProxy(t *testing.T) {
	in := Proxy{
		LastSentLCP: []byte("\x01\x04\x05\x78\x02\x06\x00\x0a\x00\x00\x03\x04\xc0\x23\x07\x02"), LastReceivedLCP: []byte{},
		Auth: AuthPAP, User: "u", ID: 3, Response: Secret("p"),
	}
	s := newScript(t, Config{Auth: []AuthProtocol{AuthPAP}, Proxy: &in})
	s.asked()
	out, ok := s.link.Handover()
	if !ok || !bytes.Equal(out.LastSentLCP, in.LastSentLCP) || out.LastReceivedLCP == nil || len(out.LastReceivedLCP) != 0 ||
		out.Auth != in.Auth || out.ID != in.ID || out.User != in.User || !bytes.Equal(out.Response, in.Response) {
		t.Errorf("%+v", out)
	}
}

// FuzzProxy: a LAC may say anything. What is taken over is what a client could have agreed on with us, and goes on to the next
// LNS as it came; all else is negotiated anew. Either way the link works on.
func FuzzProxy(f *testing.F) {
	f.Add([]byte("\x01\x04\x05\x78\x03\x04\xc0\x23"), []byte(peerMagic), []byte(nil), []byte("pw"), "user", uint8(AuthPAP))
	f.Add([]byte("\x03\x05\xc2\x23\x05\x05\x06\x01\x02\x03\x04\x07\x02\x08\x02"), []byte{}, []byte("challenge"), make([]byte, 16), "", uint8(AuthCHAPMD5))
	f.Add([]byte("\x01\x03\x00"), []byte("\x01\x00"), []byte{}, []byte{}, "u", uint8(AuthMSCHAPv2))
	f.Fuzz(func(t *testing.T, sent, received, challenge, response []byte, user string, auth uint8) {
		p := &Proxy{
			LastSentLCP: sent, LastReceivedLCP: received, Auth: AuthProtocol(auth), User: user, ID: auth, Challenge: challenge, Response: Secret(response),
		}
		s := newScript(t, Config{Auth: allAuth, MRU: 1400, Proxy: p})
		i := s.link.Info()
		if !i.ProxyLCP {
			s.sent(ProtocolLCP, codeConfigureRequest)
			if i.LCP != ReqSent || s.frames() != 1 {
				t.Fatalf("%+v, %v", i, s.out)
			}
			s.openLCP(peerMagic)
			return
		}
		if i.LCP != Opened || i.Ask.MRU > 1500 || i.Ask.Auth == AuthNone || i.Peer.Auth != AuthNone || i.MTU > 1400 ||
			i.Ask.Magic != 0 && i.Ask.Magic == i.Peer.Magic {
			t.Fatalf("%+v", i)
		}
		// A client that is asked for these options agrees to them.
		client := newScript(t, eapDialer())
		client.frame(ProtocolLCP, codeConfigureRequest, 1, sent...)
		client.sent(ProtocolLCP, codeConfigureAck)
		if i.Waiting {
			r := s.asked()
			if r.Protocol != i.Ask.Auth || len(r.Password) > maxProxyPassword || len(r.User) > maxUser || len(r.Challenge) > maxProxyChallenge {
				t.Fatalf("%+v", r)
			}
			on, ok := s.link.Handover()
			if !ok || !bytes.Equal(on.LastSentLCP, sent) || !bytes.Equal(on.LastReceivedLCP, received) || on.User != user || !bytes.Equal(on.Response, response) {
				t.Fatalf("%+v became %+v", *p, on)
			}
			return
		}
		if _, ok := s.link.Handover(); ok {
			t.Fatal("handed over without a question to AAA")
		}
		s.frame(ProtocolLCP, codeConfigureRequest, 1) // without a magic number, which could be the LAC's
		s.ack(ProtocolLCP)
		if i := s.link.Info(); i.ProxyLCP || i.LCP != Opened {
			t.Fatalf("%+v", i)
		}
	})
}
