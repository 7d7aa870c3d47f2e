package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"vrgate/controlplane/config"
	"vrgate/controlplane/keymat"
)

// options are the command line's.
type options struct {
	kernel  string
	inside  bool
	clients int
	warm    int
	window  int
	many    int
	rounds  int
	group   string

	sessions, profiles int
}

// groups are the names of -group, as strongSwan has them.
var groups = map[string]keymat.Group{
	"modp1024": keymat.MODP1024, "modp1536": keymat.MODP1536, "modp2048": keymat.MODP2048,
	"ecp256": keymat.ECP256, "ecp384": keymat.ECP384, "curve25519": keymat.Curve25519,
}

var parts = []string{"engine", "memory", "access", "reload", "setup"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.kernel, "kernel", "", "kernel `version` for the set-ups: 6.1, 6.12 or host; empty: the host's if it can, else 6.12")
	flags.IntVar(&o.clients, "clients", 100, "clients that are measured, each against both servers; xl2tpd gives up between 350 and 400")
	flags.IntVar(&o.warm, "warm", 20, "clients that connect before, to get what a server does only once out of the way")
	flags.IntVar(&o.window, "window", 32, "clients that connect at a time")
	flags.IntVar(&o.many, "many", 400, "clients of a further run against vrgate alone; 0: none")
	flags.IntVar(&o.rounds, "rounds", 2, "how often both servers are measured, in turns; the round counts in which the machine had least else to do")
	flags.StringVar(&o.group, "group", "modp2048", "Diffie-Hellman group of the clients: modp1024, modp1536, modp2048, ecp256, ecp384, curve25519")
	flags.IntVar(&o.sessions, "sessions", 500, "sessions that carry traffic while the configuration is reloaded")
	flags.IntVar(&o.profiles, "profiles", 4000, "destination profiles of that configuration, 3 to 4000")
	flags.BoolVar(&o.inside, "inside", false, "run the set-ups, or the part reload, here and print what was measured as JSON; what the test machine is told")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if groups[o.group] == 0 {
		return fmt.Errorf("no group %q", o.group)
	}
	if o.clients < 1 || o.warm < 0 || o.window < 1 || o.many < 0 || max(o.clients+o.warm, o.many) > maxClients {
		return fmt.Errorf("clients must be 1 to %d, at least one at a time", maxClients)
	}
	if o.rounds < 1 {
		return fmt.Errorf("no rounds")
	}
	if o.sessions < 2 || o.sessions > maxClients || o.profiles < 3 || o.profiles > config.MaxDestinationProfiles {
		return fmt.Errorf("2 to %d sessions and 3 to %d profiles", maxClients, config.MaxDestinationProfiles)
	}
	wanted := flags.Args()
	switch {
	case o.inside && slices.Equal(wanted, []string{"reload"}):
		return insideReload(ctx, o, os.Stdout)
	case o.inside:
		return inside(ctx, o, os.Stdout)
	}
	if len(wanted) == 0 {
		wanted = parts
	}
	for _, p := range wanted {
		if !slices.Contains(parts, p) {
			return fmt.Errorf("no part %q; there are %v", p, parts)
		}
	}
	do := map[string]func() error{
		"engine": func() error { return engine(ctx, os.Stdout) },
		"memory": func() error { return memory(ctx, os.Stdout) },
		"access": func() error { return access(ctx, o, os.Stdout) },
		"reload": func() error { return reload(ctx, o, os.Stdout) },
		"setup":  func() error { return setup(ctx, o, os.Stdout) },
	}
	for _, p := range parts {
		if slices.Contains(wanted, p) {
			if err := do[p](); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
	}
	return nil
}

// say tells on standard error what takes long.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
