package xfrm

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

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

// Policy lets packets from Src to Dst pass an XFRM interface, and only through ESP tunnel mode
// SAs of one connection: sent ones are encrypted or not sent at all, received ones that came
// through another's SA are dropped.
type Policy struct {
	Dir      PolicyDirection
	Src, Dst netip.Prefix // of the inner packets
	IfID     uint32       // of the XFRM interface
	Reqid    uint32       // Tag(conn)
	// Local and Remote are the outer addresses. Remote counts for sending only: what
	// is received is told by its SA, so that a peer which its NAT moves is received on.
	Local, Remote netip.Addr
}

const (
	offPolicyPriority = 152
	offPolicyIndex    = 156
	offPolicyDir      = 160
	offPolicyIDIndex  = 56
	offPolicyIDDir    = 60

	// Parts of struct xfrm_user_tmpl.
	offTemplateProto    = 20
	offTemplateFamily   = 24
	offTemplateSrc      = 28
	offTemplateReqid    = 44
	offTemplateMode     = 48
	offTemplateAlgs     = 52 // three masks of algorithms
	policyPriority      = 1000
	algorithmMasks      = 3
	policyLimits        = 4 // soft and hard bytes, soft and hard packets
	policyMessageLength = sizePolicyInfo + unix.SizeofNlAttr + sizeTemplate + unix.SizeofNlAttr + 4
)

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
	if p.IfID == 0 {
		return bad("no interface")
	}
	if !Ours(p.Reqid) || Conn(p.Reqid) == 0 {
		return bad("reqid %#x was not made by Tag", p.Reqid)
	}
	if !p.Local.IsValid() || !p.Remote.IsValid() || p.Local.Is4() != p.Remote.Is4() || p.Local.Is4In6() || p.Remote.Is4In6() {
		return bad("outer addresses %v and %v are not of one family", p.Local, p.Remote)
	}
	if p.Local.IsUnspecified() || p.Remote.IsUnspecified() {
		return bad("unspecified outer address")
	}
	return nil
}

// String describes the policy.
func (p Policy) String() string {
	return fmt.Sprintf("%v policy %v to %v of interface %#x", p.Dir, p.Src, p.Dst, p.IfID)
}

// AddPolicy installs a policy. Errors: ErrInvalid, and ErrExists when there is one of this
// direction, selector and interface, whoever's it is.
func (k *Kernel) AddPolicy(p Policy) error { return k.putPolicy(msgNewPolicy, "add", p) }

// UpdatePolicy installs a policy in the place of the one of the same direction, selector and
// interface, in one step: a packet meets the old or the new one. One that is not there is added.
// It is for a peer's new address.
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
	putSelector(body, Selector{Src: p.Src, Dst: p.Dst})
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
		copy(body, p.selector)
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

// encodePolicy is the body of NEWPOLICY and UPDPOLICY: struct xfrm_userpolicy_info, one template
// and the interface.
//
//	  0 selector 56
//	 56 lifetime cfg 64  soft/hard bytes, soft/hard packets, four times of seconds
//	120 lifetime cur 32
//	152 priority, 156 index, 160 dir u8, action u8, flags u8, share u8
func encodePolicy(p *Policy) []byte {
	b := make([]byte, sizePolicyInfo, policyMessageLength)
	putSelector(b, Selector{Src: p.Src, Dst: p.Dst})
	for i := range policyLimits {
		native.PutUint64(b[offDst+8*i:], unlimited)
	}
	native.PutUint32(b[offPolicyPriority:], policyPriority)
	b[offPolicyDir] = byte(p.Dir)

	t := make([]byte, sizeTemplate)
	t[offTemplateProto] = unix.IPPROTO_ESP
	native.PutUint16(t[offTemplateFamily:], family(p.Local))
	if p.Dir == PolicyOut {
		putAddr(t, p.Remote)
		putAddr(t[offTemplateSrc:], p.Local)
	} else {
		// The kernel compares the source only, and takes the unspecified one for any. Our own
		// address says whose policy it is.
		putAddr(t, p.Local)
	}
	native.PutUint32(t[offTemplateReqid:], p.Reqid)
	t[offTemplateMode] = byte(Tunnel)
	for i := range algorithmMasks {
		native.PutUint32(t[offTemplateAlgs+4*i:], math.MaxUint32)
	}
	b = nlattr.Append(b, attrTemplate, t)
	return nlattr.AppendUint32(b, attrIfID, p.IfID)
}

