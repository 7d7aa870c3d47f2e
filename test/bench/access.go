package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/tabwriter"
)

// crowds are the numbers of subscribers that BenchmarkAccess measures with.
var crowds = []int{100, 1000, 10000}

// access prints what dynamic IPsec subscribers cost the kernel, depending on how many there are.
func access(ctx context.Context, o options, w io.Writer) error {
	const name = "BenchmarkAccess"
	kernel, err := o.machine()
	if err != nil {
		return err
	}
	bin, err := os.MkdirTemp("", "vrgate-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	say("compiling the kernel tests of cmd/vrgate/kernel, and test/vm")
	tests, vm := filepath.Join(bin, "kernel.test"), filepath.Join(bin, "vm")
	for _, args := range [][]string{{"test", "-c", "-tags", "kernel", "-o", tests, "./cmd/vrgate/kernel"}, {"build", "-o", vm, "./test/vm"}} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static: the machine has its own C library
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", args[0], err, out)
		}
	}
	say("dynamic subscribers, kernel %s: up to %d of them", kernel, crowds[len(crowds)-1])
	cmd := exec.CommandContext(ctx, vm, "-kernel", kernel, "-q", "-mem", "3072", "-timeout", "30m", "-share", bin, "--",
		tests, "-test.run", "^$", "-test.bench", "^"+name+"$", "-test.benchtime", "1x", "-test.timeout", "30m")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("in the test machine: %w\n%s", err, out)
	}
	return printAccess(w, kernel, parseBench(string(out), name))
}

// printAccess prints the figures of each crowd and how the largest compares to the smallest.
func printAccess(w io.Writer, kernel string, got map[string]map[string]float64) error {
	fmt.Fprintf(w, "\nDynamic IPsec subscribers in the kernel %s: microseconds by their number. What grows with the number is not found by hash.\n", kernel)
	fmt.Fprintln(w, "A packet: 100 bytes, forwarded, AES-128-CBC and SHA-1. A subscriber: route, three policies and two SAs, made and removed.")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "subscribers\tpacket to any of them\tpacket from one of them\tone comes\tone goes\t")
	units := []string{"out-ns/packet", "in-ns/packet", "enter-ns", "exit-ns"}
	for _, n := range crowds {
		m, ok := got[strconv.Itoa(n)]
		if !ok {
			return fmt.Errorf("no benchmark with %d subscribers", n)
		}
		fmt.Fprintf(t, "%d\t", n)
		for _, unit := range units {
			fmt.Fprintf(t, "%.1f\t", m[unit]/1000)
		}
		fmt.Fprintln(t)
	}
	few, many := got[strconv.Itoa(crowds[0])], got[strconv.Itoa(crowds[len(crowds)-1])]
	fmt.Fprint(t, "ratio\t")
	for _, unit := range units {
		fmt.Fprintf(t, "%.2f\t", many[unit]/few[unit])
	}
	fmt.Fprintln(t)
	return t.Flush()
}
