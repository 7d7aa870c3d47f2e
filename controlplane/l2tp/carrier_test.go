package l2tp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vrgate/controlplane/keymat"
)

// fullInfo and chapProxy are all that a carrier's LAC can say about a call.
var (
	fullInfo = CallInfo{
		CalledNumber: "0800-1234", CallingNumber: "atm 0/0/0:1.35#DEU.DTAG.12345", SubAddress: "7", PhysicalChannel: 0x01020304,
		BearerType: 2, FramingType: 2, TxSpeed: 16_000_000, RxSpeed: 1_000_000, PrivateGroup: "acme",
	}
	chapProxy = Proxy{
		InitialLCP:      []byte{1, 4, 5, 0xd4, 5, 6, 1, 2, 3, 4},
		LastSentLCP:     []byte{1, 4, 5, 0xd4, 3, 5, 0xc2, 0x23, 5},
		LastReceivedLCP: []byte{5, 6, 1, 2, 3, 4},
		AuthType:        ProxyCHAP, AuthName: "joe@example.org", AuthChallenge: []byte("0123456789abcdef"), AuthID: 9,
		AuthResponse: keymat.Secret("fedcba9876543210"),
	}
)

// revealed compares proxies with their secrets.
var revealed = cmp.Comparer(func(a, b keymat.Secret) bool { return bytes.Equal(a.Reveal(), b.Reveal()) })

func pap() *Proxy {
	return &Proxy{
		InitialLCP: []byte{}, LastSentLCP: []byte{3, 4, 0xc0, 0x23}, LastReceivedLCP: []byte{}, AuthType: ProxyPAP, AuthName: "j\xffoe",
		AuthID: 1, AuthResponse: keymat.Secret("swordfish"),
	}
}

// What a LAC says about a call arrives whole, hidden by either end or not, and is not there in clear text when it is hidden.
func TestCallInfo(t *testing.T) {
	for _, c := range []struct {
		name             string
		secret           string
		lacHides, lnsHid bool
		proxy            *Proxy
	}{
		{"no password", "", false, false, &chapProxy},
		{"no password, so nothing is hidden", "", true, true, &chapProxy},
		{"password", "geheim", false, false, &chapProxy},
		{"hidden", "geheim", true, true, &chapProxy},
		{"hidden by the LAC, PAP", "geheim", true, false, pap()},
		{"hidden by the LNS, no proxy", "geheim", false, true, nil},
		{"LCP alone", "geheim", true, true, &Proxy{LastSentLCP: []byte{}, LastReceivedLCP: []byte{1, 4, 5, 0xd4}}},
		{"authentication alone", "geheim", true, true, &Proxy{AuthType: ProxyNone}},
		{"MS-CHAP", "geheim", true, true, &Proxy{AuthType: ProxyMSCHAPv1, AuthChallenge: []byte("12345678"), AuthResponse: make([]byte, 49)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 7)
			cfg := profiles(c.secret)
			cfg.Profiles[0].Hosts[0].HideAVPs = c.lnsHid
			lns, lac := w.node("192.0.2.1", cfg), w.node("198.51.100.7", Config{})
			var fromLAC, fromLNS strings.Builder
			lac.trace = func(s string) { fromLAC.WriteString(s[strings.LastIndexByte(s, ' '):]) }
			lns.trace = func(s string) { fromLNS.WriteString(s[strings.LastIndexByte(s, ' '):]) }
			ev := lac.sharedDial(1, "192.0.2.1", c.secret)
			ev.HideAVPs, ev.Info, ev.Proxy = c.lacHides, fullInfo, c.proxy
			lac.step(ev)
			w.run(time.Second)
			got := last[SessionUp](lns).Session
			if diff := cmp.Diff(fullInfo, got.Info); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.proxy, got.Proxy, revealed); diff != "" {
				t.Error(diff)
			}
			if got.ProxyLCP != (c.proxy != nil && c.proxy.LastSentLCP != nil) || got.ProxyAuth != (c.proxy != nil && c.proxy.AuthType != 0 && c.proxy.AuthType != ProxyNone) {
				t.Errorf("proxy LCP %v, authentication %v", got.ProxyLCP, got.ProxyAuth)
			}
			if got.CallingNumber != fullInfo.CallingNumber || got.CalledNumber != fullInfo.CalledNumber || got.TxSpeed != fullInfo.TxSpeed || got.RxSpeed != fullInfo.RxSpeed {
				t.Errorf("%+v", got)
			}
			if ours := last[SessionUp](lac).Session; ours.Info != fullInfo || ours.Proxy != nil {
				t.Errorf("at the LAC: %+v", ours)
			}
			if strings.Contains(fmt.Sprintf("%+v %#v", got, got.Proxy), "fedcba98") {
				t.Error("the response is printed")
			}
			lacClear := strings.Contains(fromLAC.String(), hex.EncodeToString([]byte(fullInfo.CalledNumber)))
			lnsClear := strings.Contains(fromLNS.String(), "80080000000e") // Assigned Session ID
			if hides := c.lacHides && c.secret != ""; lacClear == hides {
				t.Errorf("called number in clear text: %v", lacClear)
			}
			if hides := c.lnsHid && c.secret != ""; lnsClear == hides {
				t.Errorf("session id in clear text: %v", lnsClear)
			}
		})
	}
}

