package radius

import (
	"context"
	"crypto/rand"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	rad "layeh.com/radius"
)

const (
	// inboxLen bounds what waits for the goroutine that owns the engine. Who finds it full waits: callers in their own
	// time, readers while the kernel's buffers fill and drop.
	inboxLen = 1024
	// socketBuffer is asked for as the receive buffer of each socket: 256 answers of ordinary size at once, and then some.
	socketBuffer = 512 << 10
)

// Client asks the RADIUS servers of one virtual router. It is safe for concurrent use.
type Client struct {
	listen ListenFunc
	log    *zap.Logger
	last   atomic.Uint64 // number of the newest request

	inbox   chan any // submission, query, drain, socketReady or an event
	closing chan struct{}
	close   sync.Once
	done    sync.WaitGroup
}

// Things in the inbox that are no events.
type (
	// submission is a request and where its end is told. The channel has room for it.
	submission struct {
		submit submit
		end    chan<- finished
	}
	// query runs in the goroutine that owns the engine.
	query func(*engine)
	// drain is closed when nobody waits for an answer.
	drain chan struct{}
	// socketReady is what opening a socket has come to.
	socketReady struct {
		socket socketID
		conn   *net.UDPConn
		err    error
	}
)

// NewClient starts a client. Sockets are opened when they are first needed and closed when they have been idle for
// minutes. Close ends it.
func NewClient(cfg Config, listen ListenFunc, log *zap.Logger) *Client {
	c := &Client{listen: listen, log: log, inbox: make(chan any, inboxLen), closing: make(chan struct{})}
	s := &shell{
		Client: c, engine: newEngine(cfg, rand.Reader),
		callers: map[requestID]chan<- finished{}, conns: map[socketID]*net.UDPConn{},
	}
	c.done.Go(s.run)
	return c
}

// Close fails what is pending with ErrClosed, closes all sockets and returns when nothing of the client is left. The error
// is always nil.
func (c *Client) Close() error {
	c.close.Do(func() { close(c.closing) })
	c.done.Wait()
	for { // sockets that came too late
		select {
		case x := <-c.inbox:
			if r, ok := x.(socketReady); ok && r.conn != nil {
				_ = r.conn.Close()
			}
		default:
			return nil
		}
	}
}

