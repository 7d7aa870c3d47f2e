package pppd

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var allAuth = []AuthProtocol{AuthMSCHAPv2, AuthCHAPMD5, AuthPAP}

func TestLinkComesUpAndGoesDown(t *testing.T) {
	for _, auth := range [][]AuthProtocol{{AuthPAP}, {AuthCHAPMD5}, {AuthMSCHAPv2}, nil} {
		for _, snapshot := range []bool{false, true} {
			s := newSim(t, 1, Config{Auth: auth, MRU: 1400}, dialer())
			s.snapshot = snapshot
			s.open()
			s.run(s.settled)
			if !s.bothUp() {
				t.Fatalf("%v: not up\n%v", auth, s)
			}
			server, client := s.ends[0], s.ends[1]
			if got, want := server.ups[0], (NetworkUp{Local: localAddr, Peer: peerAddr, MTU: 1400}); got != want {
				t.Errorf("%v: server %+v, want %+v", auth, got, want)
			}
			if got, want := client.ups[0], (NetworkUp{Local: peerAddr, Peer: localAddr, MTU: 1400, DNS: [2]netip.Addr{dns1, dns2}}); got != want {
				t.Errorf("%v: client %+v, want %+v", auth, got, want)
			}
			if len(server.asked) != 1 || len(client.asked) != 0 {
				t.Errorf("%v: AAA asked %d and %d times", auth, len(server.asked), len(client.asked))
			}
			if i := server.link.Info(); auth != nil && (i.User != testUser || !i.Accepted || i.Phase != PhaseNetwork || i.LCP != Opened || i.IPCP != Opened || i.Remote != peerAddr) {
				t.Errorf("%v: %+v", auth, i)
			}
			s.step(1, Close{})
			s.run(s.bothDown)
			if !s.bothDown() {
				t.Fatalf("%v: not down\n%v", auth, s)
			}
			if server.down.Reason != ReasonUserRequest || !server.down.ByPeer || client.down.Reason != ReasonAdmin || client.down.ByPeer {
				t.Errorf("%v: ended with %+v and %+v", auth, server.down, client.down)
			}
			if want := NormalCause(true); server.down.Cause != want {
				t.Errorf("%v: cause %+v, want %+v", auth, server.down.Cause, want)
			}
		}
	}
}

// TestBadNetwork is the ladder under loss, duplication and reordering: every pair must end up on both sides or be down
// on both sides with a reason, and at these rates it must practically always be up.
func TestBadNetwork(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 60
	}
	var up, down, asked int
	for seed := range seeds {
		auth := []AuthProtocol{allAuth[seed%3]}
		cfg := Config{Auth: auth, EchoInterval: 10 * time.Second}
		client := dialer()
		client.EchoInterval = 10 * time.Second
		s := newSim(t, seed, cfg, client)
		s.loss, s.dup, s.jitter = 0.2, 0.1, 200*time.Millisecond
		s.ends[0].authDelay = time.Duration(seed%5) * time.Second
		s.snapshot = seed%4 == 0
		s.open()
		s.run(s.settled)
		if !s.settled() {
			t.Fatalf("seed %d: neither up nor down\n%v", seed, s)
		}
		if s.bothUp() {
			up++
		} else {
			down++
			t.Logf("seed %d: %v / %v", seed, s.ends[0].down, s.ends[1].down)
		}
		asked += len(s.ends[0].asked)
		s.step(int(seed%2), Close{})
		s.run(s.bothDown)
		if !s.bothDown() {
			t.Fatalf("seed %d: not down after Close\n%v", seed, s)
		}
		for _, e := range s.ends {
			if e.down.Reason == "" || e.down.Text == "" {
				t.Fatalf("seed %d: %s ended without a reason: %+v", seed, e.name, e.down)
			}
		}
	}
	t.Logf("%d up, %d down, %.2f questions to AAA per link", up, down, float64(asked)/float64(seeds))
	if up < int(seeds)*99/100 {
		t.Errorf("only %d of %d links came up", up, seeds)
	}
}

