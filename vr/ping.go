package vr

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// echoID is the identifier and the sequence number of an ICMP echo, which are random together: neither says which process asks.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Type      |     Code      |           Checksum            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           Identifier          |        Sequence Number        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Token …
//	+-+-+-+-+-
type echoID uint32

// Offsets and sizes of ICMP messages (RFC 792).
const (
	icmpCode     = 1
	icmpChecksum = 2
	icmpEchoID   = 4
	sizeICMP     = 8 // of an echo's header, and of what an error has before what it quotes
	sizeIPv4     = 20
	sizeToken    = 16 // random, in the payload: nobody answers who has not seen the question

	tcpSource        = 0 // of the header that an error quotes
	tcpTarget        = 2
	icmpEchoReply    = 0
	icmpEcho         = 8
	icmpTimeExceeded = 11
	icmpFilter       = 1 // ICMP_FILTER of linux/icmp.h, at SOL_RAW
)

// newEcho is what tells one echo from all others.
func newEcho() (id echoID, token [sizeToken]byte) {
	var b [4]byte
	rand.Read(b[:])
	rand.Read(token[:])
	return echoID(binary.BigEndian.Uint32(b[:])), token
}

// appendEcho appends an echo request.
func appendEcho(b []byte, id echoID, token [sizeToken]byte) []byte {
	at := len(b)
	b = append(b, icmpEcho, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(id))
	b = append(b, token[:]...)
	binary.BigEndian.PutUint16(b[at+icmpChecksum:], internetChecksum(b[at:]))
	return b
}

// internetChecksum is that of RFC 1071.
func internetChecksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// icmpAnswer is what an ICMP message says about an echo, or about a TCP connection.
type icmpAnswer struct {
	id     echoID
	flow   flow            // of TCP; its ports are 0 with an echo
	target netip.Addr      // that was asked
	token  [sizeToken]byte // of a reply
	typ    uint8           // icmpEchoReply, icmpUnreachable or icmpTimeExceeded
	code   uint8
}

// parseICMP reads an IPv4 packet with an ICMP message; false: it is nothing about an echo or TCP. The kernel has looked at the
// checksums of neither header: that of ICMP is ours to check.
func parseICMP(b []byte) (a icmpAnswer, ok bool) {
	_, source, _, body, ok := ipv4Payload(b)
	if !ok || len(body) < sizeICMP || internetChecksum(body) != 0 {
		return icmpAnswer{}, false
	}
	a.typ, a.code = body[icmpType], body[icmpCode]
	switch a.typ {
	case icmpEchoReply:
		if len(body) != sizeICMP+sizeToken {
			return icmpAnswer{}, false
		}
		a.id, a.target = echoID(binary.BigEndian.Uint32(body[icmpEchoID:])), source
		copy(a.token[:], body[sizeICMP:])
		return a, true
	case icmpUnreachable, icmpTimeExceeded:
		protocol, _, target, quoted, ok := ipv4Payload(body[sizeICMP:])
		if !ok || len(quoted) < sizeICMP {
			return icmpAnswer{}, false
		}
		a.target = target
		switch {
		case protocol == unix.IPPROTO_TCP:
			a.flow = flow{target: target, local: binary.BigEndian.Uint16(quoted[tcpSource:]), port: binary.BigEndian.Uint16(quoted[tcpTarget:])}
			return a, a.flow.port != 0
		case protocol == unix.IPPROTO_ICMP && quoted[icmpType] == icmpEcho:
			a.id = echoID(binary.BigEndian.Uint32(quoted[icmpEchoID:]))
			return a, true
		}
	}
	return icmpAnswer{}, false
}

// ipv4Payload reads the header of an IPv4 packet, which may be cut off behind it.
func ipv4Payload(b []byte) (protocol byte, source, destination netip.Addr, payload []byte, ok bool) {
	if len(b) < sizeIPv4 || b[ipVersion]>>4 != 4 {
		return 0, netip.Addr{}, netip.Addr{}, nil, false
	}
	header := int(b[ipVersion]&ipLengthMask) << ipLengthShift
	if header < sizeIPv4 || header > len(b) {
		return 0, netip.Addr{}, netip.Addr{}, nil, false
	}
	source, destination = netip.AddrFrom4([4]byte(b[ipSource:])), netip.AddrFrom4([4]byte(b[ipDestination:]))
	return b[ipProtocol], source, destination, b[header:], true
}

