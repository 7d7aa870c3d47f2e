package vr

import (
	"errors"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A gate is a policy in the namespace of a terminating router that lets in what an access interface brings from a
// router that is in a VRF of another namespace.
//
// The kernel (5.15 to 6.12 at least) checks a packet that leaves its namespace by an XFRM interface at once, and
// asks the interface which policies to check it by. But it finds the interface by the link of the VRF that has
// received the encrypted packet, if there is one (xfrmi_decode_session, inet_sdif), which is none. So it knows no
// interface number, and looks for a policy without one, in the namespace that the packet is about to enter;
// what no policy there wants decrypted is dropped. Other placements need no gate: without a VRF the interface is
// found, and within a namespace the check comes later, when the packet has been received by the interface.
//
// The gate is for packets with a mark, the interface's number, which the subscribers' SAs set and which the
// kernel clears behind the gate. No other packet has it, so nothing else in the namespace is measured by
// the gate; and one that had it would be dropped, because it is in clear. Whose packets pass is left to
// the SAs: the kernel compares what they have decrypted with their selectors before it looks for policies.
type gate struct {
	nl   *netlink.Handle
	mark uint32
}

// gatePriority only has to be some number; no other policy is for the mark.
const gatePriority = 1000

func (g gate) policy() *netlink.XfrmPolicy {
	return &netlink.XfrmPolicy{
		Dir: netlink.XFRM_DIR_IN, Priority: gatePriority, Mark: &netlink.XfrmMark{Value: g.mark, Mask: ^uint32(0)},
		// Without reqid: any SA that sets the mark will do.
		Tmpls: []netlink.XfrmPolicyTmpl{{Src: net.IPv4zero, Dst: net.IPv4zero, Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL}},
	}
}

// open fails with EEXIST when the mark is that of another gate.
func (g gate) open() error { return g.nl.XfrmPolicyAdd(g.policy()) }

// close removes the gate; one that is not there is fine.
func (g gate) close() error {
	if err := g.nl.XfrmPolicyDel(g.policy()); !errors.Is(err, unix.ENOENT) {
		return failed(err, "remove the policy of interface number %#x", g.mark)
	}
	return nil
}
