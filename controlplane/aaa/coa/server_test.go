package coa

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/keymat"
)

var (
	secret = keymat.Secret("a secret of the router")
	server = netip.MustParseAddrPort("192.0.2.10:40000")
	second = netip.MustParseAddrPort("[2001:db8::1]:40000")
)

const (
	typeSessionTimeout rad.Type = 27
	typeFilterID       rad.Type = 11
)

// sessions is a handler that notes what it is told.
type sessions struct {
	mu     sync.Mutex
	did    []did
	result Result
	// hold is closed to let requests go on; nil: they do at once.
	hold chan struct{}
}

type did struct {
	match  Match
	change *aaa.Change // nil: Disconnect
}

func (s *sessions) do(ctx context.Context, d did) Result {
	s.mu.Lock()
	s.did = append(s.did, d)
	s.mu.Unlock()
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return Result{Cause: NoResources, Text: ctx.Err().Error()}
		}
	}
	return s.result
}

func (s *sessions) Disconnect(ctx context.Context, m Match) Result { return s.do(ctx, did{match: m}) }
func (s *sessions) Change(ctx context.Context, m Match, c aaa.Change) Result {
	return s.do(ctx, did{m, &c})
}

func (s *sessions) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.did)
}

// wire is a socket without a network.
type wire struct {
	in  chan datagram
	out chan datagram
	end chan struct{}
}

type datagram struct {
	addr netip.AddrPort
	data []byte
}

func newWire() *wire {
	return &wire{in: make(chan datagram), out: make(chan datagram, 1<<16), end: make(chan struct{})}
}

func (w *wire) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-w.in:
		return copy(b, d.data), d.addr, nil
	case <-w.end:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	}
}

func (w *wire) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	w.out <- datagram{to, bytes.Clone(b)}
	return len(b), nil
}

func (w *wire) SetReadDeadline(time.Time) error { close(w.end); return nil }

// bed is a running server in simulated time.
type bed struct {
	*wire
	*Server
	handler *sessions
	logs    *observer.ObservedLogs
	stop    func()
}

func config() Config {
	return Config{
		NASIdentifier: "main", NASAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::2")},
		Clients: []Client{{server.Addr(), secret}, {second.Addr(), keymat.Secret("another")}},
	}
}

// start runs a server. The caller is inside synctest.Test.
func start(t *testing.T, cfg Config, h *sessions) *bed {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	ctx, cancel := context.WithCancel(context.Background())
	b := &bed{wire: newWire(), Server: NewServer(cfg, h, zap.New(core)), handler: h, logs: logs}
	ended := make(chan error, 1)
	go func() { ended <- b.Serve(ctx, b.wire) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return b
}

// tell sends a datagram and returns the answers that come at once.
func (b *bed) tell(from netip.AddrPort, data []byte) []datagram {
	b.in <- datagram{from, data}
	synctest.Wait()
	var out []datagram
	for {
		select {
		case d := <-b.out:
			out = append(out, d)
		default:
			return out
		}
	}
}

func (b *bed) counts(a netip.Addr) Counts {
	clients, _ := b.Stats()
	for _, c := range clients {
		if c.Address == a {
			return c.Counts
		}
	}
	return Counts{}
}

// one is a single outcome, counted once.
func one(o Outcome) (c Counts) {
	c[o] = 1
	return c
}

type avp struct {
	t rad.Type
	v string
}

func packet(code rad.Code, id byte, attributes ...avp) *rad.Packet {
	p := &rad.Packet{Code: code, Identifier: id, Secret: secret}
	for _, a := range attributes {
		p.Add(a.t, rad.Attribute(a.v))
	}
	return p
}

// signed is a request as our own client would send it.
func signed(t testing.TB, code rad.Code, id byte, attributes ...avp) []byte {
	t.Helper()
	b, err := radius.SignRequest(packet(code, id, attributes...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// open checks an answer's authenticators and returns code, Error-Cause and what else it holds.
func open(t testing.TB, request []byte, d []datagram, to netip.AddrPort) (rad.Code, Cause, rad.Attributes) {
	t.Helper()
	if len(d) != 1 || d[0].addr != to {
		t.Fatalf("%d answers: %v", len(d), d)
	}
	p, err := radius.VerifyAnswer(d[0].data, radius.Authenticator(request[4:20]), secret, true)
	if err != nil {
		t.Fatal(err)
	}
	if p.Identifier != request[1] {
		t.Fatalf("identifier %d, want %d", p.Identifier, request[1])
	}
	var cause Cause
	if b, has := p.Lookup(attrErrorCause); has {
		cause = Cause(binary.BigEndian.Uint32(b))
	}
	return p.Code, cause, p.Attributes
}

// TestAnyNASAddress: who tells servers the addresses of L2TP clients as its own (R12) is meant by any of them, and by no
// other's name.
func TestAnyNASAddress(t *testing.T) {
	cfg := config()
	cfg.AnyNASAddress = true
	for name, want := range map[string]rad.Code{"main": rad.CodeDisconnectACK, "branch": rad.CodeDisconnectNAK} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, cfg, &sessions{result: Result{Sessions: 1}})
			defer b.stop()
			data := signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"}, avp{attrNASIdentifier, name}, avp{attrNASIPAddress, "\xc6\x33\x64\x01"})
			if code, cause, _ := open(t, data, b.tell(server, data), server); code != want {
				t.Errorf("%s: answered %v with %v, want %v", name, code, cause, want)
			}
		})
	}
}

