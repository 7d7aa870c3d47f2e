package xfrm

import (
	"github.com/mdlayher/netlink"

	"vrgate/vr/nlattr"
)

// Census is how many SAs and policies a namespace has, whoever's they are. Policies on sockets do not count, states that wait for
// an SA (see [Kernel.WatchAcquires]) do.
type Census struct{ SAs, Policies int }

// Census asks the kernel, which keeps count: it costs the same however many there are.
func (k *Kernel) Census() (Census, error) {
	var c Census
	for _, q := range []struct {
		ask, answer netlink.HeaderType
		parse       func(*Census, []byte) error
	}{{msgGetSADInfo, msgNewSADInfo, (*Census).parseSAs}, {msgGetSPDInfo, msgNewSPDInfo, (*Census).parsePolicies}} {
		msgs, err := k.execute(q.ask, appendUint32(nil, 0)) // flags
		for _, m := range msgs {
			if err == nil && m.Header.Type == q.answer {
				err = q.parse(&c, m.Data)
			}
		}
		if err != nil {
			return Census{}, mapError("count SAs and policies", nil, err)
		}
	}
	return c, nil
}

// Parts of struct xfrmu_spdinfo: six counters of 32 bits, of policies in, out and forward, and of those on sockets.
const sizeSPDInfo = 24

// parseSAs reads the body of a NEWSADINFO message: flags u32 and attributes.
func (c *Census) parseSAs(b []byte) error {
	return countersOf(b, attrSADCount, 4, func(data []byte) { c.SAs = int(native.Uint32(data)) })
}

// parsePolicies reads the body of a NEWSPDINFO message: flags u32 and attributes.
func (c *Census) parsePolicies(b []byte) error {
	return countersOf(b, attrSPDInfo, sizeSPDInfo, func(data []byte) {
		c.Policies = 0
		for dir := range policyDirections {
			c.Policies += int(native.Uint32(data[4*dir:]))
		}
	})
}

// countersOf hands the attribute with the counters to read.
func countersOf(b []byte, attr uint16, size int, read func(data []byte)) error {
	if len(b) < 4 {
		return nlattr.ErrMalformed
	}
	found := false
	err := nlattr.Each(b[4:], func(typ uint16, data []byte) error {
		if typ != attr {
			return nil
		}
		if len(data) < size {
			return nlattr.ErrMalformed
		}
		found = true
		read(data)
		return nil
	})
	if err == nil && !found {
		err = nlattr.ErrMalformed
	}
	return err
}
