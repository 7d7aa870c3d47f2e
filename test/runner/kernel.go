package main

import (
	"bytes"
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
	"strings"
	"sync"
	"time"
)

// kernelTag is the build tag, and kernelSuffix the file name, of tests that need the real data path.
const (
	kernelTag    = "kernel"
	kernelSuffix = "_kernel_test.go"
)

// jobLimit is the time limit of one package under one kernel.
const jobLimit = 25 * time.Minute

// kernelPackage is a package with kernel tests.
type kernelPackage struct {
	path  string // import path
	dir   string
	tests []string // names of the kernel tests
	file  string   // compiled test program
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
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return p, err
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" && only.MatchString(f.Name.Name) {
				p.tests = append(p.tests, f.Name.Name)
			}
		}
	}
	slices.Sort(p.tests)
	return p, nil
}

// runKernel compiles the packages' kernel tests and runs them under every kernel, as many at a time as there
// are pairs of processors, but no fewer than two: a machine often waits.
func runKernel(ctx context.Context, r *results, root string, packages []kernelPackage, kernels []string) error {
	bin, err := os.MkdirTemp("", "vrgate-test-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	r.printf("runner: compiling vrgate, test/vm and the kernel tests of %d packages", len(packages))
	machine := filepath.Join(bin, "vm")
	builds := [][]string{
		{"build", "-o", filepath.Join(bin, "vrgate"), "./cmd/vrgate"},
		{"build", "-o", machine, "./test/vm"},
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
	if err := prepareMachine(ctx, machine); err != nil {
		return err
	}

	type job struct {
		kernelPackage
		kernel string
	}
	var jobs []job
	slices.SortStableFunc(packages, func(a, b kernelPackage) int { return len(b.tests) - len(a.tests) })
	for _, p := range packages {
		for _, k := range kernels {
			jobs = append(jobs, job{p, k})
		}
	}
	queue := make(chan job)
	var workers sync.WaitGroup
	for range max(2, runtime.NumCPU()/2) {
		workers.Go(func() {
			for j := range queue {
				r.printf("runner: kernel tests of %s [%s]: %d", j.path, j.kernel, len(j.tests))
				start := time.Now()
				if err := runJob(ctx, r, machine, root, bin, j.kernelPackage, j.kernel); err != nil {
					r.add(testKey{j.kernel, j.path, "as a whole"}, err, time.Since(start), "")
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

// prepareMachine builds the machine's image, which says so by itself when it is not in the cache.
func prepareMachine(ctx context.Context, machine string) error {
	cmd := groupCommand(ctx, machine, "-prepare")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("preparing the test machine: %w", err)
	}
	return nil
}

// runJob runs one package's kernel tests under one kernel.
func runJob(ctx context.Context, r *results, machine, root, bin string, p kernelPackage, kernel string) error {
	run := "^(" + strings.Join(p.tests, "|") + ")$"
	// In the package's directory, like go test.
	script := fmt.Sprintf(`cd %q && exec %q -test.v=test2json -test.timeout=%v -test.run='%s' 2>&1`, p.dir, p.file, jobLimit-time.Minute, run)
	test := groupCommand(ctx, machine, "-kernel", kernel, "-timeout", jobLimit.String(), "-q",
		"-share", root, "-share", bin, "-e", "VRGATE_BINARY="+filepath.Join(bin, "vrgate"), "--", "sh", "-c", script)
	convert := exec.Command("go", "tool", "test2json", "-t", "-p", p.path)
	var trouble bytes.Buffer
	test.Stderr = &trouble
	out, err := test.StdoutPipe()
	if err != nil {
		return err
	}
	convert.Stdin = out
	if err := test.Start(); err != nil {
		return err
	}
	convertErr := stream(convert, r, kernel)
	err = test.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil // failed tests, which have been told
	}
	if err = errors.Join(err, convertErr); err != nil {
		return fmt.Errorf("%w\n%s", err, strings.TrimSpace(trouble.String()))
	}
	return nil
}
