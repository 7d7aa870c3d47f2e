package config

import (
	"crypto/subtle"
	"fmt"
)

const redacted = "[redacted]"

// Secret is a key or password. It prints as [redacted] in every format that Go
// knows; convert it to []byte where its bytes are needed.
type Secret []byte

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb, %x and %d included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText returns "[redacted]"; encoding/json and the YAML library use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Equal compares in time that depends on the lengths alone.
func (s Secret) Equal(t Secret) bool { return subtle.ConstantTimeCompare(s, t) == 1 }
