//go:build kernel

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// sniffer counts what leaves by the links to the peers and is neither encrypted nor the server's own.
type sniffer struct {
	mu    sync.Mutex
	clear []string
	esp   int
}

func (w *world) sniff() *sniffer {
	s := &sniffer{}
	for _, p := range w.peers {
		var fd int
		inSpace(w.t, w.transport.space, func() (err error) {
			const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all); err != nil {
				return err
			}
			index, err := linkIndex(p.dev)
			if err != nil {
				return err
			}
			return errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}),
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000}))
		})
		stop, done := make(chan struct{}), make(chan struct{})
		go s.read(fd, p.dev, stop, done)
		w.t.Cleanup(func() { close(stop); <-done; unix.Close(fd) })
	}
	return s
}

func (s *sniffer) read(fd int, dev string, stop, done chan struct{}) {
	defer close(done)
	b := make([]byte, 64<<10)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(fd, b, 0)
		ll, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok || ll.Pkttype != unix.PACKET_OUTGOING || n < 28 || b[0]>>4 != 4 {
			continue
		}
		src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		s.mu.Lock()
		if b[9] == unix.IPPROTO_ESP || b[9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(b[20:]) == 4500 {
			s.esp++
		} else if !strings.HasPrefix(src.String(), "198.51.") || !strings.HasPrefix(dst.String(), "198.51.") {
			s.clear = append(s.clear, fmt.Sprintf("%s: %v to %v protocol %d, %x", dev, src, dst, b[9], b[20:min(n, 60)])) // an ICMP error says what about
		}
		s.mu.Unlock()
	}
}

func linkIndex(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	return int(req.Uint32()), nil
}
