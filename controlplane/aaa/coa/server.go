package coa

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/keymat"
)

// Defaults of Config.
const (
	DefaultWindow     = 300 * time.Second // RFC 5176 section 6.3
	DefaultConcurrent = 64
	DefaultTimeout    = 10 * time.Second
)

// Config is the dynamic authorization of one virtual router. It is immutable.
type Config struct {
	// NASIdentifier and NASAddresses are what we call ourselves towards servers. A request that names another is refused;
	// one that names none is taken.
	NASIdentifier string
	NASAddresses  []netip.Addr
	// AnyNASAddress takes requests that name whatever address: servers that are told those of the L2TP clients in place
	// of ours know sessions by them (R12). NAS-Identifier is compared all the same.
	AnyNASAddress bool
	Clients       []Client // addresses are unique
	// AllowUnsigned takes requests without Message-Authenticator, as RFC 5176 does. Their authenticator is a plain MD5.
	AllowUnsigned bool
	// Window is how far Event-Timestamp may be off, either way; 0: DefaultWindow.
	Window time.Duration
	// Concurrent bounds the requests that are being worked on, 1 and more; what comes on top is dropped, and its client
	// sends it again. 0: DefaultConcurrent.
	Concurrent int
	// Timeout bounds the work on one request; 0: DefaultTimeout. It must be less than the 30 s for which answers are kept.
	Timeout time.Duration
}

func (c *Config) window() time.Duration { return cmp.Or(c.Window, DefaultWindow) }

// Client may send requests.
type Client struct {
	Address netip.Addr // IPv4 or IPv6
	Secret  keymat.Secret
}

// Handler does what clients want. It is called from several goroutines at once and returns when ctx ends.
type Handler interface {
	// Disconnect ends all sessions that match. It returns when they have been told to go.
	Disconnect(ctx context.Context, m Match) Result
	// Change changes all sessions that match, or none.
	Change(ctx context.Context, m Match, c aaa.Change) Result
}

// Result is what came of a request.
type Result struct {
	Sessions int   // that matched; none is refused with NoSession if Cause says nothing else
	Cause    Cause // zero: it was done
	Text     string
}

// Conn is a UDP socket; *net.UDPConn is one.
type Conn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
}

// Server takes requests on the sockets that it is given. All its methods may be called at once.
type Server struct {
	cfg     Config
	handler Handler
	log     *zap.Logger
	slots   chan struct{} // one for each request in work

	mu      sync.Mutex
	clients map[netip.Addr]*client
	unknown uint64
	answers answers
}

// client is a Client and what was counted of it.
type client struct {
	secret keymat.Secret
	counts Counts
}

// NewServer makes a server that serves nothing yet.
func NewServer(cfg Config, h Handler, log *zap.Logger) *Server {
	s := &Server{
		cfg: cfg, handler: h, log: log, slots: make(chan struct{}, cmp.Or(cfg.Concurrent, DefaultConcurrent)), clients: map[netip.Addr]*client{},
	}
	for _, c := range cfg.Clients {
		s.clients[c.Address.Unmap()] = &client{secret: c.Secret}
	}
	return s
}

// ClientStatus is what was counted of one client.
type ClientStatus struct {
	Address netip.Addr
	Counts  Counts
}

// Stats returns the counts of all clients, by address, and of the packets that came from anybody else.
func (s *Server) Stats() (clients []ClientStatus, unknown uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, c := range s.clients {
		clients = append(clients, ClientStatus{a, c.counts})
	}
	slices.SortFunc(clients, func(a, b ClientStatus) int { return a.Address.Compare(b.Address) })
	return clients, s.unknown
}

// maxReadErrors is how many errors of a socket in a row are taken for passing ones.
const maxReadErrors = 100

// Serve takes requests from a socket until ctx ends, which is no error, or the socket fails. It returns when nothing
// that came by the socket is being worked on any more. It does not close the socket.
func (s *Server) Serve(ctx context.Context, conn Conn) error {
	var g errgroup.Group
	defer g.Wait() //nolint:errcheck // no work returns an error
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	// One byte more than there may be, or what is too long would look as if it were not.
	buf := make([]byte, radius.MaxPacket+1)
	for failed := 0; ; {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			// ICMP errors about earlier answers come this way too.
			if failed++; errors.Is(err, net.ErrClosed) || failed >= maxReadErrors {
				return fmt.Errorf("dynamic authorization: %w", err)
			}
			continue
		}
		failed = 0
		job, answer := s.take(time.Now(), from, buf[:n])
		if answer != nil {
			s.send(conn, from, answer)
		}
		if job != nil {
			g.Go(func() error {
				defer func() { <-s.slots }()
				s.work(ctx, conn, job)
				return nil
			})
		}
	}
}

// job is a request that is to be done. It has a slot.
type job struct {
	request
	key    requestKey
	from   netip.AddrPort
	client *client
}

