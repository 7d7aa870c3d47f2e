package radius

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/test/faultyradius"
)

// TestIdentifiersRest: an identifier is not given to another request while answers to its last one may be under way. What
// comes late is counted as late, and nobody is accepted by it.
func TestIdentifiersRest(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Servers[0].DeadTime = 0 }, faultyradius.Config{Faults: []faultyradius.Fault{faultyradius.Late}, Lateness: 8 * time.Second})
	type key struct {
		socket socketID
		id     byte
	}
	type use struct {
		at            time.Time
		authenticator Authenticator
	}
	used := map[key]use{}
	w.tap = func(x sendPacket) {
		k, now := key{x.Socket, x.Data[1]}, use{w.now, Authenticator(x.Data[4:])}
		last, again := used[k]
		if again && last.authenticator == now.authenticator {
			return
		}
		if again && w.now.Sub(last.at) < 5*time.Second+quiet {
			t.Fatalf("identifier %v is used again after %v", k, w.now.Sub(last.at))
		}
		used[k] = now
	}
	for range 25 { // 40 a second, each holding its identifier for 15 s
		for range 40 {
			w.ask(pap("a", "b"))
		}
		w.run(time.Second)
	}
	w.run(20 * time.Second)
	for id := requestID(1); id <= 1000; id++ {
		w.wantError(id, ErrNoAnswer)
	}
	s := w.status(1, Authentication)
	if s.Counts[Late] < 1000 || s.Counts[BadAuthenticator] != 0 || s.Counts[Accepted] != 0 {
		t.Errorf("counts %v", s.Counts)
	}
	if w.sockets > 3 {
		t.Errorf("%d sockets", w.sockets)
	}
}

// TestRepeatedAnswers: who was asked twice may answer twice. The second answer is a duplicate, never another request's,
// and what was sent twice says nothing about the round trip.
func TestRepeatedAnswers(t *testing.T) {
	w := newWorld(t, nil, faultyradius.Config{Delay: 1500 * time.Millisecond})
	for range 500 {
		w.ask(pap("a", "b"))
		w.run(time.Second / 120)
	}
	w.run(20 * time.Second)
	s := w.status(1, Authentication)
	if s.Counts[Accepted] != 500 || s.Counts[Retransmitted] == 0 || s.Counts[Duplicate] != s.Counts[Retransmitted] || s.Counts[BadAuthenticator] != 0 || s.RTT != 0 {
		t.Errorf("counts %v, RTT %v", s.Counts, s.RTT)
	}
}

// TestEveryIdentifierRests: a request waits for the first that comes free, as long as its Timeout allows.
func TestEveryIdentifierRests(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxInFlight = 4 }, faultyradius.Config{}, faultyradius.Config{})
	n := w.engine.ends[0]
	resting := func() (sum int) {
		for _, s := range n.Sockets {
			sum += s.Resting.N
		}
		return sum
	}
	for i := 0; resting() < 2*identifiers; i++ {
		if i == 3*identifiers {
			t.Fatalf("%d sockets of %d, %d identifiers rest", len(n.Sockets), n.MaxSockets, resting())
		}
		w.step(abandon{w.ask(pap("a", "b"))})
		w.run(2 * latency)
	}
	w.run(time.Second)
	impatient := w.ask(pap("a", "b"))
	w.run(5*time.Second + 10*latency)
	w.want(impatient, rad.CodeAccessAccept, "s2")
	patient := w.ask(pap("a", "b"))
	w.run(4 * time.Second)
	w.want(patient, rad.CodeAccessAccept, "s1")
	if after := w.ended[patient].After; after < time.Second {
		t.Errorf("it did not have to wait: %v", after)
	}
}

// TestSocketInUse: a server that may take very long keeps its socket.
func TestSocketInUse(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Servers[0].Timeout = time.Hour }, faultyradius.Config{Delay: 2 * socketIdle})
	id := w.ask(pap("a", "b"))
	w.run(3 * socketIdle)
	w.want(id, rad.CodeAccessAccept, "s1")
}

// TestFreshIdentifiersRotate: a late duplicate of an answered request is recognised as long as possible.
func TestFreshIdentifiersRotate(t *testing.T) {
	w := newWorld(t, nil, faultyradius.Config{})
	seen := map[byte]bool{}
	w.tap = func(x sendPacket) { seen[x.Data[1]] = true }
	for range identifiers {
		w.ask(pap("a", "b"))
		w.run(10 * time.Millisecond)
	}
	if len(seen) != identifiers || w.sockets != 1 {
		t.Errorf("%d identifiers, %d sockets", len(seen), w.sockets)
	}
}

