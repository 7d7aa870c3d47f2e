package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// event is one line of test2json (`go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Elapsed    float64
	Output     string
}

// testKey names a test in one environment. A check has no package; a package as a whole has no test.
type testKey struct {
	environment string // "host", or the kernel under which it ran
	pkg         string
	test        string
}

func (k testKey) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s [%s]", k.pkg, k.test, k.environment))
}

// result is how a test ended.
type result struct {
	testKey
	action  string // pass, fail or skip
	elapsed time.Duration
}

// results collects what happened and says what matters of it at once.
type results struct {
	out io.Writer

	mu      sync.Mutex // guards what follows, and keeps output of different packages apart
	done    []result
	running map[testKey]time.Time
	output  map[testKey]*strings.Builder
	ended   map[testKey]bool // packages
	builds  strings.Builder  // compilers' complaints
}

func newResults(out io.Writer) *results {
	return &results{out: out, running: map[testKey]time.Time{}, output: map[testKey]*strings.Builder{}, ended: map[testKey]bool{}}
}

// printf writes one line of progress.
func (r *results) printf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format+"\n", args...)
}

// add records one result that did not come as an event, such as a check's, with what it printed.
func (r *results) add(k testKey, err error, elapsed time.Duration, output string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	action := "pass"
	if err != nil {
		action = "fail"
		fmt.Fprintf(r.out, "FAIL  %s: %v\n%s\n", k, err, strings.TrimRight(output, "\n"))
	}
	r.done = append(r.done, result{k, action, elapsed})
}

// read takes the events of test2json until the end of the stream. It reports whether any of them told of a
// failure, so that a program that dies without one is noticed.
func (r *results) read(in io.Reader, environment string) (failed bool, err error) {
	d := json.NewDecoder(in)
	for {
		var e event
		if err := d.Decode(&e); err == io.EOF {
			return failed, nil
		} else if err != nil {
			return failed, fmt.Errorf("reading test events: %w", err)
		}
		failed = r.event(environment, e) || failed
	}
}

func (r *results) event(environment string, e event) (failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := testKey{environment, e.Package, e.Test}
	switch e.Action {
	case "run":
		r.running[k] = time.Now()
	case "output":
		if r.output[k] == nil {
			r.output[k] = &strings.Builder{}
		}
		r.output[k].WriteString(e.Output)
	case "build-output":
		r.builds.WriteString(e.Output)
	case "build-fail":
		r.done = append(r.done, result{testKey{environment, e.ImportPath, "build"}, "fail", 0})
		fmt.Fprintf(r.out, "FAIL  %s does not build\n%s", e.ImportPath, r.builds.String())
		r.builds.Reset()
		return true
	case "pass", "fail", "skip":
		elapsed := time.Duration(e.Elapsed * float64(time.Second))
		if e.Test != "" {
			r.done = append(r.done, result{k, e.Action, elapsed})
		} else {
			r.packageDone(k, e.Action, elapsed)
		}
		if e.Action != "pass" && r.output[k] != nil {
			fmt.Fprintf(r.out, "%s  %s\n%s", strings.ToUpper(e.Action), k, r.output[k].String())
		}
		delete(r.output, k)
		delete(r.running, k)
		return e.Action == "fail"
	}
	return false
}

// packageDone reports a package. One that fails without a failing test (a panic, an exit, a race after the
// last test) is a failure of its own, with the tests that were running.
func (r *results) packageDone(k testKey, action string, elapsed time.Duration) {
	r.ended[k] = true
	var tests, failures int
	for _, d := range r.done {
		if d.pkg == k.pkg && d.environment == k.environment {
			tests++
			if d.action == "fail" {
				failures++
			}
		}
	}
	switch {
	case action == "fail" && failures == 0:
		r.done = append(r.done, result{testKey{k.environment, k.pkg, "as a whole"}, "fail", elapsed})
	case action == "skip" && tests == 0:
		delete(r.output, k) // no test files
		return
	}
	for running := range r.running {
		if running.pkg == k.pkg && running.environment == k.environment {
			r.done = append(r.done, result{running, "fail", time.Since(r.running[running])})
			fmt.Fprintf(r.out, "FAIL  %s: did not end\n", running)
			if out := r.output[running]; out != nil {
				fmt.Fprint(r.out, out.String())
			}
			delete(r.running, running)
			delete(r.output, running)
		}
	}
	fmt.Fprintf(r.out, "%-5s %s [%s] %d tests, %.1f s\n", map[string]string{"pass": "ok", "fail": "FAIL", "skip": "skip"}[action], k.pkg, k.environment, tests, elapsed.Seconds())
}

