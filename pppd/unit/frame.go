package unit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

const (
	sizeProtocol = 2
	// MaxFrame is the longest frame in bytes, protocol included, that a buffer for
	// ReadFrame needs to hold: no control protocol's packet exceeds the default
	// MRU of RFC 1661 section 6.1.
	MaxFrame = sizeProtocol + 1500
)

// Frame is a PPP frame without address and control field.
type Frame struct {
	Protocol uint16
	Data     []byte // information field
}

// Port is one descriptor of /dev/ppp.
type Port struct {
	mu sync.RWMutex // readers use fd, Close changes it
	fd int          // -1: closed
}

// FD is the descriptor, for a poller; -1 after Close. Take it out of the poller
// before Close.
func (p *Port) FD() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.fd
}

// ReadFrame reads one frame into buf, which the frame's Data aliases. Errors:
// ErrWouldBlock when there is none, ErrTooLong when buf was too small (MaxFrame is
// enough) and the frame is lost, io.EOF when the channel or interface has gone,
// ErrClosed.
func (p *Port) ReadFrame(buf []byte) (Frame, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return Frame{}, ErrClosed
	}
	n, err := unix.Read(p.fd, buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return Frame{}, ErrWouldBlock
	case errors.Is(err, unix.EOVERFLOW):
		return Frame{}, ErrTooLong
	case errors.Is(err, unix.ENXIO):
		return Frame{}, io.EOF // the namespace has gone
	case err != nil:
		return Frame{}, mapError("read frame", err)
	case n == 0:
		return Frame{}, io.EOF
	}
	return parseFrame(buf[:n])
}

// parseFrame splits what /dev/ppp reads: two bytes of protocol, already
// expanded, and the information field.
func parseFrame(b []byte) (Frame, error) {
	if len(b) < sizeProtocol {
		return Frame{}, mapError("read frame", nlattr.ErrMalformed)
	}
	return Frame{Protocol: binary.BigEndian.Uint16(b), Data: b[sizeProtocol:]}, nil
}

// WriteFrame sends one frame. It never blocks, and reports success for frames
// that the kernel drops below. Data is at most MaxFrame-2 bytes; an LCP packet
// has at least 4.
func (p *Port) WriteFrame(protocol uint16, data []byte) error {
	if len(data) > MaxFrame-sizeProtocol {
		return fmt.Errorf("%w: frame of %d bytes", ErrInvalid, len(data))
	}
	b := make([]byte, 0, sizeProtocol+len(data))
	b = binary.BigEndian.AppendUint16(b, protocol)
	b = append(b, data...)
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return ErrClosed
	}
	if _, err := unix.Write(p.fd, b); err != nil {
		return mapError(fmt.Sprintf("write frame of protocol %#04x", protocol), err)
	}
	return nil
}

// close is idempotent.
func (p *Port) close() error {
	p.mu.Lock()
	fd := p.fd
	p.fd = -1
	p.mu.Unlock()
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}
