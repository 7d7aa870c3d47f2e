package unit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrgate/vr"
	"vrgate/vr/nlattr"
)

// here is the process's own namespace.
type here struct{ fd int }

func (h here) Do(fn func() error) error { return fn() }
func (h here) NetNS() int               { return h.fd }

func openHere(t *testing.T) *Net {
	t.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	n, err := OpenNet(here{int(f.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(n.Close(), n.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestSpecIsChecked(t *testing.T) {
	n := openHere(t)
	good := Spec{Transport: n, Target: n, Channel: 1, Name: "vg%d", MTU: 1400}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Spec){
		"no namespace": func(s *Spec) { s.Transport = nil },
		"channel":      func(s *Spec) { s.Channel = -1 },
		"small MTU":    func(s *Spec) { s.MTU = MinMTU - 1 },
		"large MTU":    func(s *Spec) { s.MTU = MaxMTU + 1 },
		"long name":    func(s *Spec) { s.Name = strings.Repeat("x", unix.IFNAMSIZ) },
		"slash":        func(s *Spec) { s.Name = "a/b" },
		"two numbers":  func(s *Spec) { s.Name = "a%db%d" },
		"dot":          func(s *Spec) { s.Name = "." },
		"master":       func(s *Spec) { s.Master = -1 },
	} {
		s := good
		change(&s)
		if _, err := Open(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLoopbackLink uses rtnetlink on an interface that every kernel has.
func TestLoopbackLink(t *testing.T) {
	n := openHere(t)
	index, err := n.indexByName("lo")
	if err != nil || index != 1 {
		t.Errorf("index of lo: %d, %v", index, err)
	}
	if _, err := n.traffic(index); err != nil {
		t.Error(err)
	}
	if _, err := n.indexByName("no-such-link"); !errors.Is(mapError("op", err), ErrNotFound) {
		t.Error(err)
	}
	if _, err := n.traffic(1 << 30); !errors.Is(mapError("op", err), ErrNotFound) {
		t.Error(err)
	}
}

func TestNewLink(t *testing.T) {
	b := newLink{fd: 5, name: "vg0", mtu: 1400, master: 3, group: 9, namespace: 7}.encode()
	got := map[uint16][]byte{}
	if err := nlattr.Each(b[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) error { got[typ] = data; return nil }); err != nil {
		t.Fatal(err)
	}
	u32 := func(v uint32) []byte { return native.AppendUint32(nil, v) }
	for typ, want := range map[uint16][]byte{
		unix.IFLA_IFNAME: []byte("vg0\x00"), unix.IFLA_MTU: u32(1400), unix.IFLA_MASTER: u32(3), unix.IFLA_GROUP: u32(9), unix.IFLA_NET_NS_FD: u32(7),
	} {
		if !bytes.Equal(got[typ], want) {
			t.Errorf("attribute %d: %x, want %x", typ, got[typ], want)
		}
	}
	info := map[uint16][]byte{}
	if err := nlattr.Each(got[unix.IFLA_LINKINFO], func(typ uint16, data []byte) error { info[typ] = data; return nil }); err != nil {
		t.Fatal(err)
	}
	if string(info[unix.IFLA_INFO_KIND]) != "ppp\x00" || !bytes.Equal(info[unix.IFLA_INFO_DATA], nlattr.AppendUint32(nil, unix.IFLA_PPP_DEV_FD, 5)) {
		t.Errorf("link info %x", info)
	}
	if plain := (newLink{fd: 5, name: "vg0", mtu: 1400, namespace: -1}).encode(); bytes.Contains(plain[16:], u32(unix.IFLA_NET_NS_FD)) {
		t.Error("a namespace that was not asked for")
	}
}

// TestPort reads and writes through a socket pair in the driver's place.
func TestPort(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, q := &Port{fd: fds[0]}, &Port{fd: fds[1]}
	buf := make([]byte, MaxFrame)
	if _, err := p.ReadFrame(buf); !errors.Is(err, ErrWouldBlock) {
		t.Error(err)
	}
	if err := q.WriteFrame(0xc021, []byte{1, 2, 0, 4}); err != nil {
		t.Fatal(err)
	}
	if f, err := p.ReadFrame(buf); err != nil || f.Protocol != 0xc021 || !bytes.Equal(f.Data, []byte{1, 2, 0, 4}) {
		t.Errorf("%+v, %v", f, err)
	}
	if err := q.WriteFrame(0xc021, make([]byte, MaxFrame)); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := unix.Write(fds[1], []byte{0xc0}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ReadFrame(buf); !errors.Is(err, nlattr.ErrMalformed) {
		t.Error(err)
	}
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ReadFrame(buf); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := errors.Join(p.close(), p.close()); err != nil {
		t.Error(err)
	}
	if _, err := p.ReadFrame(buf); !errors.Is(err, ErrClosed) || p.FD() != -1 || !errors.Is(p.WriteFrame(1, nil), ErrClosed) {
		t.Error("a closed port is used")
	}
}

func TestErrors(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.EEXIST: ErrExists, unix.ENODEV: ErrNotFound, unix.ENXIO: ErrNotFound, unix.EBUSY: ErrBusy, unix.EPERM: unix.EPERM,
	} {
		if err := mapError("op", errno); !errors.Is(err, want) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	var missing *vr.MissingFeature
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ENODEV, unix.ENXIO, unix.EOPNOTSUPP} {
		if err := missingDriver("op", errno); !errors.As(err, &missing) || !strings.Contains(err.Error(), "modprobe ppp_generic") {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

func FuzzParseStats(f *testing.F) {
	f.Add(nlattr.Append(make([]byte, sizeStatsMsg), statsLink64, bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 24)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseStats(b)
		if err != nil {
			return
		}
		var data []byte
		for _, v := range []uint64{s.RxPackets, s.TxPackets, s.RxBytes, s.TxBytes, s.RxErrors, s.TxErrors, s.RxDropped, s.TxDropped} {
			data = native.AppendUint64(data, v)
		}
		again, err := parseStats(nlattr.Append(make([]byte, sizeStatsMsg), statsLink64, data))
		if err != nil || again != s {
			t.Fatalf("%+v came back as %+v, %v", s, again, err)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	f.Add([]byte{0xc0, 0x21, 9, 1, 0, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			if len(b) >= sizeProtocol {
				t.Fatal(err)
			}
			return
		}
		if got := append([]byte{byte(fr.Protocol >> 8), byte(fr.Protocol)}, fr.Data...); !bytes.Equal(got, b) {
			t.Fatalf("%x came back as %x", b, got)
		}
	})
}
