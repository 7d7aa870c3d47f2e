package vr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopback opens a socket on 127.0.0.1 without a router.
func loopback(t *testing.T, marker bool, options func(fd int) error) *Socket {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("127.0.0.1")
	if options != nil {
		if err := options(fd); err != nil {
			t.Fatal(err)
		}
		addr = netip.IPv4Unspecified()
	}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(addr, 0))); err != nil {
		t.Fatal(err)
	}
	s, err := newSocket(fd, marker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// receive waits for datagrams.
func receive(t *testing.T, s *Socket, b *Batch, n int) (all []string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); len(all) < n; time.Sleep(time.Millisecond) {
		got, err := s.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range got {
			all = append(all, string(d.Data))
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %q only", all)
		}
	}
	return all
}

func TestBatch(t *testing.T) {
	a, b := loopback(t, false, nil), loopback(t, false, nil)
	batch := NewBatch(4, 100)
	if got, err := a.ReadFrom(batch); err != nil || len(got) != 0 {
		t.Fatalf("nothing sent: %v, %v", got, err)
	}
	var want []string
	for i := range 10 {
		text := fmt.Sprintf("datagram %d", i)
		if err := b.WriteTo([]byte(text), netip.Addr{}, a.Local()); err != nil {
			t.Fatal(err)
		}
		want = append(want, text)
	}
	if got := receive(t, a, batch, 10); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// One that does not fit is dropped, the next is not lost; an empty one is a datagram.
	for _, size := range []int{101, 100, 0} {
		if err := b.WriteTo(make([]byte, size), netip.Addr{}, a.Local()); err != nil {
			t.Fatal(err)
		}
	}
	got := receive(t, a, batch, 2)
	if len(got[0]) != 100 || len(got[1]) != 0 || batch.Dropped() != 1 {
		t.Errorf("got sizes %d, %d, %d dropped", len(got[0]), len(got[1]), batch.Dropped())
	}
}

func TestWildcard(t *testing.T) {
	a := loopback(t, false, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1) })
	b := loopback(t, false, nil)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), a.Local().Port())
	if err := b.WriteTo([]byte("question"), netip.Addr{}, at); err != nil {
		t.Fatal(err)
	}
	batch := NewBatch(1, 100)
	var d Datagram
	for d.Data == nil {
		got, err := a.ReadFrom(batch)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 {
			d = got[0]
		}
	}
	if d.Local != at || d.Remote != b.Local() {
		t.Errorf("at %s from %s, want at %s from %s", d.Local, d.Remote, at, b.Local())
	}
	if err := a.WriteTo([]byte("answer"), d.Local.Addr(), d.Remote); err != nil {
		t.Fatal(err)
	}
	batch = NewBatch(1, 100)
	receive(t, b, batch, 1)
	if from := batch.datagrams[0].Remote; from != at {
		t.Errorf("the answer comes from %s, want %s", from, at)
	}
}

func TestMarker(t *testing.T) {
	a, b := loopback(t, true, nil), loopback(t, false, nil)
	for _, data := range []string{"", "\xff", "\x00\x00\x00", "\x00\x00\x00\x01ESP", "\x00\x00\x00\x00IKE", "\x00\x00\x00\x00"} {
		if err := b.WriteTo([]byte(data), netip.Addr{}, a.Local()); err != nil {
			t.Fatal(err)
		}
	}
	batch := NewBatch(16, 100)
	if got := receive(t, a, batch, 2); !slices.Equal(got, []string{"IKE", ""}) || batch.Dropped() != 4 {
		t.Errorf("got %q, %d dropped", got, batch.Dropped())
	}
	if err := a.WriteTo([]byte("answer"), netip.Addr{}, b.Local()); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b, batch, 1); got[0] != "\x00\x00\x00\x00answer" {
		t.Errorf("got %q", got[0])
	}
}

