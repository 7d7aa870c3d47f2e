package topo

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
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
	if _, err := command(ctx, "ip", "netns", "add", ns.name); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.namespaces = append(n.namespaces, ns)
	n.mu.Unlock()
	return ns, ns.IP(ctx, "link set lo up")
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
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	return s.Do(cmd.Start)
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
	VRF       string       // device of In that the interface becomes a port of; empty: none
}

// Link joins two namespaces by a pair of virtual Ethernet devices, both up.
func (n *Net) Link(ctx context.Context, a, b End) error {
	if err := a.In.IP(ctx, fmt.Sprintf("link add %s type veth peer name %s netns %s", a.Interface, b.Interface, b.In.name)); err != nil {
		return err
	}
	for _, e := range []End{a, b} {
		var lines []string
		if e.VRF != "" {
			lines = append(lines, fmt.Sprintf("link set %s master %s", e.Interface, e.VRF))
		}
		if e.Address.IsValid() {
			lines = append(lines, fmt.Sprintf("addr add %s dev %s", e.Address, e.Interface))
		}
		lines = append(lines, fmt.Sprintf("link set %s up", e.Interface))
		if err := e.In.IP(ctx, lines...); err != nil {
			return err
		}
	}
	return nil
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