func TestWrongPasswordEndsBothSides(t *testing.T) {
	for _, auth := range allAuth {
		s := newSim(t, 3, Config{Auth: []AuthProtocol{auth}}, dialer())
		s.password = "something else"
		s.open()
		s.run(s.settled)
		server, client := s.ends[0], s.ends[1]
		if server.down == nil || client.down == nil {
			t.Fatalf("%v: %v", auth, s)
		}
		if server.down.Reason != ReasonAuthFailed || server.down.ByPeer {
			t.Errorf("%v: server %+v", auth, server.down)
		}
		if want := (DisconnectCause{16, authNumber(auth), 1}); server.down.Cause != want {
			t.Errorf("%v: cause %+v, want %+v", auth, server.down.Cause, want)
		}
		if client.down.Reason != ReasonAuthFailed || !client.down.ByPeer {
			t.Errorf("%v: client %+v", auth, client.down)
		}
		if len(server.asked) != 1 {
			t.Errorf("%v: AAA asked %d times", auth, len(server.asked))
		}
	}
}

func TestServerWithoutThePasswordIsUnmasked(t *testing.T) {
	// RFC 2759 section 5: the client must check the proof. The server's AAA accepts anybody.
	s := newSim(t, 4, Config{Auth: []AuthProtocol{AuthMSCHAPv2}}, dialer())
	s.step(0, Open{})
	s.step(1, Open{})
	s.run(func() bool { return len(s.ends[0].asked) == 1 })
	s.queue = nil // the honest AAA's answer
	s.step(0, AuthDecision{Accept: true, MSCHAPv2Response: rfc2759Proof, Network: s.network})
	s.run(s.settled)
	if d := s.ends[1].down; d == nil || d.Reason != ReasonAuthFailed || len(s.ends[1].ups) > 0 {
		t.Fatalf("the client was taken in\n%v", s)
	}
}

func TestBothEndsAuthenticate(t *testing.T) {
	cfg := dialer()
	cfg.Auth = allAuth
	server := Config{Auth: allAuth, Dialer: cfg.Dialer}
	s := newSim(t, 5, server, cfg)
	s.network = Network{}
	s.open()
	s.run(func() bool {
		return s.ends[0].link.Info().Phase == PhaseNetwork && s.ends[1].link.Info().Phase == PhaseNetwork
	})
	for _, e := range s.ends {
		if i := e.link.Info(); !i.Accepted || i.User != testUser || len(e.asked) != 1 {
			t.Errorf("%s: %+v", e.name, i)
		}
	}
}

// TestSlowAAA is SoftEther's pull request 282 and clients.md consequence 7: neither the phase's timer nor the
// challenge's runs while AAA thinks, however long.
func TestSlowAAA(t *testing.T) {
	for _, auth := range allAuth {
		cfg := Config{Auth: []AuthProtocol{auth}, AuthTimeout: 10 * time.Second}
		client := dialer()
		client.AuthTimeout = 10 * time.Minute
		s := newSim(t, 6, cfg, client)
		s.ends[0].authDelay = 5 * time.Minute
		s.open()
		s.run(s.settled)
		if !s.bothUp() {
			t.Fatalf("%v: not up\n%v", auth, s)
		}
		if n := len(s.ends[0].asked); n != 1 {
			t.Errorf("%v: AAA asked %d times", auth, n)
		}
		challenges := 0
		for _, f := range s.ends[0].sent {
			if f.Protocol == ProtocolCHAP && f.Data[0] == chapChallenge {
				challenges++
			}
		}
		if want := map[bool]int{true: 0, false: 1}[auth == AuthPAP]; challenges != want {
			t.Errorf("%v: %d challenges sent, want %d", auth, challenges, want)
		}
	}
}

// TestLostVerdict: the server has said Success and is in the network phase, the client has not heard.
func TestLostVerdict(t *testing.T) {
	for _, auth := range allAuth {
		s := newSim(t, 7, Config{Auth: []AuthProtocol{auth}}, dialer())
		lost := 0
		s.drop = func(from int, f Send) bool {
			verdict := from == 0 && (f.Protocol == ProtocolPAP || f.Protocol == ProtocolCHAP && f.Data[0] == chapSuccess)
			if verdict {
				lost++
			}
			return verdict && lost <= 2
		}
		s.open()
		s.run(s.settled)
		if !s.bothUp() || lost != 3 || len(s.ends[0].asked) != 1 {
			t.Fatalf("%v: lost %d, asked %d\n%v", auth, lost, len(s.ends[0].asked), s)
		}
	}
}

