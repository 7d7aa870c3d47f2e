//go:build kernel

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
	"vrgate/vr"
)

// crowd adds subscribers of one peer's outer address to a world, each with its own connection, until there are
// n, and returns how long each took from nothing to both SAs.
func (w *world) crowd(t testing.TB, n int) time.Duration {
	t.Helper()
	p := w.peers[1]
	begin := time.Now()
	for i := w.members; i < n; i++ {
		f := w.openAccess(p)
		f.ID, f.Conn, f.Address, f.Traffic = subscriber.ID(1000+i), uint32(1000+i), member(i), w.limits
		if _, _, err := w.plane.OpenAccess(f); err != nil {
			t.Fatal(err)
		}
		for dir, spi := range map[ike.Direction]uint32{ike.Inbound: 0x100000, ike.Outbound: 0x200000} {
			if err := w.plane.InstallSA(ike.SA{
				Conn: ike.ConnID(f.Conn), Dir: dir, SPI: spi + uint32(i), Local: f.Local, Remote: f.Remote, Tunnel: true, Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1,
				AuthBits: 96, EncKey: make([]byte, 16), AuthKey: make([]byte, 20), HardLife: time.Hour, LocalNet: anywhere, RemoteNet: netip.PrefixFrom(f.Address, 32),
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	added := n - w.members
	w.members = n
	return time.Since(begin) / time.Duration(max(added, 1))
}

// leave takes the newest members away again and returns how long each took.
func (w *world) leave(t testing.TB, n int) time.Duration {
	t.Helper()
	p := w.peers[1]
	begin := time.Now()
	for range n {
		w.members--
		i := uint32(w.members)
		for dir, spi := range map[ike.Direction]uint32{ike.Inbound: 0x100000, ike.Outbound: 0x200000} {
			if err := w.plane.RemoveSA(ike.RemoveSA{Conn: ike.ConnID(1000 + i), Dir: dir, SPI: spi + i, Local: netip.MustParseAddr(serverAddress), Remote: p.outer}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.plane.CloseAccess(subscriber.ID(1000 + i)); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(begin) / time.Duration(max(n, 1))
}

// member is the inner address of one of a crowd.
func member(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 20, byte(i >> 8), byte(i)})
}

// send sends datagrams of 100 bytes from a namespace and returns how long each took: forwarding, and what IPsec
// has to do, happens within the call, because the links between the namespaces have no queue.
func send(t testing.TB, space string, from netip.Addr, to func(i int) netip.Addr, n int) time.Duration {
	t.Helper()
	var took time.Duration
	inSpace(t, space, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			return err
		}
		payload := make([]byte, 72)
		begin := time.Now()
		for i := range n {
			err := unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Port: 9, Addr: to(i).As4()})
			if err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOBUFS) {
				return err
			}
		}
		took = time.Since(begin) / time.Duration(n)
		return nil
	})
	return took
}

// measurement is of a router with so many subscribers.
type measurement struct {
	enter, exit time.Duration // a subscriber comes, goes
	out, in     time.Duration // a packet to any of them, from one of them
}

// measure fills a world up to n subscribers; the last part of them, which come and go, is measured.
func (w *world) measure(t testing.TB, n, part, packets int) measurement {
	t.Helper()
	var m measurement
	w.crowd(t, n-part)
	m.enter = w.crowd(t, n)
	// A stride that is prime to every number used meets them in no order that the kernel has them in.
	m.out = send(t, w.intranet, netip.MustParseAddr(intranetText), func(i int) netip.Addr { return member(i * 7919 % n) }, packets)
	m.in = send(t, w.peers[0].space, w.peers[0].inner, func(int) netip.Addr { return netip.MustParseAddr(intranetText) }, packets)
	m.exit = w.leave(t, part)
	return m
}

// TestAccessScale runs the measurement with few: what is sent to members of the crowd leaves encrypted.
func TestAccessScale(t *testing.T) {
	w := newWorld(t, layouts[0].transport, layouts[0].end)
	w.limits = generous
	w.connect(w.peers[0])
	const n, part, packets = 200, 50, 400
	m := w.measure(t, n, part, packets)
	if m.enter <= 0 || m.exit <= 0 || m.out <= 0 || m.in <= 0 {
		t.Errorf("measured %+v", m)
	}
	var out uint64
	for i := range n - part {
		c, ok := w.plane.Traffic(ike.ConnID(1000 + i))
		if !ok {
			t.Fatalf("member %d has gone", i)
		}
		out += c.OutPackets
	}
	if out != packets*(n-part)/n {
		t.Errorf("%d packets left to %d members, want %d", out, n-part, packets*(n-part)/n)
	}
	if c, ok := w.plane.Traffic(1); !ok || c.InPackets != packets {
		t.Errorf("%d packets came, want %d", c.InPackets, packets)
	}
	w.leave(t, w.members)
	w.check(w.plane.Close())
}

// generous is a rate each way that never drops a packet.
var generous = aaa.Traffic{In: vr.MaxRate, Out: vr.MaxRate}

// BenchmarkAccess measures how the kernel's work for a packet, and for a subscriber that comes and goes, depends
// on the number of subscribers, with and without rates. It does not when policies, SAs and filters are found by hash.
func BenchmarkAccess(b *testing.B) {
	for _, tc := range []struct {
		n      int
		limits aaa.Traffic
	}{{n: 100}, {n: 1000}, {n: 10000}, {100, generous}, {1000, generous}, {10000, generous}} {
		n := tc.n
		b.Run(fmt.Sprintf("%d, limited %v", n, tc.limits != (aaa.Traffic{})), func(b *testing.B) {
			var sum measurement
			for range b.N {
				b.StopTimer()
				w := newWorld(b, layouts[0].transport, layouts[0].end)
				w.limits = tc.limits
				w.connect(w.peers[0])
				b.StartTimer()
				m := w.measure(b, n, 50, 20000)
				b.StopTimer()
				w.leave(b, w.members)
				if err := w.plane.Close(); err != nil {
					b.Fatal(err)
				}
				sum.enter, sum.exit, sum.out, sum.in = sum.enter+m.enter, sum.exit+m.exit, sum.out+m.out, sum.in+m.in
			}
			for unit, v := range map[string]time.Duration{"enter-ns": sum.enter, "exit-ns": sum.exit, "out-ns/packet": sum.out, "in-ns/packet": sum.in} {
				b.ReportMetric(float64(v.Nanoseconds())/float64(b.N), unit)
			}
		})
	}
}
