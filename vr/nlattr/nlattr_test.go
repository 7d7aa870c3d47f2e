package nlattr

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// TestAppend compares with what the library writes.
func TestAppend(t *testing.T) {
	got := AppendUint8(nil, 1, 0x12)
	got = AppendUint16(got, 2, 0x1234)
	got = AppendUint32(got, 3, 0x12345678)
	got = AppendUint64(got, 4, 0x123456789abcdef0)
	got = AppendString(got, 5, "ppp")
	got = Append(got, unix.NLA_F_NESTED|6, AppendUint8(nil, 1, 1))
	e := netlink.NewAttributeEncoder()
	e.Uint8(1, 0x12)
	e.Uint16(2, 0x1234)
	e.Uint32(3, 0x12345678)
	e.Uint64(4, 0x123456789abcdef0)
	e.String(5, "ppp")
	e.Nested(6, func(n *netlink.AttributeEncoder) error { n.Uint8(1, 1); return nil })
	want, err := e.Encode()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x\nwant %x, %v", got, want, err)
	}
}

func TestEach(t *testing.T) {
	for name, b := range map[string][]byte{
		"length of less than a header": {3, 0, 1, 0}, "length beyond the end": {9, 0, 1, 0, 1, 2, 3, 4},
	} {
		if err := Each(b, func(uint16, []byte) error { return nil }); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	two := AppendUint32(AppendUint32(nil, 1, 1), 2, 2)
	calls := 0
	if err := Each(two, func(uint16, []byte) error { calls++; return io.EOF }); !errors.Is(err, io.EOF) || calls != 1 {
		t.Errorf("the callback's error came as %v after %d calls", err, calls)
	}
}

// FuzzEach: what is read, written again, reads the same.
func FuzzEach(f *testing.F) {
	f.Add(AppendString(AppendUint16(nil, unix.NLA_F_NESTED|7, 9), 3, "name"))
	f.Add([]byte{5, 0, 1, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		type attr struct {
			typ  uint16
			data []byte
		}
		var first []attr
		var again []byte
		err := Each(b, func(typ uint16, data []byte) error {
			first = append(first, attr{typ, data})
			again = Append(again, typ, data)
			return nil
		})
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		n := 0
		err = Each(again, func(typ uint16, data []byte) error {
			if n >= len(first) || typ != first[n].typ || !bytes.Equal(data, first[n].data) {
				t.Errorf("attribute %d became %d %x", n, typ, data)
			}
			n++
			return nil
		})
		if err != nil || n != len(first) {
			t.Errorf("%d attributes became %d, %v", len(first), n, err)
		}
	})
}