// TestSocketsAreKept and closed when idle, never one per request.
func TestSocketsAreKept(t *testing.T) {
	w := newWorld(t, nil, faultyradius.Config{Delay: 500 * time.Millisecond})
	for range 1000 {
		w.ask(pap("a", "b"))
	}
	w.run(2 * time.Second)
	if w.sockets != 4 || len(w.open) != 4 {
		t.Fatalf("%d sockets for 1000 requests, %d open", w.sockets, len(w.open))
	}
	for range 20 { // a little work keeps one
		w.ask(pap("a", "b"))
		w.run(time.Minute)
	}
	if w.sockets != 4 || len(w.open) != 1 {
		t.Errorf("after 20 minutes with little work %d are open, %d ever opened", len(w.open), w.sockets)
	}
	w.run(socketIdle + time.Second)
	if len(w.open) != 0 || !w.engine.deadline().IsZero() {
		t.Errorf("idle, %d are open, the next deadline is %v", len(w.open), w.engine.deadline())
	}
	id := w.ask(pap("a", "b"))
	w.run(time.Second)
	w.want(id, rad.CodeAccessAccept, "s1")
	for id, got := range w.ended {
		if got.Err != nil {
			t.Errorf("request %d: %v", id, got.Err)
		}
	}
}

// TestSocketsAreBounded: a server that never answers, asked as fast as can be, costs a bounded number of sockets, and
// who waits for an identifier fails over in its time.
func TestSocketsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxInFlight = 1024; c.Servers[0].DeadTime = 0 }, silent, faultyradius.Config{})
	for range 60 {
		for range 600 {
			w.ask(pap("a", "b"))
		}
		w.run(time.Second)
	}
	if n := w.engine.ends[0].MaxSockets; n != 8 || w.maxOpen > 2*n {
		t.Errorf("at most %d sockets, %d were open", n, w.maxOpen)
	}
	refused := 0
	w.run(30 * time.Second)
	for id, got := range w.ended {
		if errors.Is(got.Err, ErrOverload) {
			refused++
		} else if got.Err != nil || got.Answer.Server != "s2" {
			t.Fatalf("request %d: %v of %s after %v", id, got.Err, got.Answer.Server, got.After)
		}
	}
	if p := w.engine.roles[Authentication]; len(w.ended) != 36000 || refused == 0 || uint64(refused) != p.Refused || w.maxFlight != 768 {
		t.Errorf("%d ended, %d refused, %d in flight at most", len(w.ended), refused, w.maxFlight)
	}
}

// TestSocketCannotBeOpenedThere: the next server is asked at once; later it is tried again, with growing patience.
func TestSocketCannotBeOpenedThere(t *testing.T) {
	w := newWorld(t, nil, faultyradius.Config{}, faultyradius.Config{})
	w.noSocket = true
	id := w.ask(pap("a", "b"))
	w.run(10 * time.Millisecond)
	var open *OpenError
	if got := w.ended[id]; !errors.As(got.Err, &open) || open.Text != "out of sockets" || open.Local != netip.MustParseAddrPort("0.0.0.0:0") {
		t.Fatalf("ended with %v", got.Err)
	}
	if s := w.status(1, Authentication); s.OpenError != "out of sockets" || s.State != Up {
		t.Errorf("status %+v", s)
	}
	tries := w.engine.lastSocket
	for range 600 {
		w.ask(pap("a", "b"))
		w.run(time.Second)
	}
	if n := w.engine.lastSocket - tries; n > 2*20 {
		t.Errorf("%d attempts in ten minutes", n)
	}
	w.noSocket = false
	w.run(reopenMax)
	id = w.ask(pap("a", "b"))
	w.run(time.Second)
	w.want(id, rad.CodeAccessAccept, "s1")
	if s := w.status(1, Authentication); s.OpenError != "" {
		t.Errorf("open, but %q", s.OpenError)
	}
	for id := range w.open { // patience is short again
		delete(w.open, id)
		w.step(socketLost{id, "gone"})
	}
	w.run(reopenMin)
	id = w.ask(pap("a", "b"))
	w.run(time.Second)
	w.want(id, rad.CodeAccessAccept, "s1")
}

// TestSilentAndUnreachable: where one server was asked in vain, that the next could not be asked is not the whole story.
func TestSilentAndUnreachable(t *testing.T) {
	w := newWorld(t, nil, silent, faultyradius.Config{})
	id := w.ask(pap("a", "b"))
	w.run(time.Second)
	w.noSocket = true
	w.run(5 * time.Second)
	w.wantError(id, ErrNoAnswer)
}

