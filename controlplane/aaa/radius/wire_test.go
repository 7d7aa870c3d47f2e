package radius

import (
	"errors"
	"sync"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/test/faultyradius"
)

// TestFaultsOnTheWire is TestFaults through the kernel: other ports, datagrams too long, and floods are real ones.
func TestFaultsOnTheWire(t *testing.T) {
	var all sync.WaitGroup
	for _, f := range faultyradius.Faults {
		script := faultyradius.Config{
			Secret: string(testSecret), Faults: []faultyradius.Fault{f}, HonestAfter: 20 * time.Millisecond, Lateness: 700 * time.Millisecond,
		}
		c := oneServer(t, faultyradius.New(script), "127.0.0.1", func(s *Server) { s.Timeout = 500 * time.Millisecond; s.Retransmissions = 0 })
		all.Go(func() {
			began := time.Now()
			a, err := c.Do(t.Context(), "all", pap("a", "b"))
			if f == faultyradius.Late || f == faultyradius.Silent {
				if !errors.Is(err, ErrNoAnswer) {
					t.Errorf("%s: %v, %v", f, a.Code, err)
				}
				for f == faultyradius.Late && c.Servers()[Authentication].Counts[Late] == 0 && time.Since(began) < 10*time.Second {
					time.Sleep(10 * time.Millisecond)
				}
			} else if err != nil {
				t.Errorf("%s: %v", f, err)
			}
			counts := c.Servers()[Authentication].Counts
			want := map[faultyradius.Fault]Outcome{
				faultyradius.Honest: Accepted, faultyradius.Silent: TimedOut, faultyradius.Late: Late, faultyradius.WrongAuthenticator: BadAuthenticator,
				faultyradius.WrongMessageAuthenticator: BadAuthenticator, faultyradius.NoMessageAuthenticator: NoMessageAuthenticator,
				faultyradius.ForgedAccept: NoMessageAuthenticator, faultyradius.WrongPort: WrongSource, faultyradius.Duplicate: Accepted, faultyradius.Oversize: Malformed,
				faultyradius.Truncated: Malformed, faultyradius.Garbage: Malformed, faultyradius.OtherIdentifier: Unexpected,
				faultyradius.WrongCode: Unexpected, faultyradius.Challenge: Challenged, faultyradius.Reject: Rejected,
			}
			if o, known := want[f]; !known || counts[o] == 0 {
				t.Errorf("%s: %v is not counted: %v", f, o, counts)
			}
		})
	}
	all.Wait()
}

// TestUnsignedAcceptIsNotTaken: an accept in which all but Message-Authenticator is right, as CVE-2024-3596 makes it, does
// not let anybody in; the honest reject behind it decides.
func TestUnsignedAcceptIsNotTaken(t *testing.T) {
	s := faultyradius.New(faultyradius.Config{
		Secret: string(testSecret), Faults: []faultyradius.Fault{faultyradius.ForgedAccept}, HonestAfter: 20 * time.Millisecond,
		Passwords: map[string]string{"alice": "secret"},
	})
	c := oneServer(t, s, "127.0.0.1", nil)
	if a, err := c.Do(t.Context(), "all", pap("alice", "guessed")); err != nil || a.Code != rad.CodeAccessReject {
		t.Errorf("%v, %v", a.Code, err)
	}
	if n := c.Servers()[Authentication].Counts[NoMessageAuthenticator]; n != 1 {
		t.Errorf("%d counted", n)
	}
}
