// Package arch holds the rules of the source tree as tests: what the top level consists of,
// which package may import which, which packages are pure, and how files look. A rule that
// is only written down is soon broken by accident; these fail with a sentence instead.
//
// The rules are functions from a parsed tree to a list of complaints, so that each of them
// is itself tested on a small tree that breaks it. A package that is new has to be given a
// line in the table of imports, which is the moment to think about where it belongs.
package arch