// Drain returns when no request is pending, or with the error of ctx. A reload puts a new client in the place of the old
// one, drains that and closes it.
func (c *Client) Drain(ctx context.Context) error {
	d := make(drain)
	c.post(d)
	select {
	case <-d:
		return nil
	case <-c.closing:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Do asks the servers of a group, one after the other, and returns the first verified answer, whatever it says. It blocks
// its caller only. Without ctx ending, it returns within twice the sum of the servers' timeouts once it has left the
// queue. The error is ErrNoServer, ErrNoAnswer, ErrOverload, ErrClosed, an *OpenError, a *MalformedError if the request
// cannot be encoded, or that of ctx.
func (c *Client) Do(ctx context.Context, group string, x Exchange) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	id := requestID(c.last.Add(1))
	end := make(chan finished, 1)
	select {
	case c.inbox <- submission{submit{id, group, x}, end}:
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	case <-c.closing:
		return Answer{}, ErrClosed
	}
	select {
	case f := <-end:
		return f.Answer, f.Err
	case <-ctx.Done():
		c.post(abandon{id})
		return Answer{}, ctx.Err()
	case <-c.closing:
		return Answer{}, ErrClosed
	}
}

// Account delivers one accounting record, given as encoded attributes, of something that happened at time at. It returns
// nil if and only if a server has acknowledged exactly this record. Errors are those of Do.
func (c *Client) Account(ctx context.Context, group string, attributes []byte, at time.Time) error {
	attrs, err := rad.ParseAttributes(attributes)
	if err != nil {
		return malformed("accounting record: %v", err)
	}
	_, err = c.Do(ctx, group, Exchange{Code: rad.CodeAccountingRequest, Attributes: attrs, At: at})
	return err
}

// Servers returns the state of every server in each of its roles, in the order of the configuration; nil after Close.
func (c *Client) Servers() []ServerStatus {
	return ask(c, (*engine).status)
}

// Pressure is how many requests of one role are under way.
type Pressure struct {
	Limit    int    // of InFlight, and of Queued
	InFlight int    // wait for servers
	Queued   int    // wait for room among those
	Refused  uint64 // with ErrOverload, ever
}

// Pressure returns how many requests of each role are under way; zero after Close.
func (c *Client) Pressure() [2]Pressure {
	return ask(c, func(e *engine) (out [numRoles]Pressure) {
		for i, l := range e.roles {
			out[i] = Pressure{l.Limit, l.InFlight, l.Queue.n, l.Refused}
		}
		return out
	})
}

// ask has fn look at the engine.
func ask[T any](c *Client, fn func(*engine) T) (out T) {
	answer := make(chan T, 1)
	c.post(query(func(e *engine) { answer <- fn(e) }))
	select {
	case out = <-answer:
	case <-c.closing:
	}
	return out
}

// post puts something into the inbox; false: the client is being closed.
func (c *Client) post(x any) bool {
	select {
	case c.inbox <- x:
		return true
	case <-c.closing:
		return false
	}
}

// shell is what only the goroutine that owns the engine may touch.
type shell struct {
	*Client
	engine  *engine
	callers map[requestID]chan<- finished
	conns   map[socketID]*net.UDPConn
	drains  []drain
}

// run owns the engine until the client is closed.
func (s *shell) run() {
	defer func() {
		for _, conn := range s.conns {
			_ = conn.Close() // ends its reader
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if at := s.engine.deadline(); at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		if len(s.callers) == 0 {
			for _, d := range s.drains {
				close(d)
			}
			s.drains = nil
		}
		select {
		case x := <-s.inbox:
			s.take(x)
		case <-timer.C:
			s.step(tick{})
		case <-s.closing:
			return
		}
	}
}

// take handles one thing from the inbox.
func (s *shell) take(x any) {
	switch x := x.(type) {
	case abandon:
		delete(s.callers, x.ID)
		s.step(x)
	case socketLost:
		if conn := s.conns[x.Socket]; conn != nil {
			s.log.Warn("socket for RADIUS lost", zap.String("error", x.Text))
			_ = conn.Close()
			delete(s.conns, x.Socket)
			s.step(x)
		}
	case event:
		s.step(x)
	case submission:
		s.callers[x.submit.ID] = x.end
		s.step(x.submit)
	case query:
		x(s.engine)
	case drain:
		s.drains = append(s.drains, x)
	case socketReady:
		if x.err != nil {
			s.log.Warn("no socket for RADIUS", zap.Error(x.err))
			s.step(openFailed{x.socket, x.err.Error()})
			return
		}
		s.conns[x.socket] = x.conn
		s.done.Go(func() { s.read(x.socket, x.conn) })
		s.step(opened{x.socket})
	}
}

// step feeds the engine and performs what it wants, with what comes of that.
func (s *shell) step(ev event) {
	for events := []event{ev}; len(events) > 0; events = events[1:] {
		for _, x := range s.engine.step(time.Now(), events[0]) {
			if then := s.perform(x); then != nil {
				events = append(events, then)
			}
		}
	}
}

func (s *shell) perform(x effect) event {
	switch x := x.(type) {
	case finished:
		if end := s.callers[x.ID]; end != nil {
			delete(s.callers, x.ID)
			end <- x
		}
	case sendPacket:
		if _, err := s.conns[x.Socket].WriteToUDPAddrPort(x.Data, x.To); err != nil {
			s.log.Debug("packet to RADIUS server not sent", zap.Stringer("server", x.To), zap.Error(err))
			return notSent{x.Socket}
		}
	case openSocket:
		s.done.Go(func() { s.open(x) })
	case closeSocket:
		_ = s.conns[x.Socket].Close()
		delete(s.conns, x.Socket)
	case stateChanged:
		s.report(x)
	}
	return nil
}

// open opens a socket, which may block.
func (s *shell) open(x openSocket) {
	conn, err := s.listen(x.Local)
	if err == nil {
		_ = conn.SetReadBuffer(socketBuffer) // what the kernel gives has to do
	}
	if !s.post(socketReady{x.Socket, conn, err}) && conn != nil {
		_ = conn.Close()
	}
}

// read feeds a socket's datagrams in until it is closed.
func (s *shell) read(id socketID, conn *net.UDPConn) {
	buf := make([]byte, MaxPacket+1) // one byte more shows what is too long
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			s.post(socketLost{id, err.Error()}) // which nobody minds if we have closed it
			return
		}
		if !s.post(received{id, from, append([]byte(nil), buf[:n]...)}) {
			return
		}
	}
}

// report logs what has become of a server, and what an operator would want to know about why.
func (s *shell) report(x stateChanged) {
	fields := []zap.Field{
		zap.String("server", x.Server), zap.Stringer("role", x.Role), zap.Stringer("from", x.From), zap.Stringer("to", x.To),
	}
	if x.To != Dead {
		s.log.Info("RADIUS server", fields...)
		return
	}
	for _, o := range []Outcome{TimedOut, Late, BadAuthenticator, NoMessageAuthenticator, WrongSource, SendFailed} {
		if n := x.Counts[o]; n > 0 {
			fields = append(fields, zap.Uint64(o.String(), n))
		}
	}
	s.log.Warn("RADIUS server does not answer", fields...)
}