func u32(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// TestRequests is what becomes of each kind of request of a client.
func TestRequests(t *testing.T) {
	user, id, address := avp{attrUserName, "bob"}, avp{attrAcctSessionID, "s1"}, avp{attrFramedIPAddress, "\x0a\x00\x00\x07"}
	timeout := avp{typeSessionTimeout, u32(600)}
	const dm, coa = rad.CodeDisconnectRequest, rad.CodeCoARequest
	tests := []struct {
		name   string
		code   rad.Code
		attrs  []avp
		result Result
		cause  Cause
		match  Match // of what the handler was told; zero: nothing
	}{
		{"by session", dm, []avp{id}, Result{Sessions: 1}, 0, Match{SessionID: "s1"}},
		{"by all", dm, []avp{id, user, address}, Result{Sessions: 1}, 0, Match{"s1", "bob", netip.MustParseAddr("10.0.0.7")}},
		{"ours", dm, []avp{id, {attrNASIdentifier, "main"}, {attrNASIPAddress, "\xc0\x00\x02\x01"}}, Result{Sessions: 1}, 0, Match{SessionID: "s1"}},
		{"what FreeRADIUS sends along", dm, []avp{user, {attrReplyMessage, "bye"}, {attrClass, "c"}, {attrAcctTerminateCause, u32(6)}}, Result{Sessions: 2}, 0, Match{User: "bob"}},
		{"nobody", dm, []avp{id}, Result{}, NoSession, Match{SessionID: "s1"}},
		{"the handler refuses", dm, []avp{id}, Result{Sessions: 1, Cause: NotRemovable}, NotRemovable, Match{SessionID: "s1"}},
		{"the handler prohibits", coa, []avp{id, timeout}, Result{Sessions: 1, Cause: Prohibited}, Prohibited, Match{SessionID: "s1"}},
		{"all sessions", dm, nil, Result{Sessions: 9}, MissingAttribute, Match{}},
		{"an empty name", dm, []avp{{attrUserName, ""}}, Result{Sessions: 9}, InvalidValue, Match{}},
		{"twice", dm, []avp{user, {attrUserName, "eve"}}, Result{Sessions: 9}, InvalidRequest, Match{}},
		{"half an address", dm, []avp{{attrFramedIPAddress, "\x0a\x00"}}, Result{}, InvalidValue, Match{}},
		{"nobody's address", dm, []avp{id, {attrFramedIPAddress, "\x00\x00\x00\x00"}}, Result{}, InvalidValue, Match{}},
		{"the pool's address", dm, []avp{id, {attrFramedIPAddress, "\xff\xff\xff\xfe"}}, Result{}, InvalidValue, Match{}},
		{"another NAS", dm, []avp{id, {attrNASIdentifier, "Main"}}, Result{Sessions: 1}, NASMismatch, Match{}},
		{"another NAS address", dm, []avp{id, {attrNASIPAddress, "\xc0\x00\x02\x02"}}, Result{Sessions: 1}, NASMismatch, Match{}},
		{"another NAS address, IPv6", coa, []avp{id, timeout, {attrNASIPv6Address, strings.Repeat("x", 16)}}, Result{Sessions: 1}, NASMismatch, Match{}},
		{"Calling-Station-Id", dm, []avp{id, {31, "192.0.2.99"}}, Result{Sessions: 1}, UnsupportedAttribute, Match{}},
		{"NAS-Port", dm, []avp{id, {5, u32(1)}}, Result{Sessions: 1}, UnsupportedAttribute, Match{}},
		{"Vendor-Specific in a disconnect", dm, []avp{id, {26, u32(4874) + "\x01\x03a"}}, Result{Sessions: 1}, UnsupportedAttribute, Match{}},
		{"Service-Type in a disconnect", dm, []avp{id, {attrServiceType, u32(2)}}, Result{Sessions: 1}, UnsupportedAttribute, Match{}},
		{"EAP-Message", coa, []avp{id, timeout, {79, "x"}}, Result{Sessions: 1}, UnsupportedAttribute, Match{}},
		{"Authorize-Only", coa, []avp{id, timeout, {attrServiceType, u32(17)}, {attrState, "x"}}, Result{Sessions: 1}, UnsupportedService, Match{}},
		{"State", coa, []avp{id, timeout, {attrState, "x"}}, Result{Sessions: 1}, UnsupportedAttribute, Match{}},
		{"Framed", coa, []avp{id, timeout, {attrServiceType, u32(2)}}, Result{Sessions: 1}, 0, Match{SessionID: "s1"}},
		{"a change", coa, []avp{user, address, timeout}, Result{Sessions: 1}, 0, Match{User: "bob", Address: netip.MustParseAddr("10.0.0.7")}},
		{"nothing to change", coa, []avp{id}, Result{Sessions: 1}, MissingAttribute, Match{}},
		{"what cannot be changed", coa, []avp{id, timeout, {9, "\xff\xff\xff\x00"}}, Result{Sessions: 1}, UnsupportedAttribute, Match{}},
		{"a value that cannot be", coa, []avp{id, {typeSessionTimeout, "\x00"}}, Result{Sessions: 1}, InvalidValue, Match{}},
		{"a time that is none", dm, []avp{id, {attrEventTimestamp, "\x00"}}, Result{Sessions: 1}, InvalidValue, Match{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, config(), &sessions{result: tt.result})
				defer b.stop()
				proxies := []avp{{attrProxyState, "first"}, {attrProxyState, "second"}}
				data := signed(t, tt.code, 7, append(append(proxies[:1:1], tt.attrs...), proxies[1])...)
				code, cause, attributes := open(t, data, b.tell(server, data), server)
				ack := map[rad.Code]rad.Code{dm: rad.CodeDisconnectACK, coa: rad.CodeCoAACK}[tt.code]
				if tt.cause != 0 {
					ack++
				}
				if code != ack || cause != tt.cause {
					t.Errorf("answered %v with %v, want %v with %v", code, cause, ack, tt.cause)
				}
				var states []string
				for _, a := range attributes {
					if a.Type == attrProxyState {
						states = append(states, string(a.Attribute))
					}
				}
				if !slices.Equal(states, []string{"first", "second"}) {
					t.Errorf("Proxy-State %q", states)
				}
				switch {
				case tt.match == Match{}:
					if n := b.handler.times(); n != 0 {
						t.Errorf("the handler was told %+v", b.handler.did)
					}
				case b.handler.times() != 1 || b.handler.did[0].match != tt.match || (b.handler.did[0].change == nil) != (tt.code == dm):
					t.Errorf("the handler was told %+v, want %+v", b.handler.did, tt.match)
				}
				want := map[bool]Outcome{true: Disconnected, false: Changed}[tt.code == dm]
				if tt.cause != 0 {
					want++
				}
				if c := b.counts(server.Addr()); c != one(want) {
					t.Errorf("counted %v, want one %v", c, want)
				}
				if n := b.logs.Len(); n > 1 || (n == 0) != (tt.cause == NoSession) {
					t.Errorf("logged %v", b.logs.All())
				}
			})
		})
	}
}