// TestRefusedIsAHint: an ICMP error stops neither sending nor receiving.
func TestRefusedIsAHint(t *testing.T) {
	a, b := loopback(t, false, nil), loopback(t, false, nil)
	if err := unix.Connect(a.FD(), sockaddr(b.Local())); err != nil {
		t.Fatal(err)
	}

	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	batch := NewBatch(1, 10)
	for range 5 {
		if _, err := a.Write([]byte("anybody?")); err != nil {
			t.Fatalf("write: %v", err)
		}
		time.Sleep(time.Millisecond)
		if got, err := a.ReadFrom(batch); err != nil || len(got) != 0 {
			t.Fatalf("read: %v, %v", got, err)
		}
	}

}

// TestSocketClose: nothing uses the number of a closed descriptor, which may be another's by then.
func TestSocketClose(t *testing.T) {
	a, to := loopback(t, false, nil), loopback(t, false, nil).Local()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			batch := NewBatch(1, 10)
			for {
				err := a.WriteTo([]byte("x"), netip.Addr{}, to)
				if err == nil || errors.Is(err, ErrAgain) {
					_, err = a.ReadFrom(batch)
				}
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	wait.Wait()
	if a.FD() != -1 {
		t.Errorf("descriptor %d after Close", a.FD())
	}
	if _, err := a.Write(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
}

// TestSocketPolicy: the buffer for setsockopt, byte by byte where it is not zero; the layout is that of
// linux/xfrm.h on a little-endian machine.
func TestSocketPolicy(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("big-endian machine")
	}
	set := func(b []byte, at int, v ...byte) { copy(b[at:], v) }
	bypass := make([]byte, 168)
	set(bypass, 40, 2, 0)                             // selector.family: AF_INET
	set(bypass, 56, bytes.Repeat([]byte{255}, 32)...) // no limits
	set(bypass, 160, 1)                               // out
	if got := socketPolicy(policyOut, 0); !bytes.Equal(got, bypass) {
		t.Errorf("bypass:\n%x\nwant\n%x", got, bypass)
	}
	protect := append(bytes.Clone(bypass), make([]byte, 64)...)
	set(protect, 160, 0)                         // in
	set(protect, 168+20, 50)                     // ESP
	set(protect, 168+24, 2, 0)                   // AF_INET
	set(protect, 168+44, 0x78, 0x56, 0x34, 0x11) // reqid
	set(protect, 168+52, bytes.Repeat([]byte{255}, 12)...)
	if got := socketPolicy(policyIn, 0x11345678); !bytes.Equal(got, protect) {
		t.Errorf("protect:\n%x\nwant\n%x", got, protect)
	}
}

// FuzzReadControl: whatever the control messages are, nothing is read outside of them, and a well-formed
// mark and address are found wherever they stand.
func FuzzReadControl(f *testing.F) {
	mark := make([]byte, unix.CmsgSpace(4))
	binary.NativeEndian.PutUint64(mark, uint64(unix.CmsgLen(4)))
	binary.NativeEndian.PutUint32(mark[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(mark[12:], unix.SO_MARK)
	binary.NativeEndian.PutUint32(mark[16:], 0x11000007)
	info := packetInfo(netip.MustParseAddr("192.0.2.9"))
	copy(info[unix.CmsgLen(0)+8:], []byte{192, 0, 2, 9}) // ipi_addr, which the kernel fills on receive
	f.Add([]byte{})
	f.Add(mark)
	f.Add(info)
	f.Add(mark[:12])
	f.Fuzz(func(t *testing.T, other []byte) {
		var d Datagram
		d.readControl(bytes.Clone(other))
		// A first message of a foreign type, whole and padded, does not hide those that follow.
		first := make([]byte, unix.CmsgSpace(len(other)))
		binary.NativeEndian.PutUint64(first, uint64(unix.CmsgLen(len(other))))
		binary.NativeEndian.PutUint32(first[8:], 0x7777)
		copy(first[unix.CmsgLen(0):], other)
		d = Datagram{Local: netip.MustParseAddrPort("0.0.0.0:1701")}
		d.readControl(slices.Concat(first, mark, info))
		if d.Mark != 0x11000007 || d.Local != netip.MustParseAddrPort("192.0.2.9:1701") {
			t.Fatalf("mark %#x at %s", d.Mark, d.Local)
		}
	})
}
