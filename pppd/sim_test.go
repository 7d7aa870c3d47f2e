package pppd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// chaChaReader makes a deterministic source of "randomness" for a link.
func chaChaReader(seed uint64) io.Reader {
	var s [32]byte
	s[0], s[1], s[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	return rand.NewChaCha8(s)
}

var (
	epoch     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	localAddr = netip.MustParseAddr("10.0.0.1")
	peerAddr  = netip.MustParseAddr("10.0.0.77")
	dns1      = netip.MustParseAddr("10.0.0.53")
	dns2      = netip.MustParseAddr("10.0.1.53")
	wins      = netip.MustParseAddr("10.0.0.42")
)

const (
	testUser     = `CORP\alice`
	testPassword = "correct horse"
)

// end is one link of a simulated pair with what it has emitted.
type end struct {
	name      string
	link      *Link
	down      *Down
	ups       []NetworkUp
	up        bool
	asked     []AuthRequest
	authDelay time.Duration
	sent      []Send
}

// sim is two links and a network between them in simulated time.
type sim struct {
	t          testing.TB
	now        time.Time
	ends       [2]*end
	rng        *rand.Rand
	loss, dup  float64
	delay      time.Duration
	jitter     time.Duration
	queue      []simEvent
	seq        int
	snapshot   bool // every Step is preceded by a JSON round trip of the link
	password   string
	trace      bool
	drop       func(from int, s Send) bool
	network    Network
	notices    int // Notifications that the EAP server sends before it asks for proof
	maxSimTime time.Duration
}

type simEvent struct {
	at  time.Time
	seq int
	to  int
	ev  Event
}

func newSim(t testing.TB, seed uint64, server, client Config) *sim {
	s := &sim{
		t: t, now: epoch, rng: rand.New(rand.NewPCG(seed, 1)), delay: 10 * time.Millisecond, password: testPassword,
		network:    Network{Local: localAddr, Peer: peerAddr, DNS: [2]netip.Addr{dns1, dns2}, NBNS: [2]netip.Addr{wins}},
		maxSimTime: 10 * time.Minute,
	}
	s.ends[0] = &end{name: "server", link: NewLink(server, chaChaReader(2*seed))}
	s.ends[1] = &end{name: "client", link: NewLink(client, chaChaReader(2*seed+1))}
	return s
}

func dialer() Config { return Config{Dialer: &Dialer{User: testUser, Password: Secret(testPassword)}} }

func (s *sim) schedule(d time.Duration, to int, ev Event) {
	s.seq++
	s.queue = append(s.queue, simEvent{s.now.Add(d), s.seq, to, ev})
}

// step feeds an event to one end and performs the effects.
func (s *sim) step(i int, ev Event) {
	e := s.ends[i]
	if s.snapshot {
		data, err := json.Marshal(e.link)
		if err != nil {
			s.t.Fatalf("%s: %v", e.name, err)
		}
		l, err := RestoreLink(e.link.cfg, e.link.random, data)
		if err != nil {
			s.t.Fatalf("%s: %v\n%s", e.name, err, data)
		}
		e.link = l
	}
	out := e.link.Step(s.now, ev)
	if s.trace {
		s.t.Logf("%8v %s %T%+v -> %v", s.now.Sub(epoch), e.name, ev, ev, out)
	}
	for _, eff := range out {
		if e.down != nil {
			s.t.Fatalf("%s: effect %#v after Down", e.name, eff)
		}
		switch eff := eff.(type) {
		case Send:
			e.sent = append(e.sent, eff)
			if s.drop != nil && s.drop(i, eff) {
				continue
			}
			for n := 0; n == 0 || (n < 3 && s.rng.Float64() < s.dup); n++ {
				if s.rng.Float64() < s.loss {
					continue
				}
				d := s.delay
				if s.jitter > 0 {
					d += time.Duration(s.rng.Int64N(int64(s.jitter)))
				}
				s.schedule(d, 1-i, Frame(eff))
			}
		case Authenticate:
			e.asked = append(e.asked, eff.Request)
			s.schedule(e.authDelay, i, s.answer(eff.Request))
		case NetworkUp:
			if e.up {
				s.t.Fatalf("%s: NetworkUp twice", e.name)
			}
			e.up, e.ups = true, append(e.ups, eff)
		case NetworkDown:
			if !e.up {
				s.t.Fatalf("%s: NetworkDown without NetworkUp", e.name)
			}
			e.up = false
		case Down:
			if e.up {
				s.t.Fatalf("%s: Down without NetworkDown", e.name)
			}
			e.down = &eff
		}
	}
}

// answer is a little AAA: one user.
func (s *sim) answer(r AuthRequest) AuthDecision {
	d := AuthDecision{Network: s.network, Message: "welcome"}
	switch r.Protocol {
	case AuthNone:
		d.Accept = true
	case AuthPAP:
		d.Accept = r.User == testUser && string(r.Password) == s.password
	case AuthCHAPMD5:
		d.Accept = r.User == testUser && CheckCHAPMD5(r.ID, r.Challenge, r.Response, []byte(s.password))
	case AuthMSCHAPv2:
		d.MSCHAPv2Response, d.Accept = CheckMSCHAPv2(r.User, r.Challenge, r.Response, []byte(s.password))
		d.Accept = d.Accept && r.User == testUser
	case AuthEAP:
		d = s.answerEAP(r, d)
	}
	if d.Continue {
		return d
	}
	if !d.Accept {
		d.Message, d.Network = "go away", Network{}
	}
	return d
}

// answerEAP is an EAP-MD5 server (RFC 3748 section 5.4). Its challenge follows from the identifier.
func (s *sim) answerEAP(r AuthRequest, d AuthDecision) AuthDecision {
	p, err := parseEAP(r.EAP)
	if err != nil || p.code != eapResponse || p.id != r.ID || len(p.data) == 0 {
		s.t.Fatalf("AAA was asked about %x: %v", []byte(r.EAP), err)
	}
	verdict := func(code uint8) []byte { return packet{code, p.id, nil}.append(nil) }
	next := func(data ...byte) AuthDecision {
		return AuthDecision{Continue: true, EAP: packet{eapRequest, p.id + 1, data}.append(nil)}
	}
	switch p.data[0] {
	case eapIdentity, eapNotification:
		if r.User != testUser {
			break
		}
		if s.notices > 0 {
			s.notices--
			return next(append([]byte{eapNotification}, "hear, hear"...)...)
		}
		return next(append([]byte{eapMD5, 16}, bytes.Repeat([]byte{p.id + 1}, 16)...)...)
	case eapMD5:
		response, name, ok := takeString(p.data[1:])
		d.Accept = ok && r.User == testUser && string(name) == testUser &&
			CheckCHAPMD5(p.id, bytes.Repeat([]byte{p.id}, 16), response, []byte(s.password))
	}
	d.EAP = verdict(eapFailure)
	if d.Accept {
		d.EAP = verdict(eapSuccess)
	}
	return d
}

// run lets time pass until stop says so, nothing can happen any more, or maxSimTime is over.
func (s *sim) run(stop func() bool) {
	limit := s.now.Add(s.maxSimTime)
	for steps := 0; !stop(); steps++ {
		if steps > 200_000 {
			s.t.Fatal("the simulation does not end")
		}
		next := simEvent{to: -1}
		for i, e := range s.ends {
			if d := e.link.Deadline(); !d.IsZero() && (next.to < 0 || d.Before(next.at)) {
				next = simEvent{at: d, to: i, ev: Timer{}}
			}
		}
		at := -1
		for i, q := range s.queue {
			if next.to < 0 || q.at.Before(next.at) || (q.at.Equal(next.at) && (at < 0 || q.seq < next.seq)) {
				next, at = q, i
			}
		}
		if next.to < 0 || next.at.After(limit) {
			return
		}
		if at >= 0 {
			s.queue = slices.Delete(s.queue, at, at+1)
		}
		if next.at.After(s.now) {
			s.now = next.at
		}
		s.step(next.to, next.ev)
	}
}

func (s *sim) open() {
	s.step(0, Open{})
	s.step(1, Open{})
}

func (s *sim) bothUp() bool   { return s.ends[0].up && s.ends[1].up }
func (s *sim) bothDown() bool { return s.ends[0].down != nil && s.ends[1].down != nil }
func (s *sim) settled() bool  { return s.bothUp() || s.bothDown() }

// pass runs for d.
func (s *sim) pass(d time.Duration) {
	old := s.maxSimTime
	s.maxSimTime = d
	until := s.now.Add(d)
	s.run(func() bool { return false })
	s.now, s.maxSimTime = until, old
}

func (s *sim) String() string {
	out := ""
	for _, e := range s.ends {
		out += fmt.Sprintf("%s: up %v down %+v info %+v\n", e.name, e.up, e.down, e.link.Info())
	}
	return out
}