// TestChangeIsPassedOn: what the handler is told to change is what the request says.
func TestChangeIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{result: Result{Sessions: 1}})
		defer b.stop()
		data := signed(t, rad.CodeCoARequest, 1, avp{attrAcctSessionID, "s1"}, avp{typeSessionTimeout, u32(600)}, avp{typeFilterID, "web"})
		open(t, data, b.tell(server, data), server)
		c := b.handler.did[0].change
		if c == nil || c.SessionTimeout == nil || *c.SessionTimeout != 600*time.Second || c.Traffic == nil || c.Traffic.InPolicy != "web" || c.IdleTimeout != nil {
			t.Errorf("%+v", c)
		}
	})
}

// TestDropped: what is not proven to be a client's gets no answer, is not logged above debug, and
// changes nothing but a count.
func TestDropped(t *testing.T) {
	good := signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"})
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	// layeh.com/radius signs by RFC 5176 alone, without Message-Authenticator.
	unsigned, err := packet(rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	access, err := radius.SignRequest(packet(rad.CodeAccessRequest, 7, avp{attrUserName, "bob"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	stale := func(off time.Duration) []byte {
		// Simulated time begins at midnight of 1 January 2000 UTC.
		at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(off)
		return signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"}, avp{attrEventTimestamp, u32(uint32(at.Unix()))})
	}
	tests := []struct {
		name string
		from netip.AddrPort
		data []byte
		want Outcome // numOutcomes: of no client
	}{
		{"a stranger", netip.MustParseAddrPort("192.0.2.11:40000"), good, numOutcomes},
		{"another client's secret", second, good, BadAuthenticator},
		{"nothing", server, nil, Malformed},
		{"half a header", server, good[:19], Malformed},
		{"cut", server, good[:len(good)-1], Malformed},
		{"too long", server, append(bytes.Clone(good), make([]byte, 5000)...), Malformed},
		{"authenticator", server, flip(4), BadAuthenticator},
		{"identifier", server, flip(1), BadAuthenticator},
		{"content", server, flip(len(good) - 1), BadAuthenticator},
		{"the other code", server, append([]byte{byte(rad.CodeCoARequest)}, good[1:]...), BadAuthenticator},
		{"Access-Request", server, access, Unexpected},
		{"an answer", server, append([]byte{byte(rad.CodeDisconnectACK)}, good[1:]...), Unexpected},
		{"no Message-Authenticator", server, unsigned, NoMessageAuthenticator},
		{"too old", server, stale(-DefaultWindow - time.Second), Stale},
		{"too new", server, stale(DefaultWindow + time.Second), Stale},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, config(), &sessions{result: Result{Sessions: 1}})
				defer b.stop()
				if out := b.tell(tt.from, tt.data); len(out) != 0 {
					t.Errorf("answered %v", out)
				}
				_, unknown := b.Stats()
				switch {
				case tt.want == numOutcomes && (unknown != 1 || b.counts(server.Addr()) != (Counts{})):
					t.Errorf("counted %d, %v", unknown, b.counts(server.Addr()))
				case tt.want < numOutcomes && (unknown != 0 || b.counts(tt.from.Addr()) != one(tt.want)):
					t.Errorf("counted %d, %v", unknown, b.counts(tt.from.Addr()))
				}
				if b.handler.times() != 0 || b.logs.Len() != 0 || len(b.answers.of) != 0 {
					t.Errorf("told %v, logged %v, kept %d", b.handler.did, b.logs.All(), len(b.answers.of))
				}
			})
		})
	}
	t.Run("within the window", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, config(), &sessions{result: Result{Sessions: 1}})
			defer b.stop()
			for _, off := range []time.Duration{-DefaultWindow, DefaultWindow} {
				if out := b.tell(server, stale(off)); len(out) != 1 {
					t.Errorf("%v off: %d answers", off, len(out))
				}
			}
		})
	})
	t.Run("museum", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cfg := config()
			cfg.AllowUnsigned = true
			b := start(t, cfg, &sessions{result: Result{Sessions: 1}})
			defer b.stop()
			if code, _, _ := open(t, unsigned, b.tell(server, unsigned), server); code != rad.CodeDisconnectACK {
				t.Errorf("answered %v", code)
			}
			if out := b.tell(server, flip(len(good)-20)); len(out) != 0 {
				t.Errorf("a wrong Message-Authenticator is answered: %v", out)
			}
		})
	})
	t.Run("an IPv4 address in IPv6 clothes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, config(), &sessions{result: Result{Sessions: 1}})
			defer b.stop()
			from := netip.AddrPortFrom(netip.AddrFrom16(server.Addr().As16()), server.Port())
			if out := b.tell(from, good); len(out) != 1 || out[0].addr != server {
				t.Errorf("answered %v", out)
			}
		})
	})
}

