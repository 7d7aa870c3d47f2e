package radius

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/test/faultyradius"
)

var silent = faultyradius.Config{Faults: []faultyradius.Fault{faultyradius.Silent}}

func record(id string, at time.Time) Exchange {
	var a rad.Attributes
	a.Add(44, []byte(id)) // Acct-Session-Id
	return Exchange{Code: rad.CodeAccountingRequest, Attributes: a, At: at}
}

// TestSlowAndLossy is row 20 of the scorecard: answers after 5 s, a fifth of the packets lost either way, 2,000 requests
// at once. All are answered, over several sockets, with bounded memory, and at most one failover.
func TestSlowAndLossy(t *testing.T) {
	slow := faultyradius.Config{Delay: 5 * time.Second, Drop: 5}
	w := newWorld(t, func(c *Config) {
		for i := range c.Servers {
			c.Servers[i].Timeout, c.Servers[i].Retransmissions = 15*time.Second, 8
		}
	}, slow, slow)
	for i := range 2000 {
		w.ask(pap(fmt.Sprint("user", i), "secret"))
	}
	w.run(time.Minute)
	second := 0
	for id := requestID(1); id <= 2000; id++ {
		got := w.ended[id]
		if got.Err != nil || got.Answer.Code != rad.CodeAccessAccept || got.After > 2*15*time.Second {
			t.Fatalf("request %d: %v, %v after %v", id, got.Answer.Code, got.Err, got.After)
		}
		if got.Answer.Server != "s1" {
			second++
		}
	}
	if second > 40 {
		t.Errorf("%d of 2000 requests went to the second server", second)
	}
	if s := w.status(1, Authentication); s.State != Up {
		t.Errorf("a server that answers slowly is %v", s.State)
	}
	if w.sockets < 8 || w.sockets > 12 {
		t.Errorf("%d sockets", w.sockets)
	}
	if len(w.engine.requests) != 0 || w.maxFlight > 2000 {
		t.Errorf("%d requests left, %d in flight at most", len(w.engine.requests), w.maxFlight)
	}
}

// TestFailover: who meets a server that has just died waits for its Timeout once, and all who come later not at all.
func TestFailover(t *testing.T) {
	w := newWorld(t, nil, silent, faultyradius.Config{})
	var met []requestID
	for range deadAfter + 2 {
		met = append(met, w.ask(pap("a", "b")))
		w.run(time.Second)
	}
	w.run(6 * time.Second)
	for _, id := range met {
		w.want(id, rad.CodeAccessAccept, "s2")
		if after := w.ended[id].After; after > 5*time.Second+100*time.Millisecond {
			t.Errorf("request %d took %v", id, after)
		}
	}
	if s := w.status(1, Authentication); s.State != Dead || s.Counts[TimedOut] != 5 || s.Counts[Retransmitted] != 10 || s.Counts[Sent] != 5 {
		t.Fatalf("the silent server: %+v", s)
	}
	if s := w.status(1, Accounting); s.State != Up {
		t.Errorf("accounting was not asked and is %v", s.State)
	}
	for range 100 {
		id := w.ask(pap("a", "b"))
		w.run(100 * time.Millisecond)
		w.want(id, rad.CodeAccessAccept, "s2")
	}
	if s := w.status(1, Authentication); s.Counts[Sent] != 5 {
		t.Errorf("a dead server was asked %d times", s.Counts[Sent]-5)
	}
}

// TestTrial: after DeadTime one request tries the server out while the others go on elsewhere.
func TestTrial(t *testing.T) {
	w := newWorld(t, nil, silent, faultyradius.Config{})
	for range deadAfter {
		w.ask(pap("a", "b"))
	}
	w.run(10 * time.Second)
	before := w.status(1, Authentication).Counts[Sent]
	w.run(2 * time.Minute)
	if s := w.status(1, Authentication); s.State != Trial {
		t.Fatalf("after DeadTime it is %v", s.State)
	}
	for range 50 {
		w.ask(pap("a", "b"))
		w.run(50 * time.Millisecond)
	}
	if n := w.status(1, Authentication).Counts[Sent]; n != before+1 {
		t.Errorf("%d requests tried it out", n-before)
	}
	w.run(5 * time.Second)
	if s := w.status(1, Authentication); s.State != Dead {
		t.Errorf("having failed the trial it is %v", s.State)
	}
	w.server(1).Script(faultyradius.Honest)
	w.run(2*time.Minute + time.Second)
	id := w.ask(pap("a", "b"))
	w.run(time.Second)
	w.want(id, rad.CodeAccessAccept, "s1")
	if s := w.status(1, Authentication); s.State != Up {
		t.Errorf("having passed the trial it is %v", s.State)
	}
	var states []State
	for _, c := range w.changes {
		states = append(states, c.To)
	}
	if !slices.Equal(states, []State{Dead, Trial, Dead, Trial, Up}) {
		t.Errorf("states %v", states)
	}
}

