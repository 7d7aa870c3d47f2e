// Package faultyradius is a scripted RADIUS server that misbehaves: it is late or silent, forges, repeats, floods and
// loses packets, and in between it is honest. [Server] itself has neither socket nor clock, so that tests may run it in
// simulated time; Serve puts it on a socket. It builds packets with layeh.com/radius and HMAC-MD5 of its own, so that the
// client is not tested against itself.
package faultyradius

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	rad "layeh.com/radius"
)

// Fault is what the server does with one request.
type Fault string

// The faults. All but Silent and Late are followed by the honest answer after Config.HonestAfter, if that is set.
const (
	Honest                    Fault = "honest"
	Silent                    Fault = "silent"
	Late                      Fault = "late"                        // the honest answer after Config.Lateness
	WrongAuthenticator        Fault = "wrong-authenticator"         // response authenticator of another secret
	WrongMessageAuthenticator Fault = "wrong-message-authenticator" // the rest is right
	NoMessageAuthenticator    Fault = "no-message-authenticator"    // the rest is right
	ForgedAccept              Fault = "forged-accept"               // no-message-authenticator, and accepts whoever asks (CVE-2024-3596)
	WrongPort                 Fault = "wrong-port"                  // honest, but from another port
	Duplicate                 Fault = "duplicate"                   // the honest answer three times
	Oversize                  Fault = "oversize"                    // more than 4096 bytes
	Truncated                 Fault = "truncated"                   // half of the honest answer
	Garbage                   Fault = "garbage"                     // a hundred datagrams of random bytes
	OtherIdentifier           Fault = "other-identifier"            // right but for the identifier
	WrongCode                 Fault = "wrong-code"                  // signed Access-Request
	Challenge                 Fault = "challenge"                   // Access-Challenge for ever
	Reject                    Fault = "reject"
)

// Faults are all of them.
var Faults = []Fault{
	Honest, Silent, Late, WrongAuthenticator, WrongMessageAuthenticator, NoMessageAuthenticator, ForgedAccept, WrongPort, Duplicate, Oversize,
	Truncated, Garbage, OtherIdentifier, WrongCode, Challenge, Reject,
}

// Config is a server's script.
type Config struct {
	Secret string
	// Passwords of users who come with User-Password; nil: everybody is accepted.
	Passwords map[string]string
	// Accept is what Access-Accept carries.
	Accept rad.Attributes
	// Users is what it carries besides, by User-Name.
	Users map[string]rad.Attributes
	// Faults are of the first request, the second and so on; the last one holds on. Repetitions of a request, which a
	// server recognises, are no requests. None: Honest.
	Faults      []Fault
	Delay       time.Duration // of every answer
	HonestAfter time.Duration // see Fault; 0: no honest answer after a fault
	Lateness    time.Duration // of Late
	// Drop loses one packet in so many, of those that come and of those that go; 0: none.
	Drop int
	Seed uint64 // of what is random
}

// Reply is a datagram that the server sends.
type Reply struct {
	Data      []byte
	After     time.Duration
	OtherPort bool
}

// seen identifies a request and its repetitions (RFC 5080 section 2.2.2).
type seen struct {
	From          string
	Identifier    byte
	Authenticator [16]byte
}

// maxSeen bounds what is remembered of requests.
const maxSeen = 65536

// Stats are what a server has counted.
type Stats struct {
	Packets     int // that came, lost ones included
	Lost        int
	Requests    int // new ones
	Repetitions int
	Bad         int // that are no good requests
	Probes      int // Status-Server, of Requests
}

// Server is a scripted server. It is safe for concurrent use.
type Server struct {
	mu       sync.Mutex
	cfg      Config
	random   *rand.ChaCha8
	rolls    *rand.Rand
	stats    Stats
	step     int
	answered map[seen][]Reply
	order    []seen // of answered, oldest first
	records  []rad.Attributes
}

// New returns a server.
func New(cfg Config) *Server {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], cfg.Seed)
	source := rand.NewChaCha8(seed)
	return &Server{cfg: cfg, random: source, rolls: rand.New(source), answered: map[seen][]Reply{}}
}