// TestGolden is a Disconnect-Request whose authenticators were computed apart, with Python's
// hmac and hashlib: Acct-Session-Id "s1" in the clear of RFC 5176 section 2.3.
func TestGolden(t *testing.T) {
	data, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{result: Result{Sessions: 1}})
		defer b.stop()
		if out := b.tell(server, data); len(out) != 1 || b.handler.did[0].match.SessionID != "s1" {
			t.Errorf("answered %v, counted %v", out, b.counts(server.Addr()))
		}
	})
}

// TestRepeated: a request that comes again is not done again: while it is being worked on it is
// dropped, after that the very same answer is given, to whichever port asks; and once the answer
// is forgotten it is a new request.
func TestRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{result: Result{Sessions: 1}, hold: make(chan struct{})})
		defer b.stop()
		data := signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"})
		for range 3 {
			if out := b.tell(server, data); len(out) != 0 {
				t.Fatalf("answered %v before it was done", out)
			}
		}
		close(b.handler.hold)
		synctest.Wait()
		first := <-b.out
		open(t, data, []datagram{first}, server)
		other := netip.AddrPortFrom(server.Addr(), 50000)
		for _, from := range []netip.AddrPort{server, other, server} {
			if out := b.tell(from, data); len(out) != 1 || out[0].addr != from || !bytes.Equal(out[0].data, first.data) {
				t.Errorf("answered %v, want the first answer", out)
			}
		}
		if n := b.handler.times(); n != 1 {
			t.Errorf("done %d times", n)
		}
		if c := b.counts(server.Addr()); c != (Counts{Disconnected: 1, RepeatedEarly: 2, Repeated: 3}) {
			t.Errorf("counted %v", c)
		}
		// The same identifier with other content is another request.
		b.tell(server, signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s2"}))
		if n := b.handler.times(); n != 2 {
			t.Errorf("done %d times", n)
		}
		time.Sleep(answerLifetime)
		b.tell(server, data)
		if n := b.handler.times(); n != 3 {
			t.Errorf("done %d times", n)
		}
	})
}

