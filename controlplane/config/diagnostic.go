package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a configuration file. Line and Column count from 1;
// 0 means that the whole file is meant.
type Pos struct {
	File         string
	Line, Column int
}

// String returns file:line:column, or the file alone.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Diagnostic is one thing that is wrong, or unwise, with a sentence for the
// person who wrote the file. It never contains a secret.
type Diagnostic struct {
	Pos     Pos
	Message string
}

// String returns "file:line:column: message".
func (d Diagnostic) String() string { return d.Pos.String() + ": " + d.Message }

// Errors are all mistakes of a configuration, by file, line and column. It is
// the error that [Load] returns whenever files could be found at all.
type Errors []Diagnostic

// Error returns one mistake a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, d := range e {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// sorted returns d by place, without repetitions.
func sorted(d []Diagnostic) []Diagnostic {
	slices.SortStableFunc(d, func(a, b Diagnostic) int {
		return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Column, b.Pos.Column), strings.Compare(a.Message, b.Message))
	})
	return slices.Compact(d)
}
