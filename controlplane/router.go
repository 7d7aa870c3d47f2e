package controlplane

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// router is the shell of one virtual router: one goroutine owns the machine, feeds it
// events and carries out its effects. It never blocks: whatever may wait runs in the
// process-wide workers and comes back as an event.
type router struct {
	name    string
	cfg     *config.Router
	machine *machine
	rules   []ike.PolicyRule // for show
	inbox   *inbox
	data    Dataplane
	shared  *shared
	method  aaa.Method
	log     *zap.Logger
	stats   routerStats
	serving atomic.Bool                    // the loop runs and data is set
	ended   atomic.Bool                    // the loop has run
	failure atomic.Pointer[DataplaneError] // why it could not be opened; nil: it was, or was not tried yet

	// Owned by the loop.
	pending  int // blocking work that has not come back
	stopping stopPhase
	phaseEnd time.Time
	grace    time.Duration
}

// shared is what all virtual routers of the process use together.
type shared struct {
	kernel *workers // calls that wait for the kernel
	aaa    *workers
	dh     *dhPool
	leases *leases
}

// routerStats are counters of the shell itself; any goroutine may read them.
type routerStats struct {
	ikeSendErrors, l2tpSendErrors, pppSendErrors atomic.Uint64
	kernelErrors                                 atomic.Uint64
	started, ended                               atomic.Uint64
}

// stopPhase orders the polite end: sessions, then tunnels, then IPsec.
type stopPhase uint8

const (
	running stopPhase = iota
	stoppingSessions
	stoppingTunnels
	stoppingIPsec
	stopped
)

// Events of the shell itself.
type (
	// workDone carries the event that blocking work produced; nil for none.
	workDone struct{ event any }
	// query runs a function in the loop, for show and disconnect.
	query struct {
		run  func(now time.Time)
		done chan struct{}
	}
	// stop begins the polite end.
	stop struct{ grace time.Duration }
)

func newRouter(cfg *config.Router, c machineConfig, s *shared, method aaa.Method, log *zap.Logger, random io.Reader) *router {
	if random == nil {
		random = rand.Reader
	}
	return &router{
		name: cfg.Name, cfg: cfg, machine: newMachine(c, random), rules: c.ike.Rules, inbox: newInbox(), shared: s, method: method,
		log: log.With(zap.String("vr", cfg.Name)),
	}
}

// run owns the machine until a stop event has been carried out or ctx ends. It returns
// when all of its blocking work has come back.
func (r *router) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	r.serving.Store(true)
	defer func() {
		r.ended.Store(true)
		r.serving.Store(false)
	}()
	var batch []any
	for r.stopping != stopped {
		select {
		case <-ctx.Done():
			r.stopping = stopped
		case <-r.inbox.wake:
		case <-timer.C:
		}
		now := time.Now()
		batch = r.inbox.take(batch[:0])
		for _, ev := range batch {
			r.handle(ctx, now, ev)
		}
		clear(batch)
		if d := r.machine.deadline(); !d.IsZero() && !now.Before(d) {
			r.perform(ctx, r.machine.step(now, tick{}))
		}
		r.advanceStop(ctx, now)
		timer.Reset(r.pause(time.Now()))
	}
	for r.pending > 0 {
		<-r.inbox.wake
		batch = r.inbox.take(batch[:0])
		for _, ev := range batch {
			switch ev := ev.(type) {
			case workDone:
				r.pending--
			case query:
				close(ev.done)
			}
		}
	}
	r.inbox.close()
	for _, ev := range r.inbox.take(nil) {
		if q, ok := ev.(query); ok {
			close(q.done)
		}
	}
}

// pause is how long the loop may sleep when nothing comes in.
func (r *router) pause(now time.Time) time.Duration {
	next := r.machine.deadline()
	if r.stopping != running && (next.IsZero() || r.phaseEnd.Before(next)) {
		next = r.phaseEnd
	}
	if next.IsZero() {
		return time.Hour
	}
	return max(next.Sub(now), 0)
}

func (r *router) handle(ctx context.Context, now time.Time, ev any) {
	switch ev := ev.(type) {
	case workDone:
		r.pending--
		if ev.event != nil {
			r.perform(ctx, r.machine.step(now, ev.event))
		}
	case query:
		ev.run(now)
		close(ev.done)
	case stop:
		r.beginStop(ctx, now, ev.grace)
	default:
		r.perform(ctx, r.machine.step(now, ev))
	}
}

// failed keeps why the virtual router could not be opened, for show; nil clears it.
func (r *router) failed(err error) {
	if err == nil {
		r.failure.Store(nil)
		return
	}
	reason, text := reasonOf(err)
	r.failure.Store(&DataplaneError{Reason: reason, Text: text})
}

