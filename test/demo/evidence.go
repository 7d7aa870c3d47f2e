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
	packets uint64        // what the kernel's PPP interfaces passed meanwhile
}

// clock measures vrgate's effort while do runs.
func (s *scene) clock(ctx context.Context, do func() error) (effort, error) {
	pid := s.daemon.PID()
	before, err := pppLinks(ctx, s.server)
	if err != nil {
		return effort{}, err
	}
	cpu, err := processTime(pid)
	if err != nil {
		return effort{}, err
	}
	start := time.Now()
	if err := do(); err != nil {
		return effort{}, err
	}
	e := effort{wall: time.Since(start)}
	cpuAfter, err := processTime(pid)
	if err != nil {
		return effort{}, err
	}
	after, err := pppLinks(ctx, s.server)
	if err != nil {
		return effort{}, err
	}
	e.cpu, e.packets = cpuAfter-cpu, packets(after)-packets(before)
	return e, nil
}

// movers are the system calls by which a process could get packets from, or give them to, the kernel.
var movers = []string{
	"read", "readv", "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "sendto", "sendmsg", "sendmmsg",
	"splice", "vmsplice", "tee", "sendfile", "io_uring_enter", "process_vm_readv", "process_vm_writev",
}

// trace counts, with strace, the system calls that can carry data and that vrgate makes while do runs. It asks vrgate one thing meanwhile: a count of zero would look the same as a strace that sees nothing.
// It is no time to look at the processor: under strace a garbage collection takes a hundred times as long.
func (s *scene) trace(ctx context.Context, do func() error) (moved int, err error) {
	file := filepath.Join(s.net.Dir(), "strace.out")
	tracer := exec.Command("strace", "-f", "-c", "-U", "calls,name", "-o", file, "-p", strconv.Itoa(s.daemon.PID()))
	said, err := tracer.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := tracer.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(said)
	attached := lines.Scan() && strings.Contains(lines.Text(), "attached")
	first := lines.Text()
	if attached {
		_, err = s.daemon.API().Subscribers(ctx, api.Filter{})
		if err == nil {
			err = do()
		}
		// strace prints its table when it is interrupted.
		err = errors.Join(err, tracer.Process.Signal(unix.SIGINT))
	}
	for lines.Scan() { // until strace has ended
	}
	waitErr := tracer.Wait()
	switch {
	case !attached:
		return 0, fmt.Errorf("strace does not attach to vrgate: %q: %w", first, errors.Join(waitErr, lines.Err()))
	case err != nil:
		return 0, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return parseCalls(string(text))
}

// parseCalls reads the table of `strace -c -U calls,name` and counts the movers. The others are Go's runtime,
// which waits and looks at the clock.
func parseCalls(text string) (moved int, err error) {
	all, total := 0, -1
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
		return 0, fmt.Errorf("strace counted %d system calls, its table has %d:\n%s", total, all, text)
	}
	return moved, nil
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
