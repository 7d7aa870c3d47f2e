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
)

// aaaWorkers bounds how many authentications are decided at once. Local users need a few;
// a method that waits for a server needs many.
const aaaWorkers = 64

// Process runs every virtual router of one configuration.
type Process struct {
	cfg     *config.Config
	kernel  Kernel
	log     *zap.Logger
	shared  *shared
	routers []*router
	started time.Time
}

// New prepares a process. Nothing in the kernel is touched before Run.
func New(cfg *config.Config, kernel Kernel, log *zap.Logger) (*Process, error) {
	l, err := newLeases(cfg)
	if err != nil {
		return nil, err
	}
	p := &Process{cfg: cfg, kernel: kernel, log: log, shared: &shared{leases: l}}
	for _, r := range cfg.Routers {
		built, err := buildRouter(cfg, r)
		if err != nil {
			return nil, err
		}
		p.routers = append(p.routers, newRouter(r.Name, built, p.shared, buildUsers(r), log, nil))
	}
	return p, nil
}

// Run opens all virtual routers, calls ready, and serves until ctx ends; then every
// session, tunnel and connection is ended politely within the configured shutdown timeout
// and everything of ours is removed from the kernel. When a virtual router cannot be opened
// those opened before are closed and the error says which and why.
func (p *Process) Run(ctx context.Context, ready func()) error {
	p.started = time.Now()
	p.shared.kernel = newWorkers(p.cfg.Process.Workers.Kernel)
	p.shared.aaa = newWorkers(aaaWorkers)
	p.shared.dh = newDHPool(p.cfg.Process.Workers.DH)
	defer p.shared.dh.close()
	defer p.shared.aaa.close()
	defer p.shared.kernel.close()

	var failed error
	opened := 0
	for i, r := range p.routers {
		data, err := p.kernel.Open(p.cfg, p.cfg.Routers[i], r)
		if err != nil {
			failed = fmt.Errorf("virtual router %s: %w", r.name, err)
			break
		}
		r.data = data
		opened++
	}
	if failed == nil {
		p.serve(ctx, ready)
	}
	// Backwards: a terminating router was opened before those that end subscribers in it
	// only by chance, but its objects may hold theirs.
	for _, r := range slices.Backward(p.routers[:opened]) {
		if err := r.data.Close(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("virtual router %s: %w", r.name, err))
		}
	}
	return failed
}

// serve runs the loops and ends them politely when ctx does.
func (p *Process) serve(ctx context.Context, ready func()) {
	run, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var loops sync.WaitGroup
	for _, r := range p.routers {
		loops.Go(func() { r.run(run) })
	}
	if ready != nil {
		ready()
	}
	<-ctx.Done()
	grace := p.cfg.Process.ShutdownTimeout
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
}
