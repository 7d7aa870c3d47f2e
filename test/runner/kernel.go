package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vrgate/test/daemon"
	"vrgate/test/topo"
)

// kernelTag is the build tag, and kernelSuffix the file name, of tests that need the real data path.
const (
	kernelTag    = "kernel"
	kernelSuffix = "_kernel_test.go"
)

// jobLimit is the time limit of one machine.
const jobLimit = 25 * time.Minute

// sideBySide is how many of a package's parallel tests run at once. Each waits for timers, of clients and its own, for three quarters
// of its time, so that so many of them keep the one processor of a machine busy.
const sideBySide = 4

// scope says how a package's kernel tests are run.
type scope int

const (
	// scopePart tests a part of vrgate: under every kernel, in one machine with the other parts. Tests with the
	// directive once are run under one kernel, in this scope and the next.
	scopePart scope = iota
	// scopeWhole tests vrgate as a whole: under every kernel, in a machine of its own.
	scopeWhole
	// scopeTool tests what tests and shows vrgate: under one kernel, in a machine of its own.
	scopeTool
)

// scopeOf tells a package's scope from its directory, relative to the module's.
func scopeOf(dir string) scope {
	switch {
	case dir == filepath.Join("test", "e2e"):
		return scopeWhole
	case strings.HasPrefix(dir, "test"+string(filepath.Separator)):
		return scopeTool
	}
	return scopePart
}

// kernelPackage is a package with kernel tests.
type kernelPackage struct {
	path  string // import path
	dir   string
	scope scope
	tests []string // names of the kernel tests
	once  []string // those of them that have the directive; both in order
	file  string   // compiled test program
}

// onceDirective, in the comment of a kernel test, says that it tests nothing that could differ between kernels, and
// need not be run under more than one.
const onceDirective = "//runner:once"

// under returns the package with the tests that it has under the i-th of n kernels. Those to be run once take turns, in the order of
// their names, so that no machine has all of them.
func (p kernelPackage) under(i, n int) kernelPackage {
	p.tests = slices.DeleteFunc(slices.Clone(p.tests), func(t string) bool {
		turn := slices.Index(p.once, t)
		return turn >= 0 && turn%n != i
	})
	return p
}

// job is what one machine does: the kernel tests of packages, one after the other.
type job struct {
	kernel   string
	packages []kernelPackage
}

// plan distributes packages over machines, those that take longest first.
func plan(packages []kernelPackage, kernels []string) []job {
	of := map[scope][]kernelPackage{}
	for _, p := range packages {
		of[p.scope] = append(of[p.scope], p)
	}
	var jobs []job
	add := func(packages ...kernelPackage) {
		for i, k := range kernels {
			j := job{kernel: k}
			for _, p := range packages {
				if p = p.under(i, len(kernels)); len(p.tests) > 0 {
					j.packages = append(j.packages, p)
				}
			}
			if len(j.packages) > 0 {
				jobs = append(jobs, j)
			}
		}
	}
	for _, p := range of[scopeWhole] {
		add(p)
	}
	add(of[scopePart]...)
	for i, p := range of[scopeTool] {
		jobs = append(jobs, job{kernels[i%len(kernels)], []kernelPackage{p}})
	}
	return jobs
}

// kernelTests reads the names of the tests in a package's kernel test files; the run leaves out its ordinary
// tests, which software emulation would only slow down.
func kernelTests(path, dir string, only *regexp.Regexp) (kernelPackage, error) {
	p := kernelPackage{path: path, dir: dir}
	files, err := filepath.Glob(filepath.Join(dir, "*"+kernelSuffix))
	if err != nil {
		return p, err
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return p, err
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" && only.MatchString(f.Name.Name) {
				p.tests = append(p.tests, f.Name.Name)
				if f.Doc != nil && slices.ContainsFunc(f.Doc.List, func(c *ast.Comment) bool { return c.Text == onceDirective }) {
					p.once = append(p.once, f.Name.Name)
				}
			}
		}
	}
	slices.Sort(p.tests)
	slices.Sort(p.once)
	return p, nil
}

