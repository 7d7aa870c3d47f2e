package pppd

import "testing"

func TestEveryReasonHasItsCause(t *testing.T) {
	want := map[Reason]DisconnectCause{ // requirement F3, RFC 3145 section 3
		ReasonUserRequest: {3, 0, 1},
		ReasonAdmin:       {1, 0, 0},
		ReasonLCPTimeout:  {6, 0, 0},
		ReasonLCPDiverged: {5, 0, 0},
		ReasonLoop:        {7, 0, 0},
		ReasonKeepalive:   {8, 0, 0},
		ReasonAuthTimeout: {13, 0, 0},
		ReasonAuthRefused: {15, 0, 1},
		ReasonAuthFailed:  {16, 0, 1},
		ReasonEncryption:  {4, 0, 2},
		ReasonNetwork:     {18, 0x8021, 0},
		ReasonLowerDown:   {},
		ReasonInternal:    {},
		"of someone else": {},
	}
	for r, c := range want {
		if got := Cause(r); got != c {
			t.Errorf("%s: %+v, want %+v", r, got, c)
		}
	}
	if got := NormalCause(false); got != (DisconnectCause{3, 0, 2}) {
		t.Errorf("%+v", got)
	}
}
