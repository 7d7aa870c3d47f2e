package unit

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Join connects two PPP channels of a namespace, so that every frame of the one is sent by the other and none is read by
// the process: tunnel switching (kernel.md section 1.7). Neither may have a unit or be joined; frames that came before are
// lost with their channel's queue, which PPP makes up for. It keeps no descriptor: the channels stay joined until one of
// them ends. Errors: ErrInvalid, ErrNotFound, ErrBusy when one has a unit or is joined already, *vr.MissingFeature.
func Join(transport *Net, a, b int) error {
	if transport == nil || a < 0 || b < 0 || a == b {
		return fmt.Errorf("%w: channels %d and %d", ErrInvalid, a, b)
	}
	fd, err := openDevice()
	if err != nil {
		return err
	}
	// Both ioctls find channels in the calling thread's namespace.
	err = transport.ns.Do(func() error {
		if err := unix.IoctlSetPointerInt(fd, unix.PPPIOCATTCHAN, a); err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.PPPIOCBRIDGECHAN, b)
	})
	if errors.Is(err, unix.EALREADY) {
		err = ErrBusy
	}
	return mapError(fmt.Sprintf("join channels %d and %d", a, b), errors.Join(err, unix.Close(fd)))
}