// do runs fn in the loop and waits for it; false when the router does not serve yet or any
// more, or ctx ended first. fn must not be relied on after false.
func (r *router) do(ctx context.Context, fn func(now time.Time)) bool {
	if !r.serving.Load() {
		return false
	}
	ran := false
	q := query{done: make(chan struct{})}
	q.run = func(now time.Time) { ran = true; fn(now) }
	r.inbox.mu.Lock()
	closed := r.inbox.closed
	if !closed {
		r.inbox.answers = append(r.inbox.answers, q)
	}
	r.inbox.mu.Unlock()
	if closed {
		return false
	}
	r.inbox.signal()
	select {
	case <-q.done:
		return ran
	case <-ctx.Done():
		return false
	}
}

// Orderly end.

func (r *router) beginStop(ctx context.Context, now time.Time, grace time.Duration) {
	if r.stopping != running {
		return
	}
	r.stopping, r.grace, r.phaseEnd = stoppingSessions, grace, now.Add(grace/2)
	ids := make([]subscriber.ID, 0, r.machine.subs.Len())
	for _, rec := range r.machine.subs.Records() {
		ids = append(ids, rec.ID)
	}
	r.perform(ctx, r.machine.step(now, subscriber.Disconnect{IDs: ids, Reason: subscriber.ReasonShutdown}))
}

// advanceStop goes on to the next phase when the present one is done or out of time.
func (r *router) advanceStop(ctx context.Context, now time.Time) {
	late := !now.Before(r.phaseEnd)
	switch r.stopping {
	case stoppingSessions:
		if r.machine.subs.Len() == 0 || late {
			r.stopping, r.phaseEnd = stoppingTunnels, now.Add(r.grace/4)
			r.perform(ctx, r.machine.step(now, l2tp.CloseAll{Reason: l2tp.Reason(subscriber.ReasonShutdown)}))
			r.advanceStop(ctx, now)
		}
	case stoppingTunnels:
		if r.machine.l2tp.Live() == 0 || late {
			r.stopping, r.phaseEnd = stoppingIPsec, now.Add(r.grace/4)
			r.perform(ctx, r.machine.step(now, ike.CloseAll{Reason: ike.Reason(subscriber.ReasonShutdown)}))
			r.advanceStop(ctx, now)
		}
	case stoppingIPsec:
		if r.pending == 0 || late {
			r.stopping = stopped
		}
	}
}

// Inlet: called by the data plane's goroutines.

// IKEPacket implements [Inlet].
func (r *router) IKEPacket(local, remote netip.AddrPort, marker bool, data []byte) {
	r.inbox.ikePacket(ike.Packet{Local: local, Remote: remote, Marker: marker, Data: append([]byte(nil), data...)})
}

// L2TPPacket implements [Inlet].
func (r *router) L2TPPacket(socket l2tp.TunnelID, local, remote netip.AddrPort, conn l2tp.ConnID, data []byte) {
	r.inbox.packet(l2tp.Packet{Socket: socket, Local: local, Remote: remote, Conn: conn, Data: append([]byte(nil), data...)})
}

// PPPFrame implements [Inlet].
func (r *router) PPPFrame(call subscriber.CallKey, frame []byte) {
	r.inbox.packet(subscriber.Frame{Call: call, Data: append([]byte(nil), frame...)})
}

// SAExpired implements [Inlet].
func (r *router) SAExpired(spi uint32, dir ike.Direction, hard bool) {
	r.inbox.answer(ike.SAExpired{SPI: spi, Dir: dir, Hard: hard})
}

// PeerMoved implements [Inlet].
func (r *router) PeerMoved(spi uint32, remote netip.AddrPort) {
	r.inbox.packet(ike.PeerMoved{SPI: spi, Remote: remote})
}

// SessionLost implements [Inlet].
func (r *router) SessionLost(id subscriber.ID) {
	r.inbox.answer(subscriber.Disconnect{IDs: []subscriber.ID{id}, Reason: subscriber.ReasonInterface})
}

// Keys that order blocking work: calls about one connection, and calls about one tunnel
// and its sessions, run one after the other.
type (
	connWork struct {
		router *router
		conn   ike.ConnID
	}
	tunnelWork struct {
		router *router
		tunnel uint16
	}
	repairWork struct{ router *router }
	userWork   struct {
		router *router
		id     subscriber.ID
	}
)

// async runs fn in the kernel workers; what it returns comes back as an event.
func (r *router) async(key any, fn func() any) {
	r.pending++
	r.shared.kernel.do(key, func() { r.inbox.answer(workDone{fn()}) })
}

