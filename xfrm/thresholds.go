package xfrm

import (
	"bytes"

	"vrgate/vr/nlattr"
)

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
