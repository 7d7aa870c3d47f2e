package xfrm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vrgate/vr"
)

var (
	// ErrExists says that a policy of this direction, selector and interface, or
	// an SA with this destination and SPI, is installed already. The peer chooses outbound SPIs, so two peers behind one NAT can
	// collide: refuse the quick mode and let the peer retry (kernel.md 3.1).
	ErrExists = errors.New("SA or policy exists already")
	// ErrNotFound says that there is no such SA or policy: it has expired or was
	// removed.
	ErrNotFound = errors.New("no such SA or policy")
	// ErrClosed is returned by methods of a closed Kernel.
	ErrClosed = errors.New("xfrm: closed")
)

// mapError turns an errno into this package's errors. sa is what was asked for
// when the request installs one, else nil.
func mapError(op string, sa *SA, err error) error {
	if err == nil {
		return nil
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("xfrm: %s: %w", op, err)
	}
	switch {
	case errno == unix.EEXIST:
		err = ErrExists
	case sa == nil && (errno == unix.ESRCH || errno == unix.ENOENT):
		err = ErrNotFound
	case sa != nil && errno == unix.ESRCH: // of UPDSA
		err = ErrNotFound
	case sa != nil && errno == unix.EPROTONOSUPPORT:
		if sa.Local.Is4() {
			err = &vr.MissingFeature{Feature: "IPsec ESP", Module: "esp4"}
		} else {
			err = &vr.MissingFeature{Feature: "IPsec ESP for IPv6", Module: "esp6"}
		}
	case sa != nil && (errno == unix.ENOSYS || errno == unix.ENOENT):
		// ENOSYS: the algorithm has no implementation. ENOENT: a template or a
		// random generator that instances of it need is missing (kernel.md 9).
		err = missingAlgorithm(sa)
	}
	return fmt.Errorf("xfrm: %s: %w", op, err)
}

func missingAlgorithm(sa *SA) error {
	c := ciphers[sa.Encryption]
	if c.aead {
		return &vr.MissingFeature{Feature: "ESP with " + c.name, Module: c.module + " seqiv drbg jitterentropy_rng"}
	}
	m := macs[sa.Integrity]
	return &vr.MissingFeature{
		Feature: "ESP with " + c.name + " and " + m.name,
		Module:  c.module + " " + m.module + " authenc echainiv drbg jitterentropy_rng",
	}
}

// dialError explains why there is no NETLINK_XFRM socket.
func dialError(err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return &vr.MissingFeature{Feature: "IPsec configuration (NETLINK_XFRM)", Module: "xfrm_user"}
	}
	return fmt.Errorf("xfrm: open netlink socket: %w", err)
}