// take judges a packet: it is to be done, answered at once, or dropped. The cheapest check comes first.
func (s *Server) take(now time.Time, from netip.AddrPort, data []byte) (*job, []byte) {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	c := s.client(from.Addr())
	if c == nil {
		return nil, nil
	}
	if len(data) > 0 && rad.Code(data[0]) != rad.CodeDisconnectRequest && rad.Code(data[0]) != rad.CodeCoARequest {
		s.drop(c, Unexpected, from, radius.ErrCode)
		return nil, nil
	}
	p, err := radius.VerifyRequest(data, c.secret, !s.cfg.AllowUnsigned)
	if err != nil {
		s.drop(c, outcomeOf(err), from, err)
		return nil, nil
	}
	j := &job{key: requestKey{from.Addr(), p.Code, p.Identifier, p.Authenticator}, from: from, client: c}
	r, bad := s.cfg.read(now, p)
	j.request = r
	if r.stale {
		s.drop(c, Stale, from, errors.New(bad.text))
		return nil, nil
	}
	answer, again := s.begin(now, j)
	switch {
	case again:
		return nil, answer
	case bad != nil:
		return nil, s.finish(now, j, Result{Cause: bad.cause, Text: bad.text})
	}
	select {
	case s.slots <- struct{}{}:
		return j, nil
	default:
		s.forget(j, Overload)
		return nil, nil
	}
}

func (s *Server) client(a netip.Addr) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[a]
	if c == nil {
		s.unknown++
	}
	return c
}

func outcomeOf(err error) Outcome {
	switch {
	case errors.Is(err, radius.ErrBadAuthenticator), errors.Is(err, radius.ErrBadMessageAuth):
		return BadAuthenticator
	case errors.Is(err, radius.ErrNoMessageAuthenticator):
		return NoMessageAuthenticator
	case errors.Is(err, radius.ErrCode):
		return Unexpected
	}
	return Malformed
}

// drop counts a packet that gets no answer.
func (s *Server) drop(c *client, o Outcome, from netip.AddrPort, err error) {
	s.mu.Lock()
	c.counts[o]++
	s.mu.Unlock()
	if ce := s.log.Check(zap.DebugLevel, "dynamic authorization: packet dropped"); ce != nil {
		ce.Write(zap.Stringer("client", from), zap.Stringer("outcome", o), zap.Error(err))
	}
}

// begin looks a request up in the cache and counts it if it came before.
func (s *Server) begin(now time.Time, j *job) (answer []byte, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, again = s.answers.begin(now, j.key)
	if again {
		o := Repeated
		if answer == nil {
			o = RepeatedEarly
		}
		j.client.counts[o]++
	}
	return answer, again
}

// forget has a request counted as not done. Sent again, it is new.
func (s *Server) forget(j *job, o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.client.counts[o]++
	s.answers.done(time.Time{}, j.key, nil)
}

// work has a request done and answers it.
func (s *Server) work(ctx context.Context, conn Conn, j *job) {
	within, cancel := context.WithTimeout(ctx, cmp.Or(s.cfg.Timeout, DefaultTimeout))
	defer cancel()
	var r Result
	if j.packet.Code == rad.CodeDisconnectRequest {
		r = s.handler.Disconnect(within, j.match)
	} else {
		r = s.handler.Change(within, j.match, j.change)
	}
	if ctx.Err() != nil && r.Cause != 0 {
		s.forget(j, Abandoned)
		return
	}
	if r.Sessions == 0 && r.Cause == 0 {
		r.Cause = NoSession
	}
	if answer := s.finish(time.Now(), j, r); answer != nil {
		s.send(conn, j.from, answer)
	}
}

// finish makes a request's answer, keeps it and tells of it; nil if none can be made.
func (s *Server) finish(now time.Time, j *job, r Result) []byte {
	answer, err := j.answer(r.Cause)
	o := outcome(j.packet.Code, r.Cause)
	s.mu.Lock()
	j.client.counts[o]++
	if err != nil {
		j.client.counts[Unanswerable]++
	}
	s.answers.done(now, j.key, answer)
	s.mu.Unlock()
	level := zap.InfoLevel
	if r.Cause == NoSession {
		level = zap.DebugLevel // servers that do not know where a session is ask everybody
	}
	s.log.Log(level, "dynamic authorization: "+o.String(), append(j.match.fields(),
		zap.Stringer("client", j.from), zap.Int("sessions", r.Sessions), zap.Stringer("cause", r.Cause), zap.String("text", r.Text), zap.Error(err))...)
	return answer
}

// fields are what is given of the match, for the log.
func (m Match) fields() []zap.Field {
	var out []zap.Field
	if m.SessionID != "" {
		out = append(out, zap.String("session", m.SessionID))
	}
	if m.User != "" {
		out = append(out, zap.String("user", m.User))
	}
	if m.Address.IsValid() {
		out = append(out, zap.Stringer("address", m.Address))
	}
	return out
}

func outcome(code rad.Code, cause Cause) Outcome {
	switch {
	case code == rad.CodeDisconnectRequest && cause == 0:
		return Disconnected
	case code == rad.CodeDisconnectRequest:
		return DisconnectRefused
	case cause == 0:
		return Changed
	}
	return ChangeRefused
}

func (s *Server) send(conn Conn, to netip.AddrPort, answer []byte) {
	if _, err := conn.WriteToUDPAddrPort(answer, to); err != nil {
		s.log.Debug("dynamic authorization: answer not sent", zap.Stringer("client", to), zap.Error(err))
	}
}