// runKernel compiles the packages' kernel tests and runs them in machines, as many at a time as there are
// pairs of processors, but no fewer than two: a machine often waits.
func runKernel(ctx context.Context, r *results, root string, packages []kernelPackage, kernels []string) error {
	bin, err := os.MkdirTemp("", "vrgate-test-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	r.printf("runner: compiling vrgate, test/vm and the kernel tests of %d packages", len(packages))
	machine := filepath.Join(bin, "vm")
	builds := [][]string{
		{"build", "-o", filepath.Join(bin, program), "./cmd/vrgate"},
		{"build", "-o", machine, "./test/vm"},
		{"build", "-o", filepath.Join(bin, converter), "cmd/test2json"},
	}
	for i := range packages {
		packages[i].file = filepath.Join(bin, strings.ReplaceAll(packages[i].path, "/", "-")+".test")
		builds = append(builds, []string{"test", "-c", "-tags", kernelTag, "-o", packages[i].file, packages[i].path})
	}
	for _, args := range builds {
		cmd := groupCommand(ctx, "go", args...)
		// Static programs run on whatever the machine's Debian has for a C library.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			r.add(testKey{environment: "host", pkg: args[len(args)-1], test: "build"}, err, 0, string(out))
			return errors.New("kernel tests do not compile")
		}
	}
	if err := makeKeys(ctx, filepath.Join(bin, keys)); err != nil {
		return err
	}
	if err := prepareMachine(ctx, machine); err != nil {
		return err
	}

	jobs := plan(packages, kernels)
	queue := make(chan job)
	var workers sync.WaitGroup
	for range max(2, runtime.NumCPU()/2) {
		workers.Go(func() {
			for j := range queue {
				r.printf("runner: %v", j)
				start := time.Now()
				if err := runJob(ctx, r, machine, root, bin, j); err != nil {
					r.add(testKey{environment: j.kernel, test: j.String()}, err, time.Since(start), "")
				}
			}
		})
	}
	for _, j := range jobs {
		if ctx.Err() == nil {
			queue <- j
		}
	}
	close(queue)
	workers.Wait()
	return ctx.Err()
}

// keys is the directory of RSA keys that each machine gets a copy of, because to make one takes seconds in it;
// machineKeys is how many. Tests that need more make them.
const (
	keys        = "keys"
	machineKeys = 16
)

func makeKeys(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for i := range machineKeys {
		if err := topo.MakeKey(ctx, filepath.Join(dir, strconv.Itoa(i))); err != nil {
			return fmt.Errorf("making keys for the tests: %w", err)
		}
	}
	return nil
}

// prepareMachine builds the machine's image, which says so by itself when it is not in the cache.
func prepareMachine(ctx context.Context, machine string) error {
	cmd := groupCommand(ctx, machine, "-prepare")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("preparing the test machine: %w", err)
	}
	return nil
}

// program is vrgate, compiled.
const program = "vrgate"

// converter is the program that makes events of what test programs print. It runs in the machine, so that the
// tests of several packages can be told apart.
const converter = "test2json"

func (j job) String() string {
	var names []string
	for _, p := range j.packages {
		names = append(names, fmt.Sprintf("%s: %d", p.path, len(p.tests)))
	}
	return fmt.Sprintf("kernel tests [%s] of %s", j.kernel, strings.Join(names, ", "))
}

// script is what a machine does for a job. Each package's tests run in its directory, as go test does it, and the
// programs from the machine's own memory: to start one from a shared folder takes a second, and some tests start
// vrgate, or themselves, often.
func (j job) script(bin string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "failed=0\nown=$(mktemp -d) && trap 'rm -r \"$own\"' EXIT && cp -r %q %q %q \"$own\" || exit\nexport %s=\"$own\"/%s %s=\"$own\"/%s\n",
		filepath.Join(bin, converter), filepath.Join(bin, program), filepath.Join(bin, keys), daemon.Binary, program, topo.Keys, keys)
	for _, p := range j.packages {
		fmt.Fprintf(&b, "(cp %q \"$own\" && cd %q && exec \"$own\"/%s -t -p %q \"$own\"/%q -test.v=test2json -test.parallel=%d -test.timeout=%v -test.run='^(%s)$') || failed=1\n",
			p.file, p.dir, converter, p.path, filepath.Base(p.file), sideBySide, jobLimit-time.Minute, strings.Join(p.tests, "|"))
	}
	fmt.Fprintln(&b, "exit $failed")
	return b.String()
}

// machineFrozen is the status of test/vm when the emulator stood still.
const machineFrozen = 123

// runJob runs a machine. When the emulator under it stands still, which says nothing about the tests, those of
// the packages that have not ended run once more in a fresh one, and the output says so.
func runJob(ctx context.Context, r *results, machine, root, bin string, j job) error {
	err := runMachine(ctx, r, machine, root, bin, j)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == machineFrozen {
		again := job{kernel: j.kernel}
		for _, p := range j.packages {
			if r.forget(testKey{environment: j.kernel, pkg: p.path}) {
				again.packages = append(again.packages, p)
			}
		}
		r.printf("runner: %v\nrunner: once more in a fresh machine: %v", err, again)
		err = runMachine(ctx, r, machine, root, bin, again)
	}
	for _, p := range j.packages {
		r.abandon(testKey{environment: j.kernel, pkg: p.path})
	}
	return err
}

func runMachine(ctx context.Context, r *results, machine, root, bin string, j job) error {
	cmd := groupCommand(ctx, machine, "-kernel", j.kernel, "-timeout", jobLimit.String(), "-q",
		"-share", root, "-share", bin, "--", "sh", "-c", j.script(bin))
	return stream(cmd, r, j.kernel)
}