// TestRefusalsAreRepeated: a NAK is kept like an ACK, so that what it says stays true for who did
// not get it.
func TestRefusalsAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{})
		defer b.stop()
		for _, data := range [][]byte{
			signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"}), signed(t, rad.CodeDisconnectRequest, 8),
		} {
			first := b.tell(server, data)
			again := b.tell(server, data)
			if len(first) != 1 || len(again) != 1 || !bytes.Equal(first[0].data, again[0].data) {
				t.Errorf("%v, then %v", first, again)
			}
		}
		if c := b.counts(server.Addr()); b.handler.times() != 1 || c != (Counts{DisconnectRefused: 2, Repeated: 2}) {
			t.Errorf("done %d times, counted %v", b.handler.times(), c)
		}
	})
}

// TestFlood: more requests than can be worked on are dropped and counted, each can be sent again,
// and what is remembered stays bounded.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{result: Result{Sessions: 1}, hold: make(chan struct{})})
		defer b.stop()
		request := func(n int) []byte {
			return signed(t, rad.CodeDisconnectRequest, byte(n), avp{attrAcctSessionID, "s" + u32(uint32(n))})
		}
		const flood = 500
		for n := range flood {
			b.in <- datagram{server, request(n)}
		}
		synctest.Wait()
		if c := b.counts(server.Addr()); b.handler.times() != DefaultConcurrent || c != (Counts{Overload: flood - DefaultConcurrent}) {
			t.Fatalf("%d at once, counted %v", b.handler.times(), c)
		}
		close(b.handler.hold)
		synctest.Wait()
		for n := DefaultConcurrent; n < MaxAnswers+2*flood; n++ {
			b.in <- datagram{server, request(n)}
			synctest.Wait()
		}
		b.mu.Lock()
		kept, listed := len(b.answers.of), len(b.answers.given)
		b.mu.Unlock()
		if kept != MaxAnswers || listed != MaxAnswers {
			t.Errorf("%d answers kept, %d listed", kept, listed)
		}
		if n := b.handler.times(); n != MaxAnswers+2*flood {
			t.Errorf("done %d times", n)
		}
	})
}

