package netspace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Echo are ICMP echo requests like those of ping(8), which takes longer to start than they take.
type Echo struct {
	From, To netip.Addr    // IPv4; From is an address of the namespace
	Count    int           // 1 to 65536
	Size     int           // bytes with the IP header: 28 to 65535
	Interval time.Duration // between two of them
	Wait     time.Duration // for answers, after the last
}

const (
	ipHeader, icmpHeader       = 20, 8
	icmpReply, icmpRequest     = 0, 8
	offICMPID, offICMPSequence = 4, 6
)

// lastEcho makes the identifiers of this process unique: a raw socket gets the answers to all.
var lastEcho atomic.Uint32

// Send sends the requests from the thread's namespace and returns how many were answered, by the address that was
// asked and with what was sent. A second answer to a request does not count.
func (e Echo) Send() (answered int, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: e.From.As4()}); err != nil {
		return 0, fmt.Errorf("bind to %v: %w", e.From, err)
	}
	id := uint16(lastEcho.Add(1))
	seen := make([]bool, e.Count)
	due := time.Now()
	for sent := 0; answered < e.Count; {
		switch wait := time.Until(due); {
		case wait > 0:
			i, ok, err := e.read(fd, id, wait)
			if err != nil {
				return answered, err
			}
			if ok && !seen[i] {
				seen[i] = true
				answered++
			}
		case sent == e.Count:
			return answered, nil
		default:
			err := unix.Sendto(fd, e.message(icmpRequest, id, sent), 0, &unix.SockaddrInet4{Addr: e.To.As4()})
			if err != nil && !lost(err) {
				return answered, fmt.Errorf("send to %v: %w", e.To, err)
			}
			sent++
			due = time.Now().Add(e.Interval)
			if sent == e.Count {
				due = time.Now().Add(e.Wait)
			}
		}
	}
	return answered, nil
}

// message is a request or its answer, whose content tells it from every other.
func (e Echo) message(typ byte, id uint16, sequence int) []byte {
	b := bytes.Repeat([]byte{byte(sequence)}, e.Size-ipHeader)
	b[0], b[1], b[2], b[3] = typ, 0, 0, 0
	binary.BigEndian.PutUint16(b[offICMPID:], id)
	binary.BigEndian.PutUint16(b[offICMPSequence:], uint16(sequence))
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i, x := range b {
		sum += uint32(x) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// read waits for one message and says which request it answers, if any.
func (e Echo) read(fd int, id uint16, wait time.Duration) (sequence int, ok bool, err error) {
	tv := unix.NsecToTimeval(max(wait, time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return 0, false, err
	}
	b := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		if lost(err) {
			err = nil
		}
		return 0, false, err
	}
	b = b[:n]
	if len(b) != e.Size || len(b) < ipHeader+icmpHeader || [4]byte(b[12:16]) != e.To.As4() {
		return 0, false, nil
	}
	b = b[ipHeader:]
	sequence = int(binary.BigEndian.Uint16(b[offICMPSequence:]))
	return sequence, sequence < e.Count && bytes.Equal(b, e.message(icmpReply, id, sequence)), nil
}

// lost tells an error that says of a packet that it does not arrive, or that none has come in time.
func lost(err error) bool {
	for _, e := range []unix.Errno{unix.EAGAIN, unix.EINTR, unix.EPERM, unix.EHOSTUNREACH, unix.EMSGSIZE, unix.ENOBUFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
