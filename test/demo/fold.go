package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// gap is how many blanks at least separate the columns of vrgate's tables.
const gap = "  "

// foldTables makes tables narrower: the columns that would not fit go below those that do. Tables are
// separated by empty lines. Text that is no wider than width stays as it is.
func foldTables(text string, width int) string {
	var out []string
	for _, table := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		out = append(out, foldTable(strings.Split(table, "\n"), width))
	}
	return strings.Join(out, "\n\n") + "\n"
}

func foldTable(lines []string, width int) string {
	rows := make([][]rune, len(lines))
	widest := 0
	for i, l := range lines {
		rows[i] = []rune(strings.TrimRight(l, " "))
		widest = max(widest, len(rows[i]))
	}
	starts := columns(rows[0])
	if widest <= width || len(starts) < 2 {
		return strings.Join(lines, "\n")
	}
	var out []string
	const indent = "    "
	for first := 0; first < len(starts); {
		room, lead := width, ""
		if first > 0 {
			room, lead = width-len(indent), indent
		}
		last := first + 1 // the first column that has no room
		for last < len(starts) && widthOf(rows, starts, first, last+1) <= room {
			last++
		}
		for _, r := range rows {
			out = append(out, lead+strings.TrimRight(string(part(r, starts, first, last)), " "))
		}
		first = last
	}
	return strings.Join(out, "\n")
}

// columns returns where the columns of a heading begin.
func columns(head []rune) []int {
	var starts []int
	for i, r := range head {
		if r != ' ' && (i == 0 || i >= len(gap) && string(head[i-len(gap):i]) == gap) {
			starts = append(starts, i)
		}
	}
	return starts
}

// part is a row's columns from first to before last.
func part(row []rune, starts []int, first, last int) []rune {
	from, to := min(starts[first], len(row)), len(row)
	if last < len(starts) {
		to = min(starts[last], len(row))
	}
	return row[from:to]
}

func widthOf(rows [][]rune, starts []int, first, last int) int {
	n := 0
	for _, r := range rows {
		n = max(n, utf8.RuneCountInString(strings.TrimRight(string(part(r, starts, first, last)), " ")))
	}
	return n
}

// logLine prints one of vrgate's JSON log lines as words: time and message, then the fields as they come.
func logLine(line string) (string, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(line)))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", fmt.Errorf("not a log line: %q", line)
	}
	var words []string
	lead := map[string]string{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return "", err
		}
		name := fmt.Sprint(key)
		if slices.Contains([]string{"time", "level", "msg"}, name) {
			lead[name] = fmt.Sprint(value)
			continue
		}
		text := fmt.Sprint(value)
		if text == "" || strings.Contains(text, " ") {
			text = fmt.Sprintf("%q", text)
		}
		words = append(words, name+"="+text)
	}
	// 2006-01-02T15:04:05.999999999Z: the day is today.
	_, clock, _ := strings.Cut(strings.TrimSuffix(lead["time"], "Z"), "T")
	if len(clock) > len("15:04:05.000") {
		clock = clock[:len("15:04:05.000")]
	}
	return strings.Join(append([]string{clock, lead["level"], lead["msg"] + ":"}, words...), " "), nil
}
