package topo

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDetail(t *testing.T) {
	const text = `Sun Nov 22 04:00:00 2026
	Acct-Status-Type = Start
	User-Name = "a \"b\" = \\c"
	Class = 0x6f6e65
	Class = 0x74776f
	Tunnel-Type:0 = L2TP
	Acct-Unique-Session-Id = "1"
	Timestamp = 1795000000

Sun Nov 22 04:00:01 2026
	Acct-Status-Type = Stop
`
	want := []RADIUSPacket{{
		{"Acct-Status-Type", "Start"}, {"User-Name", `a "b" = \c`}, {"Class", "0x6f6e65"}, {"Class", "0x74776f"}, {"Tunnel-Type:0", "L2TP"},
	}}
	got := parseDetail(text)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d) // the stop may still be growing
	}
	if n := len(parseDetail(text + "\n")); n != 2 {
		t.Errorf("%d records, with the end of the second", n)
	}
	p := got[0]
	if p.Get("Class") != "0x6f6e65" || len(p.All("Class")) != 2 || p.Get("Filter-Id") != "" || len(p.Without("Class", "User-Name")) != 2 {
		t.Error(p)
	}
	if s := p.String(); !strings.HasPrefix(s, "Acct-Status-Type = Start\nUser-Name") {
		t.Errorf("%q", s)
	}
}

func TestParseAnswer(t *testing.T) {
	const nak = `Sent Disconnect-Request Id 155 from 0.0.0.0:58585 to 10.1.0.1:3799 length 44
	User-Name = "nobody"
	Message-Authenticator = 0x00
Received Disconnect-NAK Id 155 from 10.1.0.1:3799 to 10.1.0.2:58585 length 44
	Error-Cause = Session-Context-Not-Found
(0) -: Expected Disconnect-ACK got Disconnect-NAK
`
	got, ok := parseAnswer(nak)
	if want := (RADIUSAnswer{"Disconnect-NAK", RADIUSPacket{{"Error-Cause", "Session-Context-Not-Found"}}}); !ok || !cmp.Equal(want, got) {
		t.Errorf("%+v, %v", got, ok)
	}
	if got, ok := parseAnswer("Sent Disconnect-Request Id 155\n(0) No reply from server for ID 155 socket 3\n"); ok {
		t.Errorf("an answer out of nothing: %+v", got)
	}
}
