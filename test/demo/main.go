package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/test/daemon"
	"vrgate/test/topo"
)

// vmKernel is what the virtual machine boots unless told otherwise: the oldest that vrgate supports.
const vmKernel = "6.1"

// hostKernel means no machine, as test/vm has it.
const hostKernel = "host"

// timeLimit bounds the whole story; on a quiet machine it takes a minute and a half under emulation.
const timeLimit = 10 * time.Minute

// How much each client sends in each round, in MiB. Emulation carries some 7 MiB a second, all directions together.
const (
	sizeEmulated = 4
	sizeHost     = 64
)

// errTold is a failure of which everything has been printed; errClaims is one: something was not as told.
var (
	errTold   = errors.New("it has been told")
	errClaims = fmt.Errorf("not everything was as told: %w", errTold)
)

type options struct {
	kernel string
	size   int // MiB
	here   bool
	colour bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case interrupted:
		fmt.Fprintln(os.Stderr, "demo: interrupted")
		os.Exit(130)
	case errors.Is(err, errTold):
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.kernel, "kernel", "", "`kernel` to show it on: 6.1, 6.12, or host; empty: the host's if it can, else "+vmKernel)
	flags.IntVar(&o.size, "size", 0, "`MiB` that each client sends and gets back, twice; 0: what is a matter of seconds")
	flags.BoolVar(&o.here, "here", false, "tell the story in this very place, with the vrgate beside this program; needs root")
	flags.BoolVar(&o.colour, "colour", isTerminal(os.Stdout), "use colours")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 || o.size < 0 || o.size > 4096 {
		flags.Usage()
		return flag.ErrHelp
	}
	if o.here {
		if o.size == 0 {
			o.size = sizeEmulated
		}
		ctx, cancel := context.WithTimeout(ctx, timeLimit)
		defer cancel()
		return tell(ctx, &teller{out: os.Stdout, colour: o.colour}, o.size<<20)
	}
	if err := choosePlace(&o); err != nil {
		return err
	}
	return elsewhere(ctx, o)
}

// choosePlace decides whose kernel carries the packets, and says so.
func choosePlace(o *options) error {
	if o.kernel == "" {
		err := topo.Probe()
		var missing *topo.MissingError
		switch {
		case err == nil:
			fmt.Println("demo: this machine's own kernel has the whole data path: no virtual machine is needed")
			o.kernel = hostKernel
		case errors.As(err, &missing):
			fmt.Printf("demo: this machine's %v\n", missing)
			fmt.Printf("demo: so everything runs in a virtual machine with Debian's kernel %s\n", vmKernel)
			o.kernel = vmKernel
		default:
			return err
		}
	}
	if o.size == 0 {
		o.size = sizeEmulated
		if o.kernel == hostKernel {
			o.size = sizeHost
		}
	}
	return nil
}

// elsewhere builds the programs and has test/vm run this one again, where whatever it makes goes away with
// the machine or with its namespaces.
func elsewhere(ctx context.Context, o options) (err error) {
	bin, err := os.MkdirTemp("", "vrgate-demo-*")
	if err != nil {
		return err
	}
	defer func() {
		if rmErr := os.RemoveAll(bin); rmErr != nil {
			err = errors.Join(err, rmErr)
			fmt.Fprintln(os.Stderr, "demo: left behind:", rmErr)
		}
	}()
	in := func(name string) string { return filepath.Join(bin, name) }
	t := &teller{out: os.Stdout, colour: o.colour}
	err = t.doing("building vrgate, and the machine to show it on", func() error {
		for name, dir := range map[string]string{"vrgate": "./cmd/vrgate", "vm": "./test/vm", "demo": "./test/demo"} {
			build := child(ctx, "go", "build", "-trimpath", "-o", in(name), dir)
			// Static programs run on whatever the machine's Debian has for a C library.
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			build.Stdout, build.Stderr = os.Stderr, os.Stderr
			if err := build.Run(); err != nil {
				return fmt.Errorf("building %s: %w", dir, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	prepare := child(ctx, in("vm"), "-prepare")
	prepare.Stdout, prepare.Stderr = os.Stderr, os.Stderr
	if err := prepare.Run(); err != nil {
		return fmt.Errorf("preparing the Debian that the clients run on: %w", err)
	}
	if o.kernel != hostKernel {
		t.print(activity, t.paint(dim, "booting …"))
	}
	story := child(ctx, in("vm"), "-q", "-kernel", o.kernel, "-timeout", timeLimit.String(), "-share", bin,
		"-e", daemon.Binary+"="+in("vrgate"), "--",
		in("demo"), "-here", "-size", strconv.Itoa(o.size), "-colour="+strconv.FormatBool(o.colour))
	story.Stdout, story.Stderr = os.Stdout, os.Stderr
	err = story.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return errTold // by the story
	}
	return err
}

// child makes a command that ends when the context does: first asked, so that a virtual machine is taken
// down, then killed. A terminal's interrupt reaches only this process.
func child(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

// isTerminal says whether f is one, and whether it shall have colours: NO_COLOR is what many programs respect.
func isTerminal(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
