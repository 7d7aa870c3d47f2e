package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// lineWidth is the widest line that is printed, in characters; textWidth that of running text.
const (
	lineWidth = 118
	textWidth = 100
)

// patience is how long a step may be silent before the teller says that it still goes on.
const patience = 8 * time.Second

// teller prints the story and remembers which of its claims did not hold.
type teller struct {
	out    io.Writer
	colour bool

	chapters int
	checks   int
	failed   []string

	mu sync.Mutex // guards out against the line that doing prints from its own goroutine
}

// Escape sequences of ECMA-48, left out where the output is no terminal.
const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	cyan  = "\x1b[36m"
	reset = "\x1b[0m"
)

func (t *teller) paint(style, text string) string {
	if !t.colour || text == "" {
		return text
	}
	return style + text + reset
}

func (t *teller) print(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A failed write means that nobody is looking any more; the checks still decide the exit status.
	_, _ = io.WriteString(t.out, s)
}

// chapter prints a numbered heading.
func (t *teller) chapter(title string) {
	t.chapters++
	head := fmt.Sprintf("── %d. %s ", t.chapters, title)
	t.print("\n" + t.paint(bold, head+strings.Repeat("─", max(0, lineWidth-utf8.RuneCountInString(head)))) + "\n")
}

// say prints running text, wrapped.
func (t *teller) say(format string, args ...any) {
	t.print(wrap(fmt.Sprintf(format, args...), textWidth, "") + "\n")
}

// check prints a claim and whether it holds.
func (t *teller) check(ok bool, format string, args ...any) {
	claim := fmt.Sprintf(format, args...)
	t.checks++
	mark, style := "✓", green
	if !ok {
		mark, style = "✗", red
		t.failed = append(t.failed, claim)
	}
	t.print("  " + t.paint(style, mark) + " " + wrap(claim, lineWidth-4, "    ") + "\n")
}

// command prints a prompt with a command line and what the command wrote.
func (t *teller) command(machine, line, output string) {
	var b strings.Builder
	b.WriteString("\n" + t.paint(cyan, machine+"# ") + t.paint(bold, line) + "\n")
	for l := range strings.Lines(strings.TrimRight(output, "\n")) {
		b.WriteString("  " + wrap(strings.TrimRight(l, " \n"), lineWidth-2, "      ") + "\n")
	}
	t.print(b.String() + "\n")
}

// note prints a remark on what was just shown.
func (t *teller) note(format string, args ...any) {
	t.print(t.paint(dim, wrap(fmt.Sprintf(format, args...), textWidth, "")) + "\n")
}

// doing runs a step that may take long: it names it at once, and now and then that it still runs.
func (t *teller) doing(what string, step func() error) error {
	t.print(t.paint(dim, what+" …") + "\n")
	start := time.Now()
	done, said := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(said)
		tick := time.NewTicker(patience)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				t.print(t.paint(dim, fmt.Sprintf("  … still at it after %.0f s", time.Since(start).Seconds())) + "\n")
			}
		}
	}()
	err := step()
	close(done)
	<-said
	return err
}

// explain prints what may tell why the story stopped: the ends of vrgate's log and of the clients' logs.
func (t *teller) explain(s *scene) {
	if s == nil {
		return
	}
	if s.daemon != nil {
		t.command("vrgate", "journalctl -u vrgate | tail", lastLines(s.daemon.Log(), 25))
	}
	for _, p := range s.people {
		t.command(p.name, "tail of the clients' logs", lastLines(p.client.Logs(), 40))
	}
}

// lastLines is the end of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// wrap breaks text at blanks into lines of at most width characters; all but the first begin with indent. A
// word that is longer gets a line of its own. The blanks that text begins with stay.
func wrap(text string, width int, indent string) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(text[:strings.Index(text, words[0])] + words[0])
	at := utf8.RuneCountInString(b.String())
	for _, w := range words[1:] {
		n := utf8.RuneCountInString(w)
		if at+1+n > width {
			b.WriteString("\n" + indent + w)
			at = utf8.RuneCountInString(indent) + n
			continue
		}
		b.WriteString(" " + w)
		at += 1 + n
	}
	return b.String()
}
