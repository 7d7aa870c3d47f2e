package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/config"
	"vrgate/controlplane/store"
	"vrgate/controlplane/subscriber"
)

// Process runs every virtual router of one configuration, and takes over others while it runs.
type Process struct {
	kernel Kernel
	log    *zap.Logger
	store  *store.Store
	book   *leaseBook
	shared *shared
	now    atomic.Pointer[present]

	// changing is held by whoever changes which routers there are: it has room for the one.
	changing chan struct{}
	// Owned by whoever is changing.
	numbers connNumbering
	life    *life     // nil: it does not run, or ends
	failed  []*router // that could not be opened
}

// present is what a reload replaces as a whole.
type present struct {
	cfg     *config.Config
	routers []*router // in the order of the configuration, behind them those that end
}

func (p *Process) cfg() *config.Config { return p.now.Load().cfg }
func (p *Process) routers() []*router  { return p.now.Load().routers }

// New prepares a process. Nothing in the kernel or in the store, which must stay open until Run
// has returned, is touched before Run. The error is a *CertificateError if certificates cannot be
// used, or [config.Errors], or both joined.
func New(cfg *config.Config, kernel Kernel, st *store.Store, log *zap.Logger) (*Process, error) {
	p := &Process{kernel: kernel, log: log, store: st, shared: &shared{}, changing: make(chan struct{}, 1), numbers: connNumbering{}}
	b, err := p.build(cfg)
	if err != nil {
		return nil, err
	}
	l, err := newLeases(cfg)
	if err != nil {
		return nil, err
	}
	l.log, l.end, p.book, p.shared.leases = log, p.endSession, newLeaseBook(l, st, log), l
	p.shared.aaa.Store(b.authority)
	now := &present{cfg: cfg}
	for i, r := range cfg.Routers {
		now.routers = append(now.routers, p.newRouter(r, b.routers[i]))
	}
	p.numbers = b.numbers
	p.now.Store(now)
	return p, nil
}

func (p *Process) newRouter(r *config.Router, b builtRouter) *router {
	return newRouter(r, b.machine, p.shared, presentAAA{p.shared, r.Name, p.log.With(zap.String("vr", r.Name))}, b.certs, p.log, nil)
}

// Pauses before a virtual router that could not be opened is tried again: its addresses may
// come later at boot, or an operator may just have mended what the log complained about.
const (
	reopenFirst = 5 * time.Second
	reopenMax   = time.Minute
)

// life is what there is only while the process runs.
type life struct {
	ctx        context.Context // ends when the process shall
	cut        context.Context // ends when what has not ended in time is cut off
	loops      sync.WaitGroup  // of routers
	background sync.WaitGroup
	keepers    map[*router]context.CancelFunc // of certificates
	retry      chan struct{}                  // holds a token when a router could not be opened
}

// Run opens all virtual routers, calls ready, and serves until ctx ends; then every
// session, tunnel and connection is ended politely within the configured shutdown timeout
// and everything of ours is removed from the kernel.
//
// A virtual router that cannot be opened does not keep the others from serving: it is shown
// as failed and tried again. When none can be opened the error says why.
func (p *Process) Run(ctx context.Context, ready func()) error {
	process := p.cfg().Process
	p.shared.kernel = newWorkers(process.Workers.Kernel)
	p.shared.admission = newAdmission(process.Admission)
	p.shared.cpu = newCPUPool(process.Workers.DH)
	defer p.shared.cpu.close()
	defer p.shared.admission.close()
	defer p.shared.kernel.close()
	if err := p.shared.authority().start(p); err != nil {
		return err
	}
	if err := p.book.restore(); err != nil {
		p.log.Warn("users may get other addresses than before the restart", zap.Error(err))
	}

	var errs error
	for _, r := range p.routers() {
		if err := p.open(p.cfg(), r); err != nil {
			p.failed, errs = append(p.failed, r), errors.Join(errs, err)
		}
	}
	if len(p.failed) == len(p.routers()) {
		p.shared.authority().stop(0, p.log)
		return errs
	}
	p.shared.authority().begin()
	within := p.serve(ctx, ready)
	p.shared.authority().end()
	p.shared.authority().stop(within, p.log)
	var left error
	for _, r := range p.routers() {
		left = errors.Join(left, r.close())
	}
	return left
}