// abandon fails a package whose events will not go on, unless it has ended: the machine under it is gone.
func (r *results) abandon(k testKey) {
	r.mu.Lock()
	ended := r.ended[k]
	r.mu.Unlock()
	if !ended {
		r.event(k.environment, event{Action: "fail", Package: k.pkg})
	}
}

// forget drops what is known of a package that has not ended, but for its failures, so that it can run again.
// It returns false, and drops nothing, when the package has ended.
func (r *results) forget(k testKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended[k] {
		return false
	}
	same := func(o testKey) bool { return o.pkg == k.pkg && o.environment == k.environment }
	r.done = slices.DeleteFunc(r.done, func(d result) bool { return same(d.testKey) && d.action != "fail" })
	maps.DeleteFunc(r.running, func(o testKey, _ time.Time) bool { return same(o) })
	maps.DeleteFunc(r.output, func(o testKey, _ *strings.Builder) bool { return same(o) })
	return true
}

// longestRunning returns the test that runs for the longest time, if one runs for longer than the limit.
func (r *results) longestRunning(limit time.Duration) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var oldest testKey
	var since time.Time
	for k, t := range r.running {
		if time.Since(t) > limit && (since.IsZero() || t.Before(since)) {
			oldest, since = k, t
		}
	}
	if since.IsZero() {
		return "", false
	}
	return fmt.Sprintf("%s, for %.0f s", oldest, time.Since(since).Seconds()), true
}

// skippedEverywhere returns the tests that ran in no environment at all.
func (r *results) skippedEverywhere() []string {
	type name struct{ pkg, test string }
	ran, skipped := map[name]bool{}, map[name]bool{}
	for _, d := range r.done {
		n := name{d.pkg, d.test}
		if d.action == "skip" {
			skipped[n] = true
		} else {
			ran[n] = true
		}
	}
	var all []string
	for n := range skipped {
		if !ran[n] {
			all = append(all, n.pkg+" "+n.test)
		}
	}
	slices.Sort(all)
	return all
}

// slowestShown is how many of the slowest tests the summary lists.
const slowestShown = 12

// summary writes the slowest tests, the failures and the totals, and says whether all is well.
func (r *results) summary(elapsed time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := map[string]int{}
	var failures []string
	for _, d := range r.done {
		counts[d.action]++
		if d.action == "fail" {
			failures = append(failures, d.String())
		}
	}
	fmt.Fprintf(r.out, "\nslowest of %.0f s in all:\n", elapsed.Seconds())
	slowest := slices.DeleteFunc(slices.Clone(r.done), func(d result) bool { return strings.Contains(d.test, "/") })
	slices.SortFunc(slowest, func(a, b result) int { return int(b.elapsed - a.elapsed) })
	for _, d := range slowest[:min(slowestShown, len(slowest))] {
		fmt.Fprintf(r.out, "%7.1f s  %s\n", d.elapsed.Seconds(), d.testKey)
	}
	skips := r.skippedEverywhere()
	for _, s := range skips {
		fmt.Fprintf(r.out, "skipped wherever it ran, which counts as a failure: %s\n", s)
	}
	slices.Sort(failures)
	for _, f := range failures {
		fmt.Fprintf(r.out, "failed: %s\n", f)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", counts["pass"], counts["fail"], counts["skip"])
	return counts["fail"] == 0 && len(skips) == 0 && counts["pass"] > 0
}
