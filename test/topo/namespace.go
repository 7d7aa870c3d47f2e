package topo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"vrgate/test/netspace"
)

// Namespace is one network namespace of a Net.
type Namespace struct {
	net  *Net
	name string
}

// Namespace makes a namespace with only its loopback device up. The role becomes part of its name, and must
// be unique in the Net.
func (n *Net) Namespace(ctx context.Context, role string) (*Namespace, error) {
	ns := &Namespace{net: n, name: n.prefix + role}
	if err := ns.make(); err != nil {
		return nil, fmt.Errorf("topo: make namespace %s: %w", ns.name, err)
	}
	n.mu.Lock()
	n.namespaces = append(n.namespaces, ns)
	n.mu.Unlock()
	return ns, ns.open(func(fd int) error { return netspace.Up(fd, "lo") })
}

// make does what `ip netns add` does: the namespace is mounted on a file, in a directory whose mounts all
// processes share, so that it can be unmounted for all.
func (s *Namespace) make() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // it is no mount point yet
		if err = unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, as in Do
		made, err := netns.NewNamed(s.name)
		if err == nil {
			err = errors.Join(netspace.NoDAD(), made.Close())
		}
		done <- err
	}()
	return <-done
}

// open gives f a descriptor of the namespace.
func (s *Namespace) open(f func(fd int) error) error {
	ns, err := os.Open(s.Path())
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := f(int(ns.Fd())); err != nil {
		return fmt.Errorf("topo: %s: %w", s.name, err)
	}
	return nil
}

// DefaultRoute sends what no other route has to a gateway.
func (s *Namespace) DefaultRoute(gateway netip.Addr) error {
	return s.open(func(fd int) error { return netspace.DefaultRoute(fd, gateway) })
}

// Name returns the name that `ip netns` and vrgate's configuration know the namespace by.
func (s *Namespace) Name() string { return s.name }

// Path returns the file that holds the namespace, for setns.
func (s *Namespace) Path() string { return filepath.Join(netnsDir, s.name) }

// IP runs iproute2 commands in the namespace, each written as the words after `ip`.
func (s *Namespace) IP(ctx context.Context, lines ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-n", s.name, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("topo: ip in %s: %w: %s", s.name, err, bytes.TrimSpace(out))
	}
	return nil
}

// NFT loads nftables rules in the namespace.
func (s *Namespace) NFT(ctx context.Context, rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	_, err := s.output(ctx, cmd)
	return err
}

// Output runs a command in the namespace and returns its standard output. The error has what the command
// wrote to its standard error.
func (s *Namespace) Output(ctx context.Context, name string, args ...string) (string, error) {
	return s.output(ctx, exec.Command(name, args...))
}

func (s *Namespace) output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := s.Start(cmd); err != nil {
		return "", err
	}
	err := wait(ctx, cmd)
	if err != nil {
		err = fmt.Errorf("topo: %s in %s: %w: %s", strings.Join(cmd.Args, " "), s.name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), err
}

// Start starts the command in the namespace; the caller waits for it. Its process group is its own.
func (s *Namespace) Start(cmd *exec.Cmd) error {
	return s.Do(func() error { return start(cmd) })
}

// start starts a command in a process group of its own.
func start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	return cmd.Start()
}

// Do runs f on a thread that is in the namespace. Sockets that f opens stay there; goroutines that f starts
// do not run there.
func (s *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine, so no other goroutine can find
		// itself in the namespace.
		runtime.LockOSThread()
		done <- func() error {
			ns, err := os.Open(s.Path())
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("topo: entering %s: %w", s.name, err)
			}
			return f()
		}()
	}()
	return <-done
}

// Forward makes the namespace a router.
func (s *Namespace) Forward() error {
	return s.Sysctl("net.ipv4.ip_forward", "1")
}

// Sysctl sets a parameter under /proc/sys/net, which each namespace has of its own.
func (s *Namespace) Sysctl(name, value string) error {
	return s.Do(func() error {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("topo: sysctl %s in %s: %w", name, s.name, err)
		}
		return nil
	})
}

// End is one end of a Link.
type End struct {
	In        *Namespace
	Interface string       // at most 15 bytes
	Address   netip.Prefix // invalid: none
	Master    string       // device of In, such as a VRF, that the interface becomes a port of; empty: none
}

// Link joins two namespaces by a pair of virtual Ethernet devices, both up.
func (n *Net) Link(_ context.Context, a, b End) error {
	return a.In.open(func(fdA int) error {
		return b.In.open(func(fdB int) error {
			return netspace.Join(a.at(fdA), b.at(fdB))
		})
	})
}

func (e End) at(fd int) netspace.End {
	return netspace.End{NetNS: fd, Device: e.Interface, Address: e.Address, Master: e.Master}
}

// command runs a program where the caller is and returns its standard output.
func command(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		detail := ""
		if exit, ok := err.(*exec.ExitError); ok {
			detail = ": " + string(bytes.TrimSpace(exit.Stderr))
		}
		return "", fmt.Errorf("topo: %s %s: %w%s", name, strings.Join(args, " "), err, detail)
	}
	return string(out), nil
}