// endSession has a session ended, wherever it has arrived.
func (p *Process) endSession(who holder, reason subscriber.Reason) {
	for _, r := range p.routers() {
		if r.name == who.router {
			r.inbox.answer(subscriber.Disconnect{IDs: []subscriber.ID{who.id}, Reason: reason})
		}
	}
}

// open makes one virtual router's data plane.
func (p *Process) open(cfg *config.Config, r *router) error {
	data, err := p.kernel.Open(cfg, r.cfg(), r)
	r.failed(err)
	if err != nil {
		reason, text := reasonOf(err)
		r.log.Warn("virtual router cannot serve", zap.String("reason", string(reason)), zap.String("text", text))
		return fmt.Errorf("virtual router %s: %w", r.name, err)
	}
	r.data = data
	r.udp.Store(&data)
	return nil
}

// close removes what a router has in the kernel; its loop has ended.
func (r *router) close() error {
	if r.data == nil {
		return nil
	}
	if err := r.data.Close(); err != nil {
		return fmt.Errorf("virtual router %s: %w", r.name, err)
	}
	return nil
}

// begin starts the loop of a router that is open.
func (p *Process) begin(r *router) {
	var ctx context.Context
	ctx, r.cutOff = context.WithCancel(p.life.cut)
	p.life.loops.Go(func() { r.run(ctx) })
	p.shared.authority().live.Load().listen(p.life, r)
}

// serves tells the others that a router serves which did not: the static tunnels whose traffic it terminates can come up now.
func (p *Process) serves(r *router) {
	for _, o := range p.routers() {
		o.inbox.answer(terminatingServes{r.name})
	}
}

// serve runs the loops and ends them politely when ctx does. It returns what is left of the time
// for that.
func (p *Process) serve(ctx context.Context, ready func()) (left time.Duration) {
	cut, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	l := &life{ctx: ctx, cut: cut, keepers: map[*router]context.CancelFunc{}, retry: make(chan struct{}, 1)}
	p.changing <- struct{}{}
	p.life = l
	l.background.Go(func() { p.book.run(ctx) })
	l.background.Go(func() { p.keepCheckpoints(ctx) })
	defer l.background.Wait()
	for _, r := range p.routers() {
		p.keep(r)
		if r.data != nil {
			p.begin(r)
		}
	}
	if len(p.failed) > 0 {
		l.retry <- struct{}{}
	}
	<-p.changing
	if ready != nil {
		ready()
	}
	p.reopen(ctx)
	p.changing <- struct{}{} // a reload, which has seen the end of ctx too
	p.life = nil
	<-p.changing
	grace, began := p.cfg().Process.ShutdownTimeout, time.Now()
	p.log.Info("stopping", zap.Duration("within", grace))
	for _, r := range p.routers() {
		r.inbox.answer(stop{grace, subscriber.ReasonShutdown})
	}
	ended := make(chan struct{})
	go func() { l.loops.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(grace + time.Second):
		p.log.Warn("not everything ended in time; what is left is cut off")
		abort()
		<-ended
	}
	return grace - time.Since(began)
}

// reopen tries the virtual routers that could not be opened again until all serve, whenever there are any, and
// returns when ctx ends.
func (p *Process) reopen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.life.retry:
		}
		for pause := reopenFirst; ; pause = min(2*pause, reopenMax) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if p.reopenFailed(ctx) {
				break
			}
		}
	}
}

// reopenFailed tries each once, and says whether all serve.
func (p *Process) reopenFailed(ctx context.Context) bool {
	select {
	case p.changing <- struct{}{}:
		defer func() { <-p.changing }()
	case <-ctx.Done():
		return false
	}
	p.failed = slices.DeleteFunc(p.failed, func(r *router) bool {
		if p.open(p.cfg(), r) != nil {
			return false
		}
		r.log.Info("virtual router serves now")
		p.begin(r)
		p.serves(r)
		return true
	})
	return len(p.failed) == 0
}
