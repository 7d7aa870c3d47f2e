package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"vrgate/test/topo"
)

func TestWrap(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"fits", "one two", "one two"},
		{"keeps what fits as it is", "  a  b", "  a  b"},
		{"breaks at blanks", "one two three four", "one two\n> three\n> four"},
		{"counts characters, not bytes", "äöü äöü äöü", "äöü äöü\n> äöü"},
		{"keeps the indent of the first line", "  one two three", "  one two\n> three"},
		{"a long word stays whole", "a 12345678901 b", "a\n> 12345678901\n> b"},
		{"blanks only", strings.Repeat(" ", 20), ""},
	}
	for _, c := range tests {
		if got := wrap(c.text, 9, "> "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFoldTables(t *testing.T) {
	const table = `NAME  LOCAL COOKIE  STATE
a     0123          up (no, really)
bcd   -             up
`
	const want = `NAME  LOCAL COOKIE
a     0123
bcd   -
    STATE
    up (no, really)
    up
`
	if got := foldTables(table, 20); got != want {
		t.Errorf("folded:\n%s", got)
	}
	if got := foldTables(table, 35); got != table {
		t.Errorf("as wide as the screen, but folded:\n%s", got)
	}
	if got := foldTables(table+"\n"+table, 20); got != want+"\n"+want {
		t.Errorf("two tables:\n%s", got)
	}
	if got := foldTables("a sentence that is longer than the screen\n", 20); got != "a sentence that is longer than the screen\n" {
		t.Errorf("no table: %q", got)
	}
}

func TestLogLine(t *testing.T) {
	got, err := logLine(`{"level":"info","time":"2026-11-21T21:49:43.780649351Z","msg":"subscriber ended","user":"alice","in_bytes":12345678901234567890,"text":"StopCCN result 1","empty":"","by_peer":true}`)
	want := `21:49:43.780 info subscriber ended: user=alice in_bytes=12345678901234567890 text="StopCCN result 1" empty="" by_peer=true`
	if err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"", "panic: oh", `{"level":`, `["a"]`} {
		if got, err := logLine(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func TestVerdict(t *testing.T) {
	var out strings.Builder
	story := &teller{out: &out}
	story.check(true, "the earth is round")
	if err := story.verdict(time.Second); err != nil || !strings.Contains(out.String(), "All 1 checks hold") {
		t.Errorf("%v:\n%s", err, out.String())
	}
	story.check(false, "the moon is made of %s", "cheese")
	out.Reset()
	if err := story.verdict(time.Second); !errors.Is(err, errClaims) {
		t.Errorf("a claim failed: %v", err)
	}
	if !strings.Contains(out.String(), "1 of 2 things") || !strings.Contains(out.String(), "✗ the moon is made of cheese") || strings.Contains(out.String(), "earth") {
		t.Errorf("verdict:\n%s", out.String())
	}
}

// TestDoing speaks up when a step is silent for long, and passes its error on.
func TestDoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		story := &teller{out: &out}
		failed := errors.New("failed")
		err := story.doing("sleeping", func() error {
			time.Sleep(2*patience + patience/2)
			return failed
		})
		if err != failed || strings.Count(out.String(), "still at it") != 2 || !strings.HasPrefix(out.String(), "sleeping …\n") {
			t.Errorf("%v: %q", err, out.String())
		}
	})
}

func TestColours(t *testing.T) {
	for _, colour := range []bool{false, true} {
		var out strings.Builder
		story := &teller{out: &out, colour: colour}
		story.chapter("One")
		story.check(true, "yes")
		story.command("alice", "true", "\tindented\n\n")
		if strings.Contains(out.String(), "\x1b") != colour {
			t.Errorf("colour %v: %q", colour, out.String())
		}
		if !colour && !strings.HasSuffix(out.String(), "\n  ✓ yes\n\nalice# true\n      indented\n") {
			t.Errorf("%q", out.String())
		}
	}
}

// TestDrawing has every address at its machine.
func TestDrawing(t *testing.T) {
	s := &scene{address: netip.MustParseAddr("192.0.2.2"), nat: &topo.NAT{Address: netip.MustParseAddr("198.18.0.2")}}
	drawing := s.drawing("192.168.1.10", "192.168.1.11")
	lines := strings.Split(drawing, "\n")
	at := func(line int, what string) int {
		before, _, ok := strings.Cut(lines[line], what)
		if !ok {
			t.Fatalf("no %s in line %d of\n%s", what, line, drawing)
		}
		return utf8.RuneCountInString(before)
	}
	if at(3, "┘ └") != at(1, "nat") || at(3, "┘    └") != at(1, "vrgate") || at(3, "10.1.0.2") != at(1, "files") {
		t.Errorf("not below each other:\n%s", drawing)
	}
	for _, a := range []string{"192.168.1.10", "192.168.1.11", "192.168.1.1 ┘", "└ 198.18.0.2", "192.0.2.2 ┘", "└ 10.1.0.1 "} {
		if !strings.Contains(drawing, a) {
			t.Errorf("no %s in\n%s", a, drawing)
		}
	}
}