// policy is one that the kernel reports.
type policy struct {
	Policy          // Remote is invalid unless Dir is PolicyOut
	selector []byte // sizeSelector bytes
	index    uint32
	ours     bool
}

// parsePolicy reads the body of a NEWPOLICY message. A policy is ours when a
// template of it has a reqid of ours.
func parsePolicy(b []byte) (policy, error) {
	if len(b) < sizePolicyInfo {
		return policy{}, nlattr.ErrMalformed
	}
	p := policy{selector: append([]byte(nil), b[:sizeSelector]...), index: native.Uint32(b[offPolicyIndex:])}
	p.Dir = PolicyDirection(b[offPolicyDir])
	p.Src, p.Dst = selectorPrefixes(b)
	err := nlattr.Each(b[sizePolicyInfo:], func(typ uint16, data []byte) error {
		switch typ {
		case attrIfID:
			if len(data) < 4 {
				return nlattr.ErrMalformed
			}
			p.IfID = native.Uint32(data)
		case attrTemplate:
			for ; len(data) >= sizeTemplate; data = data[sizeTemplate:] {
				p.template(data)
			}
		}
		return nil
	})
	return p, err
}

// template reads one template.
func (p *policy) template(t []byte) {
	reqid := native.Uint32(t[offTemplateReqid:])
	if !Ours(reqid) {
		return
	}
	p.ours, p.Reqid = true, reqid
	fam := native.Uint16(t[offTemplateFamily:])
	dst, _ := addr(t[:16], fam)
	if p.Dir != PolicyOut {
		p.Local = dst
		return
	}
	p.Remote = dst
	p.Local, _ = addr(t[offTemplateSrc:offTemplateSrc+16], fam)
}

// SetHashThresholds makes the namespace keep policies "anything to one host" in
// a hash instead of a tree whose branches collapse into lists (kernel.md
// section 3.3: with 10,000 of them 26 instead of 1,000 microseconds a packet).
// It is done when a virtual router is made and its policy database is still
// empty, since the kernel rebuilds the database under its lock; for a further
// router of the namespace it does nothing.
func SetHashThresholds(netns int) error {
	k, err := Open(netns)
	if err != nil {
		return err
	}
	defer k.Close()
	if set, err := k.hashThresholds(); err != nil || set {
		return err
	}
	body := appendUint32(nil, 0) // flags
	body = nlattr.Append(body, attrSPDIPv4HThresh, thresholds4)
	body = nlattr.Append(body, attrSPDIPv6HThresh, thresholds6)
	_, err = k.execute(msgNewSPDInfo, body)
	return mapError("set policy hash thresholds", nil, err)
}

// thresholds4 and thresholds6 are prefix lengths of the local and the remote side from which on a policy is
// found by hash.
var thresholds4, thresholds6 = []byte{0, 32}, []byte{0, 128}

// hashThresholds says whether they are as SetHashThresholds makes them.
func (k *Kernel) hashThresholds() (bool, error) {
	msgs, err := k.execute(msgGetSPDInfo, appendUint32(nil, 0))
	if err != nil {
		return false, mapError("read policy hash thresholds", nil, err)
	}
	for _, m := range msgs {
		if m.Header.Type == msgNewSPDInfo {
			return parseThresholds(m.Data)
		}
	}
	return false, nil
}

// parseThresholds reads the body of a NEWSPDINFO message: flags u32 and attributes.
func parseThresholds(b []byte) (bool, error) {
	if len(b) < 4 {
		return false, nlattr.ErrMalformed
	}
	same := map[uint16]bool{}
	err := nlattr.Each(b[4:], func(typ uint16, data []byte) error {
		want := map[uint16][]byte{attrSPDIPv4HThresh: thresholds4, attrSPDIPv6HThresh: thresholds6}[typ]
		same[typ] = want != nil && bytes.Equal(data, want)
		return nil
	})
	return same[attrSPDIPv4HThresh] && same[attrSPDIPv6HThresh], err
}
