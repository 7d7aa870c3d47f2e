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
	lineWidth = 120
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

	mu   sync.Mutex // guards what follows against the line that doing prints from its own goroutine
	last block
}

// block is a kind of output; a change of kind is marked by an empty line.
type block int

const (
	heading block = iota
	text
	claim
	terminal
	activity
)

// Escape sequences of ECMA-48, left out where the output is no terminal.
const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	cyan  = "\x1b[36m"
	reset = "\x1b[0m"
)

func (t *teller) paint(style, s string) string {
	if !t.colour || s == "" {
		return s
	}
	return style + s + reset
}

// print prints a block that ends with its line, separated from what was before.
func (t *teller) print(kind block, s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kind != t.last && t.last != heading || kind == heading || kind == terminal {
		s = "\n" + s
	}
	t.last = kind
	// A failed write means that nobody is looking any more; the checks still decide the exit status.
	_, _ = io.WriteString(t.out, s+"\n")
}

// chapter prints a numbered heading.
func (t *teller) chapter(title string) {
	t.chapters++
	head := fmt.Sprintf("── %d. %s ", t.chapters, title)
	t.print(heading, t.paint(bold, head+strings.Repeat("─", max(0, lineWidth-utf8.RuneCountInString(head)))))
}

// say prints running text, wrapped.
func (t *teller) say(format string, args ...any) {
	t.print(text, wrap(fmt.Sprintf(format, args...), textWidth, ""))
}

// check prints a claim and whether it holds.
func (t *teller) check(ok bool, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	t.checks++
	if !ok {
		t.failed = append(t.failed, what)
	}
	t.mark(ok, what)
}

func (t *teller) mark(ok bool, what string) {
	mark, style := "✓", green
	if !ok {
		mark, style = "✗", red
	}
	t.print(claim, "  "+t.paint(style, mark)+" "+wrap(what, lineWidth-4, "    "))
}

// command prints a prompt with a command line and what the command wrote.
func (t *teller) command(machine, line, output string) {
	t.print(terminal, t.paint(cyan, machine+"# ")+t.paint(bold, line)+"\n"+indented(output))
}

// excerpt prints lines of a file or a log.
func (t *teller) excerpt(lines string) { t.print(terminal, indented(lines)) }

// indented sets text apart, wrapped.
func indented(s string) string {
	var out []string
	for _, line := range strings.Split(strings.Trim(s, "\n"), "\n") {
		line = strings.TrimRight(strings.ReplaceAll(line, "\t", "    "), " ")
		if line != "" {
			line = "  " + wrap(line, lineWidth-2, "      ")
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// doing runs a step that may take long: it names it at once, and now and then that it still runs.
func (t *teller) doing(what string, step func() error) error {
	t.print(activity, t.paint(dim, what+" …"))
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
				t.print(activity, t.paint(dim, fmt.Sprintf("  … still at it after %.0f s", time.Since(start).Seconds())))
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
	tail := func(of, log string, n int) {
		if log != "" {
			t.say("The end of what %s has logged:", of)
			t.excerpt(lastLines(log, n))
		}
	}
	if s.daemon != nil {
		tail("vrgate", s.daemon.Log(), 25)
	}
	for _, p := range s.people {
		tail(p.name+"'s client", p.client.Logs(), 40)
	}
}

// lastLines is the end of a text.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// wrap breaks text at blanks into lines of at most width characters; all but the first begin with indent. A
// word that is longer gets a line of its own. The blanks that text begins with stay.
func wrap(s string, width int, indent string) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	words := strings.Fields(s)
	if len(words) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(s[:strings.Index(s, words[0])] + words[0])
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