// Absent speeds and numbers (RFC 2661 section 4.4.4): no Rx Connect Speed means the same as Tx.
func TestSpeeds(t *testing.T) {
	for _, c := range []struct {
		tx, rx       uint32
		wantTx, want uint32
	}{{0, 0, dialSpeed, dialSpeed}, {5, 0, 5, 5}, {5, 6, 5, 6}, {5, 5, 5, 5}} {
		w, lns, lac := pair(t, "")
		ev := lac.sharedDial(1, "192.0.2.1", "")
		ev.Info = CallInfo{TxSpeed: c.tx, RxSpeed: c.rx}
		ev.CallingNumber = "555"
		lac.step(ev)
		w.run(time.Second)
		got := last[SessionUp](lns).Session
		if got.TxSpeed != c.wantTx || got.RxSpeed != c.want || got.Info.TxSpeed != c.wantTx || got.Info.RxSpeed != c.want || got.Info.CallingNumber != "555" {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// Proxied parts that contradict each other are ignored as a whole and counted; the call goes on.
func TestProxyContradictions(t *testing.T) {
	long := make([]byte, maxProxyValue+1)
	type change func(w *builder)
	lcp := func(sent, received []byte) change {
		return func(w *builder) { w.bytes(attrLastSentLCP, sent).bytes(attrLastReceivedLCP, received) }
	}
	auth := func(kind, id uint16, name, challenge, response string) change {
		return func(w *builder) {
			w.u16(attrProxyAuthType, kind).u16(attrProxyAuthID, id).bytes(attrProxyAuthName, []byte(name))
			if challenge != "" {
				w.bytes(attrProxyAuthChallenge, []byte(challenge))
			}
			w.bytes(attrProxyAuthResponse, []byte(response))
		}
	}
	for _, c := range []struct {
		name    string
		changes []change
		ok      bool
	}{
		{"nothing", nil, true},
		{"whole", []change{lcp([]byte{3, 5, 0xc2, 0x23, 5}, nil), auth(2, 1, "joe", "c", "r")}, true},
		{"only the initial request", []change{func(w *builder) { w.bytes(attrInitialLCP, []byte{1, 4, 5, 0xd4}) }}, true},
		{"none with an empty name", []change{func(w *builder) { w.u16(attrProxyAuthType, 4).bytes(attrProxyAuthName, nil) }}, true},
		{"PAP without an identifier", []change{func(w *builder) {
			w.u16(attrProxyAuthType, 3).bytes(attrProxyAuthName, []byte("joe")).bytes(attrProxyAuthResponse, nil)
		}}, true},
		{"text", []change{auth(1, 0, "joe", "", "secret")}, true},
		{"last sent without last received", []change{func(w *builder) { w.bytes(attrLastSentLCP, nil) }}, false},
		{"last received without last sent", []change{func(w *builder) { w.bytes(attrLastReceivedLCP, nil) }}, false},
		{"option of no length", []change{lcp([]byte{1, 0}, nil)}, false},
		{"option of one byte", []change{lcp([]byte{1, 1}, nil)}, false},
		{"option cut off", []change{lcp(nil, []byte{1, 4, 5})}, false},
		{"half an option", []change{lcp(nil, []byte{1})}, false},
		{"initial request that is none", []change{func(w *builder) { w.bytes(attrInitialLCP, []byte{1, 9}) }}, false},
		{"too long", []change{lcp(long, nil)}, false},
		{"long name", []change{auth(3, 1, string(long), "", "r")}, false},
		{"CHAP where LCP asked for PAP", []change{lcp([]byte{3, 4, 0xc0, 0x23}, nil), auth(2, 1, "joe", "c", "r")}, false},
		{"PAP where LCP asked for CHAP", []change{lcp([]byte{3, 5, 0xc2, 0x23, 5}, nil), auth(3, 1, "joe", "", "r")}, false},
		{"CHAP without a challenge", []change{auth(2, 1, "joe", "", "r")}, false},
		{"CHAP without a response", []change{auth(2, 1, "joe", "c", "")}, false},
		{"identifier of 16 bits", []change{auth(2, 0x101, "joe", "c", "r")}, false},
		{"reserved type 0", []change{auth(0, 1, "joe", "c", "r")}, false},
		{"reserved type 6", []change{auth(6, 1, "joe", "c", "r")}, false},
		{"CHAP without a name", []change{func(w *builder) {
			w.u16(attrProxyAuthType, 2).u16(attrProxyAuthID, 1).bytes(attrProxyAuthChallenge, []byte("c")).bytes(attrProxyAuthResponse, []byte("r"))
		}}, false},
		{"name without a type", []change{func(w *builder) { w.bytes(attrProxyAuthName, []byte("joe")) }}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, profiles(""))
			p := s.peer(1, "203.0.113.5:1701", 5)
			p.up()
			got := p.hear(p.say(0, icrq(1)))
			w := iccn()
			for _, change := range c.changes {
				change(w)
			}
			up := find[SessionUp](p.say(got[0].session, w.b))
			if len(up) != 1 {
				t.Fatal("the call did not come up")
			}
			if (up[0].Session.Proxy != nil) != (c.ok && c.changes != nil) {
				t.Errorf("%+v", up[0].Session.Proxy)
			}
			want := uint64(1)
			if c.ok {
				want = 0
			}
			s.counted(ReasonProxy, want)
		})
	}
}

// Numbers are cut and made printable, whatever the LAC sends; the name that authenticates is kept as it is.
func TestNumbers(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	got := p.hear(p.say(0, build(msgICRQ).u16(attrSessionID, 1).u32(attrCallSerial, 1).
		bytes(attrCallingNumber, bytes.Repeat([]byte("x"), 1000)).bytes(attrCalledNumber, []byte("a\nb\x00")).bytes(attrSubAddress, []byte{0xff}).b))
	up := find[SessionUp](p.say(got[0].session, iccn().u16(attrProxyAuthType, 3).bytes(attrProxyAuthName, []byte("a\n\xff")).
		bytes(attrProxyAuthResponse, []byte("r")).bytes(attrPrivateGroup, []byte("a\x1b[0m")).b))
	if len(up) != 1 {
		t.Fatal("the call did not come up")
	}
	i := up[0].Session.Info
	if len(i.CallingNumber) != maxNumber || i.CalledNumber != "a?b" || i.SubAddress != "?" || i.PrivateGroup != "a?[0m" || up[0].Session.Proxy.AuthName != "a\n\xff" {
		t.Errorf("%+v %+v", i, up[0].Session.Proxy)
	}
}

// mandatory is an AVP that nobody knows, with the M bit.
var mandatory = avp{mandatory: true, vendor: 9, typ: 1234, value: []byte("x")}

// An unknown AVP with the M bit in any message is answered with result 2 and error 8 (RFC 2661 section 4.1): StopCCN when the
// message is about the tunnel, CDN when it is about a call, and nothing when it ends either. A tolerant profile skips and
// counts it, and an AVP without the bit disturbs nobody.
func TestUnknownMandatoryAVP(t *testing.T) {
	type situation func(s *script, p *peer, more []byte) []Effect
	up := func(s *script, p *peer) SessionID {
		p.up()
		return p.call(1)
	}
	for _, c := range []struct {
		name   string
		run    situation
		answer string // kinds of messages, when it is refused
		good   string // when it is not
	}{
		{"SCCRQ", func(s *script, p *peer, more []byte) []Effect { return p.say(0, append(sccrq(5, "pc").b, more...)) }, "[StopCCN]", "[SCCRP]"},
		{"SCCCN", func(s *script, p *peer, more []byte) []Effect {
			p.hear(p.say(0, sccrq(5, "pc").b))
			return p.say(0, append(build(msgSCCCN).b, more...))
		}, "[StopCCN]", "[]"},
		{"HELLO", func(s *script, p *peer, more []byte) []Effect {
			p.up()
			return p.say(0, append(build(msgHello).b, more...))
		}, "[StopCCN]", "[]"},
		{"ICRQ", func(s *script, p *peer, more []byte) []Effect {
			p.up()
			return p.say(0, append(icrq(1), more...))
		}, "[CDN]", "[ICRP]"},
		{"OCRQ", func(s *script, p *peer, more []byte) []Effect {
			p.up()
			return p.say(0, append(build(msgOCRQ).u16(attrSessionID, 1).u32(attrCallSerial, 1).b, more...))
		}, "[CDN]", "[CDN]"},
		{"ICCN", func(s *script, p *peer, more []byte) []Effect {
			p.up()
			got := p.hear(p.say(0, icrq(1)))
			return p.say(got[0].session, append(iccn().b, more...))
		}, "[CDN]", "[]"},
		{"WEN", func(s *script, p *peer, more []byte) []Effect {
			return p.say(up(s, p), append(build(msgWEN).bytes(attrCallErrors, make([]byte, 26)).b, more...))
		}, "[CDN]", "[]"},
		{"CDN", func(s *script, p *peer, more []byte) []Effect {
			return p.say(up(s, p), append(build(msgCDN).result(1, 0, "").u16(attrSessionID, 1).b, more...))
		}, "[]", "[]"},
		{"StopCCN", func(s *script, p *peer, more []byte) []Effect {
			p.up()
			return p.say(0, append(build(msgStopCCN).u16(attrTunnelID, 5).result(1, 0, "").b, more...))
		}, "[]", "[]"},
	} {
		for _, mode := range []string{"strict", "tolerant", "tolerant profile", "without the bit"} {
			t.Run(c.name+" "+mode, func(t *testing.T) {
				cfg := profiles("")
				cfg.TolerateUnknownAVP = mode == "tolerant"
				cfg.Profiles[0].Hosts[0].TolerateUnknownAVP = mode == "tolerant profile"
				s := newScript(t, cfg)
				p := s.peer(1, "203.0.113.5:1701", 5)
				more := mandatory
				more.mandatory = mode != "without the bit"
				eff := c.run(s, p, more.append(nil))
				got := p.hear(eff)
				for _, r := range find[Refuse](eff) {
					_, body, _ := parseHeader(r.Data)
					m, _ := decode(body, nil)
					got = append(got, m)
				}
				want := c.good
				if mode == "strict" {
					want = c.answer
				}
				if kinds(got) != want {
					t.Fatalf("answered %s, want %s", kinds(got), want)
				}
				if mode == "strict" && want != "[]" {
					if got[0].result != StopError || got[0].err != ErrorUnknownAVP || !strings.Contains(got[0].text, "1234") {
						t.Errorf("%+v", got[0])
					}
					s.counted(ReasonUnknownAVP, 1)
				}
				n := uint64(0)
				if strings.HasPrefix(mode, "tolerant") {
					n = 1
				}
				s.counted(ReasonToleratedAVP, n)
			})
		}
	}
}

// The messages of an LNS to us.
func TestUnknownMandatoryAVPFromLNS(t *testing.T) {
	for _, tolerant := range []bool{false, true} {
		s := newScript(t, Config{TolerateUnknownAVP: tolerant})
		s.step(Dial{Ref: 1, Share: true, Local: s.local, Remote: addrPort("203.0.113.5:1701")})
		p := s.answering()
		eff := p.say(0, mandatory.append(sccrp().b))
		if got := p.hear(eff); tolerant != (kinds(got) == "[SCCCN]") || !tolerant && (got[0].err != ErrorUnknownAVP || len(find[DialFailed](eff)) != 1) {
			t.Fatalf("%v", eff)
		}
		if !tolerant {
			continue
		}
		call := p.hear(p.ack())
		p.ack()
		if got := p.hear(p.say(call[0].session, mandatory.append(build(msgICRP).u16(attrSessionID, 3).b))); kinds(got) != "[ICCN]" {
			t.Errorf("%s", kinds(got))
		}
		s.counted(ReasonToleratedAVP, 2)
	}
	s := newScript(t, Config{})
	s.step(Dial{Ref: 1, Share: true, Local: s.local, Remote: addrPort("203.0.113.5:1701")})
	p := s.answering()
	p.hear(p.say(0, sccrp().b))
	call := p.hear(p.ack())
	eff := p.say(call[0].session, mandatory.append(build(msgICRP).u16(attrSessionID, 3).b))
	if got := p.hear(eff); kinds(got) != "[CDN]" || got[0].err != ErrorUnknownAVP {
		t.Errorf("%s", kinds(got))
	}
	if f := find[DialFailed](eff); len(f) != 1 || f[0].Reason != ReasonUnknownAVP {
		t.Errorf("%+v", f)
	}
	if len(s.e.Tunnels()) != 1 || s.e.Tunnels()[0].State != StateEstablished {
		t.Errorf("%+v", s.e.Tunnels())
	}
}

// A LAC that hides what it says, with another random vector before each AVP, in every message that it sends.
func TestHidingLAC(t *testing.T) {
	secret := keymat.Secret("geheim")
	hidden := func(body []byte) []byte { // a vector before each AVP, the last one counts (section 4.3)
		var out []byte
		for n := byte(0); len(body) > 0; n++ {
			a, rest, err := parseAVP(body)
			if err != nil {
				t.Fatal(err)
			}
			body = rest
			if attributeRules[a.typ].hideable {
				old, vector := []byte{n}, []byte{n, 1, 2, 3}
				out = avp{mandatory: true, typ: attrRandomVector, value: old}.append(out)
				out = avp{mandatory: true, typ: attrRandomVector, value: vector}.append(out)
				a.hidden, a.value = true, hide(secret, vector, a.typ, a.value, []byte{n})
			}
			out = a.append(out)
		}
		return out
	}
	for _, withPassword := range []bool{true, false} {
		cfg := profiles("geheim")
		if !withPassword {
			cfg = profiles("")
		}
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		eff := p.say(0, hidden(sccrq(5, "pc").b))
		if !withPassword {
			// Its tunnel id is hidden as well: there is nobody to answer.
			if len(eff) != 1 {
				t.Errorf("%v", eff)
			}
			// With the id in clear text it is refused, and told why.
			w := sccrq(5, "pc").bytes(attrRandomVector, []byte("v"))
			w.b = avp{mandatory: true, hidden: true, typ: attrBearerCapabilities, value: make([]byte, 6)}.append(w.b)
			r := find[Refuse](s.peer(1, "203.0.113.5:1701", 5).say(0, w.b))
			if len(r) != 1 {
				t.Fatalf("%d answers", len(r))
			}
			_, body, _ := parseHeader(r[0].Data)
			if m, _ := decode(body, nil); m.kind != msgStopCCN || m.err != ErrorUnknownAVP || !strings.Contains(m.text, "password") {
				t.Errorf("%+v", m)
			}
			s.counted(ReasonHiddenAVP, 1)
			continue
		}
		got := p.hear(eff)
		p.say(0, hidden(build(msgSCCCN).bytes(attrChallengeResponse, challengeResponse(msgSCCCN, secret, got[0].challenge)).b))
		got = p.hear(p.say(0, hidden(build(msgICRQ).u16(attrSessionID, 9).u32(attrCallSerial, 1).number(attrCalledNumber, "0800").b)))
		if kinds(got) != "[ICRP]" {
			t.Fatalf("%s", kinds(got))
		}
		session := got[0].session
		up := find[SessionUp](p.say(session, hidden(iccn().proxy(&chapProxy).number(attrPrivateGroup, "acme").b)))
		if len(up) != 1 || up[0].Session.Info.CalledNumber != "0800" || up[0].Session.Info.PrivateGroup != "acme" {
			t.Fatalf("%+v", up)
		}
		if diff := cmp.Diff(&chapProxy, up[0].Session.Proxy, revealed); diff != "" {
			t.Error(diff)
		}
		p.say(session, hidden(build(msgWEN).bytes(attrCallErrors, make([]byte, 26)).b))
		if down := find[SessionDown](p.say(session, hidden(build(msgCDN).result(1, 0, "").u16(attrSessionID, 9).b))); len(down) != 1 || !down[0].ByPeer {
			t.Errorf("%+v", down)
		}
		if down := find[TunnelDown](p.say(0, hidden(build(msgStopCCN).u16(attrTunnelID, 5).result(1, 0, "").b))); len(down) != 1 || !down[0].ByPeer {
			t.Errorf("%+v", down)
		}
	}
}

// The SCCRP to a peer whose address may be forged is not hidden, which would make it longer; what follows is.
func TestHiddenLater(t *testing.T) {
	cfg := profiles("geheim")
	cfg.Profiles[0].Hosts[0].HideAVPs = true
	s := newScript(t, cfg)
	p := s.peer(0, "203.0.113.5:1701", 5)
	eff := p.say(0, sccrq(5, "pc").b)
	got := p.hear(eff)
	if kinds(got) != "[SCCRP]" || bytes.Contains(sends(eff)[0], []byte{0, 0, 0, byte(attrRandomVector)}) {
		t.Fatalf("%x", sends(eff))
	}
	p.say(0, build(msgSCCCN).bytes(attrChallengeResponse, challengeResponse(msgSCCCN, []byte("geheim"), got[0].challenge)).b)
	vectors := map[string]bool{}
	for i := range SessionID(3) {
		eff := p.say(0, icrq(10+i))
		if got := p.hear(eff); kinds(got) != "[ICRP]" || got[0].session == 0 {
			t.Fatalf("%s", kinds(got))
		}
		vector := sends(eff)[0][controlHeaderLen+8:][:avpHeaderLen+vectorLen]
		if a, _, err := parseAVP(vector); err != nil || a.typ != attrRandomVector || vectors[string(a.value)] {
			t.Errorf("vector %x, %v", vector, err)
		}
		vectors[string(vector[avpHeaderLen:])] = true
	}
}

// Data that a LAC wants numbered is numbered, unless the configuration ignores its wish.
func TestIgnoreSequencing(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		cfg := profiles("")
		cfg.IgnoreSequencing = ignore
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		got := p.hear(p.say(0, icrq(1)))
		up := find[SessionUp](p.say(got[0].session, iccn().bytes(attrSequencingRequired, nil).b))
		if len(up) != 1 || up[0].Session.SequencingRequired == ignore {
			t.Errorf("ignore %v: %+v", ignore, up)
		}
	}
}

