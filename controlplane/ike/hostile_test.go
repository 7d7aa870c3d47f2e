package ike

import (
	"encoding/binary"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// quickOffer is an offer whose handshake costs little.
func quickOffer() offers.Offer {
	o := offers.NetworkManager()
	o.Phase1 = offerOf(keymat.ECP256)
	return o
}

// steps of a handshake, in order; each makes its message when its turn has come.
type ladder struct {
	s *script
	q *quickScript
	o offers.Offer
}

const ladderLen = 6

func newLadder(r *rig, o offers.Offer) *ladder { return &ladder{s: newScript(r, o), o: o} }

// message makes message i of the handshake: 0 to 2 main mode 1, 3, 5, then quick
// mode 1 and 3, then a delete of the ESP SA.
func (l *ladder) message(i int) []byte {
	s := l.s
	switch i {
	case 0:
		return s.clear(append([]isakmp.Payload{s.sa.Payload()}, s.vendors...)...)
	case 1:
		return s.message3()
	case 2:
		return s.message5()
	case 3:
		l.q = s.quick(l.o)
		return l.q.message1()
	case 4:
		return l.q.message3()
	}
	return s.infoMessage(isakmp.DeleteESP(l.q.spi).Payload())
}

// read takes the answer to message i.
func (l *ladder) read(i int, out []Send) error {
	s, q := l.s, l.q
	if len(out) == 0 {
		if i == 4 || i == 5 {
			return nil
		}
		return fmt.Errorf("message %d is not answered", i)
	}
	switch i {
	case 0:
		m, err := isakmp.Parse(out[0].Data)
		if err != nil || m.Header.Exchange != isakmp.IdentityProtection {
			return fmt.Errorf("message %d: %v", i, err)
		}
		sa, err := m.Payloads[0].SA()
		if err != nil {
			return err
		}
		s.cookies.R = m.Header.Responder
		s.choose(sa)
	case 1:
		m, err := isakmp.Parse(out[0].Data)
		ke, ok := isakmp.Find(m.Payloads, isakmp.TypeKE)
		if err != nil || !ok {
			return fmt.Errorf("message %d: %v", i, err)
		}
		nr, _ := isakmp.Find(m.Payloads, isakmp.TypeNonce)
		s.gxr, s.nr = clone(ke.Body), clone(nr.Body)
		s.gxy, err = keymat.Shared(s.pair, s.gxr)
		return err
	case 2:
		if out[0].Data[18] != byte(isakmp.IdentityProtection) {
			return fmt.Errorf("message 5 is refused")
		}
		s.unseal(out[0].Data, s.iv)
		s.last = s.iv
	case 3:
		if out[0].Data[18] != byte(isakmp.QuickMode) {
			return fmt.Errorf("quick mode is refused")
		}
		_, ps, _ := s.unseal(out[0].Data, q.iv)
		q.iv = s.iv
		nr, _ := isakmp.Find(ps, isakmp.TypeNonce)
		q.nr = clone(nr.Body)
	}
	return nil
}

// climb does messages from to before to.
func (l *ladder) climb(from, to int) error {
	for i := from; i < to; i++ {
		if err := l.read(i, l.s.send(l.message(i))); err != nil {
			return err
		}
	}
	return nil
}

// TestBitFlip changes every bit of every datagram of a handshake, and cuts it at
// every length. Nothing that is authenticated may be accepted changed, nothing
// may panic, and the true peer gets in afterwards.
func TestBitFlip(t *testing.T) {
	variants, spoiled := 0, 0
	for i := range ladderLen {
		probe := newLadder(serverRig(t, ProfileCompatible), quickOffer())
		if err := probe.climb(0, i); err != nil {
			t.Fatal(err)
		}
		size := len(probe.message(i))
		var bad [][2]int // bit, or cut
		for bit := range size * 8 {
			bad = append(bad, [2]int{bit, -1})
		}
		for cut := range size {
			bad = append(bad, [2]int{-1, cut})
		}
		var l *ladder
		var good []byte
		for n, b := range bad {
			// Message 3 is believed by whoever sends it, and wrong messages 5
			// are taken only a few times: these need a fresh start each time.
			if l == nil || i == 1 || i == 2 || n%512 == 0 {
				l = newLadder(serverRig(t, ProfileCompatible), quickOffer())
				l.s.r.e.cfg.HalfOpen.PerSource = 1 << 20
				if err := l.climb(0, i); err != nil {
					t.Fatal(err)
				}
				good = l.message(i)
			}
			r := l.s.r
			kernel, conns, up, dropped := len(r.kernel), len(r.e.conns), len(r.up), drops(r.e)
			msg := clone(good)
			if b[0] >= 0 {
				msg[b[0]/8] ^= 1 << (b[0] % 8)
			} else {
				msg = msg[:b[1]]
				if len(msg) >= isakmp.HeaderLen {
					binary.BigEndian.PutUint32(msg[24:], uint32(len(msg)))
				}
			}
			variants++
			out := l.s.send(msg)
			if uncovered(b[0]) {
				l = nil
				continue
			}
			if i >= 3 && drops(r.e) != dropped+1 {
				t.Fatalf("message %d changed at %v is not dropped", i, b)
			}
			if len(r.kernel) != kernel || len(r.e.conns) != conns || len(r.up) != up {
				t.Fatalf("message %d changed at %v: %d SAs, %d connections, was %d, %d", i, b, len(r.kernel), len(r.e.conns), kernel, conns)
			}
			if i != 1 && i != 2 && n%511 != 510 && n != len(bad)-1 {
				continue
			}
			if i == 1 && len(out) > 0 {
				// The answer may have been to a changed value: the proof must fail,
				// unless only what is not covered has changed (header flags,
				// NAT-D and the like).
				if l.read(1, out) != nil {
					continue
				}
				r.noDH = false
				if l.read(2, l.s.send(l.message(2))) != nil {
					spoiled++
					continue
				}
				if covered(good, b[0]) {
					t.Fatalf("message 3 with bit %d changed: the handshake succeeds", b[0])
				}
				continue
			}
			if err := l.read(i, l.s.send(good)); err != nil {
				t.Fatalf("after message %d changed at %v, the true one: %v", i, b, err)
			}
			if err := l.climb(i+1, ladderLen); err != nil {
				t.Fatalf("after message %d changed at %v: %v", i, b, err)
			}
			l = nil
		}
	}
	if spoiled == 0 {
		t.Error("no change of message 3 has made the proof fail")
	}
	t.Logf("%d variants", variants)
}

// uncovered tells whether a bit is in the parts of the header that no hash of
// IKEv1 covers and that mean nothing to us: the minor version and all flags but
// the one for encryption.
func uncovered(bit int) bool {
	return bit/8 == 17 && bit%8 < 4 || bit/8 == 19 && bit%8 > 0
}

// covered tells whether a bit of message 3 is in what HASH_I covers: the bodies
// of KE and nonce.
func covered(msg []byte, bit int) bool {
	if bit < 0 {
		return false
	}
	m, err := isakmp.Parse(msg)
	if err != nil {
		return false
	}
	at := isakmp.HeaderLen
	for _, p := range m.Payloads {
		start := at + 4
		at = start + len(p.Body)
		if (p.Type == isakmp.TypeKE || p.Type == isakmp.TypeNonce) && bit/8 >= start && bit/8 < at {
			return true
		}
	}
	return false
}

// TestChangedOffer: SAi_b is covered by the proof: a man in the middle cannot
// take the strong transforms out of an offer.
func TestChangedOffer(t *testing.T) {
	r := serverRig(t, ProfileLegacy)
	s := newScript(r, offers.Windows(9))
	full := s.sa
	weak := full
	weak.Proposals = []isakmp.Proposal{full.Proposals[0]}
	weak.Proposals[0].Transforms = full.Proposals[0].Transforms[4:]
	s.sa = weak
	if !s.main1() || !s.main3() {
		t.Fatal("no message 4")
	}
	s.sa = full // what the client believes to have offered
	if s.main5() || r.e.Counters()[ReasonAuthFailed] != 1 {
		t.Errorf("counters %v", r.e.Counters())
	}
}

// TestReplay repeats every datagram of handshakes, also from elsewhere: no second
// SA, no second connection, only cached answers.
func TestReplay(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	r.e.cfg.HalfOpen.PerSource = 1 << 20
	for h := range 100 {
		l := newLadder(r, quickOffer())
		l.s.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(100 + h/250), byte(1 + h%250)}), 500)
		l.s.inner = l.s.remote.Addr()
		l.s.id = isakmp.AddrID(l.s.inner, 0, 0)
		if err := l.climb(0, ladderLen-1); err != nil {
			t.Fatal(err)
		}
		kernel, conns, up, down := len(r.kernel), len(r.e.conns), len(r.up), len(r.down)
		all := l.s.sent
		answers := len(r.sends)
		for round := range 10 {
			for _, msg := range all {
				l.s.send(msg)
				home := l.s.remote
				l.s.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(round + 1)}), 500)
				l.s.send(msg)
				l.s.remote = home
			}
		}
		l.s.sent = nil
		if len(r.kernel) != kernel || len(r.e.conns) != conns || len(r.up) != up || len(r.down) != down {
			t.Fatalf("handshake %d: after the replay %d SAs, %d connections", h, len(r.kernel), len(r.e.conns))
		}
		// Message 1 begins a half-open SA at each source; message 5 is answered
		// from the cache; the rest is silent.
		for _, x := range r.sends[answers:] {
			if ex := isakmp.ExchangeType(x.Data[18]); ex != isakmp.IdentityProtection {
				t.Fatalf("a replay is answered in %v", ex)
			}
		}
		r.sends = r.sends[:0]
		// Hours later nothing of it lives.
		if h == 50 {
			r.pass(10 * time.Minute)
			for _, msg := range all {
				l.s.send(msg)
			}
			if len(r.e.conns) != conns {
				t.Fatal("a late replay makes a connection")
			}
		}
	}
	if len(r.up) != 100 {
		t.Errorf("%d connections came up", len(r.up))
	}
}

