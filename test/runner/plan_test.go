package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every package runs under every kernel, but for those that test the tests, and single tests, which run once, in turn.
func TestPlan(t *testing.T) {
	var packages []kernelPackage
	for _, dir := range []string{"xfrm", "test/bench", "test/e2e", "vr", "test/topo", "controlplane/ike"} {
		p := kernelPackage{path: "vrgate/" + dir, scope: scopeOf(filepath.FromSlash(dir)), tests: []string{"TestA"}}
		switch dir {
		case "test/e2e":
			p.tests, p.once = []string{"TestA", "TestB", "TestC", "TestD"}, []string{"TestB", "TestC", "TestD"}
		case "controlplane/ike":
			p.once = []string{"TestA"}
		}
		packages = append(packages, p)
	}
	for _, c := range []struct {
		kernels []string
		want    []string
	}{
		{[]string{"6.1", "6.12"}, []string{
			"6.1 vrgate/test/e2e:TestA,TestB,TestD", "6.12 vrgate/test/e2e:TestA,TestC",
			"6.1 vrgate/xfrm:TestA vrgate/vr:TestA vrgate/controlplane/ike:TestA", "6.12 vrgate/xfrm:TestA vrgate/vr:TestA",
			"6.1 vrgate/test/bench:TestA", "6.12 vrgate/test/topo:TestA",
		}},
		{[]string{"host"}, []string{
			"host vrgate/test/e2e:TestA,TestB,TestC,TestD", "host vrgate/xfrm:TestA vrgate/vr:TestA vrgate/controlplane/ike:TestA",
			"host vrgate/test/bench:TestA", "host vrgate/test/topo:TestA",
		}},
	} {
		var got []string
		for _, j := range plan(packages, c.kernels) {
			words := []string{j.kernel}
			for _, p := range j.packages {
				words = append(words, p.path+":"+strings.Join(p.tests, ","))
			}
			got = append(got, strings.Join(words, " "))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("plan for %v:\n%s\nwant\n%s", c.kernels, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// The directive counts where it is a line of the test's own comment.
func TestOnce(t *testing.T) {
	dir := t.TempDir()
	const source = `package p

// TestA is about users.
//
//runner:once
func TestA(t *testing.T) {}

// TestB says runner:once, and //runner:once.
func TestB(t *testing.T) {}

//runner:once

func TestC(t *testing.T) {}
`
	if err := os.WriteFile(filepath.Join(dir, "p"+kernelSuffix), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := kernelTests("p", dir, regexp.MustCompile(""))
	if err != nil || !slices.Equal(p.tests, []string{"TestA", "TestB", "TestC"}) || !slices.Equal(p.once, []string{"TestA"}) {
		t.Errorf("%+v, %v", p, err)
	}
}

// One package's failure fails the machine's command and does not keep the next from running. Programs run from a
// directory of the machine's own, which goes.
func TestScript(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		converter:     "#!/bin/sh\n[ -f \"$4\" ] && echo \"${0%/*} $PWD $VRGATE_BINARY $VRGATE_TEST_KEYS $*\"\ncase $* in *first*) exit 1; esac\n",
		program:       "",
		"first.test":  "",
		"second.test": "",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(bin, keys), 0o700); err != nil {
		t.Fatal(err)
	}
	j := job{"6.1", []kernelPackage{
		{path: "first", dir: dir, file: filepath.Join(bin, "first.test"), tests: []string{"TestA", "TestB"}},
		{path: "second", dir: bin, file: filepath.Join(bin, "second.test"), tests: []string{"TestC"}},
	}}
	out, err := exec.Command("sh", "-c", j.script(bin)).Output()
	own, _, _ := strings.Cut(string(out), " ")
	flags := fmt.Sprintf("-test.v=test2json -test.parallel=%d -test.timeout=24m0s", sideBySide)
	want := fmt.Sprintf("%s %s %s/vrgate %s/keys -t -p first %s/first.test %s -test.run=^(TestA|TestB)$\n", own, dir, own, own, own, flags) +
		fmt.Sprintf("%s %s %s/vrgate %s/keys -t -p second %s/second.test %s -test.run=^(TestC)$\n", own, bin, own, own, own, flags)
	var exit *exec.ExitError
	if string(out) != want || own == bin || !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v, output\n%s\nwant\n%s", err, out, want)
	}
	if _, err := os.Stat(own); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%q is left: %v", own, err)
	}
}

// A machine that dies takes the rest of its packages with it; none of them may pass for tested.
func TestAbandon(t *testing.T) {
	var out bytes.Buffer
	r := newResults(&out)
	begun, _, _ := strings.Cut(strings.ReplaceAll(failing, `"p"`, `"q"`), `{"Action":"fail"`)
	if _, err := r.read(strings.NewReader(passing+begun), "6.1"); err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"p", "q", "never begun"} {
		r.abandon(testKey{environment: "6.1", pkg: pkg})
	}
	if r.summary(0) {
		t.Error("all well")
	}
	for _, want := range []string{"failed: q TestB [6.1]\n", "failed: never begun as a whole [6.1]\n", "b_test.go:1: wrong", "1 passed, 3 failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not say %q:\n%s", want, out.String())
		}
	}
}