// The next process knows what a LAC has said, passwords included, and the snapshot alone holds them.
func TestCarrierSnapshot(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	got := p.hear(p.say(0, build(msgICRQ).u16(attrSessionID, 1).u32(attrCallSerial, 1).number(attrCalledNumber, "0800").b))
	p.say(got[0].session, iccn().proxy(pap()).number(attrPrivateGroup, "acme").b)
	p.call(2)
	before := s.e.Sessions()
	data, err := s.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	e, err := Restore(profiles(""), chacha(9), data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, e.Sessions(), revealed, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if again, err := e.Snapshot(); err != nil || !bytes.Equal(again.Reveal(), data.Reveal()) {
		t.Errorf("a second snapshot differs (%v)", err)
	}
}

// FuzzProxy: what is said about a negotiation is understood as it was meant, and what is understood can be said again.
func FuzzProxy(f *testing.F) {
	add := func(p *Proxy) { f.Add(build(msgICCN).u32(attrTxSpeed, 1).u32(attrFramingType, 1).proxy(p).b[8+10+10:]) }
	add(&chapProxy)
	add(pap())
	add(&Proxy{AuthType: ProxyNone})
	f.Fuzz(func(t *testing.T, avps []byte) {
		head := build(msgICCN).u32(attrTxSpeed, 1).u32(attrFramingType, 1)
		m, failed := decode(append(head.b, avps...), nil)
		if failed != nil {
			return
		}
		p, ok := m.proxy.proxy()
		if !ok && p != nil {
			t.Fatal("contradictory, and yet believed")
		}
		if p == nil {
			return
		}
		again, failed := decode(build(msgICCN).u32(attrTxSpeed, 1).u32(attrFramingType, 1).proxy(p).b, nil)
		if failed != nil {
			t.Fatal(failed)
		}
		q, ok := again.proxy.proxy()
		switch {
		case !ok:
			t.Fatalf("%+v is contradictory when it is said again", p)
		case q == nil && p.InitialLCP == nil && p.LastSentLCP == nil && p.AuthType == 0:
		default:
			if diff := cmp.Diff(p, q, revealed); diff != "" {
				t.Error(diff)
			}
		}
		if diff := cmp.Diff(p, p.snapshot().restore(), revealed); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(p, p.clone(), revealed); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzHideAll: a hidden message says what the open one said, and nothing of it without the secret.
func FuzzHideAll(f *testing.F) {
	for _, s := range []string{windowsSCCRQ, xl2tpdSCCCN, xl2tpdICRQ, xl2tpdICCN, xl2tpdCDN} {
		f.Add(unhex(f, s)[controlHeaderLen:], []byte("0123456789abcdef"))
	}
	f.Add(build(msgICCN).u32(attrTxSpeed, 1).u32(attrFramingType, 1).proxy(&chapProxy).b, []byte("v"))
	f.Fuzz(func(t *testing.T, body, vector []byte) {
		secret := keymat.Secret("geheim")
		var ours []byte // what a builder could have made: known attributes, values below our bounds
		for rest := body; len(rest) > 0; {
			a, next, err := parseAVP(rest)
			if err != nil {
				return
			}
			rest = next
			if a.vendor == 0 && a.typ.known() && a.typ != attrRandomVector && !a.hidden && a.reserved == 0 && len(a.value) <= maxNumber+2 {
				ours = a.append(ours)
			}
		}
		open, failed := decode(ours, nil)
		if failed != nil || len(vector) == 0 || len(vector) > avpMaxValue {
			return
		}
		covered := hideAll(secret, vector, ours)
		got, failed := decode(covered, secret)
		if failed != nil {
			t.Fatalf("%x: %v", covered, failed)
		}
		if diff := cmp.Diff(open, got, cmp.AllowUnexported(message{}, proxyAVPs{}), cmp.Comparer(bytes.Equal)); diff != "" {
			t.Error(diff)
		}
	})
}