// TestBadDH sends public values that must not be used.
func TestBadDH(t *testing.T) {
	flat := func(n int, b byte) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = b
		}
		return out
	}
	for _, g := range keymat.Groups() {
		n := g.PublicLen()
		kp, err := g.Generate(zeroish{})
		if err != nil {
			t.Fatal(err)
		}
		one := flat(n, 0)
		one[n-1] = 1
		cases := map[string][]byte{"zero": flat(n, 0), "short": kp.Public[1:], "long": append([]byte{0}, kp.Public...), "empty": {}, "one byte": {2}}
		if g <= 16 {
			cases["one"], cases["all ones"] = one, flat(n, 0xff)
		} else if g != keymat.Curve25519 {
			off := clone(kp.Public)
			off[n-1] ^= 1
			cases["off the curve"], cases["all ones"] = off, flat(n, 0xff)
		}
		for name, ke := range cases {
			r := serverRig(t, ProfileLegacy)
			o := quickOffer()
			o.Phase1 = offerOf(g)
			s := newScript(r, o)
			if !s.main1() {
				t.Fatalf("%v: no message 2", g)
			}
			s.pair = keymat.KeyPair{Group: g, Public: ke}
			out := s.send(s.message3())
			if len(out) != 1 || isakmp.ExchangeType(out[0].Data[18]) != isakmp.Informational {
				t.Errorf("%v, %s: %d answers", g, name, len(out))
				continue
			}
			if g <= 16 && len(r.jobs) != 0 {
				t.Errorf("%v, %s: a worker is asked", g, name)
			}
			if again := s.send(append(s.message3()[:0:0], s.message3()...)); len(again) != 0 {
				t.Errorf("%v, %s: a second answer", g, name)
			}
			if st := r.e.Phase1SAs()[0].State; st != "MM SA-R" {
				t.Errorf("%v, %s: state %s", g, name, st)
			}
			// The true peer still gets in.
			s.pair = keymat.KeyPair{}
			if !s.main3() || !s.main5() {
				t.Errorf("%v, %s: the true value is refused afterwards", g, name)
			}
		}
	}
}

