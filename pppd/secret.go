package pppd

import (
	"fmt"
	"io"
)

// redacted is what every rendering of a Secret shows.
const redacted = "[redacted]"

// Secret is a password. It never shows itself: every verb of fmt and every encoder that asks for text get "[redacted]".
// Convert to []byte where the bytes are needed.
type Secret []byte

// Format writes "[redacted]", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// MarshalText returns "[redacted]", for JSON, YAML and structured logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format writes the name only. Without it a verb that does not suit a struct makes fmt print the fields of a Dialer behind
// a pointer without asking Secret.
func (d Dialer) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{User:%q Password:%s}", d.User, redacted)
}