// TestSocketLost: its requests go on to the next server.
func TestSocketLost(t *testing.T) {
	w := newWorld(t, nil, silent, faultyradius.Config{})
	var ids []requestID
	for range 3 {
		ids = append(ids, w.ask(pap("a", "b")))
	}
	w.run(time.Second)
	for id := range w.open {
		delete(w.open, id)
		w.step(socketLost{id, "gone"})
	}
	w.run(time.Second)
	for _, id := range ids {
		w.want(id, rad.CodeAccessAccept, "s2")
	}
	if s := w.status(1, Authentication); s.State != Up || s.OpenError != "gone" || s.Sockets != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestAccountingStarvesNobody: however much accounting waits, authentication is asked at once, by sockets of its own.
func TestAccountingStarvesNobody(t *testing.T) {
	for _, tt := range []struct {
		name         string
		flood, other Exchange
		server       Role
		code         rad.Code
	}{
		{"accounting floods", record("r", start), pap("a", "b"), Accounting, rad.CodeAccessAccept},
		{"authentication floods", pap("a", "b"), record("r", start), Authentication, rad.CodeAccountingResponse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) {
				c.Servers = append(c.Servers, c.Servers[0])
				c.Servers[0].Name, c.Servers[1].Name = "s1", "s2"
				c.Servers[1].Address = netip.MustParseAddr("192.0.2.2")
				c.Groups[0].Servers = []string{"s1", "s2"}
				if tt.server == Accounting {
					c.Servers[0].AuthPort, c.Servers[1].AcctPort = 0, 0
				} else {
					c.Servers[0].AcctPort, c.Servers[1].AuthPort = 0, 0
				}
			}, silent)
			honest := faultyradius.New(faultyradius.Config{Secret: string(testSecret)})
			w.servers[netip.MustParseAddrPort("192.0.2.2:1812")], w.servers[netip.MustParseAddrPort("192.0.2.2:1813")] = honest, honest
			for range 10000 {
				w.ask(tt.flood)
			}
			w.run(100 * time.Millisecond)
			id := w.ask(tt.other)
			w.run(100 * time.Millisecond)
			w.want(id, tt.code, "s2")
			if share := [numRoles]int{3072, 1024}[tt.server]; w.maxFlight != share {
				t.Errorf("%d in flight, its share is %d", w.maxFlight, share)
			}
		})
	}
}

// TestAbandon: nobody is told, everything is given back, and the answer that comes is late.
func TestAbandon(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxInFlight = 4 }, faultyradius.Config{Delay: time.Second})
	var ids []requestID
	for range 6 { // three in transit, three in the queue
		ids = append(ids, w.ask(pap("a", "b")))
	}
	w.run(100 * time.Millisecond)
	w.step(abandon{ids[0]})
	w.step(abandon{ids[5]})
	w.step(abandon{ids[5]})
	w.step(abandon{12345})
	w.run(3 * time.Second)
	for i, id := range ids {
		if _, ended := w.ended[id]; ended != (i != 0 && i != 5) {
			t.Errorf("request %d ended: %t", i, ended)
		}
	}
	s := w.status(1, Authentication)
	if s.Counts[Late] != 1 || s.Counts[Abandoned] != 1 || s.Counts[Accepted] != 4 || len(w.engine.requests) != 0 {
		t.Errorf("counts %v, %d requests left", s.Counts, len(w.engine.requests))
	}
}

// TestImpatientCallers find a dead server too: half of its time is as good as all of it.
func TestImpatientCallers(t *testing.T) {
	w := newWorld(t, nil, silent, faultyradius.Config{})
	for range deadAfter {
		id := w.ask(pap("a", "b"))
		w.run(3 * time.Second)
		w.step(abandon{id})
	}
	if s := w.status(1, Authentication); s.State != Dead {
		t.Errorf("it is %v", s.State)
	}
}

// TestNAS: what the request does not say is added (RFC 2865 section 4.1), what it says stays (R12).
func TestNAS(t *testing.T) {
	for _, tt := range []struct {
		nas  string
		has  rad.Attributes
		want string
	}{
		{"192.0.2.100", nil, "[32:67617465 4:c0000264]"},
		{"2001:db8::1", nil, "[32:67617465 95:20010db8000000000000000000000001]"},
		{"192.0.2.100", rad.Attributes{{Type: 4, Attribute: []byte{1, 2, 3, 4}}}, "[4:01020304 32:67617465]"},
		{"192.0.2.100", rad.Attributes{{Type: 95, Attribute: make([]byte, 16)}, {Type: 32, Attribute: []byte("x")}}, "[95:00000000000000000000000000000000 32:78]"},
	} {
		w := newWorld(t, func(c *Config) { c.NASAddress = netip.MustParseAddr(tt.nas) }, faultyradius.Config{})
		w.ask(Exchange{Code: rad.CodeAccountingRequest, Attributes: tt.has})
		w.run(time.Second)
		p, err := VerifyRequest(w.lastPacket[netip.MustParseAddrPort("192.0.2.1:1813")], testSecret, false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range p.Attributes {
			got = append(got, fmt.Sprintf("%d:%x", a.Type, []byte(a.Attribute)))
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%v, wants %s", got, tt.want)
		}
	}
}
