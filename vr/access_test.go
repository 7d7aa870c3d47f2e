package vr

import (
	"encoding/binary"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// news is a message about a link.
func news(typ uint16, index int, flags uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, make([]byte, 10)...) // flags, sequence number, port
	b = append(b, make([]byte, 4)...)  // family, pad, type
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return append(b, make([]byte, 4)...) // change
}

// TestNews: a link is lost when it is deleted or down, and only then (J9).
func TestNews(t *testing.T) {
	for _, tc := range []struct {
		what string
		b    []byte
		want fate
	}{
		{"deleted", news(unix.RTM_DELLINK, 5, unix.IFF_UP), gone},
		{"down", news(unix.RTM_NEWLINK, 5, unix.IFF_RUNNING), down},
		{"up", news(unix.RTM_NEWLINK, 5, unix.IFF_UP), fine},
		{"another deleted", news(unix.RTM_DELLINK, 6, 0), fine},
		{"another down", news(unix.RTM_NEWLINK, 6, 0), fine},
		{"an address", news(unix.RTM_DELADDR, 5, 0), fine},
		{"cut off", news(unix.RTM_DELLINK, 5, 0)[:unix.SizeofNlMsghdr+unix.SizeofIfInfomsg-1], fine},
		{"nothing", nil, fine},
	} {
		if got := parseNews(tc.b, 5); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.what, got, tc.want)
		}
	}
}

// FuzzNews: a message about another link, whatever it is, never means that ours is lost.
func FuzzNews(f *testing.F) {
	f.Add(news(unix.RTM_DELLINK, 5, 0), 5)
	f.Add(news(unix.RTM_NEWLINK, 5, unix.IFF_UP), 6)
	f.Fuzz(func(t *testing.T, b []byte, index int) {
		if parseNews(b, index) != fine && parseNews(b, index+1) != fine {
			t.Fatalf("%x is about two links", b)
		}
	})
}

// TestAccessNames: names fit the kernel, differ for each pair and direction, and say whose the interface is;
// nobody else's is taken for one of ours (A8).
func TestAccessNames(t *testing.T) {
	seen := map[string]bool{}
	routers := []string{"red", "blue", "a", "a.to.b", "to", "x-y_z"}
	for _, from := range routers {
		for _, to := range routers {
			policy := LinkPolicy{ClampMSS: from == "red", MSS: 1300 * len(seen) % 2600}.text()
			name := accessLink(from, to, policy)
			if len(name) > maxLinkName || seen[name] {
				t.Errorf("%s to %s: name %q", from, to, name)
			}
			seen[name] = true
			link := &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: name, Alias: accessAlias(from, to, policy)}}
			if f, t2, ours := accessOf(link); !ours || f != from || t2 != to {
				t.Errorf("%q is of %q to %q, %t", link.Alias, f, t2, ours)
			}
			if _, _, ours := accessOf(&netlink.Dummy{LinkAttrs: link.LinkAttrs}); ours {
				t.Error("a device of another kind is ours")
			}
			link.Name = "vrx-other"
			if _, _, ours := accessOf(link); ours {
				t.Error("a device of another name is ours")
			}
			if n := accessNumber(from, to, policy); n>>24 != 0x56 {
				t.Errorf("number %#x", n)
			}
		}
	}
	for _, alias := range []string{"", "vrgate", "vrgate red", "red to blue", "vrgate red to"} {
		if _, _, ours := accessOf(&netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: accessLink("red", "blue", ""), Alias: alias}}); ours {
			t.Errorf("%q is ours", alias)
		}
	}
}