// Script replaces the faults; the next request gets the first.
func (s *Server) Script(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Faults, s.step = faults, 0
}

// Stats returns what has been counted.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Records returns the accounting records that were honestly acknowledged, in the order in which they came.
func (s *Server) Records() []rad.Attributes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records)
}

// Answer takes a datagram and returns what the server does about it.
func (s *Server) Answer(from string, data []byte) []Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Packets++
	if s.loses() {
		return nil
	}
	p, err := rad.Parse(data, []byte(s.cfg.Secret))
	if err != nil || !s.genuine(p, data) {
		s.stats.Bad++
		return nil
	}
	key := seen{from, p.Identifier, p.Authenticator}
	replies, again := s.answered[key]
	if again {
		s.stats.Repetitions++
		return s.send(replies)
	}
	s.stats.Requests++
	if p.Code == rad.CodeStatusServer {
		s.stats.Probes++
	}
	replies = s.play(p, s.next())
	if s.answered[key] = replies; len(s.order) == maxSeen {
		delete(s.answered, s.order[0])
		s.order = s.order[1:]
	}
	s.order = append(s.order, key)
	return s.send(replies)
}

func (s *Server) loses() bool {
	if s.cfg.Drop == 0 || s.rolls.IntN(s.cfg.Drop) != 0 {
		return false
	}
	s.stats.Lost++
	return true
}

func (s *Server) send(replies []Reply) []Reply {
	var out []Reply
	for _, r := range replies {
		if !s.loses() {
			out = append(out, r)
		}
	}
	return out
}

// next returns the fault of the next request.
func (s *Server) next() Fault {
	if len(s.cfg.Faults) == 0 {
		return Honest
	}
	f := s.cfg.Faults[min(s.step, len(s.cfg.Faults)-1)]
	s.step++
	return f
}

// genuine wants Message-Authenticator first in Access-Request and Status-Server, and an authenticator in the rest.
func (s *Server) genuine(p *rad.Packet, data []byte) bool {
	if p.Code != rad.CodeAccessRequest && p.Code != rad.CodeStatusServer {
		return rad.IsAuthenticRequest(data, p.Secret)
	}
	if len(data) < 38 || data[20] != 80 || data[21] != 18 {
		return false
	}
	blank := bytes.Clone(data)
	clear(blank[22:38])
	return hmac.Equal(HMAC(blank, p.Secret), data[22:38])
}

// HMAC is HMAC-MD5.
func HMAC(data, key []byte) []byte {
	h := hmac.New(md5.New, key)
	h.Write(data)
	return h.Sum(nil)
}

// play does what the fault says.
func (s *Server) play(p *rad.Packet, f Fault) []Reply {
	right := Reply{Data: s.honest(p, f), After: s.cfg.Delay}
	var out []Reply
	switch f {
	case Silent:
		return nil
	case Late:
		right.After += s.cfg.Lateness
		s.record(p)
		return []Reply{right}
	case Honest, Reject, Challenge:
		s.record(p)
		return []Reply{right}
	case Duplicate:
		s.record(p)
		return []Reply{right, right, right}
	case WrongAuthenticator:
		q := *p
		q.Secret = []byte("not " + s.cfg.Secret)
		out = s.wrong(sign(s.response(&q, Honest), true))
	case WrongMessageAuthenticator:
		q := s.response(p, Honest)
		q.Attributes = append(rad.Attributes{{Type: 80, Attribute: make([]byte, 16)}}, q.Attributes...)
		out = s.wrong(sign(q, false))
	case NoMessageAuthenticator:
		out = s.wrong(sign(s.response(p, Honest), false))
	case ForgedAccept:
		out = s.wrong(sign(p.Response(rad.CodeAccessAccept), false))
	case WrongPort:
		out = []Reply{{Data: right.Data, After: s.cfg.Delay, OtherPort: true}}
	case Oversize:
		long := append(bytes.Clone(right.Data), make([]byte, 4096)...)
		binary.BigEndian.PutUint16(long[2:], uint16(len(long)))
		out = s.wrong(long)
	case Truncated:
		out = s.wrong(right.Data[:len(right.Data)/2])
	case Garbage:
		for range 100 {
			b := make([]byte, s.rolls.IntN(200))
			s.read(b)
			out = append(out, Reply{Data: b, After: s.cfg.Delay})
		}
	case OtherIdentifier:
		q := s.response(p, Honest)
		q.Identifier += 128
		out = s.wrong(sign(q, true))
	case WrongCode:
		q := s.response(p, Honest)
		q.Code = rad.CodeDisconnectACK
		out = s.wrong(sign(q, true))
	}
	if s.cfg.HonestAfter > 0 {
		s.record(p)
		right.After += s.cfg.HonestAfter
		out = append(out, right)
	}
	return out
}

