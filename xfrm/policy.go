package xfrm

import (
	"errors"

	"vrgate/vr/nlattr"
)

// policyDirections are XFRM_POLICY_IN, OUT and FWD; what a dump reports beyond
// these are policies on sockets, which live and die with their sockets.
const policyDirections = 3

const (
	offPolicyIndex     = 156
	offPolicyDir       = 160
	offPolicyIDIndex   = 56
	offPolicyIDDir     = 60
	offTemplateReqid   = 44
	offTemplatePadding = sizeTemplate
)

// policy is what FlushPolicies needs to know of one.
type policy struct {
	selector []byte // sizeSelector bytes
	index    uint32
	dir      uint8
	ours     bool
}

// parsePolicy reads the body of a NEWPOLICY message. A policy is ours when a
// template of it has a reqid of ours.
func parsePolicy(b []byte) (policy, error) {
	if len(b) < sizePolicyInfo {
		return policy{}, nlattr.ErrMalformed
	}
	p := policy{selector: append([]byte(nil), b[:sizeSelector]...), index: native.Uint32(b[offPolicyIndex:]), dir: b[offPolicyDir]}
	err := nlattr.Each(b[sizePolicyInfo:], func(typ uint16, data []byte) error {
		if typ != attrTemplate {
			return nil
		}
		for ; len(data) >= sizeTemplate; data = data[offTemplatePadding:] {
			p.ours = p.ours || Ours(native.Uint32(data[offTemplateReqid:]))
		}
		return nil
	})
	return p, err
}

// FlushPolicies removes every policy of ours from the namespace's security
// policy database and says how many there were. Policies on sockets go with
// their sockets and are not touched.
func (k *Kernel) FlushPolicies() (int, error) {
	var list []policy
	err := k.dump(msgGetPolicy, nil, func(body []byte) error {
		p, err := parsePolicy(body)
		if err == nil && p.ours && p.dir < policyDirections {
			list = append(list, p)
		}
		return err
	})
	errs := []error{mapError("list policies", nil, err)}
	for _, p := range list {
		body := make([]byte, sizePolicyID)
		copy(body, p.selector)
		native.PutUint32(body[offPolicyIDIndex:], p.index)
		body[offPolicyIDDir] = p.dir
		_, err := k.execute(msgDelPolicy, body)
		if err = mapError("remove policy", nil, err); !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return len(list), errors.Join(errs...)
}

// SetHashThresholds makes the namespace keep policies "anything to one host" in
// a hash instead of a tree whose branches collapse into lists (kernel.md
// section 3.3: with 10,000 of them 26 instead of 1,000 microseconds a packet).
// It is done once, when a virtual router is made and its policy database is
// still empty, since the kernel rebuilds the database under its lock.
func SetHashThresholds(netns int) error {
	k, err := Open(netns)
	if err != nil {
		return err
	}
	defer k.Close()
	body := appendUint32(nil, 0) // flags
	body = nlattr.Append(body, attrSPDIPv4HThresh, []byte{0, 32})
	body = nlattr.Append(body, attrSPDIPv6HThresh, []byte{0, 128})
	_, err = k.execute(msgNewSPDInfo, body)
	return mapError("set policy hash thresholds", nil, err)
}
