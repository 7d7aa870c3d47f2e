package topo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pollFirst and pollLast are how often files and sockets of daemons are looked at: an eighth of the time that it
// has taken already, within these limits. Fine enough not to matter against that time, coarse enough for a dozen
// at once.
const (
	pollFirst = 50 * time.Millisecond
	pollLast  = 400 * time.Millisecond
)

// daemon is a running program with its children, in a namespace.
type daemon struct {
	name string
	log  string // file of its standard output and error
	cmd  *exec.Cmd

	once sync.Once
	done chan struct{} // closed when it has ended
	err  error         // valid once done is closed
}

// private is what a daemon sees instead of the host's own directories: directory of the host -> what is
// mounted over it, both existing.
type private map[string]string

// enter gives the calling thread, which must not be used for anything else afterwards, mounts of its own.
func (p private) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for at, from := range p {
		if err := unix.Mount(from, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", from, at, err)
		}
	}
	return nil
}

// start runs a program as a daemon in the namespace, with the private directories, its output in the file log.
func (n *Net) start(ns *Namespace, over private, env []string, log string, args ...string) (*daemon, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	d := &daemon{name: filepath.Base(args[0]), log: log, cmd: cmd, done: make(chan struct{})}
	err = ns.Do(func() error {
		if err := over.enter(); err != nil {
			return err
		}
		return start(cmd)
	})
	if err != nil {
		return nil, fmt.Errorf("topo: starting %s: %w", args[0], err)
	}
	go func() {
		d.err = cmd.Wait()
		close(d.done)
	}()
	n.mu.Lock()
	n.daemons = append(n.daemons, d)
	n.mu.Unlock()
	return d, nil
}

// kill ends the daemon and its process group at once, with no chance to say goodbye to anybody.
func (d *daemon) kill() {
	d.once.Do(func() { _ = unix.Kill(-d.cmd.Process.Pid, unix.SIGKILL) })
	<-d.done
}

// stop asks the daemon to end, and kills it after the given time.
func (d *daemon) stop(limit time.Duration) {
	select {
	case <-d.done:
		return
	default:
	}
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(limit):
		d.kill()
	}
}

// until waits for the condition, the daemon's end, or the context's.
func (d *daemon) until(ctx context.Context, what string, condition func() bool) error {
	start := time.Now()
	again := time.NewTimer(0)
	defer again.Stop()
	for !condition() {
		again.Reset(min(max(time.Since(start)/8, pollFirst), pollLast))
		select {
		case <-d.done:
			return fmt.Errorf("topo: %s ended (%w) before %s:\n%s", d.name, orNil(d.err), what, tailOf(d.log))
		case <-ctx.Done():
			return fmt.Errorf("topo: %s: %s: %w", d.name, what, ctx.Err())
		case <-again.C:
		}
	}
	return nil
}

var errEnded = errors.New("exit status 0")

func orNil(err error) error {
	if err == nil {
		return errEnded
	}
	return err
}

// wait waits for a started command, killing its group when the context ends.
func wait(ctx context.Context, cmd *exec.Cmd) error {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		<-done
		return ctx.Err()
	}
}

// tailOf returns the end of a file, for error messages.
func tailOf(path string) string {
	const limit = 2 << 10
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-limit):])
}
