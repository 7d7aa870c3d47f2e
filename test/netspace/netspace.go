// Package netspace gives kernel tests network namespaces, most of them without
// names, which the kernel removes with their last reference: a test that fails
// or is killed leaves nothing. Package topo builds whole networks with real
// clients; this is for the tests of one kernel package.
package netspace

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Space is a network namespace with its loopback up.
type Space struct {
	fd int
}

// New makes a namespace that is released when the test ends.
func New(t testing.TB) *Space {
	t.Helper()
	s := &Space{fd: -1}
	done := make(chan error)
	go func() {
		// Never unlocked: the runtime discards the thread, which is in the new
		// namespace.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = NoDAD()
		}
		if err == nil {
			s.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Close(s.fd); err != nil {
			t.Errorf("close namespace: %v", err)
		}
	})
	if err := Up(s.fd, "lo"); err != nil {
		t.Fatalf("bring the loopback up: %v", err)
	}
	return s
}

// NoDAD has the links of the thread's namespace that are made from then on use their IPv6 addresses at once. Otherwise the
// kernel first asks for one to two seconds whether somebody else has them, and what is sent meanwhile is lost or not,
// depending on how fast the machine is.
func NoDAD() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
	if errors.Is(err, os.ErrNotExist) { // no IPv6
		return nil
	}
	return err
}

// Named makes one that programs find by its name, as `ip netns add` does.
func Named(t testing.TB, name string) *Space {
	t.Helper()
	s := New(t)
	file := filepath.Join("/run/netns", name)
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, nil, 0o444)
	}
	if err == nil {
		err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", s.fd), file, "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatalf("name a namespace %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(file, unix.MNT_DETACH), os.Remove(file)); err != nil {
			t.Errorf("take the name %s away: %v", name, err)
		}
	})
	return s
}

// NetNS is a descriptor of the namespace.
func (s *Space) NetNS() int { return s.fd }

// Do runs fn on a thread that is in the namespace.
func (s *Space) Do(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, as in New
		if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// Ping sends echo requests from the namespace and returns how many were answered.
func (s *Space) Ping(e Echo) (answered int, err error) {
	err = s.Do(func() (err error) {
		answered, err = e.Send()
		return err
	})
	return answered, err
}

// Run runs a command in the namespace, which must succeed, and returns what it
// wrote.
func (s *Space) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := s.Try(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try runs a command in the namespace and returns what it wrote.
func (s *Space) Try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.Do(cmd.Start); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// Connect joins two namespaces by a veth pair whose ends are both called dev,
// with addresses in the form that `ip addr add` wants.
func Connect(t testing.TB, dev string, a *Space, addrA string, b *Space, addrB string) {
	t.Helper()
	err := Join(End{NetNS: a.fd, Device: dev, Address: prefix(t, addrA)}, End{NetNS: b.fd, Device: dev, Address: prefix(t, addrB)})
	if err != nil {
		t.Fatal(err)
	}
}

// prefix reads an address with or without the length of its network.
func prefix(t testing.TB, s string) netip.Prefix {
	t.Helper()
	if p, err := netip.ParsePrefix(s); err == nil {
		return p
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// Links are the names of the namespace's interfaces.
func (s *Space) Links(t testing.TB) []string {
	t.Helper()
	names, err := links(s.fd)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Descriptors counts the open descriptors of this process.
func Descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