// TestNotDead: neither one slow answer, nor lost packets of a server that answers others, nor a DeadTime of 0.
func TestNotDead(t *testing.T) {
	tests := []struct {
		name   string
		faults []faultyradius.Fault
		change func(*Config)
	}{
		{"two unanswered in a row", []faultyradius.Fault{"silent", "silent", "honest", "silent", "silent", "honest"}, nil},
		{"slow answers", []faultyradius.Fault{"late", "honest", "late", "honest"}, nil},
		{"no DeadTime", []faultyradius.Fault{"silent"}, func(c *Config) { c.Servers[0].DeadTime = 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.change, faultyradius.Config{Faults: tt.faults, Lateness: 7 * time.Second})
			for range 6 {
				w.ask(pap("a", "b"))
				w.run(6 * time.Second)
			}
			if len(w.changes) != 0 {
				t.Errorf("it became %+v", w.changes)
			}
		})
	}
	t.Run("lost among answered", func(t *testing.T) {
		faults := append(slices.Repeat([]faultyradius.Fault{"silent"}, 20), "honest")
		w := newWorld(t, nil, faultyradius.Config{Faults: faults})
		for range 20 {
			w.ask(pap("a", "b"))
		}
		w.run(time.Second)
		w.ask(pap("a", "b")) // answered while those wait
		w.run(10 * time.Second)
		if s := w.status(1, Authentication); s.State != Up || s.Counts[TimedOut] != 20 {
			t.Errorf("%+v", s)
		}
	})
}

// TestOutage is row 19: all servers are silent for ten minutes. Every request fails in bounded time; when they are back,
// the first request is answered, dead as they were.
func TestOutage(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		for i := range c.Servers {
			c.Servers[i].DeadTime = time.Hour
		}
	}, silent, silent)
	for range 1200 {
		w.ask(pap("a", "b"))
		w.run(500 * time.Millisecond)
	}
	w.run(10*time.Second + 10*latency)
	for id, got := range w.ended {
		if !errors.Is(got.Err, ErrNoAnswer) || got.After > 10*time.Second+10*latency {
			t.Fatalf("request %d: %v after %v", id, got.Err, got.After)
		}
	}
	if len(w.ended) != 1200 || len(w.engine.requests) != 0 || w.maxFlight > 25 {
		t.Errorf("%d ended, %d left, %d in flight at most", len(w.ended), len(w.engine.requests), w.maxFlight)
	}
	w.server(1).Script(faultyradius.Honest)
	w.server(2).Script(faultyradius.Honest)
	id := w.ask(pap("a", "b"))
	w.run(time.Second)
	w.want(id, rad.CodeAccessAccept, "s1")
	if s := w.status(1, Authentication); s.State != Up {
		t.Errorf("back, it is %v", s.State)
	}
}

// TestStatusServer: a probe's answer has the server tried out long before DeadTime is over (RFC 5997).
func TestStatusServer(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Servers[0].StatusServer = true; c.Servers[0].DeadTime = time.Hour }, silent, faultyradius.Config{})
	for range deadAfter {
		w.ask(pap("a", "b"))
	}
	w.run(5 * time.Minute)
	s := w.status(1, Authentication)
	if n := s.Counts[Probed]; s.State != Dead || n < 15 || n > 35 {
		t.Fatalf("%d probes in five minutes, %v", n, s.State)
	}
	packet := w.lastPacket[w.address(1)]
	p, err := VerifyRequest(packet, testSecret, true)
	if err != nil || p.Code != rad.CodeStatusServer || packet[headerLen] != byte(attrMessageAuthenticator) || string(p.Get(attrNASIdentifier)) != "gate" {
		t.Errorf("probe %v, %v", p, err)
	}
	w.server(1).Script(faultyradius.Honest)
	w.run(30 * time.Second)
	if s := w.status(1, Authentication); s.State != Trial || s.Counts[ProbeAnswered] != 1 {
		t.Errorf("after a probe was answered: %+v", s)
	}
	id := w.ask(pap("a", "b"))
	w.run(time.Second)
	w.want(id, rad.CodeAccessAccept, "s1")
	if s := w.status(1, Authentication); s.State != Up {
		t.Errorf("it is %v", s.State)
	}
}

