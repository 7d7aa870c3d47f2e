package coa

import "fmt"

// Cause is the Error-Cause of a refusal (RFC 5176 section 3.5). Zero: none.
type Cause uint32

// The causes.
const (
	UnsupportedAttribute Cause = 401
	MissingAttribute     Cause = 402
	NASMismatch          Cause = 403 // meant for another NAS
	InvalidRequest       Cause = 404
	UnsupportedService   Cause = 405 // of a CoA-Request only
	InvalidValue         Cause = 407
	Prohibited           Cause = 501
	NoSession            Cause = 503 // no session matches
	NotRemovable         Cause = 504
	NoResources          Cause = 506
	MultipleSessions     Cause = 508 // several match, and it cannot be done for several
)

// String returns the cause as RFC 5176 calls it, in lower case.
func (c Cause) String() string {
	switch c {
	case 0:
		return "none"
	case UnsupportedAttribute:
		return "unsupported attribute"
	case MissingAttribute:
		return "missing attribute"
	case NASMismatch:
		return "NAS identification mismatch"
	case InvalidRequest:
		return "invalid request"
	case UnsupportedService:
		return "unsupported service"
	case InvalidValue:
		return "invalid attribute value"
	case Prohibited:
		return "administratively prohibited"
	case NoSession:
		return "session context not found"
	case NotRemovable:
		return "session context not removable"
	case NoResources:
		return "resources unavailable"
	case MultipleSessions:
		return "multiple session selection unsupported"
	}
	return fmt.Sprintf("error cause %d", uint32(c))
}