func (r *router) perform(ctx context.Context, effects []any) {
	for _, f := range effects {
		switch f := f.(type) {
		case ike.Effect:
			r.performIKE(f)
		case l2tp.Effect:
			r.performL2TP(f)
		case subscriber.Effect:
			r.performSubscriber(ctx, f)
		}
	}
}

func (r *router) performIKE(f ike.Effect) {
	switch f := f.(type) {
	case ike.Send:
		if r.data.SendIKE(f) != nil {
			r.stats.ikeSendErrors.Add(1)
		}
	case ike.ComputeDH:
		r.pending++
		r.shared.dh.submit(f, func(d ike.DHDone) { r.inbox.answer(workDone{d}) })
	case ike.InstallSA:
		r.async(connWork{r, f.SA.Conn}, func() any {
			done := ike.SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir}
			if err := r.data.InstallSA(f.SA); err != nil {
				done.Err = r.kernelFailed("install SA", err)
			}
			return done
		})
	case ike.RemoveSA:
		r.async(connWork{r, f.Conn}, func() any {
			r.kernelFailed("remove SA", r.data.RemoveSA(f))
			return nil
		})
	case ike.MoveConn:
		r.async(connWork{r, f.Conn}, func() any {
			r.kernelFailed("move SAs", r.data.MoveConn(f))
			return nil
		})
	case ike.ConnUp:
		r.log.Info("IPsec up", append(connFields(f.Conn), zap.String("ike", f.Conn.Proposal), zap.String("esp", f.Conn.ESP),
			zap.String("key", f.Conn.Key), zap.Bool("nat", f.Conn.NATPeer))...)
	case ike.ConnDown:
		r.log.Info("IPsec down", append(connFields(f.Conn), zap.String("reason", string(f.Reason)), zap.String("text", f.Text), zap.Bool("by_peer", f.ByPeer))...)
	case ike.Report:
		r.report(uint8(f.Level), string(f.Reason), f.Text, zap.Stringer("peer", f.Remote), zap.Uint32("conn", uint32(f.Conn)))
	}
}

func connFields(c ike.ConnInfo) []zap.Field {
	return []zap.Field{
		zap.Uint32("conn", uint32(c.ID)), zap.Stringer("peer", c.Remote), zap.String("peer_id", c.PeerID), zap.String("client", c.Peer),
	}
}

func (r *router) performL2TP(f l2tp.Effect) {
	switch f := f.(type) {
	case l2tp.Send:
		if r.data.SendTunnel(f) != nil {
			r.stats.l2tpSendErrors.Add(1)
		}
	case l2tp.Refuse:
		if r.data.Refuse(f) != nil {
			r.stats.l2tpSendErrors.Add(1)
		}
	case l2tp.OpenSocket:
		r.async(tunnelWork{r, uint16(f.Tunnel)}, func() any {
			done := l2tp.SocketOpened{Tunnel: f.Tunnel}
			switch err := r.data.OpenTunnel(f); {
			case errors.Is(err, ErrPortInUse):
				done.InUse = true
			case err != nil:
				done.Err = r.kernelFailed("open tunnel socket", err)
			}
			return done
		})
	case l2tp.CloseSocket:
		r.async(tunnelWork{r, uint16(f.Tunnel)}, func() any {
			r.kernelFailed("close tunnel socket", r.data.CloseTunnel(f.Tunnel))
			return nil
		})
	case l2tp.TunnelUp:
		r.log.Log(tunnelLevel(f.Tunnel), "L2TP tunnel up", tunnelFields(f.Tunnel)...)
	case l2tp.TunnelDown:
		r.log.Log(tunnelLevel(f.Tunnel), "L2TP tunnel down", append(tunnelFields(f.Tunnel), zap.String("reason", string(f.Reason)), zap.String("text", f.Text), zap.Bool("by_peer", f.ByPeer))...)
	case l2tp.Report:
		if f.Reason == l2tp.ReasonNotSteered { // somebody has flushed the rules that steer; reported once a minute
			r.async(repairWork{r}, func() any {
				r.kernelFailed("repair rules", r.data.Repair())
				return nil
			})
		}
		r.report(uint8(f.Level), string(f.Reason), f.Text, zap.Stringer("peer", f.Remote), zap.Uint32("conn", uint32(f.Conn)), zap.Uint16("tunnel", uint16(f.Tunnel)))
	}
}

