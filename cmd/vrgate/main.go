package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
)

// defaultConfigDir is where a packaged vrgate keeps its configuration.
const defaultConfigDir = "/etc/vrgate"

// Exit statuses; systemd does not restart after exitConfig and exitRunning
// (RestartPreventExitStatus), because trying again would not help.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitConfig  = 3
	exitRunning = 4
)

// version is set by the linker; without it the module's version is shown.
var version string

func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return info.Main.Version + " (" + s.Value[:12] + ")"
		}
	}
	return info.Main.Version
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// execute runs one command line and returns the exit status.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var bad config.Errors
	var usage *usageError
	var running *alreadyRunningError
	var certificates *controlplane.CertificateError
	switch {
	case errors.As(err, &bad):
		// One line per mistake, in the form that editors jump to.
		fmt.Fprintln(stderr, bad)
		fmt.Fprintf(stderr, "vrgate: the configuration has %s; nothing has been applied\n", plural(len(bad), "mistake"))
		return exitConfig
	case errors.As(err, &certificates):
		fmt.Fprintln(stderr, certificates)
		fmt.Fprintln(stderr, "vrgate: the configuration has certificates that cannot be used; nothing has been applied")
		return exitConfig
	case errors.As(err, &running):
		fmt.Fprintln(stderr, "vrgate:", err)
		return exitRunning
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "vrgate:", err)
		return exitUsage
	}
	fmt.Fprintln(stderr, "vrgate:", err)
	return exitFailed
}

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// command builds the command tree.
func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "vrgate",
		Short:         "VPN concentrator: L2TP/IPsec for virtual routers, with the traffic in the kernel",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	configDir := root.PersistentFlags().StringP("config", "c", defaultConfigDir, "configuration `directory`")
	root.AddCommand(
		runCommand(configDir), checkCommand(configDir), reloadCommand(configDir), diffCommand(configDir), showCommand(configDir),
		explainCommand(configDir), disconnectCommand(configDir), l2tpCommand(configDir), tunnelCommand(configDir),
		schemaCommand(), versionCommand(),
	)
	return root
}

// noArgs refuses arguments with the usage exit status.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{fmt.Errorf("unknown argument %q for %q; see %s --help", args[0], c.CommandPath(), c.CommandPath())}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "vrgate", versionText())
			return err
		},
	}
}

func schemaCommand() *cobra.Command {
	c := &cobra.Command{
		Use:       "schema {process|router}",
		Short:     "Print the JSON schema of vrgate.yaml (process) or of a virtual router's file (router)",
		ValidArgs: []string{"process", "router"},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != "process" && args[0] != "router" {
				return &usageError{errors.New("say which schema: vrgate schema process, or vrgate schema router")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			schema := config.ProcessSchema()
			if args[0] == "router" {
				schema = config.RouterSchema()
			}
			_, err := c.OutOrStdout().Write(schema)
			return err
		},
	}
	return c
}

func checkCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check a configuration without touching anything",
		Long: "Check a configuration directory and report every mistake as file:line:column;\n" +
			"then read the certificates, keys and revocation lists that it names.\n" +
			"Warnings do not make the check fail. Nothing in the system is changed, and no\n" +
			"daemon needs to run.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(*dir, c.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := controlplane.CheckTerminateCodes(cfg); err != nil {
				return err
			}
			warnings, err := controlplane.CheckCertificates(cfg, time.Now())
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintln(c.ErrOrStderr(), w)
			}
			users := 0
			for _, r := range cfg.Routers {
				users += len(r.Users)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "the configuration is good: %s, %s\n",
				plural(len(cfg.Routers), "virtual router"), plural(users, "local user"))
			return err
		},
	}
}

// loadConfig reads the configuration and prints its warnings.
func loadConfig(dir string, stderr io.Writer) (*config.Config, error) {
	cfg, warnings, err := config.Load(dir)
	for _, w := range warnings {
		fmt.Fprintf(stderr, "%v: warning: %s\n", w.Pos, w.Message)
	}
	return cfg, err
}
