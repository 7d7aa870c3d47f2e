package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// statusFailed is the exit status when the machine, not the command in it, failed; statusTimeout when the
// command was still running at its time limit, both as timeout(1) and env(1) have them; statusFrozen when the
// emulator stood still, which says nothing about the command.
const (
	statusFailed  = 125
	statusTimeout = 124
	statusFrozen  = 123
)

// list is a flag that can be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func main() {
	os.Exit(run(os.Args[1:]))
}

// run is main with its exit status as a value, so that deferred clean-up happens.
func run(args []string) int {
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	var shares, environment list
	version := flags.String("kernel", "6.1", "kernel `version` to boot, by the beginning of its release: 6.1 or 6.12; or host: no machine, the host's own kernel")
	memory := flags.Int("mem", 2048, "memory of the machine in `MiB`")
	cpus := flags.Int("cpus", 1, "virtual `processors`")
	timeout := flags.Duration("timeout", 10*time.Minute, "time limit for boot and command")
	quiet := flags.Bool("q", false, "print only what the command prints")
	console := flags.Bool("console", false, "copy the kernel's console to standard error")
	prepare := flags.Bool("prepare", false, "only build the image if it is missing, then stop")
	flags.Var(&shares, "share", "`directory` of the host to mount at the same path inside; repeatable, the first is the working directory (default: the current one)")
	flags.Var(&environment, "e", "environment for the command: `NAME=VALUE`, or NAME to pass the current value; repeatable")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: vm [flags] [--] command [argument ...]")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() == 0 && !*prepare {
		flags.Usage()
		return 2
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, orphaned := context.WithCancel(ctx)
	defer orphaned()
	go watchParent(ctx, orphaned)

	err := func() error {
		cache, err := cacheDir()
		if err != nil {
			return err
		}
		img, err := openImage(ctx, cache, os.Stderr)
		if err != nil || *prepare {
			return err
		}
		resolved, err := resolveShares(shares, flags.Arg(0))
		if err != nil {
			return err
		}
		for i, e := range environment {
			if !strings.Contains(e, "=") {
				environment[i] = e + "=" + os.Getenv(e)
			}
		}
		runs := filepath.Join(cache, "run")
		if *version == hostKernel {
			d := direct{
				image: img, timeout: *timeout, shares: resolved, environment: environment,
				command: flags.Args(), stdout: os.Stdout, stderr: os.Stderr,
			}
			return d.run(ctx, runs)
		}
		k, err := img.kernel(*version)
		if err != nil {
			return err
		}
		m := machine{
			image: img, kernel: k, memory: *memory, cpus: *cpus, timeout: *timeout, shares: resolved,
			environment: environment, command: flags.Args(), stdout: os.Stdout, stderr: os.Stderr,
		}
		if *console {
			m.console = os.Stderr
		}
		if !*quiet {
			m.log = os.Stderr
		}
		return m.run(ctx, runs)
	}()

	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, errFrozen):
		fmt.Fprintln(os.Stderr, "vm:", err)
		return statusFrozen
	case errors.Is(err, errTimeout):
		fmt.Fprintln(os.Stderr, "vm:", err)
		return statusTimeout
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "vm: interrupted")
		return 130
	}
	fmt.Fprintln(os.Stderr, "vm:", err)
	return statusFailed
}

// watchParent calls orphaned when this process gets another parent: go run, make or a test that started the
// machine was killed, and nobody wants its result any more.
func watchParent(ctx context.Context, orphaned func()) {
	parent := os.Getppid()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if os.Getppid() != parent {
				orphaned()
				return
			}
		}
	}
}

// resolveShares makes the shares absolute and refuses what would hide the guest's own system. Without any, it
// is the working directory and, for `go test -exec`, the directory of the command.
func resolveShares(shares []string, command string) ([]string, error) {
	if len(shares) == 0 {
		shares = append(shares, ".")
		if filepath.IsAbs(command) {
			if _, err := os.Stat(command); err == nil && !inSystem(filepath.Dir(command)) {
				shares = append(shares, filepath.Dir(command))
			}
		}
	}
	var resolved []string
	for _, s := range shares {
		abs, err := filepath.Abs(s)
		if err != nil {
			return nil, err
		}
		if st, err := os.Stat(abs); err != nil {
			return nil, fmt.Errorf("share: %w", err)
		} else if !st.IsDir() {
			return nil, fmt.Errorf("share %s: not a directory", abs)
		}
		if inSystem(abs) {
			return nil, fmt.Errorf("share %s: would hide the machine's own system", abs)
		}
		if strings.ContainsAny(abs, ",\n") {
			return nil, fmt.Errorf("share %s: QEMU cannot take a comma in a path", abs)
		}
		resolved = append(resolved, abs)
	}
	return resolved, nil
}

// inSystem says whether the path is, or is part of, a directory that the guest's root needs for itself.
func inSystem(path string) bool {
	switch path {
	case "/", "/tmp", "/var", "/root", "/home":
		return path != "/root" && path != "/home"
	}
	top, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch top {
	case "bin", "boot", "control", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr":
		return true
	}
	return false
}