// zeroish is randomness that is good enough to make a valid public value.
type zeroish struct{}

func (zeroish) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i + 1)
	}
	return len(b), nil
}

// TestStateChaos sends messages that are valid somewhere in random order, from a
// peer that knows the key and one that does not, and checks the model: no SA in
// the kernel and no connection before main mode has proven the key, and none
// outbound before quick mode is complete.
func TestStateChaos(t *testing.T) {
	rng := mrand.New(mrand.NewPCG(7, 7))
	rounds, steps := 400, 60
	for round := range rounds {
		r := serverRig(t, ProfileCompatible)
		l := newLadder(r, quickOffer())
		knows := round%2 == 0
		if !knows {
			l.s.psk = secret("guess")
		}
		done := 0 // messages of the ladder that were answered
		for range steps {
			i := rng.IntN(ladderLen + 4)
			switch {
			case i == done && i < ladderLen:
				out := l.s.send(l.message(i))
				if l.read(i, out) == nil {
					done++
				}
			case i < done && i < ladderLen && i < len(l.s.sent):
				l.s.send(l.s.sent[i])
			case i == ladderLen:
				// An encrypted message with keys that the peer may believe in.
				if done == 2 {
					iv := l.s.iv
					l.s.derive()
					l.s.last = make([]byte, 16)
					q := l.s.quick(l.o)
					l.s.send(q.message1())
					l.s.info(isakmp.InitialContactNotify(l.s.cookies.I, l.s.cookies.R).Payload())
					l.s.iv = iv
				}
			case i == ladderLen+1:
				for _, ex := range []isakmp.ExchangeType{isakmp.Aggressive, isakmp.Transaction, isakmp.NewGroupMode, isakmp.Informational, isakmp.QuickMode, 1, 3, 250} {
					h := l.s.header(ex, rng.Uint32())
					h.Flags = isakmp.Flags(rng.IntN(8))
					l.s.send(isakmp.Message{Header: h, Payloads: []isakmp.Payload{
						isakmp.DeleteISAKMP(l.s.cookies.I, l.s.cookies.R).Payload(), isakmp.DeleteESP(1, 2, 3).Payload(),
						isakmp.Notify{DOI: 1, Protocol: 1, Type: isakmp.AuthenticationFailed}.Payload()}}.Append(nil))
				}
			case i == ladderLen+2:
				r.pass(time.Duration(rng.IntN(3000)) * time.Millisecond)
			default:
				b := randomBytes(28 + rng.IntN(100))
				copy(b, l.s.cookies.I[:])
				copy(b[8:], l.s.cookies.R[:])
				b[17], b[18] = 0x10, []byte{2, 5, 32}[rng.IntN(3)]
				binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
				l.s.send(b)
			}
			in, out := 0, 0
			for _, sa := range r.kernel {
				if sa.Dir == Inbound {
					in++
				} else {
					out++
				}
			}
			proven := knows && done >= 3
			if !proven && (in+out > 0 || len(r.e.conns) > 0 || len(r.up) > 0) {
				t.Fatalf("round %d: %d SAs, %d connections after %d messages, key known: %v", round, in+out, len(r.e.conns), done, knows)
			}
			if done < 5 && out > 0 {
				t.Fatalf("round %d: outbound SA after %d messages", round, done)
			}
		}
		r.give(CloseAll{Reason: ReasonShutdown})
		if len(r.kernel)+len(r.e.sas)+len(r.e.conns)+len(r.e.timers)+r.e.guard.HalfOpen != 0 {
			t.Fatalf("round %d: left %d SAs in the kernel, %d phase 1, %d connections, %d timers", round, len(r.kernel), len(r.e.sas), len(r.e.conns), len(r.e.timers))
		}
	}
}

