package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// staticcheck is run by version from its module, so that it needs no place in go.mod.
const staticcheck = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"

// checks are the programs that judge the source without running it. Those with mute must print nothing.
var checks = []struct {
	name string
	mute bool
	args []string
}{
	{name: "gofmt", mute: true, args: []string{"gofmt", "-l", "."}},
	{name: "go vet", args: []string{"go", "vet", "./..."}},
	{name: "go vet, kernel tests", args: []string{"go", "vet", "-tags", kernelTag, "./..."}},
	{name: "staticcheck", args: []string{"go", "run", staticcheck, "-tags", kernelTag, "./..."}},
}

// runChecks runs every check, one after the other: each uses all processors.
func runChecks(ctx context.Context, r *results) {
	for _, c := range checks {
		r.printf("runner: %s", strings.Join(c.args, " "))
		start := time.Now()
		var out bytes.Buffer
		cmd := groupCommand(ctx, c.args[0], c.args[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if err == nil && c.mute && out.Len() > 0 {
			err = errors.New("should print nothing")
		}
		r.add(testKey{environment: "host", test: "check " + c.name}, err, time.Since(start), out.String())
	}
}

// runUnit runs every package's ordinary tests under the race detector.
func runUnit(ctx context.Context, r *results, packages []string, run string) {
	if len(packages) == 0 {
		return
	}
	args := []string{"test", "-race", "-json", "-timeout", "15m"}
	if run != "" {
		args = append(args, "-run", run)
	}
	r.printf("runner: go %s, %d packages", strings.Join(args, " "), len(packages))
	cmd := groupCommand(ctx, "go", append(args, packages...)...)
	if err := stream(cmd, r, "host"); err != nil {
		r.add(testKey{environment: "host", test: "go test"}, err, 0, "")
	}
}

// stream runs a command whose standard output is test2json's. A command that fails without having told of a
// failed test is an error, and so is one that fails otherwise than because of tests.
func stream(cmd *exec.Cmd, r *results, environment string) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	failed, readErr := r.read(out, environment)
	err = cmd.Wait()
	var exit *exec.ExitError
	if failed && errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil // it has been told
	}
	if err = errors.Join(readErr, err); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[:min(2, len(cmd.Args))], " "), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// groupCommand makes a command that ends with its children when the context does: first asked, so that a
// virtual machine is taken down, then killed.
func groupCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