func TestLostChallengeIsRepeatedUnchanged(t *testing.T) {
	s := newSim(t, 8, Config{Auth: []AuthProtocol{AuthCHAPMD5}}, dialer())
	var seen [][]byte
	s.drop = func(from int, f Send) bool {
		if from != 0 || f.Protocol != ProtocolCHAP || f.Data[0] != chapChallenge {
			return false
		}
		seen = append(seen, f.Data)
		return len(seen) < 3
	}
	s.open()
	s.run(s.settled)
	if !s.bothUp() || len(seen) != 3 || !slices.Equal(seen[0], seen[1]) || !slices.Equal(seen[0], seen[2]) {
		t.Fatalf("challenges %x\n%v", seen, s)
	}
}

func TestRenegotiationRepeatsAuthentication(t *testing.T) {
	s := newSim(t, 9, Config{Auth: []AuthProtocol{AuthMSCHAPv2}}, dialer())
	s.open()
	s.run(s.settled)
	// The client starts LCP anew, as a client that has been reset does: another magic number.
	s.ends[1].link = NewLink(dialer(), chaChaReader(99))
	s.ends[1].up = false
	s.step(1, Open{})
	s.run(func() bool { return !s.ends[0].up })
	if got := s.ends[0].link.Info().Phase; got != PhaseEstablish {
		t.Errorf("phase %v after the new Configure-Request", got)
	}
	s.run(s.settled)
	if !s.bothUp() || len(s.ends[0].asked) != 2 || len(s.ends[0].ups) != 2 {
		t.Fatalf("asked %d, ups %d\n%v", len(s.ends[0].asked), len(s.ends[0].ups), s)
	}
	if n := s.ends[0].link.Info().Counters.Renegotiations; n != 1 {
		t.Errorf("%d renegotiations counted", n)
	}
}

// TestRenegotiationWhileAAAThinks: the answer to the first question must not admit whoever has come since.
func TestRenegotiationWhileAAAThinks(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		s := newSim(t, 10, Config{Auth: []AuthProtocol{AuthPAP}}, dialer())
		s.snapshot = snapshot
		s.ends[0].authDelay = 8 * time.Second
		s.open()
		s.run(func() bool { return len(s.ends[0].asked) == 1 })
		impostor := dialer()
		impostor.Dialer.Password = Secret("guess")
		s.ends[1].link = NewLink(impostor, chaChaReader(98))
		s.step(1, Open{})
		s.run(s.settled)
		if len(s.ends[0].asked) != 2 || len(s.ends[0].ups) != 0 || s.ends[0].down == nil || s.ends[0].down.Reason != ReasonAuthFailed {
			t.Fatalf("asked %d times\n%v", len(s.ends[0].asked), s)
		}
	}
}

func TestEndlessRenegotiationEnds(t *testing.T) {
	s := newSim(t, 11, Config{Auth: []AuthProtocol{AuthPAP}}, dialer())
	for n := range uint64(maxRestarts + 2) {
		s.ends[1].link = NewLink(dialer(), chaChaReader(1000+n))
		s.ends[1].up = false
		s.step(1, Open{})
		if n == 0 {
			s.step(0, Open{})
		}
		s.run(func() bool { return s.bothUp() || s.ends[0].down != nil })
	}
	if d := s.ends[0].down; d == nil || d.Reason != ReasonLCPDiverged {
		t.Fatalf("after %d negotiations: %v", maxRestarts+2, s)
	}
	// A link that has lived for a while may negotiate anew any number of times.
	s = newSim(t, 12, Config{Auth: []AuthProtocol{AuthPAP}}, dialer())
	for n := range uint64(3 * maxRestarts) {
		s.ends[1].link = NewLink(dialer(), chaChaReader(1000+n))
		s.ends[1].up = false
		s.step(1, Open{})
		if n == 0 {
			s.step(0, Open{})
		}
		s.run(s.settled)
		if !s.bothUp() {
			t.Fatalf("round %d: %v", n, s)
		}
		s.pass(2 * restartGrace)
	}
}

func TestDuplicatedFramesDoNotDisturb(t *testing.T) {
	// Every frame is delivered twice and late copies come after the link is up: no second question, no flapping.
	for _, auth := range allAuth {
		s := newSim(t, 13, Config{Auth: []AuthProtocol{auth}}, dialer())
		s.open()
		s.run(s.settled)
		for i, e := range s.ends {
			for _, f := range slices.Clone(e.sent) {
				if p, err := parsePacket(f.Data); err != nil || f.Protocol != ProtocolLCP && f.Protocol != ProtocolIPCP || p.code == codeConfigureRequest && p.id == lastRequest(e, f.Protocol) || p.code == codeConfigureAck {
					s.step(1-i, Frame(f))
				}
			}
		}
		s.pass(time.Minute)
		if !s.bothUp() || len(s.ends[0].ups) != 1 || len(s.ends[1].ups) != 1 || len(s.ends[0].asked) != 1 {
			t.Fatalf("%v: asked %d\n%v", auth, len(s.ends[0].asked), s)
		}
	}
}

