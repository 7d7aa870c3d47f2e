package xfrm

import (
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// sadInfo and spdInfo are what the kernel answers.
func sadInfo(sas uint32) []byte {
	return nlattr.AppendUint32(appendUint32(nil, 0), attrSADCount, sas)
}

func spdInfo(counts ...uint32) []byte {
	var data []byte
	for _, n := range counts {
		data = appendUint32(data, n)
	}
	return nlattr.Append(nlattr.Append(appendUint32(nil, 0), attrSPDIPv4HThresh, []byte{0, 32}), attrSPDInfo, data)
}

// TestCensus: policies of all directions count, those on sockets do not, and an answer without counters is none.
func TestCensus(t *testing.T) {
	var c Census
	if err := errors.Join(c.parseSAs(sadInfo(7)), c.parsePolicies(spdInfo(1, 20, 300, 4000, 50000, 600000))); err != nil || c != (Census{SAs: 7, Policies: 321}) {
		t.Errorf("%+v, %v", c, err)
	}
	for name, err := range map[string]error{
		"no flags":      c.parseSAs([]byte{0, 0}),
		"no counter":    c.parseSAs(appendUint32(nil, 0)),
		"short counter": c.parseSAs(nlattr.AppendUint16(appendUint32(nil, 0), attrSADCount, 1)),
		"few counters":  c.parsePolicies(spdInfo(1, 2, 3, 4, 5)),
	} {
		if !errors.Is(err, nlattr.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCensusFails: what the kernel refuses is an error, not a count of nothing.
func TestCensusFails(t *testing.T) {
	f := &fake{answer: func(int, netlink.HeaderType) (unix.Errno, []byte) { return unix.EPERM, nil }}
	if c, err := f.kernel().Census(); !errors.Is(err, unix.EPERM) || c != (Census{}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// FuzzCensus: the library's decoder reads the same.
func FuzzCensus(f *testing.F) {
	f.Add(sadInfo(7))
	f.Add(spdInfo(1, 2, 3, 4, 5, 6))
	f.Add(spdInfo(1, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Census
		sas, policies := c.parseSAs(b), c.parsePolicies(b)
		if sas != nil && policies != nil {
			return
		}
		d, err := netlink.NewAttributeDecoder(b[4:])
		if err != nil {
			return // it also fails at padding that is cut off
		}
		var want Census
		for d.Next() {
			if d.Type() != attrSADCount { // the same number in both
				continue
			}
			data := d.Bytes()
			want.SAs = int(native.Uint32(data))
			if len(data) >= sizeSPDInfo {
				want.Policies = int(native.Uint32(data)) + int(native.Uint32(data[4:])) + int(native.Uint32(data[8:]))
			}
		}
		if policies != nil {
			c.Policies, want.Policies = 0, 0
		}
		if c != want {
			t.Fatalf("%x: %+v, want %+v", b, c, want)
		}
	})
}