// TestStrangersFlood: packets of nobody cost a count, whatever they hold.
func TestStrangersFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{result: Result{Sessions: 1}})
		defer b.stop()
		good := signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"})
		const flood = 2000
		for n := range flood {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 40000)
			b.in <- datagram{from, good}
			forged := bytes.Clone(good)
			binary.BigEndian.PutUint32(forged[4:], uint32(n))
			b.in <- datagram{server, forged}
		}
		if out := b.tell(server, good); len(out) != 1 {
			t.Errorf("%d answers", len(out))
		}
		_, unknown := b.Stats()
		if c := b.counts(server.Addr()); unknown != flood || c != (Counts{Disconnected: 1, BadAuthenticator: flood}) || len(b.answers.of) != 1 {
			t.Errorf("counted %d and %v, %d kept", unknown, c, len(b.answers.of))
		}
		if b.logs.Len() != 1 {
			t.Errorf("%d lines logged", b.logs.Len())
		}
	})
}

// TestTimeout: a handler that hangs is told to stop, and the client that it did not work.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{hold: make(chan struct{})})
		defer b.stop()
		data := signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"})
		if out := b.tell(server, data); len(out) != 0 {
			t.Fatalf("answered %v", out)
		}
		time.Sleep(DefaultTimeout)
		synctest.Wait()
		if _, cause, _ := open(t, data, []datagram{<-b.out}, server); cause != NoResources {
			t.Errorf("refused with %v", cause)
		}
	})
}

// TestStop: Serve returns when nothing is being worked on any more; what was not done is not
// answered, so that it is asked of whoever comes next.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{hold: make(chan struct{})})
		b.tell(server, signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"}))
		b.stop()
		if c := b.counts(server.Addr()); c != (Counts{Abandoned: 1}) || len(b.out) != 0 || len(b.slots) != 0 {
			t.Errorf("counted %v, %d answers, %d slots taken", c, len(b.out), len(b.slots))
		}
	})
}

// TestUnanswerable: an answer that does not fit is not sent. It has more than the request: Error-Cause.
func TestUnanswerable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, config(), &sessions{})
		defer b.stop()
		attributes := []avp{{attrUserName, "b"}}
		for range 15 {
			attributes = append(attributes, avp{attrProxyState, strings.Repeat("x", 253)})
		}
		attributes = append(attributes, avp{attrProxyState, strings.Repeat("x", 4096-20-18-3-15*255-2)})
		data := signed(t, rad.CodeDisconnectRequest, 7, attributes...)
		if len(data) != radius.MaxPacket {
			t.Fatalf("%d bytes", len(data))
		}
		if out := b.tell(server, data); len(out) != 0 {
			t.Errorf("%d answers", len(out))
		}
		if c := b.counts(server.Addr()); c[Unanswerable] != 1 {
			t.Errorf("counted %v", c)
		}
	})
}

// brokenConn fails to read.
type brokenConn struct {
	*wire
	err   error
	reads int
}

func (c *brokenConn) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	c.reads++
	return 0, netip.AddrPort{}, c.err
}

// TestSocketFails: a socket that is closed ends Serve at once, one that only ever fails not for ever.
func TestSocketFails(t *testing.T) {
	for err, reads := range map[error]int{net.ErrClosed: 1, errors.New("refused"): maxReadErrors} {
		c := &brokenConn{wire: newWire(), err: err}
		if got := NewServer(config(), &sessions{}, zap.NewNop()).Serve(context.Background(), c); !errors.Is(got, err) || c.reads != reads {
			t.Errorf("%v after %d reads, want %v after %d", got, c.reads, err, reads)
		}
	}
}

