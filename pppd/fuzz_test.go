package pppd

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
)

func FuzzParsePacket(f *testing.F) {
	f.Add([]byte{1, 1, 0, 10, 5, 6, 1, 2, 3, 4})
	f.Add([]byte{1, 1, 0, 4, 0xff, 0xff})
	f.Add([]byte{1, 1, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePacket(b)
		if err != nil {
			return
		}
		if len(p.data)+packetHeader > len(b) || cap(p.data) != len(p.data) {
			t.Fatalf("%d octets of data, capacity %d, out of %d", len(p.data), cap(p.data), len(b))
		}
		n := packetHeader + len(p.data)
		if again := p.append(nil); !bytes.Equal(again, b[:n]) {
			t.Fatalf("%x became %x", b[:n], again)
		}
	})
}

func FuzzOptions(f *testing.F) {
	f.Add([]byte("\x01\x04\x05\x78\x05\x06\xca\xfe\xba\xbe\x07\x02\x08\x02\x0d\x03\x06"))
	f.Add([]byte{3, 6, 0, 0, 0, 0, 129, 6, 0, 0, 0, 0})
	f.Add([]byte{3, 1})
	f.Add(bytes.Repeat([]byte{7, 2}, maxOptions+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkOptions(b) != nil {
			return
		}
		var again []byte
		n := 0
		for rest := b; len(rest) > 0; n++ {
			var o option
			o, rest = nextOption(rest)
			again = o.append(again)
			if v, ok := o.uint16(); ok && !bytes.Equal(appendOption16(nil, o.kind, v), o.append(nil)) {
				t.Fatalf("option %+v as 16 bits", o)
			}
			if v, ok := o.uint32(); ok && !bytes.Equal(appendOption32(nil, o.kind, v), o.append(nil)) {
				t.Fatalf("option %+v as 32 bits", o)
			}
			if p := authOf(o); p != AuthNone && !bytes.Equal(authOption(p), o.data) {
				t.Fatalf("%x read as %v", o.data, p)
			}
		}
		if n > maxOptions || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func FuzzTakeString(f *testing.F) {
	f.Add([]byte("\x05alice\x02pw"))
	f.Add([]byte{})
	f.Add([]byte{255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, ok := takeString(b)
		if !ok {
			if len(b) > int(uint8OrZero(b)) {
				t.Fatalf("%x refused", b)
			}
			return
		}
		if again := append(append([]byte{uint8(len(s))}, s...), rest...); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func uint8OrZero(b []byte) uint8 {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// maxGrowth is how many octets more than it received a link may send because of one frame: one challenge or verdict,
// our own requests, packet headers. This keeps a link from amplifying.
const maxGrowth = 320

// FuzzStep drives a link with arbitrary frames, mixed with sensible moves that lead deep into the protocol, and checks
// what must hold always.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 8, 9, 5, 7})            // server, up and closed
	f.Add([]byte{1, 1, 2, 12, 4, 8, 9, 5, 5})           // CHAP
	f.Add([]byte{4, 1, 11, 13, 8, 9, 5, 5})             // dialer
	f.Add([]byte{3, 1, 2, 4, 8, 9, 2, 1, 4, 8, 9})      // no authentication, negotiated twice
	f.Add([]byte{6, 1, 2, 16, 17, 16, 17, 16, 4, 8, 9}) // EAP, two rounds
	f.Add([]byte{7, 1, 11, 18, 18, 19, 8, 9, 5, 5})     // a dialer that knows EAP
	f.Add([]byte("\x00\x01\x02\x03\x00\x01\x0c\x01\x09\x00\x0a\x05\x06\xca\xfe\xba\xbe\x07\x02"))
	f.Fuzz(fuzzStep)
}

func fuzzStep(t *testing.T, in []byte) {
	if len(in) == 0 {
		return
	}
	cfg := []Config{
		pap(),
		{Auth: allAuth, MRU: 1400, EchoInterval: 10 * time.Second},
		{Auth: []AuthProtocol{AuthCHAPMD5}},
		{},
		dialer(),
		{Auth: allAuth, Dialer: dialer().Dialer, EchoInterval: time.Minute},
		{Auth: []AuthProtocol{AuthEAP, AuthMSCHAPv2}},
		{Auth: []AuthProtocol{AuthEAP}, Dialer: eapDialer().Dialer},
	}[in[0]%8]
	l := NewLink(cfg, chaChaReader(uint64(in[0])))
	now := epoch
	var up, done, admitted bool
	pending, steps := 0, 0

	step := func(ev Event) {
		before := l.Info()
		if steps++; steps%4 == 0 {
			snapshot := mustMarshal(t, l)
			r, err := RestoreLink(cfg, l.random, snapshot)
			if err != nil {
				t.Fatal(err)
			}
			if again := mustMarshal(t, r); !bytes.Equal(again, snapshot) {
				t.Fatalf("%s\nbecame\n%s", snapshot, again)
			}
			l = r
		}
		if d, ok := ev.(AuthDecision); ok && before.Waiting && d.Accept {
			admitted = true
		}
		out := l.Step(now, ev)
		after := l.Info()
		if done && len(out) > 0 {
			t.Fatalf("effects after Down: %v", out)
		}
		frames, octets := 0, 0
		for _, e := range out {
			if done {
				t.Fatalf("%v after Down", e)
			}
			switch e := e.(type) {
			case Send:
				frames++
				octets += len(e.Data)
				p, err := parsePacket(e.Data)
				if err != nil || len(p.data)+packetHeader != len(e.Data) {
					t.Fatalf("sent %x", e.Data)
				}
				if after.LCP == Opened && len(e.Data) > int(l.peerMRU()) && len(e.Data) > minPeerMRU && e.Protocol == ProtocolLCP {
					t.Fatalf("sent %d octets to a peer that takes %d", len(e.Data), l.peerMRU())
				}
				if e.Protocol == ProtocolEAP && p.code != eapResponse && (len(e.Data) > int(before.MTU) && before.MTU > 0 || (p.code == eapSuccess) != admitted && p.code != eapRequest) {
					t.Fatalf("sent EAP %x, admitted %v", e.Data, admitted)
				}
			case Authenticate:
				if pending++; pending > 1 {
					t.Fatal("asked AAA twice at once")
				}
				if fr, ok := ev.(Frame); e.Request.Protocol == AuthEAP && (!ok || !bytes.HasPrefix(fr.Data, e.Request.EAP) || len(e.Request.EAP) <= packetHeader || e.Request.PeerMRU == 0) {
					t.Fatalf("asked about %x after %+v", []byte(e.Request.EAP), ev)
				}
			case NetworkUp:
				if up || after.LCP != Opened {
					t.Fatalf("NetworkUp in %+v", after)
				}
				if cfg.Dialer == nil && !admitted {
					t.Fatal("NetworkUp without AAA's consent")
				}
				up = true
			case NetworkDown:
				if !up {
					t.Fatal("NetworkDown without NetworkUp")
				}
				up = false
			case Down:
				if up || e.Reason == "" || e.Text == "" {
					t.Fatalf("%+v, up %v", e, up)
				}
				done = true
			}
		}
		if after.Phase == PhaseEstablish {
			admitted = false
		}
		if fr, ok := ev.(Frame); ok && (frames > 3 || octets > len(fr.Data)+maxGrowth) {
			t.Fatalf("%d frames with %d octets for one of %d: %v", frames, octets, len(fr.Data), out)
		}
		if d := l.Deadline(); !d.IsZero() {
			if _, ok := ev.(Timer); ok && !d.After(now) {
				t.Fatalf("deadline %v after a Timer at %v: busy loop", d, now)
			}
		}
	}
	send := func(protocol uint16, code, id uint8, data []byte) {
		step(Frame{protocol, packet{code, id, data}.append(nil)})
	}
	protocols := []uint16{
		ProtocolLCP, ProtocolPAP, ProtocolCHAP, ProtocolIPCP, ProtocolCCP, ProtocolECP, ProtocolIPv6CP, ProtocolIPv4, ProtocolIPv6, 0x8029, ProtocolEAP,
	}
	id := func(f *fsm) uint8 { return f.ID }
	step(Open{})
	for in = in[1:]; len(in) > 0; {
		op := in[0]
		in = in[1:]
		switch op % 20 {
		case 0: // any well-formed control packet
			if len(in) < 4 {
				return
			}
			n := min(int(in[3]), len(in)-4)
			send(protocols[int(in[0])%len(protocols)], in[1], in[2], in[4:4+n])
			in = in[4+n:]
		case 1:
			send(ProtocolLCP, codeConfigureAck, id(&l.s.LCP.FSM), lcp{l}.request(nil))
		case 2:
			send(ProtocolLCP, codeConfigureRequest, op, []byte(peerMagic))
		case 3:
			send(ProtocolPAP, papRequest, op, []byte("\x01u\x01p"))
		case 4, 5:
			if pending > 0 {
				pending--
				step(AuthDecision{
					Accept: op%20 == 4, MSCHAPv2Response: rfc2759Proof, Message: "m",
					Network: Network{Local: localAddr, Peer: peerAddr, DNS: l.s.Network.DNS},
				})
			}
		case 6: // anything at all
			if len(in) < 2 {
				return
			}
			n := min(int(in[1])*8, len(in)-2)
			step(Frame{protocols[int(in[0])%len(protocols)], in[2 : 2+n]})
			in = in[2+n:]
		case 7:
			step(Close{Reason: "test"})
		case 8:
			send(ProtocolIPCP, codeConfigureAck, id(&l.s.IPCP.FSM), ipcp{l}.request(nil))
		case 9:
			send(ProtocolIPCP, codeConfigureRequest, op, opt(3, "10.0.0.77"))
		case 10:
			if d := l.Deadline(); !d.IsZero() && d.After(now) {
				now = d
			}
			step(Timer{})
		case 11:
			auth := "\x03\x05\xc2\x23\x81"
			if cfg.Dialer != nil && cfg.Dialer.EAP {
				auth = "\x03\x04\xc2\x27"
			}
			send(ProtocolLCP, codeConfigureRequest, op, []byte(auth+peerMagic))
		case 12: // a CHAP response, of the size of either kind
			n := []int{md5ResponseLen, msResponseLen}[op>>4&1]
			send(ProtocolCHAP, chapResponse, l.s.Auth.ID, append(append([]byte{byte(n)}, make([]byte, n)...), "user"...))
		case 13:
			send(ProtocolCHAP, chapChallenge, op, append([]byte{16}, make([]byte, 16)...))
		case 14: // the right identifier with any answer
			if len(in) < 2 {
				return
			}
			n := min(int(in[1]), len(in)-2)
			y, fs := protocols[0], &l.s.LCP.FSM
			if in[0]&1 == 1 {
				y, fs = ProtocolIPCP, &l.s.IPCP.FSM
			}
			send(y, codeConfigureAck+in[0]>>1%3, fs.ID, in[2:2+n])
			in = in[2+n:]
		case 15:
			step(LowerDown{})
		case 16: // a Response to what is asked: the identity, or what the input says
			kind := byte(eapIdentity)
			if op >= 100 {
				kind = op
			}
			send(ProtocolEAP, eapResponse, l.s.Auth.ID, append([]byte{kind}, "user"...))
		case 17: // the server goes on, or tries to; its packet is as large as the input says
			if pending > 0 && len(in) > 1 {
				pending--
				d := AuthDecision{Continue: true, EAP: eapPacket(eapRequest, in[0], make([]byte, 1+6*int(in[1]))...), Timeout: time.Duration(in[1]) * time.Second}
				if in[1]%7 == 6 {
					d.EAP[in[0]%4]++
				}
				step(d)
				in = in[2:]
			}
		case 18: // a Request to the dialer
			data := append([]byte{op % 5, 16}, make([]byte, 16)...)
			send(ProtocolEAP, eapRequest, op, data)
		case 19:
			send(ProtocolEAP, eapSuccess+op>>7, l.s.Self.ID, nil)
		}
	}
	// Left alone, a link that has been told to close is down within bounded time.
	step(Close{})
	for n := 0; !done; n++ {
		if n > 10 || l.Deadline().IsZero() {
			t.Fatalf("does not end: %+v", l.Info())
		}
		now = l.Deadline()
		step(Timer{})
	}
}

// TestRandomSteps is FuzzStep without the fuzzer: random moves, most of them sensible.
func TestRandomSteps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	rounds := 4000
	if testing.Short() {
		rounds = 500
	}
	for range rounds {
		in := []byte{byte(rng.Uint32()), 1, 2 + 9*byte(rng.Uint32()%2)}
		for range rng.IntN(40) {
			in = append(in, byte(rng.Uint32()))
			if rng.IntN(3) > 0 {
				in[len(in)-1] %= 20
			}
		}
		fuzzStep(t, in)
		if t.Failed() {
			t.Fatalf("moves %x", in)
		}
	}
}

func mustMarshal(t testing.TB, l *Link) []byte {
	t.Helper()
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzRestoreLink: a damaged store must not crash the daemon, neither at once nor with the next frame.
func FuzzRestoreLink(f *testing.F) {
	s := newScript(f, pap())
	s.openLCP(peerMagic)
	f.Add(mustMarshal(f, s.link))
	f.Add([]byte(`{"Phase":3,"LCP":{"FSM":{"State":9},"Peer":{"MRU":1}},"End":{}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := RestoreLink(Config{Auth: allAuth, Dialer: dialer().Dialer}, chaChaReader(1), data)
		if err != nil {
			return
		}
		now := epoch
		for _, ev := range []Event{
			Timer{}, Frame{ProtocolLCP, []byte{9, 1, 0, 8, 0, 0, 0, 0}}, Frame{ProtocolCCP, make([]byte, 1500)},
			Frame{ProtocolIPCP, []byte{1, 1, 0, 4}}, Frame{ProtocolCHAP, []byte{3, 1, 0, 4}}, Frame{ProtocolPAP, []byte{2, 1, 0, 4}},
			Frame{ProtocolEAP, []byte{1, 1, 0, 5, 1}}, Frame{ProtocolEAP, []byte{2, 1, 0, 6, 1, 1}}, Frame{ProtocolEAP, []byte{3, 1, 0, 4}},
			AuthDecision{Continue: true, EAP: []byte{1, 1, 0, 5, 4}}, Timer{}, AuthDecision{Accept: true}, Frame{ProtocolLCP, []byte{1, 1, 0, 4}}, Frame{ProtocolLCP, binary.BigEndian.AppendUint16([]byte{77, 1}, 4)},
			Close{}, LowerDown{},
		} {
			l.Step(now, ev)
		}
		if !l.Deadline().IsZero() {
			t.Fatal("alive after LowerDown")
		}
	})
}
