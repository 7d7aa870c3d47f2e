package controlplane

import (
	"context"
	"crypto/rand"
	"io"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/pki"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
)

// router is the shell of one virtual router: one goroutine owns the machine, feeds it
// events and carries out its effects. It never blocks: whatever may wait runs in the
// process-wide workers and comes back as an event.
//
// It keeps its data plane for life: where that has to be made anew, a new router takes its place.
type router struct {
	name     string
	settings atomic.Pointer[settings]
	machine  *machine
	inbox    *inbox
	data     Dataplane
	shared   *shared
	method   aaa.Method
	log      *zap.Logger
	stats    routerStats
	cutOff   context.CancelFunc             // ends the loop at once; nil: it has not been started
	gone     chan struct{}                  // closed when the loop has run
	serving  atomic.Bool                    // the loop runs and data is set
	ended    atomic.Bool                    // the loop has run
	failure  atomic.Pointer[DataplaneError] // why it could not be opened; nil: it was, or was not tried yet
	udp      atomic.Pointer[Dataplane]      // data, for those outside the loop; nil: not open yet

	// Owned by the loop.
	ctx      context.Context // of the loop
	pending  int             // blocking work that has not come back
	stopping stopPhase
	phaseEnd time.Time
	grace    time.Duration
	why      subscriber.Reason // it ends
	// statics are the connections of static tunnels, from the order to install their first SA until they end.
	statics map[ike.ConnID]string
	// Changes of sessions that have not come back, by token.
	changeToken uint64
	changes     map[uint64]chan<- subscriber.Changed
	sites       siteShell
	tunnelUsers tunnelUsers
	// How many summary lines of subscribers that never were up there were since refusedAt.
	refused   int
	refusedAt time.Time
}

// settings are what a router is told of its configuration besides its engines and its data plane. A reload
// replaces them as a whole.
type settings struct {
	cfg   *config.Router
	rules []ike.PolicyRule // for show
	certs *pki.Store
}

func (r *router) cfg() *config.Router     { return r.settings.Load().cfg }
func (r *router) rules() []ike.PolicyRule { return r.settings.Load().rules }
func (r *router) certs() *pki.Store       { return r.settings.Load().certs }

// shared is what all virtual routers of the process use together.
type shared struct {
	kernel    *workers // calls that wait for the kernel
	admission *admission
	cpu       *cpuPool
	leases    *leases
	aaa       atomic.Pointer[authority]
}

// authority is who decides and who is told now.
func (s *shared) authority() *authority { return s.aaa.Load() }

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
	stop struct {
		grace time.Duration
		why   subscriber.Reason
	}
)

func newRouter(cfg *config.Router, c machineConfig, s *shared, method aaa.Method, certs *pki.Store, log *zap.Logger, random io.Reader) *router {
	if random == nil {
		random = rand.Reader
	}
	r := &router{
		name: cfg.Name, machine: newMachine(time.Now(), c, random), inbox: newInbox(), shared: s, method: method, gone: make(chan struct{}),
		log: log.With(zap.String("vr", cfg.Name)), changes: map[uint64]chan<- subscriber.Changed{}, statics: map[ike.ConnID]string{},
		sites: newSiteShell(), tunnelUsers: newTunnelUsers(),
	}
	r.settings.Store(&settings{cfg, c.ike.Rules, certs})
	return r
}

// run owns the machine until a stop event has been carried out or ctx ends. It returns
// when all of its blocking work has come back.
func (r *router) run(ctx context.Context) {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	r.ctx = ctx
	timer := time.NewTimer(r.pause(time.Now())) // static tunnels begin by themselves
	defer timer.Stop()
	r.serving.Store(true)
	defer func() {
		r.ended.Store(true)
		r.serving.Store(false)
		close(r.gone)
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
	giveUp() // nobody wants to know any more what a silent server says
	r.sites.lookups.close()
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
			r.handle(ctx, now, ev.event)
		}
	case userDecided:
		r.userDecided(now, ev)
	case query:
		ev.run(now)
		close(ev.done)
	case stop:
		r.beginStop(ctx, now, ev)
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
	return r.post(fn)(ctx)
}

// post has fn run in the loop, also of a router that does not serve yet. What it returns waits for that, and says
// what do says.
func (r *router) post(fn func(now time.Time)) (wait func(context.Context) bool) {
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
		return func(context.Context) bool { return false }
	}
	r.inbox.signal()
	return func(ctx context.Context) bool {
		select {
		case <-q.done:
			return ran
		case <-ctx.Done():
			return false
		}
	}
}

// Orderly end.

func (r *router) beginStop(ctx context.Context, now time.Time, s stop) {
	if r.stopping != running {
		return
	}
	r.stopping, r.grace, r.why, r.phaseEnd = stoppingSessions, s.grace, s.why, now.Add(s.grace/2)
	ids := make([]subscriber.ID, 0, r.machine.subs.Len())
	for _, rec := range r.machine.subs.Records() {
		ids = append(ids, rec.ID)
	}
	r.perform(ctx, r.machine.step(now, subscriber.Disconnect{IDs: ids, Reason: r.why}))
}

// advanceStop goes on to the next phase when the present one is done or out of time.
func (r *router) advanceStop(ctx context.Context, now time.Time) {
	late := !now.Before(r.phaseEnd)
	switch r.stopping {
	case stoppingSessions:
		if r.machine.subs.Len() == 0 || late {
			r.stopping, r.phaseEnd = stoppingTunnels, now.Add(r.grace/4)
			r.perform(ctx, r.machine.step(now, l2tp.CloseAll{Reason: l2tp.Reason(r.why)}))
			r.advanceStop(ctx, now)
		}
	case stoppingTunnels:
		if r.machine.l2tp.Live() == 0 || late {
			r.stopping, r.phaseEnd = stoppingIPsec, now.Add(r.grace/4)
			r.perform(ctx, r.machine.step(now, site.CloseAll{Reason: site.Reason(r.why)}))
			r.perform(ctx, r.machine.step(now, ike.CloseAll{Reason: ike.Reason(r.why)}))
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

// IPsecMissing implements [Inlet].
func (r *router) IPsecMissing(sas, policies int) {
	r.log.Warn("somebody has removed IPsec state of ours from the kernel: policies are there again, connections without SAs make new ones or end",
		zap.Int("sas", sas), zap.Int("policies", policies))
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

// TunnelWanted implements [Inlet].
func (r *router) TunnelWanted(tunnel string) { r.inbox.packet(site.Acquire{Tunnel: tunnel}) }
