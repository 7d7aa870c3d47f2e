package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What test2json writes, shortened.
const (
	passing = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":1.5}
{"Action":"pass","Package":"p","Elapsed":2}
`
	failing = `{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestB","Elapsed":0.5}
{"Action":"fail","Package":"p","Elapsed":1}
`
	skipping = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestA","Elapsed":0}
{"Action":"pass","Package":"p","Elapsed":1}
`
	panicking = `{"Action":"run","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestC","Output":"panic: boom\n"}
{"Action":"fail","Package":"p","Elapsed":1}
`
	exiting = `{"Action":"output","Package":"p","Output":"exit status 3\n"}
{"Action":"fail","Package":"p","Elapsed":1}
`
	unbuildable = `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p"}
`
	untested = `{"Action":"output","Package":"q","Output":"?   \tq\t[no test files]\n"}
{"Action":"skip","Package":"q","Elapsed":0}
`
)

func TestResults(t *testing.T) {
	for _, c := range []struct {
		name   string
		events map[string]string // environment -> events
		good   bool
		last   string
		says   []string
	}{
		{"pass", map[string]string{"host": passing + untested}, true, "1 passed, 0 failed, 0 skipped", []string{"1.5 s  p TestA [host]"}},
		{"nothing ran", map[string]string{"host": untested}, false, "0 passed, 0 failed, 0 skipped", nil},
		{"fail", map[string]string{"6.1": passing, "6.12": failing}, false, "1 passed, 1 failed, 0 skipped", []string{"b_test.go:1: wrong", "failed: p TestB [6.12]"}},
		{"skip that ran elsewhere", map[string]string{"6.1": skipping, "6.12": passing}, true, "1 passed, 0 failed, 1 skipped", nil},
		{"skip everywhere", map[string]string{"6.1": skipping + untested, "6.12": skipping}, false, "0 passed, 0 failed, 2 skipped", []string{"counts as a failure: p TestA"}},
		{"panic", map[string]string{"host": panicking}, false, "0 passed, 2 failed, 0 skipped", []string{"panic: boom", "p TestC [host]: did not end"}},
		{"exit", map[string]string{"host": exiting}, false, "0 passed, 1 failed, 0 skipped", []string{"exit status 3"}},
		{"build", map[string]string{"host": unbuildable}, false, "0 passed, 1 failed, 0 skipped", []string{"p.go:1: syntax error"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			r := newResults(&out)
			for environment, events := range c.events {
				if _, err := r.read(strings.NewReader(events), environment); err != nil {
					t.Fatal(err)
				}
			}
			if good := r.summary(time.Second); good != c.good {
				t.Errorf("good: %v", good)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; last != c.last {
				t.Errorf("last line %q, want %q", last, c.last)
			}
			for _, s := range c.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("does not say %q:\n%s", s, out.String())
				}
			}
			if strings.Contains(out.String(), "chatter") {
				t.Error("shows the output of a test that passed")
			}
		})
	}
}

func TestAddFailure(t *testing.T) {
	var out bytes.Buffer
	r := newResults(&out)
	r.add(testKey{"host", "", "check gofmt"}, errors.New("should print nothing"), 0, "a.go\n")
	r.add(testKey{"host", "", "check vet"}, nil, 0, "")
	if r.summary(0) || !strings.Contains(out.String(), "a.go") || !strings.HasSuffix(out.String(), "1 passed, 1 failed, 0 skipped\n") {
		t.Errorf("%s", out.String())
	}
}

// A stream that breaks off must not pass for the end of the tests.
func TestBrokenStream(t *testing.T) {
	r := newResults(&bytes.Buffer{})
	if _, err := r.read(strings.NewReader(passing[:len(passing)-10]), "host"); err == nil {
		t.Error("no error")
	}
}

func TestKernelTests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a_kernel_test.go": "//go:build kernel\n\npackage p\n\nfunc TestMain(m *testing.M) {}\nfunc TestB(t *testing.T) {}\nfunc TestA(t *testing.T) {}\nfunc helper() {}\nfunc (x y) TestM() {}\n",
		"a_test.go":        "package p\n\nfunc TestOrdinary(t *testing.T) {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := kernelTests("p", dir, regexp.MustCompile(""))
	if err != nil || !slices.Equal(p.tests, []string{"TestA", "TestB"}) {
		t.Errorf("%q, %v", p.tests, err)
	}
	if p, err := kernelTests("p", dir, regexp.MustCompile("B$")); err != nil || !slices.Equal(p.tests, []string{"TestB"}) {
		t.Errorf("%q, %v", p.tests, err)
	}
}