// TestClearInformational: what comes in clear changes nothing in any state.
func TestClearInformational(t *testing.T) {
	for at := range ladderLen {
		r := serverRig(t, ProfileCompatible)
		l := newLadder(r, quickOffer())
		if err := l.climb(0, at); err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprint(r.e.Phase1SAs(), r.e.Children(), r.e.Conns(), len(r.kernel))
		for typ := range 70000 {
			if typ > 40 && typ < 16384 || typ > 16390 && typ < 24570 || typ > 24580 && typ < 36130 || typ > 36140 && typ < 40500 || typ > 40510 {
				continue
			}
			h := l.s.header(isakmp.Informational, uint32(typ+1))
			if out := l.s.send(isakmp.Message{Header: h, Payloads: []isakmp.Payload{
				isakmp.Notify{DOI: 1, Protocol: 1, SPI: append(l.s.cookies.I[:], l.s.cookies.R[:]...), Type: isakmp.NotifyType(typ), Data: []byte{0, 0, 0, 1}}.Payload(),
				isakmp.DeleteISAKMP(l.s.cookies.I, l.s.cookies.R).Payload(), isakmp.DeleteESP(0x1000).Payload()}}.Append(nil)); len(out) != 0 {
				t.Fatalf("notify %d in clear is answered", typ)
			}
		}
		if after := fmt.Sprint(r.e.Phase1SAs(), r.e.Children(), r.e.Conns(), len(r.kernel)); after != before {
			t.Errorf("after %d messages: %s\nwas %s", at, after, before)
		}
		if err := l.climb(at, ladderLen); err != nil {
			t.Errorf("after %d messages: %v", at, err)
		}
	}
}

