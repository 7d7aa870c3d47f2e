package l2tpnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vrgate/vr"
)

var (
	// ErrInvalid says that ids or times are out of range; the kernel was not asked.
	ErrInvalid = errors.New("invalid L2TP tunnel or session")
	// ErrExists says that the tunnel or session id is taken in this namespace.
	ErrExists = errors.New("L2TP id is taken")
	// ErrNotFound says that there is no such tunnel or session (any more).
	ErrNotFound = errors.New("no such L2TP tunnel or session")
	// ErrBusy says that the UDP socket has, or had, a tunnel already.
	ErrBusy = errors.New("socket has an L2TP tunnel already")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("l2tpnl: closed")
)

func missingFamily() error {
	return &vr.MissingFeature{Feature: "L2TP netlink family", Module: "l2tp_netlink l2tp_ppp"}
}

func missingPPP() error {
	return &vr.MissingFeature{Feature: "PPP over L2TP", Module: "l2tp_ppp"}
}

// mapError turns an errno into this package's errors.
func mapError(op string, err error) error {
	if err == nil {
		return nil
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		switch errno {
		case unix.EEXIST:
			err = ErrExists
		case unix.ENODEV, unix.ENOENT, unix.ESRCH:
			err = ErrNotFound
		case unix.EBUSY:
			err = ErrBusy
		}
	}
	return fmt.Errorf("l2tpnl: %s: %w", op, err)
}

// mapSessionError is mapError for the making of sessions, where the kernel
// answers EPROTONOSUPPORT when it cannot load the pseudowire type's module.
func mapSessionError(op string, err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return fmt.Errorf("l2tpnl: %s: %w", op, missingPPP())
	}
	return mapError(op, err)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