func TestRoundRobin(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Groups[0].RoundRobin = true }, faultyradius.Config{}, silent, faultyradius.Config{})
	for range 30 {
		w.ask(pap("a", "b"))
	}
	w.run(10 * time.Second)
	for i, want := range []uint64{10, 10, 10} {
		if n := w.status(i+1, Authentication).Counts[Sent]; n < want {
			t.Errorf("server %d was asked %d times", i+1, n)
		}
	}
	for range 30 { // the second is dead now: the others share its part
		w.ask(pap("a", "b"))
	}
	w.run(time.Second)
	a, b, c := w.status(1, Authentication).Counts[Accepted], w.status(2, Authentication).Counts[Sent], w.status(3, Authentication).Counts[Accepted]
	if a+c != 60 || b != 10 || a < 28 || c < 28 {
		t.Errorf("accepted by the first %d, by the third %d, the second was asked %d times", a, c, b)
	}
}

// TestNamedServer: a round of a dialogue goes to the server that asked for it and to no other, whatever the group's order
// and whether it is thought dead or not (RFC 2865 section 5.24).
func TestNamedServer(t *testing.T) {
	for _, roundRobin := range []bool{false, true} {
		w := newWorld(t, func(c *Config) { c.Groups[0].RoundRobin = roundRobin }, faultyradius.Config{}, silent, faultyradius.Config{})
		named := func(server string) requestID {
			x := pap("a", "b")
			x.Server = server
			return w.ask(x)
		}
		for range 2 * deadAfter { // the second server dies of it
			third, second := named("s3"), named("s2")
			w.run(6 * time.Second)
			w.want(third, rad.CodeAccessAccept, "s3")
			w.wantError(second, ErrNoAnswer)
		}
		if s := w.status(2, Authentication); s.State != Dead || s.Counts[Sent] != 2*deadAfter {
			t.Errorf("the silent server: %+v", s)
		}
		if s := w.status(1, Authentication); s.Counts[Sent] != 0 {
			t.Errorf("the first was asked: %+v", s)
		}
		id := named("gone")
		w.run(time.Second)
		w.wantError(id, ErrNoAnswer)
	}
}

// TestFaults is row 21: what is wrong is dropped and counted, and the honest answer behind it is still taken.
func TestFaults(t *testing.T) {
	tests := []struct {
		fault   faultyradius.Fault
		counted Outcome
		n       uint64
	}{
		{faultyradius.WrongAuthenticator, BadAuthenticator, 1},
		{faultyradius.WrongMessageAuthenticator, BadAuthenticator, 1},
		{faultyradius.NoMessageAuthenticator, NoMessageAuthenticator, 1},
		{faultyradius.ForgedAccept, NoMessageAuthenticator, 1},
		{faultyradius.WrongPort, WrongSource, 1},
		{faultyradius.Oversize, Malformed, 1},
		{faultyradius.Truncated, Malformed, 1},
		{faultyradius.OtherIdentifier, Unexpected, 1},
		{faultyradius.WrongCode, Unexpected, 1},
		{faultyradius.Duplicate, Duplicate, 2},
		{faultyradius.Honest, Duplicate, 0},
	}
	for _, tt := range tests {
		t.Run(string(tt.fault), func(t *testing.T) {
			w := newWorld(t, nil, faultyradius.Config{Faults: []faultyradius.Fault{tt.fault}, HonestAfter: 100 * time.Millisecond})
			id := w.ask(pap("a", "b"))
			w.run(time.Second)
			w.want(id, rad.CodeAccessAccept, "s1")
			s := w.status(1, Authentication)
			if s.Counts[tt.counted] != tt.n || s.Counts[Accepted] != 1 || s.State != Up {
				t.Errorf("counts %v", s.Counts)
			}
			// Without the honest answer there is none, and the server is no better than a silent one.
			if tt.fault == faultyradius.Honest || tt.fault == faultyradius.Duplicate {
				return
			}
			w = newWorld(t, nil, faultyradius.Config{Faults: []faultyradius.Fault{tt.fault}})
			ids := []requestID{w.ask(pap("a", "b")), w.ask(pap("a", "b")), w.ask(pap("a", "b"))}
			w.run(10 * time.Second)
			for _, id := range ids {
				w.wantError(id, ErrNoAnswer)
			}
			if s := w.status(1, Authentication); s.State != Dead {
				t.Errorf("it is %v", s.State)
			}
		})
	}
}

