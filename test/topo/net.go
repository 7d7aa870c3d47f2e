package topo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// netnsDir is where iproute2 keeps named network namespaces.
const netnsDir = "/run/netns"

// namePrefix begins the name of every namespace and directory of this package; the process identifier, a
// number and a dash follow.
const namePrefix = "vrtopo"

// instances numbers the Nets of this process.
var instances atomic.Int32

// Net is one network: an internet router to begin with, and whatever is added to it.
type Net struct {
	prefix string // of all names, such as vrtopo4711.1-
	dir    string // configuration, logs and private /run directories of daemons
	router *Namespace

	mu         sync.Mutex // guards what follows
	namespaces []*Namespace
	daemons    []*daemon
	closers    []io.Closer // sockets of servers in this process
	uplinks    int
	sites      int
	nats       int
	hosts      int
	intranets  int
	closed     bool
}

// New makes a network with nothing but its internet router. It first removes what a process that no longer
// lives has left. It needs root.
func New(ctx context.Context) (*Net, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("topo: needs root")
	}
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("topo: removing what a killed process left: %w", err)
	}
	n := &Net{prefix: fmt.Sprintf("%s%d.%d-", namePrefix, os.Getpid(), instances.Add(1))}
	var err error
	// Short, because it holds unix sockets, whose names end at 107 bytes.
	if n.dir, err = os.MkdirTemp("", n.prefix); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	if n.router, err = n.Namespace(ctx, "inet"); err == nil {
		err = n.router.Forward()
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Internet returns the router between uplinks and sites: the place to capture or drop outer packets.
func (n *Net) Internet() *Namespace { return n.router }

// Dir returns the directory of the network's files; it goes away with Close.
func (n *Net) Dir() string { return n.dir }

// Close stops all daemons, deletes every namespace with what is in it, and the files. It returns an error for
// each thing that is still there afterwards. Calling it again does nothing.
func (n *Net) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	daemons, namespaces, closers := n.daemons, n.namespaces, n.closers
	n.mu.Unlock()
	for _, c := range closers {
		_ = c.Close() // nothing is lost with it
	}

	var stopping sync.WaitGroup
	for _, d := range daemons {
		stopping.Go(d.kill)
	}
	stopping.Wait()
	// At once, for each waits for the kernel's grace periods rather than for the processor.
	errs := make([]error, len(namespaces))
	for i, ns := range namespaces {
		stopping.Go(func() { errs[i] = deleteNamespace(ns.name) })
	}
	stopping.Wait()
	errs = append(errs, os.RemoveAll(n.dir))
	left, err := leftovers(n.prefix)
	errs = append(errs, err)
	for _, l := range left {
		errs = append(errs, fmt.Errorf("topo: still there after Close: %s", l))
	}
	return errors.Join(errs...)
}

// leftovers lists the namespaces and directories with the given prefix.
func leftovers(prefix string) ([]string, error) {
	var left []string
	for _, dir := range []string{netnsDir, os.TempDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) {
				left = append(left, filepath.Join(dir, e.Name()))
			}
		}
	}
	return left, nil
}

// sweep removes what processes that are gone have left behind.
func sweep() error {
	left, err := leftovers(namePrefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range left {
		name := filepath.Base(path)
		owner, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), ".")
		pid, err := strconv.Atoi(owner)
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		if filepath.Dir(path) == netnsDir {
			errs = append(errs, deleteNamespace(name))
		} else {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// deleteNamespace kills every process in the namespace and deletes it. Its devices, SAs, rules and tunnels
// go with it, as soon as the last socket in it is closed.
func deleteNamespace(name string) error {
	for range 50 {
		pids, err := processesIn(name)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			if pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return netns.DeleteNamed(name)
}

// processesIn finds the processes whose first thread is in a namespace.
func processesIn(name string) (pids []int, err error) {
	var want, got syscall.Stat_t
	if err := syscall.Stat(filepath.Join(netnsDir, name), &want); err != nil {
		return nil, fmt.Errorf("topo: namespace %s: %w", name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || syscall.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &got) != nil {
			continue // no process, or not any more
		}
		if got.Dev == want.Dev && got.Ino == want.Ino {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
