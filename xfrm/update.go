package xfrm

import (
	"errors"
	"fmt"
	"math"
)

// sequenceGap is added to the outbound sequence number when an SA is moved to
// another address: more than the packets that can leave between reading the
// old SA and using the new one, so that no number is ever used twice. The
// receiver's window just moves forward.
const sequenceGap = 1 << 16

// Update changes the peer's address or ports (its NAT has moved it) of an SA
// that is installed as old to those of sa; everything else must be the same.
// The SA keeps its key, sequence numbers, counters and age.
//
// A new port is changed in place. The kernel cannot change an address in
// place: outbound, the new SA is added before the old one is removed; inbound
// both have the same identity, so that the SA is missing for the time between
// two netlink requests, and is put back when the second one fails. After either
// the tunnel's socket has to be connected to the new address.
//
// After a change in place a soft Expire event may come once more. Errors:
// ErrInvalid, ErrNotFound when old has gone, ErrExists when the peer's new
// address already has that SPI.
func (k *Kernel) Update(old, sa SA) error {
	if err := sa.Validate(); err != nil {
		return err
	}
	if old.Dir != sa.Dir || old.SPI != sa.SPI || old.Local != sa.Local || old.Reqid != sa.Reqid || old.Mode != sa.Mode {
		return fmt.Errorf("%w: only the peer's address and ports can change", ErrInvalid)
	}
	if (old.Encap == nil) != (sa.Encap == nil) {
		return fmt.Errorf("%w: UDP encapsulation can be neither added nor taken away", ErrInvalid)
	}
	if old.Remote == sa.Remote {
		_, err := k.execute(msgUpdSA, encodeSA(&sa, nil))
		return mapError(fmt.Sprintf("update %v SA %v", sa.Dir, sa.ID()), &sa, err)
	}
	state, err := k.Lookup(old.ID())
	if err != nil {
		return err
	}
	if sa.Dir == Out {
		return k.moveOut(&old, &sa, state)
	}
	return k.moveIn(&old, &sa, state)
}

func (k *Kernel) moveOut(old, sa *SA, state State) error {
	if state.replay.out > math.MaxUint32-sequenceGap {
		state.replay.out = math.MaxUint32 // it is over anyway: the kernel stops sending
	} else {
		state.replay.out += sequenceGap
	}
	if err := k.add(sa, &state); err != nil {
		return err
	}
	return k.Remove(old.ID())
}

func (k *Kernel) moveIn(old, sa *SA, state State) error {
	if err := k.Remove(old.ID()); err != nil {
		return err
	}
	if err := k.add(sa, &state); err != nil {
		return errors.Join(err, k.add(old, &state))
	}
	return nil
}
