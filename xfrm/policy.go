package xfrm

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"vrgate/vr/nlattr"
)

// PolicyDirection says which packets a policy is about, with the kernel's numbers.
type PolicyDirection uint8

// Directions of policies. What a dump reports beyond these are policies on sockets, which
// live and die with their sockets.
const (
	PolicyIn      PolicyDirection = 0 // delivered to this host
	PolicyOut     PolicyDirection = 1 // sent into the interface, own packets and forwarded ones
	PolicyForward PolicyDirection = 2 // come in by the interface and forwarded

	policyDirections = 3
)

// String returns "in", "out" or "forward".
func (d PolicyDirection) String() string {
	switch d {
	case PolicyIn:
		return "in"
	case PolicyOut:
		return "out"
	case PolicyForward:
		return "forward"
	}
	return fmt.Sprintf("PolicyDirection(%d)", uint8(d))
}

// Policy says by which ESP SAs packets from Src to Dst pass: sent ones are encrypted or not sent at all, received ones that
// came in clear or through another's SA are dropped.
type Policy struct {
	Dir      PolicyDirection
	Src, Dst netip.Prefix // of the packets, in tunnel mode of those inside
	// Proto is the packets' IP protocol, 0 for any; SrcPort and DstPort need one that has ports, 0 for any.
	Proto            uint8
	SrcPort, DstPort uint16
	Mode             Mode
	// IfID is the number of the XFRM interface whose packets are meant; 0: those of the whole namespace that are of no such
	// interface.
	IfID uint32
	// Reqid names the SAs: Tag(conn); 0, for what is received, any whose selector lets the packet pass; Idle(n), for what is
	// sent, none. What is to be sent is dropped then, and told to [Kernel.WatchAcquires] if somebody listens.
	Reqid uint32
	// Local and Remote are the outer addresses. Remote counts only for what is sent by SAs: what
	// is received is told by its SA, so that a peer which its NAT moves is received on.
	Local, Remote netip.Addr
}

// Validate says what is wrong with the policy, wrapping ErrInvalid.
func (p *Policy) Validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: policy: %s", ErrInvalid, fmt.Sprintf(format, a...))
	}
	if p.Dir >= policyDirections {
		return bad("direction %v", p.Dir)
	}
	if !p.Src.IsValid() || !p.Dst.IsValid() || p.Src.Addr().Is4() != p.Dst.Addr().Is4() || p.Src.Masked() != p.Src || p.Dst.Masked() != p.Dst {
		return bad("%v to %v are not networks of one family", p.Src, p.Dst)
	}
	if p.Proto == 0 && (p.SrcPort != 0 || p.DstPort != 0) {
		return bad("ports %d and %d of no protocol", p.SrcPort, p.DstPort)
	}
	if p.Mode != Transport && p.Mode != Tunnel {
		return bad("mode %v", p.Mode)
	}
	if p.IfID != 0 && p.Mode != Tunnel {
		return bad("an XFRM interface takes tunnel mode only")
	}
	if !p.Local.IsValid() || p.Local.Is4In6() || p.Local.IsUnspecified() {
		return bad("local address %v", p.Local)
	}
	switch sent := p.Dir == PolicyOut; {
	case p.Reqid == 0 && !sent, IsIdle(p.Reqid) && sent:
		if p.Remote.IsValid() {
			return bad("peer %v of no connection", p.Remote)
		}
	case !Ours(p.Reqid) || Conn(p.Reqid) == 0:
		return bad("reqid %#x was not made by Tag", p.Reqid)
	case !p.Remote.IsValid() || p.Local.Is4() != p.Remote.Is4() || p.Remote.Is4In6() || p.Remote.IsUnspecified():
		return bad("outer addresses %v and %v are not of one family", p.Local, p.Remote)
	}
	return nil
}

// tagIdle is in the top byte of the reqids that Idle makes. They are no marks, but differ from those of package vr too.
const tagIdle = 0x14

// Idle is a reqid that no SA ever has, 0x14000000|n, for policies that nothing carries; n is 1..0xffffff, else the result is 0.
// The kernel asks for an SA once in 30 seconds for each combination of reqid, interface and addresses, so those that are to
// be told apart, or told of again, need another n.
func Idle(n uint32) uint32 {
	if n == 0 || n >= connLimit {
		return 0
	}
	return tagIdle<<tagShift | n
}