// TestDeadState: deletes and notifies twice, and after the end (CVE-2023-38712).
func TestDeadState(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	l := newLadder(r, quickOffer())
	if err := l.climb(0, 5); err != nil {
		t.Fatal(err)
	}
	s, q := l.s, l.q
	esp := s.infoMessage(isakmp.DeleteESP(q.spi, q.spi).Payload(), isakmp.DeleteESP(q.spi).Payload())
	both := s.infoMessage(isakmp.DeleteISAKMP(s.cookies.I, s.cookies.R).Payload(), isakmp.DeleteISAKMP(s.cookies.I, s.cookies.R).Payload(),
		isakmp.Notify{DOI: 1, Protocol: 1, Type: isakmp.InvalidSPI}.Payload(), isakmp.DPDNotify(isakmp.RUThere, s.cookies.I, s.cookies.R, 1).Payload())
	for range 2 {
		s.send(esp)
	}
	if len(r.kernel) != 0 || len(r.down) != 0 {
		t.Fatalf("after the delete of ESP: %v, %+v", r.kernel, r.down)
	}
	for range 2 {
		if out := s.send(both); len(out) != 0 {
			t.Error("the dead answer")
		}
	}
	if len(r.down) != 1 || r.down[0].Reason != ReasonPeerDelete || !r.down[0].ByPeer {
		t.Errorf("down %+v", r.down)
	}
	if len(r.e.sas)+len(r.e.conns)+len(r.e.timers) != 0 {
		t.Error("something is left")
	}
	// The kernel and workers may still have something to say.
	r.give(SAInstalled{Conn: r.up[0].ID, SPI: q.theirs})
	r.give(SAExpired{SPI: q.theirs, Hard: true})
	r.give(PeerMoved{SPI: q.theirs, Remote: s.remote})
	r.give(DHDone{Job: 1})
	r.give(CloseConn{Conn: r.up[0].ID})
	r.give(Rekey{Conn: r.up[0].ID})
	r.give(PeerAlive{Conn: r.up[0].ID})
}

// TestForeignDelete: a peer cannot delete another's SAs.
func TestForeignDelete(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	a, b := newLadder(r, quickOffer()), newLadder(r, quickOffer())
	b.s.remote = netip.MustParseAddrPort("198.51.100.8:500")
	b.s.inner = b.s.remote.Addr()
	b.s.id = isakmp.AddrID(b.s.inner, 0, 0)
	if a.climb(0, 5) != nil || b.climb(0, 5) != nil {
		t.Fatal("not up")
	}
	b.s.info(isakmp.DeleteESP(a.q.spi).Payload(), isakmp.DeleteISAKMP(a.s.cookies.I, a.s.cookies.R).Payload())
	if len(r.kernel) != 4 || len(r.down) != 0 || len(r.e.Phase1SAs()) != 2 {
		t.Errorf("%d SAs, down %+v", len(r.kernel), r.down)
	}
}
