package topo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// VICI is charon's control protocol. swanctl speaks it too; but each start of it costs half a second under
// emulation, so that what clients do often is said directly.

// Kinds of packets, and elements of messages.
const (
	viciRequest  = 0
	viciResponse = 1
	viciRegister = 3
	viciConfirm  = 5
	viciEvent    = 7

	viciSection    = 1
	viciSectionEnd = 2
	viciKey        = 3
	viciList       = 4
	viciItem       = 5
	viciListEnd    = 6

	viciLimit = 512 << 10 // bytes of a packet
)

// viciPair is a key with its value, or with one of the values of a list. A section begins with a pair of
// viciBegins and its name. Where it ends is left out: keys differ enough.
type viciPair struct{ key, value string }

// viciBegins is no key of any message.
const viciBegins = "{"

// vici sends one command. It returns the response, and what came in events of the given name before it, if
// one is given.
func (c *charon) vici(ctx context.Context, command, event string, args ...viciPair) (response []viciPair, events [][]viciPair, err error) {
	var m viciMessage
	for _, a := range args {
		m.value(a.key, a.value)
	}
	return c.send(ctx, command, event, m)
}

// send is vici with any message.
func (c *charon) send(ctx context.Context, command, event string, args viciMessage) (response []viciPair, events [][]viciPair, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(c.uri, "unix://"))
	if err != nil {
		return nil, nil, fmt.Errorf("topo: charon: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("topo: charon: %s: %w", command, err)
	}
	if event != "" {
		if err := viciWrite(conn, viciRegister, event, nil); err != nil {
			return nil, nil, fail(err)
		}
	}
	if err := viciWrite(conn, viciRequest, command, args); err != nil {
		return nil, nil, fail(err)
	}
	for {
		kind, body, err := viciRead(conn)
		if err != nil {
			return nil, events, fail(err)
		}
		switch kind {
		case viciConfirm:
		case viciEvent:
			if len(body) < 1 || len(body) < 1+int(body[0]) {
				return nil, events, fail(io.ErrUnexpectedEOF)
			}
			pairs, err := viciParse(body[1+int(body[0]):])
			if err != nil {
				return nil, events, fail(err)
			}
			events = append(events, pairs)
		case viciResponse:
			response, err := viciParse(body)
			if err != nil {
				return nil, events, fail(err)
			}
			if viciValue(response, "success") == "no" {
				return response, events, fail(errors.New(viciValue(response, "errmsg")))
			}
			return response, events, nil
		default:
			return nil, events, fail(fmt.Errorf("packet of kind %d", kind))
		}
	}
}

// viciValue returns the first value of a key.
func viciValue(pairs []viciPair, key string) string {
	for _, p := range pairs {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

// viciMessage is a message that is being written.
type viciMessage []byte

func (m *viciMessage) named(kind byte, name string) {
	*m = append(append(*m, kind, byte(len(name))), name...)
}

func (m *viciMessage) text(value string) {
	*m = append(binary.BigEndian.AppendUint16(*m, uint16(len(value))), value...)
}

func (m *viciMessage) open(section string) { m.named(viciSection, section) }

func (m *viciMessage) close() { *m = append(*m, viciSectionEnd) }

func (m *viciMessage) value(key, value string) {
	m.named(viciKey, key)
	m.text(value)
}

func (m *viciMessage) list(key string, items ...string) {
	m.named(viciList, key)
	for _, item := range items {
		*m = append(*m, viciItem)
		m.text(item)
	}
	*m = append(*m, viciListEnd)
}

func viciWrite(w io.Writer, kind byte, name string, args viciMessage) error {
	b := append(append([]byte{kind, byte(len(name))}, name...), args...)
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func viciRead(r io.Reader) (kind byte, body []byte, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 1 || n > viciLimit {
		return 0, nil, fmt.Errorf("packet of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	return b[0], b[1:], nil
}

// viciParse reads the elements of a message.
func viciParse(b []byte) (pairs []viciPair, err error) {
	take := func(size int) string {
		n := 0
		if len(b) < size {
			err = io.ErrUnexpectedEOF
			return ""
		}
		for _, x := range b[:size] {
			n = n<<8 | int(x)
		}
		if b = b[size:]; len(b) < n {
			err = io.ErrUnexpectedEOF
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	list := ""
	for len(b) > 0 && err == nil {
		kind := b[0]
		b = b[1:]
		switch kind {
		case viciSection:
			pairs = append(pairs, viciPair{viciBegins, take(1)})
		case viciKey:
			key := take(1)
			pairs = append(pairs, viciPair{key, take(2)})
		case viciList:
			list = take(1)
		case viciItem:
			pairs = append(pairs, viciPair{list, take(2)})
		case viciSectionEnd, viciListEnd:
		default:
			return pairs, fmt.Errorf("element of kind %d", kind)
		}
	}
	return pairs, err
}