// IsIdle tells whether a reqid was made by Idle.
func IsIdle(reqid uint32) bool { return reqid>>tagShift == tagIdle && Conn(reqid) != 0 }

// selector is what the policy is found by, beside its direction and interface.
func (p *Policy) selector() Selector {
	return Selector{Proto: p.Proto, Src: p.Src, Dst: p.Dst, SrcPort: p.SrcPort, DstPort: p.DstPort}
}

// Slot is what a policy is alone with in the kernel: two of one slot cannot be.
type Slot struct {
	Dir      PolicyDirection
	IfID     uint32
	Selector Selector
}

// Slot returns the policy's.
func (p *Policy) Slot() Slot { return Slot{p.Dir, p.IfID, p.selector()} }

// String describes the policy.
func (p Policy) String() string {
	return fmt.Sprintf("%v policy %v of interface %#x", p.Dir, p.selector(), p.IfID)
}

// AddPolicy installs a policy. Errors: ErrInvalid, and ErrExists when there is one of this
// direction, selector and interface, whoever's it is.
func (k *Kernel) AddPolicy(p Policy) error { return k.putPolicy(msgNewPolicy, "add", p) }

// UpdatePolicy installs a policy in the place of the one of the same direction, selector and
// interface, in one step: a packet meets the old or the new one. One that is not there is added.
// It is for a peer's new address, and for another connection that takes over.
func (k *Kernel) UpdatePolicy(p Policy) error { return k.putPolicy(msgUpdPolicy, "update", p) }

func (k *Kernel) putPolicy(typ netlink.HeaderType, verb string, p Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	_, err := k.execute(typ, encodePolicy(&p))
	return mapError(fmt.Sprintf("%s %v", verb, p), nil, err)
}

// RemovePolicy removes the policy of this direction, selector and interface; one that is not
// there (any more) is no error.
func (k *Kernel) RemovePolicy(p Policy) error {
	body := make([]byte, sizePolicyID)
	putSelector(body, p.selector())
	body[offPolicyIDDir] = byte(p.Dir)
	return k.deletePolicy(body, p.IfID, fmt.Sprintf("remove %v", p))
}

func (k *Kernel) deletePolicy(body []byte, ifID uint32, op string) error {
	if ifID != 0 {
		body = nlattr.AppendUint32(body, attrIfID, ifID)
	}
	_, err := k.execute(msgDelPolicy, body)
	if err = mapError(op, nil, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// ListPolicies reports the policies of ours in the namespace's security policy database. It is
// a dump, for start, stop and an operator's question.
func (k *Kernel) ListPolicies() ([]Policy, error) {
	list, err := k.dumpPolicies()
	out := make([]Policy, 0, len(list))
	for _, p := range list {
		out = append(out, p.Policy)
	}
	return out, err
}

// FlushPolicies removes every policy of ours from the namespace's security policy database and
// says how many there were. Policies on sockets go with their sockets and are not touched. Where
// several virtual routers share the namespace (VRFs), use FlushPoliciesOf.
func (k *Kernel) FlushPolicies() (int, error) {
	return k.flushPolicies(func(policy) bool { return true })
}

// FlushPoliciesOf removes every policy of ours whose SAs begin or end at one of the given local
// addresses, and says how many there were.
func (k *Kernel) FlushPoliciesOf(local ...netip.Addr) (int, error) {
	return k.flushPolicies(func(p policy) bool {
		for _, a := range local {
			if p.Local == a {
				return true
			}
		}
		return false
	})
}

func (k *Kernel) flushPolicies(which func(policy) bool) (int, error) {
	list, err := k.dumpPolicies()
	errs := []error{err}
	n := 0
	for _, p := range list {
		if !which(p) {
			continue
		}
		n++
		body := make([]byte, sizePolicyID)
		copy(body, p.wire)
		native.PutUint32(body[offPolicyIDIndex:], p.index)
		body[offPolicyIDDir] = byte(p.Dir)
		errs = append(errs, k.deletePolicy(body, p.IfID, "remove policy"))
	}
	return n, errors.Join(errs...)
}

func (k *Kernel) dumpPolicies() ([]policy, error) {
	var list []policy
	err := k.dump(msgGetPolicy, nil, func(body []byte) error {
		p, err := parsePolicy(body)
		if err == nil && p.ours && p.Dir < policyDirections {
			list = append(list, p)
		}
		return err
	})
	return list, mapError("list policies", nil, err)
}