// icmpText says what an ICMP error means.
func icmpText(typ, code uint8) string {
	unreachable := [...]string{
		0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable", 4: "too big, and not to be fragmented",
		9: "network administratively prohibited", 10: "host administratively prohibited", 13: "communication administratively prohibited",
	}
	switch {
	case typ == icmpTimeExceeded:
		return fmt.Sprintf("time to live exceeded on the way (ICMP type %d code %d)", typ, code)
	case typ == icmpUnreachable && int(code) < len(unreachable) && unreachable[code] != "":
		return fmt.Sprintf("%s (ICMP type %d code %d)", unreachable[code], typ, code)
	}
	return fmt.Sprintf("unreachable (ICMP type %d code %d)", typ, code)
}

// icmpSocket is a raw socket, because that for datagrams is for groups that a system control lists, and the router's namespace
// may be others'. It receives all answers to the router, which parseICMP sorts.
func (r *Router) icmpSocket(vrf string) (fd int, err error) {
	err = r.space.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
		return err
	})
	if err != nil {
		return -1, err
	}
	if vrf != "" {
		err = unix.BindToDevice(fd, vrf)
	}
	if err == nil {
		blocked := ^(1<<icmpEchoReply | 1<<icmpUnreachable | 1<<icmpTimeExceeded)
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, blocked), unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// echo sends an ICMP echo.
func (b *Prober) echo(p *probe) error {
	for {
		p.id, p.token = newEcho()
		if b.echoes[p.id] == nil {
			break
		}
	}
	var control []byte
	if p.index != 0 || p.spec.Source.IsValid() {
		control = packetInfoBy(p.spec.Source, p.index)
	}
	to := sockaddr(netip.AddrPortFrom(p.spec.Target, 0))
	if _, err := unix.SendmsgN(b.icmp, appendEcho(nil, p.id, p.token), control, to, unix.MSG_DONTWAIT); err != nil {
		e := p.kernel(err)
		if p.spec.Source.IsValid() && !b.ours(p.spec.Source) { // which the kernel takes for a network that it does not know
			e = p.fail(ProbeNoSource, nil)
		}
		return e
	}
	b.echoes[p.id] = p
	return nil
}

// ours says whether an address is one of the router's.
func (b *Prober) ours(a netip.Addr) bool {
	fd, err := b.r.udp(a, func(fd int) error { return unix.Bind(fd, sockaddr(netip.AddrPortFrom(a, 0))) })
	if err != nil {
		return !errors.Is(err, unix.EADDRNOTAVAIL)
	}
	_ = unix.Close(fd)
	return true
}

// kernel says what an errno means.
func (p *probe) kernel(err error) *ProbeError {
	e := p.fail(ProbeBusy, err)
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		e.Reason, e.Err = ProbeRefused, nil
	case errors.Is(err, unix.ETIMEDOUT):
		e.Reason, e.Err = ProbeTimeout, nil
	case errors.Is(err, unix.ENETUNREACH):
		e.Reason, e.Type, e.Code = ProbeUnreachable, icmpUnreachable, 0
	case errors.Is(err, unix.EHOSTUNREACH):
		e.Reason, e.Type, e.Code = ProbeUnreachable, icmpUnreachable, 1
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENXIO):
		e.Reason = ProbeNoInterface
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EINVAL):
		e.Reason = ProbeNoSource
	}
	return e
}

// icmpMessage is more than what is read of a packet; the rest is cut off, and so is not one of ours.
const icmpMessage = 2048

// readICMP reads what has come, at most so much that others have their turn.
func (b *Prober) readICMP() {
	buffer, control := make([]byte, icmpMessage), make([]byte, controlSize)
	for range probeBatch {
		n, c, _, _, err := unix.Recvmsg(b.icmp, buffer, control, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			continue // of an earlier packet
		}
		if a, ok := parseICMP(buffer[:n]); ok {
			b.heard(a, arrival(control[:c]))
		}
	}
}

// heard ends the probe that an ICMP message is about, if it has come by the interface by which the packet has left, or is of our own: nobody
// outside of a tunnel can have its probes fail.
func (b *Prober) heard(a icmpAnswer, index int) {
	b.mu.Lock()
	p := b.echoes[a.id]
	if a.flow.port != 0 {
		p = b.flows[a.flow]
	}
	b.mu.Unlock()
	switch {
	case p == nil || p.spec.Target != a.target || p.index != 0 && index != p.index && (a.typ == icmpEchoReply || index != loopbackIndex && index != b.vrf.index):
	case a.typ != icmpEchoReply:
		e := p.fail(ProbeUnreachable, nil)
		e.Type, e.Code = a.typ, a.code
		b.end(p, e)
	case bytes.Equal(a.token[:], p.token[:]):
		b.end(p, nil)
	}
}

// arrival is the index of the interface by which a packet has come, 0 if the kernel does not say.
func arrival(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo {
			return int(int32(binary.NativeEndian.Uint32(m.Data))) // ipi_ifindex
		}
	}
	return 0
}
