package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"vrgate/controlplane"
	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
)

// reloader has a control plane take over the configuration directory again.
type reloader struct {
	dir     string
	plane   controlPlane
	manager notifier
	log     *zap.Logger
	level   zap.AtomicLevel

	// one keeps reloads, and what the manager is told of them, apart.
	one    sync.Mutex
	mu     sync.Mutex // for status
	status api.ReloadStatus
}

// Reloads implements [api.Reloader].
func (r *reloader) Reloads() api.ReloadStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Diff implements [api.Reloader].
func (r *reloader) Diff(ctx context.Context) (api.Plan, error) {
	cfg, _, err := config.Load(r.dir)
	if err != nil {
		return api.Plan{}, refusal(err)
	}
	plan, err := r.plane.Plan(ctx, cfg)
	if err != nil {
		return api.Plan{}, refusal(err)
	}
	return plan, nil
}

// Reload implements [api.Reloader].
func (r *reloader) Reload(ctx context.Context) (api.Plan, error) {
	r.one.Lock()
	defer r.one.Unlock()
	r.tell(r.manager.reloading())
	plan, err := r.reload(ctx)
	r.mu.Lock()
	if err == nil {
		r.status.Succeeded++
		r.status.Last = time.Now()
	} else {
		r.status.Failed++
	}
	r.mu.Unlock()
	if err == nil {
		r.tell(r.manager.ready("serving"))
		return plan, nil
	}
	mistakes := []string{err.Error()}
	var e *api.Error
	if errors.As(err, &e) && len(e.Mistakes) > 0 {
		mistakes = e.Mistakes
	}
	for _, m := range mistakes {
		r.log.Error("configuration not taken over", zap.String("mistake", m))
	}
	r.tell(r.manager.ready("serving; the last reload failed: " + firstLine(mistakes[0])))
	return api.Plan{}, err
}

func (r *reloader) reload(ctx context.Context) (api.Plan, error) {
	cfg, warnings, err := config.Load(r.dir)
	if err != nil {
		return api.Plan{}, refusal(err)
	}
	for _, w := range warnings {
		r.log.Warn(w.Message, zap.Stringer("at", w.Pos))
	}
	plan, err := r.plane.Reload(ctx, cfg)
	if err != nil {
		return api.Plan{}, refusal(err)
	}
	r.level.SetLevel(levels[cfg.Process.Log.Level])
	return plan, nil
}

func (r *reloader) tell(err error) {
	if err != nil {
		r.log.Warn("service manager not told", zap.Error(err))
	}
}

// refusal is the API's answer to a reload that failed. Whatever is wrong with a configuration comes as lines.
func refusal(err error) error {
	switch {
	case errors.Is(err, controlplane.ErrNotServing), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return api.NewConfigurationError(strings.Split(err.Error(), "\n"))
}

// onSignal reloads whenever a signal comes, until ctx ends. One that comes meanwhile is kept, more are the same.
func (r *reloader) onSignal(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			_, _ = r.Reload(ctx) // which has said why
		}
	}
}

func reloadCommand(dir *string) *cobra.Command {
	ask := &asking{dir: dir}
	c := &cobra.Command{
		Use:   "reload [--dry-run]",
		Short: "Take over the configuration while serving",
		Long: "Have the running daemon read its configuration again and take it over. Profiles\n" +
			"that were removed or changed end their tunnels and sessions; everything else goes\n" +
			"on, packets included. If there is any mistake nothing is changed, all mistakes are\n" +
			"printed, and the status is 1. The same happens on SIGHUP, with the log in place of\n" +
			"the output. With --dry-run only say what would be done.",
		Args: noArgs,
	}
	ask.flags(c)
	dry := c.Flags().Bool("dry-run", false, "change nothing, only say what would be done")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *dry {
			return planned(c, ask, (*api.Client).Diff)
		}
		return planned(c, ask, (*api.Client).Reload)
	}
	return c
}

func diffCommand(dir *string) *cobra.Command {
	ask := &asking{dir: dir}
	c := &cobra.Command{
		Use:   "diff",
		Short: "Say what a reload would change and end",
		Long: "Ask the running daemon what of its configuration has changed, and how many\n" +
			"connections, tunnels, sessions and subscribers a reload would end. Nothing is\n" +
			"changed. Without a daemon there is nothing to compare with; see vrgate check.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return planned(c, ask, (*api.Client).Diff) },
	}
	ask.flags(c)
	return c
}

// planned prints what the daemon says about a reload.
func planned(c *cobra.Command, ask *asking, get func(*api.Client, context.Context) (api.Plan, error)) error {
	var plan api.Plan
	client, err := ask.client()
	switch bad := (config.Errors)(nil); {
	case err == nil:
		plan, err = get(client, c.Context())
	case errors.As(err, &bad): // so the daemon cannot be found, but would only say the same
		if _, _, all := config.Load(*ask.dir); all != nil {
			err = refusal(all)
		}
	}
	var bad *api.Error
	if errors.As(err, &bad) && bad.Reason == api.ReasonBadConfiguration {
		for _, m := range bad.Mistakes {
			fmt.Fprintln(c.ErrOrStderr(), m)
		}
	}
	if err != nil {
		return err
	}
	if ask.json {
		err = writeJSON(c.OutOrStdout(), plan)
	} else {
		err = planTables(c.OutOrStdout(), &plan)
	}
	if err == nil && len(plan.Failed) > 0 {
		return fmt.Errorf("%s could not take over the configuration", plural(len(plan.Failed), "virtual router"))
	}
	return err
}

// planTables prints what changes, what ends for it, and what else there is to say.
func planTables(w io.Writer, p *api.Plan) error {
	if p.Empty() && len(p.Failed) == 0 {
		_, err := fmt.Fprintln(w, "nothing changes")
		return err
	}
	if len(p.Changes) > 0 {
		t := newTable(w, "VR", "CHANGE", "WHAT", "SETTINGS")
		for i := range p.Changes {
			x := &p.Changes[i]
			t.row(x.VR, x.Change, x.What, strings.Join(x.Settings, " "))
		}
		if err := t.end(); err != nil {
			return err
		}
	}
	would := "would end"
	if p.Applied {
		would = "ended"
	}
	if len(p.Drops) > 0 {
		fmt.Fprintln(w)
		t := newTable(w, "VR", "ENDS", "REASON", "IPSEC", "TUNNELS", "SESSIONS", "SUBSCRIBERS")
		for i := range p.Drops {
			d := &p.Drops[i]
			t.row(d.VR, d.What, d.Reason, strconv.Itoa(d.Connections), strconv.Itoa(d.Tunnels), strconv.Itoa(d.Sessions), strconv.Itoa(d.Subscribers))
		}
		if err := t.end(); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	for _, f := range p.Failed {
		fmt.Fprintf(w, "virtual router %s failed: %s: %s\n", f.VR, f.Reason, printable(f.Text))
	}
	if len(p.Restart) > 0 {
		fmt.Fprintf(w, "only after a restart: %s\n", strings.Join(p.Restart, ", "))
	}
	d := p.Dropped
	_, err := fmt.Fprintf(w, "%s %s, %s, %s, %s\n", would, plural(d.Connections, "IPsec connection"), plural(d.Tunnels, "tunnel"), plural(d.Sessions, "session"), plural(d.Subscribers, "subscriber"))
	return err
}