// TestLoopback is the same over a socket of the kernel.
func TestLoopback(t *testing.T) {
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	at, from := listen(), listen()
	cfg := config()
	cfg.Clients = []Client{{netip.MustParseAddr("127.0.0.1"), secret}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- NewServer(cfg, &sessions{result: Result{Sessions: 1}}, zap.NewNop()).Serve(ctx, at)
	}()
	data := signed(t, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"})
	if _, err := from.WriteTo(data, at.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	_ = from.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4096)
	n, err := from.Read(buf)
	if err != nil || !rad.IsAuthenticResponse(buf[:n], data, secret) || buf[0] != byte(rad.CodeDisconnectACK) {
		t.Errorf("%v: %x", err, buf[:n])
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestMeans: all that is given must be the session's.
func TestMeans(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.0.8")
	for m, want := range map[Match]bool{
		{}: false, {SessionID: "s1"}: true, {User: "bob"}: true, {Address: a}: true, {"s1", "bob", a}: true,
		{SessionID: "s2"}: false, {User: "Bob"}: false, {Address: b}: false, {"s1", "bob", b}: false, {"s1", "eve", a}: false, {"s2", "bob", a}: false,
	} {
		if got := m.Means("s1", "bob", a); got != want {
			t.Errorf("%+v: %v", m, got)
		}
	}
}

// TestNames: every outcome and every cause has a name of its own.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Outcomes() {
		if o.String() == "" || seen[o.String()] {
			t.Errorf("outcome %d is called %q", o, o)
		}
		seen[o.String()] = true
	}
	for _, c := range []Cause{0, 401, 402, 403, 404, 405, 407, 501, 503, 504, 506, 508, 999} {
		if c.String() == "" || seen[c.String()] {
			t.Errorf("cause %d is called %q", uint32(c), c)
		}
		seen[c.String()] = true
	}
}

// FuzzTake: whatever comes, nothing is told to the handler unless its authenticators hold, and
// every answer is an answer to it and no longer than what came, Error-Cause and
// Message-Authenticator apart.
func FuzzTake(f *testing.F) {
	f.Add(signed(f, rad.CodeDisconnectRequest, 7, avp{attrAcctSessionID, "s1"}), false)
	f.Add(signed(f, rad.CodeCoARequest, 1, avp{attrUserName, "bob"}, avp{typeSessionTimeout, u32(600)}), false)
	f.Add(signed(f, rad.CodeCoARequest, 1, avp{attrUserName, "bob"}, avp{26, u32(4874) + "\x0a\x05web"}), true)
	f.Fuzz(func(t *testing.T, data []byte, resign bool) {
		if resign && len(data) >= 20 && len(data) <= 4096 {
			// Past the authenticators, or the fuzzer would never get there.
			if p, err := rad.Parse(data, secret); err == nil {
				if again, err := radius.SignRequest(p, nil); err == nil {
					data = again
				}
			}
		}
		s := NewServer(config(), &sessions{}, zap.NewNop())
		job, answer := s.take(time.Unix(1e9, 0), server, data)
		if job == nil && answer == nil {
			return
		}
		if !rad.IsAuthenticRequest(data[:binary.BigEndian.Uint16(data[2:])], secret) {
			t.Fatal("taken without being authentic")
		}
		if job != nil && (answer != nil || job.match == (Match{}) || len(s.slots) != 1) {
			t.Fatalf("%+v, answer %x", job.match, answer)
		}
		if answer != nil {
			if len(answer) > len(data)+6+18 {
				t.Fatalf("%d bytes for %d", len(answer), len(data))
			}
			if _, err := radius.VerifyAnswer(answer, radius.Authenticator(data[4:20]), secret, true); err != nil {
				t.Fatal(err)
			}
		}
	})
}

const golden = "2807002ad670ac4eef612365e61b570e7be38ae5501218c35c505ca3ba02b2d4f6271bbac7b02c047331"
