package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed direct.sh
var directScript string

// hostKernel is the -kernel value that means no virtual machine.
const hostKernel = "host"

// direct runs one command on the host's own kernel, in namespaces of its own and on the image's root: the
// foreign clients come from the image, and nothing is installed or changed on the host.
type direct struct {
	image       image
	timeout     time.Duration
	shares      []string
	environment []string
	command     []string
	stdout      io.Writer
	stderr      io.Writer
}

// run runs the command. Its errors are those of machine.run.
func (d *direct) run(ctx context.Context, base string) error {
	if os.Geteuid() != 0 {
		return errors.New("running on the host's kernel needs root")
	}
	runtime.LockOSThread() // as in machine.run
	defer runtime.UnlockOSThread()

	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, fmt.Errorf("%w after %v", errTimeout, d.timeout))
	defer cancel()
	dir, done, err := scratch(ctx, base)
	if err != nil {
		return err
	}
	defer done()
	command := filepath.Join(dir, "command")
	if err := os.WriteFile(command, []byte(commandScript(d.environment, d.shares[0], d.command)), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", directScript, "direct", dir, d.image.root()}, d.shares...)...)
	cmd.SysProcAttr = ownGroup()
	// The first process of a process namespace takes all others with it; the mounts and network devices go
	// with their namespaces.
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Exited() {
			return exitError(status.ExitStatus())
		}
	}
	return err
}

// commandScript returns the shell script that runs the command in a directory, with additions to its environment.
func commandScript(environment []string, dir string, command []string) string {
	var b strings.Builder
	for _, e := range environment {
		name, value, _ := strings.Cut(e, "=")
		fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
	}
	fmt.Fprintf(&b, "cd %s || exit %d\nexec", quote(dir), statusFailed)
	for _, arg := range command {
		b.WriteString(" " + quote(arg))
	}
	return b.String() + "\n"
}
