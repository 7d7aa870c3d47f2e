package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// sa is what `ip -s xfrm state` says about one security association.
type sa struct {
	src, dst       string
	spi            string
	bytes, packets uint64
}

var (
	saEnds  = regexp.MustCompile(`^src (\S+) dst (\S+)`)
	saSPI   = regexp.MustCompile(`^\s+proto esp spi (0x[0-9a-f]+)`)
	saCount = regexp.MustCompile(`^\s+(\d+)\(bytes\), (\d+)\(packets\)`)
)

// parseSAs reads the output of `ip -s xfrm state`.
func parseSAs(text string) ([]sa, error) {
	var all []sa
	for line := range strings.Lines(text) {
		if m := saEnds.FindStringSubmatch(line); m != nil {
			all = append(all, sa{src: m[1], dst: m[2]})
		}
		if len(all) == 0 {
			continue
		}
		last := &all[len(all)-1]
		if m := saSPI.FindStringSubmatch(line); m != nil {
			last.spi = m[1]
		}
		if m := saCount.FindStringSubmatch(line); m != nil {
			var err1, err2 error
			last.bytes, err1 = strconv.ParseUint(m[1], 10, 64)
			last.packets, err2 = strconv.ParseUint(m[2], 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// link is what `ip -s -j link` says about one interface.
type link struct {
	Name  string `json:"ifname"`
	Stats struct {
		RX, TX struct{ Bytes, Packets uint64 }
	} `json:"stats64"`
}

// pppLinks reads the counters of all PPP interfaces of a machine, by name.
func pppLinks(ctx context.Context, on *topo.Namespace) (map[string]link, error) {
	text, err := on.Output(ctx, "ip", "-s", "-j", "link", "show", "type", "ppp")
	if err != nil {
		return nil, err
	}
	return parseLinks(text)
}

func parseLinks(text string) (map[string]link, error) {
	all := map[string]link{}
	if strings.TrimSpace(text) == "" {
		return all, nil // what ip prints when there are none
	}
	var list []link
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("ip -j link: %w", err)
	}
	for _, l := range list {
		if l.Name != "" {
			all[l.Name] = l
		}
	}
	return all, nil
}

// packets is the sum of what the interfaces received and sent.
func packets(links map[string]link) uint64 {
	var n uint64
	for _, l := range links {
		n += l.Stats.RX.Packets + l.Stats.TX.Packets
	}
	return n
}

// effort is what the vrgate process did over some time.
type effort struct {
	wall    time.Duration
	cpu     time.Duration // user and system, all threads
	moved   int           // system calls that can carry data between process and kernel
	calls   int           // all system calls
	packets uint64        // what the kernel's PPP interfaces passed meanwhile
}

// movers are the system calls by which a process could get packets from, or give them to, the kernel.
var movers = []string{
	"read", "readv", "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "sendto", "sendmsg", "sendmmsg",
	"splice", "vmsplice", "tee", "sendfile", "io_uring_enter", "process_vm_readv", "process_vm_writev",
}

// watch counts, with strace, the system calls that vrgate makes while do runs, and its time on processors. It
// asks vrgate one thing meanwhile: a count of zero would look the same as a strace that sees nothing.
func (s *scene) watch(ctx context.Context, do func() error) (effort, error) {
	var e effort
	pid := s.daemon.PID()
	file := filepath.Join(s.net.Dir(), "strace.out")
	tracer := exec.Command("strace", "-f", "-c", "-U", "calls,name", "-S", "calls", "-o", file, "-p", strconv.Itoa(pid))
	said, err := tracer.StderrPipe()
	if err != nil {
		return e, err
	}
	if err := tracer.Start(); err != nil {
		return e, err
	}
	defer func() { _ = tracer.Process.Kill() }() // only where what follows failed
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.Contains(lines.Text(), "attached") {
		return e, fmt.Errorf("strace does not attach to vrgate: %q: %w", lines.Text(), errors.Join(tracer.Wait(), lines.Err()))
	}
	go func() {
		for lines.Scan() { // so that strace does not wait for a reader
		}
	}()
	before, err := pppLinks(ctx, s.server)
	if err != nil {
		return e, err
	}
	cpu, err := processTime(pid)
	if err != nil {
		return e, err
	}
	start := time.Now()
	if _, err := s.daemon.API().Subscribers(ctx, api.Filter{}); err != nil {
		return e, err
	}
	if err := do(); err != nil {
		return e, err
	}
	e.wall = time.Since(start)
	after, err := pppLinks(ctx, s.server)
	if err != nil {
		return e, err
	}
	e.packets = packets(after) - packets(before)
	cpuAfter, err := processTime(pid)
	if err != nil {
		return e, err
	}
	e.cpu = cpuAfter - cpu
	if err := tracer.Process.Signal(unix.SIGINT); err != nil {
		return e, err
	}
	_ = tracer.Wait() // strace ends by the signal that it was sent
	text, err := os.ReadFile(file)
	if err != nil {
		return e, err
	}
	e.calls, e.moved, err = parseCalls(string(text))
	return e, err
}

// parseCalls reads the table of `strace -c -U calls,name`.
func parseCalls(text string) (all, moved int, err error) {
	total := -1
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		n, err := strconv.Atoi(f[0])
		if err != nil {
			continue // heading and rules
		}
		if f[1] == "total" {
			total = n
			continue
		}
		all += n
		if slices.Contains(movers, f[1]) {
			moved += n
		}
	}
	if total != all {
		return 0, 0, fmt.Errorf("strace counted %d system calls, its table has %d:\n%s", total, all, text)
	}
	return all, moved, nil
}

// processTime is how long a process's threads, living and ended, have been running, in units of 10 ms.
func processTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(text))
}

// parseStat reads utime and stime of proc(5), which count clock ticks of 1/100 s on every architecture.
func parseStat(text string) (time.Duration, error) {
	// The program's name may contain anything, blanks and brackets too.
	_, rest, ok := strings.Cut(text[strings.LastIndex(text, ")")+1:], " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("cannot read process state %q", text)
	}
	utime, err1 := strconv.ParseUint(f[11], 10, 63)
	stime, err2 := strconv.ParseUint(f[12], 10, 63)
	return time.Duration(utime+stime) * 10 * time.Millisecond, errors.Join(err1, err2)
}