// TestGarbage: a flood between request and answer costs nothing but counters.
func TestGarbage(t *testing.T) {
	w := newWorld(t, nil, faultyradius.Config{Faults: []faultyradius.Fault{faultyradius.Garbage}, HonestAfter: 100 * time.Millisecond})
	for range 50 {
		w.ask(pap("a", "b"))
	}
	w.run(time.Second)
	s := w.status(1, Authentication)
	if bad := s.Counts[Malformed] + s.Counts[Unexpected] + s.Counts[BadAuthenticator]; s.Counts[Accepted] != 50 || bad != 5000 {
		t.Errorf("counts %v", s.Counts)
	}
}

// TestMuseum: AllowUnsigned takes answers without Message-Authenticator, but not those with a wrong one (CVE-2024-3596).
func TestMuseum(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Servers[0].AllowUnsigned = true },
		faultyradius.Config{Faults: []faultyradius.Fault{"no-message-authenticator", "wrong-message-authenticator"}})
	id := w.ask(pap("a", "b"))
	w.run(time.Second)
	w.want(id, rad.CodeAccessAccept, "s1")
	id = w.ask(pap("a", "b"))
	w.run(10 * time.Second)
	w.wantError(id, ErrNoAnswer)
}

// TestChallenges: each round is a request of its own, and the server stays up.
func TestChallenges(t *testing.T) {
	w := newWorld(t, nil, faultyradius.Config{Faults: []faultyradius.Fault{faultyradius.Challenge}})
	for range 1000 {
		id := w.ask(pap("a", "b"))
		w.run(10 * time.Millisecond)
		w.want(id, rad.CodeAccessChallenge, "s1")
		if attrs := w.ended[id].Answer.Attributes; string(attrs.Get(24)) != "state" {
			t.Fatalf("answer %v", attrs)
		}
	}
	if s := w.status(1, Authentication); s.Counts[Challenged] != 1000 || s.Sockets != 1 {
		t.Errorf("%+v", s)
	}
}

// TestRetransmissions: to the same server to the byte the same, doubling and within Timeout; to the next server a new
// packet. Acct-Delay-Time is of the first packet to each (RFC 2866 section 5.2).
func TestRetransmissions(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Servers[0].Retransmissions = 3 }, silent, silent)
	type sending struct {
		at   time.Duration
		data []byte
	}
	var first, second []sending
	w.tap = func(x sendPacket) {
		if s := (sending{w.now.Sub(start), x.Data}); x.To.Addr() == w.address(1).Addr() {
			first = append(first, s)
		} else {
			second = append(second, s)
		}
	}
	w.ask(record("one", start.Add(-90*time.Second)))
	w.run(time.Minute)
	if len(first) != 4 || len(second) != 3 {
		t.Fatalf("sent %d and %d times", len(first), len(second))
	}
	for i := 1; i < len(first); i++ {
		if !bytes.Equal(first[0].data, first[i].data) {
			t.Errorf("packet %d differs", i)
		}
	}
	a, b, c := first[1].at-first[0].at, first[2].at-first[1].at, first[3].at-first[2].at
	if a < 450*time.Millisecond || a > 550*time.Millisecond || b < a*3/2 || c < b*5/4 || first[3].at > 5*time.Second {
		t.Errorf("intervals %v, %v, %v", a, b, c)
	}
	if gap := second[0].at - first[0].at; gap < 5*time.Second || gap > 5*time.Second+10*latency {
		t.Errorf("the next server was asked after %v", gap)
	}
	for i, want := range []uint32{90, 95} {
		p, err := VerifyRequest([][]byte{first[0].data, second[0].data}[i], testSecret, false)
		if err != nil {
			t.Fatal(err)
		}
		if delay, _ := rad.Integer(p.Get(attrAcctDelayTime)); delay != want || string(p.Get(44)) != "one" || len(p.Attributes) != 4 {
			t.Errorf("server %d: %v, delay %d s", i+1, p.Attributes, delay)
		}
	}
}

// TestAuthenticatorsDiffer: every Access-Request has its own.
func TestAuthenticatorsDiffer(t *testing.T) {
	w := newWorld(t, nil, faultyradius.Config{}, faultyradius.Config{})
	seen := map[Authenticator]bool{}
	w.tap = func(x sendPacket) { seen[Authenticator(x.Data[4:])] = true }
	for range 300 {
		w.ask(pap("a", "b"))
	}
	w.run(time.Second)
	if len(seen) != 300 {
		t.Errorf("%d authenticators for 300 requests", len(seen))
	}
}
