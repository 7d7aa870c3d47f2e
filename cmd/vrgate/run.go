package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/store"
)

// controlPlane is what the daemon runs.
type controlPlane interface {
	// Source answers the control API. It may be asked before ready and while
	// stopping, and then answers with what there is.
	api.Source
	// Run brings all virtual routers up, calls ready, serves until ctx ends,
	// and then ends every session politely within the configured time.
	Run(ctx context.Context, ready func()) error
	// Plan says what taking over a configuration would change and end.
	Plan(context.Context, *config.Config) (api.Plan, error)
	// Reload takes it over while it runs.
	Reload(context.Context, *config.Config) (api.Plan, error)
}

// newControlPlane makes the control plane of a configuration on this machine's
// kernel. It touches nothing yet. The store stays open until it has run.
type newControlPlane func(*config.Config, *store.Store, *zap.Logger) (controlPlane, error)

func runCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Serve clients until told to stop",
		Long: "Serve clients until SIGTERM or SIGINT; then every session is ended politely.\n" +
			"SIGHUP takes over the configuration as vrgate reload does.\n" +
			"Needs root, or the capabilities of the systemd unit.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return run(c.Context(), *dir, c.ErrOrStderr(), newNotifier(os.Getenv), productionControlPlane)
		},
	}
}

// run is the daemon's life: configuration, lock, socket, control plane, and the
// way back. It returns when everything that it started has ended.
func run(ctx context.Context, dir string, stderr io.Writer, manager notifier, build newControlPlane) (err error) {
	defer func() {
		if err != nil {
			_ = manager.failed(err)
		}
	}()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	cfg, warnings, err := config.Load(dir)
	if err != nil {
		return err
	}
	log, level := newLogger(cfg.Process.Log, stderr)
	for _, w := range warnings {
		log.Warn(w.Message, zap.Stringer("at", w.Pos))
	}
	release, err := lockState(cfg.Process.StateDir)
	if err != nil {
		return err
	}
	defer release()

	access, err := api.AccessFor(cfg.Process.API.Group)
	if err != nil {
		return err
	}
	state, err := openState(cfg.Process.StateDir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	plane, err := build(cfg, state, log)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Process.API.Socket), 0o755); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	socket, err := access.Listen(cfg.Process.API.Socket)
	if err != nil {
		return err
	}
	server := api.NewServer(plane, access, versionText(), log.Named("api"))
	reload := &reloader{dir: dir, plane: plane, manager: manager, log: log, level: level, status: api.ReloadStatus{Last: time.Now()}}
	server.ServeReloads(reload)

	// The socket answers as long as the control plane lives, so that its end
	// can be watched too; hence the order of contexts.
	apiCtx, stopAPI := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAPI()
	serving := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		defer stopAPI()
		return serve(ctx, plane, manager, log, func() {
			log.Info("serving", zap.String("version", versionText()), zap.Int("virtual_routers", len(cfg.Routers)))
			close(serving)
		})
	})
	g.Go(func() error { return server.Run(apiCtx, socket) })
	g.Go(func() error {
		select {
		case <-serving:
			reload.onSignal(apiCtx, hangups)
		case <-apiCtx.Done():
		}
		return nil
	})
	g.Go(func() error {
		// The manager watches from readiness until it has been told of the end.
		select {
		case <-serving:
		case <-apiCtx.Done():
			return nil
		}
		watch, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(apiCtx, stop)()
		manager.runWatchdog(watch, func(ctx context.Context) error {
			_, err := plane.VRs(ctx)
			return err
		}, func(err error) { log.Warn("watchdog not fed", zap.Error(err)) })
		return nil
	})
	err = g.Wait()
	log.Info("stopped", zap.Error(err))
	return err
}

// serve runs the control plane and tells the service manager how it goes; ready
// is called when all virtual routers are up.
func serve(ctx context.Context, plane controlPlane, manager notifier, log *zap.Logger, ready func()) error {
	tell := func(err error) {
		if err != nil {
			log.Warn("service manager not told", zap.Error(err))
		}
	}
	// The beginning of the end is told at once, and serve waits for that.
	told := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(told)
		tell(manager.stopping())
	})
	err := plane.Run(ctx, func() {
		ready()
		tell(manager.ready("serving"))
	})
	switch {
	case !unregister():
		<-told
	case ctx.Err() != nil:
		// Run saw the end before the function above was started, which now it never will be.
		tell(manager.stopping())
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// openState opens what survives the daemon: leases and accounting records that no server has yet.
func openState(dir string, log *zap.Logger) (*store.Store, error) {
	state, err := store.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if aside := state.MovedAside(); aside != "" {
		log.Error("the state file is damaged: it was moved aside, and the leases and accounting records in it are lost to this daemon", zap.String("file", aside))
	}
	return state, nil
}