// tunnelLevel keeps the tunnels that anybody can open in clear text, with an address that need
// not even be his, out of the usual log.
func tunnelLevel(t l2tp.TunnelInfo) zapcore.Level {
	if !t.Trusted {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

func tunnelFields(t l2tp.TunnelInfo) []zap.Field {
	return []zap.Field{
		zap.Uint16("tunnel", uint16(t.ID)), zap.Uint32("conn", uint32(t.Conn)), zap.Stringer("peer", t.Remote), zap.String("host", t.PeerHost),
	}
}

func (r *router) performSubscriber(ctx context.Context, f subscriber.Effect) {
	switch f := f.(type) {
	case subscriber.SendFrame:
		if r.data.SendFrame(f) != nil {
			r.stats.pppSendErrors.Add(1)
		}
	case subscriber.Decide:
		r.pending++
		r.shared.aaa.do(userWork{r, f.ID}, func() {
			r.inbox.answer(workDone{r.shared.leases.decide(ctx, r.method, f)})
		})
	case subscriber.ReleaseAddress:
		r.shared.leases.release(f)
	case subscriber.OpenSession:
		r.async(tunnelWork{r, f.Call.Tunnel}, func() any {
			done := subscriber.SessionOpened{ID: f.ID}
			name, index, err := r.data.OpenSession(f)
			if err != nil {
				r.kernelFailed("open session", err)
				done.Reason, done.Text = reasonOf(err)
			}
			done.Interface, done.Ifindex = name, index
			return done
		})
	case subscriber.Activate:
		r.async(tunnelWork{r, f.Call.Tunnel}, func() any {
			done := subscriber.SessionActivated{ID: f.ID}
			if err := r.data.Activate(f); err != nil {
				r.kernelFailed("activate session", err)
				done.Reason, done.Text = reasonOf(err)
			}
			return done
		})
	case subscriber.Deactivate:
		r.async(tunnelWork{r, f.Call.Tunnel}, func() any {
			r.kernelFailed("deactivate session", r.data.Deactivate(f.ID))
			return nil
		})
	case subscriber.CloseSession:
		r.async(tunnelWork{r, f.Call.Tunnel}, func() any {
			c, err := r.data.CloseSession(f.ID)
			r.kernelFailed("close session", err)
			return subscriber.SessionClosed{ID: f.ID, Counters: c}
		})
	case subscriber.Started:
		r.stats.started.Add(1)
		r.log.Info("subscriber up", recordFields(f.Record)...)
	case subscriber.Ended:
		r.stats.ended.Add(1)
		r.log.Info("subscriber ended", append(recordFields(f.Record), endFields(f.Record)...)...)
	case subscriber.Report:
		level := uint8(ike.LevelInfo)
		if f.Warn {
			level = uint8(ike.LevelWarn)
		}
		r.report(level, string(f.Reason), f.Text, zap.Stringer("peer", f.Remote), zap.Uint32("conn", f.Conn))
	}
}

func recordFields(s subscriber.Record) []zap.Field {
	return []zap.Field{
		zap.Uint64("subscriber", uint64(s.ID)), zap.String("user", s.User), zap.Stringer("peer", s.Remote), zap.String("address", addressText(s.Address)),
		zap.String("router", s.Terminating), zap.String("interface", s.Interface), zap.String("access", string(s.Access)),
		zap.Uint32("conn", s.Conn), zap.Uint16("tunnel", s.Call.Tunnel), zap.Uint16("session", s.Call.Session),
	}
}

// addressText is empty for a subscriber that has no address (yet).
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// endFields complete the one summary line of an ended subscriber: how long, how much, why.
func endFields(s subscriber.Record) []zap.Field {
	up := time.Duration(0)
	if !s.Up.IsZero() {
		up = s.Ended.Sub(s.Up)
	}
	return []zap.Field{
		zap.Duration("up", up), zap.Uint64("in_bytes", s.Counters.InBytes), zap.Uint64("out_bytes", s.Counters.OutBytes),
		zap.Uint64("in_packets", s.Counters.InPackets), zap.Uint64("out_packets", s.Counters.OutPackets),
		zap.String("reason", string(s.Reason)), zap.String("text", s.Text), zap.Bool("by_peer", s.ByPeer),
	}
}

// kernelFailed logs and counts a failed kernel call and returns its sentence.
func (r *router) kernelFailed(what string, err error) string {
	if err == nil {
		return ""
	}
	r.stats.kernelErrors.Add(1)
	reason, text := reasonOf(err)
	r.log.Warn("kernel call failed", zap.String("call", what), zap.String("reason", string(reason)), zap.String("text", text))
	return text
}

// report logs at the level the engine chose: 0 debug, 1 info, 2 warning.
func (r *router) report(level uint8, reason, text string, fields ...zap.Field) {
	fields = append(fields, zap.String("reason", reason))
	switch level {
	case uint8(ike.LevelDebug):
		r.log.Debug(text, fields...)
	case uint8(ike.LevelInfo):
		r.log.Info(text, fields...)
	default:
		r.log.Warn(text, fields...)
	}
}
