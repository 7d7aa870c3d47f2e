package pppd

import (
	"fmt"
	"strings"
	"testing"
)

// rfc1661Table is the state transition table of RFC 1661 section 4.1 as printed there (the RFC spreads the states over
// two blocks). It was copied from the RFC's text, not from automaton.go. Letters after a state: p passive option,
// r restart option, x crossed connection.
const rfc1661Table = `
      |    0         1         2         3         4         5
 Up   |    2     irc,scr/6     -         -         -         -
 Down |    -         -         0       tls/1       0         1
 Open |  tls/1       1     irc,scr/6     3r        5r        5r
 Close|    0       tlf/0       2         2         4         4
  TO+ |    -         -         -         -       str/4     str/5
  TO- |    -         -         -         -       tlf/2     tlf/3
 RCR+ |    -         -       sta/2 irc,scr,sca/8   4         5
 RCR- |    -         -       sta/2 irc,scr,scn/6   4         5
 RCA  |    -         -       sta/2     sta/3       4         5
 RCN  |    -         -       sta/2     sta/3       4         5
 RTR  |    -         -       sta/2     sta/3     sta/4     sta/5
 RTA  |    -         -         2         3       tlf/2     tlf/3
 RUC  |    -         -       scj/2     scj/3     scj/4     scj/5
 RXJ+ |    -         -         2         3         4         5
 RXJ- |    -         -       tlf/2     tlf/3     tlf/2     tlf/3
 RXR  |    -         -         2         3         4         5

      |    6         7         8           9
 Up   |    -         -         -           -
 Down |    1         1         1         tld/1
 Open |    6         7         8           9r
 Close|irc,str/4 irc,str/4 irc,str/4 tld,irc,str/4
  TO+ |  scr/6     scr/6     scr/8         -
  TO- | tlf/3p    tlf/3p    tlf/3p         -
 RCR+ |  sca/8   sca,tlu/9   sca/8   tld,scr,sca/8
 RCR- |  scn/6     scn/7     scn/6   tld,scr,scn/6
 RCA  |  irc/7     scr/6x  irc,tlu/9   tld,scr/6x
 RCN  |irc,scr/6   scr/6x  irc,scr/8   tld,scr/6x
 RTR  |  sta/6     sta/6     sta/6   tld,zrc,sta/5
 RTA  |    6         6         8       tld,scr/6
 RUC  |  scj/6     scj/7     scj/8       scj/9
 RXJ+ |    6         6         8           9
 RXJ- |  tlf/3     tlf/3     tlf/3   tld,irc,str/5
 RXR  |    6         7         8         ser/9
`

var rfcEvents = map[string]fsmEvent{
	"Up": evUp, "Down": evDown, "Open": evOpen, "Close": evClose, "TO+": evTOplus, "TO-": evTOminus,
	"RCR+": evRCRplus, "RCR-": evRCRminus, "RCA": evRCA, "RCN": evRCN, "RTR": evRTR, "RTA": evRTA,
	"RUC": evRUC, "RXJ+": evRXJplus, "RXJ-": evRXJminus, "RXR": evRXR,
}

var rfcActions = map[string]action{
	"tlu": tlu, "tld": tld, "tls": tls, "tlf": tlf, "irc": irc, "zrc": zrc, "scr": scr, "sca": sca, "scn": scn,
	"str": str, "sta": sta, "scj": scj, "ser": ser,
}

// parseRFCTable turns the drawing into cells; every cell must occur exactly once.
func parseRFCTable(t *testing.T) [numEvents][numStates]cell {
	t.Helper()
	var table [numEvents][numStates]cell
	seen := map[[2]int]bool{}
	var states []State
	for line := range strings.Lines(rfc1661Table) {
		name, rest, ok := strings.Cut(line, "|")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if name == "" {
			states = states[:0]
			for _, f := range fields {
				states = append(states, State(f[0]-'0'))
			}
			continue
		}
		ev, ok := rfcEvents[name]
		if !ok || len(fields) != len(states) {
			t.Fatalf("cannot read the line %q", line)
		}
		for i, f := range fields {
			if at := [2]int{int(ev), int(states[i])}; seen[at] {
				t.Fatalf("cell %s/%s occurs twice", name, states[i])
			} else {
				seen[at] = true
			}
			if f == "-" {
				table[ev][states[i]] = never
				continue
			}
			var c cell
			todo, next, ok := strings.Cut(f, "/")
			if !ok {
				todo, next = "", f
			}
			c.next = State(next[0] - '0')
			if todo != "" {
				for k, a := range strings.Split(todo, ",") {
					act, ok := rfcActions[a]
					if !ok {
						t.Fatalf("unknown action %q", a)
					}
					c.do[k] = act
				}
			}
			table[ev][states[i]] = c
		}
	}
	if len(seen) != int(numEvents)*int(numStates) {
		t.Fatalf("the drawing has %d cells, want %d", len(seen), int(numEvents)*int(numStates))
	}
	return table
}

func TestAutomatonIsTheTableOfRFC1661(t *testing.T) {
	want := parseRFCTable(t)
	for ev := range numEvents {
		for s := range numStates {
			if got := automaton[ev][s]; got != want[ev][s] {
				t.Errorf("event %d in %s: %v, the RFC says %v", ev, s, got, want[ev][s])
			}
		}
	}
}

func TestStateNames(t *testing.T) {
	for s := range numStates {
		if n := s.String(); n == "" || strings.HasPrefix(n, "State(") {
			t.Errorf("state %d has no name", s)
		}
	}
	for want, v := range map[string]fmt.Stringer{
		"State(77)": State(77), "Phase(77)": Phase(77), "AuthProtocol(77)": AuthProtocol(77),
		"network": PhaseNetwork, "none": AuthNone, "pap": AuthPAP, "chap-md5": AuthCHAPMD5, "mschap-v2": AuthMSCHAPv2, "Req-Sent": ReqSent,
	} {
		if got := v.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
