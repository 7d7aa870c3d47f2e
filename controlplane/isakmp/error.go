package isakmp

import "fmt"

// Reason says in one word why a message was refused; it appears in logs and as
// the label of counters.
type Reason uint8

// Reasons.
const (
	ReasonNone     Reason = iota
	ReasonHeader          // header is not that of an IKEv1 message
	ReasonSyntax          // lengths, reserved fields, counts
	ReasonPayload         // a payload that must not be here, or one missing
	ReasonClear           // in clear though it must be encrypted, or the reverse
	ReasonFragment        // fragment that does not fit
	ReasonLimit           // more of something than we take
)

// String is the label.
func (r Reason) String() string {
	switch r {
	case ReasonNone:
		return "none"
	case ReasonHeader:
		return "header"
	case ReasonSyntax:
		return "syntax"
	case ReasonPayload:
		return "payload"
	case ReasonClear:
		return "clear"
	case ReasonFragment:
		return "fragment"
	case ReasonLimit:
		return "limit"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Error is returned by every decoder and by Check. Whether the notify may be
// sent at all is the engine's decision: unauthenticated peers get at most one
// answer of bounded size (style habits 14 and 16).
type Error struct {
	Notify NotifyType // to answer with
	Reason Reason
	Where  string // payload or field
	Err    error
}

// Error describes what was wrong, without any byte of the message.
func (e *Error) Error() string {
	return fmt.Sprintf("isakmp: %s: %v (%v)", e.Where, e.Err, e.Notify)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// malformed makes an Error whose reason follows from where it happened.
func malformed(n NotifyType, where, format string, args ...any) error {
	r := ReasonSyntax
	if where == "header" {
		r = ReasonHeader
	}
	return &Error{Notify: n, Reason: r, Where: where, Err: fmt.Errorf(format, args...)}
}

// tooMany makes the Error of an exceeded limit.
func tooMany(n NotifyType, where string, limit int) error {
	return &Error{Notify: n, Reason: ReasonLimit, Where: where, Err: fmt.Errorf("more than %d", limit)}
}
