package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"vrgate/test/topo"
)

// vmKernels are the kernels that the kernel tests run under when this host's own cannot: the oldest that
// vrgate supports and the newest in Debian's stable releases.
var vmKernels = []string{"6.1", "6.12"}

// heartbeat is how often a long test is named.
const heartbeat = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ok, err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(1)
	case !ok:
		os.Exit(1)
	}
}

// run is main; false without an error says that tests failed.
func run(ctx context.Context, args []string) (bool, error) {
	flags := flag.NewFlagSet("runner", flag.ContinueOnError)
	kernelFlag := flags.String("kernel", os.Getenv("VRGATE_KERNELS"), "`kernels` for the kernel tests, space separated: 6.1, 6.12, host; empty: find out")
	only := flags.String("run", "", "run only tests whose name matches the `regexp`")
	packageFlag := flags.String("packages", "", "run only packages whose import path matches the `regexp`")
	if err := flags.Parse(args); err != nil {
		return false, flag.ErrHelp
	}
	stages := flags.Args()
	if len(stages) == 0 {
		stages = []string{"check", "unit", "kernel"}
	}
	for _, s := range stages {
		if !slices.Contains([]string{"check", "unit", "kernel"}, s) {
			return false, fmt.Errorf("no stage %q; there are check, unit and kernel", s)
		}
	}
	wanted, err := regexp.Compile(*packageFlag)
	if err != nil {
		return false, err
	}
	wantedTests, err := regexp.Compile(*only)
	if err != nil {
		return false, err
	}
	root, unit, kernel, err := listPackages(ctx, wanted, wantedTests)
	if err != nil {
		return false, err
	}

	start := time.Now()
	r := newResults(os.Stdout)
	beat, stopBeat := context.WithCancel(ctx)
	defer stopBeat()
	go sayWhatTakesLong(beat, r)
	if slices.Contains(stages, "check") {
		runChecks(ctx, r)
	}
	if slices.Contains(stages, "unit") && ctx.Err() == nil {
		runUnit(ctx, r, unit, *only)
	}
	if slices.Contains(stages, "kernel") && ctx.Err() == nil {
		kernels, err := chooseKernels(r, *kernelFlag)
		if err == nil {
			err = runKernel(ctx, r, root, kernel, kernels)
		}
		if err != nil && ctx.Err() == nil {
			r.add(testKey{environment: "host", test: "kernel tests"}, err, time.Since(start), "")
		}
	}
	if ctx.Err() != nil {
		return false, errors.New("interrupted")
	}
	return r.summary(time.Since(start)), nil
}

// chooseKernels decides where the kernel tests run.
func chooseKernels(r *results, asked string) ([]string, error) {
	if kernels := strings.Fields(asked); len(kernels) > 0 {
		return kernels, nil
	}
	switch err := topo.Probe(); {
	case err == nil:
		r.printf("runner: this host's kernel has the whole data path: the kernel tests run on it")
		return []string{"host"}, nil
	case errors.Is(err, topo.ErrNotSupported):
		var missing *topo.MissingError
		errors.As(err, &missing)
		r.printf("runner: %v: the kernel tests run in virtual machines with kernels %s", missing, strings.Join(vmKernels, " and "))
		return vmKernels, nil
	default:
		return nil, err
	}
}

// listPackages finds the module's directory, the packages with ordinary tests, and those with kernel tests.
func listPackages(ctx context.Context, wanted, wantedTests *regexp.Regexp) (root string, unit []string, kernel []kernelPackage, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Dir,Module,TestGoFiles,XTestGoFiles", "-tags", kernelTag, "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", nil, nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir           string
			Module                    struct{ Dir string }
			TestGoFiles, XTestGoFiles []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return "", nil, nil, err
		}
		root = p.Module.Dir
		if !wanted.MatchString(p.ImportPath) {
			continue
		}
		// Also without tests: go test compiles it.
		unit = append(unit, p.ImportPath)
		if !slices.ContainsFunc(append(p.TestGoFiles, p.XTestGoFiles...), func(f string) bool { return strings.HasSuffix(f, kernelSuffix) }) {
			continue
		}
		k, err := kernelTests(p.ImportPath, filepath.Clean(p.Dir), wantedTests)
		if err != nil {
			return "", nil, nil, err
		}
		if rel, err := filepath.Rel(root, k.dir); err == nil {
			k.scope = scopeOf(rel)
		}
		if len(k.tests) > 0 {
			kernel = append(kernel, k)
		}
	}
	return root, unit, kernel, nil
}

// sayWhatTakesLong names the longest running test now and then.
func sayWhatTakesLong(ctx context.Context, r *results) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if what, ok := r.longestRunning(heartbeat / 2); ok {
				r.printf("runner: still at %s", what)
			}
		}
	}
}
