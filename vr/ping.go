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

// icmpAnswer is what an ICMP message says about an echo.
type icmpAnswer struct {
	id     echoID
	target netip.Addr      // that was asked
	token  [sizeToken]byte // of a reply
	typ    uint8           // icmpEchoReply, icmpUnreachable or icmpTimeExceeded
	code   uint8
}

// parseICMP reads an IPv4 packet with an ICMP message; false: it is nothing about an echo. The kernel has looked at the
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
		if !ok || protocol != unix.IPPROTO_ICMP || len(quoted) < sizeICMP || quoted[icmpType] != icmpEcho {
			return icmpAnswer{}, false
		}
		a.id, a.target = echoID(binary.BigEndian.Uint32(quoted[icmpEchoID:])), target
		return a, true
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
		err = unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, blocked)
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
	index := 0
	if p.spec.Device != "" {
		request, err := unix.NewIfreq(p.spec.Device)
		if err == nil {
			err = unix.IoctlIfreq(b.icmp, unix.SIOCGIFINDEX, request)
		}
		if err != nil {
			return p.fail(ProbeNoInterface, err)
		}
		index = int(request.Uint32())
	}
	var control []byte
	if index != 0 || p.spec.Source.IsValid() {
		control = packetInfoBy(p.spec.Source, index)
	}
	to := sockaddr(netip.AddrPortFrom(p.spec.Target, 0))
	if _, err := unix.SendmsgN(b.icmp, appendEcho(nil, p.id, p.token), control, to, unix.MSG_DONTWAIT); err != nil {
		return p.kernel(err)
	}
	b.echoes[p.id] = p
	return nil
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
	buffer := make([]byte, icmpMessage)
	for range probeBatch {
		n, _, err := unix.Recvfrom(b.icmp, buffer, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			continue // of an earlier packet
		}
		a, ok := parseICMP(buffer[:n])
		if !ok {
			continue
		}
		b.mu.Lock()
		p := b.echoes[a.id]
		b.mu.Unlock()
		if p == nil || p.spec.Target != a.target {
			continue
		}
		if a.typ != icmpEchoReply {
			e := p.fail(ProbeUnreachable, nil)
			e.Type, e.Code = a.typ, a.code
			b.end(p, e)
		} else if bytes.Equal(a.token[:], p.token[:]) {
			b.end(p, nil)
		}
	}
}
