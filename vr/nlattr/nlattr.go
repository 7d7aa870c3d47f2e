package nlattr

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// ErrMalformed says that a message is not what the kernel documents.
var ErrMalformed = errors.New("malformed kernel message")

var native = binary.NativeEndian

// Append appends an attribute, padded to 4 bytes. The data must be shorter than 64 KiB less the
// 4 bytes of the header.
func Append(b []byte, typ uint16, data []byte) []byte {
	b = native.AppendUint16(b, uint16(unix.SizeofNlAttr+len(data)))
	b = native.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// AppendUint8 appends an attribute of one byte.
func AppendUint8(b []byte, typ uint16, v uint8) []byte { return Append(b, typ, []byte{v}) }

// AppendUint16 appends an attribute of two bytes in the host's order.
func AppendUint16(b []byte, typ, v uint16) []byte {
	return Append(b, typ, native.AppendUint16(nil, v))
}

// AppendUint32 appends an attribute of four bytes in the host's order.
func AppendUint32(b []byte, typ uint16, v uint32) []byte {
	return Append(b, typ, native.AppendUint32(nil, v))
}

// AppendUint64 appends an attribute of eight bytes in the host's order.
func AppendUint64(b []byte, typ uint16, v uint64) []byte {
	return Append(b, typ, native.AppendUint64(nil, v))
}

// AppendString appends a string with a zero byte behind it.
func AppendString(b []byte, typ uint16, s string) []byte {
	return Append(b, typ, append([]byte(s), 0))
}

// Each calls fn for each attribute in b, with the type less its flags; data aliases b. It ends
// with fn's first error, or with [ErrMalformed] at a length that does not fit. Trailing bytes
// fewer than a header are padding.
func Each(b []byte, fn func(typ uint16, data []byte) error) error {
	for len(b) >= unix.SizeofNlAttr {
		n := int(native.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return ErrMalformed
		}
		if err := fn(native.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:n]); err != nil {
			return err
		}
		b = b[min((n+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
	}
	return nil
}
