package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"vrgate/test/daemon"
	"vrgate/test/topo"
)

// setup builds what is needed, runs this program in the test machine and prints what it
// measured there.
func setup(ctx context.Context, o options, w io.Writer) error {
	kernel, err := o.machine()
	if err != nil {
		return err
	}
	out, err := o.within(ctx, kernel, "set-ups", "-clients", strconv.Itoa(o.clients), "-warm", strconv.Itoa(o.warm), "-window", strconv.Itoa(o.window),
		"-rounds", strconv.Itoa(o.rounds), "-many", strconv.Itoa(o.many), "-group", o.group)
	if err != nil {
		return err
	}
	var results []measured
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var m measured
		if err := d.Decode(&m); err != nil {
			return fmt.Errorf("what the test machine printed: %w", err)
		}
		results = append(results, m)
	}
	if want := 2*o.rounds + min(o.many, 1); len(results) != want {
		return fmt.Errorf("the test machine printed %d results, not %d", len(results), want)
	}
	return printSetups(w, o, kernel, results)
}

// within runs this program in the test machine with -inside and these arguments, and returns what it prints.
func (o options) within(ctx context.Context, kernel, what string, args ...string) ([]byte, error) {
	bin, err := os.MkdirTemp("", "vrgate-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(bin)
	say("compiling vrgate, test/bench and test/vm")
	for _, pkg := range []string{"./cmd/vrgate", "./test/bench", "./test/vm"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, filepath.Base(pkg)), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static: the machine has its own C library
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", pkg, err, out)
		}
	}
	say("%s, kernel %s, in one machine", what, kernel)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "vm"), append([]string{"-kernel", kernel, "-q", "-mem", "3072", "-timeout", "50m", "-share", bin,
		"-e", daemon.Binary + "=" + filepath.Join(bin, "vrgate"), "--", filepath.Join(bin, "bench"), "-inside"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("in the test machine: %w", err)
	}
	return out, nil
}

// machine is the kernel to measure on.
func (o options) machine() (string, error) {
	if o.kernel != "" {
		return o.kernel, nil
	}
	switch err := topo.Probe(); {
	case err == nil:
		return "host", nil
	case errors.Is(err, topo.ErrNotSupported):
		return "6.12", nil
	default:
		return "", err
	}
}

// quietest is the result of the server during which the machine had least else to do: the clients
// do the same work each time, so the time they needed for it tells.
func quietest(results []measured, server string) measured {
	var best measured
	for _, m := range results {
		if m.Server == server && (best.Up == 0 || m.each(m.Load.Seconds()) < best.each(best.Load.Seconds())) {
			best = m
		}
	}
	return best
}

// printSetups prints the comparison of the first 2*o.rounds results and, if there is one more, the
// long run.
func printSetups(w io.Writer, o options, kernel string, results []measured) error {
	pairs := results[:2*o.rounds]
	stock, ours := quietest(pairs, "stock"), quietest(pairs, "vrgate")
	fmt.Fprintf(w, "\nWhole L2TP/IPsec set-ups, kernel %s: main mode (%s, AES-256, SHA-256), quick mode, tunnel, call, LCP, MS-CHAPv2, IPCP;\n", kernel, o.group)
	fmt.Fprintf(w, "%d clients, %d at a time, after %d that were up before; the same clients (test/loadgen) against both servers.\n", o.clients, o.window, o.warm)
	fmt.Fprintf(w, "Shown is the quieter of %d rounds for each, by what the clients needed for the same work.\n", o.rounds)
	if kernel != "host" {
		fmt.Fprintln(w, "In the test machine the processor may be emulated, which slows everything down: only the ratios mean something.")
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tvrgate\tstrongSwan + xl2tpd + pppd\tvrgate is better by\t")
	row := func(what, unit string, of func(measured) float64, more bool) {
		v, s := of(ours), of(stock)
		ratio := s / v
		if more {
			ratio = v / s
		}
		times := "-"
		if v > 0 && s > 0 {
			times = fmt.Sprintf("%.1f times", ratio)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", what, figure(v, unit), figure(s, unit), times)
	}
	row("clients up", "", func(m measured) float64 { return float64(m.Up) }, true)
	row("set-ups per second", "/s", measured.rate, true)
	row("set-up of one client, median", "ms", func(m measured) float64 { return float64(m.Median.Milliseconds()) }, false)
	row("set-up of one client, slowest", "ms", func(m measured) float64 { return float64(m.Slowest.Milliseconds()) }, false)
	row("processor time per set-up, server's processes", "ms", func(m measured) float64 { return m.each(float64(m.CPU.Microseconds()) / 1000) }, false)
	row("processor time per set-up, with the kernel's own work", "ms", func(m measured) float64 { return m.each(float64(m.Busy.Microseconds()) / 1000) }, false)
	row("processor time of the clients per set-up, which should be equal", "ms", func(m measured) float64 { return m.each(float64(m.Load.Microseconds()) / 1000) }, false)
	row("server's processor time for one second of the clients'", "s", func(m measured) float64 { return m.CPU.Seconds() / m.Load.Seconds() }, false)
	row("memory per subscriber, RSS", "KiB", func(m measured) float64 { return m.each(float64(m.RSS) / 1024) }, false)
	row("memory per subscriber, shared pages divided (PSS)", "KiB", func(m measured) float64 { return m.each(float64(m.PSS) / 1024) }, false)
	row("memory per subscriber, with the kernel's", "KiB", func(m measured) float64 { return m.each(float64(m.Machine) / 1024) }, false)
	row("processes per subscriber", "", func(m measured) float64 { return m.each(float64(m.Processes)) }, false)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range results {
		if len(m.Failed) > 0 {
			fmt.Fprintf(w, "Of %d clients of %s, %d did not come up: %v\n", m.Clients, m.Server, m.Clients-m.Up, m.Failed)
		}
	}
	if len(results) > len(pairs) {
		m := results[len(pairs)]
		fmt.Fprintf(w, "vrgate alone with %d clients: %d up and answering, %.1f set-ups/s, %.2f ms of processor time and %.1f KiB RSS each (with the kernel's memory %.1f KiB).\n",
			m.Before+m.Clients, m.Answered, m.rate(), m.each(float64(m.CPU.Microseconds())/1000), m.each(float64(m.RSS)/1024), m.each(float64(m.Machine)/1024))
		fmt.Fprintln(w, "Its memory is the slope between the first and the last of them: the Go runtime lets the heap grow to twice what lives before it collects.")
	}
	return nil
}

func (m measured) rate() float64 { return float64(m.Up) / m.Took.Seconds() }

// each divides by the clients that came up.
func (m measured) each(v float64) float64 { return v / float64(m.Up) }

func figure(v float64, unit string) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	if unit == "" || unit == "ms" && v >= 100 {
		s = strconv.FormatFloat(v, 'f', -1, 64)
		if v != float64(int(v)) {
			s = strconv.FormatFloat(v, 'f', 0, 64)
		}
	}
	if unit == "" {
		return s
	}
	if unit == "/s" {
		return s + "/s"
	}
	return s + " " + unit
}
