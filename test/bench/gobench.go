package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
)

// gobench runs benchmarks of a package and returns their metrics: name of the benchmark below
// the outermost, then unit, to value.
func gobench(ctx context.Context, pkg, bench, time string) (map[string]map[string]float64, error) {
	args := []string{"test", "-run", "^$", "-bench", "^" + bench + "$", "-benchtime", time, pkg}
	say("go %s", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test: %w\n%s%s", err, out, stderr.Bytes())
	}
	found := parseBench(string(out), bench)
	if len(found) == 0 {
		return nil, fmt.Errorf("no %s in the output of go test:\n%s", bench, out)
	}
	return found, nil
}

// parseBench reads lines such as
//
//	BenchmarkHandshake/ECP256-2   5319   233250 ns/op   8745 handshakes/cpu-s
//
// One that has none below it has the name "".
func parseBench(out, bench string) map[string]map[string]float64 {
	found := map[string]map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 { // number of processors
			name = name[:i]
		}
		name, ok := strings.CutPrefix(name, bench)
		if !ok || name != "" && name[0] != '/' {
			continue
		}
		name = strings.TrimPrefix(name, "/")
		metrics := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				metrics[f[i+1]] = v
			}
		}
		found[name] = metrics
	}
	return found
}

// reference is what is known of one group from measurements elsewhere.
type reference struct {
	group         string // as the benchmark names it
	plain, tuned  int    // strongSwan, handshakes per responder CPU-second; 0: not measured
	ideal         int    // of an ideal Go implementation
	atLeast, good int
}

// references are the figures of the project's target document: strongSwan 6.0.6 with a faked
// kernel as IKEv1 responder (main mode with PSK, quick mode), default and best-tuned
// plugins, and the ceiling computed from what Go's Diffie-Hellman, HMAC, AES and system
// calls cost. All on a 2-core machine of the development kind and none in this run: they say
// where the figure beside them belongs, not more.
var references = []reference{
	{"MODP1024", 1319, 2449, 4050, 1320, 2500},
	{"MODP2048", 392, 882, 1450, 400, 900},
	{"ECP256", 2264, 0, 7700, 2270, 4500},
	{"CURVE25519", 3000, 0, 7400, 3000, 4500},
}

// engine prints the handshakes of the IKE responder alone.
func engine(ctx context.Context, w io.Writer) error {
	got, err := gobench(ctx, "./controlplane/ike", "BenchmarkHandshake", "2s")
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "\nIKEv1 responder alone: main mode with pre-shared key and quick mode per second of processor time.")
	fmt.Fprintln(w, "vrgate was measured now; the other columns were measured or computed elsewhere on such a machine.")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "group\tvrgate\tµs each\tstrongSwan\ttuned\tmust beat\tgood\tceiling\tvrgate : tuned strongSwan\t")
	for _, r := range references {
		m, ok := got[r.group]
		if !ok {
			return fmt.Errorf("no benchmark of %s", r.group)
		}
		rate, best, tuned := m["handshakes/cpu-s"], r.plain, "-"
		if r.tuned > 0 {
			best, tuned = r.tuned, strconv.Itoa(r.tuned)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%d\t%s\t%d\t%d\t%d\t%.1f : 1\t\n", r.group, rate, m["cpu-µs/handshake"], r.plain, tuned, r.atLeast, r.good, r.ideal, rate/float64(best))
	}
	return t.Flush()
}

// memory prints what a subscriber keeps in the daemon's heap.
func memory(ctx context.Context, w io.Writer) error {
	got, err := gobench(ctx, "./controlplane", "BenchmarkSubscriberMemory", "1x")
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "\nHeap of the daemon per L2TP/IPsec subscriber that is up, with a kernel in memory. Target: 16 KiB, with everything.")
	fmt.Fprintln(w, "strongSwan alone takes about 12 KiB for its pair of SAs (measured elsewhere), and pppd is a process each.")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "subscribers\tbytes each\tobjects each\tof the target\t")
	for _, n := range []string{"1000", "5000"} {
		m, ok := got[n]
		if !ok {
			return fmt.Errorf("no benchmark with %s subscribers", n)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f %%\t\n", n, m["heap-B/subscriber"], m["objects/subscriber"], 100*m["of-target"])
	}
	return t.Flush()
}