// lastRequest is the identifier of the last Configure-Request that e sent.
func lastRequest(e *end, protocol uint16) (id uint8) {
	for _, f := range e.sent {
		if f.Protocol == protocol && f.Data[0] == codeConfigureRequest {
			id = f.Data[1]
		}
	}
	return id
}

func TestVanishedPeer(t *testing.T) {
	s := newSim(t, 14, Config{Auth: allAuth, EchoInterval: 20 * time.Second, EchoFailures: 3}, dialer())
	s.open()
	s.run(s.settled)
	s.pass(5 * time.Minute)
	if !s.bothUp() || s.ends[0].link.Info().EchoMisses > 1 {
		t.Fatalf("echoes of a living peer were missed\n%v", s)
	}
	s.loss = 1
	gone := s.now
	s.run(func() bool { return s.ends[0].down != nil })
	if d := s.ends[0].down; d == nil || d.Reason != ReasonKeepalive || d.Cause.Code != 8 {
		t.Fatalf("%v", s)
	}
	// At most one interval until the first lost echo, three intervals of patience, two Terminate-Requests.
	if took, limit := s.now.Sub(gone), (20+3*20+2*3)*time.Second; took > limit {
		t.Errorf("took %v, limit %v", took, limit)
	}
}

func TestLowerLayerGoes(t *testing.T) {
	s := newSim(t, 15, Config{Auth: allAuth}, dialer())
	s.open()
	s.run(s.settled)
	s.step(0, LowerDown{Reason: "l2tp-cdn"})
	if d := s.ends[0].down; d == nil || d.Reason != "l2tp-cdn" {
		t.Fatalf("%v", s)
	}
	if l := s.ends[0].link; len(l.Step(s.now, LowerDown{})) != 0 || !l.Deadline().IsZero() {
		t.Error("the link is not at rest after Down")
	}

	// A peer's Terminate-Request is the reason even when the tunnel tells us of the end first.
	s = newSim(t, 16, Config{Auth: allAuth}, dialer())
	s.open()
	s.run(s.settled)
	s.step(1, Close{})
	s.run(func() bool { return s.ends[0].link.Info().Phase == PhaseTerminate })
	s.step(0, LowerDown{Reason: "l2tp-cdn"})
	if d := s.ends[0].down; d == nil || d.Reason != ReasonUserRequest {
		t.Fatalf("%v", s)
	}
}

// TestLoopedLink connects a link to itself: RFC 1661 section 6.4.
func TestLoopedLink(t *testing.T) {
	l := NewLink(Config{Auth: allAuth}, chaChaReader(17))
	now := epoch
	queue := l.Step(now, Open{})
	var down *Down
	for n := 0; len(queue) > 0 || !l.Deadline().IsZero(); n++ {
		if n > 1000 {
			t.Fatal("no end")
		}
		var ev Event = Timer{}
		if len(queue) > 0 {
			eff := queue[0]
			queue = queue[1:]
			switch eff := eff.(type) {
			case Send:
				ev = Frame(eff)
			case Down:
				down = &eff
				continue
			case Authenticate, NetworkUp:
				t.Fatalf("a looped link got as far as %T", eff)
			default:
				continue
			}
		} else {
			now = l.Deadline()
		}
		queue = append(queue, l.Step(now, ev)...)
	}
	if down == nil || down.Reason != ReasonLoop || down.Cause.Code != 7 {
		t.Fatalf("%+v", down)
	}
}

func BenchmarkNegotiation(b *testing.B) {
	for _, auth := range allAuth {
		b.Run(fmt.Sprint(auth), func(b *testing.B) {
			b.ReportAllocs()
			for n := range b.N {
				s := newSim(b, uint64(n), Config{Auth: []AuthProtocol{auth}, MRU: 1400}, dialer())
				s.delay = 0
				s.open()
				s.run(s.settled)
				if !s.bothUp() {
					b.Fatal(s)
				}
			}
		})
	}
}
