package accounting

import (
	"fmt"

	"vrgate/controlplane/subscriber"
)

// Values of Acct-Terminate-Cause (RFC 2866 section 5.10) that are in use (R9).
const (
	CauseUserRequest    uint32 = 1
	CauseIdleTimeout    uint32 = 4
	CauseSessionTimeout uint32 = 5
	CauseAdminReset     uint32 = 6
	CauseAdminReboot    uint32 = 7
	CausePortError      uint32 = 8
	CauseNASError       uint32 = 9
	CauseNASRequest     uint32 = 10
	CauseNASReboot      uint32 = 11
	CauseUnavailable    uint32 = 15
	CauseUserError      uint32 = 17
)

// TerminateCode is a line of show terminate-codes: what RADIUS is told of a reason (R10).
type TerminateCode struct {
	Application string // whose reason it is: "aaa", "ike", "l2tp", "ppp" or "subscriber"
	Reason      subscriber.Reason
	Description string
	Code        uint32
	Changed     bool // the configuration says so
}

// Codes maps reasons to values of Acct-Terminate-Cause. It does not change once it is in use.
type Codes struct {
	rows     []TerminateCode
	byReason map[subscriber.Reason]uint32
}

// NewCodes returns the defaults (R9, R11).
func NewCodes() *Codes {
	c := &Codes{rows: make([]TerminateCode, len(defaultCodes)), byReason: make(map[subscriber.Reason]uint32, len(defaultCodes))}
	copy(c.rows, defaultCodes)
	for _, r := range c.rows {
		c.byReason[r.Reason] = r.Code
	}
	return c
}

// Set gives a reason another code, in all applications that have it: 1 to 22 are defined by RFC
// 2866 and its successors, others are private (R10). Errors: an unknown reason, or 0.
func (c *Codes) Set(reason subscriber.Reason, code uint32) error {
	if _, known := c.byReason[reason]; !known {
		return fmt.Errorf("accounting: no session ends with reason %q", reason)
	}
	if code == 0 {
		return fmt.Errorf("accounting: reason %q: 0 is no Acct-Terminate-Cause", reason)
	}
	c.byReason[reason] = code
	for i := range c.rows {
		if c.rows[i].Reason == reason {
			c.rows[i].Changed = code != defaultCodes[i].Code
			c.rows[i].Code = code
		}
	}
	return nil
}

// Cause returns the Acct-Terminate-Cause of a reason; of one that nobody knows NAS Error.
func (c *Codes) Cause(reason subscriber.Reason) uint32 {
	if code, known := c.byReason[reason]; known {
		return code
	}
	return CauseNASError
}

// List returns every reason, by application.
func (c *Codes) List() []TerminateCode { return append([]TerminateCode(nil), c.rows...) }
