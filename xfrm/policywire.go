package xfrm

import (
	"math"

	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

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
	algorithmMasks      = 3
	policyLimits        = 4                                                                         // soft and hard bytes, soft and hard packets
	policyMessageLength = sizePolicyInfo + unix.SizeofNlAttr + sizeTemplate + unix.SizeofNlAttr + 4 // the longest
)

// Priorities of our policies: tagOurs in the top byte, so that they are recognised as ours also where their template names
// no reqid, and below it how little of a packet they look at. The lowest goes first.
const (
	priorityTag = tagOurs << tagShift

	// What is left open, in the order in which it counts: bits of the addresses, protocol, ports.
	priorityBit      = 8
	priorityProtocol = 4
	priorityPort     = 1
)

// priority puts a policy behind all that are for a part of its packets.
func (p *Policy) priority() uint32 {
	n := uint32(p.Src.Addr().BitLen()-p.Src.Bits()+p.Dst.Addr().BitLen()-p.Dst.Bits()) * priorityBit
	if p.Proto == 0 {
		n += priorityProtocol
	}
	for _, port := range []uint16{p.SrcPort, p.DstPort} {
		if port == 0 {
			n += priorityPort
		}
	}
	return priorityTag | n
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
	putSelector(b, p.selector())
	for i := range policyLimits {
		native.PutUint64(b[offDst+8*i:], unlimited)
	}
	native.PutUint32(b[offPolicyPriority:], p.priority())
	b[offPolicyDir] = byte(p.Dir)

	t := make([]byte, sizeTemplate)
	t[offTemplateProto] = unix.IPPROTO_ESP
	native.PutUint16(t[offTemplateFamily:], family(p.Local))
	if p.Dir == PolicyOut {
		putAddr(t, p.Remote) // the unspecified one for none
		putAddr(t[offTemplateSrc:], p.Local)
	} else {
		// The kernel compares the source only, and takes the unspecified one for any. Our own
		// address says whose policy it is.
		putAddr(t, p.Local)
	}
	native.PutUint32(t[offTemplateReqid:], p.Reqid)
	t[offTemplateMode] = byte(p.Mode)
	for i := range algorithmMasks {
		native.PutUint32(t[offTemplateAlgs+4*i:], math.MaxUint32)
	}
	b = nlattr.Append(b, attrTemplate, t)
	if p.IfID == 0 {
		return b
	}
	return nlattr.AppendUint32(b, attrIfID, p.IfID)
}

// policy is one that the kernel reports.
type policy struct {
	Policy        // Remote is valid only in those that send by SAs
	wire   []byte // of the selector, sizeSelector bytes
	index  uint32
	ours   bool
}

// parsePolicy reads the body of a NEWPOLICY message. A policy is ours when a
// template of it has a reqid of ours, or no reqid and the policy a priority of ours.
func parsePolicy(b []byte) (policy, error) {
	if len(b) < sizePolicyInfo {
		return policy{}, nlattr.ErrMalformed
	}
	p := policy{wire: append([]byte(nil), b[:sizeSelector]...), index: native.Uint32(b[offPolicyIndex:])}
	p.Dir = PolicyDirection(b[offPolicyDir])
	p.Src, p.Dst = selectorPrefixes(b)
	p.Proto = b[offSelProto]
	p.SrcPort, p.DstPort = selectorPorts(b)
	tagged := Ours(native.Uint32(b[offPolicyPriority:]))
	err := nlattr.Each(b[sizePolicyInfo:], func(typ uint16, data []byte) error {
		switch typ {
		case attrIfID:
			if len(data) < 4 {
				return nlattr.ErrMalformed
			}
			p.IfID = native.Uint32(data)
		case attrTemplate:
			for ; len(data) >= sizeTemplate; data = data[sizeTemplate:] {
				p.template(data, tagged)
			}
		}
		return nil
	})
	return p, err
}

// template reads one template of a policy whose priority is ours or not.
func (p *policy) template(t []byte, tagged bool) {
	reqid := native.Uint32(t[offTemplateReqid:])
	if !Ours(reqid) && !IsIdle(reqid) && !(reqid == 0 && tagged && t[offTemplateProto] == unix.IPPROTO_ESP) {
		return
	}
	p.ours, p.Reqid, p.Mode = true, reqid, Mode(t[offTemplateMode])
	fam := native.Uint16(t[offTemplateFamily:])
	dst, _ := addr(t[:16], fam)
	if p.Dir != PolicyOut {
		p.Local = dst
		return
	}
	if !IsIdle(reqid) {
		p.Remote = dst
	}
	p.Local, _ = addr(t[offTemplateSrc:offTemplateSrc+16], fam)
}
