package loadgen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiveBuffer holds what arrives while the owner computes, in bytes: answers for
// a few hundred clients at once.
const receiveBuffer = 4 << 20

// maxPacket is the largest packet taken, in bytes.
const maxPacket = 4096

// ikePort and l2tpPort are on both sides.
const (
	ikePort  = 500
	l2tpPort = 1701
)

// packet is one received IKE message, ESP packet or, by a carrier, L2TP datagram.
type packet struct {
	esp, l2tp     bool
	local, remote netip.Addr
	data          []byte
}

// sockets are the generator's two, for all source addresses, or a carrier's one.
type sockets struct {
	ike  *net.UDPConn
	esp  *net.IPConn
	l2tp *net.UDPConn
}

// openSockets opens both where the caller's thread is.
func openSockets() (_ *sockets, err error) {
	s := &sockets{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("loadgen: %w", err), s.close())
		}
	}()
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	ike, err := listen.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", ikePort))
	if err != nil {
		return s, err
	}
	s.ike = ike.(*net.UDPConn)
	esp, err := listen.ListenPacket(context.Background(), fmt.Sprintf("ip4:%d", protoESP), "0.0.0.0")
	if err != nil {
		return s, err
	}
	s.esp = esp.(*net.IPConn)
	return s, nil
}

func (s *sockets) close() error {
	var errs []error
	if s.ike != nil {
		errs = append(errs, s.ike.Close())
	}
	if s.esp != nil {
		errs = append(errs, s.esp.Close())
	}
	if s.l2tp != nil {
		errs = append(errs, s.l2tp.Close())
	}
	return errors.Join(errs...)
}

// from is the control message that chooses the source address.
func from(local netip.Addr) []byte {
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
}

func (s *sockets) sendIKE(local, remote netip.Addr, data []byte) error {
	_, _, err := s.ike.WriteMsgUDPAddrPort(data, from(local), netip.AddrPortFrom(remote, ikePort))
	return err
}

func (s *sockets) sendESP(local, remote netip.Addr, data []byte) error {
	_, _, err := s.esp.WriteMsgIP(data, from(local), &net.IPAddr{IP: remote.AsSlice()})
	return err
}

// readIKE hands every message to take until the socket is closed.
func (s *sockets) readIKE(take func(packet)) {
	data, oob := make([]byte, maxPacket), make([]byte, 64)
	for {
		n, control, _, remote, err := s.ike.ReadMsgUDPAddrPort(data, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if local, ok := destination(oob[:control]); err == nil && ok {
			take(packet{local: local, remote: remote.Addr().Unmap(), data: append([]byte(nil), data[:n]...)})
		}
	}
}

// destination is the address that a datagram was sent to.
func destination(oob []byte) (netip.Addr, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, m := range messages {
		// struct in_pktinfo: interface, local address, address of the header.
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12 {
			return netip.AddrFrom4([4]byte(m.Data[8:12])), true
		}
	}
	return netip.Addr{}, false
}

// readESP hands every ESP packet to take until the socket is closed.
func (s *sockets) readESP(take func(packet)) {
	data := make([]byte, maxPacket)
	for {
		// Unlike other ways to read, this one keeps the IPv4 header.
		n, _, _, _, err := s.esp.ReadMsgIP(data, nil)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < ipv4Header {
			continue
		}
		head := int(data[0]&0xf) * 4
		if head < ipv4Header || head > n {
			continue
		}
		take(packet{
			esp: true, remote: netip.AddrFrom4([4]byte(data[12:16])), local: netip.AddrFrom4([4]byte(data[16:20])),
			data: append([]byte(nil), data[head:n]...),
		})
	}
}
