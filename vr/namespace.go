package vr

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 keeps named namespaces; we share it, so that `ip netns exec` works on ours.
const namespaceDir = "/run/netns"

// ownAlias is the alias of loopback in namespaces, and of VRF devices, that we made.
const ownAlias = "vrgate"

// namespace is an open network namespace.
type namespace struct {
	name  string // "" is the process's own
	fd    int
	made  bool // by us, in this life or an earlier one
	fresh bool // by this openNamespace
}

// openNamespace opens a namespace under /run/netns, or the process's own for "".
func openNamespace(name string, create bool) (*namespace, error) {
	if name == "" {
		// Not /proc/self: the first thread may be one that makeNamed has left in another namespace. The runtime keeps that one
		// and lets no goroutine run on it.
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, failed(err, "open own network namespace")
		}
		return &namespace{fd: fd}, nil
	}
	fd, err := openNamed(name)
	fresh := false
	if errors.Is(err, unix.ENOENT) {
		if !create {
			return nil, &NoNamespace{Name: name}
		}
		if err = makeNamed(name); err == nil {
			fresh = true
			fd, err = openNamed(name)
		}
	}
	if err != nil {
		return nil, failed(err, "open network namespace %s", name)
	}
	n := &namespace{name: name, fd: fd, fresh: fresh}
	if fresh {
		if err := n.mark(); err != nil {
			return nil, errors.Join(err, n.abandon())
		}
	}
	if n.made, err = n.marked(); err != nil {
		return nil, errors.Join(err, n.abandon())
	}
	return n, nil
}

// openNamed opens /run/netns/name. A file there on which no namespace is mounted, which a crash between the
// two steps of making one leaves, counts as missing.
func openNamed(name string) (int, error) {
	fd, err := unix.Open(filepath.Join(namespaceDir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if fs.Type != unix.NSFS_MAGIC {
		unix.Close(fd)
		return -1, unix.ENOENT
	}
	return fd, nil
}

// makeNamed makes a namespace and mounts it, as `ip netns add` does.
func makeNamed(name string) error {
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return err
	}
	// The mount must propagate to other mount namespaces, or services with a private /run would not see it.
	if err := unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, ""); errors.Is(err, unix.EINVAL) {
		if err := unix.Mount(namespaceDir, namespaceDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		if err := unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	path := filepath.Join(namespaceDir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	done := make(chan error)
	go func() {
		// Never unlocked: the runtime discards the thread, which is in the new namespace.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, "")
	}()
	if err := <-done; err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// handle for the netlink libraries.
func (n *namespace) handle() netns.NsHandle { return netns.NsHandle(n.fd) }

// same says whether two names are of one namespace.
func (n *namespace) same(other *namespace) (bool, error) {
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(n.fd, &a), unix.Fstat(other.fd, &b)); err != nil {
		return false, failed(err, "compare network namespaces %s and %s", n.name, other.name)
	}
	return a.Dev == b.Dev && a.Ino == b.Ino, nil
}

// do runs fn on a thread that is in the namespace.
func (n *namespace) do(fn func() error) error {
	done := make(chan error)
	go func() { done <- n.pinned(fn) }()
	return <-done
}

// pinned enters the namespace, runs fn and goes back. A thread that cannot go back stays locked to the
// goroutine, which ends now, so the runtime discards it.
func (n *namespace) pinned(fn func() error) error {
	runtime.LockOSThread()
	if n.name == "" {
		defer runtime.UnlockOSThread()
		return fn()
	}
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return failed(err, "open network namespace of the thread")
	}
	defer unix.Close(home)
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return failed(err, "enter network namespace %s", n.name)
	}
	err = fn()
	if unix.Setns(home, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// mark brings loopback up and gives it the alias that says that the namespace is ours.
func (n *namespace) mark() error {
	return n.loopback(func(nl *netlink.Handle, lo netlink.Link) error {
		return errors.Join(nl.LinkSetUp(lo), nl.LinkSetAlias(lo, ownAlias))
	})
}

// marked says whether the namespace is one that we made.
func (n *namespace) marked() (ours bool, err error) {
	err = n.loopback(func(_ *netlink.Handle, lo netlink.Link) error {
		ours = lo.Attrs().Alias == ownAlias
		return nil
	})
	return ours, err
}

func (n *namespace) loopback(fn func(*netlink.Handle, netlink.Link) error) error {
	nl, err := netlink.NewHandleAt(n.handle(), unix.NETLINK_ROUTE)
	if err != nil {
		return failed(err, "network namespace %s: route netlink", n.name)
	}
	defer nl.Close()
	lo, err := nl.LinkByIndex(1) // loopback is always the first
	if err != nil {
		return failed(err, "network namespace %s: loopback", n.name)
	}
	return failed(fn(nl, lo), "network namespace %s: set up loopback", n.name)
}

// unlink removes the name; the kernel removes the namespace when nothing refers to it any more.
func (n *namespace) unlink() error {
	path := filepath.Join(namespaceDir, n.name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return failed(err, "unmount network namespace %s", n.name)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove network namespace %s: %w", n.name, err)
	}
	return nil
}

// abandon closes the namespace, and removes it if openNamespace has just made it.
func (n *namespace) abandon() error {
	var err error
	if n.fresh {
		err = n.unlink()
	}
	return errors.Join(err, n.close())
}

func (n *namespace) close() error {
	return failed(unix.Close(n.fd), "close network namespace %s", n.name)
}
