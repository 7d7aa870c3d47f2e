package unit

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vrgate/vr"
)

var (
	// ErrInvalid says that a Spec is out of range; the kernel was not asked.
	ErrInvalid = errors.New("invalid PPP unit")
	// ErrExists says that an interface of this name exists.
	ErrExists = errors.New("interface name is taken")
	// ErrNotFound says that the channel, the interface or the virtual router's
	// device has gone.
	ErrNotFound = errors.New("no such PPP channel or interface")
	// ErrBusy says that the kernel's PPP driver stayed busy for longer than
	// Open was willing to wait.
	ErrBusy = errors.New("PPP driver is busy")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("unit: closed")
	// ErrWouldBlock says that there is no frame to read now.
	ErrWouldBlock = errors.New("no frame")
	// ErrTooLong says that a frame did not fit the buffer and is lost.
	ErrTooLong = errors.New("frame exceeds the buffer")
)

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
		case unix.ENODEV, unix.ENXIO, unix.ENOENT:
			err = ErrNotFound
		case unix.EBUSY:
			err = ErrBusy
		}
	}
	return fmt.Errorf("unit: %s: %w", op, err)
}

// missingDriver explains why there is no /dev/ppp or no link type "ppp".
func missingDriver(op string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("unit: %s: %w", op, &vr.MissingFeature{Feature: "PPP driver (/dev/ppp)", Module: "ppp_generic"})
	}
	return mapError(op, err)
}
