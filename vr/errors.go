package vr

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart. They are wrapped; compare with errors.Is.
var (
	// ErrInUse: the address and port, or the tunnel port, belongs to another socket.
	ErrInUse = errors.New("address and port are in use")
	// ErrExists: the route is there already, so the address belongs to somebody.
	ErrExists = errors.New("exists already")
	// ErrNotFound: the object is not there.
	ErrNotFound = errors.New("does not exist")
	// ErrAgain: the datagram was not sent, because the send buffer is full or because the socket's policy
	// demands an SA that does not exist. The protocols send again.
	ErrAgain = errors.New("would block: send buffer full or no IPsec SA")
	// ErrRefused: a peer answered an earlier datagram with an ICMP error. A hint, not the end of a tunnel.
	ErrRefused = errors.New("peer refused an earlier datagram")
	// ErrNotEmpty: the namespace holds links that are not ours.
	ErrNotEmpty = errors.New("holds links that are not ours")
	// ErrClosed: the router or socket has been closed.
	ErrClosed = errors.New("closed")
	// ErrPermission: the process lacks a capability.
	ErrPermission = errors.New("operation needs CAP_NET_ADMIN, for ports below 1024 CAP_NET_BIND_SERVICE, and for namespaces CAP_SYS_ADMIN")
)

// MissingFeature says that the kernel lacks something and what provides it. The other kernel packages use it too.
type MissingFeature struct {
	Feature string // "L2TP netlink family"
	Module  string // what to modprobe, several separated by spaces; empty when no module provides it
	Detail  string // more, optional: "needs Linux 5.19"
}

func (m *MissingFeature) Error() string {
	s := "kernel has no " + m.Feature
	if m.Module != "" {
		s += ": modprobe " + m.Module
	}
	if m.Detail != "" {
		s += " (" + m.Detail + ")"
	}
	return s
}

// NoAddress says that a server address of a Spec is not configured on a link of the router.
type NoAddress struct {
	Router string
	Addr   netip.Addr
	Link   string // where it was found instead, in another VRF; empty when nowhere
}

func (n *NoAddress) Error() string {
	if n.Link != "" {
		return fmt.Sprintf("virtual router %s: server address %s is on link %s, which belongs to another routing table", n.Router, n.Addr, n.Link)
	}
	return fmt.Sprintf("virtual router %s: server address %s is not configured on any of its links", n.Router, n.Addr)
}

// NoNamespace says that a namespace of a Spec does not exist and the Spec does not ask to make it.
type NoNamespace struct{ Name string }

func (n *NoNamespace) Error() string {
	return fmt.Sprintf("network namespace %s does not exist: ip netns add %s", n.Name, n.Name)
}

// BadSpec says what is wrong with a Spec.
type BadSpec struct {
	Router string
	Reason string
}

func (b *BadSpec) Error() string { return "virtual router " + b.Router + ": " + b.Reason }

// failed wraps err of an operation and maps errno values that have a meaning to callers.
func failed(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	var sentinel error
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		sentinel = ErrInUse
	case errors.Is(err, unix.EEXIST):
		sentinel = ErrExists
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENODEV):
		sentinel = ErrNotFound
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS):
		sentinel = ErrAgain
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH),
		errors.Is(err, unix.EHOSTDOWN), errors.Is(err, unix.ENETDOWN):
		sentinel = ErrRefused
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		sentinel = ErrPermission
	}
	if sentinel != nil {
		return fmt.Errorf("%s: %w (%w)", what, sentinel, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// sentence joins words for an error text.
func sentence(words ...string) string { return strings.Join(words, " ") }
