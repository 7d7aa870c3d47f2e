package controlplane

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/config"
)

// stubKernel opens virtual routers without anything behind them; those in refuse fail that
// many times first.
type stubKernel struct {
	refuse map[string]int
	closed atomic.Int32
}

type stubPlane struct {
	Dataplane // nothing but Close is called: nobody connects
	kernel    *stubKernel
}

func (p stubPlane) Close() error { p.kernel.closed.Add(1); return nil }

func (k *stubKernel) Open(_ *config.Config, r *config.Router, _ Inlet) (Dataplane, error) {
	if k.refuse[r.Name] > 0 {
		k.refuse[r.Name]--
		return nil, &DataplaneError{Reason: "no-namespace", Text: "the network namespace does not exist"}
	}
	return stubPlane{kernel: k}, nil
}

func stubProcess(t *testing.T, k *stubKernel) *Process {
	t.Helper()
	cfg := &config.Config{Process: config.Process{Workers: config.Workers{DH: 1, Kernel: 2}, ShutdownTimeout: time.Second}}
	for _, name := range []string{"good", "late"} {
		cfg.Routers = append(cfg.Routers, &config.Router{Name: name, Kind: config.KindNamespace, Proposals: config.ProposalCompatible})
	}
	p, err := New(cfg, k, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// states lists the virtual routers' states as show prints them.
func states(t *testing.T, p *Process) string {
	t.Helper()
	vrs, err := p.VRs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range vrs {
		s := v.Name + " " + v.State
		if v.Reason != "" {
			s += " (" + v.Reason + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// TestFailedRouterIsTriedAgain: a virtual router that cannot be opened keeps nobody else from
// serving, is shown with its reason, and serves once what was missing is there.
func TestFailedRouterIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &stubKernel{refuse: map[string]int{"late": 2}}
		p := stubProcess(t, k)
		if got := states(t, p); got != "good starting, late starting" {
			t.Errorf("before the start: %s", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ready := false
		done := make(chan error)
		go func() { done <- p.Run(ctx, func() { ready = true }) }()
		synctest.Wait()
		if got := states(t, p); !ready || got != "good up, late failed (no-namespace)" {
			t.Errorf("at the start: ready %v, %s", ready, got)
		}
		time.Sleep(reopenFirst + time.Second)
		if got := states(t, p); got != "good up, late failed (no-namespace)" {
			t.Errorf("after one more failure: %s", got)
		}
		time.Sleep(2 * reopenFirst)
		if got := states(t, p); got != "good up, late up" {
			t.Errorf("when it can be opened: %s", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := k.closed.Load(); n != 2 {
			t.Errorf("%d virtual routers closed, want 2", n)
		}
		if got := states(t, p); got != "good stopping, late stopping" {
			t.Errorf("after the end: %s", got)
		}
	})
}

// TestNoRouterServes: when none can be opened the daemon ends and says why, for each.
func TestNoRouterServes(t *testing.T) {
	k := &stubKernel{refuse: map[string]int{"good": 1, "late": 1}}
	err := stubProcess(t, k).Run(t.Context(), func() { t.Error("ready") })
	var d *DataplaneError
	if !errors.As(err, &d) || d.Reason != "no-namespace" || strings.Count(err.Error(), "virtual router") != 2 {
		t.Errorf("Run: %v", err)
	}
	if k.closed.Load() != 0 {
		t.Error("closed what was never opened")
	}
}
