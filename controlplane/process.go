package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/config"
	"vrgate/controlplane/store"
	"vrgate/controlplane/subscriber"
)

// Process runs every virtual router of one configuration.
type Process struct {
	cfg     *config.Config
	kernel  Kernel
	log     *zap.Logger
	store   *store.Store
	book    *leaseBook
	shared  *shared
	routers []*router
}

// New prepares a process. Nothing in the kernel or in the store, which must stay open until Run
// has returned, is touched before Run. The error is a *CertificateError if certificates cannot be
// used, or [config.Errors].
func New(cfg *config.Config, kernel Kernel, st *store.Store, log *zap.Logger) (*Process, error) {
	l, err := newLeases(cfg)
	if err != nil {
		return nil, err
	}
	certs, err := loadCertificates(cfg, time.Now())
	if err != nil {
		return nil, err
	}
	a, err := newAuthority(cfg)
	if err != nil {
		return nil, err
	}
	p := &Process{cfg: cfg, kernel: kernel, log: log, store: st, shared: &shared{leases: l, authority: a}}
	l.log, l.end, p.book = log, p.endSession, newLeaseBook(l, st, log)
	for i, r := range cfg.Routers {
		built, err := buildRouter(cfg, r, certs[i])
		if err != nil {
			return nil, err
		}
		p.routers = append(p.routers, newRouter(r, built, p.shared, knownPolicies{a.service.For(r.Name), a, r, log}, certs[i], log, nil))
	}
	return p, nil
}

// Pauses before a virtual router that could not be opened is tried again: its addresses may
// come later at boot, or an operator may just have mended what the log complained about.
const (
	reopenFirst = 5 * time.Second
	reopenMax   = time.Minute
)

// Run opens all virtual routers, calls ready, and serves until ctx ends; then every
// session, tunnel and connection is ended politely within the configured shutdown timeout
// and everything of ours is removed from the kernel.
//
// A virtual router that cannot be opened does not keep the others from serving: it is shown
// as failed and tried again. When none can be opened the error says why.
func (p *Process) Run(ctx context.Context, ready func()) error {
	p.shared.kernel = newWorkers(p.cfg.Process.Workers.Kernel)
	p.shared.admission = newAdmission(p.cfg.Process.Admission)
	p.shared.cpu = newCPUPool(p.cfg.Process.Workers.DH)
	defer p.shared.cpu.close()
	defer p.shared.admission.close()
	defer p.shared.kernel.close()
	if err := p.shared.authority.start(p); err != nil {
		return err
	}
	if err := p.book.restore(); err != nil {
		p.log.Warn("users may get other addresses than before the restart", zap.Error(err))
	}

	var failed []*router
	var errs error
	for _, r := range p.routers {
		if err := p.open(r); err != nil {
			failed, errs = append(failed, r), errors.Join(errs, err)
		}
	}
	if len(failed) == len(p.routers) {
		p.shared.authority.stop(0, p.log)
		return errs
	}
	p.shared.authority.begin()
	within := p.serve(ctx, failed, ready)
	p.shared.authority.end()
	p.shared.authority.stop(within, p.log)
	var left error
	for _, r := range p.routers {
		if r.data == nil {
			continue
		}
		if err := r.data.Close(); err != nil {
			left = errors.Join(left, fmt.Errorf("virtual router %s: %w", r.name, err))
		}
	}
	return left
}

// endSession has a session ended, wherever it has arrived.
func (p *Process) endSession(who holder, reason subscriber.Reason) {
	for _, r := range p.routers {
		if r.name == who.router {
			r.inbox.answer(subscriber.Disconnect{IDs: []subscriber.ID{who.id}, Reason: reason})
		}
	}
}

// open makes one virtual router's data plane.
func (p *Process) open(r *router) error {
	data, err := p.kernel.Open(p.cfg, r.cfg, r)
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

// serve runs the loops and ends them politely when ctx does. It returns what is left of the time
// for that.
func (p *Process) serve(ctx context.Context, failed []*router, ready func()) (left time.Duration) {
	run, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var loops, background sync.WaitGroup
	background.Go(func() { p.keepCertificates(ctx) })
	background.Go(func() { p.book.run(ctx) })
	live := p.shared.authority.live.Load()
	background.Go(func() { p.keepCheckpoints(ctx, live.journal) })
	defer background.Wait()
	begin := func(r *router) {
		loops.Go(func() { r.run(run) })
		if server := live.servers[r.name]; server != nil {
			_, addresses := buildCoA(r.cfg)
			for _, a := range addresses {
				background.Go(func() { r.serveCoA(ctx, server, a) })
			}
		}
	}
	for _, r := range p.routers {
		if r.data != nil {
			begin(r)
		}
	}
	if ready != nil {
		ready()
	}
	p.reopen(ctx, failed, begin)
	grace, began := p.cfg.Process.ShutdownTimeout, time.Now()
	p.log.Info("stopping", zap.Duration("within", grace))
	for _, r := range p.routers {
		r.inbox.answer(stop{grace})
	}
	ended := make(chan struct{})
	go func() { loops.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(grace + time.Second):
		p.log.Warn("not everything ended in time; what is left is cut off")
		abort()
		<-ended
	}
	return grace - time.Since(began)
}

// reopen tries those that failed again until all serve, and returns when ctx ends.
func (p *Process) reopen(ctx context.Context, failed []*router, start func(*router)) {
	for pause := reopenFirst; len(failed) > 0; pause = min(2*pause, reopenMax) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		failed = slices.DeleteFunc(failed, func(r *router) bool {
			if p.open(r) != nil {
				return false
			}
			r.log.Info("virtual router serves now")
			start(r)
			return true
		})
	}
	<-ctx.Done()
}
