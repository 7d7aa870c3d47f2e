package xfrm

import (
	"context"

	"vrgate/vr/nlattr"
)

// Acquire says that a packet is to be sent by a policy with a reqid of Idle. It was dropped. The kernel says so again
// 30 seconds later (net.core.xfrm_acq_expires), if there is another packet then.
type Acquire struct {
	Policy Policy
	Packet Selector // what the packet is
}

// WatchAcquires hands every Acquire in the namespace to fn until ctx ends, and returns ctx's error then. fn runs on
// WatchAcquires's goroutine. ready, unless nil, is called once they are being received. Some may be lost: the kernel asks again.
//
// While somebody listens, a packet of any policy without an SA, also of somebody else's policy, makes state in the kernel for 30 seconds.
// It does not stand in the way of SAs.
func (k *Kernel) WatchAcquires(ctx context.Context, ready func(), fn func(Acquire)) error {
	return k.listen(ctx, watched{groups: []uint32{groupAcquire}, types: []uint16{msgAcquire}, buffer: k.watchBuffer}, ready, func() {}, func(typ uint16, body []byte) error {
		if typ != msgAcquire {
			return nil
		}
		a, ours, err := parseAcquire(body)
		if ours && err == nil {
			fn(a)
		}
		return err
	})
}

// Parts of struct xfrm_user_acquire:
//
//	0 id 24, 24 saddr 16, 40 selector 56 of the packet, 96 struct xfrm_userpolicy_info, 264 three masks of algorithms and seq
//
// and the policy's attributes.
const (
	offAcquireSelector = 40
	offAcquirePolicy   = 96
)

// parseAcquire reads the body of an ACQUIRE message; ours: it is about a policy of ours that nothing carries.
func parseAcquire(b []byte) (a Acquire, ours bool, err error) {
	if len(b) < sizeAcquire {
		return a, false, nlattr.ErrMalformed
	}
	body := make([]byte, 0, len(b))
	body = append(body, b[offAcquirePolicy:offAcquirePolicy+sizePolicyInfo]...)
	p, err := parsePolicy(append(body, b[sizeAcquire:]...))
	if err != nil || !IsIdle(p.Reqid) || p.Dir != PolicyOut {
		return a, false, err
	}
	return Acquire{Policy: p.Policy, Packet: parseSelector(b[offAcquireSelector : offAcquireSelector+sizeSelector])}, true, nil
}