func (s *Server) read(b []byte) { _, _ = s.random.Read(b) } // never fails

func (s *Server) wrong(data []byte) []Reply { return []Reply{{Data: data, After: s.cfg.Delay}} }

func (s *Server) record(p *rad.Packet) {
	if p.Code == rad.CodeAccountingRequest {
		s.records = append(s.records, p.Attributes)
	}
}

// honest encodes what the server would say.
func (s *Server) honest(p *rad.Packet, f Fault) []byte {
	return sign(s.response(p, f), p.Code != rad.CodeAccountingRequest)
}

// response is what the server would say, not signed.
func (s *Server) response(p *rad.Packet, f Fault) *rad.Packet {
	q := p.Response(rad.CodeAccessAccept)
	switch {
	case p.Code == rad.CodeAccountingRequest:
		q.Code = rad.CodeAccountingResponse
	case p.Code == rad.CodeStatusServer:
	case f == Challenge:
		q.Code = rad.CodeAccessChallenge
		q.Add(24, []byte("state")) // State
		q.Add(18, []byte("once more"))
	case f == Reject || !s.knows(p):
		q.Code = rad.CodeAccessReject
		q.Add(18, []byte("no"))
	default:
		q.Attributes = slices.Concat(s.cfg.Accept, s.cfg.Users[string(p.Get(1))])
	}
	return q
}

func (s *Server) knows(p *rad.Packet) bool {
	hidden, ok := p.Lookup(2)
	if !ok || s.cfg.Passwords == nil {
		return s.cfg.Passwords == nil
	}
	password, err := rad.UserPassword(hidden, p.Secret, p.Authenticator[:])
	want, known := s.cfg.Passwords[string(p.Get(1))]
	return err == nil && known && string(password) == want
}

// sign encodes an answer, with Message-Authenticator if it is to have one.
func sign(q *rad.Packet, messageAuthenticator bool) []byte {
	if messageAuthenticator {
		q.Attributes = append(rad.Attributes{{Type: 80, Attribute: make([]byte, 16)}}, q.Attributes...)
		b, err := q.MarshalBinary() // with the request's authenticator
		if err != nil {
			panic(err)
		}
		q.Attributes[0].Attribute = HMAC(b, q.Secret)
	}
	b, err := q.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

// Serve answers what comes to conn until it is closed, and returns when nothing of it is left.
func (s *Server) Serve(conn net.PacketConn) error {
	var timers sync.WaitGroup
	stop := make(chan struct{})
	defer timers.Wait()
	defer close(stop)
	buf := make([]byte, 8192)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		for _, r := range s.Answer(from.String(), buf[:n]) {
			if r.After == 0 {
				deliver(conn, from, r)
				continue
			}
			timers.Go(func() {
				select {
				case <-time.After(r.After):
					deliver(conn, from, r)
				case <-stop:
				}
			})
		}
	}
}

// deliver sends a reply. Errors are lost packets.
func deliver(conn net.PacketConn, to net.Addr, r Reply) {
	if r.OtherPort {
		local, ok := conn.LocalAddr().(*net.UDPAddr)
		if !ok {
			return
		}
		other, err := net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone})
		if err != nil {
			return
		}
		defer other.Close()
		conn = other
	}
	_, _ = conn.WriteTo(r.Data, to)
}
