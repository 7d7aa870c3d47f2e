package pppd

// redacted is what every rendering of a Secret shows.
const redacted = "[redacted]"

// Secret is a password. It never shows itself: String, GoString and every encoder that asks for text get "[redacted]".
// Convert to []byte where the bytes are needed.
type Secret []byte

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]", for %#v.
func (Secret) GoString() string { return redacted }

// MarshalText returns "[redacted]", for JSON, YAML and structured logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
