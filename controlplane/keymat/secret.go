package keymat

import (
	"crypto/subtle"
	"fmt"
	"io"
)

// redacted is what any formatting of a Secret shows.
const redacted = "[redacted]"

// Secret is key material or a pre-shared key. Every way of printing or
// encoding it, including %x, encoding/json and encoding.TextMarshaler users
// such as YAML and zap, yields "[redacted]" (style habit 17). Snapshots of
// engine state use Reveal.
type Secret []byte

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb and flags are.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON returns the JSON string "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Equal tells whether both secrets are the same, in time that depends on their
// lengths only.
func (s Secret) Equal(other Secret) bool { return subtle.ConstantTimeCompare(s, other) == 1 }

// Reveal returns the bytes themselves, aliasing the secret. It exists for
// snapshots, for the kernel and for the primitives; a caller must not log or
// format what it returns.
func (s Secret) Reveal() []byte { return s }

// Wipe overwrites the secret with zeros. Other slices of the same array are
// cleared with it.
func (s Secret) Wipe() { clear(s) }

// EqualProof compares two public proofs (HASH_I, HASH(1), NAT-D …) in constant
// time. Different lengths are unequal; two empty proofs are unequal too, so
// that a missing payload never passes for a match.
func EqualProof(a, b []byte) bool {
	return len(a) > 0 && subtle.ConstantTimeCompare(a, b) == 1
}
