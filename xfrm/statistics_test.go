package xfrm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseStatistics(t *testing.T) {
	got, err := ParseStatistics("XfrmInError             \t0\nXfrmInNoPols            \t18446744073709551615\nXfrmNew 3")
	if want := []Statistic{{"XfrmInError", 0}, {"XfrmInNoPols", 1<<64 - 1}, {"XfrmNew", 3}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"\n", "XfrmInError\n", "XfrmInError 1 2\n", "XfrmInError -1\n", "XfrmInError 18446744073709551616\n", "XfrmInError 1\n\nXfrmInNoPols 2\n"} {
		if got, err := ParseStatistics(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

// FuzzParseStatistics: what was read, written again, reads the same, and has a counter for each line.
func FuzzParseStatistics(f *testing.F) {
	f.Add("XfrmInError             \t0\nXfrmInNoPols            \t17\n")
	f.Add("XfrmInError +1\n")
	f.Add("a\u00a01")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseStatistics(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, s := range got {
			fmt.Fprintf(&again, "%-24s\t%d\n", s.Name, s.Value)
		}
		if same, err := ParseStatistics(again.String()); err != nil || !slices.Equal(same, got) {
			t.Fatalf("%q read as %+v, and again as %+v, %v", text, got, same, err)
		}
		if lines := strings.Count(strings.TrimSuffix(text, "\n"), "\n") + 1; text != "" && len(got) != lines {
			t.Fatalf("%q: %d counters", text, len(got))
		}
	})
}
